//! What several tools do to the nodes of a cluster, and must do equally safely.
//!
//! [`fit`] compares the document with what runs before anything is touched;
//! [`units`] tells what runs on a node and starts and stops it; [`route`] leads to
//! the client ports of the members; [`guard`] judges whether members may go down,
//! [`rolling`] takes them one by one, and [`members`] changes who they are. [`Lease`] holds
//! the locks of all nodes, and [`wal`] judges whether a newer etcd can read what an older one
//! left.

mod connection;
pub mod fit;
pub mod guard;
mod lease;
pub mod members;
pub mod rolling;
pub mod route;
pub mod units;
pub mod wal;

pub use lease::{Held, Lease};
