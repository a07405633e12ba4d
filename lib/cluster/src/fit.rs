//! Does the document fit the cluster? Asked before the first write on any node.
//!
//! The running cluster is right, the document is a wish. A [`query`] says what of
//! etcd runs and lies on a node, in the same exchange that reads the node's
//! state; [`allows`] then asks the members that run what they know of the cluster,
//! and says what must not become true, with the way out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::{Access, CredentialArgs, Endpoint, Status};
use etcd::{Version, environment, layout, wal};
use futures::future::join_all;
use pipeline::document::{ClusterState, Member, Node, NodeSettings};
use pipeline::{Code, Document, Run, Severity, ToolResult, disk};
use remote::{Error, Host, Input, Query};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::{Held, Lease};

/// Says what of etcd runs and lies on a node.
const SCRIPT: &str = include_str!("fit.sh");

/// Removes the file `$1`.
const REMOVE: &str = r#"rm -f -- "$1" || die "$1: removing it failed""#;

/// What begins a line that [`SCRIPT`] writes.
const PREFIX: &str = "fit\t";

/// The limit of one member's answer: one that is frozen holds up nobody.
const LIMIT: Duration = Duration::from_secs(3);

/// What of etcd runs and lies on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    processes: Vec<Process>,
    /// The lines of the configuration on the disk.
    config: String,
    folders: Vec<Folder>,
    /// The unit file that systemd takes for etcd's.
    unit: Option<String>,
    /// The CA certificates, in PEM.
    ca: String,
    /// What the [mark](layout::member_mark) holds, if there is one.
    mark: Option<String>,
    /// What a binary says to `--version`, by its path; of those that are there.
    binaries: BTreeMap<String, String>,
}

/// A process of etcd in the network of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Process {
    pid: String,
    exe: String,
    /// The unit that it belongs to; something else outside of systemd.
    unit: String,
    version: Option<Version>,
    variables: BTreeMap<String, String>,
}

/// A data directory, and the folder of its write-ahead log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Folder {
    data: String,
    wal: String,
    /// Whether there is a database.
    database: bool,
    /// Whether there is a write-ahead log.
    log: bool,
    /// Whose the log is, where it can be read.
    identity: Option<Identity>,
    /// The first path in it that is not the user's, and its owner.
    stranger: Option<(String, String)>,
}

/// Whose data it is; IDs in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    member: String,
    cluster: String,
}

/// Asks what of etcd is on `node`, and whether the `binaries` run there; the answer
/// is for [`Facts::read`].
pub fn query(document: &Document, node: &Node, binaries: &[String]) -> Query {
    let settings = document.settings(node);
    let ca = format!("{}/{}", settings.cert_dir, layout::CA_CERT);
    let mut lines = Vec::new();
    let mut line = |kind: &str, value: &str| lines.extend(format!("{kind}\t{value}\n").bytes());
    line("data", &settings.data_dir);
    line("wal", &layout::wal_folder(&settings.data_dir, settings.wal_dir.as_deref()));
    line("user", &settings.user);
    line("ca", &ca);
    line("config", &layout::config_file(&settings.config_dir));
    line("mark", &layout::member_mark(&settings.config_dir));
    for binary in binaries {
        line("binary", binary);
    }
    line("end", "");
    Query { script: SCRIPT, input: lines }
}

/// Whether `document` says how etcd is to run on `node`: it brings its release,
/// its configuration or its unit. For a preflight every document does.
fn concerns(document: &Document, node: &Node, purpose: Purpose) -> bool {
    let config = layout::config_file(&document.settings(node).config_dir);
    purpose == Purpose::Preflight
        || document.release.is_some()
        || node.files.iter().any(|file| file.path == config)
        || node.units.iter().any(|unit| unit.name == layout::UNIT)
}

