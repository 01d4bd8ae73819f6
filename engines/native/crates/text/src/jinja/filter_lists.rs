//! Filters on lists and dicts.

use std::cmp::Ordering;

use super::evaluate::{Evaluator, Given, Outcome};
use super::value::{Dict, Value};

/// What a sort key, or a sum, is taken from.
pub(super) struct Path(Vec<Value>);

impl Evaluator {
    pub fn pairs(&self, dict: &Dict) -> Outcome<Value> {
        self.steps(dict.entries().len())?;
        let pairs = dict.entries().iter().map(|(key, value)| self.tuple(vec![key.clone(), value.clone()]));
        self.list(pairs.collect::<Outcome<Vec<_>>>()?)
    }

    /// `a.b.0` as keys.
    pub fn path(&self, attribute: &Value) -> Outcome<Path> {
        if let Some(index) = attribute.integer() {
            return Ok(Path(vec![Value::Integer(index)]));
        }
        let text = self.string_of(attribute)?;
        Ok(Path(
            text.split('.')
                .map(|part| match part.parse::<u32>() {
                    Ok(index) => Value::Integer(index.into()),
                    Err(_) => Value::text(part),
                })
                .collect(),
        ))
    }

    pub fn follow(&self, path: &Path, value: &Value) -> Outcome<Value> {
        path.0.iter().try_fold(value.clone(), |value, key| self.item(&value, key))
    }

    pub fn folded(&self, key: Value, case_sensitive: bool) -> Outcome<Value> {
        match &key {
            Value::Text(text) if !case_sensitive => self.text(text.to_lowercase()),
            _ => Ok(key),
        }
    }

    pub fn sort(
        &self,
        items: &mut Vec<Value>,
        reverse: bool,
        case_sensitive: bool,
        keys_of: impl Fn(&Value) -> Outcome<Vec<Value>>,
    ) -> Outcome<()> {
        let mut keyed = Vec::with_capacity(items.len());
        for item in items.drain(..) {
            let keys = keys_of(&item)?.into_iter().map(|key| self.folded(key, case_sensitive));
            keyed.push((keys.collect::<Outcome<Vec<_>>>()?, item));
        }
        let mut failure = None;
        keyed.sort_by(|(left, _), (right, _)| {
            for (left, right) in left.iter().zip(right) {
                match self.order("<", left, right, 0) {
                    Ok(Some(Ordering::Equal) | None) => {}
                    Ok(Some(order)) => return if reverse { order.reverse() } else { order },
                    Err(error) => {
                        failure = Some(error);
                        return Ordering::Equal;
                    }
                }
            }
            Ordering::Equal
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        items.extend(keyed.into_iter().map(|(_, item)| item));
        Ok(())
    }

    pub fn map(&self, value: &Value, mut given: Given) -> Outcome<Value> {
        let items = self.iterate(value)?;
        let mut mapped = Vec::with_capacity(items.len());
        if given.positional.is_empty() {
            let [attribute, default] = given.bind("map", ["attribute", "default"])?;
            let path = self.path(&attribute.ok_or("map requires a filter argument")?)?;
            for item in items {
                let found = self.follow(&path, &item)?;
                mapped.push(match (&found, &default) {
                    (Value::Undefined(_), Some(default)) => default.clone(),
                    _ => found,
                });
            }
        } else {
            let filter = self.string_of(&given.positional.remove(0))?;
            for item in items {
                let given = Given { positional: given.positional.clone(), named: given.named.clone() };
                mapped.push(self.filter(&filter, &item, given)?);
            }
        }
        self.list(mapped)
    }

    pub fn select(&self, name: &str, value: &Value, mut given: Given) -> Outcome<Value> {
        let path = if name.ends_with("attr") {
            if given.positional.is_empty() {
                return Err(format!("{name} needs an attribute").into());
            }
            Some(self.path(&given.positional.remove(0))?)
        } else {
            None
        };
        let test = if given.positional.is_empty() { None } else { Some(self.string_of(&given.positional.remove(0))?) };
        let mut kept = Vec::new();
        for item in self.iterate(value)? {
            let tested = match &path {
                Some(path) => self.follow(path, &item)?,
                None => item.clone(),
            };
            let holds = match &test {
                None => tested.is_true(),
                Some(test) => {
                    let given = Given { positional: given.positional.clone(), named: given.named.clone() };
                    self.test(test, &tested, given)?
                }
            };
            if holds == name.starts_with("select") {
                kept.push(item);
            }
        }
        self.list(kept)
    }

    pub fn parts(&self, name: &str, value: &Value, given: Given) -> Outcome<Value> {
        let count_name = if name == "batch" { "linecount" } else { "slices" };
        let [count, fill] = given.bind(name, [count_name, "fill_with"])?;
        let count = count.and_then(|count| count.integer()).filter(|count| (1..=100_000).contains(count));
        let count = count.ok_or_else(|| format!("{name} needs a count from 1 to 100000"))? as usize;
        let fill = fill.filter(|fill| !matches!(fill, Value::None));
        let items = self.iterate(value)?;
        let mut parts = Vec::new();
        if name == "batch" {
            for part in items.chunks(count) {
                let mut part = part.to_vec();
                if let Some(fill) = &fill {
                    self.charge((count - part.len()) * 32)?;
                    part.resize(count, fill.clone());
                }
                parts.push(self.list(part)?);
            }
        } else {
            self.steps(count)?;
            let (length, longer) = (items.len() / count, items.len() % count);
            let mut start = 0;
            for index in 0..count {
                let end = start + length + usize::from(index < longer);
                let mut part = items[start..end].to_vec();
                if index >= longer && longer > 0 {
                    part.extend(fill.clone());
                }
                parts.push(self.list(part)?);
                start = end;
            }
        }
        self.list(parts)
    }
}
