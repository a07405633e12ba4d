//! `etcd-snapshot restore`: a snapshot becomes the data of all nodes.
//!
//! Two steps. `--stage` does all that takes long while the old cluster still serves:
//! on each node the release's own tool restores the snapshot into a folder beside the
//! data. Without it what is staged is swapped for the data, by renames, once nothing
//! runs. Both can be killed anywhere: what lies on a node says what is left to do.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use cluster::units::{self, NodeState, WantedUnit, is_member};
use cluster::{Held, Lease};
use etcd::{Minor, Version};
use indicatif::BinaryBytes;
use pipeline::document::{Cluster, Node};
use pipeline::terminal::Progress;
use pipeline::{Code, Document, IN_WORDS, Run, ToolResult, disk};
use remote::{Error, Fleet, Input, Query, SshArgs, fan_out};
use snapshot::{Trailer, check};

use crate::verify::not_intact;

/// Says what of a restore lies on a node.
const STATE: &str = concat!(include_str!("restore/common.sh"), include_str!("restore/state.sh"));

/// Restores a snapshot beside the data; the first part runs as root, the second as
/// etcd's user.
const STAGE: [&str; 2] = [
    concat!(include_str!("restore/as_user.sh"), "as_user \"$@\" || exit 1\n"),
    concat!(include_str!("restore/common.sh"), include_str!("restore/stage.sh")),
];

/// Swaps what is staged for the data; its parts are as in [`STAGE`].
const SWAP: [&str; 2] = [
    concat!(include_str!("restore/as_user.sh"), include_str!("restore/not_open.sh")),
    include_str!("restore/swap.sh"),
];

/// How long a node may take for a step of the restore without a word.
const SILENCE: Duration = Duration::from_secs(1800);

/// The first release that can bump revisions: `--bump-revision` of etcdutl.
const BUMPS: Version = Minor::V3_5.patch(10);

/// How much of the SHA-256 stands in the token.
const TOKEN_DIGITS: usize = 16;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only check the snapshot, send it to all nodes, and restore it there beside
    /// the data; etcd may run
    #[arg(long)]
    stage: bool,
    /// Restore this snapshot once more, though the cluster was restored from it and
    /// has run since: what was written since is no longer served
    #[arg(long, requires = "stage", help_heading = IN_WORDS)]
    again: bool,
    /// Do not bump revisions: watches and informers see them go backwards
    #[arg(long, requires = "stage", help_heading = IN_WORDS)]
    keep_revision: bool,
    /// Delete the old data, which is otherwise kept aside
    #[arg(long, conflicts_with = "stage", help_heading = IN_WORDS)]
    discard_old: bool,
    #[command(flatten)]
    ssh: SshArgs,
}

pub(crate) fn restore(run: &mut Run, args: &Args) -> Result<()> {
    let path = args.file.as_path();
    let (sha256, version) = match args.stage {
        false => (disk::sha256_of(path)?, None),
        true => match check(path, Trailer::Required) {
            Err(error) => {
                run.report(not_intact(path, &error));
                return Ok(());
            }
            Ok(summary) => {
                let sha256 = summary.sha256.map(hex::encode).unwrap_or_default();
                (sha256, summary.version().and_then(|version| version.parse().ok()))
            }
        },
    };
    let token = token(&run.document, &sha256);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let job = Job { args, sha256, version, token: token.clone() };
    runtime.block_on(job.work(run))?;
    // The restored members have this one, and so must those that are added later.
    run.document.cluster.get_or_insert_with(Cluster::default).token = Some(token);
    Ok(())
}

/// The token of the cluster that the snapshot with this hash becomes.
fn token(document: &Document, sha256: &str) -> String {
    let name = document.cluster.as_ref().and_then(|cluster| cluster.name.as_deref());
    format!("{}-{}", name.unwrap_or("etcd"), &sha256[..TOKEN_DIGITS.min(sha256.len())])
}

/// A restore of one file.
struct Job<'a> {
    args: &'a Args,
    /// Of the file, in hex.
    sha256: String,
    /// The etcd that it comes from, where it was read.
    version: Option<Version>,
    token: String,
}

