//! One operator at a time on a host.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, User, getuid};
use openssh::{ChildStdin, Session};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How often the holder of a lock shows that it lives; the host waits 30 s for it.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a lock is waited for whose holder has died: longer than the heartbeats may
/// stay away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(35);
/// How long the host may take to free a lock.
const RELEASE: Duration = Duration::from_secs(10);

/// Who wants the lock of a host.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    /// For the operator who finds a host locked.
    pub holder: String,
    /// Tells this run from all others.
    run: String,
    /// Tells this claim from all others, also from those of this run on other nodes: a
    /// script that changes something runs only while the host's lock has it.
    pub token: String,
}

impl Claim {
    /// The claim of a run of `tool`, e.g. `etcd-push`.
    pub(crate) fn of(tool: &str) -> Self {
        let run = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        Self { holder: holder(tool), token: run.clone(), run }
    }

    /// The claim of the same run on the node `name`.
    pub(crate) fn on(&self, name: &str) -> Self {
        let node = &pipeline::disk::sha256(name.as_bytes())[..16];
        Self { token: format!("{}-{node}", self.run), ..self.clone() }
    }

    /// What it means that a host is locked by `holder`, with `token`.
    pub(crate) fn refused(&self, token: &str, holder: &str) -> Refused {
        if token == self.token || is_dead(holder) {
            Refused::ByTheDead
        } else if token.starts_with(&self.run) {
            Refused::SameHost
        } else {
            Refused::ByAnother
        }
    }
}

/// Why a host is locked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its holder has ended, or this run holds it through a connection that was lost. The
    /// host will notice.
    ByTheDead,
    /// It is another node of this run.
    SameHost,
    /// Somebody is at work there.
    ByAnother,
}

/// The lock of a host. It is freed by [`Lock::release`], or when this process dies.
pub struct Lock {
    child: openssh::Child<Arc<Session>>,
    heartbeat: JoinHandle<Option<ChildStdin>>,
    stop: Arc<Notify>,
}

impl Lock {
    /// The lock that the process `child` holds for as long as heartbeats come on `stdin`.
    pub(crate) fn hold(child: openssh::Child<Arc<Session>>, stdin: Option<ChildStdin>) -> Self {
        let stop = Arc::new(Notify::new());
        let heartbeat = tokio::spawn(heartbeat(stdin, stop.clone()));
        Self { child, heartbeat, stop }
    }

    /// Frees the lock, and returns when the host has freed it.
    pub async fn release(self) {
        self.stop.notify_one();
        let freed = async {
            drop(self.heartbeat.await);
            let _ = self.child.wait().await;
        };
        // A host that does not answer frees it when the heartbeats stay away.
        let _ = tokio::time::timeout(RELEASE, freed).await;
    }
}

async fn heartbeat(stdin: Option<ChildStdin>, stop: Arc<Notify>) -> Option<ChildStdin> {
    let mut stdin = stdin?;
    let mut clock = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            () = stop.notified() => return Some(stdin),
            _ = clock.tick() => if stdin.write_all(b".").await.is_err() { return Some(stdin) },
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
    fn a_lock_is_told_from_that_of_the_same_run_on_another_node() {
        let run = Claim::of("etcd-push");
        let (one, two) = (run.on("etcd-01"), run.on("etcd-02"));
        let other = Claim::of("etcd-push").on("etcd-01");
        let cases =
            [(&one, Refused::ByTheDead), (&two, Refused::SameHost), (&other, Refused::ByAnother)];
        for (holder, expected) in cases {
            assert_eq!(one.refused(&holder.token, &holder.holder), expected);
        }
    }

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
