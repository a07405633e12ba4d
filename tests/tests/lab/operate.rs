//! A cluster that runs: changes, upgrades, restarts, stops, and two operators.

use std::time::Duration;

use pipeline::Document;
use pipeline::document::Health;
use serde_json::{Value, json};
use tests::{Lab, PID, Ran, deploy, guide, release, wait_until};

const HOSTS: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];

#[test]
fn a_changed_setting_is_rolled_out_and_check_changes_nothing() {
    let lab = Lab::with_nodes(3);
    // Without etcd-health, which cannot look at what is not there yet.
    let stages = format!(
        "etcd-fetch {} < nodes.txt | etcd-cert issue | etcd-render | etcd-push | etcd-unit start",
        guide()
    );
    let before = lab.on_all(&HOSTS, DISK);
    let ran =
        lab.bash(&format!("export ETCD_TOOLS_CHECK=1; {stages}; echo ${{PIPESTATUS[*]}} >&2")).ok();
    assert_line(&ran, "1 1 1 1 1");
    assert!(ran.document().results.iter().all(|result| !result.changed), "{}", ran.stderr);
    for line in [
        "etcd-cert: etcd-01: server certificate would be issued",
        "etcd-push: etcd-01: would create user etcd",
        "etcd-push: etcd-01: would write /etc/etcd/etcd.conf",
        "etcd-unit: etcd-01: would install etcd.service",
        "etcd-unit: etcd-01: would enable etcd.service",
        "etcd-unit: etcd-01: would start etcd.service",
    ] {
        assert_line(&ran, line);
    }
    assert_eq!(lab.on_all(&HOSTS, DISK), before);
    let here: Vec<_> = std::fs::read_dir(lab.folder.path()).unwrap().collect();
    assert_eq!(here.len(), 1, "{here:?}");

    let first = lab.bash(&deploy(guide())).ok();
    let again = format!("export ETCD_TOOLS_CHECK=1; {}", deploy(guide()));
    let ran = lab.bash(&again).ok();
    assert!(ran.document().results.iter().all(|result| !result.changed), "{}", ran.stderr);

    // What --check names, the run without it does, and nothing else.
    let mut inventory = inventory(&first.document());
    inventory["cluster"]["settings"]["quotaBackendBytes"] = json!(4_294_967_296_u64);
    lab.write("nodes.txt", &inventory.to_string());
    let before = [lab.on_all(&HOSTS, DISK), lab.on_all(&HOSTS, PID)];
    let ran = lab.bash(&again).exits(1);
    assert_line(&ran, "etcd-push: etcd-01: would replace /etc/etcd/etcd.conf");
    for host in HOSTS {
        let would = "would restart etcd.service: its configuration had changed";
        assert_line(&ran, &format!("etcd-unit: {host}: {would}"));
    }
    assert_line(&ran, "    -ETCD_QUOTA_BACKEND_BYTES=8589934592");
    assert_line(&ran, "    +ETCD_QUOTA_BACKEND_BYTES=4294967296");
    assert_eq!([lab.on_all(&HOSTS, DISK), lab.on_all(&HOSTS, PID)], before);

    let leader = leader(&first.document());
    let ran = lab.bash(&deploy(guide())).ok();
    for host in HOSTS {
        assert_line(&ran, &format!("etcd-push: {host}: wrote /etc/etcd/etcd.conf"));
    }
    assert_rolled(&lab, &ran, &leader, "its configuration had changed");
    let quota = "tr '\\0' '\\n' < /proc/$(systemctl show etcd -p MainPID --value)/environ \
                 | grep QUOTA";
    assert_eq!(lab.on_all(&HOSTS, quota), ["ETCD_QUOTA_BACKEND_BYTES=4294967296\n"; 3]);

    // A push whose start never came: what runs is older than what is on the disk.
    inventory["nodes"][1]["settings"]["logLevel"] = json!("warn");
    lab.write("nodes.txt", &inventory.to_string());
    lab.bash(&format!(
        "etcd-fetch {} < nodes.txt | etcd-cert issue | etcd-render | etcd-push > pushed",
        guide()
    ))
    .ok();
    let pids = lab.on_all(&HOSTS, PID);
    assert_line(
        &lab.bash("etcd-unit status < pushed").ok(),
        "etcd-unit: etcd-02: warning: etcd.service runs with an older configuration than what is \
         on the disk",
    );
    let ran = lab.bash("etcd-unit start --check < pushed").exits(1);
    let would = "etcd-unit: etcd-02: would restart etcd.service: its configuration had changed";
    assert_line(&ran, would);
    assert_eq!(lab.on_all(&HOSTS, PID), pids);
    let ran = lab.bash("etcd-unit start < pushed").ok();
    assert_line(&ran, "etcd-unit: etcd-01: etcd.service running as configured");
    assert_line(&ran, "etcd-unit: etcd-02: restarted etcd.service: its configuration had changed");
    let now = lab.on_all(&HOSTS, PID);
    assert_eq!([&now[0], &now[2]], [&pids[0], &pids[2]]);
    assert_ne!(now[1], pids[1]);
}

