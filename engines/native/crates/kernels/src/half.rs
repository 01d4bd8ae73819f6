/// The value of an IEEE half, exactly. A signalling NaN becomes quiet, as in hardware.
#[inline]
pub fn half_to_f32(bits: u16) -> f32 {
    let sign = (u32::from(bits) & 0x8000) << 16;
    let exponent = u32::from(bits >> 10) & 31;
    let fraction = u32::from(bits) & 0x3ff;
    let magnitude = match exponent {
        // A subnormal is a multiple of 2^-24; the product is exact.
        0 => (fraction as f32 * (1.0 / 16_777_216.0)).to_bits(),
        31 if fraction == 0 => 0x7f80_0000,
        31 => 0x7fc0_0000 | (fraction << 13),
        _ => ((exponent + 112) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

/// The value of a bfloat16, exactly.
#[inline]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest IEEE half, ties to even; too large becomes infinite, a NaN stays one.
pub fn f32_to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00 | (magnitude >> 13) as u16 & 0x3ff;
    }
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    // The spacing of halves at this size: adding 1.5 · 2^13 spacings rounds to a multiple of one.
    let exponent = ((magnitude >> 23) as i32 - 127).max(-14);
    let spacing = f32::from_bits(((exponent - 10 + 127) as u32) << 23);
    let count = (f32::from_bits(magnitude) / spacing).round_ties_even() as u32;
    // A count of 1024 to 2047 carries the leading bit of a normal number into the exponent field.
    sign | ((exponent + 14) as u32 * 1024 + count) as u16
}

/// The nearest bfloat16, ties to even; a NaN stays one.
pub fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_a_round_trip() {
        for bits in 0..=u16::MAX {
            let value = half_to_f32(bits);
            if value.is_nan() {
                assert!(half_to_f32(f32_to_half(value)).is_nan());
            } else {
                assert_eq!(f32_to_half(value), bits);
            }
            if !bf16_to_f32(bits).is_nan() {
                assert_eq!(f32_to_bf16(bf16_to_f32(bits)), bits);
            }
        }
    }

    #[test]
    fn halves_round_to_the_nearest_and_ties_to_even() {
        for (value, bits) in [
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (65519.0, 0x7bff),
            (65520.0, 0x7c00),
            (5.9e-8, 0x0001),
            (2.9e-8, 0x0000),
            (6.1e-5, 0x03ff),
            (6.1034e-5, 0x0400),
        ] {
            assert_eq!(f32_to_half(value), bits, "{value}");
            assert_eq!(f32_to_half(-value), bits | 0x8000, "-{value}");
        }
    }
}
