//! A checkpoint of int8 weights with one scale an output row, for activations that are quantized per token. The layout
//! is the `int-quantized` format of compressed-tensors, so that other engines read it too: `X.weight` I8 and
//! `X.weight_scale` F32 `[rows, 1]`. Embedding, norms, biases and head stay as they are.

use std::fs::DirEntry;
use std::path::Path;

use serde_json::{json, Value};

use crate::atomic::write_file;
use crate::config::read_object;
use crate::error::{Error, Result, IO, REQUEST_INVALID, TENSOR_NONFINITE};
use crate::quant::{channel_codes, channel_scale};
use crate::quantize::{checked_tensors, Report, Written};
use crate::safetensors::{write_planned, Planned};
use crate::source::Source;
use crate::tensor::{TensorType, TensorView};

/// Endings of files that hold weights; none of them is copied.
const WEIGHTS: [&str; 8] =
    [".safetensors", ".safetensors.index.json", ".gguf", ".bin", ".bin.index.json", ".pt", ".pth", ".onnx"];
/// Largest file that is copied beside the weights.
const COPY_LIMIT: u64 = 256 << 20;

/// Writes a Hugging Face folder whose projections are int8, each row scaled by its greatest magnitude over 127. The
/// other files of the source's folder (tokenizer, template, licence; not card.json, which describes the old weights) are
/// copied; they must be regular files. `target`
/// must not exist or be empty.
pub fn quantize_w8a8(source: &Source, target: &Path) -> Result<Report> {
    if source.gguf().is_some() {
        return Err(Error::new(REQUEST_INVALID, "a GGUF file can not be rewritten as int8 rows")
            .at(source.place().display().to_string())
            .remedy("start from the Hugging Face folder that it was made of"));
    }
    let tensors = checked_tensors(source)?;
    let side_files = side_files(source.place())?;
    prepare(target)?;
    let mut plan: Vec<(&TensorView<'_>, Part)> = Vec::new();
    let mut planned = Vec::new();
    for (name, view) in &tensors {
        let mut put = |name: String, element, shape: Vec<usize>, bytes, part| {
            planned.push(Planned { name, element, shape, bytes });
            plan.push((view, part));
        };
        let (rows, columns) = (view.rows, view.columns);
        if name.ends_with("_proj.weight") {
            put(name.clone(), "I8", vec![rows, columns], (rows * columns) as u64, Part::Weights);
            put(format!("{name}_scale"), "F32", vec![rows, 1], (rows * 4) as u64, Part::Scales);
        } else {
            let shape = if rows == 1 { vec![columns] } else { vec![rows, columns] };
            put(name.clone(), view.kind.name(), shape, (rows * view.row_bytes()) as u64, Part::AsIs);
        }
    }
    let path = target.join("model.safetensors");
    let mut written = Vec::new();
    let bytes = write_planned(&path, &planned, &[("format", "pt")], |index, out| {
        let (view, part) = &plan[index];
        let io = |cause: std::io::Error| Error::io(&path, &cause);
        let mut values = vec![0.0; view.columns];
        let (mut lost, mut whole) = (0.0, 0.0);
        for row in 0..view.rows {
            if matches!(part, Part::AsIs) {
                out.write_all(view.row(row)).map_err(io)?;
                continue;
            }
            view.decode_row(row, &mut values);
            let scale = row_scale(view, row, &values)?;
            if matches!(part, Part::Scales) {
                out.write_all(&scale.to_le_bytes()).map_err(io)?;
                continue;
            }
            let codes = channel_codes(&values, scale);
            for (value, code) in values.iter().zip(&codes) {
                let off = f64::from(value - f32::from(*code as i8) * scale);
                lost += off * off;
                whole += f64::from(*value) * f64::from(*value);
            }
            out.write_all(&codes).map_err(io)?;
        }
        if !matches!(part, Part::Scales) {
            let kind = if matches!(part, Part::Weights) { TensorType::ChannelInt8 } else { view.kind };
            let relative_error = if whole > 0.0 { f64::sqrt(lost / whole) } else { 0.0 };
            let Planned { name, .. } = &planned[index];
            written.push(Written { name: name.clone(), kind, rows: view.rows, columns: view.columns, relative_error });
        }
        Ok(())
    })?;
    for (name, contents) in side_files {
        std::fs::write(target.join(&name), contents).map_err(|cause| Error::io(&target.join(&name), &cause))?;
    }
    write_config(source.place(), target)?;
    Ok(Report { bytes, tensors: written })
}

enum Part {
    Weights,
    Scales,
    AsIs,
}

/// The scale of a row whose numbers are all finite.
fn row_scale(view: &TensorView<'_>, row: usize, values: &[f32]) -> Result<f32> {
    if let Some(column) = values.iter().position(|value| !value.is_finite()) {
        let message = format!("element {} is {}", row * view.columns + column, values[column]);
        return Err(Error::new(TENSOR_NONFINITE, message).at(view.place()));
    }
    Ok(channel_scale(values))
}

fn prepare(target: &Path) -> Result<()> {
    std::fs::create_dir_all(target).map_err(|cause| Error::io(target, &cause))?;
    let mut entries = std::fs::read_dir(target).map_err(|cause| Error::io(target, &cause))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => {
            Err(Error::new(IO, "folder is not empty").at(target.display().to_string()).remedy("name a new folder"))
        }
    }
}

