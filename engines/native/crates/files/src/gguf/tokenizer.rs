//! The tokenizer of a Hugging Face folder as the metadata that llama.cpp reads: byte-level BPE only.

use std::path::Path;

use serde_json::{Map, Value};

use super::write::Meta;
use crate::config::{present, read_object, read_text};
use crate::error::{Error, Result, TOKENIZER_INVALID, TOKENIZER_MISSING, TOKENIZER_UNSUPPORTED};

const TOKENIZER_LIMIT: u64 = 64 << 20;
const TEMPLATE_LIMIT: u64 = 1 << 20;

/// The expression that splits text before the merges, and llama.cpp's name for it. Digits in groups of up to three.
const LLAMA_BPE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As above, digits one by one.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Types of tokens in GGUF files.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// What a Hugging Face folder says about its tokenizer.
pub struct TokenizerFiles {
    text: String,
    tokenizer: Value,
    config: Map<String, Value>,
    model: Map<String, Value>,
    template: Option<String>,
}

impl TokenizerFiles {
    /// Reads `tokenizer.json`, `config.json` and, where they are, `tokenizer_config.json` and `chat_template.jinja`.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        if !path.exists() {
            return Err(Error::new(TOKENIZER_MISSING, "folder has no tokenizer.json").at(dir.display().to_string()));
        }
        let text = read_text(&path, TOKENIZER_LIMIT, TOKENIZER_INVALID)?;
        let tokenizer =
            serde_json::from_str(&text).map_err(|cause| invalid(format!("not JSON: {cause}")).inside(&path))?;
        let optional = dir.join("tokenizer_config.json");
        let config = if optional.exists() { read_object(&optional)? } else { Map::new() };
        let template = dir.join("chat_template.jinja");
        let template =
            if template.exists() { Some(read_text(&template, TEMPLATE_LIMIT, TOKENIZER_INVALID)?) } else { None };
        Ok(Self { text, tokenizer, config, model: read_object(&dir.join("config.json"))?, template })
    }

    /// The keys `tokenizer.*` of a GGUF file for a model of `vocabulary` tokens. `pre` is llama.cpp's name of the way
    /// in which text is split before the merges; where it is not given, only ways that llama.cpp is known to have are
    /// accepted, others are refused by name. The whole tokenizer.json goes along as `tokenizer.huggingface.json`, so
    /// that nothing is lost whatever llama.cpp makes of the rest.
    pub fn metadata(&self, vocabulary: usize, pre: Option<&str>) -> Result<Vec<(String, Meta)>> {
        let model = &self.tokenizer["model"];
        check_model(model)?;
        let pre = match pre {
            Some(name) => name.to_string(),
            None => self.pre_tokenizer()?.to_string(),
        };
        let (tokens, kinds) = self.tokens(vocabulary)?;
        let mut metadata: Vec<(String, Meta)> = Vec::new();
        let mut put = |key: &str, value: Meta| metadata.push((format!("tokenizer.{key}"), value));
        put("ggml.model", "gpt2".into());
        put("ggml.pre", Meta::Text(pre));
        put("ggml.merges", Meta::Texts(merges(model)?));
        for (key, name) in
            [("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token"), ("padding", "pad_token")]
        {
            if let Some(id) = self.special(name, &tokens)? {
                put(&format!("ggml.{key}_token_id"), Meta::U32(id));
            }
        }
        put("ggml.add_bos_token", Meta::Flag(self.adds_first(&tokens)?));
        put("ggml.tokens", Meta::Texts(tokens));
        put("ggml.token_type", Meta::I32s(kinds));
        if let Some(template) = self.chat_template() {
            put("chat_template", Meta::Text(template));
        }
        put("huggingface.json", Meta::Text(self.text.clone()));
        Ok(metadata)
    }

    /// llama.cpp's name of the pre-tokenizer.
    fn pre_tokenizer(&self) -> Result<&'static str> {
        let place = "tokenizer.json: pre_tokenizer";
        let refuse = |what: String| {
            Err(Error::new(TOKENIZER_UNSUPPORTED, what).at(place).remedy(
                "name the pre-tokenizer that llama.cpp shall use; text is then split differently there than here",
            ))
        };
        match &self.tokenizer["normalizer"] {
            Value::Null => {}
            normalizer if normalizer["type"] == "NFC" => {}
            other => return refuse(format!("normalizer {} has no counterpart in llama.cpp", other["type"])),
        }
        let outer = &self.tokenizer["pre_tokenizer"];
        let parts: Vec<&Value> = match outer["pretokenizers"].as_array() {
            Some(parts) if outer["type"] == "Sequence" => parts.iter().collect(),
            _ => vec![outer],
        };
        let byte_level = |part: &Value, regex: bool| {
            part["type"] == "ByteLevel"
                && part["add_prefix_space"] == false
                && part["use_regex"].as_bool().unwrap_or(true) == regex
        };
        let merges_whole = self.tokenizer["model"]["ignore_merges"].as_bool().unwrap_or(false);
        let name = match &parts[..] {
            [only] if byte_level(only, true) => Some("gpt-2"),
            [digits, last]
                if digits["type"] == "Digits" && digits["individual_digits"] == true && byte_level(last, true) =>
            {
                Some("smollm")
            }
            [split, last]
                if split["type"] == "Split"
                    && split["behavior"] == "Isolated"
                    && split["invert"] == false
                    && byte_level(last, false) =>
            {
                match split["pattern"]["Regex"].as_str() {
                    Some(LLAMA_BPE) => Some("llama-bpe"),
                    Some(QWEN2) => Some("qwen2"),
                    _ => None,
                }
            }
            _ => None,
        };
        match name {
            Some(name) if merges_whole == (name == "llama-bpe") => Ok(name),
            Some(name) => refuse(format!(
                "pre-tokenizer {name} with ignore_merges {merges_whole} has no counterpart in llama.cpp"
            )),
            None => {
                let shown: String = outer.to_string().chars().take(300).collect();
                refuse(format!("pre-tokenizer has no counterpart in llama.cpp: {shown}"))
            }
        }
    }

    /// Texts and types of all tokens, by id; ids that the tokenizer does not use become unused tokens.
    fn tokens(&self, vocabulary: usize) -> Result<(Vec<String>, Vec<i32>)> {
        let Some(vocab) = self.tokenizer["model"]["vocab"].as_object() else {
            return Err(invalid("vocab is not an object").at("tokenizer.json: model.vocab"));
        };
        let mut tokens: Vec<Option<String>> = vec![None; vocabulary];
        let mut kinds = vec![UNUSED; vocabulary];
        let mut put = |id: &Value, text: &str, kind: i32, place: &str| -> Result<()> {
            let slot = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|id| *id < vocabulary);
            let Some(slot) = slot else {
                let message = format!("token {text:?} has id {id}, the model has {vocabulary} tokens");
                return Err(invalid(message).at(place));
            };
            match &tokens[slot] {
                Some(other) if other != text => {
                    return Err(invalid(format!("tokens {other:?} and {text:?} have the same id {id}")).at(place))
                }
                _ => tokens[slot] = Some(text.to_string()),
            }
            kinds[slot] = kind;
            Ok(())
        };
        for (text, id) in vocab {
            put(id, text, NORMAL, "tokenizer.json: model.vocab")?;
        }
        for added in self.tokenizer["added_tokens"].as_array().into_iter().flatten() {
            let place = "tokenizer.json: added_tokens";
            let Some(text) = added["content"].as_str() else {
                return Err(invalid(format!("content is {}, not a text", added["content"])).at(place));
            };
            let kind = if added["special"] == true { CONTROL } else { USER_DEFINED };
            put(&added["id"], text, kind, place)?;
        }
        let named = |(id, text): (usize, Option<String>)| text.unwrap_or_else(|| format!("[PAD{id}]"));
        Ok((tokens.into_iter().enumerate().map(named).collect(), kinds))
    }

    /// Id of a special token: by its text in tokenizer_config.json, else by its id in config.json.
    fn special(&self, name: &str, tokens: &[String]) -> Result<Option<u32>> {
        let text = present(&self.config, name).and_then(|value| value.as_str().or_else(|| value["content"].as_str()));
        if let Some(text) = text {
            let found = tokens.iter().position(|token| token == text);
            return match found {
                Some(id) => Ok(Some(id as u32)),
                None => Err(invalid(format!("{name} {text:?} is not in the vocabulary")).at("tokenizer_config.json")),
            };
        }
        let id = match present(&self.model, &format!("{name}_id")) {
            Some(Value::Array(ids)) => ids.first(),
            other => other,
        };
        match id.map(|id| (id, id.as_u64())) {
            None => Ok(None),
            Some((_, Some(id))) if id < tokens.len() as u64 => Ok(Some(id as u32)),
            // -1 stands for none in some files.
            Some((value, _)) if value.as_i64() == Some(-1) => Ok(None),
            Some((value, _)) => {
                Err(invalid(format!("{name}_id is {value}, the model has {} tokens", tokens.len())).at("config.json"))
            }
        }
    }

    /// Whether the post-processor puts the begin token before a text; anything else that it adds is refused.
    fn adds_first(&self, tokens: &[String]) -> Result<bool> {
        let outer = &self.tokenizer["post_processor"];
        let parts: Vec<&Value> = match outer["processors"].as_array() {
            Some(parts) if outer["type"] == "Sequence" => parts.iter().collect(),
            _ => vec![outer],
        };
        let mut first = false;
        for part in parts {
            match part["type"].as_str() {
                None | Some("ByteLevel") => {}
                Some("TemplateProcessing") => {
                    let single = part["single"].as_array().map(Vec::as_slice).unwrap_or_default();
                    let special = |item: &Value| item["SpecialToken"]["id"].as_str().map(str::to_string);
                    first = match single {
                        [text] if text["Sequence"].is_object() => false,
                        [token, text] if text["Sequence"].is_object() && special(token).is_some() => {
                            let bos = self.special("bos_token", tokens)?.and_then(|id| tokens.get(id as usize));
                            if bos != special(token).as_ref() {
                                return Err(unsupported(format!(
                                    "texts begin with {:?}, which is not bos_token",
                                    special(token)
                                )));
                            }
                            true
                        }
                        _ => return Err(unsupported(format!("post-processor template of {} parts", single.len()))),
                    };
                }
                Some(other) => return Err(unsupported(format!("post-processor {other}"))),
            }
        }
        Ok(first)
    }

    fn chat_template(&self) -> Option<String> {
        if self.template.is_some() {
            return self.template.clone();
        }
        match present(&self.config, "chat_template")? {
            Value::String(text) => Some(text.clone()),
            Value::Array(named) => {
                let default = named.iter().find(|template| template["name"] == "default")?;
                default["template"].as_str().map(str::to_string)
            }
            _ => None,
        }
    }
}

