//! The block product with AVX2. `vpmaddubsw` adds two products of an unsigned and a signed byte into 16 bits and
//! saturates, so what it is given must be small:
//!
//! - 8-bit weights are signed again: |w| <= 128 times the activation with the sign of `w`, at most 2 * 128 * 127 = 32512;
//! - weights of 4, 5 and 6 bits are unsigned and below 16, 32 and 64, and sums of 8, 4 and 2 steps fit too.

// Index loops over fixed tiles are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::block_kind::BlockKind;
use super::block_panels::{BlockPanels, Sizes};
use super::block_rows::{BlockRows, Head, BLOCK};
use super::gemm::PANEL;
use super::kinds::{by_kind, Kind};
use super::walk::walk;

/// Rows of the tallest tile.
const ROWS: usize = 3;

/// One tile: up to `ROWS` rows of one panel.
struct Tile {
    blocks: usize,
    quants: *const i8,
    heads: *const Head,
    weights: *const u8,
    scales: *const u8,
    minima: *const u8,
    c: *mut f32,
    c_row: usize,
    columns: usize,
    accumulate: bool,
    /// Blocks from these weights to those to ask for, or 0.
    ahead: usize,
}

/// What to subtract from a stored byte so that it is small and unsigned, the zero point that then remains as a shift of
/// `Head::low`, and how many steps fit a sum of 16 bits.
const fn narrow(kind: BlockKind) -> (u8, u32, usize) {
    match kind {
        BlockKind::Q8_0 => (0, 0, 1),
        BlockKind::Q4_0 => (0, 4, 8),
        BlockKind::Q5_0 => (128 - 16, 3, 4),
        BlockKind::Q6K => (128 - 32, 2, 2),
        BlockKind::Q4_1 | BlockKind::Q4K => (0, 0, 8),
        BlockKind::Q5_1 | BlockKind::Q5K => (0, 0, 4),
    }
}

/// # Safety
/// The machine has the instructions, the shapes fit, and nothing else reaches the part of the output at `c`.
pub(crate) unsafe fn gemm_block(
    a: &BlockRows,
    rows: Range<usize>,
    b: &BlockPanels,
    panels: Range<usize>,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    by_kind!(b.kind(), run, (a, rows, b, panels, c, stride, accumulate));
}

unsafe fn run<K: Kind>(
    a: &BlockRows,
    rows: Range<usize>,
    b: &BlockPanels,
    panels: Range<usize>,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let blocks = b.blocks();
    let sizes = const { Sizes::of(K::KIND) };
    walk(rows.clone(), ROWS, panels.clone(), 1, blocks * sizes.quants, |part| {
        let tile = Tile {
            blocks,
            quants: a.quants_from(part.row),
            heads: a.heads_from(part.row),
            weights: b.quants.as_ptr().add(part.panel * blocks * sizes.quants),
            scales: b.scales.as_ptr().add(part.panel * blocks * sizes.scales),
            minima: b.minima.as_ptr().add(part.panel * blocks * sizes.minima),
            c: c.add((part.row - rows.start) * stride + (part.panel - panels.start) * PANEL),
            c_row: stride,
            columns: PANEL.min(b.n() - part.panel * PANEL),
            accumulate,
            ahead: if part.turn == 0 { part.ahead * blocks } else { 0 },
        };
        match part.height {
            1 => kernel::<K, 1>(&tile),
            2 => kernel::<K, 2>(&tile),
            _ => kernel::<K, 3>(&tile),
        }
    });
}

