use std::path::{Path, PathBuf};

use cupel_core::{
    AdapterOptions, Batch, Compute, Dtype, Head, Learner, LearnerOptions, LearnerPlan, PassOptions, StepOptions,
    StepShape, TensorType,
};
use napi::bindgen_prelude::{Float32Array, Int32Array, Result, Uint8Array};
use napi_derive::napi;

use crate::fault::Fault;
use crate::model::thread;
use crate::reply::{Callback, Reply, Responder};
use crate::worker::Worker;

/// What training would take.
#[napi(object)]
pub struct PlanReply {
    pub parameters: f64,
    pub trainable_parameters: f64,
    pub memory_bytes: f64,
    pub operations_per_token: f64,
    pub seconds_per_token: f64,
}

#[napi(object)]
pub struct ShapeInput {
    pub tokens: f64,
    pub labelled_tokens: f64,
    pub longest_sequence: f64,
}

/// The last reply has `plan`.
#[napi]
pub fn plan_learner(directory: String, input: LearnerInput, shape: ShapeInput, callback: Callback) -> Result<()> {
    let options = input.options()?;
    let shape = StepShape {
        tokens: whole(shape.tokens, "tokens")? as usize,
        labelled: whole(shape.labelled_tokens, "labelledTokens")? as usize,
        longest: whole(shape.longest_sequence, "longestSequence")? as usize,
    };
    let responder = Responder::new(callback);
    thread("cupel-plan", move || {
        let plan = LearnerPlan::new(&PathBuf::from(directory), &options, shape).map_err(Fault::from);
        responder.finish(plan.map(|plan| Reply {
            plan: Some(PlanReply {
                parameters: plan.parameters as f64,
                trainable_parameters: plan.trainable as f64,
                memory_bytes: plan.memory_bytes as f64,
                operations_per_token: plan.operations_per_token,
                seconds_per_token: plan.seconds_per_token,
            }),
            ..Reply::done()
        }));
    })?;
    Ok(())
}

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

/// Mirrors `LearnerInput` of addon.ts.
#[napi(object)]
pub struct LearnerInput {
    pub threads: u32,
    pub compute: Option<String>,
    pub adapter: Option<AdapterInput>,
    pub base: Option<String>,
    pub recompute: Option<bool>,
    pub head: Option<String>,
    pub frozen: Option<bool>,
}

#[napi(object)]
pub struct AdapterInput {
    /// Whole number from 1.
    pub rank: f64,
    pub alpha: f64,
    pub targets: Option<Vec<String>>,
    /// Whole number from 0.
    pub seed: Option<f64>,
    pub from: Option<String>,
}

#[napi(object)]
pub struct BatchInput {
    pub tokens: Int32Array,
    pub offsets: Int32Array,
    pub labelled: Uint8Array,
    pub keep: bool,
    pub adapter: bool,
    pub temperature: f64,
}

/// A batch off the JavaScript heap.
struct OwnedBatch {
    tokens: Vec<i32>,
    offsets: Vec<i32>,
    labelled: Vec<u8>,
    options: PassOptions,
}

impl From<BatchInput> for OwnedBatch {
    fn from(input: BatchInput) -> Self {
        Self {
            tokens: input.tokens.to_vec(),
            offsets: input.offsets.to_vec(),
            labelled: input.labelled.to_vec(),
            options: PassOptions { keep: input.keep, adapter: input.adapter, temperature: input.temperature as f32 },
        }
    }
}

impl OwnedBatch {
    fn view(&self) -> Batch<'_> {
        Batch { tokens: &self.tokens, offsets: &self.offsets, labelled: &self.labelled }
    }
}

fn invalid(place: &str, message: String) -> Fault {
    Fault::new("CUPEL_NATIVE_REQUEST_INVALID", message).at(place)
}

fn whole(value: f64, place: &str) -> std::result::Result<u64, Fault> {
    if value >= 0.0 && value.fract() == 0.0 && value <= 9_007_199_254_740_991.0 {
        return Ok(value as u64);
    }
    Err(invalid(place, format!("{place} is {value}, must be a whole number from 0")))
}

