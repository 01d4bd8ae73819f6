//! LoRA adapters in PEFT's folder layout: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The adapted projection is `W x + scale * B (A x)`. What PEFT can write and this reader does not compute is
//! refused by name, never left out.

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::safetensors::Checkpoint;
use rules::Rules;

pub const ADAPTER_INVALID: &str = "CUPEL_NATIVE_ADAPTER_INVALID";

const CONFIG_FILE: &str = "adapter_config.json";
const TENSOR_FILE: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";
const SCORE: &str = "base_model.model.score.weight";
const PROJECTIONS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// The two factors of one projection, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraPair {
    /// `[rank, input width]`
    pub a: Vec<f32>,
    /// `[output width, rank]`
    pub b: Vec<f32>,
    pub rank: usize,
    /// `alpha / rank`, or `alpha / sqrt(rank)` with rank-stabilized LoRA; computed in f64 and rounded once.
    pub scale: f32,
}

/// A LoRA adapter whose shapes fit a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    pub name: String,
    /// By the module's Hugging Face name, e.g. `model.layers.0.self_attn.q_proj`; never empty.
    pub modules: BTreeMap<String, LoraPair>,
    /// The whole reward head beside the factors, of an adapter for one; `hidden` numbers.
    pub score: Option<Vec<f32>>,
}

impl Adapter {
    /// Reads a PEFT folder for a model of this shape. Only the seven projections of a layer can be adapted.
    ///
    /// Errors name file, field or tensor, and the value seen: `CUPEL_NATIVE_ADAPTER_INVALID` for what does not
    /// fit or is not supported, the codes of safetensors for a broken tensor file.
    /// Source: PEFT's `LoraConfig` and `LoraLayer.update_layer`.
    pub fn open(dir: &Path, name: &str, model: &Config) -> Result<Self> {
        Self::read(dir, name, model, false)
    }

    /// As [`Adapter::open`], of an adapter for a reward head: task `SEQ_CLS`, with the module `score` saved whole.
    pub fn open_reward(dir: &Path, name: &str, model: &Config) -> Result<Self> {
        Self::read(dir, name, model, true)
    }

    fn read(dir: &Path, name: &str, model: &Config, reward: bool) -> Result<Self> {
        let rules = Rules::read(&dir.join(CONFIG_FILE), reward)?;
        let path = dir.join(TENSOR_FILE);
        if !path.exists() {
            return Err(invalid(format!("{TENSOR_FILE} is missing"))
                .at(dir.display().to_string())
                .remedy("save the adapter with safetensors; pickled .bin files are not read"));
        }
        let place = path.display().to_string();
        let mut file = Checkpoint::from_file(&path)?;
        let found = pair_tensors(&file, &place, reward)?;
        let score = if reward { Some(read_score(&mut file, &place, model.hidden_size)?) } else { None };
        rules.check_targets(&found, model).map_err(|error| error.at(place.clone()))?;
        let mut modules = BTreeMap::new();
        for module in found {
            let tensor_place = |part: &str| format!("{place}: {}", tensor_name(&module, part));
            let Some((input, output)) = widths(&module, model) else {
                return Err(invalid(format!(
                    "{module} can not be adapted: the model has layers 0 to {} with {}",
                    model.layers - 1,
                    PROJECTIONS.join(", ")
                ))
                .at(tensor_place("A")));
            };
            let rank = rules.rank(&module);
            let mut read = |part: &str, shape: [usize; 2]| -> Result<Vec<f32>> {
                let tensor = tensor_name(&module, part);
                let seen = file.shape(&tensor)?;
                if seen != shape {
                    return Err(
                        invalid(format!("shape is {seen:?}, rank and model ask for {shape:?}")).at(tensor_place(part))
                    );
                }
                let mut values = vec![0.0; shape[0] * shape[1]];
                file.read(&tensor, &shape, &mut values).map_err(|error| match error.code {
                    crate::error::TENSOR_NONFINITE => Error { code: ADAPTER_INVALID, ..error },
                    _ => error,
                })?;
                Ok(values)
            };
            let a = read("A", [rank, input])?;
            let b = read("B", [output, rank])?;
            let scale = rules.scale(&module, rank);
            modules.insert(module, LoraPair { a, b, rank, scale });
        }
        Ok(Self { name: name.to_string(), modules, score })
    }

