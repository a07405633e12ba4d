//! What the members that run know of the cluster.

use std::collections::BTreeMap;

use client::{Access, CredentialArgs, Error, Status};
use futures::future::join_all;
use pipeline::Document;
use pipeline::document::{Member, Node};
use remote::Host;

use super::LIMIT;
use super::facts::Facts;
use crate::route::endpoint_from;

/// What the members that run know of the cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct Cluster {
    /// What each says of itself, by the name of the node.
    pub(super) replies: BTreeMap<String, Status>,
    /// The member list of the one that is to be trusted most; empty when none tells it.
    pub(super) members: Vec<Member>,
    /// Why a member that runs does not say who the members are, and what to do, where no other
    /// does either: who asks may not know it.
    pub(super) refusal: Option<String>,
}

impl Cluster {
    /// Asks the members that run on `nodes`, each through its host's SSH
    /// connection, where it listens, and all at once. Those that do
    /// not answer are left out: what they run with is known all the same. An etcd of another unit
    /// than etcd's own is asked only where none of that runs: else it is nobody's member.
    pub(super) async fn ask(
        document: &Document,
        nodes: &[(&Node, &Host, Facts)],
        credentials: &CredentialArgs,
    ) -> Self {
        let Ok(access) = credentials.access(document, Some(LIMIT)) else { return Self::default() };
        let own = nodes.iter().any(|(.., facts)| facts.process().is_some());
        let asked = nodes.iter().map(async |(node, host, facts)| {
            let process = if own { facts.process() } else { facts.to_ask() };
            let mut urls = process?.client_urls();
            if urls.is_empty() {
                urls.push(document.client_url(node));
            }
            let mut last = None;
            for url in urls {
                last = reply(host, &url, &access).await.or(last);
                // One that is silent is so at all of its URLs.
                if let Some((Ok(_) | Err(Error::TimedOut(_)), _)) = last {
                    break;
                }
            }
            Some((node.name.clone(), last?))
        });
        let (mut replies, mut refusal) = (Vec::new(), None);
        for (node, reply) in join_all(asked).await.into_iter().flatten() {
            let (status, members) = reply;
            if let Err(error) = members.as_ref()
                && error.is_lasting()
            {
                refusal = Some(format!("{error}{}", error.advice()));
            }
            if let Ok(status) = status {
                replies.push((node, (status, members.unwrap_or_default())));
            }
        }
        let trusted = replies.iter().max_by_key(|(_, (status, members))| {
            (!members.is_empty(), status.leader.is_some(), status.raft_term, status.raft_index)
        });
        let members = trusted.map(|(_, (_, members))| members.clone()).unwrap_or_default();
        let refusal = refusal.filter(|_| members.is_empty());
        let of_itself = |(node, (status, _))| (node, status);
        Self { replies: replies.into_iter().map(of_itself).collect(), members, refusal }
    }

    pub(super) fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }
}

/// What a member says of itself, and of all.
type Reply = (Result<Status, Error>, Result<Vec<Member>, Error>);

async fn reply(host: &Host, url: &str, access: &Access) -> Option<Reply> {
    let (endpoint, _forward) = endpoint_from(host, url, access).await.ok()?;
    Some(futures::join!(endpoint.status(), endpoint.members()))
}
