//! The forward pass of a block of rows. A block is one task of one thread: its products read shared packed weights and
//! never meet another block.

use super::adapters::{Adapters, DOWN, GATE, KEY, OUTPUT, QUERY, UP, VALUE};
use super::arithmetic::Arithmetic;
use super::panels::{Group, PanelSet};
use super::parameters::{Held, Layout};
use super::pass::{AdapterBuffers, Scratch};
use crate::pool::grown;
use crate::rope::Rope;
use cupel_files::Config;
use cupel_kernels::{add, rms_norm, rotate, scale, silu_product, Isa};

/// What a block of rows needs to pass through the layers. The panels of a layer must be prepared before.
pub struct Network<'a, C: Arithmetic> {
    pub isa: Isa,
    pub config: &'a Config,
    pub layout: &'a Layout,
    pub held: Held<'a>,
    pub panels: &'a PanelSet<C>,
    /// None where the base alone is computed.
    pub adapters: Option<&'a Adapters>,
    pub rope: &'a Rope,
}

impl<C: Arithmetic> Clone for Network<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Arithmetic> Copy for Network<'_, C> {}

impl<C: Arithmetic> Network<'_, C> {
    pub fn qkv_width(&self) -> usize {
        self.config.query_width() + 2 * self.config.key_value_width()
    }

    /// Copies the embeddings of `tokens` (checked to be in range) to `x[tokens, hidden]`.
    pub fn embed(&self, tokens: impl Iterator<Item = usize>, x: &mut [f32]) {
        for (row, token) in x.chunks_exact_mut(self.config.hidden_size).zip(tokens) {
            self.held.rows(self.layout.embedding, token, row);
        }
    }

    /// `normed = norm(x)` of one row with the weight at `offset`; returns the inverse root. `buffer` holds a row.
    pub fn norm_row(&self, offset: usize, x: &[f32], normed: &mut [C::Value], buffer: &mut Vec<f32>) -> f32 {
        let weight = self.held.vector(offset, x.len());
        let epsilon = self.config.rms_norm_eps;
        if let Some(normed) = C::numbers(normed) {
            return rms_norm(self.isa, x, weight, epsilon, normed);
        }
        let row = grown(buffer, x.len());
        let inverse = rms_norm(self.isa, x, weight, epsilon, row);
        C::store(self.isa, row, normed);
        inverse
    }

    /// `norm_row` of rows.
    pub fn norm(&self, offset: usize, x: &[f32], normed: &mut [C::Value], buffer: &mut Vec<f32>) {
        let hidden = self.config.hidden_size;
        for (x, out) in x.chunks_exact(hidden).zip(normed.chunks_exact_mut(C::values(hidden))) {
            self.norm_row(offset, x, out, buffer);
        }
    }

    /// Adds what the adapter of a projection makes of `rows` rows of `x` to its columns of `out`.
    #[allow(clippy::too_many_arguments)]
    fn adapt(
        &self,
        layer: usize,
        projection: usize,
        rows: usize,
        x: &[C::Value],
        out: &mut [f32],
        stride: usize,
        buffers: &mut AdapterBuffers<C>,
    ) {
        let Some((adapters, pair)) =
            self.adapters.and_then(|adapters| Some((adapters, adapters.layers[layer][projection]?)))
        else {
            return;
        };
        let panels = &self.panels.layer(layer).pairs[projection];
        let rank = adapters.rank;
        let inner = grown(&mut buffers.inner, rows * rank);
        panels.inner.multiply(self.isa, rows, (x, C::values(pair.input)), inner, rank, false);
        scale(self.isa, inner, adapters.scale);
        let inner = C::stored(self.isa, inner, rank, &mut buffers.values);
        panels.outer.multiply(self.isa, rows, (inner, C::values(rank)), &mut out[pair.column..], stride, true);
    }

    /// Rows of `x` to rotated queries, rotated keys and values, `qkv[rows, qkv_width]`.
    pub fn project(
        &self,
        layer: usize,
        x: &[f32],
        positions: impl Iterator<Item = usize>,
        qkv: &mut [C::Value],
        scratch: &mut Scratch<C>,
    ) {
        let (hidden, width) = (self.config.hidden_size, self.qkv_width());
        let rows = x.len() / hidden;
        let Scratch { rows: numbers, row, values: normed, adapter, .. } = scratch;
        let normed = grown(normed, rows * C::values(hidden));
        self.norm(self.layout.layers[layer].input_norm, x, normed, row);
        self.with_numbers(qkv, width, numbers, |qkv| {
            self.panels.layer(layer).multiply(self.isa, Group::Qkv, rows, normed, qkv, false);
            for projection in [QUERY, KEY, VALUE] {
                self.adapt(layer, projection, rows, normed, qkv, width, adapter);
            }
            let bias = self.layout.layers[layer].bias.map(|offset| self.held.vector(offset, width));
            let head = self.config.head_dim;
            let rotated = self.config.query_width() + self.config.key_value_width();
            for (row, position) in qkv.chunks_exact_mut(width).zip(positions) {
                if let Some(bias) = bias {
                    add(self.isa, row, bias);
                }
                let (cosines, sines) = self.rope.row(position);
                for head in row[..rotated].chunks_exact_mut(head) {
                    rotate(self.isa, head, cosines, sines, 1.0);
                }
            }
        });
    }

    /// Fills rows of values of `width` numbers by a function over numbers.
    fn with_numbers(
        &self,
        values: &mut [C::Value],
        width: usize,
        buffer: &mut Vec<f32>,
        fill: impl FnOnce(&mut [f32]),
    ) {
        if let Some(numbers) = C::numbers(values) {
            fill(numbers);
            return;
        }
        let numbers = grown(buffer, values.len() / C::values(width) * width);
        fill(numbers);
        for (numbers, values) in numbers.chunks_exact(width).zip(values.chunks_exact_mut(C::values(width))) {
            C::store(self.isa, numbers, values);
        }
    }

    /// `middle = x + ` the output projection of `attended`.
    pub fn attend_output(
        &self,
        layer: usize,
        x: &[f32],
        attended: &[C::Value],
        middle: &mut [f32],
        scratch: &mut Scratch<C>,
    ) {
        let hidden = self.config.hidden_size;
        let rows = x.len() / hidden;
        middle.copy_from_slice(x);
        self.panels.layer(layer).multiply(self.isa, Group::Output, rows, attended, middle, true);
        self.adapt(layer, OUTPUT, rows, attended, middle, hidden, &mut scratch.adapter);
    }

    /// Gates and ups of `middle`, `gate_up[rows, 2 · inner]`. As numbers before they are stored they are handed to
    /// `then`.
    pub fn gates(
        &self,
        layer: usize,
        middle: &[f32],
        gate_up: &mut [C::Value],
        scratch: &mut Scratch<C>,
        then: impl FnOnce(&[f32]),
    ) {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let rows = middle.len() / hidden;
        let Scratch { rows: numbers, row, values: normed, adapter, .. } = scratch;
        let normed = grown(normed, rows * C::values(hidden));
        self.norm(self.layout.layers[layer].post_norm, middle, normed, row);
        self.with_numbers(gate_up, 2 * inner, numbers, |gate_up| {
            self.panels.layer(layer).multiply(self.isa, Group::GateUp, rows, normed, gate_up, false);
            for projection in [GATE, UP] {
                self.adapt(layer, projection, rows, normed, gate_up, 2 * inner, adapter);
            }
            then(gate_up);
        });
    }

    /// `x = middle + ` the gated feed-forward of its norm. `gate_up` gets the values on the way.
    pub fn feed_forward(
        &self,
        layer: usize,
        middle: &[f32],
        gate_up: &mut [C::Value],
        x: &mut [f32],
        scratch: &mut Scratch<C>,
    ) {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let rows = x.len() / hidden;
        let mut more = std::mem::take(&mut scratch.more);
        let product = grown(&mut more, rows * inner);
        self.gates(layer, middle, gate_up, scratch, |gate_up| {
            for (both, out) in gate_up.chunks_exact(2 * inner).zip(product.chunks_exact_mut(inner)) {
                silu_product(self.isa, both, out);
            }
        });
        let product = C::stored(self.isa, product, inner, &mut scratch.values);
        x.copy_from_slice(middle);
        self.panels.layer(layer).multiply(self.isa, Group::Down, rows, product, x, true);
        self.adapt(layer, DOWN, rows, product, x, hidden, &mut scratch.adapter);
        scratch.more = more;
    }

    /// `logits[rows, vocabulary]` of final normalised rows, `logit_stride` apart; what lies between is zero.
    pub fn logits(&self, normed: &[C::Value], logits: &mut [f32]) {
        let (hidden, vocabulary) = (C::values(self.config.hidden_size), self.config.vocabulary_size);
        let (rows, stride) = (normed.len() / hidden, logit_stride(vocabulary));
        self.panels.head().multiply(self.isa, rows, (normed, hidden), logits, stride, false);
        logits.chunks_exact_mut(stride).for_each(|row| row[vocabulary..].fill(0.0));
    }
}

/// Distance of rows of logits. Vocabularies are often powers of two; rows that far apart would share a few
/// sets of the first-level cache. Even, so that it is a whole number of pairs.
pub fn logit_stride(vocabulary: usize) -> usize {
    (vocabulary + 16).next_multiple_of(2)
}
