//! `add` and `promote`: nodes become members.

use std::time::Duration;

use anyhow::Result;
use cluster::fit::{self, Announced, Facts};
use cluster::guard::{Refusal, View};
use cluster::members::{Accepted, Policy};
use pipeline::document::{ClusterState, Member, Node};
use pipeline::terminal::Progress;
use pipeline::{Code, Document, Run, ToolResult};
use remote::Fleet;

use crate::change::{Change, Look};
use crate::{AddArgs, ChangeArgs};

/// How long members that run may take to say who they are, before it is taken for granted
/// that there is no cluster yet.
const PATIENCE: Duration = Duration::from_secs(15);

/// What becomes of the document.
#[derive(Default)]
struct Outcome {
    /// The nodes that join the cluster, and what they are to find.
    joining: Vec<String>,
    initial_cluster: String,
    /// The nodes that are no members yet.
    left_out: Vec<String>,
}

/// The `add` command.
pub(crate) async fn add(tool: &crate::Member, run: &mut Run, args: &AddArgs) -> Result<()> {
    let fleet = Fleet::new(&tool.ssh, run.common.jobs)?;
    let outcome = {
        let _progress = Progress::wait("looking at the members");
        let Some(change) = Change::begin(tool, run, &fleet, args.change, Look::AtFolders).await?
        else {
            return Ok(());
        };
        let outcome = add_one(&change, args).await;
        change.lease.release().await;
        outcome
    };
    for node in &mut run.document.nodes {
        if outcome.joining.contains(&node.name) {
            node.settings.initial_cluster_state = Some(ClusterState::Existing);
            node.settings.initial_cluster = Some(outcome.initial_cluster.clone());
        }
    }
    run.document.nodes.retain(|node| !outcome.left_out.contains(&node.name));
    Ok(())
}

async fn add_one(change: &Change<'_>, args: &AddArgs) -> Outcome {
    let (run, document) = (change.run, &change.run.document);
    let mut outcome = Outcome::default();
    let running = change.facts.values().any(Facts::runs_etcd);
    let limit = if running { PATIENCE.min(args.change.timeout) } else { Duration::ZERO };
    let policy = Policy::new(Accepted::default(), limit);
    let view = match change.view(policy).await {
        Ok(view) => view,
        // Whether the nodes may be started all the same is for etcd-push and etcd-unit to say.
        Err(why @ Refusal::NoMemberList(..)) => {
            let message = "no member is running: nothing to add to";
            let said = format!("nothing added: {why}");
            run.report(match (running, &why) {
                (true, Refusal::NoMemberList(_, false)) => ToolResult::error(why.code(), said),
                (true, _) => ToolResult::warning(why.code(), said),
                (false, _) => ToolResult::unchanged(Code::UpToDate, message),
            });
            return outcome;
        }
        Err(why) => {
            run.report(ToolResult::error(Code::Failed, why.to_string()));
            return outcome;
        }
    };
    // One that an earlier stage with --check would have removed is to be added again.
    let mut members = view.members.clone();
    let announced = Announced::of(document);
    members.retain(|member| !announced.removes(member));
    let missing: Vec<_> =
        document.nodes.iter().filter(|node| !is_known(document, node, &members)).collect();
    if missing.is_empty() {
        let message = "all nodes are members already";
        run.report(ToolResult::unchanged(Code::UpToDate, message));
    }
    let selected: Vec<_> = run.nodes().iter().map(|node| node.name.clone()).collect();
    let joining: Vec<_> = missing.iter().filter(|node| selected.contains(&node.name)).collect();
    // Known of all of them before the first one joins.
    let mut obstacles: Vec<_> =
        joining.iter().flat_map(|node| obstacles(change, node, &members)).collect();
    if !joining.is_empty() {
        obstacles.extend(obstacles_of_all(change, &view, &members).await);
    }
    if let [first, ..] = joining[..]
        && obstacles.is_empty()
        && let Some(added) = add_node(change, args, &view, first).await
    {
        members.push(added);
    }
    let refused = !obstacles.is_empty();
    obstacles.into_iter().for_each(|why| report(run, "not added", why));
    for node in &document.nodes {
        if !is_known(document, node, &members) {
            outcome.left_out.push(node.name.clone());
            if !refused && !run.failed(&node.name) {
                let message = "left out, as it is no member yet: run this again to add it";
                run.report(ToolResult::warning(Code::LeftOut, message).on(&node.name));
            }
        } else if is_waiting(document, node, &members) {
            outcome.joining.push(node.name.clone());
        }
    }
    outcome.initial_cluster = initial_cluster(document, &members);
    outcome
}

