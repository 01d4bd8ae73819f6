//! What a run goes on from: the trained values and both moments.

use std::path::Path;

use super::folder::refuse_nonfinite;
use super::parameters::zeroed;
use cupel_files::safetensors::{self, Checkpoint, Tensor};
use cupel_files::Dtype;
use cupel_files::{guarded, Error, Result, STATE_INVALID, TENSOR_NONFINITE};

use super::{Head, Learner};

const FORMAT: &str = "cupel-learner-2";
/// More steps than any run takes; keeps the count from wrapping around.
const STEP_LIMIT: u64 = 1 << 53;
const PARTS: [&str; 3] = ["weight", "first", "second"];

impl Learner {
    /// What else a continuation depends on, by name: another value would silently go on from another place.
    fn identity(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("format", FORMAT.to_string()),
            ("compute", self.options.compute.name().to_string()),
            ("head", if self.options.head == Head::Reward { "reward" } else { "tokens" }.to_string()),
        ];
        if let Some(adapters) = &self.trained.adapters {
            let targets = adapters.targets.join(",");
            fields.push(("adapter", format!("rank {} alpha {} targets {targets}", adapters.rank, adapters.alpha)));
            fields.push(("base", format!("{} {:016x}", self.options.base.name(), self.base_fingerprint())));
        }
        fields
    }

    /// A number that tells frozen bases apart; guards against mix-ups, not against intent.
    fn base_fingerprint(&self) -> u64 {
        let mut hash = 0x9e37_79b9_7f4a_7c15u64;
        let mut mix = |word: u64| {
            hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
            hash ^= hash >> 29;
        };
        self.base.iter().for_each(|value| mix(u64::from(value.to_bits())));
        for chunk in self.base_bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(u64::from_le_bytes(word));
        }
        hash
    }

    /// Writes the trained values, both moments and the step count as f32, so that a resumed run goes on bit by bit.
    /// Accumulated gradients and a frozen base are not part of it; the base is named by a fingerprint.
    pub fn save_state(&self, file: &Path) -> Result<()> {
        guarded(|| {
            self.require_trained("state")?;
            let parts = [&self.values, &self.first, &self.second];
            let mut named = Vec::new();
            for (part, values) in PARTS.iter().zip(parts) {
                for parameter in &self.trained.parameters {
                    let values = &values[parameter.offset..][..parameter.length];
                    refuse_nonfinite(&parameter.name, values, Dtype::F32)?;
                    named.push((format!("{part}.{}", parameter.name), &parameter.shape, values));
                }
            }
            let tensors: Vec<Tensor<'_>> =
                named.iter().map(|(name, shape, values)| Tensor { name, shape, values }).collect();
            let mut metadata = self.identity();
            metadata.push(("steps", self.steps.to_string()));
            safetensors::write(file, &tensors, Dtype::F32, &metadata)
        })
    }

    /// Reads what `save_state` wrote for a learner that was opened alike. On any error nothing is changed.
    pub fn load_state(&mut self, file: &Path) -> Result<()> {
        guarded(|| {
            self.require_trained("state")?;
            let place = file.display().to_string();
            let refuse = |message: String| Error::new(STATE_INVALID, message).at(place.clone());
            let mut state = Checkpoint::from_file(file)?;
            for (name, expected) in self.identity() {
                if state.metadata(name) != Some(&expected) {
                    let seen = state.metadata(name).map_or("absent".to_string(), |seen| format!("{seen:?}"));
                    return Err(refuse(format!("{name} is {seen}, this learner has {expected:?}")));
                }
            }
            let steps = state.metadata("steps").and_then(|text| text.parse::<u64>().ok());
            let steps = steps.filter(|steps| *steps < STEP_LIMIT);
            let steps = steps.ok_or_else(|| refuse(format!("step count is {:?}", state.metadata("steps"))))?;
            let expected = PARTS.len() * self.trained.parameters.len();
            if state.names().len() != expected {
                return Err(refuse(format!("holds {} tensors, this model has {expected}", state.names().len())));
            }
            let wrong = |error: Error| match error.code {
                TENSOR_NONFINITE => error,
                _ => refuse(error.to_string()),
            };
            let total = self.trained.total;
            let mut parts = [zeroed(total)?, zeroed(total)?, zeroed(total)?];
            for (part, values) in PARTS.iter().zip(&mut parts) {
                for parameter in &self.trained.parameters {
                    let out = &mut values[parameter.offset..][..parameter.length];
                    state.read(&format!("{part}.{}", parameter.name), &parameter.shape, out).map_err(wrong)?;
                    if *part == "second" && out.iter().any(|value| *value < 0.0) {
                        return Err(refuse(format!("second moment of {} is negative", parameter.name)));
                    }
                }
            }
            [self.values, self.first, self.second] = parts;
            self.steps = steps;
            self.values_changed();
            self.clear_gradients();
            Ok(())
        })
    }
}
