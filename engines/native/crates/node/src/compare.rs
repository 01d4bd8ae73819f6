//! How far models are from a reference, in distributions over every token of a text.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cupel_core::{Engine, Model, Source};
use napi::bindgen_prelude::Result;
use napi_derive::napi;

use crate::fault::Fault;
use crate::input::{Cancellation, OpenInput};
use crate::model::{kv_name, thread};
use crate::reply::{Callback, Reply, Responder};
use crate::text_side::TextSide;
use cupel_files::REQUEST_INVALID;

#[napi(object)]
pub struct ComparedInput {
    pub path: String,
    pub options: OpenInput,
}

/// A model beside the reference, which is the first of the list.
#[napi(object)]
pub struct ComparisonReply {
    /// Predicted tokens.
    pub tokens: f64,
    /// exp of the mean negative log-likelihood of the text's tokens.
    pub perplexity: f64,
    /// Kullback-Leibler divergence of the model from the reference in nats: mean over the tokens, largest, and the one
    /// that 99 of 100 tokens do not exceed.
    pub mean_divergence: f64,
    pub max_divergence: f64,
    pub divergence99: f64,
    /// Share of tokens at which both have the same most likely token (the lowest id wins a tie).
    pub top1_agreement: f64,
    /// What the KV cache held.
    pub kv_cache: String,
    /// Bytes of the packed weights.
    pub weight_bytes: f64,
}

/// What one model makes of one position.
#[derive(Clone, Copy, Default)]
struct Position {
    negative_log_likelihood: f64,
    divergence: f64,
    same_top: bool,
}

struct Side {
    engine: Engine,
    positions: Vec<Position>,
}

/// Reads `text` with the reference (the first model) and the others, in windows of `window` tokens without overlap: a
/// token is predicted from those before it in its window; the first of each window is not predicted. `progress` replies
/// come meanwhile; the last reply has `comparisons`, one a model.
///
/// Errors: those of opening a model; a text of less than two tokens; models of other vocabularies.
#[napi]
pub fn compare(
    models: Vec<ComparedInput>,
    text: String,
    window: u32,
    cancellation: &Cancellation,
    callback: Callback,
) -> Result<()> {
    let (cancelled, responder) = (cancellation.flag(), Responder::new(callback));
    thread("cupel-compare", move || {
        let work = AssertUnwindSafe(|| run(&models, &text, window as usize, &cancelled, &responder));
        let outcome = catch_unwind(work).unwrap_or_else(|_| Err(Fault::defect()));
        responder.finish(outcome);
    })?;
    Ok(())
}

fn run(
    models: &[ComparedInput],
    text: &str,
    window: usize,
    cancelled: &AtomicBool,
    responder: &Responder,
) -> std::result::Result<Reply, Fault> {
    let Some(reference) = models.first() else {
        return Err(Fault::new(REQUEST_INVALID, "there is no model to compare").at("models"));
    };
    let tokens = tokenize(&reference.path, text)?;
    for other in &models[1..] {
        if other.path != reference.path && tokenize(&other.path, text)? != tokens {
            return Err(Fault::new(REQUEST_INVALID, "the tokenizers give other tokens for the text").at(&other.path));
        }
    }
    let mut sides = Vec::new();
    for model in models {
        let opened = Model::open(&PathBuf::from(&model.path), &model.options.options()?)?;
        sides.push(Side { engine: Engine::new(Arc::new(opened), 1), positions: Vec::new() });
    }
    let config = sides[0].engine.model().config();
    let (vocabulary, window) = (config.vocabulary_size, window.min(config.context_length).max(2));
    for (side, model) in sides.iter().zip(models) {
        let other = side.engine.model().config();
        if other.vocabulary_size != vocabulary || other.context_length < window {
            let message = format!(
                "the model has {} tokens and a context of {}; {vocabulary} and at least {window} are needed",
                other.vocabulary_size, other.context_length
            );
            return Err(Fault::new(REQUEST_INVALID, message).at(&model.path));
        }
    }
    let windows: Vec<&[u32]> = tokens.chunks(window).filter(|window| window.len() > 1).collect();
    if windows.is_empty() {
        let message = format!("the text has {} tokens, at least 2 are needed", tokens.len());
        return Err(Fault::new(REQUEST_INVALID, message).at("text"));
    }
    // Log-probabilities of the reference for one window; rows are written once each, from any thread.
    let rows: Vec<Mutex<Vec<f32>>> = (0..window).map(|_| Mutex::new(Vec::new())).collect();
    for (number, window) in windows.iter().enumerate() {
        for (place, side) in sides.iter_mut().enumerate() {
            if cancelled.load(Ordering::Relaxed) {
                return Err(Fault::cancelled());
            }
            side.read(window, &rows, place == 0)?;
        }
        let progress = Some((number + 1) as f64 / windows.len() as f64);
        responder.send(Reply { progress, ..Reply::default() });
    }
    Ok(Reply { comparisons: Some(sides.into_iter().map(Side::summary).collect()), ..Reply::done() })
}

