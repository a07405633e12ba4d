//! What is done to the units of a node, and how it ended.

use std::time::Duration;

use pipeline::disk;
use remote::{Error, Host, Input};
use serde_json::Value;

/// Does what the plan on its stdin says.
const SCRIPT: &str = concat!(include_str!("common.sh"), include_str!("change.sh"));

/// What `timeout` exits with when the time is over.
const TIME_OVER: i32 = 124;
/// A process that was started and is gone already.
const GONE: i32 = -1;
/// It would have stopped what is to stay.
const LEFT_ALONE: i32 = -2;
/// An etcd that went down while something else was done.
const DOWN: i32 = -3;
/// How long everything but the jobs may take.
const BESIDE_JOBS: Duration = Duration::from_secs(120);
/// How many lines of a journal are for people.
const JOURNAL_LINES: usize = 10;
/// What systemd begins with when it says how a process ended.
const EXITED: &str = "Main process exited, ";
/// Why a member that is alone is not ready.
const NO_QUORUM: &str = "no quorum: most of the members must run, and reach each other";

/// A list of changes to one node, in order.
#[derive(Default)]
pub struct Changes {
    lines: Vec<u8>,
    /// How long all jobs may take.
    seconds: u64,
}

/// How a start, a restart or a stop ended.
#[derive(Debug, Default)]
pub struct JobResult {
    /// The unit.
    pub unit: String,
    /// Of `systemctl`; 124 when the time was over, -1 when the process was started and
    /// is gone already, -2 when the unit was left alone, -3 when it is that of an etcd that went
    /// down while something else was done.
    pub code: i32,
    /// Why it was left alone, where it was.
    left_alone: Option<LeftAlone>,
    /// systemd's `ActiveState` after it.
    pub active: String,
    /// systemd's `SubState` after it.
    pub sub: String,
    /// How often systemd has restarted it; empty where systemd does not count it.
    restarts: String,
    /// The exit status of its last process.
    status: String,
    /// The last line that it wrote itself, when it failed.
    last: Option<String>,
    /// The last lines of the unit's journal, when it failed.
    pub journal: Vec<String>,
    /// What `systemctl` said of it.
    said: Option<String>,
    /// What systemd runs before and after the process, where that failed.
    control: Option<String>,
    /// Why it failed, as far as its journal tells.
    reason: Option<String>,
}

/// What a job would have stopped that is to stay.
#[derive(Debug)]
enum LeftAlone {
    /// The unit of etcd that systemd stops with it.
    WithEtcd(String),
    /// It itself, an etcd: it would be bound to this unit, which does not run.
    Bound(String),
    /// It itself, an etcd: this condition or assertion of it is not met.
    Unmet(String),
    /// It itself, an etcd: with this setting, which is in that file, systemd would end it in time.
    Deadly(String, String),
    /// It would be given this folder, where an etcd has that one.
    Takes(String, String),
    /// A unit that systemd stops for it.
    Conflict {
        /// What was to be done: `start` or `restart`.
        verb: String,
        /// The unit that has the conflict: it, or one that it starts.
        by: String,
        /// What that conflicts with.
        with: String,
        /// What would have been stopped: that, or what goes down with it.
        stopped: String,
    },
}

impl LeftAlone {
    /// The same of `unit`, in words.
    fn of(&self, unit: &str) -> String {
        match self {
            Self::WithEtcd(etcd) => {
                format!("{unit} not restarted: systemd would stop {etcd} with it")
            }
            Self::Bound(other) => format!(
                "{unit} would be bound to {other} (BindsTo=), which does not run, and systemd \
                 would stop it as soon as it reads that: nothing is loaded: have {other} started \
                 first, without that line, or leave it out"
            ),
            Self::Unmet(condition) => format!(
                "{unit} left as it is: {condition} is not met, and systemd would not start it \
                 again: take that out, or see to it on the node"
            ),
            Self::Deadly(setting, file) => format!(
                "{unit} left as it is: {file} sets {setting}, after which systemd ends an etcd that \
                 runs well: nothing is loaded: take that out"
            ),
            Self::Takes(folder, own) => format!(
                "{unit} left as it is: systemd would give it {folder} with all that is there, which \
                 is where etcd has {own}: name another folder"
            ),
            Self::Conflict { verb, by, with, stopped } => {
                let who = if by == unit { "it" } else { &format!("it starts {by}, which") };
                let what = match with == stopped {
                    true => format!("{stopped}, which is to run and which systemd would stop"),
                    false => format!("{with}, with which systemd would stop {stopped}"),
                };
                format!(
                    "{unit} not {verb}ed: {who} conflicts with {what}: take that out of Conflicts="
                )
            }
        }
    }
}

