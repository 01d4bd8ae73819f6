//! Right-hand matrices as panels of pairs.

use super::values::round;
#[cfg(target_arch = "x86_64")]
use super::{avx512, pairs_are_fast};
use super::{PairLine, PANEL};
use crate::Isa;

/// Packs panel `panel` of the transpose of `source[n]`, rows of `out.len()` pairs that lie `stride` apart.
pub fn pack_pair_rows(source: &[u32], stride: usize, n: usize, panel: usize, out: &mut [PairLine]) {
    let first = panel * PANEL;
    let width = PANEL.min(n - first);
    if width < PANEL {
        out.fill(PairLine::default());
    }
    let pairs = out.len();
    // Eight pairs at a time: each source row then gives a contiguous run instead of one element.
    for start in (0..pairs).step_by(8) {
        let end = (start + 8).min(pairs);
        for column in 0..width {
            let row = &source[(first + column) * stride..][start..end];
            for (line, value) in out[start..end].iter_mut().zip(row) {
                line.0[column] = *value;
            }
        }
    }
}

/// Rounds panel `panel` of row-major `source[steps, n]` (row stride `stride`) into `out[steps.div_ceil(2)]`, neighbouring
/// rows as pairs; a last row without a neighbour is paired with zero.
///
/// # Panics
/// If a slice is too short for the shape.
pub fn pack_pair_columns(
    isa: Isa,
    source: &[f32],
    stride: usize,
    (steps, n): (usize, usize),
    panel: usize,
    out: &mut [PairLine],
) {
    let first = panel * PANEL;
    let width = PANEL.min(n - first);
    let out = &mut out[..steps.div_ceil(2)];
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if pairs_are_fast(isa) && width == PANEL && steps > 1 {
        done = steps / 2;
        assert!(source.len() >= (2 * done - 1) * stride + first + PANEL, "source too short");
        // SAFETY: the instruction was asked for, the rows are there.
        unsafe { avx512::pair_rows(source[first..].as_ptr(), stride, &mut out[..done]) };
    }
    for (index, line) in out.iter_mut().enumerate().skip(done) {
        let even = &source[2 * index * stride + first..][..width];
        let odd = if 2 * index + 1 < steps { &source[(2 * index + 1) * stride + first..][..width] } else { &[] };
        pair_plain(isa, even, odd, line);
    }
}

crate::rows::kernel! {
    fn pair_plain(even: &[f32], odd: &[f32], line: &mut PairLine) {
        *line = PairLine::default();
        for (out, value) in line.0.iter_mut().zip(even) {
            *out = round(*value);
        }
        for (out, value) in line.0.iter_mut().zip(odd) {
            *out |= round(*value) << 16;
        }
    }
}

/// As `pack_pair_columns` of `source[steps, n]` whose rows are pairs of columns already, `stride` pairs apart.
///
/// # Panics
/// If a slice is too short for the shape.
pub fn interleave_pairs(
    isa: Isa,
    source: &[u32],
    stride: usize,
    (steps, n): (usize, usize),
    panel: usize,
    out: &mut [PairLine],
) {
    let first = panel * PANEL;
    let width = PANEL.min(n - first).div_ceil(2);
    let out = &mut out[..steps.div_ceil(2)];
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if isa.float() == Isa::Avx512 && width * 2 == PANEL && steps > 1 {
        done = steps / 2;
        assert!(source.len() >= (2 * done - 1) * stride + first / 2 + PANEL / 2, "source too short");
        // SAFETY: the instruction set was asked for, the rows are there.
        unsafe { avx512::interleave(source[first / 2..].as_ptr(), stride, &mut out[..done]) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = isa;
    for (index, line) in out.iter_mut().enumerate().skip(done) {
        let even = &source[2 * index * stride + first / 2..][..width];
        let odd = if 2 * index + 1 < steps { &source[(2 * index + 1) * stride + first / 2..][..width] } else { &[] };
        *line = PairLine::default();
        for (out, pair) in line.0.as_chunks_mut::<2>().0.iter_mut().zip(even) {
            *out = [pair & 0xffff, pair >> 16];
        }
        for (out, pair) in line.0.as_chunks_mut::<2>().0.iter_mut().zip(odd) {
            out[0] |= pair << 16;
            out[1] |= pair & 0xffff_0000;
        }
    }
}
