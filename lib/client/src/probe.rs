//! The complete probe at a set of endpoints.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use futures::future::join_all;
use pipeline::document::{self, Health, Member};
use tokio::time::{Instant, sleep, timeout};

use crate::{Alarm, Endpoint, Error};

/// How long [`wait_healthy`] waits between two probes.
const INTERVAL: Duration = Duration::from_millis(200);

/// The limit of the last probe that [`wait_healthy`] begins: less would fail the healthy.
const SHORTEST: Duration = Duration::from_secs(1);

/// What one probe saw.
#[derive(Debug, Clone, Default)]
pub struct ClusterProbe {
    /// What the document holds of it.
    pub health: Health,
    /// The alarms of all members, those without an endpoint among them.
    pub alarms: Vec<Alarm>,
    /// Whether no endpoint at all answered, refused or not in time: a retry may help.
    pub unreachable: bool,
    /// Why no endpoint told its members, when some answered.
    pub members_error: Option<Error>,
}

/// What one endpoint answered, filled in as the answers come.
#[derive(Default)]
struct EndpointProbe {
    endpoint: document::Endpoint,
    answered: bool,
    leader: Option<String>,
    alarms: Vec<Alarm>,
    members: Option<Result<Vec<Member>, Error>>,
}

/// Looks at all `endpoints` at once; each costs its timeout at most.
///
/// The cluster counts as healthy when every endpoint has served a linearizable
/// read, or is a learner and has served what a learner can, when all are of one
/// cluster, and when no member has raised an alarm.
pub async fn probe(endpoints: &[Endpoint]) -> ClusterProbe {
    probe_within(endpoints, Duration::MAX).await
}

/// The same, with `limit` for each endpoint where that is less than its timeout.
pub async fn probe_within(endpoints: &[Endpoint], limit: Duration) -> ClusterProbe {
    let asked = endpoints.iter().map(|endpoint| ask(endpoint, limit.min(endpoint.timeout)));
    combine(join_all(asked).await)
}

/// Looks at `endpoints` again and again until all is healthy or `limit` is
/// over; the last probe is returned. `progress` is called with each that was
/// not healthy.
pub async fn wait_healthy(
    endpoints: &[Endpoint],
    limit: Duration,
    progress: impl FnMut(&ClusterProbe),
) -> ClusterProbe {
    let probe = async |left| Ok::<_, Infallible>(probe_within(endpoints, left).await);
    let Ok(probe) = wait_healthy_with(limit, probe, progress).await;
    probe
}

/// The same, with probes that `probe` takes within the time that it is given; its
/// error ends the wait.
pub async fn wait_healthy_with<E>(
    limit: Duration,
    probe: impl AsyncFn(Duration) -> Result<ClusterProbe, E>,
    mut progress: impl FnMut(&ClusterProbe),
) -> Result<ClusterProbe, E> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let probe = probe(left.max(SHORTEST)).await?;
        if probe.health.healthy || Instant::now() + INTERVAL >= deadline {
            return Ok(probe);
        }
        progress(&probe);
        sleep(INTERVAL).await;
    }
}

async fn ask(endpoint: &Endpoint, limit: Duration) -> EndpointProbe {
    let mut seen = EndpointProbe {
        endpoint: document::Endpoint {
            endpoint: endpoint.url.clone(),
            node: endpoint.node.clone(),
            ..document::Endpoint::default()
        },
        ..EndpointProbe::default()
    };
    let asked = timeout(limit, seen.fill(endpoint)).await;
    match asked.unwrap_or(Err(Error::TimedOut(limit))) {
        Ok(()) => seen.endpoint.healthy = true,
        Err(error) => {
            seen.answered |= !error.is_unreachable();
            seen.endpoint.error = Some(error.to_string());
        }
    }
    seen
}

