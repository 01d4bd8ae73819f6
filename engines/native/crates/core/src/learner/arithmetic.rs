//! What matrix products are computed in. Everything between products is f32; what goes into a product is stored as
//! values of the compute type: f32 itself, or two neighbouring bfloat16.

use crate::pool::grown;
use cupel_kernels::{
    gemm, gemm_pairs, interleave_pairs, pack_columns, pack_pair_columns, pack_pair_rows, pack_rows, panel_count,
    round_pairs, widen_pairs, Isa, Left, Line, PairLeft, PairLine, PANEL,
};

/// Rows of f32 or of stored values, `stride` units apart.
#[derive(Clone, Copy)]
pub enum Rows<'a, V> {
    Single { data: &'a [f32], stride: usize },
    Stored { data: &'a [V], stride: usize },
}

/// A type of matrix product. Shapes `(m, n, k)` and widths count numbers; strides of stored rows count values.
pub trait Arithmetic: Copy + Default + Send + Sync + 'static {
    /// Stored numbers: `STEPS` of them.
    type Value: Copy + Default + Send + Sync + 'static;
    /// `STEPS` steps of a panel.
    type Line: Copy + Default + Send + Sync + 'static;
    const STEPS: usize;

    /// Values that hold `width` numbers.
    fn values(width: usize) -> usize {
        width.div_ceil(Self::STEPS)
    }

    /// Lines of the panels of a right-hand matrix `[k, n]`.
    fn lines(k: usize, n: usize) -> usize {
        panel_count(n) * Self::values(k)
    }

    fn store(isa: Isa, x: &[f32], out: &mut [Self::Value]);

    fn load(isa: Isa, values: &[Self::Value], out: &mut [f32]);

    /// Values that are numbers.
    fn numbers(values: &mut [Self::Value]) -> Option<&mut [f32]>;

    /// Rows of `width` numbers as values: themselves, or rounded into `buffer`.
    fn stored<'a>(isa: Isa, x: &'a [f32], width: usize, buffer: &'a mut Vec<Self::Value>) -> &'a [Self::Value];

    /// Values as numbers: themselves, or widened into `buffer`.
    fn loaded<'a>(isa: Isa, values: &'a [Self::Value], buffer: &'a mut Vec<f32>) -> &'a [f32];

    /// Packs a panel of the transpose of `source[n, k]`, for `k` of `out.len() * STEPS` steps.
    fn pack_rows(source: &[Self::Value], stride: usize, n: usize, panel: usize, out: &mut [Self::Line]);

    /// As `pack_rows`, of rows of f32 of `k` numbers.
    fn pack_weights(isa: Isa, source: &[f32], k: usize, n: usize, panel: usize, out: &mut [Self::Line]);

    /// Packs a panel of `source[steps, n]`.
    fn pack_columns(
        isa: Isa,
        source: Rows<'_, Self::Value>,
        shape: (usize, usize),
        panel: usize,
        out: &mut [Self::Line],
    );

    /// `c[m, n] = a[m, k] · b[k, n]`, or `+=`.
    #[allow(clippy::too_many_arguments)]
    fn product(
        isa: Isa,
        shape: (usize, usize, usize),
        a: &[Self::Value],
        a_stride: usize,
        b: &[Self::Line],
        panel_stride: usize,
        c: &mut [f32],
        c_stride: usize,
        accumulate: bool,
    );

    /// `c[m, n] = aᵀ · b` of `a[k, m]`, or `+=`. `lines` is a buffer.
    #[allow(clippy::too_many_arguments)]
    fn product_of_columns(
        isa: Isa,
        shape: (usize, usize, usize),
        a: &[Self::Value],
        a_stride: usize,
        b: &[Self::Line],
        panel_stride: usize,
        c: &mut [f32],
        c_stride: usize,
        accumulate: bool,
        lines: &mut Vec<Self::Line>,
    );

    /// As `product_of_columns`, of `a` packed by `pack_columns`.
    #[allow(clippy::too_many_arguments)]
    fn product_of_panels(
        isa: Isa,
        shape: (usize, usize, usize),
        a: &[Self::Line],
        a_panel: usize,
        b: &[Self::Line],
        panel_stride: usize,
        c: &mut [f32],
        c_stride: usize,
        accumulate: bool,
    );
}

