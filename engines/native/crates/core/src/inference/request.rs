use std::time::Duration;

use cupel_files::{Error, Result};
use cupel_sampling::Sampling;

/// Restricts what may be generated next, for instance to a JSON Schema. Bit `token % 32` of word
/// `token / 32` stands for a token.
pub trait Constraint: Send {
    /// Whether `mask` has anything to say; without, it is not called.
    fn restricts(&self) -> bool {
        true
    }
    /// Clears the bits of tokens that may not come next; every bit of the vocabulary is set before the call. Runs on
    /// another thread while the network computes.
    fn mask(&mut self, allowed: &mut [u32]) -> std::result::Result<(), String>;
    /// Takes the chosen token; true when nothing more may follow.
    fn accept(&mut self, token: u32) -> std::result::Result<bool, String>;
}

/// One prompt to complete.
#[derive(Default)]
pub struct GenerateRequest {
    /// At least one token.
    pub prompt: Vec<u32>,
    /// Upper bound of generated tokens.
    pub max_tokens: usize,
    /// Tokens that end the completion; the ending token is not part of it.
    pub end_tokens: Vec<u32>,
    pub constraint: Option<Box<dyn Constraint>>,
    /// Default: greedy.
    pub sampling: Sampling,
    /// Number of an adapter of the model.
    pub adapter: Option<usize>,
    /// Whether every token is told as it is chosen.
    pub stream: bool,
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

/// Wall time of a request's parts; never equal twice, so it stays out of every comparison of results.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// From submission to the first step.
    pub queue: Duration,
    /// From then to the first chosen token.
    pub prefill: Duration,
    /// From then to the end.
    pub decode: Duration,
}

/// A finished completion.
#[derive(Debug, Clone)]
pub struct Generated {
    /// Generated tokens, without the ending one.
    pub tokens: Vec<u32>,
    pub finish: Finish,
    pub prompt_tokens: usize,
    /// Prompt tokens whose keys and values were in the cache.
    pub cached_tokens: usize,
    pub timing: Timing,
}

/// A continuation to score after a context, both in tokens. A rolling log-likelihood is the text after its first
/// token with that token as context.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScoreItem {
    /// At least one token: the first continuation token is predicted from it.
    pub context: Vec<u32>,
    pub continuation: Vec<u32>,
    /// Number of an adapter of the model.
    pub adapter: Option<usize>,
}

/// Scores of one item, one entry a continuation token.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Natural logarithms.
    pub log_probabilities: Vec<f32>,
    /// Whether the token was the arg-max (the lowest id wins a tie).
    pub is_greedy: Vec<bool>,
}

/// What a step of an engine tells.
#[derive(Debug)]
pub enum Event {
    /// A token of a request that streams.
    Token {
        id: u64,
        token: u32,
    },
    Generated(u64, Generated),
    /// Scores in the order of the items.
    Scored(u64, Result<Vec<Scored>>),
}
