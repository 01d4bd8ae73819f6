use crate::pages::ROOT;
use crate::{PrefixCache, PAGE};

/// Where the whole pages of a sequence end in the tree, so that inserting the next page need not walk there again.
/// A cursor that has become stale (its page was evicted or the tree cleared) costs a walk, never a wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    space: u32,
    page: u32,
    serial: u64,
    depth: usize,
}

impl Cursor {
    /// At the root of a space.
    pub fn new(space: u32) -> Self {
        Self { space, page: ROOT, serial: 0, depth: 0 }
    }

    /// Whole pages behind it.
    pub fn pages(&self) -> usize {
        self.depth
    }

    pub(crate) fn advance(&mut self, page: u32, serial: u64) {
        self.page = page;
        self.serial = serial;
        self.depth += 1;
    }
}

impl PrefixCache {
    /// Makes the pages of a sequence findable: page i holds the tokens 32·i to 32·i + 31, the last may be part
    /// full. Pages behind the last token are ignored. The caller keeps its references. Where the tree has the same
    /// tokens already, the tree's page stays and the caller's stays outside; inserting again changes nothing.
    ///
    /// # Panics
    /// When `pages` are too few for `tokens`, or when a page that has to enter the tree or is extended there has no
    /// reference or is in the tree at another place.
    pub fn insert(&mut self, space: u32, tokens: &[u32], pages: &[u32]) {
        self.insert_at(&mut Cursor::new(space), tokens, pages);
    }

    /// As `insert` in the cursor's space, from the cursor on. `tokens` and `pages` are those of the whole sequence,
    /// whose beginning up to the cursor must be the one the cursor came from. O(log children) when at most one
    /// page is new.
    ///
    /// # Panics
    /// As `insert`.
    pub fn insert_at(&mut self, cursor: &mut Cursor, tokens: &[u32], pages: &[u32]) {
        assert!(
            pages.len() >= tokens.len().div_ceil(PAGE),
            "{} tokens are inserted with {} pages",
            tokens.len(),
            pages.len()
        );
        self.clock += 1;
        self.settle(cursor);
        let rest = tokens.get(cursor.depth * PAGE..).unwrap_or_default();
        let first = cursor.depth.min(pages.len());
        for (block, &page) in rest.chunks(PAGE).zip(&pages[first..]) {
            let page = self.place(cursor.space, cursor.page, block, page);
            if block.len() == PAGE {
                cursor.advance(page, self.page(page).serial);
            }
        }
    }

    /// As `insert_at`; where the tree has other pages for whole blocks, these take the place of the caller's in
    /// `pages`, referenced, and the caller's are released. Two sequences that computed the same beginning at the
    /// same time thereby give one copy back. Pages before the cursor are exchanged only together with the page at
    /// it. The caller must not be reading the pages during the call. Returns how many pages were exchanged.
    ///
    /// # Panics
    /// As `insert`, when an exchanged page has no reference, and when the pages end before the cursor.
    pub fn share_at(&mut self, cursor: &mut Cursor, tokens: &[u32], pages: &mut [u32]) -> usize {
        let before = *cursor;
        self.insert_at(cursor, tokens, pages);
        assert!(cursor.depth <= pages.len(), "{} pages are shared behind a cursor at {}", pages.len(), cursor.depth);
        let mut exchanged = 0;
        let mut page = cursor.page;
        for index in (0..cursor.depth).rev() {
            if index < before.depth && pages[index] == page {
                break;
            }
            if pages[index] != page {
                self.retain(page);
                self.release(&[pages[index]]);
                pages[index] = page;
                exchanged += 1;
            }
            page = self.page(page).parent;
        }
        exchanged
    }

    /// Moves a stale cursor to the root.
    fn settle(&self, cursor: &mut Cursor) {
        let stands = cursor.page == ROOT
            || self.pages.get(cursor.page as usize).is_some_and(|entry| entry.serial == cursor.serial);
        if !stands {
            *cursor = Cursor::new(cursor.space);
        }
    }

    /// The page that holds `block` below `parent` from now on: the tree's, or `page`.
    fn place(&mut self, space: u32, parent: u32, block: &[u32], page: u32) -> u32 {
        let children = self.children(space, parent);
        let (index, shorter) = match self.locate(children, block) {
            Ok(index) => {
                let page = children[index];
                self.touch(page);
                return page;
            }
            Err(index) => {
                if let Some(&after) = children.get(index) {
                    if self.page(after).block().starts_with(block) {
                        self.touch(after);
                        return after;
                    }
                }
                let before = index.checked_sub(1).map(|index| children[index]);
                (index, before.filter(|&before| block.starts_with(self.page(before).block())))
            }
        };
        if shorter == Some(page) {
            assert!(self.page(page).references > 0, "page {page} is extended without a reference");
            self.fill(page, block);
            return page;
        }
        let outside = self.pages.get(page as usize).is_some_and(|entry| entry.references > 0 && !entry.cached());
        assert!(outside, "page {page} is inserted while it is free or cached at another place");
        match shorter {
            Some(shorter) => {
                // The new page first: the parent must not become evictable in between.
                self.attach(space, parent, index, page, block);
                self.detach(shorter);
                self.statistics.superseded += 1;
            }
            None => self.attach(space, parent, index, page, block),
        }
        page
    }
}
