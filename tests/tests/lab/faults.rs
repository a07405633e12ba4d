//! Hosts, networks, disks and files that fail in the middle of the work.

use std::fs;
use std::time::{Duration, Instant};

use pipeline::{Severity, ToolResult};
use tests::{Lab, Ran, deploy, guide, release, wait_until};

use crate::writer::{Writer, all_is_kept};

const NODES: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];

/// What the tools put on a node: every file, and what runs.
const STATE: &str = "find /etc/etcd /etc/systemd /usr/local /var/lib/etcd ! -type d ! -name .full \
                     -exec stat -c '%n %z %s %a %U' {} + 2>/dev/null; \
                     systemctl is-active etcd; true";
/// What no run may leave on a node. It prints nothing.
const LEFTOVERS: &str = "find /etc /usr/local /var /srv /root -name '.*etcd-tools*'; \
                         pgrep -f '[e]tcd-tools-begin'; \
                         flock -n /run/etcd-tools.lock true || echo locked";
const GONE: &str =
    "whether the work on the host ended is not known: once it is reachable, run again";
const MINUTE: Duration = Duration::from_secs(60);
/// Longer than three keepalives and an attempt to connect; a frozen host must not cost more.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The errors of the document's nodes: node and code.
fn errors(ran: &Ran) -> Vec<(String, String)> {
    let errors = ran.document().results.into_iter().filter(|r| r.severity == Severity::Error);
    errors.map(|r: ToolResult| (r.node.unwrap_or_default(), r.code)).collect()
}

fn error(node: &str, code: &str) -> (String, String) {
    (node.into(), code.into())
}

/// The lines of `stderr` about `node`, without the details under them.
fn lines<'a>(stderr: &'a str, node: &str) -> Vec<&'a str> {
    stderr.lines().filter(|line| line.split(": ").nth(1) == Some(node)).collect()
}

/// Asserts that nothing on `nodes` is another than it was `before` (see [`STATE`]).
#[track_caller]
fn unchanged(lab: &Lab, nodes: &[&str], before: &[String]) {
    for ((node, before), after) in nodes.iter().zip(before).zip(lab.on_all(nodes, STATE)) {
        let new: Vec<_> = after.lines().filter(|line| !before.contains(line)).collect();
        assert!(new.is_empty() && after.len() == before.len(), "{node}: {new:?}");
    }
}

/// Up to the document that etcd-push reads.
fn render() -> String {
    let version = guide();
    format!("etcd-fetch {version} < nodes.txt | etcd-cert issue | etcd-render > render.json")
}

#[track_caller]
fn converges(lab: &Lab, nodes: &[&str]) {
    let ran = lab.bash(&deploy(guide())).ok();
    assert!(ran.document().health.is_some_and(|health| health.healthy), "{}", ran.stdout);
    for (node, left) in nodes.iter().zip(lab.on_all(nodes, LEFTOVERS)) {
        assert_eq!(left, "", "{node}");
    }
}

