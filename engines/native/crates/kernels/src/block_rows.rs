use super::Isa;

/// Elements that share one scale.
pub const BLOCK: usize = 32;

/// What a block of activations carries beside its quants.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C)]
pub(crate) struct Head {
    /// max |x| / 127; 0 for a block of zeros, NaN for one with a value that is not finite.
    pub scale: f32,
    /// -128 times the sum of the quants: undoes a zero point of 128 in the weights.
    pub low: i32,
    /// scale times the sum of the quants: what the minimum of a block of weights is multiplied with.
    pub weighted: f32,
    /// -128 times the sum of the first 16 quants.
    pub first: i32,
}

/// Quantized activations: rows of blocks of 32 signed bytes with one scale each, as in Q8_0 but with an f32 scale.
/// A reusable buffer.
///
/// A block that holds a NaN or an infinity gets the scale NaN, and every output of that row is NaN. A block whose
/// largest magnitude is below about 4e-37 counts as zero.
#[derive(Debug, Clone, Default)]
pub struct BlockRows {
    rows: usize,
    k: usize,
    blocks: usize,
    quants: Vec<i8>,
    heads: Vec<Head>,
}

impl BlockRows {
    /// Quantizes `x[rows, k]`, whose rows lie `stride` apart.
    ///
    /// # Panics
    /// If `x` is too short.
    pub fn quantize(&mut self, isa: Isa, x: &[f32], stride: usize, rows: usize, k: usize) {
        let writer = self.writer(rows, k);
        (0..rows).for_each(|row| {
            // SAFETY: one row after the other.
            unsafe { writer.quantize_row(isa, row, &x[row * stride..][..k]) }
        });
    }

    /// Makes room for `[rows, k]` and lets several tasks quantize disjoint rows. Rows that nobody quantizes keep
    /// old content.
    pub fn writer(&mut self, rows: usize, k: usize) -> BlockRowsWriter<'_> {
        self.rows = rows;
        self.k = k;
        self.blocks = k.div_ceil(BLOCK);
        let blocks = rows * self.blocks;
        if self.heads.len() < blocks {
            self.heads.resize(blocks, Head::default());
            self.quants.resize(blocks * BLOCK, 0);
        }
        BlockRowsWriter {
            rows,
            k,
            blocks: self.blocks,
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

    /// Blocks of a row.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// The quants of a row, padded with zeros to whole blocks.
    pub fn quants(&self, row: usize) -> &[i8] {
        assert!(row < self.rows, "row outside of the buffer");
        &self.quants[row * self.blocks * BLOCK..][..self.blocks * BLOCK]
    }

    /// The scale of block `block` of row `row`.
    pub fn scale(&self, row: usize, block: usize) -> f32 {
        self.heads(row)[block].scale
    }

    /// The quants of row `row` and all behind it.
    pub(crate) fn quants_from(&self, row: usize) -> *const i8 {
        self.quants[row * self.blocks * BLOCK..].as_ptr()
    }

    /// Likewise the heads.
    pub(crate) fn heads_from(&self, row: usize) -> *const Head {
        self.heads[row * self.blocks..].as_ptr()
    }

    pub(crate) fn heads(&self, row: usize) -> &[Head] {
        assert!(row < self.rows, "row outside of the buffer");
        &self.heads[row * self.blocks..][..self.blocks]
    }
}

/// Fills rows of a `BlockRows` from several tasks.
#[derive(Clone, Copy)]
pub struct BlockRowsWriter<'a> {
    rows: usize,
    k: usize,
    blocks: usize,
    quants: *mut i8,
    heads: *mut Head,
    borrow: std::marker::PhantomData<&'a mut BlockRows>,
}

// SAFETY: only `quantize_row` reaches the memory, and its contract forbids overlap.
unsafe impl Send for BlockRowsWriter<'_> {}
// SAFETY: as above.
unsafe impl Sync for BlockRowsWriter<'_> {}

impl BlockRowsWriter<'_> {
    /// Quantizes row `row` from `x[k]`.
    ///
    /// # Safety
    /// No other task may write the same row meanwhile.
    ///
    /// # Panics
    /// If the row does not exist or `x` has another length than `k`.
    pub unsafe fn quantize_row(&self, isa: Isa, row: usize, x: &[f32]) {
        assert!(row < self.rows && x.len() == self.k, "row outside of the buffer");
        let start = row * self.blocks;
        let quants = std::slice::from_raw_parts_mut(self.quants.add(start * BLOCK).cast(), self.blocks);
        let heads = std::slice::from_raw_parts_mut(self.heads.add(start), self.blocks);
        quantize_blocks(isa, x, quants, heads);
    }
}

crate::rows::kernel! {
    fn quantize_blocks(x: &[f32], quants: &mut [[i8; BLOCK]], heads: &mut [Head]) {
        let (whole, rest) = x.as_chunks::<BLOCK>();
        for (index, values) in whole.iter().enumerate() {
            heads[index] = quantize_block(values, &mut quants[index]);
        }
        if !rest.is_empty() {
            let mut values = [0.0; BLOCK];
            values[..rest.len()].copy_from_slice(rest);
            heads[whole.len()] = quantize_block(&values, &mut quants[whole.len()]);
        }
    }
}

#[inline(always)]
fn quantize_block(values: &[f32; BLOCK], quants: &mut [i8; BLOCK]) -> Head {
    // Magnitudes compare as integers, where a NaN is above infinity and is not lost.
    let mut lanes = [0u32; BLOCK / 2];
    for lane in 0..BLOCK / 2 {
        let (a, b) = (values[lane].to_bits() & 0x7fff_ffff, values[lane + BLOCK / 2].to_bits() & 0x7fff_ffff);
        lanes[lane] = if a > b { a } else { b };
    }
    let top = lanes.into_iter().fold(0, u32::max);
    let Some((scale, inverse)) = block_scale(top) else {
        *quants = [0; BLOCK];
        return Head { scale: if top < 0x7f80_0000 { 0.0 } else { f32::NAN }, ..Head::default() };
    };
    let mut integers = [0i32; BLOCK];
    for lane in 0..BLOCK {
        integers[lane] = round(values[lane] * inverse);
        quants[lane] = integers[lane] as i8;
    }
    let mut sums = [0; 2];
    for lane in 0..BLOCK / 2 {
        sums[0] += integers[lane];
        sums[1] += integers[lane + BLOCK / 2];
    }
    let sum = sums[0] + sums[1];
    Head { scale, low: -128 * sum, weighted: scale * sum as f32, first: -128 * sums[0] }
}

/// Scale and inverse scale for a largest magnitude (as bits); none for zero, almost zero and not finite.
#[inline(always)]
pub(crate) fn block_scale(top: u32) -> Option<(f32, f32)> {
    if top >= 0x7f80_0000 {
        return None;
    }
    let scale = f32::from_bits(top) / 127.0;
    let inverse = 1.0 / scale;
    inverse.is_finite().then_some((scale, inverse))
}

/// Nearest integer, halves away from zero (C's `roundf`), for |value| < 2^22.
#[inline(always)]
pub(crate) fn round(value: f32) -> i32 {
    // The largest float below one half: with 0.5 itself, 0.49999997 would become 1.
    let moved = value + f32::from_bits(0x3eff_ffff).copysign(value);
    // SAFETY: finite and small, since |value| is at most about 127.
    unsafe { moved.to_int_unchecked::<i32>() }
}
