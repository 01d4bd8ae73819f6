use serde_json::{Map, Value};

use crate::config::{boolean, integer, number, present, Architecture};
use crate::error::{Error, Result, CONFIG_INVALID};

/// A change of the rotary frequencies for contexts longer than those of the first training.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// All frequencies divided by `factor`.
    Linear { factor: f32 },
    /// Llama 3: long waves divided by `factor`, short ones kept, those between blended.
    Llama3 {
        factor: f32,
        low_freq_factor: f32,
        high_freq_factor: f32,
        /// Context of the first training, in tokens.
        original_context: usize,
    },
    /// A divisor for each of the `head_dim / 2` frequencies, as GGUF files carry Llama 3's (`rope_freqs.weight`).
    Factors(Vec<f32>),
}

impl RopeScaling {
    /// Scales the plain frequencies (`head_dim / 2` numbers) in place, in f32 and in the order of operations of
    /// transformers' `modeling_rope_utils`.
    pub fn apply(&self, frequencies: &mut [f32]) {
        match self {
            Self::Linear { factor } => frequencies.iter_mut().for_each(|frequency| *frequency /= factor),
            Self::Factors(factors) => {
                for (frequency, factor) in frequencies.iter_mut().zip(factors) {
                    *frequency /= factor;
                }
            }
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let original = *original_context as f32;
                let (longest, shortest) = (original / low_freq_factor, original / high_freq_factor);
                for frequency in frequencies {
                    let wave = std::f64::consts::TAU as f32 / *frequency;
                    if wave > longest {
                        *frequency /= factor;
                    } else if wave >= shortest {
                        let smooth = (original / wave - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        *frequency = (1.0 - smooth) * *frequency / factor + smooth * *frequency;
                    }
                }
            }
        }
    }
}

fn invalid(message: String, place: &str) -> Error {
    Error::new(CONFIG_INVALID, message).at(place)
}

/// Base and scaling of the rotary embedding. Older files have `rope_theta` and `rope_scaling`, newer ones (from
/// transformers 5) `rope_parameters` with the base inside.
pub(crate) fn rope(fields: &Map<String, Value>) -> Result<(f64, Option<RopeScaling>)> {
    let mut theta = number(fields, "rope_theta")?;
    let mut scaling = None;
    for name in ["rope_scaling", "rope_parameters"] {
        match present(fields, name) {
            None => {}
            Some(Value::Object(inner)) => {
                scaling = rope_scaling(inner).map_err(|error| error.at(name))?.or(scaling);
                theta = number(inner, "rope_theta").map_err(|error| error.at(name))?.or(theta);
            }
            Some(other) => return Err(invalid(format!("{name} is {other}, must be an object"), name)),
        }
    }
    Ok((theta.unwrap_or(10_000.0), scaling))
}

fn rope_scaling(inner: &Map<String, Value>) -> Result<Option<RopeScaling>> {
    if let Some((layers, _)) = inner.iter().find(|(_, value)| value.is_object()) {
        return Err(invalid(format!("rotary parameters of their own for {layers:?} are not supported"), ""));
    }
    if number(inner, "partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
        return Err(invalid("a rotary embedding of part of each head is not supported".to_string(), ""));
    }
    let Some(kind) = present(inner, "rope_type").or_else(|| present(inner, "type")) else {
        return Ok(None);
    };
    let positive = |name: &str| -> Result<f32> {
        match number(inner, name)? {
            Some(value) if value > 0.0 && value <= 1e6 => Ok(value as f32),
            other => {
                let seen = other.map_or("missing".to_string(), |value| value.to_string());
                Err(invalid(format!("{name} is {seen}, must be a number in (0, 1e6]"), ""))
            }
        }
    };
    match kind.as_str() {
        Some("default") => Ok(None),
        Some("linear") => Ok(Some(RopeScaling::Linear { factor: positive("factor")? })),
        Some("llama3") => {
            let (low, high) = (positive("low_freq_factor")?, positive("high_freq_factor")?);
            if low >= high {
                return Err(invalid(format!("low_freq_factor {low} is not below high_freq_factor {high}"), ""));
            }
            let original_context = integer(inner, "original_max_position_embeddings", 1 << 24)?;
            Ok(Some(RopeScaling::Llama3 {
                factor: positive("factor")?,
                low_freq_factor: low,
                high_freq_factor: high,
                original_context,
            }))
        }
        _ => Err(invalid(format!("rotary scaling {kind} is not supported, only default, linear and llama3"), "")),
    }
}

/// Window of the attention. One window for all layers, or none; a mixture is refused.
pub(crate) fn sliding_window(
    fields: &Map<String, Value>,
    architecture: Architecture,
    layers: usize,
) -> Result<Option<usize>> {
    let window = match (architecture, fields.get("sliding_window")) {
        (Architecture::Llama, _) => return Ok(None),
        (_, Some(Value::Null)) => None,
        (_, Some(_)) => Some(integer(fields, "sliding_window", 1 << 24)?),
        // What transformers takes for a file that does not say.
        (_, None) => Some(4096),
    };
    if architecture == Architecture::Mistral {
        return Ok(window);
    }
    if !boolean(fields, "use_sliding_window")?.unwrap_or(false) {
        return Ok(None);
    }
    let sliding = match present(fields, "layer_types") {
        Some(Value::Array(types)) => types.iter().filter(|kind| kind.as_str() == Some("sliding_attention")).count(),
        Some(other) => return Err(invalid(format!("layer_types is {other}, must be a list"), "layer_types")),
        None => {
            let first = match fields.get("max_window_layers") {
                None | Some(Value::Null) => 28,
                Some(value) => value.as_u64().ok_or_else(|| {
                    invalid(format!("max_window_layers is {value}, must be an integer"), "max_window_layers")
                })?,
            };
            layers.saturating_sub(usize::try_from(first).unwrap_or(usize::MAX))
        }
    };
    match sliding {
        0 => Ok(None),
        count if count == layers => Ok(window),
        count => {
            let place = if present(fields, "layer_types").is_some() { "layer_types" } else { "max_window_layers" };
            Err(invalid(
                format!("a sliding window in {count} of {layers} layers is not supported, only all or none"),
                place,
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits of transformers 5.23's `_compute_llama3_parameters` for heads of 16, theta 500000, factor 32.
    #[test]
    fn llama_3_scaling_keeps_short_waves_divides_long_ones_and_blends_between() {
        let scaling =
            RopeScaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
        let plain =
            [0x3f80_0000, 0x3e46_93b0, 0x3d1a_08c8, 0x3bee_f74f, 0x3ab9_5d21, 0x398f_c8f8, 0x385f_10c4, 0x372d_07a7];
        let wanted =
            [0x3f80_0000, 0x3e46_93b0, 0x3d1a_08c8, 0x3bee_f74f, 0x39e1_3620, 0x370f_c8f8, 0x35df_10c4, 0x34ad_07a7];
        let (plain, wanted) = (plain.map(f32::from_bits), wanted.map(f32::from_bits));
        let mut frequencies = plain;
        scaling.apply(&mut frequencies);
        assert_eq!(frequencies, wanted);
        let factors = plain.iter().zip(wanted).map(|(plain, scaled)| plain / scaled).collect();
        let mut divided = plain;
        RopeScaling::Factors(factors).apply(&mut divided);
        for (left, right) in divided.iter().zip(wanted) {
            assert!((left - right).abs() <= right * 1e-6);
        }
    }
}
