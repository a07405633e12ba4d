//! What the gateway sends: 64-bit integers as strings, and fields that are
//! zero, false or empty left out.

use std::fmt;
use std::str::FromStr;

use etcd::{Minor, Version};
use pipeline::document::Member;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What a member reports of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The member's ID, in hex.
    pub member_id: String,
    /// The cluster's ID, in hex.
    pub cluster_id: String,
    /// The version of etcd, e.g. `3.5.16`.
    pub version: String,
    /// The ID of the leader, in hex; absent when the member knows none.
    pub leader: Option<String>,
    /// The raft term.
    pub raft_term: u64,
    /// The raft index that is committed.
    pub raft_index: u64,
    /// The size of the database on the disk.
    pub db_size_bytes: u64,
    /// What of it is in use.
    pub db_size_in_use_bytes: u64,
    /// The size at which the member stops taking writes; from 3.6 on.
    pub db_quota_bytes: Option<u64>,
    /// The version of the data's format, e.g. `3.6.0`; from 3.6 on.
    pub storage_version: Option<String>,
    /// The version that the cluster is being downgraded to, if it is; from 3.6 on.
    pub downgrade_target: Option<String>,
    /// The raft index up to which entries are applied to the data.
    pub raft_applied_index: u64,
    /// The revision of the data.
    pub revision: u64,
    /// Whether the member is a learner.
    pub is_learner: bool,
    /// The alarms of all members, as this one knows them.
    pub alarms: Vec<Alarm>,
}

impl Status {
    /// In one line, to which version the cluster is being downgraded, and what to do; absent
    /// when it is not, and where a member of 3.5 or older cannot tell.
    pub fn downgrade(&self) -> Option<String> {
        self.downgrade_target.as_deref().map(downgrade)
    }
}

/// What is said of a downgrade to `target` that is enabled.
pub fn downgrade(target: &str) -> String {
    let target = target.parse().map_or_else(|_| target.into(), |v: Version| v.minor().to_string());
    format!(
        "a downgrade to {target} is enabled: complete it with scripts/upgrade, or take it back: \
         `etcd-maintain downgrade cancel`"
    )
}

/// The minor version that a member's data is ready for after etcd's own downgrade to it was
/// enabled: the `target` of the downgrade, when the version of the data's format, `storage`,
/// is down to it.
pub fn ready_for(target: Option<&str>, storage: Option<&str>) -> Option<Minor> {
    let minor = |text: Option<&str>| text?.parse().ok().map(Version::minor);
    minor(target).filter(|target| minor(storage) == Some(*target))
}

/// An alarm that a member has raised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// The member's ID, in hex.
    pub member_id: String,
    /// What is wrong, e.g. `NOSPACE` or `CORRUPT`.
    pub alarm: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Failure {
    pub code: i32,
    pub message: String,
    /// The message again; in some versions of the gateway the only one.
    pub error: String,
    /// The message of `/health`, from 3.5 on.
    pub reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Token {
    pub token: String,
}

/// What `/version` says.
#[derive(Debug, Deserialize)]
pub(crate) struct VersionAnswer {
    pub etcdserver: String,
    pub etcdcluster: String,
}

/// An answer of which nothing matters but that it came.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Nothing {}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Header {
    #[serde(deserialize_with = "integer")]
    cluster_id: u64,
    #[serde(deserialize_with = "integer")]
    member_id: u64,
    #[serde(deserialize_with = "integer")]
    revision: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct StatusAnswer {
    header: Header,
    version: String,
    #[serde(deserialize_with = "integer")]
    db_size: u64,
    #[serde(deserialize_with = "integer")]
    db_size_in_use: u64,
    #[serde(deserialize_with = "integer")]
    db_size_quota: u64,
    storage_version: String,
    downgrade_info: DowngradeAnswer,
    #[serde(deserialize_with = "integer")]
    leader: u64,
    #[serde(deserialize_with = "integer")]
    raft_index: u64,
    #[serde(deserialize_with = "integer")]
    raft_term: u64,
    #[serde(deserialize_with = "integer")]
    raft_applied_index: u64,
    is_learner: bool,
    errors: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DowngradeAnswer {
    enabled: bool,
    target_version: String,
}

/// The hash of a member's keys and values up to one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataHash {
    /// The CRC-32C.
    pub hash: u32,
    /// The revision of the member's last compaction: hashes are comparable only
    /// where it is the same.
    pub compact_revision: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HashAnswer {
    hash: u32,
    #[serde(deserialize_with = "integer")]
    compact_revision: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MembersAnswer {
    members: Vec<MemberAnswer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MemberAnswer {
    #[serde(rename = "ID", deserialize_with = "integer")]
    id: u64,
    name: String,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs")]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner")]
    is_learner: bool,
}

impl From<StatusAnswer> for Status {
    fn from(answer: StatusAnswer) -> Self {
        Self {
            member_id: id(answer.header.member_id),
            cluster_id: id(answer.header.cluster_id),
            version: answer.version,
            leader: (answer.leader != 0).then(|| id(answer.leader)),
            raft_term: answer.raft_term,
            raft_index: answer.raft_index,
            db_size_bytes: answer.db_size,
            db_size_in_use_bytes: answer.db_size_in_use,
            db_quota_bytes: (answer.db_size_quota != 0).then_some(answer.db_size_quota),
            storage_version: Some(answer.storage_version).filter(|version| !version.is_empty()),
            downgrade_target: answer
                .downgrade_info
                .enabled
                .then_some(answer.downgrade_info.target_version),
            raft_applied_index: answer.raft_applied_index,
            revision: answer.header.revision,
            is_learner: answer.is_learner,
            alarms: answer.errors.iter().filter_map(|text| alarm(text)).collect(),
        }
    }
}

impl From<HashAnswer> for DataHash {
    fn from(answer: HashAnswer) -> Self {
        Self { hash: answer.hash, compact_revision: answer.compact_revision }
    }
}

impl From<MembersAnswer> for Vec<Member> {
    fn from(answer: MembersAnswer) -> Self {
        let member = |member: MemberAnswer| Member {
            id: id(member.id),
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            is_learner: member.is_learner,
        };
        let mut members: Vec<_> = answer.members.into_iter().map(member).collect();
        members.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        members
    }
}

/// An ID as etcdctl and the document write it.
pub(crate) fn id(number: u64) -> String {
    format!("{number:x}")
}

/// An alarm among the errors of a status: the text form of etcd's `AlarmMember`,
/// e.g. `memberID:9372538179322589801 alarm:NOSPACE `. (The alarm list itself is
/// a raft proposal, which needs quorum and a root user.)
fn alarm(text: &str) -> Option<Alarm> {
    let field = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name));
    Some(Alarm {
        member_id: id(field("memberID:")?.parse().ok()?),
        alarm: field("alarm:")?.to_owned(),
    })
}

