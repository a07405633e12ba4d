//! The way to the endpoints: directly, or through the nodes' ssh connections.

use std::time::Duration;

use client::{ClusterProbe, Endpoint, Target, Targets, probe_within};
use pipeline::document::{self, Node};
use pipeline::{Error, Run};
use remote::{Fleet, Forward, Host, fan_out};

use crate::{Health, Via};

/// The way to the endpoints of `targets`.
pub(crate) enum Route<'a> {
    Direct(Vec<Endpoint>),
    Ssh { fleet: Fleet, run: &'a Run, targets: &'a Targets },
}

/// Endpoints through forwarded ports, which last as long as this.
#[derive(Default)]
struct Forwarded {
    endpoints: Vec<Endpoint>,
    forwards: Vec<(Host, Forward)>,
    /// What ssh did not reach, each with its place among all endpoints.
    failed: Vec<(usize, document::Endpoint)>,
    /// Whether ssh failed where a retry does not help.
    refused: bool,
}

impl<'a> Route<'a> {
    /// The way that `tool`'s flags ask for.
    pub(crate) fn find(tool: &Health, run: &'a Run, targets: &'a Targets) -> anyhow::Result<Self> {
        if tool.via == Via::Ssh {
            if targets.endpoints.iter().any(|target| target.node.is_none()) {
                let message = "--via ssh: only for the nodes of a document on stdin";
                return Err(Error::usage(message).into());
            }
            let fleet = Fleet::new(&tool.ssh, run.common.jobs)?;
            return Ok(Self::Ssh { fleet, run, targets });
        }
        let usage = |error: client::Error| Error::usage(error.to_string());
        let endpoint = |target: &Target| {
            let endpoint = Endpoint::new(&target.url, &targets.access).map_err(usage)?;
            Ok(match &target.node {
                Some(node) => endpoint.of_node(&node.name),
                None => endpoint,
            })
        };
        Ok(Self::Direct(targets.endpoints.iter().map(endpoint).collect::<Result<_, Error>>()?))
    }

    /// One probe, within `limit` for each endpoint that is reached. A host that
    /// ssh could not reach is tried anew in each probe.
    pub(crate) async fn probe(&self, limit: Duration) -> Result<ClusterProbe, client::Error> {
        match self {
            Self::Direct(endpoints) => Ok(probe_within(endpoints, limit).await),
            Self::Ssh { fleet, run, targets } => {
                let forwarded = forward(fleet, run, targets).await?;
                let probe = probe_within(&forwarded.endpoints, limit).await;
                Ok(forwarded.complete(probe))
            }
        }
    }
}

async fn forward(fleet: &Fleet, run: &Run, targets: &Targets) -> Result<Forwarded, client::Error> {
    let nodes = targets.endpoints.iter().filter_map(|t| t.node.as_ref().map(|node| (t, node)));
    let reached =
        fan_out(fleet.jobs(), nodes.collect(), async |(target, node): (&Target, &Node)| {
            let port = run.document.settings(node).client_port;
            let made = fleet.on(node, async |_, host: Host| {
                let forward = host.forward(port).await?;
                Ok((host, forward))
            });
            (target, node, made.await)
        });
    let mut forwarded = Forwarded::default();
    for (at, (target, node, made)) in reached.await.into_iter().enumerate() {
        match made {
            Ok((host, forward)) => {
                let socket = forward.socket();
                let endpoint = Endpoint::over_unix_socket(&target.url, socket, &targets.access)?;
                forwarded.endpoints.push(endpoint.of_node(&node.name));
                forwarded.forwards.push((host, forward));
            }
            Err(error) => {
                forwarded.refused |= !matches!(error, remote::Error::Unreachable(_));
                let endpoint = document::Endpoint {
                    endpoint: target.url.clone(),
                    node: Some(node.name.clone()),
                    error: Some(format!("ssh: {error}")),
                    ..document::Endpoint::default()
                };
                forwarded.failed.push((at, endpoint));
            }
        }
    }
    Ok(forwarded)
}

impl Forwarded {
    /// `probe` with the endpoints in it that could not be asked.
    fn complete(self, mut probe: ClusterProbe) -> ClusterProbe {
        probe.unreachable &= !self.refused;
        for (at, endpoint) in self.failed {
            probe.health.healthy = false;
            probe.health.endpoints.insert(at, endpoint);
        }
        probe
    }
}
