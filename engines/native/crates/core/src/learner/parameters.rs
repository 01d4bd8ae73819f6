use std::path::Path;

use cupel_files::safetensors::Checkpoint;
use cupel_files::{quant, Config, TensorType};
use cupel_files::{Error, Result, CONFIG_INVALID, INTERNAL, IO, TENSOR_NONFINITE, TENSOR_UNKNOWN};

use super::options::Head;

/// One named tensor.
#[derive(Debug, Clone)]
pub struct Parameter {
    pub name: String,
    pub shape: Vec<usize>,
    /// Where it begins: in numbers of the flat array if held as F32, else in bytes of the frozen store.
    pub offset: usize,
    /// Numbers.
    pub length: usize,
    /// Whether weight decay applies: to matrices, not to norms and biases.
    pub decay: bool,
    pub held: TensorType,
}

impl Parameter {
    /// The tensor as a matrix; a vector is one row.
    pub fn matrix(&self) -> Matrix {
        let columns = self.shape.last().copied().unwrap_or(1);
        Matrix { offset: self.offset, rows: self.length / columns.max(1), columns, held: self.held }
    }
}

/// A row-major matrix: one tensor, or several of equal width that lie together.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    /// As in `Parameter`.
    pub offset: usize,
    pub rows: usize,
    pub columns: usize,
    pub held: TensorType,
}

/// Where the tensors of one layer lie. Query, key and value lie together, so do gate and up, so that each
/// group is one matrix.
#[derive(Debug, Clone, Copy)]
pub struct LayerOffsets {
    pub input_norm: usize,
    pub post_norm: usize,
    pub bias: Option<usize>,
    pub qkv: Matrix,
    pub output: Matrix,
    pub gate_up: Matrix,
    pub down: Matrix,
}

/// Order of the flat array: what is read row by row (embedding, norms, biases) first, then the matrices. Matrices that
/// are not held as F32 lie in a store of bytes instead, in the same order.
#[derive(Debug, Clone)]
pub struct Layout {
    pub parameters: Vec<Parameter>,
    pub layers: Vec<LayerOffsets>,
    pub final_norm: usize,
    pub embedding: Matrix,
    /// The embedding again if the model is tied; none for a reward head.
    pub head: Option<Matrix>,
    /// Numbers of the flat array.
    pub total: usize,
    /// Bytes of the frozen store.
    pub bytes: usize,
}

struct Builder {
    parameters: Vec<Parameter>,
    total: usize,
    bytes: usize,
}

impl Builder {
    fn vector(&mut self, name: String, length: usize) -> usize {
        self.push(name, &[length], false, TensorType::F32)
    }

    fn push(&mut self, name: String, shape: &[usize], decay: bool, held: TensorType) -> usize {
        let length: usize = shape.iter().product();
        let (next, size) = match held {
            TensorType::F32 => (&mut self.total, length),
            // Widths are checked before: whole blocks.
            _ => (&mut self.bytes, length / held.block_length() * held.block_bytes()),
        };
        let offset = *next;
        *next += size;
        self.parameters.push(Parameter { name, shape: shape.to_vec(), offset, length, decay, held });
        offset
    }

    fn matrix(&mut self, names: &[(String, usize)], columns: usize, held: TensorType) -> Matrix {
        let mut offset = None;
        let mut rows = 0;
        for (name, count) in names {
            let start = self.push(name.clone(), &[*count, columns], true, held);
            offset.get_or_insert(start);
            rows += count;
        }
        Matrix { offset: offset.unwrap_or(0), rows, columns, held }
    }
}

