//! What is wanted, compared with what is: each refusal, and its way out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use client::Alarm;
use etcd::unit::Setting;
use etcd::{Minor, Version, layout};
use pipeline::document::{ClusterState, Member, Node, NodeSettings, Unit};
use pipeline::{Code, Document, Severity, ToolResult, disk};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::cluster::Cluster;
use super::environment::{self, Place, values};
use super::facts::{Facts, Folder, Process, SAYS_VERSION, is_heard};
use super::identity::Identity;
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

    fn place(&self, node: &Node, facts: &Facts) -> Place {
        Place::wanted(self.document, node, facts)
    }

    /// A node of the document that did not answer.
    fn absent(&self) -> Option<&Node> {
        let answered = |node: &&Node| self.facts.iter().any(|(other, _)| other.name == node.name);
        self.document.nodes.iter().find(|node| !answered(node))
    }

    /// The version that the document says the cluster is to run.
    fn wanted_version(&self) -> Option<Version> {
        let document = self.document;
        let cluster = document.cluster.as_ref().and_then(|cluster| cluster.version.as_deref());
        let wanted = document.release.as_ref().map(|release| release.version.as_str()).or(cluster);
        wanted?.parse().ok()
    }

    /// What keeps the members from the version that is wanted: steps between versions that
    /// etcd does not support, and alarms, which a step would not clear.
    fn version(&self) -> Vec<ToolResult> {
        let Some(wanted) = self.wanted_version() else { return Vec::new() };
        let running = self.running();
        let by_default = self.document.release.as_ref().is_some_and(|release| release.by_default);
        let other = running.iter().find(|(_, version)| by_default && *version != wanted);
        if let Some((node, version)) = other {
            let message = format!(
                "etcd {version} is there, and nobody asked for {wanted}, which is for a new \
                 cluster: pass the version: `etcd-fetch {version}`"
            );
            return vec![ToolResult::error(Code::VersionStep, message).on(&node.name)];
        }
        let versions = running.iter().map(|(_, version)| *version);
        let enabled = self.downgrade(&running, wanted);
        if let Err(refusal) = etcd::step(versions, wanted, enabled) {
            let from = running.iter().find(|(_, version)| *version == refusal.from);
            let result = ToolResult::error(Code::VersionStep, refusal.to_string());
            return from.map(|(node, _)| result.on(&node.name)).into_iter().collect();
        }
        let mut versions = running.iter().map(|(_, version)| *version);
        let older = versions.clone().find(|from| from.minor() < wanted.minor());
        let other = versions.find(|from| *from != wanted);
        let refusals = older.and_then(|from| self.downgrading(from, wanted)).into_iter();
        let refusals = refusals.chain(other.iter().flat_map(|from| self.alarms(*from, wanted)));
        let refusals: Vec<_> = refusals.collect();
        if !refusals.is_empty() {
            return refusals;
        }
        // What was rendered for another minor version says things that the one that runs ignores.
        let rendered = running.iter().find(|(node, version)| {
            matches!(self.purpose, Purpose::Push { .. })
                && self.document.release.is_none()
                && environment::is_brought(self.document, node)
                && version.minor() != wanted.minor()
        });
        let other_minor = |(node, version): &(&Node, Version)| {
            let message = format!(
                "its configuration is rendered for etcd {}, and {version} runs: render it for that, \
                 or take the step first: `scripts/upgrade NODES {wanted}`",
                wanted.minor()
            );
            ToolResult::error(Code::VersionStep, message).on(&node.name)
        };
        rendered.map(other_minor).into_iter().collect()
    }

    /// The versions that run, or would run on the data of a node.
    fn running(&self) -> Vec<(&Node, Version)> {
        let version = |(node, facts): &(&Node, &Facts)| self.running_version(node, facts);
        let nodes = self.facts.iter();
        nodes.filter_map(|found| Some((found.0, version(found)?))).collect()
    }

    /// That the cluster is being downgraded, a reason not to go up from one minor version to
    /// another.
    fn downgrading(&self, from: Version, to: Version) -> Option<ToolResult> {
        self.cluster.replies.iter().find_map(|(node, reply)| {
            let message = format!("{from} → {to}: {}", reply.downgrade()?);
            Some(ToolResult::error(Code::VersionStep, message).on(node))
        })
    }

    /// The alarms that are raised, each a reason not to go from one version to another.
    fn alarms(&self, from: Version, to: Version) -> Vec<ToolResult> {
        let replies = &self.cluster.replies;
        let raised: BTreeSet<_> = replies.values().flat_map(|reply| &reply.alarms).collect();
        let refusal = |alarm: &Alarm| {
            let message = format!("{alarm}: {from} → {to} only after that");
            let own = replies.iter().find(|(_, reply)| reply.member_id == alarm.member_id);
            match (own, self.cluster.member(&alarm.member_id)) {
                (Some((node, _)), _) => ToolResult::error(Code::Alarm, message).on(node),
                (None, member) => {
                    let name = member.map_or(alarm.member_id.as_str(), Member::label);
                    ToolResult::error(Code::Alarm, format!("member {name}: {message}"))
                }
            }
        };
        raised.into_iter().map(refusal).collect()
    }

    /// The minor version of `wanted`, where etcd's own downgrade has brought the data of
    /// all members that run a newer one to it.
    fn downgrade(&self, running: &[(&Node, Version)], wanted: Version) -> Option<Minor> {
        let mut newer = running.iter().filter(|(_, version)| version.minor() > wanted.minor());
        let ready = newer.all(|(node, _)| {
            let Some(status) = self.cluster.replies.get(&node.name) else { return false };
            let (target, storage) = (&status.downgrade_target, &status.storage_version);
            client::ready_for(target.as_deref(), storage.as_deref()) == Some(wanted.minor())
        });
        ready.then_some(wanted.minor())
    }

    /// The version of the member itself; of one that does not run, that of the
    /// binary that would be started on its data. Data that is lost counts, too, where no
    /// member tells which version the others run.
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
        let had_data = self.cluster.members.is_empty() && facts.was_ready();
        version.filter(|_| had_data || facts.has_data(&self.place(node, facts)))
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

    /// The nodes among those `selected` whose binary is of another release.
    fn other_releases(&self, selected: impl Fn(&Node) -> bool) -> Vec<ToolResult> {
        let of_node = |(node, facts): &(&Node, &Facts)| {
            let concerned = selected(node) && concerns(self.document, node, self.purpose);
            let why = NodeFit::new(self, node, facts).other_release().filter(|_| concerned)?;
            Some(ToolResult::error(Code::Mismatch, why).on(&node.name))
        };
        self.facts.iter().filter_map(of_node).collect()
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
    url: String,
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

    /// What on the node would tell the member at its next start to be something else
    /// than the document says.
    fn overridden(&self, next: &environment::Variables) -> Vec<String> {
        let Self { fit, node, .. } = self;
        if !environment::is_brought(fit.document, node) {
            if let Some(why) = self.hidden(next).or_else(|| self.edited(next)) {
                return vec![why];
            }
            let name = next.get("ETCD_NAME").filter(|name| name.value != node.name);
            let name = name.filter(|_| !fit.cluster.replies.contains_key(&node.name));
            let name = name.filter(|_| self.has_log());
            return name.map(|name| self.renamed(&name.value)).into_iter().collect();
        }
        let wanted = environment::wanted(fit.document, node);
        let unfit = self.unfit(&wanted);
        if !unfit.is_empty() {
            return unfit;
        }
        let names: BTreeSet<_> = next.keys().chain(wanted.keys()).collect();
        let differs = names.into_iter().filter(|name| {
            let value = |of: &environment::Variables| of.get(*name).map(|set| set.value.clone());
            let no_effect = etcd::settings::is_bootstrap_only(name) && self.has_log();
            value(next) != value(&wanted) && !no_effect
        });
        let refused = differs.filter_map(|name| {
            let why = pipeline::reserved_variable(name)?;
            let says = match wanted.get(name) {
                Some(set) => format!("the document sets it to {}", set.value),
                None => "the document does not set it".into(),
            };
            Some(match next.get(name) {
                Some(set) => format!(
                    "{} sets {name} to {}, {says}: remove it there: {name} {why}",
                    set.source, set.value
                ),
                None => format!("a drop-in of {} unsets {name}, {says}: remove it", layout::UNIT),
            })
        });
        let refused: Vec<_> = refused.collect();
        if refused.is_empty() { self.hidden(next).into_iter().collect() } else { refused }
    }

    /// What must never be told a member, whoever tells it.
    pub(super) fn harmful(&self, next: &environment::Variables) -> Option<String> {
        if let Some(why) = forces_new_cluster(next) {
            return Some(why);
        }
        // An etcd of others may be told by a file how to run.
        if !self.facts.is_installed() && !environment::is_brought(self.fit.document, self.node) {
            return None;
        }
        let is_harmful = |name: &str, value: &str| match name {
            "ETCD_CONFIG_FILE" => !value.is_empty(),
            "ETCD_UNSAFE_NO_FSYNC" => etcd::value::boolean(value) == Some(true),
            _ => false,
        };
        let (name, set) = next.iter().find(|(name, set)| is_harmful(name, &set.value))?;
        let why = pipeline::reserved_variable(name)?;
        Some(format!("{} sets {name} to {}: {name} {why}", set.source, set.value))
    }

    /// A unit of the document that has something else start etcd: what that tells a member with
    /// data is not to be seen. One that is there already has shown what it does.
    fn wrapped(&self) -> Option<String> {
        let unit = self.unit_of_document()?;
        let command = units::values(&unit.content, "ExecStart").next_back()?;
        let program = program(command)?;
        let mut there = self.facts.definition.iter();
        let is_there =
            there.any(|text| units::values(&text.content, "ExecStart").any(|old| old == command));
        let is_etcd = program.rsplit('/').next() == Some("etcd");
        (self.has_log() && !is_etcd && !is_there).then(|| {
            format!(
                "{} of the document starts {program}, and what that has etcd do with the data that \
                 is there cannot be told: have its ExecStart= start etcd itself",
                layout::UNIT
            )
        })
    }

    /// What a drop-in of the document would have the member be at its next start, other than it is.
    pub(super) fn otherwise(&self, next: &environment::Variables) -> Option<String> {
        let process = self.facts.process()?;
        let there = environment::on_node(self.fit.document, self.node, self.facts);
        let value = |of: &environment::Variables, name: &str| of.get(name).map(|s| s.value.clone());
        let names: BTreeSet<_> = next.keys().chain(there.keys()).collect();
        names.into_iter().find_map(|name| {
            let why = pipeline::reserved_variable(name)?;
            let (new, runs) = (value(next, name), process.variables.get(name));
            let is_same = new == value(&there, name) || new.as_ref() == runs;
            if is_same || etcd::settings::is_bootstrap_only(name) && self.has_log() {
                return None;
            }
            let runs = runs.map_or("without it".to_owned(), |runs| format!("with {runs}"));
            let what = match next.get(name) {
                Some(set) => format!("{} sets {name} to {}", set.source, set.value),
                None => format!("a drop-in of the document unsets {name}"),
            };
            Some(format!("{what}, and the member runs {runs}: leave that out: {name} {why}"))
        })
    }

    /// The configuration of another member, with which a node without data is about to be
    /// started.
    fn leftover(&self) -> Option<String> {
        let Self { fit, node, facts, .. } = self;
        if !matches!(fit.purpose, Purpose::Start { .. })
            || environment::is_brought(fit.document, node)
            || self.has_log()
        {
            return None;
        }
        let next = environment::next_start(fit.document, node, facts);
        let name = next.get("ETCD_NAME").filter(|name| name.value != node.name)?;
        Some(format!(
            "{} sets ETCD_NAME to {}, the document calls it {}: put its own configuration there: \
             `etcd-render | etcd-push`",
            name.source, name.value, node.name
        ))
    }

    /// What the configuration that the document brings makes of the member, where the
    /// document says otherwise itself: it was edited, or a template of the user's made it.
    fn unfit(&self, wanted: &environment::Variables) -> Vec<String> {
        let settings = &self.settings;
        let wal = settings.wal_dir.as_deref();
        let wal = wal.map(|wal| layout::wal_folder(&settings.data_dir, Some(wal)));
        let own = [
            ("ETCD_NAME", Some(&self.node.name)),
            ("ETCD_DATA_DIR", Some(&settings.data_dir)),
            ("ETCD_WAL_DIR", wal.as_ref()),
        ];
        // Read at the first start only, and then of all members the same. The data of a
        // restored member has its own.
        let members = settings.initial_cluster.clone();
        let members = members.unwrap_or_else(|| self.fit.document.initial_cluster());
        let token = self.fit.document.token().to_owned();
        let first = [("ETCD_INITIAL_CLUSTER", &members), ("ETCD_INITIAL_CLUSTER_TOKEN", &token)];
        let first = first.into_iter().filter(|(name, _)| wanted.contains_key(*name));
        let is_read = !self.has_log() && !self.facts.was_restored();
        let first = first.filter(|_| is_read).map(|(name, value)| (name, Some(value)));
        let config = layout::config_file(&settings.config_dir);
        let mut units = self.node.units.iter().filter(|unit| unit.name == layout::UNIT);
        let reads = |unit: &Unit| {
            let mut files = units::values(&unit.content, "EnvironmentFile");
            files.any(|file| file.trim_start_matches('-') == config)
        };
        if !wanted.contains_key("ETCD_NAME") && units.any(|unit| !reads(unit)) {
            return vec![format!(
                "{} of the document does not read {config}: run etcd-render again, with a template \
                 that has EnvironmentFile={config}",
                layout::UNIT
            )];
        }
        let in_order =
            |value: &String| value.split(',').map(str::to_owned).collect::<BTreeSet<_>>();
        let differs = own.into_iter().chain(first).filter_map(|(name, value)| {
            let set = wanted.get(name).map(|set| &set.value);
            let shown = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
            let (is, expected) = (shown(set), shown(value));
            (set.map(in_order) != value.map(in_order)).then(|| {
                format!(
                    "{config}: the document's own has {is} for {name}, and must have {expected}: \
                     run etcd-render again, with a template that sets it so"
                )
            })
        });
        differs.collect()
    }

    /// What was put into the configuration on the node, which stays, and would have the member
    /// be alone, or another, or where no other reaches it, after its next start.
    fn edited(&self, next: &environment::Variables) -> Option<String> {
        const LISTEN: &str = "ETCD_LISTEN_PEER_URLS";
        const NAME: &str = "ETCD_NAME";
        if !matches!(self.fit.purpose, Purpose::Start { .. }) {
            return None;
        }
        if let Some(why) = self.unsecured(next) {
            return Some(why);
        }
        let runs = |name: &str| self.facts.process()?.variables.get(name);
        let name = next.get(NAME).filter(|set| {
            set.value != self.node.name && runs(NAME).is_some_and(|name| *name != set.value)
        });
        let listen = next.get(LISTEN).filter(|set| {
            runs(LISTEN).is_some_and(|listens| is_heard(listens, &self.url))
                && !is_heard(&set.value, &self.url)
        });
        let (name, set) = name.map(|set| (NAME, set)).or(listen.map(|set| (LISTEN, set)))?;
        Some(format!(
            "{} sets {name} to {}, and the member runs with {}: put that back there, or its own \
             configuration: `etcd-render | etcd-push`",
            set.source,
            set.value,
            runs(name)?
        ))
    }

    /// What beside the configuration would have the member begin anew, or let everybody in: another
    /// data directory, other certificates, or none. How others run theirs is for them to change.
    fn unsecured(&self, next: &environment::Variables) -> Option<String> {
        const NEEDED: [&str; 9] = [
            "ETCD_DATA_DIR",
            "ETCD_CLIENT_CERT_AUTH",
            "ETCD_TRUSTED_CA_FILE",
            "ETCD_CERT_FILE",
            "ETCD_KEY_FILE",
            "ETCD_PEER_CLIENT_CERT_AUTH",
            "ETCD_PEER_TRUSTED_CA_FILE",
            "ETCD_PEER_CERT_FILE",
            "ETCD_PEER_KEY_FILE",
        ];
        let process = self.facts.process().filter(|_| self.facts.is_installed())?;
        NEEDED.into_iter().find_map(|name| {
            let value = process.variables.get(name)?;
            let Some(set) = next.get(name) else {
                return Some(format!(
                    "nothing gives its next start {name}, and the member runs with {value}: remove \
                     what unsets it (UnsetEnvironment=), or put its own configuration there: \
                     `etcd-render | etcd-push`"
                ));
            };
            // Its own configuration may be newer than the member.
            let is_beside = set.source.contains(".d/") || set.source == environment::MANAGER;
            (is_beside && set.value != *value).then(|| {
                format!(
                    "{} sets {name} to {}, and the member runs with {value}: remove it there",
                    set.source, set.value
                )
            })
        })
    }

    /// What would have nobody reach the member at its node's address any more: its clients, or
    /// its peers. A configuration that the document does not bring is for others to change.
    fn hidden(&self, next: &environment::Variables) -> Option<String> {
        const ADVERTISE: &str = "ETCD_ADVERTISE_CLIENT_URLS";
        const LISTEN: [(&str, &str); 2] =
            [("ETCD_LISTEN_CLIENT_URLS", "client"), ("ETCD_LISTEN_PEER_URLS", "other member")];
        let address = self.node.ip()?;
        let own = layout::config_file(&self.settings.config_dir);
        let is_brought = environment::is_brought(self.fit.document, self.node);
        let serves =
            |url: &str| etcd::url::ip(url).is_none_or(|ip| ip == address || ip.is_unspecified());
        let undo = |set: &Setting| match set.source == own {
            true => "change it in the document",
            false => "remove it there",
        };
        let hidden = LISTEN.into_iter().find_map(|(name, who)| {
            let set = next.get(name)?;
            let is_judged = set.source != own || is_brought;
            (is_judged && !set.value.split(',').any(serves)).then(|| {
                format!(
                    "{} sets {name} to {}, where no {who} reaches it at {address}: {}",
                    set.source,
                    set.value,
                    undo(set)
                )
            })
        });
        // Clients learn from the member list where to go.
        let astray = |url: &str| {
            let mut others = self.fit.document.nodes.iter().filter(|o| o.name != self.node.name);
            etcd::url::ip(url)
                .is_some_and(|ip| ip.is_loopback() || others.any(|o| o.ip() == Some(ip)))
        };
        let advertised = next.get(ADVERTISE).filter(|_| is_brought);
        let advertised = advertised.filter(|set| set.value.split(',').any(astray));
        hidden.or_else(|| {
            let set = advertised?;
            Some(format!(
                "{} sets {ADVERTISE} to {}, which leads clients to another member, or to \
                 themselves: {}",
                set.source,
                set.value,
                undo(set)
            ))
        })
    }

    /// A quota that the member does not have yet, and that its database fills already. With the
    /// first member that has it the whole cluster takes no more writes. Where it does not answer,
    /// the smallest database of those that do counts.
    fn quota(&self, next: &environment::Variables) -> Option<String> {
        const QUOTA: &str = "ETCD_QUOTA_BACKEND_BYTES";
        // Of none, or 0 (DefaultQuotaBytes in etcd's server/storage); one below is no limit.
        const DEFAULT: i64 = 2 << 30;
        let bytes = |value: Option<&String>| match value.and_then(|value| value.parse().ok()) {
            Some(0) | None => DEFAULT,
            Some(..0) => i64::MAX,
            Some(bytes) => bytes,
        };
        let replies = &self.fit.cluster.replies;
        let own = replies.get(&self.node.name).map(|status| status.db_size_bytes);
        let size = own.or_else(|| replies.values().map(|status| status.db_size_bytes).min())?;
        let process = self.facts.process();
        let old = process.map(|process| bytes(process.variables.get(QUOTA)));
        let set = next.get(QUOTA)?;
        let new = bytes(Some(&set.value));
        // Where the cluster is full already, it is no reason to refuse what may cure it.
        let mut alarms = replies.values().flat_map(|status| &status.alarms);
        let is_new = match old {
            Some(old) => new < old,
            None => !alarms.any(|alarm| alarm.alarm == "NOSPACE"),
        };
        let is_full = is_new && u64::try_from(new).is_ok_and(|new| new <= size);
        (is_full && self.fit.purpose != Purpose::Preflight).then(|| {
            format!(
                "{} sets {QUOTA} to {new}, and the database has {size} bytes: the cluster would \
                 take no more writes: set a larger quota, or compact and defragment it first",
                set.source
            )
        })
    }

    /// A limit with which the member would refuse what clients usually write.
    fn deaf(next: &environment::Variables) -> Option<String> {
        const LIMIT: &str = "ETCD_MAX_REQUEST_BYTES";
        const LEAST: u64 = 64 << 10;
        let set = next.get(LIMIT)?;
        (set.value.parse::<u64>().ok()? < LEAST).then(|| {
            format!(
                "{} sets {LIMIT} to {}, and etcd would refuse all that is larger: set {LEAST} or \
                 more",
                set.source, set.value
            )
        })
    }

    /// A setting with which the member, where it runs without, would shut out these tools, its
    /// clients, or its peers.
    fn shut(&self, next: &environment::Variables) -> Option<String> {
        const GATEWAY: &str = "ETCD_ENABLE_GRPC_GATEWAY";
        const SHUT: [(&str, &str); 3] = [
            (GATEWAY, "etcd would answer no HTTP, with which these tools ask it: leave it out"),
            (
                "ETCD_LISTEN_CLIENT_HTTP_URLS",
                "etcd would answer HTTP, with which these tools ask it, at no other URL: leave it \
                 out",
            ),
            (
                "ETCD_CLIENT_CERT_ALLOWED_HOSTNAME",
                "etcd would refuse clients whose certificates do not name it, as those of \
                 etcd-cert do not: leave it out",
            ),
        ];
        const PEERS: &str = "ETCD_PEER_CERT_ALLOWED_CN";
        let process = self.facts.process();
        let is_new = |name: &str| {
            let set = next.get(name).filter(|set| !set.value.is_empty())?;
            let runs = process.and_then(|process| process.variables.get(name));
            let is_harmless = name == GATEWAY && etcd::value::boolean(&set.value) != Some(false);
            let is_judged =
                process.is_some() || environment::is_brought(self.fit.document, self.node);
            (is_judged && runs != Some(&set.value) && !is_harmless).then_some(set)
        };
        let sets = |set: &Setting, name: &str, why: &str| {
            format!("{} sets {name} to {}, and {why}", set.source, set.value)
        };
        let shut = SHUT.iter().find_map(|(name, why)| Some(sets(is_new(name)?, name, why)));
        shut.or_else(|| {
            let set = is_new(PEERS)?;
            let mut others = self.fit.document.nodes.iter().filter(|o| o.name != self.node.name);
            let (other, name) = others.find_map(|other| {
                let name = own::peer_name(self.fit.document, other)?;
                (!set.value.split(',').any(|allowed| allowed == name)).then_some((other, name))
            })?;
            let why = format!(
                "it would refuse {}, whose certificate has the name {name}: leave it out",
                other.name
            );
            Some(sets(set, PEERS, &why))
        })
    }

    /// What would keep etcd from starting, whatever its configuration: a drop-in, or an
    /// address that the host does not have.
    pub(super) fn obstacle(&self, next: &environment::Variables) -> Option<String> {
        let Self { fit, node, facts, .. } = self;
        if let Some(found) = environment::obstacle(fit.document, node, facts) {
            let etcd::unit::Obstacle { path, key, value } = found;
            return Some(format!(
                "{path} sets {key}={value}, with which etcd would not start as {} has it: remove \
                 it there",
                layout::UNIT
            ));
        }
        if let Some(why) = self.quota(next) {
            return Some(why);
        }
        if let Some(why) = Self::deaf(next).or_else(|| self.shut(next)).or_else(|| self.port(next))
        {
            return Some(why);
        }
        let shadowing =
            next.iter().find_map(|(name, set)| Some((name, set, set.shadowed.as_ref()?)));
        if let Some((name, flag, variable)) = shadowing {
            return Some(format!(
                "{} gives etcd a flag for {name}, which {variable} sets, and with both etcd does \
                 not start: remove the flag",
                flag.source
            ));
        }
        // The configuration that is there is yet to be overwritten.
        let own = layout::config_file(&self.settings.config_dir);
        let passes = matches!(fit.purpose, Purpose::Preflight | Purpose::Join)
            && !environment::is_brought(fit.document, node);
        let listens = next.iter().filter(|(name, set)| {
            name.starts_with("ETCD_LISTEN_")
                && name.ends_with("_URLS")
                && !facts.addresses.is_empty()
                && !(passes && set.source == own)
        });
        let urls =
            listens.flat_map(|(name, set)| set.value.split(',').map(move |url| (name, set, url)));
        urls.into_iter().find_map(|(name, set, url)| {
            let ip = etcd::url::ip(url)?;
            let there = ip.is_unspecified() || ip.is_loopback() || facts.addresses.contains(&ip);
            (!there).then(|| {
                format!(
                    "{} sets {name} to {url}, and the host has no address {ip}: etcd would not \
                     start: change it",
                    set.source
                )
            })
        })
    }

    /// A port at which the member could not listen. What is not rendered yet is taken from the
    /// document; etcd-preflight has a check of its own.
    pub(super) fn port(&self, next: &environment::Variables) -> Option<String> {
        const LISTEN: [&str; 2] = ["ETCD_LISTEN_CLIENT_URLS", "ETCD_LISTEN_PEER_URLS"];
        let Self { fit, node, facts, .. } = self;
        let document = fit.document;
        let is_to_come = fit.purpose == Purpose::Join && !environment::is_brought(document, node);
        let urls: Vec<(String, String)> = match fit.purpose {
            Purpose::Preflight => return None,
            _ if is_to_come => {
                let urls = [document.listen_client_urls(node), document.listen_peer_url(node)];
                urls.map(|urls| ("the document".to_owned(), urls)).into()
            }
            _ => {
                let set = LISTEN.iter().filter_map(|name| next.get(*name));
                set.map(|set| (set.source.clone(), set.value.clone())).collect()
            }
        };
        // Where its own process listens, as far as that tells.
        let own = facts.process().map(Process::urls);
        if own.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let parsed = |url: &str| {
            let (_, _, port) = etcd::url::parts(url)?;
            Some((etcd::url::ip(url)?, port.parse::<u16>().ok()?))
        };
        let own: Vec<_> = own.iter().flatten().filter_map(|url| parsed(url)).collect();
        let all = urls.iter().flat_map(|(by, urls)| urls.split(',').map(move |url| (by, url)));
        let mut new = all.filter_map(|(by, url)| Some((by, url, parsed(url)?)));
        let has_capability = || {
            let of_document = node.units.iter().map(|unit| &unit.content);
            let mut texts = of_document.chain(facts.definition.iter().map(|text| &text.content));
            texts.any(|text| text.contains("AmbientCapabilities"))
        };
        new.find_map(|(by, url, (ip, port))| {
            if own.iter().any(|(_, its)| *its == port) {
                return None;
            }
            let meets = |(other, at): &(IpAddr, u16)| {
                *at == port && (*other == ip || other.is_unspecified() || ip.is_unspecified())
            };
            let why = if facts.listening.iter().any(meets) {
                "another program listens there: stop that, or set another port"
            } else if port < facts.unprivileged && self.settings.user != "root" && !has_capability()
            {
                "only root may listen at a port below 1024: set another port"
            } else {
                return None;
            };
            Some(format!("{by} has etcd listen at {url}, where it could not start: {why}"))
        })
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
        let process = facts.processes.iter().find(|process| !ours(process))?;
        Some(format!(
            "process {} ({}, in {}) is an etcd that these tools did not install: to keep \
             it, use etcd-health, etcd-snapshot and etcd-member alone; to deploy here, stop and \
             remove it first",
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
            let (what, old, new, from, to) = match same_data {
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
            let names = ["ETCD_WAL_DIR", "ETCD_DATA_DIR"].into_iter().skip(usize::from(!same_data));
            let set = names.filter_map(|name| configured.get(name)).next().filter(|_| !brought);
            let says = set.map_or("the document", |set| &set.source);
            let config = layout::config_file(&self.settings.config_dir);
            if set.is_some_and(|set| set.source != config) {
                return Some(format!("its {what} is in {old}, {says} says {new}: remove it there"));
            }
            let (folder, name) = to.rsplit_once('/').unwrap_or_default();
            let keeps_name = from.rsplit('/').next() == Some(name);
            let to = if keeps_name { &format!("{folder}/") } else { to };
            return Some(format!(
                "its {what} is in {old}, {says} says {new}: change it back, or stop the \
                 member, move it there (`mkdir -p {folder} && mv {from} {to}`), and run this again"
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
                "stop the wrong one and move its {}/{} away, or take it out of the document",
                self.place.data,
                layout::MEMBER
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
                "its data is of member {}, which the cluster has removed: move {}/{} away, then \
                 add the node: {ADD}",
                own.member,
                self.place.data,
                layout::MEMBER,
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
    fn unit_of_document(&self) -> Option<&Unit> {
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
    fn other_release(&self) -> Option<String> {
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
    fn renamed(&self, name: &str) -> String {
        format!(
            "its data is of member {name}, the document calls it {}: a member keeps its name: \
             change the document back",
            self.node.name
        )
    }
}

/// The program of a command line of `ExecStart=`.
fn program(command: &str) -> Option<&str> {
    // systemd takes these before it for what is to be done about it.
    let program = command.split_whitespace().next()?;
    Some(program.trim_start_matches(['-', '@', ':', '+', '!', '|']))
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

/// Why a member with the variables `next` at its next start would be alone after it.
pub(super) fn forces_new_cluster(next: &environment::Variables) -> Option<String> {
    const FORCE: &str = "ETCD_FORCE_NEW_CLUSTER";
    let is_harmless = |value: &str| value.is_empty() || etcd::value::boolean(value) == Some(false);
    let Setting { source, value, .. } = next.get(FORCE).filter(|set| !is_harmless(&set.value))?;
    Some(format!(
        "{source} sets {FORCE} to {value}, which removes all other members at the next start: \
         remove it there"
    ))
}
