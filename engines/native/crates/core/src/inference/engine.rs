//! The scheduler: takes requests at any time and computes them together, step by step. A step reads a bounded number
//! of tokens: one of every sequence that generates, the rest from prompts. Results depend on nothing but the
//! request: who is admitted when only decides how fast they come.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use cupel_attention::PAGE;
use cupel_cache::{Cursor, PrefixCache};
use cupel_files::{
    Error, Result, CANCELLED, CONSTRAINT_FAILED, CONTEXT_OVERFLOW, IO, REQUEST_INVALID, TOKEN_OUT_OF_RANGE,
};
use cupel_kernels::{ln, log_sum};
use cupel_sampling::{arg_max, Peak, Sampler};

use super::forward::{Chunk, Forward};
use super::masks::{MaskJob, Masks};
use super::request::{Event, Finish, GenerateRequest, Generated, ScoreItem, Scored, Timing};
use super::scoring::{Group, Target};
use super::sequence::{Sequence, Work};
use super::weights::Model;
use crate::pool::SharedMut;

/// Fewer common tokens are not worth waiting for another request to read them.
const WORTH_WAITING: usize = 16;
/// Waiting requests that a step looks at beyond those that it admits.
const LOOK_AHEAD: usize = 64;
/// Sequences that are only read, at most at a time.
const READINGS: usize = 256;

/// Computes requests of one model. Not shared: one thread drives it.
pub struct Engine {
    model: Arc<Model>,
    forward: Forward,
    cache: PrefixCache,
    masks: Masks,
    waiting: VecDeque<Sequence>,
    active: Vec<Sequence>,
    groups: BTreeMap<u64, Group>,
    /// What was decided at submission.
    decided: Vec<Event>,
    max_batch: usize,
    next_id: u64,
}

/// Who wants a row of logits.
enum Taker {
    /// The sequence at this place chooses a token.
    Choice(usize),
    /// Predictions of a group.
    Targets(u64, Vec<Target>),
}

impl Engine {
    /// `max_batch` completions are generated together at most.
    pub fn new(model: Arc<Model>, max_batch: usize) -> Self {
        Self {
            forward: Forward::new(&model),
            cache: PrefixCache::new(model.kv_pages),
            masks: Masks::default(),
            waiting: VecDeque::new(),
            active: Vec::new(),
            groups: BTreeMap::new(),
            decided: Vec::new(),
            max_batch: max_batch.max(1),
            next_id: 1,
            model,
        }
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Queues a completion. A bad request is answered by the next step; it never touches others.
    pub fn submit(&mut self, request: GenerateRequest) -> u64 {
        let id = self.next();
        let finish = match self.check(&request) {
            Err(error) => Finish::Error(error),
            Ok(_) if request.max_tokens == 0 || request.prompt.len() == self.model.config.context_length => {
                Finish::Length
            }
            Ok(sampler) => {
                let sequence = Sequence::generate(id, request, sampler, self.model.config.context_length);
                self.waiting.push_back(sequence);
                return id;
            }
        };
        self.decided.push(Event::Generated(
            id,
            Generated {
                tokens: Vec::new(),
                finish,
                prompt_tokens: request.prompt.len(),
                cached_tokens: 0,
                timing: Timing::default(),
            },
        ));
        id
    }

    /// Queues log-probabilities of continuations. Equal contexts are read once; logits are only computed for rows that
    /// are asked for. One bad item fails the group.
    pub fn submit_score(&mut self, items: Vec<ScoreItem>) -> u64 {
        let id = self.next();
        let checked = items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| self.check_item(item).map_err(|error| error.at(format!("items[{index}]"))));
        if let Err(error) = checked {
            self.decided.push(Event::Scored(id, Err(error)));
            return id;
        }
        let (group, readings) = Group::new(items);
        if readings.is_empty() {
            self.decided.push(Event::Scored(id, Ok(group.results)));
            return id;
        }
        self.waiting.extend(readings.into_iter().map(|reading| Sequence::read(id, reading)));
        self.groups.insert(id, group);
        id
    }

