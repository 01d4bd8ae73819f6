use std::path::{Path, PathBuf};

use crate::attention::{self, key_lines, pack_keys, pack_values, value_lines, Attention, BackwardBuffers, BackwardInput, HeadRows};
use crate::config::Config;
use crate::dtype::Dtype;
use crate::error::{
    guarded, Error, Result, BATCH_INVALID, CONFIG_INVALID, CONTEXT_OVERFLOW, GRADIENT_NONFINITE, IO, OUTPUT_NONFINITE, TENSOR_MISSING,
    TOKEN_OUT_OF_RANGE,
};
use crate::kernels::{
    adamw, add, exponentials, gemm, ln, pack_columns, panel_count, power, rms_norm_backward, rotate, scale, silu_product_backward,
    sum_squares, Isa, Left, Line,
};
use crate::network::{Direction, Network, PackedWeights};
use crate::parameters::{zeroed, Layout, Parameter, EMBEDDING};
use crate::pool::{grown, Lockers, Pool, SharedMut};
use crate::rope::Rope;
use crate::safetensors::{self, Tensor};

/// Rows of one task. Fixed, because partial sums of norm gradients are kept by block.
const BLOCK: usize = 72;
/// Output rows of one task of a weight gradient.
const CHUNK: usize = 72;
/// Steps of a weight gradient that are packed together.
const STEPS: usize = 256;
/// Logits that are kept between forward and backward (numbers); beyond, they are computed again in runs.
const KEPT_LOGITS: usize = 32 << 20;
/// Parameters of one optimiser task.
const RUN: usize = 1 << 14;

/// One AdamW step, as torch.optim.AdamW (decoupled weight decay, not applied to norms and biases).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOptions {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Global gradient norm is clipped to this; 0 = no clipping.
    pub max_grad_norm: f64,
}

/// Values of one layer that the backward pass reads, rows by token.
#[derive(Default)]
struct LayerActivations {
    input: Vec<f32>,
    input_normed: Vec<f32>,
    input_inverse: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    middle: Vec<f32>,
    middle_normed: Vec<f32>,
    middle_inverse: Vec<f32>,
    gate_up: Vec<f32>,
}

/// A forward pass.
#[derive(Default)]
struct Pass {
    tokens: Vec<usize>,
    positions: Vec<usize>,
    /// Start and length of each sequence.
    sequences: Vec<(usize, usize)>,
    /// For each labelled token: the row that predicts it and the token.
    targets: Vec<(usize, usize)>,
    layers: Vec<LayerActivations>,
    output: Vec<f32>,
    normed: Vec<f32>,
    inverse: Vec<f32>,
    /// `exp(logit - max)` of the labelled rows, if they are kept.
    exponentials: Vec<f32>,
    exponentials_kept: bool,
    sums: Vec<f32>,
    kept: bool,
}

/// Buffers that one task uses at a time.
#[derive(Default)]
struct Scratch {
    rows: Vec<f32>,
    scores: Vec<f32>,
    keys: Vec<Line>,
    values: Vec<Line>,
    backward: BackwardBuffers,
    left: Vec<f32>,
    right: Vec<Line>,
}

/// Buffers of the backward pass, rows by token.
#[derive(Default)]
struct Gradients {
    x: Vec<f32>,
    middle: Vec<f32>,
    attended: Vec<f32>,
    qkv: Vec<f32>,
    product: Vec<f32>,
    normed: Vec<f32>,
    /// Partial sums of a norm's gradient, one row a block.
    input_norm: Vec<f32>,
    post_norm: Vec<f32>,
}

/// Trainable copy of a checkpoint: forward, backward and AdamW in f32. It knows no loss: the caller turns
/// log-probabilities into gradients.
pub struct Learner {
    pub(crate) config: Config,
    source: PathBuf,
    isa: Isa,
    pool: Pool,
    pub(crate) layout: Layout,
    pub(crate) weights: Vec<f32>,
    pub(crate) gradients: Vec<f32>,
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    pub(crate) steps: u64,
    forward_panels: PackedWeights,
    backward_panels: PackedWeights,
    pub(crate) packed: [bool; 2],
    rope: Rope,
    kept: Pass,
    spare: Pass,
    buffers: Gradients,
    scratch: Lockers<Scratch>,
}

impl Learner {
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
            let weights = layout.load(dir, &config)?;
            let gradients = zeroed(layout.total)?;
            let first = zeroed(layout.total)?;
            let second = zeroed(layout.total)?;
            Ok(Self {
                source: dir.to_path_buf(),
                isa,
                pool: Pool::new(threads),
                weights,
                gradients,
                first,
                second,
                steps: 0,
                forward_panels: PackedWeights::zeroed(&config, Direction::Forward),
                backward_panels: PackedWeights::zeroed(&config, Direction::Backward),
                packed: [false; 2],
                rope: Rope::new(&config),
                kept: Pass::default(),
                spare: Pass::default(),
                buffers: Gradients::default(),
                scratch: Lockers::default(),
                config,
                layout,
            })
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Trainable numbers.
    pub fn parameter_count(&self) -> usize {
        self.layout.total
    }

