//! LoRA and QLoRA held against PEFT, with the tolerances of fixtures/reference/adapters/README.md.

mod support;

use cupel_core::{AdapterOptions, Compute, Dtype, Learner, LearnerOptions, PassOptions, TensorType};
use cupel_files::quant::{decode_row, encode_row};
use serde_json::Value;
use support::{batch, bytes, from_folder, json, learn, open, reference, step, tensor, trained, worst, Folder, Packed};

const MODELS: [&str; 3] = ["llama-untied", "qwen2-tied", "llama-tied-gqa9"];
const PREFIX: &str = "base_model.model.";

fn lora(model: &str, threads: usize) -> LearnerOptions {
    LearnerOptions { threads, adapter: Some(from_folder(model)), ..LearnerOptions::default() }
}

/// Worst difference of all log-probabilities at labelled places from those of padded logits `[rows, width, vocabulary]`.
fn logit_error(learner: &mut Learner, packed: &Packed, logits: &[f32]) -> f64 {
    let options = PassOptions { keep: false, ..PassOptions::default() };
    let seen = learner.distributions(packed.view(), None, options).unwrap();
    let vocabulary = learner.config().vocabulary_size;
    let places = packed.places.iter().zip(&packed.labelled).filter(|(_, label)| **label == 1);
    let mut most = 0.0f64;
    for (((row, position), _), seen) in places.zip(seen.chunks_exact(vocabulary)) {
        let logits = &logits[(row * packed.width + position - 1) * vocabulary..][..vocabulary];
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
        let normaliser = f64::from(largest) + sum.ln();
        for (seen, logit) in seen.iter().zip(logits) {
            most = most.max((f64::from(*seen) - (f64::from(*logit) - normaliser)).abs());
        }
    }
    most
}

/// Gradients of the first batch, then three steps, against `grad.*` and `after3.*` of a file.
fn follow(learner: &mut Learner, model: &str, expected: &std::path::Path, steps: &Value) {
    for (number, log) in steps.as_array().unwrap().iter().enumerate() {
        let loss = learn(learner, &batch(model, number, false));
        assert!((loss - log["loss"].as_f64().unwrap()).abs() <= 1e-5, "{model}: loss {loss} in step {number}");
        if number == 0 {
            for name in learner.tensor_names() {
                let error = worst(&learner.gradient(&name).unwrap(), &tensor(expected, &format!("grad.{name}")));
                assert!(error <= 5e-6, "{model}: gradient of {name} is off by {error}");
            }
        }
        let norm = learner.step(step(log["lr"].as_f64().unwrap())).unwrap();
        assert!((f64::from(norm) / log["grad_norm"].as_f64().unwrap() - 1.0).abs() < 2e-5, "{model}: norm {norm}");
    }
    for name in learner.tensor_names() {
        let error = worst(&learner.tensor(&name).unwrap(), &tensor(expected, &format!("after3.{name}")));
        assert!(error <= 1e-5, "{model}: {name} is off by {error} after three steps");
    }
}

#[test]
fn lora_gives_the_logits_gradients_and_steps_of_peft() {
    for model in MODELS {
        let expected = reference("adapters", model).join("lora_expected.safetensors");
        let log = &json(reference("models", model).join("expected.json"))["expected"]["lora"]["steps"];
        let mut learner = open(model, &lora(model, 2));
        assert_eq!(
            learner.trainable_count(),
            learner
                .tensor_names()
                .iter()
                .map(|name| { learner.tensor_shape(name).unwrap().iter().product::<usize>() })
                .sum::<usize>()
        );
        let error = logit_error(&mut learner, &batch(model, 0, true), &tensor(&expected, "logits_init"));
        assert!(error <= 1e-5, "{model}: logits are off by {error}");
        follow(&mut learner, model, &expected, log);
    }
}

#[test]
fn merged_weights_are_those_of_peft_and_give_the_logits_of_the_adapter() {
    let folder = Folder::new("merged");
    for model in MODELS {
        let expected = reference("adapters", model).join("lora_expected.safetensors");
        let log = &json(reference("models", model).join("expected.json"))["expected"]["lora"]["steps"];
        let mut learner = open(model, &lora(model, 1));
        follow(&mut learner, model, &expected, log);
        learner.save(&folder.0, Dtype::F32).unwrap();
        for name in ["model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"] {
            let seen = tensor(&folder.0.join("model.safetensors"), name);
            let error = worst(&seen, &tensor(&expected, &format!("merged_after3.{name}")));
            assert!(error <= 1e-5, "{model}: merged {name} is off by {error}");
        }
        let packed = batch(model, 0, true);
        let mut merged = Learner::open(&folder.0, 1).unwrap();
        let error = logit_error(&mut merged, &packed, &tensor(&expected, "logits_merged_after3"));
        assert!(error <= 1e-5, "{model}: merged logits are off by {error}");
        let options = PassOptions { keep: false, ..PassOptions::default() };
        let beside = learner.distributions(packed.view(), None, options).unwrap();
        let within = merged.distributions(packed.view(), None, options).unwrap();
        assert!(worst(&beside, &within) <= 1e-5, "{model}: {}", worst(&beside, &within));
    }
}

