//! The methods of Python's `str`.

use super::evaluate::{Evaluator, Given, Outcome};
use super::value::{Text, Value};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Left,
    Right,
    Both,
}

/// `str.strip` and its kin.
pub(super) fn strip<'a>(text: &'a str, characters: Option<&str>, side: Side) -> &'a str {
    let mut text = text;
    let strips = |character: char| match characters {
        Some(characters) => characters.contains(character),
        None => character.is_whitespace() || ('\x1c'..='\x1f').contains(&character),
    };
    if side != Side::Right {
        text = text.trim_start_matches(strips);
    }
    if side != Side::Left {
        text = text.trim_end_matches(strips);
    }
    text
}

/// A character at the beginning of a word: of letters that are two in one, only the first is large.
pub(super) fn title_case(character: char) -> String {
    match character as u32 {
        0x1c4..=0x1c6 => "\u{1c5}".to_string(),
        0x1c7..=0x1c9 => "\u{1c8}".to_string(),
        0x1ca..=0x1cc => "\u{1cb}".to_string(),
        0x1f1..=0x1f3 => "\u{1f2}".to_string(),
        _ => {
            let mut upper = character.to_uppercase();
            let first: String = upper.next().into_iter().collect();
            first + &upper.collect::<String>().to_lowercase()
        }
    }
}

pub(super) fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(title_case).unwrap_or_default();
    first + &characters.as_str().to_lowercase()
}

