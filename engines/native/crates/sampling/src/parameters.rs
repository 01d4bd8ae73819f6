use std::collections::BTreeSet;

use cupel_files::{Error, Result, REQUEST_INVALID};

/// Tokens with which sums of weights stay below 2^64.
const MOST_TOKENS: usize = (1 << 20) - 1;

/// How the next token is chosen. The default is greedy. See the crate's head for the order.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0: the greatest logit, the lowest id among equals. From 0 to 100.
    pub temperature: f64,
    /// Keep so many of the likeliest tokens. From 1; `None`: all.
    pub top_k: Option<u32>,
    /// Keep the fewest of the likeliest tokens that together reach this share. Above 0, to 1.
    pub top_p: f64,
    /// Drop tokens less likely than this share of the likeliest. From 0 to 1.
    pub min_p: f64,
    /// Divides positive and multiplies negative logits of tokens of prompt and completion. Above 0, to 100.
    pub repetition_penalty: f64,
    /// Subtracted once from the logit of a token of the completion. From -100 to 100.
    pub presence_penalty: f64,
    /// Subtracted from the logit of a token as often as it is in the completion. From -100 to 100.
    pub frequency_penalty: f64,
    /// Added to the logits of these tokens, each named once. From -1000 to 1000.
    pub logit_bias: Vec<(u32, f64)>,
    /// Chooses the random numbers.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// Refuses values out of range, NaN, and biases of unknown or repeated tokens, for a model of `vocabulary`
    /// tokens.
    ///
    /// # Errors
    /// `CUPEL_NATIVE_REQUEST_INVALID`, placed at `sampling.<field>`, with the value.
    pub fn validate(&self, vocabulary: usize) -> Result<()> {
        if vocabulary > MOST_TOKENS && self.temperature > 0.0 {
            let what = format!("above 0 is supported for up to {MOST_TOKENS} tokens; the vocabulary has {vocabulary}");
            return Err(refusal("temperature", &what));
        }
        within("temperature", self.temperature, 0.0, 100.0)?;
        if self.top_k == Some(0) {
            return Err(refusal("top_k", "is 0; it must be a whole number from 1"));
        }
        above_zero("top_p", self.top_p, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        above_zero("repetition_penalty", self.repetition_penalty, 100.0)?;
        within("presence_penalty", self.presence_penalty, -100.0, 100.0)?;
        within("frequency_penalty", self.frequency_penalty, -100.0, 100.0)?;
        let mut seen = BTreeSet::new();
        for &(token, bias) in &self.logit_bias {
            let field = format!("logit_bias[{token}]");
            if token as usize >= vocabulary {
                return Err(refusal(&field, &format!("names a token beyond the vocabulary of {vocabulary}")));
            }
            if !seen.insert(token) {
                return Err(refusal(&field, "is given twice"));
            }
            within(&field, bias, -1000.0, 1000.0)?;
        }
        Ok(())
    }

    /// Whether the tokens so far change the choice. If not, the sampler need not be told of them.
    pub fn needs_history(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// Whether the choice is the greatest logit as it stands: [`crate::arg_max`] is the whole sampler then.
    pub fn is_plain(&self) -> bool {
        self.temperature == 0.0 && !self.needs_history() && self.logit_bias.is_empty()
    }
}

fn within(field: &str, value: f64, least: f64, most: f64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(refusal(field, &format!("is {value}; it must be from {least} to {most}")))
}

fn above_zero(field: &str, value: f64, most: f64) -> Result<()> {
    // As an f32, in which penalties are applied, it must not vanish either.
    if value <= most && value as f32 > 0.0 {
        return Ok(());
    }
    Err(refusal(field, &format!("is {value}; it must be above 0, to {most}")))
}

fn refusal(field: &str, what: &str) -> Error {
    Error::new(REQUEST_INVALID, format!("{field} {what}"))
        .at(format!("sampling.{field}"))
        .remedy("Give a value in the range, or leave the field out.")
}
