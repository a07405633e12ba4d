//! `stop` and `uninstall`.

use anyhow::Result;
use pipeline::terminal::Progress;
use pipeline::{Code, Run, ToolResult};
use remote::{Fleet, fan_out};

use crate::{Unit, release};
use cluster::units::Changes;
use cluster::units::NodeState;

/// Removes the data, and what these tools put on the host.
const PURGE: &str = include_str!("purge.sh");

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Depth {
    /// Stop the units.
    Stop,
    /// Remove their files, too.
    Uninstall,
    /// Remove the data and all files of etcd, too.
    Purge,
}

/// The commands `stop` and `uninstall`.
pub(crate) async fn stop(tool: &Unit, run: &Run, fleet: &Fleet, depth: Depth) -> Result<()> {
    let sites = tool.ask(run, fleet, run.nodes(), true).await;
    if let Some(why) = quorum_lost(tool, run, fleet, &sites).await {
        for site in &sites {
            run.report(ToolResult::error(Code::Quorum, why.clone()).on(&site.node.name));
        }
    } else {
        let _progress = Progress::wait("stopping");
        fan_out(fleet.jobs(), sites.iter().collect(), async |site: &NodeState| {
            let stopped = stop_one(tool, run, site, depth >= Depth::Uninstall).await;
            if stopped && depth == Depth::Purge {
                purge(run, site).await;
            }
        })
        .await;
    }
    release(fleet, sites).await;
    Ok(())
}

/// Why the cluster would lose quorum, if it has it and would.
async fn quorum_lost(
    tool: &Unit,
    run: &Run,
    fleet: &Fleet,
    sites: &[NodeState<'_>],
) -> Option<String> {
    if tool.lose_quorum || !sites.iter().any(is_running) {
        return None;
    }
    let selected: Vec<_> = run.nodes().iter().map(|node| node.name.clone()).collect();
    let others = run.document.nodes.iter().filter(|node| !selected.contains(&node.name));
    let others = tool.ask(run, fleet, others.collect(), false).await;
    let left = others.iter().filter(|site| is_running(site)).count();
    let running = left + sites.iter().filter(|site| is_running(site)).count();
    let quorum = run.document.nodes.len() / 2 + 1;
    (running >= quorum && left < quorum).then(|| {
        format!(
            "not stopped: the cluster would lose quorum, {left} of {} members would be left: \
             say --lose-quorum",
            run.document.nodes.len()
        )
    })
}

fn is_running(site: &NodeState) -> bool {
    site.units.iter().any(|(_, state)| state.is_active())
}

/// Stops the units of one node; says whether that went well.
async fn stop_one(tool: &Unit, run: &Run, site: &NodeState<'_>, uninstall: bool) -> bool {
    let node = site.node.name.as_str();
    let mut changes = Changes::default();
    let (mut done, mut would) = (Vec::new(), Vec::new());
    let mut note = |past: &str, present: &str, unit: &str| {
        done.push(format!("{past} {unit}"));
        would.push(format!("would {present} {unit}"));
    };
    for (wanted, state) in &site.units {
        let name = wanted.name.as_str();
        if !["inactive", "failed", ""].contains(&state.active()) {
            changes.job("stop", name, tool.timeout);
            note("stopped", "stop", name);
        }
        if uninstall && (state.file.is_some() || state.stale_temp) {
            if state.is_enabled() {
                changes.unit("disable", name);
            }
            changes.unit("remove", name);
            changes.reload();
            note("removed", "remove", name);
        }
    }
    if changes.is_empty() {
        let what = if uninstall { "not installed" } else { "not running" };
        let names: Vec<_> = site.units.iter().map(|(wanted, _)| &*wanted.name).collect();
        let message = format!("{} {what}", names.join(", "));
        run.report(ToolResult::unchanged(Code::UpToDate, message).on(node));
    } else if run.check() {
        for would in would {
            run.report(ToolResult::would_change(would).on(node));
        }
    } else {
        let ended = match changes.apply(&site.host).await {
            Ok(ended) => ended,
            Err(error) => {
                run.report(error.on(node));
                return false;
            }
        };
        if let Some(ended) = ended.iter().find(|ended| ended.code != 0) {
            let message = format!("{} did not stop: it is {}", ended.unit, ended.active);
            run.report(ToolResult::error(Code::NotStopped, message).on(node));
            return false;
        }
        run.report(ToolResult::changed(Code::Stopped, done.join(", ")).on(node));
    }
    true
}

async fn purge(run: &Run, site: &NodeState<'_>) {
    let node = site.node.name.as_str();
    let settings = run.document.settings(site.node);
    let check = if run.check() { "check" } else { "" };
    let mut arguments =
        vec![check, &settings.user, &settings.config_dir, &settings.cert_dir, &settings.bin_dir];
    arguments.extend(settings.wal_dir.as_deref());
    arguments.push(&settings.data_dir);
    match site.host.run(PURGE, &arguments, &[]).await {
        Err(error) => run.report(error.on(node)),
        Ok(paths) if paths.is_empty() => {
            run.report(ToolResult::unchanged(Code::Purged, "nothing of etcd is left").on(node));
        }
        Ok(paths) if run.check() => {
            for path in paths {
                run.report(ToolResult::would_change(format!("would delete {path}")).on(node));
            }
        }
        Ok(paths) => {
            let message = format!("deleted {}", paths.join(", "));
            run.report(ToolResult::changed(Code::Purged, message).on(node));
        }
    }
}
