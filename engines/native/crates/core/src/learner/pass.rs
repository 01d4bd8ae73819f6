//! Buffers of the forward and backward passes.

use super::attention::BackwardBuffers;
use cupel_files::Config;
use cupel_files::{Error, Result, BATCH_INVALID, CONTEXT_OVERFLOW, IO, TOKEN_OUT_OF_RANGE};
use cupel_kernels::Line;

/// Rows of one task. Fixed, because partial sums of norm gradients are kept by block.
pub const BLOCK: usize = 72;

/// Values of one layer that the backward pass reads, rows by token.
#[derive(Default)]
pub struct LayerActivations {
    pub input: Vec<f32>,
    pub input_normed: Vec<f32>,
    pub input_inverse: Vec<f32>,
    pub qkv: Vec<f32>,
    pub attended: Vec<f32>,
    pub middle: Vec<f32>,
    pub middle_normed: Vec<f32>,
    pub middle_inverse: Vec<f32>,
    pub gate_up: Vec<f32>,
}

/// A forward pass.
#[derive(Default)]
pub struct Pass {
    pub tokens: Vec<usize>,
    pub positions: Vec<usize>,
    /// Start and length of each sequence.
    pub sequences: Vec<(usize, usize)>,
    /// For each labelled token: the row that predicts it and the token.
    pub targets: Vec<(usize, usize)>,
    pub layers: Vec<LayerActivations>,
    pub output: Vec<f32>,
    pub normed: Vec<f32>,
    pub inverse: Vec<f32>,
    /// `exp(logit - max)` of the labelled rows, if they are kept.
    pub exponentials: Vec<f32>,
    pub exponentials_kept: bool,
    pub sums: Vec<f32>,
    pub kept: bool,
}

/// Buffers that one task uses at a time.
#[derive(Default)]
pub struct Scratch {
    pub rows: Vec<f32>,
    pub scores: Vec<f32>,
    pub keys: Vec<Line>,
    pub values: Vec<Line>,
    pub backward: BackwardBuffers,
    pub left: Vec<f32>,
    pub right: Vec<Line>,
}

/// Buffers of the backward pass, rows by token.
#[derive(Default)]
pub struct Gradients {
    pub x: Vec<f32>,
    pub middle: Vec<f32>,
    pub attended: Vec<f32>,
    pub qkv: Vec<f32>,
    pub product: Vec<f32>,
    pub normed: Vec<f32>,
    /// Partial sums of a norm's gradient, one row a block.
    pub input_norm: Vec<f32>,
    pub post_norm: Vec<f32>,
}

impl Pass {
    /// Takes over a packed batch; refuses it by name where it is malformed.
    pub fn describe(&mut self, config: &Config, tokens: &[i32], offsets: &[i32], labelled: &[u8]) -> Result<()> {
        let refuse = |message: String| Err(Error::new(BATCH_INVALID, message));
        if labelled.len() != tokens.len() {
            return refuse(format!("{} labels for {} tokens", labelled.len(), tokens.len()));
        }
        if offsets.first() != Some(&0) || usize::try_from(offsets[offsets.len() - 1]) != Ok(tokens.len()) {
            return refuse(format!(
                "offsets {:?}..{:?} do not span {} tokens",
                offsets.first(),
                offsets.last(),
                tokens.len()
            ));
        }
        for list in [&mut self.tokens, &mut self.positions] {
            list.clear();
        }
        self.sequences.clear();
        self.targets.clear();
        for (index, pair) in offsets.windows(2).enumerate() {
            if pair[1] <= pair[0] || pair[1] as usize > tokens.len() {
                return refuse(format!("sequence {index} spans {} to {}", pair[0], pair[1]));
            }
            let (start, length) = (pair[0] as usize, (pair[1] - pair[0]) as usize);
            if length > config.context_length {
                let message = format!("sequence {index} has {length} tokens, the context is {}", config.context_length);
                return Err(Error::new(CONTEXT_OVERFLOW, message));
            }
            self.sequences.push((start, length));
            for position in 0..length {
                let row = start + position;
                let token = usize::try_from(tokens[row]).ok().filter(|token| *token < config.vocabulary_size);
                let Some(token) = token else {
                    let message = format!(
                        "token {} of sequence {index} is {}, the vocabulary has {}",
                        position, tokens[row], config.vocabulary_size
                    );
                    return Err(Error::new(TOKEN_OUT_OF_RANGE, message));
                };
                self.tokens.push(token);
                self.positions.push(position);
                match (labelled[row], position) {
                    (0, _) => {}
                    (1, 0) => {
                        return refuse(format!(
                            "the first token of sequence {index} is labelled, it has no predecessor"
                        ))
                    }
                    (1, _) => self.targets.push((row - 1, token)),
                    (other, _) => return refuse(format!("label {row} is {other}, must be 0 or 1")),
                }
            }
        }
        Ok(())
    }

    /// Makes room for `count` rows in `slots` layers.
    pub fn resize(&mut self, config: &Config, count: usize, slots: usize) -> Result<()> {
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
    /// Makes room for `count` rows and `targets` labelled ones.
    pub fn resize(&mut self, config: &Config, count: usize, targets: usize) -> Result<()> {
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
pub fn ensure(buffer: &mut Vec<f32>, length: usize) -> Result<()> {
    if buffer.len() < length && buffer.try_reserve(length - buffer.len()).is_err() {
        return Err(Error::new(IO, format!("not enough memory for {length} numbers")).remedy("use smaller batches"));
    }
    buffer.resize(length, 0.0);
    Ok(())
}
