//! `--check`: what is said of hosts that have nothing, and that nothing is written.

use std::fs;
use std::os::unix::fs::symlink;

use tests::{Lab, guide, release, repository};

const HOSTS: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];

/// Every file of a host that is not the kernel's, systemd's or the login's own, with all
/// that is known of it.
const FILES: &str = "find / \\( -path /proc -o -path /sys -o -path /dev -o -path /var/log -o \
                     -path /run -o -path /var/lib/systemd -o -path /var/lib/private -o -path /tmp \
                     \\) -prune -o -printf '%p %y %s %m %u %g %T@ %C@ %l\\n' | sort; \
                     ls -A /run/etcd-tools* 2>/dev/null || true";

/// Every file of the operator's folder, the cache among them, in the same way.
const OWN: &str = "find . -printf '%p %y %s %m %u %g %T@ %C@ %l\\n' | sort; ls ~/.cache/etcd-tools";

/// The README's block that looks first: what comes before the look, and the look.
fn look_first() -> (String, String) {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let mut blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.contains("ETCD_TOOLS_CHECK=1")).unwrap();
    let (before, rest) = block.split_once("(export ").unwrap();
    let (look, _) = rest.split_once("something to do'\n").unwrap();
    (before.to_owned(), format!("(export {look}something to do'"))
}

