//! The same life of a cluster with each minor version of etcd that the lab has:
//! deployed, changed, restarted, asked, with a learner, an alarm and authentication.

use std::collections::BTreeSet;
use std::time::Duration;

use pipeline::Document;
use pipeline::document::Health;
use serde_json::{Value, json};
use tests::{Lab, PID, Ran, deploy, release, wait_until};

const HOSTS: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];
const JOINS: &str = "etcd-04";
/// Small enough to be filled.
const QUOTA: u64 = 4 << 20;

#[test]
fn the_oldest() {
    if let Some(version) = release("oldest") {
        life(&Lab::with_nodes(3), &version);
    }
}

#[test]
fn the_newest_3_5_on_hosts_whose_sh_is_bash() {
    let Some(version) = release("3.5") else { return };
    let lab = Lab::with_nodes(3);
    for host in HOSTS {
        lab.command(&["sh", "bash", host]);
    }
    life(&lab, &version);
}

#[test]
fn the_newest_3_6_with_a_host_of_an_older_debian() {
    let Some(version) = release("3.6") else { return };
    let lab = Lab::with_nodes(3);
    if lab.make_older("etcd-02") {
        life(&lab, &version);
    }
}

#[test]
fn the_newest_3_7_with_an_older_host_whose_sh_is_bash() {
    let Some(version) = release("3.7") else { return };
    let lab = Lab::with_nodes(3);
    if lab.make_older("etcd-02") {
        lab.command(&["sh", "bash", "etcd-02"]);
        life(&lab, &version);
    }
}

fn life(lab: &Lab, version: &str) {
    lab.write("nodes.txt", &inventory(&json!({"logLevel": "warn", "quotaBackendBytes": QUOTA})));
    let first = lab.bash(&deploy(version)).ok();
    assert_healthy(&first.document(), version);
    lab.write("document.json", &first.stdout);
    lab.unpack(version);
    let endpoints: Vec<_> =
        first.document().nodes.iter().map(|node| first.document().client_url(node)).collect();
    let etcdctl = |args: &str| lab.bash(&lab.etcdctl(&endpoints, args));

    // A second run changes nothing.
    let before = lab.on_all(&HOSTS, STATE);
    let second = lab.bash(&deploy(version)).ok();
    assert!(second.document().results.iter().all(|result| !result.changed), "{}", second.stderr);
    assert_eq!(lab.on_all(&HOSTS, STATE), before);

    // Through ssh the same is seen.
    let direct = lab.bash("etcd-health < document.json").ok();
    let by_ssh = lab.bash("etcd-health --via ssh < document.json").ok();
    assert_eq!(by_ssh.stderr, direct.stderr);
    assert_eq!(seen(&by_ssh.document()), seen(&direct.document()));

    // A full database.
    let big = etcdctl_with_value(lab, &endpoints);
    assert!(big.stderr.contains("database space exceeded"), "{}", big.stderr);
    let ill = lab.bash("etcd-health < document.json").exits(1);
    let alarm = ": alarm NOSPACE: the database has reached its quota and takes no writes: compact, \
                 defragment, raise quotaBackendBytes if most of it is in use, then etcdctl alarm \
                 disarm";
    assert!(ill.stderr.lines().any(|line| line.ends_with(alarm)), "{}", ill.stderr);
    etcdctl("del big --prefix").ok();
    let compact = lab.etcdctl(&endpoints, "compact $revision");
    let status = lab.etcdctl(&endpoints[..1], "endpoint status -w json");
    lab.bash(&format!("revision=$({status} | jq '.[0].Status.header.revision'); {compact}")).ok();
    etcdctl("defrag").ok();
    etcdctl("alarm disarm").ok();

    // A changed setting is rolled out, the leader last.
    lab.write("nodes.txt", &inventory(&json!({"logLevel": "warn"})));
    let leader = leader(&lab.bash("etcd-health --wait < document.json").ok().document());
    let rolled = lab.bash(&deploy(version)).ok();
    assert_healthy(&rolled.document(), version);
    assert_rolled(lab, &rolled, &leader, &before);
    lab.write("document.json", &rolled.stdout);

    // A fourth member joins, and does not vote.
    let add = format!("member add {JOINS} --learner --peer-urls https://192.168.1.103:2380");
    // Refused until the restarted members have been connected for a while.
    wait_until("a member is added", Duration::from_secs(30), || etcdctl(&add).code == 0);
    let mut joining: Value = serde_json::from_str(&lab.read("nodes.txt")).unwrap();
    let node = json!({"name": JOINS, "address": "192.168.1.103",
                      "settings": {"initialClusterState": "existing"}});
    joining["nodes"].as_array_mut().unwrap().push(node);
    lab.write("joining.json", &joining.to_string());
    let join = deploy(version)
        .replace("nodes.txt", "joining.json")
        .replace("etcd-push", &format!("etcd-push --only {JOINS}"))
        .replace("etcd-unit start", &format!("etcd-unit start --only {JOINS}"));
    let joined = lab.bash(&join).ok().says(&format!(
        "etcd-health: {JOINS}: warning: a learner, which does not vote: promote it when it has \
         caught up"
    ));
    let health = joined.document().health.unwrap();
    assert!(health.healthy && health.endpoints.len() == 4, "{}", joined.stderr);
    let learners: Vec<_> = health.endpoints.iter().filter(|e| e.is_learner).collect();
    assert_eq!(learners.len(), 1);
    assert_eq!(learners[0].node.as_deref(), Some(JOINS));
    lab.write("document.json", &joined.stdout);
    let promote = format!("member promote {}", learners[0].member_id.as_ref().unwrap());
    wait_until("it is promoted", Duration::from_secs(30), || etcdctl(&promote).code == 0);

    // What etcd does not know, or will not know for long, it complains of when it starts.
    for (host, journal) in HOSTS.iter().chain([&JOINS]).zip(lab.on_all(
        &[HOSTS[0], HOSTS[1], HOSTS[2], JOINS],
        "journalctl --sync; journalctl -b -o cat -u etcd",
    )) {
        let complaints: Vec<_> = journal.lines().filter(|line| is_complaint(line)).collect();
        assert!(complaints.is_empty(), "{host}: {complaints:#?}");
    }

    // With authentication on, all goes on for who says who he is.
    etcdctl("user add root:secret").ok();
    etcdctl("user grant-role root root").ok();
    etcdctl("auth enable").ok();
    let pids = lab.on_all(&HOSTS, PID);
    let known = "export ETCDCTL_USER=root ETCDCTL_PASSWORD=secret;";
    lab.bash(&format!("{known} etcd-health < document.json")).ok();
    let by_ssh = lab.bash(&format!("{known} etcd-health --via ssh < document.json")).ok();
    assert_eq!(by_ssh.document().health.unwrap().members.len(), 4, "{}", by_ssh.stderr);
    lab.bash(&format!("{known} etcd-unit restart < document.json")).ok();
    let now = lab.on_all(&HOSTS, PID);
    assert!(now.iter().zip(&pids).all(|(now, before)| now != before), "{now:?} {pids:?}");
    lab.bash(&format!("{known} etcd-health --wait < document.json")).ok();
}

