//! What one node is to have.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;
use etcd::layout;
use pipeline::document::{Archive, Binary, File, Node, NodeSettings, Release};
use pipeline::{Error, Run, disk, has_private_key};
use remote::Query;

use crate::state;

/// A key or a certificate is smaller; larger files are checked only where they arrive.
const SMALL_BYTES: u64 = 64 << 10;

/// What is said of a local file that was changed since it was put into the document.
const OTHER: &str = "not what the document says it is: build the document again";

/// What one node is to have.
pub(crate) struct Manifest<'a> {
    pub node: &'a Node,
    pub files: Vec<WantedFile<'a>>,
    pub release: Option<WantedRelease<'a>>,
}

/// A file, and the hash of what is to be in it.
pub(crate) struct WantedFile<'a> {
    pub file: &'a File,
    /// Empty where there is to be no file.
    pub sha256: String,
    /// In bytes.
    pub size: u64,
}

/// A release for the node's architecture, and where it goes.
pub(crate) struct WantedRelease<'a> {
    pub version: &'a str,
    pub archive: &'a Archive,
    pub dir: String,
    pub bin_dir: String,
}

/// The manifests of all selected nodes. Everything that can be wrong on this
/// machine is found here, before any host is touched.
pub(crate) fn of(run: &Run) -> Result<Vec<Manifest<'_>>> {
    let document = &run.document;
    let mut manifests = Vec::new();
    let mut problems = Vec::new();
    for node in run.nodes() {
        let mut files = Vec::new();
        for file in &node.files {
            match wanted(file, &document.settings(node)) {
                Ok(file) => files.push(file),
                Err(problem) => problems.push(format!("{}: {}: {problem}", node.name, file.path)),
            }
        }
        let release = match &document.release {
            Some(release) => match release_of(release, node, document.settings(node).bin_dir) {
                Ok(release) => Some(release),
                Err(problem) => {
                    // It is the same for all nodes of an architecture.
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                    None
                }
            },
            None => None,
        };
        manifests.push(Manifest { node, files, release });
    }
    if manifests.iter().all(|m| m.count_items() == 0) && problems.is_empty() {
        problems.push("nodes: no files, folders, users or release to push".to_owned());
    }
    match problems.is_empty() {
        true => Ok(manifests),
        false => Err(Error::bad_input(problems.join("; ")).into()),
    }
}

fn wanted<'a>(file: &'a File, settings: &NodeSettings) -> Result<WantedFile<'a>, String> {
    let (sha256, size) = match (&file.content, &file.local) {
        (Some(content), _) => (disk::sha256(content.as_bytes()), content.len() as u64),
        (None, Some(local)) => of_local(file, Path::new(local))?,
        (None, None) => {
            let data = [Some(&settings.data_dir), settings.wal_dir.as_ref()];
            if data.into_iter().flatten().any(|folder| Path::new(&file.path).starts_with(folder)) {
                return Err("absent: it is in the folder of etcd's data: not removed".into());
            }
            (String::new(), 0)
        }
    };
    Ok(WantedFile { file, sha256, size })
}

/// The SHA-256 and the size in bytes of what `local` names for `file`. What is not what the
/// document says, and a private key that others could read on the node, is refused.
fn of_local(file: &File, local: &Path) -> Result<(String, u64), String> {
    let failed = |what: &str, error| format!("{}: {what}: {error}", local.display());
    let size = regular(local)?;
    if size > SMALL_BYTES {
        let hashed = || disk::sha256_of(local).map_err(|error| format!("{error:#}"));
        return Ok((file.sha256.clone().map_or_else(hashed, Ok)?, size));
    }
    let bytes = disk::read(local, SMALL_BYTES).map_err(|error| failed("reading", error))?;
    let sha256 = disk::sha256(&bytes);
    if file.sha256.as_ref().is_some_and(|wanted| *wanted != sha256) {
        return Err(format!("{}: {OTHER}", local.display()));
    }
    let mode = &file.mode;
    let others = u32::from_str_radix(mode, 8).unwrap_or(0o777) & 0o007 != 0;
    if others && has_private_key(&String::from_utf8_lossy(&bytes)) {
        return Err(format!("a private key with mode {mode}: others could read it: use \"0600\""));
    }
    Ok((sha256, bytes.len() as u64))
}

