//! What the members that run know of the cluster.

use std::collections::BTreeMap;

use client::{Access, CredentialArgs, Endpoint, Status};
use futures::future::join_all;
use pipeline::Document;
use pipeline::document::{Member, Node};
use remote::Host;

use super::LIMIT;
use super::facts::Facts;

/// What the members that run know of the cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct Cluster {
    /// What each says of itself, by the name of the node.
    pub(super) replies: BTreeMap<String, Status>,
    /// The member list of the one that is to be trusted most; empty when none tells it.
    pub(super) members: Vec<Member>,
}

impl Cluster {
    /// Asks the members that run on `nodes`, each through its host's SSH
    /// connection, at the port that it runs with, and all at once. Those that do
    /// not answer are left out: what they run with is known all the same.
    pub(super) async fn ask(
        document: &Document,
        nodes: &[(&Node, &Host, Facts)],
        credentials: &CredentialArgs,
    ) -> Self {
        let Ok(access) = credentials.access(document, Some(LIMIT)) else { return Self::default() };
        let asked = nodes.iter().map(async |(node, host, facts)| {
            let url = facts.process()?.client_url()?;
            Some((node.name.clone(), reply(host, url, &access).await?))
        });
        let replies: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        let trusted = replies.iter().max_by_key(|(_, (status, members))| {
            (!members.is_empty(), status.leader.is_some(), status.raft_term, status.raft_index)
        });
        let members = trusted.map(|(_, (_, members))| members.clone()).unwrap_or_default();
        let of_itself = |(node, (status, _))| (node, status);
        Self { replies: replies.into_iter().map(of_itself).collect(), members }
    }

    pub(super) fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }
}

async fn reply(host: &Host, url: (u16, String), access: &Access) -> Option<(Status, Vec<Member>)> {
    let (port, url) = url;
    let forward = host.forward(port).await.ok()?;
    let endpoint = Endpoint::over_unix_socket(&url, forward.socket(), access).ok()?;
    let (status, members) = futures::join!(endpoint.status(), endpoint.members());
    Some((status.ok()?, members.unwrap_or_default()))
}
