//! Intact, damaged and hostile snapshot files.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use snapshot::{Error, Member, Summary, Trailer, check};
use support::{PAGE, database, revision, sign_metas, with_trailer};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn check_bytes(folder: &TempDir, bytes: &[u8], trailer: Trailer) -> Result<Summary, Error> {
    let path = folder.path().join("file.db");
    std::fs::write(&path, bytes).unwrap();
    check(&path, trailer)
}

fn error(folder: &TempDir, bytes: &[u8], trailer: Trailer) -> String {
    check_bytes(folder, bytes, trailer).unwrap_err().to_string()
}

/// A database as etcd writes it, with `keys` revisions of a third as many keys.
fn sample(keys: u64) -> Vec<u8> {
    let mut entries = Vec::new();
    for main in 2..keys + 2 {
        let key = format!("/registry/{}", main % keys.div_ceil(3));
        let value = vec![b'v'; (main * 37 % 400) as usize];
        entries.push(revision(main, key.as_bytes(), (main % 10 != 9).then_some(&value)));
    }
    let member = |id: u64, name: &str| {
        let json = format!(
            r#"{{"id":{id},"peerURLs":["https://192.168.1.100:2380"],"name":"{name}","clientURLs":["https://192.168.1.100:2379"]}}"#
        );
        (format!("{id:x}").into_bytes(), json.into_bytes())
    };
    let text = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    database(&[
        ("alarm", vec![]),
        ("cluster", vec![text("clusterVersion", "3.6.0")]),
        ("key", entries),
        ("lease", vec![]),
        ("members", vec![member(10276657743932975437, "etcd-02"), member(0xfe, "etcd-01")]),
        ("meta", vec![text("consistent_index", "12345678"), text("storageVersion", "3.6.0")]),
    ])
}

#[test]
fn an_intact_snapshot() {
    let folder = folder();
    let database = sample(300);
    let summary = check_bytes(&folder, &with_trailer(&database), Trailer::Required).unwrap();
    assert_eq!(summary.size_bytes, database.len() as u64);
    assert_eq!((summary.revision, summary.entries), (301, 300 + 5));
    // Of the keys 0 to 99, those whose last revision ends with 9 are deleted.
    assert_eq!(summary.total_keys, 90);
    assert_eq!(summary.version(), Some("3.6.0"));
    assert!(summary.has_trailer && summary.sha256.is_some());
    let member = |id: &str, name: &str| Member {
        id: id.into(),
        name: name.into(),
        peer_urls: vec!["https://192.168.1.100:2380".into()],
        client_urls: vec!["https://192.168.1.100:2379".into()],
        is_learner: false,
    };
    let expected = [member("fe", "etcd-01"), member("8e9e05c52164694d", "etcd-02")];
    assert_eq!(summary.members, expected);
    let copied = check_bytes(&folder, &database, Trailer::Optional).unwrap();
    assert!(!copied.has_trailer);
    assert_eq!((copied.hash, copied.total_keys), (summary.hash, 90));
    // A database in use is longer than its pages.
    let mut grown = database.clone();
    grown.resize(grown.len() + 10 * PAGE, 0);
    assert_eq!(check_bytes(&folder, &grown, Trailer::Optional).unwrap().hash, summary.hash);
}

#[test]
fn values_and_keys_that_are_longer_than_what_is_held_in_memory() {
    let folder = folder();
    let long = vec![b'k'; 3 << 20];
    let other = [&long[1..], b"x"].concat();
    let entries = vec![
        revision(2, b"a", Some(&vec![b'v'; 5 << 20])),
        revision(3, &long, Some(b"1")),
        revision(4, &other, Some(b"2")),
        revision(5, &long, None),
        revision(6, b"b", Some(b"3")),
    ];
    let file = with_trailer(&database(&[("key", entries)]));
    let summary = check_bytes(&folder, &file, Trailer::Required).unwrap();
    assert_eq!((summary.total_keys, summary.entries, summary.revision), (3, 5, 6));
}

#[test]
fn more_live_keys_than_one_pass_counts() {
    // One pass counts 2^19 / 8 * 7 = 458,752.
    let (keys, deleted) = (930_000u64, 1_000u64);
    let name = |key: u64| key.to_be_bytes();
    let puts = (0..keys).map(|key| revision(2 + key, &name(key), Some(b"")));
    let deletes = (0..deleted).map(|key| revision(2 + keys + key, &name(key * 900), None));
    let database = database(&[("key", puts.chain(deletes).collect())]);
    let summary = check_bytes(&folder(), &database, Trailer::Optional).unwrap();
    assert_eq!(summary.entries, keys + deleted);
    assert_eq!(summary.total_keys, keys - deleted);
}

