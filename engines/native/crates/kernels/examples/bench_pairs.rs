//! Prints the best speed of the bfloat16 product of training over many short calls.
use std::time::Instant;

use cupel_kernels::{gemm_pairs, Isa, PairLeft, PairLine};

fn main() {
    let isa = Isa::detect();
    for (m, n, k) in [
        (72, 1024, 192),
        (72, 192, 1024),
        (72, 4096, 192),
        (72, 192, 192),
        (72, 3072, 576),
        (48, 256, 32),
        (48, 32, 256),
        (512, 192, 2048),
        (576, 576, 2048),
    ] {
        let a = vec![0x3f80_3f80u32; m * k / 2];
        let panels = |rows: usize| vec![PairLine([0x3f80_3f80; 16]); rows.div_ceil(16) * k / 2];
        let (left, right) = (panels(m), panels(n));
        let mut c = vec![0.0f32; m * n];
        let mut best = [f64::MAX; 2];
        for round in 0..400 {
            let left = if round % 2 == 0 {
                PairLeft::Rows { data: &a, stride: k / 2 }
            } else {
                PairLeft::Panels { lines: &left, panel: k / 2 }
            };
            let start = Instant::now();
            gemm_pairs(isa, (m, n, k / 2), left, &right, k / 2, &mut c, n, false);
            best[round % 2] = start.elapsed().as_secs_f64().min(best[round % 2]);
        }
        let [rows, columns] = best.map(|seconds| 2.0 * (m * n * k) as f64 / seconds / 1e9);
        println!("{isa:?} m={m} n={n} k={k}: {rows:.1} GFLOP/s, left in panels {columns:.1}");
    }
}
