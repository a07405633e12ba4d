//! Snapshots that become the data of all nodes.

use std::io::Write;
use std::time::Duration;

use tests::{Lab, deploy, release, wait_until};

use crate::readme::restore_of_bare_hosts;
use crate::scripts::{on_terminal, script};
use crate::snapshot::leader;

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

/// A node with a write-ahead log in a folder of its own.
const WAL_DIR: &str = r#"{"apiVersion": "etcd-tools/v1",
    "cluster": {"settings": {"walDir": "/srv/log"}},
    "nodes": [{"name": "etcd-01", "hostname": "k8s-master-01", "address": "192.168.1.100"}]}"#;

#[test]
fn of_each_minor_and_of_an_older_into_a_newer_one() {
    // The snapshots of those before are restored, or refused.
    let mut others: Vec<(String, Vec<u8>)> = Vec::new();
    let minor_of = |version: &str| -> i32 { version.split('.').nth(1).unwrap().parse().unwrap() };
    for which in ["3.6", "oldest", "3.5", "3.7"] {
        let Some(version) = release(which) else { continue };
        let lab = Lab::with_nodes(1);
        if which == "3.5" || which == "3.7" {
            lab.write("nodes.txt", WAL_DIR);
        }
        lab.write("document.json", &lab.bash(&deploy(&version)).ok().stdout);
        lab.unpack(&version);
        etcdctl(&lab, &format!("put key-of {version}"));
        let revision = save(&lab, "own.db");
        let before = content(&lab);
        etcdctl(&lab, "put key-of later");

        if which == "3.5" {
            // A list of nodes does not say where its log is.
            lab.write("plain.txt", "k8s-master-01:192.168.1.100:etcd-01\n");
            let refused = lab.bash("etcd-snapshot restore --stage own.db < plain.txt").exits(3);
            refused.says(
                "etcd-snapshot: etcd-01: its data is in /var/lib/etcd and its write-ahead log in \
                 /srv/log/wal, the document says /var/lib/etcd and /var/lib/etcd/member/wal: take \
                 the document that it was deployed with, or set dataDir and walDir",
            );
        }
        let old_tool = which == "oldest";
        let restored = lab.bash(&restore("own.db", "", "")).ok();
        let expected = if old_tool { revision } else { revision + BUMP };
        assert_eq!(content(&lab), (before.0.clone(), expected), "{version}");
        // What was restored can be saved again, and is read as etcd's own tool reads it.
        assert_eq!(save(&lab, "again.db"), expected, "{version}");
        lab.bash("etcd-snapshot verify again.db").ok();
        if !old_tool {
            let status = |tool: &str| -> serde_json::Value {
                let said = lab.bash(&format!(
                    "{tool} again.db | jq -c 'if type == \"array\" then .[0] else . end'"
                ));
                serde_json::from_str(&said.ok().stdout).unwrap()
            };
            let ours = status("etcd-snapshot status -o json");
            let theirs = status("bin/etcdutl snapshot status -w json");
            let keys = if theirs.get("version").is_some() { "totalKeys" } else { "entries" };
            for (our, their) in [("hash", "hash"), ("revision", "revision"), (keys, "totalKey")] {
                assert_eq!(ours[our], theirs[their], "{version}: {our}");
            }
        }
        let warned = restored.stderr.lines().any(|line| {
            line.starts_with(&format!(
                "etcd-snapshot: warning: {version} cannot bump revisions, so they go backwards \
                 (v3.5.10 and newer can): stop every kube-apiserver before the swap"
            ))
        });
        assert_eq!(warned, old_tool, "{}", restored.stderr);

        let mut now = content(&lab);
        for (of, bytes) in &others {
            std::fs::write(lab.folder.path().join("other.db"), bytes).unwrap();
            let minor = minor_of(of);
            let pipe = restore("other.db", "--keep-revision", "--discard-old");
            match minor_of(&version) - minor {
                ..0 => drop(lab.bash(&pipe).says(&format!(
                    "etcd-snapshot: etcd-01: the snapshot is of etcd 3.{minor}, and {version} \
                     cannot read it: push a release of 3.{minor} or newer first"
                ))),
                0..=1 => {
                    lab.bash(&pipe).ok();
                    now = (format!("key-of\n{of}\n"), 2);
                }
                _ => drop(lab.bash(&pipe).says(&format!(
                    "etcd-snapshot: etcd-01: the snapshot is of etcd 3.{minor}, and etcd goes up \
                     one minor version at a time: restore it with a release of 3.{}, not \
                     {version}, then upgrade",
                    minor + 1
                ))),
            }
            assert_eq!(content(&lab), now, "{of} on {version}");
        }
        // What a member that is stopped has, and made a cluster again.
        let (keys, revision) = content(&lab);
        lab.on("etcd-01", "systemctl stop etcd");
        let recover = format!("{} --yes document.json offline.db", script("recover"));
        lab.bash(&recover.replace("--yes", "--yes --from etcd-01")).ok();
        let expected = if old_tool { revision } else { revision + BUMP };
        assert_eq!(content(&lab), (keys, expected), "{version}");
        // Where nothing tells any more of a restore, the data says how far revisions have come.
        lab.on("etcd-01", "systemctl stop etcd; rm /var/lib/etcd/etcd-restored");
        lab.bash(&restore("own.db", "", "")).ok();
        let (keys, revision) = content(&lab);
        assert_eq!(keys, before.0, "{version}");
        assert!(old_tool || revision > expected, "{version}: {revision}, {expected}");
        if which == "3.6" {
            // An alarm comes back with the data.
            let raise = r#"{"action": "ACTIVATE", "alarm": "NOSPACE"}"#;
            let tls = "--cacert pki/ca.crt --cert pki/client.crt --key pki/client.key";
            let url = format!("{}/v3/maintenance/alarm", endpoints(&lab)[0]);
            lab.bash(&format!("curl -sf {tls} {url} -d '{raise}'")).ok();
            save(&lab, "full.db");
            etcdctl(&lab, "alarm disarm");
            lab.bash("etcd-snapshot restore --stage full.db < document.json").ok().says(
                "etcd-snapshot: warning: full.db: the cluster had alarm NOSPACE, and so has what is \
                 restored: it takes no writes until, with a larger quotaBackendBytes or after \
                 compact and defrag, etcdctl alarm disarm",
            );
        }
        others.push((version, std::fs::read(lab.folder.path().join("own.db")).unwrap()));
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

    let size = std::fs::metadata(lab.folder.path().join("a.db")).unwrap().len();
    let arriving = format!("-c {size}");
    let wiped = "rm -rf /var/lib/etcd/etcd-restore /srv/log/etcd-restore";
    let mut points = Interrupted::default();
    for at in [
        [
            ("rm", "-f -- /var/lib/etcd/etcd-restore/stamp"),
            ("mkdir", "-- /var/lib/etcd/etcd-restore"),
            ("head", &arriving),
        ],
        [("mkdir", "-- /srv/log/etcd-restore"), ("env", "-i *"), ("rm", "-- */snapshot")],
        [
            ("sync", "-f /var/lib/etcd/etcd-restore /srv/*"),
            ("sync", "-f /var/lib/etcd/etcd-restore"),
            ("mv", "*/stamp.new *"),
        ],
    ] {
        lab.on_all(&NODES, wiped);
        points.interrupt(&lab, stage, at, true);
        lab.bash(stage).ok();
    }
    let line = "etcd-snapshot: etcd-01: a.db is staged already";
    lab.bash(stage).ok().says(line);
    let stop = "etcd-unit stop --lose-quorum < staged.json > stopped.json";
    let leader = leader(&lab);
    // A unit that would have the member be alone is found before anything stops.
    let dir = "/etc/systemd/system/etcd.service.d";
    let alone = "[Service]\\nExecStart=\\nExecStart=/srv/bin/etcd --force-new-cluster\\n";
    lab.on("etcd-02", &format!("mkdir {dir}; printf '{alone}' > {dir}/x.conf"));
    for command in ["etcd-snapshot restore --stage a.db", "etcd-unit restart"] {
        let ran = lab.bash(&format!("{command} < document.json")).exits(3);
        let why = "/x.conf sets ETCD_FORCE_NEW_CLUSTER to true, ";
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
    lab.on("etcd-02", &format!("rm -r {dir}"));
    lab.bash(stop).ok();
    // The leader last, or it would wait for one to take over that is stopped, too. The hosts
    // have one clock.
    let ended = "systemctl show etcd -p ExecMainExitTimestampMonotonic --value";
    let ended = lab.on_all(&NODES, ended);
    let ended: Vec<u64> = ended.iter().map(|at| at.trim().parse().unwrap()).collect();
    let last = ended.iter().zip(NODES).max().map(|(_, node)| node);
    assert_eq!(last, Some(&*leader), "{ended:?}");
    lab.on("etcd-03", "mv /var/lib/etcd/etcd-restore /root/");
    let swap = "etcd-snapshot restore a.db < stopped.json > swapped.json";
    // Nor is what belongs to two runs, or to a later minor version.
    let staged = "/var/lib/etcd/etcd-restore";
    lab.on("etcd-03", &format!("mv /root/etcd-restore {staged}; cp -pr {staged} /root/"));
    lab.on("etcd-02", &format!("sed -i '2s/.*/77/' {staged}/stamp"));
    lab.bash(swap).exits(3).says(
        "etcd-snapshot: etcd-02: not restored: what is staged here has other revisions than on \
         etcd-01: run etcd-snapshot restore --stage a.db again",
    );
    lab.on("etcd-01", &format!("echo 3.6.16 > {staged}/release"));
    lab.bash(stage).ok().says("etcd-snapshot: etcd-03: a.db is staged already");
    lab.on("etcd-01", &format!("echo 3.6.16 > {staged}/release"));
    lab.bash(swap).exits(3).says(
        "etcd-snapshot: etcd-01: not restored: it was staged with etcd v3.6.16, and v3.5.16 is \
         there now: put that release back, or run etcd-snapshot restore --stage a.db again",
    );
    lab.bash(stage).ok();
    lab.on("etcd-03", &format!("rm -r {staged}"));
    lab.bash(swap).exits(3).says(
        "etcd-snapshot: etcd-03: not restored: a.db is not staged here for these nodes: run \
         etcd-snapshot restore --stage a.db first",
    );
    lab.on("etcd-03", "mv /root/etcd-restore /var/lib/etcd/");

    // At every step of the swap, each time from what lay there before. What boots starts
    // etcd, too, which ends at once where there is no data: where there is, it would wait for
    // the others, and the lab for it.
    let copy = "rm -rf /root/copy; mkdir /root/copy; \
                cp -a /var/lib/etcd /srv/log /etc/etcd/etcd.member /root/copy";
    let back = "rm -rf /var/lib/etcd/* /srv/log/*; cp -a /root/copy/etcd/* /var/lib/etcd/; \
                cp -a /root/copy/log/* /srv/log/; cp -a /root/copy/etcd.member /etc/etcd/";
    let left = "ls -A /var/lib/etcd /srv/log; cd /var/lib/etcd/before-restore-1/member/snap; ls db; \
                ls /srv/log/before-restore-1/wal/*.wal | head -n 1";
    let whole = "/srv/log:\nbefore-restore-1\nwal\n\n/var/lib/etcd:\nbefore-restore-1\n\
                 etcd-restored\nmember\ndb\n\
                 /srv/log/before-restore-1/wal/0000000000000000-0000000000000000.wal\n";
    lab.on_all(&NODES, copy);
    for (boot, at) in [
        (
            "disable",
            [("chmod", "644 *.etcd-tools"), ("mv", "*/etcd.member"), ("setpriv", "*etcd-tools*")],
        ),
        (
            "disable",
            [
                ("mv", "*/stamp.new *"),
                ("mkdir", "-- */before-restore-1"),
                ("mv", "-T -- /srv/log/wal *"),
            ],
        ),
        (
            "enable",
            [
                ("mv", "-T -- /var/lib/etcd/member *"),
                ("mv", "*/data/member *"),
                ("mv", "*/etcd-restore/wal *"),
            ],
        ),
        (
            "disable",
            [
                ("mv", "*/etcd-restored"),
                ("rm", "-rf -- /var/lib/etcd/etcd-restore *"),
                ("du", "*/before-restore-1"),
            ],
        ),
    ] {
        lab.on_all(&NODES, &format!("systemctl -q {boot} etcd; {back}"));
        points.interrupt(&lab, swap, at, true);
        if boot == "enable" {
            lab.bash("etcd-unit start < staged.json").exits(3).says(
                "etcd-unit: etcd-01: there is no write-ahead log in /srv/log/wal: a restore was \
                 interrupted: finish it, with the same file: `etcd-snapshot restore FILE`",
            );
        }
        let healed = lab.bash(&format!("{stop}; {swap}")).ok();
        assert_eq!(lab.on_all(&NODES, left), [whole; 3], "{at:?}: {}", healed.stderr);
    }
    let old = "; the old data is in /var/lib/etcd/before-restore-1 (";
    let line = format!("etcd-snapshot: etcd-02: a.db is restored already{old}");
    let ran = lab.bash(swap).ok();
    assert!(ran.stderr.contains(&line), "{}", ran.stderr);

    // At every step of the start, until the member is known to be ready.
    lab.on_all(&NODES, copy);
    let start = "etcd-unit start < swapped.json > started.json";
    for (cut, at) in [
        (
            false,
            [
                ("systemctl", "reset-failed etcd.service"),
                ("date", "+%s.%6N"),
                ("systemctl", "start etcd.service"),
            ],
        ),
        (true, [("cat", "/etc/etcd/etcd.member"); 3]),
        (true, [("mkdir", "-p /run/etcd-tools.started"); 3]),
    ] {
        lab.on_all(&NODES, &format!("systemctl stop etcd; {back}"));
        points.interrupt(&lab, start, at, cut);
        // What the unit itself runs is not this tool's, and goes on.
        lab.on_all(&NODES, "pkill -f '[s]leep 1000' || true");
        lab.bash(&format!("{start} && etcd-health --wait < started.json")).ok();
        assert_eq!(content(&lab), (keys.clone(), revision + BUMP), "{at:?}");
        assert_eq!(lab.on_all(&NODES, "cat /etc/etcd/etcd.member"), [&*mark("ready"); 3]);
    }
    assert!(points.kills + points.cuts == 30 && points.cuts == 9, "{points:?}");
    assert_eq!(content(&lab), (keys.clone(), revision + BUMP));
    assert_eq!(etcdctl(&lab, "member list").lines().count(), 3);
    assert_eq!(lab.on_all(&NODES, left), [whole; 3]);

    // A watch of before is told, instead of silence.
    let watch = lab.bash(&lab.etcdctl(&endpoints(&lab), &format!("watch --rev {revision} key-2")));
    assert!(watch.stderr.contains("required revision has been compacted"), "{}", watch.stderr);
    // It is not thrown back once more unless that is said.
    etcdctl(&lab, "put key-6 6");
    let line = "etcd-snapshot: the cluster was restored from a.db already, and has run since: \
                start it if it is stopped, or pass --again to go back to the snapshot once more";
    let again = lab.bash(&restore("a.db", "", "")).says(line);
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
    // What is staged so, and was not wanted then, is not swapped months later.
    lab.bash(&restore("a.db", "", "")).says(line);
    // A watch that is open meanwhile is told, too, when it goes on: of the compaction, or by
    // whatever serves its port before the member does.
    let open = lab.etcdctl(&endpoints(&lab), "watch key-8 > watched 2>&1");
    let open = lab.start(&format!("export ETCDCTL_API=3; exec {open}"));
    wait_until("the watch is there", LIMIT, || {
        etcdctl(&lab, "put key-8 8");
        lab.read("watched").contains("key-8")
    });
    lab.bash(&format!("{program} --yes {args}")).ok();
    open.wait();
    let told = lab.read("watched");
    assert!(told.ends_with("Error: watch is canceled by the server\n"), "{told}");
    // No revision that the cluster may have reached meanwhile comes again.
    assert_eq!(content(&lab), (keys.clone(), revision + 2 * BUMP));
    // Each member has found those before it, to compare its data with theirs.
    let not_found = "journalctl --sync; journalctl -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show \
                     -p InvocationID etcd | cut -d = -f 2) | grep -c 'failed hash kv request'; true";
    assert_eq!(lab.on_all(&NODES, not_found), ["2\n", "1\n", "0\n"]);
    let kept = lab.on("etcd-01", "cd /var/lib/etcd; echo before-restore-*");
    assert_eq!(kept, "before-restore-1\n");
    // Cut off when two of the members have been ready and one has not: the same run goes on,
    // and nothing that they have written is thrown back.
    lab.bash(
        "etcd-snapshot restore --again --stage a.db < document.json \
         | etcd-unit stop --lose-quorum | etcd-snapshot restore a.db > swapped.json",
    )
    .ok();
    assert_eq!(lab.on_all(&NODES, "cat /etc/etcd/etcd.member"), [&*mark("restored"); 3]);
    lab.on_all(&NODES[..2], "systemctl start etcd");
    etcdctl(&lab, "put key-7 7");
    lab.bash(&restore("a.db", "", "")).ok();
    assert_eq!(content(&lab).0, format!("{keys}key-7\n7\n"));
    assert_eq!(lab.on_all(&NODES, "cat /etc/etcd/etcd.member"), [&*mark("ready"); 3]);
    // The script, run again when all is done, says so and leaves all as it is.
    let pids = lab.on_all(&NODES, untouched);
    lab.bash(&format!("{program} --yes document.json a.db")).ok().says(line);
    assert_eq!(lab.on_all(&NODES, untouched), pids);
    // A member that no node of the document is would go on serving.
    lab.bash("jq '.nodes |= .[:2] | del(.results)' document.json > two.json").ok();
    lab.bash("etcd-snapshot restore --again --stage a.db < two.json").exits(3).says(
        "etcd-snapshot: member etcd-03 at https://192.168.1.102:2379 is not a node in the document \
         and still serves this cluster: it would go on beside the restored cluster: stop it, or \
         add it to the document",
    );
    // Nor is one given up that nobody can reach, unless in words.
    lab.command(&["cable", "pull", "etcd-03"]);
    let stage = "etcd-snapshot restore --again --check --stage a.db < two.json";
    lab.bash(stage).exits(3).says(
        "etcd-snapshot: member etcd-03 at https://192.168.1.102:2379 is not a node in the document \
         and cannot be reached: it may go on beside the restored cluster: add it to the document, \
         or pass --gone-for-good if it will never run again",
    );
    lab.bash(&stage.replace("--check", "--check --gone-for-good")).exits(1);
    lab.command(&["cable", "plug", "etcd-03"]);
    lab.bash("etcd-health --wait < document.json").ok();
    // The next deployment finds nothing to do.
    lab.bash(&pipe).ok().says("etcd-unit: etcd-01: etcd.service running as configured");

    // Other hosts, and fewer, under other names.
    lab.command(&["reset"]);
    lab.write("nodes.txt", "new:192.168.1.101:new-01\n");
    let bare = "etcd-fetch v3.5.16 < nodes.txt | etcd-cert issue --pki other | etcd-render \
                > document.json";
    lab.bash(bare).ok();
    lab.bash(&restore("a.db", "", "")).says(
        "etcd-snapshot: new-01: user etcd: no such user: run etcd-push first, or where others \
         have deployed etcd, set user, dataDir and binDir in the document as it has them; where a \
         cluster serves that this node is no member of, leave it out, and add it afterwards with \
         scripts/grow",
    );
    lab.bash("etcd-push < document.json").ok();
    // The data directory is a mount point, and a small disk.
    lab.on("etcd-02", "mount -t tmpfs -o size=64m,uid=etcd,mode=700 data /var/lib/etcd");
    let small = lab.bash("etcd-snapshot restore --check --stage a.db < document.json").exits(3);
    let line = "etcd-snapshot: new-01: /var/lib/etcd: too little space: the restore takes 128.";
    assert!(small.stderr.starts_with(line), "{}", small.stderr);
    assert!(small.stderr.ends_with(" beside the data that is there, 64.00 MiB are free\n"));
    lab.on("etcd-02", "mount -o remount,size=512m /var/lib/etcd");
    lab.bash("rm -rf pki; mv other pki; sed -i 's,/other/,/pki/,g' document.json").ok();
    lab.bash(&restore("a.db", "", "")).ok();
    assert_eq!(content(&lab), (keys, revision + BUMP));
    // A host that holds the data of somebody else.
    let other = "sed 's/new-01/other-01/' nodes.txt | etcd-snapshot restore --stage a.db";
    lab.bash(other).exits(3).says(
        "etcd-snapshot: other-01: its data is of member new-01, the document calls it other-01: \
         a member keeps its name: change the document back, or pass --replace-other-data to move \
         it aside, too",
    );
    let would = "etcd-snapshot: other-01: would stage a.db";
    lab.bash(&format!("{other} --check --replace-other-data")).exits(1).says(would);
    lab.bash("sed 's/new-01/other-01/' nodes.txt > other.txt").ok();
    let asked = format!("{program} --replace-other-data other.txt a.db");
    assert!(on_terminal(&lab, "no\n", &asked).exits(1).stdout.ends_with(end));
}

#[test]
fn from_a_machine_with_the_document_and_the_pki_alone_as_a_user_with_sudo_under_bash() {
    let lab = Lab::with_nodes(2);
    lab.command(&["sh", "bash", "etcd-01"]);
    lab.write("document.json", &lab.bash(&deploy("v3.5.16")).ok().stdout);
    lab.unpack("v3.5.16");
    etcdctl(&lab, "put key-1 1");
    let revision = save(&lab, "a.db");
    let keys = content(&lab).0;
    lab.on_all(&NODES[..2], "systemctl stop etcd");
    let copy = lab.disk("etcd-01", "/var/lib/etcd/member/snap/db");
    std::fs::copy(copy, lab.folder.path().join("copy.db")).unwrap();
    lab.on_all(&NODES[..2], "systemctl start etcd");
    lab.bash("rm -rf cache").ok();
    let as_admin = |line: &str| lab.bash(&format!("export ETCD_TOOLS_SSH_USER=admin; {line}"));

    // A part of the nodes would be another cluster.
    let why = "etcd-snapshot: a cluster is restored on all nodes, or on none: leave out --only and \
               --keep-going";
    for step in ["--stage", ""] {
        let only = format!("etcd-snapshot restore --only etcd-01 {step} a.db < document.json");
        as_admin(&only).exits(2).says(why);
    }
    // What etcd's user could not move is found while etcd still serves.
    lab.on("etcd-02", "chown root: /var/lib/etcd/member/wal");
    as_admin("etcd-snapshot restore --stage a.db < document.json").exits(3).says(
        "etcd-snapshot: etcd-02: /var/lib/etcd/member/wal: belongs to root, and etcd runs as etcd: \
         on this host, run: chown -R etcd: /var/lib/etcd/member",
    );
    lab.on("etcd-02", "chown -R etcd: /var/lib/etcd/member");

    // --check says what each step would do, and leaves all as it is.
    as_admin("etcd-snapshot restore --stage a.db < document.json > staged.json").ok();
    as_admin("etcd-unit stop --lose-quorum < staged.json > stopped.json").ok();
    let check = |flag: &str, code: i32, says: &str| {
        let line = format!("etcd-snapshot restore --check {flag} a.db < stopped.json");
        let expected = format!("etcd-snapshot: etcd-01: {says}\netcd-snapshot: etcd-02: {says}\n");
        let said = as_admin(&line).exits(code).stderr;
        let mut lines: Vec<_> = said.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines.join("\n") + "\n", expected);
    };
    check("", 1, "would restore a.db");
    check("--discard-old", 1, "would restore a.db and delete the data that is there now");
    // Where one could not be swapped none is, and nothing is deleted.
    lab.on(
        "etcd-02",
        "mount --bind /var/lib/etcd /var/lib/etcd; mount -o remount,ro,bind /var/lib/etcd",
    );
    as_admin("etcd-snapshot restore --discard-old a.db < stopped.json").exits(3).says(
        "etcd-snapshot: etcd-02: /var/lib/etcd: nothing can be written there: mount it read-write",
    );
    lab.on("etcd-02", "umount /var/lib/etcd");
    check("", 1, "would restore a.db");
    as_admin("etcd-snapshot restore a.db < stopped.json > swapped.json").ok();
    check("", 0, "a.db is restored already");
    let old = "a.db is restored already; would delete the old data in \
               /var/lib/etcd/before-restore-1";
    check("--discard-old", 1, old);
    as_admin("etcd-snapshot restore --discard-old a.db < stopped.json").ok();
    check("--discard-old", 0, "a.db is restored already");
    as_admin("etcd-unit start < swapped.json | etcd-health --wait").ok();
    assert_eq!(content(&lab), (keys.clone(), revision + BUMP));

    // A copy of the database is restored when that is said.
    let line = "etcd-snapshot: copy.db: no SHA-256 at its end: not a snapshot, but perhaps a copy of \
                member/snap/db: pass --no-trailer to accept it";
    as_admin("etcd-snapshot restore --stage copy.db < document.json").exits(1).says(line);
    let program = script("restore");
    as_admin(&format!("{program} --yes --no-trailer document.json copy.db")).ok();
    assert_eq!(content(&lab).0, keys);
}

/// Puts keys one after the other until that fails, and counts those that were acknowledged.
const WRITER: &str = "n=0; while ETCDCTL_API=3 ETCDCTL put w-$((n + 1)) x > /dev/null 2>&1; \
                      do n=$((n + 1)); echo $n > acknowledged; done";

#[test]
fn a_cluster_that_lost_quorum_is_recovered_from_the_survivor() {
    let lab = Lab::with_nodes(3);
    lab.write("document.json", &lab.bash(&deploy("v3.5.16")).ok().stdout);
    lab.unpack("v3.5.16");
    etcdctl(&lab, "put key-1 1");
    let recover = format!("{} --yes nodes.txt saved.db", script("recover"));
    let offline = "etcd-snapshot save --offline --from etcd-03 --to one.db < nodes.txt";
    // Nothing is done while it has quorum, or under a running etcd.
    let pids = lab.on_all(&NODES, "systemctl show -p MainPID etcd");
    let ran = lab.bash(&recover).exits(1);
    let line = "recover: the cluster has quorum: nothing is done: to start what is stopped, run \
                etcd-unit start\n";
    assert_eq!(ran.stderr, line);
    lab.bash("etcd-unit stop --quorum-is-lost nodes.txt").exits(3).says(
        "etcd-unit: etcd-03: not stopped: it is not certain that quorum is lost: etcd-01, \
         etcd-02, etcd-03 may serve",
    );
    // Nor where nobody can tell, or a variable that is meant for another use is set.
    let elsewhere = recover.replace("nodes.txt", "../nodes.txt");
    lab.bash(&format!("mkdir other && cd other && {elsewhere}"))
        .exits(3)
        .says("recover: nothing is done: whether quorum is lost has to be certain");
    for variable in ["OUTPUT=table", "ENDPOINTS=https://192.168.1.109:2379"] {
        let ran = lab.bash(&format!("ETCD_TOOLS_{variable} {recover}")).exits(1);
        assert_eq!(ran.stderr, line, "{variable}");
    }
    let ran = lab.bash(&format!("ETCD_TOOLS_ONLY=etcd-03 {recover}")).exits(2);
    let only = "recover: ETCD_TOOLS_ONLY is set, and this concerns all members: unset it\n";
    assert_eq!(ran.stderr, only);
    assert_eq!(lab.on_all(&NODES, "systemctl show -p MainPID etcd"), pids);
    // Nor where most are only stopped, or their disks are not mounted.
    lab.on_all(&NODES[..2], "systemctl stop etcd");
    let ran = lab.bash(&recover).exits(3);
    ran.says(
        "recover: nothing is done: 3 of 3 voters have their data: run etcd-unit start, or, where \
         they do not start, pass --from NODE to take what that one has",
    );
    lab.on_all(&NODES[..2], "mount -t tmpfs none /var/lib/etcd; chown etcd: /var/lib/etcd");
    lab.bash(&recover).exits(3).says(
        "etcd-snapshot: etcd-01: its member has run, and its data is not in /var/lib/etcd: mount \
         its disk, if it is only that, or pass --from NODE to save what that node has, and nothing \
         that only this one had",
    );
    lab.on_all(&NODES[..2], "umount /var/lib/etcd");
    lab.bash("etcd-unit start nodes.txt | etcd-health --wait").ok();
    assert_eq!(lab.on("etcd-03", "systemctl show -p MainPID etcd"), pids[2]);
    // A list of one whose member is stopped, while the others serve.
    lab.bash("grep etcd-03 nodes.txt > one.txt; etcd-unit stop --only etcd-03 nodes.txt").ok();
    let other = |why: &str| {
        format!(
            "member etcd-01 at https://192.168.1.100:2379 is not a node in the \
             document and {why}: it would go on beside the restored cluster: stop it, or add it \
             to the document"
        )
    };
    let served = other("still serves this cluster");
    lab.bash(&recover.replace("nodes.txt", "one.txt")).exits(3).says(&format!(
        "etcd-unit: etcd-03: not stopped: it is not certain that quorum is lost: {served}"
    ));
    lab.bash("etcd-snapshot save --to all.db nodes.txt; etcd-fetch v3.5.16 < one.txt | etcd-cert issue | etcd-render | etcd-push").ok();
    // The list is forgotten on the node; but the snapshot has it.
    let served = format!("etcd-snapshot: {served}");
    lab.bash("etcd-snapshot restore --stage all.db < one.txt").exits(3).says(&served);
    // Who cannot ask touches nothing.
    let blind = "cd other && etcd-snapshot restore --stage ../all.db < ../one.txt";
    lab.bash(blind).exits(3).says(
        "etcd-snapshot: \"https://192.168.1.102:2379\": no CA certificate is given: run this in \
         the folder that holds pki, or pass --pki or --cacert",
    );
    lab.bash("cd other && etcd-cert issue ../one.txt").ok();
    let untrusted = "TLS: the server's certificate is not signed by the given CA";
    let answers = other(&format!("still answers ({untrusted})"));
    lab.bash(blind).exits(3).says(&format!("etcd-snapshot: {answers}"));
    lab.bash(&deploy("v3.5.16")).ok();
    let pids = lab.on_all(&NODES, "systemctl show -p MainPID etcd");
    lab.bash(offline).exits(3).says(
        "etcd-snapshot: etcd-03: not saved: etcd.service is running: stop it first (etcd-unit \
         stop), or leave --offline out",
    );
    assert_eq!(lab.on_all(&NODES, "systemctl show -p MainPID etcd"), pids);

    // Two of three hosts are destroyed while a client writes.
    let line = lab
        .etcdctl(&endpoints(&lab), "")
        .replace("--endpoints", "--command-timeout 3s --endpoints");
    let writer = lab.start(&WRITER.replace("ETCDCTL ", &format!("{line} ")));
    let count = || std::fs::read_to_string(lab.folder.path().join("acknowledged"));
    let count = || count().ok().and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    wait_until("the client has written", LIMIT, || count() >= 20);
    lab.command(&["power", "off", "etcd-01"]);
    lab.command(&["power", "off", "etcd-02"]);
    writer.wait();
    let acknowledged = count();
    let survivor = &endpoints(&lab)[2..];
    let had = lab.etcdctl(survivor, "get --consistency=s --count-only --prefix w- -w fields");
    let had = lab.bash(&format!("export ETCDCTL_API=3; {had}")).ok().stdout;
    let had = had.lines().find_map(|line| line.strip_prefix("\"Count\" : ")).unwrap_or("0");
    let had: u64 = had.parse().unwrap();
    lab.command(&["reset", "etcd-01"]);
    lab.command(&["reset", "etcd-02"]);

    // Whichever way is tried names this one.
    let way = "have what a survivor has put on all nodes: `scripts/recover NODES FILE`";
    for tried in [
        "etcd-unit start nodes.txt",
        "etcd-member replace --timeout 1 etcd-01 nodes.txt",
        "etcd-snapshot save --to late.db nodes.txt",
    ] {
        let ran = lab.bash(tried);
        assert!(ran.code != 0 && ran.stderr.contains(way), "{tried}: {}", ran.stderr);
    }
    lab.bash("etcd-unit stop --quorum-is-lost --check nodes.txt")
        .exits(1)
        .says("etcd-unit: etcd-03: would stop etcd.service");

    // The data itself stays as it is, and nothing of the copy stays, whatever happens.
    lab.on("etcd-03", "systemctl stop etcd");
    let data = "cd /var/lib/etcd; find . -type f -exec sha256sum {} + | sort; ls -A; \
                systemctl list-units --all --no-legend 'etcd-tools-*'";
    let before = lab.on("etcd-03", data);
    lab.bash(&format!("{offline} --check")).exits(1);
    lab.bash(offline).ok();
    assert_eq!(lab.on("etcd-03", data), before);
    // While it is copied, and when the copy is about to serve.
    for (program, args) in [("cp", "*/member"), ("env", "*force-new-cluster*")] {
        hold(&lab, "etcd-03", program, args);
        let running = lab.start(&format!("exec {offline}"));
        wait_until("it is held", LIMIT, || lab.disk("etcd-03", HELD).exists());
        running.kill();
        lab.on("etcd-03", &format!("rm -f /usr/local/bin/{program}"));
        wait_until("nothing stays", LIMIT, || lab.on("etcd-03", data) == before);
    }
    lab.on(
        "etcd-03",
        "dd if=/dev/zero of=/var/lib/etcd/member/snap/big bs=1M count=0 seek=9000000 2>&1; \
         chown etcd: /var/lib/etcd/member/snap/big",
    );
    let full = lab.bash(offline).exits(3);
    assert!(
        full.stderr.contains(": too little space: a copy of the data takes 8.58 TiB, "),
        "{}",
        full.stderr
    );
    lab.on("etcd-03", "rm /var/lib/etcd/member/snap/big");
    lab.bash(offline).ok();
    lab.on("etcd-03", "systemctl start --no-block etcd");

    // Killed when the others have what was restored, and the survivor has its old data, it
    // goes on with what was saved.
    hold(&lab, "etcd-03", "mv", "-T -- /var/lib/etcd/member *");
    let running = lab.start(&recover);
    wait_until("it is held", LIMIT, || lab.disk("etcd-03", HELD).exists());
    wait_until("the others are restored", LIMIT, || {
        let restored = "grep -c restored /etc/etcd/etcd.member || true; ls /var/lib/etcd";
        lab.on_all(&NODES[..2], restored).iter().all(|found| {
            found.starts_with("1\n") && found.contains("etcd-restored") && found.contains("member")
        })
    });
    running.kill_all();
    lab.on("etcd-03", "rm -f /usr/local/bin/mv");
    let ran = lab.bash(&recover).ok();
    assert_eq!(etcdctl(&lab, "member list").lines().count(), 3);
    let there = etcdctl(&lab, "get --count-only --prefix w- -w fields");
    let there = there.lines().find_map(|line| line.strip_prefix("\"Count\" : ")).unwrap_or("0");
    let there: u64 = there.parse().unwrap();
    let counts =
        format!("{acknowledged} acknowledged, {had} applied by the survivor, {there} recovered");
    writeln!(std::io::stderr(), "{counts}").unwrap();
    assert!(there >= had && had > 0, "{there} of {had}\n{}", ran.stderr);
    assert_eq!(etcdctl(&lab, "get key-1"), "key-1\n1\n");

    // What systemd starts again and again, without its data, is no majority that runs.
    lab.on_all(
        &NODES[..2],
        "systemctl stop etcd; mount -t tmpfs none /var/lib/etcd; chown etcd: /var/lib/etcd; \
         systemctl start --no-block etcd",
    );
    let recover = recover.replace("saved.db", "hidden.db");
    wait_until("quorum is lost", LIMIT, || {
        lab.bash("etcd-unit stop --quorum-is-lost --check nodes.txt").code == 1
    });
    lab.bash(&recover).exits(3);
    lab.bash(&recover.replace("--yes", "--yes --from etcd-03")).ok();
    assert_eq!(etcdctl(&lab, "get key-1"), "key-1\n1\n");

    // Nor is one that ends at each start, for its database is damaged.
    lab.on_all(
        &NODES[..2],
        "systemctl kill -s KILL etcd; head -c 16384 /dev/urandom \
         | dd of=/var/lib/etcd/member/snap/db conv=notrunc 2>/dev/null",
    );
    let recover = recover.replace("hidden.db", "damaged.db");
    wait_until("quorum is lost", LIMIT, || {
        lab.bash("etcd-unit stop --quorum-is-lost --check nodes.txt").code == 1
    });
    let ran = lab.bash(&recover).exits(3);
    assert!(ran.stderr.contains(" pass --from NODE to take what that one has"), "{}", ran.stderr);
    lab.bash(&recover.replace("--yes", "--yes --from etcd-03")).ok();
    assert_eq!(etcdctl(&lab, "get key-1"), "key-1\n1\n");

    // Of a database whose log is gone the way is told, and leads out.
    lab.bash("etcd-unit stop --lose-quorum nodes.txt").ok();
    lab.on("etcd-03", "rm -r /var/lib/etcd/member/wal");
    let way = "copy its member/snap/db here, as COPY, and put that on all nodes, with the release that \
               it is of: `etcd-fetch VERSION < NODES | etcd-cert issue | etcd-render | etcd-push | \
               etcd-snapshot restore --stage --no-trailer COPY | etcd-unit stop --lose-quorum | etcd-snapshot restore COPY | \
               etcd-unit start | etcd-health --wait`";
    lab.bash(&offline.replace("one.db", "none.db")).exits(3).says(&format!(
        "etcd-snapshot: etcd-03: nothing to save: its database is in /var/lib/etcd, and there is no \
         write-ahead log in /var/lib/etcd/member/wal: mount the disk that holds it, or, if it is \
         lost: {way}"
    ));
    NODES[..2].iter().for_each(|host| drop(lab.command(&["reset", host])));
    std::fs::copy(
        lab.disk("etcd-03", "/var/lib/etcd/member/snap/db"),
        lab.folder.path().join("copy"),
    )
    .unwrap();
    let way = way.split('`').nth(1).unwrap();
    let way = way.replace("VERSION", "v3.5.16").replace("COPY", "copy");
    lab.bash(&way.replace("NODES", "nodes.txt")).ok();
    assert_eq!(etcdctl(&lab, "get key-1"), "key-1\n1\n");
}

#[test]
fn of_several_survivors_the_one_furthest_ahead_is_recovered() {
    let Some(version) = release("3.6") else { return };
    let lab = Lab::with_nodes(5);
    lab.write("document.json", &lab.bash(&deploy(&version)).ok().stdout);
    lab.unpack(&version);
    etcdctl(&lab, "put key-1 1");
    lab.on("etcd-04", "systemctl stop etcd");
    etcdctl(&lab, "put key-2 2");
    let (keys, revision) = content(&lab);
    let lost = ["etcd-01", "etcd-02", "etcd-03"];
    lost.iter().for_each(|host| drop(lab.command(&["power", "off", host])));
    lab.on("etcd-04", "systemctl start --no-block etcd");
    // Nothing is stopped before all answer.
    let recover = format!("{} --yes nodes.txt saved.db", script("recover"));
    let survivor = "systemctl show -p MainPID etcd";
    let before = lab.on("etcd-05", survivor);
    lab.bash(&recover)
        .exits(3)
        .says("recover: nothing is done: whether quorum is lost has to be certain");
    assert_eq!(lab.on("etcd-05", survivor), before);
    lost.iter().for_each(|host| drop(lab.command(&["reset", host])));
    // What cannot be written is known before anything is stopped.
    lab.bash("mkdir folder; mkfifo pipe").ok();
    for (file, why) in [
        ("pipe", "etcd-snapshot: --to: pipe: not a regular file"),
        ("folder", "recover: folder: name a file: it is read again for each node"),
        ("-", "recover: -: name a file: it is read again for each node"),
    ] {
        let ran = lab.bash(&recover.replace("saved.db", file)).exits(2);
        assert!(ran.stderr.lines().any(|line| line.starts_with(why)), "{}", ran.stderr);
    }
    // So is the data of another cluster, which may be newer.
    lab.write("one.txt", lab.read("nodes.txt").lines().next().unwrap());
    lab.bash(&deploy(&version).replace("nodes.txt", "one.txt")).ok();
    lab.on("etcd-01", "systemctl stop etcd");
    let refused = lab.bash(&recover).exits(3);
    let other = "etcd-snapshot: etcd-01: its data is of cluster ";
    let advice = ": take the wrong one out of the document, or move that data away";
    let says = |line: &str| line.starts_with(other) && line.ends_with(advice);
    assert!(refused.stderr.lines().any(says), "{}", refused.stderr);
    refused.says("recover: nothing is done: the survivors' data cannot be saved to saved.db");
    assert_eq!(lab.on("etcd-05", survivor), before);
    lab.command(&["reset", "etcd-01"]);
    // One that gives no answer may be the one that is furthest ahead.
    lab.on("etcd-05", "chmod -x /usr/local/bin/etcd");
    let refused = lab.bash(&recover);
    assert!(refused.code != 0 && !lab.folder.path().join("saved.db").exists(), "{refused:?}");
    lab.on("etcd-05", "chmod +x /usr/local/bin/etcd");
    let ran = lab.bash(&recover).ok();
    for (node, revision) in [("etcd-04", revision - 1), ("etcd-05", revision)] {
        let begin = format!("etcd-snapshot: {node}: has revision {revision} and raft term ");
        assert!(ran.stderr.lines().any(|line| line.starts_with(&begin)), "{}", ran.stderr);
    }
    let saved = format!("saved.db: saved from etcd-05: revision {revision}, ");
    assert!(ran.stderr.contains(&saved), "{}", ran.stderr);
    assert_eq!(content(&lab), (keys.clone(), revision + BUMP));
    assert_eq!(etcdctl(&lab, "member list").lines().count(), 5);

    // A learner that serves is no quorum, and etcd makes no cluster of one.
    lab.bash("etcd-member remove -q etcd-04 document.json").ok();
    lab.command(&["reset", "etcd-04"]);
    lab.bash(
        "etcd-fetch -q nodes.txt | etcd-cert issue -q | etcd-member add -q | etcd-render -q \
         | etcd-push -q | etcd-unit start -q",
    )
    .ok();
    for host in lost {
        lab.command(&["power", "off", host]);
    }
    lost.iter().for_each(|host| drop(lab.command(&["reset", host])));
    let recover = recover.replace("saved.db", "again.db");
    lab.bash(&recover).exits(3).says(
        "etcd-snapshot: etcd-04: the copy of its data did not start: panic: removed all voters: it \
         was a learner, of which etcd makes no cluster: with no other survivor, copy its \
         member/snap/db here, as COPY, and put that on all nodes, with the release that it is of: \
         `etcd-fetch VERSION < NODES | etcd-cert issue | etcd-render | etcd-push | etcd-snapshot \
         restore --stage --no-trailer COPY | etcd-unit stop --lose-quorum | etcd-snapshot restore COPY | etcd-unit \
         start | etcd-health --wait`: to go on without what it has, name another with --from",
    );
    lab.bash(&recover.replace("--yes", "--yes --from etcd-05")).ok();
    assert_eq!(content(&lab).0, keys);
    assert_eq!(etcdctl(&lab, "member list").lines().count(), 5);

    // The list may be shorter than the cluster was: most of its voters are lost all the same.
    for host in lost {
        lab.command(&["power", "off", host]);
    }
    lab.command(&["reset", "etcd-01"]);
    let three = "sed -n '1p;4,5p' nodes.txt > three.txt;";
    let recover = recover.replace("--yes nodes.txt again", "--yes --gone-for-good three.txt last");
    lab.bash(&format!("{three} {recover}")).ok();
    assert_eq!(etcdctl(&lab, "member list").lines().count(), 3);
}

#[test]
fn other_hosts_take_the_place_of_those_that_are_gone_for_good() {
    let lab = Lab::with_nodes(5);
    let nodes = lab.read("nodes.txt");
    let listed = |numbers: [usize; 3]| numbers.map(|at| nodes.lines().nth(at).unwrap()).join("\n");
    lab.write("nodes.txt", &listed([0, 1, 2]));
    lab.write("document.json", &lab.bash(&deploy("v3.5.16")).ok().stdout);
    lab.unpack("v3.5.16");
    etcdctl(&lab, "put key-1 1");
    save(&lab, "saved.db");
    let before = std::fs::read(lab.folder.path().join("saved.db")).unwrap();
    etcdctl(&lab, "put key-2 2");
    for host in ["etcd-02", "etcd-03"] {
        lab.command(&["power", "off", host]);
    }
    lab.write("nodes.txt", &listed([0, 3, 4]));
    let recover = format!("{} --yes nodes.txt saved.db", script("recover"));
    lab.bash(&recover).exits(3).says(
        "etcd-unit: etcd-01: not stopped: it is not certain that quorum is lost: etcd-02, etcd-03 \
         may serve: pass --gone-for-good if those that are not in the document will never run again",
    );
    // What is meant for other uses of the tools changes nothing, and no file is lost.
    let recover = recover.replace("--yes", "--yes --gone-for-good");
    let others = "ETCD_TOOLS_STAGE=1 ETCD_TOOLS_FROM=etcd-04 ETCD_TOOLS_UNIT=ssh.service";
    lab.bash(&format!("{others} {recover}"))
        .ok()
        .says("recover: what was in saved.db is kept as saved.db.before-1");
    let kept = std::fs::read(lab.folder.path().join("saved.db.before-1")).unwrap();
    assert!(kept == before);
    lab.write("document.json", &lab.bash(&deploy("v3.5.16")).ok().stdout);
    assert_eq!(etcdctl(&lab, "get --prefix key-"), "key-1\n1\nkey-2\n2\n");
    assert_eq!(etcdctl(&lab, "member list").lines().count(), 3);

    // Hosts that have nothing: refused with what goes first, which then works as the README
    // has it.
    for host in ["etcd-02", "etcd-03"] {
        lab.command(&["reset", host]);
    }
    let two: Vec<_> = nodes.lines().skip(1).take(2).collect();
    lab.write("nodes.txt", &two.join("\n"));
    let restore = format!("{} --yes nodes.txt saved.db", script("restore"));
    lab.bash(&restore).exits(3).says(
        "etcd-snapshot: etcd-02: user etcd: no such user: run etcd-push first, or where others \
         have deployed etcd, set user, dataDir and binDir in the document as it has them; where a \
         cluster serves that this node is no member of, leave it out, and add it afterwards with \
         scripts/grow",
    );
    let block = restore_of_bare_hosts();
    let (pushed, _) = block.split_once("\\\n").expect("two lines");
    lab.bash(pushed.trim_end_matches([' ', '|'])).ok();
    lab.bash(&restore).exits(3).says(
        "etcd-snapshot: etcd-02: there is no unit etcd.service on the node, nor in the document: \
         what is restored would not be started: put etcd-fetch, etcd-cert issue, etcd-render and \
         etcd-push before this tool",
    );
    lab.write("document.json", &lab.bash(&format!("snapshot=saved.db\n{block}")).ok().stdout);
    assert_eq!(etcdctl(&lab, "get --prefix key-"), "key-1\n1\nkey-2\n2\n");
    assert_eq!(etcdctl(&lab, "member list").lines().count(), 2);

    // These are two clusters now: a snapshot of the one is not restored on the other unless
    // that is said.
    lab.write("others.txt", &listed([0, 3, 4]));
    lab.bash("etcd-snapshot save -q --to others.db others.txt").ok();
    let url = |at: usize| format!("https://192.168.1.10{at}:2380");
    let members = format!("etcd-01 at {}, etcd-04 at {}, etcd-05 at {}", url(0), url(3), url(4));
    let stage = "etcd-snapshot restore --stage --check others.db nodes.txt";
    lab.bash(stage).exits(3).says(&format!(
        "etcd-snapshot: others.db: it is of another cluster, with the members {members}, and none \
         of them is one of that on the nodes: name a snapshot of this cluster, or pass \
         --replace-other-data to move its data aside"
    ));
    lab.bash(&stage.replace("--stage", "--stage --replace-other-data")).exits(1);
    lab.write("mixed.txt", &listed([0, 1, 2]));
    for command in ["list", "add", "remove etcd-01", "replace etcd-01", "promote"] {
        let ran = lab.bash(&format!("etcd-member {command} mixed.txt")).exits(3);
        let why = "the endpoints are of different clusters: etcd-01 ";
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }

    // What runs outside of etcd's unit is found before anything is stopped.
    lab.on(
        "etcd-03",
        "systemctl stop etcd; systemd-run -q --unit=by-hand -p User=etcd \
         -p EnvironmentFile=/etc/etcd/etcd.conf /usr/local/bin/etcd",
    );
    lab.bash("etcd-health -q --wait < nodes.txt").ok();
    let again = restore.replace("--yes", "--yes --again");
    let ran = lab.bash(&again).exits(3);
    let open = ran.stderr.lines().find(|line| line.contains(" has its data open")).unwrap();
    assert!(open.starts_with("etcd-snapshot: etcd-03: not restored: process "), "{open}");
    assert!(open.ends_with(" and is not of etcd.service: stop it first"), "{open}");
    lab.bash("etcd-health -q nodes.txt").ok();
    // What was moved to a disk that is gone, and left as a link, is there, too.
    lab.on(
        "etcd-03",
        "systemctl stop by-hand; systemctl start --no-block etcd; \
         for at in 1 2; do ln -sfn /gone /var/lib/etcd/before-restore-$at; done",
    );
    lab.bash("etcd-health -q --wait < nodes.txt").ok();
    lab.bash(&again).ok();
    assert_eq!(etcdctl(&lab, "get --prefix key-"), "key-1\n1\nkey-2\n2\n");
}

/// Is there when a process is held.
const HELD: &str = "/var/tmp/held";

/// Has `program` wait on `host`, for good, when its arguments are like `pattern`, whoever
/// runs it.
fn hold(lab: &Lab, host: &str, program: &str, pattern: &str) {
    lab.on(
        host,
        &format!(
            "rm -f {HELD}; cat > /usr/local/bin/{program} <<'E'\n#!/bin/sh\ncase \"$*\" in \
             {}) /usr/bin/touch {HELD}; /usr/bin/sleep 1000 ;; esac\n\
             exec /usr/bin/{program} \"$@\"\nE\nchmod 755 /usr/local/bin/{program}",
            pattern.replace(' ', "\\ ")
        ),
    );
}

/// At how many points the work on a node was interrupted.
#[derive(Debug, Default)]
struct Interrupted {
    kills: usize,
    cuts: usize,
}

impl Interrupted {
    /// Starts `tool`, and when it has come to the program of `points` on each node, with
    /// arguments like the pattern, kills it with -9, and cuts the power of one of the nodes.
    fn interrupt(&mut self, lab: &Lab, tool: &str, points: [(&str, &str); 3], cut: bool) {
        for (host, (program, pattern)) in NODES.iter().zip(points) {
            hold(lab, host, program, pattern);
        }
        let mut running = lab.start(&format!("exec {tool}"));
        let held = |host: &&str| lab.disk(host, HELD).exists();
        wait_until(&format!("{points:?}"), LIMIT, || {
            NODES.iter().all(held) || !running.is_running()
        });
        assert!(running.is_running(), "{points:?}: {}", running.wait().stderr);
        // What waits goes on waiting.
        lab.on_all(&NODES, "/usr/bin/rm -f /usr/local/bin/*");
        let host = NODES[self.cuts % 3];
        if cut {
            lab.command(&["power", "off", host]);
        }
        running.kill();
        if cut {
            lab.command(&["power", "on", host]);
        }
        self.cuts += usize::from(cut);
        self.kills += 3 - usize::from(cut);
    }
}

/// What the mark of a member says whose log has a folder of its own.
fn mark(word: &str) -> String {
    format!("{word}\n/var/lib/etcd\n/srv/log/wal\n")
}
