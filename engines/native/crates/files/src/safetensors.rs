//! Reads and writes safetensors files. A file is hostile: header length, offsets, counts, types, shapes and
//! products are checked before anything of their size is allocated; the header is read entry by entry from the mapped
//! file, so that it takes memory for its entries only. Format: <https://github.com/huggingface/safetensors#format>.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::atomic::{write_file, Counted};
use crate::config::read_text;
use crate::dtype::Dtype;
use crate::error::{
    Error, Result, INTERNAL, SAFETENSORS_INVALID, SAFETENSORS_TRUNCATED, TENSOR_MISSING, TENSOR_NONFINITE, TENSOR_SHAPE,
};
use crate::header;
pub use crate::header::{Element, Entry, Header};
use crate::mapped::Bytes;

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(SAFETENSORS_INVALID, message)
}

pub(crate) fn truncated(message: impl Into<String>) -> Error {
    Error::new(SAFETENSORS_TRUNCATED, message).remedy("copy or download the file again")
}

pub(crate) struct Shard {
    pub path: PathBuf,
    bytes: Bytes,
    header: Header,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        Self::of(Bytes::map(&path)?, path)
    }

    fn of(bytes: Bytes, path: PathBuf) -> Result<Self> {
        let header = Header::of_file(&bytes).map_err(|error| error.inside(&path))?;
        Ok(Self { path, bytes, header })
    }

    /// The bytes of an entry of this file's header.
    pub fn bytes(&self, entry: &Entry) -> &[u8] {
        let start = self.header.data_start + entry.begin;
        // The header was checked against the length of the file: both ends fit.
        &self.bytes[start as usize..(start + entry.end() - entry.begin) as usize]
    }
}

/// The tensors of a folder (`model.safetensors`, or the shards of `model.safetensors.index.json`) or of one file.
pub struct Checkpoint {
    shards: Vec<Shard>,
    places: HashMap<String, usize>,
}

impl Checkpoint {
    /// Opens the weights of a Hugging Face folder.
    pub fn open(dir: &Path) -> Result<Self> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if single.exists() {
            return Self::from_file(&single);
        }
        if !index.exists() {
            return Err(Error::new(
                TENSOR_MISSING,
                "folder has neither model.safetensors nor model.safetensors.index.json",
            )
            .at(dir.display().to_string()));
        }
        let place = index.display().to_string();
        let text = read_text(&index, header::HEADER_LIMIT, SAFETENSORS_INVALID)?;
        let map = header::weight_map(&text).map_err(|error| error.at(place.clone()))?;
        let mut shards: Vec<Shard> = Vec::new();
        let mut opened: HashMap<String, usize> = HashMap::new();
        let mut places = HashMap::new();
        for (tensor, name) in map {
            if !plain_name(&name) {
                return Err(invalid(format!("index names file {name:?} for {tensor}, not a plain file name")).at(place));
            }
            let number = match opened.get(&*name) {
                Some(number) => *number,
                None => {
                    if shards.len() >= 4096 {
                        return Err(invalid("index names more than 4096 files").at(place));
                    }
                    shards.push(Shard::open(dir.join(&*name))?);
                    opened.insert(name.to_string(), shards.len() - 1);
                    shards.len() - 1
                }
            };
            if shards[number].header.find(&tensor).is_none() {
                return Err(
                    Error::new(TENSOR_MISSING, format!("index places {tensor} in {name}, which lacks it")).at(place)
                );
            }
            places.insert(tensor.into_owned(), number);
        }
        Ok(Self { shards, places })
    }

    /// Opens one file.
    pub fn from_file(path: &Path) -> Result<Self> {
        Shard::open(path.to_path_buf()).map(Self::of)
    }

    /// As [`Checkpoint::from_file`], of bytes in memory that came from `path`.
    pub fn from_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self> {
        Shard::of(Bytes::Memory(bytes), path.to_path_buf()).map(Self::of)
    }

    fn of(shard: Shard) -> Self {
        let places = shard.header.entries.iter().map(|(name, _)| (name.to_string(), 0)).collect();
        Self { shards: vec![shard], places }
    }

    /// Tensor names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.places.keys().cloned().collect();
        names.sort();
        names
    }

    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// A value of the first file's `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.shards.first().and_then(|shard| shard.header.metadata.get(key)).map(String::as_str)
    }

    /// Lets the system take back the memory that the mapped files occupy; what is read again is read from them again.
    pub fn release(&self) {
        self.files().for_each(Bytes::release);
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &Bytes> {
        self.shards.iter().map(|shard| &shard.bytes)
    }

    /// File and entry of a tensor.
    pub(crate) fn find(&self, name: &str) -> Option<(&Shard, &str, &Entry)> {
        let shard = &self.shards[*self.places.get(name)?];
        shard.header.find(name).map(|(name, entry)| (shard, name, entry))
    }

    fn require(&self, name: &str) -> Result<(&Shard, &str, &Entry)> {
        self.find(name).ok_or_else(|| {
            let place = self.shards.first().map(|shard| shard.path.display().to_string()).unwrap_or_default();
            Error::new(TENSOR_MISSING, format!("tensor {name} is missing")).at(place)
        })
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        self.require(name).map(|(.., entry)| &*entry.shape)
    }

    /// Checks that a tensor is there with this shape and a type that can be read. Reads no data.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.checked(name, shape).map(drop)
    }

    fn checked(&self, name: &str, shape: &[usize]) -> Result<(&Shard, &Entry, Dtype)> {
        let (shard, _, entry) = self.require(name)?;
        let place = format!("{}: {name}", shard.path.display());
        if *entry.shape != *shape {
            return Err(Error::new(TENSOR_SHAPE, format!("shape is {:?}, the config asks for {shape:?}", entry.shape))
                .at(place));
        }
        match entry.element.dtype() {
            Some(dtype) => Ok((shard, entry, dtype)),
            None => {
                let message = format!("type {} can not be read, only F32, F16 and BF16", entry.element.name());
                Err(invalid(message).at(place))
            }
        }
    }

    /// Reads a tensor as f32; NaN or infinity is an error that names its index.
    pub fn read(&mut self, name: &str, shape: &[usize], out: &mut [f32]) -> Result<()> {
        let (shard, entry, dtype) = self.checked(name, shape)?;
        let place = || format!("{}: {name}", shard.path.display());
        let bytes = shard.bytes(entry);
        if bytes.len() != out.len() * dtype.size() {
            let message = format!("holds {} bytes, {} wanted", bytes.len(), out.len() * dtype.size());
            return Err(Error::new(TENSOR_SHAPE, message).at(place()));
        }
        dtype.decode(bytes, out);
        if let Some(index) = out.iter().position(|value| !value.is_finite()) {
            return Err(Error::new(TENSOR_NONFINITE, format!("element {index} is {}", out[index]))
                .at(place())
                .remedy("train or convert the checkpoint again"));
        }
        Ok(())
    }
}

