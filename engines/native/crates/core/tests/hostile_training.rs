//! Odd batches, absurd options and numbers that have diverged: each ends in its own coded error, or in a result.

mod support;

use cupel_core::safetensors::{write, Checkpoint, Tensor};
use cupel_core::{
    AdapterOptions, Batch, Compute, Dtype, Head, Learner, LearnerOptions, LearnerPlan, PassOptions, StepOptions,
    StepShape,
};
use support::{batch, json, learn, open, reference, step, trained, Folder};

const MODEL: &str = "llama-untied";

fn lora(alpha: f64) -> Option<AdapterOptions> {
    Some(AdapterOptions { rank: 3, alpha, targets: vec![], seed: 1, from: None })
}

fn code<T>(result: Result<T, cupel_core::Error>) -> &'static str {
    result.err().map_or("none", |error| error.code.trim_start_matches("CUPEL_NATIVE_"))
}

/// A step of about the learning rate, in every weight that has a gradient or had one.
fn leap(learner: &mut Learner, lr: f64, beta1: f64) {
    let options = StepOptions { lr, beta1, beta2: 0.95, eps: 1e-30, weight_decay: 0.0, max_grad_norm: 0.0 };
    learner.step(options).unwrap();
}

#[test]
fn what_is_not_finite_is_never_written_over_what_was_there() {
    for adapter in [None, lora(6.0)] {
        let folder = Folder::new("nonfinite");
        let mut learner = open(MODEL, &LearnerOptions { adapter, ..LearnerOptions::default() });
        let state = folder.0.join("state");
        let save = |learner: &Learner, dtype| match learner.save_adapter(&folder.0, dtype) {
            Err(error) if error.code == "CUPEL_NATIVE_REQUEST_INVALID" => learner.save(&folder.0, dtype),
            result => result,
        };
        let files = || {
            let entries = std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().path());
            let mut files: Vec<_> = entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
            files.sort();
            files
        };
        save(&learner, Dtype::F32).unwrap();
        learner.save_state(&state).unwrap();
        let before = files();
        learn(&mut learner, &batch(MODEL, 0, false));
        // Finite as f32, infinite as bf16.
        leap(&mut learner, 3.4e38, 0.0);
        let error = save(&learner, Dtype::Bf16).unwrap_err();
        assert_eq!(error.code, "CUPEL_NATIVE_TENSOR_NONFINITE");
        assert!(learner.tensor_names().contains(&error.place.unwrap()));
        // The moments go on: beyond f32.
        leap(&mut learner, 3.4e37, 0.9);
        assert_eq!(code(save(&learner, Dtype::F32)), "TENSOR_NONFINITE");
        assert_eq!(code(learner.save_state(&state)), "TENSOR_NONFINITE");
        assert_eq!(code(learner.save(&folder.0, Dtype::F32)), "TENSOR_NONFINITE");
        assert!(before == files());
    }
}

#[test]
fn a_state_with_a_step_count_that_no_run_reaches_is_refused() {
    let folder = Folder::new("steps");
    let file = folder.0.join("state");
    let mut learner = open(MODEL, &LearnerOptions::default());
    learner.save_state(&file).unwrap();
    let mut state = Checkpoint::from_file(&file).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = state
        .names()
        .into_iter()
        .map(|name| {
            let shape = state.shape(&name).unwrap().to_vec();
            let mut values = vec![0.0; shape.iter().product()];
            state.read(&name, &shape, &mut values).unwrap();
            (name, shape, values)
        })
        .collect();
    let tensors: Vec<Tensor<'_>> = tensors.iter().map(|(name, shape, values)| Tensor { name, shape, values }).collect();
    let before = trained(&learner);
    for steps in ["18446744073709551615", "9007199254740992", "-1", "1.5", ""] {
        let fields = ["format", "compute", "head"].map(|name| (name, state.metadata(name).unwrap().to_string()));
        let fields: Vec<_> = fields.into_iter().chain([("steps", steps.to_string())]).collect();
        let changed = folder.0.join("changed");
        write(&changed, &tensors, Dtype::F32, &fields).unwrap();
        assert_eq!(code(learner.load_state(&changed)), "STATE_INVALID", "{steps}");
    }
    assert_eq!(learner.steps(), 0);
    assert_eq!(trained(&learner), before);
}

#[test]
fn options_that_vanish_or_overflow_as_f32_are_refused() {
    for alpha in [1e-50, 1e-44] {
        let options = LearnerOptions { adapter: lora(alpha), ..LearnerOptions::default() };
        assert_eq!(code(Learner::open_with(&reference("models", MODEL), &options)), "CONFIG_INVALID");
    }
    let mut learner = open(MODEL, &LearnerOptions::default());
    let before = trained(&learner);
    learn(&mut learner, &batch(MODEL, 0, false));
    let good = step(1e-3);
    for (options, place) in [
        (StepOptions { eps: 1e-60, ..good }, "step.eps"),
        (StepOptions { lr: 1e60, ..good }, "step.lr"),
        (StepOptions { lr: 1e38, beta1: 0.99, ..good }, "step.lr"),
        (StepOptions { lr: 1.0, weight_decay: 1e60, ..good }, "step.weight_decay"),
    ] {
        let error = learner.step(options).unwrap_err();
        assert_eq!((error.code, error.place.as_deref()), ("CUPEL_NATIVE_CONFIG_INVALID", Some(place)));
    }
    assert_eq!((learner.steps(), trained(&learner)), (0, before));
}

