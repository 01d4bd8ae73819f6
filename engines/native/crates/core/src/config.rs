use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result, CONFIG_INVALID};

/// The Llama-family members that the core computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Llama,
    /// Llama with biases on query, key and value.
    Qwen2,
}

/// Shape of a model, read from the `config.json` of a Hugging Face folder and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub architecture: Architecture,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub key_value_heads: usize,
    pub head_dim: usize,
    pub vocabulary_size: usize,
    pub rms_norm_eps: f32,
    pub rope_theta: f64,
    pub tied: bool,
    /// Prompt and completion together, in tokens.
    pub context_length: usize,
}

const FILE_LIMIT: u64 = 4 << 20;

impl Config {
    /// Reads `<dir>/config.json`. Absurd values and unsupported features are refused by name.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let size = std::fs::metadata(&path).map_err(|cause| Error::io(&path, &cause))?.len();
        if size > FILE_LIMIT {
            return Err(
                invalid(format!("config.json has {size} bytes, more than {FILE_LIMIT}")).at(path.display().to_string())
            );
        }
        let text = std::fs::read_to_string(&path).map_err(|cause| Error::io(&path, &cause))?;
        Self::parse(&text).map_err(|error| {
            let place = match &error.place {
                Some(field) => format!("{}: {field}", path.display()),
                None => path.display().to_string(),
            };
            error.at(place)
        })
    }

    /// Parses the text of a `config.json`.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|cause| invalid(format!("not JSON: {cause}")))?;
        let Value::Object(fields) = value else {
            return Err(invalid("not a JSON object"));
        };
        let architecture = match fields.get("model_type").and_then(Value::as_str) {
            Some("llama") => Architecture::Llama,
            Some("qwen2") => Architecture::Qwen2,
            other => {
                let seen = other.map_or("none".to_string(), |name| format!("{name:?}"));
                return Err(invalid(format!("model type {seen} is not supported"))
                    .at("model_type")
                    .remedy("use a llama or qwen2 checkpoint, or another engine"));
            }
        };
        let hidden_size = integer(&fields, "hidden_size", 1 << 16)?;
        let heads = integer(&fields, "num_attention_heads", 1 << 10)?;
        let key_value_heads = match present(&fields, "num_key_value_heads") {
            Some(_) => integer(&fields, "num_key_value_heads", 1 << 10)?,
            None => heads,
        };
        let head_dim = match present(&fields, "head_dim") {
            Some(_) => integer(&fields, "head_dim", 1 << 12)?,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => {
                return Err(invalid(format!("hidden_size {hidden_size} is not a multiple of {heads} heads"))
                    .at("num_attention_heads"))
            }
        };
        if !heads.is_multiple_of(key_value_heads) {
            return Err(
                invalid(format!("{heads} heads are not a multiple of {key_value_heads}")).at("num_key_value_heads")
            );
        }
        if !head_dim.is_multiple_of(2) {
            return Err(invalid(format!("head_dim {head_dim} is odd, rotary embedding needs pairs")).at("head_dim"));
        }
        for name in ["hidden_act", "hidden_activation"] {
            if let Some(act) = present(&fields, name) {
                if act.as_str() != Some("silu") {
                    return Err(invalid(format!("activation {act} is not supported, only silu")).at(name));
                }
            }
        }
        for name in ["attention_bias", "mlp_bias", "use_sliding_window"] {
            if boolean(&fields, name)?.unwrap_or(false) {
                return Err(invalid(format!("{name} true is not supported")).at(name));
            }
        }
        let eps = number(&fields, "rms_norm_eps")?.unwrap_or(1e-6);
        if !(eps > 0.0 && eps <= 0.1) {
            return Err(invalid(format!("rms_norm_eps is {eps}, must be in (0, 0.1]")).at("rms_norm_eps"));
        }
        let config = Self {
            architecture,
            hidden_size,
            intermediate_size: integer(&fields, "intermediate_size", 1 << 18)?,
            layers: integer(&fields, "num_hidden_layers", 1 << 9)?,
            heads,
            key_value_heads,
            head_dim,
            vocabulary_size: integer(&fields, "vocab_size", 1 << 22)?,
            rms_norm_eps: eps as f32,
            rope_theta: rope_theta(&fields)?,
            tied: boolean(&fields, "tie_word_embeddings")?.unwrap_or(false),
            context_length: integer(&fields, "max_position_embeddings", 1 << 24)?,
        };
        let parameters = config.parameter_count();
        if parameters > 1 << 33 {
            return Err(invalid(format!("the sizes give {parameters} parameters, more than {}", 1u64 << 33)));
        }
        Ok(config)
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

    /// Trainable numbers; computed in 128 bits, so it can not overflow for checked sizes.
    pub fn parameter_count(&self) -> u128 {
        let [hidden, inner, layers, vocabulary] =
            [self.hidden_size, self.intermediate_size, self.layers, self.vocabulary_size].map(|size| size as u128);
        let (query, key) = (self.query_width() as u128, self.key_value_width() as u128);
        let bias = if self.has_bias() { query + 2 * key } else { 0 };
        let layer = hidden * (2 * query + 2 * key + 3 * inner + 2) + bias;
        layers * layer + hidden + hidden * vocabulary * if self.tied { 1 } else { 2 }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(CONFIG_INVALID, message)
}

