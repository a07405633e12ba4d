//! Running scripts on many hosts over SSH.
//!
//! The system's `ssh` does the connecting, so `~/.ssh/config`, jump hosts,
//! agents and `known_hosts` work as the user is used to. There is one
//! connection per host for all tools of a pipeline: a control socket that
//! outlives the process by a minute. Work on a host is a POSIX `sh` script
//! that gets all its input on stdin and answers in lines, so that the number
//! of round trips does not depend on how much there is to do.

mod args;
mod error;
mod exchange;
mod fleet;
mod host;
mod lock;
mod master;

pub use args::SshArgs;
pub use error::Error;
pub use exchange::Input;
pub use fleet::{Fleet, fan_out};
pub use host::{Forward, Host, Query, Reply};
pub use lock::Lock;
