//! The systemd units of a node: what runs, whether the running process is older
//! than what is on the disk, and starting and stopping named units.

mod change;

use std::collections::{BTreeMap, BTreeSet};

use etcd::layout::{RELEASES, UNIT_DIR};
use pipeline::document::{File, Node, Unit, UnitStatus};
use pipeline::{Code, ToolResult};
use remote::{Error, Host, Query};

pub use change::{Changes, JobResult, is_damaged, why_ended};
pub use etcd::layout::UNIT as ETCD;

/// Says what a node has of the units that its stdin names, one a line; an empty
/// line ends the list.
const SCRIPT: &str = concat!(include_str!("units/common.sh"), include_str!("units/state.sh"));

/// Says whether an etcd runs on the node.
const FIND_ETCDS: &str =
    concat!(include_str!("units/common.sh"), "find_etcds\n[ ! \"$etcds\" ] || echo runs-etcd\n");

/// The line with which a node says that an etcd runs there.
const RUNS_ETCD: &str = "runs-etcd";

/// Where systemd looks for units and their drop-ins, as far as anybody puts them there.
const SYSTEMD_ROOTS: [&str; 3] = [UNIT_DIR, "/run/systemd/system", "/usr/local/lib/systemd/system"];

/// The clock readings are this exact, in seconds: /proc has hundredths.
const CLOCK: f64 = 0.02;

/// A unit as it is to be.
#[derive(Debug, Clone)]
pub struct WantedUnit {
    /// Its name, e.g. `etcd.service`.
    pub name: String,
    /// Absent when the document does not hold it: it is taken as it is on the node.
    pub unit: Option<Unit>,
}

impl WantedUnit {
    /// The units of `node` in the document; with `only`, that one. Without any, the
    /// node's own `etcd.service`, or `only`, is meant.
    pub fn of(node: &Node, only: Option<&str>) -> Vec<Self> {
        let units = node.units.iter().filter(|unit| only.is_none_or(|only| unit.name == only));
        let mut wanted: Vec<_> =
            units.map(|unit| Self { name: unit.name.clone(), unit: Some(unit.clone()) }).collect();
        if wanted.is_empty() {
            wanted.push(Self { name: only.unwrap_or(ETCD).into(), unit: None });
        }
        wanted
    }

    /// Whether it is neither started nor restarted here, but by a timer or the operator.
    pub fn is_left_alone(&self, state: &UnitState) -> bool {
        self.unit.as_ref().is_some_and(|unit| unit.started == Some(false)) || state.is_timed()
    }

    /// Whether it is as it should be while nothing of it runs.
    pub fn may_be_down(&self, state: &UnitState) -> bool {
        self.is_left_alone(state) || state.is_template() || state.is_triggered() || state.has_run()
    }

    /// Whether this is the unit that runs the etcd member of the node, as far as
    /// its name and its text tell; see [`UnitState::runs_etcd`].
    pub fn runs_etcd(&self) -> bool {
        let starts_member = |line: &str| {
            let command = line.trim().strip_prefix("ExecStart=");
            let command =
                command.map(|command| command.trim_start_matches(['@', '-', ':', '+', '!']));
            command.is_some_and(|command| starts_etcd(command) == (true, true))
        };
        self.name == ETCD
            || self.unit.as_ref().is_some_and(|unit| unit.content.lines().any(starts_member))
    }
}

/// The unit that `unit` starts, if it is a timer, a socket or a path.
fn triggered(unit: &Unit) -> Option<String> {
    let (stem, kind) = unit.name.rsplit_once('.')?;
    let key = match kind {
        "timer" | "path" => "Unit",
        "socket" => "Service",
        _ => return None,
    };
    let named = values(&unit.content, key).rfind(|name| !name.is_empty());
    Some(named.map_or_else(|| format!("{stem}.service"), str::to_owned))
}

/// What the lines of a unit's text set `key` to.
pub fn values<'a>(content: &'a str, key: &str) -> impl DoubleEndedIterator<Item = &'a str> {
    content.lines().filter_map(move |line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then_some(value.trim())
    })
}

fn is_etcd(binary: &str) -> bool {
    binary.rsplit('/').next() == Some("etcd")
}

