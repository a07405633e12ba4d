//! Backups as a timer takes them, and what becomes of old ones.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tests::{Lab, deploy, release, repository, tools, wait_until};

/// The machine of the operator, with systemd, in the network of the cluster.
const OPERATOR: &str = "etcd-02";
/// Which it has before the timer has run.
const OLD: &str = "etcd-snapshot-20260101T000000Z-r7.db";

/// The value of a metric in `file` of the operator's folder of backups.
#[track_caller]
fn metric(lab: &Lab, file: &str, name: &str) -> String {
    let text = lab.on(OPERATOR, &format!("cat /var/lib/backup/{file}"));
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("etcd_tools_{name} ")));
    value.unwrap_or_else(|| panic!("no {name} in:\n{text}")).to_owned()
}

#[test]
fn a_timer_takes_them_and_a_failure_is_loud() {
    let Some(version) = release("3.6") else { return };
    let lab = Lab::with_nodes(1);
    lab.bash(&format!("{} | etcd-snapshot save --to {OLD}", deploy(&version))).ok();

    // As on a machine with the tools installed, and the certificates of the operator.
    let put = |folder: &Path, files: &str, to: &str| {
        let folder = folder.display();
        lab.bash(&format!(
            "tar -c -C {folder} {files} | ssh -F \"$ETCD_TOOLS_SSH_CONFIG\" {OPERATOR} \
             'mkdir -p {to}; tar -x -C {to}'"
        ))
        .ok();
    };
    put(lab.folder.path(), "nodes.txt pki", "/srv/etcd");
    put(&tools(), "etcd-snapshot", "/usr/local/bin");
    put(&repository().join("scripts"), "backup common.bash", "/usr/local/lib/scripts");
    put(lab.folder.path(), OLD, "/var/lib/backup");
    // What could not save is not installed.
    let refused = lab.on(
        OPERATOR,
        "mkdir /srv/other; cp /srv/etcd/nodes.txt /srv/other; cd /srv/other; \
         /usr/local/lib/scripts/backup --install-timer nodes.txt /var/lib/backup 2>&1; echo $?; \
         ls /etc/systemd/system/etcd-backup.* 2>/dev/null; true",
    );
    assert_eq!(
        refused,
        "etcd-snapshot: etcd-01: https://192.168.1.100:2379: TLS: the server's certificate is not \
         signed by a CA that this machine trusts: run this in the folder that has pki/, or pass \
         --cacert\netcd-snapshot: no healthy voting member to save from: to save what one member has, pass --from NODE\nbackup: nothing is installed: the backup would fail, as reported: run this in the \
         folder that has pki/, or name the certificates in /etc/default/etcd-backup \
         (ETCD_TOOLS_CACERT, _CERT and _KEY)\n3\n"
    );
    let refused = lab.on(
        OPERATOR,
        "echo ETCD_TOOLS_CHECK=1 > /etc/default/etcd-backup; cd /srv/etcd; \
         /usr/local/lib/scripts/backup --install-timer nodes.txt /var/lib/backup 2>&1; echo $?",
    );
    let why = "backup: ETCD_TOOLS_CHECK is set, and a backup has to be written: unset it\n";
    assert!(refused.starts_with(why) && refused.ends_with("\n2\n"), "{refused}");
    // What is for other tools is no matter.
    let install = "printf '%s\\n' ETCD_TOOLS_ONLY=etcd-77 ETCD_TOOLS_KEEP_LAST=1 ETCD_TOOLS_KEEP_DAILY= \
             ETCD_TOOLS_KEEP_WEEKLY= ETCD_TOOLS_KEEP_MONTHLY= > /etc/default/etcd-backup; \
         cd /srv/etcd; /usr/local/lib/scripts/backup --install-timer nodes.txt \
             ../../var/lib/backup 2>&1";
    for _ in 0..2 {
        assert_eq!(
            lab.on(OPERATOR, install),
            "backup: installed etcd-backup.timer; to try it: systemctl start etcd-backup\n"
        );
    }
    let verify = "systemd-analyze verify etcd-backup.service etcd-backup.timer 2>&1";
    assert_eq!(lab.on(OPERATOR, verify), "");
    let state = "systemctl is-enabled etcd-backup.timer; systemctl is-active etcd-backup.timer";
    assert_eq!(lab.on(OPERATOR, state), "enabled\nactive\n");

    // The timer is due: its unit saves, verifies and prunes.
    lab.on(
        OPERATOR,
        "mkdir -p /run/systemd/system/etcd-backup.timer.d; \
         printf '%s\\n' '[Timer]' OnActiveSec=0 RandomizedDelaySec=0 \
             > /run/systemd/system/etcd-backup.timer.d/now.conf; \
         systemctl daemon-reload; systemctl restart etcd-backup.timer",
    );
    let ended = "grep -s . /var/lib/backup/etcd-backup.prom; true";
    wait_until("the timer's unit has ended", Duration::from_secs(60), || {
        !lab.on(OPERATOR, ended).is_empty()
    });
    let journal = || lab.on(OPERATOR, "journalctl --sync; journalctl -u etcd-backup -o cat");
    let code = metric(&lab, "etcd-backup.prom", "backup_exit_code");
    assert_eq!(code, "0", "{}", journal());
    assert_eq!(metric(&lab, "etcd-snapshot.prom", "snapshot_keys"), "0");
    let list = || lab.on(OPERATOR, "cd /var/lib/backup; ls -A; stat -c '%a %n' *.prom");
    let backups = list();
    assert!(!backups.contains(OLD) && backups.lines().count() == 5, "{backups}");
    assert!(backups.ends_with("644 etcd-backup.prom\n644 etcd-snapshot.prom\n"), "{backups}");
    lab.on(OPERATOR, "etcd-snapshot verify /var/lib/backup/*.db 2>&1");

    // Three at once come one after the other.
    let at_once = lab.on(
        OPERATOR,
        "cd /srv/etcd; for i in 1 2 3; do \
             { /usr/local/lib/scripts/backup nodes.txt /var/lib/backup > /run/out.$i 2>&1; \
               echo $? >> /run/codes; } & \
         done; wait; cat /run/codes; grep -h -v -e ': saved from ' -e ': intact: ' \
             -e ': removed' -e ': nothing to remove, ' -e '^    keep ' /run/out.*; true",
    );
    assert_eq!(at_once, "0\n0\n0\n");
    let taken_at = metric(&lab, "etcd-snapshot.prom", "snapshot_timestamp_seconds");
    let backups = list();
    assert!(!backups.contains("part") && !backups.contains("prom."), "{backups}");

    // Whatever keeps it from beginning, the metrics tell.
    let failed = lab.on(
        OPERATOR,
        "cd /srv/etcd; ETCD_TOOLS_CHECK=1 /usr/local/lib/scripts/backup nodes.txt \
         /var/lib/backup 2>&1; echo $?",
    );
    assert_eq!(failed, format!("{why}backup: FAILED at start with exit code 2\n2\n"));
    assert_eq!(metric(&lab, "etcd-backup.prom", "backup_exit_code"), "2");

    // The cluster is down.
    lab.on("etcd-01", "systemctl stop etcd");
    let failed = lab.on(
        OPERATOR,
        &format!(
            "cp $(ls /var/lib/backup/*.db | head -n 1) /var/lib/backup/{OLD}; systemctl start etcd-backup 2>/dev/null; \
             systemctl show etcd-backup -p Result -p ExecMainStatus"
        ),
    ) + &journal();
    let lines: Vec<_> = failed.lines().collect();
    assert!(lines.contains(&"Result=exit-code"), "{failed}");
    assert!(lines.contains(&"backup: FAILED at save with exit code 69"), "{failed}");
    assert!(failed.contains("etcd-snapshot: etcd-01: "), "{failed}");
    assert!(lines.contains(&"ExecMainStatus=69"), "{failed}");
    assert_eq!(metric(&lab, "etcd-backup.prom", "backup_exit_code"), "69");
    let now = metric(&lab, "etcd-snapshot.prom", "snapshot_timestamp_seconds");
    assert_eq!(now, taken_at);
    // Nothing was removed.
    assert_eq!(list().replace(&format!("{OLD}\n"), ""), backups);
    let left = format!("rm -f /var/lib/backup/{OLD}; rmdir /var/lib/backup 2>&1 || true");
    assert!(lab.on(OPERATOR, &left).contains("not empty"));

    // The folder is not there: said, too, where the metrics still can be written.
    lab.on(OPERATOR, "mv /var/lib/backup /var/lib/backup.away; mkdir /run/metrics");
    let gone = lab.on(
        OPERATOR,
        "cd /srv/etcd; export ETCD_TOOLS_METRICS=/run/metrics/etcd.prom; \
         /usr/local/lib/scripts/backup nodes.txt /var/lib/backup 2>&1; echo $?; \
         grep -v '^#' /run/metrics/etcd-backup.prom | head -n1",
    );
    assert_eq!(
        gone,
        "backup: /var/lib/backup: no such folder\nbackup: FAILED at start with exit code 2\n2\n\
         etcd_tools_backup_exit_code 2\n"
    );
}

