//! What training would take, counted from the shapes that the learner allocates.

use std::path::Path;
use std::time::{Duration, Instant};

use cupel_files::{guarded, Config, Result};
use cupel_kernels::Isa;

use super::adapters::Adapters;
use super::arithmetic::{Arithmetic, Pairs, Single};
use super::backward::LOGITS_AGAIN;
use super::network::logit_stride;
use super::open::refuse_untrainable;
use super::options::{Compute, LearnerOptions};
use super::panels::PanelSet;
use super::parameters::{Layout, Matrix};
use super::pass::BLOCK;
use super::weight_gradients::STEPS;
use super::{Trained, KEPT_LOGITS};
use crate::pool::{Pool, SharedMut, THREADS};

/// The largest part of a step that is computed at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepShape {
    pub tokens: usize,
    pub labelled: usize,
    pub longest: usize,
}

/// What training would take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearnerPlan {
    pub parameters: usize,
    pub trainable: usize,
    /// Peak bytes of weights, gradients, moments, activations and buffers.
    pub memory_bytes: u64,
    /// Floating-point operations of forward and backward, a token.
    pub operations_per_token: f64,
    /// From a measurement of products on this machine.
    pub seconds_per_token: f64,
}

/// Time of a step over the time of its products alone: attention, norms, softmax and the optimiser take the rest.
const OVERHEAD: f64 = 1.35;
const MEASURED: Duration = Duration::from_millis(60);

impl LearnerPlan {
    /// Reads the configuration of a Hugging Face folder alone, and measures products for less than 100 ms.
    ///
    /// # Errors
    /// As those of opening the learner, as far as the configuration and the options show them.
    pub fn new(dir: &Path, options: &LearnerOptions, shape: StepShape) -> Result<Self> {
        guarded(|| {
            options.check()?;
            let isa = options.isa.unwrap_or_else(Isa::detect);
            crate::require(isa)?;
            let config = Config::read(dir)?;
            refuse_untrainable(dir, &config, options)?;
            let layout = Layout::new(&config, options.base, options.head)?;
            let trained = Trained::new(options, &config, &layout);
            let whole = trained.is_whole(options);
            let base: usize = layout.parameters.iter().map(|parameter| parameter.length).sum();
            let operations_per_token = operations(&config, &layout, &trained, options, shape);
            let (rate, memory_bytes) = match options.compute {
                Compute::F32 => (
                    rate::<Single>(isa, options.threads, &config),
                    memory::<Single>(&config, &layout, &trained, options, shape),
                ),
                Compute::Bf16 => (
                    rate::<Pairs>(isa, options.threads, &config),
                    memory::<Pairs>(&config, &layout, &trained, options, shape),
                ),
            };
            Ok(Self {
                parameters: if whole { trained.total } else { base + trained.total },
                trainable: if options.frozen { 0 } else { trained.total },
                memory_bytes,
                operations_per_token,
                seconds_per_token: operations_per_token * OVERHEAD / rate,
            })
        })
    }
}

fn matrix_numbers(layout: &Layout) -> usize {
    let size = |matrix: &Matrix| matrix.rows * matrix.columns;
    layout
        .layers
        .iter()
        .map(|layer| [layer.qkv, layer.output, layer.gate_up, layer.down].iter().map(size).sum::<usize>())
        .sum()
}

/// Two operations a weight and token forward; backward as many for the gradient of what goes in, and as many again for
/// that of the weight where it is trained. Attention sees half of the longest sequence.
fn operations(config: &Config, layout: &Layout, trained: &Trained, options: &LearnerOptions, shape: StepShape) -> f64 {
    let whole = trained.is_whole(options);
    let passes = match (options.frozen, whole) {
        (true, _) => 1.0,
        (false, false) => 2.0,
        (false, true) => 3.0,
    };
    let again = if options.recompute && !options.frozen { 1.0 } else { 0.0 };
    let labelled = shape.labelled as f64 / shape.tokens.max(1) as f64;
    let matrices = 2.0 * matrix_numbers(layout) as f64;
    let head = layout.head.map_or(0.0, |head| 2.0 * (head.rows * head.columns) as f64 * labelled);
    // Scores and outputs forward, five products of that size backward.
    let attention = 2.0 * config.layers as f64 * config.query_width() as f64 * shape.longest as f64;
    let attention_passes = if options.frozen { 1.0 } else { 3.5 };
    // Forward, again for the inner values, and four products backward.
    let factors = trained.adapters.as_ref().map_or(0.0, |_| 2.0 * trained.total as f64);
    let factor_passes = if options.frozen { 1.0 } else { 3.5 };
    matrices * (passes + again) + head * passes + attention * (attention_passes + again) + factors * factor_passes
}