/// What etcd is beside a member, by its first argument: a client of other members.
const PROXIES: [&str; 2] = ["gateway", "grpc-proxy"];

/// Whether `command` starts an etcd, and whether that is a member.
fn starts_etcd(command: &str) -> (bool, bool) {
    let mut words = command.split_whitespace();
    let is_etcd = words.next().is_some_and(is_etcd);
    (is_etcd, is_etcd && !words.next().is_some_and(|word| PROXIES.contains(&word)))
}

/// Whether systemd starts a unit with this text only under conditions, or assertions.
pub fn has_conditions(content: &str) -> bool {
    let mut lines = content.lines().map(str::trim_start);
    lines.any(|line| ["Condition", "Assert"].iter().any(|begin| line.starts_with(begin)))
}

/// Whether a unit with this text can be enabled.
pub fn has_install_section(content: &str) -> bool {
    content.lines().any(|line| line.trim() == "[Install]")
}

/// What of a unit's text says how it is enabled.
pub fn install_section(content: &str) -> Vec<&str> {
    let mut within = false;
    let lines = without_comments(content).map(str::trim).filter(|line| !line.is_empty());
    lines
        .filter(|line| {
            if line.starts_with('[') {
                within = *line == "[Install]";
            }
            within
        })
        .collect()
}

/// The lines of a unit's text that mean something to systemd.
fn without_comments(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with(['#', ';']))
}

/// That `unit` is masked on a node, and what to do.
pub fn masked(unit: &str) -> ToolResult {
    let message = format!(
        "{unit} is masked on the node: run systemctl unmask {unit} there first, with \
         --runtime where the mask is in /run"
    );
    ToolResult::error(Code::Masked, message)
}

/// A node that answered, and its units as they are to be and as they are.
pub struct NodeState<'a> {
    /// The node in the document.
    pub node: &'a Node,
    /// The connection to it.
    pub host: &'a Host,
    /// The units in the order in which they were asked for.
    pub units: Vec<(WantedUnit, UnitState)>,
    /// Whether an etcd runs there, of one of these or not.
    pub runs_etcd: bool,
}

impl<'a> NodeState<'a> {
    /// What a node says of `wanted`, from its answer to the [`query`] for them.
    pub fn read(
        node: &'a Node,
        host: &'a Host,
        wanted: Vec<WantedUnit>,
        answer: &[String],
    ) -> Result<Self, Error> {
        let mut states = UnitState::read(answer)?;
        // systemd knows nothing yet of what is only about to be installed.
        for state in &mut states {
            let triggers =
                node.units.iter().filter(|unit| triggered(unit).as_ref() == Some(&state.name));
            state.triggers.extend(triggers.map(|unit| unit.name.clone()));
        }
        let runs_etcd = answer.iter().any(|line| line == RUNS_ETCD);
        Ok(Self { node, host, units: wanted.into_iter().zip(states).collect(), runs_etcd })
    }
}

impl NodeState<'_> {
    /// Whether the member of the node goes down with this unit, or comes up with it: it is the
    /// one that runs etcd, or systemd stops that one with it. One that would run an etcd beside
    /// that is not.
    pub fn is_member(&self, wanted: &WantedUnit, state: &UnitState) -> bool {
        if !state.takes.is_empty() || state.has_etcd || wanted.name == ETCD {
            return true;
        }
        !self.runs_etcd && (wanted.runs_etcd() || state.runs_etcd())
    }

    /// Whether an etcd runs there now.
    pub async fn still_runs_etcd(&self) -> Result<bool, Error> {
        let said = self.host.run(FIND_ETCDS, &[], &[]).await?;
        Ok(said.iter().any(|line| line == RUNS_ETCD))
    }

    /// [Keeps](Changes::keep) what is to run of the units of the node.
    pub fn keep(&self) -> Changes {
        let mut changes = Changes::default();
        for (wanted, _) in self.units.iter().filter(|(wanted, state)| !wanted.may_be_down(state)) {
            changes.keep(&wanted.name);
        }
        changes
    }
}

