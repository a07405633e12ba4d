//! `etcd-snapshot`: backups of etcd that are known to be good.
//!
//! `save` streams the snapshot of one member into a file and checks it before
//! the file has its name; `verify` and `status` read any snapshot without
//! etcd's own tools; `prune` removes old ones by rules; `restore` makes one the data of
//! all nodes.

mod metrics;
mod name;
mod offline;
mod prune;
mod restore;
mod retention;
mod save;
mod source;
mod status;
mod target;
mod verify;

use anyhow::Result;
use clap::{Parser, Subcommand};
use pipeline::{Common, Examples, Run, Tool, terminal};

/// Snapshots of etcd: save, verify, status, prune, restore
#[derive(Debug, Parser)]
#[command(name = "etcd-snapshot", version)]
pub struct Snapshot {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Save a snapshot of the cluster, verified before it gets its name
    ///
    /// It is taken from one healthy voting follower, the one that lags least, else
    /// from the leader. Endpoints, certificates and the user are found as
    /// etcd-health finds them; with authentication on, the user needs the role root.
    Save(save::Args),
    /// Check snapshot files: the SHA-256 at the end, and every page
    Verify(verify::Args),
    /// Tell what snapshot files hold, as etcdutl snapshot status does; they are
    /// checked as by verify
    ///
    /// Keys are counted as by etcdutl: of a cluster that was restored with raised
    /// revisions one more than clients find, the empty key with which etcd's tool
    /// raises them.
    Status(status::Args),
    /// Remove old snapshots from a folder, and keep those that the rules name
    ///
    /// The rules are those of restic, and times are in UTC. Only files named as save
    /// names them are counted and removed, and never the newest that verifies. One that is
    /// cut off, or no snapshot at all, is not counted, stays, and is warned of.
    Prune(prune::Args),
    /// Restore a snapshot on all nodes, as a new cluster: first --stage, then, when
    /// all members are stopped, without it
    ///
    /// etcd-snapshot restore --stage FILE < cluster.json | etcd-unit stop --lose-quorum
    /// | etcd-snapshot restore FILE | etcd-unit start | etcd-health --wait
    ///
    /// --stage sends the snapshot to all nodes and restores it there beside the data,
    /// with the release that was pushed. Then all nodes are swapped, or none: each
    /// must be staged, and nothing may run. The old data is moved aside, and the
    /// results say where to. Revisions are raised by 1,000,000,000, so that none that
    /// a client has seen comes again, and watches of before end with an error. Either
    /// step can be interrupted and run again.
    Restore(restore::Args),
}

impl Tool for Snapshot {
    fn common(&self) -> &Common {
        &self.common
    }

    fn examples(command: &str) -> Examples {
        match command {
            "etcd-snapshot" => &[
                (
                    "A snapshot that is known to be good:",
                    "etcd-snapshot save --to /backup/ < cluster.json > /dev/null",
                ),
                ("Are the old ones, too?", "etcd-snapshot verify /backup/*.db"),
            ],
            "save" => &[
                (
                    "Into a folder, with metrics for node_exporter:",
                    "etcd-snapshot save --to /backup/ --metrics /var/lib/node_exporter/etcd.prom \\\n  < cluster.json > /dev/null",
                ),
                (
                    "Encrypted, off this machine:",
                    "etcd-snapshot save --to - cluster.json | age -r age1… > snapshot.age",
                ),
                (
                    "Of a member that still serves though quorum is lost:",
                    "etcd-snapshot save --from etcd-02 --to last.db < cluster.json > /dev/null",
                ),
            ],
            "verify" => &[
                ("All of a folder:", "etcd-snapshot verify /backup/*.db"),
                (
                    "A copy of a database that no tool made:",
                    "etcd-snapshot verify --no-trailer member/snap/db",
                ),
            ],
            "status" => &[("What is in it:", "etcd-snapshot status -o table /backup/*.db")],
            "prune" => &[
                (
                    "A week of days, a month of weeks, a year of months:",
                    "etcd-snapshot prune /backup --keep-last 3 --keep-daily 7 --keep-weekly 4 \\\n  --keep-monthly 12",
                ),
                ("What would go?", "etcd-snapshot prune --check --keep-last 3 /backup"),
            ],
            "restore" => &[(
                "Stage while the old cluster serves, then swap:",
                "etcd-snapshot restore --stage last.db < cluster.json | \\\n  etcd-unit stop --lose-quorum | etcd-snapshot restore last.db | \\\n  etcd-unit start | etcd-health --wait",
            )],
            _ => &[],
        }
    }

    fn without(command: &str) -> &'static [&'static str] {
        match command {
            "save" => &[],
            "restore" => &["only", "keep_going"],
            "prune" => {
                &["document", "keep_going", "strict", "only", "jobs", "lock_timeout", "verbose"]
            }
            _ => &[
                "document",
                "check",
                "keep_going",
                "strict",
                "only",
                "jobs",
                "lock_timeout",
                "verbose",
            ],
        }
    }

    fn reads_stdin(&self) -> bool {
        match &self.command {
            Command::Save(args) => args.reads_stdin(),
            Command::Restore(_) => true,
            _ => false,
        }
    }

    fn works_without_document(&self) -> bool {
        // Else a pipe that failed would save the cluster of a variable.
        !self.reads_stdin()
            || (matches!(&self.command, Command::Save(_)) && terminal::nothing_piped_in())
    }

    fn writes_document(&self) -> bool {
        match &self.command {
            Command::Save(args) => args.writes_document(),
            Command::Restore(_) => true,
            _ => false,
        }
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        match &self.command {
            Command::Save(args) => save::save(run, args),
            Command::Verify(args) => verify::verify(run, args),
            Command::Status(args) => status::status(run, args),
            Command::Prune(args) => prune::prune(run, args),
            Command::Restore(args) => restore::restore(run, args),
        }
    }
}
