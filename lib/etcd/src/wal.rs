//! What of a member's write-ahead log its next minor version could not read.
//!
//! Up to 3.5 a member tells its name and the cluster's version to the others by
//! requests of the v2 store (`publish` in etcd's server/etcdserver of v3.5.33). They
//! stay in the log, and are applied at every start, until a raft snapshot covers
//! them: after 10,000 entries by default. 3.6 still reads them (`applyEntryNormal`);
//! 3.7 panics, "unmarshal should never fail" (`Apply` in server/etcdserver/apply of
//! v3.7.3). Seen on clusters upgraded from v3.5.33 over v3.6.16 to v3.7.3.

/// A `grep` pattern for the v2 requests that etcd itself makes; each match is
/// where the path of a request begins.
pub const V2_PATHS: &str = r"/0/\(members/[0-9a-f]*/attributes\|version\)";

/// How many bytes before a match of [`V2_PATHS`] [`v2_entry`] needs at most: a
/// raft entry's header of at most 29 and a request's of at most 23 bytes.
pub const V2_HEADER_BYTES: usize = 64;

/// The raft index of the entry with a v2 request whose path begins right after
/// `before`, the bytes of the log up to a match of [`V2_PATHS`]; none when it
/// is something else, such as a value of a user's.
///
/// The entry is a `raftpb.Entry` of the type `EntryNormal`, whose data is an
/// `etcdserverpb.Request` with ID, method and path.
pub fn v2_entry(before: &[u8]) -> Option<u64> {
    let from = before.len().saturating_sub(V2_HEADER_BYTES);
    (from..before.len()).find_map(|from| header(before.get(from..)?))
}

/// The index, when all of `bytes` is the beginning of such an entry.
fn header(mut bytes: &[u8]) -> Option<u64> {
    let bytes = &mut bytes;
    let normal = number(bytes, 1)? == 0;
    let _term = number(bytes, 2)?;
    let index = number(bytes, 3)?;
    let _data = length(bytes, 4)?;
    let _id = number(bytes, 1)?;
    let method = length(bytes, 2)?;
    let (name, rest) = bytes.split_at_checked(usize::try_from(method).ok()?)?;
    *bytes = rest;
    let _path = length(bytes, 3)?;
    (normal && name == b"PUT" && bytes.is_empty()).then_some(index)
}

fn number(bytes: &mut &[u8], field: u64) -> Option<u64> {
    (varint(bytes)? == field << 3).then(|| varint(bytes))?
}

fn length(bytes: &mut &[u8], field: u64) -> Option<u64> {
    (varint(bytes)? == (field << 3 | 2)).then(|| varint(bytes))?
}

/// Takes a protobuf varint off the beginning of `bytes`; none when they hold no whole one.
pub fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The raft index up to which the snapshot in the file `name` goes, such as
/// `0000000000000003-000000000000000d.snap`: term and index in hex
/// (`Snapshotter.save` in etcd's server/etcdserver/api/snap).
pub fn snapshot_index(name: &str) -> Option<u64> {
    let (term, index) = name.strip_suffix(".snap")?.split_once('-')?;
    u64::from_str_radix(term, 16).ok()?;
    u64::from_str_radix(index, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the log of a member of v3.5.33: the request that sets the cluster's
    /// version, up to its path.
    const LOG: &[u8] = b"\x00\x00\x84\x08\x02\x10\xc7\x9d\xf4\x8e\x02\x1a\x42\x08\x00\x10\x02\x18\
        \x08\x22\x3a\x08\x82\xba\xbe\x83\xbb\xc4\xe8\xa6\xa0\x01\x12\x03PUT\x1a\x0a";

    #[test]
    fn a_v2_request_tells_its_index() {
        assert_eq!(v2_entry(LOG), Some(8));
        let long = [&[0x18; 100], LOG].concat();
        assert_eq!(v2_entry(&long), Some(8));
        for other in [&LOG[..LOG.len() - 1], &LOG[24..], b"", b"\x12\x03PUT\x1a\x0a"] {
            assert_eq!(v2_entry(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_snapshot_tells_its_index() {
        assert_eq!(snapshot_index("0000000000000003-000000000000000d.snap"), Some(13));
        for other in ["", "db", "0000000000000003.snap", "x-000000000000000d.snap", "3-d.snap.db"] {
            assert_eq!(snapshot_index(other), None, "{other}");
        }
    }
}
