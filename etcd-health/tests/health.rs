//! The tool against real etcd.
#![allow(clippy::unwrap_used)]

#[path = "../../lib/client/tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Cluster, NAMELESS, VERSION, versions};

/// The tool, with nothing of the caller's environment that it would read.
fn tool(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-health"));
    for (name, _) in std::env::vars() {
        if name.starts_with("ETCD_TOOLS_") || name.starts_with("ETCDCTL_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// The tool with the cluster's certificates.
fn tool_for(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = tool(args);
    command.env("ETCD_TOOLS_CACERT", cluster.path("ca.crt"));
    command.env("ETCD_TOOLS_CERT", cluster.path("client.crt"));
    command.env("ETCD_TOOLS_KEY", cluster.path("client.key"));
    command
}

fn piped(mut command: Command, input: &str) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A probe of all of the cluster's nodes.
fn probe(cluster: &Cluster, args: &[&str]) -> Output {
    piped(tool_for(cluster, args), &cluster.node_list())
}

/// The same as a user of etcd, with a certificate that names nobody.
fn as_user(cluster: &Cluster, user: &str, password: &str, args: &[&str]) -> Output {
    let mut command = tool_for(cluster, args);
    command.env("ETCD_TOOLS_CERT", cluster.path(&format!("{NAMELESS}.crt")));
    command.env("ETCD_TOOLS_KEY", cluster.path(&format!("{NAMELESS}.key")));
    command.env("ETCDCTL_USER", user).env("ETCDCTL_PASSWORD", password);
    piped(command, &cluster.node_list())
}

fn health(output: &Output) -> Value {
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["health"].clone()
}

fn stderr(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect()
}

fn leader(cluster: &Cluster) -> usize {
    let health = health(&probe(cluster, &[]));
    let endpoints = health["endpoints"].as_array().unwrap();
    endpoints.iter().position(|endpoint| endpoint["isLeader"] == true).unwrap()
}

fn hex(number: &Value) -> String {
    format!("{:x}", number.as_u64().unwrap())
}

#[test]
fn it_agrees_with_etcdctl() {
    for version in versions() {
        let cluster = Cluster::start(&version, 3);
        let witness = |args: &[&str]| -> Value {
            serde_json::from_str(&cluster.etcdctl_ok(&[args, &["-w", "json"]].concat())).unwrap()
        };
        // A cluster that has just started still writes a little.
        let (output, status) = loop {
            let before = witness(&["endpoint", "status"]);
            let output = probe(&cluster, &[]);
            if witness(&["endpoint", "status"]) == before {
                break (output, before);
            }
        };
        assert_eq!(output.status.code(), Some(0), "{version}");
        let health = health(&output);
        for at in 0..3 {
            let (ours, theirs) = (&health["endpoints"][at], &status[at]["Status"]);
            assert_eq!(ours["endpoint"], status[at]["Endpoint"], "{version}");
            assert_eq!(ours["node"], cluster.members[at].name, "{version}");
            assert_eq!(ours["healthy"], true, "{version}");
            assert_eq!(ours["memberId"], hex(&theirs["header"]["member_id"]), "{version}");
            assert_eq!(ours["clusterId"], hex(&theirs["header"]["cluster_id"]), "{version}");
            assert_eq!(ours["version"], theirs["version"], "{version}");
            assert_eq!(ours["version"], version[1..], "{version}");
            assert_eq!(ours["dbSizeBytes"], theirs["dbSize"], "{version}");
            assert_eq!(ours["dbSizeInUseBytes"], theirs["dbSizeInUse"], "{version}");
            assert_eq!(ours["dbQuotaBytes"], theirs["dbSizeQuota"], "{version}");
            assert_eq!(ours["storageVersion"], theirs["storageVersion"], "{version}");
            assert_eq!(ours["raftTerm"], theirs["raftTerm"], "{version}");
            assert_eq!(ours["raftAppliedIndex"], theirs["raftAppliedIndex"], "{version}");
            assert_eq!(ours["revision"], theirs["header"]["revision"], "{version}");
            assert_eq!(health["leader"], hex(&theirs["leader"]), "{version}");
            let is_leader = theirs["leader"] == theirs["header"]["member_id"];
            assert_eq!(ours["isLeader"], is_leader, "{version}");
            assert_eq!(health["clusterId"], ours["clusterId"], "{version}");
        }
        let mut theirs = witness(&["member", "list"])["members"].clone();
        theirs.as_array_mut().unwrap().sort_by_key(|m| m["name"].to_string());
        for (ours, theirs) in
            health["members"].as_array().unwrap().iter().zip(theirs.as_array().unwrap())
        {
            assert_eq!(ours["id"], hex(&theirs["ID"]), "{version}");
            assert_eq!(ours["name"], theirs["name"], "{version}");
            assert_eq!(ours["peerUrls"], theirs["peerURLs"], "{version}");
            assert_eq!(ours["clientUrls"], theirs["clientURLs"], "{version}");
            assert_eq!(ours["isLearner"], false, "{version}");
        }
        assert_eq!(health["members"].as_array().unwrap().len(), 3, "{version}");
        assert_eq!(health["healthy"], true, "{version}");
        let name = &cluster.members[leader(&cluster)].name;
        let expected = format!(
            "etcd-health: 3 of 3 endpoints healthy, leader {name}, version {}",
            &version[1..]
        );
        assert_eq!(stderr(&output), [expected]);

        // What it wrote is a document that it reads again.
        let again = piped(tool_for(&cluster, &[]), &String::from_utf8_lossy(&output.stdout));
        assert_eq!((again.status.code(), stderr(&again)), (Some(0), stderr(&output)));
    }
}

#[test]
fn members_that_are_gone() {
    for version in versions() {
        let mut cluster = Cluster::start(&version, 3);
        let of = |cluster: &Cluster, at: usize| {
            format!("{}: {}", cluster.members[at].name, cluster.url(at))
        };
        let gone = leader(&cluster);
        let left = [(gone + 1) % 3, (gone + 2) % 3];

        cluster.kill(gone);
        let others = left.map(|at| cluster.url(at)).join(",");
        cluster.wait_for(|c| c.etcdctl_on(&others, &["endpoint", "health"]).status.success());
        let output = probe(&cluster, &[]);
        let name = |id: &Value| -> String {
            let health = health(&output);
            let members = health["members"].as_array().unwrap();
            members.iter().find(|m| m["id"] == *id).unwrap()["name"].as_str().unwrap().into()
        };
        let now = name(&health(&output)["leader"]);
        assert_eq!(
            stderr(&output),
            [
                format!("etcd-health: {}: connecting: connection refused", of(&cluster, gone)),
                format!(
                    "etcd-health: unhealthy: 2 of 3 endpoints healthy, leader {now}, version {}",
                    &version[1..]
                ),
            ]
        );
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(health(&output)["healthy"], false);

        // Quorum lost: the members are still listed, and nobody waits for a leader.
        cluster.kill(left[0]);
        cluster.wait_for(|c| health(&probe(c, &[]))["leader"].is_null());
        let start = Instant::now();
        let output = probe(&cluster, &[]);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(health(&output)["members"].as_array().unwrap().len(), 3);
        let mut expected = vec![
            (gone, "connecting: connection refused"),
            (left[0], "connecting: connection refused"),
            (left[1], "no leader"),
        ];
        expected.sort();
        let mut expected: Vec<_> = expected
            .into_iter()
            .map(|(at, why)| format!("etcd-health: {}: {why}", of(&cluster, at)))
            .collect();
        expected.push(format!(
            "etcd-health: unhealthy: 0 of 3 endpoints healthy, \
             no quorum: 1 of 3 voting members answers, version {}",
            &version[1..]
        ));
        assert_eq!(stderr(&output), expected);

        cluster.kill(left[1]);
        let output = probe(&cluster, &[]);
        assert_eq!(output.status.code(), Some(69));
        let expected: Vec<_> = (0..3)
            .map(|at| format!("etcd-health: {}: connecting: connection refused", of(&cluster, at)))
            .collect();
        assert_eq!(stderr(&output), expected);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["results"][0]["code"], "unreachable");
        let output = tool_for(&cluster, &["--endpoints", &cluster.urls()]).output().unwrap();
        assert_eq!(output.status.code(), Some(69));
    }
}

#[test]
fn a_frozen_member_costs_its_timeout_and_no_more() {
    let cluster = Cluster::start(VERSION, 3);
    let frozen = (leader(&cluster) + 1) % 3;
    cluster.freeze(frozen);
    let start = Instant::now();
    let output = probe(&cluster, &["--timeout", "2"]);
    let took = start.elapsed();
    cluster.thaw(frozen);
    assert!((2.0..3.0).contains(&took.as_secs_f32()), "{took:?}");
    assert_eq!(output.status.code(), Some(1));
    let why = format!("{}: no answer within 2.0 s", cluster.url(frozen));
    assert_eq!(stderr(&output)[0], format!("etcd-health: {}: {why}", cluster.members[frozen].name));
    assert_eq!(health(&output)["endpoints"][frozen]["error"], "no answer within 2.0 s");

    for (at, _) in cluster.members.iter().enumerate() {
        cluster.freeze(at);
    }
    let output = probe(&cluster, &["--timeout", "1"]);
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn wait_ends_when_the_cluster_is_healthy() {
    let mut cluster = Cluster::start(VERSION, 3);
    let at = (leader(&cluster) + 1) % 3;
    cluster.kill(at);
    let start = Instant::now();
    let output = probe(&cluster, &["--wait", "2"]);
    assert!((1.5..3.5).contains(&start.elapsed().as_secs_f32()), "{:?}", start.elapsed());
    assert_eq!(output.status.code(), Some(1));
    let last = stderr(&output).pop().unwrap();
    assert!(
        last.starts_with("etcd-health: unhealthy after 2 s: 2 of 3 endpoints healthy, leader "),
        "{last}"
    );

    let mut command = tool_for(&cluster, &["--wait"]);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut waiting = pipes.spawn().unwrap();
    waiting.stdin.take().unwrap().write_all(cluster.node_list().as_bytes()).unwrap();
    cluster.start_member(at, "existing");
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
    cluster.etcdctl_ok(&["endpoint", "health"]);
}

#[test]
fn a_cluster_with_authentication() {
    for version in versions() {
        let mut cluster = Cluster::start(&version, 3);
        for args in [
            &["user", "add", "root:secret"][..],
            &["user", "add", "guest:secret"],
            &["user", "grant-role", "root", "root"],
            &["auth", "enable"],
        ] {
            cluster.etcdctl_ok(args);
        }
        for output in [
            as_user(&cluster, "root", "secret", &[]),
            as_user(&cluster, "root:secret", "", &[]),
            as_user(&cluster, "guest", "secret", &[]),
        ] {
            assert_eq!(output.status.code(), Some(0), "{version}: {:?}", stderr(&output));
            assert_eq!(health(&output)["endpoints"][2]["healthy"], true, "{version}");
            assert_eq!(health(&output)["members"].as_array().unwrap().len(), 3, "{version}");
        }

        // Nobody says who asks. 3.4 tells its members all the same.
        let output = as_user(&cluster, "", "", &["--wait"]);
        if version == "v3.4.23" {
            assert_eq!(output.status.code(), Some(0), "{:?}", stderr(&output));
        } else {
            let line = "etcd-health: cannot tell who the members are: etcdserver: user name is \
                        empty: authentication is on: set ETCDCTL_USER and ETCDCTL_PASSWORD";
            assert_eq!(stderr(&output), [line], "{version}");
            assert_eq!(output.status.code(), Some(3), "{version}");
            assert_eq!(health(&output)["healthy"], false, "{version}");
        }

        // The gateway takes the name of a certificate for that of a user.
        let output = probe(&cluster, &["--wait"]);
        let line = "etcd-health: cannot tell who the members are: with authentication on, \
                    etcd's gateway refuses client certificates with a common name: use one \
                    without, and set ETCDCTL_USER and ETCDCTL_PASSWORD";
        assert_eq!(stderr(&output), [line], "{version}");
        assert_eq!(output.status.code(), Some(3), "{version}");

        // Hashes are for the root user, from 3.5.10 on.
        let hash = |user: &str| stderr(&as_user(&cluster, user, "secret", &["--hash"]));
        if version == "v3.4.23" {
            let why = "hashing its data: its gateway does not offer it: it needs etcd 3.5.10 or \
                       newer";
            let line = format!("etcd-health: etcd-01: {}: {why}", cluster.url(0));
            assert_eq!(hash("root")[0], line);
        } else {
            assert_eq!(hash("root").len(), 1, "{version}: {:?}", hash("root"));
            let line = &hash("guest")[0];
            let start = format!("etcd-health: etcd-01: {}: hashing its data: ", cluster.url(0));
            let end = "permission denied: set ETCDCTL_USER to a user who may do that, e.g. root";
            assert!(line.starts_with(&start) && line.ends_with(end), "{version}: {line}");
        }
        assert_eq!(
            as_user(&cluster, "guest", "secret", &["--hash"]).status.code(),
            Some(3),
            "{version}"
        );

        let output = as_user(&cluster, "root", "wrong", &[]);
        let line = "etcd-health: cannot tell who the members are: authentication failed: check \
                    ETCDCTL_USER and ETCDCTL_PASSWORD";
        assert_eq!(output.status.code(), Some(3), "{version}");
        assert_eq!(stderr(&output).last().map(String::as_str), Some(line), "{version}");
        let output = as_user(&cluster, "root", "", &[]);
        assert_eq!(output.status.code(), Some(2), "{version}");
        assert_eq!(
            stderr(&output),
            ["etcd-health: ETCDCTL_USER: no password: set ETCDCTL_PASSWORD too"]
        );

        // Without quorum nobody can authenticate. 3.4 does not say why it is unhealthy.
        if version != "v3.4.23" {
            cluster.kill(0);
            cluster.kill(1);
            let line = format!("etcd-health: etcd-03: {}: no leader", cluster.url(2));
            cluster.wait_for(|c| stderr(&as_user(c, "root", "secret", &[])).contains(&line));
        }
    }
}

#[test]
fn an_alarm_makes_the_cluster_unhealthy() {
    for version in versions() {
        let cluster = Cluster::start_with(&version, 1, &["--quota-backend-bytes", "200000"]);
        let value = "x".repeat(50_000);
        cluster.wait_for(|c| !c.etcdctl(&["put", "key", &value]).status.success());
        let output = probe(&cluster, &[]);
        assert_eq!(output.status.code(), Some(1), "{version}");
        assert_eq!(health(&output)["endpoints"][0]["alarms"], json!(["NOSPACE"]), "{version}");
        assert_eq!(
            stderr(&output),
            [
                "etcd-health: etcd-01: alarm NOSPACE: the database has reached its quota and takes \
                 no writes: compact, defragment, raise quotaBackendBytes if most of it is in use, \
                 then etcdctl alarm disarm"
                    .to_owned(),
                format!(
                    "etcd-health: unhealthy: 1 of 1 endpoints healthy, leader etcd-01, version {}",
                    &version[1..]
                )
            ]
        );
        assert!(cluster.etcdctl_ok(&["alarm", "list"]).contains("alarm:NOSPACE"));
        cluster.etcdctl_ok(&["alarm", "disarm"]);
        assert_eq!(probe(&cluster, &[]).status.code(), Some(0), "{version}");
    }
}

#[test]
fn endpoints_of_different_clusters() {
    let one = Cluster::start(VERSION, 1);
    let other = one.start_other(VERSION);
    let output = tool_for(&one, &["--endpoints", &format!("{},{}", one.url(0), other.url(0))])
        .output()
        .unwrap();
    let ids =
        [&one, &other].map(|c| health(&probe(c, &[]))["clusterId"].as_str().unwrap().to_owned());
    assert_eq!(
        stderr(&output),
        [
            format!(
                "etcd-health: the endpoints belong to different clusters: {} {}, {} {}",
                one.url(0),
                ids[0],
                other.url(0),
                ids[1]
            ),
            "etcd-health: unhealthy: 2 of 2 endpoints healthy, version 3.5.16".into(),
        ]
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_learner_and_a_member_that_is_not_in_the_document() {
    for version in versions() {
        let mut cluster = Cluster::start(&version, 2);
        cluster.add_learner();
        let learner = cluster.url(2);
        // etcdctl finds no learner healthy: it has no linearizable reads.
        let started = ["endpoint", "status", "-w", "json"];
        cluster.wait_for(|c| c.etcdctl_on(&learner, &started).status.success());
        let output = probe(&cluster, &["--wait"]);
        let lines = stderr(&output);
        let warning = "a learner, which does not vote: promote it when it has caught up";
        assert!(lines.contains(&format!("etcd-health: etcd-03: warning: {warning}")), "{lines:?}");
        assert_eq!(output.status.code(), Some(0), "{version}: {lines:?}");
        assert_eq!(health(&output)["endpoints"][2]["isLearner"], true, "{version}");
        assert_eq!(health(&output)["members"][2]["isLearner"], true, "{version}");

        let two: String = cluster.node_list().split_inclusive('\n').take(2).collect();
        let output = piped(tool_for(&cluster, &[]), &two);
        let peer = format!("https://{}:2380", cluster.members[2].address);
        let warning = format!(
            "member etcd-03 is not a node in the document, and was not probed (peer URLs {peer})"
        );
        let lines = stderr(&output);
        assert!(lines.contains(&format!("etcd-health: warning: {warning}")), "{lines:?}");
        assert_eq!(output.status.code(), Some(0), "{version}: {lines:?}");
    }
}

#[test]
fn faults_of_tls() {
    let cluster = Cluster::start(VERSION, 1);
    let (other, url) = (Cluster::start(VERSION, 1), cluster.url(0));
    let lines = |command: &mut Command| {
        let output = command.output().unwrap();
        let mut lines = stderr(&output);
        lines.truncate(1);
        (output.status.code().unwrap(), lines.pop().unwrap_or_default())
    };
    let with = |endpoint: &str| {
        let mut command = tool_for(&cluster, &["--endpoints", endpoint]);
        command.stdout(Stdio::null());
        command
    };
    let tls = |why: &str| (1, format!("etcd-health: {url}: TLS: {why}"));
    assert_eq!(
        lines(with(&url).env("ETCD_TOOLS_CACERT", other.path("ca.crt"))),
        tls("the server's certificate is not signed by the given CA")
    );
    assert_eq!(
        lines(with(&url).env_remove("ETCD_TOOLS_CERT").env_remove("ETCD_TOOLS_KEY")),
        tls("the server asks for a client certificate: pass --cert and --key")
    );
    let (cert, key) = (other.path("client.crt"), other.path("client.key"));
    assert_eq!(
        lines(with(&url).env("ETCD_TOOLS_CERT", &cert).env("ETCD_TOOLS_KEY", &key)),
        tls("the server refuses the client certificate (UnknownCA)")
    );
    assert_eq!(
        lines(with(&url).env("ETCD_TOOLS_CERT", &cert)),
        (
            3,
            format!(
                "etcd-health: {}: reading: not the key of {}",
                cluster.path("client.key").display(),
                cert.display()
            )
        )
    );
    let missing = cluster.path("missing");
    assert_eq!(
        lines(with(&url).env("ETCD_TOOLS_KEY", &missing)),
        (3, format!("etcd-health: {}: reading: no such file or directory", missing.display()))
    );
    let empty = cluster.path("empty");
    std::fs::write(&empty, "").unwrap();
    assert_eq!(
        lines(with(&url).env("ETCD_TOOLS_CACERT", &empty)),
        (3, format!("etcd-health: {}: reading: no certificate in it", empty.display()))
    );
    // Without a CA those of this machine count.
    let of_machine = |ca: &str| {
        let mut command = with(&url);
        command.env_remove("ETCD_TOOLS_CACERT").env("SSL_CERT_FILE", ca);
        command
    };
    let foreign = other.path("ca.crt").display().to_string();
    assert_eq!(lines(&mut of_machine(&cluster.path("ca.crt").display().to_string())).0, 0);
    assert_eq!(
        lines(&mut of_machine(&foreign)),
        tls("the server's certificate is not signed by a CA that this machine trusts: run \
             this in the folder that has pki/, or pass --cacert")
    );
    // Those of --pki come before.
    let of_folder = |identity: &Cluster| {
        let mut command = of_machine(&foreign);
        command.env_remove("ETCD_TOOLS_CERT").env_remove("ETCD_TOOLS_KEY");
        lines(command.arg("--pki").arg(identity.path(""))).0
    };
    assert_eq!((of_folder(&cluster), of_folder(&other)), (0, 1));
    // Unless it is not to be verified; a CA that is given always counts.
    let skip = "ETCDCTL_INSECURE_SKIP_TLS_VERIFY";
    assert_eq!(lines(of_machine(&foreign).env(skip, "true")).0, 0);
    assert_eq!(lines(of_machine(&foreign).env(skip, "false")).0, 1);
    let other_ca = |command: &mut Command| {
        command.env("ETCD_TOOLS_CACERT", other.path("ca.crt")).env(skip, "true");
        lines(command).0
    };
    assert_eq!(other_ca(&mut with(&url)), 1);
    assert_eq!(other_ca(with(&url).arg("--insecure-skip-tls-verify")), 0);
    assert_eq!(other_ca(with(&url).env("ETCD_TOOLS_INSECURE_SKIP_TLS_VERIFY", "1")), 1);
    let plain = url.replace("https", "http");
    assert_eq!(
        lines(&mut with(&plain)),
        (
            69,
            format!(
                "etcd-health: {plain}: connecting: it closed the connection: where it serves TLS, its URL begins with https"
            )
        )
    );
    assert_eq!(
        lines(with(&url).env_remove("ETCD_TOOLS_KEY")),
        (2, "etcd-health: --cert: no key: set --key too".into())
    );
    // What never ends is not read.
    for (variable, file) in [("ETCD_TOOLS_KEY", "/dev/zero"), ("ETCD_TOOLS_CERT", "/dev/zero")] {
        let (code, said) = lines(with(&url).env(variable, file));
        assert_eq!((code, &*said), (3, "etcd-health: /dev/zero: reading: not a regular file"));
    }
}

#[test]
fn where_the_endpoints_come_from() {
    let cluster = Cluster::start(VERSION, 1);
    let endpoints = |output: &Output| {
        let list = health(output)["endpoints"].as_array().unwrap().clone();
        list.iter().map(|e| e["endpoint"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let etcdctl = |command: &mut Command| {
        command.env("ETCDCTL_CACERT", cluster.path("ca.crt"));
        command.env("ETCDCTL_CERT", cluster.path("client.crt"));
        command.env("ETCDCTL_KEY", cluster.path("client.key"));
    };

    // A file that would be taken for the duration.
    let ca = cluster.path("ca.crt").display().to_string();
    let output = tool(&["--wait", &ca]).output().unwrap();
    assert!(stderr(&output)[0].contains(": put the file before --wait"), "{:?}", stderr(&output));

    let output = tool(&[]).output().unwrap();
    let why = "no endpoints: pipe in a document or a node list, or pass --endpoints";
    assert_eq!(stderr(&output), [format!("etcd-health: {why}")]);
    assert_eq!(output.status.code(), Some(66));

    // All of etcdctl's variables, and its way to name an endpoint.
    let mut command = tool(&[]);
    etcdctl(&mut command);
    command.env("ETCDCTL_ENDPOINTS", format!("{}:2379", cluster.members[0].address));
    command.env("ETCDCTL_DIAL_TIMEOUT", "2s").env("ETCDCTL_COMMAND_TIMEOUT", "1m30s");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr(&output));
    assert_eq!(endpoints(&output), [cluster.url(0)]);
    // What is named twice counts once.
    let mut command = tool(&["--endpoints", &format!("{0},{0}/", cluster.url(0))]);
    etcdctl(&mut command);
    assert_eq!(endpoints(&command.output().unwrap()), [cluster.url(0)]);

    for variable in ["ETCDCTL_ENDPOINTS", "ETCD_TOOLS_ENDPOINTS"] {
        // A document goes before the variable.
        let mut command = tool(&[]);
        etcdctl(&mut command);
        command.env(variable, "https://127.0.0.1:1");
        assert_eq!(endpoints(&piped(command, &cluster.node_list())), [cluster.url(0)]);

        // Nor does a pipe that failed before it fall back to it.
        let mut command = tool(&[]);
        etcdctl(&mut command);
        command.env(variable, cluster.url(0));
        let output = piped(command, "");
        let why = "stdin: no document: an earlier stage failed, or nothing was piped in";
        assert_eq!(stderr(&output), [format!("etcd-health: {why}")]);
        assert_eq!(output.status.code(), Some(66));
    }

    // Flags go before both; stdin is not read.
    let mut command = tool(&["--endpoints", &cluster.url(0)]);
    etcdctl(&mut command);
    command.env("ETCDCTL_ENDPOINTS", "https://127.0.0.1:1");
    assert_eq!(endpoints(&piped(command, "")), [cluster.url(0)]);

    // The document's certificates.
    let pki = json!({
        "dir": cluster.dir.path(),
        "caCert": cluster.path("ca.crt"),
        "clientCert": cluster.path("client.crt"),
        "clientKey": cluster.path("client.key"),
    });
    let document = json!({
        "apiVersion": "etcd-tools/v1",
        "pki": pki,
        "nodes": [{"name": "a", "address": cluster.members[0].address}],
    });
    let mut command = tool(&[]);
    command.env("ETCDCTL_CACERT", "/nowhere");
    let output = piped(command, &document.to_string());
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr(&output));

    for (variable, value, line) in [
        (
            "ETCDCTL_COMMAND_TIMEOUT",
            "5",
            "ETCDCTL_COMMAND_TIMEOUT: \"5\": expected a duration, e.g. 5s",
        ),
        (
            "ETCD_TOOLS_HEALTH_TIMEOUT",
            "0",
            "ETCD_TOOLS_HEALTH_TIMEOUT: invalid value '0' for '--timeout <SECONDS>': expected at \
             least 1 second: see etcd-health --help",
        ),
        ("ETCD_TOOLS_ENDPOINTS", "ftp://x", "\"ftp://x\": expected https://HOST:PORT"),
        ("ETCD_TOOLS_VIA", "ssh", "--via ssh: only for the nodes of a document on stdin"),
    ] {
        let mut command = tool(&[]);
        command.env("ETCDCTL_ENDPOINTS", "127.0.0.1:1").env(variable, value);
        let output = command.output().unwrap();
        assert_eq!(stderr(&output), [format!("etcd-health: {line}")]);
        assert_eq!(output.status.code(), Some(2), "{line}");
    }
}

#[test]
fn tables_and_metrics() {
    let cluster = Cluster::start(VERSION, 1);
    let text = |format: &str| {
        let output = probe(&cluster, &["-o", format, "--quiet"]);
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), vec![]));
        String::from_utf8(output.stdout).unwrap()
    };
    let id = health(&probe(&cluster, &[]))["leader"].as_str().unwrap().to_owned();
    let table = text("table");
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("NODE     ENDPOINT"), "{table}");
    let row = format!("etcd-01  {}  healthy  leader  3.5.16", cluster.url(0));
    assert!(lines[1].starts_with(&row), "{table}");
    let days = lines[1].split_whitespace().rev().nth(1).unwrap();
    assert!(days.parse::<u64>().is_ok_and(|days| days > 700_000), "{table}");
    assert!(lines[0].ends_with("LAG  CERT DAYS  ALARMS"), "{table}");
    assert!(lines[3].starts_with("MEMBER   ID"), "{table}");
    assert!(lines[4].starts_with(&format!("etcd-01  {id}  yes")), "{table}");

    let metrics = text("prometheus");
    let labels = format!("{{endpoint=\"{}\",node=\"etcd-01\"}}", cluster.url(0));
    for line in [
        "etcd_tools_cluster_healthy 1".into(),
        "etcd_tools_cluster_members 1".into(),
        format!("etcd_tools_endpoint_healthy{labels} 1"),
        format!("etcd_tools_endpoint_is_leader{labels} 1"),
        format!("etcd_tools_endpoint_raft_lag_entries{labels} 0"),
        "# TYPE etcd_tools_endpoint_db_size_bytes gauge".into(),
        // The year 4096, which the certificates of these tests have.
        format!("etcd_tools_endpoint_certificate_not_after_seconds{labels} 67090118400"),
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
}

#[test]
fn a_downgrade_under_way() {
    for version in versions() {
        let (target, digit) = match &version[..5] {
            "v3.6." => ("3.5.0", "3.5"),
            "v3.7." => ("3.6.0", "3.6"),
            _ => continue,
        };
        let cluster = Cluster::start(&version, 1);
        let endpoint = || health(&probe(&cluster, &["--wait"]))["endpoints"][0].clone();
        assert_eq!(endpoint()["downgradeTarget"], Value::Null, "{version}");
        // Until the cluster's version is set it is refused.
        cluster.wait_for(|c| c.etcdctl(&["downgrade", "enable", digit]).status.success());
        assert_eq!(endpoint()["downgradeTarget"], target, "{version}");
    }
}

#[test]
fn after_an_error_of_an_earlier_stage_nobody_is_asked() {
    let document = json!({
        "apiVersion": "etcd-tools/v1",
        "nodes": [{"name": "a", "address": "127.0.0.1"}],
        "results": [{"tool": "etcd-push", "node": "a", "severity": "error", "code": "disk-full",
                     "message": "x", "changed": false}],
    });
    for (format, passed_on) in [("json", true), ("table", false), ("prometheus", false)] {
        let output = piped(tool(&["-o", format]), &document.to_string());
        let line = "etcd-health: nothing done: etcd-push failed on a (disk-full)";
        assert_eq!(stderr(&output), [line], "{format}");
        assert_eq!(output.status.code(), Some(66), "{format}");
        assert_eq!(!output.stdout.is_empty(), passed_on, "{format}");
    }
}

/// Answers every connection to it with `answer` and closes, after reading a bit.
fn impostor(answer: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            answer(&mut stream);
        }
    });
    url
}

