//! Times of attention over the paged cache, one thread: decoding one sequence, decoding sequences on a shared prefix,
//! and a prompt in one chunk. `cargo run --release --example bench_attention [f32|f16|q8]`

use std::time::Instant;

use cupel_attention::{attend, KvStore, KvType, Plan, Scratch, SequenceRows, PAGE};
use cupel_kernels::{gemm, Isa, Left, Line, Out};

const LAYERS: usize = 30;
const HEADS: usize = 3;
const GROUP: usize = 3;
const HEAD_DIM: usize = 64;

struct Bench {
    isa: Isa,
    store: KvStore,
    queries: Vec<f32>,
    results: Vec<f32>,
    scratch: Scratch,
}

impl Bench {
    fn new(isa: Isa, kind: KvType, pages: usize, rows: usize) -> Self {
        let mut store = KvStore::new(LAYERS, HEADS, HEAD_DIM, kind, pages);
        let ids: Vec<u32> = (0..pages as u32).collect();
        store.reserve(&ids).expect("memory");
        let numbers = |seed: usize| -> Vec<f32> {
            (0..HEAD_DIM).map(|i| ((seed * 7919 + i * 104_729) % 2003) as f32 * 0.002 - 2.0).collect()
        };
        for layer in 0..LAYERS {
            for page in &ids {
                for slot in 0..PAGE * HEADS {
                    let seed = layer * 31 + *page as usize * 17 + slot;
                    let (slot, head) = (slot / HEADS, slot % HEADS);
                    // SAFETY: nobody else uses the store.
                    unsafe { store.append(layer, head, *page, slot, &numbers(seed), &numbers(seed + 5)) };
                }
            }
        }
        let width = HEADS * GROUP * HEAD_DIM;
        let queries = (0..rows * width).map(|i| (i % 1009) as f32 * 0.002 - 1.0).collect();
        Self { isa, store, queries, results: vec![0.0; rows * width], scratch: Scratch::default() }
    }

    /// Milliseconds of appending 512 positions to all layers and heads.
    fn append(&mut self) -> f64 {
        let mut best = [f64::INFINITY; LAYERS];
        for _ in 0..20 {
            for (layer, best) in best.iter_mut().enumerate() {
                let start = Instant::now();
                for (position, row) in self.queries.chunks_exact(HEADS * GROUP * HEAD_DIM).enumerate() {
                    for head in 0..HEADS {
                        let (page, slot) = ((position / PAGE) as u32, position % PAGE);
                        let key = &row[head * HEAD_DIM..][..HEAD_DIM];
                        let value = &row[(HEADS + head) * HEAD_DIM..][..HEAD_DIM];
                        // SAFETY: nobody else uses the store.
                        unsafe { self.store.append(layer, head, page, slot, key, value) };
                    }
                }
                *best = best.min(start.elapsed().as_secs_f64());
            }
        }
        best.iter().sum::<f64>() * 1e3
    }

    fn call(&mut self, plan: &Plan, layer: usize, head: usize, task: usize) {
        let width = HEADS * GROUP * HEAD_DIM;
        let out = Out::new(&mut self.results, width);
        let (store, queries, scratch) = (&self.store, &self.queries, &mut self.scratch);
        // SAFETY: one call at a time.
        unsafe { attend(self.isa, store, layer, head, plan, task, GROUP, queries, width, 0, out, 0, scratch) };
    }

    /// Milliseconds of a step: the sum of the best times of each call, which other work on the machine disturbs
    /// little.
    fn time(&mut self, sequences: &[SequenceRows<'_>]) -> f64 {
        let tasks = Plan::build(sequences, None).tasks();
        let mut best = vec![f64::INFINITY; LAYERS * HEADS * tasks];
        let mut planning = f64::INFINITY;
        let begin = Instant::now();
        while begin.elapsed().as_secs_f64() < 2.0 {
            let start = Instant::now();
            let plan = Plan::build(sequences, None);
            planning = planning.min(start.elapsed().as_secs_f64());
            for (index, best) in best.iter_mut().enumerate() {
                let (layer, head, task) = (index / tasks / HEADS, index / tasks % HEADS, index % tasks);
                let start = Instant::now();
                self.call(&plan, layer, head, task);
                *best = best.min(start.elapsed().as_secs_f64());
            }
        }
        (best.iter().sum::<f64>() + planning) * 1e3
    }
}

/// Best rate of the matrix product on data that stays in the nearest caches.
fn peak(isa: Isa) -> f64 {
    let (m, n, k) = (48, 32, 128);
    let left = vec![0.5f32; m * k];
    let right = vec![Line([0.25; 16]); 2 * k];
    let mut out = vec![0.0f32; m * n];
    let mut best = f64::INFINITY;
    for _ in 0..20_000 {
        let start = Instant::now();
        for _ in 0..10 {
            gemm(isa, (m, n, k), Left::rows(&left, k), &right, k, &mut out, n, false);
        }
        best = best.min(start.elapsed().as_secs_f64() / 10.0);
    }
    (2 * m * n * k) as f64 / best / 1e9
}

fn report(name: &str, rows: usize, positions: usize, milliseconds: f64) {
    let products = (LAYERS * HEADS * GROUP * HEAD_DIM * 4) as f64 * positions as f64;
    println!("{name}: {milliseconds:.3} ms, {rows} rows, {:.1} GFLOPS", products / milliseconds / 1e6);
}

fn main() {
    let isa = Isa::detect();
    let kinds = match std::env::args().nth(1).as_deref() {
        Some("f32") => vec![KvType::F32],
        Some("f16") => vec![KvType::F16],
        Some("q8") => vec![KvType::Q8_0],
        _ => vec![KvType::F32, KvType::F16, KvType::Q8_0],
    };
    for kind in kinds {
        println!("{isa:?} {kind:?}, matrix product in cache {:.1} GFLOPS", peak(isa));
        let mut bench = Bench::new(isa, kind, 16 + 32, 512);
        println!("append of 512 positions: {:.3} ms", bench.append());
        let prefix: Vec<u32> = (0..16).collect();
        let time = bench.time(&[SequenceRows { pages: &prefix, before: 511, rows: 1, first_row: 0 }]);
        report("a. decode 1 at 512", 1, 512, time);
        for count in [8usize, 32] {
            let tables: Vec<Vec<u32>> =
                (0..count as u32).map(|i| prefix.iter().copied().chain([16 + i]).collect()).collect();
            let sequences: Vec<SequenceRows<'_>> = tables
                .iter()
                .enumerate()
                .map(|(first_row, pages)| SequenceRows { pages, before: 512 + 15, rows: 1, first_row })
                .collect();
            let time = bench.time(&sequences);
            report("b. decode on a shared prefix of 512 + 16", count, count * 528, time);
        }
        let time = bench.time(&[SequenceRows { pages: &prefix, before: 0, rows: 512, first_row: 0 }]);
        report("c. prompt of 512", 512, 512 * 513 / 2, time);
    }
}
