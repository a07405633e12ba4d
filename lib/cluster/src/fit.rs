//! Does the document fit the cluster? Asked before the first write on any node.
//!
//! The running cluster is right, the document is a wish. A [`query`] says what of
//! etcd runs and lies on a node, in the same exchange that reads the node's
//! state; [`allows`] then asks the members that run what they know of the cluster,
//! and says what must not become true, with the way out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use client::CredentialArgs;
use etcd::layout;
use futures::future::join_all;
use pipeline::document::{Member, Node};
use pipeline::{Code, Document, Run, Severity, ToolResult, disk};
use remote::{Host, Input};

use crate::{Held, Lease};
use cluster::Cluster;
use compare::{Fit, NodeFit};
use environment::Place;

pub use compare::{OutOfSight, PLAIN_PEERS, extra_members, misplaced, out_of_sight};
pub use facts::{Facts, query, search};
pub use own::may_enter;
pub use replace::{Elsewhere, Replaced, replaced};

mod cluster;
mod compare;
mod environment;
mod facts;
mod identity;
mod next;
mod own;
mod replace;
mod version;

/// Removes the file `$1`.
const REMOVE: &str = r#"rm -f -- "$1" || die "$1: removing it failed""#;

/// The limit of one member's answer: one that is frozen holds up nobody.
const LIMIT: Duration = Duration::from_secs(3);

/// The most that is read of a file of CA certificates, in bytes.
const CA_BYTES: u64 = 1 << 20;

/// Whether `document` says how etcd is to run on `node`: it brings its release,
/// its configuration or its unit. For a preflight every document does.
fn concerns(document: &Document, node: &Node, purpose: Purpose) -> bool {
    purpose == Purpose::Preflight
        || purpose == (Purpose::Start { member: true })
        || document.release.is_some()
        || environment::is_brought(document, node)
        || node.units.iter().any(|unit| unit.name == layout::UNIT)
}

/// Whether writing the files of `document` to `node` may not fit the cluster. Where no node is
/// touched so, [`allows`] needs no answer to a [`query`].
pub fn touches_etcd(document: &Document, node: &Node) -> bool {
    let settings = document.settings(node);
    let files = node.files.iter().map(|file| &file.path);
    let mut paths = files.chain(node.directories.iter().map(|folder| &folder.path));
    concerns(document, node, Purpose::Push { replace_ca: false })
        || paths.any(|path| own::is_own(path, &settings))
}

