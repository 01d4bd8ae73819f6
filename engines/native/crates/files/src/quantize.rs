//! Writes a checkpoint as a GGUF file that llama.cpp loads, in one type or a mixture as `llama-quantize` makes it.

use std::io::Write;
use std::path::Path;

use crate::config::{Architecture, Config};
use crate::error::{Error, Result, REQUEST_INVALID, TENSOR_NONFINITE, TENSOR_UNKNOWN};
use crate::gguf::names::{to_gguf, ROPE_FACTORS};
use crate::gguf::tokenizer::TokenizerFiles;
use crate::gguf::write::{write, Meta, Planned};
use crate::quant;
use crate::rope::RopeScaling;
use crate::source::Source;
use crate::tensor::{TensorType, TensorView};

/// Weights that one thread encodes at a time.
const CHUNK: usize = 1 << 18;

/// What to write and how.
#[derive(Debug, Clone)]
pub struct QuantizeOptions {
    /// Type of the matrices; see [`stored_type`] for those that it does not fit. Vectors stay F32.
    pub kind: TensorType,
    /// Name of the model in the file; the source's name where it is absent.
    pub name: Option<String>,
    /// llama.cpp's name of the pre-tokenizer, for tokenizers that it does not know.
    pub pre_tokenizer: Option<String>,
    /// Write a file without a tokenizer.
    pub no_tokenizer: bool,
    /// Further keys; they replace those of the same name.
    pub metadata: Vec<(String, Meta)>,
    /// Threads that encode; never changes a byte.
    pub threads: usize,
}

impl QuantizeOptions {
    pub fn new(kind: TensorType) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { kind, name: None, pre_tokenizer: None, no_tokenizer: false, metadata: Vec::new(), threads }
    }
}

/// The type of the given name, as on a command line: `f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k`.
pub fn kind_from_name(name: &str) -> Option<TensorType> {
    KINDS.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
}

const KINDS: [TensorType; 11] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::Bf16,
    TensorType::Q8_0,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q4K,
    TensorType::Q5K,
    TensorType::Q6K,
];

/// One written tensor and what its encoding lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Name in the file.
    pub name: String,
    pub kind: TensorType,
    pub rows: usize,
    pub columns: usize,
    /// Root of the mean square of the differences, over that of the numbers; 0 where nothing was lost.
    pub relative_error: f64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Bytes of the file, or of the weights of a folder.
    pub bytes: u64,
    pub tensors: Vec<Written>,
}

/// The type that `kind` becomes for rows of `columns` numbers, as `llama-quantize` falls back: rows that are not a whole
/// number of 256-blocks take the nearest 32-blocks (Q4_K → Q5_0, Q5_K → Q5_1, Q6_K → Q8_0), rows that are not a whole
/// number of those F16.
pub fn stored_type(kind: TensorType, columns: usize) -> TensorType {
    let smaller = match kind {
        _ if columns.is_multiple_of(kind.block_length()) => return kind,
        TensorType::Q4K => TensorType::Q5_0,
        TensorType::Q5K => TensorType::Q5_1,
        TensorType::Q6K => TensorType::Q8_0,
        _ => return TensorType::F16,
    };
    stored_type(smaller, columns)
}

/// Type of a tensor of a Hugging Face name. The matrix that gives the logits keeps more bits than the others, as in
/// `llama-quantize`: Q6_K, or Q8_0 where its rows do not fit that.
fn type_of(config: &Config, name: &str, rows: usize, columns: usize, kind: TensorType) -> TensorType {
    let head = if config.tied { "model.embed_tokens.weight" } else { "lm_head.weight" };
    match kind {
        _ if rows == 1 || name.ends_with("norm.weight") => TensorType::F32,
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 => kind,
        TensorType::Q8_0 => stored_type(kind, columns),
        _ if name == head => stored_type(TensorType::Q6K, columns),
        _ => stored_type(kind, columns),
    }
}

