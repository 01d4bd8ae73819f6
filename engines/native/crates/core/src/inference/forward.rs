//! One step of the network over rows of several sequences. Rows that are many are shared out in blocks, each
//! passing whole layers; few rows are shared out by columns of the weights. Every output element is computed by
//! one chain in either case, so the way of sharing never reaches a bit.

use cupel_attention::{attend, KvStore, Plan, Scratch as AttentionScratch, SequenceRows, PAGE};
use cupel_kernels::{add, rms_norm, rotate, silu_product, Isa, Out};

use super::adapters::Projection;
use super::linear::{Input, Linear, Quantized};
use super::weights::{Layer, Model};
use crate::pool::{grown, Lockers, Pool, SharedMut};
use crate::rope::Rope;

/// Rows of a block: their activations stay in the second-level cache while the weights of a layer pass.
const BLOCK: usize = 64;
/// Rows a thread from which rows are shared out instead of columns.
const ROWS_A_THREAD: usize = 32;
/// Rows from which work on single rows is shared out.
const PARALLEL_ROWS: usize = 8;
/// Query numbers times positions from which attention is shared out.
const PARALLEL_ATTENTION: usize = 1 << 16;
/// Bytes of logits at a time.
const LOGIT_BYTES: usize = 16 << 20;

/// Tokens that a step appends to one sequence.
pub struct Chunk<'a> {
    pub tokens: &'a [u32],
    /// Positions already in the cache.
    pub before: usize,
    /// Pages of the sequence, enough for all its positions after the step.
    pub pages: &'a [u32],
    pub adapter: Option<usize>,
}