impl Changes {
    fn line(&mut self, parts: &[&str]) {
        self.lines.extend_from_slice(parts.join("\t").as_bytes());
        self.lines.push(b'\n');
    }

    /// Writes a unit file.
    pub fn write(&mut self, unit: &str, content: &str) {
        let sum = disk::sha256(content.as_bytes());
        self.line(&["write", unit, &content.len().to_string(), &sum]);
        self.lines.extend_from_slice(content.as_bytes());
    }

    /// One of `remove`, `clean`, `enable`, `disable`, `reenable`; all but `clean` need a
    /// [reload](Self::reload) after them.
    pub fn unit(&mut self, verb: &str, unit: &str) {
        self.line(&[verb, unit]);
    }

    /// Has systemd read its unit files again.
    pub fn reload(&mut self) {
        self.line(&["reload"]);
    }

    /// One of `start`, `restart`, `stop`; waits for its end, `seconds` at most. A start or a
    /// restart for which systemd would stop an etcd is left alone, as is one that conflicts with
    /// a unit to [keep](Self::keep), and that of an etcd of which a condition is not met. What a restart stops besides is started again, and so is an
    /// etcd that goes down all the same.
    pub fn job(&mut self, verb: &str, unit: &str, seconds: u32) {
        self.seconds += u64::from(seconds);
        self.line(&[verb, unit, &seconds.to_string()]);
    }

    /// The same, and an etcd may go down with it; after a restart it comes up again.
    pub fn job_with_etcd(&mut self, verb: &str, unit: &str, seconds: u32) {
        self.seconds += u64::from(seconds);
        self.line(&[verb, unit, &seconds.to_string(), "with-etcd"]);
    }

    /// Ends where the running etcd of `unit` would be bound to one of `others` that does not run:
    /// systemd would stop it as soon as it reads that.
    pub fn bound(&mut self, unit: &str, others: &[&str]) {
        self.line(&["bound", unit, &others.join(" ")]);
    }

    /// Ends where `unit` runs an etcd, and a condition or an assertion in `text` is not met: with
    /// that text systemd would not start it again.
    pub fn conditions(&mut self, unit: &str, text: &str) {
        self.line(&["conditions", unit, &text.len().to_string()]);
        self.lines.extend_from_slice(text.as_bytes());
    }

    /// Of a unit that is to run: none of the jobs after this stops it for good.
    pub fn keep(&mut self, unit: &str) {
        self.line(&["keep", unit]);
    }

    /// These changes, and after them `more`.
    pub fn then(mut self, more: Self) -> Self {
        self.lines.extend(more.lines);
        self.seconds += more.seconds;
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Does the changes on `host`; gives how each job ended.
    pub async fn apply(mut self, host: &Host) -> Result<Vec<JobResult>, Error> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        self.line(&["end"]);
        let input = [Input::Bytes(self.lines)];
        let silence = BESIDE_JOBS + Duration::from_secs(self.seconds);
        read(host.change(SCRIPT, &[], &input, silence).await?)
    }

    /// Which of the jobs, and of nothing else, `host` would leave alone.
    pub async fn foresee(mut self, host: &Host) -> Result<Vec<JobResult>, Error> {
        self.line(&["end"]);
        let input = [Input::Bytes([b"check\n", &self.lines[..]].concat())];
        read(host.run(SCRIPT, &[], &input).await?)
    }
}

