use std::marker::PhantomData;

/// A row-major output that several tasks write at disjoint places.
#[derive(Debug, Clone, Copy)]
pub struct Out<'a> {
    pointer: *mut f32,
    length: usize,
    /// Distance of rows.
    pub stride: usize,
    /// What column 0 is counted from, modulo the word size.
    shift: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: only `at` and `block` reach the memory, and their contracts forbid overlap.
unsafe impl Send for Out<'_> {}
// SAFETY: as above.
unsafe impl Sync for Out<'_> {}

impl<'a> Out<'a> {
    pub fn new(data: &'a mut [f32], stride: usize) -> Self {
        Self { pointer: data.as_mut_ptr(), length: data.len(), stride, shift: 0, borrow: PhantomData }
    }

    /// The same output with column 0 at `columns`.
    #[must_use]
    pub fn shifted(self, columns: usize) -> Self {
        Self { shift: self.shift.wrapping_add(columns), ..self }
    }

    /// The same output with what is column 0 now at `columns`: for a buffer that holds only columns from there on.
    #[must_use]
    pub fn shifted_back(self, columns: usize) -> Self {
        Self { shift: self.shift.wrapping_sub(columns), ..self }
    }

    /// `length` elements of row `row` from `column`; bounds are checked.
    ///
    /// # Safety
    /// No other live slice of this output may overlap.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn at(&self, row: usize, column: usize, length: usize) -> &'a mut [f32] {
        let start = (row * self.stride + column).wrapping_add(self.shift);
        assert!(start <= self.length && length <= self.length - start, "range outside of the output");
        std::slice::from_raw_parts_mut(self.pointer.add(start), length)
    }

    /// Start of the block of `rows` rows from `row` and `width` columns from `column`; bounds are checked.
    ///
    /// # Safety
    /// While the pointer is used nothing else may reach the block.
    pub(crate) unsafe fn block(&self, row: usize, column: usize, rows: usize, width: usize) -> *mut f32 {
        assert!(rows <= 1 || width <= self.stride, "rows of the output overlap");
        let start = (row * self.stride + column).wrapping_add(self.shift);
        let extent = if rows == 0 { 0 } else { (rows - 1) * self.stride + width };
        assert!(start <= self.length && extent <= self.length - start, "block outside of the output");
        self.pointer.add(start)
    }
}
