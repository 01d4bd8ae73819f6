use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::{invalid, PROJECTIONS};
use crate::config::Config;
use crate::error::{Error, Result};

const CONFIG_LIMIT: u64 = 4 << 20;
const RANK_LIMIT: usize = 1 << 12;

/// What `adapter_config.json` says about ranks, scales and the modules that are adapted.
pub(super) struct Rules {
    rank: usize,
    alpha: f64,
    stabilized: bool,
    ranks: Vec<(Pattern, usize)>,
    alphas: Vec<(Pattern, f64)>,
    /// Ends of module names; none where the config holds a regular expression.
    targets: Option<Vec<String>>,
    excluded: bool,
    layers: Option<Vec<usize>>,
}

impl Rules {
    pub(super) fn read(path: &Path, reward: bool) -> Result<Self> {
        let place = path.display().to_string();
        let about = std::fs::metadata(path).map_err(|cause| Error::io(path, &cause))?;
        // Reading a named pipe would wait for a writer.
        if !about.is_file() {
            return Err(invalid("not a regular file").at(place));
        }
        let size = about.len();
        if size > CONFIG_LIMIT {
            return Err(invalid(format!("has {size} bytes, more than {CONFIG_LIMIT}")).at(place));
        }
        let text = std::fs::read(path).map_err(|cause| Error::io(path, &cause))?;
        Self::parse(&text, reward).map_err(|error| {
            let place = match &error.place {
                Some(field) => format!("{place}: {field}"),
                None => place,
            };
            error.at(place)
        })
    }

    fn parse(text: &[u8], reward: bool) -> Result<Self> {
        let value: Value = serde_json::from_slice(text).map_err(|cause| invalid(format!("not JSON: {cause}")))?;
        let Value::Object(fields) = value else {
            return Err(invalid("not a JSON object"));
        };
        refuse_unsupported(&fields, reward)?;
        let rank = rank_value(fields.get("r").unwrap_or(&Value::Null)).map_err(|error| error.at("r"))?;
        let alpha =
            alpha_value(fields.get("lora_alpha").unwrap_or(&Value::Null)).map_err(|error| error.at("lora_alpha"))?;
        Ok(Self {
            rank,
            alpha,
            stabilized: flag(&fields, "use_rslora")?,
            ranks: patterns(&fields, "rank_pattern", rank_value)?,
            alphas: patterns(&fields, "alpha_pattern", alpha_value)?,
            targets: targets(&fields)?,
            excluded: fields.get("exclude_modules").is_some_and(|value| !is_empty(value)),
            layers: layers(&fields)?,
        })
    }

    pub(super) fn rank(&self, module: &str) -> usize {
        self.ranks.iter().find(|(pattern, _)| pattern.matches(module)).map_or(self.rank, |(_, rank)| *rank)
    }

    pub(super) fn scale(&self, module: &str, rank: usize) -> f32 {
        let alpha = self.alphas.iter().find(|(pattern, _)| pattern.matches(module)).map_or(self.alpha, |(_, a)| *a);
        let divisor = if self.stabilized { (rank as f64).sqrt() } else { rank as f64 };
        (alpha / divisor) as f32
    }

    /// Holds the tensors against `target_modules`: none beside the targets, none of the targets lacking.
    pub(super) fn check_targets(&self, found: &BTreeSet<String>, model: &Config) -> Result<()> {
        let Some(targets) = &self.targets else {
            return Ok(());
        };
        let hits = |module: &str, target: &str| {
            module.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if let Some(module) = found.iter().find(|module| !targets.iter().any(|target| hits(module, target))) {
            return Err(invalid(format!("adapts {module}, which target_modules does not name")));
        }
        if let Some(target) = targets.iter().find(|target| !found.iter().any(|module| hits(module, target))) {
            return Err(invalid(format!("holds nothing for {target:?} of target_modules")));
        }
        if self.excluded {
            return Ok(());
        }
        for layer in 0..model.layers {
            if self.layers.as_ref().is_some_and(|layers| !layers.contains(&layer)) {
                continue;
            }
            for projection in PROJECTIONS {
                let module = format!("model.layers.{layer}.{projection}");
                if targets.iter().any(|target| hits(&module, target)) && !found.contains(&module) {
                    return Err(invalid(format!("holds nothing for {module}, which target_modules names")));
                }
            }
        }
        Ok(())
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(_) => false,
    }
}

fn flag(fields: &Map<String, Value>, name: &str) -> Result<bool> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(invalid(format!("{name} is {other}, must be true or false")).at(name)),
    }
}

