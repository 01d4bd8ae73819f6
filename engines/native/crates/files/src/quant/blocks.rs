use crate::dtype::f16_to_f32;

pub(crate) fn half(bytes: &[u8], place: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[place], bytes[place + 1]]))
}

/// Weights of a block.
const LENGTH: usize = 32;

pub(crate) fn decode_q8_0(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    for (value, byte) in out.iter_mut().zip(&block[2..]) {
        *value = f32::from(*byte as i8) * scale;
    }
}

/// The 32 low nibbles then high nibbles of 16 bytes, in the order of the weights.
fn nibble(bytes: &[u8], index: usize) -> u8 {
    (bytes[index % 16] >> (index / 16 * 4)) & 15
}

fn fifth_bit(bytes: &[u8], index: usize) -> u8 {
    ((bytes[index / 8] >> (index % 8)) & 1) << 4
}

pub(crate) fn decode_q4_0(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    for (index, value) in out.iter_mut().enumerate().take(LENGTH) {
        *value = scale * (f32::from(nibble(&block[2..], index)) - 8.0);
    }
}

pub(crate) fn decode_q4_1(block: &[u8], out: &mut [f32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    for (index, value) in out.iter_mut().enumerate().take(LENGTH) {
        *value = scale * f32::from(nibble(&block[4..], index)) + least;
    }
}

pub(crate) fn decode_q5_0(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    for (index, value) in out.iter_mut().enumerate().take(LENGTH) {
        let code = nibble(&block[6..], index) | fifth_bit(&block[2..], index);
        *value = scale * (f32::from(code) - 16.0);
    }
}

pub(crate) fn decode_q5_1(block: &[u8], out: &mut [f32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    for (index, value) in out.iter_mut().enumerate().take(LENGTH) {
        let code = nibble(&block[8..], index) | fifth_bit(&block[4..], index);
        *value = scale * f32::from(code) + least;
    }
}
