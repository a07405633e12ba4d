//! Whose data a restore on all nodes would move aside, and who would go on serving
//! beside the restored cluster.

use std::collections::{BTreeMap, BTreeSet};

use client::CredentialArgs;
use futures::future::join_all;
use pipeline::document::{Member, Node};
use pipeline::{Code, Document, ToolResult};
use remote::Host;

use super::cluster::Cluster;
use super::compare::{Fit, NodeFit};
use super::facts::Facts;
use super::{LIMIT, Purpose};
use crate::route::endpoint_from;

/// What speaks against putting a new cluster in the place of what is on the nodes.
#[derive(Debug, Default)]
pub struct Replaced {
    /// Nodes whose data is of another cluster, or of another member.
    pub others_data: Vec<ToolResult>,
    /// Nodes whose data is in other folders than the document says.
    pub moved: Vec<ToolResult>,
    /// Members that are on no node of the document, and still answer, or cannot be asked.
    pub serving: Vec<ToolResult>,
    /// Members that are on no node of the document, and cannot be reached: whether they serve
    /// nobody knows.
    pub unreachable: Vec<ToolResult>,
    /// The member list of those that run; empty where none tells it.
    pub members: Vec<Member>,
    /// The newest revision that a member which answered has.
    pub revision: u64,
}

/// A member, and where others find it.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// Its name.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; without one, at the client port of the nodes.
    pub client_urls: Vec<String>,
}

/// Compares what is on `nodes`, all that answered a [`query`](super::query), with one
/// another and with the document, and looks for members that are on none of them: in the
/// member list, in the configuration of the nodes, and among those `recorded` elsewhere.
/// `is_new` says of a node that it has the data of the new cluster already.
pub async fn replaced(
    document: &Document,
    nodes: &[(&Node, &Host, Facts)],
    credentials: &CredentialArgs,
    recorded: Vec<Elsewhere>,
    is_new: impl Fn(&Node) -> bool,
) -> Replaced {
    let cluster = Cluster::ask(document, nodes, credentials).await;
    let facts = nodes.iter().map(|(node, _, facts)| (*node, facts)).collect();
    let purpose = Purpose::Preflight;
    let pushed = &BTreeSet::new();
    let fit = Fit { document, facts, cluster: &cluster, purpose, own_ca: "", pushed };
    let old: Vec<_> = fit.facts.iter().filter(|(node, _)| !is_new(node)).collect();
    let mut ids = BTreeMap::new();
    let mut results = Vec::new();
    let mut moved = Vec::new();
    for (node, facts) in &old {
        let of_node = NodeFit::new(&fit, node, facts);
        if let Some(why) = of_node.elsewhere() {
            moved.push(ToolResult::error(Code::Mismatch, why).on(&node.name));
        }
        let data = facts.folder(&of_node.place).and_then(|folder| folder.identity.as_ref());
        let id = cluster.replies.get(&node.name).map(|status| status.cluster_id.clone());
        if let Some(id) = id.or_else(|| data.map(|data| data.cluster.clone())) {
            ids.insert(node.name.as_str(), id);
        }
        if of_node.has_log() {
            let why = of_node.as_configured();
            results.extend(why.map(|why| ToolResult::error(Code::Mismatch, why).on(&node.name)));
        }
    }
    let count = |id: &String| ids.values().filter(|other| *other == id).count();
    if let Some((most, usual)) = ids.iter().max_by_key(|(_, id)| count(id)) {
        for (node, id) in ids.iter().filter(|(_, id)| *id != usual) {
            let why = format!(
                "its data is of cluster {id}, that of {most} is of cluster {usual}: take the \
                 wrong one out of the document"
            );
            results.push(ToolResult::error(Code::Mismatch, why).on(node));
        }
    }
    let known: BTreeSet<_> = ids.into_values().collect();
    // Where no data is given up, whoever serves goes on as before.
    let elsewhere = if known.is_empty() { Vec::new() } else { elsewhere(&fit, recorded) };
    let asked = elsewhere.iter().map(|member| ask(document, nodes, credentials, member, &known));
    let (mut serving, mut unreachable) = (Vec::new(), Vec::new());
    for (reached, why) in join_all(asked).await.into_iter().flatten() {
        if reached { &mut serving } else { &mut unreachable }.push(why);
    }
    let revision = cluster.replies.values().map(|status| status.revision).max();
    let revision = revision.unwrap_or_default();
    let members = cluster.members.clone();
    Replaced { others_data: results, moved, serving, unreachable, members, revision }
}

/// The members that the cluster, the configuration of a node, or who `recorded` them knows,
/// and the document does not.
fn elsewhere(fit: &Fit, recorded: Vec<Elsewhere>) -> Vec<Elsewhere> {
    let document = fit.document;
    let mut members = BTreeMap::new();
    for (node, facts) in &fit.facts {
        let told = facts.configured(document, node);
        let list = told.get("ETCD_INITIAL_CLUSTER").map_or("", String::as_str);
        for (name, peer) in list.split(',').filter_map(|entry| entry.split_once('=')) {
            members.insert(name.to_owned(), (vec![peer.to_owned()], Vec::new()));
        }
    }
    for Elsewhere { name, peer_urls, client_urls } in recorded {
        members.insert(name, (peer_urls, client_urls));
    }
    for member in &fit.cluster.members {
        members.insert(member.name.clone(), (member.peer_urls.clone(), member.client_urls.clone()));
    }
    let is_node = |name: &String, urls: &[String]| {
        let mut nodes = document.nodes.iter();
        nodes.any(|node| node.name == *name || urls.contains(&document.peer_url(node)))
    };
    members.retain(|name, (peer_urls, _)| !is_node(name, peer_urls));
    let member = |(name, (peer_urls, client_urls))| Elsewhere { name, peer_urls, client_urls };
    members.into_iter().map(member).collect()
}

/// Asks a member, from the first host, whether it serves one of the clusters `known`; gives
/// whether it was reached, and why a new cluster may not take its place.
async fn ask(
    document: &Document,
    nodes: &[(&Node, &Host, Facts)],
    credentials: &CredentialArgs,
    member: &Elsewhere,
    known: &BTreeSet<String>,
) -> Option<(bool, ToolResult)> {
    let Elsewhere { name, peer_urls, client_urls } = member;
    let (node, host, _) = nodes.first()?;
    let (scheme, address, _) = etcd::url::parts(client_urls.first().or(peer_urls.first())?)?;
    let port = match client_urls.first() {
        Some(url) => etcd::url::parts(url)?.2.to_owned(),
        None => document.settings(node).client_port.to_string(),
    };
    let client_url = format!("{scheme}://{address}:{port}");
    let status = async {
        let access = credentials.access(document, Some(LIMIT))?;
        let (endpoint, _forward) = endpoint_from(host, &client_url, &access).await?;
        anyhow::Ok(endpoint.status().await)
    };
    let (reached, why) = match status.await {
        Ok(Ok(status)) if known.contains(&status.cluster_id) => {
            (true, "still serves this cluster".to_owned())
        }
        Ok(Ok(_)) => return None,
        Ok(Err(error)) if error.is_unreachable() => (false, "cannot be reached".to_owned()),
        Ok(Err(error)) => (true, format!("still answers ({error})")),
        Err(error) => (true, format!("nobody can tell whether it still serves ({error:#})")),
    };
    let (would, stop) = if reached { ("would", "stop it, or ") } else { ("may", "") };
    let why = format!(
        "member {name} at {client_url} is not a node in the document and {why}: it {would} go on \
         beside the restored cluster: {stop}add it to the document"
    );
    Some((reached, ToolResult::error(Code::UnknownMember, why)))
}
