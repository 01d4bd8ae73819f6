//! The same weights out of every kind of checkpoint.

mod common;

use std::path::Path;

use common::{config, write_model, write_tokenizer, Folder};
use cupel_files::gguf::write::Meta;
use cupel_files::quant::{decode_row, encode_row};
use cupel_files::{
    kind_from_name, quantize, quantize_w8a8, stored_type, Architecture, Config, Dtype, Gguf, QuantizeOptions,
    RopeScaling, Source, TensorType,
};
use serde_json::{json, Value};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Rows of all tensors in the order of Hugging Face.
fn rows(source: &Source) -> Vec<(String, TensorType, Vec<Vec<f32>>)> {
    let tensors = source.config().tensors().into_iter();
    tensors
        .map(|(name, rows, columns)| {
            let view = source.tensor(&name, rows, columns).unwrap();
            view.check_finite().unwrap();
            let row = |index: usize| {
                let mut values = vec![0.0; columns];
                view.decode_row(index, &mut values);
                values
            };
            (name, view.kind, (0..rows).map(row).collect())
        })
        .collect()
}

fn model(changes: &Value) -> Folder {
    let folder = Folder::new();
    let config = config(changes);
    write_model(&folder.0, &config, Dtype::Bf16);
    write_tokenizer(&folder.0, config["vocab_size"].as_u64().unwrap() as usize);
    folder
}

fn to_gguf(folder: &Folder, kind: &str) -> Source {
    let target = folder.path(&format!("{kind}.gguf"));
    let options = QuantizeOptions::new(kind_from_name(kind).unwrap());
    quantize(&Source::open(&folder.0).unwrap(), &target, &options).unwrap();
    Source::open(&target).unwrap()
}

#[test]
fn a_gguf_file_gives_the_config_and_rows_of_the_folder_it_was_made_of() {
    for changes in [
        json!({}),
        json!({"tie_word_embeddings": true, "head_dim": 24, "rope_theta": 5e5}),
        json!({"model_type": "mistral", "sliding_window": 48}),
        json!({"model_type": "qwen2"}),
        json!({"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": true}),
        json!({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    ] {
        let folder = model(&changes);
        let original = Source::open(&folder.0).unwrap();
        for kind in ["f32", "bf16"] {
            let copy = to_gguf(&folder, kind);
            assert_eq!(copy.config(), original.config(), "{changes}");
            assert_eq!(copy.names(), original.names());
            for ((name, _, wanted), (_, stored, seen)) in rows(&original).into_iter().zip(rows(&copy)) {
                assert!(wanted == seen, "{kind} {name}");
                let vector = wanted.len() == 1;
                assert_eq!(stored.name().to_lowercase(), if vector { "f32" } else { kind }, "{name}");
            }
        }
    }
}

#[test]
fn llama_3_frequencies_survive_as_divisors() {
    let scaling = json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64});
    let folder = model(&json!({"rope_theta": 500_000.0, "rope_scaling": scaling}));
    let plain: Vec<f32> = (0..8).map(|pair| 500_000f64.powf(-f64::from(2 * pair) / 16.0) as f32).collect();
    let scaled = |source: &Source| {
        let mut frequencies = plain.clone();
        source.config().rope_scaling.as_ref().unwrap().apply(&mut frequencies);
        frequencies
    };
    let (wanted, copy) = (scaled(&Source::open(&folder.0).unwrap()), to_gguf(&folder, "f32"));
    assert!(matches!(copy.config().rope_scaling, Some(RopeScaling::Factors(_))));
    for (wanted, seen) in wanted.iter().zip(scaled(&copy)) {
        assert!((wanted - seen).abs() <= wanted * 2e-7, "{wanted} {seen}");
    }
    assert!(wanted[0] == plain[0] && wanted[7] < plain[7] / 31.0);
    assert!(!copy.names().iter().any(|name| name.contains("rope")));
}

