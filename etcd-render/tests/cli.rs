//! What the tool says and does, apart from the rendered text itself.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Ran, render, rendered};
use serde_json::{Value, json};

const NODES: &str =
    "m1:192.168.1.100:etcd-01\nn1:192.168.1.101:etcd-02\nm2:192.168.1.102:etcd-03\n";

fn run(arguments: &[&str], input: &str) -> Ran {
    render(arguments, input, Path::new("/"))
}

fn document(version: &str, settings: Value) -> Value {
    json!({
        "apiVersion": "etcd-tools/v1",
        "cluster": {"version": version, "settings": settings},
        "nodes": [{"name": "etcd-01", "address": "192.168.1.100"}],
    })
}

/// Asserts that `arguments` on `input` end with `code`, having said `stderr`
/// and put nothing into the document.
fn refused(arguments: &[&str], input: &str, code: i32, stderr: &str) {
    let ran = run(arguments, input);
    assert_eq!((ran.code, ran.stderr.as_str()), (code, stderr));
    if !ran.stdout.is_empty() {
        let nodes = ran.document()["nodes"].clone();
        assert!(nodes.as_array().unwrap().iter().all(|node| node.get("files").is_none()));
    }
}

#[test]
fn the_document_gets_all_that_the_unit_needs() {
    let settings = json!({"dataDir": "/data/etcd", "walDir": "/wal/etcd", "user": "kv"});
    let node = &rendered(&document("v3.5.16", settings))["nodes"][0];
    assert_eq!(node["users"], json!([{"name": "kv", "home": "/data/etcd"}]));
    assert_eq!(
        node["directories"],
        json!([
            {"path": "/data/etcd", "mode": "0700", "owner": "kv", "group": "kv"},
            {"path": "/wal/etcd", "mode": "0700", "owner": "kv", "group": "kv"},
            {"path": "/etc/etcd", "mode": "0755", "owner": "root", "group": "root"},
        ])
    );
    let mut file = node["files"][0].clone();
    file.as_object_mut().unwrap().remove("content");
    assert_eq!(
        file,
        json!({"path": "/etc/etcd/etcd.conf", "mode": "0644", "owner": "root", "group": "root"})
    );
    assert_eq!(node["units"][0]["name"], "etcd.service");
    assert_eq!(node["units"][0]["enabled"], true);
}

#[test]
fn a_node_list_and_a_version_are_enough() {
    let ran = run(&["--etcd-version", "v3.5.16"], NODES);
    assert_eq!(ran.code, 0);
    assert_eq!(
        ran.stderr,
        "etcd-render: etcd-01: rendered for etcd 3.5\n\
         etcd-render: etcd-02: rendered for etcd 3.5\n\
         etcd-render: etcd-03: rendered for etcd 3.5\n"
    );
}

#[test]
fn a_version_is_read_with_and_without_the_v() {
    let with = run(&["--etcd-version", "v3.5.16"], NODES);
    let without = run(&["--etcd-version", "3.5.16"], NODES);
    assert_eq!((without.code, without.stdout), (0, with.stdout));
    let [with, without] = ["v3.6.16", "3.6.16"].map(|v| rendered(&document(v, json!({}))));
    assert_eq!(with["nodes"], without["nodes"]);
    let ran = run(&["--etcd-version", "v3.6.16"], &document("3.6.16", json!({})).to_string());
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (0, "etcd-render: etcd-01: rendered for etcd 3.6\n")
    );
}

#[test]
fn a_second_run_and_check_render_the_same() {
    let first = run(&["--etcd-version", "v3.5.16"], NODES);
    let second = run(&["--etcd-version", "v3.5.16"], &first.stdout);
    assert_eq!(second.code, 0);
    assert_eq!(second.document()["nodes"], first.document()["nodes"]);
    let check = run(&["--etcd-version", "v3.5.16", "--check"], NODES);
    assert_eq!((check.code, check.stdout), (0, first.stdout));
}

