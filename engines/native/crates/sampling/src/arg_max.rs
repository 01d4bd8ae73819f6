use crate::isa::compiled_wide;

/// What the greatest logit is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Peak {
    /// The lowest id of the greatest logit.
    Token(u32, f32),
    /// No token is allowed, or all are minus infinity.
    None,
    /// The lowest allowed id whose logit is NaN or plus infinity: nothing may be chosen.
    NonFinite(u32, f32),
}

const LANES: usize = 16;
/// Logits of which only the maximum is kept at first; the place is looked for in one such block.
const BLOCK: usize = 1024;

/// The bit of each token in its word.
const BITS: [u32; 32] = {
    let mut bits = [0; 32];
    let mut bit = 0;
    while bit < 32 {
        bits[bit] = 1 << bit;
        bit += 1;
    }
    bits
};

/// The greatest of `logits`. One pass. Any NaN or plus infinity is reported instead, minus infinity never chosen.
pub fn arg_max(logits: &[f32]) -> Peak {
    let (mut best, mut at) = (f32::NEG_INFINITY, 0);
    let mut sound = true;
    for (block, values) in logits.chunks(BLOCK).enumerate() {
        let (value, numbers) = block_max(values);
        sound &= numbers;
        if value > best {
            (best, at) = (value, block * BLOCK);
        }
    }
    if !sound || best == f32::INFINITY {
        let unsound = logits.iter().position(|&value| value.is_nan() || value == f32::INFINITY);
        return unsound.map_or(Peak::None, |token| Peak::NonFinite(token as u32, logits[token]));
    }
    match logits[at..].iter().position(|&value| value == best && value > f32::NEG_INFINITY) {
        Some(offset) => Peak::Token((at + offset) as u32, best),
        None => Peak::None,
    }
}

