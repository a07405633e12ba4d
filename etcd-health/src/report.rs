//! What a probe means: results for the document, lines for people.

use std::collections::BTreeSet;
use std::time::Duration;

use client::{ClusterProbe, Problem, is_of, name};
use pipeline::document::{Endpoint, Health, Member};
use pipeline::{Code, Run, ToolResult};

/// A member that is this many entries behind is named.
const LAGGING: u64 = 1000;

/// Reports what `probe` found and what could not be compared; `wait` is how long
/// was waited for better in vain.
pub(crate) fn report(
    run: &Run,
    probe: &ClusterProbe,
    not_compared: &[Problem],
    wait: Option<Duration>,
) {
    let health = &probe.health;
    let code = if probe.unreachable { Code::Unreachable } else { Code::Unhealthy };
    for problem in &probe.problems {
        run.report(ToolResult::error(code, &problem.message).of(problem.node.as_ref()));
    }
    if probe.unreachable {
        return;
    }
    for problem in not_compared {
        let result = ToolResult::error(Code::Failed, &problem.message);
        run.report(result.of(problem.node.as_ref()));
    }
    if let Some(message) = probe.cannot_tell() {
        run.report(ToolResult::error(Code::NoMemberList, message));
    }
    warn(run, health);
    if let Some(message) = probe.downgrade() {
        run.report(ToolResult::warning(Code::DowngradePending, message));
    }
    let summary = summary(probe);
    if health.healthy {
        run.report(ToolResult::unchanged(Code::Healthy, summary));
    } else if !probe.problems.is_empty() {
        let waited = wait.map(|w| format!(" after {} s", w.as_secs())).unwrap_or_default();
        run.report(ToolResult::error(Code::Unhealthy, format!("unhealthy{waited}: {summary}")));
    }
}

fn member_name<'a>(health: &'a Health, id: &'a str) -> &'a str {
    let member = health.members.iter().find(|member| member.id == id);
    member.map_or(id, Member::label)
}

fn warn(run: &Run, health: &Health) {
    let on_endpoint = |code, endpoint: &Endpoint, message: &str| {
        let message = match endpoint.node {
            Some(_) => message.to_owned(),
            None => format!("{}: {message}", name(health, endpoint)),
        };
        run.report(ToolResult::warning(code, message).of(endpoint.node.as_ref()));
    };
    for endpoint in &health.endpoints {
        if endpoint.is_learner {
            let message = "a learner, which does not vote: promote it when it has caught up";
            on_endpoint(Code::Learner, endpoint, message);
        }
        if let Some(lag) = endpoint.raft_lag.filter(|lag| *lag >= LAGGING) {
            on_endpoint(Code::Lagging, endpoint, &format!("{lag} entries behind the others"));
        }
    }
    for member in health.members.iter().filter(|member| is_foreign(run, health, member)) {
        let message = format!(
            "member {} is not a node in the document, and was not probed (peer URLs {})",
            member_name(health, &member.id),
            member.peer_urls.join(",")
        );
        run.report(ToolResult::warning(Code::UnknownMember, message));
    }
    let known = health.endpoints.iter().filter_map(|e| e.version.as_ref().map(|v| (e, v)));
    let versions: BTreeSet<_> = known.clone().map(|(_, version)| version).collect();
    if versions.len() > 1 {
        let list: Vec<_> =
            known.map(|(e, version)| format!("{} {version}", name(health, e))).collect();
        let message = format!("different versions: {}", list.join(", "));
        run.report(ToolResult::warning(Code::DifferentVersions, message));
    }
}

/// Whether `member` is none of the document's nodes, when there is a document.
fn is_foreign(run: &Run, health: &Health, member: &Member) -> bool {
    let nodes = &run.document.nodes;
    let is_node = nodes.iter().any(|node| {
        node.name == member.name || member.peer_urls.contains(&run.document.peer_url(node))
    });
    let is_probed = health.endpoints.iter().any(|endpoint| is_of(endpoint, member));
    !nodes.is_empty() && !is_node && !is_probed
}

/// The state of the cluster in one line.
fn summary(probe: &ClusterProbe) -> String {
    let health = &probe.health;
    let all = health.endpoints.len();
    let healthy = health.endpoints.iter().filter(|endpoint| endpoint.healthy).count();
    let mut parts = vec![format!("{healthy} of {all} endpoints healthy")];
    match (&health.leader, probe.no_quorum()) {
        (Some(leader), _) => parts.push(format!("leader {}", member_name(health, leader))),
        (None, Some(no_quorum)) => parts.push(no_quorum),
        (None, None) if health.cluster_id.is_some() => parts.push("no leader".into()),
        (None, None) => {}
    }
    let versions: BTreeSet<_> =
        health.endpoints.iter().filter_map(|e| e.version.as_ref()).collect();
    if let (1, Some(version)) = (versions.len(), versions.first()) {
        parts.push(format!("version {version}"));
    }
    parts.join(", ")
}
