//! How text is cut into words before byte pairs are merged, under the names that GGUF files use.
//!
//! The patterns are facts of the published tokenizers (the `Split` patterns of their tokenizer.json files).

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const THREE_DIGITS: &str = r"[0-9][0-9][0-9]";

/// The names known, for messages.
pub(crate) const KNOWN: &str =
    "gpt-2, qwen2, smollm, llama-bpe, default, starcoder, refact, command-r, falcon, deepseek-r1-qwen, tekken";

/// The cutter of a `tokenizer.ggml.pre`, and whether whole words that are tokens skip the merges.
pub(crate) fn cutter(pre: &str) -> Option<(PreTokenizerWrapper, bool)> {
    let (patterns, whole_words): (&[&str], bool) = match pre {
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jina-v2-en" | "jina-v2-code" | "roberta-bpe" => (&[GPT2], false),
        "llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe" | "dbrx" => (&[LLAMA3], true),
        "qwen2" | "deepseek-r1-qwen" | "megrez" | "stablelm2" => (&[QWEN2], false),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => (&[DIGIT, GPT2], false),
        "default" => (&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", THREE_DIGITS], false),
        "falcon" => (&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, THREE_DIGITS], false),
        "tekken" => (&[TEKKEN], true),
        _ => return None,
    };
    let mut steps: Vec<PreTokenizerWrapper> = Vec::with_capacity(patterns.len() + 1);
    for pattern in patterns {
        let pattern = SplitPattern::Regex((*pattern).to_string());
        steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false).ok()?.into());
    }
    steps.push(ByteLevel::new(false, true, false).into());
    Some((Sequence::new(steps).into(), whole_words))
}
