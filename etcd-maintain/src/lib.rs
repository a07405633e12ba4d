//! `etcd-maintain`: the maintenance of a running cluster before its version changes.
//!
//! Speaks to the members only; what it changes is etcd's own state, never a file of a node.

mod downgrade;
mod members;

use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use client::EndpointArgs;
use cluster::Lease;
use cluster::route::{Route, Via};
use etcd::Version;
use pipeline::{Code, Common, Examples, Run, Tool, ToolResult, terminal};
use remote::{Fleet, SshArgs};

use crate::members::Members;

/// Prepare a running cluster for another version of etcd
///
/// Endpoints, certificates and the user are found as etcd-health finds them; with
/// authentication on, the user needs the role root.
#[derive(Debug, Parser)]
#[command(name = "etcd-maintain", version)]
pub struct Maintain {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    endpoints: EndpointArgs,
    /// How to reach the endpoints; ssh goes to their client port on their hosts
    #[arg(long, global = true, value_enum, default_value = "direct")]
    via: Via,
    /// Wait this many seconds for the members to do what was asked
    #[arg(long, global = true, value_name = "SECONDS", default_value = "60",
          value_parser = pipeline::parse_seconds)]
    timeout: Duration,
    #[command(flatten)]
    ssh: SshArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the versions that lead from what the members run to VERSION, one a line
    ///
    /// The last is VERSION; nothing is printed where all members run it. Members of
    /// different versions are in the middle of a step, which comes first. Waits until the
    /// cluster has taken the version of its lowest member, some seconds after an upgrade.
    Path {
        /// The version to go to, e.g. v3.6.16
        version: Version,
    },
    /// etcd's own downgrade, from 3.6 on: what goes before the older binaries
    #[command(subcommand)]
    Downgrade(Downgrade),
    /// Have every member write a raft snapshot, from etcd 3.6 on
    ///
    /// etcd 3.7 cannot read what etcd 3.5 left in the write-ahead log unless a raft
    /// snapshot covers it. Members write one when a downgrade is enabled: this enables one,
    /// waits for it, and cancels it. One that is enabled already is cancelled as well.
    RaftSnapshot,
}

#[derive(Debug, Subcommand)]
enum Downgrade {
    /// Ask etcd whether it would allow a downgrade to VERSION
    Validate {
        /// The version to go to, e.g. v3.6.16; only its minor version counts
        version: Version,
    },
    /// Have all members bring their data to the older form, and wait until they have
    Enable {
        /// The version to go to, e.g. v3.6.16; only its minor version counts
        version: Version,
    },
    /// Take a downgrade back, and wait until the data has its newer form again
    Cancel,
}

impl Tool for Maintain {
    fn common(&self) -> &Common {
        &self.common
    }

    fn examples(command: &str) -> Examples {
        match command {
            "etcd-maintain" => &[(
                "From what runs to the newest, step by step:",
                "etcd-maintain path v3.7.3 < nodes.txt",
            )],
            "path" => &[("Which versions lie between?", "etcd-maintain path v3.7.3 < nodes.txt")],
            "downgrade" => &[(
                "One minor version back, asked first:",
                "etcd-maintain downgrade validate v3.6.16 < nodes.txt",
            )],
            "validate" => &[(
                "Would a downgrade be allowed?",
                "etcd-maintain downgrade validate v3.5.33 < nodes.txt",
            )],
            "enable" => &[(
                "Before older binaries are pushed:",
                "etcd-maintain downgrade enable v3.5.33 < nodes.txt > /dev/null",
            )],
            "cancel" => &[(
                "Back from a downgrade that was begun:",
                "etcd-maintain downgrade cancel < nodes.txt > /dev/null",
            )],
            "raft-snapshot" => &[(
                "Before the step to 3.7, if etcd-push asks for it:",
                "etcd-maintain raft-snapshot < nodes.txt > /dev/null",
            )],
            _ => &[],
        }
    }

    fn without(command: &str) -> &'static [&'static str] {
        match command {
            "path" | "validate" => &["check", "only", "keep_going", "lock_timeout"],
            _ => &["only", "keep_going"],
        }
    }

    fn reads_stdin(&self) -> bool {
        self.endpoints.endpoints.is_empty()
    }

    fn works_without_document(&self) -> bool {
        // Else a pipe that failed would change the cluster of a variable.
        !self.reads_stdin() || terminal::nothing_piped_in()
    }

    fn writes_document(&self) -> bool {
        !matches!(self.command, Command::Path { .. })
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        let nodes: Vec<_> = run.document.nodes.iter().collect();
        let targets = self.endpoints.resolve(&run.document, &nodes, None)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let fleet = Fleet::new(&self.ssh, self.common.jobs)?;
        let route = Route::via(targets, (self.via == Via::Ssh).then_some(&fleet))?;
        let done = runtime.block_on(self.work(run, &fleet, Members::new(&route, self.timeout)));
        drop(route);
        // A name server that does not answer must not hold up the end.
        runtime.shutdown_background();
        if let Some(result) = done? {
            run.report(result);
        }
        Ok(())
    }
}

impl Maintain {
    async fn work(
        &self,
        run: &Run,
        fleet: &Fleet,
        members: Members<'_>,
    ) -> Result<Option<ToolResult>> {
        let changes = match &self.command {
            Command::Path { version } => {
                for version in members.path(*version).await? {
                    terminal::print(&format!("{version}\n"))?;
                }
                return Ok(None);
            }
            Command::Downgrade(Downgrade::Validate { version }) => {
                return downgrade::validate(&members, *version).await.map(Some);
            }
            changes => changes,
        };
        // Endpoints of no document have no hosts that could be locked.
        let lease = match self.reads_stdin() && !run.document.nodes.is_empty() {
            false => None,
            true => match Lease::take_any(fleet, run, "etcd-maintain", |_| Vec::new()).await {
                Some(lease) => Some(lease),
                None => return Ok(None),
            },
        };
        let result = match changes {
            Command::Downgrade(Downgrade::Enable { version }) => {
                downgrade::enable(run, &members, *version).await
            }
            Command::RaftSnapshot => downgrade::raft_snapshot(run, &members).await,
            _ => downgrade::cancel(run, &members).await,
        };
        if let Some(lease) = lease {
            lease.release().await;
        }
        result.map(Some)
    }
}

/// Nothing had to be done, and why.
fn up_to_date(why: impl Into<String>) -> ToolResult {
    ToolResult::unchanged(Code::UpToDate, why)
}
