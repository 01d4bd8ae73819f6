//! An interpreter for the Jinja that chat templates are written in. Source of the rules: Jinja 3.1 with the settings
//! that Transformers gives it (`trim_blocks`, `lstrip_blocks`, loop controls, `tojson` as `json.dumps`, an immutable
//! sandbox).
//!
//! It is an own one because templates are data of a checkpoint and not trusted: here every step, every byte that is
//! made and every level of nesting is counted against a budget, which no template library offers.

mod access;
mod ast;
mod evaluate;
mod expressions;
mod filter_lists;
mod filter_texts;
mod filters;
mod functions;
mod lexer;
mod methods;
mod operators;
mod parse_expression;
mod parser;
mod statements;
mod tests;
mod text_methods;
mod value;
mod write;

use serde_json::{Map, Value as Json};

/// What went wrong, and in which line of the template (from 1).
#[derive(Debug)]
pub(crate) struct Fault {
    pub message: String,
    pub line: usize,
}

/// What a rendering may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Evaluations of an expression, a statement or an element.
    pub steps: u64,
    /// Bytes of all texts and lists made, whether they still exist or not, the output among them.
    pub bytes: u64,
}

/// A template that parsed.
pub(crate) struct Template {
    body: Vec<ast::Statement>,
}

impl Template {
    /// `chat` asks for trimmed blocks and no newline at the end, as Transformers does; otherwise white space stays.
    pub fn parse(source: &str, chat: bool) -> Result<Self, Fault> {
        let tokens = lexer::tokens(source, chat)?;
        Ok(Self { body: parser::parse(tokens)? })
    }

    /// Renders with `variables` as the names known.
    pub fn render(&self, variables: &Map<String, Json>, limits: Limits) -> Result<String, Fault> {
        statements::render(&self.body, variables, limits)
    }
}

#[cfg(test)]
mod unit_tests {
    use super::{Limits, Template};
    use serde_json::Value;

    const LIMITS: Limits = Limits { steps: 1_000_000, bytes: 10_000_000 };

    /// Templates of published evaluation tasks with their documents, where they are at hand.
    #[test]
    fn renders_the_recorded_templates_of_evaluation_tasks() {
        let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../../shared/conformance");
        let folder = std::env::var_os("CUPEL_CONFORMANCE").map_or(beside, Into::into);
        let Ok(text) = std::fs::read_to_string(folder.join("suites/lmeval/jinja.jsonl")) else {
            eprintln!("skipped: no recorded templates at {}", folder.display());
            return;
        };
        let mut wrong = Vec::new();
        for line in text.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let source = case["template"].as_str().unwrap();
            // The one filter that evaluation tasks add to Jinja.
            if source.contains("regex_replace") {
                continue;
            }
            let rendered = Template::parse(source, false)
                .and_then(|template| template.render(case["doc"].as_object().unwrap(), LIMITS));
            match (rendered, case["rendered"].as_str()) {
                (Ok(text), Some(wanted)) if text == wanted => {}
                (rendered, _) => wrong.push(format!("{case}\n{rendered:?}")),
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    }
}
