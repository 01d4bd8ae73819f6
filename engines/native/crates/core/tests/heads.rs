//! Distributions over tokens, the likeliest tokens and rewards: values against each other, gradients against finite
//! differences.

mod support;

use std::collections::BTreeMap;

use cupel_core::safetensors::{write, Checkpoint, Tensor};
use cupel_core::{AdapterOptions, Dtype, Head, Learner, LearnerOptions, PassOptions};
use support::{batch, from_folder, json, open, reference, step, trained, worst, Folder, Packed};

const MODEL: &str = "llama-untied";

fn lora() -> LearnerOptions {
    LearnerOptions { adapter: Some(from_folder(MODEL)), ..LearnerOptions::default() }
}

fn labels(packed: &Packed) -> Vec<i32> {
    packed.tokens.iter().zip(&packed.labelled).filter(|(_, label)| **label == 1).map(|(token, _)| *token).collect()
}

/// Numbers between -1 and 1 that look like chance.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|index| ((index as f32 + 1.0) * 12.9898).sin()).collect()
}

fn at(temperature: f32) -> PassOptions {
    PassOptions { temperature, ..PassOptions::default() }
}

#[test]
fn a_distribution_holds_the_label_and_sums_to_one() {
    let packed = batch(MODEL, 0, false);
    let mut learner = open(MODEL, &lora());
    let alone = learner.log_probabilities(packed.view(), at(1.0)).unwrap();
    assert_eq!(learner.distributions(packed.view(), Some(&labels(&packed)), at(1.0)).unwrap(), alone);
    let every = learner.distributions(packed.view(), None, at(1.0)).unwrap();
    let warm = learner.distributions(packed.view(), None, at(2.5)).unwrap();
    let vocabulary = learner.config().vocabulary_size;
    for ((row, warm), (label, alone)) in
        every.chunks(vocabulary).zip(warm.chunks(vocabulary)).zip(labels(&packed).iter().zip(&alone))
    {
        assert_eq!(row[*label as usize], *alone);
        let sum = |row: &[f32], by: f64| row.iter().map(|value| (f64::from(*value) / by).exp()).sum::<f64>();
        assert!((sum(row, 1.0) - 1.0).abs() < 1e-5);
        let normaliser = sum(row, 2.5).ln();
        for (warm, value) in warm.iter().zip(row) {
            assert!((f64::from(*warm) - (f64::from(*value) / 2.5 - normaliser)).abs() < 1e-5);
        }
    }
}

#[test]
fn the_likeliest_tokens_are_those_of_the_whole_distribution_in_order() {
    let packed = batch(MODEL, 0, true);
    let mut learner = open(MODEL, &LearnerOptions { threads: 2, frozen: true, ..LearnerOptions::default() });
    let vocabulary = learner.config().vocabulary_size;
    let every = learner.distributions(packed.view(), None, at(0.5)).unwrap();
    for count in [1, 7, vocabulary] {
        let (ids, values) = learner.top_tokens(packed.view(), count, at(0.5)).unwrap();
        for (row, (ids, values)) in every.chunks(vocabulary).zip(ids.chunks(count).zip(values.chunks(count))) {
            let mut order: Vec<usize> = (0..vocabulary).collect();
            order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
            for ((id, value), expected) in ids.iter().zip(values).zip(&order) {
                assert_eq!((*id as usize, *value), (*expected, row[*expected]));
            }
        }
    }
    assert_eq!(learner.top_tokens(packed.view(), 0, at(1.0)).unwrap_err().code, "CUPEL_NATIVE_REQUEST_INVALID");
    assert!(learner.top_tokens(packed.view(), vocabulary + 1, at(1.0)).is_err());
}

#[test]
fn gradients_of_labels_are_those_of_distributions() {
    let packed = batch(MODEL, 0, false);
    let count = packed.count();
    let gradients = numbers(count);
    let mut alone = open(MODEL, &LearnerOptions::default());
    alone.log_probabilities(packed.view(), at(1.0)).unwrap();
    alone.backward(&gradients).unwrap();
    let vocabulary = alone.config().vocabulary_size;

    let mut every = open(MODEL, &LearnerOptions::default());
    every.distributions(packed.view(), None, at(1.0)).unwrap();
    let mut wide = vec![0.0; count * vocabulary];
    for (place, (label, gradient)) in labels(&packed).iter().zip(&gradients).enumerate() {
        wide[place * vocabulary + *label as usize] = *gradient;
    }
    every.backward(&wide).unwrap();

    let mut chosen = open(MODEL, &LearnerOptions::default());
    // The label twice: both gradients count.
    let ids: Vec<i32> = labels(&packed).iter().flat_map(|label| [*label, 3, *label]).collect();
    chosen.distributions(packed.view(), Some(&ids), at(1.0)).unwrap();
    chosen
        .backward(&gradients.iter().flat_map(|gradient| [0.25 * gradient, 0.0, 0.75 * gradient]).collect::<Vec<_>>())
        .unwrap();
    for name in alone.tensor_names() {
        let wanted = alone.gradient(&name).unwrap();
        let most = 2e-6 * wanted.iter().fold(1.0f32, |most, value| most.max(value.abs()));
        assert!(worst(&every.gradient(&name).unwrap(), &wanted) <= most, "{name}");
        assert!(worst(&chosen.gradient(&name).unwrap(), &wanted) <= most, "{name}");
    }
}

