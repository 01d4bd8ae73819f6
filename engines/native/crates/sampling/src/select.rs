use crate::isa::compiled_wide;
use crate::weights::Weighing;

/// A token as a number whose order is that of preference: the greater logit, and the lower id among equals.
pub(crate) fn key(logit: f32, token: u32) -> u64 {
    // Adding zero makes one of both zeros.
    let bits = (logit + 0.0).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(!token)
}

/// The token of a key.
pub(crate) fn token(key: u64) -> u32 {
    !(key as u32)
}

/// The logit of a key.
pub(crate) fn logit(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
}

/// The keys of the `count` preferred tokens, or of all that are above minus infinity, best first. One pass over
/// `logits`, which hold no NaN; expected work n + count · log(n / count).
pub(crate) fn best(logits: &[f32], count: usize, keys: &mut Vec<u64>) {
    const LINE: usize = 64;
    keys.clear();
    if count == 0 {
        return;
    }
    let room = count.saturating_mul(2).max(LINE);
    // Ids rise, so a later token that only equals the last one kept loses to it.
    let mut bar = f32::NEG_INFINITY;
    for (line, values) in logits.chunks(LINE).enumerate() {
        if !any_above(values, bar) {
            continue;
        }
        for (offset, &value) in values.iter().enumerate() {
            if value > bar {
                keys.push(key(value, (line * LINE + offset) as u32));
            }
        }
        if keys.len() >= room {
            keep(keys, count);
            bar = logit(keys[count - 1]);
        }
    }
    keep(keys, count);
    keys.sort_unstable_by(|left, right| right.cmp(left));
}

/// Leaves the `count` greatest, the least of them last.
fn keep(keys: &mut Vec<u64>, count: usize) {
    if keys.len() > count {
        keys.select_nth_unstable_by(count - 1, |left, right| right.cmp(left));
        keys.truncate(count);
    }
}

compiled_wide! {
    fn any_above(values: &[f32], bar: f32) -> bool = any_above_body
}

#[inline(always)]
fn any_above_body(values: &[f32], bar: f32) -> bool {
    values.iter().fold(false, |any, &value| any | (value > bar))
}

/// Among all tokens above minus infinity, best first: the key of the one with which the sum of weights reaches
/// `need`, which the sum of all must. Expected work linear, whatever the distribution.
pub(crate) fn crossing(logits: &[f32], weighing: Weighing, need: u64) -> u64 {
    let tokens = (0u32..).zip(logits).filter(|(_, &value)| value > f32::NEG_INFINITY);
    let mut keys: Vec<u64> = tokens.map(|(token, &value)| key(value, token)).collect();
    let (mut begin, mut end, mut before) = (0, keys.len(), 0);
    while end - begin > 1 {
        let middle = begin + (end - begin) / 2;
        keys[begin..end].select_nth_unstable_by(middle - begin, |left, right| right.cmp(left));
        let sum: u64 = keys[begin..middle].iter().map(|&key| weighing.weight(logit(key))).sum();
        if before + sum >= need {
            end = middle;
        } else {
            before += sum;
            begin = middle;
        }
    }
    keys[begin]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(logits: &[f32]) -> Vec<u64> {
        let tokens = (0u32..).zip(logits).filter(|(_, &value)| value > f32::NEG_INFINITY);
        let mut pairs: Vec<(u32, f32)> = tokens.map(|(token, &value)| (token, value)).collect();
        pairs.sort_by(|left, right| right.1.partial_cmp(&left.1).unwrap().then(left.0.cmp(&right.0)));
        pairs.into_iter().map(|(token, value)| key(value, token)).collect()
    }

    #[test]
    fn keys_hold_their_token_and_logit() {
        for (value, id) in [(0.0, 0), (1.5, 7), (-1.5, u32::MAX), (f32::MIN, 3), (f32::MAX, 151_000), (1e-40, 1)] {
            let key = key(value, id);
            assert_eq!((logit(key), token(key)), (value, id));
        }
        assert!(key(-0.0, 3) > key(0.0, 4), "both zeros are equal, so the lower id is preferred");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn selection_is_the_head_of_a_full_sort(
            logits in prop::collection::vec(prop_oneof![
                8 => (-30i32..30).prop_map(|value| value as f32 * 0.25),
                8 => -20f32..20.0,
                1 => Just(f32::NEG_INFINITY),
            ], 1..1500),
            count in prop_oneof![0usize..20, 0usize..1600],
            order in 0u8..3,
            share in 0.0f64..1.0,
        ) {
            let mut logits = logits;
            match order {
                0 => logits.sort_by(f32::total_cmp),
                1 => logits.sort_by(|left, right| right.total_cmp(left)),
                _ => {}
            }
            let all = sorted(&logits);
            let mut keys = vec![];
            best(&logits, count, &mut keys);
            prop_assert_eq!(&keys[..], &all[..count.min(all.len())]);
            if let Some(&first) = all.first() {
                let weighing = Weighing::new(logit(first), 0.8, 0.0);
                let total: u64 = all.iter().map(|&key| weighing.weight(logit(key))).sum();
                let need = ((total as f64 * share) as u64).clamp(1, total);
                let mut sum = 0;
                let expected = all.iter().find(|&&key| { sum += weighing.weight(logit(key)); sum >= need });
                prop_assert_eq!(Some(&crossing(&logits, weighing, need)), expected);
            }
        }
    }
}
