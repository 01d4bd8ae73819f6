use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result, CONFIG_INVALID};
use crate::rope::{rope, sliding_window, RopeScaling};

/// The Llama-family members that the core computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Llama,
    /// Llama whose attention may slide over a window.
    Mistral,
    /// Llama with biases on query, key and value.
    Qwen2,
    /// Llama with a norm on every query and key head.
    Qwen3,
}

impl Architecture {
    /// `model_type` in a config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// By `model_type`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3].into_iter().find(|kind| kind.name() == name)
    }
}

/// Shape of a model, read from the `config.json` of a Hugging Face folder or the metadata of a GGUF file, and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub architecture: Architecture,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub key_value_heads: usize,
    /// Even; `heads * head_dim` need not be `hidden_size`.
    pub head_dim: usize,
    pub vocabulary_size: usize,
    pub rms_norm_eps: f32,
    pub rope_theta: f64,
    /// How the rotary frequencies `rope_theta ^ (-2 pair / head_dim)` are changed; see [`RopeScaling::apply`].
    pub rope_scaling: Option<RopeScaling>,
    /// Tokens that a position attends to, itself included; all earlier ones where absent. Holds for every layer.
    pub sliding_window: Option<usize>,
    pub tied: bool,
    /// Prompt and completion together, in tokens.
    pub context_length: usize,
}

const FILE_LIMIT: u64 = 1 << 20;
const PARAMETER_LIMIT: u128 = 1 << 33;

