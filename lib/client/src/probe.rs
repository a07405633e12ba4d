//! The complete probe of a cluster through a set of endpoints.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use etcd::quorum::quorum;
use futures::future::join_all;
use pipeline::document::{self, Health, Member};
use tokio::time::{Instant, sleep, timeout};

use crate::{Alarm, Endpoint, Error, compare, wire};

/// How long [`wait_healthy`] waits between two probes.
const INTERVAL: Duration = Duration::from_millis(200);

/// The limit of the last probe that [`wait_healthy`] begins: less would fail the healthy.
const SHORTEST: Duration = Duration::from_secs(1);

/// What to do about TLS that failed.
const CHECK_FILES: &str = ": check --pki, --cacert, --cert and --key";

/// What one probe found.
#[derive(Debug, Clone, Default)]
pub struct ClusterProbe {
    /// What the document holds of it. The cluster is healthy when there is no
    /// [`Problem`] and nothing is unknown.
    pub health: Health,
    /// The alarms of all members, those without an endpoint among them.
    pub alarms: Vec<Alarm>,
    /// Whether no endpoint at all answered, refused or not in time: a retry may help.
    pub unreachable: bool,
    /// What is wrong, endpoint by endpoint, then what concerns all of them.
    pub problems: Vec<Problem>,
    /// Why nobody can tell who the members are, when some endpoint answered. The
    /// number of voting members is not zero then, but unknown.
    pub unknown: Option<Error>,
}

/// Something that makes a cluster unhealthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it concerns.
    pub kind: ProblemKind,
    /// The node that has it, where it is one node's.
    pub node: Option<String>,
    /// What is wrong and what to do, on one line, without the node.
    pub message: String,
}

/// What a [`Problem`] concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// An endpoint does not serve.
    Endpoint,
    /// What the endpoints report contradicts each other.
    Difference,
    /// A member has raised an alarm.
    Alarm,
}

/// What one endpoint answered, filled in as the answers come.
#[derive(Default)]
pub(crate) struct EndpointProbe {
    pub endpoint: document::Endpoint,
    pub members: Option<Result<Vec<Member>, Error>>,
    pub answered: bool,
    pub leader: Option<String>,
    pub alarms: Vec<Alarm>,
}

/// Probes all `endpoints` at once; each costs its timeout at most.
///
/// The cluster counts as healthy when every endpoint has served a linearizable
/// read, or is a learner and has served what a learner can; when all agree on
/// cluster, members and data; and when no member has raised an alarm.
pub async fn probe(endpoints: &[Endpoint]) -> ClusterProbe {
    probe_within(endpoints, Duration::MAX).await
}

/// The same, with `limit` for each endpoint where that is less than its timeout.
pub async fn probe_within(endpoints: &[Endpoint], limit: Duration) -> ClusterProbe {
    let probes = endpoints.iter().map(|e| probe_endpoint(e, limit.min(e.timeout)));
    let mut probes = join_all(probes).await;
    let differences = compare::settle(endpoints, &mut probes, limit).await;
    combine(probes, differences)
}

/// Probes `endpoints` again and again until the cluster is healthy, or asking
/// again is of no use, or `limit` is over; the last probe is returned. `progress`
/// is called with each before.
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
        if probe.is_final() || Instant::now() + INTERVAL >= deadline {
            return Ok(probe);
        }
        progress(&probe);
        sleep(INTERVAL).await;
    }
}

impl ClusterProbe {
    /// A statement that quorum is lost, and how many of the voting members answer; absent
    /// while there is quorum, or where members that were not probed may be enough.
    pub fn no_quorum(&self) -> Option<String> {
        let endpoints = &self.health.endpoints;
        let served = endpoints.iter().any(|e| e.healthy && !e.is_learner);
        let voters: Vec<_> = self.health.members.iter().filter(|m| !m.is_learner).collect();
        let is_probed = |voter: &Member| endpoints.iter().any(|endpoint| is_of(endpoint, voter));
        let answers = |voter: &Member| {
            endpoints.iter().any(|endpoint| endpoint.member_id.as_ref() == Some(&voter.id))
        };
        let answering = voters.iter().filter(|voter| answers(voter)).count();
        let unknown = voters.iter().filter(|voter| !is_probed(voter)).count();
        (!served && answering + unknown < quorum(voters.len()) && !voters.is_empty()).then(|| {
            let verb = if answering == 1 { "answers" } else { "answer" };
            format!("no quorum: {answering} of {} voting members {verb}", voters.len())
        })
    }

