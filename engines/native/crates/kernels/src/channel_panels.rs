use super::block_panels::Parallel;
use super::bytes::Bytes;
use super::gemm::{panel_count, PANEL};
use super::token_rows::{MAX_CHANNEL_K, PAD};

/// Signed 8-bit weights `[n, k]` (an output a row) with one scale an output, as panels of 16 outputs: unsigned bytes
/// (the weight plus 128) in the order `[k / 4][16 outputs][4]`. Missing outputs are zero; missing steps meet zeros.
pub struct ChannelPanels {
    k: usize,
    n: usize,
    pub(crate) quants: Bytes,
    pub(crate) scales: Vec<f32>,
}

impl ChannelPanels {
    /// Packs rows of `k` signed bytes: `row(i)` gives row `i` of `n`, `scale(i)` its scale. `parallel` runs one task a
    /// panel.
    ///
    /// # Panics
    /// If a row has another length, or `k` is above `MAX_CHANNEL_K`.
    pub fn pack<'a>(
        k: usize,
        n: usize,
        row: &(dyn Fn(usize) -> &'a [u8] + Sync),
        scale: &(dyn Fn(usize) -> f32 + Sync),
        parallel: &mut Parallel<'_>,
    ) -> Self {
        assert!(k <= MAX_CHANNEL_K, "rows of {k} elements");
        let size = k.next_multiple_of(PAD) * PANEL;
        let mut quants = Bytes::uninitialized(size * panel_count(n));
        let writer = quants.writer();
        parallel(panel_count(n), &|panel| {
            // SAFETY: one task a panel.
            let out = unsafe { writer.part(panel, size) };
            for column in 0..PANEL.min(n - panel * PANEL) {
                let raw = row(panel * PANEL + column);
                assert_eq!(raw.len(), k, "bytes of a row of {k} elements");
                for (line, four) in out.chunks_exact_mut(64).zip(raw.chunks(4)) {
                    for (out, q) in line[column * 4..].iter_mut().zip(four) {
                        *out = q ^ 0x80;
                    }
                }
            }
        });
        let mut scales: Vec<f32> = (0..n).map(scale).collect();
        scales.resize(panel_count(n) * PANEL, 0.0);
        Self { k, n, quants, scales }
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

    /// Memory that the weights take.
    pub fn bytes(&self) -> usize {
        self.quants.len() + self.scales.len() * 4
    }

    /// Writes row `row` as `scale * q`.
    ///
    /// # Panics
    /// If the row does not exist or `out` has another length than `k`.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n && out.len() == self.k, "row outside of the matrix");
        let panel = self.panel(row / PANEL);
        for (step, out) in out.iter_mut().enumerate() {
            let q = panel[step / 4 * 64 + row % PANEL * 4 + step % 4];
            *out = self.scales[row] * (i32::from(q) - 128) as f32;
        }
    }

    pub(crate) fn padded(&self) -> usize {
        self.k.next_multiple_of(PAD)
    }

    /// The bytes of a panel.
    pub(crate) fn panel(&self, panel: usize) -> &[u8] {
        assert!(panel < self.panels(), "panel outside of the matrix");
        let size = self.padded() * PANEL;
        // SAFETY: inside the buffer, which packing filled.
        unsafe { std::slice::from_raw_parts(self.quants.as_ptr().add(panel * size), size) }
    }
}
