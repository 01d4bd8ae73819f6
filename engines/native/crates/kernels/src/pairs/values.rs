//! Numbers as bfloat16 and back.

#[cfg(target_arch = "x86_64")]
use super::{avx512, pairs_are_fast};
use crate::Isa;

#[inline(always)]
pub(super) fn low(pair: u32) -> f32 {
    f32::from_bits(pair << 16)
}

#[inline(always)]
pub(super) fn high(pair: u32) -> f32 {
    f32::from_bits(pair & 0xffff_0000)
}

/// A subnormal number becomes the zero of its sign.
#[inline(always)]
pub(super) fn flush(value: f32) -> f32 {
    let bits = value.to_bits();
    if bits & 0x7f80_0000 == 0 {
        f32::from_bits(bits & 0x8000_0000)
    } else {
        value
    }
}

/// The nearest bfloat16 in the low half, ties to even; a subnormal number becomes zero, a NaN stays one.
#[inline(always)]
pub(super) fn round(value: f32) -> u32 {
    let bits = flush(value).to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        bits >> 16 | 0x40
    } else {
        rounded
    }
}

/// Rounds neighbouring numbers to pairs; a last one without a neighbour is paired with zero.
///
/// # Panics
/// If `out` is not `x.len().div_ceil(2)` long.
pub fn round_pairs(isa: Isa, x: &[f32], out: &mut [u32]) {
    assert_eq!(out.len(), x.len().div_ceil(2), "pairs of {} numbers", x.len());
    #[cfg(target_arch = "x86_64")]
    if pairs_are_fast(isa) {
        // SAFETY: the instruction was asked for, the lengths are checked.
        unsafe { avx512::round_pairs(x, out) };
        let done = x.len() / 32 * 32;
        return round_plain(isa, &x[done..], &mut out[done / 2..]);
    }
    round_plain(isa, x, out);
}

crate::rows::kernel! {
    fn round_plain(x: &[f32], out: &mut [u32]) {
        let (pairs, rest) = x.as_chunks::<2>();
        for (pair, out) in pairs.iter().zip(out.iter_mut()) {
            *out = round(pair[0]) | round(pair[1]) << 16;
        }
        if let [single] = rest {
            out[pairs.len()] = round(*single);
        }
    }
}

/// The numbers of pairs, exactly. An odd `out` leaves the last high half unread.
///
/// # Panics
/// If there are too few pairs.
pub fn widen_pairs(isa: Isa, pairs: &[u32], out: &mut [f32]) {
    let pairs = &pairs[..out.len().div_ceil(2)];
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if isa.float() == Isa::Avx512 {
        // SAFETY: the machine has it, the lengths are checked.
        done = unsafe { avx512::widen_pairs(pairs, out) };
    }
    widen_plain(isa, &pairs[done / 2..], &mut out[done..]);
}

crate::rows::kernel! {
    fn widen_plain(pairs: &[u32], out: &mut [f32]) {
        let (twos, rest) = out.as_chunks_mut::<2>();
        for (out, pair) in twos.iter_mut().zip(pairs) {
            *out = [low(*pair), high(*pair)];
        }
        if let [single] = rest {
            *single = low(pairs[pairs.len() - 1]);
        }
    }
}