/// Threads, buffers and the KV cache of an engine.
pub struct Forward {
    pub pool: Pool,
    pub store: KvStore,
    rope: Rope,
    plan: Plan,
    scratch: Lockers<Scratch>,
    rows: Vec<Row>,
    adapters: Vec<Option<usize>>,
    x: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    own: Scratch,
    product: Vec<f32>,
    logits: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Row {
    token: u32,
    position: usize,
    page: u32,
    slot: usize,
}

#[derive(Default)]
struct Scratch {
    normed: Vec<f32>,
    quantized: Quantized,
    gate_up: Vec<f32>,
    product: Vec<f32>,
    adapter: Vec<f32>,
    attention: AttentionScratch,
}

impl Forward {
    pub fn new(model: &Model) -> Self {
        let config = &model.config;
        Self {
            pool: Pool::new(model.threads),
            store: KvStore::new(config.layers, config.key_value_heads, config.head_dim, model.kv, model.kv_pages),
            rope: Rope::new(config),
            plan: Plan::default(),
            scratch: Lockers::default(),
            rows: Vec::new(),
            adapters: Vec::new(),
            x: Vec::new(),
            qkv: Vec::new(),
            attended: Vec::new(),
            own: Scratch::default(),
            product: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// Appends the tokens of all chunks to the cache. The rows of the last layer's output, before the final norm,
    /// then lie in the order of the chunks, ready for `logits`.
    pub fn run(&mut self, model: &Model, chunks: &[Chunk<'_>]) -> cupel_files::Result<()> {
        let config = &model.config;
        self.rows.clear();
        self.adapters.clear();
        let mut sequences = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            sequences.push(SequenceRows {
                pages: chunk.pages,
                before: chunk.before,
                rows: chunk.tokens.len(),
                first_row: self.rows.len(),
            });
            for (token, position) in chunk.tokens.iter().zip(chunk.before..) {
                let (page, slot) = (chunk.pages[position / PAGE], position % PAGE);
                self.rows.push(Row { token: *token, position, page, slot });
                self.adapters.push(chunk.adapter);
            }
        }
        let rows = self.rows.len();
        let longest = chunks.iter().map(|chunk| chunk.before + chunk.tokens.len()).max().unwrap_or(0);
        self.rope.reserve(longest);
        let seen: usize = sequences.iter().map(|part| part.rows * (part.before + part.rows)).sum();
        self.plan = Plan::build(&sequences, config.sliding_window);
        let width = config.query_width() + 2 * config.key_value_width();
        grown(&mut self.x, rows * config.hidden_size);
        grown(&mut self.qkv, rows * width);
        grown(&mut self.attended, rows * config.query_width());
        grown(&mut self.product, rows.min(ROWS_A_THREAD * self.pool.threads()) * config.intermediate_size);
        let share_attention = seen * config.query_width() >= PARALLEL_ATTENTION;
        let has_adapter = self.adapters.iter().any(Option::is_some);
        if has_adapter || rows >= ROWS_A_THREAD * self.pool.threads() {
            self.by_rows(model, share_attention)
        } else {
            self.by_columns(model, share_attention)
        }
    }

    /// Many rows: a task takes a block of rows from one attention to the next.
    fn by_rows(&mut self, model: &Model, share_attention: bool) -> cupel_files::Result<()> {
        let config = &model.config;
        let embedding = model.embedding()?;
        let rows = self.rows.len();
        let (hidden, query) = (config.hidden_size, config.query_width());
        let width = query + 2 * config.key_value_width();
        let block = BLOCK.min(rows.div_ceil(self.pool.threads()));
        for layer in 0..=config.layers {
            let x = SharedMut::new(&mut self.x);
            let qkv = SharedMut::new(&mut self.qkv);
            let part = Part { model, rope: &self.rope, store: &self.store };
            let (attended, all, adapters, scratch) = (&self.attended, &self.rows, &self.adapters, &self.scratch);
            self.pool.run(rows.div_ceil(block), &|task| {
                let start = task * block;
                let count = block.min(rows - start);
                let (own, of) = (&all[start..start + count], &adapters[start..start + count]);
                // SAFETY: every range is the rows of this task.
                let x = unsafe { x.range(start * hidden, count * hidden) };
                scratch.with(|scratch| {
                    if layer == 0 {
                        for (row, out) in own.iter().zip(x.chunks_exact_mut(hidden)) {
                            embedding.decode_row(row.token as usize, out);
                        }
                    } else {
                        part.attend_output(layer - 1, &attended[start * query..][..count * query], of, x, scratch);
                        part.feed_forward(layer - 1, of, x, scratch);
                    }
                    if layer < config.layers {
                        // SAFETY: as above.
                        let qkv = unsafe { qkv.range(start * width, count * width) };
                        part.project(layer, own, of, x, qkv, scratch);
                    }
                });
            });
            if layer < config.layers {
                self.attend(model, layer, share_attention);
            }
        }
        Ok(())
    }

    /// Few rows: the columns of every product are shared out.
    fn by_columns(&mut self, model: &Model, share_attention: bool) -> cupel_files::Result<()> {
        let config = &model.config;
        let embedding = model.embedding()?;
        let (isa, count) = (model.isa, self.rows.len());
        let (hidden, query, inner) = (config.hidden_size, config.query_width(), config.intermediate_size);
        let key = config.key_value_width();
        let width = query + 2 * key;
        for (row, out) in self.rows.iter().zip(self.x.chunks_exact_mut(hidden)) {
            embedding.decode_row(row.token as usize, out);
        }
        for (number, layer) in model.layers.iter().enumerate() {
            let Scratch { normed, quantized, .. } = &mut self.own;
            let normed = grown(normed, count * hidden);
            norm_rows(isa, &self.x[..count * hidden], &layer.input_norm, config.rms_norm_eps, normed);
            quantized.prepare(isa, [&layer.query, &layer.key, &layer.value].into_iter(), normed, hidden, count, hidden);
            let input = Input { x: normed, stride: hidden, rows: count, quantized };
            let out = Out::new(&mut self.qkv[..count * width], width);
            let parts =
                [(&layer.query, out), (&layer.key, out.shifted(query)), (&layer.value, out.shifted(query + key))];
            share_columns(&mut self.pool, isa, input, &parts, false);

            let part = Part { model, rope: &self.rope, store: &self.store };
            let (qkv, rows) = (SharedMut::new(&mut self.qkv), &self.rows);
            self.pool.run_if(count >= PARALLEL_ROWS, count, &|row| {
                // SAFETY: each task has its own row.
                part.finish(number, &rows[row..=row], unsafe { qkv.range(row * width, width) });
            });
            self.attend(model, number, share_attention);

            let Scratch { normed, quantized, .. } = &mut self.own;
            let attended = &self.attended[..count * query];
            quantized.prepare(isa, [&layer.output].into_iter(), attended, query, count, query);
            let input = Input { x: attended, stride: query, rows: count, quantized };
            let x = Out::new(&mut self.x[..count * hidden], hidden);
            share_columns(&mut self.pool, isa, input, &[(&layer.output, x)], true);

            let normed = grown(normed, count * hidden);
            norm_rows(isa, &self.x[..count * hidden], &layer.post_norm, config.rms_norm_eps, normed);
            quantized.prepare(isa, [&layer.gate, &layer.up].into_iter(), normed, hidden, count, hidden);
            let input = Input { x: normed, stride: hidden, rows: count, quantized };
            let product = Out::new(&mut self.product[..count * inner], inner);
            share_gated(&mut self.pool, isa, input, layer, product, &self.scratch);

            let product = &self.product[..count * inner];
            quantized.prepare(isa, [&layer.down].into_iter(), product, inner, count, inner);
            let input = Input { x: product, stride: inner, rows: count, quantized };
            let x = Out::new(&mut self.x[..count * hidden], hidden);
            share_columns(&mut self.pool, isa, input, &[(&layer.down, x)], true);
        }
        Ok(())
    }

    fn attend(&mut self, model: &Model, layer: usize, share: bool) {
        let config = &model.config;
        let (query, heads) = (config.query_width(), config.key_value_heads);
        let width = query + 2 * config.key_value_width();
        let group = config.heads / heads;
        let tasks = self.plan.tasks();
        let out = Out::new(&mut self.attended, query);
        let (plan, store, qkv, scratch) = (&self.plan, &self.store, &self.qkv, &self.scratch);
        self.pool.run_if(share, heads * tasks, &|number| {
            let (head, task) = (number % heads, number / heads);
            scratch.with(|scratch| {
                // SAFETY: each task writes its own rows and heads, and the step's rows were appended.
                unsafe {
                    attend(
                        model.isa,
                        store,
                        layer,
                        head,
                        plan,
                        task,
                        group,
                        qkv,
                        width,
                        0,
                        out,
                        0,
                        &mut scratch.attention,
                    )
                };
            });
        });
    }

    /// Calls `with(index, logits)` for each wanted row of the last `run`, on any thread; memory is bounded.
    pub fn logits(&mut self, model: &Model, wanted: &[usize], with: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let (isa, hidden, vocabulary) = (model.isa, model.config.hidden_size, model.config.vocabulary_size);
        // Vocabularies are often powers of two; rows that far apart would share a few sets of the first-level cache.
        let stride = vocabulary + 16;
        let piece = (LOGIT_BYTES / (4 * stride)).clamp(16, BLOCK);
        for (number, wanted) in wanted.chunks(piece).enumerate() {
            let Scratch { normed, quantized, .. } = &mut self.own;
            let normed = grown(normed, wanted.len() * hidden);
            for (row, out) in wanted.iter().zip(normed.chunks_exact_mut(hidden)) {
                let x = &self.x[row * hidden..][..hidden];
                rms_norm(isa, x, &model.final_norm, model.config.rms_norm_eps, out);
            }
            quantized.prepare(isa, [&model.head].into_iter(), normed, hidden, wanted.len(), hidden);
            let input = Input { x: normed, stride: hidden, rows: wanted.len(), quantized };
            let logits = grown(&mut self.logits, wanted.len() * stride);
            share_columns(&mut self.pool, isa, input, &[(&model.head, Out::new(logits, stride))], false);
            let logits = SharedMut::new(logits);
            self.pool.run(wanted.len(), &|row| {
                // SAFETY: each task has its own row.
                with(number * piece + row, unsafe { logits.range(row * stride, vocabulary) });
            });
        }
    }
}

/// What the rows of a block pass through.
#[derive(Clone, Copy)]
struct Part<'a> {
    model: &'a Model,
    rope: &'a Rope,
    store: &'a KvStore,
}

impl Part<'_> {
    /// Rows of `x` to queries, keys and values; the keys and values go to the cache.
    fn project(
        &self,
        layer: usize,
        rows: &[Row],
        of: &[Option<usize>],
        x: &[f32],
        qkv: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (model, config) = (self.model, &self.model.config);
        let (isa, hidden, count) = (model.isa, config.hidden_size, rows.len());
        let (query, key) = (config.query_width(), config.key_value_width());
        let width = query + 2 * key;
        let weights = &model.layers[layer];
        let normed = grown(&mut scratch.normed, count * hidden);
        norm_rows(isa, x, &weights.input_norm, config.rms_norm_eps, normed);
        let linears = [&weights.query, &weights.key, &weights.value];
        scratch.quantized.prepare(isa, linears.into_iter(), normed, hidden, count, hidden);
        let input = Input { x: normed, stride: hidden, rows: count, quantized: &scratch.quantized };
        let out = Out::new(qkv, width);
        for (linear, column) in linears.into_iter().zip([0, query, query + key]) {
            // SAFETY: the rows belong to this task.
            unsafe { linear.apply_all(isa, input, out.shifted(column), false) };
        }
        if of.iter().any(Option::is_some) {
            for (projection, column) in
                [Projection::Query, Projection::Key, Projection::Value].into_iter().zip([0, query, query + key])
            {
                let out = &mut qkv[column..];
                model.adapters.add(isa, layer, projection, of, normed, hidden, out, width, &mut scratch.adapter);
            }
        }
        self.finish(layer, rows, qkv);
    }

