use crate::error::{Result, TextError};

/// More tokens than any published vocabulary has (the largest have about 256 thousand).
const MOST_TOKENS: usize = 1 << 21;
const LONGEST_TOKEN: usize = 64 * 1024;

/// What a token is; the numbers are those of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    fn of(number: i32) -> Option<Self> {
        Some(match number {
            0 | 1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }

    /// Never part of a text.
    pub fn is_special(self) -> bool {
        matches!(self, Self::Unknown | Self::Control)
    }
}

/// The tokenizer of a GGUF file: the values of its `tokenizer.*` keys (source: the GGUF specification of ggml).
#[derive(Debug, Clone, Default)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.model`: "gpt2" (byte-level pairs) or "llama" (SentencePiece pairs with scores).
    pub model: String,
    /// `tokenizer.ggml.pre`: how text is cut into words before pairs are merged.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`, at their ids.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`; empty where the file has none (all normal).
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`, "left right", best first; of "gpt2".
    pub merges: Vec<String>,
    /// `tokenizer.ggml.scores`; of "llama".
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.bos_token_id` and so on.
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub eot: Option<u32>,
    pub eom: Option<u32>,
    pub unknown: Option<u32>,
    pub padding: Option<u32>,
    pub separator: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`: whether the model expects the begin token before a text.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`; true where the file does not say.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

impl GgufVocabulary {
    /// Takes what it needs from a file's metadata: `texts`, `numbers`, `scores`, `text`, `id` and `flag` look a key up.
    ///
    /// Errors: those of `lookup`.
    pub fn read<L: MetadataLookup>(lookup: &L) -> std::result::Result<Self, L::Error> {
        let id = |name: &str| lookup.id(&format!("tokenizer.ggml.{name}_token_id"));
        Ok(Self {
            model: lookup.text("tokenizer.ggml.model")?.unwrap_or_default(),
            pre: lookup.text("tokenizer.ggml.pre")?,
            tokens: lookup.texts("tokenizer.ggml.tokens")?,
            token_types: lookup.numbers("tokenizer.ggml.token_type")?,
            merges: lookup.texts("tokenizer.ggml.merges")?,
            scores: lookup.scores("tokenizer.ggml.scores")?,
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            eom: id("eom")?,
            unknown: id("unknown")?,
            padding: id("padding")?,
            separator: id("seperator")?.or(id("separator")?),
            add_bos: lookup.flag("tokenizer.ggml.add_bos_token")?,
            add_space_prefix: lookup.flag("tokenizer.ggml.add_space_prefix")?,
            chat_template: lookup.text("tokenizer.chat_template")?,
        })
    }

    /// The kind of a token; `Normal` for ids beyond the vocabulary.
    pub fn kind(&self, id: usize) -> TokenKind {
        self.token_types.get(id).and_then(|number| TokenKind::of(*number)).unwrap_or(TokenKind::Normal)
    }

    /// Refuses what lies: no tokens or too many, lists of other lengths, texts twice, unknown types, ids out of range.
    /// Empty texts, which some converters write for unused ids, get a name of their own.
    ///
    /// Errors: CUPEL_NATIVE_TOKENIZER_INVALID, CUPEL_NATIVE_TOKENIZER_MISMATCH.
    pub fn checked(mut self, place: &str, vocabulary_size: usize) -> Result<Self> {
        let count = self.tokens.len();
        if count == 0 || count > MOST_TOKENS {
            return Err(invalid(
                place,
                format!("tokenizer.ggml.tokens has {count} entries; 1 to {MOST_TOKENS} were expected"),
            ));
        }
        if count > vocabulary_size {
            return Err(TextError::new(
                "CUPEL_NATIVE_TOKENIZER_MISMATCH",
                format!("the tokenizer has {count} tokens, the model has {vocabulary_size} embeddings"),
                place,
                "Use the tokenizer that the checkpoint was trained with.",
            ));
        }
        for (name, length) in [("token_type", self.token_types.len()), ("scores", self.scores.len())] {
            if length != 0 && length != count {
                return Err(invalid(place, format!("tokenizer.ggml.{name} has {length} entries for {count} tokens")));
            }
        }
        if let Some((id, number)) =
            self.token_types.iter().enumerate().find(|(_, number)| TokenKind::of(**number).is_none())
        {
            return Err(invalid(place, format!("token {id} has the unknown type {number}")));
        }
        if let Some((id, score)) = self.scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
            return Err(invalid(place, format!("token {id} has the score {score}")));
        }
        for (id, token) in self.tokens.iter_mut().enumerate() {
            if token.len() > LONGEST_TOKEN {
                return Err(invalid(place, format!("token {id} is {} bytes long", token.len())));
            }
            if token.is_empty() {
                *token = format!("[EMPTY_{id}]");
            }
        }
        let mut seen = ahash::AHashSet::with_capacity(count);
        if let Some((id, token)) = self.tokens.iter().enumerate().find(|(_, token)| !seen.insert(token.as_str())) {
            return Err(invalid(place, format!("token {id} has the text {token:?} of an earlier token")));
        }
        let named = [
            ("bos", self.bos),
            ("eos", self.eos),
            ("eot", self.eot),
            ("eom", self.eom),
            ("unknown", self.unknown),
            ("padding", self.padding),
            ("separator", self.separator),
        ];
        for (name, id) in named {
            if let Some(id) = id.filter(|id| *id as usize >= count) {
                return Err(invalid(
                    place,
                    format!("tokenizer.ggml.{name}_token_id is {id}; the file has {count} tokens"),
                ));
            }
        }
        Ok(self)
    }
}

/// How values are found in a GGUF file's metadata. An absent key is `None` or empty; a value of another type is an
/// error of the reader.
pub trait MetadataLookup {
    type Error;
    fn text(&self, key: &str) -> std::result::Result<Option<String>, Self::Error>;
    fn texts(&self, key: &str) -> std::result::Result<Vec<String>, Self::Error>;
    fn numbers(&self, key: &str) -> std::result::Result<Vec<i32>, Self::Error>;
    fn scores(&self, key: &str) -> std::result::Result<Vec<f32>, Self::Error>;
    fn id(&self, key: &str) -> std::result::Result<Option<u32>, Self::Error>;
    fn flag(&self, key: &str) -> std::result::Result<Option<bool>, Self::Error>;
}

pub(crate) fn invalid(place: &str, message: String) -> TextError {
    TextError::new(
        "CUPEL_NATIVE_TOKENIZER_INVALID",
        format!("the tokenizer is not usable: {message}"),
        place,
        "Restore the file from where the checkpoint came.",
    )
}
