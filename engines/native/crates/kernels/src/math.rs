//! Own exponential, logarithm and rotations: the system's differ between machines.

const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer held in the low bits

/// `e^x` for f32, error under 2 units in the last place; from -87.3 down it stays at the smallest normal
/// number, above 88.7 at the largest finite power, NaN stays NaN. Cody-Waite reduction, degree-7 polynomial.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = if x < -87.336_54 { -87.336_54 } else { x };
    let x = if x > 88.722_83 { 88.722_83 } else { x };
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
    // 2^n in two halves, so that n = 128 does not overflow the exponent field.
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = exponent >> 1;
    let low = f32::from_bits((half.wrapping_add(127) as u32) << 23);
    let high = f32::from_bits((exponent.wrapping_sub(half).wrapping_add(127) as u32) << 23);
    p * low * high
}

/// Natural logarithm for normal positive f32, error under 2 units in the last place away from 1; others give
/// NaN or infinities as the mathematics says. Computed in f64.
pub fn ln(x: f32) -> f32 {
    if x.is_nan() || x < 0.0 {
        return f32::NAN;
    }
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x == f32::INFINITY {
        return x;
    }
    log_f64(f64::from(x)) as f32
}

/// Natural logarithm for normal positive f64: `2 atanh((m - 1) / (m + 1))` by its series plus the exponent.
pub fn log_f64(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let mut sum = 0.0;
    for term in (0..13).rev() {
        sum = sum * square + 1.0 / f64::from(2 * term + 1);
    }
    2.0 * z * sum + exponent as f64 * std::f64::consts::LN_2
}

/// `e^x` for |x| < 700 in f64, by reduction and the Taylor series.
pub fn exp_f64(x: f64) -> f64 {
    let n = (x * std::f64::consts::LOG2_E).round();
    let r = n.mul_add(-1.908_214_929_270_587_7e-10, n.mul_add(-0.693_147_180_369_123_8, x));
    let mut sum = 1.0;
    for term in (1..20).rev() {
        sum = 1.0 + sum * r / f64::from(term);
    }
    sum * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

/// `base^count` by squaring.
pub fn power(base: f64, mut count: u64) -> f64 {
    let (mut result, mut square) = (1.0, base);
    while count > 0 {
        if count & 1 == 1 {
            result *= square;
        }
        square *= square;
        count >>= 1;
    }
    result
}

/// Cosine and sine of `x` (0 <= x < 1e9) in f64.
pub fn cos_sin(x: f64) -> (f64, f64) {
    let quarter = (x * std::f64::consts::FRAC_2_PI).round();
    // π/2 in three parts; products with up to 30 bits of `quarter` lose nothing that matters in f64.
    let r = quarter.mul_add(-1.570_796_326_734_125_6, x);
    let r = quarter.mul_add(-6.077_100_506_506_192e-11, r);
    let r = quarter.mul_add(-2.022_266_248_795_950_6e-21, r);
    let square = r * r;
    let (mut cosine, mut sine) = (1.0, 1.0);
    for term in (1..10).rev() {
        let even = f64::from(2 * term);
        cosine = 1.0 - cosine * square / (even * (even - 1.0));
        sine = 1.0 - sine * square / (even * (even + 1.0));
    }
    sine *= r;
    match (quarter as i64).rem_euclid(4) {
        0 => (cosine, sine),
        1 => (-sine, cosine),
        2 => (-cosine, -sine),
        _ => (sine, -cosine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_stays_within_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for step in -87_000..88_700 {
            let x = step as f32 * 1e-3 + 3.3e-4;
            let expected = f64::from(x).exp();
            let unit = f64::from(f32::from_bits((expected as f32).to_bits() + 1) - expected as f32);
            worst = worst.max((f64::from(exp(x)) - expected).abs() / unit);
        }
        assert!(worst < 2.0, "{worst}");
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e30) < 1.3e-38 && exp(1e30) > 3.4e38 && exp(1e30).is_finite());
    }

    #[test]
    fn logarithm_and_rotations_match_the_system_to_rounding() {
        for step in 1..20_000 {
            let x = f64::from(step) * 0.37;
            assert!((log_f64(x) - x.ln()).abs() <= 1e-14 * x.ln().abs().max(1.0));
            assert!((f64::from(ln(x as f32)) - f64::from(x as f32).ln()).abs() <= 1e-6 * x.ln().abs().max(0.1));
            let (cosine, sine) = cos_sin(x);
            assert!((cosine - x.cos()).abs() < 1e-12 && (sine - x.sin()).abs() < 1e-12, "{x}");
            let small = x * 1e-2;
            assert!((exp_f64(-small) / (-small).exp() - 1.0).abs() < 1e-13);
        }
        assert!((power(0.95, 37) - 0.95f64.powi(37)).abs() < 1e-15);
    }
}