/// How each job ended, as the script says.
fn read(lines: Vec<String>) -> Result<Vec<JobResult>, Error> {
    let mut results: Vec<JobResult> = Vec::new();
    for line in lines {
        let parts: Vec<_> = line.split('\t').collect();
        match (&parts[..], results.last_mut()) {
            (["ended", unit, code, active, sub, restarts, status], _) => results.push(JobResult {
                unit: (*unit).into(),
                code: code.parse().unwrap_or(GONE),
                active: (*active).into(),
                sub: (*sub).into(),
                restarts: (*restarts).into(),
                status: (*status).into(),
                ..JobResult::default()
            }),
            (["along", unit, etcd], _) => {
                results.push(JobResult::left_alone(unit, LeftAlone::WithEtcd((*etcd).into())));
            }
            (["unbound", unit, other], _) => {
                results.push(JobResult::left_alone(unit, LeftAlone::Bound((*other).into())));
            }
            (["unmet", unit, condition], _) => {
                results.push(JobResult::left_alone(unit, LeftAlone::Unmet((*condition).into())));
            }
            (["deadly", unit, setting, file], _) => {
                let why = LeftAlone::Deadly((*setting).into(), (*file).into());
                results.push(JobResult::left_alone(unit, why));
            }
            (["takes", unit, folder, own], _) => {
                let why = LeftAlone::Takes((*folder).into(), (*own).into());
                results.push(JobResult::left_alone(unit, why));
            }
            (["conflict", verb, unit, by, with, stopped], _) => {
                let [verb, by, with, stopped] = [verb, by, with, stopped].map(|s| s.to_string());
                let why = LeftAlone::Conflict { verb, by, with, stopped };
                results.push(JobResult::left_alone(unit, why));
            }
            (["down", unit, active], _) => results.push(JobResult {
                unit: (*unit).into(),
                code: DOWN,
                active: (*active).into(),
                ..JobResult::default()
            }),
            (["said", ..], Some(last)) => last.said = Some(line["said\t".len()..].to_owned()),
            (["control", ..], Some(last)) => {
                last.control = Some(line["control\t".len()..].to_owned());
            }
            (["last", ..], Some(last)) => last.last = Some(line["last\t".len()..].to_owned()),
            (["journal", ..], Some(last)) => {
                last.journal.push(line["journal\t".len()..].to_owned());
            }
            _ => return Err(Error::CommandFailed(format!("not understood: {line:?}"))),
        }
    }
    results.iter_mut().for_each(JobResult::extract_reason);
    Ok(results)
}

impl JobResult {
    fn left_alone(unit: &str, why: LeftAlone) -> Self {
        let left_alone = Some(why);
        Self { unit: unit.into(), code: LEFT_ALONE, left_alone, ..Self::default() }
    }

    /// Of a start of `unit` that was left alone, as `by`, which is it or is started by it,
    /// conflicts with `other`.
    pub fn of_conflict(unit: &str, by: &str, other: &str) -> Self {
        let (verb, [by, with, stopped]) = ("start".into(), [by, other, other].map(str::to_owned));
        Self::left_alone(unit, LeftAlone::Conflict { verb, by, with, stopped })
    }

    /// Whether it was left alone as systemd would have stopped an etcd with it.
    pub fn takes_etcd_along(&self) -> bool {
        matches!(self.left_alone, Some(LeftAlone::WithEtcd(_)))
    }

    /// Whether this is no job, but an etcd that went down with one, or while systemd read its
    /// units, and nobody had foreseen it.
    pub fn is_etcd_down(&self) -> bool {
        self.code == DOWN
    }

    /// What is said of that.
    fn etcd_down(&self) -> Option<String> {
        let Self { unit, active, .. } = self;
        let now = if active == "active" { "is up again" } else { &format!("is {active}") };
        let message = format!(
            "{unit} went down with what was done, and {now}: see journalctl -u {unit} on the node"
        );
        self.is_etcd_down().then_some(message)
    }

