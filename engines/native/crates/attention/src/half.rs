//! Runs of half-precision numbers, by the conversion instructions where the machine has them. They give the bits of
//! the conversions of the kernels.

use cupel_kernels::{f32_to_half, half_to_f32};

/// Rounds `values` to `halves`, with the conversion instruction where the machine has it.
pub fn round_all(values: &[f32], halves: &mut [u16]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") {
        // SAFETY: the machine has the instruction.
        return unsafe { round_all_f16c(values, halves) };
    }
    values.iter().zip(halves).for_each(|(value, half)| *half = f32_to_half(*value));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,f16c")]
fn round_all_f16c(values: &[f32], halves: &mut [u16]) {
    use std::arch::x86_64::*;
    let (value_chunks, value_rest) = values.as_chunks::<8>();
    let (half_chunks, half_rest) = halves.as_chunks_mut::<8>();
    for (values, halves) in value_chunks.iter().zip(half_chunks) {
        // SAFETY: eight floats are read, eight halves written.
        unsafe {
            let rounded = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(values.as_ptr()));
            _mm_storeu_si128(halves.as_mut_ptr().cast(), rounded);
        }
    }
    value_rest.iter().zip(half_rest).for_each(|(value, half)| *half = f32_to_half(*value));
}

/// Widens `halves` to `values`, with the conversion instruction where the machine has it.
pub fn widen_all(halves: &[u16], values: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") {
        // SAFETY: the machine has the instruction.
        return unsafe { widen_all_f16c(halves, values) };
    }
    halves.iter().zip(values).for_each(|(half, value)| *value = half_to_f32(*half));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,f16c")]
fn widen_all_f16c(halves: &[u16], values: &mut [f32]) {
    use std::arch::x86_64::*;
    let (half_chunks, half_rest) = halves.as_chunks::<8>();
    let (value_chunks, value_rest) = values.as_chunks_mut::<8>();
    for (halves, values) in half_chunks.iter().zip(value_chunks) {
        // SAFETY: eight halves are read, eight floats written.
        unsafe {
            let wide = _mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast()));
            _mm256_storeu_ps(values.as_mut_ptr(), wide);
        }
    }
    half_rest.iter().zip(value_rest).for_each(|(half, value)| *value = half_to_f32(*half));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_widened_like_by_the_kernels() {
        for bits in 0..=u16::MAX {
            let mut wide = [0.0; 8];
            widen_all(&[bits; 8], &mut wide);
            let value = half_to_f32(bits);
            assert!(wide[7].to_bits() == value.to_bits() || value.is_nan() && wide[7].is_nan(), "{bits:#x}");
        }
    }

    #[test]
    fn numbers_are_rounded_like_by_the_kernels() {
        for step in 0..2_000_000u32 {
            let value = f32::from_bits(step.wrapping_mul(2147) ^ 0x3f5a_1234);
            let mut halves = [0; 8];
            round_all(&[value; 8], &mut halves);
            assert_eq!(halves[3], f32_to_half(value), "{value}");
        }
    }
}
