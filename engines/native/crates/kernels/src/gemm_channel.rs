//! Product of activations with one scale a row and weights with one scale an output. The integer sum is exact; the
//! result is `(f32(integer) * a.scale) * w.scale`, two roundings after that of the conversion, on every path.

use std::ops::Range;

use super::channel_panels::ChannelPanels;
use super::gemm::PANEL;
use super::token_rows::TokenRows;
use super::{Isa, Out};

/// Multiplies rows `rows` of `a` with panels `panels` of `b`: writes `out[row, panel * 16 ..]`, or with `accumulate`
/// adds the result to what is there.
///
/// # Safety
/// No other task may reach these rows and columns of `out` meanwhile; `isa` is one that the machine has.
///
/// # Panics
/// If the shapes do not fit.
pub unsafe fn gemm_channel(
    isa: Isa,
    a: &TokenRows,
    rows: Range<usize>,
    b: &ChannelPanels,
    panels: Range<usize>,
    out: Out<'_>,
    accumulate: bool,
) {
    if rows.is_empty() || panels.is_empty() {
        return;
    }
    assert_eq!(a.k(), b.k(), "length of the rows and of the weights");
    assert!(rows.end <= a.rows(), "rows outside of the left matrix");
    assert!(panels.end <= b.panels(), "panels outside of the right matrix");
    let first = panels.start * PANEL;
    let width = (panels.end * PANEL).min(b.n()) - first;
    let c = out.block(rows.start, first, rows.len(), width);
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => super::amx_channel::gemm_channel(a, rows, b, panels, c, out.stride, accumulate),
        #[cfg(target_arch = "x86_64")]
        Isa::Vnni => super::vnni_channel::gemm_channel(a, rows, b, panels, c, out.stride, accumulate),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => super::avx2_channel::gemm_channel(a, rows, b, panels, c, out.stride, accumulate),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => super::neon_channel::gemm_channel(a, rows, b, panels, c, out.stride, accumulate),
        _ => scalar(a, rows, b, panels, c, out.stride, accumulate),
    }
}

/// The reference: what every other path must equal bit by bit. `c` is the place of the first row and panel.
unsafe fn scalar(
    a: &TokenRows,
    rows: Range<usize>,
    b: &ChannelPanels,
    panels: Range<usize>,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let (from_row, from_panel) = (rows.start, panels.start);
    for panel in panels {
        let width = PANEL.min(b.n() - panel * PANEL);
        for row in rows.clone() {
            let head = a.head(row);
            let mut integers = [head.low; PANEL];
            for (quants, lines) in a.quants(row).chunks(4).zip(b.panel(panel).as_chunks::<64>().0) {
                let mut four = [0i8; 4];
                four[..quants.len()].copy_from_slice(quants);
                for (integer, values) in integers.iter_mut().zip(lines.as_chunks::<4>().0) {
                    for i in 0..4 {
                        *integer += i32::from(four[i]) * i32::from(values[i]);
                    }
                }
            }
            let c = c.add((row - from_row) * stride + (panel - from_panel) * PANEL);
            for (column, integer) in integers[..width].iter().enumerate() {
                let result = *integer as f32 * head.scale * b.scales[panel * PANEL + column];
                let c = c.add(column);
                *c = if accumulate { *c + result } else { result };
            }
        }
    }
}