/// A file name without any way out of its folder.
fn plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0', ':'])
}

/// A tensor to write.
pub struct Tensor<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub values: &'a [f32],
}

/// Writes tensors to `path`, atomically: a neighbour file is filled, synced and renamed. Equal input gives
/// equal bytes.
pub fn write(path: &Path, tensors: &[Tensor<'_>], dtype: Dtype, metadata: &[(&str, String)]) -> Result<()> {
    let stored = if dtype == Dtype::F16 { Dtype::F32 } else { dtype };
    let mut header = serde_json::Map::new();
    let fields = metadata.iter().map(|(key, value)| ((*key).to_string(), Value::String(value.clone()))).collect();
    header.insert("__metadata__".to_string(), Value::Object(fields));
    let mut position = 0;
    for tensor in tensors {
        let end = position + tensor.values.len() * stored.size();
        let entry =
            serde_json::json!({ "dtype": stored.name(), "shape": tensor.shape, "data_offsets": [position, end] });
        header.insert(tensor.name.to_string(), entry);
        position = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    write_file(path, |file| {
        let io = |cause: std::io::Error| Error::io(path, &cause);
        let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
        file.write_all(&(text.len() as u64).to_le_bytes()).map_err(io)?;
        file.write_all(&text).map_err(io)?;
        let mut bytes = Vec::with_capacity(1 << 18);
        for part in tensors.iter().flat_map(|tensor| tensor.values.chunks(1 << 16)) {
            bytes.clear();
            stored.encode(part, &mut bytes);
            file.write_all(&bytes).map_err(io)?;
        }
        file.flush().map_err(io)
    })
}

/// A tensor to write whose bytes come later: its type by its name in the format.
pub struct Planned {
    pub name: String,
    pub element: &'static str,
    pub shape: Vec<usize>,
    pub bytes: u64,
}

/// Writes tensors as [`write`] does; `fill` writes exactly the bytes of the tensor of the given index.
pub fn write_planned(
    path: &Path,
    tensors: &[Planned],
    metadata: &[(&str, &str)],
    mut fill: impl FnMut(usize, &mut dyn Write) -> Result<()>,
) -> Result<u64> {
    let mut header = serde_json::Map::new();
    let fields = metadata.iter().map(|(key, value)| ((*key).to_string(), Value::from(*value))).collect();
    header.insert("__metadata__".to_string(), Value::Object(fields));
    let mut position = 0;
    for tensor in tensors {
        let end = position + tensor.bytes;
        let entry =
            serde_json::json!({ "dtype": tensor.element, "shape": tensor.shape, "data_offsets": [position, end] });
        header.insert(tensor.name.clone(), entry);
        position = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    write_file(path, |file| {
        let io = |cause: std::io::Error| Error::io(path, &cause);
        let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
        file.write_all(&(text.len() as u64).to_le_bytes()).map_err(io)?;
        file.write_all(&text).map_err(io)?;
        for (index, tensor) in tensors.iter().enumerate() {
            let mut counted = Counted { inner: &mut file, count: 0 };
            fill(index, &mut counted)?;
            if counted.count != tensor.bytes {
                let message = format!("{} bytes were written, {} planned", counted.count, tensor.bytes);
                return Err(Error::new(INTERNAL, message).at(tensor.name.clone()));
            }
        }
        file.flush().map_err(io)
    })?;
    Ok(8 + text.len() as u64 + position)
}