#[test]
fn what_is_no_snapshot() {
    let folder = folder();
    let database = sample(30);
    let file = with_trailer(&database);
    let cases: [(&[u8], &str); 7] = [
        (b"", "not a database of etcd, or damaged: neither meta page (page 0 and 1) is valid"),
        (
            &[7; 9000],
            "not a database of etcd, or damaged: neither meta page (page 0 and 1) is valid",
        ),
        (&database, "no SHA-256 at its end: not a snapshot, but perhaps a copy of member/snap/db"),
        (&file[..file.len() - 1], "truncated: 24607 bytes, but its pages and SHA-256 take 24608"),
        (&file[..5000], "truncated: 5000 bytes, but its pages and SHA-256 take 24608"),
        (&file[..8192], "truncated: 8192 bytes, but its pages and SHA-256 take 24608"),
        (&[&file[..], b"x"].concat(), "damaged: 24609 bytes, but its pages and SHA-256 take 24608"),
    ];
    for (bytes, message) in cases {
        assert_eq!(error(&folder, bytes, Trailer::Required), message);
    }
    let of = |path: &Path| check(path, Trailer::Required).unwrap_err().to_string();
    assert_eq!(of(folder.path()), "not a regular file");
    assert_eq!(of(Path::new("/dev/zero")), "not a regular file");
    assert_eq!(of(&folder.path().join("none")), "reading: no such file or directory");
}

#[test]
fn a_flipped_bit_anywhere() {
    let folder = folder();
    let file = with_trailer(&sample(60));
    let mut random = fastrand::Rng::with_seed(1);
    for at in (0..file.len()).step_by(7) {
        let mut damaged = file.clone();
        damaged[at] ^= 1 << random.u32(..8);
        let error = error(&folder, &damaged, Trailer::Required);
        assert!(error.starts_with("damaged: "), "byte {at}: {error}");
    }
}

/// Where in `database` the page `id` begins.
fn page(id: usize) -> usize {
    id * PAGE
}

/// The root bucket of `database`, and the root of its bucket `key`.
fn roots(database: &[u8]) -> (usize, usize) {
    let root = u16::from_le_bytes([database[PAGE + 32], database[PAGE + 33]]) as usize;
    let entry = page(root) + 16 + 2 * 16;
    let position = u32::from_le_bytes(database[entry + 4..entry + 8].try_into().unwrap()) as usize;
    let key = entry + position + "key".len();
    (root, u16::from_le_bytes([database[key], database[key + 1]]) as usize)
}

#[test]
fn hostile_files() {
    let intact = sample(3000);
    let (root, key) = roots(&intact);
    let child = usize::from(intact[page(key) + 24]);
    let folder = folder();
    let at = |id: usize| format!("damaged: page {id} at byte {}: ", id * PAGE);
    let write = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut database = intact.clone();
        edit(&mut database);
        sign_metas(&mut database);
        error(&folder, &with_trailer(&database), Trailer::Required)
    };
    assert_eq!(
        // The first child of the branch is the branch.
        write(&|db| {
            db[page(key) + 24..page(key) + 32].copy_from_slice(&(key as u64).to_le_bytes());
        }),
        at(key) + "in two places of the tree"
    );
    assert_eq!(
        // Two children are the same.
        write(&|db| db.copy_within(page(key) + 24..page(key) + 32, page(key) + 40)),
        at(child) + "in two places of the tree"
    );
    assert_eq!(
        write(&|db| db[page(key) + 24..page(key) + 32].fill(0xff)),
        format!(
            "damaged: page {0} at byte {0}: referred to, but the pages are 2 to {1}",
            u64::MAX,
            intact.len() / PAGE - 1
        )
    );
    assert_eq!(
        write(&|db| db[page(key) + 12..page(key) + 16].fill(0xff)),
        at(key) + "a run of 4294967296 pages, beyond the last page"
    );
    assert_eq!(
        write(&|db| db[page(key) + 10..page(key) + 12].fill(0xff)),
        at(key) + "65535 entries, more than it has room for"
    );
    assert_eq!(
        write(&|db| db[page(2) + 16 + 12..page(2) + 16 + 16].fill(0xff)),
        at(2) + "entry 0: its key and value lie outside of the page or overlap others"
    );
    assert_eq!(
        // The second entry's data is that of the first.
        write(&|db| {
            let first = u32::from_le_bytes(db[page(2) + 20..page(2) + 24].try_into().unwrap());
            db[page(2) + 36..page(2) + 40].copy_from_slice(&(first - 16).to_le_bytes());
        }),
        at(2) + "entry 1: its key and value lie outside of the page or overlap others"
    );
    assert_eq!(
        write(&|db| db[page(2) + 24..page(2) + 28].fill(0)),
        at(2) + "entry 0: a key of 0 bytes"
    );
    assert_eq!(write(&|db| db[page(2)] = 9), at(2) + "its header is that of page 9");
    assert_eq!(write(&|db| db[page(2) + 8] = 0x33), at(2) + "flags 0x0033: no kind of page");
    assert_eq!(write(&|db| db[page(2) + 16] = 1), at(2) + "a bucket in a bucket");
    assert_eq!(write(&|db| db[page(root) + 16] = 0), at(root) + "an entry outside of all buckets");
    assert_eq!(write(&|db| db[page(key) + 10] = 0), at(key) + "a branch without entries");
    // The root of all is a page that does not exist.
    assert_eq!(
        write(&|db| [32, PAGE + 32]
            .into_iter()
            .for_each(|at| db[at..at + 2].copy_from_slice(&[1, 0]))),
        format!(
            "damaged: page 1 at byte 4096: referred to, but the pages are 2 to {}",
            intact.len() / PAGE - 1
        )
    );
    // More pages than any disk has.
    let error = write(&|db| {
        [16 + 40, PAGE + 16 + 40].into_iter().for_each(|at| db[at..at + 8].fill(0xff));
    });
    let size = intact.len() + 32;
    let expected = format!("truncated: {size} bytes, but its pages and SHA-256 take {}", u64::MAX);
    assert_eq!(error, expected);
}

