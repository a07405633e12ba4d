//! `etcd-cert check`.

use std::time::Duration;

use anyhow::Result;
use pipeline::{Code, Run, ToolResult};
use time::OffsetDateTime;

use crate::authority::Authority;
use crate::folder::{Folder, Pair};
use crate::leaf::{self, Demands, Leaf, State};
use crate::{on, warn_of_exposure};

const REMEDY: &str = "run etcd-cert issue";

/// Reports when each certificate of the document's nodes expires, or of all
/// nodes of the folder without a document; and of the CA and the clients.
pub(crate) fn run(run: &Run, folder: &Folder, within: Duration) -> Result<()> {
    let authority = Authority::load(folder)?;
    let demands = Demands {
        authority: &authority,
        now: OffsetDateTime::now_utc(),
        renew_before: time::Duration::try_from(within).unwrap_or(time::Duration::MAX),
        // Which ones `issue --san` added is not known here.
        more_names: true,
    };
    for (node, leaves) in nodes(run, folder)? {
        report(run, &demands, Some(&node), &leaves);
    }
    run.report(ca_result(&demands, folder));
    report(run, &demands, None, &leaf::clients(folder));
    warn_of_exposure(run, folder);
    Ok(())
}

fn nodes(run: &Run, folder: &Folder) -> Result<Vec<(String, Vec<Leaf>)>> {
    if run.document.nodes.is_empty() {
        let of_name = |name: String| (name.clone(), leaf::of_node(folder, &name, &[]));
        return Ok(folder.nodes()?.into_iter().map(of_name).collect());
    }
    let nodes = run.nodes().into_iter();
    Ok(nodes
        .map(|node| {
            let names = leaf::names(node, &[]);
            (node.name.clone(), leaf::of_node(folder, &node.name, &names))
        })
        .collect())
}

fn report(run: &Run, demands: &Demands, node: Option<&str>, leaves: &[Leaf]) {
    for leaf in leaves {
        run.report(on(result(demands, leaf), node));
    }
}

fn result(demands: &Demands, leaf: &Leaf) -> ToolResult {
    let label = &leaf.label;
    match leaf.state(demands) {
        Ok(State::Good(found)) => valid(label, &found.expiry(demands.now)),
        Ok(State::Bad(why)) => due(format!("{label}: {why}: {REMEDY}")),
        Ok(State::Missing) => missing(label, &leaf.pair),
        Err(error) => ToolResult::error(Code::Failed, format!("{label}: {error:#}")),
    }
}

fn ca_result(demands: &Demands, folder: &Folder) -> ToolResult {
    let Ok(ca) = demands.authority.current() else {
        return missing("CA", &folder.ca());
    };
    if let Some(why) = ca.invalid(demands.now) {
        return due(format!("CA: {why}: replace it"));
    }
    let expiry = ca.expiry(demands.now);
    if ca.not_after - demands.now <= demands.renew_before {
        return due(format!("CA: expires {expiry}: replace it"));
    }
    valid("CA", &expiry)
}

fn missing(label: &str, pair: &Pair) -> ToolResult {
    let message = format!("{label}: {} is missing: {REMEDY}", pair.cert.display());
    ToolResult::error(Code::Missing, message)
}

fn valid(label: &str, expiry: &str) -> ToolResult {
    ToolResult::unchanged(Code::Valid, format!("{label}: valid until {expiry}"))
}

fn due(message: String) -> ToolResult {
    ToolResult::error(Code::Due, message)
}
