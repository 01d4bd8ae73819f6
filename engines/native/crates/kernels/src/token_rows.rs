use super::block_rows::{block_scale, round};
use super::Isa;

/// Steps of `k` to which rows and weights are padded with zeros.
pub(crate) const PAD: usize = 64;

/// Longest row: sums of products of 8 and 8 bits then fit 32.
pub const MAX_CHANNEL_K: usize = 1 << 16;

/// What a row carries beside its quants; see `Head` of the block rows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct TokenHead {
    pub scale: f32,
    pub low: i32,
}

/// Quantized activations with one scale a row: signed bytes and max |x| / 127. A reusable buffer.
///
/// A row that holds a NaN or an infinity gets the scale NaN, and every output of it is NaN. A row whose largest
/// magnitude is below about 4e-37 counts as zero.
#[derive(Debug, Clone, Default)]
pub struct TokenRows {
    rows: usize,
    k: usize,
    quants: Vec<i8>,
    heads: Vec<TokenHead>,
}

impl TokenRows {
    /// Quantizes `x[rows, k]`, whose rows lie `stride` apart.
    ///
    /// # Panics
    /// If `x` is too short or `k` is above `MAX_CHANNEL_K`.
    pub fn quantize(&mut self, isa: Isa, x: &[f32], stride: usize, rows: usize, k: usize) {
        let writer = self.writer(rows, k);
        (0..rows).for_each(|row| {
            // SAFETY: one row after the other.
            unsafe { writer.quantize_row(isa, row, &x[row * stride..][..k]) }
        });
    }

    /// Makes room for `[rows, k]` and lets several tasks quantize disjoint rows. Rows that nobody quantizes keep
    /// old content.
    pub fn writer(&mut self, rows: usize, k: usize) -> TokenRowsWriter<'_> {
        assert!(k <= MAX_CHANNEL_K, "rows of {k} elements");
        self.rows = rows;
        self.k = k;
        let padded = self.padded();
        if self.quants.len() < rows * padded {
            self.quants.resize(rows * padded, 0);
        }
        if self.heads.len() < rows {
            self.heads.resize(rows, TokenHead::default());
        }
        TokenRowsWriter {
            rows,
            k,
            quants: self.quants.as_mut_ptr(),
            heads: self.heads.as_mut_ptr(),
            borrow: std::marker::PhantomData,
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn k(&self) -> usize {
        self.k
    }

    /// The quants of a row.
    pub fn quants(&self, row: usize) -> &[i8] {
        assert!(row < self.rows, "row outside of the buffer");
        &self.quants[row * self.padded()..][..self.k]
    }

    /// The scale of a row.
    pub fn scale(&self, row: usize) -> f32 {
        self.head(row).scale
    }

    pub(crate) fn padded(&self) -> usize {
        self.k.next_multiple_of(PAD)
    }

    pub(crate) fn head(&self, row: usize) -> TokenHead {
        assert!(row < self.rows, "row outside of the buffer");
        self.heads[row]
    }

    /// The padded quants of row `row` and all behind it.
    pub(crate) fn quants_from(&self, row: usize) -> *const i8 {
        self.quants[row * self.padded()..].as_ptr()
    }
}

/// Fills rows of a `TokenRows` from several tasks.
#[derive(Clone, Copy)]
pub struct TokenRowsWriter<'a> {
    rows: usize,
    k: usize,
    quants: *mut i8,
    heads: *mut TokenHead,
    borrow: std::marker::PhantomData<&'a mut TokenRows>,
}

// SAFETY: only `quantize_row` reaches the memory, and its contract forbids overlap.
unsafe impl Send for TokenRowsWriter<'_> {}
// SAFETY: as above.
unsafe impl Sync for TokenRowsWriter<'_> {}

impl TokenRowsWriter<'_> {
    /// Quantizes row `row` from `x[k]`.
    ///
    /// # Safety
    /// No other task may write the same row meanwhile.
    ///
    /// # Panics
    /// If the row does not exist or `x` has another length than `k`.
    pub unsafe fn quantize_row(&self, isa: Isa, row: usize, x: &[f32]) {
        assert!(row < self.rows && x.len() == self.k, "row outside of the buffer");
        let padded = self.k.next_multiple_of(PAD);
        let quants = std::slice::from_raw_parts_mut(self.quants.add(row * padded), padded);
        *self.heads.add(row) = quantize_token(isa, x, quants);
    }
}

const LANES: usize = 16;

crate::rows::kernel! {
    fn quantize_token(x: &[f32], quants: &mut [i8]) -> TokenHead {
        quants[x.len()..].fill(0);
        let quants = &mut quants[..x.len()];
        let (whole, rest) = x.as_chunks::<LANES>();
        let mut lanes = [0u32; LANES];
        for values in whole {
            for lane in 0..LANES {
                let magnitude = values[lane].to_bits() & 0x7fff_ffff;
                lanes[lane] = if magnitude > lanes[lane] { magnitude } else { lanes[lane] };
            }
        }
        let top = rest.iter().map(|value| value.to_bits() & 0x7fff_ffff).chain(lanes).fold(0, u32::max);
        let Some((scale, inverse)) = block_scale(top) else {
            quants.fill(0);
            return TokenHead { scale: if top < 0x7f80_0000 { 0.0 } else { f32::NAN }, low: 0 };
        };
        let mut sums = [0i32; LANES];
        let (whole_quants, rest_quants) = quants.as_chunks_mut::<LANES>();
        for (values, quants) in whole.iter().zip(whole_quants) {
            let mut integers = [0i32; LANES];
            for lane in 0..LANES {
                integers[lane] = round(values[lane] * inverse);
            }
            for lane in 0..LANES {
                quants[lane] = integers[lane] as i8;
            }
            for lane in 0..LANES {
                sums[lane] += integers[lane];
            }
        }
        let mut sum = sums.into_iter().sum::<i32>();
        for (value, quant) in rest.iter().zip(rest_quants) {
            let q = round(value * inverse);
            sum += q;
            *quant = q as i8;
        }
        TokenHead { scale, low: -128 * sum }
    }
}