/// Why the unit `name`, which is none of etcd's and has the text `definition`, may not be started
/// on `node`, where an etcd is: systemd would give it a folder of etcd's.
pub fn taken_from_etcd(
    document: &Document,
    node: &Node,
    facts: &Facts,
    name: &str,
    definition: &str,
) -> Option<String> {
    let own = facts.own_folders(document, node);
    let managed = etcd::unit::managed_folders(name, definition).into_iter();
    let mut pairs = managed.flat_map(|managed| own.iter().map(move |own| (managed.clone(), own)));
    let ((key, folder), own) = pairs.find(|((_, folder), own)| {
        let (folder, own) = (Path::new(folder), Path::new(own));
        folder.starts_with(own) || own.starts_with(folder)
    })?;
    Some(format!(
        "{key}= has systemd give it {folder} with all that is there, and etcd has its own in {own}: \
         name another folder"
    ))
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
    Start {
        /// Whether etcd's own unit is among what may be started.
        member: bool,
    },
    /// Nothing yet: to learn whether the document fits, even one that says nothing but
    /// which nodes there are.
    Preflight,
    /// Make a node without a member one of the cluster.
    Join,
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

    /// What the process of etcd on `node` would be older than once the files of `document`
    /// are in place; nothing where none runs.
    pub fn pending(&self, document: &Document, node: &Node) -> Vec<&'static str> {
        let facts = self.facts(&node.name);
        facts.map(|facts| environment::pending(document, node, facts)).unwrap_or_default()
    }

    /// Why the member that runs on the node `name` would not come back from a restart, as far as
    /// its disk tells.
    pub fn cannot_come_back(&self, name: &str) -> Option<&str> {
        self.facts(name)?.cannot_come_back()
    }

    /// Whether the member of `node` would start with data.
    pub fn has_data(&self, document: &Document, node: &Node) -> bool {
        let has = |facts: &Facts| facts.has_log(&Place::wanted(document, node, facts));
        self.facts(&node.name).is_some_and(has)
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
/// written on any: the first query of `lease` was a [`query`]. The members that run are
/// asked with `credentials`. What does not fit is
/// reported; nothing when something must not become true, and nothing may be written.
pub async fn allows(
    run: &Run,
    lease: &Lease<'_>,
    purpose: Purpose,
    credentials: &CredentialArgs,
) -> Option<Allowed> {
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
    let announced = if run.check() { Announced::of(&run.document) } else { Announced::default() };
    let pushed =
        if run.check() { would_change(&run.document, "etcd-push") } else { BTreeSet::new() };
    let look = Look { credentials, announced: &announced, pushed: &pushed };
    let mut verdict = check(&run.document, &run.nodes(), &nodes, purpose, look).await;
    if verdict.refuses() && !refused {
        // A member that is just starting may have made its log, and told the others of
        // itself, after the look at its node.
        look_again(&run.document, &mut nodes).await;
        verdict = check(&run.document, &run.nodes(), &nodes, purpose, look).await;
    }
    refused |= verdict.refuses();
    verdict.results.into_iter().for_each(|result| run.report(result));
    let facts = nodes.into_iter().map(|(node, _, facts)| (node.name.clone(), facts)).collect();
    (!refused).then_some(Allowed { facts, void_marks: verdict.void_marks })
}

/// What of the document of `run` does not fit its `nodes`, all that answered a [`query`]:
/// what [`allows`] would refuse, found without a lock and reported by the caller. The member of
/// the node `updated` is taken as it is in the document, whatever the cluster still says of it.
pub async fn mismatches(
    run: &Run,
    nodes: &[(&Node, &Host, Facts)],
    credentials: &CredentialArgs,
    updated: Option<&str>,
) -> Vec<ToolResult> {
    let updated = updated.into_iter().collect();
    let announced = Announced { updated, ..Announced::default() };
    let look = Look { credentials, announced: &announced, pushed: &BTreeSet::new() };
    check(&run.document, &run.nodes(), nodes, Purpose::Preflight, look).await.results
}

/// What on the host of `node`, which answered a [`query`] with `facts` and has no member,
/// would keep one from being put there and started: to be known before the cluster is
/// changed for it.
pub fn obstacles(document: &Document, node: &Node, facts: &Facts) -> Vec<ToolResult> {
    joining(document, node, facts, |node| node.obstacles())
}

/// Why the member of `node`, which answered a [`query`] with `facts`, could not listen where the
/// document says; in words.
pub fn port(document: &Document, node: &Node, facts: &Facts) -> Option<String> {
    joining(document, node, facts, |node| node.port(&node.next_start()))
}

/// What `ask` gives of `node`, which is to have a member beside nobody that is known.
fn joining<T>(
    document: &Document,
    node: &Node,
    facts: &Facts,
    ask: impl FnOnce(NodeFit) -> T,
) -> T {
    let (cluster, pushed) = (Cluster::default(), BTreeSet::new());
    let fit = Fit {
        document,
        facts: vec![(node, facts)],
        cluster: &cluster,
        purpose: Purpose::Join,
        own_ca: "",
        pushed: &pushed,
    };
    ask(NodeFit::new(&fit, node, facts))
}

/// Why the member of `node`, which answered a [`query`] with `facts`, would be the only one of
/// its cluster after its next start; in words.
pub fn forces_new_cluster(document: &Document, node: &Node, facts: &Facts) -> Option<String> {
    next::forces_new_cluster(&environment::next_start(document, node, facts))
}

/// Where the member on the host of `node`, which answered a [`query`] with `facts`, has its data
/// or its log, if the document does not say so; in words.
pub fn data_elsewhere(document: &Document, node: &Node, facts: &Facts) -> Option<String> {
    let settings = document.settings(node);
    let told = told(document, node, facts);
    let Place { data, wal } = Place::of(&told).or_else(|| facts.marked.clone())?;
    let log = layout::wal_folder(&settings.data_dir, settings.wal_dir.as_deref());
    if data != settings.data_dir {
        return Some(format!("its data is in {data}, the document says {}", settings.data_dir));
    }
    let named = compare::wal_name(&wal);
    (wal != log).then(|| format!("its write-ahead log is in {wal}{named}, the document says {log}"))
}

/// The same, or where it has its certificates.
pub fn elsewhere(document: &Document, node: &Node, facts: &Facts) -> Option<String> {
    let certs = || {
        let told = told(document, node, facts);
        let (is, _) = told.get("ETCD_TRUSTED_CA_FILE")?.rsplit_once('/')?;
        let says = document.settings(node).cert_dir;
        (is != says).then(|| format!("its certificates are in {is}, the document says {says}"))
    };
    data_elsewhere(document, node, facts).or_else(certs)
}

/// What the configuration on `node`, and the process that runs there, tell etcd.
fn told(document: &Document, node: &Node, facts: &Facts) -> BTreeMap<String, String> {
    let mut told = environment::values(environment::on_node(document, node, facts));
    told.extend(facts.process().into_iter().flat_map(|process| process.variables.clone()));
    told
}

/// How the cluster is looked at.
#[derive(Clone, Copy)]
struct Look<'a> {
    credentials: &'a CredentialArgs,
    announced: &'a Announced<'a>,
    /// The nodes whose files are not those that an earlier stage with `--check` would have
    /// put there.
    pushed: &'a BTreeSet<&'a str>,
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

/// What etcd-member, an earlier stage with `--check`, would have done: the names of the nodes, and
/// of a member that is none any more.
#[derive(Debug, Default)]
pub struct Announced<'a> {
    added: Vec<&'a str>,
    updated: Vec<&'a str>,
    removed: Vec<&'a str>,
}

