//! Softmax of a row whose lines of 16 positions lie apart. The bits are those of the row kernel `softmax`: lane is
//! position modulo 16, lanes are folded in halves, `exp` is the same polynomial.

// Index loops over fixed lanes are what the compiler turns into vectors.
#![allow(clippy::needless_range_loop)]

use cupel_kernels::{Isa, PANEL};

use crate::tile::Family;

const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer held in the low bits

/// `e^x` of `x <= 0` (or NaN) with the bits of `cupel_kernels::exp`: the upper clamp never acts and the power of two
/// is a normal number, so one exact product replaces two.
#[inline(always)]
fn exp_below_zero(x: f32) -> f32 {
    let x = if x < -87.336_54 { -87.336_54 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_145_75, x);
    let r = n.mul_add(-1.428_606_8e-6, r);
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    // The low nine bits of ROUND are zero: shifted left, only n is left beside the bias.
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// Neighbouring rows that see the same positions.
#[derive(Debug, Clone, Copy)]
pub struct Scores {
    /// Position `p` of row `r` lies at `data[p / 16 * stride + 16 r + p % 16]`.
    pub data: *mut f32,
    pub stride: usize,
    pub start: usize,
    /// Above `start`.
    pub end: usize,
}

/// Turns the scores of positions `start..end` of `rows` rows into probabilities of `score · scale` in place; the
/// other positions of their first and last line become zero.
///
/// # Safety
/// The lines are inside one allocation that nobody else uses.
pub unsafe fn softmax(isa: Isa, rows: usize, scores: Scores, scale: f32) {
    // Four rows at a time: their sums and maxima are independent chains.
    for row in (0..rows).step_by(4) {
        let scores = Scores { data: scores.data.add(row * PANEL), ..scores };
        match rows - row {
            1 => some_rows::<1>(isa, scores, scale),
            2 => some_rows::<2>(isa, scores, scale),
            3 => some_rows::<3>(isa, scores, scale),
            _ => some_rows::<4>(isa, scores, scale),
        }
    }
}

unsafe fn some_rows<const R: usize>(isa: Isa, scores: Scores, scale: f32) {
    match Family::of(isa) {
        // SAFETY: the machine has the features of its family.
        #[cfg(target_arch = "x86_64")]
        Family::Avx512 => avx512::<R>(scores, scale),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Family::Avx2 => avx2::<R>(scores, scale),
        _ => body::<R>(scores, scale),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const R: usize>(scores: Scores, scale: f32) {
    body::<R>(scores, scale);
}

/// `body` in vectors of a line.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
unsafe fn avx512<const R: usize>(scores: Scores, scale: f32) {
    use std::arch::x86_64::*;
    let (first, last) = (scores.start / PANEL, (scores.end - 1) / PANEL);
    let low = u16::MAX << (scores.start % PANEL);
    let high = u16::MAX >> (PANEL - 1 - (scores.end - 1) % PANEL);
    let sees =
        |panel: usize| (if panel == first { low } else { u16::MAX }) & if panel == last { high } else { u16::MAX };
    let none = _mm512_set1_ps(f32::NEG_INFINITY);
    let mut top = [none; R];
    for panel in first..=last {
        let mask = sees(panel);
        let line = scores.data.add(panel * scores.stride);
        for row in 0..R {
            // The second operand wins where one is not a number.
            top[row] = _mm512_max_ps(_mm512_mask_loadu_ps(none, mask, line.add(row * PANEL)), top[row]);
        }
    }
    let factor = _mm512_set1_ps(scale);
    for top in &mut top {
        *top = _mm512_mul_ps(_mm512_set1_ps(_mm512_reduce_max_ps(*top)), factor);
    }
    let mut sums = [_mm512_setzero_ps(); R];
    for panel in first..=last {
        let mask = sees(panel);
        let line = scores.data.add(panel * scores.stride);
        let mut powers = [none; R];
        for row in 0..R {
            let score = _mm512_loadu_ps(line.add(row * PANEL));
            powers[row] = _mm512_sub_ps(_mm512_mul_ps(score, factor), top[row]);
        }
        exp_below_zero_avx512(&mut powers);
        for row in 0..R {
            let power = _mm512_maskz_mov_ps(mask, powers[row]);
            _mm512_storeu_ps(line.add(row * PANEL), power);
            sums[row] = _mm512_add_ps(sums[row], power);
        }
    }
    let mut inverse = [_mm512_setzero_ps(); R];
    for row in 0..R {
        let eight = _mm256_add_ps(_mm512_castps512_ps256(sums[row]), _mm512_extractf32x8_ps::<1>(sums[row]));
        let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        let one = _mm_add_ss(two, _mm_movehdup_ps(two));
        inverse[row] = _mm512_set1_ps(1.0 / _mm_cvtss_f32(one));
    }
    for panel in first..=last {
        let line = scores.data.add(panel * scores.stride);
        for row in 0..R {
            let power = _mm512_loadu_ps(line.add(row * PANEL));
            _mm512_storeu_ps(line.add(row * PANEL), _mm512_mul_ps(power, inverse[row]));
        }
    }
}

/// `exp_below_zero` of some vectors, step by step: their chains run beside each other.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
fn exp_below_zero_avx512<const R: usize>(x: &mut [std::arch::x86_64::__m512; R]) {
    use std::arch::x86_64::*;
    let round = _mm512_set1_ps(ROUND);
    let mut shifted = [round; R];
    let mut r = [round; R];
    let mut p = [_mm512_set1_ps(1.987_569_1e-4); R];
    for row in 0..R {
        let clamped = _mm512_max_ps(_mm512_set1_ps(-87.336_54), x[row]);
        shifted[row] = _mm512_fmadd_ps(clamped, _mm512_set1_ps(std::f32::consts::LOG2_E), round);
        r[row] = clamped;
    }
    for row in 0..R {
        let n = _mm512_sub_ps(shifted[row], round);
        r[row] = _mm512_fmadd_ps(n, _mm512_set1_ps(-0.693_145_75), r[row]);
        r[row] = _mm512_fmadd_ps(n, _mm512_set1_ps(-1.428_606_8e-6), r[row]);
    }
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        for row in 0..R {
            p[row] = _mm512_fmadd_ps(p[row], r[row], _mm512_set1_ps(factor));
        }
    }
    for row in 0..R {
        p[row] = _mm512_fmadd_ps(p[row], _mm512_mul_ps(r[row], r[row]), r[row]);
    }
    for row in 0..R {
        let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted[row]));
        let power = _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(127 << 23)));
        x[row] = _mm512_mul_ps(_mm512_add_ps(p[row], _mm512_set1_ps(1.0)), power);
    }
}

