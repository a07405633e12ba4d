//! The flags that say how ssh reaches the hosts.

use std::ffi::OsString;
use std::path::PathBuf;

use pipeline::document::Node;

/// How ssh reaches the hosts; a node's own `ssh` settings go before these.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "SSH options")]
pub struct SshArgs {
    /// The user to log in as [default: as in ~/.ssh/config]
    #[arg(long, global = true, value_name = "USER")]
    pub ssh_user: Option<String>,
    /// The port of sshd [default: as in ~/.ssh/config]
    #[arg(long, global = true, value_name = "PORT")]
    pub ssh_port: Option<u16>,
    /// The configuration file of ssh [default: ~/.ssh/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub ssh_config: Option<String>,
}

/// Where and how ssh is to connect: what tells one shared connection from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub host: String,
    pub user: Option<String>,
    pub port: Option<u16>,
    pub config: Option<PathBuf>,
}

impl Target {
    /// What ssh is told of it on its command line.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        if let Some(config) = &self.config {
            arguments.extend(["-F".into(), config.clone().into()]);
        }
        if let Some(user) = &self.user {
            arguments.extend(["-l".into(), user.into()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".into(), port.to_string().into()]);
        }
        arguments.extend(["--".into(), self.host.clone().into()]);
        arguments
    }
}

impl SshArgs {
    pub(crate) fn target(&self, node: &Node) -> Target {
        let own = node.ssh.clone().unwrap_or_default();
        let config = own.config.or_else(|| self.ssh_config.clone());
        Target {
            host: own.host.unwrap_or_else(|| node.address.clone()),
            user: own.user.or_else(|| self.ssh_user.clone()),
            port: own.port.or(self.ssh_port),
            // One file is one connection, whatever folder a tool is run in.
            config: config.map(|path| std::path::absolute(&path).unwrap_or_else(|_| path.into())),
        }
    }
}
