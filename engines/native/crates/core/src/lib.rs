//! The numeric core of the native engine: scores and generates token ids with small models of the Llama family, and
//! trains them. It knows nothing of text, templates, losses or Node.
//!
//! One rule holds everywhere: every sum has one fixed order, so a result never depends on the instruction
//! set, the number of threads, the batch or what else is computed beside it.

mod inference;
mod learner;
mod pool;
mod rope;

pub use cupel_attention::KvType;
pub use cupel_cache::Statistics as CacheStatistics;
pub use cupel_files::{safetensors, Architecture, Config, Dtype, Error, Result, Source, TensorType};
pub use cupel_kernels::Isa;
pub use cupel_sampling::Sampling;
pub use inference::{
    Constraint, Engine, Event, Finish, GenerateRequest, Generated, Model, OpenOptions, ScoreItem, Scored, Timing,
    WeightType,
};
pub use learner::{
    AdapterOptions, Batch, Compute, Head, Learner, LearnerOptions, LearnerPlan, PassOptions, StepOptions, StepShape,
};

/// The pieces that tests hold equal bit by bit across instruction sets; not part of the interface.
#[doc(hidden)]
pub mod internals {
    pub use crate::pool::Pool;
    pub use cupel_kernels::*;
}

/// Refuses an instruction set that this machine lacks.
fn require(isa: Isa) -> Result<()> {
    if isa.is_available() {
        return Ok(());
    }
    Err(Error::new(cupel_files::CONFIG_INVALID, format!("this machine has no {isa:?}")))
}
