//! Prints training tokens per second, processor seconds and peak memory of a model with random weights.
//! `cargo run --release --example bench_train [3m|135m] [sequences] [length] [f32|bf16] [threads] [steps] [full|recompute|lora|lora-recompute]`;
//! `CUPEL_NATIVE_ISA` chooses the instruction set.
use std::time::Instant;

use common::{processor_seconds, random, Shape};
use cupel_core::{AdapterOptions, Compute, Isa, Learner, LearnerOptions, StepOptions, TensorType};

mod common;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.to_string());
    let number = |index: usize, default: &str| text(index, default).parse::<usize>().expect("a number");
    let shape = match text(0, "3m").as_str() {
        "3m" => Shape { hidden: 192, layers: 6, heads: 6, kv: 3, inner: 512, vocabulary: 4096 },
        "135m" => Shape { hidden: 576, layers: 30, heads: 9, kv: 3, inner: 1536, vocabulary: 49152 },
        other => panic!("shape {other}: 3m or 135m"),
    };
    let (sequences, length) = (number(1, "32"), number(2, "256"));
    let (threads, steps) = (number(4, "1"), number(5, "5"));
    let begin = Instant::now();
    let mut state = 88_172_645_463_325_252;
    let dir = common::random_model(&mut state, &shape);
    let count = sequences * length;
    let mut state = 362_436_069_521_288_629;
    let tokens: Vec<i32> = (0..count).map(|_| (random(&mut state) % shape.vocabulary as u64) as i32).collect();
    let offsets: Vec<i32> = (0..=sequences).map(|sequence| (sequence * length) as i32).collect();
    let labelled: Vec<u8> = (0..count).map(|row| u8::from(row % length > 0)).collect();
    let options = StepOptions { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, max_grad_norm: 1.0 };
    let isa = Isa::detect();
    let mode = text(6, "full");
    let compute = if text(3, "f32") == "bf16" { Compute::Bf16 } else { Compute::F32 };
    let adapter = mode.starts_with("lora").then(|| AdapterOptions {
        rank: 16,
        alpha: 32.0,
        targets: Vec::new(),
        seed: 0,
        from: None,
    });
    let base = if adapter.is_some() && compute == Compute::Bf16 { TensorType::Bf16 } else { TensorType::F32 };
    let learner_options = LearnerOptions {
        threads,
        compute,
        adapter,
        base,
        recompute: mode.ends_with("recompute"),
        ..Default::default()
    };
    let made = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let mut learner = Learner::open_with(&dir, &learner_options).expect("open");
    let opened = begin.elapsed().as_secs_f64();
    let mut best = [f64::MAX; 3];
    let (mut whole, mut processor) = (f64::MAX, f64::MAX);
    let mut losses = Vec::new();
    let mut first = 0.0;
    for step in 0..steps {
        let (start, clock) = (Instant::now(), processor_seconds());
        let mut lap = Instant::now();
        let mut lapped = |part: usize| {
            best[part] = lap.elapsed().as_secs_f64().min(best[part]);
            lap = Instant::now();
        };
        let scores = learner.forward(&tokens, &offsets, &labelled, true).expect("forward");
        lapped(0);
        losses.push(-scores.iter().sum::<f32>() / scores.len() as f32);
        learner.backward(&vec![-1.0 / scores.len() as f32; scores.len()]).expect("backward");
        lapped(1);
        learner.step(options).expect("step");
        lapped(2);
        if step == 0 {
            first = begin.elapsed().as_secs_f64();
        }
        whole = start.elapsed().as_secs_f64().min(whole);
        processor = (processor_seconds() - clock).min(processor);
    }
    let tokens = count as f64;
    println!(
        "{} {sequences}x{length} {} {mode} {isa:?} {threads} threads: {:.0} tokens/s, {:.0} a processor second, peak {:.0} MiB",
        text(0, "3m"),
        text(3, "f32"),
        tokens / whole,
        tokens / processor,
        peak_mebibytes(),
    );
    println!(
        "  forward {:.3} s, backward {:.3} s, step {:.3} s; open {opened:.3} s, first step after {first:.3} s; model made in {made:.1} s",
        best[0], best[1], best[2],
    );
    println!("  losses {losses:.4?}");
}

/// The most memory that the process had, where the system tells (Linux).
fn peak_mebibytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}
