//! The passes of a learner in one type of matrix product.

use cupel_files::{Config, Result};
use cupel_kernels::{add, Isa};

use super::arithmetic::Arithmetic;
use super::backward::Backward;
use super::forward::{attention_stage, rows_stage};
use super::heads::{reward_stage, token_stage, top_stage};
use super::network::Network;
use super::panels::{Direction, Group, PanelSet, Trained};
use super::parameters::{Held, Layout};
use super::pass::{Gradients, Pass, Scratch, Wanted};
use super::{Batch, PassOptions};
use crate::pool::{Lockers, Pool};
use crate::rope::Rope;

/// What passes borrow of a learner.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    pub isa: Isa,
    pub config: &'a Config,
    pub layout: &'a Layout,
    pub held: Held<'a>,
    /// Adapters and their values.
    pub adapters: Trained<'a>,
    /// The reward head and its offset in what is trained.
    pub score: Option<(usize, &'a [f32])>,
    /// Whether every weight is trained.
    pub whole: bool,
    /// Keep the inputs of layers alone.
    pub recompute: bool,
    /// Most logits that are kept between forward and backward (numbers).
    pub kept_logits: usize,
    /// Long enough for every sequence.
    pub rope: &'a Rope,
}

/// What a forward pass is asked for: told the number of places.
pub type Ask<'a> = &'a mut dyn FnMut(usize) -> Result<Wanted>;

/// Passes, whatever their type of product.
pub trait Passes: Send {
    /// Numbers of each place as `ask` wants them. With `keep` the activations stay for `backward`; without, an earlier
    /// kept pass is left as it is.
    fn forward(
        &mut self,
        parts: Parts<'_>,
        pool: &mut Pool,
        batch: Batch<'_>,
        options: PassOptions,
        ask: Ask<'_>,
    ) -> Result<Vec<f32>>;

    /// The `count` most likely tokens of each place and their log-probabilities. Keeps nothing.
    fn top(
        &mut self,
        parts: Parts<'_>,
        pool: &mut Pool,
        batch: Batch<'_>,
        options: PassOptions,
        count: usize,
    ) -> Result<(Vec<i32>, Vec<f32>)>;

    /// Places of the kept pass and numbers of each, if there is one.
    fn kept(&self, vocabulary: usize) -> Option<(usize, usize)>;

    /// Uses the kept pass up: adds to `weights`, the gradients of what is trained.
    fn backward(&mut self, parts: Parts<'_>, pool: &mut Pool, gradients: &[f32], weights: &mut [f32]) -> Result<()>;

    /// Trained values have changed: those of adapters alone, or all.
    fn forget(&mut self, adapters_only: bool);
}

/// Passes in one type of product.
pub struct Machine<C: Arithmetic> {
    forward_panels: PanelSet<C>,
    backward_panels: PanelSet<C>,
    kept: Pass<C>,
    spare: Pass<C>,
    buffers: Gradients<C>,
    scratch: Lockers<Scratch<C>>,
}

impl<C: Arithmetic> Machine<C> {
    pub fn new(config: &Config, layout: &Layout) -> Self {
        Self {
            forward_panels: PanelSet::new(config, layout, Direction::Forward),
            backward_panels: PanelSet::new(config, layout, Direction::Backward),
            kept: Pass::default(),
            spare: Pass::default(),
            buffers: Gradients::default(),
            scratch: Lockers::default(),
        }
    }

    fn describe(
        pass: &mut Pass<C>,
        parts: &Parts<'_>,
        batch: Batch<'_>,
        options: PassOptions,
        ask: Ask<'_>,
    ) -> Result<()> {
        pass.kept = false;
        pass.temperature = options.temperature;
        pass.adapted = options.adapter && parts.adapters.is_some();
        pass.wanted = if parts.score.is_some() { Wanted::Reward } else { Wanted::Label };
        pass.describe(parts.config, batch.tokens, batch.offsets, batch.labelled)?;
        pass.wanted = ask(pass.targets.len())?;
        Ok(())
    }

    /// Embedding and layers.
    fn layers(&mut self, parts: &Parts<'_>, pool: &mut Pool, pass: &mut Pass<C>, keep: bool) -> Result<()> {
        let layers = parts.config.layers;
        let inputs = if keep { layers + 1 } else { 1 };
        let slots = if keep && !parts.recompute { layers } else { 1 };
        pass.resize(parts.config, inputs, slots)?;
        let adapters = parts.adapters.filter(|_| pass.adapted);
        for layer in 0..=layers {
            let mut groups = Vec::new();
            if layer > 0 {
                groups.extend([Group::Output, Group::GateUp, Group::Down].map(|group| (layer - 1, group)));
            }
            if layer < layers {
                groups.push((layer, Group::Qkv));
            }
            self.forward_panels.prepare(parts.isa, pool, parts.held, parts.layout, adapters, &groups);
            let network = network(parts, &self.forward_panels, adapters);
            rows_stage(&network, pool, &self.scratch, pass, layer);
            if layer < layers {
                attention_stage(&network, pool, &self.scratch, &pass.sequences, &mut pass.layers[layer % slots]);
            }
        }
        Ok(())
    }

