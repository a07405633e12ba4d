//! What a node has, as `state.sh` tells it.

use std::collections::{HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use remote::Error;

/// Says what is there of the things that its stdin names.
pub(crate) const SCRIPT: &str = include_str!("state.sh");

/// What a node has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// As `uname -m` has it.
    pub machine: String,
    pub users: HashSet<String>,
    /// By path.
    pub found: HashMap<String, Found>,
    /// The paths beside which an interrupted run left a temporary file.
    pub stale: HashSet<String>,
    /// The present texts of the files that differ, by path, if they are small and others may
    /// read them; asked for with `--check`.
    pub texts: HashMap<String, String>,
    /// Whether the release is unpacked, whole.
    pub release: bool,
    /// The binaries whose links are right.
    pub links: HashSet<String>,
}

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// `-` when it is not a regular file.
    pub sha256: String,
    /// Permission bits, and those for setuid, setgid and sticky.
    pub mode: u32,
    pub owner: String,
    pub group: String,
    pub uid: String,
    pub gid: String,
    /// As `stat` has it: `regular file`, `directory`.
    pub kind: String,
}

impl State {
    pub(crate) fn read(lines: &[String]) -> Result<Self, Error> {
        let mut state = Self::default();
        for line in lines {
            state
                .line(line)
                .ok_or_else(|| Error::CommandFailed(format!("not understood: {line:?}")))?;
        }
        Ok(state)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let parts: Vec<_> = line.split('\t').collect();
        match parts[..] {
            ["machine", machine] => self.machine = machine.into(),
            ["user", name] => drop(self.users.insert(name.into())),
            ["stale", path] => drop(self.stale.insert(path.into())),
            ["path", path, sha256, mode, owner, group, uid, gid, kind] => {
                let found = Found {
                    sha256: sha256.into(),
                    mode: u32::from_str_radix(mode, 8).ok()?,
                    owner: owner.into(),
                    group: group.into(),
                    uid: uid.into(),
                    gid: gid.into(),
                    kind: kind.into(),
                };
                self.found.insert(path.into(), found);
            }
            ["text", path, text] => {
                let text = String::from_utf8_lossy(&STANDARD.decode(text).ok()?).into_owned();
                self.texts.insert(path.into(), text);
            }
            ["link", name] => drop(self.links.insert(name.into())),
            ["release"] => self.release = true,
            _ => return None,
        }
        Some(())
    }
}
