use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cupel_core::Constraint;
use llguidance::{Matcher, ParserFactory};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::error::{Result, TextError};
use crate::grammar::{unsupported, Grammar};
use crate::tokenizer::TextTokenizer;

/// Distinct grammars kept compiled; more than a run ever has.
const KEPT_GRAMMARS: usize = 256;

/// Compiles grammars to constraints on token ids, each distinct grammar once.
///
/// Constrained JSON has the form of Python's `json.dumps`: ", " and ": " as separators, keys in the order of
/// `properties`, no other white space.
pub struct GrammarCompiler {
    factory: ParserFactory,
    compiled: Mutex<HashMap<Grammar, Arc<Mutex<Matcher>>>>,
    /// Bits of the tokens that a grammar may ever allow: text and end tokens.
    text_tokens: Arc<Vec<u32>>,
}

/// The former name.
pub type SchemaCompiler = GrammarCompiler;

impl GrammarCompiler {
    /// Errors: CUPEL_NATIVE_SCHEMA_UNSUPPORTED where the bytes of the tokens can not be known.
    pub fn new(tokenizer: &Arc<TextTokenizer>, end_tokens: &[u32]) -> Result<Self> {
        let internal = |message: String| {
            TextError::new(
                "CUPEL_NATIVE_SCHEMA_UNSUPPORTED",
                format!("decoding can not be constrained with this tokenizer: {message}"),
                tokenizer.place(),
                "Leave the grammar out, or use a checkpoint with a byte-level or byte-fallback tokenizer.",
            )
        };
        let pieces =
            tokenizer.pieces().ok_or_else(|| internal("the text of its tokens depends on neighbours".to_string()))?;
        let end_of_sequence = *end_tokens.first().ok_or_else(|| internal("it has no end token".to_string()))?;
        let largest_end = end_tokens.iter().max().map_or(0, |id| *id as usize);
        if largest_end >= tokenizer.vocabulary_size() {
            return Err(internal(format!("its end token {largest_end} is outside of the vocabulary")));
        }
        let count = pieces.len().max(largest_end + 1);
        let mut text_tokens = vec![0_u32; count.div_ceil(32)];
        let mut words = Vec::with_capacity(count);
        for id in 0..count as u32 {
            let bytes = pieces.bytes(id);
            let special = pieces.is_special(id);
            if !special || end_tokens.contains(&id) {
                text_tokens[id as usize / 32] |= 1 << (id % 32);
            }
            // A leading 0xff, which no text has, marks special tokens in the trie.
            words.push(match special {
                true => [b"\xff", bytes].concat(),
                false if bytes.first() == Some(&0xff) => Vec::new(),
                false => bytes.to_vec(),
            });
        }
        let factory = std::panic::catch_unwind(|| {
            let info = TokRxInfo::new(words.len() as u32, end_of_sequence);
            let trie = TokTrie::from(&info, &words).with_eos_tokens(end_tokens);
            // Not canonical: where the grammar leaves one text, every tokenization of it stays allowed, and the model
            // takes the one it was trained on. Forcing the tokenizer's own would need to know what follows, because
            // tokenizers look ahead (`": "` may be one token before a letter and two at the end of the forced text).
            let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            ParserFactory::new_simple(&environment)
        })
        .map_err(|_| internal("its tokens form no trie".to_string()))?;
        let mut factory = factory.map_err(|error| internal(error.to_string()))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self { factory, compiled: Mutex::new(HashMap::new()), text_tokens: Arc::new(text_tokens) })
    }

    /// A fresh constraint for the text of a JSON Schema.
    ///
    /// Errors: CUPEL_NATIVE_SCHEMA_UNSUPPORTED that names the keyword which can not be enforced. Nothing is ignored.
    pub fn constraint(&self, schema: &str) -> Result<GrammarConstraint> {
        self.constrain(&Grammar::JsonSchema(schema.to_string()))
    }

    /// A fresh constraint for a grammar.
    ///
    /// Errors: CUPEL_NATIVE_SCHEMA_UNSUPPORTED, CUPEL_NATIVE_GRAMMAR_UNSUPPORTED that name what can not be enforced.
    pub fn constrain(&self, grammar: &Grammar) -> Result<GrammarConstraint> {
        Ok(GrammarConstraint {
            compiled: self.compiled(grammar)?,
            matcher: None,
            text_tokens: Arc::clone(&self.text_tokens),
        })
    }

    /// Whether a grammar can constrain decoding, without a constraint. Errors as `constrain`.
    pub fn check(&self, grammar: &Grammar) -> Result<()> {
        self.compiled(grammar).map(|_| ())
    }

    fn compiled(&self, grammar: &Grammar) -> Result<Arc<Mutex<Matcher>>> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matcher) = compiled.get(grammar) {
            return Ok(Arc::clone(matcher));
        }
        let parsed = grammar.parse()?;
        let (matcher, warnings, first) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut matcher = Matcher::new(self.factory.create_parser(parsed));
            let warnings = matcher.grammar_warnings();
            let first = matcher.deep_clone().compute_mask();
            (matcher, warnings, first)
        }))
        .map_err(|_| unsupported(grammar, "its compiler failed on it".to_string()))?;
        if let Some(error) = matcher.get_error() {
            return Err(unsupported(grammar, error));
        }
        if first.is_err() {
            return Err(unsupported(grammar, "no text fits it".to_string()));
        }
        // A warning says that something is enforced only in part.
        if let Some(warning) = warnings.into_iter().next() {
            return Err(unsupported(grammar, warning));
        }
        let matcher = Arc::new(Mutex::new(matcher));
        if compiled.len() >= KEPT_GRAMMARS {
            compiled.clear();
        }
        compiled.insert(grammar.clone(), Arc::clone(&matcher));
        Ok(matcher)
    }
}

/// One completion's way through a grammar. The parser's state is copied when decoding begins, so that waiting requests
/// hold none. It may be moved to another thread between and during calls.
pub struct GrammarConstraint {
    compiled: Arc<Mutex<Matcher>>,
    matcher: Option<Matcher>,
    text_tokens: Arc<Vec<u32>>,
}

/// The former name.
pub type JsonConstraint = GrammarConstraint;

impl GrammarConstraint {
    fn matcher(&mut self) -> &mut Matcher {
        let compiled = &self.compiled;
        self.matcher.get_or_insert_with(|| compiled.lock().unwrap_or_else(PoisonError::into_inner).deep_clone())
    }
}

impl Constraint for GrammarConstraint {
    fn mask(&mut self, allowed: &mut [u32]) -> std::result::Result<(), String> {
        let possible = self.matcher().compute_mask_or_eos().map_err(|error| error.to_string())?;
        let possible = possible.as_slice();
        for (index, word) in allowed.iter_mut().enumerate() {
            let text = self.text_tokens.get(index).copied().unwrap_or(0);
            *word &= possible.get(index).copied().unwrap_or(0) & text;
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> std::result::Result<bool, String> {
        let matcher = self.matcher();
        matcher.consume_token(token).map_err(|error| error.to_string())?;
        Ok(matcher.is_stopped())
    }
}