#[test]
fn a_new_ca_file_needs_a_restart_and_a_new_certificate_does_not() {
    let lab = Lab::with_nodes(3);
    let first = lab.bash(&deploy(guide())).ok();
    let pids = lab.on_all(&HOSTS, PID);
    std::fs::remove_file(lab.folder.path().join("pki/nodes/etcd-02/server.crt")).unwrap();
    let ran = lab.bash(&deploy(guide())).ok();
    assert_line(
        &ran,
        "etcd-push: etcd-02: wrote /etc/etcd/ssl/server.crt, /etc/etcd/ssl/server.key",
    );
    assert_line(&ran, "etcd-unit: etcd-02: etcd.service running as configured");
    assert_eq!(lab.on_all(&HOSTS, PID), pids);

    let twice = lab.read("pki/ca.crt").repeat(2);
    let mut document: Value = serde_json::from_str(&first.stdout).unwrap();
    for node in document["nodes"].as_array_mut().unwrap() {
        let files = node["files"].as_array_mut().unwrap();
        let ca = files.iter_mut().find(|file| file["path"] == "/etc/etcd/ssl/ca.crt").unwrap();
        *ca = json!({"path": "/etc/etcd/ssl/ca.crt", "mode": ca["mode"], "owner": ca["owner"],
                     "group": ca["group"], "content": twice});
        // They are as they were before the certificate was made anew.
        files.retain(|file| file["path"] == "/etc/etcd/ssl/ca.crt");
    }
    lab.write("document.json", &document.to_string());
    let leader = leader(&ran.document());
    let ran = lab.bash("etcd-push < document.json | etcd-unit start | etcd-health --wait").ok();
    assert_line(&ran, "etcd-push: etcd-01: wrote /etc/etcd/ssl/ca.crt");
    assert_rolled(&lab, &ran, &leader, "its CA certificate had changed");
}

