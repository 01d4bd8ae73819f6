//! Stages of the forward pass, each one round of independent tasks.

use super::arithmetic::Arithmetic;
use super::attention::{Attention, HeadRows};
use super::network::Network;
use crate::pool::{Lockers, Pool, SharedMut};

use super::pass::{LayerActivations, Pass, Scratch, BLOCK};

/// Row-wise part between two attentions: finishes layer `layer - 1` and begins layer `layer`.
pub fn rows_stage<C: Arithmetic>(
    network: &Network<'_, C>,
    pool: &mut Pool,
    scratch: &Lockers<Scratch<C>>,
    pass: &mut Pass<C>,
    layer: usize,
) {
    let config = network.config;
    let hidden = config.hidden_size;
    let (query, width) = (C::values(config.query_width()), C::values(network.qkv_width()));
    let both = C::values(2 * config.intermediate_size);
    let count = pass.tokens.len();
    let (tokens, positions) = (&pass.tokens, &pass.positions);
    let inputs: Vec<_> = pass.inputs.iter_mut().map(|input| SharedMut::new(input)).collect();
    let slots: Vec<_> = pass
        .layers
        .iter_mut()
        .map(|slot| {
            let values = [&mut slot.qkv, &mut slot.attended, &mut slot.gate_up].map(|values| SharedMut::new(values));
            (values, SharedMut::new(&mut slot.middle))
        })
        .collect();
    pool.run(count.div_ceil(BLOCK), &|task| {
        let start = task * BLOCK;
        let rows = BLOCK.min(count - start);
        // SAFETY: ranges are the rows of this task; one of the inputs is let go before the next is asked for.
        let input = |layer: usize| unsafe { inputs[layer % inputs.len()].range(start * hidden, rows * hidden) };
        fn part<V>(values: SharedMut<'_, V>, start: usize, rows: usize, width: usize) -> &mut [V] {
            // SAFETY: ranges are the rows of this task, each buffer is asked for once.
            unsafe { values.range(start * width, rows * width) }
        }
        scratch.with(|scratch| {
            if layer == 0 {
                network.embed(tokens[start..start + rows].iter().copied(), input(0));
            } else {
                let ([_, attended, gate_up], middle) = slots[(layer - 1) % slots.len()];
                let middle = part(middle, start, rows, hidden);
                network.attend_output(layer - 1, input(layer - 1), part(attended, start, rows, query), middle, scratch);
                network.feed_forward(layer - 1, middle, part(gate_up, start, rows, both), input(layer), scratch);
            }
            if layer < config.layers {
                let ([qkv, ..], _) = slots[layer % slots.len()];
                let positions = positions[start..start + rows].iter().copied();
                network.project(layer, input(layer), positions, part(qkv, start, rows, width), scratch);
            }
        });
    });
}

/// The beginning of one layer alone, from its input.
pub fn begin_stage<C: Arithmetic>(
    network: &Network<'_, C>,
    pool: &mut Pool,
    scratch: &Lockers<Scratch<C>>,
    (input, positions): (&[f32], &[usize]),
    layer: usize,
    qkv: &mut [C::Value],
) {
    let (hidden, width) = (network.config.hidden_size, C::values(network.qkv_width()));
    let qkv = SharedMut::new(qkv);
    pool.run(positions.len().div_ceil(BLOCK), &|task| {
        let start = task * BLOCK;
        let rows = BLOCK.min(positions.len() - start);
        // SAFETY: the rows of this task.
        let qkv = unsafe { qkv.range(start * width, rows * width) };
        let x = &input[start * hidden..][..rows * hidden];
        let positions = positions[start..start + rows].iter().copied();
        scratch.with(|scratch| network.project(layer, x, positions, qkv, scratch));
    });
}

/// Attention of every sequence and key-value head.
pub fn attention_stage<C: Arithmetic>(
    network: &Network<'_, C>,
    pool: &mut Pool,
    scratch: &Lockers<Scratch<C>>,
    sequences: &[(usize, usize)],
    activations: &mut LayerActivations<C>,
) {
    let config = network.config;
    let (isa, head, heads) = (network.isa, config.head_dim, config.key_value_heads);
    let (own, query, width) = (C::values(head), C::values(config.query_width()), C::values(network.qkv_width()));
    let group = config.heads / heads;
    let qkv = &activations.qkv;
    let attended = SharedMut::new(&mut activations.attended);
    let softmax = SharedMut::new(&mut activations.softmax);
    let count = activations.middle.len() / config.hidden_size;
    pool.run(sequences.len() * heads, &|task| {
        let ((start, length), key_head) = (sequences[task / heads], task % heads);
        let rows = |column: usize| HeadRows { data: &qkv[start * width + column..], stride: width };
        let attention = Attention::<C> {
            isa,
            head,
            length,
            keys: rows(query + key_head * own),
            values: rows(query + (heads + key_head) * own),
        };
        scratch.with(|scratch| {
            let buffers = &mut scratch.attention;
            attention.pack(buffers);
            for number in key_head * group..(key_head + 1) * group {
                let column = number * own;
                // SAFETY: tasks write different heads or sequences.
                let told = unsafe { softmax.range(number * count + start, length) };
                attention.attend(rows(column), told, buffers);
                for (row, values) in (start..).zip(buffers.out.chunks_exact(head)).take(length) {
                    // SAFETY: tasks write different heads or sequences.
                    let out = unsafe { attended.range(row * query + column, own) };
                    C::store(isa, values, out);
                }
            }
        });
    });
}
