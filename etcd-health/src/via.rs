//! The way to the endpoints: directly, or through the nodes' ssh connections.

use std::time::Duration;

use client::{Endpoint, Look, look_within};
use pipeline::document::{self, Node};
use pipeline::{Error, Run};
use remote::{Fleet, Forward, Host, fan_out};

use crate::source::{Source, Target};
use crate::{Health, Via};

/// The way to the endpoints of `source`.
pub(crate) enum Route<'a> {
    Direct(Vec<Endpoint>),
    Ssh { fleet: Fleet, run: &'a Run, source: &'a Source },
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
    pub(crate) fn find(tool: &Health, run: &'a Run, source: &'a Source) -> anyhow::Result<Self> {
        if tool.via == Via::Ssh {
            let fleet = Fleet::new(&tool.ssh, run.common.jobs)?;
            return Ok(Self::Ssh { fleet, run, source });
        }
        let usage = |error: client::Error| Error::usage(error.to_string());
        let endpoint = |target: &Target| {
            let endpoint = Endpoint::new(&target.url, &source.access).map_err(usage)?;
            Ok(match &target.node {
                Some(node) => endpoint.of_node(&node.name),
                None => endpoint,
            })
        };
        Ok(Self::Direct(source.targets.iter().map(endpoint).collect::<Result<_, Error>>()?))
    }

    /// One look, within `limit` for each endpoint that is reached. A host that
    /// ssh could not reach is tried anew in each look.
    pub(crate) async fn look(&self, limit: Duration) -> Result<Look, client::Error> {
        match self {
            Self::Direct(endpoints) => Ok(look_within(endpoints, limit).await),
            Self::Ssh { fleet, run, source } => {
                let forwarded = forward(fleet, run, source).await?;
                let look = look_within(&forwarded.endpoints, limit).await;
                Ok(forwarded.complete(look))
            }
        }
    }
}

async fn forward(fleet: &Fleet, run: &Run, source: &Source) -> Result<Forwarded, client::Error> {
    let nodes = source.targets.iter().filter_map(|t| t.node.as_ref().map(|node| (t, node)));
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
                let endpoint = Endpoint::over_unix_socket(&target.url, socket, &source.access)?;
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
    /// `look` with the endpoints in it that could not be asked.
    fn complete(self, mut look: Look) -> Look {
        look.unreachable &= !self.refused;
        for (at, endpoint) in self.failed {
            look.health.healthy = false;
            look.health.endpoints.insert(at, endpoint);
        }
        look
    }
}