    /// Takes the reason from the journal, and leaves the lines for people in it. What
    /// systemd refused goes first, then what ended etcd, then what systemd says of the unit,
    /// then that it and another member refuse each other, then what etcd complained of last,
    /// then the last line of a process that does not log as etcd does.
    fn extract_reason(&mut self) {
        let log: Vec<Value> =
            self.journal.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let systemd = |begins: &[&str]| {
            self.journal.iter().find_map(|line| of_systemd(&self.unit, line, begins))
        };
        let votes = |line: &Value| {
            line["msg"].as_str().is_some_and(|what| what.contains("starting a new election"))
        };
        let no_quorum = || {
            let waits = self.code == TIME_OVER && log.iter().any(votes);
            waits.then(|| NO_QUORUM.to_owned())
        };
        let rejects = || {
            let is_by_peer = |line: &&Value| {
                let (what, why) = (line["msg"].as_str()?, line["error"].as_str()?);
                let no = ["authentication failed", "bad certificate", "certificate authority"];
                let is_no = no.iter().any(|no| why.contains(no));
                Some(what == "rejected connection on peer endpoint" && is_no)
            };
            let mut lines = log.iter().rev().filter(|line| is_by_peer(line) == Some(true));
            lines.next().and_then(message).filter(|_| self.code == TIME_OVER)
        };
        let stop_hangs = || {
            let stops = self.code == TIME_OVER && self.active == "deactivating";
            let what = "it has not stopped yet, for which systemd waits as long as TimeoutStopSec= \
                        of the unit says: see systemctl status";
            stops.then(|| format!("{what} {} on the node", self.unit))
        };
        self.reason = self
            .refused()
            .or_else(|| why_ended(&self.journal))
            .or_else(stop_hangs)
            .or_else(|| self.control.clone())
            .or_else(|| systemd(&["Failed to ", "Failed at step ", "Unable to locate executable "]))
            .or_else(|| self.journal.iter().rfind(|line| is_skipped(line)).cloned())
            .or_else(rejects)
            .or_else(no_quorum)
            .or_else(|| log.iter().rev().filter(|line| is_complaint(line)).find_map(message))
            .or_else(|| self.last.clone().filter(|line| !line.starts_with('{')))
            .or_else(|| systemd(&[EXITED]).filter(|_| self.code != GONE))
            .map(|why| format!("{why}{}", advice(&why)));
        if self.code == GONE
            && let Some(exited) = systemd(&[EXITED])
        {
            self.status = exited[EXITED.len()..].to_owned();
        }
        self.journal.drain(..self.journal.len().saturating_sub(JOURNAL_LINES));
    }

    /// Why systemd did not even try, and what to do.
    fn refused(&self) -> Option<String> {
        let said = self.said.as_ref()?;
        let thaw = || format!(": run systemctl thaw {} on the node", self.unit);
        Some(match said.contains("frozen unit") {
            true => said.trim_end_matches('.').to_owned() + &thaw(),
            false => said.clone(),
        })
    }

    /// Why the unit did not stop, on one line; nothing when it did.
    pub fn not_stopped(&self) -> Option<String> {
        if let Some(why) = &self.left_alone {
            return Some(why.of(&self.unit));
        }
        if self.is_etcd_down() {
            return self.etcd_down();
        }
        let Self { unit, active, .. } = self;
        let again = "systemd has started it again, for a unit in its UpheldBy= or TriggeredBy=: \
                     stop that one first, or have this one uninstalled";
        let again = (self.code == GONE).then(|| again.to_owned());
        let why = self.refused().or(again).map(|why| format!(": {why}")).unwrap_or_default();
        (self.code != 0).then(|| format!("{unit} did not stop: it is {active}{why}"))
    }

