use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

use crate::error::{guarded, Error, Result, CONSTRAINT_FAILED, OUTPUT_NONFINITE, REQUEST_INVALID};
use crate::model::{check_cancelled, Cache, Model, Segment, Worker};
use crate::pool::SharedMut;

/// Rows of one step at most; long prompts are read in pieces.
const STEP_ROWS: usize = 2048;
/// Shorter common beginnings are not worth a copy.
const SHARED_PREFIX: usize = 8;

/// Restricts what may be generated next, for instance to a JSON Schema. Bit `token % 32` of word
/// `token / 32` stands for a token.
pub trait Constraint: Send {
    /// Clears the bits of tokens that may not come next; every bit of the vocabulary is set before the call.
    fn mask(&mut self, allowed: &mut [u32]) -> std::result::Result<(), String>;
    /// Takes the chosen token; true when nothing more may follow.
    fn accept(&mut self, token: u32) -> std::result::Result<bool, String>;
}

/// One prompt to complete greedily.
pub struct GenerateRequest {
    /// At least one token.
    pub prompt: Vec<u32>,
    /// Upper bound of generated tokens.
    pub max_tokens: usize,
    /// Tokens that end the completion; the ending token is not part of it.
    pub end_tokens: Vec<u32>,
    pub constraint: Option<Box<dyn Constraint>>,
}

/// Why a completion ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// An end token, or the constraint was complete.
    Stop,
    /// `max_tokens` or the context length was reached.
    Length,
    /// This request failed; others are not touched.
    Error(Error),
}

/// A finished completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Position of the request in the call.
    pub index: usize,
    /// Generated tokens, without the ending one.
    pub tokens: Vec<u32>,
    pub finish: Finish,
    pub prompt_tokens: usize,
    /// Prompt tokens whose keys and values were copied from the beginning that all requests of the call share.
    pub cached_tokens: usize,
}

/// A request at work.
struct Slot {
    index: usize,
    request: GenerateRequest,
    cache: Cache,
    generated: Vec<u32>,
    cached: usize,
    /// Prompt tokens already in the cache.
    read: usize,
    allowed: Vec<u32>,
    /// What the last step chose.
    choice: Option<Result<u32>>,
}

impl Model {
    /// Completes prompts greedily (arg-max, the lowest id wins a tie). Up to `max_batch` run together; one that
    /// ends makes room for the next. `on_done` gets each completion as it ends. Tokens do not depend on the
    /// batch, the order or the threads.
    ///
    /// # Errors
    /// Only for the whole call: cancelled, or out of memory. A bad request ends with `Finish::Error`.
    pub fn generate(
        &self,
        requests: Vec<GenerateRequest>,
        max_batch: usize,
        on_done: &mut dyn FnMut(Generated),
        cancelled: &AtomicBool,
    ) -> Result<()> {
        guarded(|| {
            let mut worker = self.worker();
            let result = self.run(&mut worker, requests, max_batch.max(1), on_done, cancelled);
            worker.rest();
            result
        })
    }

