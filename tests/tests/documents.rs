//! Every kind of bad document, given to every tool: the exact message, the
//! exit code, and nothing on stdout for the next stage to act on.

use std::fs;

use tempfile::{TempDir, tempdir};
use tests::{Ran, bash};

/// A tool of each kind, as it stands in the pipeline.
const STAGES: [&str; 9] = [
    "etcd-fetch v3.5.16 --mirror mirror",
    "etcd-cert issue",
    "etcd-cert ca",
    "etcd-cert check",
    "etcd-render",
    "etcd-push",
    "etcd-unit start",
    "etcd-unit stop",
    "etcd-health",
];

fn given(input: &str, stage: &str) -> (Ran, TempDir) {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("input"), input).unwrap();
    let ran = bash(folder.path(), &format!("{stage} < input"));
    (ran, folder)
}

/// Every stage answers `input` with `lines` on stderr and `code`, and does nothing else.
#[track_caller]
fn refused(input: &str, code: i32, lines: &[&str]) {
    for stage in STAGES {
        let (ran, folder) = given(input, stage);
        let tool = stage.split(' ').next().unwrap();
        let expected: String = lines.iter().map(|line| format!("{tool}: {line}\n")).collect();
        assert_eq!(ran.stderr, expected, "{stage}");
        assert_eq!(ran.code, code, "{stage}");
        assert_eq!(ran.stdout, "", "{stage}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{stage} has made files");
    }
}

