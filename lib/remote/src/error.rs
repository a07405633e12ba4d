//! What can go wrong between this machine and a host.

use std::time::Duration;

use pipeline::{Code, ToolResult};

/// Why work on a host failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The host did not prove that it is the host it should be.
    #[error(
        "host key verification failed: {0}: compare it with the host's, \
         then fix known_hosts (ssh-keygen -R, ssh-keyscan)"
    )]
    HostKey(String),
    /// The login was refused, or the user may not become root.
    #[error("no permission: {0}")]
    NoPermission(String),
    /// Another operator is at work on the host.
    #[error("locked by {0}: wait until that run has ended")]
    Locked(String),
    /// The lock of the host is no longer held, after a pause or a cut connection: nothing
    /// more may be done.
    #[error("lock lost: {0}: run again")]
    LockLost(String),
    /// ssh on this machine could not do its part.
    #[error("ssh: {0}")]
    Ssh(String),
    /// The script ran on the host and failed.
    #[error("{0}")]
    CommandFailed(String),
    /// The connection ended before the script did. Whether the script ended is not known.
    #[error("connection lost: {0}")]
    ConnectionLost(String),
}

impl Error {
    /// The stable word for it in the results.
    pub fn code(&self) -> Code {
        match self {
            Error::Unreachable(_) => Code::Unreachable,
            Error::HostKey(_) => Code::HostKey,
            Error::NoPermission(_) => Code::NoPermission,
            Error::Locked(_) => Code::Locked,
            Error::LockLost(_) => Code::LockLost,
            Error::Ssh(_) => Code::SshFailed,
            Error::CommandFailed(_) => Code::CommandFailed,
            Error::ConnectionLost(_) => Code::ConnectionLost,
        }
    }

    /// The connection is there, and nothing comes back.
    pub(crate) fn silent(limit: Duration) -> Self {
        Error::ConnectionLost(format!("no answer for {} s", limit.as_secs()))
    }

    /// The result to report on `node`.
    pub fn on(&self, node: &str) -> ToolResult {
        ToolResult::error(self.code(), self.to_string()).on(node)
    }
}
