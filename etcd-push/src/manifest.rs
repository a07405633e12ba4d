//! What one node is to have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Result;
use etcd::layout;
use pipeline::document::{Arch, Archive, Directory, File, Node, NodeSettings, PENDING, Release};
use pipeline::{Error, Run, disk, has_private_key};
use remote::Query;

use crate::places::Places;
use crate::stage::split;
use crate::state;

/// A key is smaller: in larger files none is looked for.
const SMALL_BYTES: u64 = 64 << 10;

/// What is said of a local file that was changed since it was put into the document.
const OTHER: &str = "not what the document says it is: build the document again";

/// What one node is to have.
pub(crate) struct Manifest<'a> {
    pub node: &'a Node,
    pub files: Vec<WantedFile<'a>>,
    pub release: Option<WantedRelease<'a>>,
    /// The paths of etcd and of these tools, about which rules of their own say what may
    /// become of them.
    own: Vec<String>,
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
    document.check_release()?;
    let mut archives = document.release.iter().flat_map(|release| &release.archives);
    let mut files = document.nodes.iter().flat_map(|node| &node.files);
    if !run.check() && (archives.any(|a| a.pending) || files.any(|file| file.pending)) {
        let what = format!("what is to be pushed was only {PENDING}");
        return Err(Error::bad_input(what).into());
    }
    let mut manifests = Vec::new();
    let mut problems = Vec::new();
    for node in run.nodes() {
        let mut files = Vec::new();
        let settings = document.settings(node);
        for directory in &node.directories {
            if let Some(why) = not_etcds(directory, &settings) {
                problems.push(format!("{}: {}: {why}", node.name, directory.path));
            }
        }
        for file in &node.files {
            match wanted(file, &settings) {
                Ok(file) => files.push(file),
                Err(problem) => problems.push(format!("{}: {}: {problem}", node.name, file.path)),
            }
        }
        let release = match &document.release {
            Some(release) => match release_of(release, node, settings.bin_dir) {
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
        let own = own_paths(&document.settings(node));
        manifests.push(Manifest { node, files, release, own });
    }
    if manifests.iter().all(|m| m.count_items() == 0) && problems.is_empty() {
        problems.push(
            "nodes: no files, folders, users or release to push: put etcd-fetch, etcd-cert issue \
             and etcd-render before this tool, or pass --file"
                .to_owned(),
        );
    }
    match problems.is_empty() {
        true => Ok(manifests),
        false => Err(Error::bad_input(problems.join("; ")).into()),
    }
}

fn own_paths(settings: &NodeSettings) -> Vec<String> {
    let unit = format!("{}/{}", layout::UNIT_DIR, layout::UNIT);
    let drop_ins = format!("{unit}.d");
    let fixed = [layout::RELEASES, layout::LOCK, layout::WORK, &unit, &drop_ins].map(str::to_owned);
    let chosen = [&settings.config_dir, &settings.cert_dir].into_iter().cloned();
    let link = format!("{}/etcd", settings.bin_dir);
    data_folders(settings).cloned().chain(chosen).chain(fixed).chain([link]).collect()
}

/// Why nobody else writes there.
const DATA: &str = "it is in the folder of etcd's data, which is etcd's alone";

/// Whether `path` is in a folder of etcd's data.
fn in_data(path: &str, settings: &NodeSettings) -> bool {
    data_folders(settings).any(|folder| Path::new(path).starts_with(folder))
}

/// The data directory, and that of the write-ahead log where it has one of its own.
fn data_folders(settings: &NodeSettings) -> impl Iterator<Item = &String> {
    [Some(&settings.data_dir), settings.wal_dir.as_ref()].into_iter().flatten()
}

/// Why etcd could not use its data in the folder `directory` any more, or not trust what lies
/// there.
fn not_etcds(directory: &Directory, settings: &NodeSettings) -> Option<String> {
    let Directory { path, mode, owner, .. } = directory;
    let user = &settings.user;
    let read = [&settings.config_dir, &settings.cert_dir, &settings.bin_dir];
    let is_etcds = data_folders(settings).chain(read).any(|folder| folder == path);
    if is_etcds && u32::from_str_radix(mode, 8).is_ok_and(|mode| mode & 0o002 != 0) {
        return Some(format!(
            "mode {mode}: anybody could replace what etcd has there: use \"0755\""
        ));
    }
    if data_folders(settings).any(|folder| folder == path) {
        let why = format!("its owner is {owner}, and etcd, whose data it holds, runs as {user}");
        return (owner != user).then_some(why);
    }
    in_data(path, settings).then(|| DATA.into())
}

/// Why nothing but etcd, or these tools themselves, may write or remove `file`.
fn keeper(file: &File, settings: &NodeSettings) -> Option<&'static str> {
    if in_data(&file.path, settings) {
        return Some(DATA);
    }
    if file.path == layout::member_mark(&settings.config_dir) {
        return Some("the mark of the member, which says whether it has ever been ready");
    }
    let of_tools = [layout::LOCK, layout::WORK].contains(&file.path.as_str());
    of_tools.then_some("these tools lock the node with it")
}