/// Moves one tensor of a learner by `by` along a direction, through its state.
fn moved(options: &LearnerOptions, folder: &Folder, name: &str, direction: &[f32], by: f32) -> Learner {
    let (from, to) = (folder.0.join("from"), folder.0.join("to"));
    open(MODEL, options).save_state(&from).unwrap();
    let mut state = Checkpoint::from_file(&from).unwrap();
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    for tensor in state.names() {
        let shape = state.shape(&tensor).unwrap().to_vec();
        let mut values = vec![0.0; shape.iter().product()];
        state.read(&tensor, &shape, &mut values).unwrap();
        tensors.insert(tensor, (shape, values));
    }
    let (_, values) = tensors.get_mut(&format!("weight.{name}")).unwrap();
    values.iter_mut().zip(direction).for_each(|(value, direction)| *value += by * direction);
    let fields = ["format", "compute", "head", "adapter", "base", "steps"];
    let metadata: Vec<(&str, String)> =
        fields.into_iter().filter_map(|field| Some((field, state.metadata(field)?.to_string()))).collect();
    let list: Vec<Tensor<'_>> = tensors.iter().map(|(name, (shape, values))| Tensor { name, shape, values }).collect();
    write(&to, &list, Dtype::F32, &metadata).unwrap();
    let mut learner = open(MODEL, options);
    learner.load_state(&to).unwrap();
    learner
}

/// Holds the gradient of `Σ wanted · returned` by each tensor against a central difference along itself.
fn differentiate(options: &LearnerOptions, returned: impl Fn(&mut Learner) -> Vec<f32>, tensors: &[&str]) {
    let folder = Folder::new(&format!("differences-{}", tensors.join("-").len() + options.adapter.iter().count()));
    let mut learner = moved(options, &folder, tensors[0], &[], 0.0);
    let count = returned(&mut learner).len();
    let weights = numbers(count);
    learner.backward(&weights).unwrap();
    let loss = |learner: &mut Learner| {
        let values = returned(learner);
        values.iter().zip(&weights).map(|(value, weight)| f64::from(*value) * f64::from(*weight)).sum::<f64>()
    };
    for name in tensors {
        let gradient = learner.gradient(name).unwrap();
        let norm = gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 1e-3, "{name}: gradient of norm {norm}");
        let direction: Vec<f32> = gradient.iter().map(|value| (f64::from(*value) / norm) as f32).collect();
        let by = 4e-3f32;
        let ahead = loss(&mut moved(options, &folder, name, &direction, by));
        let behind = loss(&mut moved(options, &folder, name, &direction, -by));
        let difference = (ahead - behind) / (2.0 * f64::from(by));
        assert!((difference / norm - 1.0).abs() < 1e-2, "{name}: {difference} for {norm}");
    }
}

#[test]
fn gradients_of_distributions_match_finite_differences() {
    let packed = batch(MODEL, 0, false);
    let ids: Vec<i32> = (0..3 * packed.count()).map(|index| (index * 37 % 256) as i32).collect();
    let chosen = |learner: &mut Learner| learner.distributions(packed.view(), Some(&ids), at(0.7)).unwrap();
    let every = |learner: &mut Learner| learner.distributions(packed.view(), None, at(1.6)).unwrap();
    let whole = [
        "lm_head.weight",
        "model.norm.weight",
        "model.layers.1.mlp.gate_proj.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.embed_tokens.weight",
    ];
    differentiate(&LearnerOptions::default(), chosen, &whole);
    differentiate(&LearnerOptions::default(), every, &whole[..4]);
    let factor = |module: &str, part: &str| format!("base_model.model.model.layers.{module}.lora_{part}.weight");
    let factors = [factor("1.self_attn.o_proj", "A"), factor("1.mlp.up_proj", "B"), factor("0.self_attn.q_proj", "A")];
    differentiate(&lora(), every, &factors.each_ref().map(String::as_str));
}

