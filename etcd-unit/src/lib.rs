//! `etcd-unit`: the systemd units of a cluster's nodes.
//!
//! Per node there is one exchange that learns the state (`state.sh`) and one
//! that changes it (`change.sh`); a restart one by one is one more per member.

mod logs;
mod rolling;
mod start;
mod status;
mod stop;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use cluster::units::{self, NodeState, WantedUnit};
use pipeline::document::{Node, Unit as DocumentUnit};
use pipeline::{Common, Error, Run, Tool};
use remote::{Fleet, SshArgs, fan_out};

use crate::stop::Depth;

/// Install, start, stop and restart the systemd units of a cluster's nodes
#[derive(Debug, Parser)]
#[command(name = "etcd-unit", version)]
pub struct Unit {
    #[command(subcommand)]
    command: Command,
    /// Work on this unit only [default: those of the document, else etcd.service]
    #[arg(long, global = true, value_name = "NAME")]
    unit: Option<String>,
    /// Install this unit file; it goes before a unit of its name in the document
    #[arg(long, global = true, value_name = "FILE")]
    unit_file: Option<PathBuf>,
    /// Wait this many seconds for a unit to start or stop, and for the cluster
    /// to be healthy after each restart
    #[arg(long, global = true, value_name = "SECONDS", default_value = "120",
          value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// Where the certificates are when the document does not say it
    #[arg(long, global = true, value_name = "DIR", default_value = "pki")]
    pki: String,
    /// Go on although it interrupts the cluster
    #[arg(long, global = true)]
    lose_quorum: bool,
    #[command(flatten)]
    ssh: SshArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the unit files, reload systemd, and enable the units
    Install,
    /// Bring the cluster up: install what is missing, start what is stopped, and
    /// restart, one by one, what is older than what is on its disk
    ///
    /// Members that are stopped are started all at once, and each is waited
    /// for until it is ready. A member that runs with an older configuration,
    /// unit, CA or binary than what is on its disk is restarted: followers
    /// first, leadership moved away before the leader goes, the next only when
    /// the whole cluster is healthy.
    Start,
    /// Stop the units; refused where the cluster would lose quorum by it
    Stop,
    /// Restart all members one by one, whether they need it or not
    Restart,
    /// Say what systemd knows of the units
    Status(status::Args),
    /// Print the last lines of the units' journals
    Logs(logs::Args),
    /// Stop and disable the units and remove their files; the data stay
    Uninstall {
        /// Then delete the data, and with them configuration, certificates, keys
        /// and binaries. Nothing but a snapshot brings the data back
        #[arg(long)]
        purge: bool,
    },
}

impl Tool for Unit {
    fn common(&self) -> &Common {
        &self.common
    }

    fn writes_document(&self) -> bool {
        match &self.command {
            Command::Logs(_) => false,
            Command::Status(args) => !args.wants_table(),
            _ => true,
        }
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        self.take_unit_file(run)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let fleet = Fleet::new(&self.ssh, self.common.jobs)?;
        runtime.block_on(async {
            match &self.command {
                Command::Install => start::install(self, run, &fleet).await,
                Command::Start => start::start(self, run, &fleet).await,
                Command::Restart => start::restart(self, run, &fleet).await,
                Command::Stop => stop::stop(self, run, &fleet, Depth::Stop).await,
                Command::Uninstall { purge: false } => {
                    stop::stop(self, run, &fleet, Depth::Uninstall).await
                }
                Command::Uninstall { purge: true } => {
                    stop::stop(self, run, &fleet, Depth::Purge).await
                }
                Command::Status(args) => status::status(self, run, &fleet, args).await,
                Command::Logs(args) => logs::logs(self, run, &fleet, args).await,
            }
        })
    }
}

impl Unit {
    /// Puts the unit of `--unit-file` into the document.
    fn take_unit_file(&self, run: &mut Run) -> Result<()> {
        let Some(path) = &self.unit_file else { return Ok(()) };
        let content = std::fs::read_to_string(path)
            .with_context(|| format!("{}: reading", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".service") && !name.ends_with(".timer") {
            let what = format!("{}: expected a file NAME.service or NAME.timer", path.display());
            return Err(Error::usage(what).into());
        }
        for at in run.selected() {
            run.document.nodes[at].set_unit(DocumentUnit {
                name: name.clone(),
                enabled: Some(true),
                content: content.clone(),
                status: None,
            });
        }
        Ok(())
    }

    /// The units of `node` to work on.
    fn wanted(&self, node: &Node) -> Vec<WantedUnit> {
        WantedUnit::of(node, self.unit.as_deref())
    }

    /// Asks `nodes` for the states of their units. A node that cannot be asked
    /// is reported, and is not among the results. With `lock`, and another
    /// operator at work on one of them, there are no results at all.
    async fn ask<'a>(
        &self,
        run: &Run,
        fleet: &Fleet,
        nodes: Vec<&'a Node>,
        lock: bool,
    ) -> Vec<NodeState<'a>> {
        let tool = (lock && !self.common.check).then_some("etcd-unit");
        let asked = units::query(fleet, nodes, tool, |node| self.wanted(node)).await;
        let locked = asked.iter().any(|(_, asked)| matches!(asked, Err(remote::Error::Locked(_))));
        let mut nodes = Vec::new();
        for (node, asked) in asked {
            match asked {
                Ok(state) => nodes.push(state),
                Err(error) => run.report(error.on(&node.name)),
            }
        }
        if locked {
            release(fleet, nodes).await;
            return Vec::new();
        }
        nodes
    }
}

/// Frees the locks of all `sites`.
async fn release(fleet: &Fleet, sites: Vec<NodeState<'_>>) {
    fan_out(fleet.jobs(), sites, async |site| {
        if let Some(lock) = site.lock {
            lock.release().await;
        }
    })
    .await;
}
