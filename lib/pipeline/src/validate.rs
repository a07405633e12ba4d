//! What a document must fulfil before any tool acts on it.

use std::collections::HashMap;

use etcd::layout::{self, Folders};

use crate::document::{Document, File, Node, NodeSettings};
use crate::{Code, Severity, ToolResult};

/// Everything that is wrong with `document`, each with its JSON path.
pub(crate) fn problems(document: &Document) -> Vec<String> {
    let mut found = Problems::default();
    if document.nodes.is_empty() {
        found.add("nodes", "no nodes");
    }
    found.unique(document, "name", |node| Some(node.name.as_str()));
    found.unique(document, "address", |node| Some(node.address.as_str()));
    found.unique(document, "hostname", |node| node.hostname.as_deref());
    for (at, node) in document.nodes.iter().enumerate() {
        found.node(document, node, &format!("nodes[{at}]"));
    }
    if let Some(cluster) = &document.cluster {
        for (name, value) in &cluster.settings.env {
            found.variable("cluster.settings.env", name, value);
        }
        found.version("cluster.version", cluster.version.as_deref());
    }
    found.version("release.version", document.release.as_ref().map(|r| r.version.as_str()));
    for (at, archive) in document.release.iter().flat_map(|r| &r.archives).enumerate() {
        let path = format!("release.archives[{at}]");
        found.sha256(&path, &archive.sha256);
        for (at, binary) in archive.binaries.iter().enumerate() {
            let path = format!("{path}.binaries[{at}]");
            found.sha256(&path, &binary.sha256);
            if !is_word(&binary.name) {
                found.add(format!("{path}.name"), format!("{:?}: not a file name", binary.name));
            }
        }
    }
    found.0
}

/// What is allowed and yet worth a word.
pub(crate) fn warnings(document: &Document) -> Vec<ToolResult> {
    let mut warnings = Vec::new();
    if document.cluster.is_some() {
        let even = etcd::quorum::even(document.nodes.len());
        warnings.extend(even.map(|why| ToolResult::warning(Code::EvenMembers, why)));
    }
    for (key, of) in [
        ("heartbeatIntervalMs", heartbeat as fn(&Document, &Node) -> u32),
        ("electionTimeoutMs", election),
    ] {
        let first = document.nodes.first().map(|node| of(document, node));
        if document.nodes.iter().any(|node| Some(of(document, node)) != first) {
            warnings.push(ToolResult::warning(
                Code::DifferentTiming,
                format!("{key} is not the same on all members: elections may not settle"),
            ));
        }
    }
    debug_assert!(warnings.iter().all(|w| w.severity == Severity::Warning));
    warnings
}

fn heartbeat(document: &Document, node: &Node) -> u32 {
    document.settings(node).heartbeat_interval_ms
}

