//! JSON as Python's `json.dumps` writes it (separators ", " and ": ", non-ASCII kept), because chat templates of
//! Hugging Face models were trained on that form.

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use serde_json::Value;

struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
pub(crate) fn dumps(value: &Value, indent: Option<usize>) -> String {
    let mut bytes = Vec::new();
    let written = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, PythonFormatter)),
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            value.serialize(&mut Serializer::with_formatter(
                &mut bytes,
                PrettyFormatter::with_indent(indent.as_bytes()),
            ))
        }
    };
    debug_assert!(
        written.is_ok(),
        "a JSON value can always be written to memory"
    );
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::dumps;
    use serde_json::json;

    #[test]
    fn writes_the_separators_of_python() {
        let value = json!({"b": [1, "é", null], "a": {}, "c": []});
        assert_eq!(
            dumps(&value, None),
            r#"{"b": [1, "é", null], "a": {}, "c": []}"#
        );
        assert_eq!(dumps(&json!({"a": 1}), Some(2)), "{\n  \"a\": 1\n}");
    }
}
