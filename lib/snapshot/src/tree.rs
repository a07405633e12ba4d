//! The trees of pages: the root, whose entries are the buckets, and one tree
//! for each bucket.

use std::borrow::Cow;
use std::ops::Range;

use crate::Error;
use crate::database::{Database, Kind, Page};
use crate::meta::{HEADER, u16_at, u32_at, u64_at};

/// Bytes of an entry in the table of a page.
const ELEMENT: usize = 16;
/// The flag of an entry that is a bucket.
const BUCKET: u32 = 0x01;
/// Bytes of a bucket's value before the page that may stand in it.
const BUCKET_HEADER: usize = 16;
/// The longest key that bbolt allows.
const KEY_BYTES: u64 = 32768;
/// A tree of twice the pages is one deeper at most; with the least that etcd's
/// keys make, 16 is beyond any disk.
const DEPTH: usize = 16;
/// etcd has a dozen.
const BUCKETS: usize = 256;
/// The pieces in which values are read that are not in memory.
const PIECE: usize = 64 << 10;

/// What is given the key and the value of each entry of a bucket.
pub(crate) type Visit<'v> = dyn FnMut(&[u8], &Value) -> Result<(), Error> + 'v;
/// The same, of any tree, with the flags of the entry.
type VisitElement<'v> = dyn FnMut(u32, &[u8], &Value) -> Result<(), Error> + 'v;

/// A bucket: its name, and where its entries are.
pub(crate) struct Bucket {
    pub name: Vec<u8>,
    entries: Entries,
}

enum Entries {
    /// In the tree that begins at this page.
    Tree(u64),
    /// In a small page of their own, which stands in the root.
    Inline(Page),
}

/// One pass over a database: no page is met twice in it.
pub(crate) struct Walk<'a> {
    database: &'a Database<'a>,
    /// One bit for each page.
    met: Vec<u64>,
    /// The memory of pages, one for each level.
    spare: [Vec<u8>; DEPTH],
    order: Order,
}

/// The entries of a tree must come in the order of their keys.
#[derive(Default)]
struct Order {
    last: Vec<u8>,
    /// Whether the next key may equal `last`: the key that leads to a page is
    /// that of its first entry, or was once.
    inclusive: bool,
}

/// The value of an entry, in memory or still in the file.
pub(crate) struct Value<'a> {
    database: &'a Database<'a>,
    page: &'a Page,
    range: Range<u64>,
}

impl<'a> Walk<'a> {
    /// A pass over `database` that has not met any page but its list of free ones.
    pub(crate) fn new(database: &'a Database<'a>) -> Result<Self, Error> {
        let words = usize::try_from(database.pages().div_ceil(64)).unwrap_or(usize::MAX);
        let mut walk = Self {
            database,
            met: vec![0; words],
            spare: Default::default(),
            order: Order::default(),
        };
        if let Some(id) = database.freelist() {
            let page = walk.meet(id, 0)?;
            if page.kind != Kind::Freelist {
                return Err(database.damaged(id, "not the list of free pages that it should be"));
            }
            walk.spare[0] = page.head;
        }
        Ok(walk)
    }

    /// The buckets, in the order of their names.
    pub(crate) fn buckets(&mut self) -> Result<Vec<Bucket>, Error> {
        let mut buckets = Vec::new();
        let database = self.database;
        self.tree(database.root(), 0, &mut |flags, name, value| {
            let id = value.page.id;
            if flags & BUCKET == 0 {
                return Err(database.damaged(id, "an entry outside of all buckets"));
            }
            if buckets.len() == BUCKETS {
                return Err(database.damaged(id, format!("more than {BUCKETS} buckets")));
            }
            buckets.push(Bucket { name: name.to_vec(), entries: entries(value)? });
            Ok(())
        })?;
        Ok(buckets)
    }

