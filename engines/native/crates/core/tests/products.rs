//! Training in f32 and in bfloat16: what may never change a bit, and how near bfloat16 is.

mod support;

use cupel_core::{AdapterOptions, Compute, Isa, Learner, LearnerOptions};
use support::{batch, learn, open, step};

const MODELS: [&str; 3] = ["llama-untied", "qwen2-tied", "llama-tied-gqa9"];

/// Rank 3 is no whole number of pairs.
fn adapter() -> Option<AdapterOptions> {
    Some(AdapterOptions { rank: 3, alpha: 6.0, targets: Vec::new(), seed: 4, from: None })
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Bits of losses, gradients and weights over two steps, the second of two backward passes.
fn run(model: &str, options: &LearnerOptions, kept_logits: Option<usize>) -> Vec<Vec<u32>> {
    let mut learner = open(model, options);
    if let Some(numbers) = kept_logits {
        learner.limit_kept_logits(numbers);
    }
    let mut out = Vec::new();
    for number in 0..2 {
        for _ in 0..=number {
            out.push(vec![learn(&mut learner, &batch(model, number, true)).to_bits() as u32]);
        }
        out.extend(learner.tensor_names().iter().map(|name| bits(&learner.gradient(name).unwrap())));
        out.push(vec![learner.step(step(2e-3)).unwrap().to_bits()]);
    }
    out.extend(learner.tensor_names().iter().map(|name| bits(&learner.tensor(name).unwrap())));
    out
}

#[test]
fn threads_instruction_sets_and_what_is_computed_again_change_no_bit() {
    for model in MODELS {
        for compute in [Compute::F32, Compute::Bf16] {
            for adapter in [None, adapter()] {
                let options = LearnerOptions { compute, adapter, isa: Some(Isa::Scalar), ..LearnerOptions::default() };
                let reference = run(model, &options, None);
                for isa in [Isa::Avx2, Isa::best()].into_iter().filter(|isa| isa.is_available()) {
                    let options = LearnerOptions { isa: Some(isa), ..options.clone() };
                    assert!(run(model, &options, None) == reference, "{model} {compute:?} {isa:?}");
                }
                for (threads, recompute, kept) in [(2, false, Some(0)), (3, true, None), (1, true, Some(20_000))] {
                    let options = LearnerOptions { threads, recompute, isa: None, ..options.clone() };
                    assert!(run(model, &options, kept) == reference, "{model} {compute:?} {threads} {recompute}");
                }
            }
        }
    }
}

/// Size of the difference of all gradients of the first batch, as a share of the size of the first's.
fn difference(one: &mut Learner, other: &mut Learner, model: &str) -> (f64, f64) {
    let losses = [&mut *one, &mut *other].map(|learner| learn(learner, &batch(model, 0, true)));
    let (mut apart, mut whole) = (0.0, 0.0);
    for name in one.tensor_names() {
        for (a, b) in one.gradient(&name).unwrap().iter().zip(other.gradient(&name).unwrap()) {
            apart += f64::from(a - b).powi(2);
            whole += f64::from(*a).powi(2);
        }
    }
    ((losses[0] / losses[1] - 1.0).abs(), (apart / whole).sqrt())
}

#[test]
fn bfloat16_is_near_f32_and_not_the_same() {
    for model in MODELS {
        for adapter in [None, adapter()] {
            let options = LearnerOptions { adapter, ..LearnerOptions::default() };
            let mut exact = open(model, &options);
            let mut rounded = open(model, &LearnerOptions { compute: Compute::Bf16, ..options });
            let (loss, gradient) = difference(&mut exact, &mut rounded, model);
            // Numbers are rounded to 8 bits; errors of many terms cancel in part.
            assert!(loss > 0.0 && loss < 2e-3, "{model}: losses differ by {loss}");
            assert!(gradient > 1e-4 && gradient < 2e-2, "{model}: gradients differ by {gradient}");
        }
    }
}

#[test]
fn bfloat16_learns_as_f32_does() {
    let model = "llama-tied-gqa9";
    let losses = [Compute::F32, Compute::Bf16].map(|compute| {
        let mut learner = open(model, &LearnerOptions { compute, ..LearnerOptions::default() });
        let mut last = f64::NAN;
        for _ in 0..30 {
            last = learn(&mut learner, &batch(model, 0, true));
            learner.step(step(5e-3)).unwrap();
        }
        last
    });
    assert!(losses[0] < 3.0, "30 steps on one batch leave a loss of {}", losses[0]);
    assert!((losses[1] / losses[0] - 1.0).abs() < 0.05, "{losses:?}");
}
