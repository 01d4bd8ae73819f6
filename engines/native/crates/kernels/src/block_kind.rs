use super::block_rows::BLOCK;
use super::half::half_to_f32;

/// Block formats of GGUF. Elements of a row are stored in blocks of 32 with a scale (`Q*_0`), with a scale and a
/// minimum (`Q*_1`), or in superblocks of 256 (`Q*K`) whose scales of 32 or 16 elements are quantized too.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockKind {
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4K,
    Q5K,
    Q6K,
}

/// One block of 32 weights, undone from its file format: weight `i` is `scale[i / 16] * (values[i] - zero) + minimum`.
pub(crate) struct RawBlock {
    /// With the zero point of the kind's layout.
    pub values: [u8; BLOCK],
    pub scale: [f32; 2],
    pub minimum: f32,
    /// The half that `scale` came from, where it is one.
    pub scale_bits: u16,
    /// Likewise.
    pub minimum_bits: u16,
}

/// How a kind lies in memory.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Format {
    /// Two weights in a byte.
    pub nibbles: bool,
    /// What to subtract from a stored value.
    pub zero: u8,
    /// Scales and minima are f32, else f16.
    pub wide: bool,
    pub minimum: bool,
    /// A scale for 16 weights instead of 32.
    pub split: bool,
}

impl BlockKind {
    pub const ALL: [Self; 8] =
        [Self::Q8_0, Self::Q4_0, Self::Q4_1, Self::Q5_0, Self::Q5_1, Self::Q4K, Self::Q5K, Self::Q6K];

    /// Elements and bytes of one block of the file format.
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }

    /// Bytes of a raw row of `k` elements; a last block that is not full counts whole.
    pub const fn row_bytes(self, k: usize) -> usize {
        let (elements, bytes) = self.block();
        k.div_ceil(elements) * bytes
    }

    pub(crate) const fn format(self) -> Format {
        let nibbles = matches!(self, Self::Q4_0 | Self::Q4_1 | Self::Q4K);
        let minimum = matches!(self, Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K);
        let zero = match self {
            Self::Q4_0 => 8,
            Self::Q8_0 | Self::Q5_0 | Self::Q6K => 128,
            _ => 0,
        };
        let wide = matches!(self, Self::Q4K | Self::Q5K | Self::Q6K);
        Format { nibbles, zero, wide, minimum, split: matches!(self, Self::Q6K) }
    }

    /// Reads block `index` (of 32) of a raw row. Source of the formats: ggml's block definitions.
    ///
    /// # Panics
    /// If the row is too short.
    pub(crate) fn read(self, row: &[u8], index: usize) -> RawBlock {
        let (elements, bytes) = self.block();
        let raw = &row[index * BLOCK / elements * bytes..][..bytes];
        let part = index % (elements / BLOCK);
        let bits = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
        let mut values = [0u8; BLOCK];
        let simple = |values, minimum_bits: Option<u16>| RawBlock {
            values,
            scale: [half_to_f32(bits(0)); 2],
            minimum: minimum_bits.map_or(0.0, half_to_f32),
            scale_bits: bits(0),
            minimum_bits: minimum_bits.unwrap_or(0),
        };
        match self {
            Self::Q8_0 => {
                values.iter_mut().zip(&raw[2..]).for_each(|(value, q)| *value = q ^ 0x80);
                simple(values, None)
            }
            Self::Q4_0 => simple(nibbles(&raw[2..18]), None),
            Self::Q4_1 => simple(nibbles(&raw[4..20]), Some(bits(2))),
            Self::Q5_0 => simple(fives(&raw[2..6], &raw[6..22]).map(|q| q + 128 - 16), None),
            Self::Q5_1 => simple(fives(&raw[4..8], &raw[8..24]), Some(bits(2))),
            Self::Q4K | Self::Q5K => {
                let quants = &raw[if self == Self::Q4K { 16 } else { 48 }..][part / 2 * BLOCK..][..BLOCK];
                for (i, value) in values.iter_mut().enumerate() {
                    *value = quants[i] >> (part % 2 * 4) & 15;
                    if self == Self::Q5K {
                        *value |= (raw[16 + i] >> part & 1) << 4;
                    }
                }
                let (scale, minimum) = six_bit_pair(&raw[4..16], part);
                RawBlock {
                    values,
                    // Products of 11 and 6 bits: exact.
                    scale: [half_to_f32(bits(0)) * f32::from(scale); 2],
                    minimum: -(half_to_f32(bits(2)) * f32::from(minimum)),
                    scale_bits: 0,
                    minimum_bits: 0,
                }
            }
            Self::Q6K => {
                let (half, quarter) = (part / 4, part % 4);
                let low = &raw[64 * half + 32 * (quarter % 2)..][..BLOCK];
                let high = &raw[128 + 32 * half..][..BLOCK];
                for (i, value) in values.iter_mut().enumerate() {
                    let q = low[i] >> (quarter / 2 * 4) & 15 | (high[i] >> (2 * quarter) & 3) << 4;
                    *value = q + 128 - 32;
                }
                // Exact: 11 and 8 bits.
                let scale = |i: usize| half_to_f32(bits(208)) * f32::from(raw[192 + 2 * part + i] as i8);
                RawBlock { values, scale: [scale(0), scale(1)], minimum: 0.0, scale_bits: 0, minimum_bits: 0 }
            }
        }
    }
}

/// Element `j` is the low half of byte `j`, element `j + 16` its high half.
fn nibbles(quants: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|i| quants[i % 16] >> (i / 16 * 4) & 15)
}

/// As `nibbles`, with bit `i` of `high` as the fifth bit of element `i`.
fn fives(high: &[u8], quants: &[u8]) -> [u8; BLOCK] {
    let low = nibbles(quants);
    std::array::from_fn(|i| low[i] | (high[i / 8] >> (i % 8) & 1) << 4)
}

/// Scale and minimum of block `part` of a superblock, six bits each in 12 bytes.
fn six_bit_pair(packed: &[u8], part: usize) -> (u8, u8) {
    if part < 4 {
        return (packed[part] & 63, packed[part + 4] & 63);
    }
    let shared = packed[part + 4];
    (shared & 15 | packed[part - 4] >> 6 << 4, shared >> 4 | packed[part] >> 6 << 4)
}
