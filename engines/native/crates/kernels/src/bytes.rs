use std::alloc::{alloc, dealloc, handle_alloc_error, Layout};
use std::marker::PhantomData;

/// Page size that large buffers ask for: streaming through small pages spends time on address translation.
const HUGE: usize = 2 << 20;

/// A fixed buffer of bytes on cache lines, in huge pages where it is large.
pub(crate) struct Bytes {
    pointer: *mut u8,
    length: usize,
}

// SAFETY: the buffer is owned, and only `Writer` writes to it, under its own contract.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// A buffer whose content is undefined until a `Writer` has filled it.
    pub fn uninitialized(length: usize) -> Self {
        if length == 0 {
            return Self { pointer: std::ptr::without_provenance_mut(64), length };
        }
        let layout = Self::layout(length);
        // SAFETY: the layout is not empty.
        let pointer = unsafe { alloc(layout) };
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        advise_huge(pointer, length);
        Self { pointer, length }
    }

    fn layout(length: usize) -> Layout {
        let align = if length >= 2 * HUGE { HUGE } else { 64 };
        Layout::from_size_align(length, align).unwrap_or_else(|_| panic!("{length} bytes can not be laid out"))
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.pointer
    }

    pub fn writer(&mut self) -> Writer<'_> {
        Writer { pointer: self.pointer, length: self.length, borrow: PhantomData }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.pointer, Self::layout(self.length)) };
        }
    }
}

/// Lets tasks fill disjoint parts of a buffer.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    pointer: *mut u8,
    length: usize,
    borrow: PhantomData<&'a mut Bytes>,
}

// SAFETY: only `part` reaches the memory, and its contract forbids overlap.
unsafe impl Send for Writer<'_> {}
// SAFETY: as above.
unsafe impl Sync for Writer<'_> {}

impl<'a> Writer<'a> {
    /// Clears and returns part `index` of parts of `length` bytes.
    ///
    /// # Safety
    /// No other live slice of the part may exist.
    pub unsafe fn part(&self, index: usize, length: usize) -> &'a mut [u8] {
        assert!((index + 1) * length <= self.length, "part outside of the buffer");
        let start = self.pointer.add(index * length);
        std::ptr::write_bytes(start, 0, length);
        std::slice::from_raw_parts_mut(start, length)
    }
}

#[cfg(target_os = "linux")]
fn advise_huge(pointer: *mut u8, length: usize) {
    extern "C" {
        fn madvise(address: *mut u8, length: usize, advice: i32) -> i32;
    }
    const MADV_HUGEPAGE: i32 = 14;
    if length >= 2 * HUGE {
        // SAFETY: a hint on whole pages of an own allocation; a refusal changes nothing but speed.
        unsafe { madvise(pointer, length / HUGE * HUGE, MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_: *mut u8, _: usize) {}
