use std::collections::BTreeMap;

use crate::Sampling;

/// The tokens so far, as far as penalties need them, and the changes to logits that do not depend on chance.
#[derive(Debug, Clone)]
pub(crate) struct History {
    bias: Vec<(u32, f32)>,
    repetition: f32,
    presence: f32,
    frequency: f32,
    /// How often each token was generated; tokens of the prompt alone stand with 0.
    counts: BTreeMap<u32, u32>,
}

impl History {
    pub fn new(sampling: &Sampling) -> Self {
        Self {
            bias: sampling.logit_bias.iter().map(|&(token, bias)| (token, bias as f32)).collect(),
            repetition: sampling.repetition_penalty as f32,
            presence: sampling.presence_penalty as f32,
            frequency: sampling.frequency_penalty as f32,
            counts: BTreeMap::new(),
        }
    }

    fn counts_completion(&self) -> bool {
        self.repetition != 1.0 || self.presence != 0.0 || self.frequency != 0.0
    }

    pub fn prompt(&mut self, tokens: &[u32]) {
        if self.repetition != 1.0 {
            for &token in tokens {
                self.counts.entry(token).or_insert(0);
            }
        }
    }

    pub fn accept(&mut self, token: u32) {
        if self.counts_completion() {
            let count = self.counts.entry(token).or_insert(0);
            *count = count.saturating_add(1);
        }
    }

    /// Adds biases, then applies the penalties. Tokens beyond the logits are ignored.
    pub fn apply(&self, logits: &mut [f32]) {
        for &(token, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        for (&token, &count) in &self.counts {
            let Some(logit) = logits.get_mut(token as usize) else { break };
            let mut value = *logit;
            if self.repetition != 1.0 {
                value = if value < 0.0 { value * self.repetition } else { value / self.repetition };
            }
            if count > 0 {
                value -= self.frequency * count as f32;
                value -= self.presence;
            }
            *logit = value;
        }
    }
}
