use std::cmp::Ordering;

use crate::{PrefixCache, PAGE};

/// Parent of the pages that begin a sequence.
pub(crate) const ROOT: u32 = u32::MAX;

/// What is known of one page.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub references: u32,
    /// Children that are referenced themselves or have such below them: this page cannot be evicted before.
    pub pinned_children: u32,
    /// Number of the insertion that put it into the tree; 0 while it is outside.
    pub serial: u64,
    /// Call that used it last.
    pub used: u64,
    pub parent: u32,
    pub space: u32,
    pub filled: u8,
    pub tokens: [u32; PAGE],
    pub children: Vec<u32>,
}

impl Page {
    pub const UNUSED: Self = Self {
        references: 0,
        pinned_children: 0,
        serial: 0,
        used: 0,
        parent: ROOT,
        space: 0,
        filled: 0,
        tokens: [0; PAGE],
        children: Vec::new(),
    };

    pub fn block(&self) -> &[u32] {
        &self.tokens[..usize::from(self.filled)]
    }

    pub fn cached(&self) -> bool {
        self.serial != 0
    }

    pub fn pinned(&self) -> bool {
        self.references > 0 || self.pinned_children > 0
    }

    /// Whether eviction may take it next.
    pub fn evictable(&self) -> bool {
        self.cached() && self.references == 0 && self.children.is_empty()
    }
}

impl PrefixCache {
    pub(crate) fn page(&self, page: u32) -> &Page {
        &self.pages[page as usize]
    }

    pub(crate) fn page_mut(&mut self, page: u32) -> &mut Page {
        &mut self.pages[page as usize]
    }

    pub(crate) fn children(&self, space: u32, parent: u32) -> &[u32] {
        if parent == ROOT {
            self.roots.get(&space).map_or(&[], Vec::as_slice)
        } else {
            &self.page(parent).children
        }
    }

    fn children_mut(&mut self, space: u32, parent: u32) -> &mut Vec<u32> {
        if parent == ROOT {
            self.roots.entry(space).or_default()
        } else {
            &mut self.page_mut(parent).children
        }
    }

    /// Where `block` stands among the children (`Ok`), or would stand (`Err`).
    pub(crate) fn locate(&self, children: &[u32], block: &[u32]) -> Result<usize, usize> {
        children.binary_search_by(|&child| compare(self.page(child).block(), block))
    }

    /// Puts a referenced page outside the tree below `parent`, at `index` of its children.
    pub(crate) fn attach(&mut self, space: u32, parent: u32, index: usize, page: u32, block: &[u32]) {
        if parent != ROOT {
            self.unlist(parent);
        }
        self.children_mut(space, parent).insert(index, page);
        self.serials += 1;
        let (serial, used) = (self.serials, self.clock);
        let entry = self.page_mut(page);
        entry.serial = serial;
        entry.used = used;
        entry.parent = parent;
        entry.space = space;
        entry.filled = 0;
        self.fill(page, block);
        self.cached += 1;
        self.idle += 1;
        self.pin(page);
        self.statistics.inserted += 1;
    }

    /// Gives a page its tokens, or more tokens after those it has.
    pub(crate) fn fill(&mut self, page: u32, block: &[u32]) {
        let entry = self.page_mut(page);
        entry.tokens[..block.len()].copy_from_slice(block);
        entry.filled = u8::try_from(block.len()).expect("a block is no longer than a page");
    }

    /// Takes a leaf out of the tree; free it is when nobody holds it.
    pub(crate) fn detach(&mut self, page: u32) {
        let (space, parent) = (self.page(page).space, self.page(page).parent);
        let index = self
            .locate(self.children(space, parent), self.page(page).block())
            .expect("a cached page stands among its parent's children");
        self.unlist(page);
        if self.page(page).pinned() {
            self.unpin(page);
        }
        let children = self.children_mut(space, parent);
        children.remove(index);
        if children.is_empty() {
            if parent == ROOT {
                self.roots.remove(&space);
            } else {
                self.enlist(parent);
            }
        }
        self.cached -= 1;
        self.idle -= 1;
        let entry = self.page_mut(page);
        entry.serial = 0;
        if entry.references == 0 {
            self.free.push(page);
        }
    }

    /// A cached page has become pinned: so has its parent, unless it was before.
    pub(crate) fn pin(&mut self, mut page: u32) {
        loop {
            self.idle -= 1;
            page = self.page(page).parent;
            if page == ROOT {
                return;
            }
            let entry = self.page_mut(page);
            let before = entry.pinned();
            entry.pinned_children += 1;
            if before {
                return;
            }
        }
    }

    /// A cached page is pinned no longer: nor is its parent, unless something else pins it.
    pub(crate) fn unpin(&mut self, mut page: u32) {
        loop {
            self.idle += 1;
            page = self.page(page).parent;
            if page == ROOT {
                return;
            }
            let entry = self.page_mut(page);
            entry.pinned_children -= 1;
            if entry.pinned() {
                return;
            }
        }
    }

    /// Offers the page for eviction, if it may be evicted.
    pub(crate) fn enlist(&mut self, page: u32) {
        if self.page(page).evictable() {
            self.leaves.insert((self.page(page).used, page));
        }
    }

    /// Withdraws the page from eviction. To be called before its references, children or time change.
    pub(crate) fn unlist(&mut self, page: u32) {
        if self.page(page).evictable() {
            self.leaves.remove(&(self.page(page).used, page));
        }
    }

    /// Notes that the page was used in the present call.
    pub(crate) fn touch(&mut self, page: u32) {
        self.unlist(page);
        let clock = self.clock;
        self.page_mut(page).used = clock;
        self.enlist(page);
    }
}

/// Order of blocks by tokens, a beginning before what goes on from it.
fn compare(left: &[u32], right: &[u32]) -> Ordering {
    let same = common(left, right);
    match (left.get(same), right.get(same)) {
        (Some(left), Some(right)) => left.cmp(right),
        _ => left.len().cmp(&right.len()),
    }
}

/// Tokens with which both begin.
pub(crate) fn common(left: &[u32], right: &[u32]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}
