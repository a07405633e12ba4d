//! `etcd-member` and its scripts: members come and go under a client that writes.

use serde_json::json;
use std::time::Duration;

use serde_json::Value;
use tests::{Lab, PID, Ran, deploy, guide, release, repository, wait_until};

use crate::writer::{Writer, all_is_kept};

const HOSTS: [&str; 5] = ["etcd-01", "etcd-02", "etcd-03", "etcd-04", "etcd-05"];
const MINUTE: Duration = Duration::from_secs(60);
/// The stages that make a member of a node, and those that bring all up to date.
const JOIN: &str = "etcd-member add | etcd-render | etcd-push | etcd-unit start \
                    | etcd-member promote | etcd-health --wait";

fn url(at: usize) -> String {
    format!("https://192.168.1.{}:2379", 100 + at)
}

fn urls(count: usize) -> Vec<String> {
    (0..count).map(url).collect()
}

/// A cluster of `version` on the first `count` hosts, in `nodes.txt`; `nodes-N.txt`
/// has the first N.
fn cluster(version: &str, count: usize) -> Lab {
    let lab = Lab::with_nodes(5);
    for count in 1..=5 {
        lab.bash(&format!("head -n {count} nodes.txt > nodes-{count}.txt")).ok();
    }
    lab.bash(&format!("cp nodes-{count}.txt nodes.txt")).ok();
    lab.bash(&format!("{} > document.json", deploy(version))).ok();
    lab.unpack(version);
    lab
}

fn script(line: &str) -> String {
    format!("{}/scripts/{line}", repository().display())
}

/// The same by its target of the fragment for Makefiles.
fn make(target: &str, nodes: &str, more: &str) -> String {
    let fragment = script("etcd.mk");
    format!("make -s -f {fragment} etcd-{target} ETCD_NODES={nodes} ETCD_MEMBER_FLAGS=--yes {more}")
}

/// The members: name, number of the host that the peer URL leads to, whether it votes.
fn members(lab: &Lab, endpoints: &[String]) -> Vec<(String, String, bool)> {
    // It takes a leader, which may just have been lost.
    let list = "--command-timeout 30s member list -w json";
    let list = lab.bash(&lab.etcdctl(endpoints, list)).ok().stdout;
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let member = |member: &Value| {
        let url = member["peerURLs"][0].as_str().unwrap();
        let host = url.split(['.', ':']).nth(4).unwrap();
        let name = member["name"].as_str().unwrap_or_default();
        (name.to_owned(), host.to_owned(), member["isLearner"].as_bool() != Some(true))
    };
    let mut members: Vec<_> = list["members"].as_array().unwrap().iter().map(member).collect();
    members.sort();
    members
}

/// The first `count` hosts, all of them voters.
fn all_voters(count: usize) -> Vec<(String, String, bool)> {
    let member = |at: usize| (HOSTS[at].to_owned(), (100 + at).to_string(), true);
    (0..count).map(member).collect()
}

/// Runs `line` until `point` is reached, and kills all of it with -9.
fn killed_at(lab: &Lab, line: &str, what: &str, point: impl Fn() -> bool) {
    let mut running = lab.start(line);
    wait_until(what, MINUTE, || point() || !running.is_running());
    running.kill_all();
}

/// A run of the whole pipeline changes nothing.
fn converged(lab: &Lab, nodes: &str, version: &str) {
    let ran = lab.bash(&deploy(version).replace("nodes.txt", nodes)).ok();
    assert!(ran.document().results.iter().all(|result| !result.changed), "{}", ran.stderr);
}

#[track_caller]
fn says_servers(ran: &Ran, script: &str, before: usize, now: usize) {
    for (when, count) in [("before this run: ", before), ("now:             ", now)] {
        let servers = urls(count).join(",");
        let line = format!("{script}: --etcd-servers of kube-apiserver {when}{servers}");
        assert!(ran.stderr.lines().any(|said| said == line), "no {line:?} in {}", ran.stderr);
    }
}

#[test]
fn one_three_five_three_members_and_no_old_one_restarts() {
    let lab = cluster(guide(), 1);
    let writer = Writer::start(&lab, 1_000_000);
    let first = lab.on_all(&HOSTS[..1], PID);

    // The pipeline itself notices; what is not told in words is not done.
    let refused = lab.bash(&deploy(guide()).replace("nodes.txt", "nodes-3.txt"));
    assert_ne!(refused.code, 0);
    refused.says(
        "etcd-push: etcd-02: it is not a member of the cluster that runs: add it first: \
         `scripts/grow NODES`, or `etcd-member add` before etcd-render",
    );
    lab.bash(&(script("grow nodes-3.txt") + " < /dev/null")).exits(2);
    assert_eq!(members(&lab, &urls(1)), all_voters(1));

    // Who knows better than a check leaves it out, by its code.
    let memory = |mount: &str| lab.on("etcd-02", &format!("{mount} /proc/meminfo"));
    lab.on("etcd-02", "sed 's/^MemTotal:.*/MemTotal: 1000000 kB/' /proc/meminfo > /run/memory");
    memory("mount --bind /run/memory");
    lab.bash(&script("grow --yes nodes-3.txt"))
        .exits(3)
        .says("etcd-preflight: etcd-02: 1.0 GB of memory, less than 2 GB: give the host more");
    assert_eq!(members(&lab, &urls(1)), all_voters(1));
    let ran = lab.bash(&script("grow --yes --skip memory nodes-3.txt")).ok();
    memory("umount");
    says_servers(&ran, "grow", 1, 3);
    assert_eq!(members(&lab, &urls(1)), all_voters(3));
    assert_eq!(lab.on_all(&HOSTS[..1], PID), first, "the first member was restarted");
    // A second run finds nothing to do, and neither does the pipeline.
    let three = lab.on_all(&HOSTS[..3], PID);
    lab.bash(&make("grow", "nodes-3.txt", "")).ok();
    converged(&lab, "nodes-3.txt", guide());
    assert_eq!(lab.on_all(&HOSTS[..3], PID), three);

    // A host that cannot run etcd does not become a member, and none before it.
    lab.on(
        "etcd-05",
        "/usr/sbin/sshd -p 2380 -o PidFile=/run/other.pid
         until cat /run/other.pid 2> /dev/null; do :; done",
    );
    lab.bash(&script("grow --yes nodes-5.txt")).exits(3).says(
        "etcd-member: etcd-05: not added: the document has etcd listen at \
         https://192.168.1.104:2380, where it could not start: another program listens there: stop \
         that, or set another port",
    );
    lab.on("etcd-05", "kill $(cat /run/other.pid)");
    assert_eq!(members(&lab, &urls(1)), all_voters(3));

    // Killed as soon as one is added, once it has data, and once it votes.
    let grow = script("grow --yes nodes-5.txt");
    let knows = |host: &str| {
        let members = members(&lab, &urls(1));
        members.iter().find(|(_, known, _)| known == host).map(|(_, _, votes)| *votes)
    };
    killed_at(&lab, &grow, "it is added", || knows("103").is_some());
    let log = lab.disk("etcd-04", "/var/lib/etcd/member/wal");
    killed_at(&lab, &grow, "it has data", || log.exists());
    killed_at(&lab, &grow, "it votes", || knows("103") == Some(true));
    let ran = lab.bash(&grow).ok();
    says_servers(&ran, "grow", 4, 5);
    assert_eq!(members(&lab, &urls(1)), all_voters(5));
    assert_eq!(lab.on_all(&HOSTS[..3], PID), three, "a member was restarted");
    converged(&lab, "nodes-5.txt", guide());

    // The leader is one of those that go, and a run was killed after the first.
    let ran = lab.bash("etcd-member list < nodes-5.txt").ok();
    let health = ran.document().health.unwrap();
    let id = health.members.iter().find(|member| member.name == "etcd-05").unwrap().id.clone();
    lab.bash(&lab.etcdctl(&urls(5), &format!("move-leader {id}"))).ok();
    lab.bash("etcd-member remove etcd-04 < nodes-5.txt > rest.json").ok();
    assert_eq!(lab.bash("jq -r '.nodes | length' rest.json").stdout, "4\n");
    lab.bash(&script("shrink --yes nodes-5.txt etcd-09")).exits(2).says(
        "shrink: etcd-09: neither a member of the cluster nor a node in nodes-5.txt: if a run \
             before has removed it, give the name of its node",
    );
    // The second is told by its ID, and once more by its name, the first, a member no more, by its
    // address.
    let leave = format!("ETCD_MEMBER='192.168.1.103 {id} etcd-05'");
    let ran = lab.bash(&make("shrink", "nodes-5.txt", &leave)).ok();
    let ran = ran
        .says("etcd-member: etcd-04: not a member of the cluster: nothing to remove")
        .says("etcd-member: etcd-05: removed member etcd-05 (https://192.168.1.104:2380)")
        .says("shrink: take etcd-04 etcd-05 out of nodes-5.txt, too");
    let moved = "etcd-member: etcd-05: leadership moved to etcd-0";
    assert!(ran.stderr.lines().any(|line| line.starts_with(moved)), "{}", ran.stderr);
    assert_eq!(members(&lab, &urls(1)), all_voters(3));
    assert_eq!(lab.on_all(&HOSTS[..3], PID), three, "a member was restarted");
    assert_eq!(lab.on_all(&HOSTS[3..], "systemctl is-active etcd || true"), ["inactive\n"; 2]);
    converged(&lab, "nodes-3.txt", guide());
    writer.stop();
    all_is_kept(&lab);
    // What is left of a member keeps it from being added again by mistake.
    let ran = lab.bash(&script("grow --yes nodes-4.txt"));
    assert_ne!(ran.code, 0);
    ran.says(
        "etcd-member: etcd-04: not added: it is no member, and there is data of one in \
         /var/lib/etcd: move /var/lib/etcd/member away",
    );
    // That of one that is to follow is known before the first one joins.
    lab.on("etcd-04", "rm -rf /var/lib/etcd/member /etc/etcd/etcd.member");
    let ran = lab.bash(&script("grow --yes nodes-5.txt"));
    assert_ne!(ran.code, 0);
    ran.says(
        "etcd-member: etcd-05: not added: it is no member, and there is data of one in \
         /var/lib/etcd: move /var/lib/etcd/member away",
    );
    assert_eq!(members(&lab, &urls(1)), all_voters(3));
}

