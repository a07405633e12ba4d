//! The scripts that chain the tools, and pipes whose stages fail, under bash,
//! dash and make.

use std::{fs, os::unix::fs::symlink};

use tempfile::TempDir;
use tests::{Lab, Ran, bash, guide, repository, run, tools};

const HOSTS: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];

/// What may not change on a host when nothing is to be done.
const STATE: &str = "find /etc /usr/local /var/lib/etcd ! -path '*/member/*' \
                     -exec stat -c '%n %z %a %U' {} + | sort; systemctl show etcd -p MainPID";

/// The path of a script of the repository.
pub(crate) fn script(name: &str) -> String {
    repository().join("scripts").join(name).display().to_string()
}

/// Runs `command` in the lab on a terminal, at which someone types `answers`.
/// What it says is in `stdout`.
pub(crate) fn on_terminal(lab: &Lab, answers: &str, command: &str) -> Ran {
    lab.write("answers", answers);
    // Without an echo, which would come before a question or after it.
    let mut ran = lab.bash(&format!("script -E never -qec '{command}' /dev/null < answers"));
    // Without the progress that the tools draw, and wipe out again.
    let lines = ran.stdout.split("\r\n").map(|line| line.rsplit("\x1b[2K").next().unwrap_or(line));
    ran.stdout = lines.collect::<Vec<_>>().join("\n");
    ran
}

/// The names in a folder of every host, or why it cannot be listed.
#[track_caller]
fn on_hosts(lab: &Lab, folder: &str) -> Vec<String> {
    lab.on_all(&HOSTS, &format!("ls -A {folder} 2>&1 || true"))
}

