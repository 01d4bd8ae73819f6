//! Tokenizers of every kind that needs no large vocabulary, and files that mean harm.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cupel_text::{GgufVocabulary, SpecialTokens, TextStream, TextTokenizer};
use serde_json::{json, Value};
use support::Numbers;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../fixtures")
}

fn base() -> Vec<u8> {
    std::fs::read(fixtures().join("base/tokenizer.json")).unwrap()
}

fn tokenizer(bytes: &[u8]) -> Result<TextTokenizer, String> {
    TextTokenizer::from_json(bytes, "tokenizer.json".to_string(), 1 << 20)
        .map_err(|error| format!("{}: {}", error.code, error.message))
}

/// The base's vocabulary as a GGUF file holds it.
fn base_vocabulary() -> GgufVocabulary {
    let json: Value = serde_json::from_slice(&base()).unwrap();
    let vocab = json["model"]["vocab"].as_object().unwrap();
    let added: Vec<&Value> = json["added_tokens"].as_array().unwrap().iter().collect();
    let count = vocab.values().chain(added.iter().map(|token| &token["id"])).map(|id| id.as_u64().unwrap()).max();
    let mut tokens = vec![String::new(); count.unwrap() as usize + 1];
    let mut token_types = vec![1; tokens.len()];
    for (token, id) in vocab {
        tokens[id.as_u64().unwrap() as usize] = token.clone();
    }
    for token in &added {
        let id = token["id"].as_u64().unwrap() as usize;
        tokens[id] = token["content"].as_str().unwrap().to_string();
        token_types[id] = if token["special"] == true { 3 } else { 4 };
    }
    let merges = json["model"]["merges"].as_array().unwrap().iter();
    let merges = merges.map(|merge| match merge.as_array() {
        Some(pair) => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
        None => merge.as_str().unwrap().to_string(),
    });
    GgufVocabulary {
        model: "gpt2".to_string(),
        pre: Some("gpt-2".to_string()),
        merges: merges.collect(),
        eos: added.first().and_then(|token| token["id"].as_u64()).map(|id| id as u32),
        tokens,
        token_types,
        ..GgufVocabulary::default()
    }
}

/// The library's own reader gives the same tokenizer.
#[test]
fn a_tokenizer_json_means_what_the_library_says() {
    let mut numbers = Numbers(31);
    for file in ["base/tokenizer.json", "reference/e2e/tokenizer.json", "reference/engine/lmeval/model/tokenizer.json"]
    {
        let bytes = std::fs::read(fixtures().join(file)).unwrap();
        let (ours, library) = (tokenizer(&bytes).unwrap(), tokenizers::Tokenizer::from_bytes(&bytes).unwrap());
        let parts =
            ["the", " ", "<|im_start|>", "<|im_end|>", "42", "\n", "é", "水", "Queue", ": \"", "🎉", "  ", "'s"];
        for _ in 0..300 {
            let text: String = (0..numbers.below(12)).map(|_| parts[numbers.below(parts.len())]).collect();
            let ids = ours.encode(&text).unwrap();
            assert_eq!(ids, library.encode(text.as_str(), false).unwrap().get_ids(), "{file}: {text:?}");
            assert_eq!(ours.decode(&ids).unwrap(), library.decode(&ids, true).unwrap(), "{file}: {text:?}");
        }
    }
}

#[test]
fn special_tokens_are_parsed_or_not_as_asked() {
    let library = tokenizer(&base()).unwrap();
    let json: Value = serde_json::from_slice(&base()).unwrap();
    let special = json["added_tokens"][0]["content"].as_str().unwrap();
    let id = json["added_tokens"][0]["id"].as_u64().unwrap() as u32;
    let gguf = TextTokenizer::from_vocabulary(base_vocabulary(), "x.gguf".to_string(), 1 << 20).unwrap();
    let text = format!("a {special} b");
    for tokenizer in [library, gguf] {
        assert!(tokenizer.encode(&text).unwrap().contains(&id));
        let plain = tokenizer.encode_plain(&text).unwrap();
        assert!(!plain.contains(&id));
        assert_eq!(tokenizer.decode(&plain).unwrap(), text);
        assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap(), "a  b");
        assert_eq!(tokenizer.encode("a b").unwrap(), tokenizer.encode_plain("a b").unwrap());
        assert_eq!(tokenizer.token_id(special), Some(id));
        assert!(!tokenizer.encode(&tokenizer.defuse(&text)).unwrap().contains(&id));
    }
}