fn tokenize(path: &str, text: &str) -> std::result::Result<Vec<u32>, Fault> {
    let path = PathBuf::from(path);
    Ok(TextSide::open(&path, &Source::open(&path)?)?.tokenizer.encode(text)?)
}

impl Side {
    fn read(&mut self, window: &[u32], rows: &[Mutex<Vec<f32>>], is_reference: bool) -> std::result::Result<(), Fault> {
        let found: Vec<Mutex<Position>> = window[1..].iter().map(|_| Mutex::default()).collect();
        self.engine.distributions(window, None, &|row, logits| {
            // The last position predicts what comes after the window.
            let Some(found) = found.get(row) else { return };
            let mut own = logits.to_vec();
            normalise(&mut own);
            let mut reference = rows[row].lock().unwrap_or_else(PoisonError::into_inner);
            let position = Position {
                negative_log_likelihood: -f64::from(own[window[row + 1] as usize]),
                divergence: if is_reference { 0.0 } else { divergence(&reference, &own) },
                same_top: is_reference || top(&reference) == top(&own),
            };
            if is_reference {
                *reference = own;
            }
            *found.lock().unwrap_or_else(PoisonError::into_inner) = position;
        })?;
        self.positions
            .extend(found.into_iter().map(|found| found.into_inner().unwrap_or_else(PoisonError::into_inner)));
        Ok(())
    }

    fn summary(self) -> ComparisonReply {
        let count = self.positions.len() as f64;
        let mean = |value: fn(&Position) -> f64| self.positions.iter().map(value).sum::<f64>() / count;
        let mut divergences: Vec<f64> = self.positions.iter().map(|position| position.divergence).collect();
        divergences.sort_by(f64::total_cmp);
        let rank = ((0.99 * count).ceil() as usize).clamp(1, divergences.len());
        ComparisonReply {
            tokens: count,
            perplexity: mean(|position| position.negative_log_likelihood).exp(),
            mean_divergence: mean(|position| position.divergence),
            max_divergence: divergences.last().copied().unwrap_or(0.0),
            divergence99: divergences[rank - 1],
            top1_agreement: mean(|position| f64::from(u8::from(position.same_top))),
            kv_cache: kv_name(self.engine.model().kv_type()).to_string(),
            weight_bytes: self.engine.model().weight_bytes() as f64,
        }
    }
}

/// Logits to natural log-probabilities, summed in f64.
fn normalise(logits: &mut [f32]) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - top).exp()).sum();
    let shift = f64::from(top) + sum.ln();
    for logit in logits {
        *logit = (f64::from(*logit) - shift) as f32;
    }
}

/// Σ p (ln p − ln q), never below 0; NaN where a distribution is.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let sum: f64 = p
        .iter()
        .zip(q)
        .map(|(p, q)| {
            let p = f64::from(*p);
            p.exp() * (p - f64::from(*q))
        })
        .sum();
    // Rounding can leave a little less than nothing; what is not a number stays so.
    if sum < 0.0 {
        0.0
    } else {
        sum
    }
}

/// The most likely token; the lowest id wins a tie.
fn top(values: &[f32]) -> usize {
    values.iter().enumerate().fold(0, |best, (index, value)| if *value > values[best] { index } else { best })
}
