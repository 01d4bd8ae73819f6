/// What the cache has done since it was made, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Calls of `find`.
    pub lookups: u64,
    /// Of these, calls that matched at least one token.
    pub hits: u64,
    /// Tokens that were asked for.
    pub tokens_asked: u64,
    /// Of these, tokens that were matched.
    pub tokens_hit: u64,
    /// Pages that entered the tree.
    pub inserted: u64,
    /// Part-full pages that left the tree because a fuller one came.
    pub superseded: u64,
    /// Pages that left the tree to be handed out again.
    pub evictions: u64,
    /// Pages in the tree now.
    pub cached_pages: usize,
    /// Pages with a reference now, in the tree or not.
    pub referenced_pages: usize,
    /// Pages that are neither in the tree nor referenced now.
    pub free_pages: usize,
}
