//! The IDs of members.

use sha1::{Digest, Sha1};

/// The ID, in hex, that a new or a restored cluster of `token` gives the member of
/// `peer_urls`; one that was added to a cluster later has another. Source: `computeMemberID` in
/// etcd's `server/etcdserver/api/membership/member.go`.
pub fn id_in_new_cluster(peer_urls: &[String], token: &str) -> String {
    let mut sorted = peer_urls.to_vec();
    sorted.sort_unstable();
    let digest = Sha1::new().chain_update(sorted.concat()).chain_update(token).finalize();
    // As etcd prints it: without leading zeros.
    hex::encode(&digest[..8]).trim_start_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::id_in_new_cluster;

    #[test]
    fn the_id_is_that_of_etcd() {
        let urls = ["https://192.168.1.100:2380".to_owned()];
        assert_eq!(id_in_new_cluster(&urls, "k8s-etcd-cluster"), "82a222d159eba04d");
        assert_ne!(id_in_new_cluster(&urls, "other"), "82a222d159eba04d");
    }
}