/// Asks a node for the states of `units`.
pub fn query(units: &[WantedUnit]) -> Query {
    let names: String = units.iter().map(|unit| format!("{}\n", unit.name)).collect();
    Query { script: SCRIPT, input: format!("{names}\n").into_bytes() }
}

/// What a node has of one unit, as `state.sh` tells it.
#[derive(Debug, Default)]
pub struct UnitState {
    /// Its name.
    pub name: String,
    /// The hash and the mode of the file in `/etc/systemd/system`.
    pub file: Option<(String, String)>,
    text: Vec<String>,
    /// Whether an interrupted run left a temporary file.
    pub stale_temp: bool,
    show: BTreeMap<String, String>,
    /// The timers, sockets and paths that start it.
    triggers: BTreeSet<String>,
    /// The hashes of its drop-ins in `/etc/systemd/system`, by their paths.
    drop_ins: BTreeMap<String, String>,
    other_binary: bool,
    /// Whether an etcd is among its processes.
    has_etcd: bool,
    /// What its process runs, where that is a script.
    script: Option<String>,
    /// What the main process runs.
    executable: Option<String>,
    /// When the main process was started, in ticks since boot.
    started_ticks: Option<f64>,
    running: BTreeMap<String, String>,
    manager: BTreeMap<String, String>,
    /// Its environment files by their paths, in the order in which systemd reads them.
    environment: Vec<(String, Vec<String>)>,
    /// The units of etcd that stop or restart with this one.
    takes: Vec<String>,
    /// The hashes of the definition, the CA files and the environment: those that the process was
    /// started with, and those of now.
    record: Option<String>,
    disk: Option<String>,
    /// What was changed, and when, in seconds since the epoch.
    changed: Vec<(String, f64)>,
    clock: Clock,
}

/// The clocks of a node at one moment.
#[derive(Debug, Default, Clone, Copy)]
struct Clock {
    /// Seconds since the epoch.
    now: f64,
    /// Seconds since boot, those of a suspended machine among them.
    uptime: f64,
    ticks_per_second: f64,
}

impl UnitState {
    /// The states of all units of a node, in the order in which they were asked for.
    pub fn read(lines: &[String]) -> Result<Vec<Self>, Error> {
        let mut states: Vec<Self> = Vec::new();
        let mut clock = Clock::default();
        for line in lines {
            let understood = match (line.split_once('\t').unwrap_or((line, "")), states.last_mut())
            {
                ((RUNS_ETCD, _), None) => Some(()),
                (("clock", times), _) => Clock::read(times).map(|read| clock = read),
                (("unit", name), _) => {
                    states.push(Self { name: name.into(), clock, ..Self::default() });
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
            "left" => self.stale_temp = true,
            "file" => {
                let (sum, mode) = value.split_once('\t')?;
                self.file = Some((sum.into(), mode.into()));
            }
            "text" => self.text.push(value.into()),
            "show" => {
                let (key, value) = value.split_once('\t')?;
                self.show.insert(key.into(), value.into());
            }
            "trigger" => drop(self.triggers.insert(value.into())),
            "drop-in" => {
                let (sum, path) = value.split_once('\t')?;
                self.drop_ins.insert(path.into(), sum.into());
            }
            "takes" => self.takes.push(value.into()),
            "process" => {
                let (ticks, executable) = value.split_once('\t')?;
                // Empty where the process ended in this moment.
                self.started_ticks = ticks.parse().ok();
                self.executable = Some(executable.into());
            }
            "other-binary" => self.other_binary = true,
            "etcd" => self.has_etcd = true,
            "script" => self.script = Some(value.into()),
            "running" | "manager" => {
                // A value of more than one line is cut off here.
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                let of = if key == "running" { &mut self.running } else { &mut self.manager };
                of.insert(name.into(), value.into());
            }
            "environment" => self.environment.push((value.into(), Vec::new())),
            "configured" => self.environment.last_mut()?.1.push(value.into()),
            "record" => self.record = Some(value.into()),
            "disk" => self.disk = Some(value.into()),
            "changed" => {
                let (what, when) = value.split_once('\t')?;
                self.changed.push((what.into(), when.parse().ok()?));
            }
            _ => return None,
        }
        Some(())
    }

    /// A property as `systemctl show` has it; empty where systemd does not know it.
    pub fn show(&self, key: &str) -> &str {
        self.show.get(key).map_or("", String::as_str)
    }

    /// What the document has of it, with `files` those of its node: its text, then its drop-ins.
    pub fn definition(&self, wanted: &WantedUnit, files: &[File]) -> String {
        let content = wanted.unit.iter().map(|unit| unit.content.clone());
        let drop_ins = files.iter().filter(|file| self.is_drop_in(&file.path));
        content.chain(drop_ins.filter_map(File::text)).collect::<Vec<_>>().join("\n")
    }

    /// The units to which `definition` binds it (`BindsTo=`), and which systemd does not have yet.
    pub fn new_bonds<'a>(&self, definition: &'a str) -> Vec<&'a str> {
        let bonds = values(definition, "BindsTo").flat_map(str::split_whitespace);
        let known: Vec<_> = self.show("BindsTo").split_whitespace().collect();
        bonds.filter(|unit| !known.contains(unit) && !unit.contains('%')).collect()
    }

