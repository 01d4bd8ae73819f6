use super::cursor::Cursor;
use super::value::{self, Value};
use super::{invalid, truncated, Stored, TensorInfo, DEFAULT_ALIGNMENT, DIMENSION_LIMIT};
use crate::error::Result;
use crate::tensor::TensorType;

const MAGIC: &[u8; 4] = b"GGUF";
const KEY_LIMIT: u64 = 1 << 16;
const TENSOR_LIMIT: u64 = 1 << 18;
const NAME_LIMIT: usize = 256;
const ALIGNMENT_LIMIT: u64 = 1 << 16;

/// ggml's types that this crate does not compute with, so that their tensors can be told from lies: number, name,
/// weights of a block, bytes of a block.
const FOREIGN: [(u32, &str, u64, u64); 22] = [
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
];

/// Where the entries of a file begin; what they say is read again when it is asked for. So a file takes less memory
/// than it has bytes, whatever it announces.
pub(super) struct Directory {
    pub version: u32,
    /// Sorted by key.
    pub keys: Vec<usize>,
    /// Sorted by name.
    pub tensors: Vec<usize>,
    alignment: u64,
    pub data_start: usize,
}

impl Directory {
    /// Reads and checks everything but the weights.
    pub fn read(file: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(file, 0);
        let magic = cursor.take(4, "the magic number")?;
        if magic != MAGIC {
            return Err(invalid(format!("file begins with {:?}, not GGUF", String::from_utf8_lossy(magic))));
        }
        let version = cursor.u32("the version")?;
        match version {
            2 | 3 => {}
            _ if matches!(version.swap_bytes(), 1..=3) => return Err(invalid("big-endian files are not supported")),
            other => return Err(invalid(format!("version {other} is not supported, only 2 and 3"))),
        }
        let tensors = cursor.u64("the number of tensors")?;
        let keys = cursor.u64("the number of keys")?;
        // The least that an entry takes: a length, a name of one byte, a type, and a value or dimension and offset.
        for (what, count, least, limit) in [("tensors", tensors, 33, TENSOR_LIMIT), ("keys", keys, 14, KEY_LIMIT)] {
            if count > limit {
                return Err(invalid(format!("file announces {count} {what}, at most {limit} are read")));
            }
            if count > cursor.left() as u64 / least {
                return Err(truncated(format!("file announces {count} {what}, {} bytes follow", cursor.left())));
            }
        }
        let keys = read_keys(&mut cursor, keys)?;
        let mut directory = Self { version, keys, tensors: Vec::new(), alignment: DEFAULT_ALIGNMENT, data_start: 0 };
        match directory.place(file, "general.alignment").map(|place| place.value(file)) {
            None => {}
            Some(Value::Unsigned(number)) if number.is_power_of_two() && (8..=ALIGNMENT_LIMIT).contains(&number) => {
                directory.alignment = number;
            }
            Some(other) => {
                return Err(invalid(format!(
                    "alignment is {other}, must be a power of two from 8 to {ALIGNMENT_LIMIT}"
                ))
                .at("general.alignment"))
            }
        }
        directory.read_tensors(file, &mut cursor, tensors)?;
        Ok(directory)
    }

    fn read_tensors(&mut self, file: &[u8], cursor: &mut Cursor<'_>, count: u64) -> Result<()> {
        self.tensors = Vec::with_capacity(count as usize);
        for number in 0..count {
            let place = cursor.place();
            read_tensor(cursor, self.alignment).map_err(|error| match &error.place {
                Some(_) => error,
                None => error.at(format!("tensor {number}")),
            })?;
            self.tensors.push(place);
        }
        let start = (cursor.place() as u64).next_multiple_of(self.alignment);
        self.data_start = start as usize;
        let data = (file.len() as u64).saturating_sub(start);
        let extent = |tensor: &TensorInfo<'_>| (tensor.offset as u64, tensor.offset as u64 + tensor.bytes as u64);
        let mut tensors = std::mem::take(&mut self.tensors);
        tensors.sort_unstable_by_key(|place| extent(&self.tensor_at(file, *place)));
        let mut before: Option<TensorInfo<'_>> = None;
        for place in &tensors {
            let tensor = self.tensor_at(file, *place);
            let (begin, end) = extent(&tensor);
            if end > data {
                let message = format!("bytes {begin} to {end} of the data are not in the file, which has {data}");
                return Err(truncated(message).at(tensor.name));
            }
            if let Some(before) = before.filter(|before| extent(before).1 > begin) {
                return Err(invalid(format!("data of {} and {} overlap", before.name, tensor.name)).at(tensor.name));
            }
            before = Some(tensor);
        }
        tensors.sort_unstable_by(|left, right| self.tensor_at(file, *left).name.cmp(self.tensor_at(file, *right).name));
        for pair in tensors.windows(2) {
            let name = self.tensor_at(file, pair[0]).name;
            if name == self.tensor_at(file, pair[1]).name {
                return Err(invalid("tensor is given twice").at(name));
            }
        }
        self.tensors = tensors;
        Ok(())
    }

