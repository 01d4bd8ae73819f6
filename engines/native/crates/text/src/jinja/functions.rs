use std::cell::RefCell;
use std::rc::Rc;

use super::evaluate::{Evaluator, Given, Outcome};
use super::value::{Dict, Value};

/// As Jinja's sandbox.
const LONGEST_RANGE: i128 = 100_000;

/// There is no clock (`strftime_now`) and no chance (`lipsum`): a template gives the same text every time.
const KNOWN: [&str; 6] = ["range", "dict", "namespace", "cycler", "joiner", "raise_exception"];

pub(super) fn known(name: &str) -> Option<&'static str> {
    KNOWN.iter().copied().find(|known| *known == name)
}

impl Evaluator {
    pub fn call_function(&self, name: &str, given: Given) -> Outcome<Value> {
        match name {
            "range" => {
                let bounds = given.bind("range", ["start", "stop", "step"])?;
                let mut numbers = [0; 3];
                let mut count = 0;
                for bound in bounds.into_iter().flatten() {
                    let number = bound.integer();
                    numbers[count] = number.ok_or_else(|| format!("range needs integers, not {}", bound.kind()))?;
                    count += 1;
                }
                let (start, stop, step) = match count {
                    1 => (0, numbers[0], 1),
                    2 => (numbers[0], numbers[1], 1),
                    3 => (numbers[0], numbers[1], numbers[2]),
                    _ => return Err("range needs 1 to 3 integers".into()),
                };
                if step == 0 {
                    return Err("range() arg 3 must not be zero".into());
                }
                let span = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
                let length = if span <= 0 { 0 } else { (span - 1) / step.saturating_abs() + 1 };
                if length > LONGEST_RANGE {
                    return Err(format!("the range is too big: {length}; {LONGEST_RANGE} is allowed").into());
                }
                self.steps(length as usize)?;
                self.charge(length as usize * 32)?;
                self.list((0..length).map(|index| Value::Integer(start + index * step)).collect())
            }
            "dict" => {
                let dict = self.dict_of(given)?;
                self.dict(dict)
            }
            "namespace" => {
                let dict = self.dict_of(given)?;
                let names = dict.entries().iter().map(|(name, _)| name);
                for name in names {
                    if matches!(name, Value::Text(name) if name.starts_with('_')) {
                        return Err("a namespace can not have attributes that begin with an underscore".into());
                    }
                }
                self.namespace(dict)
            }
            "cycler" => {
                if given.positional.is_empty() || !given.named.is_empty() {
                    return Err("cycler needs items".into());
                }
                self.charge(64)?;
                let items = self.items(given.positional)?;
                Ok(Value::Cycler(Rc::new((items, RefCell::new(0)))))
            }
            "joiner" => {
                let [separator] = given.bind("joiner", ["sep"])?;
                let separator = self.string_of(&separator.unwrap_or_else(|| Value::text(", ")))?;
                let Value::Text(separator) = self.text(separator)? else { return Err("joiner needs a text".into()) };
                Ok(Value::Joiner(Rc::new((separator, RefCell::new(false)))))
            }
            _ => {
                let [message] = given.bind("raise_exception", ["message"])?;
                let message = message.ok_or("raise_exception needs a message")?;
                Err(self.string_of(&message)?.into())
            }
        }
    }

    /// `dict(pairs_or_dict, name=value …)`.
    fn dict_of(&self, given: Given) -> Outcome<Dict> {
        let mut dict = Dict::default();
        if given.positional.len() > 1 {
            return Err("dict takes at most 1 argument".into());
        }
        match given.positional.first() {
            None => {}
            Some(Value::Dict(other)) => {
                self.charge(other.entries().len() * 128)?;
                dict = (**other).clone();
            }
            Some(other) => {
                for pair in self.iterate(other)? {
                    let pair = self.iterate(&pair)?;
                    let [key, value] = <[Value; 2]>::try_from(pair).map_err(|_| "dict needs pairs")?;
                    if !key.is_hashable() {
                        return Err(format!("unhashable type: '{}'", key.kind()).into());
                    }
                    self.charge(128)?;
                    if !matches!(key, Value::Text(_)) {
                        self.steps(dict.entries().len())?;
                    }
                    dict.insert(key, value);
                }
            }
        }
        for (name, value) in given.named {
            dict.insert(Value::Text((&name).into()), value);
        }
        Ok(dict)
    }
}
