//! `etcd-preflight`: are these hosts, and is this change, fit to go ahead?
//!
//! One exchange per host asks what it is and has (`host.sh`), what of etcd runs and lies
//! there, how it reaches the others (`peers.sh`), and how fast its disk is (`disk.sh`); a
//! second, on the same connection, its time.
//! Where etcd runs, its members are asked as well. Nothing is changed.

mod cluster;
mod disk;
mod facts;
mod finding;
mod hosts;
mod peers;
mod table;

use std::collections::BTreeSet;

use ::cluster::{fit, wal};
use anyhow::Result;
use client::CredentialArgs;
use pipeline::document::Node;
use pipeline::{Code, Common, Examples, IN_WORDS, Run, Severity, Tool, ToolResult, terminal};
use remote::{Fleet, Host, Query, SshArgs, fan_out};

use crate::facts::{Facts, Offset};
use crate::finding::Finding;
use crate::peers::Attempt;

/// The checks, in the order of the table.
pub const CHECKS: [Code; 29] = [
    Code::Systemd,
    Code::Kernel,
    Code::Arch,
    Code::Memory,
    Code::Swap,
    Code::OpenFiles,
    Code::DiskSpace,
    Code::DiskKind,
    Code::DiskLatency,
    Code::Clock,
    Code::TimeSync,
    Code::DuplicateHost,
    Code::SecurityModule,
    Code::PortInUse,
    Code::NameResolution,
    Code::PortBlocked,
    Code::RoundTrip,
    Code::Masked,
    Code::Mismatch,
    Code::VersionStep,
    Code::Due,
    Code::Unhealthy,
    Code::NoMargin,
    Code::Alarm,
    Code::Learner,
    Code::DifferentVersions,
    Code::DowngradePending,
    Code::Quota,
    Code::Fragmentation,
];

/// Check hosts and a running cluster before a deployment; changes nothing
///
/// Looks at the hosts, at what of etcd runs and lies on them, and at the running
/// cluster. Errors stop the pipe: what is on the nodes stays as it is. Each check has
/// a code, which stands in the results; docs/preflight.md has all of them, with
/// their limits.
///
/// disk-latency writes 110 blocks of 2300 bytes one by one where the write-ahead
/// log will lie, into a file without a name, which is gone when the tool ends. With
/// --check it is left out.
#[derive(Debug, clap::Parser)]
#[command(name = "etcd-preflight", version)]
pub struct Preflight {
    /// Leave out this check (may be repeated); the results record it
    #[arg(long, value_name = "CODE", value_parser = check, help_heading = IN_WORDS)]
    skip: Vec<Code>,
    /// What to write to stdout [default: table on a terminal, else json]
    ///
    /// The table has the checks down and the nodes across; json is the document.
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    ssh: SshArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// The code of a check.
fn check(text: &str) -> Result<Code, String> {
    let found = CHECKS.into_iter().find(|code| code.name() == text);
    found.ok_or_else(|| {
        let names: Vec<_> = CHECKS.iter().map(|code| code.name()).collect();
        format!("no such check: expected one of {}", names.join(", "))
    })
}

/// A node that answered.
struct Seen<'a> {
    node: &'a Node,
    host: Host,
    facts: Facts,
    etcd: fit::Facts,
    /// What came of attempts to reach the other nodes.
    attempts: Vec<Attempt>,
    /// What came of the writes; nothing where that check was left out.
    writes: disk::Writes,
    /// What on the disk the wanted release could not read.
    unreadable: Option<ToolResult>,
}

impl Tool for Preflight {
    fn common(&self) -> &Common {
        &self.common
    }

    fn examples(_: &str) -> Examples {
        &[
            ("Can these hosts run etcd?", "etcd-preflight nodes.txt"),
            (
                "As a stage: an error stops the pipe before anything is changed:",
                "etcd-fetch v3.6.16 < nodes.txt | etcd-preflight | etcd-cert issue | \\\n  etcd-render | etcd-push | etcd-unit start",
            ),
            ("Without writing to the disks:", "etcd-preflight --skip disk-latency nodes.txt"),
        ]
    }

