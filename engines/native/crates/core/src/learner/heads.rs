//! What stands on the last hidden states: logits of labelled places, in blocks of rows so that they are never all there
//! at once, and the reward of the last token.

use super::arithmetic::Arithmetic;
use super::network::{logit_stride, Network};
use super::parameters::zeroed;
use super::pass::{ensure, Pass, Scratch, Wanted, BLOCK};
use crate::pool::{grown, Lockers, Pool, SharedMut};
use cupel_files::Result;
use cupel_kernels::{dot, exponentials, ln, scale};

/// Final norm of the rows of this task's places, `[rows, hidden]`.
fn norm_rows<C: Arithmetic>(
    network: &Network<'_, C>,
    targets: &[(usize, usize)],
    output: &[f32],
    normed: &mut [C::Value],
    inverse: &mut [f32],
    buffer: &mut Vec<f32>,
) {
    let hidden = network.config.hidden_size;
    for (((row, _), normed), inverse) in targets.iter().zip(normed.chunks_exact_mut(C::values(hidden))).zip(inverse) {
        *inverse = network.norm_row(network.layout.final_norm, &output[row * hidden..][..hidden], normed, buffer);
    }
}

/// Final norm, logits and log-probabilities of the labelled places: `[places, width]` as the pass wants them.
pub fn token_stage<C: Arithmetic>(
    network: &Network<'_, C>,
    pool: &mut Pool,
    scratch: &Lockers<Scratch<C>>,
    pass: &mut Pass<C>,
    kept_logits: usize,
) -> Result<Vec<f32>> {
    let (hidden, vocabulary) = (network.config.hidden_size, network.config.vocabulary_size);
    let stride = logit_stride(vocabulary);
    let count = pass.targets.len();
    let fitting = kept_logits / stride;
    pass.exponentials_kept = if fitting < count { fitting / BLOCK * BLOCK } else { count };
    ensure(&mut pass.exponentials, pass.exponentials_kept * C::values(stride))?;
    let width = match &pass.wanted {
        Wanted::Chosen { width, .. } => *width,
        Wanted::Every => vocabulary,
        Wanted::Label | Wanted::Reward => 1,
    };
    let mut log_probabilities = zeroed(count * width)?;
    let output = &pass.inputs[network.config.layers % pass.inputs.len()];
    let (targets, kept, wanted) = (&pass.targets, pass.exponentials_kept, &pass.wanted);
    let values = C::values(hidden);
    let inverse_temperature = 1.0 / pass.temperature;
    let normed = SharedMut::new(&mut pass.normed);
    let inverse = SharedMut::new(&mut pass.inverse);
    let sums = SharedMut::new(&mut pass.sums);
    let exponents = SharedMut::new(&mut pass.exponentials);
    let results = SharedMut::new(&mut log_probabilities);
    pool.run(count.div_ceil(BLOCK), &|task| {
        let start = task * BLOCK;
        let rows = BLOCK.min(count - start);
        // SAFETY: every range is the rows of this task.
        let (normed, inverse, sums, results) = unsafe {
            (
                normed.range(start * values, rows * values),
                inverse.range(start, rows),
                sums.range(start, rows),
                results.range(start * width, rows * width),
            )
        };
        scratch.with(|scratch| {
            norm_rows(network, &targets[start..start + rows], output, normed, inverse, &mut scratch.row);
            let stored = C::values(stride);
            // SAFETY: as above, and the first use has ended where there is a second.
            let exponents = || unsafe { exponents.range(start * stored, rows * stored) };
            let kept = start < kept;
            let in_place = if kept { C::numbers(exponents()) } else { None };
            let moved = kept && in_place.is_none();
            let logits = match in_place {
                Some(numbers) => numbers,
                None => grown(&mut scratch.logits, rows * stride),
            };
            network.logits(normed, logits);
            for (index, row) in logits.chunks_exact_mut(stride).enumerate() {
                let row = &mut row[..vocabulary];
                if inverse_temperature != 1.0 {
                    scale(network.isa, row, inverse_temperature);
                }
                let out = &mut results[index * width..][..width];
                match wanted {
                    Wanted::Every => out.copy_from_slice(row),
                    Wanted::Chosen { ids, .. } => {
                        let ids = &ids[(start + index) * width..][..width];
                        out.iter_mut().zip(ids).for_each(|(out, id)| *out = row[*id]);
                    }
                    Wanted::Label | Wanted::Reward => out[0] = row[targets[start + index].1],
                }
                let (top, sum) = exponentials(network.isa, row);
                let normaliser = ln(sum);
                out.iter_mut().for_each(|out| *out = *out - top - normaliser);
                sums[index] = sum;
            }
            if moved {
                C::store(network.isa, logits, exponents());
            }
        });
    });
    Ok(log_probabilities)
}

