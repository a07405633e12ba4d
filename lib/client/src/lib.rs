//! Talking to etcd through its JSON gateway, directly or through a unix socket
//! that leads to it; for a snapshot, which the gateway would make a third larger,
//! through gRPC.
//!
//! An [`Endpoint`] is one client URL of one member; its methods are single
//! requests. [`probe()`] asks everything of many endpoints at once and gives what
//! the document's `health` holds; [`wait_healthy`] probes until all is well.
//!
//! Every request has a hard limit in time, and all requests of one probe at an
//! endpoint share one, so that a frozen member costs that limit and no more.

mod args;
mod compare;
mod endpoint;
mod error;
mod members;
mod probe;
mod snapshot;
mod tls;
mod wire;

pub use args::{CredentialArgs, EndpointArgs, Target, Targets};
pub use compare::compare_hashes;
pub use endpoint::{Access, Downgrade, Endpoint, User};
pub use error::Error;
pub use probe::{
    ClusterProbe, Problem, ProblemKind, is_of, is_tls, name, probe, probe_within, wait_healthy,
    wait_healthy_with,
};
pub use snapshot::SnapshotStream;
pub use tls::{Tls, Trust};
pub use wire::{Alarm, DataHash, Status, downgrade, ready_for};
