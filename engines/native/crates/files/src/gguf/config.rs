use super::names::ROPE_FACTORS;
use super::{Gguf, Stored};
use crate::config::{Architecture, Config};
use crate::error::{Error, Result, CONFIG_INVALID, TENSOR_MISSING, TENSOR_SHAPE};
use crate::rope::RopeScaling;
use crate::tensor::TensorType;

impl Gguf {
    /// The configuration that the metadata and the shapes of the file give. Mistral files call themselves llama and
    /// differ only in their window, if they name one.
    pub fn config(&self) -> Result<Config> {
        let Some(name) = self.text("general.architecture")? else {
            return Err(self.unsupported("general.architecture", "missing"));
        };
        let architecture = match name {
            "llama" => Architecture::Llama,
            "qwen2" => Architecture::Qwen2,
            "qwen3" => Architecture::Qwen3,
            other => {
                return Err(self.unsupported("general.architecture", &format!("{other:?}, not llama, qwen2 or qwen3")))
            }
        };
        let key = |rest: &str| format!("{name}.{rest}");
        self.refuse_others(name)?;
        if let Some(count) = self.unsigned("split.count")?.filter(|count| *count > 1) {
            return Err(self.unsupported("split.count", &format!("{count}, models in several files are not supported")));
        }
        let hidden_size = self.size(&key("embedding_length"), 1 << 16)?;
        let heads = self.size(&key("attention.head_count"), 1 << 10)?;
        let key_value_heads = self.optional_size(&key("attention.head_count_kv"), 1 << 10)?.unwrap_or(heads);
        let head_dim = match self.optional_size(&key("attention.key_length"), 1 << 12)? {
            Some(length) => length,
            None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
            None => {
                return Err(self.unsupported(
                    &key("attention.head_count"),
                    &format!("{heads}, which does not divide {hidden_size}"),
                ))
            }
        };
        for rest in ["attention.value_length", "rope.dimension_count"] {
            if let Some(other) = self.optional_size(&key(rest), 1 << 12)?.filter(|length| *length != head_dim) {
                return Err(self.unsupported(&key(rest), &format!("{other}, not the {head_dim} of a key")));
            }
        }
        let sliding_window = match self.unsigned(&key("attention.sliding_window"))? {
            None | Some(0) => None,
            Some(_) => Some(self.size(&key("attention.sliding_window"), 1 << 24)?),
        };
        let embedding = self
            .tensor("token_embd.weight")
            .ok_or_else(|| Error::new(TENSOR_MISSING, "tensor token_embd.weight is missing").inside(self.path()))?;
        let [columns, vocabulary_size] = *embedding.shape() else {
            return Err(self.misshapen("token_embd.weight", embedding.shape()));
        };
        if columns != hidden_size || vocabulary_size > 1 << 22 {
            return Err(self.misshapen("token_embd.weight", embedding.shape()));
        }
        let architecture = match (architecture, sliding_window) {
            (Architecture::Llama, Some(_)) => Architecture::Mistral,
            _ => architecture,
        };
        Config {
            architecture,
            hidden_size,
            intermediate_size: self.size(&key("feed_forward_length"), 1 << 18)?,
            layers: self.size(&key("block_count"), 1 << 9)?,
            heads,
            key_value_heads,
            head_dim,
            vocabulary_size,
            rms_norm_eps: self.float(&key("attention.layer_norm_rms_epsilon"))?.unwrap_or(0.0) as f32,
            rope_theta: self.float(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            rope_scaling: self.rope_scaling(name, head_dim)?,
            sliding_window,
            tied: self.tensor("output.weight").is_none(),
            context_length: self.size(&key("context_length"), 1 << 24)?,
        }
        .checked()
        .map_err(|error| error.inside(self.path()))
    }

    /// Features that change the computation and that the core does not have.
    fn refuse_others(&self, name: &str) -> Result<()> {
        for rest in [
            "expert_count",
            "attention.layer_norm_epsilon",
            "logit_scale",
            "residual_scale",
            "embedding_scale",
            "attention.scale",
            "attention.clamp_kqv",
            "attention.max_alibi_bias",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "attention.sliding_window_pattern",
            "rope.dimension_sections",
        ] {
            let key = format!("{name}.{rest}");
            let harmless = match self.get(&key) {
                None => true,
                Some(super::Value::Unsigned(number)) => number == 0,
                Some(super::Value::Float(number)) => number == 0.0,
                Some(_) => false,
            };
            if !harmless {
                let seen = self.get(&key).map_or_else(String::new, |value| value.to_string());
                return Err(self.unsupported(&key, &format!("{seen}, which this engine does not compute")));
            }
        }
        Ok(())
    }

    fn rope_scaling(&self, name: &str, head_dim: usize) -> Result<Option<RopeScaling>> {
        let key = |rest: &str| format!("{name}.rope.{rest}");
        let mut linear = self.float(&key("scale_linear"))?;
        match self.text(&key("scaling.type"))? {
            None | Some("none") => {}
            Some("linear") => linear = self.float(&key("scaling.factor"))?,
            Some(other) => {
                return Err(
                    self.unsupported(&key("scaling.type"), &format!("{other:?}, only none and linear are supported"))
                )
            }
        }
        let linear = linear.filter(|factor| *factor != 0.0 && *factor != 1.0);
        if let Some(factor) = linear.filter(|factor| !(*factor > 0.0 && *factor <= 1e6)) {
            return Err(self.unsupported(&key("scaling.factor"), &format!("{factor}, not a number in (0, 1e6]")));
        }
        let Some(tensor) = self.tensor(ROPE_FACTORS) else {
            return Ok(linear.map(|factor| RopeScaling::Linear { factor: factor as f32 }));
        };
        if *tensor.shape() != [head_dim / 2] || tensor.stored != Stored::Known(TensorType::F32) {
            return Err(self.misshapen(ROPE_FACTORS, tensor.shape()));
        }
        let mut factors = vec![0.0; head_dim / 2];
        crate::quant::decode_row(TensorType::F32, self.bytes(&tensor), &mut factors);
        if let Some(factor) = factors.iter().find(|factor| !(**factor > 0.0 && **factor <= 1e6)) {
            return Err(self.unsupported(ROPE_FACTORS, &format!("{factor}, not a number in (0, 1e6]")));
        }
        if let Some(factor) = linear {
            factors.iter_mut().for_each(|value| *value *= factor as f32);
        }
        Ok(Some(RopeScaling::Factors(factors)))
    }

    fn size(&self, key: &str, limit: u64) -> Result<usize> {
        self.optional_size(key, limit)?.ok_or_else(|| self.unsupported(key, "missing"))
    }

    fn optional_size(&self, key: &str, limit: u64) -> Result<Option<usize>> {
        match self.unsigned(key)? {
            None => Ok(None),
            Some(number) if (1..=limit).contains(&number) => Ok(Some(number as usize)),
            Some(number) => Err(self.unsupported(key, &format!("{number}, must be from 1 to {limit}"))),
        }
    }

    fn unsupported(&self, key: &str, seen: &str) -> Error {
        Error::new(CONFIG_INVALID, format!("{key} is {seen}")).at(key.to_string()).inside(self.path())
    }

    fn misshapen(&self, name: &str, shape: &[usize]) -> Error {
        Error::new(TENSOR_SHAPE, format!("shape is {shape:?}, which does not fit the metadata"))
            .at(name.to_string())
            .inside(self.path())
    }
}
