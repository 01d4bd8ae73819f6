//! Attention of one layer, backward.

use cupel_kernels::rotate;

use super::Backward;
use crate::learner::arithmetic::Arithmetic;
use crate::learner::attention::{Attention, HeadRows, QueryHead};
use crate::learner::pass::Pass;
use crate::pool::{grown, SharedMut};

impl<C: Arithmetic> Backward<'_, C> {
    /// Gradients of the unrotated queries, keys and values, in `buffers.qkv`.
    pub(super) fn attention(&mut self, pass: &Pass<C>, slot: usize) {
        let network = self.network;
        let (isa, config) = (network.isa, network.config);
        let (head, heads) = (config.head_dim, config.key_value_heads);
        let [own, query, width] = [head, config.query_width(), network.qkv_width()].map(C::values);
        let group = config.heads / heads;
        let saved = &pass.layers[slot];
        let d_attended = &self.buffers.attended;
        let d_qkv = SharedMut::new(&mut self.buffers.qkv);
        let scratch = self.scratch;
        self.pool.run(pass.sequences.len() * heads, &|task| {
            let ((start, length), key_head) = (pass.sequences[task / heads], task % heads);
            let key_column = query + key_head * own;
            let value_column = key_column + heads * own;
            let rows = |column: usize| HeadRows { data: &saved.qkv[start * width + column..], stride: width };
            scratch.with(|scratch| {
                let attention =
                    Attention::<C> { isa, head, length, keys: rows(key_column), values: rows(value_column) };
                let buffers = &mut scratch.attention;
                attention.pack_backward(buffers);
                // Own buffers, because `dk` and `dv` would lie among each other's columns.
                let local = grown(&mut scratch.rows, 3 * length * head);
                let (dq, local) = local.split_at_mut(length * head);
                let (dk, dv) = local.split_at_mut(length * head);
                dk.fill(0.0);
                dv.fill(0.0);
                let store = |values: &mut [f32], column: usize, rotated: bool| {
                    for (position, value) in values.chunks_exact_mut(head).enumerate() {
                        if rotated {
                            let (cosines, sines) = network.rope.row(position);
                            rotate(isa, value, cosines, sines, -1.0);
                        }
                        // SAFETY: tasks write different heads or sequences.
                        let out = unsafe { d_qkv.range((start + position) * width + column, own) };
                        C::store(isa, value, out);
                    }
                };
                for number in key_head * group..(key_head + 1) * group {
                    let column = number * own;
                    let input = QueryHead {
                        softmax: &saved.softmax[number * pass.tokens.len() + start..][..length],
                        queries: rows(column),
                        outputs: HeadRows { data: &saved.attended[start * query + column..], stride: query },
                        output_gradients: HeadRows { data: &d_attended[start * query + column..], stride: query },
                    };
                    attention.backward(input, dq, dk, dv, buffers);
                    store(dq, column, true);
                }
                store(dk, key_column, true);
                store(dv, value_column, false);
            });
        });
    }
}