/// What of a restore lies on a node, and which etcd would run on it.
#[derive(Debug, Default)]
struct State {
    version: Option<Version>,
    /// The lines of the stamp: what is staged, `bumped` or `kept`, the hash of the log;
    /// once the swap has begun, where the old data goes.
    staged: Vec<String>,
    /// The same lines of the last restore that was completed.
    restored: Vec<String>,
    /// The hash of the log that lies there now.
    log: Option<String>,
}

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progressed {
    /// Nothing of this file is there.
    Bare,
    /// Staged, or in the middle of the swap.
    Staged,
    /// Swapped; etcd has not written since.
    Restored,
    /// Swapped, and etcd has written since.
    HasRun,
    /// In the middle of the swap for another file.
    OtherBegun,
}

impl State {
    fn read(answer: &[String]) -> Self {
        let mut state = Self::default();
        for line in answer {
            match line.split_once('\t') {
                Some(("version", version)) => state.version = version.parse().ok(),
                Some(("staged", line)) => state.staged.push(line.into()),
                Some(("restored", line)) => state.restored.push(line.into()),
                Some(("log", log)) => state.log = Some(log.into()),
                _ => {}
            }
        }
        state
    }

    fn of(&self, identity: &str) -> Progressed {
        let is = |lines: &[String]| lines.first().is_some_and(|line| line == identity);
        if is(&self.staged) {
            Progressed::Staged
        } else if self.staged.len() > 3 {
            Progressed::OtherBegun
        } else if !is(&self.restored) {
            Progressed::Bare
        } else if self.restored.get(2) == self.log.as_ref() {
            Progressed::Restored
        } else {
            Progressed::HasRun
        }
    }
}

/// A node that answered.
struct Target<'a> {
    held: &'a Held<'a>,
    state: State,
    progressed: Progressed,
}

