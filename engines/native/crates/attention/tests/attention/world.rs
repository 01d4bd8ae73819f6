//! Pages with known contents, sequences that share them, and the unpaged computation.

use cupel_attention::{KvStore, KvType, SequenceRows, PAGE};
use cupel_kernels::{exp, Isa};

pub fn sets() -> Vec<Isa> {
    [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available()).collect()
}

/// Numbers in -2..2 that depend on all that is given.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    pub fn row(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.next() as f32 / (1u64 << 29) as f32 - 2.0).collect()
    }
}

/// Half precision by its definition: a multiple of the unit in the last place, ties to even.
fn half(value: f32) -> f32 {
    let value = f64::from(value);
    if value == 0.0 {
        return 0.0;
    }
    let exponent = value.abs().log2().floor().max(-14.0);
    let unit = (exponent - 10.0).exp2();
    ((value / unit).round_ties_even() * unit) as f32
}

fn rounded(row: &[f32], kind: KvType) -> Vec<f32> {
    match kind {
        KvType::F32 => row.to_vec(),
        KvType::F16 => row.iter().map(|value| half(*value)).collect(),
        KvType::Q8_0 => row
            .chunks(32)
            .flat_map(|block| {
                let scale = block.iter().fold(0.0f32, |top, value| top.max(value.abs())) / 127.0;
                block.iter().map(move |value| (value * (1.0 / scale)).round() * half(scale))
            })
            .collect(),
    }
}

/// One row over `keys` and `values` of positions `start..`: chains for the scores and the outputs, sums in 16 lanes
/// by position.
fn reference(query: &[f32], keys: &[&[f32]], values: &[&[f32]], start: usize) -> Vec<f32> {
    let scale = 1.0 / (query.len() as f32).sqrt();
    let mut scores: Vec<f32> =
        keys.iter().map(|key| query.iter().zip(*key).fold(0.0f32, |sum, (q, k)| q.mul_add(*k, sum)) * scale).collect();
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut lanes = [0.0f32; 16];
    for (index, score) in scores.iter_mut().enumerate() {
        *score = exp(*score - top);
        lanes[(start + index) % 16] += *score;
    }
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    let inverse = 1.0 / lanes[0];
    let mut out = vec![0.0f32; query.len()];
    for (score, value) in scores.iter().zip(values) {
        let probability = score * inverse;
        out.iter_mut().zip(*value).for_each(|(out, value)| *out = probability.mul_add(*value, *out));
    }
    out
}

/// A key and a value.
pub type Pair = (Vec<f32>, Vec<f32>);

/// Pages with their exact contents.
pub struct World {
    pub store: KvStore,
    /// `[page][slot][head]` of rounded keys and values.
    pub contents: Vec<Vec<Vec<Pair>>>,
}

pub const LAYERS: usize = 2;

impl World {
    /// Fills `used[page]` slots of every page of the last layer; what lies beyond is not finite.
    pub fn new(numbers: &mut Numbers, heads: usize, head_dim: usize, kind: KvType, used: &[usize]) -> Self {
        let mut store = KvStore::new(LAYERS, heads, head_dim, kind, used.len());
        let ids: Vec<u32> = (0..used.len() as u32).collect();
        store.reserve(&ids).unwrap();
        let hostile = vec![f32::INFINITY; head_dim];
        let mut contents = Vec::new();
        for (page, used) in used.iter().enumerate() {
            let mut slots = Vec::new();
            for slot in 0..PAGE {
                let mut of_heads = Vec::new();
                for head in 0..heads {
                    let (key, value) = (numbers.row(head_dim), numbers.row(head_dim));
                    let stored = if slot < *used { (&key, &value) } else { (&hostile, &hostile) };
                    // SAFETY: nobody else uses the store.
                    unsafe { store.append(LAYERS - 1, head, page as u32, slot, stored.0, stored.1) };
                    of_heads.push((rounded(&key, kind), rounded(&value, kind)));
                }
                slots.push(of_heads);
            }
            contents.push(slots);
        }
        Self { store, contents }
    }

    pub fn expected(&self, pages: &[u32], start: usize, end: usize, head: usize, query: &[f32]) -> Vec<f32> {
        let at = |position: usize| &self.contents[pages[position / PAGE] as usize][position % PAGE][head];
        let keys: Vec<&[f32]> = (start..end).map(|position| at(position).0.as_slice()).collect();
        let values: Vec<&[f32]> = (start..end).map(|position| at(position).1.as_slice()).collect();
        reference(query, &keys, &values, start)
    }
}

#[derive(Debug, Clone)]
pub struct Sequence {
    pub pages: Vec<u32>,
    pub before: usize,
    pub rows: usize,
    pub first_row: usize,
}

/// Sequences that share whole pages with earlier ones, in random pages and rows; and how much of each page is used.
pub fn sequences(numbers: &mut Numbers, count: usize, most_rows: usize) -> (Vec<Sequence>, Vec<usize>, usize) {
    let mut sequences: Vec<Sequence> = Vec::new();
    let mut lengths = Vec::new();
    let mut next_page = 0;
    for index in 0..count {
        let rows = 1 + numbers.below(most_rows);
        let before = numbers.below(150);
        let length = before + rows;
        let mut pages: Vec<u32> = Vec::new();
        if index > 0 {
            let other = numbers.below(index);
            let shared = numbers.below(5).min(lengths[other] / PAGE).min(length / PAGE);
            pages.extend(&sequences[other].pages[..shared]);
        }
        while pages.len() * PAGE < length {
            pages.push(next_page);
            next_page += 1;
        }
        lengths.push(length);
        sequences.push(Sequence { pages, before, rows, first_row: 0 });
    }
    // A random order of the page ids.
    let mut ids: Vec<u32> = (0..next_page).collect();
    (1..ids.len()).for_each(|i| ids.swap(i, numbers.below(i + 1)));
    let mut used = vec![0; ids.len()];
    for (sequence, length) in sequences.iter_mut().zip(&lengths) {
        for (index, page) in sequence.pages.iter_mut().enumerate() {
            *page = ids[*page as usize];
            let slots = &mut used[*page as usize];
            *slots = (*slots).max((length - index * PAGE).min(PAGE));
        }
    }
    let mut order: Vec<usize> = (0..count).collect();
    (1..count).for_each(|i| order.swap(i, numbers.below(i + 1)));
    let mut row = 1;
    for index in order {
        sequences[index].first_row = row;
        row += sequences[index].rows + numbers.below(2);
    }
    (sequences, used, row)
}

/// The sequences as a plan takes them.
pub fn planned(sequences: &[Sequence]) -> Vec<SequenceRows<'_>> {
    sequences
        .iter()
        .map(|s| SequenceRows { pages: &s.pages, before: s.before, rows: s.rows, first_row: s.first_row })
        .collect()
}
