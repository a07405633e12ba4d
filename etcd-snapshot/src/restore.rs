//! `etcd-snapshot restore`: a snapshot becomes the data of all nodes.
//!
//! Two steps. `--stage` does all that takes long while the old cluster still serves:
//! on each node the release's own tool restores the snapshot into a folder beside the
//! data. Without it what is staged is swapped for the data, by renames, once nothing
//! runs. Both can be killed anywhere: what lies on a node says what is left to do.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use client::{CredentialArgs, Endpoint};
use cluster::fit::{self, Elsewhere, Facts};
use cluster::units::{self, NodeState, UnitState, WantedUnit};
use cluster::{Held, Lease};
use etcd::{Minor, Version, layout};
use indicatif::BinaryBytes;
use pipeline::document::{Cluster, Member, Node};
use pipeline::terminal::Progress;
use pipeline::{Code, Document, IN_WORDS, Run, ToolResult, disk};
use remote::{Error, Fleet, Host, Input, Query, SshArgs, fan_out};
use snapshot::{Summary, Trailer, check};

use crate::verify::not_intact;

/// Says what of a restore lies on a node.
const STATE: &str = concat!(
    include_str!("restore/unit.sh"),
    include_str!("restore/known.sh"),
    include_str!("restore/state.sh")
);

/// The same, and how far the data on it has come.
const STATE_AND_REACHED: &str = concat!(
    include_str!("restore/unit.sh"),
    include_str!("restore/known.sh"),
    include_str!("restore/state.sh"),
    include_str!("restore/reached.sh")
);

/// Restores a snapshot beside the data; the first part runs as root, the second as
/// etcd's user.
const STAGE: [&str; 2] = [
    concat!(include_str!("restore/as_user.sh"), "as_user \"$@\" || exit 1\n"),
    include_str!("restore/stage.sh"),
];

/// Swaps what is staged for the data; its parts are as in [`STAGE`].
const SWAP: [&str; 2] = [
    concat!(
        include_str!("restore/unit.sh"),
        include_str!("restore/as_user.sh"),
        include_str!("restore/swap_as_root.sh")
    ),
    include_str!("restore/swap.sh"),
];

/// How long a node may take for a step of the restore without a word.
const SILENCE: Duration = Duration::from_secs(1800);

/// The first release that can bump revisions: `--bump-revision` of etcdutl.
const BUMPS: Version = Minor::V3_5.patch(10);

/// By multiples of this are revisions raised: a cluster does not write so often between two
/// snapshots.
const RAISE: u64 = 1_000_000_000;

/// How often it may write while this works: between the look at a member and its end, and in
/// a log that no database has yet.
const MARGIN: u64 = RAISE / 10;

/// How much of the SHA-256 stands in the token.
const TOKEN_DIGITS: usize = 16;

/// What a write-ahead log takes: etcd makes its files of 64 MiB before it needs them.
pub(crate) const LOG_BYTES: u64 = 128 << 20;

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
    /// Move data aside even if it is of another cluster, or of another member, than the
    /// rest, the document and the snapshot
    #[arg(long, help_heading = IN_WORDS)]
    replace_other_data: bool,
    /// Members that are not nodes in the document and cannot be reached will never run again
    #[arg(long, help_heading = IN_WORDS)]
    gone_for_good: bool,
    /// Accept a file without the SHA-256 at its end, such as a copy of member/snap/db:
    /// its pages alone are checked
    #[arg(long, requires = "stage", help_heading = IN_WORDS)]
    no_trailer: bool,
    /// Delete the old data, which is otherwise kept aside
    #[arg(long, conflicts_with = "stage", help_heading = IN_WORDS)]
    discard_old: bool,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    ssh: SshArgs,
}