/// Adds `node`, and gives the member that it is then; what keeps it from that is reported,
/// but for a learner of the document that comes first.
async fn add_node(change: &Change<'_>, args: &AddArgs, view: &View, node: &Node) -> Option<Member> {
    let (run, document) = (change.run, &change.run.document);
    let refused = |code, why: String| {
        run.report(ToolResult::error(code, format!("not added: {why}")).on(&node.name));
        None
    };
    let learner = view.members.iter().find(|member| member.is_learner);
    if let Some(learner) = learner.filter(|_| !args.allow_second_learner) {
        let is_node = document.nodes.iter().any(|node| is_member(document, node, learner));
        let selected = run.nodes();
        let is_selected = selected.iter().any(|node| is_member(document, node, learner));
        return match is_node {
            true if is_selected => None,
            true => refused(
                Code::Mismatch,
                format!(
                    "{name} ({}) is a learner, and etcd takes one at a time: start and promote it \
                     first, or remove it: `etcd-member remove {name}`",
                    learner.peer_urls.join(","),
                    name = learner.label()
                ),
            ),
            false => refused(
                Code::Mismatch,
                format!(
                    "{name} ({}) is a learner, and no node in the document: add it there, or \
                     remove it: `etcd-member remove {name}`",
                    learner.peer_urls.join(","),
                    name = learner.label()
                ),
            ),
        };
    }
    let accepted = Accepted { quorum: false, margin: args.lose_margin };
    let policy = Policy::new(accepted, args.change.timeout);
    let url = document.peer_url(node);
    let done = if run.check() {
        let announced = Announced::of(document);
        let leaves = view.members.iter().any(|member| announced.removes(member));
        // Of a cluster that one has left before, nothing is to be seen yet.
        let may_add = |view: &View| if leaves { Ok(()) } else { view.may_add() };
        change.cluster.view_when(policy, may_add).await.map(drop)
    } else {
        change.cluster.add_learner(policy, &url).await
    };
    if let Err(why) = done {
        change.refuse(Some(node), "not added", &why);
        return None;
    }
    run.report(
        match run.check() {
            true => ToolResult::would_change("would add it to the cluster, as a learner"),
            false => ToolResult::changed(Code::Added, "added to the cluster, as a learner"),
        }
        .on(&node.name),
    );
    Some(Member { peer_urls: vec![url], is_learner: true, ..Member::default() })
}

/// Reports one of the [`obstacles`] that are the reason for `what`.
pub(crate) fn report(run: &Run, what: &str, why: ToolResult) {
    let message = format!("{what}: {}", why.message);
    run.report(ToolResult { message, ..why });
}

/// What to do with the `folders` of data that is given up.
pub(crate) fn set_aside(folders: &[String]) -> String {
    let moves = folders.iter().map(|folder| format!("{folder} to {folder}.old"));
    format!("rename {}", moves.collect::<Vec<_>>().join(", and "))
}

