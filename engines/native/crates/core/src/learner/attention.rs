//! Causal attention of one key-value head of one sequence, forward and backward. Scores are chains over the head
//! dimension, outputs are chains over positions in order; what a row does not see has probability zero.

use super::arithmetic::{Arithmetic, Rows};
use crate::pool::grown;
use cupel_kernels::{dot, panel_count, softmax, softmax_again, softmax_backward, Isa};

/// Rows of a block: bounds the score buffers to `48 · positions`.
const ROWS: usize = 48;
/// Rows of a block that read equally many positions of the values.
const GROUP: usize = 8;

/// Rows of one head inside a wider matrix: row `i` is `data[i * stride..]`.
#[derive(Clone, Copy)]
pub struct HeadRows<'a, V> {
    pub data: &'a [V],
    pub stride: usize,
}

impl<'a, V> HeadRows<'a, V> {
    fn from(self, row: usize) -> Self {
        Self { data: &self.data[row * self.stride..], stride: self.stride }
    }
}

/// Buffers of one task.
#[derive(Default)]
pub struct AttentionBuffers<C: Arithmetic> {
    keys_by_position: Vec<C::Line>,
    keys_by_dimension: Vec<C::Line>,
    values_by_position: Vec<C::Line>,
    values_by_dimension: Vec<C::Line>,
    columns: Vec<C::Line>,
    right: Vec<C::Line>,
    probabilities: Vec<f32>,
    scores: Vec<f32>,
    stored_probabilities: Vec<C::Value>,
    stored_scores: Vec<C::Value>,
    row: [Vec<f32>; 2],
    pub out: Vec<f32>,
}

/// One key-value head of a sequence of `length` positions.
#[derive(Clone, Copy)]
pub struct Attention<'a, C: Arithmetic> {
    pub isa: Isa,
    pub head: usize,
    pub length: usize,
    pub keys: HeadRows<'a, C::Value>,
    pub values: HeadRows<'a, C::Value>,
}

/// What the backward pass reads of one query head.
#[derive(Clone, Copy)]
pub struct QueryHead<'a, V> {
    pub queries: HeadRows<'a, V>,
    pub outputs: HeadRows<'a, V>,
    pub output_gradients: HeadRows<'a, V>,
    /// What `attend` told of its rows.
    pub softmax: &'a [[f32; 2]],
}

