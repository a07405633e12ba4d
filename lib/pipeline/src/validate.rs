//! What a document must fulfil before any tool acts on it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use etcd::layout::{self, Folders};
use etcd::{Minor, Version};

use crate::document::{CompactionMode, Document, File, Node, NodeSettings, Settings};
use crate::place::shown;
use crate::terminal::is_hidden;
use crate::{Code, ToolResult};

/// The size of a path in Linux, with the byte that ends it (limits.h).
const PATH_MAX: usize = 4096;

/// How long old revisions are kept: with autoCompactionMode periodic, a number is hours.
const RETENTION: &str = "ETCD_AUTO_COMPACTION_RETENTION";

/// The most hours that a duration of Go has room for.
const MOST_HOURS: u64 = i64::MAX as u64 / 3_600_000_000_000;

/// Where the settings of all members stand.
const CLUSTER: &str = "cluster.settings";

/// Everything that is wrong with `document`, each with its JSON path.
pub(crate) fn problems(document: &Document) -> Vec<String> {
    let mut found = Problems { minors: minors(document), ..Problems::default() };
    if document.nodes.is_empty() {
        found.add("nodes", "no nodes");
    }
    found.unique(document, "name", |node| Some((node.name.clone(), &node.name)));
    found.unique(document, "address", |node| Some((host(&node.address), &node.address)));
    found.unique(document, "hostname", |node| {
        node.hostname.as_ref().map(|name| (name.to_lowercase(), name))
    });
    found.unique(document, "ssh.host", |node| {
        let ssh = node.ssh.as_ref()?;
        ssh.host.as_ref().map(|name| (format!("{} {:?}", host(name), ssh.port), name))
    });
    for (at, node) in document.nodes.iter().enumerate() {
        if let Some(why) = node.ip().and_then(unfit_address) {
            found.wrong(format!("nodes[{at}].address"), &node.address, why);
        }
        found.node(document, node, &format!("nodes[{at}]"));
    }
    if let Some(cluster) = &document.cluster {
        found.settings(CLUSTER, &cluster.settings);
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
                found.wrong(format!("{path}.name"), &binary.name, "not a file name");
            }
        }
    }
    found.lines
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
                format!("{key} differs between members: elections may not settle"),
            ));
        }
    }
    warnings
}

fn heartbeat(document: &Document, node: &Node) -> u32 {
    document.settings(node).heartbeat_interval_ms
}

fn election(document: &Document, node: &Node) -> u32 {
    document.settings(node).election_timeout_ms
}

/// Why folders and user cannot become etcd's own, each with the key of its setting.
fn etcds_own(settings: &NodeSettings) -> Vec<(&'static str, String)> {
    let folders = Folders {
        data: &settings.data_dir,
        wal: settings.wal_dir.as_deref(),
        config: &settings.config_dir,
        certs: &settings.cert_dir,
        bin: &settings.bin_dir,
    };
    let mut problems = folders.problems();
    problems.extend(layout::user_problem(&settings.user));
    // What is too long to be one was shown before, shortened.
    problems.retain(|(_, why)| why.len() < PATH_MAX);
    problems
}

/// Why `ip` is no address at which one host can be reached.
fn unfit_address(ip: IpAddr) -> Option<&'static str> {
    match ip.to_canonical() {
        ip if ip.is_unspecified() => Some("no address of a host: give the one that others reach"),
        ip if ip.is_multicast() => Some("a multicast address: give that of the host"),
        _ => None,
    }
}

/// How one address is always written: two spellings of it are the same host.
fn host(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().to_string(),
        Err(_) => address.to_lowercase(),
    }
}

/// The minor versions of etcd that may read the settings: that of the document, else any.
fn minors(document: &Document) -> Vec<Minor> {
    let cluster = document.cluster.as_ref().and_then(|cluster| cluster.version.as_deref());
    let release = document.release.as_ref().map(|release| release.version.as_str());
    let version = cluster.or(release).and_then(|text| text.parse::<Version>().ok());
    match version.map(Version::minor) {
        Some(minor) => vec![minor],
        None => Minor::KNOWN.to_vec(),
    }
}

#[derive(Default)]
struct Problems {
    minors: Vec<Minor>,
    lines: Vec<String>,
    known: HashSet<String>,
}

impl Problems {
    fn add(&mut self, path: impl AsRef<str>, what: impl AsRef<str>) {
        let line = format!("{}: {}", path.as_ref(), what.as_ref());
        // What is wrong with the cluster's settings is found again on each node.
        if self.known.insert(line.clone()) {
            self.lines.push(line);
        }
    }

    fn wrong(&mut self, path: impl AsRef<str>, value: &str, what: &str) {
        self.add(path, format!("{}: {what}", shown(value)));
    }

