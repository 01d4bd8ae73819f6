//! The block product with the dot products of Armv8.2: weights without their zero point, signed, times broadcast
//! activations.

// Index loops over fixed tiles are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use super::block_panels::{BlockPanels, Sizes};
use super::block_rows::{BlockRows, Head, BLOCK};
use super::gemm::PANEL;
use super::kinds::{by_kind, Kind};
use super::walk::walk;

/// Rows of the tallest tile: 12 of the 32 registers for integer sums and 12 for scaled ones.
const ROWS: usize = 3;
/// Registers of 16 outputs.
pub(crate) const QUADS: usize = PANEL / 4;

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
        };
        match part.height {
            1 => kernel::<K, 1>(&tile),
            2 => kernel::<K, 2>(&tile),
            _ => kernel::<K, 3>(&tile),
        }
    });
}

/// `sum + a · w` of four signed bytes in every lane.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(crate) unsafe fn dot(mut sum: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    asm!(
        "sdot {sum:v}.4s, {w:v}.16b, {a:v}.16b",
        sum = inout(vreg) sum, w = in(vreg) w, a = in(vreg) a,
        options(pure, nomem, nostack, preserves_flags)
    );
    sum
}

/// The signed bytes of step `step` (of 8) of four outputs.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn weights_of<K: Kind>(block: *const u8, step: usize, quad: usize) -> int8x16_t {
    let format = const { K::KIND.format() };
    let bytes = if format.nibbles {
        let both = vld1q_u8(block.add(step % 4 * 64 + quad * 16));
        if step < 4 {
            vandq_u8(both, vdupq_n_u8(15))
        } else {
            vshrq_n_u8::<4>(both)
        }
    } else {
        vld1q_u8(block.add(step * 64 + quad * 16))
    };
    vreinterpretq_s8_u8(vsubq_u8(bytes, vdupq_n_u8(format.zero)))
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn kernel<K: Kind, const R: usize>(tile: &Tile) {
    let format = const { K::KIND.format() };
    let sizes = const { Sizes::of(K::KIND) };
    let k = tile.blocks * BLOCK;
    let mut sums = [[vdupq_n_f32(0.0); QUADS]; R];
    for block in 0..tile.blocks {
        let quants = tile.quants.add(block * BLOCK);
        let heads = tile.heads.add(block);
        let weights = tile.weights.add(block * sizes.quants);
        let parts = if format.split { 2 } else { 1 };
        for part in 0..parts {
            let mut integers = [[vdupq_n_s32(0); QUADS]; R];
            for step in part * 8 / parts..(part + 1) * 8 / parts {
                let mut lines = [vdupq_n_s8(0); QUADS];
                for quad in 0..QUADS {
                    lines[quad] = weights_of::<K>(weights, step, quad);
                }
                for row in 0..R {
                    let four = quants.add(row * k + step * 4).cast::<i32>().read_unaligned();
                    let four = vreinterpretq_s8_s32(vdupq_n_s32(four));
                    for quad in 0..QUADS {
                        integers[row][quad] = dot(integers[row][quad], lines[quad], four);
                    }
                }
            }
            let scales = tile.scales.add(block * sizes.scales + part * 64);
            for quad in 0..QUADS {
                let right = numbers::<K>(scales, quad);
                for row in 0..R {
                    let left = (*heads.add(row * tile.blocks)).scale;
                    let product = vmulq_n_f32(vcvtq_f32_s32(integers[row][quad]), left);
                    sums[row][quad] = vfmaq_f32(sums[row][quad], product, right);
                }
            }
        }
        if format.minimum {
            for quad in 0..QUADS {
                let minimum = numbers::<K>(tile.minima.add(block * sizes.minima), quad);
                for row in 0..R {
                    let left = vdupq_n_f32((*heads.add(row * tile.blocks)).weighted);
                    sums[row][quad] = vfmaq_f32(sums[row][quad], left, minimum);
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
#[target_feature(enable = "neon")]
pub(crate) unsafe fn store(c: *mut f32, columns: usize, mut results: [float32x4_t; QUADS], accumulate: bool) {
    let mut edge = [0.0f32; PANEL];
    let at = if columns == PANEL { c } else { edge.as_mut_ptr() };
    if accumulate {
        if columns < PANEL {
            std::ptr::copy_nonoverlapping(c, at, columns);
        }
        for quad in 0..QUADS {
            results[quad] = vaddq_f32(vld1q_f32(at.add(quad * 4)), results[quad]);
        }
    }
    for quad in 0..QUADS {
        vst1q_f32(at.add(quad * 4), results[quad]);
    }
    if columns < PANEL {
        std::ptr::copy_nonoverlapping(at, c, columns);
    }
}

/// 4 of 16 scales or minima.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn numbers<K: Kind>(at: *const u8, quad: usize) -> float32x4_t {
    if const { K::KIND.format().wide } {
        vld1q_f32(at.add(quad * 16).cast())
    } else {
        let halves = vld1_u16(at.add(quad * 8).cast());
        let wide: float32x4_t;
        asm!(
            "fcvtl {wide:v}.4s, {halves:v}.4h",
            wide = lateout(vreg) wide, halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags)
        );
        wide
    }
}
