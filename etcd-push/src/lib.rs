//! `etcd-push`: files to nodes over SSH, atomically, only what differs.
//!
//! Per node there are two exchanges: `state.sh` says what is there, and
//! `apply.sh` puts in place what differs. All that can fail for want of space
//! or permission is done beside the targets, before the first of them is touched.

mod apply;
mod manifest;
mod places;
mod stage;
mod state;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, bail};
use client::CredentialArgs;
use cluster::fit::{self, Allowed, Purpose};
use cluster::{Held, Lease, wal};
use pipeline::document::{File, Node};
use pipeline::terminal::Progress;
use pipeline::{Code, Common, Examples, IN_WORDS, Run, Tool, ToolResult, disk};
use remote::{Error, Fleet, Query, SshArgs, fan_out};

use crate::apply::Plan;
use crate::manifest::Manifest;

/// How long a step on a node may take, e.g. to sync what was written.
const SILENCE: Duration = Duration::from_secs(300);

/// Push files to hosts over SSH, atomically, only what differs
///
/// Puts in place what the document lists for each node: system users, folders,
/// files, and the release of `etcd-fetch`. A file is written beside its target,
/// checked, given its owner and mode, synced and renamed, so that nobody ever
/// sees half of it. A document with only nodes[].files is enough.
///
/// The release is unpacked in /usr/local/lib/etcd-tools/VERSION-HASH, and links
/// in the folder for binaries lead there; older releases are kept.
#[derive(Debug, clap::Parser)]
#[command(name = "etcd-push", version)]
pub struct Push {
    /// Push this file of this machine to all nodes, beside what the document lists
    /// (may be repeated) [default: mode 0644, owner root; the group is named as the owner]
    #[arg(long, value_name = "LOCAL:REMOTE[:MODE[:OWNER[:GROUP]]]", value_parser = local_file)]
    file: Vec<File>,
    /// Hash the unpacked release on the nodes again, too, not only the files
    #[arg(long)]
    verify: bool,
    /// Replace the CA on the nodes even if the new one does not contain it:
    /// whoever trusts only the old one is cut off, and everybody until the members have been
    /// restarted: see etcd-cert ca --help
    #[arg(long, help_heading = IN_WORDS)]
    replace_ca: bool,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    ssh: SshArgs,
    #[command(flatten)]
    common: Common,
}

impl Tool for Push {
    fn common(&self) -> &Common {
        &self.common
    }

    fn examples(_: &str) -> Examples {
        &[
            (
                "All that the document lists:",
                "etcd-render < cluster.json | etcd-push | etcd-unit start",
            ),
            (
                "One file to all nodes, from a script:",
                "etcd-push --file motd:/etc/motd:0644 nodes.txt > /dev/null",
            ),
            (
                "What would change, as diffs:",
                "etcd-render cluster.json | etcd-push --check > /dev/null",
            ),
        ]
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        for (at, file) in self.file.iter().enumerate() {
            if self.file[..at].iter().any(|other| other.path == file.path) {
                bail!(pipeline::Error::usage(format!("--file: {}: given twice", file.path)));
            }
        }
        for at in run.selected() {
            for file in &self.file {
                run.document.nodes[at].set_file(file.clone());
            }
        }
        if !self.file.is_empty() {
            run.check_document()?;
        }
        let manifests = manifest::of(run)?;
        self.refuse_ca_key(run, &manifests)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.push(run, &manifests))
    }
}

/// Reads `LOCAL:REMOTE[:MODE[:OWNER[:GROUP]]]`; without a group it is that of the owner's
/// name.
fn local_file(text: &str) -> Result<File, String> {
    let (local, remote) = text.split_once(":/").filter(|(local, _)| !local.is_empty()).ok_or(
        "expected LOCAL:REMOTE[:MODE[:OWNER[:GROUP]]], REMOTE from the root, e.g. motd:/etc/motd:0644",
    )?;
    let mut parts = remote.split(':');
    let path = format!("/{}", parts.next().unwrap_or_default());
    let mode = parts.next().unwrap_or("0644").to_owned();
    let owner = parts.next().unwrap_or("root").to_owned();
    let group = parts.next().unwrap_or(&owner).to_owned();
    if parts.next().is_some() {
        return Err("too many parts: expected LOCAL:REMOTE[:MODE[:OWNER[:GROUP]]]".into());
    }
    let local = std::path::absolute(local).map_err(|error| format!("{local}: {error}"))?;
    let local = local.to_str().ok_or("not UTF-8")?.to_owned();
    Ok(File {
        path,
        mode,
        owner,
        group,
        absent: false,
        content: None,
        local: Some(local),
        sha256: None,
        pending: false,
    })
}

