//! `etcd-unit`: the systemd units of a cluster's nodes.
//!
//! Per node there is one exchange that learns the state (`state.sh`) and one
//! that changes it (`change.sh`); a restart one by one is one more per member.

mod beside;
mod logs;
mod rolling;
mod start;
mod status;
mod stop;
mod turn;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use client::CredentialArgs;
use cluster::fit::{self, Allowed, Purpose};
use cluster::units::{self, NodeState, WantedUnit};
use cluster::{Held, Lease, wal};
use pipeline::document::{Node, Unit as DocumentUnit};
use pipeline::{Common, Error, Examples, IN_WORDS, Run, Tool, disk, has_private_key, unit_name};
use remote::{Fleet, SshArgs};

use crate::stop::Removal;

/// The most that a unit file has, in bytes.
const UNIT_FILE_BYTES: u64 = 1 << 20;

/// Install, start, stop and restart the systemd units of a cluster's nodes
#[derive(Debug, Parser)]
#[command(name = "etcd-unit", version)]
pub struct Unit {
    #[command(subcommand)]
    command: Command,
    /// Work on this unit only [default: those of the document, else etcd.service]
    #[arg(long, global = true, value_name = "NAME", value_parser = unit_name)]
    unit: Option<String>,
    /// Install this unit file; takes precedence over the document's unit of that name
    #[arg(long, global = true, value_name = "FILE")]
    unit_file: Option<PathBuf>,
    /// Wait this many seconds for a unit to start or stop, and for the cluster
    /// to be healthy after each restart
    #[arg(long, global = true, value_name = "SECONDS", default_value = "120",
          value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// Proceed even if the cluster loses quorum
    #[arg(long, global = true, help_heading = IN_WORDS)]
    lose_quorum: bool,
    #[command(flatten)]
    credentials: CredentialArgs,
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
    /// restart, one by one, members that are running something outdated
    ///
    /// Members that are stopped are started all at once, whatever --jobs says, and
    /// each is waited for until it is ready; one that has data, only when the one before
    /// answers, since etcd first compares its data with that of the others. A member
    /// that is running an outdated configuration, unit, CA or binary is restarted:
    /// followers first, leadership moved away before the leader goes, the next only
    /// when the one before is back and the whole cluster is healthy. Other units are
    /// started and restarted on all nodes at once; where an etcd runs beside them, on one
    /// node after the other, and on none while the cluster cannot do without that etcd.
    Start,
    /// Stop the units; refuses if the cluster would lose quorum
    Stop {
        /// Stop what is left of a cluster that has lost quorum, all at once; refuses
        /// unless that is certain
        #[arg(long, help_heading = IN_WORDS, conflicts_with = "lose_quorum")]
        quorum_is_lost: bool,
        /// With --quorum-is-lost: members that are not in the document and cannot be reached
        /// will never run again
        #[arg(long, help_heading = IN_WORDS, requires = "quorum_is_lost")]
        gone_for_good: bool,
    },
    /// Restart all members one by one, whether they need it or not
    Restart,
    /// Report what systemd knows of the units
    Status(status::Args),
    /// Print the last lines of the units' journals, or what comes
    Logs(logs::Args),
    /// Stop and disable the units and remove their files; the data is kept
    Uninstall {
        /// Then delete the data, and with them configuration, certificates, keys
        /// and binaries. Nothing but a snapshot brings the data back
        #[arg(long, help_heading = IN_WORDS)]
        purge: bool,
    },
}

/// What has no effect where nothing is changed, and etcd is not asked.
const READING: &[&str] = &[
    "check",
    "lock_timeout",
    "lose_quorum",
    "unit_file",
    "timeout",
    "cacert",
    "cert",
    "key",
    "pki",
];

impl Tool for Unit {
    fn common(&self) -> &Common {
        &self.common
    }