pub(crate) fn restore(run: &mut Run, args: &Args) -> Result<()> {
    let path = args.file.as_path();
    if run.selected().len() < run.document.nodes.len() {
        let why =
            "a cluster is restored on all nodes, or on none: leave out --only and --keep-going";
        return Err(pipeline::Error::usage(why).into());
    }
    // Who cannot ask the members does not find out when all are stopped.
    let access = args.credentials.access(&run.document, None)?;
    for node in &run.document.nodes {
        Endpoint::new(&run.document.client_url(node), &access)?;
    }
    let (sha256, version, summary) = match args.stage {
        false => (disk::sha256_of(path)?, None, None),
        true => match check(path, Trailer::required(!args.no_trailer)) {
            Err(error) => {
                run.report(not_intact(path, &error));
                return Ok(());
            }
            Ok(summary) => (
                summary.sha256.map(hex::encode).unwrap_or_default(),
                summary.version().and_then(|version| version.parse().ok()),
                Some(summary),
            ),
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let job = Job { args, sha256, version, summary };
    if let Some(attempt) = runtime.block_on(job.work(run))? {
        // The restored members have this one, and so must those that are added later.
        let token = job.token(&run.document, attempt);
        run.document.cluster.get_or_insert_with(Cluster::default).token = Some(token);
    }
    Ok(())
}

/// A restore of one file.
struct Job<'a> {
    args: &'a Args,
    /// Of the file, in hex.
    sha256: String,
    /// The etcd that it comes from, where it was read.
    version: Option<Version>,
    /// What it holds, where it was read.
    summary: Option<Summary>,
}

/// What of a restore lies on a node, and which etcd would run on it.
#[derive(Debug, Default)]
pub(crate) struct State {
    version: Option<Version>,
    /// What is staged.
    staged: Option<Stamp>,
    /// The etcd that has staged it.
    release: Option<Version>,
    /// The last restore that was completed.
    restored: Option<Stamp>,
    /// Whether the member has been ready since.
    ready: bool,
    /// Whether it has not, with what was restored.
    was_restored: bool,
    /// The revision that the database of a member which is stopped has.
    reached: u64,
    /// The folders of the data that the last restore moved aside.
    old: Vec<String>,
    /// A process that has the data open, in words.
    open: Option<String>,
    /// How many bytes may be written beside the data, and beside the log when it has a
    /// folder of its own.
    room: Vec<u64>,
}

/// What the stamp of a restore says.
#[derive(Debug, Default)]
struct Stamp {
    /// Of the job, on this node.
    identity: String,
    /// The revision that the restored data begins with.
    revision: String,
    /// How often the cluster was restored from this file, this time included. Each time
    /// it becomes another cluster, so that no member takes another's data for older data
    /// of its own.
    attempt: u32,
    /// Whether the swap has begun.
    begun: bool,
}

/// The revisions of restored data.
struct Revisions {
    /// The first one that is not compacted.
    begin: u64,
    /// How far that is above the snapshot's.
    raise: u64,
}

/// Where a node stands in one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progressed {
    /// Nothing of it is there.
    Bare,
    /// Staged, or in the middle of the swap.
    Staged,
    /// Swapped; the member has not been ready since.
    Restored,
    /// Swapped, and the member has been ready.
    HasRun,
    /// In the middle of the swap for another file.
    OtherBegun,
}

impl Stamp {
    fn read(lines: &[&str]) -> Option<Self> {
        let [identity, revision, attempt, aside @ ..] = lines else { return None };
        Some(Self {
            identity: (*identity).into(),
            revision: (*revision).into(),
            attempt: attempt.parse().ok()?,
            begun: !aside.is_empty(),
        })
    }
}

impl State {
    /// Reads the lines that a node answered.
    pub(crate) fn read(answer: &[String]) -> Self {
        let of = |kind| {
            answer.iter().filter_map(move |line| line.strip_prefix(kind)?.strip_prefix('\t'))
        };
        let stamp = |kind| Stamp::read(&of(kind).collect::<Vec<_>>());
        Self {
            version: of("version").next().and_then(|version| version.parse().ok()),
            staged: stamp("staged"),
            release: of("release").next().and_then(|version| version.parse().ok()),
            restored: stamp("restored"),
            ready: of("mark").next() == Some(layout::MARK_READY),
            was_restored: of("mark").next() == Some(layout::MARK_RESTORED),
            reached: of("reached").find_map(|revision| revision.parse().ok()).unwrap_or_default(),
            old: of("old").map(str::to_owned).collect(),
            open: of("open").next().map(str::to_owned),
            room: of("room").filter_map(|bytes| bytes.parse().ok()).collect(),
        }
    }

    /// Where the node stands in `attempt` of the restore `identity`.
    fn of(&self, identity: &str, attempt: u32) -> Progressed {
        let is = |stamp: &&Stamp| stamp.identity == identity && stamp.attempt == attempt;
        let begun = self.staged.as_ref().is_some_and(|staged| staged.begun);
        if self.staged.as_ref().is_some_and(|staged| is(&staged)) {
            Progressed::Staged
        } else if begun && self.staged.as_ref().is_some_and(|s| s.identity != identity) {
            Progressed::OtherBegun
        } else if self.restored.as_ref().filter(is).is_none() {
            Progressed::Bare
        } else if self.ready {
            Progressed::HasRun
        } else {
            Progressed::Restored
        }
    }

    /// Whether what is staged has the form of the data of the etcd that is there now, or of the
    /// minor version before it, from which etcd goes up.
    fn fits_release(&self) -> bool {
        let (Some(staged), Some(now)) = (self.release, self.version) else { return true };
        [staged.minor(), staged.minor().next()].contains(&now.minor())
    }