#[test]
fn distributions_have_the_same_gradients_for_any_threads_and_when_logits_are_computed_again() {
    let packed = batch(MODEL, 0, false);
    let ends: Vec<_> = [(1, false), (2, false), (3, true)]
        .into_iter()
        .map(|(threads, again)| {
            let mut learner = open(MODEL, &LearnerOptions { threads, ..LearnerOptions::default() });
            if again {
                learner.limit_kept_logits(0);
            }
            let values = learner.distributions(packed.view(), None, at(1.3)).unwrap();
            learner.backward(&numbers(values.len())).unwrap();
            learner.step(step(1e-2)).unwrap();
            trained(&learner)
        })
        .collect();
    assert!(ends.iter().all(|end| *end == ends[0]));
}

#[test]
fn malformed_requests_for_distributions_are_refused() {
    let packed = batch(MODEL, 0, false);
    let mut learner = open(MODEL, &LearnerOptions::default());
    let mut code = |ids: &[i32], options| learner.distributions(packed.view(), Some(ids), options).unwrap_err().code;
    assert_eq!(code(&[1, 2, 3], at(1.0)), "CUPEL_NATIVE_BATCH_INVALID");
    assert_eq!(code(&[], at(1.0)), "CUPEL_NATIVE_BATCH_INVALID");
    assert_eq!(code(&vec![-1; packed.count()], at(1.0)), "CUPEL_NATIVE_TOKEN_OUT_OF_RANGE");
    assert_eq!(code(&vec![256; packed.count()], at(1.0)), "CUPEL_NATIVE_TOKEN_OUT_OF_RANGE");
    for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-45] {
        assert_eq!(code(&labels(&packed), at(temperature)), "CUPEL_NATIVE_REQUEST_INVALID", "{temperature}");
    }
    assert!(learner.rewards(packed.view(), at(1.0)).is_err());
}

fn reward(threads: usize) -> LearnerOptions {
    LearnerOptions { threads, head: Head::Reward, ..LearnerOptions::default() }
}

/// A reward head that is not zero any more.
fn taught(options: &LearnerOptions) -> Learner {
    let mut learner = open(MODEL, options);
    for number in 0..2 {
        let packed = batch(MODEL, number, false);
        let rewards = learner.rewards(packed.view(), at(1.0)).unwrap();
        learner.backward(&numbers(rewards.len())).unwrap();
        learner.step(step(5e-2)).unwrap();
    }
    learner
}

#[test]
fn rewards_begin_at_zero_and_follow_the_last_token_of_each_sequence() {
    let packed = batch(MODEL, 0, false);
    let mut learner = open(MODEL, &reward(1));
    assert_eq!(learner.rewards(packed.view(), at(1.0)).unwrap(), [0.0; 3]);
    let mut learner = taught(&reward(1));
    let together = learner.rewards(packed.view(), at(1.0)).unwrap();
    assert_eq!(together.len(), 3);
    let apart: Vec<f32> = packed.apart().iter().flat_map(|one| learner.rewards(one.view(), at(1.0)).unwrap()).collect();
    assert_eq!(together, apart);
    assert!(together.iter().all(|reward| *reward != 0.0));
    let mut changed = packed.clone();
    *changed.tokens.last_mut().unwrap() ^= 1;
    let other = learner.rewards(changed.view(), at(1.0)).unwrap();
    assert_eq!(other[..2], together[..2]);
    assert_ne!(other[2], together[2]);
    assert_eq!(learner.log_probabilities(packed.view(), at(1.0)).unwrap_err().code, "CUPEL_NATIVE_REQUEST_INVALID");
    assert!(learner.distributions(packed.view(), None, at(1.0)).is_err());
    assert!(learner.top_tokens(packed.view(), 1, at(1.0)).is_err());
}

