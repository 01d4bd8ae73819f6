use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use cupel_core::{Constraint, Finish, GenerateRequest, Generated, Model, ScoreItem};
use cupel_text::{cut_at_stop, StopConstraint};
use napi::bindgen_prelude::Result;
use napi_derive::napi;
use serde_json::Value;

use crate::fault::Fault;
use crate::reply::{Callback, CompletionReply, Reply, Responder, ScoreReply};
use crate::text_side::TextSide;
use crate::worker::Worker;

/// The code that the core gives for the same refusal.
const CONTEXT_OVERFLOW: &str = "CUPEL_NATIVE_CONTEXT_OVERFLOW";

#[napi(object)]
pub struct PromptInput {
    pub prompt: String,
    pub max_tokens: u32,
    /// JSON text of a schema.
    pub schema: Option<String>,
    pub stop: Vec<String>,
}

#[napi(object)]
pub struct ScoreInput {
    pub context: String,
    pub continuation: String,
}

#[napi(object)]
pub struct ModelInfo {
    pub context_length: u32,
    pub vocabulary_size: u32,
    pub end_of_turn: u32,
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
        Self {
            flag: Arc::default(),
        }
    }

    #[napi]
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}

struct Side {
    info: ModelInfo,
    text: Arc<TextSide>,
}

struct State {
    model: Model,
    text: Arc<TextSide>,
}

/// A checkpoint that generates and scores.
#[napi]
pub struct NativeModel {
    worker: Worker<State>,
    side: Arc<OnceLock<Side>>,
}

#[napi]
impl NativeModel {
    /// Starts to open; the callback is told the end. Nothing else may be called before.
    #[napi(constructor)]
    pub fn new(directory: String, threads: u32, callback: Callback) -> Result<Self> {
        let side = Arc::new(OnceLock::new());
        let shared = Arc::clone(&side);
        let worker = Worker::start(
            move || {
                let directory = PathBuf::from(directory);
                let model = Model::open(&directory, threads as usize)?;
                let config = model.config();
                let text = Arc::new(TextSide::open(&directory, config.vocabulary_size)?);
                let info = ModelInfo {
                    context_length: config.context_length as u32,
                    vocabulary_size: config.vocabulary_size as u32,
                    end_of_turn: text.special.end_of_turn,
                };
                let own = Arc::clone(&text);
                let _ = shared.set(Side { info, text: own });
                Ok(State { model, text })
            },
            callback,
        )?;
        Ok(Self { worker, side })
    }

    #[napi]
    pub fn info(&self) -> Result<ModelInfo> {
        let info = &self.side()?.info;
        Ok(ModelInfo {
            context_length: info.context_length,
            vocabulary_size: info.vocabulary_size,
            end_of_turn: info.end_of_turn,
        })
    }

    #[napi]
    pub fn tokenize(&self, text: String) -> Result<Vec<u32>> {
        Ok(self
            .side()?
            .text
            .tokenizer
            .encode(&text)
            .map_err(Fault::from)?)
    }

    #[napi]
    pub fn detokenize(&self, ids: Vec<u32>) -> Result<String> {
        Ok(self
            .side()?
            .text
            .tokenizer
            .decode(&ids)
            .map_err(Fault::from)?)
    }

    /// `messages` and `tools` are JSON. Special tokens spelled out in a message are defused.
    #[napi]
    pub fn render(
        &self,
        messages: String,
        tools: String,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let parse = |text: &str| {
            serde_json::from_str::<Value>(text)
                .map_err(|error| Fault::new("CUPEL_NATIVE_REQUEST_INVALID", error.to_string()))
        };
        let text = &self.side()?.text;
        let template = text.template().map_err(Fault::from)?;
        let mut messages = parse(&messages)?;
        for message in messages.as_array_mut().into_iter().flatten() {
            for (key, value) in message.as_object_mut().into_iter().flatten() {
                if key != "role" {
                    text.tokenizer.defuse_all(value);
                }
            }
        }
        Ok(template
            .render(&messages, &parse(&tools)?, add_generation_prompt)
            .map_err(Fault::from)?)
    }

    #[napi]
    pub fn generate(
        &self,
        requests: Vec<PromptInput>,
        max_batch: u32,
        cancellation: &Cancellation,
        callback: Callback,
    ) {
        let cancelled = Arc::clone(&cancellation.flag);
        self.worker.submit(callback, move |state, responder| {
            state.generate(requests, max_batch as usize, &cancelled, responder)
        });
    }

    #[napi]
    pub fn score(
        &self,
        requests: Vec<ScoreInput>,
        cancellation: &Cancellation,
        callback: Callback,
    ) {
        let cancelled = Arc::clone(&cancellation.flag);
        self.worker
            .submit(callback, move |state, _| state.score(&requests, &cancelled));
    }

    #[napi]
    pub fn close(&self, callback: Callback) {
        self.worker.close(callback);
    }

