//! Whose data a restore on all nodes would move aside, and who would go on serving
//! beside the restored cluster.

use std::collections::{BTreeMap, BTreeSet};

use client::{CredentialArgs, Endpoint};
use futures::future::join_all;
use pipeline::document::Node;
use pipeline::{Code, Document, ToolResult};
use remote::Host;

use super::cluster::Cluster;
use super::compare::{Fit, NodeFit};
use super::facts::Facts;
use super::{LIMIT, Purpose};

/// What speaks against putting a new cluster in the place of what is on the nodes.
#[derive(Debug, Default)]
pub struct Replaced {
    /// Nodes whose data is of another cluster, or of another member.
    pub others_data: Vec<ToolResult>,
    /// Members that are on no node of the document, and still answer.
    pub serving: Vec<ToolResult>,
}

/// A member that may be on no node of the document, and where clients find it.
struct Elsewhere {
    name: String,
    url: String,
}

/// Compares what is on `nodes`, all that answered a [`query`](super::query), with one
/// another and with the document, and looks for members that are on none of them: in the
/// member list, and in the configuration of the nodes. `is_new` says of a node that it
/// has the data of the new cluster already.
pub async fn replaced(
    document: &Document,
    nodes: &[(&Node, &Host, Facts)],
    credentials: &CredentialArgs,
    is_new: impl Fn(&Node) -> bool,
) -> Replaced {
    let cluster = Cluster::ask(document, nodes, credentials).await;
    let facts = nodes.iter().map(|(node, _, facts)| (*node, facts)).collect();
    let fit = Fit { document, facts, cluster: &cluster, purpose: Purpose::Preflight, own_ca: "" };
    let old: Vec<_> = fit.facts.iter().filter(|(node, _)| !is_new(node)).collect();
    let mut ids = BTreeMap::new();
    let mut results = Vec::new();
    for (node, facts) in &old {
        let of_node = NodeFit::new(&fit, node, facts);
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
    let elsewhere = elsewhere(document, &fit);
    let asked = elsewhere.iter().map(|member| ask(document, nodes, credentials, member, &known));
    let serving = join_all(asked).await.into_iter().flatten().collect();
    Replaced { others_data: results, serving }
}

/// The members that the cluster, or the configuration of a node, knows, and the document
/// does not.
fn elsewhere(document: &Document, fit: &Fit) -> Vec<Elsewhere> {
    let mut members = BTreeMap::new();
    let is_node = |name: &str, urls: &[String]| {
        document
            .nodes
            .iter()
            .any(|node| node.name == name || urls.contains(&document.peer_url(node)))
    };
    for (node, facts) in &fit.facts {
        let told = facts.configured(document, node);
        let list = told.get("ETCD_INITIAL_CLUSTER").map_or("", String::as_str);
        for (name, peer) in list.split(',').filter_map(|entry| entry.split_once('=')) {
            let client = document.client_url(node);
            let port = client.rsplit_once(':').map_or("", |(_, port)| port);
            if let Some((host, _)) =
                peer.rsplit_once(':').filter(|_| !is_node(name, &[peer.into()]))
            {
                members.insert(name.to_owned(), format!("{host}:{port}"));
            }
        }
    }
    for member in &fit.cluster.members {
        if let Some(url) =
            member.client_urls.first().filter(|_| !is_node(&member.name, &member.peer_urls))
        {
            members.insert(member.name.clone(), url.clone());
        }
    }
    members.into_iter().map(|(name, url)| Elsewhere { name, url }).collect()
}

/// Asks a member, from the first host, whether it serves one of the clusters `known`.
async fn ask(
    document: &Document,
    nodes: &[(&Node, &Host, Facts)],
    credentials: &CredentialArgs,
    member: &Elsewhere,
    known: &BTreeSet<String>,
) -> Option<ToolResult> {
    let Elsewhere { name, url } = member;
    let access = credentials.access(document, Some(LIMIT)).ok()?;
    let (_, address, port) = etcd::url::parts(url)?;
    let (_, host, _) = nodes.first()?;
    let forward =
        host.forward_to(address.trim_matches(['[', ']']), port.parse().ok()?).await.ok()?;
    let endpoint = Endpoint::over_unix_socket(url, forward.socket(), &access).ok()?;
    let why = match endpoint.status().await {
        Ok(status) if known.contains(&status.cluster_id) => "still serves this cluster".to_owned(),
        Ok(_) => return None,
        Err(error) if error.is_unreachable() => return None,
        Err(error) => format!("still answers ({error})"),
    };
    Some(ToolResult::error(
        Code::UnknownMember,
        format!(
            "member {name} at {url} is not a node in the document and {why}: it would go on \
             beside the restored cluster: stop it, or add it to the document"
        ),
    ))
}
