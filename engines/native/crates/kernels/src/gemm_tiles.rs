//! Tiles of the floating-point product: some rows times some panels over a block of `k`.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::gemm::{panel_count, Left, Line, PANEL};
use super::half::{bf16_to_f32, half_to_f32};
use super::Isa;

/// Length of a block of `k`: the panels of a tile and its rows then stay in the first-level cache.
const BLOCK: usize = 128;

/// Up to as many rows the left matrix stays near whatever the order.
const FEW: usize = 64;

/// Bytes of outputs that pass through all blocks of `k` before the next ones: a part of the second-level cache.
const OUTPUTS: usize = 384 << 10;

/// How an element of the right matrix is stored; it is widened to f32 exactly.
pub(crate) trait Element {
    const BYTES: usize;
    /// # Safety
    /// One element can be read.
    unsafe fn scalar(at: *const u8) -> f32;
    /// # Safety
    /// Eight elements can be read; the machine has AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx2(at: *const u8) -> __m256;
    /// # Safety
    /// Sixteen elements can be read; the machine has AVX-512.
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx512(at: *const u8) -> __m512;
}

macro_rules! element {
    ($name:ident, $bytes:literal, |$at:ident| $scalar:expr, $avx2:expr, $avx512:expr) => {
        pub(crate) struct $name;
        impl Element for $name {
            const BYTES: usize = $bytes;
            #[inline(always)]
            unsafe fn scalar($at: *const u8) -> f32 {
                $scalar
            }
            #[cfg(target_arch = "x86_64")]
            #[inline]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($at: *const u8) -> __m256 {
                $avx2
            }
            #[cfg(target_arch = "x86_64")]
            #[inline]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
            unsafe fn avx512($at: *const u8) -> __m512 {
                $avx512
            }
        }
    };
}

element!(F32, 4, |at| at.cast::<f32>().read(), _mm256_loadu_ps(at.cast()), _mm512_loadu_ps(at.cast()));
element!(
    F16,
    2,
    |at| half_to_f32(at.cast::<u16>().read()),
    _mm256_cvtph_ps(_mm_loadu_si128(at.cast())),
    _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()))
);
element!(
    Bf16,
    2,
    |at| bf16_to_f32(at.cast::<u16>().read()),
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast())))),
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()))))
);

/// Packed panels: `start` is the first line, panels lie `panel` bytes apart.
#[derive(Clone, Copy)]
pub(crate) struct Right {
    pub start: *const u8,
    pub panel: usize,
}

impl Right {
    /// Panels of f32 `panel_stride` lines apart.
    pub fn lines(lines: &[Line], panel_stride: usize) -> Self {
        Self { start: lines.as_ptr().cast(), panel: panel_stride * size_of::<Line>() }
    }
}

/// Shape of one tile call.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
struct Tile {
    k: usize,
    a: *const f32,
    a_row: usize,
    a_step: usize,
    b: *const u8,
    /// Bytes from one panel to the next.
    b_panel: usize,
    c: *mut f32,
    c_row: usize,
    columns: usize,
    accumulate: bool,
    /// Bytes from these panels to those that memory should be asked for, or 0.
    ahead: usize,
}

/// # Safety
/// `k` and the shape are not empty; `a`, `b` and `c` hold every element of it, and nothing else reaches those of `c`.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn run_tiles<E: Element>(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    a: Left<'_>,
    b: Right,
    c: *mut f32,
    c_stride: usize,
    accumulate: bool,
) {
    let isa = isa.float();
    let (rows, panels) = tile_shape(isa, m);
    // Few rows pass through whole panels, which then stream from memory in order; many rows pass through a block of all
    // panels, so that their part of the left matrix stays near.
    let block = if m <= 2 { k } else { BLOCK };
    let group = group(m, panels).min(panel_count(n));
    for first in (0..panel_count(n)).step_by(group) {
        for step in (0..k).step_by(block) {
            for panel in (first..(first + group).min(panel_count(n))).step_by(panels) {
                let column = panel * PANEL;
                for row in (0..m).step_by(rows) {
                    let tile = Tile {
                        k: block.min(k - step),
                        a: a.data.as_ptr().add(row * a.row_stride + step * a.step_stride),
                        a_row: a.row_stride,
                        a_step: a.step_stride,
                        b: b.start.add(panel * b.panel + step * PANEL * E::BYTES),
                        b_panel: b.panel,
                        c: c.add(row * c_stride + column),
                        c_row: c_stride,
                        columns: (panels * PANEL).min(n - column),
                        accumulate: accumulate || step > 0,
                        ahead: if group == panels && row == 0 { panels * b.panel } else { 0 },
                    };
                    run_tile::<E>(isa, rows.min(m - row), panel_count(tile.columns), &tile);
                }
            }
        }
    }
}

