//! Weights packed for matrix products. Small models keep every layer packed between steps; larger ones have room for
//! one layer, which is packed (from F32, or decoded from BF16 or blocks) before it is used.

use cupel_files::Config;
use cupel_kernels::{panel_count, Isa, PANEL};

use super::adapters::{Adapters, DOWN, GATE, KEY, OUTPUT, QUERY, UP, VALUE};
use super::arithmetic::{Arithmetic, Rows};
use super::parameters::{Held, Layout, Matrix};
use crate::pool::{Pool, SharedMut};

/// Which product the panels are for: `x · Wᵀ` (forward) or `dy · W` (backward).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// The four matrices of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Qkv,
    Output,
    GateUp,
    Down,
}

impl Group {
    fn projections(self) -> &'static [usize] {
        match self {
            Self::Qkv => &[QUERY, KEY, VALUE],
            Self::Output => &[OUTPUT],
            Self::GateUp => &[GATE, UP],
            Self::Down => &[DOWN],
        }
    }
}

/// Numbers of matrices up to which a model stays packed.
const RESIDENT: usize = 1 << 24;
/// Rows of a held matrix that are decoded together.
const ROWS: usize = 16;

/// A right-hand matrix `[k, n]`.
#[derive(Default)]
pub struct Panels<C: Arithmetic> {
    lines: Vec<C::Line>,
    pub k: usize,
    pub n: usize,
}

/// The packed factors of one adapted projection.
#[derive(Default)]
pub struct PairPanels<C: Arithmetic> {
    /// `x · Aᵀ`.
    pub inner: Panels<C>,
    /// `(x Aᵀ) · Bᵀ`; packed forward only.
    pub outer: Panels<C>,
    /// `dy · B`; packed backward only.
    pub outer_back: Panels<C>,
    /// `(dy B) · A`; packed backward only.
    pub inner_back: Panels<C>,
}

/// The packed weights of one layer.
#[derive(Default)]
pub struct LayerPanels<C: Arithmetic> {
    groups: [Panels<C>; 4],
    ready: [Option<usize>; 4],
    pub pairs: [PairPanels<C>; 7],
    pairs_ready: [Option<usize>; 4],
}

impl<C: Arithmetic> LayerPanels<C> {
    /// `out = left · matrix`, or `+=`, for `rows` rows of values.
    pub fn multiply(&self, isa: Isa, group: Group, rows: usize, left: &[C::Value], out: &mut [f32], accumulate: bool) {
        let panels = &self.groups[group as usize];
        panels.multiply(isa, rows, (left, C::values(panels.k)), out, panels.n, accumulate);
    }
}

impl<C: Arithmetic> Panels<C> {
    /// `out = left · panels`, or `+=`, for `rows` rows of values.
    pub fn multiply(
        &self,
        isa: Isa,
        rows: usize,
        (left, left_stride): (&[C::Value], usize),
        out: &mut [f32],
        stride: usize,
        accumulate: bool,
    ) {
        let shape = (rows, self.n, self.k);
        C::product(isa, shape, left, left_stride, &self.lines, C::values(self.k), out, stride, accumulate);
    }
}

/// What is trained over a frozen base, and its values.
pub type Trained<'a> = Option<(&'a Adapters, &'a [f32])>;

/// The packed weights of one direction.
pub struct PanelSet<C: Arithmetic> {
    direction: Direction,
    slots: Vec<LayerPanels<C>>,
    head: Panels<C>,
    head_ready: bool,
}

impl<C: Arithmetic> PanelSet<C> {
    pub fn new(config: &Config, layout: &Layout, direction: Direction) -> Self {
        let numbers: usize = layout.layers.first().map_or(0, |layer| {
            [layer.qkv, layer.output, layer.gate_up, layer.down].map(|m| m.rows * m.columns).iter().sum()
        });
        let resident = numbers * config.layers <= RESIDENT;
        let slots = (0..if resident { config.layers } else { 1 }).map(|_| LayerPanels::default()).collect();
        Self { direction, slots, head: Panels::default(), head_ready: false }
    }

    /// Bytes that the panels of a model will take.
    pub fn planned_bytes(config: &Config, layout: &Layout) -> usize {
        let set = Self::new(config, layout, Direction::Forward);
        let lines = |m: Matrix| C::lines(m.columns, m.rows);
        let layer = layout
            .layers
            .first()
            .map_or(0, |layer| lines(layer.qkv) + lines(layer.output) + lines(layer.gate_up) + lines(layer.down));
        (layer * set.slots.len() + layout.head.map_or(0, lines)) * size_of::<C::Line>()
    }

    pub fn layer(&self, layer: usize) -> &LayerPanels<C> {
        &self.slots[layer % self.slots.len()]
    }

    pub fn head(&self) -> &Panels<C> {
        &self.head
    }

    /// The trained weights have changed: all of them, or the adapters alone.
    pub fn forget(&mut self, adapters_only: bool) {
        for slot in &mut self.slots {
            slot.pairs_ready = [None; 4];
            if !adapters_only {
                slot.ready = [None; 4];
            }
        }
        self.head_ready &= adapters_only;
    }

