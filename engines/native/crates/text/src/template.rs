use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value as Json};

use crate::error::{Result, TextError};
use crate::jinja::{Fault, Limits, Template};
use crate::special::read_json;

/// The longest published templates have about 60 kB.
const LARGEST_FILE: u64 = 1 << 20;
/// Steps of one rendering. A step takes some 50 ns.
const STEPS: u64 = 10_000_000;
/// Bytes of text and lists that one rendering may make: this and as many for each byte that it is given.
const BYTES: u64 = 32 << 20;
const BYTES_PER_BYTE: u64 = 64;

/// The chat template of a checkpoint: `chat_template.jinja`, else `chat_template` of tokenizer_config.json.
/// Rendered as transformers' `apply_chat_template` does. There is no clock: `strftime_now` is undefined.
pub struct ChatTemplate {
    template: Template,
    special: Map<String, Json>,
    place: String,
}

impl ChatTemplate {
    /// `None` where the checkpoint has no template.
    ///
    /// Errors: CUPEL_NATIVE_TEMPLATE_INVALID with file and line.
    pub fn open(directory: &Path, special: Map<String, Json>) -> Result<Option<Self>> {
        let file = directory.join("chat_template.jinja");
        let place = file.display().to_string();
        let mut source = String::new();
        match std::fs::File::open(&file).and_then(|file| file.take(LARGEST_FILE + 1).read_to_string(&mut source)) {
            Ok(_) => return Self::from_source(source, special, place).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(invalid(&place, error.to_string())),
        }
        let config = read_json(directory, "tokenizer_config.json")?;
        let place = directory.join("tokenizer_config.json").display().to_string();
        match default_template(&config["chat_template"]) {
            None => Ok(None),
            Some(source) => Self::from_source(source, special, format!("{place}: chat_template")).map(Some),
        }
    }

    /// Errors: CUPEL_NATIVE_TEMPLATE_INVALID.
    pub fn from_source(source: String, special: Map<String, Json>, place: String) -> Result<Self> {
        if source.len() as u64 > LARGEST_FILE {
            return Err(invalid(&place, format!("it has more than {LARGEST_FILE} bytes")));
        }
        match Template::parse(&source, true) {
            Ok(template) => Ok(Self { template, special, place }),
            Err(Fault { message, line }) => Err(invalid(&format!("{place}:{line}"), message)),
        }
    }

    /// Renders messages. `tools` is `Null` where there are none.
    ///
    /// Errors: CUPEL_NATIVE_TEMPLATE_FAILED with the template's own message.
    pub fn render(&self, messages: &Json, tools: &Json, add_generation_prompt: bool) -> Result<String> {
        self.render_with(messages, tools, add_generation_prompt, &Map::new())
    }

    /// As `render`, with further variables, which are what callers of Transformers give by name (`enable_thinking`).
    pub fn render_with(
        &self,
        messages: &Json,
        tools: &Json,
        add_generation_prompt: bool,
        variables: &Map<String, Json>,
    ) -> Result<String> {
        let mut context = self.special.clone();
        context.extend(variables.clone());
        let mut messages = messages.clone();
        messages.as_array_mut().into_iter().flatten().for_each(alias_reasoning);
        context.insert("messages".to_string(), messages);
        context.insert("tools".to_string(), tools.clone());
        context.entry("documents").or_insert(Json::Null);
        context.insert("add_generation_prompt".to_string(), Json::Bool(add_generation_prompt));
        let given: u64 = context.values().map(size_of_json).sum();
        let limits = Limits { steps: STEPS, bytes: BYTES + BYTES_PER_BYTE * given };
        self.template.render(&context, limits).map_err(|Fault { message, line }| {
            TextError::new(
                "CUPEL_NATIVE_TEMPLATE_FAILED",
                format!("the chat template refused the messages: {message}"),
                format!("{}:{line}", self.place),
                "Give messages in the order and with the roles that the checkpoint's template accepts.",
            )
        })
    }
}

/// Templates read a message's reasoning under one of several names; as Transformers, fills `thinking` and
/// `reasoning_content` from whichever there is.
fn alias_reasoning(message: &mut Json) {
    let Some(fields) = message.as_object_mut() else { return };
    let names = ["reasoning_content", "thinking", "reasoning"];
    let Some(reasoning) = names.iter().find_map(|name| fields.get(*name).filter(|value| !value.is_null())).cloned()
    else {
        return;
    };
    let mut aliased = Map::new();
    aliased.insert("thinking".to_string(), reasoning.clone());
    aliased.extend(std::mem::take(fields));
    aliased.insert("reasoning_content".to_string(), reasoning);
    *fields = aliased;
}

fn size_of_json(value: &Json) -> u64 {
    8 + match value {
        Json::String(text) => text.len() as u64,
        Json::Array(items) => items.iter().map(size_of_json).sum(),
        Json::Object(fields) => fields.iter().map(|(name, value)| name.len() as u64 + size_of_json(value)).sum(),
        _ => 0,
    }
}

/// A template is text, or a list of named ones of which `default` is for chat.
fn default_template(value: &Json) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_string());
    }
    let named = value.as_array()?;
    let chosen = named.iter().find(|entry| entry["name"] == "default").or(named.first())?;
    chosen["template"].as_str().map(str::to_string)
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
        let text = render("{{ messages | tojson }}", json!([{"role": "user", "content": "<é>"}])).unwrap();
        assert_eq!(text, r#"[{"role": "user", "content": "<é>"}]"#);
    }

    #[test]
    fn a_template_can_refuse_and_can_not_run_for_ever() {
        let refused = render("{{ raise_exception('no system role') }}", json!([])).unwrap_err();
        assert_eq!(refused.code, "CUPEL_NATIVE_TEMPLATE_FAILED");
        assert!(refused.message.contains("no system role"));
        let endless =
            render("{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}", json!([]));
        assert_eq!(endless.unwrap_err().code, "CUPEL_NATIVE_TEMPLATE_FAILED");
        let broken = render("{% for %}", json!([])).unwrap_err();
        assert_eq!(broken.code, "CUPEL_NATIVE_TEMPLATE_INVALID");
        assert!(broken.place.starts_with("test:1"));
    }
}
