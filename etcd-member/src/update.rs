//! `update`: a member has another peer URL.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use client::Access;
use cluster::fit::{self, Facts};
use cluster::guard::{Standing, View};
use cluster::members::{Accepted, Policy};
use cluster::route::endpoint_from;
use pipeline::document::{Member, Node};
use pipeline::terminal::Progress;
use pipeline::{Code, Run, ToolResult};
use remote::Fleet;

use crate::UpdateArgs;
use crate::add::{is_member, left_out_of_list};
use crate::change::{Change, Look};

/// How long a member is given to answer where it was before.
const LIMIT: Duration = Duration::from_secs(5);

/// The `update` command.
pub(crate) async fn update(tool: &crate::Member, run: &Run, args: &UpdateArgs) -> Result<()> {
    let fleet = Fleet::new(&tool.ssh, run.common.jobs)?;
    let _progress = Progress::wait("looking at the members");
    let Some(change) = Change::begin(tool, run, &fleet, args.change, Look::Everywhere).await?
    else {
        return Ok(());
    };
    let access = tool.credentials.access(&run.document, Some(LIMIT))?;
    let accepted = Accepted { quorum: args.lose_quorum, margin: true };
    let policy = Policy::new(accepted, args.change.timeout);
    match change.view(policy).await {
        Ok(view) => update_one(&change, policy, &view, &access).await,
        Err(why) => change.refuse(None, "nothing updated", &why),
    }
    change.lease.release().await;
    Ok(())
}

/// Updates the first node to work on whose peer URL the cluster does not know.
async fn update_one(change: &Change<'_>, policy: Policy, view: &View, access: &Access) {
    let (run, document, members) = (change.run, &change.run.document, &view.members);
    let moved = |node: &&Node| -> Option<(&Member, String)> {
        let url = document.peer_url(node);
        let member = members.iter().find(|member| member.name == node.name)?;
        (!member.peer_urls.contains(&url)).then_some((member, url))
    };
    let nodes = run.nodes();
    let mut moved = nodes.iter().filter_map(|node| Some((*node, moved(node)?)));
    let Some((node, (member, url))) = moved.next() else {
        report_nothing(run, &nodes, members);
        // An update that was followed by nothing.
        if let Some(why) = unsettled(change, members, &Member::default()) {
            let why = format!("{why}, or have the list as it was, and update it again");
            run.report(ToolResult::warning(Code::Mismatch, why));
        }
        return;
    };
    let what = format!("peer URL {} → {url}", member.peer_urls.join(","));
    let refuse = |(code, why): (Code, String)| {
        let message = format!("{what} not updated: {why}");
        run.report(ToolResult::error(code, message).on(&node.name));
    };
    if let Some(other) = members.iter().find(|member| member.peer_urls.contains(&url)) {
        refuse((Code::Mismatch, format!("it is that of member {}", other.name)));
        return;
    }
    // By name: to have another address than in the list is what this is for.
    let named = |member: &&Member| document.nodes.iter().any(|node| node.name == member.name);
    let unnamed: Vec<_> = members.iter().filter(|member| !named(member)).cloned().collect();
    if let Some(left_out) = left_out_of_list(document, &unnamed).into_iter().next() {
        refuse((Code::UnknownMember, left_out.message));
        return;
    }
    if let Err(why) = is_there(change, view, node, member) {
        refuse(why);
        return;
    }
    if let Some(elsewhere) = serves_elsewhere(change, access, node, member).await {
        let why = format!(
            "member {} serves at {elsewhere}: what is on {} is a copy: stop it there, and move its \
             data, or change the document back",
            member.id, node.address
        );
        refuse((Code::Mismatch, why));
        return;
    }
    let listens = change.facts.get(&node.name).and_then(|facts| facts.listens_at(&url));
    // Where it listens already, the others find it again: nothing speaks against that.
    let restores = listens == Some(true);
    if !restores && member.peer_urls.iter().any(|url| url.starts_with("http://")) {
        let why = format!(
            "{}: it would not be found there: leave it to what it was deployed with, or have it \
             listen there first",
            fit::PLAIN_PEERS
        );
        refuse((Code::Mismatch, why));
        return;
    }
    if !restores && change.facts.get(&node.name).is_some_and(Facts::is_strange) {
        let why = "it would not be found there: others deployed it, and it does not listen there: \
                   have it listen there first, or set the peerPort and address that it has";
        refuse((Code::Mismatch, why.into()));
        return;
    }
    if !restores && let Some(why) = unresolved(change, node).await {
        refuse((Code::Mismatch, why));
        return;
    }
    if let Some((next, _)) = moved.next().filter(|_| !restores) {
        let why = format!(
            "{} has another address, too: one member at a time: pass --only {name} here, to \
             etcd-push and to etcd-unit",
            next.name,
            name = node.name
        );
        refuse((Code::Mismatch, why));
        return;
    }
    if let Some(why) = unsettled(change, members, member).filter(|_| !restores) {
        refuse((Code::Mismatch, why));
        return;
    }
    // What follows would stop half-way, and the cluster would look for it where it is not.
    if !restores && let Some(why) = unfit(change, node).await {
        refuse((Code::Mismatch, why));
        return;
    }
    // Until it is restarted, the others do not find it at its new address.
    let may_go = |view: &View| if restores { Ok(()) } else { view.member_may_go(&member.id) };
    let done = match run.check() {
        true => change.cluster.view_when(policy, may_go).await.map(drop),
        false => change.cluster.update(policy, &member.id, &url, may_go).await,
    };
    match done {
        Ok(()) if run.check() => {
            run.report(ToolResult::would_change(format!("would update {what}")).on(&node.name));
        }
        Ok(()) => {
            let message = format!("updated {what}");
            run.report(ToolResult::changed(Code::Updated, message).on(&node.name));
        }
        Err(why) => change.refuse(Some(node), &format!("{what} not updated"), &why),
    }
}