#[test]
fn an_upgrade_loses_no_write() {
    let Some(newer) = release("3.5") else { return };
    let lab = Lab::with_nodes(3);
    let document = lab.bash(&deploy(guide())).ok().document();
    lab.unpack(&newer);
    let endpoints: Vec<_> = document.nodes.iter().map(|node| document.client_url(node)).collect();
    let put = lab.etcdctl(&endpoints, "put key-$i value");
    // Each line: a key that etcd has acknowledged, and when that was, in milliseconds.
    let writer = lab.start(&format!(
        "for i in $(seq 100000); do
           [ ! -e stop ] || break
           {put} > /dev/null 2>> errors && echo key-$i $(date +%s%3N) >> acknowledged
         done"
    ));
    let written = || std::fs::read_to_string(lab.folder.path().join("acknowledged"));
    wait_until("keys are written", Duration::from_secs(10), || written().is_ok());
    let ran = lab.bash(&deploy(&newer)).ok();
    let seen = written().unwrap();
    wait_until("keys are written after it", Duration::from_secs(10), || {
        written().unwrap().len() > seen.len()
    });
    lab.write("stop", "");
    writer.wait().ok();

    assert_rolled(&lab, &ran, &leader(&document), "its binary had changed");
    let health = ran.document().health.unwrap();
    assert!(health.endpoints.iter().all(|e| e.version.as_deref() == Some(&newer[1..])));
    let acknowledged = written().unwrap();
    let acknowledged: Vec<_> =
        acknowledged.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let times: Vec<u64> = acknowledged.iter().map(|(_, time)| time.parse().unwrap()).collect();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest < 10_000, "no write for {longest} ms:\n{}", lab.read("errors"));
    let keys = lab.bash(&lab.etcdctl(&endpoints, "get key- --prefix --keys-only")).ok().stdout;
    let keys: Vec<_> = keys.lines().collect();
    let lost: Vec<_> = acknowledged.iter().filter(|(key, _)| !keys.contains(key)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn members_are_stopped_started_and_restarted() {
    let lab = Lab::with_nodes(3);
    let ran = lab.bash(&deploy(guide())).ok();
    lab.write("document.json", &ran.stdout);
    let unit = |args: &str| lab.bash(&format!("etcd-unit {args} < document.json"));

    // --check says what would be done, and does nothing.
    let pids = lab.on_all(&HOSTS, PID);
    let ran = unit("stop --check --only etcd-02").exits(1);
    assert_eq!(ran.stderr, "etcd-unit: etcd-02: would stop etcd.service\n");
    let ran = unit("restart --check").exits(1);
    assert_line(&ran, "etcd-unit: etcd-03: would restart etcd.service: as asked");
    let ran = unit("uninstall --check --lose-quorum --only etcd-01").exits(1);
    let would = "etcd-unit: etcd-01: would stop etcd.service\n\
                 etcd-unit: etcd-01: would remove etcd.service\n";
    assert_eq!(ran.stderr, would);
    assert_eq!(lab.on_all(&HOSTS, PID), pids);

    // What would lose quorum is not done.
    let nobody = "no healthy voter would be left of 3 voters, quorum is 2:";
    assert_no_quorum(&unit("stop").exits(3), &HOSTS, nobody);
    let one = "only etcd-03 would be left of 3 voters, quorum is 2:";
    assert_no_quorum(&unit("stop --only etcd-01,etcd-02").exits(3), &HOSTS[..2], one);
    assert_no_quorum(&unit("uninstall").exits(3), &HOSTS, nobody);
    assert_eq!(lab.on_all(&HOSTS, PID), pids);
    // It may have been the leader.
    let ran = unit("stop --only etcd-02").ok();
    assert_eq!(ran.stderr.lines().next_back(), Some("etcd-unit: etcd-02: stopped etcd.service"));
    let one = "only etcd-03 would be left of 3 voters, quorum is 2 (etcd-02: not running): repair \
               etcd-02 first, or";
    assert_no_quorum(&unit("stop --only etcd-01").exits(3), &HOSTS[..1], one);
    // A stopped member can be stopped: nothing is lost by it.
    let ran = unit("stop --only etcd-02").ok();
    assert_eq!(ran.stderr, "etcd-unit: etcd-02: etcd.service not running\n");

    // A restart leaves a quorum, too; which of the two goes last is the leader.
    let leading = leader(&lab.bash("etcd-health < document.json").exits(1).document());
    let restart = "restart --only etcd-01,etcd-03";
    let checked = unit(&format!("{restart} --check")).exits(3).stderr;
    let ran = unit(restart).exits(3);
    assert_eq!(checked, ran.stderr, "a look says what the run would say");
    let first = if leading == "etcd-01" { "etcd-03" } else { "etcd-01" };
    let refused = |host| {
        let turn = if host == first { String::new() } else { format!("{first} goes before it: ") };
        format!(
            "etcd-unit: {host}: etcd.service not restarted: {turn}only {leading} would be left of 3 \
             voters, quorum is 2 (etcd-02: not running): repair etcd-02 first, or pass \
             --lose-quorum to proceed"
        )
    };
    let expected = ["etcd-01", "etcd-03"].map(refused);
    assert_eq!(ran.stderr.lines().collect::<Vec<_>>(), expected);
    let now = lab.on_all(&HOSTS, PID);
    assert_eq!([&now[0], &now[2]], [&pids[0], &pids[2]]);

    // What is known of them.
    let ran = unit("status").exits(1);
    assert_line(&ran, "etcd-unit: etcd-02: etcd.service is inactive (dead)");
    let states: Vec<_> = ran
        .document()
        .nodes
        .iter()
        .map(|node| node.units[0].status.clone().unwrap())
        .map(|status| (status.active, status.enabled, status.main_pid.is_some()))
        .collect();
    let state = |active: &str| (active.to_owned(), "enabled".to_owned(), active == "active");
    assert_eq!(states, ["active", "inactive", "active"].map(state));
    let ran = unit("status --output table").exits(1);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        ran.stdout.lines().map(words).collect::<Vec<_>>(),
        [
            "NODE UNIT ACTIVE SUB ENABLED PID OUTDATED".to_owned(),
            format!("etcd-01 etcd.service active running enabled {} -", pids[0].trim()),
            "etcd-02 etcd.service inactive dead enabled - -".to_owned(),
            format!("etcd-03 etcd.service active running enabled {} -", pids[2].trim()),
        ]
        .map(|line| words(&line))
    );
    // systemd may add what the unit has consumed.
    let ran = unit("logs --lines 2 --only etcd-02").ok();
    assert!(ran.stdout.lines().all(|line| line.starts_with("etcd-02: ")), "{}", ran.stdout);
    assert!(ran.stdout.contains(" systemd[1]: Stopped etcd.service - etcd.\n"), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().count(), 2);

    // Back again, and each restarted, one by one.
    let ran = unit("start").ok();
    assert_line(&ran, "etcd-unit: etcd-01: etcd.service running as configured");
    assert_line(&ran, "etcd-unit: etcd-02: started etcd.service");
    let health = lab.bash("etcd-health --wait < document.json").ok().document();
    logs_since_and_as_they_come(&lab);
    let ran = unit("restart").ok();
    assert_rolled(&lab, &ran, &leader(&health), "as asked");

    // A unit of the user's own takes the place of the rendered one.
    let text = lab.on("etcd-01", "cat /etc/systemd/system/etcd.service");
    lab.write("etcd.service", &text.replace("LimitNOFILE=65536", "LimitNOFILE=100000"));
    let leader = leader(&lab.bash("etcd-health < document.json").ok().document());
    let ran = unit("start --unit-file etcd.service").ok();
    assert_rolled(&lab, &ran, &leader, "its unit had changed");
    let limit = "systemctl show etcd -p LimitNOFILE --value";
    assert_eq!(lab.on_all(&HOSTS, limit), ["100000\n"; 3]);

    // Away, and installed anew without being started.
    let ran = unit("uninstall --lose-quorum").ok();
    assert_line(&ran, "etcd-unit: etcd-01: stopped etcd.service, removed etcd.service");
    let gone = "ls /etc/systemd/system | grep etcd; systemctl is-active etcd; true";
    assert_eq!(lab.on_all(&HOSTS, gone), ["inactive\n"; 3]);
    let ran = unit("uninstall").ok();
    assert_line(&ran, "etcd-unit: etcd-01: etcd.service not installed");
    let ran = unit("install").ok();
    assert_line(&ran, "etcd-unit: etcd-01: installed and enabled etcd.service");
    let ran = unit("install").ok();
    assert_line(&ran, "etcd-unit: etcd-01: etcd.service already installed");
    let there = "systemctl is-enabled etcd; systemctl is-active etcd; true";
    assert_eq!(lab.on_all(&HOSTS, there), ["enabled\ninactive\n"; 3]);
    lab.bash("etcd-unit start < document.json | etcd-health --wait").ok();
}

