//! Snapshots of real members, and what happens to them in the middle.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pipeline::document::Snapshot;
use serde_json::Value;
use tests::{Lab, Ran, Running, deploy, release, wait_until};

use crate::scripts::script;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn from_each_minor_as_etcd_itself_reads_it() {
    for which in ["oldest", "3.5", "3.6", "3.7"] {
        let Some(version) = release(which) else { continue };
        let lab = deployed(1, &version);
        fill(&lab, 3, 1000);
        lab.bash(&lab.etcdctl(&endpoints(&lab), "del key-1")).ok();
        let saved = lab.bash("etcd-snapshot save --to . --metrics m.prom < document.json").ok();
        let snapshot = saved.document().snapshot.unwrap();
        assert_eq!(snapshot.total_keys, 2);
        let metrics = lab.read("m.prom");
        for (name, value) in [("revision", snapshot.revision), ("keys", 2)] {
            let line = format!("etcd_tools_snapshot_{name} {value}");
            assert!(metrics.lines().any(|l| l == line), "no {line} in:\n{metrics}");
        }
        lab.bash("etcd-snapshot verify *.db").ok();

        let status = lab.bash("etcd-snapshot status -o json *.db").ok();
        let ours: Value = serde_json::from_str(&status.stdout).unwrap();
        let ours = &ours[0];
        let tool = if which == "oldest" { "ETCDCTL_API=3 bin/etcdctl" } else { "bin/etcdutl" };
        let theirs = lab.bash(&format!("{tool} snapshot status *.db -w json")).ok();
        let theirs: Value = serde_json::from_str(theirs.stdout.trim()).unwrap();
        let keys = if theirs.get("version").is_some() { "totalKeys" } else { "entries" };
        let pairs = [("hash", "hash"), ("revision", "revision"), (keys, "totalKey")];
        for (our, their) in pairs.into_iter().chain([("sizeBytes", "totalSize")]) {
            assert_eq!(ours[our], theirs[their], "{version}: {our}");
        }
        assert_eq!(ours["hash"], snapshot.hash);
        assert_eq!(ours["members"][0]["name"], "etcd-01");
        let minor = version.trim_start_matches('v').rsplit_once('.').unwrap().0.to_owned() + ".0";
        assert_eq!(snapshot.version, Some(minor));

        // A copy of the database in use has no SHA-256.
        lab.on("etcd-01", "systemctl stop etcd");
        std::fs::copy(lab.disk("etcd-01", "/var/lib/etcd/member/snap/db"), file(&lab, "copy"))
            .unwrap();
        lab.bash("etcd-snapshot verify copy").exits(1).says(
            "etcd-snapshot: copy: no SHA-256 at its end: not a snapshot, but perhaps a copy of \
             member/snap/db: pass --no-trailer to accept it",
        );
        lab.bash("etcd-snapshot verify --no-trailer copy").ok();
    }
}

