//! A checkpoint's weights, ready to multiply.

use std::path::Path;

use cupel_attention::{KvStore, KvType};
use cupel_files::{
    guarded, Config, Error, Result, Source, TensorView, CONFIG_INVALID, REQUEST_INVALID, TENSOR_UNKNOWN,
};
use cupel_kernels::Isa;

use super::adapters::Adapters;
use super::linear::Linear;
use super::options::OpenOptions;
use crate::pool::Pool;

/// One transformer layer.
pub struct Layer {
    pub input_norm: Vec<f32>,
    pub post_norm: Vec<f32>,
    /// Biases of query, key and value in one row.
    pub bias: Option<Vec<f32>>,
    /// Norm weights of each query and key head (Qwen3).
    pub query_norm: Option<Vec<f32>>,
    pub key_norm: Option<Vec<f32>>,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub output: Linear,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

/// A checkpoint that an `Engine` computes with; immutable and shareable.
pub struct Model {
    pub(crate) config: Config,
    pub(crate) source: Source,
    pub(crate) layers: Vec<Layer>,
    pub(crate) final_norm: Vec<f32>,
    pub(crate) head: Linear,
    pub(crate) adapters: Adapters,
    pub(crate) isa: Isa,
    pub(crate) threads: usize,
    pub(crate) kv: KvType,
    pub(crate) kv_pages: usize,
    pub(crate) step_tokens: usize,
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
const LEAST_KV_BYTES: u64 = 64 << 20;
const STEP_TOKENS: usize = 1024;
/// Their bookkeeping is made at once; so many pages hold 32 million positions.
const MOST_KV_PAGES: u64 = 1 << 20;

impl Model {
    /// Reads a Hugging Face folder, a GGUF file, or a folder with one.
    ///
    /// # Errors
    /// Coded; every file, tensor and value of a bad checkpoint is named. Nothing larger than the files is allocated
    /// before they were checked.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        guarded(|| Self::load(path, options))
    }

