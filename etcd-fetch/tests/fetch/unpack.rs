//! The binaries for the operator's own machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::support::{Ran, Sandbox, noise, release, run, size};

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
    let sandbox = Sandbox::new(&[]);
    let arch = own_arch();
    sandbox.publish("v3.5.16", arch, &release("v3.5.16", arch));
    let tool = |args: &[&str]| {
        let args = [&["v3.5.16", "--unpack", "a/bin"], args].concat();
        let mut command = sandbox.command(&sandbox.mirror(), &args);
        command.stdin(Stdio::null()).output().unwrap().into()
    };
    let ran: Ran = tool(&[]);
    ran.prints(
        0,
        &[
            &format!(
                "etcd-fetch: v3.5.16 for {arch}: fetched {} from {}",
                size(),
                sandbox.mirror()
            ),
            "etcd-fetch: a/bin: unpacked etcd, etcdctl, etcdutl of v3.5.16",
        ],
    );
    assert_eq!(ran.stdout, "", "no document went in, none comes out");
    let path = |name: &str| sandbox.path("a/bin").join(name);
    assert_eq!(fs::read(path("etcd")).unwrap(), noise(300_000));
    assert_eq!(fs::read(path("etcdutl")).unwrap(), b"etcdutl v3.5.16");
    for name in ["etcd", "etcdctl", "etcdutl"] {
        assert_eq!(fs::metadata(path(name)).unwrap().permissions().mode() & 0o7777, 0o755);
    }
    assert_eq!(fs::read_dir(sandbox.path("a/bin")).unwrap().count(), 3);

    let cached = format!("etcd-fetch: v3.5.16 for {arch}: in the cache, {}", size());
    let before = sandbox.snapshot("a");
    tool(&[]).prints(0, &[&cached, "etcd-fetch: a/bin: already holds v3.5.16"]);
    assert_eq!(sandbox.snapshot("a"), before);

    // What a killed run of another version left behind.
    fs::write(path(".etcd.partial"), "half of it").unwrap();
    tool(&[]).prints(0, &[&cached, "etcd-fetch: a/bin: already holds v3.5.16"]);
    assert_eq!(sandbox.snapshot("a"), before);

    fs::write(path("etcdctl"), "half of it").unwrap();
    fs::remove_file(path("etcdutl")).unwrap();
    fs::set_permissions(path("etcd"), fs::Permissions::from_mode(0o644)).unwrap();
    let changed = sandbox.snapshot("a");
    tool(&["--check"])
        .prints(1, &[&cached, "etcd-fetch: a/bin: would unpack etcd, etcdctl, etcdutl of v3.5.16"]);
    assert_eq!(sandbox.snapshot("a"), changed);
    fs::set_permissions(path("etcd"), fs::Permissions::from_mode(0o755)).unwrap();
    tool(&[]).prints(0, &[&cached, "etcd-fetch: a/bin: unpacked etcdctl, etcdutl of v3.5.16"]);
    let contents = |snapshot: std::collections::BTreeMap<_, (Vec<u8>, _)>| -> Vec<Vec<u8>> {
        snapshot.into_values().map(|(content, _)| content).collect()
    };
    assert_eq!(contents(sandbox.snapshot("a")), contents(before));
}

#[test]
fn only_the_nodes_architectures_are_in_the_document() {
    let sandbox = Sandbox::new(&[]);
    let other = if own_arch() == "arm64" { "amd64" } else { "arm64" };
    for arch in [own_arch(), other] {
        sandbox.publish("v3.5.16", arch, &release("v3.5.16", arch));
    }
    let nodes = format!(
        r#"{{"apiVersion": "etcd-tools/v1", "nodes":
            [{{"name": "a", "address": "10.0.0.1", "arch": "{other}"}}]}}"#
    );
    let ran = run(sandbox.command(&sandbox.mirror(), &["v3.5.16", "--unpack", "bin"]), &nodes);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let archives = ran.document()["release"]["archives"].as_array().unwrap().clone();
    assert_eq!(archives.len(), 1);
    assert_eq!(archives[0]["arch"], other);
    assert!(sandbox.path("bin/etcd").exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_one_line() {
    let sandbox = Sandbox::new(&[]);
    sandbox.publish("v3.5.16", own_arch(), &release("v3.5.16", own_arch()));
    fs::write(sandbox.path("file"), "").unwrap();
    let args = ["v3.5.16", "--quiet", "--unpack", "file/bin"];
    let mut command = sandbox.command(&sandbox.mirror(), &args);
    let ran: Ran = command.stdin(Stdio::null()).output().unwrap().into();
    ran.prints(3, &["etcd-fetch: file/bin: making the folder: Not a directory (os error 20)"]);
}

#[test]
fn a_version_alone_warms_the_cache() {
    let sandbox = Sandbox::new(&[]);
    let arch = own_arch();
    sandbox.publish("v3.5.16", arch, &release("v3.5.16", arch));
    let tool = |args: &[&str]| -> Ran {
        let mut command = sandbox.command(&sandbox.mirror(), args);
        command.stdin(Stdio::null()).output().unwrap().into()
    };
    let ran = tool(&["v3.5.16"]);
    let fetched = format!("fetched {} from {}", size(), sandbox.mirror());
    ran.prints(0, &[&format!("etcd-fetch: v3.5.16 for {arch}: {fetched}")]);
    assert_eq!(ran.stdout, "");
    assert!(sandbox.cached("v3.5.16", arch).exists());
    // Kubernetes says which one, too.
    sandbox.publish("v3.5.33", arch, &release("v3.5.33", arch));
    let ran = tool(&["--for-kubernetes", "1.33"]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (0, ""), "{ran:?}");
    assert!(sandbox.cached("v3.5.33", arch).exists());
    // Without a version there would be nothing to go by.
    let said = "stdin: no document: an earlier stage failed, or nothing was piped in";
    tool(&[]).prints(66, &[&format!("etcd-fetch: {said}")]);
    // A pipe that failed is not an empty cache.
    run(sandbox.command(&sandbox.mirror(), &["v3.5.16"]), "")
        .prints(66, &[&format!("etcd-fetch: {said}")]);
}
