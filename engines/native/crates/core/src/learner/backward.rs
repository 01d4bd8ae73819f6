//! Stages of the backward pass, from the last layer to the first.

use super::attention::{self, key_lines, pack_keys, BackwardInput, HeadRows};
use super::network::{logit_stride, Network, PackedWeights};
use crate::pool::{grown, Lockers, Pool, SharedMut};
use cupel_files::Result;
use cupel_kernels::{exponentials, gemm, rms_norm_backward, rotate, scale, silu_product_backward, Left};

use super::pass::{ensure, Gradients, Pass, Scratch, BLOCK};
use super::weight_gradients::{sum_blocks, weight_gradients, WeightGradient};

/// One backward pass at work.
pub struct Backward<'a> {
    pub network: Network<'a>,
    pub panels: &'a PackedWeights,
    pub pool: &'a mut Pool,
    pub scratch: &'a Lockers<Scratch>,
    pub buffers: &'a mut Gradients,
    pub kept_logits: usize,
}

impl Backward<'_> {
    /// From the log-probabilities to the gradient of the last layer's output, in `buffers.x`.
    pub fn head(&mut self, pass: &mut Pass, gradients: &[f32], weights: &mut [f32]) -> Result<()> {
        let network = self.network;
        let isa = network.isa;
        let (hidden, vocabulary) = (network.config.hidden_size, network.config.vocabulary_size);
        let stride = logit_stride(vocabulary);
        let count = pass.targets.len();
        let run = if pass.exponentials_kept {
            count.max(1)
        } else {
            (self.kept_logits / stride).max(1).next_multiple_of(BLOCK)
        };
        self.buffers.x.fill(0.0);
        self.buffers.post_norm.fill(0.0);
        let blocks = count.div_ceil(BLOCK);
        for first in (0..count).step_by(run) {
            let length = run.min(count - first);
            let room = pass.exponentials.len().max(length * stride);
            ensure(&mut pass.exponentials, room)?;
            let (targets, normed, inverse, sums, output) =
                (&pass.targets, &pass.normed, &pass.inverse, &pass.sums, &pass.output);
            let recompute = !pass.exponentials_kept;
            let logits = SharedMut::new(&mut pass.exponentials);
            let normed_gradients = SharedMut::new(&mut self.buffers.normed);
            let x_gradients = SharedMut::new(&mut self.buffers.x);
            let partial = SharedMut::new(&mut self.buffers.post_norm);
            let panels = &self.panels.head;
            let weight = &network.weights[network.layout.final_norm..][..hidden];
            self.pool.run(length.div_ceil(BLOCK), &|task| {
                let start = task * BLOCK;
                let rows = BLOCK.min(length - start);
                let global = first + start;
                // SAFETY: ranges are the rows of this task; the rows that predict targets are all different.
                let (logits, dn, partial) = unsafe {
                    (
                        logits.range(start * stride, rows * stride),
                        normed_gradients.range(global * hidden, rows * hidden),
                        partial.range(global / BLOCK * hidden, hidden),
                    )
                };
                if recompute {
                    network.logits(&normed[global * hidden..][..rows * hidden], logits);
                }
                for (index, row) in logits.chunks_exact_mut(stride).enumerate() {
                    let row = &mut row[..vocabulary];
                    if recompute {
                        exponentials(isa, row);
                    }
                    let gradient = gradients[global + index];
                    scale(isa, row, -gradient / sums[global + index]);
                    row[targets[global + index].1] += gradient;
                }
                gemm(
                    isa,
                    (rows, hidden, vocabulary),
                    Left::rows(logits, stride),
                    &panels.lines,
                    vocabulary,
                    dn,
                    hidden,
                    false,
                );
                for (index, dn) in dn.chunks_exact(hidden).enumerate() {
                    let row = targets[global + index].0;
                    // SAFETY: as above.
                    let dx = unsafe { x_gradients.range(row * hidden, hidden) };
                    rms_norm_backward(
                        isa,
                        dn,
                        &output[row * hidden..][..hidden],
                        weight,
                        inverse[global + index],
                        dx,
                        partial,
                    );
                }
            });
            let gradient = WeightGradient {
                dy: &pass.exponentials[..length * stride],
                stride,
                rows: vocabulary,
                x: &pass.normed[first * hidden..][..length * hidden],
                columns: hidden,
                offset: network.layout.head,
            };
            weight_gradients(isa, self.pool, self.scratch, length, &[gradient], None, weights);
        }
        sum_blocks(
            isa,
            &self.buffers.post_norm[..blocks * hidden],
            &mut weights[network.layout.final_norm..][..hidden],
        );
        Ok(())
    }

    /// Through one layer: `buffers.x` is the gradient of its output before and of its input after.
    pub fn layer(&mut self, pass: &mut Pass, layer: usize, weights: &mut [f32]) {
        self.feed_forward(pass, layer, weights);
        self.attention(pass, layer);
        self.matrices(pass, layer, weights);
        self.input(pass, layer, weights);
    }

    /// From the output of the layer to its middle and to the attended values; the saved gates and ups become
    /// their gradients.
    fn feed_forward(&mut self, pass: &mut Pass, layer: usize, weights: &mut [f32]) {
        let network = self.network;
        let (isa, config, offsets) = (network.isa, network.config, network.layout.layers[layer]);
        let (hidden, query, inner) = (config.hidden_size, config.query_width(), config.intermediate_size);
        let count = pass.tokens.len();
        let blocks = count.div_ceil(BLOCK);
        let panels = &self.panels.layers[layer];
        let saved = &mut pass.layers[layer];
        self.buffers.post_norm.fill(0.0);
        let (middle, middle_inverse, dx) = (&saved.middle, &saved.middle_inverse, &self.buffers.x);
        let gate_up = SharedMut::new(&mut saved.gate_up);
        let product = SharedMut::new(&mut self.buffers.product);
        let d_middle = SharedMut::new(&mut self.buffers.middle);
        let d_attended = SharedMut::new(&mut self.buffers.attended);
        let partial = SharedMut::new(&mut self.buffers.post_norm);
        let weight = &network.weights[offsets.post_norm..][..hidden];
        let scratch = self.scratch;
        self.pool.run(blocks, &|task| {
            let start = task * BLOCK;
            let rows = BLOCK.min(count - start);
            // SAFETY: every range is the rows of this task.
            let (gate_up, product, d_middle, d_attended, partial) = unsafe {
                (
                    gate_up.range(start * 2 * inner, rows * 2 * inner),
                    product.range(start * inner, rows * inner),
                    d_middle.range(start * hidden, rows * hidden),
                    d_attended.range(start * query, rows * query),
                    partial.range(task * hidden, hidden),
                )
            };
            let dx = &dx[start * hidden..][..rows * hidden];
            gemm(isa, (rows, inner, hidden), Left::rows(dx, hidden), &panels.down.lines, hidden, product, inner, false);
            for (both, out) in gate_up.chunks_exact_mut(2 * inner).zip(product.chunks_exact_mut(inner)) {
                silu_product_backward(isa, both, out);
            }
            scratch.with(|scratch| {
                let dn = grown(&mut scratch.rows, rows * hidden);
                let lines = &panels.gate_up.lines;
                gemm(
                    isa,
                    (rows, hidden, 2 * inner),
                    Left::rows(gate_up, 2 * inner),
                    lines,
                    2 * inner,
                    dn,
                    hidden,
                    false,
                );
                d_middle.copy_from_slice(dx);
                for row in 0..rows {
                    let range = row * hidden..(row + 1) * hidden;
                    let x = &middle[(start + row) * hidden..][..hidden];
                    rms_norm_backward(
                        isa,
                        &dn[range.clone()],
                        x,
                        weight,
                        middle_inverse[start + row],
                        &mut d_middle[range],
                        partial,
                    );
                }
            });
            gemm(
                isa,
                (rows, query, hidden),
                Left::rows(d_middle, hidden),
                &panels.output.lines,
                hidden,
                d_attended,
                query,
                false,
            );
        });
        sum_blocks(isa, &self.buffers.post_norm[..blocks * hidden], &mut weights[offsets.post_norm..][..hidden]);
    }

    /// Gradients of the unrotated queries, keys and values, in `buffers.qkv`.
    fn attention(&mut self, pass: &Pass, layer: usize) {
        let network = self.network;
        let (isa, config) = (network.isa, network.config);
        let (head, query, width, heads) =
            (config.head_dim, config.query_width(), network.qkv_width(), config.key_value_heads);
        let group = config.heads / heads;
        let saved = &pass.layers[layer];
        let d_attended = &self.buffers.attended;
        let d_qkv = SharedMut::new(&mut self.buffers.qkv);
        let scratch = self.scratch;
        self.pool.run(pass.sequences.len() * heads, &|task| {
            let ((start, length), key_head) = (pass.sequences[task / heads], task % heads);
            let key_column = query + key_head * head;
            let value_column = key_column + config.key_value_width();
            let rows = |column: usize| HeadRows { data: &saved.qkv[start * width + column..], stride: width };
            scratch.with(|scratch| {
                let keys = grown(&mut scratch.keys, key_lines(length, head));
                pack_keys(rows(key_column), length, head, keys);
                // Own buffers, because `dk` and `dv` would lie among each other's columns.
                let local = grown(&mut scratch.rows, 3 * length * head);
                let (dq, local) = local.split_at_mut(length * head);
                let (dk, dv) = local.split_at_mut(length * head);
                dk.fill(0.0);
                dv.fill(0.0);
                let store = |values: &[f32], column: usize, rotated: bool| {
                    for (position, value) in values.chunks_exact(head).enumerate() {
                        // SAFETY: tasks write different heads or sequences.
                        let out = unsafe { d_qkv.range((start + position) * width + column, head) };
                        out.copy_from_slice(value);
                        if rotated {
                            let (cosines, sines) = network.rope.row(position);
                            rotate(isa, out, cosines, sines, -1.0);
                        }
                    }
                };
                for column in (key_head * group..(key_head + 1) * group).map(|number| number * head) {
                    let input = BackwardInput {
                        queries: rows(column),
                        keys: rows(key_column),
                        values: rows(value_column),
                        outputs: HeadRows { data: &saved.attended[start * query + column..], stride: query },
                        output_gradients: HeadRows { data: &d_attended[start * query + column..], stride: query },
                    };
                    attention::backward(isa, length, head, keys, input, dq, dk, dv, head, &mut scratch.backward);
                    store(dq, column, true);
                }
                store(dk, key_column, true);
                store(dv, value_column, false);
            });
        });
    }

    /// Gradients of the matrices and biases of the layer.
    fn matrices(&mut self, pass: &Pass, layer: usize, weights: &mut [f32]) {
        let network = self.network;
        let (isa, config, offsets) = (network.isa, network.config, network.layout.layers[layer]);
        let (hidden, query, inner, width) =
            (config.hidden_size, config.query_width(), config.intermediate_size, network.qkv_width());
        let saved = &pass.layers[layer];
        let buffers = &*self.buffers;
        let jobs = [
            WeightGradient {
                dy: &saved.gate_up,
                stride: 2 * inner,
                rows: 2 * inner,
                x: &saved.middle_normed,
                columns: hidden,
                offset: offsets.gate_up,
            },
            WeightGradient {
                dy: &buffers.x,
                stride: hidden,
                rows: hidden,
                x: &buffers.product,
                columns: inner,
                offset: offsets.down,
            },
            WeightGradient {
                dy: &buffers.qkv,
                stride: width,
                rows: width,
                x: &saved.input_normed,
                columns: hidden,
                offset: offsets.qkv,
            },
            WeightGradient {
                dy: &buffers.middle,
                stride: hidden,
                rows: hidden,
                x: &saved.attended,
                columns: query,
                offset: offsets.output,
            },
        ];
        let bias = offsets.bias.map(|offset| (offset, &buffers.qkv[..], width));
        weight_gradients(isa, self.pool, self.scratch, pass.tokens.len(), &jobs, bias, weights);
    }

    /// From queries, keys, values and the middle to the input of the layer.
    fn input(&mut self, pass: &Pass, layer: usize, weights: &mut [f32]) {
        let network = self.network;
        let (isa, config, offsets) = (network.isa, network.config, network.layout.layers[layer]);
        let (hidden, width) = (config.hidden_size, network.qkv_width());
        let count = pass.tokens.len();
        let blocks = count.div_ceil(BLOCK);
        let panels = &self.panels.layers[layer];
        let saved = &pass.layers[layer];
        self.buffers.input_norm.fill(0.0);
        let (input, input_inverse, d_qkv, d_middle) =
            (&saved.input, &saved.input_inverse, &self.buffers.qkv, &self.buffers.middle);
        let dx = SharedMut::new(&mut self.buffers.x);
        let partial = SharedMut::new(&mut self.buffers.input_norm);
        let weight = &network.weights[offsets.input_norm..][..hidden];
        let scratch = self.scratch;
        self.pool.run(blocks, &|task| {
            let start = task * BLOCK;
            let rows = BLOCK.min(count - start);
            // SAFETY: every range is the rows of this task.
            let (dx, partial) =
                unsafe { (dx.range(start * hidden, rows * hidden), partial.range(task * hidden, hidden)) };
            scratch.with(|scratch| {
                let dn = grown(&mut scratch.rows, rows * hidden);
                let left = Left::rows(&d_qkv[start * width..][..rows * width], width);
                gemm(isa, (rows, hidden, width), left, &panels.qkv.lines, width, dn, hidden, false);
                dx.copy_from_slice(&d_middle[start * hidden..][..rows * hidden]);
                for row in 0..rows {
                    let range = row * hidden..(row + 1) * hidden;
                    let x = &input[(start + row) * hidden..][..hidden];
                    rms_norm_backward(
                        isa,
                        &dn[range.clone()],
                        x,
                        weight,
                        input_inverse[start + row],
                        &mut dx[range],
                        partial,
                    );
                }
            });
        });
        sum_blocks(isa, &self.buffers.input_norm[..blocks * hidden], &mut weights[offsets.input_norm..][..hidden]);
    }
}
