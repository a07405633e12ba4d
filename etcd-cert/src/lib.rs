//! `etcd-cert`: the CA of an etcd cluster, and the certificates that it signs.

mod authority;
mod certificate;
mod check;
mod folder;
mod issue;
mod key;
mod leaf;
mod sign;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use pipeline::disk::Lock;
use pipeline::document::Pki;
use pipeline::{
    Code, Common, Error, Examples, Run, Tool, ToolResult, is_dns_name, parse_duration, terminal,
};
use time::OffsetDateTime;

use authority::{Authority, ProvidedCa};
use folder::{Folder, Pair};

/// Issue and check the certificates of an etcd cluster
#[derive(Debug, clap::Parser)]
#[command(name = "etcd-cert", version, about)]
pub struct Cert {
    #[command(subcommand)]
    command: Command,
    /// The folder of the CA, the certificates and the keys
    #[arg(long, global = true, value_name = "DIR", default_value = "pki")]
    pki: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Issue what is missing, does not fit the inventory, or is soon to expire
    ///
    /// Makes the CA when there is none. Server and peer certificates for each
    /// node, a client certificate for the operator and one for kube-apiserver.
    /// Certificates that fit are left alone.
    Issue(Issue),
    /// Issue a client certificate for somebody else, such as backup or prometheus
    ///
    /// It goes to clients/NAME.crt and clients/NAME.key in the folder, with NAME for its
    /// common name, which is its user where authentication is on. One that fits is
    /// left alone; `issue` renews it with the others, for as long as it was issued for,
    /// and where that is no longer than --renew-before, in the last third of it.
    Client(Client),
    /// List when certificates expire; exit 1 when one is due for renewal
    Check(Check),
    /// Make the CA, or import your own, and issue nothing
    ///
    /// To replace a CA, in time: make another (`etcd-cert ca --pki new`), and put its
    /// certificate before the old one's in pki/ca.crt (`cat new/ca.crt pki/ca.crt`). Run the
    /// pipeline, so that every member trusts both, and give ca.crt to kube-apiserver. Copy
    /// new/ca.key over pki/ca.key, and run the pipeline again: all certificates are issued
    /// again. Take the old certificate out of pki/ca.crt, and run it once more, with
    /// `etcd-push --replace-ca`.
    ///
    /// One that has expired is trusted by nobody: move pki away, and run the pipeline with
    /// the version that the cluster runs, as `etcd-fetch v3.5.16`, with
    /// `etcd-push --replace-ca`, and with `etcd-unit stop --lose-quorum` before
    /// `etcd-unit start`.
    Ca(Ca),
}

/// What is to be issued.
#[derive(Debug, clap::Args)]
pub(crate) struct Issue {
    #[command(flatten)]
    ca: Ca,
    #[command(flatten)]
    term: Term,
    /// A further name or address in the certificates of all nodes (may be
    /// repeated, or separated by commas)
    #[arg(long, value_name = "NAME-OR-IP", value_delimiter = ',', value_parser = parse_san)]
    san: Vec<String>,
}

/// For how long a certificate is valid at least that is not reissued, nor due.
pub(crate) const RENEW_BEFORE: &str = "30d";

/// How long a certificate is valid, unless the command line says so.
pub(crate) const VALIDITY: &str = "365d";

/// For how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Term {
    /// How long a new certificate is valid, but no longer than its CA
    #[arg(long, value_name = "DURATION", default_value = VALIDITY, value_parser = parse_duration)]
    validity: Duration,
    /// Reissue a certificate that is valid for no longer than this
    #[arg(long, value_name = "DURATION", default_value = RENEW_BEFORE, value_parser = parse_duration)]
    renew_before: Duration,
}

/// Whom to issue a client certificate.
#[derive(Debug, clap::Args)]
pub(crate) struct Client {
    /// The name of the client: letters, digits, `.`, `_` and `-`
    #[arg(value_name = "NAME", value_parser = parse_client)]
    name: String,
    #[command(flatten)]
    term: Term,
}