#[test]
fn what_others_put_there_stays() {
    let file = json!({
        "path": "/etc/motd", "mode": "0644", "owner": "root", "group": "root", "content": "hello",
    });
    let mut document = document("v3.5.16", json!({}));
    document["nodes"][0]["files"] = json!([file]);
    let files = rendered(&document)["nodes"][0]["files"].clone();
    assert_eq!(files[0], file);
    assert_eq!(files[1]["path"], "/etc/etcd/etcd.conf");
}

#[test]
fn only_one_node_is_rendered_and_knows_all_members() {
    let ran = run(&["--etcd-version", "v3.5.16", "--only", "etcd-02"], NODES);
    assert_eq!(ran.stderr, "etcd-render: etcd-02: rendered for etcd 3.5\n");
    let nodes = ran.document()["nodes"].clone();
    assert_eq!((nodes[0].get("files"), nodes[2].get("units")), (None, None));
    let members = "\nETCD_INITIAL_CLUSTER=etcd-01=https://192.168.1.100:2380,\
                   etcd-02=https://192.168.1.101:2380,etcd-03=https://192.168.1.102:2380\n";
    assert!(nodes[1]["files"][0]["content"].as_str().unwrap().contains(members));
}

#[test]
fn where_an_earlier_stage_has_failed_that_is_said_and_not_which_nodes_are_left() {
    let mut document = document("v3.5.16", json!({}));
    let args = ["--only", "etcd-04"];
    let only = run(&args, &document.to_string());
    assert_eq!(only.stderr, "etcd-render: --only: \"etcd-04\" is not a node in the document\n");
    document["results"] = json!([{"tool": "etcd-member", "node": "etcd-04", "severity": "error",
        "code": "no-margin", "message": "not added", "changed": false}]);
    let failed = run(&args, &document.to_string());
    let line = "etcd-render: nothing done: etcd-member failed on etcd-04 (no-margin)\n";
    assert_eq!(failed.stderr, line);
}

#[test]
fn a_member_on_loopback_listens_there_once() {
    let mut document = document("v3.5.16", json!({}));
    document["nodes"][0]["address"] = json!("127.0.0.1");
    let mut several = document.clone();
    let others =
        [2, 3].map(|at| json!({"name": at.to_string(), "address": format!("10.0.0.{at}")}));
    several["nodes"].as_array_mut().unwrap().extend(others);
    refused(
        &[],
        &several.to_string(),
        65,
        "etcd-render: etcd-01: address 127.0.0.1: a loopback address, where no other member \
         reaches it: give the one that the other hosts reach\n",
    );
    let out = rendered(&document);
    let config = out["nodes"][0]["files"][0]["content"].as_str().unwrap();
    assert!(config.contains("\nETCD_LISTEN_CLIENT_URLS=https://127.0.0.1:2379\n"));
}

#[test]
fn a_release_is_needed_and_must_be_known() {
    refused(
        &[],
        NODES,
        2,
        "etcd-render: cluster.version: not set: put etcd-fetch before this stage, \
         or pass the release, e.g. --etcd-version v3.5.16\n",
    );
    let known = "the settings of this release are not known, only those of etcd 3.4, 3.5, \
                 3.6 and 3.7";
    for version in ["v3.3.27", "v3.8.0", "v2.3.8"] {
        let input = document(version, json!({})).to_string();
        refused(&[], &input, 65, &format!("etcd-render: cluster.version: {version}: {known}\n"));
    }
    refused(
        &["--etcd-version", "v4.0.0"],
        NODES,
        2,
        &format!(
            "etcd-render: invalid value 'v4.0.0' for '--etcd-version <VERSION>': {known}: \
             see etcd-render --help\n"
        ),
    );
    refused(
        &["--etcd-version", "3.5"],
        NODES,
        2,
        "etcd-render: invalid value '3.5' for '--etcd-version <VERSION>': \
         expected a version such as v3.5.16: see etcd-render --help\n",
    );
    let mut two = document("v3.6.16", json!({}));
    two["release"] = json!({"version": "v3.5.16", "archives": []});
    refused(
        &[],
        &two.to_string(),
        65,
        "etcd-render: cluster.version: v3.6.16, but the release that was fetched is v3.5.16: \
         run etcd-fetch again\n",
    );
    refused(
        &["--etcd-version", "v3.6.0"],
        &document("v3.5.16", json!({})).to_string(),
        2,
        "etcd-render: --etcd-version v3.6.0: the document is for v3.5.16: leave the flag out\n",
    );
}