    /// systemd's `ActiveState`; empty for a template.
    pub fn active(&self) -> &str {
        self.show("ActiveState")
    }

    /// Whether systemd has it running.
    pub fn is_active(&self) -> bool {
        self.active() == "active"
    }

    /// Whether nothing of it runs, nor is about to.
    pub fn is_down(&self) -> bool {
        ["inactive", "failed", ""].contains(&self.active())
    }

    /// Whether the unit starts at boot, or enabling it has no more to do: the file
    /// only enables others.
    pub fn is_enabled(&self) -> bool {
        ["enabled", "indirect", "alias"].contains(&self.show("UnitFileState"))
    }

    /// Whether the unit is masked, and so kept from starting: see [`masked`].
    pub fn is_masked(&self) -> bool {
        self.show("UnitFileState").starts_with("masked") || self.show("LoadState") == "masked"
    }

    /// systemd's `LoadState` where it cannot start the unit as it is written; none where it
    /// can, and where the document has another text for it.
    pub fn unloadable(&self, wanted: &WantedUnit) -> Option<&str> {
        let state = self.show("LoadState");
        let is_written = wanted
            .unit
            .as_ref()
            .is_none_or(|unit| self.text().trim_end() == unit.content.trim_end());
        Some(state).filter(|state| ["bad-setting", "error"].contains(state) && is_written)
    }

    /// Whether systemd finds no such unit.
    pub fn is_missing(&self) -> bool {
        self.show("LoadState") == "not-found"
    }

    /// Whether this is a template, of which only instances run.
    pub fn is_template(&self) -> bool {
        self.name.contains("@.")
    }

    /// Whether something else starts it: a timer, a socket, a path.
    pub fn is_triggered(&self) -> bool {
        !self.triggers.is_empty()
    }

    /// Whether a timer starts it.
    pub fn is_timed(&self) -> bool {
        self.triggers.iter().any(|unit| unit.ends_with(".timer"))
    }

    /// Whether it does one job, and these tools have had it done since boot, as it is
    /// defined now. One that stays active after it, or has failed since, has more to do.
    pub fn has_run(&self) -> bool {
        // What has started one that is enabled may have been the boot.
        let began = self.show("ExecMainStartTimestampMonotonic");
        let at_boot = self.record.is_none() && self.is_enabled() && !["", "0"].contains(&began);
        self.active() == "inactive"
            && self.has_succeeded()
            && (self.record.is_some() || at_boot)
            && self.record == self.disk
            && !self.needs_reload()
    }

    /// Whether it does one job and ends, and has not failed at it, whoever started it: of a
    /// run that went well systemd need not know any more.
    pub fn has_succeeded(&self) -> bool {
        self.show("Type") == "oneshot"
            && self.show("Result") == "success"
            && self.show("RemainAfterExit") != "yes"
    }

    /// Whether `files` hold drop-ins of it that are not on the node yet, or others there.
    pub fn drop_ins_differ(&self, files: &[File]) -> bool {
        files.iter().filter(|file| self.is_drop_in(&file.path)).any(|file| {
            // What cannot be read here was an error of whoever would have put it there.
            file.wanted_sha256()
                .is_ok_and(|wanted| self.drop_ins.get(&file.path) != wanted.as_ref())
        })
    }