impl<C: Arithmetic> Attention<'_, C> {
    fn scale(&self) -> f32 {
        1.0 / (self.head as f32).sqrt()
    }

    /// Lines of a panel that runs over positions.
    fn capacity(&self) -> usize {
        C::values(self.length)
    }

    fn by_position(&self, rows: HeadRows<'_, C::Value>, lines: &mut Vec<C::Line>) {
        let panel = C::values(self.head);
        let lines = grown(lines, panel_count(self.length) * panel);
        for (number, lines) in lines.chunks_exact_mut(panel).enumerate() {
            C::pack_rows(rows.data, rows.stride, self.length, number, lines);
        }
    }

    fn by_dimension(&self, rows: HeadRows<'_, C::Value>, count: usize, lines: &mut Vec<C::Line>) {
        let panel = C::values(count);
        let lines = grown(lines, panel_count(self.head) * panel);
        let rows = Rows::Stored { data: rows.data, stride: rows.stride };
        for (number, lines) in lines.chunks_exact_mut(panel).enumerate() {
            C::pack_columns(self.isa, rows, (count, self.head), number, lines);
        }
    }

    /// Scores of the rows `start..start + count`, `width` apart, that `each` turns into probabilities: it is told the
    /// number of the row and what the row sees, positions up to its own. The rest is zero.
    fn probabilities(
        &self,
        (start, count, width): (usize, usize, usize),
        queries: HeadRows<'_, C::Value>,
        keys: &[C::Line],
        out: &mut [f32],
        mut each: impl FnMut(usize, &mut [f32]),
    ) {
        let queries = queries.from(start);
        let shape = (count, start + count, self.head);
        let panel = C::values(self.head);
        C::product(self.isa, shape, queries.data, queries.stride, keys, panel, out, width, false);
        for (row, scores) in out.chunks_exact_mut(width).enumerate() {
            let (seen, unseen) = scores.split_at_mut(start + row + 1);
            each(start + row, seen);
            unseen.fill(0.0);
        }
    }

    /// Packs what `attend` reads.
    pub fn pack(&self, buffers: &mut AttentionBuffers<C>) {
        self.by_position(self.keys, &mut buffers.keys_by_position);
        self.by_dimension(self.values, self.length, &mut buffers.values_by_dimension);
    }

    /// Outputs of one query head, `[length, head]`, in `buffers.out`. Tells maximum and inverse sum of each softmax.
    pub fn attend(&self, queries: HeadRows<'_, C::Value>, tell: &mut [[f32; 2]], buffers: &mut AttentionBuffers<C>) {
        let head = self.head;
        let out = grown(&mut buffers.out, self.length * head);
        for start in (0..self.length).step_by(ROWS) {
            let count = ROWS.min(self.length - start);
            let width = (start + count).next_multiple_of(C::STEPS);
            let scores = grown(&mut buffers.scores, count * width);
            self.probabilities((start, count, width), queries, &buffers.keys_by_position, scores, |row, seen| {
                tell[row] = softmax(self.isa, seen, self.scale()).into();
            });
            let scores = C::stored(self.isa, scores, width, &mut buffers.stored_scores);
            let stride = C::values(width);
            for first in (0..count).step_by(GROUP) {
                let rows = GROUP.min(count - first);
                C::product(
                    self.isa,
                    (rows, head, start + first + rows),
                    &scores[first * stride..],
                    stride,
                    &buffers.values_by_dimension,
                    self.capacity(),
                    &mut out[(start + first) * head..],
                    head,
                    false,
                );
            }
        }
    }

    /// Packs what `backward` reads.
    pub fn pack_backward(&self, buffers: &mut AttentionBuffers<C>) {
        self.by_position(self.keys, &mut buffers.keys_by_position);
        self.by_dimension(self.keys, self.length, &mut buffers.keys_by_dimension);
        self.by_position(self.values, &mut buffers.values_by_position);
    }

    /// Gradients of one query head: writes `dq`, adds to `dk` and `dv`, all `[length, head]`.
    pub fn backward(
        &self,
        input: QueryHead<'_, C::Value>,
        dq: &mut [f32],
        dk: &mut [f32],
        dv: &mut [f32],
        buffers: &mut AttentionBuffers<C>,
    ) {
        let (isa, head) = (self.isa, self.head);
        let panel = C::values(head);
        for start in (0..self.length).step_by(ROWS) {
            let count = ROWS.min(self.length - start);
            let longest = start + count;
            let width = longest.next_multiple_of(C::STEPS);
            let probabilities = grown(&mut buffers.probabilities, count * width);
            let keys = &buffers.keys_by_position;
            self.probabilities((start, count, width), input.queries, keys, probabilities, |row, seen| {
                let [top, inverse] = input.softmax[row];
                softmax_again(isa, seen, self.scale(), top, inverse);
            });
            let gradients = input.output_gradients.from(start);
            let outputs = input.outputs.from(start);
            let scores = grown(&mut buffers.scores, count * width);
            let shape = (count, longest, head);
            let values = &buffers.values_by_position;
            C::product(isa, shape, gradients.data, gradients.stride, values, panel, scores, width, false);
            let [first, second] = &mut buffers.row;
            for row in 0..count {
                let gradient = C::loaded(isa, &gradients.data[row * gradients.stride..][..panel], first);
                let output = C::loaded(isa, &outputs.data[row * outputs.stride..][..panel], second);
                let shift = dot(isa, gradient, output);
                let (seen, unseen) = scores[row * width..(row + 1) * width].split_at_mut(start + row + 1);
                softmax_backward(isa, &probabilities[row * width..][..seen.len()], seen, shift, self.scale());
                unseen.fill(0.0);
            }
            let scores = C::stored(isa, scores, width, &mut buffers.stored_scores);
            let probabilities = C::stored(isa, probabilities, width, &mut buffers.stored_probabilities);
            let stride = C::values(width);
            let keys = &buffers.keys_by_dimension;
            for first in (0..count).step_by(GROUP) {
                let rows = GROUP.min(count - first);
                let (scores, out) = (&scores[first * stride..], &mut dq[(start + first) * head..]);
                C::product(
                    isa,
                    (rows, head, start + first + rows),
                    scores,
                    stride,
                    keys,
                    self.capacity(),
                    out,
                    head,
                    false,
                );
            }
            let shape = (longest, head, count);
            let steps = C::values(count);
            let queries = input.queries.from(start);
            for (left, right, out) in [(scores, queries, &mut *dk), (probabilities, gradients, &mut *dv)] {
                self.by_dimension(right, count, &mut buffers.right);
                let columns = &mut buffers.columns;
                C::product_of_columns(isa, shape, left, stride, &buffers.right, steps, out, head, true, columns);
            }
        }
    }
}