#[test]
fn members_that_have_lost_their_data_are_replaced_while_the_others_serve() {
    let Some(version) = release("3.6") else { return };
    let lab = cluster(&version, 3);
    let writer = Writer::start(&lab, 1_000_000);
    let votes = |endpoint: usize, host: &str| {
        let members = members(&lab, &[url(endpoint)]);
        members.iter().find(|(_, known, _)| known == host).map(|(_, _, votes)| *votes)
    };
    for (at, host) in HOSTS.iter().take(3).enumerate() {
        let others: Vec<_> = HOSTS[..3].iter().copied().filter(|other| other != host).collect();
        let before = lab.on_all(&others, PID);
        let (other, number) = ((at + 1) % 3, (100 + at).to_string());
        // A power cut, and another disk.
        lab.command(&["reset", host]);
        let replace = script(&format!("replace-member --yes nodes.txt {host}"));
        // Killed once it is removed, once it is added, once it has data.
        let log = lab.disk(host, "/var/lib/etcd/member/wal");
        killed_at(&lab, &replace, "a point of its work", || match at {
            0 => votes(other, &number).is_none(),
            1 => votes(other, &number) == Some(false),
            _ => log.exists(),
        });
        let ran = lab.bash(&replace).ok();
        let now = "replace-member: --etcd-servers of kube-apiserver now:             ";
        ran.says(&format!("{now}{}", urls(3).join(",")));
        assert_eq!(members(&lab, &[url(other)]), all_voters(3));
        assert_eq!(lab.on_all(&others, PID), before);
        // And once more.
        let line = format!("etcd-member: {host}: nothing to replace: its data is in place");
        lab.bash(&format!("etcd-member replace {host} < nodes.txt")).ok().says(&line);
        converged(&lab, "nodes.txt", &version);
    }

    // One that never comes back, by a new name and address.
    lab.command(&["power", "off", "etcd-03"]);
    let before = lab.on_all(&HOSTS[..2], PID);
    let line = "k8s-node-09:192.168.1.103:etcd-09";
    let replace = script(&format!("replace-member --yes nodes.txt etcd-03 {line}"));
    lab.bash(&format!("head -n 2 nodes.txt > new.txt; echo {line} >> new.txt")).ok();
    killed_at(&lab, &replace, "it is added", || votes(0, "103").is_some());
    lab.bash(&replace)
        .ok()
        .says(&format!("replace-member: write {line} in the place of etcd-03 in nodes.txt"))
        .says(
            "replace-member: k8s-master-02, should it come back, and etcd be installed there: \
             it is no member: systemctl disable --now etcd",
        );
    let mut expected = all_voters(2);
    expected.push(("etcd-09".into(), "103".into(), true));
    assert_eq!(members(&lab, &urls(1)), expected);
    it_comes_back(&lab);
    assert_eq!(members(&lab, &urls(1)), expected);
    assert_eq!(lab.on_all(&HOSTS[..2], PID), before);
    converged(&lab, "new.txt", &version);
    writer.stop();
    all_is_kept(&lab);
}

/// The host of a member that was replaced by another host is found again, with its data:
/// it does no harm, and is told what it is.
fn it_comes_back(lab: &Lab) {
    lab.command(&["power", "on", "etcd-03"]);
    let tried = "journalctl -u etcd -o cat | grep -c 'been permanently removed' || true";
    wait_until("the old member learns that it is none", MINUTE, || {
        lab.on("etcd-03", tried) != "0\n"
    });
    let ran = lab.bash("etcd-unit start --only etcd-03 < nodes.txt").exits(3);
    let begin = "etcd-unit: etcd-03: its data is of member ";
    let end = ", which the cluster has removed: move /var/lib/etcd/member away, then add the node: \
               `scripts/grow NODES`, or `etcd-member add` before etcd-render";
    let line = ran.stderr.lines().find(|line| line.starts_with(begin));
    assert!(line.is_some_and(|line| line.ends_with(end)), "{}", ran.stderr);
    lab.bash("etcd-health --wait < new.txt").ok();
    lab.command(&["power", "off", "etcd-03"]);
}

/// The lines of `etcd-member`, without its name.
fn lines(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter_map(|line| line.strip_prefix("etcd-member: ")).collect()
}

#[test]
fn quorum_decides_who_may_come_and_go() {
    let lab = cluster(guide(), 3);
    let member = |args: &str| lab.bash(&format!("etcd-member {args} < nodes.txt"));
    let with = |nodes: usize, args: &str| {
        lab.bash(&format!("etcd-cert issue -q < nodes-{nodes}.txt | etcd-member {args}"))
    };
    // What other tools read.
    assert_eq!(member("list -o nodes").ok().stdout, lab.read("nodes.txt"));
    assert_eq!(member("list -o endpoints").ok().stdout, urls(3).join(",") + "\n");
    assert_eq!(member("list -o json").ok().document().health.unwrap().members.len(), 3);
    let table = member("list -o table").ok().stdout;
    let [header, rows @ ..] = &table.lines().collect::<Vec<_>>()[..] else { panic!("{table}") };
    assert_eq!(
        header.split_whitespace().collect::<Vec<_>>().join(" "),
        "MEMBER ID ROLE HEALTH NODE PEER URLS CLIENT URLS"
    );
    assert!(rows.len() == 3 && rows.iter().all(|row| row.contains("  healthy  etcd-0")), "{table}");
    let before = (members(&lab, &urls(1)), lab.on_all(&HOSTS[..3], PID));

    // A healthy member of three, and one that is not known.
    let margin = "etcd-03: member etcd-03 (https://192.168.1.102:2380) not removed: 2 voters would \
                  be left, of which none may fail: pass --lose-margin to proceed";
    for check in ["", "--check"] {
        assert_eq!(lines(&member(&format!("remove {check} etcd-03")).exits(3)), [margin]);
    }
    assert_eq!(
        lines(&member("remove etcd-0").exits(2)),
        ["etcd-0: no member has this ID, name or peer URL: see etcd-member list"]
    );
    assert_eq!(lines(&member("add").ok()), ["all nodes are members already"]);
    assert_eq!(lines(&member("promote").ok()), ["no node is a learner: nothing to promote"]);

    // What is to be done is said by all stages, and nothing is done.
    let stages = JOIN.trim_end_matches(" | etcd-health --wait");
    let ran = lab.bash(&format!(
        "export ETCD_TOOLS_CHECK=1; etcd-fetch {} < nodes-4.txt | etcd-cert issue | {stages}",
        guide()
    ));
    ran.exits(1)
        .says("etcd-member: etcd-04: would add it to the cluster, as a learner")
        .says("etcd-unit: etcd-04: would start etcd.service")
        .says("etcd-member: etcd-04: would promote it to a voting member");
    assert_eq!(lab.on("etcd-04", "ls -d /etc/etcd 2>/dev/null || true"), "");
    assert_eq!((members(&lab, &urls(1)), lab.on_all(&HOSTS[..3], PID)), before);

    // One that was paused, and has lost its lock, tells etcd nothing any more.
    lab.hold("etcd-02", "od");
    let mut paused = lab.start("exec etcd-member add nodes-4.txt");
    lab.wait_held("etcd-02");
    paused.signal("STOP");
    lab.on("etcd-02", "touch /run/let-go; rm /usr/local/bin/od");
    wait_until("the hosts free the locks", MINUTE, || {
        let held = "flock -n /run/etcd-tools.lock true || echo held";
        lab.on_all(&HOSTS[..3], held).concat().is_empty()
    });
    assert!(paused.is_running());
    paused.signal("CONT");
    let paused = paused.wait().exits(3);
    let lost = "etcd-04: not added: lock lost: ";
    assert!(lines(&paused).iter().any(|line| line.starts_with(lost)), "{}", paused.stderr);
    assert_eq!((members(&lab, &urls(1)), lab.on_all(&HOSTS[..3], PID)), before);

    // With one down, no other may go, and none is added.
    lab.on("etcd-03", "systemctl stop etcd");
    let down = "(etcd-03: not running)";
    assert_eq!(
        lines(&member("remove etcd-02").exits(3)),
        [format!(
            "etcd-02: member etcd-02 (https://192.168.1.101:2380) not removed: 1 of 2 voters would \
             be healthy, quorum is 2 {down}: pass --lose-quorum to proceed"
        )]
    );
    assert_eq!(before.0, members(&lab, &urls(1)));
    assert_eq!(
        lines(&with(4, "add").exits(3))[0],
        format!(
            "etcd-04: not added: 2 of 3 voters are healthy, no other may fail {down}: pass \
             --lose-margin to proceed"
        )
    );
    // Without quorum the list is there, and nothing can be changed.
    lab.on("etcd-02", "systemctl stop etcd");
    let ran = member("list -o nodes").ok();
    assert_eq!(ran.stdout, lab.read("nodes.txt"));
    let ran = member("remove etcd-03 --timeout 1").exits(3);
    let [line] = lines(&ran)[..] else { panic!("{}", ran.stderr) };
    let begin =
        "etcd-03: member etcd-03 (https://192.168.1.102:2380) not removed: quorum is lost, ";
    assert!(line.starts_with(begin), "{line}");
    lab.on_all(&HOSTS[1..3], "systemctl start etcd");
    lab.bash("etcd-health --wait < nodes.txt").ok();

    one_learner_at_a_time(&lab);
    what_never_passes_is_not_waited_for(&lab);
    nothing_is_removed_for_a_host_that_is_not_fit(&lab);
    a_member_is_known_where_it_is(&lab);
    another_address(&lab);
    the_leader_leaves(&lab);
}

