//! From three lines of text to a healthy TLS cluster, and every time after.

use std::time::{Duration, Instant};

use pipeline::Document;
use pipeline::document::Member;
use serde_json::Value;
use tests::{Lab, deploy, release};

/// How long it may take until the sizes of a database no longer change after a write.
const SETTLED: Duration = Duration::from_secs(5);

#[test]
fn a_second_run_changes_nothing_and_a_reboot_heals_without_the_tools() {
    let Some(version) = release("guide") else { return };
    let lab = Lab::with_nodes(3);
    let document = deploy_and_compare(&lab, &version);
    let hosts = ["etcd-01", "etcd-02", "etcd-03"];
    for said in lab.on_all(&hosts, SYSTEM) {
        assert_eq!(said, SYSTEM_SAYS);
    }

    let before = lab.on_all(&hosts, STATE);
    let second = lab.bash(&deploy(&version)).ok();
    assert!(second.document().results.iter().all(|result| !result.changed), "{}", second.stderr);
    assert_eq!(lab.on_all(&hosts, STATE), before);
    let said = |line: String| assert!(second.stderr.lines().any(|l| l == line), "{line}");
    for host in hosts {
        said(format!("etcd-push: {host}: 6 files, 3 folders, release {version} already in place"));
        said(format!("etcd-unit: {host}: etcd.service running as configured"));
    }

    lab.command(&["power", "off", "etcd-02"]);
    lab.command(&["power", "on", "etcd-02"]);
    lab.bash("etcd-health --wait < document.json").ok();
    let value = lab.etcdctl(&endpoints(&document)[1..2], "get key --print-value-only");
    assert_eq!(lab.bash(&value).ok().stdout, "value\n");
}

#[test]
fn five_nodes_with_the_oldest_release() {
    let Some(version) = release("oldest") else { return };
    let lab = Lab::with_nodes(5);
    deploy_and_compare(&lab, &version);
    assert_unchanged(&lab, &version);
}

#[test]
fn one_node() {
    let Some(version) = release("3.7") else { return };
    let lab = Lab::with_nodes(1);
    deploy_and_compare(&lab, &version);
    assert_unchanged(&lab, &version);
}

#[test]
fn nodes_with_ipv6_addresses() {
    let Some(version) = release("3.6") else { return };
    let lab = Lab::with_nodes(3);
    let nodes = lab.read("nodes.txt");
    let addresses = [0, 1, 2].map(|at| format!("fd00:192:168:1::10{at}"));
    let lines = nodes.lines().zip(&addresses).map(|(line, address)| {
        let parts: Vec<_> = line.split(':').collect();
        format!("{}:[{address}]:{}\n", parts[0], parts[2])
    });
    lab.write("nodes.txt", &lines.collect::<String>());
    let document = deploy_and_compare(&lab, &version);
    assert_eq!(endpoints(&document), addresses.map(|address| format!("https://[{address}]:2379")));
    assert_unchanged(&lab, &version);
}

/// Deploys `version` on `nodes.txt`, writes a key with etcdctl, and compares
/// what etcdctl says of the cluster with what etcd-health says.
fn deploy_and_compare(lab: &Lab, version: &str) -> Document {
    let ran = lab.bash(&deploy(version)).ok();
    let document = ran.document();
    lab.write("document.json", &ran.stdout);
    lab.unpack(version);
    let endpoints = endpoints(&document);
    lab.bash(&lab.etcdctl(&endpoints, "put key value")).ok();
    let health = lab.bash(&lab.etcdctl(&endpoints, "endpoint health 2>&1")).ok();
    let count = health.stdout.lines().filter(|line| line.contains(" is healthy: ")).count();
    assert_eq!(count, document.nodes.len(), "{}", health.stdout);
    // Sizes settle only some time after a write.
    let (mut ours, mut theirs) = (of_health(lab), of_etcdctl(lab, &endpoints));
    let end = Instant::now() + SETTLED;
    while ours != theirs && Instant::now() < end {
        (ours, theirs) = (of_health(lab), of_etcdctl(lab, &endpoints));
    }
    assert_eq!(ours, theirs);
    assert!(ours.0.iter().all(|endpoint| endpoint[4] == version[1..]), "{ours:?}");
    document
}

