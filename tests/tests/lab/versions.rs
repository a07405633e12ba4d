//! Which release runs, and that each minor version understands its settings.

use std::collections::{BTreeMap, BTreeSet};

use etcd::environment;

use serde_json::{Value, json};
use tests::{Lab, deploy, release, repository};

/// What etcd says of a setting that it does not know, or will not for long.
const COMPLAINTS: [&str; 5] =
    ["unrecognized", "deprecated", "decommissioned", "conflicting", "invalid environment"];

/// The end of what etcd-fetch says when it has asked the members.
const RUNNING: &str = " (the version that is running)";

/// The only line of `stderr` from etcd-fetch.
fn fetch_line(stderr: &str) -> &str {
    let mut lines = stderr.lines().filter(|line| line.starts_with("etcd-fetch: "));
    let line = lines.next().unwrap_or_default();
    assert_eq!(lines.next(), None, "{stderr}");
    line
}

#[test]
fn without_a_version_the_running_one_stays() {
    let lab = Lab::with_nodes(3);
    let Some(guide) = release("guide") else { return };
    lab.bash(&deploy(&guide)).ok();
    let kept = |stderr: &str| {
        let line = fetch_line(stderr);
        let cached = format!("etcd-fetch: {guide} for amd64: in the cache, ");
        assert!(line.starts_with(&cached) && line.ends_with(RUNNING), "{stderr}");
    };
    let second = lab.bash(&deploy("")).ok();
    kept(&second.stderr);
    assert!(second.document().results.iter().all(|result| !result.changed), "{}", second.stderr);

    // Neither authentication nor a member that is down hides the version.
    lab.unpack(&guide);
    let endpoint = [second.document().client_url(&second.document().nodes[0])];
    for command in ["user add root:secret", "user grant-role root root", "auth enable"] {
        lab.bash(&lab.etcdctl(&endpoint, command)).ok();
    }
    lab.on("etcd-02", "systemctl stop etcd");
    kept(&lab.bash("etcd-fetch < nodes.txt").ok().stderr);

    lab.on_all(&["etcd-01", "etcd-03"], "systemctl stop etcd");
    let Some(newest) = release("3.6") else { return };
    lab.bash("etcd-fetch --quiet < nodes.txt").ok().says(&format!(
        "etcd-fetch: warning: no member answered: taking the default, {newest}: \
         if a cluster is running, pass its version"
    ));
    // Whatever keeps it from asking, what it takes then is for a new cluster only.
    let refused = format!(
        "etcd-push: etcd-01: etcd {guide} is there, and nobody asked for {newest}, which is for a \
         new cluster: pass the version: `etcd-fetch {guide}`"
    );
    let without_a_version = |list: &str, fetch: &str| {
        let pipe = deploy("").replace("nodes.txt", list).replace("etcd-fetch", fetch);
        lab.bash(&pipe).says(&refused);
    };
    without_a_version("nodes.txt", "etcd-fetch");
    lab.bash("etcd-fetch -q < nodes.txt > fetched.json").ok();
    without_a_version("fetched.json", "etcd-fetch");
    lab.on_all(&["etcd-01", "etcd-02", "etcd-03"], "systemctl start --no-block etcd");
    lab.bash("etcd-health -q --wait < nodes.txt").ok();
    lab.bash(
        "etcd-cert issue -q < nodes.txt | jq 'del(.results) | .cluster.settings.clientPort = 12379' \
         > port.json",
    )
    .ok();
    without_a_version("port.json", "etcd-fetch");
    without_a_version("nodes.txt", "etcd-fetch --pki nowhere");
}

#[test]
fn a_new_cluster_takes_the_default_that_the_readme_names() {
    let lab = Lab::with_nodes(3);
    let Some(newest) = release("3.6") else { return };
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    assert!(readme.contains("cluster takes the newest etcd 3.6"));
    let ran = lab.bash(&deploy("")).ok();
    let line = fetch_line(&ran.stderr);
    assert!(line.starts_with(&format!("etcd-fetch: {newest} for amd64: fetched ")), "{line}");
    assert!(line.ends_with(" (the default: the newest 3.6)"), "{line}");
    let versions: BTreeSet<_> =
        ran.document().health.unwrap().endpoints.into_iter().map(|e| e.version).collect();
    assert_eq!(versions, BTreeSet::from([Some(newest[1..].to_owned())]));
}