fn one_learner_at_a_time(lab: &Lab) {
    let with = |nodes: &str, args: &str| {
        lab.bash(&format!("etcd-cert issue -q < {nodes} | etcd-member {args}"))
    };
    let left_out = "etcd-05: warning: left out, as it is no member yet: run this again to add it";
    let ran = with("nodes-5.txt", "add").ok();
    assert_eq!(lines(&ran), ["etcd-04: added to the cluster, as a learner", left_out]);
    // A run that was killed before it has started is gone on with.
    let again = with("nodes-5.txt", "add").ok();
    assert_eq!(lines(&again), [left_out]);
    assert_eq!(again.document().nodes.len(), 4);
    let settings = &again.document().nodes[3].settings;
    let entry = |at: usize| format!("{}=https://192.168.1.{}:2380", HOSTS[at], 100 + at);
    let initial = (0..4).map(entry).collect::<Vec<_>>().join(",");
    assert_eq!(settings.initial_cluster, Some(initial));
    assert_eq!(serde_json::to_value(settings.initial_cluster_state).unwrap(), "existing");
    lab.bash("grep -v etcd-04 nodes-5.txt > without.txt").ok();
    // The next one alone cannot be had before.
    let id =
        lab.bash(&lab.etcdctl(&urls(1), "member list | grep unstarted | cut -d , -f 1")).stdout;
    let id = id.trim();
    assert_eq!(
        lines(&with("nodes-5.txt", "add --only etcd-05").exits(3)),
        [format!(
            "etcd-05: not added: {id} (https://192.168.1.103:2380) is a learner, and etcd takes \
                 one at a time: start and promote it first, or remove it: `etcd-member remove {id}`"
        ),]
    );
    assert_eq!(
        lines(&with("nodes-5.txt", "promote --timeout 1").exits(3)),
        [
            "etcd-04: not promoted: its etcd has not started yet: `scripts/grow NODES`, which goes on \
             from here"
        ]
    );
    assert_eq!(
        lines(&with("without.txt", "add").exits(3)),
        [format!(
            "etcd-05: not added: {id} (https://192.168.1.103:2380) is a learner, and no node in the \
             document: add it there, or remove it: `etcd-member remove {id}`"
        )]
    );
    let ran = with("without.txt", "add --allow-second-learner --timeout 1").exits(3);
    assert_eq!(
        lines(&ran),
        [
            "etcd-05: not added: not done within 1 s: etcdserver: too many learner members in cluster"
        ]
    );
    let ran = with("nodes-5.txt", "remove https://192.168.1.103:2380").ok();
    assert_eq!(lines(&ran), [format!("etcd-04: removed member {id} (https://192.168.1.103:2380)")]);
    assert_eq!(ran.document().nodes.len(), 4);

    // One that others have added as a voter joins, too, and is known by its node.
    lab.bash("head -n 4 nodes-5.txt > nodes-4.txt").ok();
    let add = "member add etcd-04 --peer-urls https://192.168.1.103:2380";
    wait_until("etcd takes it", MINUTE, || lab.bash(&lab.etcdctl(&urls(1), add)).code == 0);
    let ran = with("nodes-4.txt", "add").ok();
    assert_eq!(lines(&ran), ["all nodes are members already"]);
    let settings = &ran.document().nodes[3].settings;
    assert_eq!(serde_json::to_value(settings.initial_cluster_state).unwrap(), "existing");
    with("nodes-4.txt", "replace --check --lose-margin etcd-04").exits(1);
    with("nodes-4.txt", "remove --lose-margin etcd-04").ok();
}

/// Another CA, no pki at all: the cause is named, and at once.
fn what_never_passes_is_not_waited_for(lab: &Lab) {
    lab.bash(
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=other -days 9 -keyout key -out ca",
    )
    .ok();
    let tls = "TLS: the server's certificate is not signed by the given CA";
    let why = format!("etcd-01: {tls}: check --pki, --cacert, --cert and --key");
    for output in ["table", "nodes", "json"] {
        let ran = lab.bash(&format!("etcd-member list --cacert ca -o {output} < nodes.txt"));
        let ran = ran.exits(3).says(&format!("etcd-member: {why}"));
        assert!(output == "json" || ran.stdout.is_empty(), "{}", ran.stdout);
    }
    let anyone = "etcd-member list --cacert ca --insecure-skip-tls-verify -o nodes < nodes.txt";
    assert_eq!(lab.bash(anyone).ok().stdout, lab.read("nodes.txt"));
    let wait = "--timeout 3600 --cacert ca < nodes.txt";
    for check in ["", "--check"] {
        let ran = lab.bash(&format!("etcd-member promote {check} {wait}")).exits(3);
        let line = format!("nothing promoted: {why}");
        assert_eq!(lines(&ran), [line], "{check}");
    }
    lab.bash("etcd-health --wait=3600 --cacert ca < nodes.txt")
        .exits(1)
        .says("etcd-health: unhealthy: 0 of 3 endpoints healthy");

    let grow = script("grow --yes ../nodes.txt");
    let ran = lab.bash(&format!("mkdir none; cd none; SSL_CERT_FILE=$PWD/../ca {grow}")).exits(3);
    let ran = ran.says(
        "etcd-member: etcd-01: TLS: the server's certificate is not signed by a CA that this \
         machine trusts: run this in the folder that has pki/, or pass --cacert",
    );
    assert!(!ran.stderr.contains("scripts/deploy"), "{}", ran.stderr);
}

