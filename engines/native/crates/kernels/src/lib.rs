//! Arithmetic with one order of operations for every instruction set.
//!
//! Row kernels are one source compiled several times: rustc never reassociates floating point, so the
//! compilations agree bit by bit. The matrix products are written with intrinsics; see `gemm.rs` and
//! `gemm_block.rs` for why their bits agree too.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod amx_channel;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_channel;
mod bf16;
mod block_kind;
mod block_panels;
mod block_rows;
mod bytes;
mod channel_panels;
mod gemm;
mod gemm_block;
mod gemm_channel;
mod gemm_half;
mod gemm_tiles;
mod half;
mod isa;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod kinds;
mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_channel;
mod out;
mod pairs;
mod rows;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod token_rows;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(target_arch = "x86_64")]
mod vnni_channel;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod walk;

pub use bf16::{bf16_is_fast, gemm_bf16, Bf16Panels, Bf16Rows};
pub use block_kind::BlockKind;
pub use block_panels::{BlockPanels, Parallel};
pub use block_rows::{BlockRows, BlockRowsWriter, BLOCK};
pub use bytes::advise_huge_pages;
pub use channel_panels::ChannelPanels;
pub use gemm::{
    gemm, gemm_into, pack_columns, pack_left, pack_rows, panel_count, tile_rows, Left, Line, Panels, PANEL,
};
pub use gemm_block::gemm_block;
pub use gemm_channel::gemm_channel;
pub use gemm_half::{gemm_half, HalfKind, HalfPanels};
pub use half::{bf16_to_f32, f32_to_bf16, f32_to_half, half_to_f32};
pub use isa::Isa;
pub use math::{cos_sin, exp, exp_f64, ln, log_f64, power};
pub use out::Out;
pub use pairs::{
    gemm_pairs, interleave_pairs, pack_pair_columns, pack_pair_rows, pairs_are_fast, round_pairs, widen_pairs,
    PairLeft, PairLine,
};
pub use rows::*;
pub use token_rows::{TokenRows, TokenRowsWriter, MAX_CHANNEL_K};
