//! The product in bfloat16, a compute type of its own: both sides are rounded to bfloat16, and sums are those that the
//! tiles of AMX are specified to make (Intel's manual, TDPBF16PS). For 32 steps of `k` the products of even and of odd
//! steps are two chains of fused multiply-adds from zero; their sum is added to the result so far. Subnormal numbers
//! are zero before and after every operation. Machines without these tiles do the same with their vectors, slower.

use std::ops::Range;

use super::block_panels::Parallel;
use super::bytes::Bytes;
use super::gemm::{panel_count, PANEL};
use super::half::f32_to_bf16;
use super::{Isa, Out};

/// Steps of one tile.
const STEPS: usize = 32;
/// Rows that tiles read at once, some of them perhaps behind the last.
const TALL: usize = 32;

/// Activations rounded to bfloat16. A reusable buffer. A NaN stays one and makes its outputs NaN.
#[derive(Debug, Clone, Default)]
pub struct Bf16Rows {
    rows: usize,
    k: usize,
    values: Vec<u16>,
}

impl Bf16Rows {
    /// Rounds `x[rows, k]`, whose rows lie `stride` apart.
    ///
    /// # Panics
    /// If `x` is too short.
    pub fn round(&mut self, isa: Isa, x: &[f32], stride: usize, rows: usize, k: usize) {
        self.rows = rows;
        self.k = k;
        let padded = self.padded();
        if self.values.len() < (rows + TALL) * padded {
            self.values.resize((rows + TALL) * padded, 0);
        }
        for row in 0..rows {
            let out = &mut self.values[row * padded..][..padded];
            round_row(isa, &x[row * stride..][..k], &mut out[..k]);
            out[k..].fill(0);
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn k(&self) -> usize {
        self.k
    }

    fn padded(&self) -> usize {
        self.k.next_multiple_of(STEPS)
    }
}

crate::rows::kernel! {
    fn round_row(x: &[f32], out: &mut [u16]) {
        let out = &mut out[..x.len()];
        for i in 0..x.len() {
            out[i] = round(x[i]);
        }
    }
}

/// The nearest bfloat16 that is not subnormal.
#[inline(always)]
fn round(value: f32) -> u16 {
    let bits = f32_to_bf16(value);
    if bits & 0x7f80 == 0 {
        bits & 0x8000
    } else {
        bits
    }
}

/// Weights `[n, k]` (an output a row) rounded to bfloat16, as panels of 16 outputs in the order `[k / 2][16 outputs][2]`.
/// Missing outputs and steps are zero.
pub struct Bf16Panels {
    k: usize,
    n: usize,
    pairs: Bytes,
}

impl Bf16Panels {
    /// Packs rows: `row(i, out)` writes the `k` weights of output `i` of `n`. `parallel` runs one task a panel.
    pub fn pack(k: usize, n: usize, row: &(dyn Fn(usize, &mut [f32]) + Sync), parallel: &mut Parallel<'_>) -> Self {
        let size = k.next_multiple_of(STEPS) * PANEL * 2;
        let mut pairs = Bytes::uninitialized(size * panel_count(n));
        let writer = pairs.writer();
        parallel(panel_count(n), &|panel| {
            // SAFETY: one task a panel.
            let out = unsafe { writer.part(panel, size) };
            let mut weights = vec![0.0; k];
            for column in 0..PANEL.min(n - panel * PANEL) {
                row(panel * PANEL + column, &mut weights);
                for (step, weight) in weights.iter().enumerate() {
                    let at = step / 2 * PANEL * 4 + column * 4 + step % 2 * 2;
                    out[at..at + 2].copy_from_slice(&round(*weight).to_le_bytes());
                }
            }
        });
        Self { k, n, pairs }
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
        self.pairs.len()
    }
}

/// Whether `gemm_bf16` runs on tiles; else it is slower than the product in f32.
pub fn bf16_is_fast(isa: Isa) -> bool {
    #[cfg(target_arch = "x86_64")]
    return isa == Isa::Amx && super::tiles::bf16_tiles_work();
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = isa;
        false
    }
}

/// Multiplies rows `rows` of `a` with panels `panels` of `b`: writes `out[row, panel * 16 ..]`, or with `accumulate`
/// adds the result to what is there.
///
/// # Safety
/// No other task may reach these rows and columns of `out` meanwhile; `isa` is one that the machine has.
///
/// # Panics
/// If the shapes do not fit.
pub unsafe fn gemm_bf16(
    isa: Isa,
    a: &Bf16Rows,
    rows: Range<usize>,
    b: &Bf16Panels,
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
    let write = |row: usize, panel: usize, sums: &[f32; PANEL]| {
        let width = PANEL.min(b.n() - panel * PANEL);
        let c = c.add((row - rows.start) * out.stride + (panel - panels.start) * PANEL);
        for (column, sum) in sums[..width].iter().enumerate() {
            let c = c.add(column);
            *c = if accumulate { *c + sum } else { *sum };
        }
    };
    let k = a.padded();
    let panel_at = |panel: usize| b.pairs.as_ptr().add(panel * k * PANEL * 2);
    let row_at = |row: usize| a.values[row * k..].as_ptr();
    #[cfg(target_arch = "x86_64")]
    if k > 0 && bf16_is_fast(isa) {
        use super::tiles::{Hardware, Square, Tiles};
        let mut squares = [Square::ZERO; 4];
        Hardware::configure(false);
        super::walk::walk(rows.clone(), TALL, panels.clone(), 2, k * PANEL * 2, |part| {
            // A pair without a second panel takes the first twice.
            let next = if part.wide == 2 { k * PANEL * 2 } else { 0 };
            let right = panel_at(part.panel);
            Hardware::long_bf16(row_at(part.row), 2 * k, right, next, k / STEPS, &raw mut squares);
            for row in 0..part.height {
                for wide in 0..part.wide {
                    let sums = squares[row / PANEL * 2 + wide].0[row % PANEL].map(|bits| f32::from_bits(bits as u32));
                    write(part.row + row, part.panel + wide, &sums);
                }
            }
        });
        Hardware::release();
        return;
    }
    for panel in panels.clone() {
        let pairs = std::slice::from_raw_parts(panel_at(panel).cast::<[[u16; 2]; PANEL]>(), k / 2);
        for row in rows.clone() {
            let values = std::slice::from_raw_parts(row_at(row), k);
            write(row, panel, &by_vectors(isa, values, pairs));
        }
    }
}

crate::rows::kernel! {
    /// The sums of one row and one panel.
    fn by_vectors(values: &[u16], pairs: &[[[u16; 2]; PANEL]]) -> [f32; PANEL] {
        let mut sums = [0.0f32; PANEL];
        for (values, pairs) in values.as_chunks::<STEPS>().0.iter().zip(pairs.as_chunks::<{ STEPS / 2 }>().0) {
            let mut even = [0.0f32; PANEL];
            let mut odd = [0.0f32; PANEL];
            for (two, line) in values.as_chunks::<2>().0.iter().zip(pairs) {
                let left = [widen(two[0]), widen(two[1])];
                for column in 0..PANEL {
                    even[column] = flush(left[0].mul_add(widen(line[column][0]), even[column]));
                    odd[column] = flush(left[1].mul_add(widen(line[column][1]), odd[column]));
                }
            }
            for column in 0..PANEL {
                sums[column] = flush(sums[column] + flush(even[column] + odd[column]));
            }
        }
        sums
    }
}

#[inline(always)]
fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// A subnormal number becomes the zero of its sign.
#[inline(always)]
fn flush(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE {
        0.0f32.copysign(value)
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(isa: Isa, a: &Bf16Rows, b: &Bf16Panels) -> Vec<f32> {
        let mut out = vec![f32::NAN; a.rows() * b.n()];
        // SAFETY: one task.
        unsafe { gemm_bf16(isa, a, 0..a.rows(), b, 0..b.panels(), Out::new(&mut out, b.n()), false) };
        out
    }

    #[test]
    fn products_are_near_those_of_rounded_values_and_the_same_everywhere() {
        let value = |i: usize| ((i.wrapping_mul(2_654_435_761) >> 8) % 2001) as f32 / 1000.0 - 1.0;
        for (m, n, k) in [(1, 1, 1), (3, 17, 31), (33, 50, 64), (40, 33, 200), (2, 16, 576)] {
            let x: Vec<f32> = (0..m * k).map(|i| value(i) * 2.0f32.powi((i % 7) as i32 - 3)).collect();
            let weights: Vec<f32> = (0..n * k).map(|i| value(i + 77)).collect();
            let every = &mut |count: usize, task: &(dyn Fn(usize) + Sync)| (0..count).for_each(task);
            let b = Bf16Panels::pack(k, n, &|row, out| out.copy_from_slice(&weights[row * k..][..k]), every);
            let mut a = Bf16Rows::default();
            a.round(Isa::Scalar, &x, k, m, k);
            let expected = product(Isa::Scalar, &a, &b);
            for row in 0..m {
                for column in 0..n {
                    let terms = x[row * k..][..k].iter().zip(&weights[column * k..][..k]);
                    let terms = terms.map(|(x, w)| f64::from(widen(round(*x))) * f64::from(widen(round(*w))));
                    let (exact, sizes) = terms.fold((0.0, 0.0), |(sum, sizes), term| (sum + term, sizes + term.abs()));
                    let error = (f64::from(expected[row * n + column]) - exact).abs();
                    assert!(error <= 2e-6 * sizes, "{m}x{n}x{k}");
                }
            }
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                a.round(isa, &x, k, m, k);
                let out = product(isa, &a, &b);
                assert!(out.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{m}x{n}x{k} {isa:?}");
                // A row alone, and panels one by one.
                let mut alone = Bf16Rows::default();
                alone.round(isa, &x[(m - 1) * k..], k, 1, k);
                let mut out = vec![0.0; n];
                for panel in 0..b.panels() {
                    // SAFETY: one task.
                    unsafe { gemm_bf16(isa, &alone, 0..1, &b, panel..panel + 1, Out::new(&mut out, n), true) };
                }
                assert!(out.iter().zip(&expected[(m - 1) * n..]).all(|(a, b)| a == b), "{m}x{n}x{k} {isa:?}");
            }
        }
    }

    #[test]
    fn subnormal_numbers_are_zero_and_what_is_not_a_number_stays() {
        let every = &mut |count: usize, task: &(dyn Fn(usize) + Sync)| (0..count).for_each(task);
        let b = Bf16Panels::pack(2, 1, &|_, out| out.copy_from_slice(&[1.0, 1e-30]), every);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let mut a = Bf16Rows::default();
            for (x, expected) in [([1e-39, 0.0], 0.0), ([0.0, 1e-10], 0.0), ([2.0, 1.0], 2.0)] {
                a.round(isa, &x, 2, 1, 2);
                assert_eq!(product(isa, &a, &b), [expected]);
            }
            a.round(isa, &[f32::NAN, 1.0], 2, 1, 2);
            assert!(product(isa, &a, &b)[0].is_nan());
        }
    }
}
