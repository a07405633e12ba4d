//! `scripts/upgrade`: the whole way up and one step down, under a client that writes all
//! the time.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use tests::{Lab, Ran, deploy, release, repository, wait_until};

use crate::writer::{Writer, all_is_kept};

const HOSTS: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];
const MINUTE: Duration = Duration::from_secs(60);

const CANCELLED: &str = "etcd-maintain: downgrade to 3.6 cancelled: where etcd-push has put its \
                         release already, `scripts/upgrade NODES VERSION` with the version that \
                         runs takes it away again";

fn upgrade(lab: &Lab, args: &str) -> Ran {
    lab.bash(&format!("{}/scripts/upgrade --yes {args}", repository().display()))
}

#[test]
fn one_member_is_upgraded_in_words_only() {
    let [Some(from), Some(to)] = ["3.5", "3.6"].map(release) else { return };
    let lab = Lab::with_nodes(1);
    lab.bash(&format!("{} > cluster.json", deploy(&from))).ok();
    let binary = || lab.on("etcd-01", "readlink /usr/local/bin/etcd");
    let before = binary();
    upgrade(&lab, &format!("cluster.json {to}")).exits(3).says(
        "upgrade: nothing is done: with fewer than 3 voting members, here 1, each restart is an \
         outage: pass --lose-quorum to proceed",
    );
    assert_eq!(binary(), before);
    upgrade(&lab, &format!("--lose-quorum cluster.json {to}"))
        .ok()
        .says(&format!("upgrade: set cluster.version in cluster.json to {to}: it says {from}"));
    assert_ne!(binary(), before);
    // So it is with any change.
    let deploy = format!("{}/scripts/deploy --yes", repository().display());
    lab.bash(&format!(
        "etcd-fetch -q {to} < nodes.txt \
         | jq '.cluster.settings.env.ETCD_LOG_LEVEL = \"warn\"' > warn.json"
    ))
    .ok();
    let ran = lab.bash(&format!("{deploy} warn.json")).exits(3);
    assert!(ran.stderr.contains(": pass --lose-quorum to proceed"), "{}", ran.stderr);
    lab.bash(&format!("{deploy} --lose-quorum warn.json")).ok();
}