#[test]
fn what_is_not_etcd() {
    let http =
        |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let page = http("<html>");
    let cut_off = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_owned();
    for (answer, why) in [
        (page, "not an answer of etcd: expected value at line 1 column 1"),
        (cut_off, "connecting: end of file before message length reached"),
        ("SSH-2.0-OpenSSH\r\n".into(), "connecting: invalid HTTP version parsed"),
        (
            String::new(),
            "connecting: it closed the connection: where it serves TLS, its URL begins with https",
        ),
    ] {
        let url = impostor(move |stream| drop(stream.write_all(answer.as_bytes())));
        let output = tool(&["--endpoints", &url]).output().unwrap();
        assert_eq!(stderr(&output)[0], format!("etcd-health: {url}: {why}"));
    }

    let endless = impostor(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b' '; 65536]).is_ok() {}
    });
    let output = tool(&["--endpoints", &endless]).output().unwrap();
    let why = "not an answer of etcd: more than 4194304 bytes";
    assert_eq!(stderr(&output)[0], format!("etcd-health: {endless}: {why}"));

    // A byte now and then does not stretch the limit.
    let slow = impostor(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let start = Instant::now();
    let output = tool(&["--endpoints", &slow, "--timeout", "1"]).output().unwrap();
    assert!((1.0..2.0).contains(&start.elapsed().as_secs_f32()), "{:?}", start.elapsed());
    assert_eq!(stderr(&output), [format!("etcd-health: {slow}: no answer within 1.0 s")]);
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn a_variable_that_means_another_thing_to_each_tool_has_the_name_of_its_own() {
    let asked = |variable: &str, value: &str| {
        let mut command = tool(&["--endpoints", "ftp://x"]);
        stderr(&command.env(variable, value).output().unwrap())
    };
    let refused = "etcd-health: \"ftp://x\": expected https://HOST:PORT".to_owned();
    assert_eq!(
        asked("ETCD_TOOLS_TIMEOUT", "0"),
        [
            "etcd-health: warning: ETCD_TOOLS_TIMEOUT: it meant another thing to each tool, and \
             is not read any more: set ETCD_TOOLS_HEALTH_TIMEOUT"
                .to_owned(),
            refused.clone()
        ]
    );
    // Of no other tool, and the one of all for what means the same to all.
    assert_eq!(asked("ETCD_TOOLS_UNIT_TIMEOUT", "0"), [refused]);
    for variable in ["ETCD_TOOLS_OUTPUT", "ETCD_TOOLS_HEALTH_OUTPUT"] {
        let said = asked(variable, "yaml").concat();
        let line = format!("etcd-health: {variable}: invalid value 'yaml' for '--output");
        assert!(said.starts_with(&line), "{said}");
    }
}