#[test]
fn the_version_of_the_fetched_release_is_enough() {
    let mut document = document("v3.5.16", json!({}));
    document["cluster"] = json!({});
    document["release"] = json!({"version": "v3.7.3", "archives": []});
    let out = rendered(&document);
    let config = out["nodes"][0]["files"][0]["content"].as_str().unwrap();
    assert!(
        config.contains("\nETCD_FEATURE_GATES=InitialCorruptCheck=true,CompactHashCheck=true\n")
    );
}

#[test]
fn a_path_that_means_something_to_systemd_is_refused() {
    for (key, path) in
        [("dataDir", "/data/%i"), ("walDir", "/a b"), ("binDir", "/o/$x"), ("configDir", "/o/*")]
    {
        refused(
            &[],
            &document("v3.5.16", json!({key: path})).to_string(),
            65,
            &format!(
                "etcd-render: etcd-01: settings.{key}: {path:?}: expected letters, digits and \
                 any of ._-+@:,=~ only: others have a meaning in a systemd unit\n"
            ),
        );
    }
    refused(
        &[],
        &document("v3.5.16", json!({"binDir": "/tmp/etcd"})).to_string(),
        65,
        "etcd-render: etcd-01: settings.binDir: \"/tmp/etcd\": the unit gives etcd no access \
         there: choose a folder such as /var/lib/etcd\n",
    );
}

#[test]
fn a_value_of_two_lines_is_refused() {
    refused(
        &[],
        &document("v3.5.16", json!({"initialCluster": "a\nETCD_X=1"})).to_string(),
        3,
        "etcd-render: etcd-01: etcd.conf.hbs:13: rendering: \"a\\nETCD_X=1\": \
         expected one line of text\n",
    );
}

#[test]
fn a_value_that_etcd_does_not_start_with_is_refused() {
    for (settings, what) in [
        (
            json!({"logLevel": "inf\nETCD_X=1"}),
            "logLevel: \"inf\\nETCD_X=1\": expected debug, info, warn, error, panic, fatal or dpanic",
        ),
        (
            json!({"env": {"ETCD_SNAPSHOT_COUNT": "-5"}}),
            "env: ETCD_SNAPSHOT_COUNT: \"-5\": expected a whole number, not negative",
        ),
    ] {
        refused(
            &[],
            &document("v3.5.16", settings).to_string(),
            65,
            &format!("etcd-render: stdin: cluster.settings.{what}\n"),
        );
    }
}

#[test]
fn a_variable_that_etcd_would_ignore_is_named() {
    let env = json!({"env": {"ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME": "4h"}});
    let ran = run(&[], &document("v3.7.3", env).to_string());
    assert_eq!(ran.code, 0);
    assert_eq!(
        ran.stderr,
        "etcd-render: etcd-01: warning: settings.env: ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME: \
         unknown to etcd 3.7, which ignores it: set ETCD_CORRUPT_CHECK_TIME\n\
         etcd-render: etcd-01: rendered for etcd 3.7\n"
    );
    assert_eq!(ran.document()["results"][0]["code"], "unknown-variable");
}

#[test]
fn a_variable_that_keeps_etcd_from_starting_is_refused() {
    let env = json!({"env": {"ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK": "false"}});
    refused(
        &[],
        &document("v3.6.16", env).to_string(),
        3,
        "etcd-render: etcd-01: settings.env: ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK: \
         etcd 3.6 refuses to start if ETCD_FEATURE_GATES is set too: set only ETCD_FEATURE_GATES\n",
    );
}

