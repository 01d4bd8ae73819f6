//! Held against values of torch and transformers, with the tolerances of fixtures/reference/models/README.md.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use cupel_core::safetensors::Checkpoint;
use cupel_core::{Engine, Learner, Model, OpenOptions, ScoreItem, StepOptions};
use serde_json::Value;

/// The models of the fixtures, and those of `CUPEL_CONFORMANCE` if that is set.
fn models() -> Vec<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../fixtures/reference/models");
    let more = std::env::var_os("CUPEL_CONFORMANCE").map(|root| Path::new(&root).join("training/models"));
    let entries = std::iter::once(fixtures).chain(more).flat_map(|root| std::fs::read_dir(root).unwrap());
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("config.json").exists()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn integers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|item| item.as_i64().unwrap()).collect()
}

fn tensor(path: &Path, name: &str) -> Vec<f32> {
    let mut file = Checkpoint::from_file(path).unwrap();
    let shape = file.shape(name).unwrap().to_vec();
    let mut values = vec![0.0; shape.iter().product()];
    file.read(name, &shape, &mut values).unwrap();
    values
}

struct Packed {
    tokens: Vec<i32>,
    offsets: Vec<i32>,
    labelled: Vec<u8>,
}

/// Drops padding; labels every token but the first with `all`, else what the batch trains.
fn pack(batch: &Value, all: bool) -> Packed {
    let mut packed = Packed { tokens: vec![], offsets: vec![0], labelled: vec![] };
    let rows = batch["input_ids"].as_array().unwrap().len();
    for row in 0..rows {
        let [ids, mask, labels] = ["input_ids", "attention_mask", "labels"].map(|name| integers(&batch[name][row]));
        for (position, ((id, mask), label)) in ids.iter().zip(mask).zip(labels).enumerate() {
            if mask == 1 {
                packed.tokens.push(*id as i32);
                packed.labelled.push(u8::from(position > 0 && (all || label != -100)));
            }
        }
        packed.offsets.push(packed.tokens.len() as i32);
    }
    packed
}

fn mean_loss(scores: &[f32]) -> f64 {
    -scores.iter().map(|score| f64::from(*score)).sum::<f64>() / scores.len() as f64
}

#[test]
fn log_probabilities_of_a_packed_batch_match_the_padded_reference() {
    for folder in models() {
        let batch = &json(folder.join("batches.json"))["batches"][0];
        let expected = tensor(&folder.join("forward.safetensors"), "token_logps");
        let packed = pack(batch, true);
        let mut learner = Learner::open(&folder, 1).unwrap();
        let scores = learner.forward(&packed.tokens, &packed.offsets, &packed.labelled, true).unwrap();
        let width = integers(&batch["input_ids"][0]).len() - 1;
        let mut scores = scores.into_iter();
        for (row, pair) in packed.offsets.windows(2).enumerate() {
            for position in 0..(pair[1] - pair[0] - 1) as usize {
                let (seen, wanted) = (scores.next().unwrap(), expected[row * width + position]);
                assert!((seen - wanted).abs() <= 1e-5, "{} [{row}][{position}]: {seen} for {wanted}", folder.display());
            }
        }
        assert!(scores.next().is_none());
    }
}

/// The log-probability of every token of the vocabulary at every position: with it all logits, up to the constant of a
/// position that nothing depends on.
#[test]
fn logits_match_the_reference() {
    for folder in models() {
        let packed = pack(&json(folder.join("batches.json"))["batches"][0], true);
        let logits = tensor(&folder.join("forward.safetensors"), "logits");
        let model = Arc::new(Model::open(&folder, &OpenOptions { threads: 2, ..OpenOptions::default() }).unwrap());
        let mut engine = Engine::new(Arc::clone(&model), 1);
        let vocabulary = model.config().vocabulary_size;
        let length = packed.offsets[1] as usize;
        let tokens: Vec<u32> = packed.tokens[..length].iter().map(|token| *token as u32).collect();
        for position in 0..length {
            let items: Vec<ScoreItem> = (0..vocabulary as u32)
                .map(|token| ScoreItem {
                    context: tokens[..=position].to_vec(),
                    continuation: vec![token],
                    adapter: None,
                })
                .collect();
            let scored = engine.score(items, &AtomicBool::new(false)).unwrap();
            let row: Vec<f64> =
                logits[position * vocabulary..(position + 1) * vocabulary].iter().map(|x| f64::from(*x)).collect();
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let normaliser = largest + row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
            for (token, one) in scored.iter().enumerate() {
                let (seen, wanted) = (f64::from(one.log_probabilities[0]), row[token] - normaliser);
                assert!(
                    (seen - wanted).abs() <= 2e-5,
                    "{} [{position}][{token}]: {seen} for {wanted}",
                    folder.display()
                );
            }
        }
    }
}