    fn examples(command: &str) -> Examples {
        match command {
            "etcd-unit" => &[
                (
                    "Install and start etcd, restart one by one whoever needs it:",
                    "etcd-unit start < cluster.json",
                ),
                ("What systemd knows of it on all nodes:", "etcd-unit status nodes.txt"),
                (
                    "The last lines of one node's journal:",
                    "etcd-unit logs --only etcd-02 nodes.txt",
                ),
            ],
            "install" => &[(
                "Unit files in place and enabled, nothing started:",
                "etcd-unit install < cluster.json",
            )],
            "start" => &[
                (
                    "After files were pushed:",
                    "etcd-push < cluster.json | etcd-unit start | etcd-health --wait",
                ),
                (
                    "Which members would be restarted?",
                    "etcd-unit start --check cluster.json > /dev/null",
                ),
                (
                    "A unit of your own on all nodes:",
                    "etcd-unit start --unit node-agent.service nodes.txt > /dev/null",
                ),
            ],
            "restart" => &[(
                "One member at a time, each caught up before the next:",
                "etcd-unit restart cluster.json > /dev/null",
            )],
            "stop" => &[
                (
                    "One node for maintenance, if the others are a quorum:",
                    "etcd-unit stop --only etcd-02 cluster.json > /dev/null",
                ),
                ("The whole cluster:", "etcd-unit stop --lose-quorum cluster.json > /dev/null"),
            ],
            "uninstall" => &[(
                "Off the hosts; the data stay:",
                "etcd-unit uninstall --lose-quorum cluster.json > /dev/null",
            )],
            "status" => &[
                ("A table of all nodes:", "etcd-unit status -o table nodes.txt"),
                (
                    "Any unit, for a script:",
                    "etcd-unit status --unit chrony.service -o json nodes.txt | \\\n  jq -r '.results[] | .node + \" \" + .code'",
                ),
            ],
            "logs" => &[
                ("The last 100 lines of each node:", "etcd-unit logs -n 100 nodes.txt"),
                ("What comes, from all nodes:", "etcd-unit logs -f nodes.txt"),
                (
                    "The last hour of one node:",
                    "etcd-unit logs --since -1h --only etcd-02 nodes.txt",
                ),
            ],
            _ => &[],
        }
    }

    fn without(command: &str) -> &'static [&'static str] {
        match command {
            "status" | "logs" => READING,
            _ => &[],
        }
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
                Command::Stop { .. } => stop::stop(self, run, &fleet, Removal::Stop).await,
                Command::Uninstall { purge: false } => {
                    stop::stop(self, run, &fleet, Removal::Uninstall).await
                }
                Command::Uninstall { purge: true } => {
                    stop::stop(self, run, &fleet, Removal::Purge).await
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
        let content = disk::read_text(path, UNIT_FILE_BYTES)
            .with_context(|| format!("{}: reading", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        unit_name(&name).map_err(|why| Error::usage(format!("{}: {why}", path.display())))?;
        if has_private_key(&content) {
            let message = "contains a private key, and others may read a unit: keep it in a file \
                           of its own, and name that in the unit";
            return Err(Error::bad_input(format!("{}: {message}", path.display())).into());
        }
        if content.trim().is_empty() {
            let message = "empty, which masks the unit: expected the text of a unit";
            return Err(Error::bad_input(format!("{}: {message}", path.display())).into());
        }
        for at in run.selected() {
            run.document.nodes[at].set_unit(DocumentUnit {
                name: name.clone(),
                // Others cannot be enabled: what needs them starts them.
                enabled: units::has_install_section(&content).then_some(true),
                started: None,
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

    /// Locks all nodes of the document, and asks those to work on for their units.
    /// `None` where another operator is at work, which has been reported.
    async fn lease<'a>(&self, run: &'a Run, fleet: &Fleet) -> Option<Lease<'a>> {
        let selected: Vec<_> = run.nodes().iter().map(|node| &node.name).collect();
        let fit = |node: &Node| {
            let etcd = format!("{}/etcd", run.document.settings(node).bin_dir);
            fit::query(&run.document, node, &[etcd])
        };
        let starts = matches!(self.command, Command::Start | Command::Restart);
        let queries = |node: &Node| {
            let mut queries = vec![fit(node)];
            if selected.contains(&&node.name) {
                let wanted = self.wanted(node);
                queries.push(units::query(&wanted));
                let reads = starts && wanted.iter().any(is_etcd);
                queries.extend(reads.then(|| wal::query(&run.document, node)).flatten());
            }
            queries
        };
        Lease::take(fleet, run, "etcd-unit", queries).await
    }

    /// Compares the document with what is on the nodes; see [`fit::allows`] and
    /// [`wal::refuses`].
    async fn allows(&self, run: &Run, lease: &Lease<'_>) -> Option<Allowed> {
        let member = run.nodes().iter().any(|node| self.wanted(node).iter().any(is_etcd));
        let fit = fit::allows(run, lease, Purpose::Start { member }, &self.credentials).await;
        fit.filter(|_| !wal::refuses(run, lease, 2))
    }

    /// The states of the nodes to work on; what cannot be understood is reported.
    fn states<'a>(&self, run: &Run, lease: &'a Lease<'_>) -> Vec<NodeState<'a>> {
        let state = |held: &'a Held<'_>| {
            let answer = held.answers.get(1).map_or(&[][..], Vec::as_slice);
            NodeState::read(held.node, &held.host, self.wanted(held.node), answer)
                .map_err(|error| run.report(error.on(&held.node.name)))
                .ok()
        };
        lease.selected.iter().filter_map(state).collect()
    }
}

/// Whether the unit is etcd's own.
fn is_etcd(wanted: &WantedUnit) -> bool {
    wanted.name == units::ETCD
}
