//! Prints training tokens per second of a small model with random weights, for 1 and 2 threads.
//! `cargo run --release --example bench_train [seconds per measurement]`
use std::time::Instant;

use cupel_core::safetensors::{write, Tensor};
use cupel_core::{Dtype, Isa, Learner, StepOptions};

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Seconds of processor time of this process where the system tells (Linux), which other programs do not disturb.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3.0);
    let (hidden, layers, heads, kv, inner, vocabulary) = (128usize, 4usize, 4usize, 2usize, 384usize, 2048usize);
    let dir = std::env::temp_dir().join(format!("cupel-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("temporary folder");
    let config = format!(
        r#"{{"model_type":"llama","hidden_size":{hidden},"intermediate_size":{inner},"num_hidden_layers":{layers},
        "num_attention_heads":{heads},"num_key_value_heads":{kv},"vocab_size":{vocabulary},"rms_norm_eps":1e-5,
        "rope_theta":10000.0,"tie_word_embeddings":true,"max_position_embeddings":256}}"#
    );
    std::fs::write(dir.join("config.json"), config).expect("config");
    let mut state = 88_172_645_463_325_252;
    let key = hidden / heads * kv;
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let mut push = |name: String, shape: Vec<usize>| {
        let length: usize = shape.iter().product();
        let values = (0..length)
            .map(|_| if shape.len() == 1 { 1.0 } else { ((random(&mut state) >> 40) as f32 / 16_777_216.0 - 0.5) * 0.07 })
            .collect();
        tensors.push((name, shape, values));
    };
    push("model.embed_tokens.weight".into(), vec![vocabulary, hidden]);
    push("model.norm.weight".into(), vec![hidden]);
    for layer in 0..layers {
        let prefix = format!("model.layers.{layer}");
        push(format!("{prefix}.input_layernorm.weight"), vec![hidden]);
        push(format!("{prefix}.post_attention_layernorm.weight"), vec![hidden]);
        push(format!("{prefix}.self_attn.q_proj.weight"), vec![hidden, hidden]);
        push(format!("{prefix}.self_attn.k_proj.weight"), vec![key, hidden]);
        push(format!("{prefix}.self_attn.v_proj.weight"), vec![key, hidden]);
        push(format!("{prefix}.self_attn.o_proj.weight"), vec![hidden, hidden]);
        push(format!("{prefix}.mlp.gate_proj.weight"), vec![inner, hidden]);
        push(format!("{prefix}.mlp.up_proj.weight"), vec![inner, hidden]);
        push(format!("{prefix}.mlp.down_proj.weight"), vec![hidden, inner]);
    }
    let borrowed: Vec<Tensor<'_>> = tensors.iter().map(|(name, shape, values)| Tensor { name, shape, values }).collect();
    write(&dir.join("model.safetensors"), &borrowed, Dtype::F32, &[]).expect("weights");

    let mut tokens: Vec<i32> = Vec::new();
    let mut offsets = vec![0];
    let mut labelled: Vec<u8> = Vec::new();
    while tokens.len() < 4096 {
        let length = (16 + random(&mut state) % 113) as usize;
        tokens.extend((0..length).map(|_| (random(&mut state) % vocabulary as u64) as i32));
        labelled.extend((0..length).map(|position| u8::from(position > 0)));
        offsets.push(tokens.len() as i32);
    }
    let options = StepOptions { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, max_grad_norm: 1.0 };
    for isa in [Isa::Avx2, Isa::Avx512] {
        for threads in [1, 2] {
            if !isa.is_available() {
                continue;
            }
            let mut learner = Learner::open_with(&dir, threads, isa).expect("open");
            let mut times = [0.0; 3];
            let mut rounds = 0;
            let mut loss = 0.0;
            let begin = Instant::now();
            let processor = processor_seconds();
            while begin.elapsed().as_secs_f64() < seconds {
                let start = Instant::now();
                let scores = learner.forward(&tokens, &offsets, &labelled, true).expect("forward");
                times[0] += start.elapsed().as_secs_f64();
                loss = -scores.iter().sum::<f32>() / scores.len() as f32;
                let gradient = vec![-1.0 / scores.len() as f32; scores.len()];
                let start = Instant::now();
                learner.backward(&gradient).expect("backward");
                times[1] += start.elapsed().as_secs_f64();
                let start = Instant::now();
                learner.step(options).expect("step");
                times[2] += start.elapsed().as_secs_f64();
                rounds += 1;
            }
            let total = begin.elapsed().as_secs_f64();
            let [forward, backward, step] = times.map(|time| time * 1e3 / f64::from(rounds));
            let processor = processor_seconds() - processor;
            println!(
                "{isa:?} {threads} threads: {:.0} tokens/s, {:.0} a processor second (forward {forward:.1} ms, backward {backward:.1} ms, step {step:.1} ms; {} tokens, loss {loss:.3} after {rounds} steps)",
                f64::from(rounds) * tokens.len() as f64 / total,
                f64::from(rounds) * tokens.len() as f64 / processor,
                tokens.len(),
            );
        }
    }
    let _ = std::fs::remove_dir_all(&dir);
}
