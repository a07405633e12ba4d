//! The cluster document: the wire format between the tools.
//!
//! One JSON object. A tool fills in its own keys and passes all others on
//! untouched, keys that it does not know included. Private keys, binaries and
//! snapshots are named by their path on the operator's machine and never stand
//! in the document: it is safe to `tee` into a log.
//!
//! Rules that hold for every key: names are camelCase; a quantity has its unit
//! in its key (`quotaBackendBytes`); 64-bit IDs are lower-case hex strings;
//! times are RFC 3339 in UTC; a key without a value is left out.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, ToolResult, disk};

/// The `apiVersion` of the documents that these tools read and write.
pub const API_VERSION: &str = "etcd-tools/v1";

/// The cluster document.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// Always `etcd-tools/v1`.
    pub api_version: String,
    /// What holds for the cluster as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// The hosts, each with what belongs on it.
    #[serde(default)]
    pub nodes: Vec<Node>,
    /// The etcd release to run. Written by `etcd-fetch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// Where the operator keeps the certificates. Written by `etcd-cert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pki: Option<Pki>,
    /// What the last look at the cluster saw. Written by `etcd-health`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The last snapshot that was saved. Written by `etcd-snapshot save`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// The user's own notes; no tool reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<serde_json::Map<String, Value>>,
    /// What the tools did and found, oldest first.
    #[serde(default)]
    pub results: Vec<ToolResult>,
}

/// What holds for the cluster as a whole.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// A name for people. Default `etcd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `ETCD_INITIAL_CLUSTER_TOKEN`. Default `k8s-etcd-cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The etcd release, as `v3.5.16`. Written by `etcd-fetch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Settings of all members.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
}

/// Settings of etcd and of its place on a host. Those of a node override
/// those of the cluster, key by key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The port for clients. Default 2379.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_port: Option<u16>,
    /// The port for peers. Default 2380.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_port: Option<u16>,
    /// The data directory. Default `/var/lib/etcd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
    /// A directory for the write-ahead log alone, which is in `wal` inside it.
    /// Default: in the data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_dir: Option<String>,
    /// The folder of the configuration. Default `/etc/etcd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_dir: Option<String>,
    /// The folder of the certificates and keys. Default `/etc/etcd/ssl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_dir: Option<String>,
    /// The folder in which the binaries are found. Default `/usr/local/bin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bin_dir: Option<String>,
    /// The system user, and group, that etcd runs as. Default `etcd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `new` for a cluster that is being made, `existing` for a member that
    /// joins one. Default `new`. etcd looks at it only while it has no data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_cluster_state: Option<ClusterState>,
    /// `ETCD_INITIAL_CLUSTER` of a member that joins a cluster, which etcd compares with
    /// the members as they are then. Written by `etcd-member add`. Default: all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_cluster: Option<String>,
    /// The time between two heartbeats of the leader, in milliseconds. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval_ms: Option<u32>,
    /// How long a follower waits for a heartbeat before it stands for election,
    /// in milliseconds: 5 times the heartbeat at least, 50000 at most. Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub election_timeout_ms: Option<u32>,
    /// The size of the database at which etcd stops taking writes, in bytes. Default 8 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_backend_bytes: Option<u64>,
    /// How old revisions are compacted. Default `periodic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_compaction_mode: Option<CompactionMode>,
    /// A duration such as `8h` for `periodic`, a count for `revision`; `0` never
    /// compacts. Default `8h`; kube-apiserver compacts more often by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_compaction_retention: Option<String>,
    /// Where `/metrics` and `/health` are served without client certificates, as
    /// `http://127.0.0.1:2381`. Default: only on the client URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_metrics_urls: Option<String>,
    /// `debug`, `info`, `warn`, `error`, `panic` or `fatal`. Default `info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// Any other `ETCD_*` variables, set as they stand here and over all others. Those
    /// that give a member its name, its data and its cluster have keys of their own, and
    /// are refused here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Whether a member makes a new cluster or joins one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClusterState {
    /// All members of a new cluster start together.
    New,
    /// The member was added to a running cluster.
    Existing,
}

/// How old revisions are compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CompactionMode {
    /// Those older than a duration.
    Periodic,
    /// All but a number of the newest.
    Revision,
}

