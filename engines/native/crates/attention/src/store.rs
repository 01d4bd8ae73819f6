//! Memory of the pages. A page is `[layer][head]{keys, values}`; keys are panels of 16 positions with one line of 16
//! positions a dimension, so that scores run over positions; values are panels of 16 dimensions with one line of 16
//! dimensions a position, so that outputs run over dimensions.

use std::alloc::{alloc_zeroed, dealloc, Layout};
use std::fmt;
use std::ptr::NonNull;

use cupel_kernels::{advise_huge_pages, f32_to_half, panel_count, PANEL};

use crate::half::round_all;
use crate::PAGE;

/// Positions that share a panel of keys, as a count of panels.
pub(crate) const KEY_PANELS: usize = PAGE / PANEL;
/// Values of a block with one scale (GGUF `Q8_0`).
pub(crate) const BLOCK: usize = 32;
const ALIGN: usize = 64;
/// Slabs are about this large: few allocations, and little memory beyond what is used.
const SLAB_BYTES: usize = 4 << 20;
/// Page size that slabs ask for: a page of the cache is read in short pieces, each of which is a translation.
const HUGE: usize = 2 << 20;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvType {
    /// As computed.
    F32,
    /// Rounded to half precision, nearest even.
    F16,
    /// Blocks of 32 along the head dimension: 8-bit integers with a half-precision scale, as GGUF's `Q8_0`.
    Q8_0,
}

/// The machine gave no memory for a slab of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Bytes that were asked for.
    pub bytes: usize,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no memory for {} bytes of KV cache", self.bytes)
    }
}

impl std::error::Error for OutOfMemory {}

/// Zeroed memory with an address that is a multiple of a cache line.
struct Slab {
    start: NonNull<u8>,
    bytes: NonNull<u8>,
    layout: Layout,
}

