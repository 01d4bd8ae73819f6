//! A weight matrix in the form in which it is multiplied.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use cupel_files::quant::{channel_codes, channel_scale, encode_row, is_finite};
use cupel_files::{Error, Result, TensorType, TensorView, CONFIG_INVALID, TENSOR_NONFINITE};
use cupel_kernels::{
    gemm_bf16, gemm_block, gemm_channel, gemm_half, gemm_into, pack_rows, panel_count, Bf16Panels, Bf16Rows, BlockKind,
    BlockPanels, BlockRows, ChannelPanels, HalfKind, HalfPanels, Isa, Left, Out, Panels, TokenRows, BLOCK,
    MAX_CHANNEL_K,
};

use super::options::WeightType;
use crate::pool::{Pool, SharedMut};

/// Rows of one task that looks for numbers that are not finite.
const CHECKED_ROWS: usize = 64;

/// Packed weights; each kind has arithmetic of its own, equal on every instruction set.
enum Store {
    /// f32 chains.
    F32(Panels),
    /// f16 or bf16 in memory, the same f32 chains.
    Half(HalfPanels),
    /// Integer blocks; the input is quantized by blocks of 32.
    Block(BlockPanels),
    /// int8 with a scale an output; the input is quantized with a scale a row (W8A8).
    Channel(ChannelPanels),
    /// Both sides rounded to bf16, summed in pairs: the arithmetic of AMX tiles, a compute type of its own.
    Bf16(Bf16Panels),
}

/// `y[n] = W[n, k] · x[k]`.
pub struct Linear {
    store: Store,
    /// Outputs.
    pub n: usize,
}

/// Rows of an input, quantized where the weights want it.
#[derive(Default)]
pub struct Quantized {
    block: BlockRows,
    token: TokenRows,
    bf16: Bf16Rows,
}

impl Quantized {
    /// Quantizes `rows` rows of `x`, `stride` apart, in the forms that `linears` multiply.
    pub fn prepare<'a>(
        &mut self,
        isa: Isa,
        linears: impl Iterator<Item = &'a Linear> + Clone,
        x: &[f32],
        stride: usize,
        rows: usize,
        k: usize,
    ) {
        if linears.clone().any(|linear| matches!(linear.store, Store::Block(_))) {
            self.block.quantize(isa, x, stride, rows, k);
        }
        if linears.clone().any(|linear| matches!(linear.store, Store::Channel(_))) {
            self.token.quantize(isa, x, stride, rows, k);
        }
        let mut linears = linears;
        if linears.any(|linear| matches!(linear.store, Store::Bf16(_))) {
            self.bf16.round(isa, x, stride, rows, k);
        }
    }
}

/// Rows to multiply: as they are, and as `Quantized::prepare` left them.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    pub x: &'a [f32],
    pub stride: usize,
    pub rows: usize,
    pub quantized: &'a Quantized,
}

impl Linear {
    /// Packs a tensor, converted to `weights` where that asks for it.
    pub fn load(pool: &mut Pool, view: &TensorView<'_>, weights: WeightType) -> Result<Self> {
        let (n, k) = (view.rows, view.columns);
        let kind = view.kind;
        // Looked at on all threads; the error is then made by who knows how to name the place.
        let odd = AtomicBool::new(kind == TensorType::ChannelInt8);
        pool.run(n.div_ceil(CHECKED_ROWS), &|task| {
            let rows = task * CHECKED_ROWS..(task * CHECKED_ROWS + CHECKED_ROWS).min(n);
            if rows.into_iter().any(|row| !is_finite(kind, view.row(row))) {
                odd.store(true, Ordering::Relaxed);
            }
        });
        if odd.into_inner() {
            view.check_finite()?;
        }
        if k > MAX_CHANNEL_K && (weights == WeightType::W8A8 || kind == TensorType::ChannelInt8) {
            let message = format!("rows of {k} numbers are too long for w8a8, which takes {MAX_CHANNEL_K}");
            return Err(Error::new(CONFIG_INVALID, message).at(view.place()).remedy("use weights q8_0"));
        }
        let mut parallel = |count: usize, task: &(dyn Fn(usize) + Sync)| pool.run(count, task);
        let store = match (weights, block_kind(kind)) {
            (WeightType::AsStored, Some(kind)) => {
                Store::Block(BlockPanels::pack(kind, k, n, &|row| view.row(row), &mut parallel))
            }
            (WeightType::AsStored, None) if kind == TensorType::ChannelInt8 => {
                Store::Channel(ChannelPanels::pack(k, n, &|row| view.row(row), &|row| view.scale(row), &mut parallel))
            }
            (WeightType::AsStored, None) if matches!(kind, TensorType::F16 | TensorType::Bf16) => {
                let kind = if kind == TensorType::F16 { HalfKind::F16 } else { HalfKind::Bf16 };
                Store::Half(HalfPanels::pack(kind, k, n, &|row| view.row(row), &mut parallel))
            }
            (WeightType::AsStored | WeightType::F32, _) => Store::F32(pack_f32(pool, view)),
            (WeightType::Q8_0, _) => {
                let rows = convert(pool, n, |row| {
                    let mut values = vec![0.0; k.next_multiple_of(BLOCK)];
                    view.decode_row(row, &mut values[..k]);
                    let mut bytes = Vec::new();
                    encode_row(TensorType::Q8_0, &values, &mut bytes);
                    bytes
                });
                if let Some(row) = rows.iter().position(|row| !is_finite(TensorType::Q8_0, row)) {
                    let message = format!("row {row} is too large for the half-precision scales of q8_0");
                    return Err(Error::new(TENSOR_NONFINITE, message)
                        .at(view.place())
                        .remedy("use weights f32 or w8a8"));
                }
                let mut parallel = |count: usize, task: &(dyn Fn(usize) + Sync)| pool.run(count, task);
                Store::Block(BlockPanels::pack(BlockKind::Q8_0, k, n, &|row| &rows[row], &mut parallel))
            }
            (WeightType::Bf16, _) => {
                Store::Bf16(Bf16Panels::pack(k, n, &|row, out| view.decode_row(row, out), &mut parallel))
            }
            (WeightType::W8A8, _) => {
                let rows = convert(pool, n, |row| {
                    let mut values = vec![0.0; k];
                    view.decode_row(row, &mut values);
                    let scale = channel_scale(&values);
                    (channel_codes(&values, scale), scale)
                });
                let mut parallel = |count: usize, task: &(dyn Fn(usize) + Sync)| pool.run(count, task);
                Store::Channel(ChannelPanels::pack(k, n, &|row| &rows[row].0, &|row| rows[row].1, &mut parallel))
            }
        };
        Ok(Self { store, n })
    }

