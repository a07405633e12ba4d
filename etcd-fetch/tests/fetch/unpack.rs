//! The binaries for the operator's own machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::support::{Place, Ran, noise, release, run, size};

fn own_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[test]
fn the_binaries_are_put_in_place_once() {
    let place = Place::new(&[]);
    let arch = own_arch();
    place.publish("v3.5.16", arch, &release("v3.5.16", arch));
    let tool = |args: &[&str]| {
        let args = [&["v3.5.16", "--unpack", "a/bin"], args].concat();
        let mut command = place.command(&place.mirror(), &args);
        command.stdin(Stdio::null()).output().unwrap().into()
    };
    let ran: Ran = tool(&[]);
    ran.said(
        0,
        &[
            &format!("etcd-fetch: v3.5.16 for {arch}: fetched {} from {}", size(), place.mirror()),
            "etcd-fetch: a/bin: unpacked etcd, etcdctl, etcdutl of v3.5.16",
        ],
    );
    assert_eq!(ran.stdout, "", "no document went in, none comes out");
    let path = |name: &str| place.path("a/bin").join(name);
    assert_eq!(fs::read(path("etcd")).unwrap(), noise(300_000));
    assert_eq!(fs::read(path("etcdutl")).unwrap(), b"etcdutl v3.5.16");
    for name in ["etcd", "etcdctl", "etcdutl"] {
        assert_eq!(fs::metadata(path(name)).unwrap().permissions().mode() & 0o7777, 0o755);
    }
    assert_eq!(fs::read_dir(place.path("a/bin")).unwrap().count(), 3);

    let cached = format!("etcd-fetch: v3.5.16 for {arch}: in the cache, {}", size());
    let before = place.snapshot("a");
    tool(&[]).said(0, &[&cached, "etcd-fetch: a/bin: holds v3.5.16 already"]);
    assert_eq!(place.snapshot("a"), before);

    fs::write(path("etcdctl"), "half of it").unwrap();
    fs::remove_file(path("etcdutl")).unwrap();
    fs::set_permissions(path("etcd"), fs::Permissions::from_mode(0o644)).unwrap();
    let changed = place.snapshot("a");
    tool(&["--check"])
        .said(1, &[&cached, "etcd-fetch: a/bin: would unpack etcd, etcdctl, etcdutl of v3.5.16"]);
    assert_eq!(place.snapshot("a"), changed);
    fs::set_permissions(path("etcd"), fs::Permissions::from_mode(0o755)).unwrap();
    tool(&[]).said(0, &[&cached, "etcd-fetch: a/bin: unpacked etcdctl, etcdutl of v3.5.16"]);
    let contents = |snapshot: std::collections::BTreeMap<_, (Vec<u8>, _)>| -> Vec<Vec<u8>> {
        snapshot.into_values().map(|(content, _)| content).collect()
    };
    assert_eq!(contents(place.snapshot("a")), contents(before));
}

#[test]
fn only_the_nodes_architectures_are_in_the_document() {
    let place = Place::new(&[]);
    let other = if own_arch() == "arm64" { "amd64" } else { "arm64" };
    for arch in [own_arch(), other] {
        place.publish("v3.5.16", arch, &release("v3.5.16", arch));
    }
    let nodes = format!(
        r#"{{"apiVersion": "etcd-tools/v1", "nodes":
            [{{"name": "a", "address": "10.0.0.1", "arch": "{other}"}}]}}"#
    );
    let ran = run(place.command(&place.mirror(), &["v3.5.16", "--unpack", "bin"]), &nodes);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let archives = ran.document()["release"]["archives"].as_array().unwrap().clone();
    assert_eq!(archives.len(), 1);
    assert_eq!(archives[0]["arch"], other);
    assert!(place.path("bin/etcd").exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_one_line() {
    let place = Place::new(&[]);
    place.publish("v3.5.16", own_arch(), &release("v3.5.16", own_arch()));
    fs::write(place.path("file"), "").unwrap();
    let args = ["v3.5.16", "--quiet", "--unpack", "file/bin"];
    let mut command = place.command(&place.mirror(), &args);
    let ran: Ran = command.stdin(Stdio::null()).output().unwrap().into();
    ran.said(3, &["etcd-fetch: file/bin: making the folder: Not a directory (os error 20)"]);
}
