use std::cmp::Ordering;

use super::evaluate::{Evaluator, Given, Outcome};
use super::filter_texts::title;
use super::text_methods::{capitalized, strip, Side};
use super::value::Value;

/// Every filter that there is.
pub(super) const KNOWN: [&str; 46] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "wordcount",
];

impl Evaluator {
    /// `value|name(arguments)`.
    pub fn filter(&self, name: &str, value: &Value, given: Given) -> Outcome<Value> {
        self.step()?;
        match name {
            "default" | "d" => {
                let [default, boolean] = given.bind(name, ["default_value", "boolean"])?;
                let boolean = boolean.is_some_and(|boolean| boolean.is_true());
                let absent = matches!(value, Value::Undefined(_)) || (boolean && !value.is_true());
                Ok(if absent { default.unwrap_or_else(|| Value::text("")) } else { value.clone() })
            }
            "safe" | "string" => {
                let [] = given.bind(name, [])?;
                match value {
                    Value::Text(_) => Ok(value.clone()),
                    other => self.text(self.string_of(other)?),
                }
            }
            "upper" | "lower" | "capitalize" | "title" => {
                let [] = given.bind(name, [])?;
                let text = self.string_of(value)?;
                self.text(match name {
                    "upper" => text.to_uppercase(),
                    "lower" => text.to_lowercase(),
                    "capitalize" => capitalized(&text),
                    _ => title(&text),
                })
            }
            "trim" => {
                let [characters] = given.bind(name, ["chars"])?;
                let text = self.string_of(value)?;
                let characters = match characters {
                    None | Some(Value::None) => None,
                    Some(characters) => Some(self.string_of(&characters)?),
                };
                self.steps(text.len() / 16 * characters.as_ref().map_or(1, String::len))?;
                self.text(strip(&text, characters.as_deref(), Side::Both).to_string())
            }
            "escape" | "e" | "forceescape" => {
                let [] = given.bind(name, [])?;
                let text = self.string_of(value)?;
                self.room(text.len() * 5)?;
                let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                self.text(text.replace('"', "&#34;").replace('\'', "&#39;"))
            }
            "length" | "count" => {
                let [] = given.bind(name, [])?;
                if let Value::Text(text) = value {
                    self.steps(text.len() / 16)?;
                }
                let length = value.length();
                let length = length.ok_or_else(|| format!("object of type '{}' has no len()", value.kind()))?;
                Ok(Value::Integer(length as i128))
            }
            "first" | "last" => {
                let [] = given.bind(name, [])?;
                let found = match value {
                    Value::List(items) | Value::Tuple(items) => {
                        if name == "first" { items.items.first() } else { items.items.last() }.cloned()
                    }
                    other => {
                        let items = self.iterate(other)?;
                        if name == "first" { items.first() } else { items.last() }.cloned()
                    }
                };
                Ok(found.unwrap_or_else(|| Value::undefined(format!("No {name} item, sequence was empty."))))
            }
            "list" => {
                let [] = given.bind(name, [])?;
                self.list(self.iterate(value)?)
            }
            "items" => {
                let [] = given.bind(name, [])?;
                match value {
                    Value::Undefined(_) => self.list(Vec::new()),
                    Value::Dict(dict) => self.pairs(dict),
                    _ => Err("Can only get item pairs from a mapping.".into()),
                }
            }
            "reverse" => {
                let [] = given.bind(name, [])?;
                if let Value::Text(text) = value {
                    return self.text(text.chars().rev().collect());
                }
                let mut items = self.iterate(value)?;
                items.reverse();
                self.list(items)
            }
            "int" | "float" => self.number_filter(name, value, given),
            "abs" => {
                let [] = given.bind(name, [])?;
                match value {
                    Value::Float(number) => Ok(Value::Float(number.abs())),
                    other => {
                        let number = other.integer().and_then(i128::checked_abs);
                        let number = number.ok_or_else(|| format!("bad operand type for abs(): '{}'", other.kind()))?;
                        Ok(Value::Integer(number))
                    }
                }
            }
            "round" => self.round(value, given),
            "replace" => {
                let [old, new, count] = given.bind(name, ["old", "new", "count"])?;
                let (Some(old), Some(new)) = (old, new) else { return Err("replace needs two texts".into()) };
                let (text, old, new) = (self.string_of(value)?, self.string_of(&old)?, self.string_of(&new)?);
                let count = match count {
                    None | Some(Value::None) => None,
                    Some(count) => count.integer(),
                };
                self.replace(&text, &old, &new, count)
            }
            "join" => {
                let [separator, attribute] = given.bind(name, ["d", "attribute"])?;
                let separator = separator.map_or(Ok(String::new()), |separator| self.string_of(&separator))?;
                let path = attribute.map(|attribute| self.path(&attribute)).transpose()?;
                let mut text = String::new();
                for (index, item) in self.iterate(value)?.into_iter().enumerate() {
                    if index > 0 {
                        self.room(text.len() + separator.len())?;
                        text.push_str(&separator);
                    }
                    let item = match &path {
                        Some(path) => self.follow(path, &item)?,
                        None => item,
                    };
                    text.push_str(&self.string_of(&item)?);
                }
                self.text(text)
            }
            "attr" => {
                let [attribute] = given.bind(name, ["name"])?;
                let attribute = attribute.ok_or("attr needs a name")?;
                let Value::Text(attribute) = self.text(self.string_of(&attribute)?)? else {
                    return Err("attr needs a name".into());
                };
                match value {
                    // Only attributes, never items.
                    Value::Dict(_) if !super::methods::has(value, &attribute) => {
                        Ok(Value::undefined(format!("'dict object' has no attribute '{}'", &*attribute)))
                    }
                    _ => self.attribute(value, &attribute),
                }
            }
            "map" => self.map(value, given),
            "select" | "reject" | "selectattr" | "rejectattr" => self.select(name, value, given),
            "sort" => {
                let [reverse, case_sensitive, attribute] =
                    given.bind(name, ["reverse", "case_sensitive", "attribute"])?;
                let case = case_sensitive.is_some_and(|case| case.is_true());
                let mut items = self.iterate(value)?;
                let paths = match &attribute {
                    Some(attribute) => {
                        let names = self.string_of(attribute)?;
                        names.split(',').map(|name| self.path(&Value::text(name))).collect::<Outcome<Vec<_>>>()?
                    }
                    None => Vec::new(),
                };
                self.sort(&mut items, reverse.is_some_and(|reverse| reverse.is_true()), case, |item| {
                    paths.iter().map(|path| self.follow(path, item)).collect::<Outcome<Vec<_>>>().map(|mut keys| {
                        if keys.is_empty() {
                            keys.push(item.clone());
                        }
                        keys
                    })
                })?;
                self.list(items)
            }
            "dictsort" => {
                let [case_sensitive, by, reverse] = given.bind(name, ["case_sensitive", "by", "reverse"])?;
                let Value::Dict(dict) = value else { return Err("dictsort needs a dict".into()) };
                let by_value = match by {
                    Some(by) => self.string_of(&by)? == "value",
                    None => false,
                };
                let mut pairs = self.iterate(&self.pairs(dict)?)?;
                let case = case_sensitive.is_some_and(|case| case.is_true());
                self.sort(&mut pairs, reverse.is_some_and(|reverse| reverse.is_true()), case, |pair| {
                    Ok(vec![self.item(pair, &Value::Integer(i128::from(by_value)))?])
                })?;
                self.list(pairs)
            }
            "unique" => {
                let [case_sensitive, attribute] = given.bind(name, ["case_sensitive", "attribute"])?;
                let case = case_sensitive.is_some_and(|case| case.is_true());
                let path = attribute.map(|attribute| self.path(&attribute)).transpose()?;
                let mut seen: Vec<Value> = Vec::new();
                let mut kept = Vec::new();
                for item in self.iterate(value)? {
                    let key = match &path {
                        Some(path) => self.follow(path, &item)?,
                        None => item.clone(),
                    };
                    let key = self.folded(key, case)?;
                    let mut known = false;
                    for other in &seen {
                        known = known || self.equal(other, &key, 0)?;
                    }
                    if !known {
                        seen.push(key);
                        kept.push(item);
                    }
                }
                self.list(kept)
            }
            "min" | "max" => {
                let [case_sensitive, attribute] = given.bind(name, ["case_sensitive", "attribute"])?;
                let case = case_sensitive.is_some_and(|case| case.is_true());
                let path = attribute.map(|attribute| self.path(&attribute)).transpose()?;
                let mut best: Option<(Value, Value)> = None;
                for item in self.iterate(value)? {
                    let key = match &path {
                        Some(path) => self.follow(path, &item)?,
                        None => item.clone(),
                    };
                    let key = self.folded(key, case)?;
                    let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
                    let better = match &best {
                        None => true,
                        Some((other, _)) => self.order("<", &key, other, 0)? == Some(wanted),
                    };
                    if better {
                        best = Some((key, item));
                    }
                }
                Ok(best.map_or_else(|| Value::undefined("No aggregated item, sequence was empty."), |(_, item)| item))
            }
            "sum" => {
                let [attribute, start] = given.bind(name, ["attribute", "start"])?;
                let path = match attribute {
                    None | Some(Value::None) => None,
                    Some(attribute) => Some(self.path(&attribute)?),
                };
                let mut total = start.unwrap_or(Value::Integer(0));
                for item in self.iterate(value)? {
                    let item = match &path {
                        Some(path) => self.follow(path, &item)?,
                        None => item,
                    };
                    total = self.binary("+", &total, &item)?;
                }
                Ok(total)
            }
            "groupby" => {
                let [attribute, default, case_sensitive] =
                    given.bind(name, ["attribute", "default", "case_sensitive"])?;
                let path = self.path(&attribute.ok_or("groupby needs an attribute")?)?;
                let case = case_sensitive.is_some_and(|case| case.is_true());
                let key_of = |item: &Value| -> Outcome<Value> {
                    let key = self.follow(&path, item)?;
                    Ok(match (&key, &default) {
                        (Value::Undefined(_), Some(default)) => default.clone(),
                        _ => key,
                    })
                };
                let mut items = self.iterate(value)?;
                self.sort(&mut items, false, case, |item| Ok(vec![key_of(item)?]))?;
                let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
                for item in items {
                    let key = key_of(&item)?;
                    let folded = self.folded(key.clone(), case)?;
                    match groups.last_mut() {
                        Some((last, group)) if self.equal(&self.folded(last.clone(), case)?, &folded, 0)? => {
                            group.push(item)
                        }
                        _ => groups.push((key, vec![item])),
                    }
                }
                let groups = groups.into_iter().map(|(key, group)| self.tuple(vec![key, self.list(group)?]));
                self.list(groups.collect::<Outcome<Vec<_>>>()?)
            }
            "batch" | "slice" => self.parts(name, value, given),
            "indent" => self.indent(value, given),
            "center" => {
                let [width] = given.bind(name, ["width"])?;
                let width = width.and_then(|width| width.integer()).unwrap_or(80).clamp(0, 1 << 30) as usize;
                let text = self.string_of(value)?;
                self.centered(&text, width, ' ')
            }
            "truncate" => self.truncate(value, given),
            "wordcount" => {
                let [] = given.bind(name, [])?;
                let text = self.string_of(value)?;
                let words = text.split(|character: char| !character.is_alphanumeric() && character != '_');
                Ok(Value::Integer(words.filter(|word| !word.is_empty()).count() as i128))
            }
            "format" => {
                let format = self.string_of(value)?;
                if !given.named.is_empty() {
                    return Err("format with names is not supported".into());
                }
                let values = self.tuple(given.positional)?;
                self.percent_format(&format, &values)
            }
            "tojson" => self.tojson(value, given),
            _ => Err(format!("no filter is named {name:?}").into()),
        }
    }
}