#[test]
fn qlora_holds_the_blocks_of_gguf_and_trains_like_peft_on_the_dequantized_base() {
    for model in ["llama-untied", "qwen2-tied"] {
        for (kind, name) in [(TensorType::Q8_0, "q8_0"), (TensorType::Q4_0, "q4_0")] {
            let folder = reference("adapters", model);
            let expected = folder.join(format!("qlora_{name}.safetensors"));
            let log = json(folder.join(format!("qlora_{name}.json")));
            let mut learner = open(model, &LearnerOptions { base: kind, ..lora(model, 2) });
            for weight in log["quantized"].as_array().unwrap() {
                let weight = weight.as_str().unwrap();
                let columns = learner.tensor_shape(weight).unwrap()[1];
                let given = bytes(&expected, &format!("q.{weight}"));
                let source = tensor(&reference("models", model).join("model.safetensors"), weight);
                let mut own = Vec::new();
                source.chunks_exact(columns).for_each(|row| encode_row(kind, row, &mut own));
                assert!(own == given, "{model} {name}: blocks of {weight}");
                let mut decoded = vec![0.0; source.len()];
                let row_bytes = kind.row_bytes(columns).unwrap();
                for (row, out) in given.chunks_exact(row_bytes).zip(decoded.chunks_exact_mut(columns)) {
                    decode_row(kind, row, out);
                }
                assert_eq!(learner.tensor(weight).unwrap(), decoded, "{model} {name}: {weight}");
            }
            let error = logit_error(&mut learner, &batch(model, 0, true), &tensor(&expected, "logits"));
            assert!(error <= 2e-5, "{model} {name}: logits are off by {error}");
            follow(&mut learner, model, &expected, &log["steps"]);
        }
    }
}

#[test]
fn a_quantized_base_has_the_bits_of_a_dense_one_with_the_same_values() {
    let folder = Folder::new("dequantized");
    for base in [TensorType::Q8_0, TensorType::Q4_0, TensorType::Bf16] {
        let held = LearnerOptions { base, ..lora("llama-untied", 1) };
        let mut quantized = open("llama-untied", &held);
        // Fresh adapters change nothing: the merged folder is the dequantized base.
        let fresh = AdapterOptions { from: None, ..from_folder("llama-untied") };
        open("llama-untied", &LearnerOptions { adapter: Some(fresh), ..held }).save(&folder.0, Dtype::F32).unwrap();
        let mut dense = Learner::open_with(&folder.0, &lora("llama-untied", 1)).unwrap();
        for learner in [&mut quantized, &mut dense] {
            learn(learner, &batch("llama-untied", 0, false));
            learner.step(step(1e-2)).unwrap();
        }
        assert_eq!(trained(&quantized), trained(&dense), "{}", base.name());
    }
}

#[test]
fn adapters_are_merged_into_the_base_as_it_was_trained_on() {
    let folder = Folder::new("merged-quantized");
    let keep = PassOptions { keep: false, ..PassOptions::default() };
    for base in [TensorType::Q8_0, TensorType::Q4_0, TensorType::Bf16] {
        let mut learner = open("qwen2-tied", &LearnerOptions { base, ..lora("qwen2-tied", 1) });
        for number in 0..2 {
            learn(&mut learner, &batch("qwen2-tied", number, false));
            learner.step(step(1e-2)).unwrap();
        }
        let packed = batch("qwen2-tied", 2, true);
        let beside = learner.distributions(packed.view(), None, keep).unwrap();
        learner.save(&folder.0, Dtype::F32).unwrap();
        let within = Learner::open(&folder.0, 1).unwrap().distributions(packed.view(), None, keep).unwrap();
        assert!(worst(&beside, &within) <= 1e-5, "{}: {}", base.name(), worst(&beside, &within));
        // Rounded to bf16 it is near, and not the same.
        learner.save(&folder.0, Dtype::Bf16).unwrap();
        let rounded = Learner::open(&folder.0, 1).unwrap().distributions(packed.view(), None, keep).unwrap();
        let off = worst(&beside, &rounded);
        assert!(off > 0.0 && off < 0.3, "{}: {off}", base.name());
    }
}