#[test]
fn deploy_asks_and_teardown_asks_twice() {
    let lab = Lab::with_nodes(3);
    let version = guide();
    let deploy = |args: &str| format!("{} {args}", script("deploy"));
    let teardown = |args: &str| format!("{} {args}", script("teardown"));
    let nothing = vec!["ls: cannot access '/etc/etcd': No such file or directory\n"; 3];

    // Nobody to ask.
    let ran = lab.bash(&deploy(&format!("nodes.txt {version}"))).exits(2);
    assert_eq!(ran.stderr, "deploy: not on a terminal, nobody to ask: pass --yes\n");
    let ran = lab.bash(&deploy("missing.txt --yes")).exits(66);
    assert_eq!(
        ran.stderr,
        "cat: missing.txt: No such file or directory\ndeploy: missing.txt: cannot be read\n"
    );

    // Up to the stage that is answered with no, and not further.
    let ran = on_terminal(&lab, "y\nmaybe\ny\ny\ny\nn\n", &deploy(&format!("nodes.txt {version}")))
        .exits(1);
    assert!(
        ran.stdout.ends_with(
            "deploy: etcd-push (put them on the nodes)\n\
             deploy: go on? [y/n] deploy: stopped before etcd-push: run deploy again to go on\n"
        ),
        "{}",
        ran.stdout
    );
    assert!(lab.folder.path().join("pki/nodes/etcd-03/server.key").exists());
    assert_eq!(on_hosts(&lab, "/etc/etcd"), nothing);

    // What would be done, and then all of it, with the list on stdin.
    lab.bash(&deploy(&format!("--check nodes.txt {version}")))
        .exits(1)
        .says("etcd-push: etcd-01: would write /etc/etcd/etcd.conf")
        .says("etcd-unit: etcd-03: would start etcd.service");
    assert_eq!(on_hosts(&lab, "/etc/etcd"), nothing);
    let ran = on_terminal(&lab, &"y\n".repeat(6), &deploy(&format!("- {version} <nodes.txt"))).ok();
    assert_eq!(ran.stdout.matches(" healthy ").count(), 3, "{}", ran.stdout);
    lab.unpack(version);
    let etcdctl = |args| lab.etcdctl(&["https://192.168.1.100:2379".into()], args);
    lab.bash(&etcdctl("put key value")).ok();

    // Nothing is left to do.
    let before = lab.on_all(&HOSTS, STATE);
    let ran = lab.bash(&deploy(&format!("--check nodes.txt {version}"))).ok();
    assert_eq!(ran.stdout, "");
    lab.bash(&deploy(&format!("--yes nodes.txt {version}"))).ok().says(&format!(
        "etcd-push: etcd-02: 6 files, 3 folders, release {version} already in place"
    ));
    let ran = lab.bash(&teardown("nodes.txt")).exits(2);
    assert_eq!(
        ran.stderr,
        "teardown: not on a terminal, nobody to ask: pass --yes, \
         and with --purge --delete-data, too\n"
    );
    let ran = on_terminal(&lab, "y\n", &teardown("nodes.txt")).exits(1);
    assert_eq!(
        ran.stdout.lines().last(),
        Some("teardown: type \"yes\" to go on: teardown: stopped: nothing was done")
    );
    assert_eq!(lab.on_all(&HOSTS, STATE), before);

    // A part of the cluster is not torn down as if it were the whole.
    lab.bash(&format!("head -n 2 nodes.txt > two.txt; {}", teardown("--yes two.txt")))
        .exits(3)
        .says(
            "teardown: nothing is done: member etcd-03 is not a node in the document, and was not \
         probed (peer URLs https://192.168.1.102:2380): add it to the list",
        );
    lab.bash(&format!("ETCD_TOOLS_ONLY=etcd-01 {}", teardown("--yes nodes.txt")))
        .exits(2)
        .says("teardown: ETCD_TOOLS_ONLY is set, and this concerns all members: unset it");
    assert_eq!(lab.on_all(&HOSTS, STATE), before);

    // The data outlive a teardown.
    on_terminal(&lab, "yes\n", &teardown("nodes.txt")).ok();
    let units =
        lab.on_all(&HOSTS, "systemctl is-active etcd; ls /etc/systemd/system/etcd* || true");
    assert_eq!(units, vec!["inactive\n"; 3]);
    lab.bash(&deploy(&format!("--yes nodes.txt {version}"))).ok();
    assert_eq!(lab.bash(&etcdctl("get key --print-value-only")).ok().stdout, "value\n");

    // They do not outlive a purge, which is more than one yes.
    let ran = lab.bash(&teardown("--yes --purge nodes.txt")).exits(2);
    assert_eq!(ran.stdout, "");
    let ran = on_terminal(&lab, "yes\nyes\n", &teardown("--purge nodes.txt")).exits(1);
    assert!(
        ran.stdout.contains("etcd-unit: etcd-02: would delete /var/lib/etcd"),
        "{}",
        ran.stdout
    );
    let warning = "teardown: ALL KEYS AND VALUES are deleted for good: \
                   without a snapshot nothing brings them back";
    assert!(ran.stdout.lines().any(|line| line.ends_with(warning)), "{}", ran.stdout);
    assert_eq!(lab.on_all(&HOSTS, "systemctl is-active etcd"), vec!["active\n"; 3]);
    assert_eq!(on_hosts(&lab, "/var/lib/etcd"), vec!["member\n"; 3]);

    // What is not etcd's stays.
    lab.on(
        "etcd-01",
        "touch /etc/etcd/own /usr/local/bin/etcd-own /etc/etcd/ssl/.server.key.etcd-tools; \
         chown root /var/lib/etcd",
    );
    let left = "etcd-unit: etcd-01: /var/lib/etcd: not a folder of the user etcd: \
                nothing is removed";
    lab.bash(&teardown("--yes --purge --delete-data nodes.txt")).exits(3).says(left);
    assert_eq!(on_hosts(&lab, "/var/lib/etcd"), vec!["member\n"; 3]);
    lab.on("etcd-01", "chown etcd /var/lib/etcd");
    let purged = on_terminal(&lab, "yes\ndelete all data\n", &teardown("--purge nodes.txt")).ok();
    assert!(
        purged.stdout.contains("etcd-unit: etcd-01: deleted /var/lib/etcd, "),
        "{}",
        purged.stdout
    );
    lab.bash(&teardown("--yes --purge --delete-data nodes.txt"))
        .ok()
        .says("etcd-unit: etcd-01: nothing of these tools' etcd is left");
    let places =
        "ls -A /etc/etcd /var/lib/etcd /usr/local/lib/etcd-tools /usr/local/bin 2>/dev/null";
    let left = lab.on_all(&HOSTS, &format!("{places} || true"));
    let nothing = "/usr/local/bin:\n";
    assert_eq!(left, ["/etc/etcd:\nown\n\n/usr/local/bin:\netcd-own\n", nothing, nothing]);
    assert!(lab.folder.path().join("pki/ca.key").exists());
}