#[test]
fn one_member_and_the_ways_to_ask_for_its_health() {
    let lab = Lab::with_nodes(1);
    let first = lab.bash(&deploy(guide())).ok();
    lab.write("document.json", &first.stdout);

    // Each restart interrupts a cluster of one.
    let mut inventory = inventory(&first.document());
    inventory["cluster"]["settings"]["electionTimeoutMs"] = json!(1200);
    lab.write("nodes.txt", &inventory.to_string());
    let pid = lab.on("etcd-01", PID);
    let ran = lab.bash(&deploy(guide())).exits(66);
    assert_line(
        &ran,
        "etcd-unit: etcd-01: etcd.service not restarted: no healthy voter would be left of 1 \
         voter, quorum is 1: pass --lose-quorum to proceed",
    );
    assert_line(&ran, "etcd-health: nothing done: etcd-unit failed on etcd-01 (quorum)");
    assert_eq!(lab.on("etcd-01", PID), pid);
    // A variable that is left set is no consent.
    let left = format!("export ETCD_TOOLS_LOSE_QUORUM=1; {}", deploy(guide()));
    lab.bash(&left).exits(66);
    assert_eq!(lab.on("etcd-01", PID), pid);
    let told = deploy(guide()).replace("unit start", "unit start --lose-quorum");
    let line = "etcd-unit: etcd-01: restarted etcd.service: its configuration had changed";
    assert_line(&lab.bash(&told).ok(), line);
    assert_ne!(lab.on("etcd-01", PID), pid);

    // As etcdctl is asked, without a document.
    let flags = "--cacert pki/ca.crt --cert pki/client.crt --key pki/client.key";
    let healthy = format!(
        "etcd-health: 1 of 1 endpoints healthy, leader etcd-01, version {}\n",
        &guide()[1..]
    );
    let asked = [
        format!("etcd-health --endpoints https://192.168.1.100:2379 {flags}"),
        format!("etcd-health --endpoints 192.168.1.100:2379 {flags} -o table"),
        "export ETCDCTL_CACERT=pki/ca.crt ETCDCTL_CERT=pki/client.crt ETCDCTL_KEY=pki/client.key \
         ETCDCTL_ENDPOINTS=https://192.168.1.100:2379; etcd-health < /dev/null"
            .to_owned(),
    ];
    for script in asked {
        assert_eq!(lab.bash(&script).ok().stderr, healthy, "{script}");
    }

    // Through ssh where the way to the client port is closed.
    let _closed = ClosedPort::new(&lab, 2379);
    let ran = lab.bash("etcd-health < document.json").exits(69);
    let line =
        "etcd-health: etcd-01: https://192.168.1.100:2379: connecting: network is unreachable\n";
    assert_eq!(ran.stderr, line);
    assert_eq!(lab.bash("etcd-health --via ssh < document.json").ok().stderr, healthy);
}