/// A cluster of one on each host, each of another release, with every setting.
#[test]
fn each_minor_starts_without_complaints() {
    let lab = Lab::with_nodes(3);
    let names = ["oldest", "guide", "3.5", "3.6", "3.7"];
    let releases: Vec<_> = names.into_iter().filter_map(release).collect();
    for releases in releases.chunks(3) {
        lab.command(&["reset"]);
        let hosts = ["etcd-01", "etcd-02", "etcd-03"];
        for ((host, at), version) in hosts.iter().zip(100..).zip(releases) {
            let document = json!({
                "apiVersion": "etcd-tools/v1",
                "cluster": {"version": version, "settings": {
                    "dataDir": "/srv/etcd/data", "walDir": "/srv/etcd/wal", "logLevel": "warn",
                    "heartbeatIntervalMs": 250, "electionTimeoutMs": 2500,
                    "quotaBackendBytes": 4_294_967_296u64, "autoCompactionMode": "revision",
                    "autoCompactionRetention": "1000", "listenMetricsUrls": "http://127.0.0.1:2381",
                    "env": {"ETCD_MAX_REQUEST_BYTES": "3145728"},
                }},
                "nodes": [{"name": host, "address": format!("192.168.1.{at}")}],
            });
            lab.write(&format!("{host}.json"), &document.to_string());
        }
        let started: String =
            hosts[..releases.len()].iter().map(|host| format!("deploy {host} &\n")).collect();
        lab.bash(&format!(
            "deploy() {{ etcd-fetch < $1.json | etcd-cert issue --pki pki-$1 | etcd-render \
             | etcd-push | etcd-unit start | etcd-health --wait > $1.out; }}
             {started}for job in $(jobs -p); do wait $job || failed=1; done; [ ! $failed ]"
        ))
        .ok();
        for (host, version) in hosts.iter().zip(releases) {
            let health: Value = serde_json::from_str(&lab.read(&format!("{host}.out"))).unwrap();
            assert_eq!(health["health"]["endpoints"][0]["version"], version[1..], "{host}");
            let journal = lab.on(host, "journalctl -u etcd -o cat --no-pager");
            let complaint = |line: &&str| COMPLAINTS.iter().any(|what| line.contains(what));
            let complaints: Vec<_> = journal.lines().filter(complaint).collect();
            assert_eq!(complaints, [""; 0], "etcd {version}");
        }
    }
}

/// The same file, read by systemd and by what decides whether a restart is due.
#[test]
fn an_environment_file_is_read_as_systemd_reads_it() {
    const FILE: &str = "# ETCD_A=0\nETCD_A=1\n ETCD_B = \"x y\" \nETCD_C='a\\b'\n\
                        ETCD_D=\"a\\\"b\\\\\"\nETCD_E=one\\\ntwo\nETCD_F=a#b\n;ETCD_G=1\n\
                        ETCD_H=\"a\\nb\"\nETCD_I=a\\nb\nETCD_J=a\"b\"\nETCD_K=\"a\"'b' c\n\
                        ETCD_L=\nETCD_M=x=y \t\nETCD_N=$HOME%i*\nETCD_O\nETCD_A=2\n\
                        ETCD_P=a\\ \n# a comment \\\nETCD_Q=1\nETCD_R=\"one\ntwo\"\n\
                        ETCD_S=\"one\\\ntwo\"\nETCD_T=the last line";
    let lab = Lab::with_nodes(1);
    std::fs::write(lab.disk("etcd-01", "/root/file"), FILE).unwrap();
    let seen = lab.on(
        "etcd-01",
        "systemd-run --quiet --wait --pipe -p EnvironmentFile=/root/file env -0 | base64 -w 0",
    );
    let shown = lab.run("sh", &["-c", &format!("echo {seen} | base64 -d")]).ok().stdout;
    let variables = shown.split('\0').filter_map(|line| line.split_once('='));
    let seen: BTreeMap<_, _> = variables.filter(|(name, _)| name.starts_with("ETCD_")).collect();
    let read = environment::parse(FILE);
    let read: BTreeMap<_, _> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(read, seen);
    assert_eq!((seen.len(), seen["ETCD_T"]), (18, "the last line"));
}

