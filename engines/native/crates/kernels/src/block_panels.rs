use super::block_kind::BlockKind;
use super::block_rows::BLOCK;
use super::bytes::Bytes;
use super::gemm::{panel_count, PANEL};
use super::half::half_to_f32;

/// Runs a closure for every index below a count, on as many threads as it likes.
pub type Parallel<'a> = dyn FnMut(usize, &(dyn Fn(usize) + Sync)) + 'a;

/// Quantized weights `[n, k]` (an output a row) as panels of 16 outputs, without loss against the file.
///
/// A block of a panel holds 32 steps of `k` as unsigned bytes in the order `[k / 4][16 outputs][4]`, that is 512 bytes;
/// with nibbles step `s` and `s + 16` share a byte, 256 bytes. Scales and minima lie apart, 16 neighbours for each
/// block (two times 16 for Q6_K). Missing outputs and steps are zero.
pub struct BlockPanels {
    kind: BlockKind,
    k: usize,
    n: usize,
    pub(crate) quants: Bytes,
    pub(crate) scales: Bytes,
    pub(crate) minima: Bytes,
}

impl BlockPanels {
    /// Packs raw rows of a GGUF tensor: `row(i)` gives row `i` of `n`, `kind.row_bytes(k)` bytes. `parallel` runs one
    /// task a panel.
    ///
    /// # Panics
    /// If a row has another length.
    pub fn pack<'a>(
        kind: BlockKind,
        k: usize,
        n: usize,
        row: &(dyn Fn(usize) -> &'a [u8] + Sync),
        parallel: &mut Parallel<'_>,
    ) -> Self {
        let blocks = k.div_ceil(BLOCK);
        let count = blocks * panel_count(n);
        let sizes = Sizes::of(kind);
        let mut packed = Self {
            kind,
            k,
            n,
            quants: Bytes::uninitialized(count * sizes.quants),
            scales: Bytes::uninitialized(count * sizes.scales),
            minima: Bytes::uninitialized(count * sizes.minima),
        };
        let (quants, scales, minima) = (packed.quants.writer(), packed.scales.writer(), packed.minima.writer());
        parallel(panel_count(n), &|panel| {
            // SAFETY: one task a panel.
            let (quants, scales, minima) = unsafe {
                (
                    quants.part(panel, blocks * sizes.quants),
                    scales.part(panel, blocks * sizes.scales),
                    minima.part(panel, blocks * sizes.minima),
                )
            };
            let width = PANEL.min(n - panel * PANEL);
            let rows: [&[u8]; PANEL] = std::array::from_fn(|column| row(panel * PANEL + column.min(width - 1)));
            for raw in rows {
                assert_eq!(raw.len(), kind.row_bytes(k), "bytes of a row of {k} elements of {kind:?}");
            }
            for block in 0..blocks {
                let quants = &mut quants[block * sizes.quants..][..sizes.quants];
                let scales = &mut scales[block * sizes.scales..][..sizes.scales];
                let minima = &mut minima[block * sizes.minima..][..sizes.minima];
                for (column, raw) in rows[..width].iter().enumerate() {
                    pack_block(kind, raw, block, column, quants, scales, minima);
                }
            }
        });
        packed
    }

    pub fn kind(&self) -> BlockKind {
        self.kind
    }

    /// Elements of a row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Rows, that is outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Panels of 16 outputs.
    pub fn panels(&self) -> usize {
        panel_count(self.n)
    }

    /// Blocks of a row.
    pub fn blocks(&self) -> usize {
        self.k.div_ceil(BLOCK)
    }

    /// Memory that the weights take.
    pub fn bytes(&self) -> usize {
        self.quants.len() + self.scales.len() + self.minima.len()
    }