fn document(nodes: &str) -> String {
    format!(r#"{{"apiVersion": "etcd-tools/v1", "cluster": {{}}, "nodes": [{nodes}]}}"#)
}

fn file(file: &str) -> String {
    document(&format!(r#"{{"name": "a", "address": "127.0.0.9", "files": [{{{file}}}]}}"#))
}

#[test]
fn no_document() {
    // These two have the folder of certificates to work on.
    let reads_without = ["etcd-cert ca", "etcd-cert check"];
    for stage in STAGES.iter().filter(|stage| !reads_without.contains(stage)) {
        let said = "stdin: no document: an earlier stage failed, or nothing was piped in";
        for input in ["", " \n\n"] {
            let (ran, _) = given(input, stage);
            let tool = stage.split(' ').next().unwrap();
            assert_eq!(ran.stderr, format!("{tool}: {said}\n"), "{stage}");
            assert_eq!((ran.code, ran.stdout.as_str()), (66, ""), "{stage}");
        }
    }
}

#[test]
fn cut_off() {
    let whole = document(r#"{"name": "a", "address": "127.0.0.9"}"#);
    for at in [1, 20, 55, whole.len() - 1] {
        let said = format!("stdin:1:{at}: the document is cut off");
        refused(&whole[..at], 65, &[&said]);
    }
}

#[test]
fn two_documents() {
    let one = document(r#"{"name": "a", "address": "127.0.0.9"}"#);
    refused(
        &format!("{one}\n{one}\n"),
        65,
        &["stdin:2:1: something follows the document; expected one"],
    );
}

#[test]
fn foreign() {
    let said = "stdin: not an etcd-tools document: apiVersion: expected \"etcd-tools/v1\", ";
    refused(r#"{"kind": "List"}"#, 65, &[&format!("{said}no such key")]);
    refused(r#"{"apiVersion": "v1"}"#, 65, &[&format!("{said}found \"v1\"")]);
    refused("[1, 2]", 65, &[&format!("{said}no such key")]);
    refused("{'a': 1}", 65, &["stdin:1:2: not JSON: key must be a string"]);
    refused(
        "192.168.1.100\n",
        65,
        &["stdin:1: \"192.168.1.100\": expected hostname:address:name (IPv6 in brackets), \
           or a JSON document"],
    );
}

#[test]
fn contradictory() {
    refused(
        "a:127.0.0.9:x\nb:127.0.0.9:x\na:127.0.0.10:y\n",
        65,
        &[
            "stdin: nodes[1].name: \"x\" is also nodes[0].name",
            "stdin: nodes[1].address: \"127.0.0.9\" is also nodes[0].address",
            "stdin: nodes[2].hostname: \"a\" is also nodes[0].hostname",
        ],
    );
    refused(&document(""), 65, &["stdin: nodes: no nodes"]);
    refused(
        &file(r#""path": "/a", "mode": "0644", "content": "x", "local": "y""#),
        65,
        &["stdin: nodes[0].files[0]: both content and local: expected one"],
    );
}

#[test]
fn absurd_values() {
    let cases = [
        (
            r#""path": "/a", "mode": "0o644", "content": """#,
            "mode: \"0o644\": expected an octal string such as \"0640\"",
        ),
        (
            r#""path": "/a", "mode": "1777", "content": """#,
            "mode: \"1777\": expected permission bits only, \"0000\" to \"0777\"",
        ),
        (
            r#""path": "/etc/../shadow", "mode": "0644", "content": """#,
            "path: \"/etc/../shadow\": expected a path without '..', '.' and '//'",
        ),
        (
            r#""path": "etc/shadow", "mode": "0644", "content": """#,
            "path: \"etc/shadow\": expected an absolute path",
        ),
    ];
    for (bad, said) in cases {
        refused(&file(bad), 65, &[&format!("stdin: nodes[0].files[0].{said}")]);
    }
    refused(
        &file(r#""path": "/k", "mode": "0600", "content": "-----BEGIN PRIVATE KEY-----\nM""#),
        65,
        &["stdin: nodes[0].files[0].content: contains a private key: keep it in a file, and name \
           that in a file's local instead"],
    );
    refused(
        &document(r#"{"name": "a", "address": 9}"#),
        65,
        &["stdin: nodes[0].address: invalid type: integer `9`, expected a string at line 1 \
           column 83"],
    );
}

#[test]
fn unknown_keys_are_passed_on_with_a_warning_or_refused() {
    let input = document(r#"{"name": "a", "address": "127.0.0.9", "rack": {"row": 7}}"#);
    let (ran, _) = given(&input, "etcd-render --etcd-version v3.5.16");
    let ran = ran.ok().says("etcd-render: warning: nodes[0].rack: unknown key, passed on");
    let passed: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(passed["nodes"][0]["rack"]["row"], 7);
    // The next stage has been told already.
    let (next, _) = given(&ran.stdout, "etcd-render --etcd-version v3.5.16 --quiet");
    assert_eq!(next.ok().stderr, "");
    for stage in STAGES {
        let (ran, _) = given(&input, &format!("{stage} --strict"));
        let tool = stage.split(' ').next().unwrap();
        assert_eq!(
            ran.exits(65).stderr,
            format!("{tool}: stdin: nodes[0].rack: unknown key (--strict)\n")
        );
    }
}

#[test]
fn an_even_number_of_members_is_said_once() {
    let folder = tempdir().unwrap();
    let ran = bash(
        folder.path(),
        "printf 'a:127.0.0.9:a\\nb:127.0.0.10:b\\n' | etcd-cert issue \
         | etcd-render --etcd-version v3.5.16 --strict",
    );
    let said = "warning: 2 members tolerate 0 failures, the same as 1: use an odd number";
    assert_eq!(ran.stderr.matches(said).count(), 1, "{}", ran.stderr);
    ran.ok().says(&format!("etcd-cert: {said}"));
}

#[test]
fn the_document_of_a_pipeline_is_strictly_known_and_the_same_each_time() {
    let folder = tempdir().unwrap();
    let pipe = "printf 'a:127.0.0.9:a\\n' | etcd-cert issue --strict --quiet \
                | etcd-render --etcd-version v3.6.16 --strict --quiet";
    let first = bash(
        folder.path(),
        &format!(
            "{pipe} | etcd-render --strict --quiet \
                                              --etcd-version v3.6.16"
        ),
    )
    .ok();
    let keep = |ran: &Ran| {
        let mut document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        document.as_object_mut().unwrap().remove("results");
        document
    };
    let second = bash(folder.path(), pipe).ok();
    let third = bash(folder.path(), pipe).ok();
    assert_eq!(keep(&first), keep(&second));
    assert_eq!(second.stdout, third.stdout);
}

#[test]
fn an_undelivered_document_is_74() {
    let folder = tempdir().unwrap();
    let ran = bash(
        folder.path(),
        "printf 'a:127.0.0.9:a\\n' | etcd-render --etcd-version v3.5.16 --quiet > /dev/full",
    );
    assert_eq!(
        ran.exits(74).stderr,
        "etcd-render: stdout: writing: No space left on device (os error 28)\n"
    );
}
