//! Prints decoding and scoring speed of a small model with random weights.
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use common::{processor_seconds, random};
use cupel_core::{GenerateRequest, Model, ScoreItem};

mod common;

fn main() {
    let mut state = 88_172_645_463_325_252;
    let dir = common::random_model(&mut state);
    let mut tokens = |count: usize| -> Vec<u32> {
        (0..count).map(|_| (random(&mut state) % common::VOCABULARY as u64) as u32).collect()
    };
    let prompts: Vec<Vec<u32>> = (0..128).map(|_| tokens(70)).collect();
    let cancelled = AtomicBool::new(false);
    for threads in [1, 2] {
        let model = Model::open(&dir, threads).expect("open");
        for batch in [1, 8, 32] {
            let requests = prompts
                .iter()
                .map(|prompt| GenerateRequest {
                    prompt: prompt.clone(),
                    max_tokens: 60,
                    end_tokens: vec![],
                    constraint: None,
                })
                .collect();
            let (start, processor, mut generated) = (Instant::now(), processor_seconds(), 0);
            model.generate(requests, batch, &mut |done| generated += done.tokens.len(), &cancelled).expect("generate");
            println!(
                "{threads} threads, batch {batch}: {generated} tokens after 70-token prompts, {:.0} tokens/s, {:.0} a processor second",
                generated as f64 / start.elapsed().as_secs_f64(),
                generated as f64 / (processor_seconds() - processor)
            );
        }
        let items: Vec<ScoreItem> = prompts
            .iter()
            .flat_map(|prompt| {
                (0..4)
                    .map(|shift| ScoreItem { context: prompt.clone(), continuation: prompt[shift..shift + 6].to_vec() })
            })
            .collect();
        let start = Instant::now();
        model.score(&items, &cancelled).expect("score");
        println!("{threads} threads: {:.0} scored items/s", items.len() as f64 / start.elapsed().as_secs_f64());
    }
    let _ = std::fs::remove_dir_all(&dir);
}
