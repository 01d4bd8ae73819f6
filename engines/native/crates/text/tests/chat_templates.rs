//! Recorded renderings of Transformers, and templates that mean harm.

use cupel_text::{ChatTemplate, TextError};
use serde_json::{json, Map, Value};

fn recorded() -> (Value, Vec<Value>) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../../fixtures/reference/text/chat-templates.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let shared = lines.next().unwrap();
    (shared, lines.collect())
}

fn template(source: &str, special: Map<String, Value>) -> Result<ChatTemplate, TextError> {
    ChatTemplate::from_source(source.to_string(), special, "test".to_string())
}

#[test]
fn renders_as_transformers_did() {
    let (shared, cases) = recorded();
    let mut wrong = Vec::new();
    for case in &cases {
        let special = shared["special"].as_object().unwrap().clone();
        let rendered = match case["source"].as_str() {
            Some(source) => template(source, special).and_then(|template| {
                template.render_with(&json!([]), &Value::Null, true, shared["data"].as_object().unwrap())
            }),
            None => {
                let source = shared["templates"][case["template"].as_str().unwrap()].as_str().unwrap();
                let tools = if case["tools"] == true { shared["tools"].clone() } else { Value::Null };
                let more = case["more"].as_object().cloned().unwrap_or_default();
                let messages = &shared["chats"][case["chat"].as_str().unwrap()];
                template(source, special)
                    .and_then(|template| template.render_with(messages, &tools, case["prompt"] == true, &more))
            }
        };
        match (&rendered, case["rendered"].as_str()) {
            (Ok(text), Some(wanted)) if text == wanted => {}
            (Err(_), None) => {}
            _ => wrong.push(format!("{case}\n       {rendered:?}")),
        }
    }
    assert!(cases.len() > 200);
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
}

#[test]
fn a_refusal_is_the_templates_own_and_names_its_line() {
    let refusing = template("first line\n{{ raise_exception('no system role') }}", Map::new()).unwrap();
    let error = refusing.render(&json!([]), &Value::Null, true).unwrap_err();
    assert_eq!(error.code, "CUPEL_NATIVE_TEMPLATE_FAILED");
    assert!(error.message.ends_with("no system role"), "{}", error.message);
    assert_eq!(error.place, "test:2");
    let error = template("a\n{% for %}", Map::new()).err().unwrap();
    assert_eq!((error.code, &*error.place), ("CUPEL_NATIVE_TEMPLATE_INVALID", "test:2"));
}

