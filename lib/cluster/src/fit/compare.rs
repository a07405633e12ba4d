//! What is wanted, compared with what is: each refusal, and its way out.

use std::collections::BTreeSet;
use std::path::Path;

use etcd::{Version, layout};
use pipeline::document::{ClusterState, Member, Node, NodeSettings, Unit};
use pipeline::{Code, Document, Severity, ToolResult, disk};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::cluster::Cluster;
use super::environment::{self, Place, values};
use super::facts::{Facts, Folder, Process, SAYS_VERSION};
use super::identity::Identity;
use super::next::program;
use super::{Purpose, concerns, own};
use crate::guard::RECOVER;
use crate::units;

/// All that is compared.
pub(super) struct Fit<'a> {
    /// What is wanted.
    pub(super) document: &'a Document,
    /// The nodes that answered, those that are not to be worked on among them.
    pub(super) facts: Vec<(&'a Node, &'a Facts)>,
    /// What the members that run say.
    pub(super) cluster: &'a Cluster,
    /// What is about to be done.
    pub(super) purpose: Purpose,
    /// The CA certificates that whoever does it trusts, in PEM.
    pub(super) own_ca: &'a str,
    /// The nodes that are looked at before their files are put there.
    pub(super) pushed: &'a BTreeSet<&'a str>,
}

/// What is said of each of `members` that is on no node of `document`.
pub fn extra_members(document: &Document, members: &[Member]) -> Vec<String> {
    let extra = members.iter().filter(|member| document.node_of(member).is_none());
    let refusal = |member: &Member| {
        let name = member.label();
        format!(
            "member {name} of the cluster ({}) is not in the document: add it there, or remove \
             it: `etcd-member remove {name}`, or, where a new node takes its place: \
             `scripts/replace-member NODES {name}`",
            member.peer_urls.join(",")
        )
    };
    extra.map(refusal).collect()
}

/// What is said of each node of `document` of which `members` have the name or the peer URL,
/// and not both. Such a list changes no cluster: etcd-push would refuse what comes after.
pub fn misplaced(document: &Document, members: &[Member]) -> Vec<ToolResult> {
    let of_node = |node: &Node| {
        let (name, url) = (&node.name, document.peer_url(node));
        let why = match members.iter().find(|member| member.peer_urls.contains(&url)) {
            Some(member) => misnamed(member, name, &url)?,
            None => {
                let member = members.iter().find(|member| member.name == *name)?;
                let urls = member.peer_urls.join(",");
                let advice = advice_on(&urls, || {
                    format!(
                        "change it back, or see to that first: `etcd-member update --only {name}`"
                    )
                });
                format!("the cluster knows {name} as {urls}, the document says {url}: {advice}")
            }
        };
        Some(ToolResult::error(Code::Mismatch, why).on(name))
    };
    document.nodes.iter().filter_map(of_node).collect()
}

/// What to do where a member is known by its peer `urls`, and the document says another:
/// `usually`, unless it has none that these tools could bring there.
fn advice_on(urls: &str, usually: impl Fn() -> String) -> String {
    match urls.starts_with("http://") {
        true => format!("{PLAIN_PEERS}: leave it to what it was deployed with"),
        false => usually(),
    }
}

/// A member that runs, and would not come back: what it has written is not to be seen where its
/// next start looks for it.
#[derive(Debug)]
pub struct OutOfSight {
    /// What is wrong, and what to do, in words.
    pub why: String,
    /// Whether the data was deleted, and nothing but the process has it.
    pub is_deleted: bool,
}

/// Whether the member of `node`, which answered a [`query`](super::query) with `facts`, is
/// [out of sight](OutOfSight). `answers`: whether it serves, so that it has opened what it has.
pub fn out_of_sight(node: &Node, facts: &Facts, answers: bool) -> Option<OutOfSight> {
    // In these systemd shows the process folders that the host does not have.
    const ELSEWHERE: [&str; 4] = ["Bind", "RootDirectory=", "RootImage=", "TemporaryFileSystem="];
    let place = Place::of(&facts.process()?.variables)?;
    let is_on = facts.was_ready() || answers;
    let mut lines = facts.definition.iter().flat_map(|text| text.content.lines());
    if !is_on || lines.any(|line| ELSEWHERE.iter().any(|key| line.trim().starts_with(key))) {
        return None;
    }
    let folder = facts.folder(&place)?;
    let lost = match (folder.log, folder.database) {
        (true, true) if answers && facts.closed.contains(&place.data) => &place.data,
        (true, true) => return None,
        (false, _) => &place.wal,
        (true, false) => &place.data,
    };
    let is_deleted = facts.deleted.contains(&place.data);
    if !is_deleted {
        let why = format!(
            "etcd runs, and its data is not in {lost} any more: something is mounted over it, or it \
             was moved, and at its next start the member would be without it: undo that before it \
             is stopped"
        );
        return Some(OutOfSight { why, is_deleted });
    }
    let (name, data) = (&node.name, &place.data);
    let copy = match folder.log || folder.database {
        true => format!("rename what lies in {data}/{m} to {m}.old, ", m = layout::MEMBER),
        false => String::new(),
    };
    let why = format!(
        "etcd runs, and its data in {lost} was deleted: it serves from what it has open, and cannot \
         be started again: where other members serve, stop it, `etcd-unit stop --only {name}`, \
         {copy}and run {}; else save what it has first: `etcd-snapshot save --from {name}`",
        replace(node)
    );
    Some(OutOfSight { why, is_deleted })
}

/// The command that moves the folder `from` to `to`.
fn move_to(from: &str, to: &str) -> String {
    let (folder, name) = to.rsplit_once('/').unwrap_or_default();
    let keeps_name = from.rsplit('/').next() == Some(name);
    let to = if keeps_name { &format!("{folder}/") } else { to };
    format!("mkdir -p {folder} && mv {from} {to}")
}

/// The command that gives the member of `node` another start, on a node without data.
fn replace(node: &Node) -> String {
    format!("`scripts/replace-member NODES {}`", node.name)
}