/// All that can be known of the host of a new member is known before the old one goes.
fn nothing_is_removed_for_a_host_that_is_not_fit(lab: &Lab) {
    let before = (members(lab, &urls(1)), lab.on_all(&HOSTS[..3], PID));
    let replace = |args: &str| lab.bash(&script(&format!("replace-member --yes {args}")));
    let masked = "etcd.service is masked on the node: run systemctl unmask etcd.service there first, with \
         --runtime where the mask is in /run";
    let line = "k8s-node-09:192.168.1.103:etcd-09";
    lab.on("etcd-04", "systemctl mask etcd");
    replace(&format!("nodes.txt etcd-03 {line}"))
        .exits(3)
        .says(&format!("etcd-preflight: etcd-09: {masked}"));
    lab.bash(&format!("head -n 2 nodes.txt > new.txt; echo {line} >> new.txt")).ok();
    let lose = "etcd-member replace --lose-margin etcd-03 < new.txt";
    let not_replaced = format!("etcd-member: etcd-09: nothing replaced: {masked}");
    lab.bash(lose).exits(3).says(&not_replaced);
    lab.on("etcd-04", "systemctl unmask etcd");

    // The host of the member itself, under another name.
    let line = "k8s-node-01:192.168.1.101:etcd-99";
    replace(&format!("--lose-margin nodes.txt etcd-02 {line}")).exits(3).says(
        "replace-member: nothing is done: etcd-99: its data is of member etcd-02, the document \
         calls it etcd-99: a member keeps its name: change the document back",
    );
    // Nor has another node's host its data, where two names are swapped.
    let swap = "sed 's/etcd-01/x/; s/etcd-02/etcd-01/; s/x/etcd-02/' nodes.txt > swapped.txt";
    lab.bash(swap).ok();
    lab.bash("etcd-member replace --lose-margin etcd-02 swapped.txt").exits(3).says(
        "etcd-member: etcd-01: nothing replaced: the cluster knows https://192.168.1.101:2380 as \
         member etcd-02, the document calls it etcd-01: a member keeps its name: change the document \
         back",
    );
    // With a list that lacks a member etcd-push would not go on.
    let lacking =
        "member etcd-03 of the cluster (https://192.168.1.102:2380) is not in the document";
    lab.bash("sed 3d nodes-4.txt > lacking.txt; sed '2d; 3d' nodes-4.txt > two.txt").ok();
    let refused = |ran: Ran, what: &str| {
        let begin = format!("etcd-member: {what}: {lacking}: add it there, or remove it");
        assert!(ran.stderr.lines().any(|line| line.starts_with(&begin)), "{}", ran.stderr);
    };
    refused(lab.bash(&script("grow --yes lacking.txt")).exits(3), "not added");
    // Nor with one that tells otherwise of a member.
    for (node, edit, why) in [
        (
            "etcd-03",
            "s/192.168.1.102/192.168.1.109/",
            "the cluster knows etcd-03 as https://192.168.1.102:2380, the document says \
             https://192.168.1.109:2380: change it back, or see to that first: `etcd-member update \
             --only etcd-03`",
        ),
        (
            "etcd-3x",
            "s/etcd-03/etcd-3x/",
            "the cluster knows https://192.168.1.102:2380 as member etcd-03, the document calls it \
             etcd-3x: a member keeps its name: change the document back",
        ),
    ] {
        let other = format!("sed {edit} nodes-4.txt > other.txt");
        lab.bash(&format!("{other}; etcd-member add other.txt"))
            .exits(3)
            .says(&format!("etcd-member: {node}: not added: {why}"));
        lab.bash(&script("grow --yes other.txt")).exits(3);
    }
    // Nor with one with which etcd-push would not go on, whether health sees that member or not.
    lab.bash(
        "jq -R -s '{apiVersion: \"etcd-tools/v1\", nodes: [split(\"\\n\")[] | select(. != \"\") \
         | split(\":\") | {hostname: .[0], address: .[1], name: .[2]}]} | .nodes[1].settings = \
         {dataDir: \"/srv/etcd\", clientPort: 2479}' nodes-4.txt > settings.json; jq \
         '.nodes |= .[:3]' settings.json > settings-3.json",
    )
    .ok();
    let why = "etcd-02: its data is in /var/lib/etcd, the document says /srv/etcd: change it back, \
               or stop the member, move it there (`mkdir -p /srv/etcd && mv /var/lib/etcd/member \
               /srv/etcd/`), and run this again";
    lab.bash("etcd-member add settings.json").exits(3).says(
        "etcd-member: etcd-02: not added: its data is in /var/lib/etcd, the document says \
             /srv/etcd: set it to that, or have it moved first: etcd-push says how",
    );
    for (change, tool) in [
        ("shrink --yes --lose-margin settings-3.json etcd-03", "shrink"),
        ("grow --yes settings.json", "grow"),
        ("replace-member --yes settings-3.json etcd-03", "replace-member"),
    ] {
        let said = format!("{tool}: nothing is done: {why}");
        lab.bash(&script(change)).exits(3).says(&said);
    }
    // Nor with one that etcd-render would refuse.
    lab.bash(
        "for at in '' -3; do jq 'del(.nodes[].settings) | .cluster.settings.env = \
         {ETCD_FEATURE_GATES: \"Nope=true\"} | .cluster.version = \"v3.6.16\"' settings$at.json > \
         gate$at.json; done",
    )
    .ok();
    let gate = "etcd-render would not go on after it: settings.env: ETCD_FEATURE_GATES: etcd 3.6 \
                refuses to start with a feature that it does not know: remove Nope";
    lab.bash("etcd-member add gate.json")
        .exits(3)
        .says(&format!("etcd-member: etcd-04: not added: {gate}"));
    // Nor where the folders of the one that joins are not to be had.
    lab.on("etcd-04", "mkdir /srv/theirs; chown admin /srv/theirs; touch /srv/file");
    for (folder, why) in [
        (
            "theirs",
            "/srv/theirs belongs to admin, and would become etcd's: choose a folder for etcd \
                    alone, or give it to root first",
        ),
        ("file/etcd", "/srv/file: a file is in the place of the folder: move it away"),
    ] {
        let edit =
            format!("del(.nodes[].settings) | .nodes[3].settings.dataDir = \"/srv/{folder}\"");
        lab.bash(&format!("jq '{edit}' settings.json > folder.json; etcd-member add folder.json"))
            .exits(3)
            .says(&format!("etcd-member: etcd-04: not added: {why}"));
    }
    for change in ["shrink --yes --lose-margin gate-3.json etcd-03", "grow --yes gate.json"] {
        let ran = lab.bash(&script(change));
        assert!(ran.code >= 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(": nothing is done: "), "{}", ran.stderr);
    }
    // Nor does one that names another version have it taken, or refused, in passing.
    let running = guide();
    for (version, change) in [
        ("v3.6.16", "shrink --yes --lose-margin version-3.json etcd-03"),
        ("v3.6.16", "grow --yes version.json"),
        ("v3.4.23", "replace-member --yes version-3.json etcd-03"),
    ] {
        let versions = format!(
            "for at in '' -3; do jq '.cluster.version = \"{version}\" | del(.nodes[].settings)' \
             settings$at.json > version$at.json; done"
        );
        let (name, rest) = change.split_once(' ').expect("a name");
        let list = rest.split(' ').find(|word| word.ends_with(".json")).expect("a list");
        lab.bash(&format!("{versions}; {}", script(change))).exits(3).says(&format!(
            "{name}: nothing is done: the members run {running}, and {list} says {version}: take \
             that step first, scripts/upgrade NODES {version}, or set it to {running}"
        ));
    }
    let stages = "etcd-fetch version.json | etcd-cert issue | etcd-member add";
    let ran = lab.bash(&format!("sed -i s/v3.6.16/v3.4.23/ version.json; {stages}")).exits(3);
    let step = format!("etcd-member: etcd-01: not added: {running} → v3.4.23: ");
    assert!(ran.stderr.lines().any(|line| line.starts_with(&step)), "{}", ran.stderr);
    lab.bash("sed s/192.168.1.102/192.168.1.109/ nodes.txt > other.txt").ok();
    lab.bash(&script("shrink --yes --lose-margin other.txt etcd-01")).exits(3).says(
        "shrink: nothing is done: the cluster knows etcd-03 as https://192.168.1.102:2380, the list \
         says 192.168.1.109: change it back, or see to that first: etcd-member update",
    );
    let lose = "etcd-member replace --lose-margin etcd-02 < two.txt";
    refused(lab.bash(lose).exits(3), "nothing replaced");
    lab.bash(&script("shrink --yes lacking.txt etcd-01")).exits(3).says(
        "shrink: nothing is done: member etcd-03 is not a node in the document, and was not probed \
         (peer URLs https://192.168.1.102:2380): add it to the list",
    );
    // One without a log is a member all the same.
    let log = "/var/lib/etcd/member/wal";
    lab.on("etcd-03", &format!("systemctl stop etcd; mv {log} {log}.x"));
    lab.bash("etcd-member replace --lose-margin etcd-03 < nodes.txt").exits(3).says(
        "etcd-member: etcd-03: nothing replaced: its write-ahead log is missing or cannot be read, \
         and there is other data of it: rename /var/lib/etcd/member to /var/lib/etcd/member.old, \
         and run this again",
    );
    lab.on("etcd-03", &format!("mv {log}.x {log}; systemctl start etcd"));
    lab.bash("etcd-health --wait < nodes.txt").ok();
    // One host is not two nodes.
    lab.write("doubled.txt", &(lab.read("nodes.txt") + "k8s-x:k8s-master-02:etcd-05\n"));
    lab.bash(&script("grow --yes doubled.txt")).exits(3).says(
        "grow: nothing is done: etcd-03: it is the same host as etcd-05 in the document: take one \
         of the two out",
    );
    // Of what is no member there is nothing to update, which is said.
    lab.bash("sed s/etcd-03/etcd-3x/ nodes.txt | etcd-member update")
        .ok()
        .says(
            "etcd-member: etcd-3x: warning: there is no member of this name at \
             https://192.168.1.102:2380: nothing to update",
        )
        .says(
            "etcd-member: the cluster knows the address of every node that is a member: nothing to \
             update",
        );
    // With one that has more than the members, it would not go on after the change.
    for change in [
        "shrink --yes --lose-margin nodes-4.txt etcd-03",
        "replace-member --yes nodes-4.txt etcd-03",
    ] {
        let name = change.split(' ').next().expect("a name");
        lab.bash(&script(change)).exits(3).says(&format!(
            "{name}: nothing is done: etcd-04 is in the list, and no member: take its line out, or \
             have it added: scripts/grow"
        ));
    }
    // Nor with one that calls a member otherwise, or has it elsewhere: who is meant is not known.
    lab.bash("sed s/etcd-03/etcd-3x/ nodes.txt > called.txt").ok();
    let known = "the cluster knows https://192.168.1.102:2380 as member etcd-03, the";
    let called = format!(
        "etcd-member: etcd-3x: not removed: {known} document calls it etcd-3x: a member keeps its \
         name: change the document back"
    );
    for word in ["etcd-3x", "etcd-03", "k8s-master-02", "https://192.168.1.102:2380"] {
        let ran = lab.bash(&script(&format!("shrink --yes --lose-margin called.txt {word}")));
        let ran = ran.exits(3);
        assert!(ran.stderr.lines().any(|line| line.starts_with(&called)), "{}", ran.stderr);
    }
    let list = lab.bash(&lab.etcdctl(&urls(1), "member list | grep etcd-03 | cut -d , -f 1")).ok();
    let third = list.stdout.trim();
    lab.bash("etcd-member remove --lose-margin etcd-03 < called.txt")
        .exits(3)
        .says(&format!("{called}; to remove it all the same, pass its ID, {third}"));
    let called = format!("nothing is done: {known} list calls it etcd-3x: change the list back");
    lab.bash(&script("shrink --yes --lose-margin called.txt etcd-01"))
        .exits(3)
        .says(&format!("shrink: {called}"));
    lab.bash(&script("replace-member --yes called.txt etcd-01")).exits(3).says(
        "replace-member: nothing is done: etcd-3x: its data is of member etcd-03, the document calls \
         it etcd-3x: a member keeps its name: change the document back",
    );
    let ran = lab.bash("etcd-member remove --lose-margin etcd-02 < swapped.txt").exits(3);
    let why = "etcd-member: etcd-02: not removed: the cluster knows https://192.168.1.100:2380 as \
               member etcd-01, the document calls it etcd-02";
    assert!(ran.stderr.lines().any(|line| line.starts_with(why)), "{}", ran.stderr);
    let ran = lab.bash(&script("shrink --yes --lose-margin other.txt etcd-03")).exits(3);
    let why = "etcd-member: etcd-03: not removed: the cluster knows etcd-03 as \
               https://192.168.1.102:2380, the document says https://192.168.1.109:2380: change it \
               back";
    assert!(ran.stderr.lines().any(|line| line.starts_with(why)), "{}", ran.stderr);
    // The list of a cluster calls them as the cluster does.
    let ran = lab.bash("etcd-member list -o nodes called.txt").ok();
    assert_eq!(ran.stdout, lab.read("nodes.txt"));
    // One that is about to join, and whose host was lost before it started, is replaced.
    lab.bash("etcd-member add -q nodes-4.txt > /dev/null").ok();
    for change in [
        "shrink --yes --lose-margin nodes-4.txt etcd-03",
        "replace-member --yes nodes-4.txt etcd-03",
    ] {
        let name = change.split(' ').next().expect("a name");
        lab.bash(&script(change)).exits(3).says(&format!(
            "{name}: nothing is done: etcd-04 is about to join, and has not started yet: first \
             scripts/grow, or take it out: scripts/shrink NODES etcd-04"
        ));
    }
    let line = "k8s-master-04:192.168.1.104:etcd-05";
    let replace = script(&format!("replace-member --yes nodes-4.txt etcd-04 {line}"));
    lab.bash(&replace).ok();
    let mut joined = before.0.clone();
    joined.push(("etcd-05".into(), "104".into(), true));
    assert_eq!(members(lab, &urls(1)), joined);
    // And so by a document, which names the other host alone.
    lab.bash(&format!("(cat nodes.txt; echo {line}) | etcd-unit uninstall --purge --only etcd-05"))
        .ok();
    lab.bash("etcd-fetch -q < nodes-4.txt > moved.json").ok();
    lab.bash(&script("replace-member --yes moved.json etcd-05")).ok().says(
        "replace-member: https://192.168.1.104:2380, should it come back, and etcd be installed \
         there: it is no member: systemctl disable --now etcd",
    );
    *joined.last_mut().expect("the new one") = ("etcd-04".into(), "103".into(), true);
    assert_eq!(members(lab, &urls(1)), joined);
    lab.bash(&script("shrink --yes nodes-4.txt 192.168.1.103")).ok();
    lab.bash("etcd-unit uninstall --purge --only etcd-04 nodes-4.txt").ok();
    // Not all of them.
    lab.bash(&script("shrink --yes --lose-margin nodes.txt etcd-03 etcd-02 etcd-01")).exits(3).says(
        "shrink: nothing is done: these are all voting members, and the last one stays: to take the \
         cluster off its hosts: scripts/teardown",
    );
    // A part of a name is none.
    lab.bash(&make("replace-member", "nodes.txt", "ETCD_MEMBER=etcd-0")).exits(2).says(
        "replace-member: etcd-0: neither a member of the cluster nor a node in nodes.txt, all of \
             which are members",
    );
    // In a document the new node is in the place of the old one, which it names no more.
    lab.bash("etcd-fetch -q < nodes.txt > replaced.json").ok();
    lab.bash(&script("replace-member --yes replaced.json etcd-00")).ok().says(
        "replace-member: etcd-00 is neither a member of the cluster nor a node in replaced.json, \
         all of which are members: where another has taken its place, what is left to do there is \
         done",
    );
    // How members are reached is for the scripts as well.
    lab.bash(&format!("ETCD_TOOLS_VIA=mule {}", script("grow --yes nodes.txt"))).exits(2);
    // A line that is none replaces nobody.
    for line in ["", " ", "#k8s-node-09:192.168.1.103:etcd-09", "k8s-node-09:192.168.1.103"] {
        let replace = format!("replace-member --yes --lose-margin nodes.txt etcd-03 '{line}'");
        lab.bash(&script(&replace))
            .exits(2)
            .says(&format!("replace-member: NEW-LINE: '{line}': expected hostname:address:name"));
    }
    let ran = lab.bash("head -n 2 nodes.txt | etcd-member replace --lose-margin etcd-03").exits(3);
    assert!(ran.stderr.contains("nothing replaced"), "{}", ran.stderr);
    assert_eq!(members(lab, &urls(1)), before.0);
    assert_eq!(lab.on_all(&HOSTS[..2], PID), before.1[..2]);
}

