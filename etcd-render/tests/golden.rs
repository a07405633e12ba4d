//! What is rendered, byte for byte: `tests/golden/MINOR/FAMILY.conf`, and
//! `tests/golden/NAME.service`. `UPDATE_GOLDEN=1` writes them again.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{render, rendered};
use serde_json::{Value, json};

const RELEASES: [(&str, &str); 4] =
    [("3.4", "v3.4.23"), ("3.5", "v3.5.16"), ("3.6", "v3.6.16"), ("3.7", "v3.7.3")];

const FAMILIES: [(&str, [&str; 3]); 3] = [
    ("ipv4", ["192.168.1.100", "192.168.1.101", "192.168.1.102"]),
    ("ipv6", ["fd00::1:100", "fd00::1:101", "fd00::1:102"]),
    ("names", ["m1.example.org", "n1.example.org", "m2.example.org"]),
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn compare(name: &str, text: &str) {
    let path = golden(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap(), "{name}: UPDATE_GOLDEN=1 writes it again");
}

fn document(version: &str, addresses: [&str; 3], settings: Value) -> Value {
    let node = |(n, address)| json!({"name": format!("etcd-0{n}"), "address": address});
    let nodes: Vec<_> = (1..).zip(addresses).map(node).collect();
    json!({
        "apiVersion": "etcd-tools/v1",
        "cluster": {"version": version, "settings": settings},
        "nodes": nodes,
    })
}

fn config(document: &Value) -> &str {
    document["nodes"][0]["files"][0]["content"].as_str().unwrap()
}

fn unit(document: &Value) -> &str {
    document["nodes"][0]["units"][0]["content"].as_str().unwrap()
}

#[test]
fn every_minor_and_kind_of_address() {
    for (minor, version) in RELEASES {
        for (family, addresses) in FAMILIES {
            let out = rendered(&document(version, addresses, json!({})));
            compare(&format!("{minor}/{family}.conf"), config(&out));
            compare("etcd.service", unit(&out));
        }
    }
}

#[test]
fn every_setting() {
    let settings = json!({
        "clientPort": 12379, "peerPort": 12380,
        "dataDir": "/home/etcd/data", "walDir": "/mnt/wal",
        "configDir": "/opt/etcd/conf", "certDir": "/opt/etcd/tls", "binDir": "/opt/etcd/bin",
        "user": "kv", "initialClusterState": "existing",
        "heartbeatIntervalMs": 250, "electionTimeoutMs": 2500,
        "quotaBackendBytes": 4_294_967_296u64,
        "autoCompactionMode": "revision", "autoCompactionRetention": "1000",
        "listenMetricsUrls": "http://127.0.0.1:2381", "logLevel": "warn",
        "env": {
            "ETCD_LOG_LEVEL": "debug",
            "ETCD_MAX_REQUEST_BYTES": "3145728",
            "ETCD_HOST_WHITELIST": "a b 'c' \"d\" \\e $f `g` #h %i",
            "ETCD_SNAPSHOT_COUNT": "",
        },
    });
    for (minor, version) in RELEASES {
        let mut document = document(version, FAMILIES[0].1, settings.clone());
        document["cluster"]["token"] = json!("a token");
        let out = rendered(&document);
        compare(&format!("{minor}/settings.conf"), config(&out));
        compare("settings.service", unit(&out));
    }
}

/// What each minor version says of variables in the form of another, and of what
/// none knows: `golden/MINOR/foreign.stderr`.
#[test]
fn foreign_variables() {
    let settings = json!({"env": {
        "ETCD_DEBUG": "true",
        "ETCD_ENABLE_V2": "true",
        "ETCD_EXPERIMENTAL_COMPACTION_BATCH_LIMIT": "500",
        "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK": "false",
        "ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL": "10s",
        "ETCD_FEATURE_GATES": "InitialCorruptCheck=false,PriorityRequest=true,Typo=true",
        "ETCD_MAX_LEARNERS": "2",
        "ETCD_QUOTA_BACKEND_BYTE": "1",
    }});
    for (minor, version) in RELEASES {
        let document = document(version, FAMILIES[0].1, settings.clone()).to_string();
        let run = render(&["--only", "etcd-01"], &document, Path::new("/"));
        compare(&format!("{minor}/foreign.stderr"), &run.stderr);
        let starts = ["3.4", "3.5"].contains(&minor);
        assert_eq!(run.code, if starts { 0 } else { 3 }, "{minor}");
    }
}

/// Each folder in `golden/failing` holds a template and what it makes the tool say.
#[test]
fn failing_templates() {
    let document = document("v3.5.16", FAMILIES[0].1, json!({})).to_string();
    let mut cases = 0;
    for case in fs::read_dir(golden("failing")).unwrap() {
        let case = case.unwrap();
        let name = case.file_name().into_string().unwrap();
        let run =
            render(&["--only", "etcd-01", "--templates", &name], &document, &golden("failing"));
        compare(&format!("failing/{name}/stderr"), &run.stderr);
        assert_eq!(run.code, 3, "{name}");
        assert_eq!(run.document()["nodes"][0].get("files"), None, "{name}");
        cases += 1;
    }
    assert_eq!(cases, 7);
}
