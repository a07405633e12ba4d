//! One archive: from the cache if it is there and right, else from the mirror.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use etcd::Version;
use pipeline::document::{Arch, Archive, Binary};
use pipeline::{Code, Error, Exit, Run, ToolResult, disk};

use crate::archive;
use crate::cache::{Cache, SUMS};
use crate::download::{Remote, remove};
use crate::mirror::{Kind, Mirror, kind_of};
use crate::sums;

/// Fetches the archives of one release.
pub(crate) struct Fetcher<'a> {
    /// Where warnings go, and what says whether anything may be written.
    pub(crate) run: &'a Run,
    /// The release.
    pub(crate) version: Version,
    /// Where it comes from.
    pub(crate) mirror: &'a Mirror,
    /// Where it is kept.
    pub(crate) cache: &'a Cache,
    /// Whether the mirror must not be asked.
    pub(crate) offline: bool,
}

/// What became of an archive.
pub(crate) enum Fetched {
    /// It was in the cache.
    Cached(Package),
    /// It is in the cache now.
    New(Package),
    /// `--check`: it would be fetched; its size is 0 where the mirror does not tell it.
    Would(Package),
}

/// An archive in the cache, found to be right.
pub(crate) struct Package {
    /// Its architecture.
    pub(crate) arch: Arch,
    /// Its path.
    pub(crate) path: PathBuf,
    /// Its SHA-256, in hex.
    pub(crate) sha256: String,
    /// Its size.
    pub(crate) size_bytes: u64,
    /// The binaries in it.
    pub(crate) binaries: Vec<Binary>,
    /// Whether it is not there yet, nor what is in it known.
    pub(crate) pending: bool,
}

/// What is asked for.
struct Target<'a> {
    arch: Arch,
    folder: String,
    file: String,
    pin: Option<&'a str>,
}