/// The cluster looks for a member only where it is, and the way back is always open.
fn a_member_is_known_where_it_is(lab: &Lab) {
    let before = members(lab, &urls(1));
    let list = lab.bash(&lab.etcdctl(&urls(1), "member list | grep etcd-02 | cut -d , -f 1")).ok();
    let second = list.stdout.trim();
    let there = |at: usize| format!("https://192.168.1.{}:2380", 100 + at);
    // A host without a member, and one that does not answer.
    lab.bash("sed s/192.168.1.101/192.168.1.103/ nodes.txt > moved.txt").ok();
    for risk in ["", "--check", "--lose-quorum"] {
        let ran = lab.bash(&format!("etcd-member update {risk} < moved.txt")).exits(3);
        assert_eq!(
            lines(&ran),
            [format!(
                "etcd-02: peer URL {} → {} not updated: member {second} is not there: \
                 /var/lib/etcd on 192.168.1.103 has no write-ahead log: change the document back, \
                 move its data there, or replace the member: `scripts/replace-member NODES etcd-02`",
                there(1),
                there(3)
            )]
        );
    }
    // A copy of the data, while the member serves where it was.
    let [from, to] = ["etcd-02", "etcd-04"].map(|host| lab.disk(host, "/var/lib/etcd"));
    let copy = format!("mkdir -p {1}; cp -a {0}/member {1}/", from.display(), to.display());
    lab.bash(&copy).ok();
    let ran = lab.bash("etcd-member update < moved.txt").exits(3);
    assert_eq!(
        lines(&ran),
        [format!(
            "etcd-02: peer URL {} → {} not updated: member {second} serves at \
             https://192.168.1.101:2379: what is on 192.168.1.103 is a copy: stop it there, and \
             move its data, or change the document back",
            there(1),
            there(3)
        )]
    );
    lab.on("etcd-04", "rm -r /var/lib/etcd/member");
    let ran =
        lab.bash("sed s/192.168.1.101/192.168.1.109/ nodes.txt | etcd-member update").exits(3);
    assert_eq!(
        lines(&ran),
        [format!(
            "etcd-02: peer URL {} → {} not updated: whether it is there is not known: cannot \
             connect: connect to host 192.168.1.109 port 22: No route to host",
            there(1),
            there(9)
        )]
    );
    assert_eq!(members(lab, &urls(1)), before);

    // Somebody has done it all the same, and a voter is down.
    let update = format!("member update {second} --peer-urls={}", there(3));
    lab.bash(&lab.etcdctl(&urls(1), &update)).ok();
    lab.on("etcd-03", "systemctl stop etcd");
    let ran = lab.bash("etcd-member update < nodes.txt").ok();
    assert_eq!(lines(&ran), [format!("etcd-02: updated peer URL {} → {}", there(3), there(1))]);
    lab.on("etcd-03", "systemctl start etcd");
    lab.bash("etcd-health --wait < nodes.txt").ok();
    assert_eq!(members(lab, &urls(1)), before);

    // One that has not followed its address yet is a voter that would be lost.
    let ports = |ports: &str| {
        let nodes = "{apiVersion, nodes: [.nodes[] | {name, hostname, address}]}";
        lab.bash(&format!("jq '{nodes} | {ports}' document.json > ports.json")).ok();
    };
    ports(".nodes[0].settings.peerPort = 12380");
    let ran = lab.bash("etcd-member update < ports.json").ok();
    let other = "https://192.168.1.100:12380";
    assert_eq!(lines(&ran), [format!("etcd-01: updated peer URL {} → {other}", there(0))]);
    ports("(.nodes[0, 1].settings.peerPort = 12380)");
    let ran = lab.bash("etcd-member update < ports.json").exits(3);
    assert_eq!(
        lines(&ran),
        [format!(
            "etcd-02: peer URL {} → https://192.168.1.101:12380 not updated: etcd-01 does not \
             listen at {other} yet, where the cluster looks for it: bring it there first: \
             `etcd-render | etcd-push --only etcd-01 | etcd-unit start --only etcd-01`",
            there(1)
        )]
    );
    let ran = lab.bash("etcd-member update < nodes.txt").ok();
    assert_eq!(lines(&ran), [format!("etcd-01: updated peer URL {other} → {}", there(0))]);
    assert_eq!(members(lab, &urls(1)), before);
}