    fn without(_: &str) -> &'static [&'static str] {
        &["check", "lock_timeout"]
    }

    fn writes_document(&self) -> bool {
        self.format() == Format::Json
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let fleet = Fleet::new(&self.ssh, self.common.jobs)?;
        let findings = runtime.block_on(self.look(run, &fleet))?;
        runtime.shutdown_background();
        if self.format() == Format::Table {
            let nodes: Vec<_> = run.nodes().iter().map(|node| node.name.as_str()).collect();
            terminal::print(&table::render(&nodes, &CHECKS, &self.skipped(run), &findings))?;
        }
        self.report(run, findings);
        Ok(())
    }
}

impl Preflight {
    fn format(&self) -> Format {
        let usual = terminal::table_or(Format::Table, Format::Json);
        self.output.unwrap_or(usual)
    }

    /// The checks that are left out: those of --skip; with --check also the one that
    /// writes.
    fn skipped(&self, run: &Run) -> Vec<Code> {
        let writes = run.check().then_some(Code::DiskLatency);
        CHECKS
            .into_iter()
            .filter(|code| self.skip.contains(code) || writes == Some(*code))
            .collect()
    }

    /// Makes all checks but those that are left out.
    async fn look(&self, run: &Run, fleet: &Fleet) -> Result<Vec<Finding>> {
        let document = &run.document;
        let measures_disk = !self.skipped(run).contains(&Code::DiskLatency);
        let queries = |node: &Node| -> Vec<Query> {
            let binary = format!("{}/etcd", document.settings(node).bin_dir);
            let mut queries = vec![
                facts::query(document, node),
                fit::query(document, node, &[binary]),
                peers::query(document, node),
            ];
            queries.extend(wal::query(document, node));
            queries.extend(measures_disk.then(|| disk::query(document, node)));
            queries
        };
        let mut seen = Vec::new();
        for (node, reply) in fleet.query(run.nodes(), None, queries).await {
            let read = reply.and_then(|reply| {
                let answer = |at: usize| reply.answers.get(at).map_or(&[][..], Vec::as_slice);
                let facts = Facts::read(answer(0))?;
                let etcd = fit::Facts::read(answer(1))?;
                let attempts = peers::read(answer(2))?;
                let mut optional = reply.answers.iter().skip(3).map(Vec::as_slice);
                let writes = measures_disk.then(|| optional.next_back()).flatten();
                let writes = disk::read(writes.unwrap_or_default())?;
                let unreadable = wal::refusal(document, optional.next().unwrap_or_default())?;
                Ok(Seen { node, facts, etcd, attempts, writes, unreadable, host: reply.host })
            });
            match read {
                Ok(node) => seen.push(node),
                Err(error) => run.report(error.on(&node.name)),
            }
        }
        let down = down(run, fleet, &seen).await;
        let mut findings = Vec::new();
        for node in &seen {
            findings.extend(hosts::judge(document, node));
            findings.extend(disk::judge(node));
            // Who does not answer has been reported.
            let reached = |other: &Node| {
                seen.iter().any(|seen| seen.node.name == other.name)
                    || !run.nodes().iter().any(|node| node.name == other.name)
            };
            let is_down = |other: &Node| down.contains(other.name.as_str());
            findings.extend(peers::judge(document, node, reached, is_down));
        }
        findings.extend(hosts::duplicates(&seen));
        findings.extend(self.clocks(run, fleet, &seen).await);
        findings.extend(mismatches(run, &self.credentials, &seen).await);
        // An alarm that keeps the members from another version has been found.
        let refused = findings.iter().any(|finding| finding.code == Code::Alarm);
        let cluster = cluster::judge(run, fleet, &self.credentials, &seen).await;
        findings.extend(cluster.into_iter().filter(|f| !refused || f.code != Code::Alarm));
        let skipped = self.skipped(run);
        findings.retain(|finding| !skipped.contains(&finding.code));
        Ok(findings)
    }