impl Facts {
    /// Reads the lines that answer a [`query`].
    pub fn read(answer: &[String]) -> Result<Self, Error> {
        let mut facts = Self::default();
        for line in answer {
            let fact = line.strip_prefix(PREFIX).and_then(|fact| facts.line(fact));
            fact.ok_or_else(|| {
                Error::CommandFailed(format!("unexpected output of the node: {line:?}"))
            })?;
        }
        Ok(facts)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (kind, value) = line.split_once('\t')?;
        match kind {
            "process" => {
                let [pid, exe, unit, version] = fields(value)?;
                let version = version.parse().ok();
                let process = Process { pid, exe, unit, version, ..Process::default() };
                self.processes.push(process);
            }
            "variable" => {
                if let Some((name, value)) = value.split_once('=') {
                    let process = self.processes.last_mut()?;
                    process.variables.insert(name.into(), value.into());
                }
            }
            "config" => self.config += &format!("{value}\n"),
            "folder" => {
                let [data, wal, database, head, stranger, owner] = fields(value)?;
                self.folders.push(Folder {
                    data,
                    wal,
                    database: !database.is_empty(),
                    log: !head.is_empty(),
                    identity: hex::decode(head).ok().and_then(|head| Identity::of_log(&head)),
                    stranger: Some((stranger, owner)).filter(|(path, _)| !path.is_empty()),
                });
            }
            "unit" => self.unit = Some(value.into()),
            "ca" => self.ca += &format!("{value}\n"),
            "mark" => self.mark = Some(value.into()),
            "binary" => {
                let (path, version) = value.split_once('\t')?;
                self.binaries.insert(path.into(), version.into());
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether the binary `path` is there and does not run as etcd: it is damaged,
    /// or of another architecture.
    pub fn is_broken(&self, path: &str) -> bool {
        self.binaries.get(path).is_some_and(|said| !said.starts_with(SAYS_VERSION))
    }

    /// The version that etcd's unit runs, where it runs and its version is known.
    pub fn running_version(&self) -> Option<Version> {
        self.process()?.version
    }

    /// Whether etcd's unit runs.
    pub fn is_running(&self) -> bool {
        self.process().is_some()
    }

    /// Whether the member has been ready at some time.
    fn was_ready(&self) -> bool {
        self.mark.as_deref() == Some(layout::MARK_READY)
    }

    /// Whether the member would start with data where the document wants them. A
    /// database without a log counts for nothing: etcd would begin anew.
    fn has_log(&self, settings: &NodeSettings) -> bool {
        self.folder(settings).is_some_and(|folder| folder.log)
    }

    /// Whether anything of a member lies where the document wants its data.
    fn has_data(&self, settings: &NodeSettings) -> bool {
        self.folder(settings).is_some_and(Folder::has_data)
    }

    /// The folder that the document wants.
    fn folder(&self, settings: &NodeSettings) -> Option<&Folder> {
        let wal = layout::wal_folder(&settings.data_dir, settings.wal_dir.as_deref());
        self.folders.iter().find(|f| f.data == settings.data_dir && f.wal == wal)
    }

    /// The process of etcd's unit.
    fn process(&self) -> Option<&Process> {
        self.processes.iter().find(|process| process.unit == layout::UNIT)
    }

    /// What the member was last told to be: by the configuration on the disk,
    /// which may be newer than the process, else by that.
    fn configured(&self) -> BTreeMap<String, String> {
        let config = environment::parse(&self.config);
        match self.process() {
            Some(process) if config.is_empty() => process.variables.clone(),
            _ => config,
        }
    }
}

/// What the first line of `etcd --version` begins with.
const SAYS_VERSION: &str = "etcd Version: ";

fn fields<const N: usize>(value: &str) -> Option<[String; N]> {
    let parts: Vec<_> = value.split('\t').map(str::to_owned).collect();
    parts.try_into().ok()
}

impl Folder {
    fn has_data(&self) -> bool {
        self.database || self.log
    }
}

impl Identity {
    /// Reads the beginning of a segment of the write-ahead log. Each begins with
    /// a checksum and the metadata: frames of 8 bytes for the length (the
    /// upper byte holds the padding) and a protobuf `walpb.Record`, whose data
    /// is an `etcdserverpb.Metadata` (`Create` and `encoder.encode` in etcd's
    /// server/storage/wal).
    fn of_log(mut bytes: &[u8]) -> Option<Self> {
        const METADATA: u64 = 1;
        for _ in 0..2 {
            let (frame, rest) = bytes.split_at_checked(8)?;
            let length = u64::from_le_bytes(frame.try_into().ok()?);
            let padding = if length >> 63 == 1 { (length >> 56) & 7 } else { 0 };
            let length = usize::try_from(length & ((1 << 56) - 1)).ok()?;
            let (record, rest) = rest.split_at_checked(length)?;
            bytes = rest.get(usize::try_from(padding).ok()?..)?;
            if number(record, 1)? == METADATA {
                let metadata = bytes_of(record, 3)?;
                return Some(Self {
                    member: format!("{:x}", number(metadata, 1)?),
                    cluster: format!("{:x}", number(metadata, 2)?),
                });
            }
        }
        None
    }
}

/// A field of a protobuf message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The field `wanted` of the protobuf `message`.
fn field(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    while !message.is_empty() {
        let key = wal::varint(&mut message)?;
        let found = match key & 7 {
            0 => Field::Number(wal::varint(&mut message)?),
            2 => {
                let length = usize::try_from(wal::varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        if key >> 3 == wanted {
            return Some(found);
        }
    }
    None
}

fn number(message: &[u8], wanted: u64) -> Option<u64> {
    match field(message, wanted)? {
        Field::Number(number) => Some(number),
        Field::Bytes(_) => None,
    }
}

fn bytes_of(message: &[u8], wanted: u64) -> Option<&[u8]> {
    match field(message, wanted)? {
        Field::Bytes(bytes) => Some(bytes),
        Field::Number(_) => None,
    }
}

/// What the members that run know of the cluster.
#[derive(Debug, Clone, Default)]
struct Cluster {
    /// What each says of itself, by the name of the node.
    replies: BTreeMap<String, Status>,
    /// The member list of the one that is to be trusted most; empty when none tells it.
    members: Vec<Member>,
}

impl Cluster {
    /// Asks the members that run on `nodes`, each through its host's SSH
    /// connection, at the port that it runs with, and all at once. Those that do
    /// not answer are left out: what they run with is known all the same.
    async fn ask(document: &Document, nodes: &[(&Node, &Host, Facts)]) -> Self {
        let credentials = CredentialArgs { cacert: None, cert: None, key: None, pki: "pki".into() };
        let Ok(access) = credentials.access(document, Some(LIMIT)) else { return Self::default() };
        let asked = nodes.iter().map(async |(node, host, facts)| {
            let url = facts.process()?.client_url()?;
            Some((node.name.clone(), reply(host, url, &access).await?))
        });
        let replies: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        let trusted = replies.iter().max_by_key(|(_, (status, members))| {
            (!members.is_empty(), status.leader.is_some(), status.raft_term, status.raft_index)
        });
        let members = trusted.map(|(_, (_, members))| members.clone()).unwrap_or_default();
        let of_itself = |(node, (status, _))| (node, status);
        Self { replies: replies.into_iter().map(of_itself).collect(), members }
    }

    fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }
}

async fn reply(host: &Host, url: (u16, String), access: &Access) -> Option<(Status, Vec<Member>)> {
    let (port, url) = url;
    let forward = host.forward(port).await.ok()?;
    let endpoint = Endpoint::over_unix_socket(&url, forward.socket(), access).ok()?;
    let (status, members) = futures::join!(endpoint.status(), endpoint.members());
    Some((status.ok()?, members.unwrap_or_default()))
}

impl Process {
    /// The port at which it serves clients, and its URL on the host itself.
    fn client_url(&self) -> Option<(u16, String)> {
        let urls = self.variables.get("ETCD_LISTEN_CLIENT_URLS")?;
        let (scheme, rest) = urls.split(',').next()?.split_once("://")?;
        let port = rest.trim_end_matches('/').rsplit_once(':')?.1.parse().ok()?;
        Some((port, format!("{scheme}://127.0.0.1:{port}")))
    }
}

/// What a tool is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Write files. With `replace_ca` the node's CA may be replaced by another.
    Push {
        /// Told in words.
        replace_ca: bool,
    },
    /// Start what is stopped.
    Start,
    /// Nothing yet: to learn whether the document fits, even one that says nothing but
    /// which nodes there are.
    Preflight,
}

/// What [`allows`] found where nothing is refused.
#[derive(Debug, Default)]
pub struct Allowed {
    facts: BTreeMap<String, Facts>,
    void_marks: BTreeSet<String>,
}

impl Allowed {
    /// What is on the node `name`.
    pub fn facts(&self, name: &str) -> Option<&Facts> {
        self.facts.get(name)
    }

    /// Removes the marks of members that were given up, where a new member is about to
    /// start without data; with `--check` it only says so. What fails is reported.
    pub async fn remove_void_marks(&self, run: &Run, lease: &Lease<'_>) {
        let void = |held: &&Held| self.void_marks.contains(&held.node.name);
        for Held { node, host, .. } in lease.selected.iter().filter(void) {
            let mark = layout::member_mark(&run.document.settings(node).config_dir);
            if run.check() {
                let would = format!("would remove {mark}: a new member takes the place of the old");
                run.report(ToolResult::would_change(would).on(&node.name));
            } else if let Err(error) = host.change(REMOVE, &[&mark], &[], LIMIT).await {
                run.report(error.on(&node.name));
            }
        }
    }
}

/// Compares the document of `run` with what is on its nodes, before anything is
/// written on any: the first query of `lease` was a [`query`]. What does not fit is
/// reported; nothing when something must not become true, and nothing may be written.
pub async fn allows(run: &Run, lease: &Lease<'_>, purpose: Purpose) -> Option<Allowed> {
    let mut nodes = Vec::new();
    let mut refused = false;
    for held in lease.selected.iter().chain(&lease.others) {
        match Facts::read(held.answers.first().map_or(&[], Vec::as_slice)) {
            Ok(facts) => nodes.push((held.node, &held.host, facts)),
            Err(error) => {
                refused = true;
                run.report(error.on(&held.node.name));
            }
        }
    }
    let mut verdict = check(&run.document, &run.nodes(), &nodes, purpose).await;
    if verdict.refuses() && !refused {
        // A member that is just starting may have made its log, and told the others of
        // itself, after the look at its node.
        look_again(&run.document, &mut nodes).await;
        verdict = check(&run.document, &run.nodes(), &nodes, purpose).await;
    }
    refused |= verdict.refuses();
    verdict.results.into_iter().for_each(|result| run.report(result));
    let facts = nodes.into_iter().map(|(node, _, facts)| (node.name.clone(), facts)).collect();
    (!refused).then_some(Allowed { facts, void_marks: verdict.void_marks })
}

/// What of `document` does not fit its `nodes`, all that answered a [`query`]: what
/// [`allows`] would refuse, found without a lock and reported by the caller.
pub async fn mismatches(document: &Document, nodes: &[(&Node, &Host, Facts)]) -> Vec<ToolResult> {
    let selected: Vec<_> = nodes.iter().map(|(node, ..)| *node).collect();
    check(document, &selected, nodes, Purpose::Preflight).await.results
}

#[derive(Debug, Default)]
struct Verdict {
    results: Vec<ToolResult>,
    /// The nodes whose mark is of a member that was given up.
    void_marks: BTreeSet<String>,
}

impl Verdict {
    fn refuses(&self) -> bool {
        self.results.iter().any(|result| result.severity == Severity::Error)
    }
}

/// Reads again what of etcd is on `nodes`, but for the binaries. A node that does not
/// answer keeps what it said.
async fn look_again(document: &Document, nodes: &mut [(&Node, &Host, Facts)]) {
    let looks = nodes.iter_mut().map(async |(node, host, facts)| {
        let query = query(document, node, &[]);
        let answer = host.run(query.script, &[], &[Input::Bytes(query.input)]).await;
        if let Some(now) = answer.ok().and_then(|answer| Facts::read(&answer).ok()) {
            let binaries = std::mem::take(&mut facts.binaries);
            *facts = Facts { binaries, ..now };
        }
    });
    join_all(looks).await;
}

/// Compares `document` with what is on its `nodes`, all that answered; `selected` are
/// those to work on.
async fn check(
    document: &Document,
    selected: &[&Node],
    nodes: &[(&Node, &Host, Facts)],
    purpose: Purpose,
) -> Verdict {
    let is_selected = |node: &Node| selected.iter().any(|selected| selected.name == node.name);
    if !selected.iter().any(|node| concerns(document, node, purpose)) {
        return Verdict::default();
    }
    let cluster = Cluster::ask(document, nodes).await;
    let facts = nodes.iter().map(|(node, _, facts)| (*node, facts)).collect();
    let fit = Fit { document, facts, cluster: &cluster, purpose };
    let results = fit.compare(is_selected);
    let void = nodes.iter().filter(|(node, _, facts)| {
        is_selected(node) && concerns(document, node, purpose) && fit.mark_is_void(node, facts)
    });
    let void_marks = void.map(|(node, ..)| node.name.clone()).collect();
    Verdict { results, void_marks }
}

/// All that is compared.
struct Fit<'a> {
    /// What is wanted.
    document: &'a Document,
    /// The nodes that answered, those that are not to be worked on among them.
    facts: Vec<(&'a Node, &'a Facts)>,
    /// What the members that run say.
    cluster: &'a Cluster,
    /// What is about to be done.
    purpose: Purpose,
}

impl Fit<'_> {
    /// What must not become true on the nodes that `selected` says: an error
    /// each, with the node, what is, what is wanted and the way out. When there
    /// is one, nothing may be written on any node. Warnings are for what is
    /// allowed, and perhaps not meant.
    fn compare(&self, selected: impl Fn(&Node) -> bool) -> Vec<ToolResult> {
        let mut results = Vec::new();
        let unknown = Facts::default();
        for node in self.document.nodes.iter().filter(|node| selected(node)) {
            if !concerns(self.document, node, self.purpose) {
                continue;
            }
            let facts = self.facts.iter().find(|(other, _)| other.name == node.name);
            let settings = self.document.settings(node);
            let of_node = |facts| NodeFit { fit: self, node, facts, settings };
            let refusals = match facts {
                Some((_, facts)) => of_node(facts).refusals(),
                None if self.cluster.members.is_empty() => Vec::new(),
                // The cluster knows it, whether it answers or not.
                None => of_node(&unknown).listed().err().into_iter().collect(),
            };
            results.extend(
                refusals
                    .into_iter()
                    .map(|why| ToolResult::error(Code::Mismatch, why).on(&node.name)),
            );
        }
        let concerned =
            self.facts.iter().any(|(node, _)| concerns(self.document, node, self.purpose));
        if concerned {
            results.extend(self.version());
        }
        if concerned && results.is_empty() && matches!(self.purpose, Purpose::Push { .. }) {
            results.extend(self.warnings());
        }
        results
    }

    /// Whether etcd is about to be started on the node for the first time after its
    /// data was given up: it is a member that has not started yet, and the mark is
    /// that of another. Only asked when nothing was refused.
    fn mark_is_void(&self, node: &Node, facts: &Facts) -> bool {
        !self.cluster.members.is_empty()
            && facts.was_ready()
            && !facts.has_log(&self.document.settings(node))
    }

    /// Steps between versions that etcd does not support.
    fn version(&self) -> Option<ToolResult> {
        let document = self.document;
        let cluster = document.cluster.as_ref().and_then(|cluster| cluster.version.as_deref());
        let wanted =
            document.release.as_ref().map(|release| release.version.as_str()).or(cluster)?;
        let wanted: Version = wanted.parse().ok()?;
        let running: Vec<_> = self
            .facts
            .iter()
            .filter_map(|(node, facts)| Some((*node, self.running_version(node, facts)?)))
            .collect();
        let refusal = etcd::step(running.iter().map(|(_, version)| *version), wanted).err()?;
        let (node, _) = running.iter().find(|(_, version)| *version == refusal.from)?;
        Some(ToolResult::error(Code::Mismatch, refusal.to_string()).on(&node.name))
    }

    /// The version of the member itself; of one that does not run, that of the
    /// binary that would be started on its data.
    fn running_version(&self, node: &Node, facts: &Facts) -> Option<Version> {
        if let Some(status) = self.cluster.replies.get(&node.name) {
            return status.version.parse().ok();
        }
        if let Some(process) = facts.process() {
            return process.version;
        }
        let settings = self.document.settings(node);
        let said = facts.binaries.get(&format!("{}/etcd", settings.bin_dir))?;
        let version = said.strip_prefix(SAYS_VERSION)?.parse().ok();
        version.filter(|_| facts.has_data(&settings))
    }

    fn warnings(&self) -> Vec<ToolResult> {
        let mut warnings = Vec::new();
        let nodes = &self.document.nodes;
        for member in &self.cluster.members {
            let is_node = |node: &Node| {
                node.name == member.name || member.peer_urls.contains(&self.document.peer_url(node))
            };
            if !nodes.iter().any(is_node) {
                warnings.push(ToolResult::warning(
                    Code::UnknownMember,
                    format!(
                        "member {} of the cluster is not in the document: add it, or remove it \
                         with `etcdctl member remove {}`",
                        name_of(member),
                        member.id
                    ),
                ));
            }
        }
        let wanted = self.document.token();
        for (node, facts) in &self.facts {
            let variables = facts.process().map(|process| &process.variables);
            let token = variables.and_then(|v| v.get("ETCD_INITIAL_CLUSTER_TOKEN"));
            if let Some(token) = token.filter(|token| *token != wanted) {
                let message = format!(
                    "its cluster was made with the token {token:?}, which stays: {wanted:?} has \
                     no effect on it"
                );
                warnings.push(ToolResult::warning(Code::NoEffect, message).on(&node.name));
            }
        }
        warnings
    }
}

fn name_of(member: &Member) -> &str {
    if member.name.is_empty() { &member.id } else { &member.name }
}

/// One node, and all that it is compared with.
struct NodeFit<'a> {
    fit: &'a Fit<'a>,
    node: &'a Node,
    facts: &'a Facts,
    settings: NodeSettings,
}

impl NodeFit<'_> {
    fn refusals(&self) -> Vec<String> {
        if let Some(foreign) = self.foreign() {
            return vec![foreign];
        }
        let identity = self.moved().or_else(|| self.identity());
        [identity, self.stranger(), self.ca(), self.binary()].into_iter().flatten().collect()
    }

