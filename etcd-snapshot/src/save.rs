//! `etcd-snapshot save`: one member's snapshot, verified before it gets its name.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use client::{Endpoint, EndpointArgs, SnapshotStream, Targets};
use cluster::route::Route;
use indicatif::BinaryBytes;
use pipeline::terminal::{self, Progress};
use pipeline::{Code, Error, Exit, Run, ToolResult, disk, document, parse_seconds, rfc3339};
use remote::{Fleet, SshArgs};
use snapshot::{StreamHash, Streamed, Summary, TRAILER_BYTES, Trailer, check};
use time::OffsetDateTime;
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::name::Name;
use crate::offline::{self, Copies, Copy};
use crate::source;
use crate::target::{Part, Target, plain_io, writable};
use crate::verify::in_words;

/// How long a member may send nothing, where that is not given.
const SILENCE: Duration = Duration::from_secs(30);

/// How many pieces, of 32 KiB each, may wait for the disk.
const PIECES: usize = 32;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to put the snapshot: a file, a folder, or - for stdout
    ///
    /// In a folder it is named by its time and revision, e.g.
    /// etcd-snapshot-20261128T203500Z-r1042.db. On stdout it cannot be read back,
    /// so that only its SHA-256 is checked, and no document is written.
    #[arg(long, value_name = "TARGET")]
    to: String,
    /// Take the snapshot from this member, healthy or not, with quorum or without
    ///
    /// A node of the document, or one of --endpoints.
    #[arg(long, value_name = "NODE")]
    from: Option<String>,
    /// Save what a stopped member has: a copy of its data, started for this alone
    ///
    /// Without --from that of the member that is furthest ahead, of all nodes of the
    /// document, each of which must answer and be stopped. The data itself stays untouched.
    #[arg(long)]
    offline: bool,
    /// Write metrics of the snapshot into this file, for node_exporter's textfile
    /// collector; replaced only after a good snapshot
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Leave a member that sends nothing for this many seconds, and ask another one
    /// [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    timeout: Option<Duration>,
    /// How to reach the members; ssh goes to their client port on their hosts
    #[arg(long, value_enum, default_value = "direct")]
    via: Via,
    #[command(flatten)]
    endpoints: EndpointArgs,
    #[command(flatten)]
    ssh: SshArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Via {
    Direct,
    Ssh,
}

impl Args {
    pub(crate) fn reads_stdin(&self) -> bool {
        self.endpoints.endpoints.is_empty()
    }

    pub(crate) fn writes_document(&self) -> bool {
        self.to != "-"
    }
}

