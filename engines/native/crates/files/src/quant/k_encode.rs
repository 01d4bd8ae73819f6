//! The 256-blocks. ggml's own quantizers search their scales by a rule of thumb that changes between versions, so no
//! bytes are promised here but the layout: the search below minimises the sum of squared errors, without weights,
//! because without calibration the error of a product is proportional to it. It alternates between codes for given
//! scales and least-squares scales for given codes, first for each sub-block by itself, then for the whole block with
//! the sub-block scales rounded to the few bits that they are stored in.

use super::encode::put_half;
use crate::dtype::{f16_bits, f16_to_f32};

/// Sub-blocks of Q4_K and Q5_K, and weights of one.
const PARTS: usize = 8;
const PART: usize = 32;
/// Largest stored scale or minimum of a sub-block.
const SIX_BITS: f32 = 63.0;
/// Rounds of alternation for a whole block.
const ROUNDS: usize = 3;

/// The nearest half, but zero only for zero: sub-block scales can make up for a unit that is too large, not for none.
fn unit(value: f32) -> f32 {
    const LEAST: f32 = 5.960_464_5e-8;
    if value == 0.0 {
        0.0
    } else {
        f16_to_f32(f16_bits(value.abs().max(LEAST).copysign(value)))
    }
}

/// Nearest whole number (ties to even) of a value from 0 to 2^22, without a call.
fn nearest(value: f32) -> f32 {
    const SHIFT: f32 = 8_388_608.0;
    (value + SHIFT) - SHIFT
}

/// Codes 0 to `top` for `scale · code - least`, and the sum of squared errors.
fn code_part(values: &[f32], scale: f32, least: f32, top: f32, codes: &mut [f32; PART]) -> f32 {
    let by = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut error = [0.0f32; 8];
    for (codes, values) in codes.chunks_exact_mut(8).zip(values.chunks_exact(8)) {
        for ((code, value), error) in codes.iter_mut().zip(values).zip(&mut error) {
            *code = nearest(((value + least) * by).clamp(0.0, top));
            let off = scale * *code - least - value;
            *error += off * off;
        }
    }
    error.iter().sum()
}

/// Least-squares scale and minimum (neither below zero) for given codes.
fn solve_part(values: &[f32], codes: &[f32; PART]) -> (f32, f32) {
    let (mut q, mut qq, mut x, mut xq) = ([0.0f32; 8], [0.0f32; 8], [0.0f32; 8], [0.0f32; 8]);
    for (codes, values) in codes.chunks_exact(8).zip(values.chunks_exact(8)) {
        for lane in 0..8 {
            let (code, value) = (codes[lane], values[lane]);
            q[lane] += code;
            qq[lane] += code * code;
            x[lane] += value;
            xq[lane] += value * code;
        }
    }
    let sum = |lanes: [f32; 8]| lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    let (q, qq, x, xq) = (sum(q), sum(qq), sum(x), sum(xq));
    let determinant = PART as f64 * qq - q * q;
    if determinant > 0.0 {
        let scale = (PART as f64 * xq - x * q) / determinant;
        let least = (q * xq - qq * x) / determinant;
        if scale >= 0.0 && least >= 0.0 {
            return (scale as f32, least as f32);
        }
    }
    if qq > 0.0 && xq > 0.0 {
        ((xq / qq) as f32, 0.0)
    } else {
        (0.0, (-x / PART as f64).max(0.0) as f32)
    }
}

/// Best scale and minimum of a sub-block by itself.
fn fit_part(values: &[f32], top: f32) -> (f32, f32) {
    let least = values.iter().fold(0.0f32, |best, value| best.min(*value));
    let most = values.iter().fold(0.0f32, |best, value| best.max(*value));
    let span = most - least;
    if span <= 0.0 {
        return (0.0, 0.0);
    }
    let mut codes = [0.0; PART];
    let mut best = (span / top, -least);
    let mut best_error = code_part(values, best.0, best.1, top, &mut codes);
    // Steps somewhat wider and narrower than the range asks for: clipping one weight may serve the others.
    for step in 0..18 {
        let levels = top - 1.2 + 0.15 * step as f32;
        code_part(values, span / levels, -least, top, &mut codes);
        for _ in 0..2 {
            let (scale, minimum) = solve_part(values, &codes);
            let error = code_part(values, scale, minimum, top, &mut codes);
            if error >= best_error {
                break;
            }
            (best, best_error) = ((scale, minimum), error);
        }
    }
    best
}

/// A block of Q4_K or Q5_K before it is packed.
struct Affine {
    scale: f32,
    least: f32,
    factors: [u8; PARTS],
    minima: [u8; PARTS],
    codes: [[f32; PART]; PARTS],
    error: f32,
}