    /// Optimiser steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Natural-log probability of each labelled token given its predecessors in its sequence, in order of
    /// position. `tokens` holds sequences one after another, sequence `i` is `tokens[offsets[i]..offsets[i + 1]]`.
    /// With `keep` the activations stay for `backward`; without, an earlier kept pass is left as it is.
    pub fn forward(&mut self, tokens: &[i32], offsets: &[i32], labelled: &[u8], keep: bool) -> Result<Vec<f32>> {
        guarded(|| {
            let mut pass = std::mem::take(if keep { &mut self.kept } else { &mut self.spare });
            pass.kept = false;
            let result = self.describe(&mut pass, tokens, offsets, labelled).and_then(|()| self.run(&mut pass, keep));
            pass.kept = keep && result.is_ok();
            *(if keep { &mut self.kept } else { &mut self.spare }) = pass;
            result
        })
    }

    fn describe(&self, pass: &mut Pass, tokens: &[i32], offsets: &[i32], labelled: &[u8]) -> Result<()> {
        let refuse = |message: String| Err(Error::new(BATCH_INVALID, message));
        if labelled.len() != tokens.len() {
            return refuse(format!("{} labels for {} tokens", labelled.len(), tokens.len()));
        }
        if offsets.first() != Some(&0) || usize::try_from(offsets[offsets.len() - 1]) != Ok(tokens.len()) {
            return refuse(format!("offsets {:?}..{:?} do not span {} tokens", offsets.first(), offsets.last(), tokens.len()));
        }
        for list in [&mut pass.tokens, &mut pass.positions] {
            list.clear();
        }
        pass.sequences.clear();
        pass.targets.clear();
        for (index, pair) in offsets.windows(2).enumerate() {
            if pair[1] <= pair[0] || pair[1] as usize > tokens.len() {
                return refuse(format!("sequence {index} spans {} to {}", pair[0], pair[1]));
            }
            let (start, length) = (pair[0] as usize, (pair[1] - pair[0]) as usize);
            if length > self.config.context_length {
                let message = format!("sequence {index} has {length} tokens, the context is {}", self.config.context_length);
                return Err(Error::new(CONTEXT_OVERFLOW, message));
            }
            pass.sequences.push((start, length));
            for position in 0..length {
                let row = start + position;
                let token = usize::try_from(tokens[row]).ok().filter(|token| *token < self.config.vocabulary_size);
                let Some(token) = token else {
                    let message = format!("token {} of sequence {index} is {}, the vocabulary has {}", position, tokens[row], self.config.vocabulary_size);
                    return Err(Error::new(TOKEN_OUT_OF_RANGE, message));
                };
                pass.tokens.push(token);
                pass.positions.push(position);
                match (labelled[row], position) {
                    (0, _) => {}
                    (1, 0) => return refuse(format!("the first token of sequence {index} is labelled, it has no predecessor")),
                    (1, _) => pass.targets.push((row - 1, token)),
                    (other, _) => return refuse(format!("label {row} is {other}, must be 0 or 1")),
                }
            }
        }
        Ok(())
    }

    fn pack(&mut self, direction: Direction) {
        let (panels, packed) = match direction {
            Direction::Forward => (&mut self.forward_panels, &mut self.packed[0]),
            Direction::Backward => (&mut self.backward_panels, &mut self.packed[1]),
        };
        if !*packed {
            panels.pack(&mut self.pool, &self.layout, &self.weights, direction);
            *packed = true;
        }
    }

    fn run(&mut self, pass: &mut Pass, keep: bool) -> Result<Vec<f32>> {
        self.pack(Direction::Forward);
        let longest = pass.sequences.iter().map(|(_, length)| *length).max().unwrap_or(0);
        self.rope.reserve(longest);
        let network = Network {
            isa: self.isa,
            config: &self.config,
            layout: &self.layout,
            weights: &self.weights,
            packed: &self.forward_panels,
            rope: &self.rope,
        };
        let (count, layers) = (pass.tokens.len(), self.config.layers);
        let slots = if keep { layers } else { layers.min(2) };
        pass.resize(&self.config, count, slots)?;
        for layer in 0..=layers {
            rows_stage(&network, &mut self.pool, &self.scratch, pass, layer, slots);
            if layer < layers {
                attention_stage(&network, &mut self.pool, &self.scratch, pass, layer % slots);
            }
        }
        let log_probabilities = head_stage(&network, &mut self.pool, &self.scratch, pass, keep);
        match log_probabilities.iter().position(|value| !value.is_finite()) {
            Some(index) => {
                let message = format!("log-probability {index} is {}: the weights have diverged", log_probabilities[index]);
                Err(Error::new(OUTPUT_NONFINITE, message).remedy("lower the learning rate and start from an earlier checkpoint"))
            }
            None => Ok(log_probabilities),
        }
    }

