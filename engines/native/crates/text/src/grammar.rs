use llguidance::api::TopLevelGrammar;
use serde_json::{json, Value};

use crate::error::{Result, TextError};

/// Larger than any grammar written by hand; generated schemas of a megabyte exist.
const LARGEST: usize = 4 << 20;
/// Brackets within brackets. The grammar's compiler is recursive.
const DEEPEST: usize = 128;

/// What a completion must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Grammar {
    /// Text of a JSON Schema.
    JsonSchema(String),
    /// A regular expression, of which the whole completion is a match. Syntax of Rust's `regex`; look-around and word
    /// boundaries are refused.
    Regex(String),
    /// A context-free grammar in llguidance's variant of Lark; `start` is its root.
    Lark(String),
}

impl Grammar {
    fn text(&self) -> &str {
        match self {
            Self::JsonSchema(text) | Self::Regex(text) | Self::Lark(text) => text,
        }
    }

    /// Errors as `GrammarCompiler::constrain`.
    pub(crate) fn parse(&self) -> Result<TopLevelGrammar> {
        if self.text().len() > LARGEST {
            return Err(unsupported(self, format!("it has {} bytes; {LARGEST} are allowed", self.text().len())));
        }
        match self {
            Self::JsonSchema(text) => {
                let mut schema: Value =
                    serde_json::from_str(text).map_err(|error| unsupported(self, error.to_string()))?;
                let Some(object) = schema.as_object_mut() else {
                    return Err(unsupported(self, format!("{schema} is not an object")));
                };
                // Overwrites what the schema may say itself: `lenient` there would let keywords pass unenforced.
                object.insert(
                    "x-guidance".to_string(),
                    json!({"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false}),
                );
                Ok(TopLevelGrammar::from_json_schema(schema))
            }
            Self::Regex(text) => {
                self.check_depth(&[text.to_string()])?;
                Ok(TopLevelGrammar::from_regex(text))
            }
            Self::Lark(text) => {
                let outside = self.outside_of_literals(text)?;
                self.check_depth(&[outside.clone(), text.clone()])?;
                self.check_lark(&outside)?;
                Ok(TopLevelGrammar::from_lark(text.clone()))
            }
        }
    }

    fn check_depth(&self, texts: &[String]) -> Result<()> {
        for text in texts {
            let mut depth = 0_usize;
            for byte in text.bytes() {
                match byte {
                    b'(' | b'[' | b'{' => depth += 1,
                    b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth > DEEPEST {
                    return Err(unsupported(self, format!("its brackets are nested deeper than {DEEPEST}")));
                }
            }
        }
        Ok(())
    }

    /// What can not hold here is refused by name: special tokens are never part of a completion's text, and sampling is
    /// the request's.
    fn check_lark(&self, outside: &str) -> Result<()> {
        let mut rest = outside;
        while let Some(start) = rest.find('<') {
            let tail = &rest[start..];
            let end = tail.find(|character: char| character.is_whitespace() || character == '>');
            if let Some(end) = end.filter(|end| *end > 1 && tail.as_bytes()[*end] == b'>') {
                return Err(unsupported(
                    self,
                    format!("it names the special token {}, which is never part of a text", &tail[..=end]),
                ));
            }
            rest = &tail[1..];
        }
        let words = outside.split(|character: char| !character.is_alphanumeric() && character != '_');
        let before_equals = |word: &&str| {
            let end = word.as_ptr() as usize - outside.as_ptr() as usize + word.len();
            outside[end..].trim_start().starts_with('=')
        };
        match words.filter(|word| *word == "temperature").find(before_equals) {
            Some(word) => Err(unsupported(self, format!("it sets {word}, which only a request can"))),
            None => Ok(()),
        }
    }

    /// The grammar without its strings, regular expressions and comments, each of which becomes a space.
    fn outside_of_literals(&self, text: &str) -> Result<String> {
        let mut outside = String::with_capacity(text.len());
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let end = match character {
                '"' => '"',
                '/' if characters.peek() == Some(&'/') => '\n',
                '/' => '/',
                '#' => '\n',
                other => {
                    outside.push(other);
                    continue;
                }
            };
            outside.push(' ');
            while let Some(inner) = characters.next() {
                if inner == '\\' && end != '\n' {
                    characters.next();
                } else if inner == end {
                    if end == '\n' {
                        outside.push('\n');
                    }
                    break;
                }
            }
        }
        Ok(outside)
    }
}

pub(crate) fn unsupported(grammar: &Grammar, message: String) -> TextError {
    match grammar {
        Grammar::JsonSchema(_) => TextError::new(
            "CUPEL_NATIVE_SCHEMA_UNSUPPORTED",
            format!("the JSON schema can not constrain decoding: {message}"),
            "jsonSchema",
            "Take the named keyword out of the schema, and check it with a validator after decoding.",
        ),
        Grammar::Regex(_) => TextError::new(
            "CUPEL_NATIVE_GRAMMAR_UNSUPPORTED",
            format!("the regular expression can not constrain decoding: {message}"),
            "regex",
            "Write the expression without what is named.",
        ),
        Grammar::Lark(_) => TextError::new(
            "CUPEL_NATIVE_GRAMMAR_UNSUPPORTED",
            format!("the grammar can not constrain decoding: {message}"),
            "grammar",
            "Write the grammar without what is named.",
        ),
    }
}