impl Affine {
    /// Rounds the wanted scales to multiples of `scale` and `least`, looking at the neighbours too, and codes all
    /// weights with what is then stored.
    fn round(values: &[f32], wanted: &[(f32, f32); PARTS], scale: f32, least: f32, top: f32) -> Self {
        let (scale, least) = (unit(scale), unit(least));
        let mut block =
            Self { scale, least, factors: [0; PARTS], minima: [0; PARTS], codes: [[0.0; PART]; PARTS], error: 0.0 };
        let step = |value: f32, unit: f32| {
            if unit > 0.0 {
                (value / unit).clamp(0.0, SIX_BITS)
            } else {
                0.0
            }
        };
        let mut codes = [0.0; PART];
        for (part, values) in values.chunks_exact(PART).enumerate() {
            let (factor, minimum) = (nearest(step(wanted[part].0, scale)), nearest(step(wanted[part].1, least)));
            let mut best = f32::INFINITY;
            for factor in [factor, factor - 1.0, factor + 1.0] {
                for minimum in [minimum, minimum - 1.0, minimum + 1.0] {
                    if !(0.0..=SIX_BITS).contains(&factor) || !(0.0..=SIX_BITS).contains(&minimum) {
                        continue;
                    }
                    let error = code_part(values, scale * factor, least * minimum, top, &mut codes);
                    if error < best {
                        best = error;
                        block.factors[part] = factor as u8;
                        block.minima[part] = minimum as u8;
                        block.codes[part] = codes;
                    }
                }
            }
            block.error += best;
        }
        block
    }

    /// Least-squares scales of the whole block for its codes.
    fn solve(&self, values: &[f32]) -> (f32, f32) {
        let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for (part, values) in values.chunks_exact(PART).enumerate() {
            let (factor, minimum) = (f64::from(self.factors[part]), f64::from(self.minima[part]));
            for (code, value) in self.codes[part].iter().zip(values) {
                let (a, b, value) = (factor * f64::from(*code), minimum, f64::from(*value));
                aa += a * a;
                ab += a * b;
                bb += b * b;
                ax += a * value;
                bx += b * value;
            }
        }
        let determinant = aa * bb - ab * ab;
        if determinant > aa * bb * 1e-9 {
            let scale = (ax * bb - bx * ab) / determinant;
            let least = (ax * ab - bx * aa) / determinant;
            if scale > 0.0 && least >= 0.0 {
                return (scale as f32, least as f32);
            }
        }
        (self.scale, self.least)
    }

    fn fit(values: &[f32], top: f32) -> Self {
        let mut wanted = [(0.0, 0.0); PARTS];
        for (place, values) in wanted.iter_mut().zip(values.chunks_exact(PART)) {
            *place = fit_part(values, top);
        }
        let scale = wanted.iter().fold(0.0f32, |most, (scale, _)| most.max(*scale)) / SIX_BITS;
        let least = wanted.iter().fold(0.0f32, |most, (_, least)| most.max(*least)) / SIX_BITS;
        let mut best = Self::round(values, &wanted, scale, least, top);
        for _ in 0..ROUNDS {
            let (scale, least) = best.solve(values);
            let mut next_wanted = wanted;
            for (part, place) in next_wanted.iter_mut().enumerate() {
                *place = (best.scale * f32::from(best.factors[part]), best.least * f32::from(best.minima[part]));
            }
            let next = Self::round(values, &next_wanted, scale, least, top);
            if next.error >= best.error {
                break;
            }
            best = next;
        }
        best
    }

    /// The head of 16 bytes that Q4_K and Q5_K share.
    fn put_head(&self, out: &mut [u8]) {
        put_half(out, 0, self.scale);
        put_half(out, 2, self.least);
        let packed = &mut out[4..16];
        for part in 0..4 {
            let (factor, minimum) = (self.factors[part + 4], self.minima[part + 4]);
            packed[part] = self.factors[part] | (factor >> 4 << 6);
            packed[part + 4] = self.minima[part] | (minimum >> 4 << 6);
            packed[part + 8] = (factor & 15) | (minimum << 4);
        }
    }

    /// Low nibbles of two sub-blocks for every 32 bytes.
    fn put_nibbles(&self, out: &mut [u8]) {
        for (pair, bytes) in out.chunks_exact_mut(PART).enumerate() {
            for (place, byte) in bytes.iter_mut().enumerate() {
                let (low, high) = (self.codes[2 * pair][place] as u8, self.codes[2 * pair + 1][place] as u8);
                *byte = (low & 15) | (high << 4);
            }
        }
    }
}

pub(crate) fn encode_q4_k(values: &[f32], out: &mut [u8]) {
    let block = Affine::fit(values, 15.0);
    block.put_head(out);
    block.put_nibbles(&mut out[16..]);
}

pub(crate) fn encode_q5_k(values: &[f32], out: &mut [u8]) {
    let block = Affine::fit(values, 31.0);
    block.put_head(out);
    for (place, byte) in out[16..48].iter_mut().enumerate() {
        *byte = (0..PARTS).fold(0, |bits, part| bits | ((block.codes[part][place] as u8 >> 4) << part));
    }
    block.put_nibbles(&mut out[48..]);
}

/// Sub-blocks of Q6_K, and weights of one.
const GROUPS: usize = 16;
const GROUP: usize = 16;

