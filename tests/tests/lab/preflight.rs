//! `etcd-preflight`: each of its checks fails for real, and says so with its exact line.

use std::time::Duration;

use tests::{Lab, Ran, release, wait_until};

const HOSTS: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];

/// What a lab's hosts lack on any machine: a large disk, a clock of their own, speed.
const QUIET: &str = "etcd-preflight -q --skip disk-latency --skip disk-space --skip time-sync --skip clock \
     --skip round-trip";

/// What `ran` wrote to stderr is exactly `lines`.
#[track_caller]
fn says(ran: &Ran, lines: &[&str]) {
    let expected: String = lines.iter().map(|line| format!("etcd-preflight: {line}\n")).collect();
    assert_eq!(ran.stderr, expected);
}

/// A line of `ran` begins with `start` and ends with `end`; what is between was measured.
#[track_caller]
fn says_between(ran: &Ran, start: &str, end: &str) {
    let fits = |line: &str| line.starts_with(start) && line.ends_with(end);
    assert!(ran.stderr.lines().any(fits), "no {start:?} … {end:?} in:\n{}", ran.stderr);
}

#[test]
fn hosts_that_are_not_fit() {
    let lab = Lab::with_nodes(3);
    // As they are, nothing stops a deployment; and nothing is left behind.
    let traces = "find / -xdev -newer /run/before 2>/dev/null | grep etcd; true";
    lab.on_all(&HOSTS, "touch /run/before");
    let first = lab.bash("etcd-preflight < nodes.txt").ok();
    assert!(first.document().results.iter().any(|result| result.code == "passed"));
    for found in lab.on_all(&HOSTS, traces) {
        assert_eq!(found, "");
    }

    // A disk for the binaries that takes nothing.
    lab.command(&["disk", "readonly", "etcd-03", "/usr/local"]);
    lab.bash("etcd-preflight -q --skip disk-latency --only etcd-03 nodes.txt").exits(3).says(
        "etcd-preflight: etcd-03: /usr/local/bin, /usr/local/lib cannot be written to: the disk is \
         mounted read-only: look for its errors with `dmesg`, repair it, and mount it again",
    );
    lab.command(&["disk", "writable", "etcd-03", "/usr/local"]);
    // A host that is off, and not asked about, is no blocked port.
    lab.command(&["power", "off", "etcd-02"]);
    let ran = lab.bash("etcd-preflight -q --skip disk-latency --only etcd-01 nodes.txt").ok();
    let start = "etcd-preflight: etcd-01: warning: port 2380 of etcd-02 (192.168.1.101): ";
    says_between(&ran, start, ": its host does not answer over ssh either: bring it back");
    lab.command(&["power", "on", "etcd-02"]);

    lab.on(
        "etcd-01",
        "sed 's/^MemTotal:.*/MemTotal: 1000000 kB/' /proc/meminfo > /run/memory
         mount --bind /run/memory /proc/meminfo
         printf 'Filename Type Size Used Priority\\n/swap file 2000000 0 -2\\n' > /run/swaps
         mount --bind /run/swaps /proc/swaps
         echo 4096 > /run/files
         mount --bind /run/files /proc/sys/fs/nr_open
         mkdir -p /run/security/apparmor
         echo '/usr/local/bin/etcd (enforce)' > /run/security/apparmor/profiles
         mount --bind /run/security /sys/kernel/security
         printf '#!/bin/sh\\n[ \"$1\" != -r ] || exec echo 2.6.32\\nexec /usr/bin/uname \"$@\"\\n' > /usr/local/bin/uname
         printf '#!/bin/sh\\necho systemd 208\\n' > /usr/local/bin/systemctl
         chmod 755 /usr/local/bin/uname /usr/local/bin/systemctl",
    );
    let id = lab.on("etcd-01", "cat /etc/machine-id");
    lab.on(
        "etcd-02",
        &format!(
            "mkdir -p /var/lib/etcd; mount -t tmpfs -o size=100m tmpfs /var/lib/etcd
             hostname k8s-master-01; echo {} > /etc/machine-id
             systemd-run -q --unit other systemd-socket-activate --accept -l 2379 cat",
            id.trim()
        ),
    );
    wait_until("a listener", Duration::from_secs(10), || {
        lab.on("etcd-02", "ss -Hltn sport = :2379").contains("2379")
    });
    let pid = lab.on("etcd-02", "systemctl show other -p MainPID --value");
    lab.on(
        "etcd-03",
        "mkdir /run/selinux; echo 1 > /run/selinux/enforce
         mount --bind /run/selinux /sys/fs/selinux
         printf '#!/bin/sh\\nexec /usr/bin/date -d \"+8 seconds\" \"$@\"\\n' > /usr/local/bin/date
         printf '#!/bin/sh\\necho \"2300 bytes (2.3 kB) copied, 0.025 s, 92 kB/s\" >&2\\n' > /usr/local/bin/dd
         chmod 755 /usr/local/bin/date /usr/local/bin/dd",
    );
    // A firewall that drops what comes from a port, one that says so, and a long way.
    lab.on("etcd-01", "ip rule add pref 1 to 192.168.1.101 ipproto 6 dport 2380 unreachable");
    lab.on("etcd-01", "ip rule add pref 2 to 192.168.1.101 ipproto 6 sport 2379 blackhole");
    lab.on(
        "etcd-03",
        "printf '#!/bin/sh\\necho 0.150\\n' > /usr/local/bin/bash; chmod 755 /usr/local/bin/bash",
    );
    let document = "jq '{apiVersion, nodes: [.nodes[] | {name, hostname, address}]} \
                    | .nodes[1].arch = \"arm64\"' first.json";
    lab.write("first.json", &first.stdout);
    let ran = lab.bash(&format!("{document} | etcd-preflight -q")).exits(3);
    let fsync = "elections and slow requests are likely: put the data on a local SSD of its own";
    for line in [
        "etcd-01: systemd 208 is older than 219: upgrade the operating system (CentOS 7, \
         Ubuntu 18.04 or newer)",
        "etcd-01: warning: kernel 2.6.32 is older than 3.10: upgrade it",
        "etcd-01: 1.0 GB of memory, less than 2 GB: give the host more",
        "etcd-01: warning: 2.0 GB of swap: a member that is swapped out misses heartbeats: run \
         `swapoff -a`, and remove it from /etc/fstab",
        "etcd-01: warning: a process may open 4096 files, fewer than 65536: \
         `sysctl -w fs.nr_open=1048576`",
        "etcd-01: warning: the clock is not synchronised: enable chrony or systemd-timesyncd \
         (`timedatectl set-ntp true`)",
        "etcd-01: warning: AppArmor enforces a profile on etcd: /usr/local/bin/etcd (enforce): \
         allow its folders in it, or switch it to complain mode with aa-complain",
        "etcd-02: the host is x86_64, the document says arm64: set the node's arch to \"amd64\"",
        "etcd-02: /var/lib/etcd: 0.1 GB free, less than 1 GB: make room",
        "etcd-02: /var/lib/etcd is in memory (tmpfs), and lost with a reboot: choose a folder on \
         a disk",
        &format!(
            "etcd-02: process {} (systemd-socket-) listens on port 2379: stop it, or set \
             clientPort to another port",
            pid.trim()
        ),
        "etcd-01: port 2380 of etcd-02 (192.168.1.101): Network is unreachable: allow connections from \
         192.168.1.100 in the firewalls",
        "etcd-02: warning: port 2379 of etcd-01 (192.168.1.100): no answer within 3 s: allow \
         connections from 192.168.1.101 in the firewalls",
        "etcd-03: the round trip to etcd-02 takes 150 ms, more than a tenth of electionTimeoutMs, \
         1000: elections will not end: set heartbeatIntervalMs to 150 and electionTimeoutMs to \
         1500, or move the node nearer",
        "etcd-02: warning: has the same host name as etcd-01, k8s-master-01: set another with \
         `hostnamectl set-hostname`",
        &format!(
            "etcd-02: warning: has the same machine id as etcd-01, {}: on a cloned machine, \
             remove /etc/machine-id and run `systemd-machine-id-setup`",
            id.trim()
        ),
        "etcd-03: warning: SELinux is enforcing: should etcd not start, `ausearch -m avc -ts \
         recent` shows what was denied",
        &format!(
            "etcd-03: warning: /var/lib: a synchronous write takes 25.0 ms (p50), 25.0 ms (p99), \
             more than 10 ms: {fsync}"
        ),
    ] {
        assert!(
            ran.stderr.lines().any(|l| l == format!("etcd-preflight: {line}")),
            "no line {line:?} in:\n{}",
            ran.stderr
        );
    }
    let clock = "more than 5.0 s: synchronise it";
    says_between(&ran, "etcd-preflight: etcd-03: the clock is ", clock);

    // The stages after it touch nothing; a check that is left out stops nobody, and is recorded.
    let rest = lab.bash(&format!("{document} | etcd-preflight -q 2>&- | etcd-cert issue"));
    assert_eq!(rest.code, 66, "{}", rest.stderr);
    let skips = "--skip systemd --skip memory --skip arch --skip disk-space --skip disk-kind \
                 --skip port-in-use --skip clock --skip disk-latency --skip port-blocked \
                 --skip round-trip";
    let ran = lab.bash(&format!("{document} | etcd-preflight {skips}")).ok();
    let ran = ran.says("etcd-preflight: port-in-use: skipped");
    let skipped = |code: &str| ran.document().results.iter().filter(|r| r.code == code).count();
    assert_eq!(skipped("skipped"), 10);
    let table = lab.bash(&format!("{document} | etcd-preflight {skips} -o table")).ok().stdout;
    let row = |check: &str| {
        let line = table.lines().find(|line| line.starts_with(check));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("CHECK"), "CHECK etcd-01 etcd-02 etcd-03 CLUSTER");
    assert_eq!(row("security"), "security-module apparmor WARNING off selinux WARNING -");
    assert_eq!(row("memory"), "memory skipped skipped skipped skipped");
    lab.bash("etcd-preflight --skip nothing < nodes.txt").exits(2);

    // With less of a distance, and a name that only the operator's ssh knows.
    lab.on("etcd-01", "sed -i /etcd-03/d /etc/hosts");
    let document =
        document.replace("' first.json", " | .nodes[2].address = \"etcd-03\"' first.json");
    for (seconds, line) in [
        ("0.101", "101 ms, more than heartbeatIntervalMs, 100: raise it to that"),
        (
            "0.011",
            "11 ms, more than 10 ms: every write waits for it: put the nodes nearer to each other",
        ),
    ] {
        lab.on("etcd-03", &format!("printf '#!/bin/sh\necho {seconds}\n' > /usr/local/bin/bash"));
        let settings = "| .cluster.settings.electionTimeoutMs = 2000' first.json";
        let document = document.replace("' first.json", settings);
        lab.bash(&format!("{document} | etcd-preflight -q"))
            .exits(3)
            .says(&format!(
                "etcd-preflight: etcd-03: warning: the round trip to etcd-02 takes {line}"
            ))
            .says(
                "etcd-preflight: etcd-01: the name etcd-03 of etcd-03 does not resolve here: add \
                 it to DNS or /etc/hosts",
            );
    }
}