/// etcd 3.7 panics on requests of 3.5 that no snapshot covers.
#[test]
fn a_log_that_3_7_cannot_read_is_refused_until_a_snapshot_covers_it() {
    let lab = Lab::with_nodes(1);
    let [Some(from), Some(over), Some(to)] = ["3.5", "3.6", "3.7"].map(release) else { return };
    let alone = |pipeline: String| pipeline.replace("unit start", "unit start --lose-quorum");
    for version in [&from, &over] {
        lab.bash(&alone(deploy(version))).ok();
    }
    let before = lab.on("etcd-01", "readlink /usr/local/bin/etcd; cat /etc/etcd/etcd.conf");
    let refused = lab.bash(&deploy(&to)).exits(66);
    let line = refused.stderr.lines().find(|line| line.starts_with("etcd-push: ")).unwrap();
    let why = format!(
        "etcd-push: etcd-01: {to} cannot read what etcd 3.5 left in the write-ahead log (entry "
    );
    let advice = "snapshot 0): run `etcd-maintain raft-snapshot` first";
    assert!(line.starts_with(&why) && line.ends_with(advice), "{line}");
    let now = lab.on("etcd-01", "readlink /usr/local/bin/etcd; cat /etc/etcd/etcd.conf");
    assert_eq!(now, before);

    lab.bash("etcd-maintain raft-snapshot < nodes.txt")
        .ok()
        .says("etcd-maintain: all members have written a raft snapshot");
    let ran = lab.bash(&alone(deploy(&to))).ok();
    let health = ran.document().health.unwrap();
    assert_eq!(health.endpoints[0].version.as_deref(), Some(&to[1..]));
}

/// etcd 3.6 does not start on data of the v2 API.
#[test]
fn data_of_the_v2_api_is_refused_before_3_6() {
    let lab = Lab::with_nodes(1);
    let [Some(from), Some(to)] = ["3.5", "3.6"].map(release) else { return };
    let document = json!({
        "apiVersion": "etcd-tools/v1",
        "cluster": {"settings": {"env": {"ETCD_ENABLE_V2": "true", "ETCD_SNAPSHOT_COUNT": "1"}}},
        "nodes": [{"name": "etcd-01", "address": "192.168.1.100"}],
    });
    lab.write("v2.json", &document.to_string());
    lab.bash(&deploy(&from).replace("nodes.txt", "v2.json")).ok();
    let v2 = |request: &str| {
        lab.bash(&format!(
            "curl -sf --cacert pki/ca.crt --cert pki/client.crt --key pki/client.key \
             https://192.168.1.100:2379/v2/keys/old {request}"
        ))
        .ok();
    };
    v2("-X PUT -d value=1");
    lab.bash(&format!("etcd-fetch -q {to} < nodes.txt > released.json")).ok();
    let refused = |ran: &tests::Ran, tool: &str| {
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        let why = format!(
            "{tool}: etcd-01: {to} does not start on data of the v2 API, which the member has \
             (detected custom "
        );
        let advice = "): move it to the v3 API, delete it with `ETCDCTL_API=2 etcdctl rm \
                      --recursive`, and run this again when all members have written a raft \
                      snapshot since, which takes ETCD_SNAPSHOT_COUNT writes (100000 unless set \
                      in `settings.env`), and `etcdutl check v2store` finds no more of it";
        let fits = |line: &str| line.starts_with(&why) && line.ends_with(advice);
        assert!(ran.stderr.lines().any(fits), "{}", ran.stderr);
    };
    let preflight = "etcd-preflight -q --skip disk-latency < released.json";
    refused(&lab.bash(preflight), "etcd-preflight");
    lab.bash("etcd-cert issue -q < released.json | etcd-render -q > next.json").ok();
    refused(&lab.bash("etcd-push -q < next.json"), "etcd-push");
    // Put in place by other hands, and over a member that runs, or is stopped.
    lab.bash(&format!("etcd-fetch -q {to} --unpack new < nodes.txt > /dev/null")).ok();
    let new = lab.folder.path().join("new/etcd");
    std::fs::copy(new, lab.disk("etcd-01", "/usr/local/lib/etcd")).unwrap();
    lab.on("etcd-01", "rm /usr/local/bin/etcdutl; ln -sf /usr/local/lib/etcd /usr/local/bin/etcd");
    let start = "etcd-unit start -q --lose-quorum < next.json";
    refused(&lab.bash(start), "etcd-unit");
    lab.on("etcd-01", "systemctl stop etcd");
    refused(&lab.bash(start), "etcd-unit");
    lab.on(
        "etcd-01",
        "ln -sf /usr/local/lib/etcd-tools/v3.5.*/etcd* /usr/local/bin; systemctl start etcd",
    );

    // Deleted, and covered by a snapshot.
    v2("-X DELETE");
    lab.unpack(&from);
    let put = lab.etcdctl(&["https://192.168.1.100:2379".into()], "put a 1");
    tests::wait_until("no more of it", std::time::Duration::from_secs(60), || {
        lab.bash(&put).ok();
        lab.bash(preflight).code == 0
    });
    lab.bash(&deploy(&to).replace("unit start", "unit start --lose-quorum")).ok();
}