fn integer<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    match Value::deserialize(deserializer)? {
        Value::String(text) => text.parse().map_err(D::Error::custom),
        Value::Number(number) => number.to_string().parse().map_err(D::Error::custom),
        other => Err(D::Error::custom(format!("{other}: not an integer"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_with_every_field() {
        let text = r#"{"header": {"cluster_id": "14841639068965178418", "member_id": "10276657743932975437",
            "revision": "1", "raft_term": "2"}, "version": "3.6.16", "dbSize": "20480",
            "dbSizeQuota": "2147483648", "storageVersion": "3.6.0",
            "downgradeInfo": {"enabled": true, "targetVersion": "3.5.0"},
            "leader": "10276657743932975437", "raftIndex": "4", "raftTerm": "2", "raftAppliedIndex": "4",
            "dbSizeInUse": "16384", "isLearner": true,
            "errors": ["memberID:10276657743932975437 alarm:NOSPACE ", "memberID:1  alarm:CORRUPT"]}"#;
        let answer: StatusAnswer = serde_json::from_str(text).unwrap();
        let alarm = |id: &str, alarm: &str| Alarm { member_id: id.into(), alarm: alarm.into() };
        assert_eq!(
            Status::from(answer),
            Status {
                member_id: "8e9e05c52164694d".into(),
                cluster_id: "cdf818194e3a8c32".into(),
                version: "3.6.16".into(),
                leader: Some("8e9e05c52164694d".into()),
                raft_term: 2,
                raft_index: 4,
                db_size_bytes: 20480,
                db_size_in_use_bytes: 16384,
                db_quota_bytes: Some(2_147_483_648),
                storage_version: Some("3.6.0".into()),
                downgrade_target: Some("3.5.0".into()),
                raft_applied_index: 4,
                revision: 1,
                is_learner: true,
                alarms: vec![alarm("8e9e05c52164694d", "NOSPACE"), alarm("1", "CORRUPT")],
            }
        );
    }

    #[test]
    fn fields_that_are_left_out_are_zero() {
        let answer: StatusAnswer =
            serde_json::from_str(r#"{"errors": ["etcdserver: no leader"]}"#).unwrap();
        let status = Status::from(answer);
        assert_eq!((status.leader, status.raft_index, status.alarms), (None, 0, vec![]));
        assert_eq!((status.db_quota_bytes, status.storage_version), (None, None));
        assert_eq!(status.downgrade_target, None);
        let answer: MembersAnswer =
            serde_json::from_str(r#"{"members": [{"ID": "17", "peerURLs": ["http://a:1"]}]}"#)
                .unwrap();
        let member =
            Member { id: "11".into(), peer_urls: vec!["http://a:1".into()], ..Member::default() };
        assert_eq!(Vec::<Member>::from(answer), [member]);
    }

    #[test]
    fn an_integer_that_is_none_is_an_error() {
        for text in [r#"{"dbSize": "x"}"#, r#"{"dbSize": -1}"#, r#"{"dbSize": []}"#] {
            assert!(serde_json::from_str::<StatusAnswer>(text).is_err(), "{text}");
        }
    }
}
