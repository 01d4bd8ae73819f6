use std::path::{Path, PathBuf};

use llguidance::token_bytes_from_tokenizer_json;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::error::{Result, TextError};

/// A tokenizer.json of the `tokenizers` crate. Special tokens in the text are parsed; none are added.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    json: Value,
    file: PathBuf,
    vocabulary_size: usize,
    /// Texts of the special tokens.
    special: Vec<String>,
}

impl TextTokenizer {
    /// Loads `tokenizer.json` of a checkpoint folder.
    ///
    /// `vocabulary_size` is the number of rows of the model's embedding; the tokenizer may have fewer tokens, never more.
    /// Errors: CUPEL_NATIVE_TOKENIZER_MISSING, CUPEL_NATIVE_TOKENIZER_INVALID, CUPEL_NATIVE_TOKENIZER_MISMATCH.
    pub fn open(directory: &Path, vocabulary_size: usize) -> Result<Self> {
        let file = directory.join("tokenizer.json");
        let place = file.display().to_string();
        let bytes = std::fs::read(&file).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                TextError::new(
                    "CUPEL_NATIVE_TOKENIZER_MISSING",
                    "the checkpoint has no tokenizer.json",
                    place.clone(),
                    "Save the checkpoint together with its fast tokenizer (tokenizer.json).",
                )
            } else {
                invalid(&place, error.to_string())
            }
        })?;
        let json: Value =
            serde_json::from_slice(&bytes).map_err(|error| invalid(&place, error.to_string()))?;
        // The reader of tokenizer.json is third-party code and the file is untrusted: a panic in it is an invalid file.
        let mut tokenizer = std::panic::catch_unwind(|| Tokenizer::from_bytes(&bytes))
            .map_err(|_| invalid(&place, "the tokenizer could not be built".to_string()))?
            .map_err(|error| invalid(&place, error.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| invalid(&place, error.to_string()))?;
        let largest = tokenizer.get_vocab(true).into_values().max();
        match largest {
            None => {
                return Err(invalid(
                    &place,
                    "the tokenizer has an empty vocabulary".to_string(),
                ))
            }
            Some(id) if id as usize >= vocabulary_size => {
                return Err(TextError::new(
                    "CUPEL_NATIVE_TOKENIZER_MISMATCH",
                    format!(
                    "the tokenizer has token id {id}, the model has {vocabulary_size} embeddings"
                ),
                    place,
                    "Use the tokenizer that the checkpoint was trained with.",
                ))
            }
            Some(_) => {}
        }
        let special = json["added_tokens"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|token| token["special"] == true)
            .filter_map(|token| token["content"].as_str())
            .filter(|content| content.chars().count() > 1)
            .map(str::to_string)
            .collect();
        Ok(Self {
            tokenizer,
            json,
            file,
            vocabulary_size,
            special,
        })
    }

    /// Token ids of a text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.tokenizer.encode(text, false)
        }))
        .map_err(|_| self.failed("encode"))?
        .map_err(|error| invalid(&self.place(), error.to_string()))?;
        Ok(encoded.get_ids().to_vec())
    }

    /// The text of token ids without special tokens. Bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.tokenizer.decode(ids, true)
        }))
        .map_err(|_| self.failed("decode"))?
        .map_err(|error| invalid(&self.place(), error.to_string()))
    }

    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    pub fn place(&self) -> String {
        self.file.display().to_string()
    }

    /// The text with a space put into every special token that it spells out, so that what a user or a document says
    /// can never end a turn or open one.
    pub fn defuse(&self, text: &str) -> String {
        let mut defused = text.to_string();
        for token in &self.special {
            if defused.contains(token.as_str()) {
                let first = token.chars().next().map_or(0, char::len_utf8);
                let (head, tail) = token.split_at(first);
                defused = defused.replace(token.as_str(), &format!("{head} {tail}"));
            }
        }
        defused
    }

    /// Defuses every text within a JSON value.
    pub fn defuse_all(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.defuse(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.defuse_all(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.defuse_all(field)),
            _ => {}
        }
    }

    /// The bytes of every id below the model's vocabulary size; special tokens start with toktrie's marker byte, ids
    /// without a token are empty.
    pub(crate) fn token_bytes(&self) -> Result<Vec<Vec<u8>>> {
        let mut bytes =
            std::panic::catch_unwind(|| token_bytes_from_tokenizer_json(&self.json))
                .map_err(|_| self.failed("list the bytes of its tokens"))?
                .map_err(|error| {
                    TextError::new(
                        "CUPEL_NATIVE_SCHEMA_UNSUPPORTED",
                        format!("decoding can not be constrained with this tokenizer: {error}"),
                        self.place(),
                        "Leave the JSON schema out, or use a checkpoint with a byte-level or byte-fallback tokenizer.",
                    )
                })?;
        bytes.resize(self.vocabulary_size, Vec::new());
        Ok(bytes)
    }

    fn failed(&self, what: &str) -> TextError {
        invalid(&self.place(), format!("the tokenizer failed to {what}"))
    }
}

fn invalid(place: &str, message: String) -> TextError {
    TextError::new(
        "CUPEL_NATIVE_TOKENIZER_INVALID",
        format!("tokenizer.json is not usable: {message}"),
        place,
        "Restore tokenizer.json from where the checkpoint came.",
    )
}
