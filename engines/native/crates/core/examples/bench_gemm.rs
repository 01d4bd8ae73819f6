//! Prints the speed of the matrix product for one training shape and a few decoding shapes.
use std::time::Instant;

use cupel_core::internals::{gemm, pack_rows, panel_count, Isa, Left, Panels};

fn main() {
    for isa in [Isa::Avx2, Isa::Avx512] {
        if !isa.is_available() {
            continue;
        }
        for (m, n, k) in [(4096, 384, 128), (72, 384, 128), (72, 128, 384), (4096, 2048, 128), (72, 128, 2048), (8, 384, 128), (1, 384, 128)] {
            let a = vec![0.5f32; m * k];
            let w = vec![0.25f32; n * k];
            let mut b = Panels::zeroed(k, n);
            for panel in 0..panel_count(n) {
                pack_rows(&w, k, n, panel, &mut b.lines[panel * k..][..k]);
            }
            let mut c = vec![0.0f32; m * n];
            let rounds = (2_000_000_000 / (m * n * k)).max(1);
            let start = Instant::now();
            for _ in 0..rounds {
                for block in (0..m).step_by(72) {
                    let rows = 72.min(m - block);
                    gemm(isa, (rows, n, k), Left::rows(&a[block * k..], k), &b.lines, k, &mut c[block * n..], n, false);
                }
            }
            let seconds = start.elapsed().as_secs_f64();
            let left_transposed = {
                let start = Instant::now();
                for _ in 0..rounds {
                    for block in (0..m).step_by(72) {
                        let rows = 72.min(m - block);
                        gemm(isa, (rows, n, k), Left::columns(&a[..rows * k], rows), &b.lines, k, &mut c[block * n..], n, false);
                    }
                }
                start.elapsed().as_secs_f64()
            };
            let work = 2.0 * (m * n * k * rounds) as f64 / 1e9;
            println!("{isa:?} m={m} n={n} k={k}: {:.1} GFLOP/s, left packed {:.1}", work / seconds, work / left_transposed);
        }
    }
}
