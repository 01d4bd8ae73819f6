//! Speed of a SmolLM2-135M-shaped model with random weights: `bench_engine [q8_0|w8a8|f32|as-stored] [threads…] [part of a row's name]`.
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::Instant;

use common::{processor_seconds, random};
use cupel_core::safetensors::{write, Tensor};
use cupel_core::{Dtype, Engine, Event, GenerateRequest, Model, OpenOptions, ScoreItem, WeightType};

mod common;

const VOCABULARY: usize = 49_152;

/// A bf16 folder in the system's temporary directory, made once.
fn shaped() -> PathBuf {
    let dir = std::env::temp_dir().join("cupel-bench-smol135");
    if dir.join("config.json").exists() {
        return dir;
    }
    std::fs::create_dir_all(&dir).expect("folder");
    let (hidden, inner, query, key) = (576, 1536, 576, 192);
    let mut shapes = vec![("model.embed_tokens.weight".to_string(), vec![VOCABULARY, hidden])];
    for layer in 0..30 {
        for (name, shape) in [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![query, hidden]),
            ("self_attn.k_proj", vec![key, hidden]),
            ("self_attn.v_proj", vec![key, hidden]),
            ("self_attn.o_proj", vec![hidden, query]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    shapes.push(("model.norm.weight".to_string(), vec![hidden]));
    let mut state = 88_172_645_463_325_252;
    let values: Vec<Vec<f32>> = shapes
        .iter()
        .map(|(_, shape)| {
            let count: usize = shape.iter().product();
            match shape.len() {
                1 => vec![1.0; count],
                _ => (0..count).map(|_| ((random(&mut state) >> 40) as f32 / 8_388_608.0 - 1.0) * 0.06).collect(),
            }
        })
        .collect();
    let tensors: Vec<Tensor<'_>> =
        shapes.iter().zip(&values).map(|((name, shape), values)| Tensor { name, shape, values }).collect();
    write(&dir.join("model.safetensors"), &tensors, Dtype::Bf16, &[]).expect("weights");
    let config = r#"{"model_type":"llama","hidden_size":576,"intermediate_size":1536,"num_hidden_layers":30,
        "num_attention_heads":9,"num_key_value_heads":3,"vocab_size":49152,"rms_norm_eps":1e-5,"rope_theta":100000,
        "max_position_embeddings":8192,"tie_word_embeddings":true,"hidden_act":"silu"}"#;
    std::fs::write(dir.join("config.json"), config).expect("config");
    dir
}

fn open(dir: &Path, threads: usize, weights: WeightType) -> Arc<Model> {
    Arc::new(Model::open(dir, &OpenOptions { threads, weights, ..OpenOptions::default() }).expect("open"))
}

/// Generates for prompts; returns seconds from the first token of the last prompt on, and tokens after it.
fn decode(engine: &mut Engine, prompts: &[Vec<u32>], count: usize) -> (f64, f64, usize) {
    for prompt in prompts {
        engine.submit(GenerateRequest {
            prompt: prompt.clone(),
            max_tokens: count,
            stream: true,
            ..Default::default()
        });
    }
    let mut events = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < prompts.len() {
        engine.step(&mut events);
        seen.extend(events.drain(..).filter_map(|event| match event {
            Event::Token { id, .. } => Some(id),
            _ => None,
        }));
    }
    let (start, processor) = (Instant::now(), processor_seconds());
    let mut tokens = 0;
    loop {
        let more = engine.step(&mut events);
        tokens += events.drain(..).filter(|event| matches!(event, Event::Token { .. })).count();
        if !more {
            return (start.elapsed().as_secs_f64(), processor_seconds() - processor, tokens);
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let weights = match arguments.next().as_deref() {
        Some("w8a8") => WeightType::W8A8,
        Some("f32") => WeightType::F32,
        Some("as-stored") => WeightType::AsStored,
        _ => WeightType::Q8_0,
    };
    let rest: Vec<String> = arguments.collect();
    let only = rest.iter().find(|text| text.parse::<usize>().is_err()).cloned().unwrap_or_default();
    let mut threads: Vec<usize> = rest.iter().filter_map(|text| text.parse().ok()).collect();
    if threads.is_empty() {
        threads = vec![1, 2];
    }
    let dir = shaped();
    let mut state = 7;
    let mut tokens =
        |count: usize| -> Vec<u32> { (0..count).map(|_| (random(&mut state) % VOCABULARY as u64) as u32).collect() };
    for threads in threads {
        let start = Instant::now();
        let model = open(&dir, threads, weights);
        println!(
            "{weights:?}, {threads} threads: open {:.2} s, weights {} MB",
            start.elapsed().as_secs_f64(),
            model.weight_bytes() >> 20
        );
        let cancelled = AtomicBool::new(false);
        let best = |name: &str, unit: &str, mut run: Box<dyn FnMut() -> (f64, f64, usize) + '_>| {
            if !name.contains(&only) {
                return;
            }
            let runs: Vec<_> = (0..3).map(|_| run()).collect();
            let best = runs.iter().map(|(wall, _, count)| *count as f64 / wall).fold(0.0, f64::max);
            let processor = runs.iter().map(|(_, cpu, count)| *count as f64 * threads as f64 / cpu).fold(0.0, f64::max);
            println!("  {name:<34} {best:9.1} {unit} (by processor time {processor:.1})");
        };
        let short = tokens(2);
        best(
            "decode, 1 sequence, empty context",
            "tokens/s",
            Box::new(|| decode(&mut Engine::new(Arc::clone(&model), 1), std::slice::from_ref(&short), 48)),
        );
        let prefix = tokens(512);
        best(
            "decode, 1 sequence, context 512",
            "tokens/s",
            Box::new(|| decode(&mut Engine::new(Arc::clone(&model), 1), std::slice::from_ref(&prefix), 32)),
        );
        best(
            "prefill 512",
            "tokens/s",
            Box::new(|| {
                let mut engine = Engine::new(Arc::clone(&model), 1);
                let (start, processor) = (Instant::now(), processor_seconds());
                engine.submit(GenerateRequest { prompt: prefix.clone(), max_tokens: 1, ..Default::default() });
                while engine.step(&mut Vec::new()) {}
                (start.elapsed().as_secs_f64(), processor_seconds() - processor, 512)
            }),
        );
        for count in [8, 32] {
            let prompts: Vec<Vec<u32>> =
                (0..count).map(|_| prefix.iter().copied().chain(tokens(4)).collect()).collect();
            best(
                &format!("decode, {count} sequences on a shared 512"),
                "tokens/s",
                Box::new(|| decode(&mut Engine::new(Arc::clone(&model), count), &prompts, 24)),
            );
        }
        let items: Vec<ScoreItem> = (0..12)
            .flat_map(|_| {
                let context = tokens(200);
                let options: Vec<Vec<u32>> = (0..4).map(|_| tokens(10)).collect();
                options.into_iter().map(move |continuation| ScoreItem {
                    context: context.clone(),
                    continuation,
                    adapter: None,
                })
            })
            .collect();
        best(
            "log-likelihood, 200 + 4 × 10",
            "questions/s",
            Box::new(|| {
                let (start, processor) = (Instant::now(), processor_seconds());
                Engine::new(Arc::clone(&model), 8).score(items.clone(), &cancelled).expect("score");
                (start.elapsed().as_secs_f64(), processor_seconds() - processor, 12)
            }),
        );
        let shared = tokens(600);
        let prompts: Vec<Vec<u32>> = (0..32).map(|_| shared.iter().copied().chain(tokens(60)).collect()).collect();
        for batch in [8, 16, 32] {
            best(
                &format!("evaluation workload, batch {batch}"),
                "prompts/s",
                Box::new(|| {
                    let (start, processor) = (Instant::now(), processor_seconds());
                    let requests = prompts.iter().map(|prompt| GenerateRequest {
                        prompt: prompt.clone(),
                        max_tokens: 80,
                        ..Default::default()
                    });
                    Engine::new(Arc::clone(&model), batch)
                        .generate(requests.collect(), &mut |_, _| {}, &cancelled)
                        .expect("generate");
                    (start.elapsed().as_secs_f64(), processor_seconds() - processor, prompts.len())
                }),
            );
        }
    }
}
