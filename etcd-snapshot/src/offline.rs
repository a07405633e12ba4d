//! `etcd-snapshot save --offline`: what a stopped member has.
//!
//! A copy of its data is served beside it, as a cluster of one on the loopback of its host,
//! and saved from there. The copy and its unit end with the lock of the host, so that
//! nothing stays when this is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use client::{Access, CredentialArgs, Endpoint, Status, Tls};
use cluster::fit::{self, Facts};
use cluster::route::endpoint_from;
use cluster::units::{self, WantedUnit};
use etcd::{Version, layout};
use indicatif::BinaryBytes;
use pipeline::document::{Cluster, Node};
use pipeline::terminal::Progress;
use pipeline::{Code, Document, Error, Run, ToolResult, disk};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Usage, KeyPair,
};
use remote::{Fleet, Forward, Host, Input, Lock, Query, fan_out};
use tokio::time::{Instant, sleep};

use crate::restore::{LOG_BYTES, State, member_that_runs};

/// Says what data lies on a node.
const STATE: &str = concat!(
    include_str!("restore/unit.sh"),
    include_str!("restore/known.sh"),
    include_str!("offline/state.sh")
);
/// Starts a copy of the data; the second part is what runs as etcd's user.
const START: [&str; 2] = [include_str!("offline/start.sh"), include_str!("offline/serve.sh")];
const STOP: &str = include_str!("offline/stop.sh");
const LIVES: &str = include_str!("offline/lives.sh");

/// How long a host may take for a change without a word.
const SILENCE: Duration = Duration::from_secs(60);
/// How long copying the data, and reading its log, may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How often is looked whether the copy serves.
const INTERVAL: Duration = Duration::from_millis(200);
/// Where the ports of copies are: no service has them, and few connections.
const PORTS: std::ops::Range<u16> = 20000..32000;

/// The way to what a database has of which there is no log that etcd could go on with.
const DATABASE_ALONE: &str = "copy its member/snap/db here, as COPY, and put that on all nodes, with \
                              the release that it is of: `etcd-fetch VERSION < NODES | etcd-cert \
                              issue | etcd-render | etcd-push | etcd-snapshot restore --stage \
                              --no-trailer COPY | etcd-unit stop --lose-quorum | etcd-snapshot \
                              restore COPY | etcd-unit start | etcd-health --wait`";

/// A member that is stopped, and has data.
struct Stopped<'a> {
    node: &'a Node,
    host: Host,
    facts: Facts,
    database_bytes: u64,
}

/// A copy that serves.
pub(crate) struct Copy<'a> {
    pub(crate) node: &'a Node,
    pub(crate) endpoint: Endpoint,
    pub(crate) database_bytes: u64,
    status: Status,
    _forward: Forward,
}

/// The copies of the members' data, for as long as [`Copies::end`] is not called.
pub(crate) struct Copies<'a> {
    stopped: Vec<Stopped<'a>>,
    locks: Vec<Lock>,
    /// The copy to save: that of the member which is furthest ahead.
    pub(crate) best: Option<Copy<'a>>,
    /// Which etcd is on its host.
    pub(crate) version: Option<Version>,
}

