//! The product with a scale a row and an output by AVX-512 VNNI.

// Index loops over fixed tiles are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::channel_panels::ChannelPanels;
use super::gemm::PANEL;
use super::token_rows::TokenRows;
use super::vnni::store;
use super::walk::{walk, Part};

/// Rows of the tallest tile: 12 rows of 2 panels need 24 of the 32 registers for sums.
const ROWS: usize = 12;

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
    let at_once = if rows.len() == 1 { 1 } else { 2 };
    walk(rows.clone(), ROWS, panels.clone(), at_once, b.padded() * PANEL, |part| {
        let c = c.add((part.row - rows.start) * stride + (part.panel - panels.start) * PANEL);
        macro_rules! by_shape {
            ([$($r:literal)*]) => {
                match (part.height, part.wide) {
                        $(($r, 1) => kernel::<$r, 1>(a, b, &part, c, stride, accumulate),
                    ($r, 2) => kernel::<$r, 2>(a, b, &part, c, stride, accumulate),)*
                    _ => unreachable!("tile shape"),
                }
            };
        }
        by_shape!([1 2 3 4 5 6 7 8 9 10 11 12]);
    });
}

#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512vnni")]
unsafe fn kernel<const R: usize, const P: usize>(
    a: &TokenRows,
    b: &ChannelPanels,
    part: &Part,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let (row, panel) = (part.row, part.panel);
    let k = a.padded();
    let ahead = part.ahead * k * PANEL;
    let mut until = part.turn;
    let quants = a.quants_from(row);
    let weights = b.quants.as_ptr().add(panel * k * PANEL);
    let mut integers = [[_mm512_setzero_si512(); P]; R];
    for r in 0..R {
        integers[r] = [_mm512_set1_epi32(a.head(row + r).low); P];
    }
    // A single row has a second chain of sums, since one would be bound by its latency.
    let mut odd = _mm512_setzero_si512();
    for step in 0..k / 4 {
        if until == 0 {
            until = part.turns;
            if ahead > 0 {
                for p in 0..P {
                    let at = weights.wrapping_add(p * k * PANEL + step * 64 + ahead);
                    if R == 1 {
                        _mm_prefetch::<_MM_HINT_T0>(at.cast());
                    } else {
                        _mm_prefetch::<_MM_HINT_T1>(at.cast());
                    }
                }
            }
        }
        until -= 1;
        let mut lines = [_mm512_setzero_si512(); P];
        for p in 0..P {
            let at = weights.add(p * k * PANEL + step * 64);
            lines[p] = _mm512_loadu_si512(at.cast());
        }
        for r in 0..R {
            let four = _mm512_set1_epi32(quants.add(r * k + step * 4).cast::<i32>().read_unaligned());
            for p in 0..P {
                if R * P == 1 && step % 2 == 1 {
                    odd = _mm512_dpbusd_epi32(odd, lines[p], four);
                } else {
                    integers[r][p] = _mm512_dpbusd_epi32(integers[r][p], lines[p], four);
                }
            }
        }
    }
    if R * P == 1 {
        integers[0][0] = _mm512_add_epi32(integers[0][0], odd);
    }
    for p in 0..P {
        let columns = PANEL.min(b.n() - (panel + p) * PANEL);
        let scale = _mm512_loadu_ps(b.scales.as_ptr().add((panel + p) * PANEL));
        for r in 0..R {
            let left = _mm512_set1_ps(a.head(row + r).scale);
            let product = _mm512_mul_ps(_mm512_cvtepi32_ps(integers[r][p]), left);
            store(c.add(r * stride + p * PANEL), columns, _mm512_mul_ps(product, scale), accumulate);
        }
    }
}