    /// Biases, head norms and rotation of `qkv` rows; appends keys and values to the cache.
    fn finish(&self, layer: usize, rows: &[Row], qkv: &mut [f32]) {
        let (model, config) = (self.model, &self.model.config);
        let (isa, head_dim) = (model.isa, config.head_dim);
        let (query, key) = (config.query_width(), config.key_value_width());
        let weights = &model.layers[layer];
        for (row, qkv) in rows.iter().zip(qkv.chunks_exact_mut(query + 2 * key)) {
            if let Some(bias) = &weights.bias {
                add(isa, qkv, bias);
            }
            let (queries, rest) = qkv.split_at_mut(query);
            let (keys, values) = rest.split_at_mut(key);
            for (part, norm) in [(&mut *queries, &weights.query_norm), (&mut *keys, &weights.key_norm)] {
                for head in part.chunks_exact_mut(head_dim) {
                    if let Some(norm) = norm {
                        norm_head(isa, head, norm, config.rms_norm_eps);
                    }
                    let (cosines, sines) = self.rope.row(row.position);
                    rotate(isa, head, cosines, sines, 1.0);
                }
            }
            for (head, (key, value)) in keys.chunks_exact(head_dim).zip(values.chunks_exact(head_dim)).enumerate() {
                // SAFETY: this row alone writes its slot, and nobody reads before all rows are appended.
                unsafe { self.store.append(layer, head, row.page, row.slot, key, value) };
            }
        }
    }

