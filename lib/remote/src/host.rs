//! One host: running a script on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssh::{ForwardType, Session, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::error::Error;
use crate::lock::has_ended;

/// Becomes root if need be, then runs the script that is the first argument.
const AS_ROOT: &str =
    r#"if [ "$(id -u)" = 0 ]; then exec sh -c "$@"; else exec sudo -n -- sh -c "$@"; fi"#;

/// What goes before every script. The marks separate its answer from what the
/// user's shell prints when it starts.
const BEFORE: &str = r#"echo @etcd-tools-begin; echo @etcd-tools-begin >&2
LC_ALL=C; export LC_ALL; PATH=$PATH:/usr/sbin:/sbin; export PATH; umask 077
die() { printf '%s\n' "$*" >&2; exit 1; }
"#;
const BEGIN: &str = "@etcd-tools-begin\n";
/// What goes before a script that changes something. Without the main lock of
/// the host nobody comes here, so whoever still works is left of a run that was
/// killed, or cut off from the host.
const ALONE: &str = r#"work=/run/etcd-tools.work
exec 8>>$work || die "$work: opening it failed"
tries=100
until flock -n 8; do
    read -r pid group < $work
    if [ "/proc/$pid/fd/8" -ef $work ]; then kill -- "-$group" 2>/dev/null; fi
    [ $((tries -= 1)) -gt 0 ] || die "the script of a killed run does not end: see process $pid"
    sleep 0.1
done
echo "$$ $(cut -d ' ' -f 5 /proc/$$/stat)" > $work
"#;
/// What goes after it: without this mark the answer is not complete.
const AFTER: &str = "\necho @etcd-tools-end\n";
const END: &str = "@etcd-tools-end\n";

/// A connected host.
pub struct Host {
    pub(crate) session: Arc<Session>,
    pub(crate) folder: PathBuf,
    /// Whether the connection was there before, and may have died since.
    pub(crate) resumed: bool,
}

/// A part of what a script reads from stdin.
#[derive(Debug, Clone)]
pub enum Input {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The content of this file, which is on this machine.
    File(PathBuf),
}