#[test]
fn hosts_that_cannot_be_reached() {
    let lab = Lab::with_nodes(3);
    lab.bash(&render()).ok();
    lab.command(&["cable", "pull", "etcd-02"]);
    // As long as this machine remembers the host's hardware address, it is a time-out.
    let forget = "ip neigh flush dev lab0";
    let pushed = lab.bash(&format!("{forget}; etcd-push < render.json | tee push.json")).exits(3);
    let unreachable = "etcd-push: etcd-02: cannot connect: connect to host 192.168.1.101 port 22: \
                       No route to host";
    assert_eq!(lines(&pushed.stderr, "etcd-02"), [unreachable]);
    for node in ["etcd-01", "etcd-03"] {
        let done = format!(
            "created user etcd, created 3 folders, installed release {}, wrote 6 files",
            guide()
        );
        assert_eq!(lines(&pushed.stderr, node), [format!("etcd-push: {node}: {done}")]);
    }
    assert_eq!(errors(&pushed), [error("etcd-02", "unreachable")]);

    // The stages that follow leave the others alone, too.
    let before = lab.on_all(&["etcd-01", "etcd-03"], STATE);
    let rest = lab.bash("etcd-unit start < push.json | etcd-health --wait").exits(66);
    assert_eq!(
        rest.stderr,
        "etcd-unit: nothing done: etcd-push failed on etcd-02 (unreachable)\n\
         etcd-health: nothing done: etcd-push failed on etcd-02 (unreachable)\n"
    );
    assert_eq!(rest.stdout, lab.read("push.json"));
    unchanged(&lab, &["etcd-01", "etcd-03"], &before);

    // Not even if the user wants it: nobody knows whether etcd-02 has data.
    let rest = lab.bash("etcd-unit start --keep-going < push.json > start.json");
    let why = "/var/lib/etcd is empty, and etcd-02 did not answer: a new cluster is made only \
               when every node has answered, and none has data";
    rest.exits(3)
        .says(&format!("etcd-unit: etcd-01: {why}"))
        .says(&format!("etcd-unit: etcd-03: {why}"));

    // With nothing left to reach, a retry may help.
    lab.command(&["power", "off", "etcd-03"]);
    lab.command(&["cable", "pull", "etcd-01"]);
    // With connections of its own: what becomes of old ones is tested below.
    let push = "XDG_RUNTIME_DIR=$PWD etcd-push < render.json";
    let pushed = lab.bash(&format!("{forget}; {push}")).exits(69);
    assert_eq!(errors(&pushed), NODES.map(|node| error(node, "unreachable")));
    let table = lab.bash("XDG_RUNTIME_DIR=$PWD etcd-unit status -o table < render.json").exits(69);
    let row = |node| format!("{node}  -     unknown  -    -        -    -");
    let rows: Vec<_> = table.stdout.lines().skip(1).map(str::trim_end).collect();
    assert_eq!(rows, NODES.map(row));

    // A host on which etcd waits for the others has not booted before they are there.
    for node in ["etcd-01", "etcd-02"] {
        lab.command(&["cable", "plug", node]);
    }
    lab.command(&["power", "on", "etcd-03"]);
    converges(&lab, &NODES);
}

#[test]
fn hosts_that_go_away_during_a_push() {
    let lab = Lab::with_nodes(3);
    lab.bash(&render()).ok();
    let start = Instant::now();
    let push = lab.start("etcd-push < render.json");
    for node in ["etcd-02", "etcd-03"] {
        wait_until("the release is on its way", MINUTE, || {
            let folder = lab.disk(node, "/usr/local/lib/etcd-tools");
            let staged = fs::read_dir(folder).into_iter().flatten().flatten();
            let mut archives =
                staged.filter_map(|entry| fs::metadata(entry.path().join("archive")).ok());
            archives.any(|archive| archive.len() > 100_000)
        });
    }
    lab.command(&["cable", "pull", "etcd-02"]);
    lab.command(&["freeze", "etcd-03"]);
    let pushed = push.wait().exits(3);
    assert!(start.elapsed() < KEEPALIVE, "{:?}", start.elapsed());
    let lost = [error("etcd-02", "connection-lost"), error("etcd-03", "connection-lost")];
    assert_eq!(errors(&pushed), lost, "{}", pushed.stderr);
    for node in ["etcd-02", "etcd-03"] {
        let line = format!("etcd-push: {node}: connection lost: {GONE}");
        assert_eq!(lines(&pushed.stderr, node), [line]);
        assert!(!lab.disk(node, "/etc/etcd/etcd.conf").exists());
    }
    assert_eq!(lines(&pushed.stderr, "etcd-01").len(), 1);

    lab.command(&["cable", "plug", "etcd-02"]);
    lab.command(&["thaw", "etcd-03"]);
    converges(&lab, &NODES);
}

