//! The numeric core of the native engine: reads a Hugging Face folder of the Llama family, scores and
//! generates token ids, and trains. It knows nothing of text, templates, losses or Node.
//!
//! One rule holds everywhere: every sum has one fixed order, so a result never depends on the instruction
//! set, the number of threads, the batch or what else is computed beside it.

mod attention;
mod config;
mod dtype;
mod error;
mod generate;
mod kernels;
mod learner;
mod model;
mod network;
mod parameters;
mod pool;
mod rope;
pub mod safetensors;
mod score;

pub use config::{Architecture, Config};
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use generate::{Constraint, Finish, GenerateRequest, Generated};
pub use kernels::Isa;
pub use learner::{Learner, StepOptions};
pub use model::Model;
pub use score::{ScoreItem, Scored};

/// The pieces that tests hold equal bit by bit across instruction sets; not part of the interface.
#[doc(hidden)]
pub mod internals {
    pub use crate::kernels::*;
    pub use crate::pool::Pool;
}