#[test]
fn every_type_stores_what_its_codec_makes_of_the_rows() {
    let folder = model(&json!({"hidden_size": 256, "intermediate_size": 96, "head_dim": 24, "num_hidden_layers": 1}));
    let original = Source::open(&folder.0).unwrap();
    for kind in ["f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"] {
        let wanted_kind = kind_from_name(kind).unwrap();
        let copy = to_gguf(&folder, kind);
        for ((name, _, wanted), (_, stored, seen)) in rows(&original).into_iter().zip(rows(&copy)) {
            let columns = wanted[0].len();
            let expected = match &*name {
                _ if wanted.len() == 1 => TensorType::F32,
                "lm_head.weight" if !["f16", "q8_0"].contains(&kind) => TensorType::Q6K,
                _ => stored_type(wanted_kind, columns),
            };
            assert_eq!(stored, expected, "{kind} {name}");
            for (wanted, seen) in wanted.iter().zip(seen) {
                let (mut bytes, mut values) = (Vec::new(), vec![0.0; columns]);
                encode_row(stored, wanted, &mut bytes);
                decode_row(stored, &bytes, &mut values);
                assert_eq!(bits(&values), bits(&seen), "{kind} {name}");
            }
        }
    }
}

#[test]
fn rows_that_do_not_fit_a_block_fall_back_as_in_llama_quantize() {
    for (kind, columns, wanted) in [
        (TensorType::Q4K, 512, TensorType::Q4K),
        (TensorType::Q4K, 576, TensorType::Q5_0),
        (TensorType::Q5K, 576, TensorType::Q5_1),
        (TensorType::Q6K, 576, TensorType::Q8_0),
        (TensorType::Q6K, 72, TensorType::F16),
        (TensorType::Q4_0, 72, TensorType::F16),
        (TensorType::Bf16, 7, TensorType::Bf16),
    ] {
        assert_eq!(stored_type(kind, columns), wanted);
    }
}

#[test]
fn equal_input_gives_equal_bytes_whatever_the_threads() {
    let folder = model(&json!({"vocab_size": 54, "hidden_size": 256}));
    let source = Source::open(&folder.0).unwrap();
    let bytes = |threads: usize| {
        let mut options = QuantizeOptions::new(TensorType::Q4K);
        options.threads = threads;
        quantize(&source, &folder.path("x.gguf"), &options).unwrap();
        std::fs::read(folder.path("x.gguf")).unwrap()
    };
    let one = bytes(1);
    assert!(one == bytes(4) && one == bytes(1));
    assert!(std::fs::read_dir(&folder.0).unwrap().all(|entry| !entry
        .unwrap()
        .file_name()
        .to_string_lossy()
        .contains("part")));
}

#[test]
fn released_files_are_read_again() {
    let folder = model(&json!({}));
    for source in [Source::open(&folder.0).unwrap(), to_gguf(&folder, "q8_0")] {
        let before = rows(&source);
        source.release();
        assert!(before == rows(&source));
    }
}

#[test]
fn a_gguf_file_is_requantized_with_its_own_metadata() {
    let folder = model(&json!({}));
    let source = to_gguf(&folder, "f32");
    let mut options = QuantizeOptions::new(TensorType::Q8_0);
    options.metadata = vec![("general.name".to_string(), "other".into()), ("x.y".to_string(), Meta::U32(7))];
    quantize(&source, &folder.path("again.gguf"), &options).unwrap();
    let (direct, again) = (to_gguf(&folder, "q8_0"), Source::open(&folder.path("again.gguf")).unwrap());
    assert!(rows(&direct) == rows(&again));
    let (direct, again) = (direct.gguf().unwrap(), again.gguf().unwrap());
    for key in direct.keys().filter(|key| *key != "general.name") {
        assert_eq!(direct.get(key), again.get(key), "{key}");
    }
    assert_eq!(again.text("general.name").unwrap(), Some("other"));
    assert_eq!(again.unsigned("x.y").unwrap(), Some(7));
}