#[test]
fn to_look_first_writes_nowhere_and_tells_release_certificates_and_restarts() {
    let lab = Lab::with_nodes(3);
    symlink(repository().join("scripts"), lab.folder.path().join("scripts")).unwrap();
    let version = guide();
    let (before, look) = look_first();
    lab.bash(&before).ok();
    let files = || (lab.on_all(&HOSTS, FILES), lab.bash(OWN).stdout);
    let untouched = files();
    let ran = lab.bash(&look).ok();
    assert_eq!(ran.stdout, "there is something to do\n");
    assert_eq!(files(), untouched);
    let said = |start: &str| ran.stderr.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(said(&format!("etcd-fetch: {version} for amd64: would fetch ")), 1);
    for host in HOSTS {
        for line in [
            "etcd-cert: {}: server certificate would be issued",
            "etcd-push: {}: would write /etc/etcd/ssl/ca.crt",
            "etcd-push: {}: would write /etc/etcd/ssl/server.key",
            "etcd-push: {}: would write /etc/etcd/etcd.conf",
            "etcd-unit: {}: would start etcd.service",
        ] {
            assert_eq!(said(&line.replace("{}", host)), 1, "{host}: {line}\n{}", ran.stderr);
        }
        let start = format!("etcd-push: {host}: would install release {version} in /usr/local/lib");
        assert_eq!(said(&start), 1, "{}", ran.stderr);
    }
    // What is only announced is not taken for something that is there.
    lab.bash("etcd-fetch --check < cluster.json | etcd-cert issue --check > announced.json")
        .exits(1);
    lab.bash("etcd-render announced.json | etcd-push").exits(65).says(
        "etcd-push: what is to be pushed was only announced by a run with --check: run the \
         stages before this one without it, too",
    );
    assert_eq!(files().0, untouched.0);

    // On a cluster that runs: another release, which is not here yet, other certificates.
    lab.bash(
        "etcd-fetch < cluster.json | etcd-cert issue | etcd-render | etcd-push | etcd-unit start \
         | etcd-health --wait",
    )
    .ok();
    lab.bash("rm -r cache").ok();
    let untouched = files();
    lab.bash(&look).ok().says(&format!(
        "etcd-push: etcd-01: 6 files, 3 folders, release {version} already in place"
    ));
    let Some(newer) = release("3.5") else { return };
    let changed = format!(
        "jq '.cluster.version = \"{newer}\"' cluster.json | etcd-fetch --check \
         | etcd-cert issue --san kv.example.com --check | etcd-render | etcd-push --check \
         | etcd-unit start --check > /dev/null"
    );
    let ran = lab.bash(&changed).exits(1);
    let said = |line: &str| ran.stderr.lines().filter(|l| l.starts_with(line)).count();
    for host in HOSTS {
        for line in [
            format!("etcd-push: {host}: would install release {newer} in /usr/local/lib"),
            format!("etcd-push: {host}: would replace /etc/etcd/ssl/server.crt"),
            format!("etcd-unit: {host}: would restart etcd.service: its binary had changed"),
        ] {
            assert_eq!(said(&line), 1, "{line}:\n{}", ran.stderr);
        }
        assert_eq!(said(&format!("etcd-push: {host}: would replace /etc/etcd/ssl/ca.crt")), 0);
    }
    let after = files();
    // The data of a running member change by themselves.
    let settled = |(hosts, own): (Vec<String>, String)| {
        let still = |host: String| {
            let lines = host.lines().filter(|line| !line.starts_with("/var/lib/etcd/"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        (hosts.into_iter().map(still).collect::<Vec<_>>(), own)
    };
    assert_eq!(settled(after), settled(untouched));
}

#[test]
fn what_was_changed_after_it_was_rendered_is_noticed() {
    let lab = Lab::with_nodes(3);
    let render = format!("etcd-render --etcd-version {} < nodes.txt", guide());
    // A line that etcd would take no notice of.
    let fetch = format!("etcd-fetch {} < nodes.txt | etcd-cert issue | etcd-render", guide());
    lab.bash(&format!(
        "{fetch} | jq '(.nodes[1].files[] | select(.content)).content += \"ETCD_QUOTA_BACKEND_BYTE=1\\n\"' \
         | etcd-push --check"
    ))
    .exits(1)
    .says(
        "etcd-push: etcd-02: warning: /etc/etcd/etcd.conf: ETCD_QUOTA_BACKEND_BYTE: unknown to \
         etcd 3.5, which ignores it: check the name",
    );
    // Another version than the one that was fetched.
    lab.bash(&format!("{fetch} | jq '.cluster.version = \"v3.5.33\"' | etcd-push --check"))
        .exits(65)
        .says(&format!(
            "etcd-push: cluster.version: v3.5.33, but the release that was fetched is {}: run \
             etcd-fetch again",
            guide()
        ));
    // A template that knows other members.
    let alone = "etcd-02=https://192.168.1.101:2380";
    lab.bash(&format!(
        "etcd-render --print-templates own && \
         sed -i 's|^ETCD_INITIAL_CLUSTER=.*|ETCD_INITIAL_CLUSTER={alone}|' own/etcd.conf.hbs"
    ))
    .ok();
    let members = "etcd-01=https://192.168.1.100:2380,etcd-02=https://192.168.1.101:2380,\
                   etcd-03=https://192.168.1.102:2380";
    for push in ["etcd-push --check", "etcd-push"] {
        lab.bash(
            &format!("{render} --templates own | {push}")
                .replace("< nodes.txt --templates own", "--templates own < nodes.txt"),
        )
        .exits(3)
        .says(&format!(
            "etcd-push: etcd-01: /etc/etcd/etcd.conf: the document's own has {alone} for \
                 ETCD_INITIAL_CLUSTER, and must have {members}: run etcd-render again, with a \
                 template that sets it so"
        ));
    }
    assert_eq!(lab.on_all(&HOSTS, "ls -d /etc/etcd 2>/dev/null; true"), vec![""; 3]);

    // A difference is shown after what is said of it, with its node and its path.
    lab.bash("etcd-cert issue < nodes.txt > certs.json").ok();
    lab.bash(&format!("{render} | etcd-push && {render} | etcd-unit install")).ok();
    let ran = lab
        .bash(&format!(
            "{render} | jq '(.nodes[1].files[] | select(.path == \"/etc/etcd/etcd.conf\")).content \
             += \"# more\\n\" | .nodes[1].units[0].content += \"# more\\n\"' > more.json; \
             etcd-push --check < more.json | etcd-unit install --check"
        ))
        .exits(1);
    let shown: Vec<_> = ran
        .stderr
        .lines()
        .filter(|line| {
            line.contains("would")
                || ["---", "+++", "+#"].iter().any(|start| line.trim().starts_with(start))
        })
        .map(str::trim)
        .collect();
    let (config, unit) = ("/etc/etcd/etcd.conf", "/etc/systemd/system/etcd.service");
    assert_eq!(
        shown,
        [
            &format!("etcd-push: etcd-02: would replace {config}"),
            &format!("--- etcd-02: {config}"),
            &format!("+++ etcd-02: {config}"),
            "+# more",
            "etcd-unit: etcd-02: would install etcd.service",
            &format!("--- etcd-02: {unit}"),
            &format!("+++ etcd-02: {unit}"),
            "+# more",
        ]
    );
}
