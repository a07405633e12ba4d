//! `etcd-push`: files to nodes over SSH, atomically, only what differs.
//!
//! Per node there are two exchanges: `state.sh` says what is there, and
//! `apply.sh` puts in place what differs. All that can fail for want of space
//! or permission is done beside the targets, before the first of them is touched.

mod apply;
mod manifest;
mod state;

use anyhow::Result;
use pipeline::document::Node;
use pipeline::terminal::Progress;
use pipeline::{Common, Run, Tool, ToolResult};
use remote::{Error, Fleet, Host, Lock, SshArgs, fan_out};

use crate::apply::Plan;
use crate::manifest::Manifest;

/// Push files to hosts over SSH, atomically, only what differs
///
/// Puts in place what the document lists for each node: system users, folders,
/// files, and the release of `etcd-fetch`. A file is written beside its target,
/// checked, given its owner and mode, synced and renamed, so that nobody ever
/// sees half of it. A document with only nodes[].files is enough.
///
/// The release is unpacked in /usr/local/lib/etcd-tools/VERSION-HASH, and links
/// in the folder for binaries lead there; releases of before are left.
#[derive(Debug, clap::Parser)]
#[command(name = "etcd-push", version)]
pub struct Push {
    /// Hash the unpacked release on the nodes again, too, not only the files
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    ssh: SshArgs,
    #[command(flatten)]
    common: Common,
}

impl Tool for Push {
    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        let manifests = manifest::of(run)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.push(run, &manifests))
    }
}

impl Push {
    async fn push(&self, run: &Run, manifests: &[Manifest<'_>]) -> Result<()> {
        let fleet = Fleet::new(&self.ssh, self.common.jobs)?;
        let progress = Progress::wait(format!("looking at {} nodes", manifests.len()));
        let of = |node: &Node| manifests.iter().find(|m| m.node.name == node.name);
        let looked = fleet
            .each(run.nodes(), async |node, host| match of(node) {
                Some(manifest) => self.look(manifest, host).await.map(|seen| (manifest, seen)),
                None => Err(Error::CommandFailed("no manifest".into())),
            })
            .await;
        // Another operator on one node is reason enough to leave all of them alone.
        let locked = looked.iter().any(|(_, seen)| matches!(seen, Err(Error::Locked(_))));
        progress.label(format!("writing to {} nodes", manifests.len()));
        fan_out(fleet.jobs(), looked, async |(node, seen)| match seen {
            Ok((manifest, seen)) => {
                if !locked {
                    self.finish(run, manifest, &seen).await;
                }
                if let Some(lock) = seen.lock {
                    lock.release().await;
                }
            }
            Err(error) => run.report(error.on(&node.name)),
        })
        .await;
        Ok(())
    }

    async fn look(&self, manifest: &Manifest<'_>, host: Host) -> Result<Seen, Error> {
        let lock = async {
            if self.common.check { Ok(None) } else { host.lock("etcd-push").await.map(Some) }
        };
        let input = manifest.questions(self.common.check);
        let arguments = [if self.verify { "verify" } else { "" }];
        let state = host.run(state::SCRIPT, &arguments, &input);
        let (lock, answer) = futures::future::try_join(lock, state).await?;
        Ok(Seen { host, lock, answer })
    }

    async fn finish(&self, run: &Run, manifest: &Manifest<'_>, seen: &Seen) {
        let name = &manifest.node.name;
        let done = async {
            let state = state::State::read(&seen.answer)?;
            let plan = Plan::new(manifest, &state)?;
            if self.common.check {
                plan.show(run, manifest, &state);
            } else if !plan.is_empty() {
                seen.host.run(apply::SCRIPT, &[], &plan.input()).await?;
                run.report(ToolResult::changed("pushed", plan.summary()).on(name));
            }
            Ok(plan)
        };
        match done.await {
            Ok(plan) if plan.is_empty() => {
                let message = format!("{} already in place", manifest.count());
                run.report(ToolResult::unchanged("up-to-date", message).on(name));
            }
            Ok(_) => {}
            Err(error) => run.report(Error::on(&error, name)),
        }
    }
}

/// A node that answered.
struct Seen {
    host: Host,
    lock: Option<Lock>,
    answer: Vec<String>,
}
