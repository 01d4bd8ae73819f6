use std::collections::{BTreeMap, BTreeSet};

use crate::pages::Page;
use crate::Statistics;

/// Reference counts of pages, the tree of known beginnings, and eviction. See the crate's head.
#[derive(Debug, Clone)]
pub struct PrefixCache {
    pub(crate) capacity: u32,
    /// Pages handed out at least once; grows to the capacity, so that a large budget costs nothing unused.
    pub(crate) pages: Vec<Page>,
    /// Freed pages, taken from the end.
    pub(crate) free: Vec<u32>,
    /// Pages that begin a sequence, by space.
    pub(crate) roots: BTreeMap<u32, Vec<u32>>,
    /// Unreferenced leaves by last use.
    pub(crate) leaves: BTreeSet<(u64, u32)>,
    /// Cached pages that nothing pins: eviction reaches all of them.
    pub(crate) idle: usize,
    pub(crate) cached: usize,
    pub(crate) clock: u64,
    pub(crate) serials: u64,
    pub(crate) statistics: Statistics,
}

impl PrefixCache {
    /// A cache of `pages` pages, all free. Memory is taken as pages are used: about 200 bytes each.
    ///
    /// # Panics
    /// When `pages` does not fit a page number (2³² - 1 pages and more).
    pub fn new(pages: usize) -> Self {
        let capacity = u32::try_from(pages).ok().filter(|&pages| pages < u32::MAX);
        Self {
            capacity: capacity.expect("fewer pages than page numbers"),
            pages: Vec::new(),
            free: Vec::new(),
            roots: BTreeMap::new(),
            leaves: BTreeSet::new(),
            idle: 0,
            cached: 0,
            clock: 0,
            serials: 0,
            statistics: Statistics::default(),
        }
    }

    /// Pages in all.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Pages that `allocate` can hand out now: free ones and those that eviction reaches.
    pub fn available(&self) -> usize {
        self.unused() + self.idle
    }

    fn unused(&self) -> usize {
        self.free.len() + self.capacity() - self.pages.len()
    }

    /// `count` pages with one reference each, evicting the least recently used unreferenced leaves where free
    /// pages do not suffice. `None`, and nothing evicted, when fewer are available. O(log n) a page.
    #[must_use]
    pub fn allocate(&mut self, count: usize) -> Option<Vec<u32>> {
        if count > self.available() {
            return None;
        }
        let pages = (0..count).map(|_| self.allocate_one()).collect();
        Some(pages)
    }

    fn allocate_one(&mut self) -> u32 {
        if self.free.is_empty() && self.pages.len() < self.capacity() {
            self.pages.push(Page { references: 1, ..Page::UNUSED });
            return (self.pages.len() - 1) as u32;
        }
        if self.free.is_empty() {
            let &(_, page) = self.leaves.first().expect("an unpinned tree has an unreferenced leaf");
            self.detach(page);
            self.statistics.evictions += 1;
        }
        let page = self.free.pop().expect("a page was free or evicted");
        self.page_mut(page).references = 1;
        page
    }

    /// One more reference to a page that is cached or referenced already.
    ///
    /// # Panics
    /// When the page is free: somebody else may be given it at any time.
    pub fn retain(&mut self, page: u32) {
        let known = self.pages.get(page as usize).is_some_and(|entry| entry.references > 0 || entry.cached());
        assert!(known, "page {page} is retained while it is free");
        self.unlist(page);
        let entry = self.page_mut(page);
        let before = entry.pinned();
        entry.references += 1;
        if entry.cached() && !before {
            self.pin(page);
        }
    }

    /// Gives one reference to each page back. A cached page stays cached, counts as used now, and can be evicted;
    /// another becomes free with its last reference.
    ///
    /// # Panics
    /// When a page has no reference.
    pub fn release(&mut self, pages: &[u32]) {
        self.clock += 1;
        for &page in pages {
            self.release_one(page);
        }
    }

    fn release_one(&mut self, page: u32) {
        let known = self.pages.get(page as usize).is_some_and(|entry| entry.references > 0);
        assert!(known, "page {page} is released without a reference");
        let clock = self.clock;
        let entry = self.page_mut(page);
        entry.references -= 1;
        entry.used = clock;
        if entry.references > 0 {
            return;
        }
        if !entry.cached() {
            self.free.push(page);
            return;
        }
        if !entry.pinned() {
            self.unpin(page);
        }
        self.enlist(page);
    }

    /// References to the page; 0 also for a number that is no page.
    pub fn references(&self, page: u32) -> u32 {
        self.pages.get(page as usize).map_or(0, |entry| entry.references)
    }

    /// Whether the page is in the tree.
    pub fn is_cached(&self, page: u32) -> bool {
        self.pages.get(page as usize).is_some_and(Page::cached)
    }

    /// Forgets all tokens. Referenced pages stay their holders'.
    pub fn clear(&mut self) {
        self.forget(|_| true);
    }

    /// Forgets the tokens of one space, for instance when its adapter goes.
    pub fn clear_space(&mut self, space: u32) {
        self.forget(|candidate| candidate == space);
    }

    fn forget(&mut self, chosen: impl Fn(u32) -> bool) {
        // Children are newer than their parents, so the newest page of a space is a leaf.
        let mut pages: Vec<(u64, u32)> = (0u32..)
            .zip(&self.pages)
            .filter(|(_, entry)| entry.cached() && chosen(entry.space))
            .map(|(page, entry)| (entry.serial, page))
            .collect();
        pages.sort_unstable();
        for &(_, page) in pages.iter().rev() {
            self.detach(page);
        }
    }

    /// Counts since the start, and what is held now.
    pub fn statistics(&self) -> Statistics {
        let free_pages = self.unused();
        let unreferenced = self.pages.iter().filter(|entry| entry.cached() && entry.references == 0).count();
        Statistics {
            cached_pages: self.cached,
            referenced_pages: self.capacity() - free_pages - unreferenced,
            free_pages,
            ..self.statistics
        }
    }
}
