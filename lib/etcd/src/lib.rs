//! What is known of etcd, pure and without I/O, each rule with its source:
//! [versions](Version) and the [steps](step) between them, which
//! [settings](settings) a minor version knows and which [values](value) they may have, the
//! [environment file](environment) that they stand in, what a [unit](unit) makes of it, the
//! [URLs](url) that they name, the [IDs](member) of members, the [layout](layout) on a node, and
//! the arithmetic of [quorum](quorum).

pub mod environment;
pub mod layout;
pub mod member;
pub mod quorum;
pub mod settings;
mod step;
pub mod unit;
pub mod url;
pub mod value;
mod version;
pub mod wal;

pub use step::{StepRefusal, path, step};
pub use version::{Concern, KUBERNETES, Kubernetes, Minor, Version};
