//! `status`.

use anyhow::Result;
use clap::ValueEnum;
use cluster::units::{self, UnitState};
use comfy_table::{Table, presets};
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
        let default = if terminal::stdout_is_terminal() { Output::Table } else { Output::Json };
        self.output.unwrap_or(default) == Output::Table
    }
}

/// The `status` command.
pub(crate) async fn status(tool: &Unit, run: &mut Run, fleet: &Fleet, args: &Args) -> Result<()> {
    let mut found: Vec<(String, String, UnitStatus)> = Vec::new();
    let queries = |node: &Node| vec![units::query(&tool.wanted(node))];
    for (node, reply) in fleet.query(run.nodes(), None, queries).await {
        let state = reply.and_then(|reply| {
            let answer = reply.answers.first().map_or(&[][..], Vec::as_slice);
            UnitState::read(answer)
        });
        match state {
            Ok(states) => found.extend(
                states.into_iter().map(|s| (node.name.clone(), s.name.clone(), s.status())),
            ),
            Err(error) => run.report(error.on(&node.name)),
        }
    }
    for (node, unit, status) in &found {
        run.report(result(unit, status).on(node));
    }
    if args.wants_table() {
        terminal::print(&format!("{}\n", table(&found).trim_fmt()))?;
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

fn result(unit: &str, status: &UnitStatus) -> ToolResult {
    let UnitStatus { active, sub, .. } = status;
    if active != "active" {
        return ToolResult::error(Code::Unhealthy, format!("{unit} is {active} ({sub})"));
    }
    if status.outdated.is_empty() {
        return ToolResult::unchanged(Code::Running, format!("{unit} is {active} ({sub})"));
    }
    let what = status.outdated.join(" and ");
    let message = format!("{unit} runs with an older {what} than what is on the disk");
    ToolResult::warning(Code::Outdated, message)
}

fn table(found: &[(String, String, UnitStatus)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NODE", "UNIT", "ACTIVE", "SUB", "ENABLED", "PID", "OUTDATED"]);
    for (node, unit, status) in found {
        let pid = status.main_pid.map_or("-".into(), |pid| pid.to_string());
        let outdated = match status.outdated.is_empty() {
            true => "-".to_owned(),
            false => status.outdated.join(", "),
        };
        let UnitStatus { active, sub, enabled, .. } = status;
        let row = [node, unit, active, sub, enabled, &pid, &outdated];
        table.add_row(row.map(|cell| terminal::line(cell).into_owned()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}
