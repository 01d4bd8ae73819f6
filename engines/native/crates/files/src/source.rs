use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::config::{announces_channel_int8, read_object, Config};
use crate::error::{Error, Result, GGUF_INVALID, TENSOR_MISSING, TENSOR_SHAPE, TENSOR_TYPE};
use crate::gguf::{names, Gguf, Stored};
use crate::mapped::Bytes;
use crate::safetensors::Checkpoint;
use crate::tensor::{TensorType, TensorView};

/// A checkpoint to read weights from: a Hugging Face folder, a GGUF file, or a folder with one GGUF file. Its files
/// are mapped, so that nothing is read before it is used; whoever replaces them must rename new files into place.
pub struct Source {
    config: Config,
    place: PathBuf,
    weights: Weights,
}

enum Weights {
    Folder { checkpoint: Checkpoint, channel_int8: bool },
    Gguf { gguf: Box<Gguf>, interleaved: bool },
}

impl Source {
    /// Opens a checkpoint and checks its configuration and the layout of its files, not yet the weights.
    pub fn open(path: &Path) -> Result<Self> {
        let about = std::fs::metadata(path).map_err(|cause| Error::io(path, &cause))?;
        if !about.is_dir() {
            return Self::open_gguf(path, path);
        }
        let is_there = |name: &str| path.join(name).exists();
        if !is_there("model.safetensors") && !is_there("model.safetensors.index.json") {
            if let Some(file) = only_gguf(path)? {
                return Self::open_gguf(&file, path);
            }
        }
        let fields = read_object(&path.join("config.json"))?;
        Self::from_checkpoint(&fields, Checkpoint::open(path)?, path)
    }

    /// Of the fields of a `config.json` and an open checkpoint; `path` stands for them in messages.
    pub fn from_checkpoint(fields: &Map<String, Value>, checkpoint: Checkpoint, path: &Path) -> Result<Self> {
        let config = Config::from_fields(fields).map_err(|error| error.inside(&path.join("config.json")))?;
        let weights = Weights::Folder { checkpoint, channel_int8: announces_channel_int8(fields) };
        Ok(Self { config, place: path.to_path_buf(), weights })
    }

    fn open_gguf(file: &Path, place: &Path) -> Result<Self> {
        Self::from_gguf(Gguf::open(file)?, place)
    }

    /// Of an open GGUF file; `place` stands for it in messages.
    pub fn from_gguf(gguf: Gguf, place: &Path) -> Result<Self> {
        let config = gguf.config()?;
        // llama.cpp turns pairs of neighbours where Hugging Face turns the two halves of a head; its files of this
        // architecture have the rows of queries and keys reordered for that.
        let interleaved = gguf.text("general.architecture")? == Some("llama");
        let weights = Weights::Gguf { gguf: Box::new(gguf), interleaved };
        Ok(Self { config, place: place.to_path_buf(), weights })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The folder or file that was opened.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The GGUF file, where the checkpoint is one: its metadata hold the tokenizer.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.weights {
            Weights::Gguf { gguf, .. } => Some(gguf),
            Weights::Folder { .. } => None,
        }
    }

    /// Names of all tensors as Hugging Face files have them, sorted; one that has no such name keeps its own.
    pub fn names(&self) -> Vec<String> {
        match &self.weights {
            Weights::Folder { checkpoint, channel_int8 } => {
                let mut names = checkpoint.names();
                if *channel_int8 {
                    names.retain(|name| !name.ends_with(".weight_scale"));
                }
                names
            }
            Weights::Gguf { gguf, .. } => {
                let tensors = gguf.tensors().filter(|tensor| tensor.name != names::ROPE_FACTORS);
                let named = |name: &str| names::from_gguf(name).unwrap_or_else(|| name.to_string());
                let mut names: Vec<String> = tensors.map(|tensor| named(tensor.name)).collect();
                names.sort();
                names
            }
        }
    }

    /// Whether there is a tensor of this (Hugging Face) name.
    pub fn contains(&self, name: &str) -> bool {
        match &self.weights {
            Weights::Folder { checkpoint, .. } => checkpoint.contains(name),
            Weights::Gguf { gguf, .. } => names::to_gguf(name).is_some_and(|name| gguf.tensor(&name).is_some()),
        }
    }