impl Evaluator {
    pub fn text_method(&self, text: &str, name: &str, given: Given) -> Outcome<Value> {
        self.steps(text.len() / 16)?;
        let boolean = |holds: bool| Ok(Value::Bool(holds));
        let every = |test: &dyn Fn(char) -> bool| boolean(!text.is_empty() && text.chars().all(test));
        match name {
            "strip" | "lstrip" | "rstrip" => {
                let [characters] = given.bind(name, ["chars"])?;
                let characters = optional_text(characters)?;
                self.steps(text.len() / 16 * characters.as_ref().map_or(0, |characters| characters.len()))?;
                let side = match name {
                    "strip" => Side::Both,
                    "lstrip" => Side::Left,
                    _ => Side::Right,
                };
                self.text(strip(text, characters.as_deref(), side).to_string())
            }
            "split" | "rsplit" => {
                let [separator, most] = given.bind(name, ["sep", "maxsplit"])?;
                let most = most.and_then(|most| most.integer()).filter(|most| *most >= 0);
                let most = most.map_or(usize::MAX, |most| most.min(1 << 40) as usize);
                self.charge(text.len() * 16)?;
                let parts = match optional_text(separator)? {
                    Some(separator) if separator.is_empty() => return Err("empty separator".into()),
                    Some(separator) => {
                        let most = most.saturating_add(1);
                        if name == "split" {
                            text.splitn(most, &*separator).collect::<Vec<_>>()
                        } else {
                            let mut parts: Vec<_> = text.rsplitn(most, &*separator).collect();
                            parts.reverse();
                            parts
                        }
                    }
                    None => words(text, most, name == "rsplit"),
                };
                self.list(parts.into_iter().map(Value::text).collect())
            }
            "splitlines" => {
                let [keep] = given.bind(name, ["keepends"])?;
                let keep = keep.is_some_and(|keep| keep.is_true());
                self.charge(text.len() * 16)?;
                let ends = |c: char| {
                    matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
                };
                let mut lines = Vec::new();
                let mut rest = text;
                while !rest.is_empty() {
                    let end = rest.find(ends).unwrap_or(rest.len());
                    let after = match &rest[end..] {
                        tail if tail.starts_with("\r\n") => end + 2,
                        tail => end + tail.chars().next().map_or(0, char::len_utf8),
                    };
                    lines.push(Value::text(&rest[..if keep { after } else { end }]));
                    rest = &rest[after..];
                }
                self.list(lines)
            }
            "upper" | "lower" | "casefold" | "capitalize" | "title" | "swapcase" => {
                let [] = given.bind(name, [])?;
                self.room(text.len())?;
                self.text(match name {
                    "upper" => text.to_uppercase(),
                    "capitalize" => capitalized(text),
                    "title" => titled(text),
                    "swapcase" => text
                        .chars()
                        .flat_map(|c| {
                            if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() }
                                .chars()
                                .collect::<Vec<_>>()
                        })
                        .collect(),
                    _ => text.to_lowercase(),
                })
            }
            "startswith" | "endswith" => {
                let [affix] = given.bind(name, ["prefix"])?;
                let holds = |affix: &Value| match affix {
                    Value::Text(affix) if name == "startswith" => Ok(text.starts_with(&**affix)),
                    Value::Text(affix) => Ok(text.ends_with(&**affix)),
                    other => Err(format!("{name} needs a str or a tuple of str, not {}", other.kind())),
                };
                match affix.ok_or_else(|| format!("{name} needs a text"))? {
                    Value::Tuple(items) => {
                        for item in &items.items {
                            self.steps(1 + if let Value::Text(affix) = item { affix.len() / 64 } else { 0 })?;
                            if holds(item)? {
                                return boolean(true);
                            }
                        }
                        boolean(false)
                    }
                    other => boolean(holds(&other)?),
                }
            }
            "removeprefix" | "removesuffix" => {
                let [affix] = given.bind(name, ["prefix"])?;
                let affix = needed_text(affix, name)?;
                let rest = if name == "removeprefix" { text.strip_prefix(&*affix) } else { text.strip_suffix(&*affix) };
                self.text(rest.unwrap_or(text).to_string())
            }
            "replace" => {
                let [old, new, count] = given.bind(name, ["old", "new", "count"])?;
                let (old, new) = (needed_text(old, name)?, needed_text(new, name)?);
                self.replace(text, &old, &new, count.and_then(|count| count.integer()))
            }
            "find" | "rfind" | "index" | "rindex" | "count" => {
                let [part] = given.bind(name, ["sub"])?;
                let part = needed_text(part, name)?;
                if name == "count" {
                    return Ok(Value::Integer(text.matches(&*part).count() as i128));
                }
                let found = if name.starts_with('r') { text.rfind(&*part) } else { text.find(&*part) };
                match found {
                    Some(at) => Ok(Value::Integer(text[..at].chars().count() as i128)),
                    None if name.ends_with("find") => Ok(Value::Integer(-1)),
                    None => Err("substring not found".into()),
                }
            }
            "join" => {
                let [items] = given.bind(name, ["iterable"])?;
                let mut joined = String::new();
                for (index, item) in self.iterate(&items.ok_or("join needs a list")?)?.into_iter().enumerate() {
                    let Value::Text(item) = item else {
                        return Err(
                            format!("sequence item {index}: expected str instance, {} found", item.kind()).into()
                        );
                    };
                    self.room(joined.len() + text.len() + item.len())?;
                    if index > 0 {
                        joined.push_str(text);
                    }
                    joined.push_str(&item);
                }
                self.text(joined)
            }
            "partition" | "rpartition" => {
                let [separator] = given.bind(name, ["sep"])?;
                let separator = needed_text(separator, name)?;
                if separator.is_empty() {
                    return Err("empty separator".into());
                }
                self.charge(text.len())?;
                let found =
                    if name == "partition" { text.split_once(&*separator) } else { text.rsplit_once(&*separator) };
                let parts = match found {
                    Some((head, tail)) => [head, &separator, tail],
                    None if name == "partition" => [text, "", ""],
                    None => ["", "", text],
                };
                self.tuple(parts.into_iter().map(Value::text).collect())
            }
            "center" | "ljust" | "rjust" | "zfill" => {
                let [width, fill] = given.bind(name, ["width", "fillchar"])?;
                let width = width.and_then(|width| width.integer()).ok_or_else(|| format!("{name} needs a width"))?;
                let width = width.clamp(0, 1 << 30) as usize;
                let fill = optional_text(fill)?
                    .map_or_else(|| if name == "zfill" { "0" } else { " " }.to_string(), |fill| fill.to_string());
                let mut fills = fill.chars();
                let (Some(fill), None) = (fills.next(), fills.next()) else {
                    return Err("The fill character must be exactly one character long".into());
                };
                if name == "center" {
                    return self.centered(text, width, fill);
                }
                let missing = width.saturating_sub(text.chars().count());
                self.room(missing * fill.len_utf8())?;
                let side: String = std::iter::repeat_n(fill, missing).collect();
                self.text(match name {
                    "ljust" => [text, &side].concat(),
                    "zfill" if text.starts_with(['-', '+']) => [&text[..1], &side, &text[1..]].concat(),
                    _ => [&side, text].concat(),
                })
            }
            "format" => self.brace_format(text, &given),
            "isalpha" => every(&char::is_alphabetic),
            "isalnum" => every(&char::is_alphanumeric),
            "isascii" => boolean(text.is_ascii()),
            "isspace" => every(&char::is_whitespace),
            "isdigit" | "isdecimal" | "isnumeric" => every(&char::is_numeric),
            "islower" => boolean(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)),
            "isupper" => boolean(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)),
            _ => boolean(text.chars().any(char::is_alphabetic) && titled(text) == text),
        }
    }

    /// `str.format` with `{}`, `{0}` and `{name}`.
    pub fn brace_format(&self, format: &str, given: &Given) -> Outcome<Value> {
        let mut result = String::new();
        let mut next = 0;
        let mut characters = format.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '{' | '}' if characters.peek() == Some(&character) => {
                    characters.next();
                    result.push(character);
                }
                '}' => return Err("Single '}' encountered in format string".into()),
                '{' => {
                    let mut field = String::new();
                    loop {
                        match characters.next() {
                            Some('}') => break,
                            Some(part) => field.push(part),
                            None => return Err("expected '}' before end of string".into()),
                        }
                    }
                    let value = if field.is_empty() {
                        next += 1;
                        given.positional.get(next - 1)
                    } else if let Ok(index) = field.parse::<usize>() {
                        given.positional.get(index)
                    } else if field.chars().all(|c| c.is_alphanumeric() || c == '_') {
                        given.named.iter().find(|(name, _)| **name == *field).map(|(_, value)| value)
                    } else {
                        return Err(format!("the format field {{{field}}} is not supported").into());
                    };
                    let value = value.ok_or_else(|| format!("no value for the format field {{{field}}}"))?;
                    let value = self.string_of(value)?;
                    self.room(result.len() + value.len())?;
                    result.push_str(&value);
                }
                other => result.push(other),
            }
        }
        self.text(result)
    }
}

