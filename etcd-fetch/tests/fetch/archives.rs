//! Archives that are refused although their checksum is right.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::Mode;

use crate::support::Entry::{Fifo, File, HardLink, Link};
use crate::support::{Sandbox, archive, release};

#[test]
fn an_archive_that_leaves_its_folder_or_lacks_etcd_is_refused() {
    let etcd = || File("etcd-v3.5.16-linux-amd64/etcd", b"1".into());
    let etcdctl = || File("./etcd-v3.5.16-linux-amd64/etcdctl", b"2".into());
    let with = |entry| archive(vec![etcd(), etcdctl(), entry]);
    let text = || b"x".to_vec();
    let mut cut = release("v3.5.16", "amd64");
    cut.truncate(200_000);
    let cases = [
        (
            with(File("etcd-v3.5.16-linux-amd64/../../evil", text())),
            "etcd-v3.5.16-linux-amd64/../../evil: the entry leaves its folder",
        ),
        (with(File("/etc/evil", text())), "/etc/evil: the entry leaves its folder"),
        (
            with(File("etcd-v3.5.16-linux-arm64/etcd", text())),
            "etcd-v3.5.16-linux-arm64/etcd: the entry is not in etcd-v3.5.16-linux-amd64",
        ),
        (with(File("evil", text())), "evil: the entry is not in etcd-v3.5.16-linux-amd64"),
        (
            with(Link("etcd-v3.5.16-linux-amd64/x", "../../etc")),
            "etcd-v3.5.16-linux-amd64/x: a link out of its folder: ../../etc",
        ),
        (
            with(Link("etcd-v3.5.16-linux-amd64/x", "/etc/passwd")),
            "etcd-v3.5.16-linux-amd64/x: a link out of its folder: /etc/passwd",
        ),
        (
            with(HardLink("etcd-v3.5.16-linux-amd64/x", "other/passwd")),
            "etcd-v3.5.16-linux-amd64/x: a link out of its folder: other/passwd",
        ),
        (
            with(Fifo("etcd-v3.5.16-linux-amd64/x")),
            "etcd-v3.5.16-linux-amd64/x: neither a file nor a folder nor a link",
        ),
        (with(etcd()), "etcd-v3.5.16-linux-amd64/etcd: it appears twice"),
        (archive(vec![etcd()]), "etcd-v3.5.16-linux-amd64/etcdctl: missing: not a release of etcd"),
        (
            archive(vec![etcd(), Link("etcd-v3.5.16-linux-amd64/etcdctl", "etcd")]),
            "etcd-v3.5.16-linux-amd64/etcdctl: not a regular file",
        ),
        (cut, "etcd: reading: incomplete deflate stream"),
        (b"neither gzip nor tar".into(), "reading: invalid gzip header"),
    ];
    for (bytes, expected) in cases {
        let sandbox = Sandbox::new(&[]);
        sandbox.publish("v3.5.16", "amd64", &bytes);
        let path = sandbox.published("v3.5.16", "amd64");
        let ran = sandbox.run(&sandbox.mirror(), &["v3.5.16"]);
        ran.prints(3, &[&format!("etcd-fetch: {}: {expected}", path.display())]);
        let kept: Vec<_> = sandbox.snapshot("cache").into_keys().collect();
        assert_eq!(kept, [sandbox.path("cache/v3.5.16/.lock")], "{expected}");
    }
}

#[test]
fn what_has_no_end_is_no_archive() {
    let sandbox = Sandbox::new(&["v3.5.16"]);
    let path = sandbox.published("v3.5.16", "amd64");
    let refused = |path: &Path| {
        let ran = sandbox.run(&sandbox.mirror(), &["v3.5.16"]);
        let shown = path.display();
        ran.prints(3, &[&format!("etcd-fetch: {shown}: opening: not a regular file")]);
    };
    fs::remove_file(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    refused(&path);
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    refused(&path);
    let sums = path.with_file_name("SHA256SUMS");
    fs::remove_file(&sums).unwrap();
    nix::unistd::mkfifo(&sums, Mode::S_IRWXU).unwrap();
    refused(&sums);
}

#[test]
fn a_link_that_stays_is_taken_and_the_binaries_are_those_that_are_there() {
    let sandbox = Sandbox::new(&[]);
    let bytes = archive(vec![
        File("etcd-v3.4.45-linux-amd64/etcdctl", b"2".into()),
        File("etcd-v3.4.45-linux-amd64/etcd", b"1".into()),
        File("etcd-v3.4.45-linux-amd64/Documentation/etcdutl", b"3".into()),
        Link("etcd-v3.4.45-linux-amd64/doc", "Documentation"),
        HardLink("etcd-v3.4.45-linux-amd64/same", "etcd-v3.4.45-linux-amd64/etcd"),
    ]);
    sandbox.publish("v3.4.45", "amd64", &bytes);
    let document = sandbox.run(&sandbox.mirror(), &["v3.4.45"]).document();
    let binaries = &document["release"]["archives"][0]["binaries"];
    assert_eq!(binaries[0]["name"], "etcd");
    assert_eq!(binaries[1]["name"], "etcdctl");
    assert_eq!(binaries.as_array().map(Vec::len), Some(2));
}
