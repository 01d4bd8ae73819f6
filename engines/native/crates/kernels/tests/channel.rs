mod common;

use common::{bits, Random};
use cupel_kernels::{gemm_channel, ChannelPanels, Isa, Out, TokenRows};

fn pack(k: usize, n: usize, raw: &[u8], scales: &[f32]) -> ChannelPanels {
    ChannelPanels::pack(k, n, &|row| &raw[row * k..][..k], &|row| scales[row], &mut |count, task| {
        (0..count).for_each(task)
    })
}

fn product(isa: Isa, a: &TokenRows, b: &ChannelPanels) -> Vec<f32> {
    let mut out = vec![f32::NAN; a.rows() * b.n()];
    // SAFETY: one task.
    unsafe { gemm_channel(isa, a, 0..a.rows(), b, 0..b.panels(), Out::new(&mut out, b.n()), false) };
    out
}

const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (1, 70, 64),
    (2, 33, 96),
    (3, 17, 5),
    (4, 65, 33),
    (5, 16, 576),
    (6, 100, 31),
    (7, 50, 130),
    (12, 48, 1536),
    (13, 31, 70),
    (25, 100, 256),
    (73, 20, 192),
];

#[test]
fn every_instruction_set_has_the_bits_of_the_reference_and_the_integers_are_exact() {
    let mut random = Random(3);
    for (m, n, k) in SHAPES {
        for ordinary in [true, false] {
            let raw: Vec<u8> =
                (0..n * k).map(|i| if ordinary { random.next() as u8 } else { [0x80, 0x7f][i / k % 2] }).collect();
            let scales = random.wild_floats(n);
            let b = pack(k, n, &raw, &scales);
            let x = if ordinary { random.floats(m * k) } else { vec![1.0; m * k] };
            let mut a = TokenRows::default();
            a.quantize(Isa::Scalar, &x, k, m, k);
            let expected = product(Isa::Scalar, &a, &b);
            for row in 0..m {
                for column in 0..n {
                    let exact: i64 = a
                        .quants(row)
                        .iter()
                        .zip(&raw[column * k..])
                        .map(|(q, w)| i64::from(*q) * i64::from(*w as i8))
                        .sum();
                    let value = exact as f32 * a.scale(row) * scales[column];
                    assert_eq!(value.to_bits(), expected[row * n + column].to_bits(), "{m}x{n}x{k} {row} {column}");
                }
            }
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                let mut a = TokenRows::default();
                a.quantize(isa, &x, k, m, k);
                assert_eq!(bits(&product(isa, &a, &b)), bits(&expected), "{m}x{n}x{k} {isa:?}");
            }
        }
    }
}

#[test]
fn parts_of_a_product_have_the_bits_of_the_whole_and_bad_rows_stay_alone() {
    let mut random = Random(6);
    for (m, n, k) in SHAPES {
        let raw: Vec<u8> = (0..n * k).map(|_| random.next() as u8).collect();
        let scales = random.floats(n);
        let b = pack(k, n, &raw, &scales);
        let mut x = random.floats(m * k);
        x[k - 1] = [f32::NAN, f32::INFINITY, 0.5][m % 3];
        let mut a = TokenRows::default();
        a.quantize(Isa::Scalar, &x, k, m, k);
        let whole = product(Isa::Scalar, &a, &b);
        assert!(whole[..n].iter().all(|value| value.is_nan() == (m % 3 < 2)));
        assert!(whole[n..].iter().all(|value| value.is_finite()));
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let mut out = vec![2.0; m * (n + 5)];
            let (cut, split) = (random.below(m + 1), random.below(b.panels() + 1));
            for rows in [0..cut, cut..m] {
                for panels in [0..split, split..b.panels()] {
                    // SAFETY: one task.
                    unsafe { gemm_channel(isa, &a, rows.clone(), &b, panels, Out::new(&mut out, n + 5), true) };
                }
            }
            for (row, out) in out.chunks_exact(n + 5).enumerate() {
                let expected: Vec<f32> = whole[row * n..][..n].iter().map(|value| 2.0 + value).collect();
                assert_eq!(bits(&out[..n]), bits(&expected), "{m}x{n}x{k} {isa:?}");
                assert_eq!(out[n..], [2.0; 5]);
            }
            let mut alone = TokenRows::default();
            alone.quantize(isa, &x[(m - 1) * k..], k, 1, k);
            assert_eq!(bits(&product(isa, &alone, &b)), bits(&whole[(m - 1) * n..]), "{m}x{n}x{k} {isa:?}");
        }
        let mut row = vec![0.0; k];
        b.dequantize_row(n - 1, &mut row);
        assert!(row.iter().zip(&raw[(n - 1) * k..]).all(|(value, w)| *value == scales[n - 1] * f32::from(*w as i8)));
    }
}
