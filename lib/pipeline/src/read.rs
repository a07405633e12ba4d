//! Reading a document, with the place of every error.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::document::{API_VERSION, Document};
use crate::original::Original;
use crate::place::{Place, shortened, shown};
use crate::tree::Tree;
use crate::{Code, Error, Exit, ToolResult, nodelist, secrets, terminal, validate};

/// The most that a document may have: that of some thousand nodes is smaller by far.
const LIMIT: u64 = 64 << 20;

/// A document that was read and found valid.
#[derive(Debug)]
pub struct Input {
    /// The document.
    pub document: Document,
    /// What to warn of: unknown keys, an even number of members.
    pub warnings: Vec<ToolResult>,
    pub(crate) original: Original,
}

/// Reads all of stdin. Gives no document when there is none: stdin is a
/// terminal, or empty.
pub(crate) fn stdin() -> Result<Option<Input>, Error> {
    let stdin = std::io::stdin();
    if std::io::IsTerminal::is_terminal(&stdin) {
        return Ok(None);
    }
    read(stdin.lock(), LIMIT)
}

/// Reads the document in the file `path`, as [`stdin`] does; every error has the path for
/// its place. A pipe will do as well, as of bash's `<(…)`.
pub(crate) fn file(path: &Path) -> Result<Option<Input>, Error> {
    let name = path.display();
    let file = File::open(path).map_err(|error| Error::no_input(format!("{name}: {error}")))?;
    read(file, LIMIT).map_err(|error| {
        let lines = error.message.lines();
        let lines = lines.map(|line| match line.strip_prefix("stdin:") {
            Some(rest) => format!("{name}:{rest}"),
            None => line.to_owned(),
        });
        Error { message: lines.collect::<Vec<_>>().join("\n"), ..error }
    })
}

fn read(input: impl Read, limit: u64) -> Result<Option<Input>, Error> {
    let mut bytes = Vec::new();
    input
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::no_input(format!("stdin: reading: {error}")))?;
    if bytes.len() as u64 > limit {
        let what = format!("stdin: more than {} MiB: not a cluster document", limit >> 20);
        return Err(Error::bad_input(what));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    parse(&bytes).map(Some)
}

/// Reads a document, or a node list, from `bytes` and checks it.
///
/// An error names its place: line and column, or the JSON path of the value. It
/// never shows a private key, and of a long value only the beginning.
pub fn parse(bytes: &[u8]) -> Result<Input, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Error::bad_input(format!("stdin: not UTF-8 text at byte {}", error.valid_up_to()))
    })?;
    // Windows begins its text files with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (document, original, unknown) = if text.trim_start().starts_with(['{', '[', '"']) {
        json(text)?
    } else {
        (nodelist::parse(text)?, Original::default(), Vec::new())
    };
    let problems = validate::problems(&document);
    if !problems.is_empty() {
        return Err(all_of(&problems));
    }
    let unknown = unknown.into_iter().map(|place| {
        ToolResult::warning(Code::UnknownKey, format!("{place}: unknown key, passed on"))
    });
    let mut warnings: Vec<_> = unknown.chain(validate::warnings(&document)).collect();
    // A warning that an earlier stage gave is not given again.
    let given: HashSet<_> = document.results.iter().map(|old| (&old.code, &old.message)).collect();
    warnings.retain(|new| !given.contains(&(&new.code, &new.message)));
    Ok(Input { document, warnings, original })
}

/// One error of all `problems`, a line each; of very many, the first.
fn all_of(problems: &[String]) -> Error {
    const MOST: usize = 20;
    let mut lines: Vec<_> =
        problems.iter().take(MOST).map(|problem| format!("stdin: {problem}")).collect();
    if problems.len() > MOST {
        lines.push(format!("stdin: and {} more errors", problems.len() - MOST));
    }
    Error::bad_input(lines.join("\n"))
}

