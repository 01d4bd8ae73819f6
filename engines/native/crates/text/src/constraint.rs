use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cupel_core::Constraint;
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::{json, Value};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::error::{Result, TextError};
use crate::tokenizer::TextTokenizer;

/// Distinct schemas kept compiled; more than a run ever has.
const KEPT_SCHEMAS: usize = 256;

/// Compiles JSON Schemas to constraints on token ids, each distinct schema once.
///
/// Constrained text has the form of Python's `json.dumps`: ", " and ": " as separators, keys in the order of
/// `properties`, no other white space.
pub struct SchemaCompiler {
    factory: ParserFactory,
    compiled: Mutex<HashMap<String, Arc<Mutex<Matcher>>>>,
}

impl SchemaCompiler {
    /// Errors: CUPEL_NATIVE_SCHEMA_UNSUPPORTED where the bytes of the tokens can not be known.
    pub fn new(tokenizer: &TextTokenizer, end_tokens: &[u32]) -> Result<Self> {
        let internal = |message: String| {
            TextError::new(
                "CUPEL_NATIVE_SCHEMA_UNSUPPORTED",
                format!("decoding can not be constrained with this tokenizer: {message}"),
                tokenizer.place(),
                "Leave the JSON schema out.",
            )
        };
        let words = tokenizer.token_bytes()?;
        let end_of_sequence = *end_tokens
            .first()
            .ok_or_else(|| internal("it has no end token".to_string()))?;
        let factory = std::panic::catch_unwind(|| {
            let info = TokRxInfo::new(words.len() as u32, end_of_sequence);
            let trie = TokTrie::from(&info, &words).with_eos_tokens(end_tokens);
            let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            ParserFactory::new_simple(&environment)
        })
        .map_err(|_| internal("its tokens form no trie".to_string()))?;
        let mut factory = factory.map_err(|error| internal(error.to_string()))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self {
            factory,
            compiled: Mutex::new(HashMap::new()),
        })
    }

    /// A fresh constraint for a schema.
    ///
    /// Errors: CUPEL_NATIVE_SCHEMA_UNSUPPORTED that names the keyword which can not be enforced. Nothing is ignored.
    pub fn constraint(&self, schema: &str) -> Result<JsonConstraint> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let matcher = match compiled.get(schema) {
            Some(matcher) => Arc::clone(matcher),
            None => {
                let matcher = Arc::new(Mutex::new(self.compile(schema)?));
                if compiled.len() >= KEPT_SCHEMAS {
                    compiled.clear();
                }
                compiled.insert(schema.to_string(), Arc::clone(&matcher));
                matcher
            }
        };
        Ok(JsonConstraint {
            compiled: matcher,
            matcher: None,
        })
    }

    fn compile(&self, schema: &str) -> Result<Matcher> {
        let mut schema: Value =
            serde_json::from_str(schema).map_err(|error| unsupported(error.to_string()))?;
        let Some(object) = schema.as_object_mut() else {
            return Err(unsupported(format!("{schema} is not an object")));
        };
        // Overwrites what the schema may say itself: `lenient` there would let keywords pass unenforced.
        object.insert(
            "x-guidance".to_string(),
            json!({"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false}),
        );
        let matcher = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Matcher::new(
                self.factory
                    .create_parser(TopLevelGrammar::from_json_schema(schema)),
            )
        }))
        .map_err(|_| unsupported("the schema compiler failed on it".to_string()))?;
        match matcher.get_error() {
            Some(error) => Err(unsupported(error)),
            None => Ok(matcher),
        }
    }
}

fn unsupported(message: String) -> TextError {
    TextError::new(
        "CUPEL_NATIVE_SCHEMA_UNSUPPORTED",
        format!("the JSON schema can not constrain decoding: {message}"),
        "jsonSchema",
        "Take the named keyword out of the schema, and check it with a validator after decoding.",
    )
}

/// One completion's way through a schema. The parser's state is copied when decoding begins, so that waiting requests
/// hold none.
pub struct JsonConstraint {
    compiled: Arc<Mutex<Matcher>>,
    matcher: Option<Matcher>,
}

impl JsonConstraint {
    fn matcher(&mut self) -> &mut Matcher {
        let compiled = &self.compiled;
        self.matcher.get_or_insert_with(|| {
            compiled
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .deep_clone()
        })
    }
}

impl Constraint for JsonConstraint {
    fn mask(&mut self, allowed: &mut [u32]) -> std::result::Result<(), String> {
        let possible = self
            .matcher()
            .compute_mask_or_eos()
            .map_err(|error| error.to_string())?;
        for (index, word) in allowed.iter_mut().enumerate() {
            *word &= possible.as_slice().get(index).copied().unwrap_or(0);
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> std::result::Result<bool, String> {
        let matcher = self.matcher();
        matcher
            .consume_token(token)
            .map_err(|error| error.to_string())?;
        Ok(matcher.is_stopped())
    }
}
