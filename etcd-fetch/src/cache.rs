//! The cache: the archives of one release that were found to be right.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use etcd::Version;
use pipeline::disk::{self, Lock};
use pipeline::terminal::Progress;

use pipeline::document::Binary;

/// The name of the file of checksums, here and on a mirror.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// The most that a text has, here and on a mirror.
pub(crate) const TEXT_BYTES: u64 = 1 << 20;

/// The folder of one release in the cache.
pub(crate) struct Cache {
    root: PathBuf,
    folder: PathBuf,
}

impl Cache {
    /// The folder of `version` in the cache `root`. Nothing is made.
    pub(crate) fn new(root: &Path, version: Version) -> Result<Self> {
        let root = disk::absolute(root)?;
        Ok(Self { folder: root.join(version.to_string()), root })
    }

    /// Whether anything of the release was ever kept.
    pub(crate) fn exists(&self) -> bool {
        self.folder.exists()
    }

    /// The path of `file`.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Makes the folder, and keeps every other process from writing to it.
    pub(crate) fn lock(&self) -> Result<Lock> {
        disk::private_dir(&self.folder)?;
        wait(&self.folder.join(".lock"))
    }

    /// Keeps every other process from unpacking out of this cache.
    pub(crate) fn unpack_lock(&self) -> Result<Lock> {
        disk::private_dir(&self.root)?;
        wait(&self.root.join(".unpack.lock"))
    }

    /// The mirror's checksums, as they were when the last archive was fetched.
    pub(crate) fn sums(&self) -> Result<Option<String>> {
        read(&self.path(SUMS))
    }

    /// Keeps the mirror's checksums.
    pub(crate) fn keep_sums(&self, sums: &str) -> Result<()> {
        if self.sums()?.as_deref() == Some(sums) {
            return Ok(());
        }
        disk::write(&self.path(SUMS), sums.as_bytes(), 0o644)
    }

    /// The SHA-256 of `file` as it is now; none when there is no such file.
    pub(crate) fn sha256_of(&self, file: &str) -> Result<Option<String>> {
        let path = self.path(file);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            _ => disk::sha256_of(&path).map(Some),
        }
    }

    /// What is known of the binaries in `file`; none unless that was found in
    /// an archive with this SHA-256.
    pub(crate) fn binaries(&self, file: &str, sha256: &str) -> Result<Option<Vec<Binary>>> {
        let Some(note) = read(&self.note(file))? else { return Ok(None) };
        let mut lines = note.lines();
        if lines.next() != Some(line(sha256, file).as_str()) {
            return Ok(None);
        }
        let binary = |line: &str| {
            let (sha256, name) = line.split_once("  ")?;
            Some(Binary { name: name.into(), sha256: sha256.into() })
        };
        Ok(lines.map(binary).collect())
    }

    /// Notes what was found in `file`, so that no later run has to unpack it to know.
    pub(crate) fn keep_binaries(
        &self,
        file: &str,
        sha256: &str,
        binaries: &[Binary],
    ) -> Result<()> {
        let mut note = line(sha256, file) + "\n";
        for binary in binaries {
            note += &(line(&binary.sha256, &binary.name) + "\n");
        }
        disk::write(&self.note(file), note.as_bytes(), 0o644)
    }

    /// The path of the note on what is in `file`: in the form of `sha256sum`,
    /// first the archive, then its binaries.
    fn note(&self, file: &str) -> PathBuf {
        self.path(&format!("{file}.binaries"))
    }
}

fn line(sha256: &str, name: &str) -> String {
    format!("{sha256}  {name}")
}

fn wait(path: &Path) -> Result<Lock> {
    let _progress = Progress::wait("waiting for another etcd-fetch");
    Lock::wait(path)
}

fn read(path: &Path) -> Result<Option<String>> {
    match disk::read_text(path, TEXT_BYTES) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // Damaged: the same as none.
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{}: reading", path.display())),
    }
}
