//! What can be wrong with a snapshot file.

use std::io;

/// What is wrong with a snapshot file; one line, without the file's name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("reading: {}", plain(.0))]
    Io(#[from] io::Error),
    /// A folder, a device, a pipe.
    #[error("not a regular file")]
    NotAFile,
    /// Neither of its two meta pages is one.
    #[error("not a database of etcd, or damaged: neither meta page (page 0 and 1) is valid")]
    NotADatabase,
    /// It ends before its last page, or in the middle of one.
    #[error("truncated: {size} bytes, but its pages and SHA-256 take {expected}")]
    Truncated {
        /// The size of the file.
        size: u64,
        /// What it should be.
        expected: u64,
    },
    /// It goes on behind its last page and the SHA-256.
    #[error("damaged: {size} bytes, but its pages and SHA-256 take {expected}")]
    TooLong {
        /// The size of the file.
        size: u64,
        /// What it should be.
        expected: u64,
    },
    /// It does not end with a SHA-256.
    #[error("no SHA-256 at its end: not a snapshot, but perhaps a copy of member/snap/db")]
    NoTrailer,
    /// The SHA-256 at its end is not that of its content.
    #[error("damaged: the SHA-256 of its content is {computed}, at its end stands {trailer}")]
    Sha256 {
        /// The SHA-256 of the content, in hex.
        computed: String,
        /// What stands at the end, in hex.
        trailer: String,
    },
    /// A page is not what it should be.
    #[error("damaged: page {page} at byte {offset}: {why}")]
    Page {
        /// The page's number.
        page: u64,
        /// Where it begins in the file.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A bucket does not hold what etcd puts there.
    #[error("damaged: bucket {bucket:?}: {why}")]
    Bucket {
        /// The bucket's name.
        bucket: String,
        /// What is wrong with it.
        why: String,
    },
}

/// An error of the system without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
