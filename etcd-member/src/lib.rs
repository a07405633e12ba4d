//! `etcd-member`: the members of a cluster: `list`, `add`, `promote`, `remove`, `replace`,
//! `update`.
//!
//! The commands that change something hold the locks of all nodes, and make one change
//! after the other, each allowed by the guard of `cluster`.

mod add;
mod change;
mod list;
mod remove;
mod update;

use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use client::CredentialArgs;
use cluster::route::Via;
use pipeline::{Common, Examples, IN_WORDS, Run, Tool, terminal};
use remote::SshArgs;

/// The members of an etcd cluster: list, add, promote, remove, replace
///
/// Members are matched with the nodes of the document by their exact peer URL or name,
/// and named by their ID, their exact name or their exact peer URL. Certificates and the
/// user are found as etcd-health finds them.
///
/// The commands that change something hold the locks of all nodes, and compare the
/// document with what is on them: they work on a document, and take no --endpoints. For a
/// cluster that has none yet, `list --endpoints URL -o nodes` makes one.
#[derive(Debug, Parser)]
#[command(name = "etcd-member", version)]
pub struct Member {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    ssh: SshArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the members, with quorum or without
    ///
    /// The list is that of the endpoint that is to be trusted most. The endpoints are
    /// those of --endpoints; else those of the nodes of the document; else, without a
    /// document, those of ETCD_TOOLS_ENDPOINTS or ETCDCTL_ENDPOINTS.
    List(list::Args),
    /// Add the nodes that are no members yet, as learners, one in each run
    ///
    /// Stands between etcd-cert and etcd-render. The node that is added gets the
    /// initialClusterState and initialCluster to join with; those that have to wait
    /// for the next run are left out of the document. Where all nodes are members, or
    /// there is no cluster yet, nothing is done.
    Add(AddArgs),
    /// Promote the learners among the nodes to voting members, once they have caught up
    Promote(ChangeArgs),
    /// Remove a member from the cluster, and its node from the document
    ///
    /// Leadership is moved off it first.
    Remove(RemoveArgs),
    /// Remove a member whose node has lost its data, or has another address or name now,
    /// so that the node can be added again
    ///
    /// Stands before etcd-member add. The document says where the member is to be from
    /// now on. A member whose data is on its node is left as it is.
    Replace(RemoveArgs),
    /// Tell the cluster that a node has another address, or another port for peers
    ///
    /// For a member that is on that host, with its data, and for one in each run, which is
    /// then restarted, before the next one. Where it listens at that address already, the
    /// others find it again, and nothing speaks against that.
    Update(UpdateArgs),
}

/// How the members are changed.
#[derive(Debug, Clone, Copy, clap::Args)]
struct ChangeArgs {
    /// How to reach the members: over ssh at their client port on their nodes, or directly at
    /// their URLs
    #[arg(long, value_enum, default_value = "ssh")]
    via: Via,
    /// Wait this many seconds for what etcd refuses for a moment only: right after
    /// another change, or while a learner catches up
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = pipeline::parse_seconds)]
    timeout: Duration,
}

/// What may be accepted of every change of the voters.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Risks {
    /// Proceed even if the cluster loses quorum
    #[arg(long, help_heading = IN_WORDS)]
    lose_quorum: bool,
    /// Proceed even if no member may fail afterwards
    #[arg(long, help_heading = IN_WORDS)]
    lose_margin: bool,
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// Proceed even if a voter is missing and no other may fail
    #[arg(long, help_heading = IN_WORDS)]
    lose_margin: bool,
    /// Add a learner even if there is one
    ///
    /// etcd refuses it unless it was started with a higher limit.
    #[arg(long, help_heading = IN_WORDS)]
    allow_second_learner: bool,
}

#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// The member: its ID, exact name or exact peer URL
    #[arg(value_name = "NAME|ID")]
    member: String,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    risks: Risks,
}

#[derive(Debug, clap::Args)]
struct UpdateArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// Proceed even if the cluster loses quorum
    #[arg(long, help_heading = IN_WORDS)]
    lose_quorum: bool,
}

impl Tool for Member {
    fn common(&self) -> &Common {
        &self.common
    }

    fn examples(command: &str) -> Examples {
        match command {
            "etcd-member" => &[
                ("Who is a member?", "etcd-member list nodes.txt"),
                (
                    "Take on a cluster that others deployed:",
                    "etcd-member list --endpoints https://10.0.0.1:2379 -o nodes > nodes.txt",
                ),
            ],
            "list" => &[
                ("With quorum or without:", "etcd-member list nodes.txt"),
                (
                    "A node list of a running cluster:",
                    "etcd-member list --endpoints https://10.0.0.1:2379 --cacert ca.crt \\\n  --cert c.crt --key c.key -o nodes > nodes.txt",
                ),
                (
                    "What kube-apiserver is to have as --etcd-servers:",
                    "etcd-member list -o endpoints nodes.txt",
                ),
            ],
            "add" => &[(
                "The next node of the list that is no member yet:",
                "etcd-fetch < nodes.txt | etcd-cert issue | etcd-member add | etcd-render | \\\n  etcd-push | etcd-unit start | etcd-member promote | etcd-health --wait",
            )],
            "promote" => &[(
                "Wait up to ten minutes for the learner to catch up:",
                "etcd-member promote --timeout 600 cluster.json > /dev/null",
            )],
            "remove" => &[(
                "Out of the cluster and of the document:",
                "etcd-member remove etcd-03 < cluster.json > smaller.json",
            )],
            "replace" => &[(
                "A node whose disk was lost, to be added again:",
                "etcd-member replace etcd-02 < cluster.json | etcd-member add > added.json",
            )],
            "update" => &[(
                "A member on another port for peers, one after the other:",
                "export ETCD_TOOLS_ONLY=etcd-03\n\
                 etcd-fetch < cluster.json | etcd-cert issue | etcd-member update | \
                 etcd-render \\\n  | etcd-push | etcd-unit start | etcd-health --wait",
            )],
            _ => &[],
        }
    }

    fn without(command: &str) -> &'static [&'static str] {
        match command {
            "list" => &["check", "lock_timeout"],
            // They name the member.
            "remove" | "replace" => &["only"],
            _ => &[],
        }
    }

    fn reads_stdin(&self) -> bool {
        match &self.command {
            Command::List(args) => args.reads_stdin(),
            _ => true,
        }
    }

    fn works_without_document(&self) -> bool {
        // Else a pipe that failed would report on the cluster of a variable.
        let lists = matches!(self.command, Command::List(_));
        !self.reads_stdin() || (lists && terminal::nothing_piped_in())
    }

    fn writes_document(&self) -> bool {
        match &self.command {
            Command::List(args) => args.writes_document(),
            _ => true,
        }
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let done = runtime.block_on(async {
            match &self.command {
                Command::List(args) => list::list(self, run, args).await,
                Command::Add(args) => add::add(self, run, args).await,
                Command::Promote(args) => add::promote(self, run, *args).await,
                Command::Remove(args) => remove::remove(self, run, args).await,
                Command::Replace(args) => remove::replace(self, run, args).await,
                Command::Update(args) => update::update(self, run, args).await,
            }
        });
        // A name server that does not answer must not hold up the end.
        runtime.shutdown_background();
        done
    }
}
