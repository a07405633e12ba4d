//! `stop` and `uninstall`.

use std::time::Duration;

use anyhow::Result;
use cluster::fit::{self, Facts};
use cluster::guard::{Refusal, Standing};
use cluster::rolling::{Interrupted, Then, one_by_one};
use cluster::units::{self, Changes, JobResult, NodeState, WantedUnit};
use cluster::{Held, Lease};
use pipeline::document::Node;
use pipeline::terminal::Progress;
use pipeline::{Code, Error, Run, ToolResult};
use remote::{Fleet, Input, fan_out};

use crate::beside::{Hit, Task, in_turn};
use crate::{Command, Unit};

/// Removes the data, and what these tools put on the host.
const PURGE: &str = include_str!("purge.sh");

/// How long deleting a folder may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long the members are asked who leads.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What is advised where members outside of the document are all that may serve.
const GONE_FOR_GOOD: &str = ": pass --gone-for-good if those that are not in the document will \
                             never run again";

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Removal {
    /// Stop the units.
    Stop,
    /// Remove their files, too.
    Uninstall,
    /// Remove the data and all files of etcd, too.
    Purge,
}

/// The commands `stop` and `uninstall`.
pub(crate) async fn stop(tool: &Unit, run: &Run, fleet: &Fleet, removal: Removal) -> Result<()> {
    if removal == Removal::Purge && !run.nodes().into_iter().all(|node| has_etcd(tool, node)) {
        let message = match tool.unit {
            Some(_) => {
                "--purge deletes the data of etcd, which is not what --unit names: leave one of \
                 them out"
            }
            None => {
                "--purge deletes the data of etcd, and etcd.service is not in the document: leave \
                 it out, or put etcd-render before this tool"
            }
        };
        return Err(Error::usage(message).into());
    }
    let Some(lease) = tool.lease(run, fleet).await else { return Ok(()) };
    let states = tool.states(run, &lease);
    let spared = tool.refuse_other_etcds(run, &lease, &states);
    let spared = spared
        || removal == Removal::Purge
            && (states.iter().any(|state| refuse_others(run, state))
                || refuse_elsewhere(run, &lease));
    let spared = spared
        || (removal >= Removal::Uninstall && states.iter().any(|state| refuse_alias(run, state)));
    if spared || refuse_out_of_sight(tool, run, fleet, &lease, removal).await? {
        lease.release().await;
        return Ok(());
    }
    let takes_member = |state: &&NodeState| {
        state.units.iter().any(|(wanted, unit)| state.is_member(wanted, unit) && !unit.is_down())
    };
    let (members, others): (Vec<_>, Vec<_>) = states.iter().partition(takes_member);
    let job = async |state: &NodeState<'_>| {
        let stopped = stop_one(tool, run, state, removal >= Removal::Uninstall).await;
        if stopped.well && removal == Removal::Purge {
            purge(run, state).await;
        }
        stopped
    };
    let progress = Progress::wait("stopping");
    let gone_for_good = match tool.command {
        Command::Stop { quorum_is_lost: true, gone_for_good } => Some(gone_for_good),
        _ => None,
    };
    let in_words = tool.lose_quorum || gone_for_good.is_some();
    let at_once = in_words || members.is_empty();
    let refused = if let Some(gone_for_good) = gone_for_good {
        lost(tool, run, fleet, &lease, &states, gone_for_good).await?
    } else if at_once {
        Ok(())
    } else {
        one_after_the_other(tool, run, fleet, &lease, &states, members.clone(), job).await?
    };
    drop(progress);
    match refused {
        Err(why) => {
            for state in &states {
                let result = ToolResult::error(why.code(), format!("not stopped: {why}"));
                run.report(result.on(&state.node.name));
            }
        }
        Ok(()) => {
            let rest = if at_once { states.iter().collect() } else { others };
            let leader = match at_once && members.len() > 1 && !run.check() {
                true => leader(tool, run, (fleet, &lease), &states).await,
                false => None,
            };
            let leads = |state: &&NodeState| leader.as_ref() == Some(&state.node.name);
            let (last, first): (Vec<_>, Vec<_>) = rest.into_iter().partition(leads);
            for part in [first, last] {
                let stays = |state: &NodeState| state.runs_etcd && !in_words && !run.check();
                let tasks = part.into_iter().map(|state| Stay { state, stays: stays(state) });
                let one = async |task: Stay<'_>| job(task.state).await.hit;
                let (jobs, tasks) = (fleet.jobs(), (tasks.collect(), None));
                in_turn(run, jobs, Code::NotStopped, tasks, one, |hit| *hit).await;
            }
        }
    }
    lease.release().await;
    Ok(())
}