pub(crate) fn save(run: &mut Run, args: &Args) -> Result<()> {
    let target = Target::find(&args.to)?;
    if target == Target::Stdout && std::io::stdout().is_terminal() {
        return Err(Error::usage("--to -: stdout is a terminal").into());
    }
    // Elsewhere it loses what is said again; here, a backup.
    if target == Target::Stdout && terminal::stdout_is_closed() {
        let message = "--to -: stdout is closed".into();
        return Err(Error { exit: Exit::NotDelivered, message }.into());
    }
    if let Some(metrics) = &args.metrics {
        check_metrics(metrics, &target)?;
    }
    let mut targets = args.endpoints.resolve(&run.document, &run.nodes(), args.timeout)?;
    if let Some(from) = args.from.as_ref().filter(|_| !args.offline) {
        source::restrict(&mut targets.endpoints, from)?;
    }
    let fleet = fleet(run, args, &targets)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut version = None;
    let saved = runtime.block_on(async {
        let Targets { endpoints, access } = targets;
        match &fleet {
            Some(fleet) if args.offline => {
                let kept = target.existing();
                let (from, credentials) = (args.from.as_deref(), &args.endpoints.credentials);
                let copies = Copies::serve(run, fleet, from, &access, credentials, kept).await?;
                version = copies.version;
                if let Some(bytes) = copies.database_bytes().filter(|_| run.check()) {
                    target.check_room(bytes + TRAILER_BYTES)?;
                }
                let taken = match &copies.best {
                    Some(copy) => take_offline(run, args, &target, copy).await.map(Some),
                    None => Ok(None),
                };
                copies.end(run, fleet).await;
                taken
            }
            fleet => {
                let route = Route::new(endpoints, access, fleet.as_ref());
                take(run, args, &target, &route).await
            }
        }
    });
    // A name server that does not answer must not hold up the end.
    runtime.shutdown_background();
    let saved = saved?;
    if args.offline {
        offline::note_version(&mut run.document, version);
    }
    let Some(taken) = saved else { return Ok(()) };
    match taken.part {
        Some(part) => {
            let (snapshot, summary) =
                finish(&target, part, &taken.source, &taken.streamed, taken.at)?;
            write_metrics(args, taken.at, taken.streamed.bytes, Some(&summary))?;
            let (path, words) = (&snapshot.path, in_words(&summary));
            let message = format!("{path}: saved from {}: {words}", snapshot.node);
            run.report(ToolResult::changed(Code::Saved, message));
            run.document.snapshot = Some(snapshot);
        }
        None => {
            write_metrics(args, taken.at, taken.streamed.bytes, None)?;
            let size = BinaryBytes(taken.streamed.bytes);
            let message = format!("stdout: saved from {}: {size}", taken.source);
            run.report(ToolResult::changed(Code::Saved, message));
        }
    }
    Ok(())
}

/// A snapshot that has arrived whole.
struct Taken {
    /// The name of the member's node, else its endpoint.
    source: String,
    /// When the member was asked for it.
    at: OffsetDateTime,
    streamed: Streamed,
    /// The file; none for stdout.
    part: Option<Part>,
}

fn fleet(run: &Run, args: &Args, targets: &Targets) -> Result<Option<Fleet>> {
    if args.via == Via::Direct && !args.offline {
        return Ok(None);
    }
    if targets.endpoints.iter().any(|target| target.node.is_none()) {
        let flag = if args.offline { "--offline" } else { "--via ssh" };
        let why = format!("{flag}: only for the nodes of a document on stdin");
        return Err(Error::usage(why).into());
    }
    Ok(Some(Fleet::new(&args.ssh, run.common.jobs)?))
}

/// Chooses a member and receives its snapshot. None when there is none to ask,
/// which is reported, and with `--check`.
async fn take(run: &Run, args: &Args, target: &Target, route: &Route<'_>) -> Result<Option<Taken>> {
    let probe = route.probe(Duration::MAX).await?;
    if let Some(why) = probe.several_clusters() {
        return Err(Error::usage(why).into());
    }
    let sources = source::choose(&probe, args.from.is_some() && !probe.unreachable);
    let Some(first) = sources.first() else {
        source::report_none(run, &probe);
        return Ok(None);
    };
    target.check_room(first.size_bytes.map_or(0, |size| size + TRAILER_BYTES))?;
    let silence = args.timeout.unwrap_or(SILENCE);
    if run.check() {
        // Only the member can say whether whoever asks is given one.
        let endpoint = &route.endpoints().await?[first.at];
        match endpoint.snapshot(silence).await {
            Err(error) if !error.is_unreachable() => {
                bail!("{}: snapshot: {error}{}", first.name, advice(&error));
            }
            _ => {}
        }
        let size = first.size_bytes.map(|size| format!(", {}", BinaryBytes(size)));
        let message = format!(
            "{} ({}{}): would be saved to {}",
            first.name,
            first.role,
            size.unwrap_or_default(),
            target.in_words()
        );
        run.report(ToolResult::would_change(message));
        return Ok(None);
    }
    let mut sources = sources.into_iter().take(2).peekable();
    while let Some(source) = sources.next() {
        let part = match target {
            Target::Stdout => None,
            _ => Some(Part::create(target.part(), run.common.lock_timeout)?),
        };
        let at = OffsetDateTime::now_utc();
        let endpoints = route.endpoints().await?;
        let endpoint = &endpoints[source.at];
        match receive(endpoint, &source.name, silence, part.as_ref()).await {
            Ok(streamed) => {
                return Ok(Some(Taken { source: source.name, at, streamed, part }));
            }
            Err(Failure { again: true, why }) if sources.peek().is_some() => {
                let message = format!("{}: snapshot: {why:#}: asking another one", source.name);
                run.report(ToolResult::warning(Code::NoAnswer, message));
            }
            Err(Failure { why, .. }) => {
                return Err(why.context(format!("{}: snapshot", source.name)));
            }
        }
    }
    Ok(None)
}

