//! `etcd-fetch`: downloads, verifies and caches a release of etcd.
//!
//! An archive is trusted because its SHA-256 is the one in the mirror's
//! `SHA256SUMS`, the one that the user pins, or both; it is computed again on
//! every run. The archives themselves are not signed by etcd.

mod archive;
mod cache;
mod choice;
mod download;
mod fetch;
mod mirror;
mod pieces;
mod sums;
mod unpack;
mod web;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use client::CredentialArgs;
use etcd::{Kubernetes, Version};
use indicatif::DecimalBytes;
use pipeline::document::{Arch, Release};
use pipeline::{
    Code, Common, Error, Examples, Exit, IN_WORDS, Run, Tool, ToolResult, parse_seconds, terminal,
};

use crate::cache::Cache;
use crate::choice::{Choice, Reason};
use crate::fetch::{Fetched, Fetcher, Package};
use crate::mirror::{Location, Mirror};
use crate::sums::Pin;

/// Download, verify and cache an etcd release
///
/// Without a document the archive for this machine goes into the cache.
///
/// Without a version the members of a cluster that runs are asked for theirs, with
/// the certificates of --pki, so that no pipeline upgrades by accident.
#[derive(Debug, clap::Parser)]
#[command(name = "etcd-fetch", version)]
pub struct Fetch {
    /// The release, e.g. v3.5.16 [default: the document's cluster.version, else
    /// the version that the cluster runs, else the newest 3.6]; an only argument
    /// that is no version is the DOCUMENT
    #[arg(value_name = "VERSION", value_parser = first)]
    first: Option<First>,
    /// Use the newest release known to go with this Kubernetes, e.g. 1.33
    #[arg(long, value_name = "VERSION")]
    for_kubernetes: Option<Kubernetes>,
    /// Without a version of the command line, the document or the cluster, fail instead
    /// of using the newest 3.6
    #[arg(long)]
    no_default: bool,
    /// Fetch from here: a folder, or a URL of http, https or file, that holds
    /// vX.Y.Z/SHA256SUMS and vX.Y.Z/etcd-vX.Y.Z-linux-ARCH.tar.gz
    #[arg(
        long,
        value_name = "URL|DIR",
        default_value = "https://github.com/etcd-io/etcd/releases/download"
    )]
    mirror: Location,
    /// Keep the archives here [default: etcd-tools in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Accept only the archive with this SHA-256; with several architectures one
    /// for each, e.g. arm64=HEX
    #[arg(long, value_name = "[ARCH=]HEX", value_delimiter = ',')]
    sha256: Vec<Pin>,
    /// Never contact the mirror: use what is in the cache
    #[arg(long)]
    offline: bool,
    /// Also unpack the binaries for this machine into this folder
    #[arg(long, value_name = "DIR")]
    unpack: Option<PathBuf>,
    /// Give up when the mirror sends nothing for this long
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = timeout)]
    timeout: Duration,
    /// Allow 3.5.0, 3.5.1 and 3.5.2, which are known to corrupt data
    #[arg(long, help_heading = IN_WORDS)]
    allow_unsafe_version: bool,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    common: Common,
}

/// What the first argument is.
#[derive(Debug, Clone)]
enum First {
    Version(Version),
    Document(PathBuf),
}