fn present<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn integer(fields: &Map<String, Value>, name: &str, limit: u64) -> Result<usize> {
    let value = present(fields, name).ok_or_else(|| invalid(format!("{name} is missing")).at(name))?;
    match value.as_u64() {
        Some(number) if number >= 1 && number <= limit => Ok(number as usize),
        _ => Err(invalid(format!("{name} is {value}, must be an integer from 1 to {limit}")).at(name)),
    }
}

fn number(fields: &Map<String, Value>, name: &str) -> Result<Option<f64>> {
    match present(fields, name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(invalid(format!("{name} is {value}, must be a number")).at(name)),
        },
    }
}

fn boolean(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>> {
    match present(fields, name) {
        None => Ok(None),
        Some(value) => match value.as_bool() {
            Some(flag) => Ok(Some(flag)),
            None => Err(invalid(format!("{name} is {value}, must be true or false")).at(name)),
        },
    }
}

fn rope_theta(fields: &Map<String, Value>) -> Result<f64> {
    let mut theta = number(fields, "rope_theta")?;
    for name in ["rope_scaling", "rope_parameters"] {
        match present(fields, name) {
            None => {}
            Some(Value::Object(inner)) => {
                let kind = present(inner, "rope_type").or_else(|| present(inner, "type"));
                if kind.is_some_and(|kind| kind.as_str() != Some("default")) {
                    let kind = kind.map_or_else(String::new, Value::to_string);
                    return Err(invalid(format!("rotary scaling {kind} is not supported")).at(name));
                }
                theta = number(inner, "rope_theta")?.or(theta);
            }
            Some(other) => return Err(invalid(format!("{name} is {other}, must be an object")).at(name)),
        }
    }
    let theta = theta.unwrap_or(10_000.0);
    if !(1.0..=1e12).contains(&theta) {
        return Err(invalid(format!("rope_theta is {theta}, must be from 1 to 1e12")).at("rope_theta"));
    }
    Ok(theta)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Map<String, Value> {
        let text = r#"{"model_type":"llama","hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,
            "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":256,"rms_norm_eps":1e-5,
            "rope_theta":10000.0,"tie_word_embeddings":true,"max_position_embeddings":256}"#;
        serde_json::from_str(text).unwrap()
    }

    fn with(name: &str, value: Value) -> Result<Config> {
        let mut fields = base();
        fields.insert(name.to_string(), value);
        Config::parse(&Value::Object(fields).to_string())
    }

    #[test]
    fn a_plain_config_is_read() {
        let config = Config::parse(&Value::Object(base()).to_string()).unwrap();
        assert_eq!((config.head_dim, config.context_length, config.tied), (16, 256, true));
        assert_eq!(config.parameter_count(), 2 * (64 * (128 + 64 + 3 * 128 + 2)) + 64 + 64 * 256);
    }

    #[test]
    fn absurd_and_unsupported_values_are_refused_with_their_field() {
        for (name, value) in [
            ("hidden_size", serde_json::json!(0)),
            ("hidden_size", serde_json::json!(-4)),
            ("hidden_size", serde_json::json!(1e300)),
            ("vocab_size", serde_json::json!(u64::MAX)),
            ("num_key_value_heads", serde_json::json!(3)),
            ("head_dim", serde_json::json!(15)),
            ("model_type", serde_json::json!("mamba")),
            ("hidden_act", serde_json::json!("gelu")),
            ("attention_bias", serde_json::json!(true)),
            ("rms_norm_eps", serde_json::json!(0.0)),
            ("rope_theta", serde_json::json!("x")),
            ("rope_scaling", serde_json::json!({"rope_type": "yarn", "factor": 4.0})),
            ("rope_parameters", serde_json::json!([1])),
        ] {
            let error = with(name, value.clone()).expect_err(&format!("{name} {value}"));
            assert_eq!(error.code, CONFIG_INVALID);
            assert_eq!(error.place.as_deref(), Some(name), "{error}");
        }
    }
}
