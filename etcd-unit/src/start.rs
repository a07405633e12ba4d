//! `install`, `start` and `restart`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use cluster::fit::{self, Allowed};
use cluster::guard::{Standing, View};
use cluster::units::{
    Changes, ETCD, JobResult, NodeState, UnitState, WantedUnit, has_conditions,
    has_install_section, install_section, masked, values,
};
use pipeline::document::Unit as DocumentUnit;
use pipeline::terminal::Progress;
use pipeline::{Code, Error, Run, ToolResult, disk};
use remote::Fleet;

use crate::beside::{Hit, Task, affordable, in_turn};
use crate::rolling::AS_ASKED;
use crate::turn::Turns;
use crate::{Unit, rolling};

/// The `install` command.
pub(crate) async fn install(tool: &Unit, run: &Run, fleet: &Fleet) -> Result<()> {
    for node in run.nodes() {
        if let Some(unit) = tool.wanted(node).iter().find(|wanted| wanted.unit.is_none()) {
            return Err(Error::bad_input(format!(
                "{}: no unit {} in the document: put etcd-render before this tool, \
                 or give --unit-file",
                node.name, unit.name
            ))
            .into());
        }
    }
    let Some(lease) = tool.lease(run, fleet).await else { return Ok(()) };
    let Some(allowed) = tool.allows(run, &lease).await else {
        lease.release().await;
        return Ok(());
    };
    let states = tool.states(run, &lease);
    let tasks = states.iter().map(|state| {
        let mut plan = Plan::idle(run, state);
        for (wanted, unit) in &state.units {
            let refused = refuse_masked(run, state, unit)
                || refuse_conflicting(run, &allowed, state, wanted, None)
                || refuse_taking(run, &allowed, state, wanted, unit);
            match refused {
                true => plan.well = false,
                false => drop(plan.work.install(run, state, wanted, unit)),
            }
        }
        plan
    });
    let finish = async |plan: Plan<'_>| {
        let names: Vec<_> = plan.state.units.iter().map(|(wanted, _)| &*wanted.name).collect();
        let nothing = plan.well.then(|| format!("{} already installed", names.join(", ")));
        plan.work.finish(tool, run, plan.state, nothing).await.hit
    };
    let tasks = (tasks.collect(), None);
    in_turn(run, fleet.jobs(), Code::NotStarted, tasks, finish, |hit| *hit).await;
    lease.release().await;
    Ok(())
}