/// A shell reads double quotes as systemd does.
#[test]
fn a_value_arrives_as_it_was_given() {
    let value = "a b 'c' \"d\" \\e \\\\ $HOME ${f} `g` #h %i ;j ä\\";
    let out = rendered(&document("v3.5.16", json!({"env": {"ETCD_HOST_WHITELIST": value}})));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etcd.conf");
    fs::write(&path, out["nodes"][0]["files"][0]["content"].as_str().unwrap()).unwrap();
    let shell = Command::new("sh")
        .args(["-c", ". \"$0\" && printf %s \"$ETCD_HOST_WHITELIST\""])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(shell.stdout).unwrap(), value);
}

#[test]
fn a_template_of_the_users_replaces_the_one_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    refused(
        &["--templates", place],
        &document("v3.5.16", json!({})).to_string(),
        2,
        &format!(
            "etcd-render: --templates {place}: contains neither etcd.conf.hbs nor \
             etcd.service.hbs\n"
        ),
    );
    let template = "A={{address}}{{#if (gte etcdMinor 5)}}&<new>{{/if}}\n";
    fs::write(folder.path().join("etcd.conf.hbs"), template).unwrap();
    let settings = json!({"env": {"ETCD_METRICS": "basic"}});
    let ran = run(&["--templates", place], &document("v3.5.16", settings.clone()).to_string());
    let node = &ran.document()["nodes"][0];
    assert_eq!(node["files"][0]["content"], "A=192.168.1.100&<new>\nETCD_METRICS=basic\n");
    let built_in = rendered(&document("v3.5.16", settings));
    assert_eq!(node["units"], built_in["nodes"][0]["units"]);
}

#[test]
fn the_built_in_templates_are_there_to_start_from() {
    let folder = tempfile::tempdir().unwrap();
    let print =
        |more: &[&str]| render(&[&["--print-templates", "mine"], more].concat(), "", folder.path());
    let said = |verb: &str| {
        let line = |name| format!("etcd-render: {verb} mine/{name}\n");
        ["etcd.conf.hbs", "etcd.service.hbs"].map(line).concat()
    };
    let check = print(&["--check"]);
    assert_eq!((check.code, check.stderr), (1, said("would write")));
    assert!(!folder.path().join("mine").exists());
    let ran = print(&[]);
    assert_eq!((ran.code, ran.stderr, ran.stdout.as_str()), (0, said("wrote"), ""));
    // They are those that are built in.
    let document = document("v3.6.16", json!({})).to_string();
    let of_mine = render(&["--templates", "mine"], &document, folder.path()).stdout;
    assert_eq!(of_mine, run(&[], &document).stdout);
    // What the user makes of them is not overwritten.
    fs::write(folder.path().join("mine/etcd.conf.hbs"), "A=1\n").unwrap();
    let again = print(&[]);
    let why = "mine/etcd.conf.hbs: there already: name another folder, or move it away";
    assert_eq!((again.code, again.stderr), (3, format!("etcd-render: {why}\n")));
    assert_eq!(fs::read_to_string(folder.path().join("mine/etcd.conf.hbs")).unwrap(), "A=1\n");
}

#[test]
fn a_private_key_in_a_template_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("etcd.conf.hbs");
    let key = ["-----BEGIN PRIVATE", "KEY-----\nAAAA\n-----END PRIVATE", "KEY-----\n"].join(" ");
    fs::write(&template, format!("ETCD_NAME={{{{name}}}}\n{key}")).unwrap();
    let templates = folder.path().display().to_string();
    let args = ["--etcd-version", "v3.5.16", "--templates", &templates];
    let why = "contains a private key, which would be in the document: leave it out";
    refused(&args, NODES, 65, &format!("etcd-render: {}: {why}\n", template.display()));
}