#[test]
fn make_has_a_target_for_each_job() {
    let lab = Lab::with_nodes(3);
    // Where the tools were checked out to, with what make and a shell may trip over.
    let folder = lab.folder.path().join("check it's out");
    fs::create_dir(&folder).unwrap();
    lab.run("cp", &["-r", &script(""), &folder.display().to_string()]).ok();
    let fragment = "check\\ it's\\ out/scripts/etcd.mk";
    let own = "own:\n\t@echo own\nETCD_TOOLS_JOBS = no number\n";
    let makefile = |rest: &str| {
        let list = "ETCD_NODES = list of nodes.txt";
        format!("{list}\nETCD_VERSION = {}\ninclude {fragment}\n{rest}", guide())
    };
    lab.bash("cp nodes.txt 'list of nodes.txt'").ok();
    let make = |target: &str| lab.bash(&format!("make -s {target}"));

    // A bare `make` is the Makefile's own, and what it sets afterwards counts, too.
    lab.write("Makefile", &makefile(own));
    assert_eq!(make("").ok().stdout, "own\n");
    make("etcd-health").exits(2).says(
        "etcd-health: ETCD_TOOLS_JOBS: invalid value 'no number' for '--jobs <N>': invalid digit found in string: \
         see etcd-health --help",
    );
    lab.write("Makefile", &makefile(""));

    // Without a version nothing new is made of fresh hosts.
    let ran = make("etcd-deploy ETCD_VERSION=").exits(2);
    assert!(
        ran.stderr.starts_with(
            "etcd-fetch: no version is given, and no member says which one runs: pass one, in a \
             Makefile as ETCD_VERSION, e.g. v3."
        ),
        "{}",
        ran.stderr
    );
    // A fresh host is a difference; so is one that only an early stage sees.
    make("etcd-check").exits(2).says("etcd-push: etcd-01: would write /etc/etcd/etcd.conf");
    assert_eq!(on_hosts(&lab, "/usr/local/lib"), vec![""; 3]);
    // With -j, too, one after the other.
    let ran = make("-j8 etcd-deploy etcd-health etcd-cert-check").ok();
    assert_eq!(ran.stdout.matches(" healthy ").count(), 6, "{}", ran.stdout);
    make("etcd-check ETCD_VERSION=").ok();
    lab.on("etcd-02", "chmod 600 /etc/etcd/etcd.conf");
    let would = "etcd-push: etcd-02: would set /etc/etcd/etcd.conf to mode 0644, owner root:root";
    make("etcd-check").exits(2).says(would);
    make("etcd-deploy").ok();

    assert_eq!(make("etcd-health").ok().stdout.matches(" healthy ").count(), 3);
    assert_eq!(make("etcd-status").ok().stdout.matches(" running ").count(), 3);
    assert!(make("etcd-logs").ok().stdout.contains("Started etcd.service"));
    make("etcd-restart").ok().says("etcd-unit: etcd-01: restarted etcd.service: as asked");
    assert!(make("etcd-cert-check").ok().stdout.contains("etcd-01  server"));
    make("etcd-stop").exits(2);
    make("etcd-stop ETCD_STOP_FLAGS=--lose-quorum").ok();
    make("etcd-start").ok().says("etcd-unit: etcd-01: started etcd.service");
    make("etcd-install").ok();
    lab.bash("mkdir backup").ok();
    make("etcd-backup").ok();
    lab.bash("etcd-snapshot verify backup/*.db").ok();
    make("etcd-restore ETCD_RESTORE_FLAGS=--yes ETCD_SNAPSHOT=$(ls backup/*.db)").ok();

    // Without its list of nodes nothing is done, though make's shell has no pipefail.
    let before = lab.on_all(&HOSTS, STATE);
    for target in [
        "etcd-deploy",
        "etcd-check",
        "etcd-health",
        "etcd-restart",
        "etcd-backup",
        "etcd-restore",
        "etcd-teardown",
    ] {
        make(&format!("{target} ETCD_NODES=missing.txt")).exits(2);
    }
    make("etcd-teardown").exits(2);
    assert_eq!(lab.on_all(&HOSTS, STATE), before);
    make("etcd-teardown ETCD_TEARDOWN_FLAGS=--yes").ok();
    assert_eq!(lab.on_all(&HOSTS, "systemctl is-active etcd || true"), vec!["inactive\n"; 3]);
}