/// Receives the snapshot of a copy of a stopped member's data.
async fn take_offline(run: &Run, args: &Args, target: &Target, copy: &Copy<'_>) -> Result<Taken> {
    target.check_room(copy.database_bytes + TRAILER_BYTES)?;
    let part = match target {
        Target::Stdout => None,
        _ => Some(Part::create(target.part(), run.common.lock_timeout)?),
    };
    let at = OffsetDateTime::now_utc();
    let (source, silence) = (copy.node.name.clone(), args.timeout.unwrap_or(SILENCE));
    match receive(&copy.endpoint, &source, silence, part.as_ref()).await {
        Ok(streamed) => Ok(Taken { source, at, streamed, part }),
        Err(Failure { why, .. }) => Err(why.context(format!("{source}: snapshot"))),
    }
}

/// Why a snapshot did not arrive.
struct Failure {
    why: anyhow::Error,
    /// Whether it is worth asking another member.
    again: bool,
}

impl From<anyhow::Error> for Failure {
    fn from(why: anyhow::Error) -> Self {
        Self { why, again: false }
    }
}

/// What to do where a member gives no snapshot.
fn advice(error: &client::Error) -> &'static str {
    match error {
        client::Error::NoLeader => {
            ", without which nobody can log in: stop etcd (etcd-unit stop), then pass --offline"
        }
        error => error.advice(),
    }
}

async fn receive(
    endpoint: &Endpoint,
    source: &str,
    silence: Duration,
    part: Option<&Part>,
) -> Result<Streamed, Failure> {
    let opened = endpoint.snapshot(silence).await;
    let stream = opened.map_err(|error| Failure {
        again: error.is_unreachable(),
        why: anyhow!("{error}{}", advice(&error)),
    })?;
    let progress = Progress::bytes(source.to_owned(), Some(stream.database_bytes()));
    let (out, name): (Box<dyn Write + Send>, _) = match part {
        Some(part) => {
            let file = part.writer().context("duplicating a file descriptor")?;
            (Box::new(file), part.path().display().to_string())
        }
        None => (Box::new(std::io::stdout()), "stdout".into()),
    };
    let (arrived, written) = transfer(stream, out, &progress).await;
    let streamed = written.map_err(|error| {
        let message = format!("{name}: writing: {}", plain_io(error));
        let exit = if part.is_none() { Exit::NotDelivered } else { Exit::Failed };
        anyhow::Error::from(Error { exit, message })
    })?;
    if let Err(error) = arrived {
        let silent = matches!(error, client::Error::TimedOut(_));
        let bytes = BinaryBytes(streamed.bytes);
        let again = silent && part.is_some();
        let why = match error {
            client::Error::Connect(why) => why,
            error => error.to_string(),
        };
        return Err(Failure { again, why: anyhow!("cut off after {bytes}: {why}") });
    }
    streamed.verified().map_err(anyhow::Error::from)?;
    Ok(streamed)
}

