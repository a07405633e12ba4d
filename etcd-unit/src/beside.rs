//! Other work on nodes on which an etcd runs. A unit may run anything: what takes an etcd down in
//! a way that nobody foresees takes no second one.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::{Duration, Instant};

use cluster::Lease;
use cluster::guard::{Cluster, Refusal};
use cluster::units::{JobResult, NodeState};
use pipeline::{Code, Run, ToolResult};
use remote::{Fleet, fan_out};
use tokio::time::sleep;

use crate::Unit;

/// How long a cluster that became unhealthy may take to be healthy again, and how often it is
/// asked.
const PATIENCE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(200);

/// Why no other node may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hit {
    /// Its etcd went down.
    Down,
    /// It does not tell.
    Untold,
    /// It runs, and what was done failed.
    Failed,
}

impl Hit {
    /// By how what was done on a node `ended`.
    pub(crate) fn of(ended: &[JobResult]) -> Option<Self> {
        ended.iter().any(JobResult::is_etcd_down).then_some(Self::Down)
    }

    /// Where something failed before it ended, by what runs on the node now.
    pub(crate) async fn on(state: &NodeState<'_>) -> Option<Self> {
        if !state.runs_etcd {
            return None;
        }
        Some(match state.still_runs_etcd().await {
            Ok(true) => Self::Failed,
            Ok(false) => Self::Down,
            Err(_) => Self::Untold,
        })
    }
}

/// What is to be done on a node.
pub(crate) trait Task<'a> {
    /// The node.
    fn state(&self) -> &'a NodeState<'a>;
    /// Whether it may take down the etcd that runs there, and should not.
    fn may_hit(&self) -> bool;
    /// Whether it starts or restarts a unit.
    fn has_jobs(&self) -> bool;
}

/// The cluster as it was before, to be asked for what has become of it.
pub(crate) struct Watch<'a> {
    cluster: Cluster<'a>,
    /// Who was not healthy.
    sick: BTreeSet<String>,
}

impl Watch<'_> {
    /// Which voter is not healthy any more, and has not become so in a while: its name and what
    /// is wrong.
    async fn new_complaint(&self) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view = self.cluster.view().await.ok()?;
            let mut complaints = view.complaints().into_iter();
            let (_, new) = complaints.find(|(name, _)| !self.sick.contains(*name))?;
            if Instant::now() >= deadline {
                return Some(new);
            }
            sleep(INTERVAL).await;
        }
    }
}

