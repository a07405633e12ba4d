//! Snapshots that become the data of all nodes.

use std::time::Duration;

use tests::{Lab, deploy, release, wait_until};

use crate::scripts::{on_terminal, script};

const NODES: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];
const LIMIT: Duration = Duration::from_secs(60);

/// What etcdutl adds to revisions.
const BUMP: u64 = 1_000_000_000;

/// The pipeline that restores `file`.
fn restore(file: &str, stage: &str, swap: &str) -> String {
    format!(
        "etcd-snapshot restore --stage {stage} {file} < document.json \
         | etcd-unit stop --lose-quorum | etcd-snapshot restore {swap} {file} \
         | etcd-unit start | etcd-health --wait"
    )
}

fn endpoints(lab: &Lab) -> Vec<String> {
    let document = pipeline::parse(lab.read("document.json").as_bytes()).unwrap().document;
    document.nodes.iter().map(|node| document.client_url(node)).collect()
}

fn etcdctl(lab: &Lab, args: &str) -> String {
    let line = lab.etcdctl(&endpoints(lab), args);
    lab.bash(&format!("export ETCDCTL_API=3; {line}")).ok().stdout
}

fn save(lab: &Lab, file: &str) -> u64 {
    let saved = lab.bash(&format!("etcd-snapshot save --to {file} < document.json")).ok();
    saved.document().snapshot.unwrap().revision
}

/// The keys with their values, and the newest revision.
fn content(lab: &Lab) -> (String, u64) {
    let keys = etcdctl(lab, "get --prefix key-");
    let status: serde_json::Value =
        serde_json::from_str(&etcdctl(lab, "get none -w json")).unwrap();
    (keys, status["header"]["revision"].as_u64().unwrap())
}

#[test]
fn of_each_minor_and_of_an_older_into_a_newer_one() {
    // The snapshot of one is restored, or refused, by the next.
    let mut last: Option<(String, Vec<u8>)> = None;
    for which in ["3.6", "oldest", "3.5", "3.7"] {
        let Some(version) = release(which) else { continue };
        let lab = Lab::with_nodes(1);
        lab.write("document.json", &lab.bash(&deploy(&version)).ok().stdout);
        lab.unpack(&version);
        etcdctl(&lab, &format!("put key-of {version}"));
        let revision = save(&lab, "own.db");
        let before = content(&lab);
        etcdctl(&lab, "put key-of later");

        let old_tool = which == "oldest";
        let restored = lab.bash(&restore("own.db", "", "")).ok();
        let expected = if old_tool { revision } else { revision + BUMP };
        assert_eq!(content(&lab), (before.0.clone(), expected), "{version}");
        let warned = restored.stderr.lines().any(|line| {
            line.starts_with(&format!(
                "etcd-snapshot: warning: {version} cannot bump revisions, so they go backwards \
                 (v3.5.10 and newer can): stop every kube-apiserver before the swap"
            ))
        });
        assert_eq!(warned, old_tool, "{}", restored.stderr);

        if let Some((of, bytes)) = last.take() {
            std::fs::write(lab.folder.path().join("other.db"), bytes).unwrap();
            if old_tool {
                let minor = of.trim_start_matches('v').rsplit_once('.').unwrap().0;
                lab.bash(&restore("other.db", "", "")).says(&format!(
                    "etcd-snapshot: etcd-01: the snapshot is of etcd {minor}, and {version} \
                     cannot read it: push a release of {minor} or newer first"
                ));
                assert_eq!(content(&lab).0, before.0);
            } else {
                lab.bash(&restore("other.db", "--keep-revision", "--discard-old")).ok();
                let (keys, revision) = content(&lab);
                assert_eq!((keys, revision), (format!("key-of\n{of}\n"), 2), "{of} on {version}");
            }
        }
        last = Some((version, std::fs::read(lab.folder.path().join("own.db")).unwrap()));
    }
}

