use cupel_kernels::scale;

use crate::learner::adapters::{Adapters, Pair};
use crate::learner::arithmetic::Arithmetic;
use crate::learner::network::Network;
use crate::learner::panels::{LayerPanels, Trained};
use crate::pool::SharedMut;

/// The way through the adapters of a layer, beside its matrices.
pub(super) struct Bypass<'a, C: Arithmetic> {
    network: &'a Network<'a, C>,
    panels: &'a LayerPanels<C>,
    adapters: Option<&'a Adapters>,
    layer: usize,
    count: usize,
    /// `Gradients::adapters`.
    rows: SharedMut<'a, f32>,
}

impl<'a, C: Arithmetic> Bypass<'a, C> {
    pub(super) fn new(
        network: &'a Network<'a, C>,
        panels: &'a LayerPanels<C>,
        trained: Trained<'a>,
        layer: usize,
        count: usize,
        rows: &'a mut [f32],
    ) -> Self {
        let adapters = trained.map(|(adapters, _)| adapters);
        Self { network, panels, adapters, layer, count, rows: SharedMut::new(rows) }
    }

    #[allow(clippy::mut_from_ref)]
    fn part(&self, part: usize, rank: usize, start: usize, rows: usize) -> &mut [f32] {
        // SAFETY: a task asks for its own rows, and for each part of a projection once.
        unsafe { self.rows.range((part * self.count + start) * rank, rows * rank) }
    }

    /// Adds the gradient that goes back through the adapter to `dx`; keeps that of its inner values.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn through(
        &self,
        projection: usize,
        start: usize,
        rows: usize,
        (dy, stride): (&[C::Value], usize),
        dx: &mut [f32],
        width: usize,
        buffer: &mut Vec<C::Value>,
    ) {
        let Some((adapters, pair)) = self.pair(projection) else {
            return;
        };
        let (isa, rank) = (self.network.isa, adapters.rank);
        let panels = &self.panels.pairs[projection];
        let dh = self.part(2 * projection + 1, rank, start, rows);
        panels.outer_back.multiply(isa, rows, (&dy[pair.column / C::STEPS..], stride), dh, rank, false);
        scale(isa, dh, adapters.scale);
        let dh = C::stored(isa, dh, rank, buffer);
        panels.inner_back.multiply(isa, rows, (dh, C::values(rank)), dx, width, true);
    }

    /// Computes the scaled inner values of `x` again.
    pub(super) fn inner(&self, projection: usize, start: usize, rows: usize, x: &[C::Value]) {
        let Some((adapters, pair)) = self.pair(projection) else {
            return;
        };
        let (isa, rank) = (self.network.isa, adapters.rank);
        let h = self.part(2 * projection, rank, start, rows);
        self.panels.pairs[projection].inner.multiply(isa, rows, (x, C::values(pair.input)), h, rank, false);
        scale(isa, h, adapters.scale);
    }

    fn pair(&self, projection: usize) -> Option<(&'a Adapters, Pair)> {
        self.adapters.and_then(|adapters| Some((adapters, adapters.layers[self.layer][projection]?)))
    }
}