    fn run(&mut self, parts: &Parts<'_>, pool: &mut Pool, pass: &mut Pass<C>, keep: bool) -> Result<Vec<f32>> {
        self.layers(parts, pool, pass, keep)?;
        if let Some((_, score)) = parts.score {
            return Ok(reward_stage(&network(parts, &self.forward_panels, None), pass, score));
        }
        self.forward_panels.prepare_head(parts.isa, pool, parts.held, parts.layout);
        let network = network(parts, &self.forward_panels, None);
        token_stage(&network, pool, &self.scratch, pass, if keep { parts.kept_logits } else { 0 })
    }

    fn run_backward(
        &mut self,
        parts: &Parts<'_>,
        pool: &mut Pool,
        pass: &mut Pass<C>,
        gradients: &[f32],
        weights: &mut [f32],
    ) -> Result<()> {
        if pass.tokens.is_empty() {
            return Ok(());
        }
        let hidden = parts.config.hidden_size;
        let adapters = parts.adapters.filter(|_| pass.adapted);
        let rank = adapters.map_or(0, |(adapters, _)| adapters.rank);
        self.buffers.resize(parts.config, pass.tokens.len(), pass.targets.len(), rank)?;
        let mut head = Some(());
        let layers = if parts.whole || adapters.is_some() { parts.config.layers } else { 0 };
        for layer in (0..layers).rev().map(Some).chain((layers == 0).then_some(None)) {
            if let Some(layer) = layer.filter(|_| parts.recompute) {
                let groups = [Group::Qkv, Group::Output, Group::GateUp].map(|group| (layer, group));
                self.forward_panels.prepare(parts.isa, pool, parts.held, parts.layout, adapters, &groups);
            }
            let mut back = Backward {
                network: network(parts, &self.forward_panels, adapters),
                panels: &mut self.backward_panels,
                trained: adapters,
                whole: parts.whole,
                pool: &mut *pool,
                scratch: &self.scratch,
                buffers: &mut self.buffers,
                kept_logits: parts.kept_logits,
            };
            if head.take().is_some() {
                back.head(pass, gradients, parts.score, weights)?;
            }
            if let Some(layer) = layer {
                if parts.recompute {
                    back.begin_again(pass, layer);
                }
                back.layer(pass, layer, weights);
            }
        }
        if parts.whole {
            let offset = parts.layout.embedding.offset;
            for (token, row) in pass.tokens.iter().zip(self.buffers.x.chunks_exact(hidden)) {
                add(parts.isa, &mut weights[offset + token * hidden..][..hidden], row);
            }
        }
        Ok(())
    }
}

fn network<'a, C: Arithmetic>(parts: &Parts<'a>, panels: &'a PanelSet<C>, adapters: Trained<'a>) -> Network<'a, C> {
    Network {
        isa: parts.isa,
        config: parts.config,
        layout: parts.layout,
        held: parts.held,
        panels,
        adapters: adapters.map(|(adapters, _)| adapters),
        rope: parts.rope,
    }
}

impl<C: Arithmetic> Passes for Machine<C> {
    fn forward(
        &mut self,
        parts: Parts<'_>,
        pool: &mut Pool,
        batch: Batch<'_>,
        options: PassOptions,
        ask: Ask<'_>,
    ) -> Result<Vec<f32>> {
        let keep = options.keep;
        let mut pass = std::mem::take(if keep { &mut self.kept } else { &mut self.spare });
        let result = Self::describe(&mut pass, &parts, batch, options, ask)
            .and_then(|()| self.run(&parts, pool, &mut pass, keep));
        pass.kept = keep && result.is_ok();
        *(if keep { &mut self.kept } else { &mut self.spare }) = pass;
        result
    }

    fn top(
        &mut self,
        parts: Parts<'_>,
        pool: &mut Pool,
        batch: Batch<'_>,
        options: PassOptions,
        count: usize,
    ) -> Result<(Vec<i32>, Vec<f32>)> {
        let mut pass = std::mem::take(&mut self.spare);
        let result = Self::describe(&mut pass, &parts, batch, options, &mut |_| Ok(Wanted::Label)).and_then(|()| {
            self.layers(&parts, pool, &mut pass, false)?;
            self.forward_panels.prepare_head(parts.isa, pool, parts.held, parts.layout);
            let network = network(&parts, &self.forward_panels, None);
            top_stage(&network, pool, &self.scratch, &mut pass, count)
        });
        self.spare = pass;
        result
    }

    fn kept(&self, vocabulary: usize) -> Option<(usize, usize)> {
        let width = match &self.kept.wanted {
            Wanted::Label | Wanted::Reward => 1,
            Wanted::Chosen { width, .. } => *width,
            Wanted::Every => vocabulary,
        };
        self.kept.kept.then_some((self.kept.targets.len(), width))
    }

    fn backward(&mut self, parts: Parts<'_>, pool: &mut Pool, gradients: &[f32], weights: &mut [f32]) -> Result<()> {
        let mut pass = std::mem::take(&mut self.kept);
        pass.kept = false;
        let result = self.run_backward(&parts, pool, &mut pass, gradients, weights);
        self.kept = pass;
        result
    }

    fn forget(&mut self, adapters_only: bool) {
        self.forward_panels.forget(adapters_only);
        self.backward_panels.forget(adapters_only);
        self.kept.kept = false;
    }
}