/// Templates that would exhaust memory, time or the stack. Each has to end in a coded error, soon.
#[test]
fn hostile_templates_end_in_an_error() {
    let deep = |open: &str, close: &str| format!("{{{{ {}1{} }}}}", open.repeat(50_000), close.repeat(50_000));
    let blocks = format!("{}{}", "{% if true %}".repeat(50_000), "{% endif %}".repeat(50_000));
    let sources: Vec<String> = vec![
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}".into(),
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}".into(),
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}".into(),
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}".into(),
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}".into(),
        "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}".into(),
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}".into(),
        "{% set ns = namespace(x={}) %}{% for i in range(99999) %}{% set ns.x = {'a': ns.x} %}{% endfor %}".into(),
        "{% set ns = namespace() %}{% for i in range(99999) %}{% set ns.x = namespace(y=ns.x) %}{% endfor %}{{ ns }}".into(),
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".into(),
        "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns.x == ns.x }}{{ ns.x | string }}".into(),
        "{% set ns = namespace(x='a') %}{% for i in range(64) %}{% set ns.x = ns.x | replace('a', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa') %}{% endfor %}".into(),
        "{% set ns = namespace(x='aa') %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] | join %}{% endfor %}".into(),
        "{% set ns = namespace(x='aa') %}{% for i in range(64) %}{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}".into(),
        "{% set ns = namespace(x='aa') %}{% for i in range(64) %}{% set ns.x = '{0}{0}'.format(ns.x) %}{% endfor %}".into(),
        "{% set ns = namespace(x='aa') %}{% for i in range(64) %}{% set x %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = x %}{% endfor %}".into(),
        "{% set ns = namespace(x='\\n') %}{% for i in range(64) %}{% set ns.x = ns.x | indent(999, true, true) | replace(' ', '\\n') %}{% endfor %}".into(),
        "{{ 'a' * 99999999999 }}".into(),
        "{{ ('a' * 99999) * 99999 }}".into(),
        "{{ [1] * 99999999999 }}".into(),
        "{{ 'a'.center(99999999999) }}{{ 'a' | center(999999999) }}".into(),
        "{{ 'a'.ljust(999999999) }}".into(),
        "{{ '%999999999s' % 'a' }}".into(),
        "{{ 'a' | indent(99999999999) }}{{ ('\\n' * 999999) | indent(9999) }}".into(),
        "{{ [1] | batch(99999999, 'x') | list }}".into(),
        "{{ 2 ** 9999999 }}".into(),
        "{% set ns = namespace(c=1) %}{% for i in range(300) %}{% for j in range(2000) %}{% set ns.c = cycler(ns.c) %}{% endfor %}{% endfor %}".into(),
        "{% set ns = namespace(p=1) %}{% for i in range(999) %}{% for j in [1] %}{% set ns.l = loop %}{% endfor %}{% set x = ns.l.changed(ns.p) %}{% set ns.p = ns.l %}{% endfor %}".into(),
        "{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}".into(),
        "{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {}[ns.x].y }}".into(),
        format!("{{% macro m({}) %}}{{% endmacro %}}", vec!["a"; 100_000].join(",")),
        "{{ [] | map(attribute='.' * 15000000) | list }}".into(),
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ [ns] | map(attribute='x.' * 200000) | list }}".into(),
        "{{ ('{0}' * 3000).format('a' * 100000) }}".into(),
        format!("{{{{ [{}none] | sort }}}}", "3,1,2,".repeat(30)),
        "{{ 9 ** 9 ** 9 }}".into(),
        "{{ 170141183460469231731687303715884105727 + 1 }}".into(),
        "{{ (-170141183460469231731687303715884105727 - 1) // -1 }}".into(),
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}".into(),
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".into(),
        "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}".into(),
        "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}".into(),
        "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}".into(),
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".into(),
        "{% set f = namespace() %}{% macro m() %}{{ f.g() }}{% endmacro %}{% set f.g = m %}{{ m() }}".into(),
        "{{ range(100000) | list | sort | unique | list | length }}".into(),
        deep("(", ")"),
        deep("[", "]"),
        deep("not ", ""),
        deep("-", ""),
        deep("{1: ", "}"),
        deep("1 if 1 else ", ""),
        deep("x[", "]"),
        deep("f(", ")"),
        format!("{{{{ x{} }}}}", " is eq (1".repeat(50_000)),
        format!("{{{{ 1{} }}}}", " if 1".repeat(50_000)),
        blocks,
        "{% for a in b %}".repeat(50_000),
        "{% macro a() %}".repeat(50_000),
        format!("{{% set {}a{} = 1 %}}", "(".repeat(50_000), ")".repeat(50_000)),
        "{% include 'chat_template' %}".into(),
        "{% import 'chat_template' as x %}".into(),
        "{% from 'chat_template' import x %}".into(),
        "{% extends 'chat_template' %}".into(),
        "x".repeat(2 << 20),
        "{{ strftime_now('%Y') }}".into(),
    ];
    for source in &sources {
        let began = std::time::Instant::now();
        let messages = json!([{"role": "user", "content": "x"}]);
        let result = template(source, Map::new()).and_then(|template| template.render(&messages, &Value::Null, true));
        let shown: String = source.chars().take(120).collect();
        match result {
            Ok(text) => panic!("{shown} gave {} bytes", text.len()),
            Err(error) => assert!(error.code.starts_with("CUPEL_NATIVE_TEMPLATE_"), "{shown}: {error}"),
        }
        assert!(began.elapsed().as_secs_f64() < 5.0, "{shown} took {:?}", began.elapsed());
    }
}