impl Config {
    /// Reads `<dir>/config.json`. Absurd values and unsupported features are refused by name.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let fields = read_object(&path)?;
        Self::from_fields(&fields).map_err(|error| error.inside(&path))
    }

    /// Parses the text of a `config.json`.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|cause| invalid(format!("not JSON: {cause}")))?;
        let Value::Object(fields) = value else {
            return Err(invalid("not a JSON object"));
        };
        Self::from_fields(&fields)
    }

    /// From the fields of a `config.json`.
    pub fn from_fields(fields: &Map<String, Value>) -> Result<Self> {
        let name = fields.get("model_type").and_then(Value::as_str);
        let Some(architecture) = name.and_then(Architecture::from_name) else {
            let seen = name.map_or("none".to_string(), |name| format!("{name:?}"));
            return Err(invalid(format!("model type {seen} is not supported"))
                .at("model_type")
                .remedy("use a llama, mistral, qwen2 or qwen3 checkpoint, or another engine"));
        };
        for name in ["hidden_act", "hidden_activation"] {
            if let Some(act) = present(fields, name) {
                if act.as_str() != Some("silu") {
                    return Err(invalid(format!("activation {act} is not supported, only silu")).at(name));
                }
            }
        }
        for name in ["attention_bias", "mlp_bias"] {
            if boolean(fields, name)?.unwrap_or(false) {
                return Err(invalid(format!("{name} true is not supported")).at(name));
            }
        }
        if let Some(part) = number(fields, "partial_rotary_factor")?.filter(|part| *part != 1.0) {
            return Err(invalid(format!("a rotary embedding of {part} of each head is not supported, only 1"))
                .at("partial_rotary_factor"));
        }
        check_quantization(fields)?;
        let hidden_size = integer(fields, "hidden_size", 1 << 16)?;
        let heads = integer(fields, "num_attention_heads", 1 << 10)?;
        let key_value_heads = match present(fields, "num_key_value_heads") {
            Some(_) => integer(fields, "num_key_value_heads", 1 << 10)?,
            // What transformers takes for a file that does not say.
            None => match architecture {
                Architecture::Llama => heads,
                Architecture::Mistral => 8,
                Architecture::Qwen2 | Architecture::Qwen3 => 32,
            },
        };
        let head_dim = match present(fields, "head_dim") {
            Some(_) => integer(fields, "head_dim", 1 << 12)?,
            None if architecture == Architecture::Qwen3 => 128,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => {
                return Err(invalid(format!("hidden_size {hidden_size} is not a multiple of {heads} heads"))
                    .at("num_attention_heads"))
            }
        };
        let layers = integer(fields, "num_hidden_layers", 1 << 9)?;
        let (rope_theta, rope_scaling) = rope(fields)?;
        Self {
            architecture,
            hidden_size,
            intermediate_size: integer(fields, "intermediate_size", 1 << 18)?,
            layers,
            heads,
            key_value_heads,
            head_dim,
            vocabulary_size: integer(fields, "vocab_size", 1 << 22)?,
            rms_norm_eps: number(fields, "rms_norm_eps")?.unwrap_or(1e-6) as f32,
            rope_theta,
            rope_scaling,
            sliding_window: sliding_window(fields, architecture, layers)?,
            tied: boolean(fields, "tie_word_embeddings")?.unwrap_or(false),
            context_length: integer(fields, "max_position_embeddings", 1 << 24)?,
        }
        .checked()
    }

    /// What every config must hold, wherever it was read.
    pub(crate) fn checked(self) -> Result<Self> {
        if !self.heads.is_multiple_of(self.key_value_heads) {
            return Err(invalid(format!("{} heads are not a multiple of {}", self.heads, self.key_value_heads))
                .at("num_key_value_heads"));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(
                invalid(format!("head_dim {} is odd, rotary embedding needs pairs", self.head_dim)).at("head_dim")
            );
        }
        let eps = self.rms_norm_eps;
        if !(eps > 0.0 && eps <= 0.1) {
            return Err(invalid(format!("rms_norm_eps is {eps}, must be in (0, 0.1]")).at("rms_norm_eps"));
        }
        if !(1.0..=1e12).contains(&self.rope_theta) {
            return Err(invalid(format!("rope_theta is {}, must be from 1 to 1e12", self.rope_theta)).at("rope_theta"));
        }
        let parameters = self.parameter_count();
        if parameters > PARAMETER_LIMIT {
            return Err(invalid(format!("the sizes give {parameters} parameters, more than {PARAMETER_LIMIT}")));
        }
        Ok(self)
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn key_value_width(&self) -> usize {
        self.key_value_heads * self.head_dim
    }

    /// Whether query, key and value projections carry biases.
    pub fn has_bias(&self) -> bool {
        self.architecture == Architecture::Qwen2
    }

    /// Whether each query and key head is normalised before the rotary embedding (`self_attn.q_norm.weight` and
    /// `k_norm.weight`, `head_dim` numbers each).
    pub fn qk_norm(&self) -> bool {
        self.architecture == Architecture::Qwen3
    }

    /// Names and shapes (rows, columns; vectors have one row) of all tensors under their Hugging Face names, the head
    /// only where it is not the embedding.
    pub fn tensors(&self) -> Vec<(String, usize, usize)> {
        let (hidden, inner, head) = (self.hidden_size, self.intermediate_size, self.head_dim);
        let (query, key) = (self.query_width(), self.key_value_width());
        let mut tensors = vec![("model.embed_tokens.weight".to_string(), self.vocabulary_size, hidden)];
        for layer in 0..self.layers {
            let mut put = |name: &str, rows: usize, columns: usize| {
                tensors.push((format!("model.layers.{layer}.{name}"), rows, columns));
            };
            put("input_layernorm.weight", 1, hidden);
            for (name, rows) in [("q", query), ("k", key), ("v", key)] {
                put(&format!("self_attn.{name}_proj.weight"), rows, hidden);
                if self.has_bias() {
                    put(&format!("self_attn.{name}_proj.bias"), 1, rows);
                }
            }
            if self.qk_norm() {
                put("self_attn.q_norm.weight", 1, head);
                put("self_attn.k_norm.weight", 1, head);
            }
            put("self_attn.o_proj.weight", hidden, query);
            put("post_attention_layernorm.weight", 1, hidden);
            put("mlp.gate_proj.weight", inner, hidden);
            put("mlp.up_proj.weight", inner, hidden);
            put("mlp.down_proj.weight", hidden, inner);
        }
        tensors.push(("model.norm.weight".to_string(), 1, hidden));
        if !self.tied {
            tensors.push(("lm_head.weight".to_string(), self.vocabulary_size, hidden));
        }
        tensors
    }

    /// Trainable numbers; computed in 128 bits, so it can not overflow for checked sizes.
    pub fn parameter_count(&self) -> u128 {
        let [hidden, inner, layers, vocabulary, head] =
            [self.hidden_size, self.intermediate_size, self.layers, self.vocabulary_size, self.head_dim]
                .map(|size| size as u128);
        let (query, key) = (self.query_width() as u128, self.key_value_width() as u128);
        let bias = if self.has_bias() { query + 2 * key } else { 0 };
        let norms = if self.qk_norm() { 2 * head } else { 0 };
        let layer = hidden * (2 * query + 2 * key + 3 * inner + 2) + bias + norms;
        layers * layer + hidden + hidden * vocabulary * if self.tied { 1 } else { 2 }
    }
}

