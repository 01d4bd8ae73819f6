//! The text side of the native engine. It turns text into token ids and back, renders chat templates and constrains
//! decoding to a JSON Schema. It knows nothing of weights: the engine's `Constraint` trait is all it takes from there.

mod constraint;
mod error;
mod python_json;
mod special;
mod stop;
mod template;
mod tokenizer;

pub use constraint::{JsonConstraint, SchemaCompiler};
pub use error::{Result, TextError};
pub use special::SpecialTokens;
pub use stop::{cut_at_stop, StopConstraint};
pub use template::ChatTemplate;
pub use tokenizer::TextTokenizer;