    /// The SHA-256 of the snapshot whose restore has begun to replace the data, if the
    /// member has not been ready since.
    pub(crate) fn begun(&self) -> Option<String> {
        let staged = self.staged.as_ref().filter(|staged| staged.begun);
        let stamp = staged.or(self.restored.as_ref().filter(|_| self.was_restored))?;
        stamp.identity.split(' ').next().map(str::to_owned)
    }

    /// Whether what is there is, or becomes, what was restored from the file `sha256`.
    fn is_from(&self, sha256: &str) -> bool {
        let begun = self.staged.as_ref().filter(|staged| staged.begun);
        let mut stamps = begun.into_iter().chain(&self.restored);
        stamps.any(|stamp| stamp.identity.split(' ').next() == Some(sha256))
    }

    /// The last attempt of the restore `identity`; 0 where there was none.
    fn last_attempt(&self, identity: &str) -> u32 {
        let stamps = [&self.staged, &self.restored].into_iter().flatten();
        let own = stamps.filter(|stamp| stamp.identity == identity);
        own.map(|stamp| stamp.attempt).max().unwrap_or_default()
    }
}

/// A node that answered.
struct Target<'a> {
    held: &'a Held<'a>,
    state: State,
    identity: String,
}

impl Target<'_> {
    fn of(&self, attempt: u32) -> Progressed {
        self.state.of(&self.identity, attempt)
    }

    /// The revision that it begins with, or will, where `attempt` was staged.
    fn revision(&self, attempt: u32) -> Option<u64> {
        let stamps = [&self.state.staged, &self.state.restored].into_iter().flatten();
        let mut own = stamps.filter(|stamp| stamp.attempt == attempt);
        own.find(|stamp| stamp.identity == self.identity)?.revision.parse().ok()
    }

    /// Whether its data was swapped in `attempt`, or the swap has begun.
    fn has_begun(&self, attempt: u32) -> bool {
        match self.of(attempt) {
            Progressed::Staged => self.state.staged.as_ref().is_some_and(|staged| staged.begun),
            progressed => [Progressed::Restored, Progressed::HasRun].contains(&progressed),
        }
    }

    /// What the node says of its etcd.
    fn facts(&self) -> Result<Facts, Error> {
        Facts::read(self.held.answers.get(2).map_or(&[], Vec::as_slice))
    }

    /// Why the restored member would be alone after its start.
    fn makes_alone(&self, document: &Document) -> Option<String> {
        let facts = self.facts().ok()?;
        fit::forces_new_cluster(document, self.held.node, &facts)
    }

    /// Why it is not restored where a process has its data open; etcd's unit does not run.
    fn opened(&self) -> Option<String> {
        let process = self.state.open.as_ref()?;
        let unit = layout::UNIT;
        Some(format!(
            "not restored: {process} has its data open, and is not of {unit}: stop it first"
        ))
    }

    /// Whether the member has served what was restored in any attempt.
    fn has_run(&self) -> bool {
        self.state.ready
            && self.state.restored.as_ref().is_some_and(|stamp| stamp.identity == self.identity)
    }
}

