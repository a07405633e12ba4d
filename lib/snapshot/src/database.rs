//! The file as pages.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::meta::{HEADER, META_PAGE, Meta, u16_at, u32_at, u64_at};
use crate::{Error, TRAILER_BYTES};

/// The most of a run of pages that is held in memory; the table of what stands
/// in it is never longer (65535 elements of 16 bytes, and the header).
pub(crate) const HEAD: u64 = 1 << 20;

/// A bbolt database in a file.
pub(crate) struct Database<'a> {
    file: &'a File,
    file_size: u64,
    meta: Meta,
}

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Branch,
    Leaf,
    Freelist,
}

/// A page, or a run of them that belongs together.
pub(crate) struct Page {
    /// The number of the first.
    pub id: u64,
    pub kind: Kind,
    /// How many elements stand in it.
    pub count: usize,
    /// How many pages the run has.
    pub pages: u64,
    /// Its bytes, as far as they are held in memory.
    pub head: Vec<u8>,
    /// Where it begins in the file, and its length.
    pub offset: u64,
    pub len: u64,
}

impl<'a> Database<'a> {
    /// Reads the meta pages of `file` and compares its size with them.
    pub(crate) fn open(file: &'a File) -> Result<Self, Error> {
        let file_size = file.metadata()?.len();
        let meta = newest_meta(file, file_size)?;
        let database = Self { file, file_size, meta };
        let size = meta.pages.checked_mul(meta.page_size);
        if size.is_none_or(|size| size > file_size) {
            let expected = size.unwrap_or(u64::MAX).saturating_add(TRAILER_BYTES);
            return Err(Error::Truncated { size: file_size, expected });
        }
        Ok(database)
    }

    /// The size of all its pages, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.meta.pages * self.meta.page_size
    }

    /// Whether the file ends with a SHA-256 and has the size that it then must
    /// have. A file in use is longer than its pages, by whole blocks.
    pub(crate) fn has_trailer(&self) -> Result<bool, Error> {
        let (size, expected) = (self.file_size, self.size() + TRAILER_BYTES);
        match size % 512 {
            _ if size == expected => Ok(true),
            0 => Ok(false),
            _ if size < expected => Err(Error::Truncated { size, expected }),
            _ => Err(Error::TooLong { size, expected }),
        }
    }

    /// The page at which the tree of buckets begins.
    pub(crate) fn root(&self) -> u64 {
        self.meta.root
    }

    pub(crate) fn freelist(&self) -> Option<u64> {
        self.meta.freelist
    }

    /// The number of pages.
    pub(crate) fn pages(&self) -> u64 {
        self.meta.pages
    }

    pub(crate) fn page_size(&self) -> u64 {
        self.meta.page_size
    }

    /// What is wrong with the page `id`.
    pub(crate) fn damaged(&self, id: u64, why: impl Into<String>) -> Error {
        let offset = id.saturating_mul(self.meta.page_size);
        Error::Page { page: id, offset, why: why.into() }
    }

    /// Reads the page `id`, with the pages that belong to it; `head` is reused
    /// for its bytes.
    pub(crate) fn page(&self, id: u64, mut head: Vec<u8>) -> Result<Page, Error> {
        if !(2..self.meta.pages).contains(&id) {
            let why = format!("referred to, but the pages are 2 to {}", self.meta.pages - 1);
            return Err(self.damaged(id, why));
        }
        let offset = id * self.meta.page_size;
        head.resize(self.meta.page_size as usize, 0);
        self.file.read_exact_at(&mut head, offset)?;
        let (stored, flags) = (u64_at(&head, 0), u16_at(&head, 8));
        let (count, overflow) = (u16_at(&head, 10), u64::from(u32_at(&head, 12)));
        if stored != id {
            return Err(self.damaged(id, format!("its header is that of page {stored}")));
        }
        let kind = match flags {
            0x01 => Kind::Branch,
            0x02 => Kind::Leaf,
            0x10 => Kind::Freelist,
            _ => return Err(self.damaged(id, format!("flags {flags:#06x}: no kind of page"))),
        };
        let pages = overflow + 1;
        if pages > self.meta.pages - id {
            let why = format!("a run of {pages} pages, beyond the last page");
            return Err(self.damaged(id, why));
        }
        let len = pages * self.meta.page_size;
        let read = head.len();
        if len > read as u64 {
            head.resize(len.min(HEAD.max(self.meta.page_size)) as usize, 0);
            self.file.read_exact_at(&mut head[read..], offset + read as u64)?;
        }
        Ok(Page { id, kind, count: count.into(), pages, head, offset, len })
    }

    /// Reads at the byte `offset` of the file.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

/// The valid meta page with the higher transaction, as etcd would choose.
fn newest_meta(file: &File, file_size: u64) -> Result<Meta, Error> {
    let read = |offset: u64| -> Result<Option<Meta>, Error> {
        let mut page = [0; META_PAGE];
        if offset + META_PAGE as u64 > file_size {
            return Ok(None);
        }
        file.read_exact_at(&mut page, offset)?;
        Ok(Meta::parse(&page))
    };
    let first = read(0)?;
    // Without the first, the size of a page is known from the second alone.
    let second = match first {
        Some(meta) => read(meta.page_size)?,
        None => {
            let mut found = None;
            for offset in (10..=16).map(|power| 1 << power) {
                found = found.or(read(offset)?.filter(|meta| meta.page_size == offset));
            }
            found
        }
    };
    let second = second.filter(|meta| first.is_none_or(|first| first.page_size == meta.page_size));
    let valid = first.into_iter().chain(second).filter(|meta| meta.pages > 2);
    valid.max_by_key(|meta| meta.transaction).ok_or(Error::NotADatabase)
}

const _: () = assert!(HEAD as usize == HEADER + 65535 * 16);
