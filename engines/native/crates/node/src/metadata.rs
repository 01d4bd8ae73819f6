//! A GGUF file's metadata as the text side looks it up.

use cupel_files::gguf::{Gguf, Value};
use cupel_files::{Error, Result, GGUF_INVALID};
use cupel_text::MetadataLookup;

pub struct Metadata<'a>(pub &'a Gguf);

impl Metadata<'_> {
    /// The items of a list; none where the key is absent.
    fn items<T>(&self, key: &str, what: &str, item: impl Fn(Value<'_>) -> Option<T>) -> Result<Vec<T>> {
        let Some(list) = self.0.list(key)? else { return Ok(Vec::new()) };
        list.iter()
            .enumerate()
            .map(|(index, value)| {
                let seen = value.to_string();
                item(value).ok_or_else(|| {
                    Error::new(GGUF_INVALID, format!("item {index} is {seen}, not {what}"))
                        .at(key)
                        .inside(self.0.path())
                })
            })
            .collect()
    }
}

impl MetadataLookup for Metadata<'_> {
    type Error = Error;

    fn text(&self, key: &str) -> Result<Option<String>> {
        Ok(self.0.text(key)?.map(str::to_string))
    }

    fn texts(&self, key: &str) -> Result<Vec<String>> {
        self.items(key, "a text in UTF-8", |value| match value {
            Value::Text(bytes) => std::str::from_utf8(bytes).ok().map(str::to_string),
            _ => None,
        })
    }

    fn numbers(&self, key: &str) -> Result<Vec<i32>> {
        self.items(key, "a whole number of 32 bits", |value| match value {
            Value::Unsigned(number) => i32::try_from(number).ok(),
            Value::Signed(number) => i32::try_from(number).ok(),
            _ => None,
        })
    }

    fn scores(&self, key: &str) -> Result<Vec<f32>> {
        self.items(key, "a number", |value| match value {
            Value::Float(number) => Some(number as f32),
            _ => None,
        })
    }

    fn id(&self, key: &str) -> Result<Option<u32>> {
        self.0
            .unsigned(key)?
            .map(|number| {
                u32::try_from(number).map_err(|_| {
                    Error::new(GGUF_INVALID, format!("{number} is no token id")).at(key).inside(self.0.path())
                })
            })
            .transpose()
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.0.flag(key)
    }
}