    /// Whether the document has another text for it, comments aside.
    pub fn text_differs(&self, wanted: &WantedUnit) -> bool {
        let is_other = |text: &str| without_comments(&self.text()).ne(without_comments(text));
        wanted.unit.as_ref().is_some_and(|unit| is_other(&unit.content))
    }

    /// Whether the document has another text or other drop-ins for it; `files` are those of its
    /// node.
    pub fn differs(&self, wanted: &WantedUnit, files: &[File]) -> bool {
        self.text_differs(wanted) || self.drop_ins_differ(files)
    }

    /// Whether systemd takes `path` for a drop-in of it: `a-b@c.service` has those of
    /// `a-b@.service`, `a-.service` and `service`, too (systemd.unit(5)).
    fn is_drop_in(&self, path: &str) -> bool {
        let folder = path.strip_suffix(".conf").and_then(|path| path.rsplit_once('/'));
        let place = folder.and_then(|(folder, _)| folder.rsplit_once('/'));
        let of = place.filter(|(root, _)| SYSTEMD_ROOTS.contains(root));
        let of = of.and_then(|(_, of)| of.strip_suffix(".d"));
        let (Some(of), Some((name, kind))) = (of, self.name.rsplit_once('.')) else { return false };
        let template = name.split_once('@').map(|(name, _)| format!("{name}@"));
        let of_kind = of.strip_suffix(&format!(".{kind}"));
        of == kind
            || of_kind.is_some_and(|of| {
                of == name
                    || template.as_deref() == Some(of)
                    || (of.ends_with('-') && name.starts_with(of))
            })
    }

    /// Whether `files` hold one of its environment files that says something else than that on
    /// the node.
    pub fn environment_differs(&self, files: &[File]) -> bool {
        let set = |text: &str| -> Vec<String> {
            let lines = text.lines().map(str::trim_end);
            let says = |line: &&str| !line.is_empty() && !line.trim_start().starts_with(['#', ';']);
            lines.filter(says).map(str::to_owned).collect()
        };
        self.environment.iter().any(|(path, there)| {
            let Some(file) = files.iter().find(|file| file.path == *path) else { return false };
            file.text().is_some_and(|text| set(&text) != set(&there.join("\n")))
        })
    }

    /// What its process runs, and the word for it, by the path in its unit and by that without
    /// links. Nothing of a binary that a script of the unit has started.
    pub fn runs(&self) -> Vec<(&str, &'static str)> {
        let words = self.show("ExecStart").split_whitespace();
        let starts = words.filter_map(|word| word.strip_prefix("path=")).next();
        match (&self.script, starts, self.executable.as_deref()) {
            (Some(script), ..) => vec![(script, "script")],
            (_, Some(starts), Some(runs))
                if starts.rsplit('/').next() == runs.rsplit('/').next() =>
            {
                vec![(starts, "binary"), (runs, "binary")]
            }
            _ => Vec::new(),
        }
    }

    /// Whether the process was started with the unit file `content` and no drop-in, and there is
    /// none now.
    pub fn was_started_with(&self, content: &str) -> bool {
        let is_comment = |line: &&str| line.trim_start().starts_with(['#', ';']);
        let lines = content.split_inclusive('\n').filter(|line| !is_comment(line));
        let definition = format!("{}\n{}", self.path(), lines.collect::<String>());
        let record = self.record.as_ref().and_then(|record| record.split('\t').next());
        self.drop_ins.is_empty() && record == Some(&pipeline::disk::sha256(definition.as_bytes()))
    }

    /// Whether systemd has not read the unit file since it was changed.
    pub fn needs_reload(&self) -> bool {
        self.show("NeedDaemonReload") == "yes"
    }

