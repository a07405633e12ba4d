//! The paths on a node that belong to these tools.

/// The systemd unit of etcd.
pub const UNIT: &str = "etcd.service";

/// The folder of the unit files that an administrator owns (systemd.unit(5)).
pub const UNIT_DIR: &str = "/etc/systemd/system";

/// Where releases are unpacked, each in a folder `VERSION-HASH` of its own.
pub const RELEASES: &str = "/usr/local/lib/etcd-tools";

/// The lock of a node: one operator at a time.
pub const LOCK: &str = "/run/etcd-tools.lock";

/// The CA certificate, in the folder of the certificates.
pub const CA_CERT: &str = "ca.crt";
/// The server certificate, in the folder of the certificates.
pub const SERVER_CERT: &str = "server.crt";
/// The key of the server certificate, in the folder of the certificates.
pub const SERVER_KEY: &str = "server.key";
/// The peer certificate, in the folder of the certificates.
pub const PEER_CERT: &str = "peer.crt";
/// The key of the peer certificate, in the folder of the certificates.
pub const PEER_KEY: &str = "peer.key";

/// What etcd keeps in its data directory: snapshots, the database and, without
/// a WAL directory of its own, the write-ahead log (`datadir` in etcd's
/// server/storage). The data directory itself may be a mount point.
pub const MEMBER: &str = "member";

/// The environment file of the unit, in the folder of the configuration.
pub fn config_file(config_dir: &str) -> String {
    format!("{config_dir}/etcd.conf")
}

/// The mark of a member that has once been ready: etcd may never start on an
/// empty data directory again. In the folder of the configuration, which
/// outlives a lost data disk.
pub fn member_mark(config_dir: &str) -> String {
    format!("{config_dir}/etcd.member")
}

/// Where a file is staged before it is renamed to `path`: hidden, in the same folder.
pub fn staged(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    format!("{folder}/.{name}.etcd-tools")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_of_their_folder() {
        assert_eq!(config_file("/etc/etcd"), "/etc/etcd/etcd.conf");
        assert_eq!(member_mark("/etc/etcd"), "/etc/etcd/etcd.member");
        assert_eq!(staged("/etc/etcd/etcd.conf"), "/etc/etcd/.etcd.conf.etcd-tools");
        assert_eq!(staged("/motd"), "/.motd.etcd-tools");
    }
}
