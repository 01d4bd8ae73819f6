//! The product with a scale a row and an output by AVX2; see `avx2.rs` for why its integers are exact.

// Index loops over fixed tiles are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::avx2::store;
use super::channel_panels::ChannelPanels;
use super::gemm::PANEL;
use super::token_rows::TokenRows;
use super::walk::{walk, Part};

/// Rows of the tallest tile: 8 of the 16 registers for sums.
const ROWS: usize = 4;

/// # Safety
/// The machine has the instructions, the shapes fit, and nothing else reaches the part of the output at `c`.
pub(crate) unsafe fn gemm_channel(
    a: &TokenRows,
    rows: Range<usize>,
    b: &ChannelPanels,
    panels: Range<usize>,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    walk(rows.clone(), ROWS, panels.clone(), 1, b.padded() * PANEL, |part| {
        let c = c.add((part.row - rows.start) * stride + (part.panel - panels.start) * PANEL);
        match part.height {
            1 => kernel::<1>(a, b, &part, c, stride, accumulate),
            2 => kernel::<2>(a, b, &part, c, stride, accumulate),
            3 => kernel::<3>(a, b, &part, c, stride, accumulate),
            _ => kernel::<4>(a, b, &part, c, stride, accumulate),
        }
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn kernel<const R: usize>(
    a: &TokenRows,
    b: &ChannelPanels,
    part: &Part,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let (row, panel) = (part.row, part.panel);
    let k = a.padded();
    let ahead = if part.turn == 0 { part.ahead * k * PANEL } else { 0 };
    let quants = a.quants_from(row);
    let weights = b.quants.as_ptr().add(panel * k * PANEL);
    let (ones, flip) = (_mm256_set1_epi16(1), _mm256_set1_epi8(-128));
    let mut integers = [[_mm256_setzero_si256(); 2]; R];
    for step in 0..k / 4 {
        let at = weights.add(step * 64);
        if ahead > 0 {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(ahead).cast());
        }
        for half in 0..2 {
            let line = _mm256_xor_si256(_mm256_loadu_si256(at.add(half * 32).cast()), flip);
            let magnitude = _mm256_abs_epi8(line);
            for r in 0..R {
                let four = _mm256_set1_epi32(quants.add(r * k + step * 4).cast::<i32>().read_unaligned());
                let pair = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(four, line));
                integers[r][half] = _mm256_add_epi32(integers[r][half], _mm256_madd_epi16(pair, ones));
            }
        }
    }
    let scales = b.scales.as_ptr().add(panel * PANEL);
    for r in 0..R {
        let left = _mm256_set1_ps(a.head(row + r).scale);
        let mut results = [_mm256_setzero_ps(); 2];
        for half in 0..2 {
            let product = _mm256_mul_ps(_mm256_cvtepi32_ps(integers[r][half]), left);
            results[half] = _mm256_mul_ps(product, _mm256_loadu_ps(scales.add(half * 8)));
        }
        store(c.add(r * stride), PANEL.min(b.n() - panel * PANEL), results, accumulate);
    }
}
