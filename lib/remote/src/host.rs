//! One host: running scripts on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openssh::{ForwardType, Session, Socket, Stdio};
use pipeline::terminal;
use tokio::time::{Instant, sleep, timeout};

use crate::error::Error;
use crate::exchange::{BEGIN, Ended, Exchange, Input, MAX_SILENCE, after_begin, not_begun};
use crate::lock::{Claim, Lock, PATIENCE, Refused, has_ended};

/// Becomes root if need be, then runs the script that is the first argument.
const AS_ROOT: &str =
    r#"if [ "$(id -u)" = 0 ]; then exec sh -c "$@"; else exec sudo -n -- sh -c "$@"; fi"#;

/// Goes before every script. The marks separate its answer from what the user's shell
/// prints when it starts.
const PROLOGUE: &str = include_str!("scripts/prologue.sh");
/// What every script can call.
const HELPERS: &str = include_str!("scripts/helpers.sh");
/// Goes before a script that changes something.
const FENCE: &str = include_str!("scripts/fence.sh");
/// Answers queries, under the lock or without it.
const SESSION: &str = include_str!("scripts/session.sh");
/// Goes after every script: without this mark its answer is not complete.
const EPILOGUE: &str = "\necho @etcd-tools-end\n";
/// Ends the answer to one of several queries.
const NEXT: &str = "@etcd-tools-next";
/// What [`FENCE`] says when another has the lock, or nobody.
const LOST: &str = "lock lost: ";

const SAME_HOST: &str = "it is the same host as another node of the document";

/// How long the connection may take to start a script, or to say whether it lives.
const RESPONSE: Duration = Duration::from_secs(30);

/// How long it may take to close a forwarded port.
const CLOSE: Duration = Duration::from_secs(2);

/// A connected host.
#[derive(Clone)]
pub struct Host {
    pub(crate) session: Arc<Session>,
    /// The node, and the ssh command that reaches it, for people.
    pub(crate) ssh: String,
    pub(crate) folder: PathBuf,
    /// The control socket of the connection.
    pub(crate) socket: PathBuf,
    /// Whether the connection was there before, and may have died since.
    pub(crate) resumed: bool,
    /// Of the lock that this process holds on the host.
    pub(crate) token: Option<String>,
}

/// A question about the state of a host.
#[derive(Debug, Clone)]
pub struct Query {
    /// A POSIX `sh` script that changes nothing, and reads its stdin to the end.
    pub script: &'static str,
    /// What it reads.
    pub input: Vec<u8>,
}

impl Query {
    /// Asks for nothing.
    pub const NOTHING: Self = Self { script: "cat > /dev/null", input: Vec::new() };
}

/// What a host answered to queries.
pub struct Reply {
    /// The host.
    pub host: Host,
    /// Its lock, if that was asked for.
    pub lock: Option<Lock>,
    /// The lines that each query's script wrote, in the order of the queries.
    pub answers: Vec<Vec<String>>,
}

impl Host {
    /// Runs the POSIX `sh` script `script` as root, with `args` as `$1` and so
    /// on, and `input` on its stdin. `LC_ALL` is `C`, the umask is 077, and
    /// `die WHY` ends it with an error message.
    ///
    /// Gives the lines that it wrote to stdout. A script that does not exit
    /// with 0 is [`Error::CommandFailed`] with the last line of its stderr. Neither side
    /// may be silent for more than five minutes.
    pub async fn run(
        &self,
        script: &str,
        args: &[&str],
        input: &[Input],
    ) -> Result<Vec<String>, Error> {
        let what = purpose(script);
        let ended = self.exchange(&what, script, args, input, false, MAX_SILENCE).await?;
        Ok(ended.answer.lines().map(str::to_owned).collect())
    }

    /// The same as [`Host::run`], for a script that changes something, with `silence` as
    /// the longest time that it may say and read nothing. Only who holds the lock of the
    /// host may call it: see [`Reply`]. The host checks that, too, and refuses with
    /// [`Error::LockLost`] before `script` begins. A child that is to outlive the script,
    /// or has a process group of its own, must close its descriptor 8.
    pub async fn change(
        &self,
        script: &str,
        args: &[&str],
        input: &[Input],
        silence: Duration,
    ) -> Result<Vec<String>, Error> {
        let Some(token) = &self.token else {
            return Err(Error::LockLost("this run does not hold it".into()));
        };
        let args: Vec<_> = std::iter::once(token.as_str()).chain(args.iter().copied()).collect();
        let (what, script) = (purpose(script), format!("{FENCE}{script}"));
        match self.exchange(&what, &script, &args, input, false, silence).await {
            Ok(ended) => Ok(ended.answer.lines().map(str::to_owned).collect()),
            Err(Error::CommandFailed(why)) => Err(match why.strip_prefix(LOST) {
                Some(why) => Error::LockLost(why.to_owned()),
                None => Error::CommandFailed(why),
            }),
            Err(error) => Err(error),
        }
    }

