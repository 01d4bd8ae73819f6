use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::attention::{append_key, append_value, key_lines, value_lines, Attention, HeadRows};
use crate::config::Config;
use crate::error::{guarded, Error, Result, CANCELLED, CONTEXT_OVERFLOW, IO, REQUEST_INVALID, TOKEN_OUT_OF_RANGE};
use crate::kernels::{Isa, Line};
use crate::network::{logit_stride, Direction, Network, PackedWeights};
use crate::parameters::Layout;
use crate::pool::{grown, Lockers, Pool, SharedMut};
use crate::rope::Rope;

/// Rows of one task at most.
const BLOCK: usize = 72;
/// Query numbers times positions from which attention is shared out; less takes no longer than waking a thread.
const PARALLEL_ATTENTION: usize = 1 << 17;

/// A checkpoint ready to score and generate. Calls from several threads take turns.
pub struct Model {
    pub(crate) config: Config,
    layout: Layout,
    weights: Vec<f32>,
    packed: PackedWeights,
    isa: Isa,
    worker: Mutex<Worker>,
}

/// Threads and buffers of the call at work.
pub(crate) struct Worker {
    pub pool: Pool,
    pub rope: Rope,
    scratch: Lockers<Scratch>,
    x: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    spare: Vec<Cache>,
}

#[derive(Default)]
struct Scratch {
    normed: Vec<f32>,
    gate_up: Vec<f32>,
    product: Vec<f32>,
    inverse: Vec<f32>,
    scores: Vec<f32>,
    out: Vec<f32>,
}

/// Keys and values of one sequence, packed for attention: `[layer][head][lines]`.
#[derive(Default)]
pub(crate) struct Cache {
    keys: Vec<Line>,
    values: Vec<Line>,
    capacity: usize,
    pub length: usize,
}

/// Tokens that a step appends to a sequence.
pub(crate) struct Segment<'a> {
    pub cache: &'a mut Cache,
    pub tokens: &'a [u32],
}

impl Model {
    /// Reads a Hugging Face folder. `threads` counts the calling thread and never changes a result.
    pub fn open(dir: &Path, threads: usize) -> Result<Self> {
        Self::open_with(dir, threads, Isa::detect())
    }

