//! Microseconds per choice, for vocabularies of SmolLM2 (49,152) and Qwen (151,936).
//! `cargo run --release -p cupel-sampling --example bench_sampling`

use std::hint::black_box;
use std::time::Instant;

use cupel_sampling::{arg_max, arg_max_masked, Sampler, Sampling};

/// Least of 60 times, so that a busy neighbour does not count.
fn time(name: &str, mut work: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..60 {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("  {name:<58} {:>8.1} µs", best * 1e6);
}

fn main() {
    for vocabulary in [49_152usize, 151_936] {
        println!("vocabulary {vocabulary}");
        let uniform = |i: u32| f64::from(i.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24);
        // A few likely tokens over a broad floor, as trained models give; and as random weights give.
        let peaked: Vec<f32> = (0..vocabulary as u32).map(|i| (-3.0 * (1e-6 + uniform(i)).ln()) as f32).collect();
        let flat: Vec<f32> = (0..vocabulary as u32).map(|i| uniform(i) as f32).collect();
        let mut logits = peaked.clone();
        time("copy of the logits (part of the choices below)", || logits.copy_from_slice(black_box(&peaked)));
        time("arg_max", || {
            black_box(arg_max(black_box(&peaked)));
        });
        let dense: Vec<u32> = (0..vocabulary as u32 / 32).map(|i| i.wrapping_mul(2_654_435_761) | 1).collect();
        let sparse: Vec<u32> = (0..vocabulary as u32 / 32).map(|i| u32::from(i % 97 == 0)).collect();
        time("arg_max_masked, half allowed", || {
            black_box(arg_max_masked(&peaked, black_box(&dense)));
        });
        time("arg_max_masked, one word in 97", || {
            black_box(arg_max_masked(&peaked, black_box(&sparse)));
        });
        let sampling = Sampling { temperature: 0.8, ..Sampling::default() };
        for (name, sampling, source) in [
            ("temperature", sampling.clone(), &peaked),
            ("temperature, min-p", Sampling { min_p: 0.05, ..sampling.clone() }, &peaked),
            ("top-k 50", Sampling { top_k: Some(50), ..sampling.clone() }, &peaked),
            ("top-k 50, top-p 0.95", Sampling { top_k: Some(50), top_p: 0.95, ..sampling.clone() }, &peaked),
            ("top-p 0.95", Sampling { top_p: 0.95, ..sampling.clone() }, &peaked),
            ("top-p 0.95, flat logits", Sampling { top_p: 0.95, ..sampling.clone() }, &flat),
        ] {
            let mut sampler = Sampler::new(sampling, 0);
            let mut step = 0;
            time(name, || {
                logits.copy_from_slice(black_box(source));
                step += 1;
                black_box(sampler.choose(&mut logits, None, step).expect("finite logits"));
            });
        }
        let penalised = Sampling { repetition_penalty: 1.1, ..Sampling::default() };
        let mut sampler = Sampler::new(penalised, 0);
        sampler.prompt(&(0..600).map(|i| i * 71 % vocabulary as u32).collect::<Vec<u32>>());
        time("greedy, repetition penalty over 600 tokens", || {
            logits.copy_from_slice(black_box(&peaked));
            black_box(sampler.choose(&mut logits, None, 0).expect("finite logits"));
        });
    }
}