/// What keeps a new member from being started on `node`, beside `members`.
pub(crate) fn obstacles(change: &Change<'_>, node: &Node, members: &[Member]) -> Vec<ToolResult> {
    let no = |code: Code, why: String| vec![ToolResult::error(code, why).on(&node.name)];
    if let Some(error) = change.unknown(node) {
        return no(error.code(), error.to_string());
    }
    let document = &change.run.document;
    let Some(facts) = change.facts.get(&node.name) else {
        // What it said could not be read, which was reported.
        return no(Code::CommandFailed, "its state is not known".into());
    };
    let data_of = facts.member(document, node);
    if let Some(member) = members.iter().find(|member| data_of == Some(&member.id)) {
        let name = member.label();
        return no(
            Code::Mismatch,
            format!(
                "its host has the data of member {name}, and a member keeps its name: change the \
                 document back, or take {name} out of the cluster and its data away first: \
                 `scripts/shrink NODES {name}`"
            ),
        );
    }
    if facts.runs_etcd() {
        let why = "it is no member, and an etcd runs there, which may be one of another cluster: \
                   leave this node out, or, where nobody needs that etcd, stop it, and move its \
                   data away";
        return no(Code::Mismatch, why.into());
    }
    if !facts.is_vacant(document, node) {
        let data = facts.data_dir(document, node);
        let folders = facts.data_folders(document, node);
        let url = document.peer_url(node);
        let is_member = members.iter().any(|member| member.peer_urls.contains(&url));
        let why = match data_of.filter(|_| is_member) {
            Some(other) => format!(
                "its data is of member {other}, which the cluster has removed: {}, and run this \
                 again",
                set_aside(&folders)
            ),
            None if is_member => format!(
                "its write-ahead log is missing or cannot be read, and there is other data of it: \
                 {}, and run this again",
                set_aside(&folders)
            ),
            None => format!(
                "it is no member, and there is data of one in {data}: move {} away",
                folders.join(" and ")
            ),
        };
        return no(Code::Mismatch, why);
    }
    let mut obstacles = fit::obstacles(document, node, facts);
    if let Some(why) = etcd_render::refusal(document, node) {
        let why = format!("etcd-render would not go on after it: {why}");
        obstacles.push(ToolResult::error(Code::Mismatch, why).on(&node.name));
    }
    obstacles
}

/// What keeps any new member from being started beside `members`: those that are
/// [left out](left_out_of_list), nodes that are known otherwise, or on which etcd runs otherwise
/// than the document says, and a downgrade, in the middle of which neither of the two releases
/// joins.
pub(crate) async fn obstacles_of_all(
    change: &Change<'_>,
    view: &View,
    members: &[Member],
) -> Vec<ToolResult> {
    let document = &change.run.document;
    let announced = Announced::of(document);
    let stay = members.iter().filter(|member| !announced.removes(member));
    let stay: Vec<_> = stay.cloned().collect();
    let mut obstacles = left_out_of_list(document, &stay);
    obstacles.extend(fit::misplaced(document, &stay));
    if obstacles.is_empty() {
        obstacles.extend(change.mismatches(|node| is_known(document, node, &stay), None).await);
    }
    obstacles.extend(change.cluster.downgrade(view).await.map(|downgrade| {
        let why =
            format!("{downgrade}: nobody can join before: where a member is lost, take it back");
        ToolResult::error(Code::DowngradePending, why)
    }));
    obstacles
}

/// The voters that are on no node of the document: with such a list etcd-push would refuse to
/// go on when the cluster has been changed.
pub(crate) fn left_out_of_list(document: &Document, members: &[Member]) -> Vec<ToolResult> {
    let voters: Vec<_> = members.iter().filter(|member| !member.is_learner).cloned().collect();
    let extra = fit::extra_members(document, &voters);
    extra.into_iter().map(|why| ToolResult::error(Code::UnknownMember, why)).collect()
}

/// Whether `node` is `member`, exactly.
pub(crate) fn is_member(document: &Document, node: &Node, member: &Member) -> bool {
    member.peer_urls.contains(&document.peer_url(node))
        && (member.name.is_empty() || member.name == node.name)
}

