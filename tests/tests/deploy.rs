//! From three lines of text to a healthy TLS cluster, and every time after.

use tests::{Lab, deploy};

#[test]
fn a_second_run_changes_nothing() {
    let lab = Lab::with_nodes(3);
    let first = lab.bash(&deploy("v3.5.16")).ok();
    assert!(first.document().health.is_some_and(|health| health.healthy), "{}", first.stdout);
    let before = lab.on("etcd-01", STATE);
    let second = lab.bash(&deploy("v3.5.16")).ok();
    assert!(second.document().results.iter().all(|result| !result.changed), "{}", second.stderr);
    assert_eq!(lab.on("etcd-01", STATE), before);
    second
        .says("etcd-push: etcd-01: 6 files, 3 folders, release v3.5.16 already in place")
        .says("etcd-unit: etcd-01: etcd.service running as configured");
}

/// All that a second run must leave alone: files with inode and times, and the process.
const STATE: &str = "find /etc /usr/local -exec stat -c '%n %i %Z %a %U' {} + | sort; \
                     systemctl show etcd -p MainPID,ExecMainStartTimestamp";