    /// As `open`, on a chosen instruction set.
    pub fn open_with(dir: &Path, threads: usize, isa: Isa) -> Result<Self> {
        guarded(|| {
            isa.require()?;
            let config = Config::read(dir)?;
            let layout = Layout::new(&config);
            let mut weights = layout.load(dir, &config)?;
            let mut pool = Pool::new(threads);
            let mut packed = PackedWeights::zeroed(&config, Direction::Forward);
            packed.pack(&mut pool, &layout, &weights, Direction::Forward);
            weights.truncate(layout.small);
            weights.shrink_to_fit();
            let worker = Worker {
                pool,
                rope: Rope::new(&config),
                scratch: Lockers::default(),
                x: Vec::new(),
                qkv: Vec::new(),
                attended: Vec::new(),
                spare: Vec::new(),
            };
            Ok(Self { config, layout, weights, packed, isa, worker: Mutex::new(worker) })
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn worker(&self) -> MutexGuard<'_, Worker> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses tokens outside of the vocabulary; `what` names the list in the message.
    pub(crate) fn check_tokens(&self, tokens: &[u32], what: &str) -> Result<()> {
        let limit = self.config.vocabulary_size;
        match tokens.iter().position(|token| *token as usize >= limit) {
            Some(index) => {
                let message = format!("{what} token {index} is {}, the vocabulary has {limit}", tokens[index]);
                Err(Error::new(TOKEN_OUT_OF_RANGE, message))
            }
            None => Ok(()),
        }
    }

    /// Refuses an empty list or one that does not fit the context.
    pub(crate) fn check_length(&self, length: usize, what: &str) -> Result<()> {
        if length == 0 {
            return Err(Error::new(REQUEST_INVALID, format!("{what} is empty, at least one token is needed")));
        }
        if length > self.config.context_length {
            let message = format!("{what} has {length} tokens, the context is {}", self.config.context_length);
            return Err(
                Error::new(CONTEXT_OVERFLOW, message).remedy("shorten the prompt or use a model with a longer context")
            );
        }
        Ok(())
    }

    pub(crate) fn network<'a>(&'a self, rope: &'a Rope) -> Network<'a> {
        Network {
            isa: self.isa,
            config: &self.config,
            layout: &self.layout,
            weights: &self.weights,
            packed: &self.packed,
            rope,
        }
    }

    /// An empty cache for `capacity` positions.
    pub(crate) fn cache(&self, worker: &mut Worker, capacity: usize) -> Result<Cache> {
        let mut cache = worker.spare.pop().unwrap_or_default();
        let heads = self.config.layers * self.config.key_value_heads;
        cache.capacity = capacity;
        cache.length = 0;
        for (lines, each) in [
            (&mut cache.keys, key_lines(capacity, self.config.head_dim)),
            (&mut cache.values, value_lines(capacity, self.config.head_dim)),
        ] {
            let wanted = heads * each;
            if lines.len() < wanted && lines.try_reserve_exact(wanted - lines.len()).is_err() {
                return Err(Error::new(IO, format!("not enough memory for a cache of {capacity} tokens"))
                    .remedy("lower maxBatch or maxTokens"));
            }
            // Lanes past the last position are multiplied into scores that nobody reads; they only need to be numbers.
            lines.resize(wanted, Line::default());
        }
        Ok(cache)
    }

    /// Copies the first `length` positions of `source`.
    pub(crate) fn copy_prefix(&self, source: &Cache, length: usize, target: &mut Cache) {
        let head = self.config.head_dim;
        let heads = self.config.layers * self.config.key_value_heads;
        let lines = key_lines(length, head);
        for number in 0..heads {
            let (from, to) = (number * key_lines(source.capacity, head), number * key_lines(target.capacity, head));
            target.keys[to..to + lines].copy_from_slice(&source.keys[from..from + lines]);
        }
        for panel in 0..heads * head.div_ceil(16) {
            let (from, to) = (panel * source.capacity, panel * target.capacity);
            target.values[to..to + length].copy_from_slice(&source.values[from..from + length]);
        }
        target.length = length;
    }

    /// Appends the tokens of all segments to their caches. The rows of the last layer's output, before the
    /// final norm, lie in the order of the segments in `worker.x`.
    pub(crate) fn advance(&self, worker: &mut Worker, segments: &mut [Segment<'_>]) {
        let config = &self.config;
        let longest = segments.iter().map(|segment| segment.cache.length + segment.tokens.len()).max().unwrap_or(0);
        let Worker { pool, rope, scratch, x, qkv, attended, .. } = worker;
        rope.reserve(longest);
        let network = self.network(rope);
        let (hidden, query, inner, width) =
            (config.hidden_size, config.query_width(), config.intermediate_size, network.qkv_width());
        let tokens: Vec<usize> =
            segments.iter().flat_map(|segment| segment.tokens.iter().map(|token| *token as usize)).collect();
        let positions: Vec<usize> = segments
            .iter()
            .flat_map(|segment| segment.cache.length..segment.cache.length + segment.tokens.len())
            .collect();
        let count = tokens.len();
        let starts: Vec<usize> = segments
            .iter()
            .scan(0, |next, segment| {
                let start = *next;
                *next += segment.tokens.len();
                Some(start)
            })
            .collect();
        grown(x, count * hidden);
        grown(qkv, count * width);
        grown(attended, count * query);
        let block = BLOCK.min(count.div_ceil(pool.threads()).next_multiple_of(4));
        for layer in 0..=config.layers {
            let x = SharedMut::new(x);
            let shared_qkv = SharedMut::new(qkv);
            let attended_rows = &*attended;
            pool.run(count.div_ceil(block), &|task| {
                let start = task * block;
                let rows = block.min(count - start);
                // SAFETY: every range is the rows of this task.
                let x = unsafe { x.range(start * hidden, rows * hidden) };
                scratch.with(|scratch| {
                    let normed = grown(&mut scratch.normed, rows * hidden);
                    let inverse = grown(&mut scratch.inverse, rows);
                    if layer == 0 {
                        network.embed(tokens[start..start + rows].iter().copied(), x);
                    } else {
                        network.attend_output(layer - 1, &attended_rows[start * query..][..rows * query], x);
                        network.norm(self.layout.layers[layer - 1].post_norm, x, normed, inverse);
                        let gate_up = grown(&mut scratch.gate_up, rows * 2 * inner);
                        network.feed_forward(layer - 1, normed, gate_up, grown(&mut scratch.product, rows * inner), x);
                    }
                    if layer < config.layers {
                        network.norm(self.layout.layers[layer].input_norm, x, normed, inverse);
                        // SAFETY: as above.
                        let qkv = unsafe { shared_qkv.range(start * width, rows * width) };
                        network.project(layer, normed, positions[start..start + rows].iter().copied(), qkv);
                    }
                });
            });
            if layer < config.layers {
                self.attend(pool, scratch, qkv, attended, segments, &starts, layer);
            }
        }
        for segment in segments {
            segment.cache.length += segment.tokens.len();
        }
    }

    /// Appends the keys and values of `qkv` to the caches and attends to them, one task a sequence and head.
    #[allow(clippy::too_many_arguments)]
    fn attend(
        &self,
        pool: &mut Pool,
        scratch: &Lockers<Scratch>,
        qkv: &[f32],
        attended: &mut [f32],
        segments: &mut [Segment<'_>],
        starts: &[usize],
        layer: usize,
    ) {
        let config = &self.config;
        let (head, query, heads) = (config.head_dim, config.query_width(), config.key_value_heads);
        let (width, group) = (query + 2 * config.key_value_width(), config.heads / heads);
        let isa = self.isa;
        let attended = SharedMut::new(attended);
        struct Part<'a> {
            keys: SharedMut<'a, Line>,
            values: SharedMut<'a, Line>,
            capacity: usize,
            before: usize,
            rows: usize,
        }
        let parts: Vec<Part<'_>> = segments
            .iter_mut()
            .map(|segment| Part {
                capacity: segment.cache.capacity,
                before: segment.cache.length,
                rows: segment.tokens.len(),
                keys: SharedMut::new(&mut segment.cache.keys),
                values: SharedMut::new(&mut segment.cache.values),
            })
            .collect();
        let seen: usize = parts.iter().map(|part| part.rows * (part.before + part.rows)).sum();
        let worth_waking = seen * query >= PARALLEL_ATTENTION;
        pool.run_if(worth_waking, parts.len() * heads, &|task| {
            let (part, start, key_head) = (&parts[task / heads], starts[task / heads], task % heads);
            let number = layer * heads + key_head;
            let (key_size, value_size) = (key_lines(part.capacity, head), value_lines(part.capacity, head));
            // SAFETY: each task has its own head of its own sequence.
            let (keys, values) = unsafe {
                (part.keys.range(number * key_size, key_size), part.values.range(number * value_size, value_size))
            };
            let key_column = query + key_head * head;
            for row in 0..part.rows {
                let source = &qkv[(start + row) * width..][..width];
                append_key(&source[key_column..][..head], part.before + row, keys);
                append_value(
                    &source[key_column + config.key_value_width()..][..head],
                    part.before + row,
                    part.capacity,
                    values,
                );
            }
            let attention = Attention { isa, head, keys, values, capacity: part.capacity };
            scratch.with(|scratch| {
                let first_column = key_head * group * head;
                if part.rows == 1 {
                    let queries = HeadRows { data: &qkv[start * width + first_column..], stride: head };
                    // SAFETY: the heads of this task.
                    let out = unsafe { attended.range(start * query + first_column, group * head) };
                    attention.attend(group, part.before + 1, 0, queries, &mut scratch.scores, out, head);
                    return;
                }
                for column in (first_column..first_column + group * head).step_by(head) {
                    let queries = HeadRows { data: &qkv[start * width + column..], stride: width };
                    let out = grown(&mut scratch.out, part.rows * head);
                    attention.attend(part.rows, part.before + 1, 1, queries, &mut scratch.scores, out, head);
                    for (row, values) in (start..).zip(out.chunks_exact(head)) {
                        // SAFETY: as above.
                        unsafe { attended.range(row * query + column, head) }.copy_from_slice(values);
                    }
                }
            });
        });
    }

    /// Calls `with(index, logits)` for each wanted row of the last `advance`, on any thread; memory is bounded.
    pub(crate) fn logits(&self, worker: &mut Worker, wanted: &[usize], with: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let (hidden, vocabulary) = (self.config.hidden_size, self.config.vocabulary_size);
        let network = self.network(&worker.rope);
        let block = BLOCK.min(wanted.len().div_ceil(worker.pool.threads()).next_multiple_of(4));
        let (scratch, x) = (&worker.scratch, &worker.x);
        worker.pool.run(wanted.len().div_ceil(block), &|task| {
            let start = task * block;
            let rows = &wanted[start..(start + block).min(wanted.len())];
            scratch.with(|scratch| {
                let normed = grown(&mut scratch.normed, rows.len() * hidden);
                let inverse = grown(&mut scratch.inverse, 1);
                for (row, out) in rows.iter().zip(normed.chunks_exact_mut(hidden)) {
                    network.norm(self.layout.final_norm, &x[row * hidden..][..hidden], out, inverse);
                }
                let stride = logit_stride(vocabulary);
                let logits = grown(&mut scratch.scores, rows.len() * stride);
                network.logits(normed, logits);
                for (index, logits) in (start..).zip(logits.chunks_exact_mut(stride)) {
                    with(index, &mut logits[..vocabulary]);
                }
            });
        });
    }
}

impl Worker {
    /// Takes back the memory of a cache.
    pub fn release(&mut self, cache: Cache) {
        self.spare.push(cache);
    }

    /// Frees the caches that were taken back.
    pub fn rest(&mut self) {
        self.spare.clear();
    }
}

/// An error if the caller has cancelled.
pub(crate) fn check_cancelled(cancelled: &AtomicBool) -> Result<()> {
    if cancelled.load(Ordering::Relaxed) {
        return Err(Error::new(CANCELLED, "cancelled by the caller"));
    }
    Ok(())
}
