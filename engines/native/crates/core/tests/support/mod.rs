//! The reference models, as packed batches and tensors.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cupel_core::safetensors::Checkpoint;
use cupel_core::{AdapterOptions, Batch, Learner, LearnerOptions, PassOptions, StepOptions};
use serde_json::Value;

pub fn reference(kind: &str, model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../fixtures/reference").join(kind).join(model)
}

pub fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub fn tensor(path: &Path, name: &str) -> Vec<f32> {
    let mut file = Checkpoint::from_file(path).unwrap();
    let shape = file.shape(name).unwrap().to_vec();
    let mut values = vec![0.0; shape.iter().product()];
    file.read(name, &shape, &mut values).unwrap();
    values
}

/// Raw bytes of a U8 tensor.
pub fn bytes(path: &Path, name: &str) -> Vec<u8> {
    let file = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let offsets = &header[name]["data_offsets"];
    let [start, end] = [0, 1].map(|index| 8 + length + offsets[index].as_u64().unwrap() as usize);
    file[start..end].to_vec()
}

#[derive(Debug, Clone)]
pub struct Packed {
    pub tokens: Vec<i32>,
    pub offsets: Vec<i32>,
    pub labelled: Vec<u8>,
    /// Row and position of each token in the padded batch.
    pub places: Vec<(usize, usize)>,
    pub width: usize,
}

impl Packed {
    pub fn view(&self) -> Batch<'_> {
        Batch { tokens: &self.tokens, offsets: &self.offsets, labelled: &self.labelled }
    }

    /// Number of labelled tokens.
    pub fn count(&self) -> usize {
        self.labelled.iter().filter(|label| **label == 1).count()
    }

    /// Each sequence as a batch of its own.
    pub fn apart(&self) -> Vec<Self> {
        let cut = |pair: &[i32]| {
            let range = pair[0] as usize..pair[1] as usize;
            Self {
                tokens: self.tokens[range.clone()].to_vec(),
                offsets: vec![0, pair[1] - pair[0]],
                labelled: self.labelled[range.clone()].to_vec(),
                places: self.places[range].to_vec(),
                width: self.width,
            }
        };
        self.offsets.windows(2).map(cut).collect()
    }
}

/// A batch of a reference model without its padding; every token but the first is labelled with `all`.
pub fn batch(model: &str, number: usize, all: bool) -> Packed {
    let batches = json(reference("models", model).join("batches.json"));
    let batch = &batches["batches"][number];
    let mut packed = Packed { tokens: vec![], offsets: vec![0], labelled: vec![], places: vec![], width: 0 };
    let rows = batch["input_ids"].as_array().unwrap();
    for (row, ids) in rows.iter().enumerate() {
        let ids = ids.as_array().unwrap();
        packed.width = ids.len();
        for (position, id) in ids.iter().enumerate() {
            if batch["attention_mask"][row][position] == 1 {
                packed.tokens.push(id.as_i64().unwrap() as i32);
                let label = all || batch["labels"][row][position] != -100;
                packed.labelled.push(u8::from(position > 0 && label));
                packed.places.push((row, position));
            }
        }
        packed.offsets.push(packed.tokens.len() as i32);
    }
    packed
}

pub fn from_folder(model: &str) -> AdapterOptions {
    AdapterOptions { rank: 4, alpha: 8.0, targets: vec![], seed: 0, from: Some(reference("adapters", model)) }
}

pub fn open(model: &str, options: &LearnerOptions) -> Learner {
    Learner::open_with(&reference("models", model), options).unwrap()
}

/// One forward and backward pass with the mean negative log-probability as loss, which is returned.
pub fn learn(learner: &mut Learner, batch: &Packed) -> f64 {
    let scores = learner.log_probabilities(batch.view(), PassOptions::default()).unwrap();
    let loss = -scores.iter().map(|score| f64::from(*score)).sum::<f64>() / scores.len() as f64;
    learner.backward(&vec![-1.0 / scores.len() as f32; scores.len()]).unwrap();
    loss
}

pub fn step(rate: f64) -> StepOptions {
    StepOptions { lr: rate, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, max_grad_norm: 0.5 }
}

/// The bits of everything that is trained.
pub fn trained(learner: &Learner) -> BTreeMap<String, Vec<u32>> {
    let values = |name: &String| learner.tensor(name).unwrap().iter().map(|value| value.to_bits()).collect();
    learner.tensor_names().iter().map(|name| (name.clone(), values(name))).collect()
}

pub fn worst(seen: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(seen.len(), wanted.len());
    seen.iter().zip(wanted).map(|(seen, wanted)| (seen - wanted).abs()).fold(0.0, f32::max)
}

/// A folder of its own that is removed.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cupel-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