#[test]
fn low_rank_training_has_the_same_bits_for_any_threads_and_goes_on_from_a_state() {
    let folder = Folder::new("low-rank-state");
    for base in [TensorType::F32, TensorType::Bf16, TensorType::Q8_0, TensorType::Q4_0] {
        let options = |threads| LearnerOptions { base, ..lora("llama-untied", threads) };
        let mut ends = Vec::new();
        for threads in 1..=3 {
            let mut learner = open("llama-untied", &options(threads));
            for number in 0..3 {
                learn(&mut learner, &batch("llama-untied", number, false));
                learner.step(step(1e-2)).unwrap();
            }
            ends.push(trained(&learner));
        }
        assert!(ends.iter().all(|end| *end == ends[0]), "{}", base.name());
        let state = folder.0.join("state");
        let mut first = open("llama-untied", &options(1));
        learn(&mut first, &batch("llama-untied", 0, false));
        first.step(step(1e-2)).unwrap();
        first.save_state(&state).unwrap();
        drop(first);
        let mut second = open("llama-untied", &options(2));
        second.load_state(&state).unwrap();
        for number in 1..3 {
            learn(&mut second, &batch("llama-untied", number, false));
            second.step(step(1e-2)).unwrap();
        }
        assert_eq!(trained(&second), ends[0], "{}", base.name());
    }
}

#[test]
fn computing_layers_again_changes_no_bit() {
    for (adapter, compute) in [
        (None, Compute::F32),
        (Some(from_folder("qwen2-tied")), Compute::F32),
        (Some(from_folder("qwen2-tied")), Compute::Bf16),
    ] {
        let ends: Vec<_> = [(1, false), (2, true), (3, true)]
            .into_iter()
            .map(|(threads, recompute)| {
                let options = LearnerOptions {
                    threads,
                    recompute,
                    compute,
                    adapter: adapter.clone(),
                    ..LearnerOptions::default()
                };
                let mut learner = open("qwen2-tied", &options);
                for number in 0..2 {
                    learn(&mut learner, &batch("qwen2-tied", number, false));
                    learner.step(step(1e-2)).unwrap();
                }
                trained(&learner)
            })
            .collect();
        assert!(ends.iter().all(|end| *end == ends[0]), "{compute:?} {adapter:?}");
    }
}

#[test]
fn bf16_products_give_nearly_the_gradients_of_f32_and_are_another_computation() {
    for model in ["llama-untied", "qwen2-tied"] {
        let [mut exact, mut coarse] =
            [Compute::F32, Compute::Bf16].map(|compute| open(model, &LearnerOptions { compute, ..lora(model, 2) }));
        let packed = batch(model, 0, false);
        let (wanted, seen) = (learn(&mut exact, &packed), learn(&mut coarse, &packed));
        assert!((wanted - seen).abs() < 2e-2 && wanted != seen, "{model}: {seen} for {wanted}");
        for name in exact.tensor_names() {
            let (wanted, seen) = (exact.gradient(&name).unwrap(), coarse.gradient(&name).unwrap());
            let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
            let off = norm(&mut wanted.iter().zip(&seen).map(|(wanted, seen)| wanted - seen));
            assert!(off <= 0.05 * norm(&mut wanted.iter().copied()), "{model} {name}: off by {off}");
        }
        let folder = Folder::new("bf16-state");
        let state = folder.0.join("state");
        exact.save_state(&state).unwrap();
        assert_eq!(coarse.load_state(&state).unwrap_err().code, "CUPEL_NATIVE_STATE_INVALID");
    }
}

#[test]
fn a_packed_batch_gives_the_gradients_of_its_sequences_apart() {
    for base in [TensorType::F32, TensorType::Q4_0] {
        let options = LearnerOptions { base, ..lora("llama-untied", 1) };
        let packed = batch("llama-untied", 0, false);
        let (mut together, mut apart) = (open("llama-untied", &options), open("llama-untied", &options));
        learn(&mut together, &packed);
        for single in packed.apart() {
            let scores = apart.log_probabilities(single.view(), PassOptions::default()).unwrap();
            apart.backward(&vec![-1.0 / packed.count() as f32; scores.len()]).unwrap();
        }
        for name in together.tensor_names() {
            let error = worst(&together.gradient(&name).unwrap(), &apart.gradient(&name).unwrap());
            assert!(error <= 1e-5, "{name}: {error}");
        }
    }
}

