//! Grammars: JSON Schema, regular expressions and Lark.

mod support;

use std::path::Path;
use std::sync::Arc;

use cupel_core::Constraint;
use cupel_text::{Grammar, GrammarCompiler, TextTokenizer};
use serde_json::{json, Value};
use support::Numbers;

fn tokenizer() -> (Arc<TextTokenizer>, u32) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../fixtures/base/tokenizer.json");
    let bytes = std::fs::read(file).unwrap();
    let json: Value = serde_json::from_slice(&bytes).unwrap();
    let added = json["added_tokens"].as_array().unwrap();
    let end = added.iter().find(|token| token["content"] == "<|im_end|>").unwrap_or(&added[0]);
    let tokenizer = TextTokenizer::from_json(&bytes, "tokenizer.json".to_string(), 4096).unwrap();
    (Arc::new(tokenizer), end["id"].as_u64().unwrap() as u32)
}

fn compiler() -> (Arc<TextTokenizer>, u32, GrammarCompiler) {
    let (tokenizer, end) = tokenizer();
    let compiler = GrammarCompiler::new(&tokenizer, &[end]).unwrap();
    (tokenizer, end, compiler)
}

fn schema() -> Grammar {
    let schema = json!({
        "type": "object",
        "properties": {
            "queue": {"enum": ["billing", "technical", "account"]},
            "urgent": {"type": "boolean"},
            "summary": {"type": "string", "maxLength": 40},
            "count": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["queue", "urgent", "summary", "count"],
        "additionalProperties": false,
    });
    Grammar::JsonSchema(schema.to_string())
}

fn mask(constraint: &mut dyn Constraint) -> Vec<u32> {
    let mut allowed = vec![u32::MAX; 4096 / 32];
    constraint.mask(&mut allowed).unwrap();
    (0..4096).filter(|token| allowed[token / 32] >> (token % 32) & 1 == 1).map(|token| token as u32).collect()
}

/// A random text of a grammar; `None` if it has not ended after `most` tokens.
fn sample(compiler: &GrammarCompiler, grammar: &Grammar, end: u32, seed: u64, most: usize) -> Option<Vec<u32>> {
    let mut numbers = Numbers(seed);
    let mut constraint = compiler.constrain(grammar).unwrap();
    let mut tokens = Vec::new();
    for _ in 0..most {
        let allowed = mask(&mut constraint);
        assert!(!allowed.is_empty());
        let token = if allowed.contains(&end) { end } else { allowed[numbers.below(allowed.len())] };
        if token == end {
            return Some(tokens);
        }
        tokens.push(token);
        if constraint.accept(token).unwrap() {
            return Some(tokens);
        }
    }
    None
}

#[test]
fn constrained_texts_obey_the_schema() {
    let (tokenizer, end, compiler) = compiler();
    let mut ended = 0;
    for seed in 0..40 {
        let Some(tokens) = sample(&compiler, &schema(), end, seed, 120) else { continue };
        ended += 1;
        let text = tokenizer.decode(&tokens).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["queue", "urgent", "summary", "count"]);
        assert!(["billing", "technical", "account"].contains(&value["queue"].as_str().unwrap()));
        assert!(value["urgent"].is_boolean());
        assert!(value["summary"].as_str().unwrap().chars().count() <= 40);
        assert!((1..=9).contains(&value["count"].as_i64().unwrap()));
        assert!(text.starts_with("{\"queue\": \""), "{text}");
    }
    assert!(ended > 20, "{ended}");
}

#[test]
fn constrained_texts_obey_the_regular_expression_and_the_grammar() {
    let (tokenizer, end, compiler) = compiler();
    let date = Grammar::Regex("[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9]( at (noon|night))?".to_string());
    let sum = Grammar::Lark(
        "start: term (\" + \" term){1,3}\nterm: NUMBER | \"(\" term \" * \" term \")\"\nNUMBER: /[1-9][0-9]?/\n"
            .to_string(),
    );
    for seed in 0..20 {
        let text = tokenizer.decode(&sample(&compiler, &date, end, seed, 40).unwrap()).unwrap();
        assert!(
            text.len() >= 10 && text.as_bytes()[4] == b'-' && text[..4].bytes().all(|b| b.is_ascii_digit()),
            "{text}"
        );
        if let Some(tokens) = sample(&compiler, &sum, end, seed, 60) {
            let text = tokenizer.decode(&tokens).unwrap();
            assert!(text.contains(" + ") && text.bytes().all(|b| b"0123456789+*() ".contains(&b)), "{text}");
        }
    }
}

#[test]
fn special_tokens_are_never_part_of_the_text() {
    let (tokenizer, end, compiler) = compiler();
    let anything = [Grammar::Regex("(?s:.*)".to_string()), Grammar::JsonSchema("{}".to_string())];
    for grammar in &anything {
        let mut constraint = compiler.constrain(grammar).unwrap();
        for step in 0..6 {
            for token in mask(&mut constraint) {
                let text = tokenizer.decode(&[token]).unwrap();
                assert!(token == end || !text.is_empty(), "special token {token} at step {step}");
            }
            let Some(token) = mask(&mut constraint).into_iter().find(|token| *token != end) else { break };
            if constraint.accept(token).unwrap() {
                break;
            }
        }
    }
}