/// The size of a regular file in bytes; all else is refused.
fn regular(local: &Path) -> Result<u64, String> {
    match fs::metadata(local) {
        Ok(metadata) if metadata.is_file() => Ok(metadata.len()),
        Ok(_) => Err(format!("{}: not a regular file", local.display())),
        Err(error) => Err(format!("{}: opening: {error}", local.display())),
    }
}

fn release_of<'a>(
    release: &'a Release,
    node: &Node,
    bin_dir: String,
) -> Result<WantedRelease<'a>, String> {
    let arch = node.arch();
    let archive =
        release.archives.iter().find(|archive| archive.arch == arch).ok_or_else(|| {
            format!(
                "release {} has no archive for {arch}: run etcd-fetch for that architecture",
                release.version
            )
        })?;
    let size = regular(Path::new(&archive.local));
    if size.map_err(|problem| format!("{problem}: run etcd-fetch again"))? != archive.size_bytes {
        return Err(format!("{}: {OTHER}", archive.local));
    }
    let dir = layout::release_dir(&release.version, &archive.sha256);
    Ok(WantedRelease { version: &release.version, archive, dir, bin_dir })
}

impl WantedRelease<'_> {
    /// The etcd of this release.
    pub(crate) fn etcd(&self) -> String {
        format!("{}/etcd", self.dir)
    }
}

impl Manifest<'_> {
    /// The binaries that are to be tried on the node: the one of the release, and
    /// the one that runs, or would be started, now.
    pub(crate) fn etcd_binaries(&self) -> Vec<String> {
        let of = |release: &WantedRelease| [release.etcd(), format!("{}/etcd", release.bin_dir)];
        self.release.iter().flat_map(of).collect()
    }

    /// What `state.sh` is asked: one line a thing, its parts separated by tabs.
    /// With `verify` it hashes the binaries of the release, too.
    pub(crate) fn query(&self, verify: bool) -> Query {
        let mut lines = String::new();
        for user in &self.node.users {
            lines += &format!("user\t{}\n", user.name);
        }
        let directories = self.node.directories.iter().map(|d| (&d.owner, &d.group));
        let files = self.files.iter().map(|wanted| (&wanted.file.owner, &wanted.file.group));
        for (owner, group) in directories.chain(files).collect::<BTreeSet<_>>() {
            lines += &format!("owner\t{owner}\t{group}\n");
        }
        for directory in &self.node.directories {
            lines += &format!("folder\t{}\n", directory.path);
        }
        for WantedFile { file, .. } in &self.files {
            lines += &format!("path\t{}\n", file.path);
        }
        if let Some(release) = &self.release {
            let names = names(release.archive);
            lines += &format!("release\t{}\t{}\t{names}\n", release.dir, release.bin_dir);
            for Binary { name, .. } in &release.archive.binaries {
                if verify {
                    lines += &format!("path\t{}/{name}\n", release.dir);
                }
            }
        }
        Query { script: state::SCRIPT, input: lines.into_bytes() }
    }

    /// What there is, for people: `9 files, 3 folders, release v3.5.16`.
    pub(crate) fn count(&self) -> String {
        let mut parts = Vec::new();
        if !self.files.is_empty() {
            parts.push(counted(self.files.len(), "file"));
        }
        if !self.node.directories.is_empty() {
            parts.push(counted(self.node.directories.len(), "folder"));
        }
        if let Some(release) = &self.release {
            parts.push(format!("release {}", release.version));
        }
        parts.join(", ")
    }

    fn count_items(&self) -> usize {
        self.files.len()
            + self.node.directories.len()
            + self.node.users.len()
            + usize::from(self.release.is_some())
    }
}

/// The names of the binaries, with a space between.
pub(crate) fn names(archive: &Archive) -> String {
    archive.binaries.iter().map(|binary| binary.name.as_str()).collect::<Vec<_>>().join(" ")
}

/// `1 file`, `2 files`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
