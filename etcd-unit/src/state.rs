//! What a node has of a unit, as `state.sh` tells it, and whether the running
//! process is older than what is on the disk.

use std::collections::BTreeMap;

use pipeline::document::UnitStatus;
use remote::Error;

/// Says what a node has of the units that its stdin names, one a line.
pub(crate) const SCRIPT: &str = include_str!("state.sh");

/// The clock readings are this exact, in seconds: /proc/uptime has hundredths.
const CLOCK: f64 = 0.02;

/// What a node has of one unit.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The hash and the mode of the unit file, and its lines.
    pub file: Option<(String, String)>,
    text: Vec<String>,
    /// A killed run left a temporary file.
    pub left: bool,
    show: BTreeMap<String, String>,
    other_binary: bool,
    running: BTreeMap<String, String>,
    environment: bool,
    configured: Vec<String>,
    /// What was changed, and when, in seconds since the epoch.
    changed: Vec<(String, f64)>,
    now: f64,
    uptime: f64,
}

impl State {
    /// The states of all units of a node, in the order in which they were asked for.
    pub(crate) fn read(lines: &[String]) -> Result<Vec<Self>, Error> {
        let mut states: Vec<Self> = Vec::new();
        let mut clock = (0.0, 0.0);
        for line in lines {
            let understood = match (line.split_once('\t').unwrap_or((line, "")), states.last_mut())
            {
                (("clock", times), _) => read_clock(times).map(|read| clock = read),
                (("unit", _), _) => {
                    let (now, uptime) = clock;
                    states.push(Self { now, uptime, ..Self::default() });
                    Some(())
                }
                ((key, value), Some(state)) => state.line(key, value),
                _ => None,
            };
            understood.ok_or_else(|| Error::CommandFailed(format!("not understood: {line:?}")))?;
        }
        Ok(states)
    }

    fn line(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "left" => self.left = true,
            "file" => {
                let (sum, mode) = value.split_once('\t')?;
                self.file = Some((sum.into(), mode.into()));
            }
            "text" => self.text.push(value.into()),
            "show" => {
                let (key, value) = value.split_once('\t')?;
                self.show.insert(key.into(), value.into());
            }
            "other-binary" => self.other_binary = true,
            "running" => {
                let (name, value) = value.split_once('=')?;
                self.running.insert(name.into(), value.into());
            }
            "environment" => self.environment = true,
            "configured" => self.configured.push(value.into()),
            "changed" => {
                let (what, when) = value.split_once('\t')?;
                self.changed.push((what.into(), when.parse().ok()?));
            }
            _ => return None,
        }
        Some(())
    }

    fn show(&self, key: &str) -> &str {
        self.show.get(key).map_or("", String::as_str)
    }

    /// systemd's `ActiveState`.
    pub(crate) fn active(&self) -> &str {
        self.show("ActiveState")
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active() == "active"
    }

    /// Whether the unit starts at boot.
    pub(crate) fn is_enabled(&self) -> bool {
        self.show("UnitFileState") == "enabled"
    }

    /// Whether systemd has not read the unit file since it was changed.
    pub(crate) fn needs_reload(&self) -> bool {
        self.show("NeedDaemonReload") == "yes"
    }

    /// The text of the unit file; empty without one.
    pub(crate) fn text(&self) -> String {
        self.text.iter().map(|line| format!("{line}\n")).collect()
    }

    /// What the document holds of it.
    pub(crate) fn status(&self) -> UnitStatus {
        UnitStatus {
            active: self.active().into(),
            sub: self.show("SubState").into(),
            enabled: self.show("UnitFileState").into(),
            main_pid: self.show("MainPID").parse().ok().filter(|pid| *pid != 0),
            outdated: self.outdated(),
        }
    }

    /// Why the running process is older than what is on the disk; empty when it is not,
    /// or nothing runs. Decided from what the process was started with, so
    /// that a run that was killed between a change and its restart is made good.
    pub(crate) fn outdated(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.other_binary {
            reasons.push("binary".to_owned());
        }
        if self.environment && self.configuration_differs() {
            reasons.push("configuration".to_owned());
        }
        for (what, when) in &self.changed {
            // A time in the future says that the clock was set back: it proves nothing.
            let future = *when > self.now;
            if self.started().is_some_and(|started| *when > started + CLOCK) && !future {
                reasons.push(what.clone());
            }
        }
        reasons
    }

    /// When the main process was started, in seconds since the epoch by the present clock.
    fn started(&self) -> Option<f64> {
        let monotonic: f64 = self.show("ExecMainStartTimestampMonotonic").parse().ok()?;
        Some(self.now - (self.uptime - monotonic / 1e6))
    }

    fn configuration_differs(&self) -> bool {
        let configured = environment(&self.configured);
        let changed = configured.iter().any(|(name, value)| self.running.get(name) != Some(value));
        // What the unit itself sets stands in no file.
        let of_unit = |name: &str| self.text.iter().any(|line| line.contains(name));
        let dropped =
            self.running.keys().any(|name| !configured.contains_key(name) && !of_unit(name));
        changed || dropped
    }
}

