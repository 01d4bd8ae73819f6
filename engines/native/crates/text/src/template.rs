use std::path::Path;

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::{Map, Value as Json};

use crate::error::{Result, TextError};
use crate::python_json::dumps;
use crate::special::read_json;

/// Templates are data of the checkpoint and not trusted: this bounds their work.
const FUEL: u64 = 5_000_000;
const NAME: &str = "chat_template";

/// The chat template of a checkpoint: `chat_template.jinja`, else `chat_template` of tokenizer_config.json.
/// Rendered as transformers' `apply_chat_template` does: trimmed blocks, Python's string methods, `raise_exception`,
/// `tojson` in the form of Python's `json.dumps`. There is no clock: `strftime_now` is undefined.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: Map<String, Json>,
    place: String,
}

impl ChatTemplate {
    /// `None` where the checkpoint has no template.
    ///
    /// Errors: CUPEL_NATIVE_TEMPLATE_INVALID with file and line.
    pub fn open(directory: &Path, special: Map<String, Json>) -> Result<Option<Self>> {
        let file = directory.join("chat_template.jinja");
        match std::fs::read_to_string(&file) {
            Ok(source) => {
                return Self::from_source(source, special, file.display().to_string()).map(Some)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(invalid(&file.display().to_string(), error.to_string())),
        }
        let config = read_json(directory, "tokenizer_config.json")?;
        let place = directory
            .join("tokenizer_config.json")
            .display()
            .to_string();
        match default_template(&config["chat_template"]) {
            None => Ok(None),
            Some(source) => {
                Self::from_source(source, special, format!("{place}: chat_template")).map(Some)
            }
        }
    }

    pub fn from_source(source: String, special: Map<String, Json>, place: String) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment
            .add_template_owned(NAME, without_generation_tags(&source))
            .map_err(|error| invalid(&at(&place, &error), text_of(&error)))?;
        Ok(Self {
            environment,
            special,
            place,
        })
    }

    /// Renders messages. `tools` is `Null` where there are none.
    ///
    /// Errors: CUPEL_NATIVE_TEMPLATE_FAILED with the template's own message.
    pub fn render(
        &self,
        messages: &Json,
        tools: &Json,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let mut context = self.special.clone();
        context.insert("messages".to_string(), messages.clone());
        context.insert("tools".to_string(), tools.clone());
        context.insert("documents".to_string(), Json::Null);
        context.insert(
            "add_generation_prompt".to_string(),
            Json::Bool(add_generation_prompt),
        );
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(Value::from_serialize(&context)))
            .map_err(|error| {
                TextError::new(
                    "CUPEL_NATIVE_TEMPLATE_FAILED",
                    format!(
                        "the chat template refused the messages: {}",
                        text_of(&error)
                    ),
                    at(&self.place, &error),
                    "Give messages in the order and with the roles that the checkpoint's template accepts.",
                )
            })
    }
}

/// A template is text, or a list of named ones of which `default` is for chat.
fn default_template(value: &Json) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_string());
    }
    let named = value.as_array()?;
    let chosen = named
        .iter()
        .find(|entry| entry["name"] == "default")
        .or(named.first())?;
    chosen["template"].as_str().map(str::to_string)
}

/// `{% generation %}` marks trained text for transformers; here it becomes a block that changes nothing.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let tag = &rest[start..start + length + 2];
        let inner = &tag[2..tag.len() - 2];
        let body = inner.trim_start_matches(['-', '+']);
        let body = body.strip_suffix('-').unwrap_or(body).trim();
        result.push_str(&rest[..start]);
        match body {
            "generation" => result.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => result.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => result.push_str(tag),
        }
        rest = &rest[start + length + 2..];
    }
    result.push_str(rest);
    result
}

fn tojson(value: Value, options: Kwargs) -> std::result::Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Other options of transformers' filter (ensure_ascii, separators, sort_keys) keep their defaults.
    for name in ["ensure_ascii", "separators", "sort_keys"] {
        let _: Option<Value> = options.get(name)?;
    }
    options.assert_all_used()?;
    let json = serde_json::to_value(&value)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("tojson: {error}")))?;
    Ok(Value::from_safe_string(dumps(&json, indent)))
}

fn text_of(error: &Error) -> String {
    error
        .detail()
        .map(str::to_string)
        .unwrap_or_else(|| error.kind().to_string())
}

fn at(place: &str, error: &Error) -> String {
    match error.line() {
        Some(line) => format!("{place}:{line}"),
        None => place.to_string(),
    }
}

fn invalid(place: &str, message: String) -> TextError {
    TextError::new(
        "CUPEL_NATIVE_TEMPLATE_INVALID",
        format!("the chat template is not usable: {message}"),
        place,
        "Mend the template, or restore it from where the checkpoint came.",
    )
}

#[cfg(test)]
mod tests {
    use super::ChatTemplate;
    use serde_json::{json, Map, Value};

    fn render(source: &str, messages: Value) -> Result<String, super::TextError> {
        ChatTemplate::from_source(source.to_string(), Map::new(), "test".to_string())?.render(
            &messages,
            &Value::Null,
            true,
        )
    }

    #[test]
    fn renders_pythonic_templates() {
        let source = "{%- for message in messages %}\n{{ '<|' + message['role'] + '|>' + message.content.strip() }}{% generation %}!{% endgeneration %}\n{%- endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
        let text = render(source, json!([{"role": "user", "content": " hi "}])).unwrap();
        assert_eq!(text, "<|user|>hi!<|assistant|>");
    }

    #[test]
    fn tojson_is_that_of_python() {
        let text = render(
            "{{ messages | tojson }}",
            json!([{"role": "user", "content": "<é>"}]),
        )
        .unwrap();
        assert_eq!(text, r#"[{"role": "user", "content": "<é>"}]"#);
    }

    #[test]
    fn a_template_can_refuse_and_can_not_run_for_ever() {
        let refused = render("{{ raise_exception('no system role') }}", json!([])).unwrap_err();
        assert_eq!(refused.code, "CUPEL_NATIVE_TEMPLATE_FAILED");
        assert!(refused.message.contains("no system role"));
        let endless = render(
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}",
            json!([]),
        );
        assert_eq!(endless.unwrap_err().code, "CUPEL_NATIVE_TEMPLATE_FAILED");
        let broken = render("{% for %}", json!([])).unwrap_err();
        assert_eq!(broken.code, "CUPEL_NATIVE_TEMPLATE_INVALID");
        assert!(broken.place.starts_with("test:1"));
    }
}