#[test]
fn sentence_pieces_are_those_of_the_reference() {
    let text = std::fs::read_to_string(fixtures().join("reference/text/sentence-pieces.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let list = |name: &str| json[name].as_array().unwrap().clone();
    let vocabulary = GgufVocabulary {
        model: "llama".to_string(),
        tokens: list("tokens").iter().map(|token| token.as_str().unwrap().to_string()).collect(),
        token_types: list("token_types").iter().map(|kind| kind.as_i64().unwrap() as i32).collect(),
        scores: list("scores").iter().map(|score| score.as_f64().unwrap() as f32).collect(),
        unknown: json["unknown"].as_u64().map(|id| id as u32),
        bos: json["bos"].as_u64().map(|id| id as u32),
        eos: json["eos"].as_u64().map(|id| id as u32),
        ..GgufVocabulary::default()
    };
    let special = SpecialTokens::from_vocabulary(&vocabulary, "x.gguf").unwrap();
    assert_eq!((special.texts["bos_token"].as_str(), special.texts["eos_token"].as_str()), (Some("<s>"), Some("</s>")));
    let end = vocabulary.tokens.iter().position(|token| token == "<|end|>").unwrap() as u32;
    assert_eq!(
        (special.end_of_turn, &*special.end_tokens),
        (vocabulary.eos.unwrap(), &[vocabulary.eos.unwrap(), end][..])
    );
    let size = vocabulary.tokens.len();
    let tokenizer = Arc::new(TextTokenizer::from_vocabulary(vocabulary, "x.gguf".to_string(), size).unwrap());
    let cases = list("cases");
    assert!(cases.len() > 100);
    for case in &cases {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u32> = case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenizer.encode_plain(text).unwrap(), ids, "{text:?}");
        // U+2581 itself stands for a space, here as in the reference.
        assert_eq!(tokenizer.decode(&ids).unwrap(), text.replace('\u{2581}', " "), "{text:?}");
        let mut stream = TextStream::new(Arc::clone(&tokenizer), &[]);
        let mut streamed = String::new();
        for id in &ids {
            streamed += &stream.push(*id).unwrap().unwrap_or_default();
        }
        assert_eq!(streamed + &stream.finish(), tokenizer.decode(&ids).unwrap());
    }
    assert_eq!(tokenizer.encode("<s>a").unwrap()[0], 1);
    assert_ne!(tokenizer.encode_plain("<s>a").unwrap()[0], 1);
    let tool = tokenizer.token_id("<tool>").unwrap();
    assert!(tokenizer.encode_plain("x<tool>y").unwrap().contains(&tool));
}

#[test]
fn streams_give_what_decoding_gives_cut_at_the_stop_text() {
    let tokenizer = Arc::new(tokenizer(&base()).unwrap());
    let mut numbers = Numbers(17);
    for _ in 0..2000 {
        let ids: Vec<u32> = (0..numbers.below(60)).map(|_| numbers.below(400) as u32).collect();
        let text = tokenizer.decode(&ids).unwrap();
        let characters: Vec<char> = text.chars().collect();
        let mut stop = Vec::new();
        if !characters.is_empty() && numbers.below(2) == 0 {
            let start = numbers.below(characters.len());
            let end = (start + 1 + numbers.below(5)).min(characters.len());
            stop.push(characters[start..end].iter().collect::<String>());
        }
        let mut stream = TextStream::new(Arc::clone(&tokenizer), &stop);
        let mut streamed = String::new();
        let mut used = 0;
        for id in &ids {
            used += 1;
            streamed += &stream.push(*id).unwrap().unwrap_or_default();
            if stream.stopped() {
                break;
            }
        }
        let stopped = stream.stopped();
        streamed += &stream.finish();
        match stop.first().and_then(|stop| text.find(stop.as_str())) {
            Some(at) if stopped => {
                assert_eq!(streamed, text[..at], "{ids:?} {stop:?}");
                assert!(tokenizer.decode(&ids[..used]).unwrap().contains(&stop[0]));
                // An incomplete character decodes to U+FFFD before it is known to be one.
                let before = tokenizer.decode(&ids[..used - 1]).unwrap();
                assert!(stop[0].contains('\u{fffd}') || !before.contains(&stop[0]));
            }
            // A stop text that is only there once an incomplete character has become U+FFFD.
            Some(at) => assert!(text[at..].contains('\u{fffd}')),
            None => assert_eq!(streamed, text, "{ids:?} {stop:?}"),
        }
    }
}

#[test]
fn decoders_that_look_at_neighbours_stream_too() {
    let words = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "hello": 1, "wor": 2, "##ld": 3, ".": 4, "##s": 5}},
    });
    let tokenizer = Arc::new(tokenizer(words.to_string().as_bytes()).unwrap());
    for text in ["hello world .", "hellos worlds", "hello hello world . hello"] {
        let ids = tokenizer.encode(text).unwrap();
        let mut stream = TextStream::new(Arc::clone(&tokenizer), &[]);
        let mut streamed = String::new();
        for id in &ids {
            streamed += &stream.push(*id).unwrap().unwrap_or_default();
        }
        assert_eq!(streamed + &stream.finish(), tokenizer.decode(&ids).unwrap(), "{text}");
    }
}

