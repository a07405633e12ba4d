//! What the members say of their versions, and waiting for it.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use client::{ClusterProbe, Endpoint, is_of, name, ready_for};
use cluster::route::Route;
use etcd::{Minor, Version};
use pipeline::document::Health;
use pipeline::terminal::Progress;
use pipeline::{Error, Exit};
use tokio::time::{Instant, sleep};

/// How long one member may take to answer.
const PROBE: Duration = Duration::from_secs(5);

/// How long a member may take to start that a run before this one was restarting.
const START: Duration = Duration::from_secs(10);

/// How long to wait between two looks at the members.
pub(crate) const INTERVAL: Duration = Duration::from_millis(200);

/// The members of a running cluster, and how long they may take to do something.
pub(crate) struct Members<'a> {
    route: &'a Route<'a>,
    limit: Duration,
}

/// A member that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its name, for people.
    pub name: String,
    /// What it runs.
    pub version: Version,
    /// The version of its data's format; known from 3.6 on.
    pub storage: Option<Minor>,
    /// The minor version that the cluster is being brought down to, if it is.
    pub target: Option<Minor>,
    /// The minor version that its data was brought down to.
    pub ready_for: Option<Minor>,
}

/// What is known of the members at one moment.
#[derive(Debug)]
pub(crate) struct Look {
    /// Those that answered.
    pub seen: Vec<Seen>,
    /// The members that did not, and why.
    pub missing: Vec<String>,
}

impl Look {
    /// The versions of those that answered.
    pub fn versions(&self) -> impl Iterator<Item = Version> {
        self.seen.iter().map(|seen| seen.version)
    }

    /// The lowest minor version that runs.
    pub fn lowest(&self) -> Option<Minor> {
        self.versions().map(Version::minor).min()
    }

    /// The minor version that the cluster is being brought down to, if it is.
    pub fn target(&self) -> Option<Minor> {
        self.seen.iter().find_map(|seen| seen.target)
    }
}

impl<'a> Members<'a> {
    /// The members at the end of `route`; `limit` is how long they may take to do something.
    pub fn new(route: &'a Route<'a>, limit: Duration) -> Self {
        Self { route, limit }
    }

    /// How long they may take to do something.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Asks all members for their versions.
    ///
    /// Fails where none answers.
    pub async fn look(&self) -> Result<Look> {
        let probe = self.route.probe(PROBE).await?;
        let look = read(&probe);
        if !look.seen.is_empty() {
            return Ok(look);
        }
        let why = probe.cannot_tell().or_else(|| probe.why_unhealthy()).unwrap_or_default();
        let exit = if probe.unreachable { Exit::Unreachable } else { Exit::Failed };
        Err(Error { exit, message: format!("no member answered: {why}") }.into())
    }

    /// The same, as soon as every member of the cluster answers: one may be just starting.
    ///
    /// Fails where one does not: nobody could say what it runs.
    pub async fn look_at_all(&self) -> Result<Look> {
        let deadline = Instant::now() + START.min(self.limit);
        loop {
            let look = self.look().await?;
            match look.missing.first() {
                None => return Ok(look),
                Some(why) if Instant::now() >= deadline => {
                    bail!("every member has to answer before a downgrade: {why}")
                }
                Some(_) => sleep(INTERVAL).await,
            }
        }
    }

    /// The endpoint of a member that serves.
    pub async fn endpoint(&self) -> Result<Endpoint> {
        let probe = self.route.probe(PROBE).await?;
        let endpoints = self.route.endpoints().await?;
        let healthy = probe.health.endpoints.iter().position(|endpoint| endpoint.healthy);
        let why = || anyhow!("no healthy member: {}", probe.why_unhealthy().unwrap_or_default());
        healthy.and_then(|at| endpoints.into_iter().nth(at)).ok_or_else(why)
    }

    /// Waits, and says `label` meanwhile, until `complaint` finds nothing more to say of
    /// the members.
    ///
    /// Fails with what it says at last when that takes too long.
    pub async fn wait(
        &self,
        label: &'static str,
        complaint: impl Fn(&Look) -> Option<String>,
    ) -> Result<()> {
        let _progress = Progress::wait(label);
        let deadline = Instant::now() + self.limit;
        loop {
            let why = match self.look().await {
                Ok(look) => match complaint(&look) {
                    None => return Ok(()),
                    Some(why) => why,
                },
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() >= deadline {
                bail!("{why} after {} s", self.limit.as_secs());
            }
            sleep(INTERVAL).await;
        }
    }

    /// The versions that lead from what the members run to `to`.
    pub async fn path(&self, to: Version) -> Result<Vec<Version>> {
        let look = self.settled().await?;
        let mut path = etcd::path(look.versions(), to)?;
        // What a member runs that does not answer is not known.
        if path.is_empty() && !look.missing.is_empty() {
            path.push(to);
        }
        Ok(path)
    }

    /// Waits until the cluster has taken the version of its lowest member, and ended a
    /// downgrade that all of them have made: etcd does so by itself, some seconds after the
    /// last member. Does not wait while a member does not answer, or is still to be brought
    /// down.
    async fn settled(&self) -> Result<Look> {
        let _progress = Progress::wait("waiting for the version of the cluster");
        let deadline = Instant::now() + self.limit;
        loop {
            let look = self.look().await?;
            let (lowest, target) = (look.lowest(), look.target());
            let goes_down = |seen: &Seen| target.is_some_and(|to| seen.version.minor() > to);
            if !look.missing.is_empty() || look.seen.iter().any(goes_down) {
                return Ok(look);
            }
            let version = self.endpoint().await?.cluster_version().await?;
            if target.is_none() && version.parse().ok().map(Version::minor) == lowest {
                return Ok(look);
            }
            if Instant::now() >= deadline {
                bail!(
                    "the version of the cluster is still {version} after {} s, though no member \
                     runs an older one: see the log of the leader",
                    self.limit.as_secs()
                );
            }
            sleep(INTERVAL).await;
        }
    }
}

/// What `probe` has of the members' versions.
fn read(probe: &ClusterProbe) -> Look {
    let health = &probe.health;
    let (mut seen, mut missing) = (Vec::new(), Vec::new());
    for endpoint in &health.endpoints {
        let version = endpoint.version.as_deref().and_then(|version| version.parse().ok());
        let minor = |text: &Option<String>| text.as_deref()?.parse().ok().map(Version::minor);
        let (target, storage) = (&endpoint.downgrade_target, &endpoint.storage_version);
        match version {
            Some(version) => seen.push(Seen {
                name: name(health, endpoint).to_owned(),
                version,
                storage: minor(storage),
                target: minor(target),
                ready_for: ready_for(target.as_deref(), storage.as_deref()),
            }),
            None => missing.push(unanswered(health, endpoint)),
        }
    }
    let is_asked = |member| health.endpoints.iter().any(|endpoint| is_of(endpoint, member));
    let others = health.members.iter().filter(|member| !is_asked(member));
    missing.extend(
        others.map(|member| format!("member {} is none of those that were asked", member.label())),
    );
    Look { seen, missing }
}

fn unanswered(health: &Health, endpoint: &pipeline::document::Endpoint) -> String {
    let why = endpoint.error.as_deref().unwrap_or("it does not tell its version");
    format!("{}: {why}", name(health, endpoint))
}