/// The `start` command.
pub(crate) async fn start(tool: &Unit, run: &Run, fleet: &Fleet) -> Result<()> {
    let progress = Progress::wait("querying the units");
    let Some(lease) = tool.lease(run, fleet).await else { return Ok(()) };
    let Some(allowed) = tool.allows(run, &lease).await else {
        lease.release().await;
        return Ok(());
    };
    allowed.remove_void_marks(run, &lease).await;
    let states = tool.states(run, &lease);
    // One that runs would not come back, and the next one would not either.
    if refuse_unloadable(run, &states) {
        lease.release().await;
        return Ok(());
    }
    let mut plans: Vec<_> =
        states.iter().map(|state| Plan::new(tool, run, &allowed, state)).collect();
    for plan in &mut plans {
        plan.outdated.retain(|(unit, _)| {
            let other = tool.other_etcd(&lease, &plan.state.node.name, unit);
            other.map(|why| run.report(why)).is_none()
        });
    }
    let outdated = plans.iter().any(|plan| !plan.outdated.is_empty());
    let to_start = plans.iter().filter(|plan| plan.starts_member && run.check());
    let to_start: Vec<_> = to_start.map(|plan| plan.state.node.name.clone()).collect();
    let cluster = || {
        Ok::<_, anyhow::Error>(
            tool.cluster(run, fleet, &lease, &states)?.once_started(to_start.clone()),
        )
    };
    let known = if outdated { Some(cluster()?) } else { None };
    // A member that waits for quorum may wait for those that are to be restarted, unless those
    // that are started are one themselves.
    if let Some(cluster) = known.as_ref().filter(|_| plans.iter().any(|plan| plan.starts_member)) {
        let view = cluster.view().await?;
        let started = plans.iter().filter(|plan| plan.starts_member);
        let started: Vec<_> = started.map(|plan| &*plan.state.node.name).collect();
        let waits = view.is_quorum_lost() && !view.are_quorum(&started);
        for plan in plans.iter_mut().filter(|_| waits) {
            plan.restart_at_once(tool, &view);
        }
    }
    progress.label("starting, and waiting until each member is ready");
    // No member of a new cluster is ready before most of them have started.
    let starting = plans.iter().filter(|plan| plan.starts_member).count();
    let jobs = fleet.jobs().max(if starting > 0 { plans.len() } else { 0 });
    let has_data =
        |plan: &Plan| plan.starts_member && allowed.has_data(&run.document, plan.state.node);
    let access = tool.credentials.access(&run.document, None).ok();
    let turns = access.filter(|_| !run.check()).map(Turns::new);
    let plans = affordable(tool, run, (fleet, &lease), &states, plans).await;
    let finish = async |plan| {
        let turns = turns.as_ref().filter(|_| has_data(&plan));
        let Plan { state, work, outdated, well, .. } = plan;
        let nothing = (outdated.is_empty() && well).then(|| as_configured(state));
        let job = work.finish(tool, run, state, nothing);
        let mut finished = match turns {
            Some(turns) => turns.take(&run.document, state, job).await,
            None => job.await,
        };
        if finished.well {
            finished.restarts.splice(..0, outdated);
        }
        finished
    };
    let done = in_turn(run, jobs, Code::NotStarted, plans, finish, |done| done.hit).await;
    drop(progress);
    let targets = come_back(tool, run, &allowed, targets(done));
    if !targets.is_empty() {
        let cluster = known.map_or_else(cluster, Ok)?;
        rolling::restart(tool, run, &cluster, targets).await;
    }
    lease.release().await;
    Ok(())
}

/// What is to be done on a node.
struct Plan<'a> {
    run: &'a Run,
    state: &'a NodeState<'a>,
    /// What costs nobody anything.
    work: Work,
    /// The units of the running member that are outdated, and why.
    outdated: Vec<(String, String)>,
    /// What is not restarted, as something else starts it.
    left: Vec<&'a str>,
    /// Whether a member is among what is started.
    starts_member: bool,
    /// Whether nothing was refused.
    well: bool,
}

impl<'a> Plan<'a> {
    fn idle(run: &'a Run, state: &'a NodeState<'a>) -> Self {
        let work = Work::default();
        Self {
            run,
            state,
            work,
            outdated: Vec::new(),
            left: Vec::new(),
            starts_member: false,
            well: true,
        }
    }

    fn new(tool: &Unit, run: &'a Run, allowed: &Allowed, node: &'a NodeState<'a>) -> Self {
        let mut plan = Self::idle(run, node);
        let is_pushed = would_change(run, node);
        for (wanted, state) in &node.units {
            if refuse_masked(run, node, state)
                || refuse_missing(run, node, wanted, state)
                || refuse_conflicting(run, allowed, node, wanted, Some(state))
                || refuse_taking(run, allowed, node, wanted, state)
            {
                plan.well = false;
                continue;
            }
            let mut reasons: BTreeSet<_> = state.outdated().into_iter().collect();
            let is_back =
                wanted.unit.as_ref().is_some_and(|unit| state.was_started_with(&unit.content));
            let is_other = plan.work.install(run, node, wanted, state);
            if is_back {
                reasons.remove("unit");
            } else if is_other {
                // A unit on the disk that is neither names other files than the one that runs.
                if reasons.contains("unit") {
                    reasons.clear();
                }
                reasons.insert("unit".into());
            }
            // What the stages before would have written counts with --check as well.
            if is_pushed && state.drop_ins_differ(&node.node.files) {
                reasons.insert("unit".into());
            }
            if is_pushed && wanted.name == ETCD {
                let pending = allowed.pending(&run.document, node.node);
                reasons.extend(pending.into_iter().map(str::to_owned));
            } else if is_pushed {
                if state.environment_differs(&node.node.files) {
                    reasons.insert("configuration".into());
                }
                let replaced = state.runs().into_iter();
                let replaced = replaced.filter(|(path, _)| would_replace(run, node, path));
                reasons.extend(replaced.map(|(_, what)| what.to_owned()));
            }
            let reasons: Vec<_> = reasons.into_iter().collect();
            plan.unit(tool, wanted, state, &reasons);
        }
        plan
    }