#[test]
fn gradients_of_rewards_match_finite_differences() {
    let folder = Folder::new("reward-differences");
    taught(&reward(1)).save(&folder.0, Dtype::F32).unwrap();
    let packed = batch(MODEL, 0, false);
    let open = |by: f32, name: &str, direction: &[f32]| {
        let path = folder.0.join("model.safetensors");
        let mut file = Checkpoint::from_file(&path).unwrap();
        let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        for tensor in file.names() {
            let shape = file.shape(&tensor).unwrap().to_vec();
            let mut values = vec![0.0; shape.iter().product()];
            file.read(&tensor, &shape, &mut values).unwrap();
            if tensor == name {
                values.iter_mut().zip(direction).for_each(|(value, direction)| *value += by * direction);
            }
            tensors.push((tensor, shape, values));
        }
        let list: Vec<Tensor<'_>> =
            tensors.iter().map(|(name, shape, values)| Tensor { name, shape, values }).collect();
        let other = Folder::new("reward-moved");
        std::fs::copy(folder.0.join("config.json"), other.0.join("config.json")).unwrap();
        write(&other.0.join("model.safetensors"), &list, Dtype::F32, &[]).unwrap();
        Learner::open_with(&other.0, &reward(1)).unwrap()
    };
    let weights = numbers(3);
    let loss = |learner: &mut Learner| {
        let rewards = learner.rewards(packed.view(), at(1.0)).unwrap();
        rewards.iter().zip(&weights).map(|(reward, weight)| f64::from(*reward) * f64::from(*weight)).sum::<f64>()
    };
    let mut learner = open(0.0, "", &[]);
    loss(&mut learner);
    learner.backward(&weights).unwrap();
    for name in
        ["score.weight", "model.norm.weight", "model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight"]
    {
        let gradient = learner.gradient(name).unwrap();
        let norm = gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let direction: Vec<f32> = gradient.iter().map(|value| (f64::from(*value) / norm) as f32).collect();
        let by = 1e-2f32;
        let difference =
            (loss(&mut open(by, name, &direction)) - loss(&mut open(-by, name, &direction))) / (2.0 * f64::from(by));
        assert!((difference / norm - 1.0).abs() < 1e-2, "{name}: {difference} for {norm}");
    }
}

#[test]
fn a_reward_model_is_saved_as_a_classifier_and_goes_on_from_its_folder() {
    let folder = Folder::new("reward");
    let packed = batch(MODEL, 2, false);
    let adapter = AdapterOptions { from: None, ..from_folder(MODEL) };
    for options in [reward(1), LearnerOptions { adapter: Some(adapter), ..reward(2) }] {
        let mut learner = taught(&options);
        learner.save(&folder.0, Dtype::F32).unwrap();
        let config = json(folder.0.join("config.json"));
        assert_eq!(config["architectures"][0], "LlamaForSequenceClassification");
        assert_eq!(config["num_labels"], 1);
        assert!(config.get("problem_type").is_none());
        let names = Checkpoint::open(&folder.0).unwrap().names();
        assert!(names.contains(&"score.weight".to_string()) && !names.contains(&"lm_head.weight".to_string()));
        let mut again = Learner::open_with(&folder.0, &reward(1)).unwrap();
        let seen = again.rewards(packed.view(), at(1.0)).unwrap();
        assert!(worst(&seen, &learner.rewards(packed.view(), at(1.0)).unwrap()) <= 1e-5);
        let error = Learner::open(&folder.0, 1).err().unwrap();
        assert_eq!(error.code, "CUPEL_NATIVE_TENSOR_MISSING");
    }
    // An adapter for a reward head is a folder of its own, head included.
    let with = |from| LearnerOptions { adapter: Some(from), ..reward(1) };
    let fresh = AdapterOptions { from: None, ..from_folder(MODEL) };
    let own = Folder::new("reward-adapter");
    let learner = taught(&with(fresh.clone()));
    learner.save_adapter(&own.0, Dtype::F32).unwrap();
    let from = AdapterOptions { from: Some(own.0.clone()), ..fresh };
    assert_eq!(trained(&open(MODEL, &with(from.clone()))), trained(&learner));
    let tokens = LearnerOptions { adapter: Some(from), ..LearnerOptions::default() };
    let error = Learner::open_with(&reference("models", MODEL), &tokens).err().unwrap();
    assert_eq!(error.code, "CUPEL_NATIVE_ADAPTER_INVALID");
    let ends: Vec<_> = (1..=3).map(|threads| trained(&taught(&reward(threads)))).collect();
    assert!(ends.iter().all(|end| *end == ends[0]));
}

#[test]
fn a_frozen_copy_of_a_model_scores_like_the_model_that_is_trained() {
    let packed = batch("qwen2-tied", 1, false);
    let mut whole = open("qwen2-tied", &LearnerOptions::default());
    let mut teacher = open("qwen2-tied", &LearnerOptions { frozen: true, ..LearnerOptions::default() });
    let wanted = whole.distributions(packed.view(), None, at(1.0)).unwrap();
    assert_eq!(teacher.distributions(packed.view(), None, at(1.0)).unwrap(), wanted);
    assert_eq!(teacher.tensor_names().len(), whole.tensor_names().len());
}
