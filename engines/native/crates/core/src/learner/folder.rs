//! The folders that a learner writes: a Hugging Face checkpoint, adapters merged, or a PEFT adapter.

use std::path::Path;

use cupel_files::safetensors::{self, Planned, Tensor};
use cupel_files::{guarded, Dtype, Error, Result, CONFIG_INVALID, IO, REQUEST_INVALID, TENSOR_NONFINITE};
use cupel_kernels::{gemm, pack_columns, panel_count, scale, Left, Line};
use serde_json::{json, Value};

use super::adapters::{module, Pair, PREFIX};
use super::parameters::{zeroed, Parameter, SCORE};
use super::{Head, Learner};

/// Rows that are merged at a time.
const ROWS: usize = 64;

impl Learner {
    /// Writes `config.json` (the parent's, with the new type) and `model.safetensors`, creating the folder. Adapters are
    /// merged in f32 into the base as it was trained on. A reward head makes it a classification model of one label.
    pub fn save(&self, dir: &Path, dtype: Dtype) -> Result<()> {
        guarded(|| {
            let kind = match dtype {
                Dtype::F32 => "float32",
                Dtype::Bf16 => "bfloat16",
                Dtype::F16 => {
                    return Err(Error::new(CONFIG_INVALID, "checkpoints are written as F32 or BF16, not F16"))
                }
            };
            let mut config: Value = serde_json::from_str(&self.config_text)
                .map_err(|cause| Error::new(CONFIG_INVALID, cause.to_string()).at("config.json"))?;
            if let Some(fields) = config.as_object_mut() {
                fields.remove("torch_dtype");
                fields.insert("dtype".to_string(), kind.into());
                if self.options.head == Head::Reward {
                    let family = match self.config.architecture.name() {
                        "mistral" => "Mistral",
                        "qwen2" => "Qwen2",
                        _ => "Llama",
                    };
                    fields.remove("problem_type");
                    fields.insert("architectures".to_string(), json!([format!("{family}ForSequenceClassification")]));
                    fields.insert("num_labels".to_string(), 1.into());
                    fields.insert("id2label".to_string(), json!({ "0": "LABEL_0" }));
                    fields.insert("label2id".to_string(), json!({ "LABEL_0": 0 }));
                }
            }
            std::fs::create_dir_all(dir).map_err(|cause| Error::io(dir, &cause))?;
            let path = dir.join("model.safetensors");
            if self.is_whole() {
                let tensors: Vec<Tensor<'_>> = self.trained.parameters.iter().map(|own| self.own(own)).collect();
                write_finite(&path, &tensors, dtype)?;
            } else {
                self.write_merged(&path, dtype)?;
            }
            write_json(dir, "config.json", &config)
        })
    }

    fn own<'a>(&'a self, parameter: &'a Parameter) -> Tensor<'a> {
        Tensor {
            name: &parameter.name,
            shape: &parameter.shape,
            values: &self.values[parameter.offset..][..parameter.length],
        }
    }

    /// One block of rows of one tensor in memory at a time.
    fn write_merged(&self, path: &Path, dtype: Dtype) -> Result<()> {
        let score = self.trained.parameters.iter().filter(|own| own.name == SCORE);
        let parameters: Vec<&Parameter> = self.layout.parameters.iter().chain(score).collect();
        let planned: Vec<Planned> = parameters
            .iter()
            .map(|parameter| Planned {
                name: parameter.name.clone(),
                element: dtype.name(),
                shape: parameter.shape.clone(),
                bytes: (parameter.length * dtype.size()) as u64,
            })
            .collect();
        let held = self.held();
        safetensors::write_planned(path, &planned, &[("format", "pt")], |index, out| {
            let parameter = parameters[index];
            let mut put = |values: &[f32]| {
                let mut bytes = Vec::with_capacity(values.len() * dtype.size());
                dtype.encode(values, &mut bytes);
                out.write_all(&bytes).map_err(|cause| Error::io(path, &cause))
            };
            if parameter.name == SCORE {
                let values = &self.values[parameter.offset..][..parameter.length];
                refuse_nonfinite(SCORE, values, dtype)?;
                return put(values);
            }
            let matrix = parameter.matrix();
            let merge = self.pair_of(&parameter.name).map(|pair| Merge::new(self, pair));
            let mut values = zeroed(ROWS.min(matrix.rows) * matrix.columns)?;
            for first in (0..matrix.rows).step_by(ROWS) {
                let rows = ROWS.min(matrix.rows - first);
                let values = &mut values[..rows * matrix.columns];
                held.rows(matrix, first, values);
                if let Some(merge) = &merge {
                    merge.add(first, rows, values);
                }
                refuse_nonfinite(&parameter.name, values, dtype)?;
                put(values)?;
            }
            Ok(())
        })
        .map(drop)
    }

    /// The adapter of a weight of the base.
    fn pair_of(&self, name: &str) -> Option<Pair> {
        let adapters = self.trained.adapters.as_ref()?;
        let wanted = name.strip_suffix(".weight")?;
        adapters.layers.iter().enumerate().find_map(|(layer, pairs)| {
            let found = pairs.iter().enumerate().find(|(projection, _)| module(layer, *projection) == wanted)?;
            *found.1
        })
    }