#[test]
fn a_stage_that_fails_stops_the_pipe_in_every_shell() {
    let lab = Lab::with_nodes(3);
    // Of the other stages, each pipe takes those that come after the failure.
    let version = guide();
    let first = format!("etcd-fetch {version} <nodes.txt");
    let cert = format!("{first} | etcd-cert issue");
    let rest = "| etcd-push | etcd-unit start | etcd-health -o table";
    let cases = [
        // The first, the second and a middle stage fail and say so.
        (format!("etcd-fetch v3.5.17 <nodes.txt | etcd-cert issue | etcd-render {rest}"), 66),
        (format!("{first} | etcd-cert issue --ca-cert no --ca-key no | etcd-render {rest}"), 66),
        (format!("{cert} | etcd-render --templates /dev/null {rest}"), 66),
        // One says nothing at all, one is cut off, one is no tool of ours.
        (format!("{cert} | sh -c 'kill -9 $$' | etcd-render {rest}"), 66),
        (format!("{cert} | etcd-render | head -c 2000 {rest}"), 66),
        (format!("{cert} | etcd-render | jq .nodes {rest}"), 66),
        (format!("etcd-fetch {version} <missing.txt | etcd-cert issue | etcd-render {rest}"), 66),
    ];
    lab.on("etcd-02", "mkdir -p /etc/etcd/etcd.conf");
    let before = lab.on_all(&HOSTS, STATE);
    for (pipe, code) in cases {
        in_every_shell(&lab, &pipe, code);
        assert_eq!(lab.on_all(&HOSTS, STATE), before, "{pipe}");
    }

    // One node of three: the stages after it leave the other two alone as well.
    let ran = in_every_shell(&lab, &format!("{cert} | etcd-render {rest}"), 66);
    ran.says("etcd-push: etcd-02: /etc/etcd/etcd.conf: a folder is in the place of the file: move it away")
        .says("etcd-unit: nothing done: etcd-push failed on etcd-02 (command-failed)")
        .says("etcd-health: nothing done: etcd-push failed on etcd-02 (command-failed)");
    let units = lab.on_all(&HOSTS, "ls /etc/systemd/system/etcd.service 2>/dev/null || true");
    assert_eq!(units, vec![""; 3]);
}

/// Runs `pipe` under bash, bash with pipefail, dash and make. Its last stage
/// must exit with `code`, so that all of them see the failure. An etcd that
/// etcdctl's variables name has nothing to do with it.
#[track_caller]
fn in_every_shell(lab: &Lab, pipe: &str, code: i32) -> Ran {
    lab.write("pipe.sh", &format!("export ETCDCTL_ENDPOINTS=http://127.0.0.1:1\n{pipe}\n"));
    let pipe = pipe.replace('$', "$$");
    lab.write(
        "Makefile",
        &format!("export ETCDCTL_ENDPOINTS = http://127.0.0.1:1\nall:\n\t{pipe}\n"),
    );
    for shell in ["bash", "bash -o pipefail", "dash"] {
        lab.bash(&format!("{shell} pipe.sh")).exits(code);
    }
    let says = format!("make: *** [Makefile:3: all] Error {code}");
    lab.bash("make -s").exits(2).says(&says)
}

