use crate::insert::Cursor;
use crate::pages::{common, ROOT};
use crate::{PrefixCache, PAGE};

/// The longest cached beginning of a sequence. It holds one reference to each page in it, which its owner gives
/// back with [`PrefixCache::release`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the references in it must be released"]
pub struct Match {
    /// Whole pages, in order: page i holds the tokens 32·i to 32·i + 31.
    pub pages: Vec<u32>,
    /// A page whose first tokens go on from there, and how many match (1 to 31). To extend them, copy them
    /// into a page of one's own and release this one.
    pub partial: Option<(u32, usize)>,
    /// Where the whole pages end in the tree, for [`PrefixCache::insert_at`].
    pub cursor: Cursor,
}

impl Match {
    /// Tokens that matched.
    pub fn tokens(&self) -> usize {
        self.pages.len() * PAGE + self.partial.map_or(0, |(_, tokens)| tokens)
    }
}

impl PrefixCache {
    /// The longest cached beginning of `tokens` in `space`. Pass all but the last token when the last one's logits
    /// are wanted. O(pages × log children).
    pub fn find(&mut self, space: u32, tokens: &[u32]) -> Match {
        self.clock += 1;
        let (pages, partial) = self.walk(space, tokens);
        let mut cursor = Cursor::new(space);
        for &page in &pages {
            self.use_now(page);
            cursor.advance(page, self.page(page).serial);
        }
        if let Some((page, _)) = partial {
            self.use_now(page);
        }
        let found = Match { pages, partial, cursor };
        self.statistics.lookups += 1;
        self.statistics.hits += u64::from(found.tokens() > 0);
        self.statistics.tokens_asked += tokens.len() as u64;
        self.statistics.tokens_hit += found.tokens() as u64;
        found
    }

    /// How many tokens `find` would match, without references, a new last use, or statistics.
    pub fn matching(&self, space: u32, tokens: &[u32]) -> usize {
        let (pages, partial) = self.walk(space, tokens);
        pages.len() * PAGE + partial.map_or(0, |(_, tokens)| tokens)
    }

    fn use_now(&mut self, page: u32) {
        self.retain(page);
        let clock = self.clock;
        self.page_mut(page).used = clock;
    }

    fn walk(&self, space: u32, tokens: &[u32]) -> (Vec<u32>, Option<(u32, usize)>) {
        let mut pages = Vec::new();
        let mut parent = ROOT;
        for block in tokens.chunks(PAGE) {
            let children = self.children(space, parent);
            match self.locate(children, block) {
                Ok(index) if block.len() == PAGE => {
                    parent = children[index];
                    pages.push(parent);
                }
                Ok(index) => return (pages, Some((children[index], block.len()))),
                Err(index) => return (pages, self.nearest(children, index, block)),
            }
        }
        (pages, None)
    }

    /// Among sorted blocks, none begins as `block` does for longer than the two beside its place.
    fn nearest(&self, children: &[u32], index: usize, block: &[u32]) -> Option<(u32, usize)> {
        let beside = |index: Option<usize>| {
            let &page = children.get(index?)?;
            Some((page, common(self.page(page).block(), block))).filter(|&(_, tokens)| tokens > 0)
        };
        match (beside(index.checked_sub(1)), beside(Some(index))) {
            (Some(before), Some(after)) => Some(if after.1 > before.1 { after } else { before }),
            (before, after) => before.or(after),
        }
    }
}