/// A folder with the configuration of the model, changed.
fn changed(name: &str, change: impl Fn(&mut serde_json::Map<String, serde_json::Value>)) -> Folder {
    let folder = Folder::new(name);
    let mut config = json(reference("models", MODEL).join("config.json"));
    change(config.as_object_mut().unwrap());
    std::fs::write(folder.0.join("config.json"), config.to_string()).unwrap();
    folder
}

#[test]
fn a_plan_refuses_what_opening_would_and_never_wraps_around() {
    let shape = StepShape { tokens: 64, labelled: 64, longest: 8 };
    let bf16 = LearnerOptions { compute: Compute::Bf16, ..LearnerOptions::default() };
    let odd = changed("plan-odd", |fields| drop(fields.insert("intermediate_size".into(), 129.into())));
    let error = LearnerPlan::new(&odd.0, &bf16, shape).unwrap_err();
    assert_eq!((error.code, error.place.as_deref()), ("CUPEL_NATIVE_CONFIG_INVALID", Some("intermediate_size")));
    let int8 = changed("plan-int8", |fields| {
        let said = serde_json::json!({ "quant_method": "compressed-tensors", "format": "int-quantized" });
        fields.insert("quantization_config".into(), said);
    });
    let error = LearnerPlan::new(&int8.0, &LearnerOptions::default(), shape).unwrap_err();
    assert_eq!((error.code, error.place.as_deref()), ("CUPEL_NATIVE_CONFIG_INVALID", Some("quantization_config")));
    assert_eq!(code(Learner::open(&int8.0, 1)), "CONFIG_INVALID");

    let large = changed("plan-large", |fields| {
        for (name, value) in [("hidden_size", 1 << 12), ("intermediate_size", 1 << 14), ("num_hidden_layers", 32)] {
            fields.insert(name.into(), value.into());
        }
    });
    let mut last = 0;
    for bits in [10, 20, 31, 40, 53] {
        let tokens = (1usize << bits) - 1;
        let shape = StepShape { tokens, labelled: tokens, longest: tokens };
        let options = LearnerOptions { threads: u32::MAX as usize, ..LearnerOptions::default() };
        let planned = LearnerPlan::new(&large.0, &options, shape).unwrap().memory_bytes;
        assert!(planned > last, "{tokens} tokens: {planned} bytes after {last}");
        last = planned;
    }
}

/// Sequences of one token, of two, of a whole block and one more; batches without labels; no sequence at all.
#[test]
fn the_smallest_batches_pass_forward_and_backward_whatever_is_trained() {
    let batches: Vec<(Vec<i32>, Vec<i32>, Vec<u8>)> = vec![
        (vec![], vec![0], vec![]),
        (vec![5], vec![0, 1], vec![0]),
        (vec![5, 6, 7], vec![0, 1, 3], vec![0, 0, 1]),
        (vec![9; 73], vec![0, 73], [vec![0], vec![1; 72]].concat()),
        (vec![9; 40], (0..=40).collect(), vec![0; 40]),
    ];
    for compute in [Compute::F32, Compute::Bf16] {
        for adapter in [None, lora(6.0)] {
            for (recompute, head) in [(false, Head::Tokens), (true, Head::Tokens), (true, Head::Reward)] {
                let options = LearnerOptions {
                    compute,
                    adapter: adapter.clone(),
                    recompute,
                    head,
                    threads: 2,
                    ..Default::default()
                };
                let mut learner = open(MODEL, &options);
                for (tokens, offsets, labelled) in &batches {
                    let batch = Batch { tokens, offsets, labelled };
                    let kept = PassOptions::default();
                    let count = match head {
                        Head::Tokens => learner.log_probabilities(batch, kept),
                        Head::Reward => learner.rewards(batch, kept),
                    }
                    .unwrap()
                    .len();
                    // A pass beside it leaves the kept one as it is.
                    let beside = PassOptions { keep: false, adapter: false, temperature: 0.5 };
                    match head {
                        Head::Tokens => learner.distributions(batch, None, beside).unwrap(),
                        Head::Reward => learner.rewards(batch, beside).unwrap(),
                    };
                    learner.backward(&vec![0.1; count]).unwrap();
                }
                let finite = |name: &String| learner.gradient(name).unwrap().iter().all(|value| value.is_finite());
                assert!(learner.tensor_names().iter().all(finite));
                learner.step(step(1e-3)).unwrap();
            }
        }
    }
}