/// Whether the cluster knows the name or the peer URL of `node`. Where it knows them as
/// those of different members, etcd-push says so.
pub(crate) fn is_known(document: &Document, node: &Node, members: &[Member]) -> bool {
    let url = document.peer_url(node);
    members.iter().any(|member| member.name == node.name || member.peer_urls.contains(&url))
}

/// Whether `node` has been added, as a learner or by others as a voter, and has not started
/// yet.
fn is_waiting(document: &Document, node: &Node, members: &[Member]) -> bool {
    members.iter().any(|m| m.client_urls.is_empty() && is_member(document, node, m))
}

/// `ETCD_INITIAL_CLUSTER` of a member that joins `members`: in the order of the names, which
/// are the IDs of those that are no nodes. etcd compares the peer URLs only
/// (`ValidateClusterAndAssignIDs` in its server/etcdserver/api/membership).
fn initial_cluster(document: &Document, members: &[Member]) -> String {
    let entries = members.iter().flat_map(|member| {
        let node = document.nodes.iter().find(|node| is_member(document, node, member));
        let name = node.map_or(&member.id, |node| &node.name);
        member.peer_urls.iter().map(move |url| format!("{name}={url}"))
    });
    let mut entries: Vec<_> = entries.collect();
    entries.sort_unstable();
    entries.join(",")
}

/// The `promote` command.
pub(crate) async fn promote(tool: &crate::Member, run: &Run, args: ChangeArgs) -> Result<()> {
    let fleet = Fleet::new(&tool.ssh, run.common.jobs)?;
    let progress = Progress::wait("looking at the members");
    let Some(change) = Change::begin(tool, run, &fleet, args, Look::AtFolders).await? else {
        return Ok(());
    };
    // A cluster that a run without --check would make first has no learner.
    let idle = run.check() && !change.facts.values().any(Facts::runs_etcd);
    let limit = if idle { Duration::ZERO } else { args.timeout };
    let policy = Policy::new(Accepted::default(), limit);
    match change.view(policy).await {
        Ok(view) => {
            progress.label("waiting until the learner has caught up");
            promote_all(&change, policy, &view.members).await;
        }
        Err(_) if idle => {
            let message = "no member is running: nothing to promote";
            run.report(ToolResult::unchanged(Code::UpToDate, message));
        }
        Err(why) => change.refuse(None, "nothing promoted", &why),
    }
    change.lease.release().await;
    Ok(())
}

/// That the learner `id` was added, and its etcd has not started yet; etcd says only that it has
/// not caught up.
async fn not_started(change: &Change<'_>, id: &str) -> Option<Refusal> {
    let view = change.cluster.view().await.ok()?;
    let learner = view.members.iter().find(|member| member.id == id)?;
    let why = "its etcd has not started yet: `scripts/grow NODES`, which goes on from here";
    learner.client_urls.is_empty().then(|| Refusal::Failed(why.into()))
}

async fn promote_all(change: &Change<'_>, policy: Policy, members: &[Member]) {
    let (run, document) = (change.run, &change.run.document);
    let announced = Announced::of(document);
    let mut learners = 0;
    for node in run.nodes() {
        let learner =
            members.iter().find(|member| member.is_learner && is_member(document, node, member));
        if run.check() && (learner.is_some() || announced.adds(&node.name)) {
            learners += 1;
            let message = "would promote it to a voting member";
            run.report(ToolResult::would_change(message).on(&node.name));
        } else if let Some(learner) = learner {
            learners += 1;
            match change.cluster.promote(policy, &learner.id).await {
                Ok(()) => {
                    let message = "promoted to a voting member";
                    run.report(ToolResult::changed(Code::Promoted, message).on(&node.name));
                }
                Err(why) => {
                    let why = not_started(change, &learner.id).await.unwrap_or(why);
                    change.refuse(Some(node), "not promoted", &why);
                }
            }
        }
    }
    if learners == 0 {
        let message = "no node is a learner: nothing to promote";
        run.report(ToolResult::unchanged(Code::UpToDate, message));
    }
}