impl Host {
    /// Runs the POSIX `sh` script `script` as root, with `args` as `$1` and so
    /// on, and `input` on its stdin. `LC_ALL` is `C`, the umask is 077, and
    /// `die WHY` ends it with an error message.
    ///
    /// Gives the lines that it wrote to stdout. A script that does not exit
    /// with 0 is [`Error::CommandFailed`] with the last line of its stderr.
    pub async fn run(
        &self,
        script: &str,
        args: &[&str],
        input: &[Input],
    ) -> Result<Vec<String>, Error> {
        let mut child = self.spawn(script, args).await?;
        let (stdin, stdout, stderr) =
            (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (fed, out, err) = tokio::join!(feed(stdin, input), drain(stdout), drain(stderr));
        fed?;
        let ended = child.wait().await;
        let said = after_begin(&err).trim_end();
        let why = said.lines().last().unwrap_or_default().trim().to_owned();
        match ended {
            Ok(status) if status.success() => {
                let answer = after_begin(&out);
                let answer = answer
                    .strip_suffix(END)
                    .ok_or_else(|| Error::ConnectionLost("the answer is cut off".into()))?;
                Ok(answer.lines().map(str::to_owned).collect())
            }
            Ok(_) if !out.contains(BEGIN) => Err(not_begun(&err)),
            Ok(status) if why.is_empty() => {
                Err(Error::CommandFailed(format!("the script ended with {status}")))
            }
            Ok(_) => Err(Error::CommandFailed(why)),
            Err(openssh::Error::Remote(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(not_begun(&err))
            }
            Err(error) => Err(self.lost(error).await),
        }
    }

    /// The same as [`Host::run`], for a script that changes something: one that
    /// a killed run has left at work on the host is ended first, with SIGTERM.
    /// Only the holder of the [lock](Host::lock) may call it. A child that is to outlive
    /// the script, or has a process group of its own, must close its descriptor 8.
    pub async fn change(&self, script: &str, input: &[Input]) -> Result<Vec<String>, Error> {
        self.run(&format!("{ALONE}{script}"), &[], input).await
    }

    /// Starts `script` as root; see [`Host::run`].
    pub(crate) async fn spawn(
        &self,
        script: &str,
        args: &[&str],
    ) -> Result<openssh::Child<Arc<Session>>, Error> {
        let script = format!("{BEFORE}{script}{AFTER}");
        let mut command = self.session.clone().arc_command("/bin/sh");
        command.args(["-c", AS_ROOT, "etcd-tools", &script, "etcd-tools"]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match command.spawn().await {
            Ok(child) => Ok(child),
            Err(error) => Err(self.lost(error).await),
        }
    }

    /// Makes the port `port` of the host's loopback reachable through a unix
    /// socket on this machine, for as long as the result lives.
    pub async fn forward(&self, port: u16) -> Result<Forward, Error> {
        remove_sockets_of_the_killed(&self.folder);
        let name = format!("f{}-{:x}", std::process::id(), fastrand::u32(..));
        let socket = self.folder.join(name);
        let made = self.session.request_port_forward(
            ForwardType::Local,
            socket.as_path(),
            (std::net::Ipv4Addr::LOCALHOST, port),
        );
        match made.await {
            Ok(()) => Ok(Forward(socket)),
            Err(error) => Err(self.lost(error).await),
        }
    }

    /// A failure of the connection, or of the remote process while the connection lives.
    async fn lost(&self, error: openssh::Error) -> Error {
        let alive = self.session.check().await.is_ok();
        let ended = matches!(error, openssh::Error::RemoteProcessTerminated);
        let why = format!("{:#}", anyhow::Error::from(error));
        match (alive, ended) {
            (true, _) => Error::CommandFailed(format!("the script was killed: {why}")),
            (false, true) => Error::ConnectionLost(
                "the host went away in the middle of the work: once it is back, run this again"
                    .into(),
            ),
            (false, false) => Error::ConnectionLost(why),
        }
    }
}

/// A forwarded port.
pub struct Forward(PathBuf);

impl Forward {
    /// The unix socket on this machine that leads to it.
    pub fn socket(&self) -> &Path {
        &self.0
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // The forward itself goes with the connection; without its file nobody reaches it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Removes what [`Forward`] could not.
fn remove_sockets_of_the_killed(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix('f').and_then(|name| name.split_once('-'));
        if process.and_then(|(process, _)| process.parse().ok()).is_some_and(has_ended) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

async fn feed(stdin: Option<openssh::ChildStdin>, input: &[Input]) -> Result<(), Error> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    for part in input {
        let sent = match part {
            Input::Bytes(bytes) => stdin.write_all(bytes).await,
            Input::File(path) => {
                let mut file = tokio::fs::File::open(path).await.map_err(|error| {
                    Error::CommandFailed(format!("{}: opening: {error}", path.display()))
                })?;
                tokio::io::copy_buf(
                    &mut tokio::io::BufReader::with_capacity(256 << 10, &mut file),
                    &mut stdin,
                )
                .await
                .map(drop)
            }
        };
        // A script that has failed reads no more; its exit and stderr say why.
        if sent.is_err() {
            break;
        }
    }
    Ok(())
}

async fn drain(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What was read before a failure is still worth having.
        let _ = stream.read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn after_begin(text: &str) -> &str {
    text.split_once(BEGIN).map_or("", |(_, rest)| rest)
}

/// The script did not even begin: sudo, or the shell, refused.
pub(crate) fn not_begun(stderr: &str) -> Error {
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty());
    let last = last.unwrap_or("the login shell ended before the script began").trim();
    if last.contains("sudo") {
        return Error::NoPermission(format!(
            "{last}: log in as root, or let the user run sudo without a password"
        ));
    }
    Error::CommandFailed(last.to_owned())
}
