use crate::pool::SharedMut;
use cupel_files::{guarded, Error, Result, CONFIG_INVALID, GRADIENT_NONFINITE};
use cupel_kernels::{adamw, power, sum_squares};

use super::Learner;

/// Parameters of one task.
const RUN: usize = 1 << 14;

/// One AdamW step, as torch.optim.AdamW (decoupled weight decay, not applied to norms and biases).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOptions {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Global gradient norm is clipped to this; 0 = no clipping.
    pub max_grad_norm: f64,
}

impl Learner {
    /// Clips the accumulated gradients, steps AdamW, clears them. Returns the norm before clipping. A gradient
    /// that is not finite is an error that names its tensor; weights and moments then stay as they are.
    pub fn step(&mut self, options: StepOptions) -> Result<f32> {
        guarded(|| {
            options.check()?;
            self.require_trained("step")?;
            let runs: Vec<(usize, usize, bool)> = self
                .trained
                .parameters
                .iter()
                .flat_map(|parameter| {
                    let end = parameter.offset + parameter.length;
                    let run = move |start| (start, RUN.min(end - start), parameter.decay);
                    (parameter.offset..end).step_by(RUN).map(run)
                })
                .collect();
            let mut sums = vec![0.0f32; runs.len()];
            let shared = SharedMut::new(&mut sums);
            let (isa, gradients) = (self.isa, &self.gradients);
            self.pool.run(runs.len(), &|task| {
                let (start, length, _) = runs[task];
                // SAFETY: each task writes its own sum.
                let sum = unsafe { shared.range(task, 1) };
                sum[0] = sum_squares(isa, &gradients[start..][..length]);
            });
            let norm = sums.iter().map(|sum| f64::from(*sum)).sum::<f64>().sqrt();
            if !norm.is_finite() {
                return Err(self.nonfinite());
            }
            let clip = if options.max_grad_norm > 0.0 { (options.max_grad_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
            let steps = self.steps + 1;
            let rate = (options.lr / (1.0 - power(options.beta1, steps))) as f32;
            let root = (1.0 - power(options.beta2, steps)).sqrt() as f32;
            let decayed = (1.0 - options.lr * options.weight_decay) as f32;
            let overflows = |name, value| invalid(name, format!("{value} overflows f32 in step {steps}"));
            if !rate.is_finite() {
                return Err(overflows("lr", options.lr));
            }
            if !decayed.is_finite() {
                return Err(overflows("weight_decay", options.weight_decay));
            }
            self.steps = steps;
            let weights = SharedMut::new(&mut self.values);
            let gradients = SharedMut::new(&mut self.gradients);
            let first = SharedMut::new(&mut self.first);
            let second = SharedMut::new(&mut self.second);
            self.pool.run(runs.len(), &|task| {
                let (start, length, decay) = runs[task];
                // SAFETY: runs do not overlap.
                let [weight, gradient, first, second] = unsafe {
                    [
                        weights.range(start, length),
                        gradients.range(start, length),
                        first.range(start, length),
                        second.range(start, length),
                    ]
                };
                let decay = if decay { decayed } else { 1.0 };
                let beta2 = options.beta2 as f32;
                let (rest1, rest2) = ((1.0 - options.beta1) as f32, (1.0 - options.beta2) as f32);
                adamw(
                    isa,
                    weight,
                    gradient,
                    first,
                    second,
                    clip as f32,
                    decay,
                    rest1,
                    beta2,
                    rest2,
                    rate,
                    root,
                    options.eps as f32,
                );
            });
            self.values_changed();
            Ok(norm as f32)
        })
    }

    fn nonfinite(&self) -> Error {
        for parameter in &self.trained.parameters {
            let values = &self.gradients[parameter.offset..][..parameter.length];
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Error::new(GRADIENT_NONFINITE, format!("gradient element {index} is {}", values[index]))
                    .at(parameter.name.clone())
                    .remedy("lower the learning rate or look for a broken example");
            }
        }
        Error::new(GRADIENT_NONFINITE, "the gradient norm overflows")
            .remedy("lower the learning rate or look for a broken example")
    }
}

impl StepOptions {
    fn check(&self) -> Result<()> {
        let fields = [
            ("lr", self.lr, self.lr >= 0.0),
            ("beta1", self.beta1, (0.0..1.0).contains(&self.beta1)),
            ("beta2", self.beta2, (0.0..1.0).contains(&self.beta2)),
            ("eps", self.eps, self.eps as f32 > 0.0),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0),
            ("max_grad_norm", self.max_grad_norm, self.max_grad_norm >= 0.0),
        ];
        match fields.iter().find(|(_, value, good)| !good || !value.is_finite()) {
            Some((name, value, _)) => Err(invalid(name, value.to_string())),
            None => Ok(()),
        }
    }
}

fn invalid(name: &str, seen: String) -> Error {
    Error::new(CONFIG_INVALID, format!("{name} is {seen}")).at(format!("step.{name}"))
}