fn memory<C: Arithmetic>(
    config: &Config,
    layout: &Layout,
    trained: &Trained,
    options: &LearnerOptions,
    shape: StepShape,
) -> u64 {
    // In 128 bits, so that no shape wraps around.
    let wide = |number: usize| number as u128;
    let (hidden, query) = (wide(config.hidden_size), wide(config.query_width()));
    let (inner, layers) = (wide(config.intermediate_size), wide(config.layers));
    let qkv = query + 2 * wide(config.key_value_width());
    let (tokens, labelled) = (wide(shape.tokens), wide(shape.labelled.min(shape.tokens)));
    let (block, steps) = (wide(BLOCK), wide(STEPS));
    let learns = !options.frozen;
    let whole = trained.is_whole(options);
    let base = if whole { 0 } else { wide(layout.total) };
    let values = wide(trained.total) * if learns { 4 } else { 1 };
    let rank = trained.adapters.as_ref().map_or(0, |adapters| wide(adapters.rank));

    let inputs = if learns { layers + 1 } else { 1 };
    let slots = if learns && !options.recompute { layers } else { 1 };
    let stride = wide(logit_stride(config.vocabulary_size));
    let logits = match layout.head {
        Some(_) if learns => (wide(KEPT_LOGITS.max(LOGITS_AGAIN)) / stride).max(block).min(labelled) * stride,
        _ => 0,
    };
    let head = if layout.head.is_some() { block * stride } else { 0 };
    let blocks = tokens.div_ceil(block) * hidden;
    let backward = if learns { tokens * (2 * hidden + 1 + 14 * rank) + blocks } else { 0 };
    let longest = wide(shape.longest);
    let scratch = wide(options.threads.clamp(1, THREADS))
        * (head.max(block * 2 * inner) + block * inner + 4 * longest * wide(config.head_dim));
    let numbers = base + values + tokens * (inputs + slots) * hidden + backward + scratch;

    // What is held in the type of the products.
    let layer = qkv + query + 2 * inner;
    let backward = if learns { tokens * (2 * hidden + query + qkv + inner) } else { 0 };
    let sides = if whole {
        let matrices = steps.min(tokens) * (layer + 4 * hidden + inner);
        matrices.max(steps.min(logits / stride) * (stride + hidden))
    } else if learns {
        steps.min(tokens) * (qkv + 2 * inner + 4 * (hidden + rank))
    } else {
        0
    };
    let stored = tokens * slots * layer + labelled * hidden + logits + backward + sides;

    let panels = PanelSet::<C>::planned_bytes(config, layout) + trained.adapters.as_ref().map_or(0, factor_panels::<C>);
    let directions = if learns { 2 } else { 1 };
    let stored = stored * wide(size_of::<C::Value>()) / wide(C::STEPS);
    u64::try_from(4 * numbers + stored + wide(layout.bytes) + wide(directions * panels)).unwrap_or(u64::MAX)
}

/// Bytes of the packed factors of one layer.
fn factor_panels<C: Arithmetic>(adapters: &Adapters) -> usize {
    let lines =
        |pair: &super::adapters::Pair| 2 * C::lines(pair.input, adapters.rank) + C::lines(adapters.rank, pair.output);
    let layer = adapters.layers.first().map_or(0, |pairs| pairs.iter().flatten().map(lines).sum::<usize>());
    layer * size_of::<C::Line>()
}

/// Operations a second of products of the shape of this model's, on as many threads as the learner has.
fn rate<C: Arithmetic>(isa: Isa, threads: usize, config: &Config) -> f64 {
    // More threads than the machine has would only make the measurement longer.
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    let mut pool = Pool::new(threads.min(machine));
    let (k, n) = (config.hidden_size.min(2048), config.intermediate_size.min(1024));
    let lines = vec![C::Line::default(); C::lines(k, n)];
    let left = vec![C::Value::default(); BLOCK * C::values(k)];
    let tasks = pool.threads();
    let mut outs = vec![0.0f32; tasks * BLOCK * n];
    let shared = SharedMut::new(&mut outs);
    let mut round = || {
        pool.run(tasks, &|task| {
            // SAFETY: each task writes its own part.
            let out = unsafe { shared.range(task * BLOCK * n, BLOCK * n) };
            C::product(isa, (BLOCK, n, k), &left, C::values(k), &lines, C::values(k), out, n, false);
        });
    };
    round();
    let (start, mut best, mut spent) = (Instant::now(), f64::INFINITY, Duration::ZERO);
    while spent < MEASURED {
        let before = spent;
        round();
        spent = start.elapsed();
        best = best.min((spent - before).as_secs_f64());
    }
    (2 * tasks * BLOCK * n * k) as f64 / best.max(1e-9)
}