/// What would end the pipeline after the member of `node` has its peer URL.
async fn unfit(change: &Change<'_>, node: &Node) -> Option<String> {
    if let Some(why) = etcd_render::refusal(&change.run.document, node) {
        return Some(format!("etcd-render would not go on after it: {why}"));
    }
    let facts = change.facts.get(&node.name);
    if let Some(why) = facts.and_then(|facts| fit::port(&change.run.document, node, facts)) {
        return Some(why);
    }
    let why = change.mismatches(|_| true, Some(&node.name)).await.into_iter().next()?;
    let node = why.node.unwrap_or_default();
    Some(format!("etcd-push would not go on after it: {node}: {}", why.message))
}

/// Which host of another member does not find `node` by the name that is its address. ssh may, by
/// its configuration.
async fn unresolved(change: &Change<'_>, node: &Node) -> Option<String> {
    const RESOLVE: &str = "# Says to which addresses the name leads from here.
getent ahosts \"$1\" | while read -r address _; do echo \"$address\"; done";
    if node.ip().is_some() {
        return None;
    }
    let facts = change.facts.get(&node.name);
    let held = change.lease.selected.iter().chain(&change.lease.others);
    for other in held.filter(|held| held.node.name != node.name) {
        let Ok(lines) = other.host.run(RESOLVE, &[&node.address], &[]).await else { continue };
        let leads: Vec<IpAddr> = lines.iter().filter_map(|line| line.parse().ok()).collect();
        let is_its = |ip: &IpAddr| facts.and_then(|f| f.has_address(*ip)) != Some(false);
        let what = match leads.first() {
            None => format!("does not know the name {}", node.address),
            Some(_) if leads.iter().any(|ip| !ip.is_loopback() && is_its(ip)) => continue,
            Some(ip) => {
                format!("takes {} for {ip}, which is no address of that host", node.address)
            }
        };
        return Some(format!(
            "{} {what}, and would not find it there: use an address, or a name that leads there on \
             all nodes",
            other.node.name
        ));
    }
    None
}

