//! The scheduler: takes requests at any time and computes them together, step by step. A step reads a bounded number
//! of tokens: one of every sequence that generates, the rest from prompts. Results depend on nothing but the
//! request: who is admitted when only decides how fast they come.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use cupel_attention::PAGE;
use cupel_cache::PrefixCache;
use cupel_files::{Error, IO};
use cupel_kernels::{ln, log_sum};
use cupel_sampling::{arg_max, Peak};

use super::choice::{choose, take_choice};
use super::forward::{Chunk, Forward};
use super::masks::{MaskJob, Masks};
use super::request::{Event, Finish, GenerateRequest, Generated, ScoreItem, Timing};
use super::scoring::{Group, Target};
use super::sequence::{Sequence, Work};
use super::weights::Model;
use crate::pool::SharedMut;

// The bookkeeping and the memory count pages alike.
const _: () = assert!(PAGE == cupel_cache::PAGE);

/// Computes requests of one model. Not shared: one thread drives it.
pub struct Engine {
    pub(super) model: Arc<Model>,
    pub(super) forward: Forward,
    pub(super) cache: PrefixCache,
    masks: Masks,
    pub(super) waiting: VecDeque<Sequence>,
    pub(super) active: Vec<Sequence>,
    pub(super) groups: BTreeMap<u64, Group>,
    /// What was decided at submission.
    decided: Vec<Event>,
    pub(super) max_batch: usize,
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