fn check_model(model: &Value) -> Result<()> {
    if model["type"] != "BPE" {
        return Err(
            unsupported(format!("model {}, only byte-level BPE", model["type"])).at("tokenizer.json: model.type")
        );
    }
    for (field, harmless) in [
        ("byte_fallback", Value::from(false)),
        ("fuse_unk", Value::from(false)),
        ("continuing_subword_prefix", Value::from("")),
        ("end_of_word_suffix", Value::from("")),
    ] {
        let value = &model[field];
        if !value.is_null() && *value != harmless {
            return Err(unsupported(format!("{field} {value}")).at(format!("tokenizer.json: model.{field}")));
        }
    }
    Ok(())
}

/// Merges as texts of two parts with a space between; newer files have pairs.
fn merges(model: &Value) -> Result<Vec<String>> {
    let place = "tokenizer.json: model.merges";
    let Some(items) = model["merges"].as_array() else {
        return Err(invalid("merges is not a list").at(place));
    };
    let read = |(index, item): (usize, &Value)| {
        let merge = match item {
            Value::String(text) => Some(text.clone()),
            Value::Array(pair) => match (pair.first().and_then(Value::as_str), pair.get(1).and_then(Value::as_str)) {
                (Some(left), Some(right)) if pair.len() == 2 => Some(format!("{left} {right}")),
                _ => None,
            },
            _ => None,
        };
        match merge {
            Some(text) if text.matches(' ').count() == 1 => Ok(text),
            _ => Err(invalid(format!("merge {index} is {item}, not two parts without spaces")).at(place)),
        }
    };
    items.iter().enumerate().map(read).collect()
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(TOKENIZER_INVALID, message)
}

