//! One by one: taking members down, or down and up again, without an interruption.

use std::cell::Cell;
use std::time::Duration;

use client::Problem;
use pipeline::{Code, Run, ToolResult};
use remote::fan_out;
use tokio::time::{Instant, sleep};

use crate::guard::{Cluster, Refusal, Standing, View, Voter};

/// How long to wait between two looks at the cluster.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long it is waited without a word.
const SILENCE: Duration = Duration::from_secs(5);

/// What becomes of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is to be back before the next one goes.
    Back,
    /// It stays away.
    Gone,
}

/// How the members are taken.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// What becomes of each.
    pub then: Then,
    /// Proceed even if the cluster loses quorum.
    pub lose_quorum: bool,
    /// How long the cluster may take to be healthy before and after each.
    pub limit: Duration,
}

/// Why not all members were taken.
#[derive(Debug)]
pub struct Interrupted<T> {
    /// Those at which it failed; none where the gate refused before any harm.
    pub failed: Vec<T>,
    /// Why.
    pub why: Refusal,
    /// The node whose turn it was.
    pub turn: String,
    /// Those that were left alone.
    pub left: Vec<T>,
}

impl<T> Interrupted<T> {
    /// Why the member on `node` was left alone: it may not go, or another that goes before
    /// it may not, or has failed.
    pub fn left_alone(&self, node: &str) -> String {
        let turn = &self.turn;
        match self.failed.is_empty() {
            true if node == turn => self.why.to_string(),
            true => format!("{turn} goes before it: {}", self.why),
            false => format!("ended at {turn}: fix {turn}, then run this again to go on"),
        }
    }
}

/// Does `job` to the members on the nodes that `node` names for each of `targets`,
/// one after the other: those that are not healthy first, the leader last, after
/// leadership has moved off it. Before each, [`View::may_go`] has to allow it, and before
/// one that is to come back all other voters have to be healthy and connected; after each, it
/// has to be back as `policy` says, and all to be healthy that were before; then `done` is
/// called. Stops at the first that fails.
///
/// With `--check` nothing is done: whether the first one may go is all that can be known, and
/// then `done` is called for all.
///
/// Where quorum is lost for certain, nothing more can be lost, and one alone would
/// not be ready: all that do not serve are taken at once.
pub async fn one_by_one<T>(
    run: &Run,
    cluster: &Cluster<'_>,
    policy: Policy,
    mut targets: Vec<T>,
    node: impl Fn(&T) -> String,
    job: impl AsyncFn(&T) -> Result<(), Refusal>,
    done: impl Fn(&T),
) -> Result<(), Interrupted<T>> {
    let mut alarms = None;
    while !targets.is_empty() {
        let (next, view) = match gate(run, cluster, policy, &targets, &node).await {
            Ok(next) => next,
            Err((turn, why)) => {
                return Err(Interrupted { failed: Vec::new(), why, turn, left: targets });
            }
        };
        // Not once the others have been taken.
        let is_first = alarms.is_none() && view.voters.len() > 1;
        let nodes: Vec<_> = targets.iter().map(&node).collect();
        let leads = |voter: &&Voter| {
            voter.is_leader && voter.node.as_ref().is_some_and(|node| nodes.contains(node))
        };
        if let Some(leader) = view.voters.iter().find(leads).filter(|_| is_first)
            && let Err(why) = cluster.may_move_leader(leader, &view).await
        {
            let turn = leader.node.clone().unwrap_or_default();
            return Err(Interrupted { failed: Vec::new(), why, turn, left: targets });
        }
        let before = alarms.get_or_insert_with(|| {
            warn_of_alarms(run, &view);
            view.alarms.clone()
        });
        if run.check() {
            targets.iter().for_each(&done);
            return Ok(());
        }
        let mut taken = Vec::new();
        for at in (0..targets.len()).rev().filter(|at| next.contains(at)) {
            taken.insert(0, targets.remove(at));
        }
        let one = async {
            if let [only] = &taken[..]
                && let Some(leader) = view.of_node(&node(only)).filter(|voter| voter.is_leader)
                && let Some(moved) = cluster.move_leader_from(leader, &view).await?
            {
                run.report(moved);
            }
            let all = fan_out(taken.len(), taken.iter().collect(), async |one: &T| job(one).await);
            let ended: Result<Vec<()>, _> = all.await.into_iter().collect();
            ended?;
            let names: Vec<String> = taken.iter().map(&node).collect();
            after(run, cluster, policy, &view, &names, before).await
        };
        if let Err(why) = one.await {
            let turn = taken.first().map(&node).unwrap_or_default();
            return Err(Interrupted { failed: taken, why, turn, left: targets });
        }
        taken.iter().for_each(&done);
    }
    Ok(())
}

/// An alarm keeps nobody from mending what raised it.
fn warn_of_alarms(run: &Run, view: &View) {
    for alarm in &view.alarms {
        let result = ToolResult::warning(Code::Alarm, &alarm.message);
        run.report(result.of(alarm.node.as_ref()));
    }
}

