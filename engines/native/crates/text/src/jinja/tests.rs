use super::evaluate::{Evaluator, Given, Outcome};
use super::value::Value;

impl Evaluator {
    /// `value is name(arguments)`.
    pub fn test(&self, name: &str, value: &Value, given: Given) -> Outcome<bool> {
        let operator = match name {
            "eq" | "equalto" | "==" => "==",
            "ne" | "!=" => "!=",
            "lt" | "lessthan" | "<" => "<",
            "le" | "<=" => "<=",
            "gt" | "greaterthan" | ">" => ">",
            "ge" | ">=" => ">=",
            "in" => "in",
            "sameas" | "divisibleby" => name,
            _ => "",
        };
        if !operator.is_empty() {
            let [other] = given.bind(name, ["other"])?;
            let other = other.ok_or_else(|| format!("the test {name:?} needs an argument"))?;
            return match operator {
                "divisibleby" => {
                    let remainder = self.binary("%", value, &other)?;
                    self.equal(&remainder, &Value::Integer(0), 0)
                }
                "sameas" => Ok(value.kind() == other.kind() && self.equal(value, &other, 0)?),
                operator => self.compare(operator, value, &other),
            };
        }
        if !given.positional.is_empty() || !given.named.is_empty() {
            return Err(format!("the test {name:?} takes no argument").into());
        }
        let parity = |odd: bool| match value.integer() {
            Some(number) => Ok((number % 2 != 0) == odd),
            None => Err(format!("the test {name:?} needs an integer, not {}", value.kind()).into()),
        };
        let text = || self.string_of(value);
        Ok(match name {
            "defined" => !matches!(value, Value::Undefined(_)),
            "undefined" => matches!(value, Value::Undefined(_)),
            "none" => matches!(value, Value::None),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "integer" => matches!(value, Value::Integer(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => value.number().is_some(),
            "string" => matches!(value, Value::Text(_)),
            "mapping" => matches!(value, Value::Dict(_)),
            "sequence" => matches!(
                value,
                Value::Text(_) | Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Undefined(_)
            ),
            "iterable" => matches!(
                value,
                Value::Text(_)
                    | Value::List(_)
                    | Value::Tuple(_)
                    | Value::Dict(_)
                    | Value::Undefined(_)
                    | Value::Loop(_)
            ),
            "callable" => matches!(
                value,
                Value::Function(_)
                    | Value::Method(_)
                    | Value::Macro(_)
                    | Value::Joiner(_)
                    | Value::Loop(_)
                    | Value::Undefined(_)
            ),
            "odd" => return parity(true),
            "even" => return parity(false),
            "lower" => {
                let text = text()?;
                text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
            }
            "upper" => {
                let text = text()?;
                text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
            }
            "escaped" => false,
            "filter" => matches!(value, Value::Text(text) if super::filters::KNOWN.contains(&&**text)),
            _ => return Err(format!("no test is named {name:?}").into()),
        })
    }
}
