//! The forward pass of a block of rows, shared by training, scoring and generation. A block is one task of
//! one thread: its products read shared packed weights and never meet another block.

use super::parameters::Layout;
use crate::pool::{Pool, SharedMut};
use crate::rope::Rope;
use cupel_files::Config;
use cupel_kernels::{add, gemm, pack_columns, pack_rows, rms_norm, rotate, silu_product, Isa, Left, Line, Panels};

/// The packed matrices of one layer.
#[derive(Debug, Clone, Default)]
pub struct LayerPanels {
    pub qkv: Panels,
    pub output: Panels,
    pub gate_up: Panels,
    pub down: Panels,
}

/// All packed matrices, either for `x · Wᵀ` (forward) or for `dy · W` (backward).
#[derive(Debug, Clone, Default)]
pub struct PackedWeights {
    pub layers: Vec<LayerPanels>,
    pub head: Panels,
}

/// Which product the panels are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

impl PackedWeights {
    /// Memory for the panels of a model.
    pub fn zeroed(config: &Config, direction: Direction) -> Self {
        let shape = |rows: usize, columns: usize| match direction {
            Direction::Forward => Panels::zeroed(columns, rows),
            Direction::Backward => Panels::zeroed(rows, columns),
        };
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let layer = || LayerPanels {
            qkv: shape(config.query_width() + 2 * config.key_value_width(), hidden),
            output: shape(hidden, config.query_width()),
            gate_up: shape(2 * inner, hidden),
            down: shape(hidden, inner),
        };
        Self { layers: (0..config.layers).map(|_| layer()).collect(), head: shape(config.vocabulary_size, hidden) }
    }

    /// Packs the weights anew.
    pub fn pack(&mut self, pool: &mut Pool, layout: &Layout, weights: &[f32], direction: Direction) {
        let mut jobs = Vec::new();
        for (panels, offsets) in self.layers.iter_mut().zip(&layout.layers) {
            push_jobs(&mut jobs, &mut panels.qkv, &weights[offsets.qkv..]);
            push_jobs(&mut jobs, &mut panels.output, &weights[offsets.output..]);
            push_jobs(&mut jobs, &mut panels.gate_up, &weights[offsets.gate_up..]);
            push_jobs(&mut jobs, &mut panels.down, &weights[offsets.down..]);
        }
        push_jobs(&mut jobs, &mut self.head, &weights[layout.head..]);
        let count = jobs.len();
        let jobs = SharedMut::new(&mut jobs);
        let group = 8;
        pool.run(count.div_ceil(group), &|task| {
            let start = task * group;
            // SAFETY: each task takes its own run of jobs.
            for job in unsafe { jobs.range(start, group.min(count - start)) } {
                match direction {
                    Direction::Forward => pack_rows(job.source, job.k, job.n, job.panel, job.lines),
                    Direction::Backward => pack_columns(job.source, job.n, job.n, job.panel, job.lines),
                }
            }
        });
    }
}

struct PackJob<'a> {
    lines: &'a mut [Line],
    k: usize,
    n: usize,
    panel: usize,
    source: &'a [f32],
}

fn push_jobs<'a>(jobs: &mut Vec<PackJob<'a>>, panels: &'a mut Panels, weights: &'a [f32]) {
    let (k, n) = (panels.k, panels.n);
    let source = &weights[..k * n];
    jobs.extend(panels.lines.chunks_mut(k).enumerate().map(|(panel, lines)| PackJob { lines, k, n, panel, source }));
}

/// What a block of rows needs to pass through the layers.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    pub isa: Isa,
    pub config: &'a Config,
    pub layout: &'a Layout,
    /// At least the small part of the parameters.
    pub weights: &'a [f32],
    pub packed: &'a PackedWeights,
    pub rope: &'a Rope,
}

impl Network<'_> {
    pub fn qkv_width(&self) -> usize {
        self.config.query_width() + 2 * self.config.key_value_width()
    }

    /// Copies the embeddings of `tokens` (checked to be in range) to `x[tokens, hidden]`.
    pub fn embed(&self, tokens: impl Iterator<Item = usize>, x: &mut [f32]) {
        let hidden = self.config.hidden_size;
        for (row, token) in x.chunks_exact_mut(hidden).zip(tokens) {
            row.copy_from_slice(&self.weights[token * hidden..][..hidden]);
        }
    }

    /// `normed = norm(x)` by rows with the weight at `offset`; `inverses` gets one inverse root a row.
    pub fn norm(&self, offset: usize, x: &[f32], normed: &mut [f32], inverses: &mut [f32]) {
        let hidden = self.config.hidden_size;
        let weight = &self.weights[offset..][..hidden];
        for ((x, out), inverse) in x.chunks_exact(hidden).zip(normed.chunks_exact_mut(hidden)).zip(inverses) {
            *inverse = rms_norm(self.isa, x, weight, self.config.rms_norm_eps, out);
        }
    }

    /// Normalised rows to rotated queries, rotated keys and values, `qkv[rows, qkv_width]`.
    pub fn project(&self, layer: usize, normed: &[f32], positions: impl Iterator<Item = usize>, qkv: &mut [f32]) {
        let (hidden, width) = (self.config.hidden_size, self.qkv_width());
        let rows = normed.len() / hidden;
        let panels = &self.packed.layers[layer].qkv;
        gemm(self.isa, (rows, width, hidden), Left::rows(normed, hidden), &panels.lines, hidden, qkv, width, false);
        let bias = self.layout.layers[layer].bias.map(|offset| &self.weights[offset..][..width]);
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
    }

    /// Adds the output projection of `attended[rows, query_width]` to `x`.
    pub fn attend_output(&self, layer: usize, attended: &[f32], x: &mut [f32]) {
        let (hidden, query) = (self.config.hidden_size, self.config.query_width());
        let panels = &self.packed.layers[layer].output;
        let rows = x.len() / hidden;
        gemm(self.isa, (rows, hidden, query), Left::rows(attended, query), &panels.lines, query, x, hidden, true);
    }

    /// Adds the gated feed-forward of `normed` to `x`. `gate_up[rows, 2 · inner]` and `product[rows, inner]` get
    /// the values on the way.
    pub fn feed_forward(&self, layer: usize, normed: &[f32], gate_up: &mut [f32], product: &mut [f32], x: &mut [f32]) {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let rows = x.len() / hidden;
        let panels = &self.packed.layers[layer];
        let shape = (rows, 2 * inner, hidden);
        gemm(self.isa, shape, Left::rows(normed, hidden), &panels.gate_up.lines, hidden, gate_up, 2 * inner, false);
        for (both, out) in gate_up.chunks_exact(2 * inner).zip(product.chunks_exact_mut(inner)) {
            silu_product(self.isa, both, out);
        }
        gemm(self.isa, (rows, hidden, inner), Left::rows(product, inner), &panels.down.lines, inner, x, hidden, true);
    }

    /// `logits[rows, vocabulary]` of final normalised rows, `logit_stride` apart.
    pub fn logits(&self, normed: &[f32], logits: &mut [f32]) {
        let (hidden, vocabulary) = (self.config.hidden_size, self.config.vocabulary_size);
        let rows = normed.len() / hidden;
        let (lines, stride) = (&self.packed.head.lines, logit_stride(vocabulary));
        gemm(self.isa, (rows, vocabulary, hidden), Left::rows(normed, hidden), lines, hidden, logits, stride, false);
    }
}

/// Distance of rows of logits. Vocabularies are often powers of two; rows that far apart would share a few
/// sets of the first-level cache.
pub fn logit_stride(vocabulary: usize) -> usize {
    vocabulary + 16
}
