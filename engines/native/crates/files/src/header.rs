use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::dtype::Dtype;
use crate::error::Result;
use crate::safetensors::{invalid, truncated};

/// Longest header or index that is read, in bytes.
pub(crate) const HEADER_LIMIT: u64 = 64 << 20;
/// Most tensors of a file.
const ENTRY_LIMIT: usize = 1 << 18;
/// Bytes that the entry of a tensor takes in a header at least, with the comma after it.
const ENTRY_TEXT: usize = 50;
const METADATA_LIMIT: usize = 1 << 12;
const DIMENSION_LIMIT: usize = 8;

/// Element types of the format, so that a file with an unused exotic tensor still opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element(u8);

static ELEMENTS: [(&str, u64); 16] = [
    ("F32", 4),
    ("F16", 2),
    ("BF16", 2),
    ("I8", 1),
    ("BOOL", 1),
    ("U8", 1),
    ("F8_E4M3", 1),
    ("F8_E5M2", 1),
    ("F8_E8M0", 1),
    ("I16", 2),
    ("U16", 2),
    ("I32", 4),
    ("U32", 4),
    ("I64", 8),
    ("U64", 8),
    ("F64", 8),
];

impl Element {
    pub fn name(self) -> &'static str {
        ELEMENTS[usize::from(self.0)].0
    }

    /// Bytes of one element.
    pub fn size(self) -> u64 {
        ELEMENTS[usize::from(self.0)].1
    }

    /// The type as one whose numbers can be read as f32.
    pub fn dtype(self) -> Option<Dtype> {
        Dtype::from_name(self.name())
    }

    fn from_name(name: &str) -> Option<Self> {
        ELEMENTS.iter().position(|(candidate, _)| *candidate == name).map(|place| Self(place as u8))
    }
}

/// One entry of a header. Offsets count from the end of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub element: Element,
    pub shape: Box<[usize]>,
    pub begin: u64,
}

impl Entry {
    /// First byte after the tensor. Was checked not to overflow.
    pub fn end(&self) -> u64 {
        self.begin + self.shape.iter().fold(self.element.size(), |bytes, size| bytes * *size as u64)
    }
}

/// A header whose every entry is known to lie inside the file, without overlap or gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Sorted by name; no name twice.
    pub entries: Vec<(Box<str>, Entry)>,
    pub metadata: BTreeMap<String, String>,
    /// First byte of tensor data in the file.
    pub data_start: u64,
}

impl Header {
    /// Parses the JSON text of a header. `data_length` is what the file holds after it.
    pub fn parse(text: &[u8], data_length: u64) -> Result<Self> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let mut members =
            reader.deserialize_map(MembersVisitor(text.len())).map_err(|cause| invalid(format!("header: {cause}")))?;
        reader.end().map_err(|cause| invalid(format!("header has text after its object: {cause}")))?;
        let entries = &mut members.entries;
        entries.sort_unstable_by_key(|(_, entry)| (entry.begin, entry.end()));
        let mut position = 0;
        for (name, entry) in &*entries {
            if entry.begin != position {
                return Err(invalid(format!("data begins at {}, expected {position}: overlap or gap", entry.begin))
                    .at(name.to_string()));
            }
            position = entry.end();
        }
        if position > data_length {
            return Err(truncated(format!("tensors need {position} bytes, the file holds {data_length}")));
        }
        if position < data_length {
            return Err(invalid(format!("tensors take {position} bytes, the file holds {data_length}")));
        }
        entries.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(invalid("tensor is given twice").at(pair[0].0.to_string()));
        }
        Ok(Self { entries: members.entries, metadata: members.metadata.unwrap_or_default(), data_start: 0 })
    }

    /// Reads and checks the header of a whole file in memory.
    pub fn of_file(file: &[u8]) -> Result<Self> {
        let length = file.len() as u64;
        let Some((size, rest)) = file.split_first_chunk::<8>() else {
            return Err(truncated(format!("file has {length} bytes, a header length takes 8")));
        };
        let size = header_size(*size, length)?;
        let mut header = Self::parse(&rest[..size as usize], length - 8 - size)?;
        header.data_start = 8 + size;
        Ok(header)
    }

    /// Reads and checks the header of an open file of `length` bytes.
    pub fn read(reader: &mut impl Read, length: u64) -> Result<Self> {
        if length < 8 {
            return Err(truncated(format!("file has {length} bytes, a header length takes 8")));
        }
        let mut size = [0; 8];
        reader.read_exact(&mut size).map_err(|cause| truncated(cause.to_string()))?;
        let size = header_size(size, length)?;
        let mut text = vec![0; size as usize];
        reader.read_exact(&mut text).map_err(|cause| truncated(cause.to_string()))?;
        let mut header = Self::parse(&text, length - 8 - size)?;
        header.data_start = 8 + size;
        Ok(header)
    }

    /// Name and entry of a tensor.
    pub fn find(&self, name: &str) -> Option<(&str, &Entry)> {
        let place = self.entries.binary_search_by(|(candidate, _)| (**candidate).cmp(name)).ok()?;
        let (name, entry) = &self.entries[place];
        Some((name, entry))
    }
}