/// Writes `source` to the GGUF file `target`, atomically. Equal input gives equal bytes. A tensor that the architecture
/// does not have, one that it lacks, a number that is not finite or too large for the type are errors that name it.
/// A sliding window goes along as `attention.sliding_window`, which [`Source`] reads again; llama.cpp does not read it
/// for these architectures and attends to everything, so texts longer than the window differ there.
pub fn quantize(source: &Source, target: &Path, options: &QuantizeOptions) -> Result<Report> {
    if options.kind.ggml().is_none() {
        return Err(Error::new(REQUEST_INVALID, format!("{} can not be written to a GGUF file", options.kind.name())));
    }
    let config = source.config();
    let tensors = checked_tensors(source)?;
    let mut plan = Vec::new();
    let mut planned = Vec::new();
    for (name, view) in &tensors {
        let kind = type_of(config, name, view.rows, view.columns, options.kind);
        let shape = if view.rows == 1 { vec![view.columns] } else { vec![view.columns, view.rows] };
        let name =
            to_gguf(name).ok_or_else(|| Error::new(TENSOR_UNKNOWN, format!("tensor {name} has no GGUF name")))?;
        planned.push(Planned { name, shape, kind });
        plan.push((view, kind));
    }
    let factors = rope_factors(config);
    if let Some(factors) = &factors {
        let shape = vec![factors.len()];
        planned.push(Planned { name: ROPE_FACTORS.to_string(), shape, kind: TensorType::F32 });
    }
    let metadata = metadata(source, options)?;
    let mut written = Vec::new();
    let bytes = write(target, &metadata, &planned, |index, out| {
        let io = |cause: std::io::Error| Error::io(target, &cause);
        let Some((view, kind)) = plan.get(index) else {
            let mut bytes = Vec::new();
            quant::encode_row(TensorType::F32, factors.as_deref().unwrap_or_default(), &mut bytes);
            return out.write_all(&bytes).map_err(io);
        };
        let interleaved = writes_interleaved(config, &planned[index].name).then_some(config.head_dim);
        let relative_error = encode(view, *kind, interleaved, options.threads, out).map_err(|error| match error {
            Failure::Error(error) => error,
            Failure::Io(cause) => io(cause),
        })?;
        let Planned { name, .. } = &planned[index];
        written.push(Written {
            name: name.clone(),
            kind: *kind,
            rows: view.rows,
            columns: view.columns,
            relative_error,
        });
        Ok(())
    })?;
    Ok(Report { bytes, tensors: written })
}

/// All tensors of the architecture with their names, and no others.
pub(crate) fn checked_tensors(source: &Source) -> Result<Vec<(String, TensorView<'_>)>> {
    let config = source.config();
    let wanted = config.tensors();
    for name in source.names() {
        let ignored = name.ends_with(".rotary_emb.inv_freq") || (config.tied && name == "lm_head.weight");
        if !ignored && !wanted.iter().any(|(candidate, ..)| *candidate == name) {
            return Err(Error::new(TENSOR_UNKNOWN, format!("tensor {name} is not part of this architecture"))
                .at(source.place().display().to_string()));
        }
    }
    let view = |(name, rows, columns): (String, usize, usize)| {
        let view = source.tensor(&name, rows, columns)?;
        Ok((name, view))
    };
    wanted.into_iter().map(view).collect()
}

/// Whether llama.cpp wants the rows of this tensor with the halves of each head interleaved.
fn writes_interleaved(config: &Config, name: &str) -> bool {
    matches!(config.architecture, Architecture::Llama | Architecture::Mistral)
        && (name.ends_with("attn_q.weight") || name.ends_with("attn_k.weight"))
}

enum Failure {
    Error(Error),
    Io(std::io::Error),
}

