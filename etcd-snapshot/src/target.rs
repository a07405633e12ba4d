//! Where a snapshot is put.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::BinaryBytes;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use pipeline::{Error, disk};
use snapshot::begins_as_snapshot;

use crate::name::Name;

/// How often is looked whether another run has ended.
const INTERVAL: Duration = Duration::from_millis(50);

/// What `--to` asks for; paths are absolute.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `-`: written to stdout.
    Stdout,
    /// This file.
    File(PathBuf),
    /// A file in this folder, named by its time and revision.
    Folder(PathBuf),
}

impl Target {
    /// Fails where there is no folder to write into, or a file that is no snapshot.
    pub(crate) fn find(to: &str) -> Result<Self> {
        if to == "-" {
            return Ok(Self::Stdout);
        }
        if to.is_empty() {
            return Err(Error::usage("--to: no file is named").into());
        }
        let path = disk::absolute(Path::new(to))?;
        let target = if to.ends_with('/') || path.is_dir() {
            Self::Folder(path)
        } else {
            if fs::symlink_metadata(&path).is_ok_and(|there| !there.is_file()) {
                return Err(Error::usage(format!("--to: {to}: not a regular file")).into());
            }
            // A snapshot may take the place of an older one, or of the file of mktemp.
            let is_empty = |there: &fs::Metadata| there.len() == 0;
            if fs::metadata(&path).is_ok_and(|there| !is_empty(&there))
                && !begins_as_snapshot(&path).with_context(|| format!("--to: {to}"))?
            {
                let why = format!(
                    "--to: {to}: is there already, and is no snapshot: choose another name"
                );
                return Err(Error::usage(why).into());
            }
            Self::File(path)
        };
        let folder = target.folder();
        if !folder.is_dir() {
            return Err(Error::usage(format!("--to: {}: no such folder", folder.display())).into());
        }
        Ok(target)
    }

    /// The folder that is written into.
    fn folder(&self) -> &Path {
        match self {
            Self::Stdout => Path::new("/dev"),
            Self::Folder(path) => path,
            Self::File(path) => path.parent().unwrap_or(path),
        }
    }

    /// The file that is written until the snapshot is known to be good; the same
    /// for every run, so that one finds what another has left.
    pub(crate) fn part(&self) -> PathBuf {
        match self {
            Self::File(path) => {
                let mut name = path.file_name().unwrap_or_default().to_owned();
                name.push(".part");
                path.with_file_name(name)
            }
            _ => self.folder().join("etcd-snapshot.part"),
        }
    }

    /// The path that the snapshot gets.
    pub(crate) fn path(&self, name: Name) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            _ => self.folder().join(name.to_string()),
        }
    }

    /// The file that would be replaced, if there is one.
    pub(crate) fn existing(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path.as_path()).filter(|path| path.exists()),
            _ => None,
        }
    }

    /// What is said of it before the name is known.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Stdout => "stdout".into(),
            Self::File(path) => path.display().to_string(),
            Self::Folder(path) => format!("a new file in {}", path.display()),
        }
    }

    /// Fails where a file of `bytes` cannot be written.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<()> {
        if *self == Self::Stdout {
            return Ok(());
        }
        let folder = self.folder();
        let name = folder.display();
        writable(folder)?;
        let disk = statvfs(folder).with_context(|| format!("{name}: asking for its free space"))?;
        // What an interrupted run has left is written over.
        let stale = fs::symlink_metadata(self.part()).map_or(0, |part| part.blocks() * 512);
        let free = disk.blocks_available() * disk.fragment_size() + stale;
        if free < bytes {
            let (free, bytes) = (BinaryBytes(free), BinaryBytes(bytes));
            bail!("{name}: too little space: the snapshot takes {bytes}, {free} are free");
        }
        Ok(())
    }
}

/// The file that is written until the snapshot is known to be good. Without
/// [`Part::keep`] it goes with this.
pub(crate) struct Part {
    path: PathBuf,
    file: Flock<File>,
    kept: bool,
}