/// Names and contents of the files to copy; a link is an error, since it may lead anywhere.
fn side_files(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let io = |cause: std::io::Error| Error::io(dir, &cause);
    let mut entries: Vec<DirEntry> = std::fs::read_dir(dir).map_err(io)?.collect::<std::io::Result<_>>().map_err(io)?;
    entries.sort_by_key(DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let skipped = ["config.json", "card.json"].contains(&&*name)
            || name.starts_with('.')
            || WEIGHTS.iter().any(|end| name.ends_with(end));
        let about = entry.metadata().map_err(io)?;
        if skipped || about.is_dir() {
            continue;
        }
        let refuse = |what: String| Err(Error::new(IO, what).at(entry.path().display().to_string()));
        if !about.is_file() {
            return refuse("not a regular file, so it is not copied".to_string());
        }
        if about.len() > COPY_LIMIT {
            return refuse(format!("file has {} bytes, at most {COPY_LIMIT} are copied", about.len()));
        }
        let contents = std::fs::read(entry.path()).map_err(|cause| Error::io(&entry.path(), &cause))?;
        files.push((name, contents));
    }
    Ok(files)
}

fn write_config(dir: &Path, target: &Path) -> Result<()> {
    let mut fields = read_object(&dir.join("config.json"))?;
    let side = |dynamic: bool, strategy: &str| {
        json!({
            "num_bits": 8, "type": "int", "symmetric": true, "strategy": strategy, "dynamic": dynamic,
            "group_size": null, "block_structure": null, "actorder": null,
            "observer": if dynamic { Value::Null } else { "minmax".into() }, "observer_kwargs": {},
        })
    };
    fields.insert(
        "quantization_config".to_string(),
        json!({
            "config_groups": {"group_0": {
                "targets": ["Linear"],
                "weights": side(false, "channel"),
                "input_activations": side(true, "token"),
                "output_activations": null,
            }},
            "format": "int-quantized",
            "global_compression_ratio": null,
            "ignore": ["lm_head"],
            "kv_cache_scheme": null,
            "quant_method": "compressed-tensors",
            "quantization_status": "compressed",
        }),
    );
    let path = target.join("config.json");
    let text = serde_json::to_string_pretty(&Value::Object(fields)).unwrap_or_default() + "\n";
    write_file(&path, |file| std::io::Write::write_all(file, text.as_bytes()).map_err(|cause| Error::io(&path, &cause)))
}