/// That `member`, which is at `url`, has another name than the node there.
fn misnamed(member: &Member, name: &str, url: &str) -> Option<String> {
    let is_other = !member.name.is_empty() && member.name != name;
    is_other.then(|| {
        format!(
            "the cluster knows {url} as member {}, the document calls it {name}: a member keeps its \
             name: change the document back",
            member.name
        )
    })
}

impl Fit<'_> {
    /// Whether so many nodes have no data that the others are no quorum, and some have.
    fn is_majority_lost(&self) -> bool {
        let has_log = |&&(node, facts): &&(&Node, &Facts)| facts.has_log(&self.place(node, facts));
        let kept = self.facts.iter().filter(has_log).count();
        let lost = self.facts.len() - kept;
        let voters = self.document.nodes.len();
        kept > 0 && voters - lost < etcd::quorum::quorum(voters)
    }

    /// What must not become true on the nodes that `selected` says: an error
    /// each, with the node, what is, what is wanted and the way out. When there
    /// is one, nothing may be written on any node. Warnings are for what is
    /// allowed, and perhaps not meant.
    pub(super) fn compare(&self, selected: impl Fn(&Node) -> bool) -> Vec<ToolResult> {
        let mut results = Vec::new();
        let unknown = Facts::default();
        for node in self.document.nodes.iter().filter(|node| selected(node)) {
            let facts = self.facts.iter().find(|(other, _)| other.name == node.name);
            let of_node = |facts| NodeFit::new(self, node, facts);
            let concerned = concerns(self.document, node, self.purpose);
            if concerned && let Some((_, facts)) = facts {
                results.extend(of_node(facts).masked());
            }
            let refusals = match facts {
                Some((_, facts)) if concerned => of_node(facts).refusals(),
                // The CA is the cluster's, whatever else the document says of it.
                Some((_, facts)) => {
                    let of_node = of_node(facts);
                    let own = || of_node.own_files().or_else(|| of_node.own_drop_ins());
                    of_node.ca().or_else(own).into_iter().collect()
                }
                None if !concerned => Vec::new(),
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
            let refused = self.version();
            // A step that etcd does not support is not to be finished.
            if refused.is_empty() {
                results.extend(self.other_releases(&selected));
            }
            results.extend(refused);
            results.extend(self.extra_members());
            results.extend(self.tokens());
            // Whose list does not fit is not known then.
            let refusal = self.cluster.refusal.as_ref();
            let refusal = refusal.filter(|_| matches!(self.purpose, Purpose::Push { .. }));
            results.extend(refusal.map(|why| {
                let message = format!("cannot tell who the members are: {why}");
                ToolResult::error(Code::NoMemberList, message)
            }));
        }
        let refused = results.iter().any(|result| result.severity == Severity::Error);
        if concerned && !refused && matches!(self.purpose, Purpose::Push { .. }) {
            let nodes = self.document.nodes.iter().filter(|node| selected(node));
            results.extend(nodes.flat_map(|node| self.unknown_variables(node)));
            let left = |(node, facts): &(&Node, &Facts)| {
                [self.old_links(node, facts), self.old_keys(node, facts)]
            };
            results.extend(self.facts.iter().flat_map(left).flatten());
        }
        results
    }

    /// Whether etcd is about to be started on the node for the first time after its
    /// data was given up: it is a member that has not started yet, and the mark is
    /// that of another. Only asked when nothing was refused.
    pub(super) fn mark_is_void(&self, node: &Node, facts: &Facts) -> bool {
        !self.cluster.members.is_empty()
            && facts.was_ready()
            && !facts.runs_etcd()
            && !facts.has_log(&self.place(node, facts))
    }

    pub(super) fn place(&self, node: &Node, facts: &Facts) -> Place {
        Place::wanted(self.document, node, facts)
    }

    /// A node of the document that did not answer.
    fn absent(&self) -> Option<&Node> {
        let answered = |node: &&Node| self.facts.iter().any(|(other, _)| other.name == node.name);
        self.document.nodes.iter().find(|node| !answered(node))
    }

    /// The variables of the configuration that the document brings for `node` of which etcd
    /// takes no notice, besides those of its settings, of which etcd-render has warned.
    fn unknown_variables(&self, node: &Node) -> Vec<ToolResult> {
        let minor = self.wanted_version().map(Version::minor).filter(|minor| minor.is_known());
        let Some(minor) = minor else { return Vec::new() };
        let own = self.document.settings(node).env;
        let wanted = environment::wanted(self.document, node).into_iter();
        let wanted =
            wanted.filter(|(name, _)| name.starts_with("ETCD_") && !own.contains_key(name));
        let unknown = wanted.filter_map(|(name, set)| {
            let advice = etcd::settings::instead_of_unknown(&name, minor)?;
            let message = format!(
                "{}: {name}: unknown to etcd {minor}, which ignores it: {advice}",
                set.source
            );
            Some(ToolResult::warning(Code::UnknownVariable, message).on(&node.name))
        });
        unknown.collect()
    }

    /// The members that are on no node of the document. Where the nodes run more than one
    /// cluster, nobody knows whose they are.
    fn extra_members(&self) -> Vec<ToolResult> {
        let clusters: BTreeSet<_> =
            self.cluster.replies.values().map(|reply| &reply.cluster_id).collect();
        if clusters.len() > 1 {
            return Vec::new();
        }
        let refusal = |why| ToolResult::error(Code::UnknownMember, why);
        extra_members(self.document, &self.cluster.members).into_iter().map(refusal).collect()
    }

    /// The nodes whose member was started with another token than the document has: refused
    /// where the document names one itself and the IDs of members tell that the cluster was
    /// not made with it. That of a restored cluster is in no configuration.
    fn tokens(&self) -> Vec<ToolResult> {
        let wanted = self.document.token();
        let is_set = self.document.cluster.as_ref().is_some_and(|c| c.token.is_some());
        let made_with = |token: &str| {
            let mut members = self.cluster.members.iter();
            members.any(|m| m.id == etcd::member::id_in_new_cluster(&m.peer_urls, token))
        };
        let of_node = |(node, facts): &(&Node, &Facts)| {
            let token = facts.process()?.variables.get("ETCD_INITIAL_CLUSTER_TOKEN")?;
            if token == wanted || made_with(wanted) {
                return None;
            }
            let result = if is_set && made_with(token) {
                let message = format!(
                    "its cluster was made with the token {token:?}, which stays, and \
                     cluster.token is {wanted:?}: set it to {token:?}, or leave it out"
                );
                ToolResult::error(Code::Mismatch, message)
            } else if is_set || environment::is_brought(self.document, node) {
                let message = format!(
                    "it was started with the token {token:?}: {wanted:?} has no effect on a \
                     cluster that is there"
                );
                ToolResult::warning(Code::NoEffect, message)
            } else {
                return None;
            };
            Some(result.on(&node.name))
        };
        self.facts.iter().filter_map(of_node).collect()
    }

    /// The links to the release where an earlier deployment had them: the unit on the node
    /// needs them until it is replaced.
    fn old_links(&self, node: &Node, facts: &Facts) -> Option<ToolResult> {
        let old = facts.bin_dir()?;
        // Elsewhere the binaries of others may lie, which are no links.
        facts.process().filter(|process| process.exe.starts_with(layout::RELEASES))?;
        let new = self.document.settings(node).bin_dir;
        let release = self.document.release.as_ref().filter(|_| old != new)?;
        let archive = release.archives.iter().find(|archive| archive.arch == node.arch())?;
        let links = archive.binaries.iter().map(|binary| format!(" {old}/{}", binary.name));
        let message = format!(
            "its unit starts etcd from {old}, the document says {new}: the links in {old} stay, and \
             lead to the old release after the next upgrade: remove them when etcd-unit start has \
             run: `rm{}`",
            links.collect::<String>()
        );
        Some(ToolResult::warning(Code::LeftBehind, message).on(&node.name))
    }

    /// The private keys where an earlier deployment had them: the member needs them until it
    /// is restarted.
    fn old_keys(&self, node: &Node, facts: &Facts) -> Option<ToolResult> {
        let new = self.document.settings(node).cert_dir;
        let variables = &facts.process()?.variables;
        let keys = ["ETCD_KEY_FILE", "ETCD_PEER_KEY_FILE"].into_iter();
        let left: BTreeSet<_> = keys
            .filter_map(|name| variables.get(name))
            .filter(|path| path.rsplit_once('/').is_some_and(|(folder, _)| folder != new))
            .collect();
        let paths: String = left.iter().map(|path| format!(" {path}")).collect();
        let message = format!(
            "its private keys will be read from {new}, and stay where they are, too: remove them \
             when etcd-unit start has run: `rm{paths}`"
        );
        let result = ToolResult::warning(Code::LeftBehind, message).on(&node.name);
        Some(result).filter(|_| !left.is_empty() && environment::is_brought(self.document, node))
    }
}

