use std::sync::Arc;

use crate::error::Result;
use crate::pieces::Scheme;
use crate::stop::{StopMatcher, StopTexts};
use crate::tokenizer::TextTokenizer;

/// The text of a completion while its tokens arrive: characters are never split, and what could still become a stop
/// text is held back. All texts that it gives, in order, are `decode` of all tokens, cut at the first stop text.
pub struct TextStream {
    tokenizer: Arc<TextTokenizer>,
    stop: StopMatcher,
    /// Bytes of a character that is not complete.
    pending: Vec<u8>,
    begun: bool,
    /// For decoders that look at neighbours: tokens whose text is not settled, and how many of them were given.
    window: Vec<u32>,
    given: usize,
}

impl TextStream {
    pub fn new(tokenizer: Arc<TextTokenizer>, stop: &[String]) -> Self {
        Self::with_stop(tokenizer, StopTexts::new(stop))
    }

    /// As `new`, with stop texts that are prepared once for many streams.
    pub fn with_stop(tokenizer: Arc<TextTokenizer>, stop: Arc<StopTexts>) -> Self {
        Self {
            tokenizer,
            stop: StopMatcher::new(stop),
            pending: Vec::new(),
            begun: false,
            window: Vec::new(),
            given: 0,
        }
    }

    /// Takes a token; gives the text that is certain now, if any. After a stop text nothing more comes.
    ///
    /// Errors: CUPEL_NATIVE_TOKENIZER_INVALID where the tokenizer's own decoder fails.
    pub fn push(&mut self, token: u32) -> Result<Option<String>> {
        if self.stopped() {
            return Ok(None);
        }
        let text = if self.tokenizer.pieces().is_some() { self.bytes_of(token) } else { self.text_of(token)? };
        let sure = self.stop.push(&text);
        Ok((!sure.is_empty()).then_some(sure))
    }

    /// True when a stop text was found.
    pub fn stopped(&self) -> bool {
        self.stop.found().is_some()
    }

    /// The stop text that was found.
    pub fn stop_text(&self) -> Option<&str> {
        self.stop.found()
    }

    /// What was held back, when no more tokens come. A character that stayed incomplete is one U+FFFD.
    pub fn finish(&mut self) -> String {
        if self.stopped() {
            return String::new();
        }
        let mut text = String::new();
        if !std::mem::take(&mut self.pending).is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        if self.given < self.window.len() {
            if let (Ok(all), Ok(before)) = (
                self.tokenizer.decode_by_library(&self.window),
                self.tokenizer.decode_by_library(&self.window[..self.given]),
            ) {
                text.push_str(all.get(before.len()..).unwrap_or_default());
            }
            self.given = self.window.len();
        }
        let mut sure = self.stop.push(&text);
        sure.push_str(&self.stop.finish());
        sure
    }

    fn bytes_of(&mut self, token: u32) -> String {
        let Some(pieces) = self.tokenizer.pieces() else { return String::new() };
        let mut bytes = pieces.text(token);
        if !self.begun && !bytes.is_empty() {
            self.begun = true;
            if pieces.scheme == (Scheme::SentencePiece { drop_first_space: true }) && bytes[0] == b' ' {
                bytes = &bytes[1..];
            }
        }
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest: &[u8] = &self.pending;
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = b"";
                }
                Err(error) => {
                    let (valid, broken) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    rest = broken;
                    let Some(length) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[length..];
                }
            }
        }
        let kept = rest.len();
        let start = self.pending.len() - kept;
        self.pending.drain(..start);
        text
    }

    /// Text by differences of the decoder's output over a short window, as long as it ends in a whole character.
    fn text_of(&mut self, token: u32) -> Result<String> {
        self.window.push(token);
        let all = self.tokenizer.decode_by_library(&self.window)?;
        let before = self.tokenizer.decode_by_library(&self.window[..self.given])?;
        let unsettled = all.ends_with(char::REPLACEMENT_CHARACTER) && self.window.len() - self.given < 8;
        if all.len() <= before.len() || unsettled {
            return Ok(String::new());
        }
        let new = all.get(before.len()..).unwrap_or_default().to_string();
        // The tokens given last stay as the neighbours of the next ones.
        self.window.drain(..self.given);
        self.given = self.window.len();
        Ok(new)
    }
}