    /// `of` gives what must differ between any two nodes, and how it is written.
    fn unique<'a>(
        &mut self,
        document: &'a Document,
        key: &str,
        of: impl Fn(&'a Node) -> Option<(String, &'a String)>,
    ) {
        let mut seen = HashMap::new();
        for (at, node) in document.nodes.iter().enumerate() {
            let Some((value, written)) = of(node) else { continue };
            let first = *seen.entry(value).or_insert(at);
            if first != at {
                let what = format!("is also nodes[{first}].{key}");
                self.add(format!("nodes[{at}].{key}"), format!("{} {what}", shown(written)));
            }
        }
    }

    fn node(&mut self, document: &Document, node: &Node, path: &str) {
        if !is_node_name(&node.name) {
            self.wrong(format!("{path}.name"), &node.name, NODE_NAME);
        }
        if node.ip().is_none() && !is_dns_name(&node.address) {
            let what = "neither an IP address nor a DNS name";
            self.wrong(format!("{path}.address"), &node.address, what);
        }
        if let Some(hostname) = node.hostname.as_deref().filter(|name| !is_dns_name(name)) {
            self.wrong(format!("{path}.hostname"), hostname, "not a host name");
        }
        if let Some(ssh) = &node.ssh {
            for (key, value) in [("host", &ssh.host), ("user", &ssh.user)] {
                // ssh would take it for an option.
                let bad = |v: &&str| v.is_empty() || v.starts_with('-') || v.contains(is_blank);
                if let Some(value) = value.as_deref().filter(bad) {
                    self.wrong(format!("{path}.ssh.{key}"), value, &format!("not a {key}"));
                }
            }
        }
        if node.ssh.as_ref().is_some_and(|ssh| ssh.port == Some(0)) {
            self.add(format!("{path}.ssh.port"), "0 is not a port");
        }
        self.settings(&format!("{path}.settings"), &node.settings);
        self.together(document, node, path);
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
        self.below_files(node, path);
        let mut seen = HashMap::new();
        for (at, user) in node.users.iter().enumerate() {
            let path = format!("{path}.users[{at}]");
            if !is_user(&user.name) || is_number(&user.name) {
                self.wrong(format!("{path}.name"), &user.name, "not a user name");
            }
            if user.home.contains(':') {
                self.wrong(format!("{path}.home"), &user.home, "expected a path without ':'");
            }
            self.once(&mut seen, format!("{path}.name"), &user.name);
            self.absolute(&format!("{path}.home"), &user.home);
        }
        let mut seen = HashMap::new();
        for (at, unit) in node.units.iter().enumerate() {
            let path = format!("{path}.units[{at}].name");
            if let Err(what) = unit_name(&unit.name) {
                self.add(&path, what);
            }
            // systemd takes an empty file for one that masks the unit.
            if unit.content.trim().is_empty() {
                self.add(path.replace(".name", ".content"), "empty: expected the text of a unit");
            }
            self.once(&mut seen, path, &unit.name);
        }
    }

    /// What is wrong with each of the `settings` that stand at `path`.
    fn settings(&mut self, path: &str, settings: &Settings) {
        for (name, value) in &settings.env {
            self.variable(&format!("{path}.env"), name, value);
        }
        for (key, value) in [
            ("dataDir", &settings.data_dir),
            ("walDir", &settings.wal_dir),
            ("configDir", &settings.config_dir),
            ("certDir", &settings.cert_dir),
            ("binDir", &settings.bin_dir),
        ] {
            if let Some(value) = value {
                self.absolute(&format!("{path}.{key}"), value);
            }
        }
        let quota = settings.quota_backend_bytes.map(|bytes| bytes.to_string());
        for (key, name, value) in [
            ("quotaBackendBytes", "ETCD_QUOTA_BACKEND_BYTES", &quota),
            ("autoCompactionRetention", RETENTION, &settings.auto_compaction_retention),
            ("listenMetricsUrls", "ETCD_LISTEN_METRICS_URLS", &settings.listen_metrics_urls),
            ("logLevel", "ETCD_LOG_LEVEL", &settings.log_level),
        ] {
            let Some(value) = value else { continue };
            if let Some(what) = etcd::value::expected(name, value, &self.minors) {
                self.wrong(format!("{path}.{key}"), value, &format!("expected {what}"));
            }
        }
        if let Some(user) = settings.user.as_ref().filter(|user| !is_user(user)) {
            self.wrong(format!("{path}.user"), user, "not a user name");
        }
        for (key, port) in [("clientPort", settings.client_port), ("peerPort", settings.peer_port)]
        {
            if port == Some(0) {
                self.add(format!("{path}.{key}"), "0 is not a port");
            }
        }
    }

    /// What is wrong with settings that depend on each other, where they meet on a node.
    fn together(&mut self, document: &Document, node: &Node, path: &str) {
        let own = &node.settings;
        let place = |own: bool| if own { format!("{path}.settings") } else { CLUSTER.into() };
        let settings = document.settings(node);
        for (key, why) in etcds_own(&settings) {
            let own = match key {
                "dataDir" => own.data_dir.is_some(),
                "walDir" => own.wal_dir.is_some(),
                "configDir" => own.config_dir.is_some(),
                "certDir" => own.cert_dir.is_some(),
                "binDir" => own.bin_dir.is_some(),
                _ => own.user.is_some(),
            };
            self.add(format!("{}.{key}", place(own)), why);
        }
        if settings.client_port == settings.peer_port {
            let place = place(own.client_port.is_some() || own.peer_port.is_some());
            let what = format!("{} is also the client port", settings.peer_port);
            self.add(format!("{place}.peerPort"), what);
        }
        let retention = &settings.auto_compaction_retention;
        let by_revision = settings.auto_compaction_mode == CompactionMode::Revision;
        if by_revision && retention.parse::<u64>().is_err() {
            // etcd would take a duration for as many revisions as it has nanoseconds.
            let place = place(own.auto_compaction_retention.is_some());
            let what =
                "with autoCompactionMode revision: expected a number of revisions, e.g. 10000";
            self.wrong(format!("{place}.autoCompactionRetention"), retention, what);
        }
        // More hours than a duration of Go has room for would be a negative one.
        let variable = settings.env.get(RETENTION);
        let retention = variable.unwrap_or(retention);
        let by_revision = match settings.env.get("ETCD_AUTO_COMPACTION_MODE") {
            Some(mode) => mode == "revision",
            None => by_revision,
        };
        if !by_revision && retention.parse().is_ok_and(|hours: u64| hours > MOST_HOURS) {
            let (place, key) = match variable {
                Some(_) => (place(own.env.contains_key(RETENTION)), format!("env.{RETENTION}")),
                None => {
                    let own = own.auto_compaction_retention.is_some();
                    (place(own), "autoCompactionRetention".to_owned())
                }
            };
            let what = format!("a number is hours, at most {MOST_HOURS}: expected e.g. 8h");
            self.wrong(format!("{place}.{key}"), retention, &what);
        }
        self.listeners(document, node, path);
        let (heartbeat, election) = (settings.heartbeat_interval_ms, settings.election_timeout_ms);
        if heartbeat == 0 || u64::from(election) < 5 * u64::from(heartbeat) || election > 50_000 {
            let timed = own.heartbeat_interval_ms.is_some() || own.election_timeout_ms.is_some();
            self.add(
                format!("{}.electionTimeoutMs", place(timed)),
                format!(
                    "{election} with a heartbeat of {heartbeat}: \
                     etcd requires at least 5 times the heartbeat, and at most 50000"
                ),
            );
        }
    }

    /// A member does not start where it would listen on one port of one address twice.
    fn listeners(&mut self, document: &Document, node: &Node, path: &str) {
        let own = &node.settings;
        let settings = document.settings(node);
        let place = |own: bool| if own { format!("{path}.settings") } else { CLUSTER.into() };
        let variable = |name: &str| {
            let urls = settings.env.get(name).filter(|urls| !urls.is_empty())?;
            Some((format!("{}.env: {name}", place(own.env.contains_key(name))), urls.clone()))
        };
        let metrics = || {
            let place = place(own.listen_metrics_urls.is_some());
            Some((format!("{place}.listenMetricsUrls"), settings.listen_metrics_urls.clone()?))
        };
        let clients = variable("ETCD_LISTEN_CLIENT_URLS");
        let mut taken = vec![document.listen_peer_url(node)];
        if clients.is_none() {
            taken.extend(document.listen_client_urls(node).split(',').map(str::to_owned));
        }
        let others = [
            clients,
            variable("ETCD_LISTEN_CLIENT_HTTP_URLS"),
            variable("ETCD_LISTEN_METRICS_URLS").or_else(metrics),
        ];
        for (place, urls) in others.into_iter().flatten() {
            let same = |url| taken.iter().find(|other| etcd::url::is_same_socket(url, other));
            if let Some(other) = urls.split(',').find_map(same) {
                let what = format!("the member itself listens on {other}: choose another port");
                self.wrong(place, &urls, &what);
            }
            taken.extend(urls.split(',').map(str::to_owned));
        }
    }

    fn place(&mut self, path: &str, place: &str, mode: &str, owner: &str, group: &str) {
        self.absolute(&format!("{path}.path"), place);
        let octal =
            (3..=4).contains(&mode.len()) && mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
        if !octal {
            let what = "expected an octal string such as \"0640\"";
            self.wrong(format!("{path}.mode"), mode, what);
        }
        for (key, name) in [("owner", owner), ("group", group)] {
            if !is_user(name) {
                self.wrong(format!("{path}.{key}"), name, "not the name of a user or group");
                // In its only form, as a host gives it back.
            } else if is_number(name)
                && name.parse::<u32>().ok().filter(|id| *id < u32::MAX).map(|id| id.to_string())
                    != Some(name.into())
            {
                let what = "expected a number from 0 to 4294967294, without zeros before it";
                self.wrong(format!("{path}.{key}"), name, what);
            }
        }
    }

    fn file(&mut self, path: &str, file: &File) {
        match (&file.content, &file.local, &file.sha256) {
            (None, None, None) if file.absent => {}
            (None, None, Some(_)) if file.absent => {
                self.add(path, "sha256 belongs to local, not to absent");
            }
            _ if file.absent => self.add(path, "absent, with content or local: expected one"),
            (Some(_), None, None) | (None, Some(_), _) => {}
            (Some(_), Some(_), _) => self.add(path, "both content and local: expected one"),
            (None, None, _) => self.add(path, "neither content, local nor absent: expected one"),
            (Some(_), None, Some(_)) => self.add(path, "sha256 belongs to local, not to content"),
        }
        if file.pending && (file.local.is_none() || file.sha256.is_some()) {
            self.add(path, "pending belongs to local without sha256");
        }
        if let Some(sum) = &file.sha256 {
            self.sha256(path, sum);
        }
    }

    /// A file has nothing below it.
    fn below_files(&mut self, node: &Node, path: &str) {
        let of_files = node.files.iter().map(|file| file.path.as_str()).enumerate();
        let files: HashMap<_, _> = of_files.clone().map(|(at, place)| (place, at)).collect();
        let directories = node.directories.iter().map(|directory| directory.path.as_str());
        let directories = directories.enumerate().map(|(at, place)| ("directories", at, place));
        for (kind, at, place) in directories.chain(of_files.map(|(at, place)| ("files", at, place)))
        {
            let mut folders = place.match_indices('/').map(|(end, _)| &place[..end]);
            if let Some(file) = folders.find_map(|folder| files.get(folder)) {
                let what = format!("below {path}.files[{file}].path, which is a file");
                self.wrong(format!("{path}.{kind}[{at}].path"), place, &what);
            }
        }
    }

    fn version(&mut self, path: &str, text: Option<&str>) {
        if let Some((text, Err(why))) = text.map(|text| (text, text.parse::<Version>())) {
            self.wrong(path, text, &why);
        }
    }

    fn sha256(&mut self, path: &str, sum: &str) {
        if !is_sha256(sum) {
            self.wrong(format!("{path}.sha256"), sum, "expected 64 lower-case hex digits");
        }
    }

    fn absolute(&mut self, path: &str, place: &str) {
        let mut parts = place.split('/').skip(1);
        if place == "/" {
            self.wrong(path, place, "expected another path than that of the root");
        } else if !place.starts_with('/') {
            self.wrong(path, place, "expected an absolute path");
        } else if parts.any(|part| ["", ".", ".."].contains(&part)) {
            self.wrong(path, place, "expected a path without '..', '.', '//' and a final '/'");
        } else if place.contains(|c| is_hidden(c) || c == '\t') {
            self.wrong(path, place, "expected a path without control characters");
        } else if place.split('/').any(|part| part == ".etcd-tools") {
            self.wrong(path, place, "these tools stage in folders of that name: choose another");
        } else if place.len() >= PATH_MAX || place.split('/').any(|name| name.len() > 255) {
            self.wrong(path, place, "longer than a path or a file's name can be");
        }
    }

    fn variable(&mut self, path: &str, name: &str, value: &str) {
        let tail = name.strip_prefix("ETCD_").unwrap_or_default();
        let good = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if tail.is_empty() || !tail.bytes().all(good) {
            self.wrong(path, name, "expected a name such as \"ETCD_LOGGER\"");
        }
        if value.chars().any(char::is_control) {
            self.add(path, format!("{}: expected a value of one line", shown(name)));
        }
        if let Some(why) = reserved_variable(name) {
            self.add(path, format!("{name} {why}"));
        } else if let Some(what) = etcd::value::expected(name, value, &self.minors) {
            // With such a value etcd does not start.
            self.add(path, format!("{name}: {}: expected {what}", shown(value)));
        }
    }

    fn once<'a>(&mut self, seen: &mut HashMap<&'a str, String>, path: String, key: &'a str) {
        match seen.get(key) {
            Some(first) => self.add(&path, format!("{} is also {first}", shown(key))),
            None => drop(seen.insert(key, path)),
        }
    }
}