    /// Why the unit did not start, on one line; nothing when it did.
    pub fn not_started(&self, seconds: u32) -> Option<String> {
        let Self { unit, active, sub, .. } = self;
        if let Some(why) = &self.left_alone {
            return Some(why.of(unit));
        }
        if self.is_etcd_down() {
            return self.etcd_down();
        }
        let what = match self.code {
            0 => return None,
            TIME_OVER => format!("{unit} is not ready after {seconds} s"),
            GONE if self.reason.as_deref().is_some_and(is_skipped) => {
                format!("{unit} was not started")
            }
            GONE => format!("{unit} was started and ended at once ({})", self.end()),
            _ => format!("{unit} did not start"),
        };
        let why = self.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        if active == "active" && self.said.as_deref().is_some_and(is_unloadable) {
            return Some(format!(
                "{unit} was not restarted, and runs as before, but would not start again{why}"
            ));
        }
        Some(format!("{what}: it is {active} ({sub}){why}"))
    }

    /// How the process ended, in systemd's own terms.
    fn end(&self) -> String {
        let restarts = match self.restarts.as_str() {
            "" => String::new(),
            count => format!(", NRestarts={count}"),
        };
        match self.status.as_str() {
            "0" => format!("status=0{restarts}: one that does a job and ends has Type=oneshot"),
            status if status.contains('=') => format!("{status}{restarts}"),
            status => format!("status={status}{restarts}"),
        }
    }
}

/// What ended etcd, by the lines of its log.
pub fn why_ended(journal: &[String]) -> Option<String> {
    let is_last = |line: &Value| {
        line["level"].as_str().is_some_and(|level| ["fatal", "panic"].contains(&level))
    };
    let log = journal.iter().rev().filter_map(|line| serde_json::from_str(line).ok());
    let crashed = || journal.iter().find(|line| is_crash(line)).cloned();
    log.filter(is_last).find_map(|line| message(&line)).or_else(crashed)
}

/// Whether etcd complains with `line` of something that goes wrong with itself. That
/// somebody connected, and said nothing or went away, is no such thing: these tools do so.
fn is_complaint(line: &Value) -> bool {
    let (Some(why), what) = (line["error"].as_str(), line["msg"].as_str()) else { return false };
    if line["level"].as_str().is_some_and(|level| ["debug", "info"].contains(&level)) {
        return false;
    }
    let of_client = ["EOF", "connection reset by peer"].iter().any(|end| why.ends_with(end));
    let looked_in = what.is_some_and(|what| {
        what.starts_with("rejected connection") && (of_client || what.contains("client endpoint"))
    });
    // It says so of itself when it is told to end.
    !looked_in && !why.ends_with("use of closed network connection")
}

/// What a line of etcd's log is about.
fn message(line: &Value) -> Option<String> {
    let what = line["msg"].as_str()?;
    let text = match line["error"].as_str() {
        Some(why) => format!("{what}: {why}"),
        None => what.to_owned(),
    };
    Some(text)
}

/// What to do where etcd ended with the words `why`.
fn advice(why: &str) -> &'static str {
    if why.ends_with("has already been bootstrapped") {
        ": its data was lost: remove the member from the cluster, and add it again"
    } else if is_damaged(why) {
        ": its data is older than it should be, or damaged: where the others serve, rename the \
         folder member in its data folder to member.old, and the folder wal in its walDir, if it \
         has one, to wal.old, then run scripts/replace-member"
    } else {
        ""
    }
}

/// Whether etcd ended with the words `why` for what it read from its write-ahead log: that ends
/// before what the member has acknowledged, as of an older copy of the disk, or is damaged.
pub fn is_damaged(why: &str) -> bool {
    ["tocommit(", "walpb: ", "wal: crc", "snap: crc"].iter().any(|words| why.contains(words))
}

/// Whether Go's runtime says with `line` why it ends the process.
fn is_crash(line: &str) -> bool {
    line.starts_with("panic: ") || line.starts_with("fatal error: ")
}

/// Whether systemd says with `line` that it has left a unit alone, as a condition in it is not
/// met; in the words of 249 and later, and of those before.
fn is_skipped(line: &str) -> bool {
    line.contains("unmet condition check") || line.starts_with("Condition check resulted in ")
}

