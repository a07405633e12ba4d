//! Members that have data start one after the other, none before the last one answers.
//!
//! A member first compares its data with that of the others (`InitialCheck` in etcd's
//! server/etcdserver/corrupt.go), and answers nobody until that is done. Those that start
//! at once wait for one another in vain, some 7 s for each other member, and compare nothing.

use std::pin::pin;
use std::time::Duration;

use client::Access;
use cluster::route::endpoint_from;
use cluster::units::NodeState;
use pipeline::Document;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// How long the next member waits for one that neither answers nor fails: as long as three
/// that start at once wait for one another.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a member is asked to whose port nothing listens.
const INTERVAL: Duration = Duration::from_millis(100);

/// Whose turn it is to start, and how members are spoken to.
pub(crate) struct Turns {
    access: Access,
    turn: Mutex<()>,
}

impl Turns {
    pub(crate) fn new(access: Access) -> Self {
        Self { access: Access { timeout: PATIENCE, ..access }, turn: Mutex::default() }
    }

    /// Does `job`, which starts the member of `state`, when those before have had their turn.
    /// Gives what `job` gives.
    pub(crate) async fn take<T>(
        &self,
        document: &Document,
        state: &NodeState<'_>,
        job: impl Future<Output = T>,
    ) -> T {
        let turn = self.turn.lock().await;
        let mut job = pin!(job);
        let ended = tokio::select! {
            given = &mut job => Some(given),
            _ = timeout(PATIENCE, self.answers(document, state)) => None,
        };
        drop(turn);
        match ended {
            Some(given) => given,
            None => job.await,
        }
    }

    /// Returns when the member answers other members.
    async fn answers(&self, document: &Document, state: &NodeState<'_>) {
        while !self.answers_now(document, state).await {
            sleep(INTERVAL).await;
        }
    }

    async fn answers_now(&self, document: &Document, state: &NodeState<'_>) -> bool {
        let url = document.peer_url(state.node);
        let Ok((endpoint, _forward)) = endpoint_from(state.host, &url, &self.access).await else {
            return false;
        };
        // Whatever it says: before, it says nothing.
        endpoint.version().await.err().is_none_or(|error| !error.is_unreachable())
    }
}
