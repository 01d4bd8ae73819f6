use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::{
    AddedToken, AddedVocabulary, DecoderWrapper, Model, OffsetType, PreTokenizer, PreTokenizerWrapper, Tokenizer,
};

use crate::check::{Refusal, LARGEST_FILE, MERGES_PER_TOKEN};
use crate::error::{Result, TextError};
use crate::json_file;
use crate::pieces::{scheme_of, Pieces, Scheme};
use crate::sentence_piece::SentencePieces;
use crate::vocabulary::{invalid, GgufVocabulary, TokenKind};
use crate::words;

/// Turns text into token ids and back: a tokenizer.json or the vocabulary of a GGUF file. No token is added on its own.
pub struct TextTokenizer {
    backend: Backend,
    place: String,
    vocabulary_size: usize,
    /// The largest id and one more.
    tokens: usize,
    /// Texts of the special tokens.
    special: Vec<String>,
    pieces: OnceLock<Option<Pieces>>,
}

enum Backend {
    Library {
        tokenizer: Box<Tokenizer>,
        /// Added tokens without the special ones.
        plain: Box<AddedVocabulary>,
    },
    SentencePieces {
        pieces: Box<SentencePieces>,
        vocabulary: Box<GgufVocabulary>,
    },
}

impl TextTokenizer {
    /// Loads `tokenizer.json` of a checkpoint folder.
    ///
    /// `vocabulary_size` is the number of rows of the model's embedding; the tokenizer may have fewer tokens, never more.
    /// Errors: CUPEL_NATIVE_TOKENIZER_MISSING, CUPEL_NATIVE_TOKENIZER_INVALID, CUPEL_NATIVE_TOKENIZER_MISMATCH.
    pub fn open(directory: &Path, vocabulary_size: usize) -> Result<Self> {
        let file = directory.join("tokenizer.json");
        let place = file.display().to_string();
        let mut bytes = Vec::new();
        std::fs::File::open(&file).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)).map_err(
            |error| {
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
            },
        )?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(invalid(&place, format!("it has more than {LARGEST_FILE} bytes")));
        }
        Self::from_json(&bytes, place, vocabulary_size)
    }

    /// As `open`, of the bytes of a tokenizer.json.
    pub fn from_json(bytes: &[u8], place: String, vocabulary_size: usize) -> Result<Self> {
        // The builder is third-party code and the file is untrusted: a panic in it is an invalid file.
        let read = std::panic::catch_unwind(|| json_file::read(bytes, vocabulary_size))
            .map_err(|_| invalid(&place, "it could not be built".to_string()))?;
        let (tokenizer, tokens) = read.map_err(|refusal| match refusal {
            Refusal::Invalid(message) => invalid(&place, message),
            Refusal::TooMany(tokens) => mismatch(&place, tokens, vocabulary_size),
        })?;
        Ok(Self::of_library(tokenizer, place, vocabulary_size, tokens))
    }

    /// The tokenizer of a GGUF file.
    ///
    /// Errors: CUPEL_NATIVE_TOKENIZER_INVALID for a vocabulary that lies or is of an unknown kind,
    /// CUPEL_NATIVE_TOKENIZER_MISMATCH.
    pub fn from_vocabulary(vocabulary: GgufVocabulary, place: String, vocabulary_size: usize) -> Result<Self> {
        let vocabulary = vocabulary.checked(&place, vocabulary_size)?;
        match vocabulary.model.as_str() {
            "gpt2" => {
                let tokenizer = byte_pairs(&vocabulary, &place)?;
                Ok(Self::of_library(tokenizer, place, vocabulary_size, vocabulary.tokens.len()))
            }
            "llama" => Ok(Self {
                special: (0..vocabulary.tokens.len())
                    .filter(|id| vocabulary.kind(*id).is_special())
                    .map(|id| vocabulary.tokens[id].clone())
                    .collect(),
                tokens: vocabulary.tokens.len(),
                backend: Backend::SentencePieces {
                    pieces: Box::new(SentencePieces::new(&vocabulary, &place)?),
                    vocabulary: Box::new(vocabulary),
                },
                place,
                vocabulary_size,
                pieces: OnceLock::new(),
            }),
            other => Err(invalid(&place, format!("tokenizer.ggml.model is {other:?}; gpt2 and llama are known"))),
        }
    }

    fn of_library(tokenizer: Tokenizer, place: String, vocabulary_size: usize, tokens: usize) -> Self {
        let added = tokenizer.get_added_vocabulary();
        let mut plain = added.clone();
        plain.set_encode_special_tokens(true);
        let mut special: Vec<String> = added
            .get_added_tokens_decoder()
            .values()
            .filter(|token| token.special && token.content.chars().count() > 1)
            .map(|token| token.content.clone())
            .collect();
        special.sort_unstable();
        Self {
            backend: Backend::Library { tokenizer: Box::new(tokenizer), plain: Box::new(plain) },
            place,
            vocabulary_size,
            tokens,
            special,
            pieces: OnceLock::new(),
        }
    }

    /// Token ids of a text; special tokens that it spells out are parsed.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.backend {
            Backend::Library { tokenizer, .. } => {
                let encoded =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tokenizer.encode_fast(text, false)))
                        .map_err(|_| self.failed("encode"))?
                        .map_err(|error| invalid(&self.place, error.to_string()))?;
                Ok(encoded.get_ids().to_vec())
            }
            Backend::SentencePieces { pieces, .. } => Ok(pieces.encode(text, true)),
        }
    }

    /// Token ids of a text in which special tokens are text like any other.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        match &self.backend {
            Backend::Library { tokenizer, plain } => {
                let encoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let mut words = plain.extract_and_normalize(tokenizer.get_normalizer(), text);
                    if let Some(cutter) = tokenizer.get_pre_tokenizer() {
                        cutter.pre_tokenize(&mut words)?;
                    }
                    words.tokenize(|word| tokenizer.get_model().tokenize(word.get()))?;
                    words.into_encoding(None, 0, OffsetType::None)
                }))
                .map_err(|_| self.failed("encode"))?
                .map_err(|error| invalid(&self.place, error.to_string()))?;
                Ok(encoded.get_ids().to_vec())
            }
            Backend::SentencePieces { pieces, .. } => Ok(pieces.encode(text, false)),
        }
    }

    /// The text of token ids without special tokens. Bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let Some(pieces) = self.pieces() else { return self.decode_by_library(ids) };
        let mut bytes = Vec::with_capacity(ids.len() * 6);
        for id in ids {
            bytes.extend_from_slice(pieces.text(*id));
        }
        if pieces.scheme == (Scheme::SentencePiece { drop_first_space: true }) && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    pub(crate) fn decode_by_library(&self, ids: &[u32]) -> Result<String> {
        let Backend::Library { tokenizer, .. } = &self.backend else { return Err(self.failed("decode")) };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tokenizer.decode(ids, true)))
            .map_err(|_| self.failed("decode"))?
            .map_err(|error| invalid(&self.place, error.to_string()))
    }

    /// The bytes of the tokens; `None` where a token's text depends on its neighbours. Built on first use.
    pub(crate) fn pieces(&self) -> Option<&Pieces> {
        self.pieces
            .get_or_init(|| match &self.backend {
                Backend::Library { tokenizer, .. } => scheme_of(tokenizer.get_decoder())
                    .map(|scheme| Pieces::of_tokenizer(tokenizer, scheme, self.tokens)),
                Backend::SentencePieces { vocabulary, .. } => {
                    let drop_first_space = vocabulary.add_space_prefix.unwrap_or(true);
                    let scheme = Scheme::SentencePiece { drop_first_space };
                    Some(Pieces::of_vocabulary(vocabulary, scheme))
                }
            })
            .as_ref()
    }

    pub fn token_id(&self, token: &str) -> Option<u32> {
        match &self.backend {
            Backend::Library { tokenizer, .. } => tokenizer.token_to_id(token),
            Backend::SentencePieces { vocabulary, .. } => {
                vocabulary.tokens.iter().position(|text| text == token).map(|id| id as u32)
            }
        }
    }

    /// Rows of the model's embedding.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    /// The file that the tokenizer is from.
    pub fn place(&self) -> String {
        self.place.clone()
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
            Value::Object(fields) => {
                // Keys are text as well: arguments of a tool call have any.
                *fields = std::mem::take(fields)
                    .into_iter()
                    .map(|(key, mut field)| {
                        self.defuse_all(&mut field);
                        (self.defuse(&key), field)
                    })
                    .collect();
            }
            _ => {}
        }
    }

    fn failed(&self, what: &str) -> TextError {
        invalid(&self.place, format!("it failed to {what}"))
    }
}

