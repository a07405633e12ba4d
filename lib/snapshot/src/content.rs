//! What etcd has put into the buckets.

use std::borrow::Cow;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::database::Database;
use crate::live::LiveKeys;
use crate::tree::{Bucket, Value, Walk};

/// Above this, a member or a version is not one that etcd has written.
const SMALL: u64 = 64 << 10;
const MEMBERS: usize = 1000;

/// A member of the cluster that a snapshot comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its ID, in hex.
    pub id: String,
    /// Its name; empty for one that was added and has not started yet.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it is a learner.
    pub is_learner: bool,
}

/// What the buckets of a database hold.
#[derive(Default)]
pub(crate) struct Content {
    pub hash: u32,
    pub revision: u64,
    pub entries: u64,
    pub total_keys: u64,
    pub storage_version: Option<String>,
    pub cluster_version: Option<String>,
    pub members: Vec<Member>,
    pub has_space_alarm: bool,
}

/// `NOSPACE` as the last field of an `etcdserverpb.AlarmMember`, which is the key of an
/// entry in the bucket `alarm`.
const NOSPACE: [u8; 2] = [0x10, 1];

impl Content {
    /// Walks all of `database`; once more for each share of its keys that is
    /// too large to be counted at once.
    pub(crate) fn read(database: &Database) -> Result<Self, Error> {
        let mut content = Self::default();
        let mut live = LiveKeys::new();
        let mut walk = Walk::new(database)?;
        let buckets = walk.buckets()?;
        for bucket in &buckets {
            content.hash = crc32c::crc32c_append(content.hash, &bucket.name);
            walk.entries(bucket, &mut |key, value| content.take(bucket, key, value, &mut live))?;
        }
        while live.next_pass() {
            let mut walk = Walk::new(database)?;
            for bucket in buckets.iter().filter(|bucket| bucket.name == b"key") {
                walk.entries(bucket, &mut |key, value| {
                    count(bucket, key, value, &mut live).map(drop)
                })?;
            }
        }
        content.total_keys = live.count();
        content.members.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(content)
    }

    fn take(
        &mut self,
        bucket: &Bucket,
        key: &[u8],
        value: &Value,
        live: &mut LiveKeys,
    ) -> Result<(), Error> {
        self.entries += 1;
        let mut hash = crc32c::crc32c_append(self.hash, key);
        value.pieces(|piece| hash = crc32c::crc32c_append(hash, piece))?;
        self.hash = hash;
        match (bucket.name.as_slice(), key) {
            (b"key", _) => self.revision = count(bucket, key, value, live)?,
            (b"members", _) => self.members.push(member(bucket, value, self.members.len())?),
            (b"alarm", alarm) => self.has_space_alarm |= alarm.ends_with(&NOSPACE),
            (b"meta", b"storageVersion") => self.storage_version = Some(version(bucket, value)?),
            (b"cluster", b"clusterVersion") => self.cluster_version = Some(version(bucket, value)?),
            _ => {}
        }
        Ok(())
    }
}

/// Counts the key that an entry of the bucket `key` puts or deletes; gives the
/// entry's revision.
///
/// The entry's own key is the revision: the main one, `_`, the sub one, both
/// with 8 bytes, and a `t` for a tombstone. Its value is a `mvccpb.KeyValue`,
/// of which the client's key is the first field.
fn count(bucket: &Bucket, key: &[u8], value: &Value, live: &mut LiveKeys) -> Result<u64, Error> {
    let (revision, deletes) = match key {
        [main @ .., b'_', _, _, _, _, _, _, _, _] if main.len() == 8 => (main, false),
        [main @ .., b'_', _, _, _, _, _, _, _, _, b't'] if main.len() == 8 => (main, true),
        _ => {
            let start = key[..key.len().min(20)].escape_ascii();
            return Err(damaged(bucket, format!("the key \"{start}\" is not a revision")));
        }
    };
    let revision = revision.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let clients = clients_key(value)?.ok_or_else(|| {
        damaged(bucket, format!("revision {revision}: its value does not hold a key"))
    })?;
    let mut hash = Sha256::new();
    clients.pieces(|piece| hash.update(piece))?;
    let hash = hash.finalize();
    let hash = hash[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    if deletes {
        live.delete(hash)
    } else {
        live.put(hash)
    }
    Ok(revision)
}

/// The part of a `mvccpb.KeyValue` that is the client's key.
///
/// An empty value is one without fields: what a restore that bumps the revision puts at the
/// new one (`unsafeBumpBucketsRevision` in etcd's etcdutl/snapshot).
fn clients_key<'a>(value: &'a Value) -> Result<Option<Value<'a>>, Error> {
    const FIELD_1_BYTES: u8 = 0x0A;
    if value.len() == 0 {
        return Ok(value.part(0, 0));
    }
    let start = value.start(11)?;
    let Some((&FIELD_1_BYTES, length)) = start.split_first() else { return Ok(None) };
    let mut number = 0u64;
    for (at, byte) in length.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(value.part(at as u64 + 2, number));
        }
    }
    Ok(None)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredMember {
    id: u64,
    name: String,
    #[serde(rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "clientURLs")]
    client_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner")]
    is_learner: bool,
}

/// The member in an entry of the bucket `members`, of which `before` were read.
fn member(bucket: &Bucket, value: &Value, before: usize) -> Result<Member, Error> {
    if before == MEMBERS {
        return Err(damaged(bucket, format!("more than {MEMBERS} members")));
    }
    let member: StoredMember = serde_json::from_slice(&small(bucket, value)?)
        .map_err(|why| damaged(bucket, format!("not a member: {why}")))?;
    Ok(Member {
        id: format!("{:x}", member.id),
        name: member.name,
        peer_urls: member.peer_urls.unwrap_or_default(),
        client_urls: member.client_urls.unwrap_or_default(),
        is_learner: member.is_learner,
    })
}

fn version(bucket: &Bucket, value: &Value) -> Result<String, Error> {
    let bytes = small(bucket, value)?;
    let text = std::str::from_utf8(&bytes).ok();
    let version = text.filter(|text| text.bytes().all(|b| b.is_ascii_graphic()));
    version.map(str::to_owned).ok_or_else(|| damaged(bucket, "not a version".into()))
}

fn small<'a>(bucket: &Bucket, value: &'a Value) -> Result<Cow<'a, [u8]>, Error> {
    if value.len() > SMALL {
        return Err(damaged(bucket, format!("a value of {} bytes", value.len())));
    }
    value.start(SMALL)
}

fn damaged(bucket: &Bucket, why: String) -> Error {
    Error::Bucket { bucket: String::from_utf8_lossy(&bucket.name).into_owned(), why }
}
