//! Which release is fetched, and for which architectures.

use serde_json::json;

use crate::support::{NODES, Sandbox, noise, release, run, size};

const DOCUMENT: &str = r#"{"apiVersion": "etcd-tools/v1", "cluster": {"version": "v3.5.16"},
    "nodes": [{"name": "a", "address": "10.0.0.1"}]}"#;

#[test]
fn the_document_says_what_was_fetched() {
    let sandbox = Sandbox::new(&["v3.5.16"]);
    let ran = sandbox.run(&sandbox.mirror(), &["v3.5.16"]);
    let message = format!("v3.5.16 for amd64: fetched {} from {}", size(), sandbox.mirror());
    ran.prints(0, &[&format!("etcd-fetch: {message}")]);
    let document = ran.document();
    assert_eq!(document["cluster"], json!({"version": "v3.5.16"}));
    assert_eq!(
        document["release"],
        json!({"version": "v3.5.16", "archives": [{
            "arch": "amd64",
            "local": sandbox.cached("v3.5.16", "amd64"),
            "sha256": pipeline::disk::sha256(&release("v3.5.16", "amd64")),
            "sizeBytes": release("v3.5.16", "amd64").len(),
            "binaries": [
                {"name": "etcd", "sha256": pipeline::disk::sha256(&noise(300_000))},
                {"name": "etcdctl", "sha256": pipeline::disk::sha256(b"etcdctl v3.5.16")},
                {"name": "etcdutl", "sha256": pipeline::disk::sha256(b"etcdutl v3.5.16")},
            ],
        }]})
    );
    assert_eq!(
        document["results"],
        json!([{"tool": "etcd-fetch", "severity": "info", "code": "fetched",
                "message": message, "changed": true}])
    );
}

#[test]
fn the_version_comes_from_the_first_that_has_one() {
    let sandbox = Sandbox::new(&["v3.4.45", "v3.5.16", "v3.5.33", "v3.6.16", "v3.7.3"]);
    for (args, stdin, version, reason) in [
        (vec!["3.5.16"], NODES, "v3.5.16", ""),
        (vec!["v3.5.33"], DOCUMENT, "v3.5.33", ""),
        (vec![], DOCUMENT, "v3.5.16", ""),
        (vec![], NODES, "v3.6.16", " (the default: the newest 3.6)"),
        (vec!["--for-kubernetes", "1.33"], NODES, "v3.5.33", " (for Kubernetes 1.33)"),
        (vec!["--for-kubernetes=v1.36.1"], NODES, "v3.6.16", " (for Kubernetes 1.36)"),
        (vec!["--for-kubernetes=1.37", "3.7.3"], NODES, "v3.7.3", " (for Kubernetes 1.37)"),
    ] {
        let ran = run(sandbox.command(&sandbox.mirror(), &args), stdin);
        assert_eq!(ran.exit, 0, "{args:?}: {ran:?}");
        assert!(ran.stderr.ends_with(&format!("{reason}\n")), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(&format!(": {version} for amd64: ")), "{args:?}: {ran:?}");
        assert_eq!(ran.document()["cluster"]["version"], version, "{args:?}");
        assert_eq!(ran.document()["release"]["version"], version, "{args:?}");
    }
}

#[test]
fn an_only_argument_that_is_no_version_is_the_document() {
    let sandbox = Sandbox::new(&["v3.5.16", "v3.6.16"]);
    for name in ["nodes.txt", "3.5.x", "v1"] {
        std::fs::write(sandbox.path(name), NODES).unwrap();
    }
    std::fs::write(sandbox.path("document"), DOCUMENT).unwrap();
    for (args, version) in [
        (vec!["document"], "v3.5.16"),
        (vec!["nodes.txt"], "v3.6.16"),
        (vec!["3.5.x"], "v3.6.16"),
        (vec!["v1"], "v3.6.16"),
        (vec!["v3.6.16", "document"], "v3.6.16"),
    ] {
        let ran = run(sandbox.command(&sandbox.mirror(), &args), "");
        assert_eq!(ran.exit, 0, "{args:?}: {ran:?}");
        assert_eq!(ran.document()["release"]["version"], version, "{args:?}");
    }
    let ran = run(sandbox.command(&sandbox.mirror(), &["-"]), DOCUMENT);
    assert_eq!(ran.document()["release"]["version"], "v3.5.16");
    let version = "expected a version such as v3.5.16";
    for (args, exit, expected) in [
        (
            vec!["3.5.y"],
            2,
            format!("invalid value '3.5.y' for '[VERSION]': {version}: see etcd-fetch --help"),
        ),
        (
            vec!["v3.y"],
            2,
            format!("invalid value 'v3.y' for '[VERSION]': {version}: see etcd-fetch --help"),
        ),
        (vec!["document", "v3.5.16"], 2, format!("document: {version} before the document")),
        (vec!["vm.txt"], 66, "vm.txt: No such file or directory (os error 2)".into()),
    ] {
        let ran = run(sandbox.command(&sandbox.mirror(), &args), NODES);
        ran.prints(exit, &[&format!("etcd-fetch: {expected}")]);
    }
}

