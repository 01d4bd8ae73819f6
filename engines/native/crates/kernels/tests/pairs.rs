//! The product in bfloat16 for training: its definition, and the same bits on every path.
use cupel_kernels::{
    bf16_to_f32, gemm_pairs, interleave_pairs, pack_pair_columns, pack_pair_rows, panel_count, round_pairs,
    widen_pairs, Isa, PairLeft, PairLine,
};

mod common;
use common::{bits, isas, Random};

const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (3, 17, 31),
    (8, 48, 64),
    (9, 49, 65),
    (33, 50, 258),
    (70, 80, 33),
    (2, 16, 576),
    (16, 130, 2),
    (75, 35, 515),
];

fn flush(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE {
        0.0f32.copysign(value)
    } else {
        value
    }
}

/// The number that a product reads for `value`.
fn rounded(value: f32) -> f32 {
    let bits = flush(value).to_bits();
    if value.is_nan() {
        return f32::from_bits((bits | 0x0040_0000) & 0xffff_0000);
    }
    f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// `x[m, k] · w[n, k]ᵀ`, from the definition.
fn reference((m, n, k): (usize, usize, usize), x: &[f32], w: &[f32], start: f32) -> Vec<f32> {
    let mut out = vec![start; m * n];
    let at = |matrix: &[f32], row: usize, step: usize| if step < k { rounded(matrix[row * k + step]) } else { 0.0 };
    for row in 0..m {
        for column in 0..n {
            let mut sum = flush(start);
            for step in (0..k).step_by(2) {
                for step in [step + 1, step] {
                    sum = flush(at(x, row, step).mul_add(at(w, column, step), sum));
                }
            }
            out[row * n + column] = sum;
        }
    }
    out
}

fn pair_rows(isa: Isa, matrix: &[f32], rows: usize, k: usize) -> Vec<u32> {
    let stride = k.div_ceil(2);
    let mut out = vec![0; rows * stride];
    for (x, out) in matrix.chunks_exact(k).zip(out.chunks_exact_mut(stride)) {
        round_pairs(isa, x, out);
    }
    out
}

fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns * rows).map(|i| matrix[i % rows * columns + i / rows]).collect()
}

#[test]
fn products_follow_the_definition_on_every_path() {
    let mut random = Random(7);
    for wild in [false, true] {
        for (m, n, k) in SHAPES {
            let mut numbers = |count| if wild { random.wild_floats(count) } else { random.floats(count) };
            let (x, w) = (numbers(m * k), numbers(n * k));
            let pairs = k.div_ceil(2);
            for start in [0.0, 1.5, -1e-39] {
                let expected = reference((m, n, k), &x, &w, start);
                for isa in isas() {
                    // Forward: both sides run along rows.
                    let left = pair_rows(isa, &x, m, k);
                    let rows = pair_rows(isa, &w, n, k);
                    let mut right = vec![PairLine::default(); panel_count(n) * pairs];
                    for panel in 0..panel_count(n) {
                        pack_pair_rows(&rows, pairs, n, panel, &mut right[panel * pairs..][..pairs]);
                    }
                    let left = PairLeft::Rows { data: &left, stride: pairs };
                    let product = |left, right: &[PairLine], stride| {
                        let mut out = vec![start; m * n];
                        gemm_pairs(isa, (m, n, pairs), left, right, stride, &mut out, n, start != 0.0);
                        out
                    };
                    let out = product(left, &right, pairs);
                    assert_eq!(bits(&out), bits(&expected), "forward {m}x{n}x{k} {isa:?} {wild}");

                    // Gradients of weights: both sides run across rows, from f32 and from pairs.
                    let (xt, wt) = (transposed(&x, m, k), transposed(&w, n, k));
                    let room = pairs + 3;
                    let mut left = vec![PairLine::default(); panel_count(m) * room];
                    for panel in 0..panel_count(m) {
                        pack_pair_columns(isa, &xt, m, (k, m), panel, &mut left[panel * room..]);
                    }
                    let rows = pair_rows(isa, &wt, k, n);
                    let mut right = vec![PairLine::default(); panel_count(n) * room];
                    for panel in 0..panel_count(n) {
                        interleave_pairs(isa, &rows, n.div_ceil(2), (k, n), panel, &mut right[panel * room..]);
                    }
                    let out = product(PairLeft::Panels { lines: &left, panel: room }, &right, room);
                    assert_eq!(bits(&out), bits(&expected), "weights {m}x{n}x{k} {isa:?} {wild}");
                }
            }
        }
    }
}

#[test]
fn a_product_in_parts_of_k_and_of_rows_has_the_bits_of_the_whole() {
    let mut random = Random(11);
    let (m, n, k) = (21, 37, 400);
    let (x, w) = (random.floats(m * k), random.floats(n * k));
    let whole = reference((m, n, k), &x, &w, 0.0);
    for isa in isas() {
        let (left, rows) = (pair_rows(isa, &x, m, k), pair_rows(isa, &w, n, k));
        let pairs = k / 2;
        let mut right = vec![PairLine::default(); panel_count(n) * pairs];
        for panel in 0..panel_count(n) {
            pack_pair_rows(&rows, pairs, n, panel, &mut right[panel * pairs..][..pairs]);
        }
        let mut out = vec![0.0; m * n];
        for row in 0..m {
            for start in (0..pairs).step_by(77) {
                let length = 77.min(pairs - start);
                let left = PairLeft::Rows { data: &left[row * pairs + start..], stride: pairs };
                let out = &mut out[row * n..];
                gemm_pairs(isa, (1, n, length), left, &right[start..], pairs, out, n, start > 0);
            }
        }
        assert_eq!(bits(&out), bits(&whole), "{isa:?}");
    }
}

#[test]
fn numbers_are_rounded_alike_everywhere_and_widened_exactly() {
    let mut random = Random(3);
    let mut numbers = random.wild_floats(5000);
    numbers.extend([0.0, -0.0, f32::INFINITY, -f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 1.0 + 1.0 / 256.0]);
    numbers.extend((0..5000).map(|_| f32::from_bits(random.next() as u32)));
    for isa in isas() {
        let mut pairs = vec![0; numbers.len().div_ceil(2)];
        round_pairs(isa, &numbers, &mut pairs);
        let mut back = vec![0.0; numbers.len()];
        widen_pairs(isa, &pairs, &mut back);
        for (index, (number, back)) in numbers.iter().zip(&back).enumerate() {
            let expected = rounded(*number);
            let same = expected.to_bits() == back.to_bits() || expected.is_nan() && back.is_nan();
            assert!(same, "{number:e} became {back:e}, not {expected:e}, {isa:?}");
            let half = (pairs[index / 2] >> (16 * (index % 2))) as u16;
            assert_eq!(bf16_to_f32(half).to_bits(), back.to_bits());
        }
    }
}

#[test]
fn an_empty_product_is_zero_or_what_was_there() {
    let mut out = [3.0];
    let left = PairLeft::Rows { data: &[], stride: 0 };
    gemm_pairs(Isa::Scalar, (1, 1, 0), left, &[], 0, &mut out, 1, true);
    assert_eq!(out, [3.0]);
    gemm_pairs(Isa::Scalar, (1, 1, 0), left, &[], 0, &mut out, 1, false);
    assert_eq!(out, [0.0]);
}