fn header_size(bytes: [u8; 8], length: u64) -> Result<u64> {
    let size = u64::from_le_bytes(bytes);
    if size > HEADER_LIMIT {
        return Err(invalid(format!("header length is {size}, at most {HEADER_LIMIT} is read")));
    }
    if size > length - 8 {
        return Err(truncated(format!("header takes {size} bytes, {} follow", length - 8)));
    }
    Ok(size)
}

struct Members {
    entries: Vec<(Box<str>, Entry)>,
    metadata: Option<BTreeMap<String, String>>,
}

/// Has the length of the text.
struct MembersVisitor(usize);

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Members, A::Error> {
        // Grown at once to what the text can hold, which is less than the text; growing by doubling could exceed it.
        let most = (self.0 / ENTRY_TEXT + 1).min(ENTRY_LIMIT);
        let mut members = Members { entries: Vec::with_capacity(most), metadata: None };
        while let Some(Text(name)) = map.next_key()? {
            if name == "__metadata__" {
                let Metadata(metadata) = map.next_value()?;
                if members.metadata.replace(metadata).is_some() {
                    return Err(A::Error::custom("metadata is given twice"));
                }
                continue;
            }
            if members.entries.len() == ENTRY_LIMIT {
                return Err(A::Error::custom(format!("more than {ENTRY_LIMIT} tensors")));
            }
            let entry = map.next_value().map_err(|cause| A::Error::custom(format!("tensor {name:?}: {cause}")))?;
            members.entries.push((name.into(), entry));
        }
        members.entries.shrink_to_fit();
        Ok(members)
    }
}

struct Metadata(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct MetadataVisitor;
        impl<'de> Visitor<'de> for MetadataVisitor {
            type Value = Metadata;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "an object of at most {METADATA_LIMIT} texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Metadata, A::Error> {
                let mut values = BTreeMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    if values.len() == METADATA_LIMIT {
                        return Err(A::Error::invalid_length(METADATA_LIMIT + 1, &self));
                    }
                    values.insert(key, value);
                }
                Ok(Metadata(values))
            }
        }
        deserializer.deserialize_map(MetadataVisitor)
    }
}

