//! `status`.

use anyhow::Result;
use clap::ValueEnum;
use cluster::units::{self, NodeState, UnitState, WantedUnit};
use pipeline::document::{Node, UnitStatus};
use pipeline::{Code, Run, ToolResult, terminal};
use remote::Fleet;

use crate::Unit;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to write [default: table on a terminal, else json]
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table for people
    Table,
    /// The document, with the status of each unit
    Json,
}

impl Args {
    /// Whether a table goes to stdout, and not the document.
    pub(crate) fn wants_table(&self) -> bool {
        let default = terminal::table_or(Output::Table, Output::Json);
        self.output.unwrap_or(default) == Output::Table
    }
}

/// The `status` command.
pub(crate) async fn status(tool: &Unit, run: &mut Run, fleet: &Fleet, args: &Args) -> Result<()> {
    let mut found: Vec<(String, String, UnitStatus)> = Vec::new();
    let mut rows = Vec::new();
    let mut results = Vec::new();
    let queries = |node: &Node| vec![units::query(&tool.wanted(node))];
    for (node, reply) in fleet.query(run.nodes(), None, queries).await {
        let state = reply.and_then(|reply| {
            let answer = reply.answers.first().map_or(&[][..], Vec::as_slice);
            NodeState::read(node, &reply.host, tool.wanted(node), answer).map(|state| state.units)
        });
        match state {
            Ok(states) => {
                for (wanted, state) in states {
                    let status = state.status();
                    rows.push(row(&node.name, &wanted.name, &status));
                    results.push(result(&wanted, &state, &status).on(&node.name));
                    found.push((node.name.clone(), wanted.name, status));
                }
            }
            Err(error) => {
                let unknown = [&node.name, "-", "unknown", "-", "-", "-", "-"];
                rows.push(unknown.map(str::to_owned));
                run.report(error.on(&node.name));
            }
        }
    }
    results.into_iter().for_each(|result| run.report(result));
    if args.wants_table() {
        terminal::print(&pipeline::table(&HEADER, rows, 0..0))?;
    }
    for (node, unit, status) in found {
        let nodes = &mut run.document.nodes;
        let units = nodes.iter_mut().filter(|n| n.name == node).flat_map(|n| &mut n.units);
        for unit in units.filter(|u| u.name == unit) {
            unit.status = Some(status.clone());
        }
    }
    Ok(())
}

fn result(wanted: &WantedUnit, state: &UnitState, status: &UnitStatus) -> ToolResult {
    let unit = &wanted.name;
    let UnitStatus { active, sub, .. } = status;
    if state.is_template() {
        return ToolResult::unchanged(Code::UpToDate, format!("{unit} is a template"));
    }
    let may_be_down = wanted.may_be_down(state) || state.has_succeeded();
    if may_be_down && ["inactive", "activating"].contains(&active.as_str()) {
        let message = format!("{unit} is {active} ({sub}): it need not run all the time");
        return ToolResult::unchanged(Code::UpToDate, message);
    }
    if state.is_missing() && active == "inactive" {
        let message = format!("there is no {unit} on the node");
        return ToolResult::error(Code::Unhealthy, message);
    }
    if active != "active" {
        return ToolResult::error(Code::Unhealthy, format!("{unit} is {active} ({sub})"));
    }
    if status.outdated.is_empty() {
        let message = format!("{unit} is {active} ({sub}){}", state.restarts());
        return ToolResult::unchanged(Code::Running, message);
    }
    let what = status.outdated.join(" and ");
    let message = format!("{unit} runs with an older {what} than what is on the disk");
    ToolResult::warning(Code::Outdated, message)
}

const HEADER: [&str; 7] = ["NODE", "UNIT", "ACTIVE", "SUB", "ENABLED", "PID", "OUTDATED"];

fn row(node: &str, unit: &str, status: &UnitStatus) -> [String; 7] {
    let UnitStatus { active, sub, enabled, .. } = status.clone();
    let pid = status.main_pid.map_or("-".into(), |pid| pid.to_string());
    let outdated = match status.outdated.is_empty() {
        true => "-".to_owned(),
        false => status.outdated.join(", "),
    };
    [node.into(), unit.into(), active, sub, enabled, pid, outdated]
}