    /// The tensor of a (Hugging Face) name, which must have `rows` × `columns` numbers; vectors have one row. Reads no
    /// data: what it holds may still be NaN, see [`TensorView::check_finite`].
    pub fn tensor(&self, name: &str, rows: usize, columns: usize) -> Result<TensorView<'_>> {
        match &self.weights {
            Weights::Folder { checkpoint, channel_int8 } => {
                let Some((shard, name, entry)) = checkpoint.find(name) else {
                    return Err(self.missing(name));
                };
                let place = || format!("{}: {name}", shard.path.display());
                check_shape(&entry.shape, rows, columns).map_err(|error| error.at(place()))?;
                let (kind, scales) = match (entry.element.dtype(), entry.element.name()) {
                    (Some(dtype), _) => (dtype.into(), None),
                    (None, "I8") if *channel_int8 => (
                        TensorType::ChannelInt8,
                        Some(row_scales(checkpoint, name, rows).map_err(|error| error.or_at(place()))?),
                    ),
                    (None, other) => return Err(unreadable(other, place())),
                };
                let (data, file) = (shard.bytes(entry), &*shard.path);
                Ok(TensorView { kind, rows, columns, data, interleaved: None, scales, file, name })
            }
            Weights::Gguf { gguf, interleaved } => {
                let Some(tensor) = names::to_gguf(name).and_then(|name| gguf.tensor(&name)) else {
                    return Err(self.missing(name));
                };
                let place = || format!("{}: {}", gguf.path().display(), tensor.name);
                let shape: Vec<usize> = tensor.shape().iter().rev().copied().collect();
                check_shape(&shape, rows, columns).map_err(|error| error.at(place()))?;
                let kind = match tensor.stored {
                    Stored::Known(kind) => kind,
                    Stored::Foreign(other) => return Err(unreadable(other, place())),
                };
                let turned = *interleaved && (name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight"));
                let head = self.config.head_dim;
                let interleaved = (turned && rows.is_multiple_of(head)).then_some(head);
                let (data, file) = (gguf.bytes(&tensor), gguf.path());
                Ok(TensorView { kind, rows, columns, data, interleaved, scales: None, file, name: tensor.name })
            }
        }
    }

    /// Lets the system take back the memory that the mapped files occupy, for whoever has packed the weights and reads
    /// only single rows from now on. Changes no result.
    pub fn release(&self) {
        match &self.weights {
            Weights::Folder { checkpoint, .. } => checkpoint.files().for_each(Bytes::release),
            Weights::Gguf { gguf, .. } => gguf.file().release(),
        }
    }

    fn missing(&self, name: &str) -> Error {
        Error::new(TENSOR_MISSING, format!("tensor {name} is missing")).at(self.place.display().to_string())
    }
}

/// The GGUF file of a folder that has exactly one.
fn only_gguf(dir: &Path) -> Result<Option<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|cause| Error::io(dir, &cause))? {
        let path = entry.map_err(|cause| Error::io(dir, &cause))?.path();
        if path.extension().is_some_and(|extension| extension == "gguf") {
            found.push(path);
        }
    }
    match &found[..] {
        [] => Ok(None),
        [file] => Ok(Some(file.clone())),
        several => Err(Error::new(GGUF_INVALID, format!("folder has {} .gguf files", several.len()))
            .at(dir.display().to_string())
            .remedy("name one of the files")),
    }
}

/// Bytes and type of the scales that belong to an int8 tensor, one number a row.
fn row_scales<'a>(checkpoint: &'a Checkpoint, name: &str, rows: usize) -> Result<(crate::Dtype, &'a [u8])> {
    let wanted = format!("{name}_scale");
    let Some((shard, name, entry)) = checkpoint.find(&wanted) else {
        return Err(Error::new(TENSOR_MISSING, format!("tensor {wanted} is missing, its int8 weights need it")));
    };
    let place = || format!("{}: {name}", shard.path.display());
    check_shape(&entry.shape, rows, 1).map_err(|error| error.at(place()))?;
    let dtype = entry.element.dtype().ok_or_else(|| unreadable(entry.element.name(), place()))?;
    Ok((dtype, shard.bytes(entry)))
}

pub(crate) fn unreadable(kind: &str, place: String) -> Error {
    Error::new(TENSOR_TYPE, format!("weights of type {kind} can not be read"))
        .at(place)
        .remedy("use a checkpoint in F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K")
}

/// Whether a stored shape is `rows` × `columns`; a vector may stand for one row, or for one column.
pub(crate) fn check_shape(shape: &[usize], rows: usize, columns: usize) -> Result<()> {
    let fits = match shape {
        [length] => (rows == 1 && *length == columns) || (columns == 1 && *length == rows),
        [first, second] => (*first, *second) == (rows, columns),
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(Error::new(TENSOR_SHAPE, format!("shape is {shape:?}, the config asks for [{rows}, {columns}]")))
    }
}
