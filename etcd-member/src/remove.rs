//! `remove` and `replace`: members leave the cluster.

use anyhow::Result;
use cluster::fit::{self, Facts};
use cluster::guard::{Standing, Voter};
use pipeline::document::{Member, Node};
use pipeline::terminal::Progress;
use pipeline::{Code, Document, Error, Run, ToolResult};
use remote::Fleet;

use crate::RemoveArgs;
use crate::add::{is_known, obstacles, obstacles_of_all, report, set_aside};
use crate::change::{Change, Look};

/// The `remove` command.
pub(crate) async fn remove(tool: &crate::Member, run: &mut Run, args: &RemoveArgs) -> Result<()> {
    let fleet = Fleet::new(&tool.ssh, run.common.jobs)?;
    let gone = {
        let _progress = Progress::wait(format!("removing {}", args.member));
        let Some(change) = Change::begin(tool, run, &fleet, args.change, Look::AtFolders).await?
        else {
            return Ok(());
        };
        let gone = remove_member(&change, args).await;
        change.lease.release().await;
        gone?
    };
    run.document.nodes.retain(|node| Some(&node.name) != gone.as_ref());
    Ok(())
}

/// Gives the name of the node that is to leave the document.
async fn remove_member(change: &Change<'_>, args: &RemoveArgs) -> Result<Option<String>> {
    let document = &change.run.document;
    let named = document.nodes.iter().find(|node| node.name == args.member);
    let view = match change.view(args.risks.policy(args.change)).await {
        Ok(view) => view,
        Err(why) => {
            change.refuse(named, "not removed", &why);
            return Ok(None);
        }
    };
    let member = find(document, &view.members, &args.member)?;
    let node = member.map_or(named, |member| document.node_of(member));
    // An ID, or a URL, tells who is meant, whatever the document calls it.
    let is_by_name = member.is_none_or(|member| member.name == args.member);
    let concerned = [named, node].map(|node| node.map(|node| &node.name));
    let mut misplaced = fit::misplaced(document, &view.members).into_iter();
    let misplaced = misplaced.find(|why| concerned.contains(&why.node.as_ref()));
    if let Some(why) = misplaced.as_ref().filter(|_| is_by_name) {
        let advice = match member {
            Some(member) => format!("; to remove it all the same, pass its ID, {}", member.id),
            None => String::new(),
        };
        let message = format!("not removed: {}{advice}", why.message);
        change.run.report(ToolResult { message, ..why.clone() });
        return Ok(None);
    }
    let Some(member) = member else {
        // An interrupted run has removed it.
        let Some(node) = named else { return Err(unknown(&args.member)) };
        let message = "not a member of the cluster: nothing to remove";
        change.run.report(ToolResult::unchanged(Code::UpToDate, message).on(&node.name));
        return Ok(Some(node.name.clone()));
    };
    let node = node.filter(|_| misplaced.is_none());
    let left = leave(change, args, member, node).await;
    Ok(node.filter(|_| left).map(|node| node.name.clone()))
}

/// The `replace` command.
pub(crate) async fn replace(tool: &crate::Member, run: &Run, args: &RemoveArgs) -> Result<()> {
    let fleet = Fleet::new(&tool.ssh, run.common.jobs)?;
    let _progress = Progress::wait(format!("removing {}", args.member));
    let Some(change) = Change::begin(tool, run, &fleet, args.change, Look::Everywhere).await?
    else {
        return Ok(());
    };
    let done = replace_member(&change, args).await;
    change.lease.release().await;
    done
}

