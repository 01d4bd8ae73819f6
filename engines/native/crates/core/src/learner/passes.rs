//! What a learner is asked for: forward passes of every kind, and the backward pass of the last that was kept.

use cupel_files::{guarded, Error, Result};
use cupel_files::{BATCH_INVALID, GRADIENT_NONFINITE, OUTPUT_NONFINITE, REQUEST_INVALID, TOKEN_OUT_OF_RANGE};

use super::machine::Parts;
use super::parameters::Held;
use super::pass::Wanted;
use super::{Batch, Head, Learner, PassOptions};

/// The base of a learner, borrowing these fields alone.
macro_rules! held {
    ($learner:expr) => {
        if $learner.base.is_empty() {
            Held { dense: &$learner.values, bytes: &[] }
        } else {
            Held { dense: &$learner.base, bytes: &$learner.base_bytes }
        }
    };
}

/// What passes need of a learner, borrowing these fields alone.
macro_rules! parts {
    ($learner:expr) => {
        Parts {
            isa: $learner.isa,
            config: &$learner.config,
            layout: &$learner.layout,
            held: held!($learner),
            adapters: $learner.trained.adapters.as_ref().map(|adapters| (adapters, &$learner.values[..])),
            score: $learner
                .trained
                .score
                .map(|offset| (offset, &$learner.values[offset..][..$learner.config.hidden_size])),
            whole: $learner.is_whole(),
            recompute: $learner.options.recompute,
            kept_logits: $learner.kept_logits,
            rope: &$learner.rope,
        }
    };
}

impl Learner {
    /// Natural-log probability of each labelled token given its predecessors in its sequence, in order of position.
    pub fn forward(&mut self, tokens: &[i32], offsets: &[i32], labelled: &[u8], keep: bool) -> Result<Vec<f32>> {
        let options = PassOptions { keep, ..PassOptions::default() };
        self.log_probabilities(Batch { tokens, offsets, labelled }, options)
    }

    /// As `forward`.
    pub fn log_probabilities(&mut self, batch: Batch<'_>, options: PassOptions) -> Result<Vec<f32>> {
        self.pass(Head::Tokens, batch, options, |_| Ok(Wanted::Label))
    }

    /// Natural-log probabilities of chosen tokens at the place of each labelled token, `[labelled, K]`: of `ids`, which
    /// has that shape, or of the whole vocabulary.
    pub fn distributions(&mut self, batch: Batch<'_>, ids: Option<&[i32]>, options: PassOptions) -> Result<Vec<f32>> {
        let vocabulary = self.config.vocabulary_size;
        self.pass(Head::Tokens, batch, options, |places| {
            let Some(ids) = ids else {
                return Ok(Wanted::Every);
            };
            if places == 0 && ids.is_empty() {
                return Ok(Wanted::Chosen { ids: Vec::new(), width: 1 });
            }
            if places == 0 || ids.is_empty() || ids.len() % places != 0 {
                let message = format!("{} ids for {places} labelled tokens", ids.len());
                return Err(Error::new(BATCH_INVALID, message).at("ids"));
            }
            let checked = ids.iter().enumerate().map(|(index, id)| {
                usize::try_from(*id).ok().filter(|id| *id < vocabulary).ok_or_else(|| {
                    let message = format!("id {index} is {id}, the vocabulary has {vocabulary}");
                    Error::new(TOKEN_OUT_OF_RANGE, message).at("ids")
                })
            });
            Ok(Wanted::Chosen { ids: checked.collect::<Result<_>>()?, width: ids.len() / places })
        })
    }

    /// The `count` most likely tokens at the place of each labelled token, most likely first, equal ones by id, and
    /// their natural-log probabilities; `[labelled, count]` both. Keeps nothing.
    pub fn top_tokens(&mut self, batch: Batch<'_>, count: usize, options: PassOptions) -> Result<(Vec<i32>, Vec<f32>)> {
        guarded(|| {
            self.require_head(Head::Tokens)?;
            if !(1..=self.config.vocabulary_size).contains(&count) {
                let message = format!("count is {count}, must be from 1 to {}", self.config.vocabulary_size);
                return Err(Error::new(REQUEST_INVALID, message).at("count"));
            }
            self.ready(batch, options)?;
            let (ids, values) = self.machine.top(parts!(self), &mut self.pool, batch, options, count)?;
            finite("log-probability", &values)?;
            Ok((ids, values))
        })
    }