fn endpoints(document: &Document) -> Vec<String> {
    document.nodes.iter().map(|node| document.client_url(node)).collect()
}

/// What can be compared of a cluster: its endpoints, and its members.
type Seen = (Vec<[String; 7]>, Vec<Member>);

fn of_health(lab: &Lab) -> Seen {
    let health = lab.bash("etcd-health < document.json").ok().document().health.unwrap();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let number = |number: Option<u64>| number.unwrap_or_default().to_string();
    let endpoints = health.endpoints.iter().map(|e| {
        [
            e.endpoint.clone(),
            text(&e.member_id),
            text(&health.cluster_id),
            text(&health.leader),
            text(&e.version),
            number(e.db_size_bytes),
            number(e.raft_term),
        ]
    });
    (endpoints.collect(), health.members.clone())
}

fn of_etcdctl(lab: &Lab, endpoints: &[String]) -> Seen {
    let ask = |what: &str| -> Value {
        let ran = lab.bash(&lab.etcdctl(endpoints, &format!("{what} -w json"))).ok();
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let hex = |id: &Value| format!("{:x}", id.as_u64().unwrap());
    let text = |text: &Value| text.as_str().unwrap_or_default().to_owned();
    let list = |list: &Value| list.as_array().unwrap().iter().map(text).collect::<Vec<_>>();
    let status = ask("endpoint status");
    let endpoints = status.as_array().unwrap().iter().map(|e| {
        let status = &e["Status"];
        [
            text(&e["Endpoint"]),
            hex(&status["header"]["member_id"]),
            hex(&status["header"]["cluster_id"]),
            hex(&status["leader"]),
            text(&status["version"]),
            status["dbSize"].to_string(),
            status["raftTerm"].to_string(),
        ]
    });
    let members = ask("member list");
    let mut members: Vec<_> = members["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| Member {
            id: hex(&member["ID"]),
            name: text(&member["name"]),
            peer_urls: list(&member["peerURLs"]),
            client_urls: list(&member["clientURLs"]),
            is_learner: member["isLearner"].as_bool().unwrap_or_default(),
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    (endpoints.collect(), members)
}

fn assert_unchanged(lab: &Lab, version: &str) {
    let before = lab.on("etcd-01", STATE);
    let second = lab.bash(&deploy(version)).ok();
    assert!(second.document().results.iter().all(|result| !result.changed), "{}", second.stderr);
    assert_eq!(lab.on("etcd-01", STATE), before);
}

/// All that a second run must leave alone: files with inode and times, and the process.
const STATE: &str = "find /etc /usr/local -exec stat -c '%n %z %a %U' {} + | sort; \
                     systemctl show etcd -p MainPID,ExecMainStartTimestamp";

/// How etcd runs, and who can read the private keys.
const SYSTEM: &str = "\
pid=$(systemctl show etcd -p MainPID --value)
stat -c '%U %G' /proc/$pid
grep -e NoNewPrivs -e CapEff /proc/$pid/status
systemctl show etcd -p LimitNOFILE,OOMScoreAdjust,PrivateTmp,ProtectHome,ProtectSystem,Type | sort
systemctl is-enabled etcd
grep -rlI -e '-----BEGIN .*PRIVATE KEY' /etc /var/lib/etcd /usr/local | grep -v ^/etc/ssh/ | sort |
    xargs stat -c '%n %a %U:%G'";
const SYSTEM_SAYS: &str = "\
etcd etcd
CapEff:\t0000000000000000
NoNewPrivs:\t1
LimitNOFILE=65536
OOMScoreAdjust=-999
PrivateTmp=yes
ProtectHome=yes
ProtectSystem=strict
Type=notify
enabled
/etc/etcd/ssl/peer.key 600 etcd:etcd
/etc/etcd/ssl/server.key 600 etcd:etcd
";
