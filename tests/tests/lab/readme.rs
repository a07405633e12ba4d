//! The README's commands, run in its order as it prints them.

use std::fs;
use std::os::unix::fs::symlink;

use tests::{Lab, release, repository};

/// What the README has in blocks of `sh` and of `cron`, which is made one of `sh`.
fn blocks() -> Vec<String> {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let mut blocks = Vec::new();
    let mut fenced = text.split("\n```");
    while let (Some(_), Some(block)) = (fenced.next(), fenced.next()) {
        match block.split_once('\n') {
            Some(("sh", script)) => blocks.push(script.to_owned()),
            Some(("cron", table)) => blocks.push(as_cron_does(table)),
            _ => {}
        }
    }
    assert!(blocks.len() >= 7, "only {} blocks in the README", blocks.len());
    blocks
}

/// The block that restores `$snapshot` on hosts that have nothing.
pub fn restore_of_bare_hosts() -> String {
    let is_it = |block: &String| block.starts_with("etcd-fetch") && block.contains("--stage");
    blocks().into_iter().find(is_it).expect("a block that restores")
}

/// A script that does what is in a table of cron, each line once.
fn as_cron_does(table: &str) -> String {
    let lines = table.lines().map(|line| match line.split_once('=') {
        // The tools to be tested come first.
        Some(("PATH", path)) => format!("export PATH=\"$PATH:{path}\""),
        Some((name, _)) if !name.contains(' ') => format!("export {line}"),
        _ => {
            let mut command = line;
            for _ in 0..6 {
                command = command.split_once(' ').expect("five times and a user").1.trim_start();
            }
            format!("({command})")
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_commands_work() {
    let lab = Lab::with_nodes(3);
    symlink(repository().join("scripts"), lab.folder.path().join("scripts")).unwrap();
    let bin = lab.folder.path().join("local");
    fs::create_dir(lab.folder.path().join("metrics")).unwrap();
    for block in blocks() {
        match block.trim() {
            // In a folder of its own, below.
            "scripts/demo" => {}
            // In tests of their own: another version, bare hosts, and a cluster that has lost
            // its quorum.
            _ if block == restore_of_bare_hosts() => {}
            block if block.starts_with("scripts/upgrade ") => {}
            block if block.starts_with("scripts/recover ") || block.contains(" --offline ") => {}
            // What runs this test.
            "scripts/test" => {
                let ci = fs::read_to_string(repository().join(".ci/run")).unwrap();
                assert!(ci.lines().any(|line| line == "scripts/test"), "{ci}");
            }
            block => {
                let block = block.replace("/usr/local", &bin.display().to_string());
                let backup = lab.folder.path().join("backup");
                let block = block.replace(" /backup", &format!(" {}", backup.display()));
                let folder = lab.folder.path().display().to_string();
                let block = block.replace("/etc/etcd-tools", &folder);
                let block = block.replace("/var/lib/node_exporter", &format!("{folder}/metrics"));
                let ran = lab.bash(&format!("set -e\n{block}"));
                assert_eq!(ran.code, 0, "{block}\n{}\n{}", ran.stderr, ran.stdout);
            }
        }
    }
    assert_eq!(lab.on("etcd-02", "cat /etc/motd"), "be careful\n");
    for metrics in ["etcd.prom", "metrics/etcd.prom"] {
        assert!(lab.read(metrics).contains("etcd_tools_endpoint_healthy"), "{metrics}");
    }
    assert!(bin.join("bin/etcd-push").exists());
    assert!(bin.join("share/man/man1/etcd-push.1").exists());
}

#[test]
fn the_first_command_ends_with_three_healthy_members() {
    let lab = Lab::with_nodes(3);
    let program = repository().join("scripts/demo").display().to_string();
    let demo = |args: &[&str]| lab.run(&program, args).ok();
    let first = demo(&[]);
    let healthy = |table: &str| table.lines().filter(|line| line.contains("  healthy  ")).count();
    assert_eq!(healthy(&first.stdout), 3, "{}", first.stdout);
    assert!(first.stdout.contains("/lab ssh etcd-01"), "{}", first.stdout);
    // What it prints for etcdctl, typed into a shell.
    let (exports, others): (Vec<_>, Vec<_>) =
        first.stdout.lines().partition(|line| line.starts_with("export "));
    let etcdctl = others.iter().find_map(|line| line.strip_prefix("etcdctl:")).unwrap();
    let status = lab.run("bash", &["-c", &format!("{}\n{etcdctl}", exports.join("\n"))]).ok();
    assert_eq!(status.stdout.matches("https://192.168.1.").count(), 3, "{}", status.stdout);
    let pid = "systemctl show etcd -p MainPID";
    let before = lab.on("etcd-01", pid);
    let second = demo(&[]).says("etcd-unit: etcd-01: etcd.service running as configured");
    assert_eq!(healthy(&second.stdout), 3, "{}", second.stdout);
    assert_eq!(lab.on("etcd-01", pid), before);

    // Another release, on hosts that have nothing.
    let Some(version) = release("3.7") else { return };
    lab.command(&["reset"]);
    let table = demo(&["3.7"]).stdout;
    assert_eq!(healthy(&table), 3, "{table}");
    assert_eq!(table.matches(&version[1..]).count(), 3, "{table}");
}

#[test]
fn the_first_pipeline_with_each_newest_release() {
    let lab = Lab::with_nodes(3);
    for minor in ["3.6", "3.7"] {
        let Some(version) = release(minor) else { return };
        let block = blocks()[0].replace("etcd-fetch v3.5.16", &format!("etcd-fetch {version}"));
        assert!(block.contains(&version), "{block}");
        let health = lab.bash(&block).ok().document().health.unwrap();
        assert!(health.healthy && health.endpoints.len() == 3, "{health:?}");
        assert!(health.endpoints.iter().all(|e| e.version.as_deref() == Some(&version[1..])));
    }
}
