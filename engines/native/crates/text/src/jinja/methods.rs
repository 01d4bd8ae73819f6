use super::evaluate::{Evaluator, Given, Outcome};
use super::value::{Loop, Value};

const TEXT: [&str; 40] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];
const DICT: [&str; 5] = ["copy", "get", "items", "keys", "values"];
const SEQUENCE: [&str; 3] = ["copy", "count", "index"];
/// What the sandbox knows and refuses, because it would change a value.
const CHANGING_LIST: [&str; 8] = ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];
const CHANGING_DICT: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];

/// Whether a value has a method of the name.
pub(super) fn has(value: &Value, name: &str) -> bool {
    match value {
        Value::Text(_) => TEXT.contains(&name),
        Value::Dict(_) => DICT.contains(&name) || CHANGING_DICT.contains(&name),
        Value::List(_) => SEQUENCE.contains(&name) || CHANGING_LIST.contains(&name),
        Value::Tuple(_) => SEQUENCE[1..].contains(&name),
        Value::Loop(_) => matches!(name, "cycle" | "changed"),
        Value::Cycler(_) => matches!(name, "next" | "reset"),
        Value::Float(_) => name == "is_integer",
        _ => false,
    }
}

impl Evaluator {
    pub fn call_method(&self, value: &Value, name: &str, given: Given) -> Outcome<Value> {
        match value {
            Value::Text(text) => self.text_method(text, name, given),
            Value::Dict(dict) => match name {
                "get" => {
                    let [key, default] = given.bind("get", ["key", "default"])?;
                    let key = key.ok_or("get needs a key")?;
                    if !key.is_hashable() {
                        return Err(format!("unhashable type: '{}'", key.kind()).into());
                    }
                    if !matches!(key, Value::Text(_)) {
                        self.steps(dict.entries().len())?;
                    }
                    Ok(dict.get(&key).cloned().or(default).unwrap_or(Value::None))
                }
                "items" | "keys" | "values" | "copy" => {
                    let [] = given.bind(name, [])?;
                    self.steps(dict.entries().len())?;
                    match name {
                        "items" => self.pairs(dict),
                        "keys" => self.list(dict.entries().iter().map(|(key, _)| key.clone()).collect()),
                        "values" => self.list(dict.entries().iter().map(|(_, value)| value.clone()).collect()),
                        _ => Ok(value.clone()),
                    }
                }
                _ => Err(format!("'dict' object is immutable here: {name} is not allowed").into()),
            },
            Value::List(items) | Value::Tuple(items) => match name {
                "copy" => {
                    let [] = given.bind(name, [])?;
                    Ok(value.clone())
                }
                "count" | "index" => {
                    let [wanted] = given.bind(name, ["value"])?;
                    let wanted = wanted.ok_or_else(|| format!("{name} needs a value"))?;
                    let mut count = 0;
                    for (index, item) in items.items.iter().enumerate() {
                        if self.equal(item, &wanted, 0)? {
                            if name == "index" {
                                return Ok(Value::Integer(index as i128));
                            }
                            count += 1;
                        }
                    }
                    if name == "index" {
                        return Err(format!("{} is not in list", self.repr_of(&wanted)?).into());
                    }
                    Ok(Value::Integer(count))
                }
                _ => Err(format!("'list' object is immutable here: {name} is not allowed").into()),
            },
            Value::Loop(state) => self.loop_method(state, name, given),
            Value::Cycler(cycler) => {
                let [] = given.bind(name, [])?;
                let mut position = cycler.1.borrow_mut();
                if name == "reset" {
                    *position = 0;
                    return Ok(Value::None);
                }
                let current = cycler.0.items[*position].clone();
                *position = (*position + 1) % cycler.0.items.len();
                Ok(current)
            }
            Value::Float(number) => Ok(Value::Bool(number.fract() == 0.0)),
            other => Err(format!("'{}' object has no method {name}", other.kind()).into()),
        }
    }

    fn only_data(&self, value: &Value) -> Outcome<()> {
        self.step()?;
        match value {
            Value::List(items) | Value::Tuple(items) => items.items.iter().try_for_each(|item| self.only_data(item)),
            Value::Dict(dict) => dict.entries().iter().try_for_each(|(_, value)| self.only_data(value)),
            Value::Loop(_) | Value::Namespace(_) | Value::Macro(_) | Value::Cycler(_) | Value::Joiner(_) => {
                Err(format!("loop.changed compares data, not {}", value.kind()).into())
            }
            _ => Ok(()),
        }
    }

    pub fn loop_method(&self, state: &Loop, name: &str, given: Given) -> Outcome<Value> {
        if !given.named.is_empty() {
            return Err(format!("loop.{name} takes no named arguments").into());
        }
        if name == "cycle" {
            let count = given.positional.len();
            if count == 0 {
                return Err("no items for cycling given".into());
            }
            return Ok(given.positional[state.index.get() % count].clone());
        }
        // What is kept here must not lead back to a loop: nothing would ever free such a circle.
        for value in &given.positional {
            self.only_data(value)?;
        }
        let mut last = state.changed.borrow_mut();
        let same = match &*last {
            Some(last) if last.len() == given.positional.len() => {
                let mut same = true;
                for (left, right) in last.iter().zip(&given.positional) {
                    same = same && self.equal(left, right, 0)?;
                }
                same
            }
            _ => false,
        };
        *last = Some(given.positional);
        Ok(Value::Bool(!same))
    }
}
