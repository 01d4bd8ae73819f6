//! What JavaScript hands in.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use cupel_core::{KvType, OpenOptions, Sampling, WeightType};
use cupel_text::Grammar;
use napi_derive::napi;

use crate::fault::Fault;
use cupel_files::REQUEST_INVALID;

/// How a model is opened.
#[napi(object)]
#[derive(Clone)]
pub struct OpenInput {
    pub threads: u32,
    pub max_batch: u32,
    /// `as-stored`, `f32`, `q8_0`, `w8a8` or `bf16`.
    pub weights: Option<String>,
    /// `f32`, `f16` or `q8_0`.
    pub kv_cache: Option<String>,
    pub kv_cache_bytes: Option<f64>,
    pub step_tokens: Option<u32>,
    pub adapters: Option<Vec<AdapterInput>>,
}

#[napi(object)]
#[derive(Clone)]
pub struct AdapterInput {
    pub name: String,
    pub path: String,
}

impl OpenInput {
    pub fn options(&self) -> Result<OpenOptions, Fault> {
        Ok(OpenOptions {
            threads: self.threads as usize,
            isa: None,
            weights: self.weights.as_deref().map_or(Ok(WeightType::AsStored), weight_type)?,
            kv: self.kv_cache.as_deref().map(kv_type).transpose()?,
            kv_bytes: self.kv_cache_bytes.map(|bytes| bytes as u64),
            step_tokens: self.step_tokens.map(|tokens| tokens as usize),
            adapters: self
                .adapters
                .iter()
                .flatten()
                .map(|adapter| (adapter.name.clone(), PathBuf::from(&adapter.path)))
                .collect(),
        })
    }
}

fn weight_type(name: &str) -> Result<WeightType, Fault> {
    match name {
        "as-stored" => Ok(WeightType::AsStored),
        "f32" => Ok(WeightType::F32),
        "q8_0" => Ok(WeightType::Q8_0),
        "w8a8" => Ok(WeightType::W8A8),
        "bf16" => Ok(WeightType::Bf16),
        other => Err(unknown("weights", other, "as-stored, f32, q8_0, w8a8 and bf16")),
    }
}

fn kv_type(name: &str) -> Result<KvType, Fault> {
    match name {
        "f32" => Ok(KvType::F32),
        "f16" => Ok(KvType::F16),
        "q8_0" => Ok(KvType::Q8_0),
        other => Err(unknown("kvCache", other, "f32, f16 and q8_0")),
    }
}

pub fn unknown(what: &str, seen: &str, known: &str) -> Fault {
    Fault::new(REQUEST_INVALID, format!("{what} is {seen:?}; {known} are known")).at(what)
}

/// One prompt: exactly one of `text`, `ids` and `messages` is there.
#[napi(object)]
pub struct PromptInput {
    pub text: Option<String>,
    pub ids: Option<Vec<u32>>,
    /// JSON text of a list of messages for the chat template.
    pub messages: Option<String>,
    pub max_tokens: u32,
    pub grammar: GrammarInput,
    pub stop: Vec<String>,
    pub sampling: Option<SamplingInput>,
    pub adapter: Option<String>,
}

/// At most one of them.
#[napi(object)]
pub struct GrammarInput {
    /// JSON text of a schema.
    pub schema: Option<String>,
    pub regex: Option<String>,
    pub lark: Option<String>,
}

impl GrammarInput {
    /// What the completion must be, if anything.
    pub fn grammar(&self) -> Result<Option<Grammar>, Fault> {
        let mut given = [
            self.schema.clone().map(Grammar::JsonSchema),
            self.regex.clone().map(Grammar::Regex),
            self.lark.clone().map(Grammar::Lark),
        ]
        .into_iter()
        .flatten();
        let grammar = given.next();
        if given.next().is_some() {
            return Err(Fault::new(REQUEST_INVALID, "a schema and a grammar, or two grammars, were given")
                .at("grammar")
                .remedy("Give one of them."));
        }
        Ok(grammar)
    }
}

/// See `Sampling` of the contracts.
#[napi(object)]
pub struct SamplingInput {
    pub temperature: f64,
    pub top_k: Option<u32>,
    pub top_p: Option<f64>,
    pub min_p: Option<f64>,
    pub repetition_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub logit_bias: Option<Vec<BiasInput>>,
    pub seed: Option<f64>,
}

#[napi(object)]
pub struct BiasInput {
    pub token: u32,
    pub bias: f64,
}

impl SamplingInput {
    pub fn sampling(&self) -> Sampling {
        let default = Sampling::default();
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k.or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(default.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(default.frequency_penalty),
            logit_bias: self.logit_bias.iter().flatten().map(|entry| (entry.token, entry.bias)).collect(),
            seed: self.seed.map_or(default.seed, |seed| seed as u64),
        }
    }
}

/// One continuation to score: both texts, or both lists of ids.
#[napi(object)]
pub struct ScoreInput {
    pub context: Option<String>,
    pub continuation: Option<String>,
    pub context_ids: Option<Vec<u32>>,
    pub continuation_ids: Option<Vec<u32>>,
    pub adapter: Option<String>,
}

/// Tells running work to stop.
#[napi]
pub struct Cancellation {
    flag: Arc<AtomicBool>,
}

#[napi]
impl Cancellation {
    #[napi(constructor)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { flag: Arc::default() }
    }

    #[napi]
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }
}
