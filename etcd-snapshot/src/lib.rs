//! `etcd-snapshot`: backups of etcd that are known to be good.
//!
//! `save` streams the snapshot of one member into a file and checks it before
//! the file has its name; `verify` and `status` read any snapshot without
//! etcd's own tools; `prune` removes old ones by rules.

mod metrics;
mod name;
mod prune;
mod retention;
mod save;
mod source;
mod status;
mod target;
mod verify;

use anyhow::Result;
use clap::{Parser, Subcommand};
use pipeline::{Common, Run, Tool, terminal};

/// Snapshots of etcd: save, verify, status, prune
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
    Status(status::Args),
    /// Remove old snapshots from a folder, and keep those that the rules name
    ///
    /// The rules are those of restic, and times are in UTC. Only files named as save
    /// names them are counted and removed, and never the newest that verifies.
    Prune(prune::Args),
}

impl Tool for Snapshot {
    fn common(&self) -> &Common {
        &self.common
    }

    fn reads_stdin(&self) -> bool {
        matches!(&self.command, Command::Save(args) if args.reads_stdin())
    }

    fn works_without_document(&self) -> bool {
        // Else a pipe that failed would save the cluster of ETCDCTL_ENDPOINTS.
        !self.reads_stdin() || terminal::nothing_piped_in()
    }

    fn writes_document(&self) -> bool {
        matches!(&self.command, Command::Save(args) if args.writes_document())
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        match &self.command {
            Command::Save(args) => save::save(run, args),
            Command::Verify(args) => verify::verify(run, args),
            Command::Status(args) => status::status(run, args),
            Command::Prune(args) => prune::prune(run, args),
        }
    }
}