/// What is due.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// A certificate is due that is valid for no longer than this
    #[arg(long, value_name = "DURATION", default_value = RENEW_BEFORE, value_parser = parse_duration)]
    within: Duration,
    /// What to write to stdout [default: table on a terminal, else json]
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// The document, with `notAfter` in each result
    Json,
    /// Metrics for node_exporter's textfile collector
    Prometheus,
}

impl Check {
    fn format(&self) -> Format {
        let usual = terminal::table_or(Format::Table, Format::Json);
        self.output.unwrap_or(usual)
    }
}

/// Where the CA comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct Ca {
    /// How long a new CA is valid
    #[arg(long, value_name = "DURATION", default_value = "3650d", value_parser = parse_duration)]
    ca_validity: Duration,
    /// Import this CA instead of making one: its certificate, PEM
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca_cert: Option<PathBuf>,
    /// The key of --ca-cert, PEM: PKCS#8, PKCS#1 or SEC1, not encrypted
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
}

impl Tool for Cert {
    fn common(&self) -> &Common {
        &self.common
    }

    fn examples(command: &str) -> Examples {
        match command {
            "etcd-cert" => &[
                (
                    "All certificates of the nodes, and the CA if there is none:",
                    "etcd-cert issue < nodes.txt > cluster.json",
                ),
                (
                    "From cron: who must be renewed within a month?",
                    "etcd-cert check --pki /etc/etcd-tools/pki --within 30d < /dev/null",
                ),
            ],
            "issue" => &[
                (
                    "What is missing or due, with a further name in all certificates:",
                    "etcd-cert issue --san etcd.example.com < nodes.txt > cluster.json",
                ),
                (
                    "Renew what ends within 60 days and roll it out:",
                    "etcd-fetch < nodes.txt | etcd-cert issue --renew-before 60d | etcd-render | \\\n  etcd-push | etcd-unit start",
                ),
                (
                    "By a CA of yours:",
                    "etcd-cert issue --ca-cert corp.crt --ca-key corp.key < nodes.txt > out.json",
                ),
            ],
            "ca" => &[(
                "Make the CA before there is a list of nodes:",
                "etcd-cert ca --pki /etc/etcd-tools/pki < nodes.txt",
            )],
            "check" => &[
                (
                    "Exit 1 if a certificate ends within two weeks:",
                    "etcd-cert check --pki /etc/etcd-tools/pki --within 14d < /dev/null",
                ),
                (
                    "For node_exporter's textfile collector:",
                    "etcd-cert check -o prometheus --pki /etc/etcd-tools/pki < /dev/null",
                ),
            ],
            "client" => &[
                (
                    "A certificate for Prometheus, pki/clients/prometheus.crt:",
                    "etcd-cert client prometheus",
                ),
                (
                    "One that is valid for 90 days:",
                    "etcd-cert client backup --validity 90d --pki /etc/etcd-tools/pki",
                ),
            ],
            _ => &[],
        }
    }

    fn without(command: &str) -> &'static [&'static str] {
        match command {
            "check" => &["check", "jobs", "lock_timeout", "verbose"],
            "client" => {
                &["document", "keep_going", "strict", "only", "jobs", "lock_timeout", "verbose"]
            }
            _ => &["jobs", "lock_timeout", "verbose"],
        }
    }

    fn reads_stdin(&self) -> bool {
        !matches!(self.command, Command::Client(_))
    }

    fn writes_document(&self) -> bool {
        match &self.command {
            Command::Check(check) => check.format() == Format::Json,
            Command::Client(_) => false,
            _ => true,
        }
    }

    fn works_without_document(&self) -> bool {
        !matches!(self.command, Command::Issue(_))
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        let folder = Folder::new(&self.pki)?;
        match &self.command {
            Command::Issue(issue) => issue::run(run, &folder, issue)?,
            Command::Client(client) => return issue::client(run, &folder, client),
            Command::Check(check) => return check::run(run, &folder, check),
            Command::Ca(ca) => ca.run(run, &folder)?,
        }
        run.document.pki = Some(Pki::in_folder(&folder.absolute(folder.path())));
        Ok(())
    }
}

