//! Stages of the backward pass, from the last layer to the first.

mod again;
mod attention;
mod bypass;
mod head;
mod weights;

use super::adapters::{DOWN, GATE, KEY, OUTPUT, QUERY, UP, VALUE};
use super::arithmetic::Arithmetic;
use super::network::Network;
use super::panels::{Group, PanelSet, Trained};
use super::pass::{Gradients, Pass, Scratch, BLOCK};
use super::weight_gradients::sum_blocks;
use crate::pool::{grown, Lockers, Pool, SharedMut};
use bypass::Bypass;
use cupel_kernels::{rms_norm_backward, silu_product_backward};
pub use head::LOGITS_AGAIN;

/// One backward pass at work.
pub struct Backward<'a, C: Arithmetic> {
    /// Its panels are those of the forward direction.
    pub network: Network<'a, C>,
    pub panels: &'a mut PanelSet<C>,
    pub trained: Trained<'a>,
    /// Whether the base is trained too: matrices, biases, norms and embedding.
    pub whole: bool,
    pub pool: &'a mut Pool,
    pub scratch: &'a Lockers<Scratch<C>>,
    pub buffers: &'a mut Gradients<C>,
    pub kept_logits: usize,
}

impl<C: Arithmetic> Backward<'_, C> {
    /// Through one layer: `buffers.x` is the gradient of its output before and of its input after.
    pub fn layer(&mut self, pass: &mut Pass<C>, layer: usize, weights: &mut [f32]) {
        let groups = [Group::Down, Group::GateUp, Group::Output, Group::Qkv].map(|group| (layer, group));
        let network = self.network;
        self.panels.prepare(network.isa, self.pool, network.held, network.layout, self.trained, &groups);
        let slot = layer % pass.layers.len();
        self.feed_forward(pass, layer, slot, weights);
        self.attention(pass, slot);
        if self.whole {
            self.matrices(pass, layer, slot, weights);
        }
        // Before `input` overwrites the gradient of the output of the layer.
        self.factors(pass, layer, slot, &[OUTPUT, GATE, UP, DOWN], weights);
        self.input(pass, layer, weights);
        self.factors(pass, layer, slot, &[QUERY, KEY, VALUE], weights);
    }

    /// From the output of the layer to its middle and to the attended values; the saved gates and ups become
    /// their gradients.
    fn feed_forward(&mut self, pass: &mut Pass<C>, layer: usize, slot: usize, weights: &mut [f32]) {
        let network = self.network;
        let (isa, config, offsets) = (network.isa, network.config, network.layout.layers[layer]);
        let (hidden, query, inner) = (config.hidden_size, config.query_width(), config.intermediate_size);
        let [own, own_query, own_inner, both] = [hidden, query, inner, 2 * inner].map(C::values);
        let count = pass.tokens.len();
        let blocks = count.div_ceil(BLOCK);
        let panels = self.panels.layer(layer);
        let saved = &mut pass.layers[slot];
        self.buffers.partial.fill(0.0);
        let (middle, dx, attended) = (&saved.middle, &self.buffers.x, &saved.attended);
        let bypass = Bypass::new(&network, panels, self.trained, layer, count, &mut self.buffers.adapters);
        let gate_up = SharedMut::new(&mut saved.gate_up);
        let product = SharedMut::new(&mut self.buffers.product);
        let normed = SharedMut::new(&mut self.buffers.middle_normed);
        let input = &pass.inputs[layer];
        let input_normed = SharedMut::new(&mut self.buffers.input_normed);
        let input_inverse = SharedMut::new(&mut self.buffers.inverse);
        let d_middle = SharedMut::new(&mut self.buffers.middle);
        let d_attended = SharedMut::new(&mut self.buffers.attended);
        let partial = SharedMut::new(&mut self.buffers.partial);
        let weight = network.held.vector(offsets.post_norm, hidden);
        let scratch = self.scratch;
        self.pool.run(blocks, &|task| {
            let start = task * BLOCK;
            let rows = BLOCK.min(count - start);
            // SAFETY: every range is the rows of this task.
            let (input_normed, input_inverse, gate_up, product, normed, d_middle, d_attended, partial) = unsafe {
                (
                    input_normed.range(start * own, rows * own),
                    input_inverse.range(start, rows),
                    gate_up.range(start * both, rows * both),
                    product.range(start * own_inner, rows * own_inner),
                    normed.range(start * own, rows * own),
                    d_middle.range(start * hidden, rows * hidden),
                    d_attended.range(start * own_query, rows * own_query),
                    partial.range(task * hidden, hidden),
                )
            };
            let dx = &dx[start * hidden..][..rows * hidden];
            scratch.with(|scratch| {
                let d_product = grown(&mut scratch.more, rows * inner);
                let stored = C::stored(isa, dx, hidden, &mut scratch.values);
                panels.multiply(isa, Group::Down, rows, stored, d_product, false);
                bypass.through(DOWN, start, rows, (stored, own), d_product, inner, &mut scratch.adapter.values);
                for ((both, out), product) in gate_up
                    .chunks_exact_mut(both)
                    .zip(d_product.chunks_exact_mut(inner))
                    .zip(product.chunks_exact_mut(own_inner))
                {
                    if let Some(both) = C::numbers(both) {
                        silu_product_backward(isa, both, out);
                    } else {
                        let numbers = grown(&mut scratch.row, 2 * inner);
                        C::load(isa, both, numbers);
                        silu_product_backward(isa, numbers, out);
                        C::store(isa, numbers, both);
                    }
                    C::store(isa, out, product);
                }
                bypass.inner(DOWN, start, rows, product);
                let mut inverses = [0.0; BLOCK];
                for row in 0..rows {
                    let (range, values) =
                        ((start + row) * hidden..(start + row + 1) * hidden, row * own..(row + 1) * own);
                    let (x, out) = (&middle[range.clone()], &mut normed[values.clone()]);
                    inverses[row] = network.norm_row(offsets.post_norm, x, out, &mut scratch.row);
                    let (x, out) = (&input[range], &mut input_normed[values]);
                    input_inverse[row] = network.norm_row(offsets.input_norm, x, out, &mut scratch.row);
                }
                let dn = grown(&mut scratch.rows, rows * hidden);
                panels.multiply(isa, Group::GateUp, rows, gate_up, dn, false);
                for projection in [GATE, UP] {
                    let values = &mut scratch.adapter.values;
                    bypass.through(projection, start, rows, (gate_up, both), dn, hidden, values);
                    bypass.inner(projection, start, rows, normed);
                }
                d_middle.copy_from_slice(dx);
                for row in 0..rows {
                    let range = row * hidden..(row + 1) * hidden;
                    let x = &middle[(start + row) * hidden..][..hidden];
                    let inverse = inverses[row];
                    rms_norm_backward(isa, &dn[range.clone()], x, weight, inverse, &mut d_middle[range], partial);
                }
                let out = grown(&mut scratch.more, rows * query);
                let stored = C::stored(isa, d_middle, hidden, &mut scratch.values);
                panels.multiply(isa, Group::Output, rows, stored, out, false);
                bypass.through(OUTPUT, start, rows, (stored, own), out, query, &mut scratch.adapter.values);
                bypass.inner(OUTPUT, start, rows, &attended[start * own_query..][..rows * own_query]);
                C::store(isa, out, d_attended);
            });
        });
        if self.whole {
            sum_blocks(isa, &self.buffers.partial[..blocks * hidden], &mut weights[offsets.post_norm..][..hidden]);
        }
    }

    /// From queries, keys, values and the middle to the input of the layer.
    fn input(&mut self, pass: &Pass<C>, layer: usize, weights: &mut [f32]) {
        let network = self.network;
        let (isa, offsets) = (network.isa, network.layout.layers[layer]);
        let hidden = network.config.hidden_size;
        let (own, width) = (C::values(hidden), C::values(network.qkv_width()));
        let count = pass.tokens.len();
        let blocks = count.div_ceil(BLOCK);
        let panels = self.panels.layer(layer);
        self.buffers.partial.fill(0.0);
        let (input, inverses) = (&pass.inputs[layer], &self.buffers.inverse);
        let (d_qkv, d_middle, normed) = (&self.buffers.qkv, &self.buffers.middle, &self.buffers.input_normed);
        let bypass = Bypass::new(&network, panels, self.trained, layer, count, &mut self.buffers.adapters);
        let dx = SharedMut::new(&mut self.buffers.x);
        let partial = SharedMut::new(&mut self.buffers.partial);
        let weight = network.held.vector(offsets.input_norm, hidden);
        let scratch = self.scratch;
        self.pool.run(blocks, &|task| {
            let start = task * BLOCK;
            let rows = BLOCK.min(count - start);
            // SAFETY: every range is the rows of this task.
            let (dx, partial) =
                unsafe { (dx.range(start * hidden, rows * hidden), partial.range(task * hidden, hidden)) };
            scratch.with(|scratch| {
                let dn = grown(&mut scratch.rows, rows * hidden);
                let d_qkv = &d_qkv[start * width..][..rows * width];
                panels.multiply(isa, Group::Qkv, rows, d_qkv, dn, false);
                for projection in [QUERY, KEY, VALUE] {
                    let values = &mut scratch.adapter.values;
                    bypass.through(projection, start, rows, (d_qkv, width), dn, hidden, values);
                    bypass.inner(projection, start, rows, &normed[start * own..][..rows * own]);
                }
                dx.copy_from_slice(&d_middle[start * hidden..][..rows * hidden]);
                for row in 0..rows {
                    let range = row * hidden..(row + 1) * hidden;
                    let x = &input[(start + row) * hidden..][..hidden];
                    let inverse = inverses[start + row];
                    rms_norm_backward(isa, &dn[range.clone()], x, weight, inverse, &mut dx[range], partial);
                }
            });
        });
        if self.whole {
            sum_blocks(isa, &self.buffers.partial[..blocks * hidden], &mut weights[offsets.input_norm..][..hidden]);
        }
    }
}
