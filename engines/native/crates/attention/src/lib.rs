//! The paged KV cache in memory and causal attention over it.
//!
//! A page holds 32 positions. Scores are chains of fused multiply-adds over the head dimension, the softmax runs
//! over the whole row in 16 lanes by position, outputs are chains over positions in order: the arithmetic of a row
//! is a function of the row and of the stored keys and values alone. Batch, shared pages, chunks of a prompt, tasks
//! and instruction set change no bit; the storage kind rounds keys and values when they are appended, and every
//! later read, also of the same step, sees the rounded ones.

mod attend;
mod half;
mod plan;
mod softmax;
mod store;
mod tile;
mod widen;

pub use attend::{attend, Scratch};
pub use plan::{Plan, SequenceRows};
pub use store::{KvStore, KvType, OutOfMemory};

/// Positions of a page.
pub const PAGE: usize = 32;
