mod common;

use common::{bits, Random};
use cupel_kernels::{
    bf16_to_f32, f32_to_half, gemm, gemm_half, gemm_into, half_to_f32, pack_rows, HalfKind, HalfPanels, Isa, Left, Out,
    Panels,
};

const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (1, 70, 300),
    (2, 33, 96),
    (3, 17, 5),
    (4, 65, 33),
    (7, 50, 130),
    (12, 48, 600),
    (13, 31, 70),
    (25, 100, 257),
];

#[test]
fn products_of_halves_and_of_ranges_have_the_bits_of_the_whole_product_of_floats() {
    let mut random = Random(5);
    for (m, n, k) in SHAPES {
        for kind in [HalfKind::F16, HalfKind::Bf16] {
            let raw: Vec<u8> = (0..n * k)
                .flat_map(|_| match kind {
                    HalfKind::F16 if random.below(8) == 0 => (random.next() as u16 & 0x83ff).to_le_bytes(),
                    HalfKind::F16 => f32_to_half(random.float()).to_le_bytes(),
                    HalfKind::Bf16 => ((random.float().to_bits() >> 16) as u16).to_le_bytes(),
                })
                .collect();
            let widened: Vec<f32> = raw
                .chunks_exact(2)
                .map(|two| u16::from_le_bytes([two[0], two[1]]))
                .map(|bits| if kind == HalfKind::F16 { half_to_f32(bits) } else { bf16_to_f32(bits) })
                .collect();
            let mut panels = Panels::zeroed(k, n);
            panels.lines.chunks_exact_mut(k).enumerate().for_each(|(panel, out)| pack_rows(&widened, k, n, panel, out));
            let x = random.floats(m * k);
            let halves = HalfPanels::pack(kind, k, n, &|row| &raw[row * k * 2..][..k * 2], &mut |count, task| {
                (0..count).for_each(task)
            });
            let mut row = vec![0.0; k];
            halves.dequantize_row(n / 2, &mut row);
            assert_eq!(bits(&row), bits(&widened[n / 2 * k..][..k]));
            for accumulate in [false, true] {
                let mut expected = vec![0.5f32; m * n];
                gemm(Isa::Scalar, (m, n, k), Left::rows(&x, k), &panels.lines, k, &mut expected, n, accumulate);
                for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                    let mut out = vec![0.5f32; m * n];
                    let mut from_half = vec![0.5f32; m * n];
                    let (cut, split) = (random.below(m + 1), random.below(halves.panels() + 1));
                    for rows in [0..cut, cut..m] {
                        for range in [0..split, split..halves.panels()] {
                            let left = Left::rows(&x, k);
                            // SAFETY: one task.
                            unsafe {
                                let (out, half) = (Out::new(&mut out, n), Out::new(&mut from_half, n));
                                gemm_into(isa, left, rows.clone(), &panels, range.clone(), out, accumulate);
                                gemm_half(isa, left, rows.clone(), &halves, range, half, accumulate);
                            }
                        }
                    }
                    assert_eq!(bits(&out), bits(&expected), "{m}x{n}x{k} {isa:?}");
                    assert_eq!(bits(&from_half), bits(&expected), "{kind:?} {m}x{n}x{k} {isa:?}");
                }
            }
        }
    }
}
