use std::path::Path;

use cupel_files::safetensors::Checkpoint;
use cupel_files::Config;
use cupel_files::{Error, Result, CONFIG_INVALID, INTERNAL, IO, TENSOR_UNKNOWN};

/// One named tensor in the flat array of all parameters.
#[derive(Debug, Clone)]
pub struct Parameter {
    pub name: String,
    pub shape: Vec<usize>,
    pub offset: usize,
    pub length: usize,
    /// Whether weight decay applies: to matrices, not to norms and biases.
    pub decay: bool,
}

/// Where the tensors of one layer lie. Query, key and value lie together, so do gate and up, so that each
/// group is one matrix.
#[derive(Debug, Clone, Copy)]
pub struct LayerOffsets {
    pub input_norm: usize,
    pub post_norm: usize,
    pub bias: Option<usize>,
    pub qkv: usize,
    pub output: usize,
    pub gate_up: usize,
    pub down: usize,
}

/// Order of the flat array: what inference reads row by row (embedding, norms, biases) first, then the
/// matrices, which inference only needs packed.
#[derive(Debug, Clone)]
pub struct Layout {
    pub parameters: Vec<Parameter>,
    pub layers: Vec<LayerOffsets>,
    pub final_norm: usize,
    /// The embedding again if the model is tied.
    pub head: usize,
    pub total: usize,
}

pub const EMBEDDING: usize = 0;

impl Layout {
    pub fn new(config: &Config) -> Self {
        let mut parameters: Vec<Parameter> = Vec::new();
        let mut total = 0;
        let mut push = |name: String, shape: &[usize], decay: bool| {
            let length = shape.iter().product();
            parameters.push(Parameter { name, shape: shape.to_vec(), offset: total, length, decay });
            total += length;
            total - length
        };
        let hidden = config.hidden_size;
        let (query, key, inner) = (config.query_width(), config.key_value_width(), config.intermediate_size);
        push("model.embed_tokens.weight".to_string(), &[config.vocabulary_size, hidden], true);
        let final_norm = push("model.norm.weight".to_string(), &[hidden], false);
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            let input_norm = push(format!("model.layers.{layer}.input_layernorm.weight"), &[hidden], false);
            let post_norm = push(format!("model.layers.{layer}.post_attention_layernorm.weight"), &[hidden], false);
            let bias = config.has_bias().then(|| {
                let first = push(format!("model.layers.{layer}.self_attn.q_proj.bias"), &[query], false);
                push(format!("model.layers.{layer}.self_attn.k_proj.bias"), &[key], false);
                push(format!("model.layers.{layer}.self_attn.v_proj.bias"), &[key], false);
                first
            });
            layers.push(LayerOffsets { input_norm, post_norm, bias, qkv: 0, output: 0, gate_up: 0, down: 0 });
        }
        for (layer, offsets) in layers.iter_mut().enumerate() {
            offsets.qkv = push(format!("model.layers.{layer}.self_attn.q_proj.weight"), &[query, hidden], true);
            push(format!("model.layers.{layer}.self_attn.k_proj.weight"), &[key, hidden], true);
            push(format!("model.layers.{layer}.self_attn.v_proj.weight"), &[key, hidden], true);
            offsets.output = push(format!("model.layers.{layer}.self_attn.o_proj.weight"), &[hidden, query], true);
            offsets.gate_up = push(format!("model.layers.{layer}.mlp.gate_proj.weight"), &[inner, hidden], true);
            push(format!("model.layers.{layer}.mlp.up_proj.weight"), &[inner, hidden], true);
            offsets.down = push(format!("model.layers.{layer}.mlp.down_proj.weight"), &[hidden, inner], true);
        }
        let head = if config.tied {
            EMBEDDING
        } else {
            push("lm_head.weight".to_string(), &[config.vocabulary_size, hidden], true)
        };
        Self { parameters, layers, final_norm, head, total }
    }

    pub fn find(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// Reads all parameters of a folder into one array. Every shape is checked against the files before memory
    /// is taken; a tensor that the architecture does not use is refused, because ignoring it would silently
    /// compute another model.
    pub fn load(&self, dir: &Path, config: &Config) -> Result<Vec<f32>> {
        let mut checkpoint = Checkpoint::open(dir)?;
        for parameter in &self.parameters {
            checkpoint.check(&parameter.name, &parameter.shape)?;
        }
        for name in checkpoint.names() {
            let ignored = name.ends_with(".rotary_emb.inv_freq") || (config.tied && name == "lm_head.weight");
            if !ignored && self.find(&name).is_none() {
                return Err(Error::new(TENSOR_UNKNOWN, format!("tensor {name} is not part of this architecture"))
                    .at(dir.display().to_string())
                    .remedy("check model_type and the biases in config.json"));
            }
        }
        let mut values = zeroed(self.total)?;
        for parameter in &self.parameters {
            let out = &mut values[parameter.offset..][..parameter.length];
            checkpoint.read(&parameter.name, &parameter.shape, out)?;
        }
        if config.tied && checkpoint.contains("lm_head.weight") {
            let embedding = &self.parameters[0];
            let mut head = zeroed(embedding.length)?;
            checkpoint.read("lm_head.weight", &embedding.shape, &mut head)?;
            if head != values[..embedding.length] {
                return Err(Error::new(
                    CONFIG_INVALID,
                    "tie_word_embeddings is true, but lm_head.weight differs from the embedding",
                )
                .at(dir.display().to_string())
                .remedy("set tie_word_embeddings to false"));
            }
        }
        Ok(values)
    }
}

/// Zeroed memory, or a coded error where the system has not enough.
pub fn zeroed(length: usize) -> Result<Vec<f32>> {
    if length > isize::MAX as usize / 8 {
        return Err(Error::new(INTERNAL, format!("{length} numbers do not fit any memory")));
    }
    let mut probe: Vec<f32> = Vec::new();
    if probe.try_reserve_exact(length).is_err() {
        return Err(
            Error::new(IO, format!("not enough memory for {length} numbers")).remedy("use a smaller model or batch")
        );
    }
    drop(probe);
    Ok(vec![0.0; length])
}
