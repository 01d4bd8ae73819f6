//! The text side's thread: what is asked in text becomes tokens here, so that neither JavaScript nor the engine waits
//! for a tokenizer, a template or a grammar.

use std::collections::HashMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::Arc;
use std::time::Instant;

use cupel_core::{Constraint, GenerateRequest, Model, ScoreItem};
use cupel_text::{Grammar, StopConstraint, TextStream};
use serde_json::Value;

use crate::fault::Fault;
use crate::input::{PromptInput, ScoreInput};
use crate::reply::{Reply, Responder};
use crate::runner::{Command, PreparedPrompt};
use crate::text_side::TextSide;
use cupel_files::{CONTEXT_OVERFLOW, REQUEST_INVALID};

/// A call as it comes from JavaScript.
pub enum Job {
    Generate {
        call: u64,
        responder: Responder,
        cancelled: Arc<AtomicBool>,
        prompts: Vec<PromptInput>,
        stream: bool,
        asked: Instant,
    },
    Score {
        responder: Responder,
        cancelled: Arc<AtomicBool>,
        pairs: Vec<ScoreInput>,
    },
    /// Whether a grammar can constrain decoding.
    Check {
        responder: Responder,
        grammar: Grammar,
    },
    Close(Responder),
}

pub struct Preparer {
    pub model: Arc<Model>,
    pub text: Arc<TextSide>,
    pub engine: Sender<Command>,
}

impl Preparer {
    /// Works until it is closed or nobody can ask any more. Should the engine's thread be gone, what is sent is dropped
    /// and thereby answered.
    pub fn run(&self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Generate { call, responder, cancelled, prompts, stream, asked } => {
                    let expected = prompts.len();
                    let begin = Command::Begin { call, responder, cancelled: Arc::clone(&cancelled), expected };
                    let _ = self.engine.send(begin);
                    for (index, input) in prompts.into_iter().enumerate() {
                        if cancelled.load(Ordering::Relaxed) {
                            break;
                        }
                        let _ = self.engine.send(self.prompt(call, index, &input, stream, asked));
                    }
                }
                Job::Score { responder, cancelled, pairs } => {
                    let items = guarded(|| self.pairs(&pairs, &cancelled));
                    let _ = match items {
                        Ok(items) => self.engine.send(Command::Score { responder, cancelled, items }),
                        Err(fault) => {
                            responder.finish(Err(fault));
                            Ok(())
                        }
                    };
                }
                Job::Check { responder, grammar } => {
                    let outcome = guarded(|| Ok(self.text.compiler()?.check(&grammar)?));
                    responder.finish(outcome.map(|()| Reply::done()));
                }
                Job::Close(responder) => {
                    let _ = self.engine.send(Command::Close(responder));
                    return;
                }
            }
        }
    }

    fn prompt(&self, call: u64, index: usize, input: &PromptInput, stream: bool, asked: Instant) -> Command {
        let mut prompt_tokens = 0;
        match guarded(|| self.prepare(input, stream, asked, &mut prompt_tokens)) {
            Ok(prompt) => Command::Submit { call, index, prompt: Box::new(prompt) },
            Err(fault) => Command::Refuse { call, index, prompt_tokens, fault },
        }
    }

    fn prepare(
        &self,
        input: &PromptInput,
        stream: bool,
        asked: Instant,
        prompt_tokens: &mut usize,
    ) -> Result<PreparedPrompt, Fault> {
        let prompt = self.tokens(input)?;
        *prompt_tokens = prompt.len();
        let max_tokens = input.max_tokens as usize;
        let limit = self.model.config().context_length;
        if prompt.len().saturating_add(max_tokens) > limit {
            let message = format!(
                "the prompt has {} tokens and maxTokens is {max_tokens}; the context holds {limit}",
                prompt.len()
            );
            return Err(Fault::new(CONTEXT_OVERFLOW, message)
                .at("maxTokens")
                .remedy("Shorten the prompt, or ask for fewer tokens."));
        }
        let mut constraint: Option<Box<dyn Constraint>> = None;
        if let Some(grammar) = input.grammar.grammar()? {
            constraint = Some(Box::new(self.text.compiler()?.constrain(&grammar)?));
        }
        if !input.stop.is_empty() {
            let tokenizer = Arc::clone(&self.text.tokenizer);
            constraint = Some(Box::new(StopConstraint::new(tokenizer, input.stop.clone(), constraint)));
        }
        let request = GenerateRequest {
            prompt,
            max_tokens,
            end_tokens: self.text.special.end_tokens.clone(),
            constraint,
            sampling: input.sampling.as_ref().map(|sampling| sampling.sampling()).unwrap_or_default(),
            adapter: input.adapter.as_deref().map(|name| self.model.adapter(name)).transpose()?,
            stream,
        };
        let text = TextStream::new(Arc::clone(&self.text.tokenizer), &input.stop);
        Ok(PreparedPrompt { request, text, preparation: asked.elapsed() })
    }

    fn tokens(&self, input: &PromptInput) -> Result<Vec<u32>, Fault> {
        match (&input.text, &input.ids, &input.messages) {
            (Some(text), None, None) => Ok(self.text.tokenizer.encode(text)?),
            (None, Some(ids), None) => Ok(ids.clone()),
            (None, None, Some(messages)) => {
                let rendered = self.text.render(messages, &Value::Null.to_string(), true)?;
                Ok(self.text.tokenizer.encode(&rendered)?)
            }
            _ => Err(Fault::new(REQUEST_INVALID, "a prompt is one of text, ids and messages").at("prompt")),
        }
    }

    /// The boundary between the texts of a pair is where `tokenize(context)` ends in length, as in lm-eval.
    fn pairs(&self, pairs: &[ScoreInput], cancelled: &AtomicBool) -> Result<Vec<ScoreItem>, Fault> {
        // Options of one question have one context.
        let mut lengths: HashMap<&str, usize> = HashMap::new();
        let mut items = Vec::with_capacity(pairs.len());
        for (index, pair) in pairs.iter().enumerate() {
            if cancelled.load(Ordering::Relaxed) {
                return Err(Fault::cancelled());
            }
            let adapter = pair.adapter.as_deref().map(|name| self.model.adapter(name)).transpose()?;
            let (context, continuation) = match pair {
                ScoreInput { context: Some(context), continuation: Some(continuation), .. } => {
                    let length = match lengths.get(context.as_str()) {
                        Some(length) => *length,
                        None => {
                            let length = self.text.tokenizer.encode(context)?.len();
                            lengths.insert(context, length);
                            length
                        }
                    };
                    let mut whole = self.text.tokenizer.encode(&format!("{context}{continuation}"))?;
                    let continuation = whole.split_off(length.min(whole.len()));
                    if whole.is_empty() {
                        whole.push(self.text.first_token());
                    }
                    (whole, continuation)
                }
                ScoreInput { context_ids: Some(context), continuation_ids: Some(continuation), .. } => {
                    (context.clone(), continuation.clone())
                }
                _ => {
                    return Err(Fault::new(REQUEST_INVALID, "a pair is two texts or two lists of ids")
                        .at(format!("items[{index}]")))
                }
            };
            items.push(ScoreItem { context, continuation, adapter });
        }
        Ok(items)
    }
}

/// A panic of the text side is a fault like any other: the thread goes on.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Fault::defect()))
}
