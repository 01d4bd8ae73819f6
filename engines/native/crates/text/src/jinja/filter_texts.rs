//! Filters on texts and numbers.

use super::evaluate::{Evaluator, Given, Outcome};
use super::text_methods::title_case;
use super::value::Value;
use super::write::{self, JsonStyle, Writer};

impl Evaluator {
    pub fn replace(&self, text: &str, old: &str, new: &str, count: Option<i128>) -> Outcome<Value> {
        let count = count.filter(|count| *count >= 0).map_or(usize::MAX, |count| count.min(1 << 40) as usize);
        self.steps(text.len() / 16)?;
        let found = text.matches(old).count().min(count);
        self.room(text.len().saturating_add(found.saturating_mul(new.len())))?;
        self.text(text.replacen(old, new, count))
    }

    pub fn centered(&self, text: &str, width: usize, fill: char) -> Outcome<Value> {
        let missing = width.saturating_sub(text.chars().count());
        self.room(missing * fill.len_utf8())?;
        // Python puts the odd one to the left where the width is odd.
        let left = missing / 2 + (missing & width & 1);
        let side = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
        self.text([&*side(left), text, &*side(missing - left)].concat())
    }

    pub fn number_filter(&self, name: &str, value: &Value, given: Given) -> Outcome<Value> {
        let (default, base) = if name == "int" {
            let [default, base] = given.bind(name, ["default", "base"])?;
            (default.unwrap_or(Value::Integer(0)), base.and_then(|base| base.integer()).unwrap_or(10))
        } else {
            let [default] = given.bind(name, ["default"])?;
            (default.unwrap_or(Value::Float(0.0)), 10)
        };
        let parsed = match value {
            Value::Text(text) => {
                let text = text.trim().replace('_', "");
                let plain = text.trim_start_matches(['+', '-']);
                let number = if plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') || name == "float" {
                    text.parse::<f64>().ok()
                } else {
                    None
                };
                match name {
                    "float" => number.map(Value::Float),
                    _ => {
                        let prefix = match base {
                            16 => ["0x", "0X"],
                            8 => ["0o", "0O"],
                            2 => ["0b", "0B"],
                            _ => ["", ""],
                        };
                        let digits = text.strip_prefix(prefix[0]).or(text.strip_prefix(prefix[1])).unwrap_or(&text);
                        let radix = u32::try_from(base).ok().filter(|radix| (2..=36).contains(radix));
                        let radix = radix.ok_or("int() base must be from 2 to 36")?;
                        let whole = i128::from_str_radix(digits, radix).ok().map(Value::Integer);
                        let finite = number.filter(|number| number.abs() < 1e30);
                        whole.or(finite.map(|number| Value::Integer(number as i128)))
                    }
                }
            }
            Value::Undefined(_) => None,
            other => other.number().and_then(|number| match (name, other.integer()) {
                ("float", _) => Some(Value::Float(number)),
                (_, Some(whole)) => Some(Value::Integer(whole)),
                _ => (number.abs() < 1e30).then_some(Value::Integer(number as i128)),
            }),
        };
        Ok(parsed.unwrap_or(default))
    }

    pub fn round(&self, value: &Value, given: Given) -> Outcome<Value> {
        let [precision, method] = given.bind("round", ["precision", "method"])?;
        let precision = precision.and_then(|precision| precision.integer()).unwrap_or(0).clamp(-30, 30) as i32;
        let number = value.number().ok_or_else(|| format!("round needs a number, not {}", value.kind()))?;
        let method = method.map_or(Ok("common".to_string()), |method| self.string_of(&method))?;
        let factor = 10_f64.powi(precision);
        if let (Some(whole), "common") = (value.integer(), method.as_str()) {
            // Python's `round` of an integer is one.
            let unit = 10_i128.pow(precision.min(0).unsigned_abs());
            let (below, rest) = (whole.div_euclid(unit), whole.rem_euclid(unit));
            let up = rest * 2 > unit || (rest * 2 == unit && below % 2 != 0);
            return Ok(Value::Integer((below + i128::from(up)).checked_mul(unit).ok_or("a number is too large")?));
        }
        Ok(Value::Float(match method.as_str() {
            // Formatting rounds the exact binary value half to even, as Python's `round` does.
            "common" if precision >= 0 => format!("{number:.*}", precision as usize).parse().unwrap_or(number),
            "common" => (number * factor).round_ties_even() / factor,
            "ceil" => (number * factor).ceil() / factor,
            "floor" => (number * factor).floor() / factor,
            _ => return Err("method must be common, ceil or floor".into()),
        }))
    }

    pub fn indent(&self, value: &Value, given: Given) -> Outcome<Value> {
        let [width, first, blank] = given.bind("indent", ["width", "first", "blank"])?;
        let indent = match width {
            None => "    ".to_string(),
            Some(Value::Text(text)) => text.to_string(),
            Some(width) => {
                let width = width.integer().ok_or("indent needs a width")?.clamp(0, 10_000) as usize;
                " ".repeat(width)
            }
        };
        let text = self.string_of(value)?;
        let blank = blank.is_some_and(|blank| blank.is_true());
        self.room((text.matches('\n').count() + 1).saturating_mul(indent.len()))?;
        let mut result = String::new();
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                result.push('\n');
            }
            let wanted =
                if index == 0 { first.as_ref().is_some_and(Value::is_true) } else { blank || !line.is_empty() };
            if wanted {
                result.push_str(&indent);
            }
            result.push_str(line);
        }
        self.text(result)
    }

    pub fn truncate(&self, value: &Value, given: Given) -> Outcome<Value> {
        let [length, killwords, end, leeway] = given.bind("truncate", ["length", "killwords", "end", "leeway"])?;
        let number = |value: Option<Value>, default: i128| {
            value.and_then(|value| value.integer()).unwrap_or(default).clamp(0, 1 << 40) as usize
        };
        let (length, leeway) = (number(length, 255), number(leeway, 5));
        let end = end.map_or(Ok("...".to_string()), |end| self.string_of(&end))?;
        let text = self.string_of(value)?;
        if text.chars().count() <= length.saturating_add(leeway) {
            return self.text(text);
        }
        let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
        let kept = if killwords.is_some_and(|kill| kill.is_true()) {
            &*kept
        } else {
            kept.rsplit_once(' ').map_or(&*kept, |(head, _)| head)
        };
        self.text([kept, &end].concat())
    }

    pub fn tojson(&self, value: &Value, given: Given) -> Outcome<Value> {
        let [ascii, indent, separators, sort] =
            given.bind("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"])?;
        let indent = match indent {
            None | Some(Value::None) => None,
            Some(Value::Text(text)) => Some(text.to_string()),
            Some(width) => {
                let width = width.integer().ok_or("tojson: indent is not a number")?.clamp(0, 1000) as usize;
                Some(" ".repeat(width))
            }
        };
        let (item_separator, key_separator) = match separators {
            None | Some(Value::None) => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
            Some(pair) => {
                let pair = <[Value; 2]>::try_from(self.iterate(&pair)?);
                let [item, key] = pair.map_err(|_| "tojson: separators are not a pair")?;
                (self.string_of(&item)?, self.string_of(&key)?)
            }
        };
        let style = JsonStyle {
            ascii: ascii.is_some_and(|ascii| ascii.is_true()),
            indent,
            item_separator,
            key_separator,
            sort: sort.is_some_and(|sort| sort.is_true()),
        };
        let mut writer = Writer { evaluator: self, text: String::new() };
        write::json(&mut writer, value, &style, 0)?;
        self.text(writer.text)
    }
}

/// The filter `title`: words begin after white space, hyphens and brackets.
pub(super) fn title(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut first = true;
    for character in text.chars() {
        if first {
            result.push_str(&title_case(character));
        } else {
            result.extend(character.to_lowercase());
        }
        first = character.is_whitespace() || matches!(character, '-' | '(' | '{' | '[' | '<');
    }
    result
}