    fn unit(&mut self, tool: &Unit, wanted: &WantedUnit, state: &UnitState, reasons: &[String]) {
        let name = &wanted.name;
        let is_member = self.state.is_member(wanted, state);
        match (state.active(), reasons) {
            ("active", []) => {}
            _ if wanted.is_left_alone(state) => {}
            // Whatever systemd calls it, it may serve: that is for the cluster to say.
            ("active" | "activating", [_, ..]) if is_member => {
                self.outdated
                    .push((name.clone(), format!("its {} had changed", reasons.join(" and "))));
            }
            ("active", _) | ("activating", [_, ..]) => {
                let why = format!("its {} had changed", reasons.join(" and "));
                self.work.restart(tool, name, why);
            }
            // What does one job is started once.
            (_, []) if state.has_run() => {}
            _ if state.is_template() || state.is_triggered() => {}
            _ => {
                self.starts_member |= is_member;
                self.work.job(tool, "start", name);
            }
        }
    }

    /// Restarts the outdated units at once if their member does not serve in `view`.
    fn restart_at_once(&mut self, tool: &Unit, view: &View) {
        let name = self.state.node.name.as_str();
        let serves = view.of_node(name).is_some_and(|voter| voter.standing == Standing::Up);
        if !serves && view.may_go(&[name]).is_ok() {
            for (unit, _) in std::mem::take(&mut self.outdated) {
                self.work.restart_with_etcd(tool, &unit);
            }
        }
    }
}

impl<'a> Task<'a> for Plan<'a> {
    fn state(&self) -> &'a NodeState<'a> {
        self.state
    }

    fn may_hit(&self) -> bool {
        let stays = self.state.runs_etcd && !self.starts_member;
        stays && !self.work.is_empty() && !self.run.check()
    }

    fn has_jobs(&self) -> bool {
        !self.work.jobs.is_empty() && !self.starts_member
    }
}

/// What is said of a node on which there is nothing to do.
fn as_configured(node: &NodeState) -> String {
    let names = |active: bool, outdated: bool, then: &str| {
        let is_meant = |state: &UnitState| {
            state.is_active() == active && (active && !state.outdated().is_empty()) == outdated
        };
        let (restarted, names): (Vec<_>, Vec<_>) = node
            .units
            .iter()
            .filter(|(_, state)| is_meant(state))
            .map(|(wanted, state)| (wanted.name.as_str(), state.restarts()))
            .partition(|(_, restarts)| active && !restarts.is_empty());
        let names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
        let names = (!names.is_empty()).then(|| format!("{} {then}", names.join(", ")));
        let restarted =
            restarted.into_iter().map(|(name, restarts)| format!("{name} {then}{restarts}"));
        names.into_iter().chain(restarted).collect::<Vec<_>>()
    };
    // What is never restarted, as a timer's, may run with what was there before.
    let parts = [
        names(false, false, "installed as configured"),
        names(true, false, "running as configured"),
        names(true, true, "running as before the last change"),
    ];
    parts.concat().join("; ")
}