    fn load(path: &Path, options: &OpenOptions) -> Result<Self> {
        let isa = options.isa.unwrap_or_else(Isa::detect);
        crate::require(isa)?;
        let source = Source::open(path)?;
        let config = source.config().clone();
        let mut pool = Pool::new(options.threads);
        let reader = Reader { source: &source, config: &config };
        reader.refuse_unknown()?;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (query, key, head_dim) = (config.query_width(), config.key_value_width(), config.head_dim);
        source.tensor(EMBEDDING, config.vocabulary_size, hidden)?.check_finite()?;
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            let at = |rest: &str| format!("model.layers.{layer}.{rest}.weight");
            let mut linear = |name: &str, rows: usize, columns: usize| {
                Linear::load(&mut pool, &source.tensor(&at(name), rows, columns)?, options.weights)
            };
            layers.push(Layer {
                query: linear("self_attn.q_proj", query, hidden)?,
                key: linear("self_attn.k_proj", key, hidden)?,
                value: linear("self_attn.v_proj", key, hidden)?,
                output: linear("self_attn.o_proj", hidden, query)?,
                gate: linear("mlp.gate_proj", inner, hidden)?,
                up: linear("mlp.up_proj", inner, hidden)?,
                down: linear("mlp.down_proj", hidden, inner)?,
                input_norm: reader.vector(&at("input_layernorm"), hidden)?,
                post_norm: reader.vector(&at("post_attention_layernorm"), hidden)?,
                bias: reader.bias(layer)?,
                query_norm: reader.head_norm(&at("self_attn.q_norm"), head_dim)?,
                key_norm: reader.head_norm(&at("self_attn.k_norm"), head_dim)?,
            });
            // What is packed need not stay resident as a file too.
            source.release();
        }
        let final_norm = reader.vector("model.norm.weight", hidden)?;
        let head_name = if config.tied { EMBEDDING } else { HEAD };
        let head =
            Linear::load(&mut pool, &source.tensor(head_name, config.vocabulary_size, hidden)?, options.weights)?;
        let adapters = Adapters::load(&options.adapters, &config)?;
        let kv = options.kv.unwrap_or(if head.is_float() && layers.iter().all(|layer| layer.down.is_float()) {
            KvType::F32
        } else {
            KvType::F16
        });
        let page_bytes = KvStore::page_bytes(config.layers, config.key_value_heads, head_dim, kv) as u64;
        let context_pages = config.context_length.div_ceil(cupel_attention::PAGE) as u64;
        let kv_bytes = options.kv_bytes.unwrap_or((context_pages * page_bytes).max(LEAST_KV_BYTES));
        let kv_pages = (kv_bytes / page_bytes).min(MOST_KV_PAGES) as usize;
        if kv_pages == 0 {
            let message = format!("a KV cache of {kv_bytes} bytes holds no page; one takes {page_bytes}");
            return Err(Error::new(REQUEST_INVALID, message).at("kvCacheBytes"));
        }
        source.release();
        Ok(Self {
            config,
            source,
            layers,
            final_norm,
            head,
            adapters,
            isa,
            threads: pool.threads(),
            kv,
            kv_pages,
            step_tokens: options.step_tokens.unwrap_or(STEP_TOKENS).max(1),
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The files that the model was read from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Storage type of the KV cache.
    pub fn kv_type(&self) -> KvType {
        self.kv
    }

    /// Bytes of a page of the KV cache: 32 positions of all layers.
    pub fn kv_page_bytes(&self) -> u64 {
        let config = &self.config;
        KvStore::page_bytes(config.layers, config.key_value_heads, config.head_dim, self.kv) as u64
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        let layer = |layer: &Layer| {
            [&layer.query, &layer.key, &layer.value, &layer.output, &layer.gate, &layer.up, &layer.down]
                .into_iter()
                .map(Linear::bytes)
                .sum::<usize>()
        };
        self.layers.iter().map(layer).sum::<usize>() + self.head.bytes()
    }

    /// The number of an adapter by its name.
    ///
    /// # Errors
    /// The names that there are.
    pub fn adapter(&self, name: &str) -> Result<usize> {
        self.adapters.find(name)
    }

    /// The embedding; its name and shape were checked at load.
    pub(crate) fn embedding(&self) -> Result<TensorView<'_>> {
        self.source.tensor(EMBEDDING, self.config.vocabulary_size, self.config.hidden_size)
    }
}

struct Reader<'a> {
    source: &'a Source,
    config: &'a Config,
}

impl Reader<'_> {
    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        let view = self.source.tensor(name, 1, length)?;
        view.check_finite()?;
        let mut values = vec![0.0; length];
        view.decode_row(0, &mut values);
        Ok(values)
    }

    fn bias(&self, layer: usize) -> Result<Option<Vec<f32>>> {
        if !self.config.has_bias() {
            return Ok(None);
        }
        let mut values = Vec::new();
        for (name, length) in [
            ("q_proj", self.config.query_width()),
            ("k_proj", self.config.key_value_width()),
            ("v_proj", self.config.key_value_width()),
        ] {
            values.extend(self.vector(&format!("model.layers.{layer}.self_attn.{name}.bias"), length)?);
        }
        Ok(Some(values))
    }

    fn head_norm(&self, name: &str, head_dim: usize) -> Result<Option<Vec<f32>>> {
        if !self.config.qk_norm() {
            return Ok(None);
        }
        self.vector(name, head_dim).map(Some)
    }

    /// A tensor that the architecture does not use is refused: ignoring it would silently compute another model.
    fn refuse_unknown(&self) -> Result<()> {
        let config = self.config;
        for name in self.source.names() {
            let known = match name.strip_prefix("model.layers.") {
                Some(rest) => rest.split_once('.').is_some_and(|(layer, part)| {
                    layer.parse::<usize>().is_ok_and(|layer| layer < config.layers) && self.is_part(part)
                }),
                None => name == EMBEDDING || name == "model.norm.weight" || name == HEAD,
            };
            // The configuration holds what these two say.
            if !known && name != "rope_freqs.weight" && !name.ends_with(".rotary_emb.inv_freq") {
                return Err(Error::new(TENSOR_UNKNOWN, format!("tensor {name} is not part of this architecture"))
                    .at(self.source.place().display().to_string())
                    .remedy("check model_type and the biases in config.json"));
            }
        }
        if config.tied && self.source.contains(HEAD) {
            let shape = (config.vocabulary_size, config.hidden_size);
            let (head, embedding) =
                (self.source.tensor(HEAD, shape.0, shape.1)?, self.source.tensor(EMBEDDING, shape.0, shape.1)?);
            let (mut a, mut b) = (vec![0.0; shape.1], vec![0.0; shape.1]);
            for row in 0..shape.0 {
                head.decode_row(row, &mut a);
                embedding.decode_row(row, &mut b);
                if a != b {
                    return Err(Error::new(
                        CONFIG_INVALID,
                        format!(
                            "tie_word_embeddings is true, but lm_head.weight differs from the embedding in row {row}"
                        ),
                    )
                    .at(self.source.place().display().to_string())
                    .remedy("set tie_word_embeddings to false"));
                }
            }
        }
        Ok(())
    }

    fn is_part(&self, part: &str) -> bool {
        match part {
            "input_layernorm.weight"
            | "post_attention_layernorm.weight"
            | "self_attn.q_proj.weight"
            | "self_attn.k_proj.weight"
            | "self_attn.v_proj.weight"
            | "self_attn.o_proj.weight"
            | "mlp.gate_proj.weight"
            | "mlp.up_proj.weight"
            | "mlp.down_proj.weight" => true,
            "self_attn.q_proj.bias" | "self_attn.k_proj.bias" | "self_attn.v_proj.bias" => self.config.has_bias(),
            "self_attn.q_norm.weight" | "self_attn.k_norm.weight" => self.config.qk_norm(),
            _ => part.ends_with("rotary_emb.inv_freq"),
        }
    }
}