/// Why `settings.env`, or a file on a node, must not set the variable `name` of etcd: it
/// would get round what is checked of the document, or give up data. To be said after
/// the name; nothing for a variable that is free.
pub fn reserved_variable(name: &str) -> Option<&'static str> {
    Some(match name {
        "ETCD_CONFIG_FILE" => "makes etcd ignore every other setting",
        "ETCD_NAME" => "is the name of the node: set that instead",
        "ETCD_DATA_DIR" => "is dataDir: set that instead",
        "ETCD_WAL_DIR" => "is walDir: set that instead",
        "ETCD_INITIAL_CLUSTER" => "is made from the nodes: leave it out",
        "ETCD_INITIAL_CLUSTER_STATE" => "is initialClusterState: set that instead",
        "ETCD_INITIAL_CLUSTER_TOKEN" => "is cluster.token: set that instead",
        "ETCD_INITIAL_ADVERTISE_PEER_URLS" => {
            "is made from the node's address and peerPort: set those instead"
        }
        "ETCD_LISTEN_PEER_URLS" => {
            "is made from the node's address and peerPort: set those instead"
        }
        "ETCD_TRUSTED_CA_FILE"
        | "ETCD_CERT_FILE"
        | "ETCD_KEY_FILE"
        | "ETCD_PEER_CERT_FILE"
        | "ETCD_PEER_TRUSTED_CA_FILE"
        | "ETCD_PEER_KEY_FILE" => "is made from certDir: set that instead",
        "ETCD_CLIENT_CERT_AUTH" | "ETCD_PEER_CLIENT_CERT_AUTH" => {
            "is always true, so that only certificates of the CA get in: leave it out"
        }
        "ETCD_AUTO_TLS" | "ETCD_PEER_AUTO_TLS" => {
            "would replace the certificates of the document: leave it out"
        }
        "ETCD_HEARTBEAT_INTERVAL" => "is heartbeatIntervalMs: set that instead",
        "ETCD_ELECTION_TIMEOUT" => "is electionTimeoutMs: set that instead",
        "ETCD_DISCOVERY" | "ETCD_DISCOVERY_SRV" | "ETCD_DISCOVERY_ENDPOINTS" => {
            "would replace the nodes of the document: leave it out"
        }
        "ETCD_FORCE_NEW_CLUSTER" => "removes all other members at the next start: leave it out",
        "ETCD_UNSAFE_NO_FSYNC" => "loses acknowledged writes in a power cut: leave it out",
        _ => return None,
    })
}