#[test]
fn a_cluster_that_is_not_fit() {
    let (Some(version), Some(newest)) = (release("guide"), release("3.5")) else { return };
    let lab = Lab::with_nodes(3);
    let inventory = "jq -nR '[inputs | select(test(\"^[^#]\")) | split(\":\")] | {apiVersion: \
                     \"etcd-tools/v1\", cluster: {settings: {quotaBackendBytes: 25165824}}, \
                     nodes: map({name: .[2], hostname: .[0], address: .[1]})}' < nodes.txt";
    lab.bash(&format!("{inventory} > cluster.json")).ok();
    let pipeline = |version: &str, only: &str| {
        format!(
            "etcd-fetch -q {version} {only} < cluster.json | {QUIET} {only} | etcd-cert issue -q \
             | etcd-render -q | etcd-push -q {only} | etcd-unit start -q {only}"
        )
    };
    lab.bash(&format!("{} | etcd-health --wait", pipeline(&version, ""))).ok();
    lab.unpack(&version);
    let look = |edit: &str| lab.bash(&format!("jq '{edit}' cluster.json | {QUIET}"));
    says(&look("."), &[]);

    // A member that is down: to be cured, but no time for another version.
    lab.on("etcd-03", "systemctl stop etcd");
    let down = "https://192.168.1.102:2379: connecting: nothing is listening on port 2379";
    let margin = "warning: 2 of 3 voting members are known to be healthy, 2 are needed: no other \
                  may fail";
    says(&look(".").ok(), &[&format!("etcd-03: warning: {down}"), margin]);
    let change = "a change of version begins with a healthy cluster only";
    let ran = look(&format!(".cluster.version = \"{newest}\"")).exits(1);
    says(&ran, &[&format!("etcd-03: {down}: {change}"), margin]);
    lab.on("etcd-03", "systemctl start etcd");

    // One that runs another version, and a step that etcd does not support.
    lab.bash(&format!("{} | etcd-health --wait", pipeline(&newest, "--only etcd-03"))).ok();
    let plain = |version: &str| version.trim_start_matches('v').to_owned();
    let (old, new) = (plain(&version), plain(&newest));
    let mixed = format!(
        "warning: different versions: etcd-01 {old}, etcd-02 {old}, etcd-03 {new}: bring all to one"
    );
    says(&look(".").ok(), &[&mixed]);
    let ran = look(".cluster.version = \"v3.7.3\" | .nodes |= map(del(.arch))").exits(3);
    let step = format!(
        "etcd-01: {version} → v3.7.3: etcd upgrades one minor version at a time: upgrade \
         {version} → v3.5.33 → v3.6.16 → v3.7.3"
    );
    says(&ran, &[&step, &mixed]);

    // A learner that nobody has started, and a certificate that is about to expire.
    let endpoints = ["https://192.168.1.100:2379".to_owned()];
    let etcdctl = |args: &str| lab.bash(&lab.etcdctl(&endpoints, args)).ok().stdout;
    let add = lab
        .etcdctl(&endpoints, "member add etcd-04 --learner --peer-urls=https://192.168.1.103:2380");
    // Refused until the member that was restarted is known to be connected.
    wait_until("a new learner", Duration::from_secs(60), || lab.bash(&add).code == 0);
    let members = etcdctl("member list");
    let learner = members.lines().find(|line| line.contains("192.168.1.103"));
    let id = learner.and_then(|line| line.split(',').next()).expect("a learner");
    let learner = format!(
        "warning: {id} is a learner, which does not vote: promote it when it has caught up: \
         `etcd-member promote`"
    );
    lab.bash(
        "etcd-cert issue -q --pki short --validity 10d --renew-before 1d < nodes.txt > short.json",
    )
    .ok();
    let short = lab.read("short/client.crt");
    lab.on("etcd-02", &format!("cat > /etc/etcd/ssl/old.crt <<'END'\n{short}END"));
    let ran = look(".").exits(3);
    assert!(ran.stderr.contains(&format!("etcd-preflight: {learner}\n")), "{}", ran.stderr);
    let ran = ran.says(&format!(
        "etcd-preflight: member {id} of the cluster (https://192.168.1.103:2380) is not in the \
         document: add it there, or remove it: `etcd-member remove {id}`, or, where a new node takes \
         its place: `scripts/replace-member NODES {id}`"
    ));
    says_between(
        &ran,
        "etcd-preflight: etcd-02: warning: /etc/etcd/ssl/old.crt expires at ",
        ", in less than 30 days: issue another with etcd-cert issue, and push it",
    );
    lab.on("etcd-02", "rm /etc/etcd/ssl/old.crt");
    etcdctl(&format!("member remove {id}"));

    // A database that is full, and then empty, but for its file.
    let put = lab.etcdctl(&endpoints, "put");
    let fill = format!(
        "for at in $(seq 30); do head -c 1000000 /dev/zero | tr '\\0' x | {put} $at || break; done"
    );
    // A quota that is too small for what is there.
    lab.bash(&fill.replace("seq 30", "seq 5")).ok();
    let ran = look(".cluster.settings.quotaBackendBytes = 1048576").exits(3);
    says_between(
        &ran,
        "etcd-preflight: etcd-01: the database has ",
        " MiB, and quotaBackendBytes is 1.0 MiB: it would take no more writes: set a larger quota, \
         or compact and defragment it first",
    );
    lab.bash(&fill);
    let ran = look(".").ok();
    says_between(
        &ran,
        "etcd-preflight: etcd-01: warning: the database has ",
        " % of its quota of 24.0 MiB: at 100 % it takes no more writes: compact and defragment \
         it, or raise quotaBackendBytes",
    );
    says_between(&ran, "etcd-preflight: etcd-0", "then etcdctl alarm disarm");
    // What the members' logs have of the looks at their ports is not shown.
    let logs = lab.bash("etcd-unit logs -n 100000 < nodes.txt").ok().stdout;
    let looked_in = |line: &&str| line.contains("rejected connection") && line.contains("EOF");
    assert_eq!(logs.lines().find(looked_in), None);
    assert!(logs.contains("ready to serve client requests"), "{logs}");
    let deleted = etcdctl("del '' --from-key -w json");
    let (_, rest) = deleted.split_once("\"revision\":").expect("a revision");
    let revision: String = rest.chars().take_while(char::is_ascii_digit).collect();
    etcdctl(&format!("compact --physical {revision}"));
    // What was freed counts as unused when etcd next writes.
    let unused = " MiB are unused: defragment it: `etcdctl defrag`, one member at a time";
    wait_until("what is unused is known", Duration::from_secs(180), || {
        etcdctl("del nothing");
        let ran = look(".").ok();
        let of_first = |line: &str| line.starts_with("etcd-preflight: etcd-01: warning: ");
        ran.stderr.lines().any(|line| of_first(line) && line.ends_with(unused))
    });

    // An etcd that somebody else started is in the way of a new one only.
    lab.on(
        "etcd-01",
        "cp -L /usr/local/bin/etcd /opt/etcd; systemd-run -q --unit other /opt/etcd \
         --data-dir /opt/data --listen-client-urls http://127.0.0.1:7 --advertise-client-urls \
         http://127.0.0.1:7 --listen-peer-urls http://127.0.0.1:8",
    );
    let pid = lab.on("etcd-01", "systemctl show other -p MainPID --value");
    let ran = look(".").ok();
    assert!(!ran.stderr.contains("other.service"), "{}", ran.stderr);
    lab.bash("etcd-unit uninstall --purge --lose-quorum --only etcd-01 nodes.txt").ok();
    look(".").exits(3).says(&format!(
        "etcd-preflight: etcd-01: process {} (/opt/etcd, in other.service) is an etcd that these \
         tools did not install: to keep it, leave it to what it was deployed with, as these tools \
         speak TLS only; to deploy here, stop and remove it first",
        pid.trim()
    ));
}