/// A member keeps its data, and has another peer URL.
fn another_address(lab: &Lab) {
    let moved = |edit: &str| {
        let nodes = "{apiVersion, nodes: [.nodes[] | {name, hostname, address}]}";
        lab.bash(&format!("jq '{nodes} | {edit}' document.json > moved.json")).ok();
    };
    // A name that another node does not know.
    lab.on(
        "etcd-01",
        "cp /etc/hosts /root/; grep -v etcd-03 /root/hosts > /root/fewer; cat /root/fewer > /etc/hosts",
    );
    moved(".nodes[2].address = \"etcd-03\"");
    assert_eq!(
        lines(&lab.bash("etcd-member update < moved.json").exits(3)),
        [
            "etcd-03: peer URL https://192.168.1.102:2380 → https://etcd-03:2380 not updated: etcd-01 \
             does not know the name etcd-03, and would not find it there: use an address, or a name \
             that leads there on all nodes"
        ]
    );
    lab.on("etcd-01", "echo 192.168.1.104 etcd-03 >> /etc/hosts");
    assert_eq!(
        lines(&lab.bash("etcd-member update < moved.json").exits(3)),
        [
            "etcd-03: peer URL https://192.168.1.102:2380 → https://etcd-03:2380 not updated: etcd-01 \
             takes etcd-03 for 192.168.1.104, which is no address of that host, and would not find \
             it there: use an address, or a name that leads there on all nodes"
        ]
    );
    lab.on("etcd-01", "cat /root/hosts > /etc/hosts");
    moved(".cluster.settings.peerPort = 12380");
    let what = "etcd-01: peer URL https://192.168.1.100:2380 → https://192.168.1.100:12380";
    assert_eq!(
        lines(&lab.bash("etcd-member update < moved.json").exits(3)),
        [format!(
            "{what} not updated: etcd-02 has another address, too: one member at a time: pass \
             --only etcd-01 here, to etcd-push and to etcd-unit"
        )]
    );
    // Nor where etcd-push would not go on after it.
    moved(".nodes[0].settings.peerPort = 12380 | .nodes[1].settings.dataDir = \"/srv/etcd\"");
    assert_eq!(
        lines(&lab.bash("etcd-member update < moved.json").exits(3)),
        [format!(
            "{what} not updated: etcd-push would not go on after it: etcd-02: its data is in \
             /var/lib/etcd, the document says /srv/etcd: set it to that, or have it moved first: \
             etcd-push says how"
        )]
    );
    // Nor where that, or a stage before it, would not with the member itself.
    lab.on("etcd-01", "touch /srv/file");
    for (setting, tool, why) in [
        (
            "user = \"other\"",
            "etcd-push",
            "etcd-01: etcd runs as etcd, and the document says other, who alone could read its \
             certificates then: change the document back",
        ),
        (
            "configDir = \"/srv/file\"",
            "etcd-push",
            "etcd-01: /srv/file: a file is in the place of the folder: move it away",
        ),
        (
            "env = {ETCD_FEATURE_GATES: \"Nope=true\"}",
            "etcd-render",
            "settings.env: ETCD_FEATURE_GATES: etcd 3.6 refuses to start with a feature that it \
             does not know: remove Nope",
        ),
    ] {
        moved(&format!(
            ".cluster.version = \"v3.6.16\" | .nodes[0].settings = {{peerPort: 12380}} \
             | .nodes[0].settings.{setting}"
        ));
        assert_eq!(
            lines(&lab.bash("etcd-member update < moved.json").exits(3)),
            [format!("{what} not updated: {tool} would not go on after it: {why}")]
        );
    }
    // What is advised goes from one to the next, and back, with all ports at once, too; at its
    // new client port nobody tells its version.
    moved(".cluster.settings = {peerPort: 12380, clientPort: 12379}");
    let version = release("guide").expect("the version that runs");
    for list in ["moved.json", "nodes.txt"] {
        for name in ["etcd-01", "etcd-02"] {
            let ran = lab.bash(&format!(
                "export ETCD_TOOLS_ONLY={name}; etcd-fetch {version} < {list} | etcd-cert issue \
                 | etcd-member update | etcd-render | etcd-push | etcd-unit start \
                 | etcd-health --wait"
            ));
            ran.ok().says(&format!(
                "etcd-unit: {name}: restarted etcd.service: its configuration had changed"
            ));
        }
    }
    moved(".nodes[1].settings.peerPort = 12380");
    let what = "peer URL https://192.168.1.101:2380 → https://192.168.1.101:12380";
    assert_eq!(
        lines(&lab.bash("etcd-member update --check < moved.json").exits(1)),
        [format!("etcd-02: would update {what}")]
    );
    // The stages after it take what it announces for done.
    lab.bash(
        "export ETCD_TOOLS_CHECK=1; etcd-fetch < moved.json | etcd-cert issue | etcd-member update \
         | etcd-render | etcd-push | etcd-unit start > /dev/null",
    )
    .exits(1)
    .says(&format!("etcd-member: etcd-02: would update {what}"))
    .says("etcd-unit: etcd-02: would restart etcd.service: its configuration had changed");
    // A port that is in use is known before.
    let taken = lab.on(
        "etcd-02",
        "/usr/sbin/sshd -p 12380 -o PidFile=/run/other.pid
         until cat /run/other.pid 2> /dev/null; do :; done",
    );
    assert_eq!(
        lines(&lab.bash("etcd-member update < moved.json").exits(3)),
        [format!(
            "etcd-02: {what} not updated: the document has etcd listen at \
             https://192.168.1.101:12380, where it could not start: another program listens there: \
             stop that, or set another port"
        )]
    );
    lab.on("etcd-02", &format!("kill {}", taken.trim()));
    let ran = lab.bash("etcd-member update < moved.json").ok();
    assert_eq!(lines(&ran), [format!("etcd-02: updated {what}")]);
    let deploy = deploy("").replace("nodes.txt", "moved.json");
    lab.bash(&deploy)
        .ok()
        .says("etcd-unit: etcd-02: restarted etcd.service: its configuration had changed");
    let members = lab.bash(&lab.etcdctl(&urls(1), "member list")).ok().stdout;
    assert!(members.contains(" https://192.168.1.101:12380,"), "{members}");
    // What a list of nodes cannot say is said, though the document does.
    let port = "etcd-member: warning: member etcd-02: its peer port is 12380: set \
                settings.peerPort in a JSON document";
    lab.bash("etcd-member list -o nodes moved.json").ok().says(port);
}

fn the_leader_leaves(lab: &Lab) {
    let health = lab.bash("etcd-health < moved.json").ok().document().health.unwrap();
    let leads = |endpoint: &&pipeline::document::Endpoint| endpoint.is_leader;
    let leader = health.endpoints.iter().find(leads).unwrap().node.clone().unwrap();
    // Its host may have gone from the document already, as where another takes its place.
    let without =
        format!("jq 'del(.nodes[] | select(.name == \"{leader}\"))' moved.json > left.json");
    lab.bash(&without).ok();
    let remove = |args: &str| lab.bash(&format!("etcd-member remove {args} < left.json"));
    let ran = remove(&format!("--lose-margin {leader}")).ok();
    let said = lines(&ran);
    assert!(said[0].starts_with("leadership moved to etcd-0"), "{said:?}");
    assert!(said[1].starts_with(&format!("removed member {leader} (https:")), "{said:?}");
    let other = HOSTS[..3].iter().find(|host| **host != leader).unwrap();
    let ran = remove(other).exits(3);
    let end = "not removed: 1 voter would be left, of which none may fail: pass --lose-margin to \
               proceed";
    assert!(lines(&ran)[0].ends_with(end), "{}", ran.stderr);
    // Its process ends by itself.
    wait_until("the removed member ends", MINUTE, || {
        let state = "systemctl show etcd -p ActiveState --value";
        lab.on(&leader, state) != "active\n"
    });
}