/// A host, the etcd member on it, and what belongs on it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The name of the etcd member, as `etcd-01`. Unique.
    pub name: String,
    /// The host's name. Default: the same as `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The IPv4 or IPv6 address, or the DNS name, at which peers, clients and ssh
    /// reach the host. IPv6 without brackets. Unique.
    pub address: String,
    /// How ssh reaches the host, where that differs from the other nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Ssh>,
    /// The processor architecture. Default `amd64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<Arch>,
    /// Settings of this member, over those of the cluster.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
    /// System users that must exist, keyed by `name`. Made by `etcd-push`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// Folders that must exist, keyed by `path`. Made by `etcd-push`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<Directory>,
    /// Files, keyed by `path`. Put in place by `etcd-push`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// systemd units, keyed by `name`. Installed by `etcd-unit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
}

/// How ssh reaches a host. What is absent is left to `~/.ssh/config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ssh {
    /// The host as ssh is to call it, such as a `Host` of `~/.ssh/config`.
    /// Default: the node's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The user to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The port of sshd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// A configuration file instead of `~/.ssh/config`, on the operator's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// A processor architecture for which etcd is released.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64
    #[default]
    Amd64,
    /// AArch64
    Arm64,
    /// POWER, little endian
    Ppc64le,
    /// IBM Z
    S390x,
}

/// A system user, with a group of the same name, that cannot log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The name of the user and of the group.
    pub name: String,
    /// The home directory; it is not made.
    pub home: String,
}

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// The absolute path.
    pub path: String,
    /// The permission bits, in octal, as `"0700"`.
    pub mode: String,
    /// The owning user. Default `root`.
    #[serde(default = "root")]
    pub owner: String,
    /// The owning group. Default `root`.
    #[serde(default = "root")]
    pub group: String,
}

/// A file, with exactly one of `content`, `local` and `absent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// The absolute path on the node.
    pub path: String,
    /// The permission bits, in octal, as `"0640"`; with setuid, setgid and sticky before
    /// them as `"4755"`. Default `0644`.
    #[serde(default = "mode_of_file")]
    pub mode: String,
    /// The owning user, by name or number. Default `root`.
    #[serde(default = "root")]
    pub owner: String,
    /// The owning group, by name or number. Default `root`.
    #[serde(default = "root")]
    pub group: String,
    /// Whether there is to be no such file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// The text of the file. Never a private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The path of the file on the operator's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// The SHA-256 that the file `local` must have, in hex. Without it, it is pushed as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether `local` is only announced: a run of an earlier stage without `--check` would
    /// write it, and what will be in it is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
}

/// What is said of what is pending where it would be needed.
pub const PENDING: &str =
    "announced by a run with --check: run the stages before this one without it, too";

impl File {
    /// The SHA-256, in hex, of what the node is to have; nothing where there is to be no
    /// file. Without one in the document the file of this machine is read, and an error is
    /// one of that.
    pub fn wanted_sha256(&self) -> anyhow::Result<Option<String>> {
        match (&self.content, &self.local, &self.sha256) {
            (Some(content), ..) => Ok(Some(disk::sha256(content.as_bytes()))),
            (None, Some(_), Some(sha256)) => Ok(Some(sha256.clone())),
            (None, Some(local), None) => disk::sha256_of(Path::new(local)).map(Some),
            (None, None, _) => Ok(None),
        }
    }

    /// Whether somebody may execute it.
    pub fn is_program(&self) -> bool {
        u32::from_str_radix(&self.mode, 8).is_ok_and(|mode| mode & 0o111 != 0)
    }

    /// The text that the node is to have, empty where there is to be no file; nothing where it is
    /// no text, or cannot be read here, which is an error of whoever puts it there.
    pub fn text(&self) -> Option<String> {
        /// The most that is read of a file of this machine, in bytes.
        const LIMIT: u64 = 1 << 20;
        let absent = self.absent.then(String::new);
        let local = || disk::read_text(self.local.as_deref()?.as_ref(), LIMIT).ok();
        absent.or_else(|| self.content.clone()).or_else(local)
    }
}

/// A systemd unit, in `/etc/systemd/system`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unit {
    /// The unit's name, as `etcd.service`.
    pub name: String,
    /// Whether it starts at boot; absent leaves that as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether `etcd-unit start` has it running; `false` leaves it to a timer or to the
    /// operator: it is installed, and neither started nor restarted. Default `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<bool>,
    /// The text of the unit file.
    pub content: String,
    /// What was last seen of it on the node. Written by `etcd-unit status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<UnitStatus>,
}

/// What systemd and the kernel say of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitStatus {
    /// systemd's `ActiveState`, as `active`, `inactive`, `failed`.
    pub active: String,
    /// systemd's `SubState`, as `running`.
    pub sub: String,
    /// systemd's `UnitFileState`, as `enabled`; empty without a unit file.
    pub enabled: String,
    /// The main process; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_pid: Option<u32>,
    /// Why the running process is older than what is on the disk, as
    /// `configuration`, `binary`; empty when it is not.
    pub outdated: Vec<String>,
}

