//! SentencePiece-like pairs with scores, as GGUF's "llama" vocabularies need them (source of the rules: SentencePiece's
//! BPE model and llama.cpp's use of it): spaces become U+2581, the best-scored pair is merged first, the leftmost of
//! equals, and characters without a token fall back to byte tokens.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use crate::error::Result;
use crate::vocabulary::{invalid, GgufVocabulary, TokenKind};

const SPACE: char = '\u{2581}';

pub(crate) struct SentencePieces {
    ids: HashMap<Box<str>, u32>,
    scores: Vec<f32>,
    bytes: [Option<u32>; 256],
    unknown: Option<u32>,
    /// Added tokens by first byte, longest first: (text, id, special).
    added: HashMap<u8, Vec<(Box<str>, u32, bool)>>,
    space_prefix: bool,
}

struct Pair {
    score: f32,
    left: usize,
    right: usize,
    length: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

const NONE: usize = usize::MAX;

struct Symbol {
    start: usize,
    length: usize,
    previous: usize,
    next: usize,
}

impl SentencePieces {
    /// Errors: CUPEL_NATIVE_TOKENIZER_INVALID where characters without a token could not be written at all.
    pub fn new(vocabulary: &GgufVocabulary, place: &str) -> Result<Self> {
        if vocabulary.scores.is_empty() {
            return Err(invalid(place, "tokenizer.ggml.scores is missing".to_string()));
        }
        let mut pieces = Self {
            ids: HashMap::with_capacity(vocabulary.tokens.len()),
            scores: vocabulary.scores.clone(),
            bytes: [None; 256],
            unknown: vocabulary.unknown,
            added: HashMap::new(),
            space_prefix: vocabulary.add_space_prefix.unwrap_or(true),
        };
        for (id, token) in vocabulary.tokens.iter().enumerate() {
            let kind = vocabulary.kind(id);
            let id = id as u32;
            match kind {
                TokenKind::Normal => {
                    pieces.ids.insert(token.as_str().into(), id);
                }
                TokenKind::Byte => match byte_of(token) {
                    Some(byte) => pieces.bytes[byte as usize] = Some(id),
                    None => return Err(invalid(place, format!("the byte token {id} is written {token:?}"))),
                },
                TokenKind::Unused => {}
                TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined => pieces
                    .added
                    .entry(token.as_bytes()[0])
                    .or_default()
                    .push((token.as_str().into(), id, kind.is_special())),
            }
        }
        for tokens in pieces.added.values_mut() {
            tokens.sort_by_key(|(text, _, _)| std::cmp::Reverse(text.len()));
        }
        if pieces.unknown.is_none() && pieces.bytes.iter().any(Option::is_none) {
            return Err(invalid(place, "it has neither all 256 byte tokens nor an unknown token".to_string()));
        }
        Ok(pieces)
    }

    /// Token ids of a text; special tokens in it are found only if `parse_special`.
    pub fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut start = 0;
        let mut position = 0;
        while position < text.len() {
            match self.added_at(&text[position..], parse_special) {
                Some((length, id)) => {
                    self.encode_words(&text[start..position], &mut ids);
                    ids.push(id);
                    position += length;
                    start = position;
                }
                None => position += text[position..].chars().next().map_or(1, char::len_utf8),
            }
        }
        self.encode_words(&text[start..], &mut ids);
        ids
    }

    fn added_at(&self, text: &str, parse_special: bool) -> Option<(usize, u32)> {
        self.added
            .get(text.as_bytes().first()?)?
            .iter()
            .find(|(token, _, special)| (parse_special || !special) && text.starts_with(&**token))
            .map(|(token, id, _)| (token.len(), *id))
    }

    /// Text without added tokens. Before it is the start of the text or an added token: both ask for the space prefix.
    fn encode_words(&self, text: &str, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut escaped = String::with_capacity(text.len() + 8);
        if self.space_prefix {
            escaped.push(SPACE);
        }
        escaped.extend(text.chars().map(|character| if character == ' ' { SPACE } else { character }));
        let mut symbols: Vec<Symbol> = escaped
            .char_indices()
            .enumerate()
            .map(|(index, (start, character))| Symbol {
                start,
                length: character.len_utf8(),
                previous: index.wrapping_sub(1),
                next: index + 1,
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        let mut heap = BinaryHeap::new();
        for right in 1..symbols.len() {
            self.propose(&escaped, &symbols, right - 1, right, &mut heap);
        }
        while let Some(pair) = heap.pop() {
            let (left, right) = (&symbols[pair.left], &symbols[pair.right]);
            // A pair is stale when one of its halves has been merged since.
            if left.length == 0 || right.length == 0 || left.length + right.length != pair.length {
                continue;
            }
            let after = right.next;
            symbols[pair.left].length = pair.length;
            symbols[pair.left].next = after;
            symbols[pair.right].length = 0;
            if after != NONE {
                symbols[after].previous = pair.left;
                self.propose(&escaped, &symbols, pair.left, after, &mut heap);
            }
            let before = symbols[pair.left].previous;
            if before != NONE {
                self.propose(&escaped, &symbols, before, pair.left, &mut heap);
            }
        }
        let mut index = 0;
        while index != NONE && index < symbols.len() {
            let symbol = &symbols[index];
            let text = &escaped[symbol.start..symbol.start + symbol.length];
            match self.ids.get(text) {
                Some(id) => ids.push(*id),
                None => {
                    for byte in text.bytes() {
                        match self.bytes[byte as usize] {
                            Some(id) => ids.push(id),
                            None => {
                                ids.extend(self.unknown);
                                break;
                            }
                        }
                    }
                }
            }
            index = symbol.next;
        }
    }

    fn propose(&self, text: &str, symbols: &[Symbol], left: usize, right: usize, heap: &mut BinaryHeap<Pair>) {
        let start = symbols[left].start;
        let length = symbols[left].length + symbols[right].length;
        if let Some(id) = self.ids.get(&text[start..start + length]) {
            heap.push(Pair { score: self.scores[*id as usize], left, right, length });
        }
    }
}

/// The byte of a token like `<0x0A>`.
pub(crate) fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}
