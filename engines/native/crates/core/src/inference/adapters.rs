//! LoRA adapters beside the weights: `y += scale · B (A x)`, many on one base in one batch.

use std::path::PathBuf;

use cupel_files::peft::Adapter;
use cupel_files::{Config, Error, Result, REQUEST_INVALID};
use cupel_kernels::{gemm, pack_rows, panel_count, scale, Isa, Left, Line};

use crate::pool::grown;

/// Projections of a layer that an adapter may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

const PROJECTIONS: [(Projection, &str); 7] = [
    (Projection::Query, "self_attn.q_proj"),
    (Projection::Key, "self_attn.k_proj"),
    (Projection::Value, "self_attn.v_proj"),
    (Projection::Output, "self_attn.o_proj"),
    (Projection::Gate, "mlp.gate_proj"),
    (Projection::Up, "mlp.up_proj"),
    (Projection::Down, "mlp.down_proj"),
];

struct Pair {
    /// `Aᵀ` packed: `k` inputs to `rank`.
    down: Vec<Line>,
    /// `Bᵀ` packed: `rank` to `n` outputs.
    up: Vec<Line>,
    k: usize,
    rank: usize,
    n: usize,
    scale: f32,
}

/// The adapters of a model.
#[derive(Default)]
pub struct Adapters {
    names: Vec<String>,
    /// `[adapter][layer][projection]`
    pairs: Vec<Vec<[Option<Pair>; 7]>>,
}

impl Adapters {
    /// Reads PEFT folders.
    pub fn load(folders: &[(String, PathBuf)], config: &Config) -> Result<Self> {
        let mut adapters = Self::default();
        for (name, folder) in folders {
            if adapters.names.contains(name) {
                return Err(Error::new(REQUEST_INVALID, format!("two adapters are named {name:?}")).at("adapters"));
            }
            let adapter = Adapter::open(folder, name, config)?;
            let mut layers: Vec<[Option<Pair>; 7]> = (0..config.layers).map(|_| Default::default()).collect();
            for (layer, slots) in layers.iter_mut().enumerate() {
                for ((_, part), slot) in PROJECTIONS.iter().zip(slots) {
                    if let Some(pair) = adapter.modules.get(&format!("model.layers.{layer}.{part}")) {
                        let (k, n) = (pair.a.len() / pair.rank, pair.b.len() / pair.rank);
                        *slot = Some(Pair {
                            down: packed(&pair.a, pair.rank, k),
                            up: packed(&pair.b, n, pair.rank),
                            k,
                            rank: pair.rank,
                            n,
                            scale: pair.scale,
                        });
                    }
                }
            }
            adapters.names.push(name.clone());
            adapters.pairs.push(layers);
        }
        Ok(adapters)
    }

    pub fn find(&self, name: &str) -> Result<usize> {
        self.names.iter().position(|known| known == name).ok_or_else(|| {
            let known = if self.names.is_empty() { "none".to_string() } else { self.names.join(", ") };
            Error::new(REQUEST_INVALID, format!("adapter {name:?} was not loaded; there are: {known}"))
                .at("adapter")
                .remedy("name it in the adapters that the model is opened with")
        })
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Adds what the adapters of the rows contribute: `out[row, column..]` from `x[row]`. `of[row]` is the adapter of
    /// a row. A row's bits do not depend on the other rows.
    #[allow(clippy::too_many_arguments)]
    pub fn add(
        &self,
        isa: Isa,
        layer: usize,
        projection: Projection,
        of: &[Option<usize>],
        x: &[f32],
        x_stride: usize,
        out: &mut [f32],
        out_stride: usize,
        buffer: &mut Vec<f32>,
    ) {
        let mut start = 0;
        while start < of.len() {
            let end = start + of[start..].iter().take_while(|adapter| **adapter == of[start]).count();
            let pair = of[start].and_then(|adapter| self.pairs[adapter][layer][projection as usize].as_ref());
            if let Some(pair) = pair {
                let rows = end - start;
                let inner = grown(buffer, rows * pair.rank);
                let left = Left::rows(&x[start * x_stride..], x_stride);
                gemm(isa, (rows, pair.rank, pair.k), left, &pair.down, pair.k, inner, pair.rank, false);
                scale(isa, inner, pair.scale);
                let out = &mut out[start * out_stride..];
                let left = Left::rows(inner, pair.rank);
                gemm(isa, (rows, pair.n, pair.rank), left, &pair.up, pair.rank, out, out_stride, true);
            }
            start = end;
        }
    }
}

fn packed(values: &[f32], n: usize, k: usize) -> Vec<Line> {
    let mut lines = vec![Line::default(); panel_count(n) * k];
    for (panel, lines) in lines.chunks_exact_mut(k).enumerate() {
        pack_rows(values, k, n, panel, lines);
    }
    lines
}