impl<'a> Announced<'a> {
    /// By the results in `document`.
    pub fn of(document: &'a Document) -> Self {
        let mut announced = Self::default();
        let is_announced =
            |result: &&ToolResult| result.tool == "etcd-member" && result.code == Code::WouldChange;
        for result in document.results.iter().filter(is_announced) {
            let node = result.node.as_deref();
            if result.message.starts_with("would add ") {
                announced.added.extend(node);
            } else if result.message.starts_with("would update ") {
                announced.updated.extend(node);
            } else if let Some(rest) = result.message.strip_prefix("would remove member ") {
                announced.removed.extend(rest.split(' ').next());
            }
        }
        announced
    }

    /// Whether the node `name` would have become a member.
    pub fn adds(&self, name: &str) -> bool {
        self.added.contains(&name)
    }

    /// Whether `member` would have been removed.
    pub fn removes(&self, member: &Member) -> bool {
        self.removed.contains(&member.label())
    }

    /// Does that to `members`.
    fn apply(&self, document: &Document, members: &mut Vec<Member>) {
        if members.is_empty() {
            return;
        }
        members.retain(|member| !self.removes(member));
        let urls = |name: &str| {
            let node = document.nodes.iter().find(|node| node.name == name);
            node.map(|node| vec![document.peer_url(node)])
        };
        for member in members.iter_mut().filter(|m| self.updated.contains(&m.name.as_str())) {
            member.peer_urls = urls(&member.name).unwrap_or_default();
        }
        let added = self.added.iter().filter_map(|name| urls(name));
        members.extend(added.map(|peer_urls| Member { peer_urls, ..Member::default() }));
    }
}

/// The nodes on which `tool`, an earlier stage with `--check`, would have changed something.
pub fn would_change<'a>(document: &'a Document, tool: &str) -> BTreeSet<&'a str> {
    let by_tool = |result: &&ToolResult| result.tool == tool && result.code == Code::WouldChange;
    document.results.iter().filter(by_tool).filter_map(|r| r.node.as_deref()).collect()
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
    look: Look<'_>,
) -> Verdict {
    let is_selected = |node: &Node| selected.iter().any(|selected| selected.name == node.name);
    let concerned = selected.iter().any(|node| concerns(document, node, purpose));
    let mut cluster = match concerned {
        true => Cluster::ask(document, nodes, look.credentials).await,
        false => Cluster::default(),
    };
    look.announced.apply(document, &mut cluster.members);
    let facts = nodes.iter().map(|(node, _, facts)| (*node, facts)).collect();
    let own_ca = look.credentials.ca(document);
    let own_ca = own_ca.and_then(|path| disk::read_text(&path, CA_BYTES).ok()).unwrap_or_default();
    let fit =
        Fit { document, facts, cluster: &cluster, purpose, own_ca: &own_ca, pushed: look.pushed };
    let results = fit.compare(is_selected);
    let void = nodes.iter().filter(|(node, _, facts)| {
        is_selected(node) && concerns(document, node, purpose) && fit.mark_is_void(node, facts)
    });
    let void_marks = void.map(|(node, ..)| node.name.clone()).collect();
    Verdict { results, void_marks }
}

#[cfg(test)]
mod tests;