/// Encodes a tensor row by row in the order of the file; returns the relative error.
fn encode(
    view: &TensorView<'_>,
    kind: TensorType,
    interleaved: Option<usize>,
    threads: usize,
    out: &mut dyn Write,
) -> std::result::Result<f64, Failure> {
    let source_row = |stored: usize| match interleaved {
        None => stored,
        Some(width) => {
            let (head, place) = (stored / width, stored % width);
            head * width + place % 2 * (width / 2) + place / 2
        }
    };
    let step = (CHUNK / view.columns.max(1)).max(1);
    let encode_rows = |first: usize| -> Result<(Vec<u8>, f64, f64)> {
        let (mut bytes, mut lost, mut whole) = (Vec::new(), 0.0, 0.0);
        let (mut values, mut seen) = (vec![0.0; view.columns], vec![0.0; view.columns]);
        for row in (first..view.rows.min(first + step)).map(source_row) {
            view.decode_row(row, &mut values);
            let start = bytes.len();
            quant::encode_row(kind, &values, &mut bytes);
            if !values.iter().all(|value| value.is_finite()) || !quant::is_finite(kind, &bytes[start..]) {
                return Err(unfit(view, row, &values, kind));
            }
            quant::decode_row(kind, &bytes[start..], &mut seen);
            for (value, seen) in values.iter().zip(&seen) {
                lost += f64::from(value - seen) * f64::from(value - seen);
                whole += f64::from(*value) * f64::from(*value);
            }
        }
        Ok((bytes, lost, whole))
    };
    let (mut lost, mut whole) = (0.0, 0.0);
    let starts: Vec<usize> = (0..view.rows).step_by(step).collect();
    for group in starts.chunks(threads.max(1)) {
        let encode_rows = &encode_rows;
        let parts: Vec<Result<(Vec<u8>, f64, f64)>> = std::thread::scope(|scope| {
            let spawned: Vec<_> = group[1..].iter().map(|first| scope.spawn(|| encode_rows(*first))).collect();
            let own = encode_rows(group[0]);
            let joined = spawned.into_iter().map(|thread| match thread.join() {
                Ok(part) => part,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            std::iter::once(own).chain(joined).collect()
        });
        for part in parts {
            let (bytes, part_lost, part_whole) = part.map_err(Failure::Error)?;
            out.write_all(&bytes).map_err(Failure::Io)?;
            lost += part_lost;
            whole += part_whole;
        }
    }
    Ok(if whole > 0.0 { (lost / whole).sqrt() } else { 0.0 })
}

fn unfit(view: &TensorView<'_>, row: usize, values: &[f32], kind: TensorType) -> Error {
    let worst = values.iter().position(|value| !value.is_finite()).or_else(|| {
        let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        values.iter().position(|value| value.abs() == most)
    });
    let column = worst.unwrap_or(0);
    let message =
        format!("element {} is {}, which {} can not hold", row * view.columns + column, values[column], kind.name());
    Error::new(TENSOR_NONFINITE, message).at(view.place())
}

/// Divisors of the rotary frequencies as llama.cpp wants them, where the model scales them unevenly.
fn rope_factors(config: &Config) -> Option<Vec<f32>> {
    match config.rope_scaling.as_ref()? {
        RopeScaling::Linear { .. } => None,
        RopeScaling::Factors(factors) => Some(factors.clone()),
        scaling @ RopeScaling::Llama3 { .. } => {
            let pairs = config.head_dim / 2;
            let plain = |pair: usize| config.rope_theta.powf(-((2 * pair) as f64) / config.head_dim as f64) as f32;
            let plain: Vec<f32> = (0..pairs).map(plain).collect();
            let mut scaled = plain.clone();
            scaling.apply(&mut scaled);
            Some(plain.iter().zip(scaled).map(|(plain, scaled)| plain / scaled).collect())
        }
    }
}

/// Keys that belong to the bytes of one file, not to the model.
const OWN_KEYS: [&str; 4] =
    ["general.alignment", "general.file_type", "general.quantization_version", "general.architecture"];

fn metadata(source: &Source, options: &QuantizeOptions) -> Result<Vec<(String, Meta)>> {
    let config = source.config();
    let own_name =
        || source.place().file_stem().map_or("model".to_string(), |name| name.to_string_lossy().into_owned());
    let mut metadata: Vec<(String, Meta)> = Vec::new();
    let architecture = match config.architecture {
        Architecture::Llama | Architecture::Mistral => "llama",
        Architecture::Qwen2 => "qwen2",
        Architecture::Qwen3 => "qwen3",
    };
    metadata.push(("general.architecture".to_string(), architecture.into()));
    let mut put = |key: &str, value: Meta| metadata.push((key.to_string(), value));
    if source.gguf().is_none() {
        put("general.type", "model".into());
        put("general.name", Meta::Text(options.name.clone().unwrap_or_else(own_name)));
    } else if let Some(name) = &options.name {
        put("general.name", Meta::Text(name.clone()));
    }
    put("general.file_type", Meta::U32(file_type(options.kind)));
    put("general.quantization_version", Meta::U32(2));
    match source.gguf() {
        Some(gguf) => {
            for key in gguf.keys() {
                let skipped = OWN_KEYS.contains(&key)
                    || key.starts_with("split.")
                    || (options.no_tokenizer && key.starts_with("tokenizer."));
                if let Some(value) =
                    gguf.copy(key).filter(|_| !skipped && !metadata.iter().any(|(name, _)| name == key))
                {
                    metadata.push((key.to_string(), value));
                }
            }
        }
        None => {
            model_keys(config, architecture, &mut metadata);
            if !options.no_tokenizer {
                let files = TokenizerFiles::read(source.place())?;
                let pre = options.pre_tokenizer.as_deref();
                let tokenizer =
                    files.metadata(config.vocabulary_size, pre).map_err(|error| error.inside(source.place()))?;
                metadata.extend(tokenizer);
            }
        }
    }
    if options.no_tokenizer {
        metadata.push(("tokenizer.ggml.model".to_string(), "no_vocab".into()));
    }
    for (key, value) in &options.metadata {
        match metadata.iter_mut().find(|(name, _)| name == key) {
            Some((_, place)) => *place = value.clone(),
            None => metadata.push((key.clone(), value.clone())),
        }
    }
    Ok(metadata)
}

fn model_keys(config: &Config, architecture: &str, metadata: &mut Vec<(String, Meta)>) {
    let mut put = |key: &str, value: Meta| metadata.push((format!("{architecture}.{key}"), value));
    let size = |value: usize| Meta::U32(value as u32);
    put("block_count", size(config.layers));
    put("context_length", size(config.context_length));
    put("embedding_length", size(config.hidden_size));
    put("feed_forward_length", size(config.intermediate_size));
    put("attention.head_count", size(config.heads));
    put("attention.head_count_kv", size(config.key_value_heads));
    put("attention.key_length", size(config.head_dim));
    put("attention.value_length", size(config.head_dim));
    put("attention.layer_norm_rms_epsilon", Meta::F32(config.rms_norm_eps));
    put("rope.dimension_count", size(config.head_dim));
    put("rope.freq_base", Meta::F32(config.rope_theta as f32));
    put("vocab_size", size(config.vocabulary_size));
    if let Some(window) = config.sliding_window {
        put("attention.sliding_window", size(window));
    }
    if let Some(RopeScaling::Linear { factor }) = config.rope_scaling {
        put("rope.scaling.type", "linear".into());
        put("rope.scaling.factor", Meta::F32(factor));
    }
}

/// llama.cpp's number of a file whose matrices are mostly of a type.
fn file_type(kind: TensorType) -> u32 {
    match kind {
        TensorType::F32 | TensorType::ChannelInt8 => 0,
        TensorType::F16 => 1,
        TensorType::Q4_0 => 2,
        TensorType::Q4_1 => 3,
        TensorType::Q8_0 => 7,
        TensorType::Q5_0 => 8,
        TensorType::Q5_1 => 9,
        TensorType::Q4K => 14,
        TensorType::Q5K => 16,
        TensorType::Q6K => 18,
        TensorType::Bf16 => 32,
    }
}
