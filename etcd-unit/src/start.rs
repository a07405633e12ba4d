//! `install`, `start` and `restart`.

use anyhow::Result;
use pipeline::terminal::Progress;
use pipeline::{Code, Error, Run, ToolResult, disk};
use remote::{Fleet, fan_out};
use similar::TextDiff;

use crate::{Unit, release, rolling};
use cluster::units::Changes;
use cluster::units::UnitState;
use cluster::units::{NodeState, WantedUnit};

/// The `install` command.
pub(crate) async fn install(tool: &Unit, run: &Run, fleet: &Fleet) -> Result<()> {
    for node in run.nodes() {
        if let Some(unit) = tool.wanted(node).iter().find(|wanted| wanted.unit.is_none()) {
            return Err(Error::bad_input(format!(
                "{}: no unit {} in the document: put etcd-render before this tool, \
                 or give --unit-file",
                node.name, unit.name
            ))
            .into());
        }
    }
    let sites = tool.ask(run, fleet, run.nodes(), true).await;
    fan_out(fleet.jobs(), sites.iter().collect(), async |site: &NodeState| {
        let mut work = Work::default();
        for (wanted, state) in &site.units {
            work.install(run, site, wanted, state);
        }
        work.finish(tool, run, site, "already installed").await;
    })
    .await;
    release(fleet, sites).await;
    Ok(())
}

/// The `start` command.
pub(crate) async fn start(tool: &Unit, run: &Run, fleet: &Fleet) -> Result<()> {
    let progress = Progress::wait("looking at the units");
    let sites = tool.ask(run, fleet, run.nodes(), true).await;
    progress.label("starting, and waiting until each member is ready");
    let outdated = fan_out(fleet.jobs(), sites.iter().collect(), async |site: &NodeState| {
        let mut work = Work::default();
        let mut outdated = Vec::new();
        for (wanted, state) in &site.units {
            let mut reasons = state.outdated();
            if work.install(run, site, wanted, state) && !reasons.contains(&"unit".to_owned()) {
                reasons.push("unit".into());
            }
            match (state.is_active(), reasons.is_empty()) {
                (true, true) => {}
                (true, false) if wanted.name.ends_with(".service") => {
                    outdated.push((wanted.name.clone(), reasons));
                }
                // It serves nobody yet, so nothing is lost by starting it again.
                (false, false) if state.active() == "activating" => {
                    work.jobs.job("restart", &wanted.name, tool.timeout);
                    work.note("restarted", "restart", &wanted.name);
                }
                (true, false) | (false, _) => {
                    work.jobs.job("start", &wanted.name, tool.timeout);
                    work.note("started", "start", &wanted.name);
                }
            }
        }
        let idle = outdated.is_empty();
        let said = match idle {
            true if would_change(run, site) => {
                "running as configured now, and may need a restart for what would change"
            }
            true => "running as configured",
            false => "",
        };
        match work.finish(tool, run, site, said).await {
            true => Some((site, outdated)).filter(|_| !idle),
            false => None,
        }
    })
    .await;
    let mut targets = Vec::new();
    for (site, units) in outdated.into_iter().flatten() {
        for (unit, reasons) in units {
            let why = format!("its {} had changed", reasons.join(" and "));
            targets.push(rolling::Target { site, unit, why });
        }
    }
    drop(progress);
    if !targets.is_empty() {
        rolling::restart(tool, run, fleet, &sites, targets).await?;
    }
    release(fleet, sites).await;
    Ok(())
}

/// Whether an earlier stage would change something on the node, had it not `--check`.
fn would_change(run: &Run, site: &NodeState) -> bool {
    let node = Some(site.node.name.as_str());
    let results = &mut run.document.results.iter();
    run.check() && results.any(|r| r.code == Code::WouldChange && r.node.as_deref() == node)
}

/// The `restart` command.
pub(crate) async fn restart(tool: &Unit, run: &Run, fleet: &Fleet) -> Result<()> {
    let sites = tool.ask(run, fleet, run.nodes(), true).await;
    let mut targets = Vec::new();
    for site in &sites {
        for (wanted, _) in &site.units {
            let unit = wanted.name.clone();
            targets.push(rolling::Target { site, unit, why: "as asked".into() });
        }
    }
    if !targets.is_empty() {
        rolling::restart(tool, run, fleet, &sites, targets).await?;
    }
    release(fleet, sites).await;
    Ok(())
}

