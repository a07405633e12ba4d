//! The first node alone, then the others at once.

use cluster::units::{JobResult, NodeState};
use pipeline::{Code, Run, ToolResult};
use remote::fan_out;

/// Why no other node may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hit {
    /// Its etcd went down.
    Down,
    /// It does not tell.
    Untold,
}

impl Hit {
    /// By how what was done on a node `ended`.
    pub(crate) fn of(ended: &[JobResult]) -> Option<Self> {
        ended.iter().any(JobResult::is_etcd_down).then_some(Self::Down)
    }
}

/// What was done to the nodes, in their order, and those to which nothing was.
pub(crate) struct Taken<N, T> {
    pub done: Vec<T>,
    pub left: Vec<N>,
}

/// Does `job` to all `nodes`, `jobs` at once. Where an etcd runs on more than one of those that
/// `may_be_hit`, the first of these goes before all others, and where `is_hit` says of what
/// `job` gives for it that its etcd went down, the others are left: what takes an etcd down in a
/// way that nobody foresees (a unit may run anything) takes no second one.
pub(crate) async fn one_first<N, T>(
    jobs: usize,
    mut nodes: Vec<N>,
    may_be_hit: impl Fn(&N) -> bool,
    job: impl AsyncFn(N) -> T,
    is_hit: impl Fn(&T) -> bool,
) -> Taken<N, T> {
    let mut hit = nodes.iter().enumerate().filter(|(_, node)| may_be_hit(node));
    let (Some((at, _)), Some(_)) = (hit.next(), hit.next()) else {
        return Taken { done: fan_out(jobs, nodes, job).await, left: Vec::new() };
    };
    let first = job(nodes.remove(at)).await;
    if is_hit(&first) {
        return Taken { done: vec![first], left: nodes };
    }
    let mut done = fan_out(jobs, nodes, job).await;
    done.insert(at, first);
    Taken { done, left: Vec::new() }
}

/// Reports the nodes that are `left` as they are for what happened to the `first`.
pub(crate) fn leave<'a>(
    run: &Run,
    code: Code,
    (first, hit): (&str, Hit),
    left: impl Iterator<Item = &'a NodeState<'a>>,
) {
    let why = match hit {
        Hit::Down => format!("the same has taken down the etcd of {first}"),
        Hit::Untold => format!("{first} does not tell whether its etcd is still up after the same"),
    };
    for state in left {
        let result = ToolResult::error(code, format!("nothing done: {why}"));
        run.report(result.on(&state.node.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_hits_one_leaves_the_others() {
        // (nodes that may be hit, what hits) and what is done, and left.
        for (may, hits, expected) in [
            (vec![], true, (vec![1, 2, 3], vec![])),
            (vec![2], true, (vec![1, 2, 3], vec![])),
            (vec![2, 3], true, (vec![2], vec![1, 3])),
            (vec![2, 3], false, (vec![1, 2, 3], vec![])),
        ] {
            let job = async |node: i32| node;
            let taken = one_first(2, vec![1, 2, 3], |n| may.contains(n), job, |_| hits).await;
            assert_eq!((taken.done, taken.left), expected, "{may:?} {hits}");
        }
    }
}