#[test]
fn two_operators_at_once() {
    let lab = Lab::with_nodes(3);
    let motd = |nodes: &[usize], text: &str| {
        let node = |at: &usize| {
            json!({"name": HOSTS[*at], "address": format!("192.168.1.10{at}"),
                   "files": [{"path": "/etc/motd", "mode": "0644", "content": text}]})
        };
        let nodes: Vec<_> = nodes.iter().map(node).collect();
        json!({"apiVersion": "etcd-tools/v1", "nodes": nodes}).to_string()
    };
    let first = ["etcd-01", "etcd-02"];
    let content = || lab.on_all(&first, "cat /etc/motd");
    lab.write("zero.json", &motd(&[0, 1, 2], "zero\n"));
    lab.write("one.json", &motd(&[0, 1, 2], "one\n"));
    lab.write("two.json", &motd(&[0, 1], "two\n"));
    lab.bash("etcd-push < zero.json").ok();

    // The first operator waits for a host that does not answer, and holds the others.
    lab.command(&["freeze", "etcd-03"]);
    let holder = lab.start("exec etcd-push < one.json");
    let held = "flock -n /run/etcd-tools.lock true || echo held";
    wait_until("two hosts are locked", Duration::from_secs(10), || {
        lab.on_all(&first, held) == ["held\n"; 2]
    });
    let ran = lab.bash("etcd-push < two.json").exits(3);
    let name = tests::run(lab.folder.path(), "uname", &["-n"]).ok().stdout;
    for (line, host) in ran.stderr.lines().zip(first) {
        let begin = format!(
            "etcd-push: {host}: locked by root@{} (etcd-push, process {}, since 20",
            name.trim(),
            holder.id()
        );
        assert!(line.starts_with(&begin), "{line}");
        assert!(line.ends_with("Z): wait until that run has ended"), "{line}");
    }
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    assert_eq!(
        ran.document().results.iter().map(|r| r.code.as_str()).collect::<Vec<_>>(),
        ["locked"; 2]
    );
    // Another tool respects it too; one that only looks need not.
    lab.write("motd.service", "[Service]\nExecStart=/bin/cat /etc/motd\n");
    let ran = lab.bash("etcd-unit install --unit-file motd.service < two.json").exits(3);
    assert!(ran.stderr.starts_with("etcd-unit: etcd-01: locked by root@"), "{}", ran.stderr);
    assert_line(
        &lab.bash("etcd-push --check < two.json").exits(1),
        "etcd-push: etcd-01: would replace /etc/motd",
    );
    assert_eq!(content(), ["zero\n"; 2]);

    // With the holder dies the lock, and who was told to wait for it goes on.
    let mut patient = lab.start("exec etcd-push --lock-timeout 5m two.json");
    lab.bash("etcd-push < two.json").exits(3);
    assert!(patient.is_running(), "it waits");
    holder.kill();
    patient.wait().ok();
    assert_eq!(content(), ["two\n"; 2]);
    lab.command(&["thaw", "etcd-03"]);
    lab.bash("etcd-push < one.json").ok();
    assert_eq!(lab.on_all(&HOSTS, "cat /etc/motd"), ["one\n"; 3]);
}

