//! Whether what a member has on its disk can be read by a newer etcd: what 3.5 left in its
//! write-ahead log, and data of the v2 API.

use etcd::{Minor, Version, layout, wal};
use pipeline::document::Node;
use pipeline::{Code, Document, Run, ToolResult};
use remote::{Error, Query};

use crate::{Held, Lease};

const SCRIPT: &str = include_str!("wal.sh");

/// etcd 3.6 has no v2 API, and does not start on data of it
/// (<https://etcd.io/docs/latest/upgrades/upgrade_3_6/>).
const V2_SCRIPT: &str = include_str!("v2.sh");

/// What to ask `node` before its member may run the release of `document`; nothing
/// unless that release reads less than the one before it: 3.6, or newer.
pub fn query(document: &Document, node: &Node) -> Option<Query> {
    let version = wanted(document)?;
    let settings = document.settings(node);
    let log = layout::wal_folder(&settings.data_dir, settings.wal_dir.as_deref());
    if version.minor() == Minor::V3_6 {
        let (data, bin, releases) = (settings.data_dir, settings.bin_dir, layout::RELEASES);
        let input = format!("{data}\n{log}\n{bin}\n{releases}\n");
        return Some(Query { script: V2_SCRIPT, input: input.into_bytes() });
    }
    let snapshots = format!("{}/{}/snap", settings.data_dir, layout::MEMBER);
    let input = format!("{log}\n{snapshots}\n{}\n{}\n", wal::V2_PATHS, wal::V2_HEADER_BYTES);
    Some(Query { script: SCRIPT, input: input.into_bytes() })
}

/// Why the member must not be brought to the release of `document`, judged from
/// the `answer` to the [`query`]; nothing when it may, or was not asked.
pub fn refusal(document: &Document, answer: &[String]) -> Result<Option<ToolResult>, Error> {
    let Some(version) = wanted(document) else { return Ok(None) };
    let (mut covered, mut newest) = (0, None);
    for line in answer {
        match line.split_once('\t') {
            Some(("snapshot", name)) => {
                covered = covered.max(wal::snapshot_index(name).unwrap_or_default());
            }
            Some(("before", before)) => {
                let bytes = bytes(before).ok_or_else(|| unexpected(line))?;
                newest = newest.max(wal::v2_entry(&bytes));
            }
            Some(("v2", said)) => {
                return Ok(Some(ToolResult::error(
                    Code::VersionStep,
                    format!(
                        "{version} does not start on data of the v2 API, which the member has \
                         ({said}): move it to the v3 API, delete it with `ETCDCTL_API=2 etcdctl \
                         rm --recursive`, and run this again when all members have written a \
                         raft snapshot since, which takes ETCD_SNAPSHOT_COUNT writes (100000 \
                         unless set in `settings.env`), and `etcdutl check v2store` finds no more \
                         of it"
                    ),
                )));
            }
            _ => return Err(unexpected(line)),
        }
    }
    let Some(entry) = newest.filter(|entry| *entry > covered) else { return Ok(None) };
    Ok(Some(ToolResult::error(
        Code::VersionStep,
        format!(
            "{version} cannot read what etcd 3.5 left in the write-ahead log (entry {entry}, \
             snapshot {covered}): run `etcd-maintain raft-snapshot` first"
        ),
    )))
}

/// Reports each node to work on whose member must not be brought to the release of the
/// document of `run`, judged from what it answered to the [`query`], which was the one at `at`
/// of `lease`; whether there is one, and so nothing may be done on any.
pub fn refuses(run: &Run, lease: &Lease<'_>, at: usize) -> bool {
    let mut refused = false;
    for Held { node, answers, .. } in &lease.selected {
        let answer = answers.get(at).map_or(&[][..], Vec::as_slice);
        let refusal = refusal(&run.document, answer);
        if let Some(result) = refusal.unwrap_or_else(|error| Some(error.on(&node.name))) {
            run.report(result.on(&node.name));
            refused = true;
        }
    }
    refused
}

/// The release of `document`, when it is one that reads less than the one before it.
fn wanted(document: &Document) -> Option<Version> {
    let version: Version = document.release.as_ref()?.version.parse().ok()?;
    (version.minor() >= Minor::V3_6).then_some(version)
}

/// What `hex` stands for.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<_>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok();
    digits?.chunks(2).map(byte).collect()
}

fn unexpected(line: &str) -> Error {
    Error::CommandFailed(format!("unexpected output of the node: {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "before\t080010021808223a0882babe83bbc4e8a6a00112035055541a0a";

    fn said(version: &str, answer: &[&str]) -> Option<String> {
        let text = format!(
            r#"{{"apiVersion": "etcd-tools/v1", "nodes": [{{"name": "a", "address": "10.0.0.1"}}],
                "release": {{"version": "{version}", "archives": []}}}}"#
        );
        let document = pipeline::parse(text.as_bytes()).unwrap().document;
        assert_eq!(query(&document, &document.nodes[0]).is_some(), version >= "v3.6");
        let answer: Vec<_> = answer.iter().map(|line| (*line).to_owned()).collect();
        refusal(&document, &answer).unwrap().map(|result| result.message)
    }

    #[test]
    fn a_log_that_no_snapshot_covers_is_refused() {
        let refused = said("v3.7.3", &[BEFORE]).unwrap();
        assert_eq!(
            refused,
            "v3.7.3 cannot read what etcd 3.5 left in the write-ahead log (entry 8, snapshot 0): \
             run `etcd-maintain raft-snapshot` first"
        );
        let snapshot = |index| format!("snapshot\t0000000000000003-{index:016x}.snap");
        assert!(said("v3.7.3", &[&snapshot(2), &snapshot(7), BEFORE]).is_some());
        assert_eq!(said("v3.7.3", &[&snapshot(2), &snapshot(8), BEFORE]), None);
        // A value of a user's, a log of 3.6's own, no log at all.
        assert_eq!(said("v3.7.3", &["before\t0102", "before\t"]), None);
        assert_eq!(said("v3.7.3", &[]), None);
        assert_eq!(said("v3.6.16", &[]), None);
        assert_eq!(said("v3.5.33", &[]), None);
    }

    #[test]
    fn data_of_the_v2_api_is_refused() {
        assert_eq!(
            said("v3.6.16", &["v2\tdetected custom content in v2store"]).unwrap(),
            "v3.6.16 does not start on data of the v2 API, which the member has (detected custom \
             content in v2store): move it to the v3 API, delete it with `ETCDCTL_API=2 etcdctl rm \
             --recursive`, and run this again when all members have written a raft snapshot \
             since, which takes ETCD_SNAPSHOT_COUNT writes (100000 unless set in \
             `settings.env`), and `etcdutl check v2store` finds no more of it"
        );
    }
}
