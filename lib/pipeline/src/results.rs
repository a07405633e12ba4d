//! What a tool reports: to the person on stderr, to the next stage in the document.

use std::fmt;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Exit;

/// How much a result matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The job was not done; the stages that follow touch nothing.
    Error,
    /// The job was done, and there is something to look at.
    Warning,
    /// What was done, or that nothing had to be.
    Info,
}

/// What a result is about, for scripts. In the document it is the variant's name
/// in kebab-case (`HostKey` is `host-key`); readers accept any other word.
///
/// `docs/contract.md` lists them with these comments: `UPDATE_DOCS=1 cargo test
/// -p tests --test docs`.
// `ValueEnum` gives the names, the list of all variants, and their comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Code {
    // Errors: reaching a host
    /// no connection could be made
    Unreachable,
    /// the host's key is not the one in known_hosts
    HostKey,
    /// the login was refused, or the user may not become root
    NoPermission,
    /// another operator is at work on the node
    Locked,
    /// the lock of the node was lost while the tool worked: it stopped there
    LockLost,
    /// the connection ended before the work on the node did
    ConnectionLost,
    /// the work on the node failed
    CommandFailed,
    /// ssh on this machine could not do its part
    SshFailed,
    // Errors: units and quorum
    /// a unit did not start
    NotStarted,
    /// a unit did not stop
    NotStopped,
    /// a member was restarted and is not back
    RestartFailed,
    /// a member was left alone because an earlier one failed
    NotRestarted,
    /// refused: the cluster would lose quorum
    Quorum,
    /// refused: nobody could say whether the cluster would keep quorum
    QuorumUnknown,
    /// refused: the document does not fit what runs or lies on the node
    Mismatch,
    /// refused: a step between versions that etcd does not support, or that nobody asked for
    VersionStep,
    /// a unit is masked on the node
    Masked,
    // Errors: answers about the cluster and its certificates
    /// an endpoint, a member or the cluster is not healthy
    Unhealthy,
    /// no endpoint gave the member list: the cluster's health cannot be told
    NoMemberList,
    /// a certificate is due for renewal
    Due,
    /// a certificate, or the key of the CA, is missing
    Missing,
    // Errors: snapshots
    /// a snapshot is damaged, truncated or not one at all
    BrokenSnapshot,
    /// refused: the snapshot is not staged on the node
    NotStaged,
    /// refused: etcd is running on the node
    StillRunning,
    /// refused: the cluster was restored from this snapshot and has run since
    AlreadyRestored,
    // Errors and warnings: hosts and the running cluster, before a deployment
    /// systemd is missing or too old
    Systemd,
    /// the kernel is too old
    Kernel,
    /// the processor is not the one that the document says
    Arch,
    /// a host has too little memory
    Memory,
    /// the disk for the data has too little free space
    DiskSpace,
    /// the disk for the data rotates, or is a network or memory file system; or a disk that is
    /// written to is read-only
    DiskKind,
    /// the disk for the data takes too long to write
    DiskLatency,
    /// clocks differ
    Clock,
    /// no time synchronisation
    TimeSync,
    /// two hosts have the same host name or machine id
    DuplicateHost,
    /// SELinux or AppArmor may stop etcd
    SecurityModule,
    /// a host swaps memory
    Swap,
    /// too few files may be open at once
    OpenFiles,
    /// another process listens on a port of etcd
    PortInUse,
    /// a node does not know the name of another
    NameResolution,
    /// a node does not reach a port of another
    PortBlocked,
    /// the round trip between two nodes takes too long
    RoundTrip,
    /// no member may fail without the cluster losing quorum
    NoMargin,
    /// the database is near its quota
    Quota,
    /// much of the database's file is unused
    Fragmentation,
    // Errors: everything else
    /// a template could not be rendered
    Template,
    /// etcd would not start with these variables together
    ConflictingVariables,
    /// etcd would not start with a feature gate that it does not know
    UnknownFeature,
    /// the command line does not fit the document
    Usage,
    /// the input is not valid
    BadInput,
    /// there is no usable input
    NoInput,
    /// anything else that concerns the whole run
    Failed,
    // Warnings
    /// the document has a key that the tools do not know
    UnknownKey,
    /// an even number of members
    EvenMembers,
    /// heartbeat or election timeout differ between members
    DifferentTiming,
    /// the members run different versions of etcd
    DifferentVersions,
    /// a downgrade of the cluster is enabled
    DowngradePending,
    /// no member said which version runs, so the default was taken
    DefaultVersion,
    /// etcd ignores a variable that is set
    UnknownVariable,
    /// the next minor version of etcd ignores a variable that is set
    DeprecatedVariable,
    /// the release is known to corrupt data
    UnsafeVersion,
    /// the release is no longer supported by etcd
    UnsupportedVersion,
    /// the release is older than what Kubernetes needs
    OldVersion,
    /// a file in the cache was damaged and is downloaded again
    Damaged,
    /// the CA expires before the certificates that it signs
    CaDue,
    /// others could read a private key
    Exposed,
    /// a process is older than its configuration, unit or binary
    Outdated,
    /// a member has raised an alarm
    Alarm,
    /// a member does not vote yet
    Learner,
    /// a member is far behind the others
    Lagging,
    /// a member did not send its snapshot, and another one is asked
    NoAnswer,
    /// a snapshot's name has a time in the future
    FutureSnapshot,
    /// the release cannot bump revisions, so that they go backwards with a restore
    RevisionsGoBack,
    /// a member is not a node of the document
    UnknownMember,
    /// a setting has no effect, as on a member that has data
    NoEffect,
    /// something of an earlier deployment stays on a node
    LeftBehind,
    /// a node is not a member yet, and was left out of the document
    LeftOut,
    /// a node list cannot say all that there is to know of a member
    NotInList,
    // What was done
    /// a release was downloaded and verified
    Fetched,
    /// the binaries of a release were unpacked
    Unpacked,
    /// a CA was made
    Made,
    /// your CA was imported
    Adopted,
    /// a certificate was issued
    Issued,
    /// a certificate was issued again
    Reissued,
    /// a key's permissions were taken from others
    Protected,
    /// temporary files of an interrupted run were removed
    Cleaned,
    /// files were written to the node
    Pushed,
    /// units were started, or changed and started
    Started,
    /// units were stopped
    Stopped,
    /// a member was restarted
    Restarted,
    /// leadership was moved to another member
    LeaderMoved,
    /// a member was added to the cluster, as a learner
    Added,
    /// a learner was made a voting member
    Promoted,
    /// a member was removed from the cluster
    Removed,
    /// the cluster was told the new address of a member
    Updated,
    /// everything of etcd was deleted
    Purged,
    /// a downgrade was enabled, and the data of all members is ready for the older version
    DowngradeEnabled,
    /// a downgrade was cancelled
    DowngradeCancelled,
    /// all members have written a raft snapshot
    RaftSnapshot,
    /// a snapshot was saved and verified
    Saved,
    /// an old snapshot was removed
    Pruned,
    /// a snapshot was restored beside the data
    Staged,
    /// the data of a node is now that of the snapshot
    Restored,
    // What was found, and left as it is
    /// with `--check`: what a run without it would change
    WouldChange,
    /// the release is in the cache
    Cached,
    /// the CA in use
    Ca,
    /// a certificate is valid
    Valid,
    /// the certificates are as they should be
    Unchanged,
    /// the configuration was rendered
    Rendered,
    /// a template was written to a folder
    Written,
    /// nothing had to be changed
    UpToDate,
    /// the checks that were made before a deployment found no error
    Passed,
    /// checks were left out, as told
    Skipped,
    /// a unit is running
    Running,
    /// etcd would allow the downgrade
    DowngradeAllowed,
    /// the members were listed
    Listed,
    /// the cluster is healthy
    Healthy,
    /// a snapshot is intact
    Intact,
}

