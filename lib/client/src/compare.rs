//! Whether what the endpoints of one cluster report agrees.
//!
//! A difference counts only between members that have served a linearizable read,
//! and so have caught up just now, and only when it stays: members change, and
//! entries are applied, a little later on one than on the other.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use pipeline::document;
use tokio::time::{sleep, timeout};

use crate::probe::{ClusterProbe, EndpointProbe, Problem, ProblemKind, name};
use crate::wire::DataHash;
use crate::{Endpoint, Error};

/// How often members that differ are queried again.
const ROUNDS: usize = 5;

/// How long they are given to agree.
const PAUSE: Duration = Duration::from_millis(100);

/// What to do about a member with other data.
const REPLACE: &str = "remove the member whose data is wrong and add it again";

/// What `probes`, one for each of `endpoints`, contradict each other in. Asks
/// again, for `limit` at most, where they do; what does not become clear within it
/// is no difference.
pub(crate) async fn settle(
    endpoints: &[Endpoint],
    probes: &mut [EndpointProbe],
    limit: Duration,
) -> Vec<Problem> {
    let clusters = different_clusters(probes);
    if clusters.is_some() {
        // Nothing else of theirs is comparable.
        return clusters.into_iter().collect();
    }
    let members = timeout(limit, different_members(endpoints, probes)).await;
    let data = timeout(limit, different_data(endpoints, probes)).await;
    let messages = members.ok().flatten().into_iter().chain(data.ok().flatten());
    messages.map(Problem::difference).collect()
}

fn different_clusters(probes: &[EndpointProbe]) -> Option<Problem> {
    let list = clusters(probes.iter().map(|probe| &probe.endpoint), |e| &e.endpoint)?;
    Some(Problem::difference(format!("the endpoints belong to different clusters: {list}")))
}

/// Which of `endpoints`, each called as `name` says, is of which cluster; absent where they are
/// of one.
pub(crate) fn clusters<'a>(
    endpoints: impl Iterator<Item = &'a document::Endpoint>,
    name: impl Fn(&'a document::Endpoint) -> &'a str,
) -> Option<String> {
    let told = endpoints.filter_map(|e| Some((name(e), e.cluster_id.as_ref()?)));
    let told: Vec<_> = told.collect();
    let ids: BTreeSet<_> = told.iter().map(|(_, id)| id).collect();
    (ids.len() > 1).then(|| {
        let list: Vec<_> = told.iter().map(|(name, id)| format!("{name} {id}")).collect();
        list.join(", ")
    })
}

/// Asks for the member lists again until they agree.
async fn different_members(endpoints: &[Endpoint], probes: &mut [EndpointProbe]) -> Option<String> {
    for _ in 0..ROUNDS {
        member_difference(probes)?;
        sleep(PAUSE).await;
        let lists = current(probes).into_iter().map(async |at| (at, endpoints[at].members().await));
        for (at, list) in join_all(lists).await {
            probes[at].members = Some(list);
        }
    }
    member_difference(probes)
}

fn member_difference(probes: &[EndpointProbe]) -> Option<String> {
    let lists = probes.iter().filter(|probe| probe.is_current()).filter_map(|probe| {
        let members = probe.members.as_ref()?.as_ref().ok()?;
        let described = members.iter().map(|member| {
            let mark = if member.is_learner { ", a learner" } else { "" };
            format!("{} ({}{mark})", member.name, member.id)
        });
        Some((probe, described.collect::<BTreeSet<_>>()))
    });
    let lists: Vec<_> = lists.collect();
    let (first, other) = lists.split_first()?;
    let other = other.iter().find(|(_, list)| *list != first.1)?;
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
        let list: Vec<_> = a.difference(b).cloned().collect();
        if list.is_empty() { "no other".into() } else { list.join(", ") }
    };
    let (a, b) = (first.0.name(), other.0.name());
    Some(format!(
        "{a} and {b} know different members: only {a} knows {}, only {b} knows {}",
        only(&first.1, &other.1),
        only(&other.1, &first.1)
    ))
}

/// How far a member's data is: what it has applied gives one revision, whatever member it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    applied_index: u64,
    revision: u64,
}

