//! `etcd-cert check`.

use anyhow::Result;
use pipeline::{Code, Run, ToolResult, parse_duration, terminal};
use time::OffsetDateTime;

use crate::authority::Authority;
use crate::certificate::rfc3339;
use crate::folder::{Folder, Pair};
use crate::leaf::{self, Demands, Leaf, State};
use crate::{Check, Format, RENEW_BEFORE, VALIDITY, warn_of_exposure};

const REMEDY: &str = "run etcd-cert issue";

/// Where the way from one CA to another is described.
pub(crate) const REPLACE: &str = "replace it: see etcd-cert ca --help";

/// One certificate, and what is to be said of it.
struct Found {
    node: Option<String>,
    label: String,
    not_after: Option<OffsetDateTime>,
    result: ToolResult,
}

/// Reports when each certificate of the document's nodes expires, or of all
/// nodes of the folder without a document; and of the CA and the clients.
pub(crate) fn run(run: &Run, folder: &Folder, args: &Check) -> Result<()> {
    let authority = Authority::load(folder)?;
    let lost = authority.lost(folder)?;
    let lost = lost.as_deref();
    let demands = Demands {
        authority: &authority,
        now: OffsetDateTime::now_utc(),
        renew_before: time::Duration::try_from(args.within).unwrap_or(time::Duration::MAX),
        // Which ones `issue --san` added is not known here.
        more_names: true,
    };
    let mut found = Vec::new();
    for (node, leaves) in nodes(run, folder)? {
        found.extend(leaves.iter().map(|leaf| of_leaf(&demands, lost, leaf, Some(&node))));
    }
    found.push(of_ca(&demands, lost, folder));
    found.extend(leaf::clients(folder)?.iter().map(|leaf| of_leaf(&demands, lost, leaf, None)));
    for Found { node, not_after, result, .. } in &found {
        let not_after = not_after.map(rfc3339);
        let result = ToolResult { not_after, ..result.clone() };
        run.report(result.of(node.as_deref()));
    }
    warn_of_exposure(run, folder);
    authority.warn_of_lost_key(run);
    match args.format() {
        Format::Table => terminal::print(&table(&found, demands.now))?,
        Format::Prometheus => terminal::print(&metrics(&found))?,
        Format::Json => {}
    }
    Ok(())
}

const HEADER: [&str; 5] = ["NODE", "CERTIFICATE", "EXPIRES", "DAYS LEFT", "STATE"];

fn table(found: &[Found], now: OffsetDateTime) -> String {
    let row = |found: &Found| {
        let known = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        [
            known(found.node.clone()),
            found.label.clone(),
            known(found.not_after.map(rfc3339)),
            known(found.not_after.map(|time| (time - now).whole_days().to_string())),
            if found.result.code == Code::Valid.name() {
                "valid".into()
            } else {
                found.result.code.to_uppercase()
            },
        ]
    };
    pipeline::table(&HEADER, found.iter().map(row), 3..4)
}

/// When each certificate that is there expires, in the text format of Prometheus.
fn metrics(found: &[Found]) -> String {
    let name = "etcd_tools_certificate_not_after_seconds";
    let mut text =
        format!("# HELP {name} When the certificate expires, in Unix time.\n# TYPE {name} gauge\n");
    for Found { node, label, not_after, .. } in found {
        let Some(time) = not_after else { continue };
        let node = node.as_ref().map(|node| format!("node=\"{node}\",")).unwrap_or_default();
        text += &format!("{name}{{{node}certificate=\"{label}\"}} {}\n", time.unix_timestamp());
    }
    text
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

fn of_leaf(demands: &Demands, lost: Option<&str>, leaf: &Leaf, node: Option<&str>) -> Found {
    let label = &leaf.label;
    let not_after = leaf.not_after();
    let result = match leaf.state(demands) {
        // Without the CA nothing is known of it but when it expires.
        _ if lost.is_some() && not_after.is_some() => {
            ToolResult::error(Code::Missing, format!("{label}: not checked without the CA"))
        }
        Ok(State::Good(found)) => {
            exposed(label, &leaf.pair).unwrap_or_else(|| valid(label, &found.expiry(demands.now)))
        }
        Ok(State::Bad(why)) => due(format!("{label}: {why}: {REMEDY}")),
        Ok(State::Due(why)) => {
            let hours = demands.renew_before.whole_hours();
            let before = match hours % 24 {
                0 => format!("{}d", hours / 24),
                _ => format!("{hours}h"),
            };
            // Else it would be left alone there.
            let more = match before == RENEW_BEFORE {
                true => String::new(),
                false => format!(" --renew-before {before}"),
            };
            // Else a new one would be due at once.
            let is_short =
                parse_duration(VALIDITY).is_ok_and(|by_default| demands.renew_before >= by_default);
            let more = match is_short {
                true => format!("{more} --validity {}d", hours / 12),
                false => more,
            };
            due(format!("{label}: {why}: {REMEDY}{more}"))
        }
        Ok(State::Missing) => missing(label, &leaf.pair),
        Err(error) => ToolResult::error(Code::Failed, format!("{label}: {error:#}")),
    };
    let label = label.trim_end_matches(" certificate").to_owned();
    Found { node: node.map(str::to_owned), label, not_after, result }
}

fn of_ca(demands: &Demands, lost: Option<&str>, folder: &Folder) -> Found {
    let of = |not_after, result| Found { node: None, label: "CA".into(), not_after, result };
    let Ok(ca) = demands.authority.current() else {
        let lost = lost.map(|why| ToolResult::error(Code::Missing, format!("CA: {why}")));
        return of(None, lost.unwrap_or_else(|| missing("CA", &folder.ca())));
    };
    let expiry = ca.expiry(demands.now);
    let soon = ca.not_after - demands.now <= demands.renew_before;
    let result = match ca.invalid(demands.now) {
        Some(why) => due(format!("CA: {why}: {REPLACE}")),
        None if soon => due(format!("CA: expires {expiry}: {REPLACE}")),
        None => exposed("CA", &folder.ca()).unwrap_or_else(|| valid("CA", &expiry)),
    };
    of(Some(ca.not_after), result)
}

fn missing(label: &str, pair: &Pair) -> ToolResult {
    let message = format!("{label}: {} is missing: {REMEDY}", pair.cert.display());
    ToolResult::error(Code::Missing, message)
}

/// That others than its owner can use the key of what is valid.
fn exposed(label: &str, pair: &Pair) -> Option<ToolResult> {
    let mode = pair.exposed_key_mode()?;
    let key = pair.key.display();
    let message = format!("{label}: {key}: mode {mode:04o} lets others use it: {REMEDY}");
    Some(ToolResult::error(Code::Exposed, message))
}

fn valid(label: &str, expiry: &str) -> ToolResult {
    ToolResult::unchanged(Code::Valid, format!("{label}: valid until {expiry}"))
}

fn due(message: String) -> ToolResult {
    ToolResult::error(Code::Due, message)
}