    /// Adds the output projection of `attended` to `x`.
    fn attend_output(
        &self,
        layer: usize,
        attended: &[f32],
        of: &[Option<usize>],
        x: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (model, config) = (self.model, &self.model.config);
        let (isa, hidden, query) = (model.isa, config.hidden_size, config.query_width());
        let linear = &model.layers[layer].output;
        scratch.quantized.prepare(isa, [linear].into_iter(), attended, query, of.len(), query);
        let input = Input { x: attended, stride: query, rows: of.len(), quantized: &scratch.quantized };
        // SAFETY: the rows belong to this task.
        unsafe { linear.apply_all(isa, input, Out::new(x, hidden), true) };
        if of.iter().any(Option::is_some) {
            let buffer = &mut scratch.adapter;
            model.adapters.add(isa, layer, Projection::Output, of, attended, query, x, hidden, buffer);
        }
    }

    /// Adds the gated feed-forward of `norm(x)` to `x`.
    fn feed_forward(&self, layer: usize, of: &[Option<usize>], x: &mut [f32], scratch: &mut Scratch) {
        let (model, config) = (self.model, &self.model.config);
        let (isa, hidden, inner, count) = (model.isa, config.hidden_size, config.intermediate_size, of.len());
        let weights = &model.layers[layer];
        let adapted = of.iter().any(Option::is_some);
        let normed = grown(&mut scratch.normed, count * hidden);
        norm_rows(isa, x, &weights.post_norm, config.rms_norm_eps, normed);
        scratch.quantized.prepare(isa, [&weights.gate, &weights.up].into_iter(), normed, hidden, count, hidden);
        let input = Input { x: normed, stride: hidden, rows: count, quantized: &scratch.quantized };
        let gate_up = grown(&mut scratch.gate_up, count * 2 * inner);
        let out = Out::new(gate_up, 2 * inner);
        // SAFETY: the rows belong to this task.
        unsafe {
            weights.gate.apply_all(isa, input, out, false);
            weights.up.apply_all(isa, input, out.shifted(inner), false);
        }
        if adapted {
            for (projection, column) in [(Projection::Gate, 0), (Projection::Up, inner)] {
                let out = &mut gate_up[column..];
                model.adapters.add(isa, layer, projection, of, normed, hidden, out, 2 * inner, &mut scratch.adapter);
            }
        }
        let product = grown(&mut scratch.product, count * inner);
        for (both, out) in gate_up.chunks_exact(2 * inner).zip(product.chunks_exact_mut(inner)) {
            silu_product(isa, both, out);
        }
        scratch.quantized.prepare(isa, [&weights.down].into_iter(), product, inner, count, inner);
        let input = Input { x: product, stride: inner, rows: count, quantized: &scratch.quantized };
        // SAFETY: as above.
        unsafe { weights.down.apply_all(isa, input, Out::new(x, hidden), true) };
        if adapted {
            let buffer = &mut scratch.adapter;
            model.adapters.add(isa, layer, Projection::Down, of, product, inner, x, hidden, buffer);
        }
    }
}

/// Strips of panels of one task: all of them on one thread, else two a thread, so that a slow one holds up little.
fn strip(panels: usize, threads: usize) -> usize {
    if threads == 1 {
        return panels.max(1);
    }
    panels.div_ceil(threads * 2)
}

fn share_columns(pool: &mut Pool, isa: Isa, input: Input<'_>, parts: &[(&Linear, Out<'_>)], accumulate: bool) {
    let strip = strip(parts.iter().map(|(linear, _)| linear.panels()).sum(), pool.threads());
    let counts: Vec<usize> = parts.iter().map(|(linear, _)| linear.panels().div_ceil(strip)).collect();
    pool.run(counts.iter().sum(), &|mut task| {
        for ((linear, out), count) in parts.iter().zip(&counts) {
            if task < *count {
                let panels = task * strip..(task * strip + strip).min(linear.panels());
                // SAFETY: each task has its own columns.
                unsafe { linear.apply(isa, input, panels, *out, accumulate) };
                return;
            }
            task -= count;
        }
    });
}

