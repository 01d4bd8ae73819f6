//! The cache against a model that keeps whole token paths in a list and searches all of it every time.

use std::collections::BTreeMap;

use cupel_cache::{Cursor, PrefixCache, PAGE};
use proptest::prelude::*;

#[derive(Clone)]
struct Entry {
    space: u32,
    /// All tokens from the sequence's beginning to the page's end.
    path: Vec<u32>,
    page: u32,
    used: u64,
    /// Which insertion made it: a page may come back with the same path.
    serial: u64,
}

struct Model {
    capacity: u32,
    fresh: u32,
    free: Vec<u32>,
    references: BTreeMap<u32, u32>,
    entries: Vec<Entry>,
    clock: u64,
    serial: u64,
}

impl Model {
    fn new(capacity: u32) -> Self {
        Self { capacity, fresh: 0, free: vec![], references: BTreeMap::new(), entries: vec![], clock: 0, serial: 0 }
    }

    fn count(&self, page: u32) -> u32 {
        self.references.get(&page).copied().unwrap_or(0)
    }

    fn below<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a Entry> {
        self.entries
            .iter()
            .filter(|other| other.space == entry.space && other.path.len() > entry.path.len())
            .filter(|other| other.path.starts_with(&entry.path))
    }

    fn available(&self) -> usize {
        let idle = self
            .entries
            .iter()
            .filter(|entry| self.count(entry.page) == 0 && self.below(entry).all(|other| self.count(other.page) == 0));
        self.free.len() + (self.capacity - self.fresh) as usize + idle.count()
    }

    fn allocate(&mut self, count: usize) -> Option<Vec<u32>> {
        if count > self.available() {
            return None;
        }
        let mut pages = vec![];
        for _ in 0..count {
            let page = if let Some(page) = self.free.pop() {
                page
            } else if self.fresh < self.capacity {
                self.fresh += 1;
                self.fresh - 1
            } else {
                let oldest = (0..self.entries.len())
                    .filter(|&i| self.count(self.entries[i].page) == 0 && self.below(&self.entries[i]).next().is_none())
                    .min_by_key(|&i| (self.entries[i].used, self.entries[i].page))
                    .expect("something is available");
                self.entries.remove(oldest).page
            };
            self.references.insert(page, 1);
            pages.push(page);
        }
        Some(pages)
    }

    fn longest(&self, space: u32, tokens: &[u32]) -> usize {
        let same = |path: &[u32]| path.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        self.entries.iter().filter(|entry| entry.space == space).map(|entry| same(&entry.path)).max().unwrap_or(0)
    }

    /// Notes what a find returned; the caller has checked that it is right.
    fn found(&mut self, pages: &[u32]) {
        self.clock += 1;
        for &page in pages {
            *self.references.entry(page).or_default() += 1;
            let clock = self.clock;
            self.entries.iter_mut().find(|entry| entry.page == page).expect("found pages are cached").used = clock;
        }
    }

    /// `from`: whole pages to leave alone and the insertion that made the last of them, while that one stands.
    fn insert(&mut self, space: u32, tokens: &[u32], pages: &[u32], from: &mut (usize, u64)) {
        self.clock += 1;
        if !self.entries.iter().any(|entry| entry.serial == from.1) {
            *from = (0, 0);
        }
        let begin = from.0;
        for (index, &page) in pages.iter().enumerate().take(tokens.len().div_ceil(PAGE)).skip(begin) {
            let start = index * PAGE;
            let path = &tokens[..tokens.len().min(start + PAGE)];
            // Paths of the same page number: those that end within this page.
            let within = |entry: &Entry| entry.space == space && entry.path.len() > start;
            let within = |entry: &Entry| within(entry) && entry.path.len() <= start + PAGE;
            let covering = self.entries.iter_mut().filter(|entry| within(entry) && entry.path.starts_with(path));
            if let Some(entry) = covering.min_by(|left, right| left.path.cmp(&right.path)) {
                entry.used = self.clock;
                if path.len() == start + PAGE {
                    *from = (index + 1, entry.serial);
                }
                continue;
            }
            let shorter = self.entries.iter().position(|entry| within(entry) && path.starts_with(&entry.path));
            let grown =
                shorter.map(|at| &self.entries[at]).filter(|entry| entry.page == page).map(|entry| entry.serial);
            self.serial += 1;
            let serial = grown.unwrap_or(self.serial);
            if path.len() == start + PAGE {
                *from = (index + 1, serial);
            }
            let entry = Entry { space, path: path.to_vec(), page, used: self.clock, serial };
            match shorter {
                Some(at) => {
                    let old = std::mem::replace(&mut self.entries[at], entry).page;
                    if old != page && self.count(old) == 0 {
                        self.free.push(old);
                    }
                }
                None => self.entries.push(entry),
            }
        }
    }