    /// Writes `adapter_config.json` and `adapter_model.safetensors` as PEFT reads them, creating the folder.
    pub fn save_adapter(&self, dir: &Path, dtype: Dtype) -> Result<()> {
        guarded(|| {
            let Some(adapters) = &self.trained.adapters else {
                return Err(Error::new(REQUEST_INVALID, "every weight is trained: there is no adapter to write")
                    .at("form")
                    .remedy("save it as a model"));
            };
            let reward = self.options.head == Head::Reward;
            let whole = |number: f64| {
                // PEFT writes whole alphas as integers.
                if number.fract() == 0.0 {
                    json!(number as i64)
                } else {
                    json!(number)
                }
            };
            let config = json!({
                "alpha_pattern": {},
                "auto_mapping": null,
                "base_model_name_or_path": null,
                "bias": "none",
                "exclude_modules": null,
                "fan_in_fan_out": false,
                "inference_mode": true,
                "init_lora_weights": true,
                "layer_replication": null,
                "layers_pattern": null,
                "layers_to_transform": null,
                "loftq_config": {},
                "lora_alpha": whole(adapters.alpha),
                "lora_bias": false,
                "lora_dropout": 0.0,
                "megatron_config": null,
                "megatron_core": "megatron.core",
                "modules_to_save": if reward { json!(["score"]) } else { Value::Null },
                "peft_type": "LORA",
                "r": adapters.rank,
                "rank_pattern": {},
                "revision": null,
                "target_modules": adapters.targets,
                "task_type": if reward { "SEQ_CLS" } else { "CAUSAL_LM" },
                "use_dora": false,
                "use_rslora": false,
            });
            std::fs::create_dir_all(dir).map_err(|cause| Error::io(dir, &cause))?;
            let score = format!("{PREFIX}{SCORE}");
            let tensors: Vec<Tensor<'_>> = self
                .trained
                .parameters
                .iter()
                .map(|own| match own.name.as_str() {
                    SCORE => Tensor { name: &score, ..self.own(own) },
                    _ => self.own(own),
                })
                .collect();
            let path = dir.join("adapter_model.safetensors");
            write_finite(&path, &tensors, dtype)?;
            write_json(dir, "adapter_config.json", &config)
        })
    }
}

/// Refuses what the type can not hold, before a file of finite numbers is written over.
pub(super) fn refuse_nonfinite(name: &str, values: &[f32], dtype: Dtype) -> Result<()> {
    // From here on a number rounds to infinity.
    let limit = if dtype == Dtype::Bf16 { 0x7f7f_8000 } else { 0x7f80_0000 };
    match values.iter().position(|value| value.abs().to_bits() >= limit) {
        None => Ok(()),
        Some(index) => {
            let message = format!("element {index} is {}, {} can not hold it", values[index], dtype.name());
            Err(Error::new(TENSOR_NONFINITE, message)
                .at(name)
                .remedy("lower the learning rate and start from an earlier checkpoint"))
        }
    }
}

fn write_finite(path: &Path, tensors: &[Tensor<'_>], dtype: Dtype) -> Result<()> {
    tensors.iter().try_for_each(|tensor| refuse_nonfinite(tensor.name, tensor.values, dtype))?;
    safetensors::write(path, tensors, dtype, &[("format", "pt".to_string())])
}

/// `scale · B A` of one projection, by rows.
struct Merge<'a> {
    learner: &'a Learner,
    pair: Pair,
    rank: usize,
    scale: f32,
    a: Vec<Line>,
}

impl<'a> Merge<'a> {
    fn new(learner: &'a Learner, pair: Pair) -> Self {
        let (rank, scale) =
            learner.trained.adapters.as_ref().map_or((0, 0.0), |adapters| (adapters.rank, adapters.scale));
        let values = &learner.values[pair.a..][..rank * pair.input];
        let mut a = vec![Line::default(); panel_count(pair.input) * rank];
        for (panel, lines) in a.chunks_exact_mut(rank).enumerate() {
            pack_columns(values, pair.input, pair.input, panel, lines);
        }
        Self { learner, pair, rank, scale, a }
    }

    fn add(&self, first: usize, rows: usize, out: &mut [f32]) {
        let (isa, width, rank) = (self.learner.isa, self.pair.input, self.rank);
        let left = Left::rows(&self.learner.values[self.pair.b + first * rank..][..rows * rank], rank);
        let mut delta = vec![0.0; rows * width];
        gemm(isa, (rows, width, rank), left, &self.a, rank, &mut delta, width, false);
        scale(isa, &mut delta, self.scale);
        out.iter_mut().zip(&delta).for_each(|(value, delta)| *value += delta);
    }
}

fn write_json(dir: &Path, name: &str, value: &Value) -> Result<()> {
    let target = dir.join(name);
    let text = serde_json::to_string_pretty(value).map_err(|cause| Error::new(IO, cause.to_string()))?;
    // Renamed into place: an interrupted write leaves the file that was there.
    let part = dir.join(format!(".{name}.part"));
    std::fs::write(&part, text + "\n")
        .and_then(|()| std::fs::rename(&part, &target))
        .inspect_err(|_| drop(std::fs::remove_file(&part)))
        .map_err(|cause| Error::io(&target, &cause))
}