fn json(text: &str) -> Result<(Document, Original, Vec<Place>), Error> {
    // Syntax first, so that a cut off document is called that wherever it is cut.
    let read = Tree::parse(text)?;
    let secrets: Vec<_> =
        secrets::find(&read).iter().map(|place| format!("{place}: {}", secrets::REFUSED)).collect();
    if !secrets.is_empty() {
        return Err(all_of(&secrets));
    }
    let version = read.get("apiVersion").map(Tree::text);
    if version != Some(Some(API_VERSION.into())) {
        let found = match version {
            None => "no such key".into(),
            Some(None) => "found no text".into(),
            Some(Some(other)) => format!("found {}", shown(&other)),
        };
        return Err(Error::bad_input(format!(
            "stdin: not an etcd-tools document: apiVersion: expected {API_VERSION:?}, {found}"
        )));
    }
    let mut unknown = Vec::new();
    let mut tracked = serde_path_to_error::Track::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    let reader = serde_path_to_error::Deserializer::new(&mut reader, &mut tracked);
    let mut note = |path: serde_ignored::Path| unknown.push(Place::from(&path));
    let reader = serde_ignored::Deserializer::new(reader, &mut note);
    let document = Document::deserialize(reader).map_err(|error| {
        let place = Place::from(&tracked.path()).to_string();
        let place = if place.is_empty() { place } else { format!("{place}: ") };
        Error::bad_input(format!("stdin: {place}{}", wrong_type(&error.to_string())))
    })?;
    let original = Original::new(read, &document)
        .map_err(|error| Error { exit: Exit::Bug, message: format!("stdin: {error}") })?;
    if let Some(place) = original.list_for_object() {
        return Err(Error::bad_input(format!("stdin: {place}: expected an object, found a list")));
    }
    Ok((document, original, unknown))
}