async fn replace_member(change: &Change<'_>, args: &RemoveArgs) -> Result<()> {
    let (run, document) = (change.run, &change.run.document);
    let view = match change.view(args.risks.policy(args.change)).await {
        Ok(view) => view,
        Err(why) => {
            change.refuse(None, "nothing replaced", &why);
            return Ok(());
        }
    };
    let nothing = |why: &str| {
        let message = format!("{}: nothing to replace: {why}", args.member);
        run.report(ToolResult::unchanged(Code::UpToDate, message));
    };
    let misplaced = |node: &Node| {
        let mut all = fit::misplaced(document, &view.members).into_iter();
        all.find(|why| why.node.as_ref() == Some(&node.name))
    };
    let Some(member) = find(document, &view.members, &args.member)? else {
        let named = document.nodes.iter().find(|node| node.name == args.member);
        match named.and_then(misplaced) {
            Some(why) => report(run, "nothing replaced", why),
            None => nothing("not a member of the cluster"),
        }
        return Ok(());
    };
    let is_there = |node: &&Node| member.peer_urls.contains(&document.peer_url(node));
    let node = document.nodes.iter().filter(is_there).find(|node| node.name == member.name);
    // Who has its data keeps it. What lies about on another host may be a copy.
    let has_it = |there: &&Node| {
        change.facts.get(&there.name).is_some_and(|facts| {
            let is_its = there.name == member.name || is_there(there);
            facts.has_data_of(&member.id) && (is_its || facts.stray_log_of(&member.id).is_none())
        })
    };
    let there = document.nodes.iter().find(has_it);
    let serves = || {
        let is_it = |voter: &Voter| voter.id == member.id && voter.standing == Standing::Up;
        view.voters.iter().any(is_it)
    };
    let renamed = document.nodes.iter().find(is_there).filter(|_| serves());
    if let Some(why) = renamed.and_then(misplaced) {
        report(run, "nothing replaced", why);
        return Ok(());
    }
    match (node, there) {
        (Some(node), Some(there)) if node.name == there.name => {
            match change.facts.get(&node.name).and_then(|facts| facts.stray_log_of(&member.id)) {
                Some(log) if !serves() => {
                    let why = format!(
                        "nothing replaced: its write-ahead log is in {log}: start its etcd, or to \
                         give it up, remove that folder or rename it to {log}.old"
                    );
                    run.report(ToolResult::error(Code::Mismatch, why).on(&node.name));
                }
                None if !serves() => {
                    let folders = change.facts.get(&node.name);
                    let folders = folders.map(|facts| facts.data_folders_of(&member.id));
                    nothing(&format!(
                        "its data is in place: where its etcd cannot start with it, {} on the node, \
                         and run this again",
                        set_aside(&folders.unwrap_or_default())
                    ));
                }
                _ => nothing("its data is in place"),
            }
            return Ok(());
        }
        (Some(node), _)
            if change.facts.get(&node.name).is_some_and(Facts::runs_etcd) && serves() =>
        {
            nothing("it serves there");
            return Ok(());
        }
        (_, Some(there)) if there.name == member.name => {
            let why = "nothing replaced: its data is on this host, which the cluster knows at \
                       another address: have it updated: `etcd-member update`";
            run.report(ToolResult::error(Code::Mismatch, why).on(&there.name));
            return Ok(());
        }
        (_, Some(there)) => {
            let why = format!(
                "nothing replaced: the data of {} is on this host, where the document has another \
                 member: change the document back",
                member.label()
            );
            run.report(ToolResult::error(Code::Mismatch, why).on(&there.name));
            return Ok(());
        }
        _ => {}
    }
    // Not before those can be added that are to take its place.
    let others: Vec<_> = view.members.iter().filter(|m| m.id != member.id).cloned().collect();
    let joining = document.nodes.iter().filter(|node| !is_known(document, node, &others));
    let joining: Vec<_> = joining.collect();
    let mut obstacles: Vec<_> =
        joining.iter().flat_map(|node| obstacles(change, node, &view.members)).collect();
    obstacles.extend(obstacles_of_all(change, &view, &others).await);
    if !obstacles.is_empty() {
        obstacles.into_iter().for_each(|why| report(run, "nothing replaced", why));
        return Ok(());
    }
    if joining.is_empty() {
        let why = format!(
            "nothing replaced: no node of the document would take its place: to have it leave for \
             good: `etcd-member remove {}`",
            member.label()
        );
        run.report(ToolResult::error(Code::Mismatch, why));
        return Ok(());
    }
    let policy = args.risks.policy(args.change);
    if let Err(why) = policy.judge(view.may_add_without(&member.id)) {
        change.refuse(node, "nothing replaced, as it could not be added again", &why);
        return Ok(());
    }
    leave(change, args, member, node).await;
    Ok(())
}