    fn run(
        &self,
        worker: &mut Worker,
        requests: Vec<GenerateRequest>,
        max_batch: usize,
        on_done: &mut dyn FnMut(Generated),
        cancelled: &AtomicBool,
    ) -> Result<()> {
        let mut waiting = VecDeque::new();
        for (index, request) in requests.into_iter().enumerate() {
            let finish = match self.check(&request) {
                Err(error) => Finish::Error(error),
                Ok(()) if request.max_tokens == 0 || request.prompt.len() == self.config.context_length => {
                    Finish::Length
                }
                Ok(()) => {
                    waiting.push_back((index, request));
                    continue;
                }
            };
            on_done(Generated {
                index,
                tokens: Vec::new(),
                finish,
                prompt_tokens: request.prompt.len(),
                cached_tokens: 0,
            });
        }
        let shared = self.shared_prefix(worker, &waiting, cancelled)?;
        let mut slots: Vec<Slot> = Vec::new();
        while !(waiting.is_empty() && slots.is_empty()) {
            check_cancelled(cancelled)?;
            while slots.len() < max_batch {
                let Some((index, request)) = waiting.pop_front() else { break };
                slots.push(self.admit(worker, index, request, shared.as_ref())?);
            }
            self.step(worker, &mut slots);
            let mut number = 0;
            while number < slots.len() {
                match self.settle(&mut slots[number]) {
                    None => number += 1,
                    Some(finish) => {
                        // Kept in order, so that rows of a step do not move about.
                        let slot = slots.remove(number);
                        worker.release(slot.cache);
                        on_done(Generated {
                            index: slot.index,
                            tokens: slot.generated,
                            finish,
                            prompt_tokens: slot.request.prompt.len(),
                            cached_tokens: slot.cached,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn check(&self, request: &GenerateRequest) -> Result<()> {
        self.check_length(request.prompt.len(), "prompt")?;
        self.check_tokens(&request.prompt, "prompt")?;
        self.check_tokens(&request.end_tokens, "end")
    }

    /// Reads once what all prompts begin with.
    fn shared_prefix(
        &self,
        worker: &mut Worker,
        waiting: &VecDeque<(usize, GenerateRequest)>,
        cancelled: &AtomicBool,
    ) -> Result<Option<Cache>> {
        let Some(((_, first), rest)) = waiting.front().zip(Some(waiting.range(1.min(waiting.len())..))) else {
            return Ok(None);
        };
        // The last token of a prompt is always read, because its row gives the first choice.
        let mut length = first.prompt.len() - 1;
        let mut others = 0;
        for (_, other) in rest {
            let common = first.prompt.iter().zip(&other.prompt).take_while(|(a, b)| a == b).count();
            length = length.min(common).min(other.prompt.len() - 1);
            others += 1;
        }
        if others == 0 || length < SHARED_PREFIX {
            return Ok(None);
        }
        let mut cache = self.cache(worker, length)?;
        for piece in first.prompt[..length].chunks(STEP_ROWS) {
            check_cancelled(cancelled)?;
            self.advance(worker, &mut [Segment { cache: &mut cache, tokens: piece }]);
        }
        Ok(Some(cache))
    }

    fn admit(
        &self,
        worker: &mut Worker,
        index: usize,
        request: GenerateRequest,
        shared: Option<&Cache>,
    ) -> Result<Slot> {
        let capacity = request.prompt.len().saturating_add(request.max_tokens).min(self.config.context_length);
        let mut cache = self.cache(worker, capacity)?;
        if let Some(shared) = shared {
            self.copy_prefix(shared, shared.length, &mut cache);
        }
        let cached = cache.length;
        Ok(Slot {
            index,
            request,
            cache,
            generated: Vec::new(),
            cached,
            read: cached,
            allowed: Vec::new(),
            choice: None,
        })
    }

    /// Feeds every slot what it has to read and lets those that have read all choose a token.
    fn step(&self, worker: &mut Worker, slots: &mut [Slot]) {
        let mut budget = STEP_ROWS.max(slots.len());
        // Each slot gets its own room for one row first, so that a long prompt can not starve another slot.
        budget -= slots.len();
        let mut segments = Vec::new();
        let mut wanted = Vec::new();
        let mut choosing = Vec::new();
        let mut rows = 0;
        for (number, slot) in slots.iter_mut().enumerate() {
            let prompt = &slot.request.prompt;
            let tokens = if slot.read < prompt.len() {
                let take = (prompt.len() - slot.read).min(budget + 1);
                budget -= take - 1;
                slot.read += take;
                &prompt[slot.read - take..slot.read]
            } else {
                &slot.generated[slot.generated.len() - 1..]
            };
            rows += tokens.len();
            if slot.read == prompt.len() {
                wanted.push(rows - 1);
                choosing.push(number);
            }
            segments.push(Segment { cache: &mut slot.cache, tokens });
        }
        self.advance(worker, &mut segments);
        drop(segments);
        let vocabulary = self.config.vocabulary_size;
        let slots = SharedMut::new(slots);
        self.logits(worker, &wanted, &|index, logits| {
            // SAFETY: each wanted row belongs to one slot.
            let slot = &mut unsafe { slots.range(choosing[index], 1) }[0];
            slot.choice = Some(choose(slot, logits, vocabulary));
        });
    }

    /// Takes the slot's choice; says why it ended, if it did.
    fn settle(&self, slot: &mut Slot) -> Option<Finish> {
        let token = match slot.choice.take()? {
            Ok(token) => token,
            Err(error) => return Some(Finish::Error(error)),
        };
        if slot.request.end_tokens.contains(&token) {
            return Some(Finish::Stop);
        }
        slot.generated.push(token);
        if let Some(constraint) = &mut slot.request.constraint {
            match constraint.accept(token) {
                Ok(false) => {}
                Ok(true) => return Some(Finish::Stop),
                Err(cause) => return Some(Finish::Error(Error::new(CONSTRAINT_FAILED, cause))),
            }
        }
        let full = slot.request.prompt.len() + slot.generated.len() >= self.config.context_length;
        (full || slot.generated.len() >= slot.request.max_tokens).then_some(Finish::Length)
    }
}

fn choose(slot: &mut Slot, logits: &[f32], vocabulary: usize) -> Result<u32> {
    if let Some(token) = logits.iter().position(|logit| logit.is_nan()) {
        return Err(Error::new(OUTPUT_NONFINITE, format!("logit of token {token} is not a number")));
    }
    let Some(constraint) = &mut slot.request.constraint else {
        return arg_max(logits).ok_or_else(|| Error::new(REQUEST_INVALID, "the vocabulary is empty"));
    };
    slot.allowed.clear();
    slot.allowed.resize(vocabulary.div_ceil(32), u32::MAX);
    if !vocabulary.is_multiple_of(32) {
        if let Some(last) = slot.allowed.last_mut() {
            *last = (1 << (vocabulary % 32)) - 1;
        }
    }
    constraint.mask(&mut slot.allowed).map_err(|cause| Error::new(CONSTRAINT_FAILED, cause))?;
    let mut best: Option<usize> = None;
    for (word, bits) in slot.allowed.iter().enumerate() {
        let mut bits = *bits;
        while bits != 0 {
            let token = word * 32 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            if token < vocabulary && best.is_none_or(|best| logits[token] > logits[best]) {
                best = Some(token);
            }
        }
    }
    best.map(|token| token as u32).ok_or_else(|| Error::new(CONSTRAINT_FAILED, "the constraint allows no token"))
}

/// The highest value; the lowest index wins a tie.
pub(crate) fn arg_max(logits: &[f32]) -> Option<u32> {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    (!logits.is_empty()).then_some(best as u32)
}
