//! The client against real etcd.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use client::{Access, Endpoint, Error, Tls, Trust, probe};
use support::{Cluster, versions};

fn endpoints(cluster: &Cluster) -> Vec<Endpoint> {
    let (cert, key) = (cluster.path("client.crt"), cluster.path("client.key"));
    let access = Access {
        tls: Some(Tls::load(Trust::Ca(&cluster.path("ca.crt")), Some((&cert, &key))).unwrap()),
        timeout: Duration::from_secs(5),
        connect_timeout: None,
        user: None,
    };
    let urls = (0..cluster.members.len()).map(|at| cluster.url(at));
    urls.map(|url| Endpoint::new(&url, &access).unwrap()).collect()
}

#[tokio::test]
async fn leadership_moves_to_the_member_that_is_named() {
    for version in versions() {
        let cluster = Cluster::start(&version, 3);
        let endpoints = endpoints(&cluster);
        let before = probe(&endpoints).await.health;
        let at = before.endpoints.iter().position(|e| e.is_leader).unwrap();
        let target = before.endpoints[(at + 1) % 3].member_id.clone().unwrap();

        let other = endpoints[(at + 2) % 3].move_leader(&target).await;
        let Err(Error::Etcd { message, .. }) = other else { panic!("{version}: {other:?}") };
        assert_eq!(message, "etcdserver: not leader", "{version}");

        endpoints[at].move_leader(&target).await.unwrap();
        assert_eq!(endpoints[at].status().await.unwrap().leader, Some(target), "{version}");
    }
}