/// Removes `member` from the cluster; whether that was done, or with `--check` would be.
async fn leave(
    change: &Change<'_>,
    args: &RemoveArgs,
    member: &Member,
    node: Option<&Node>,
) -> bool {
    let (run, policy) = (change.run, args.risks.policy(args.change));
    let report = |result: ToolResult| run.report(result.of(node.map(|node| &node.name)));
    let urls = member.peer_urls.join(",");
    let what = format!("member {} ({urls})", member.label());
    if run.check() {
        let allowed = change.cluster.view_when(policy, |view| view.may_remove(&member.id)).await;
        match &allowed {
            Ok(_) => report(ToolResult::would_change(format!("would remove {what}"))),
            Err(why) => change.refuse(node, &format!("{what} not removed"), why),
        }
        return allowed.is_ok();
    }
    match change.cluster.remove(policy, &member.id).await {
        Ok(moved) => {
            moved.into_iter().for_each(|moved| run.report(moved));
            report(ToolResult::changed(Code::Removed, format!("removed {what}")));
            true
        }
        Err(why) => {
            change.refuse(node, &format!("{what} not removed"), &why);
            false
        }
    }
}

/// The member that `word` names: its ID, exact name or exact peer URL. One that has not started
/// yet has no name: it is known by the peer URL of the node of that name.
fn find<'a>(
    document: &Document,
    members: &'a [Member],
    word: &str,
) -> Result<Option<&'a Member>, Error> {
    let node = document.nodes.iter().find(|node| node.name == word);
    let url = node.map(|node| document.peer_url(node));
    let is_meant = |member: &&Member| {
        let unstarted = url.as_ref().filter(|_| member.name.is_empty());
        let mut urls = member.peer_urls.iter();
        member.id == word
            || member.name == word
            || urls.any(|its| its == word || Some(its) == unstarted)
    };
    let found: Vec<_> = members.iter().filter(is_meant).collect();
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        [..] => {
            // One may be called as the other's ID is.
            let urls = found.iter().flat_map(|member| member.peer_urls.first());
            let urls: Vec<_> = urls.map(String::as_str).collect();
            let message = format!(
                "{word}: this is more than one member: pass one of their peer URLs: {}",
                urls.join(", ")
            );
            Err(Error::usage(message))
        }
    }
}

fn unknown(word: &str) -> anyhow::Error {
    let message = format!("{word}: no member has this ID, name or peer URL: see etcd-member list");
    Error::usage(message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_named_exactly() {
        let member = |id: &str, name: &str, url: &str| Member {
            id: id.into(),
            name: name.into(),
            peer_urls: vec![url.into()],
            ..Member::default()
        };
        let members = [
            member("a1", "etcd-1", "https://10.0.0.1:2380"),
            member("a11", "etcd-11", "https://10.0.0.11:2380"),
            member("b", "twice", "https://10.0.0.3:2380"),
            member("c", "twice", "https://10.0.0.4:2380"),
        ];
        let document = Document::of_nodes(Vec::new());
        let found =
            |word: &str| find(&document, &members, word).map(|found| found.map(|m| m.id.as_str()));
        for (word, id) in [
            ("a1", Some("a1")),
            ("etcd-11", Some("a11")),
            ("https://10.0.0.1:2380", Some("a1")),
            ("etcd", None),
            ("10.0.0.1", None),
            ("A1", None),
        ] {
            assert_eq!(found(word).unwrap(), id, "{word}");
        }
        assert_eq!(
            found("twice").unwrap_err().to_string(),
            "twice: this is more than one member: pass one of their peer URLs: \
             https://10.0.0.3:2380, https://10.0.0.4:2380"
        );
    }
}
