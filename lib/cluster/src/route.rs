//! The ways to the members' client ports: directly, or through the nodes' ssh
//! connections.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Context;
use client::{Access, ClusterProbe, Endpoint, Target, Targets, probe_within};
use remote::{Error, Fleet, Forward, Host, fan_out};
use tokio::time::timeout;

/// What a member of these tools listens on beside its address, whatever that is.
const LOOPBACK: &str = "127.0.0.1";

/// How long to look whether something listens at a port.
const LOOK: Duration = Duration::from_millis(500);

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

impl Way {
    /// Whether something listens at its end: it may be frozen.
    async fn listens(&self) -> bool {
        let looked = timeout(LOOK, self.endpoint.version()).await;
        !matches!(looked, Ok(Err(client::Error::Connect(_))))
    }
}

/// How the endpoints are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Via {
    /// At their URLs.
    Direct,
    /// At their ports on the loopback of their nodes, or where nothing listens there at their
    /// address, through ssh.
    Ssh,
}

impl<'a> Route<'a> {
    /// The ways to `targets`: with `fleet`, all of them through ssh.
    ///
    /// Fails where ssh is to lead to an endpoint that is no node of a document.
    pub fn via(targets: Targets, fleet: Option<&'a Fleet>) -> Result<Self, pipeline::Error> {
        if fleet.is_some() && targets.endpoints.iter().any(|target| target.node.is_none()) {
            let message = "--via ssh: only for the nodes of a document on stdin";
            return Err(pipeline::Error::usage(message));
        }
        Ok(Self::new(targets.endpoints, targets.access, fleet))
    }

    /// The ways to `targets`: with `fleet`, those that belong to a node lead through
    /// ssh to the port of their URL on that node; all others are direct.
    pub fn new(targets: Vec<Target>, access: Access, fleet: Option<&'a Fleet>) -> Self {
        let ways = targets.iter().map(|_| None).collect();
        Self { targets, access, fleet, ways: RefCell::new(ways) }
    }

    /// The same targets, reached as `via` says. Nothing may be open yet.
    pub(crate) fn by(self, via: Via, fleet: &'a Fleet) -> Self {
        Self { fleet: (via == Via::Ssh).then_some(fleet), ..self }
    }

    /// One probe of all targets, in their order, each within `limit` once it is
    /// reached. A host that ssh does not reach is an endpoint with an error.
    ///
    /// Fails on a target that is no URL, or is `https` without a CA certificate.
    pub async fn probe(&self, limit: Duration) -> Result<ClusterProbe, client::Error> {
        let endpoints = self.endpoints().await?;
        let probe = probe_within(&endpoints, limit).await;
        for (way, seen) in self.ways.borrow_mut().iter_mut().zip(&probe.health.endpoints) {
            // A connection through which nobody answers may be lost.
            if seen.member_id.is_none() && !seen.healthy {
                way.take_if(|way| way._forward.is_some());
            }
        }
        Ok(probe)
    }

    /// The endpoints of all targets, in their order; they serve as long as this.
    /// One that ssh does not reach fails every request with the reason.
    ///
    /// Fails on a target that is no URL, or is `https` without a CA certificate.
    pub async fn endpoints(&self) -> Result<Vec<Endpoint>, client::Error> {
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
        let mut endpoints = Vec::new();
        let mut ways = Vec::new();
        for (target, way) in self.targets.iter().zip(opened) {
            match way? {
                Ok(way) => {
                    endpoints.push(way.endpoint.clone());
                    ways.push(Some(way));
                }
                Err(error) => {
                    endpoints.push(unreached(target, &error));
                    ways.push(None);
                }
            }
        }
        self.ways.replace(ways);
        Ok(endpoints)
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
        let invalid = || client::Error::Url { url: target.url.clone(), why: "no port".into() };
        let (_, address, port) = etcd::url::parts(&target.url).ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let lead_to = async |address: &str| {
            let forwarded = fleet.on(node, async |_, host: Host| {
                let forward = host.forward_to(address, port).await?;
                Ok((host, forward))
            });
            let (host, forward) = match forwarded.await {
                Ok(forwarded) => forwarded,
                Err(error) => return Ok(Err(error)),
            };
            let endpoint = Endpoint::over_unix_socket(&target.url, forward.socket(), &self.access)?;
            let endpoint = endpoint.of_node(&node.name);
            Ok(Ok(Way { endpoint, _forward: Some((host, forward)) }))
        };
        let way = match lead_to(LOOPBACK).await? {
            Ok(way) if !way.listens().await => way,
            way => return Ok(way),
        };
        // Others may have etcd listen at the address alone.
        Ok(Ok(match lead_to(address).await? {
            Ok(other) if other.listens().await => other,
            _ => way,
        }))
    }

    /// The endpoint of the node `name`, where the way to it is open.
    pub fn endpoint_of(&self, name: &str) -> Option<Endpoint> {
        let of_node = |target: &Target| target.node.as_ref().is_some_and(|node| node.name == name);
        let at = self.targets.iter().position(of_node)?;
        self.ways.borrow().get(at)?.as_ref().map(|way| way.endpoint.clone())
    }
}

/// The endpoint at `url` as `host` reaches it; it serves as long as the forward.
///
/// Fails on a URL without a port, and where ssh fails.
pub async fn endpoint_from(
    host: &Host,
    url: &str,
    access: &Access,
) -> anyhow::Result<(Endpoint, Forward)> {
    let (_, address, port) = etcd::url::parts(url).with_context(|| format!("{url}: no port"))?;
    let forward = host.forward_to(address, port.parse()?).await?;
    Ok((Endpoint::over_unix_socket(url, forward.socket(), access)?, forward))
}

fn unreached(target: &Target, error: &Error) -> Endpoint {
    let retry = matches!(error, Error::Unreachable(_));
    let why = client::Error::Route { why: format!("ssh: {error}"), retry };
    let endpoint = Endpoint::without_route(&target.url, why);
    match &target.node {
        Some(node) => endpoint.of_node(&node.name),
        None => endpoint,
    }
}
