//! Inference: weights as they are multiplied, the forward step over paged sequences, and the scheduler.

mod adapters;
mod admission;
mod calls;
mod checks;
mod choice;
mod engine;
mod forward;
mod linear;
mod masks;
mod options;
mod request;
mod scoring;
mod sequence;
mod weights;

pub use engine::Engine;
pub use options::{OpenOptions, WeightType};
pub use request::{Constraint, Event, Finish, GenerateRequest, Generated, ScoreItem, Scored, Timing};
pub use weights::Model;

/// A request that the KV cache can never hold.
pub const KV_BUDGET: &str = "CUPEL_NATIVE_KV_BUDGET";
