//! Snapshot files of etcd: whether one is intact, and what it holds.
//!
//! A snapshot is a bbolt database followed by the SHA-256 of all of it. Both
//! are checked here without etcd's own tools, in memory that depends on
//! neither the size of the file nor what stands in it: pages are read one by
//! one, values of any size in pieces, and the live keys are counted in as many
//! passes as their number needs.

mod content;
mod database;
mod error;
mod live;
mod meta;
mod stream;
mod tree;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use content::Content;
use database::Database;

pub use content::Member;
pub use error::Error;
pub use stream::{StreamHash, Streamed};

/// The length of the SHA-256 at the end of a snapshot.
pub const TRAILER_BYTES: u64 = 32;

/// Whether a file without the SHA-256 at its end is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailer {
    /// No: [`Error::NoTrailer`].
    Required,
    /// Yes: a copied `member/snap/db`, of which the pages alone can be checked.
    /// A trailer that is there is still compared.
    Optional,
    /// It has been compared already, while the file was written.
    Compared,
}

impl Trailer {
    /// Whether it must be there.
    pub fn required(required: bool) -> Self {
        if required { Self::Required } else { Self::Optional }
    }
}

/// Whether the file `path` begins as a snapshot does, intact or not. Fails when it cannot
/// be read.
pub fn begins_as_snapshot(path: &Path) -> io::Result<bool> {
    let mut page = [0; meta::META_PAGE];
    match File::open(path)?.read_exact(&mut page) {
        Ok(()) => Ok(meta::is_database(&page)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the file `path` has the size that its first pages tell, with the SHA-256 at its
/// end: what is cheap to know of a snapshot that may be cut off. Its content is not checked.
pub fn check_size(path: &Path) -> Result<(), Error> {
    let file = File::open(path)?;
    match Database::open(&file)?.has_trailer()? {
        true => Ok(()),
        false => Err(Error::NoTrailer),
    }
}

/// What an intact snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The SHA-256 of the whole file, its trailer included; `None` with
    /// [`Trailer::Compared`].
    pub sha256: Option<[u8; 32]>,
    /// Whether the file ends with the SHA-256 of its content.
    pub has_trailer: bool,
    /// The size of the database in bytes, without the trailer: etcdutl's `totalSize`.
    pub size_bytes: u64,
    /// CRC32-C over the names of the buckets, their keys and values: etcdutl's `hash`.
    pub hash: u32,
    /// The newest revision in it: etcdutl's `revision`.
    pub revision: u64,
    /// The keys that a client would find: etcdutl's `totalKey` from 3.6 on.
    pub total_keys: u64,
    /// The entries of all buckets: etcdutl's `totalKey` up to 3.5.
    pub entries: u64,
    /// The storage version, which etcd writes from 3.6 on, as `3.6.0`: etcdutl's `version`.
    pub storage_version: Option<String>,
    /// The version of the cluster when the snapshot was taken, as `3.5.0`.
    pub cluster_version: Option<String>,
    /// The members of the cluster, by name.
    pub members: Vec<Member>,
    /// Whether a member had raised alarm NOSPACE: a cluster that is restored from it takes no
    /// writes until that is disarmed.
    pub has_space_alarm: bool,
}

impl Summary {
    /// The version of etcd that the snapshot comes from: its storage version,
    /// else that of its cluster.
    pub fn version(&self) -> Option<&str> {
        // A new cluster has this one until its leader has asked all members for theirs
        // (MinClusterVersion in etcd's api/version).
        let cluster = self.cluster_version.as_deref().filter(|version| *version != "3.0.0");
        self.storage_version.as_deref().or(cluster)
    }
}

/// Checks all of the file `path` and says what it holds.
///
/// An error names the place in the file, not the file.
pub fn check(path: &Path, trailer: Trailer) -> Result<Summary, Error> {
    // Opening a FIFO would block.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::NotAFile);
    }
    let file = File::open(path)?;
    let database = Database::open(&file)?;
    let has_trailer = database.has_trailer()?;
    if !has_trailer && trailer != Trailer::Optional {
        return Err(Error::NoTrailer);
    }
    let hash = || -> Result<Option<[u8; 32]>, Error> {
        match (trailer, has_trailer) {
            (Trailer::Compared, _) => Ok(None),
            (_, true) => stream::whole(path)?.verified().map(Some),
            (_, false) => Ok(Some(plain_sha256(path)?)),
        }
    };
    let (sha256, content) = std::thread::scope(|scope| {
        let hashing = scope.spawn(hash);
        let content = Content::read(&database);
        // A panic in the thread is a bug, which is reported where it is caught.
        let hashed = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A page is a better place than the whole file.
        content.and_then(|content| Ok((hashed?, content)))
    })?;
    Ok(Summary {
        sha256,
        has_trailer,
        size_bytes: database.size(),
        hash: content.hash,
        revision: content.revision,
        total_keys: content.total_keys,
        entries: content.entries,
        storage_version: content.storage_version,
        cluster_version: content.cluster_version,
        members: content.members,
        has_space_alarm: content.has_space_alarm,
    })
}

fn plain_sha256(path: &Path) -> Result<[u8; 32], Error> {
    let mut hash = Sha256::new();
    stream::pieces(path, |piece| hash.update(piece))?;
    Ok(hash.finalize().into())
}
