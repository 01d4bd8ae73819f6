use cupel_files::{Error, Result, OUTPUT_NONFINITE};

use crate::arg_max::{arg_max, arg_max_masked, mask, Peak};
use crate::history::History;
use crate::philox::number_below;
use crate::select::{best, crossing, key, logit, token};
use crate::weights::{Weighing, BLOCK};
use crate::Sampling;

/// Chooses the tokens of one request.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    stream: u64,
    history: History,
    keys: Vec<u64>,
    blocks: Vec<u64>,
}

/// What the truncations left, with the sum of its weights.
enum Kept {
    /// The tokens in `keys`, by id.
    Few(u64),
    /// All tokens above minus infinity, with the sums in `blocks`.
    Many(u64),
}

impl Sampler {
    /// For parameters that [`Sampling::validate`] has accepted. `stream` tells apart several completions of one
    /// seed.
    pub fn new(sampling: Sampling, stream: u64) -> Self {
        let history = History::new(&sampling);
        Self { sampling, stream, history, keys: Vec::new(), blocks: Vec::new() }
    }

    /// The parameters.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Whether `prompt` and `accept` have to be called.
    pub fn needs_history(&self) -> bool {
        self.sampling.needs_history()
    }

    /// Tells the tokens of the prompt. Nothing to do without a repetition penalty.
    pub fn prompt(&mut self, tokens: &[u32]) {
        self.history.prompt(tokens);
    }

    /// Tells a token of the completion: one that was chosen and taken. Nothing to do without penalties.
    pub fn accept(&mut self, token: u32) {
        self.history.accept(token);
    }

    /// The token for a step (counted from the completion's beginning), or `None` when no token is allowed or all
    /// logits are minus infinity. `logits` are overwritten unless the choice is plain. `allowed`: token i when bit
    /// i mod 32 of word i div 32 is set.
    ///
    /// # Errors
    /// `CUPEL_NATIVE_OUTPUT_NONFINITE` when the logit of a token that could be chosen is NaN or plus infinity.
    pub fn choose(&mut self, logits: &mut [f32], allowed: Option<&[u32]>, step: u64) -> Result<Option<u32>> {
        let Some((token, max)) = self.prepare(logits, allowed)? else { return Ok(None) };
        if self.sampling.temperature == 0.0 {
            return Ok(Some(token));
        }
        let weighing = Weighing::new(max, self.sampling.temperature, self.sampling.min_p);
        let number = |total| number_below(total, self.sampling.seed, self.stream, step);
        Ok(Some(match truncate(&self.sampling, weighing, logits, &mut self.keys, &mut self.blocks) {
            Kept::Few(total) => among_few(&self.keys, weighing, number(total)),
            Kept::Many(total) => among_many(logits, &self.blocks, weighing, number(total)),
        }))
    }

    /// What `choose` would draw from: tokens by id with their probabilities, which add up to 1; one token at
    /// temperature 0. For tests and reports.
    ///
    /// # Errors
    /// As `choose`.
    pub fn distribution(&mut self, logits: &mut [f32], allowed: Option<&[u32]>) -> Result<Vec<(u32, f64)>> {
        let Some((greatest, max)) = self.prepare(logits, allowed)? else { return Ok(vec![]) };
        if self.sampling.temperature == 0.0 {
            return Ok(vec![(greatest, 1.0)]);
        }
        let weighing = Weighing::new(max, self.sampling.temperature, self.sampling.min_p);
        let share = |token: u32, value: f32, total: u64| (token, weighing.weight(value) as f64 / total as f64);
        let shares: Vec<(u32, f64)> = match truncate(&self.sampling, weighing, logits, &mut self.keys, &mut self.blocks)
        {
            Kept::Few(total) => self.keys.iter().map(|&key| share(token(key), logit(key), total)).collect(),
            Kept::Many(total) => (0u32..).zip(&*logits).map(|(token, &value)| share(token, value, total)).collect(),
        };
        Ok(shares.into_iter().filter(|&(_, share)| share > 0.0).collect())
    }