/// Features that change what an adapter computes, or the base below it. An adapter for a reward head must say so.
fn refuse_unsupported(fields: &Map<String, Value>, reward: bool) -> Result<()> {
    let refuse = |name: &str, value: &Value| {
        Err(invalid(format!("{name} {value} is not supported"))
            .at(name)
            .remedy("merge the adapter into its base checkpoint and use the merged one"))
    };
    match fields.get("peft_type") {
        Some(Value::String(kind)) if kind == "LORA" => {}
        other => return refuse("peft_type", other.unwrap_or(&Value::Null)),
    }
    let wanted = if reward { "SEQ_CLS" } else { "CAUSAL_LM" };
    if let Some(task) = fields.get("task_type").filter(|task| reward || !task.is_null()) {
        if task.as_str() != Some(wanted) {
            return refuse("task_type", task);
        }
    }
    if let Some(bias) = fields.get("bias").filter(|bias| !bias.is_null()) {
        if bias.as_str() != Some("none") {
            return refuse("bias", bias);
        }
    }
    for name in [
        "use_dora",
        "lora_bias",
        "fan_in_fan_out",
        "use_qalora",
        "use_bdlora",
        "modules_to_save",
        "trainable_token_indices",
        "target_parameters",
        "layer_replication",
        "alora_invocation_tokens",
        "arrow_config",
        "kasa_config",
        "velora_config",
        "monteclora_config",
    ] {
        let saves_score = |value: &Value| reward && name == "modules_to_save" && *value == serde_json::json!(["score"]);
        if let Some(value) = fields.get(name).filter(|value| !is_empty(value) && !saves_score(value)) {
            return refuse(name, value);
        }
    }
    // Other initial values are taken out of the base weights, which then are not those of the checkpoint.
    match fields.get("init_lora_weights") {
        None | Some(Value::Null | Value::Bool(_)) => Ok(()),
        Some(Value::String(kind)) if ["gaussian", "eva", "orthogonal"].contains(&kind.as_str()) => Ok(()),
        Some(other) => refuse("init_lora_weights", other),
    }
}

fn rank_value(value: &Value) -> Result<usize> {
    match value.as_u64() {
        Some(rank) if rank >= 1 && rank <= RANK_LIMIT as u64 => Ok(rank as usize),
        _ => Err(invalid(format!("rank is {value}, must be an integer from 1 to {RANK_LIMIT}"))),
    }
}

fn alpha_value(value: &Value) -> Result<f64> {
    match value.as_f64() {
        Some(alpha) if alpha > 0.0 && alpha <= 1e6 => Ok(alpha),
        _ => Err(invalid(format!("alpha is {value}, must be a number above 0 and at most 1e6"))),
    }
}

/// A key of `rank_pattern` or `alpha_pattern`. PEFT takes it for a regular expression that ends a module name;
/// plain names are read here, `^` binds one to the beginning.
struct Pattern {
    name: String,
    whole: bool,
}

impl Pattern {
    fn matches(&self, module: &str) -> bool {
        match module.strip_suffix(self.name.as_str()) {
            Some("") => true,
            Some(rest) => !self.whole && rest.ends_with('.'),
            None => false,
        }
    }
}

fn patterns<T>(
    fields: &Map<String, Value>,
    field: &str,
    read: impl Fn(&Value) -> Result<T>,
) -> Result<Vec<(Pattern, T)>> {
    let map = match fields.get(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(invalid(format!("{field} is {other}, must be an object")).at(field)),
    };
    map.iter()
        .map(|(key, value)| {
            let place = format!("{field}.{key}");
            let (name, whole) = key.strip_prefix('^').map_or((key.as_str(), false), |name| (name, true));
            let name = name.strip_suffix('$').unwrap_or(name);
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
                return Err(invalid(format!("key {key:?} is not a plain module name"))
                    .at(place)
                    .remedy("write one entry for each module"));
            }
            let value = read(value).map_err(|error| error.at(place))?;
            Ok((Pattern { name: name.to_string(), whole }, value))
        })
        .collect()
}

fn targets(fields: &Map<String, Value>) -> Result<Option<Vec<String>>> {
    let wrong =
        |value: &Value| invalid(format!("target_modules is {value}, must be names or a text")).at("target_modules");
    match fields.get("target_modules") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text == "all-linear" => {
            Ok(Some(PROJECTIONS.iter().map(|name| (*name).to_string()).collect()))
        }
        Some(Value::String(_)) => Ok(None),
        Some(Value::Array(items)) => {
            let name = |item: &Value| item.as_str().filter(|name| !name.is_empty()).map(str::to_string);
            items.iter().map(|item| name(item).ok_or_else(|| wrong(item))).collect::<Result<Vec<_>>>().map(Some)
        }
        Some(other) => Err(wrong(other)),
    }
}

fn layers(fields: &Map<String, Value>) -> Result<Option<Vec<usize>>> {
    let field = "layers_to_transform";
    let read = |value: &Value| {
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| invalid(format!("{field} holds {value}, must be layer numbers")).at(field))
    };
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => items.iter().map(read).collect::<Result<Vec<_>>>().map(Some),
        Some(value) => Ok(Some(vec![read(value)?])),
    }
}
