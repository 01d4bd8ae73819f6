//! Reads a tokenizer.json. Byte-pair vocabularies are read straight into the library's tables, which takes a quarter of
//! the time of the library's own reader; other models go through that.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokenizers::models::bpe::{Merges, BPE};
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use crate::check::{check_growth, check_model, Refusal, MERGES_PER_TOKEN};

type Vocabulary = ahash::AHashMap<String, u32>;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
pub(crate) struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: Tokens,
    #[serde(default)]
    merges: Pairs,
    pub dropout: Option<f64>,
    unk_token: Option<String>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
}

/// Token texts with their ids; of models that list scored texts only the count.
#[derive(Default)]
struct Tokens {
    ids: Vocabulary,
    count: usize,
}

#[derive(Default)]
struct Pairs(Merges);

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Tokens;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("tokens")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tokens, A::Error> {
                let mut tokens = Tokens::default();
                while let Some((token, id)) = map.next_entry::<String, u32>()? {
                    if let Some(other) = tokens.ids.insert(token, id) {
                        return Err(A::Error::custom(format!("a token has the ids {other} and {id}")));
                    }
                }
                tokens.count = tokens.ids.len();
                Ok(tokens)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tokens, A::Error> {
                let mut tokens = Tokens::default();
                while items.next_element::<IgnoredAny>()?.is_some() {
                    tokens.count += 1;
                }
                Ok(tokens)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair(String, String);
        struct OnePair;
        impl<'de> Visitor<'de> for OnePair {
            type Value = Pair;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a pair of tokens")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Pair, E> {
                let mut parts = text.split(' ');
                match (parts.next(), parts.next(), parts.next()) {
                    (Some(left), Some(right), None) => Ok(Pair(left.to_string(), right.to_string())),
                    _ => Err(E::custom(format!("the merge {text:?} is not a pair"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Pair, A::Error> {
                let both = (items.next_element()?, items.next_element()?);
                match (both, items.next_element::<IgnoredAny>()?) {
                    ((Some(left), Some(right)), None) => Ok(Pair(left, right)),
                    _ => Err(A::Error::custom("a merge is not a pair")),
                }
            }
        }
        impl<'de> Deserialize<'de> for Pair {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(OnePair)
            }
        }
        let pairs = Option::<Vec<Pair>>::deserialize(deserializer)?.unwrap_or_default();
        Ok(Self(pairs.into_iter().map(|Pair(left, right)| (left, right)).collect()))
    }
}

/// The library's tokenizer and the largest id plus one.
pub(crate) fn read(bytes: &[u8], vocabulary_size: usize) -> Result<(Tokenizer, usize), Refusal> {
    let invalid = |error: &dyn fmt::Display| Refusal::Invalid(error.to_string());
    let file: File = serde_json::from_slice(bytes).map_err(|error| invalid(&error))?;
    let count = file.model.vocab.count;
    if count.max(file.added_tokens.len()) > vocabulary_size {
        return Err(Refusal::TooMany(count.max(file.added_tokens.len())));
    }
    if file.model.merges.0.len() > MERGES_PER_TOKEN * count.max(64) {
        return Err(Refusal::Invalid(format!("it has {} merges for {count} tokens", file.model.merges.0.len())));
    }
    check_model(&file.model)?;
    check_growth(&file.normalizer, &file.pre_tokenizer, &file.decoder)?;
    let File { normalizer, pre_tokenizer, decoder, added_tokens, model } = file;
    let mut ids: Vec<u32>;
    let tokenizer = if model.kind.as_deref() == Some("BPE") {
        ids = model.vocab.ids.values().copied().collect();
        let step = |error: serde_json::Error| Refusal::Invalid(error.to_string());
        let mut tokenizer = Tokenizer::new(byte_pairs(model)?);
        tokenizer
            .with_normalizer(serde_json::from_value::<Option<NormalizerWrapper>>(normalizer).map_err(step)?)
            .map_err(|error| invalid(&error))?;
        tokenizer
            .with_pre_tokenizer(serde_json::from_value::<Option<PreTokenizerWrapper>>(pre_tokenizer).map_err(step)?);
        tokenizer.with_decoder(serde_json::from_value::<Option<DecoderWrapper>>(decoder).map_err(step)?);
        let added = added_tokens.iter().map(|token| {
            AddedToken::from(token.content.clone(), token.special)
                .single_word(token.single_word)
                .lstrip(token.lstrip)
                .rstrip(token.rstrip)
                .normalized(token.normalized.unwrap_or(!token.special))
        });
        tokenizer.add_tokens(added.collect::<Vec<_>>()).map_err(|error| invalid(&error))?;
        tokenizer
    } else {
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| invalid(&error))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| invalid(&error))?;
        ids = tokenizer.get_vocab(false).into_values().collect();
        tokenizer
    };
    if let Some(token) = added_tokens.iter().find(|token| tokenizer.token_to_id(&token.content) != Some(token.id)) {
        return Err(Refusal::Invalid(format!(
            "added token {:?} has id {}, which is not its id in the vocabulary",
            token.content, token.id
        )));
    }
    let own = ids.len();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Refusal::Invalid(format!("id {} is given twice", pair[0])));
    }
    ids.extend(added_tokens.iter().map(|token| token.id));
    let Some(largest) = ids.iter().max().map(|id| *id as usize) else {
        return Err(Refusal::Invalid("it has an empty vocabulary".to_string()));
    };
    if largest >= vocabulary_size {
        return Err(Refusal::TooMany(largest + 1));
    }
    // Ids may have gaps, but not absurd ones: tables are as long as the largest id.
    if largest > 4 * own + 65_536 {
        return Err(Refusal::Invalid(format!("it has id {largest} in a vocabulary of {own} tokens")));
    }
    // Two added tokens of one id would hide each other.
    let mut added: Vec<u32> = added_tokens.iter().map(|token| token.id).collect();
    added.sort_unstable();
    match added.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Refusal::Invalid(format!("id {} is given twice", pair[0]))),
        None => Ok((tokenizer, largest + 1)),
    }
}

fn byte_pairs(model: Model) -> Result<BPE, Refusal> {
    let mut builder = BPE::builder()
        .vocab_and_merges(model.vocab.ids, model.merges.0)
        .fuse_unk(model.fuse_unk.unwrap_or(false))
        .byte_fallback(model.byte_fallback.unwrap_or(false))
        .ignore_merges(model.ignore_merges.unwrap_or(false));
    if let Some(text) = model.unk_token {
        builder = builder.unk_token(text);
    }
    if let Some(text) = model.continuing_subword_prefix {
        builder = builder.continuing_subword_prefix(text);
    }
    if let Some(text) = model.end_of_word_suffix {
        builder = builder.end_of_word_suffix(text);
    }
    builder.build().map_err(|error| Refusal::Invalid(error.to_string()))
}