impl Ca {
    /// The CA that the user brings, checked; none when one is to be made.
    fn own(&self, now: OffsetDateTime) -> Result<Option<ProvidedCa>> {
        match (&self.ca_cert, &self.ca_key) {
            (Some(cert), Some(key)) => ProvidedCa::read(cert, key, now).map(Some),
            _ => Ok(None),
        }
    }

    /// The CA of the folder, made if there is none, and the lock of the folder.
    fn prepare(
        &self,
        run: &Run,
        folder: &Folder,
        now: OffsetDateTime,
    ) -> Result<(Authority, Option<Lock>)> {
        let not_after = expiry("--ca-validity", now, self.ca_validity)?;
        // Before the folder is made: a wrong --ca-cert leaves no trace.
        let own = self.own(now)?;
        let lock = folder.lock(run.check())?;
        warn_of_exposure(run, folder);
        Ok((Authority::find(folder, own, now, not_after)?, lock))
    }

    fn run(&self, run: &Run, folder: &Folder) -> Result<()> {
        let now = OffsetDateTime::now_utc();
        let (authority, _lock) = self.prepare(run, folder, now)?;
        authority.save(run)?;
        protect_key(run, None, &folder.ca())?;
        authority.describe(run)
    }
}

fn warn_of_exposure(run: &Run, folder: &Folder) {
    if let Some(exposure) = folder.exposure() {
        run.report(ToolResult::warning(Code::Exposed, exposure));
    }
}

/// A result that says that `what` was, or with `--check` would be, `done`, as
/// `server certificate` and `reissued`, and `why`.
fn change(run: &Run, what: &str, done: Code, why: &str) -> ToolResult {
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    if run.check() {
        ToolResult::would_change(format!("{what} would be {done}{why}"))
    } else {
        ToolResult::changed(done, format!("{what} {done}{why}"))
    }
}

/// Takes a key that is there from everybody but its owner.
fn protect_key(run: &Run, node: Option<&str>, pair: &Pair) -> Result<bool> {
    let Some(mode) = pair.exposed_key_mode() else { return Ok(false) };
    if !run.check() {
        pair.protect_key()?;
    }
    let why = format!("mode {mode:04o} let others use it");
    run.report(change(run, &pair.key.display().to_string(), Code::Protected, &why).of(node));
    Ok(true)
}

/// The time `validity` after `now`, as `flag` wants it: later than now, and
/// one that a certificate can hold.
fn expiry(flag: &str, now: OffsetDateTime, validity: Duration) -> Result<OffsetDateTime> {
    let validity = time::Duration::try_from(validity).ok().filter(|v| v.is_positive());
    match validity.and_then(|validity| now.checked_add(validity)) {
        Some(time) => Ok(time),
        None => bail!(Error::usage(format!(
            "{flag}: the validity is zero or beyond what a certificate can express"
        ))),
    }
}

fn parse_client(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    // "CA" is what the results and the metrics call it.
    if ["ca", "client", "apiserver-etcd-client"].contains(&&*text.to_ascii_lowercase()) {
        return Err("it has a certificate of its own: see etcd-cert issue".into());
    }
    // X.509 allows a common name of 64 characters.
    if text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(plain)
    {
        return Ok(text.to_owned());
    }
    Err("expected up to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit".into())
}

fn parse_san(text: &str) -> Result<String, String> {
    if let Ok(ip) = text.parse::<std::net::IpAddr>() {
        return Ok(ip.to_string());
    }
    if is_dns_name(text.strip_prefix("*.").unwrap_or(text)) {
        return Ok(text.to_owned());
    }
    Err("neither an IP address nor a DNS name".into())
}
