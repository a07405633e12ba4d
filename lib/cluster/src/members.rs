//! Changing who the members are: one change at a time, each allowed by the guard.
//!
//! A change is asked for until the member list shows it. So an answer that was lost, and
//! a change that an interrupted run has made, are found in the list; and answers that
//! pass, as right after another change, are waited out.

use std::time::Duration;

use client::{Endpoint, Error};
use pipeline::ToolResult;
use pipeline::document::Member;
use tokio::time::{Instant, sleep};

use crate::guard::{Cluster, Refusal, Standing, View};

/// How long to wait between two looks at the cluster.
const INTERVAL: Duration = Duration::from_millis(200);

/// What was accepted in words.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accepted {
    /// That the cluster loses quorum.
    pub quorum: bool,
    /// That no member may fail afterwards.
    pub margin: bool,
}

/// How members are changed.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// What was accepted in words.
    pub accepted: Accepted,
    /// How long etcd may refuse for reasons that pass, all waits together.
    limit: Duration,
    begun: Instant,
}

impl Policy {
    /// One whose `limit` begins now.
    pub fn new(accepted: Accepted, limit: Duration) -> Self {
        Self { accepted, limit, begun: Instant::now() }
    }

    fn is_over(&self) -> bool {
        self.begun.elapsed() >= self.limit
    }

    /// Leaves of what the guard said what was not accepted.
    pub fn judge(&self, said: Result<(), Refusal>) -> Result<(), Refusal> {
        match said {
            Err(Refusal::Quorum(..) | Refusal::Unknown(..)) if self.accepted.quorum => Ok(()),
            Err(Refusal::Margin(..)) if self.accepted.margin || self.accepted.quorum => Ok(()),
            said => said,
        }
    }
}

impl Cluster<'_> {
    /// Looks at the cluster until `allowed` says yes, or no for good, or the limit of
    /// `policy` is over. What was accepted in words is no reason to wait.
    pub async fn view_when(
        &self,
        policy: Policy,
        allowed: impl Fn(&View) -> Result<(), Refusal>,
    ) -> Result<View, Refusal> {
        loop {
            let view = self.view().await.map_err(|error| Refusal::Failed(error.to_string()))?;
            match policy.judge(allowed(&view)) {
                Ok(()) => return Ok(view),
                Err(why) if !why.may_pass() || policy.is_over() => return Err(why),
                Err(_) => sleep(INTERVAL).await,
            }
        }
    }

    /// Adds a member with the peer URL `url` as a learner.
    pub async fn add_learner(&self, policy: Policy, url: &str) -> Result<(), Refusal> {
        let urls = [url.to_owned()];
        let done = |view: &View| view.members.iter().any(|m| m.peer_urls.contains(&urls[0]));
        let change = async |endpoint: Endpoint| endpoint.add_learner(&urls).await;
        self.change(policy, done, View::may_add, change, "").await
    }

    /// Makes the learner `id` a voter as soon as it has caught up, and its peers reach it.
    pub async fn promote(&self, policy: Policy, id: &str) -> Result<(), Refusal> {
        self.until_reached(policy, id).await?;
        let done = |view: &View| member(view, id).is_some_and(|member| !member.is_learner);
        let change = async |endpoint: Endpoint| endpoint.promote_member(id).await;
        self.change(policy, done, |_| Ok(()), change, "").await
    }

    /// Waits until all healthy voters have a connection to the member `id`.
    async fn until_reached(&self, policy: Policy, id: &str) -> Result<(), Refusal> {
        loop {
            let view = self.view().await.map_err(|error| Refusal::Failed(error.to_string()))?;
            let Some(other) = view.misses(id) else { return Ok(()) };
            if policy.is_over() {
                let urls = member(&view, id).map(|member| member.peer_urls.join(","));
                let urls = urls.unwrap_or_default();
                let other = &other.name;
                let why = format!("{other} has no connection to it ({urls}): open its peer port");
                return Err(Refusal::Failed(why));
            }
            sleep(INTERVAL).await;
        }
    }

    /// Removes the member `id` for good, after leadership has moved off it. Gives what to
    /// report of that.
    pub async fn remove(&self, policy: Policy, id: &str) -> Result<Option<ToolResult>, Refusal> {
        let view = self.view_when(policy, |view| view.may_remove(id)).await?;
        let leads = view.voters.iter().find(|voter| voter.id == id && voter.is_leader);
        let moved = match leads {
            Some(leader) => self.move_leader_from(leader, &view).await?,
            None => None,
        };
        let done = |view: &View| view.members_error.is_none() && member(view, id).is_none();
        let change = async |endpoint: Endpoint| endpoint.remove_member(id).await;
        self.change(policy, done, |view| view.may_remove(id), change, id).await?;
        Ok(moved)
    }

    /// Tells the cluster that the member `id` has the peer URL `url`.
    pub async fn update(
        &self,
        policy: Policy,
        id: &str,
        url: &str,
        allowed: impl Fn(&View) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let urls = [url.to_owned()];
        let done = |view: &View| member(view, id).is_some_and(|member| member.peer_urls == urls);
        let change = async |endpoint: Endpoint| endpoint.update_member(id, &urls).await;
        self.change(policy, done, allowed, change, "").await
    }

    /// Has `change` made, by a voting member other than `except`, until `done`; each time
    /// only where `allowed`.
    async fn change(
        &self,
        policy: Policy,
        done: impl Fn(&View) -> bool,
        allowed: impl Fn(&View) -> Result<(), Refusal>,
        change: impl AsyncFn(Endpoint) -> Result<(), Error>,
        except: &str,
    ) -> Result<(), Refusal> {
        let mut last: Option<String> = None;
        let mut refused = false;
        loop {
            let view = self.view().await.map_err(|error| Refusal::Failed(error.to_string()))?;
            if done(&view) {
                return Ok(());
            }
            if let Some(error) = last.take_if(|_| refused) {
                return Err(Refusal::Failed(error));
            }
            if policy.is_over()
                && let Some(error) = last
            {
                let limit = policy.limit.as_secs();
                return Err(Refusal::Failed(format!("not done within {limit} s: {error}")));
            }
            match policy.judge(allowed(&view)) {
                Ok(()) => {}
                Err(why) if !why.may_pass() || policy.is_over() => return Err(why),
                Err(_) => {
                    sleep(INTERVAL).await;
                    continue;
                }
            }
            let Some(endpoint) = self.voting_endpoint(&view, except) else {
                let why = "no voting member that is a node in the document serves";
                return Err(Refusal::Failed(why.into()));
            };
            self.prove().await?;
            match change(endpoint).await {
                Ok(()) => last = None,
                Err(error) => {
                    // It may refuse what it has done, if the answer to that was lost.
                    refused = !error.is_passing();
                    last = Some(format!("{error}{}", error.advice()));
                    sleep(INTERVAL).await;
                }
            }
        }
    }

    /// The endpoint of the leader, else of another healthy voter, that is not `except`.
    fn voting_endpoint(&self, view: &View, except: &str) -> Option<Endpoint> {
        let serves = |standing: &Standing| *standing == Standing::Up;
        let mut voters: Vec<_> =
            view.voters.iter().filter(|v| v.id != except && serves(&v.standing)).collect();
        voters.sort_by_key(|voter| !voter.is_leader);
        voters.into_iter().find_map(|voter| self.endpoint_of(voter.node.as_deref()?))
    }
}

fn member<'a>(view: &'a View, id: &str) -> Option<&'a Member> {
    view.members.iter().find(|member| member.id == id)
}