    fn release(&mut self, pages: &[u32]) {
        self.clock += 1;
        for &page in pages {
            let count = self.references.get_mut(&page).expect("released pages are referenced");
            *count -= 1;
            let left = *count;
            let clock = self.clock;
            match self.entries.iter_mut().find(|entry| entry.page == page) {
                Some(entry) => entry.used = clock,
                None if left == 0 => self.free.push(page),
                None => {}
            }
        }
    }
}

/// A sequence under way: as a scheduler holds it.
struct Running {
    space: u32,
    tokens: Vec<u32>,
    pages: Vec<u32>,
    cursor: Cursor,
    /// The model's cursor.
    from: (usize, u64),
}

#[derive(Debug, Clone)]
enum Action {
    /// Begins a sequence: space, family of beginnings, length, where it leaves the family.
    Start(u32, u32, usize, usize),
    /// A running sequence grows by so many tokens of this value, and is inserted if the flag says so.
    Grow(usize, usize, u32, bool),
    Finish(usize),
    /// Takes pages without telling their tokens, and gives them back.
    Borrow(usize),
    ClearSpace(u32),
    Clear,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (0u32..2, 0u32..3, 0usize..200, 0usize..200).prop_map(|(s, f, l, d)| Action::Start(s, f, l, d)),
        12 => (0usize..8, 1usize..40, 0u32..3, prop::bool::weighted(0.7))
            .prop_map(|(i, n, t, told)| Action::Grow(i, n, t, told)),
        7 => (0usize..8).prop_map(Action::Finish),
        2 => (0usize..24).prop_map(Action::Borrow),
        1 => (0u32..2).prop_map(Action::ClearSpace),
        1 => Just(Action::Clear),
    ]
}

/// What a page's slots hold: the whole beginning that led to the token, as a number. A wrong page or a slot
/// written by another sequence shows.
fn content(space: u32, tokens: &[u32]) -> u64 {
    tokens.iter().fold(u64::from(space) + 17, |hash, &token| {
        (hash ^ u64::from(token + 1)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23)
    })
}

struct World {
    cache: PrefixCache,
    model: Model,
    memory: Vec<[u64; PAGE]>,
    running: Vec<Running>,
    log: Vec<u32>,
    cursors: bool,
}

impl World {
    fn new(capacity: usize, cursors: bool) -> Self {
        Self {
            cache: PrefixCache::new(capacity),
            model: Model::new(capacity as u32),
            memory: vec![[0; PAGE]; capacity],
            running: vec![],
            log: vec![],
            cursors,
        }
    }

    fn allocate(&mut self, count: usize) -> Option<Vec<u32>> {
        let before: Vec<u32> = (0..self.cache.capacity() as u32).map(|page| self.cache.references(page)).collect();
        let pages = self.cache.allocate(count);
        assert_eq!(pages, self.model.allocate(count));
        for &page in pages.iter().flatten() {
            assert_eq!(before[page as usize], 0, "a referenced page was handed out");
            assert!(!self.cache.is_cached(page));
            self.memory[page as usize] = [u64::MAX; PAGE];
        }
        self.log.extend(pages.iter().flatten());
        pages
    }

