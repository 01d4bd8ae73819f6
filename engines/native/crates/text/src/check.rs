//! What a tokenizer.json may ask for. The file is untrusted, and the library that reads it bounds neither how much its
//! steps make a text grow nor how large its tables get.

use serde_json::Value;

use crate::json_file::Model;

/// Larger than any published tokenizer.json (about 35 MB).
pub(crate) const LARGEST_FILE: u64 = 96 << 20;
/// A byte of text may become this many on its way through all steps.
const MOST_GROWTH: f64 = 64.0;
/// Merges a token of the vocabulary; published ones have at most 3.
pub(crate) const MERGES_PER_TOKEN: usize = 16;

/// What a refused file is.
pub(crate) enum Refusal {
    Invalid(String),
    /// More tokens than the model has embeddings.
    TooMany(usize),
}

/// Refuses a model that makes ids random or words long.
pub(crate) fn check_model(model: &Model) -> Result<(), Refusal> {
    if let Some(dropout) = model.dropout.filter(|dropout| *dropout != 0.0) {
        return Err(Refusal::Invalid(format!(
            "model.dropout is {dropout}, which makes token ids random; it must be 0"
        )));
    }
    // Both are pasted to every word before it is looked up.
    for (name, text) in [
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if text.as_ref().is_some_and(|text| text.len() > MOST_GROWTH as usize) {
            return Err(Refusal::Invalid(format!("model.{name} is longer than {MOST_GROWTH} bytes")));
        }
    }
    Ok(())
}

/// Refuses steps that make a text grow without bound.
pub(crate) fn check_growth(normalizer: &Value, pre_tokenizer: &Value, decoder: &Value) -> Result<(), Refusal> {
    let before = growth(normalizer, "normalizer")? * growth(pre_tokenizer, "pre_tokenizer")?;
    for (name, factor) in [("normalizer and pre_tokenizer", before), ("decoder", growth(decoder, "decoder")?)] {
        if factor > MOST_GROWTH {
            return Err(Refusal::Invalid(format!(
                "its {name} may make a text {factor:.0} times as long; {MOST_GROWTH} times is allowed"
            )));
        }
    }
    Ok(())
}

/// Upper bound of the factor by which a step makes its input grow, in bytes.
fn growth(step: &Value, place: &str) -> Result<f64, Refusal> {
    for list in ["normalizers", "pretokenizers", "decoders"] {
        if let Some(steps) = step[list].as_array() {
            let mut product = 1.0;
            for (index, inner) in steps.iter().enumerate() {
                product *= growth(inner, &format!("{place}.{list}[{index}]"))?;
            }
            return Ok(product);
        }
    }
    let Some(kind) = step["type"].as_str() else { return Ok(1.0) };
    Ok(match kind {
        "Replace" => {
            let content = step["content"].as_str().map_or(0, str::len) as f64;
            match step["pattern"]["String"].as_str() {
                Some(pattern) if !pattern.is_empty() => (content / pattern.len() as f64).max(1.0),
                // A regular expression may match nothing at all, before every character.
                _ => 1.0 + content,
            }
        }
        "Prepend" => 1.0 + step["prepend"].as_str().map_or(0, str::len) as f64,
        "NFD" | "NFC" | "BertNormalizer" => 4.0,
        "NFKD" | "NFKC" => 11.0,
        "Lowercase" => 1.5,
        "ByteLevel" if place.starts_with("decoder") => 1.0,
        "ByteLevel" => 2.0,
        "Metaspace" => 4.0,
        "Precompiled" => match step["precompiled_charsmap"].as_str().map(longest_replacement) {
            Some(Some(longest)) => longest.max(1) as f64,
            Some(None) => return Err(Refusal::Invalid(format!("{place}.precompiled_charsmap is not usable"))),
            None => 1.0,
        },
        "CTC" | "WordPiece" | "BPEDecoder" => {
            let suffix = ["prefix", "suffix", "pad_token", "word_delimiter_token"]
                .iter()
                .filter_map(|name| step[*name].as_str())
                .map(str::len)
                .max();
            1.0 + suffix.unwrap_or(0) as f64
        }
        _ => 1.0,
    })
}

/// Longest text that a SentencePiece character map puts in the place of a character. The map is base64 of: length of
/// a trie in bytes (u32, little endian), the trie, replacements that end in NUL.
fn longest_replacement(base64: &str) -> Option<usize> {
    let mut bytes = Vec::with_capacity(base64.len() / 4 * 3);
    let mut buffer = 0_u32;
    let mut bits = 0;
    for letter in base64.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        buffer = buffer << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
            buffer &= (1 << bits) - 1;
        }
    }
    let trie = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let replacements = bytes.get(trie.checked_add(4)?..)?;
    replacements.split(|byte| *byte == 0).map(<[u8]>::len).max()
}
