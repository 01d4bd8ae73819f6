//! The same with the instructions of AVX-512.

// Index loops over fixed tiles are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use super::{PairLine, Tile, PANEL};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512bf16")]
unsafe fn dot(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
    // SAFETY: both are 512 bits that any pattern fills.
    _mm512_dpbf16_ps(sum, std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b))
}

#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512bf16")]
unsafe fn tile<const R: usize, const P: usize, const ALONG: bool>(tile: &Tile) {
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    let whole = tile.columns == P * PANEL;
    let last = 0xffffu16 >> (P * PANEL - tile.columns);
    if tile.accumulate {
        for row in 0..R {
            let c = tile.c.add(row * tile.c_row);
            for panel in 0..P {
                let mask = if panel + 1 == P { last } else { 0xffff };
                sums[row][panel] = _mm512_maskz_loadu_ps(mask, c.add(panel * PANEL));
            }
        }
    }
    let (a_row, a_step) = if ALONG { (tile.a_row, 1) } else { (1, PANEL) };
    let (mut a, mut b) = (tile.a, tile.b);
    for _ in 0..tile.pairs {
        let mut right = [_mm512_setzero_si512(); P];
        for panel in 0..P {
            right[panel] = _mm512_load_si512(b.add(panel * tile.b_panel).cast());
        }
        for row in 0..R {
            let left = _mm512_set1_epi32(*a.add(row * a_row).cast::<i32>());
            for panel in 0..P {
                sums[row][panel] = dot(sums[row][panel], left, right[panel]);
            }
        }
        a = a.wrapping_add(a_step);
        b = b.wrapping_add(1);
    }
    for row in 0..R {
        let c = tile.c.add(row * tile.c_row);
        for panel in 0..P {
            if whole || panel + 1 < P {
                _mm512_storeu_ps(c.add(panel * PANEL), sums[row][panel]);
            } else {
                _mm512_mask_storeu_ps(c.add(panel * PANEL), last, sums[row][panel]);
            }
        }
    }
}

macro_rules! by_rows {
    ($rows:expr, $tile:expr, $panels:literal, $along:literal, [$($r:literal)*]) => {
        match $rows {
            $($r => tile::<$r, $panels, $along>($tile),)*
            _ => unreachable!("tile rows"),
        }
    };
}

/// # Safety
/// The machine has the instruction; the tile lies inside its matrices.
pub(super) unsafe fn fast_tile(rows: usize, tile: &Tile) {
    match (tile.columns.div_ceil(PANEL), tile.a_step == 1) {
        (1, true) => by_rows!(rows, tile, 1, true, [1 2 3 4 5 6 7 8]),
        (1, false) => by_rows!(rows, tile, 1, false, [1 2 3 4 5 6 7 8]),
        (2, true) => by_rows!(rows, tile, 2, true, [1 2 3 4 5 6 7 8]),
        (2, false) => by_rows!(rows, tile, 2, false, [1 2 3 4 5 6 7 8]),
        (_, true) => by_rows!(rows, tile, 3, true, [1 2 3 4 5 6 7 8]),
        (_, false) => by_rows!(rows, tile, 3, false, [1 2 3 4 5 6 7 8]),
    }
}

/// # Safety
/// The machine has the instruction; `out` holds half as many pairs as `x` numbers, of which there are 32 or more.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512bf16")]
pub(super) unsafe fn round_pairs(x: &[f32], out: &mut [u32]) {
    for (x, out) in x.chunks_exact(32).zip(out.chunks_exact_mut(16)) {
        let both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x.as_ptr().add(16)), _mm512_loadu_ps(x.as_ptr()));
        _mm512_storeu_si512(out.as_mut_ptr().cast(), std::mem::transmute::<__m512bh, __m512i>(both));
    }
}

/// Widens 32 numbers at a time; returns how many are done.
///
/// # Safety
/// The machine has AVX-512; `pairs` holds half as many pairs as `out` numbers.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
pub(super) unsafe fn widen_pairs(pairs: &[u32], out: &mut [f32]) -> usize {
    let whole = out.len() / 32;
    for index in 0..whole {
        for half in 0..2 {
            let bits = _mm256_loadu_si256(pairs.as_ptr().add(index * 16 + half * 8).cast());
            let numbers = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits));
            _mm512_storeu_si512(out.as_mut_ptr().add(index * 32 + half * 16).cast(), numbers);
        }
    }
    whole * 32
}

/// Pairs of neighbouring rows of 16 numbers, `stride` apart.
///
/// # Safety
/// The machine has the instruction; twice as many rows as `out` has lines can be read.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512bf16")]
pub(super) unsafe fn pair_rows(mut x: *const f32, stride: usize, out: &mut [PairLine]) {
    for line in out {
        let even = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(x)));
        let odd = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(x.wrapping_add(stride))));
        let odd = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(odd));
        _mm512_store_si512(line.0.as_mut_ptr().cast(), _mm512_or_si512(_mm512_cvtepu16_epi32(even), odd));
        x = x.wrapping_add(2 * stride);
    }
}

/// Pairs of neighbouring rows of 8 pairs of columns, `stride` apart.
///
/// # Safety
/// The machine has AVX-512; twice as many rows as `out` has lines can be read.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
pub(super) unsafe fn interleave(mut x: *const u32, stride: usize, out: &mut [PairLine]) {
    for line in out {
        let even = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.cast()));
        let odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.wrapping_add(stride).cast()));
        let both = _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd));
        _mm512_store_si512(line.0.as_mut_ptr().cast(), both);
        x = x.wrapping_add(2 * stride);
    }
}
