//! Paged attention against an unpaged computation, bit by bit.

mod bits;
mod memory;
mod world;
