//! What is done to the units of a node, and how it ended.

use std::time::Duration;

use pipeline::disk;
use remote::{Error, Host, Input};
use serde_json::Value;

/// Does what the plan on its stdin says.
const SCRIPT: &str = concat!(include_str!("common.sh"), include_str!("change.sh"));

/// What `timeout` exits with when the time is over.
const TIME_OVER: i32 = 124;
/// How many lines of a journal are for people.
const JOURNAL_LINES: usize = 10;
/// Why a member that is alone is not ready.
const NO_QUORUM: &str = "it finds no quorum: most of the members must run, and reach each other";

/// A list of changes to one node, in order.
#[derive(Default)]
pub struct Changes(Vec<u8>);

/// How a start, a restart or a stop ended.
#[derive(Debug, Default)]
pub struct JobResult {
    /// The unit.
    pub unit: String,
    /// Of `systemctl`; 124 when the time was over.
    pub code: i32,
    /// systemd's `ActiveState` after it.
    pub active: String,
    /// systemd's `SubState` after it.
    pub sub: String,
    /// The last lines of the unit's journal, when it failed.
    pub journal: Vec<String>,
    /// Why it failed, as far as its journal tells.
    reason: Option<String>,
}

impl Changes {
    fn line(&mut self, parts: &[&str]) {
        self.0.extend_from_slice(parts.join("\t").as_bytes());
        self.0.push(b'\n');
    }

    /// Writes a unit file.
    pub fn write(&mut self, unit: &str, content: &str) {
        let sum = disk::sha256(content.as_bytes());
        self.line(&["write", unit, &content.len().to_string(), &sum]);
        self.0.extend_from_slice(content.as_bytes());
    }

    /// One of `remove`, `clean`, `enable`, `disable`; all but `clean` need a
    /// [reload](Self::reload) after them.
    pub fn unit(&mut self, verb: &str, unit: &str) {
        self.line(&[verb, unit]);
    }

    /// Has systemd read its unit files again.
    pub fn reload(&mut self) {
        self.line(&["reload"]);
    }

    /// One of `start`, `restart`, `stop`; waits for its end, `seconds` at most.
    pub fn job(&mut self, verb: &str, unit: &str, seconds: u32) {
        self.line(&[verb, unit, &seconds.to_string()]);
    }

    /// These changes, and after them `more`.
    pub fn then(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Does the changes on `host`; gives how each job ended.
    pub async fn apply(mut self, host: &Host) -> Result<Vec<JobResult>, Error> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        self.line(&["end"]);
        let mut results: Vec<JobResult> = Vec::new();
        let input = [Input::Bytes(self.0)];
        for line in host.change(SCRIPT, &[], &input, Duration::from_secs(3600)).await? {
            let parts: Vec<_> = line.split('\t').collect();
            match (&parts[..], results.last_mut()) {
                (["ended", unit, code, active, sub], _) => results.push(JobResult {
                    unit: (*unit).into(),
                    code: code.parse().unwrap_or(-1),
                    active: (*active).into(),
                    sub: (*sub).into(),
                    ..JobResult::default()
                }),
                (["journal", ..], Some(last)) => {
                    last.journal.push(line["journal\t".len()..].to_owned());
                }
                _ => return Err(Error::CommandFailed(format!("not understood: {line:?}"))),
            }
        }
        results.iter_mut().for_each(JobResult::extract_reason);
        Ok(results)
    }
}

impl JobResult {
    /// Takes the reason from the journal, and leaves the lines for people in it.
    fn extract_reason(&mut self) {
        let log: Vec<Value> =
            self.journal.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let votes = |line: &Value| {
            line["msg"].as_str().is_some_and(|what| what.contains("starting a new election"))
        };
        self.reason = match self.code {
            TIME_OVER if log.iter().any(votes) => Some(NO_QUORUM.into()),
            _ => log.iter().rev().find_map(reason),
        };
        self.journal.drain(..self.journal.len().saturating_sub(JOURNAL_LINES));
    }

    /// Why the unit did not start, on one line; nothing when it did.
    pub fn not_started(&self, seconds: u32) -> Option<String> {
        let Self { unit, active, sub, .. } = self;
        let what = match self.code {
            0 => return None,
            TIME_OVER => format!("{unit} is not ready after {seconds} s"),
            _ => format!("{unit} did not start"),
        };
        let why = self.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        Some(format!("{what}: it is {active} ({sub}){why}"))
    }
}

/// What failed, if that is what a line of etcd's log is about.
fn reason(line: &Value) -> Option<String> {
    let (what, why) = (line["msg"].as_str()?, line["error"].as_str()?);
    let advice = match why.ends_with("has already been bootstrapped") {
        true => ": its data was lost: remove the member from the cluster, and add it anew",
        false => "",
    };
    Some(format!("{what}: {why}{advice}"))
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
            journal: journal.iter().map(|line| line.to_string()).collect(),
            reason: None,
        };
        ended.extract_reason();
        ended.not_started(5).unwrap_or_default()
    }

    #[test]
    fn the_reason_is_what_etcd_says_last() {
        let lost = r#"{"level":"fatal","msg":"discovery failed","error":"member 1a has already been bootstrapped"}"#;
        let votes = r#"{"level":"info","msg":"1a is starting a new election at term 1"}"#;
        let probe = r#"{"level":"warn","msg":"prober","error":"dial tcp"}"#;
        let cases: [(i32, &[&str], &str); 6] = [
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
                 from the cluster, and add it anew",
            ),
            (
                124,
                &[votes, probe],
                "etcd.service is not ready after 5 s: it is activating (start): \
                 it finds no quorum: most of the members must run, and reach each other",
            ),
            (
                124,
                &[probe],
                "etcd.service is not ready after 5 s: it is activating (start): prober: dial tcp",
            ),
        ];
        for (code, journal, expected) in cases {
            assert_eq!(not_started(code, journal), expected, "{code} {journal:?}");
        }
    }
}