    /// In one line, why the cluster does not count as healthy; absent when it does.
    pub fn why_unhealthy(&self) -> Option<String> {
        let problem = || {
            let problem = self.problems.first()?;
            let node = problem.node.iter().map(|node| format!("{node}: "));
            Some(node.collect::<String>() + &problem.message)
        };
        self.no_quorum().or_else(problem).or_else(|| self.cannot_tell())
    }

    /// In one line, to which version the cluster is being downgraded, and what to do; absent
    /// when it is not.
    pub fn downgrade(&self) -> Option<String> {
        let mut endpoints = self.health.endpoints.iter();
        endpoints.find_map(|endpoint| endpoint.downgrade_target.as_deref()).map(wire::downgrade)
    }

    /// In one line, why it cannot be told who the members are, and what to do.
    pub fn cannot_tell(&self) -> Option<String> {
        let why = self.unknown.as_ref()?;
        Some(format!("cannot tell who the members are: {why}{}", why.advice()))
    }

    /// Adds `problem`, which makes the cluster unhealthy.
    pub(crate) fn add(&mut self, problem: Problem) {
        self.health.healthy = false;
        self.problems.push(problem);
    }

    /// In one line, which endpoint is of which cluster; absent where they are of one.
    pub fn several_clusters(&self) -> Option<String> {
        let list = compare::clusters(self.health.endpoints.iter(), |e| name(&self.health, e))?;
        Some(format!("the endpoints are of different clusters: {list}"))
    }

    /// Why no endpoint gives the member list, or whose it would be, and whether that may pass;
    /// absent where all is well.
    pub fn why_no_members(&self) -> Option<(String, bool)> {
        if let Some(why) = self.several_clusters() {
            return Some((
                why + ": take the nodes of the other cluster out of the document",
                false,
            ));
        }
        let of_endpoint = |endpoint: &document::Endpoint| {
            let why = endpoint.error.as_ref()?;
            Some(format!("{}: {why}", endpoint.node.as_ref().unwrap_or(&endpoint.endpoint)))
        };
        let mut endpoints = self.health.endpoints.iter();
        if !self.health.members.is_empty() {
            return None;
        }
        Some(match (self.cannot_tell(), &self.unknown, endpoints.find(|e| refuses_tls(e))) {
            (Some(why), Some(error), _) => (why, !error.is_lasting()),
            (_, _, Some(refusing)) => {
                let why = of_endpoint(refusing).unwrap_or_default();
                // Some say by themselves what to pass.
                let advice = if why.contains("pass --") { "" } else { CHECK_FILES };
                (why + advice, false)
            }
            _ => (self.health.endpoints.iter().find_map(of_endpoint).unwrap_or_default(), true),
        })
    }

    /// Whether to ask again is of no use: all is well, or what is wrong stays so.
    pub fn is_final(&self) -> bool {
        let mut endpoints = self.health.endpoints.iter();
        let unknown_for_good = self.unknown.as_ref().is_some_and(Error::is_lasting);
        let tls = self.health.endpoints.iter().any(refuses_tls)
            && (self.health.members.is_empty() || endpoints.all(|e| e.healthy || refuses_tls(e)));
        self.health.healthy || tls || (self.problems.is_empty() && unknown_for_good)
    }
}

impl Problem {
    pub(crate) fn difference(message: String) -> Self {
        Self { kind: ProblemKind::Difference, node: None, message }
    }
}

/// Whether the endpoint answers, and not with TLS that both sides accept: that stays so.
fn refuses_tls(endpoint: &document::Endpoint) -> bool {
    endpoint.error.as_deref().is_some_and(is_tls)
}

/// Whether the error of an endpoint, as the document has it, is one of TLS, which does not
/// pass.
pub fn is_tls(error: &str) -> bool {
    error.starts_with("TLS: ")
}