impl Job<'_> {
    /// Gives the attempt that was worked on; `None` where nothing could be done.
    async fn work(&self, run: &Run) -> Result<Option<u32>> {
        let fleet = Fleet::new(&self.args.ssh, run.common.jobs)?;
        let progress = Progress::wait(format!("looking at {} nodes", run.document.nodes.len()));
        let queries = |node: &Node| {
            let document = &run.document;
            let units = units::query(&WantedUnit::of(node, None));
            let script = if self.args.stage { STATE_AND_REACHED } else { STATE };
            let state = Query { script, input: state_input(document, node) };
            vec![units, state, fit::query(document, node, &[])]
        };
        let Some(lease) = Lease::take(&fleet, run, "etcd-snapshot", queries).await else {
            return Ok(None);
        };
        let attempt = self.begin(run, &lease, &fleet, &progress).await;
        lease.release().await;
        Ok(attempt)
    }

    async fn begin(
        &self,
        run: &Run,
        lease: &Lease<'_>,
        fleet: &Fleet,
        progress: &Progress,
    ) -> Option<u32> {
        let targets = self.targets(&run.document, lease)?;
        let attempt = self.attempt(&targets);
        let allowed = match self.args.stage {
            true => self.may_stage(run, &targets, attempt),
            false => self.may_swap(run, &targets, attempt),
        };
        let reached = self.may_replace(run, &targets, attempt).await;
        let reached = reached.filter(|_| allowed)?;
        let revisions = self.revisions(&targets, attempt, reached);
        let what = if self.args.stage { "staging on" } else { "swapping on" };
        progress.label(format!("{what} {} nodes", targets.len()));
        if !self.args.stage {
            self.swap_all(run, fleet, &targets, attempt).await;
            return Some(attempt);
        }
        fan_out(fleet.jobs(), targets.iter().collect(), async |target: &Target| {
            if let Err(error) = self.stage(run, target, attempt, &revisions).await {
                run.report(error.on(&target.held.node.name));
            }
        })
        .await;
        Some(attempt)
    }

    /// Swaps on all nodes. What was there before is deleted only when it has been swapped
    /// everywhere.
    async fn swap_all(&self, run: &Run, fleet: &Fleet, targets: &[Target<'_>], attempt: u32) {
        if run.check() {
            targets.iter().for_each(|target| self.would_swap(run, target, attempt));
            return;
        }
        let swap = async |target: &Target<'_>, discard: bool| {
            let done = self.swap(run, target, attempt, discard).await;
            done.map_err(|error| run.report(error.on(&target.held.node.name))).ok()
        };
        let all = || targets.iter().collect();
        let mut swapped =
            fan_out(fleet.jobs(), all(), async |t: &Target| swap(t, false).await).await;
        let discard = self.args.discard_old && swapped.iter().all(Option::is_some);
        if discard {
            let before = swapped;
            swapped = fan_out(fleet.jobs(), all(), async |t: &Target| swap(t, true).await).await;
            for (now, before) in swapped.iter_mut().zip(before) {
                let is_new = before.is_some_and(|before| before.is_new);
                now.iter_mut().for_each(|now| now.is_new = is_new);
            }
        }
        for (target, swapped) in targets.iter().zip(swapped) {
            let Some(swapped) = swapped else { continue };
            run.report(self.restored(&swapped, discard).on(&target.held.node.name));
        }
    }

    /// The attempt to work on: the last one, unless that is over.
    fn attempt(&self, targets: &[Target]) -> u32 {
        let last_of = |target: &Target| target.state.last_attempt(&target.identity);
        let last = targets.iter().map(last_of).max().unwrap_or_default().max(1);
        let count = |progressed| targets.iter().filter(|t| t.of(last) == progressed).count();
        let run = count(Progressed::HasRun);
        // A node that was restored has lost its data since.
        let torn = count(Progressed::Bare) > 0 && run + count(Progressed::Restored) > 0;
        let over = torn || run == targets.len() || (self.args.again && run > 0);
        if self.args.stage && over { last + 1 } else { last }
    }

    /// All nodes of the document. `None` when one of them is missing, which was reported: a
    /// cluster is restored on all nodes, or on none.
    fn targets<'a>(&self, document: &Document, lease: &'a Lease<'a>) -> Option<Vec<Target<'a>>> {
        let target = |held: &'a Held<'a>| {
            let state = State::read(held.answers.get(1).map_or(&[], Vec::as_slice));
            Target { held, state, identity: self.identity(document, held.node) }
        };
        lease.unknown.is_empty().then(|| lease.selected.iter().map(target).collect())
    }

    /// What is restored on `node`, on one line, but for the attempt: two that are the same
    /// need not be done twice.
    fn identity(&self, document: &Document, node: &Node) -> String {
        let settings = document.settings(node);
        let wal = settings.wal_dir.unwrap_or_default();
        let url = document.peer_url(node);
        let cluster = document.initial_cluster();
        let token = self.token(document, 1);
        [&self.sha256, &token, &node.name, &url, &cluster, &settings.data_dir, &wal]
            .map(String::as_str)
            .join(" ")
    }

    /// The token of the cluster that the snapshot becomes.
    fn token(&self, document: &Document, attempt: u32) -> String {
        let name = document.cluster.as_ref().and_then(|cluster| cluster.name.as_deref());
        let digits = &self.sha256[..TOKEN_DIGITS.min(self.sha256.len())];
        let again = if attempt > 1 { format!("-{attempt}") } else { String::new() };
        format!("{}-{digits}{again}", name.unwrap_or("etcd"))
    }

    fn may_stage(&self, run: &Run, targets: &[Target], attempt: u32) -> bool {
        let begun = targets.iter().any(|target| target.has_begun(attempt));
        if !self.args.again && !begun && targets.iter().any(Target::has_run) {
            let message = format!(
                "the cluster was restored from {} already, and has run since: start it if it is \
                 stopped, or pass --again to go back to the snapshot once more",
                self.args.file.display()
            );
            run.report(ToolResult::error(Code::AlreadyRestored, message));
            return false;
        }
        let mut allowed = true;
        let mut refuse = |code: Code, node: &str, why: String| {
            allowed = false;
            run.report(ToolResult::error(code, why).on(node));
        };
        for target in targets {
            let Target { held, state, .. } = target;
            let node = &held.node.name;
            let Some(version) = state.version else {
                let bin = run.document.settings(held.node).bin_dir;
                let why = format!("{bin}/etcd does not run on this host: run etcd-push first");
                refuse(Code::CommandFailed, node, why);
                continue;
            };
            let units = held.answers.first().map_or(&[][..], Vec::as_slice);
            if member_that_runs(held.node, &held.host, units).is_ok_and(|unit| unit.is_none())
                && let Some(why) = target.opened()
            {
                refuse(Code::StillRunning, node, why);
            }
            if let Some(why) = target.makes_alone(&run.document) {
                refuse(Code::Mismatch, node, why);
            }
            if lacks_unit(held) {
                let facts = target.facts();
                let why = match facts.as_ref().ok().and_then(Facts::unit_of_others) {
                    Some(unit) => format!(
                        "its etcd is run by {unit}, and a snapshot is restored only where that is \
                         etcd.service: have it run by a unit of that name, or restore by hand"
                    ),
                    None => "there is no unit etcd.service on the node, nor in the document: what \
                             is restored would not be started: put etcd-fetch, etcd-cert issue, \
                             etcd-render and etcd-push before this tool"
                        .into(),
                };
                refuse(Code::NotStarted, node, why);
            }
            if let Some(data) = self.version.filter(|data| data.minor() > version.minor()) {
                let why = format!(
                    "the snapshot is of etcd {}, and {version} cannot read it: push a release of \
                     {} or newer first",
                    data.minor(),
                    data.minor()
                );
                refuse(Code::Mismatch, node, why);
            }
            if let Some(data) = self.version.filter(|data| data.minor().next() < version.minor()) {
                let (data, next) = (data.minor(), data.minor().next());
                let why = format!(
                    "the snapshot is of etcd {data}, and etcd goes up one minor version at a time: \
                     restore it with a release of {next}, not {version}, then upgrade"
                );
                refuse(Code::Mismatch, node, why);
            }
            match target.of(attempt) {
                Progressed::OtherBegun => refuse(
                    Code::Mismatch,
                    node,
                    "an interrupted restore of another snapshot, or for other nodes, has moved its \
                     data: finish that one first, with its file"
                        .into(),
                ),
                Progressed::Bare => {
                    if let Some(why) = self.no_room(run, target) {
                        refuse(Code::DiskSpace, node, why);
                    }
                }
                _ => {}
            }
        }
        if self.summary.as_ref().is_some_and(|summary| summary.has_space_alarm) {
            let message = format!(
                "{}: the cluster had alarm NOSPACE, and so has what is restored: it takes no \
                 writes until, with a larger quotaBackendBytes or after compact and defrag, \
                 etcdctl alarm disarm",
                self.args.file.display()
            );
            run.report(ToolResult::warning(Code::Alarm, message));
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

    /// Why the restored data, and the snapshot that it is made from, cannot be written
    /// beside what is there.
    fn no_room(&self, run: &Run, target: &Target) -> Option<String> {
        let size = std::fs::metadata(&self.args.file).ok()?.len();
        let settings = run.document.settings(target.held.node);
        let folders = match &settings.wal_dir {
            None => vec![(&settings.data_dir, 2 * size + LOG_BYTES)],
            Some(wal) => vec![(&settings.data_dir, 2 * size), (wal, LOG_BYTES)],
        };
        let mut folders = folders.into_iter().zip(&target.state.room);
        let ((folder, needed), free) = folders.find(|((_, needed), free)| *free < needed)?;
        let (needed, free) = (BinaryBytes(needed), BinaryBytes(*free));
        let old = match &target.state.old[..] {
            [] => String::new(),
            old => format!("; delete the data that the last restore kept: {}", old.join(", ")),
        };
        Some(format!(
            "{folder}: too little space: the restore takes {needed} beside the data that is \
             there, {free} are free{old}"
        ))
    }

    /// The revisions that the restored data begins with, on all nodes: above `reached`, which
    /// the cluster has now, above that of the data on the nodes, and above what it may have
    /// reached since the last restore.
    fn revisions(&self, targets: &[Target], attempt: u32, reached: u64) -> Revisions {
        let first = self.summary.as_ref().map_or(0, |summary| summary.revision);
        // All nodes must begin with the same.
        let mut begun = targets.iter().filter(|target| target.has_begun(attempt));
        if let Some(begun) = begun.find_map(|target| target.revision(attempt)) {
            return Revisions { begin: begun, raise: begun.saturating_sub(first) };
        }
        let bumps = |target: &Target| target.state.version.is_some_and(|version| version >= BUMPS);
        if self.args.keep_revision || !targets.iter().all(bumps) {
            return Revisions { begin: first, raise: 0 };
        }
        let restored = targets.iter().filter_map(|target| target.state.restored.as_ref());
        let last = restored.filter_map(|stamp| stamp.revision.parse::<u64>().ok()).max();
        let stopped = targets.iter().map(|target| target.state.reached).max();
        let reached = reached.max(stopped.unwrap_or_default());
        let floor = (reached + MARGIN).max(last.map_or(0, |last| last + RAISE));
        let raise = floor.saturating_sub(first).div_ceil(RAISE).max(1) * RAISE;
        Revisions { begin: first + raise, raise }
    }

    /// Whether it is this cluster's data that is moved aside, and nobody goes on serving
    /// beside the restored one. Then it gives the revision that the cluster has reached, as
    /// far as anybody tells.
    async fn may_replace(&self, run: &Run, targets: &[Target<'_>], attempt: u32) -> Option<u64> {
        let mut nodes = Vec::new();
        for target in targets {
            let held = target.held;
            match target.facts() {
                Ok(facts) => nodes.push((held.node, &held.host, facts)),
                Err(error) => run.report(error.on(&held.node.name)),
            }
        }
        let is_new = |node: &Node| {
            let target = targets.iter().find(|target| target.held.node.name == node.name);
            target.is_some_and(|target| target.has_begun(attempt))
        };
        let members: Vec<_> = self.summary.iter().flat_map(|summary| &summary.members).collect();
        let is_of_snapshot = |(node, _, facts): &(&Node, _, Facts)| {
            let id = facts.member(&run.document, node);
            members.iter().any(|member| Some(member.id.as_str()) == id)
        };
        // It is their cluster that is replaced, or nothing becomes of them.
        let concerned = nodes.iter().any(is_of_snapshot);
        let recorded = members.iter().filter(|_| concerned).map(|member| Elsewhere {
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
        });
        let recorded = recorded.collect();
        let mut replaced =
            fit::replaced(&run.document, &nodes, &self.args.credentials, recorded, is_new).await;
        if self.args.replace_other_data {
            replaced.others_data.clear();
        }
        self.warn_of_learners(run, &replaced.members);
        let advice = ", or pass --replace-other-data to move it aside, too";
        replaced.others_data.iter_mut().for_each(|result| result.message += advice);
        if !self.args.replace_other_data {
            let restored = targets.iter().any(|target| target.state.is_from(&self.sha256));
            let other = self.of_another_cluster(run, &nodes, &replaced.members);
            replaced.others_data.extend(other.filter(|_| !restored));
        }
        if self.args.gone_for_good {
            replaced.unreachable.clear();
        }
        let advice = ", or pass --gone-for-good if it will never run again";
        replaced.unreachable.iter_mut().for_each(|result| result.message += advice);
        let found = [replaced.others_data, replaced.moved, replaced.serving, replaced.unreachable];
        let refused: Vec<_> = found.into_iter().flatten().collect();
        let allowed = refused.is_empty() && nodes.len() == targets.len();
        refused.into_iter().for_each(|result| run.report(result));
        allowed.then_some(replaced.revision)
    }

    /// Why the snapshot is not of the cluster whose data it is to replace: it has no member in
    /// common with `members`, who serve, nor with the data and the addresses of the `nodes`.
    fn of_another_cluster(
        &self,
        run: &Run,
        nodes: &[(&Node, &Host, Facts)],
        members: &[Member],
    ) -> Option<ToolResult> {
        let document = &run.document;
        let theirs = &self.summary.as_ref()?.members;
        let data: Vec<_> =
            nodes.iter().filter_map(|(node, _, facts)| facts.member(document, node)).collect();
        if theirs.is_empty() || data.is_empty() {
            return None;
        }
        let urls: Vec<_> = document.nodes.iter().map(|node| document.peer_url(node)).collect();
        let is_ours = |member: &snapshot::Member| {
            let mut ids = members.iter().map(|member| member.id.as_str()).chain(data.clone());
            let mut urls = members.iter().flat_map(|member| &member.peer_urls).chain(&urls);
            ids.any(|id| id == member.id) || urls.any(|url| member.peer_urls.contains(url))
        };
        if theirs.iter().any(is_ours) {
            return None;
        }
        let name = |member: &snapshot::Member| {
            let url = member.peer_urls.first().map(String::as_str).unwrap_or_default();
            format!("{} at {url}", member.name)
        };
        let message = format!(
            "{}: it is of another cluster, with the members {}, and none of them is one of that \
             on the nodes: name a snapshot of this cluster, or pass --replace-other-data to move \
             its data aside",
            self.args.file.display(),
            theirs.iter().map(name).collect::<Vec<_>>().join(", ")
        );
        Some(ToolResult::error(Code::Mismatch, message))
    }

    /// Warns of nodes that are learners among `members`, and will not be any more.
    fn warn_of_learners(&self, run: &Run, members: &[Member]) {
        let is_node = |member: &&Member| run.document.nodes.iter().any(|n| n.name == member.name);
        let learners = members.iter().filter(|member| member.is_learner).filter(is_node);
        for learner in learners.filter(|_| self.args.stage) {
            let why = "it is a learner now, and will be a voting member: to do without it, leave \
                       it out of the document";
            run.report(ToolResult::warning(Code::Learner, why).on(&learner.name));
        }
    }

    fn may_swap(&self, run: &Run, targets: &[Target], attempt: u32) -> bool {
        let mut allowed = true;
        for target in targets {
            let held = target.held;
            let units = held.answers.first().map_or(&[][..], Vec::as_slice);
            let result = match member_that_runs(held.node, &held.host, units) {
                Err(error) => Some(error.on(&held.node.name)),
                Ok(None) if target.state.open.is_some() => {
                    target.opened().map(|why| ToolResult::error(Code::StillRunning, why))
                }
                Ok(Some(unit)) => {
                    let why = format!(
                        "not restored: {unit} is running: stop all members first: \
                         etcd-unit stop --lose-quorum"
                    );
                    Some(ToolResult::error(Code::StillRunning, why))
                }
                Ok(None)
                    if [Progressed::Bare, Progressed::OtherBegun].contains(&target.of(attempt)) =>
                {
                    let file = self.args.file.display();
                    let why = format!(
                        "not restored: {file} is not staged here for these nodes: run \
                         etcd-snapshot restore --stage {file} first"
                    );
                    Some(ToolResult::error(Code::NotStaged, why))
                }
                // Members that begin with different revisions would be one cluster with
                // different data.
                Ok(None) if target.revision(attempt) != targets[0].revision(attempt) => {
                    let why = format!(
                        "not restored: what is staged here has other revisions than on {}: run \
                         etcd-snapshot restore --stage {} again",
                        targets[0].held.node.name,
                        self.args.file.display()
                    );
                    Some(ToolResult::error(Code::NotStaged, why))
                }
                Ok(None) if !target.state.fits_release() => {
                    let version = |of: Option<Version>| of.map(|v| v.to_string());
                    let why = format!(
                        "not restored: it was staged with etcd {}, and {} is there now: put that \
                         release back, or run etcd-snapshot restore --stage {} again",
                        version(target.state.release).unwrap_or_default(),
                        version(target.state.version).unwrap_or_default(),
                        self.args.file.display()
                    );
                    Some(ToolResult::error(Code::NotStaged, why))
                }
                Ok(None) => target
                    .makes_alone(&run.document)
                    .map(|why| ToolResult::error(Code::Mismatch, format!("not restored: {why}"))),
            };
            if let Some(result) = result {
                allowed = false;
                run.report(result.on(&held.node.name));
            }
        }
        allowed
    }

    async fn stage(
        &self,
        run: &Run,
        target: &Target<'_>,
        attempt: u32,
        revisions: &Revisions,
    ) -> Result<(), Error> {
        let Target { held: Held { node, host, .. }, state, identity } = target;
        let (revision, raise) = (revisions.begin.to_string(), revisions.raise.to_string());
        let has_trailer = self.summary.as_ref().is_none_or(|summary| summary.has_trailer);
        let hash = if has_trailer { "" } else { "skip" };
        let file = self.args.file.display();
        let has_this_revision = state.staged.as_ref().is_some_and(|is| is.revision == revision);
        let unchanged = |what: &str| {
            let message = format!("{file} is {what} already");
            run.report(ToolResult::unchanged(Code::UpToDate, message).on(&node.name));
            Ok(())
        };
        match target.of(attempt) {
            Progressed::Staged
                if target.has_begun(attempt) || (has_this_revision && state.fits_release()) =>
            {
                return unchanged("staged");
            }
            Progressed::Restored | Progressed::HasRun => return unchanged("restored"),
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
        let (url, token) = (run.document.peer_url(node), self.token(&run.document, attempt));
        let attempt = attempt.to_string();
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
            identity,
            &revision,
            &attempt,
            hash,
            &raise,
            &node.name,
            &cluster,
            &token,
            &url,
        ];
        host.change(script, &args, &input, SILENCE).await?;
        let raised = match revisions.raise {
            0 => "revisions as they are".to_owned(),
            raise => format!("revisions raised by {raise}"),
        };
        let message = format!("staged {file} in {}/etcd-restore, {raised}", settings.data_dir);
        run.report(ToolResult::changed(Code::Staged, message).on(&node.name));
        Ok(())
    }

    fn would_swap(&self, run: &Run, target: &Target<'_>, attempt: u32) {
        let file = self.args.file.display();
        let old = target.state.old.join(", ");
        let result = match (target.of(attempt), self.args.discard_old) {
            (Progressed::Staged, false) => {
                ToolResult::would_change(format!("would restore {file}"))
            }
            (Progressed::Staged, true) => ToolResult::would_change(format!(
                "would restore {file} and delete the data that is there now"
            )),
            (_, true) if !old.is_empty() => ToolResult::would_change(format!(
                "{file} is restored already; would delete the old data in {old}"
            )),
            _ => ToolResult::unchanged(Code::UpToDate, format!("{file} is restored already")),
        };
        run.report(result.on(&target.held.node.name));
    }

    async fn swap(
        &self,
        run: &Run,
        target: &Target<'_>,
        attempt: u32,
        discard: bool,
    ) -> Result<Swapped, Error> {
        let Target { held: Held { node, host, .. }, identity, .. } = target;
        let settings = run.document.settings(node);
        let wal = settings.wal_dir.unwrap_or_default();
        let mark = layout::member_mark(&settings.config_dir);
        let attempt = attempt.to_string();
        let discard = if discard { "discard" } else { "" };
        let [script, as_user] = SWAP;
        let args = [
            &*settings.user,
            &settings.data_dir,
            as_user,
            &mark,
            &wal,
            identity,
            &attempt,
            discard,
        ];
        let mut swapped = Swapped::default();
        for line in &host.change(script, &args, &[], SILENCE).await? {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["swapped"] => swapped.is_new = true,
                ["old", folder, bytes] => {
                    let size = BinaryBytes(bytes.parse().unwrap_or_default());
                    swapped.old.push(format!("{folder} ({size})"));
                }
                _ => {
                    let why = format!("unexpected output of the node: {line:?}");
                    return Err(Error::CommandFailed(why));
                }
            }
        }
        Ok(swapped)
    }

    /// What is said of a node on which it was swapped, with the data of before deleted or not.
    fn restored(&self, Swapped { is_new, old }: &Swapped, deleted: bool) -> ToolResult {
        let file = self.args.file.display();
        let old = match (old.is_empty(), deleted) {
            (true, _) => String::new(),
            (false, true) => format!("; deleted the old data in {}", old.join(", ")),
            (false, false) => format!("; the old data is in {}", old.join(", ")),
        };
        if *is_new {
            ToolResult::changed(Code::Restored, format!("restored {file}{old}"))
        } else if deleted && !old.is_empty() {
            ToolResult::changed(Code::Restored, format!("{file} was restored already{old}"))
        } else {
            ToolResult::unchanged(Code::UpToDate, format!("{file} is restored already{old}"))
        }
    }
}

/// A node on which the swap is done.
#[derive(Default)]
struct Swapped {
    /// Whether this run has done it.
    is_new: bool,
    /// Where the data of before is, and its size.
    old: Vec<String>,
}

/// Where a node has what is restored, one a line.
pub(crate) fn state_input(document: &Document, node: &Node) -> Vec<u8> {
    let settings = document.settings(node);
    let wal = settings.wal_dir.unwrap_or_default();
    let mark = layout::member_mark(&settings.config_dir);
    let lines = [settings.data_dir, wal, settings.bin_dir, settings.user, mark].join("\n") + "\n";
    lines.into_bytes()
}

/// Whether nothing could start etcd on a node, judged from its answer to the query for units.
fn lacks_unit(held: &Held) -> bool {
    let units = held.answers.first().map_or(&[][..], Vec::as_slice);
    let state = NodeState::read(held.node, &held.host, WantedUnit::of(held.node, None), units);
    let lacks = |node: &NodeState, wanted: &WantedUnit, unit: &UnitState| {
        node.is_member(wanted, unit) && wanted.unit.is_none() && unit.is_missing()
    };
    state.is_ok_and(|node| node.units.iter().any(|(wanted, unit)| lacks(&node, wanted, unit)))
}

/// The unit of etcd that is not down on a node, from its answer to the query for units.
pub(crate) fn member_that_runs(
    node: &Node,
    host: &Host,
    answer: &[String],
) -> Result<Option<String>, Error> {
    let state = NodeState::read(node, host, WantedUnit::of(node, None), answer)?;
    let up =
        state.units.iter().find(|(wanted, unit)| state.is_member(wanted, unit) && !unit.is_down());
    Ok(up.map(|(wanted, _)| wanted.name.clone()))
}
