//! The SHA-256 that a snapshot ends with, computed while its bytes pass.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use sha2::{Digest, Sha256};

use crate::Error;

const TRAILER: usize = crate::TRAILER_BYTES as usize;
const PIECE: usize = 256 << 10;

/// Computes the SHA-256 of a snapshot while its bytes pass: of all but the last
/// 32 bytes, which are to be that SHA-256, and of the whole.
#[derive(Default)]
pub struct StreamHash {
    hash: Sha256,
    /// The last bytes so far, at most [`TRAILER`]: they may be the trailer.
    tail: Vec<u8>,
    bytes: u64,
}

/// A snapshot of which all bytes have passed.
pub struct Streamed {
    /// How many there were.
    pub bytes: u64,
    /// The SHA-256 of all but the last 32 bytes.
    content: [u8; 32],
    /// The last 32 bytes; fewer where there were fewer.
    trailer: Vec<u8>,
    whole: [u8; 32],
}

impl StreamHash {
    /// The next bytes of the snapshot.
    pub fn update(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        if piece.len() >= TRAILER {
            self.hash.update(&self.tail);
            let (content, tail) = piece.split_at(piece.len() - TRAILER);
            self.hash.update(content);
            self.tail.clear();
            self.tail.extend_from_slice(tail);
            return;
        }
        self.tail.extend_from_slice(piece);
        let content = self.tail.len().saturating_sub(TRAILER);
        self.hash.update(&self.tail[..content]);
        self.tail.drain(..content);
    }

    /// Says that these were all.
    pub fn finish(mut self) -> Streamed {
        let content = self.hash.clone().finalize().into();
        self.hash.update(&self.tail);
        let whole = self.hash.finalize().into();
        Streamed { bytes: self.bytes, content, trailer: self.tail, whole }
    }
}

impl Streamed {
    /// The SHA-256 of the whole file, when its last 32 bytes are the SHA-256 of
    /// those before; else [`Error::Sha256`].
    pub fn verified(&self) -> Result<[u8; 32], Error> {
        if self.trailer == self.content {
            return Ok(self.whole);
        }
        Err(Error::Sha256 { computed: hex(&self.content), trailer: hex(&self.trailer) })
    }
}

/// Hashes all of the file `path`.
pub(crate) fn whole(path: &Path) -> Result<Streamed, Error> {
    let mut hash = StreamHash::default();
    pieces(path, |piece| hash.update(piece))?;
    Ok(hash.finish())
}

/// Reads all of the file `path` in pieces. The next ones are read while `take` is at work:
/// hashing takes all of a processor, reading a fifth of one.
pub(crate) fn pieces(path: &Path, mut take: impl FnMut(&[u8])) -> Result<(), Error> {
    let mut file = File::open(path)?;
    let (full, filled) = mpsc::sync_channel(1);
    let (empty, emptied) = mpsc::channel();
    for _ in 0..3 {
        let _ = empty.send(vec![0; PIECE]);
    }
    thread::scope(move |scope| {
        scope.spawn(move || {
            for mut buffer in emptied {
                let read = file.read(&mut buffer);
                let is_last = !matches!(read, Ok(1..));
                if full.send((buffer, read)).is_err() || is_last {
                    break;
                }
            }
        });
        for (buffer, read) in filled {
            take(&buffer[..read?]);
            let _ = empty.send(buffer);
        }
        Ok(())
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_do_not_matter() {
        let content: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
        let mut file = content.clone();
        file.extend_from_slice(&Sha256::digest(&content));
        let whole: [u8; 32] = Sha256::digest(&file).into();
        for size in [1, 7, 31, 32, 33, 64, 500, 1000, 1032] {
            let mut hash = StreamHash::default();
            file.chunks(size).for_each(|piece| hash.update(piece));
            let streamed = hash.finish();
            assert_eq!(streamed.bytes, 1032, "{size}");
            assert_eq!(streamed.verified().unwrap(), whole, "{size}");
        }
    }

    #[test]
    fn a_trailer_of_something_else() {
        let mut hash = StreamHash::default();
        hash.update(&[0; 64]);
        let error = hash.finish().verified().unwrap_err().to_string();
        assert_eq!(
            error,
            "damaged: the SHA-256 of its content is \
             66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925, at its end stands \
             0000000000000000000000000000000000000000000000000000000000000000"
        );
        assert!(StreamHash::default().finish().verified().is_err());
    }
}