    /// Panels of 16 outputs.
    pub fn panels(&self) -> usize {
        panel_count(self.n)
    }

    /// Whether products are exact sums of f32 chains, so that the KV cache should not round either.
    pub fn is_float(&self) -> bool {
        matches!(self.store, Store::F32(_) | Store::Half(_))
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        match &self.store {
            Store::F32(panels) => panels.lines.len() * 64,
            Store::Half(panels) => panels.bytes(),
            Store::Block(panels) => panels.bytes(),
            Store::Channel(panels) => panels.bytes(),
            Store::Bf16(panels) => panels.bytes(),
        }
    }

    /// Writes (or adds) the outputs of `panels` for all rows of `input`: row `i` to row `i` of `out`, output `j` to
    /// column `j`.
    ///
    /// # Safety
    /// Nobody else may touch these columns of these rows.
    pub unsafe fn apply(&self, isa: Isa, input: Input<'_>, panels: Range<usize>, out: Out<'_>, accumulate: bool) {
        let rows = 0..input.rows;
        match &self.store {
            Store::F32(store) => {
                gemm_into(isa, Left::rows(input.x, input.stride), rows, store, panels, out, accumulate)
            }
            Store::Half(store) => {
                gemm_half(isa, Left::rows(input.x, input.stride), rows, store, panels, out, accumulate)
            }
            Store::Block(store) => gemm_block(isa, &input.quantized.block, rows, store, panels, out, accumulate),
            Store::Bf16(store) => gemm_bf16(isa, &input.quantized.bf16, rows, store, panels, out, accumulate),
            Store::Channel(store) => gemm_channel(isa, &input.quantized.token, rows, store, panels, out, accumulate),
        }
    }

    /// As `apply` for all outputs.
    ///
    /// # Safety
    /// Nobody else may touch these rows.
    pub unsafe fn apply_all(&self, isa: Isa, input: Input<'_>, out: Out<'_>, accumulate: bool) {
        self.apply(isa, input, 0..self.panels(), out, accumulate);
    }
}

fn block_kind(kind: TensorType) -> Option<BlockKind> {
    Some(match kind {
        TensorType::Q4_0 => BlockKind::Q4_0,
        TensorType::Q4_1 => BlockKind::Q4_1,
        TensorType::Q5_0 => BlockKind::Q5_0,
        TensorType::Q5_1 => BlockKind::Q5_1,
        TensorType::Q8_0 => BlockKind::Q8_0,
        TensorType::Q4K => BlockKind::Q4K,
        TensorType::Q5K => BlockKind::Q5K,
        TensorType::Q6K => BlockKind::Q6K,
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 | TensorType::ChannelInt8 => return None,
    })
}

fn pack_f32(pool: &mut Pool, view: &TensorView<'_>) -> Panels {
    let (n, k) = (view.rows, view.columns);
    let mut panels = Panels::zeroed(k, n);
    let lines = SharedMut::new(&mut panels.lines);
    pool.run(panel_count(n), &|panel| {
        let (first, rows) = (panel * 16, 16.min(n - panel * 16));
        let mut values = vec![0.0; rows * k];
        for (row, out) in values.chunks_exact_mut(k).enumerate() {
            view.decode_row(first + row, out);
        }
        // SAFETY: each task has its own panel.
        pack_rows(&values, k, rows, 0, unsafe { lines.range(panel * k, k) });
    });
    panels
}

fn convert<T: Send + Default + Clone>(pool: &mut Pool, rows: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut out = vec![T::default(); rows];
    let shared = SharedMut::new(&mut out);
    pool.run(rows, &|row| {
        // SAFETY: each task has its own row.
        let out = unsafe { shared.range(row, 1) };
        out[0] = work(row);
    });
    out
}
