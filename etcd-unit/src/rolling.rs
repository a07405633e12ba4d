//! Taking members one by one, and what is reported of it.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Result;
use cluster::Lease;
use cluster::fit::Facts;
use cluster::guard::{Cluster, Refusal};
use cluster::rolling::{Interrupted, Policy, Then, one_by_one};
use cluster::units::{ETCD, NodeState};
use pipeline::document::Node;
use pipeline::terminal::Progress;
use pipeline::{Code, Run, ToolResult};
use remote::Fleet;

use crate::Unit;

/// The reason of a restart that the operator has asked for.
pub(crate) const AS_ASKED: &str = "as asked";

/// The units of a node that are to be restarted, and with which its member goes down.
pub(crate) struct Target<'a> {
    pub state: &'a NodeState<'a>,
    /// Each with the reason, for people.
    pub units: Vec<(String, String)>,
}

impl Unit {
    /// The cluster that `states` belong to; members of which nothing is to be done are found by
    /// what the nodes of `lease` said.
    pub(crate) fn cluster<'a>(
        &self,
        run: &'a Run,
        fleet: &'a Fleet,
        lease: &Lease<'_>,
        states: &[NodeState<'_>],
    ) -> Result<Cluster<'a>> {
        let access = self.credentials.access(&run.document, None)?;
        let port = |node: &Node| {
            let state = states.iter().find(|state| state.node.name == node.name);
            let told = || facts_of(lease, &node.name)?.client_port();
            state.and_then(NodeState::client_port).or_else(told)
        };
        Ok(Cluster::new(&run.document, fleet, access, states).listening(port))
    }

    /// How members are taken by this run.
    pub(crate) fn policy(&self, then: Then) -> Policy {
        let limit = Duration::from_secs(self.timeout.into());
        Policy { then, lose_quorum: self.lose_quorum, limit }
    }
}

impl Unit {
    /// That `unit` of the node `name` runs another etcd than the one of which the document speaks:
    /// nobody could tell what its cluster can bear. Nothing where it does not, or in words.
    pub(crate) fn other_etcd(
        &self,
        lease: &Lease<'_>,
        name: &str,
        unit: &str,
    ) -> Option<ToolResult> {
        facts_of(lease, name).filter(|facts| !self.lose_quorum && facts.is_beside_etcd(unit))?;
        let message = format!(
            "{unit} left as it is: it runs another etcd beside that of {ETCD}, of whose cluster \
             nothing is known here: see to its members one by one, with systemctl on the nodes, or \
             pass --lose-quorum to proceed"
        );
        Some(ToolResult::error(Code::Mismatch, message).on(name))
    }

    /// Reports all of these in `states`; says whether there is one.
    pub(crate) fn refuse_other_etcds(
        &self,
        run: &Run,
        lease: &Lease<'_>,
        states: &[NodeState<'_>],
    ) -> bool {
        let of_node = |state: &NodeState<'_>| {
            let units = state.units.iter().map(|(wanted, _)| wanted);
            let found =
                units.filter_map(|unit| self.other_etcd(lease, &state.node.name, &unit.name));
            found.collect::<Vec<_>>()
        };
        let found: Vec<_> = states.iter().flat_map(of_node).collect();
        let is_found = !found.is_empty();
        found.into_iter().for_each(|result| run.report(result));
        is_found
    }
}

/// What is on the node `name`, as it said when it was locked.
fn facts_of(lease: &Lease<'_>, name: &str) -> Option<Facts> {
    let mut held = lease.selected.iter().chain(&lease.others);
    let held = held.find(|held| held.node.name == name)?;
    Facts::read(held.answers.first()?).ok()
}

/// Leaves those of `targets` that would be restarted, for all that their nodes say.
async fn foreseen<'a>(tool: &Unit, run: &Run, targets: Vec<Target<'a>>) -> Vec<Target<'a>> {
    let mut left = Vec::new();
    for target in targets {
        let mut changes = target.state.keep();
        for (unit, _) in &target.units {
            changes.job_with_etcd("restart", unit, tool.timeout);
        }
        let name = &target.state.node.name;
        match changes.foresee(target.state.host).await {
            Ok(jobs) => match jobs.iter().find_map(|job| job.not_started(tool.timeout)) {
                Some(why) => run.report(ToolResult::error(Code::RestartFailed, why).on(name)),
                None => left.push(target),
            },
            Err(error) => run.report(error.on(name)),
        }
    }
    left
}

/// Restarts `targets` one by one, and stops at the first that fails.
pub(crate) async fn restart(
    tool: &Unit,
    run: &Run,
    cluster: &Cluster<'_>,
    mut targets: Vec<Target<'_>>,
) {
    if run.check() {
        targets = foreseen(tool, run, targets).await;
    }
    let progress = Progress::wait("waiting until the cluster is healthy");
    let journal = RefCell::new(Vec::new());
    let name = |target: &Target| target.state.node.name.clone();
    let job = async |target: &Target| {
        progress.label(format!("restarting {}", name(target)));
        let mut changes = target.state.keep();
        for (unit, _) in &target.units {
            changes.job_with_etcd("restart", unit, tool.timeout);
        }
        let done = changes.apply(target.state.host).await;
        let done = done.map_err(|error| Refusal::Failed(error.to_string()))?;
        for job in done {
            if let Some(why) = job.not_started(tool.timeout) {
                *journal.borrow_mut() = job.journal;
                return Err(Refusal::Failed(why));
            }
        }
        Ok(())
    };
    let done = |target: &Target| {
        for (unit, why) in &target.units {
            let mut of_node = target.state.units.iter().filter(|(_, state)| state.name == *unit);
            let along = of_node.find_map(|(_, state)| state.takes_etcd_along());
            let along = along.map(|etcd| format!(", and with it {etcd}")).unwrap_or_default();
            let unit = format!("{unit}{along}");
            let result = match run.check() {
                true => ToolResult::would_change(format!("would restart {unit}: {why}")),
                false => ToolResult::changed(Code::Restarted, format!("restarted {unit}: {why}")),
            };
            run.report(result.on(&target.state.node.name));
        }
    };
    let policy = tool.policy(Then::Back);
    let taken = one_by_one(run, cluster, policy, targets, name, job, done).await;
    let Err(interrupted) = taken else { return };
    let Interrupted { failed, why, left, .. } = &interrupted;
    let report = |target: &Target, message: &str, code| {
        for (unit, _) in &target.units {
            let message = format!("{unit} {message}");
            run.report(ToolResult::error(code, message).on(&target.state.node.name));
        }
    };
    for target in failed {
        let node = &target.state.node.name;
        match why {
            Refusal::NotBack(why) => {
                let message = format!("was restarted and is not back: {why}");
                report(target, &message, Code::RestartFailed);
            }
            why => {
                run.report(ToolResult::error(Code::RestartFailed, why.to_string()).on(node));
                run.detail(&journal.borrow().join("\n"));
            }
        }
    }
    let code = if failed.is_empty() { why.code() } else { Code::NotRestarted };
    // One that does not start as it is now has shown what becomes of the others, too.
    let has_ended = !failed.is_empty() && !matches!(why, Refusal::NotBack(_));
    for target in left {
        let is_changed = target.units.iter().any(|(_, why)| why != AS_ASKED);
        let same = match has_ended && is_changed {
            true => {
                ": what was changed is on this node, too, for its next start: put it right soon"
            }
            false => "",
        };
        let reason = interrupted.left_alone(&target.state.node.name);
        report(target, &format!("not restarted: {reason}{same}"), code);
    }
}