/// What is to be done where not all nodes have what was restored.
const INTERRUPTED: &str = "a restore was interrupted: finish it, with the same file: \
                           `etcd-snapshot restore FILE`";

/// What a cluster that others deployed may be, which these tools cannot make.
pub const PLAIN_PEERS: &str = "its peers speak without TLS, and these tools with TLS only";

/// The commands that make a node a member.
const ADD: &str = "`scripts/grow NODES`, or `etcd-member add` before etcd-render";

/// One node, and all that it is compared with.
pub(super) struct NodeFit<'a> {
    pub(super) fit: &'a Fit<'a>,
    pub(super) node: &'a Node,
    pub(super) facts: &'a Facts,
    pub(super) settings: NodeSettings,
    /// Where the member is to have its data.
    pub(super) place: Place,
    /// What it is to be told to be, in URLs of its peers.
    pub(super) url: String,
}

impl<'a> NodeFit<'a> {
    pub(super) fn new(fit: &'a Fit, node: &'a Node, facts: &'a Facts) -> Self {
        let document = fit.document;
        let settings = document.settings(node);
        let mut url = document.peer_url(node);
        let is_known = fit.cluster.members.iter().any(|member| member.peer_urls.contains(&url));
        if !is_known && !environment::is_brought(document, node) {
            // A list of nodes says nothing of ports.
            let told = facts.configured(document, node);
            let prefix = format!("https://{}:", node.url_host());
            let urls = told.get("ETCD_INITIAL_ADVERTISE_PEER_URLS");
            url = urls.filter(|urls| urls.starts_with(&prefix)).cloned().unwrap_or(url);
        }
        Self { fit, node, facts, settings, place: fit.place(node, facts), url }
    }

    /// What etcd would be given at its next start.
    pub(super) fn next_start(&self) -> environment::Variables {
        environment::next_start(self.fit.document, self.node, self.facts)
    }