    /// Packs matrices of layers unless they are packed already.
    pub fn prepare(
        &mut self,
        isa: Isa,
        pool: &mut Pool,
        held: Held<'_>,
        layout: &Layout,
        trained: Trained<'_>,
        wanted: &[(usize, Group)],
    ) {
        let (direction, count) = (self.direction, self.slots.len());
        let mut jobs = Vec::new();
        // Only with one slot can two layers meet in it, and then their groups differ.
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let LayerPanels { groups, ready, pairs, pairs_ready } = slot;
            let mut pairs: Vec<Option<&mut PairPanels<C>>> = pairs.iter_mut().map(Some).collect();
            let mut groups: Vec<Option<&mut Panels<C>>> = groups.iter_mut().map(Some).collect();
            for (layer, group) in wanted.iter().copied().filter(|(layer, _)| layer % count == index) {
                let number = group as usize;
                if ready[number] != Some(layer) {
                    ready[number] = Some(layer);
                    let offsets = &layout.layers[layer];
                    let matrix = match group {
                        Group::Qkv => offsets.qkv,
                        Group::Output => offsets.output,
                        Group::GateUp => offsets.gate_up,
                        Group::Down => offsets.down,
                    };
                    if let Some(panels) = groups[number].take() {
                        push_jobs(&mut jobs, panels, held, matrix, direction);
                    }
                }
                let Some((adapters, values)) = trained.filter(|_| pairs_ready[number] != Some(layer)) else {
                    continue;
                };
                pairs_ready[number] = Some(layer);
                let values = Held { dense: values, bytes: &[] };
                for projection in group.projections() {
                    let (Some(pair), Some(panels)) = (adapters.layers[layer][*projection], pairs[*projection].take())
                    else {
                        continue;
                    };
                    let plain =
                        |offset, rows, columns| Matrix { offset, rows, columns, held: cupel_files::TensorType::F32 };
                    let a = plain(pair.a, adapters.rank, pair.input);
                    let b = plain(pair.b, pair.output, adapters.rank);
                    push_jobs(&mut jobs, &mut panels.inner, values, a, Direction::Forward);
                    match direction {
                        Direction::Forward => {
                            push_jobs(&mut jobs, &mut panels.outer, values, b, Direction::Forward);
                        }
                        Direction::Backward => {
                            push_jobs(&mut jobs, &mut panels.outer_back, values, b, Direction::Backward);
                            push_jobs(&mut jobs, &mut panels.inner_back, values, a, Direction::Backward);
                        }
                    }
                }
            }
        }
        run(isa, pool, &jobs);
    }

    /// Packs the head unless it is packed already.
    pub fn prepare_head(&mut self, isa: Isa, pool: &mut Pool, held: Held<'_>, layout: &Layout) {
        if let Some(head) = layout.head.filter(|_| !self.head_ready) {
            let mut jobs = Vec::new();
            push_jobs(&mut jobs, &mut self.head, held, head, self.direction);
            run(isa, pool, &jobs);
            self.head_ready = true;
        }
    }
}

struct PackJob<'a, C: Arithmetic> {
    direction: Direction,
    held: Held<'a>,
    matrix: Matrix,
    lines: SharedMut<'a, C::Line>,
    k: usize,
    n: usize,
    /// Panel, or first row where rows are decoded for all panels.
    part: usize,
}

fn push_jobs<'a, C: Arithmetic>(
    jobs: &mut Vec<PackJob<'a, C>>,
    panels: &'a mut Panels<C>,
    held: Held<'a>,
    matrix: Matrix,
    direction: Direction,
) {
    let (k, n) = match direction {
        Direction::Forward => (matrix.columns, matrix.rows),
        Direction::Backward => (matrix.rows, matrix.columns),
    };
    if (panels.k, panels.n) != (k, n) {
        *panels = Panels { lines: vec![C::Line::default(); C::lines(k, n)], k, n };
    }
    let lines = SharedMut::new(&mut panels.lines);
    let by_rows = direction == Direction::Backward && held.plain(matrix).is_none();
    let parts = if by_rows { matrix.rows.div_ceil(ROWS) } else { panel_count(n) };
    let step = if by_rows { ROWS } else { 1 };
    jobs.extend((0..parts).map(|part| PackJob { direction, held, matrix, lines, k, n, part: part * step }));
}

fn run<C: Arithmetic>(isa: Isa, pool: &mut Pool, jobs: &[PackJob<'_, C>]) {
    const TOGETHER: usize = 8;
    pool.run(jobs.len().div_ceil(TOGETHER), &|task| {
        let mut rows = Vec::new();
        for job in jobs.iter().skip(task * TOGETHER).take(TOGETHER) {
            job.run(isa, &mut rows);
        }
    });
}

impl<C: Arithmetic> PackJob<'_, C> {
    fn run(&self, isa: Isa, decoded: &mut Vec<f32>) {
        let Self { held, matrix, k, n, part, .. } = *self;
        let panel_lines = C::values(k);
        // SAFETY: jobs of one matrix write different panels, or different rows of all panels.
        let lines = |start: usize, length: usize| unsafe { self.lines.range(start, length) };
        match (self.direction, held.plain(matrix)) {
            (Direction::Forward, Some(values)) => {
                C::pack_weights(isa, values, k, n, part, lines(part * panel_lines, panel_lines));
            }
            (Direction::Backward, Some(data)) => {
                let rows = Rows::Single { data, stride: n };
                C::pack_columns(isa, rows, (k, n), part, lines(part * panel_lines, panel_lines));
            }
            (Direction::Forward, None) => {
                let rows = PANEL.min(n - part * PANEL);
                decoded.resize(rows * k, 0.0);
                held.rows(matrix, part * PANEL, decoded);
                C::pack_weights(isa, decoded, k, rows, 0, lines(part * panel_lines, panel_lines));
            }
            (Direction::Backward, None) => {
                let rows = ROWS.min(k - part);
                decoded.resize(rows * n, 0.0);
                held.rows(matrix, part, decoded);
                for panel in 0..panel_count(n) {
                    let source = Rows::Single { data: decoded, stride: n };
                    let out = lines(panel * panel_lines + part / C::STEPS, C::values(rows));
                    C::pack_columns(isa, source, (rows, n), panel, out);
                }
            }
        }
    }
}
