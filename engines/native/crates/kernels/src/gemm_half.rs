use std::ops::Range;

use super::block_panels::Parallel;
use super::bytes::Bytes;
use super::gemm::{panel_count, Left, PANEL};
use super::gemm_tiles::{run_tiles, Bf16, Right, F16};
use super::half::{bf16_to_f32, half_to_f32};
use super::{Isa, Out};

/// Formats of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HalfKind {
    /// IEEE half.
    F16,
    Bf16,
}

/// Weights `[n, k]` (an output a row) stored in 16 bits, as panels of 16 outputs in the order `[k][16 outputs]`.
/// Missing outputs are zero.
pub struct HalfPanels {
    kind: HalfKind,
    k: usize,
    n: usize,
    lines: Bytes,
}

impl HalfPanels {
    /// Packs rows of `2 k` little-endian bytes: `row(i)` gives row `i` of `n`. `parallel` runs one task a panel.
    ///
    /// # Panics
    /// If a row has another length.
    pub fn pack<'a>(
        kind: HalfKind,
        k: usize,
        n: usize,
        row: &(dyn Fn(usize) -> &'a [u8] + Sync),
        parallel: &mut Parallel<'_>,
    ) -> Self {
        let size = k * PANEL * 2;
        let mut lines = Bytes::uninitialized(size * panel_count(n));
        let writer = lines.writer();
        parallel(panel_count(n), &|panel| {
            // SAFETY: one task a panel.
            let out = unsafe { writer.part(panel, size) };
            for column in 0..PANEL.min(n - panel * PANEL) {
                let raw = row(panel * PANEL + column);
                assert_eq!(raw.len(), 2 * k, "bytes of a row of {k} elements of {kind:?}");
                for (line, value) in out.chunks_exact_mut(PANEL * 2).zip(raw.as_chunks::<2>().0) {
                    line[column * 2..][..2].copy_from_slice(value);
                }
            }
        });
        Self { kind, k, n, lines }
    }

    pub fn kind(&self) -> HalfKind {
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

    /// Memory that the weights take.
    pub fn bytes(&self) -> usize {
        self.lines.len()
    }

    /// Widens row `row` exactly.
    ///
    /// # Panics
    /// If the row does not exist or `out` has another length than `k`.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n && out.len() == self.k, "row outside of the matrix");
        let (panel, column) = (row / PANEL, row % PANEL);
        for (step, out) in out.iter_mut().enumerate() {
            let at = ((panel * self.k + step) * PANEL + column) * 2;
            // SAFETY: inside the buffer, which packing filled, and on an even address.
            let bits = unsafe { self.lines.as_ptr().add(at).cast::<u16>().read() };
            *out = match self.kind {
                HalfKind::F16 => half_to_f32(u16::from_le(bits)),
                HalfKind::Bf16 => bf16_to_f32(u16::from_le(bits)),
            };
        }
    }
}

/// The product of `gemm_into` with the weights widened to f32: bit by bit what `gemm` gives on them.
///
/// # Safety
/// No other task may reach these rows and columns of `out` meanwhile; `isa` is one that the machine has.
///
/// # Panics
/// If `a` or `out` is too short for the shape, or `panels` ends behind the last panel.
pub unsafe fn gemm_half(
    isa: Isa,
    a: Left<'_>,
    rows: Range<usize>,
    b: &HalfPanels,
    panels: Range<usize>,
    out: Out<'_>,
    accumulate: bool,
) {
    if rows.is_empty() || panels.is_empty() {
        return;
    }
    assert!(panels.end <= b.panels(), "panels outside of the matrix");
    let first = panels.start * PANEL;
    let (m, n, k) = (rows.len(), (panels.end * PANEL).min(b.n) - first, b.k);
    assert!(a.row_stride == 1 || a.step_stride == 1, "left matrix without a unit stride");
    let c = out.block(rows.start, first, m, n);
    if k == 0 {
        for row in rows.filter(|_| !accumulate) {
            out.at(row, first, n).fill(0.0);
        }
        return;
    }
    assert!(a.data.len() > (rows.end - 1) * a.row_stride + (k - 1) * a.step_stride, "left matrix too short");
    let a = Left { data: &a.data[rows.start * a.row_stride..], ..a };
    let panel = k * PANEL * 2;
    let right = Right { start: b.lines.as_ptr().add(panels.start * panel), panel };
    match b.kind {
        HalfKind::F16 => run_tiles::<F16>(isa, (m, n, k), a, right, c, out.stride, accumulate),
        HalfKind::Bf16 => run_tiles::<Bf16>(isa, (m, n, k), a, right, c, out.stride, accumulate),
    }
}
