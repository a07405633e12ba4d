//! The two meta pages of a bbolt database: where its root is, and how far it goes.

/// Bytes of a page before its content.
pub(crate) const HEADER: usize = 16;
/// Bytes of a meta page's content.
const META: usize = 64;
pub(crate) const META_PAGE: usize = HEADER + META;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// A database that keeps its list of free pages in memory only, as etcd's does.
const NO_FREELIST: u64 = u64::MAX;

/// What a valid meta page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The size of a page in bytes.
    pub page_size: u64,
    /// The page at which the tree of buckets begins.
    pub root: u64,
    /// The page of the list of free pages, if there is one.
    pub freelist: Option<u64>,
    /// The number of pages.
    pub pages: u64,
    /// The transaction that wrote it: the higher one counts.
    pub transaction: u64,
}

impl Meta {
    /// The meta page that begins with `page`; `None` when it is not valid.
    pub(crate) fn parse(page: &[u8; META_PAGE]) -> Option<Self> {
        let meta = &page[HEADER..];
        let checksum = fnv1a(&meta[..META - 8]);
        let known = u32_at(meta, 0) == MAGIC && u32_at(meta, 4) == VERSION;
        if !known || u64_at(meta, META - 8) != checksum {
            return None;
        }
        let page_size = u64::from(u32_at(meta, 8));
        let sensible = page_size.is_power_of_two() && (1024..=65536).contains(&page_size);
        let freelist = Some(u64_at(meta, 32)).filter(|page| *page != NO_FREELIST);
        sensible.then_some(Self {
            page_size,
            root: u64_at(meta, 16),
            freelist,
            pages: u64_at(meta, 40),
            transaction: u64_at(meta, 48),
        })
    }
}

/// Whether `page`, the beginning of a file, is that of a bbolt database, intact or not.
pub(crate) fn is_database(page: &[u8; META_PAGE]) -> bool {
    u32_at(page, HEADER) == MAGIC
}

/// FNV-1a with 64 bits, the checksum of meta pages.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}
