//! Which tokens end a turn, and what a template may call `bos_token` and its kin.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Result, TextError};
use crate::tokenizer::TextTokenizer;
use crate::vocabulary::{GgufVocabulary, TokenKind};

/// Texts of control tokens that end a turn in published models. GGUF files name only one or two of them by id.
const TURN_ENDS: [&str; 7] =
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|end_of_text|>", "<|endoftext|>"];

/// tokenizer_config.json lists all added tokens and may hold a template; published ones stay below 2 MB.
const LARGEST_FILE: u64 = 16 << 20;

const NAMES: [&str; 5] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token"];

/// Special tokens of a checkpoint folder.
pub struct SpecialTokens {
    /// Ids that end a completion: `eos_token_id` of generation_config.json, else of config.json, else the id of
    /// tokenizer_config.json's `eos_token`.
    pub end_tokens: Vec<u32>,
    /// The end token of an assistant turn: the tokenizer's `eos_token` if it is an end token, else the first of them.
    pub end_of_turn: u32,
    /// `bos_token` and the like as text, for templates.
    pub texts: Map<String, Value>,
}

impl SpecialTokens {
    /// Reads the small JSON files of a checkpoint folder.
    ///
    /// Errors: CUPEL_NATIVE_TOKENIZER_INVALID for a file that is not JSON, an end token outside the vocabulary, or none.
    pub fn open(directory: &Path, tokenizer: &TextTokenizer, vocabulary_size: usize) -> Result<Self> {
        let tokenizer_config = read_json(directory, "tokenizer_config.json")?;
        let special_map = read_json(directory, "special_tokens_map.json")?;
        let mut texts = Map::new();
        for name in NAMES {
            let text =
                token_text(&tokenizer_config[name]).or_else(|| token_text(&special_map[name])).unwrap_or_default();
            texts.insert(name.to_string(), Value::String(text));
        }
        let eos_text = texts["eos_token"].as_str().unwrap_or_default();
        let eos_of_tokenizer = tokenizer.token_id(eos_text);
        let mut end_tokens = Vec::new();
        for file in ["generation_config.json", "config.json"] {
            end_tokens = token_ids(&read_json(directory, file)?["eos_token_id"], directory, file, vocabulary_size)?;
            if !end_tokens.is_empty() {
                break;
            }
        }
        if end_tokens.is_empty() {
            end_tokens.extend(eos_of_tokenizer);
        }
        let first = *end_tokens.first().ok_or_else(|| {
            TextError::new(
                "CUPEL_NATIVE_TOKENIZER_INVALID",
                "the checkpoint names no token that ends a completion",
                directory.display().to_string(),
                "Set eos_token_id in generation_config.json or config.json, or eos_token in tokenizer_config.json.",
            )
        })?;
        let end_of_turn = eos_of_tokenizer.filter(|id| end_tokens.contains(id)).unwrap_or(first);
        Ok(Self { end_tokens, end_of_turn, texts })
    }
}

impl SpecialTokens {
    /// Those of a GGUF file: the ends it names by id, then control tokens whose texts are known to end a turn.
    ///
    /// Errors: CUPEL_NATIVE_TOKENIZER_INVALID where nothing ends a completion.
    pub fn from_vocabulary(vocabulary: &GgufVocabulary, place: &str) -> Result<Self> {
        let mut end_tokens = Vec::new();
        let known = TURN_ENDS.iter().filter_map(|text| {
            let id = vocabulary.tokens.iter().position(|token| token == text)?;
            (vocabulary.kind(id) == TokenKind::Control).then_some(id as u32)
        });
        for id in [vocabulary.eos, vocabulary.eot, vocabulary.eom].into_iter().flatten().chain(known) {
            if (id as usize) < vocabulary.tokens.len() && !end_tokens.contains(&id) {
                end_tokens.push(id);
            }
        }
        let end_of_turn = vocabulary.eos.or(vocabulary.eot).filter(|id| end_tokens.contains(id));
        let end_of_turn = end_of_turn.or(end_tokens.first().copied()).ok_or_else(|| {
            TextError::new(
                "CUPEL_NATIVE_TOKENIZER_INVALID",
                "the file names no token that ends a completion",
                place,
                "Set tokenizer.ggml.eos_token_id when the file is written.",
            )
        })?;
        let text = |id: Option<u32>| {
            let text = id.and_then(|id| vocabulary.tokens.get(id as usize)).cloned().unwrap_or_default();
            Value::String(text)
        };
        let ids = [vocabulary.bos, vocabulary.eos, vocabulary.unknown, vocabulary.separator, vocabulary.padding];
        let texts = NAMES.iter().zip(ids).map(|(name, id)| ((*name).to_string(), text(id))).collect();
        Ok(Self { end_tokens, end_of_turn, texts })
    }
}

/// A JSON file of the folder; `Null` where it is absent.
pub(crate) fn read_json(directory: &Path, name: &str) -> Result<Value> {
    let path = directory.join(name);
    let mut bytes = Vec::new();
    match std::fs::File::open(&path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
        Err(error) => return Err(invalid(&path, format!("{name} could not be read: {error}"))),
    };
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(invalid(&path, format!("{name} has more than {LARGEST_FILE} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| invalid(&path, format!("{name} is not JSON: {error}")))
}

fn invalid(path: &Path, message: String) -> TextError {
    TextError::new(
        "CUPEL_NATIVE_TOKENIZER_INVALID",
        message,
        path.display().to_string(),
        "Restore the file from where the checkpoint came.",
    )
}

/// A token is written as text or as an object with `content`.
fn token_text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_string)
}

fn token_ids(value: &Value, directory: &Path, file: &str, vocabulary_size: usize) -> Result<Vec<u32>> {
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items.clone(),
        single => vec![single.clone()],
    };
    items
        .iter()
        .map(|item| {
            item.as_u64().filter(|id| (*id as usize) < vocabulary_size).map(|id| id as u32).ok_or_else(|| {
                invalid(
                    &directory.join(file),
                    format!("eos_token_id is {item}; an id below the vocabulary size {vocabulary_size} was expected"),
                )
            })
        })
        .collect()
}
