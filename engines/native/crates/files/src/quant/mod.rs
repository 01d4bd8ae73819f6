//! ggml's block types: rows of blocks, each a few half-precision scales and packed small integers. Layouts follow
//! ggml's `ggml-common.h`; the 32-blocks are coded bit by bit as its reference quantizers do.

mod blocks;
mod encode;
mod k_decode;
mod k_encode;

use crate::tensor::TensorType;

/// Decodes a row; `bytes` is a whole number of blocks and `out` has their weights.
/// Panics on [`TensorType::ChannelInt8`], whose scale is not in the row.
pub fn decode_row(kind: TensorType, bytes: &[u8], out: &mut [f32]) {
    debug_assert_eq!(kind.row_bytes(out.len()), Some(bytes.len()));
    if let Some(dtype) = kind.dtype() {
        return dtype.decode(bytes, out);
    }
    let pairs = bytes.chunks_exact(kind.block_bytes()).zip(out.chunks_exact_mut(kind.block_length()));
    let decode: fn(&[u8], &mut [f32]) = match kind {
        TensorType::Q4_0 => blocks::decode_q4_0,
        TensorType::Q4_1 => blocks::decode_q4_1,
        TensorType::Q5_0 => blocks::decode_q5_0,
        TensorType::Q5_1 => blocks::decode_q5_1,
        TensorType::Q8_0 => blocks::decode_q8_0,
        TensorType::Q4K => k_decode::decode_q4_k,
        TensorType::Q5K => k_decode::decode_q5_k,
        TensorType::Q6K => k_decode::decode_q6_k,
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 | TensorType::ChannelInt8 => {
            unreachable!("{} has no blocks", kind.name())
        }
    };
    pairs.for_each(|(block, values)| decode(block, values));
}

/// Encodes a row of finite numbers, a whole number of blocks, and appends its bytes. Scales beyond half precision become
/// infinite: see [`is_finite`]. Panics on [`TensorType::ChannelInt8`], whose scale is not in the row.
pub fn encode_row(kind: TensorType, values: &[f32], out: &mut Vec<u8>) {
    debug_assert!(kind.row_bytes(values.len()).is_some());
    if let Some(dtype) = kind.dtype() {
        return dtype.encode(values, out);
    }
    let encode: fn(&[f32], &mut [u8]) = match kind {
        TensorType::Q4_0 => encode::encode_q4_0,
        TensorType::Q4_1 => encode::encode_q4_1,
        TensorType::Q5_0 => encode::encode_q5_0,
        TensorType::Q5_1 => encode::encode_q5_1,
        TensorType::Q8_0 => encode::encode_q8_0,
        TensorType::Q4K => k_encode::encode_q4_k,
        TensorType::Q5K => k_encode::encode_q5_k,
        TensorType::Q6K => k_encode::encode_q6_k,
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 | TensorType::ChannelInt8 => {
            unreachable!("{} has no blocks", kind.name())
        }
    };
    let start = out.len();
    out.resize(start + values.len() / kind.block_length() * kind.block_bytes(), 0);
    let blocks = out[start..].chunks_exact_mut(kind.block_bytes());
    values.chunks_exact(kind.block_length()).zip(blocks).for_each(|(values, block)| encode(values, block));
}

/// Scale of a row of finite numbers as [`TensorType::ChannelInt8`] holds it: the greatest magnitude over 127; 1 for a
/// row of zeros.
pub fn channel_scale(values: &[f32]) -> f32 {
    let scale = values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
    if scale > 0.0 {
        scale
    } else {
        1.0
    }
}

/// The codes of a row under its [`channel_scale`], two's complement.
pub fn channel_codes(values: &[f32], scale: f32) -> Vec<u8> {
    values.iter().map(|value| (value / scale).round().clamp(-127.0, 127.0) as i8 as u8).collect()
}

/// Whether all numbers of a stored row are finite. Looks at exponents only: a block is finite where its half-precision
/// scales are. True for [`TensorType::ChannelInt8`], whose scale is not in the row.
pub fn is_finite(kind: TensorType, row: &[u8]) -> bool {
    let half = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]) & 0x7c00 != 0x7c00;
    match kind {
        TensorType::ChannelInt8 => true,
        // Greatest exponents instead of "all": the compiler makes vectors of a maximum.
        TensorType::F32 => {
            let exponent = |raw: &[u8; 4]| i32::from_le_bytes(*raw) & 0x7f80_0000;
            row.as_chunks::<4>().0.iter().fold(0, |most, raw| exponent(raw).max(most)) < 0x7f80_0000
        }
        TensorType::Bf16 => greatest(row, 0x7f80) < 0x7f80,
        TensorType::F16 => greatest(row, 0x7c00) < 0x7c00,
        kind => row.chunks_exact(kind.block_bytes()).all(|block| match kind {
            TensorType::Q6K => half(&block[208..]),
            TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4K | TensorType::Q5K => half(block) && half(&block[2..]),
            _ => half(block),
        }),
    }
}

/// Greatest value under a mask among 16-bit numbers.
fn greatest(row: &[u8], mask: i16) -> i16 {
    row.as_chunks::<2>().0.iter().fold(0, |most, raw| (i16::from_le_bytes(*raw) & mask).max(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_hold_zeros_denormals_and_extremes() {
        for values in [[0.0, -0.0, 0.0], [1e-44, -1e-44, 0.0], [f32::MAX, -f32::MAX, f32::MAX / 2.0], [3.0, -1.5, 0.0]]
        {
            let scale = channel_scale(&values);
            assert!(scale > 0.0 && scale.is_finite());
            let codes = channel_codes(&values, scale);
            for (value, code) in values.iter().zip(codes) {
                let back = f64::from(code as i8) * f64::from(scale);
                assert!((back - f64::from(*value)).abs() <= 0.5001 * f64::from(scale), "{value} came back as {back}");
            }
        }
    }
}
