//! Every kind of bad document, given to every tool: the exact message, the
//! exit code, and nothing on stdout for the next stage to act on.

use std::fs;

use tempfile::{TempDir, tempdir};
use tests::{Ran, bash};

/// A tool of each kind, as it stands in the pipeline.
const STAGES: [&str; 17] = [
    "etcd-fetch v3.5.16 --mirror mirror",
    "etcd-preflight",
    "etcd-cert issue",
    "etcd-cert ca",
    "etcd-cert check",
    "etcd-render",
    "etcd-push",
    "etcd-unit start",
    "etcd-unit stop",
    "etcd-health",
    "etcd-snapshot save --to a.db",
    "etcd-maintain downgrade enable v3.6.16",
    "etcd-maintain raft-snapshot",
    "etcd-member list",
    "etcd-member add",
    "etcd-member remove a",
    "etcd-member promote",
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
    refused(
        "a:[fd00::1]:x\nb:[FD00:0::1]:y\n",
        65,
        &["stdin: nodes[1].address: \"FD00:0::1\" is also nodes[0].address"],
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
            r#""path": "/a", "mode": "01777", "content": """#,
            "mode: \"01777\": expected an octal string such as \"0640\"",
        ),
        (
            r#""path": "/etc/../shadow", "mode": "0644", "content": """#,
            "path: \"/etc/../shadow\": expected a path without '..', '.', '//' and a final '/'",
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

/// A document of an earlier stage that failed, with keys that no tool knows at every
/// depth, in an order of its own, with names and numbers that are easily confused.
const AWKWARD: &str = r#"{
  "note.of": {
    "10": 1e2,
    "big": [
      18446744073709551616,
      123456789012345678901234567890,
      -0.0,
      1.50
    ],
    "empty": {}
  },
  "nodes": [
    {
      "address": "127.0.0.9",
      "path": "of a node",
      "ssh": {
        "future": "kept",
        "port": 1
      },
      "settings": {
        "": null,
        "id": 7
      },
      "units": [],
      "files": [
        {
          "name": "not the key of files",
          "content": "x",
          "a.b": {
            "path": "/b"
          },
          "mode": "0644",
          "path": "/a"
        }
      ],
      "name": "a",
      "hostname": null
    }
  ],
  "cluster": {
    "settings": {
      "future": true
    },
    "owner": "\u202eteam"
  },
  "apiVersion": "etcd-tools/v1",
  "results": [
    {
      "ticket": 7,
      "severity": "error",
      "tool": "a tool\n\u001b[31m",
      "code": "code\u202e",
      "message": "no"
    }
  ]
}
"#;

#[test]
fn every_key_comes_out_of_every_tool_as_it_was_written() {
    for stage in STAGES {
        let (ran, _) = given(AWKWARD, &format!("{stage} --quiet"));
        assert_eq!(ran.stdout, AWKWARD, "{stage}: {}", ran.stderr);
        assert_eq!(ran.code, 66, "{stage}");
        let tool = stage.split(' ').next().unwrap();
        let stopped =
            format!("{tool}: nothing done: a tool\\n\\u{{1b}}[31m failed (code\\u{{202e}})");
        assert_eq!(ran.stderr.lines().last(), Some(stopped.as_str()), "{stage}");
        assert!(
            ran.stderr.contains("warning: nodes[0].files[0][\"a.b\"]: unknown key, passed on\n"),
            "{}",
            ran.stderr
        );
    }
    // One that works adds its own, and nothing else changes.
    let fine = AWKWARD.replace("\"error\"", "\"info\"");
    let (ran, _) = given(&fine, "etcd-render --etcd-version v3.5.16 --quiet");
    let (given, kept) = (fine.split_once("\n  \"results\"").unwrap().0, ran.ok().stdout);
    let mut lines = kept.lines();
    for line in given.lines().filter(|line| !line.trim_start().starts_with("\"units\"")) {
        // A comma follows where something was added.
        let line = line.trim_end_matches(',');
        assert!(lines.any(|kept| kept.trim_end_matches(',') == line), "{line}\n{kept}");
    }
}

#[test]
fn a_key_that_stands_twice() {
    refused(
        "{\"apiVersion\": \"etcd-tools/v1\",\n \"nodes\": [{\"x\": 1, \"x\": 1}]}",
        65,
        &["stdin:2:21: the key \"x\" stands here twice"],
    );
}

#[test]
fn private_keys_and_long_values_are_not_shown() {
    let key = "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\\nSECRET";
    let unit = format!(r#""units": [{{"name": "a.service", "content": "{key}"}}]"#);
    let variable = format!(r#""settings": {{"env": {{"ETCD_X": "{key}"}}}}"#);
    let unknown = format!(r#""rack": ["{key}"]"#);
    for (rest, place) in
        [(unit, "units[0].content"), (variable, "settings.env.ETCD_X"), (unknown, "rack[0]")]
    {
        refused(
            &document(&format!(r#"{{"name": "a", "address": "127.0.0.9", {rest}}}"#)),
            65,
            &[&format!(
                "stdin: nodes[0].{place}: contains a private key: keep it in a file, and name \
                 that in a file's local instead"
            )],
        );
    }
    refused(
        "PuTTY-User-Key-File-3: ssh-ed25519\nSECRET\n",
        65,
        &["stdin: a private key, not a cluster document"],
    );
    let long = "x".repeat(1 << 20);
    refused(
        &document(&format!(r#"{{"name": "a", "address": "{long}"}}"#)),
        65,
        &[&format!(
            "stdin: nodes[0].address: \"{}…\": neither an IP address nor a DNS name",
            "x".repeat(60)
        )],
    );
}

#[test]
fn the_document_may_be_named() {
    let folder = tempdir().unwrap();
    let run = |line: &str| bash(folder.path(), line);
    let render = "etcd-render --etcd-version v3.6.16";
    run(
        "printf 'm1:10.0.0.1:a\\nm2:10.0.0.2:b\\nm3:10.0.0.3:c\\n' > nodes.txt; echo bad > bad.txt",
    )
    .ok();
    let piped = run(&format!("{render} < nodes.txt")).ok().stdout;
    for named in ["nodes.txt", "- < nodes.txt", "<(cat nodes.txt)"] {
        assert_eq!(run(&format!("{render} {named}")).ok().stdout, piped, "{named}");
    }
    let cases = [
        (
            "etcd-render nope.txt",
            66,
            "etcd-render: nope.txt: No such file or directory (os error 2)",
        ),
        ("etcd-render /dev/null", 66, "etcd-render: /dev/null: empty: no document"),
        (
            "etcd-unit start bad.txt",
            65,
            "etcd-unit: bad.txt:1: \"bad\": expected hostname:address:name (IPv6 in brackets), or \
             a JSON document",
        ),
        (
            "etcd-health --endpoints http://127.0.0.1:1 nodes.txt",
            2,
            "etcd-health: nodes.txt: no document is read here: leave it out",
        ),
    ];
    for (line, code, said) in cases {
        let ran = run(line).exits(code);
        assert_eq!((ran.stderr, ran.stdout.as_str()), (format!("{said}\n"), ""), "{line}");
    }
}

#[test]
fn a_node_goes_by_its_name_its_hostname_and_its_address() {
    let folder = tempdir().unwrap();
    let nodes = "m1:10.0.0.1:a\nm2:10.0.0.2:b\nb:10.0.0.3:c\n";
    fs::write(folder.path().join("nodes.txt"), nodes).unwrap();
    // A name goes before the hostname of another.
    for (only, expected) in
        [("b", "b"), ("m2", "b"), ("10.0.0.2", "b"), ("10.0.0.3,m1", "a c"), ("c,10.0.0.3", "c")]
    {
        let line = format!("etcd-render --etcd-version v3.6.16 --only {only} nodes.txt");
        let ran = bash(folder.path(), &line).ok();
        let document = ran.document();
        let rendered = document.nodes.iter().filter(|node| !node.files.is_empty());
        let names: Vec<_> = rendered.map(|node| node.name.as_str()).collect();
        assert_eq!(names.join(" "), expected, "{only}");
    }
    let ran = bash(folder.path(), "etcd-render --only m4 nodes.txt").exits(2);
    assert_eq!(ran.stderr, "etcd-render: --only: \"m4\" is not a node in the document\n");
}

/// The lines without their times.
fn untimed(said: &str) -> String {
    let times = |line: &str| line.split(" until ").next().unwrap().to_owned();
    said.lines().map(times).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_dry_run_is_a_check() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("nodes.txt"), "m1:10.0.0.1:a\n").unwrap();
    let said =
        |flag: &str| bash(folder.path(), &format!("etcd-cert issue {flag} nodes.txt")).exits(1);
    let check = said("--check").stderr;
    assert!(check.contains("would be issued"), "{check}");
    for flag in ["--dry-run", "-n"] {
        let (of_check, of_flag) = (untimed(&check), untimed(&said(flag).stderr));
        assert_eq!(of_flag, of_check, "{flag}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_input_without_end() {
    let folder = tempdir().unwrap();
    let ran = bash(folder.path(), "etcd-push < /dev/zero");
    assert_eq!(
        ran.exits(65).stderr,
        "etcd-push: stdin: more than 64 MiB: not a cluster document\n"
    );
}

#[test]
fn a_variable_accepts_no_risk() {
    let nodes = "a:127.0.0.9:a\n";
    let stage = "etcd-fetch v3.5.1 --mirror mirror";
    let (ran, _) = given(nodes, stage);
    let (with_variable, _) = given(nodes, &format!("ETCD_TOOLS_ALLOW_UNSAFE_VERSION=1 {stage}"));
    assert!(ran.stderr.contains("--allow-unsafe-version"), "{}", ran.stderr);
    assert_eq!((with_variable.code, with_variable.stderr), (2, ran.stderr));
}

#[test]
fn an_even_number_of_members_is_said_once() {
    let folder = tempdir().unwrap();
    let ran = bash(
        folder.path(),
        "printf 'a:192.0.2.1:a\\nb:192.0.2.2:b\\n' | etcd-cert issue \
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

#[test]
fn no_file_is_pushed_over_another() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("input"), document(r#"{"name": "a", "address": "127.0.0.9"}"#))
        .unwrap();
    let ran = bash(folder.path(), "etcd-push --file a:/etc/motd --file b:/etc/motd:0600 input");
    assert_eq!((ran.code, ran.stderr.as_str()), (2, "etcd-push: --file: /etc/motd: given twice\n"));
}
