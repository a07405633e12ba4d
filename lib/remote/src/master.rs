//! The shared connection to a host: an `ssh` master process behind a control
//! socket. It outlives the tool that started it, so that the next tool of the
//! pipeline finds it and needs no handshake of its own.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::{Pid, geteuid};
use openssh::Session;
use pipeline::disk;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::args::Target;
use crate::error::Error;
use crate::host::remove_stale_forwards;

/// How long a connection that nobody uses stays.
const PERSIST: &str = "ControlPersist=60";
/// How long the login at a host may take when ssh asks nothing.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// How long another process may take for it; a person may have to answer there.
const LAUNCH: Duration = Duration::from_secs(300);
/// How long a connection on this machine may take to say that it is alive.
const ALIVE: Duration = Duration::from_secs(10);
/// How long a socket may be without a listener when its ssh starts.
const STARTING: Duration = Duration::from_secs(60);
/// How many digits of a hash tell one target from another: the path of a socket is short.
const HASH_DIGITS: usize = 12;
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

/// Where the control socket of `target` is found: a link to the socket of the newest
/// connection. Each has a socket of its own, since one that ends removes its socket.
pub(crate) fn pointer(folder: &Path, target: &Target) -> PathBuf {
    folder.join(&disk::sha256(format!("{target:?}").as_bytes())[..HASH_DIGITS])
}

/// The connection behind `pointer`, when there is one that answers and whose socket is
/// not `dead`.
pub(crate) async fn resume(pointer: &Path, dead: Option<&Path>) -> Option<(Session, PathBuf)> {
    let socket = pointer.with_file_name(fs::read_link(pointer).ok()?);
    if Some(socket.as_path()) == dead || !socket.exists() {
        return None;
    }
    let session = Session::resume_mux(socket.clone().into(), None);
    let alive = timeout(ALIVE, session.check()).await;
    matches!(alive, Ok(Ok(()))).then_some((session, socket))
}

/// The live connection that a process made for `pointer` and was killed before it could
/// let `pointer` lead there.
async fn adopt(pointer: &Path, dead: Option<&Path>) -> Option<(Session, PathBuf)> {
    let own = format!("{}-", pointer.file_name()?.to_string_lossy());
    for entry in fs::read_dir(pointer.parent()?).ok()?.flatten() {
        let socket = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(&own);
        if !ours || Some(socket.as_path()) == dead || is_dead_socket(&socket) {
            continue;
        }
        let session = Session::resume_mux(socket.clone().into(), None);
        if matches!(timeout(ALIVE, session.check()).await, Ok(Ok(()))) {
            point(pointer, &socket).ok()?;
            return Some((session, socket));
        }
    }
    None
}

/// Makes the connection behind `pointer`. Another process that does the same is
/// waited for, and its connection is taken, unless its socket is `dead`.
pub(crate) async fn launch(
    pointer: &Path,
    target: &Target,
    dead: Option<&Path>,
) -> Result<(Session, PathBuf), Error> {
    let lock = LaunchLock::wait(&pointer.with_extension("lock")).await?;
    if let Some(found) = resume(pointer, dead).await {
        return Ok(found);
    }
    if let Some(found) = adopt(pointer, dead).await {
        return Ok(found);
    }
    // One whose process was killed has left its socket.
    if let Ok(name) = fs::read_link(pointer) {
        let old = pointer.with_file_name(name);
        if is_dead_socket(&old) {
            let _ = fs::remove_file(&old);
        }
    }
    let name = pointer.file_name().unwrap_or_default().to_string_lossy();
    let socket = pointer.with_file_name(format!("{name}-{:08x}", fastrand::u32(..)));
    let mut attempt = 1;
    loop {
        let Err(stderr) = handshake(&socket, target, &lock, true).await? else { break };
        let error = classify(&stderr);
        match error {
            Error::Unreachable(_) if dropped(&stderr) && attempt < ATTEMPTS => {
                // A bastion drops handshakes beyond its MaxStartups: spread them.
                let pause = 100 * u64::from(attempt) + fastrand::u64(..400);
                sleep(Duration::from_millis(pause)).await;
                attempt += 1;
            }
            // Only now let ssh ask, for a passphrase or whether to trust the host key.
            Error::NoPermission(_) | Error::HostKey(_) if File::open("/dev/tty").is_ok() => {
                let _one = TERMINAL.lock().await;
                if let Err(stderr) = handshake(&socket, target, &lock, false).await? {
                    return Err(classify(&stderr));
                }
                break;
            }
            error => return Err(error),
        }
    }
    point(pointer, &socket)
        .map_err(|error| Error::Ssh(format!("{}: linking: {error}", pointer.display())))?;
    Ok((Session::resume_mux(socket.clone().into(), None), socket))
}

/// The ssh command that reaches `target` through the connection of `socket`, for people.
pub(crate) fn command(socket: &Path, target: &Target) -> String {
    let arguments = target.arguments().join(OsStr::new(" "));
    format!("ssh -S {} {}", socket.display(), arguments.display())
}

/// Lets `pointer` lead to `socket`, at once and for whoever comes.
fn point(pointer: &Path, socket: &Path) -> io::Result<()> {
    let new = pointer.with_extension("new");
    let _ = fs::remove_file(&new);
    std::os::unix::fs::symlink(socket.file_name().unwrap_or_default(), &new)?;
    fs::rename(&new, pointer)
}