/// With and without authentication, each in a pipeline of its own. etcd 3.5 and 3.6 are in
/// the tests above.
fn joins(version: &str) {
    let lab = cluster(version, 1);
    let join = |nodes: &str| {
        lab.bash(&format!(
            "export ETCDCTL_USER=root ETCDCTL_PASSWORD=secret
             etcd-fetch {version} < {nodes} | etcd-cert issue | {JOIN}"
        ))
        .ok()
    };
    // One that its peers cannot dial does not vote.
    let closed = "ip rule add pref 2 ipproto 6 sport 2380 blackhole";
    lab.on("etcd-02", closed);
    let stages = JOIN.replace("promote", "promote --timeout 3");
    lab.bash(&format!("etcd-fetch {version} < nodes-2.txt | etcd-cert issue | {stages}"))
        .exits(66)
        .says("etcd-member: etcd-02: added to the cluster, as a learner")
        .says(
            "etcd-member: etcd-02: not promoted: etcd-01 has no connection to it \
             (https://192.168.1.101:2380): open its peer port",
        );
    lab.on("etcd-02", &closed.replace("add", "del"));
    let ran = join("nodes-2.txt").says("etcd-member: etcd-02: promoted to a voting member");
    assert_eq!(ran.document().health.unwrap().members.len(), 2);
    let etcdctl = |args: &str| lab.bash(&lab.etcdctl(&urls(1), args)).ok();
    for args in ["user add root:secret", "user grant-role root root", "auth enable"] {
        etcdctl(args);
    }
    let ran = join("nodes-3.txt").says("etcd-member: etcd-03: promoted to a voting member");
    assert_eq!(ran.document().health.unwrap().members.len(), 3);
    etcdctl("--user root:secret auth disable");
    assert_eq!(members(&lab, &urls(1)), all_voters(3));

    // A port that a member is yet to have is not waited for before it has it.
    lab.bash(
        "jq -R -s '{apiVersion: \"etcd-tools/v1\", nodes: [split(\"\\n\")[] | select(. != \"\") \
         | split(\":\") | {hostname: .[0], address: .[1], name: .[2]}]} \
         | .nodes[1].settings.clientPort = 2479' nodes-4.txt > ports.json",
    )
    .ok();
    let ran = lab.bash(&script("grow --yes ports.json")).ok();
    assert!(ran.stderr.contains("etcd-02: restarted etcd.service"), "{}", ran.stderr);
    assert_eq!(members(&lab, &urls(1)), all_voters(4));
}

#[test]
fn members_join_with_etcd_3_4() {
    let Some(version) = release("oldest") else { return };
    joins(&version);
}

#[test]
fn members_join_with_etcd_3_7() {
    let Some(version) = release("3.7") else { return };
    joins(&version);
}

/// Deploys three members with binaries, certificates and data in folders of their own, and
/// flags instead of a file; `start` is run on each host with the command line of etcd. Leaves
/// their node list in `taken.txt`.
fn deploy_by_hand(lab: &Lab, start: impl Fn(&str) -> String) {
    lab.bash(&format!(
        "etcd-fetch {} < nodes.txt | jq '.cluster.settings = {{certDir: \"/opt/kv/ssl\", binDir: \
         \"/opt/kv/bin\"}}' | etcd-cert issue | etcd-push > pushed.json",
        guide()
    ))
    .ok();
    let peer = |at: usize| format!("kv-{at}=https://192.168.1.{}:2380", 100 + at);
    let initial = (0..3).map(peer).collect::<Vec<_>>().join(",");
    for (at, host) in HOSTS.iter().take(3).enumerate() {
        let address = format!("192.168.1.{}", 100 + at);
        let command = format!(
            "/opt/kv/bin/etcd --name kv-{at} --data-dir /var/lib/kv --listen-peer-urls \
             https://{address}:2380 --initial-advertise-peer-urls https://{address}:2380 \
             --listen-client-urls https://{address}:2379 --advertise-client-urls \
             https://{address}:2379 --initial-cluster {initial} --client-cert-auth \
             --trusted-ca-file /opt/kv/ssl/ca.crt --cert-file /opt/kv/ssl/server.crt --key-file \
             /opt/kv/ssl/server.key --peer-client-cert-auth --peer-trusted-ca-file \
             /opt/kv/ssl/ca.crt --peer-cert-file /opt/kv/ssl/peer.crt --peer-key-file \
             /opt/kv/ssl/peer.key"
        );
        lab.on(host, &start(&command));
    }
    let access = format!(
        "--endpoints {} --cacert pki/ca.crt --cert pki/client.crt --key pki/client.key",
        urls(3).join(",")
    );
    lab.bash(&format!("etcd-health --wait {access}")).ok();
    lab.bash(&format!("etcd-member list {access} -o nodes > taken.txt")).ok();
}

