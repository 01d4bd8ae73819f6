//! Stages of the forward pass, each one round of independent tasks.

use super::attention::{key_lines, pack_keys, pack_values, value_lines, Attention, HeadRows};
use super::network::{logit_stride, Network};
use crate::pool::{grown, Lockers, Pool, SharedMut};
use cupel_kernels::{exponentials, ln};

use super::pass::{Pass, Scratch, BLOCK};

/// Row-wise part between two attentions: finishes layer `layer - 1` and begins layer `layer`.
pub fn rows_stage(
    network: &Network<'_>,
    pool: &mut Pool,
    scratch: &Lockers<Scratch>,
    pass: &mut Pass,
    layer: usize,
    slots: usize,
) {
    let config = network.config;
    let (hidden, query, inner, width) =
        (config.hidden_size, config.query_width(), config.intermediate_size, network.qkv_width());
    let count = pass.tokens.len();
    let (tokens, positions) = (&pass.tokens, &pass.positions);
    let shared: Vec<_> = pass
        .layers
        .iter_mut()
        .map(|layer| {
            [
                &mut layer.input,
                &mut layer.input_normed,
                &mut layer.input_inverse,
                &mut layer.qkv,
                &mut layer.attended,
                &mut layer.middle,
                &mut layer.middle_normed,
                &mut layer.middle_inverse,
                &mut layer.gate_up,
            ]
            .map(|buffer| SharedMut::new(buffer))
        })
        .collect();
    let output = SharedMut::new(&mut pass.output);
    pool.run(count.div_ceil(BLOCK), &|task| {
        let start = task * BLOCK;
        let rows = BLOCK.min(count - start);
        fn rows_of(buffer: SharedMut<'_, f32>, start: usize, rows: usize, width: usize) -> &mut [f32] {
            // SAFETY: a task asks each buffer once for its own rows.
            unsafe { buffer.range(start * width, rows * width) }
        }
        let part = |buffer, width| rows_of(buffer, start, rows, width);
        let x = if layer < config.layers { part(shared[layer % slots][0], hidden) } else { part(output, hidden) };
        if layer == 0 {
            network.embed(tokens[start..start + rows].iter().copied(), x);
        } else {
            let [input, _, _, _, attended, middle, normed, inverse, gate_up] = shared[(layer - 1) % slots];
            let middle = part(middle, hidden);
            middle.copy_from_slice(part(input, hidden));
            network.attend_output(layer - 1, part(attended, query), middle);
            let normed = part(normed, hidden);
            network.norm(network.layout.layers[layer - 1].post_norm, middle, normed, part(inverse, 1));
            x.copy_from_slice(middle);
            scratch.with(|scratch| {
                let product = grown(&mut scratch.rows, rows * inner);
                network.feed_forward(layer - 1, normed, part(gate_up, 2 * inner), product, x);
            });
        }
        if layer < config.layers {
            let [_, normed, inverse, qkv, ..] = shared[layer % slots];
            let normed = part(normed, hidden);
            network.norm(network.layout.layers[layer].input_norm, x, normed, part(inverse, 1));
            network.project(layer, normed, positions[start..start + rows].iter().copied(), part(qkv, width));
        }
    });
}

/// Attention of every sequence and key-value head.
pub fn attention_stage(
    network: &Network<'_>,
    pool: &mut Pool,
    scratch: &Lockers<Scratch>,
    pass: &mut Pass,
    slot: usize,
) {
    let config = network.config;
    let (head, query, width, heads) =
        (config.head_dim, config.query_width(), network.qkv_width(), config.key_value_heads);
    let group = config.heads / heads;
    let sequences = &pass.sequences;
    let activations = &mut pass.layers[slot];
    let qkv = &activations.qkv;
    let attended = SharedMut::new(&mut activations.attended);
    pool.run(sequences.len() * heads, &|task| {
        let ((start, length), key_head) = (sequences[task / heads], task % heads);
        let rows = |column: usize| HeadRows { data: &qkv[start * width + column..], stride: width };
        scratch.with(|scratch| {
            let keys = grown(&mut scratch.keys, key_lines(length, head));
            pack_keys(rows(query + key_head * head), length, head, keys);
            let values = grown(&mut scratch.values, value_lines(length, head));
            pack_values(rows(query + config.key_value_width() + key_head * head), length, head, length, values);
            let attention = Attention { isa: network.isa, head, keys, values, capacity: length };
            for column in (key_head * group..(key_head + 1) * group).map(|head_number| head_number * head) {
                let out = grown(&mut scratch.rows, length * head);
                attention.attend(length, 1, 1, rows(column), &mut scratch.scores, out, head);
                for (row, values) in (start..).zip(out.chunks_exact(head)) {
                    // SAFETY: tasks write different heads or sequences.
                    unsafe { attended.range(row * query + column, head) }.copy_from_slice(values);
                }
            }
        });
    });
}

/// Final norm, logits and log-probabilities of the labelled rows.
pub fn head_stage(
    network: &Network<'_>,
    pool: &mut Pool,
    scratch: &Lockers<Scratch>,
    pass: &mut Pass,
    kept_logits: usize,
) -> Vec<f32> {
    let (hidden, vocabulary) = (network.config.hidden_size, network.config.vocabulary_size);
    let stride = logit_stride(vocabulary);
    let count = pass.targets.len();
    pass.exponentials_kept = count.saturating_mul(stride) <= kept_logits;
    if pass.exponentials_kept {
        grown(&mut pass.exponentials, count * stride);
    }
    let mut log_probabilities = vec![0.0f32; count];
    let (targets, output, kept) = (&pass.targets, &pass.output, pass.exponentials_kept);
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
                normed.range(start * hidden, rows * hidden),
                inverse.range(start, rows),
                sums.range(start, rows),
                results.range(start, rows),
            )
        };
        for (index, (row, _)) in targets[start..start + rows].iter().enumerate() {
            let range = index * hidden..(index + 1) * hidden;
            network.norm(
                network.layout.final_norm,
                &output[row * hidden..][..hidden],
                &mut normed[range],
                &mut inverse[index..=index],
            );
        }
        scratch.with(|scratch| {
            let logits = if kept {
                // SAFETY: as above.
                unsafe { exponents.range(start * stride, rows * stride) }
            } else {
                grown(&mut scratch.rows, rows * stride)
            };
            network.logits(normed, logits);
            for (index, row) in logits.chunks_exact_mut(stride).enumerate() {
                let row = &mut row[..vocabulary];
                let wanted = row[targets[start + index].1];
                let (top, sum) = exponentials(network.isa, row);
                results[index] = wanted - top - ln(sum);
                sums[index] = sum;
            }
        });
    });
    log_probabilities
}
