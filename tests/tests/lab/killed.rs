//! Killed anywhere, run again, done.
//!
//! Each tool is killed with -9 at several points of its work, and then run
//! again at once: it must end well, and leave nothing of the killed run behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tests::{Lab, Ran, deploy, guide, wait_until};

const NODES: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];

/// What no run may leave on a node. It prints nothing.
const LEFTOVERS: &str = "find / -xdev -name '.*etcd-tools*' -o -xdev -name '*.partial'; \
                         flock -n /run/etcd-tools.lock true || echo locked";

/// Kills `script`, which is one tool (`exec TOOL …`), at each of `shares` of the
/// time that it needs when nobody kills it, and runs it again at once. `undo`
/// comes before each start, `killed` after each kill.
fn sweep(lab: &Lab, script: &str, shares: &[f64], undo: impl Fn(), killed: impl Fn()) {
    undo();
    let start = Instant::now();
    lab.bash(script).ok();
    let mut whole = start.elapsed();
    for share in shares {
        // A tool that was faster than before, and ended by itself, is no hit.
        let hit = (0..8).any(|_| {
            undo();
            let mut tool = lab.start(script);
            std::thread::sleep(whole.mul_f64(*share));
            let running = tool.is_running();
            tool.kill();
            if !running {
                whole = whole.mul_f64(0.8);
            }
            running
        });
        assert!(hit, "{script}: not killed at {share} of its work");
        killed();
        let again = lab.bash(script);
        assert_eq!(again.code, 0, "killed after {share} of {whole:?}: {}", again.stderr);
        no_leftovers(lab);
    }
}

#[track_caller]
fn no_leftovers(lab: &Lab) {
    assert_eq!(lab.on_all(&NODES, LEFTOVERS), ["", "", ""]);
    let left = lab.bash("find . -name '*.partial' -o -name '.*etcd-tools*'").ok().stdout;
    assert_eq!(left, "");
}

#[track_caller]
fn healthy(ran: &Ran) {
    assert!(ran.document().health.is_some_and(|health| health.healthy), "{}", ran.stdout);
}