/// What serde says of a value of the wrong type, which it shows whole and as it is.
fn wrong_type(message: &str) -> String {
    let message = terminal::line(message);
    match message.rfind(", expected ") {
        Some(end) => format!("{}{}", shortened(&message[..end]), &message[end..]),
        None => message.into_owned(),
    }
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
        assert_eq!(parse(b"m1:\xff").unwrap_err().to_string(), "stdin: not UTF-8 text at byte 3");
        let deep = "[".repeat(100_000);
        assert_eq!(error(&deep), "stdin:1:100000: the document is cut off");
    }

    #[test]
    fn a_list_is_no_object() {
        for (text, place) in [
            (document(r#"["x", null, "1.1.1.1"]"#), "nodes[0]"),
            (document(r#"{"name": "a", "address": "1.1.1.1", "ssh": ["x"]}"#), "nodes[0].ssh"),
            (
                r#"{"apiVersion": "etcd-tools/v1", "cluster": ["k", "t", "v3.5.33"], "nodes": []}"#
                    .to_owned(),
                "cluster",
            ),
        ] {
            assert_eq!(error(&text), format!("stdin: {place}: expected an object, found a list"));
        }
        // As Windows begins its files.
        let list = "\u{feff}m:10.0.0.1:a\n";
        assert_eq!(parse(list.as_bytes()).unwrap().document.nodes[0].hostname(), "m");
    }

    #[test]
    fn what_is_too_large_is_refused_and_what_is_shown_is_short() {
        let endless = std::io::repeat(b'x');
        let refused = read(endless, 1 << 20).unwrap_err();
        assert_eq!(refused.to_string(), "stdin: more than 1 MiB: not a cluster document");
        let long = "x".repeat(10 << 20);
        let start = "x".repeat(60);
        let cases = [
            (
                document(&format!(r#"{{"name": "{long}", "address": "1.1.1.1"}}"#)),
                format!(
                    "stdin: nodes[0].name: \"{start}…\": expected letters, digits, '.', '_' and '-'"
                ),
            ),
            (
                document(&format!(r#"{{"name": "a", "address": "1.1.1.1", "files": "{long}"}}"#)),
                format!(
                    "stdin: nodes[0].files: invalid type: string \"{}…, expected a sequence at line 1 \
                     column 10485849",
                    &start[..38]
                ),
            ),
            (
                document(&format!(r#"{{"name": "a", "address": "1.1.1.1", "arch": "{long}"}}"#)),
                format!(
                    "stdin: nodes[0].arch: unknown variant `{}…, expected one of `amd64`, `arm64`, \
                     `ppc64le`, `s390x` at line 1 column 10485848",
                    &start[..43]
                ),
            ),
            (
                format!(r#"{{"apiVersion": "{long}"}}"#),
                format!(
                    "stdin: not an etcd-tools document: apiVersion: expected \"etcd-tools/v1\", \
                     found \"{start}…\""
                ),
            ),
            (
                long.clone(),
                format!(
                    "stdin:1: \"{start}…\": expected hostname:address:name (IPv6 in brackets), \
                     or a JSON document"
                ),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(error(&text), expected);
        }
        let many = document(&vec![r#"{"name": "", "address": ""}"#; 1000].join(","));
        assert_eq!(error(&many).lines().count(), 21);
        assert_eq!(error(&many).lines().last(), Some("stdin: and 3978 more errors"));
        let key = format!(
            "{{\"apiVersion\": \"etcd-tools/v1\", \"{long}\": 1, \"nodes\": [
            {{\"name\": \"a\", \"address\": \"1.1.1.1\"}}]}}"
        );
        let warnings = parse(key.as_bytes()).unwrap().warnings;
        assert_eq!(warnings[0].message, format!("[\"{start}…\"]: unknown key, passed on"));
    }

    #[test]
    fn a_private_key_is_refused_wherever_it_stands_and_never_shown() {
        let keys = [
            "-----BEGIN PRIVATE KEY-----\nSECRET",
            "-----BEGIN EC PRIVATE KEY-----\nSECRET",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nSECRET",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nSECRET",
            "# mine\n-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nSECRET",
            "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nSECRET",
            "PuTTY-User-Key-File-3: ssh-ed25519\nSECRET",
            "PuTTY-User-Key-File-2: ssh-rsa\r\nSECRET",
        ];
        let node = |rest: &str| {
            format!(
                r#"{{"apiVersion": "etcd-tools/v1", "annotations": {{}}, "nodes": [
                {{"name": "a", "address": "1.1.1.1", {rest}}}]}}"#
            )
        };
        let places = [
            (
                node(r#""files": [{"path": "/a", "mode": "0600", "content": KEY}]"#),
                "nodes[0].files[0].content",
            ),
            (
                node(r#""units": [{"name": "a.service", "content": KEY}]"#),
                "nodes[0].units[0].content",
            ),
            (node(r#""settings": {"env": {"ETCD_X": KEY}}"#), "nodes[0].settings.env.ETCD_X"),
            (node(r#""hostname": KEY"#), "nodes[0].hostname"),
            (node(r#""files": KEY"#), "nodes[0].files"),
            (node(r#""arch": KEY"#), "nodes[0].arch"),
            (node(r#""rack": [{"a.b": KEY}]"#), "nodes[0].rack[0][\"a.b\"]"),
            (node(r#""rack": {KEY: 1}"#), "nodes[0].rack"),
            (node("").replace(", }", "}").replace("{}", r#"{"k": [KEY]}"#), "annotations.k[0]"),
            (r#"{"apiVersion": KEY}"#.into(), "apiVersion"),
            ("[KEY]".into(), "[0]"),
        ];
        for key in keys {
            for (text, place) in &places {
                let text = text.replace("KEY", &serde_json::to_string(key).unwrap());
                assert_eq!(error(&text), format!("stdin: {place}: {}", secrets::REFUSED), "{text}");
            }
            assert_eq!(error(key), "stdin: a private key, not a cluster document");
        }
        let public = node(
            r#""files": [{"path": "/a", "mode": "0644",
            "content": "-----BEGIN CERTIFICATE-----\n-----BEGIN PUBLIC KEY-----"}]"#,
        );
        parse(public.as_bytes()).unwrap();
    }

    #[test]
    fn unknown_keys_are_named() {
        let text = r#"{"apiVersion": "etcd-tools/v1", "x": {"y": 1}, "a.b": 2, "nodes": [
            {"name": "a", "address": "1.1.1.1", "rack": 3, "ssh": {"?": 1}, "files": [
                {"path": "/a", "mode": "0644", "content": "", "note": "of a"},
                {"path": "/b", "mode": "0644", "content": "", "0": "of b"}]}]}"#;
        let input = parse(text.as_bytes()).unwrap();
        let named: Vec<_> = input.warnings.iter().map(|w| w.message.as_str()).collect();
        assert_eq!(
            named,
            [
                "x: unknown key, passed on",
                "[\"a.b\"]: unknown key, passed on",
                "nodes[0].rack: unknown key, passed on",
                "nodes[0].ssh[\"?\"]: unknown key, passed on",
                "nodes[0].files[0].note: unknown key, passed on",
                "nodes[0].files[1].0: unknown key, passed on",
            ]
        );
    }
}
