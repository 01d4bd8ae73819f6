use std::sync::Arc;

use cupel_core::Constraint;

use crate::stream::TextStream;
use crate::tokenizer::TextTokenizer;

/// Stop texts prepared for matching; empty ones are left out.
pub struct StopTexts {
    /// Each with its failure function (Knuth, Morris and Pratt): length of the longest proper border of each prefix.
    texts: Vec<(String, Vec<usize>)>,
}

impl StopTexts {
    pub fn new(stop: &[String]) -> Arc<Self> {
        let prepare = |text: &String| {
            let bytes = text.as_bytes();
            let mut borders = vec![0; bytes.len()];
            for index in 1..bytes.len() {
                let mut length: usize = borders[index - 1];
                while length > 0 && bytes[length] != bytes[index] {
                    length = borders[length - 1];
                }
                borders[index] = length + usize::from(bytes[length] == bytes[index]);
            }
            (text.clone(), borders)
        };
        Arc::new(Self { texts: stop.iter().filter(|text| !text.is_empty()).map(prepare).collect() })
    }
}

/// Looks for stop texts in a text that arrives in parts. The first stop text is the one that is complete first; of two
/// that end together the longer. So it does not depend on how the text is parted.
pub struct StopMatcher {
    stop: Arc<StopTexts>,
    /// Bytes matched of each stop text.
    matched: Vec<usize>,
    /// Text that may be the beginning of a stop text.
    held: String,
    found: Option<usize>,
}

impl StopMatcher {
    pub fn new(stop: Arc<StopTexts>) -> Self {
        let matched = vec![0; stop.texts.len()];
        Self { stop, matched, held: String::new(), found: None }
    }

    /// The stop text that was found.
    pub fn found(&self) -> Option<&str> {
        self.found.map(|index| self.stop.texts[index].0.as_str())
    }

    /// Takes a part of the text; gives what comes before every possible stop text and was not given before.
    pub fn push(&mut self, part: &str) -> String {
        if self.found.is_some() {
            return String::new();
        }
        let before = self.held.len();
        self.held.push_str(part);
        for (index, byte) in part.bytes().enumerate() {
            for (which, (text, borders)) in self.stop.texts.iter().enumerate() {
                let matched = &mut self.matched[which];
                while *matched > 0 && text.as_bytes()[*matched] != byte {
                    *matched = borders[*matched - 1];
                }
                *matched += usize::from(text.as_bytes()[*matched] == byte);
                let longer = |other: usize| self.stop.texts[other].0.len() < text.len();
                if *matched == text.len() && self.found.is_none_or(longer) {
                    self.found = Some(which);
                }
                // Complete: only of interest if it ends the search, which it does after this byte.
                *matched = if *matched == text.len() { borders[*matched - 1] } else { *matched };
            }
            if let Some(which) = self.found {
                self.held.truncate(before + index + 1 - self.stop.texts[which].0.len());
                return std::mem::take(&mut self.held);
            }
        }
        let kept = self.matched.iter().copied().max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        std::mem::replace(&mut self.held, rest)
    }

    /// What was held back, when nothing more comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Ends a completion at a stop text; otherwise lets its inner constraint, if any, decide.
pub struct StopConstraint {
    stream: TextStream,
    inner: Option<Box<dyn Constraint>>,
}

impl StopConstraint {
    pub fn new(tokenizer: Arc<TextTokenizer>, stop: Vec<String>, inner: Option<Box<dyn Constraint>>) -> Self {
        Self { stream: TextStream::new(tokenizer, &stop), inner }
    }
}

impl Constraint for StopConstraint {
    fn restricts(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.restricts())
    }

    fn mask(&mut self, allowed: &mut [u32]) -> Result<(), String> {
        match &mut self.inner {
            Some(inner) => inner.mask(allowed),
            None => Ok(()),
        }
    }

    fn accept(&mut self, token: u32) -> Result<bool, String> {
        let finished = match &mut self.inner {
            Some(inner) => inner.accept(token)?,
            None => false,
        };
        self.stream.push(token).map_err(|error| error.to_string())?;
        Ok(finished || self.stream.stopped())
    }
}

/// The text before the first stop text in it (see `StopMatcher`); `None` if there is none.
pub fn cut_at_stop<'a>(text: &'a str, stop: &[String]) -> Option<&'a str> {
    let mut matcher = StopMatcher::new(StopTexts::new(stop));
    let before = matcher.push(text);
    matcher.found().map(|_| &text[..before.len()])
}

#[cfg(test)]
mod tests {
    use super::{cut_at_stop, StopMatcher, StopTexts};

    #[test]
    fn cuts_at_the_first_of_the_stop_texts() {
        let stop = vec!["\n".to_string(), "END".to_string(), String::new()];
        assert_eq!(cut_at_stop("a END b\nc", &stop), Some("a "));
        assert_eq!(cut_at_stop("nothing here", &stop), None);
        assert_eq!(cut_at_stop("", &stop), None);
    }

    #[test]
    fn parting_changes_nothing() {
        let mut seed = 7_u64;
        let mut random = |bound: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % bound
        };
        let letters = ['a', 'b', 'é', '水'];
        for _ in 0..3000 {
            let mut word = |most: usize| (0..random(most)).map(|_| letters[random(4)]).collect::<String>();
            let text = word(24);
            let stop: Vec<String> = (0..3).map(|_| word(5)).collect();
            // By hand: the shortest beginning of the text that ends in a stop text.
            let end = text.char_indices().map(|(at, letter)| at + letter.len_utf8());
            let hit = end
                .filter_map(|end| {
                    let ending = stop.iter().filter(|s| !s.is_empty() && text[..end].ends_with(s.as_str()));
                    ending.map(String::len).max().map(|longest| &text[..end - longest])
                })
                .next();
            assert_eq!(cut_at_stop(&text, &stop), hit, "{text:?} {stop:?}");
            let mut matcher = StopMatcher::new(StopTexts::new(&stop));
            let mut given = String::new();
            let mut part = String::new();
            for letter in text.chars() {
                part.push(letter);
                if random(2) == 0 {
                    given += &matcher.push(&std::mem::take(&mut part));
                }
            }
            given += &matcher.push(&part);
            given += &matcher.finish();
            assert_eq!(given, hit.unwrap_or(&text), "{text:?} {stop:?}");
            assert_eq!(matcher.found().is_some(), hit.is_some());
        }
    }
}
