mod common;

use common::{bits, isas, pack, product, Random};
use cupel_kernels::{gemm_block, BlockKind, BlockRows, Isa, Out};
use proptest::prelude::*;

fn shapes(kind: BlockKind) -> Vec<(usize, usize, usize)> {
    if kind.block().0 == 256 {
        return vec![(1, 1, 256), (2, 40, 512), (7, 33, 256), (13, 16, 256), (33, 50, 512)];
    }
    vec![
        (1, 1, 32),
        (1, 70, 64),
        (2, 33, 96),
        (3, 17, 5),
        (4, 65, 33),
        (5, 16, 576),
        (6, 100, 31),
        (7, 50, 160),
        (8, 48, 1536),
        (13, 31, 70),
        (16, 33, 64),
        (25, 100, 256),
        (35, 40, 64),
        (73, 20, 192),
        (37, 700, 300),
    ]
}

#[test]
fn every_instruction_set_has_the_bits_of_the_reference() {
    let mut random = Random(1);
    for kind in BlockKind::ALL {
        for (m, n, k) in shapes(kind) {
            for ordinary in [true, false] {
                let b = pack(kind, k, n, &random.raw_rows(kind, k, n, ordinary));
                let x = if ordinary { random.floats(m * k) } else { random.wild_floats(m * k) };
                let mut a = BlockRows::default();
                a.quantize(Isa::Scalar, &x, k, m, k);
                let expected = bits(&product(Isa::Scalar, &a, &b));
                for isa in isas() {
                    let mut a = BlockRows::default();
                    a.quantize(isa, &x, k, m, k);
                    assert_eq!(bits(&product(isa, &a, &b)), expected, "{kind:?} {m}x{n}x{k} {isa:?}");
                }
            }
        }
    }
}

#[test]
fn the_largest_weights_and_activations_do_not_overflow_a_sum() {
    let (m, n, k) = (9, 40, 256);
    for kind in BlockKind::ALL {
        for fill in [0x00, 0xff, 0x80, 0x7f, 0x88] {
            let (_, bytes) = kind.block();
            let mut raw = vec![fill; kind.row_bytes(k) * n];
            for block in raw.chunks_exact_mut(bytes) {
                let at = if kind == BlockKind::Q6K { 208 } else { 0 };
                block[at..at + 2].copy_from_slice(&0x2c00u16.to_le_bytes());
                if matches!(kind, BlockKind::Q4_1 | BlockKind::Q5_1 | BlockKind::Q4K | BlockKind::Q5K) {
                    block[2..4].copy_from_slice(&0xac00u16.to_le_bytes());
                }
            }
            let b = pack(kind, k, n, &raw);
            for sign in [1.0, -1.0] {
                let mut a = BlockRows::default();
                a.quantize(Isa::Scalar, &vec![sign; m * k], k, m, k);
                let expected = product(Isa::Scalar, &a, &b);
                let mut row = vec![0.0; k];
                b.dequantize_row(0, &mut row);
                let exact = f64::from(sign) * row.iter().map(|value| f64::from(*value)).sum::<f64>();
                let sizes: f64 = row.iter().map(|value| f64::from(value.abs())).sum();
                assert!((f64::from(expected[0]) - exact).abs() <= 1e-5 * sizes, "{kind:?} {} {exact}", expected[0]);
                for isa in isas() {
                    assert_eq!(bits(&product(isa, &a, &b)), bits(&expected), "{kind:?} {fill:x} {isa:?}");
                }
            }
        }
    }
}

#[test]
fn the_reference_is_near_the_product_of_dequantized_values() {
    let mut random = Random(2);
    for kind in BlockKind::ALL {
        for (m, n, k) in shapes(kind) {
            let b = pack(kind, k, n, &random.raw_rows(kind, k, n, true));
            let mut a = BlockRows::default();
            a.quantize(Isa::Scalar, &random.floats(m * k), k, m, k);
            let out = product(Isa::Scalar, &a, &b);
            let mut weights = vec![0.0; k];
            for column in 0..n {
                b.dequantize_row(column, &mut weights);
                for row in 0..m {
                    let (mut exact, mut sizes) = (0.0f64, 1e-30f64);
                    for (i, weight) in weights.iter().enumerate() {
                        let x = f64::from(a.quants(row)[i]) * f64::from(a.scale(row, i / 32));
                        exact += x * f64::from(*weight);
                        sizes += (x * f64::from(*weight)).abs();
                    }
                    let value = f64::from(out[row * n + column]);
                    assert!((value - exact).abs() <= 4e-6 * sizes, "{kind:?} {m}x{n}x{k} {value} {exact}");
                }
            }
        }
    }
}

#[test]
fn activations_are_quantized_to_half_a_step_and_halves_go_away_from_zero() {
    let mut random = Random(9);
    let x = random.floats(320);
    for isa in isas() {
        let mut a = BlockRows::default();
        a.quantize(isa, &x, 320, 1, 320);
        for (i, value) in x.iter().enumerate() {
            let (scale, q) = (a.scale(0, i / 32), a.quants(0)[i]);
            assert!((value - f32::from(q) * scale).abs() <= scale * 0.500_01);
        }
        // With a largest magnitude of 127 the scale is 1.
        let mut halves = [0.0; 32];
        halves[..7].copy_from_slice(&[127.0, 0.5, -0.5, 1.5, -2.5, 0.499_999_97, -126.5]);
        a.quantize(isa, &halves, 32, 1, 32);
        assert_eq!(a.quants(0)[..7], [127, 1, -1, 2, -3, 0, -127]);
        assert_eq!(a.scale(0, 0), 1.0);
    }
}