/// Reads a JSON file of bounded size that holds one object.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let text = read_text(path, FILE_LIMIT, CONFIG_INVALID)?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(invalid("not a JSON object").inside(path)),
        Err(cause) => Err(invalid(format!("not JSON: {cause}")).inside(path)),
    }
}

/// Reads a regular text file of at most `limit` bytes; what is wrong with it is said under `code`.
pub(crate) fn read_text(path: &Path, limit: u64, code: &'static str) -> Result<String> {
    let about = std::fs::metadata(path).map_err(|cause| Error::io(path, &cause))?;
    if !about.is_file() {
        return Err(Error::new(code, "not a regular file").inside(path));
    }
    if about.len() > limit {
        return Err(Error::new(code, format!("file has {} bytes, at most {limit} are read", about.len())).inside(path));
    }
    let bytes = std::fs::read(path).map_err(|cause| Error::io(path, &cause))?;
    String::from_utf8(bytes).map_err(|cause| Error::new(code, format!("not UTF-8: {cause}")).inside(path))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(CONFIG_INVALID, message)
}

pub(crate) fn present<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

pub(crate) fn integer(fields: &Map<String, Value>, name: &str, limit: u64) -> Result<usize> {
    let value = present(fields, name).ok_or_else(|| invalid(format!("{name} is missing")).at(name))?;
    match value.as_u64() {
        Some(number) if number >= 1 && number <= limit => Ok(number as usize),
        _ => Err(invalid(format!("{name} is {value}, must be an integer from 1 to {limit}")).at(name)),
    }
}

pub(crate) fn number(fields: &Map<String, Value>, name: &str) -> Result<Option<f64>> {
    match present(fields, name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(invalid(format!("{name} is {value}, must be a number")).at(name)),
        },
    }
}

