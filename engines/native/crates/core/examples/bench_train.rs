//! Prints training tokens per second of a small model with random weights, for 1 and 2 threads.
//! `cargo run --release --example bench_train [seconds per measurement] [tokens of a batch]`; `CUPEL_NATIVE_ISA` chooses the instruction set.
use std::time::Instant;

use common::{processor_seconds, random};
use cupel_core::{Isa, Learner, StepOptions};

mod common;

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3.0);
    let mut state = 88_172_645_463_325_252;
    let dir = common::random_model(&mut state);
    let vocabulary = common::VOCABULARY;
    let mut tokens: Vec<i32> = Vec::new();
    let mut offsets = vec![0];
    let mut labelled: Vec<u8> = Vec::new();
    let least = std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(4096);
    while tokens.len() < least {
        let length = (16 + random(&mut state) % 113) as usize;
        tokens.extend((0..length).map(|_| (random(&mut state) % vocabulary as u64) as i32));
        labelled.extend((0..length).map(|position| u8::from(position > 0)));
        offsets.push(tokens.len() as i32);
    }
    let options = StepOptions { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, max_grad_norm: 1.0 };
    for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512] {
        for threads in [1, 2] {
            if isa != Isa::detect() {
                continue;
            }
            let mut learner = Learner::open_with(&dir, threads, isa).expect("open");
            let (mut times, mut best) = ([0.0; 3], [f64::MAX; 3]);
            let mut rounds = 0;
            let mut loss = 0.0;
            let begin = Instant::now();
            let processor = processor_seconds();
            while begin.elapsed().as_secs_f64() < seconds {
                let mut lap = Instant::now();
                let mut lapped = |part: usize| {
                    let time = lap.elapsed().as_secs_f64();
                    times[part] += time;
                    best[part] = time.min(best[part]);
                    lap = Instant::now();
                };
                let scores = learner.forward(&tokens, &offsets, &labelled, true).expect("forward");
                lapped(0);
                loss = -scores.iter().sum::<f32>() / scores.len() as f32;
                let gradient = vec![-1.0 / scores.len() as f32; scores.len()];
                learner.backward(&gradient).expect("backward");
                lapped(1);
                learner.step(options).expect("step");
                lapped(2);
                rounds += 1;
            }
            let total = begin.elapsed().as_secs_f64();
            let [forward, backward, step] = times.map(|time| time * 1e3 / f64::from(rounds));
            let undisturbed = tokens.len() as f64 / best.iter().sum::<f64>();
            let processor = processor_seconds() - processor;
            println!(
                "{isa:?} {threads} threads: {:.0} tokens/s, {:.0} a processor second, {undisturbed:.0} at best (forward {forward:.1} ms, backward {backward:.1} ms, step {step:.1} ms; {} tokens, loss {loss:.3} after {rounds} steps)",
                f64::from(rounds) * tokens.len() as f64 / total,
                f64::from(rounds) * tokens.len() as f64 / processor,
                tokens.len(),
            );
        }
    }
    let _ = std::fs::remove_dir_all(&dir);
}
