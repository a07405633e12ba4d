//! `update`: a member has another peer URL.

use anyhow::Result;
use cluster::guard::View;
use cluster::members::{Accepted, Policy};
use pipeline::document::{Member, Node};
use pipeline::terminal::Progress;
use pipeline::{Code, Run, ToolResult};
use remote::Fleet;

use crate::UpdateArgs;
use crate::change::Change;

/// The `update` command.
pub(crate) async fn update(tool: &crate::Member, run: &Run, args: &UpdateArgs) -> Result<()> {
    let fleet = Fleet::new(&tool.ssh, run.common.jobs)?;
    let _progress = Progress::wait("looking at the members");
    let Some(change) = Change::begin(tool, run, &fleet, args.change).await? else { return Ok(()) };
    let accepted = Accepted { quorum: args.lose_quorum, margin: true };
    let policy = Policy { accepted, limit: args.change.timeout };
    match change.view(policy).await {
        Ok(view) => update_one(&change, policy, &view.members).await,
        Err(why) => change.refuse(None, "nothing updated", &why),
    }
    change.lease.release().await;
    Ok(())
}

/// Updates the first node to work on whose peer URL the cluster does not know.
async fn update_one(change: &Change<'_>, policy: Policy, members: &[Member]) {
    let (run, document) = (change.run, &change.run.document);
    let moved = |node: &&Node| -> Option<(&Member, String)> {
        let url = document.peer_url(node);
        let member = members.iter().find(|member| member.name == node.name)?;
        (!member.peer_urls.contains(&url)).then_some((member, url))
    };
    let nodes = run.nodes();
    let mut moved = nodes.iter().filter_map(|node| Some((*node, moved(node)?)));
    let Some((node, (member, url))) = moved.next() else {
        let message = "the cluster knows the address of every node: nothing to update";
        run.report(ToolResult::unchanged(Code::UpToDate, message));
        return;
    };
    let what = format!("peer URL {} → {url}", member.peer_urls.join(","));
    let refuse = |code, why: String| {
        let message = format!("{what} not updated: {why}");
        run.report(ToolResult::error(code, message).on(&node.name));
    };
    if let Some(other) = members.iter().find(|member| member.peer_urls.contains(&url)) {
        refuse(Code::Mismatch, format!("it is that of member {}", other.name));
        return;
    }
    if let Some((next, _)) = moved.next() {
        refuse(
            Code::Mismatch,
            format!(
                "{} has another address, too: one member at a time: pass --only {}",
                next.name, node.name
            ),
        );
        return;
    }
    // Until it is restarted, the others do not find it at its new address.
    let may_go = |view: &View| view.may_go(&[&node.name]);
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