/// Asks for the positions again until all are the same, or two members differ
/// twice at one applied index.
async fn different_data(endpoints: &[Endpoint], probes: &[EndpointProbe]) -> Option<String> {
    let members = current(probes);
    let position = |at: &usize| {
        let endpoint = &probes[*at].endpoint;
        let applied_index = endpoint.raft_applied_index?;
        Some(Position { applied_index, revision: endpoint.revision? })
    };
    let mut positions: Vec<_> = members.iter().map(position).collect();
    let mut differed = false;
    for _ in 0..ROUNDS {
        if positions.windows(2).all(|pair| pair[0].is_some() && pair[0] == pair[1]) {
            return None;
        }
        let queries = members.iter().map(|at| stable_position(&endpoints[*at]));
        positions = join_all(queries).await;
        let difference = position_difference(probes, &members, &positions);
        if differed && difference.is_some() {
            return difference;
        }
        differed |= difference.is_some();
    }
    None
}

/// The position of a member, if it applied nothing between two queries: index
/// and revision of one answer are not read at the same moment.
async fn stable_position(endpoint: &Endpoint) -> Option<Position> {
    let position = async || {
        let status = endpoint.status().await.ok()?;
        let applied_index = status.raft_applied_index;
        Some(Position { applied_index, revision: status.revision })
    };
    let first = position().await?;
    position().await.filter(|second| *second == first)
}

fn position_difference(
    probes: &[EndpointProbe],
    members: &[usize],
    positions: &[Option<Position>],
) -> Option<String> {
    let known: Vec<_> =
        members.iter().zip(positions).filter_map(|(at, p)| Some((&probes[*at], (*p)?))).collect();
    for (at, (one, position)) in known.iter().enumerate() {
        let at_index = |p: &Position| p.applied_index == position.applied_index;
        let differs = |p: &Position| at_index(p) && p.revision != position.revision;
        let Some((other, _)) = known[at..].iter().find(|(_, p)| differs(p)) else { continue };
        let list = known.iter().filter(|(_, p)| at_index(p));
        let list: Vec<_> = list.map(|(m, p)| format!("{} {}", m.name(), p.revision)).collect();
        return Some(format!(
            "{} and {} hold different data: the revisions at applied index {} are {}: {REPLACE}",
            one.name(),
            other.name(),
            position.applied_index,
            list.join(", ")
        ));
    }
    None
}

/// The places of the members whose answers can be compared.
fn current(probes: &[EndpointProbe]) -> Vec<usize> {
    (0..probes.len()).filter(|at| probes[*at].is_current()).collect()
}

impl EndpointProbe {
    fn name(&self) -> &str {
        let members = self.members.iter().flatten().flatten();
        let mut own = members.filter(|member| self.endpoint.member_id.as_ref() == Some(&member.id));
        let name = self.endpoint.node.as_deref().or_else(|| own.next().map(|m| m.name.as_str()));
        name.filter(|name| !name.is_empty()).unwrap_or(&self.endpoint.endpoint)
    }
}

/// Has the members of `probe`, one for each of `endpoints`, hash their data at one
/// revision, and adds the hashes, and the problem where they differ, to `probe`.
///
/// Each member reads all of its data for it. Gives what could not be compared, and
/// why.
pub async fn compare_hashes(endpoints: &[Endpoint], probe: &mut ClusterProbe) -> Vec<Problem> {
    let mut hashes = hash(endpoints, probe).await;
    if !hashes.iter().all(|one| one.fits(&hashes[0])) {
        // A compaction under way is a passing difference.
        sleep(PAUSE).await;
        hashes = hash(endpoints, probe).await;
    }
    let mut failures = Vec::new();
    let mut known: Vec<(String, &MemberHash, &DataHash)> = Vec::new();
    for one in &hashes {
        let endpoint = &mut probe.health.endpoints[one.at];
        match &one.hash {
            Ok(hash) => {
                endpoint.data_hash = Some(format!("{:08x}", hash.hash));
                let name = name(&probe.health, &probe.health.endpoints[one.at]).to_owned();
                known.push((name, one, hash));
            }
            Err(why) => failures.push(Problem {
                kind: ProblemKind::Endpoint,
                node: endpoint.node.clone(),
                message: format!("{}: hashing its data: {}", endpoint.endpoint, hash_error(why)),
            }),
        }
    }
    let Some((first, others)) = known.split_first() else { return failures };
    let basis = |(_, one, hash): &(_, &MemberHash, &DataHash)| {
        (one.revision, one.version.clone(), hash.compact_revision)
    };
    let list = |describe: &dyn Fn(&MemberHash, &DataHash) -> String| -> String {
        let list = known.iter().map(|(name, one, hash)| format!("{name} {}", describe(one, hash)));
        list.collect::<Vec<_>>().join(", ")
    };
    if others.iter().any(|other| basis(other) != basis(first)) {
        let bases = list(&|one, hash| {
            format!("(version {}, compacted at {})", one.version, hash.compact_revision)
        });
        let message = format!("hashes of the data cannot be compared: {bases}");
        failures.push(Problem::difference(message));
    } else if let Some(other) = others.iter().find(|(_, _, hash)| hash.hash != first.2.hash) {
        let message = format!(
            "{} and {} hold different data: the hashes at revision {} are {}: {REPLACE}",
            first.0,
            other.0,
            first.1.revision,
            list(&|_, hash| format!("{:08x}", hash.hash))
        );
        probe.add(Problem::difference(message));
    }
    failures
}

