//! Reading a document, with the place of every error.

use std::io::Read;

use serde::Deserialize;
use serde_json::Value;
use serde_json::error::Category;

use crate::document::{API_VERSION, Document};
use crate::unknown::Unknown;
use crate::{Code, Error, ToolResult, nodelist, validate};

/// A document that was read and found valid.
#[derive(Debug)]
pub struct Input {
    /// The document.
    pub document: Document,
    /// What to warn of: unknown keys, an even number of members.
    pub warnings: Vec<ToolResult>,
    pub(crate) unknown: Unknown,
}

/// Reads all of stdin. Gives no document when there is none: stdin is a
/// terminal, or empty.
pub(crate) fn stdin() -> Result<Option<Input>, Error> {
    let stdin = std::io::stdin();
    if std::io::IsTerminal::is_terminal(&stdin) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    stdin
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| Error::no_input(format!("stdin: reading: {error}")))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    parse(&bytes).map(Some)
}

/// Reads a document, or a node list, from `bytes` and checks it.
///
/// An error names its place: line and column, or the JSON path of the value.
pub fn parse(bytes: &[u8]) -> Result<Input, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Error::bad_input(format!("stdin: not UTF-8 text at byte {}", error.valid_up_to()))
    })?;
    let (document, unknown, paths) = if text.trim_start().starts_with(['{', '[', '"']) {
        json(text)?
    } else {
        (nodelist::parse(text)?, Unknown::default(), Vec::new())
    };
    let problems = validate::problems(&document);
    if !problems.is_empty() {
        let lines: Vec<_> = problems.iter().map(|problem| format!("stdin: {problem}")).collect();
        return Err(Error::bad_input(lines.join("\n")));
    }
    let mut warnings: Vec<_> = paths
        .into_iter()
        .map(|path| {
            ToolResult::warning(Code::UnknownKey, format!("{path}: unknown key, passed on"))
        })
        .collect();
    warnings.extend(validate::warnings(&document));
    // A warning that an earlier stage gave is not given again.
    warnings.retain(|new| {
        !document.results.iter().any(|old| old.code == new.code && old.message == new.message)
    });
    Ok(Input { document, warnings, unknown })
}

fn json(text: &str) -> Result<(Document, Unknown, Vec<String>), Error> {
    // Syntax first, so that a cut off document is called that wherever it is cut.
    let value: Value = serde_json::from_str(text).map_err(|error| syntax(text, &error))?;
    let version = value.get("apiVersion");
    if version.and_then(Value::as_str) != Some(API_VERSION) {
        let found = version.map_or("no such key".to_string(), |found| format!("found {found}"));
        return Err(Error::bad_input(format!(
            "stdin: not an etcd-tools document: apiVersion: expected {API_VERSION:?}, {found}"
        )));
    }
    let mut paths = Vec::new();
    let mut tracked = serde_path_to_error::Track::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    let reader = serde_path_to_error::Deserializer::new(&mut reader, &mut tracked);
    let mut note = |path: serde_ignored::Path| paths.push(path.to_string());
    let reader = serde_ignored::Deserializer::new(reader, &mut note);
    let document = match Document::deserialize(reader) {
        Ok(document) => document,
        Err(error) => {
            let path = tracked.path().to_string();
            let place = if path == "." { String::new() } else { format!("{path}: ") };
            return Err(Error::bad_input(format!("stdin: {place}{error}")));
        }
    };
    let shown = paths.iter().map(|path| json_path(path)).collect();
    Ok((document, Unknown::new(value, paths), shown))
}

fn syntax(text: &str, error: &serde_json::Error) -> Error {
    let place = format!("stdin:{}:{}", error.line(), error.column());
    if error.classify() == Category::Eof {
        return Error::bad_input(format!("{place}: the document is cut off"));
    }
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    if stream.next().is_some_and(|first| first.is_ok()) {
        return Error::bad_input(format!("{place}: something follows the document; expected one"));
    }
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or(&what);
    Error::bad_input(format!("{place}: not JSON: {what}"))
}

/// `nodes.0.rack` as `nodes[0].rack`.
fn json_path(dotted: &str) -> String {
    let mut path = String::new();
    for part in dotted.split('.').filter(|part| *part != "?") {
        if part.bytes().all(|b| b.is_ascii_digit()) {
            path += &format!("[{part}]");
        } else {
            path += if path.is_empty() { "" } else { "." };
            path += part;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    fn document(nodes: &str) -> String {
        format!(r#"{{"apiVersion": "etcd-tools/v1", "nodes": [{nodes}]}}"#)
    }

    #[test]
    fn every_error_has_its_place() {
        let cases = [
            ("{\n \"apiVersion\": \"etcd-to", "stdin:2:23: the document is cut off"),
            ("{\n", "stdin:2:0: the document is cut off"),
            (
                "{\"apiVersion\": \"etcd-tools/v1\"}\n{}",
                "stdin:2:1: something follows the document; expected one",
            ),
            ("{\"a\": nope}", "stdin:1:8: not JSON: expected ident"),
            (
                "{\"kind\": \"Pod\", \"apiVersion\": \"v1\"}",
                "stdin: not an etcd-tools document: apiVersion: expected \"etcd-tools/v1\", \
                 found \"v1\"",
            ),
            (
                "{}",
                "stdin: not an etcd-tools document: apiVersion: expected \"etcd-tools/v1\", \
                 no such key",
            ),
            (
                "[]",
                "stdin: not an etcd-tools document: apiVersion: expected \"etcd-tools/v1\", \
                 no such key",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text), expected, "{text}");
        }
        assert_eq!(
            error(&document(r#"{"name": "a", "address": 7}"#)),
            "stdin: nodes[0].address: invalid type: integer `7`, expected a string \
             at line 1 column 68"
        );
        assert_eq!(
            error(&document(r#"{"name": "a", "name": "b", "address": "c"}"#)),
            "stdin: nodes[0]: duplicate field `name` at line 1 column 62"
        );
        assert_eq!(parse(b"m1:\xff").unwrap_err().to_string(), "stdin: not UTF-8 text at byte 3");
    }

    #[test]
    fn unknown_keys_are_named_and_put_back_in_their_place() {
        let text = r#"{"apiVersion": "etcd-tools/v1", "x": {"y": 1}, "nodes": [
            {"name": "a", "address": "1.1.1.1", "rack": 3, "files": [
                {"path": "/a", "mode": "0644", "content": "", "note": "of a"},
                {"path": "/b", "mode": "0644", "content": "", "note": "of b"}]}]}"#;
        let mut input = parse(text.as_bytes()).unwrap();
        let named: Vec<_> = input.warnings.iter().map(|w| w.message.as_str()).collect();
        assert_eq!(
            named,
            [
                "x: unknown key, passed on",
                "nodes[0].rack: unknown key, passed on",
                "nodes[0].files[0].note: unknown key, passed on",
                "nodes[0].files[1].note: unknown key, passed on",
            ]
        );
        input.document.nodes[0].files.remove(0);
        let mut written = serde_json::to_value(&input.document).unwrap();
        input.unknown.put_back(&mut written);
        assert_eq!(written["x"]["y"], 1);
        assert_eq!(written["nodes"][0]["rack"], 3);
        assert_eq!(written["nodes"][0]["files"][0]["note"], "of b");
    }
}
