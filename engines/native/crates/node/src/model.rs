use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use cupel_core::{KvType, Model, Source};
use napi::bindgen_prelude::Result;
use napi_derive::napi;

use crate::fault::Fault;
use crate::input::{Cancellation, GrammarInput, OpenInput, PromptInput, ScoreInput};
use crate::prepare::{Job, Preparer};
use crate::reply::{Callback, Reply, Responder};
use crate::runner::{self, Command};
use crate::text_side::TextSide;

#[napi(object)]
#[derive(Clone)]
pub struct ModelInfo {
    pub context_length: u32,
    pub vocabulary_size: u32,
    pub end_of_turn: u32,
    /// What the KV cache holds: `f32`, `f16` or `q8_0`.
    pub kv_cache: String,
    /// Bytes of the packed weights.
    pub weight_bytes: f64,
}

struct Side {
    info: ModelInfo,
    text: Arc<TextSide>,
}

/// A checkpoint that generates and scores.
#[napi]
pub struct NativeModel {
    jobs: Sender<Job>,
    side: Arc<OnceLock<Side>>,
    next_call: AtomicU64,
}

#[napi]
impl NativeModel {
    /// Starts to open; the callback is told the end. Nothing else may be called before.
    #[napi(constructor)]
    pub fn new(path: String, options: OpenInput, callback: Callback) -> Result<Self> {
        let side = Arc::new(OnceLock::new());
        let shared = Arc::clone(&side);
        let (jobs, asked) = channel::<Job>();
        let responder = Responder::new(callback);
        thread("cupel-text", move || {
            let opened = catch_unwind(AssertUnwindSafe(|| open(PathBuf::from(path), &options)))
                .unwrap_or_else(|_| Err(Fault::defect()));
            match opened {
                Ok((preparer, info)) => {
                    let _ = shared.set(Side { info, text: Arc::clone(&preparer.text) });
                    responder.finish(Ok(Reply::done()));
                    preparer.run(&asked);
                }
                Err(fault) => responder.finish(Err(fault)),
            }
        })?;
        Ok(Self { jobs, side, next_call: AtomicU64::new(0) })
    }

    #[napi(catch_unwind)]
    pub fn info(&self) -> Result<ModelInfo> {
        Ok(self.side()?.info.clone())
    }

    #[napi(catch_unwind)]
    pub fn tokenize(&self, text: String) -> Result<Vec<u32>> {
        Ok(self.side()?.text.tokenizer.encode(&text).map_err(Fault::from)?)
    }

    #[napi(catch_unwind)]
    pub fn detokenize(&self, ids: Vec<u32>) -> Result<String> {
        Ok(self.side()?.text.tokenizer.decode(&ids).map_err(Fault::from)?)
    }

    /// `messages` and `tools` are JSON.
    #[napi(catch_unwind)]
    pub fn render(&self, messages: String, tools: String, add_generation_prompt: bool) -> Result<String> {
        Ok(self.side()?.text.render(&messages, &tools, add_generation_prompt)?)
    }

    /// With `stream`, `piece` replies come while text comes.
    #[napi]
    pub fn generate(&self, prompts: Vec<PromptInput>, stream: bool, cancellation: &Cancellation, callback: Callback) {
        let job = Job::Generate {
            call: self.next_call.fetch_add(1, Ordering::Relaxed),
            responder: Responder::new(callback),
            cancelled: cancellation.flag(),
            prompts,
            stream,
            asked: Instant::now(),
        };
        // If the thread has ended, the job is dropped here and its responder answers.
        let _ = self.jobs.send(job);
    }

    #[napi]
    pub fn score(&self, pairs: Vec<ScoreInput>, cancellation: &Cancellation, callback: Callback) {
        let responder = Responder::new(callback);
        let _ = self.jobs.send(Job::Score { responder, cancelled: cancellation.flag(), pairs });
    }

    /// Tells whether a grammar can constrain decoding; without one, yes.
    #[napi(catch_unwind)]
    pub fn check(&self, grammar: GrammarInput, callback: Callback) -> Result<()> {
        let responder = Responder::new(callback);
        match grammar.grammar()? {
            Some(grammar) => drop(self.jobs.send(Job::Check { responder, grammar })),
            None => responder.finish(Ok(Reply::done())),
        }
        Ok(())
    }

    /// Frees memory after what is under way.
    #[napi]
    pub fn close(&self, callback: Callback) {
        let _ = self.jobs.send(Job::Close(Responder::new(callback)));
    }

    fn side(&self) -> std::result::Result<&Side, Fault> {
        self.side.get().ok_or_else(Fault::closed)
    }
}

/// Opens the text side while the engine's own thread reads the weights.
fn open(path: PathBuf, options: &OpenInput) -> std::result::Result<(Preparer, ModelInfo), Fault> {
    let source = Source::open(&path)?;
    let (max_batch, options) = (options.max_batch as usize, options.options()?);
    let (engine, commands) = channel::<Command>();
    let (ready, model) = channel::<std::result::Result<Arc<Model>, Fault>>();
    let weights = path.clone();
    thread("cupel-engine", move || {
        let opened = catch_unwind(AssertUnwindSafe(|| Model::open(&weights, &options)));
        match opened {
            Ok(Ok(model)) => {
                let model = Arc::new(model);
                if ready.send(Ok(Arc::clone(&model))).is_ok() {
                    let _ = catch_unwind(AssertUnwindSafe(|| runner::run(model, max_batch, &commands)));
                }
            }
            Ok(Err(error)) => drop(ready.send(Err(error.into()))),
            Err(_) => drop(ready.send(Err(Fault::defect()))),
        }
    })?;
    let text = TextSide::open(&path, &source);
    drop(source);
    // A fault of the weights is told before one of the text.
    let model = model.recv().unwrap_or_else(|_| Err(Fault::defect()))?;
    let text = Arc::new(text?);
    let config = model.config();
    let info = ModelInfo {
        context_length: config.context_length as u32,
        vocabulary_size: config.vocabulary_size as u32,
        end_of_turn: text.special.end_of_turn,
        kv_cache: kv_name(model.kv_type()).to_string(),
        weight_bytes: model.weight_bytes() as f64,
    };
    Ok((Preparer { model, text, engine }, info))
}

pub fn kv_name(kind: KvType) -> &'static str {
    match kind {
        KvType::F32 => "f32",
        KvType::F16 => "f16",
        KvType::Q8_0 => "q8_0",
    }
}

/// Starts a thread; grammars, templates and JSON recurse deeply.
pub fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::result::Result<(), Fault> {
    std::thread::Builder::new()
        .name(name.to_string())
        .stack_size(16 << 20)
        .spawn(work)
        .map(drop)
        .map_err(|error| Fault::new("CUPEL_NATIVE_INTERNAL", format!("no thread could be started: {error}")))
}