    /// One number a sequence, of the head `Reward`.
    pub fn rewards(&mut self, batch: Batch<'_>, options: PassOptions) -> Result<Vec<f32>> {
        self.pass(Head::Reward, batch, options, |_| Ok(Wanted::Reward))
    }

    fn require_head(&self, head: Head) -> Result<()> {
        if self.options.head == head {
            return Ok(());
        }
        let message = match head {
            Head::Tokens => "a learner with a reward head has no distribution over tokens",
            Head::Reward => "a learner with a head over tokens gives no rewards",
        };
        Err(Error::new(REQUEST_INVALID, message).at("head"))
    }

    pub(super) fn require_trained(&self, what: &str) -> Result<()> {
        if self.options.frozen {
            let message = format!("{what} of a learner that was opened for forward passes alone");
            return Err(Error::new(REQUEST_INVALID, message).at("frozen"));
        }
        Ok(())
    }

    /// Checks what is asked and makes the rotations long enough.
    fn ready(&mut self, batch: Batch<'_>, options: PassOptions) -> Result<()> {
        let temperature = options.temperature;
        if !(temperature > 0.0 && temperature.is_finite() && (1.0 / temperature).is_finite()) {
            let message = format!("temperature is {temperature}, must be above 0");
            return Err(Error::new(REQUEST_INVALID, message).at("temperature"));
        }
        let length = |pair: &[i32]| usize::try_from(i64::from(pair[1]) - i64::from(pair[0])).unwrap_or(0);
        let longest = batch.offsets.windows(2).map(length).max().unwrap_or(0);
        self.rope.reserve(longest.min(self.config.context_length));
        Ok(())
    }

    fn pass(
        &mut self,
        head: Head,
        batch: Batch<'_>,
        options: PassOptions,
        mut ask: impl FnMut(usize) -> Result<Wanted>,
    ) -> Result<Vec<f32>> {
        guarded(|| {
            self.require_head(head)?;
            self.ready(batch, options)?;
            let options = PassOptions { keep: options.keep && !self.options.frozen, ..options };
            let values = self.machine.forward(parts!(self), &mut self.pool, batch, options, &mut ask)?;
            let what = if head == Head::Reward { "reward" } else { "log-probability" };
            let checked = finite(what, &values);
            if checked.is_err() && options.keep {
                self.machine.forget(true);
            }
            checked.map(|()| values)
        })
    }

    /// Adds to the accumulated gradients, given the gradient of the loss by each number that the last kept forward
    /// pass returned. That pass is used up.
    pub fn backward(&mut self, gradients: &[f32]) -> Result<()> {
        guarded(|| {
            self.require_trained("gradients")?;
            let Some((places, width)) = self.machine.kept(self.config.vocabulary_size) else {
                return Err(Error::new(BATCH_INVALID, "backward without a kept forward pass"));
            };
            if gradients.len() != places * width {
                let message = match width {
                    1 => format!("{} gradients for {places} labelled tokens", gradients.len()),
                    _ => format!("{} gradients for {places} labelled tokens of {width} numbers", gradients.len()),
                };
                return Err(Error::new(BATCH_INVALID, message));
            }
            if let Some(index) = gradients.iter().position(|value| !value.is_finite()) {
                return Err(Error::new(
                    GRADIENT_NONFINITE,
                    format!("gradient of log-probability {index} is {}", gradients[index]),
                ));
            }
            self.machine.backward(parts!(self), &mut self.pool, gradients, &mut self.gradients)
        })
    }
}

fn finite(what: &str, values: &[f32]) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => {
            let message = format!("{what} {index} is {}: the weights have diverged", values[index]);
            Err(Error::new(OUTPUT_NONFINITE, message)
                .remedy("lower the learning rate and start from an earlier checkpoint"))
        }
    }
}