/// The `width` most likely tokens of each labelled place, most likely first, equal ones by id, with their
/// log-probabilities. Keeps nothing.
pub fn top_stage<C: Arithmetic>(
    network: &Network<'_, C>,
    pool: &mut Pool,
    scratch: &Lockers<Scratch<C>>,
    pass: &mut Pass<C>,
    width: usize,
) -> Result<(Vec<i32>, Vec<f32>)> {
    let (hidden, vocabulary) = (network.config.hidden_size, network.config.vocabulary_size);
    let stride = logit_stride(vocabulary);
    let count = pass.targets.len();
    let (mut ids, mut values) = (Vec::new(), zeroed(count * width)?);
    ensure(&mut ids, count * width)?;
    let output = &pass.inputs[network.config.layers % pass.inputs.len()];
    let targets = &pass.targets;
    let stored = C::values(hidden);
    let inverse_temperature = 1.0 / pass.temperature;
    let normed = SharedMut::new(&mut pass.normed);
    let inverse = SharedMut::new(&mut pass.inverse);
    let (all_ids, all_values) = (SharedMut::new(&mut ids), SharedMut::new(&mut values));
    pool.run(count.div_ceil(BLOCK), &|task| {
        let start = task * BLOCK;
        let rows = BLOCK.min(count - start);
        // SAFETY: every range is the rows of this task.
        let (normed, inverse, ids, values) = unsafe {
            (
                normed.range(start * stored, rows * stored),
                inverse.range(start, rows),
                all_ids.range(start * width, rows * width),
                all_values.range(start * width, rows * width),
            )
        };
        let mut order: Vec<u32> = Vec::new();
        scratch.with(|scratch| {
            norm_rows(network, &targets[start..start + rows], output, normed, inverse, &mut scratch.row);
            let logits = grown(&mut scratch.logits, rows * stride);
            network.logits(normed, logits);
            for (index, row) in logits.chunks_exact_mut(stride).enumerate() {
                let row = &mut row[..vocabulary];
                if inverse_temperature != 1.0 {
                    scale(network.isa, row, inverse_temperature);
                }
                order.clear();
                order.extend(0..vocabulary as u32);
                let likelier = |a: &u32, b: &u32| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b));
                if width < vocabulary {
                    order.select_nth_unstable_by(width, likelier);
                }
                order[..width].sort_unstable_by(likelier);
                let range = index * width..(index + 1) * width;
                for ((id, value), token) in ids[range.clone()].iter_mut().zip(&mut values[range.clone()]).zip(&order) {
                    (*id, *value) = (*token as i32, row[*token as usize]);
                }
                let (top, sum) = exponentials(network.isa, row);
                let normaliser = ln(sum);
                values[range].iter_mut().for_each(|value| *value = *value - top - normaliser);
            }
        });
    });
    Ok((ids, values))
}

/// Final norm of the last token of each sequence, and its product with the reward head.
pub fn reward_stage<C: Arithmetic>(network: &Network<'_, C>, pass: &mut Pass<C>, score: &[f32]) -> Vec<f32> {
    let output = &pass.inputs[network.config.layers % pass.inputs.len()];
    let (mut buffer, mut row) = (Vec::new(), Vec::new());
    norm_rows(network, &pass.targets, output, &mut pass.normed, &mut pass.inverse, &mut buffer);
    let rows = pass.normed.chunks_exact(C::values(score.len())).take(pass.targets.len());
    rows.map(|values| dot(network.isa, &C::loaded(network.isa, values, &mut row)[..score.len()], score)).collect()
}