#[test]
fn any_files_can_be_pushed() {
    let lab = Lab::with_nodes(1);
    lab.write("picture", "not text: \u{0}\u{1}");
    let sum = tests::run(lab.folder.path(), "sha256sum", &["picture"]).ok().stdout;
    let document = json!({"apiVersion": "etcd-tools/v1", "nodes": [{
        "name": "web", "address": "192.168.1.100",
        "directories": [{"path": "/srv/drop box", "mode": "0777"}],
        "files": [
            {"path": "/srv/a b/it's \"quoted\" $HOME `id` \\n.conf", "mode": "0640",
             "owner": "daemon", "group": "adm", "content": "one 'two' \"three\"\n$HOME\n"},
            {"path": "/srv/-n", "mode": "0755", "content": "no newline at the end"},
            {"path": "/srv/empty", "mode": "0600", "owner": "guest", "group": "guest",
             "content": ""},
            {"path": "/srv/picture", "mode": "0444", "local": "picture", "sha256": &sum[..64]},
        ],
    }]});
    lab.write("files.json", &document.to_string());
    let stat = "cd /srv; find . -type f -o -path './drop*' | sort | xargs -d '\\n' \
                stat -c '%a %U:%G %n %z'";
    let said = "etcd-push: web: created 1 folder, wrote 4 files\n";
    assert_eq!(lab.bash("etcd-push < files.json").ok().stderr, said);
    let seen = lab.on("etcd-01", stat);
    let shown: Vec<_> = seen.lines().map(|line| line.rsplitn(4, ' ').nth(3).unwrap()).collect();
    assert_eq!(
        shown,
        [
            "755 root:root ./-n",
            "640 daemon:adm ./a b/it's \"quoted\" $HOME `id` \\n.conf",
            "777 root:root ./drop box",
            "600 guest:guest ./empty",
            "444 root:root ./picture",
        ]
    );
    let read = "cat '/srv/a b/'* /srv/-n /srv/empty; sha256sum < /srv/picture";
    let text = "one 'two' \"three\"\n$HOME\nno newline at the end";
    assert_eq!(lab.on("etcd-01", read), format!("{text}{}  -\n", &sum[..64]));
    let said = "etcd-push: web: 4 files, 1 folder already in place\n";
    assert_eq!(lab.bash("etcd-push < files.json").ok().stderr, said);
    assert_eq!(lab.on("etcd-01", stat), seen);

    // A file whose owner or mode alone are wrong becomes another one.
    lab.on("etcd-01", "chown admin /srv/picture; chmod 666 /srv/-n");
    let said = "etcd-push: web: set owner and mode of 2 paths\n";
    assert_eq!(lab.bash("etcd-push < files.json").ok().stderr, said);
    let now = lab.on("etcd-01", stat);
    let modes = |seen: &str| {
        seen.lines().map(|line| line.rsplitn(4, ' ').nth(3).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(modes(&now), modes(&seen));
}

#[test]
fn files_are_named_on_the_command_line_removed_and_given_special_modes() {
    let lab = Lab::with_nodes(1);
    let files = |files: Value, directories: Value| {
        let node = json!({"name": "web", "address": "192.168.1.100", "files": files,
                          "directories": directories});
        json!({"apiVersion": "etcd-tools/v1", "nodes": [node]}).to_string()
    };
    lab.write("list", "web:192.168.1.100:web\n");
    lab.write("motd", "hello\n");
    lab.write("tool", "#!/bin/sh\n");
    // A list of nodes and flags are enough; what is large needs no SHA-256 either.
    lab.bash("head -c 300000 /dev/zero > large").ok();
    let flags =
        "--file motd:/srv/motd --file tool:/srv/tool:4750:daemon --file large:/srv/large:600:1:0";
    let said = lab.bash(&format!("etcd-push {flags} --check list")).exits(1).stderr;
    let would =
        ["motd", "tool", "large"].map(|name| format!("etcd-push: web: would write /srv/{name}\n"));
    assert_eq!(said, would.concat());
    let ran = lab.bash(&format!("etcd-push {flags} list > document.json")).ok();
    assert_eq!(ran.stderr, "etcd-push: web: wrote /srv/motd, /srv/tool, /srv/large\n");
    let stat = "cd /srv; stat -c '%a %U:%G %s %n' motd tool large";
    let expected =
        "644 root:root 6 motd\n4750 daemon:daemon 10 tool\n600 daemon:root 300000 large\n";
    assert_eq!(lab.on("etcd-01", stat), expected);
    let said = "etcd-push: web: 3 files already in place\n";
    assert_eq!(lab.bash("etcd-push document.json").ok().stderr, said);

    // What has changed on this machine since goes out as it is now.
    lab.write("motd", "hello again\n");
    assert_eq!(
        lab.bash("etcd-push document.json").ok().stderr,
        "etcd-push: web: wrote /srv/motd\n"
    );

    let wrong = [
        (
            "motd",
            "expected LOCAL:REMOTE[:MODE[:OWNER[:GROUP]]], REMOTE from the root, e.g. motd:/etc/motd:0644",
        ),
        (
            "motd:/a:0644:root:root:x",
            "too many parts: expected LOCAL:REMOTE[:MODE[:OWNER[:GROUP]]]",
        ),
    ];
    for (file, why) in wrong {
        let said = format!(
            "etcd-push: invalid value '{file}' for '--file <LOCAL:REMOTE[:MODE[:OWNER[:GROUP]]]>': \
             {why}: see etcd-push --help\n"
        );
        assert_eq!(lab.bash(&format!("etcd-push --file {file} list")).exits(2).stderr, said);
    }
    let said =
        "etcd-push: nodes[0].files[0].mode: \"0999\": expected an octal string such as \"0640\"\n";
    assert_eq!(lab.bash("etcd-push --file motd:/srv/x:0999 list").exits(2).stderr, said);

    // Special modes of a folder, which others may have inherited.
    let sticky =
        json!([{"path": "/srv/drop", "mode": "1777"}, {"path": "/srv/shared", "mode": "2775"}]);
    lab.write("folders.json", &files(json!([]), sticky));
    lab.bash("etcd-push folders.json").ok();
    let stat = "stat -c '%a %n' /srv/drop /srv/shared";
    assert_eq!(lab.on("etcd-01", stat), "1777 /srv/drop\n2775 /srv/shared\n");
    lab.on("etcd-01", "chmod g-s /srv/shared");
    lab.bash("etcd-push folders.json").ok().says("etcd-push: web: set owner and mode of 1 path");
    assert_eq!(lab.on("etcd-01", stat), "1777 /srv/drop\n2775 /srv/shared\n");

    // What is not to be there goes, a link itself and not what it leads to; a folder stays.
    lab.on("etcd-01", "ln -s /srv/motd /srv/link; mkdir /srv/folder");
    let absent = |path: &str| json!([{"path": path, "absent": true}]);
    let gone = json!([{"path": "/srv/tool", "absent": true}, {"path": "/srv/link", "absent": true},
                      {"path": "/srv/never", "absent": true}]);
    lab.write("gone.json", &files(gone, json!([])));
    let said = lab.bash("etcd-push --check gone.json").exits(1).stderr;
    assert_eq!(
        said,
        "etcd-push: web: would remove /srv/tool\netcd-push: web: would remove /srv/link\n"
    );
    let said = "etcd-push: web: removed /srv/tool, /srv/link\n";
    assert_eq!(lab.bash("etcd-push gone.json").ok().stderr, said);
    assert_eq!(lab.on("etcd-01", "ls /srv"), "drop\nfolder\nlarge\nmotd\nshared\n");
    lab.bash("etcd-push gone.json").ok().says("etcd-push: web: 3 files already in place");
    lab.write("gone.json", &files(absent("/srv/folder"), json!([])));
    let why = "/srv/folder: a folder is in the place of the file: move it away";
    for check in ["", "--check"] {
        lab.bash(&format!("etcd-push {check} gone.json"))
            .exits(3)
            .says(&format!("etcd-push: web: {why}"));
    }
    for path in ["/dev/null", "/run/pipe"] {
        lab.on("etcd-01", "[ -p /run/pipe ] || mkfifo /run/pipe");
        let why = "a device, pipe or socket is in the place of the file: name another path";
        for check in ["", "--check"] {
            lab.bash(&format!("etcd-push {check} --file motd:{path} list"))
                .exits(3)
                .says(&format!("etcd-push: web: {path}: {why}"));
        }
    }
    lab.write("gone.json", &files(absent("/var/lib/etcd/member/snap/db"), json!([])));
    let why = "it is in the folder of etcd's data, which is etcd's alone: leave it out";
    lab.bash("etcd-push gone.json")
        .exits(65)
        .says(&format!("etcd-push: web: /var/lib/etcd/member/snap/db: {why}"));
}

/// Every file of a host that the tools could write, with inode, times, mode and owner.
const DISK: &str = "find /etc /usr/local /var/lib -path /var/lib/etcd/member -prune -o \
                    -path /var/lib/systemd -prune -o -exec stat -c '%n %z %a %U' {} + | sort";

/// `etcd-unit logs` as journalctl, of all nodes at once and without what etcd logs of
/// every look at it.
fn logs_since_and_as_they_come(lab: &Lab) {
    let logs = |flags: &str| lab.bash(&format!("etcd-unit logs {flags} nodes.txt"));
    let noise = "ignoring common name in gRPC-gateway proxy request";
    assert!(logs("--all -n 100000").ok().stdout.contains(noise));
    let some = logs("--since -1h").ok().stdout;
    assert!(!some.contains(noise), "{some}");
    assert!(some.lines().count() > 3 * 20, "{some}");
    let none = "etcd-01: -- No entries --\netcd-02: -- No entries --\netcd-03: -- No entries --\n";
    assert_eq!(logs("--since '2099-01-01 00:00'").ok().stdout, none);
    assert_eq!(logs("-q --since 2099-01-01").ok().stdout, "");
    logs("--since yy")
        .exits(3)
        .says("etcd-unit: etcd-01: journalctl: Failed to parse timestamp: yy");

    // What comes, until the operator has gone; then nothing stays on the nodes.
    lab.write("logs.txt", "");
    let following = lab.start("exec etcd-unit logs -f -n 1 nodes.txt > logs.txt");
    let lines = |of: &str| lab.read("logs.txt").lines().filter(|line| line.contains(of)).count();
    let minute = Duration::from_secs(60);
    for host in HOSTS {
        wait_until("the last line", minute, || lines(&format!("{host}: ")) > 0);
        wait_until("it follows", minute, || {
            lab.on(host, "pgrep -f '^journalctl -f' || true").lines().count() == 1
        });
        for what in [noise, "hello"] {
            let line = format!("MESSAGE={what}\\nOBJECT_SYSTEMD_UNIT=etcd.service\\n");
            lab.on(host, &format!("printf '{line}' | logger --journald"));
        }
        wait_until("what comes", minute, || {
            lab.read("logs.txt")
                .lines()
                .any(|line| line.starts_with(host) && line.ends_with(": hello"))
        });
        assert_eq!(lines(noise), 0);
    }
    following.kill();
    let gone = |host| lab.on(host, "pgrep -f '^journalctl -f' || true").is_empty();
    wait_until("nobody follows", minute, || HOSTS.into_iter().all(gone));
}

/// The line must be among what was written to stderr.
#[track_caller]
fn assert_line(ran: &Ran, line: &str) {
    assert!(ran.stderr.lines().any(|l| l == line), "no line {line:?} in:\n{}", ran.stderr);
}

#[track_caller]
fn assert_no_quorum(ran: &Ran, hosts: &[&str], left: &str) {
    let refused = |host: &&str| {
        format!("etcd-unit: {host}: not stopped: {left} pass --lose-quorum to proceed")
    };
    let expected: Vec<_> = hosts.iter().map(refused).collect();
    assert_eq!(ran.stderr.lines().collect::<Vec<_>>(), expected);
}

/// All three members were restarted for the reason `why`, each only after the one
/// before was ready, and the leader last, after leadership had moved away from it.
#[track_caller]
fn assert_rolled(lab: &Lab, ran: &Ran, leader: &str, why: &str) {
    let told: Vec<_> = ran
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("etcd-unit: ")?.split_once(": "))
        .filter(|(_, what)| what.starts_with("restarted") || what.starts_with("leadership"))
        .collect();
    let restarted = format!("restarted etcd.service: {why}");
    let order: Vec<_> =
        told.iter().filter(|(_, what)| *what == restarted).map(|(host, _)| *host).collect();
    assert_eq!(order.len(), 3, "{}", ran.stderr);
    assert_eq!(order[2], leader, "{}", ran.stderr);
    let (host, what) = told[2];
    assert_eq!(host, leader, "{}", ran.stderr);
    let heir = what.strip_prefix("leadership moved to ");
    assert!(heir.is_some_and(|heir| order[..2].contains(&heir)), "{}", ran.stderr);

    // The hosts share one clock, in microseconds.
    let times = lab.on_all(
        &order,
        "systemctl show etcd -p InactiveEnterTimestampMonotonic --value; \
         systemctl show etcd -p ActiveEnterTimestampMonotonic --value",
    );
    let times: Vec<u64> =
        times.iter().flat_map(|t| t.split_whitespace()).map(|t| t.parse().unwrap()).collect();
    assert!(times[0] > 0 && times.is_sorted(), "{order:?} {times:?}");
}

/// The name of the leader.
fn leader(document: &Document) -> String {
    let Health { endpoints, .. } = document.health.as_ref().unwrap();
    endpoints.iter().find(|endpoint| endpoint.is_leader).unwrap().node.clone().unwrap()
}

/// The inventory that `document` was made from.
fn inventory(document: &Document) -> Value {
    let nodes: Vec<_> = document
        .nodes
        .iter()
        .map(|node| json!({"name": node.name, "hostname": node.hostname, "address": node.address}))
        .collect();
    json!({"apiVersion": "etcd-tools/v1", "cluster": {"settings": {}}, "nodes": nodes})
}

/// No way from the operator to a port of any host, for as long as this lives.
struct ClosedPort<'a>(&'a Lab, String);

impl<'a> ClosedPort<'a> {
    fn new(lab: &'a Lab, port: u16) -> Self {
        let rule = format!("pref 10 ipproto tcp dport {port} unreachable");
        lab.bash(&format!("ip rule add {rule}")).ok();
        Self(lab, rule)
    }
}

impl Drop for ClosedPort<'_> {
    fn drop(&mut self) {
        self.0.bash(&format!("ip rule del {}", self.1));
    }
}