impl Code {
    /// The word in the document.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it means, on one line.
    pub fn meaning(self) -> String {
        let help = self.to_possible_value().and_then(|value| value.get_help().cloned());
        help.map(|text| text.to_string()).unwrap_or_default()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl PartialEq<Code> for String {
    fn eq(&self, code: &Code) -> bool {
        *self == code.name()
    }
}

/// One thing that a tool did or found, on one node or on the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolResult {
    /// The tool that reports, as `etcd-push`.
    pub tool: String,
    /// The name of the node; absent for the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How much it matters. An `error` stops the pipe.
    pub severity: Severity,
    /// A stable word for scripts, such as `unreachable`: one of [`Code`], or another tool's own.
    pub code: String,
    /// One line for people.
    pub message: String,
    /// Whether the tool changed anything here.
    #[serde(default)]
    pub changed: bool,
    /// When the certificate that it is about expires: RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
}

/// Codes of errors that are an answer, not a failure.
const ANSWERS: [Code; 4] = [Code::Due, Code::Exposed, Code::Unhealthy, Code::BrokenSnapshot];

impl ToolResult {
    fn new(severity: Severity, code: Code, message: impl Into<String>) -> Self {
        Self {
            tool: String::new(),
            node: None,
            severity,
            code: code.name(),
            message: message.into(),
            changed: false,
            not_after: None,
        }
    }