impl LearnerInput {
    pub(crate) fn options(self) -> std::result::Result<LearnerOptions, Fault> {
        let named = |place: &str, value: &Option<String>, known: &[&str]| match value {
            None => Ok(0),
            Some(value) => known
                .iter()
                .position(|name| name == value)
                .ok_or_else(|| invalid(place, format!("{place} is {value:?}; {} are known", known.join(", ")))),
        };
        let adapter = self.adapter.map(|adapter| -> std::result::Result<AdapterOptions, Fault> {
            Ok(AdapterOptions {
                rank: whole(adapter.rank, "adapter.rank")? as usize,
                alpha: adapter.alpha,
                targets: adapter.targets.unwrap_or_default(),
                seed: whole(adapter.seed.unwrap_or(0.0), "adapter.seed")?,
                from: adapter.from.map(PathBuf::from),
            })
        });
        Ok(LearnerOptions {
            threads: self.threads as usize,
            isa: None,
            compute: [Compute::F32, Compute::Bf16][named("compute", &self.compute, &["f32", "bf16"])?],
            adapter: adapter.transpose()?,
            base: [TensorType::F32, TensorType::Bf16, TensorType::Q8_0, TensorType::Q4_0]
                [named("base", &self.base, &["f32", "bf16", "q8_0", "q4_0"])?],
            recompute: self.recompute.unwrap_or(false),
            head: [Head::Tokens, Head::Reward][named("head", &self.head, &["tokens", "reward"])?],
            frozen: self.frozen.unwrap_or(false),
        })
    }
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
    pub fn new(directory: String, input: LearnerInput, callback: Callback) -> Result<Self> {
        let parent = PathBuf::from(directory);
        let path = parent.clone();
        let options = input.options()?;
        let worker = Worker::start(move || Ok(Learner::open_with(&path, &options)?), callback)?;
        Ok(Self { worker, parent })
    }

    #[napi]
    pub fn parameter_count(&self) -> Result<f64> {
        Ok(self.worker.wait(|learner| Ok(learner.parameter_count() as f64))?)
    }

    #[napi]
    pub fn trainable_count(&self) -> Result<f64> {
        Ok(self.worker.wait(|learner| Ok(learner.trainable_count() as f64))?)
    }

    /// The reply has `floats`: the log-probability of each labelled token.
    #[napi]
    pub fn forward(&self, batch: BatchInput, callback: Callback) {
        let batch = OwnedBatch::from(batch);
        self.worker.submit(callback, move |learner, _| {
            let values = learner.log_probabilities(batch.view(), batch.options)?;
            Ok(Reply { floats: Some(Float32Array::new(values)), ..Reply::done() })
        });
    }

    /// The reply has `floats`: log-probabilities of `ids`, or of every token, at the place of each labelled token.
    #[napi]
    pub fn distributions(&self, batch: BatchInput, ids: Option<Int32Array>, callback: Callback) {
        let (batch, ids) = (OwnedBatch::from(batch), ids.map(|ids| ids.to_vec()));
        self.worker.submit(callback, move |learner, _| {
            let values = learner.distributions(batch.view(), ids.as_deref(), batch.options)?;
            Ok(Reply { floats: Some(Float32Array::new(values)), ..Reply::done() })
        });
    }

    /// The reply has `ids` and `floats`: the most likely tokens at the place of each labelled token.
    #[napi]
    pub fn top_tokens(&self, batch: BatchInput, count: f64, callback: Callback) {
        let batch = OwnedBatch::from(batch);
        self.worker.submit(callback, move |learner, _| {
            let count = whole(count, "count")? as usize;
            let (ids, values) = learner.top_tokens(batch.view(), count, batch.options)?;
            Ok(Reply { ids: Some(Int32Array::new(ids)), floats: Some(Float32Array::new(values)), ..Reply::done() })
        });
    }

    /// The reply has `floats`: one number a sequence.
    #[napi]
    pub fn rewards(&self, batch: BatchInput, callback: Callback) {
        let batch = OwnedBatch::from(batch);
        self.worker.submit(callback, move |learner, _| {
            let values = learner.rewards(batch.view(), batch.options)?;
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

    /// `form` is `model` or `adapter`.
    #[napi]
    pub fn save(&self, directory: String, dtype: String, form: String, callback: Callback) {
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
            match form.as_str() {
                "model" => learner.save(&directory, dtype)?,
                "adapter" => learner.save_adapter(&directory, dtype)?,
                other => return Err(invalid("form", format!("form is {other:?}; model and adapter are known"))),
            }
            copy_text_files(&parent, &directory, form == "adapter")?;
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

/// An adapter folder takes over the tokenizer, as PEFT folders do, but not how the base generates.
fn copy_text_files(from: &Path, to: &Path, adapter: bool) -> std::result::Result<(), Fault> {
    for name in COPIED.into_iter().filter(|name| !adapter || *name != "generation_config.json") {
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