impl Slab {
    fn new(length: usize) -> Result<Self, OutOfMemory> {
        let failure = OutOfMemory { bytes: length };
        // Aligned by hand: an allocator asked for this alignment clears by writing, which touches every page.
        let align = if length >= HUGE { HUGE } else { ALIGN };
        let layout = Layout::from_size_align(length.checked_add(align).ok_or(failure)?, 16).map_err(|_| failure)?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(failure)?;
        // SAFETY: the offset is below `align`, which the allocation has beyond `length`.
        let bytes = unsafe { start.add(start.align_offset(align)) };
        if align == HUGE {
            // SAFETY: `length` bytes from `bytes` are the slab's own.
            unsafe { advise_huge_pages(bytes.as_ptr(), length / HUGE * HUGE) };
        }
        Ok(Self { start, bytes, layout })
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Where the parts of one head of a page lie, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLayout {
    /// Offset of the scales of the keys (`Q8_0`).
    pub key_scales: usize,
    pub values: usize,
    /// Offset of the scales of the values (`Q8_0`).
    pub value_scales: usize,
    pub length: usize,
}

impl HeadLayout {
    fn new(head_dim: usize, kind: KvType) -> Self {
        let size = match kind {
            KvType::F32 => 4,
            KvType::F16 => 2,
            KvType::Q8_0 => 1,
        };
        let scales = if kind == KvType::Q8_0 { PAGE * head_dim.div_ceil(BLOCK) * 2 } else { 0 };
        let key_scales = PAGE * head_dim * size;
        let values = (key_scales + scales).next_multiple_of(ALIGN);
        let value_scales = values + panel_count(head_dim) * PANEL * PAGE * size;
        Self { key_scales, values, value_scales, length: (value_scales + scales).next_multiple_of(ALIGN) }
    }
}

/// The keys and values of all layers by page. Memory comes in slabs when pages are reserved.
pub struct KvStore {
    layers: usize,
    heads: usize,
    head_dim: usize,
    kind: KvType,
    pages: usize,
    page_bytes: usize,
    pages_per_slab: usize,
    head_layout: HeadLayout,
    slabs: Vec<Option<Slab>>,
}

// SAFETY: the memory is owned; writes through a shared reference are under the contract of `append`.
unsafe impl Send for KvStore {}
// SAFETY: as above.
unsafe impl Sync for KvStore {}

impl KvStore {
    /// A store of up to `pages` pages (ids `0..pages`) for `layers` layers of `heads` key-value heads of `head_dim`
    /// dimensions. Takes no page memory yet.
    pub fn new(layers: usize, heads: usize, head_dim: usize, kind: KvType, pages: usize) -> Self {
        let head_layout = HeadLayout::new(head_dim, kind);
        let page_bytes = Self::page_bytes(layers, heads, head_dim, kind);
        let pages_per_slab = (SLAB_BYTES / page_bytes.max(1)).max(1);
        let slabs = (0..pages.div_ceil(pages_per_slab)).map(|_| None).collect();
        Self { layers, heads, head_dim, kind, pages, page_bytes, pages_per_slab, head_layout, slabs }
    }

    /// Bytes of a page of such a store.
    pub fn page_bytes(layers: usize, heads: usize, head_dim: usize, kind: KvType) -> usize {
        layers.saturating_mul(heads).saturating_mul(HeadLayout::new(head_dim, kind).length)
    }

    /// Pages at most.
    pub fn pages(&self) -> usize {
        self.pages
    }

    pub fn kind(&self) -> KvType {
        self.kind
    }

    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Bytes of the slabs that exist.
    pub fn bytes(&self) -> usize {
        self.slabs.iter().flatten().map(|slab| slab.layout.size()).sum()
    }

    /// Gives `pages` memory, where they have none. Needed before `append`, `copy` to and `attend` over a page.
    ///
    /// # Errors
    /// If the machine has no memory; the store stays as it was, save for slabs already made.
    ///
    /// # Panics
    /// If an id is not below the number of pages.
    pub fn reserve(&mut self, pages: &[u32]) -> Result<(), OutOfMemory> {
        for page in pages {
            let page = *page as usize;
            assert!(page < self.pages, "page {page} of {}", self.pages);
            let number = page / self.pages_per_slab;
            if self.slabs[number].is_none() {
                let count = self.pages_per_slab.min(self.pages - number * self.pages_per_slab);
                self.slabs[number] = Some(Slab::new(count.saturating_mul(self.page_bytes))?);
            }
        }
        Ok(())
    }

    /// Writes the key (already rotated) and the value of the position `slot` of `page`, rounded to the kind.
    ///
    /// # Safety
    /// Until it returns no other thread may read this layer and head of the page (`attend`) or write this slot of it.
    ///
    /// # Panics
    /// If the page is not reserved, or an index or length is out of range.
    pub unsafe fn append(&self, layer: usize, head: usize, page: u32, slot: usize, key: &[f32], value: &[f32]) {
        assert!(slot < PAGE && key.len() == self.head_dim && value.len() == self.head_dim, "slot or length");
        let part = self.part(layer, head, page).cast_mut();
        let (panel, lane) = (slot / PANEL, slot % PANEL);
        let first_key = panel * self.head_dim * PANEL + lane;
        match self.kind {
            KvType::F32 => {
                let keys = part.cast::<f32>().add(first_key);
                let values = part.add(self.head_layout.values).cast::<f32>().add(slot * PANEL);
                key.iter().enumerate().for_each(|(i, key)| *keys.add(i * PANEL) = *key);
                for (panel, chunk) in value.chunks(PANEL).enumerate() {
                    values.add(panel * PAGE * PANEL).copy_from_nonoverlapping(chunk.as_ptr(), chunk.len());
                }
            }
            KvType::F16 => {
                let keys = part.cast::<u16>().add(first_key);
                let values = part.add(self.head_layout.values).cast::<u16>().add(slot * PANEL);
                let mut halves = [0u16; PANEL];
                for (panel, chunk) in key.chunks(PANEL).enumerate() {
                    round_all(chunk, &mut halves[..chunk.len()]);
                    let keys = keys.add(panel * PANEL * PANEL);
                    halves[..chunk.len()].iter().enumerate().for_each(|(i, half)| *keys.add(i * PANEL) = *half);
                }
                for (panel, chunk) in value.chunks(PANEL).enumerate() {
                    round_all(chunk, &mut halves[..chunk.len()]);
                    values.add(panel * PAGE * PANEL).copy_from_nonoverlapping(halves.as_ptr(), chunk.len());
                }
            }
            KvType::Q8_0 => {
                let blocks = self.head_dim.div_ceil(BLOCK);
                let keys = part.cast::<i8>().add(first_key);
                let key_scales = part.add(self.head_layout.key_scales).cast::<u16>().add(panel * blocks * PANEL + lane);
                let values = part.add(self.head_layout.values).cast::<i8>().add(slot * PANEL);
                let value_scales = part.add(self.head_layout.value_scales).cast::<u16>().add(slot * blocks);
                let mut quantized = [0i8; BLOCK];
                for (block, chunk) in key.chunks(BLOCK).enumerate() {
                    *key_scales.add(block * PANEL) = quantize(chunk, &mut quantized);
                    let keys = keys.add(block * BLOCK * PANEL);
                    quantized[..chunk.len()].iter().enumerate().for_each(|(i, value)| *keys.add(i * PANEL) = *value);
                }
                for (block, chunk) in value.chunks(BLOCK).enumerate() {
                    *value_scales.add(block) = quantize(chunk, &mut quantized);
                    for (half, chunk) in quantized[..chunk.len()].chunks(PANEL).enumerate() {
                        let panel = block * (BLOCK / PANEL) + half;
                        values.add(panel * PAGE * PANEL).copy_from_nonoverlapping(chunk.as_ptr(), chunk.len());
                    }
                }
            }
        }
    }

    /// Copies a page, all layers and heads: what two sequences share up to the middle of a page becomes their own.
    ///
    /// # Panics
    /// If one of the pages is not reserved.
    pub fn copy(&mut self, from: u32, to: u32) {
        let (source, target) = (self.page(from), self.page(to).cast_mut());
        // SAFETY: both pages are whole and inside their slabs; `copy` allows them to be the same.
        unsafe { target.copy_from(source, self.page_bytes) };
    }

    pub(crate) fn head_layout(&self) -> &HeadLayout {
        &self.head_layout
    }

    /// Asks for the keys of a head of a page, up to position `slots`, which are needed soon.
    pub(crate) fn prefetch_keys(&self, part: *const u8, slots: usize) {
        prefetch(part, slots.div_ceil(PANEL) * self.head_layout.key_scales / KEY_PANELS);
    }

    /// Asks for the values of a head of a page, up to position `slots`, which are needed soon.
    pub(crate) fn prefetch_values(&self, part: *const u8, slots: usize) {
        let panels = panel_count(self.head_dim);
        let panel_bytes = (self.head_layout.value_scales - self.head_layout.values) / panels;
        for panel in 0..panels {
            prefetch(part.wrapping_add(self.head_layout.values + panel * panel_bytes), slots * panel_bytes / PAGE);
        }
    }

    fn page(&self, page: u32) -> *const u8 {
        let page = page as usize;
        assert!(page < self.pages, "page {page} of {}", self.pages);
        let Some(slab) = &self.slabs[page / self.pages_per_slab] else {
            panic!("page {page} is not reserved");
        };
        let offset = page % self.pages_per_slab * self.page_bytes;
        // SAFETY: the slab has all its pages.
        unsafe { slab.bytes.as_ptr().cast_const().add(offset) }
    }

    /// The keys and values of one head of a page.
    pub(crate) fn part(&self, layer: usize, head: usize, page: u32) -> *const u8 {
        assert!(layer < self.layers && head < self.heads, "layer {layer} or head {head}");
        // SAFETY: inside the page by the assertion.
        unsafe { self.page(page).add((layer * self.heads + head) * self.head_layout.length) }
    }
}

/// Asks for `length` bytes in the second-level cache: the first level is full of what is being computed. Harmless
/// for any address.
pub(crate) fn prefetch(start: *const u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..length).step_by(ALIGN) {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T1};
        // SAFETY: the instruction accesses nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(offset).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, length);
}

/// Quantizes a block as GGUF's reference does (`max|x| / 127`, integers rounded half away from zero); returns the
/// scale in half precision. What a short block lacks becomes zero.
fn quantize(values: &[f32], out: &mut [i8; BLOCK]) -> u16 {
    // Index loops over fixed lanes are what the compiler turns into vectors.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn body(values: &[f32; BLOCK], out: &mut [i8; BLOCK]) -> f32 {
        let mut top = [0.0f32; PANEL];
        for half in values.as_chunks::<PANEL>().0 {
            for lane in 0..PANEL {
                let size = half[lane].abs();
                top[lane] = if size > top[lane] { size } else { top[lane] };
            }
        }
        let scale = top.into_iter().fold(0.0, |best, size| if size > best { size } else { best }) / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        for i in 0..BLOCK {
            out[i] = (values[i] * inverse).round() as i8;
        }
        scale
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn avx2(values: &[f32; BLOCK], out: &mut [i8; BLOCK]) -> f32 {
        body(values, out)
    }
    let mut block = [0.0; BLOCK];
    block[..values.len()].copy_from_slice(values);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has the instructions.
        return f32_to_half(unsafe { avx2(&block, out) });
    }
    f32_to_half(body(&block, out))
}
