//! The locks of all nodes of the document, and the state that they were found in.
//!
//! One tool at a time works on a cluster, whatever nodes it works on: two operators
//! who each take down one member would together take down two. So the locks are of all
//! nodes, also of those outside `--only`. A node that cannot be reached does not prevent
//! the work on others, but what happens there is unknown.
//!
//! A lock that was lost (the operator's machine was suspended, the network was gone)
//! is noticed by the host before the next change: [`remote::Host::change`] gives
//! [`remote::Error::LockLost`].

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pipeline::Run;
use pipeline::document::Node;
use pipeline::terminal::Progress;
use remote::{Error, Fleet, Host, Lock, Query, Reply, fan_out};

/// How often two operators who begin at the same moment try again.
const ATTEMPTS: u32 = 5;

/// The locks of all nodes of the document that could be reached.
pub struct Lease<'a> {
    /// The nodes to work on that answered.
    pub selected: Vec<Held<'a>>,
    /// The other nodes of the document that answered.
    pub others: Vec<Held<'a>>,
    /// The nodes of the document that could not be asked. Those to work on were reported.
    pub unknown: Vec<(&'a Node, Error)>,
    jobs: usize,
}

/// A node that answered, and is locked.
pub struct Held<'a> {
    /// The node.
    pub node: &'a Node,
    /// Its host.
    pub host: Host,
    /// The lines that answer each query, in the order of the queries.
    pub answers: Vec<Vec<String>>,
    lock: Option<Lock>,
}

impl<'a> Lease<'a> {
    /// Locks all nodes of the document for `tool`, e.g. `etcd-push`, and asks each of them
    /// `queries` in the same exchange: on each node the lock comes first, then the end of
    /// what an interrupted run left at work there, then the state. With `--check` nothing
    /// is locked.
    ///
    /// `None` when another operator has the lock of any node, and keeps it for longer than
    /// `--lock-timeout`: that has been reported, and nothing is to be done on any.
    pub async fn take(
        fleet: &Fleet,
        run: &'a Run,
        tool: &str,
        queries: impl Fn(&Node) -> Vec<Query>,
    ) -> Option<Self> {
        let lease = Self::take_any(fleet, run, tool, queries).await?;
        let selected: HashSet<_> = run.nodes().iter().map(|node| node.name.as_str()).collect();
        for (node, error) in &lease.unknown {
            if selected.contains(node.name.as_str()) {
                run.report(error.on(&node.name));
            }
        }
        Some(lease)
    }

    /// The same for a tool that does its job on the cluster, and not on the nodes: those
    /// that could not be asked are not reported.
    pub async fn take_any(
        fleet: &Fleet,
        run: &'a Run,
        tool: &str,
        queries: impl Fn(&Node) -> Vec<Query>,
    ) -> Option<Self> {
        let mut attempt = 1;
        let patience = Instant::now() + run.common.lock_timeout;
        let mut waiting = None;
        loop {
            let replies = Self::try_take(fleet, run, tool, &queries).await;
            let locked = |reply: &Result<Reply, Error>| matches!(reply, Err(Error::Locked(_)));
            if !replies.iter().any(|(_, reply)| locked(reply)) {
                return Some(Self::new(fleet, run, replies));
            }
            let mut refused = Vec::new();
            let mut locks = Vec::new();
            for (node, reply) in replies {
                match reply {
                    Ok(reply) => locks.extend(reply.lock),
                    Err(error @ Error::Locked(_)) => refused.push((node, error)),
                    Err(_) => {}
                }
            }
            // Some nodes are ours, some another's who began at the same moment: both let
            // go, and one will be the first. Who is at work has all of them.
            let race = !locks.is_empty() && attempt < ATTEMPTS;
            release(fleet.jobs(), locks).await;
            let patient = Instant::now() < patience;
            if !race && !patient {
                for (node, error) in refused {
                    run.report(error.on(&node.name));
                }
                return None;
            }
            attempt += 1;
            if let Some((node, error)) = refused.first().filter(|_| !race) {
                waiting.get_or_insert_with(|| {
                    Progress::wait(format!("waiting for the lock of {}: {error}", node.name))
                });
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(20..500))).await;
        }
    }

    async fn try_take(
        fleet: &Fleet,
        run: &'a Run,
        tool: &str,
        queries: impl Fn(&Node) -> Vec<Query>,
    ) -> Vec<(&'a Node, Result<Reply, Error>)> {
        let lock = (!run.check()).then_some(tool);
        fleet.query(run.document.nodes.iter().collect(), lock, queries).await
    }

    fn new(fleet: &Fleet, run: &'a Run, replies: Vec<(&'a Node, Result<Reply, Error>)>) -> Self {
        let selected: HashSet<_> = run.nodes().iter().map(|node| node.name.as_str()).collect();
        let mut lease = Self {
            selected: Vec::new(),
            others: Vec::new(),
            unknown: Vec::new(),
            jobs: fleet.jobs(),
        };
        for (node, reply) in replies {
            let is_selected = selected.contains(node.name.as_str());
            match reply {
                Ok(Reply { host, lock, answers }) => {
                    let held = Held { node, host, answers, lock };
                    if is_selected { &mut lease.selected } else { &mut lease.others }.push(held);
                }
                Err(error) => lease.unknown.push((node, error)),
            }
        }
        lease
    }

    /// Frees all locks, and returns when the hosts have freed them.
    pub async fn release(self) {
        let held = self.selected.into_iter().chain(self.others);
        release(self.jobs, held.filter_map(|held| held.lock).collect()).await;
    }
}

async fn release(jobs: usize, locks: Vec<Lock>) {
    fan_out(jobs, locks, Lock::release).await;
}