    /// Asks the host `queries` in one exchange. With `claim` its lock is taken before, and
    /// what an interrupted run left at work on it is ended; [`Error::Locked`] says who has
    /// the lock. A holder that was killed on this machine is not an error: the host is
    /// given the time to notice.
    pub(crate) async fn query(
        &self,
        claim: Option<&Claim>,
        queries: &[Query],
    ) -> Result<Reply, Error> {
        let mut args = match claim {
            Some(claim) => vec![claim.holder.clone(), claim.token.clone()],
            None => vec![String::new(), String::new()],
        };
        args.push(HELPERS.to_owned());
        let mut input = Vec::new();
        for query in queries {
            args.extend([query.input.len().to_string(), query.script.to_owned()]);
            input.push(Input::Bytes(query.input.clone()));
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let lock = claim.map(|_| "Takes the lock".to_owned());
        let what = lock.into_iter().chain(queries.iter().map(|query| purpose(query.script)));
        let what = what.collect::<Vec<_>>().join(". ");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let keep_stdin = claim.is_some();
            let ended =
                self.exchange(&what, SESSION, &args, &input, keep_stdin, MAX_SILENCE).await?;
            let mut lines = ended.answer.lines();
            let mut host = self.clone();
            if let Some(claim) = claim {
                let line = lines.next().unwrap_or_default();
                if let Some((token, holder)) =
                    line.strip_prefix("busy ").and_then(|busy| busy.split_once(' '))
                {
                    match claim.refused(token, holder) {
                        Refused::ByTheDead if Instant::now() < deadline => {
                            sleep(Duration::from_millis(200)).await;
                            continue;
                        }
                        Refused::SameHost => return Err(Error::CommandFailed(SAME_HOST.into())),
                        _ => return Err(Error::Locked(holder.to_owned())),
                    }
                }
                host.token = Some(claim.token.clone());
            }
            let answers = answers(lines);
            let lock = claim.map(|_| Lock::hold(ended.child, ended.stdin));
            return Ok(Reply { host, lock, answers });
        }
    }

    /// The same as [`Host::run`], for a script that may go on for ever: gives each line to
    /// `line` as it comes, until that gives `false` or the script ends. Then, or when the
    /// future is dropped, the script's stdin ends, which tells it to end.
    pub async fn follow(
        &self,
        script: &str,
        args: &[&str],
        line: impl FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let exchange = self.begin(script, args).await?.follow(line).await;
        match exchange.complete {
            true => Ok(()),
            false => Err(self.failed(exchange).await),
        }
    }

    async fn exchange(
        &self,
        what: &str,
        script: &str,
        args: &[&str],
        input: &[Input],
        keep_stdin: bool,
        silence: Duration,
    ) -> Result<Ended, Error> {
        let start = Instant::now();
        let exchange = self.begin(script, args).await?;
        let exchange = exchange.run(input, keep_stdin, silence).await;
        terminal::trace(format_args!("{}: {}", self.ssh, what), start.elapsed());
        let exchange = exchange?;
        if !exchange.complete {
            return Err(self.failed(exchange).await);
        }
        let Exchange { child, stdin, out, .. } = exchange;
        Ok(Ended { child, stdin, answer: after_begin(&out).to_owned() })
    }