/// The greatest of the allowed `logits`: token i is allowed when bit i mod 32 of word i div 32 is set. Tokens
/// beyond the words are not allowed, bits beyond the logits ignored. Logits that are not allowed may be anything.
pub fn arg_max_masked(logits: &[f32], allowed: &[u32]) -> Peak {
    let (mut best, mut at) = (f32::NEG_INFINITY, 0);
    let mut sound = true;
    for (block, (values, words)) in logits.chunks(BLOCK).zip(allowed.chunks(BLOCK / 32)).enumerate() {
        let (value, numbers) = masked_max(values, words);
        sound &= numbers;
        if value > best {
            (best, at) = (value, block * BLOCK);
        }
    }
    let is_allowed = |token: usize| allowed.get(token / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
    if !sound || best == f32::INFINITY {
        let unsound = |value: f32| value.is_nan() || value == f32::INFINITY;
        let unsound = (0..logits.len()).find(|&token| is_allowed(token) && unsound(logits[token]));
        return unsound.map_or(Peak::None, |token| Peak::NonFinite(token as u32, logits[token]));
    }
    let chosen = |&token: &usize| logits[token] == best && best > f32::NEG_INFINITY && is_allowed(token);
    match (at..logits.len()).find(chosen) {
        Some(token) => Peak::Token(token as u32, best),
        None => Peak::None,
    }
}

compiled_wide! {
    /// The greatest value, NaN left out, and whether there is no NaN.
    fn block_max(values: &[f32]) -> (f32, bool) = block_max_body
}

#[inline(always)]
fn block_max_body(values: &[f32]) -> (f32, bool) {
    let mut best = [f32::NEG_INFINITY; LANES];
    let mut numbers = [true; LANES];
    let (lines, rest) = values.as_chunks::<LANES>();
    for line in lines {
        for lane in 0..LANES {
            best[lane] = if line[lane] > best[lane] { line[lane] } else { best[lane] };
            numbers[lane] &= !line[lane].is_nan();
        }
    }
    for (lane, &value) in rest.iter().enumerate() {
        best[lane] = if value > best[lane] { value } else { best[lane] };
        numbers[lane] &= !value.is_nan();
    }
    let best = best.into_iter().fold(f32::NEG_INFINITY, |best, value| if value > best { value } else { best });
    (best, numbers.into_iter().all(|number| number))
}

compiled_wide! {
    /// As `block_max`, of the allowed values only.
    fn masked_max(values: &[f32], words: &[u32]) -> (f32, bool) = masked_max_body
}

#[inline(always)]
fn masked_max_body(values: &[f32], words: &[u32]) -> (f32, bool) {
    let mut best = [f32::NEG_INFINITY; 32];
    let mut unsound = [0u32; 32];
    let (lines, rest) = values.as_chunks::<32>();
    for (line, &word) in lines.iter().zip(words) {
        if word & word.wrapping_sub(1) == 0 {
            // At most one bit, as most words of a narrow mask.
            if word != 0 {
                let value = line[word.trailing_zeros() as usize];
                best[0] = if value > best[0] { value } else { best[0] };
                unsound[0] |= u32::from(value.is_nan());
            }
            continue;
        }
        for lane in 0..32 {
            let value = if word & BITS[lane] != 0 { line[lane] } else { f32::NEG_INFINITY };
            best[lane] = if value > best[lane] { value } else { best[lane] };
            unsound[lane] |= u32::from(value.is_nan());
        }
    }
    let word = words.get(lines.len()).copied().unwrap_or(0);
    for (lane, &value) in rest.iter().enumerate().filter(|(lane, _)| word & BITS[*lane] != 0) {
        best[lane] = if value > best[lane] { value } else { best[lane] };
        unsound[lane] |= u32::from(value.is_nan());
    }
    let best = best.into_iter().fold(f32::NEG_INFINITY, |best, value| if value > best { value } else { best });
    (best, unsound.into_iter().all(|flag| flag == 0))
}

/// Writes minus infinity over every logit that is not allowed.
pub(crate) fn mask(logits: &mut [f32], allowed: &[u32]) {
    let known = logits.len().min(allowed.len() * 32);
    logits[known..].fill(f32::NEG_INFINITY);
    mask_words(&mut logits[..known], allowed);
}

compiled_wide! {
    fn mask_words(logits: &mut [f32], allowed: &[u32]) -> () = mask_words_body
}

#[inline(always)]
fn mask_words_body(logits: &mut [f32], allowed: &[u32]) {
    let (lines, rest) = logits.as_chunks_mut::<32>();
    for (line, &word) in lines.iter_mut().zip(allowed) {
        for lane in 0..32 {
            line[lane] = if word & BITS[lane] != 0 { line[lane] } else { f32::NEG_INFINITY };
        }
    }
    let word = allowed.get(lines.len()).copied().unwrap_or(0);
    for (value, bit) in rest.iter_mut().zip(BITS) {
        *value = if word & bit != 0 { *value } else { f32::NEG_INFINITY };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(logits: &[f32], allowed: impl Fn(usize) -> bool) -> Peak {
        let mut peak = Peak::None;
        for (token, &value) in logits.iter().enumerate().filter(|&(token, _)| allowed(token)) {
            if value.is_nan() || value == f32::INFINITY {
                return Peak::NonFinite(token as u32, value);
            }
            let best = if let Peak::Token(_, best) = peak { best } else { f32::NEG_INFINITY };
            if value > best {
                peak = Peak::Token(token as u32, value);
            }
        }
        peak
    }

    fn same(left: Peak, right: Peak) -> bool {
        format!("{left:?}") == format!("{right:?}")
    }

    fn logit() -> impl Strategy<Value = f32> {
        prop_oneof![
            60 => (-8i32..8).prop_map(|value| value as f32),
            20 => -1e4f32..1e4,
            4 => Just(f32::NEG_INFINITY),
            1 => Just(-0.0f32),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_first_of_the_greatest_is_found(
            mut logits in prop::collection::vec(logit(), 0..2600),
            words in prop::collection::vec(prop_oneof![Just(0u32), Just(u32::MAX), any::<u32>(), Just(1 << 7)], 0..90),
            spoil: Option<(prop::sample::Index, bool)>,
        ) {
            let allowed = |token: usize| words.get(token / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
            for _ in 0..2 {
                prop_assert!(same(arg_max(&logits), naive(&logits, |_| true)));
                prop_assert!(same(arg_max_masked(&logits, &words), naive(&logits, allowed)));
                let mut masked = logits.clone();
                mask(&mut masked, &words);
                for (token, &value) in masked.iter().enumerate() {
                    let expected = if allowed(token) { logits[token] } else { f32::NEG_INFINITY };
                    prop_assert_eq!(value.to_bits(), expected.to_bits());
                }
                if let (Some((index, nan)), false) = (&spoil, logits.is_empty()) {
                    let at = index.index(logits.len());
                    logits[at] = if *nan { f32::NAN } else { f32::INFINITY };
                }
            }
        }

        #[test]
        fn the_wide_versions_are_the_narrow_one(
            values in prop::collection::vec(prop_oneof![20 => logit(), 1 => Just(f32::NAN)], 0..200),
            words in prop::collection::vec(any::<u32>(), 8),
        ) {
            let bits = |(value, sound): (f32, bool)| (value, sound);
            prop_assert_eq!(bits(block_max(&values)), bits(block_max_body(&values)));
            prop_assert_eq!(bits(masked_max(&values, &words)), bits(masked_max_body(&values, &words)));
        }
    }
}