#[test]
fn a_pass_without_the_adapter_is_the_base() {
    let packed = batch("qwen2-tied", 0, false);
    let mut adapted = open("qwen2-tied", &lora("qwen2-tied", 1));
    let mut whole = open("qwen2-tied", &LearnerOptions::default());
    let base = PassOptions { adapter: false, keep: false, ..PassOptions::default() };
    let with = adapted.log_probabilities(packed.view(), PassOptions::default()).unwrap();
    let without = adapted.log_probabilities(packed.view(), base).unwrap();
    let reference = whole.log_probabilities(packed.view(), base).unwrap();
    assert_eq!(without, reference);
    assert!(worst(&with, &without) > 1e-3);
    // The pass that was kept before is still the one that goes back.
    adapted.backward(&vec![1.0; with.len()]).unwrap();
    assert!(adapted.gradient(&adapted.tensor_names()[0]).unwrap().iter().any(|value| *value != 0.0));
}

#[test]
fn fresh_adapters_change_nothing_and_follow_from_the_seed_alone() {
    let with = |seed| LearnerOptions {
        adapter: Some(AdapterOptions {
            rank: 8,
            alpha: 16.0,
            targets: vec!["q_proj".into(), "down_proj".into()],
            seed,
            from: None,
        }),
        ..LearnerOptions::default()
    };
    let packed = batch("llama-untied", 0, false);
    let mut learner = open("llama-untied", &with(7));
    assert_eq!(learner.tensor_names().len(), 8);
    let keep = PassOptions { keep: false, ..PassOptions::default() };
    let fresh = learner.log_probabilities(packed.view(), keep).unwrap();
    let base = learner.log_probabilities(packed.view(), PassOptions { adapter: false, ..keep }).unwrap();
    assert_eq!(fresh, base);
    assert_eq!(trained(&open("llama-untied", &with(7))), trained(&learner));
    let other = open("llama-untied", &with(8));
    assert_ne!(trained(&other), trained(&learner));
    for (part, input) in [("self_attn.q_proj", 64.0f32), ("mlp.down_proj", 128.0)] {
        let name = |factor: &str| format!("{PREFIX}model.layers.1.{part}.lora_{factor}.weight");
        assert!(learner.tensor(&name("B")).unwrap().iter().all(|value| *value == 0.0));
        let a = learner.tensor(&name("A")).unwrap();
        let bound = 1.0 / input.sqrt();
        assert!(a.iter().all(|value| value.abs() <= bound));
        // Mean and variance of a uniform distribution, to four standard errors.
        let count = a.len() as f32;
        let mean = a.iter().sum::<f32>() / count;
        let variance = a.iter().map(|value| value * value).sum::<f32>() / count;
        assert!(mean.abs() <= 4.0 * bound / (3.0 * count).sqrt(), "{mean}");
        assert!((variance / (bound * bound / 3.0) - 1.0).abs() <= 4.0 * (0.8 / count).sqrt(), "{variance}");
    }
}

