//! One operator at a time on a host.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, User, getuid};
use openssh::{ChildStdin, Session};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::error::Error;
use crate::host::{Host, not_begun};

/// Holds the lock for as long as a sign of life comes on stdin. When the
/// holder dies its connection closes; when its machine or the network dies,
/// the signs stay away for 30 s.
const SCRIPT: &str = r#"
command -v flock >/dev/null || die "flock: not found: install util-linux"
exec 9>>/run/etcd-tools.lock || die "/run/etcd-tools.lock: opening it failed"
if ! flock -n 9; then printf 'busy %s\n' "$(head -n 1 /run/etcd-tools.lock)"; exit 0; fi
printf '%s\n' "$1" > /run/etcd-tools.lock
echo locked
while [ -n "$(timeout 30 dd bs=1 count=1 2>/dev/null 9>&-)" ]; do :; done
"#;

/// How long a lock is waited for whose holder has died: longer than the signs
/// of life may stay away.
const PATIENCE: Duration = Duration::from_secs(35);

/// The lock of a host. It is freed by [`Lock::release`], or when this process dies.
pub struct Lock {
    child: openssh::Child<Arc<Session>>,
    signs: JoinHandle<ChildStdin>,
    stop: Arc<Notify>,
}

impl Host {
    /// Takes the lock of the host for `tool`; [`Error::Locked`] says who has it.
    /// A holder that was killed on this machine is not an error: the host is
    /// given the time to notice.
    pub async fn lock(&self, tool: &str) -> Result<Lock, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_lock(tool).await {
                Err(Error::Locked(holder)) if is_dead(&holder) && Instant::now() < deadline => {
                    sleep(Duration::from_millis(200)).await;
                }
                tried => return tried,
            }
        }
    }

    async fn try_lock(&self, tool: &str) -> Result<Lock, Error> {
        let mut child = self.spawn(SCRIPT, &[&holder(tool)]).await?;
        let (stdin, stdout, stderr) =
            (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(Error::Ssh("no stdin or stdout of the lock's process".into()));
        };
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line == "locked" {
                let stop = Arc::new(Notify::new());
                let signs = tokio::spawn(give_signs(stdin, stop.clone()));
                return Ok(Lock { child, signs, stop });
            }
            if let Some(holder) = line.strip_prefix("busy ") {
                return Err(Error::Locked(holder.to_owned()));
            }
        }
        let mut said = String::new();
        if let Some(stderr) = stderr {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                said = line;
            }
        }
        match self.session.check().await {
            Ok(()) => Err(not_begun(&said)),
            Err(_) => Err(Error::ConnectionLost("while taking the lock".into())),
        }
    }
}

impl Lock {
    /// Frees the lock, and returns when the host has freed it.
    pub async fn release(self) {
        self.stop.notify_one();
        drop(self.signs.await);
        let _ = self.child.wait().await;
    }
}

async fn give_signs(mut stdin: ChildStdin, stop: Arc<Notify>) -> ChildStdin {
    let mut clock = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            () = stop.notified() => return stdin,
            _ = clock.tick() => if stdin.write_all(b".").await.is_err() { return stdin },
        }
    }
}

/// Who we are, for the operator who finds the host locked.
fn holder(tool: &str) -> String {
    let user = User::from_uid(getuid()).ok().flatten().map_or_else(|| "?".into(), |user| user.name);
    let since = pipeline::rfc3339(SystemTime::now());
    format!("{user}@{} ({tool}, process {}, since {since})", this_machine(), std::process::id())
}

/// Whether `holder` was a process of this machine, and has ended.
fn is_dead(holder: &str) -> bool {
    let Some((who, rest)) = holder.split_once(" (") else { return false };
    let process = rest.split_once(", process ").and_then(|(_, rest)| rest.split_once(','));
    let process = process.and_then(|(process, _)| process.parse().ok());
    who.ends_with(&format!("@{}", this_machine())) && process.is_some_and(has_ended)
}

/// Whether there is no such process on this machine.
pub(crate) fn has_ended(process: i32) -> bool {
    kill(Pid::from_raw(process), None) == Err(Errno::ESRCH)
}

fn this_machine() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_dead_when_its_process_on_this_machine_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let ended = holder("etcd-push").replace(
            &format!("process {}", std::process::id()),
            &format!("process {}", child.id()),
        );
        assert!(is_dead(&ended));
        assert!(!is_dead(&holder("etcd-push")));
        assert!(!is_dead(&ended.replace('@', "@other-")));
        assert!(!is_dead("somebody"));
    }
}