/// The name of an endpoint for people: the node's, else the member's, else the URL.
pub fn name<'a>(health: &'a Health, endpoint: &'a document::Endpoint) -> &'a str {
    let mut members = health.members.iter().filter(|member| is_of(endpoint, member));
    let name = endpoint.node.as_deref().or_else(|| members.next().map(|m| m.name.as_str()));
    name.filter(|name| !name.is_empty()).unwrap_or(&endpoint.endpoint)
}

/// Whether `endpoint` is one of `member`'s: by the ID that it reported, else by node or URL.
pub fn is_of(endpoint: &document::Endpoint, member: &Member) -> bool {
    match &endpoint.member_id {
        Some(id) => *id == member.id,
        None => {
            endpoint.node.as_ref() == Some(&member.name)
                || member.client_urls.contains(&endpoint.endpoint)
        }
    }
}

async fn probe_endpoint(endpoint: &Endpoint, limit: Duration) -> EndpointProbe {
    let mut probe = EndpointProbe {
        endpoint: document::Endpoint {
            endpoint: endpoint.url.clone(),
            node: endpoint.node.clone(),
            ..document::Endpoint::default()
        },
        ..EndpointProbe::default()
    };
    // One without a route fails at once, with its own reason.
    let filled = if endpoint.has_route() {
        timeout(limit, probe.fill(endpoint)).await.unwrap_or(Err(Error::TimedOut(limit)))
    } else {
        probe.fill(endpoint).await
    };
    probe.endpoint.certificate_not_after = endpoint.presented.not_after().map(pipeline::rfc3339);
    match filled {
        Ok(()) => probe.endpoint.healthy = true,
        Err(error) => {
            probe.answered |= !error.is_unreachable();
            probe.endpoint.error = Some(error.to_string());
        }
    }
    probe
}

