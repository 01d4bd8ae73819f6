//! Causal attention of one head. Scores are chains over the head dimension, outputs are chains over
//! positions in order, each row over exactly its own positions: a row computed alone, in a block or after a
//! cached prefix has the same bits.

use crate::pool::grown;
use cupel_kernels::{dot, gemm, pack_columns, pack_rows, panel_count, softmax, softmax_backward, Isa, Left, Line};

/// Rows of a block: bounds the score buffer to `48 · positions`.
pub const ROWS: usize = 48;
const TILE: usize = 6;

/// Rows of one head inside a wider matrix: row `i` is `data[i * stride..][..head]`.
#[derive(Clone, Copy)]
pub struct HeadRows<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

impl<'a> HeadRows<'a> {
    fn from(self, row: usize) -> Self {
        Self { data: &self.data[row * self.stride..], stride: self.stride }
    }

    fn left(self) -> Left<'a> {
        Left::rows(self.data, self.stride)
    }

    fn row(self, row: usize, head: usize) -> &'a [f32] {
        &self.data[row * self.stride..][..head]
    }
}

/// Lines that the keys of `positions` take: panels of 16 positions, each `head` lines.
pub fn key_lines(positions: usize, head: usize) -> usize {
    panel_count(positions) * head
}

/// Lines that values take with room for `capacity` positions: panels of 16 dimensions, each `capacity` lines.
pub fn value_lines(capacity: usize, head: usize) -> usize {
    panel_count(head) * capacity
}

/// Packs `count` rows so that scores run over positions.
pub fn pack_keys(rows: HeadRows<'_>, count: usize, head: usize, lines: &mut [Line]) {
    for (panel, lines) in lines.chunks_exact_mut(head).enumerate().take(panel_count(count)) {
        pack_rows(rows.data, rows.stride, count, panel, lines);
    }
}

/// Packs `count` rows so that outputs run over dimensions.
pub fn pack_values(rows: HeadRows<'_>, count: usize, head: usize, capacity: usize, lines: &mut [Line]) {
    for panel in 0..panel_count(head) {
        pack_columns(rows.data, rows.stride, head, panel, &mut lines[panel * capacity..][..count]);
    }
}

/// Keys and values of one head, packed.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    pub isa: Isa,
    pub head: usize,
    pub keys: &'a [Line],
    pub values: &'a [Line],
    /// Positions that `values` has room for.
    pub capacity: usize,
}

impl Attention<'_> {
    fn scale(&self) -> f32 {
        1.0 / (self.head as f32).sqrt()
    }

    /// Probabilities of `rows` queries; query `i` sees positions `0..first + i · step`. Row stride is the longest
    /// length; what a row does not see is zero.
    fn probabilities(&self, rows: usize, first: usize, step: usize, queries: HeadRows<'_>, out: &mut [f32]) {
        let longest = first + (rows - 1) * step;
        gemm(self.isa, (rows, longest, self.head), queries.left(), self.keys, self.head, out, longest, false);
        for (row, scores) in out.chunks_exact_mut(longest).enumerate().take(rows) {
            let (seen, unseen) = scores.split_at_mut(first + row * step);
            softmax(self.isa, seen, self.scale());
            unseen.fill(0.0);
        }
    }

    /// Outputs of `rows` queries; query `i` sees positions `0..first + i · step` (`step` 0 or 1).
    #[allow(clippy::too_many_arguments)]
    pub fn attend(
        &self,
        rows: usize,
        first: usize,
        step: usize,
        queries: HeadRows<'_>,
        scores: &mut Vec<f32>,
        out: &mut [f32],
        out_stride: usize,
    ) {
        for start in (0..rows).step_by(ROWS) {
            let block = ROWS.min(rows - start);
            let seen = first + start * step;
            let longest = seen + (block - 1) * step;
            let scores = grown(scores, block * longest);
            self.probabilities(block, seen, step, queries.from(start), scores);
            for tile in (0..block).step_by(TILE) {
                let count = TILE.min(block - tile);
                let common = seen + tile * step;
                let scores = &scores[tile * longest..];
                let out = &mut out[(start + tile) * out_stride..];
                let shape = (count, self.head, common);
                gemm(self.isa, shape, Left::rows(scores, longest), self.values, self.capacity, out, out_stride, false);
                for row in (1..count).take_while(|_| step > 0) {
                    let rest = Left::rows(&scores[row * longest + common..], longest);
                    let out = &mut out[row * out_stride..];
                    gemm(
                        self.isa,
                        (1, self.head, row),
                        rest,
                        &self.values[common..],
                        self.capacity,
                        out,
                        out_stride,
                        true,
                    );
                }
            }
        }
    }
}

/// Buffers of `backward`.
#[derive(Default)]
pub struct BackwardBuffers {
    probabilities: Vec<f32>,
    scores: Vec<f32>,
    keys_by_dimension: Vec<Line>,
    values_by_position: Vec<Line>,
    queries: Vec<Line>,
    outputs: Vec<Line>,
}

/// What the backward pass of one key-value head and one of its query heads reads.
#[derive(Clone, Copy)]
pub struct BackwardInput<'a> {
    pub queries: HeadRows<'a>,
    pub keys: HeadRows<'a>,
    pub values: HeadRows<'a>,
    pub outputs: HeadRows<'a>,
    pub output_gradients: HeadRows<'a>,
}

/// Gradients of a causal sequence of `length` positions for one query head: writes `dq`, adds to `dk` and `dv`.
/// All three have row stride `stride`. `keys` are the packed keys of the sequence.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    isa: Isa,
    length: usize,
    head: usize,
    keys: &[Line],
    input: BackwardInput<'_>,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
    stride: usize,
    buffers: &mut BackwardBuffers,
) {
    let by_dimension = grown(&mut buffers.keys_by_dimension, value_lines(length, head));
    pack_values(input.keys, length, head, length, by_dimension);
    let by_position = grown(&mut buffers.values_by_position, key_lines(length, head));
    pack_keys(input.values, length, head, by_position);
    let attention = Attention { isa, head, keys, values: &[], capacity: 0 };
    for start in (0..length).step_by(ROWS) {
        let block = ROWS.min(length - start);
        let longest = start + block;
        let probabilities = grown(&mut buffers.probabilities, block * longest);
        let queries = input.queries.from(start);
        attention.probabilities(block, start + 1, 1, queries, probabilities);
        let gradients = input.output_gradients.from(start);
        let scores = grown(&mut buffers.scores, block * longest);
        gemm(isa, (block, longest, head), gradients.left(), by_position, head, scores, longest, false);
        for row in 0..block {
            let shift = dot(isa, gradients.row(row, head), input.outputs.from(start).row(row, head));
            let range = row * longest..(row + 1) * longest;
            softmax_backward(isa, &probabilities[range.clone()], &mut scores[range], shift, attention.scale());
        }
        gemm(
            isa,
            (block, head, longest),
            Left::rows(scores, longest),
            by_dimension,
            length,
            &mut dq[start * stride..],
            stride,
            false,
        );
        let packed = grown(&mut buffers.queries, value_lines(block, head));
        pack_values(queries, block, head, block, packed);
        gemm(isa, (longest, head, block), Left::columns(scores, longest), packed, block, dk, stride, true);
        let packed = grown(&mut buffers.outputs, value_lines(block, head));
        pack_values(gradients, block, head, block, packed);
        gemm(isa, (longest, head, block), Left::columns(probabilities, longest), packed, block, dv, stride, true);
    }
}
