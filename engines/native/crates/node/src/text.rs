use std::path::PathBuf;

use cupel_core::Source;
use napi::bindgen_prelude::Result;
use napi_derive::napi;

use crate::reply::Callback;
use crate::text_side::TextSide;
use crate::worker::Worker;

#[napi(object)]
pub struct TextInfo {
    pub context_length: u32,
    pub vocabulary_size: u32,
    pub end_of_turn: u32,
}

struct Text {
    side: TextSide,
    context_length: usize,
    vocabulary_size: usize,
}

/// The text files of a checkpoint whose weights something else reads.
#[napi]
pub struct NativeText {
    worker: Worker<Text>,
}

#[napi]
impl NativeText {
    /// Starts to open; the callback is told the end. Nothing else may be called before.
    #[napi(constructor)]
    pub fn new(directory: String, callback: Callback) -> Result<Self> {
        let path = PathBuf::from(directory);
        let open = move || {
            let source = Source::open(&path)?;
            let config = source.config();
            let (context_length, vocabulary_size) = (config.context_length, config.vocabulary_size);
            Ok(Text { side: TextSide::open(&path, &source)?, context_length, vocabulary_size })
        };
        Ok(Self { worker: Worker::start(open, callback)? })
    }

    #[napi]
    pub fn info(&self) -> Result<TextInfo> {
        Ok(self.worker.wait(|text| {
            Ok(TextInfo {
                context_length: text.context_length as u32,
                vocabulary_size: text.vocabulary_size as u32,
                end_of_turn: text.side.special.end_of_turn,
            })
        })?)
    }

    #[napi]
    pub fn tokenize(&self, text: String) -> Result<Vec<u32>> {
        Ok(self.worker.wait(move |own| Ok(own.side.tokenizer.encode(&text)?))?)
    }

    #[napi]
    pub fn detokenize(&self, ids: Vec<u32>) -> Result<String> {
        Ok(self.worker.wait(move |own| Ok(own.side.tokenizer.decode(&ids)?))?)
    }

    /// `messages` and `tools` are JSON.
    #[napi]
    pub fn render(&self, messages: String, tools: String, add_generation_prompt: bool) -> Result<String> {
        Ok(self.worker.wait(move |own| own.side.render(&messages, &tools, add_generation_prompt))?)
    }

    #[napi]
    pub fn close(&self, callback: Callback) {
        self.worker.close(callback);
    }
}