fn is_complaint(line: &str) -> bool {
    let line = line.to_lowercase();
    ["unrecognized", "deprecated", "unknown", "conflicting"].iter().any(|word| line.contains(word))
}

/// Puts values until etcd takes no more; gives how that ended. etcd compares with the
/// quota what it last committed: how many fit depends on how fast they come.
fn etcdctl_with_value(lab: &Lab, endpoints: &[String]) -> Ran {
    let put = lab.etcdctl(endpoints, "put big-$i");
    lab.bash(&format!(
        "head -c 1000000 /dev/zero | tr '\\0' x > value
         for i in $(seq 60); do {put} < value || exit; done"
    ))
    .exits(1)
}

fn inventory(settings: &Value) -> String {
    let node = |(at, host): (usize, &&str)| json!({"name": host, "address": format!("192.168.1.{}", 100 + at)});
    let nodes: Vec<_> = HOSTS.iter().enumerate().map(node).collect();
    json!({"apiVersion": "etcd-tools/v1", "cluster": {"settings": settings}, "nodes": nodes})
        .to_string()
}

#[track_caller]
fn assert_healthy(document: &Document, version: &str) {
    let health = document.health.as_ref().unwrap();
    assert!(health.healthy);
    assert_eq!(health.endpoints.len(), document.nodes.len());
    for endpoint in &health.endpoints {
        assert_eq!(endpoint.version.as_deref(), version.strip_prefix('v'), "{endpoint:?}");
    }
}

/// What must be the same whichever way it was asked.
fn seen(document: &Document) -> (BTreeSet<Option<String>>, Option<String>, usize) {
    let health = document.health.as_ref().unwrap();
    let ids = health.endpoints.iter().map(|endpoint| endpoint.member_id.clone()).collect();
    (ids, health.leader.clone(), health.members.len())
}

/// The name of the leader.
fn leader(document: &Document) -> String {
    let Health { endpoints, .. } = document.health.as_ref().unwrap();
    endpoints.iter().find(|endpoint| endpoint.is_leader).unwrap().node.clone().unwrap()
}

/// All three members were restarted since `before`, one after the other, the leader last.
#[track_caller]
fn assert_rolled(lab: &Lab, ran: &Ran, leader: &str, before: &[String]) {
    let now = lab.on_all(&HOSTS, STATE);
    assert!(now.iter().zip(before).all(|(now, before)| now != before), "{}", ran.stderr);
    // The hosts share one clock, in microseconds.
    let times = lab.on_all(&HOSTS, TIMES);
    let times = times.iter().map(|text| {
        let [stopped, started] = [0, 1].map(|at| text.split_whitespace().nth(at).unwrap());
        [stopped, started].map(|time| time.parse::<u64>().unwrap())
    });
    let mut order: Vec<_> = times.zip(HOSTS).collect();
    order.sort_unstable();
    assert!(order.iter().flat_map(|(times, _)| times).is_sorted(), "{order:?}");
    assert_eq!(order[2].1, leader, "{order:?}");
}

/// When etcd was stopped for the last time, and when it was ready after that.
const TIMES: &str = "systemctl show etcd -p InactiveEnterTimestampMonotonic --value; \
                     systemctl show etcd -p ActiveEnterTimestampMonotonic --value";

/// All that a second run must leave alone: files with inode and times, and the process.
const STATE: &str = "find /etc /usr/local -exec stat -c '%n %z %a %U' {} + | sort; \
                     systemctl show etcd -p MainPID,ExecMainStartTimestamp";