    /// An etcd that these tools did not install.
    fn foreign(&self) -> Option<String> {
        let facts = self.facts;
        let ours = |process: &&Process| {
            process.unit == layout::UNIT
                && (process.exe.starts_with(layout::RELEASES)
                    || self.fit.document.release.is_none())
        };
        if let Some(unit) = facts.unit.as_deref().filter(|at| !at.starts_with(layout::UNIT_DIR)) {
            let data = facts.process().and_then(|process| process.variables.get("ETCD_DATA_DIR"));
            let data = data.map(|data| format!(" in {data}")).unwrap_or_default();
            return Some(format!(
                "{unit} belongs to an etcd that these tools did not install: a new unit would \
                 override it and hide its data{data}: remove its package, or leave this node out"
            ));
        }
        let process = facts.processes.iter().find(|process| !ours(process))?;
        Some(format!(
            "process {} ({}, in {}) is an etcd that these tools did not install: stop and \
             remove it, or leave this node out",
            process.pid, process.exe, process.unit
        ))
    }

    /// Data in another folder than the document says.
    fn moved(&self) -> Option<String> {
        let facts = self.facts;
        let wanted = facts.folder(&self.settings)?;
        let runs = facts.process().map(|process| &process.variables);
        let told = facts.configured();
        for (variables, running) in runs.map(|v| (v, true)).into_iter().chain([(&told, false)]) {
            let Some(data) = variables.get("ETCD_DATA_DIR") else { continue };
            let wal = variables.get("ETCD_WAL_DIR");
            let wal = wal.cloned().unwrap_or_else(|| layout::wal_folder(data, None));
            let Some(old) = facts.folders.iter().find(|f| f.data == *data && f.wal == wal) else {
                continue;
            };
            if (&old.data, &old.wal) == (&wanted.data, &wanted.wal) || !(old.has_data() || running)
            {
                continue;
            }
            let (what, old, new, from, to) = match old.data == wanted.data {
                true => ("write-ahead log", &old.wal, &wanted.wal, old.wal.clone(), &wanted.wal),
                false => {
                    let member = format!("{}/{}", old.data, layout::MEMBER);
                    ("data", &old.data, &wanted.data, member, &wanted.data)
                }
            };
            if wanted.has_data() && !running && what == "data" {
                return Some(format!(
                    "there is data in {old} and in {new}: the member last ran with {old}: move \
                     the one that is not to be used away"
                ));
            }
            return Some(format!(
                "its {what} is in {old}, the document says {new}: change it back, or stop the \
                 member, move {from} to {to}, and run this again"
            ));
        }
        None
    }