/// Products in f32.
#[derive(Debug, Clone, Copy, Default)]
pub struct Single;

/// Products of bfloat16, summed in f32.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pairs;

impl Arithmetic for Single {
    type Value = f32;
    type Line = Line;
    const STEPS: usize = 1;

    fn store(_: Isa, x: &[f32], out: &mut [f32]) {
        out.copy_from_slice(x);
    }

    fn load(_: Isa, values: &[f32], out: &mut [f32]) {
        out.copy_from_slice(values);
    }

    fn numbers(values: &mut [f32]) -> Option<&mut [f32]> {
        Some(values)
    }

    fn stored<'a>(_: Isa, x: &'a [f32], _: usize, _: &'a mut Vec<f32>) -> &'a [f32] {
        x
    }

    fn loaded<'a>(_: Isa, values: &'a [f32], _: &'a mut Vec<f32>) -> &'a [f32] {
        values
    }

    fn pack_rows(source: &[f32], stride: usize, n: usize, panel: usize, out: &mut [Line]) {
        pack_rows(source, stride, n, panel, out);
    }

    fn pack_weights(_: Isa, source: &[f32], k: usize, n: usize, panel: usize, out: &mut [Line]) {
        pack_rows(source, k, n, panel, out);
    }

    fn pack_columns(_: Isa, source: Rows<'_, f32>, (steps, n): (usize, usize), panel: usize, out: &mut [Line]) {
        let (Rows::Single { data, stride } | Rows::Stored { data, stride }) = source;
        pack_columns(data, stride, n, panel, &mut out[..steps]);
    }

    fn product(
        isa: Isa,
        shape: (usize, usize, usize),
        a: &[f32],
        a_stride: usize,
        b: &[Line],
        panel_stride: usize,
        c: &mut [f32],
        c_stride: usize,
        accumulate: bool,
    ) {
        gemm(isa, shape, Left::rows(a, a_stride), b, panel_stride, c, c_stride, accumulate);
    }

    fn product_of_columns(
        isa: Isa,
        shape: (usize, usize, usize),
        a: &[f32],
        a_stride: usize,
        b: &[Line],
        panel_stride: usize,
        c: &mut [f32],
        c_stride: usize,
        accumulate: bool,
        _: &mut Vec<Line>,
    ) {
        gemm(isa, shape, Left::columns(a, a_stride), b, panel_stride, c, c_stride, accumulate);
    }

    fn product_of_panels(
        isa: Isa,
        (m, n, k): (usize, usize, usize),
        a: &[Line],
        a_panel: usize,
        b: &[Line],
        panel_stride: usize,
        c: &mut [f32],
        c_stride: usize,
        accumulate: bool,
    ) {
        for (panel, row) in (0..m).step_by(PANEL).enumerate() {
            let lines = &a[panel * a_panel..][..k];
            // SAFETY: a line is 16 numbers without padding.
            let numbers = unsafe { std::slice::from_raw_parts(lines.as_ptr().cast::<f32>(), lines.len() * PANEL) };
            let shape = (PANEL.min(m - row), n, k);
            let c = &mut c[row * c_stride..];
            gemm(isa, shape, Left::columns(numbers, PANEL), b, panel_stride, c, c_stride, accumulate);
        }
    }
}

impl Arithmetic for Pairs {
    type Value = u32;
    type Line = PairLine;
    const STEPS: usize = 2;

    fn store(isa: Isa, x: &[f32], out: &mut [u32]) {
        round_pairs(isa, x, out);
    }

