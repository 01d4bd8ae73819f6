//! Packed weights give the values that the GGUF formats define, written down here a second time and element by element.
mod common;

use common::{bits, pack, Random};
use cupel_kernels::{half_to_f32, BlockKind};

fn half(raw: &[u8], at: usize) -> f32 {
    half_to_f32(u16::from_le_bytes([raw[at], raw[at + 1]]))
}

/// Element `i` of a row, from the definition of its format.
fn element(kind: BlockKind, row: &[u8], i: usize) -> f32 {
    let (elements, bytes) = kind.block();
    let raw = &row[i / elements * bytes..][..bytes];
    let j = i % elements;
    let nibble = |bytes: &[u8]| if j < 16 { bytes[j] % 16 } else { bytes[j - 16] / 16 };
    let fifth = |bytes: &[u8]| (u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) >> j & 1) as u8 * 16;
    // Six-bit scale and minimum of each 32 of a superblock.
    let pair = |packed: &[u8]| {
        let group = j / 32;
        if group < 4 {
            (packed[group] % 64, packed[group + 4] % 64)
        } else {
            let scale = packed[group + 4] % 16 + packed[group - 4] / 64 * 16;
            (scale, packed[group + 4] / 16 + packed[group] / 64 * 16)
        }
    };
    let affine = |packed: &[u8], q: u8| {
        let (scale, minimum) = pair(packed);
        half(raw, 0) * f32::from(scale) * f32::from(q) - half(raw, 2) * f32::from(minimum)
    };
    let four_of = |bytes: &[u8]| bytes[j / 64 * 32 + j % 32] >> (if j % 64 < 32 { 0 } else { 4 }) & 15;
    match kind {
        BlockKind::Q8_0 => half(raw, 0) * f32::from(raw[2 + j] as i8),
        BlockKind::Q4_0 => half(raw, 0) * f32::from(nibble(&raw[2..]) as i8 - 8),
        BlockKind::Q4_1 => half(raw, 0) * f32::from(nibble(&raw[4..])) + half(raw, 2),
        BlockKind::Q5_0 => half(raw, 0) * f32::from((nibble(&raw[6..]) + fifth(&raw[2..])) as i8 - 16),
        BlockKind::Q5_1 => half(raw, 0) * f32::from(nibble(&raw[8..]) + fifth(&raw[4..])) + half(raw, 2),
        BlockKind::Q4K => affine(&raw[4..16], four_of(&raw[16..])),
        BlockKind::Q5K => affine(&raw[4..16], four_of(&raw[48..]) + (raw[16 + j % 32] >> (j / 32) & 1) * 16),
        BlockKind::Q6K => {
            let (half_index, l) = (j / 128, j % 32);
            let (low, high, scales) =
                (&raw[64 * half_index..], &raw[128 + 32 * half_index..], &raw[192 + 8 * half_index..]);
            let (q, scale) = match j % 128 / 32 {
                0 => (low[l] & 15 | (high[l] & 3) << 4, scales[l / 16]),
                1 => (low[l + 32] & 15 | (high[l] >> 2 & 3) << 4, scales[l / 16 + 2]),
                2 => (low[l] >> 4 | (high[l] >> 4 & 3) << 4, scales[l / 16 + 4]),
                _ => (low[l + 32] >> 4 | (high[l] >> 6 & 3) << 4, scales[l / 16 + 6]),
            };
            half(raw, 208) * f32::from(scale as i8) * f32::from(q as i8 - 32)
        }
    }
}

#[test]
fn packed_weights_are_those_of_the_file() {
    let mut random = Random(8);
    for kind in BlockKind::ALL {
        for (n, k) in [(1, 256), (16, 512), (37, 768)] {
            let raw = random.raw_rows(kind, k, n, n == 16);
            let b = pack(kind, k, n, &raw);
            let mut row = vec![0.0; k];
            for i in 0..n {
                b.dequantize_row(i, &mut row);
                let bytes = &raw[i * kind.row_bytes(k)..][..kind.row_bytes(k)];
                let expected: Vec<f32> = (0..k).map(|j| element(kind, bytes, j)).collect();
                // A zero may differ in its sign: -0 minus nothing.
                let plain = |values: &[f32]| bits(&values.iter().map(|value| value + 0.0).collect::<Vec<f32>>());
                assert_eq!(plain(&row), plain(&expected), "{kind:?} row {i}");
            }
        }
    }
}

#[test]
fn one_block_of_each_format_gives_known_values() {
    // Scale 2, quants 0, 1, 2 ...; of Q*_1 and Q*K with minimum 1 (0.5 for 6-bit scales of one half).
    let two = 0x4000u16.to_le_bytes();
    let mut q8 = two.to_vec();
    q8.extend((0..32).map(|i: i8| (i - 16) as u8));
    let mut row = vec![0.0; 32];
    pack(BlockKind::Q8_0, 32, 1, &q8).dequantize_row(0, &mut row);
    assert_eq!(row, (0..32).map(|i| 2.0 * (i as f32 - 16.0)).collect::<Vec<_>>());
    let mut q4 = two.to_vec();
    q4.extend((0..16).map(|i: u8| i | (15 - i) << 4));
    pack(BlockKind::Q4_0, 32, 1, &q4).dequantize_row(0, &mut row);
    let expected: Vec<f32> = (0..16).chain((0..16).rev()).map(|q| 2.0 * (q as f32 - 8.0)).collect();
    assert_eq!(row, expected);
}