    async fn clocks(&self, run: &Run, fleet: &Fleet, seen: &[Seen<'_>]) -> Vec<Finding> {
        if self.skip.contains(&Code::Clock) {
            return Vec::new();
        }
        let asked = fan_out(fleet.jobs(), seen.iter().collect(), async |node: &Seen| {
            (node.node, Offset::measure(&node.host).await)
        });
        let mut offsets = Vec::new();
        for (node, offset) in asked.await {
            match offset {
                Ok(offset) => offsets.push((node.name.as_str(), offset)),
                Err(error) => run.report(error.on(&node.name)),
            }
        }
        hosts::clocks(&offsets)
    }

    fn report(&self, run: &Run, findings: Vec<Finding>) {
        for code in self.skipped(run) {
            let why = if self.skip.contains(&code) { "" } else { ": --check writes nothing" };
            run.report(ToolResult::unchanged(Code::Skipped, format!("{code}: skipped{why}")));
        }
        let made: BTreeSet<_> = findings.iter().map(|finding| finding.code.name()).collect();
        let mut warnings = 0;
        let mut failed = false;
        for finding in findings {
            let Some(result) = finding.result() else { continue };
            match result.severity {
                Severity::Error => failed = true,
                Severity::Warning => warnings += 1,
                Severity::Info => {}
            }
            run.report(result);
        }
        failed |= run.nodes().iter().any(|node| run.failed(&node.name));
        if !failed {
            let count = run.nodes().len();
            let message = format!(
                "{} checks of {count} {}: {warnings} {}",
                made.len(),
                if count == 1 { "node" } else { "nodes" },
                if warnings == 1 { "warning" } else { "warnings" }
            );
            run.report(ToolResult::unchanged(Code::Passed, message));
        }
    }
}

/// Of the nodes that were left out, and that one of `seen` does not reach, those whose hosts
/// do not answer either.
async fn down<'a>(run: &'a Run, fleet: &Fleet, seen: &[Seen<'_>]) -> BTreeSet<&'a str> {
    let document = &run.document;
    let nodes = run.nodes();
    let left_out = document.nodes.iter().filter(|node| nodes.iter().all(|n| n.name != node.name));
    let is_silent = |node: &&Node| {
        seen.iter().any(|seen| peers::silent(document, seen).any(|other| other.name == node.name))
    };
    let silent: Vec<_> = left_out.filter(is_silent).collect();
    let answers = fleet.query(silent, None, |_| vec![Query::NOTHING]).await;
    answers.into_iter().filter(|(_, a)| a.is_err()).map(|(node, _)| node.name.as_str()).collect()
}

/// What of the document does not fit what runs and lies on the nodes.
async fn mismatches(run: &Run, credentials: &CredentialArgs, seen: &[Seen<'_>]) -> Vec<Finding> {
    let nodes: Vec<_> =
        seen.iter().map(|seen| (seen.node, &seen.host, seen.etcd.clone())).collect();
    let mut findings: Vec<_> = fit::mismatches(run, &nodes, credentials, None)
        .await
        .into_iter()
        .map(Finding::of_result)
        .collect();
    // What the release of a step cannot read is of interest once the step itself is possible.
    let step_is_refused = findings.iter().any(|finding| finding.code == Code::VersionStep);
    for Seen { node, unreadable, .. } in seen {
        let unreadable = unreadable.clone().filter(|_| !step_is_refused);
        let result = unreadable.map(|result| result.on(&node.name));
        findings.extend(result.map(Finding::of_result));
        let well =
            [(Code::Mismatch, "fits"), (Code::VersionStep, "possible"), (Code::Masked, "no")];
        for (code, measured) in well {
            let of_node = |f: &Finding| f.code == code && f.node.as_ref() == Some(&node.name);
            if !findings.iter().any(of_node) {
                findings.push(Finding::ok(code, &node.name, measured));
            }
        }
    }
    findings
}