impl<'a> Copies<'a> {
    /// Serves copies of the data of the nodes of `run`, or of `from` alone, all of which
    /// must be stopped; without `from`, no other member of theirs may serve, which is asked
    /// with `credentials`. What is refused or fails is reported; then, with `--check`, and when
    /// `kept` was made from this data and is being restored already, there is none to save.
    pub(crate) async fn serve(
        run: &'a Run,
        fleet: &Fleet,
        from: Option<&str>,
        access: &Access,
        credentials: &CredentialArgs,
        kept: Option<&Path>,
    ) -> Result<Self> {
        let document = &run.document;
        let nodes: Vec<_> = run.nodes();
        let nodes: Vec<_> =
            nodes.into_iter().filter(|node| from.is_none_or(|from| node.name == from)).collect();
        if nodes.is_empty() {
            let from = from.unwrap_or_default();
            let why = match document.nodes.iter().any(|node| node.name == from) {
                true => format!("--from: {from:?} is left out by --only"),
                false => format!("--from: {from:?} is not a node in the document"),
            };
            return Err(Error::usage(why).into());
        }
        let progress = Progress::wait(format!("looking at {} nodes", nodes.len()));
        let lock = (!run.check()).then_some("etcd-snapshot");
        let queries = |node: &Node| {
            let units = units::query(&WantedUnit::of(node, None));
            vec![units, state_query(document, node), fit::query(document, node, &[])]
        };
        let mut copies = Self { stopped: Vec::new(), locks: Vec::new(), best: None, version: None };
        // With --check nothing has been stopped yet.
        let stopping =
            if run.check() { fit::would_change(document, "etcd-unit") } else { BTreeSet::new() };
        let mut allowed = true;
        let mut begun = BTreeMap::new();
        let mut without_data = Vec::new();
        let mut out_of_sight = Vec::new();
        for (node, reply) in fleet.query(nodes, lock, queries).await {
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) => {
                    allowed = false;
                    run.report(error.on(&node.name));
                    continue;
                }
            };
            copies.locks.extend(reply.lock);
            let answer = reply.answers.get(1).map_or(&[][..], Vec::as_slice);
            begun.extend(State::read(answer).begun().map(|sha256| (node.name.as_str(), sha256)));
            let units = reply.answers.first().map_or(&[][..], Vec::as_slice);
            let refused = match member_that_runs(node, &reply.host, units) {
                Err(error) => Some(error.on(&node.name)),
                Ok(Some(_)) if stopping.contains(node.name.as_str()) => {
                    no_room(document, node, answer)
                }
                Ok(Some(unit)) => Some(running(node, &unit)),
                Ok(None) => is_open(node, answer).or_else(|| no_room(document, node, answer)),
            };
            if let Some(refused) = refused {
                allowed = false;
                run.report(refused);
                continue;
            }
            let facts = Facts::read(reply.answers.get(2).map_or(&[], Vec::as_slice))?;
            if let Some(database_bytes) = number(answer, "database", 0) {
                copies.version = copies.version.max(version(answer));
                copies.stopped.push(Stopped { node, host: reply.host, facts, database_bytes });
            } else {
                // Its disk may only not be there.
                let has_database = answer.iter().any(|line| line == "alone");
                if from.is_none() && facts.was_ready() {
                    out_of_sight.push(has_run(document, node, has_database));
                }
                without_data.push(match has_database {
                    true => without_log(document, node),
                    false => no_data(document, node, &facts),
                });
            }
        }
        if from.is_none() {
            let stopped = copies.stopped.iter().map(|s| (s.node, &s.host, s.facts.clone()));
            let stopped: Vec<_> = stopped.collect();
            let is_new = |node: &Node| begun.contains_key(node.name.as_str());
            let found = fit::replaced(document, &stopped, credentials, Vec::new(), is_new).await;
            // In the middle of a restore some have the old data, others the new.
            let others_data = if begun.is_empty() { found.others_data } else { Vec::new() };
            let advised = others_data.into_iter().map(|mut result| {
                result.message += ", or move that data away";
                result
            });
            for result in found.serving.into_iter().chain(advised) {
                allowed = false;
                run.report(result);
            }
        }
        if begun.is_empty() && !out_of_sight.is_empty() && !copies.stopped.is_empty() {
            allowed = false;
            out_of_sight.into_iter().for_each(|result| run.report(result));
        }
        if !allowed {
            return Ok(copies);
        }
        if let Some((node, sha256)) = begun.pop_first() {
            run.report(restore_begun(node, sha256, kept));
            return Ok(copies);
        }
        if copies.stopped.is_empty() {
            without_data.into_iter().for_each(|result| run.report(result));
        } else if run.check() {
            for Stopped { node, database_bytes, .. } in &copies.stopped {
                let size = BinaryBytes(*database_bytes);
                let message = format!("would copy its data ({size}) and save that");
                run.report(ToolResult::would_change(message).on(&node.name));
            }
        } else {
            progress.label(format!("copying the data of {} members", copies.stopped.len()));
            copies.choose(run, fleet, access).await;
        }
        Ok(copies)
    }

    /// The size of the largest database, in bytes; none where there is nothing to save.
    pub(crate) fn database_bytes(&self) -> Option<u64> {
        self.stopped.iter().map(|stopped| stopped.database_bytes).max()
    }

    async fn choose(&mut self, run: &Run, fleet: &Fleet, access: &Access) {
        let stopped: Vec<_> = self.stopped.iter().collect();
        let served = fan_out(fleet.jobs(), stopped, async |stopped: &Stopped<'a>| {
            let copy = serve(&run.document, stopped, access).await;
            let failed = |error: remote::Error| {
                let mut result = error.on(&stopped.node.name);
                if self.stopped.len() > 1 {
                    result.message += ": to go on without what it has, name another with --from";
                }
                run.report(result);
            };
            copy.map_err(failed).ok()
        })
        .await;
        // One that does not start may be the one with the newest data.
        let whole = served.iter().all(Option::is_some);
        let copies: Vec<_> = served.into_iter().flatten().collect();
        if copies.len() > 1 {
            for Copy { node, status, .. } in &copies {
                let message =
                    format!("has revision {} and raft term {}", status.revision, status.raft_term);
                run.report(ToolResult::unchanged(Code::UpToDate, message).on(&node.name));
            }
        }
        let ahead = |copy: &Copy| (copy.status.revision, copy.status.raft_applied_index);
        self.best = copies.into_iter().max_by_key(ahead).filter(|_| whole);
    }

    /// Ends the copies, and frees the locks of their hosts.
    pub(crate) async fn end(self, run: &Run, fleet: &Fleet) {
        drop(self.best);
        if !run.check() {
            fan_out(fleet.jobs(), self.stopped, async |Stopped { node, host, .. }| {
                if let Err(error) = host.change(STOP, &[], &[], SILENCE).await {
                    run.report(error.on(&node.name));
                }
            })
            .await;
        }
        fan_out(fleet.jobs(), self.locks, Lock::release).await;
    }
}