/// Reads the first argument: a version, else the path of a document. What begins like a
/// version and is no file is a version that is mistyped.
fn first(text: &str) -> Result<First, String> {
    let digits = text.strip_prefix('v').unwrap_or(text);
    let like_a_version = digits.starts_with(|c: char| c.is_ascii_digit());
    match text.parse() {
        Ok(version) => Ok(First::Version(version)),
        Err(why) if like_a_version && !Path::new(text).exists() => Err(why),
        Err(_) => Ok(First::Document(text.into())),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match parse_seconds(text)? {
        Duration::ZERO => Err("expected more than 0".into()),
        timeout => Ok(timeout),
    }
}

impl Tool for Fetch {
    fn common(&self) -> &Common {
        &self.common
    }

    fn examples(_: &str) -> Examples {
        &[
            (
                "The release and then all else, from a list of nodes:",
                "etcd-fetch v3.6.16 < nodes.txt | etcd-cert issue | etcd-render | etcd-push",
            ),
            ("Into the cache only, e.g. before a maintenance window:", "etcd-fetch v3.6.16"),
            (
                "From a mirror, with etcdctl for this machine in ~/bin:",
                "etcd-fetch v3.6.16 --mirror https://mirror.example.com/etcd --unpack ~/bin",
            ),
        ]
    }

    fn without(_: &str) -> &'static [&'static str] {
        &["jobs", "lock_timeout"]
    }

    fn works_without_document(&self) -> bool {
        // Else a pipe that failed would go on without its document.
        let chosen = self.release().is_some() || self.for_kubernetes.is_some();
        (self.unpack.is_some() || chosen) && terminal::nothing_piped_in()
    }

    fn document<'a>(&'a self, last: Option<&'a Path>) -> Result<Option<&'a Path>, Error> {
        match (&self.first, last) {
            (Some(First::Document(path)), Some(_)) => Err(Error::usage(format!(
                "{}: expected a version such as v3.5.16 before the document",
                path.display()
            ))),
            (Some(First::Document(path)), None) => {
                Ok(Some(path.as_path()).filter(|path| *path != Path::new("-")))
            }
            _ => Ok(last),
        }
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        let chosen = choice::choose(self, run)?;
        let Choice { version, reason } = chosen;
        let without_nodes = run.document.nodes.is_empty();
        let own = (without_nodes || self.unpack.is_some()).then(unpack::own_arch).transpose()?;
        let of_nodes: BTreeSet<Arch> = run.nodes().iter().map(|node| node.arch()).collect();
        let archs = of_nodes.iter().copied().chain(own).collect();
        let pins = sums::pinned(&self.sha256, &archs)?;
        let cache = Cache::new(&self.cache_root()?, version)?;
        let mirror = Mirror::new(self.mirror.clone(), self.timeout);
        let fetcher =
            Fetcher { run, version, mirror: &mirror, cache: &cache, offline: self.offline };
        let mut packages = Vec::new();
        let mut failed = false;
        for arch in &archs {
            match fetcher.fetch(*arch, pins.get(arch).map(String::as_str)) {
                Ok(fetched) => packages.push(report(&fetcher, *arch, fetched, reason)),
                // The other archives would find the mirror no better.
                Err(error) if is_unreachable(&error) => return Err(error),
                Err(error) => {
                    run.report(ToolResult::error(Code::Failed, format!("{error:#}")));
                    failed = true;
                }
            }
        }
        if failed {
            return Ok(());
        }
        if let (Some(folder), Some(own)) = (&self.unpack, own) {
            let there = |package: &&Package| package.arch == own && !package.pending;
            let package = packages.iter().find(there);
            unpack::unpack(run, &cache, version, package, folder)?;
        }
        packages.retain(|package| of_nodes.contains(&package.arch));
        write_release(run, chosen, &packages, of_nodes.len())
    }
}

impl Fetch {
    /// The release that the command line says.
    fn release(&self) -> Option<Version> {
        match self.first {
            Some(First::Version(version)) => Some(version),
            _ => None,
        }
    }

    fn cache_root(&self) -> Result<PathBuf> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let home = || variable("HOME").map(|home| home.join(".cache"));
        // The XDG specification: a relative path is to be ignored.
        let standard = || variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let default = || standard().or_else(home).map(|folder| folder.join("etcd-tools"));
        self.cache.clone().or_else(default).ok_or_else(|| {
            Error::usage("no cache folder: neither HOME nor XDG_CACHE_HOME is set: pass --cache")
                .into()
        })
    }
}

fn is_unreachable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().is_some_and(|error| error.exit == Exit::Unreachable)
}

/// Says what became of an archive, and gives it.
fn report(fetcher: &Fetcher, arch: Arch, fetched: Fetched, reason: Reason) -> Package {
    let Fetcher { run, version, mirror, .. } = fetcher;
    match fetched {
        Fetched::New(package) => {
            let size = DecimalBytes(package.size_bytes);
            let message = format!("{version} for {arch}: fetched {size} from {mirror}{reason}");
            run.report(ToolResult::changed(Code::Fetched, message));
            package
        }
        Fetched::Cached(package) => {
            let size = DecimalBytes(package.size_bytes);
            let message = format!("{version} for {arch}: in the cache, {size}{reason}");
            run.report(ToolResult::unchanged(Code::Cached, message));
            package
        }
        Fetched::Would(package) => {
            let size = match package.size_bytes {
                0 => String::new(),
                size => format!("{} ", DecimalBytes(size)),
            };
            let message = format!("{version} for {arch}: would fetch {size}from {mirror}{reason}");
            run.report(ToolResult::would_change(message));
            package
        }
    }
}

/// Writes into the document what it is to run, once every archive is there.
fn write_release(run: &mut Run, choice: Choice, packages: &[Package], wanted: usize) -> Result<()> {
    if run.document.nodes.is_empty() {
        run.no_document();
        return Ok(());
    }
    let version = choice.version.to_string();
    let by_default = matches!(choice.reason, Reason::Default);
    let mut archives = packages.iter().map(Package::archive).collect::<Result<Vec<_>>>()?;
    // With --only, the archives of the other nodes stay.
    let before = run.document.release.take().filter(|release| release.version == version);
    for old in before.into_iter().flat_map(|release| release.archives) {
        let kept = archives.iter().all(|archive| archive.arch != old.arch);
        if kept && run.document.nodes.iter().any(|node| node.arch() == old.arch) {
            archives.push(old);
        }
    }
    archives.sort_by_key(|archive| archive.arch);
    run.document.cluster.get_or_insert_default().version = Some(version.clone());
    if packages.len() == wanted {
        run.document.release = Some(Release { version, archives, by_default });
    }
    Ok(())
}
