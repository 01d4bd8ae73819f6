//! Small checkpoints for tests, and folders that go away.
#![allow(dead_code)]

pub mod fuzz;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use cupel_files::safetensors::{write, Tensor};
use cupel_files::{Config, Dtype};
use serde_json::{json, Value};

static COUNTER: AtomicUsize = AtomicUsize::new(0);

/// A folder under the system's temporary one, removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cupel-files-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Numbers of about normal distribution from a seed, the sum of four uniform ones, rounded to bf16.
pub fn normal(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 24) as f32
    };
    let mut next = || ((0..4).map(|_| uniform()).sum::<f32>() - 2.0) * scale;
    (0..count).map(|_| f32::from_bits(next().to_bits() & 0xffff_0000)).collect()
}

/// The least config of a model; `changes` replace or add fields.
pub fn config(changes: &Value) -> Value {
    let mut config = json!({"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 40, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": false, "max_position_embeddings": 128, "head_dim": 16});
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config
}

/// Writes a Hugging Face folder with made-up weights.
pub fn write_model(dir: &Path, config: &Value, dtype: Dtype) {
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let parsed = Config::parse(&config.to_string()).unwrap();
    let filled: Vec<(String, Vec<usize>, Vec<f32>)> = parsed
        .tensors()
        .into_iter()
        .enumerate()
        .map(|(number, (name, rows, columns))| {
            let shape = if rows == 1 { vec![columns] } else { vec![rows, columns] };
            (name, shape, normal(number as u64 + 1, rows * columns, 0.05))
        })
        .collect();
    let tensors: Vec<_> = filled.iter().map(|(name, shape, values)| Tensor { name, shape, values }).collect();
    write(&dir.join("model.safetensors"), &tensors, dtype, &[("format", "pt".to_string())]).unwrap();
}

/// A byte-level tokenizer of `vocabulary` tokens, the last of them `<|end|>`.
pub fn write_tokenizer(dir: &Path, vocabulary: usize) {
    let letters: Vec<String> = ('a'..='z').chain('A'..='Z').map(String::from).collect();
    let vocab: serde_json::Map<String, Value> =
        letters.iter().take(vocabulary - 2).enumerate().map(|(id, text)| (text.clone(), json!(id))).collect();
    let tokenizer = json!({"added_tokens": [{"id": vocabulary - 1, "content": "<|end|>", "special": true}],
        "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "post_processor": null, "model": {"type": "BPE", "vocab": vocab, "merges": []}});
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(dir.join("tokenizer_config.json"), r#"{"eos_token":"<|end|>"}"#).unwrap();
}
