//! The product with a scale a row and an output by 8-bit tiles: two times two tiles over the whole of `k`. Rows that do
//! not fill two tiles go to AVX-512 VNNI, which gives the same bits.

use std::arch::x86_64::*;
use std::ops::Range;

use super::channel_panels::ChannelPanels;
use super::gemm::PANEL;
use super::tiles::{Hardware, Square, Tiles};
use super::token_rows::TokenRows;
use super::vnni::store;
use super::vnni_channel;
use super::walk::walk;

/// Rows of a tile call.
const ROWS: usize = 2 * PANEL;

/// # Safety
/// The machine has the instructions, the shapes fit, and nothing else reaches the part of the output at `c`.
pub(crate) unsafe fn gemm_channel(
    a: &TokenRows,
    rows: Range<usize>,
    b: &ChannelPanels,
    panels: Range<usize>,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let (tall, wide) = (rows.len() / ROWS * ROWS, panels.len() / 2 * 2);
    let (cut, split) = (rows.start + tall, panels.start + wide);
    if tall > 0 && wide > 0 && a.padded() > 0 {
        by_tiles::<Hardware>(a, rows.start..cut, b, panels.start..split, c, stride, accumulate);
        if split < panels.end {
            let c = c.add(wide * PANEL);
            vnni_channel::gemm_channel(a, rows.start..cut, b, split..panels.end, c, stride, accumulate);
        }
        if cut < rows.end {
            vnni_channel::gemm_channel(a, cut..rows.end, b, panels, c.add(tall * stride), stride, accumulate);
        }
    } else {
        vnni_channel::gemm_channel(a, rows, b, panels, c, stride, accumulate);
    }
}

/// # Safety
/// As for `gemm_channel`; rows come in multiples of 32, panels in pairs, and `k` is not 0.
unsafe fn by_tiles<T: Tiles>(
    a: &TokenRows,
    rows: Range<usize>,
    b: &ChannelPanels,
    panels: Range<usize>,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let k = a.padded();
    let mut squares = [Square::ZERO; 4];
    T::configure(false);
    walk(rows.clone(), ROWS, panels.clone(), 2, k * PANEL, |part| {
        let weights = b.quants.as_ptr().add(part.panel * k * PANEL);
        T::long(a.quants_from(part.row), k, weights, k * PANEL, k / 64, &raw mut squares);
        let c = c.add((part.row - rows.start) * stride + (part.panel - panels.start) * PANEL);
        finish(a, part.row, b, part.panel, &squares, c, stride, accumulate);
    });
    T::release();
}

#[allow(clippy::too_many_arguments)]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512vnni")]
unsafe fn finish(
    a: &TokenRows,
    row: usize,
    b: &ChannelPanels,
    panel: usize,
    squares: &[Square; 4],
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    for wide in 0..2 {
        let columns = PANEL.min(b.n() - (panel + wide) * PANEL);
        let scale = _mm512_loadu_ps(b.scales.as_ptr().add((panel + wide) * PANEL));
        for tall in 0..ROWS {
            let head = a.head(row + tall);
            let sums = &squares[tall / PANEL * 2 + wide].0[tall % PANEL];
            let integers = _mm512_add_epi32(_mm512_loadu_si512(sums.as_ptr().cast()), _mm512_set1_epi32(head.low));
            let product = _mm512_mul_ps(_mm512_cvtepi32_ps(integers), _mm512_set1_ps(head.scale));
            store(c.add(tall * stride + wide * PANEL), columns, _mm512_mul_ps(product, scale), accumulate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiles::Plain;
    use super::super::{Isa, Out};
    use super::*;

    #[test]
    fn the_way_through_tiles_has_the_bits_of_the_reference() {
        if !Isa::Vnni.is_available() {
            return;
        }
        for (m, n, k) in [(32, 32, 64), (64, 90, 130), (32, 700, 576)] {
            let raw: Vec<u8> = (0..n * k).map(|i: usize| (i.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
            let row = |row: usize| &raw[row * k..][..k];
            let scale = |row: usize| 0.01 + row as f32;
            let b = ChannelPanels::pack(k, n, &row, &scale, &mut |count, task| (0..count).for_each(task));
            let x: Vec<f32> = (0..m * k).map(|i| ((i * 7919) % 1000) as f32 - 499.0).collect();
            let mut a = TokenRows::default();
            a.quantize(Isa::Scalar, &x, k, m, k);
            for accumulate in [false, true] {
                let (mut out, mut expected) = (vec![1.5f32; m * n], vec![1.5f32; m * n]);
                let panels = 0..b.panels() / 2 * 2;
                // SAFETY: one task each; the machine has AVX-512, and the tiles are plain code.
                unsafe {
                    let expected = Out::new(&mut expected, n);
                    super::super::gemm_channel(Isa::Scalar, &a, 0..m, &b, panels.clone(), expected, accumulate);
                    let c = Out::new(&mut out, n).block(0, 0, m, n);
                    by_tiles::<Plain>(&a, 0..m, &b, panels.clone(), c, n, accumulate);
                    if Isa::Amx.is_available() {
                        let mut again = vec![1.5f32; m * n];
                        let c = Out::new(&mut again, n).block(0, 0, m, n);
                        by_tiles::<Hardware>(&a, 0..m, &b, panels, c, n, accumulate);
                        assert!(
                            again.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()),
                            "hardware {m}x{n}x{k}"
                        );
                    }
                }
                assert!(out.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{m}x{n}x{k}");
            }
        }
    }
}
