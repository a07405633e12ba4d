//! What is done to the units of a node, and how it ended.

use pipeline::disk;
use remote::{Error, Host, Input};

/// Does what the plan on its stdin says.
const SCRIPT: &str = include_str!("change.sh");

/// A list of changes to one node, in order.
#[derive(Default)]
pub(crate) struct Changes(Vec<u8>);

/// How a start, a restart or a stop ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub unit: String,
    /// Of `systemctl`; 124 when the time was over.
    pub code: i32,
    pub active: String,
    pub sub: String,
    /// The last lines of the unit's journal, when it failed.
    pub journal: Vec<String>,
}

impl Changes {
    fn line(&mut self, parts: &[&str]) {
        self.0.extend_from_slice(parts.join("\t").as_bytes());
        self.0.push(b'\n');
    }

    /// Writes a unit file.
    pub(crate) fn write(&mut self, unit: &str, content: &str) {
        let sum = disk::sha256(content.as_bytes());
        self.line(&["write", unit, &content.len().to_string(), &sum]);
        self.0.extend_from_slice(content.as_bytes());
    }

    /// One of `remove`, `clean`, `enable`, `disable`.
    pub(crate) fn unit(&mut self, verb: &str, unit: &str) {
        self.line(&[verb, unit]);
    }

    /// Has systemd read its unit files again.
    pub(crate) fn reload(&mut self) {
        self.line(&["reload"]);
    }

    /// One of `start`, `restart`, `stop`; waits for its end, `seconds` at most.
    pub(crate) fn job(&mut self, verb: &str, unit: &str, seconds: u32) {
        self.line(&[verb, unit, &seconds.to_string()]);
    }

    /// These changes, and after them `more`.
    pub(crate) fn then(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Does the changes on `host`; gives how each job ended.
    pub(crate) async fn apply(mut self, host: &Host) -> Result<Vec<Ended>, Error> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        self.line(&["end"]);
        let mut ended: Vec<Ended> = Vec::new();
        for line in host.change(SCRIPT, &[Input::Bytes(self.0)]).await? {
            let parts: Vec<_> = line.split('\t').collect();
            match (&parts[..], ended.last_mut()) {
                (["ended", unit, code, active, sub], _) => ended.push(Ended {
                    unit: (*unit).into(),
                    code: code.parse().unwrap_or(-1),
                    active: (*active).into(),
                    sub: (*sub).into(),
                    journal: Vec::new(),
                }),
                (["journal", ..], Some(last)) => {
                    last.journal.push(line["journal\t".len()..].to_owned());
                }
                _ => return Err(Error::CommandFailed(format!("not understood: {line:?}"))),
            }
        }
        Ok(ended)
    }
}

impl Ended {
    /// Why the unit did not start, on one line; nothing when it did.
    pub(crate) fn not_started(&self, seconds: u32) -> Option<String> {
        let Self { unit, active, sub, .. } = self;
        match self.code {
            0 => None,
            124 => Some(format!("{unit} is not ready after {seconds} s: it is {active} ({sub})")),
            _ => Some(format!("{unit} did not start: it is {active} ({sub})")),
        }
    }
}