    /// Adds to the accumulated gradients, given the gradient of the loss by each log-probability of the last
    /// kept forward pass. That pass is used up.
    pub fn backward(&mut self, gradients: &[f32]) -> Result<()> {
        guarded(|| {
            if !self.kept.kept {
                return Err(Error::new(BATCH_INVALID, "backward without a kept forward pass"));
            }
            if gradients.len() != self.kept.targets.len() {
                let message = format!("{} gradients for {} labelled tokens", gradients.len(), self.kept.targets.len());
                return Err(Error::new(BATCH_INVALID, message));
            }
            if let Some(index) = gradients.iter().position(|value| !value.is_finite()) {
                return Err(Error::new(GRADIENT_NONFINITE, format!("gradient of log-probability {index} is {}", gradients[index])));
            }
            self.pack(Direction::Backward);
            let mut pass = std::mem::take(&mut self.kept);
            pass.kept = false;
            let result = self.run_backward(&mut pass, gradients);
            self.kept = pass;
            result
        })
    }

    fn run_backward(&mut self, pass: &mut Pass, gradients: &[f32]) -> Result<()> {
        let network = Network {
            isa: self.isa,
            config: &self.config,
            layout: &self.layout,
            weights: &self.weights,
            packed: &self.forward_panels,
            rope: &self.rope,
        };
        self.buffers.resize(&self.config, pass.tokens.len(), pass.targets.len())?;
        let mut back =
            Backward { network, panels: &self.backward_panels, pool: &mut self.pool, scratch: &self.scratch, buffers: &mut self.buffers };
        back.head(pass, gradients, &mut self.gradients)?;
        for layer in (0..self.config.layers).rev() {
            back.layer(pass, layer, &mut self.gradients);
        }
        let hidden = self.config.hidden_size;
        for (token, row) in pass.tokens.iter().zip(self.buffers.x.chunks_exact(hidden)) {
            add(self.isa, &mut self.gradients[EMBEDDING + token * hidden..][..hidden], row);
        }
        Ok(())
    }

