//! How a learner begins: what it refuses to train, where its values lie and what they are first.

use std::path::Path;

use crate::pool::Pool;
use crate::rope::Rope;
use cupel_files::safetensors::Checkpoint;
use cupel_files::{guarded, Config, Error, Result, TensorType, CONFIG_INVALID};
use cupel_kernels::Isa;

use super::adapters::Adapters;
use super::arithmetic::{Pairs, Single};
use super::machine::Machine;
use super::parameters::{zeroed, Layout, Parameter, SCORE};
use super::{Compute, Head, Learner, LearnerOptions, Trained, KEPT_LOGITS};

/// What can not be trained is refused by name: the backward pass knows no head norms and no windows, and what is held
/// in other types than floats can not move.
pub(super) fn refuse_untrainable(dir: &Path, config: &Config, options: &LearnerOptions) -> Result<()> {
    if options.compute == Compute::Bf16 {
        refuse_odd(config)?;
    }
    let fields: serde_json::Value = serde_json::from_str(&config_text(dir)?).unwrap_or_default();
    if !fields["quantization_config"].is_null() {
        return Err(Error::new(CONFIG_INVALID, "quantized weights can be evaluated but not trained")
            .at("quantization_config")
            .remedy("train from the checkpoint with float weights that they were made of"));
    }
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

fn config_text(dir: &Path) -> Result<String> {
    let path = dir.join("config.json");
    std::fs::read_to_string(&path).map_err(|cause| Error::io(&path, &cause))
}

/// Products in bfloat16 take two steps at a time.
fn refuse_odd(config: &Config) -> Result<()> {
    for (place, width) in [("hidden_size", config.hidden_size), ("intermediate_size", config.intermediate_size)] {
        if !width.is_multiple_of(2) {
            let message = format!("{place} is {width}, an odd number can not be trained in bf16");
            return Err(Error::new(CONFIG_INVALID, message).at(place).remedy("train in f32"));
        }
    }
    Ok(())
}

/// The reward head of a folder; zeros where it has none.
fn load_score(dir: &Path, hidden: usize) -> Result<Vec<f32>> {
    let mut score = vec![0.0; hidden];
    let mut checkpoint = Checkpoint::open(dir)?;
    if checkpoint.contains(SCORE) {
        checkpoint.read(SCORE, &[1, hidden], &mut score)?;
    }
    Ok(score)
}

impl Learner {
    /// Reads a Hugging Face folder and trains every weight. `threads` counts the calling thread and never changes a
    /// result.
    pub fn open(dir: &Path, threads: usize) -> Result<Self> {
        Self::open_with(dir, &LearnerOptions { threads, ..LearnerOptions::default() })
    }

    /// Reads a Hugging Face folder.
    ///
    /// # Errors
    /// Coded, naming the file, the field or the option.
    pub fn open_with(dir: &Path, options: &LearnerOptions) -> Result<Self> {
        guarded(|| {
            options.check()?;
            let isa = options.isa.unwrap_or_else(Isa::detect);
            crate::require(isa)?;
            let config = Config::read(dir)?;
            refuse_untrainable(dir, &config, options)?;
            let layout = Layout::new(&config, options.base, options.head)?;
            let trained = Trained::new(options, &config, &layout);
            let (mut base, base_bytes) = layout.load(dir, &config, options.head)?;
            let mut values;
            if trained.is_whole(options) {
                values = std::mem::take(&mut base);
                values.resize(trained.total, 0.0);
            } else {
                values = zeroed(trained.total)?;
            }
            let mut score = None;
            if let (Some(adapters), Some(wanted)) = (&trained.adapters, &options.adapter) {
                score = adapters.begin(wanted, &config, options.head == Head::Reward, &mut values)?;
            }
            if let Some(offset) = trained.score {
                let score = score.map_or_else(|| load_score(dir, config.hidden_size), Ok)?;
                values[offset..].copy_from_slice(&score);
            }
            let moments = if options.frozen { 0 } else { trained.total };
            Ok(Self {
                config_text: config_text(dir)?,
                isa,
                pool: Pool::new(options.threads),
                base,
                base_bytes,
                values,
                gradients: zeroed(moments)?,
                first: zeroed(moments)?,
                second: zeroed(moments)?,
                trained,
                steps: 0,
                rope: Rope::new(&config),
                machine: match options.compute {
                    Compute::F32 => Box::new(Machine::<Single>::new(&config, &layout)),
                    Compute::Bf16 => Box::new(Machine::<Pairs>::new(&config, &layout)),
                },
                kept_logits: KEPT_LOGITS,
                config,
                layout,
                options: options.clone(),
            })
        })
    }
}

impl Trained {
    pub(super) fn new(options: &LearnerOptions, config: &Config, layout: &Layout) -> Self {
        let (mut parameters, mut adapters) = (Vec::new(), None);
        if let Some(wanted) = &options.adapter {
            adapters = Some(Adapters::new(wanted, config, &mut parameters));
        } else if !options.frozen {
            parameters.extend(layout.parameters.iter().cloned());
        }
        let mut total = parameters.last().map_or(0, |last| last.offset + last.length);
        let score = (options.head == Head::Reward).then(|| {
            let hidden = config.hidden_size;
            parameters.push(Parameter {
                name: SCORE.to_string(),
                shape: vec![1, hidden],
                offset: total,
                length: hidden,
                decay: true,
                held: TensorType::F32,
            });
            total += hidden;
            total - hidden
        });
        Self { parameters, total, adapters, score }
    }

    pub(super) fn is_whole(&self, options: &LearnerOptions) -> bool {
        self.adapters.is_none() && !options.frozen
    }
}
