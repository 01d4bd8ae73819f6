//! Reads and writes safetensors files. A file is hostile: header length, offsets, counts, types, shapes and
//! products are checked before anything of their size is allocated. Format:
//! <https://github.com/huggingface/safetensors#format>.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::Value;

use crate::dtype::Dtype;
use crate::error::{
    Error, Result, SAFETENSORS_INVALID, SAFETENSORS_TRUNCATED, TENSOR_MISSING, TENSOR_NONFINITE, TENSOR_SHAPE,
};

const HEADER_LIMIT: u64 = 64 << 20;
const MAX_DIMENSIONS: usize = 8;

/// One entry of a header. Offsets count from the end of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub begin: u64,
    pub end: u64,
}

/// A header whose every entry is known to lie inside the file, without overlap or gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub entries: BTreeMap<String, Entry>,
    pub metadata: BTreeMap<String, String>,
    /// First byte of tensor data in the file.
    pub data_start: u64,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(SAFETENSORS_INVALID, message)
}

fn truncated(message: impl Into<String>) -> Error {
    Error::new(SAFETENSORS_TRUNCATED, message).remedy("copy or download the file again")
}

/// Bytes of an element, for every type of the format, so that a file with an unused exotic tensor still opens.
fn element_size(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 1,
        "I16" | "U16" | "F16" | "BF16" => 2,
        "I32" | "U32" | "F32" => 4,
        "I64" | "U64" | "F64" | "C64" => 8,
        _ => return None,
    })
}

/// The members of the outer object in file order, so that a name given twice is seen.
struct Members(Vec<(String, Value)>);

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry::<String, Value>()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

impl Header {
    /// Parses the JSON text of a header. `data_length` is what the file holds after it.
    pub fn parse(text: &[u8], data_length: u64) -> Result<Self> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let members =
            reader.deserialize_map(MembersVisitor).map_err(|cause| invalid(format!("header is not JSON: {cause}")))?;
        reader.end().map_err(|cause| invalid(format!("header has text after its object: {cause}")))?;
        let mut entries = BTreeMap::new();
        let mut metadata = BTreeMap::new();
        let mut seen = HashSet::new();
        for (name, value) in members.0 {
            if !seen.insert(name.clone()) {
                return Err(invalid("tensor is given twice").at(name));
            }
            if name == "__metadata__" {
                let Value::Object(fields) = value else {
                    return Err(invalid("metadata is not an object").at(name));
                };
                for (key, value) in fields {
                    let Value::String(text) = value else {
                        return Err(invalid(format!("metadata {key:?} is not a string")).at(name));
                    };
                    metadata.insert(key, text);
                }
                continue;
            }
            let entry = Entry::parse(&value).map_err(|error| error.at(name.clone()))?;
            entries.insert(name, entry);
        }
        let mut order: Vec<(&String, &Entry)> = entries.iter().collect();
        order.sort_by_key(|(_, entry)| (entry.begin, entry.end));
        let mut position = 0;
        for (name, entry) in order {
            if entry.begin != position {
                return Err(invalid(format!("data begins at {}, expected {position}: overlap or gap", entry.begin))
                    .at(name.clone()));
            }
            position = entry.end;
        }
        if position > data_length {
            return Err(truncated(format!("tensors need {position} bytes, the file holds {data_length}")));
        }
        if position < data_length {
            return Err(invalid(format!("tensors take {position} bytes, the file holds {data_length}")));
        }
        Ok(Self { entries, metadata, data_start: 0 })
    }

    /// Reads and checks the header of an open file of `length` bytes.
    pub fn read(reader: &mut impl Read, length: u64) -> Result<Self> {
        if length < 8 {
            return Err(truncated(format!("file has {length} bytes, a header length takes 8")));
        }
        let mut size = [0; 8];
        reader.read_exact(&mut size).map_err(|cause| truncated(cause.to_string()))?;
        let size = u64::from_le_bytes(size);
        if size > HEADER_LIMIT {
            return Err(invalid(format!("header length is {size}, at most {HEADER_LIMIT} is read")));
        }
        if size > length - 8 {
            return Err(truncated(format!("header takes {size} bytes, {} follow", length - 8)));
        }
        let mut text = vec![0; size as usize];
        reader.read_exact(&mut text).map_err(|cause| truncated(cause.to_string()))?;
        let mut header = Self::parse(&text, length - 8 - size)?;
        header.data_start = 8 + size;
        Ok(header)
    }
}