/// Leaves `targets`, unless the disk of a member tells that it would not come back: it may fail
/// at any time, so that no other may go down. With --lose-quorum the others may.
fn come_back<'a>(
    tool: &Unit,
    run: &Run,
    allowed: &Allowed,
    mut targets: Vec<rolling::Target<'a>>,
) -> Vec<rolling::Target<'a>> {
    let nodes = run.document.nodes.iter();
    let sick: BTreeMap<_, _> = nodes
        .filter_map(|node| Some((node.name.as_str(), allowed.cannot_come_back(&node.name)?)))
        .collect();
    targets.retain(|target| {
        let name = target.state.node.name.as_str();
        let why = match (sick.get(name), sick.first_key_value()) {
            (Some(why), _) => (*why).to_owned(),
            (None, Some((other, why))) if !tool.lose_quorum => {
                format!("{other} may fail at any time: {why}")
            }
            _ => return true,
        };
        let message = format!("not restarted: {why}");
        run.report(ToolResult::error(Code::NotRestarted, message).on(name));
        false
    });
    targets
}

/// Reports the units that systemd cannot load; says whether there is one.
fn refuse_unloadable(run: &Run, nodes: &[NodeState]) -> bool {
    let mut found = false;
    for node in nodes {
        for (wanted, state) in &node.units {
            let Some(why) = state.unloadable(wanted) else { continue };
            let unit = &wanted.name;
            let message = format!(
                "systemd cannot load {unit} ({why}): run `systemctl status {unit}` on the node, \
                 and correct it"
            );
            run.report(ToolResult::error(Code::NotStarted, message).on(&node.node.name));
            found = true;
        }
    }
    found
}

/// Reports a masked unit, which is left as it is; says whether it is one.
fn refuse_masked(run: &Run, node: &NodeState, state: &UnitState) -> bool {
    if state.is_masked() {
        run.report(masked(&state.name).on(&node.node.name));
    }
    state.is_masked()
}

/// Reports a unit that is neither on the node nor in the document; says whether it is one.
fn refuse_missing(run: &Run, node: &NodeState, wanted: &WantedUnit, state: &UnitState) -> bool {
    let is_missing = wanted.unit.is_none() && state.is_missing();
    if is_missing {
        let message = format!(
            "there is no unit {} on the node, nor in the document: put etcd-render before this \
             tool, or give --unit-file",
            wanted.name
        );
        run.report(ToolResult::error(Code::NotStarted, message).on(&node.node.name));
    }
    is_missing
}

/// Reports a unit of --unit-file that is not on the node as it is there: a restart installs
/// nothing. Says whether it is one.
fn refuse_uninstalled(
    tool: &Unit,
    run: &Run,
    node: &NodeState,
    wanted: &WantedUnit,
    state: &UnitState,
) -> bool {
    let (Some(path), Some(unit)) = (&tool.unit_file, &wanted.unit) else { return false };
    if state.text() == unit.content {
        return false;
    }
    let message = format!(
        "{} is not the one of --unit-file on the node: to install it, and restart what runs, \
         run `etcd-unit start --unit-file {}`",
        wanted.name,
        path.display()
    );
    run.report(ToolResult::error(Code::NotRestarted, message).on(&node.node.name));
    true
}

/// Reports a unit that, as it stands in the document, would stop the etcd of the node or take its
/// name, now if it is to be `started`, or at the next boot; says whether it is one. What only
/// systemd knows of that, the node itself says.
fn refuse_conflicting(
    run: &Run,
    allowed: &Allowed,
    node: &NodeState,
    wanted: &WantedUnit,
    started: Option<&UnitState>,
) -> bool {
    let Some(unit) = &wanted.unit else { return false };
    let Some(facts) = allowed.facts(&node.node.name) else { return false };
    let named = |key: &'static str| values(&unit.content, key).flat_map(str::split_whitespace);
    let is_etcd = |name: &&str| {
        let is_there = facts.runs_in(name) || (*name == ETCD && facts.has_unit());
        is_there && *name != wanted.name
    };
    let is_enabled = unit.enabled == Some(true) && has_install_section(&unit.content);
    let is_started = started.is_some_and(|s| !s.is_active() && !wanted.is_left_alone(s));
    let message = if let Some(etcd) = named("Conflicts").find(is_etcd)
        && (is_enabled || is_started)
    {
        JobResult::of_conflict(&wanted.name, &wanted.name, etcd).not_started(0).unwrap_or_default()
    } else if let Some(etcd) = named("Alias").find(is_etcd)
        && is_enabled
    {
        let name = &wanted.name;
        format!(
            "{name} not installed: it would be {etcd}, where etcd runs: take that out of Alias="
        )
    } else if let Some((triggered, etcd)) = starts_conflicting(node, wanted, unit, is_etcd)
        && (is_enabled || is_started)
    {
        JobResult::of_conflict(&wanted.name, &triggered, &etcd).not_started(0).unwrap_or_default()
    } else {
        return false;
    };
    run.report(ToolResult::error(Code::NotStarted, message).on(&node.node.name));
    true
}

