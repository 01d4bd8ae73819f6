//! LoRA factors that are trained: where they lie, how they begin, what they are called.

use cupel_files::peft::{Adapter, ADAPTER_INVALID};
use cupel_files::{Config, Error, Result, TensorType};
use cupel_sampling::philox;

use super::options::AdapterOptions;
use super::parameters::Parameter;

/// The projections of a layer that can be adapted, by the last part of their name, with the part before.
pub const PROJECTIONS: [(&str, &str); 7] = [
    ("q_proj", "self_attn"),
    ("k_proj", "self_attn"),
    ("v_proj", "self_attn"),
    ("o_proj", "self_attn"),
    ("gate_proj", "mlp"),
    ("up_proj", "mlp"),
    ("down_proj", "mlp"),
];
pub const QUERY: usize = 0;
pub const KEY: usize = 1;
pub const VALUE: usize = 2;
pub const OUTPUT: usize = 3;
pub const GATE: usize = 4;
pub const UP: usize = 5;
pub const DOWN: usize = 6;

/// Prefix of PEFT's tensor names.
pub const PREFIX: &str = "base_model.model.";

/// The two factors of one projection.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// Offset of A, `[rank, input]`, in the trained values.
    pub a: usize,
    /// Offset of B, `[output, rank]`.
    pub b: usize,
    pub input: usize,
    pub output: usize,
    /// First column of the projection in the output of the matrix that it belongs to.
    pub column: usize,
}

/// The adapters of a model.
#[derive(Debug, Clone)]
pub struct Adapters {
    pub rank: usize,
    pub alpha: f64,
    /// `alpha / rank`, computed in f64 and rounded once.
    pub scale: f32,
    /// In the order of `PROJECTIONS`.
    pub targets: Vec<&'static str>,
    pub layers: Vec<[Option<Pair>; 7]>,
}

/// Module name in a Hugging Face model.
pub fn module(layer: usize, projection: usize) -> String {
    let (name, part) = PROJECTIONS[projection];
    format!("model.layers.{layer}.{part}.{name}")
}

/// PEFT's name of a factor, `part` A or B.
pub fn factor_name(layer: usize, projection: usize, part: &str) -> String {
    format!("{PREFIX}{}.lora_{part}.weight", module(layer, projection))
}

impl Adapters {
    /// Places the factors of checked options behind one another, and lists them as parameters.
    pub fn new(options: &AdapterOptions, config: &Config, parameters: &mut Vec<Parameter>) -> Self {
        let wanted = |name: &str| options.targets.is_empty() || options.targets.iter().any(|target| target == name);
        let rank = options.rank;
        let mut total = 0;
        let mut push = |name: String, shape: [usize; 2]| {
            let (offset, length) = (total, shape[0] * shape[1]);
            total += length;
            parameters.push(Parameter {
                name,
                shape: shape.to_vec(),
                offset,
                length,
                decay: true,
                held: TensorType::F32,
            });
            offset
        };
        let layers = (0..config.layers)
            .map(|layer| {
                std::array::from_fn(|projection| {
                    wanted(PROJECTIONS[projection].0).then(|| {
                        let (input, output, column) = shape(config, projection);
                        let a = push(factor_name(layer, projection, "A"), [rank, input]);
                        let b = push(factor_name(layer, projection, "B"), [output, rank]);
                        Pair { a, b, input, output, column }
                    })
                })
            })
            .collect();
        Self {
            rank,
            alpha: options.alpha,
            scale: (options.alpha / rank as f64) as f32,
            targets: PROJECTIONS.iter().map(|(name, _)| *name).filter(|name| wanted(name)).collect(),
            layers,
        }
    }

    /// First values: those of the folder to go on from, else A uniform between ±1/√input and B zero, as PEFT's default
    /// (`kaiming_uniform_` with a = √5). Each number of A is a function of the seed and its place alone.
    /// Of a reward head, that of the folder comes back.
    pub fn begin(
        &self,
        options: &AdapterOptions,
        config: &Config,
        reward: bool,
        values: &mut [f32],
    ) -> Result<Option<Vec<f32>>> {
        let pairs = || {
            let each = |layer: usize| {
                let pairs = self.layers[layer].iter().enumerate();
                pairs.filter_map(move |(projection, pair)| pair.map(|pair| (layer, projection, pair)))
            };
            (0..self.layers.len()).flat_map(each)
        };
        let Some(folder) = &options.from else {
            let key = [options.seed as u32, (options.seed >> 32) as u32];
            for (layer, projection, pair) in pairs() {
                let bound = 1.0 / (pair.input as f64).sqrt();
                for (step, four) in values[pair.a..][..self.rank * pair.input].chunks_mut(4).enumerate() {
                    let words = philox([step as u32, layer as u32, projection as u32, STREAM], key);
                    for (value, word) in four.iter_mut().zip(words) {
                        // From the middle of one of 2^32 equal parts of (-1, 1).
                        let unit = (f64::from(word) + 0.5) / f64::from(1u32 << 31) - 1.0;
                        *value = (unit * bound) as f32;
                    }
                }
            }
            return Ok(None);
        };
        let read =
            if reward { Adapter::open_reward(folder, "from", config)? } else { Adapter::open(folder, "from", config)? };
        let refuse = |message: String| {
            Err(Error::new(ADAPTER_INVALID, message)
                .at(folder.display().to_string())
                .remedy("ask for the rank, alpha and targets of the folder, or begin with fresh matrices"))
        };
        let expected: Vec<String> = pairs().map(|(layer, projection, _)| module(layer, projection)).collect();
        if let Some(extra) = read.modules.keys().find(|name| !expected.contains(name)) {
            return refuse(format!("adapts {extra}, which the targets {} do not name", self.targets.join(", ")));
        }
        for (layer, projection, pair) in pairs() {
            let name = module(layer, projection);
            let Some(found) = read.modules.get(&name) else {
                return refuse(format!("does not adapt {name}, which the targets name"));
            };
            if found.rank != self.rank {
                return refuse(format!("{name} has rank {}, {} was asked for", found.rank, self.rank));
            }
            if found.scale != self.scale {
                return refuse(format!("{name} is scaled by {}, alpha / rank is {}", found.scale, self.scale));
            }
            values[pair.a..][..found.a.len()].copy_from_slice(&found.a);
            values[pair.b..][..found.b.len()].copy_from_slice(&found.b);
        }
        Ok(read.score)
    }
}

/// Keeps these random numbers apart from others under the same seed: "LoRA" in ASCII.
const STREAM: u32 = 0x4c6f_5241;

/// Input width, output width and first column of a projection.
fn shape(config: &Config, projection: usize) -> (usize, usize, usize) {
    let (hidden, query, key) = (config.hidden_size, config.query_width(), config.key_value_width());
    let inner = config.intermediate_size;
    match projection {
        QUERY => (hidden, query, 0),
        KEY => (hidden, key, query),
        VALUE => (hidden, key, query + key),
        OUTPUT => (query, hidden, 0),
        GATE => (hidden, inner, 0),
        UP => (hidden, inner, inner),
        _ => (inner, hidden, 0),
    }
}
