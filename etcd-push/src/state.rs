//! What a node has, as `state.sh` tells it.

use std::collections::{BTreeSet, HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use remote::{Error, Host, Input};

/// Says what is there of the things that its stdin names.
pub(crate) const SCRIPT: &str = include_str!("state.sh");

/// Prints the texts of the files that its stdin names.
const TEXTS: &str = include_str!("texts.sh");

/// What a node has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub users: HashSet<String>,
    /// By path, and by that without links.
    pub found: HashMap<String, Found>,
    /// Where files and folders lie without links, by those of their paths that have some.
    pub real: HashMap<String, String>,
    /// The folders in which an interrupted run left what it had staged.
    pub stale: BTreeSet<String>,
    /// The paths of files that something is mounted at.
    pub mounts: HashSet<String>,
    /// Whether the release is unpacked, whole.
    pub release: bool,
    /// The binaries whose links are right.
    pub links: HashSet<String>,
}

/// A text that is larger is not shown, in bytes.
pub(crate) const LARGE: u64 = 256 << 10;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where it lies, without links.
    real: String,
    /// Empty when it is not a regular file.
    pub sha256: String,
    /// In bytes.
    pub size: u64,
    /// Permission bits, and those for setuid, setgid and sticky.
    pub mode: u32,
    pub owner: String,
    pub group: String,
    pub uid: String,
    pub gid: String,
    /// As `stat` has it: `regular file`, `directory`.
    pub kind: String,
}

/// What is read of texts for diffs at most, in bytes.
const TEXTS_BYTES: u64 = 4 << 20;

impl State {
    pub(crate) fn read(lines: &[String]) -> Result<Self, Error> {
        let mut state = Self::default();
        let mut links = Vec::new();
        for line in lines {
            state
                .line(line, &mut links)
                .ok_or_else(|| Error::CommandFailed(format!("not understood: {line:?}")))?;
        }
        for (real, path) in links {
            if let Some(found) = state.found.get(real) {
                state.found.insert(path.to_owned(), found.clone());
            }
            state.real.insert(path.to_owned(), real.to_owned());
        }
        Ok(state)
    }

    fn line<'a>(&mut self, line: &'a str, links: &mut Vec<(&'a str, &'a str)>) -> Option<()> {
        let parts: Vec<_> = line.split('\t').collect();
        match parts[..] {
            // These are asked before anything is planned.
            ["machine" | "runs" | "program", _] | ["own" | "etcds", _, _] | ["at", _, _, _] => {}
            ["user", name] => drop(self.users.insert(name.into())),
            ["stale", folder] => drop(self.stale.insert(folder.into())),
            ["mount", path] => drop(self.mounts.insert(path.into())),
            ["real", real, path] => links.push((real, path)),
            ["stat", size, mode, owner, group, uid, gid, kind, real] => {
                let found = Found {
                    real: real.into(),
                    sha256: String::new(),
                    size: size.parse().ok()?,
                    mode: u32::from_str_radix(mode, 8).ok()?,
                    owner: owner.into(),
                    group: group.into(),
                    uid: uid.into(),
                    gid: gid.into(),
                    kind: kind.into(),
                };
                self.found.insert(real.into(), found);
            }
            ["release"] => self.release = true,
            // What is left is a line of sha256sum.
            [sum] => {
                // A backslash before it says that those in the name are doubled.
                let (sum, escaped) = match sum.strip_prefix('\\') {
                    Some(sum) => (sum, true),
                    None => (sum, false),
                };
                let (sha256, name) = sum.split_once("  ")?;
                let name = if escaped { name.replace("\\\\", "\\") } else { name.to_owned() };
                if let Some(found) = self.found.get_mut(name.as_str()) {
                    found.sha256 = sha256.into();
                }
            }
            ["link", name] => drop(self.links.insert(name.into())),
            _ => return None,
        }
        Some(())
    }

    /// The present texts of `files`, by path, read from `host` for a diff: of those that are
    /// small and that others may read.
    pub(crate) async fn texts<'a>(
        &self,
        host: &Host,
        files: impl Iterator<Item = &'a str>,
    ) -> Result<HashMap<String, String>, Error> {
        let mut total = 0;
        let mut asked = Vec::new();
        for path in files {
            let Some(found) = self.found.get(path) else { continue };
            let shown = !found.sha256.is_empty() && found.mode & 0o004 != 0 && found.size <= LARGE;
            if shown && total + found.size <= TEXTS_BYTES {
                total += found.size;
                asked.push((path, found));
            }
        }
        if total == 0 {
            return Ok(asked
                .into_iter()
                .map(|(path, _)| (path.to_owned(), String::new()))
                .collect());
        }
        let names: String = asked.iter().map(|(_, found)| format!("{}\n", found.real)).collect();
        let answer = host.run(TEXTS, &[], &[Input::Bytes(names.into_bytes())]).await?;
        let bytes = STANDARD.decode(answer.concat()).unwrap_or_default();
        // What has changed since its size was read is not shown.
        if bytes.len() as u64 != total {
            return Ok(HashMap::new());
        }
        let mut rest = bytes.as_slice();
        let mut texts = HashMap::new();
        for (path, found) in asked {
            let size = usize::try_from(found.size).unwrap_or(usize::MAX).min(rest.len());
            let (text, after) = rest.split_at(size);
            texts.insert(path.to_owned(), String::from_utf8_lossy(text).into_owned());
            rest = after;
        }
        Ok(texts)
    }
}
