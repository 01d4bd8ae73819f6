//! Matrix product whose every output element is one chain of fused multiply-adds over `k` in index order,
//! started from zero or from the value already there. Vectors run over output columns, tiles over output
//! rows and columns, blocks of `k` hand their exact partial sums through memory; none of them touches the
//! chain of an element, so tile, batch, thread and instruction set can not change a bit.

use super::Isa;

/// Columns of a packed panel.
pub const PANEL: usize = 16;
/// Length of a block of `k`: the panels of a tile and its rows then stay in the first-level cache.
const BLOCK: usize = 128;

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

/// Shape of one tile call.
#[derive(Clone, Copy)]
struct Tile {
    k: usize,
    a: *const f32,
    a_row: usize,
    a_step: usize,
    b: *const f32,
    /// Floats from one panel to the next.
    b_panel: usize,
    c: *mut f32,
    c_row: usize,
    columns: usize,
    accumulate: bool,
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
    let (rows, panels) = tile_shape(isa, m);
    for step in (0..k).step_by(BLOCK) {
        for panel in (0..panel_count(n)).step_by(panels) {
            let column = panel * PANEL;
            for row in (0..m).step_by(rows) {
                let tile = Tile {
                    k: BLOCK.min(k - step),
                    // SAFETY: offsets of elements inside the slices, by the assertions above.
                    a: unsafe { a.data.as_ptr().add(row * a.row_stride + step * a.step_stride) },
                    a_row: a.row_stride,
                    a_step: a.step_stride,
                    // SAFETY: as above.
                    b: unsafe { b.as_ptr().add(panel * panel_stride + step).cast() },
                    b_panel: panel_stride * PANEL,
                    // SAFETY: as above.
                    c: unsafe { c.as_mut_ptr().add(row * c_stride + column) },
                    c_row: c_stride,
                    columns: (panels * PANEL).min(n - column),
                    accumulate: accumulate || step > 0,
                };
                // SAFETY: the tile stays inside the asserted bounds; `isa` is one that the machine has.
                unsafe { run_tile(isa, rows.min(m - row), panel_count(tile.columns), &tile) };
            }
        }
    }
}

/// Rows and panels of a tile: as many as the registers hold; few rows take more panels so that the chains in
/// flight cover the latency of an addition.
fn tile_shape(isa: Isa, m: usize) -> (usize, usize) {
    match (isa, m) {
        (Isa::Avx512, 1..=2) => (2, 4),
        (Isa::Avx512, _) => (12, 2),
        (Isa::Avx2, 1) => (1, 4),
        (Isa::Avx2, 2..=3) => (3, 2),
        (Isa::Avx2, _) => (6, 1),
        (Isa::Scalar, _) => (4, 1),
    }
}

macro_rules! by_rows {
    ($tile:ident, $rows:expr, $panels:literal, $mode:literal, $arguments:expr, [$($r:literal)*]) => {
        match $rows {
            $($r => $tile::<$r, $panels, $mode>($arguments),)*
            _ => unreachable!("tile rows"),
        }
    };
}

unsafe fn run_tile(isa: Isa, rows: usize, panels: usize, tile: &Tile) {
    // Mode 0: the left matrix runs along k; mode 1: across rows.
    let along = tile.a_step == 1;
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => match (panels, along) {
            (1, true) => by_rows!(tile_avx512, rows, 1, 0, tile, [1 2 3 4 5 6 7 8 9 10 11 12]),
            (1, false) => by_rows!(tile_avx512, rows, 1, 1, tile, [1 2 3 4 5 6 7 8 9 10 11 12]),
            (2, true) => by_rows!(tile_avx512, rows, 2, 0, tile, [1 2 3 4 5 6 7 8 9 10 11 12]),
            (2, false) => by_rows!(tile_avx512, rows, 2, 1, tile, [1 2 3 4 5 6 7 8 9 10 11 12]),
            (3, true) => by_rows!(tile_avx512, rows, 3, 0, tile, [1 2]),
            (3, false) => by_rows!(tile_avx512, rows, 3, 1, tile, [1 2]),
            (_, true) => by_rows!(tile_avx512, rows, 4, 0, tile, [1 2]),
            (_, false) => by_rows!(tile_avx512, rows, 4, 1, tile, [1 2]),
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => match (panels, along) {
            (1, true) => by_rows!(tile_avx2, rows, 1, 0, tile, [1 2 3 4 5 6]),
            (1, false) => by_rows!(tile_avx2, rows, 1, 1, tile, [1 2 3 4 5 6]),
            (2, true) => by_rows!(tile_avx2, rows, 2, 0, tile, [1 2 3]),
            (2, false) => by_rows!(tile_avx2, rows, 2, 1, tile, [1 2 3]),
            (3, true) => by_rows!(tile_avx2, rows, 3, 0, tile, [1]),
            (3, false) => by_rows!(tile_avx2, rows, 3, 1, tile, [1]),
            (_, true) => by_rows!(tile_avx2, rows, 4, 0, tile, [1]),
            (_, false) => by_rows!(tile_avx2, rows, 4, 1, tile, [1]),
        },
        _ => by_rows!(tile_scalar, rows, 1, 0, tile, [1 2 3 4]),
    }
}