#[test]
fn gradients_match_the_reference() {
    for folder in models() {
        let packed = pack(&json(folder.join("batches.json"))["batches"][0], false);
        let expected = json(folder.join("expected.json"));
        let mut learner = Learner::open(&folder, 1).unwrap();
        let scores = learner.forward(&packed.tokens, &packed.offsets, &packed.labelled, true).unwrap();
        assert!((mean_loss(&scores) - expected["expected"]["full"]["loss"].as_f64().unwrap()).abs() <= 5e-6);
        learner.backward(&vec![-1.0 / scores.len() as f32; scores.len()]).unwrap();
        for name in learner.tensor_names() {
            let (seen, wanted) = (learner.gradient(&name).unwrap(), tensor(&folder.join("grads.safetensors"), &name));
            assert_eq!(seen.len(), wanted.len());
            let worst = seen.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 5e-6, "{} {name}: {worst}", folder.display());
        }
    }
}

#[test]
fn gradients_of_two_backward_passes_add_up() {
    let folder = &models()[0];
    let packed = pack(&json(folder.join("batches.json"))["batches"][0], false);
    let mut learner = Learner::open(folder, 1).unwrap();
    let name = "model.layers.0.self_attn.q_proj.weight";
    let mut once = Vec::new();
    for _ in 0..2 {
        let scores = learner.forward(&packed.tokens, &packed.offsets, &packed.labelled, true).unwrap();
        learner.backward(&vec![0.5; scores.len()]).unwrap();
        if once.is_empty() {
            once = learner.gradient(name).unwrap();
        }
    }
    for (twice, once) in learner.gradient(name).unwrap().iter().zip(&once) {
        assert!((twice - 2.0 * once).abs() <= 1e-4 * once.abs().max(1e-2));
    }
}

#[test]
fn three_adamw_steps_match_the_reference() {
    for folder in models() {
        let batches = json(folder.join("batches.json"));
        let hyper = &batches["hyper"];
        let number = |name: &str| hyper[name].as_f64().unwrap();
        let expected = json(folder.join("expected.json"));
        let mut learner = Learner::open(&folder, 2).unwrap();
        for (batch, log) in
            batches["batches"].as_array().unwrap().iter().zip(expected["expected"]["full"]["steps"].as_array().unwrap())
        {
            let packed = pack(batch, false);
            let scores = learner.forward(&packed.tokens, &packed.offsets, &packed.labelled, true).unwrap();
            assert!((mean_loss(&scores) - log["loss"].as_f64().unwrap()).abs() <= 2e-5, "{}", folder.display());
            learner.backward(&vec![-1.0 / scores.len() as f32; scores.len()]).unwrap();
            let norm = learner
                .step(StepOptions {
                    lr: log["lr"].as_f64().unwrap(),
                    beta1: number("beta1"),
                    beta2: number("beta2"),
                    eps: number("eps"),
                    weight_decay: number("weight_decay"),
                    max_grad_norm: number("max_grad_norm"),
                })
                .unwrap();
            assert!(
                (f64::from(norm) / log["grad_norm"].as_f64().unwrap() - 1.0).abs() < 2e-5,
                "{} {norm}",
                folder.display()
            );
        }
        if !folder.join("after3.safetensors").exists() {
            continue;
        }
        let (mut far, mut total) = (0, 0);
        for name in learner.tensor_names() {
            let wanted = tensor(&folder.join("after3.safetensors"), &name);
            for (seen, wanted) in learner.tensor(&name).unwrap().iter().zip(&wanted) {
                let error = (seen - wanted).abs();
                assert!(error <= 1e-3, "{} {name}: {seen} for {wanted}", folder.display());
                far += usize::from(error > 1e-5);
                total += 1;
            }
        }
        assert!(far * 1000 <= total, "{}: {far} of {total} differ by more than 1e-5", folder.display());
    }
}
