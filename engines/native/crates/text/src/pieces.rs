//! The bytes that each token stands for, in one block of memory.

use tokenizers::{DecoderWrapper, Model, Tokenizer};

use crate::sentence_piece::byte_of;
use crate::vocabulary::{GgufVocabulary, TokenKind};

/// How the text of a token becomes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Every character stands for one byte (GPT-2's alphabet).
    ByteLevel,
    /// U+2581 stands for a space, `<0x0A>` for a byte.
    SentencePiece {
        /// Decoding drops one space at the very beginning.
        drop_first_space: bool,
    },
}

/// Bytes of every id; ids beyond have none.
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    special: Vec<u64>,
    pub scheme: Scheme,
}

impl Pieces {
    fn with_capacity(count: usize, scheme: Scheme) -> Self {
        Self {
            bytes: Vec::with_capacity(count * 7),
            ends: Vec::with_capacity(count),
            special: vec![0; count.div_ceil(64)],
            scheme,
        }
    }

    /// The next id stands for nothing.
    fn push_none(&mut self) {
        self.ends.push(self.bytes.len() as u32);
    }

    /// The next id is a special token, or one whose text is taken as it is.
    fn push_raw(&mut self, text: &str, special: bool) {
        if special {
            self.special[self.ends.len() / 64] |= 1 << (self.ends.len() % 64);
        }
        self.bytes.extend_from_slice(text.as_bytes());
        self.push_none();
    }

    /// The next id is a token of the vocabulary.
    fn push(&mut self, text: &str) {
        match self.scheme {
            Scheme::ByteLevel => {
                let start = self.bytes.len();
                for character in text.chars() {
                    match byte_of_character(character) {
                        Some(byte) => self.bytes.push(byte),
                        None => {
                            self.bytes.truncate(start);
                            self.bytes.extend_from_slice(text.as_bytes());
                            break;
                        }
                    }
                }
            }
            Scheme::SentencePiece { .. } => match byte_of(text) {
                Some(byte) => self.bytes.push(byte),
                None => self.bytes.extend_from_slice(text.replace('\u{2581}', " ").as_bytes()),
            },
        }
        self.push_none();
    }

    pub fn of_tokenizer(tokenizer: &Tokenizer, scheme: Scheme, count: usize) -> Self {
        let mut pieces = Self::with_capacity(count, scheme);
        let added = tokenizer.get_added_vocabulary();
        let model = tokenizer.get_model();
        for id in 0..count as u32 {
            match added.get_added_tokens_decoder().get(&id) {
                Some(token) if token.special => pieces.push_raw(&token.content, true),
                Some(_) => pieces.push(&added.simple_id_to_token(id).unwrap_or_default()),
                None => match model.id_to_token(id) {
                    Some(text) => pieces.push(&text),
                    None => pieces.push_none(),
                },
            }
        }
        pieces
    }

    pub fn of_vocabulary(vocabulary: &GgufVocabulary, scheme: Scheme) -> Self {
        let mut pieces = Self::with_capacity(vocabulary.tokens.len(), scheme);
        for (id, text) in vocabulary.tokens.iter().enumerate() {
            match vocabulary.kind(id) {
                TokenKind::Unused => pieces.push_none(),
                TokenKind::UserDefined => pieces.push_raw(text, false),
                kind if kind.is_special() => pieces.push_raw(text, true),
                _ => pieces.push(text),
            }
        }
        pieces
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of a token, of special tokens their text; empty for ids without a token.
    pub fn bytes(&self, id: u32) -> &[u8] {
        let index = id as usize;
        let Some(end) = self.ends.get(index) else { return b"" };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start as usize..*end as usize]
    }

    pub fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    /// The bytes that a token adds to a text: none for special ones.
    pub fn text(&self, id: u32) -> &[u8] {
        if self.is_special(id) {
            b""
        } else {
            self.bytes(id)
        }
    }
}

/// The scheme of a tokenizer.json; `None` for decoders that look at neighbours.
pub(crate) fn scheme_of(decoder: Option<&DecoderWrapper>) -> Option<Scheme> {
    match decoder? {
        DecoderWrapper::ByteLevel(_) => Some(Scheme::ByteLevel),
        DecoderWrapper::Metaspace(_) | DecoderWrapper::Sequence(_) => {
            // The parts of these decoders are private: their own JSON tells them.
            let json = serde_json::to_value(decoder?).ok()?;
            let steps = match json["decoders"].as_array() {
                Some(steps) => steps.clone(),
                None => vec![json],
            };
            let mut spaces = false;
            let mut drop_first_space = false;
            for step in &steps {
                match step["type"].as_str()? {
                    "Replace" if step["pattern"]["String"] == "\u{2581}" && step["content"] == " " => spaces = true,
                    "Metaspace" if step["replacement"] == "\u{2581}" => {
                        spaces = true;
                        drop_first_space = step["prepend_scheme"] != "never";
                    }
                    "Strip" if step["content"] == " " && step["stop"] == 0 => match step["start"].as_u64()? {
                        0 => {}
                        1 => drop_first_space = true,
                        _ => return None,
                    },
                    "ByteFallback" | "Fuse" => {}
                    "ByteLevel" if steps.len() == 1 => return Some(Scheme::ByteLevel),
                    _ => return None,
                }
            }
            spaces.then_some(Scheme::SentencePiece { drop_first_space })
        }
        _ => None,
    }
}

/// The byte of a character of GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes, in order,
/// for the characters from U+0100.
fn byte_of_character(character: char) -> Option<u8> {
    let code = character as u32;
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::byte_of_character;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn the_alphabet_has_each_byte_once() {
        let mut bytes: Vec<u8> = ByteLevel::alphabet().into_iter().map(|c| byte_of_character(c).unwrap()).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(byte_of_character('Ġ'), Some(b' '));
        assert_eq!(byte_of_character('Ċ'), Some(b'\n'));
    }
}