#[test]
fn killed_at_every_step_and_with_the_power_cut_it_ends_restored() {
    let lab = Lab::with_nodes(3);
    lab.write("inventory.json", &lab.bash(
        "etcd-render --etcd-version v3.5.16 < nodes.txt | jq '{apiVersion, nodes: [.nodes[] \
         | {name, hostname, address}], cluster: {version: \"v3.5.16\", settings: {walDir: \"/srv/log\", binDir: \"/srv/bin\"}}}'",
    ).ok().stdout);
    let pipe = deploy("v3.5.16").replace("nodes.txt", "inventory.json");
    lab.write("document.json", &lab.bash(&pipe).ok().stdout);
    lab.unpack("v3.5.16");
    for at in 1..=5 {
        etcdctl(&lab, &format!("put key-{at} {at}"));
    }
    let revision = save(&lab, "a.db");
    let keys = content(&lab).0;
    etcdctl(&lab, "del key-1");

    // What is damaged stops the pipe before anything is touched.
    let untouched = "systemctl show -p MainPID etcd; ls /var/lib/etcd /srv/log";
    let pids = lab.on_all(&NODES, untouched);
    lab.bash("cp a.db bad.db; printf x | dd of=bad.db bs=1 seek=9000 conv=notrunc status=none")
        .ok();
    lab.bash(&format!("{}; echo ${{PIPESTATUS[@]}} > codes", restore("bad.db", "", ""))).ok();
    assert_eq!(lab.read("codes"), "1 66 66 66 66\n");
    // Nothing is swapped that is not staged everywhere, nor under a running etcd.
    lab.bash("etcd-snapshot restore a.db < document.json").exits(3).says(
        "etcd-snapshot: etcd-02: not restored: etcd.service is running: stop all members first: \
         etcd-unit stop --lose-quorum",
    );
    let stage = "etcd-snapshot restore --stage a.db < document.json > staged.json";
    lab.bash(&format!("{stage} --check")).exits(1).says("etcd-snapshot: etcd-01: would stage a.db");
    assert_eq!(lab.on_all(&NODES, untouched), pids);

    let undo = || {
        lab.on_all(&NODES, "rm -rf /var/lib/etcd/etcd-restore /srv/log/etcd-restore");
    };
    kill(&lab, 4, stage, undo);
    let line = "etcd-snapshot: etcd-01: a.db is staged already";
    lab.bash(stage).ok().says(line);
    let stop = "etcd-unit stop --lose-quorum < staged.json > stopped.json";
    lab.bash(stop).ok();
    lab.on("etcd-03", "mv /var/lib/etcd/etcd-restore /root/");
    let swap = "etcd-snapshot restore a.db < stopped.json > swapped.json";
    lab.bash(swap).exits(3).says(
        "etcd-snapshot: etcd-03: not restored: a.db is not staged here for these nodes: run \
         etcd-snapshot restore --stage a.db first",
    );
    lab.on("etcd-03", "mv /root/etcd-restore /var/lib/etcd/");

    // At every step of the swap, each time from what lay there before.
    lab.on_all(&NODES, "cp -a /var/lib/etcd /srv/log /root/");
    let undo = || {
        lab.on_all(
            &NODES,
            "rm -rf /var/lib/etcd/* /srv/log/*; cp -a /root/etcd/* /var/lib/etcd/; \
             cp -a /root/log/* /srv/log/",
        );
    };
    kill(&lab, 2, swap, undo);

    // The power fails between two renames; the node boots, and etcd must not start anew.
    undo();
    lab.on(
        "etcd-02",
        "cat > /usr/local/bin/mv <<'E'\n#!/bin/sh\ncase $* in */etcd-restore/data/member*) \
         touch /var/tmp/held; sleep 1000 ;; esac\nexec /usr/bin/mv \"$@\"\nE\n\
         chmod 755 /usr/local/bin/mv",
    );
    let mut running = lab.start(&format!("exec {swap}"));
    let held = || lab.disk("etcd-02", "/var/tmp/held").exists() || !running.is_running();
    wait_until("the swap is in the middle", LIMIT, held);
    lab.command(&["power", "off", "etcd-02"]);
    running.kill();
    lab.command(&["power", "on", "etcd-02"]);
    lab.on("etcd-02", "rm -f /usr/local/bin/mv; ls -d /var/lib/etcd/before-restore-1/member");
    lab.on("etcd-02", "! ls /var/lib/etcd/member 2>/dev/null");
    let restored = lab.bash(&restore("a.db", "", "")).ok();
    let old = "; the old data is in /var/lib/etcd/before-restore-1 (";
    let line = format!("etcd-snapshot: etcd-02: restored a.db{old}");
    assert!(restored.stderr.contains(&line), "{}", restored.stderr);
    assert_eq!(content(&lab), (keys.clone(), revision + BUMP));
    assert_eq!(etcdctl(&lab, "member list").lines().count(), 3);
    let left = lab.on_all(&NODES, "ls -A /var/lib/etcd /srv/log");
    let whole = "/srv/log:\nbefore-restore-1\nwal\n\n/var/lib/etcd:\nbefore-restore-1\n\
                 etcd-restored\nmember\n";
    assert_eq!(left, [whole; 3]);

    // A watch of before is told, instead of silence.
    let watch = lab.bash(&lab.etcdctl(&endpoints(&lab), &format!("watch --rev {revision} key-2")));
    assert!(watch.stderr.contains("required revision has been compacted"), "{}", watch.stderr);
    // It is not thrown back once more unless that is said.
    etcdctl(&lab, "put key-6 6");
    let again = lab.bash(&restore("a.db", "", "")).says(
        "etcd-snapshot: etcd-01: was restored from a.db already, and has run since: start it if \
         it is stopped, or pass --again to go back to the snapshot once more",
    );
    assert_ne!(again.code, 0);
    assert!(content(&lab).0.contains("key-6"));
    let program = script("restore");
    let args = "--again --discard-old document.json a.db";
    let ran = lab.bash(&format!("{program} {args}")).exits(2);
    assert_eq!(ran.stderr, "restore: not on a terminal, nobody to ask: pass --yes\n");
    let ran = on_terminal(&lab, "no\n", &format!("{program} {args}")).exits(1);
    let end = "restore: type \"yes\" to go on: restore: stopped: etcd runs as before; run restore \
               again to go on\n";
    assert!(ran.stdout.ends_with(end), "{}", ran.stdout);
    assert!(content(&lab).0.contains("key-6"));
    lab.bash(&format!("{program} --yes {args}")).ok();
    assert_eq!(content(&lab), (keys.clone(), revision + BUMP));
    let kept = lab.on("etcd-01", "cd /var/lib/etcd; echo before-restore-*");
    assert_eq!(kept, "before-restore-1\n");
    // The next deployment finds nothing to do.
    lab.bash(&pipe).ok().says("etcd-unit: etcd-01: etcd.service running as configured");

    // Other hosts, and fewer, under other names.
    lab.command(&["reset"]);
    lab.write("nodes.txt", "new:192.168.1.101:new-01\n");
    let bare = "etcd-fetch v3.5.16 < nodes.txt | etcd-cert issue --pki other | etcd-render \
                > document.json";
    lab.bash(bare).ok();
    lab.bash(&restore("a.db", "", ""))
        .says("etcd-snapshot: new-01: user etcd: no such user: run etcd-push first");
    lab.bash("etcd-push < document.json").ok();
    lab.bash("rm -rf pki; mv other pki; sed -i 's,/other/,/pki/,g' document.json").ok();
    lab.bash(&restore("a.db", "", "")).ok();
    assert_eq!(content(&lab), (keys, revision + BUMP));
}

/// Kills the scripts of `tool` at every `step`-th of their processes, on all nodes, and
/// runs it again, which must end well. `undo` comes before each.
fn kill(lab: &Lab, step: usize, tool: &str, undo: impl Fn()) {
    let mut hits = 0;
    for number in (1..).step_by(step) {
        undo();
        lab.kill_at(&NODES, number);
        // What works as etcd's user counts, too.
        lab.on_all(&NODES, "/usr/bin/chmod 777 /run/kill /run/kill/count");
        let killed = lab.bash(tool);
        if !lab.killed(&NODES) {
            killed.ok();
            break;
        }
        hits += 1;
        let again = lab.bash(tool);
        assert_eq!(again.code, 0, "killed at process {number}: {}", again.stderr);
    }
    assert!(hits >= 3, "{tool}: only {hits} kills");
}