/// Whether `systemctl` says with `line` that systemd cannot load a unit as it is written; in the
/// words of 237 and later, and of those before.
fn is_unloadable(line: &str) -> bool {
    line.contains("bad unit file setting") || line.contains("not loaded properly")
}

/// What systemd says of `unit`, if `line` says it and begins with one of `begins`.
fn of_systemd(unit: &str, line: &str, begins: &[&str]) -> Option<String> {
    let what = line.strip_prefix(unit)?.strip_prefix(": ")?;
    begins.iter().any(|begin| what.starts_with(begin)).then(|| what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_started(code: i32, journal: &[&str]) -> String {
        let mut ended = JobResult {
            unit: "etcd.service".into(),
            code,
            active: "activating".into(),
            sub: "start".into(),
            restarts: "3".into(),
            status: "1".into(),
            journal: journal.iter().map(|line| line.to_string()).collect(),
            ..JobResult::default()
        };
        ended.extract_reason();
        ended.not_started(5).unwrap_or_default()
    }

    #[test]
    fn the_reason_is_what_etcd_says_last() {
        let lost = r#"{"level":"fatal","msg":"discovery failed","error":"member 1a has already been bootstrapped"}"#;
        let votes = r#"{"level":"info","msg":"1a is starting a new election at term 1"}"#;
        let probe = r#"{"level":"warn","msg":"prober","error":"dial tcp"}"#;
        let client = r#"{"level":"warn","msg":"rejected connection on client endpoint","error":"read tcp: connection reset by peer"}"#;
        let closed = r#"{"level":"error","msg":"setting up serving failed","error":"accept tcp: use of closed network connection"}"#;
        let panic = r#"{"level":"panic","msg":"tocommit(9) is out of range"}"#;
        let exec = "etcd.service: Failed to execute /usr/local/bin/etcd: Permission denied";
        let failed = "etcd.service: Failed with result 'exit-code'.";
        let rejected = r#"{"level":"warn","msg":"rejected connection on peer endpoint","error":"client certificate authentication failed"}"#;
        let cases: [(i32, &[&str], &str); 11] = [
            (
                TIME_OVER,
                &[rejected, votes],
                "etcd.service is not ready after 5 s: it is activating (start): rejected \
                 connection on peer endpoint: client certificate authentication failed",
            ),
            (
                1,
                &[panic, probe, failed],
                "etcd.service did not start: it is activating (start): tocommit(9) is out of \
                 range: its data is older than it should be, or damaged: where the others \
                 serve, rename the folder member in its data folder to member.old, and the \
                 folder wal in its walDir, if it has one, to wal.old, then run \
                 scripts/replace-member",
            ),
            (
                1,
                &[exec, failed],
                "etcd.service did not start: it is activating (start): Failed to execute \
                 /usr/local/bin/etcd: Permission denied",
            ),
            (
                -1,
                &[probe, "fatal error: out of memory"],
                "etcd.service was started and ended at once (status=1, NRestarts=3): \
                 it is activating (start): fatal error: out of memory",
            ),
            (0, &[lost], ""),
            (1, &[], "etcd.service did not start: it is activating (start)"),
            (
                1,
                &["no JSON", "Failed to start"],
                "etcd.service did not start: it is activating (start)",
            ),
            (
                1,
                &[probe, lost, "Failed to start"],
                "etcd.service did not start: it is activating (start): discovery failed: \
                 member 1a has already been bootstrapped: its data was lost: remove the member \
                 from the cluster, and add it again",
            ),
            (
                124,
                &[votes, probe],
                "etcd.service is not ready after 5 s: it is activating (start): \
                 no quorum: most of the members must run, and reach each other",
            ),
            (
                124,
                &[probe],
                "etcd.service is not ready after 5 s: it is activating (start): prober: dial tcp",
            ),
            (
                124,
                &[probe, client, closed],
                "etcd.service is not ready after 5 s: it is activating (start): prober: dial tcp",
            ),
        ];
        for (code, journal, expected) in cases {
            assert_eq!(not_started(code, journal), expected, "{code} {journal:?}");
        }
    }
}