    /// Writes row `row` as `scale * q + minimum` (two roundings), the values of the file.
    ///
    /// # Panics
    /// If the row does not exist or `out` has another length than `k`.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n && out.len() == self.k, "row outside of the matrix");
        let (panel, column) = (row / PANEL, row % PANEL);
        let format = self.kind.format();
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let at = panel * self.blocks() + block;
            let minimum = if format.minimum { self.minimum(at, column) } else { 0.0 };
            for (i, out) in out.iter_mut().enumerate() {
                let q = i32::from(self.value(at, i, column)) - i32::from(format.zero);
                let product = self.scale(at, i, column) * q as f32;
                *out = if format.minimum { product + minimum } else { product };
            }
        }
    }

    /// Block `at` as bytes in the order `[k / 4][16 outputs][4]`.
    pub(crate) fn unpack(&self, at: usize, out: &mut [u8; BLOCK * PANEL]) {
        let size = Sizes::of(self.kind).quants;
        assert!((at + 1) * size <= self.quants.len());
        // SAFETY: inside the buffer, which packing filled.
        let block = unsafe { std::slice::from_raw_parts(self.quants.as_ptr().add(at * size), size) };
        if self.kind.format().nibbles {
            for (i, byte) in block.iter().enumerate() {
                out[i] = byte & 15;
                out[i + BLOCK * PANEL / 2] = byte >> 4;
            }
        } else {
            out.copy_from_slice(block);
        }
    }

    /// Stored value of step `step` of block `at`, counted through the panels.
    pub(crate) fn value(&self, at: usize, step: usize, column: usize) -> u8 {
        if self.kind.format().nibbles {
            let byte = self.byte(&self.quants, at * 256 + (step % 16 / 4) * 64 + column * 4 + step % 4);
            byte >> (step / 16 * 4) & 15
        } else {
            self.byte(&self.quants, at * 512 + step / 4 * 64 + column * 4 + step % 4)
        }
    }

    /// Scale of step `step` of block `at`.
    pub(crate) fn scale(&self, at: usize, step: usize, column: usize) -> f32 {
        let at = if self.kind.format().split { at * 2 + step / 16 } else { at };
        self.number(&self.scales, at * PANEL + column)
    }

    pub(crate) fn minimum(&self, at: usize, column: usize) -> f32 {
        self.number(&self.minima, at * PANEL + column)
    }

    fn number(&self, bytes: &Bytes, index: usize) -> f32 {
        let byte = |at| self.byte(bytes, at);
        if self.kind.format().wide {
            f32::from_le_bytes(std::array::from_fn(|i| byte(index * 4 + i)))
        } else {
            half_to_f32(u16::from_le_bytes(std::array::from_fn(|i| byte(index * 2 + i))))
        }
    }

    #[inline]
    fn byte(&self, bytes: &Bytes, at: usize) -> u8 {
        assert!(at < bytes.len());
        // SAFETY: inside the buffer, which packing filled.
        unsafe { *bytes.as_ptr().add(at) }
    }
}

/// Bytes of one block of a panel.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub quants: usize,
    pub scales: usize,
    pub minima: usize,
}

impl Sizes {
    pub const fn of(kind: BlockKind) -> Self {
        let format = kind.format();
        let numbers = PANEL * if format.wide { 4 } else { 2 };
        Self {
            quants: PANEL * BLOCK / if format.nibbles { 2 } else { 1 },
            scales: numbers * if format.split { 2 } else { 1 },
            minima: if format.minimum { numbers } else { 0 },
        }
    }
}

#[inline]
fn pack_block(
    kind: BlockKind,
    raw: &[u8],
    block: usize,
    column: usize,
    quants: &mut [u8],
    scales: &mut [u8],
    minima: &mut [u8],
) {
    let format = kind.format();
    if kind == BlockKind::Q8_0 {
        // The common kind needs no more than a new order.
        let raw = &raw[block * 34..][..34];
        scales[column * 2..][..2].copy_from_slice(&raw[..2]);
        let lines = quants.as_chunks_mut::<64>().0.iter_mut();
        for (line, four) in lines.zip(raw[2..].as_chunks::<4>().0) {
            line[column * 4..][..4].copy_from_slice(&four.map(|q| q ^ 0x80));
        }
        return;
    }
    let from = kind.read(raw, block);
    if format.nibbles {
        for step in 0..BLOCK / 2 {
            quants[step / 4 * 64 + column * 4 + step % 4] = from.values[step] | from.values[step + 16] << 4;
        }
    } else {
        for (step, four) in from.values.as_chunks::<4>().0.iter().enumerate() {
            quants[step * 64 + column * 4..][..4].copy_from_slice(four);
        }
    }
    if format.wide {
        for (scale, out) in from.scale.iter().zip(scales.chunks_exact_mut(PANEL * 4)) {
            out[column * 4..][..4].copy_from_slice(&scale.to_le_bytes());
        }
    } else {
        scales[column * 2..][..2].copy_from_slice(&from.scale_bits.to_le_bytes());
    }
    if format.minimum && format.wide {
        minima[column * 4..][..4].copy_from_slice(&from.minimum.to_le_bytes());
    } else if format.minimum {
        minima[column * 2..][..2].copy_from_slice(&from.minimum_bits.to_le_bytes());
    }
}