/// The 32 bytes of steps `step..step + 4` of half the columns, small and unsigned, or signed for Q8_0.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn weights_of<K: Kind>(block: *const u8, step: usize, half: usize) -> __m256i {
    let format = const { K::KIND.format() };
    if format.nibbles {
        let both = _mm256_loadu_si256(block.add(step % 4 * 64 + half * 32).cast());
        let mask = _mm256_set1_epi8(15);
        return if step < 4 {
            _mm256_and_si256(both, mask)
        } else {
            _mm256_and_si256(_mm256_srli_epi16::<4>(both), mask)
        };
    }
    let bytes = _mm256_loadu_si256(block.add(step * 64 + half * 32).cast());
    if matches!(K::KIND, BlockKind::Q8_0) {
        return _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
    }
    let (less, ..) = const { narrow(K::KIND) };
    if less == 0 {
        bytes
    } else {
        _mm256_sub_epi8(bytes, _mm256_set1_epi8(less as i8))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn kernel<K: Kind, const R: usize>(tile: &Tile) {
    let format = const { K::KIND.format() };
    let sizes = const { Sizes::of(K::KIND) };
    let (_, shift, fit) = const { narrow(K::KIND) };
    let signed = const { matches!(K::KIND, BlockKind::Q8_0) };
    let ones = _mm256_set1_epi16(1);
    let k = tile.blocks * BLOCK;
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    for block in 0..tile.blocks {
        let quants = tile.quants.add(block * BLOCK);
        let heads = tile.heads.add(block);
        let weights = tile.weights.add(block * sizes.quants);
        if tile.ahead > 0 {
            for line in 0..sizes.quants / 64 {
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(tile.ahead * sizes.quants + line * 64).cast());
            }
        }
        let parts = if format.split { 2 } else { 1 };
        let steps = 8 / parts;
        for part in 0..parts {
            let mut integers = [[_mm256_setzero_si256(); 2]; R];
            for row in 0..R {
                let head = &*heads.add(row * tile.blocks);
                let start = match (format.zero, format.split, part) {
                    (0, ..) => 0,
                    // Signed weights have no zero point.
                    _ if signed => 0,
                    (_, false, _) => head.low >> shift,
                    (_, true, 0) => head.first >> shift,
                    (_, true, _) => (head.low - head.first) >> shift,
                };
                integers[row] = [_mm256_set1_epi32(start); 2];
            }
            for start in (part * steps..(part + 1) * steps).step_by(fit) {
                let mut short = [[_mm256_setzero_si256(); 2]; R];
                for step in start..start + fit {
                    let line = [weights_of::<K>(weights, step, 0), weights_of::<K>(weights, step, 1)];
                    for row in 0..R {
                        let four = _mm256_set1_epi32(quants.add(row * k + step * 4).cast::<i32>().read_unaligned());
                        for half in 0..2 {
                            let pair = if signed {
                                _mm256_maddubs_epi16(_mm256_abs_epi8(line[half]), _mm256_sign_epi8(four, line[half]))
                            } else {
                                _mm256_maddubs_epi16(line[half], four)
                            };
                            short[row][half] =
                                if step == start { pair } else { _mm256_add_epi16(short[row][half], pair) };
                        }
                    }
                }
                for row in 0..R {
                    for half in 0..2 {
                        let wide = _mm256_madd_epi16(short[row][half], ones);
                        integers[row][half] = _mm256_add_epi32(integers[row][half], wide);
                    }
                }
            }
            let scales = tile.scales.add(block * sizes.scales + part * 64);
            for half in 0..2 {
                let scale = numbers::<K>(scales, half);
                for row in 0..R {
                    let left = _mm256_set1_ps((*heads.add(row * tile.blocks)).scale);
                    let product = _mm256_mul_ps(_mm256_cvtepi32_ps(integers[row][half]), left);
                    sums[row][half] = _mm256_fmadd_ps(product, scale, sums[row][half]);
                }
            }
        }
        if format.minimum {
            for half in 0..2 {
                let minimum = numbers::<K>(tile.minima.add(block * sizes.minima), half);
                for row in 0..R {
                    let left = _mm256_set1_ps((*heads.add(row * tile.blocks)).weighted);
                    sums[row][half] = _mm256_fmadd_ps(left, minimum, sums[row][half]);
                }
            }
        }
    }
    for row in 0..R {
        store(tile.c.add(row * tile.c_row), tile.columns, sums[row], tile.accumulate);
    }
}

/// Writes 16 results, or adds them to what is there; only `columns` of them are reached.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn store(c: *mut f32, columns: usize, mut results: [__m256; 2], accumulate: bool) {
    let mut edge = [0.0f32; PANEL];
    let at = if columns == PANEL { c } else { edge.as_mut_ptr() };
    if accumulate {
        if columns < PANEL {
            std::ptr::copy_nonoverlapping(c, at, columns);
        }
        for half in 0..2 {
            results[half] = _mm256_add_ps(_mm256_loadu_ps(at.add(half * 8)), results[half]);
        }
    }
    for half in 0..2 {
        _mm256_storeu_ps(at.add(half * 8), results[half]);
    }
    if columns < PANEL {
        std::ptr::copy_nonoverlapping(at, c, columns);
    }
}

/// 8 of 16 scales or minima.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn numbers<K: Kind>(at: *const u8, half: usize) -> __m256 {
    if const { K::KIND.format().wide } {
        _mm256_loadu_ps(at.add(half * 32).cast())
    } else {
        _mm256_cvtph_ps(_mm_loadu_si128(at.add(half * 16).cast()))
    }
}