#[test]
fn the_tokenizer_goes_along() {
    let folder = model(&json!({"vocab_size": 54}));
    let source = to_gguf(&folder, "q4_0");
    let gguf = source.gguf().unwrap();
    assert_eq!(gguf.text("tokenizer.ggml.model").unwrap(), Some("gpt2"));
    let tokens = gguf.list("tokenizer.ggml.tokens").unwrap().unwrap();
    assert!(tokens.is_text() && tokens.len() == 54);
    assert_eq!(gguf.unsigned("tokenizer.ggml.eos_token_id").unwrap(), Some(53));
    let whole = std::fs::read_to_string(folder.path("tokenizer.json")).unwrap();
    assert_eq!(gguf.text("tokenizer.huggingface.json").unwrap(), Some(&*whole));
    std::fs::remove_file(folder.path("tokenizer.json")).unwrap();
    let mut options = QuantizeOptions::new(TensorType::F32);
    let source = Source::open(&folder.0).unwrap();
    let target = folder.path("x.gguf");
    assert_eq!(quantize(&source, &target, &options).unwrap_err().code, "CUPEL_NATIVE_TOKENIZER_MISSING");
    assert!(!target.exists());
    options.no_tokenizer = true;
    quantize(&source, &target, &options).unwrap();
    assert_eq!(Gguf::open(&target).unwrap().text("tokenizer.ggml.model").unwrap(), Some("no_vocab"));
}

#[test]
fn a_folder_with_one_gguf_file_is_that_file() {
    let folder = model(&json!({}));
    let weights = Folder::new();
    to_gguf(&folder, "q8_0");
    std::fs::copy(folder.path("q8_0.gguf"), weights.path("a.gguf")).unwrap();
    assert_eq!(Source::open(&weights.0).unwrap().config(), Source::open(&folder.0).unwrap().config());
    std::fs::copy(folder.path("q8_0.gguf"), weights.path("b.gguf")).unwrap();
    assert_eq!(Source::open(&weights.0).err().unwrap().code, "CUPEL_NATIVE_GGUF_INVALID");
    assert!(Source::open(&folder.0).unwrap().gguf().is_none(), "safetensors go before GGUF files");
}

#[test]
fn int8_rows_keep_the_weights_to_half_a_step() {
    for changes in [json!({}), json!({"model_type": "qwen2", "tie_word_embeddings": true})] {
        let (folder, target) = (model(&changes), Folder::new());
        std::fs::write(folder.path("card.json"), "{}").unwrap();
        std::fs::write(folder.path("LICENSE"), "free").unwrap();
        let original = Source::open(&folder.0).unwrap();
        let report = quantize_w8a8(&original, &target.0).unwrap();
        assert_eq!(report.tensors.len(), original.names().len());
        let copy = Source::open(&target.0).unwrap();
        assert_eq!((copy.config(), copy.names()), (original.config(), original.names()));
        for ((name, _, wanted), (_, kind, seen)) in rows(&original).into_iter().zip(rows(&copy)) {
            let projection = name.ends_with("_proj.weight");
            assert_eq!(kind, if projection { TensorType::ChannelInt8 } else { TensorType::Bf16 }, "{name}");
            for (row, (wanted, seen)) in wanted.iter().zip(&seen).enumerate() {
                let most = wanted.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                let step = if projection { most / 127.0 * 0.501 } else { 0.0 };
                assert!(wanted.iter().zip(seen).all(|(left, right)| (left - right).abs() <= step), "{name} {row}");
                if projection {
                    let view = copy.tensor(&name, rows_of(&copy, &name), wanted.len());
                    assert_eq!(view.unwrap().scale(row), most / 127.0);
                }
            }
        }
        let exists = |name: &str| target.path(name).exists();
        assert!(exists("tokenizer.json") && exists("LICENSE") && !exists("card.json"));
        let again = quantize_w8a8(&original, &target.0).unwrap_err();
        assert_eq!((again.code, &*again.message), ("CUPEL_NATIVE_IO", "folder is not empty"));
    }
}

fn rows_of(source: &Source, name: &str) -> usize {
    source.config().tensors().into_iter().find(|(candidate, ..)| candidate == name).map_or(0, |(_, rows, _)| rows)
}