/// Panels that pass through all blocks of `k` before the next ones, a multiple of those of a tile.
pub(crate) fn group(m: usize, panels: usize) -> usize {
    if m <= FEW {
        return panels;
    }
    (OUTPUTS / (m * PANEL * size_of::<f32>())).max(1).next_multiple_of(panels)
}

/// Rows and panels of a tile: as many as the registers hold; few rows take more panels so that the chains in
/// flight cover the latency of an addition.
pub(crate) fn tile_shape(isa: Isa, m: usize) -> (usize, usize) {
    match (isa.float(), m) {
        (Isa::Avx512, 1..=2) => (2, 4),
        (Isa::Avx512, _) => (12, 2),
        (Isa::Avx2, 1) => (1, 4),
        (Isa::Avx2, 2..=3) => (3, 2),
        (Isa::Avx2, _) => (6, 1),
        _ => (4, 1),
    }
}

macro_rules! by_rows {
    ($tile:ident, $rows:expr, $panels:literal, $mode:literal, $arguments:expr, [$($r:literal)*]) => {
        match $rows {
            $($r => $tile::<E, $r, $panels, $mode>($arguments),)*
            _ => unreachable!("tile rows"),
        }
    };
}

#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
unsafe fn run_tile<E: Element>(isa: Isa, rows: usize, panels: usize, tile: &Tile) {
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
unsafe fn tile_scalar<E: Element, const R: usize, const P: usize, const MODE: usize>(tile: &Tile) {
    for row in 0..R {
        let c = tile.c.add(row * tile.c_row);
        let mut sums = [0.0f32; PANEL];
        if tile.accumulate {
            std::ptr::copy_nonoverlapping(c, sums.as_mut_ptr(), tile.columns);
        }
        for step in 0..tile.k {
            let a = *tile.a.add(row * tile.a_row + step * tile.a_step);
            let b = tile.b.add(step * PANEL * E::BYTES);
            for (column, sum) in sums.iter_mut().enumerate() {
                *sum = a.mul_add(E::scalar(b.add(column * E::BYTES)), *sum);
            }
        }
        std::ptr::copy_nonoverlapping(sums.as_ptr(), c, tile.columns);
    }
}

macro_rules! vector_tile {
    ($name:ident, $features:literal, $vector:ty, $width:literal, $zero:ident, $right:ident, $load:ident, $store:ident, $splat:ident, $fma:ident) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $name<E: Element, const R: usize, const P: usize, const MODE: usize>(tile: &Tile) {
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
                if tile.ahead > 0 && b.addr() % 64 == 0 {
                    for panel in 0..P {
                        _mm_prefetch::<_MM_HINT_T1>(b.wrapping_add(panel * tile.b_panel + tile.ahead).cast());
                    }
                }
                let mut right: [[$vector; PER]; P] = [[$zero(); PER]; P];
                for panel in 0..P {
                    for part in 0..PER {
                        right[panel][part] = E::$right(b.add(panel * tile.b_panel + part * $width * E::BYTES));
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
                b = b.wrapping_add(PANEL * E::BYTES);
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
    "avx2,fma,f16c",
    __m256,
    8,
    _mm256_setzero_ps,
    avx2,
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
    avx512,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps
);
