//! The shared connection to a host: an `ssh` master process behind a control
//! socket. It outlives the tool that started it, so that the next tool of the
//! pipeline finds it and needs no handshake of its own.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::geteuid;
use openssh::Session;
use pipeline::disk;
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::args::Target;
use crate::error::Error;

/// How long a connection that nobody uses stays.
const PERSIST: &str = "ControlPersist=60";
/// How often a handshake is tried that the host dropped for being one of too many.
const ATTEMPTS: u32 = 4;

/// What the shell exits with when there is no such command.
const NOT_FOUND: i32 = 127;

/// ssh asks one question at a time on the terminal.
static TERMINAL: Mutex<()> = Mutex::const_new(());

/// The folder of the control sockets, for this user only. Its path is short:
/// that of a socket holds 108 bytes at most.
pub(crate) fn folder() -> Result<PathBuf, Error> {
    let uid = geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|path| path.is_dir() && path.as_os_str().len() < 50);
    let path = match runtime {
        Some(runtime) => runtime.join("etcd-tools"),
        None => PathBuf::from(format!("/tmp/etcd-tools-{uid}")),
    };
    let failed = |why: String| Error::Ssh(format!("{}: {why}", path.display()));
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(format!("making the folder: {error}")));
        }
        _ => {}
    }
    // In /tmp anyone may have made it before us.
    let found = fs::symlink_metadata(&path).map_err(|error| failed(error.to_string()))?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
        return Err(failed("not a folder that only this user can use: remove it".into()));
    }
    Ok(path)
}

/// The control socket of `target`.
pub(crate) fn socket(folder: &Path, target: &Target) -> PathBuf {
    folder.join(&disk::sha256(format!("{target:?}").as_bytes())[..16])
}

/// The connection behind `socket`, when there is one that answers.
pub(crate) async fn resume(socket: &Path) -> Option<Session> {
    if !socket.exists() {
        return None;
    }
    let session = Session::resume_mux(socket.into(), None);
    session.check().await.is_ok().then_some(session)
}

/// Makes the connection behind `socket`. Another process that does the same is
/// waited for, and its connection is taken.
pub(crate) async fn launch(socket: &Path, target: &Target) -> Result<Session, Error> {
    let lock = socket.with_extension("lock");
    let waiting = tokio::task::spawn_blocking(move || disk::Lock::wait(&lock));
    let failed = |why: String| Error::Ssh(why);
    let lock = waiting
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(format!("{error:#}")))?;
    if let Some(session) = resume(socket).await {
        return Ok(session);
    }
    let mut attempt = 1;
    loop {
        let _ = fs::remove_file(socket);
        let Err(said) = handshake(socket, target, &lock, true).await? else { break };
        let error = classify(&said);
        match error {
            Error::Unreachable(_) if dropped(&said) && attempt < ATTEMPTS => {
                // A bastion drops handshakes beyond its MaxStartups: spread them.
                let pause = 100 * u64::from(attempt) + fastrand::u64(..400);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                attempt += 1;
            }
            // Only now let ssh ask, for a passphrase or whether to trust the host key.
            Error::NoPermission(_) | Error::HostKey(_) if File::open("/dev/tty").is_ok() => {
                let _one = TERMINAL.lock().await;
                if let Err(said) = handshake(socket, target, &lock, false).await? {
                    return Err(classify(&said));
                }
                break;
            }
            error => return Err(error),
        }
    }
    Ok(Session::resume_mux(socket.into(), None))
}

/// Forgets a connection that has turned out to be dead.
pub(crate) fn discard(socket: &Path) {
    let _ = fs::remove_file(socket);
}