/// Does `job` to all `tasks`: at once, `jobs` of them, where it cannot hit an etcd, then one by
/// one. After each of these, those before are looked at again, and the cluster is asked, as far
/// as there is a `watch`. Once an etcd is down, the rest is left as it is, which is reported with
/// `code`. Gives what `job` gave.
pub(crate) async fn in_turn<'a, N: Task<'a>, T>(
    run: &Run,
    jobs: usize,
    code: Code,
    (tasks, watch): (Vec<N>, Option<Watch<'_>>),
    job: impl AsyncFn(N) -> T,
    hit: impl Fn(&T) -> Option<Hit>,
) -> Vec<T> {
    let (risky, others): (Vec<_>, Vec<_>) = tasks.into_iter().partition(Task::may_hit);
    let first: Vec<_> = others.iter().map(Task::state).collect();
    let mut done = fan_out(jobs, others, &job).await;
    let mut before: Vec<&NodeState> = Vec::new();
    let mut risky = risky.into_iter();
    let mut hits = first.into_iter().zip(&done);
    if let Some((state, hit)) = hits.find_map(|(state, one)| Some((state, hit(one)?))) {
        leave(run, code, (&state.node.name, hit), risky.map(|task| task.state()));
        return done;
    }
    while let Some(task) = risky.next() {
        let (state, has_jobs) = (task.state(), task.has_jobs());
        let one = job(task).await;
        let own = hit(&one).map(|hit| (state, hit));
        done.push(one);
        let hit = match own {
            Some(hit) => Some(hit),
            None => look_back(run, jobs, code, &before).await,
        };
        let hit = match (hit, watch.as_ref().filter(|_| has_jobs)) {
            (None, Some(watch)) => watch.new_complaint().await.map(|why| {
                let message = format!("the cluster is not as healthy as before this: {why}");
                run.report(ToolResult::error(code, message).on(&state.node.name));
                (state, Hit::Down)
            }),
            (hit, _) => hit,
        };
        if let Some((state, hit)) = hit {
            leave(run, code, (&state.node.name, hit), risky.map(|task| task.state()));
            break;
        }
        before.push(state);
    }
    done
}

/// Reports those of `states` whose etcd has gone down since, and gives one of them.
async fn look_back<'a>(
    run: &Run,
    jobs: usize,
    code: Code,
    states: &[&'a NodeState<'a>],
) -> Option<(&'a NodeState<'a>, Hit)> {
    let runs =
        fan_out(jobs, states.to_vec(), async |state: &NodeState<'_>| state.still_runs_etcd().await);
    let mut hit = None;
    for (state, runs) in states.iter().zip(runs.await) {
        let (message, why) = match runs {
            Ok(true) => continue,
            Ok(false) => {
                let message = "etcd went down after what was done: see journalctl -u etcd.service \
                               on the node, then run etcd-unit start";
                (message.to_owned(), Hit::Down)
            }
            Err(error) => (error.to_string(), Hit::Untold),
        };
        run.report(ToolResult::error(code, message).on(&state.node.name));
        hit = hit.or(Some((*state, why)));
    }
    hit
}

/// Reports the nodes that are `left` as they are for what happened to the `first`.
fn leave<'a>(
    run: &Run,
    code: Code,
    (first, hit): (&str, Hit),
    left: impl Iterator<Item = &'a NodeState<'a>>,
) {
    let why = match hit {
        Hit::Down => format!("the same has taken down the etcd of {first}"),
        Hit::Untold => format!("{first} does not tell whether its etcd is still up after the same"),
        Hit::Failed => format!("the same has failed on {first}"),
    };
    for state in left {
        let result = ToolResult::error(code, format!("nothing done: {why}"));
        run.report(result.on(&state.node.name));
    }
}

/// Leaves of `tasks` those that cost the cluster no quorum even if they hit: while a voter is
/// down, hardly any other may go. The others are reported, and so are all where nobody tells of
/// the cluster.
pub(crate) async fn affordable<'a, 'r, N: Task<'a>>(
    tool: &Unit,
    run: &'r Run,
    (fleet, lease): (&'r Fleet, &Lease<'_>),
    states: &[NodeState<'_>],
    tasks: Vec<N>,
) -> (Vec<N>, Option<Watch<'r>>) {
    let is_risky = |task: &N| task.state().runs_etcd && task.has_jobs();
    if tool.lose_quorum || !tasks.iter().any(is_risky) {
        return (tasks, None);
    }
    let asked = match tool.cluster(run, fleet, lease, states) {
        Ok(cluster) => cluster.view().await.map(|view| (cluster, view)).map_err(Into::into),
        Err(error) => Err(error),
    };
    let report = |task: &N, code: Code, why: &dyn Display| {
        let message = format!("nothing done: if its etcd went down with that: {why}");
        run.report(ToolResult::error(code, message).on(&task.state().node.name));
    };
    let (cluster, view) = match asked {
        Ok(asked) => asked,
        Err(error) => {
            let why = format!("{error}, or pass --lose-quorum to proceed");
            let (risky, others): (Vec<_>, Vec<_>) = tasks.into_iter().partition(is_risky);
            risky.iter().for_each(|task| report(task, Code::NoMemberList, &why));
            return (others, None);
        }
    };
    let sick: BTreeSet<_> = view.complaints().into_keys().map(str::to_owned).collect();
    let is_affordable = |task: &N| {
        let Err(why) = view.may_go(&[task.state().node.name.as_str()]) else { return true };
        // A cluster that is well so far may be any size.
        let is_meant = matches!(why, Refusal::Unknown(..)) || !sick.is_empty();
        if is_meant {
            report(task, why.code(), &why);
        }
        !is_meant
    };
    let tasks = tasks.into_iter().filter(|task| !is_risky(task) || is_affordable(task)).collect();
    (tasks, Some(Watch { cluster, sick }))
}