/// Notes in the document which etcd the data belongs to, unless it says so.
pub(crate) fn note_version(document: &mut Document, version: Option<Version>) {
    let cluster = document.cluster.get_or_insert_with(Cluster::default);
    if cluster.version.is_none() {
        cluster.version = version.map(|version| version.to_string());
    }
}

/// Where a host has the certificate of a copy.
const CERTIFICATES: &str = "/run/etcd-tools-offline";

/// What a copy and who reads it are known to each other by. That of the member may have expired
/// or be anywhere, and its CA is of no use beyond this.
struct OwnCertificate {
    tls: Tls,
    /// The certificate and its key.
    pem: Vec<u8>,
}

impl OwnCertificate {
    fn new() -> Result<Self, remote::Error> {
        let failed = |why: &dyn std::fmt::Display| {
            remote::Error::CommandFailed(format!("making a certificate for the copy: {why}"))
        };
        let key = KeyPair::generate().map_err(|why| failed(&why))?;
        let params = CertificateParams::new(["127.0.0.1".to_owned()]);
        let mut params = params.map_err(|why| failed(&why))?;
        // etcd takes a common name for a user, whom its gateway does not serve.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "etcd-tools");
        params.extended_key_usages = vec![Usage::ServerAuth, Usage::ClientAuth];
        let certificate = params.self_signed(&key).map_err(|why| failed(&why))?.pem();
        let key = key.serialize_pem();
        let tls = Tls::of_itself(&certificate, &key).map_err(|why| failed(&why))?;
        Ok(Self { tls, pem: (certificate + &key).into_bytes() })
    }
}

async fn serve<'a>(
    document: &Document,
    stopped: &Stopped<'a>,
    access: &Access,
) -> Result<Copy<'a>, remote::Error> {
    let Stopped { node, host, database_bytes, .. } = stopped;
    let settings = document.settings(node);
    let port = fastrand::u16(PORTS);
    let url = |port: u16| format!("https://127.0.0.1:{port}");
    let (client, peer) = (url(port), url(port + 1));
    let wal = settings.wal_dir.clone().unwrap_or_default();
    let own = OwnCertificate::new()?;
    let access = Access { tls: Some(own.tls), ..access.clone() };
    let (cert, key) = (format!("{CERTIFICATES}/cert.pem"), format!("{CERTIFICATES}/key.pem"));
    let [script, as_user] = START;
    let binary = format!("{}/etcd", settings.bin_dir);
    let cluster = format!("{}={peer}", node.name);
    let args = [
        settings.user.as_str(),
        &settings.data_dir,
        as_user,
        &wal,
        "env",
        "-i",
        &binary,
        "--name",
        &node.name,
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
        "--initial-cluster",
        &cluster,
        "--client-cert-auth",
        "--trusted-ca-file",
        &cert,
        "--cert-file",
        &cert,
        "--key-file",
        &key,
        "--peer-client-cert-auth",
        "--peer-trusted-ca-file",
        &cert,
        "--peer-cert-file",
        &cert,
        "--peer-key-file",
        &key,
    ];
    host.change(script, &args, &[Input::Bytes(own.pem)], SILENCE).await?;
    let (endpoint, forward) = endpoint_from(host, &client, &access)
        .await
        .map_err(|error| remote::Error::CommandFailed(format!("{error:#}")))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match endpoint.status().await {
            Ok(status) => {
                let (node, database_bytes) = (*node, *database_bytes);
                return Ok(Copy { node, endpoint, database_bytes, status, _forward: forward });
            }
            Err(error) if error.is_lasting() || Instant::now() > deadline => {
                let why = format!("the copy of its data: {error}{}", error.advice());
                return Err(remote::Error::CommandFailed(why));
            }
            Err(_) => {
                let said = host.run(LIVES, &[], &[]).await?;
                if !said.is_empty() {
                    return Err(remote::Error::CommandFailed(not_served(&said)));
                }
            }
        }
        sleep(INTERVAL).await;
    }
}