impl Layout {
    /// Of a model whose matrices are held as `held`.
    ///
    /// # Errors
    /// A matrix whose rows are no whole number of blocks.
    pub fn new(config: &Config, held: TensorType, head: Head) -> Result<Self> {
        let hidden = config.hidden_size;
        let (query, key, inner) = (config.query_width(), config.key_value_width(), config.intermediate_size);
        let block = held.block_length();
        for (what, width) in
            [("hidden_size", hidden), ("width of all query heads", query), ("intermediate_size", inner)]
        {
            if !width.is_multiple_of(block) {
                let message =
                    format!("{what} {width} is not a multiple of {block}, the weights of a block of {}", held.name());
                return Err(Error::new(CONFIG_INVALID, message).at("base").remedy("hold the base as f32 or bf16"));
            }
        }
        let wide = if held == TensorType::Bf16 { held } else { TensorType::F32 };
        let mut builder = Builder { parameters: Vec::new(), total: 0, bytes: 0 };
        let vocabulary = config.vocabulary_size;
        let embedding = builder.matrix(&[("model.embed_tokens.weight".to_string(), vocabulary)], hidden, wide);
        let final_norm = builder.vector("model.norm.weight".to_string(), hidden);
        let vectors: Vec<(usize, usize, Option<usize>)> = (0..config.layers)
            .map(|layer| {
                let at = |rest: &str| format!("model.layers.{layer}.{rest}");
                let input_norm = builder.vector(at("input_layernorm.weight"), hidden);
                let post_norm = builder.vector(at("post_attention_layernorm.weight"), hidden);
                let bias = config.has_bias().then(|| {
                    let first = builder.vector(at("self_attn.q_proj.bias"), query);
                    builder.vector(at("self_attn.k_proj.bias"), key);
                    builder.vector(at("self_attn.v_proj.bias"), key);
                    first
                });
                (input_norm, post_norm, bias)
            })
            .collect();
        let layers = vectors
            .into_iter()
            .enumerate()
            .map(|(layer, (input_norm, post_norm, bias))| {
                let at = |rest: &str| format!("model.layers.{layer}.{rest}.weight");
                let qkv =
                    [(at("self_attn.q_proj"), query), (at("self_attn.k_proj"), key), (at("self_attn.v_proj"), key)];
                LayerOffsets {
                    input_norm,
                    post_norm,
                    bias,
                    qkv: builder.matrix(&qkv, hidden, held),
                    output: builder.matrix(&[(at("self_attn.o_proj"), hidden)], query, held),
                    gate_up: builder.matrix(&[(at("mlp.gate_proj"), inner), (at("mlp.up_proj"), inner)], hidden, held),
                    down: builder.matrix(&[(at("mlp.down_proj"), hidden)], inner, held),
                }
            })
            .collect();
        let head = match head {
            Head::Reward => None,
            Head::Tokens if config.tied => Some(embedding),
            Head::Tokens => Some(builder.matrix(&[("lm_head.weight".to_string(), vocabulary)], hidden, wide)),
        };
        let Builder { parameters, total, bytes } = builder;
        Ok(Self { parameters, layers, final_norm, embedding, head, total, bytes })
    }

