//! The product in bfloat16 for training, a compute type of its own. Two steps of `k` lie together in 32 bits, the even
//! one low. An output is one chain over the pairs in index order, started from zero or from the value already there:
//! first the product of the odd steps is added to it by a fused multiply-add, then that of the even steps. Subnormal
//! numbers are zero before and after every addition. That is what AVX-512's VDPBF16PS does; machines without it do the
//! same with their vectors, slower. Tile, block, batch and thread touch no chain.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod pack;
mod values;

use crate::gemm::{panel_count, PANEL};
use crate::gemm_tiles::group;
use crate::Isa;
pub use pack::{interleave_pairs, pack_pair_columns, pack_pair_rows};
use values::{flush, high, low};
pub use values::{round_pairs, widen_pairs};

/// Pairs of a block: the panels of a tile and its rows then stay in the first-level cache.
const BLOCK: usize = 128;

/// One pair of steps of a panel: 16 neighbouring output columns.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C, align(64))]
pub struct PairLine(pub [u32; PANEL]);

/// The left-hand matrix.
#[derive(Clone, Copy)]
pub enum PairLeft<'a> {
    /// Row-major: pair `(row, pair)` is `data[row * stride + pair]`.
    Rows { data: &'a [u32], stride: usize },
    /// Panels of 16 rows, `panel` lines apart: pair `(row, pair)` is `lines[row / 16 * panel + pair].0[row % 16]`.
    Panels { lines: &'a [PairLine], panel: usize },
}

/// Whether the machine has the instruction; else `gemm_pairs` is slower than the product in f32.
pub fn pairs_are_fast(isa: Isa) -> bool {
    #[cfg(target_arch = "x86_64")]
    return isa.float() == Isa::Avx512 && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = isa;
        false
    }
}

/// `c[m, n] = a[m, 2 pairs] · b[2 pairs, n]`, or `+=` with `accumulate`. `b` holds panels `panel_stride` lines apart,
/// the rows of `c` lie `c_stride` apart.
///
/// # Panics
/// If a slice is too short for the shape.
#[allow(clippy::too_many_arguments)]
pub fn gemm_pairs(
    isa: Isa,
    (m, n, pairs): (usize, usize, usize),
    a: PairLeft<'_>,
    b: &[PairLine],
    panel_stride: usize,
    c: &mut [f32],
    c_stride: usize,
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(c_stride >= n && c.len() >= (m - 1) * c_stride + n, "output too short");
    if pairs == 0 {
        if !accumulate {
            (0..m).for_each(|row| c[row * c_stride..][..n].fill(0.0));
        }
        return;
    }
    match a {
        PairLeft::Rows { data, stride } => assert!(data.len() >= (m - 1) * stride + pairs, "left matrix too short"),
        PairLeft::Panels { lines, panel } => {
            assert!(pairs <= panel && lines.len() >= (panel_count(m) - 1) * panel + pairs, "left matrix too short");
        }
    }
    assert!(pairs <= panel_stride && b.len() >= (panel_count(n) - 1) * panel_stride + pairs, "panels too short");
    let fast = pairs_are_fast(isa);
    let (rows, panels) = if fast { (8, 3) } else { (1, 1) };
    let group = group(m, panels).min(panel_count(n));
    for first in (0..panel_count(n)).step_by(group) {
        for step in (0..pairs).step_by(BLOCK) {
            for panel in (first..(first + group).min(panel_count(n))).step_by(panels) {
                let column = panel * PANEL;
                for row in (0..m).step_by(rows) {
                    // SAFETY: the assertions above hold every element of the tile inside the slices.
                    let tile = unsafe {
                        let (start, a_row, a_step) = match a {
                            PairLeft::Rows { data, stride } => (data.as_ptr().add(row * stride + step), stride, 1),
                            PairLeft::Panels { lines, panel } => {
                                let line = lines.as_ptr().add(row / PANEL * panel + step);
                                (line.cast::<u32>().add(row % PANEL), 1, PANEL)
                            }
                        };
                        Tile {
                            pairs: BLOCK.min(pairs - step),
                            a: start,
                            a_row,
                            a_step,
                            b: b.as_ptr().add(panel * panel_stride + step),
                            b_panel: panel_stride,
                            c: c.as_mut_ptr().add(row * c_stride + column),
                            c_row: c_stride,
                            columns: (panels * PANEL).min(n - column),
                            accumulate: accumulate || step > 0,
                        }
                    };
                    let height = rows.min(m - row);
                    // SAFETY: as above; the instruction was asked for.
                    unsafe {
                        #[cfg(target_arch = "x86_64")]
                        if fast {
                            avx512::fast_tile(height, &tile);
                            continue;
                        }
                        plain_tile(isa, height, &tile);
                    }
                }
            }
        }
    }
}

/// Shape of one tile call.
struct Tile {
    pairs: usize,
    a: *const u32,
    a_row: usize,
    a_step: usize,
    b: *const PairLine,
    b_panel: usize,
    c: *mut f32,
    c_row: usize,
    columns: usize,
    accumulate: bool,
}

/// The reference: at most one panel.
unsafe fn plain_tile(isa: Isa, rows: usize, tile: &Tile) {
    for row in 0..rows {
        let c = tile.c.add(row * tile.c_row);
        let mut sums = [0.0f32; PANEL];
        if tile.accumulate {
            std::ptr::copy_nonoverlapping(c, sums.as_mut_ptr(), tile.columns);
        }
        let lines = std::slice::from_raw_parts(tile.b, tile.pairs);
        let left = std::slice::from_raw_parts(tile.a.add(row * tile.a_row), (tile.pairs - 1) * tile.a_step + 1);
        chain(isa, left, tile.a_step, lines, &mut sums);
        std::ptr::copy_nonoverlapping(sums.as_ptr(), c, tile.columns);
    }
}

crate::rows::kernel! {
    fn chain(left: &[u32], step: usize, lines: &[PairLine], sums: &mut [f32; PANEL]) {
        for (index, line) in lines.iter().enumerate() {
            let pair = left[index * step];
            let (even, odd) = (flush(low(pair)), flush(high(pair)));
            for (sum, right) in sums.iter_mut().zip(line.0) {
                let first = flush(odd.mul_add(flush(high(right)), flush(*sum)));
                *sum = flush(even.mul_add(flush(low(right)), first));
            }
        }
    }
}