#[test]
fn hosts_that_go_away_during_a_start() {
    let lab = Lab::with_nodes(3);
    lab.bash(&format!("{}; etcd-push < render.json > push.json", render())).ok();

    // The first start, all members at once.
    let start = lab.start("etcd-unit start < push.json");
    wait_until("etcd has made its data on etcd-03", MINUTE, || {
        lab.disk("etcd-03", "/var/lib/etcd/member").exists()
    });
    lab.command(&["power", "off", "etcd-03"]);
    let started = start.wait().exits(3);
    assert_eq!(errors(&started), [error("etcd-03", "connection-lost")]);
    let done = "installed, enabled and started etcd.service";
    assert_eq!(lines(&started.stderr, "etcd-01"), [format!("etcd-unit: etcd-01: {done}")]);

    // Nobody waits for it longer than was said.
    let health = lab.bash("etcd-health --wait 2 < push.json").exits(1);
    assert_eq!(errors(&health)[0], error("etcd-03", "unhealthy"));
    let health = lab.start("etcd-health --wait 60 < push.json");
    lab.command(&["power", "on", "etcd-03"]);
    health.wait().ok();
    converges(&lab, &NODES);

    // A rolling restart stops when a host goes away.
    lab.bash(
        "jq '.cluster.settings.heartbeatIntervalMs = 120' render.json | etcd-render \
         | etcd-push > push.json",
    )
    .ok();
    let restart = lab.start("etcd-unit start --timeout 10 < push.json 2> said");
    let said = || fs::read_to_string(lab.folder.path().join("said")).unwrap_or_default();
    let done = |node: &str| said().contains(&format!("etcd-unit: {node}: restarted etcd.service"));
    wait_until("a member was restarted", MINUTE, || NODES.into_iter().any(done));
    let rest: Vec<_> = NODES.into_iter().filter(|node| !done(node)).collect();
    lab.command(&["power", "off", rest[0]]);
    let restart = restart.wait().exits(3);
    // When it goes is not known to the millisecond: the other may be restarting, or
    // still to come. None is restarted after that.
    let (stopped, said) = (errors(&restart), said());
    assert_eq!(
        stopped.iter().map(|(node, _)| node).collect::<Vec<_>>(),
        rest.iter().collect::<Vec<_>>()
    );
    for (node, code) in &stopped {
        let begins: &[&str] = match code.as_str() {
            // The other may have lost its leader with the host, too.
            "restart-failed" => &[
                "etcd.service was restarted and is not back: ",
                "etcd.service is not ready after 10 s: ",
                "connection lost: ",
            ],
            _ => &["etcd.service not restarted: "],
        };
        let found = lines(&said, node);
        let last = found.last().and_then(|line| line.strip_prefix(&format!("etcd-unit: {node}: ")));
        assert!(begins.iter().any(|begin| last.is_some_and(|l| l.starts_with(begin))), "{said}");
    }
    assert!(stopped.iter().any(|(_, code)| code != "restart-failed"), "{said}");

    // Back again, and the rest is done.
    lab.command(&["power", "on", rest[0]]);
    lab.bash("etcd-unit start < push.json | etcd-health --wait").ok();
    let status = lab.bash("etcd-unit status < push.json").ok();
    for node in NODES {
        let line = format!("etcd-unit: {node}: etcd.service is active (running)");
        assert_eq!(lines(&status.stderr, node), [line]);
    }
}