#[test]
fn a_host_that_is_lost_in_the_middle_of_a_step_is_replaced() {
    let [Some(from), Some(to)] = ["3.5", "3.6"].map(release) else { return };
    let lab = Lab::with_nodes(3);
    lab.bash(&deploy(&from)).ok();
    let put_on = |host: &str, version: &str| {
        format!(
            "etcd-fetch -q {version} < nodes.txt | etcd-cert issue -q | etcd-render -q | etcd-push \
             -q --only {host}"
        )
    };
    let put = |version: &str| put_on("etcd-02", version);
    let begin_on = |host: &str, version: &str| {
        let start = format!("etcd-unit start -q --only {host} | etcd-health -q --wait");
        lab.bash(&format!("{} | {start}", put_on(host, version))).ok()
    };
    let begin = |version: &str| begin_on("etcd-02", version);
    // To go back from a step that was cut off takes its release away from where it lies already,
    // and has not been started.
    let there = || lab.on("etcd-02", "etcd --version | sed -n 's/^etcd Version: /v/p'");
    lab.bash(&put(&to)).ok();
    assert_eq!(there(), format!("{to}\n"));
    // Nor does a restart take the step up alone.
    lab.bash("etcd-unit restart --only etcd-02 nodes.txt").exits(3).says(&format!(
        "etcd-unit: etcd-02: /usr/local/bin/etcd is {to}, and {from} runs: put that back: \
         `scripts/upgrade NODES {from}`, or `etcd-fetch {from} < NODES | etcd-cert issue | etcd-render | \
         etcd-push`, or take the step: `scripts/upgrade NODES {to}`"
    ));
    upgrade(&lab, &format!("nodes.txt {from}")).ok();
    assert_eq!(there(), format!("{from}\n"));
    begin(&to);
    let pid = lab.on("etcd-02", "systemctl show etcd -p MainPID");
    // To change the members finishes no step.
    for script in ["grow --yes nodes.txt", "shrink --yes --lose-margin nodes.txt etcd-03"] {
        let ran = lab.bash(&format!("{}/scripts/{script}", repository().display())).exits(3);
        let (name, _) = script.split_once(' ').expect("a name");
        ran.says(&format!(
            "{name}: nothing is done: members run {from}, {to}: bring all of them to one of these \
             first: scripts/upgrade NODES VERSION"
        ));
    }
    // The host is a new one, with nothing on it.
    lab.command(&["reset", "etcd-03"]);
    let lost = lab.bash("etcd-unit start -q < nodes.txt").exits(3);
    lost.says(
        "etcd-unit: etcd-03: there is no write-ahead log in /var/lib/etcd/member/wal, and the \
         cluster knows it as a member that has run: etcd was removed from this host, or the host \
         was installed again: replace the member: `scripts/replace-member NODES etcd-03`",
    );
    // It joins with the newer release, before any other is missed, and the step is finished.
    let script = format!("{}/scripts/replace-member", repository().display());
    let replace = format!("{script} --yes nodes.txt etcd-03");
    let all_run = |version: &str| {
        let health = lab.bash("etcd-health -q < nodes.txt").ok().document().health.unwrap();
        let versions: Vec<_> = health.endpoints.into_iter().map(|e| e.version.unwrap()).collect();
        assert_eq!(versions, [&version[1..]; 3]);
    };
    let replaced = || {
        lab.bash(&replace).ok().says(&format!(
            "etcd-fetch: warning: members run {from} to {to}: taking {to}, the highest"
        ));
        all_run(&to);
    };
    replaced();
    assert_eq!(lab.on("etcd-02", "systemctl show etcd -p MainPID"), pid);

    // A restart takes no step back that etcd does not, for a binary that lies there.
    let old = format!("ls -d /usr/local/lib/etcd-tools/{from}-*");
    let link = |dir: &str| format!("ln -sfn {dir}/etcd /usr/local/bin/etcd");
    let new = lab.on("etcd-02", "dirname $(readlink /usr/local/bin/etcd)");
    lab.on("etcd-02", &link(&format!("$({old})")));
    lab.bash("etcd-unit restart --only etcd-02 nodes.txt").exits(3).says(&format!(
        "etcd-unit: etcd-02: /usr/local/bin/etcd is {from}, and {to} runs: put that back: \
         `scripts/upgrade NODES {to}`, or `etcd-fetch {to} < NODES | etcd-cert issue | etcd-render | \
         etcd-push`"
    ));
    lab.on("etcd-02", &link(new.trim()));

    // In the middle of a downgrade neither release may join: known before the member goes.
    lab.bash(&format!("etcd-maintain -q downgrade enable {from} < nodes.txt")).ok();
    begin(&from);
    lab.command(&["reset", "etcd-03"]);
    let members = || lab.bash("etcd-member list -q -o nodes nodes.txt").ok().stdout;
    let before = members();
    let nobody = |what: &str| {
        let minor = etcd::Minor::V3_5;
        format!(
            "etcd-member: {what}: a downgrade to {minor} is enabled: complete it with \
             scripts/upgrade, or take it back: `etcd-maintain downgrade cancel`: nobody can join \
             before: where a member is lost, take it back"
        )
    };
    lab.bash(&replace).exits(3).says(&format!(
        "replace-member: nothing is done: etcd-01: {from} → {to}: a downgrade to 3.5 is enabled: \
         complete it with scripts/upgrade, or take it back: `etcd-maintain downgrade cancel`"
    ));
    let one_more = "{ cat nodes.txt; echo k8s-node-09:192.168.1.109:etcd-09; }";
    lab.bash(&format!("{one_more} | etcd-member add -q")).exits(3).says(&nobody("not added"));
    assert_eq!(members(), before);
    lab.bash("etcd-maintain -q downgrade cancel < nodes.txt").ok();
    replaced();

    // Nor where the last member of the newer release is lost, and the others do not tell of it
    // until they are asked. They take the older version for the cluster's, and within five
    // seconds, if the last one says so, too, etcd ends the downgrade: lost it has to be between
    // the two.
    lab.unpack(&to);
    let one = &["https://192.168.1.100:2379".into()];
    let is_enabled = || {
        let asked = lab.bash(&lab.etcdctl(one, "downgrade validate 3.4"));
        asked.stderr.contains("has a downgrade job in progress")
    };
    let lost_in_time = (0..10).any(|_| {
        lab.bash(&format!("etcd-maintain -q downgrade enable {from} < nodes.txt")).ok();
        for host in ["etcd-01", "etcd-02"] {
            begin_on(host, &from);
        }
        let version = "curl -s --cacert pki/ca.crt --cert pki/client.crt --key pki/client.key \
                       https://192.168.1.100:2379/version";
        wait_until("the cluster has the older version", MINUTE, || {
            lab.bash(version).stdout.contains("\"etcdcluster\":\"3.5")
        });
        lab.command(&["power", "off", "etcd-03"]);
        let enabled = is_enabled();
        if !enabled {
            lab.command(&["power", "on", "etcd-03"]);
            upgrade(&lab, &format!("nodes.txt {to}")).ok();
        }
        enabled
    });
    assert!(lost_in_time);
    lab.command(&["reset", "etcd-03"]);
    lab.bash(&replace).exits(66).says(&nobody("nothing replaced"));
    assert_eq!(members(), before);
    lab.bash("etcd-preflight -q --skip disk-latency -o json nodes.txt").says(
        "etcd-preflight: warning: a downgrade to 3.5 is enabled: complete it with \
         scripts/upgrade, or take it back: `etcd-maintain downgrade cancel`",
    );
    let cancel = |to: &str| lab.bash(&format!("etcd-maintain downgrade cancel {to} < nodes.txt"));
    cancel("--check")
        .exits(1)
        .says(&format!("etcd-maintain: would cancel the downgrade to {}", etcd::Minor::V3_5));
    cancel("").ok();
    cancel("").ok().says("etcd-maintain: no downgrade is enabled");
    lab.bash(&replace).ok();
    all_run(&from);
}