fn is_word(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=255).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(good)
}

/// What the name of a node is to be, as [`is_node_name`] has it.
pub const NODE_NAME: &str = "expected letters, digits, '.', '_' and '-'";

/// Whether `text` can be the name of a node. Names of folders are made of it: "..", and hidden
/// ones, are none.
pub fn is_node_name(text: &str) -> bool {
    is_word(text) && !text.starts_with('.')
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

/// Checks the name of a service or a timer, such as `etcd.service` or `etcd@a.service`,
/// for clap and for the document: gives it back, or what is wrong with it.
///
/// systemd.unit(5): at most 255 characters, and an `@` parts a template from its
/// instance, which the template itself has not. Backslashes, by which systemd writes
/// other characters, are left out.
pub fn unit_name(text: &str) -> Result<String, String> {
    let good = |part: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b":_.-".contains(&b);
        !part.is_empty() && part.bytes().all(good)
    };
    let (stem, kind) = text.rsplit_once('.').unwrap_or_default();
    let (template, instance) = stem.split_once('@').unwrap_or((stem, "none"));
    let named =
        good(template) && (instance.is_empty() || good(instance)) && !text.starts_with(['-', '.']);
    match named && ["service", "timer"].contains(&kind) && text.len() <= 255 {
        true => Ok(text.into()),
        false => Err(format!("{}: expected NAME.service or NAME.timer", shown(text))),
    }
}