    /// Whether it is etcd that this unit runs, going by its processes and what
    /// systemd would start.
    pub fn runs_etcd(&self) -> bool {
        // `{ path=/usr/local/bin/etcd ; argv[]=/usr/local/bin/etcd gateway start ; ... }`
        let mut commands = self.show("ExecStart").split("argv[]=").skip(1).map(starts_etcd);
        if self.name == ETCD || self.has_etcd {
            return true;
        }
        match commands.find(|(is_etcd, _)| *is_etcd) {
            Some((_, is_member)) => is_member,
            None => self.executable.as_deref().is_some_and(is_etcd),
        }
    }

    /// The unit of which this is only another name, in systemd's words an alias.
    pub fn alias_of(&self) -> Option<&str> {
        Some(self.show("Id")).filter(|id| !id.is_empty() && *id != self.name)
    }

    /// The running unit of etcd that systemd would stop or restart together with
    /// this one, which is not etcd's own.
    pub fn takes_etcd_along(&self) -> Option<&str> {
        self.takes.first().map(String::as_str).filter(|_| !self.runs_etcd())
    }

    /// The `ETCD_*` variables that the running process was started with.
    pub fn running(&self) -> &BTreeMap<String, String> {
        &self.running
    }

    /// The path of the unit file, whether there is one or not.
    pub fn path(&self) -> String {
        format!("{UNIT_DIR}/{}", self.name)
    }

    /// The text of the unit file; empty without one.
    pub fn text(&self) -> String {
        self.text.join("\n")
    }

    /// Whether it is etcd's own unit, and neither the document nor these tools wrote it: nothing
    /// in it is of a template of etcd-render, nor is the binary that runs one of theirs.
    pub fn is_of_others(&self, wanted: &WantedUnit) -> bool {
        let theirs = |exe: &String| exe.starts_with(RELEASES);
        self.name == ETCD
            && wanted.unit.is_none()
            && self.file.is_some()
            && !self.text.iter().any(|line| line.contains("etcd-render"))
            && !self.executable.as_ref().is_some_and(theirs)
    }

    /// How often systemd has started it again by itself, in words after its state; empty where
    /// it has not.
    pub fn restarts(&self) -> String {
        match self.show("NRestarts") {
            "" | "0" => String::new(),
            "1" => " (restarted once by systemd)".into(),
            count => format!(" (restarted {count} times by systemd)"),
        }
    }

    /// Whether others have systemd start it again when it is stopped, for as long as it is
    /// enabled.
    pub fn is_upheld(&self) -> bool {
        values(&self.text(), "UpheldBy").next().is_some()
    }

