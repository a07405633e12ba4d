//! Counting the keys that a client would find, in bounded memory.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// The most keys that are counted in one pass: what a table of 2^19 places takes, more than
/// all but the largest clusters have. With 9 bytes a place that is 4.5 MB, all of it in use
/// from some thousand keys on.
const KEYS: usize = (1 << 19) / 8 * 7;

/// The keys that are live at one point of a pass over the revisions.
///
/// Revisions come in the order in which they were made, so a key can be put
/// and deleted again anywhere. Of each live key 64 bits of its SHA-256 are held:
/// among ten million keys, two are the same with a chance of 1 to 370,000, and then
/// counted as one. When they become too many, the pass goes on with the lower half of
/// the range of hashes, and others are left to a pass of their own.
pub(crate) struct LiveKeys {
    keys: HashSet<u64, BuildHasherDefault<AsItIs>>,
    limit: usize,
    first: u64,
    last: u64,
    counted: u64,
}

impl LiveKeys {
    pub(crate) fn new() -> Self {
        Self::with_limit(KEYS)
    }

    fn with_limit(limit: usize) -> Self {
        let keys = HashSet::with_capacity_and_hasher(limit, BuildHasherDefault::default());
        Self { keys, limit, first: 0, last: u64::MAX, counted: 0 }
    }

    /// The key with the hash `key` was put.
    pub(crate) fn put(&mut self, key: u64) {
        if !(self.first..=self.last).contains(&key) {
            return;
        }
        while self.keys.len() == self.limit && !self.keys.contains(&key) {
            self.last = self.first + (self.last - self.first) / 2;
            let last = self.last;
            self.keys.retain(|key| *key <= last);
            if key > last {
                return;
            }
        }
        self.keys.insert(key);
    }

    /// The key with the hash `key` was deleted.
    pub(crate) fn delete(&mut self, key: u64) {
        self.keys.remove(&key);
    }

    /// The end of a pass: whether another one is needed.
    pub(crate) fn next_pass(&mut self) -> bool {
        self.counted += self.keys.len() as u64;
        self.keys.clear();
        if self.last == u64::MAX {
            return false;
        }
        let width = self.last - self.first;
        self.first = self.last + 1;
        self.last = self.first.saturating_add(width);
        true
    }

    /// How many keys were live at the end of all passes.
    pub(crate) fn count(&self) -> u64 {
        self.counted
    }
}

/// The keys are hashes already. All of one pass begin with the same bits, which the table
/// would take for a part of them that differs.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_keys_in_little_memory() {
        for (limit, keys) in [(1000, 0usize), (1000, 1000), (1000, 1001), (16, 1000), (1, 50)] {
            let mut random = fastrand::Rng::with_seed(7);
            let hashes: Vec<u64> = (0..keys).map(|_| random.u64(..)).collect();
            let mut live = LiveKeys::with_limit(limit);
            let mut passes = 0;
            loop {
                for hash in &hashes {
                    live.put(*hash);
                    live.put(*hash);
                    assert!(live.keys.len() <= limit);
                }
                // Every third is deleted, and every ninth put again.
                hashes.iter().step_by(3).for_each(|hash| live.delete(*hash));
                hashes.iter().step_by(9).for_each(|hash| live.put(*hash));
                passes += 1;
                if !live.next_pass() {
                    break;
                }
            }
            let expected = keys - keys.div_ceil(3) + keys.div_ceil(9);
            assert_eq!(live.count(), expected as u64, "{keys} keys, {limit} at once");
            assert_eq!(passes == 1, keys <= limit, "{passes} passes");
        }
    }
}