impl Entry {
    fn parse(value: &Value) -> Result<Self> {
        let Value::Object(fields) = value else {
            return Err(invalid("entry is not an object"));
        };
        let dtype = fields.get("dtype").and_then(Value::as_str).ok_or_else(|| invalid("dtype is missing"))?;
        let size = element_size(dtype).ok_or_else(|| invalid(format!("dtype {dtype:?} is unknown")))?;
        let numbers = |name: &str, limit: usize| -> Result<Vec<u64>> {
            let Some(Value::Array(items)) = fields.get(name) else {
                return Err(invalid(format!("{name} is missing or not a list")));
            };
            if items.len() > limit {
                return Err(invalid(format!("{name} has {} entries, at most {limit}", items.len())));
            }
            let read = |item: &Value| item.as_u64().ok_or_else(|| invalid(format!("{name} holds {item}")));
            items.iter().map(read).collect()
        };
        let shape = numbers("shape", MAX_DIMENSIONS)?;
        let offsets = numbers("data_offsets", 2)?;
        let [begin, end] = offsets[..] else {
            return Err(invalid("data_offsets needs two entries"));
        };
        let bytes = shape.iter().try_fold(size, |product, dimension| product.checked_mul(*dimension));
        let length = end.checked_sub(begin);
        if bytes.is_none() || bytes != length {
            return Err(invalid(format!("shape {shape:?} of {dtype} does not fill bytes {begin} to {end}")));
        }
        let shape = shape
            .iter()
            .map(|dimension| usize::try_from(*dimension).map_err(|_| invalid(format!("shape {shape:?} is too large"))))
            .collect::<Result<_>>()?;
        Ok(Self { dtype: dtype.to_string(), shape, begin, end })
    }
}