/// Starts the master; it goes to the background once it is connected. The
/// inner error is what ssh said when it could not connect.
async fn handshake(
    socket: &Path,
    target: &Target,
    lock: &disk::Lock,
    batch: bool,
) -> Result<Result<(), String>, Error> {
    let failed = |error: io::Error| Error::Ssh(format!("starting ssh: {error}"));
    // A file and not a pipe: the master keeps its stderr for as long as it lives.
    let said_path = socket.with_extension("log");
    let said = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&said_path)
        .map_err(failed)?;
    let _ = fs::remove_file(&said_path);
    // When this process is killed, ssh goes on: the shell holds the lock, which is its
    // stdin, until then. Else the next run would make a second connection.
    let mut ssh = Command::new("sh");
    ssh.args(["-c", r#""$@" < /dev/null; exit $?"#, "sh", "ssh"]);
    ssh.args(["-M", "-N", "-f", "-T", "-o", PERSIST, "-S"]).arg(socket);
    for option in [
        // A frozen host ends in an error after 15 s, not never.
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
        "ConnectTimeout=10",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
    ] {
        ssh.args(["-o", option]);
    }
    if batch {
        ssh.args(["-o", "BatchMode=yes"]);
    }
    if let Some(config) = &target.config {
        ssh.arg("-F").arg(config);
    }
    if let Some(user) = &target.user {
        ssh.args(["-l", user]);
    }
    if let Some(port) = target.port {
        ssh.args(["-p", &port.to_string()]);
    }
    ssh.arg("--").arg(&target.host);
    let stderr =
        if batch { Stdio::from(said.try_clone().map_err(failed)?) } else { Stdio::inherit() };
    ssh.stdin(lock.share().map_err(failed)?).stdout(Stdio::null()).stderr(stderr);
    let status = ssh.status().await.map_err(failed)?;
    match status.code() {
        Some(0) => return Ok(Ok(())),
        Some(NOT_FOUND) => return Err(Error::Ssh("not found: install the OpenSSH client".into())),
        _ => {}
    }
    let (mut said, mut text) = (said, Vec::new());
    said.rewind().and_then(|()| said.read_to_end(&mut text)).map_err(failed)?;
    Ok(Err(String::from_utf8_lossy(&text).into_owned()))
}

/// Whether the host, or a jump host, closed the connection in the handshake.
fn dropped(said: &str) -> bool {
    ["kex_exchange_identification", "Connection closed by", "Connection reset by"]
        .iter()
        .any(|sign| said.contains(sign))
}

/// The kind of failure, from what ssh wrote to stderr: it has no other way to tell.
fn classify(said: &str) -> Error {
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let with = |sign: &str| lines.iter().find(|line| line.contains(sign)).map(|l| l.to_string());
    let last = lines.last().map_or("ssh said nothing", |line| line);
    let last = last.strip_prefix("ssh: ").unwrap_or(last).to_owned();
    if last.ends_with("UNKNOWN port 65535") {
        // A master that outlives its command keeps what the jump's own ssh says to itself.
        return Error::Unreachable(
            "the jump host (ProxyJump or ProxyCommand) closed the connection: \
             log in with ssh to see why"
                .into(),
        );
    }
    if with("Host key verification failed").is_some() {
        let unknown = with("No ").filter(|line| line.contains("host key is known"));
        let offending = with("Offending ");
        let why = unknown.or(offending).unwrap_or(last);
        return Error::HostKey(why.trim_end_matches('.').to_owned());
    }
    if let Some(line) = with("Permission denied (") {
        return Error::NoPermission(line);
    }
    if ["Bad configuration option", "terminating,", "Can't open user config file", "usage: ssh"]
        .iter()
        .any(|sign| with(sign).is_some())
    {
        return Error::Ssh(lines.first().map_or(last, |line| line.to_string()));
    }
    Error::Unreachable(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        let cases = [
            (
                "ssh: connect to host 192.168.1.109 port 22: No route to host\r\n",
                "cannot connect: connect to host 192.168.1.109 port 22: No route to host",
            ),
            (
                "No ED25519 host key is known for 192.168.1.100 and you have requested strict \
                 checking.\r\nHost key verification failed.\r\n",
                "host key verification failed: No ED25519 host key is known for \
                 192.168.1.100 and you have requested strict checking: compare it with the \
                 host's, then mend known_hosts (ssh-keygen -R, ssh-keyscan)",
            ),
            (
                "root@192.168.1.100: Permission denied (publickey,password).\r\n",
                "no permission: root@192.168.1.100: Permission denied (publickey,password).",
            ),
            (
                "Can't open user config file /x: No such file or directory\r\n",
                "ssh: Can't open user config file /x: No such file or directory",
            ),
            (
                "kex_exchange_identification: Connection closed by remote host\r\n\
                 Connection closed by UNKNOWN port 65535\r\n",
                "cannot connect: the jump host (ProxyJump or ProxyCommand) closed the \
                 connection: log in with ssh to see why",
            ),
            (
                "kex_exchange_identification: Connection closed by remote host\r\n\
                 Connection closed by 192.168.1.100 port 22\r\n",
                "cannot connect: Connection closed by 192.168.1.100 port 22",
            ),
            ("", "cannot connect: ssh said nothing"),
        ];
        for (said, expected) in cases {
            assert_eq!(classify(said).to_string(), expected);
        }
    }
}