#[test]
fn the_tokenizers_own_tokenization_of_a_right_text_is_allowed() {
    let (tokenizer, end, compiler) = compiler();
    for text in [
        r#"{"queue": "billing", "urgent": true, "summary": "A refund, please: 3 days late.", "count": 7}"#,
        r#"{"queue": "technical", "urgent": false, "summary": "", "count": 1}"#,
        r#"{"queue": "account", "urgent": false, "summary": "é 水 \"q\" \\ \n", "count": 9}"#,
    ] {
        let mut constraint = compiler.constrain(&schema()).unwrap();
        let mut ended = false;
        for token in tokenizer.encode_plain(text).unwrap() {
            assert!(!ended && mask(&mut constraint).contains(&token), "{text}");
            ended = constraint.accept(token).unwrap();
        }
        assert!(ended || mask(&mut constraint).contains(&end), "{text}");
    }
}

#[test]
fn what_can_not_be_enforced_is_refused_by_name() {
    let (_, _, compiler) = compiler();
    let schema = |schema: Value| Grammar::JsonSchema(schema.to_string());
    let lark = |text: &str| Grammar::Lark(text.to_string());
    let regex = |text: &str| Grammar::Regex(text.to_string());
    let refused = [
        (schema(json!({"type": "array", "uniqueItems": true})), "uniqueItems"),
        (schema(json!({"type": "array", "contains": {"type": "string"}})), "contains"),
        (schema(json!({"if": {}, "then": {}})), "if"),
        (schema(json!({"not": {"type": "string"}})), "not"),
        (schema(json!({"type": "object", "propertyNames": {"pattern": "a"}})), "propertyNames"),
        (schema(json!({"x-guidance": {"lenient": true}, "type": "array", "uniqueItems": true})), "uniqueItems"),
        (schema(json!({"type": "string", "format": "no-such-format"})), "no-such-format"),
        (schema(json!({"type": "unheard"})), "unheard"),
        (schema(json!([1])), "object"),
        (Grammar::JsonSchema("{".to_string()), ""),
        (Grammar::JsonSchema(format!("{}{}", "{\"items\":".repeat(5000), "}".repeat(5000))), ""),
        (schema(json!({"$ref": "http://example.com/x.json"})), "http://example.com/x.json"),
        (schema(json!({"$ref": "#"})), "no text"),
        (schema(json!({"enum": []})), "empty"),
        (regex("a(?=b)"), ""),
        (regex("\\bfoo\\b"), "lookaround"),
        (regex("a^b"), ""),
        (regex("a$b"), ""),
        (regex("(a"), ""),
        (regex("\\1"), ""),
        (regex(&"(".repeat(100_000)), "nested"),
        (lark("start: <|im_end|> \"a\""), "<|im_end|>"),
        (lark("start: \"a\" <[5]>"), "<[5]>"),
        (lark("start[temperature=0.5]: \"a\""), "temperature"),
        (lark("start: nowhere"), "nowhere"),
        (lark("begin: \"a\""), "start"),
        (lark(""), ""),
        (lark(&format!("start: {}\"a\"{}", "(".repeat(100_000), ")".repeat(100_000))), "nested"),
        (lark("start: start"), ""),
    ];
    for (grammar, wanted) in &refused {
        let shown: String = format!("{grammar:?}").chars().take(150).collect();
        let began = std::time::Instant::now();
        let error = compiler.check(grammar).err().unwrap_or_else(|| panic!("{shown} was accepted"));
        let code = if matches!(grammar, Grammar::JsonSchema(_)) { "SCHEMA" } else { "GRAMMAR" };
        assert_eq!(error.code, format!("CUPEL_NATIVE_{code}_UNSUPPORTED"), "{shown}");
        assert!(error.message.contains(wanted), "{shown}: {}", error.message);
        assert!(began.elapsed().as_secs() < 5, "{shown} took {:?}", began.elapsed());
    }
    // Large counts are states that are made when they are reached, not before.
    compiler.check(&regex("(((a{1,1000}){1,1000}){1,1000}){1,1000}")).unwrap();
    // Strings and comments may say what a grammar may not.
    compiler.check(&lark("// <|im_end|> temperature=1\nstart: \"<|im_end|> temperature=1\" /<b>/")).unwrap();
}

#[test]
fn a_constraint_works_on_another_thread_and_alone() {
    let (_, end, compiler) = compiler();
    let mut first = compiler.constrain(&schema()).unwrap();
    let mut second = compiler.constrain(&schema()).unwrap();
    let here = mask(&mut first);
    let there = std::thread::scope(|scope| scope.spawn(|| mask(&mut second)).join().unwrap());
    assert_eq!(here, there);
    first.accept(here[0]).unwrap();
    assert_eq!(mask(&mut second), there);
    assert!(second.accept(end).is_err() || !there.contains(&end));
}
