//! How long the disk takes for a write of etcd's log.

use pipeline::document::Node;
use pipeline::{Code, Document};
use remote::{Error, Query};

use crate::Seen;
use crate::facts::unexpected;
use crate::finding::Finding;

/// Writes as etcd writes its log.
const SCRIPT: &str = include_str!("disk.sh");

/// The size of a write: about that of etcd's own, as its documentation measures disks
/// (<https://etcd.io/docs/latest/op-guide/hardware/>, and the fio job named there).
const WRITE_BYTES: u32 = 2300;

/// So many writes are not counted, and then so many are.
const WRITES: (u32, u32) = (10, 100);

/// 99 % of the writes are to take less, in seconds (<https://etcd.io/docs/latest/faq/>).
const LIMIT: f64 = 0.010;

/// Has `node` write; the answer is for [`read`].
pub(crate) fn query(document: &Document, node: &Node) -> Query {
    let settings = document.settings(node);
    let folder = etcd::layout::wal_folder(&settings.data_dir, settings.wal_dir.as_deref());
    let (warm, count) = WRITES;
    let input = format!("{folder}\n{WRITE_BYTES}\n{warm}\n{count}\n");
    Query { script: SCRIPT, input: input.into_bytes() }
}

/// What came of the writes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Writes {
    /// What each took, in seconds, the shortest first.
    took: Vec<f64>,
    /// Why they failed.
    failed: Option<String>,
}

/// Reads the answer to the [`query`].
pub(crate) fn read(answer: &[String]) -> Result<Writes, Error> {
    let mut writes = Writes::default();
    for line in answer {
        match line.strip_prefix("failed\t") {
            Some(why) => writes.failed = Some(why.to_owned()),
            None => writes.took.push(line.parse().map_err(|_| unexpected(line))?),
        }
    }
    writes.took.sort_by(f64::total_cmp);
    Ok(writes)
}

/// Judges what the writes took.
pub(crate) fn judge(seen: &Seen) -> Option<Finding> {
    if let Some(why) = &seen.writes.failed {
        let finding = Finding::ok(Code::DiskLatency, &seen.node.name, "failed");
        return Some(
            finding.error_if(true, || format!("{why}: nor could etcd write its log there")),
        );
    }
    let took = &seen.writes.took;
    let (half, most) = (percentile(took, 50)?, percentile(took, 99)?);
    let measured = format!("p99 {:.1} ms", most * 1000.0);
    let finding = Finding::ok(Code::DiskLatency, &seen.node.name, measured);
    Some(finding.warning_if(most > LIMIT, || {
        format!(
            "{}: a synchronous write takes {:.1} ms (p50), {:.1} ms (p99), more than {:.0} ms: \
             elections and slow requests are likely: put the data on a local SSD of its own",
            seen.facts.folder,
            half * 1000.0,
            most * 1000.0,
            LIMIT * 1000.0
        )
    }))
}

/// The smallest of the `sorted` values that `percent` % of them do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 50), Some(50.0));
        assert_eq!(percentile(&sorted, 99), Some(99.0));
        assert_eq!(percentile(&sorted[..1], 50), Some(1.0));
        assert_eq!(percentile(&[], 99), None);
        let answer = ["0.02".to_owned(), "4.1e-05".to_owned()];
        let writes = Writes { took: vec![4.1e-5, 0.02], failed: None };
        assert_eq!(read(&answer).unwrap(), writes);
    }
}