/// An etcd release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// The version, as `v3.5.16`.
    pub version: String,
    /// The archives, one for each architecture of the nodes, keyed by `arch`.
    pub archives: Vec<Archive>,
    /// Whether nobody asked for this version, and no member told which one runs: it is for a
    /// new cluster only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_default: bool,
}

/// A published archive of a release, verified, on the operator's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Archive {
    /// The architecture of its binaries.
    pub arch: Arch,
    /// The path of the `.tar.gz` on the operator's machine.
    pub local: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Its size.
    pub size_bytes: u64,
    /// The binaries in it, keyed by `name`.
    pub binaries: Vec<Binary>,
    /// Whether it is only announced: a run of etcd-fetch without `--check` would download
    /// it, and what is in it is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
}

/// A binary of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Binary {
    /// Its name, as `etcdctl`.
    pub name: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// Where the operator keeps the certificates; all are absolute paths on the
/// operator's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pki {
    /// The folder.
    pub dir: String,
    /// The CA's certificate.
    pub ca_cert: String,
    /// The operator's client certificate.
    pub client_cert: String,
    /// Its key.
    pub client_key: String,
}

/// What the last look at the cluster saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Whether every endpoint and the cluster as a whole are healthy.
    pub healthy: bool,
    /// The cluster's ID, in hex; absent when no endpoint told it or they disagree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The ID of the leader, in hex; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The endpoints that were asked, in the order of the nodes.
    pub endpoints: Vec<Endpoint>,
    /// The members as one endpoint knows them, quorum or not.
    pub members: Vec<Member>,
}

/// What one endpoint answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The URL that was asked.
    pub endpoint: String,
    /// The node's name, when it is a node of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether it served a linearizable read.
    pub healthy: bool,
    /// Why not, on one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The member's ID, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// The cluster's ID, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The version of etcd, as `3.5.16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The size of the database on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_size_bytes: Option<u64>,
    /// What of it is in use; the rest a defragmentation gives back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_size_in_use_bytes: Option<u64>,
    /// The size at which the member stops taking writes. From etcd 3.6 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_quota_bytes: Option<u64>,
    /// The version of the data's format, e.g. `3.6.0`. From etcd 3.6 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_version: Option<String>,
    /// The version that the cluster is being downgraded to, e.g. `3.6.0`; absent
    /// unless a downgrade is under way. From etcd 3.6 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downgrade_target: Option<String>,
    /// Whether it is the leader.
    #[serde(default)]
    pub is_leader: bool,
    /// Whether it is a learner, which does not vote.
    #[serde(default)]
    pub is_learner: bool,
    /// The raft term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_term: Option<u64>,
    /// The raft index that is committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_index: Option<u64>,
    /// The raft index up to which the member has applied entries to its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_applied_index: Option<u64>,
    /// The revision of the member's data. Members at the same applied index are
    /// at the same revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The hash of the member's keys and values, in hex, with `etcd-health --hash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_hash: Option<String>,
    /// How many entries it is behind the highest raft index of all endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_lag: Option<u64>,
    /// When the certificate expires that it presented; absent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_not_after: Option<String>,
    /// The alarms that it has raised, as `NOSPACE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
}

/// A member of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The member's ID, in hex.
    pub id: String,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where its clients reach it; empty until it has started for the first time.
    pub client_urls: Vec<String>,
    /// Whether it is a learner, which does not vote.
    #[serde(default)]
    pub is_learner: bool,
}

impl Member {
    /// What it is called for people: its name, or its ID until it has one.
    pub fn label(&self) -> &str {
        if self.name.is_empty() { &self.id } else { &self.name }
    }
}

/// A snapshot that was saved and verified, on the operator's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The absolute path of the file.
    pub path: String,
    /// The SHA-256 of the file, in hex.
    pub sha256: String,
    /// The size of the database in it; the file ends with 32 bytes more.
    pub size_bytes: u64,
    /// The newest revision in it.
    pub revision: u64,
    /// How many keys it holds.
    pub total_keys: u64,
    /// The hash that `etcdutl snapshot status` gives.
    pub hash: u32,
    /// The version of etcd that its data is of, such as `3.6.0`: the storage
    /// version, before 3.6 that of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The node, or the endpoint, that it was taken from.
    pub node: String,
    /// When.
    pub taken_at: String,
}

fn mode_of_file() -> String {
    "0644".into()
}

fn root() -> String {
    "root".into()
}