/// One member's reply to the request to hash its data.
struct MemberHash {
    at: usize,
    version: String,
    revision: u64,
    hash: Result<DataHash, Error>,
}

impl MemberHash {
    fn fits(&self, other: &Self) -> bool {
        self.hash.is_ok() && self.hash == other.hash
    }
}

/// The hashes of all members that have caught up, at the newest revision that all have.
async fn hash(endpoints: &[Endpoint], probe: &ClusterProbe) -> Vec<MemberHash> {
    let members = probe.health.endpoints.iter().enumerate();
    let members = members.filter(|(_, e)| e.healthy && !e.is_learner && e.member_id.is_some());
    let statuses = members.map(async |(at, _)| (at, endpoints[at].status().await));
    let statuses = join_all(statuses).await;
    let revisions = statuses.iter().filter_map(|(_, status)| Some(status.as_ref().ok()?.revision));
    let revision = revisions.min().unwrap_or_default();
    let hashes = statuses.into_iter().map(async |(at, status)| {
        let version = status.as_ref().map(|status| status.version.clone()).unwrap_or_default();
        let hash = match status {
            Ok(_) => endpoints[at].data_hash(revision).await,
            Err(why) => Err(why),
        };
        MemberHash { at, version, revision, hash }
    });
    join_all(hashes).await
}

fn hash_error(why: &Error) -> String {
    match why {
        Error::Answer(text) if text.starts_with("HTTP 404") => {
            "its gateway does not offer it: it needs etcd 3.5.10 or newer".into()
        }
        why => format!("{why}{}", why.advice()),
    }
}

#[cfg(test)]
mod tests {
    use pipeline::document::{self, Member};

    use super::*;

    fn probe(node: &str, members: &[(&str, bool)]) -> EndpointProbe {
        let member = |(name, is_learner): &(&str, bool)| Member {
            id: format!("id-{name}"),
            name: (*name).into(),
            is_learner: *is_learner,
            ..Member::default()
        };
        EndpointProbe {
            endpoint: document::Endpoint {
                endpoint: format!("https://{node}:2379"),
                node: Some(node.into()),
                member_id: Some(format!("id-{node}")),
                healthy: true,
                ..document::Endpoint::default()
            },
            members: Some(Ok(members.iter().map(member).collect())),
            ..EndpointProbe::default()
        }
    }

    #[test]
    fn members_that_only_one_knows_are_named() {
        let both = [("a", false), ("b", false)];
        let mut probes = [probe("a", &both), probe("b", &both)];
        assert_eq!(member_difference(&probes), None);

        probes[1] = probe("b", &[("b", false), ("a", true), ("c", false)]);
        let expected = "a and b know different members: only a knows a (id-a), only b knows \
                        a (id-a, a learner), c (id-c)";
        assert_eq!(member_difference(&probes).as_deref(), Some(expected));

        // What a member without quorum knows may be old.
        probes[1].endpoint.healthy = false;
        assert_eq!(member_difference(&probes), None);
    }

    #[test]
    fn only_members_at_one_applied_index_are_compared() {
        let probes = ["a", "b", "c"].map(|node| probe(node, &[]));
        let difference = |positions: [Option<(u64, u64)>; 3]| {
            let position = |(applied_index, revision)| Position { applied_index, revision };
            let positions = positions.map(|one| one.map(position));
            position_difference(&probes, &[0, 1, 2], &positions)
        };
        assert_eq!(difference([Some((20, 7)), Some((20, 7)), Some((20, 7))]), None);
        assert_eq!(difference([Some((20, 7)), Some((21, 8)), Some((19, 6))]), None);
        assert_eq!(difference([Some((20, 7)), None, None]), None);
        let expected = "b and c hold different data: the revisions at applied index 21 are b 8, \
                        c 5: remove the member whose data is wrong and add it again";
        let found = difference([Some((20, 7)), Some((21, 8)), Some((21, 5))]);
        assert_eq!(found.as_deref(), Some(expected));
    }
}
