//! From what a pass returned to the output of the last layer.

use cupel_files::Result;
use cupel_kernels::{exponentials, rms_norm_backward, scale};

use super::Backward;
use crate::learner::arithmetic::{Arithmetic, Rows};
use crate::learner::network::logit_stride;
use crate::learner::parameters::Matrix;
use crate::learner::pass::{ensure, Pass, Wanted, BLOCK};
use crate::learner::weight_gradients::{sum_blocks, weight_gradients, WeightGradient};
use crate::pool::{grown, SharedMut};

/// Logits that are computed again at once (numbers).
pub const LOGITS_AGAIN: usize = 8 << 20;

impl<C: Arithmetic> Backward<'_, C> {
    /// From what the pass returned to the gradient of the last layer's output, in `buffers.x`.
    /// `weights` are the gradients of what is trained.
    pub fn head(
        &mut self,
        pass: &mut Pass<C>,
        gradients: &[f32],
        score: Option<(usize, &[f32])>,
        weights: &mut [f32],
    ) -> Result<()> {
        self.buffers.x.fill(0.0);
        self.buffers.partial.fill(0.0);
        match (self.network.layout.head, score) {
            (Some(head), _) => self.tokens(pass, gradients, head, weights)?,
            (None, Some((offset, score))) => self.rewards(pass, gradients, offset, score, weights),
            (None, None) => {}
        }
        if self.whole {
            let hidden = self.network.config.hidden_size;
            let blocks = pass.targets.len().div_ceil(BLOCK);
            sum_blocks(
                self.network.isa,
                &self.buffers.partial[..blocks * hidden],
                &mut weights[self.network.layout.final_norm..][..hidden],
            );
        }
        Ok(())
    }

    /// Of rewards: few rows, so one thread.
    fn rewards(&mut self, pass: &Pass<C>, gradients: &[f32], offset: usize, score: &[f32], weights: &mut [f32]) {
        let network = self.network;
        let hidden = network.config.hidden_size;
        let weight = network.held.vector(network.layout.final_norm, hidden);
        let output = &pass.inputs[network.config.layers];
        let (mut dn, mut buffer) = (vec![0.0; hidden], Vec::new());
        for (index, (gradient, (row, _))) in gradients.iter().zip(&pass.targets).enumerate() {
            let normed = &pass.normed[index * C::values(hidden)..][..C::values(hidden)];
            let normed = C::loaded(network.isa, normed, &mut buffer);
            let d_score = &mut weights[offset..][..hidden];
            for (((dn, d_score), normed), score) in dn.iter_mut().zip(d_score).zip(normed).zip(score) {
                *dn = gradient * score;
                *d_score = gradient.mul_add(*normed, *d_score);
            }
            rms_norm_backward(
                network.isa,
                &dn,
                &output[row * hidden..][..hidden],
                weight,
                pass.inverse[index],
                &mut self.buffers.x[row * hidden..][..hidden],
                &mut self.buffers.partial[index / BLOCK * hidden..][..hidden],
            );
        }
    }

    /// Of log-probabilities: logits in runs of rows.
    fn tokens(&mut self, pass: &mut Pass<C>, gradients: &[f32], head: Matrix, weights: &mut [f32]) -> Result<()> {
        self.panels.prepare_head(self.network.isa, self.pool, self.network.held, self.network.layout);
        let network = self.network;
        let isa = network.isa;
        let (hidden, vocabulary) = (network.config.hidden_size, network.config.vocabulary_size);
        let stride = logit_stride(vocabulary);
        let (stored, values) = (C::values(stride), C::values(hidden));
        let count = pass.targets.len();
        let again = (self.kept_logits.min(LOGITS_AGAIN) / stride).max(1).next_multiple_of(BLOCK);
        let width = gradients.len() / count.max(1);
        let inverse_temperature = 1.0 / pass.temperature;
        let mut first = 0;
        while first < count {
            let recompute = first >= pass.exponentials_kept;
            let length = if recompute { again.min(count - first) } else { pass.exponentials_kept };
            if recompute {
                let room = pass.exponentials.len().max(length * stored);
                ensure(&mut pass.exponentials, room)?;
            }
            let (targets, normed, inverse, sums, wanted) =
                (&pass.targets, &pass.normed, &pass.inverse, &pass.sums, &pass.wanted);
            let output = &pass.inputs[network.config.layers];
            let logits = SharedMut::new(&mut pass.exponentials);
            let x_gradients = SharedMut::new(&mut self.buffers.x);
            let partial = SharedMut::new(&mut self.buffers.partial);
            let panels = self.panels.head();
            let weight = network.held.vector(network.layout.final_norm, hidden);
            let scratch = self.scratch;
            self.pool.run(length.div_ceil(BLOCK), &|task| {
                let start = task * BLOCK;
                let rows = BLOCK.min(length - start);
                let global = first + start;
                // SAFETY: the rows of this task; one use ends before the next.
                let kept = || unsafe { logits.range(start * stored, rows * stored) };
                // SAFETY: as above; the rows that predict targets are all different.
                let partial = unsafe { partial.range(global / BLOCK * hidden, hidden) };
                let d_logit = |place: usize, row: &mut [f32]| {
                    // d logit = (d log p of the token itself - softmax · Σ d log p) / temperature
                    let own = &gradients[place * width..][..width];
                    let total = match own {
                        [gradient] => *gradient,
                        _ => own.iter().map(|gradient| f64::from(*gradient)).sum::<f64>() as f32,
                    };
                    scale(isa, row, -total * inverse_temperature / sums[place]);
                    let mut add = |id: usize, gradient: f32| row[id] += gradient * inverse_temperature;
                    match wanted {
                        Wanted::Every => own.iter().enumerate().for_each(|(id, gradient)| add(id, *gradient)),
                        Wanted::Chosen { ids, .. } => {
                            let ids = &ids[place * width..][..width];
                            ids.iter().zip(own).for_each(|(id, gradient)| add(*id, *gradient));
                        }
                        Wanted::Label | Wanted::Reward => add(targets[place].1, total),
                    }
                };
                scratch.with(|scratch| {
                    if recompute {
                        let in_place = C::numbers(kept());
                        let moved = in_place.is_none();
                        let logits = match in_place {
                            Some(numbers) => numbers,
                            None => grown(&mut scratch.logits, rows * stride),
                        };
                        network.logits(&normed[global * values..][..rows * values], logits);
                        for row in logits.chunks_exact_mut(stride) {
                            let row = &mut row[..vocabulary];
                            if inverse_temperature != 1.0 {
                                scale(isa, row, inverse_temperature);
                            }
                            exponentials(isa, row);
                        }
                        if moved {
                            C::store(isa, logits, kept());
                        }
                    }
                    for (index, row) in kept().chunks_exact_mut(stored).enumerate() {
                        if let Some(numbers) = C::numbers(row) {
                            d_logit(global + index, &mut numbers[..vocabulary]);
                            continue;
                        }
                        let numbers = grown(&mut scratch.rows, stride);
                        C::load(isa, row, numbers);
                        d_logit(global + index, &mut numbers[..vocabulary]);
                        C::store(isa, numbers, row);
                    }
                    let dn = grown(&mut scratch.rows, rows * hidden);
                    panels.multiply(isa, rows, (kept(), stored), dn, hidden, false);
                    for (index, dn) in dn.chunks_exact(hidden).enumerate() {
                        let row = targets[global + index].0;
                        // SAFETY: as above.
                        let dx = unsafe { x_gradients.range(row * hidden, hidden) };
                        let x = &output[row * hidden..][..hidden];
                        rms_norm_backward(isa, dn, x, weight, inverse[global + index], dx, partial);
                    }
                });
            });
            if self.whole {
                let gradient = WeightGradient {
                    dy: Rows::Stored { data: &pass.exponentials[..length * stored], stride: stored },
                    rows: vocabulary,
                    x: Rows::Stored { data: &pass.normed[first * values..][..length * values], stride: values },
                    columns: hidden,
                    offset: head.offset,
                };
                weight_gradients::<C>(isa, self.pool, length, &[gradient], &mut self.buffers.panels, weights);
            }
            first += length;
        }
        Ok(())
    }
}
