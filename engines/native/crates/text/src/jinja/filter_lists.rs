//! Filters on lists and dicts.

use std::cmp::Ordering;

use super::evaluate::{Evaluator, Given, Outcome};
use super::value::{Dict, Value};

/// What a sort key, or a sum, is taken from.
pub(super) struct Path(Vec<Value>);

/// Parts of an attribute path.
const MOST_PARTS: usize = 64;

/// An item and what it is sorted by.
type Keyed = (Vec<Value>, Value);
/// Which of two keys comes first.
type Order<'a> = dyn Fn(&[Value], &[Value]) -> Outcome<Ordering> + 'a;

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
        if text.bytes().filter(|byte| *byte == b'.').count() >= MOST_PARTS {
            return Err(format!("an attribute path has more than {MOST_PARTS} parts").into());
        }
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
        path.0.iter().try_fold(value.clone(), |value, key| {
            self.step()?;
            self.item(&value, key)
        })
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
        let keyed = self.merged(keyed, &|left: &[Value], right: &[Value]| {
            for (left, right) in left.iter().zip(right) {
                match self.order("<", left, right, 0)? {
                    Some(Ordering::Equal) | None => {}
                    Some(order) => return Ok(if reverse { order.reverse() } else { order }),
                }
            }
            Ok(Ordering::Equal)
        })?;
        items.extend(keyed.into_iter().map(|(_, item)| item));
        Ok(())
    }

    /// Merge sort that stops at the first failure. The order of a template's values need be none (NaN, integers beside
    /// floats), which the library's sort may answer with a panic.
    fn merged(&self, items: Vec<Keyed>, order: &Order<'_>) -> Outcome<Vec<Keyed>> {
        if items.len() < 2 {
            return Ok(items);
        }
        let mut left = items;
        let right = left.split_off(left.len() / 2);
        let mut left = self.merged(left, order)?.into_iter().peekable();
        let mut right = self.merged(right, order)?.into_iter().peekable();
        let mut merged = Vec::with_capacity(left.len() + right.len());
        while let (Some((a, _)), Some((b, _))) = (left.peek(), right.peek()) {
            let next = if order(a, b)? == Ordering::Greater { right.next() } else { left.next() };
            merged.extend(next);
        }
        merged.extend(left);
        merged.extend(right);
        Ok(merged)
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