fn is_blank(c: char) -> bool {
    is_hidden(c) || c.is_whitespace()
}

fn is_user(text: &str) -> bool {
    text.len() <= 32 && is_word(text)
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::unit_name;
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
        let too_long =
            format!(".path: \"/{}…\": longer than a path or a file's name can be", "a".repeat(59));
        let cases = [
            (r#""path": "/a", "mode": "0640", "content": """#.to_string(), None),
            (format!(r#""path": "/a", "mode": "640", "local": "b", "sha256": "{sum}""#), None),
            (
                r#""path": "a", "mode": "0640", "content": """#.to_string(),
                Some(".path: \"a\": expected an absolute path"),
            ),
            (
                r#""path": "/a/../b", "mode": "0640", "content": """#.to_string(),
                Some(".path: \"/a/../b\": expected a path without '..', '.', '//' and a final '/'"),
            ),
            (
                r#""path": "/a/", "mode": "0640", "content": """#.to_string(),
                Some(".path: \"/a/\": expected a path without '..', '.', '//' and a final '/'"),
            ),
            (
                r#""path": "/a\nb", "mode": "0640", "content": """#.to_string(),
                Some(".path: \"/a\\nb\": expected a path without control characters"),
            ),
            (
                r#""path": "/a/.etcd-tools", "mode": "0640", "content": """#.to_string(),
                Some(
                    ".path: \"/a/.etcd-tools\": these tools stage in folders of that name: choose another",
                ),
            ),
            (
                r#""path": "/a", "mode": "0999", "content": """#.to_string(),
                Some(".mode: \"0999\": expected an octal string such as \"0640\""),
            ),
            (r#""path": "/a", "mode": "4755", "content": """#.to_string(), None),
            (r#""path": "/a", "absent": true"#.to_string(), None),
            (
                r#""path": "/a", "absent": true, "content": """#.to_string(),
                Some(": absent, with content or local: expected one"),
            ),
            (
                r#""path": "/a", "mode": "0640", "owner": "-x", "content": """#.to_string(),
                Some(".owner: \"-x\": not the name of a user or group"),
            ),
            (
                r#""path": "/a", "mode": "0640", "owner": "4294967294", "content": """#.to_string(),
                None,
            ),
            (
                r#""path": "/a", "mode": "0640", "owner": "4294967295", "content": """#.to_string(),
                Some(
                    ".owner: \"4294967295\": expected a number from 0 to 4294967294, without zeros before it",
                ),
            ),
            (
                r#""path": "/a", "mode": "0640", "group": "0001234", "content": """#.to_string(),
                Some(
                    ".group: \"0001234\": expected a number from 0 to 4294967294, without zeros before it",
                ),
            ),
            (
                r#""path": "/a", "mode": "0640""#.to_string(),
                Some(": neither content, local nor absent: expected one"),
            ),
            (
                r#""path": "/a", "mode": "0640", "content": "", "local": "b""#.to_string(),
                Some(": both content and local: expected one"),
            ),
            (r#""path": "/a", "mode": "0640", "local": "b""#.to_string(), None),
            (
                r#""path": "/a", "mode": "0640", "local": "b", "sha256": "12""#.to_string(),
                Some(".sha256: \"12\": expected 64 lower-case hex digits"),
            ),
            (
                format!(r#""path": "/{}", "mode": "0640", "content": """#, "a".repeat(256)),
                Some(&too_long),
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
        let below = r#"{"path": "/x/y/z", "mode": "0600", "content": ""}"#;
        let folder = r#"{"path": "/x/y", "mode": "0700"}"#;
        assert_eq!(
            problems(&format!(
                r#"{{"name": "a", "address": "1.1.1.1", "files": [{below}, {same}],
                     "directories": [{folder}, {{"path": "/xy", "mode": "0700"}}]}}"#
            )),
            [
                "stdin: nodes[0].directories[0].path: \"/x/y\": below nodes[0].files[1].path, \
                 which is a file",
                "stdin: nodes[0].files[0].path: \"/x/y/z\": below nodes[0].files[1].path, which \
                 is a file",
            ]
        );
        assert_eq!(
            problems(
                r#"{"name": "a b", "address": "300.1.1.1", "settings":
                    {"electionTimeoutMs": 100, "env": {"PATH": "x", "ETCD_CONFIG_FILE": "y",
                     "ETCD_DATA_DIR": "/srv", "ETCD_FORCE_NEW_CLUSTER": "true"}}}"#
            ),
            [
                "stdin: nodes[0].name: \"a b\": expected letters, digits, '.', '_' and '-'",
                "stdin: nodes[0].address: \"300.1.1.1\": neither an IP address nor a DNS name",
                "stdin: nodes[0].settings.env: ETCD_CONFIG_FILE makes etcd ignore every other \
                 setting",
                "stdin: nodes[0].settings.env: ETCD_DATA_DIR is dataDir: set that instead",
                "stdin: nodes[0].settings.env: ETCD_FORCE_NEW_CLUSTER removes all other members \
                 at the next start: leave it out",
                "stdin: nodes[0].settings.env: \"PATH\": expected a name such as \"ETCD_LOGGER\"",
                "stdin: nodes[0].settings.electionTimeoutMs: 100 with a heartbeat of 100: \
                 etcd requires at least 5 times the heartbeat, and at most 50000",
            ]
        );
        assert_eq!(
            problems(r#"{"name": "..", "address": "1.1.1.1"}"#),
            ["stdin: nodes[0].name: \"..\": expected letters, digits, '.', '_' and '-'"]
        );
        assert_eq!(problems(""), ["stdin: nodes: no nodes"]);
        assert_eq!(
            problems(
                r#"{"name": "a", "address": "1.1.1.1", "users":
                    [{"name": "1000", "home": "/srv"}, {"name": "a", "home": "/srv:1"}]}"#
            ),
            [
                "stdin: nodes[0].users[0].name: \"1000\": not a user name",
                "stdin: nodes[0].users[1].home: \"/srv:1\": expected a path without ':'",
            ]
        );
    }

    #[test]
    fn variables_that_stop_a_member_are_refused() {
        let env = |name: &str, value: &str| {
            let found = problems(&format!(
                r#"{{"name": "a", "address": "1.1.1.1", "settings": {{"env": {{"{name}": "{value}"}}}}}}"#
            ));
            let place = "stdin: nodes[0].settings.env: ";
            found.iter().map(|line| line.replace(place, "")).collect::<Vec<_>>().join("\n")
        };
        for (name, value, expected) in [
            (
                "ETCD_LISTEN_PEER_URLS",
                "https://127.0.0.1:2380",
                "ETCD_LISTEN_PEER_URLS is made from the node's address and peerPort: set those \
                 instead",
            ),
            (
                "ETCD_PEER_TRUSTED_CA_FILE",
                "/srv/ca.crt",
                "ETCD_PEER_TRUSTED_CA_FILE is made from certDir: set that instead",
            ),
            (
                "ETCD_CLIENT_CERT_AUTH",
                "false",
                "ETCD_CLIENT_CERT_AUTH is always true, so that only certificates of the CA get \
                 in: leave it out",
            ),
            (
                "ETCD_QUOTA_BACKEND_BYTES",
                "8GB",
                "ETCD_QUOTA_BACKEND_BYTES: \"8GB\": expected a whole number, at most \
                 9223372036854775807",
            ),
            ("ETCD_QUOTA_BACKEND_BYTES", "-1", ""),
            ("ETCD_LOGGER", "zap", ""),
            // 3.4 starts with it, and no version is set.
            ("ETCD_LOGGER", "capnslog", ""),
            ("ETCD_LOGGER", "foo", "ETCD_LOGGER: \"foo\": expected zap"),
            (
                "ETCD_SNAPSHOT_COUNT",
                "-5",
                "ETCD_SNAPSHOT_COUNT: \"-5\": expected a whole number, not negative",
            ),
            (
                "ETCD_TLS_MIN_VERSION",
                "TLS1.9",
                "ETCD_TLS_MIN_VERSION: \"TLS1.9\": expected TLS1.2 or TLS1.3",
            ),
            (
                "ETCD_CIPHER_SUITES",
                "TLS_FOO",
                "ETCD_CIPHER_SUITES: \"TLS_FOO\": expected names such as \
                 TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 with commas and no blanks between them, \
                 with TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or \
                 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 among them",
            ),
            (
                "ETCD_LISTEN_METRICS_URLS",
                "http://1.1.1.1:2379",
                "ETCD_LISTEN_METRICS_URLS: \"http://1.1.1.1:2379\": the member itself listens \
                 on https://1.1.1.1:2379: choose another port",
            ),
        ] {
            assert_eq!(env(name, value), expected);
        }
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
    fn an_address_is_that_of_one_host() {
        let one = |address: &str| problems(&format!(r#"{{"name": "a", "address": "{address}"}}"#));
        assert_eq!(one("127.0.0.1"), [""; 0]);
        for (address, why) in [
            ("0.0.0.0", "no address of a host: give the one that others reach"),
            ("::", "no address of a host: give the one that others reach"),
            ("224.0.0.1", "a multicast address: give that of the host"),
            ("ff02::1", "a multicast address: give that of the host"),
        ] {
            assert_eq!(one(address), [format!("stdin: nodes[0].address: \"{address}\": {why}")]);
        }
    }

    #[test]
    fn one_host_is_one_node() {
        let two =
            |a: &str, b: &str| problems(&format!(r#"{{"name": "a", {a}}}, {{"name": "b", {b}}}"#));
        let cases = [
            (
                (r#""address": "fd00::1""#, r#""address": "FD00:0::1""#),
                "stdin: nodes[1].address: \"FD00:0::1\" is also nodes[0].address",
            ),
            (
                (r#""address": "::ffff:10.0.0.1""#, r#""address": "10.0.0.1""#),
                "stdin: nodes[1].address: \"10.0.0.1\" is also nodes[0].address",
            ),
            (
                (r#""address": "n1.example.org""#, r#""address": "N1.example.org""#),
                "stdin: nodes[1].address: \"N1.example.org\" is also nodes[0].address",
            ),
            (
                (
                    r#""address": "10.0.0.1", "hostname": "m1""#,
                    r#""address": "10.0.0.2", "hostname": "M1""#,
                ),
                "stdin: nodes[1].hostname: \"M1\" is also nodes[0].hostname",
            ),
            (
                (
                    r#""address": "10.0.0.1", "ssh": {"host": "jump"}"#,
                    r#""address": "10.0.0.2", "ssh": {"host": "jump"}"#,
                ),
                "stdin: nodes[1].ssh.host: \"jump\" is also nodes[0].ssh.host",
            ),
        ];
        for ((a, b), expected) in cases {
            assert_eq!(two(a, b), [expected]);
        }
        let ports = two(
            r#""address": "10.0.0.1", "ssh": {"host": "gateway", "port": 2201}"#,
            r#""address": "10.0.0.2", "ssh": {"host": "gateway", "port": 2202}"#,
        );
        assert_eq!(ports, [""; 0]);
    }

    #[test]
    fn settings_are_named_where_they_stand() {
        let text = |cluster: &str, node: &str| {
            let text = format!(
                r#"{{"apiVersion": "etcd-tools/v1", "cluster": {{"settings": {{{cluster}}}}}, "nodes": [
                    {{"name": "a", "address": "1.1.1.1", "settings": {{{node}}}}},
                    {{"name": "b", "address": "1.1.1.2"}}, {{"name": "c", "address": "1.1.1.3"}}]}}"#
            );
            parse(text.as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(
            text(r#""dataDir": "here""#, r#""user": "a b""#),
            "stdin: nodes[0].settings.user: \"a b\": not a user name\n\
             stdin: cluster.settings.dataDir: \"here\": expected an absolute path"
        );
        assert_eq!(
            text(r#""peerPort": 2379"#, r#""clientPort": 0"#),
            "stdin: nodes[0].settings.clientPort: 0 is not a port\n\
             stdin: cluster.settings.peerPort: 2379 is also the client port"
        );
        assert_eq!(
            text("", r#""peerPort": 2379"#),
            "stdin: nodes[0].settings.peerPort: 2379 is also the client port"
        );
    }

    /// The lines of a document whose cluster and first node have these settings.
    fn of_settings(cluster: &str, node: &str) -> Vec<String> {
        let text = format!(
            r#"{{"apiVersion": "etcd-tools/v1", "cluster": {{{cluster}}}, "nodes": [
                {{"name": "a", "address": "1.1.1.1", "settings": {{{node}}}}},
                {{"name": "b", "address": "b.example.com"}}]}}"#
        );
        let error = parse(text.as_bytes()).err().map(|error| error.to_string());
        error.iter().flat_map(|error| error.lines()).map(str::to_owned).collect()
    }

    #[test]
    fn settings_that_stop_a_member_are_refused() {
        assert_eq!(
            of_settings(
                r#""settings": {"logLevel": "inf", "autoCompactionRetention": "8hours"}"#,
                r#""listenMetricsUrls": "127.0.0.1:2381", "quotaBackendBytes": 9223372036854775808"#
            ),
            [
                "stdin: nodes[0].settings.quotaBackendBytes: \"9223372036854775808\": expected a \
                 whole number, at most 9223372036854775807",
                "stdin: nodes[0].settings.listenMetricsUrls: \"127.0.0.1:2381\": expected URLs of \
                 an IP address and a port, e.g. http://127.0.0.1:2381, with commas between them",
                "stdin: cluster.settings.autoCompactionRetention: \"8hours\": expected a \
                 duration of at least 1s, e.g. 8h, or a number",
                "stdin: cluster.settings.logLevel: \"inf\": expected debug, info, warn, error, \
                 panic, fatal, dpanic or warning",
            ]
        );
    }

    #[test]
    fn revisions_are_counted() {
        let mode = r#""settings": {"autoCompactionMode": "revision""#;
        let own = r#""autoCompactionRetention": "8h""#;
        let what = "with autoCompactionMode revision: expected a number of revisions, e.g. 10000";
        let of = |place: &str| format!("stdin: {place}.autoCompactionRetention: \"8h\": {what}");
        let [all, node] = ["cluster.settings", "nodes[0].settings"].map(of);
        assert_eq!(of_settings(&format!("{mode}}}"), "")[0], all);
        assert_eq!(of_settings(&format!("{mode}}}"), own)[0], node);
        let given = format!("{mode}, \"autoCompactionRetention\": \"28800000\"}}");
        assert!(of_settings(&given, "").is_empty());
        // As hours they would be more than etcd can count.
        let hours = "\"28800000\": a number is hours, at most 2562047: expected e.g. 8h";
        assert_eq!(
            of_settings(r#""settings": {"autoCompactionRetention": "28800000"}"#, ""),
            [format!("stdin: cluster.settings.autoCompactionRetention: {hours}")]
        );
        let variable = r#""env": {"ETCD_AUTO_COMPACTION_RETENTION": "28800000"}"#;
        assert_eq!(
            of_settings(r#""settings": {}"#, variable),
            [format!("stdin: nodes[0].settings.env.ETCD_AUTO_COMPACTION_RETENTION: {hours}")]
        );
    }

    #[test]
    fn the_version_of_the_document_decides() {
        let log = |version: &str| {
            of_settings(
                &format!(r#""version": "{version}", "settings": {{"logLevel": "WARN"}}"#),
                r#""env": {"ETCD_LOGGER": "capnslog", "ETCD_TLS_MIN_VERSION": "1"}"#,
            )
        };
        let level = "stdin: cluster.settings.logLevel: \"WARN\": expected debug, info, warn, \
                     error, panic, fatal or dpanic";
        assert_eq!(log("v3.4.45"), [level]);
        assert_eq!(
            log("v3.6.16"),
            [
                "stdin: nodes[0].settings.env: ETCD_LOGGER: \"capnslog\": expected zap",
                "stdin: nodes[0].settings.env: ETCD_TLS_MIN_VERSION: \"1\": expected TLS1.2 or \
                 TLS1.3",
            ]
        );
    }

    #[test]
    fn a_port_that_the_member_uses_is_refused() {
        let urls = |cluster: &str, node: &str| {
            let found = of_settings(&format!(r#""settings": {{{cluster}}}"#), node);
            found.iter().map(|line| line.replace("stdin: ", "")).collect::<Vec<_>>()
        };
        let metrics = |url: &str| format!(r#""listenMetricsUrls": "{url}""#);
        let taken = |place: &str, url: &str, other: &str| {
            [format!("{place}: {url:?}: the member itself listens on {other}: choose another port")]
        };
        // Only b listens on all addresses, but clients are served on loopback everywhere.
        let (cluster, node) = ("cluster.settings", "nodes[0].settings");
        let url = "http://127.0.0.1:2380";
        assert_eq!(urls("", &metrics(url)), [""; 0]);
        assert_eq!(
            urls(&metrics(url), ""),
            taken(&format!("{cluster}.listenMetricsUrls"), url, "https://0.0.0.0:2380")
        );
        let url = "http://127.0.0.1:2379";
        assert_eq!(
            urls("", &metrics(url)),
            taken(&format!("{node}.listenMetricsUrls"), url, "https://127.0.0.1:2379")
        );
        assert_eq!(urls("", &format!(r#"{}, "clientPort": 12379"#, metrics(url))), [""; 0]);
        let both = format!(
            r#"{}, "env": {{"ETCD_LISTEN_CLIENT_HTTP_URLS": "https://0.0.0.0:2381"}}"#,
            metrics("http://[::1]:2381")
        );
        assert_eq!(
            urls("", &both),
            taken(
                &format!("{node}.listenMetricsUrls"),
                "http://[::1]:2381",
                "https://0.0.0.0:2381"
            )
        );
        let moved = r#""env": {"ETCD_LISTEN_CLIENT_URLS": "https://1.1.1.1:2380"}"#;
        assert_eq!(
            urls("", moved),
            taken(
                &format!("{node}.env: ETCD_LISTEN_CLIENT_URLS"),
                "https://1.1.1.1:2380",
                "https://1.1.1.1:2380"
            )
        );
    }

    #[test]
    fn names_of_units() {
        for name in ["etcd.service", "a@b.service", "a@.service", "a.b:c_d-e@x.timer"] {
            assert_eq!(unit_name(name), Ok(name.into()));
        }
        let long = format!("{}.service", "a".repeat(250));
        for name in [
            "",
            "etcd",
            ".service",
            "a/b.service",
            "-a.service",
            "@b.service",
            "a@b@c.service",
            "a.txt",
            "a b.service",
            "a;b.service",
            "a\\x2d.mount",
            "../a.service",
            "a.socket",
            "a\n.service",
            &long,
        ] {
            assert!(unit_name(name).is_err(), "{name:?}");
        }
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
