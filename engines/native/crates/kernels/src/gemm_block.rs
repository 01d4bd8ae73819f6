//! Product of block-quantized activations and block-quantized weights. The integer sum of a block is exact; what is
//! rounded is, for every output element and block in order of `k`:
//!
//! `sum = fma(f32(integer) * a.scale, w.scale, sum)`, then, where weights have a minimum,
//! `sum = fma(a.scale * f32(a.sum), w.minimum, sum)`
//!
//! from zero. Nothing else touches `sum`, so instruction set, tile, batch and thread can not change a bit.

use std::ops::Range;

use super::block_panels::BlockPanels;
use super::block_rows::{BlockRows, BLOCK};
use super::gemm::PANEL;
use super::{Isa, Out};

/// Multiplies rows `rows` of `a` with panels `panels` of `b`: writes `out[row, panel * 16 ..]`, or with `accumulate`
/// adds the finished sum to what is there.
///
/// # Safety
/// No other task may reach these rows and columns of `out` meanwhile; `isa` is one that the machine has.
///
/// # Panics
/// If the shapes do not fit.
pub unsafe fn gemm_block(
    isa: Isa,
    a: &BlockRows,
    rows: Range<usize>,
    b: &BlockPanels,
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
        Isa::Amx => super::amx::gemm_block(a, rows, b, panels, c, out.stride, accumulate),
        #[cfg(target_arch = "x86_64")]
        Isa::Vnni => super::vnni::gemm_block(a, rows, b, panels, c, out.stride, accumulate),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => super::avx2::gemm_block(a, rows, b, panels, c, out.stride, accumulate),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => super::neon::gemm_block(a, rows, b, panels, c, out.stride, accumulate),
        _ => scalar(a, rows, b, panels, c, out.stride, accumulate),
    }
}

/// The reference: what every other path must equal bit by bit. `c` is the place of the first row and panel.
unsafe fn scalar(
    a: &BlockRows,
    rows: Range<usize>,
    b: &BlockPanels,
    panels: Range<usize>,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let format = b.kind().format();
    let (from_row, from_panel) = (rows.start, panels.start);
    let mut unpacked = [0u8; BLOCK * PANEL];
    let mut sums = vec![[0.0f32; PANEL]; rows.len()];
    for panel in panels {
        sums.fill([0.0; PANEL]);
        for block in 0..b.blocks() {
            let at = panel * b.blocks() + block;
            b.unpack(at, &mut unpacked);
            let minimum: [f32; PANEL] =
                if format.minimum { std::array::from_fn(|column| b.minimum(at, column)) } else { [0.0; PANEL] };
            // One part of 32 steps, or two of 16 with scales of their own.
            let length = if format.split { BLOCK / 2 } else { BLOCK };
            for start in (0..BLOCK).step_by(length) {
                let scale: [f32; PANEL] = std::array::from_fn(|column| b.scale(at, start, column));
                for (sums, row) in sums.iter_mut().zip(rows.clone()) {
                    let head = a.heads(row)[block];
                    let quants = &a.quants(row)[block * BLOCK + start..][..length];
                    let low = match (format.split, start) {
                        (false, _) => head.low,
                        (true, 0) => head.first,
                        (true, _) => head.low - head.first,
                    };
                    let mut integers = [low / 128 * i32::from(format.zero); PANEL];
                    for (quants, lines) in
                        quants.as_chunks::<4>().0.iter().zip(unpacked[start * PANEL..].as_chunks::<64>().0)
                    {
                        for (integer, values) in integers.iter_mut().zip(lines.as_chunks::<4>().0) {
                            for i in 0..4 {
                                *integer += i32::from(quants[i]) * i32::from(values[i]);
                            }
                        }
                    }
                    for column in 0..PANEL {
                        let product = integers[column] as f32 * head.scale;
                        sums[column] = product.mul_add(scale[column], sums[column]);
                    }
                    if format.minimum {
                        for column in 0..PANEL {
                            sums[column] = head.weighted.mul_add(minimum[column], sums[column]);
                        }
                    }
                }
            }
        }
        let width = PANEL.min(b.n() - panel * PANEL);
        for (sums, row) in sums.iter().zip(rows.clone()) {
            let c = c.add((row - from_row) * stride + (panel - from_panel) * PANEL);
            for (column, sum) in sums[..width].iter().enumerate() {
                let c = c.add(column);
                *c = if accumulate { *c + sum } else { *sum };
            }
        }
    }
}
