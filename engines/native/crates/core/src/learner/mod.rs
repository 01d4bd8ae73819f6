mod adapters;
mod arithmetic;
mod attention;
mod backward;
mod folder;
mod forward;
mod heads;
mod machine;
mod network;
mod open;
mod optimiser;
mod options;
mod panels;
mod parameters;
mod pass;
mod passes;
mod plan;
mod state;
mod weight_gradients;

use crate::pool::Pool;
use crate::rope::Rope;
use cupel_files::{Config, Error, Result, TENSOR_MISSING};
use cupel_kernels::Isa;

use adapters::Adapters;
use machine::Passes;
pub use optimiser::StepOptions;
pub use options::{AdapterOptions, Compute, Head, LearnerOptions};
use parameters::{Held, Layout, Parameter};
pub use plan::{LearnerPlan, StepShape};

/// Logits that are kept between forward and backward (numbers); the others are computed again.
const KEPT_LOGITS: usize = 24 << 20;

/// A packed batch: sequences one after another, sequence `i` is `tokens[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    pub tokens: &'a [i32],
    pub offsets: &'a [i32],
    /// 1 where the token counts, one a token; the first token of a sequence can not. Rewards do not read it.
    pub labelled: &'a [u8],
}

/// How a forward pass is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PassOptions {
    /// The activations stay for `backward`; without, an earlier kept pass is left as it is.
    pub keep: bool,
    /// False: the base alone.
    pub adapter: bool,
    /// Logits are divided by it.
    pub temperature: f32,
}

impl Default for PassOptions {
    fn default() -> Self {
        Self { keep: true, adapter: true, temperature: 1.0 }
    }
}

/// What is trained: every weight, or adapters over a frozen base; and the reward head, if there is one.
struct Trained {
    parameters: Vec<Parameter>,
    total: usize,
    adapters: Option<Adapters>,
    /// Offset of the reward head.
    score: Option<usize>,
}

/// Copy of a checkpoint that is trained, as a whole or through adapters: forward, backward and AdamW. It knows no loss:
/// the caller turns log-probabilities into gradients.
pub struct Learner {
    options: LearnerOptions,
    config: Config,
    /// `config.json` of the parent, as it was when opened.
    config_text: String,
    isa: Isa,
    pool: Pool,
    layout: Layout,
    /// The frozen base; empty where every weight is trained.
    base: Vec<f32>,
    base_bytes: Vec<u8>,
    trained: Trained,
    values: Vec<f32>,
    gradients: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: u64,
    rope: Rope,
    machine: Box<dyn Passes>,
    kept_logits: usize,
}

impl Learner {
    /// Lowers the memory that logits may take between forward and backward. Never changes a result.
    pub fn limit_kept_logits(&mut self, numbers: usize) {
        self.kept_logits = numbers;
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Numbers of the model, with what is trained beside it.
    pub fn parameter_count(&self) -> usize {
        let base: usize = self.layout.parameters.iter().map(|parameter| parameter.length).sum();
        let beside = if self.is_whole() {
            self.trained.score.map_or(0, |_| self.config.hidden_size)
        } else {
            self.trained.total
        };
        base + beside
    }

    /// How many of them are trained.
    pub fn trainable_count(&self) -> usize {
        if self.options.frozen {
            0
        } else {
            self.trained.total
        }
    }

    /// Optimiser steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The weights of the base.
    fn held(&self) -> Held<'_> {
        if self.base.is_empty() {
            Held { dense: &self.values, bytes: &[] }
        } else {
            Held { dense: &self.base, bytes: &self.base_bytes }
        }
    }

    /// Whether the weights of the base are trained.
    fn is_whole(&self) -> bool {
        self.trained.is_whole(&self.options)
    }

    /// Names of what is trained: as in the checkpoint, PEFT's for adapters; a tied model has no `lm_head.weight`. Of
    /// a frozen learner: all names.
    pub fn tensor_names(&self) -> Vec<String> {
        let own = self.trained.parameters.iter();
        let base = self.layout.parameters.iter().filter(|_| self.options.frozen);
        own.chain(base).map(|parameter| parameter.name.clone()).collect()
    }

    /// Dimensions of a tensor.
    pub fn tensor_shape(&self, name: &str) -> Result<Vec<usize>> {
        let own = self.trained.parameters.iter().find(|parameter| parameter.name == name);
        own.or_else(|| self.layout.find(name)).map(|parameter| parameter.shape.clone()).ok_or_else(|| missing(name))
    }

    /// The values of a tensor, also of a frozen one.
    pub fn tensor(&self, name: &str) -> Result<Vec<f32>> {
        if let Some(parameter) = self.trained.parameters.iter().find(|parameter| parameter.name == name) {
            return Ok(self.values[parameter.offset..][..parameter.length].to_vec());
        }
        let parameter = self.layout.find(name).ok_or_else(|| missing(name))?;
        let mut values = vec![0.0; parameter.length];
        self.held().rows(parameter.matrix(), 0, &mut values);
        Ok(values)
    }

    /// The accumulated gradient of a tensor that is trained.
    pub fn gradient(&self, name: &str) -> Result<Vec<f32>> {
        self.require_trained("gradients")?;
        let own = self.trained.parameters.iter().find(|parameter| parameter.name == name);
        let parameter = own.ok_or_else(|| missing(name))?;
        Ok(self.gradients[parameter.offset..][..parameter.length].to_vec())
    }

    /// Values have changed: nothing that was computed with them holds.
    fn values_changed(&mut self) {
        let adapters_only = !self.is_whole();
        self.machine.forget(adapters_only);
    }

    /// Forgets the accumulated gradients.
    pub fn clear_gradients(&mut self) {
        self.gradients.fill(0.0);
    }
}

fn missing(name: &str) -> Error {
    Error::new(TENSOR_MISSING, format!("no tensor is called {name:?}"))
}