/// The unit of the document that `unit`, a timer, a socket or a path, starts, and the etcd with
/// which that conflicts.
fn starts_conflicting(
    node: &NodeState,
    wanted: &WantedUnit,
    unit: &DocumentUnit,
    is_etcd: impl Fn(&&str) -> bool,
) -> Option<(String, String)> {
    let (stem, kind) = wanted.name.rsplit_once('.')?;
    let triggers = ["timer", "socket", "path"].contains(&kind);
    let said = values(&unit.content, "Unit").next_back().filter(|unit| !unit.is_empty());
    let triggered = said.map_or_else(|| format!("{stem}.service"), str::to_owned);
    let units = node.units.iter().filter(|(other, _)| triggers && other.name == triggered);
    let contents = units.filter_map(|(other, _)| Some(&other.unit.as_ref()?.content));
    let mut others = contents.flat_map(|content| values(content, "Conflicts"));
    let etcd = others.find_map(|others| others.split_whitespace().find(&is_etcd))?;
    Some((triggered, etcd.to_owned()))
}

/// Reports a unit that would be given a folder of etcd's; says whether it is one.
fn refuse_taking(
    run: &Run,
    allowed: &Allowed,
    node: &NodeState,
    wanted: &WantedUnit,
    state: &UnitState,
) -> bool {
    let Some(facts) = allowed.facts(&node.node.name) else { return false };
    if node.is_member(wanted, state) {
        return false;
    }
    let mut definition = state.definition(wanted, &node.node.files);
    if wanted.unit.is_none() {
        definition = format!("{}\n{definition}", state.text());
    }
    let taken = fit::taken_from_etcd(&run.document, node.node, facts, &wanted.name, &definition);
    if let Some(why) = &taken {
        let message = format!("{} left as it is: {why}", wanted.name);
        run.report(ToolResult::error(Code::NotStarted, message).on(&node.node.name));
    }
    taken.is_some()
}

/// Whether an earlier stage would change something on the node, had it not `--check`.
fn would_change(run: &Run, node: &NodeState) -> bool {
    let node = Some(node.node.name.as_str());
    let results = &mut run.document.results.iter();
    run.check() && results.any(|r| r.code == Code::WouldChange && r.node.as_deref() == node)
}

/// Whether an earlier stage would put another file at `path` on the node.
fn would_replace(run: &Run, node: &NodeState, path: &str) -> bool {
    let node = Some(node.node.name.as_str());
    let replace = format!("would replace {path}");
    run.document.results.iter().any(|r| r.message == replace && r.node.as_deref() == node)
}