/// Reports each node that the release does not fit, or where a link leads to what is etcd's;
/// whether there is one, and so nothing may be written on any.
fn refuses(run: &Run, lease: &Lease, of: &HashMap<&str, &Manifest<'_>>) -> bool {
    let mut refused = wal::refuses(run, lease, 2);
    for held in &lease.selected {
        let answer = held.answers.get(1).map_or(&[][..], Vec::as_slice);
        let machine = answer.iter().find_map(|line| line.strip_prefix("machine\t"));
        let manifest = of.get(held.node.name.as_str());
        let other_machine = manifest.and_then(|manifest| manifest.other_machine(machine?));
        let why = other_machine.or_else(|| manifest.and_then(|m| m.hidden(answer)));
        if let Some(why) = why {
            run.report(Error::CommandFailed(why).on(&held.node.name));
            refused = true;
        }
    }
    refused
}

/// What would be done on a node, and the texts that are there.
type Shown<'a> = (&'a Manifest<'a>, Plan<'a>, state::State, HashMap<String, String>);

impl Push {
    /// Whoever has the CA's key can be anybody: it stays on this machine.
    fn refuse_ca_key(&self, run: &Run, manifests: &[Manifest<'_>]) -> Result<()> {
        let ca = self.credentials.ca(&run.document);
        let Some(Ok(key)) = ca.map(|ca| disk::sha256_of(&ca.with_file_name("ca.key"))) else {
            return Ok(());
        };
        let mut files =
            manifests.iter().flat_map(|m| m.files.iter().map(move |wanted| (m, wanted)));
        let Some((manifest, wanted)) = files.find(|(_, wanted)| wanted.sha256 == key) else {
            return Ok(());
        };
        let (node, path) = (&manifest.node.name, &wanted.file.path);
        let why =
            "the key of the CA, with which anybody could be issued: it stays here: leave it out";
        bail!(pipeline::Error::bad_input(format!("{node}: {path}: {why}")))
    }

    async fn push(&self, run: &Run, manifests: &[Manifest<'_>]) -> Result<()> {
        let fleet = Fleet::new(&self.ssh, self.common.jobs)?;
        let progress = Progress::wait(format!("looking at {} nodes", manifests.len()));
        let of: HashMap<_, _> = manifests.iter().map(|m| (m.node.name.as_str(), m)).collect();
        let document = &run.document;
        // Other files have nothing to do with any cluster.
        let touches_etcd = document.nodes.iter().any(|node| fit::touches_etcd(document, node));
        let facts = |node: &Node, binaries: &[String]| match touches_etcd {
            true => fit::query(document, node, binaries),
            false => Query::NOTHING,
        };
        let queries = |node: &Node| match of.get(node.name.as_str()) {
            Some(manifest) => {
                let facts = facts(node, &manifest.etcd_binaries());
                let files = manifest.query(self.verify);
                [facts, files].into_iter().chain(wal::query(document, node)).collect()
            }
            None => vec![facts(node, &[])],
        };
        let Some(lease) = Lease::take(&fleet, run, "etcd-push", queries).await else {
            return Ok(());
        };
        let purpose = Purpose::Push { replace_ca: self.replace_ca };
        let fit = fit::allows(run, &lease, purpose, &self.credentials).await;
        let Some(fit) = fit.filter(|_| !refuses(run, &lease, &of)) else {
            lease.release().await;
            return Ok(());
        };
        progress.label(format!("writing to {} nodes", manifests.len()));
        let shown = fan_out(fleet.jobs(), lease.selected.iter().collect(), async |held: &Held| {
            let manifest = of.get(held.node.name.as_str())?;
            self.finish(run, manifest, held, &fit).await
        })
        .await;
        lease.release().await;
        // Node by node, whichever was the first to answer.
        for (manifest, plan, state, texts) in shown.into_iter().flatten() {
            plan.show(run, manifest, &state, &texts);
        }
        Ok(())
    }

    /// Does what is to be done on a node. With `--check` nothing is done, and what there
    /// would be is given, to be shown.
    async fn finish<'a>(
        &self,
        run: &Run,
        manifest: &'a Manifest<'a>,
        held: &Held<'_>,
        fit: &Allowed,
    ) -> Option<Shown<'a>> {
        let name = &manifest.node.name;
        let done = async {
            let state = state::State::read(held.answers.get(1).map_or(&[], Vec::as_slice))?;
            let plan = Plan::new(manifest, &state, fit.facts(name))?;
            let mut texts = HashMap::new();
            if self.common.check {
                texts = state.texts(&held.host, plan.differing()).await?;
            } else if !plan.is_empty() {
                let (size, input) = plan.input()?;
                held.host.change(apply::SCRIPT, &[&size], &input, SILENCE).await?;
                run.report(ToolResult::changed(Code::Pushed, plan.summary()).on(name));
            }
            Ok((manifest, plan, state, texts))
        };
        match done.await {
            Ok((_, plan, ..)) if plan.is_empty() => {
                let message = format!("{} already in place", manifest.count());
                run.report(ToolResult::unchanged(Code::UpToDate, message).on(name));
            }
            Ok(shown) => return Some(shown).filter(|_| self.common.check),
            Err(error) => run.report(Error::on(&error, name)),
        }
        None
    }
}