    fn side(&self) -> std::result::Result<&Side, Fault> {
        self.side.get().ok_or_else(Fault::closed)
    }
}

impl State {
    fn generate(
        &self,
        inputs: Vec<PromptInput>,
        max_batch: usize,
        cancelled: &AtomicBool,
        responder: &Responder,
    ) -> std::result::Result<Reply, Fault> {
        let mut requests = Vec::with_capacity(inputs.len());
        let mut origins = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.iter().enumerate() {
            if cancelled.load(Ordering::Relaxed) {
                break;
            }
            match self.prepare(input) {
                Ok(request) => {
                    requests.push(request);
                    origins.push(index);
                }
                Err(fault) => responder.send(failed(index, 0, fault)),
            }
        }
        let mut on_done = |generated: Generated| {
            let origin = origins[generated.index];
            responder.send(self.completion(origin, &inputs[origin].stop, generated));
        };
        self.model
            .generate(requests, max_batch.max(1), &mut on_done, cancelled)?;
        Ok(Reply::done())
    }

    fn prepare(&self, input: &PromptInput) -> std::result::Result<GenerateRequest, Fault> {
        let prompt = self.text.tokenizer.encode(&input.prompt)?;
        let max_tokens = input.max_tokens as usize;
        let limit = self.model.config().context_length;
        if prompt.len().saturating_add(max_tokens) > limit {
            return Err(Fault {
                place: Some("maxTokens".to_string()),
                remedy: Some("Shorten the prompt, or ask for fewer tokens.".to_string()),
                ..Fault::new(
                    CONTEXT_OVERFLOW,
                    format!(
                        "the prompt has {} tokens and maxTokens is {max_tokens}; the context holds {limit}",
                        prompt.len()
                    ),
                )
            });
        }
        let mut constraint: Option<Box<dyn Constraint>> = None;
        if let Some(schema) = &input.schema {
            constraint = Some(Box::new(self.text.compiler()?.constraint(schema)?));
        }
        if !input.stop.is_empty() {
            let tokenizer = Arc::clone(&self.text.tokenizer);
            constraint = Some(Box::new(StopConstraint::new(
                tokenizer,
                input.stop.clone(),
                constraint,
            )));
        }
        Ok(GenerateRequest {
            prompt,
            max_tokens,
            end_tokens: self.text.special.end_tokens.clone(),
            constraint,
        })
    }

    fn completion(&self, origin: usize, stop: &[String], generated: Generated) -> Reply {
        let finish = match generated.finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Error(error) => {
                return failed(origin, generated.prompt_tokens, error.into());
            }
        };
        let text = match self.text.tokenizer.decode(&generated.tokens) {
            Ok(text) => text,
            Err(error) => return failed(origin, generated.prompt_tokens, error.into()),
        };
        let (text, finish) = match cut_at_stop(&text, stop) {
            Some(cut) => (cut.to_string(), "stop"),
            None => (text, finish),
        };
        Reply {
            completion: Some(CompletionReply {
                index: origin as u32,
                text,
                finish: finish.to_string(),
                error: None,
                prompt_tokens: generated.prompt_tokens as u32,
                cached_tokens: generated.cached_tokens as u32,
                generated_tokens: generated.tokens.len() as u32,
            }),
            ..Reply::default()
        }
    }

    /// The boundary between context and continuation is where `tokenize(context)` ends in length, as in lm-eval.
    fn score(
        &self,
        inputs: &[ScoreInput],
        cancelled: &AtomicBool,
    ) -> std::result::Result<Reply, Fault> {
        let mut items = Vec::with_capacity(inputs.len());
        for input in inputs {
            let mut context = self.text.tokenizer.encode(&input.context)?;
            let whole = self
                .text
                .tokenizer
                .encode(&format!("{}{}", input.context, input.continuation))?;
            let boundary = context.len().min(whole.len());
            let continuation = whole[boundary..].to_vec();
            context.clear();
            context.extend_from_slice(&whole[..boundary]);
            if context.is_empty() {
                context.push(self.text.first_token());
            }
            items.push(ScoreItem {
                context,
                continuation,
            });
        }
        let scores = self
            .model
            .score(&items, cancelled)?
            .into_iter()
            .map(|scored| ScoreReply {
                log_probabilities: scored
                    .log_probabilities
                    .into_iter()
                    .map(f64::from)
                    .collect(),
                is_greedy: scored.is_greedy,
            })
            .collect();
        Ok(Reply {
            scores: Some(scores),
            ..Reply::done()
        })
    }
}

fn failed(index: usize, prompt_tokens: usize, fault: Fault) -> Reply {
    Reply {
        completion: Some(CompletionReply {
            index: index as u32,
            text: String::new(),
            finish: "error".to_string(),
            error: Some(fault),
            prompt_tokens: prompt_tokens as u32,
            cached_tokens: 0,
            generated_tokens: 0,
        }),
        ..Reply::default()
    }
}