/// The `restart` command.
pub(crate) async fn restart(tool: &Unit, run: &Run, fleet: &Fleet) -> Result<()> {
    let Some(lease) = tool.lease(run, fleet).await else { return Ok(()) };
    // A restart starts what is down, too.
    let Some(allowed) = tool.allows(run, &lease).await else {
        lease.release().await;
        return Ok(());
    };
    let states = tool.states(run, &lease);
    if refuse_unloadable(run, &states) || tool.refuse_other_etcds(run, &lease, &states) {
        lease.release().await;
        return Ok(());
    }
    let mut plans = Vec::new();
    for state in &states {
        let mut plan = Plan::idle(run, state);
        for (wanted, unit) in &state.units {
            if refuse_missing(run, state, wanted, unit)
                || refuse_uninstalled(tool, run, state, wanted, unit)
                || refuse_taking(run, &allowed, state, wanted, unit)
            {
                plan.well = false;
                continue;
            }
            if unit.needs_reload() {
                plan.work.reload(&wanted.name);
            }
            // What something else starts is restarted where it runs.
            let is_others = unit.is_template() || (unit.is_triggered() && !unit.is_active());
            if wanted.is_left_alone(unit) || is_others {
                plan.left.push(wanted.name.as_str());
            } else if state.is_member(wanted, unit) {
                plan.outdated.push((wanted.name.clone(), AS_ASKED.to_owned()));
            } else {
                plan.work.restart(tool, &wanted.name, AS_ASKED.to_owned());
            }
        }
        plans.push(plan);
    }
    let plans = affordable(tool, run, (fleet, &lease), &states, plans).await;
    let finish = async |plan| {
        let Plan { state, work, outdated, left, .. } = plan;
        let nothing = (!left.is_empty() && outdated.is_empty()).then(|| {
            format!("{} not restarted: something else starts it, or the operator", left.join(", "))
        });
        let mut finished = work.finish(tool, run, state, nothing).await;
        if finished.hit.is_none() {
            finished.restarts.splice(..0, outdated);
        }
        finished
    };
    let jobs = fleet.jobs();
    let done = in_turn(run, jobs, Code::NotStarted, plans, finish, |done| done.hit).await;
    let members = come_back(tool, run, &allowed, targets(done));
    if !members.is_empty() {
        let cluster = tool.cluster(run, fleet, &lease, &states)?;
        rolling::restart(tool, run, &cluster, members).await;
    }
    lease.release().await;
    Ok(())
}

/// What is to be done on one node, and the words for it.
#[derive(Default)]
struct Work {
    changes: Changes,
    jobs: Changes,
    /// What is done to which unit, in the past tense and as it is said with `--check`.
    done: Vec<(&'static str, &'static str, String)>,
    /// What must not be loaded.
    bonds: Changes,
    /// What would be changed in the text of which unit.
    diffs: BTreeMap<String, String>,
    /// Why units are restarted, by their names.
    reasons: BTreeMap<String, String>,
}

impl Work {
    /// Starts or restarts a unit.
    fn job(&mut self, tool: &Unit, verb: &'static str, unit: &str) {
        self.jobs.job(verb, unit, tool.timeout);
        self.note(if verb == "start" { "started" } else { "restarted" }, verb, unit);
    }

    /// Restarts a unit, which has the reason `why`.
    fn restart(&mut self, tool: &Unit, unit: &str, why: String) {
        self.reasons.insert(unit.to_owned(), why);
        self.job(tool, "restart", unit);
    }

    /// Restarts the unit of a member that does not serve.
    fn restart_with_etcd(&mut self, tool: &Unit, unit: &str) {
        self.jobs.job_with_etcd("restart", unit, tool.timeout);
        self.note("restarted", "restart", unit);
    }

    /// Has systemd read what was changed of `unit`.
    fn reload(&mut self, unit: &str) {
        self.changes.reload();
        self.note("reloaded", "reload", unit);
    }

    fn note(&mut self, past: &'static str, present: &'static str, unit: &str) {
        self.done.push((past, present, unit.to_owned()));
    }

