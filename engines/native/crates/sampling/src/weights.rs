use crate::isa::compiled_wide;

/// What the likeliest token weighs: fewer than 2^20 tokens cannot overflow 64 bits.
pub(crate) const UNIT: u64 = 1 << 44;
/// Tokens whose weights are summed together, so that a draw looks at one such block only.
pub(crate) const BLOCK: usize = 1024;

/// 1.5 · 2^52: adding it rounds to a whole number held in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
const INTEGER: f64 = 4_503_599_627_370_496.0; // 2^52
/// e^-32 · 2^44 rounds to nothing.
const LEAST: f64 = -32.0;

/// How logits become weights: those of equal sum are the softmax at a temperature.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weighing {
    max: f64,
    scale: f64,
    /// Less than this weighs nothing.
    floor: f64,
}

impl Weighing {
    /// `max`: the greatest logit, finite. `temperature` above 0. `min_p` from 0 to 1.
    pub fn new(max: f32, temperature: f64, min_p: f64) -> Self {
        Self { max: f64::from(max), scale: (1.0 / temperature).min(1e300), floor: min_p * UNIT as f64 }
    }

    /// The same without min-p.
    pub fn without_floor(self) -> Self {
        Self { floor: 0.0, ..self }
    }

    /// round(2^44 · exp((logit - max) / temperature)), a whole number up to 2^44; NaN is not asked for.
    ///
    /// Reduction by ln 2 in two parts, then the Taylor series to the 12th power: relative error under 2^-50.
    #[inline(always)]
    pub fn weight(self, logit: f32) -> u64 {
        let x = (f64::from(logit) - self.max) * self.scale;
        let x = if x > LEAST { x } else { LEAST };
        let shifted = x * std::f64::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = (x - n * 0.693_147_180_369_123_8) - n * 1.908_214_929_270_587_7e-10;
        let mut p = 1.0 / 479_001_600.0;
        p = p * r + 1.0 / 39_916_800.0;
        p = p * r + 1.0 / 3_628_800.0;
        p = p * r + 1.0 / 362_880.0;
        p = p * r + 1.0 / 40_320.0;
        p = p * r + 1.0 / 5_040.0;
        p = p * r + 1.0 / 720.0;
        p = p * r + 1.0 / 120.0;
        p = p * r + 1.0 / 24.0;
        p = p * r + 1.0 / 6.0;
        p = p * r + 0.5;
        p = p * r + 1.0;
        p = p * r + 1.0;
        // The exponent goes up by n + 44; both stand in the low bits of their words.
        let exponent = shifted.to_bits().wrapping_add(44) << 52;
        let scaled = f64::from_bits(p.to_bits().wrapping_add(exponent)) + INTEGER;
        let kept = if scaled - INTEGER >= self.floor { scaled } else { INTEGER };
        kept.to_bits() & ((1 << 52) - 1)
    }

    /// The weights' sum in each block of `BLOCK` logits; returns that of all.
    pub fn sums(self, logits: &[f32], blocks: &mut Vec<u64>) -> u64 {
        blocks.clear();
        blocks.extend(logits.chunks(BLOCK).map(|values| sum(values, self)));
        blocks.iter().sum()
    }
}

compiled_wide! {
    fn sum(logits: &[f32], weighing: Weighing) -> u64 = sum_body
}

#[inline(always)]
fn sum_body(logits: &[f32], weighing: Weighing) -> u64 {
    let mut lanes = [0u64; 8];
    let (lines, rest) = logits.as_chunks::<8>();
    for line in lines {
        for lane in 0..8 {
            lanes[lane] += weighing.weight(line[lane]);
        }
    }
    for &logit in rest {
        lanes[0] += weighing.weight(logit);
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_the_exponential_in_units() {
        let weighing = Weighing::new(3.0, 0.7, 0.0);
        assert_eq!(weighing.weight(3.0), UNIT);
        assert_eq!(weighing.weight(f32::NEG_INFINITY), 0);
        assert_eq!(weighing.weight(f32::MIN), 0);
        for step in 0..200_000 {
            let logit = 3.0 - step as f32 * 1.1e-4;
            let expected = ((f64::from(logit) - 3.0) / 0.7).exp() * UNIT as f64;
            let weight = weighing.weight(logit) as f64;
            assert!((weight - expected).abs() <= 0.5 + expected * 4e-15, "{logit}: {weight}, {expected}");
        }
    }

    #[test]
    fn extreme_temperatures_stay_ordinary() {
        let cold = Weighing::new(1.0, f64::from_bits(1), 0.0);
        assert_eq!((cold.weight(1.0), cold.weight(0.999_999)), (UNIT, 0));
        let hot = Weighing::new(f32::MAX, 100.0, 0.0);
        assert_eq!((hot.weight(f32::MAX), hot.weight(f32::MIN)), (UNIT, 0));
    }

    #[test]
    fn min_p_drops_what_weighs_less_than_its_share() {
        let weighing = Weighing::new(0.0, 1.0, 0.1);
        let tenth = 0.1f32.ln();
        assert!(weighing.weight(tenth + 1e-4) > UNIT / 10);
        assert_eq!(weighing.weight(tenth - 1e-4), 0);
        assert_eq!(Weighing::new(0.0, 1.0, 1.0).weight(0.0), UNIT);
    }

    #[test]
    fn sums_are_the_same_in_every_width() {
        let logits: Vec<f32> =
            (0..5003u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 * 0.01 - 40.0).collect();
        let weighing = Weighing::new(0.96, 1.3, 0.001);
        let single: u64 = logits.iter().map(|&logit| weighing.weight(logit)).sum();
        let mut blocks = vec![];
        assert_eq!(weighing.sums(&logits, &mut blocks), single);
        assert_eq!((sum_body(&logits, weighing), blocks.len()), (single, 5));
    }
}