struct Shard {
    path: PathBuf,
    file: File,
    header: Header,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        let mut file = File::open(&path).map_err(|cause| Error::io(&path, &cause))?;
        let length = file.metadata().map_err(|cause| Error::io(&path, &cause))?.len();
        let header = Header::read(&mut file, length).map_err(|error| {
            let place = error.place.as_deref().map_or(String::new(), |place| format!(": {place}"));
            error.at(format!("{}{place}", path.display()))
        })?;
        Ok(Self { path, file, header })
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
        let length = std::fs::metadata(&index).map_err(|cause| Error::io(&index, &cause))?.len();
        if length > HEADER_LIMIT {
            return Err(invalid(format!("index has {length} bytes")).at(place));
        }
        let text = std::fs::read(&index).map_err(|cause| Error::io(&index, &cause))?;
        let value: Value = serde_json::from_slice(&text)
            .map_err(|cause| invalid(format!("index is not JSON: {cause}")).at(place.clone()))?;
        let Some(Value::Object(map)) = value.get("weight_map") else {
            return Err(invalid("index has no weight_map object").at(place));
        };
        let mut shards: Vec<Shard> = Vec::new();
        let mut opened: HashMap<String, usize> = HashMap::new();
        let mut places = HashMap::new();
        for (tensor, file) in map {
            let Some(name) = file.as_str().filter(|name| plain_name(name)) else {
                return Err(invalid(format!("index names file {file} for {tensor}, not a plain file name")).at(place));
            };
            let number = match opened.get(name) {
                Some(number) => *number,
                None => {
                    if shards.len() >= 4096 {
                        return Err(invalid("index names more than 4096 files").at(place));
                    }
                    shards.push(Shard::open(dir.join(name))?);
                    opened.insert(name.to_string(), shards.len() - 1);
                    shards.len() - 1
                }
            };
            if !shards[number].header.entries.contains_key(tensor) {
                return Err(
                    Error::new(TENSOR_MISSING, format!("index places {tensor} in {name}, which lacks it")).at(place)
                );
            }
            places.insert(tensor.clone(), number);
        }
        Ok(Self { shards, places })
    }

    /// Opens one file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let shard = Shard::open(path.to_path_buf())?;
        let places = shard.header.entries.keys().map(|name| (name.clone(), 0)).collect();
        Ok(Self { shards: vec![shard], places })
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

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        let number =
            self.places.get(name).ok_or_else(|| Error::new(TENSOR_MISSING, format!("tensor {name} is missing")))?;
        Ok(&self.shards[*number].header.entries[name].shape)
    }

    /// Checks that a tensor is there with this shape and a type that can be read. Reads no data.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        let Some(number) = self.places.get(name) else {
            let place = self.shards.first().map(|shard| shard.path.display().to_string()).unwrap_or_default();
            return Err(Error::new(TENSOR_MISSING, format!("tensor {name} is missing")).at(place));
        };
        let shard = &self.shards[*number];
        let entry = &shard.header.entries[name];
        let place = format!("{}: {name}", shard.path.display());
        if entry.shape != shape {
            return Err(Error::new(TENSOR_SHAPE, format!("shape is {:?}, the config asks for {shape:?}", entry.shape))
                .at(place));
        }
        if Dtype::from_name(&entry.dtype).is_none() {
            return Err(invalid(format!("type {} can not be read, only F32, F16 and BF16", entry.dtype)).at(place));
        }
        Ok(())
    }

    /// Reads a tensor as f32; NaN or infinity is an error that names its index.
    pub fn read(&mut self, name: &str, shape: &[usize], out: &mut [f32]) -> Result<()> {
        self.check(name, shape)?;
        let shard = &mut self.shards[self.places[name]];
        let entry = &shard.header.entries[name];
        let place = format!("{}: {name}", shard.path.display());
        let dtype = Dtype::from_name(&entry.dtype).ok_or_else(|| invalid("unreadable type"))?;
        if (entry.end - entry.begin) as usize != out.len() * dtype.size() {
            return Err(Error::new(
                TENSOR_SHAPE,
                format!("holds {} bytes, {} wanted", entry.end - entry.begin, out.len() * dtype.size()),
            )
            .at(place));
        }
        let io = |cause: std::io::Error| Error::io(&shard.path, &cause);
        shard.file.seek(SeekFrom::Start(shard.header.data_start + entry.begin)).map_err(io)?;
        let mut buffer = vec![0; (1 << 20).min(out.len() * dtype.size())];
        for (number, part) in out.chunks_mut((1 << 20) / dtype.size()).enumerate() {
            let bytes = &mut buffer[..part.len() * dtype.size()];
            shard.file.read_exact(bytes).map_err(io)?;
            dtype.decode(bytes, part);
            if let Some(index) = part.iter().position(|value| !value.is_finite()) {
                let message = format!("element {} is {}", number * ((1 << 20) / dtype.size()) + index, part[index]);
                return Err(Error::new(TENSOR_NONFINITE, message)
                    .at(place)
                    .remedy("train or convert the checkpoint again"));
            }
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
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let fill = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
        file.write_all(&(text.len() as u64).to_le_bytes())?;
        file.write_all(&text)?;
        let mut bytes = Vec::with_capacity(1 << 18);
        for part in tensors.iter().flat_map(|tensor| tensor.values.chunks(1 << 16)) {
            bytes.clear();
            stored.encode(part, &mut bytes);
            file.write_all(&bytes)?;
        }
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    fill().map_err(|cause| {
        let _ = std::fs::remove_file(&temporary);
        Error::io(path, &cause)
    })
}