    /// Memory of the factors in bytes.
    pub fn bytes(&self) -> usize {
        self.modules.values().map(|pair| 4 * (pair.a.len() + pair.b.len())).sum()
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ADAPTER_INVALID, message)
}

fn read_score(file: &mut Checkpoint, place: &str, hidden: usize) -> Result<Vec<f32>> {
    let place = format!("{place}: {SCORE}");
    if !file.contains(SCORE) {
        return Err(invalid("the reward head is missing").at(place));
    }
    let seen = file.shape(SCORE)?;
    if seen != [1, hidden] {
        return Err(invalid(format!("shape is {seen:?}, the model asks for [1, {hidden}]")).at(place));
    }
    let mut values = vec![0.0; hidden];
    file.read(SCORE, &[1, hidden], &mut values).map_err(|error| match error.code {
        crate::error::TENSOR_NONFINITE => Error { code: ADAPTER_INVALID, ..error },
        _ => error,
    })?;
    Ok(values)
}

fn tensor_name(module: &str, part: &str) -> String {
    format!("{PREFIX}{module}.lora_{part}.weight")
}

/// Input and output width of a projection, none for what is no projection of this model.
fn widths(module: &str, model: &Config) -> Option<(usize, usize)> {
    let (layer, projection) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let number: usize = layer.parse().ok()?;
    // `parse` also reads "+1" and "01", which name no module.
    if number >= model.layers || number.to_string() != layer {
        return None;
    }
    let (hidden, inner) = (model.hidden_size, model.intermediate_size);
    match projection {
        "self_attn.q_proj" => Some((hidden, model.query_width())),
        "self_attn.k_proj" | "self_attn.v_proj" => Some((hidden, model.key_value_width())),
        "self_attn.o_proj" => Some((model.query_width(), hidden)),
        "mlp.gate_proj" | "mlp.up_proj" => Some((hidden, inner)),
        "mlp.down_proj" => Some((inner, hidden)),
        _ => None,
    }
}

/// Modules with both factors; any other tensor is refused by name, but for a reward head.
fn pair_tensors(file: &Checkpoint, place: &str, reward: bool) -> Result<BTreeSet<String>> {
    let mut factors: [BTreeSet<String>; 2] = Default::default();
    for name in file.names().into_iter().filter(|name| !reward || name != SCORE) {
        let inner = name.strip_prefix(PREFIX);
        let part = |end: &str| inner.and_then(|inner| inner.strip_suffix(end)).map(str::to_string);
        if let Some(module) = part(".lora_A.weight") {
            factors[0].insert(module);
        } else if let Some(module) = part(".lora_B.weight") {
            factors[1].insert(module);
        } else {
            let what = [
                (".lora_magnitude_vector", "a DoRA magnitude"),
                (".lora_B.bias", "a LoRA bias"),
                (".lora_embedding_", "an embedding adapter"),
                (".modules_to_save.", "a whole saved module"),
            ]
            .iter()
            .find(|(pattern, _)| name.contains(pattern))
            .map_or("not a LoRA factor", |(_, what)| what);
            return Err(invalid(format!("tensor is {what}, only {PREFIX}<module>.lora_A and lora_B are supported"))
                .at(format!("{place}: {name}"))
                .remedy("merge the adapter into its base checkpoint and use the merged one"));
        }
    }
    let [a, b] = factors;
    if let Some(module) = a.symmetric_difference(&b).next() {
        let (has, lacks) = if a.contains(module) { ("A", "B") } else { ("B", "A") };
        return Err(
            invalid(format!("has no lora_{lacks} beside it")).at(format!("{place}: {}", tensor_name(module, has)))
        );
    }
    if a.is_empty() {
        return Err(invalid("holds no LoRA factor").at(place));
    }
    Ok(a)
}