#[test]
fn contradictions_are_usage_errors_and_nothing_is_done() {
    let sandbox = Sandbox::new(&["v3.5.1", "v3.5.16"]);
    for (args, stdin, expected) in [
        (
            vec!["3.5"],
            NODES,
            "invalid value '3.5' for '[VERSION]': expected a version such as v3.5.16: \
             see etcd-fetch --help",
        ),
        (
            vec!["v3.5.16", "--for-kubernetes", "1.34"],
            DOCUMENT,
            "--for-kubernetes 1.34 takes v3.6.16, but the command line says v3.5.16: \
             pass one of them",
        ),
        (
            vec!["--for-kubernetes", "1.34"],
            DOCUMENT,
            "--for-kubernetes 1.34 takes v3.6.16, but cluster.version says v3.5.16: \
             pass one of them",
        ),
        (
            vec!["--for-kubernetes", "1.38"],
            NODES,
            "--for-kubernetes 1.38: which etcd goes with it is unknown, only for 1.22 to 1.37: \
             pass the etcd version instead",
        ),
        (
            vec!["v3.5.1"],
            NODES,
            "v3.5.1: known to corrupt data: take a newer one, or pass --allow-unsafe-version",
        ),
        (
            vec!["v3.5.16", "--sha256", "12"],
            NODES,
            "invalid value '12' for '--sha256 <[ARCH=]HEX>': expected 64 hex digits, or ARCH= \
             and 64 hex digits: see etcd-fetch --help",
        ),
        (
            vec!["v3.5.16", "--timeout", "0"],
            NODES,
            "invalid value '0' for '--timeout <SECONDS>': expected more than 0: \
             see etcd-fetch --help",
        ),
    ] {
        let ran = run(sandbox.command(&sandbox.mirror(), &args), stdin);
        ran.prints(2, &[&format!("etcd-fetch: {expected}")]);
    }
    let version = DOCUMENT.replace("v3.5.16", "v3.5.99999999999");
    run(sandbox.command(&sandbox.mirror(), &[]), &version).prints(
        65,
        &["etcd-fetch: stdin: cluster.version: \"v3.5.99999999999\": \
           expected a version such as v3.5.16"],
    );
    assert!(!sandbox.path("cache").exists());
}

#[test]
fn no_default_is_taken_where_none_is_wanted() {
    let sandbox = Sandbox::new(&["v3.5.16", "v3.6.16"]);
    run(sandbox.command(&sandbox.mirror(), &["--no-default"]), NODES).prints(
        2,
        &["etcd-fetch: no version is given, and no member says which one runs: pass one, in a \
           Makefile as ETCD_VERSION, e.g. v3.6.16"],
    );
    assert!(!sandbox.path("cache").exists());
    let ran = run(sandbox.command(&sandbox.mirror(), &["--no-default"]), DOCUMENT);
    assert_eq!(ran.document()["release"]["version"], "v3.5.16");
}

#[test]
fn an_old_release_is_a_warning() {
    let sandbox = Sandbox::new(&["v3.4.45", "v3.5.1", "v3.5.10"]);
    for (version, code, expected) in [
        ("v3.4.45", "unsupported-version", "no longer maintained by the etcd project"),
        ("v3.5.1", "unsafe-version", "known to corrupt data"),
        ("v3.5.10", "old-version", "too old for Kubernetes, which needs v3.5.11 or later"),
    ] {
        let ran = sandbox.run(&sandbox.mirror(), &[version, "--allow-unsafe-version", "--quiet"]);
        ran.prints(0, &[&format!("etcd-fetch: warning: {version}: {expected}")]);
        let first = &ran.document()["results"][0];
        assert_eq!((&first["severity"], &first["code"]), (&json!("warning"), &json!(code)));
    }
}

#[test]
fn each_architecture_of_the_selected_nodes_has_its_archive() {
    let sandbox = Sandbox::new(&["v3.6.16"]);
    let nodes = r#"{"apiVersion": "etcd-tools/v1", "nodes": [
        {"name": "a", "address": "10.0.0.1", "arch": "s390x"},
        {"name": "b", "address": "10.0.0.2"},
        {"name": "c", "address": "10.0.0.3", "arch": "amd64"}]}"#;
    let mirror = sandbox.mirror();
    let sums = sandbox.path("mirror/v3.6.16/SHA256SUMS");
    let ran = run(sandbox.command(&mirror, &["v3.6.16", "--quiet"]), nodes);
    ran.prints(
        3,
        &[&format!(
            "etcd-fetch: {}: no line for etcd-v3.6.16-linux-s390x.tar.gz: \
             the mirror has no v3.6.16 for s390x",
            sums.display()
        )],
    );
    assert!(sandbox.cached("v3.6.16", "amd64").exists(), "the other one is not left out");
    assert!(ran.document().get("release").is_none());
    assert!(ran.document().get("cluster").is_none());

    sandbox.publish("v3.6.16", "s390x", &release("v3.6.16", "s390x"));
    let ran = run(sandbox.command(&mirror, &["v3.6.16"]), nodes);
    ran.prints(
        0,
        &[
            &format!("etcd-fetch: v3.6.16 for amd64: in the cache, {}", size()),
            &format!("etcd-fetch: v3.6.16 for s390x: fetched {} from {mirror}", size()),
        ],
    );
    let archs = |document: &serde_json::Value| -> Vec<String> {
        let archives = document["release"]["archives"].as_array().unwrap();
        archives.iter().map(|archive| archive["arch"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(archs(&ran.document()), ["amd64", "s390x"]);
    let only = run(sandbox.command(&mirror, &["v3.6.16", "--only", "b"]), nodes);
    assert_eq!(archs(&only.document()), ["amd64"]);
    let again = run(sandbox.command(&mirror, &["--only", "b"]), &ran.stdout);
    assert_eq!(archs(&again.document()), ["amd64", "s390x"], "those of the other nodes stay");
}

#[test]
fn an_empty_pipe_is_a_stage_that_failed() {
    let sandbox = Sandbox::new(&["v3.5.16"]);
    for args in [vec!["v3.5.16"], vec!["v3.5.16", "--unpack", "bin"]] {
        run(sandbox.command(&sandbox.mirror(), &args), "").prints(
            66,
            &["etcd-fetch: stdin: no document: an earlier stage failed, or nothing was piped in"],
        );
    }
    assert!(!sandbox.path("cache").exists());
}
