//! Values as text: `str`, `repr` and `json.dumps` of Python.

use super::evaluate::{Evaluator, Outcome};
use super::value::{Value, DEEPEST_VALUE};

/// A text that is charged while it grows.
pub(super) struct Writer<'e> {
    pub evaluator: &'e Evaluator,
    pub text: String,
}

impl Writer<'_> {
    pub fn push(&mut self, text: &str) -> Outcome<()> {
        self.evaluator.charge(text.len())?;
        self.text.push_str(text);
        Ok(())
    }
}

/// How `tojson` writes.
pub(super) struct JsonStyle {
    pub ascii: bool,
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort: bool,
}

pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&power) {
        return format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') {
        plain
    } else {
        format!("{plain}.0")
    }
}

/// `str(value)`.
pub(super) fn plain(writer: &mut Writer<'_>, value: &Value) -> Outcome<()> {
    match value {
        Value::Undefined(_) => Ok(()),
        Value::Text(text) => writer.push(text),
        other => repr(writer, other, 0),
    }
}

/// `repr(value)`.
pub(super) fn repr(writer: &mut Writer<'_>, value: &Value, depth: usize) -> Outcome<()> {
    writer.evaluator.step()?;
    if depth > DEEPEST_VALUE {
        return Err("a value is nested too deeply to be written".into());
    }
    match value {
        Value::Undefined(_) => writer.push("Undefined"),
        Value::None => writer.push("None"),
        Value::Bool(true) => writer.push("True"),
        Value::Bool(false) => writer.push("False"),
        Value::Integer(number) => writer.push(&number.to_string()),
        Value::Float(number) => writer.push(&float(*number)),
        Value::Text(text) => quoted(writer, text),
        Value::List(items) => {
            writer.push("[")?;
            sequence(writer, &items.items, depth)?;
            writer.push("]")
        }
        Value::Tuple(items) => {
            writer.push("(")?;
            sequence(writer, &items.items, depth)?;
            writer.push(if items.items.len() == 1 { ",)" } else { ")" })
        }
        Value::Dict(dict) => entries(writer, dict.entries(), depth),
        Value::Namespace(names) => {
            writer.push("<Namespace ")?;
            entries(writer, names.borrow().entries(), depth)?;
            writer.push(">")
        }
        Value::Macro(closure) => writer.push(&format!("<Macro '{}'>", closure.definition.name)),
        other => writer.push(&format!("<{}>", other.kind())),
    }
}

fn sequence(writer: &mut Writer<'_>, items: &[Value], depth: usize) -> Outcome<()> {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            writer.push(", ")?;
        }
        repr(writer, item, depth + 1)?;
    }
    Ok(())
}

fn entries(writer: &mut Writer<'_>, entries: &[(Value, Value)], depth: usize) -> Outcome<()> {
    writer.push("{")?;
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            writer.push(", ")?;
        }
        repr(writer, key, depth + 1)?;
        writer.push(": ")?;
        repr(writer, value, depth + 1)?;
    }
    writer.push("}")
}