/// Codes -32 to 31 for `scale · code`, and the sum of squared errors.
fn code_group(values: &[f32], scale: f32, codes: &mut [f32; GROUP]) -> f32 {
    let by = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut error = [0.0f32; 8];
    for (codes, values) in codes.chunks_exact_mut(8).zip(values.chunks_exact(8)) {
        for ((code, value), error) in codes.iter_mut().zip(values).zip(&mut error) {
            *code = nearest((value * by + 32.0).clamp(0.0, 63.0)) - 32.0;
            let off = scale * *code - value;
            *error += off * off;
        }
    }
    error.iter().sum()
}

fn solve_group(values: &[f32], codes: &[f32; GROUP]) -> Option<f32> {
    let (mut qq, mut xq) = (0.0f32, 0.0f32);
    for (code, value) in codes.iter().zip(values) {
        qq += code * code;
        xq += code * value;
    }
    (qq > 0.0).then(|| xq / qq)
}

fn fit_group(values: &[f32]) -> f32 {
    let extreme = values.iter().fold(0.0, |best: f32, value| if value.abs() > best.abs() { *value } else { best });
    if extreme == 0.0 {
        return 0.0;
    }
    let mut codes = [0.0; GROUP];
    let (mut best, mut best_error) = (0.0, f32::INFINITY);
    for step in -8..=8 {
        // The codes reach one further below zero, so the extreme goes there whichever sign it has.
        code_group(values, -extreme / (32.0 + 0.1 * step as f32), &mut codes);
        let Some(scale) = solve_group(values, &codes) else {
            continue;
        };
        let error = code_group(values, scale, &mut codes);
        if error < best_error {
            (best, best_error) = (scale, error);
        }
    }
    best
}

/// A block of Q6_K before it is packed.
struct Signed {
    scale: f32,
    factors: [f32; GROUPS],
    codes: [[f32; GROUP]; GROUPS],
    error: f32,
}

impl Signed {
    /// As [`Affine::round`].
    fn round(values: &[f32], wanted: &[f32; GROUPS], scale: f32) -> Self {
        let scale = unit(scale);
        let mut block = Self { scale, factors: [0.0; GROUPS], codes: [[0.0; GROUP]; GROUPS], error: 0.0 };
        let mut codes = [0.0; GROUP];
        for (group, values) in values.chunks_exact(GROUP).enumerate() {
            let step = if scale == 0.0 { 0.0 } else { wanted[group] / scale };
            let near = nearest(step.clamp(-128.0, 127.0) + 128.0) - 128.0;
            let mut best = f32::INFINITY;
            for factor in [near, near - 1.0, near + 1.0] {
                if !(-128.0..=127.0).contains(&factor) {
                    continue;
                }
                let error = code_group(values, scale * factor, &mut codes);
                if error < best {
                    best = error;
                    block.factors[group] = factor;
                    block.codes[group] = codes;
                }
            }
            block.error += best;
        }
        block
    }

    /// Least-squares scale of the whole block for its codes.
    fn solve(&self, values: &[f32]) -> f32 {
        let (mut qq, mut xq) = (0.0f64, 0.0f64);
        for (group, values) in values.chunks_exact(GROUP).enumerate() {
            for (code, value) in self.codes[group].iter().zip(values) {
                let product = f64::from(self.factors[group] * code);
                qq += product * product;
                xq += product * f64::from(*value);
            }
        }
        if qq > 0.0 {
            (xq / qq) as f32
        } else {
            self.scale
        }
    }

    fn fit(values: &[f32]) -> Self {
        let mut wanted = [0.0f32; GROUPS];
        for (place, values) in wanted.iter_mut().zip(values.chunks_exact(GROUP)) {
            *place = fit_group(values);
        }
        let extreme = wanted.iter().fold(0.0, |best: f32, value| if value.abs() > best.abs() { *value } else { best });
        let mut best = Self::round(values, &wanted, extreme / -128.0);
        for _ in 0..ROUNDS {
            let next_wanted = best.factors.map(|factor| best.scale * factor);
            let next = Self::round(values, &next_wanted, best.solve(values));
            if next.error >= best.error {
                break;
            }
            best = next;
        }
        best
    }
}

pub(crate) fn encode_q6_k(values: &[f32], out: &mut [u8]) {
    let block = Signed::fit(values);
    put_half(out, 208, block.scale);
    for (byte, factor) in out[192..208].iter_mut().zip(block.factors) {
        *byte = factor as i8 as u8;
    }
    let code = |index: usize| (block.codes[index / GROUP][index % GROUP] + 32.0) as u8;
    for side in 0..2 {
        for place in 0..32 {
            let quarter = |number: usize| code(side * 128 + number * 32 + place);
            out[side * 64 + place] = (quarter(0) & 15) | (quarter(2) << 4);
            out[side * 64 + 32 + place] = (quarter(1) & 15) | (quarter(3) << 4);
            out[128 + side * 32 + place] =
                (0..4).fold(0, |bits, number| bits | ((quarter(number) >> 4) << (2 * number)));
        }
    }
}