impl Job<'_> {
    async fn work(&self, run: &Run) -> Result<()> {
        let fleet = Fleet::new(&self.args.ssh, run.common.jobs)?;
        let progress = Progress::wait(format!("looking at {} nodes", run.document.nodes.len()));
        let queries = |node: &Node| {
            vec![units::query(&WantedUnit::of(node, None)), state_query(&run.document, node)]
        };
        let Some(lease) = Lease::take(&fleet, run, "etcd-snapshot", queries).await else {
            return Ok(());
        };
        if let Some(targets) = self.targets(run, &lease) {
            let allowed = match self.args.stage {
                true => self.may_stage(run, &targets),
                false => self.may_swap(run, &targets),
            };
            if allowed {
                let what = if self.args.stage { "staging on" } else { "swapping on" };
                progress.label(format!("{what} {} nodes", lease.selected.len()));
                let selected = targets.iter().take(lease.selected.len()).collect();
                fan_out(fleet.jobs(), selected, async |target: &Target| {
                    let done = match self.args.stage {
                        true => self.stage(run, target).await,
                        false => self.swap(run, target).await,
                    };
                    if let Err(error) = done {
                        run.report(error.on(&target.held.node.name));
                    }
                })
                .await;
            }
        }
        lease.release().await;
        Ok(())
    }

    /// All nodes of the document, those to work on first. `None` when one of them is
    /// missing, which is reported: a cluster is restored on all nodes, or on none.
    fn targets<'a>(&self, run: &Run, lease: &'a Lease<'a>) -> Option<Vec<Target<'a>>> {
        for (node, error) in &lease.unknown {
            // Those to work on were reported.
            if !run.failed(&node.name) {
                run.report(error.on(&node.name));
            }
        }
        let target = |held: &'a Held<'a>| {
            let state = State::read(held.answers.get(1).map_or(&[], Vec::as_slice));
            let progressed = state.of(&self.identity(&run.document, held.node));
            Target { held, state, progressed }
        };
        let targets = lease.selected.iter().chain(&lease.others).map(target).collect();
        lease.unknown.is_empty().then_some(targets)
    }

    /// What is restored on `node`, on one line: two that are the same need not be done
    /// twice.
    fn identity(&self, document: &Document, node: &Node) -> String {
        let settings = document.settings(node);
        let wal = settings.wal_dir.unwrap_or_default();
        let url = document.peer_url(node);
        let cluster = document.initial_cluster();
        [&self.sha256, &self.token, &node.name, &url, &cluster, &settings.data_dir, &wal]
            .map(String::as_str)
            .join(" ")
    }

    fn may_stage(&self, run: &Run, targets: &[Target]) -> bool {
        let mut allowed = true;
        let mut refuse = |code: Code, node: &str, why: String| {
            allowed = false;
            run.report(ToolResult::error(code, why).on(node));
        };
        // One that is not swapped yet is what an interrupted run has left.
        let unfinished = targets.iter().any(|target| target.progressed == Progressed::Staged);
        for Target { held, state, progressed } in targets {
            let node = &held.node.name;
            let Some(version) = state.version else {
                let bin = run.document.settings(held.node).bin_dir;
                let why = format!("{bin}/etcd does not run on this host: run etcd-push first");
                refuse(Code::CommandFailed, node, why);
                continue;
            };
            if let Some(data) = self.version.filter(|data| data.minor() > version.minor()) {
                let why = format!(
                    "the snapshot is of etcd {}, and {version} cannot read it: push a release of \
                     {} or newer first",
                    data.minor(),
                    data.minor()
                );
                refuse(Code::Mismatch, node, why);
            }
            match progressed {
                Progressed::OtherBegun => refuse(
                    Code::Mismatch,
                    node,
                    "an interrupted restore of another snapshot, or for other nodes, has moved its \
                     data: finish that one first, with its file"
                        .into(),
                ),
                Progressed::HasRun if !self.args.again && !unfinished => refuse(
                    Code::AlreadyRestored,
                    node,
                    format!(
                        "was restored from {} already, and has run since: start it if it is \
                         stopped, or pass --again to go back to the snapshot once more",
                        self.args.file.display()
                    ),
                ),
                _ => {}
            }
        }
        if allowed && !self.args.keep_revision {
            let older = |target: &&Target| target.state.version.is_some_and(|v| v < BUMPS);
            if let Some(target) = targets.iter().find(older) {
                let version = target.state.version.map(|v| v.to_string()).unwrap_or_default();
                let message = format!(
                    "{version} cannot bump revisions, so they go backwards (v3.5.10 and newer \
                     can): stop every kube-apiserver before the swap, then start them and restart \
                     all that watches: kube-controller-manager, kube-scheduler, kubelets, operators"
                );
                run.report(ToolResult::warning(Code::RevisionsGoBack, message));
            }
        }
        allowed
    }

    fn may_swap(&self, run: &Run, targets: &[Target]) -> bool {
        let mut allowed = true;
        for Target { held, progressed, .. } in targets {
            let result = match runs(held) {
                Err(error) => Some(error.on(&held.node.name)),
                Ok(Some(unit)) => {
                    let why = format!(
                        "not restored: {unit} is running: stop all members first: \
                         etcd-unit stop --lose-quorum"
                    );
                    Some(ToolResult::error(Code::StillRunning, why))
                }
                Ok(None) if [Progressed::Bare, Progressed::OtherBegun].contains(progressed) => {
                    let file = self.args.file.display();
                    let why = format!(
                        "not restored: {file} is not staged here for these nodes: run \
                         etcd-snapshot restore --stage {file} first"
                    );
                    Some(ToolResult::error(Code::NotStaged, why))
                }
                Ok(None) => None,
            };
            if let Some(result) = result {
                allowed = false;
                run.report(result.on(&held.node.name));
            }
        }
        allowed
    }

    async fn stage(&self, run: &Run, target: &Target<'_>) -> Result<(), Error> {
        let Target { held: Held { node, host, .. }, state, progressed } = target;
        let bumped = !self.args.keep_revision && state.version.is_some_and(|v| v >= BUMPS);
        let revision = if bumped { "bumped" } else { "kept" };
        let file = self.args.file.display();
        let has_this_revision = state.staged.get(1).is_some_and(|is| is == revision);
        let begun = state.staged.len() > 3;
        let unchanged = |what: &str| {
            let message = format!("{file} is {what} already");
            run.report(ToolResult::unchanged(Code::UpToDate, message).on(&node.name));
            Ok(())
        };
        match progressed {
            Progressed::Staged if has_this_revision || begun => return unchanged("staged"),
            Progressed::Restored => return unchanged("restored"),
            Progressed::HasRun if !self.args.again => return unchanged("restored"),
            _ => {}
        }
        if run.check() {
            let would = format!("would stage {file}");
            run.report(ToolResult::would_change(would).on(&node.name));
            return Ok(());
        }
        let size = std::fs::metadata(&self.args.file).map(|file| file.len());
        let size = size.map_err(|error| Error::CommandFailed(format!("{file}: {error}")))?;
        let settings = run.document.settings(node);
        let wal = settings.wal_dir.unwrap_or_default();
        let (identity, url) = (self.identity(&run.document, node), run.document.peer_url(node));
        let (bytes, cluster) = (size.to_string(), run.document.initial_cluster());
        let input = [Input::File { path: self.args.file.clone(), size }];
        let [script, as_user] = STAGE;
        let args = [
            &*settings.user,
            &settings.data_dir,
            as_user,
            &wal,
            &settings.bin_dir,
            &bytes,
            &self.sha256,
            &identity,
            revision,
            &node.name,
            &cluster,
            &self.token,
            &url,
        ];
        host.change(script, &args, &input, SILENCE).await?;
        let revisions = if bumped { "revisions bumped" } else { "revisions as they are" };
        let message = format!("staged {file} in {}/etcd-restore, {revisions}", settings.data_dir);
        run.report(ToolResult::changed(Code::Staged, message).on(&node.name));
        Ok(())
    }

    async fn swap(&self, run: &Run, target: &Target<'_>) -> Result<(), Error> {
        let Held { node, host, .. } = target.held;
        let file = self.args.file.display();
        if run.check() {
            let result = match target.progressed {
                Progressed::Staged => ToolResult::would_change(format!("would restore {file}")),
                _ => ToolResult::unchanged(Code::UpToDate, format!("{file} is restored already")),
            };
            run.report(result.on(&node.name));
            return Ok(());
        }
        let settings = run.document.settings(node);
        let wal = settings.wal_dir.unwrap_or_default();
        let identity = self.identity(&run.document, node);
        let discard = if self.args.discard_old { "discard" } else { "" };
        let [script, as_user] = SWAP;
        let args = [&*settings.user, &settings.data_dir, as_user, &wal, &identity, discard];
        let answer = host.change(script, &args, &[], SILENCE).await?;
        let mut swapped = false;
        let mut old = Vec::new();
        for line in &answer {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["swapped"] => swapped = true,
                ["old", folder, bytes] => {
                    let size = BinaryBytes(bytes.parse().unwrap_or_default());
                    old.push(format!("{folder} ({size})"));
                }
                _ => {
                    let why = format!("unexpected output of the node: {line:?}");
                    return Err(Error::CommandFailed(why));
                }
            }
        }
        let old = match (old.is_empty(), self.args.discard_old) {
            (true, _) => String::new(),
            (false, true) => format!("; deleted the old data in {}", old.join(", ")),
            (false, false) => format!("; the old data is in {}", old.join(", ")),
        };
        let result = match swapped {
            true => ToolResult::changed(Code::Restored, format!("restored {file}{old}")),
            false if self.args.discard_old && !old.is_empty() => {
                ToolResult::changed(Code::Restored, format!("{file} was restored already{old}"))
            }
            false => {
                let message = format!("{file} is restored already{old}");
                ToolResult::unchanged(Code::UpToDate, message)
            }
        };
        run.report(result.on(&node.name));
        Ok(())
    }
}

fn state_query(document: &Document, node: &Node) -> Query {
    let settings = document.settings(node);
    let wal = settings.wal_dir.unwrap_or_default();
    let lines = [settings.data_dir, wal, settings.bin_dir, settings.user].join("\n") + "\n";
    Query { script: STATE, input: lines.into_bytes() }
}

/// The unit of etcd that is not down on a node.
fn runs(held: &Held) -> Result<Option<String>, Error> {
    let answer = held.answers.first().map_or(&[][..], Vec::as_slice);
    let state = NodeState::read(held.node, &held.host, WantedUnit::of(held.node, None), answer)?;
    let up = state.units.iter().find(|(wanted, unit)| is_member(wanted, unit) && !unit.is_down());
    Ok(up.map(|(wanted, _)| wanted.name.clone()))
}