/// Writes all of `stream` to `out`, and hashes it, on a thread of its own. Gives
/// how the stream ended, and what was written.
async fn transfer(
    mut stream: SnapshotStream,
    mut out: Box<dyn Write + Send>,
    progress: &Progress,
) -> (Result<(), client::Error>, std::io::Result<Streamed>) {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES);
    let writing = tokio::task::spawn_blocking(move || {
        let mut hash = StreamHash::default();
        while let Some(piece) = receiver.blocking_recv() {
            hash.update(&piece);
            out.write_all(&piece)?;
        }
        out.flush()?;
        Ok(hash.finish())
    });
    let arrived = loop {
        match stream.next().await {
            Ok(Some(piece)) => {
                progress.advance(piece.len() as u64);
                // What went wrong with writing is said by the writer.
                if sender.send(piece).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    drop(sender);
    let written =
        writing.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    (arrived, written)
}

/// Checks the pages of `part` while it goes to the disk, and gives it its name.
fn finish(
    target: &Target,
    part: Part,
    source: &str,
    streamed: &Streamed,
    at: OffsetDateTime,
) -> Result<(document::Snapshot, Summary)> {
    let (checked, synced) = std::thread::scope(|scope| {
        let checking = scope.spawn(|| check(part.path(), Trailer::Compared));
        let synced = part.sync();
        let checked = checking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (checked, synced)
    });
    synced?;
    let summary = checked.with_context(|| format!("{source}: its snapshot"))?;
    let at = at.truncate_to_second();
    let path = target.path(Name { taken_at: at, revision: summary.revision });
    part.keep(&path)?;
    let snapshot = document::Snapshot {
        path: path.display().to_string(),
        sha256: hex::encode(streamed.verified()?),
        size_bytes: summary.size_bytes,
        revision: summary.revision,
        total_keys: summary.total_keys,
        hash: summary.hash,
        version: summary.version().map(str::to_owned),
        node: source.to_owned(),
        taken_at: rfc3339(at.into()),
    };
    Ok((snapshot, summary))
}

/// What the file of the metrics begins with.
const METRICS_BEGIN: &str = "# HELP etcd_tools_snapshot_";

/// Fails where the file `path` could not be replaced after the snapshot.
fn check_metrics(path: &Path, target: &Target) -> Result<()> {
    let absolute = disk::absolute(path)?;
    let folder = absolute.parent().unwrap_or(&absolute);
    let name = path.display();
    if matches!(target, Target::File(file) if disk::absolute(file)? == absolute) {
        return Err(Error::usage(format!("--metrics: {name}: the snapshot goes there")).into());
    }
    if path.is_dir() {
        return Err(Error::usage(format!("--metrics: {name}: a folder: name a file in it")).into());
    }
    let mut beginning = Vec::new();
    if let Ok(file) = std::fs::File::open(path).map(|file| file.take(METRICS_BEGIN.len() as u64)) {
        { file }.read_to_end(&mut beginning)?;
        if !beginning.is_empty() && beginning != METRICS_BEGIN.as_bytes() {
            let why = format!("--metrics: {name}: not metrics of these tools: name another file");
            return Err(Error::usage(why).into());
        }
    }
    if !folder.is_dir() {
        let folder = folder.display();
        return Err(Error::usage(format!("--metrics: {folder}: no such folder")).into());
    }
    writable(folder)
}

fn write_metrics(
    args: &Args,
    at: OffsetDateTime,
    size_bytes: u64,
    summary: Option<&Summary>,
) -> Result<()> {
    let Some(path) = &args.metrics else { return Ok(()) };
    let metrics = Metrics {
        taken_at: at.unix_timestamp(),
        size_bytes,
        revision: summary.map(|summary| summary.revision),
        total_keys: summary.map(|summary| summary.total_keys),
    };
    disk::write(Path::new(path), metrics.render().as_bytes(), 0o644)
}

fn positive(text: &str) -> Result<Duration, String> {
    match parse_seconds(text)? {
        Duration::ZERO => Err("expected at least 1 second".into()),
        duration => Ok(duration),
    }
}