    fn refusals(&self) -> Vec<String> {
        if let Some(foreign) = self.foreign() {
            return vec![foreign];
        }
        // One that answers has opened what it has.
        let answers = self.fit.cluster.replies.contains_key(&self.node.name);
        if let Some(out_of_sight) = out_of_sight(self.node, self.facts, answers) {
            return vec![out_of_sight.why];
        }
        let next = self.next_start();
        if let Some(why) = self.harmful(&next).or_else(|| self.wrapped()) {
            return vec![why];
        }
        let overridden = self.overridden(&next);
        if !overridden.is_empty() {
            return overridden;
        }
        let identity = self.moved().or_else(|| self.identity()).or_else(|| self.leftover());
        let stranger = self.stranger();
        [
            identity,
            self.obstacle(&next),
            self.blocked(),
            self.leads_out(),
            stranger.clone(),
            self.ca().or_else(|| self.own_files().filter(|_| stranger.is_none())),
            self.binary(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// A file in the place of a folder.
    fn blocked(&self) -> Option<String> {
        let path = self.facts.blocked.as_ref()?;
        Some(format!("{path}: a file is in the place of the folder: move it away"))
    }

    /// A link that leads to where the unit may not write.
    fn leads_out(&self) -> Option<String> {
        let target = self.facts.linked.get(&self.place.data)?;
        let texts = self.unit_texts();
        let is_strict = |text: &&str| units::values(text, "ProtectSystem").any(|v| v == "strict");
        let paths = texts.iter().flat_map(|text| units::values(text, "ReadWritePaths"));
        let mut paths = paths.flat_map(str::split_whitespace);
        if !texts.iter().any(is_strict) || paths.any(|path| Path::new(target).starts_with(path)) {
            return None;
        }
        let data = &self.place.data;
        Some(format!(
            "{data}/{member} is a link to {target}, where {} may not write: stop the member, move \
             it back, and make {data} itself the link, or the folder that is mounted there",
            layout::UNIT,
            member = layout::MEMBER
        ))
    }

    /// What of the host itself keeps a member from being put there and started.
    pub(super) fn obstacles(&self) -> Vec<ToolResult> {
        let mut whys: Vec<_> = self.foreign().into_iter().collect();
        if whys.is_empty() {
            whys.extend(self.obstacle(&self.next_start()));
            whys.extend(self.blocked());
            whys.extend(self.stranger());
            whys.extend(self.ca());
        }
        let error = |why| ToolResult::error(Code::Mismatch, why).on(&self.node.name);
        self.masked().into_iter().chain(whys.into_iter().map(error)).collect()
    }

    /// A unit that would not start; etcd-unit itself says so of each of its units.
    fn masked(&self) -> Option<ToolResult> {
        let installs = self.unit_of_document().is_some();
        let starts = match self.fit.purpose {
            Purpose::Push { .. } => installs,
            Purpose::Start { .. } => false,
            Purpose::Preflight | Purpose::Join => true,
        };
        (starts && self.facts.masked).then(|| units::masked(layout::UNIT).on(&self.node.name))
    }

    /// An etcd that these tools did not install.
    fn foreign(&self) -> Option<String> {
        let facts = self.facts;
        let ours = |process: &&Process| {
            process.unit == layout::UNIT && (self.fit.document.release.is_none() || facts.is_own())
        };
        // One that is only started or restarted stays what it is.
        let overrides =
            !matches!(self.fit.purpose, Purpose::Start { .. }) || self.unit_of_document().is_some();
        if let Some(unit) = facts.strange_unit().filter(|_| overrides) {
            if layout::goes_before_own(unit) {
                return Some(format!(
                    "systemd reads {unit} in the place of {}/{}: remove it there",
                    layout::UNIT_DIR,
                    layout::UNIT
                ));
            }
            let data = facts.process().and_then(|process| process.variables.get("ETCD_DATA_DIR"));
            let data = data.map(|data| format!(" in {data}")).unwrap_or_default();
            return Some(format!(
                "{unit} belongs to an etcd that these tools did not install: a new unit would \
                 override it and hide its data{data}: remove its package, or leave this node out"
            ));
        }
        let has_data = |data: &str| {
            facts.folders.iter().any(|folder| folder.data == data && folder.has_data())
        };
        let other = facts.others.iter().find(|(_, data)| !self.has_log() && has_data(data));
        if let Some((unit, data)) = other.filter(|_| facts.processes.is_empty()) {
            return Some(format!(
                "{unit} runs an etcd that these tools did not install, with its data in {data}: \
                 remove it, or leave this node out"
            ));
        }
        // Beside one of these tools another may run; what has the name of etcd only is none.
        let is_in_the_way = |process: &Process| {
            let is_of_release = process.exe.starts_with(layout::RELEASES);
            let data = process.variables.get("ETCD_DATA_DIR");
            match facts.is_installed() {
                true => is_of_release || data == Some(&self.place.data),
                false => is_of_release || process.version.is_some() || process.unit == layout::UNIT,
            }
        };
        let mut others = facts.processes.iter().filter(|process| !ours(process));
        let process = others.find(|process| is_in_the_way(process))?;
        if process.exe.starts_with(layout::RELEASES) && !process.unit.ends_with(".service") {
            return Some(format!(
                "process {} ({}, in {}) is an etcd that was started by hand: stop it, and have \
                 {} started",
                process.pid,
                process.exe,
                process.unit,
                layout::UNIT
            ));
        }
        let urls = process.client_urls();
        let is_plain = !urls.is_empty() && urls.iter().all(|url| url.starts_with("http://"));
        let keep = match is_plain {
            true => "leave it to what it was deployed with, as these tools speak TLS only",
            false => "use etcd-health, etcd-snapshot and etcd-member alone",
        };
        Some(format!(
            "process {} ({}, in {}) is an etcd that these tools did not install: to keep it, \
             {keep}; to deploy here, stop and remove it first",
            process.pid, process.exe, process.unit
        ))
    }

    /// Data in another folder than the document says.
    fn moved(&self) -> Option<String> {
        let facts = self.facts;
        let Place { data, wal } = self.place.clone();
        // Where nobody looked, nothing is known to be.
        let nothing = Folder { data, wal, ..Folder::default() };
        let wanted = facts.folder(&self.place).unwrap_or(&nothing);
        let runs = facts.process().map(|process| &process.variables);
        let configured = environment::on_node(self.fit.document, self.node, facts);
        let told = values(configured.clone());
        // The mark is of the last start: whoever runs knows better.
        let marked = facts.marked.clone().filter(|_| runs.is_none());
        let places = [
            (runs.and_then(Place::of), runs.is_some()),
            (Place::of(&told), false),
            (marked, false),
        ];
        for (place, running) in places {
            let Some(old) = place.and_then(|place| facts.folder(&place)) else { continue };
            let same_data = old.data == wanted.data;
            let there = if same_data { old.log } else { old.has_data() };
            if (same_data && old.wal == wanted.wal) || !(there || running) {
                continue;
            }
            let members = [old, wanted].map(|at| format!("{}/{}", at.data, layout::MEMBER));
            // The rest of it has been moved already.
            let is_log = same_data || (old.log && !old.database && wanted.database && !wanted.log);
            let is_apart = |at: &Folder| !at.wal.starts_with(&format!("{}/", at.data));
            let log = (old.log && is_apart(old) && old.wal != wanted.wal && !is_log)
                .then(|| move_to(&old.wal, &wanted.wal));
            let (what, old, new, from, to) = match is_log {
                true => ("write-ahead log", &old.wal, &wanted.wal, &old.wal, &wanted.wal),
                false => ("data", &old.data, &wanted.data, &members[0], &members[1]),
            };
            if new.starts_with(&format!("{old}/{}", layout::MEMBER)) && what == "data" {
                return Some(format!(
                    "its data is in {old}, the document says {new}: dataDir is the folder that \
                     holds {}: set it to {old}",
                    layout::MEMBER
                ));
            }
            if wanted.has_data() && !running && what == "data" {
                return Some(format!(
                    "there is data in {old} and in {new}: the member last ran with {old}: move \
                     the one that is not to be used away"
                ));
            }
            let brought = environment::is_brought(self.fit.document, self.node);
            let names = ["ETCD_WAL_DIR", "ETCD_DATA_DIR"].into_iter().skip(usize::from(!is_log));
            let set = names.filter_map(|name| configured.get(name)).next().filter(|_| !brought);
            let says = set.map_or("the document", |set| &set.source);
            let config = layout::config_file(&self.settings.config_dir);
            if set.is_some_and(|set| set.source != config) {
                return Some(format!("its {what} is in {old}, {says} says {new}: remove it there"));
            }
            let moves: Vec<_> = [move_to(from, to)].into_iter().chain(log).collect();
            return Some(format!(
                "its {what} is in {old}, {says} says {new}: change it back, or stop the \
                 member, move it there (`{}`), and run this again",
                moves.join(" && ")
            ));
        }
        None
    }

    /// Data, or a log of its own, where the document's settings do not have it.
    pub(super) fn elsewhere(&self) -> Option<String> {
        let told = Place::of(&self.facts.configured(self.fit.document, self.node))?;
        let settings = &self.settings;
        let wal = layout::wal_folder(&settings.data_dir, settings.wal_dir.as_deref());
        let same = told.data == settings.data_dir && told.wal == wal;
        let there = self.facts.folder(&told).is_some_and(Folder::has_data);
        (there && !same).then(|| {
            format!(
                "its data is in {} and its write-ahead log in {}{}, the document says {} and \
                 {wal}: take the document that it was deployed with, or set dataDir and walDir",
                told.data,
                told.wal,
                wal_name(&told.wal),
                settings.data_dir
            )
        })
    }

    /// The member on the node is not the one that the document names.
    fn identity(&self) -> Option<String> {
        let cluster = self.fit.cluster;
        let folder = self.facts.folder(&self.place);
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
            (_, true) if self.has_log() => self.as_configured().or_else(|| self.half_restored()),
            (None, true) => self.new_cluster(),
            (Some(_), true) => None,
            (None, false) if self.has_log() => self.as_configured(),
            (None, false) => self.empty(),
        }
    }

    pub(super) fn has_log(&self) -> bool {
        self.facts.has_log(&self.place)
    }

    /// That there is no data, on the node, where the document wants them, nor where the
    /// member last had them; with the way back to them.
    fn lost(&self) -> String {
        let wal = &self.place.wal;
        let elsewhere = self.facts.marked.as_ref().filter(|marked| marked.wal != *wal);
        let there = elsewhere.map(|marked| format!(", nor in {}", marked.wal)).unwrap_or_default();
        let last = if elsewhere.is_some() { "the latter" } else { "one" };
        match self.facts.was_ready() {
            true => format!(
                "its data is lost: there is no write-ahead log in {wal}{there}, and it has run \
                 with {last}: mount the disk that holds it, or"
            ),
            false => format!(
                "there is no write-ahead log in {wal}, and the cluster knows it as a member that \
                 has run: etcd was removed from this host, or the host was installed again:"
            ),
        }
    }

    /// The same, where too few members have theirs.
    fn majority_lost(&self) -> String {
        format!("{} as most members have lost theirs, {RECOVER}", self.lost())
    }

    /// Data of another cluster than the one that runs, or than another node's.
    fn other_cluster(&self, own: &Identity) -> Option<String> {
        let fit = self.fit;
        let restored = fit.facts.iter().any(|(_, facts)| facts.was_restored());
        // Files may be put there before the restore is finished.
        if restored && matches!(fit.purpose, Purpose::Push { .. }) {
            return None;
        }
        let runs = fit.cluster.replies.iter().map(|(node, status)| {
            (
                node.as_str(),
                Identity { member: status.member_id.clone(), cluster: status.cluster_id.clone() },
            )
        });
        // Of one that runs, what it says counts.
        let silent = fit.facts.iter().filter(|(n, _)| !fit.cluster.replies.contains_key(&n.name));
        let lies = silent.filter_map(|(node, facts)| {
            let folder = facts.folder(&fit.place(node, facts))?;
            Some((node.name.as_str(), folder.identity.clone()?))
        });
        let advice = match restored {
            true => INTERRUPTED.to_owned(),
            false => format!(
                "stop the wrong one and move its {} away, or take it out of the document",
                self.data_folders()
            ),
        };
        for (node, other) in runs.chain(lies).filter(|(node, _)| *node != self.node.name) {
            if other.cluster != own.cluster {
                return Some(format!(
                    "its data is of cluster {}, that of {node} is of cluster {}: {advice}",
                    own.cluster, other.cluster
                ));
            }
            if other.member == own.member {
                let same = |(named, facts): &&(&Node, &Facts)| {
                    named.name == node && !facts.boot.is_empty() && facts.boot == self.facts.boot
                };
                if fit.facts.iter().any(|named| same(&named)) {
                    return Some(format!(
                        "it is the same host as {node} in the document: take one of the two out"
                    ));
                }
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
        let (node, url) = (self.node, &self.url);
        let Some(member) = self.fit.cluster.member(&own.member) else {
            let reply = self.fit.cluster.replies.get(&node.name);
            if reply.is_some_and(|status| status.leader.is_some()) {
                let why = "it serves, and another node serves without it: these are two clusters: \
                           look whom each knows, `etcd-member list --endpoints URL`, and stop the \
                           one that is not to stay at once, before it tells the others that they \
                           are removed";
                return Some(why.into());
            }
            // Another host has its place: what lies here is of no interest.
            let mut others = self.fit.cluster.members.iter();
            if others.any(|other| other.name == node.name && !other.peer_urls.contains(url)) {
                return self.listed().err();
            }
            return Some(format!(
                "its data is of member {}, which the cluster has removed: move {} away, then add \
                 the node: {ADD}",
                own.member,
                self.data_folders(),
            ));
        };
        // One that was started under another name gets its own back with a restart.
        let told = values(environment::on_node(self.fit.document, node, self.facts));
        let is_named = told.get("ETCD_NAME") == Some(&node.name);
        if !member.name.is_empty() && member.name != node.name && !is_named {
            return Some(self.renamed(&member.name));
        }
        if !member.peer_urls.contains(url) {
            let urls = member.peer_urls.join(",");
            let advice = advice_on(&urls, || {
                format!(
                    "change it back, or tell the cluster first, for one member at a time: \
                     `etcd-member update --only {}`",
                    node.name
                )
            });
            return Some(format!(
                "the cluster knows it as {urls}, the document says {url}: {advice}"
            ));
        }
        None
    }

    /// The member as it was last configured, where no member list is to be had.
    pub(super) fn as_configured(&self) -> Option<String> {
        let (node, url) = (self.node, &self.url);
        let told = self.facts.configured(self.fit.document, node);
        if let Some(name) = told.get("ETCD_NAME").filter(|name| **name != node.name) {
            return Some(self.renamed(name));
        }
        let urls = told.get("ETCD_INITIAL_ADVERTISE_PEER_URLS")?;
        let known = urls.split(',').any(|known| known == *url);
        let advice = || {
            format!(
                "change it back, or start the cluster as it is and tell it first: `etcd-member \
                 update --only {}`",
                node.name
            )
        };
        (!known).then(|| {
            let advice = advice_on(urls, advice);
            format!("the cluster knows it as {urls}, the document says {url}: {advice}")
        })
    }

    /// A node without data beside a cluster that runs.
    fn empty(&self) -> Option<String> {
        let member = match self.listed() {
            Ok(member) => member,
            Err(why) => return Some(why),
        };
        if !member.client_urls.is_empty() {
            return Some(match self.fit.is_majority_lost() {
                true => self.majority_lost(),
                false => format!("{} replace the member: {}", self.lost(), replace(self.node)),
            });
        }
        let added = member.name.is_empty();
        (added && self.settings.initial_cluster_state != ClusterState::Existing).then(|| {
            format!(
                "it was added to the cluster that runs, and would start a cluster of its own: set \
                 its initialClusterState to \"existing\": {ADD}"
            )
        })
    }

    /// The member of the member list that the node is to be, or why there is none.
    fn listed(&self) -> Result<&Member, String> {
        let (node, url) = (self.node, &self.url);
        let members = &self.fit.cluster.members;
        let Some(member) = members.iter().find(|member| member.peer_urls.contains(url)) else {
            return Err(match members.iter().find(|member| member.name == node.name) {
                Some(member) => {
                    let (name, urls) = (&node.name, member.peer_urls.join(","));
                    let advice = advice_on(&urls, || {
                        format!("change it back, or replace the member: {}", replace(node))
                    });
                    format!("the cluster knows {name} as {urls}, the document says {url}: {advice}")
                }
                None => {
                    format!("it is not a member of the cluster that runs: add it first: {ADD}")
                }
            });
        };
        misnamed(member, &node.name, url).map_or(Ok(member), Err)
    }

    /// A node without data where no cluster runs that could be asked.
    fn new_cluster(&self) -> Option<String> {
        let fit = self.fit;
        if !matches!(fit.purpose, Purpose::Start { .. }) {
            return None;
        }
        let data = &self.place.data;
        if let Some(why) = &fit.cluster.refusal {
            return Some(format!("{data} is empty, and the cluster that runs says: {why}"));
        }
        if self.facts.was_restored() {
            return Some(format!(
                "there is no write-ahead log in {}: {INTERRUPTED}",
                self.place.wal
            ));
        }
        if self.facts.was_ready() && fit.is_majority_lost() {
            return Some(self.majority_lost());
        }
        if self.facts.was_ready() {
            return Some(format!(
                "{} start the others (--only), then replace the member: {}",
                self.lost(),
                replace(self.node)
            ));
        }
        if let Some(absent) = fit.absent() {
            return Some(format!(
                "{data} is empty, and {} did not answer: a new cluster is made only when every \
                 node has answered, and none has data",
                absent.name
            ));
        }
        let others = fit.facts.iter().filter(|(node, _)| node.name != self.node.name);
        for (other, facts) in others {
            if let Some(process) = facts.processes.iter().find(|p| p.unit != layout::UNIT) {
                return Some(format!(
                    "{data} is empty, and an etcd that does not say who its members are runs on \
                     {} ({}, in {}): a new cluster is made only where none runs",
                    other.name, process.exe, process.unit
                ));
            }
        }
        let has_data = |&&(node, facts): &&(&Node, &Facts)| {
            // One whose first start was cut off is no cluster yet.
            let began = facts.mark.as_ref().is_some_and(|_| !facts.was_ready());
            facts.has_data(&fit.place(node, facts)) && !began
        };
        let has = fit.facts.iter().find(has_data).map(|other| (other, "has data"));
        let had = || fit.facts.iter().find(|(_, facts)| facts.was_ready());
        let ((other, _), has) = has.or_else(|| had().map(|other| (other, "has had data")))?;
        let or_recover = match fit.is_majority_lost() {
            true => format!(", or, where most members have lost theirs for good, {RECOVER}"),
            false => String::new(),
        };
        Some(format!(
            "{data} is empty, and {} {has}: a new cluster is made only when no node has any: start \
             the others first (--only), so that the cluster can be asked{or_recover}",
            other.name
        ))
    }

    /// A member that was restored and has not been ready since, where another node may not
    /// be restored.
    fn half_restored(&self) -> Option<String> {
        let fit = self.fit;
        if !matches!(fit.purpose, Purpose::Start { .. }) || !self.facts.was_restored() {
            return None;
        }
        let absent = fit.absent()?;
        Some(format!(
            "its data was restored and has not run yet, and {} did not answer: a restored cluster \
             is started only when every node has answered: bring it back, or restore on the \
             nodes without it",
            absent.name
        ))
    }

    /// Data that the user cannot read, and a member that could not read its certificates any
    /// more, for it runs as another user.
    fn stranger(&self) -> Option<String> {
        let stop = format!("`etcd-unit stop --only {}`", self.node.name);
        let running = self.facts.process().map(|process| &process.user);
        // root reads what belongs to others, too.
        let own = ["", "root", self.settings.user.as_str()];
        let other = running.filter(|user| !own.contains(&user.as_str()));
        let writes = matches!(self.fit.purpose, Purpose::Push { .. } | Purpose::Preflight);
        if let Some(user) = other.filter(|_| writes) {
            return Some(format!(
                "etcd runs as {user}, and the document says {}, who alone could read its \
                 certificates then: change the document back",
                self.settings.user
            ));
        }
        if !matches!(self.fit.purpose, Purpose::Start { .. })
            && let Some(why) = self.taken()
        {
            return Some(why);
        }
        let (path, owner) = self.facts.folder(&self.place)?.stranger.as_ref()?;
        if self.unit_user() == Some(owner) {
            return None;
        }
        let NodeSettings { user, data_dir, wal_dir, .. } = &self.settings;
        let data = &self.place.data;
        let wal = wal_dir.as_ref().filter(|_| data == data_dir);
        let folders = wal.map(|wal| format!("{data} {wal}"));
        let stopped = other.map(|_| format!("{stop}, then "));
        Some(format!(
            "{path} belongs to {owner}, and etcd runs as {user}: {}`chown -R {user}:{user} {}`",
            stopped.unwrap_or_default(),
            folders.as_ref().unwrap_or(data)
        ))
    }

    /// Etcd's unit as the document brings it.
    pub(super) fn unit_of_document(&self) -> Option<&Unit> {
        self.node.units.iter().find(|unit| unit.name == layout::UNIT)
    }

    /// Etcd's unit as systemd would read it next: the document's, else that on the node with its
    /// drop-ins; empty where there is none yet.
    fn unit_texts(&self) -> Vec<&str> {
        match self.unit_of_document() {
            Some(unit) => vec![unit.content.as_str()],
            None => self.facts.definition.iter().map(|text| text.content.as_str()).collect(),
        }
    }

    /// As whom the unit starts etcd; nothing where there is none yet.
    fn unit_user(&self) -> Option<&str> {
        let texts = self.unit_texts();
        let set = texts.iter().flat_map(|text| units::values(text, "User")).next_back();
        (!texts.is_empty()).then(|| set.filter(|user| !user.is_empty()).unwrap_or("root"))
    }

    /// The folders with the data, as they are named where they are to be moved away.
    fn data_folders(&self) -> String {
        self.facts.folders_at(&self.place).join(" and ")
    }

    /// What is in the data directory and is somebody else's, which would become etcd's.
    fn taken(&self) -> Option<String> {
        let NodeSettings { user, data_dir, wal_dir, .. } = &self.settings;
        // What is to be put there is not known yet.
        let later = matches!(self.fit.purpose, Purpose::Join | Purpose::Preflight);
        let is_made = self.node.users.iter().any(|made| made.name == *user);
        if let Some(keeper) = self.facts.keeper.as_ref().filter(|_| is_made || later) {
            if self.facts.was_ready() {
                return Some(format!(
                    "{data_dir}/{} belongs to {keeper}, and the document says that etcd runs as \
                     {user}: change it back",
                    layout::MEMBER
                ));
            }
            return Some(format!(
                "{data_dir}/{} belongs to {keeper}, and there is no user {user} yet: an etcd of \
                 others has its data there: set another dataDir, or move that away",
                layout::MEMBER
            ));
        }
        let folder = self.facts.folder(&self.place);
        let has_log = folder.is_some_and(|folder| folder.log);
        let wal_dir = wal_dir.as_ref().unwrap_or(data_dir);
        let own = [
            ("dataDir", "the data directory", data_dir, folder.is_some_and(Folder::has_data)),
            ("walDir", "the folder of the write-ahead log", wal_dir, has_log),
        ];
        let is_listed = |path: &String| self.node.directories.iter().any(|at| at.path == *path);
        let owned = self.facts.guests.get("owner");
        let owned = owned.filter(|_| later || is_listed(data_dir) || is_listed(wal_dir)).map(|owned| {
            format!(
                "{owned}, and would become {user}'s: choose a folder for etcd alone, or give it to \
                 root first"
            )
        });
        let guest = own.into_iter().find_map(|(key, what, path, is_own)| {
            let guest = self.facts.guests.get(key);
            let guest = guest.filter(|_| (is_listed(path) || later) && !is_own)?;
            Some(format!(
                "{guest} is in {what}, which is not etcd's: choose a folder for etcd alone ({key}), \
                 or move that away"
            ))
        });
        guest.or(owned)
    }

    /// The CA on the node, which the new one does not contain.
    fn ca(&self) -> Option<String> {
        if self.fit.purpose == Purpose::Preflight {
            return self.other_ca();
        }
        let [overwrite, cut_off] = match self.fit.purpose {
            Purpose::Push { replace_ca: false } => [
                "pass --replace-ca to overwrite it",
                "pass --replace-ca to cut off whoever trusts that CA only, and everybody until the \
                 members have been restarted: see etcd-cert ca --help",
            ],
            Purpose::Join => ["remove it"; 2],
            _ => return None,
        };
        let path = format!("{}/{}", self.settings.cert_dir, layout::CA_CERT);
        let file = self.node.files.iter().find(|file| file.path == path)?;
        let new = match own::content(file) {
            Some(new) => new,
            // A new one, of which nothing is known but that it is new.
            None if file.pending || file.local.is_none() => Vec::new(),
            None => return None,
        };
        if let Some(credential) = self.facts.credential.as_ref().filter(|_| self.is_strange()) {
            return Some(format!(
                "{credential} is there, and no {} beside it: whose it is cannot be known: set \
                 another certDir, or {overwrite}",
                layout::CA_CERT
            ));
        }
        let new = fingerprints(&new);
        // Whatever becomes of the folder, who trusts the CA of before is cut off.
        let used = self.facts.used_ca.as_ref().map(|(path, text)| (path, text));
        let there = [Some((&path, &self.facts.ca)), used];
        let (path, lost) = there.into_iter().flatten().find_map(|(path, text)| {
            Some((path, fingerprints(text.as_bytes()).into_iter().find(|ca| !new.contains(ca))?))
        })?;
        let from = file.local.as_deref().unwrap_or("the document");
        Some(format!(
            "{path} holds the CA with sha256 {lost}, which {from} does not contain: run this with \
             the pki folder that this cluster was made with, or {cut_off}"
        ))
    }

    /// The CA of a member that runs, which nobody here has: etcd-cert would make another.
    fn other_ca(&self) -> Option<String> {
        self.facts.process()?;
        let own = fingerprints(self.fit.own_ca.as_bytes());
        let there = fingerprints(self.facts.ca.as_bytes());
        let first = there.first().filter(|_| there.is_disjoint(&own))?;
        Some(format!(
            "{}/{} holds the CA with sha256 {first}, which is not here: run this in the folder \
             that holds the pki of this cluster, or pass --pki or --cacert",
            self.settings.cert_dir,
            layout::CA_CERT
        ))
    }

    /// Whether the configuration on the node knows nothing of the folder of certificates.
    fn is_strange(&self) -> bool {
        let folder = format!("{}/", self.settings.cert_dir);
        let told = self.facts.configured(self.fit.document, self.node);
        !told.values().any(|value| value.starts_with(&folder))
    }

    /// A binary of another release than that of the document, with which the member would
    /// start.
    pub(super) fn other_release(&self) -> Option<String> {
        let is_old = self.fit.pushed.contains(self.node.name.as_str());
        if is_old || !matches!(self.fit.purpose, Purpose::Start { .. }) {
            return None;
        }
        let path = format!("{}/etcd", self.settings.bin_dir);
        let version = self.facts.binaries.get(&path)?.strip_prefix(SAYS_VERSION)?;
        let says = format!("v{version}");
        if let Some(release) = &self.fit.document.release {
            let other = (says != release.version).then_some(says)?;
            return Some(format!(
                "{path} is {other}, not {}: run etcd-push again",
                release.version
            ));
        }
        // A run that was cut off has put it there, or somebody by hand, and a restart would take
        // the step alone.
        let running = self.fit.running();
        let there: Version = says.parse().ok()?;
        let own = self.fit.running_version(self.node, self.facts);
        if own == Some(there) {
            return None;
        }
        let enabled = self.fit.downgrade(&running, there);
        let versions = running.iter().map(|(_, version)| *version);
        let (from, way_on) = match etcd::step(versions, there, enabled) {
            Err(refusal) => (refusal.from, String::new()),
            Ok(_) => {
                let is_taken = running.iter().any(|(_, version)| version.minor() == there.minor());
                let from = own.filter(|_| !is_taken)?;
                (from, format!(", or take the step: `scripts/upgrade NODES {says}`"))
            }
        };
        let back = match self.facts.is_installed() {
            true => format!(
                "`scripts/upgrade NODES {from}`, or `etcd-fetch {from} < NODES | etcd-cert issue | \
                 etcd-render | etcd-push`"
            ),
            // Where others have put it, these would refuse to.
            false => "what put the other one there can do so".to_owned(),
        };
        Some(format!("{path} is {says}, and {from} runs: put that back: {back}{way_on}"))
    }

    /// A binary that would not start.
    fn binary(&self) -> Option<String> {
        let is_old = self.fit.pushed.contains(self.node.name.as_str());
        if is_old || !matches!(self.fit.purpose, Purpose::Start { .. }) {
            return None;
        }
        let path = format!("{}/etcd", self.settings.bin_dir);
        let Some(said) = self.facts.binaries.get(&path) else {
            // What is stopped says itself that it does not start.
            let version = self.facts.process()?.version;
            return self.unit_starts(&path).then(|| {
                format!(
                    "there is no {path}, which {} starts: etcd would not come back: {}",
                    layout::UNIT,
                    self.put_back(version)
                )
            });
        };
        if said.starts_with(SAYS_VERSION) {
            return None;
        }
        // The shell that the C library tries on what the kernel refuses prints its bytes.
        let plain = said.chars().all(|c| c == ' ' || c.is_ascii_graphic());
        let why = match said.as_str() {
            "" => "it ends without a word",
            _ if plain => said,
            _ => "not an executable for this machine",
        };
        let advice = self.put_back(self.facts.process().and_then(|process| process.version));
        Some(format!("{path} does not run on this host ({why}): {advice}"))
    }

    /// The commands that have the binaries put there again, of `version` where that is known.
    fn put_back(&self, version: Option<Version>) -> String {
        if self.fit.document.release.is_some() {
            return "run etcd-push again".into();
        }
        let version = version.map_or_else(|| "VERSION".into(), |version| version.to_string());
        format!(
            "have it put there again: `etcd-fetch {version} < NODES | etcd-cert issue | \
             etcd-render | etcd-push`"
        )
    }

    /// Whether the unit, as systemd would read it next, starts the program `path`.
    fn unit_starts(&self, path: &str) -> bool {
        let texts = self.unit_texts().into_iter();
        let mut commands = texts.flat_map(|text| units::values(text, "ExecStart"));
        commands.any(|command| program(command) == Some(path))
    }

    /// That the member of another name is the node.
    pub(super) fn renamed(&self, name: &str) -> String {
        format!(
            "its data is of member {name}, the document calls it {}: a member keeps its name: \
             change the document back",
            self.node.name
        )
    }
}

/// The SHA-256 of each certificate in `pem`, in lower-case hex.
fn fingerprints(pem: &[u8]) -> BTreeSet<String> {
    CertificateDer::pem_slice_iter(pem).flatten().map(|der| disk::sha256(&der)).collect()
}

/// What to do where the folder `wal` of a write-ahead log cannot be told in a document.
pub(super) fn wal_name(wal: &str) -> &'static str {
    match wal.ends_with("/wal") {
        true => "",
        false => " (these tools know only a folder called wal: rename it there, and in the unit)",
    }
}
