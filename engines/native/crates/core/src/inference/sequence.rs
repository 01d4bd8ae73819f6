use std::time::Instant;

use cupel_cache::Cursor;
use cupel_files::Result;
use cupel_sampling::Sampler;

use super::request::{Constraint, GenerateRequest, Generated, Timing};
use super::scoring::{Reading, Target};

/// Tokens on their way through the network: waiting, or active with pages of the cache.
pub struct Sequence {
    /// Of the request or of the group of scores.
    pub id: u64,
    /// The prompt and what was generated, or what is read.
    pub tokens: Vec<u32>,
    /// Tokens that the caller gave.
    pub given: usize,
    /// The cache may serve the tokens before this one; its row's output is needed.
    pub needed: usize,
    /// Positions that it may come to take.
    pub most: usize,
    pub adapter: Option<usize>,
    pub work: Work,
    /// Referenced pages. While waiting: those of a branch's context.
    pub pages: Vec<u32>,
    /// A referenced page of which the first slots are taken over at admission.
    pub partial: Option<(u32, usize)>,
    /// Positions in the cache.
    pub length: usize,
    /// Given tokens that the cache had.
    pub cached: usize,
    pub cursor: Cursor,
    pub clock: Clock,
}

/// What a sequence is for.
pub enum Work {
    Generate(Box<Generation>),
    Read { targets: Vec<Target>, next: usize, branches: Vec<Reading> },
}

/// A completion in the making.
pub struct Generation {
    pub max_tokens: usize,
    pub end_tokens: Vec<u32>,
    /// Away while its mask is computed.
    pub constraint: Option<Box<dyn Constraint>>,
    pub is_constrained: bool,
    pub sampler: Sampler,
    pub stream: bool,
    /// Mask of the next choice, if one was computed.
    pub allowed: Option<std::result::Result<Vec<u32>, String>>,
    /// Memory of the last mask.
    pub spare: Vec<u32>,
    /// What the last step chose.
    pub choice: Option<Result<u32>>,
}

/// When things happened.
#[derive(Clone, Copy)]
pub struct Clock {
    submitted: Instant,
    started: Option<Instant>,
    first: Option<Instant>,
}

impl Clock {
    pub fn new() -> Self {
        Self { submitted: Instant::now(), started: None, first: None }
    }

    pub fn start(&mut self) {
        self.started = Some(Instant::now());
    }

    pub fn chose(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    pub fn timing(&self) -> Timing {
        let now = Instant::now();
        let started = self.started.unwrap_or(now);
        let first = self.first.unwrap_or(now);
        Timing { queue: started - self.submitted, prefill: first - started, decode: now - first }
    }
}

/// The tree of the prefix cache that an adapter's keys and values live in.
pub fn space_of(adapter: Option<usize>) -> u32 {
    adapter.map_or(0, |adapter| adapter as u32 + 1)
}

impl Sequence {
    pub fn generate(id: u64, request: GenerateRequest, sampler: Sampler, context: usize) -> Self {
        let given = request.prompt.len();
        Self {
            id,
            given,
            needed: given - 1,
            most: given.saturating_add(request.max_tokens).min(context),
            adapter: request.adapter,
            pages: Vec::new(),
            partial: None,
            length: 0,
            cached: 0,
            cursor: Cursor::new(space_of(request.adapter)),
            clock: Clock::new(),
            tokens: request.prompt,
            work: Work::Generate(Box::new(Generation {
                max_tokens: request.max_tokens,
                end_tokens: request.end_tokens,
                is_constrained: request.constraint.is_some(),
                constraint: request.constraint,
                sampler,
                stream: request.stream,
                allowed: None,
                spare: Vec::new(),
                choice: None,
            })),
        }
    }

    pub fn read(id: u64, reading: Reading) -> Self {
        let needed = reading.targets.first().map_or(reading.tokens.len() - 1, |target| target.position);
        Self {
            id,
            given: reading.tokens.len(),
            needed,
            most: reading.tokens.len(),
            adapter: reading.adapter,
            pages: Vec::new(),
            partial: None,
            length: 0,
            cached: 0,
            cursor: Cursor::new(space_of(reading.adapter)),
            clock: Clock::new(),
            tokens: reading.tokens,
            work: Work::Read { targets: reading.targets, next: 0, branches: reading.branches },
        }
    }

    pub fn space(&self) -> u32 {
        space_of(self.adapter)
    }

    pub fn is_generating(&self) -> bool {
        matches!(self.work, Work::Generate(_))
    }

    /// Tokens that wait for the network.
    pub fn unread(&self) -> usize {
        self.tokens.len() - self.length
    }

    /// Whether given tokens are still to be read.
    pub fn is_reading(&self) -> bool {
        self.length < self.given
    }

    /// Begins the mask of the next choice: the constraint, if it restricts.
    pub fn take_constraint(&mut self) -> Option<(Box<dyn Constraint>, Vec<u32>)> {
        let Work::Generate(generation) = &mut self.work else { return None };
        let constraint = generation.constraint.take_if(|constraint| constraint.restricts())?;
        Some((constraint, std::mem::take(&mut generation.spare)))
    }

    pub fn finished(&self, finish: super::request::Finish) -> Generated {
        Generated {
            tokens: self.tokens[self.given..].to_vec(),
            finish,
            prompt_tokens: self.given,
            cached_tokens: self.cached,
            timing: self.clock.timing(),
        }
    }
}
