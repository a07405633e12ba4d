//! Restarting the members of a running cluster, one by one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::{Access, ClusterProbe, Endpoint, Tls, probe, wait_healthy};
use pipeline::document::{Document, Endpoint as Seen, Node, Pki};
use pipeline::terminal::Progress;
use pipeline::{Code, Run, ToolResult};
use remote::{Fleet, Forward};

use crate::Unit;
use cluster::units::Changes;
use cluster::units::NodeState;

/// How long one look at a member may take.
const LOOK: Duration = Duration::from_secs(5);

/// A member to restart.
pub(crate) struct Target<'a> {
    pub site: &'a NodeState<'a>,
    pub unit: String,
    /// Why, for people.
    pub why: String,
}

/// Restarts `targets`, followers first, each only while the whole cluster is
/// healthy, and stops at the first that fails.
pub(crate) async fn restart(
    tool: &Unit,
    run: &Run,
    fleet: &Fleet,
    sites: &[NodeState<'_>],
    mut targets: Vec<Target<'_>>,
) -> Result<()> {
    if run.check() {
        for target in &targets {
            let message = format!("would restart {}: {}", target.unit, target.why);
            run.report(ToolResult::would_change(message).on(&target.site.node.name));
        }
        return Ok(());
    }
    let progress = Progress::wait("waiting until the cluster is healthy");
    let mut stopped = None;
    match Cluster::open(tool, &run.document, fleet, sites).await {
        Err(error) => stopped = Some(format!("{error:#}")),
        Ok(cluster) => {
            while !targets.is_empty() {
                let one = async {
                    let look = cluster.healthy(tool).await?;
                    enough_voters(tool, &look)?;
                    // Leadership moves meanwhile, so the order is decided anew each time.
                    let next = targets.iter().position(|t| !is_leader(&look, t.site.node));
                    Ok((targets.remove(next.unwrap_or(0)), look))
                };
                let (target, look) = match one.await {
                    Ok(next) => next,
                    Err(error) => {
                        let error: anyhow::Error = error;
                        stopped = Some(format!("{error:#}"));
                        break;
                    }
                };
                progress.label(format!("restarting {}", target.site.node.name));
                let mut journal = Vec::new();
                let restarted = cluster.restart_one(tool, run, &target, &look, &mut journal).await;
                if let Err(error) = restarted {
                    let node = &target.site.node.name;
                    run.report(
                        ToolResult::error(Code::RestartFailed, format!("{error:#}")).on(node),
                    );
                    run.detail(&journal.join("\n"));
                    stopped = Some(format!("stopped after {node}"));
                    break;
                }
            }
        }
    }
    if let Some(why) = stopped {
        for target in targets {
            let message = format!("{} not restarted: {why}", target.unit);
            run.report(ToolResult::error(Code::NotRestarted, message).on(&target.site.node.name));
        }
    }
    Ok(())
}

/// The client endpoints of all members, reached through the SSH connections.
struct Cluster {
    endpoints: Vec<Endpoint>,
    _forwards: Vec<Forward>,
}

impl Cluster {
    async fn open(
        tool: &Unit,
        document: &Document,
        fleet: &Fleet,
        sites: &[NodeState<'_>],
    ) -> Result<Self> {
        let access = access(tool, document)?;
        let mut cluster = Self { endpoints: Vec::new(), _forwards: Vec::new() };
        for node in &document.nodes {
            let port = document.settings(node).client_port;
            let forward = match sites.iter().find(|site| site.node.name == node.name) {
                Some(site) => site.host.forward(port).await,
                None => match fleet.connect(node).await {
                    Ok(host) => host.forward(port).await,
                    Err(error) => Err(error),
                },
            };
            let forward = forward.with_context(|| format!("{} cannot be asked", node.name))?;
            let url = format!("https://127.0.0.1:{port}");
            let endpoint = Endpoint::over_unix_socket(&url, forward.socket(), &access)?;
            cluster.endpoints.push(endpoint.of_node(&node.name));
            cluster._forwards.push(forward);
        }
        Ok(cluster)
    }

    /// Waits until the whole cluster is healthy.
    async fn healthy(&self, tool: &Unit) -> Result<ClusterProbe> {
        let limit = Duration::from_secs(tool.timeout.into());
        let look = wait_healthy(&self.endpoints, limit, |_| {}).await;
        if look.health.healthy {
            return Ok(look);
        }
        let ill = look.health.endpoints.iter().find(|seen| !seen.healthy);
        let who = ill.and_then(|seen| seen.node.as_deref()).unwrap_or("a member");
        let why = ill.and_then(|seen| seen.error.as_deref()).unwrap_or("an alarm is raised");
        bail!("the cluster is not healthy: {who}: {why}");
    }

    /// Restarts `target` and waits until the cluster is healthy; `journal` is
    /// filled when the unit does not start.
    async fn restart_one(
        &self,
        tool: &Unit,
        run: &Run,
        target: &Target<'_>,
        look: &ClusterProbe,
        journal: &mut Vec<String>,
    ) -> Result<()> {
        let node = target.site.node;
        if is_leader(look, node) {
            self.move_leader_from(run, node, look).await?;
        }
        let mut changes = Changes::default();
        changes.job("restart", &target.unit, tool.timeout);
        for ended in changes.apply(&target.site.host).await? {
            if let Some(why) = ended.not_started(tool.timeout) {
                *journal = ended.journal;
                bail!("{why}");
            }
        }
        self.healthy(tool).await.context("after its restart")?;
        let message = format!("restarted {}: {}", target.unit, target.why);
        run.report(ToolResult::changed(Code::Restarted, message).on(&node.name));
        Ok(())
    }

    /// Hands leadership to the follower that lags least. A cluster of one has nobody to hand it to.
    async fn move_leader_from(&self, run: &Run, node: &Node, before: &ClusterProbe) -> Result<()> {
        let followers = before.health.endpoints.iter().filter(|s| !s.is_leader && !s.is_learner);
        let Some(heir) = followers.min_by_key(|seen| seen.raft_lag) else { return Ok(()) };
        let leader = before.health.endpoints.iter().position(|seen| seen.is_leader);
        let leader = leader.and_then(|at| self.endpoints.get(at));
        let leader = leader.context("moving leadership: the leader is no node")?;
        let id = heir.member_id.as_deref().context("moving leadership: a follower without ID")?;
        let mut said = None;
        for _ in 0..5 {
            // Right after another change "unhealthy cluster" is a passing answer: look again.
            said = leader.move_leader(id).await.err();
            let now = probe(&self.endpoints).await;
            if now.health.leader.is_some() && !is_leader(&now, node) {
                let to = heir.node.as_deref().unwrap_or(id);
                let message = format!("leadership moved to {to}");
                run.report(ToolResult::changed(Code::LeaderMoved, message).on(&node.name));
                return Ok(());
            }
            wait_healthy(&self.endpoints, LOOK, |_| {}).await;
        }
        match said {
            Some(error) => Err(error).context("moving leadership away"),
            None => bail!("moving leadership away: it is still the leader"),
        }
    }
}

fn access(tool: &Unit, document: &Document) -> Result<Access> {
    let pki = document.pki.clone().unwrap_or_else(|| Pki::in_folder(&tool.pki));
    let client = (Path::new(&pki.client_cert), Path::new(&pki.client_key));
    let tls = Tls::load(Path::new(&pki.ca_cert), Some(client))?;
    Ok(Access { tls: Some(tls), timeout: LOOK, connect_timeout: None, user: None })
}

fn is_leader(look: &ClusterProbe, node: &Node) -> bool {
    let of_node = |seen: &&Seen| seen.node.as_deref() == Some(node.name.as_str());
    look.health.endpoints.iter().find(of_node).is_some_and(|seen| seen.is_leader)
}

/// With fewer than three voting members every restart costs the quorum.
fn enough_voters(tool: &Unit, look: &ClusterProbe) -> Result<()> {
    let voters = look.health.members.iter().filter(|member| !member.is_learner).count();
    if voters < 3 && !tool.lose_quorum {
        bail!(
            "a restart interrupts a cluster of {voters} voting member{}: say --lose-quorum",
            if voters == 1 { "" } else { "s" }
        );
    }
    Ok(())
}