    /// Clips the accumulated gradients, steps AdamW, clears them. Returns the norm before clipping. A gradient
    /// that is not finite is an error that names its tensor; weights and moments then stay as they are.
    pub fn step(&mut self, options: StepOptions) -> Result<f32> {
        guarded(|| {
            options.check()?;
            let runs: Vec<(usize, usize, bool)> = self
                .layout
                .parameters
                .iter()
                .flat_map(|parameter| {
                    let end = parameter.offset + parameter.length;
                    let run = move |start| (start, RUN.min(end - start), parameter.decay);
                    (parameter.offset..end).step_by(RUN).map(run)
                })
                .collect();
            let mut sums = vec![0.0f32; runs.len()];
            let shared = SharedMut::new(&mut sums);
            let (isa, gradients) = (self.isa, &self.gradients);
            self.pool.run(runs.len(), &|task| {
                let (start, length, _) = runs[task];
                // SAFETY: each task writes its own sum.
                let sum = unsafe { shared.range(task, 1) };
                sum[0] = sum_squares(isa, &gradients[start..][..length]);
            });
            let norm = sums.iter().map(|sum| f64::from(*sum)).sum::<f64>().sqrt();
            if !norm.is_finite() {
                return Err(self.nonfinite());
            }
            let clip = if options.max_grad_norm > 0.0 { (options.max_grad_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
            self.steps += 1;
            let rate = (options.lr / (1.0 - power(options.beta1, self.steps))) as f32;
            let root = (1.0 - power(options.beta2, self.steps)).sqrt() as f32;
            let decayed = (1.0 - options.lr * options.weight_decay) as f32;
            let weights = SharedMut::new(&mut self.weights);
            let gradients = SharedMut::new(&mut self.gradients);
            let first = SharedMut::new(&mut self.first);
            let second = SharedMut::new(&mut self.second);
            self.pool.run(runs.len(), &|task| {
                let (start, length, decay) = runs[task];
                // SAFETY: runs do not overlap.
                let [weight, gradient, first, second] = unsafe {
                    [weights.range(start, length), gradients.range(start, length), first.range(start, length), second.range(start, length)]
                };
                let decay = if decay { decayed } else { 1.0 };
                let beta2 = options.beta2 as f32;
                let (rest1, rest2) = ((1.0 - options.beta1) as f32, (1.0 - options.beta2) as f32);
                adamw(isa, weight, gradient, first, second, clip as f32, decay, rest1, beta2, rest2, rate, root, options.eps as f32);
            });
            self.packed = [false; 2];
            self.kept.kept = false;
            Ok(norm as f32)
        })
    }

    fn nonfinite(&self) -> Error {
        for parameter in &self.layout.parameters {
            let values = &self.gradients[parameter.offset..][..parameter.length];
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Error::new(GRADIENT_NONFINITE, format!("gradient element {index} is {}", values[index]))
                    .at(parameter.name.clone())
                    .remedy("lower the learning rate or look for a broken example");
            }
        }
        Error::new(GRADIENT_NONFINITE, "the gradient norm overflows").remedy("lower the learning rate or look for a broken example")
    }

    fn parameter(&self, name: &str) -> Result<&Parameter> {
        self.layout.find(name).ok_or_else(|| Error::new(TENSOR_MISSING, format!("no tensor is called {name:?}")))
    }

    /// Names as in the checkpoint; a tied model has no `lm_head.weight`.
    pub fn tensor_names(&self) -> Vec<String> {
        self.layout.parameters.iter().map(|parameter| parameter.name.clone()).collect()
    }

    /// Dimensions of a tensor.
    pub fn tensor_shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.parameter(name)?.shape.clone())
    }

    /// The values of a tensor.
    pub fn tensor(&self, name: &str) -> Result<Vec<f32>> {
        let parameter = self.parameter(name)?;
        Ok(self.weights[parameter.offset..][..parameter.length].to_vec())
    }

    /// The accumulated gradient of a tensor.
    pub fn gradient(&self, name: &str) -> Result<Vec<f32>> {
        let parameter = self.parameter(name)?;
        Ok(self.gradients[parameter.offset..][..parameter.length].to_vec())
    }

    pub(crate) fn forget_pass(&mut self) {
        self.kept.kept = false;
    }

    /// Forgets the accumulated gradients.
    pub fn clear_gradients(&mut self) {
        self.gradients.fill(0.0);
    }

    /// Writes `config.json` (the parent's, with the new type) and `model.safetensors`, creating the folder.
    pub fn save(&self, dir: &Path, dtype: Dtype) -> Result<()> {
        guarded(|| {
            let kind = match dtype {
                Dtype::F32 => "float32",
                Dtype::Bf16 => "bfloat16",
                Dtype::F16 => return Err(Error::new(CONFIG_INVALID, "checkpoints are written as F32 or BF16, not F16")),
            };
            let source = self.source.join("config.json");
            let text = std::fs::read_to_string(&source).map_err(|cause| Error::io(&source, &cause))?;
            let mut config: serde_json::Value =
                serde_json::from_str(&text).map_err(|cause| Error::new(CONFIG_INVALID, cause.to_string()).at(source.display().to_string()))?;
            if let Some(fields) = config.as_object_mut() {
                fields.remove("torch_dtype");
                fields.insert("dtype".to_string(), kind.into());
            }
            std::fs::create_dir_all(dir).map_err(|cause| Error::io(dir, &cause))?;
            let target = dir.join("config.json");
            let text = serde_json::to_string_pretty(&config).map_err(|cause| Error::new(IO, cause.to_string()))?;
            std::fs::write(&target, text + "\n").map_err(|cause| Error::io(&target, &cause))?;
            let tensors: Vec<Tensor<'_>> = self
                .layout
                .parameters
                .iter()
                .map(|parameter| Tensor {
                    name: &parameter.name,
                    shape: &parameter.shape,
                    values: &self.weights[parameter.offset..][..parameter.length],
                })
                .collect();
            safetensors::write(&dir.join("model.safetensors"), &tensors, dtype, &[("format", "pt".to_string())])
        })
    }
}

impl StepOptions {
    fn check(&self) -> Result<()> {
        let fields = [
            ("lr", self.lr, self.lr >= 0.0),
            ("beta1", self.beta1, (0.0..1.0).contains(&self.beta1)),
            ("beta2", self.beta2, (0.0..1.0).contains(&self.beta2)),
            ("eps", self.eps, self.eps > 0.0),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0),
            ("max_grad_norm", self.max_grad_norm, self.max_grad_norm >= 0.0),
        ];
        match fields.iter().find(|(_, value, good)| !good || !value.is_finite()) {
            Some((name, value, _)) => Err(Error::new(CONFIG_INVALID, format!("{name} is {value}")).at(format!("step.{name}"))),
            None => Ok(()),
        }
    }
}