fn read_clock(times: &str) -> Option<(f64, f64)> {
    let (now, uptime) = times.split_once('\t')?;
    Some((now.parse().ok()?, uptime.parse().ok()?))
}

/// The `ETCD_*` variables that systemd reads from the lines of an environment
/// file: comments, single and double quotes, and backslashes as in
/// systemd.exec(5); a value goes on after a backslash at the end of a line.
fn environment(lines: &[String]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut lines = lines.iter();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        let mut value = value.to_owned();
        while value.ends_with('\\') && !value.ends_with("\\\\") {
            value.pop();
            value += lines.next().map_or("", String::as_str);
        }
        if name.trim().starts_with("ETCD_") {
            found.insert(name.trim().to_owned(), unquote(value.trim()));
        }
    }
    found
}

fn unquote(value: &str) -> String {
    let mut plain = String::new();
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => plain.push(c),
            (Some(_), '\\') => match chars.next() {
                Some(c @ ('"' | '\\' | '`' | '$')) => plain.push(c),
                Some(c) => plain.extend(['\\', c]),
                None => plain.push('\\'),
            },
            (None, '\\') => plain.extend(chars.next()),
            (_, c) => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    fn state(extra: &str) -> State {
        let base = "clock\t1000.5\t500.0\nunit\tetcd.service\nshow\tActiveState\tactive\n\
                    show\tExecMainStartTimestampMonotonic\t400000000\ntext\tEnvironment=ETCD_Z=1\n\
                    environment\nconfigured\tETCD_NAME=a\nrunning\tETCD_NAME=a\n\
                    running\tETCD_Z=1\nchanged\tunit\t900.4\n";
        State::read(&lines(&format!("{base}{extra}"))).unwrap().remove(0)
    }

    #[test]
    fn a_process_is_outdated_by_what_it_was_started_with() {
        let cases: [(&str, &[&str]); 8] = [
            ("", &[]),
            ("other-binary", &["binary"]),
            ("configured\tETCD_QUOTA=1", &["configuration"]),
            ("configured\tETCD_NAME=b", &["configuration"]),
            ("running\tETCD_GONE=1", &["configuration"]),
            ("changed\tunit\t900.6", &["unit"]),
            ("changed\tCA certificate\t950.0", &["CA certificate"]),
            ("changed\tunit\t2000.0", &[]),
        ];
        for (extra, reasons) in cases {
            assert_eq!(state(extra).outdated(), reasons, "{extra}");
        }
    }

    #[test]
    fn environment_files_are_read_as_systemd_reads_them() {
        let text = "# ETCD_A=0\nETCD_A=1\n ETCD_B = \"x y\" \nETCD_C='a\\b'\nETCD_D=\"a\\\"b\\\\\"\n\
                    PATH=/bin\nETCD_E=one\\\ntwo\nETCD_F=a#b\n;ETCD_G=1\nETCD_H=\"a\\nb\"";
        let found = environment(&lines(text));
        let expected = [
            ("ETCD_A", "1"),
            ("ETCD_B", "x y"),
            ("ETCD_C", "a\\b"),
            ("ETCD_D", "a\"b\\"),
            ("ETCD_E", "onetwo"),
            ("ETCD_F", "a#b"),
            ("ETCD_H", "a\\nb"),
        ];
        let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected);
    }
}