/// The settings of one node, with the cluster's and the defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSettings {
    /// The port for clients.
    pub client_port: u16,
    /// The port for peers.
    pub peer_port: u16,
    /// The data directory.
    pub data_dir: String,
    /// The folder of the write-ahead log, when it has one of its own.
    pub wal_dir: Option<String>,
    /// The folder of the configuration.
    pub config_dir: String,
    /// The folder of the certificates and keys.
    pub cert_dir: String,
    /// The folder in which the binaries are found.
    pub bin_dir: String,
    /// The system user, and group, that etcd runs as.
    pub user: String,
    /// Whether the member makes a cluster or joins one.
    pub initial_cluster_state: ClusterState,
    /// The members that a member that joins finds, where they are not the nodes.
    pub initial_cluster: Option<String>,
    /// The time between two heartbeats, in milliseconds.
    pub heartbeat_interval_ms: u32,
    /// How long a follower waits for one, in milliseconds.
    pub election_timeout_ms: u32,
    /// The size at which etcd stops taking writes, in bytes.
    pub quota_backend_bytes: u64,
    /// How old revisions are compacted.
    pub auto_compaction_mode: CompactionMode,
    /// Which revisions are kept.
    pub auto_compaction_retention: String,
    /// Where metrics are served without client certificates.
    pub listen_metrics_urls: Option<String>,
    /// The log level.
    pub log_level: String,
    /// Any other `ETCD_*` variables.
    pub env: BTreeMap<String, String>,
}

impl NodeSettings {
    /// The system user that etcd runs as: the owner of its keys and of its data.
    pub fn system_user(&self) -> User {
        User { name: self.user.clone(), home: self.data_dir.clone() }
    }
}

impl Settings {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Document {
    /// A document of nothing but nodes.
    pub fn of_nodes(nodes: Vec<Node>) -> Self {
        Self {
            api_version: API_VERSION.into(),
            cluster: None,
            nodes,
            release: None,
            pki: None,
            health: None,
            snapshot: None,
            annotations: None,
            results: Vec::new(),
        }
    }

    /// The cluster's token.
    pub fn token(&self) -> &str {
        self.cluster.as_ref().and_then(|c| c.token.as_deref()).unwrap_or("k8s-etcd-cluster")
    }