impl Pass {
    /// Makes room for `count` rows in `slots` layers.
    fn resize(&mut self, config: &Config, count: usize, slots: usize) -> Result<()> {
        let (hidden, query, inner) = (config.hidden_size, config.query_width(), config.intermediate_size);
        let qkv = query + 2 * config.key_value_width();
        self.layers.resize_with(slots, LayerActivations::default);
        for layer in &mut self.layers {
            ensure(&mut layer.input, count * hidden)?;
            ensure(&mut layer.input_normed, count * hidden)?;
            ensure(&mut layer.input_inverse, count)?;
            ensure(&mut layer.qkv, count * qkv)?;
            ensure(&mut layer.attended, count * query)?;
            ensure(&mut layer.middle, count * hidden)?;
            ensure(&mut layer.middle_normed, count * hidden)?;
            ensure(&mut layer.middle_inverse, count)?;
            ensure(&mut layer.gate_up, count * 2 * inner)?;
        }
        ensure(&mut self.output, count * hidden)?;
        let targets = self.targets.len();
        ensure(&mut self.normed, targets * hidden)?;
        ensure(&mut self.inverse, targets)?;
        ensure(&mut self.sums, targets)
    }
}

impl Gradients {
    fn resize(&mut self, config: &Config, count: usize, targets: usize) -> Result<()> {
        let hidden = config.hidden_size;
        for buffer in [&mut self.x, &mut self.middle] {
            ensure(buffer, count * hidden)?;
        }
        ensure(&mut self.attended, count * config.query_width())?;
        ensure(&mut self.qkv, count * (config.query_width() + 2 * config.key_value_width()))?;
        ensure(&mut self.product, count * config.intermediate_size)?;
        ensure(&mut self.normed, targets * hidden)?;
        let blocks = count.max(targets).div_ceil(BLOCK) * hidden;
        ensure(&mut self.input_norm, blocks)?;
        ensure(&mut self.post_norm, blocks)
    }
}

/// Sets the length of a buffer; refuses with a code instead of aborting when memory is short.
fn ensure(buffer: &mut Vec<f32>, length: usize) -> Result<()> {
    if buffer.len() < length && buffer.try_reserve(length - buffer.len()).is_err() {
        return Err(Error::new(IO, format!("not enough memory for {length} numbers")).remedy("use smaller batches"));
    }
    buffer.resize(length, 0.0);
    Ok(())
}

/// Row-wise part between two attentions: finishes layer `layer - 1` and begins layer `layer`.
fn rows_stage(network: &Network<'_>, pool: &mut Pool, scratch: &Lockers<Scratch>, pass: &mut Pass, layer: usize, slots: usize) {
    let config = network.config;
    let (hidden, query, inner, width) = (config.hidden_size, config.query_width(), config.intermediate_size, network.qkv_width());
    let count = pass.tokens.len();
    let (tokens, positions) = (&pass.tokens, &pass.positions);
    let shared: Vec<_> = pass
        .layers
        .iter_mut()
        .map(|layer| {
            [
                &mut layer.input,
                &mut layer.input_normed,
                &mut layer.input_inverse,
                &mut layer.qkv,
                &mut layer.attended,
                &mut layer.middle,
                &mut layer.middle_normed,
                &mut layer.middle_inverse,
                &mut layer.gate_up,
            ]
            .map(|buffer| SharedMut::new(buffer))
        })
        .collect();
    let output = SharedMut::new(&mut pass.output);
    pool.run(count.div_ceil(BLOCK), &|task| {
        let start = task * BLOCK;
        let rows = BLOCK.min(count - start);
        fn rows_of(buffer: SharedMut<'_, f32>, start: usize, rows: usize, width: usize) -> &mut [f32] {
            // SAFETY: a task asks each buffer once for its own rows.
            unsafe { buffer.range(start * width, rows * width) }
        }
        let part = |buffer, width| rows_of(buffer, start, rows, width);
        let x = if layer < config.layers { part(shared[layer % slots][0], hidden) } else { part(output, hidden) };
        if layer == 0 {
            network.embed(tokens[start..start + rows].iter().copied(), x);
        } else {
            let [input, _, _, _, attended, middle, normed, inverse, gate_up] = shared[(layer - 1) % slots];
            let middle = part(middle, hidden);
            middle.copy_from_slice(part(input, hidden));
            network.attend_output(layer - 1, part(attended, query), middle);
            let normed = part(normed, hidden);
            network.norm(network.layout.layers[layer - 1].post_norm, middle, normed, part(inverse, 1));
            x.copy_from_slice(middle);
            scratch.with(|scratch| {
                let product = grown(&mut scratch.rows, rows * inner);
                network.feed_forward(layer - 1, normed, part(gate_up, 2 * inner), product, x);
            });
        }
        if layer < config.layers {
            let [_, normed, inverse, qkv, ..] = shared[layer % slots];
            let normed = part(normed, hidden);
            network.norm(network.layout.layers[layer].input_norm, x, normed, part(inverse, 1));
            network.project(layer, normed, positions[start..start + rows].iter().copied(), part(qkv, width));
        }
    });
}