impl EndpointProbe {
    /// Asks what needs no quorum first, so that it is known when the read fails.
    async fn fill(&mut self, endpoint: &Endpoint) -> Result<(), Error> {
        let status = match endpoint.status().await {
            Ok(status) => Some(status),
            // Newer versions tell it to root only.
            Err(error) if error.is_denied() => None,
            Err(error @ Error::Gateway(_)) => {
                self.answered = true;
                self.members = Some(Err(error));
                return endpoint.plain_health().await;
            }
            Err(error) => return Err(error),
        };
        self.answered = true;
        let is_learner = status.as_ref().is_some_and(|status| status.is_learner);
        let no_leader = status.as_ref().is_some_and(|status| status.leader.is_none());
        if let Some(status) = status {
            self.leader = status.leader;
            self.alarms = status.alarms;
            let seen = &mut self.endpoint;
            seen.is_leader = self.leader.as_ref() == Some(&status.member_id);
            seen.is_learner = status.is_learner;
            seen.member_id = Some(status.member_id);
            seen.cluster_id = Some(status.cluster_id);
            seen.version = Some(status.version);
            seen.db_size_bytes = Some(status.db_size_bytes);
            seen.db_size_in_use_bytes = Some(status.db_size_in_use_bytes);
            seen.raft_term = Some(status.raft_term);
            seen.raft_index = Some(status.raft_index);
        }
        self.members = Some(endpoint.members().await);
        if no_leader {
            // The read would only wait for one until the limit.
            return Err(Error::NoLeader);
        }
        if is_learner { endpoint.health_of_learner().await } else { endpoint.health().await }
    }

    /// How far what the endpoint says of the cluster can be trusted.
    fn standing(&self) -> impl Ord + use<> {
        (self.endpoint.raft_term, self.endpoint.healthy, self.endpoint.raft_index)
    }
}

fn combine(mut seen: Vec<EndpointProbe>) -> ClusterProbe {
    let clusters: BTreeSet<_> = seen.iter().filter_map(|s| s.endpoint.cluster_id.clone()).collect();
    let alarms: BTreeSet<_> = seen.iter().flat_map(|s| s.alarms.clone()).collect();
    let one_cluster = clusters.len() <= 1;
    let highest = seen.iter().filter_map(|s| s.endpoint.raft_index).max();
    for one in seen.iter_mut().map(|s| &mut s.endpoint) {
        let lag = highest.zip(one.raft_index).map(|(highest, index)| highest - index);
        one.raft_lag = lag.filter(|_| one_cluster);
        one.alarms = alarms
            .iter()
            .filter(|alarm| one.member_id.as_ref() == Some(&alarm.member_id))
            .map(|alarm| alarm.alarm.clone())
            .collect();
    }
    let endpoints_healthy = !seen.is_empty() && seen.iter().all(|s| s.endpoint.healthy);
    let (members, members_error) = members(&seen);
    ClusterProbe {
        unreachable: !seen.iter().any(|s| s.answered),
        members_error,
        health: Health {
            healthy: endpoints_healthy && one_cluster && alarms.is_empty(),
            cluster_id: clusters.into_iter().next().filter(|_| one_cluster),
            leader: seen
                .iter()
                .filter(|s| s.leader.is_some() && one_cluster)
                .max_by_key(|s| s.standing())
                .and_then(|s| s.leader.clone()),
            members,
            endpoints: seen.into_iter().map(|s| s.endpoint).collect(),
        },
        alarms: alarms.into_iter().collect(),
    }
}

/// The member list of the endpoint that is to be trusted most, or why none has one.
fn members(seen: &[EndpointProbe]) -> (Vec<Member>, Option<Error>) {
    let told = seen.iter().filter(|s| matches!(s.members, Some(Ok(_))));
    match told.max_by_key(|s| s.standing()).map(|s| &s.members) {
        Some(Some(Ok(members))) => (members.clone(), None),
        _ => (Vec::new(), seen.iter().find_map(|s| s.members.clone()?.err())),
    }
}