#[test]
fn a_chain_of_branches_that_leads_nowhere() {
    let mut database = sample(3000);
    let (_, key) = roots(&database);
    // Each of 20 pages is a branch with the next one as its only child.
    for id in key..key + 20 {
        if database.len() < page(id + 2) {
            database.resize(page(id + 2), 0);
        }
        let mut branch = (id as u64).to_le_bytes().to_vec();
        branch.extend([1, 0, 1, 0, 0, 0, 0, 0]);
        branch.extend([16, 0, 0, 0, 17, 0, 0, 0]);
        branch.extend((id as u64 + 1).to_le_bytes());
        branch.extend([b'k'; 17]);
        if id > key {
            // The tree's own root stays where it is.
            let at = page(id + 1);
            branch[..8].copy_from_slice(&(id as u64 + 1).to_le_bytes());
            branch[24..32].copy_from_slice(&(id as u64 + 2).to_le_bytes());
            database.resize(database.len().max(at + 2 * PAGE), 0);
            database[at..at + branch.len()].copy_from_slice(&branch);
        }
    }
    // The root of the bucket leads into it.
    database[page(key) + 24..page(key) + 32].copy_from_slice(&(key as u64 + 2).to_le_bytes());
    let count = (database.len() / PAGE) as u64;
    for at in [16 + 40, PAGE + 16 + 40] {
        database[at..at + 8].copy_from_slice(&count.to_le_bytes());
    }
    sign_metas(&mut database);
    let error = error(&folder(), &with_trailer(&database), Trailer::Required);
    assert!(error.ends_with(": more than 16 levels deep"), "{error}");
}

/// 12,000 files, each damaged in a way of its own and signed again, so that
/// nothing but the pages can show it.
#[test]
fn no_damage_makes_it_panic_hang_or_take_much_memory() {
    let folder = folder();
    let small = sample(40);
    let large = sample(700);
    let mut random = fastrand::Rng::with_seed(20_260_723);
    let (mut refused, mut slowest) = (0, Duration::ZERO);
    for round in 0..12_000 {
        let mut database = if round % 4 == 0 { large.clone() } else { small.clone() };
        for _ in 0..random.usize(1..4) {
            damage(&mut database, &mut random);
        }
        if random.bool() {
            sign_metas(&mut database);
        }
        let bytes = if random.bool() { with_trailer(&database) } else { database };
        let start = Instant::now();
        let checked = check_bytes(&folder, &bytes, Trailer::Optional);
        slowest = slowest.max(start.elapsed());
        if let Err(error) = checked {
            refused += 1;
            let text = error.to_string();
            assert!(!text.contains('\n') && text.len() < 300, "round {round}: {text}");
        }
    }
    assert!(refused > 6000, "only {refused} were found out");
    assert!(slowest < Duration::from_secs(5), "one took {slowest:?}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 200 << 10, "{peak} KiB at most");
}

fn damage(database: &mut Vec<u8>, random: &mut fastrand::Rng) {
    let pages = database.len() / PAGE;
    let at = match random.u8(..10) {
        // The header of a page, or its table of entries.
        0..=3 => page(random.usize(..pages)) + random.usize(..16),
        4..=6 => page(random.usize(..pages)) + random.usize(16..160),
        // What the meta pages say.
        7 => page(random.usize(..2)) + random.usize(16..80),
        _ => random.usize(..database.len()),
    };
    match random.u8(..8) {
        0..=2 => database[at] ^= 1 << random.u32(..8),
        3 => database[at] = random.u8(..),
        4 => {
            let end = (at + 8).min(database.len());
            database[at..end].fill(if random.bool() { 0xff } else { 0 });
        }
        5 => database[at] = random.usize(..pages + 2) as u8,
        6 => {
            // A page over another one.
            let (from, to) = (page(random.usize(..pages)), page(random.usize(..pages)));
            database.copy_within(from..from + PAGE, to);
            if random.bool() {
                database[to..to + 8].copy_from_slice(&((to / PAGE) as u64).to_le_bytes());
            }
        }
        _ => {
            let shorter = random.usize(3 * PAGE..=database.len());
            database.truncate(if random.bool() { shorter } else { shorter / PAGE * PAGE });
        }
    }
}
