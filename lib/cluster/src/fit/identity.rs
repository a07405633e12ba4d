//! Whose the data in a folder is, from the beginning of its write-ahead log.

use etcd::wal;

/// Whose data it is; IDs in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) member: String,
    pub(super) cluster: String,
}

impl Identity {
    /// Reads the beginning of a segment of the write-ahead log. Each begins with
    /// a checksum and the metadata: frames of 8 bytes for the length (the
    /// upper byte holds the padding) and a protobuf `walpb.Record`, whose data
    /// is an `etcdserverpb.Metadata` (`Create` and `encoder.encode` in etcd's
    /// server/storage/wal).
    pub(super) fn of_log(mut bytes: &[u8]) -> Option<Self> {
        const METADATA: u64 = 1;
        for _ in 0..2 {
            let (frame, rest) = bytes.split_at_checked(8)?;
            let length = u64::from_le_bytes(frame.try_into().ok()?);
            let padding = if length >> 63 == 1 { (length >> 56) & 7 } else { 0 };
            let length = usize::try_from(length & ((1 << 56) - 1)).ok()?;
            let (record, rest) = rest.split_at_checked(length)?;
            bytes = rest.get(usize::try_from(padding).ok()?..)?;
            if number(record, 1)? == METADATA {
                let metadata = bytes_of(record, 3)?;
                return Some(Self {
                    member: format!("{:x}", number(metadata, 1)?),
                    cluster: format!("{:x}", number(metadata, 2)?),
                });
            }
        }
        None
    }
}

/// A field of a protobuf message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The field `wanted` of the protobuf `message`.
fn field(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    while !message.is_empty() {
        let key = wal::varint(&mut message)?;
        let found = match key & 7 {
            0 => Field::Number(wal::varint(&mut message)?),
            2 => {
                let length = usize::try_from(wal::varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        if key >> 3 == wanted {
            return Some(found);
        }
    }
    None
}

fn number(message: &[u8], wanted: u64) -> Option<u64> {
    match field(message, wanted)? {
        Field::Number(number) => Some(number),
        Field::Bytes(_) => None,
    }
}

fn bytes_of(message: &[u8], wanted: u64) -> Option<&[u8]> {
    match field(message, wanted)? {
        Field::Bytes(bytes) => Some(bytes),
        Field::Number(_) => None,
    }
}
