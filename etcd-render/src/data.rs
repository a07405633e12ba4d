//! What the templates see of a node.

use std::path::Path;

use anyhow::Result;
use etcd::{Version, layout};
use pipeline::Error;
use pipeline::document::{ClusterState, CompactionMode, Document, Node, NodeSettings};
use serde::Serialize;

/// What the templates see of a node; templates/README.md describes the keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    name: String,
    hostname: String,
    address: String,
    arch: &'static str,
    etcd_version: String,
    etcd_minor: u32,
    listen_client_urls: String,
    listen_peer_urls: String,
    advertise_client_urls: String,
    initial_advertise_peer_urls: String,
    initial_cluster: String,
    initial_cluster_state: ClusterState,
    initial_cluster_token: String,
    client_port: u16,
    peer_port: u16,
    data_dir: String,
    wal_dir: Option<String>,
    wal_folder: String,
    member_mark: String,
    config_dir: String,
    cert_dir: String,
    bin_dir: String,
    user: String,
    in_home: bool,
    heartbeat_interval_ms: u32,
    election_timeout_ms: u32,
    quota_backend_bytes: u64,
    auto_compaction_mode: CompactionMode,
    auto_compaction_retention: String,
    listen_metrics_urls: Option<String>,
    log_level: String,
}

impl Data {
    /// What templates see of `node`, to render it for `version`. A path that
    /// cannot stand in a unit is an error.
    pub fn new(document: &Document, node: &Node, version: Version) -> Result<Self> {
        let settings = document.settings(node);
        check_paths(node, &settings)?;
        let in_home = unit_paths(&settings).any(|(_, path)| in_home(path));
        Ok(Self {
            name: node.name.clone(),
            hostname: node.hostname().into(),
            address: node.address.clone(),
            arch: node.arch().name(),
            etcd_version: version.to_string(),
            etcd_minor: version.minor().number(),
            listen_client_urls: document.listen_client_urls(node),
            listen_peer_urls: document.listen_peer_url(node),
            advertise_client_urls: document.client_url(node),
            initial_advertise_peer_urls: document.peer_url(node),
            initial_cluster: settings.initial_cluster.unwrap_or_else(|| document.initial_cluster()),
            initial_cluster_state: settings.initial_cluster_state,
            initial_cluster_token: document.token().into(),
            client_port: settings.client_port,
            peer_port: settings.peer_port,
            in_home,
            wal_folder: layout::wal_folder(&settings.data_dir, settings.wal_dir.as_deref()),
            member_mark: layout::member_mark(&settings.config_dir),
            data_dir: settings.data_dir,
            wal_dir: settings.wal_dir,
            config_dir: settings.config_dir,
            cert_dir: settings.cert_dir,
            bin_dir: settings.bin_dir,
            user: settings.user,
            heartbeat_interval_ms: settings.heartbeat_interval_ms,
            election_timeout_ms: settings.election_timeout_ms,
            quota_backend_bytes: settings.quota_backend_bytes,
            auto_compaction_mode: settings.auto_compaction_mode,
            auto_compaction_retention: settings.auto_compaction_retention,
            listen_metrics_urls: settings.listen_metrics_urls,
            log_level: settings.log_level,
        })
    }
}

/// The paths that the unit refers to, with the keys of their settings.
fn unit_paths(settings: &NodeSettings) -> impl Iterator<Item = (&'static str, &str)> {
    [
        ("dataDir", Some(&settings.data_dir)),
        ("walDir", settings.wal_dir.as_ref()),
        ("configDir", Some(&settings.config_dir)),
        ("certDir", Some(&settings.cert_dir)),
        ("binDir", Some(&settings.bin_dir)),
    ]
    .into_iter()
    .filter_map(|(key, path)| Some((key, path?.as_str())))
}

fn check_paths(node: &Node, settings: &NodeSettings) -> Result<()> {
    for (key, path) in unit_paths(settings) {
        let setting = format!("{}: settings.{key}: {path:?}", node.name);
        if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+@:,=~".contains(&b)) {
            return Err(Error::bad_input(format!(
                "{setting}: expected letters, digits and any of ._-+@:,=~ only: \
                 others have a meaning in a systemd unit"
            ))
            .into());
        }
        if ["/tmp", "/var/tmp", "/dev", "/proc", "/sys"].iter().any(|of| under(path, of)) {
            return Err(Error::bad_input(format!(
                "{setting}: the unit gives etcd no access there: choose a folder such as /var/lib/etcd"
            ))
            .into());
        }
    }
    Ok(())
}

/// Whether `path` is in one of the folders that `ProtectHome=yes` empties.
fn in_home(path: &str) -> bool {
    ["/home", "/root", "/run/user"].iter().any(|home| under(path, home))
}

fn under(path: &str, folder: &str) -> bool {
    Path::new(path).starts_with(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described() {
        let input = pipeline::parse(b"m1:192.168.1.100:etcd-01").unwrap();
        let version = "v3.5.16".parse().unwrap();
        let data = Data::new(&input.document, &input.document.nodes[0], version).unwrap();
        let help = include_str!("../templates/README.md");
        let described: Vec<_> = help.split_whitespace().collect();
        for key in serde_json::to_value(data).unwrap().as_object().unwrap().keys() {
            assert!(described.contains(&key.as_str()), "{key}");
        }
    }
}