fn quoted(writer: &mut Writer<'_>, text: &str) -> Outcome<()> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut result = String::with_capacity(text.len() + 2);
    result.push(quote);
    for character in text.chars() {
        match character {
            '\\' => result.push_str("\\\\"),
            '\n' => result.push_str("\\n"),
            '\r' => result.push_str("\\r"),
            '\t' => result.push_str("\\t"),
            _ if character == quote => result.extend(['\\', quote]),
            _ if is_printable(character) => result.push(character),
            _ => match character as u32 {
                code @ 0..=0xff => result.push_str(&format!("\\x{code:02x}")),
                code @ 0x100..=0xffff => result.push_str(&format!("\\u{code:04x}")),
                code => result.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    result.push(quote);
    writer.push(&result)
}

/// Python's `str.isprintable` of a character, but for characters that are not assigned.
fn is_printable(character: char) -> bool {
    !matches!(character as u32,
        0..=0x1f | 0x7f..=0xa0 | 0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x1680 | 0x180e | 0x2000..=0x200f
        | 0x2028..=0x202f | 0x205f..=0x206f | 0x3000 | 0xd800..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xfffe | 0xffff
        | 0xe0000..=0xe0fff | 0xf0000..)
}

/// `json.dumps(value)`.
pub(super) fn json(writer: &mut Writer<'_>, value: &Value, style: &JsonStyle, depth: usize) -> Outcome<()> {
    writer.evaluator.step()?;
    if depth > DEEPEST_VALUE {
        return Err("tojson: a value is nested too deeply".into());
    }
    match value {
        Value::None => writer.push("null"),
        Value::Bool(true) => writer.push("true"),
        Value::Bool(false) => writer.push("false"),
        Value::Integer(number) => writer.push(&number.to_string()),
        Value::Float(number) => json_float(writer, *number),
        Value::Text(text) => json_text(writer, text, style.ascii),
        Value::List(items) | Value::Tuple(items) => {
            if items.items.is_empty() {
                return writer.push("[]");
            }
            writer.push("[")?;
            for (index, item) in items.items.iter().enumerate() {
                if index > 0 {
                    writer.push(&style.item_separator)?;
                }
                line(writer, style, depth + 1)?;
                json(writer, item, style, depth + 1)?;
            }
            line(writer, style, depth)?;
            writer.push("]")
        }
        Value::Dict(dict) => {
            if dict.entries().is_empty() {
                return writer.push("{}");
            }
            let mut entries: Vec<&(Value, Value)> = dict.entries().iter().collect();
            if style.sort {
                writer.evaluator.steps(entries.len() * 8)?;
                if entries.iter().all(|(key, _)| matches!(key, Value::Text(_))) {
                    entries.sort_by(|(left, _), (right, _)| match (left, right) {
                        (Value::Text(left), Value::Text(right)) => left.cmp(right),
                        _ => std::cmp::Ordering::Equal,
                    });
                } else if entries.len() > 1 {
                    return Err("tojson: keys of different types can not be sorted".into());
                }
            }
            writer.push("{")?;
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    writer.push(&style.item_separator)?;
                }
                line(writer, style, depth + 1)?;
                match key {
                    Value::Text(text) => json_text(writer, text, style.ascii)?,
                    Value::None | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                        writer.push("\"")?;
                        json(writer, key, style, depth)?;
                        writer.push("\"")?;
                    }
                    other => return Err(format!("tojson: a key can not be of type {}", other.kind()).into()),
                }
                writer.push(&style.key_separator)?;
                json(writer, value, style, depth + 1)?;
            }
            line(writer, style, depth)?;
            writer.push("}")
        }
        Value::Undefined(reason) => Err(format!("tojson: {reason}").into()),
        other => Err(format!("tojson: a {} is not JSON", other.kind()).into()),
    }
}

fn line(writer: &mut Writer<'_>, style: &JsonStyle, depth: usize) -> Outcome<()> {
    let Some(indent) = &style.indent else { return Ok(()) };
    writer.push("\n")?;
    (0..depth).try_for_each(|_| writer.push(indent))
}

fn json_float(writer: &mut Writer<'_>, value: f64) -> Outcome<()> {
    if value.is_nan() {
        return writer.push("NaN");
    }
    if value.is_infinite() {
        return writer.push(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    writer.push(&float(value))
}

fn json_text(writer: &mut Writer<'_>, text: &str, ascii: bool) -> Outcome<()> {
    let mut result = String::with_capacity(text.len() + 2);
    result.push('"');
    for character in text.chars() {
        match character {
            '"' => result.push_str("\\\""),
            '\\' => result.push_str("\\\\"),
            '\n' => result.push_str("\\n"),
            '\r' => result.push_str("\\r"),
            '\t' => result.push_str("\\t"),
            '\x08' => result.push_str("\\b"),
            '\x0c' => result.push_str("\\f"),
            '\0'..='\x1f' => result.push_str(&format!("\\u{:04x}", character as u32)),
            '\x7f'.. if ascii && character != '\x7f' => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    result.push_str(&format!("\\u{unit:04x}"));
                }
            }
            _ => result.push(character),
        }
    }
    result.push('"');
    writer.push(&result)
}
