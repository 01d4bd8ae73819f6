//! The block product with 8-bit tiles. A tile multiplies 16 rows with 16 outputs over one block of 32 steps; its exact
//! sums go through memory, and the vector unit scales those of one block while the tiles work on the next. Rows that do
//! not fill a tile go to AVX-512 VNNI, which gives the same bits.

// Index loops over fixed tiles are what the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Instant;

use super::block_kind::BlockKind;
use super::block_panels::{BlockPanels, Sizes};
use super::block_rows::{BlockRows, Head, BLOCK};
use super::gemm::PANEL;
use super::kinds::{by_kind, Kind};
use super::tiles::{Hardware, Square, Tiles};
use super::vnni::{self, numbers, store};
use super::{Isa, Out};

/// Bytes of unpacked weights that all rows pass through before the next ones: a part of the second-level cache.
const STRIP: usize = 256 << 10;

thread_local! {
    /// Signed weights of a strip of panels, in the order of the panels.
    static UNPACKED: RefCell<Vec<[__m512i; 8]>> = const { RefCell::new(Vec::new()) };
}

/// # Safety
/// The machine has the instructions, the shapes fit, and nothing else reaches the part of the output at `c`.
pub(crate) unsafe fn gemm_block(
    a: &BlockRows,
    rows: Range<usize>,
    b: &BlockPanels,
    panels: Range<usize>,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    // Blocks of two scales would half fill the tiles.
    let whole = if b.kind() == BlockKind::Q6K || !pays() { 0 } else { rows.len() / PANEL * PANEL };
    let cut = rows.start + whole;
    if whole > 0 {
        by_tiles::<Hardware>(a, rows.start..cut, b, panels.clone(), c, stride, accumulate);
    }
    if cut < rows.end {
        vnni::gemm_block(a, cut..rows.end, b, panels, c.add(whole * stride), stride, accumulate);
    }
}

/// Whether tiles are faster than VNNI on this machine, measured once. The choice can not be seen in the results.
fn pays() -> bool {
    static PAYS: OnceLock<bool> = OnceLock::new();
    *PAYS.get_or_init(|| {
        let (m, n, k) = (64, 256, 576);
        let raw = vec![1u8; BlockKind::Q8_0.row_bytes(k) * n];
        let row = |row: usize| &raw[row * BlockKind::Q8_0.row_bytes(k)..][..BlockKind::Q8_0.row_bytes(k)];
        let b = BlockPanels::pack(BlockKind::Q8_0, k, n, &row, &mut |count, task| (0..count).for_each(task));
        let mut a = BlockRows::default();
        a.quantize(Isa::Avx512, &vec![1.0; m * k], k, m, k);
        let mut out = vec![0.0; m * n];
        let out = Out::new(&mut out, n);
        let mut times = [std::time::Duration::MAX; 2];
        for turn in 0..20 {
            let start = Instant::now();
            // SAFETY: asked for only where the machine has tiles; one task.
            unsafe {
                let c = out.block(0, 0, m, n);
                if turn % 2 == 0 {
                    by_tiles::<Hardware>(&a, 0..m, &b, 0..b.panels(), c, n, false);
                } else {
                    vnni::gemm_block(&a, 0..m, &b, 0..b.panels(), c, n, false);
                }
            }
            times[turn % 2] = times[turn % 2].min(start.elapsed());
        }
        times[0] < times[1]
    })
}

/// # Safety
/// As for `gemm_block`; the number of rows is a multiple of 16 and the kind has one scale a block.
unsafe fn by_tiles<T: Tiles>(
    a: &BlockRows,
    rows: Range<usize>,
    b: &BlockPanels,
    panels: Range<usize>,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    by_kind!(b.kind(), run, <T>, (a, rows, b, panels, c, stride, accumulate));
}

unsafe fn run<K: Kind, T: Tiles>(
    a: &BlockRows,
    rows: Range<usize>,
    b: &BlockPanels,
    panels: Range<usize>,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let blocks = b.blocks();
    let sizes = const { Sizes::of(K::KIND) };
    let strip = (STRIP / (blocks * PANEL * BLOCK).max(1)).clamp(1, 64);
    UNPACKED.with_borrow_mut(|unpacked| {
        let length = strip.min(panels.len()) * blocks;
        if unpacked.len() < length {
            unpacked.resize(length, [_mm512_setzero_si512(); 8]);
        }
        T::configure(true);
        for first in panels.clone().step_by(strip) {
            let end = (first + strip).min(panels.end);
            let packed = b.quants.as_ptr().add(first * blocks * sizes.quants);
            for (block, out) in unpacked[..(end - first) * blocks].iter_mut().enumerate() {
                sign::<K>(packed.add(block * sizes.quants), out);
            }
            for row in rows.clone().step_by(PANEL) {
                for panel in first..end {
                    let tile = Tile {
                        blocks,
                        quants: a.quants_from(row),
                        heads: a.heads_from(row),
                        weights: unpacked.as_ptr().add((panel - first) * blocks).cast(),
                        scales: b.scales.as_ptr().add(panel * blocks * sizes.scales),
                        minima: b.minima.as_ptr().add(panel * blocks * sizes.minima),
                        c: c.add((row - rows.start) * stride + (panel - panels.start) * PANEL),
                        c_row: stride,
                        columns: PANEL.min(b.n() - panel * PANEL),
                        accumulate,
                    };
                    kernel::<K, T>(&tile);
                }
            }
        }
        T::release();
    });
}

