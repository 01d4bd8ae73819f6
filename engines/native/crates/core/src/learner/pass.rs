//! Buffers of the forward and backward passes.

use super::arithmetic::Arithmetic;
use super::attention::AttentionBuffers;
use cupel_files::Config;
use cupel_files::{Error, Result, BATCH_INVALID, CONTEXT_OVERFLOW, IO, TOKEN_OUT_OF_RANGE};

/// Rows of one task. Fixed, because partial sums of norm gradients are kept by block.
pub const BLOCK: usize = 72;

/// Values of one layer that the backward pass reads, rows by token.
pub struct LayerActivations<C: Arithmetic> {
    pub qkv: Vec<C::Value>,
    pub attended: Vec<C::Value>,
    /// Maximum and inverse sum of each softmax, `[heads, tokens]`.
    pub softmax: Vec<[f32; 2]>,
    pub middle: Vec<f32>,
    pub gate_up: Vec<C::Value>,
}

/// What a forward pass returns for each place.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Wanted {
    /// The log-probability of the labelled token.
    #[default]
    Label,
    /// Those of `width` chosen tokens, all places behind one another.
    Chosen { ids: Vec<usize>, width: usize },
    /// Those of every token.
    Every,
    /// One number of the reward head; places are the last tokens of the sequences.
    Reward,
}

/// A forward pass.
pub struct Pass<C: Arithmetic> {
    pub wanted: Wanted,
    /// Logits are divided by it.
    pub temperature: f32,
    /// Whether adapters took part.
    pub adapted: bool,
    pub tokens: Vec<usize>,
    pub positions: Vec<usize>,
    /// Start and length of each sequence.
    pub sequences: Vec<(usize, usize)>,
    /// For each labelled token: the row that predicts it and the token. For rewards: the last row of each sequence.
    pub targets: Vec<(usize, usize)>,
    /// Inputs of the layers and the output of the last; fewer are reused in turn.
    pub inputs: Vec<Vec<f32>>,
    /// The other values of the layers; fewer are reused in turn.
    pub layers: Vec<LayerActivations<C>>,
    /// Normalised outputs of the rows of the places.
    pub normed: Vec<C::Value>,
    pub inverse: Vec<f32>,
    /// `exp(logit - max)` of the first places.
    pub exponentials: Vec<C::Value>,
    /// Of how many places.
    pub exponentials_kept: usize,
    pub sums: Vec<f32>,
    pub kept: bool,
}

impl<C: Arithmetic> Default for Pass<C> {
    fn default() -> Self {
        Self {
            wanted: Wanted::Label,
            temperature: 1.0,
            adapted: false,
            tokens: Vec::new(),
            positions: Vec::new(),
            sequences: Vec::new(),
            targets: Vec::new(),
            inputs: Vec::new(),
            layers: Vec::new(),
            normed: Vec::new(),
            inverse: Vec::new(),
            exponentials: Vec::new(),
            exponentials_kept: 0,
            sums: Vec::new(),
            kept: false,
        }
    }
}

/// Buffers that one task uses at a time.
#[derive(Default)]
pub struct Scratch<C: Arithmetic> {
    pub rows: Vec<f32>,
    pub more: Vec<f32>,
    /// One row.
    pub row: Vec<f32>,
    pub logits: Vec<f32>,
    pub values: Vec<C::Value>,
    pub attention: AttentionBuffers<C>,
    pub adapter: AdapterBuffers<C>,
}

/// Rows of adapters, `[rows, rank]`.
#[derive(Default)]
pub struct AdapterBuffers<C: Arithmetic> {
    pub inner: Vec<f32>,
    pub values: Vec<C::Value>,
}

/// Buffers of the backward pass, rows by token.
#[derive(Default)]
pub struct Gradients<C: Arithmetic> {
    pub x: Vec<f32>,
    pub middle: Vec<f32>,
    pub attended: Vec<C::Value>,
    pub qkv: Vec<C::Value>,
    pub product: Vec<C::Value>,
    pub input_normed: Vec<C::Value>,
    pub middle_normed: Vec<C::Value>,
    /// Inverse roots of the norm of the input.
    pub inverse: Vec<f32>,
    /// Partial sums of a norm's gradient, one row a block.
    pub partial: Vec<f32>,
    /// For each projection of a layer: scaled `x Aᵀ` and its gradient, `[14, tokens, rank]`.
    pub adapters: Vec<f32>,
    /// Both sides of weight gradients.
    pub panels: Vec<C::Line>,
}

impl<C: Arithmetic> Pass<C> {
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
        let reward = self.wanted == Wanted::Reward;
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
                    _ if reward => {}
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
            if reward {
                self.targets.push((start + length - 1, 0));
            }
        }
        Ok(())
    }

    /// Makes room for the inputs of `inputs` layers and the other values of `slots`.
    pub fn resize(&mut self, config: &Config, inputs: usize, slots: usize) -> Result<()> {
        let (hidden, query, inner) = (config.hidden_size, config.query_width(), config.intermediate_size);
        let (count, targets) = (self.tokens.len(), self.targets.len());
        let qkv = query + 2 * config.key_value_width();
        self.inputs.resize_with(inputs, Vec::new);
        for input in &mut self.inputs {
            ensure(input, count * hidden)?;
        }
        self.layers.resize_with(slots, || LayerActivations {
            qkv: Vec::new(),
            attended: Vec::new(),
            softmax: Vec::new(),
            middle: Vec::new(),
            gate_up: Vec::new(),
        });
        for layer in &mut self.layers {
            ensure(&mut layer.qkv, count * C::values(qkv))?;
            ensure(&mut layer.attended, count * C::values(query))?;
            ensure(&mut layer.softmax, count * config.heads)?;
            ensure(&mut layer.middle, count * hidden)?;
            ensure(&mut layer.gate_up, count * C::values(2 * inner))?;
        }
        ensure(&mut self.normed, targets * C::values(hidden))?;
        ensure(&mut self.inverse, targets)?;
        ensure(&mut self.sums, targets)
    }
}

impl<C: Arithmetic> Gradients<C> {
    /// Makes room for `count` rows, `targets` places, and adapters of a rank (0: none).
    pub fn resize(&mut self, config: &Config, count: usize, targets: usize, rank: usize) -> Result<()> {
        let hidden = config.hidden_size;
        for buffer in [&mut self.x, &mut self.middle] {
            ensure(buffer, count * hidden)?;
        }
        for buffer in [&mut self.input_normed, &mut self.middle_normed] {
            ensure(buffer, count * C::values(hidden))?;
        }
        ensure(&mut self.inverse, count)?;
        ensure(&mut self.attended, count * C::values(config.query_width()))?;
        ensure(&mut self.qkv, count * C::values(config.query_width() + 2 * config.key_value_width()))?;
        ensure(&mut self.product, count * C::values(config.intermediate_size))?;
        ensure(&mut self.adapters, 14 * count * rank)?;
        ensure(&mut self.partial, count.max(targets).div_ceil(BLOCK) * hidden)
    }
}

/// Sets the length of a buffer whose content is not needed any more; refuses with a code instead of aborting when memory
/// is short.
pub fn ensure<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) -> Result<()> {
    if buffer.capacity() < length {
        *buffer = Vec::new();
        if buffer.try_reserve_exact(length).is_err() {
            let message = format!("not enough memory for a buffer of {length}");
            return Err(Error::new(IO, message).remedy("use smaller batches"));
        }
    }
    buffer.resize(length, T::default());
    Ok(())
}