#[test]
fn whatever_happens_a_snapshot_is_whole_or_is_not_there() {
    let Some(version) = release("3.6") else { return };
    let lab = deployed(3, &version);
    fill(&lab, 40, 1_400_000);
    let leader = leader(&lab);

    // From a follower; nobody else may read it.
    let plan = lab.bash("etcd-snapshot save --to . --check < document.json").exits(1);
    let saved = saved(&lab.bash("etcd-snapshot save --to . < document.json").ok());
    assert_ne!(saved.node, leader);
    let line = format!("etcd-snapshot: {} (follower, not behind, ", saved.node);
    assert!(plan.stderr.starts_with(&line), "{}", plan.stderr);
    let in_folder = format!("would be saved to a new file in {}\n", folder(&lab).display());
    assert!(plan.stderr.ends_with(&in_folder), "{}", plan.stderr);
    let mode = lab.bash(&format!("stat -c %a {}", saved.path)).ok();
    assert_eq!(mode.stdout, "600\n");
    std::fs::remove_file(&saved.path).unwrap();

    // From the one that is named, and through ssh; over what a killed run has left.
    lab.write("a.db.part", "left by a killed run");
    let named = format!("etcd-snapshot save --to a.db --via ssh --from {leader} < document.json");
    assert_eq!(self::saved(&lab.bash(&named).ok()).node, leader);
    assert!(!file(&lab, "a.db.part").exists());
    lab.bash("etcd-snapshot save --to a.db --from etcd-09 < document.json")
        .exits(2)
        .says("etcd-snapshot: --from: \"etcd-09\" is not a node in the document");
    // What follows must not touch it.
    let before = lab.bash("sha256sum a.db").ok().stdout;

    // The member dies in the middle.
    let other = if leader == "etcd-01" { "etcd-02" } else { "etcd-01" };
    let save =
        format!("exec etcd-snapshot save --to a.db --timeout 5 --from {other} < document.json");
    let running = stopped_in_the_middle(&lab, &save, "a.db.part");
    lab.on(other, "systemctl kill -s KILL etcd");
    let cut_off = resumed(running).exits(3);
    let why = ": the member closed the connection\n";
    let begin = format!("etcd-snapshot: {other}: snapshot: cut off after ");
    assert!(
        cut_off.stderr.starts_with(&begin) && cut_off.stderr.ends_with(why),
        "{}",
        cut_off.stderr
    );
    assert!(!file(&lab, "a.db.part").exists());
    lab.bash("etcd-health --wait < document.json").ok();

    // The disk is full in the middle.
    let small = file(&lab, "small");
    std::fs::create_dir(&small).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=128m", "tmpfs"]).arg(&small));
    let running = stopped_in_the_middle(
        &lab,
        "exec etcd-snapshot save --to small < document.json",
        "small/etcd-snapshot.part",
    );
    let _ = Command::new("dd")
        .args(["if=/dev/zero", "bs=1M"])
        .arg(format!("of={}", small.join("filler").display()))
        .output();
    let full = resumed(running).exits(3);
    let part = folder(&lab).join("small/etcd-snapshot.part");
    let line = format!(": snapshot: {}: writing: no space left on device\n", part.display());
    assert!(full.stderr.ends_with(&line), "{}", full.stderr);
    assert!(!part.exists());
    // With so little space it does not even begin.
    let no_room = lab.bash("etcd-snapshot save --to small --check < document.json").exits(3);
    let line =
        format!("{}: too little space: the snapshot takes ", folder(&lab).join("small").display());
    assert!(no_room.stderr.contains(&line), "{}", no_room.stderr);
    // What the backup itself says last is the exit code of what has failed.
    std::fs::write(small.join("etcd-backup.prom"), "old").unwrap();
    run(Command::new("mount").args(["-o", "remount,ro"]).arg(&small));
    let backup = lab.bash(&format!("{} document.json small", script("backup"))).exits(3);
    assert!(
        backup.stderr.contains("backup: FAILED at save with exit code 3\n"),
        "{}",
        backup.stderr
    );
    run(Command::new("umount").arg(&small));

    // Stdout: whole, or it is said that it is not.
    lab.bash("etcd-snapshot save --to - < document.json > b.db; ETCD_TOOLS_ONLY=etcd-02 etcd-snapshot verify b.db").ok();
    let closed = lab
        .bash("{ etcd-snapshot save --to - < document.json; echo $? > code; } | head -c 9 > cut");
    assert_eq!(lab.read("code"), "74\n", "{}", closed.stderr);
    assert!(closed.stderr.ends_with("stdout: writing: broken pipe\n"), "{}", closed.stderr);
    lab.bash("etcd-snapshot save --to - --timeout 60 < document.json > /dev/null").ok();
    lab.bash("etcd-snapshot save --to - < document.json >&-")
        .exits(74)
        .says("etcd-snapshot: --to -: stdout is closed");

    // A member that falls silent is left for another one, once.
    let running = stopped_in_the_middle(
        &lab,
        "exec etcd-snapshot save --to a2.db --timeout 3 < document.json",
        "a2.db.part",
    );
    let silent = self::saved(&lab.bash("etcd-snapshot save --to c.db < document.json").ok()).node;
    lab.command(&["freeze", &silent]);
    let moved = resumed(running);
    lab.command(&["thaw", &silent]);
    let moved = moved.ok();
    let begin = format!("etcd-snapshot: warning: {silent}: snapshot: cut off after ");
    let first = moved.stderr.lines().next().unwrap();
    let end = ": no answer within 3.0 s: asking another one";
    assert!(first.starts_with(&begin) && first.ends_with(end), "{}", moved.stderr);
    assert_ne!(self::saved(&moved).node, silent);
    assert_eq!(lab.bash("sha256sum a.db").ok().stdout, before);

    // With authentication on, the user counts.
    lab.bash("etcd-health --wait < document.json").ok();
    for args in ["user add root:secret", "user grant-role root root", "auth enable"] {
        lab.bash(&lab.etcdctl(&endpoints(&lab), args)).ok();
    }
    let known = "export ETCDCTL_USER=root ETCDCTL_PASSWORD=secret;";
    lab.bash(&format!("{known} etcd-snapshot save --to d.db < document.json")).ok();
    let nobody = lab.bash("etcd-snapshot save --to e.db < document.json").exits(3);
    let advice =
        "user name is empty: authentication is on: set ETCDCTL_USER and ETCDCTL_PASSWORD\n";
    assert!(nobody.stderr.ends_with(advice), "{}", nobody.stderr);
    let nobody = lab.bash("etcd-snapshot save --check --to e.db < document.json").exits(3);
    assert!(nobody.stderr.ends_with(advice), "{}", nobody.stderr);

    // etcd checks a password through raft, so what follows is not for users.
    lab.bash(&lab.etcdctl(&endpoints(&lab), "--user root:secret auth disable")).ok();

    // Without quorum only the member that is named gives what it has.
    let rest = ["etcd-01", "etcd-02", "etcd-03"].into_iter().filter(|host| *host != other);
    let rest: Vec<_> = rest.collect();
    lab.on_all(&rest, "systemctl kill -s KILL etcd; systemctl stop etcd");
    lab.bash("etcd-snapshot save --to e.db < document.json").exits(3).says(
        "etcd-snapshot: no healthy voting member to save from: to save what one member has, pass \
         --from NODE",
    );
    assert!(!file(&lab, "e.db").exists());
    let named = format!("etcd-snapshot save --to e.db --from {other} < document.json");
    assert_eq!(self::saved(&lab.bash(&named).ok()).node, other);
    lab.bash("etcd-snapshot verify *.db").ok();
}