/// Removes from `folder` what ended processes have left there: locks, and sockets and
/// links that lead nowhere.
pub(crate) fn tidy(folder: &Path) {
    let old = |path: &Path| {
        let modified = fs::symlink_metadata(path).and_then(|found| found.modified());
        modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STARTING))
    };
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "lock") {
            drop(LaunchLock::try_take(&path));
        } else if path.is_symlink() && !path.exists() {
            // Whoever is about to replace it has the lock.
            if let Ok(Some(_lock)) = LaunchLock::try_take(&path.with_extension("lock"))
                && !path.exists()
            {
                let _ = fs::remove_file(&path);
            }
        } else if !path.is_symlink() && old(&path) && is_dead_socket(&path) {
            let _ = fs::remove_file(&path);
        }
    }
    remove_stale_forwards(folder);
}

/// Whether nobody listens on the socket `path`. Who does need not accept: a process that is
/// stopped would be waited for, for ever.
fn is_dead_socket(path: &Path) -> bool {
    let (family, kind) = (AddressFamily::Unix, SockType::Stream);
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let tried = UnixAddr::new(path).and_then(|address| {
        let socket = socket(family, kind, flags, None)?;
        connect(socket.as_raw_fd(), &address)
    });
    tried == Err(Errno::ECONNREFUSED)
}

/// Held while a connection is made. Its file goes with it.
struct LaunchLock {
    file: Flock<File>,
    path: PathBuf,
}

impl LaunchLock {
    /// Takes the lock, and waits while another process makes the connection.
    async fn wait(path: &Path) -> Result<Self, Error> {
        let deadline = Instant::now() + LAUNCH;
        loop {
            match Self::try_take(path) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) if Instant::now() < deadline => sleep(Duration::from_millis(20)).await,
                Ok(None) => {
                    let what = "another process has been connecting for too long";
                    return Err(Error::Ssh(format!("{}: {what}", path.display())));
                }
                Err(error) => {
                    return Err(Error::Ssh(format!("{}: locking: {error}", path.display())));
                }
            }
        }
    }

    fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(path)?;
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, error)) => return Err(error.into()),
        };
        // The one who had it may have removed it.
        let same = fs::metadata(path).is_ok_and(|at_path| {
            file.metadata()
                .is_ok_and(|ours| (ours.ino(), ours.dev()) == (at_path.ino(), at_path.dev()))
        });
        Ok(same.then(|| Self { file, path: path.to_owned() }))
    }
}

impl Drop for LaunchLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Starts the master; it goes to the background once it is connected. The
/// inner error is what ssh wrote to stderr when it could not connect.
async fn handshake(
    socket: &Path,
    target: &Target,
    lock: &LaunchLock,
    batch: bool,
) -> Result<Result<(), String>, Error> {
    let failed = |error: io::Error| Error::Ssh(format!("starting ssh: {error}"));
    // A file and not a pipe: the master keeps its stderr for as long as it lives.
    let log_path = socket.with_extension("log");
    let log = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&log_path)
        .map_err(failed)?;
    let _ = fs::remove_file(&log_path);
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
    ssh.args(target.arguments());
    let stderr =
        if batch { Stdio::from(log.try_clone().map_err(failed)?) } else { Stdio::inherit() };
    ssh.stdin(lock.file.try_clone().map_err(failed)?).stdout(Stdio::null()).stderr(stderr);
    let status = if batch {
        // A group of its own, to end with it.
        let mut child = ssh.process_group(0).spawn().map_err(failed)?;
        let Ok(status) = timeout(HANDSHAKE, child.wait()).await else {
            if let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = child.wait().await;
            let what = format!("the login did not end within {} s", HANDSHAKE.as_secs());
            return Err(Error::Unreachable(what));
        };
        status.map_err(failed)?
    } else {
        ssh.status().await.map_err(failed)?
    };
    match status.code() {
        Some(0) => return Ok(Ok(())),
        Some(NOT_FOUND) => return Err(Error::Ssh("not found: install the OpenSSH client".into())),
        _ => {}
    }
    let (mut log, mut text) = (log, Vec::new());
    log.rewind().and_then(|()| log.read_to_end(&mut text)).map_err(failed)?;
    Ok(Err(String::from_utf8_lossy(&text).into_owned()))
}

/// Whether the host, or a jump host, closed the connection in the handshake.
fn dropped(stderr: &str) -> bool {
    ["kex_exchange_identification", "Connection closed by", "Connection reset by"]
        .iter()
        .any(|sign| stderr.contains(sign))
}

/// The kind of failure, from what ssh wrote to stderr: it has no other way to tell.
fn classify(stderr: &str) -> Error {
    let lines: Vec<_> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let with = |sign: &str| lines.iter().find(|line| line.contains(sign)).map(|l| l.to_string());
    let last = lines.last().map_or("ssh gave no reason", |line| line);
    let last = last.strip_prefix("ssh: ").unwrap_or(last).to_owned();
    if last.ends_with("UNKNOWN port 65535") {
        // A master that outlives its command keeps the jump's own stderr to itself.
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
    fn a_socket_whose_process_accepts_nothing_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (said, heard) = std::sync::mpsc::channel();
        let of = path.clone();
        // More than the kernel keeps for it.
        std::thread::spawn(move || said.send((0..10_000).any(|_| is_dead_socket(&of))));
        assert_eq!(heard.recv_timeout(Duration::from_secs(60)), Ok(false));
        drop(listener);
        assert!(is_dead_socket(&path));
    }

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
                 host's, then fix known_hosts (ssh-keygen -R, ssh-keyscan)",
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
            ("", "cannot connect: ssh gave no reason"),
        ];
        for (stderr, expected) in cases {
            assert_eq!(classify(stderr).to_string(), expected);
        }
    }
}
