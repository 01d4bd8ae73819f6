//! PEFT folders that PEFT wrote, and what is made of broken ones.

use std::path::{Path, PathBuf};

use cupel_files::peft::{Adapter, ADAPTER_INVALID};
use cupel_files::safetensors::{write, Tensor};
use cupel_files::{Config, Dtype};
use proptest::prelude::*;
use serde_json::{json, Value};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../fixtures/reference/engine/adapters")
}

/// The shape of the model that the fixtures were made for.
fn model() -> Config {
    Config::parse(
        r#"{"model_type":"llama","hidden_size":32,"intermediate_size":64,"num_hidden_layers":2,"vocab_size":96,
        "num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"max_position_embeddings":256,
        "tie_word_embeddings":true}"#,
    )
    .unwrap()
}

fn open(name: &str) -> cupel_files::Result<Adapter> {
    Adapter::open(&fixtures().join(name), name, &model())
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cupel-adapters-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn config(&self, change: Value) {
        let mut config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["k_proj"]
        });
        for (name, value) in change.as_object().unwrap() {
            config[name] = value.clone();
        }
        std::fs::write(self.0.join("adapter_config.json"), config.to_string()).unwrap();
    }

    /// Factors of `k_proj` in both layers, of rank 2.
    fn tensors(&self, change: impl Fn(&str, &mut String, &mut Vec<usize>, &mut Vec<f32>)) {
        let mut tensors = Vec::new();
        for layer in 0..2 {
            for (part, shape) in [("A", vec![2, 32]), ("B", vec![32, 2])] {
                let key = format!("{layer}{part}");
                let mut name = format!("base_model.model.model.layers.{layer}.self_attn.k_proj.lora_{part}.weight");
                let mut shape = shape;
                let mut values: Vec<f32> = (0..64).map(|number| number as f32 / 64.0).collect();
                change(&key, &mut name, &mut shape, &mut values);
                tensors.push((name, shape, values));
            }
        }
        let tensors: Vec<Tensor<'_>> =
            tensors.iter().map(|(name, shape, values)| Tensor { name, shape, values }).collect();
        write(&self.0.join("adapter_model.safetensors"), &tensors, Dtype::F32, &[]).unwrap();
    }

    fn open(&self) -> cupel_files::Result<Adapter> {
        Adapter::open(&self.0, "here", &model())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_scale_is_alpha_over_rank_or_over_its_root() {
    let plain = open("alpha").unwrap();
    assert_eq!((plain.name.as_str(), plain.modules.len()), ("alpha", 14));
    assert!(plain.modules.values().all(|pair| pair.rank == 3 && pair.scale == (1.7f64 / 3.0) as f32));
    let pair = &plain.modules["model.layers.1.mlp.down_proj"];
    assert_eq!((pair.a.len(), pair.b.len()), (3 * 64, 32 * 3));
    assert_eq!(plain.bytes(), plain.modules.values().map(|pair| 4 * (pair.a.len() + pair.b.len())).sum::<usize>());
    assert!(open("rank-stabilized").unwrap().modules.values().all(|pair| pair.rank == 4 && pair.scale == 3.0));
}

#[test]
fn patterns_set_rank_and_alpha_of_single_modules() {
    let adapter = open("patterns").unwrap();
    let seen = |name: &str| {
        let pair = &adapter.modules[&format!("model.layers.{name}")];
        (pair.rank, pair.scale)
    };
    assert_eq!(seen("0.self_attn.q_proj"), (5, 2.0));
    assert_eq!(seen("1.self_attn.q_proj"), (2, 5.0));
    assert_eq!(seen("0.mlp.down_proj"), (3, (4.0f64 / 3.0) as f32));
    assert_eq!(seen("0.self_attn.v_proj"), (2, 2.0));
    assert_eq!(seen("1.self_attn.v_proj"), (1, 4.0));
    assert_eq!(seen("1.mlp.up_proj"), (2, 0.5));
}

#[test]
fn some_modules_and_a_regular_expression_of_targets_are_read() {
    let names: Vec<String> = open("some-modules").unwrap().modules.into_keys().collect();
    assert_eq!(names, ["model.layers.1.mlp.down_proj", "model.layers.1.self_attn.q_proj"]);
    assert_eq!(open("regular-expression").unwrap().modules.len(), 4);
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    for (name, place) in [
        ("refused-dora", "adapter_config.json: use_dora"),
        ("refused-lora-bias", "adapter_config.json: lora_bias"),
        ("refused-modules-to-save", "adapter_config.json: modules_to_save"),
        ("refused-bias", "adapter_config.json: bias"),
        ("refused-head", "lm_head"),
    ] {
        let error = open(name).expect_err(name);
        assert_eq!(error.code, ADAPTER_INVALID, "{error}");
        assert!(error.place.as_deref().is_some_and(|text| text.contains(place)), "{error}");
    }
}

#[test]
fn broken_configs_are_refused_with_their_field() {
    let folder = Folder::new("configs");
    folder.tensors(|_, _, _, _| {});
    folder.config(json!({}));
    assert_eq!(folder.open().unwrap().modules.len(), 2);
    for (field, value) in [
        ("peft_type", json!("IA3")),
        ("peft_type", Value::Null),
        ("task_type", json!("SEQ_CLS")),
        ("r", json!(0)),
        ("r", json!(-2)),
        ("r", json!(1e300)),
        ("r", json!(u64::MAX)),
        ("r", json!("2")),
        ("lora_alpha", json!(0)),
        ("lora_alpha", json!("x")),
        ("lora_alpha", json!(1e300)),
        ("use_rslora", json!("yes")),
        ("fan_in_fan_out", json!(true)),
        ("init_lora_weights", json!("pissa")),
        ("layer_replication", json!([[0, 2]])),
        ("trainable_token_indices", json!([1])),
        ("rank_pattern", json!([2])),
        ("target_modules", json!(7)),
        ("target_modules", json!([1])),
        ("layers_to_transform", json!(-1)),
    ] {
        folder.config(json!({ field: value }));
        let error = folder.open().expect_err(&format!("{field} {value}"));
        assert_eq!(error.code, ADAPTER_INVALID);
        assert!(error.place.as_deref().is_some_and(|place| place.ends_with(&format!(".json: {field}"))), "{error}");
    }
    folder.config(json!({ "alpha_pattern": { "layers.\\d+.k_proj": 2 } }));
    assert!(folder.open().unwrap_err().place.unwrap().ends_with("alpha_pattern.layers.\\d+.k_proj"));
    for targets in [json!(["v_proj"]), json!(["k_proj", "q_proj"]), json!("all-linear")] {
        folder.config(json!({ "target_modules": targets }));
        assert_eq!(folder.open().expect_err("targets").code, ADAPTER_INVALID);
    }
    for text in ["", "[]", "{", "\"x\"", "{\"r\": 2}"] {
        std::fs::write(folder.0.join("adapter_config.json"), text).unwrap();
        assert_eq!(folder.open().expect_err(text).code, ADAPTER_INVALID);
    }
}

#[test]
fn broken_tensors_are_refused_with_their_name_and_value() {
    type Change = fn(&str, &mut String, &mut Vec<usize>, &mut Vec<f32>);
    let cases: [(&str, Change, &str); 8] = [
        (
            "rank",
            |key, _, shape, _| {
                if key == "0A" {
                    *shape = vec![1, 64]
                }
            },
            "shape is [1, 64]",
        ),
        (
            "turned",
            |key, _, shape, _| {
                if key == "1B" {
                    *shape = vec![2, 32]
                }
            },
            "shape is [2, 32]",
        ),
        (
            "flat",
            |key, _, shape, _| {
                if key == "1B" {
                    *shape = vec![64]
                }
            },
            "shape is [64]",
        ),
        (
            "number",
            |key, _, _, values| {
                if key == "1A" {
                    values[7] = f32::NAN
                }
            },
            "element 7 is NaN",
        ),
        ("layer", |_, name, _, _| *name = name.replace("layers.1.", "layers.2."), "layers.2.self_attn.k_proj"),
        ("zero", |_, name, _, _| *name = name.replace("layers.1.", "layers.01."), "layers.01.self_attn.k_proj"),
        (
            "alone",
            |key, name, _, _| {
                if key == "1B" {
                    name.push('x')
                }
            },
            "not a LoRA factor",
        ),
        (
            "half",
            |key, name, _, _| {
                if key == "1B" {
                    *name = name.replace("k_proj", "q.k_proj")
                }
            },
            "no lora_",
        ),
    ];
    for (label, change, text) in cases {
        let folder = Folder::new(label);
        folder.config(json!({ "target_modules": ".*k_proj" }));
        folder.tensors(change);
        let error = folder.open().expect_err(label);
        assert_eq!(error.code, ADAPTER_INVALID, "{label}: {error}");
        assert!(error.message.contains(text), "{label}: {error}");
        assert!(error.place.unwrap_or_default().contains("adapter_model.safetensors: base_model."), "{label}");
    }
    let folder = Folder::new("directory");
    std::fs::create_dir(folder.0.join("adapter_config.json")).unwrap();
    assert!(folder.open().unwrap_err().message.contains("not a regular file"));
    let folder = Folder::new("pickle");
    folder.config(json!({}));
    std::fs::write(folder.0.join("adapter_model.bin"), "x").unwrap();
    assert!(folder.open().unwrap_err().message.contains("adapter_model.safetensors is missing"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Changed bytes in either file give an adapter that fits or a coded error, never a panic.
    #[test]
    fn changed_bytes_never_panic(config in any::<bool>(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in prop::option::of(any::<prop::sample::Index>())) {
        let folder = Folder::new("fuzz");
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            let mut bytes = std::fs::read(fixtures().join("patterns").join(file)).unwrap();
            if config == file.ends_with("json") {
                for (index, byte) in &edits {
                    let index = index.index(bytes.len());
                    bytes[index] = *byte;
                }
                if let Some(cut) = cut {
                    bytes.truncate(cut.index(bytes.len()));
                }
            }
            std::fs::write(folder.0.join(file), bytes).unwrap();
        }
        if let Ok(adapter) = folder.open() {
            for pair in adapter.modules.values() {
                prop_assert!(pair.scale.is_finite() && pair.a.iter().chain(&pair.b).all(|value| value.is_finite()));
            }
        }
    }
}
