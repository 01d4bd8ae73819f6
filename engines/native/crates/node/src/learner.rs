use std::path::{Path, PathBuf};

use cupel_core::{Dtype, Learner, StepOptions};
use napi::bindgen_prelude::{Float32Array, Int32Array, Result, Uint8Array};
use napi_derive::napi;

use crate::fault::Fault;
use crate::reply::{Callback, Reply};
use crate::worker::Worker;

/// Text files that a saved checkpoint takes over from its parent.
const COPIED: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
];

#[napi(object)]
pub struct StepInput {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    pub max_grad_norm: f64,
}

/// A checkpoint that trains.
#[napi]
pub struct NativeLearner {
    worker: Worker<Learner>,
    parent: PathBuf,
}

#[napi]
impl NativeLearner {
    /// Starts to open; the callback is told the end. Nothing else may be called before.
    #[napi(constructor)]
    pub fn new(directory: String, threads: u32, callback: Callback) -> Result<Self> {
        let parent = PathBuf::from(directory);
        let path = parent.clone();
        let worker = Worker::start(move || Ok(Learner::open(&path, threads as usize)?), callback)?;
        Ok(Self { worker, parent })
    }

    #[napi]
    pub fn parameter_count(&self) -> Result<f64> {
        Ok(self.worker.wait(|learner| Ok(learner.parameter_count() as f64))?)
    }

    /// The reply has `floats`: the log-probability of each labelled token.
    #[napi]
    pub fn forward(
        &self,
        tokens: Int32Array,
        offsets: Int32Array,
        labelled: Uint8Array,
        keep: bool,
        callback: Callback,
    ) {
        let (tokens, offsets, labelled) = (tokens.to_vec(), offsets.to_vec(), labelled.to_vec());
        self.worker.submit(callback, move |learner, _| {
            let values = learner.forward(&tokens, &offsets, &labelled, keep)?;
            Ok(Reply { floats: Some(Float32Array::new(values)), ..Reply::done() })
        });
    }

    #[napi]
    pub fn backward(&self, gradients: Float32Array, callback: Callback) {
        let gradients = gradients.to_vec();
        self.worker.submit(callback, move |learner, _| {
            learner.backward(&gradients)?;
            Ok(Reply::done())
        });
    }

    /// The reply has `number`: the gradient norm before clipping.
    #[napi]
    pub fn step(&self, options: StepInput, callback: Callback) {
        self.worker.submit(callback, move |learner, _| {
            let norm = learner.step(StepOptions {
                lr: options.learning_rate,
                beta1: options.beta1,
                beta2: options.beta2,
                eps: options.epsilon,
                weight_decay: options.weight_decay,
                max_grad_norm: options.max_grad_norm,
            })?;
            Ok(Reply { number: Some(f64::from(norm)), ..Reply::done() })
        });
    }

    #[napi]
    pub fn save(&self, directory: String, dtype: String, callback: Callback) {
        let parent = self.parent.clone();
        self.worker.submit(callback, move |learner, _| {
            let dtype = match dtype.as_str() {
                "f32" => Dtype::F32,
                "bf16" => Dtype::Bf16,
                other => {
                    return Err(Fault::new(
                        "CUPEL_NATIVE_REQUEST_INVALID",
                        format!("dtype is {other:?}; f32 and bf16 are known"),
                    ))
                }
            };
            let directory = PathBuf::from(directory);
            learner.save(&directory, dtype)?;
            copy_text_files(&parent, &directory)?;
            Ok(Reply::done())
        });
    }

    #[napi]
    pub fn save_state(&self, file: String, callback: Callback) {
        self.worker.submit(callback, move |learner, _| {
            learner.save_state(Path::new(&file))?;
            Ok(Reply::done())
        });
    }

    #[napi]
    pub fn load_state(&self, file: String, callback: Callback) {
        self.worker.submit(callback, move |learner, _| {
            learner.load_state(Path::new(&file))?;
            Ok(Reply::done())
        });
    }

    #[napi]
    pub fn tensor_names(&self) -> Result<Vec<String>> {
        Ok(self.worker.wait(|learner| Ok(learner.tensor_names()))?)
    }

    #[napi]
    pub fn tensor(&self, name: String, gradient: bool) -> Result<Float32Array> {
        let values = self.worker.wait(move |learner| {
            let names = learner.tensor_names();
            if !names.contains(&name) {
                return Err(Fault {
                    remedy: Some(format!("Take one of: {}.", names.join(", "))),
                    ..Fault::new("CUPEL_NATIVE_TENSOR_UNKNOWN", format!("no tensor is called {name:?}"))
                });
            }
            Ok(if gradient { learner.gradient(&name)? } else { learner.tensor(&name)? })
        })?;
        Ok(Float32Array::new(values))
    }

    #[napi]
    pub fn close(&self, callback: Callback) {
        self.worker.close(callback);
    }
}

fn copy_text_files(from: &Path, to: &Path) -> std::result::Result<(), Fault> {
    for name in COPIED {
        let source = from.join(name);
        let target = to.join(name);
        // Copying a file onto itself would empty it.
        let same = matches!((source.canonicalize(), target.canonicalize()), (Ok(a), Ok(b)) if a == b);
        if source.is_file() && !same {
            std::fs::copy(&source, &target).map_err(|error| Fault {
                place: Some(to.join(name).display().to_string()),
                ..Fault::new("CUPEL_NATIVE_IO", format!("{name} could not be copied: {error}"))
            })?;
        }
    }
    Ok(())
}