/// What is to be done on one node, and the words for it.
#[derive(Default)]
struct Work {
    changes: Changes,
    jobs: Changes,
    /// What is done to which unit, in the past tense and as it is said with `--check`.
    done: Vec<(&'static str, &'static str, String)>,
}

impl Work {
    fn note(&mut self, past: &'static str, present: &'static str, unit: &str) {
        self.done.push((past, present, unit.to_owned()));
    }

    /// What was done, as `installed, enabled and started etcd.service`.
    fn summary(&self) -> String {
        let same_unit = self.done.chunk_by(|a, b| a.2 == b.2);
        let of_unit = |done: &[(&str, &str, String)]| {
            let verbs: Vec<_> = done.iter().map(|(past, ..)| *past).collect();
            let unit = done.first().map_or("", |(.., unit)| unit);
            match verbs.split_last() {
                Some((last, [])) => format!("{last} {unit}"),
                Some((last, others)) => format!("{} and {last} {unit}", others.join(", ")),
                None => String::new(),
            }
        };
        same_unit.map(of_unit).collect::<Vec<_>>().join("; ")
    }

    /// Writes, reloads and enables what differs; says whether the unit's text does.
    fn install(
        &mut self,
        run: &Run,
        site: &NodeState,
        wanted: &WantedUnit,
        state: &UnitState,
    ) -> bool {
        let name = &wanted.name;
        if state.stale_temp {
            self.changes.unit("clean", name);
            self.note(
                "removed what a killed run left of",
                "remove what a killed run left of",
                name,
            );
        }
        let Some(unit) = &wanted.unit else {
            if state.needs_reload() {
                self.changes.reload();
                self.note("reloaded", "reload", name);
            }
            return false;
        };
        let right = Some((disk::sha256(unit.content.as_bytes()), "644".to_owned()));
        let other_text = state.file.as_ref().map(|f| &f.0) != right.as_ref().map(|f| &f.0);
        if state.file != right {
            self.changes.write(name, &unit.content);
            self.note("installed", "install", name);
            if run.check() {
                let (old, new) = (state.text(), &unit.content);
                let diff = TextDiff::from_lines(&old, new);
                let header = format!("{}: {name}", site.node.name);
                run.detail(&diff.unified_diff().header(&header, &header).to_string());
            }
        }
        let enablement = unit.enabled.filter(|enabled| *enabled != state.is_enabled());
        match enablement {
            Some(true) => {
                self.changes.unit("enable", name);
                self.note("enabled", "enable", name);
            }
            Some(false) => {
                self.changes.unit("disable", name);
                self.note("disabled", "disable", name);
            }
            None => {}
        }
        if state.file != right || enablement.is_some() || state.needs_reload() {
            self.changes.reload();
        }
        other_text
    }

    /// Does it, and reports it; says whether all went well. `nothing` is said of
    /// the units when there is nothing to do; empty: nothing is said.
    async fn finish(self, tool: &Unit, run: &Run, site: &NodeState<'_>, nothing: &str) -> bool {
        let node = site.node.name.as_str();
        if self.done.is_empty() && self.changes.is_empty() {
            if !nothing.is_empty() {
                let names: Vec<_> = site.units.iter().map(|(wanted, _)| &*wanted.name).collect();
                let message = format!("{} {nothing}", names.join(", "));
                run.report(ToolResult::unchanged(Code::UpToDate, message).on(node));
            }
            return true;
        }
        if run.check() {
            for (_, present, unit) in self.done {
                run.report(ToolResult::would_change(format!("would {present} {unit}")).on(node));
            }
            return true;
        }
        let summary = self.summary();
        let ended = match self.changes.then(self.jobs).apply(&site.host).await {
            Ok(ended) => ended,
            Err(error) => {
                run.report(error.on(node));
                return false;
            }
        };
        let mut well = true;
        for ended in ended {
            if let Some(why) = ended.not_started(tool.timeout) {
                run.report(ToolResult::error(Code::NotStarted, why).on(node));
                run.detail(&ended.journal.join("\n"));
                well = false;
            }
        }
        if well {
            run.report(ToolResult::changed(Code::Started, summary).on(node));
        }
        well
    }
}