#[test]
fn disks_that_take_nothing() {
    let Some(newer) = release("3.5") else { return };
    let nodes = ["etcd-01", "etcd-02", "etcd-03", "etcd-04", "etcd-05"];
    let lab = Lab::with_nodes(5);
    let fetched = |version: &str, name: &str| {
        format!("etcd-fetch {version} < nodes.txt | etcd-cert issue --san {name} | etcd-render")
    };
    lab.bash(&format!("{} | etcd-push", fetched(guide(), "old"))).ok();

    // Other certificates and another release, and each disk fails in its own way.
    lab.bash(&format!("{} > render.json", fetched(&newer, "new"))).ok();
    let faults = [
        ("full", "/etc/etcd/ssl"),
        ("full", "/usr/local"),
        ("readonly", "/etc"),
        ("readonly", "/usr/local"),
        ("full", "/var/lib/etcd"),
    ];
    for (node, (fault, folder)) in nodes.iter().zip(faults) {
        lab.command(&["disk", fault, node, folder]);
    }
    let before = lab.on_all(&nodes, STATE);
    let pushed = lab.bash("etcd-push < render.json").exits(3);
    let release = release_folder(&pushed);
    let expected = [
        "/etc/etcd/ssl/server.crt: writing: No space left on device".to_owned(),
        format!("{release}: writing: No space left on device"),
        "/etc/etcd/ssl/.etcd-tools: making the folder: Read-only file system".to_owned(),
        "/usr/local/bin/.etcd-tools: making the folder: Read-only file system".to_owned(),
        format!("installed release {newer}, wrote 4 files"),
    ];
    for (node, expected) in nodes.iter().zip(expected) {
        assert_eq!(lines(&pushed.stderr, node), [format!("etcd-push: {node}: {expected}")]);
    }
    assert_eq!(errors(&pushed), [0, 1, 2, 3].map(|at| error(nodes[at], "command-failed")));
    assert_eq!(lab.on_all(&nodes, LEFTOVERS), [""; 5]);
    unchanged(&lab, &nodes[..4], &before);

    // etcd itself finds its disk full; the others are a quorum.
    for (node, (fault, folder)) in nodes.iter().zip(faults).take(4) {
        let undo = if fault == "full" { "free" } else { "writable" };
        lab.command(&["disk", undo, node, folder]);
    }
    let started = lab.bash("etcd-push < render.json | etcd-unit start").exits(3);
    assert_eq!(
        lines(&started.stderr, "etcd-05")[1],
        "etcd-unit: etcd-05: etcd.service did not start: it is activating (auto-restart): \
         failed to open database: write /var/lib/etcd/member/snap/db: no space left on device"
    );
    assert_eq!(errors(&started), [error("etcd-05", "not-started")]);
    lab.command(&["disk", "free", "etcd-05", "/var/lib/etcd"]);
    lab.bash("etcd-push < render.json | etcd-unit start | etcd-health --wait").ok();
    assert_eq!(lab.on_all(&nodes, LEFTOVERS), [""; 5]);

    // A member whose disk takes nothing serves, and is not restarted into what it cannot do.
    for (fault, undo, why, looked) in [
        (
            "full",
            "free",
            "has 0 MiB free, and etcd takes 64 MiB whenever it starts: it would not come back: \
             make room first",
            "etcd-preflight: etcd-05: /var/lib/etcd/member/wal: writing 253000 bytes failed: nor \
             could etcd write its log there",
        ),
        (
            "readonly",
            "writable",
            "is mounted read-only: it would not come back: repair the disk first",
            "etcd-preflight: etcd-05: /var/lib/etcd, /var/lib/etcd/member/wal cannot be written \
             to: the disk is mounted read-only: look for its errors with `dmesg`, repair it, and \
             mount it again",
        ),
    ] {
        let pid = lab.on("etcd-05", "systemctl show etcd -p MainPID");
        lab.command(&["disk", fault, "etcd-05", "/var/lib/etcd"]);
        for check in ["", "--check"] {
            lab.bash(&format!("etcd-unit restart --only etcd-05 {check} nodes.txt"))
                .exits(3)
                .says(&format!("etcd-unit: etcd-05: not restarted: /var/lib/etcd {why}"));
        }
        // Nor is any other, as it may fail at any time.
        let before = lab.on_all(&nodes, "systemctl show etcd -p MainPID");
        lab.bash("etcd-unit restart nodes.txt").exits(3).says(&format!(
            "etcd-unit: etcd-02: not restarted: etcd-05 may fail at any time: /var/lib/etcd {why}"
        ));
        lab.bash("etcd-unit stop --only etcd-02 nodes.txt").exits(3).says(&format!(
            "etcd-unit: etcd-02: not stopped: etcd-05 may fail at any time: /var/lib/etcd {why}, or \
             pass --lose-quorum to proceed"
        ));
        assert_eq!(lab.on_all(&nodes, "systemctl show etcd -p MainPID"), before);
        assert_eq!(lab.on("etcd-05", "systemctl show etcd -p MainPID"), pid);
        lab.bash("etcd-preflight -q --only etcd-05 nodes.txt").exits(3).says(looked);
        lab.command(&["disk", undo, "etcd-05", "/var/lib/etcd"]);
    }

    // A disk that fills while clients write: that member stops, and no write is lost.
    let writer = Writer::start(&lab, 1_000_000);
    lab.command(&["disk", "full", "etcd-05", "/var/lib/etcd"]);
    let put = "yes | head -c 200000 | base64 -w 0 > value
        echo '{\"key\": \"ZmlsbA==\", \"value\": \"'$(cat value)'\"}' > put.json
        curl -sf --cacert pki/ca.crt --cert pki/client.crt --key pki/client.key \
            https://192.168.1.100:2379/v3/kv/put -d @put.json";
    let full = "journalctl -u etcd -o cat --since \"$(cat /tmp/since)\" \
                | grep -c 'no space left on device' || true";
    lab.on("etcd-05", "date '+%F %T' > /tmp/since");
    wait_until("etcd-05 stops", Duration::from_secs(120), || {
        lab.bash(put).ok();
        lab.on("etcd-05", full) != "0\n"
    });
    wait_until("etcd-health says so", Duration::from_secs(120), || {
        let ran = lab.bash("etcd-health -q < render.json");
        ran.code == 1 && lines(&ran.stderr, "etcd-05").len() == 1
    });
    writer.stop();
    all_is_kept(&lab);
    lab.command(&["disk", "free", "etcd-05", "/var/lib/etcd"]);
    lab.bash("etcd-unit start -q < render.json | etcd-health --wait").ok();
}