    fn insert(&mut self, index: usize) {
        let Running { space, tokens, pages, cursor, from } = &mut self.running[index];
        if self.cursors {
            self.cache.insert_at(cursor, tokens, pages);
            self.model.insert(*space, tokens, pages, from);
            assert_eq!(cursor.pages(), from.0);
        } else {
            self.cache.insert(*space, tokens, pages);
            self.model.insert(*space, tokens, pages, &mut (0, 0));
        }
    }

    fn start(&mut self, space: u32, tokens: Vec<u32>) {
        let expected = self.model.longest(space, &tokens);
        assert_eq!(self.cache.matching(space, &tokens), expected);
        let found = self.cache.find(space, &tokens);
        assert_eq!(found.tokens(), expected, "find returns the longest beginning");
        assert!(found.partial.is_none_or(|(_, count)| (1..PAGE).contains(&count)));
        for at in 0..expected {
            let page = found.pages.get(at / PAGE).copied().or(found.partial.map(|(page, _)| page)).unwrap();
            let held = self.memory[page as usize][at % PAGE];
            assert_eq!(held, content(space, &tokens[..=at]), "token {at} of page {page} is another's");
        }
        let taken: Vec<u32> = found.pages.iter().copied().chain(found.partial.map(|(page, _)| page)).collect();
        self.model.found(&taken);
        self.log.extend(&taken);
        let whole = found.pages.len();
        let Some(own) = self.allocate(tokens.len().div_ceil(PAGE) - whole) else {
            self.release(&taken);
            return;
        };
        if let Some((page, count)) = found.partial {
            let (from, to) = (self.memory[page as usize], own[0] as usize);
            self.memory[to][..count].copy_from_slice(&from[..count]);
            self.release(&[page]);
        }
        let pages: Vec<u32> = found.pages.iter().copied().chain(own).collect();
        for at in expected..tokens.len() {
            self.memory[pages[at / PAGE] as usize][at % PAGE] = content(space, &tokens[..=at]);
        }
        let last = self.model.entries.iter().find(|entry| found.pages.last() == Some(&entry.page));
        let from = last.map_or((0, 0), |entry| (whole, entry.serial));
        self.running.push(Running { space, tokens, pages, cursor: found.cursor, from });
        self.insert(self.running.len() - 1);
    }

    fn grow(&mut self, index: usize, count: usize, token: u32, told: bool) {
        for _ in 0..count {
            let running = &self.running[index];
            if running.tokens.len() == running.pages.len() * PAGE {
                let Some(more) = self.allocate(1) else { return self.finish(index) };
                self.running[index].pages.extend(more);
            }
            let running = &mut self.running[index];
            let at = running.tokens.len();
            running.tokens.push(token);
            let page = running.pages[at / PAGE] as usize;
            self.memory[page][at % PAGE] = content(running.space, &running.tokens);
            if told {
                self.insert(index);
            }
        }
    }

    fn finish(&mut self, index: usize) {
        let running = self.running.remove(index);
        self.release(&running.pages);
    }

    fn release(&mut self, pages: &[u32]) {
        self.cache.release(pages);
        self.model.release(pages);
    }

    fn apply(&mut self, action: &Action) {
        match *action {
            Action::Start(space, family, length, leave) => {
                let tokens = (0..length).map(|i| if i < leave { family } else { (i as u32 * 7 + family) % 3 });
                self.start(space, tokens.collect());
            }
            Action::Grow(index, count, token, told) if index < self.running.len() => {
                self.grow(index, count, token, told);
            }
            Action::Finish(index) if index < self.running.len() => self.finish(index),
            Action::Borrow(count) => {
                if let Some(pages) = self.allocate(count) {
                    self.release(&pages);
                }
            }
            Action::ClearSpace(space) => self.forget(Some(space)),
            Action::Clear => self.forget(None),
            _ => {}
        }
    }