    /// An error where the release that was fetched is not the version of the cluster.
    pub fn check_release(&self) -> Result<(), Error> {
        let cluster = self.cluster.as_ref().and_then(|cluster| cluster.version.as_deref());
        let release = self.release.as_ref().map(|release| release.version.as_str());
        let number = |version: &str| version.trim_start_matches('v').to_owned();
        match (cluster, release) {
            (Some(cluster), Some(release)) if number(cluster) != number(release) => {
                Err(Error::bad_input(format!(
                    "cluster.version: {cluster}, but the release that was fetched is {release}: \
                     run etcd-fetch again"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The settings of `node`: its own, else the cluster's, else the defaults.
    pub fn settings(&self, node: &Node) -> NodeSettings {
        let none = Settings::default();
        let ours = &node.settings;
        let all = self.cluster.as_ref().map_or(&none, |c| &c.settings);
        macro_rules! pick {
            ($key:ident) => {
                ours.$key.clone().or_else(|| all.$key.clone())
            };
            ($key:ident, $default:expr) => {
                pick!($key).unwrap_or_else(|| $default.into())
            };
        }
        let mut env = all.env.clone();
        env.extend(ours.env.clone());
        let config_dir: String = pick!(config_dir, "/etc/etcd");
        NodeSettings {
            client_port: pick!(client_port, 2379u16),
            peer_port: pick!(peer_port, 2380u16),
            data_dir: pick!(data_dir, "/var/lib/etcd"),
            wal_dir: pick!(wal_dir),
            cert_dir: pick!(cert_dir, format!("{config_dir}/ssl")),
            config_dir,
            bin_dir: pick!(bin_dir, "/usr/local/bin"),
            user: pick!(user, "etcd"),
            initial_cluster_state: pick!(initial_cluster_state, ClusterState::New),
            initial_cluster: pick!(initial_cluster),
            heartbeat_interval_ms: pick!(heartbeat_interval_ms, 100u32),
            election_timeout_ms: pick!(election_timeout_ms, 1000u32),
            quota_backend_bytes: pick!(quota_backend_bytes, 8u64 << 30),
            auto_compaction_mode: pick!(auto_compaction_mode, CompactionMode::Periodic),
            auto_compaction_retention: pick!(auto_compaction_retention, "8h"),
            listen_metrics_urls: pick!(listen_metrics_urls),
            log_level: pick!(log_level, "info"),
            env,
        }
    }

    /// Where clients reach `node`, as `https://192.168.1.100:2379`.
    pub fn client_url(&self, node: &Node) -> String {
        format!("https://{}:{}", node.url_host(), self.settings(node).client_port)
    }

    /// The URLs on which `node` listens for clients, with commas between them: its address,
    /// and loopback where that does not cover it.
    pub fn listen_client_urls(&self, node: &Node) -> String {
        let port = self.settings(node).client_port;
        let url = node.listen_url(port);
        let loopback = format!("https://127.0.0.1:{port}");
        if node.ip().is_none() || url == loopback { url } else { format!("{url},{loopback}") }
    }

    /// The URL on which `node` listens for peers.
    pub fn listen_peer_url(&self, node: &Node) -> String {
        node.listen_url(self.settings(node).peer_port)
    }

    /// The node that has a peer URL of `member`, else its name.
    pub fn node_of(&self, member: &Member) -> Option<&Node> {
        let by_url = self.nodes.iter().find(|node| member.peer_urls.contains(&self.peer_url(node)));
        by_url.or_else(|| self.nodes.iter().find(|node| node.name == member.name))
    }

    /// Where peers reach `node`, as `https://192.168.1.100:2380`.
    pub fn peer_url(&self, node: &Node) -> String {
        format!("https://{}:{}", node.url_host(), self.settings(node).peer_port)
    }

    /// The member list, as `ETCD_INITIAL_CLUSTER` has it: in the order of the names, so that
    /// a list of nodes in another order changes nothing.
    pub fn initial_cluster(&self) -> String {
        let member = |node: &Node| format!("{}={}", node.name, self.peer_url(node));
        let mut members: Vec<_> = self.nodes.iter().map(member).collect();
        members.sort_unstable();
        members.join(",")
    }
}

impl Node {
    /// The host's name.
    pub fn hostname(&self) -> &str {
        self.hostname.as_deref().unwrap_or(&self.name)
    }

    /// The address as it stands in a URL: IPv6 in brackets.
    pub fn url_host(&self) -> String {
        match self.ip() {
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => self.address.clone(),
        }
    }

    /// etcd binds to addresses only, not to DNS names.
    fn listen_url(&self, port: u16) -> String {
        match self.ip() {
            Some(_) => format!("https://{}:{port}", self.url_host()),
            None => format!("https://0.0.0.0:{port}"),
        }
    }

    /// The address, when it is one and not a DNS name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }

    /// The processor architecture.
    pub fn arch(&self) -> Arch {
        self.arch.unwrap_or_default()
    }

    /// Puts `file` in place of the one with its path, or after all others.
    pub fn set_file(&mut self, file: File) {
        set(&mut self.files, file, |f| &f.path);
    }

    /// Puts `directory` in place of the one with its path, or after all others.
    pub fn set_directory(&mut self, directory: Directory) {
        set(&mut self.directories, directory, |d| &d.path);
    }

    /// Puts `user` in place of the one with its name, or after all others.
    pub fn set_user(&mut self, user: User) {
        set(&mut self.users, user, |u| &u.name);
    }

    /// Puts `unit` in place of the one with its name, or after all others.
    pub fn set_unit(&mut self, unit: Unit) {
        set(&mut self.units, unit, |u| &u.name);
    }
}

fn set<T>(items: &mut Vec<T>, item: T, key: impl Fn(&T) -> &String) {
    match items.iter_mut().find(|old| key(old) == key(&item)) {
        Some(old) => *old = item,
        None => items.push(item),
    }
}

impl Pki {
    /// What `etcd-cert` keeps in the folder `dir`, an absolute path.
    pub fn in_folder(dir: &str) -> Self {
        let file = |name: &str| format!("{dir}/{name}");
        Self {
            dir: dir.into(),
            ca_cert: file("ca.crt"),
            client_cert: file("client.crt"),
            client_key: file("client.key"),
        }
    }
}

impl Arch {
    /// Every architecture for which etcd is released.
    pub const ALL: [Arch; 4] = [Arch::Amd64, Arch::Arm64, Arch::Ppc64le, Arch::S390x];

    /// The name in a release's archives, as `amd64`.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
            Arch::Ppc64le => "ppc64le",
            Arch::S390x => "s390x",
        }
    }

    /// The architecture that `uname -m` gives as `machine`.
    pub fn of_machine(machine: &str) -> Option<Self> {
        match machine {
            "x86_64" => Some(Arch::Amd64),
            "aarch64" => Some(Arch::Arm64),
            "ppc64le" => Some(Arch::Ppc64le),
            "s390x" => Some(Arch::S390x),
            _ => None,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Arch {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|arch| arch.name() == name);
        known.ok_or_else(|| format!("{name:?} is none of amd64, arm64, ppc64le, s390x"))
    }
}