/// Where the release of the document goes on a node.
fn release_folder(ran: &Ran) -> String {
    let release = ran.document().release.unwrap();
    let short = &release.archives[0].sha256[..8];
    format!("/usr/local/lib/etcd-tools/{}-{short}", release.version)
}

#[test]
fn archives_and_files_that_are_not_what_they_should_be() {
    let lab = Lab::with_nodes(3);
    let version = guide();
    let name = &format!("etcd-{version}-linux-amd64.tar.gz");
    lab.bash(&format!("mkdir mirror; cp -r $ETCD_TOOLS_MIRROR/{version} mirror/")).ok();
    let flip = |file: &str| {
        lab.bash(&format!("printf x | dd of={file} bs=1 seek=1000 conv=notrunc status=none")).ok();
    };

    // On the mirror: a flipped byte, then a missing end.
    let published = format!("mirror/{version}/{name}");
    flip(&published);
    for _ in 0..2 {
        let deploy = deploy(guide()).replace("etcd-fetch", "etcd-fetch --mirror mirror");
        let ran = lab.bash(&format!("{deploy} > ended; echo ${{PIPESTATUS[@]}}"));
        assert_eq!(ran.stdout, "3 66 66 66 66 66\n");
        let sums = lab.bash(&format!("sha256sum {published}; cat mirror/{version}/SHA256SUMS"));
        let sums: Vec<_> = sums.stdout.split_whitespace().step_by(2).map(str::to_owned).collect();
        ran.says(&format!(
            "etcd-fetch: {published}: SHA-256 is {}, expected {}: damaged or tampered with: \
             discarded",
            sums[0], sums[1]
        ))
        .says("etcd-push: nothing done: etcd-fetch failed (failed)");
        assert!(!lab.folder.path().join("cache").join(version).join(name).exists());
        lab.bash(&format!("cp $ETCD_TOOLS_MIRROR/{version}/{name} mirror/{version}/")).ok();
        lab.bash(&format!("truncate -s -1000 {published}")).ok();
    }
    let touched =
        "ls -d /etc/etcd /usr/local/lib/etcd-tools 2>/dev/null; id -u etcd 2>/dev/null; true";
    assert_eq!(lab.on_all(&NODES, touched), ["", "", ""]);

    // On the way from etcd-fetch to the nodes.
    lab.bash(&render()).ok();
    let cached = lab.folder.path().join("cache").join(version).join(name).display().to_string();
    lab.bash(&format!("cp {cached} whole")).ok();
    let before = lab.on_all(&NODES, STATE);
    flip(&cached);
    let pushed = lab.bash("etcd-push < render.json").exits(3);
    let size = fs::metadata(&cached).unwrap().len();
    for node in NODES {
        let why = format!(
            "{}: what arrived does not have the SHA-256 of the document: {size} of {size} bytes",
            release_folder(&pushed)
        );
        assert_eq!(lines(&pushed.stderr, node), [format!("etcd-push: {node}: {why}")]);
    }
    assert_eq!(lab.on_all(&NODES, LEFTOVERS), ["", "", ""]);
    let other = "not what the document says it is: build the document again";
    let cert = lab.folder.path().join("pki/nodes/etcd-02/server.crt").display().to_string();
    for (change, why) in [
        (format!("cp whole {cached}; echo >> {cached}"), format!("{cached}: {other}")),
        (
            format!("rm {cached}"),
            format!(
                "{cached}: opening: No such file or directory (os error 2): run etcd-fetch again"
            ),
        ),
        (
            format!("cp whole {cached}; echo >> {cert}"),
            format!("etcd-02: /etc/etcd/ssl/server.crt: {cert}: {other}"),
        ),
    ] {
        lab.bash(&change).ok();
        let pushed = lab.bash("etcd-push < render.json").exits(65);
        assert_eq!(pushed.stderr, format!("etcd-push: {why}\n"));
    }
    // A large file of one's own, too, before any of it is sent.
    lab.bash(
        "head -c 100000 /dev/zero > big; jq '.nodes[0].files += [{path: \"/srv/big\", local: \
         \"big\", sha256: (\"0\" * 64)}]' render.json > big.json",
    )
    .ok();
    for check in ["", "--check"] {
        let pushed = lab.bash(&format!("etcd-push {check} < big.json")).exits(65);
        let begin = format!("etcd-push: etcd-01: /srv/big: big: {other}");
        assert!(pushed.stderr.starts_with(&begin), "{}", pushed.stderr);
    }
    unchanged(&lab, &NODES, &before);

    // An archive for another architecture never leaves this machine, and a host may
    // lack what it takes to unpack one.
    lab.on("etcd-01", "mv /usr/bin/flock /root");
    lab.on("etcd-03", "mv /usr/bin/tar /root");
    lab.bash(&format!(
        "cd mirror/{version}; rm *; cp ../../whole {name}; \
         tar -xzf {name}; mv etcd-{version}-linux-amd64 etcd-{version}-linux-arm64; \
         tar -czf etcd-{version}-linux-arm64.tar.gz etcd-{version}-linux-arm64; \
         rm -r etcd-{version}-linux-arm64; sha256sum * > SHA256SUMS"
    ))
    .ok();
    let pushed = lab.bash(&format!(
        "etcd-cert issue < nodes.txt | jq '.nodes[1].arch = \"arm64\"' \
         | etcd-fetch {version} --mirror mirror | etcd-render | etcd-push"
    ));
    let pushed = pushed.exits(3).says(
        "etcd-push: etcd-02: its architecture is x86_64, not arm64: \
         set the node's arch in the document",
    );
    let pushed = pushed.says("etcd-push: etcd-01: flock: not found: install util-linux");
    // The third, which it would fit, is left alone.
    let failed = ["etcd-01", "etcd-02"].map(|node| error(node, "command-failed"));
    assert_eq!(errors(&pushed), failed);
    unchanged(&lab, &NODES, &before);
    lab.bash(&format!(
        "etcd-cert issue < nodes.txt | etcd-fetch {version} | etcd-render | etcd-push --only etcd-03"
    ))
    .exits(3)
    .says("etcd-push: etcd-03: tar: not found: install it to unpack what is sent");
    unchanged(&lab, &NODES, &before);
}