    fn forget(&mut self, space: Option<u32>) {
        // The order in which pages become free is the cache's own affair, but pages must stay comparable:
        // everything unreferenced is drawn once and given back in one order.
        match space {
            Some(space) => self.cache.clear_space(space),
            None => self.cache.clear(),
        }
        let gone = |entry: &Entry| space.is_none_or(|space| entry.space == space);
        let entries = std::mem::take(&mut self.model.entries);
        let (removed, kept): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(gone);
        self.model.entries = kept;
        let freed = removed.iter().map(|entry| entry.page).filter(|&page| self.model.count(page) == 0);
        self.model.free.extend(freed.collect::<Vec<u32>>());
        let count = self.model.free.len();
        let mut drawn = self.cache.allocate(count).expect("as many pages are free");
        drawn.sort_unstable();
        self.model.free.sort_unstable();
        assert_eq!(drawn, self.model.free, "clearing frees the pages that nobody holds");
        self.cache.release(&drawn);
        self.model.clock += 1;
    }

    fn check(&self) {
        self.cache.verify().unwrap();
        assert_eq!(self.cache.available(), self.model.available());
        for page in 0..self.cache.capacity() as u32 {
            assert_eq!(self.cache.references(page), self.model.count(page), "references of page {page}");
            let cached = self.model.entries.iter().any(|entry| entry.page == page);
            assert_eq!(self.cache.is_cached(page), cached, "page {page} in the tree");
        }
        let counts = self.cache.statistics();
        assert_eq!(counts.cached_pages, self.model.entries.len());
        assert_eq!(counts.free_pages, self.model.free.len() + (self.model.capacity - self.model.fresh) as usize);
        let referenced = self.model.references.values().filter(|&&count| count > 0).count();
        assert_eq!(counts.referenced_pages, referenced);
    }

    fn end(mut self) -> Vec<u32> {
        while !self.running.is_empty() {
            self.finish(0);
        }
        self.check();
        assert_eq!(self.cache.available(), self.cache.capacity(), "a page has leaked");
        let all = self.allocate(self.cache.capacity()).expect("every page can be had back");
        let mut sorted = all.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), self.cache.capacity());
        assert_eq!(self.cache.statistics().cached_pages, 0);
        self.log
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_the_models(
        capacity in 1usize..24,
        cursors: bool,
        actions in prop::collection::vec(action(), 1..60),
    ) {
        let mut world = World::new(capacity, cursors);
        for action in &actions {
            world.apply(action);
            world.check();
        }
        world.end();
    }

    #[test]
    fn equal_calls_give_equal_pages(capacity in 1usize..24, actions in prop::collection::vec(action(), 1..60)) {
        let mut logs = vec![];
        for _ in 0..2 {
            let mut world = World::new(capacity, false);
            actions.iter().for_each(|action| world.apply(action));
            logs.push(world.end());
        }
        prop_assert_eq!(&logs[0], &logs[1]);
    }
}

/// A small generator for long runs, so that they are the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn a_long_run_under_pressure_keeps_to_the_model() {
    long_run(false);
}

#[test]
fn a_long_run_with_cursors_keeps_to_the_model() {
    long_run(true);
}

fn long_run(cursors: bool) {
    let mut numbers = Numbers(3);
    let mut world = World::new(40, cursors);
    for step in 0..12_000 {
        let index = numbers.below(8) as usize;
        let action = match numbers.below(100) {
            0..=29 => {
                let (space, family) = (numbers.below(2) as u32, numbers.below(3) as u32);
                Action::Start(space, family, numbers.below(300) as usize, numbers.below(300) as usize)
            }
            30..=69 => Action::Grow(index, 1 + numbers.below(40) as usize, numbers.below(3) as u32, step % 3 > 0),
            70..=95 => Action::Finish(index),
            96..=98 => Action::Borrow(numbers.below(41) as usize),
            _ => Action::ClearSpace(numbers.below(2) as u32),
        };
        world.apply(&action);
        if step % 7 == 0 {
            world.check();
        }
    }
    assert!(world.cache.statistics().evictions > 1000 && world.cache.statistics().superseded > 100);
    world.end();
}