/// Reports that no node has another address than its member, and the nodes and the members of
/// which there is nothing to compare.
fn report_nothing(run: &Run, nodes: &[&Node], members: &[Member]) {
    let document = &run.document;
    let strange = |node: &&&Node| !members.iter().any(|member| is_member(document, node, member));
    for node in nodes.iter().filter(strange) {
        let url = document.peer_url(node);
        let message = format!("there is no member of this name at {url}: nothing to update");
        run.report(ToolResult::warning(Code::Mismatch, message).on(&node.name));
    }
    for why in fit::extra_members(document, members) {
        run.report(ToolResult::warning(Code::UnknownMember, why));
    }
    let message = "the cluster knows the address of every node that is a member: nothing to update";
    run.report(ToolResult::unchanged(Code::UpToDate, message));
}

/// Where `member` answers its clients, as seen from the host of `node`, if no etcd runs there.
async fn serves_elsewhere(
    change: &Change<'_>,
    access: &Access,
    node: &Node,
    member: &Member,
) -> Option<String> {
    if change.facts.get(&node.name).is_none_or(Facts::runs_etcd) {
        return None;
    }
    let mut held = change.lease.selected.iter().chain(&change.lease.others);
    let host = &held.find(|held| held.node.name == node.name)?.host;
    let url = member.client_urls.first()?;
    let (endpoint, _forward) = endpoint_from(host, url, access).await.ok()?;
    let status = endpoint.status().await.ok()?;
    (status.member_id == member.id).then(|| url.clone())
}

/// Whether `member` is on the host of `node`: its data lies there, or it answers there.
fn is_there(
    change: &Change<'_>,
    view: &View,
    node: &Node,
    member: &Member,
) -> Result<(), (Code, String)> {
    let (id, address) = (&member.id, &node.address);
    let voter = view.of_node(&node.name);
    if voter.is_some_and(|voter| voter.id == *id && voter.standing == Standing::Up) {
        return Ok(());
    }
    if let Some(error) = change.unknown(node) {
        return Err((error.code(), format!("whether it is there is not known: {error}")));
    }
    let document = &change.run.document;
    // Others keep it where only their unit says.
    if change.facts.get(&node.name).is_some_and(|facts| facts.has_data_of(id)) {
        return Ok(());
    }
    let data = |node: &Node| change.facts.get(&node.name)?.member(document, node);
    let found = match data(node) {
        Some(there) if there == id => return Ok(()),
        Some(other) => format!("is of member {other}"),
        None => "has no write-ahead log".to_owned(),
    };
    let elsewhere = document.nodes.iter().find(|other| data(other) == Some(id));
    let elsewhere = elsewhere.map(|other| format!(", and is on the host of {}", other.name));
    Err((
        Code::Mismatch,
        format!(
            "member {id} is not there: {} on {address} {found}{}: change the document back, move \
             its data there, or replace the member: `scripts/replace-member NODES {}`",
            document.settings(node).data_dir,
            elsewhere.unwrap_or_default(),
            node.name
        ),
    ))
}

/// Why another member than `member` is not yet where the cluster looks for it: until it is,
/// its connections to the others are those of before, and the next restart ends them.
fn unsettled(change: &Change<'_>, members: &[Member], member: &Member) -> Option<String> {
    let document = &change.run.document;
    members.iter().filter(|other| other.id != member.id).find_map(|other| {
        let node = document.nodes.iter().find(|node| node.name == other.name)?;
        let facts = change.facts.get(&node.name)?;
        let is_its = facts.has_data_of(&other.id);
        // One of several is enough to find it.
        let astray = |url: &String| is_its && facts.listens_at(url) == Some(false);
        let url = other.peer_urls.first().filter(|_| other.peer_urls.iter().all(astray))?;
        Some(format!(
            "{name} does not listen at {url} yet, where the cluster looks for it: bring it there \
             first: `etcd-render | etcd-push --only {name} | etcd-unit start --only {name}`",
            name = node.name
        ))
    })
}