    /// Bias, penalties and mask; the greatest logit then.
    fn prepare(&self, logits: &mut [f32], allowed: Option<&[u32]>) -> Result<Option<(u32, f32)>> {
        self.history.apply(logits);
        let peak = match allowed {
            None => arg_max(logits),
            Some(words) => arg_max_masked(logits, words),
        };
        match peak {
            Peak::Token(token, value) => {
                if let (Some(words), true) = (allowed, self.sampling.temperature > 0.0) {
                    mask(logits, words);
                }
                Ok(Some((token, value)))
            }
            Peak::None => Ok(None),
            Peak::NonFinite(token, value) => {
                Err(Error::new(OUTPUT_NONFINITE, format!("the logit of token {token} is {value}"))
                    .at(format!("logits[{token}]"))
                    .remedy("The weights or an adapter are broken; take an earlier checkpoint."))
            }
        }
    }
}

/// Top-k, top-p, min-p. `logits` hold no NaN.
fn truncate(
    sampling: &Sampling,
    weighing: Weighing,
    logits: &mut [f32],
    keys: &mut Vec<u64>,
    blocks: &mut Vec<u64>,
) -> Kept {
    let open = weighing.without_floor();
    let top_k = sampling.top_k.map(|count| count as usize).filter(|&count| count < logits.len());
    if let Some(count) = top_k {
        best(logits, count, keys);
        if sampling.top_p < 1.0 {
            let total = keys.iter().map(|&key| open.weight(logit(key))).sum();
            let _ = reach(keys, open, need(total, sampling.top_p));
        }
        return few(keys, weighing);
    }
    if sampling.top_p < 1.0 {
        let need = need(open.sums(logits, blocks), sampling.top_p);
        // A model that knows what it wants needs a short head; one that does not, a selection over everything.
        for count in [64, 1024] {
            best(logits, count, keys);
            if reach(keys, open, need) {
                return few(keys, weighing);
            }
        }
        let last = crossing(logits, open, need);
        for (token, value) in (0u32..).zip(&mut *logits) {
            *value = if key(*value, token) >= last { *value } else { f32::NEG_INFINITY };
        }
    }
    Kept::Many(weighing.sums(logits, blocks))
}

/// The whole weight that reaches the share `top_p` of `total`.
fn need(total: u64, top_p: f64) -> u64 {
    ((total as f64 * top_p).ceil() as u64).clamp(1, total)
}

/// Cuts `keys` behind the one with which the weights reach `need`; false when they never do.
fn reach(keys: &mut Vec<u64>, weighing: Weighing, need: u64) -> bool {
    let mut sum = 0;
    let last = keys.iter().position(|&key| {
        sum += weighing.weight(logit(key));
        sum >= need
    });
    if let Some(last) = last {
        keys.truncate(last + 1);
    }
    last.is_some()
}

fn few(keys: &mut [u64], weighing: Weighing) -> Kept {
    keys.sort_unstable_by_key(|&key| token(key));
    Kept::Few(keys.iter().map(|&key| weighing.weight(logit(key))).sum())
}

/// The token in whose stretch of the weights, laid end to end by id, `number` falls.
fn among_few(keys: &[u64], weighing: Weighing, mut number: u64) -> u32 {
    for &key in keys {
        let weight = weighing.weight(logit(key));
        if number < weight {
            return token(key);
        }
        number -= weight;
    }
    unreachable!("the number lies below the sum of the weights")
}

fn among_many(logits: &[f32], blocks: &[u64], weighing: Weighing, mut number: u64) -> u32 {
    for (block, &sum) in blocks.iter().enumerate() {
        if number < sum {
            let begin = block * BLOCK;
            for (token, &value) in (begin as u32..).zip(&logits[begin..]) {
                let weight = weighing.weight(value);
                if number < weight {
                    return token;
                }
                number -= weight;
            }
        }
        number -= sum;
    }
    unreachable!("the number lies below the sum of the weights")
}