/// Gives why it is not certain that quorum is lost: even if every member that nobody can
/// tell of serves, those aside that are `gone_for_good`, and no member outside of the
/// document does.
async fn lost(
    tool: &Unit,
    run: &Run,
    fleet: &Fleet,
    lease: &Lease<'_>,
    states: &[NodeState<'_>],
    gone_for_good: bool,
) -> Result<Result<(), Refusal>> {
    let not = |why: String| Ok(Err(Refusal::NotLost(why)));
    let view = tool.cluster(run, fleet, lease, states)?.view().await?;
    // Where waiting does not help it is the question that is wrong.
    if let Some((why, false)) = view.members_error {
        return not(why);
    }
    if let Some(may_serve) = view.may_have_quorum(gone_for_good) {
        let serving: Vec<_> = may_serve.iter().map(|voter| voter.name.as_str()).collect();
        let advice = match view.may_have_quorum(true).is_none() {
            true => GONE_FOR_GOOD,
            false => "",
        };
        return not(format!("{} may serve{advice}", serving.join(", ")));
    }
    let mut nodes = Vec::new();
    for held in lease.selected.iter().chain(&lease.others) {
        match Facts::read(held.answers.first().map_or(&[], Vec::as_slice)) {
            Ok(facts) => nodes.push((held.node, &held.host, facts)),
            Err(_) => return not(format!("{} does not tell its state", held.node.name)),
        }
    }
    let document = &run.document;
    let found = fit::replaced(document, &nodes, &tool.credentials, Vec::new(), |_| false).await;
    match found.serving.first() {
        Some(other) => not(other.message.clone()),
        None => Ok(Ok(())),
    }
}

/// Does `job` to `members` one by one, if all of them may go; gives why they may not.
async fn one_after_the_other(
    tool: &Unit,
    run: &Run,
    fleet: &Fleet,
    lease: &Lease<'_>,
    states: &[NodeState<'_>],
    members: Vec<&NodeState<'_>>,
    job: impl AsyncFn(&NodeState<'_>) -> Stopped,
) -> Result<Result<(), Refusal>> {
    let cluster = tool.cluster(run, fleet, lease, states)?;
    let going: Vec<_> = members.iter().map(|state| state.node.name.as_str()).collect();
    let view = cluster.view().await?;
    if let Err(why) = view.may_go(&going) {
        return Ok(Err(why));
    }
    // Where the disk of one that stays takes nothing, it may fail at any time.
    let stay = lease.selected.iter().chain(&lease.others);
    let mut stay = stay.filter(|held| !going.contains(&held.node.name.as_str()));
    let sick = stay.find_map(|held| {
        let facts = Facts::read(held.answers.first()?).ok()?;
        let why = facts.cannot_come_back()?;
        Some(format!("{} may fail at any time: {why}, or", held.node.name))
    });
    if let Some(why) = sick {
        return Ok(Err(Refusal::Quorum(why, false)));
    }
    // Whoever stops that member at this moment, with a list of its own, holds other locks.
    if let Some(why) = fit::extra_members(&run.document, &view.members).into_iter().next() {
        return Ok(Err(Refusal::UnknownMember(why)));
    }
    if run.check() {
        fan_out(fleet.jobs(), members, async |state: &NodeState<'_>| job(state).await).await;
        return Ok(Ok(()));
    }
    let name = |state: &&NodeState| state.node.name.clone();
    // What went wrong has been reported by the job itself.
    let failed = || Refusal::Failed("it did not stop".into());
    let one = async |state: &&NodeState<'_>| job(state).await.well.then_some(()).ok_or_else(failed);
    let policy = tool.policy(Then::Gone);
    let taken = one_by_one(run, &cluster, policy, members, name, one, |_| ()).await;
    let Err(interrupted) = taken else { return Ok(Ok(())) };
    let Interrupted { failed, why, left, .. } = &interrupted;
    if let Some(state) = failed.first().filter(|state| !run.failed(&state.node.name)) {
        let message = format!("the cluster is not healthy without it: {why}");
        run.report(ToolResult::error(Code::Unhealthy, message).on(&state.node.name));
    }
    for state in left {
        let node = &state.node.name;
        let message = format!("not stopped: {}", interrupted.left_alone(node));
        run.report(ToolResult::error(Code::NotStopped, message).on(node));
    }
    Ok(Ok(()))
}

/// The node that leads, if that is to be had at once. It goes last: while others still
/// answer, a leader that ends waits for one of them to take over, and for seconds where they
/// end, too.
async fn leader(
    tool: &Unit,
    run: &Run,
    (fleet, lease): (&Fleet, &Lease<'_>),
    states: &[NodeState<'_>],
) -> Option<String> {
    let cluster = tool.cluster(run, fleet, lease, states).ok()?;
    let view = async { Ok::<_, client::Error>(cluster.view_of(cluster.probe().await?).await) };
    let view = tokio::time::timeout(AT_ONCE, view).await.ok()?.ok()?;
    view.voters.into_iter().find(|voter| voter.is_leader)?.node
}

fn has_etcd(tool: &Unit, node: &Node) -> bool {
    tool.wanted(node).iter().any(WantedUnit::runs_etcd)
}

/// A node on which units are stopped.
struct Stay<'a> {
    state: &'a NodeState<'a>,
    /// Whether its etcd is to go on.
    stays: bool,
}

impl<'a> Task<'a> for Stay<'a> {
    fn state(&self) -> &'a NodeState<'a> {
        self.state
    }

    fn may_hit(&self) -> bool {
        self.stays
    }

    fn has_jobs(&self) -> bool {
        false
    }
}

/// How stopping the units of a node went.
struct Stopped {
    /// Whether nothing failed.
    well: bool,
    /// Whether an etcd went down that was to stay.
    hit: Option<Hit>,
}

/// Stops the units of one node.
async fn stop_one(tool: &Unit, run: &Run, state: &NodeState<'_>, uninstall: bool) -> Stopped {
    let stopped = |well, hit| Stopped { well, hit };
    let node = state.node.name.as_str();
    let mut changes = Changes::default();
    let (mut done, mut would) = (Vec::new(), Vec::new());
    let mut note = |past: &str, present: &str, unit: &str| {
        done.push(format!("{past} {unit}"));
        would.push(format!("would {present} {unit}"));
    };
    for (wanted, unit) in &state.units {
        let name = wanted.name.as_str();
        // Until then, systemd starts it again as often as it is stopped.
        let is_upheld = uninstall && unit.is_enabled() && unit.is_upheld();
        if is_upheld {
            changes.unit("disable", name);
            changes.reload();
        }
        if !unit.is_down() {
            match state.is_member(wanted, unit) {
                true => changes.job_with_etcd("stop", name, tool.timeout),
                false => changes.job("stop", name, tool.timeout),
            }
            match unit.takes_etcd_along() {
                Some(etcd) => note("stopped", "stop", &format!("{name}, and with it {etcd}")),
                None => note("stopped", "stop", name),
            }
        }
        let has_file = unit.file.is_some() || unit.stale_temp;
        if uninstall && unit.is_enabled() {
            if !is_upheld {
                changes.unit("disable", name);
            }
            // One of the system or of others, or an instance of a template.
            if !has_file || unit.is_of_others(wanted) {
                note("disabled", "disable", name);
                changes.reload();
            }
        }
        if uninstall && unit.is_of_others(wanted) {
            let message = format!(
                "{name} was not written by these tools: it is stopped and disabled, and its file \
                 stays"
            );
            run.report(ToolResult::warning(Code::LeftBehind, message).on(node));
        } else if uninstall && has_file {
            changes.unit("remove", name);
            changes.reload();
            note("removed", "remove", name);
        }
    }
    if changes.is_empty() {
        let what = if uninstall { "not installed" } else { "not running" };
        let names: Vec<_> = state.units.iter().map(|(wanted, _)| &*wanted.name).collect();
        let message = format!("{} {what}", names.join(", "));
        run.report(ToolResult::unchanged(Code::UpToDate, message).on(node));
    } else if run.check() {
        for would in would {
            run.report(ToolResult::would_change(would).on(node));
        }
    } else {
        let ended = match changes.apply(state.host).await {
            Ok(ended) => ended,
            Err(error) => {
                run.report(error.on(node));
                return stopped(false, Hit::on(state).await);
            }
        };
        if let Some(message) = ended.iter().find_map(JobResult::not_stopped) {
            run.report(ToolResult::error(Code::NotStopped, message).on(node));
            return stopped(false, Hit::of(&ended));
        }
        run.report(ToolResult::changed(Code::Stopped, done.join(", ")).on(node));
    }
    stopped(true, None)
}

/// Reports the members whose data is not to be seen where they would look for it, and which
/// would be without it once they are stopped. Says whether there is one: then nothing is
/// stopped.
///
/// Where the data was deleted, one may be stopped while the others serve, and all with a purge.
async fn refuse_out_of_sight(
    tool: &Unit,
    run: &Run,
    fleet: &Fleet,
    lease: &Lease<'_>,
    removal: Removal,
) -> Result<bool> {
    let facts = |held: &Held| Facts::read(held.answers.first()?).ok();
    let stopping = lease.selected.iter().filter(|held| has_etcd(tool, held.node));
    let found: Vec<_> = stopping.filter_map(|held| Some((held.node, facts(held)?))).collect();
    let is_suspect =
        |(node, facts): &&(&Node, Facts)| fit::out_of_sight(node, facts, true).is_some();
    if !found.iter().any(|found| is_suspect(&found)) {
        return Ok(false);
    }
    // One that is just starting has not opened its data yet.
    let view = tool.cluster(run, fleet, lease, &[])?.view().await?;
    let serves =
        |node: &Node| view.of_node(&node.name).is_some_and(|voter| voter.standing == Standing::Up);
    let is_alone = found.iter().filter(|(_, facts)| facts.is_running()).count() == 1;
    let in_words =
        tool.lose_quorum || matches!(tool.command, Command::Stop { quorum_is_lost: true, .. });
    let may_go = removal == Removal::Purge || (is_alone && !in_words);
    let mut refused = false;
    for (node, facts) in found.iter().filter(is_suspect) {
        let Some(hidden) = fit::out_of_sight(node, facts, serves(node)) else { continue };
        if hidden.is_deleted && may_go {
            continue;
        }
        let by_hand = match hidden.is_deleted {
            true => format!(", and to give it up, `systemctl stop {}` on the node", units::ETCD),
            false => String::new(),
        };
        let message = format!("not stopped: {}{by_hand}", hidden.why);
        run.report(ToolResult::error(Code::Mismatch, message).on(&node.name));
        refused = true;
    }
    Ok(refused)
}

/// Reports a name that is only an alias: with it the unit itself would be disabled. Says whether
/// there is one.
fn refuse_alias(run: &Run, state: &NodeState<'_>) -> bool {
    let found = state.units.iter().find_map(|(wanted, unit)| Some((wanted, unit.alias_of()?)));
    let Some((wanted, unit)) = found else { return false };
    let message = format!(
        "{} is another name of {unit}: nothing is removed: pass --unit {unit}",
        wanted.name
    );
    run.report(ToolResult::error(Code::Mismatch, message).on(&state.node.name));
    true
}

/// Reports a unit of etcd that these tools did not write: its data is not theirs to delete. Says
/// whether there is one.
fn refuse_others(run: &Run, state: &NodeState<'_>) -> bool {
    let mut units = state.units.iter();
    let Some((wanted, _)) = units.find(|(wanted, unit)| unit.is_of_others(wanted)) else {
        return false;
    };
    let message = format!(
        "{} was not written by these tools, and neither was its data: nothing is purged: leave \
         --purge out, and remove them by hand",
        wanted.name
    );
    run.report(ToolResult::error(Code::Mismatch, message).on(&state.node.name));
    true
}

/// Reports a member with its data or its keys in other folders than the document says: they
/// would stay. Says whether there is one.
fn refuse_elsewhere(run: &Run, lease: &Lease<'_>) -> bool {
    let mut refused = false;
    for Held { node, answers, .. } in &lease.selected {
        let facts = Facts::read(answers.first().map_or(&[], Vec::as_slice));
        let why = match &facts {
            Ok(facts) => fit::elsewhere(&run.document, node, facts),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = why {
            let message =
                format!("{why}: nothing is purged: give the document it was deployed with");
            run.report(ToolResult::error(Code::Mismatch, message).on(&node.name));
            refused = true;
        }
    }
    refused
}

async fn purge(run: &Run, state: &NodeState<'_>) {
    let node = state.node.name.as_str();
    let settings = run.document.settings(state.node);
    let check = if run.check() { "check" } else { "" };
    let mut lines =
        vec![check, &settings.user, &settings.config_dir, &settings.cert_dir, &settings.bin_dir];
    lines.extend(settings.wal_dir.as_deref());
    lines.push(&settings.data_dir);
    let input = [Input::Bytes((lines.join("\n") + "\n").into_bytes())];
    let purged = match run.check() {
        true => state.host.run(PURGE, &[], &input).await,
        false => state.host.change(PURGE, &[], &input, PATIENCE).await,
    };
    let purged = purged.map(|mut lines| {
        lines.retain(|line| {
            let Some(path) = line.strip_prefix("left\t") else { return true };
            let message = format!("{path} is not etcd's: it stays, and with it its folder");
            run.report(ToolResult::warning(Code::LeftBehind, message).on(node));
            false
        });
        lines
    });
    match purged {
        Err(error) => run.report(error.on(node)),
        Ok(paths) if paths.is_empty() => {
            run.report(
                ToolResult::unchanged(Code::Purged, "nothing of these tools' etcd is left")
                    .on(node),
            );
        }
        Ok(paths) if run.check() => {
            for path in paths {
                run.report(ToolResult::would_change(format!("would delete {path}")).on(node));
            }
        }
        Ok(paths) => {
            let message = format!("deleted {}", paths.join(", "));
            run.report(ToolResult::changed(Code::Purged, message).on(node));
        }
    }
}