/// The reference: what every other tile must equal bit by bit.
unsafe fn tile_scalar<const R: usize, const P: usize, const MODE: usize>(tile: &Tile) {
    for row in 0..R {
        let c = tile.c.add(row * tile.c_row);
        let mut sums = [0.0f32; PANEL];
        if tile.accumulate {
            std::ptr::copy_nonoverlapping(c, sums.as_mut_ptr(), tile.columns);
        }
        for step in 0..tile.k {
            let a = *tile.a.add(row * tile.a_row + step * tile.a_step);
            let b = &*tile.b.add(step * PANEL).cast::<[f32; PANEL]>();
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = a.mul_add(*b, *sum);
            }
        }
        std::ptr::copy_nonoverlapping(sums.as_ptr(), c, tile.columns);
    }
}

macro_rules! vector_tile {
    ($name:ident, $features:literal, $vector:ty, $width:literal, $zero:ident, $load:ident, $store:ident, $splat:ident, $fma:ident) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $name<const R: usize, const P: usize, const MODE: usize>(tile: &Tile) {
            use std::arch::x86_64::*;
            const PER: usize = PANEL / $width;
            let mut sums: [[[$vector; PER]; P]; R] = [[[$zero(); PER]; P]; R];
            let whole = tile.columns == P * PANEL;
            if tile.accumulate {
                for row in 0..R {
                    let c = tile.c.add(row * tile.c_row);
                    let mut edge = [[0.0f32; PANEL]; P];
                    let from = if whole {
                        c.cast_const()
                    } else {
                        std::ptr::copy_nonoverlapping(c, edge.as_mut_ptr().cast(), tile.columns);
                        edge.as_ptr().cast()
                    };
                    for panel in 0..P {
                        for part in 0..PER {
                            sums[row][panel][part] = $load(from.add(panel * PANEL + part * $width));
                        }
                    }
                }
            }
            let (a_row, a_step) = if MODE == 0 { (tile.a_row, 1) } else { (1, tile.a_step) };
            let (mut a, mut b) = (tile.a, tile.b);
            for _ in 0..tile.k {
                let mut right: [[$vector; PER]; P] = [[$zero(); PER]; P];
                for panel in 0..P {
                    for part in 0..PER {
                        right[panel][part] = $load(b.add(panel * tile.b_panel + part * $width));
                    }
                }
                for row in 0..R {
                    let left = $splat(*a.add(row * a_row));
                    for panel in 0..P {
                        for part in 0..PER {
                            sums[row][panel][part] = $fma(left, right[panel][part], sums[row][panel][part]);
                        }
                    }
                }
                a = a.wrapping_add(a_step);
                b = b.wrapping_add(PANEL);
            }
            for row in 0..R {
                let c = tile.c.add(row * tile.c_row);
                let mut edge = [[0.0f32; PANEL]; P];
                let to = if whole { c } else { edge.as_mut_ptr().cast() };
                for panel in 0..P {
                    for part in 0..PER {
                        $store(to.add(panel * PANEL + part * $width), sums[row][panel][part]);
                    }
                }
                if !whole {
                    std::ptr::copy_nonoverlapping(edge.as_ptr().cast(), c, tile.columns);
                }
            }
        }
    };
}

vector_tile!(
    tile_avx2,
    "avx2,fma",
    __m256,
    8,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps
);
vector_tile!(
    tile_avx512,
    "avx512f,avx512vl,avx512dq,avx512bw",
    __m512,
    16,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps
);