/// Attention of every sequence and key-value head.
fn attention_stage(network: &Network<'_>, pool: &mut Pool, scratch: &Lockers<Scratch>, pass: &mut Pass, slot: usize) {
    let config = network.config;
    let (head, query, width, heads) = (config.head_dim, config.query_width(), network.qkv_width(), config.key_value_heads);
    let group = config.heads / heads;
    let sequences = &pass.sequences;
    let activations = &mut pass.layers[slot];
    let qkv = &activations.qkv;
    let attended = SharedMut::new(&mut activations.attended);
    pool.run(sequences.len() * heads, &|task| {
        let ((start, length), key_head) = (sequences[task / heads], task % heads);
        let rows = |column: usize| HeadRows { data: &qkv[start * width + column..], stride: width };
        scratch.with(|scratch| {
            let keys = grown(&mut scratch.keys, key_lines(length, head));
            pack_keys(rows(query + key_head * head), length, head, keys);
            let values = grown(&mut scratch.values, value_lines(length, head));
            pack_values(rows(query + config.key_value_width() + key_head * head), length, head, length, values);
            let attention = Attention { isa: network.isa, head, keys, values, capacity: length };
            for column in (key_head * group..(key_head + 1) * group).map(|head_number| head_number * head) {
                let out = grown(&mut scratch.rows, length * head);
                attention.attend(length, 1, 1, rows(column), &mut scratch.scores, out, head);
                for (row, values) in (start..).zip(out.chunks_exact(head)) {
                    // SAFETY: tasks write different heads or sequences.
                    unsafe { attended.range(row * query + column, head) }.copy_from_slice(values);
                }
            }
        });
    });
}

/// Final norm, logits and log-probabilities of the labelled rows.
fn head_stage(network: &Network<'_>, pool: &mut Pool, scratch: &Lockers<Scratch>, pass: &mut Pass, keep: bool) -> Vec<f32> {
    let (hidden, vocabulary) = (network.config.hidden_size, network.config.vocabulary_size);
    let count = pass.targets.len();
    pass.exponentials_kept = keep && count.saturating_mul(vocabulary) <= KEPT_LOGITS;
    if pass.exponentials_kept {
        grown(&mut pass.exponentials, count * vocabulary);
    }
    let mut log_probabilities = vec![0.0f32; count];
    let (targets, output, kept) = (&pass.targets, &pass.output, pass.exponentials_kept);
    let normed = SharedMut::new(&mut pass.normed);
    let inverse = SharedMut::new(&mut pass.inverse);
    let sums = SharedMut::new(&mut pass.sums);
    let exponents = SharedMut::new(&mut pass.exponentials);
    let results = SharedMut::new(&mut log_probabilities);
    pool.run(count.div_ceil(BLOCK), &|task| {
        let start = task * BLOCK;
        let rows = BLOCK.min(count - start);
        // SAFETY: every range is the rows of this task.
        let (normed, inverse, sums, results) = unsafe {
            (normed.range(start * hidden, rows * hidden), inverse.range(start, rows), sums.range(start, rows), results.range(start, rows))
        };
        for (index, (row, _)) in targets[start..start + rows].iter().enumerate() {
            let range = index * hidden..(index + 1) * hidden;
            network.norm(network.layout.final_norm, &output[row * hidden..][..hidden], &mut normed[range], &mut inverse[index..=index]);
        }
        scratch.with(|scratch| {
            let logits = if kept {
                // SAFETY: as above.
                unsafe { exponents.range(start * vocabulary, rows * vocabulary) }
            } else {
                grown(&mut scratch.rows, rows * vocabulary)
            };
            network.logits(normed, logits);
            for (index, row) in logits.chunks_exact_mut(vocabulary).enumerate() {
                let wanted = row[targets[start + index].1];
                let (top, sum) = exponentials(network.isa, row);
                results[index] = wanted - top - ln(sum);
                sums[index] = sum;
            }
        });
    });
    log_probabilities
}

/// One backward pass at work.
struct Backward<'a> {
    network: Network<'a>,
    panels: &'a PackedWeights,
    pool: &'a mut Pool,
    scratch: &'a Lockers<Scratch>,
    buffers: &'a mut Gradients,
}

/// A weight gradient `dw[rows, columns] += dyᵀ · x` over all steps.
struct WeightGradient<'a> {
    dy: &'a [f32],
    rows: usize,
    x: &'a [f32],
    columns: usize,
    offset: usize,
}

