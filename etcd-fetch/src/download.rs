//! Bringing a file from a mirror, in as many goes as it takes.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use pipeline::terminal::Progress;
use sha2::{Digest, Sha256};

use crate::cache::TEXT_BYTES;
use crate::mirror::{Kind, Mirror, MirrorError, retrying};
use crate::pieces::pieces;

/// The most that an archive may have: an endless one must not fill the disk. Those of etcd
/// have 16 to 25 MB.
const ARCHIVE_BYTES: u64 = 1 << 30;

/// A file on a mirror.
pub(crate) struct Remote<'a> {
    /// The mirror.
    pub(crate) mirror: &'a Mirror,
    /// The release, e.g. `v3.5.16`.
    pub(crate) version: &'a str,
    /// The name of the file.
    pub(crate) file: &'a str,
}

/// What one go brought.
struct Go {
    sha256: String,
    resumed: bool,
}

impl Remote<'_> {
    /// Its location, for people.
    pub(crate) fn location(&self) -> String {
        self.mirror.location(self.version, self.file)
    }

    /// Its size, where the mirror tells it. An error when it is not there.
    pub(crate) fn size(&self) -> Result<Option<u64>> {
        retrying(|| Ok(self.mirror.open(self.version, self.file, 0)?.total))
    }

    /// The whole of a small text.
    pub(crate) fn text(&self) -> Result<String> {
        let bytes = retrying(|| {
            let mut bytes = Vec::new();
            self.mirror.open(self.version, self.file, 0)?.copy(&mut |piece| {
                bytes.extend_from_slice(piece);
                if bytes.len() as u64 > TEXT_BYTES {
                    return Err(self.refused("too large for a list of checksums").into());
                }
                Ok(())
            })?;
            Ok(bytes)
        })?;
        String::from_utf8(bytes).map_err(|_| self.refused("not text").into())
    }

    /// Brings the file to `partial`, with the SHA-256 `expected`, and syncs it.
    ///
    /// What `partial` already holds is not asked for again. When the whole then
    /// turns out wrong it is thrown away, and brought once more from the start.
    pub(crate) fn bring(&self, partial: &Path, expected: &str) -> Result<()> {
        let mut go = retrying(|| self.go(partial, expected))?;
        if go.sha256 != expected && go.resumed {
            remove(partial)?;
            go = retrying(|| self.go(partial, expected))?;
        }
        if go.sha256 != expected {
            remove(partial)?;
            bail!(
                "{}: SHA-256 is {}, expected {expected}: damaged or tampered with: discarded",
                self.location(),
                go.sha256
            );
        }
        Ok(())
    }

    fn go(&self, partial: &Path, expected: &str) -> Result<Go> {
        let shown = partial.display();
        let writing = || format!("{shown}: writing");
        let mut out = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(partial)
            .with_context(|| format!("{shown}: opening"))?;
        let (mut hash, mut have) = (Sha256::new(), 0);
        pieces(&mut out, &shown.to_string(), &mut |bytes| {
            hash.update(bytes);
            have += bytes.len() as u64;
            Ok(())
        })?;
        let sha256 = hex::encode(hash.clone().finalize());
        if sha256 == expected {
            out.sync_all().with_context(writing)?;
            return Ok(Go { sha256, resumed: true });
        }
        let source = self.mirror.open(self.version, self.file, have)?;
        let start = source.start;
        if start < have {
            hash = Sha256::new();
            out.set_len(0).with_context(writing)?;
            out.seek(SeekFrom::Start(0)).with_context(writing)?;
        }
        let progress = Progress::bytes(self.file.to_owned(), source.total);
        progress.advance(start);
        let mut total = start;
        source.copy(&mut |bytes| {
            total += bytes.len() as u64;
            if total > ARCHIVE_BYTES {
                return Err(self.refused("too large for an archive of etcd").into());
            }
            out.write_all(bytes).with_context(writing)?;
            hash.update(bytes);
            progress.advance(bytes.len() as u64);
            Ok(())
        })?;
        out.sync_all().with_context(writing)?;
        Ok(Go { sha256: hex::encode(hash.finalize()), resumed: start > 0 })
    }

    fn refused(&self, why: &str) -> MirrorError {
        MirrorError { kind: Kind::Refused, message: format!("{}: {why}", self.location()) }
    }
}

/// Removes `path` if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: removing", path.display()))
        }
        _ => Ok(()),
    }
}
