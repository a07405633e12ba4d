//! Which member a snapshot is taken from.

use client::{ClusterProbe, Target};
use cluster::guard::RECOVER;
use pipeline::document::Endpoint;
use pipeline::{Code, Error, Run, ToolResult};

/// A member to take the snapshot from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its place among the targets.
    pub at: usize,
    /// The name of its node, else its endpoint.
    pub name: String,
    /// What is said of it.
    pub role: String,
    /// The size of its database, when it told it.
    pub size_bytes: Option<u64>,
}

/// Leaves of `targets` only the one of the node, or with the URL, `from`.
pub(crate) fn restrict(targets: &mut Vec<Target>, from: &str) -> Result<(), Error> {
    let is_from = |target: &Target| match &target.node {
        Some(node) => node.name == from,
        None => target.url.trim_end_matches('/') == from.trim_end_matches('/'),
    };
    let of_nodes = targets.iter().any(|target| target.node.is_some());
    targets.retain(is_from);
    if targets.is_empty() {
        let what = if of_nodes { "not a node in the document" } else { "not one of the endpoints" };
        return Err(Error::usage(format!("--from: {from:?} is {what}")));
    }
    Ok(())
}

/// The members to take a snapshot from, the best first: healthy voting
/// followers by how far they are behind, then the leader. With `any`, all that
/// were probed.
pub(crate) fn choose(probe: &ClusterProbe, any: bool) -> Vec<Source> {
    let usable = |endpoint: &Endpoint| {
        let corrupt = endpoint.alarms.iter().any(|alarm| alarm == "CORRUPT");
        any || endpoint.healthy && !endpoint.is_learner && !corrupt
    };
    let endpoints = probe.health.endpoints.iter().enumerate();
    let mut usable: Vec<_> = endpoints.filter(|(_, endpoint)| usable(endpoint)).collect();
    usable.sort_by_key(|(_, endpoint)| (endpoint.is_leader, endpoint.raft_lag.unwrap_or(u64::MAX)));
    let source = |(at, endpoint): (usize, &Endpoint)| Source {
        at,
        name: name(endpoint).to_owned(),
        role: role(endpoint),
        size_bytes: endpoint.db_size_bytes,
    };
    usable.into_iter().map(source).collect()
}

/// Why a snapshot can be taken from no member.
pub(crate) fn report_none(run: &Run, probe: &ClusterProbe) {
    let code = if probe.unreachable { Code::Unreachable } else { Code::Failed };
    for endpoint in &probe.health.endpoints {
        let Some(why) = &endpoint.error else { continue };
        let result = ToolResult::error(code, format!("{}: {why}", endpoint.endpoint));
        run.report(match &endpoint.node {
            Some(node) => result.on(node),
            None => result,
        });
    }
    if !probe.unreachable {
        let no_leader = client::Error::NoLeader.to_string();
        let mut endpoints = probe.health.endpoints.iter();
        let or_recover = match endpoints.any(|e| e.error.as_ref() == Some(&no_leader)) {
            true => format!(", or, where most members are lost for good, {RECOVER}"),
            false => String::new(),
        };
        let message = format!(
            "no healthy voting member to save from: to save what one member has, pass --from \
             NODE{or_recover}"
        );
        run.report(ToolResult::error(code, message));
    }
}

fn name(endpoint: &Endpoint) -> &str {
    endpoint.node.as_deref().unwrap_or(&endpoint.endpoint)
}

fn role(endpoint: &Endpoint) -> String {
    let lag = match endpoint.raft_lag {
        Some(0) => ", not behind".to_owned(),
        Some(1) => ", 1 entry behind".to_owned(),
        Some(lag) => format!(", {lag} entries behind"),
        None => String::new(),
    };
    match endpoint {
        Endpoint { is_leader: true, .. } => "leader".to_owned(),
        Endpoint { is_learner: true, .. } => format!("learner{lag}"),
        Endpoint { member_id: Some(_), .. } => format!("follower{lag}"),
        _ => "state unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use pipeline::document::Health;

    use super::*;

    fn endpoint(name: &str, lag: u64) -> Endpoint {
        Endpoint {
            endpoint: format!("https://{name}:2379"),
            node: Some(name.into()),
            healthy: true,
            member_id: Some("1".into()),
            raft_lag: Some(lag),
            ..Endpoint::default()
        }
    }

    fn chosen(endpoints: Vec<Endpoint>, any: bool) -> Vec<String> {
        let health = Health { endpoints, ..Health::default() };
        let probe = ClusterProbe { health, ..ClusterProbe::default() };
        let source = |source: Source| format!("{} {}", source.name, source.role);
        choose(&probe, any).into_iter().map(source).collect()
    }

    #[test]
    fn the_follower_that_lags_least_then_the_leader() {
        let leader = Endpoint { is_leader: true, ..endpoint("leader", 0) };
        let learner = Endpoint { is_learner: true, ..endpoint("learner", 0) };
        let corrupt = Endpoint { alarms: vec!["CORRUPT".into()], ..endpoint("corrupt", 0) };
        let down = Endpoint { healthy: false, member_id: None, ..endpoint("down", 0) };
        let (far, near) = (endpoint("far", 9), endpoint("near", 1));
        let all = vec![leader.clone(), learner, corrupt, down.clone(), far, near];
        let expected =
            ["near follower, 1 entry behind", "far follower, 9 entries behind", "leader leader"];
        assert_eq!(chosen(all, false), expected);
        assert_eq!(chosen(vec![leader], false), ["leader leader"]);
        assert!(chosen(vec![down.clone()], false).is_empty());
        assert_eq!(chosen(vec![down], true), ["down state unknown"]);
    }
}
