//! The 32-blocks, written bit by bit as ggml's reference quantizers write them (`quantize_row_q*_ref` in ggml-quants.c).

use crate::dtype::f16_bits;

pub(crate) fn put_half(out: &mut [u8], place: usize, value: f32) {
    out[place..place + 2].copy_from_slice(&f16_bits(value).to_le_bytes());
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 {
        0.0
    } else {
        1.0 / scale
    }
}

/// The value of the greatest magnitude, the first of several.
fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |best: f32, value| if value.abs() > best.abs() { *value } else { best })
}

fn range(values: &[f32]) -> (f32, f32) {
    let least = values.iter().fold(f32::MAX, |best, value| best.min(*value));
    let most = values.iter().fold(f32::MIN, |best, value| best.max(*value));
    (least, most)
}

/// Low nibbles of 32 codes: the first half in the lower, the second in the upper half of 16 bytes.
fn put_nibbles(codes: &[u8; 32], out: &mut [u8]) {
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = (codes[index] & 15) | (codes[index + 16] << 4);
    }
}

/// Fifth bits of 32 codes, one bit each, little-endian.
fn put_fifth_bits(codes: &[u8; 32], out: &mut [u8]) {
    for (byte, codes) in out.iter_mut().zip(codes.chunks_exact(8)) {
        *byte = codes.iter().enumerate().fold(0, |bits, (index, code)| bits | ((code >> 4) << index));
    }
}

fn codes(values: &[f32], code: impl Fn(f32) -> u8) -> [u8; 32] {
    let mut codes = [0; 32];
    for (place, value) in codes.iter_mut().zip(values) {
        *place = code(*value);
    }
    codes
}

pub(crate) fn encode_q8_0(values: &[f32], out: &mut [u8]) {
    let scale = extreme(values).abs() / 127.0;
    let by = inverse(scale);
    put_half(out, 0, scale);
    for (byte, value) in out[2..].iter_mut().zip(values) {
        *byte = (value * by).round() as i8 as u8;
    }
}

pub(crate) fn encode_q4_0(values: &[f32], out: &mut [u8]) {
    let scale = extreme(values) / -8.0;
    let by = inverse(scale);
    put_half(out, 0, scale);
    put_nibbles(&codes(values, |value| ((value * by + 8.5) as u8).min(15)), &mut out[2..]);
}

pub(crate) fn encode_q4_1(values: &[f32], out: &mut [u8]) {
    let (least, most) = range(values);
    let scale = (most - least) / 15.0;
    let by = inverse(scale);
    put_half(out, 0, scale);
    put_half(out, 2, least);
    put_nibbles(&codes(values, |value| (((value - least) * by + 0.5) as u8).min(15)), &mut out[4..]);
}

pub(crate) fn encode_q5_0(values: &[f32], out: &mut [u8]) {
    let scale = extreme(values) / -16.0;
    let by = inverse(scale);
    put_half(out, 0, scale);
    let codes = codes(values, |value| ((value * by + 16.5) as u8).min(31));
    put_fifth_bits(&codes, &mut out[2..6]);
    put_nibbles(&codes, &mut out[6..]);
}

pub(crate) fn encode_q5_1(values: &[f32], out: &mut [u8]) {
    let (least, most) = range(values);
    let scale = (most - least) / 31.0;
    let by = inverse(scale);
    put_half(out, 0, scale);
    put_half(out, 2, least);
    let codes = codes(values, |value| (((value - least) * by + 0.5) as u8).min(31));
    put_fifth_bits(&codes, &mut out[4..8]);
    put_nibbles(&codes, &mut out[8..]);
}
