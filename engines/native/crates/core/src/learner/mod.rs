mod attention;
mod backward;
mod forward;
mod network;
mod optimiser;
mod parameters;
mod pass;
mod state;
mod weight_gradients;

use std::path::Path;

use crate::pool::{Lockers, Pool};
use crate::rope::Rope;
use cupel_files::Config;
use cupel_files::{
    guarded, Error, Result, BATCH_INVALID, CONFIG_INVALID, GRADIENT_NONFINITE, OUTPUT_NONFINITE, TENSOR_MISSING,
};
use cupel_kernels::{add, Isa};
use network::{Direction, Network, PackedWeights};
use parameters::{zeroed, Layout, Parameter, EMBEDDING};

use backward::Backward;
use forward::{attention_stage, head_stage, rows_stage};
pub use optimiser::StepOptions;
use pass::{Gradients, Pass, Scratch};

/// Logits that are kept between forward and backward (numbers); beyond, they are computed again in runs of that size.
const KEPT_LOGITS: usize = 32 << 20;

/// Trainable copy of a checkpoint: forward, backward and AdamW in f32. It knows no loss: the caller turns
/// log-probabilities into gradients.
pub struct Learner {
    config: Config,
    /// `config.json` of the parent, as it was when opened.
    config_text: String,
    isa: Isa,
    pool: Pool,
    layout: Layout,
    weights: Vec<f32>,
    gradients: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: u64,
    forward_panels: PackedWeights,
    backward_panels: PackedWeights,
    packed: [bool; 2],
    rope: Rope,
    kept: Pass,
    spare: Pass,
    buffers: Gradients,
    scratch: Lockers<Scratch>,
    kept_logits: usize,
}

/// The backward pass knows no head norms and no windows: what it can not train is refused by name.
fn refuse_untrainable(config: &Config) -> Result<()> {
    let (what, place) = if config.qk_norm() {
        ("norms of query and key heads (Qwen3)", "model_type")
    } else if config.sliding_window.is_some_and(|window| window < config.context_length) {
        ("a sliding window", "sliding_window")
    } else {
        return Ok(());
    };
    let message = format!("{what} can be evaluated but not trained by the native engine");
    Err(Error::new(CONFIG_INVALID, message).at(place).remedy("train with another trainer, evaluate the result here"))
}

impl Learner {
    /// Reads a Hugging Face folder. `threads` counts the calling thread and never changes a result.
    pub fn open(dir: &Path, threads: usize) -> Result<Self> {
        Self::open_with(dir, threads, Isa::detect())
    }

    /// As `open`, on a chosen instruction set.
    pub fn open_with(dir: &Path, threads: usize, isa: Isa) -> Result<Self> {
        guarded(|| {
            crate::require(isa)?;
            let config = Config::read(dir)?;
            refuse_untrainable(&config)?;
            let path = dir.join("config.json");
            let config_text = std::fs::read_to_string(&path).map_err(|cause| Error::io(&path, &cause))?;
            let layout = Layout::new(&config);
            let weights = layout.load(dir, &config)?;
            let gradients = zeroed(layout.total)?;
            let first = zeroed(layout.total)?;
            let second = zeroed(layout.total)?;
            Ok(Self {
                config_text,
                isa,
                pool: Pool::new(threads),
                weights,
                gradients,
                first,
                second,
                steps: 0,
                forward_panels: PackedWeights::zeroed(&config, Direction::Forward),
                backward_panels: PackedWeights::zeroed(&config, Direction::Backward),
                packed: [false; 2],
                rope: Rope::new(&config),
                kept: Pass::default(),
                spare: Pass::default(),
                buffers: Gradients::default(),
                scratch: Lockers::default(),
                kept_logits: KEPT_LOGITS,
                config,
                layout,
            })
        })
    }

