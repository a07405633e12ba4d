//! Private keys are seen by nobody, not for a moment.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tests::{Lab, deploy, guide};

const NODES: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];

/// Looks, for as long as there is /run/watch, for what others than the owner could
/// read of a file that holds a private key, and for keys on command lines: each of
/// ours begins with these letters.
const WATCH: &str = r#"
while [ -e /run/watch ]; do
    find /etc/etcd /tmp /var/tmp /run -xdev -type f -perm /077 -exec grep -l 'PRIVATE KEY' {} + 2>/dev/null
    find /etc/etcd /usr/local -name '*key*' -perm /077 2>/dev/null
    ps -eo args | grep 'MIGHAgEA[M]B'
    echo >> /run/looks
done"#;

#[test]
fn keys_stay_secret_in_a_deployment() {
    let lab = Lab::with_nodes(3);
    lab.on_all(&NODES, "touch /run/watch /run/looks /run/watched");
    let watching = NODES.map(|node| {
        lab.start(&format!("ssh -F $ETCD_TOOLS_SSH_CONFIG {node} sh -s <<'END'\n{WATCH}\nEND"))
    });
    let here = lab.start(
        "until [ -e stop ]; do ps -eo args | grep 'MIGHAgEA[M]B'; \
         find pki -name '*key*' -perm /077 2>/dev/null; echo >> looks; done",
    );
    // Twice, the second time with other names, so that keys are replaced, too.
    let mut pipe = deploy(guide());
    for tool in ["etcd-cert", "etcd-render", "etcd-push", "etcd-unit", "etcd-health"] {
        pipe = pipe.replace(&format!("| {tool}"), &format!("| tee -a seen | {tool}"));
    }
    let first = lab.bash(&format!("{pipe} | tee -a seen")).ok();
    let pipe = pipe.replace("issue", "issue --san other");
    let second = lab.bash(&format!("{pipe} | tee -a seen")).ok();
    assert!(second.stderr.contains("etcd-push: etcd-01: wrote 4 files"), "{}", second.stderr);

    lab.on_all(&NODES, "rm /run/watch");
    for (node, watched) in NODES.into_iter().zip(watching) {
        assert_eq!(watched.wait().ok().stdout, "", "{node}");
        let looks = lab.on(node, "wc -l < /run/looks").trim().parse::<u32>().unwrap();
        assert!(looks > 10, "{node}: {looks} looks only");
    }
    lab.write("stop", "");
    assert_eq!(here.wait().stdout, "");
    assert!(lab.read("looks").len() > 10);

    let seen = lab.read("seen");
    assert!(seen.contains("etcd-tools/v1"));
    for text in [&seen, &first.stderr, &second.stderr] {
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
    for (path, mode) in modes(&lab.folder.path().join("pki")) {
        let allowed = if path.ends_with(".crt") { 0o644 } else { 0o700 };
        assert!(mode & !allowed == 0, "{path}: {mode:o}");
        assert!(!path.ends_with(".key") || mode == 0o600, "{path}: {mode:o}");
    }
    let expected = "600 etcd /etc/etcd/ssl/peer.key\n600 etcd /etc/etcd/ssl/server.key\n";
    let keys = "stat -c '%a %U %n' /etc/etcd/ssl/*.key";
    assert_eq!(lab.on_all(&NODES, keys), [expected; 3]);
    ca_key_stays_here(&lab);
}

/// The CA's key is on no node: not its text, and no file with its hash.
fn ca_key_stays_here(lab: &Lab) {
    let key = lab.read("pki/ca.key");
    let body = key.lines().nth(1).unwrap();
    assert!(body.starts_with("MIGHAgEAMB"), "what {WATCH} looks for");
    // That of the node is found in the same way.
    let own = lab.read("pki/nodes/etcd-01/server.key");
    let search = |body: &str| {
        let places = "/etc /root /home /usr/local /var /tmp /run /srv /opt";
        // From stdin, so that the search does not find itself.
        format!("grep -rlFs -f - {places} <<'END' | sort\n{body}\nEND\n")
    };
    let found = lab.on("etcd-01", &search(own.lines().nth(1).unwrap()));
    assert_eq!(found, "/etc/etcd/ssl/server.key\n");
    assert_eq!(lab.on_all(&NODES, &search(body)), ["", "", ""]);
    let [own, ca] = [own, key.clone()].map(|key| pipeline::disk::sha256(key.as_bytes()));
    let hashes = "find / -xdev -type f -size -8k -newer /run/watched -exec sha256sum {} +";
    let said = lab.on_all(&NODES, hashes);
    assert!(said[0].contains(&own), "{}", said[0]);
    assert!(said.iter().all(|said| !said.contains(&ca)));
}

/// Every path under `folder`, and itself, with its permission bits.
fn modes(folder: &Path) -> Vec<(String, u32)> {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let mut found = vec![(folder.display().to_string(), mode(folder))];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(modes(&path));
        } else {
            found.push((path.display().to_string(), mode(&path)));
        }
    }
    found
}

#[test]
fn documents_that_would_give_a_key_away_are_refused() {
    let lab = Lab::with_nodes(3);
    lab.bash("etcd-cert issue < nodes.txt > cert.json").ok();
    let refused = |change: &str, why: &str| {
        let ran = lab.bash(&format!("jq '{change}' cert.json | etcd-push")).exits(65);
        assert_eq!(ran.stderr, format!("etcd-push: {why}\n"));
    };
    refused(
        r#"(.nodes[0].files[] | select(.path == "/etc/etcd/ssl/server.key")).mode = "0644""#,
        "etcd-01: /etc/etcd/ssl/server.key: a private key with mode 0644: \
         others could read it: use \"0600\"",
    );
    refused(
        r#".nodes[1].files += [{path: "/x", mode: "0600",
            content: "-----BEGIN EC PRIVATE KEY-----"}]"#,
        "stdin: nodes[1].files[5].content: contains a private key: \
         keep it in a file, and name that in a file's local instead",
    );
    for input in ["nodes.txt", "cert.json"] {
        let ran = lab.bash(&format!("etcd-push --file pki/ca.key:/x:0600 {input}")).exits(65);
        let why = "etcd-push: etcd-01: /x: the key of the CA, with which anybody could be issued: it \
                   stays here: leave it out\n";
        assert_eq!(ran.stderr, why);
    }
    let none = lab.on_all(&NODES, "ls -d /etc/etcd /x 2>/dev/null; true");
    assert_eq!(none, ["", "", ""]);
}