fn wanted<'a>(file: &'a File, settings: &NodeSettings) -> Result<WantedFile<'a>, String> {
    if let Some(why) = keeper(file, settings) {
        return Err(format!("{why}: leave it out"));
    }
    let (sha256, size) = match &file.local {
        // Whatever it will be, it is another than what is on the node.
        Some(_) if file.pending => (String::new(), 0),
        Some(local) => of_local(file, Path::new(local))?,
        None => (sha256_of(file)?, file.content.as_ref().map_or(0, String::len) as u64),
    };
    Ok(WantedFile { file, sha256, size })
}

/// The SHA-256 of what `file` is to hold; empty where there is to be no file.
fn sha256_of(file: &File) -> Result<String, String> {
    file.wanted_sha256().map(Option::unwrap_or_default).map_err(|error| format!("{error:#}"))
}

/// The SHA-256 and the size in bytes of what `local` names for `file`. What is not what the
/// document says, and a private key that others could read on the node, is refused.
fn of_local(file: &File, local: &Path) -> Result<(String, u64), String> {
    let failed = |what: &str, error| format!("{}: {what}: {error}", local.display());
    let size = regular(local)?;
    let (sha256, bytes) = if size > SMALL_BYTES {
        (disk::sha256_of(local).map_err(|error| format!("{error:#}"))?, None)
    } else {
        let bytes = disk::read(local, SMALL_BYTES).map_err(|error| failed("reading", error))?;
        (disk::sha256(&bytes), Some(bytes))
    };
    if file.sha256.as_ref().is_some_and(|wanted| *wanted != sha256) {
        return Err(format!("{}: {OTHER}", local.display()));
    }
    let Some(bytes) = bytes else { return Ok((sha256, size)) };
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
    if !archive.pending {
        let size = regular(Path::new(&archive.local));
        let size = size.map_err(|problem| format!("{problem}: run etcd-fetch again"))?;
        if size != archive.size_bytes {
            return Err(format!("{}: {OTHER}", archive.local));
        }
    }
    let dir = layout::release_dir(&release.version, &archive.sha256);
    Ok(WantedRelease { version: &release.version, archive, dir, bin_dir })
}

impl WantedFile<'_> {
    /// Its name in its folder.
    pub(crate) fn name(&self) -> &str {
        split(&self.file.path).1
    }
}

impl WantedRelease<'_> {
    /// The etcd of this release.
    pub(crate) fn etcd(&self) -> String {
        format!("{}/etcd", self.dir)
    }
}

/// Paths of files, by the folder that they are in.
#[derive(Default)]
struct ByFolder<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> ByFolder<'a> {
    fn add(&mut self, path: &'a str) {
        let (folder, _) = path.rsplit_once('/').unwrap_or_default();
        self.0.entry(if folder.is_empty() { "/" } else { folder }).or_default().push(path);
    }

    /// The lines that ask for them. What a line names has to fit on a command line.
    fn lines(&self) -> String {
        const BYTES: usize = 64 << 10;
        let mut lines = String::new();
        for (folder, paths) in &self.0 {
            let mut left = 0;
            for path in paths {
                if left < path.len() {
                    lines += &format!("\nfiles\t{folder}");
                    left = BYTES;
                }
                lines.extend(["\t", path]);
                left = left.saturating_sub(path.len() + 1);
            }
        }
        lines
    }
}