/// A cluster of `count` members, its document and its etcdctl.
fn deployed(count: usize, version: &str) -> Lab {
    let lab = Lab::with_nodes(count);
    let document = lab.bash(&deploy(version)).ok().stdout;
    lab.write("document.json", &document);
    lab.unpack(version);
    lab
}

fn endpoints(lab: &Lab) -> Vec<String> {
    let document = pipeline::parse(lab.read("document.json").as_bytes()).unwrap().document;
    document.nodes.iter().map(|node| document.client_url(node)).collect()
}

fn fill(lab: &Lab, keys: usize, bytes: usize) {
    let put = lab.etcdctl(&endpoints(lab), "put key-$i");
    let value = format!("head -c {bytes} /dev/zero | tr '\\0' x");
    lab.bash(&format!("export ETCDCTL_API=3; for i in $(seq {keys}); do {value} | {put}; done"))
        .ok();
}

pub fn leader(lab: &Lab) -> String {
    let health = lab.bash("etcd-health --wait < document.json").ok().document().health.unwrap();
    health.endpoints.into_iter().find(|e| e.is_leader).and_then(|e| e.node).unwrap()
}

fn saved(ran: &Ran) -> Snapshot {
    ran.document().snapshot.unwrap()
}

fn folder(lab: &Lab) -> &Path {
    lab.folder.path()
}

fn file(lab: &Lab, name: &str) -> PathBuf {
    folder(lab).join(name)
}

/// Starts `save`, which writes `part`, and stops it when a part of it is there. The hosts send
/// slowly until then: otherwise a fast machine would be done before anybody looks.
fn stopped_in_the_middle(lab: &Lab, save: &str, part: &str) -> Running {
    let hosts = ["etcd-01", "etcd-02", "etcd-03"];
    let slow = "tc qdisc add dev host0 root tbf rate 50mbit burst 64kb latency 1s";
    lab.on_all(&hosts, slow);
    let mut running = lab.start(save);
    let part = file(lab, part);
    wait_until("a part is there, or it ended", LIMIT, || {
        part.metadata().is_ok_and(|part| part.len() > 0) || !running.is_running()
    });
    assert!(running.is_running(), "{}", running.wait().stderr);
    run(Command::new("kill").args(["-STOP", &running.id().to_string()]));
    lab.on_all(&hosts, "tc qdisc del dev host0 root");
    assert!(part.metadata().unwrap().len() < 40 * 1_400_000, "it was too fast to be stopped");
    running
}

fn resumed(running: Running) -> Ran {
    run(Command::new("kill").args(["-CONT", &running.id().to_string()]));
    running.wait()
}

#[track_caller]
fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}
