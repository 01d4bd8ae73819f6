use std::fmt;

use super::cursor::Cursor;
use super::{invalid, truncated};
use crate::error::Result;

/// Types of metadata values, in the order of the numbers that stand for them in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Flag,
    Text,
    List,
    U64,
    I64,
    F64,
}

const KINDS: [Kind; 13] = [
    Kind::U8,
    Kind::I8,
    Kind::U16,
    Kind::I16,
    Kind::U32,
    Kind::I32,
    Kind::F32,
    Kind::Flag,
    Kind::Text,
    Kind::List,
    Kind::U64,
    Kind::I64,
    Kind::F64,
];

impl Kind {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let number = cursor.u32("the type of a value")?;
        let kind = usize::try_from(number).ok().and_then(|number| KINDS.get(number));
        kind.copied().ok_or_else(|| invalid(format!("type {number} of a value is unknown")))
    }

    /// Bytes of a value; none for texts and lists.
    fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Flag => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::List => None,
        }
    }
}

/// Where a value lies in the file; its whole extent is known to be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    kind: Kind,
    /// For a list: type and number of its items, which begin at `begin`.
    items: Option<(Kind, usize)>,
    /// First byte after the type.
    start: usize,
    begin: usize,
    end: usize,
}

impl Place {
    /// Steps over a type and its value, checking that all of it is in the file.
    pub fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let kind = Kind::read(cursor)?;
        let start = cursor.place();
        let mut begin = start;
        let mut items = None;
        match (kind, kind.size()) {
            (_, Some(size)) => drop(cursor.take(size, "a value")?),
            (Kind::List, _) => {
                let inner = Kind::read(cursor)?;
                let count = cursor.u64("the length of a list")?;
                begin = cursor.place();
                match inner.size() {
                    Some(size) => {
                        let bytes = count.saturating_mul(size);
                        cursor.take(bytes, "a list")?;
                    }
                    None if inner == Kind::List => return Err(invalid("lists of lists are not supported")),
                    None => {
                        if count > cursor.left() as u64 / 8 {
                            let message = format!("a list announces {count} texts, {} bytes follow", cursor.left());
                            return Err(truncated(message));
                        }
                        for _ in 0..count {
                            cursor.text("a text of a list")?;
                        }
                    }
                }
                items = Some((inner, count as usize));
            }
            _ => {
                let text = cursor.text("a text")?;
                begin = cursor.place() - text.len();
            }
        }
        Ok(Self { kind, items, start, begin, end: cursor.place() })
    }

    /// Number of the type, and the bytes that follow it in the file.
    pub fn raw<'a>(&self, file: &'a [u8]) -> (u32, &'a [u8]) {
        (self.kind as u32, &file[self.start..self.end])
    }

    pub fn value<'a>(&self, file: &'a [u8]) -> Value<'a> {
        let bytes = &file[self.begin..self.end];
        match self.items {
            Some((kind, count)) => Value::List(List { kind, count, bytes }),
            None if self.kind == Kind::Text => Value::Text(bytes),
            None => scalar(self.kind, bytes),
        }
    }
}

/// A value of the metadata. Whole numbers and floating-point numbers come in the widest type of their kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
    /// Should be UTF-8, but nothing holds a file to that.
    Text(&'a [u8]),
    List(List<'a>),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(number) => number.fmt(formatter),
            Self::Signed(number) => number.fmt(formatter),
            Self::Float(number) => number.fmt(formatter),
            Self::Flag(flag) => flag.fmt(formatter),
            Self::Text(bytes) => {
                let short = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
                write!(formatter, "{short:?}")
            }
            Self::List(list) => write!(formatter, "a list of {}", list.len()),
        }
    }
}

/// A list of the metadata, read item by item from the mapped file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct List<'a> {
    kind: Kind,
    count: usize,
    bytes: &'a [u8],
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the items are texts.
    pub fn is_text(&self) -> bool {
        self.kind == Kind::Text
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (kind, mut rest) = (self.kind, self.bytes);
        (0..self.count).map_while(move |_| {
            let size = match kind.size() {
                Some(size) => size as usize,
                None => {
                    let (length, after) = rest.split_first_chunk::<8>()?;
                    rest = after;
                    u64::from_le_bytes(*length) as usize
                }
            };
            let (item, after) = rest.split_at_checked(size)?;
            rest = after;
            Some(if kind == Kind::Text { Value::Text(item) } else { scalar(kind, item) })
        })
    }
}

fn scalar<'a>(kind: Kind, bytes: &[u8]) -> Value<'a> {
    let mut wide = [0; 8];
    wide[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
    let bits = u64::from_le_bytes(wide);
    match kind {
        Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 => Value::Unsigned(bits),
        Kind::I8 => Value::Signed(i64::from(bits as i8)),
        Kind::I16 => Value::Signed(i64::from(bits as i16)),
        Kind::I32 => Value::Signed(i64::from(bits as i32)),
        Kind::I64 => Value::Signed(bits as i64),
        Kind::F32 => Value::Float(f64::from(f32::from_bits(bits as u32))),
        Kind::F64 => Value::Float(f64::from_bits(bits)),
        Kind::Flag => Value::Flag(bits != 0),
        Kind::Text | Kind::List => Value::Text(&[]),
    }
}