    /// Gives each entry of `bucket` to `visit`, in the order of their keys.
    pub(crate) fn entries(&mut self, bucket: &Bucket, visit: &mut Visit) -> Result<(), Error> {
        let database = self.database;
        let mut visit = |flags: u32, key: &[u8], value: &Value| {
            if flags & BUCKET != 0 {
                return Err(database.damaged(value.page.id, "a bucket in a bucket"));
            }
            visit(key, value)
        };
        self.order = Order::default();
        match &bucket.entries {
            Entries::Tree(root) => self.tree(*root, 0, &mut visit),
            Entries::Inline(page) => self.leaf(page, &mut visit),
        }
    }

    /// Reads the page `id`, and notes that it has been met.
    fn meet(&mut self, id: u64, level: usize) -> Result<Page, Error> {
        let page = self.database.page(id, std::mem::take(&mut self.spare[level]))?;
        for id in id..id + page.pages {
            let (word, bit) = ((id / 64) as usize, 1 << (id % 64));
            if self.met[word] & bit != 0 {
                return Err(self.database.damaged(id, "in two places of the tree"));
            }
            self.met[word] |= bit;
        }
        Ok(page)
    }

    fn tree(&mut self, id: u64, level: usize, visit: &mut VisitElement) -> Result<(), Error> {
        if level == DEPTH {
            return Err(self.database.damaged(id, format!("more than {DEPTH} levels deep")));
        }
        let page = self.meet(id, level)?;
        match page.kind {
            Kind::Leaf => self.leaf(&page, visit)?,
            Kind::Branch => self.branch(&page, level, visit)?,
            Kind::Freelist => {
                return Err(self.database.damaged(id, "a list of free pages in the tree"));
            }
        }
        self.spare[level] = page.head;
        Ok(())
    }

    fn branch(&mut self, page: &Page, level: usize, visit: &mut VisitElement) -> Result<(), Error> {
        let mut elements = Elements::of(self.database, page)?;
        if page.count == 0 {
            return Err(self.database.damaged(page.id, "a branch without entries"));
        }
        while let Some(at) = elements.next() {
            let element = &page.head[at..at + ELEMENT];
            let child = u64_at(element, 8);
            let key = elements.data(at, u32_at(element, 0), u32_at(element, 4), 0)?.0;
            self.order.next(&key, true).map_err(|why| self.database.damaged(page.id, why))?;
            self.tree(child, level + 1, visit)?;
        }
        Ok(())
    }

    fn leaf(&mut self, page: &Page, visit: &mut VisitElement) -> Result<(), Error> {
        let mut elements = Elements::of(self.database, page)?;
        while let Some(at) = elements.next() {
            let element = &page.head[at..at + ELEMENT];
            let (flags, position) = (u32_at(element, 0), u32_at(element, 4));
            let (key, range) =
                elements.data(at, position, u32_at(element, 8), u32_at(element, 12))?;
            self.order.next(&key, false).map_err(|why| self.database.damaged(page.id, why))?;
            visit(flags, &key, &Value { database: self.database, page, range })?;
        }
        Ok(())
    }
}

impl Order {
    /// `key` is the next one; `inclusive` when the one after it may be the same.
    fn next(&mut self, key: &[u8], inclusive: bool) -> Result<(), &'static str> {
        let follows = match self.inclusive {
            true => key >= self.last.as_slice(),
            false => key > self.last.as_slice(),
        };
        if !follows {
            return Err("keys out of order");
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.inclusive = inclusive;
        Ok(())
    }
}

/// The table of a page. What its entries refer to must follow the table, in
/// the same order and without overlap: so no byte of a file is read twice.
struct Elements<'a> {
    database: &'a Database<'a>,
    page: &'a Page,
    next: usize,
    /// Where the data of the next entry may begin.
    free: u64,
}

impl<'a> Elements<'a> {
    fn of(database: &'a Database<'a>, page: &'a Page) -> Result<Self, Error> {
        let table = HEADER + page.count * ELEMENT;
        if table > page.head.len() {
            let why = format!("{} entries, more than it has room for", page.count);
            return Err(database.damaged(page.id, why));
        }
        Ok(Self { database, page, next: 0, free: table as u64 })
    }