impl Fetcher<'_> {
    /// Brings the archive for `arch` into the cache, unless it is there. `pin`
    /// is the SHA-256 that it must have besides the one that the mirror lists.
    ///
    /// The error is a [`pipeline::Error`] with [`Exit::Unreachable`] when the
    /// mirror could not be reached.
    pub(crate) fn fetch(&self, arch: Arch, pin: Option<&str>) -> Result<Fetched> {
        let folder = archive::folder(self.version, arch);
        let target = Target { arch, file: format!("{folder}.tar.gz"), folder, pin };
        self.fetch_target(&target).map_err(|error| match kind_of(&error) {
            Some(Kind::Stalled | Kind::Unreachable) => {
                Error { exit: Exit::Unreachable, message: format!("{error:#}") }.into()
            }
            Some(Kind::Missing) => {
                anyhow!("{error:#}: the mirror has no {} for {arch}", self.version)
            }
            _ => error,
        })
    }

    fn fetch_target(&self, target: &Target) -> Result<Fetched> {
        // A whole archive needs no lock: nobody ever changes it in place.
        let known = self.known_sum(target)?;
        if let Some(known) = &known
            && let Some(binaries) = self.cache.binaries(&target.file, known)?
            && self.cache.sha256_of(&target.file)?.as_ref() == Some(known)
        {
            return self.package(target, known, binaries).map(Fetched::Cached);
        }
        let reads_only = self.run.check() || (self.offline && !self.cache.exists());
        let _lock = if reads_only { None } else { Some(self.cache.lock()?) };
        // Another process may have fetched it in the meantime.
        let known = self.known_sum(target)?;
        let held = self.cache.sha256_of(&target.file)?;
        let why = match (&known, &held) {
            (Some(known), Some(held)) if known == held => {
                return self.admit(target, known).map(Fetched::Cached);
            }
            (_, None) => "not in the cache",
            (None, _) => "without a checksum in the cache",
            _ => "damaged",
        };
        if self.offline {
            let path = self.cache.path(&target.file);
            bail!("{}: {why}: run once without --offline", path.display());
        }
        self.fetch_from_mirror(target, held)
    }

    fn fetch_from_mirror(&self, target: &Target, held: Option<String>) -> Result<Fetched> {
        let (listing, expected) = self.mirror_sum(target)?;
        if held.as_ref() == Some(&expected) {
            let package = self.admit(target, &expected)?;
            self.keep_sums(listing)?;
            return Ok(Fetched::Cached(package));
        }
        let path = self.cache.path(&target.file);
        if held.is_some() {
            let message = format!("{}: damaged: fetching it again", path.display());
            self.run.report(ToolResult::warning(Code::Damaged, message));
        }
        let version = self.version.to_string();
        let remote = Remote { mirror: self.mirror, version: &version, file: &target.file };
        if self.run.check() {
            return Ok(Fetched::Would(Package {
                arch: target.arch,
                path,
                sha256: expected,
                size_bytes: remote.size()?.unwrap_or(0),
                binaries: Vec::new(),
                pending: true,
            }));
        }
        let partial = disk::beside(&path);
        remote.bring(&partial, &expected)?;
        let binaries = match archive::inspect(&partial, &target.folder) {
            Ok(binaries) => binaries,
            Err(error) => {
                remove(&partial)?;
                return Err(error.context(remote.location()));
            }
        };
        self.cache.keep_binaries(&target.file, &expected, &binaries)?;
        self.keep_sums(listing)?;
        disk::rename(&partial, &path).with_context(|| format!("{}: renaming", path.display()))?;
        self.package(target, &expected, binaries).map(Fetched::New)
    }

    /// The archive in the cache, whose SHA-256 is `sha256`, after a look at what is in it.
    fn admit(&self, target: &Target, sha256: &str) -> Result<Package> {
        let noted = self.cache.binaries(&target.file, sha256)?;
        let binaries = match noted {
            Some(binaries) => binaries,
            None => {
                let path = self.cache.path(&target.file);
                let binaries = archive::inspect(&path, &target.folder)
                    .with_context(|| path.display().to_string())?;
                if !self.run.check() {
                    self.cache.keep_binaries(&target.file, sha256, &binaries)?;
                }
                binaries
            }
        };
        self.package(target, sha256, binaries)
    }

    fn package(&self, target: &Target, sha256: &str, binaries: Vec<Binary>) -> Result<Package> {
        let path = self.cache.path(&target.file);
        let size_bytes = size(&path)?;
        Ok(Package {
            arch: target.arch,
            path,
            sha256: sha256.into(),
            size_bytes,
            binaries,
            pending: false,
        })
    }

    /// The SHA-256 that the archive in the cache must have: the pin, else what
    /// the mirror listed when it was fetched.
    fn known_sum(&self, target: &Target) -> Result<Option<String>> {
        let listing = self.cache.sums()?;
        let listed = listing.and_then(|listing| sums::listed(&listing, &target.file));
        let location = self.cache.path(SUMS).display().to_string();
        match agreed(target, listed, &location) {
            // Another mirror may list what the user expects.
            Err(_) if !self.offline => Ok(None),
            sum => sum,
        }
    }

    /// The mirror's list, and the SHA-256 that its archive must have.
    fn mirror_sum(&self, target: &Target) -> Result<(Option<String>, String)> {
        let version = self.version.to_string();
        let remote = Remote { mirror: self.mirror, version: &version, file: SUMS };
        let listing = match remote.text() {
            Ok(listing) => Some(listing),
            // Whoever pins the archive does not need the list.
            Err(error) if target.pin.is_some() && kind_of(&error) == Some(Kind::Missing) => None,
            Err(error) => return Err(error),
        };
        let listed = listing.as_ref().and_then(|listing| sums::listed(listing, &target.file));
        match agreed(target, listed, &remote.location())? {
            Some(sum) => Ok((listing, sum)),
            None => bail!(
                "{}: no line for {}: the mirror has no {} for {}",
                remote.location(),
                target.file,
                self.version,
                target.arch
            ),
        }
    }

    fn keep_sums(&self, listing: Option<String>) -> Result<()> {
        match listing {
            Some(listing) if !self.run.check() => self.cache.keep_sums(&listing),
            _ => Ok(()),
        }
    }
}

/// The sum that the pin and the list at `location` agree on; none when there is neither.
fn agreed(target: &Target, listed: Option<String>, location: &str) -> Result<Option<String>> {
    match (target.pin, listed) {
        (Some(pin), Some(listed)) if pin != listed => {
            bail!("{location}: {} is {listed}, but --sha256 says {pin}", target.file)
        }
        (pin, listed) => Ok(listed.or(pin.map(str::to_owned))),
    }
}

fn size(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path);
    Ok(metadata.with_context(|| format!("{}: reading its size", path.display()))?.len())
}

impl Package {
    /// What the document says of it.
    pub(crate) fn archive(&self) -> Result<Archive> {
        let local = self.path.to_str().with_context(|| {
            format!("{}: not UTF-8 text: pass another --cache", self.path.display())
        })?;
        Ok(Archive {
            arch: self.arch,
            local: local.into(),
            sha256: self.sha256.clone(),
            size_bytes: self.size_bytes,
            binaries: self.binaries.clone(),
            pending: self.pending,
        })
    }
}