    /// The member on the node is not the one that the document names.
    fn identity(&self) -> Option<String> {
        let cluster = self.fit.cluster;
        let folder = self.facts.folder(&self.settings);
        let data = folder.and_then(|folder| folder.identity.as_ref());
        let reply = cluster.replies.get(&self.node.name);
        let own =
            reply.map(|s| Identity { member: s.member_id.clone(), cluster: s.cluster_id.clone() });
        let own = own.as_ref().or(data);
        if let Some(why) = own.and_then(|own| self.other_cluster(own)) {
            return Some(why);
        }
        match (own, cluster.members.is_empty()) {
            (Some(own), false) => self.as_member(own),
            (_, true) if self.has_log() => self.as_configured(),
            (None, true) => self.new_cluster(),
            (Some(_), true) => None,
            (None, false) if self.has_log() => self.as_configured(),
            (None, false) => self.empty(),
        }
    }

    fn has_log(&self) -> bool {
        self.facts.has_log(&self.settings)
    }

    /// That there is no data, on the node, where the document wants them.
    fn lost(&self) -> String {
        let wal = layout::wal_folder(&self.settings.data_dir, self.settings.wal_dir.as_deref());
        format!(
            "its data is lost: there is no write-ahead log in {wal}, and it has run with one: mount the disk that holds it"
        )
    }

    /// Data of another cluster than the one that runs, or than another node's.
    fn other_cluster(&self, own: &Identity) -> Option<String> {
        let fit = self.fit;
        let runs = fit.cluster.replies.iter().map(|(node, status)| {
            (
                node.as_str(),
                Identity { member: status.member_id.clone(), cluster: status.cluster_id.clone() },
            )
        });
        let lies = fit.facts.iter().filter_map(|(node, facts)| {
            let folder = facts.folder(&fit.document.settings(node))?;
            Some((node.name.as_str(), folder.identity.clone()?))
        });
        let advice = format!(
            "move {}/{} of the wrong one away, or take it out of the document",
            self.settings.data_dir,
            layout::MEMBER
        );
        for (node, other) in runs.chain(lies).filter(|(node, _)| *node != self.node.name) {
            if other.cluster != own.cluster {
                return Some(format!(
                    "its data is of cluster {}, that of {node} is of cluster {}: {advice}",
                    own.cluster, other.cluster
                ));
            }
            if other.member == own.member {
                return Some(format!(
                    "its data is of member {}, and so is that of {node}: {advice}",
                    own.member
                ));
            }
        }
        None
    }

    /// The member `own` as the member list has it.
    fn as_member(&self, own: &Identity) -> Option<String> {
        let (node, url) = (self.node, self.url());
        let Some(member) = self.fit.cluster.member(&own.member) else {
            return Some(format!(
                "its data is of member {}, which the cluster has removed: move {}/{} away, then \
                 add the member: {}",
                own.member,
                self.settings.data_dir,
                layout::MEMBER,
                self.add()
            ));
        };
        if !member.name.is_empty() && member.name != node.name {
            return Some(format!(
                "its data is of member {}, the document calls it {}: a member keeps its name: \
                 change the document back",
                member.name, node.name
            ));
        }
        if !member.peer_urls.contains(&url) {
            return Some(format!(
                "the cluster knows it as {}, the document says {url}: change it back, or tell the \
                 cluster first, for one member at a time: \
                 `etcdctl member update {} --peer-urls={url}`",
                member.peer_urls.join(","),
                member.id
            ));
        }
        None
    }