type Lanes = [f32; PANEL];

#[inline(always)]
fn fold_maximum(mut lanes: Lanes) -> f32 {
    let mut width = PANEL / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = if lanes[lane + width] > lanes[lane] { lanes[lane + width] } else { lanes[lane] };
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn fold_sum(mut lanes: Lanes) -> f32 {
    let mut width = PANEL / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

impl Scores {
    #[inline(always)]
    unsafe fn line<'a>(&self, panel: usize, row: usize) -> &'a mut Lanes {
        &mut *self.data.add(panel * self.stride + row * PANEL).cast::<Lanes>()
    }

    /// Whether the rows see a lane of a line.
    #[inline(always)]
    fn sees(&self, panel: usize, lane: usize) -> bool {
        (self.start..self.end).contains(&(panel * PANEL + lane))
    }

    /// Exponentials of a line of all rows; unseen lanes of an `edge` become zero.
    #[inline(always)]
    unsafe fn exponentials<const R: usize>(
        &self,
        panel: usize,
        edge: bool,
        scale: f32,
        top: &[f32; R],
        sums: &mut [Lanes; R],
    ) {
        for row in 0..R {
            let scores = self.line(panel, row);
            for lane in 0..PANEL {
                scores[lane] = exp_below_zero(scores[lane] * scale - top[row]);
            }
            if edge {
                for lane in 0..PANEL {
                    scores[lane] = if self.sees(panel, lane) { scores[lane] } else { 0.0 };
                }
            }
            for lane in 0..PANEL {
                sums[row][lane] += scores[lane];
            }
        }
    }
}

#[inline(always)]
unsafe fn body<const R: usize>(scores: Scores, scale: f32) {
    let (first, last) = (scores.start / PANEL, (scores.end - 1) / PANEL);
    for panel in [first, last] {
        for row in 0..R {
            let line = scores.line(panel, row);
            for lane in 0..PANEL {
                line[lane] = if scores.sees(panel, lane) { line[lane] } else { f32::NEG_INFINITY };
            }
        }
    }
    let mut lanes = [[f32::NEG_INFINITY; PANEL]; R];
    for panel in first..=last {
        for row in 0..R {
            let line = scores.line(panel, row);
            for lane in 0..PANEL {
                lanes[row][lane] = if line[lane] > lanes[row][lane] { line[lane] } else { lanes[row][lane] };
            }
        }
    }
    // Rounding is monotone: the maximum of the products is the product of the maximum.
    let mut top = [0.0; R];
    for row in 0..R {
        top[row] = fold_maximum(lanes[row]) * scale;
    }
    let mut sums = [[0.0f32; PANEL]; R];
    scores.exponentials(first, true, scale, &top, &mut sums);
    for panel in first + 1..last {
        scores.exponentials(panel, false, scale, &top, &mut sums);
    }
    if last > first {
        scores.exponentials(last, true, scale, &top, &mut sums);
    }
    let mut inverse = [0.0; R];
    for row in 0..R {
        inverse[row] = 1.0 / fold_sum(sums[row]);
    }
    for panel in first..=last {
        for row in 0..R {
            let line = scores.line(panel, row);
            for lane in 0..PANEL {
                line[lane] *= inverse[row];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_has_the_bits_of_the_kernel() {
        for step in 0..3_000_000u32 {
            let x = -(step as f32) * 3.1e-5;
            assert_eq!(exp_below_zero(x).to_bits(), cupel_kernels::exp(x).to_bits(), "{x}");
            let tiny = -f32::from_bits(step.wrapping_mul(700));
            assert_eq!(exp_below_zero(tiny).to_bits(), cupel_kernels::exp(tiny).to_bits(), "{tiny}");
        }
        assert_eq!(exp_below_zero(f32::NEG_INFINITY).to_bits(), cupel_kernels::exp(f32::NEG_INFINITY).to_bits());
        assert!(exp_below_zero(f32::NAN).is_nan());
    }

    #[test]
    fn rows_have_the_bits_of_the_row_kernel() {
        for length in 1..200usize {
            let rows = 1 + length % 7;
            let values: Vec<Vec<f32>> = (0..rows)
                .map(|row| (0..length).map(|i| ((i * 7919 + length * 31 + row) % 1000) as f32 * 0.03 - 9.0).collect())
                .collect();
            for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available()) {
                let stride = 9 * PANEL;
                let mut lines = vec![f32::NAN; length.div_ceil(PANEL) * stride];
                let at = |row: usize, i: usize| i / PANEL * stride + row * PANEL + i % PANEL;
                for (row, values) in values.iter().enumerate() {
                    values.iter().enumerate().for_each(|(i, value)| lines[at(row, i)] = *value);
                }
                let scores = Scores { data: lines.as_mut_ptr(), stride, start: 0, end: length };
                // SAFETY: the lines are own memory.
                unsafe { softmax(isa, rows, scores, 0.37) };
                for (row, values) in values.iter().enumerate() {
                    let mut expected = values.clone();
                    cupel_kernels::softmax(isa, &mut expected, 0.37);
                    for (i, expected) in expected.iter().enumerate() {
                        assert_eq!(lines[at(row, i)].to_bits(), expected.to_bits(), "{length} {i}");
                    }
                }
            }
        }
    }
}