#[test]
fn what_is_not_finite_makes_its_own_row_not_a_number_and_no_other() {
    let mut random = Random(4);
    for kind in BlockKind::ALL {
        let (m, n, k) = (8, 20, 256);
        let b = pack(kind, k, n, &random.raw_rows(kind, k, n, true));
        let clean = random.floats(m * k);
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001)] {
            let mut x = clean.clone();
            x[3 * k + 77] = bad;
            for isa in isas() {
                let mut a = BlockRows::default();
                a.quantize(isa, &clean, k, m, k);
                let expected = product(isa, &a, &b);
                a.quantize(isa, &x, k, m, k);
                let out = product(isa, &a, &b);
                for row in 0..m {
                    let (out, expected) = (&out[row * n..][..n], &expected[row * n..][..n]);
                    if row == 3 {
                        assert!(out.iter().all(|value| value.is_nan()), "{kind:?} {isa:?} {bad}");
                    } else {
                        assert_eq!(bits(out), bits(expected));
                    }
                }
            }
        }
    }
}

#[test]
fn almost_nothing_counts_as_zero() {
    for isa in isas() {
        let mut a = BlockRows::default();
        a.quantize(isa, &[f32::from_bits(3); 32], 32, 1, 32);
        assert_eq!((a.scale(0, 0), a.quants(0)), (0.0, &[0i8; 32][..]));
        a.quantize(isa, &[-1e-36; 32], 32, 1, 32);
        assert_eq!(a.quants(0), [-127; 32]);
    }
}

/// FNV-1a over the bits of a product.
fn digest(kind: BlockKind) -> u64 {
    let (m, n, k) = (5, 37, 512);
    let mut random = Random(77);
    let b = pack(kind, k, n, &random.raw_rows(kind, k, n, true));
    let mut a = BlockRows::default();
    a.quantize(Isa::best(), &random.wild_floats(m * k), k, m, k);
    let out = product(Isa::best(), &a, &b);
    let bytes = out.iter().flat_map(|value| value.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn every_processor_family_has_the_same_bits() {
    let digests = BlockKind::ALL.map(digest);
    assert_eq!(digests.map(|digest| format!("{digest:016x}")), DIGESTS, "{:?}", Isa::best());
}

const DIGESTS: [&str; 8] = [
    "9a49e0bd656d4fbc",
    "48b7c59ee1f99ecf",
    "eab41d281619c2e3",
    "abeec7b61aa83d86",
    "750829c283147007",
    "14f66cc9ccbb3aa6",
    "36919719dd9bd6e4",
    "18b2393a5667292f",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn parts_of_a_product_have_the_bits_of_the_whole(
        seed: u64,
        kind in 0usize..8,
        m in 1usize..40,
        n in 1usize..90,
        blocks in 1usize..5,
        accumulate: bool,
    ) {
        let kind = BlockKind::ALL[kind];
        let mut random = Random(seed);
        let k = if kind.block().0 == 256 { 256 } else { blocks * 32 - random.below(32) };
        let b = pack(kind, k, n, &random.raw_rows(kind, k, n, seed % 2 == 0));
        let x = random.wild_floats(m * k);
        let mut a = BlockRows::default();
        a.quantize(Isa::Scalar, &x, k, m, k);
        let before = random.floats(m * n);
        let whole = product(Isa::Scalar, &a, &b);
        let expected: Vec<f32> = before.iter().zip(&whole).map(|(was, sum)| if accumulate { was + sum } else { *sum }).collect();
        let (cut, split) = (random.below(m + 1), random.below(b.panels() + 1));
        for isa in isas() {
            // A wider output, whose other columns must stay as they are.
            let stride = n + 3;
            let mut out = vec![7.0; m * stride];
            (0..m).for_each(|row| out[row * stride..][..n].copy_from_slice(&before[row * n..][..n]));
            for rows in [0..cut, cut..m] {
                for panels in [0..split, split..b.panels()] {
                    // SAFETY: one task.
                    unsafe { gemm_block(isa, &a, rows.clone(), &b, panels, Out::new(&mut out, stride), accumulate) };
                }
            }
            for row in 0..m {
                prop_assert_eq!(bits(&out[row * stride..][..n]), bits(&expected[row * n..][..n]), "{:?} {:?}", kind, isa);
                prop_assert!(out[row * stride + n..][..3].iter().all(|value| *value == 7.0));
            }
            // A row alone.
            let row = random.below(m);
            let mut alone = BlockRows::default();
            alone.quantize(isa, &x[row * k..][..k], k, 1, k);
            prop_assert_eq!(bits(&product(isa, &alone, &b)), bits(&whole[row * n..][..n]), "{:?} {:?}", kind, isa);
        }
    }
}
