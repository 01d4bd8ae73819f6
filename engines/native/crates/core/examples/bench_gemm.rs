//! Prints the best speed of the matrix product over many short calls, so that other programs disturb little.
use std::time::Instant;

use cupel_core::internals::{gemm, pack_rows, panel_count, Isa, Left, Panels};

fn main() {
    for isa in [Isa::Avx2, Isa::Avx512] {
        if !isa.is_available() {
            continue;
        }
        for (m, n, k) in [
            (72, 768, 128),
            (72, 128, 384),
            (72, 2048, 128),
            (72, 128, 2048),
            (72, 128, 768),
            (12, 128, 256),
            (8, 384, 128),
            (1, 384, 128),
        ] {
            for pad in [0, 16] {
                let a = vec![0.5f32; m * (k + pad)];
                let w = vec![0.25f32; n * k];
                let mut b = Panels::zeroed(k, n);
                for panel in 0..panel_count(n) {
                    pack_rows(&w, k, n, panel, &mut b.lines[panel * k..][..k]);
                }
                let mut c = vec![0.0f32; m * (n + pad)];
                let mut best = [f64::MAX; 2];
                for round in 0..400 {
                    let left = if round % 2 == 0 { Left::rows(&a, k + pad) } else { Left::columns(&a[..m * k], m) };
                    let start = Instant::now();
                    gemm(isa, (m, n, k), left, &b.lines, k, &mut c, n + pad, false);
                    best[round % 2] = start.elapsed().as_secs_f64().min(best[round % 2]);
                }
                let [rows, columns] = best.map(|seconds| 2.0 * (m * n * k) as f64 / seconds / 1e9);
                println!("{isa:?} m={m} n={n} k={k} pad={pad}: {rows:.1} GFLOP/s, left transposed {columns:.1}");
            }
        }
    }
}