fn mismatch(place: &str, tokens: usize, vocabulary_size: usize) -> TextError {
    TextError::new(
        "CUPEL_NATIVE_TOKENIZER_MISMATCH",
        format!("the tokenizer has {tokens} tokens or more, the model has {vocabulary_size} embeddings"),
        place,
        "Use the tokenizer that the checkpoint was trained with.",
    )
}

/// A byte-level pair tokenizer of a GGUF file.
fn byte_pairs(vocabulary: &GgufVocabulary, place: &str) -> Result<Tokenizer> {
    let pre = vocabulary.pre.as_deref().unwrap_or("default");
    let (cutter, whole_words): (PreTokenizerWrapper, bool) = words::cutter(pre)
        .ok_or_else(|| invalid(place, format!("tokenizer.ggml.pre is {pre:?}; {} are known", words::KNOWN)))?;
    if vocabulary.merges.len() > MERGES_PER_TOKEN * vocabulary.tokens.len().max(64) {
        return Err(invalid(place, format!("tokenizer.ggml.merges has {} entries", vocabulary.merges.len())));
    }
    let mut merges = Vec::with_capacity(vocabulary.merges.len());
    for (index, merge) in vocabulary.merges.iter().enumerate() {
        // The first half may itself begin with a space in old files.
        let space = merge.char_indices().skip(1).find(|(_, character)| *character == ' ');
        let (position, _) =
            space.ok_or_else(|| invalid(place, format!("tokenizer.ggml.merges[{index}] is {merge:?}, not a pair")))?;
        merges.push((merge[..position].to_string(), merge[position + 1..].to_string()));
    }
    let ids = vocabulary.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32));
    let model = BPE::builder()
        .vocab_and_merges(ids.collect::<ahash::AHashMap<_, _>>(), merges)
        .ignore_merges(whole_words)
        .build()
        .map_err(|error| invalid(place, error.to_string()))?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(cutter));
    tokenizer.with_decoder(Some(DecoderWrapper::from(tokenizers::decoders::byte_level::ByteLevel::default())));
    for special in [true, false] {
        let added = vocabulary.tokens.iter().enumerate().filter_map(|(id, token)| {
            let kind = vocabulary.kind(id);
            let wanted = if special { kind.is_special() } else { kind == TokenKind::UserDefined };
            wanted.then(|| AddedToken::from(token.clone(), special).normalized(false))
        });
        let added: Vec<AddedToken> = added.collect();
        if special { tokenizer.add_special_tokens(added) } else { tokenizer.add_tokens(added) }
            .map_err(|error| invalid(place, error.to_string()))?;
    }
    Ok(tokenizer)
}