    /// Writes, reloads and enables what differs; says whether the unit does, comments aside.
    fn install(
        &mut self,
        run: &Run,
        node: &NodeState,
        wanted: &WantedUnit,
        state: &UnitState,
    ) -> bool {
        let name = &wanted.name;
        if state.is_active() && (wanted.runs_etcd() || state.runs_etcd()) {
            let definition = state.definition(wanted, &node.node.files);
            let bonds = state.new_bonds(&definition);
            if !bonds.is_empty() {
                self.bonds.bound(name, &bonds);
            }
            if has_conditions(&definition) && state.differs(wanted, &node.node.files) {
                self.bonds.conditions(name, &definition);
            }
        }
        if state.stale_temp {
            self.changes.unit("clean", name);
            self.note(
                "removed a temporary file left by an interrupted run of",
                "remove a temporary file left by an interrupted run of",
                name,
            );
        }
        let Some(unit) = &wanted.unit else {
            if state.needs_reload() {
                self.reload(name);
            }
            return false;
        };
        let right = Some((disk::sha256(unit.content.as_bytes()), "644".to_owned()));
        let other_text = state.file.as_ref().map(|f| &f.0) != right.as_ref().map(|f| &f.0);
        let is_other = state.text_differs(wanted);
        if state.file != right {
            self.changes.write(name, &unit.content);
            self.note("installed", "install", name);
            if run.check() && state.file.is_some() && other_text {
                let diff =
                    pipeline::diff(&node.node.name, &state.path(), &state.text(), &unit.content);
                self.diffs.insert(name.clone(), diff);
            }
        }
        let enablement = unit.enabled.filter(|enabled| *enabled != state.is_enabled());
        // Nothing becomes of enabling a unit without this section.
        let is_bare = state.is_template() && values(&unit.content, "DefaultInstance").count() == 0;
        let can_be = has_install_section(&unit.content) && !is_bare;
        if unit.enabled == Some(true) && !can_be {
            let why = match is_bare {
                true => "the unit is a template: enable an instance of it, or add DefaultInstance=",
                false => {
                    "the unit has no section [Install]: add one, e.g. with \
                     WantedBy=multi-user.target, or leave enabled out"
                }
            };
            let message = format!("{name}: enabled has no effect: {why}");
            run.report(ToolResult::warning(Code::NoEffect, message).on(&node.node.name));
        }
        let enablement = enablement.filter(|enabled| !enabled || can_be);
        match enablement {
            Some(true) => {
                self.changes.unit("enable", name);
                self.note("enabled", "enable", name);
            }
            Some(false) => {
                self.changes.unit("disable", name);
                self.note("disabled", "disable", name);
            }
            // systemd keeps the links that the old text led to.
            None if unit.enabled == Some(true)
                && other_text
                && can_be
                && install_section(&state.text()) != install_section(&unit.content) =>
            {
                self.changes.unit("reenable", name);
                self.note("enabled anew", "enable anew", name);
            }
            None => {}
        }
        if state.file == right && state.needs_reload() {
            self.note("reloaded", "reload", name);
        }
        if state.file != right || enablement.is_some() || state.needs_reload() {
            self.changes.reload();
        }
        is_other
    }

    fn is_empty(&self) -> bool {
        self.done.is_empty() && self.changes.is_empty() && self.bonds.is_empty()
    }