pub(crate) fn boolean(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>> {
    match present(fields, name) {
        None => Ok(None),
        Some(value) => match value.as_bool() {
            Some(flag) => Ok(Some(flag)),
            None => Err(invalid(format!("{name} is {value}, must be true or false")).at(name)),
        },
    }
}

/// Accepts the one quantized layout that this crate reads: symmetric int8 weights with a scale an output row, and
/// activations that are quantized per token (the `int-quantized` format of compressed-tensors).
fn check_quantization(fields: &Map<String, Value>) -> Result<()> {
    let name = "quantization_config";
    let Some(quantization) = present(fields, name) else {
        return Ok(());
    };
    let refuse = |seen: String| Err(invalid(format!("quantized weights with {seen} are not supported")).at(name));
    for (field, wanted) in [("quant_method", "compressed-tensors"), ("format", "int-quantized")] {
        match quantization.get(field).and_then(Value::as_str) {
            Some(value) if value == wanted => {}
            other => return refuse(format!("{field} {other:?}")),
        }
    }
    let groups = quantization.get("config_groups").and_then(Value::as_object);
    for (group, scheme) in groups.into_iter().flatten() {
        let expected = [
            ("weights", "num_bits", Value::from(8)),
            ("weights", "type", Value::from("int")),
            ("weights", "strategy", Value::from("channel")),
            ("weights", "symmetric", Value::from(true)),
            ("input_activations", "num_bits", Value::from(8)),
            ("input_activations", "type", Value::from("int")),
            ("input_activations", "strategy", Value::from("token")),
            ("input_activations", "dynamic", Value::from(true)),
            ("input_activations", "symmetric", Value::from(true)),
        ];
        for (side, field, wanted) in expected {
            let seen = scheme.get(side).and_then(|side| side.get(field)).unwrap_or(&Value::Null);
            if *seen != wanted {
                return refuse(format!("{group}.{side}.{field} {seen}, not {wanted},"));
            }
        }
    }
    Ok(())
}

/// Whether the fields of a `config.json` (already accepted) announce int8 weights with a scale an output row.
pub(crate) fn announces_channel_int8(fields: &Map<String, Value>) -> bool {
    present(fields, "quantization_config").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn base() -> Map<String, Value> {
        let text = r#"{"model_type":"llama","hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,
            "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":256,"rms_norm_eps":1e-5,
            "rope_theta":10000.0,"tie_word_embeddings":true,"max_position_embeddings":256}"#;
        serde_json::from_str(text).unwrap()
    }

    fn with(changes: Value) -> Result<Config> {
        let mut fields = base();
        for (name, value) in changes.as_object().unwrap() {
            fields.insert(name.clone(), value.clone());
        }
        Config::parse(&Value::Object(fields).to_string())
    }

    #[test]
    fn a_plain_config_is_read() {
        let config = with(json!({})).unwrap();
        assert_eq!((config.head_dim, config.context_length, config.tied), (16, 256, true));
        assert_eq!((config.rope_scaling.clone(), config.sliding_window), (None, None));
        assert_eq!(config.parameter_count(), 2 * (64 * (128 + 64 + 3 * 128 + 2)) + 64 + 64 * 256);
    }

    #[test]
    fn members_of_the_family_differ_in_bias_norm_and_window() {
        for kind in ["llama", "mistral", "qwen2", "qwen3"] {
            let config = with(json!({"model_type": kind, "tie_word_embeddings": false})).unwrap();
            let numbers: usize = config.tensors().iter().map(|(_, rows, columns)| rows * columns).sum();
            assert_eq!(numbers as u128, config.parameter_count(), "{kind}");
        }
        let config = with(json!({"model_type": "qwen3", "head_dim": 32})).unwrap();
        assert!(config.qk_norm() && !config.has_bias());
        assert_eq!(config.query_width(), 128);
        let config = with(json!({"model_type": "mistral", "sliding_window": null})).unwrap();
        assert_eq!(config.sliding_window, None);
        assert_eq!(with(json!({"model_type": "mistral", "sliding_window": 32})).unwrap().sliding_window, Some(32));
        assert_eq!(with(json!({"model_type": "mistral"})).unwrap().sliding_window, Some(4096));
        let qwen = |rest: Value| {
            let mut fields = json!({"model_type": "qwen2", "sliding_window": 16});
            fields.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            with(fields).map(|config| config.sliding_window)
        };
        assert_eq!(qwen(json!({})).unwrap(), None);
        assert_eq!(qwen(json!({"use_sliding_window": true, "max_window_layers": 0})).unwrap(), Some(16));
        assert_eq!(qwen(json!({"use_sliding_window": true, "max_window_layers": 2})).unwrap(), None);
        assert_eq!(
            qwen(json!({"use_sliding_window": true, "max_window_layers": 1})).unwrap_err().place.as_deref(),
            Some("max_window_layers")
        );
        assert_eq!(
            qwen(json!({"use_sliding_window": true, "layer_types": ["full_attention", "sliding_attention"]}))
                .unwrap_err()
                .place
                .as_deref(),
            Some("layer_types")
        );
    }

    #[test]
    fn rotary_scaling_is_read_under_its_old_and_new_name() {
        let fields = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 128, "rope_theta": 500_000.0});
        let wanted =
            RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 128 };
        let new = with(json!({"rope_theta": null, "rope_parameters": fields})).unwrap();
        assert_eq!((new.rope_theta, new.rope_scaling.as_ref()), (500_000.0, Some(&wanted)));
        let old = with(json!({"rope_theta": 500_000.0, "rope_scaling": fields})).unwrap();
        assert_eq!(old, new);
        let linear = with(json!({"rope_scaling": {"type": "linear", "factor": 4}})).unwrap();
        assert_eq!(linear.rope_scaling, Some(RopeScaling::Linear { factor: 4.0 }));
    }

    #[test]
    fn absurd_and_unsupported_values_are_refused_with_their_field() {
        for (name, value) in [
            ("hidden_size", json!(0)),
            ("hidden_size", json!(-4)),
            ("hidden_size", json!(1e300)),
            ("vocab_size", json!(u64::MAX)),
            ("num_key_value_heads", json!(3)),
            ("head_dim", json!(15)),
            ("model_type", json!("mamba")),
            ("hidden_act", json!("gelu")),
            ("attention_bias", json!(true)),
            ("rms_norm_eps", json!(0.0)),
            ("rope_theta", json!("x")),
            ("rope_theta", json!(-1)),
            ("partial_rotary_factor", json!(0.5)),
            ("quantization_config", json!({"quant_method": "gptq"})),
            ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0})),
            ("rope_scaling", json!({"rope_type": "linear", "factor": -4.0})),
            ("rope_scaling", json!({"rope_type": "llama3", "factor": 4.0})),
            ("rope_parameters", json!([1])),
        ] {
            let error = with(json!({ name: value })).expect_err(&format!("{name} {value}"));
            assert_eq!(error.code, CONFIG_INVALID);
            assert_eq!(error.place.as_deref(), Some(name), "{error}");
        }
    }
}
