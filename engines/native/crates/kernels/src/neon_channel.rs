//! The product with a scale a row and an output by the dot products of Armv8.2.

// Index loops over fixed tiles are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use std::arch::aarch64::*;
use std::ops::Range;

use super::channel_panels::ChannelPanels;
use super::gemm::PANEL;
use super::neon::{dot, store, QUADS};
use super::token_rows::TokenRows;
use super::walk::{walk, Part};

/// Rows of the tallest tile: 24 of the 32 registers for sums.
const ROWS: usize = 6;

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
            4 => kernel::<4>(a, b, &part, c, stride, accumulate),
            5 => kernel::<5>(a, b, &part, c, stride, accumulate),
            _ => kernel::<6>(a, b, &part, c, stride, accumulate),
        }
    });
}

#[target_feature(enable = "neon,dotprod")]
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
    let quants = a.quants_from(row);
    let weights = b.quants.as_ptr().add(panel * k * PANEL);
    let zero = vdupq_n_u8(128);
    let mut integers = [[vdupq_n_s32(0); QUADS]; R];
    for step in 0..k / 4 {
        let mut lines = [vdupq_n_s8(0); QUADS];
        for quad in 0..QUADS {
            lines[quad] = vreinterpretq_s8_u8(vsubq_u8(vld1q_u8(weights.add(step * 64 + quad * 16)), zero));
        }
        for r in 0..R {
            let four = quants.add(r * k + step * 4).cast::<i32>().read_unaligned();
            let four = vreinterpretq_s8_s32(vdupq_n_s32(four));
            for quad in 0..QUADS {
                integers[r][quad] = dot(integers[r][quad], lines[quad], four);
            }
        }
    }
    let scales = b.scales.as_ptr().add(panel * PANEL);
    for r in 0..R {
        let mut results = [vdupq_n_f32(0.0); QUADS];
        for quad in 0..QUADS {
            let product = vmulq_n_f32(vcvtq_f32_s32(integers[r][quad]), a.head(row + r).scale);
            results[quad] = vmulq_f32(product, vld1q_f32(scales.add(quad * 4)));
        }
        store(c.add(r * stride), PANEL.min(b.n() - panel * PANEL), results, accumulate);
    }
}
