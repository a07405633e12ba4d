//! Changing the members of a cluster.
//!
//! Each is one change of raft's configuration. Whether it was made is not known where
//! the answer is lost: look at [`Endpoint::members`] before asking again.

use serde_json::json;

use crate::wire::Nothing;
use crate::{Endpoint, Error};

/// The beginnings of etcd's answers that pass by themselves (`rpctypes/error.go` in etcd's
/// api): right after a change or an election, and while a learner catches up.
const PASSING: [&str; 6] = [
    "etcdserver: unhealthy cluster",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: can only promote a learner member which is in sync with leader",
    "etcdserver: too many learner members in cluster",
    "etcdserver: leader changed",
    "etcdserver: request timed out",
];

impl Endpoint {
    /// Adds a member with the peer URLs `urls` as a learner, which does not vote.
    pub async fn add_learner(&self, urls: &[String]) -> Result<(), Error> {
        let body = json!({ "peerURLs": urls, "isLearner": true });
        self.call::<Nothing>("/v3/cluster/member/add", body).await.map(drop)
    }

    /// Makes the learner with the ID `member` (hex) a voter, once it has caught up.
    pub async fn promote_member(&self, member: &str) -> Result<(), Error> {
        let body = json!({ "ID": number(member)? });
        self.call::<Nothing>("/v3/cluster/member/promote", body).await.map(drop)
    }

    /// Removes the member with the ID `member` (hex) for good.
    pub async fn remove_member(&self, member: &str) -> Result<(), Error> {
        let body = json!({ "ID": number(member)? });
        self.call::<Nothing>("/v3/cluster/member/remove", body).await.map(drop)
    }

    /// Tells the cluster that the member with the ID `member` (hex) has the peer URLs `urls`.
    pub async fn update_member(&self, member: &str, urls: &[String]) -> Result<(), Error> {
        let body = json!({ "ID": number(member)?, "peerURLs": urls });
        self.call::<Nothing>("/v3/cluster/member/update", body).await.map(drop)
    }
}

impl Error {
    /// Whether a change of the members that failed so may be made a moment later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Etcd { message, .. } => PASSING.iter().any(|known| message.starts_with(known)),
            Self::NoLeader | Self::Gateway(_) => true,
            error => error.is_unreachable(),
        }
    }
}

/// The ID `id`, in hex, as the gateway takes it.
pub(crate) fn number(id: &str) -> Result<String, Error> {
    match u64::from_str_radix(id, 16) {
        Ok(number) => Ok(number.to_string()),
        Err(_) => Err(Error::Answer(format!("{id:?}: not the ID of a member"))),
    }
}