impl Backward<'_> {
    /// From the log-probabilities to the gradient of the last layer's output, in `buffers.x`.
    fn head(&mut self, pass: &mut Pass, gradients: &[f32], weights: &mut [f32]) -> Result<()> {
        let network = self.network;
        let isa = network.isa;
        let (hidden, vocabulary) = (network.config.hidden_size, network.config.vocabulary_size);
        let count = pass.targets.len();
        let run = if pass.exponentials_kept { count.max(1) } else { (KEPT_LOGITS / vocabulary).max(1).next_multiple_of(BLOCK) };
        self.buffers.x.fill(0.0);
        self.buffers.post_norm.fill(0.0);
        let blocks = count.div_ceil(BLOCK);
        for first in (0..count).step_by(run) {
            let length = run.min(count - first);
            let room = pass.exponentials.len().max(length * vocabulary);
            ensure(&mut pass.exponentials, room)?;
            let (targets, normed, inverse, sums, output) = (&pass.targets, &pass.normed, &pass.inverse, &pass.sums, &pass.output);
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
                        logits.range(start * vocabulary, rows * vocabulary),
                        normed_gradients.range(global * hidden, rows * hidden),
                        partial.range(global / BLOCK * hidden, hidden),
                    )
                };
                if recompute {
                    network.logits(&normed[global * hidden..][..rows * hidden], logits);
                }
                for (index, row) in logits.chunks_exact_mut(vocabulary).enumerate() {
                    if recompute {
                        exponentials(isa, row);
                    }
                    let gradient = gradients[global + index];
                    scale(isa, row, -gradient / sums[global + index]);
                    row[targets[global + index].1] += gradient;
                }
                gemm(isa, (rows, hidden, vocabulary), Left::rows(logits, vocabulary), &panels.lines, vocabulary, dn, hidden, false);
                for (index, dn) in dn.chunks_exact(hidden).enumerate() {
                    let row = targets[global + index].0;
                    // SAFETY: as above.
                    let dx = unsafe { x_gradients.range(row * hidden, hidden) };
                    rms_norm_backward(isa, dn, &output[row * hidden..][..hidden], weight, inverse[global + index], dx, partial);
                }
            });
            let gradient = WeightGradient {
                dy: &pass.exponentials[..length * vocabulary],
                rows: vocabulary,
                x: &pass.normed[first * hidden..][..length * hidden],
                columns: hidden,
                offset: network.layout.head,
            };
            weight_gradients(isa, self.pool, self.scratch, length, &[gradient], None, weights);
        }
        sum_blocks(isa, &self.buffers.post_norm[..blocks * hidden], &mut weights[network.layout.final_norm..][..hidden]);
        Ok(())
    }

    /// Through one layer: `buffers.x` is the gradient of its output before and of its input after.
    fn layer(&mut self, pass: &mut Pass, layer: usize, weights: &mut [f32]) {
        let network = self.network;
        let (isa, config, offsets) = (network.isa, network.config, network.layout.layers[layer]);
        let (hidden, query, inner, width) = (config.hidden_size, config.query_width(), config.intermediate_size, network.qkv_width());
        let count = pass.tokens.len();
        let blocks = count.div_ceil(BLOCK);
        let panels = &self.panels.layers[layer];
        let saved = &mut pass.layers[layer];

        self.buffers.post_norm.fill(0.0);
        {
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
                    gemm(isa, (rows, hidden, 2 * inner), Left::rows(gate_up, 2 * inner), lines, 2 * inner, dn, hidden, false);
                    d_middle.copy_from_slice(dx);
                    for row in 0..rows {
                        let range = row * hidden..(row + 1) * hidden;
                        let x = &middle[(start + row) * hidden..][..hidden];
                        rms_norm_backward(isa, &dn[range.clone()], x, weight, middle_inverse[start + row], &mut d_middle[range], partial);
                    }
                });
                gemm(isa, (rows, query, hidden), Left::rows(d_middle, hidden), &panels.output.lines, hidden, d_attended, query, false);
            });
        }
        sum_blocks(isa, &self.buffers.post_norm[..blocks * hidden], &mut weights[offsets.post_norm..][..hidden]);

        self.attention(pass, layer);

        let saved = &pass.layers[layer];
        let buffers = &*self.buffers;
        let jobs = [
            WeightGradient { dy: &saved.gate_up, rows: 2 * inner, x: &saved.middle_normed, columns: hidden, offset: offsets.gate_up },
            WeightGradient { dy: &buffers.x, rows: hidden, x: &buffers.product, columns: inner, offset: offsets.down },
            WeightGradient { dy: &buffers.qkv, rows: width, x: &saved.input_normed, columns: hidden, offset: offsets.qkv },
            WeightGradient { dy: &buffers.middle, rows: hidden, x: &saved.attended, columns: query, offset: offsets.output },
        ];
        let bias = offsets.bias.map(|offset| (offset, &buffers.qkv[..], width));
        weight_gradients(isa, self.pool, self.scratch, count, &jobs, bias, weights);

        self.buffers.input_norm.fill(0.0);
        {
            let (input, input_inverse, d_qkv, d_middle) = (&saved.input, &saved.input_inverse, &self.buffers.qkv, &self.buffers.middle);
            let dx = SharedMut::new(&mut self.buffers.x);
            let partial = SharedMut::new(&mut self.buffers.input_norm);
            let weight = &network.weights[offsets.input_norm..][..hidden];
            let scratch = self.scratch;
            self.pool.run(blocks, &|task| {
                let start = task * BLOCK;
                let rows = BLOCK.min(count - start);
                // SAFETY: every range is the rows of this task.
                let (dx, partial) = unsafe { (dx.range(start * hidden, rows * hidden), partial.range(task * hidden, hidden)) };
                scratch.with(|scratch| {
                    let dn = grown(&mut scratch.rows, rows * hidden);
                    let left = Left::rows(&d_qkv[start * width..][..rows * width], width);
                    gemm(isa, (rows, hidden, width), left, &panels.qkv.lines, width, dn, hidden, false);
                    dx.copy_from_slice(&d_middle[start * hidden..][..rows * hidden]);
                    for row in 0..rows {
                        let range = row * hidden..(row + 1) * hidden;
                        let x = &input[(start + row) * hidden..][..hidden];
                        rms_norm_backward(isa, &dn[range.clone()], x, weight, input_inverse[start + row], &mut dx[range], partial);
                    }
                });
            });
        }
        sum_blocks(isa, &self.buffers.input_norm[..blocks * hidden], &mut weights[offsets.input_norm..][..hidden]);
    }

    /// Gradients of the unrotated queries, keys and values, in `buffers.qkv`.
    fn attention(&mut self, pass: &Pass, layer: usize) {
        let network = self.network;
        let (isa, config) = (network.isa, network.config);
        let (head, query, width, heads) = (config.head_dim, config.query_width(), network.qkv_width(), config.key_value_heads);
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
}

