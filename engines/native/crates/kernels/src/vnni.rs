//! The block product with AVX-512 VNNI: unsigned weights from memory times broadcast signed activations.

// Index loops over fixed tiles are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::block_panels::{BlockPanels, Sizes};
use super::block_rows::{BlockRows, Head, BLOCK};
use super::gemm::PANEL;
use super::kinds::{by_kind, Kind};
use super::walk::walk;

/// One tile: rows and panels that a kernel takes at once.
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
    /// Of `turns` blocks the one at which to ask.
    turn: usize,
    turns: usize,
}

/// Rows of the tallest tile: 6 rows of 2 panels need 24 of the 32 registers for sums.
const ROWS: usize = 6;

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
    let at_once = if rows.len() < 4 { 1 } else { 2 };
    walk(rows.clone(), ROWS, panels.clone(), at_once, blocks * sizes.quants, |part| {
        let tile = Tile {
            blocks,
            quants: a.quants_from(part.row),
            heads: a.heads_from(part.row),
            weights: b.quants.as_ptr().add(part.panel * blocks * sizes.quants),
            scales: b.scales.as_ptr().add(part.panel * blocks * sizes.scales),
            minima: b.minima.as_ptr().add(part.panel * blocks * sizes.minima),
            c: c.add((part.row - rows.start) * stride + (part.panel - panels.start) * PANEL),
            c_row: stride,
            columns: (part.wide * PANEL).min(b.n() - part.panel * PANEL),
            accumulate,
            ahead: part.ahead * blocks,
            turn: part.turn,
            turns: part.turns,
        };
        by_shape::<K>(part.height, part.wide, &tile);
    });
}

