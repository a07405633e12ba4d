//! Promises of docs/promises.md that no other test shows.

use tests::{Lab, deploy, guide};

/// What would run, or show, if anything took it for more than bytes.
const HOSTILE: &str = "\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}31m\u{202e}\n$(touch /pwned)`touch /pwned`\n\
                       '; touch /pwned; '\n\ttouch /pwned\nend\n.\nEOF\nE\ntouch /pwned\n";

/// Whether `text` would do anything to a terminal but show letters.
fn reaches_a_terminal(text: &str) -> bool {
    text.chars()
        .any(|c| (c.is_control() && !"\n\t".contains(c)) || ('\u{202a}'..='\u{202e}').contains(&c))
}

#[test]
fn root_on_a_node_executes_the_plan_and_nothing_else() {
    let lab = Lab::with_nodes(1);
    let not_run = |what: &str| {
        assert_eq!(lab.on("etcd-01", "ls -d /pwned 2>/dev/null || true"), "", "{what}");
        assert!(!std::path::Path::new("/pwned").exists(), "{what}");
    };
    lab.write("list", "web:192.168.1.100:web\n");
    // A file that others write to, cut and replace while it is sent.
    for (what, meanwhile) in [
        ("it grows", "yes 'touch /pwned' | head -c 200000000 >> big"),
        ("it shrinks", "for n in 29 23 11 5 1; do truncate -s ${n}000000 big; done"),
        ("it is replaced", "yes 'touch /pwned' | head -c 40000000 > new; mv new big"),
    ] {
        lab.bash("{ yes 'touch /pwned' || true; } | head -c 30000000 > big").ok();
        let push = format!(
            "({meanwhile}) & etcd-push --file big:/srv/big list > /dev/null; code=$?; wait; \
             exit $code"
        );
        let ran = lab.bash(&push);
        assert!([0, 3, 66].contains(&ran.code), "{what}: {}", ran.stderr);
        not_run(what);
        assert!(["", "big\n"].contains(&&*lab.on("etcd-01", "ls -A /srv")), "{what}");
        lab.bash("etcd-push --file big:/srv/big list").ok();
        let sum = "sha256sum < /srv/big";
        assert_eq!(lab.on("etcd-01", sum), lab.bash("sha256sum < big").ok().stdout, "{what}");
    }

    // Whatever the document, a file here, or the node holds.
    lab.write("hostile", HOSTILE);
    let document = serde_json::json!({"apiVersion": "etcd-tools/v1", "nodes": [{
        "name": "web", "address": "192.168.1.100",
        "files": [
            {"path": "/srv/$(touch /pwned)/`touch /pwned`;touch /pwned", "mode": "0644",
             "content": HOSTILE},
            {"path": "/srv/it's", "mode": "0644", "local": "hostile"},
        ],
    }]});
    lab.write("files.json", &document.to_string());
    let there = "rm -rf /srv/*; mkdir /srv/.etcd-tools; chmod 700 /srv/.etcd-tools; \
                 cd /srv/.etcd-tools; touch \"$(printf 'x\\ntouch /pwned\\n')\"; \
                 cat > \"/srv/it's\"";
    lab.bash(&format!("ssh -F $ETCD_TOOLS_SSH_CONFIG etcd-01 {} < hostile", quoted(there))).ok();
    for command in ["etcd-push --check", "etcd-push", "etcd-push"] {
        let ran = lab.bash(&format!("{command} < files.json"));
        assert!(ran.code <= 1, "{}", ran.stderr);
        not_run(command);
        assert!(!reaches_a_terminal(&ran.stderr), "{:?}", ran.stderr);
    }
    assert_eq!(lab.on("etcd-01", "cat \"/srv/it's\""), HOSTILE);
    assert_eq!(lab.on("etcd-01", "find /srv -type f | wc -l"), "2\n");
}

#[test]
fn nothing_from_a_node_reaches_the_terminal_unescaped() {
    let lab = Lab::with_nodes(1);
    lab.bash(&format!("{} > document.json", deploy(guide()))).ok();
    lab.write("hostile", HOSTILE);
    let shown = |command: &str| {
        let ran = lab.bash(command);
        assert!(!reaches_a_terminal(&ran.stderr), "{command}: {:?}", ran.stderr);
        ran
    };
    // In the configuration, in what the unit says at its start, and in the names of files.
    let put = "cat /dev/stdin >> /etc/etcd/etcd.conf; cd /var/lib/etcd; \
               touch \"$(printf 'a\\033]0;x\\007\\nb')\"";
    lab.bash(&format!("ssh -F $ETCD_TOOLS_SSH_CONFIG etcd-01 {} < hostile", quoted(put))).ok();
    let look = "etcd-push --check < document.json";
    assert_eq!(shown(look).code, 1, "{look}");
    shown("etcd-unit start --check < document.json");
    shown("etcd-preflight -q --skip disk-latency < document.json");
    shown("etcd-push < document.json").ok();
    lab.on(
        "etcd-01",
        "mkdir -p /run/systemd/system/etcd.service.d; \
         printf '[Service]\\nExecStartPre=/bin/sh -c \"cat /srv/hostile >&2; exit 1\"\\n' \
         > /run/systemd/system/etcd.service.d/x.conf; systemctl daemon-reload; \
         systemctl stop etcd",
    );
    lab.bash("ssh -F $ETCD_TOOLS_SSH_CONFIG etcd-01 'cat > /srv/hostile' < hostile").ok();
    let ran = shown("etcd-unit start --timeout 5 < document.json").exits(3);
    assert!(ran.stderr.contains("etcd-01: "), "{}", ran.stderr);
    shown("etcd-unit status -o table < document.json");
    let logs = lab.bash("etcd-unit logs < document.json").ok().stdout;
    assert!(logs.contains("touch /pwned") && !reaches_a_terminal(&logs), "{logs:?}");
}

/// `script` as one word of a shell.
fn quoted(script: &str) -> String {
    format!("'{}'", script.replace('\'', "'\\''"))
}
