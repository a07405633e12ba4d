//! What `etcd-health` says of a cluster: what is unknown, who votes, alarms, quorum,
//! and members that hold different data.

use std::time::Duration;

use pipeline::document::Health;
use serde_json::{Value, json};
use tests::{Lab, Ran, release, wait_until};

const NODES: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];
const MINUTE: Duration = Duration::from_secs(60);

/// A cluster on the lab, and how to ask it.
struct Cluster {
    lab: Lab,
    version: String,
}

impl Cluster {
    /// Three members of the release `which` with a database quota of 2 MiB, described
    /// by `document.json`; none where this machine has no such release.
    fn deploy(which: &str) -> Option<Self> {
        let version = release(which)?;
        let lab = Lab::with_nodes(3);
        let nodes = NODES.map(|node| json!({"name": node, "address": address(node)}));
        let inventory = json!({
            "apiVersion": "etcd-tools/v1",
            "cluster": {"settings": {"quotaBackendBytes": 2_097_152}},
            "nodes": nodes,
        });
        lab.write("cluster.json", &inventory.to_string());
        let ran = lab.bash(&format!(
            "etcd-fetch {version} < cluster.json | etcd-cert issue | etcd-render | etcd-push \
             | etcd-unit start | etcd-health --wait > document.json"
        ));
        ran.ok();
        lab.unpack(&version);
        Some(Self { lab, version: version[1..].to_owned() })
    }

    /// Runs etcd-health on the document with `args`, as the user that `variables` set.
    fn health(&self, variables: &str, args: &str) -> Ran {
        self.lab.bash(&format!("{variables} etcd-health {args} < document.json"))
    }

    fn etcdctl(&self, args: &str) -> Ran {
        let endpoints = NODES.map(url);
        self.lab.bash(&self.lab.etcdctl(&endpoints, args))
    }