#[test]
fn usage_is_an_error_of_its_own() {
    let folder = TempDir::new().unwrap();
    let cases = [
        ("deploy", "--force nodes.txt", "deploy: --force: no such option: see deploy --help"),
        ("deploy", "", "usage: deploy [--yes | --check] [--lose-quorum] NODES [VERSION]"),
        ("deploy", "a b c", "usage: deploy [--yes | --check] [--lose-quorum] NODES [VERSION]"),
        ("teardown", "a b", "usage: teardown [--yes] [--purge [--delete-data]] NODES"),
        ("teardown", "--delete-data a", "teardown: --delete-data goes with --purge"),
        ("backup", "a", "usage: backup NODES DIR"),
        ("backup", "--now a b", "backup: --now: no such option: see backup --help"),
        ("backup", "a b", "backup: b: no such folder"),
        ("restore", "a", "usage: restore [--yes] [--again] [--keep-revision] [--no-trailer]"),
        ("restore", "--now a b", "restore: --now: no such option: see restore --help"),
        ("install", "--help", "usage: install [PREFIX]"),
    ];
    for (name, args, line) in cases {
        let args: Vec<_> = args.split_whitespace().collect();
        let ran = run(folder.path(), &script(name), &args).exits(2);
        assert_eq!(ran.stderr.lines().next(), Some(line), "{name} {args:?}");
    }

    // A copy of the scripts, far from any tools.
    for name in ["deploy", "common.bash"] {
        fs::copy(script(name), folder.path().join(name)).unwrap();
    }
    let ran = run(folder.path(), "env", &["PATH=/usr/bin:/bin", "./deploy", "--yes", "nodes.txt"]);
    ran.exits(2).says("deploy: etcd-fetch: not on the PATH: run scripts/install");
    // A link to the script finds what it needs, and is what speaks.
    symlink(script("deploy"), folder.path().join("etcd-deploy")).unwrap();
    let ran = run(folder.path(), "./etcd-deploy", &["--force"]);
    ran.exits(2).says("etcd-deploy: --force: no such option: see etcd-deploy --help");
}

#[test]
fn what_a_machine_cannot_run_is_listed_and_fails_in_ci() {
    let folder = TempDir::new().unwrap();
    let list = |ci: &str| bash(folder.path(), &format!("{ci} {} list", script("report-not-run")));
    fs::write(folder.path().join("list"), "").unwrap();
    assert_eq!(list("CI=true").ok().stderr, "");

    // A release that nobody could make is named with its reason.
    let mirror = folder.path().join("releases");
    fs::create_dir(&mirror).unwrap();
    let lab = script("lab");
    let releases = bash(folder.path(), &format!("{lab} releases")).ok().stdout;
    let version = releases.split_whitespace().find(|word| word.starts_with("v3.7.")).unwrap();
    fs::write(mirror.join(format!(".missing-{version}")), "site: no route; go: none\n").unwrap();
    let missing = bash(folder.path(), &format!("LAB_CACHE=$PWD {lab} release 3.7")).exits(1);
    let why = format!("lab: etcd {version} missing: site: no route; go: none");
    assert_eq!(missing.stderr.trim_end(), why);

    fs::write(folder.path().join("list"), "b: for want of b\na: why\na: why\n").unwrap();
    let listed = "test: NOT RUN, because this machine cannot provide what they need:\n\
                  test:   a: why\ntest:   b: for want of b\n";
    assert_eq!(list("CI=").ok().stderr, listed);
    let failed = format!("{listed}test: with CI=true that is a failure\n");
    assert_eq!(list("CI=true").exits(1).stderr, failed);
}

#[test]
fn install_puts_tools_and_man_pages_under_the_prefix() {
    let folder = TempDir::new().unwrap();
    let target = tools().parent().unwrap().display().to_string();
    let script = format!("CARGO_TARGET_DIR={target} {} prefix", script("install"));
    bash(folder.path(), &script).ok();
    let prefix = folder.path().join("prefix");
    for tool in ["fetch", "cert", "render", "push", "unit", "health"] {
        let tool = format!("etcd-{tool}");
        let version = run(folder.path(), &format!("prefix/bin/{tool}"), &["--version"]).ok();
        assert_eq!(version.stdout, format!("{tool} {}\n", env!("CARGO_PKG_VERSION")));
        assert!(prefix.join(format!("share/man/man1/{tool}.1")).exists(), "{tool}");
    }
}