/// A tokenizer.json with one part replaced.
fn changed(pointer: &str, value: Value) -> Vec<u8> {
    let mut json: Value = serde_json::from_slice(&base()).unwrap();
    *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
    json.to_string().into_bytes()
}

#[test]
fn a_hostile_tokenizer_json_is_refused_by_name() {
    let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"});
    let many = |step: &Value, count: usize| Value::Array(vec![step.clone(); count]);
    let json: Value = serde_json::from_slice(&base()).unwrap();
    let first = json["model"]["vocab"].as_object().unwrap().iter().find(|(_, id)| **id == 300).unwrap();
    let mut twice = json["model"]["vocab"].clone();
    twice["another"] = first.1.clone();
    let mut far = json["model"]["vocab"].clone();
    far["another"] = json!(900_000);
    let refused: Vec<(Vec<u8>, &str)> = vec![
        (changed("/normalizer", json!({"type": "Sequence", "normalizers": many(&replace, 20)})), "times as long"),
        (changed("/normalizer", json!({"type": "Prepend", "prepend": "x".repeat(1000)})), "times as long"),
        (
            changed("/normalizer", json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "y".repeat(99)})),
            "times as long",
        ),
        (
            changed(
                "/normalizer",
                json!({"type": "Sequence", "normalizers":
                [{"type": "Sequence", "normalizers": many(&replace, 1)}, {"type": "Sequence", "normalizers": many(&replace, 1)}]}),
            ),
            "times as long",
        ),
        (
            changed(
                "/pre_tokenizer",
                json!({"type": "Sequence", "pretokenizers":
                many(&json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}), 30)}),
            ),
            "times as long",
        ),
        (changed("/decoder", json!({"type": "Sequence", "decoders": many(&replace, 20)})), "times as long"),
        (
            changed(
                "/normalizer",
                json!({"type": "Precompiled",
                "precompiled_charsmap": format!("BAAAAAAAAAB{}", "hYWF".repeat(400))}),
            ),
            "times as long",
        ),
        (changed("/model/vocab", twice), "given twice"),
        (changed("/model/vocab", far), "900000"),
        (changed("/model/merges/3", json!(["Zz", "zZ"])), ""),
        (changed("/model/dropout", json!(0.5)), "random"),
        (changed("/model/merges", json!(vec!["a b"; 200_000])), "merges"),
        (changed("/added_tokens/0/id", json!(7)), "which is not its id"),
        (changed("/model/continuing_subword_prefix", json!("x".repeat(10_000))), "longer"),
        (changed("/model/vocab", json!({})), ""),
        (b"{\"model\": {\"vocab\": [".to_vec(), ""),
        (b"[]".to_vec(), ""),
        ("[".repeat(100_000).into_bytes(), ""),
        (Vec::new(), ""),
    ];
    for (bytes, wanted) in refused {
        let message = tokenizer(&bytes).err().unwrap_or_else(|| panic!("{wanted} was accepted"));
        assert!(message.starts_with("CUPEL_NATIVE_TOKENIZER_INVALID") && message.contains(wanted), "{message}");
    }
    let error = TextTokenizer::from_json(&base(), "tokenizer.json".to_string(), 10).err().unwrap();
    assert_eq!(error.code, "CUPEL_NATIVE_TOKENIZER_MISMATCH");
}

