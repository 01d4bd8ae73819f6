//! What is planned is what is taken.

mod support;

use std::path::Path;
use std::process::Command;

use cupel_core::safetensors::{write, Tensor};
use cupel_core::{
    AdapterOptions, Batch, Compute, Dtype, Head, Learner, LearnerOptions, LearnerPlan, PassOptions, StepShape,
    TensorType,
};
use support::{open, reference, step, Folder};

fn lora(rank: usize) -> Option<AdapterOptions> {
    Some(AdapterOptions { rank, alpha: 16.0, targets: vec![], seed: 1, from: None })
}

#[test]
fn counts_of_parameters_are_those_of_the_learner() {
    let shape = StepShape { tokens: 100, labelled: 50, longest: 20 };
    for model in ["llama-untied", "qwen2-tied"] {
        for (adapter, head, frozen) in [
            (None, Head::Tokens, false),
            (None, Head::Tokens, true),
            (None, Head::Reward, false),
            (lora(3), Head::Tokens, false),
            (lora(3), Head::Reward, false),
        ] {
            let options = LearnerOptions { adapter, head, frozen, ..LearnerOptions::default() };
            let plan = LearnerPlan::new(&reference("models", model), &options, shape).unwrap();
            let learner = open(model, &options);
            assert_eq!(plan.parameters, learner.parameter_count());
            assert_eq!(plan.trainable, learner.trainable_count());
            assert!(plan.operations_per_token > 0.0 && plan.seconds_per_token > 0.0);
        }
    }
}

const VOCABULARY: usize = 4096;

/// A model of two million weights: large beside what a process takes anyway, small enough for a quick step.
fn model(folder: &Path) {
    let (hidden, inner, layers, vocabulary, key) = (192usize, 512usize, 4usize, VOCABULARY, 96usize);
    let config = format!(
        r#"{{"model_type":"llama","hidden_size":{hidden},"intermediate_size":{inner},"num_hidden_layers":{layers},
        "num_attention_heads":8,"num_key_value_heads":4,"vocab_size":{vocabulary},"rms_norm_eps":1e-5,
        "rope_theta":10000.0,"tie_word_embeddings":true,"max_position_embeddings":2048}}"#
    );
    std::fs::write(folder.join("config.json"), config).unwrap();
    let mut shapes = vec![("model.embed_tokens.weight".to_string(), vec![vocabulary, hidden])];
    for layer in 0..layers {
        for (name, rows, columns) in [
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", key, hidden),
            ("self_attn.v_proj", key, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), vec![rows, columns]));
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), vec![hidden]));
        }
    }
    shapes.push(("model.norm.weight".to_string(), vec![hidden]));
    let values: Vec<Vec<f32>> = shapes
        .iter()
        .map(|(_, shape)| (0..shape.iter().product::<usize>()).map(|index| 0.05 * (index as f32 * 0.7).sin()).collect())
        .collect();
    let tensors: Vec<Tensor<'_>> =
        shapes.iter().zip(&values).map(|((name, shape), values)| Tensor { name, shape, values }).collect();
    write(&folder.join("model.safetensors"), &tensors, Dtype::F32, &[]).unwrap();
}

const SEQUENCES: usize = 4;
const LENGTH: usize = 128;

fn cases() -> Vec<LearnerOptions> {
    vec![
        LearnerOptions { threads: 2, ..LearnerOptions::default() },
        LearnerOptions { threads: 2, compute: Compute::Bf16, recompute: true, ..LearnerOptions::default() },
        LearnerOptions { threads: 1, adapter: lora(16), base: TensorType::Q4_0, ..LearnerOptions::default() },
        LearnerOptions { threads: 1, frozen: true, base: TensorType::Bf16, ..LearnerOptions::default() },
    ]
}

const CASE: &str = "CUPEL_PLAN_CASE";
const MODEL: &str = "CUPEL_PLAN_MODEL";

/// Bytes of a line of `/proc/self/status`.
#[cfg(target_os = "linux")]
fn resident(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
}

/// The part of the test below that has a process of its own: a step of one case.
#[cfg(target_os = "linux")]
#[test]
fn one_case() {
    let (Ok(case), Ok(folder)) = (std::env::var(CASE), std::env::var(MODEL)) else {
        return;
    };
    let options = &cases()[case.parse::<usize>().unwrap()];
    let tokens: Vec<i32> = (0..SEQUENCES * LENGTH).map(|index| (index * 31 % VOCABULARY) as i32).collect();
    let offsets: Vec<i32> = (0..=SEQUENCES).map(|index| (index * LENGTH) as i32).collect();
    let labelled: Vec<u8> = (0..tokens.len()).map(|index| u8::from(index % LENGTH > 0)).collect();
    let batch = Batch { tokens: &tokens, offsets: &offsets, labelled: &labelled };
    let before = resident("VmRSS");
    let mut learner = Learner::open_with(Path::new(&folder), options).unwrap();
    let scores = learner.log_probabilities(batch, PassOptions::default()).unwrap();
    if !options.frozen {
        learner.backward(&vec![-1.0 / scores.len() as f32; scores.len()]).unwrap();
        learner.step(step(1e-3)).unwrap();
    }
    println!("taken={}=", resident("VmHWM") - before);
}

#[cfg(target_os = "linux")]
#[test]
fn planned_memory_is_within_a_quarter_of_what_is_taken() {
    let folder = Folder::new("plan");
    model(&folder.0);
    let shape = StepShape { tokens: SEQUENCES * LENGTH, labelled: SEQUENCES * (LENGTH - 1), longest: LENGTH };
    for (case, options) in cases().iter().enumerate() {
        let planned = LearnerPlan::new(&folder.0, options, shape).unwrap().memory_bytes;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_case", "--nocapture"])
            .env(CASE, case.to_string())
            .env(MODEL, &folder.0)
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&child.stdout);
        let taken: u64 = output.split("taken=").nth(1).unwrap().split('=').next().unwrap().parse().unwrap();
        println!("planned {} MiB, taken {} MiB", planned >> 20, taken >> 20);
        assert!((0.75..1.25).contains(&(planned as f64 / taken as f64)), "{options:?}: {planned} of {taken} bytes");
    }
}
