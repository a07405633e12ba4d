//! Files on the operator's machine: atomic writes, locks, hashes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

/// Writes `bytes` to `path` with the permission bits `mode`, so that whoever
/// reads the path finds either what was there or all of the new, and nobody
/// but the owner can read the file before it has its mode.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write_with(path, mode, |file| Ok(file.write_all(bytes)?))
}

/// The same as [`write`], with the content from `fill`, for what is too large
/// to be held in memory. Nothing is put in place when `fill` fails.
pub fn write_with(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut File) -> Result<()>,
) -> Result<()> {
    let temporary = beside(path);
    let written: Result<()> = (|| {
        let mut file = create_private(&temporary)?;
        fill(&mut file)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        Ok(rename(&temporary, path)?)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("{}: writing", path.display()))
}

/// The path of a temporary file in the folder of `path`, always the same one.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".partial");
    path.with_file_name(name)
}

fn create_private(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Renames `from`, already synced, to `to` in the same folder, and syncs the folder.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    match to.parent() {
        Some(folder) => {
            File::open(if folder == Path::new("") { Path::new(".") } else { folder })?.sync_all()
        }
        None => Ok(()),
    }
}

/// Makes the folder `path`, and its parents, for the owner only (0700) where they are missing.
pub fn private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("{}: making the folder", path.display()))
}

/// `path` from the root, links and `..` left as they are.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{}: finding its place", path.display()))
}

/// A lock that ends with this process, however it ends.
pub struct Lock(Flock<File>);

impl Lock {
    /// Takes the lock `path`, which is made if missing, and waits for it if
    /// another process has it.
    pub fn wait(path: &Path) -> Result<Self> {
        Self::take(path, FlockArg::LockExclusive)
    }

    /// The lock for a child process to hold, too: it ends with the last of the two.
    pub fn share(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    fn take(path: &Path, how: FlockArg) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("{}: opening the lock", path.display()))?;
        Flock::lock(file, how)
            .map(Self)
            .map_err(|(_, error)| io::Error::from(error))
            .with_context(|| format!("{}: locking", path.display()))
    }
}

/// Opens the regular file `path`. Anything else, such as a device or a named pipe,
/// is an error: it has no end, or waits for somebody who writes.
pub fn open(path: &Path) -> io::Result<File> {
    let wait_for_no_writer = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(wait_for_no_writer).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a regular file")),
    }
}

/// The content of the regular file `path`, which has at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(io::Error::other(format!("larger than {} KiB", limit >> 10))),
        false => Ok(bytes),
    }
}

/// The same as [`read`], of text.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"))
}

/// The SHA-256 of the regular file `path`, in lower-case hex.
pub fn sha256_of(path: &Path) -> Result<String> {
    let reading = || format!("{}: reading", path.display());
    let mut file = open(path).with_context(reading)?;
    let mut hash = Sha256::new();
    // A large buffer for a small file takes longer than its hash.
    let size = file.metadata().with_context(reading)?.len();
    let mut buffer = vec![0; usize::try_from(size.clamp(4 << 10, 256 << 10))?];
    loop {
        match file.read(&mut buffer).with_context(reading)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// The SHA-256 of `bytes`, in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_only_so_far() {
        let folder = std::env::temp_dir().join(format!("disk-read-test-{}", std::process::id()));
        private_dir(&folder).unwrap();
        let (file, pipe) = (folder.join("file"), folder.join("pipe"));
        fs::write(&file, vec![b'x'; 2048]).unwrap();
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        assert_eq!(read(&file, 2048).unwrap().len(), 2048);
        assert_eq!(read(&file, 2047).unwrap_err().to_string(), "larger than 1 KiB");
        for other in [&pipe, &folder, Path::new("/dev/zero")] {
            assert_eq!(read(other, 1).unwrap_err().to_string(), "not a regular file");
            let error = format!("{:#}", sha256_of(other).unwrap_err());
            assert_eq!(error, format!("{}: reading: not a regular file", other.display()));
        }
        fs::write(&file, b"\xff").unwrap();
        assert_eq!(read_text(&file, 9).unwrap_err().to_string(), "not UTF-8 text");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_write_replaces_the_whole_file_and_its_mode() {
        let folder = std::env::temp_dir().join(format!("disk-test-{}", std::process::id()));
        private_dir(&folder).unwrap();
        let path = folder.join("key");
        fs::write(beside(&path), "left by a killed run").unwrap();
        write(&path, b"long first text", 0o644).unwrap();
        write(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(sha256_of(&path).unwrap(), sha256(b"new"));
        write_with(&path, 0o644, |_| anyhow::bail!("cut off")).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
