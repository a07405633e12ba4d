//! Many hosts at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use openssh::Session;
use pipeline::document::Node;
use pipeline::terminal;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::args::SshArgs;
use crate::error::Error;
use crate::host::{Host, Query, Reply};
use crate::lock::Claim;
use crate::master;

/// sshd drops handshakes beyond `MaxStartups`, 10 by default; all of ours may
/// go through one jump host.
const HANDSHAKES: usize = 8;

/// How to reach hosts, and how many to work on at once.
pub struct Fleet {
    args: SshArgs,
    folder: PathBuf,
    jobs: usize,
    handshakes: Semaphore,
}

impl Fleet {
    /// A fleet that is reached as `args` say, with `jobs` hosts worked on at once.
    pub fn new(args: &SshArgs, jobs: u16) -> Result<Self, Error> {
        // Each host takes a handful of files.
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft < hard
        {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
        let folder = master::folder()?;
        master::tidy(&folder);
        Ok(Self {
            args: args.clone(),
            folder,
            jobs: jobs.into(),
            handshakes: Semaphore::new(HANDSHAKES),
        })
    }

    /// Connects to `node`, through the connection that is already there if one is.
    pub async fn connect(&self, node: &Node) -> Result<Host, Error> {
        let pointer = master::pointer(&self.folder, &self.args.target(node));
        match master::resume(&pointer, None).await {
            Some(connection) => Ok(self.host(node, connection, true)),
            None => self.reconnect(node, None).await,
        }
    }

    fn host(&self, node: &Node, (session, socket): (Session, PathBuf), resumed: bool) -> Host {
        let ssh = format!("{}: {}", node.name, master::command(&socket, &self.args.target(node)));
        let folder = self.folder.clone();
        Host { session: Arc::new(session), ssh, folder, socket, resumed, token: None }
    }

    /// Connects to `node` through another connection than that of the socket `dead`.
    async fn reconnect(&self, node: &Node, dead: Option<&Path>) -> Result<Host, Error> {
        let target = self.args.target(node);
        let pointer = master::pointer(&self.folder, &target);
        let _one = self.handshakes.acquire().await;
        let start = Instant::now();
        let connection = master::launch(&pointer, &target, dead).await?;
        let host = self.host(node, connection, false);
        terminal::trace(format_args!("{}: connected", host.ssh), start.elapsed());
        Ok(host)
    }

    /// Connects to `node` and does `job`, which must be safe to do twice: when
    /// a connection that was there before turns out to be dead, as after a reboot of
    /// the host, it is made again and the job done again.
    pub async fn on<'a, T>(
        &self,
        node: &'a Node,
        job: impl AsyncFn(&'a Node, Host) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let host = self.connect(node).await?;
        let (resumed, socket) = (host.resumed, host.socket.clone());
        match job(node, host).await {
            Err(Error::ConnectionLost(_)) if resumed => {
                job(node, self.reconnect(node, Some(&socket)).await?).await
            }
            done => done,
        }
    }

    /// Does `job` on all `nodes` at once, as [`Fleet::on`] does it on one; the
    /// results are in the order of the nodes.
    pub async fn each<'a, T>(
        &self,
        nodes: Vec<&'a Node>,
        job: impl AsyncFn(&'a Node, Host) -> Result<T, Error>,
    ) -> Vec<(&'a Node, Result<T, Error>)> {
        fan_out(self.jobs, nodes, async |node| (node, self.on(node, &job).await)).await
    }

    /// Asks all `nodes` at once what `queries` gives for each, in one exchange. With `lock`,
    /// the name of a tool, the locks of the hosts are taken first; on each host that is
    /// before its state is read. The results are in the order of the nodes.
    ///
    /// When another operator has the lock of one host, none is to be touched.
    pub async fn query<'a>(
        &self,
        nodes: Vec<&'a Node>,
        lock: Option<&str>,
        queries: impl Fn(&Node) -> Vec<Query>,
    ) -> Vec<(&'a Node, Result<Reply, Error>)> {
        let claim = lock.map(Claim::of);
        self.each(nodes, async |node, host| {
            let claim = claim.as_ref().map(|claim| claim.on(&node.name));
            host.query(claim.as_ref(), &queries(node)).await
        })
        .await
    }

    /// How many hosts to work on at once.
    pub fn jobs(&self) -> usize {
        self.jobs
    }
}

/// Does `job` on all `items`, `jobs` at once; the results are in the order of the items.
pub async fn fan_out<I, T>(jobs: usize, items: Vec<I>, job: impl AsyncFn(I) -> T) -> Vec<T> {
    futures::stream::iter(items.into_iter().map(|item| job(item))).buffered(jobs).collect().await
}