#[test]
fn a_vocabulary_that_lies_is_refused_by_name() {
    let good = base_vocabulary;
    let refused: Vec<(GgufVocabulary, &str)> = vec![
        (GgufVocabulary { tokens: Vec::new(), ..good() }, "0 entries"),
        (GgufVocabulary { model: "rwkv".to_string(), ..good() }, "rwkv"),
        (GgufVocabulary { pre: Some("unheard".to_string()), ..good() }, "unheard"),
        (GgufVocabulary { token_types: vec![1; 3], ..good() }, "3 entries"),
        (GgufVocabulary { token_types: vec![9; good().tokens.len()], ..good() }, "unknown type 9"),
        (GgufVocabulary { merges: vec!["nospace".to_string()], ..good() }, "not a pair"),
        (GgufVocabulary { merges: vec!["Zz zZ".to_string()], ..good() }, ""),
        (GgufVocabulary { tokens: vec!["a".to_string(); 5], token_types: Vec::new(), ..good() }, "earlier token"),
        (GgufVocabulary { eos: Some(1 << 30), ..good() }, "eos_token_id"),
        (GgufVocabulary { model: "llama".to_string(), ..good() }, "scores"),
        (GgufVocabulary { model: "llama".to_string(), scores: vec![f32::NAN; good().tokens.len()], ..good() }, "NaN"),
        (
            GgufVocabulary { model: "llama".to_string(), scores: vec![0.0; good().tokens.len()], ..good() },
            "unknown token",
        ),
    ];
    for (vocabulary, wanted) in refused {
        let error = TextTokenizer::from_vocabulary(vocabulary, "x.gguf".to_string(), 1 << 20).err();
        let error = error.unwrap_or_else(|| panic!("{wanted} was accepted"));
        assert_eq!(error.code, "CUPEL_NATIVE_TOKENIZER_INVALID");
        assert!(error.message.contains(wanted), "{}", error.message);
    }
    let error = TextTokenizer::from_vocabulary(good(), "x.gguf".to_string(), 5).err().unwrap();
    assert_eq!(error.code, "CUPEL_NATIVE_TOKENIZER_MISMATCH");
    let ends = SpecialTokens::from_vocabulary(&GgufVocabulary { eos: None, token_types: Vec::new(), ..good() }, "x");
    assert_eq!(ends.err().unwrap().code, "CUPEL_NATIVE_TOKENIZER_INVALID");
}

#[test]
fn mutated_tokenizer_files_never_panic() {
    // A small file, so that most mutations hit what matters.
    let small = std::fs::read(fixtures().join("reference/e2e/tokenizer.json")).unwrap();
    let mut numbers = Numbers(23);
    let mut accepted = 0;
    for _ in 0..400 {
        let mut bytes = small.clone();
        for _ in 0..1 + numbers.below(3) {
            let at = numbers.below(bytes.len());
            match numbers.below(3) {
                0 => bytes[at] = numbers.below(256) as u8,
                1 => drop(bytes.drain(at..(at + 1 + numbers.below(8)).min(bytes.len()))),
                _ => drop(bytes.splice(at..at, b"9\"{},[]:"[numbers.below(8)..][..1].iter().copied())),
            }
        }
        if let Ok(tokenizer) = tokenizer(&bytes) {
            accepted += 1;
            let ids = tokenizer.encode("some text, é 水 <|im_end|>").unwrap_or_default();
            let _ = tokenizer.encode_plain("some text, é 水 <|im_end|>");
            let _ = tokenizer.decode(&ids);
        }
    }
    assert!(accepted > 10, "{accepted}");
}