impl EndpointProbe {
    /// Asks what needs no quorum first, so that it is known when the read fails.
    async fn fill(&mut self, endpoint: &Endpoint) -> Result<(), Error> {
        let status = match endpoint.status().await {
            Ok(status) => Some(status),
            Err(error) if error.is_denied() => None,
            Err(error @ (Error::Gateway(_) | Error::CommonName | Error::Login)) => {
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
            seen.db_quota_bytes = status.db_quota_bytes;
            seen.storage_version = status.storage_version;
            seen.downgrade_target = status.downgrade_target;
            seen.raft_term = Some(status.raft_term);
            seen.raft_index = Some(status.raft_index);
            seen.raft_applied_index = Some(status.raft_applied_index);
            seen.revision = Some(status.revision);
        }
        self.members = Some(endpoint.members().await);
        if no_leader {
            // The read would only wait for one until the limit.
            return Err(Error::NoLeader);
        }
        let health = match is_learner {
            true => endpoint.health_of_learner().await,
            false => endpoint.health().await,
        };
        match health {
            // 3.4 asks for the user here only.
            Err(error @ Error::Login) => {
                self.members = Some(Err(error));
                endpoint.plain_health().await
            }
            health => health,
        }
    }

    /// Whether it has served a linearizable read, and so has caught up just now.
    pub fn is_current(&self) -> bool {
        self.endpoint.healthy && !self.endpoint.is_learner && self.endpoint.member_id.is_some()
    }

    /// How far what the endpoint reports of the cluster can be trusted.
    fn standing(&self) -> impl Ord + use<> {
        (self.endpoint.raft_term, self.endpoint.healthy, self.endpoint.raft_index)
    }
}

fn combine(mut probes: Vec<EndpointProbe>, differences: Vec<Problem>) -> ClusterProbe {
    let clusters: BTreeSet<_> =
        probes.iter().filter_map(|p| p.endpoint.cluster_id.clone()).collect();
    let one_cluster = clusters.len() <= 1;
    let alarms: BTreeSet<_> = probes.iter().flat_map(|p| p.alarms.clone()).collect();
    let highest = probes.iter().filter_map(|p| p.endpoint.raft_index).max();
    for one in probes.iter_mut().map(|probe| &mut probe.endpoint) {
        let lag = highest.zip(one.raft_index).map(|(highest, index)| highest - index);
        one.raft_lag = lag.filter(|_| one_cluster);
        one.alarms = alarms
            .iter()
            .filter(|alarm| one.member_id.as_ref() == Some(&alarm.member_id))
            .map(|alarm| alarm.alarm.clone())
            .collect();
    }
    // A leader that is known only to members without quorum may be dead.
    let leads = probes.iter().filter(|p| p.is_current() && p.leader.is_some() && one_cluster);
    let leader = leads.max_by_key(|p| p.standing()).and_then(|p| p.leader.clone());
    let (members, unknown) = members(&probes);
    let mut probe = ClusterProbe {
        unreachable: !probes.iter().any(|p| p.answered),
        health: Health {
            healthy: !probes.is_empty() && unknown.is_none(),
            cluster_id: clusters.into_iter().next().filter(|_| one_cluster),
            leader,
            members,
            endpoints: probes.into_iter().map(|p| p.endpoint).collect(),
        },
        alarms: alarms.into_iter().collect(),
        problems: Vec::new(),
        unknown,
    };
    let failed = probe.health.endpoints.iter().filter_map(|e| {
        let message = format!("{}: {}", e.endpoint, e.error.as_ref()?);
        Some(Problem { kind: ProblemKind::Endpoint, node: e.node.clone(), message })
    });
    let problems: Vec<_> = failed
        .chain(differences)
        .chain(never_started(&probe.health))
        .chain(probe.alarms.iter().map(|alarm| of_alarm(&probe.health, alarm)))
        .collect();
    problems.into_iter().for_each(|problem| probe.add(problem));
    probe
}

/// The member list of the endpoint that is to be trusted most, or why none has one.
fn members(probes: &[EndpointProbe]) -> (Vec<Member>, Option<Error>) {
    let lists = probes.iter().filter(|probe| matches!(probe.members, Some(Ok(_))));
    match lists.max_by_key(|probe| probe.standing()).map(|probe| &probe.members) {
        Some(Some(Ok(members))) => (members.clone(), None),
        _ => (Vec::new(), probes.iter().find_map(|probe| probe.members.clone()?.err())),
    }
}

/// The voters that were added and have never started: until then etcd knows no name of
/// them, and they count as failed ones.
fn never_started(health: &Health) -> Vec<Problem> {
    let voters = health.members.iter().filter(|member| !member.is_learner).count();
    let absent: Vec<_> =
        health.members.iter().filter(|m| m.name.is_empty() && !m.is_learner).collect();
    let spare = voters.saturating_sub(quorum(voters) + absent.len());
    let of_member = |member: &&Member| Problem {
        kind: ProblemKind::Endpoint,
        node: None,
        message: format!(
            "member {} ({}) was added and has never started: until it does, {} of {voters} voters \
             may fail: start it, or remove it: `etcdctl member remove {}`",
            member.id,
            member.peer_urls.join(","),
            if spare == 0 { "none".to_owned() } else { format!("{spare} more") },
            member.id
        ),
    };
    absent.iter().map(of_member).collect()
}

fn of_alarm(health: &Health, alarm: &Alarm) -> Problem {
    let message = alarm.to_string();
    let mut endpoints = health.endpoints.iter();
    let endpoint = endpoints.find(|e| e.member_id.as_ref() == Some(&alarm.member_id));
    if let Some(node) = endpoint.and_then(|endpoint| endpoint.node.clone()) {
        return Problem { kind: ProblemKind::Alarm, node: Some(node), message };
    }
    let member = health.members.iter().find(|member| member.id == alarm.member_id);
    if member.is_none() && !health.members.is_empty() {
        let message = format!(
            "alarm {} of {}, which is no member any more: it is left over: take it back: `etcdctl \
             alarm disarm`",
            alarm.alarm, alarm.member_id
        );
        return Problem { kind: ProblemKind::Alarm, node: None, message };
    }
    let name = member.map(|m| m.name.as_str()).filter(|name| !name.is_empty());
    let message = format!("member {}: {message}", name.unwrap_or(&alarm.member_id));
    Problem { kind: ProblemKind::Alarm, node: None, message }
}

/// The alarm, and what to do about it.
impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let advice = match self.alarm.as_str() {
            "NOSPACE" => {
                "the database has reached its quota and takes no writes: compact, defragment, \
                 raise quotaBackendBytes if most of it is in use, then etcdctl alarm disarm"
            }
            "CORRUPT" => {
                "its data differs from that of the other members: remove the member and add it \
                 again"
            }
            _ => "see etcdctl alarm list",
        };
        write!(f, "alarm {}: {advice}", self.alarm)
    }
}