fn unsupported(what: String) -> Error {
    Error::new(TOKENIZER_UNSUPPORTED, format!("{what} has no counterpart in llama.cpp")).at("tokenizer.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn files(change: impl FnOnce(&mut TokenizerFiles)) -> TokenizerFiles {
        let tokenizer = json!({
            "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
            "post_processor": null,
            "added_tokens": [{"id": 3, "content": "<|end|>", "special": true}, {"id": 4, "content": "<x>", "special": false}],
            "model": {"type": "BPE", "byte_fallback": false, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
        });
        let config = json!({"eos_token": {"content": "<|end|>"}, "chat_template": "{{ x }}"});
        let model = json!({"pad_token_id": 4, "bos_token_id": null});
        let object = |value: Value| value.as_object().unwrap().clone();
        let mut files = TokenizerFiles {
            text: tokenizer.to_string(),
            tokenizer,
            config: object(config),
            model: object(model),
            template: None,
        };
        change(&mut files);
        files
    }

    fn get<'a>(metadata: &'a [(String, Meta)], key: &str) -> Option<&'a Meta> {
        metadata.iter().find(|(name, _)| name == &format!("tokenizer.{key}")).map(|(_, value)| value)
    }

    #[test]
    fn a_byte_level_tokenizer_becomes_metadata() {
        let metadata = files(|_| {}).metadata(6, None).unwrap();
        assert_eq!(get(&metadata, "ggml.pre"), Some(&"gpt-2".into()));
        let texts = ["a", "b", "ab", "<|end|>", "<x>", "[PAD5]"].map(str::to_string).to_vec();
        assert_eq!(get(&metadata, "ggml.tokens"), Some(&Meta::Texts(texts)));
        assert_eq!(get(&metadata, "ggml.token_type"), Some(&Meta::I32s(vec![1, 1, 1, 3, 4, 5])));
        assert_eq!(get(&metadata, "ggml.merges"), Some(&Meta::Texts(vec!["a b".to_string()])));
        assert_eq!(get(&metadata, "ggml.eos_token_id"), Some(&Meta::U32(3)));
        assert_eq!(get(&metadata, "ggml.padding_token_id"), Some(&Meta::U32(4)));
        assert_eq!(get(&metadata, "ggml.bos_token_id"), None);
        assert_eq!(get(&metadata, "chat_template"), Some(&"{{ x }}".into()));
        assert_eq!(get(&metadata, "ggml.add_bos_token"), Some(&Meta::Flag(false)));
    }

    #[test]
    fn known_ways_of_splitting_are_named_as_llama_cpp_names_them() {
        let split = |regex: &str| {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})
        };
        let digits = json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]});
        for (pre, whole, name) in
            [(split(QWEN2), false, "qwen2"), (split(LLAMA_BPE), true, "llama-bpe"), (digits, false, "smollm")]
        {
            let files = files(|files| {
                files.tokenizer["pre_tokenizer"] = pre;
                files.tokenizer["model"]["ignore_merges"] = whole.into();
            });
            assert_eq!(files.pre_tokenizer().unwrap(), name);
        }
        for strange in [split("[a-z]+"), json!(null), json!({"type": "Metaspace"})] {
            let files = files(|files| files.tokenizer["pre_tokenizer"] = strange);
            assert_eq!(files.metadata(6, None).unwrap_err().code, TOKENIZER_UNSUPPORTED);
            assert_eq!(get(&files.metadata(6, Some("default")).unwrap(), "ggml.pre"), Some(&"default".into()));
        }
    }

    #[test]
    fn what_llama_cpp_would_compute_otherwise_is_refused() {
        let code = |change: fn(&mut TokenizerFiles)| files(change).metadata(6, None).unwrap_err().code;
        assert_eq!(code(|files| files.tokenizer["model"]["type"] = "Unigram".into()), TOKENIZER_UNSUPPORTED);
        assert_eq!(code(|files| files.tokenizer["model"]["byte_fallback"] = true.into()), TOKENIZER_UNSUPPORTED);
        assert_eq!(code(|files| files.tokenizer["normalizer"] = json!({"type": "Lowercase"})), TOKENIZER_UNSUPPORTED);
        assert_eq!(code(|files| files.tokenizer["model"]["vocab"]["c"] = 1.into()), TOKENIZER_INVALID);
        assert_eq!(code(|files| files.tokenizer["model"]["vocab"]["c"] = 6.into()), TOKENIZER_INVALID);
        assert_eq!(code(|files| files.tokenizer["model"]["merges"] = json!(["a b c"])), TOKENIZER_INVALID);
        let template = |files: &mut TokenizerFiles| {
            files.tokenizer["post_processor"] = json!({"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<|end|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]});
        };
        assert_eq!(files(template).metadata(6, None).unwrap_err().code, TOKENIZER_UNSUPPORTED);
        let with_bos = files(|files| {
            template(files);
            files.config.insert("bos_token".to_string(), "<|end|>".into());
        });
        assert_eq!(get(&with_bos.metadata(6, None).unwrap(), "ggml.add_bos_token"), Some(&Meta::Flag(true)));
    }
}
