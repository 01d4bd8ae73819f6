/// Philox4x32-10: four random words for a counter under a key. Salmon, Moraes, Dror, Shaw, "Parallel random
/// numbers: as easy as 1, 2, 3", SC 2011; equal to the published Random123 vectors.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let [mut first, mut second] = key;
    for _ in 0..10 {
        let left = u64::from(a) * 0xD251_1F53;
        let right = u64::from(c) * 0xCD9E_8D57;
        (a, c) = ((right >> 32) as u32 ^ b ^ first, (left >> 32) as u32 ^ d ^ second);
        (b, d) = (right as u32, left as u32);
        first = first.wrapping_add(0x9E37_79B9);
        second = second.wrapping_add(0xBB67_AE85);
    }
    [a, b, c, d]
}

/// A whole number from 0 below `limit`, for a step of a stream under a seed. Uniform to within 2^-64.
pub(crate) fn number_below(limit: u64, seed: u64, stream: u64, step: u64) -> u64 {
    let halves = |word: u64| [word as u32, (word >> 32) as u32];
    let ([step_low, step_high], [stream_low, stream_high]) = (halves(step), halves(stream));
    let words = philox([step_low, step_high, stream_low, stream_high], halves(seed));
    let word = u64::from(words[1]) << 32 | u64::from(words[0]);
    ((u128::from(word) * u128::from(limit)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::philox;

    #[test]
    fn philox_gives_the_published_vectors() {
        // Random123 1.14.0, tests/kat_vectors, "philox4x32 10".
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = u32::MAX;
        assert_eq!(philox([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let key = [0xa409_3822, 0x299f_31d0];
        assert_eq!(philox(counter, key), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }
}