#[test]
fn prune_removes_what_no_rule_keeps_and_nothing_else() {
    let Some(version) = release("3.6") else { return };
    let lab = Lab::with_nodes(1);
    lab.bash(&format!("{} | etcd-snapshot save --to good", deploy(&version))).ok();
    // Where the metrics cannot go is found before the snapshot is taken.
    let none = lab.folder.path().join("none");
    lab.bash("etcd-snapshot save --to new.db --metrics none/m.prom < nodes.txt")
        .exits(2)
        .says(&format!("etcd-snapshot: --metrics: {}: no such folder", none.display()));
    assert!(!lab.folder.path().join("new.db").exists());
    let folder = lab.folder.path().join("b");
    fs::create_dir(&folder).unwrap();
    let name = |day: usize| format!("etcd-snapshot-2026020{day}T000000Z-r{day}.db");
    let good = fs::read(lab.folder.path().join("good")).unwrap();
    let mut damaged = good.clone();
    damaged[9000] ^= 1;
    for day in [1, 2, 3] {
        fs::write(folder.join(name(day)), &good).unwrap();
    }
    fs::write(folder.join(name(4)), &good[..good.len() - 4096]).unwrap();
    fs::write(folder.join(name(5)), &damaged).unwrap();
    // What is not of save, or not a file.
    let copy = format!("{}.copy", name(1));
    for other in ["notes.txt", "etcd-snapshot.part", &copy] {
        fs::write(folder.join(other), "kept").unwrap();
    }
    symlink("notes.txt", folder.join("etcd-snapshot-20260101T000000Z-r1.db")).unwrap();
    fs::create_dir(folder.join("etcd-snapshot-20260102T000000Z-r1.db")).unwrap();
    let list = || {
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let all = list();

    let no_rule = lab.bash("etcd-snapshot prune b").exits(2);
    assert!(
        no_rule.stderr.starts_with("etcd-snapshot: no rule, nothing would be kept: pass "),
        "{}",
        no_rule.stderr
    );
    // The rule keeps one that is damaged; the newest good one is kept as well. One that is cut
    // off is not counted.
    let prune = "etcd-snapshot prune b --keep-last 1";
    let plan = lab.bash(&format!("{prune} --check")).exits(1);
    assert_eq!(list(), all);
    let done = lab.bash(prune).ok();
    for day in [1, 2] {
        let plan = plan.stderr.contains(&format!("b/{}: would be removed\n", name(day)));
        let done = done.stderr.contains(&format!("b/{}: removed\n", name(day)));
        assert!(plan && done, "{day}");
    }
    assert_eq!(plan.stderr.matches(": would be removed\n").count(), 2, "{}", plan.stderr);
    let cut_off =
        format!("etcd-snapshot: warning: b/{}: not counted, and kept: truncated: ", name(4));
    assert!(done.stderr.starts_with(&cut_off), "{}", done.stderr);
    let begin = format!("etcd-snapshot: warning: b/{}: damaged: ", name(5));
    assert!(done.stderr.lines().any(|line| line.starts_with(&begin)), "{}", done.stderr);
    let removed = [name(1), name(2)];
    let rest: Vec<_> = all.into_iter().filter(|name| !removed.contains(name)).collect();
    assert_eq!(list(), rest);
    let line = "etcd-snapshot: b: nothing to remove, 2 kept";
    assert!(lab.bash(prune).ok().stderr.lines().any(|l| l == line));

    // None is good: none is removed.
    fs::write(folder.join(name(3)), &damaged).unwrap();
    lab.bash(prune)
        .exits(1)
        .says("etcd-snapshot: b: nothing removed: none of its 2 snapshots is intact");
    assert_eq!(list(), rest);
}
