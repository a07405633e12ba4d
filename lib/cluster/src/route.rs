//! The ways to the members' client ports: directly, or through the nodes' ssh
//! connections.

use std::cell::RefCell;
use std::time::Duration;

use client::{Access, ClusterProbe, Endpoint, Target, probe_within};
use pipeline::document;
use remote::{Error, Fleet, Forward, Host, fan_out};

/// The ways to the client ports of some members. What was opened stays open, and
/// what broke is opened again by the next probe.
pub struct Route<'a> {
    targets: Vec<Target>,
    access: Access,
    fleet: Option<&'a Fleet>,
    /// One for each target; none where it is not open.
    ways: RefCell<Vec<Option<Way>>>,
}

/// A way that is open.
struct Way {
    endpoint: Endpoint,
    /// Lasts as long as this.
    _forward: Option<(Host, Forward)>,
}

impl<'a> Route<'a> {
    /// The ways to `targets`: with `fleet`, those that belong to a node lead through
    /// ssh to the port of their URL on the loopback of that node; all others are direct.
    pub fn new(targets: Vec<Target>, access: Access, fleet: Option<&'a Fleet>) -> Self {
        let ways = targets.iter().map(|_| None).collect();
        Self { targets, access, fleet, ways: RefCell::new(ways) }
    }

    /// One probe of all targets, in their order, each within `limit` once it is
    /// reached. A host that ssh does not reach is an endpoint with an error.
    ///
    /// Fails on a target that is no URL, or is `https` without a CA certificate.
    pub async fn probe(&self, limit: Duration) -> Result<ClusterProbe, client::Error> {
        let before = self.ways.take();
        let jobs = self.fleet.map_or(self.targets.len().max(1), Fleet::jobs);
        let opened = fan_out(
            jobs,
            self.targets.iter().zip(before).collect(),
            async |(target, way)| match way {
                Some(way) => Ok(Ok(way)),
                None => self.open(target).await,
            },
        )
        .await;
        let (mut endpoints, mut forwards, mut failed, mut refused) =
            (Vec::new(), Vec::new(), Vec::new(), false);
        for (at, (target, way)) in self.targets.iter().zip(opened).enumerate() {
            match way? {
                Ok(Way { endpoint, _forward }) => {
                    endpoints.push(endpoint);
                    forwards.push((at, _forward));
                }
                Err(error) => {
                    refused |= !matches!(error, Error::Unreachable(_));
                    failed.push((at, unreached(target, &error)));
                }
            }
        }
        let mut probe = probe_within(&endpoints, limit).await;
        let mut ways: Vec<_> = self.targets.iter().map(|_| None).collect();
        let opened = endpoints.into_iter().zip(forwards).zip(&probe.health.endpoints);
        for ((endpoint, (at, forward)), seen) in opened {
            // One that did not answer may have lost its connection.
            if forward.is_none() || seen.member_id.is_some() {
                ways[at] = Some(Way { endpoint, _forward: forward });
            }
        }
        self.ways.replace(ways);
        probe.unreachable &= !refused;
        for (at, endpoint) in failed {
            probe.health.healthy = false;
            probe.health.endpoints.insert(at, endpoint);
        }
        Ok(probe)
    }

    async fn open(&self, target: &Target) -> Result<Result<Way, Error>, client::Error> {
        let (Some(fleet), Some(node)) = (self.fleet, &target.node) else {
            let endpoint = Endpoint::new(&target.url, &self.access)?;
            let endpoint = match &target.node {
                Some(node) => endpoint.of_node(&node.name),
                None => endpoint,
            };
            return Ok(Ok(Way { endpoint, _forward: None }));
        };
        let port = port(&target.url)?;
        let forwarded = fleet.on(node, async |_, host: Host| {
            let forward = host.forward(port).await?;
            Ok((host, forward))
        });
        let (host, forward) = match forwarded.await {
            Ok(forwarded) => forwarded,
            Err(error) => return Ok(Err(error)),
        };
        let endpoint = Endpoint::over_unix_socket(&target.url, forward.socket(), &self.access)?;
        Ok(Ok(Way { endpoint: endpoint.of_node(&node.name), _forward: Some((host, forward)) }))
    }

    /// Does `job` with the endpoint of the node `name`, where it is open.
    pub async fn with<T>(&self, name: &str, job: impl AsyncFnOnce(&Endpoint) -> T) -> Option<T> {
        let of_node = |target: &Target| target.node.as_ref().is_some_and(|node| node.name == name);
        let at = self.targets.iter().position(of_node)?;
        let way = self.ways.borrow_mut().get_mut(at)?.take()?;
        let done = job(&way.endpoint).await;
        if let Some(place) = self.ways.borrow_mut().get_mut(at) {
            *place = Some(way);
        }
        Some(done)
    }
}

/// The port of a URL such as `https://[::1]:2379`.
fn port(url: &str) -> Result<u16, client::Error> {
    let port = url.trim_end_matches('/').rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.ok_or_else(|| client::Error::Url { url: url.into(), why: "no port".into() })
}

fn unreached(target: &Target, error: &Error) -> document::Endpoint {
    document::Endpoint {
        endpoint: target.url.clone(),
        node: target.node.as_ref().map(|node| node.name.clone()),
        error: Some(format!("ssh: {error}")),
        ..document::Endpoint::default()
    }
}