    /// Does it, and reports it. `nothing` is said when there is nothing to do.
    async fn finish<'a>(
        mut self,
        tool: &Unit,
        run: &Run,
        node: &'a NodeState<'a>,
        nothing: Option<String>,
    ) -> Finished<'a> {
        let name = node.node.name.as_str();
        let finished = Finished { state: node, restarts: Vec::new(), well: true, hit: None };
        if self.is_empty() {
            if let Some(message) = nothing {
                run.report(ToolResult::unchanged(Code::UpToDate, message).on(name));
            }
            return finished;
        }
        let ended = match run.check() {
            true if self.jobs.is_empty() && self.bonds.is_empty() => Ok(Vec::new()),
            true => node.keep().then(self.bonds).then(self.jobs).foresee(node.host).await,
            false => {
                let changes = node.keep().then(self.bonds).then(self.changes);
                changes.then(self.jobs).apply(node.host).await
            }
        };
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => {
                run.report(error.on(name));
                return Finished { well: false, hit: Hit::on(node).await, ..finished };
            }
        };
        let mut hit = Hit::of(&ended);
        let (with_etcd, ended): (Vec<_>, Vec<_>) =
            ended.into_iter().partition(JobResult::takes_etcd_along);
        let is_left = |unit: &str| with_etcd.iter().any(|ended| ended.unit == unit);
        self.done.retain(|(_, verb, unit)| *verb != "restart" || !is_left(unit));
        let mut failed = BTreeSet::new();
        for ended in &ended {
            if let Some(why) = ended.not_started(tool.timeout) {
                let needed = needed_by_etcd(node, &ended.unit);
                run.report(ToolResult::error(Code::NotStarted, why + &needed).on(name));
                run.detail(&ended.journal.join("\n"));
                failed.insert(ended.unit.as_str());
            }
        }
        if run.check() {
            for (_, present, unit) in self.done.iter().filter(|done| !failed.contains(&*done.2)) {
                run.report(ToolResult::would_change(format!("would {present} {unit}")).on(name));
                if *present == "install" {
                    run.detail(self.diffs.get(unit).map_or("", String::as_str));
                }
            }
        } else if failed.is_empty() && !self.done.is_empty() {
            run.report(ToolResult::changed(Code::Started, summary(&self.done)).on(name));
        }
        if !failed.is_empty() && node.runs_etcd && !run.check() {
            hit = hit.or(Some(Hit::Failed));
        }
        let reason = |ended: JobResult| {
            let why = self.reasons.remove(&ended.unit).unwrap_or_else(|| AS_ASKED.into());
            (ended.unit, why)
        };
        let well = failed.is_empty();
        let restarts = with_etcd.into_iter().filter(|_| well).map(reason).collect();
        Finished { restarts, well, hit, ..finished }
    }
}

/// That etcd does not start without `unit`, which failed; empty where it does.
fn needed_by_etcd(node: &NodeState, unit: &str) -> String {
    let mut units = node.units.iter().filter(|(wanted, _)| wanted.name == unit);
    let content = units.find_map(|(wanted, _)| Some(&wanted.unit.as_ref()?.content));
    let mut needed = content.iter().flat_map(|content| values(content, "RequiredBy"));
    let is_needed = node.runs_etcd && needed.any(|by| by.split_whitespace().any(|by| by == ETCD));
    match is_needed {
        true => format!(
            "; {ETCD} requires it, and would not start again: correct it, or take it away: \
                 `etcd-unit uninstall --unit {unit} --only {}`",
            node.node.name
        ),
        false => String::new(),
    }
}

/// How the work on a node ended.
struct Finished<'a> {
    state: &'a NodeState<'a>,
    /// What is still to be restarted, with the member, and why. Of the work itself: what it left
    /// alone, as systemd would stop an etcd with it, if nothing failed.
    restarts: Vec<(String, String)>,
    /// Whether nothing failed.
    well: bool,
    /// Whether its etcd went down.
    hit: Option<Hit>,
}

/// The nodes on which something is still to be restarted.
fn targets(finished: Vec<Finished<'_>>) -> Vec<rolling::Target<'_>> {
    let targets = finished.into_iter().filter(|finished| !finished.restarts.is_empty());
    targets
        .map(|Finished { state, restarts, .. }| rolling::Target { state, units: restarts })
        .collect()
}

/// What was done, as `installed, enabled and started etcd.service`.
fn summary(done: &[(&str, &str, String)]) -> String {
    let same_unit = done.chunk_by(|a, b| a.2 == b.2);
    let of_unit = |done: &[(&str, &str, String)]| {
        let verbs: Vec<_> = done.iter().map(|(past, ..)| *past).collect();
        let unit = done.first().map_or("", |(.., unit)| unit);
        match verbs.split_last() {
            Some((last, [])) => format!("{last} {unit}"),
            Some((last, others)) => format!("{} and {last} {unit}", others.join(", ")),
            None => String::new(),
        }
    };
    same_unit.map(of_unit).collect::<Vec<_>>().join("; ")
}
