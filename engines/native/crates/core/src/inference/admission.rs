//! Who may join the running batch: by places, by memory, and not while another reads what both begin with.

use cupel_attention::PAGE;
use cupel_cache::Cursor;
use cupel_files::Error;

use super::engine::Engine;
use super::request::{Event, Finish};
use super::sequence::Sequence;

/// Fewer common tokens are not worth waiting for another request to read them.
const WORTH_WAITING: usize = 16;
/// Waiting requests that a step looks at beyond those that it admits.
const LOOK_AHEAD: usize = 64;
/// Sequences that are only read, at most at a time.
const READINGS: usize = 256;

impl Engine {
    /// Pages that active sequences may still ask for.
    pub(super) fn promised(&self) -> usize {
        self.active.iter().map(|sequence| sequence.most.div_ceil(PAGE).saturating_sub(sequence.pages.len())).sum()
    }

    pub(super) fn admit(&mut self, events: &mut Vec<Event>) {
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

    pub(super) fn release(&mut self, mut sequence: Sequence) {
        self.let_go(&mut sequence);
    }

    pub(super) fn fail(&mut self, sequence: Sequence, error: Error, events: &mut Vec<Event>) {
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
}