impl Manifest<'_> {
    /// The binaries that are to be tried on the node: the one of the release, and
    /// the one that runs, or would be started, now.
    pub(crate) fn etcd_binaries(&self) -> Vec<String> {
        let of = |release: &WantedRelease| [release.etcd(), format!("{}/etcd", release.bin_dir)];
        self.release.iter().flat_map(of).collect()
    }

    /// Why the binaries of the release are none for a host that calls itself `machine`, as
    /// `uname -m` has it: those of another architecture are never sent.
    pub(crate) fn other_machine(&self, machine: &str) -> Option<String> {
        let wanted = self.node.arch();
        let fits = self.release.is_none() || Arch::of_machine(machine) == Some(wanted);
        (!fits).then(|| {
            format!(
                "its architecture is {machine}, not {wanted}: set the node's arch in the document"
            )
        })
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
        for path in &self.own {
            lines += &format!("own\t{path}\n");
        }
        for directory in &self.node.directories {
            lines += &format!("folder\t{}\n", directory.path);
        }
        let binaries = match &self.release {
            Some(release) if verify => release
                .archive
                .binaries
                .iter()
                .map(|b| format!("{}/{}", release.dir, b.name))
                .collect(),
            _ => Vec::new(),
        };
        let mut files = ByFolder::default();
        self.files.iter().for_each(|wanted| files.add(&wanted.file.path));
        binaries.iter().for_each(|path| files.add(path));
        if let Some(release) = &self.release {
            let names = names(release.archive);
            lines += &format!("release\t{}\t{}\t{names}\n", release.dir, release.bin_dir);
        }
        Query { script: state::SCRIPT, input: (lines + &files.lines()).into_bytes() }
    }

    /// The first path that is to be touched and leads, over a link or a mount on the host or
    /// because etcd has its own elsewhere than the document says, to one of etcd or of these tools:
    /// the rules for those go by their paths. So is a folder on the way to one of etcd that would
    /// be closed to it. `answer` is that to [`Manifest::query`].
    pub(crate) fn hidden(&self, answer: &[String]) -> Option<String> {
        let places = Places::read(answer);
        let files = self.files.iter().map(|wanted| wanted.file.path.as_str());
        let folders = self.node.directories.iter().map(|directory| directory.path.as_str());
        let barred = || self.node.directories.iter().find_map(|folder| places.barred(folder));
        let mut wanted = self.files.iter().map(|wanted| wanted.file);
        let taken = files.chain(folders).find_map(|path| places.taken(path)).or_else(barred);
        taken.or_else(|| wanted.find_map(|file| places.no_program(file)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_etcds_own_is_left_alone() {
        let text = r#"{"apiVersion": "etcd-tools/v1", "nodes": [{"name": "a",
            "address": "1.1.1.1", "settings": {"walDir": "/srv/wal"}}]}"#;
        let document = pipeline::parse(text.as_bytes()).unwrap().document;
        let settings = document.settings(&document.nodes[0]);
        let file = |path: &str, absent: bool| {
            let content = (!absent).then(String::new);
            let (mode, owner) = ("0644".to_owned(), "root".to_owned());
            let (group, path) = (owner.clone(), path.to_owned());
            File {
                path,
                mode,
                owner,
                group,
                absent,
                content,
                local: None,
                sha256: None,
                pending: false,
            }
        };
        let data = "it is in the folder of etcd's data, which is etcd's alone";
        for (path, why) in [
            ("/var/lib/etcd/member/snap/db", Some(data)),
            ("/var/lib/etcd", Some(data)),
            ("/srv/wal/wal/x", Some(data)),
            (
                "/etc/etcd/etcd.member",
                Some("the mark of the member, which says whether it has ever been ready"),
            ),
            ("/run/etcd-tools.lock", Some("these tools lock the node with it")),
            ("/run/etcd-tools.work", Some("these tools lock the node with it")),
            ("/var/lib/etcd-2/x", None),
            ("/etc/etcd/etcd.conf", None),
        ] {
            for absent in [true, false] {
                let why = why.map(|why| format!("{why}: leave it out"));
                let file = file(path, absent);
                assert_eq!(wanted(&file, &settings).err(), why, "{path}");
            }
        }
        let open = |path: &str, mode: &str| {
            let (path, mode, owner) = (path.to_owned(), mode.to_owned(), "etcd".to_owned());
            not_etcds(&Directory { path, mode, group: owner.clone(), owner }, &settings)
        };
        assert_eq!(open("/etc/etcd", "0775"), None);
        assert_eq!(open("/etc/kubernetes", "1777"), None);
        for (path, mode) in [("/etc/etcd", "0777"), ("/etc/etcd/ssl", "1777"), ("/srv/wal", "0703")]
        {
            let why =
                format!("mode {mode}: anybody could replace what etcd has there: use \"0755\"");
            assert_eq!(open(path, mode), Some(why));
        }
        let folder = |path: &str, owner: &str| {
            let (path, owner, mode) = (path.to_owned(), owner.to_owned(), "0700".to_owned());
            not_etcds(&Directory { path, mode, group: owner.clone(), owner }, &settings)
        };
        let other = "its owner is root, and etcd, whose data it holds, runs as etcd";
        assert_eq!(folder("/var/lib/etcd", "etcd"), None);
        assert_eq!(folder("/var/lib/etcd", "root").as_deref(), Some(other));
        assert_eq!(folder("/srv/wal", "root").as_deref(), Some(other));
        assert_eq!(folder("/var/lib/etcd/member", "etcd").as_deref(), Some(data));
        assert_eq!(folder("/var/lib", "root"), None);
    }
}
