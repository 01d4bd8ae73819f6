//! The text side of the native engine. It turns text into token ids and back, renders chat templates and constrains
//! decoding to a JSON Schema. It knows nothing of weights: the engine's `Constraint` trait is all it takes from there.

mod check;
mod constraint;
mod error;
mod grammar;
mod jinja;
mod json_file;
mod pieces;
mod sentence_piece;
mod special;
mod stop;
mod stream;
mod template;
mod tokenizer;
mod vocabulary;
mod words;

pub use constraint::{GrammarCompiler, GrammarConstraint, JsonConstraint, SchemaCompiler};
pub use error::{Result, TextError};
pub use grammar::Grammar;
pub use special::SpecialTokens;
pub use stop::{cut_at_stop, StopConstraint, StopMatcher, StopTexts};
pub use stream::TextStream;
pub use template::ChatTemplate;
pub use tokenizer::TextTokenizer;
pub use vocabulary::{GgufVocabulary, MetadataLookup, TokenKind};
