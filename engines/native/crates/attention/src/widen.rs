//! Stored keys and values as lines of f32: what the products read when many rows see a page.

use std::ops::Range;

use cupel_kernels::{half_to_f32, panel_count, Line, PANEL};

use crate::half::widen_all;
use crate::store::{KvStore, KvType, BLOCK};
use crate::PAGE;

/// The keys of one head of a page, panels `panels` of 16 positions: `out[panel * head_dim + dimension]`.
///
/// # Safety
/// Nobody writes this head of the page meanwhile; `part` is that head.
pub unsafe fn keys(store: &KvStore, part: *const u8, panels: Range<usize>, out: &mut [Line]) {
    let head_dim = store.head_dim();
    let (first, count) = (panels.start * head_dim, panels.len() * head_dim);
    let out = &mut out[first..first + count];
    match store.kind() {
        KvType::F32 => out.copy_from_slice(std::slice::from_raw_parts(part.cast::<Line>().add(first), count)),
        KvType::F16 => halves(part.cast::<u16>().add(first * PANEL), out),
        KvType::Q8_0 => {
            let blocks = head_dim.div_ceil(BLOCK);
            let scales = part.add(store.head_layout().key_scales).cast::<[u16; PANEL]>();
            let quantized = std::slice::from_raw_parts(part.cast::<[i8; PANEL]>().add(first), count);
            for (panel, out) in out.chunks_exact_mut(head_dim).enumerate() {
                let quantized = quantized[panel * head_dim..][..head_dim].chunks(BLOCK);
                for (block, (out, quantized)) in out.chunks_mut(BLOCK).zip(quantized).enumerate() {
                    let mut wide = [0.0; PANEL];
                    widen_all(&*scales.add((panels.start + panel) * blocks + block), &mut wide);
                    dequantize(quantized, |_| wide, out);
                }
            }
        }
    }
}

/// The values of one head of a page, its first `slots` positions: `out[panel * 32 + slot]` for panels of 16
/// dimensions.
///
/// # Safety
/// As `keys`.
pub unsafe fn values(store: &KvStore, part: *const u8, slots: usize, out: &mut [Line]) {
    let head_dim = store.head_dim();
    let source = part.add(store.head_layout().values);
    let mut scales = [0.0; PAGE];
    for (panel, out) in out.chunks_exact_mut(PAGE).enumerate().take(panel_count(head_dim)) {
        let out = &mut out[..slots];
        match store.kind() {
            KvType::F32 => {
                out.copy_from_slice(std::slice::from_raw_parts(source.cast::<Line>().add(panel * PAGE), slots));
            }
            KvType::F16 => halves(source.cast::<u16>().add(panel * PAGE * PANEL), out),
            KvType::Q8_0 => {
                let blocks = head_dim.div_ceil(BLOCK);
                let stored = part.add(store.head_layout().value_scales).cast::<u16>();
                let block = panel * PANEL / BLOCK;
                for (slot, scale) in scales.iter_mut().enumerate() {
                    *scale = half_to_f32(*stored.add(slot * blocks + block));
                }
                let quantized = std::slice::from_raw_parts(source.cast::<[i8; PANEL]>().add(panel * PAGE), slots);
                dequantize(quantized, |slot| [scales[slot]; PANEL], out);
            }
        }
    }
}

unsafe fn halves(source: *const u16, out: &mut [Line]) {
    let halves = std::slice::from_raw_parts(source, out.len() * PANEL);
    // SAFETY: a line is 16 floats without padding.
    let floats = std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<f32>(), out.len() * PANEL);
    widen_all(halves, floats);
}

/// `out = quantized · scale` by lines; exact, as a half times eight bits fits into a float.
fn dequantize(quantized: &[[i8; PANEL]], scale: impl Fn(usize) -> [f32; PANEL] + Copy, out: &mut [Line]) {
    #[inline(always)]
    fn body(quantized: &[[i8; PANEL]], scale: impl Fn(usize) -> [f32; PANEL], out: &mut [Line]) {
        for (index, (out, quantized)) in out.iter_mut().zip(quantized).enumerate() {
            let scale = scale(index);
            for lane in 0..PANEL {
                out.0[lane] = f32::from(quantized[lane]) * scale[lane];
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn avx2(quantized: &[[i8; PANEL]], scale: impl Fn(usize) -> [f32; PANEL], out: &mut [Line]) {
        body(quantized, scale, out);
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has the instructions.
        return unsafe { avx2(quantized, scale, out) };
    }
    body(quantized, scale, out);
}