#[test]
fn an_adapter_folder_is_read_again_with_the_same_values() {
    let folder = Folder::new("adapter");
    let mut learner = open("qwen2-tied", &lora("qwen2-tied", 1));
    learn(&mut learner, &batch("qwen2-tied", 0, false));
    learner.step(step(1e-2)).unwrap();
    learner.save_adapter(&folder.0, Dtype::F32).unwrap();
    let from = AdapterOptions { from: Some(folder.0.clone()), ..from_folder("qwen2-tied") };
    let again = open("qwen2-tied", &LearnerOptions { adapter: Some(from), ..LearnerOptions::default() });
    assert_eq!(trained(&again), trained(&learner));
    let config = json(folder.0.join("adapter_config.json"));
    for (field, value) in [("r", "4"), ("lora_alpha", "8"), ("peft_type", "\"LORA\""), ("task_type", "\"CAUSAL_LM\"")] {
        assert_eq!(config[field].to_string(), value);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_named() {
    let folder = Folder::new("low-rank-refused");
    let good = from_folder("llama-untied");
    let refused = |adapter: AdapterOptions, base: TensorType, model: &str| {
        let options = LearnerOptions { adapter: Some(adapter), base, ..LearnerOptions::default() };
        let error = Learner::open_with(&reference("models", model), &options).err().unwrap();
        (error.code, error.to_string())
    };
    let dense = TensorType::F32;
    for (adapter, base, model, code, part) in [
        (AdapterOptions { rank: 0, ..good.clone() }, dense, "llama-untied", "CONFIG_INVALID", "rank is 0"),
        (AdapterOptions { rank: 1 << 40, ..good.clone() }, dense, "llama-untied", "CONFIG_INVALID", "rank is"),
        (AdapterOptions { alpha: f64::NAN, ..good.clone() }, dense, "llama-untied", "CONFIG_INVALID", "alpha is NaN"),
        (
            AdapterOptions { targets: vec!["lm_head".into()], ..good.clone() },
            dense,
            "llama-untied",
            "CONFIG_INVALID",
            "lm_head",
        ),
        (
            AdapterOptions { rank: 8, ..good.clone() },
            dense,
            "llama-untied",
            "ADAPTER_INVALID",
            "rank 4, 8 was asked for",
        ),
        (AdapterOptions { alpha: 9.0, ..good.clone() }, dense, "llama-untied", "ADAPTER_INVALID", "scaled by 2"),
        (
            AdapterOptions { targets: vec!["q_proj".into()], ..good.clone() },
            dense,
            "llama-untied",
            "ADAPTER_INVALID",
            "adapts",
        ),
        (AdapterOptions { from: None, ..good.clone() }, TensorType::Q4_0, "llama-tied-gqa9", "CONFIG_INVALID", "72"),
        (AdapterOptions { from: None, ..good.clone() }, TensorType::Q6K, "llama-untied", "CONFIG_INVALID", "Q6_K"),
        (from_folder("llama-tied-gqa9"), dense, "llama-untied", "ADAPTER_INVALID", "shape"),
    ] {
        let (seen, message) = refused(adapter, base, model);
        assert_eq!(seen, format!("CUPEL_NATIVE_{code}"), "{message}");
        assert!(message.contains(part), "{message}");
    }
    let base = LearnerOptions { base: TensorType::Q8_0, ..LearnerOptions::default() };
    assert!(Learner::open_with(&reference("models", "llama-untied"), &base)
        .err()
        .unwrap()
        .to_string()
        .contains("adapter"));

    // States of other learners.
    let state = folder.0.join("state");
    open("llama-untied", &lora("llama-untied", 1)).save_state(&state).unwrap();
    for options in [
        LearnerOptions::default(),
        LearnerOptions { base: TensorType::Q8_0, ..lora("llama-untied", 1) },
        LearnerOptions {
            adapter: Some(AdapterOptions { rank: 2, from: None, ..good.clone() }),
            ..LearnerOptions::default()
        },
        LearnerOptions {
            adapter: Some(AdapterOptions { alpha: 4.0, from: None, ..good.clone() }),
            ..LearnerOptions::default()
        },
    ] {
        let mut other = open("llama-untied", &options);
        let before = trained(&other);
        assert_eq!(other.load_state(&state).unwrap_err().code, "CUPEL_NATIVE_STATE_INVALID");
        assert_eq!(trained(&other), before);
    }
    let mut other = open("qwen2-tied", &lora("qwen2-tied", 1));
    assert_eq!(other.load_state(&state).unwrap_err().code, "CUPEL_NATIVE_STATE_INVALID");

    // A gradient that is not finite.
    let mut learner = open("llama-untied", &lora("llama-untied", 1));
    let before = trained(&learner);
    let packed = batch("llama-untied", 0, false);
    let count = learner.log_probabilities(packed.view(), PassOptions::default()).unwrap().len();
    let mut gradients = vec![0.0; count];
    gradients[1] = f32::NAN;
    assert_eq!(learner.backward(&gradients).unwrap_err().code, "CUPEL_NATIVE_GRADIENT_NONFINITE");
    learner.log_probabilities(packed.view(), PassOptions::default()).unwrap();
    learner.backward(&vec![f32::MAX; count]).unwrap();
    assert_eq!(learner.step(step(1e-2)).unwrap_err().code, "CUPEL_NATIVE_GRADIENT_NONFINITE");
    assert_eq!(trained(&learner), before);

    // Forward passes alone.
    let mut frozen = open("llama-untied", &LearnerOptions { frozen: true, ..LearnerOptions::default() });
    assert_eq!(frozen.trainable_count(), 0);
    assert_eq!(frozen.log_probabilities(packed.view(), PassOptions::default()).unwrap().len(), count);
    assert_eq!(frozen.backward(&vec![1.0; count]).unwrap_err().code, "CUPEL_NATIVE_REQUEST_INVALID");
    assert_eq!(frozen.step(step(1e-2)).unwrap_err().code, "CUPEL_NATIVE_REQUEST_INVALID");
}
