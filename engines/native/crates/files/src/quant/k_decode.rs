use super::blocks::half;

/// Six-bit scale and minimum of sub-block `index` (0 to 7) out of the 12 packed bytes of Q4_K and Q5_K: the first four
/// pairs are the low six bits of bytes 0-3 and 4-7; the low nibbles of the last four lie in bytes 8-11, their upper
/// two bits in the top of the first eight.
pub(crate) fn scale_and_least(packed: &[u8], index: usize) -> (u8, u8) {
    if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let low = packed[index + 4];
        ((low & 15) | (packed[index - 4] >> 6 << 4), (low >> 4) | (packed[index] >> 6 << 4))
    }
}

/// Block: scale d, scale of minima, 12 bytes of sub-block scales, 128 bytes of nibbles; each 32 bytes hold two
/// sub-blocks of 32, low nibbles first.
pub(crate) fn decode_q4_k(block: &[u8], out: &mut [f32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    for (index, part) in out.chunks_exact_mut(32).enumerate() {
        let (factor, minimum) = scale_and_least(&block[4..16], index);
        let (factor, minimum) = (scale * f32::from(factor), least * f32::from(minimum));
        let bytes = &block[16 + index / 2 * 32..][..32];
        for (value, byte) in part.iter_mut().zip(bytes) {
            *value = factor * f32::from((byte >> (index % 2 * 4)) & 15) - minimum;
        }
    }
}

/// As Q4_K, with 32 bytes of fifth bits before the nibbles: bit `index` of byte `i` belongs to weight `i` of that
/// sub-block.
pub(crate) fn decode_q5_k(block: &[u8], out: &mut [f32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    let fifth = &block[16..48];
    for (index, part) in out.chunks_exact_mut(32).enumerate() {
        let (factor, minimum) = scale_and_least(&block[4..16], index);
        let (factor, minimum) = (scale * f32::from(factor), least * f32::from(minimum));
        let bytes = &block[48 + index / 2 * 32..][..32];
        for ((value, byte), bits) in part.iter_mut().zip(bytes).zip(fifth) {
            let code = ((byte >> (index % 2 * 4)) & 15) | (((bits >> index) & 1) << 4);
            *value = factor * f32::from(code) - minimum;
        }
    }
}

/// Block: 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales of 16 weights each, scale d. Each
/// half of 128 weights has four quarters of 32: the nibbles of bytes 0-31, 32-63, then the high ones of the same.
pub(crate) fn decode_q6_k(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 208);
    for (index, part) in out.chunks_exact_mut(32).enumerate() {
        let (side, quarter) = (index / 4, index % 4);
        let low = &block[side * 64 + quarter % 2 * 32..][..32];
        let high = &block[128 + side * 32..][..32];
        for (place, value) in part.iter_mut().enumerate() {
            let code = ((low[place] >> (quarter / 2 * 4)) & 15) | (((high[place] >> (quarter * 2)) & 3) << 4);
            let factor = scale * f32::from(block[192 + index * 2 + place / 16] as i8);
            *value = factor * (f32::from(code) - 32.0);
        }
    }
}
