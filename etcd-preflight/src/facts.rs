//! What a host says of itself.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pipeline::Document;
use pipeline::document::Node;
use remote::{Error, Host, Query};

/// Says what the host is and has.
const SCRIPT: &str = include_str!("host.sh");

/// Says what time it is: seconds since 1970, with a fraction.
const TIME: &str = "date +%s.%N";

/// What `host.sh` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Facts {
    pub kernel: String,
    /// As `uname -m` has it.
    pub machine: String,
    pub hostname: String,
    /// The version of systemd; absent without systemd.
    pub systemd: Option<u32>,
    pub machine_id: String,
    pub memory_kib: u64,
    pub swap_kib: u64,
    /// How many files one process may have open at most.
    pub open_files: u64,
    /// The nearest folder to the one of the write-ahead log that is there.
    pub folder: String,
    pub free_kib: u64,
    /// What the data takes already.
    pub used_kib: u64,
    pub filesystem: String,
    /// Folders that files are to be written to, and cannot be.
    pub read_only: BTreeSet<String>,
    pub rotates: bool,
    pub selinux_enforces: bool,
    /// AppArmor's enforced profiles of etcd.
    pub profiles: Vec<String>,
    pub synchronized: bool,
    /// Ports of etcd that somebody listens on, and who.
    pub ports: Vec<(u16, String)>,
    /// Certificate files on the node, with their certificates in PEM.
    pub certificates: Vec<(String, String)>,
}

/// Asks `node` what it is and has; the answer is for [`Facts::read`].
pub(crate) fn query(document: &Document, node: &Node) -> Query {
    let settings = document.settings(node);
    let wal = etcd::layout::wal_folder(&settings.data_dir, settings.wal_dir.as_deref());
    let (data, certificates) = (&settings.data_dir, &settings.cert_dir);
    let ports = format!("{} {}", settings.client_port, settings.peer_port);
    let mut input = format!("{wal}\n{data}\n{certificates}\n{ports}\n");
    let written = [&wal, data, certificates, &settings.config_dir, &settings.bin_dir];
    let of_tools = [etcd::layout::RELEASES, etcd::layout::UNIT_DIR];
    for folder in written.into_iter().map(String::as_str).chain(of_tools) {
        input += &format!("{folder}\n");
    }
    Query { script: SCRIPT, input: input.into_bytes() }
}

impl Facts {
    /// Reads the lines that answer a [`query`].
    pub fn read(answer: &[String]) -> Result<Self, Error> {
        let mut facts = Self::default();
        for line in answer {
            facts.line(line).ok_or_else(|| unexpected(line))?;
        }
        Ok(facts)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (kind, value) = line.split_once('\t')?;
        match kind {
            "kernel" => self.kernel = value.into(),
            "machine" => self.machine = value.into(),
            "hostname" => self.hostname = value.into(),
            "systemd" => self.systemd = value.parse().ok(),
            "id" => self.machine_id = value.into(),
            "memory" => self.memory_kib = value.parse().ok()?,
            "swap" => self.swap_kib = value.parse().ok()?,
            "read-only" => drop(self.read_only.insert(value.into())),
            "files" => self.open_files = value.parse().ok()?,
            "folder" => self.folder = value.into(),
            "free" => self.free_kib = value.parse().ok()?,
            "used" => self.used_kib = value.parse().ok()?,
            "filesystem" => self.filesystem = value.into(),
            "rotational" => self.rotates = value == "1",
            "selinux" => self.selinux_enforces = value == "1",
            "apparmor" => self.profiles.push(value.into()),
            "synchronized" => self.synchronized = value == "yes",
            "port" => {
                let (port, owner) = value.split_once('\t')?;
                self.ports.push((port.parse().ok()?, owner.into()));
            }
            "certificate" => self.certificates.push((value.into(), String::new())),
            "pem" => {
                let (_, pem) = self.certificates.last_mut()?;
                *pem += &format!("{value}\n");
            }
            _ => return None,
        }
        Some(())
    }
}

/// How far a host's clock is ahead of this machine's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Offset {
    pub seconds: f64,
    /// How far that may be off: half of what the question took.
    pub uncertainty: f64,
}

impl Offset {
    /// Asks `host` for its time.
    pub async fn measure(host: &Host) -> Result<Self, Error> {
        let before = now();
        let answer = host.run(TIME, &[], &[]).await?;
        let after = now();
        let line = answer.first().map_or("", String::as_str);
        let time: f64 = line.parse().map_err(|_| unexpected(line))?;
        Ok(Self {
            seconds: time - f64::midpoint(before, after),
            uncertainty: (after - before).max(0.0) / 2.0,
        })
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

pub(crate) fn unexpected(line: &str) -> Error {
    Error::CommandFailed(format!("unexpected output of the node: {line:?}"))
}