    /// What the document holds of it.
    pub fn status(&self) -> UnitStatus {
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
    pub fn outdated(&self) -> Vec<String> {
        let mut reasons = BTreeSet::new();
        // What has done its job, and stays, has no process.
        let stays = self.is_active() && self.show("RemainAfterExit") == "yes";
        if self.started_ticks.is_none() && !stays {
            return Vec::new();
        }
        if self.other_binary {
            reasons.insert("binary");
        }
        if self.started_ticks.is_some() && self.configuration_differs() {
            reasons.insert("configuration");
        }
        // What it was started with says more, where that is known.
        if self.needs_reload() && (self.record.is_none() || self.disk.is_none()) {
            reasons.insert("unit");
        }
        let hashes = |of: &Option<String>| -> Vec<String> {
            of.iter().flat_map(|of| of.split('\t')).map(str::to_owned).collect()
        };
        let pairs = hashes(&self.record).into_iter().zip(hashes(&self.disk));
        let whats = ["unit", "CA certificate", "configuration"];
        // Of one that it cannot load, systemd does not tell the other files.
        let is_loaded = !["bad-setting", "error"].contains(&self.show("LoadState"));
        let differs = pairs.zip(whats).filter(|((record, disk), _)| record != disk);
        let differs = differs.map(|(_, what)| what).filter(|what| is_loaded || *what == "unit");
        reasons.extend(differs);
        for (what, when) in &self.changed {
            // A time in the future says that the clock was set back: it proves nothing.
            let future = *when > self.clock.now;
            if self.started().is_some_and(|started| *when > started + CLOCK) && !future {
                reasons.insert(what);
            }
        }
        reasons.into_iter().map(str::to_owned).collect()
    }

    /// When the main process was started, in seconds since the epoch by the present clock.
    fn started(&self) -> Option<f64> {
        let Clock { now, uptime, ticks_per_second } = self.clock;
        Some(now - (uptime - self.started_ticks? / ticks_per_second))
    }

    /// Whether the process runs with other `ETCD_*` variables than the unit and its
    /// files would give it now, those aside that etcd reads at its first start only.
    fn configuration_differs(&self) -> bool {
        let mut wanted = self.manager.clone();
        wanted.extend(variables(&etcd::unit::words(self.show("Environment"))));
        let lines: Vec<_> = self.environment.iter().flat_map(|(_, lines)| lines).cloned().collect();
        let files = etcd::environment::parse(&lines.join("\n"));
        wanted.extend(files.into_iter().filter(|(name, _)| name.starts_with("ETCD_")));
        let names: BTreeSet<_> = wanted.keys().chain(self.running.keys()).collect();
        let differs = |name: &&String| wanted.get(*name) != self.running.get(*name);
        names
            .into_iter()
            .filter(|name| !etcd::settings::is_first_start_only(name))
            .any(|name| differs(&name))
    }
}

impl Clock {
    fn read(times: &str) -> Option<Self> {
        let mut times = times.split('\t').map(str::parse);
        let mut next = || times.next()?.ok();
        Some(Self { now: next()?, uptime: next()?, ticks_per_second: next()? })
    }
}

/// The `ETCD_*` variables among `assignments`.
fn variables(assignments: &[String]) -> BTreeMap<String, String> {
    let pairs = assignments.iter().filter_map(|word| word.split_once('='));
    let etcd = pairs.filter(|(name, _)| name.starts_with("ETCD_"));
    etcd.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    fn state(extra: &str) -> UnitState {
        let base = "clock\t1000.5\t500.0\t100\nunit\tetcd.service\nshow\tActiveState\tactive\n\
                    process\t40000\t/usr/local/bin/etcd\n\
                    show\tEnvironment\tPATH=/bin ETCD_Z=1 \"ETCD_Y=a \\\"b\"\n\
                    environment\t/etc/etcd/etcd.conf\nconfigured\tETCD_NAME=a\nrunning\tETCD_NAME=a\n\
                    running\tETCD_Z=1\nrunning\tETCD_Y=a \"b\nchanged\tunit\t900.4\n";
        UnitState::read(&lines(&format!("{base}{extra}"))).unwrap().remove(0)
    }

    #[test]
    fn only_what_enables_a_unit_is_in_its_install_section() {
        let text =
            "[Unit]\nWantedBy=a\n[Install]\n# mine\n WantedBy=b.target\n\n[Service]\nAlias=c\n";
        assert_eq!(install_section(text), ["[Install]", "WantedBy=b.target"]);
        assert!(install_section("[Service]\nExecStart=/bin/true\n").is_empty());
    }

    #[test]
    fn drop_ins_are_found_as_systemd_finds_them() {
        let unit = UnitState { name: "a-b@c.service".into(), ..UnitState::default() };
        for (path, is) in [
            ("/etc/systemd/system/a-b@c.service.d/x.conf", true),
            ("/etc/systemd/system/a-b@.service.d/x.conf", true),
            ("/run/systemd/system/a-.service.d/x.conf", true),
            ("/etc/systemd/system/service.d/x.conf", true),
            ("/etc/systemd/system/a-b@d.service.d/x.conf", false),
            ("/etc/systemd/system/a-b.service.d/x.conf", false),
            ("/etc/systemd/system/b-.service.d/x.conf", false),
            ("/etc/systemd/system/a-.timer.d/x.conf", false),
            ("/etc/systemd/system/timer.d/x.conf", false),
            ("/etc/systemd/system/a-b@c.service.d/x.txt", false),
            ("/etc/systemd/system/a-b@c.service.d/x/y.conf", false),
            ("/srv/service.d/x.conf", false),
        ] {
            assert_eq!(unit.is_drop_in(path), is, "{path}");
        }
    }

    #[test]
    fn a_process_is_outdated_by_what_it_was_started_with() {
        let cases: [(&str, &[&str]); 19] = [
            ("", &[]),
            ("other-binary", &["binary"]),
            ("configured\tETCD_QUOTA=1", &["configuration"]),
            ("configured\tETCD_NAME=b", &["configuration"]),
            ("configured\tETCD_INITIAL_CLUSTER=a", &[]),
            ("configured\tETCD_INITIAL_ELECTION_TICK_ADVANCE=false", &["configuration"]),
            ("running\tETCD_GONE=1", &["configuration"]),
            ("running\tETCD_GONE=1\nmanager\tETCD_GONE=1", &[]),
            ("show\tEnvironment\tETCD_Z=1", &["configuration"]),
            ("show\tNeedDaemonReload\tyes", &["unit"]),
            ("changed\tunit\t900.6", &["unit"]),
            ("changed\tCA certificate\t950.0", &["CA certificate"]),
            ("changed\tunit\t2000.0", &[]),
            ("record\ta\tb\ndisk\ta\tb", &[]),
            ("record\ta\tb\ndisk\ta\tb\nshow\tNeedDaemonReload\tyes", &[]),
            ("record\ta\tb\ndisk\tx\tb", &["unit"]),
            ("record\ta\tb\ndisk\ta\tx", &["CA certificate"]),
            ("record\ta\tb\tc\ndisk\ta\tb\tx", &["configuration"]),
            // That of an older run.
            ("record\ta\tb\ndisk\ta\tb\tx", &[]),
        ];
        for (extra, reasons) in cases {
            assert_eq!(state(extra).outdated(), reasons, "{extra}");
        }
        let job = "unit\ta.service\nshow\tActiveState\tactive\nrecord\ta\tb\tc\ndisk\tx\tb\tc\n";
        let read = |text: &str| UnitState::read(&lines(text)).unwrap().remove(0);
        assert_eq!(read(job).outdated(), Vec::<String>::new());
        assert_eq!(read(&format!("{job}show\tRemainAfterExit\tyes")).outdated(), ["unit"]);
    }

    #[test]
    fn a_unit_that_was_changed_and_put_back_is_that_of_the_process() {
        let text = "# one\n[Service]\nExecStart=/bin/a\n";
        let hash =
            pipeline::disk::sha256(b"/etc/systemd/system/a.service\n[Service]\nExecStart=/bin/a\n");
        let read = |more: &str| {
            let lines = lines(&format!("unit\ta.service\nrecord\t{hash}\tb\tc{more}"));
            UnitState::read(&lines).unwrap().remove(0)
        };
        assert!(read("").was_started_with(text));
        assert!(!read("").was_started_with("[Service]\nExecStart=/bin/b\n"));
        assert!(!read("\ndrop-in\tx\t/etc/x.conf").was_started_with(text));
    }

    #[test]
    fn etcds_own_unit_is_known_by_what_it_runs() {
        let unit = |name: &str, content: &str| {
            let unit = Unit { name: name.into(), content: content.into(), ..Unit::default() };
            WantedUnit { name: name.into(), unit: Some(unit) }.runs_etcd()
        };
        assert!(unit("etcd.service", ""));
        assert!(unit("kv.service", "[Service]\nExecStart=-/opt/etcd --name a\n"));
        assert!(!unit("front.service", "[Service]\nExecStart=/opt/etcd gateway start\n"));
        assert!(!unit(
            "backup.service",
            "[Service]\nExecStart=/usr/local/bin/etcdctl get /bin/etcd\n"
        ));
        let read = |text: &str| UnitState::read(&lines(text)).unwrap().remove(0);
        assert!(read("unit\tkv.service\nprocess\t1\t/opt/etcd").runs_etcd());
        let shows = |command: &str| {
            let command = format!("{{ path=/opt/etcd ; argv[]=/opt/etcd {command} ; pid=0 }}");
            read(&format!("unit\tkv.service\nshow\tExecStart\t{command}")).runs_etcd()
        };
        assert!(shows("--name a"));
        assert!(!shows("grpc-proxy start") && !shows("gateway start"));
        let bound = read("unit\tvpn.service\ntakes\tkv.service");
        assert!(!bound.runs_etcd());
        assert_eq!(bound.takes_etcd_along(), Some("kv.service"));
    }
}
