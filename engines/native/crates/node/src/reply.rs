use napi::bindgen_prelude::{Float32Array, Int32Array, Status};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode, UnknownReturnValue};
use napi_derive::napi;

use crate::compare::ComparisonReply;
use crate::fault::Fault;
use crate::learner::PlanReply;
use crate::quantize::WrittenReply;

/// The JavaScript function that takes replies.
pub type Callback = ThreadsafeFunction<Reply, UnknownReturnValue, Reply, Status, false>;

/// One completion, at `index` of the requests.
#[napi(object)]
#[derive(Default)]
pub struct CompletionReply {
    pub index: u32,
    pub text: String,
    /// `stop`, `length` or `error`.
    pub finish: String,
    pub error: Option<Fault>,
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub generated_tokens: u32,
    /// Milliseconds from the call to the first step, from then to the first token, from then to the end.
    pub queue_ms: f64,
    pub prefill_ms: f64,
    pub decode_ms: f64,
}

/// A further piece of the text of the request at `index`.
#[napi(object)]
pub struct PieceReply {
    pub index: u32,
    pub text: String,
}

#[napi(object)]
pub struct ScoreReply {
    pub log_probabilities: Vec<f64>,
    pub is_greedy: Vec<bool>,
}

/// What a worker says. `completion`, `piece` and `progress` replies come before the last one, which is `done` or has
/// `error`.
#[napi(object)]
#[derive(Default)]
pub struct Reply {
    pub done: bool,
    pub error: Option<Fault>,
    pub completion: Option<CompletionReply>,
    pub piece: Option<PieceReply>,
    pub scores: Option<Vec<ScoreReply>>,
    pub comparisons: Option<Vec<ComparisonReply>>,
    pub written: Option<WrittenReply>,
    /// Share of the work that is done, from 0 to 1.
    pub progress: Option<f64>,
    pub floats: Option<Float32Array>,
    pub ids: Option<Int32Array>,
    pub plan: Option<PlanReply>,
    pub number: Option<f64>,
}

impl Reply {
    pub fn done() -> Self {
        Self { done: true, ..Self::default() }
    }
}

/// Answers exactly once at the end, even when the work panics or is never begun.
pub struct Responder {
    callback: Option<Callback>,
}

impl Responder {
    pub fn new(callback: Callback) -> Self {
        Self { callback: Some(callback) }
    }

    /// Something before the end.
    pub fn send(&self, reply: Reply) {
        if let Some(callback) = &self.callback {
            callback.call(reply, ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    pub fn finish(mut self, result: Result<Reply, Fault>) {
        self.end(result);
    }

    fn end(&mut self, result: Result<Reply, Fault>) {
        if let Some(callback) = self.callback.take() {
            let reply = result.unwrap_or_else(|fault| Reply { done: true, error: Some(fault), ..Reply::default() });
            callback.call(reply, ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let fault = if std::thread::panicking() { Fault::defect() } else { Fault::closed() };
        self.end(Err(fault));
    }
}
