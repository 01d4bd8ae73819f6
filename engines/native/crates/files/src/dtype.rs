/// Element types that a checkpoint may hold. Arithmetic is always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    /// Name in a safetensors header.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Decodes little-endian `bytes` into `out`; `bytes.len()` is `out.len() * self.size()`.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => {
                for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*raw);
                }
            }
            Self::F16 => {
                for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = f16_to_f32(u16::from_le_bytes(*raw));
                }
            }
            Self::Bf16 => {
                for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*raw)) << 16);
                }
            }
        }
    }

    /// Appends the little-endian bytes of `values`; 16-bit types round to nearest even, f16 overflows to infinity.
    pub fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::Bf16 => values.iter().for_each(|value| out.extend(bf16_bits(*value).to_le_bytes())),
            Self::F16 => values.iter().for_each(|value| out.extend(f16_bits(*value).to_le_bytes())),
            Self::F32 => values.iter().for_each(|value| out.extend(value.to_le_bytes())),
        }
    }
}

/// Upper half of an f32, rounded to nearest even (NaN stays NaN).
pub fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return ((bits >> 16) | 0x40) as u16;
    }
    let round = 0x7fff + ((bits >> 16) & 1);
    ((bits.wrapping_add(round)) >> 16) as u16
}

/// IEEE half of an f32, rounded to nearest even; too large becomes infinity, NaN stays NaN.
pub fn f16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    if magnitude >= 0x477f_f000 {
        return sign | 0x7c00;
    }
    if magnitude < 0x3880_0000 {
        // Below the least normal half: adding 0.5 moves the last bit of the half to the last bit of the f32, and
        // the addition rounds.
        let shifted = f32::from_bits(magnitude) + 0.5;
        return sign | (shifted.to_bits() - 0x3f00_0000) as u16;
    }
    let odd = (magnitude >> 13) & 1;
    sign | ((magnitude - 0x3800_0000 + 0xfff + odd) >> 13) as u16
}

/// The f32 of an IEEE half, exactly.
pub fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10) & 0x1f;
    let fraction = u32::from(half & 0x3ff);
    match exponent {
        0 => {
            let magnitude = fraction as f32 * f32::from_bits(0x3380_0000);
            f32::from_bits(magnitude.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_to_nearest_even() {
        let ulp = f32::from_bits(0x3f81_0000) - 1.0;
        assert_eq!(bf16_bits(1.0 + ulp / 2.0), 0x3f80);
        assert_eq!(bf16_bits(1.0 + ulp * 1.5), 0x3f82);
        assert_eq!(bf16_bits(1.0 + ulp * 0.6), 0x3f81);
        assert_eq!(bf16_bits(f32::NAN) & 0x7f80, 0x7f80);
    }

    #[test]
    fn f16_values_decode_exactly() {
        for (half, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x8400, -6.103_515_6e-5),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(f16_to_f32(half), value);
        }
        for half in 0..=u16::MAX {
            let value = f16_to_f32(half);
            assert!(value.is_nan() || f16_bits(value) == half, "{half:#06x}");
        }
        for (value, half) in [
            (65519.99, 0x7bff),
            (65520.0, 0x7c00),
            (f32::MAX, 0x7c00),
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (2.980_232_2e-8, 0),
            (2.980_232_6e-8, 1),
            (-1e-30, 0x8000),
            (6.103_14e-5, 0x0400),
        ] {
            assert_eq!(f16_bits(value), half, "{value}");
        }
        assert!(f16_to_f32(0x7e00).is_nan());
        assert_eq!(f16_to_f32(0x7c00), f32::INFINITY);
    }
}
