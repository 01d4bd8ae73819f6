//! What belongs to a value: attributes, items and slices.

use std::rc::Rc;

use super::evaluate::{Evaluator, Outcome};
use super::value::{Loop, Text, Value};

impl Evaluator {
    /// `value.name`: methods first, then items, as Jinja's `getattr`.
    pub fn attribute(&self, value: &Value, name: &Text) -> Outcome<Value> {
        if let Value::Undefined(reason) = value {
            return Err(reason.to_string().into());
        }
        if let Some(found) = self.own_attribute(value, name)? {
            return Ok(found);
        }
        match value {
            Value::Dict(dict) => Ok(dict.get_text(name).cloned().unwrap_or_else(|| missing(value, name))),
            _ => Ok(missing(value, name)),
        }
    }

    pub fn own_attribute(&self, value: &Value, name: &Text) -> Outcome<Option<Value>> {
        if super::methods::has(value, name) {
            self.charge(96)?;
            return Ok(Some(Value::Method(Rc::new((value.clone(), name.clone())))));
        }
        Ok(match value {
            Value::Namespace(names) => names.borrow().get_text(name).cloned(),
            Value::Loop(state) => loop_attribute(state, name),
            Value::Cycler(cycler) if &**name == "current" => cycler.0.items.get(*cycler.1.borrow()).cloned(),
            Value::Macro(closure) if &**name == "name" => Some(Value::Text((&closure.definition.name).into())),
            _ => None,
        })
    }

    /// `value[key]`: items first, then methods, as Jinja's `getitem`.
    pub fn item(&self, value: &Value, key: &Value) -> Outcome<Value> {
        let found = match (value, key) {
            (Value::Undefined(reason), _) => return Err(reason.to_string().into()),
            (Value::Dict(dict), key) => {
                match key {
                    Value::Text(text) => self.steps(text.len() / 64)?,
                    _ => self.steps(dict.entries().len())?,
                }
                dict.get(key).cloned()
            }
            (Value::Text(text), key) if key.integer().is_some() => {
                self.steps(text.len() / 16)?;
                let index = position(key.integer(), || text.chars().count());
                index.and_then(|index| text.chars().nth(index)).map(|c| Value::text(c.encode_utf8(&mut [0; 4])))
            }
            (Value::List(items) | Value::Tuple(items), key) if key.integer().is_some() => {
                position(key.integer(), || items.items.len()).and_then(|index| items.items.get(index)).cloned()
            }
            _ => None,
        };
        match (found, key) {
            (Some(found), _) => Ok(found),
            (None, Value::Text(name)) => Ok(self.own_attribute(value, name)?.unwrap_or_else(|| missing(value, name))),
            (None, key) => {
                let key = self.repr_of(key)?;
                Ok(missing(value, &key))
            }
        }
    }

    /// `value[start:stop:step]` of Python.
    pub fn slice(&self, value: &Value, [start, stop, step]: [Option<i128>; 3]) -> Outcome<Value> {
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err("slice step cannot be zero".into());
        }
        let indices = |length: usize| -> Vec<usize> {
            let length = length as i128;
            let clamp = |bound: i128, low: i128, high: i128| {
                (if bound < 0 { bound.saturating_add(length) } else { bound }).clamp(low, high)
            };
            let (mut at, end) = if step > 0 {
                (clamp(start.unwrap_or(0), 0, length), clamp(stop.unwrap_or(length), 0, length))
            } else {
                let start = start.map_or(length - 1, |bound| clamp(bound, -1, length - 1));
                (start, stop.map_or(-1, |bound| clamp(bound, -1, length - 1)))
            };
            let mut indices = Vec::new();
            while if step > 0 { at < end } else { at > end } {
                indices.push(at as usize);
                at = at.saturating_add(step);
            }
            indices
        };
        match value {
            Value::Text(text) => {
                self.steps(text.len() / 8)?;
                let characters: Vec<char> = text.chars().collect();
                self.text(indices(characters.len()).into_iter().map(|index| characters[index]).collect())
            }
            Value::List(items) | Value::Tuple(items) => {
                self.charge(items.items.len() * 8)?;
                let part = indices(items.items.len()).into_iter().map(|index| items.items[index].clone()).collect();
                if matches!(value, Value::List(_)) {
                    self.list(part)
                } else {
                    self.tuple(part)
                }
            }
            Value::Undefined(reason) => Err(reason.to_string().into()),
            other => Err(format!("'{}' object is not subscriptable", other.kind()).into()),
        }
    }
}

/// The index from the front of an index that may count from the back.
fn position(index: Option<i128>, length: impl Fn() -> usize) -> Option<usize> {
    let index = index?;
    let index = if index < 0 { index.checked_add(length() as i128)? } else { index };
    usize::try_from(index).ok()
}

fn missing(value: &Value, name: &str) -> Value {
    Value::undefined(match value {
        Value::None => format!("'None' has no attribute '{name}'"),
        other => format!("'{} object' has no attribute '{name}'", other.kind()),
    })
}

fn loop_attribute(state: &Loop, name: &str) -> Option<Value> {
    let index = state.index.get();
    let length = state.items.items.len();
    let number = |number: usize| Some(Value::Integer(number as i128));
    let neighbour = |item: Option<&Value>, which: &str| {
        Some(item.cloned().unwrap_or_else(|| Value::undefined(format!("there is no {which} item"))))
    };
    match name {
        "index" => number(index + 1),
        "index0" => number(index),
        "revindex" => number(length - index),
        "revindex0" => number(length - index - 1),
        "first" => Some(Value::Bool(index == 0)),
        "last" => Some(Value::Bool(index + 1 == length)),
        "length" => number(length),
        "depth" => number(state.level + 1),
        "depth0" => number(state.level),
        "previtem" => neighbour(index.checked_sub(1).and_then(|before| state.items.items.get(before)), "previous"),
        "nextitem" => neighbour(state.items.items.get(index + 1), "next"),
        _ => None,
    }
}