/// A string, borrowed from the text where it has no escapes.
struct Text<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> std::result::Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> std::result::Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_string())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A short list of numbers, kept in place.
struct Numbers {
    values: [u64; DIMENSION_LIMIT],
    count: usize,
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct NumbersVisitor;
        impl<'de> Visitor<'de> for NumbersVisitor {
            type Value = Numbers;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "a list of at most {DIMENSION_LIMIT} whole numbers")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Numbers, A::Error> {
                let mut numbers = Numbers { values: [0; DIMENSION_LIMIT], count: 0 };
                while let Some(value) = items.next_element()? {
                    let Some(place) = numbers.values.get_mut(numbers.count) else {
                        return Err(A::Error::invalid_length(numbers.count + 1, &self));
                    };
                    *place = value;
                    numbers.count += 1;
                }
                Ok(numbers)
            }
        }
        deserializer.deserialize_seq(NumbersVisitor)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct EntryVisitor;
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = Entry;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object with dtype, shape and data_offsets")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Entry, A::Error> {
                let (mut element, mut shape, mut offsets) = (None, None, None);
                while let Some(Text(field)) = map.next_key()? {
                    let twice = match &*field {
                        "dtype" => {
                            let Text(name) = map.next_value()?;
                            let known = Element::from_name(&name)
                                .ok_or_else(|| A::Error::custom(format!("dtype {name:?} is unknown")))?;
                            element.replace(known).is_some()
                        }
                        "shape" => shape.replace(map.next_value::<Numbers>()?).is_some(),
                        "data_offsets" => offsets.replace(map.next_value::<Numbers>()?).is_some(),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            false
                        }
                    };
                    if twice {
                        return Err(A::Error::custom(format!("{field} is given twice")));
                    }
                }
                let missing = |name: &str| A::Error::custom(format!("{name} is missing"));
                let element = element.ok_or_else(|| missing("dtype"))?;
                let shape = shape.ok_or_else(|| missing("shape"))?;
                let offsets = offsets.ok_or_else(|| missing("data_offsets"))?;
                entry(element, &shape.values[..shape.count], &offsets.values[..offsets.count]).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_map(EntryVisitor)
    }
}

fn entry(element: Element, shape: &[u64], offsets: &[u64]) -> std::result::Result<Entry, String> {
    let [begin, end] = *offsets else {
        return Err(format!("data_offsets has {} entries, not two", offsets.len()));
    };
    let bytes = shape.iter().try_fold(element.size(), |product, dimension| product.checked_mul(*dimension));
    if bytes.is_none() || bytes != end.checked_sub(begin) {
        return Err(format!("shape {shape:?} of {} does not fill bytes {begin} to {end}", element.name()));
    }
    let sizes: std::result::Result<Box<[usize]>, _> = shape.iter().map(|size| usize::try_from(*size)).collect();
    let shape = sizes.map_err(|_| format!("shape {shape:?} is too large"))?;
    Ok(Entry { element, shape, begin })
}

/// The `weight_map` of an index: tensor and file names, in the order of the text.
pub(crate) fn weight_map(text: &str) -> Result<Vec<(Cow<'_, str>, Cow<'_, str>)>> {
    struct Pairs<'de>(Vec<(Cow<'de, str>, Cow<'de, str>)>);
    impl<'de> Deserialize<'de> for Pairs<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
            struct PairsVisitor;
            impl<'de> Visitor<'de> for PairsVisitor {
                type Value = Pairs<'de>;
                fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                    formatter.write_str("an object of file names by tensor")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                    let mut pairs = Vec::new();
                    while let Some((Text(tensor), Text(file))) = map.next_entry()? {
                        if pairs.len() == ENTRY_LIMIT {
                            return Err(A::Error::custom(format!("more than {ENTRY_LIMIT} tensors")));
                        }
                        pairs.push((tensor, file));
                    }
                    Ok(Pairs(pairs))
                }
            }
            deserializer.deserialize_map(PairsVisitor)
        }
    }
    struct IndexVisitor;
    impl<'de> Visitor<'de> for IndexVisitor {
        type Value = Option<Pairs<'de>>;
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object with weight_map")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
            let mut pairs = None;
            while let Some(Text(field)) = map.next_key()? {
                if field == "weight_map" {
                    pairs = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(pairs)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let pairs = reader.deserialize_map(IndexVisitor).map_err(|cause| invalid(format!("index: {cause}")))?;
    reader.end().map_err(|cause| invalid(format!("index has text after its object: {cause}")))?;
    pairs.map(|Pairs(pairs)| pairs).ok_or_else(|| invalid("index has no weight_map object"))
}
