//! Writes GGUF files, version 3.

use std::io::{BufWriter, Write};
use std::path::Path;

use super::{Gguf, DEFAULT_ALIGNMENT};
use crate::atomic::{write_file, Counted};
use crate::error::{Error, Result, INTERNAL};
use crate::tensor::TensorType;

/// A value of the metadata to write.
#[derive(Debug, Clone, PartialEq)]
pub enum Meta {
    U32(u32),
    F32(f32),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    /// A value of another file, as it stands there: number of its type and its bytes.
    Copy(u32, Vec<u8>),
}

impl From<&str> for Meta {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}

impl Gguf {
    /// A value of this file, to write it into another one.
    pub fn copy(&self, key: &str) -> Option<Meta> {
        let (kind, bytes) = self.directory.place(&self.bytes, key)?.raw(&self.bytes);
        Some(Meta::Copy(kind, bytes.to_vec()))
    }
}

/// A tensor to write: its name in the file, and its shape with the contiguous dimension first.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub name: String,
    pub shape: Vec<usize>,
    pub kind: TensorType,
}

impl Planned {
    fn bytes(&self) -> Option<u64> {
        let (columns, rest) = self.shape.split_first()?;
        let row = u64::try_from(self.kind.row_bytes(*columns)?).ok()?;
        rest.iter().try_fold(row, |bytes, size| bytes.checked_mul(*size as u64))
    }
}

/// Writes a file, atomically: a neighbour is filled, synced and renamed. `fill` writes exactly the bytes of the tensor
/// of the given index. Equal input gives equal bytes; returns their number.
pub fn write(
    path: &Path,
    metadata: &[(String, Meta)],
    tensors: &[Planned],
    mut fill: impl FnMut(usize, &mut dyn Write) -> Result<()>,
) -> Result<u64> {
    let mut head = Vec::new();
    head.extend(b"GGUF");
    head.extend(3u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut head, key);
        put_value(&mut head, value);
    }
    let mut offset = 0u64;
    let mut sizes = Vec::new();
    for tensor in tensors {
        let (Some(bytes), Some(number)) = (tensor.bytes(), tensor.kind.ggml()) else {
            return Err(Error::new(INTERNAL, format!("{:?} can not be written as {:?}", tensor.shape, tensor.kind))
                .at(tensor.name.clone()));
        };
        put_text(&mut head, &tensor.name);
        head.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().for_each(|size| head.extend((*size as u64).to_le_bytes()));
        head.extend(number.to_le_bytes());
        head.extend(offset.to_le_bytes());
        sizes.push(bytes);
        offset += bytes.next_multiple_of(DEFAULT_ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
    let total = head.len() as u64 + offset;
    write_file(path, |file| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let io = |cause: std::io::Error| Error::io(path, &cause);
        file.write_all(&head).map_err(io)?;
        for (index, bytes) in sizes.iter().enumerate() {
            let mut counted = Counted { inner: &mut file, count: 0 };
            fill(index, &mut counted)?;
            if counted.count != *bytes {
                let message = format!("{} bytes were written, {bytes} planned", counted.count);
                return Err(Error::new(INTERNAL, message).at(tensors[index].name.clone()));
            }
            let padding = bytes.next_multiple_of(DEFAULT_ALIGNMENT) - bytes;
            file.write_all(&[0; DEFAULT_ALIGNMENT as usize][..padding as usize]).map_err(io)?;
        }
        file.flush().map_err(io)
    })?;
    Ok(total)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Meta) {
    let kind = |out: &mut Vec<u8>, number: u32| out.extend(number.to_le_bytes());
    let list = |out: &mut Vec<u8>, number: u32, count: usize| {
        out.extend(9u32.to_le_bytes());
        out.extend(number.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
    };
    match value {
        Meta::U32(number) => {
            kind(out, 4);
            out.extend(number.to_le_bytes());
        }
        Meta::F32(number) => {
            kind(out, 6);
            out.extend(number.to_le_bytes());
        }
        Meta::Flag(flag) => {
            kind(out, 7);
            out.push(u8::from(*flag));
        }
        Meta::Text(text) => {
            kind(out, 8);
            put_text(out, text);
        }
        Meta::Texts(texts) => {
            list(out, 8, texts.len());
            texts.iter().for_each(|text| put_text(out, text));
        }
        Meta::I32s(numbers) => {
            list(out, 5, numbers.len());
            numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        }
        Meta::Copy(number, bytes) => {
            kind(out, *number);
            out.extend(bytes);
        }
    }
}
