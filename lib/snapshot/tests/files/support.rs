//! A minimal writer of bbolt databases, as etcd's snapshots are.

use sha2::{Digest, Sha256};

pub const PAGE: usize = 4096;

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// A database of these buckets, without the SHA-256 at its end. Buckets that
/// fit into a quarter of a page are kept in the root, as bbolt does.
pub fn database(buckets: &[(&str, Entries)]) -> Vec<u8> {
    let mut pages = Pages(vec![0; 2 * PAGE]);
    let mut root = Vec::new();
    for (name, entries) in buckets {
        let size: usize = entries.iter().map(|(k, v)| 16 + k.len() + v.len()).sum();
        let value = if size + 16 < PAGE / 4 {
            let mut value = vec![0; 16];
            value.extend(page(0, 0x02, entries.iter().map(|(k, v)| (leaf(0, k, v), k, v))));
            value
        } else {
            let mut value = pages.tree(entries).to_le_bytes().to_vec();
            value.resize(16, 0);
            value
        };
        root.push((name.as_bytes().to_vec(), value));
    }
    let id = pages.push(0x02, root.iter().map(|(k, v)| (leaf(1, k, v), k, v)));
    let count = (pages.0.len() / PAGE) as u64;
    let mut database = pages.0;
    for transaction in [6u64, 7] {
        let at = (transaction % 2) as usize * PAGE;
        let mut meta = vec![];
        for number in [0xED0C_DAEDu32, 2, PAGE as u32, 0] {
            meta.extend(number.to_le_bytes());
        }
        for number in [id, 0, u64::MAX, count, transaction] {
            meta.extend(number.to_le_bytes());
        }
        meta.extend([0; 8]);
        database[at..at + 8].copy_from_slice(&(transaction % 2).to_le_bytes());
        database[at + 8] = 0x04;
        database[at + 16..at + 80].copy_from_slice(&meta);
    }
    sign_metas(&mut database);
    database
}

/// Puts the right checksum into both meta pages.
pub fn sign_metas(database: &mut [u8]) {
    for at in [16, PAGE + 16] {
        let hash = database[at..at + 56].iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        database[at + 56..at + 64].copy_from_slice(&hash.to_le_bytes());
    }
}

/// `database` with its SHA-256 at the end.
pub fn with_trailer(database: &[u8]) -> Vec<u8> {
    let mut file = database.to_vec();
    file.extend_from_slice(&Sha256::digest(database));
    file
}

/// An entry of the bucket `key`: the client's `key` was put at this revision,
/// or deleted.
pub fn revision(main: u64, key: &[u8], value: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let mut revision = main.to_be_bytes().to_vec();
    revision.push(b'_');
    revision.extend(0u64.to_be_bytes());
    let field = |number: u8, bytes: &[u8]| {
        let mut field = vec![number << 3 | 2];
        let mut len = bytes.len();
        while len >= 0x80 {
            field.push(len as u8 | 0x80);
            len >>= 7;
        }
        field.push(len as u8);
        field.extend_from_slice(bytes);
        field
    };
    let mut stored = field(1, key);
    match value {
        Some(value) => stored.extend(field(5, value)),
        None => revision.push(b't'),
    }
    (revision, stored)
}

struct Pages(Vec<u8>);

impl Pages {
    /// Adds a page, as long as it has to be; gives its number.
    fn push<'a>(
        &mut self,
        flags: u16,
        entries: impl Iterator<Item = (Vec<u8>, &'a Vec<u8>, &'a Vec<u8>)> + Clone,
    ) -> u64 {
        let id = (self.0.len() / PAGE) as u64;
        self.0.extend(page(id, flags, entries));
        self.0.resize(self.0.len().next_multiple_of(PAGE), 0);
        let overflow = (self.0.len() / PAGE) as u64 - id - 1;
        let at = id as usize * PAGE;
        self.0[at + 12..at + 16].copy_from_slice(&(overflow as u32).to_le_bytes());
        id
    }

    /// Adds leaves for `entries`, and branches above them; gives the root.
    fn tree(&mut self, entries: &Entries) -> u64 {
        let mut level = Vec::new();
        for some in split(entries, |(k, v)| 16 + k.len() + v.len()) {
            let id = self.push(0x02, some.iter().map(|(k, v)| (leaf(0, k, v), k, v)));
            level.push((some[0].0.clone(), id));
        }
        let none = Vec::new();
        while level.len() > 1 {
            let mut above = Vec::new();
            for some in split(&level, |(k, _)| 16 + k.len()) {
                let id = self.push(0x01, some.iter().map(|(k, id)| (branch(k, *id), k, &none)));
                above.push((some[0].0.clone(), id));
            }
            level = above;
        }
        level[0].1
    }
}

/// Splits `all` so that each part fits into a page, or is one alone.
fn split<T>(all: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut parts, mut from, mut used) = (Vec::new(), 0, 16);
    for (at, one) in all.iter().enumerate() {
        if at > from && used + size(one) > PAGE {
            parts.push(&all[from..at]);
            (from, used) = (at, 16);
        }
        used += size(one);
    }
    parts.push(&all[from..]);
    parts
}

/// The entry of a leaf, with room for the position of its key.
fn leaf(flags: u32, key: &[u8], value: &[u8]) -> Vec<u8> {
    let numbers = [flags, 0, key.len() as u32, value.len() as u32];
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The same of a branch.
fn branch(key: &[u8], id: u64) -> Vec<u8> {
    let mut entry = vec![0; 4];
    entry.extend((key.len() as u32).to_le_bytes());
    entry.extend(id.to_le_bytes());
    entry
}

fn page<'a>(
    id: u64,
    flags: u16,
    entries: impl Iterator<Item = (Vec<u8>, &'a Vec<u8>, &'a Vec<u8>)> + Clone,
) -> Vec<u8> {
    let count = entries.clone().count();
    let mut page = id.to_le_bytes().to_vec();
    page.extend(flags.to_le_bytes());
    page.extend((count as u16).to_le_bytes());
    page.extend([0; 4]);
    let mut data = 16 + 16 * count;
    for (mut entry, key, value) in entries.clone() {
        let position = (data - page.len()) as u32;
        let at = if flags == 0x02 { 4 } else { 0 };
        entry[at..at + 4].copy_from_slice(&position.to_le_bytes());
        page.extend(entry);
        data += key.len() + value.len();
    }
    for (_, key, value) in entries {
        page.extend_from_slice(key);
        page.extend_from_slice(value);
    }
    page
}
