//! What is staged in a folder, as `apply.sh` reads it: lines that name any number of files,
//! and the bytes of these in one tar archive.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use remote::{Error, Input};

use crate::manifest::{WantedFile, WantedRelease, names};

/// How many names one process is given: so many of the longest are far below what Linux
/// takes.
const BATCH: usize = 400;

/// The most files of which each is synced by itself. For more the file system is synced as a
/// whole: that takes a fraction of the time, and may write what is of others, too.
const SYNCED_ALONE: usize = 100;

/// The size of a block of a tar archive in bytes.
const TAR_BLOCK: u64 = 512;

/// What goes into one folder, through the staging folder in it.
#[derive(Default)]
pub(crate) struct Staged<'a> {
    pub release: Option<&'a WantedRelease<'a>>,
    /// The targets of links that have their names.
    pub links: Vec<&'a str>,
    pub files: Vec<&'a WantedFile<'a>>,
}

impl<'a> Staged<'a> {
    /// The names of the links and files.
    pub(crate) fn names(&self) -> Vec<&'a str> {
        let links = self.links.iter().map(|target| split(target).1);
        links.chain(self.files.iter().map(|wanted| wanted.name())).collect()
    }

    /// The lines that stage it in `folder`, and the bytes that they speak of.
    pub(crate) fn stage(
        &self,
        folder: &str,
        lines: &mut Lines,
        bytes: &mut Vec<Input>,
    ) -> Result<(), Error> {
        lines.add("staging", &[folder]);
        if let Some(release) = self.release {
            let archive = release.archive;
            let (name, size) = (split(&release.dir).1, archive.size_bytes);
            let parts = [folder, name, &size.to_string(), &archive.sha256, &names(archive)];
            lines.add("release", &parts);
            bytes.push(Input::File { path: PathBuf::from(&archive.local), size });
            for binary in &archive.binaries {
                lines.add("flush", &[folder, &format!("{name}/{}", binary.name)]);
            }
        }
        lines.batches("links", &[folder], &self.links);
        if !self.files.is_empty() {
            self.stage_files(folder, lines, bytes)?;
        }
        Ok(())
    }

    fn stage_files(
        &self,
        folder: &str,
        lines: &mut Lines,
        bytes: &mut Vec<Input>,
    ) -> Result<(), Error> {
        let mut archive = Archive::default();
        let mut sums = Vec::new();
        let mut names = Vec::new();
        for wanted in &self.files {
            let (path, name) = (&wanted.file.path, wanted.name());
            archive
                .add(name, wanted)
                .map_err(|error| Error::CommandFailed(format!("{path}: packing: {error}")))?;
            sums.push(sum_line(name, &wanted.sha256));
            names.push(name);
        }
        let (archive, size) = archive.end();
        lines.add("files", &[&[folder, &size.to_string()], names.as_slice()].concat());
        bytes.extend(archive);
        let sums: Vec<_> = sums.iter().map(String::as_str).collect();
        lines.add("sums", &[&[folder], sums.as_slice()].concat());
        let attributes = self.files.iter().map(|wanted| {
            let file = wanted.file;
            let owner = format!("{}:{}", file.owner, file.group);
            ((file.mode.as_str(), owner), wanted.name())
        });
        for ((mode, owner), names) in grouped(attributes) {
            lines.batches("own", &[folder, mode, &owner], &names);
        }
        match names.len() {
            ..=SYNCED_ALONE => lines.batches("flush", &[folder], &names),
            _ => lines.add("flush", &[folder]),
        }
        Ok(())
    }
}

/// What `sha256sum` says of a file.
fn sum_line(name: &str, sha256: &str) -> String {
    // A backslash before it says that those in the name are doubled.
    match name.contains('\\') {
        true => format!("\\{sha256}  {}", name.replace('\\', "\\\\")),
        false => format!("{sha256}  {name}"),
    }
}

/// The lines of a plan, their parts separated by tabs.
#[derive(Default)]
pub(crate) struct Lines(String);

impl Lines {
    pub(crate) fn add(&mut self, kind: &str, parts: &[&str]) {
        self.0 += kind;
        for part in parts {
            self.0.push('\t');
            self.0 += part;
        }
        self.0.push('\n');
    }

    /// Lines that end in `names`, not more of them on each than one process takes.
    pub(crate) fn batches(&mut self, kind: &str, parts: &[&str], names: &[&str]) {
        for batch in names.chunks(BATCH) {
            self.add(kind, &[parts, batch].concat());
        }
    }

    /// The whole plan.
    pub(crate) fn end(self) -> String {
        self.0 + "end"
    }
}

/// A tar archive as it is sent: each file is read while it goes.
#[derive(Default)]
struct Archive {
    parts: Vec<Input>,
    /// In bytes.
    size: u64,
}

impl Archive {
    fn add(&mut self, name: &str, wanted: &WantedFile) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(wanted.size);
        // Only the header is packed; its content comes after it.
        let mut packed = tar::Builder::new(Vec::new());
        packed.append_data(&mut header, name, io::empty())?;
        self.bytes(std::mem::take(packed.get_mut()));
        self.parts.push(match (&wanted.file.content, &wanted.file.local) {
            (Some(content), _) => Input::Bytes(content.clone().into_bytes()),
            (None, local) => {
                let path = PathBuf::from(local.as_deref().unwrap_or_default());
                Input::File { path, size: wanted.size }
            }
        });
        self.size += wanted.size;
        self.zeros(wanted.size.next_multiple_of(TAR_BLOCK) - wanted.size);
        Ok(())
    }

    /// The archive, and its size in bytes.
    fn end(mut self) -> (Vec<Input>, u64) {
        self.zeros(2 * TAR_BLOCK);
        (self.parts, self.size)
    }

    fn zeros(&mut self, count: u64) {
        self.bytes(vec![0; usize::try_from(count).unwrap_or_default()]);
    }

    fn bytes(&mut self, bytes: Vec<u8>) {
        self.size += bytes.len() as u64;
        self.parts.push(Input::Bytes(bytes));
    }
}

/// The folder of a path, and its name in it.
pub(crate) fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => ("/", path),
    }
}

/// The values of each key.
pub(crate) fn grouped<K: Ord, V>(pairs: impl Iterator<Item = (K, V)>) -> BTreeMap<K, Vec<V>> {
    let mut groups: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for (key, value) in pairs {
        groups.entry(key).or_default().push(value);
    }
    groups
}