    /// The member as it was last configured, where no member list is to be had.
    fn as_configured(&self) -> Option<String> {
        let (node, url) = (self.node, self.url());
        let told = self.facts.configured();
        if let Some(name) = told.get("ETCD_NAME").filter(|name| **name != node.name) {
            return Some(format!(
                "its data is of member {name}, the document calls it {}: a member keeps its name: \
                 change the document back",
                node.name
            ));
        }
        let urls = told.get("ETCD_INITIAL_ADVERTISE_PEER_URLS")?;
        let known = urls.split(',').any(|known| known == url);
        (!known).then(|| {
            format!(
                "the cluster knows it as {urls}, the document says {url}: change it back, or \
                 start the cluster as it is and tell it first: \
                 `etcdctl member update ID --peer-urls={url}`"
            )
        })
    }

    /// A node without data beside a cluster that runs.
    fn empty(&self) -> Option<String> {
        let member = match self.listed() {
            Ok(member) => member,
            Err(why) => return Some(why),
        };
        if !member.client_urls.is_empty() {
            return Some(format!(
                "{}, or remove the member from the cluster, then add it again: \
                 `etcdctl member remove {}`, then {}",
                self.lost(),
                member.id,
                self.add()
            ));
        }
        let added = member.name.is_empty();
        (added && self.settings.initial_cluster_state != ClusterState::Existing).then(|| {
            "it was added to the cluster that runs: set its initialClusterState to \"existing\", \
             or it would start a cluster of its own"
                .to_owned()
        })
    }

    /// The member of the member list that the node is to be, or why there is none.
    fn listed(&self) -> Result<&Member, String> {
        let (node, url) = (self.node, self.url());
        let members = &self.fit.cluster.members;
        let Some(member) = members.iter().find(|member| member.peer_urls.contains(&url)) else {
            return Err(match members.iter().find(|member| member.name == node.name) {
                Some(member) => format!(
                    "the cluster knows {} as {}, the document says {url}: change it back, or \
                     replace the member: `etcdctl member remove {}`, then {}",
                    node.name,
                    member.peer_urls.join(","),
                    member.id,
                    self.add()
                ),
                None => format!(
                    "it is not a member of the cluster that runs: add it first: {}, and set its \
                     initialClusterState to \"existing\"",
                    self.add()
                ),
            });
        };
        if !member.name.is_empty() && member.name != node.name {
            return Err(format!(
                "the cluster knows {url} as member {}, the document calls it {}: a member keeps \
                 its name: change the document back",
                member.name, node.name
            ));
        }
        Ok(member)
    }

    /// The command that makes the node a member.
    fn add(&self) -> String {
        format!("`etcdctl member add {} --peer-urls={}`", self.node.name, self.url())
    }

    /// A node without data where no cluster runs that could be asked.
    fn new_cluster(&self) -> Option<String> {
        let fit = self.fit;
        if fit.purpose != Purpose::Start {
            return None;
        }
        let data = &self.settings.data_dir;
        if self.facts.was_ready() {
            return Some(format!(
                "{}, or start the others (--only), then remove the member and add it again",
                self.lost()
            ));
        }
        let answered = |node: &&Node| fit.facts.iter().any(|(other, _)| other.name == node.name);
        if let Some(absent) = fit.document.nodes.iter().find(|node| !answered(node)) {
            return Some(format!(
                "{data} is empty, and {} did not answer: a new cluster is made only when every \
                 node has answered, and none has data",
                absent.name
            ));
        }
        let (other, _) = fit.facts.iter().find(|(node, facts)| {
            // One whose first start was cut off is no cluster yet.
            let began = facts.mark.as_ref().is_some_and(|_| !facts.was_ready());
            facts.was_ready() || (facts.has_data(&fit.document.settings(node)) && !began)
        })?;
        Some(format!(
            "{data} is empty, and {} has data: a new cluster is made only when no node has any: \
             start the others first (--only), so that the cluster can be asked",
            other.name
        ))
    }

    /// Data that the user cannot read.
    fn stranger(&self) -> Option<String> {
        let (path, owner) = self.facts.folder(&self.settings)?.stranger.as_ref()?;
        let NodeSettings { user, data_dir, wal_dir, .. } = &self.settings;
        let folders = wal_dir.as_ref().map(|wal| format!("{data_dir} {wal}"));
        Some(format!(
            "{path} belongs to {owner}, and etcd runs as {user}: `chown -R {user}:{user} {}`",
            folders.as_ref().unwrap_or(data_dir)
        ))
    }

    /// The CA on the node, which the new one does not contain.
    fn ca(&self) -> Option<String> {
        if self.fit.purpose != (Purpose::Push { replace_ca: false }) {
            return None;
        }
        let path = format!("{}/{}", self.settings.cert_dir, layout::CA_CERT);
        let file = self.node.files.iter().find(|file| file.path == path)?;
        let new = match (&file.content, &file.local) {
            (Some(content), _) => content.clone().into_bytes(),
            (None, Some(local)) => std::fs::read(local).ok()?,
            (None, None) => return None,
        };
        let new = fingerprints(&new);
        let lost =
            fingerprints(self.facts.ca.as_bytes()).into_iter().find(|ca| !new.contains(ca))?;
        let from = file.local.as_deref().unwrap_or("the document");
        Some(format!(
            "{path} holds the CA with sha256 {lost}, which {from} does not contain: run this with \
             the pki folder that this cluster was made with, or pass --replace-ca to cut off \
             whoever trusts that CA only"
        ))
    }

    /// A binary that would not start.
    fn binary(&self) -> Option<String> {
        if self.fit.purpose != Purpose::Start {
            return None;
        }
        let path = format!("{}/etcd", self.settings.bin_dir);
        let said = self.facts.binaries.get(&path)?;
        if said.starts_with(SAYS_VERSION) {
            return None;
        }
        // The shell that the C library tries on what the kernel refuses prints its bytes.
        let plain = said.chars().all(|c| c == ' ' || c.is_ascii_graphic());
        let why = if plain { said } else { "not an executable for this machine" };
        Some(format!("{path} does not run on this host ({why}): run etcd-push again"))
    }

    fn url(&self) -> String {
        self.fit.document.peer_url(self.node)
    }
}

