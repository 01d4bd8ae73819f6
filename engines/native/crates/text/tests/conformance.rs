//! Recorded tokenizations, where they are at hand.

mod support;

use std::sync::Arc;

use cupel_text::{TextStream, TextTokenizer};
use serde_json::Value;
use support::{conformance, Metadata, Numbers};

fn cases(folder: &std::path::Path, name: &str) -> Vec<(String, Vec<u32>)> {
    let text = std::fs::read_to_string(folder.join("engine/tokenizer").join(format!("{name}.jsonl"))).unwrap();
    text.lines()
        .map(|line| {
            let case: Value = serde_json::from_str(line).unwrap();
            let ids = case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            (case["text"].as_str().unwrap().to_string(), ids)
        })
        .collect()
}

fn gguf(folder: &std::path::Path, name: &str) -> Arc<TextTokenizer> {
    let file = folder.join("engine/vocab").join(format!("ggml-vocab-{name}.gguf"));
    let vocabulary = Metadata::read(&file).vocabulary();
    let size = vocabulary.tokens.len();
    Arc::new(TextTokenizer::from_vocabulary(vocabulary, file.display().to_string(), size).unwrap())
}

#[test]
fn vocabularies_of_gguf_files_give_the_recorded_ids() {
    let Some(folder) = conformance() else { return };
    for name in ["gpt-2", "qwen2"] {
        let tokenizer = gguf(&folder, name);
        let cases = cases(&folder, name);
        assert!(cases.len() > 30);
        for (text, ids) in &cases {
            assert_eq!(&tokenizer.encode_plain(text).unwrap(), ids, "{name}: {text:?}");
            assert_eq!(&tokenizer.decode(ids).unwrap(), text, "{name}");
        }
    }
}

#[test]
fn a_tokenizer_json_gives_the_recorded_ids() {
    let Some(folder) = conformance() else { return };
    let bytes = std::fs::read(folder.join("engine/vocab/smollm-local-tiny.tokenizer.json")).unwrap();
    let tokenizer = TextTokenizer::from_json(&bytes, "tokenizer.json".to_string(), 4096).unwrap();
    for (text, ids) in cases(&folder, "smollm-local-tiny") {
        assert_eq!(tokenizer.encode(&text).unwrap(), ids, "{text:?}");
    }
}

#[test]
fn a_stream_gives_the_decoded_text_and_never_splits_a_character() {
    let Some(folder) = conformance() else { return };
    let tokenizer = gguf(&folder, "gpt-2");
    let mut numbers = Numbers(3);
    for (text, ids) in cases(&folder, "gpt-2") {
        let mut stream = TextStream::new(Arc::clone(&tokenizer), &[]);
        let mut streamed = String::new();
        for id in &ids {
            streamed += &stream.push(*id).unwrap().unwrap_or_default();
            assert!(text.starts_with(&streamed));
        }
        assert_eq!(streamed + &stream.finish(), text);
    }
    for _ in 0..200 {
        let ids: Vec<u32> = (0..numbers.below(40)).map(|_| numbers.below(600) as u32).collect();
        let mut stream = TextStream::new(Arc::clone(&tokenizer), &[]);
        let mut streamed = String::new();
        for id in &ids {
            streamed += &stream.push(*id).unwrap().unwrap_or_default();
        }
        assert_eq!(streamed + &stream.finish(), tokenizer.decode(&ids).unwrap(), "{ids:?}");
    }
}