impl Part {
    /// Makes the empty file `path`, readable by nobody else, or takes over what an
    /// interrupted run has left. Fails when another run is writing it still after `patience`.
    pub(crate) fn create(path: PathBuf, patience: Duration) -> Result<Self> {
        let writing = || format!("{}: writing", path.display());
        let begin = Instant::now();
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(&path)
                .map_err(plain_io)
                .with_context(writing)?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) if begin.elapsed() < patience => {
                    std::thread::sleep(INTERVAL);
                    continue;
                }
                Err((_, Errno::EWOULDBLOCK)) => {
                    bail!("{}: another etcd-snapshot save is writing it", path.display())
                }
                Err((_, error)) => return Err(error).with_context(writing),
            };
            // The other run may have ended, and its file have got its name, before the lock.
            let locked = file.metadata().with_context(writing)?;
            if fs::symlink_metadata(&path).is_ok_and(|there| there.ino() == locked.ino()) {
                file.set_len(0).with_context(writing)?;
                file.set_permissions(Permissions::from_mode(0o600)).with_context(writing)?;
                return Ok(Self { path, file, kept: false });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// To write to, from the beginning.
    pub(crate) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Waits until all of it is on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        let failed = || format!("{}: writing", self.path.display());
        self.file.sync_all().map_err(plain_io).with_context(failed)
    }

    /// Gives it its name, where it stays.
    pub(crate) fn keep(mut self, path: &Path) -> Result<()> {
        let renaming = || format!("{}: renaming it to {}", self.path.display(), path.display());
        disk::rename(&self.path, path).map_err(plain_io).with_context(renaming)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // What has the name after `keep` is another run's.
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Fails where no file can be made in `folder`.
pub(crate) fn writable(folder: &Path) -> Result<()> {
    access(folder, AccessFlags::W_OK)
        .map_err(|why| anyhow::anyhow!("{}: writing: {}", folder.display(), plain(why)))
}

fn plain(error: Errno) -> String {
    error.desc().to_lowercase()
}

/// The same error with a text that begins in lower case and has no number.
pub(crate) fn plain_io(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::new(error.kind(), plain(Errno::from_raw(number))),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_files_and_stdout() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        assert_eq!(Target::find("-").unwrap(), Target::Stdout);
        for to in [path.clone(), format!("{path}/")] {
            let target = Target::find(&to).unwrap();
            assert_eq!(target.part(), folder.path().join("etcd-snapshot.part"), "{to}");
        }
        let file = format!("{path}/a.db");
        let target = Target::find(&file).unwrap();
        assert_eq!(target.part(), folder.path().join("a.db.part"));
        let error = |to: &str| Target::find(to).unwrap_err().to_string();
        assert_eq!(error("/none/"), "--to: /none: no such folder".replace("/none:", "/none/:"));
        assert_eq!(error("/none/a.db"), "--to: /none: no such folder");
        assert_eq!(error("/dev/null"), "--to: /dev/null: not a regular file");
        assert_eq!(error(""), "--to: no file is named");
        // What is no snapshot is not replaced by one.
        let key = folder.path().join("ca.key");
        fs::write(&key, "a key").unwrap();
        let key = key.display().to_string();
        let refused =
            format!("--to: {key}: is there already, and is no snapshot: choose another name");
        assert_eq!(error(&key), refused);
        let empty = format!("{path}/empty.db");
        fs::write(&empty, "").unwrap();
        assert_eq!(Target::find(&empty).unwrap(), Target::File(empty.into()));
        let room = target.check_room(1 << 60).unwrap_err().to_string();
        let expected = format!("{path}: too little space: the snapshot takes 1.00 EiB, ");
        assert!(room.starts_with(&expected), "{room}");
    }

    #[test]
    fn a_part_goes_unless_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, name) = (folder.path().join("a.part"), folder.path().join("a.db"));
        fs::write(&path, "left by a killed run").unwrap();
        let part = Part::create(path.clone(), Duration::ZERO).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let busy = Part::create(path.clone(), Duration::ZERO).err().unwrap().to_string();
        assert_eq!(busy, format!("{}: another etcd-snapshot save is writing it", path.display()));
        assert!(path.exists());
        // Who is patient gets it when the other run has ended.
        let patient = std::thread::spawn({
            let path = path.clone();
            move || Part::create(path, Duration::from_secs(60)).unwrap()
        });
        drop(part);
        let part = patient.join().unwrap();
        part.keep(&name).unwrap();
        assert!(name.exists() && !path.exists());
        drop(Part::create(path.clone(), Duration::ZERO).unwrap());
        assert!(!path.exists());
    }
}