    /// Lowers the memory that logits may take between forward and backward. Never changes a result.
    pub fn limit_kept_logits(&mut self, numbers: usize) {
        self.kept_logits = numbers;
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Trainable numbers.
    pub fn parameter_count(&self) -> usize {
        self.layout.total
    }

    /// Optimiser steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Natural-log probability of each labelled token given its predecessors in its sequence, in order of
    /// position. `tokens` holds sequences one after another, sequence `i` is `tokens[offsets[i]..offsets[i + 1]]`.
    /// With `keep` the activations stay for `backward`; without, an earlier kept pass is left as it is.
    pub fn forward(&mut self, tokens: &[i32], offsets: &[i32], labelled: &[u8], keep: bool) -> Result<Vec<f32>> {
        guarded(|| {
            let mut pass = std::mem::take(if keep { &mut self.kept } else { &mut self.spare });
            pass.kept = false;
            let result =
                pass.describe(&self.config, tokens, offsets, labelled).and_then(|()| self.run(&mut pass, keep));
            pass.kept = keep && result.is_ok();
            *(if keep { &mut self.kept } else { &mut self.spare }) = pass;
            result
        })
    }

    fn pack(&mut self, direction: Direction) {
        let (panels, packed) = match direction {
            Direction::Forward => (&mut self.forward_panels, &mut self.packed[0]),
            Direction::Backward => (&mut self.backward_panels, &mut self.packed[1]),
        };
        if !*packed {
            panels.pack(&mut self.pool, &self.layout, &self.weights, direction);
            *packed = true;
        }
    }

    fn run(&mut self, pass: &mut Pass, keep: bool) -> Result<Vec<f32>> {
        self.pack(Direction::Forward);
        let longest = pass.sequences.iter().map(|(_, length)| *length).max().unwrap_or(0);
        self.rope.reserve(longest);
        let network = Network {
            isa: self.isa,
            config: &self.config,
            layout: &self.layout,
            weights: &self.weights,
            packed: &self.forward_panels,
            rope: &self.rope,
        };
        let (count, layers) = (pass.tokens.len(), self.config.layers);
        let slots = if keep { layers } else { layers.min(2) };
        pass.resize(&self.config, count, slots)?;
        for layer in 0..=layers {
            rows_stage(&network, &mut self.pool, &self.scratch, pass, layer, slots);
            if layer < layers {
                attention_stage(&network, &mut self.pool, &self.scratch, pass, layer % slots);
            }
        }
        let log_probabilities =
            head_stage(&network, &mut self.pool, &self.scratch, pass, if keep { self.kept_logits } else { 0 });
        match log_probabilities.iter().position(|value| !value.is_finite()) {
            Some(index) => {
                let message =
                    format!("log-probability {index} is {}: the weights have diverged", log_probabilities[index]);
                Err(Error::new(OUTPUT_NONFINITE, message)
                    .remedy("lower the learning rate and start from an earlier checkpoint"))
            }
            None => Ok(log_probabilities),
        }
    }

    /// Adds to the accumulated gradients, given the gradient of the loss by each log-probability of the last
    /// kept forward pass. That pass is used up.
    pub fn backward(&mut self, gradients: &[f32]) -> Result<()> {
        guarded(|| {
            if !self.kept.kept {
                return Err(Error::new(BATCH_INVALID, "backward without a kept forward pass"));
            }
            if gradients.len() != self.kept.targets.len() {
                let message = format!("{} gradients for {} labelled tokens", gradients.len(), self.kept.targets.len());
                return Err(Error::new(BATCH_INVALID, message));
            }
            if let Some(index) = gradients.iter().position(|value| !value.is_finite()) {
                return Err(Error::new(
                    GRADIENT_NONFINITE,
                    format!("gradient of log-probability {index} is {}", gradients[index]),
                ));
            }
            self.pack(Direction::Backward);
            let mut pass = std::mem::take(&mut self.kept);
            pass.kept = false;
            let result = self.run_backward(&mut pass, gradients);
            self.kept = pass;
            result
        })
    }

    fn run_backward(&mut self, pass: &mut Pass, gradients: &[f32]) -> Result<()> {
        let network = Network {
            isa: self.isa,
            config: &self.config,
            layout: &self.layout,
            weights: &self.weights,
            packed: &self.forward_panels,
            rope: &self.rope,
        };
        self.buffers.resize(&self.config, pass.tokens.len(), pass.targets.len())?;
        let mut back = Backward {
            network,
            panels: &self.backward_panels,
            pool: &mut self.pool,
            scratch: &self.scratch,
            buffers: &mut self.buffers,
            kept_logits: self.kept_logits,
        };
        back.head(pass, gradients, &mut self.gradients)?;
        for layer in (0..self.config.layers).rev() {
            back.layer(pass, layer, &mut self.gradients);
        }
        let hidden = self.config.hidden_size;
        for (token, row) in pass.tokens.iter().zip(self.buffers.x.chunks_exact(hidden)) {
            add(self.isa, &mut self.gradients[EMBEDDING + token * hidden..][..hidden], row);
        }
        Ok(())
    }

    fn parameter(&self, name: &str) -> Result<&Parameter> {
        self.layout.find(name).ok_or_else(|| Error::new(TENSOR_MISSING, format!("no tensor is called {name:?}")))
    }

    /// Names as in the checkpoint; a tied model has no `lm_head.weight`.
    pub fn tensor_names(&self) -> Vec<String> {
        self.layout.parameters.iter().map(|parameter| parameter.name.clone()).collect()
    }

    /// Dimensions of a tensor.
    pub fn tensor_shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.parameter(name)?.shape.clone())
    }

    /// The values of a tensor.
    pub fn tensor(&self, name: &str) -> Result<Vec<f32>> {
        let parameter = self.parameter(name)?;
        Ok(self.weights[parameter.offset..][..parameter.length].to_vec())
    }

    /// The accumulated gradient of a tensor.
    pub fn gradient(&self, name: &str) -> Result<Vec<f32>> {
        let parameter = self.parameter(name)?;
        Ok(self.gradients[parameter.offset..][..parameter.length].to_vec())
    }

    fn forget_pass(&mut self) {
        self.kept.kept = false;
    }

    /// Forgets the accumulated gradients.
    pub fn clear_gradients(&mut self) {
        self.gradients.fill(0.0);
    }
}
