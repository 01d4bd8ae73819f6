use std::sync::Arc;

use cupel_core::Constraint;

use crate::tokenizer::TextTokenizer;

/// Ends a completion at a stop text; otherwise lets its inner constraint, if any, decide.
pub struct StopConstraint {
    tokenizer: Arc<TextTokenizer>,
    stop: Vec<String>,
    /// Tokens that can reach into a stop text: every one but special ones decodes to at least a byte.
    window: usize,
    tokens: Vec<u32>,
    inner: Option<Box<dyn Constraint>>,
}

impl StopConstraint {
    pub fn new(
        tokenizer: Arc<TextTokenizer>,
        stop: Vec<String>,
        inner: Option<Box<dyn Constraint>>,
    ) -> Self {
        let longest = stop.iter().map(String::len).max().unwrap_or(0);
        Self {
            tokenizer,
            stop,
            window: longest + 8,
            tokens: Vec::new(),
            inner,
        }
    }
}

impl Constraint for StopConstraint {
    fn mask(&mut self, allowed: &mut [u32]) -> Result<(), String> {
        match &mut self.inner {
            Some(inner) => inner.mask(allowed),
            None => Ok(()),
        }
    }

    fn accept(&mut self, token: u32) -> Result<bool, String> {
        self.tokens.push(token);
        let finished = match &mut self.inner {
            Some(inner) => inner.accept(token)?,
            None => false,
        };
        let tail = &self.tokens[self.tokens.len().saturating_sub(self.window)..];
        let text = self
            .tokenizer
            .decode(tail)
            .map_err(|error| error.to_string())?;
        Ok(finished || cut_at_stop(&text, &self.stop).is_some())
    }
}

/// The text before the first stop text in it; `None` if there is none. Empty stop texts are not looked for.
pub fn cut_at_stop<'a>(text: &'a str, stop: &[String]) -> Option<&'a str> {
    stop.iter()
        .filter(|entry| !entry.is_empty())
        .filter_map(|entry| text.find(entry.as_str()))
        .min()
        .map(|index| &text[..index])
}

#[cfg(test)]
mod tests {
    use super::cut_at_stop;

    #[test]
    fn cuts_at_the_first_of_the_stop_texts() {
        let stop = vec!["\n".to_string(), "END".to_string(), String::new()];
        assert_eq!(cut_at_stop("a END b\nc", &stop), Some("a "));
        assert_eq!(cut_at_stop("nothing here", &stop), None);
    }
}
