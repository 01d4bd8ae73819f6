//! GGUF files, versions 2 and 3 (which differ only in what they may say about byte order), little-endian. A file is
//! hostile: every count, length and offset is checked against the bytes that are there before it is used, and nothing
//! is copied out of the mapped file but keys and tensor entries, whose number is bounded by the file's size.
//! Format: ggml's `docs/gguf.md`.

mod config;
mod cursor;
mod directory;
pub(crate) mod names;
pub mod tokenizer;
mod value;
pub mod write;

use std::path::{Path, PathBuf};

pub use value::{List, Value};

use crate::error::{Error, Result, GGUF_INVALID, GGUF_TRUNCATED};
use crate::mapped::Bytes;
use crate::tensor::TensorType;
use directory::{key_at, Directory};

pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;
const DIMENSION_LIMIT: usize = 4;

/// What a tensor of a file is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    Known(TensorType),
    /// A type that can be stepped over but not read, by ggml's name.
    Foreign(&'static str),
}

/// One tensor of a GGUF file; its bytes are known to lie inside the file and to overlap no other tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    pub name: &'a str,
    sizes: [usize; DIMENSION_LIMIT],
    dimensions: usize,
    pub stored: Stored,
    /// From the start of the data.
    offset: usize,
    bytes: usize,
}

impl TensorInfo<'_> {
    /// Numbers along each dimension, the contiguous one first (so a matrix is `[columns, rows]`).
    pub fn shape(&self) -> &[usize] {
        &self.sizes[..self.dimensions]
    }
}

/// An open GGUF file.
pub struct Gguf {
    path: PathBuf,
    bytes: Bytes,
    directory: Directory,
}

impl Gguf {
    /// Maps a file and checks all of it but the weights. Every error names the file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(Bytes::map(path)?, path)
    }

    /// As [`Gguf::open`], of bytes in memory that came from `path`.
    pub fn from_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self> {
        Self::of(Bytes::Memory(bytes), path)
    }

    fn of(bytes: Bytes, path: &Path) -> Result<Self> {
        let directory = Directory::read(&bytes).map_err(|error| error.inside(path))?;
        Ok(Self { path: path.to_path_buf(), bytes, directory })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn version(&self) -> u32 {
        self.directory.version
    }

    /// Keys of the metadata, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.directory.keys.iter().map(|place| key_at(&self.bytes, *place).0)
    }

    /// A value of the metadata.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.directory.place(&self.bytes, key).map(|place| place.value(&self.bytes))
    }

    /// A text of the metadata; an error where it is something else or not UTF-8.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(cause) => Err(self.wrong(key, &format!("not UTF-8: {cause}"))),
            },
            Some(other) => Err(self.wrong(key, &format!("{other}, not a text"))),
        }
    }

    /// A whole number of the metadata that is not negative, whichever width it has.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(number)) => Ok(Some(number)),
            Some(Value::Signed(number)) if number >= 0 => Ok(Some(number.unsigned_abs())),
            Some(other) => Err(self.wrong(key, &format!("{other}, not a whole number from 0"))),
        }
    }

    /// A number of the metadata.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(Some(number)),
            Some(other) => Err(self.wrong(key, &format!("{other}, not a floating-point number"))),
        }
    }

    /// A yes or no of the metadata.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Flag(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong(key, &format!("{other}, not true or false"))),
        }
    }

    /// A list of the metadata.
    pub fn list(&self, key: &str) -> Result<Option<List<'_>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(other) => Err(self.wrong(key, &format!("{other}, not a list"))),
        }
    }

    /// Tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        self.directory.tensors.iter().map(|place| self.directory.tensor_at(&self.bytes, *place))
    }

    /// A tensor by its name in the file.
    pub fn tensor(&self, name: &str) -> Option<TensorInfo<'_>> {
        let directory = &self.directory;
        let places = &directory.tensors;
        let found = places.binary_search_by(|place| directory.tensor_at(&self.bytes, *place).name.cmp(name)).ok()?;
        Some(directory.tensor_at(&self.bytes, places[found]))
    }

    pub(crate) fn file(&self) -> &Bytes {
        &self.bytes
    }

    /// Stored bytes of a tensor of this file.
    pub fn bytes(&self, tensor: &TensorInfo<'_>) -> &[u8] {
        &self.bytes[self.directory.data_start + tensor.offset..][..tensor.bytes]
    }

    pub(crate) fn wrong(&self, key: &str, seen: &str) -> Error {
        invalid(format!("{key} is {seen}")).at(key.to_string()).inside(&self.path)
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(GGUF_INVALID, message)
}

fn truncated(message: impl Into<String>) -> Error {
    Error::new(GGUF_TRUNCATED, message).remedy("copy or download the file again")
}