#[cfg(unix)]
#[test]
fn links_and_pipes_are_neither_copied_nor_waited_for() {
    let folder = model(&json!({}));
    std::os::unix::fs::symlink("/etc/hostname", folder.path("notes.txt")).unwrap();
    let error = quantize_w8a8(&Source::open(&folder.0).unwrap(), &Folder::new().0).unwrap_err();
    assert!(error.code == "CUPEL_NATIVE_IO" && error.place.unwrap().ends_with("notes.txt"));
    std::fs::remove_file(folder.path("model.safetensors")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(folder.path("model.safetensors")).status().unwrap();
    assert!(made.success());
    assert_eq!(Source::open(&folder.0).err().unwrap().code, "CUPEL_NATIVE_IO");
}

#[test]
fn numbers_that_a_type_can_not_hold_are_named() {
    let folder = model(&json!({}));
    let read = |name: &str| std::fs::read(folder.path(name)).unwrap();
    let mut bytes = read("model.safetensors");
    let end = bytes.len();
    // The last tensor is the head, 40 rows of 64 in bf16: its last but one number becomes 1e30, then NaN.
    for (half, code) in [(0x714au16, "is 1000"), (0x7fc0, "is NaN")] {
        bytes[end - 4..end - 2].copy_from_slice(&half.to_le_bytes());
        std::fs::write(folder.path("model.safetensors"), &bytes).unwrap();
        let source = Source::open(&folder.0).unwrap();
        let error = quantize(&source, &folder.path("x.gguf"), &QuantizeOptions::new(TensorType::Q8_0)).unwrap_err();
        assert_eq!(error.code, "CUPEL_NATIVE_TENSOR_NONFINITE");
        assert!(error.message.contains("element 2558") && error.message.contains(code), "{error}");
        assert!(error.place.unwrap().ends_with("model.safetensors: lm_head.weight"));
        assert!(!folder.path("x.gguf").exists());
    }
    let source = Source::open(&folder.0).unwrap();
    let error = source.tensor("lm_head.weight", 40, 64).unwrap().check_finite().unwrap_err();
    assert_eq!((error.code, &*error.message), ("CUPEL_NATIVE_TENSOR_NONFINITE", "element 2558 is NaN"));
}

#[test]
fn the_reference_models_become_gguf_files_and_back() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../fixtures/reference/models");
    for name in ["llama-tied-gqa9", "llama-untied", "qwen2-tied"] {
        let (source, folder) = (Source::open(&models.join(name)).unwrap(), Folder::new());
        let mut options = QuantizeOptions::new(TensorType::F32);
        options.no_tokenizer = true;
        quantize(&source, &folder.path("x.gguf"), &options).unwrap();
        let copy = Source::open(&folder.0).unwrap();
        assert_eq!(copy.config(), source.config());
        assert!(rows(&copy) == rows(&source), "{name}");
    }
}

#[test]
fn a_window_tells_mistral_from_llama_in_a_gguf_file() {
    let folder = model(&json!({"model_type": "mistral", "sliding_window": null}));
    let config: &Config = &to_gguf(&folder, "f32").config().clone();
    assert_eq!((config.architecture, config.sliding_window), (Architecture::Llama, None));
}

/// The file was made of this very model by llama.cpp's own quantizer (see the README beside it).
#[test]
fn a_file_that_llama_cpp_wrote_gives_the_weights_that_it_was_made_of() {
    let folder = model(&llama_cpp_model());
    let original = Source::open(&folder.0).unwrap();
    if let Ok(target) = std::env::var("CUPEL_WRITE_SOURCE_OF_LLAMA_CPP_FILE") {
        let mut options = QuantizeOptions::new(TensorType::F32);
        options.name = Some("made up".to_string());
        quantize(&original, Path::new(&target), &options).unwrap();
    }
    let file = "../../../../fixtures/reference/gguf/llama-cpp-q4_k_m.gguf";
    let written = Source::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    assert_eq!(written.config(), original.config());
    assert_eq!(written.names(), original.names());
    let mut kinds: Vec<&str> = Vec::new();
    for ((name, _, wanted), (_, kind, seen)) in rows(&original).into_iter().zip(rows(&written)) {
        let (mut lost, mut whole) = (0.0f64, 0.0f64);
        for (wanted, seen) in wanted.iter().flatten().zip(seen.iter().flatten()) {
            lost += f64::from(wanted - seen).powi(2);
            whole += f64::from(*wanted).powi(2);
        }
        let error = (lost / whole).sqrt();
        assert!(error < if kind == TensorType::F32 { 1e-9 } else { 0.08 }, "{name} {kind:?} {error}");
        kinds.push(kind.name());
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, ["F32", "Q4_K", "Q5_0", "Q6_K", "Q8_0"]);
}

fn llama_cpp_model() -> Value {
    json!({"hidden_size": 256, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 32, "vocab_size": 16})
}