    /// Where the value of a key lies.
    pub fn place(&self, file: &[u8], key: &str) -> Option<value::Place> {
        let found = self.keys.binary_search_by(|place| key_at(file, *place).0.cmp(key)).ok()?;
        let after = key_at(file, self.keys[found]).1;
        value::Place::read(&mut Cursor::new(file, after)).ok()
    }

    /// The entry that begins at `place`, which has been read before.
    pub fn tensor_at<'a>(&self, file: &'a [u8], place: usize) -> TensorInfo<'a> {
        read_tensor(&mut Cursor::new(file, place), self.alignment).unwrap_or(TensorInfo {
            name: "",
            sizes: [0; DIMENSION_LIMIT],
            dimensions: 1,
            stored: Stored::Foreign("none"),
            offset: 0,
            bytes: 0,
        })
    }
}

/// The key that begins at `place`, which has been read before, and the place after it.
pub(super) fn key_at(file: &[u8], place: usize) -> (&str, usize) {
    let mut cursor = Cursor::new(file, place);
    let key = cursor.text("a key").unwrap_or_default();
    (std::str::from_utf8(key).unwrap_or_default(), cursor.place())
}

fn read_keys(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<usize>> {
    let file = cursor.file();
    let mut keys = Vec::with_capacity(count as usize);
    for number in 0..count {
        let place = || format!("key {number}");
        let begin = cursor.place();
        let key = cursor.text("a key").map_err(|error| error.at(place()))?;
        let key = match std::str::from_utf8(key) {
            Ok(key) if !key.is_empty() && key.len() <= usize::from(u16::MAX) => key,
            Ok(key) => return Err(invalid(format!("key has {} bytes, must have 1 to 65535", key.len())).at(place())),
            Err(cause) => return Err(invalid(format!("key is not UTF-8: {cause}")).at(place())),
        };
        value::Place::read(cursor).map_err(|error| error.at(key))?;
        keys.push(begin);
    }
    keys.sort_unstable_by(|left, right| key_at(file, *left).0.cmp(key_at(file, *right).0));
    for pair in keys.windows(2) {
        if key_at(file, pair[0]).0 == key_at(file, pair[1]).0 {
            return Err(invalid("key is given twice").at(key_at(file, pair[0]).0));
        }
    }
    Ok(keys)
}

/// Reads one entry; everything about it is checked but whether its bytes are in the file.
fn read_tensor<'a>(cursor: &mut Cursor<'a>, alignment: u64) -> Result<TensorInfo<'a>> {
    let name = match std::str::from_utf8(cursor.text("a tensor's name")?) {
        Ok(name) if !name.is_empty() && name.len() <= NAME_LIMIT => name,
        Ok(name) => return Err(invalid(format!("name has {} bytes, must have 1 to {NAME_LIMIT}", name.len()))),
        Err(cause) => return Err(invalid(format!("name is not UTF-8: {cause}"))),
    };
    read_shape(cursor, name, alignment).map_err(|error| error.at(name))
}

fn read_shape<'a>(cursor: &mut Cursor<'a>, name: &'a str, alignment: u64) -> Result<TensorInfo<'a>> {
    let dimensions = cursor.u32("the number of dimensions")? as usize;
    if !(1..=DIMENSION_LIMIT).contains(&dimensions) {
        return Err(invalid(format!("tensor has {dimensions} dimensions, must have 1 to {DIMENSION_LIMIT}")));
    }
    let mut shape = [0; DIMENSION_LIMIT];
    let shape = &mut shape[..dimensions];
    for size in &mut *shape {
        *size = cursor.u64("a dimension")?;
    }
    let number = cursor.u32("a type")?;
    let (stored, block, bytes) = match TensorType::from_ggml(number) {
        Some(kind) => (Stored::Known(kind), kind.block_length() as u64, kind.block_bytes() as u64),
        None => match FOREIGN.iter().find(|(candidate, ..)| *candidate == number) {
            Some((_, name, block, bytes)) => (Stored::Foreign(name), *block, *bytes),
            None => return Err(invalid(format!("type {number} is unknown"))),
        },
    };
    let offset = cursor.u64("an offset")?;
    if !offset.is_multiple_of(alignment) {
        return Err(invalid(format!("offset {offset} is not a multiple of the alignment {alignment}")));
    }
    let elements = shape.iter().try_fold(1, |product: u64, size| product.checked_mul(*size));
    let total = elements.filter(|elements| *elements > 0).and_then(|elements| (elements / block).checked_mul(bytes));
    let end = total.and_then(|total| total.checked_add(offset)).and_then(|end| usize::try_from(end).ok());
    let (Some(total), Some(end), true) = (total, end, shape[0].is_multiple_of(block)) else {
        return Err(invalid(format!("shape {shape:?} at {offset} does not fit type {number} with blocks of {block}")));
    };
    let mut sizes = [0; DIMENSION_LIMIT];
    for (place, size) in sizes.iter_mut().zip(&*shape) {
        // No dimension is greater than the number of elements, and that many blocks fit a usize.
        *place = usize::try_from(*size).map_err(|_| invalid(format!("shape {shape:?} is too large")))?;
    }
    let bytes = total as usize;
    Ok(TensorInfo { name, sizes, dimensions, stored, offset: end - bytes, bytes })
}
