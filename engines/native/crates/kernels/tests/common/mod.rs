//! Inputs for the tests: a small generator of random numbers and raw GGUF rows.
#![allow(dead_code)]

use cupel_kernels::{f32_to_half, gemm_block, BlockKind, BlockPanels, BlockRows, Isa, Out};

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Between -1 and 1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    /// Values of very different sizes, zeros, denormals and whole blocks of zeros among them.
    pub fn wild_floats(&mut self, count: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(count);
        while values.len() < count {
            let style = self.below(6);
            for _ in 0..32 {
                let value = self.float();
                values.push(match style {
                    0 => 0.0,
                    1 => value * f32::from_bits(1 + self.below(1 << 22) as u32),
                    2 => value * 1e-36,
                    3 => value * 1e30,
                    4 if self.below(2) == 0 => 0.0,
                    4 => value * 2.0f32.powi(self.below(40) as i32 - 20),
                    _ => value,
                });
            }
        }
        values.truncate(count);
        values
    }

    /// Bytes of `n` raw rows; every field takes every value, but scales are finite.
    pub fn raw_rows(&mut self, kind: BlockKind, k: usize, n: usize, ordinary: bool) -> Vec<u8> {
        let (_, bytes) = kind.block();
        let mut rows: Vec<u8> = (0..kind.row_bytes(k) * n).map(|_| self.next() as u8).collect();
        let halves: &[usize] = match kind {
            BlockKind::Q8_0 | BlockKind::Q4_0 | BlockKind::Q5_0 => &[0],
            BlockKind::Q6K => &[208],
            _ => &[0, 2],
        };
        for block in rows.chunks_exact_mut(bytes) {
            for at in halves {
                let bits = match self.below(if ordinary { 1 } else { 6 }) {
                    1 => 0,
                    2 => 0x8000,
                    3 => self.below(0x400) as u16,
                    4 => 0x7bff,
                    5 => self.below(0x7c00) as u16,
                    _ => f32_to_half(self.float() * 0.05),
                };
                block[*at..*at + 2].copy_from_slice(&bits.to_le_bytes());
            }
            if !ordinary && kind == BlockKind::Q8_0 && self.below(3) == 0 {
                let extreme = [0x80, 0x7f, 0x81, 0][self.below(4)];
                block[2..].fill(extreme);
            }
        }
        rows
    }
}

pub fn pack(kind: BlockKind, k: usize, n: usize, raw: &[u8]) -> BlockPanels {
    let bytes = kind.row_bytes(k);
    BlockPanels::pack(kind, k, n, &|row| &raw[row * bytes..][..bytes], &mut |count, task| (0..count).for_each(task))
}

/// Bits, with every NaN alike.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).collect()
}

/// All that this machine has.
pub fn isas() -> Vec<Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
}

/// The whole product.
pub fn product(isa: Isa, a: &BlockRows, b: &BlockPanels) -> Vec<f32> {
    let mut out = vec![f32::NAN; a.rows() * b.n()];
    // SAFETY: one task.
    unsafe { gemm_block(isa, a, 0..a.rows(), b, 0..b.panels(), Out::new(&mut out, b.n()), false) };
    out
}