    /// The fields `(applied index, revision)` that the member `node` tells, with its term.
    fn position(&self, node: &str) -> Option<(u64, u64, u64)> {
        let status = self.lab.etcdctl(&[url(node)], "endpoint status -w json");
        let pick =
            "jq -r '.[0].Status | \"\\(.raftAppliedIndex) \\(.header.revision) \\(.raftTerm)\"'";
        let ran = self.lab.bash(&format!("{status} | {pick}"));
        let mut numbers = ran.stdout.split_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

fn url(node: &str) -> String {
    format!("https://{}:2379", address(node))
}

fn address(node: &str) -> String {
    let number: u8 = node.trim_start_matches("etcd-0").parse().expect("a node");
    format!("192.168.1.{}", 99 + number)
}

fn health(ran: &Ran) -> Health {
    ran.document().health.expect("health")
}

fn lines(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().collect()
}

#[test]
fn what_health_says_of_etcd_3_5() {
    what_health_says("3.5");
}

#[test]
fn what_health_says_of_etcd_3_7() {
    what_health_says("3.7");
}

fn what_health_says(which: &str) {
    let Some(cluster) = Cluster::deploy(which) else { return };
    let version = &cluster.version;
    let minor = &version[..3];
    let (quota, storage) = match minor {
        "3.5" => (None, None),
        _ => (Some(2_097_152), Some(format!("{minor}.0"))),
    };
    // The leader raises the storage version some time after it has raised the cluster's.
    wait_until("all have the storage version", MINUTE, || {
        let told = health(&cluster.health("", "").ok());
        told.endpoints.iter().all(|endpoint| endpoint.storage_version == storage)
    });
    let ran = cluster.health("", "").ok();
    let told = health(&ran);
    let leader = told.endpoints.iter().find(|e| e.is_leader).and_then(|e| e.node.clone());
    let leader = leader.expect("a leader");
    let well = format!("etcd-health: 3 of 3 endpoints healthy, leader {leader}, version {version}");
    assert_eq!(lines(&ran), [well.as_str()]);
    for endpoint in &told.endpoints {
        assert_eq!(endpoint.db_quota_bytes, quota);
        assert_eq!(endpoint.revision, told.endpoints[0].revision);
    }

    // The members' data, by hash.
    let ran = cluster.health("", "--hash").ok();
    let hashes: Vec<_> = health(&ran).endpoints.iter().map(|e| e.data_hash.clone()).collect();
    assert!(hashes[0].is_some() && hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");

    a_key_that_etcd_cannot_read(&cluster, &well);
    unknown_without_a_user(&cluster, &well);
    a_learner_and_a_foreign_member(&cluster, &leader);
    an_alarm(&cluster);
    a_frozen_host(&cluster);
    lost_quorum(&cluster);
}

/// etcd reads its key again for each connection; what is advised puts it right.
fn a_key_that_etcd_cannot_read(cluster: &Cluster, well: &str) {
    cluster.lab.on("etcd-02", "chmod 0 /etc/etcd/ssl/server.key");
    cluster.health("", "").exits(1).says(&format!(
        "etcd-health: etcd-02: {}: TLS: the server cannot use its own certificate or key: run \
         etcd-push",
        url("etcd-02")
    ));
    cluster.lab.bash("etcd-push -q < document.json").ok();
    assert_eq!(lines(&cluster.health("", "").ok()), [well]);
}

/// With authentication on and nobody named, what is unknown is not "0 members".
fn unknown_without_a_user(cluster: &Cluster, well: &str) {
    for args in
        ["user add root:secret", "user grant-role root root", "auth enable"].map(|a| a.to_owned())
    {
        cluster.etcdctl(&args).ok();
    }
    for args in ["--wait", "--via ssh"] {
        let ran = cluster.health("", args).exits(3);
        let line = "etcd-health: cannot tell who the members are: etcdserver: user name is empty: \
                    authentication is on: set ETCDCTL_USER and ETCDCTL_PASSWORD";
        assert_eq!(lines(&ran), [line]);
        assert!(!health(&ran).healthy);
    }
    let ran = cluster.health("ETCDCTL_USER=root:wrong", "--wait").exits(3);
    let line = "etcd-health: cannot tell who the members are: authentication failed: check \
                ETCDCTL_USER and ETCDCTL_PASSWORD";
    assert_eq!(lines(&ran), [line]);
    for args in ["", "--via ssh", "--hash"] {
        let ran = cluster.health("ETCDCTL_USER=root ETCDCTL_PASSWORD=secret", args).ok();
        assert_eq!(lines(&ran), [well]);
        assert_eq!(health(&ran).members.len(), 3);
    }
    cluster.etcdctl("--user root:secret auth disable").ok();
}

fn a_learner_and_a_foreign_member(cluster: &Cluster, leader: &str) {
    let lab = &cluster.lab;
    let peer = "https://192.168.1.100:12380";
    let added = || {
        // Right after a change of the members etcd refuses the next for a moment.
        cluster.etcdctl(&format!("member add etcd-04 --learner --peer-urls {peer}")).code == 0
    };
    wait_until("the learner is added", MINUTE, added);
    lab.on(
        "etcd-01",
        "sed -e 's/^ETCD_NAME=.*/ETCD_NAME=etcd-04/; s/:2379/:12379/g; s/:2380/:12380/g' \
             -e 's,^ETCD_DATA_DIR=.*,ETCD_DATA_DIR=/var/lib/etcd/learner,; /^ETCD_INITIAL/d' \
             /etc/etcd/etcd.conf > /tmp/learner.conf
         cluster=$(sed -n 's/^ETCD_INITIAL_CLUSTER=//p' /etc/etcd/etcd.conf | tr -d '\"')
         cat >> /tmp/learner.conf <<END
ETCD_INITIAL_CLUSTER=$cluster,etcd-04=https://192.168.1.100:12380
ETCD_INITIAL_CLUSTER_STATE=existing
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://192.168.1.100:12380
END
         systemd-run --quiet --unit=learner -p User=etcd -p EnvironmentFile=/tmp/learner.conf \
             /usr/local/bin/etcd",
    );
    wait_until("the learner has published its name", MINUTE, || {
        cluster.etcdctl("member list").stdout.contains(", etcd-04,")
    });
    let learner = "https://192.168.1.100:12379";
    let endpoints = [NODES.map(url).join(","), learner.to_owned()].join(",");
    let probe = format!(
        "etcd-health --wait --endpoints {endpoints} --cacert pki/ca.crt --cert pki/client.crt \
         --key pki/client.key"
    );
    let ran = lab.bash(&probe).ok();
    let version = &cluster.version;
    assert_eq!(
        lines(&ran),
        [
            "etcd-health: warning: etcd-04: a learner, which does not vote: promote it when it \
             has caught up"
                .to_owned(),
            format!("etcd-health: 4 of 4 endpoints healthy, leader {leader}, version {version}"),
        ]
    );
    let told: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(told["health"]["endpoints"][3]["isLearner"], true);
    let ran = cluster.health("", "").ok();
    let foreign = format!(
        "etcd-health: warning: member etcd-04 is not a node in the document, and was not probed \
         (peer URLs {peer})"
    );
    assert_eq!(lines(&ran)[0], foreign);
    let id = health(&ran).members.iter().find(|m| m.name == "etcd-04").expect("etcd-04").id.clone();
    let removed = || cluster.etcdctl(&format!("member remove {id}")).code == 0;
    wait_until("the learner is removed", MINUTE, removed);
    lab.on("etcd-01", "systemctl stop learner; rm -rf /var/lib/etcd/learner");

    // A voter that was added and never started counts as one that has failed.
    let added = || cluster.etcdctl(&format!("member add etcd-05 --peer-urls {peer}")).code == 0;
    wait_until("the voter is added", MINUTE, added);
    let ran = cluster.health("", "").exits(1);
    let id = health(&ran).members.iter().find(|m| m.name.is_empty()).expect("one").id.clone();
    assert_eq!(
        lines(&ran),
        [
            format!(
                "etcd-health: member {id} ({peer}) was added and has never started: until it does, \
                 none of 4 voters may fail: start it, or remove it: `etcdctl member remove {id}`"
            ),
            format!(
                "etcd-health: warning: member {id} is not a node in the document, and was not \
                 probed (peer URLs {peer})"
            ),
            format!(
                "etcd-health: unhealthy: 3 of 3 endpoints healthy, leader {leader}, version \
                 {version}"
            ),
        ]
    );
    let removed = || cluster.etcdctl(&format!("member remove {id}")).code == 0;
    wait_until("the voter is removed", MINUTE, removed);
}

fn an_alarm(cluster: &Cluster) {
    let lab = &cluster.lab;
    let endpoints = NODES.map(url);
    let put = lab.etcdctl(&endpoints[..1], "put big");
    let put = format!("head -c 900000 /dev/zero | tr '\\0' x | {put}");
    wait_until("the quota is reached", MINUTE, || lab.bash(&put).code != 0);
    let ran = cluster.health("", "").exits(1);
    let alarm = "alarm NOSPACE: the database has reached its quota and takes no writes: compact, \
                 defragment, raise quotaBackendBytes if most of it is in use, then etcdctl alarm \
                 disarm";
    // Each member compares its own database with the quota: some raise it, or all.
    let told = health(&ran);
    let raised = |at: usize| told.endpoints[at].alarms == ["NOSPACE"];
    let expected = (0..3).filter(|at| raised(*at));
    let expected: Vec<_> =
        expected.map(|at| format!("etcd-health: {}: {alarm}", NODES[at])).collect();
    let mut said: Vec<_> = lines(&ran);
    said.pop();
    said.sort_unstable();
    assert!(!said.is_empty());
    assert_eq!(said, expected);
    let revision = health(&ran).endpoints[0].revision.expect("a revision");
    for args in [format!("compact {revision}"), "defrag".into(), "alarm disarm".into()] {
        cluster.etcdctl(&args).ok();
    }
    cluster.health("", "--wait --hash").ok();
}

/// A frozen host costs its time limit, and holds up no other.
fn a_frozen_host(cluster: &Cluster) {
    let leader = health(&cluster.health("", "").ok());
    let frozen = leader.endpoints.iter().position(|e| !e.is_leader).expect("a follower");
    cluster.lab.command(&["freeze", NODES[frozen]]);
    let ran = cluster.health("", "--timeout 2").exits(1);
    cluster.lab.command(&["thaw", NODES[frozen]]);
    let (node, url) = (NODES[frozen], url(NODES[frozen]));
    assert_eq!(lines(&ran)[0], format!("etcd-health: {node}: {url}: no answer within 2.0 s"));
    let told = health(&ran);
    let healthy: Vec<_> = told.endpoints.iter().map(|e| e.healthy).collect();
    assert_eq!(healthy, [0, 1, 2].map(|at| at != frozen));
    cluster.health("", "--wait").ok();
}

/// Quorum lost is said as that, with the voters, and without a leader that is dead.
fn lost_quorum(cluster: &Cluster) {
    let told = health(&cluster.health("", "").ok());
    let leader = told.endpoints.iter().position(|e| e.is_leader).expect("a leader");
    let left = (leader + 1) % 3;
    let gone = [leader, (leader + 2) % 3];
    for at in gone {
        cluster.lab.command(&["power", "off", NODES[at]]);
    }
    let ran = cluster.health("", "--timeout 2").exits(1);
    let version = &cluster.version;
    let summary = format!(
        "etcd-health: unhealthy: 0 of 3 endpoints healthy, no quorum: 1 of 3 voting members \
         answers, version {version}"
    );
    assert_eq!(lines(&ran)[3..], [summary.as_str()], "{}", ran.stderr);
    let told = health(&ran);
    assert_eq!((told.leader, told.members.len(), told.healthy), (None, 3, false));
    // Once it has noticed that itself, nobody waits for a read.
    let (node, url) = (NODES[left], url(NODES[left]));
    let line = format!("etcd-health: {node}: {url}: no leader");
    let noticed = || cluster.health("", "--timeout 2").stderr.lines().any(|l| l == line);
    wait_until("the member knows no leader", MINUTE, noticed);
}

/// Two stores that are bootstrapped from the same list have the same IDs, and a member
/// of one runs in the other without a word of etcd.
#[test]
fn members_that_hold_different_data() {
    let Some(cluster) = Cluster::deploy("3.6") else { return };
    let lab = &cluster.lab;
    for number in 0..40 {
        cluster.etcdctl(&format!("put key{number} one")).ok();
    }
    let (_, _, term) = cluster.position("etcd-01").expect("a status");
    lab.bash("etcd-unit stop --lose-quorum < document.json").ok();
    lab.on_all(&NODES, "mv /var/lib/etcd/member /var/lib/etcd/first");

    // The second bootstrap, by hand, with fewer entries of the same term.
    loop {
        lab.on_all(
            &NODES,
            "systemd-run --quiet --unit=second -p User=etcd -p EnvironmentFile=/etc/etcd/etcd.conf \
             /usr/local/bin/etcd",
        );
        cluster.health("", "--wait").ok();
        let same = cluster.position("etcd-03").expect("a status").2 == term;
        for _ in 0..5 {
            // An entry that gives no revision.
            cluster.etcdctl("del nothing").ok();
        }
        // A leader that is asked to stop would hand over, in a newer term.
        lab.on_all(
            &NODES,
            "systemctl kill -s KILL second; while systemctl -q is-active second; do :; done; \
             systemctl reset-failed second",
        );
        if same {
            break;
        }
        lab.on_all(&NODES, "rm -rf /var/lib/etcd/member");
    }
    lab.on_all(
        &NODES[..2],
        "rm -rf /var/lib/etcd/member; mv /var/lib/etcd/first /var/lib/etcd/member",
    );
    lab.bash("etcd-unit start < document.json > /dev/null");
    wait_until("etcdctl finds all healthy", MINUTE, || {
        cluster.etcdctl("endpoint health").code == 0
    });

    let ran = cluster.health("", "--hash").exits(1);
    let told = health(&ran);
    assert!(!told.healthy && told.endpoints.iter().all(|e| e.healthy), "{}", ran.stderr);
    let revisions: Vec<_> = told.endpoints.iter().map(|e| e.revision.expect("one")).collect();
    let index = told.endpoints[0].raft_applied_index.expect("an index");
    assert_eq!(revisions[0], revisions[1]);
    assert!(revisions[2] < revisions[0], "{revisions:?}");
    let hashes: Vec<_> = told.endpoints.iter().map(|e| e.data_hash.clone().expect("one")).collect();
    let what = "etcd-health: etcd-01 and etcd-03 hold different data";
    let advice = "remove the member whose data is wrong and add it again";
    let differ = |basis: &str, values: &[String]| {
        let [one, two, three] = values else { panic!("{values:?}") };
        format!("{what}: {basis} are etcd-01 {one}, etcd-02 {two}, etcd-03 {three}: {advice}")
    };
    let texts: Vec<_> = revisions.iter().map(u64::to_string).collect();
    let said = lines(&ran);
    assert_eq!(said[0], differ(&format!("the revisions at applied index {index}"), &texts));
    assert_eq!(said[1], differ(&format!("the hashes at revision {}", revisions[2]), &hashes));
    assert_eq!(said.len(), 3);
    assert!(said[2].starts_with("etcd-health: unhealthy: 3 of 3 endpoints healthy, leader "));

    // Under writes too, and with nothing read but what each member says of itself.
    let put = lab.etcdctl(&[url("etcd-01")], "put busy now");
    let writer = lab.start(&format!("while :; do {put} > /dev/null; done"));
    let noticed = || cluster.health("", "").stderr.contains(what);
    wait_until("the difference is seen under writes", MINUTE, noticed);
    writer.kill_all();
}
