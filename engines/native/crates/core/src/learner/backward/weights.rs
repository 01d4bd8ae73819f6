//! Gradients of what is trained in one layer.

use super::Backward;
use crate::learner::adapters::{GATE, KEY, OUTPUT, QUERY, UP, VALUE};
use crate::learner::arithmetic::{Arithmetic, Rows};
use crate::learner::parameters::Matrix;
use crate::learner::pass::{Gradients, Pass};
use crate::learner::weight_gradients::{bias_gradient, weight_gradients, WeightGradient};

impl<C: Arithmetic> Backward<'_, C> {
    /// Gradients of the matrices and biases of the layer.
    pub(super) fn matrices(&mut self, pass: &Pass<C>, layer: usize, slot: usize, weights: &mut [f32]) {
        let network = self.network;
        let offsets = network.layout.layers[layer];
        let saved = &pass.layers[slot];
        let Gradients { x, middle, qkv, product, input_normed, middle_normed, panels, .. } = &mut *self.buffers;
        let width = network.qkv_width();
        let single = |data, matrix: Matrix| Rows::Single { data, stride: matrix.rows };
        let stored = |data, width| Rows::Stored { data, stride: C::values(width) };
        let job = |dy, x, matrix: Matrix| WeightGradient {
            dy,
            rows: matrix.rows,
            x,
            columns: matrix.columns,
            offset: matrix.offset,
        };
        let jobs = [
            job(
                stored(&saved.gate_up, offsets.gate_up.rows),
                stored(middle_normed, offsets.gate_up.columns),
                offsets.gate_up,
            ),
            job(single(x, offsets.down), stored(product, offsets.down.columns), offsets.down),
            job(stored(qkv, width), stored(input_normed, offsets.qkv.columns), offsets.qkv),
            job(single(middle, offsets.output), stored(&saved.attended, offsets.output.columns), offsets.output),
        ];
        weight_gradients::<C>(network.isa, self.pool, pass.tokens.len(), &jobs, panels, weights);
        if let Some(offset) = offsets.bias {
            bias_gradient::<C>(network.isa, qkv, width, &mut weights[offset..][..width]);
        }
    }

    /// Gradients of the factors of some projections of the layer.
    pub(super) fn factors(
        &mut self,
        pass: &Pass<C>,
        layer: usize,
        slot: usize,
        projections: &[usize],
        weights: &mut [f32],
    ) {
        let Some((adapters, _)) = self.trained else {
            return;
        };
        let (config, network) = (self.network.config, self.network);
        let (hidden, inner, width) = (config.hidden_size, config.intermediate_size, network.qkv_width());
        let (count, rank) = (pass.tokens.len(), adapters.rank);
        let saved = &pass.layers[slot];
        let Gradients { x, middle, qkv, product, input_normed, middle_normed, adapters: rows, panels, .. } =
            &mut *self.buffers;
        let mut jobs = Vec::new();
        for projection in projections.iter().copied() {
            let Some(pair) = adapters.layers[layer][projection] else {
                continue;
            };
            let stored = |data, width| Rows::Stored { data, stride: C::values(width) };
            let from = pair.column / C::STEPS;
            let (dy, left) = match projection {
                QUERY | KEY | VALUE => (stored(&qkv[from..], width), &*input_normed),
                OUTPUT => (Rows::Single { data: middle, stride: hidden }, &saved.attended),
                GATE | UP => (stored(&saved.gate_up[from..], 2 * inner), &*middle_normed),
                _ => (Rows::Single { data: x, stride: hidden }, &*product),
            };
            let [h, dh] = [2 * projection, 2 * projection + 1]
                .map(|part| Rows::Single { data: &rows[part * count * rank..][..count * rank], stride: rank });
            jobs.push(WeightGradient { dy, rows: pair.output, x: h, columns: rank, offset: pair.b });
            let left = stored(left, pair.input);
            jobs.push(WeightGradient { dy: dh, rows: rank, x: left, columns: pair.input, offset: pair.a });
        }
        weight_gradients::<C>(network.isa, self.pool, count, &jobs, panels, weights);
    }
}