/// Adds the rows of `partial` to `out` in order.
fn sum_blocks(isa: Isa, partial: &[f32], out: &mut [f32]) {
    for row in partial.chunks_exact(out.len()) {
        add(isa, out, row);
    }
}

/// Adds weight gradients, and bias gradients as column sums. Each task owns some rows of one gradient and runs over all steps in
/// order.
fn weight_gradients(
    isa: Isa,
    pool: &mut Pool,
    scratch: &Lockers<Scratch>,
    steps: usize,
    jobs: &[WeightGradient<'_>],
    bias: Option<(usize, &[f32], usize)>,
    weights: &mut [f32],
) {
    let mut tasks: Vec<(usize, usize)> = Vec::new();
    for (number, job) in jobs.iter().enumerate() {
        tasks.extend((0..job.rows).step_by(CHUNK).map(|row| (number, row)));
    }
    let shared = SharedMut::new(weights);
    pool.run(tasks.len() + usize::from(bias.is_some()), &|task| {
        let Some((number, first)) = tasks.get(task).copied() else {
            if let Some((offset, dy, width)) = bias {
                // SAFETY: only this task writes the biases.
                let out = unsafe { shared.range(offset, width) };
                dy.chunks_exact(width).take(steps).for_each(|row| add(isa, out, row));
            }
            return;
        };
        let job = &jobs[number];
        let rows = CHUNK.min(job.rows - first);
        // SAFETY: tasks own different rows.
        let out = unsafe { shared.range(job.offset + first * job.columns, rows * job.columns) };
        let tile = if isa == Isa::Avx512 { 12 } else { 6 };
        scratch.with(|scratch| {
            let panels = panel_count(job.columns);
            let right = grown(&mut scratch.right, panels * STEPS);
            let left = grown(&mut scratch.left, tile * STEPS);
            for start in (0..steps).step_by(STEPS) {
                let length = STEPS.min(steps - start);
                for panel in 0..panels {
                    let source = &job.x[start * job.columns..];
                    pack_columns(source, job.columns, job.columns, panel, &mut right[panel * STEPS..][..length]);
                }
                for row in (0..rows).step_by(tile) {
                    let height = tile.min(rows - row);
                    for (step, packed) in left.chunks_exact_mut(tile).enumerate().take(length) {
                        let source = &job.dy[(start + step) * job.rows + first + row..];
                        if let (12, Some(run)) = (height, source.first_chunk::<12>()) {
                            packed[..12].copy_from_slice(run);
                        } else if let (6, Some(run)) = (height, source.first_chunk::<6>()) {
                            packed[..6].copy_from_slice(run);
                        } else {
                            packed[..height].copy_from_slice(&source[..height]);
                        }
                    }
                    let out = &mut out[row * job.columns..];
                    gemm(isa, (height, job.columns, length), Left::columns(left, tile), right, STEPS, out, job.columns, true);
                }
            }
        });
    });
}