/// The SHA-256 of each certificate in `pem`, in lower-case hex.
fn fingerprints(pem: &[u8]) -> BTreeSet<String> {
    CertificateDer::pem_slice_iter(pem).flatten().map(|der| disk::sha256(&der)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster of three that runs as its document says.
    struct World {
        document: Document,
        facts: Vec<(String, Facts)>,
        cluster: Cluster,
        purpose: Purpose,
    }

    const PUSH: Purpose = Purpose::Push { replace_ca: false };

    fn id(at: usize) -> String {
        format!("a{at}")
    }

    impl World {
        fn new() -> Self {
            let nodes =
                "m1:192.168.1.100:etcd-01\nm2:192.168.1.101:etcd-02\nm3:192.168.1.102:etcd-03";
            let mut document = pipeline::parse(nodes.as_bytes()).unwrap().document;
            let mut world = Self {
                document: document.clone(),
                facts: Vec::new(),
                cluster: Cluster::default(),
                purpose: PUSH,
            };
            for (at, node) in document.nodes.iter_mut().enumerate() {
                let url = world.document.peer_url(node);
                let lines = [
                    "unit\t/etc/systemd/system/etcd.service",
                    "process\t7\t/usr/local/lib/etcd-tools/v3.5.33-0a/etcd\tetcd.service\tv3.5.33",
                    &format!("variable\tETCD_NAME={}", node.name),
                    "variable\tETCD_DATA_DIR=/var/lib/etcd",
                    &format!("variable\tETCD_INITIAL_ADVERTISE_PEER_URLS={url}"),
                    "variable\tETCD_INITIAL_CLUSTER_TOKEN=k8s-etcd-cluster",
                    &format!("config\tETCD_NAME={}", node.name),
                    "config\tETCD_DATA_DIR=/var/lib/etcd",
                    &format!("config\tETCD_INITIAL_ADVERTISE_PEER_URLS={url}"),
                    "folder\t/var/lib/etcd\t/var/lib/etcd/member/wal\tdb\t00\t\t",
                    &format!("ca\t{}", CA.trim().replace('\n', "\nfit\tca\t")),
                    "mark\tready",
                    "binary\t/usr/local/bin/etcd\tetcd Version: 3.5.33",
                ];
                let mut answer =
                    lines.join("\nfit\t").lines().map(str::to_owned).collect::<Vec<_>>();
                answer[0].insert_str(0, PREFIX);
                let mut facts = Facts::read(&answer).unwrap();
                facts.folders[0].identity = Some(Identity { member: id(at), cluster: "c".into() });
                world.facts.push((node.name.clone(), facts));
                world.cluster.members.push(Member {
                    id: id(at),
                    name: node.name.clone(),
                    peer_urls: vec![url],
                    client_urls: vec!["https://client".into()],
                    is_learner: false,
                });
                world.cluster.replies.insert(
                    node.name.clone(),
                    Status {
                        member_id: id(at),
                        cluster_id: "c".into(),
                        version: "3.5.33".into(),
                        ..Status::default()
                    },
                );
                node.set_file(pipeline::document::File {
                    path: "/etc/etcd/etcd.conf".into(),
                    mode: "0644".into(),
                    owner: "root".into(),
                    group: "root".into(),
                    content: Some(String::new()),
                    local: None,
                    sha256: None,
                });
            }
            world.document = document;
            world
        }

        fn node(&mut self, at: usize) -> &mut Node {
            &mut self.document.nodes[at]
        }

        fn facts(&mut self, at: usize) -> &mut Facts {
            &mut self.facts[at].1
        }

        /// Nobody runs.
        fn down(&mut self) {
            self.cluster = Cluster::default();
            self.facts.iter_mut().for_each(|(_, facts)| facts.processes.clear());
        }

        /// The node has nothing at all, and is about to be started.
        fn wipe(&mut self, at: usize) {
            let name = self.facts[at].0.clone();
            self.cluster.replies.remove(&name);
            self.purpose = Purpose::Start;
            *self.facts(at) = Facts {
                folders: vec![Folder {
                    data: "/var/lib/etcd".into(),
                    wal: "/var/lib/etcd/member/wal".into(),
                    ..Folder::default()
                }],
                ..Facts::default()
            };
        }

        fn with<T>(&self, job: impl FnOnce(Fit) -> T) -> T {
            let nodes = &self.document.nodes;
            let of_node = |name: &str| nodes.iter().find(|node| node.name == name);
            let facts = self.facts.iter();
            let facts = facts.filter_map(|(name, facts)| Some((of_node(name)?, facts)));
            job(Fit {
                document: &self.document,
                facts: facts.collect(),
                cluster: &self.cluster,
                purpose: self.purpose,
            })
        }

        fn found(&self) -> Vec<String> {
            let line = |result: ToolResult| {
                let node = result.node.map(|node| format!("{node}: ")).unwrap_or_default();
                let mark = if result.severity == Severity::Warning { "warning: " } else { "" };
                format!("{node}{mark}{}", result.message)
            };
            self.with(|fit| fit.compare(|_| true).into_iter().map(line).collect())
        }
    }

    /// Asserts what is found after `edit`; no line: it fits.
    #[track_caller]
    fn found(edit: impl FnOnce(&mut World), expected: &[&str]) {
        let mut world = World::new();
        edit(&mut world);
        assert_eq!(world.found(), expected);
    }

    #[test]
    fn what_runs_fits() {
        found(|_| {}, &[]);
        found(|w| w.purpose = Purpose::Start, &[]);
        found(World::down, &[]);
        found(|w| w.node(0).settings.client_port = Some(12379), &[]);
        found(|w| w.document.nodes.reverse(), &[]);
        // Hosts that have nothing yet.
        for purpose in [PUSH, Purpose::Start] {
            found(
                |w| {
                    w.down();
                    (0..3).for_each(|at| w.wipe(at));
                    w.purpose = purpose;
                },
                &[],
            );
        }
        // A node of which the document says nothing.
        found(
            |w| {
                w.node(1).files.clear();
                w.node(1).settings.peer_port = Some(1);
            },
            &[],
        );
    }

    #[test]
    fn a_member_keeps_its_name_and_its_peer_url() {
        let port = "etcd-02: the cluster knows it as https://192.168.1.101:2380, the document says \
                    https://192.168.1.101:1: change it back, or tell the cluster first, for one \
                    member at a time: \
                    `etcdctl member update a1 --peer-urls=https://192.168.1.101:1`";
        found(|w| w.node(1).settings.peer_port = Some(1), &[port]);
        // The cluster has been told.
        found(
            |w| {
                w.node(1).settings.peer_port = Some(1);
                w.cluster.members[1].peer_urls = vec!["https://192.168.1.101:1".into()];
            },
            &[],
        );
        found(
            |w| {
                w.down();
                w.node(1).settings.peer_port = Some(1);
            },
            &["etcd-02: the cluster knows it as https://192.168.1.101:2380, the document says \
               https://192.168.1.101:1: change it back, or start the cluster as it is and tell it \
               first: `etcdctl member update ID --peer-urls=https://192.168.1.101:1`"],
        );
        let renamed = |from: &str, to: &str| {
            format!(
                "{to}: its data is of member {from}, the document calls it {to}: a member keeps \
                 its name: change the document back"
            )
        };
        let rename = |w: &mut World| {
            w.node(0).name = "db".into();
            w.facts[0].0 = "db".into();
            if let Some(status) = w.cluster.replies.remove("etcd-01") {
                w.cluster.replies.insert("db".into(), status);
            }
        };
        found(rename, &[&renamed("etcd-01", "db")]);
        found(
            |w| {
                w.down();
                rename(w);
            },
            &[&renamed("etcd-01", "db")],
        );
        found(
            |w| {
                let (a, b) =
                    (w.document.nodes[0].address.clone(), w.document.nodes[1].address.clone());
                (w.node(0).address, w.node(1).address) = (b, a);
                w.facts.swap(0, 1);
                w.facts[0].0 = "etcd-01".into();
                w.facts[1].0 = "etcd-02".into();
                let replies = &mut w.cluster.replies;
                let (a, b) = (replies["etcd-01"].clone(), replies["etcd-02"].clone());
                replies.insert("etcd-01".into(), b);
                replies.insert("etcd-02".into(), a);
            },
            &[&renamed("etcd-02", "etcd-01"), &renamed("etcd-01", "etcd-02")],
        );
        // The host at the new address does not even answer.
        found(
            |w| {
                w.node(2).address = "192.168.1.109".into();
                w.facts.pop();
                w.cluster.replies.remove("etcd-03");
            },
            &[
                "etcd-03: the cluster knows etcd-03 as https://192.168.1.102:2380, the document says \
               https://192.168.1.109:2380: change it back, or replace the member: \
               `etcdctl member remove a2`, then \
               `etcdctl member add etcd-03 --peer-urls=https://192.168.1.109:2380`",
            ],
        );
    }

    #[test]
    fn data_stay_where_they_are() {
        let moved = "etcd-01: its data is in /var/lib/etcd, the document says /srv: change it \
                     back, or stop the member, move /var/lib/etcd/member to /srv, and run this \
                     again";
        let srv = |w: &mut World| {
            w.node(0).settings.data_dir = Some("/srv".into());
            let folder =
                Folder { data: "/srv".into(), wal: "/srv/member/wal".into(), ..Folder::default() };
            w.facts(0).folders.push(folder);
        };
        found(srv, &[moved]);
        found(
            |w| {
                w.down();
                srv(w);
            },
            &[moved],
        );
        // Both have some.
        found(
            |w| {
                w.down();
                srv(w);
                w.facts(0).folders[1].log = true;
            },
            &["etcd-01: there is data in /var/lib/etcd and in /srv: the member last ran with \
               /var/lib/etcd: move the one that is not to be used away"],
        );
        // It was moved.
        found(
            |w| {
                w.down();
                srv(w);
                let old = &mut w.facts(0).folders[0];
                let new =
                    Folder { data: "/srv".into(), wal: "/srv/member/wal".into(), ..old.clone() };
                (old.database, old.log, old.identity) = (false, false, None);
                w.facts(0).folders[1] = new;
            },
            &[],
        );
        found(
            |w| {
                w.node(0).settings.wal_dir = Some("/wal".into());
                let folder = Folder {
                    data: "/var/lib/etcd".into(),
                    wal: "/wal/wal".into(),
                    database: true,
                    ..Folder::default()
                };
                w.facts(0).folders.push(folder);
            },
            &["etcd-01: its write-ahead log is in /var/lib/etcd/member/wal, the document says \
               /wal/wal: change it back, or stop the member, move /var/lib/etcd/member/wal to /wal/wal, \
               and run this again"],
        );
        found(
            |w| {
                let path = "/var/lib/etcd/member/snap/db".to_owned();
                w.facts(0).folders[0].stranger = Some((path, "root".into()));
            },
            &["etcd-01: /var/lib/etcd/member/snap/db belongs to root, and etcd runs as etcd: \
               `chown -R etcd:etcd /var/lib/etcd`"],
        );
    }

    #[test]
    fn data_of_others_are_not_used() {
        let identity = |member: &str, cluster: &str| {
            Some(Identity { member: member.into(), cluster: cluster.into() })
        };
        let advice =
            "move /var/lib/etcd/member of the wrong one away, or take it out of the document";
        let stopped = |w: &mut World| drop(w.cluster.replies.remove("etcd-01"));
        found(
            |w| {
                stopped(w);
                w.facts(0).folders[0].identity = identity("f", "d");
            },
            &[
                &format!(
                    "etcd-01: its data is of cluster d, that of etcd-02 is of cluster c: {advice}"
                ),
                &format!(
                    "etcd-02: its data is of cluster c, that of etcd-01 is of cluster d: {advice}"
                ),
                &format!(
                    "etcd-03: its data is of cluster c, that of etcd-01 is of cluster d: {advice}"
                ),
            ],
        );
        found(
            |w| {
                w.down();
                w.facts(0).folders[0].identity = identity("a1", "c");
            },
            &[
                &format!("etcd-01: its data is of member a1, and so is that of etcd-02: {advice}"),
                &format!("etcd-02: its data is of member a1, and so is that of etcd-01: {advice}"),
            ],
        );
        found(
            |w| {
                stopped(w);
                w.facts(0).folders[0].identity = identity("f", "c");
            },
            &["etcd-01: its data is of member f, which the cluster has removed: move \
               /var/lib/etcd/member away, then add the member: \
               `etcdctl member add etcd-01 --peer-urls=https://192.168.1.100:2380`"],
        );
    }

    #[test]
    fn nobody_starts_empty_beside_a_cluster() {
        let lost = "etcd-01: its data is lost: there is no write-ahead log in \
                    /var/lib/etcd/member/wal, and it has run with one: mount the disk that holds it";
        found(
            |w| w.wipe(0),
            &[&format!(
                "{lost}, or remove the member from the cluster, then add it again: \
                 `etcdctl member remove a0`, then \
                 `etcdctl member add etcd-01 --peer-urls=https://192.168.1.100:2380`"
            )],
        );
        found(
            |w| {
                w.wipe(0);
                w.cluster.members.remove(0);
            },
            &["etcd-01: it is not a member of the cluster that runs: add it first: \
               `etcdctl member add etcd-01 --peer-urls=https://192.168.1.100:2380`, and set its \
               initialClusterState to \"existing\""],
        );
        // It was added, and is to join.
        let added = |w: &mut World| {
            w.wipe(0);
            w.cluster.members[0].name.clear();
            w.cluster.members[0].client_urls.clear();
        };
        found(
            added,
            &["etcd-01: it was added to the cluster that runs: set its initialClusterState to \
               \"existing\", or it would start a cluster of its own"],
        );
        let existing = |w: &mut World| {
            w.node(0).settings.initial_cluster_state = Some(ClusterState::Existing);
        };
        found(
            |w| {
                added(w);
                existing(w);
            },
            &[],
        );
        // The first start of a new cluster was cut off: its members are known.
        found(
            |w| {
                w.wipe(0);
                w.cluster.members[0].client_urls.clear();
            },
            &[],
        );
        // The mark of the member that it replaces.
        let mut world = World::new();
        added(&mut world);
        existing(&mut world);
        world.facts(0).mark = Some(layout::MARK_READY.into());
        assert_eq!(world.found(), [] as [&str; 0]);
        let void = world.with(|fit| {
            fit.facts.iter().map(|(node, facts)| fit.mark_is_void(node, facts)).collect::<Vec<_>>()
        });
        assert_eq!(void, [true, false, false]);
        let world = World::new();
        assert!(!world.with(|fit| fit.facts.iter().any(|(n, facts)| fit.mark_is_void(n, facts))));
    }

    #[test]
    fn a_new_cluster_is_made_only_where_there_has_never_been_one() {
        let wiped = |nodes: &'static [usize]| {
            move |w: &mut World| {
                w.down();
                nodes.iter().for_each(|at| w.wipe(*at));
            }
        };
        let beside = |node: &str, other: &str| {
            format!(
                "{node}: /var/lib/etcd is empty, and {other} has data: a new cluster is made only \
                 when no node has any: start the others first (--only), so that the cluster can be \
                 asked"
            )
        };
        found(wiped(&[1, 2]), &[&beside("etcd-02", "etcd-01"), &beside("etcd-03", "etcd-01")]);
        // That was deployed before there were marks.
        found(
            |w| {
                wiped(&[1, 2])(w);
                w.facts(0).mark = None;
            },
            &[&beside("etcd-02", "etcd-01"), &beside("etcd-03", "etcd-01")],
        );
        let silent = |node: &str| {
            format!(
                "{node}: /var/lib/etcd is empty, and etcd-03 did not answer: a new cluster is made \
                 only when every node has answered, and none has data"
            )
        };
        found(
            |w| {
                wiped(&[0, 1])(w);
                w.facts.pop();
            },
            &[&silent("etcd-01"), &silent("etcd-02")],
        );
        // All data are gone, and a mark says that there were some.
        let lost = "etcd-01: its data is lost: there is no write-ahead log in \
                    /var/lib/etcd/member/wal, and it has run with one: mount the disk that holds \
                    it, or start the others (--only), then remove the member and add it again";
        found(
            |w| {
                wiped(&[0, 1, 2])(w);
                w.facts(0).mark = Some(layout::MARK_READY.into());
            },
            &[lost, &beside("etcd-02", "etcd-01"), &beside("etcd-03", "etcd-01")],
        );
        // The first start was cut off.
        found(
            |w| {
                wiped(&[1, 2])(w);
                w.facts(0).mark = Some("starting".into());
            },
            &[],
        );
        // Pushing files starts nothing.
        found(
            |w| {
                wiped(&[1, 2])(w);
                w.purpose = PUSH;
            },
            &[],
        );
    }

    #[test]
    fn an_etcd_of_others_is_left_alone() {
        found(
            |w| w.facts(0).unit = Some("/lib/systemd/system/etcd.service".into()),
            &["etcd-01: /lib/systemd/system/etcd.service belongs to an etcd that these tools did \
               not install: a new unit would override it and hide its data in /var/lib/etcd: \
               remove its package, or leave this node out"],
        );
        found(
            |w| {
                w.facts(0).processes[0].unit = "kv.service".into();
                w.facts(0).processes[0].exe = "/opt/etcd".into();
            },
            &["etcd-01: process 7 (/opt/etcd, in kv.service) is an etcd that these tools did not \
               install: stop and remove it, or leave this node out"],
        );
    }

    #[test]
    fn versions_go_in_steps() {
        let to = |version: &'static str| {
            move |w: &mut World| {
                w.document.cluster = Some(pipeline::document::Cluster {
                    version: Some(version.into()),
                    ..Default::default()
                });
            }
        };
        found(to("v3.6.16"), &[]);
        let refused = "etcd-01: v3.5.33 → v3.4.23: etcd 3.4 cannot read the data of 3.5: keep 3.5, \
                       or restore a snapshot that etcd 3.4 took";
        found(to("v3.4.23"), &[refused]);
        // Nobody runs: what lies there was written by the binary that is installed.
        found(
            |w| {
                w.down();
                to("v3.4.23")(w);
            },
            &[refused],
        );
        found(
            |w| {
                to("v3.6.16")(w);
                w.cluster.replies.get_mut("etcd-02").unwrap().version = "3.5.16".into();
            },
            &["etcd-02: v3.5.16 → v3.6.16: every member must run v3.5.32 or later first: upgrade \
               v3.5.16 → v3.5.33 → v3.6.16"],
        );
        found(
            |w| {
                w.purpose = Purpose::Start;
                let said = "timeout: failed to run command".to_owned();
                w.facts(1).binaries.insert("/usr/local/bin/etcd".into(), said);
            },
            &["etcd-02: /usr/local/bin/etcd does not run on this host (timeout: failed to run \
               command): run etcd-push again"],
        );
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let token = |node: &str| {
            format!(
                "{node}: warning: its cluster was made with the token \"k8s-etcd-cluster\", which \
                 stays: \"other\" has no effect on it"
            )
        };
        found(
            |w| {
                w.document.cluster = Some(pipeline::document::Cluster {
                    token: Some("other".into()),
                    ..Default::default()
                });
            },
            &[&token("etcd-01"), &token("etcd-02"), &token("etcd-03")],
        );
        found(
            |w| {
                w.document.nodes.pop();
                w.facts.pop();
            },
            &[
                "warning: member etcd-03 of the cluster is not in the document: add it, or remove it \
               with `etcdctl member remove a2`",
            ],
        );
    }

    const CA: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    const OTHER_CA: &str = "-----BEGIN CERTIFICATE-----\nAAAB\n-----END CERTIFICATE-----";

    #[test]
    fn a_ca_is_replaced_only_by_one_that_contains_it() {
        let ca = |content: String| {
            move |w: &mut World| {
                w.node(1).set_file(pipeline::document::File {
                    path: "/etc/etcd/ssl/ca.crt".into(),
                    mode: "0644".into(),
                    owner: "root".into(),
                    group: "root".into(),
                    content: Some(content),
                    local: None,
                    sha256: None,
                });
            }
        };
        found(ca(CA.into()), &[]);
        found(ca(format!("# the new one\n{OTHER_CA}\n\n{CA}\n")), &[]);
        let refused = format!(
            "etcd-02: /etc/etcd/ssl/ca.crt holds the CA with sha256 {}, which the document does \
             not contain: run this with the pki folder that this cluster was made with, or pass \
             --replace-ca to cut off whoever trusts that CA only",
            disk::sha256(&[0, 0, 0])
        );
        found(ca(OTHER_CA.into()), &[&refused]);
        found(
            |w| {
                ca(OTHER_CA.into())(w);
                w.purpose = Purpose::Push { replace_ca: true };
            },
            &[],
        );
        // There is none yet.
        found(
            |w| {
                ca(OTHER_CA.into())(w);
                w.facts(1).ca.clear();
            },
            &[],
        );
    }

    /// The first bytes of a log that etcd 3.5.16 began for a new cluster.
    #[test]
    fn a_log_says_whose_it_is() {
        let head = [
            "04000000000000840804100000000000200000000000000008011087f495ba0a1a1608cdc0aecf95",
            "da88d1820110feba95859fe3ceb3fb010e0000000000008208051087ca97ef061a04080010000000",
            "7700000000000081080210c4d0cdbe061a6d080110011801226508001000188ae2c9bb92be9af344",
            "22557b226964223a",
        ];
        let head = hex::decode(head.concat()).unwrap();
        let identity =
            Identity { member: "82a222d159eba04d".into(), cluster: "fb673b19f0a55d7e".into() };
        assert_eq!(Identity::of_log(&head), Some(identity));
        for cut in 0..72 {
            let _ = Identity::of_log(&head[..cut]);
        }
        assert_eq!(Identity::of_log(&[0xff; 128]), None);
    }
}