unsafe fn by_shape<K: Kind>(height: usize, wide: usize, tile: &Tile) {
    match (height, wide) {
        (1, 1) => kernel::<K, 1, 1>(tile),
        (1, _) => kernel::<K, 1, 2>(tile),
        (2, 1) => kernel::<K, 2, 1>(tile),
        (2, _) => kernel::<K, 2, 2>(tile),
        (3, 1) => kernel::<K, 3, 1>(tile),
        (3, _) => kernel::<K, 3, 2>(tile),
        (4, 1) => kernel::<K, 4, 1>(tile),
        (4, _) => kernel::<K, 4, 2>(tile),
        (5, 1) => kernel::<K, 5, 1>(tile),
        (5, _) => kernel::<K, 5, 2>(tile),
        (_, 1) => kernel::<K, 6, 1>(tile),
        _ => kernel::<K, 6, 2>(tile),
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512vnni")]
unsafe fn kernel<K: Kind, const R: usize, const P: usize>(tile: &Tile) {
    let format = const { K::KIND.format() };
    let sizes = const { Sizes::of(K::KIND) };
    let mask = _mm512_set1_epi8(15);
    let k = tile.blocks * BLOCK;
    let mut until = tile.turn;
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    for block in 0..tile.blocks {
        let quants = tile.quants.add(block * BLOCK);
        let heads = tile.heads.add(block);
        let weights = tile.weights.add(block * sizes.quants);
        // The tiles of a strip share the work of asking for the next strip, so that memory is never idle.
        if until == 0 {
            until = tile.turns;
            if tile.ahead > 0 {
                for panel in 0..P {
                    let at = panel * tile.blocks + tile.ahead;
                    for line in 0..sizes.quants / 64 {
                        let ahead = weights.wrapping_add(at * sizes.quants + line * 64);
                        if R == 1 {
                            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                        } else {
                            _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                        }
                    }
                    let ahead = tile.scales.wrapping_add((at + block) * sizes.scales);
                    _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                }
            }
        }
        until -= 1;
        let mut integers = [[_mm512_setzero_si512(); P]; R];
        // A single row has a second chain of sums, since one would be bound by its latency.
        let mut odd = _mm512_setzero_si512();
        for part in 0..if format.split { 2 } else { 1 } {
            for row in 0..R {
                let head = &*heads.add(row * tile.blocks);
                let start = match (format.zero, format.split, part) {
                    (0, ..) => 0,
                    (8, ..) => head.low >> 4,
                    (_, false, _) => head.low,
                    (_, true, 0) => head.first,
                    (_, true, _) => head.low - head.first,
                };
                integers[row] = [_mm512_set1_epi32(start); P];
            }
            let steps = if format.split { part * 4..part * 4 + 4 } else { 0..if format.nibbles { 4 } else { 8 } };
            for step in steps {
                let mut lines = [_mm512_setzero_si512(); P];
                for (panel, line) in lines.iter_mut().enumerate() {
                    let at = weights.add(panel * tile.blocks * sizes.quants + step * 64);
                    *line = _mm512_loadu_si512(at.cast());
                }
                for row in 0..R {
                    let four = _mm512_set1_epi32(quants.add(row * k + step * 4).cast::<i32>().read_unaligned());
                    for panel in 0..P {
                        let line = if format.nibbles { _mm512_and_si512(lines[panel], mask) } else { lines[panel] };
                        if R * P == 1 && step % 2 == 1 && !format.nibbles {
                            odd = _mm512_dpbusd_epi32(odd, line, four);
                        } else {
                            integers[row][panel] = _mm512_dpbusd_epi32(integers[row][panel], line, four);
                        }
                    }
                }
                if format.nibbles {
                    for line in &mut lines {
                        *line = _mm512_and_si512(_mm512_srli_epi16::<4>(*line), mask);
                    }
                    for row in 0..R {
                        let four =
                            _mm512_set1_epi32(quants.add(row * k + 16 + step * 4).cast::<i32>().read_unaligned());
                        for panel in 0..P {
                            if R * P == 1 {
                                odd = _mm512_dpbusd_epi32(odd, lines[panel], four);
                            } else {
                                integers[row][panel] = _mm512_dpbusd_epi32(integers[row][panel], lines[panel], four);
                            }
                        }
                    }
                }
            }
            if R * P == 1 {
                integers[0][0] = _mm512_add_epi32(integers[0][0], odd);
                odd = _mm512_setzero_si512();
            }
            let scales = tile.scales.add(block * sizes.scales + part * 64);
            let mut scale = [_mm512_setzero_ps(); P];
            for (panel, scale) in scale.iter_mut().enumerate() {
                *scale = numbers::<K>(scales.add(panel * tile.blocks * sizes.scales));
            }
            for row in 0..R {
                let left = _mm512_set1_ps((*heads.add(row * tile.blocks)).scale);
                for panel in 0..P {
                    let product = _mm512_mul_ps(_mm512_cvtepi32_ps(integers[row][panel]), left);
                    sums[row][panel] = _mm512_fmadd_ps(product, scale[panel], sums[row][panel]);
                }
            }
        }
        if format.minimum {
            let minima = tile.minima.add(block * sizes.minima);
            let mut minimum = [_mm512_setzero_ps(); P];
            for (panel, minimum) in minimum.iter_mut().enumerate() {
                *minimum = numbers::<K>(minima.add(panel * tile.blocks * sizes.minima));
            }
            for row in 0..R {
                let left = _mm512_set1_ps((*heads.add(row * tile.blocks)).weighted);
                for panel in 0..P {
                    sums[row][panel] = _mm512_fmadd_ps(left, minimum[panel], sums[row][panel]);
                }
            }
        }
    }
    for row in 0..R {
        for panel in 0..P {
            let c = tile.c.add(row * tile.c_row + panel * PANEL);
            store(c, PANEL.min(tile.columns - panel * PANEL), sums[row][panel], tile.accumulate);
        }
    }
}

/// Writes 16 results, or adds them to what is there; only `columns` of them are reached.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn store(c: *mut f32, columns: usize, mut results: __m512, accumulate: bool) {
    let edge = (0xffff_u32 >> (PANEL - columns)) as __mmask16;
    if accumulate {
        results = _mm512_add_ps(_mm512_maskz_loadu_ps(edge, c), results);
    }
    _mm512_mask_storeu_ps(c, edge, results);
}

/// 16 scales or minima.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn numbers<K: Kind>(at: *const u8) -> __m512 {
    if const { K::KIND.format().wide } {
        _mm512_loadu_ps(at.cast())
    } else {
        _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()))
    }
}
