//! Matrix product whose every output element is one chain of fused multiply-adds over `k` in index order,
//! started from zero or from the value already there. Vectors run over output columns, tiles over output
//! rows and columns, blocks of `k` hand their exact partial sums through memory; none of them touches the
//! chain of an element, so tile, batch, thread and instruction set can not change a bit.

use std::ops::Range;

use super::gemm_tiles::{run_tiles, tile_shape, Right, F32};
use super::{Isa, Out};

/// Columns of a packed panel.
pub const PANEL: usize = 16;
/// One step of `k` of a panel: 16 neighbouring output columns.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C, align(64))]
pub struct Line(pub [f32; PANEL]);

/// Panels that cover `columns` columns.
pub fn panel_count(columns: usize) -> usize {
    columns.div_ceil(PANEL)
}

/// A right-hand matrix `[k, n]` packed as panels `[n / 16][k]` of lines; missing columns are zero.
#[derive(Debug, Clone, Default)]
pub struct Panels {
    pub lines: Vec<Line>,
    pub k: usize,
    pub n: usize,
}

impl Panels {
    pub fn zeroed(k: usize, n: usize) -> Self {
        Self { lines: vec![Line::default(); k * panel_count(n)], k, n }
    }
}

/// Packs panel `panel` of the transpose of row-major `source[n, k]` (row stride `stride`) into `out[k]`.
pub fn pack_rows(source: &[f32], stride: usize, n: usize, panel: usize, out: &mut [Line]) {
    let first = panel * PANEL;
    let width = PANEL.min(n - first);
    let k = out.len();
    if width < PANEL {
        out.fill(Line::default());
    }
    // Eight steps of k at a time: each source row then gives a contiguous run instead of one element.
    for start in (0..k).step_by(8) {
        let end = (start + 8).min(k);
        for column in 0..width {
            let row = &source[(first + column) * stride..][start..end];
            for (line, value) in out[start..end].iter_mut().zip(row) {
                line.0[column] = *value;
            }
        }
    }
}

/// Packs panel `panel` of row-major `source[k, n]` (row stride `stride`) into `out[k]`.
pub fn pack_columns(source: &[f32], stride: usize, n: usize, panel: usize, out: &mut [Line]) {
    let first = panel * PANEL;
    let width = PANEL.min(n - first);
    for (step, line) in out.iter_mut().enumerate() {
        let row = &source[step * stride + first..];
        if let Some(full) = row.first_chunk::<PANEL>().filter(|_| width == PANEL) {
            line.0 = *full;
        } else {
            *line = Line::default();
            line.0[..width].copy_from_slice(&row[..width]);
        }
    }
}

/// Packs `rows` columns from `first` of row-major `source[steps, stride]` so that a transposed left matrix of one
/// tile is contiguous: `out[step * tile..][..rows]`.
pub fn pack_left(source: &[f32], stride: usize, first: usize, rows: usize, tile: usize, out: &mut [f32]) {
    match (rows, tile) {
        (12, 12) => pack_left_fixed::<12>(source, stride, first, out),
        (6, 6) => pack_left_fixed::<6>(source, stride, first, out),
        _ => {
            for (step, packed) in out.chunks_exact_mut(tile).enumerate() {
                let row = &source[step * stride + first..][..rows];
                packed.iter_mut().zip(row).for_each(|(packed, value)| *packed = *value);
            }
        }
    }
}

fn pack_left_fixed<const R: usize>(source: &[f32], stride: usize, first: usize, out: &mut [f32]) {
    for (step, packed) in out.as_chunks_mut::<R>().0.iter_mut().enumerate() {
        if let Some(row) = source[step * stride + first..].first_chunk::<R>() {
            *packed = *row;
        }
    }
}

/// Rows of the widest tile.
pub fn tile_rows(isa: Isa) -> usize {
    tile_shape(isa, usize::MAX).0
}

/// The left-hand matrix: element `(row, step)` is `data[row * row_stride + step * step_stride]`, and one of
/// the strides is 1.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub step_stride: usize,
}

impl<'a> Left<'a> {
    /// A row-major matrix.
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, row_stride: stride, step_stride: 1 }
    }

    /// The transpose of a row-major matrix.
    pub fn columns(data: &'a [f32], stride: usize) -> Self {
        Self { data, row_stride: 1, step_stride: stride }
    }
}

/// `c[m, n] = a[m, k] · b[k, n]`, or `+=` with `accumulate`. `b` holds panels `panel_stride` lines apart, the
/// rows of `c` lie `c_stride` apart.
///
/// # Panics
/// If a slice is too short for the shape.
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    a: Left<'_>,
    b: &[Line],
    panel_stride: usize,
    c: &mut [f32],
    c_stride: usize,
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(a.row_stride == 1 || a.step_stride == 1, "left matrix without a unit stride");
    assert!(k == 0 || a.data.len() > (m - 1) * a.row_stride + (k - 1) * a.step_stride, "left matrix too short");
    assert!(k <= panel_stride && b.len() >= (panel_count(n) - 1) * panel_stride + k, "panels too short");
    assert!(c_stride >= n && c.len() >= (m - 1) * c_stride + n, "output too short");
    if k == 0 {
        if !accumulate {
            (0..m).for_each(|row| c[row * c_stride..][..n].fill(0.0));
        }
        return;
    }
    // SAFETY: the assertions above hold every element of the tiles inside the slices.
    unsafe { run_tiles::<F32>(isa, (m, n, k), a, Right::lines(b, panel_stride), c.as_mut_ptr(), c_stride, accumulate) };
}

/// The product of `gemm` for rows `rows` of `a` and panels `panels` of `b`: writes
/// `out[row, panel * 16 ..]`, or adds to it with `accumulate`, with the bits of `gemm`.
///
/// # Safety
/// No other task may reach these rows and columns of `out` meanwhile.
///
/// # Panics
/// If `a` or `out` is too short for the shape, or `panels` ends behind the last panel.
pub unsafe fn gemm_into(
    isa: Isa,
    a: Left<'_>,
    rows: Range<usize>,
    b: &Panels,
    panels: Range<usize>,
    out: Out<'_>,
    accumulate: bool,
) {
    if rows.is_empty() || panels.is_empty() {
        return;
    }
    assert!(panels.end <= panel_count(b.n), "panels outside of the matrix");
    let first = panels.start * PANEL;
    let (m, n, k) = (rows.len(), (panels.end * PANEL).min(b.n) - first, b.k);
    assert!(a.row_stride == 1 || a.step_stride == 1, "left matrix without a unit stride");
    let c = out.block(rows.start, first, m, n);
    if k == 0 {
        for row in rows.filter(|_| !accumulate) {
            out.at(row, first, n).fill(0.0);
        }
        return;
    }
    assert!(a.data.len() > (rows.end - 1) * a.row_stride + (k - 1) * a.step_stride, "left matrix too short");
    assert!(b.lines.len() >= panels.end * k, "panels too short");
    let a = Left { data: &a.data[rows.start * a.row_stride..], ..a };
    run_tiles::<F32>(isa, (m, n, k), a, Right::lines(&b.lines[panels.start * k..], k), c, out.stride, accumulate);
}
