//! What a probe means: results for the document, lines for people.

use std::collections::BTreeSet;
use std::time::Duration;

use client::ClusterProbe;
use pipeline::document::{Endpoint, Health, Member};
use pipeline::{Code, Run, ToolResult};

/// Reports what `probe` saw; `wait` is how long was waited for better.
pub(crate) fn report(run: &Run, probe: &ClusterProbe, wait: Option<Duration>) {
    let health = &probe.health;
    let code = if probe.unreachable { Code::Unreachable } else { Code::Unhealthy };
    for endpoint in &health.endpoints {
        if let Some(why) = &endpoint.error {
            let message = format!("{}: {why}", endpoint.endpoint);
            run.report(of_node(ToolResult::error(code, message), endpoint));
        }
    }
    if probe.unreachable {
        return;
    }
    if let Some(message) = different_clusters(health) {
        run.report(ToolResult::error(Code::Unhealthy, message));
    }
    for alarm in &probe.alarms {
        let message = format!("alarm {}: {}", alarm.alarm, advice(&alarm.alarm));
        let endpoint =
            health.endpoints.iter().find(|e| e.member_id.as_ref() == Some(&alarm.member_id));
        match endpoint.and_then(|endpoint| endpoint.node.as_ref()) {
            Some(node) => run.report(ToolResult::error(Code::Unhealthy, message).on(node)),
            None => {
                let message = format!("{}: {message}", member_name(health, &alarm.member_id));
                run.report(ToolResult::error(Code::Unhealthy, message));
            }
        }
    }
    warn(run, probe);
    let summary = summary(health);
    if health.healthy {
        run.report(ToolResult::unchanged(Code::Healthy, summary));
    } else {
        let waited = wait.map(|w| format!(" after {} s", w.as_secs())).unwrap_or_default();
        run.report(ToolResult::error(Code::Unhealthy, format!("unhealthy{waited}: {summary}")));
    }
}

/// In a few words, why the cluster is not healthy.
pub(crate) fn why(probe: &ClusterProbe) -> String {
    let failing = probe.health.endpoints.iter().find(|endpoint| !endpoint.healthy);
    match failing {
        Some(endpoint) => {
            let why = endpoint.error.as_deref().unwrap_or_default();
            format!("{}: {why}", name(&probe.health, endpoint))
        }
        None => summary(&probe.health),
    }
}

/// The name of an endpoint for people: the node's, else the member's, else the URL.
pub(crate) fn name<'a>(health: &'a Health, endpoint: &'a Endpoint) -> &'a str {
    let member = || known_member(health, endpoint).map(|member| member.name.as_str());
    let name = endpoint.node.as_deref().or_else(member);
    name.filter(|name| !name.is_empty()).unwrap_or(&endpoint.endpoint)
}

fn known_member<'a>(health: &'a Health, endpoint: &Endpoint) -> Option<&'a Member> {
    health.members.iter().find(|member| is_of(endpoint, member))
}

fn is_of(endpoint: &Endpoint, member: &Member) -> bool {
    match &endpoint.member_id {
        Some(id) => *id == member.id,
        None => member.client_urls.contains(&endpoint.endpoint),
    }
}

fn member_name(health: &Health, id: &str) -> String {
    let member = health.members.iter().find(|member| member.id == id);
    match member.filter(|member| !member.name.is_empty()) {
        Some(member) => format!("member {}", member.name),
        None => format!("member {id}"),
    }
}

fn of_node(result: ToolResult, endpoint: &Endpoint) -> ToolResult {
    match &endpoint.node {
        Some(node) => result.on(node),
        None => result,
    }
}

fn advice(alarm: &str) -> &str {
    match alarm {
        "NOSPACE" => {
            "the database is at its quota and takes no writes: \
             compact, defragment, then etcdctl alarm disarm"
        }
        "CORRUPT" => "its data differs from that of the others: replace the member",
        _ => "see etcdctl alarm list",
    }
}

fn different_clusters(health: &Health) -> Option<String> {
    let told = health.endpoints.iter().filter_map(|e| e.cluster_id.as_ref().map(|id| (e, id)));
    let ids: BTreeSet<_> = told.clone().map(|(_, id)| id).collect();
    let list: Vec<_> = told.map(|(e, id)| format!("{} {id}", e.endpoint)).collect();
    (ids.len() > 1).then(|| format!("the endpoints are of different clusters: {}", list.join(", ")))
}

fn warn(run: &Run, probe: &ClusterProbe) {
    let health = &probe.health;
    if let Some(why) = &probe.members_error {
        let message = format!("the member list cannot be read: {why}");
        run.report(ToolResult::warning(Code::NoMemberList, message));
    }
    for endpoint in health.endpoints.iter().filter(|endpoint| endpoint.is_learner) {
        let message = "a learner, which does not vote: promote it when it has caught up";
        let message = match endpoint.node {
            Some(_) => message.to_owned(),
            None => format!("{}: {message}", name(health, endpoint)),
        };
        run.report(of_node(ToolResult::warning(Code::Learner, message), endpoint));
    }
    for member in health.members.iter().filter(|member| is_foreign(run, health, member)) {
        let message = format!(
            "{} is no node of the document (peer URLs {})",
            member_name(health, &member.id),
            member.peer_urls.join(",")
        );
        run.report(ToolResult::warning(Code::UnknownMember, message));
    }
    let told = health.endpoints.iter().filter_map(|e| e.version.as_ref().map(|v| (e, v)));
    let versions: BTreeSet<_> = told.clone().map(|(_, version)| version).collect();
    if versions.len() > 1 {
        let list: Vec<_> =
            told.map(|(e, version)| format!("{} {version}", name(health, e))).collect();
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
    let is_asked = health.endpoints.iter().any(|endpoint| is_of(endpoint, member));
    !nodes.is_empty() && !is_node && !is_asked
}

/// The state of the cluster in one line.
fn summary(health: &Health) -> String {
    let all = health.endpoints.len();
    let healthy = health.endpoints.iter().filter(|endpoint| endpoint.healthy).count();
    let mut parts = vec![format!("{healthy} of {all} endpoints healthy")];
    let voting = health.members.iter().filter(|member| !member.is_learner).count();
    let answering =
        health.endpoints.iter().filter(|e| e.member_id.is_some() && !e.is_learner).count();
    let needed = voting / 2 + 1;
    match &health.leader {
        Some(leader) => {
            let name = member_name(health, leader);
            parts.push(format!("leader {}", name.trim_start_matches("member ")));
        }
        None if voting > 0 && answering < needed => parts.push(format!(
            "no leader: {needed} of {voting} members are needed, {answering} answer"
        )),
        None if health.cluster_id.is_some() => {
            parts.push("no leader".into());
        }
        None => {}
    }
    let versions: BTreeSet<_> =
        health.endpoints.iter().filter_map(|e| e.version.as_ref()).collect();
    if let (1, Some(version)) = (versions.len(), versions.first()) {
        parts.push(format!("version {version}"));
    }
    parts.join(", ")
}
