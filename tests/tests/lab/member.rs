//! `etcd-member` and its scripts: members come and go under a client that writes.

use tests::{Lab, Ran, deploy, guide, release, repository};

use crate::writer::{Writer, all_is_kept};

const PID: &str = "systemctl show etcd -p MainPID --value";

fn script(lab: &Lab, line: &str) -> Ran {
    lab.bash(&format!("{}/scripts/{line}", repository().display()))
}

/// The voting members by name, as `etcd-member list` has them; learners in brackets.
fn members(lab: &Lab, list: &str) -> String {
    let health = lab.bash(&format!("etcd-member list -o json < {list}")).ok().document().health;
    let members = health.unwrap().members.into_iter();
    let mut names: Vec<_> = members
        .map(|member| if member.is_learner { format!("[{}]", member.name) } else { member.name })
        .collect();
    names.sort();
    names.join(" ")
}

#[test]
fn one_three_five_three_members_and_no_old_one_restarts() {
    let lab = Lab::with_nodes(5);
    lab.bash("head -n 1 nodes.txt > one.txt; head -n 3 nodes.txt > three.txt").ok();
    lab.bash(&deploy(guide()).replace("nodes.txt", "one.txt")).ok();
    let writer = Writer::start(&lab, 1_000_000);
    let first = lab.on("etcd-01", PID);

    // The pipeline itself notices; what is not told in words is not done.
    let refused = lab.bash(&deploy(guide()).replace("nodes.txt", "three.txt"));
    assert_ne!(refused.code, 0);
    refused.says(
        "etcd-push: etcd-02: it is not a member of the cluster that runs: add it first: \
         `scripts/grow NODES`, or `etcd-member add` before etcd-render",
    );
    script(&lab, "grow three.txt < /dev/null").exits(2);
    assert_eq!(members(&lab, "one.txt"), "etcd-01");

    let grown = script(&lab, "grow --yes three.txt").ok();
    grown.says("grow: --etcd-servers of kube-apiserver before: https://192.168.1.100:2379").says(
        "grow: --etcd-servers of kube-apiserver now:    \
         https://192.168.1.100:2379,https://192.168.1.101:2379,https://192.168.1.102:2379",
    );
    assert_eq!(members(&lab, "three.txt"), "etcd-01 etcd-02 etcd-03");
    let three = ["etcd-01", "etcd-02", "etcd-03"];
    let pids = lab.on_all(&three, PID);
    assert_eq!(pids[0], first, "the first member was restarted");

    // A second run finds nothing to do, and neither does the pipeline.
    script(&lab, "grow --yes three.txt").ok();
    lab.bash(&deploy(guide()).replace("nodes.txt", "three.txt")).ok();
    assert_eq!(lab.on_all(&three, PID), pids);

    script(&lab, "grow --yes nodes.txt").ok();
    assert_eq!(members(&lab, "nodes.txt"), "etcd-01 etcd-02 etcd-03 etcd-04 etcd-05");
    let list = lab.bash("etcd-member list -o nodes < one.txt").ok().stdout;
    assert_eq!(list.lines().count(), 5, "{list}");

    let shrunk = script(&lab, "shrink --yes nodes.txt etcd-04 etcd-05").ok();
    shrunk.says("shrink: take etcd-04 etcd-05 out of nodes.txt, too");
    assert_eq!(members(&lab, "three.txt"), "etcd-01 etcd-02 etcd-03");
    assert_eq!(lab.on_all(&three, PID), pids, "a member was restarted");
    let left = lab.on_all(&["etcd-04", "etcd-05"], "systemctl is-active etcd || true");
    assert_eq!(left, ["inactive\n"; 2]);
    writer.stop();
    all_is_kept(&lab);
    lab.bash(&deploy(guide()).replace("nodes.txt", "three.txt")).ok();
    assert_eq!(lab.on_all(&three, PID), pids);
}

#[test]
fn a_member_whose_disk_is_lost_is_replaced_in_place_and_elsewhere() {
    let Some(version) = release("3.6") else { return };
    let lab = Lab::with_nodes(4);
    let fourth = lab.read("nodes.txt").lines().last().unwrap().to_owned();
    lab.bash("head -n 3 nodes.txt > three.txt; mv three.txt nodes.txt").ok();
    lab.bash(&deploy(&version)).ok();
    let writer = Writer::start(&lab, 1_000_000);
    let others = ["etcd-01", "etcd-03"];
    let pids = lab.on_all(&others, PID);

    // Power cut, and a disk that is empty afterwards.
    lab.command(&["power", "off", "etcd-02"]);
    lab.command(&["reset", "etcd-02"]);
    let said = lab.bash(&deploy(&version));
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("scripts/replace-member"), "{}", said.stderr);
    // Killed while the new member is made, and run again.
    lab.kill_at(&["etcd-02"], 8);
    script(&lab, "replace-member --yes nodes.txt etcd-02");
    script(&lab, "replace-member --yes nodes.txt etcd-02").ok();
    assert_eq!(members(&lab, "nodes.txt"), "etcd-01 etcd-02 etcd-03");
    assert_eq!(lab.on_all(&others, PID), pids, "a member was restarted");
    lab.bash("etcd-health < nodes.txt").ok();
    // What is in its place stays.
    script(&lab, "replace-member --yes nodes.txt etcd-02").ok();

    // Its host is gone: another takes its place.
    lab.command(&["power", "off", "etcd-02"]);
    let replaced = script(&lab, &format!("replace-member --yes nodes.txt etcd-02 {fourth}")).ok();
    replaced.says(&format!("replace-member: write {fourth} in the place of etcd-02 in nodes.txt"));
    lab.bash(&format!("sed -i 's/.*:etcd-02$/{fourth}/' nodes.txt")).ok();
    assert_eq!(members(&lab, "nodes.txt"), "etcd-01 etcd-03 etcd-04");
    assert_eq!(lab.on_all(&others, PID), pids, "a member was restarted");
    lab.bash("etcd-health < nodes.txt").ok();
    writer.stop();
    all_is_kept(&lab);
    // The host that comes back is no member any more, and does not disturb.
    lab.command(&["power", "on", "etcd-02"]);
    lab.bash("etcd-health < nodes.txt").ok();
}
