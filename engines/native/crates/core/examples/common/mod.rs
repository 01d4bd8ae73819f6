//! A model with random weights, and clocks.
#![allow(dead_code)]

use std::path::PathBuf;

use cupel_core::safetensors::{write, Tensor};
use cupel_core::Dtype;

pub const VOCABULARY: usize = 2048;

/// A tied model of the Llama family.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv: usize,
    pub inner: usize,
    pub vocabulary: usize,
}

pub const SMALL: Shape = Shape { hidden: 128, layers: 4, heads: 4, kv: 2, inner: 384, vocabulary: VOCABULARY };

pub fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Seconds of processor time of this process where the system tells (Linux), which other programs do not disturb.
pub fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

/// Writes the model to a temporary folder, where it stays for the next run.
pub fn random_model(state: &mut u64, shape: &Shape) -> PathBuf {
    let Shape { hidden, layers, heads, kv, inner, vocabulary } = *shape;
    let dir = std::env::temp_dir().join(format!("cupel-bench-{hidden}-{layers}-{inner}-{vocabulary}"));
    if dir.join("model.safetensors").exists() {
        return dir;
    }
    std::fs::create_dir_all(&dir).expect("temporary folder");
    let config = format!(
        r#"{{"model_type":"llama","hidden_size":{hidden},"intermediate_size":{inner},"num_hidden_layers":{layers},
        "num_attention_heads":{heads},"num_key_value_heads":{kv},"vocab_size":{vocabulary},"rms_norm_eps":1e-5,
        "rope_theta":10000.0,"tie_word_embeddings":true,"max_position_embeddings":2048}}"#
    );
    std::fs::write(dir.join("config.json"), config).expect("config");
    let key = hidden / heads * kv;
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let mut push = |name: String, shape: Vec<usize>| {
        let length: usize = shape.iter().product();
        let values = (0..length)
            .map(|_| if shape.len() == 1 { 1.0 } else { ((random(state) >> 40) as f32 / 16_777_216.0 - 0.5) * 0.07 })
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
    let borrowed: Vec<Tensor<'_>> =
        tensors.iter().map(|(name, shape, values)| Tensor { name, shape, values }).collect();
    write(&dir.join("model.safetensors"), &borrowed, Dtype::Bf16, &[]).expect("weights");
    dir
}