/// `product = silu(gate) · up`, columns shared out.
fn share_gated(
    pool: &mut Pool,
    isa: Isa,
    input: Input<'_>,
    layer: &Layer,
    product: Out<'_>,
    scratch: &Lockers<Scratch>,
) {
    let (panels, inner) = (layer.gate.panels(), layer.gate.n);
    let strip = strip(panels, pool.threads());
    pool.run(panels.div_ceil(strip), &|task| {
        let (first, last) = (task * strip, (task * strip + strip).min(panels));
        let column = first * 16;
        let columns = (last * 16).min(inner) - column;
        scratch.with(|scratch| {
            let both = grown(&mut scratch.gate_up, input.rows * 2 * columns);
            let out = Out::new(both, 2 * columns);
            // SAFETY: the buffer is this task's; panels write from their own column, so the view is shifted back.
            unsafe {
                layer.gate.apply(isa, input, first..last, out.shifted_back(column), false);
                layer.up.apply(isa, input, first..last, out.shifted(columns).shifted_back(column), false);
            }
            for (row, both) in both.chunks_exact(2 * columns).enumerate() {
                // SAFETY: each task has its own columns.
                silu_product(isa, both, unsafe { product.at(row, column, columns) });
            }
        });
    });
}

fn norm_rows(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
        rms_norm(isa, x, weight, eps, out);
    }
}

fn norm_head(isa: Isa, head: &mut [f32], weight: &[f32], eps: f32) {
    let mut small = [0.0f32; 256];
    let mut large = Vec::new();
    let copy = if head.len() <= small.len() { &mut small[..head.len()] } else { grown(&mut large, head.len()) };
    copy.copy_from_slice(head);
    rms_norm(isa, copy, weight, eps, head);
}
