use std::path::Path;
use std::sync::{Arc, OnceLock};

use cupel_core::Source;
use cupel_files::gguf::Gguf;
use cupel_text::{ChatTemplate, GgufVocabulary, GrammarCompiler, Result, SpecialTokens, TextError, TextTokenizer};
use serde_json::Value;

use crate::fault::Fault;
use crate::metadata::Metadata;

/// Key of a GGUF file for the text of a tokenizer.json (ggml's `docs/gguf.md`).
const WHOLE_TOKENIZER: &str = "tokenizer.huggingface.json";

/// Everything of a checkpoint that is text. Shared by the engine's threads and JavaScript's.
pub struct TextSide {
    pub tokenizer: Arc<TextTokenizer>,
    pub special: SpecialTokens,
    template: Option<ChatTemplate>,
    compiler: OnceLock<Result<GrammarCompiler>>,
    place: String,
}

impl TextSide {
    /// The text files of a folder, or the vocabulary and template of a GGUF file.
    pub fn open(path: &Path, source: &Source) -> std::result::Result<Self, Fault> {
        let vocabulary_size = source.config().vocabulary_size;
        let side = |tokenizer, special, template, place: &Path| Self {
            tokenizer,
            special,
            template,
            compiler: OnceLock::new(),
            place: place.display().to_string(),
        };
        let Some(gguf) = source.gguf() else {
            let tokenizer = Arc::new(TextTokenizer::open(path, vocabulary_size)?);
            let special = SpecialTokens::open(path, &tokenizer, vocabulary_size)?;
            let template = ChatTemplate::open(path, special.texts.clone())?;
            return Ok(side(tokenizer, special, template, path));
        };
        let place = gguf.path().display().to_string();
        let mut vocabulary = GgufVocabulary::read(&Metadata(gguf))?;
        let special = SpecialTokens::from_vocabulary(&vocabulary, &place)?;
        let template = match vocabulary.chat_template.take() {
            Some(source) => Some(ChatTemplate::from_source(source, special.texts.clone(), place.clone())?),
            None => None,
        };
        let tokenizer = tokenizer(gguf, vocabulary, vocabulary_size)?;
        Ok(side(Arc::new(tokenizer), special, template, gguf.path()))
    }

    /// Messages (JSON) to prompt text. Special tokens spelled out in a message are defused.
    pub fn render(
        &self,
        messages: &str,
        tools: &str,
        add_generation_prompt: bool,
    ) -> std::result::Result<String, Fault> {
        let parse = |text: &str| {
            serde_json::from_str::<Value>(text)
                .map_err(|error| Fault::new("CUPEL_NATIVE_REQUEST_INVALID", error.to_string()).at("messages"))
        };
        let template = self.template()?;
        let mut messages = parse(messages)?;
        for message in messages.as_array_mut().into_iter().flatten() {
            // The role as well: it may come from data, and those of templates spell no special token.
            self.tokenizer.defuse_all(message);
        }
        Ok(template.render(&messages, &parse(tools)?, add_generation_prompt)?)
    }

    /// Errors: CUPEL_NATIVE_TEMPLATE_MISSING.
    fn template(&self) -> Result<&ChatTemplate> {
        self.template.as_ref().ok_or_else(|| {
            TextError::new(
                "CUPEL_NATIVE_TEMPLATE_MISSING",
                "the checkpoint has no chat template, and messages were given",
                self.place.clone(),
                "Add chat_template.jinja to the checkpoint, or give the prompt as text.",
            )
        })
    }

    /// Built on first use: most runs constrain nothing.
    pub fn compiler(&self) -> Result<&GrammarCompiler> {
        self.compiler
            .get_or_init(|| GrammarCompiler::new(&self.tokenizer, &self.special.end_tokens))
            .as_ref()
            .map_err(Clone::clone)
    }

    /// The token before the first of a text that has nothing before it: the begin token if the checkpoint has one,
    /// else the end of the turn before.
    pub fn first_token(&self) -> u32 {
        self.special.texts["bos_token"]
            .as_str()
            .and_then(|text| self.tokenizer.token_id(text))
            .unwrap_or(self.special.end_of_turn)
    }
}

/// The tokenizer of a GGUF file, which need not hold a model.
pub fn tokenizer_of(file: &Path) -> std::result::Result<TextTokenizer, Fault> {
    let gguf = Gguf::open(file)?;
    let vocabulary = GgufVocabulary::read(&Metadata(&gguf))?;
    tokenizer(&gguf, vocabulary, u32::MAX as usize)
}

/// The whole tokenizer.json where the file has it along, so that a checkpoint keeps its tokens when it is written as a
/// GGUF file; else what the vocabulary says.
fn tokenizer(
    gguf: &Gguf,
    vocabulary: GgufVocabulary,
    vocabulary_size: usize,
) -> std::result::Result<TextTokenizer, Fault> {
    let place = gguf.path().display().to_string();
    Ok(match gguf.text(WHOLE_TOKENIZER)? {
        Some(json) => TextTokenizer::from_json(json.as_bytes(), place, vocabulary_size)?,
        None => TextTokenizer::from_vocabulary(vocabulary, place, vocabulary_size)?,
    })
}