    /// Starts a script.
    async fn begin(&self, script: &str, args: &[&str]) -> Result<Exchange, Error> {
        let script = format!("{PROLOGUE}{HELPERS}{script}{EPILOGUE}");
        let mut command = self.session.clone().arc_command("/bin/sh");
        command.args(["-c", AS_ROOT, "etcd-tools", &script, "etcd-tools"]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match timeout(RESPONSE, command.spawn()).await {
            Ok(Ok(child)) => Ok(Exchange::begin(child)),
            Ok(Err(error)) => Err(self.lost(error).await),
            Err(_) => Err(Error::silent(RESPONSE)),
        }
    }

    /// Why a script did not come to its end.
    async fn failed(&self, exchange: Exchange) -> Error {
        let Exchange { child, stdin, out, err, .. } = exchange;
        drop(stdin);
        let Ok(ended) = timeout(RESPONSE, child.wait()).await else {
            return Error::silent(RESPONSE);
        };
        let why = after_begin(&err).trim_end().lines().last().unwrap_or_default().trim();
        match ended {
            Ok(status) if status.success() => {
                Error::ConnectionLost("the answer is incomplete: run again".into())
            }
            Ok(_) if !out.contains(BEGIN) => not_begun(&err),
            Ok(status) if why.is_empty() => {
                Error::CommandFailed(format!("the script ended with {status}"))
            }
            Ok(_) => Error::CommandFailed(why.to_owned()),
            Err(openssh::Error::Remote(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                not_begun(&err)
            }
            Err(error) => self.lost(error).await,
        }
    }

    /// Makes the port `port` of `address` (IPv6 in brackets or not), as the host reaches it,
    /// reachable through a unix socket on this machine, for as long as the result lives.
    /// Whether anything listens there shows when the socket is used: its connection is closed.
    pub async fn forward_to(&self, address: &str, port: u16) -> Result<Forward, Error> {
        let name = format!("f{}-{:x}", std::process::id(), fastrand::u32(..));
        let forward = Forward {
            session: self.session.clone(),
            socket: self.folder.join(name),
            address: address.trim_matches(['[', ']']).to_owned(),
            port,
        };
        let made = self.session.request_port_forward(
            ForwardType::Local,
            forward.socket.as_path(),
            forward.target(),
        );
        match timeout(RESPONSE, made).await {
            Ok(Ok(())) => Ok(forward),
            Ok(Err(error)) => Err(self.lost(error).await),
            Err(_) => Err(Error::silent(RESPONSE)),
        }
    }

    /// A failure of the connection, or of the remote process while the connection lives.
    async fn lost(&self, error: openssh::Error) -> Error {
        let alive = matches!(timeout(RESPONSE, self.session.check()).await, Ok(Ok(())));
        let ended = matches!(error, openssh::Error::RemoteProcessTerminated);
        let why = format!("{:#}", anyhow::Error::from(error));
        match (alive, ended) {
            (true, _) => Error::CommandFailed(format!("the script was killed: {why}")),
            (false, true) => Error::ConnectionLost(
                "whether the work on the host ended is not known: once it is reachable, run again"
                    .into(),
            ),
            (false, false) => Error::ConnectionLost(why),
        }
    }
}

/// A forwarded port. It is closed when this is dropped.
pub struct Forward {
    session: Arc<Session>,
    socket: PathBuf,
    address: String,
    port: u16,
}

impl Forward {
    /// The unix socket on this machine that leads to it.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn target(&self) -> Socket<'static> {
        Socket::TcpSocket { host: self.address.clone().into(), port: self.port }
    }

    fn close(&self) {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return;
        };
        runtime.block_on(async {
            let socket = self.socket.as_path();
            let closed = self.session.close_port_forward(ForwardType::Local, socket, self.target());
            let _ = timeout(CLOSE, closed).await;
        });
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // Without its file nobody reaches it, whatever becomes of the rest.
        let _ = std::fs::remove_file(&self.socket);
        // The runtime may be about to end: it cannot be relied on.
        std::thread::scope(|scope| scope.spawn(|| self.close()).join().unwrap_or_default());
    }
}

/// What `script` is for: the first sentence of its first comment.
fn purpose(script: &str) -> String {
    let comment = script.lines().map_while(|line| line.strip_prefix("# "));
    let text = comment.collect::<Vec<_>>().join(" ");
    text.split(['.', ':']).next().unwrap_or_default().to_owned()
}

/// The answers to several queries.
fn answers<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<String>> {
    let mut answers = Vec::new();
    let mut answer = Vec::new();
    for line in lines {
        if line == NEXT {
            answers.push(std::mem::take(&mut answer));
        } else {
            answer.push(line.to_owned());
        }
    }
    answers
}

/// Removes the sockets of forwarded ports that ended processes have left in `folder`.
pub(crate) fn remove_stale_forwards(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix('f').and_then(|name| name.split_once('-'));
        if process.and_then(|(process, _)| process.parse().ok()).is_some_and(has_ended) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
