use std::alloc::{alloc, dealloc, handle_alloc_error, Layout};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Page size that chunks ask for: streaming through small pages spends time on address translation, and the processor's
/// own look-ahead stops at every page.
const HUGE: usize = 2 << 20;
/// Buffers lie one behind the other in chunks of this size, so that the many middling matrices of a model fill huge
/// pages too. Larger buffers have a chunk of their own.
const CHUNK: usize = 16 << 20;
/// Cache lines.
const ALIGN: usize = 64;

/// Memory of several buffers; freed with the last of them.
struct Chunk {
    pointer: *mut u8,
    layout: Layout,
}

// SAFETY: a chunk is only an owner; its parts belong to disjoint buffers.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn new(length: usize) -> Self {
        let layout = Layout::from_size_align(length.next_multiple_of(HUGE), HUGE)
            .unwrap_or_else(|_| panic!("{length} bytes can not be laid out"));
        // SAFETY: the layout is not empty.
        let pointer = unsafe { alloc(layout) };
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: the allocation was just made with this layout.
        unsafe { advise_huge_pages(pointer, layout.size()) };
        Self { pointer, layout }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.pointer, self.layout) };
    }
}

/// The chunk that is being filled, and how far it is.
static OPEN: Mutex<(Weak<Chunk>, usize)> = Mutex::new((Weak::new(), 0));

/// A fixed buffer of bytes on cache lines, in huge pages where the system has them.
pub(crate) struct Bytes {
    pointer: *mut u8,
    length: usize,
    _chunk: Option<Arc<Chunk>>,
}

// SAFETY: the buffer is owned, and only `Writer` writes to it, under its own contract.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// A buffer whose content is undefined until a `Writer` has filled it.
    pub fn uninitialized(length: usize) -> Self {
        if length == 0 {
            return Self { pointer: std::ptr::without_provenance_mut(ALIGN), length, _chunk: None };
        }
        if length > CHUNK / 2 {
            let chunk = Chunk::new(length);
            return Self { pointer: chunk.pointer, length, _chunk: Some(Arc::new(chunk)) };
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let (chunk, start) = match open.0.upgrade() {
            Some(chunk) if open.1 + length <= CHUNK => (chunk, open.1),
            _ => (Arc::new(Chunk::new(CHUNK)), 0),
        };
        *open = (Arc::downgrade(&chunk), (start + length).next_multiple_of(ALIGN));
        // SAFETY: inside the chunk, and no other buffer is given this part of it.
        Self { pointer: unsafe { chunk.pointer.add(start) }, length, _chunk: Some(chunk) }
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

/// Asks the system for huge pages under an allocation; what it answers changes nothing but speed.
///
/// # Safety
/// `length` bytes from `pointer` belong to an allocation of the caller.
#[cfg(target_os = "linux")]
pub unsafe fn advise_huge_pages(pointer: *mut u8, length: usize) {
    extern "C" {
        fn madvise(address: *mut u8, length: usize, advice: i32) -> i32;
    }
    const MADV_HUGEPAGE: i32 = 14;
    // SAFETY: a hint on whole pages of an own allocation; a refusal changes nothing but speed.
    unsafe { madvise(pointer, length, MADV_HUGEPAGE) };
}

/// Asks nothing: this system has no such advice.
///
/// # Safety
/// Nothing is touched.
#[cfg(not(target_os = "linux"))]
pub unsafe fn advise_huge_pages(_: *mut u8, _: usize) {}
