//! Which pages of the KV cache hold which tokens.
//!
//! Bookkeeping only: a page is a number below the capacity, and the keys and values that belong to it live
//! elsewhere. A page holds [`PAGE`] tokens. Pages whose tokens are known form a radix tree, so that a
//! new sequence takes over the longest beginning that any earlier one has computed.
//!
//! # The tree
//! A node *is* a page. Below a whole page hang the pages that go on from it; a part-full page is always a leaf.
//! Each space (one adapter, one tree) has its own root, because the same tokens under another adapter have other
//! keys and values. The children of a node are sorted by their tokens, and **no child's tokens begin another's**:
//! - a whole block is found by binary search;
//! - the longest common beginning with any child stands beside the place where the block would be inserted;
//! - when a fuller page with the same beginning arrives, the one it replaces is the neighbour before it. It leaves
//!   the tree: everything it could answer the fuller page answers too.
//!
//! # A page's life
//! | state | references | in the tree | what happens next |
//! |---|---|---|---|
//! | free | 0 | no | [`PrefixCache::allocate`] hands it out with one reference |
//! | held | > 0 | no | the last release frees it |
//! | cached and used | > 0 | yes | the last release leaves it cached |
//! | cached | 0 | yes | a find takes a reference, or it is evicted |
//!
//! Evicted is always the least recently used unreferenced leaf, so a page never loses its ancestors. "Used" means
//! found, inserted again, or released; ties go to the lower page. Time is a counter of calls: equal call
//! sequences give equal pages.
//!
//! # What callers promise
//! - A page's slots that were inserted with their tokens never change again. The one holder that inserted a
//!   part-full page may append behind those tokens and insert it again; every other holder of that page
//!   copies the matched slots into a page of its own first.
//! - Whoever takes references ([`PrefixCache::find`], [`PrefixCache::allocate`], [`PrefixCache::retain`]) gives
//!   each back once. A broken promise is a defect of the caller and panics.

mod cache;
mod insert;
mod lookup;
mod pages;
mod statistics;
mod verify;

pub use cache::PrefixCache;
pub use insert::Cursor;
pub use lookup::Match;
pub use statistics::Statistics;

/// Tokens that one page holds.
pub const PAGE: usize = 32;