#[test]
fn members_that_do_not_start() {
    let lab = Lab::with_nodes(3);
    lab.bash(&format!("{}; etcd-push < render.json > push.json", render())).ok();

    // One of three, the others are off: whether they have data is not known. Again
    // with connections of its own.
    for node in ["etcd-02", "etcd-03"] {
        lab.command(&["power", "off", node]);
    }
    let start = "XDG_RUNTIME_DIR=$PWD etcd-unit start --timeout 5 < push.json";
    let started = lab.bash(&format!("ip neigh flush dev lab0; {start}"));
    let started = started.exits(3).says(
        "etcd-unit: etcd-01: /var/lib/etcd is empty, and etcd-02 did not answer: a new cluster \
         is made only when every node has answered, and none has data",
    );
    let expected = [
        error("etcd-01", "mismatch"),
        error("etcd-02", "unreachable"),
        error("etcd-03", "unreachable"),
    ];
    assert_eq!(errors(&started), expected);
    for node in ["etcd-02", "etcd-03"] {
        lab.command(&["power", "on", node]);
    }
    converges(&lab, &NODES);

    // A setting that only etcd refuses: its error, the last lines of its journal, and no
    // word on the others but that they run.
    let broken = lab.bash(
        "jq '.nodes[1].settings.env.ETCD_LOG_OUTPUTS = \"default,stderr\"' render.json \
         | etcd-render | etcd-push | etcd-unit start",
    );
    let broken = broken.exits(3);
    let why = "multi logoutput for \"default\" is not supported yet";
    let line = format!(
        "etcd-unit: etcd-02: etcd.service did not start: it is activating (auto-restart): \
         failed to verify flags: {why}\n    "
    );
    assert!(broken.stderr.contains(&line), "{}", broken.stderr);
    assert!(broken.stderr.ends_with("\n    Failed to start etcd.service - etcd.\n"));
    assert_eq!(errors(&broken), [error("etcd-02", "restart-failed")]);
    for node in ["etcd-01", "etcd-03"] {
        let line = format!("etcd-unit: {node}: etcd.service running as configured");
        assert_eq!(lines(&broken.stderr, node).last(), Some(&line.as_str()));
    }
    converges(&lab, &NODES);

    // Data that was lost.
    lab.on("etcd-02", "systemctl stop etcd; rm -rf /var/lib/etcd/member");
    lab.bash("etcd-unit start < push.json").exits(3).says(
        "etcd-unit: etcd-02: its data is lost: there is no write-ahead log in \
         /var/lib/etcd/member/wal, and it has run with one: mount the disk that holds it, or \
         replace the member: `scripts/replace-member NODES etcd-02`",
    );
}