/// Unpacks one block of a panel to signed bytes without a zero point.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
unsafe fn sign<K: Kind>(packed: *const u8, out: &mut [__m512i; 8]) {
    let format = const { K::KIND.format() };
    let zero = _mm512_set1_epi8(format.zero as i8);
    let mask = _mm512_set1_epi8(15);
    if format.nibbles {
        for step in 0..4 {
            let both = _mm512_loadu_si512(packed.add(step * 64).cast());
            out[step] = _mm512_sub_epi8(_mm512_and_si512(both, mask), zero);
            out[step + 4] = _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16::<4>(both), mask), zero);
        }
    } else {
        for step in 0..8 {
            out[step] = _mm512_sub_epi8(_mm512_loadu_si512(packed.add(step * 64).cast()), zero);
        }
    }
}

/// 16 rows of one panel.
struct Tile {
    blocks: usize,
    quants: *const i8,
    heads: *const Head,
    weights: *const i8,
    scales: *const u8,
    minima: *const u8,
    c: *mut f32,
    c_row: usize,
    columns: usize,
    accumulate: bool,
}

#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512vnni")]
unsafe fn kernel<K: Kind, T: Tiles>(tile: &Tile) {
    let mut sums = [_mm512_setzero_ps(); PANEL];
    // Two squares: the tiles fill one while the other is scaled.
    let mut squares = [Square::ZERO; 2];
    let squares = squares.as_mut_ptr();
    let k = tile.blocks * BLOCK;
    let multiply = |block: usize| {
        let (a, w) = (tile.quants.add(block * BLOCK), tile.weights.add(block * BLOCK * PANEL));
        T::block(block % 2 == 1, a, k, w, squares.add(block % 2));
    };
    if tile.blocks > 0 {
        multiply(0);
    }
    for block in 0..tile.blocks {
        if block + 1 < tile.blocks {
            multiply(block + 1);
        }
        scale::<K>(tile, block, squares.add(block % 2), &mut sums);
    }
    for row in 0..PANEL {
        store(tile.c.add(row * tile.c_row), tile.columns, sums[row], tile.accumulate);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512vnni")]
unsafe fn scale<K: Kind>(tile: &Tile, block: usize, square: *const Square, sums: &mut [__m512; PANEL]) {
    let sizes = const { Sizes::of(K::KIND) };
    let right = numbers::<K>(tile.scales.add(block * sizes.scales));
    let heads = tile.heads.add(block);
    for row in 0..PANEL {
        let integers = _mm512_load_si512((&raw const (*square).0[row]).cast());
        let left = _mm512_set1_ps((*heads.add(row * tile.blocks)).scale);
        sums[row] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(integers), left), right, sums[row]);
    }
    if const { K::KIND.format().minimum } {
        let minimum = numbers::<K>(tile.minima.add(block * sizes.minima));
        for row in 0..PANEL {
            let left = _mm512_set1_ps((*heads.add(row * tile.blocks)).weighted);
            sums[row] = _mm512_fmadd_ps(left, minimum, sums[row]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiles::Plain;
    use super::*;

    #[test]
    fn the_way_through_tiles_has_the_bits_of_the_reference() {
        if !Isa::Vnni.is_available() {
            return;
        }
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as u8
        };
        for kind in BlockKind::ALL.into_iter().filter(|kind| *kind != BlockKind::Q6K) {
            for (m, n, k) in [(16, 16, 256), (32, 70, 512), (48, 33, 256), (16, 1100, 768)] {
                let bytes = kind.row_bytes(k);
                // Second bytes of the halves are kept small so that they are finite.
                let raw: Vec<u8> =
                    (0..bytes * n).map(|i| if i % kind.block().1 < 4 { random() & 0x2f } else { random() }).collect();
                let row = |row: usize| &raw[row * bytes..][..bytes];
                let b = BlockPanels::pack(kind, k, n, &row, &mut |count, task| (0..count).for_each(task));
                let x: Vec<f32> = (0..m * k).map(|_| f32::from(random()) - 127.0).collect();
                let mut a = BlockRows::default();
                a.quantize(Isa::Scalar, &x, k, m, k);
                for accumulate in [false, true] {
                    let (mut out, mut expected) = (vec![1.5f32; m * n], vec![1.5f32; m * n]);
                    // SAFETY: one task each; the machine has AVX-512, and the tiles are plain code.
                    unsafe {
                        let expected = Out::new(&mut expected, n);
                        super::super::gemm_block(Isa::Scalar, &a, 0..m, &b, 0..b.panels(), expected, accumulate);
                        let c = Out::new(&mut out, n).block(0, 0, m, n);
                        by_tiles::<Plain>(&a, 0..m, &b, 0..b.panels(), c, n, accumulate);
                        if Isa::Amx.is_available() {
                            let mut again = vec![1.5f32; m * n];
                            let c = Out::new(&mut again, n).block(0, 0, m, n);
                            by_tiles::<Hardware>(&a, 0..m, &b, 0..b.panels(), c, n, accumulate);
                            assert!(
                                again.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()),
                                "hardware {m}x{n}x{k}"
                            );
                        }
                    }
                    let same = out.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{kind:?} {m}x{n}x{k}");
                }
            }
        }
    }
}
