use std::path::Path;
use std::sync::{Arc, OnceLock};

use cupel_text::{ChatTemplate, Result, SchemaCompiler, SpecialTokens, TextError, TextTokenizer};

/// Everything of a checkpoint that is text. Shared by the worker and the main thread.
pub struct TextSide {
    pub tokenizer: Arc<TextTokenizer>,
    pub special: SpecialTokens,
    template: Option<ChatTemplate>,
    compiler: OnceLock<Result<SchemaCompiler>>,
    place: String,
}

impl TextSide {
    pub fn open(directory: &Path, vocabulary_size: usize) -> Result<Self> {
        let tokenizer = Arc::new(TextTokenizer::open(directory, vocabulary_size)?);
        let special = SpecialTokens::open(directory, &tokenizer, vocabulary_size)?;
        let template = ChatTemplate::open(directory, special.texts.clone())?;
        Ok(Self {
            tokenizer,
            special,
            template,
            compiler: OnceLock::new(),
            place: directory.display().to_string(),
        })
    }

    /// Errors: CUPEL_NATIVE_TEMPLATE_MISSING.
    pub fn template(&self) -> Result<&ChatTemplate> {
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
    pub fn compiler(&self) -> Result<&SchemaCompiler> {
        self.compiler
            .get_or_init(|| SchemaCompiler::new(&self.tokenizer, &self.special.end_tokens))
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
