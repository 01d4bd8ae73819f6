use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::value::{Dict, Items, Made, Value, DEEPEST_VALUE};
use super::write::{self, Writer};

/// Evaluations within evaluations, macros that call themselves among them. Bounded by the stack of a thread.
const DEEPEST: usize = 220;

pub(super) struct Failure(pub String);

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self(message.to_string())
    }
}

pub(super) type Outcome<T> = Result<T, Failure>;

/// Names and their values; what is not here is looked for in the parent.
pub(super) struct Scope {
    pub names: RefCell<HashMap<Arc<str>, Value>>,
    pub parent: Option<Rc<Scope>>,
}

impl Scope {
    pub fn inner(parent: &Rc<Self>) -> Rc<Self> {
        Rc::new(Self { names: RefCell::default(), parent: Some(Rc::clone(parent)) })
    }

    pub fn set(&self, name: &Arc<str>, value: Value) {
        self.names.borrow_mut().insert(Arc::clone(name), value);
    }

    pub fn get(&self, name: &str) -> Option<Value> {
        let mut scope = self;
        loop {
            if let Some(value) = scope.names.borrow().get(name) {
                return Some(value.clone());
            }
            scope = scope.parent.as_deref()?;
        }
    }
}

/// Arguments of a call, evaluated.
#[derive(Default)]
pub(super) struct Given {
    pub positional: Vec<Value>,
    pub named: Vec<(Arc<str>, Value)>,
}

impl Given {
    /// The arguments in the order of `names`; refuses others.
    pub fn bind<const N: usize>(self, what: &str, names: [&str; N]) -> Outcome<[Option<Value>; N]> {
        let mut bound: [Option<Value>; N] = std::array::from_fn(|_| None);
        let count = self.positional.len();
        if count > N {
            return Err(format!("{what} takes at most {N} arguments, {count} were given").into());
        }
        for (place, value) in bound.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.named {
            let index = names.iter().position(|known| *known == &*name);
            let index = index.ok_or_else(|| format!("{what} got an unexpected argument '{name}'"))?;
            if bound[index].is_some() {
                return Err(format!("{what} got '{name}' twice").into());
            }
            bound[index] = Some(value);
        }
        Ok(bound)
    }
}

pub(super) struct Evaluator {
    pub steps: Cell<u64>,
    pub bytes: Rc<Cell<u64>>,
    pub depth: Cell<usize>,
    pub line: Cell<usize>,
    /// What may hold itself, directly or not; emptied at the end so that nothing stays behind.
    pub scopes: RefCell<Vec<Rc<Scope>>>,
    pub namespaces: RefCell<Vec<Rc<RefCell<Dict>>>>,
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        // All names are taken before any is dropped: every scope is still held by the list, so no chain is followed.
        let taken: Vec<_> = self.scopes.get_mut().iter().map(|scope| scope.names.take()).collect();
        let dicts: Vec<_> = self.namespaces.get_mut().iter().map(|names| names.take()).collect();
        drop(taken);
        drop(dicts);
    }
}

impl Evaluator {
    pub fn step(&self) -> Outcome<()> {
        self.steps(1)
    }

    pub fn steps(&self, count: usize) -> Outcome<()> {
        match self.steps.get().checked_sub(count as u64) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
            }
            None => Err("the template takes too many steps".into()),
        }
    }

    /// Accounts for bytes that are about to be made and count to the end.
    pub fn charge(&self, bytes: usize) -> Outcome<()> {
        match self.bytes.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.bytes.set(left);
                Ok(())
            }
            None => Err("the template makes too much text".into()),
        }
    }

    /// Refuses bytes that could not be charged. What is about to be made is a text, which is charged when it is there.
    pub fn room(&self, bytes: usize) -> Outcome<()> {
        if bytes as u64 > self.bytes.get() {
            return Err("the template makes too much text".into());
        }
        Ok(())
    }

    /// A text that counts as long as it exists; making it takes time.
    pub fn text(&self, text: String) -> Outcome<Value> {
        self.steps(text.len() / 256)?;
        let size = Made::size(text.len());
        self.charge(size as usize)?;
        Ok(Value::Text(Made::charged(text, &self.bytes)))
    }

    pub fn items(&self, items: Vec<Value>) -> Outcome<Rc<Items>> {
        self.charge(items.len() * 32 + 32)?;
        let depth = items.iter().map(Value::depth).max().unwrap_or(0) + 1;
        if depth > DEEPEST_VALUE {
            return Err(format!("a value is nested deeper than {DEEPEST_VALUE} levels").into());
        }
        Ok(Rc::new(Items { items, depth }))
    }

    pub fn list(&self, items: Vec<Value>) -> Outcome<Value> {
        self.items(items).map(Value::List)
    }

    pub fn tuple(&self, items: Vec<Value>) -> Outcome<Value> {
        self.items(items).map(Value::Tuple)
    }

    pub fn dict(&self, dict: Dict) -> Outcome<Value> {
        self.charge(dict.entries().len() * 128 + 64)?;
        if dict.depth > DEEPEST_VALUE {
            return Err(format!("a value is nested deeper than {DEEPEST_VALUE} levels").into());
        }
        Ok(Value::Dict(Rc::new(dict)))
    }

    pub fn namespace(&self, dict: Dict) -> Outcome<Value> {
        self.charge(dict.entries().len() * 128 + 128)?;
        let names = Rc::new(RefCell::new(dict));
        self.namespaces.borrow_mut().push(Rc::clone(&names));
        Ok(Value::Namespace(names))
    }

    pub fn string_of(&self, value: &Value) -> Outcome<String> {
        if let Value::Text(text) = value {
            self.steps(text.len() / 256)?;
            return Ok(text.to_string());
        }
        let mut writer = Writer { evaluator: self, text: String::new() };
        write::plain(&mut writer, value)?;
        Ok(writer.text)
    }

    pub fn repr_of(&self, value: &Value) -> Outcome<String> {
        let mut writer = Writer { evaluator: self, text: String::new() };
        write::repr(&mut writer, value, 0)?;
        Ok(writer.text)
    }

    /// The elements that a loop over a value sees.
    pub fn iterate(&self, value: &Value) -> Outcome<Vec<Value>> {
        let items: Vec<Value> = match value {
            Value::Undefined(_) => Vec::new(),
            Value::List(items) | Value::Tuple(items) => {
                self.steps(items.items.len())?;
                self.charge(items.items.len() * 32)?;
                items.items.clone()
            }
            Value::Text(text) => {
                self.steps(text.len())?;
                self.charge(text.len() * 64)?;
                text.chars().map(|character| Value::text(character.encode_utf8(&mut [0; 4]))).collect()
            }
            Value::Dict(dict) => {
                self.steps(dict.entries().len())?;
                dict.entries().iter().map(|(key, _)| key.clone()).collect()
            }
            other => return Err(format!("'{}' object is not iterable", other.kind()).into()),
        };
        Ok(items)
    }

    pub fn deeper<T>(&self, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let depth = self.depth.get();
        if depth >= DEEPEST {
            return Err(format!("the template nests calls deeper than {DEEPEST} levels").into());
        }
        self.depth.set(depth + 1);
        let result = work();
        self.depth.set(depth);
        result
    }

    pub fn emit(&self, output: &mut String, text: &str) -> Outcome<()> {
        self.charge(text.len())?;
        output.push_str(text);
        Ok(())
    }
}
