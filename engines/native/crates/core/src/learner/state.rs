//! What a learner writes and reads.

use std::path::Path;

use super::parameters::zeroed;
use cupel_files::safetensors::{self, Checkpoint, Tensor};
use cupel_files::Dtype;
use cupel_files::{guarded, Error, Result, CONFIG_INVALID, IO, STATE_INVALID, TENSOR_NONFINITE};

use super::Learner;

const FORMAT: &str = "cupel-learner-1";
const PARTS: [&str; 3] = ["weight", "first", "second"];

impl Learner {
    /// Writes `config.json` (the parent's, with the new type) and `model.safetensors`, creating the folder.
    pub fn save(&self, dir: &Path, dtype: Dtype) -> Result<()> {
        guarded(|| {
            let kind = match dtype {
                Dtype::F32 => "float32",
                Dtype::Bf16 => "bfloat16",
                Dtype::F16 => {
                    return Err(Error::new(CONFIG_INVALID, "checkpoints are written as F32 or BF16, not F16"))
                }
            };
            let mut config: serde_json::Value = serde_json::from_str(&self.config_text)
                .map_err(|cause| Error::new(CONFIG_INVALID, cause.to_string()).at("config.json"))?;
            if let Some(fields) = config.as_object_mut() {
                fields.remove("torch_dtype");
                fields.insert("dtype".to_string(), kind.into());
            }
            std::fs::create_dir_all(dir).map_err(|cause| Error::io(dir, &cause))?;
            let target = dir.join("config.json");
            let text = serde_json::to_string_pretty(&config).map_err(|cause| Error::new(IO, cause.to_string()))?;
            std::fs::write(&target, text + "\n").map_err(|cause| Error::io(&target, &cause))?;
            let tensors: Vec<Tensor<'_>> = self
                .layout
                .parameters
                .iter()
                .map(|parameter| Tensor {
                    name: &parameter.name,
                    shape: &parameter.shape,
                    values: &self.weights[parameter.offset..][..parameter.length],
                })
                .collect();
            safetensors::write(&dir.join("model.safetensors"), &tensors, dtype, &[("format", "pt".to_string())])
        })
    }

    /// Writes weights, both moments and the step count as f32, so that a resumed run goes on bit by bit.
    /// Accumulated gradients are not part of it.
    pub fn save_state(&self, file: &Path) -> Result<()> {
        guarded(|| {
            let parts = [&self.weights, &self.first, &self.second];
            let mut named = Vec::new();
            for (part, values) in PARTS.iter().zip(parts) {
                for parameter in &self.layout.parameters {
                    let values = &values[parameter.offset..][..parameter.length];
                    named.push((format!("{part}.{}", parameter.name), &parameter.shape, values));
                }
            }
            let tensors: Vec<Tensor<'_>> =
                named.iter().map(|(name, shape, values)| Tensor { name, shape, values }).collect();
            let metadata = [("format", FORMAT.to_string()), ("steps", self.steps.to_string())];
            safetensors::write(file, &tensors, Dtype::F32, &metadata)
        })
    }

    /// Reads what `save_state` wrote for a model of the same shape. On any error nothing is changed.
    pub fn load_state(&mut self, file: &Path) -> Result<()> {
        guarded(|| {
            let place = file.display().to_string();
            let refuse = |message: String| Error::new(STATE_INVALID, message).at(place.clone());
            let mut state = Checkpoint::from_file(file)?;
            if state.metadata("format") != Some(FORMAT) {
                return Err(refuse(format!("format is {:?}, expected {FORMAT:?}", state.metadata("format"))));
            }
            let steps = state.metadata("steps").and_then(|text| text.parse::<u64>().ok());
            let steps = steps.ok_or_else(|| refuse(format!("step count is {:?}", state.metadata("steps"))))?;
            let expected = PARTS.len() * self.layout.parameters.len();
            if state.names().len() != expected {
                return Err(refuse(format!("holds {} tensors, this model has {expected}", state.names().len())));
            }
            let wrong = |error: Error| match error.code {
                TENSOR_NONFINITE => error,
                _ => refuse(error.to_string()),
            };
            let mut parts = [zeroed(self.layout.total)?, zeroed(self.layout.total)?, zeroed(self.layout.total)?];
            for (part, values) in PARTS.iter().zip(&mut parts) {
                for parameter in &self.layout.parameters {
                    let out = &mut values[parameter.offset..][..parameter.length];
                    state.read(&format!("{part}.{}", parameter.name), &parameter.shape, out).map_err(wrong)?;
                    if *part == "second" && out.iter().any(|value| *value < 0.0) {
                        return Err(refuse(format!("second moment of {} is negative", parameter.name)));
                    }
                }
            }
            [self.weights, self.first, self.second] = parts;
            self.steps = steps;
            self.packed = [false; 2];
            self.clear_gradients();
            self.forget_pass();
            Ok(())
        })
    }
}