#[test]
fn through_all_minor_versions_and_back_under_a_client_that_writes() {
    let names = ["oldest", "guide", "3.5", "3.6", "3.7"];
    let releases: Vec<_> = names.into_iter().filter_map(release).collect();
    let [oldest, guide, v3_5, v3_6, v3_7] = &releases[..] else { return };
    let lab = Lab::with_nodes(3);
    lab.bash(&deploy(oldest)).ok();
    let versions = || {
        let health = lab.bash("etcd-health -q < nodes.txt").ok().document().health.unwrap();
        let version = |endpoint: pipeline::document::Endpoint| endpoint.version.unwrap();
        health.endpoints.into_iter().map(version).collect::<BTreeSet<_>>()
    };
    let all_run = |version: &String| assert_eq!(versions(), BTreeSet::from([version[1..].into()]));
    let refused = |version: &str, why: &str| {
        lab.bash(&format!("etcd-fetch -q {version} < nodes.txt > released.json")).ok();
        lab.bash("etcd-preflight -q --skip disk-latency < released.json")
            .exits(3)
            .says(&format!("etcd-preflight: etcd-01: {why}"));
        lab.bash("etcd-cert issue -q < released.json | etcd-render -q | etcd-push -q")
            .exits(3)
            .says(&format!("etcd-push: etcd-01: {why}"));
    };

    // What plain restarts cost, to compare with.
    let writer = Writer::start(&lab, 1_000_000);
    for host in HOSTS {
        lab.on(host, "systemctl restart etcd");
        lab.bash("etcd-health -q --wait < nodes.txt").ok();
    }
    let plain = writer.stop();
    let writer = Writer::start(&lab, 1_500_000);
    lab.bash("etcd-unit restart -q < nodes.txt").ok();
    let one_by_one = writer.stop();

    // Too far for one step: refused with the path, before anything is done.
    let path = format!("{oldest} → {v3_5} → {v3_6}");
    let several =
        format!("{oldest} → {v3_6}: etcd upgrades one minor version at a time: upgrade {path}");
    refused(v3_6, &several);
    upgrade(&lab, &format!("nodes.txt {v3_6}")).exits(1).says(&format!(
        "upgrade: {v3_6} is several steps away: pass --through to go to {v3_5}, then {v3_6}"
    ));
    all_run(oldest);

    // A version that is nowhere, or none at all: nothing is begun, and no way on is offered.
    let nowhere = upgrade(&lab, "nodes.txt v3.5.99").exits(3);
    let [line] = nowhere.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{nowhere:?}") };
    assert!(line.starts_with("etcd-fetch: "), "{line}");
    assert!(line.ends_with(": the mirror has no v3.5.99 for amd64"), "{line}");
    upgrade(&lab, "nodes.txt v3.4.x").exits(2);
    // An alarm comes before any step, whichever tool is the first to see it.
    let alarm = |action: &str| {
        lab.bash(&format!(
            "id=$(etcd-health -q < nodes.txt 2> errors | jq -r '.health.endpoints[1].memberId')
             curl -sf --cacert pki/ca.crt --cert pki/client.crt --key pki/client.key \
             https://192.168.1.100:2379/v3/maintenance/alarm -d \"{{\\\"action\\\": \
             \\\"{action}\\\", \\\"memberID\\\": \\\"$(printf %u 0x$id)\\\", \\\"alarm\\\": \
             \\\"NOSPACE\\\"}}\""
        ))
        .ok();
    };
    let traces = || {
        let what = "readlink /usr/local/bin/etcd; systemctl show etcd -p MainPID; ls /etc/etcd";
        lab.on_all(&HOSTS, what)
    };
    let before = traces();
    alarm("ACTIVATE");
    let raised = |tool: &str| {
        format!(
            "{tool}: etcd-02: alarm NOSPACE: the database has reached its quota and takes no \
             writes: compact, defragment, raise quotaBackendBytes if most of it is in use, then \
             etcdctl alarm disarm: {oldest} → {guide} only after that"
        )
    };
    upgrade(&lab, &format!("nodes.txt {guide}"))
        .exits(3)
        .says(&raised("etcd-preflight"))
        .says("upgrade: no member was touched");
    lab.bash(&format!(
        "etcd-fetch -q {guide} < nodes.txt | etcd-cert issue -q | etcd-render -q > next.json"
    ))
    .ok();
    for tool in ["etcd-push", "etcd-unit start"] {
        let name = tool.split(' ').next().expect("a name");
        lab.bash(&format!("{tool} -q < next.json")).exits(3).says(&raised(name));
    }
    assert_eq!(traces(), before);
    alarm("DEACTIVATE");

    // What is set for other uses of the tools does not count; for one member only there is
    // no upgrade.
    let script = format!("{}/scripts/upgrade --yes nodes.txt {guide}", repository().display());
    let only = "upgrade: ETCD_TOOLS_ONLY is set, and this concerns all members: unset it";
    lab.bash(&format!("ETCD_TOOLS_ONLY=etcd-01 {script}")).exits(2).says(only);
    // Who knows better than a check leaves it out, by its code.
    let memory = |mount: &str| lab.on("etcd-01", &format!("{mount} /proc/meminfo"));
    lab.on("etcd-01", "sed 's/^MemTotal:.*/MemTotal: 1000000 kB/' /proc/meminfo > /run/memory");
    memory("mount --bind /run/memory");
    lab.bash(&script)
        .exits(3)
        .says("etcd-preflight: etcd-01: 1.0 GB of memory, less than 2 GB: give the host more");
    all_run(oldest);
    let script = script.replace("--yes", "--yes --skip memory");
    let writer = Writer::start(&lab, 2_000_000);
    let others = "ETCD_TOOLS_OUTPUT=table ETCD_TOOLS_ENDPOINTS=https://192.168.1.9:2379";
    lab.bash(&format!("{others} {script}")).ok();
    memory("umount");
    all_run(guide);
    refused(
        v3_6,
        &format!(
            "{guide} → {v3_6}: every member must run v3.5.32 or later first: upgrade {guide} → \
             {v3_5} → {v3_6}"
        ),
    );

    // A release that does not start on the first member: no other gets it, and the lines
    // that the script ends with work.
    let before = lab.on_all(&HOSTS, "readlink /usr/local/bin/etcd");
    let broken = "mkdir -p /run/systemd/system/etcd.service.d; printf '[Service]\\nExecStartPre=/bin/sh \
                  -c \"! readlink /usr/local/bin/etcd | grep -q NEW\"\\n' > \
                  /run/systemd/system/etcd.service.d/broken.conf; systemctl daemon-reload";
    lab.on_all(&HOSTS, &broken.replace("NEW", v3_5));
    let failed = lab.bash(&format!(
        "ETCD_TOOLS_UNIT_TIMEOUT=10 {}/scripts/upgrade --yes nodes.txt {v3_5}",
        repository().display()
    ));
    let line = |start: &str| {
        let line = failed.stderr.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_else(|| panic!("no {start:?} in:\n{}", failed.stderr)).to_owned()
    };
    assert_ne!(failed.code, 0, "{}", failed.stderr);
    assert_eq!(line("upgrade: stopped between "), format!("{guide} and {v3_5}"));
    let (on, back) = (line("upgrade: to go on: "), line("upgrade: to go back: "));
    let now = lab.on_all(&HOSTS, "readlink /usr/local/bin/etcd");
    let changed = now.iter().zip(&before).filter(|(now, before)| now != before).count();
    assert_eq!(changed, 1, "{now:?}\n{}", failed.stderr);
    lab.bash(&back).ok();
    all_run(guide);
    let mend = "rm -r /run/systemd/system/etcd.service.d; systemctl daemon-reload";
    lab.on_all(&HOSTS, mend);
    lab.bash(&on).ok();
    all_run(v3_5);

    // The rest of the way, resumed from the middle of a step.
    lab.bash(&format!(
        "etcd-fetch -q {v3_6} < nodes.txt | etcd-cert issue -q | etcd-render -q \
         | etcd-push -q --only etcd-02 | etcd-unit start -q --only etcd-02 | etcd-health -q --wait"
    ))
    .ok();
    let mixed = BTreeSet::from([v3_5[1..].to_owned(), v3_6[1..].to_owned()]);
    assert_eq!(versions(), mixed);
    let ran = upgrade(&lab, &format!("--through nodes.txt {v3_7}")).ok();
    ran.says(&format!("upgrade: from {v3_5} to {v3_6}"))
        .says("etcd-maintain: all members have written a raft snapshot")
        .says(&format!("upgrade: from {v3_6} to {v3_7}"));
    all_run(v3_7);

    // Down: only by etcd's own downgrade, and one minor version at a time.
    refused(
        v3_5,
        &format!(
            "{v3_7} → {v3_5}: etcd downgrades one minor version at a time: downgrade {v3_7} → \
             {v3_6} → {v3_5}"
        ),
    );
    refused(
        v3_6,
        &format!(
            "{v3_7} → {v3_6}: etcd brings its data to 3.6 first, when it is told to: run \
             `etcd-maintain downgrade enable {v3_6}`, or scripts/upgrade, which does all of it"
        ),
    );
    let maintain = |command: &str| lab.bash(&format!("etcd-maintain {command} < nodes.txt"));
    maintain("downgrade cancel").ok().says("etcd-maintain: no downgrade is enabled");
    maintain(&format!("downgrade validate {v3_6}"))
        .ok()
        .says("etcd-maintain: etcd allows a downgrade to 3.6");
    maintain(&format!("downgrade enable --check {v3_6}"))
        .exits(1)
        .says("etcd-maintain: would enable a downgrade to 3.6");
    maintain(&format!("downgrade enable {v3_6}"))
        .ok()
        .says("etcd-maintain: downgrade to 3.6 enabled: the data of all members is ready for it");
    maintain(&format!("downgrade enable {v3_6}"))
        .ok()
        .says("etcd-maintain: the data of all members is ready for 3.6");
    maintain("downgrade cancel").ok().says(CANCELLED);
    // A client has no way to tell that a host is off but to wait for it.
    let stall = writer.stop();

    // A host that is off in the middle of the step down: no other is touched, the lines at the
    // end are true, and the downgrade can be taken back without it.
    maintain(&format!("downgrade enable {v3_6}")).ok();
    lab.bash("etcd-health -q < nodes.txt").ok().says(
        "etcd-health: warning: a downgrade to 3.6 is enabled: complete it with scripts/upgrade, or \
         take it back: `etcd-maintain downgrade cancel`",
    );
    lab.bash(&format!(
        "etcd-fetch -q {v3_6} < nodes.txt | etcd-cert issue -q | etcd-render -q \
         | etcd-push -q --only etcd-02 | etcd-unit start -q --only etcd-02 | etcd-health -q --wait"
    ))
    .ok();
    lab.command(&["power", "off", "etcd-03"]);
    let failed = upgrade(&lab, &format!("nodes.txt {v3_6}"));
    assert_ne!(failed.code, 0, "{}", failed.stderr);
    let line = |start: &str| {
        let line = failed.stderr.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_else(|| panic!("no {start:?} in:\n{}", failed.stderr)).to_owned()
    };
    line("upgrade: first bring back etcd-03: ");
    let (on, back) = (line("upgrade: to go on: "), line("upgrade: to go back: "));
    let cancelled = maintain("downgrade cancel").ok();
    let rest = "; the data gets its newer form when all members answer (etcd-03: ";
    assert!(cancelled.stderr.contains(&format!("{CANCELLED}{rest}")), "{}", cancelled.stderr);
    lab.command(&["power", "on", "etcd-03"]);
    lab.bash("etcd-health -q --wait < nodes.txt").ok();
    lab.bash(&back).ok();
    all_run(v3_7);
    let writer = Writer::start(&lab, 3_000_000);
    lab.bash(&on).ok();
    all_run(v3_6);
    let stall = stall.max(writer.stop());

    // Nobody goes up while a downgrade is enabled.
    maintain(&format!("downgrade enable {v3_5}")).ok();
    refused(
        v3_7,
        &format!(
            "{v3_6} → {v3_7}: a downgrade to 3.5 is enabled: complete it with scripts/upgrade, or \
             take it back: `etcd-maintain downgrade cancel`"
        ),
    );
    maintain("downgrade cancel").ok();

    all_is_kept(&lab);
    writeln!(
        std::io::stdout(),
        "longest stall of a client that writes: {plain} ms over plain systemctl restarts, \
         {one_by_one} ms over etcd-unit restart, {stall} ms over 9 upgrades and downgrades"
    )
    .expect("stdout");
}