    /// The job was not done. `message` says what and why, on one line.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// Done, with something to look at.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// Something was changed.
    pub fn changed(code: Code, message: impl Into<String>) -> Self {
        Self { changed: true, ..Self::new(Severity::Info, code, message) }
    }

    /// Nothing was changed.
    pub fn unchanged(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Info, code, message)
    }

    /// `--check` found something that a run without it would change.
    pub fn would_change(message: impl Into<String>) -> Self {
        Self::new(Severity::Info, Code::WouldChange, message)
    }

    /// The same result, of one node.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.node = Some(node.into());
        self
    }

    /// The same result, of `node` where it is one node's.
    #[must_use]
    pub fn of(self, node: Option<impl AsRef<str>>) -> Self {
        match node {
            Some(node) => self.on(node.as_ref()),
            None => self,
        }
    }

    /// The line for people, without the tool's name.
    pub(crate) fn line(&self) -> String {
        let place = self.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
        let mark = if self.severity == Severity::Warning { "warning: " } else { "" };
        format!("{place}{mark}{}", self.message)
    }
}

/// The exit code of a tool that reported `results` while working on `nodes` nodes.
pub(crate) fn exit_of(results: &[ToolResult], nodes: usize) -> Exit {
    let errors: Vec<_> = results.iter().filter(|r| r.severity == Severity::Error).collect();
    if errors.is_empty() {
        let differs = results.iter().any(|r| r.code == Code::WouldChange);
        return if differs { Exit::No } else { Exit::Done };
    }
    if errors.iter().all(|r| ANSWERS.iter().any(|answer| r.code == *answer)) {
        return Exit::No;
    }
    let unreachable = |node: &&ToolResult| node.code == Code::Unreachable;
    if errors.len() >= nodes && errors.iter().all(unreachable) {
        return Exit::Unreachable;
    }
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Code) -> ToolResult {
        ToolResult::error(code, "x")
    }

    #[test]
    fn exit_codes_follow_from_results() {
        let cases = [
            (vec![], Exit::Done),
            (vec![ToolResult::changed(Code::Pushed, "x")], Exit::Done),
            (vec![ToolResult::warning(Code::EvenMembers, "x")], Exit::Done),
            (vec![ToolResult::would_change("x")], Exit::No),
            (vec![error(Code::Unhealthy)], Exit::No),
            (vec![error(Code::Unhealthy), error(Code::Unreachable)], Exit::Failed),
            (vec![error(Code::Unreachable)], Exit::Failed),
            (vec![error(Code::Unreachable), error(Code::Unreachable)], Exit::Unreachable),
        ];
        for (results, exit) in cases {
            assert_eq!(exit_of(&results, 2), exit, "{results:?}");
        }
        assert_eq!(exit_of(&[error(Code::Unreachable)], 0), Exit::Unreachable);
    }
}