#[test]
fn long_chains_that_harm_nobody_render() {
    let sum = format!("{{{{ 0{} }}}}", " + 1".repeat(20_000));
    let filters = format!("{{{{ 'a'{} }}}}", " | upper".repeat(20_000));
    let joined = format!("{{{{ 'a'{} }}}}", " ~ 'b'".repeat(20_000));
    let branches = format!("{{% if false %}}{}{{% else %}}x{{% endif %}}", "{% elif false %}y".repeat(20_000));
    for (source, wanted) in [(sum, "20000"), (filters, "A"), (joined, "ab"), (branches, "x")] {
        let text = template(&source, Map::new()).unwrap().render(&json!([]), &Value::Null, true).unwrap();
        assert!(text.starts_with(wanted), "{text:.20}");
    }
    // Each message is copied a few times, as templates do that gather what they write.
    let messages: Vec<Value> = (0..300).map(|_| json!({"role": "user", "content": "a word ".repeat(300)})).collect();
    let gathering = "{% set ns = namespace(x='') %}{% for m in messages %}{% set ns.x = ns.x + m.content | trim %}{% endfor %}{{ ns.x }}";
    let text = template(gathering, Map::new()).unwrap().render(&json!(messages), &Value::Null, true);
    assert_eq!(text.unwrap().len(), 300 * 2099);
}

#[test]
fn mutated_templates_never_panic() {
    let (shared, _) = recorded();
    let sources: Vec<&str> = shared["templates"].as_object().unwrap().values().map(|v| v.as_str().unwrap()).collect();
    let pieces = [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "-",
        "+",
        "|",
        "(",
        ")",
        "[",
        "]",
        "'",
        "\"",
        "\\",
        " if ",
        "é",
        "\n",
        "~",
        "::",
        "**",
        "1e9",
        " in ",
        " not ",
        "endfor",
        "{% raw %}",
        "loop",
    ];
    let mut seed = 11_u64;
    let mut below = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % bound
    };
    let mut rendered = 0;
    for _ in 0..6000 {
        let mut source: Vec<char> = sources[below(sources.len())].chars().collect();
        for _ in 0..1 + below(4) {
            let at = below(source.len());
            match below(3) {
                0 => drop(source.drain(at..(at + 1 + below(6)).min(source.len()))),
                1 => drop(source.splice(at..at, pieces[below(pieces.len())].chars())),
                _ => {
                    let end = (at + below(40)).min(source.len());
                    let copy = source[at..end].to_vec();
                    let to = below(source.len());
                    drop(source.splice(to..to, copy));
                }
            }
            if source.is_empty() {
                break;
            }
        }
        let source: String = source.into_iter().collect();
        if let Ok(template) = template(&source, shared["special"].as_object().unwrap().clone()) {
            rendered += usize::from(template.render(&shared["chats"]["tool"], &shared["tools"], true).is_ok());
        }
    }
    assert!(rendered > 500, "{rendered}");
}

#[test]
fn sorting_what_has_no_order_ends_without_a_panic() {
    // NaN has no place among numbers; any result will do.
    let source = format!("{{{{ [{}'nan'|float, 2, 1] | sort | length }}}}", "3, 'nan'|float, 1,".repeat(40));
    let template = ChatTemplate::from_source(source, Map::new(), "test".to_string()).unwrap();
    assert_eq!(template.render(&json!([]), &Value::Null, false).unwrap(), "123");
}

#[test]
fn a_missing_key_as_long_as_a_text_costs_no_copy_each_time() {
    let source = "{% set x = 'a' * 10000000 %}{% set ns = namespace(l=[]) %}\
        {% for i in range(300) %}{% set ns.l = ns.l + [{}[x]] %}{% endfor %}{{ ns.l | length }}";
    let template = ChatTemplate::from_source(source.to_string(), Map::new(), "test".to_string()).unwrap();
    let outcome = template.render(&json!([]), &Value::Null, false);
    assert!(outcome.is_err_and(|error| error.code == "CUPEL_NATIVE_TEMPLATE_FAILED"));
}