/// Etcd's own unit, written by hand, says all with flags: what it says counts also while
/// nothing runs.
#[test]
fn a_unit_written_by_hand_is_neither_replaced_nor_removed() {
    let lab = Lab::with_nodes(3);
    deploy_by_hand(&lab, |command| {
        // The name is that of the host, which systemd fills in.
        let (begin, rest) = command.split_once("--name ").expect("a name");
        let (name, rest) = rest.split_once(' ').expect("more flags");
        let command = format!("{begin}--name %H {rest}");
        format!(
            "hostname {name}
             for each in /opt/kv/bin/*; do cp --remove-destination $(readlink -f $each) $each; done
             rm -r /usr/local/lib/etcd-tools
             cat > /etc/systemd/system/etcd.service <<'E'\n[Service]\nType=notify\nUser=etcd\n\
             StateDirectory=kv\nExecStart={command}\n[Install]\nWantedBy=multi-user.target\nE\n\
             systemctl enable --quiet etcd; systemctl start --no-block etcd"
        )
    });
    let on_all = |script: &str| lab.on_all(&HOSTS[..3], script);
    let traces = "cat /etc/systemd/system/etcd.service; ls -l /opt/kv/bin /var/lib/etcd; \
                  systemctl is-active etcd; cat /var/lib/kv/member/snap/db | wc -c";
    let before = on_all(traces);
    lab.write("four.txt", &(lab.read("taken.txt") + "kv-3:192.168.1.103:kv-3\n"));
    let begin = "nothing is done: kv-0: process ";
    for script_of in ["grow --yes four.txt", "shrink --yes --lose-margin taken.txt kv-2"] {
        let ran = lab.bash(&script(script_of)).exits(3);
        let name = script_of.split(' ').next().expect("a name");
        let said = format!("{name}: {begin}");
        assert!(ran.stderr.lines().any(|line| line.starts_with(&said)), "{}", ran.stderr);
    }
    assert_eq!(on_all(traces), before);

    // A member whose data is in place is not replaced, running or not.
    lab.on("etcd-03", "systemctl stop etcd");
    lab.bash("etcd-member replace --via direct --lose-margin kv-2 taken.txt").ok().says(
        "etcd-member: kv-2: nothing to replace: its data is in place: where its etcd \
             cannot start with it, rename /var/lib/kv/member to /var/lib/kv/member.old on the \
             node, and run this again",
    );
    on_all("systemctl stop etcd");
    let stopped = on_all(traces);
    let ran = lab.bash(&deploy(guide()).replace("nodes.txt", "taken.txt")).exits(66);
    ran.says(
        "etcd-push: kv-0: its data is in /var/lib/kv, the document says /var/lib/etcd: change it \
         back, or stop the member, move it there (`mkdir -p /var/lib/etcd && mv \
         /var/lib/kv/member /var/lib/etcd/`), and run this again",
    );
    assert_eq!(on_all(traces), stopped);
    lab.bash("etcd-unit uninstall --purge taken.txt").exits(3).says(
        "etcd-unit: kv-0: etcd.service was not written by these tools, and neither was its data: \
         nothing is purged: leave --purge out, and remove them by hand",
    );
    lab.bash("etcd-unit uninstall taken.txt").ok().says(
        "etcd-unit: kv-0: warning: etcd.service was not written by these tools: it is stopped and \
         disabled, and its file stays",
    );
    assert_eq!(on_all(traces), stopped);
    assert_eq!(on_all("systemctl is-enabled etcd || true"), ["disabled\n"; 3]);

    // A snapshot is restored there, and whether the cluster has run since is known though their
    // unit does not say so.
    on_all("systemctl start --no-block etcd");
    let settings =
        json!({"dataDir": "/var/lib/kv", "binDir": "/opt/kv/bin", "certDir": "/opt/kv/ssl"});
    let node = |at: usize| json!({"name": format!("kv-{at}"), "address": format!("192.168.1.{}", 100 + at)});
    let nodes: Vec<_> = (0..3).map(node).collect();
    let document =
        json!({"apiVersion": "etcd-tools/v1", "nodes": nodes, "cluster": {"settings": settings}});
    lab.write("kv.json", &document.to_string());
    lab.bash("etcd-health -q --wait < kv.json && etcd-snapshot save -q --to kv.db kv.json").ok();
    assert_eq!(on_all("ls /etc/etcd 2> /dev/null || echo none"), ["none\n"; 3]);
    let restore = script("restore --yes kv.json kv.db");
    lab.bash(&restore).ok();
    lab.unpack(guide());
    lab.bash(&lab.etcdctl(&urls(3), "put since 1")).ok();
    let pids = on_all("systemctl show etcd -p MainPID");
    lab.bash(&restore).ok().says(
        "etcd-snapshot: the cluster was restored from kv.db already, and has run since: start it \
         if it is stopped, or pass --again to go back to the snapshot once more",
    );
    assert_eq!(on_all("systemctl show etcd -p MainPID"), pids);
    // What has no certificates any more can be saved.
    on_all("systemctl stop etcd; mv /opt/kv/ssl /opt/kv/gone");
    lab.bash("etcd-snapshot save -q --offline --to since.db kv.json").ok();
    assert_eq!(on_all("ls -d /run/etcd-tools-offline 2> /dev/null || echo none"), ["none\n"; 3]);
    lab.bash("etcd-snapshot save -q --offline --to none.db taken.txt").exits(3).says(
        "etcd-snapshot: kv-0: nothing to save: no data of etcd in /var/lib/etcd: its data is in \
         /var/lib/kv, the document says /var/lib/etcd: set dataDir and walDir",
    );
}

#[test]
fn a_cluster_that_others_deployed_is_taken_on() {
    let lab = Lab::with_nodes(3);
    deploy_by_hand(&lab, |command| {
        // A script is the main process, and etcd its child.
        format!(
            "systemd-run -q --unit=kv -p User=etcd -p StateDirectory=kv /bin/sh -c '{command}; \
             exit 1'"
        )
    });
    let line = |at: usize| format!("kv-{at}:192.168.1.{}:kv-{at}\n", 100 + at);
    assert_eq!(lab.read("taken.txt"), (0..3).map(line).collect::<String>());
    let health = lab.bash("etcd-health < taken.txt").ok().document().health.unwrap();
    assert!(health.healthy && health.endpoints.len() == 3, "{health:?}");
    lab.bash("mkdir backup && etcd-snapshot save --to backup/ < taken.txt").ok();
    lab.bash("etcd-snapshot verify backup/*.db").ok();
    // They do not listen on the loopback of their hosts, and count as members all the same.
    let ran = lab.bash("etcd-unit restart --unit kv.service taken.txt").ok();
    let restarted = "restarted kv.service: as asked";
    let (began, ended) = (ran.stderr.find(restarted), ran.stderr.rfind(restarted));
    let moved = ran.stderr.find("leadership moved to ");
    assert!(began.is_some() && began < moved && moved < ended, "{}", ran.stderr);
    let four = lab.read("taken.txt") + "kv-3:192.168.1.103:kv-3\n";
    lab.write("four.txt", &four.replace("kv-2:192.168.1.102:kv-2\n", ""));
    lab.bash("etcd-member add -q four.txt").exits(3).says(
        "etcd-member: not added: member kv-2 of the cluster (https://192.168.1.102:2380) is not in \
         the document: add it there, or remove it: `etcd-member remove kv-2`, or, where a new node \
         takes its place: `scripts/replace-member NODES kv-2`",
    );
    let deploy_one =
        deploy(guide()).replace("nodes.txt", "four.txt").replace("push", "push --only kv-3");
    lab.bash(&deploy_one).exits(66).says(
        "etcd-push: kv-3: it is not a member of the cluster that runs: add it first: `scripts/grow \
         NODES`, or `etcd-member add` before etcd-render",
    );
    // No member is sent to where these tools would not have it listen.
    let node = |at: usize| json!({"name": format!("kv-{at}"), "address": format!("192.168.1.{}", 100 + at)});
    let other_port = json!({"apiVersion": "etcd-tools/v1", "nodes": (0..3).map(node).collect::<Vec<_>>(), "cluster": {"settings": {"peerPort": 12380}}});
    lab.write("peers.json", &other_port.to_string());
    let members = || lab.bash("etcd-member list -o table taken.txt").ok().stdout;
    let before = members();
    assert_eq!(
        lines(&lab.bash("etcd-member update --only kv-1 peers.json").exits(3)),
        [
            "kv-1: peer URL https://192.168.1.101:2380 → https://192.168.1.101:12380 not updated: it \
             would not be found there: others deployed it, and it does not listen there: have it \
             listen there first, or set the peerPort and address that it has"
        ]
    );
    assert_eq!(members(), before);
    // Nor does one go down that nobody can ask.
    let node = |at: usize| json!({"name": format!("kv-{at}"), "address": format!("192.168.1.{}", 100 + at)});
    let nodes: Vec<_> = (0..3).map(node).collect();
    let other_port = json!({"apiVersion": "etcd-tools/v1", "nodes": nodes, "cluster": {"settings": {"clientPort": 22379}}});
    lab.write("port.json", &other_port.to_string());
    let unknown = "cannot tell whether the cluster would keep quorum: kv-0: connecting: nothing is \
                   listening on port 22379: or pass --lose-quorum to proceed";
    for (what, not) in
        [("restart", "kv.service not restarted"), ("stop --only kv-0", "not stopped")]
    {
        lab.bash(&format!("etcd-unit {what} --unit kv.service --timeout 1 port.json"))
            .exits(3)
            .says(&format!("etcd-unit: kv-0: {not}: {unknown}"));
    }
    // One that is called otherwise is a member all the same, running or not.
    let other = "sed s/:kv-2/:bb/ taken.txt | etcd-member replace --check --lose-margin";
    let called = "etcd-member: bb: nothing replaced: the cluster knows https://192.168.1.102:2380 \
                  as member kv-2, the document calls it bb: a member keeps its name: change the \
                  document back";
    for name in ["bb", "kv-2"] {
        lab.bash(&format!("{other} {name}")).exits(3).says(called);
    }
    lab.on("etcd-03", "systemctl stop kv");
    lab.bash(&format!("{other} kv-2")).exits(3).says(
        "etcd-member: bb: nothing replaced: the data of kv-2 is on this host, where the document has \
         another member: change the document back",
    );
    // One of them leaves. Its data is in place, though nothing says where that is.
    lab.bash("etcd-member replace --check --lose-margin kv-2 taken.txt").exits(3).says(
        "etcd-member: kv-2: nothing replaced: its write-ahead log is in /var/lib/kv/member/wal: \
         start its etcd, or to give it up, remove that folder or rename it to \
         /var/lib/kv/member/wal.old",
    );
    lab.bash("etcd-member remove --lose-margin kv-2 < taken.txt")
        .ok()
        .says("etcd-member: kv-2: removed member kv-2 (https://192.168.1.102:2380)");
    let health = lab.bash("head -n 2 taken.txt | etcd-health --wait").ok().document().health;
    assert_eq!(health.unwrap().members.len(), 2);
    // Their unit is not ours to start.
    let ran = lab.bash(&deploy(guide()).replace("nodes.txt", "taken.txt")).exits(66);
    assert!(ran.stderr.contains(", in kv.service) is an etcd that these tools did not install"));
    // The last two are a quorum only together.
    lab.bash("etcd-unit stop --unit kv.service --only kv-1 taken.txt").exits(3).says(
        "etcd-unit: kv-1: not stopped: only kv-0 would be left of 2 voters, quorum is 2: pass \
         --lose-quorum to proceed",
    );
}

#[test]
fn an_etcd_by_another_name_is_a_member() {
    let lab = Lab::with_nodes(3);
    deploy_by_hand(&lab, |command| {
        let command = command.replace("/opt/kv/bin/etcd", "/opt/kv/bin/kvd");
        format!(
            "cp -L /opt/kv/bin/etcd /opt/kv/bin/kvd
             printf '[Service]\\nType=notify\\nUser=etcd\\nStateDirectory=kv\\nExecStart=%s\\n' \
             '{command}' > /etc/systemd/system/kv.service
             systemctl start --no-block kv"
        )
    });
    let unit =
        |command: &str| lab.bash(&format!("etcd-unit {command} --unit kv.service taken.txt"));
    let ran = unit("restart").ok();
    let restarted = "restarted kv.service: as asked";
    let (began, ended) = (ran.stderr.find(restarted), ran.stderr.rfind(restarted));
    let moved = ran.stderr.find("leadership moved to ");
    assert!(began.is_some() && began < moved && moved < ended, "{}", ran.stderr);
    unit("stop --only kv-0").ok();
    unit("stop --only kv-1").exits(3).says(
        "etcd-unit: kv-1: not stopped: only kv-2 would be left of 3 voters, quorum is 2 (kv-0: not \
         running): repair kv-0 first, or pass --lose-quorum to proceed",
    );
}