    /// Where the next entry stands in the head of the page.
    fn next(&mut self) -> Option<usize> {
        let at = HEADER + self.next * ELEMENT;
        self.next += 1;
        (self.next <= self.page.count).then_some(at)
    }

    /// The key of the entry that stands at `at`, and where in the page its value is.
    fn data(
        &mut self,
        at: usize,
        position: u32,
        key_len: u32,
        value_len: u32,
    ) -> Result<(Cow<'a, [u8]>, Range<u64>), Error> {
        let damaged = |why: &str| {
            let why = format!("entry {}: {why}", self.next - 1);
            self.database.damaged(self.page.id, why)
        };
        let key = at as u64 + u64::from(position);
        let value = key + u64::from(key_len);
        let end = value + u64::from(value_len);
        if key < self.free || end > self.page.len {
            return Err(damaged("its key and value lie outside of the page or overlap others"));
        }
        if !(1..=KEY_BYTES).contains(&u64::from(key_len)) {
            return Err(damaged(&format!("a key of {key_len} bytes")));
        }
        self.free = end;
        let range = key..value;
        let bytes = match in_head(self.page, &range) {
            Some(bytes) => bytes.into(),
            None => {
                let mut bytes = vec![0; key_len as usize];
                self.database.read_at(&mut bytes, self.page.offset + key)?;
                bytes.into()
            }
        };
        Ok((bytes, value..end))
    }
}

fn in_head<'a>(page: &'a Page, range: &Range<u64>) -> Option<&'a [u8]> {
    page.head.get(range.start as usize..range.end as usize)
}

impl Value<'_> {
    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Gives it to `take` in pieces, from its beginning.
    pub(crate) fn pieces(&self, mut take: impl FnMut(&[u8])) -> Result<(), Error> {
        if let Some(bytes) = in_head(self.page, &self.range) {
            take(bytes);
            return Ok(());
        }
        let mut buffer = vec![0; PIECE.min(self.len() as usize)];
        let mut at = self.range.start;
        while at < self.range.end {
            let piece = buffer.len().min((self.range.end - at) as usize);
            self.database.read_at(&mut buffer[..piece], self.page.offset + at)?;
            take(&buffer[..piece]);
            at += piece as u64;
        }
        Ok(())
    }

    /// The `len` bytes of it from `from` on, if it has so many.
    pub(crate) fn part(&self, from: u64, len: u64) -> Option<Value<'_>> {
        let start = self.range.start + from;
        let range = start..start.checked_add(len)?;
        let within = range.end <= self.range.end;
        within.then_some(Value { database: self.database, page: self.page, range })
    }

    /// At most the first `limit` bytes of it.
    pub(crate) fn start(&self, limit: u64) -> Result<Cow<'_, [u8]>, Error> {
        let range = self.range.start..self.range.start + self.len().min(limit);
        if let Some(bytes) = in_head(self.page, &range) {
            return Ok(bytes.into());
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.database.read_at(&mut bytes, self.page.offset + range.start)?;
        Ok(bytes.into())
    }
}

/// Where the entries of the bucket are whose value is `value`.
fn entries(value: &Value) -> Result<Entries, Error> {
    let (id, database) = (value.page.id, value.database);
    // bbolt keeps no more than a quarter of a page in the root.
    if value.len() < BUCKET_HEADER as u64 || value.len() > database.page_size() {
        let why = format!("a bucket that takes {} bytes", value.len());
        return Err(database.damaged(id, why));
    }
    let bytes = value.start(value.len())?;
    match u64_at(&bytes, 0) {
        0 => {}
        root => return Ok(Entries::Tree(root)),
    }
    let head = bytes[BUCKET_HEADER..].to_vec();
    if head.len() < HEADER || u16_at(&head, 8) != 0x02 {
        return Err(database.damaged(id, "a bucket with neither a page nor entries of its own"));
    }
    let (count, len) = (u16_at(&head, 10).into(), head.len() as u64);
    let offset = value.page.offset + value.range.start + BUCKET_HEADER as u64;
    Ok(Entries::Inline(Page { id, kind: Kind::Leaf, count, pages: 0, head, offset, len }))
}
