//! Many hosts at once.

use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use openssh::Session;
use pipeline::document::Node;
use tokio::sync::Semaphore;

use crate::args::SshArgs;
use crate::error::Error;
use crate::host::{Host, Input};
use crate::lock::Lock;
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
        Ok(Self {
            args: args.clone(),
            folder: master::folder()?,
            jobs: jobs.into(),
            handshakes: Semaphore::new(HANDSHAKES),
        })
    }

    /// Connects to `node`, through the connection that is already there if one is.
    pub async fn connect(&self, node: &Node) -> Result<Host, Error> {
        let socket = master::socket(&self.folder, &self.args.target(node));
        match master::resume(&socket).await {
            Some(session) => Ok(self.host(session, true)),
            None => self.reconnect(node).await,
        }
    }

    fn host(&self, session: Session, resumed: bool) -> Host {
        Host { session: Arc::new(session), folder: self.folder.clone(), resumed }
    }

    async fn reconnect(&self, node: &Node) -> Result<Host, Error> {
        let target = self.args.target(node);
        let socket = master::socket(&self.folder, &target);
        let _one = self.handshakes.acquire().await;
        let session = master::launch(&socket, &target).await?;
        Ok(self.host(session, false))
    }

    /// Connects to `node` and does `job`, which must be safe to do twice: when
    /// a connection of an earlier tool turns out to be dead, as after a reboot of
    /// the host, it is made anew and the job done again.
    pub async fn on<'a, T>(
        &self,
        node: &'a Node,
        job: impl AsyncFn(&'a Node, Host) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let host = self.connect(node).await?;
        let resumed = host.resumed;
        match job(node, host).await {
            Err(Error::ConnectionLost(_)) if resumed => {
                master::discard(&master::socket(&self.folder, &self.args.target(node)));
                job(node, self.reconnect(node).await?).await
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

    /// Asks all `nodes` at once what their state is: runs `script` with `args`
    /// and what `input` gives for the node. With `lock`, the name of a tool,
    /// the locks of the hosts are taken at the same time.
    ///
    /// When another operator has the lock of one host, none is to be touched:
    /// see [`locked`].
    pub async fn ask<'a>(
        &self,
        nodes: Vec<&'a Node>,
        lock: Option<&str>,
        script: &str,
        args: &[&str],
        input: impl Fn(&Node) -> Vec<Input>,
    ) -> Vec<(&'a Node, Result<Asked, Error>)> {
        self.each(nodes, async |node, host| {
            let lock = async {
                match lock {
                    Some(tool) => host.lock(tool).await.map(Some),
                    None => Ok(None),
                }
            };
            let input = input(node);
            let answer = host.run(script, args, &input);
            let (lock, answer) = futures::future::try_join(lock, answer).await?;
            Ok(Asked { host, lock, answer })
        })
        .await
    }

    /// How many hosts to work on at once.
    pub fn jobs(&self) -> usize {
        self.jobs
    }
}

/// A host that answered [`Fleet::ask`].
pub struct Asked {
    /// The host.
    pub host: Host,
    /// Its lock, if that was asked for.
    pub lock: Option<Lock>,
    /// The lines that the script wrote.
    pub answer: Vec<String>,
}

/// Whether another operator is at work on one of the hosts that were asked.
pub fn locked(asked: &[(&Node, Result<Asked, Error>)]) -> bool {
    asked.iter().any(|(_, asked)| matches!(asked, Err(Error::Locked(_))))
}

/// Does `job` on all `items`, `jobs` at once; the results are in the order of the items.
pub async fn fan_out<I, T>(jobs: usize, items: Vec<I>, job: impl AsyncFn(I) -> T) -> Vec<T> {
    futures::stream::iter(items.into_iter().map(|item| job(item))).buffered(jobs).collect().await
}
