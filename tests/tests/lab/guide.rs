//! The original guide's own scripts (`tests/guide`), as they were and then with one tool
//! after the other in the place of what they did by hand, on a cluster that goes on.

use std::fs;
use std::path::Path;

use tests::{Lab, guide, repository};

use crate::scripts::on_terminal;

const HOSTS: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];

/// The scripts in their order.
const STEPS: [&str; 7] = [
    "0-certificates",
    "1-install",
    "2-configure",
    "3-systemd",
    "4-start",
    "5-verify",
    "6-maintain",
];

/// A folder of `tests/guide` with scripts that use a tool, which take the places of the
/// guide's own; the steps that are done then, and what the tool says there.
type Change = (&'static str, &'static [&'static str], &'static str);

const CHANGES: [Change; 7] = [
    ("fetch", &["1-install"], "etcd-fetch: bin: already holds "),
    ("cert", &["0-certificates", "2-configure"], "etcd-cert: etcd-02: server certificate issued"),
    ("render", &["2-configure"], "etcd-render: etcd-02: rendered for etcd 3.5"),
    ("push", &["1-install", "2-configure"], "etcd-push: etcd-02: wrote /etc/etcd/etcd.conf"),
    (
        "unit",
        &["3-systemd", "4-start"],
        "etcd-unit: etcd-02: restarted etcd.service: its CA certificate and configuration had \
         changed",
    ),
    ("health", &["5-verify"], "etcd-health: 3 of 3 endpoints healthy, leader etcd-"),
    ("snapshot", &["6-maintain"], ": saved from etcd-0"),
];

/// Puts the files of `folder` into the lab's folder.
fn take(lab: &Lab, folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, lab.folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// Types each script into a terminal and answers its question with yes; gives what
/// they all said.
fn run(lab: &Lab, steps: &[&str]) -> String {
    let mut said = String::new();
    for step in steps {
        let ran = on_terminal(lab, "y\n", &format!("env PATH=\"$PWD/path:$PATH\" ./{step}.sh"));
        assert_eq!(ran.code, 0, "{step}: {}{}", ran.stdout, ran.stderr);
        said += &ran.stdout;
    }
    said
}

#[test]
fn its_scripts_take_one_tool_after_the_other() {
    let lab = Lab::with_nodes(3);
    let scripts = repository().join("tests/guide");
    take(&lab, &scripts);
    // What else a machine of the guide has: its own ~/.ssh/config, and a way out.
    fs::create_dir(lab.folder.path().join("path")).unwrap();
    lab.write("path/ssh", "#!/bin/sh\nexec /usr/bin/ssh -F \"$ETCD_TOOLS_SSH_CONFIG\" \"$@\"\n");
    let version = guide();
    let own = format!("ETCD_VERSION={version} DOWNLOAD_URL=file://$ETCD_TOOLS_MIRROR\n");
    lab.write("settings.sh", &(own + &lab.read("settings.sh")));
    lab.bash("chmod 755 path/ssh").ok();

    run(&lab, &STEPS);
    let etcdctl = |args: &str| lab.bash(&format!(". ./settings.sh; etcdctl {args}")).ok();
    etcdctl("put key value");
    let pids = || lab.on_all(&HOSTS, "systemctl show etcd -p MainPID");
    let mut before = pids();
    for (tool, steps, line) in CHANGES {
        take(&lab, &scripts.join(tool));
        let said = run(&lab, steps);
        assert!(said.contains(line), "{tool}: no {line:?} in:\n{said}");
        let health = etcdctl("endpoint health");
        let health = format!("{}{}", health.stdout, health.stderr);
        assert_eq!(health.matches("is healthy").count(), 3, "{tool}: {health}");
        assert_eq!(etcdctl("get key --print-value-only").stdout, "value\n", "{tool}");
        let now = pids();
        let restarted = now.iter().zip(&before).filter(|(now, before)| now != before).count();
        assert_eq!(restarted, if tool == "unit" { 3 } else { 0 }, "{tool}: {now:?}");
        before = now;
    }
    lab.bash("etcd-snapshot verify backup/*").ok();
}