fn optional_text(value: Option<Value>) -> Outcome<Option<Text>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(other) => Err(format!("expected a str, found {}", other.kind()).into()),
    }
}

fn needed_text(value: Option<Value>, name: &str) -> Outcome<Text> {
    optional_text(value)?.ok_or_else(|| format!("{name} needs a text").into())
}

/// Words between white space; at most `most` cuts, from the back if `reverse`.
fn words(text: &str, most: usize, reverse: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = strip(text, None, Side::Both);
    let space = |character: char| character.is_whitespace();
    while !rest.is_empty() {
        let cut = if reverse { rest.rfind(space) } else { rest.find(space) };
        let Some(cut) = cut.filter(|_| parts.len() < most) else { break };
        if reverse {
            let after = cut + rest[cut..].chars().next().map_or(1, char::len_utf8);
            parts.push(&rest[after..]);
            rest = rest[..cut].trim_end();
        } else {
            parts.push(&rest[..cut]);
            rest = rest[cut..].trim_start();
        }
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    if reverse {
        parts.reverse();
    }
    parts
}

/// `str.title`: a letter after anything that is no letter is large, others small.
fn titled(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        if inside {
            result.extend(character.to_lowercase());
        } else {
            result.push_str(&title_case(character));
        }
        inside = character.is_alphabetic();
    }
    result
}