fn election(document: &Document, node: &Node) -> u32 {
    document.settings(node).election_timeout_ms
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, path: impl AsRef<str>, what: impl AsRef<str>) {
        self.0.push(format!("{}: {}", path.as_ref(), what.as_ref()));
    }

    fn unique<'a>(
        &mut self,
        document: &'a Document,
        key: &str,
        of: impl Fn(&'a Node) -> Option<&'a str>,
    ) {
        let mut seen = HashMap::new();
        for (at, node) in document.nodes.iter().enumerate() {
            let Some(value) = of(node) else { continue };
            if let Some(first) = seen.insert(value, at) {
                self.add(
                    format!("nodes[{at}].{key}"),
                    format!("{value:?} is also nodes[{first}].{key}"),
                );
                seen.insert(value, first);
            }
        }
    }

    fn node(&mut self, document: &Document, node: &Node, path: &str) {
        // Names of folders are made of it: "..", and hidden ones, are none.
        if !is_word(&node.name) || node.name.starts_with('.') {
            self.add(
                format!("{path}.name"),
                format!("{:?}: expected letters, digits, '.', '_' and '-'", node.name),
            );
        }
        if node.ip().is_none() && !is_dns_name(&node.address) {
            self.add(
                format!("{path}.address"),
                format!("{:?}: neither an IP address nor a DNS name", node.address),
            );
        }
        if let Some(hostname) = node.hostname.as_deref().filter(|name| !is_dns_name(name)) {
            self.add(format!("{path}.hostname"), format!("{hostname:?}: not a host name"));
        }
        if let Some(ssh) = &node.ssh {
            for (key, value) in [("host", &ssh.host), ("user", &ssh.user)] {
                // ssh would take it for an option.
                if let Some(value) = value.as_deref().filter(|v| v.is_empty() || v.starts_with('-'))
                {
                    self.add(format!("{path}.ssh.{key}"), format!("{value:?}: not a {key}"));
                }
            }
        }
        self.settings(document, node, path);
        let mut seen = HashMap::new();
        for (at, directory) in node.directories.iter().enumerate() {
            let path = format!("{path}.directories[{at}]");
            self.place(&path, &directory.path, &directory.mode, &directory.owner, &directory.group);
            self.once(&mut seen, format!("{path}.path"), &directory.path);
        }
        for (at, file) in node.files.iter().enumerate() {
            let path = format!("{path}.files[{at}]");
            self.place(&path, &file.path, &file.mode, &file.owner, &file.group);
            self.once(&mut seen, format!("{path}.path"), &file.path);
            self.file(&path, file);
        }
        let mut seen = HashMap::new();
        for (at, user) in node.users.iter().enumerate() {
            let path = format!("{path}.users[{at}]");
            if !is_user(&user.name) {
                self.add(format!("{path}.name"), format!("{:?}: not a user name", user.name));
            }
            self.once(&mut seen, format!("{path}.name"), &user.name);
            self.absolute(&format!("{path}.home"), &user.home);
        }
        let mut seen = HashMap::new();
        for (at, unit) in node.units.iter().enumerate() {
            let path = format!("{path}.units[{at}].name");
            let (stem, kind) = unit.name.rsplit_once('.').unwrap_or_default();
            if !is_word(stem.replace('@', "").as_str()) || !["service", "timer"].contains(&kind) {
                self.add(&path, format!("{:?}: expected NAME.service or NAME.timer", unit.name));
            }
            self.once(&mut seen, path, &unit.name);
        }
    }

    fn settings(&mut self, document: &Document, node: &Node, path: &str) {
        for (name, value) in &node.settings.env {
            self.variable(&format!("{path}.settings.env"), name, value);
        }
        let settings = document.settings(node);
        for (key, value) in [
            ("dataDir", Some(&settings.data_dir)),
            ("walDir", settings.wal_dir.as_ref()),
            ("configDir", Some(&settings.config_dir)),
            ("certDir", Some(&settings.cert_dir)),
            ("binDir", Some(&settings.bin_dir)),
        ] {
            if let Some(value) = value {
                self.absolute(&format!("{path}.settings.{key}"), value);
            }
        }
        if !is_user(&settings.user) {
            self.add(
                format!("{path}.settings.user"),
                format!("{:?}: not a user name", settings.user),
            );
        }
        self.etcds_own(&settings, path);
        if settings.client_port == settings.peer_port {
            self.add(
                format!("{path}.settings.peerPort"),
                format!("{} is also the client port", settings.peer_port),
            );
        }
        let (heartbeat, election) = (settings.heartbeat_interval_ms, settings.election_timeout_ms);
        if heartbeat == 0 || u64::from(election) < 5 * u64::from(heartbeat) || election > 50_000 {
            self.add(
                format!("{path}.settings.electionTimeoutMs"),
                format!(
                    "{election} with a heartbeat of {heartbeat}: \
                     etcd wants 5 times the heartbeat at least, and 50000 at most"
                ),
            );
        }
    }

    fn place(&mut self, path: &str, place: &str, mode: &str, owner: &str, group: &str) {
        self.absolute(&format!("{path}.path"), place);
        let octal =
            (3..=4).contains(&mode.len()) && mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
        if !octal {
            self.add(
                format!("{path}.mode"),
                format!("{mode:?}: expected an octal string such as \"0640\""),
            );
        } else if mode.len() == 4 && !mode.starts_with('0') {
            self.add(
                format!("{path}.mode"),
                format!("{mode:?}: expected permission bits only, \"0000\" to \"0777\""),
            );
        }
        for (key, name) in [("owner", owner), ("group", group)] {
            if !is_user(name) {
                self.add(
                    format!("{path}.{key}"),
                    format!("{name:?}: not the name of a user or group"),
                );
            }
        }
    }

    fn file(&mut self, path: &str, file: &File) {
        match (&file.content, &file.local, &file.sha256) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            (Some(_), Some(_), _) => self.add(path, "both content and local: expected one"),
            (None, None, _) => self.add(path, "neither content nor local: expected one"),
            (None, Some(_), None) => self.add(path, "local without sha256"),
            (Some(_), None, Some(_)) => self.add(path, "sha256 belongs to local, not to content"),
        }
        if let Some(sum) = &file.sha256 {
            self.sha256(path, sum);
        }
        if file.content.as_ref().is_some_and(|text| text.contains("PRIVATE KEY-----")) {
            self.add(
                format!("{path}.content"),
                "holds a private key: name the key's file in local instead",
            );
        }
    }

    fn version(&mut self, path: &str, text: Option<&str>) {
        if let Some((text, Err(why))) = text.map(|text| (text, text.parse::<etcd::Version>())) {
            self.add(path, format!("{text:?}: {why}"));
        }
    }

    /// What becomes etcd's own is nothing that anybody else needs.
    fn etcds_own(&mut self, settings: &NodeSettings, path: &str) {
        let folders = Folders {
            data: &settings.data_dir,
            wal: settings.wal_dir.as_deref(),
            config: &settings.config_dir,
            certs: &settings.cert_dir,
            bin: &settings.bin_dir,
        };
        for (key, why) in folders.problems().into_iter().chain(layout::user_problem(&settings.user))
        {
            self.add(format!("{path}.settings.{key}"), why);
        }
    }

    fn sha256(&mut self, path: &str, sum: &str) {
        if !is_sha256(sum) {
            let what = format!("{sum:?}: expected 64 lower-case hex digits");
            self.add(format!("{path}.sha256"), what);
        }
    }

    fn absolute(&mut self, path: &str, place: &str) {
        let mut parts = place.split('/').skip(1);
        if !place.starts_with('/') || place.len() < 2 {
            self.add(path, format!("{place:?}: expected an absolute path"));
        } else if parts.any(|part| ["", ".", ".."].contains(&part)) {
            self.add(path, format!("{place:?}: expected a path without '..', '.' and '//'"));
        } else if place.chars().any(char::is_control) {
            self.add(path, format!("{place:?}: expected a path without control characters"));
        }
    }

    fn variable(&mut self, path: &str, name: &str, value: &str) {
        let tail = name.strip_prefix("ETCD_").unwrap_or_default();
        let good = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if tail.is_empty() || !tail.bytes().all(good) {
            self.add(path, format!("{name:?}: expected a name such as \"ETCD_LOGGER\""));
        }
        if value.chars().any(char::is_control) {
            self.add(path, format!("{name}: expected a value of one line"));
        }
        if name == "ETCD_CONFIG_FILE" {
            self.add(path, "ETCD_CONFIG_FILE makes etcd ignore every other setting");
        }
    }

    fn once<'a>(&mut self, seen: &mut HashMap<&'a str, String>, path: String, key: &'a str) {
        match seen.get(key) {
            Some(first) => self.add(&path, format!("{key:?} is also {first}")),
            None => drop(seen.insert(key, path)),
        }
    }
}