    /// Forgets a request or a group at once; nothing more is told of it.
    pub fn cancel(&mut self, id: u64) {
        self.cancel_all(&[id].into());
    }

    /// As `cancel` for many, in one pass.
    pub fn cancel_all(&mut self, ids: &HashSet<u64>) {
        self.groups.retain(|id, _| !ids.contains(id));
        let (gone, stay): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|sequence| ids.contains(&sequence.id));
        self.waiting = stay.into();
        let (ended, stay): (Vec<_>, Vec<_>) = self.active.drain(..).partition(|sequence| ids.contains(&sequence.id));
        self.active = stay;
        gone.into_iter().chain(ended).for_each(|sequence| self.release(sequence));
        self.decided.retain(|event| match event {
            Event::Generated(of, _) | Event::Scored(of, _) | Event::Token { id: of, .. } => !ids.contains(of),
        });
    }

    /// Whether a step would do anything.
    pub fn has_work(&self) -> bool {
        !(self.waiting.is_empty() && self.active.is_empty() && self.decided.is_empty())
    }

    /// Requests that wait for room.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What the prefix cache did so far.
    pub fn cache_statistics(&self) -> cupel_cache::Statistics {
        self.cache.statistics()
    }

    /// Computes one step and tells what ended. Returns whether there is more to do.
    pub fn step(&mut self, events: &mut Vec<Event>) -> bool {
        events.append(&mut self.decided);
        self.admit(events);
        if !self.active.is_empty() {
            self.compute(events);
        }
        self.has_work()
    }

    fn next(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    // Checks.

    fn check(&self, request: &GenerateRequest) -> Result<Sampler> {
        self.check_length(request.prompt.len(), "prompt")?;
        self.check_tokens(&request.prompt, "prompt")?;
        self.check_tokens(&request.end_tokens, "end")?;
        self.check_adapter(request.adapter)?;
        let most = request.prompt.len().saturating_add(request.max_tokens).min(self.model.config.context_length);
        self.check_room(most)?;
        request.sampling.validate(self.model.config.vocabulary_size)?;
        let mut sampler = Sampler::new(request.sampling.clone(), 0);
        sampler.prompt(&request.prompt);
        Ok(sampler)
    }

    fn check_item(&self, item: &ScoreItem) -> Result<()> {
        self.check_length(item.context.len(), "context")?;
        // The last token is only predicted, never read.
        let read = item.context.len() + item.continuation.len().saturating_sub(1);
        self.check_length(read, "context with continuation")?;
        self.check_tokens(&item.context, "context")?;
        self.check_tokens(&item.continuation, "continuation")?;
        self.check_adapter(item.adapter)?;
        self.check_room(read)
    }

    fn check_adapter(&self, adapter: Option<usize>) -> Result<()> {
        match adapter {
            Some(number) if number >= self.model.adapters.len() => {
                let message = format!("adapter number {number} is not loaded; there are {}", self.model.adapters.len());
                Err(Error::new(REQUEST_INVALID, message).at("adapter"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses tokens outside of the vocabulary; `what` names the list in the message.
    fn check_tokens(&self, tokens: &[u32], what: &str) -> Result<()> {
        let limit = self.model.config.vocabulary_size;
        match tokens.iter().position(|token| *token as usize >= limit) {
            Some(index) => {
                let message = format!("{what} token {index} is {}, the vocabulary has {limit}", tokens[index]);
                Err(Error::new(TOKEN_OUT_OF_RANGE, message))
            }
            None => Ok(()),
        }
    }

    fn check_length(&self, length: usize, what: &str) -> Result<()> {
        if length == 0 {
            return Err(Error::new(REQUEST_INVALID, format!("{what} is empty, at least one token is needed")));
        }
        let limit = self.model.config.context_length;
        if length > limit {
            let message = format!("{what} has {length} tokens, the context is {limit}");
            return Err(
                Error::new(CONTEXT_OVERFLOW, message).remedy("shorten the prompt or use a model with a longer context")
            );
        }
        Ok(())
    }

    fn check_room(&self, positions: usize) -> Result<()> {
        let room = self.cache.capacity() * PAGE;
        if positions <= room {
            return Ok(());
        }
        let message = format!("{positions} positions are needed, the KV cache holds {room}");
        Err(Error::new(super::KV_BUDGET, message)
            .at("kvCacheBytes")
            .remedy("raise kvCacheBytes, shorten the prompt, or ask for fewer tokens"))
    }

    // Admission.

    /// Pages that active sequences may still ask for.
    fn promised(&self) -> usize {
        self.active.iter().map(|sequence| sequence.most.div_ceil(PAGE).saturating_sub(sequence.pages.len())).sum()
    }

    fn admit(&mut self, events: &mut Vec<Event>) {
        let mut generating = self.active.iter().filter(|sequence| sequence.is_generating()).count();
        let mut unread: usize = self.active.iter().map(Sequence::unread).sum();
        let mut promised = self.promised();
        let mut place = 0;
        let mut passed = 0;
        while place < self.waiting.len() && passed < LOOK_AHEAD {
            let sequence = &self.waiting[place];
            let full = if sequence.is_generating() {
                generating >= self.max_batch
            } else {
                self.active.len() >= READINGS.max(self.max_batch) || unread >= 2 * self.model.step_tokens
            };
            if full || self.is_being_read(sequence) {
                place += 1;
                passed += 1;
                continue;
            }
            let Some(mut sequence) = self.waiting.remove(place) else { break };
            if !self.begin(&mut sequence, promised) {
                // Order is kept: nobody overtakes a request that waits for memory.
                self.waiting.insert(place, sequence);
                if self.active.is_empty() && !self.let_go_after(place) {
                    // Nothing runs and nothing can be let go, so it can never fit.
                    let Some(sequence) = self.waiting.remove(place) else { break };
                    let error = Error::new(super::KV_BUDGET, "the KV cache is too small for this request")
                        .remedy("raise kvCacheBytes");
                    self.fail(sequence, error, events);
                } else if self.active.is_empty() {
                    continue;
                }
                break;
            }
            sequence.clock.start();
            generating += usize::from(sequence.is_generating());
            unread += sequence.unread();
            promised += sequence.most.div_ceil(PAGE).saturating_sub(sequence.pages.len());
            self.active.push(sequence);
        }
    }

    /// Whether an active sequence is about to read what this one would otherwise read beside it.
    fn is_being_read(&self, sequence: &Sequence) -> bool {
        if !sequence.pages.is_empty() || sequence.partial.is_some() {
            return false;
        }
        let beginning = &sequence.tokens[..sequence.needed];
        let mut known = None;
        self.active.iter().filter(|other| other.is_reading() && other.space() == sequence.space()).any(|other| {
            // The first token that is still unread tells most of them apart.
            let given = &other.tokens[..other.given];
            if beginning.get(other.length) != given.get(other.length) {
                return false;
            }
            let common = beginning.iter().zip(given).take_while(|(a, b)| a == b).count();
            common > other.length
                && common >= WORTH_WAITING
                && common
                    >= *known.get_or_insert_with(|| self.cache.matching(sequence.space(), beginning)) + WORTH_WAITING
        })
    }

    /// Takes over what the cache has and makes sure of the pages that may follow. False: not enough memory now.
    fn begin(&mut self, sequence: &mut Sequence, promised: usize) -> bool {
        let held = !sequence.pages.is_empty() || sequence.partial.is_some();
        if !held {
            let found = self.cache.find(sequence.space(), &sequence.tokens[..sequence.needed]);
            sequence.pages = found.pages;
            sequence.partial = found.partial;
            sequence.cursor = found.cursor;
        }
        let wanted = sequence.most.div_ceil(PAGE) - sequence.pages.len();
        // A page of which only the beginning matched is held until it is copied. Where that page is what lacks, its
        // tokens are read again.
        if self.cache.available() < promised + wanted {
            if let Some((page, _)) = sequence.partial.take() {
                self.cache.release(&[page]);
            }
        }
        if self.cache.available() < promised + wanted {
            if !held {
                self.let_go(sequence);
            }
            return false;
        }
        sequence.length = sequence.pages.len() * PAGE;
        if let Some((page, slots)) = sequence.partial.take() {
            if let Some(own) = self.cache.allocate(1) {
                if self.forward.store.reserve(&own).is_ok() {
                    self.forward.store.copy(page, own[0]);
                    sequence.pages.extend(own);
                    sequence.length += slots;
                } else {
                    self.cache.release(&own);
                }
            }
            self.cache.release(&[page]);
        }
        sequence.cached = sequence.length;
        true
    }

    fn let_go(&mut self, sequence: &mut Sequence) {
        self.cache.release(&std::mem::take(&mut sequence.pages));
        if let Some((page, _)) = sequence.partial.take() {
            self.cache.release(&[page]);
        }
        sequence.cursor = Cursor::new(sequence.space());
    }

    /// Makes the last waiting sequence after `place` that holds pages give them back: it will find or read them again.
    fn let_go_after(&mut self, place: usize) -> bool {
        for index in (place..self.waiting.len()).rev() {
            if !self.waiting[index].pages.is_empty() || self.waiting[index].partial.is_some() {
                if let Some(mut sequence) = self.waiting.remove(index) {
                    self.let_go(&mut sequence);
                    self.waiting.insert(index, sequence);
                    return true;
                }
            }
        }
        false
    }

    fn release(&mut self, mut sequence: Sequence) {
        self.let_go(&mut sequence);
    }

    fn fail(&mut self, sequence: Sequence, error: Error, events: &mut Vec<Event>) {
        let id = sequence.id;
        if sequence.is_generating() {
            events.push(Event::Generated(id, sequence.finished(Finish::Error(error))));
            self.release(sequence);
        } else {
            self.release(sequence);
            if self.groups.contains_key(&id) {
                self.cancel(id);
                events.push(Event::Scored(id, Err(error)));
            }
        }
    }

    // A step.

    fn compute(&mut self, events: &mut Vec<Event>) {
        let takes = self.share_budget();
        if let Err((place, error)) = self.reserve(&takes) {
            let sequence = self.active.remove(place);
            self.fail(sequence, error, events);
            return;
        }
        let vocabulary = self.model.config.vocabulary_size;
        for (slot, sequence) in self.active.iter_mut().enumerate() {
            if takes[slot] > 0 && takes[slot] == sequence.unread() {
                if let Some((constraint, allowed)) = sequence.take_constraint() {
                    self.masks.start(MaskJob { slot, constraint, allowed, outcome: Ok(()) }, vocabulary);
                }
            }
        }
        let chunks: Vec<Chunk<'_>> = self
            .active
            .iter()
            .zip(&takes)
            .filter(|(_, take)| **take > 0)
            .map(|(sequence, take)| Chunk {
                tokens: &sequence.tokens[sequence.length..sequence.length + take],
                before: sequence.length,
                pages: &sequence.pages,
                adapter: sequence.adapter,
            })
            .collect();
        let outcome = self.forward.run(&self.model, &chunks);
        drop(chunks);
        for job in self.masks.finish() {
            if let Work::Generate(generation) = &mut self.active[job.slot].work {
                generation.constraint = Some(job.constraint);
                generation.allowed = Some(job.outcome.map(|()| job.allowed));
            }
        }
        if let Err(error) = outcome {
            for sequence in std::mem::take(&mut self.active) {
                self.fail(sequence, error.clone(), events);
            }
            return;
        }
        let failed = self.take_outputs(&takes);
        for (sequence, take) in self.active.iter_mut().zip(&takes) {
            sequence.length += take;
            // Whole pages become findable, and equal ones that two sequences read at once become one.
            let whole = sequence.length / PAGE;
            if whole > sequence.cursor.pages() {
                self.cache.share_at(&mut sequence.cursor, &sequence.tokens[..whole * PAGE], &mut sequence.pages);
            }
            // What others wait for is findable to its last token; the sequence itself goes on in the same page.
            if *take > 0 && sequence.length == sequence.given {
                self.cache.insert_at(&mut sequence.cursor, &sequence.tokens[..sequence.length], &sequence.pages);
            }
        }
        // Before what ends is told: a group that failed in its last reading has failed.
        for (group, error) in failed {
            if self.groups.contains_key(&group) {
                self.cancel(group);
                events.push(Event::Scored(group, Err(error)));
            }
        }
        self.settle(events);
    }

    /// Tokens that each active sequence gives to this step. Each has room for one first, so that a long prompt can not
    /// starve another sequence.
    fn share_budget(&self) -> Vec<usize> {
        let mut budget = self.model.step_tokens.saturating_sub(self.active.len());
        let shares = self.active.iter().map(|sequence| {
            let take = sequence.unread().min(budget + 1);
            budget -= take.saturating_sub(1);
            take
        });
        shares.collect()
    }

    /// Pages for the positions of this step. They were promised at admission; only the system can lack memory.
    fn reserve(&mut self, takes: &[usize]) -> std::result::Result<(), (usize, Error)> {
        for (place, take) in takes.iter().enumerate() {
            let sequence = &mut self.active[place];
            let wanted = (sequence.length + take).div_ceil(PAGE).saturating_sub(sequence.pages.len());
            if wanted == 0 {
                continue;
            }
            let Some(pages) = self.cache.allocate(wanted) else {
                return Err((place, Error::new(super::KV_BUDGET, "a promised page of the KV cache is missing")));
            };
            let outcome = self.forward.store.reserve(&pages);
            sequence.pages.extend(pages);
            outcome
                .map_err(|cause| (place, Error::new(IO, cause.to_string()).remedy("lower kvCacheBytes or maxBatch")))?;
        }
        Ok(())
    }

    /// Logits of the rows that are wanted: choices go to their sequences, predictions to their groups. Returns the
    /// groups that failed.
    fn take_outputs(&mut self, takes: &[usize]) -> Vec<(u64, Error)> {
        let mut wanted = Vec::new();
        let mut takers = Vec::new();
        let mut row = 0;
        for (place, (sequence, take)) in self.active.iter_mut().zip(takes).enumerate() {
            let end = sequence.length + take;
            match &mut sequence.work {
                Work::Generate(_) if *take > 0 && end == sequence.tokens.len() => {
                    wanted.push(row + take - 1);
                    takers.push(Taker::Choice(place));
                }
                Work::Generate(_) => {}
                Work::Read { targets, next, .. } => {
                    // Several items may want the same row: rows are computed once.
                    while let Some(first) = targets.get(*next).filter(|target| target.position < end) {
                        let same = targets[*next..].iter().take_while(|other| other.position == first.position);
                        let same: Vec<Target> = same.copied().collect();
                        wanted.push(row + first.position - sequence.length);
                        *next += same.len();
                        takers.push(Taker::Targets(sequence.id, same));
                    }
                }
            }
            row += take;
        }
        let mut found: Vec<Vec<(f32, bool)>> = takers
            .iter()
            .map(|taker| match taker {
                Taker::Choice(_) => Vec::new(),
                Taker::Targets(_, targets) => vec![(0.0, false); targets.len()],
            })
            .collect();
        let isa = self.model.isa;
        let active = SharedMut::new(&mut self.active);
        let shared = SharedMut::new(&mut found);
        let groups = &self.groups;
        self.forward.logits(&self.model, &wanted, &|number, logits| match &takers[number] {
            Taker::Choice(place) => {
                // SAFETY: each row belongs to one sequence.
                choose(&mut unsafe { active.range(*place, 1) }[0], logits);
            }
            Taker::Targets(group, targets) => {
                let Some(group) = groups.get(group) else { return };
                let (top, sum) = log_sum(isa, logits);
                let best = match arg_max(logits) {
                    Peak::Token(token, _) => Some(token),
                    _ => None,
                };
                // SAFETY: each row has its own place.
                let out = unsafe { shared.range(number, 1) };
                for (target, out) in targets.iter().zip(out[0].iter_mut()) {
                    let token = group.items[target.item].continuation[target.index];
                    *out = (logits[token as usize] - top - ln(sum), best == Some(token));
                }
            }
        });
        let mut failed = Vec::new();
        for (taker, found) in takers.iter().zip(found) {
            let Taker::Targets(id, targets) = taker else { continue };
            let Some(group) = self.groups.get_mut(id) else { continue };
            for (target, (value, greedy)) in targets.iter().zip(found) {
                if let Err(error) = group.keep(*target, value, greedy) {
                    failed.push((*id, error));
                    break;
                }
            }
        }
        failed
    }

    /// Takes choices, ends what is done.
    fn settle(&mut self, events: &mut Vec<Event>) {
        let context = self.model.config.context_length;
        let mut place = 0;
        // Branches wait before everything else: their contexts hold memory.
        let mut front = Vec::new();
        while place < self.active.len() {
            let sequence = &mut self.active[place];
            let finish = match &sequence.work {
                Work::Generate(_) => take_choice(sequence, context, events),
                Work::Read { .. } if sequence.unread() == 0 => Some(Finish::Stop),
                Work::Read { .. } => None,
            };
            let Some(finish) = finish else {
                place += 1;
                continue;
            };
            // Kept in order, so that equal calls give equal steps.
            let mut sequence = self.active.remove(place);
            if !matches!(finish, Finish::Error(_)) {
                let (length, cursor) = (sequence.length, &mut sequence.cursor);
                self.cache.insert_at(cursor, &sequence.tokens[..length], &sequence.pages);
            }
            match &mut sequence.work {
                Work::Generate(_) => events.push(Event::Generated(sequence.id, sequence.finished(finish))),
                Work::Read { branches, .. } => {
                    let branches = std::mem::take(branches);
                    front.extend(branches.into_iter().map(|branch| {
                        let mut branch = Sequence::read(sequence.id, branch);
                        let whole = sequence.length / PAGE;
                        branch.pages = sequence.pages[..whole].to_vec();
                        let rest = sequence.length % PAGE;
                        branch.partial = (rest > 0).then(|| (sequence.pages[whole], rest));
                        sequence.pages.iter().for_each(|page| self.cache.retain(*page));
                        branch
                    }));
                    if let Some(group) = self.groups.get_mut(&sequence.id) {
                        group.left -= 1;
                        if group.left == 0 {
                            if let Some(group) = self.groups.remove(&sequence.id) {
                                events.push(Event::Scored(sequence.id, Ok(group.results)));
                            }
                        }
                    }
                }
            }
            self.release(sequence);
        }
        front.into_iter().rev().for_each(|branch| self.waiting.push_front(branch));
    }
}

/// Chooses the next token of a sequence from its logits.
fn choose(sequence: &mut Sequence, logits: &mut [f32]) {
    let step = (sequence.tokens.len() - sequence.given) as u64;
    let Work::Generate(generation) = &mut sequence.work else { return };
    if generation.is_constrained && generation.constraint.is_none() {
        generation.choice = Some(Err(Error::new(CONSTRAINT_FAILED, "the mask of the constraint was lost")));
        return;
    }
    let allowed = match generation.allowed.take().transpose() {
        Ok(allowed) => allowed,
        Err(cause) => {
            generation.choice = Some(Err(Error::new(CONSTRAINT_FAILED, cause)));
            return;
        }
    };
    generation.choice = Some(match generation.sampler.choose(logits, allowed.as_deref(), step) {
        Ok(Some(token)) => Ok(token),
        Ok(None) => Err(Error::new(CONSTRAINT_FAILED, "the constraint allows no token")),
        Err(error) => Err(error),
    });
    if let Some(allowed) = allowed {
        generation.spare = allowed;
    }
}

/// Appends the choice of a sequence; says why it ended, if it did.
fn take_choice(sequence: &mut Sequence, context: usize, events: &mut Vec<Event>) -> Option<Finish> {
    let Work::Generate(generation) = &mut sequence.work else { return None };
    let token = match generation.choice.take()? {
        Ok(token) => token,
        Err(error) => return Some(Finish::Error(error)),
    };
    sequence.clock.chose();
    if generation.end_tokens.contains(&token) {
        return Some(Finish::Stop);
    }
    sequence.tokens.push(token);
    generation.sampler.accept(token);
    if generation.stream {
        events.push(Event::Token { id: sequence.id, token });
    }
    if let Some(constraint) = &mut generation.constraint {
        match constraint.accept(token) {
            Ok(false) => {}
            Ok(true) => return Some(Finish::Stop),
            Err(cause) => return Some(Finish::Error(Error::new(CONSTRAINT_FAILED, cause))),
        }
    }
    let generated = sequence.tokens.len() - sequence.given;
    (sequence.tokens.len() >= context || generated >= generation.max_tokens).then_some(Finish::Length)
}

/// Whole calls, for callers that have nothing else to do meanwhile.
impl Engine {
    /// Completes requests; `on_done` gets the place of a request in the call and its completion as it ends.
    ///
    /// # Errors
    /// Only when cancelled. A bad request ends with `Finish::Error`.
    pub fn generate(
        &mut self,
        requests: Vec<GenerateRequest>,
        on_done: &mut dyn FnMut(usize, Generated),
        cancelled: &AtomicBool,
    ) -> Result<()> {
        let ids: Vec<u64> = requests.into_iter().map(|request| self.submit(request)).collect();
        let mut left = ids.len();
        let mut events = Vec::new();
        while left > 0 {
            if cancelled.load(Ordering::Relaxed) {
                self.cancel_all(&ids.iter().copied().collect());
                return Err(Error::new(CANCELLED, "cancelled by the caller"));
            }
            self.step(&mut events);
            for event in events.drain(..) {
                if let Event::Generated(id, generated) = event {
                    if let Ok(index) = ids.binary_search(&id) {
                        left -= 1;
                        on_done(index, generated);
                    }
                }
            }
        }
        Ok(())
    }

    /// Log-probabilities of continuations, in the order of the items.
    ///
    /// # Errors
    /// Cancelled, or the first bad item.
    pub fn score(&mut self, items: Vec<ScoreItem>, cancelled: &AtomicBool) -> Result<Vec<Scored>> {
        let wanted = self.submit_score(items);
        let mut events = Vec::new();
        loop {
            if cancelled.load(Ordering::Relaxed) {
                self.cancel(wanted);
                return Err(Error::new(CANCELLED, "cancelled by the caller"));
            }
            self.step(&mut events);
            for event in events.drain(..) {
                if let Event::Scored(id, outcome) = event {
                    if id == wanted {
                        return outcome;
                    }
                }
            }
        }
    }

    /// Calls `with(position, logits)` for every position of `tokens`, on any thread.
    ///
    /// # Errors
    /// Tokens that are none, too many, or out of range; no room in the KV cache.
    pub fn distributions(
        &mut self,
        tokens: &[u32],
        adapter: Option<usize>,
        with: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Result<()> {
        self.check_length(tokens.len(), "text")?;
        self.check_tokens(tokens, "text")?;
        self.check_adapter(adapter)?;
        self.check_room(tokens.len())?;
        let wanted = tokens.len().div_ceil(PAGE);
        if self.cache.available() < self.promised() + wanted {
            return Err(Error::new(super::KV_BUDGET, "the KV cache is in use").remedy("wait for running requests"));
        }
        let Some(pages) = self.cache.allocate(wanted) else {
            return Err(Error::new(super::KV_BUDGET, "the KV cache is in use"));
        };
        let mut outcome = self.forward.store.reserve(&pages).map_err(|cause| Error::new(IO, cause.to_string()));
        for (number, piece) in tokens.chunks(self.model.step_tokens).enumerate() {
            let before = number * self.model.step_tokens;
            if outcome.is_ok() {
                outcome = self.forward.run(&self.model, &[Chunk { tokens: piece, before, pages: &pages, adapter }]);
            }
            if outcome.is_ok() {
                let rows: Vec<usize> = (0..piece.len()).collect();
                self.forward.logits(&self.model, &rows, &|row, logits| with(before + row, logits));
            }
        }
        self.cache.release(&pages);
        outcome
    }
}