/// Why a copy of the data is not served, by what was said last.
fn not_served(said: &[String]) -> String {
    let why = units::why_ended(said).or_else(|| said.last().cloned()).unwrap_or_default();
    let cause = if why.ends_with("removed all voters") {
        ": it was a learner, of which etcd makes no cluster"
    } else if units::is_damaged(&why) {
        ": its log is damaged, or older than it should be"
    } else {
        return format!("the copy of its data did not start: {why}");
    };
    format!(
        "the copy of its data did not start: {why}{cause}: with no other survivor, {DATABASE_ALONE}"
    )
}

fn state_query(document: &Document, node: &Node) -> Query {
    Query { script: STATE, input: crate::restore::state_input(document, node) }
}

fn running(node: &Node, unit: &str) -> ToolResult {
    let message = format!(
        "not saved: {unit} is running: stop it first (etcd-unit stop), or leave --offline out"
    );
    ToolResult::error(Code::StillRunning, message).on(&node.name)
}

/// A process that systemd does not know of would go on writing while the data is copied.
fn is_open(node: &Node, answer: &[String]) -> Option<ToolResult> {
    let process = answer.iter().find_map(|line| line.strip_prefix("open\t"))?;
    let message = format!("not saved: {process} has its data open: stop it first");
    Some(ToolResult::error(Code::StillRunning, message).on(&node.name))
}

/// The data that a restore has put in place, or moved aside, is not to be saved again.
fn restore_begun(node: &str, sha256: String, kept: Option<&Path>) -> ToolResult {
    let same = kept.filter(|kept| disk::sha256_of(kept).is_ok_and(|of| of == sha256));
    match same {
        Some(kept) => ToolResult::unchanged(
            Code::UpToDate,
            format!("{}: it is being restored already, and stays", kept.display()),
        ),
        None => ToolResult::error(
            Code::Mismatch,
            format!(
                "not saved: an interrupted restore of another snapshot (sha256 {sha256}) has \
                 replaced its data: finish that one first, with its file"
            ),
        )
        .on(node),
    }
}

/// Where a node has no data of a member, and where it may have some.
fn no_data(document: &Document, node: &Node, facts: &Facts) -> ToolResult {
    let settings = document.settings(node);
    let log = settings.wal_dir.map(|wal| format!(" with its log in {wal}")).unwrap_or_default();
    let elsewhere = match (fit::elsewhere(document, node, facts), facts.unit_of_others()) {
        (Some(elsewhere), _) => format!(": {elsewhere}: set dataDir and walDir"),
        (None, Some(unit)) => {
            format!(": if it is that of {unit}, set dataDir and walDir as that has them")
        }
        _ => String::new(),
    };
    let message =
        format!("nothing to save: no data of etcd in {}{log}{elsewhere}", settings.data_dir);
    ToolResult::error(Code::Failed, message).on(&node.name)
}

/// A database of which the log is gone.
fn without_log(document: &Document, node: &Node) -> ToolResult {
    let settings = document.settings(node);
    let log = layout::wal_folder(&settings.data_dir, settings.wal_dir.as_deref());
    let message = format!(
        "nothing to save: its database is in {}, and there is no write-ahead log in {log}: mount \
         the disk that holds it, or, if it is lost: {DATABASE_ALONE}",
        settings.data_dir
    );
    ToolResult::error(Code::Failed, message).on(&node.name)
}

/// Why what others have is not all that there is.
fn has_run(document: &Document, node: &Node, has_database: bool) -> ToolResult {
    let settings = document.settings(node);
    let log = layout::wal_folder(&settings.data_dir, settings.wal_dir.as_deref());
    let (what, at) = match has_database {
        true => ("write-ahead log", log),
        false => ("data", settings.data_dir),
    };
    let message = format!(
        "its member has run, and its {what} is not in {at}: mount its disk, if it is only that, or pass \
         --from NODE to save what that node has, and nothing that only this one had"
    );
    ToolResult::error(Code::Failed, message).on(&node.name)
}

fn no_room(document: &Document, node: &Node, answer: &[String]) -> Option<ToolResult> {
    let needed = number(answer, "copy", 0)? + LOG_BYTES;
    let free = number(answer, "copy", 1).filter(|free| *free < needed)?;
    let (needed, free) = (BinaryBytes(needed), BinaryBytes(free));
    let message = format!(
        "{}: too little space: a copy of the data takes {needed}, {free} are free",
        document.settings(node).data_dir
    );
    Some(ToolResult::error(Code::DiskSpace, message).on(&node.name))
}

/// The number at the place `at` of the line of that `kind`.
fn number(answer: &[String], kind: &str, at: usize) -> Option<u64> {
    let line = answer.iter().find_map(|line| line.strip_prefix(kind)?.strip_prefix('\t'))?;
    line.split('\t').nth(at)?.parse().ok()
}

fn version(answer: &[String]) -> Option<Version> {
    answer.iter().find_map(|line| line.strip_prefix("version\t")?.parse().ok())
}