fn is_word(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(good)
}

/// Whether `text` can be a DNS name, underscores allowed; an IPv4 address is none.
pub fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && is_word(label)
    };
    text.len() <= 253
        && text.split('.').all(label)
        && !text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

fn is_user(text: &str) -> bool {
    text.len() <= 32 && is_word(text)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use crate::parse;

    fn problems(node: &str) -> Vec<String> {
        let text =
            format!(r#"{{"apiVersion": "etcd-tools/v1", "cluster": {{}}, "nodes": [{node}]}}"#);
        match parse(text.as_bytes()) {
            Ok(_) => Vec::new(),
            Err(error) => error.to_string().lines().map(str::to_owned).collect(),
        }
    }

    fn file(rest: &str) -> Vec<String> {
        problems(&format!(r#"{{"name": "a", "address": "1.1.1.1", "files": [{{{rest}}}]}}"#))
    }

    #[test]
    fn a_bad_value_is_named_with_its_path() {
        let sum = "0".repeat(64);
        let cases = [
            (r#""path": "/a", "mode": "0640", "content": """#.to_string(), None),
            (format!(r#""path": "/a", "mode": "640", "local": "b", "sha256": "{sum}""#), None),
            (
                r#""path": "a", "mode": "0640", "content": """#.to_string(),
                Some(".path: \"a\": expected an absolute path"),
            ),
            (
                r#""path": "/a/../b", "mode": "0640", "content": """#.to_string(),
                Some(".path: \"/a/../b\": expected a path without '..', '.' and '//'"),
            ),
            (
                r#""path": "/a/", "mode": "0640", "content": """#.to_string(),
                Some(".path: \"/a/\": expected a path without '..', '.' and '//'"),
            ),
            (
                r#""path": "/a\nb", "mode": "0640", "content": """#.to_string(),
                Some(".path: \"/a\\nb\": expected a path without control characters"),
            ),
            (
                r#""path": "/a", "mode": "0999", "content": """#.to_string(),
                Some(".mode: \"0999\": expected an octal string such as \"0640\""),
            ),
            (
                r#""path": "/a", "mode": "4755", "content": """#.to_string(),
                Some(".mode: \"4755\": expected permission bits only, \"0000\" to \"0777\""),
            ),
            (
                r#""path": "/a", "mode": "0640", "owner": "-x", "content": """#.to_string(),
                Some(".owner: \"-x\": not the name of a user or group"),
            ),
            (
                r#""path": "/a", "mode": "0640""#.to_string(),
                Some(": neither content nor local: expected one"),
            ),
            (
                r#""path": "/a", "mode": "0640", "content": "", "local": "b""#.to_string(),
                Some(": both content and local: expected one"),
            ),
            (
                r#""path": "/a", "mode": "0640", "local": "b""#.to_string(),
                Some(": local without sha256"),
            ),
            (
                r#""path": "/a", "mode": "0640", "local": "b", "sha256": "12""#.to_string(),
                Some(".sha256: \"12\": expected 64 lower-case hex digits"),
            ),
            (
                r#""path": "/a", "mode": "0640", "content": "-----BEGIN EC PRIVATE KEY-----""#
                    .to_string(),
                Some(".content: holds a private key: name the key's file in local instead"),
            ),
        ];
        for (rest, expected) in cases {
            let expected: Vec<_> =
                expected.iter().map(|e| format!("stdin: nodes[0].files[0]{e}")).collect();
            assert_eq!(file(&rest), expected, "{rest}");
        }
    }

    #[test]
    fn contradictions_are_named() {
        let two = |a: &str, b: &str| problems(&format!("{a}, {b}"));
        assert_eq!(
            two(r#"{"name": "a", "address": "1.1.1.1"}"#, r#"{"name": "a", "address": "1.1.1.1"}"#),
            [
                "stdin: nodes[1].name: \"a\" is also nodes[0].name",
                "stdin: nodes[1].address: \"1.1.1.1\" is also nodes[0].address"
            ]
        );
        let same = r#"{"path": "/x", "mode": "0600", "content": ""}"#;
        assert_eq!(
            problems(&format!(
                r#"{{"name": "a", "address": "1.1.1.1", "files": [{same}, {same}]}}"#
            )),
            ["stdin: nodes[0].files[1].path: \"/x\" is also nodes[0].files[0].path"]
        );
        assert_eq!(
            problems(
                r#"{"name": "a b", "address": "300.1.1.1", "settings":
                    {"electionTimeoutMs": 100, "env": {"PATH": "x", "ETCD_CONFIG_FILE": "y"}}}"#
            ),
            [
                "stdin: nodes[0].name: \"a b\": expected letters, digits, '.', '_' and '-'",
                "stdin: nodes[0].address: \"300.1.1.1\": neither an IP address nor a DNS name",
                "stdin: nodes[0].settings.env: ETCD_CONFIG_FILE makes etcd ignore every other \
                 setting",
                "stdin: nodes[0].settings.env: \"PATH\": expected a name such as \"ETCD_LOGGER\"",
                "stdin: nodes[0].settings.electionTimeoutMs: 100 with a heartbeat of 100: \
                 etcd wants 5 times the heartbeat at least, and 50000 at most",
            ]
        );
        assert_eq!(
            problems(r#"{"name": "..", "address": "1.1.1.1"}"#),
            ["stdin: nodes[0].name: \"..\": expected letters, digits, '.', '_' and '-'"]
        );
        assert_eq!(problems(""), ["stdin: nodes: no nodes"]);
    }

    #[test]
    fn no_folder_of_the_system_becomes_etcds() {
        assert_eq!(
            problems(
                r#"{"name": "a", "address": "1.1.1.1", "settings":
                    {"dataDir": "/etc", "walDir": "/var/lib/etcd", "certDir": "/var/lib/etcd/ssl",
                     "user": "root"}}"#
            ),
            [
                "stdin: nodes[0].settings.dataDir: \"/etc\": no place for data: \
                 choose a folder for etcd alone, e.g. /var/lib/etcd",
                "stdin: nodes[0].settings.certDir: \"/var/lib/etcd/ssl\": inside walDir \
                 \"/var/lib/etcd\", which belongs to etcd's user: choose another folder",
                "stdin: nodes[0].settings.user: \"root\": expected the name of a user for \
                 etcd alone",
            ]
        );
    }

    #[test]
    fn an_even_number_of_members_is_a_warning() {
        let input = parse(b"a:1.1.1.1:a\nb:1.1.1.2:b\n").unwrap();
        assert_eq!(
            input.warnings[0].message,
            "2 members tolerate 0 failures, the same as 1: use an odd number"
        );
        assert!(parse(b"a:1.1.1.1:a\n").unwrap().warnings.is_empty());
    }
}