/// The files under `folder` that count, with their content.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if !path.file_name().unwrap().to_string_lossy().starts_with('.') {
                found.insert(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn every_tool_is_killed_and_run_again() {
    let lab = Lab::with_nodes(3);
    fetch(&lab);
    cert(&lab);
    lab.bash("etcd-render < cert.json > render.json").ok();
    push(&lab);
    first_start(&lab);
    rolling_restart(&lab);
    health(&lab);
    let again = lab.bash(&deploy(guide())).ok();
    healthy(&again);
    assert!(!again.stderr.contains("issued") && !again.stderr.contains("fetched"));
    no_leftovers(&lab);
}

fn fetch(lab: &Lab) {
    let cache = lab.folder.path().join("cache");
    let archive = || {
        let mut found = files(&cache);
        found.retain(|path, _| path.ends_with(".tar.gz"));
        found.into_values().next()
    };
    let script = format!("exec etcd-fetch {} < nodes.txt > fetch.json", guide());
    lab.bash(&script).ok();
    let whole = archive();
    let undo = || drop(fs::remove_dir_all(&cache));
    let killed = || assert!(archive().is_none() || archive() == whole);
    sweep(lab, &script, &[0.2, 0.5, 0.8], undo, killed);
}

fn cert(lab: &Lab) {
    let pki = lab.folder.path().join("pki");
    let kept = std::cell::RefCell::default();
    let script = "exec etcd-cert issue < fetch.json > cert.json";
    let undo = || {
        // What the killed run had put in place was taken over by the next; a
        // key whose certificate was still to come may be another one.
        let now = files(&pki);
        let kept: BTreeMap<String, Vec<u8>> = kept.take();
        for (path, content) in &kept {
            let whole = kept.contains_key(&path.replace(".key", ".crt"));
            assert!(!whole || now.get(path) == Some(content), "{path} is another one");
        }
        drop(fs::remove_dir_all(&pki));
    };
    let killed = || drop(kept.replace(files(&pki)));
    sweep(lab, script, &[0.3, 0.45, 0.6, 0.75, 0.9], undo, killed);
}

fn push(lab: &Lab) {
    // Two contents of one large file, and a reader who must never see a third.
    let large = |byte: u8| vec![byte; 6_000_000];
    for (name, byte) in [("old", b'o'), ("new", b'n')] {
        fs::write(lab.folder.path().join(name), large(byte)).unwrap();
        let file = format!(
            r#"{{path: "/srv/watched", mode: "0644", local: "{name}", sha256: "{}"}}"#,
            pipeline::disk::sha256(&large(byte))
        );
        lab.bash(&format!("jq '.nodes[].files += [{file}]' render.json > {name}.json")).ok();
    }
    lab.bash("jq '.nodes[].files |= [last] | del(.release)' old.json | etcd-push").ok();
    lab.on("etcd-01", "touch /run/watch");
    let reader = lab.start(
        "ssh -F $ETCD_TOOLS_SSH_CONFIG etcd-01 \
         'while [ -e /run/watch ]; do sha256sum < /srv/watched; done | sort | uniq -c'",
    );
    let undo = || {
        lab.on_all(
            &NODES,
            "rm -rf /etc/etcd /usr/local/lib/etcd-tools /usr/local/bin/etcd*; \
             if id etcd >/dev/null 2>&1; then userdel etcd; fi",
        );
    };
    let unit_of = |at: usize| ["new", "old"][at % 2];
    for (at, shares) in [[0.2, 0.6], [0.4, 0.8]].iter().enumerate() {
        let script = format!("exec etcd-push < {}.json > push.json", unit_of(at));
        sweep(lab, &script, shares, undo, || {});
    }
    lab.on("etcd-01", "rm /run/watch");
    let seen = reader.wait().ok().stdout;
    let seen: Vec<_> = seen.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    let mut whole = [large(b'o'), large(b'n')].map(|content| pipeline::disk::sha256(&content));
    whole.sort();
    assert_eq!(seen, whole);
}

fn first_start(lab: &Lab) {
    let undo = || {
        lab.on_all(
            &NODES,
            "systemctl disable --now etcd 2>/dev/null; \
             rm -rf /etc/systemd/system/etcd.service /var/lib/etcd/* /etc/etcd/etcd.member; \
             systemctl daemon-reload",
        );
    };
    let script = "exec etcd-unit start < push.json > start.json";
    sweep(lab, script, &[0.25, 0.5, 0.75], undo, || {});
    healthy(&lab.bash("etcd-health --wait < start.json").ok());
}

fn rolling_restart(lab: &Lab) {
    let undo = || {
        // Each time another configuration, so that all members have to be restarted.
        let interval = lab.bash("cat interval || echo 100").stdout.trim().parse::<u32>().unwrap();
        lab.write("interval", &(interval + 1).to_string());
        lab.bash(&format!(
            "jq '.cluster.settings.heartbeatIntervalMs = {interval}' cert.json \
             | etcd-render | etcd-push > push.json"
        ))
        .ok();
    };
    let script = "exec etcd-unit start < push.json > start.json";
    sweep(lab, script, &[0.3, 0.7], undo, || {});
    let status = lab.bash("etcd-unit status < start.json").ok();
    for node in NODES {
        status_says(&status, node);
    }
    healthy(&lab.bash("etcd-health --wait < start.json").ok());
}

/// Killed while it waits, through sockets that are then in nobody's way.
fn health(lab: &Lab) {
    let sockets =
        || lab.bash("ls etcd-tools | grep -c '^f[0-9]*-'").stdout.trim().parse::<u32>().unwrap();
    lab.on("etcd-02", "systemctl stop etcd");
    let look = "XDG_RUNTIME_DIR=$PWD exec etcd-health --via ssh < start.json";
    lab.bash(look).exits(1);
    assert_eq!(sockets(), 0);
    let waiting = lab.start(&look.replace("ssh", "ssh --wait"));
    wait_until("its sockets are there", Duration::from_secs(60), || sockets() == 3);
    assert_eq!(waiting.kill().code, -1);
    lab.on("etcd-02", "systemctl start etcd");
    lab.bash(look).ok();
    assert_eq!(sockets(), 0);
}

fn status_says(status: &Ran, node: &str) {
    let line = format!("etcd-unit: {node}: etcd.service is active (running)");
    assert!(status.stderr.contains(&line), "{}", status.stderr);
}

#[test]
fn all_tools_of_a_pipe_are_killed_at_once() {
    let lab = Lab::with_nodes(3);
    let start = Instant::now();
    healthy(&lab.bash(&deploy(guide())).ok());
    let whole = start.elapsed();
    let mut hits = 0;
    for share in [0.4, 0.7] {
        lab.command(&["reset"]);
        for folder in ["cache", "pki"] {
            let _ = fs::remove_dir_all(lab.folder.path().join(folder));
        }
        let mut pipe = lab.start(&deploy(guide()));
        std::thread::sleep(whole.mul_f64(share));
        hits += usize::from(pipe.is_running());
        pipe.kill_all();
        let again = lab.bash(&deploy(guide()));
        assert_eq!(again.code, 0, "killed after {share} of {whole:?}: {}", again.stderr);
        healthy(&again);
        no_leftovers(&lab);
    }
    assert!(hits >= 1, "only {hits} kills hit the running pipe");
}

#[test]
fn a_shared_connection_that_was_killed_is_made_anew() {
    let lab = Lab::with_nodes(3);
    let own = "export XDG_RUNTIME_DIR=$PWD";
    lab.bash(&format!("{own}; {} > healthy.json", deploy(guide()))).ok();
    // The masters die between two stages, and leave their sockets.
    let killed = lab.bash(&format!(
        "{own}; etcd-push < healthy.json > push.json; \
         for socket in etcd-tools/*; do \
             [ -S $socket ] || continue; \
             said=$(ssh -S $socket -O check none 2>&1); \
             pid=${{said##*pid=}}; kill -9 ${{pid%)*}}; echo killed; \
             until ! kill -0 ${{pid%)*}} 2>/dev/null; do :; done; \
             [ -S $socket ] && echo left; \
         done; \
         etcd-unit start < push.json"
    ));
    let killed = killed.ok();
    assert!(killed.stdout.starts_with(&"killed\nleft\n".repeat(3)), "{}", killed.stdout);
    for node in NODES {
        let line = format!("etcd-unit: {node}: etcd.service running as configured");
        assert!(killed.stderr.contains(&line), "{}", killed.stderr);
    }
    // A file that is no socket at all in the place of one.
    let stale = lab.bash(&format!(
        "{own}; cd etcd-tools; \
         for socket in *; do \
             [ -S $socket ] || continue; \
             ssh -S $socket -O exit none 2>/dev/null; \
             until [ ! -e $socket ]; do :; done; echo stale > $socket; \
         done; \
         cd ..; etcd-push < push.json | etcd-unit start"
    ));
    stale.ok().says(&format!(
        "etcd-push: etcd-01: 6 files, 3 folders, release {} already in place",
        guide()
    ));
}

#[test]
fn one_connection_for_each_host_though_a_tool_was_killed_while_it_was_made() {
    let lab = Lab::with_nodes(3);
    // From inside, as is the folder of the connections, which tells these from others.
    let count = "pgrep -fc \"ssh -M .*$PWD/etcd-tools\"";
    let script = "XDG_RUNTIME_DIR=$PWD exec etcd-unit logs < nodes.txt";
    let start = Instant::now();
    lab.bash(script).ok();
    let whole = start.elapsed();
    let (mut hits, mut tries) = (0, 0);
    // How long it takes depends on what else the machine does.
    for share in [0.2, 0.35, 0.5, 0.65].into_iter().cycle().take(40) {
        if tries >= 4 && hits >= 2 {
            break;
        }
        tries += 1;
        lab.bash(&format!(
            "for socket in etcd-tools/*; do \
                 [ -S $socket ] && ssh -S $socket -O exit none 2>/dev/null; \
             done; \
             while [ $({count}) != 0 ]; do sleep 0.01; done"
        ))
        .ok();
        let mut tool = lab.start(script);
        std::thread::sleep(whole.mul_f64(share));
        hits += usize::from(tool.is_running());
        tool.kill();
        lab.bash(script).ok();
        assert_eq!(lab.bash(count).stdout, "3\n", "killed after {share} of {whole:?}");
    }
    assert!(hits >= 2, "only {hits} kills hit the running tool");
}

#[test]
fn a_pipe_that_loses_a_tool_stops() {
    let lab = Lab::with_nodes(3);
    // Nothing comes from a tool that was killed: the next one says so and does nothing.
    let ran = lab.bash(&format!(
        "etcd-fetch {} < nodes.txt | etcd-cert issue | sh -c 'kill -9 $$' | etcd-push \
         | etcd-unit start; echo ${{PIPESTATUS[@]}}",
        guide()
    ));
    assert!(ran.stdout.ends_with(" 137 66 66\n"), "{}", ran.stdout);
    ran.says("etcd-push: stdin: no document: an earlier stage failed, or nothing was piped in");
    assert_eq!(lab.on_all(&NODES, "ls -d /etc/etcd 2>/dev/null; true"), ["", "", ""]);
}
