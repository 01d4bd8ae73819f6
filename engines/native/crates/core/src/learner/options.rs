use std::path::PathBuf;

use cupel_files::{Error, Result, TensorType, CONFIG_INVALID};
use cupel_kernels::Isa;

use super::adapters::PROJECTIONS;

/// What matrix products are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compute {
    #[default]
    F32,
    Bf16,
}

impl Compute {
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// What stands on the last hidden states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Head {
    /// Logits over the vocabulary.
    #[default]
    Tokens,
    /// `score.weight` makes one number of the last token of a sequence.
    Reward,
}

/// LoRA (Hu et al. 2021, arXiv:2106.09685): `W + alpha / rank · B A`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterOptions {
    pub rank: usize,
    pub alpha: f64,
    /// Last parts of module names; empty: all seven projections.
    pub targets: Vec<String>,
    /// Seeds A; B starts as zero.
    pub seed: u64,
    /// PEFT folder to go on from.
    pub from: Option<PathBuf>,
}

/// How a learner is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerOptions {
    /// Counts the calling thread; never changes a result.
    pub threads: usize,
    /// Best of this machine where absent.
    pub isa: Option<Isa>,
    pub compute: Compute,
    /// Trains these over a frozen base; none: every weight is trained.
    pub adapter: Option<AdapterOptions>,
    /// What a frozen base is held as: F32, BF16, Q8_0 or Q4_0. Blocks take the projections of the layers alone;
    /// BF16 takes the embedding and the head too. Norms and biases stay F32.
    pub base: TensorType,
    /// Keep the input of each layer alone and compute the rest again in the backward pass. Never changes a result.
    pub recompute: bool,
    pub head: Head,
    /// Forward passes alone.
    pub frozen: bool,
}

impl Default for LearnerOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            isa: None,
            compute: Compute::F32,
            adapter: None,
            base: TensorType::F32,
            recompute: false,
            head: Head::Tokens,
            frozen: false,
        }
    }
}

const RANK_LIMIT: usize = 1 << 12;

impl LearnerOptions {
    /// Refuses by name what can not be.
    pub fn check(&self) -> Result<()> {
        let refuse = |message: String, place: &str| Err(Error::new(CONFIG_INVALID, message).at(place));
        if !matches!(self.base, TensorType::F32 | TensorType::Bf16 | TensorType::Q8_0 | TensorType::Q4_0) {
            return refuse(format!("a base can not be held as {}", self.base.name()), "base");
        }
        if self.base != TensorType::F32 && self.adapter.is_none() && !self.frozen {
            let message = format!("a base held as {} is not trained: adapters are trained over it", self.base.name());
            return Err(Error::new(CONFIG_INVALID, message).at("base").remedy("set adapter too, or leave base out"));
        }
        let Some(adapter) = &self.adapter else {
            return Ok(());
        };
        if !(1..=RANK_LIMIT).contains(&adapter.rank) {
            let message = format!("rank is {}, must be a whole number from 1 to {RANK_LIMIT}", adapter.rank);
            return refuse(message, "adapter.rank");
        }
        if !(adapter.alpha > 0.0 && adapter.alpha <= 1e6) {
            return refuse(format!("alpha is {}, must be above 0 and at most 1e6", adapter.alpha), "adapter.alpha");
        }
        if !((adapter.alpha / adapter.rank as f64) as f32).is_normal() {
            let message = format!("alpha {} over rank {} vanishes as f32", adapter.alpha, adapter.rank);
            return refuse(message, "adapter.alpha");
        }
        for target in &adapter.targets {
            if !PROJECTIONS.iter().any(|(name, _)| name == target) {
                let known: Vec<&str> = PROJECTIONS.iter().map(|(name, _)| *name).collect();
                let message = format!("{target:?} can not be adapted; there are {}", known.join(", "));
                return refuse(message, "adapter.targets");
            }
        }
        Ok(())
    }
}
