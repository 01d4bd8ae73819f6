//! Functions that need no open model.

use std::path::PathBuf;

use cupel_text::TextTokenizer;
use napi::bindgen_prelude::Result;
use napi_derive::napi;

use crate::fault::Fault;
use crate::text_side;

/// Token ids of texts by the tokenizer of a folder with tokenizer.json (a whole checkpoint or not) or of a GGUF file.
/// `parse_special`: special tokens that a text spells out are parsed, else they are text like any other.
#[napi(catch_unwind)]
pub fn tokenize_with(path: String, texts: Vec<String>, parse_special: bool) -> Result<Vec<Vec<u32>>> {
    let path = PathBuf::from(path);
    let tokenizer = if path.join("tokenizer.json").is_file() {
        TextTokenizer::open(&path, u32::MAX as usize).map_err(Fault::from)?
    } else {
        text_side::tokenizer_of(&path)?
    };
    let encode = |text: &String| {
        if parse_special {
            tokenizer.encode(text)
        } else {
            tokenizer.encode_plain(text)
        }
    };
    Ok(texts.iter().map(encode).collect::<cupel_text::Result<_>>().map_err(Fault::from)?)
}
