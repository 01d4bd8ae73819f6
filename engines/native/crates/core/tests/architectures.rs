//! Logits of every architecture, storage type and adapter against transformers and peft, and of a GGUF file that
//! another program wrote.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cupel_core::safetensors::Checkpoint;
use cupel_core::{Engine, KvType, Model, OpenOptions, WeightType};
use serde_json::Value;

fn reference(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../fixtures/reference").join(path)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn sequences(value: &Value) -> Vec<Vec<u32>> {
    let tokens = |row: &Value| row.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    value.as_array().unwrap().iter().map(tokens).collect()
}

fn tensor(path: &Path, name: &str) -> Vec<f32> {
    let mut file = Checkpoint::from_file(path).unwrap();
    let shape = file.shape(name).unwrap().to_vec();
    let mut values = vec![0.0; shape.iter().product()];
    file.read(name, &shape, &mut values).unwrap();
    values
}

fn logits(engine: &mut Engine, tokens: &[u32], adapter: Option<usize>) -> Vec<f32> {
    let vocabulary = engine.model().config().vocabulary_size;
    let all = Mutex::new(vec![0.0; tokens.len() * vocabulary]);
    engine
        .distributions(tokens, adapter, &|row, logits| {
            all.lock().unwrap()[row * vocabulary..][..vocabulary].copy_from_slice(logits);
        })
        .unwrap();
    all.into_inner().unwrap()
}

fn worst(seen: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(seen.len(), wanted.len());
    seen.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn open(path: &Path, options: OpenOptions) -> Engine {
    Engine::new(Arc::new(Model::open(path, &options).unwrap()), 4)
}

const MODELS: [&str; 6] =
    ["qwen3-tied", "mistral-window", "llama3-rope", "qwen2-untied", "llama-f16", "llama-bf16-sharded"];

#[test]
fn logits_of_every_architecture_match_transformers() {
    for name in MODELS {
        let folder = reference("engine/models").join(name);
        for step_tokens in [None, Some(7)] {
            let mut engine = open(&folder, OpenOptions { threads: 2, step_tokens, ..OpenOptions::default() });
            for (number, tokens) in sequences(&json(&folder.join("tokens.json"))["sequences"]).iter().enumerate() {
                let wanted = tensor(&folder.join("logits.safetensors"), &number.to_string());
                let error = worst(&logits(&mut engine, tokens, None), &wanted);
                assert!(error <= 5e-5, "{name} sequence {number}: {error}");
            }
        }
    }
}

#[test]
fn adapters_beside_the_weights_match_peft() {
    for name in ["llama-untied", "llama-tied-gqa9", "qwen2-tied"] {
        let folder = reference("models").join(name);
        let adapter = reference("engine/adapters").join(name);
        let adapters = vec![("own".to_string(), adapter.clone())];
        let mut engine = open(&folder, OpenOptions { threads: 1, adapters, ..OpenOptions::default() });
        let batch = &json(&folder.join("batches.json"))["batches"][0];
        let (rows, masks) = (sequences(&batch["input_ids"]), sequences(&batch["attention_mask"]));
        let wanted = tensor(&adapter.join("logits.safetensors"), "logits_init");
        let vocabulary = engine.model().config().vocabulary_size;
        let width = rows[0].len() * vocabulary;
        for (number, (row, mask)) in rows.iter().zip(&masks).enumerate() {
            let length = mask.iter().sum::<u32>() as usize;
            let wanted = &wanted[number * width..][..length * vocabulary];
            let with = logits(&mut engine, &row[..length], Some(0));
            assert!(worst(&with, wanted) <= 2e-5, "{name} {}", worst(&with, wanted));
            assert!(worst(&logits(&mut engine, &row[..length], None), wanted) > 1e-3, "the adapter changes something");
        }
    }
}

#[test]
fn many_adapters_on_one_base_match_peft() {
    let folder = reference("engine/models/qwen3-tied");
    let names = ["alpha", "patterns", "rank-stabilized", "regular-expression", "some-modules"];
    let adapters = names.map(|name| (name.to_string(), reference("engine/adapters").join(name))).to_vec();
    let mut engine = open(&folder, OpenOptions { threads: 2, adapters, ..OpenOptions::default() });
    for name in names {
        let adapter = engine.model().adapter(name).unwrap();
        for (number, tokens) in sequences(&json(&folder.join("tokens.json"))["sequences"]).iter().enumerate() {
            let path = reference("engine/adapters").join(name).join("logits.safetensors");
            let error = worst(&logits(&mut engine, tokens, Some(adapter)), &tensor(&path, &number.to_string()));
            assert!(error <= 5e-5, "{name} sequence {number}: {error}");
        }
    }
    assert_eq!(engine.model().adapter("other").unwrap_err().code, "CUPEL_NATIVE_REQUEST_INVALID");
}

#[test]
fn adapters_that_can_not_be_computed_are_refused_by_name() {
    for (name, word) in [
        ("refused-dora", "dora"),
        ("refused-bias", "bias"),
        ("refused-lora-bias", "lora_bias"),
        ("refused-modules-to-save", "modules_to_save"),
        ("refused-head", "lm_head"),
    ] {
        let adapters = vec![(name.to_string(), reference("engine/adapters").join(name))];
        let options = OpenOptions { adapters, ..OpenOptions::default() };
        let error = Model::open(&reference("engine/models/qwen3-tied"), &options).err().unwrap();
        assert_eq!(error.code, "CUPEL_NATIVE_ADAPTER_INVALID");
        assert!(format!("{error}").to_lowercase().contains(word), "{error}");
    }
}

#[test]
fn a_gguf_file_of_the_python_package_gives_its_logits_on_dequantized_weights() {
    let folder = reference("engine/gguf");
    let path = folder.join("python-mix.gguf");
    let mut engine = open(&path, OpenOptions { threads: 1, weights: WeightType::F32, ..OpenOptions::default() });
    let mut quantized = open(&path, OpenOptions { threads: 1, kv: Some(KvType::F32), ..OpenOptions::default() });
    for (number, tokens) in sequences(&json(&folder.join("python-mix.tokens.json"))["sequences"]).iter().enumerate() {
        let wanted = tensor(&folder.join("python-mix.logits.safetensors"), &number.to_string());
        let error = worst(&logits(&mut engine, tokens, None), &wanted);
        assert!(error <= 5e-5, "sequence {number}: {error}");
        // Integer arithmetic rounds the activations to 8 bits as well.
        let spread = wanted.iter().fold(0.0f32, |top, value| top.max(value.abs()));
        let seen = logits(&mut quantized, tokens, None);
        let squares: f32 = seen.iter().zip(&wanted).map(|(a, b)| (a - b) * (a - b)).sum();
        let error = (squares / wanted.len() as f32).sqrt();
        assert!(error <= 0.02 * spread, "sequence {number}: {error} of {spread}");
    }
}
