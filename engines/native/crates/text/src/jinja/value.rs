use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::{For, Macro};
use super::evaluate::Scope;

/// Bytes of the reason why a value is undefined.
const LONGEST_REASON: usize = 200;

/// Lists within lists. Deeper ones would exhaust the stack when they are printed or dropped.
pub(super) const DEEPEST_VALUE: usize = 160;

#[derive(Clone)]
pub(super) enum Value {
    /// With the reason, for messages.
    Undefined(Arc<str>),
    None,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(Text),
    List(Rc<Items>),
    Tuple(Rc<Items>),
    Dict(Rc<Dict>),
    Namespace(Rc<RefCell<Dict>>),
    Macro(Rc<Closure>),
    Loop(Rc<Loop>),
    Function(&'static str),
    Method(Rc<(Value, Text)>),
    Cycler(Rc<(Rc<Items>, RefCell<usize>)>),
    Joiner(Rc<(Text, RefCell<bool>)>),
}

/// A text of the template, or one that was made while rendering.
#[derive(Clone)]
pub(super) enum Text {
    Literal(Arc<str>),
    Made(Rc<Made>),
}

pub(super) struct Made {
    text: Box<str>,
    /// The budget that the text was taken from, which gets it back.
    bytes: Option<Rc<Cell<u64>>>,
}

impl Made {
    /// Of a text whose size the budget has been charged with.
    pub fn charged(text: String, bytes: &Rc<Cell<u64>>) -> Text {
        Text::Made(Rc::new(Self { text: text.into(), bytes: Some(Rc::clone(bytes)) }))
    }

    pub fn size(length: usize) -> u64 {
        length as u64 + 48
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(bytes) = &self.bytes {
            bytes.set(bytes.get() + Self::size(self.text.len()));
        }
    }
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Made(made) => &made.text,
        }
    }
}

impl std::borrow::Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        str::hash(self, state);
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl From<&Arc<str>> for Text {
    fn from(text: &Arc<str>) -> Self {
        Self::Literal(Arc::clone(text))
    }
}

pub(super) struct Items {
    pub items: Vec<Value>,
    pub depth: usize,
}

/// A macro with the names that it sees.
pub(super) struct Closure {
    pub definition: Arc<Macro>,
    pub scope: Rc<Scope>,
}

pub(super) struct Loop {
    pub items: Rc<Items>,
    pub index: Cell<usize>,
    pub level: usize,
    pub changed: RefCell<Option<Vec<Value>>>,
    /// What `loop(…)` runs again, and where.
    pub again: Option<(Arc<For>, Rc<Scope>)>,
}

/// A dict in the order of insertion.
#[derive(Default, Clone)]
pub(super) struct Dict {
    entries: Vec<(Value, Value)>,
    /// Where the keys that are text are.
    texts: HashMap<Text, usize>,
    pub depth: usize,
}

impl Dict {
    pub fn get(&self, key: &Value) -> Option<&Value> {
        match key {
            Value::Text(text) => self.get_text(text),
            other => self.entries.iter().find(|(own, _)| own.is_key(other)).map(|(_, value)| value),
        }
    }

    pub fn get_text(&self, key: &str) -> Option<&Value> {
        self.texts.get(key).map(|index| &self.entries[*index].1)
    }

    pub fn insert(&mut self, key: Value, value: Value) {
        self.depth = self.depth.max(value.depth() + 1);
        let known = match &key {
            Value::Text(text) => self.texts.get(text).copied(),
            other => self.entries.iter().position(|(own, _)| own.is_key(other)),
        };
        if let Some(index) = known {
            self.entries[index].1 = value;
            return;
        }
        if let Value::Text(text) = &key {
            self.texts.insert(text.clone(), self.entries.len());
        }
        self.entries.push((key, value));
    }

    pub fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }
}

impl Value {
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Text::Made(Rc::new(Made { text: text.as_ref().into(), bytes: None })))
    }

    pub fn undefined(reason: impl AsRef<str>) -> Self {
        let reason = reason.as_ref();
        // A name in it may be as long as a text; what is read is the beginning.
        let end = (0..=LONGEST_REASON.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        Self::Undefined(Arc::from(&reason[..end]))
    }

    /// Levels of lists and dicts within.
    pub fn depth(&self) -> usize {
        match self {
            Self::List(items) | Self::Tuple(items) => items.depth,
            Self::Dict(dict) => dict.depth,
            Self::Method(method) => method.0.depth() + 1,
            Self::Cycler(cycler) => cycler.0.depth + 1,
            Self::Loop(state) => state.items.depth + 1,
            _ => 0,
        }
    }

    /// Whether two scalars are the same key of a dict.
    fn is_key(&self, other: &Self) -> bool {
        match (self.number(), other.number()) {
            (Some(left), Some(right)) => left == right,
            _ => match (self, other) {
                (Self::None, Self::None) => true,
                (Self::Text(left), Self::Text(right)) => left == right,
                (Self::Tuple(left), Self::Tuple(right)) => {
                    left.items.len() == right.items.len()
                        && left.items.iter().zip(&right.items).all(|(left, right)| left.is_key(right))
                }
                _ => false,
            },
        }
    }

    /// Whether it may be a key. Tuples within tuples may not: shared ones are a tree of any size in few bytes.
    pub fn is_hashable(&self) -> bool {
        match self {
            Self::Tuple(items) => items.items.iter().all(|item| !matches!(item, Self::Tuple(_)) && item.is_hashable()),
            Self::List(_) | Self::Dict(_) | Self::Namespace(_) => false,
            _ => true,
        }
    }

    /// The value of numbers and Booleans.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            Self::Integer(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of integers and Booleans.
    pub fn integer(&self) -> Option<i128> {
        match self {
            Self::Bool(value) => Some(i128::from(*value)),
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    pub fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Integer(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) | Self::Tuple(items) => !items.items.is_empty(),
            Self::Dict(dict) => !dict.entries.is_empty(),
            _ => true,
        }
    }

    /// Number of elements, where there is such a thing.
    pub fn length(&self) -> Option<usize> {
        match self {
            Self::Undefined(_) => Some(0),
            Self::Text(text) => Some(text.chars().count()),
            Self::List(items) | Self::Tuple(items) => Some(items.items.len()),
            Self::Dict(dict) => Some(dict.entries.len()),
            Self::Loop(state) => Some(state.items.items.len()),
            _ => None,
        }
    }

    /// The name of the type in Python.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Integer(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Namespace(_) => "Namespace",
            Self::Macro(_) => "Macro",
            Self::Loop(_) => "LoopContext",
            Self::Function(_) => "function",
            Self::Method(_) => "method",
            Self::Cycler(_) => "Cycler",
            Self::Joiner(_) => "Joiner",
        }
    }
}
