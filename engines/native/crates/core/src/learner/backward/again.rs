//! What is not kept is computed again.

use super::Backward;
use crate::learner::arithmetic::Arithmetic;
use crate::learner::forward::{attention_stage, begin_stage};
use crate::learner::pass::{Pass, BLOCK};
use crate::pool::SharedMut;

impl<C: Arithmetic> Backward<'_, C> {
    /// Computes again what one layer has between its input and its output, in the first slot. The panels of the
    /// forward direction must be prepared for it.
    pub fn begin_again(&mut self, pass: &mut Pass<C>, layer: usize) {
        let network = self.network;
        let slot = &mut pass.layers[0];
        begin_stage(&network, self.pool, self.scratch, (&pass.inputs[layer], &pass.positions), layer, &mut slot.qkv);
        attention_stage(&network, self.pool, self.scratch, &pass.sequences, slot);
        let (hidden, query) = (network.config.hidden_size, C::values(network.config.query_width()));
        let both = C::values(2 * network.config.intermediate_size);
        let count = pass.tokens.len();
        let (input, attended) = (&pass.inputs[layer], &slot.attended);
        let (middle, gate_up) = (SharedMut::new(&mut slot.middle), SharedMut::new(&mut slot.gate_up));
        let scratch = self.scratch;
        self.pool.run(count.div_ceil(BLOCK), &|task| {
            let start = task * BLOCK;
            let rows = BLOCK.min(count - start);
            // SAFETY: every range is the rows of this task.
            let (middle, gate_up) =
                unsafe { (middle.range(start * hidden, rows * hidden), gate_up.range(start * both, rows * both)) };
            scratch.with(|scratch| {
                let x = &input[start * hidden..][..rows * hidden];
                network.attend_output(layer, x, &attended[start * query..][..rows * query], middle, scratch);
                network.gates(layer, middle, gate_up, scratch, |_| {});
            });
        });
    }
}