    fn load(isa: Isa, values: &[u32], out: &mut [f32]) {
        widen_pairs(isa, values, out);
    }

    fn numbers(_: &mut [u32]) -> Option<&mut [f32]> {
        None
    }

    fn stored<'a>(isa: Isa, x: &'a [f32], width: usize, buffer: &'a mut Vec<u32>) -> &'a [u32] {
        let out = grown(buffer, x.len() / width * Self::values(width));
        if width.is_multiple_of(2) {
            round_pairs(isa, x, out);
        } else {
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(Self::values(width))) {
                round_pairs(isa, x, out);
            }
        }
        out
    }

    fn loaded<'a>(isa: Isa, values: &'a [u32], buffer: &'a mut Vec<f32>) -> &'a [f32] {
        let out = grown(buffer, values.len() * 2);
        widen_pairs(isa, values, out);
        out
    }

    fn pack_rows(source: &[u32], stride: usize, n: usize, panel: usize, out: &mut [PairLine]) {
        pack_pair_rows(source, stride, n, panel, out);
    }

    fn pack_weights(isa: Isa, source: &[f32], k: usize, n: usize, panel: usize, out: &mut [PairLine]) {
        // Runs of steps, so that the rounded rows stay in the first-level cache.
        const RUN: usize = 256;
        let mut rounded = [0u32; PANEL * RUN / 2];
        let first = panel * PANEL;
        let width = PANEL.min(n - first);
        for (start, out) in (0..k).step_by(RUN).zip(out.chunks_mut(RUN / 2)) {
            let length = RUN.min(k - start);
            for row in 0..width {
                let source = &source[(first + row) * k + start..][..length];
                round_pairs(isa, source, &mut rounded[row * RUN / 2..][..length.div_ceil(2)]);
            }
            pack_pair_rows(&rounded, RUN / 2, width, 0, out);
        }
    }

    fn pack_columns(isa: Isa, source: Rows<'_, u32>, shape: (usize, usize), panel: usize, out: &mut [PairLine]) {
        match source {
            Rows::Single { data, stride } => pack_pair_columns(isa, data, stride, shape, panel, out),
            Rows::Stored { data, stride } => interleave_pairs(isa, data, stride, shape, panel, out),
        }
    }

    fn product(
        isa: Isa,
        (m, n, k): (usize, usize, usize),
        data: &[u32],
        stride: usize,
        b: &[PairLine],
        panel_stride: usize,
        c: &mut [f32],
        c_stride: usize,
        accumulate: bool,
    ) {
        let shape = (m, n, k.div_ceil(2));
        gemm_pairs(isa, shape, PairLeft::Rows { data, stride }, b, panel_stride, c, c_stride, accumulate);
    }

    fn product_of_columns(
        isa: Isa,
        (m, n, k): (usize, usize, usize),
        a: &[u32],
        a_stride: usize,
        b: &[PairLine],
        panel_stride: usize,
        c: &mut [f32],
        c_stride: usize,
        accumulate: bool,
        lines: &mut Vec<PairLine>,
    ) {
        let panel = Self::values(k);
        let lines = grown(lines, panel_count(m) * panel);
        for (number, out) in lines.chunks_exact_mut(panel).enumerate() {
            interleave_pairs(isa, a, a_stride, (k, m), number, out);
        }
        Self::product_of_panels(isa, (m, n, k), lines, panel, b, panel_stride, c, c_stride, accumulate);
    }

    fn product_of_panels(
        isa: Isa,
        (m, n, k): (usize, usize, usize),
        lines: &[PairLine],
        panel: usize,
        b: &[PairLine],
        panel_stride: usize,
        c: &mut [f32],
        c_stride: usize,
        accumulate: bool,
    ) {
        let shape = (m, n, k.div_ceil(2));
        gemm_pairs(isa, shape, PairLeft::Panels { lines, panel }, b, panel_stride, c, c_stride, accumulate);
    }
}
