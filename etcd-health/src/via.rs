//! Reaching the endpoints: directly, or through the nodes' ssh connections.

use client::{Endpoint, Look};
use pipeline::{Error, Run, document};
use remote::{Fleet, Forward, Host, fan_out};

use crate::source::{Source, Target};
use crate::{Health, Via};

/// The endpoints that can be asked, and those that cannot.
pub(crate) struct Reached {
    pub endpoints: Vec<Endpoint>,
    /// What ssh could not reach, each with its place among all endpoints.
    pub failed: Vec<(usize, document::Endpoint)>,
    /// Forwarded ports last as long as these.
    _forwards: Vec<(Host, Forward)>,
}

/// Makes the endpoints of `source`, with a forwarded port to each for `--via ssh`.
pub(crate) async fn reach(tool: &Health, run: &Run, source: &Source) -> anyhow::Result<Reached> {
    let mut reached = Reached { endpoints: Vec::new(), failed: Vec::new(), _forwards: Vec::new() };
    match tool.via {
        Via::Direct => {
            for target in &source.targets {
                let endpoint = Endpoint::new(&target.url, &source.access)
                    .map_err(|error| Error::usage(error.to_string()))?;
                reached.endpoints.push(named(endpoint, target));
            }
        }
        Via::Ssh => reached.through_ssh(tool, run, source).await?,
    }
    Ok(reached)
}

fn named(endpoint: Endpoint, target: &Target) -> Endpoint {
    match &target.node {
        Some(node) => endpoint.of_node(&node.name),
        None => endpoint,
    }
}

impl Reached {
    async fn through_ssh(
        &mut self,
        tool: &Health,
        run: &Run,
        source: &Source,
    ) -> anyhow::Result<()> {
        let fleet = Fleet::new(&tool.ssh, run.common.jobs)?;
        let nodes = source.targets.iter().filter_map(|t| t.node.as_ref().map(|node| (t, node)));
        let forward = async |(target, node)| {
            let port = run.document.settings(node).client_port;
            let made = fleet.on(node, async |_, host: Host| {
                let forward = host.forward(port).await?;
                Ok((host, forward))
            });
            (target, node, made.await)
        };
        let forwards = fan_out(fleet.jobs(), nodes.collect(), forward).await;
        for (at, (target, node, made)) in forwards.into_iter().enumerate() {
            match made {
                Ok((host, forward)) => {
                    let socket = forward.socket();
                    let endpoint = Endpoint::over_unix_socket(&target.url, socket, &source.access)?;
                    self.endpoints.push(endpoint.of_node(&node.name));
                    self._forwards.push((host, forward));
                }
                Err(error) => self.failed.push((
                    at,
                    document::Endpoint {
                        endpoint: target.url.clone(),
                        node: Some(node.name.clone()),
                        error: Some(format!("ssh: {error}")),
                        ..document::Endpoint::default()
                    },
                )),
            }
        }
        Ok(())
    }

    /// `look` with the endpoints in it that could not be asked.
    pub(crate) fn complete(self, mut look: Look) -> Look {
        for (at, endpoint) in self.failed {
            look.health.healthy = false;
            look.health.endpoints.insert(at, endpoint);
        }
        look
    }
}