/// Waits until one of `targets` may go; gives its place, or those of all that do not
/// serve where nothing is left to lose; or the node of the one that may not, and why.
async fn gate<T>(
    run: &Run,
    cluster: &Cluster<'_>,
    policy: Policy,
    targets: &[T],
    node: &impl Fn(&T) -> String,
) -> Result<(Vec<usize>, View), (String, Refusal)> {
    let deadline = Instant::now() + policy.limit;
    let wait = Wait::new(run, policy);
    loop {
        let failed = |error: client::Error| {
            let turn = targets.first().map(node).unwrap_or_default();
            (turn, Refusal::Failed(error.to_string()))
        };
        let view = cluster.view().await.map_err(failed)?;
        let standing = |target: &T| view.of_node(&node(target)).map(|voter| &voter.standing);
        let serves = |target: &T| standing(target) == Some(&Standing::Up);
        // What is sick, cut off or no voter costs nothing; the leader goes last.
        let rank = |at: &usize| {
            let voter = view.of_node(&node(&targets[*at]));
            let is_reached = voter.is_some_and(|voter| view.misses(&voter.id).is_none());
            (serves(&targets[*at]) && is_reached, voter.is_some_and(|voter| voter.is_leader))
        };
        let first = (0..targets.len()).min_by_key(rank).unwrap_or_default();
        let name = node(&targets[first]);
        let allowed = view.may_go(&[&name]).and_then(|()| match policy.then {
            Then::Back if serves(&targets[first]) => view.unhealthy(&name),
            _ => Ok(()),
        });
        match allowed {
            Ok(()) if view.is_quorum_lost() => {
                let sick = (0..targets.len()).filter(|at| !serves(&targets[*at]));
                let sick: Vec<_> =
                    sick.filter(|at| view.may_go(&[&node(&targets[*at])]).is_ok()).collect();
                return Ok((if sick.is_empty() { vec![first] } else { sick }, view));
            }
            Ok(()) => return Ok((vec![first], view)),
            Err(_) if policy.lose_quorum => return Ok((vec![first], view)),
            Err(why) if !why.may_pass() || Instant::now() >= deadline => return Err((name, why)),
            Err(why) => wait.on(&why.to_string()).await,
        }
    }
}

/// Waits until the nodes `taken` are what they should be, and all voters are healthy
/// that were so in `before`.
async fn after(
    run: &Run,
    cluster: &Cluster<'_>,
    policy: Policy,
    before: &View,
    taken: &[String],
    alarms: &[Problem],
) -> Result<(), Refusal> {
    let deadline = Instant::now() + policy.limit;
    let wait = Wait::new(run, policy);
    loop {
        let now = cluster.view().await.map_err(|error| Refusal::Failed(error.to_string()))?;
        let Some(why) = not_well(cluster, policy, before, &now, taken, alarms) else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            return Err(Refusal::NotBack(why));
        }
        wait.on(&why).await;
    }
}

/// A wait for the cluster, of which the operator is told when it lasts.
struct Wait<'a> {
    run: &'a Run,
    begun: Instant,
    limit: Duration,
    told: Cell<bool>,
}

impl<'a> Wait<'a> {
    fn new(run: &'a Run, policy: Policy) -> Self {
        Self { run, begun: Instant::now(), limit: policy.limit, told: Cell::new(false) }
    }

    /// Waits a moment; `why` is what for.
    async fn on(&self, why: &str) {
        if self.begun.elapsed() >= SILENCE && !self.told.replace(true) {
            let seconds = self.limit.as_secs();
            self.run.note(&format!("waiting for at most {seconds} s: {why}"));
        }
        sleep(INTERVAL).await;
    }
}

fn named(problem: &Problem) -> String {
    let node = problem.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
    node + &problem.message
}

fn not_well(
    cluster: &Cluster<'_>,
    policy: Policy,
    before: &View,
    now: &View,
    taken: &[String],
    alarms: &[Problem],
) -> Option<String> {
    if let Some(alarm) = now.alarms.iter().find(|alarm| !alarms.contains(alarm)) {
        return Some(named(alarm));
    }
    // Nothing that is taken one by one takes a member out of the cluster.
    if let Some(gone) = before.gone_from(now) {
        return Some(format!("{} is no member any more", gone.name));
    }
    for voter in &now.voters {
        let name = voter.node.as_deref().unwrap_or_default();
        let is_taken = taken.iter().any(|taken| taken == name);
        let was_up =
            before.voters.iter().any(|old| old.name == voter.name && old.standing == Standing::Up);
        let must_be_up = if is_taken { policy.then == Then::Back } else { was_up };
        if must_be_up && let Some(complaint) = voter.complaint() {
            // Without quorum nobody can be well.
            let lost = policy.lose_quorum && policy.then == Then::Gone;
            if !lost {
                return Some(format!("{}{complaint}", now.lost()));
            }
        }
        if is_taken
            && policy.then == Then::Back
            && let Some(other) = now.misses(&voter.id)
        {
            let url = cluster.document().nodes.iter().find(|node| node.name == name);
            let url = url.map(|node| cluster.document().peer_url(node)).unwrap_or_default();
            return Some(format!("{} has no connection to {} ({url})", other.name, voter.name));
        }
    }
    None
}
