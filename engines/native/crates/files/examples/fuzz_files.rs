//! Fuzzes both parsers: `fuzz_files COUNT [FIRST_SEED]` reads COUNT mutations of the corpus with each; `fuzz_files make`
//! writes the corpus anew. A panic ends the program and names the seed range it fell in.

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use common::fuzz::{corpus_config, run, Corpus};
use common::{config, write_model, write_tokenizer, Folder};
use cupel_files::gguf::write::Meta;
use cupel_files::{kind_from_name, quantize, quantize_w8a8, Dtype, Error, QuantizeOptions, Source};
use serde_json::json;

const ROUND: u64 = 10_000;

fn make() -> Result<(), Error> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let small = json!({"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 8});
    let model = |changes: serde_json::Value| {
        let folder = Folder::new();
        let mut all = small.clone();
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let config = config(&all);
        write_model(&folder.0, &config, Dtype::Bf16);
        write_tokenizer(&folder.0, 8);
        folder
    };
    let save = |name: &str, from: &Path| {
        std::fs::copy(from, corpus.join(name)).unwrap();
    };
    let llama = model(json!({}));
    save("llama-bf16.safetensors", &llama.path("model.safetensors"));
    let source = Source::open(&llama.0)?;
    let int8 = Folder::new();
    quantize_w8a8(&source, &int8.0)?;
    save("llama-int8.safetensors", &int8.path("model.safetensors"));
    // The config that announces int8 weights reads the other files too.
    save("config.json", &int8.path("config.json"));
    let tied = model(json!({"tie_word_embeddings": true}));
    save("llama-tied.safetensors", &tied.path("model.safetensors"));
    for kind in ["f32", "q4_0", "q5_1", "q8_0"] {
        let mut options = QuantizeOptions::new(kind_from_name(kind).unwrap());
        options.name = Some("corpus".to_string());
        options.metadata.push(("corpus.list".to_string(), Meta::I32s(vec![1, -2, 3])));
        quantize(&source, &corpus.join(format!("llama-{kind}.gguf")), &options)?;
    }
    for (name, changes, kind) in [
        ("qwen2", json!({"model_type": "qwen2", "tie_word_embeddings": true}), "q5_0"),
        ("qwen3", json!({"model_type": "qwen3"}), "f16"),
        (
            "llama3",
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}),
            "q4_1",
        ),
        (
            "k",
            json!({"hidden_size": 256, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2, "intermediate_size": 2,
            "vocab_size": 8}),
            "q4_k",
        ),
    ] {
        let folder = model(changes);
        let mut options = QuantizeOptions::new(kind_from_name(kind).unwrap());
        options.name = Some("corpus".to_string());
        quantize(&Source::open(&folder.0)?, &corpus.join(format!("{name}-{kind}.gguf")), &options)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = match arguments.first().map(String::as_str) {
        Some("make") => {
            return match make() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{error}");
                    ExitCode::FAILURE
                }
            }
        }
        Some(count) => count.parse::<u64>().unwrap_or(ROUND),
        None => ROUND,
    };
    let first = arguments.get(1).and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let (corpus, config) = (Corpus::read(), corpus_config());
    let start = Instant::now();
    let mut accepted = [0; 2];
    for begin in (first..first + count).step_by(ROUND as usize) {
        let part = ROUND.min(first + count - begin);
        let outcome = std::panic::catch_unwind(|| run(&corpus, &config, begin, part));
        let Ok(seen) = outcome else {
            eprintln!("seeds {begin} to {}", begin + part);
            return ExitCode::FAILURE;
        };
        accepted.iter_mut().zip(seen).for_each(|(total, seen)| *total += seen);
    }
    println!(
        "{count} mutations of each: {} GGUF and {} safetensors files accepted, the others refused with a code, {:.1} s",
        accepted[0],
        accepted[1],
        start.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}
