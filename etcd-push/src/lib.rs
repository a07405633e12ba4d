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
use pipeline::{Code, Common, Run, Tool, ToolResult};
use remote::{Asked, Error, Fleet, SshArgs, fan_out, locked};

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
        let lock = (!self.common.check).then_some("etcd-push");
        let asked = fleet
            .ask(run.nodes(), lock, state::SCRIPT, &[], |node| {
                of(node).map(|m| m.questions(self.common.check, self.verify)).unwrap_or_default()
            })
            .await;
        // Another operator on one node is reason enough to leave all of them alone.
        let locked = locked(&asked);
        progress.label(format!("writing to {} nodes", manifests.len()));
        fan_out(fleet.jobs(), asked, async |(node, asked)| match asked {
            Ok(asked) => {
                if let Some(manifest) = of(node).filter(|_| !locked) {
                    self.finish(run, manifest, &asked).await;
                }
                if let Some(lock) = asked.lock {
                    lock.release().await;
                }
            }
            Err(error) => run.report(error.on(&node.name)),
        })
        .await;
        Ok(())
    }

    async fn finish(&self, run: &Run, manifest: &Manifest<'_>, asked: &Asked) {
        let name = &manifest.node.name;
        let done = async {
            let state = state::State::read(&asked.answer)?;
            let plan = Plan::new(manifest, &state)?;
            if self.common.check {
                plan.show(run, manifest, &state);
            } else if !plan.is_empty() {
                asked.host.change(apply::SCRIPT, &plan.input()).await?;
                run.report(ToolResult::changed(Code::Pushed, plan.summary()).on(name));
            }
            Ok(plan)
        };
        match done.await {
            Ok(plan) if plan.is_empty() => {
                let message = format!("{} already in place", manifest.count());
                run.report(ToolResult::unchanged(Code::UpToDate, message).on(name));
            }
            Ok(_) => {}
            Err(error) => run.report(Error::on(&error, name)),
        }
    }
}