    pub fn find(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// Reads all parameters of a folder: the flat array and the frozen store. Every shape is checked against the files
    /// before memory is taken; a tensor that the architecture does not use is refused, because ignoring it would
    /// silently compute another model.
    pub fn load(&self, dir: &Path, config: &Config, head: Head) -> Result<(Vec<f32>, Vec<u8>)> {
        let mut checkpoint = Checkpoint::open(dir)?;
        for parameter in &self.parameters {
            checkpoint.check(&parameter.name, &parameter.shape)?;
        }
        for name in checkpoint.names() {
            let ignored = name.ends_with(".rotary_emb.inv_freq")
                || (name == "lm_head.weight" && (config.tied || head == Head::Reward))
                || (name == SCORE && head == Head::Reward);
            if !ignored && self.find(&name).is_none() {
                let remedy = match name.as_str() {
                    SCORE => "open it with the head `reward`",
                    _ => "check model_type and the biases in config.json",
                };
                return Err(Error::new(TENSOR_UNKNOWN, format!("tensor {name} is not part of this architecture"))
                    .at(dir.display().to_string())
                    .remedy(remedy));
            }
        }
        let mut dense = zeroed(self.total)?;
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(self.bytes).is_err() {
            return Err(Error::new(IO, format!("not enough memory for {} bytes of weights", self.bytes)));
        }
        for parameter in &self.parameters {
            if parameter.held == TensorType::F32 {
                let out = &mut dense[parameter.offset..][..parameter.length];
                checkpoint.read(&parameter.name, &parameter.shape, out)?;
            } else {
                let mut values = zeroed(parameter.length)?;
                checkpoint.read(&parameter.name, &parameter.shape, &mut values)?;
                encode(parameter, &values, &mut bytes)
                    .map_err(|error| error.at(format!("{}: {}", dir.display(), parameter.name)))?;
            }
            checkpoint.release();
        }
        if config.tied && head == Head::Tokens && checkpoint.contains("lm_head.weight") {
            let embedding = &self.parameters[0];
            let (mut first, mut second) = (zeroed(embedding.length)?, zeroed(embedding.length)?);
            checkpoint.read("lm_head.weight", &embedding.shape, &mut first)?;
            checkpoint.read(&embedding.name, &embedding.shape, &mut second)?;
            if first != second {
                return Err(Error::new(
                    CONFIG_INVALID,
                    "tie_word_embeddings is true, but lm_head.weight differs from the embedding",
                )
                .at(dir.display().to_string())
                .remedy("set tie_word_embeddings to false"));
            }
        }
        Ok((dense, bytes))
    }
}

/// Name of the reward head in a Hugging Face folder.
pub const SCORE: &str = "score.weight";

fn encode(parameter: &Parameter, values: &[f32], out: &mut Vec<u8>) -> Result<()> {
    let columns = parameter.matrix().columns;
    for (number, row) in values.chunks_exact(columns).enumerate() {
        let start = out.len();
        quant::encode_row(parameter.held, row, out);
        if !quant::is_finite(parameter.held, &out[start..]) {
            let message = format!("row {number} is too large for {}", parameter.held.name());
            return Err(Error::new(TENSOR_NONFINITE, message));
        }
    }
    Ok(())
}

/// The weights of a base as they are held.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    pub dense: &'a [f32],
    pub bytes: &'a [u8],
}

impl<'a> Held<'a> {
    pub fn vector(&self, offset: usize, length: usize) -> &'a [f32] {
        &self.dense[offset..][..length]
    }

    /// The whole matrix, where it is held as F32.
    pub fn plain(&self, matrix: Matrix) -> Option<&'a [f32]> {
        (matrix.held == TensorType::F32).then(|| &self.dense[matrix.offset..][..matrix.rows * matrix.columns])
    }

    /// Rows from `first` on as f32, as many as `out` takes.
    pub fn rows(&self, matrix: Matrix, first: usize, out: &mut [f32]) {
        let columns = matrix.columns;
        if let Some(values) = self.plain(matrix) {
            out.copy_from_slice(&values[first * columns..][..out.len()]);
            return;
        }
        let row_bytes = columns / matrix.held.block_length() * matrix.held.block_bytes();
        for (row, out) in (first..).zip(out.chunks_exact_mut(columns)) {
            quant::decode_row(matrix.held, &self.bytes[matrix.offset + row * row_bytes..][..row_bytes], out);
        }
    }
}

/// Zeroed memory, or a coded error where the system has not enough.
pub fn zeroed(length: usize) -> Result<Vec<f32>> {
    if length > isize::MAX as usize / 8 {
        return Err(Error::new(INTERNAL, format!("{length} numbers do not fit any memory")));
    }
    let mut probe: Vec<f32> = Vec::new();
    if probe.try_reserve_exact(length).is_err() {
        return Err(
            Error::new(IO, format!("not enough memory for {length} numbers")).remedy("use a smaller model or batch")
        );
    }
    drop(probe);
    Ok(vec![0.0; length])
}
