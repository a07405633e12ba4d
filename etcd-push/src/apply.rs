//! What has to be done on a node, and the script that does it.

use std::collections::{BTreeMap, HashMap, HashSet};

use cluster::fit::Facts;
use pipeline::document::{Binary, Directory, File, User};
use pipeline::{Run, ToolResult};
use remote::{Error, Input};

use crate::manifest::{Manifest, WantedFile, WantedRelease, counted};
use crate::stage::{Lines, Staged, grouped, split};
use crate::state::{Found, LARGE, State};

/// Does what the plan on its stdin says.
pub(crate) const SCRIPT: &str = include_str!("apply.sh");

/// The difference between what a node is to have and what it has.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    users: Vec<&'a User>,
    new_directories: Vec<&'a Directory>,
    /// Those with another owner or mode.
    directories: Vec<&'a Directory>,
    files: Vec<&'a WantedFile<'a>>,
    /// The paths of those files that differ in owner or mode only. They are written again,
    /// too: to change a file that its folder's owner may replace meanwhile is not safe.
    attributes: HashSet<&'a str>,
    /// The paths of those that are programs, and are to replace others.
    programs: HashSet<&'a str>,
    /// The paths of files that are there, and are not to be.
    removed: Vec<&'a str>,
    release: Option<&'a WantedRelease<'a>>,
    links: Vec<(String, String)>,
    /// The folders in which an interrupted run left what it had staged.
    stale: Vec<String>,
    /// Where paths with links lead.
    real: HashMap<String, String>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(
        manifest: &'a Manifest,
        state: &State,
        facts: Option<&Facts>,
    ) -> Result<Self, Error> {
        let mut plan = Self { real: state.real.clone(), ..Self::default() };
        plan.refuse_doubled(manifest)?;
        let node = manifest.node;
        plan.users.extend(node.users.iter().filter(|user| !state.users.contains(&user.name)));
        for directory in &node.directories {
            match state.found.get(&directory.path) {
                None => plan.new_directories.push(directory),
                Some(found) => {
                    if !found.has(&directory.mode, &directory.owner, &directory.group) {
                        plan.directories.push(directory);
                    }
                }
            }
        }
        for wanted in &manifest.files {
            let file = wanted.file;
            match state.found.get(&file.path) {
                found if file.absent => {
                    if found.is_some() {
                        plan.removed.push(&file.path);
                    }
                }
                Some(found) if !file.pending && found.sha256 == wanted.sha256 => {
                    if !found.has(&file.mode, &file.owner, &file.group) {
                        plan.files.push(wanted);
                        plan.attributes.insert(&file.path);
                    }
                }
                _ => plan.files.push(wanted),
            }
        }
        let files = plan.files.iter().map(|wanted| wanted.file.path.as_str());
        let mut replaced = files.chain(plan.removed.iter().copied());
        if let Some(path) = replaced.find(|path| state.mounts.contains(*path)) {
            return Err(Error::CommandFailed(format!(
                "{path}: a mount point, which no file can be put in place of: unmount it, or \
                 leave the file out"
            )));
        }
        if let Some(release) = &manifest.release {
            if !state.release
                || release.is_damaged(state)
                || facts.is_some_and(|facts| facts.is_broken(&release.etcd(), release.version))
            {
                plan.release = Some(release);
            }
            for Binary { name, .. } in &release.archive.binaries {
                if !state.links.contains(name) {
                    let path = format!("{}/{name}", release.bin_dir);
                    plan.links.push((path, format!("{}/{name}", release.dir)));
                }
            }
        }
        let replaced = plan.files.iter().map(|wanted| wanted.file);
        let replaced = replaced.filter(|file| file.is_program());
        plan.programs = replaced
            .map(|file| file.path.as_str())
            .filter(|path| state.found.contains_key(*path) && !plan.attributes.contains(path))
            .collect();
        plan.stale.extend(state.stale.iter().cloned());
        Ok(plan)
    }

    /// Where `path` lies without links: the same folder has one staging folder, whatever it is
    /// called.
    fn real<'s>(&'s self, path: &'s str) -> &'s str {
        self.real.get(path).map_or(path, String::as_str)
    }

    /// Refuses two names for what is one file or folder on the node.
    fn refuse_doubled(&self, manifest: &Manifest) -> Result<(), Error> {
        let files = manifest.files.iter().map(|wanted| &wanted.file.path);
        let paths = files.chain(manifest.node.directories.iter().map(|folder| &folder.path));
        let mut places = HashMap::new();
        for path in paths {
            let real = self.real(path);
            if let Some(other) = places.insert(real, path).filter(|other| *other != path) {
                return Err(Error::CommandFailed(format!(
                    "{other} and {path} are both {real} on the node: name it once"
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
            && self.new_directories.is_empty()
            && self.directories.is_empty()
            && self.files.is_empty()
            && self.removed.is_empty()
            && self.release.is_none()
            && self.links.is_empty()
            && self.stale.is_empty()
    }

    /// What `apply.sh` reads: the lines of the plan, and the bytes of the files after them.
    /// With it comes the size of the plan in bytes.
    pub(crate) fn input(&self) -> Result<(String, Vec<Input>), Error> {
        let mut lines = Lines::default();
        let mut contents = Vec::new();
        for user in &self.users {
            lines.add("user", &[&user.name, &user.home]);
        }
        for folder in &self.stale {
            lines.add("stale", &[folder]);
        }
        for d in &self.new_directories {
            lines.add("folder", &[&d.path, &d.mode, &format!("{}:{}", d.owner, d.group)]);
        }
        for d in &self.directories {
            lines.add("attributes", &[&d.path, &d.mode, &format!("{}:{}", d.owner, d.group)]);
        }
        for (folder, staged) in self.by_folder() {
            staged.stage(folder, &mut lines, &mut contents)?;
            let files = staged.files.iter();
            let programs = files.filter(|w| self.programs.contains(w.file.path.as_str()));
            for wanted in programs {
                lines.add("program", &[folder, wanted.name()]);
            }
            lines.batches("place", &[folder], &staged.names());
            lines.add("done", &[folder]);
        }
        for (folder, names) in grouped(self.removed.iter().map(|path| split(self.real(path)))) {
            lines.batches("remove", &[folder], &names);
            lines.add("done", &[folder]);
        }
        let lines = lines.end();
        let size = lines.len().to_string();
        contents.insert(0, Input::Bytes(lines.into_bytes()));
        Ok((size, contents))
    }

    /// What is staged in each folder.
    fn by_folder(&self) -> BTreeMap<&str, Staged<'_>> {
        let mut folders: BTreeMap<&str, Staged> = BTreeMap::new();
        if let Some(release) = self.release {
            folders.entry(split(&release.dir).0).or_default().release = Some(release);
        }
        for (path, target) in &self.links {
            folders.entry(split(path).0).or_default().links.push(target);
        }
        for wanted in &self.files {
            folders.entry(split(self.real(&wanted.file.path)).0).or_default().files.push(wanted);
        }
        folders
    }

    /// What is done, on one line.
    pub(crate) fn summary(&self) -> String {
        let mut parts = Vec::new();
        for user in &self.users {
            parts.push(format!("created user {}", user.name));
        }
        if !self.new_directories.is_empty() {
            parts.push(format!("created {}", counted(self.new_directories.len(), "folder")));
        }
        match (self.release, self.links.first()) {
            (Some(release), _) => parts.push(format!("installed release {}", release.version)),
            (None, Some((path, target))) => parts.push(format!("linked {path} to {target}")),
            (None, None) => {}
        }
        let paths = self.files.iter().map(|wanted| wanted.file.path.as_str());
        let paths: Vec<_> = paths.filter(|path| !self.attributes.contains(path)).collect();
        match paths.len() {
            0 => {}
            1..=3 => parts.push(format!("wrote {}", paths.join(", "))),
            count => parts.push(format!("wrote {count} files")),
        }
        match self.removed.len() {
            0 => {}
            1..=3 => parts.push(format!("removed {}", self.removed.join(", "))),
            count => parts.push(format!("removed {count} files")),
        }
        let attributes = self.directories.len() + self.attributes.len();
        if attributes > 0 {
            parts.push(format!("set owner and mode of {}", counted(attributes, "path")));
        }
        if !self.stale.is_empty() {
            parts
                .push(format!("removed what an interrupted run left in {}", self.stale.join(", ")));
        }
        parts.join(", ")
    }

    /// The paths of the files whose text is to be another.
    pub(crate) fn differing(&self) -> impl Iterator<Item = &'a str> {
        let text = |wanted: &&&WantedFile| wanted.file.content.is_some();
        let paths = self.files.iter().filter(text).map(|wanted| wanted.file.path.as_str());
        paths.filter(|path| !self.attributes.contains(path))
    }

    /// What would be done, with a diff of the `texts` that are there.
    pub(crate) fn show(
        &self,
        run: &Run,
        manifest: &Manifest,
        state: &State,
        texts: &HashMap<String, String>,
    ) {
        let name = &manifest.node.name;
        let would = |what: String| run.report(ToolResult::would_change(what).on(name));
        for user in &self.users {
            would(format!("would create user {}", user.name));
        }
        for directory in &self.new_directories {
            would(format!("would create {}", directory.path));
        }
        if let Some(release) = self.release {
            would(format!("would install release {} in {}", release.version, release.dir));
        }
        for (path, target) in &self.links {
            would(format!("would link {path} to {target}"));
        }
        let directories = self.directories.iter().map(|d| (&d.path, &d.mode, &d.owner, &d.group));
        let files = self.files.iter().map(|wanted| wanted.file);
        let files = files.filter(|file| self.attributes.contains(file.path.as_str()));
        let files = files.map(|f| (&f.path, &f.mode, &f.owner, &f.group));
        for (path, mode, owner, group) in directories.chain(files) {
            would(format!("would set {path} to mode {mode}, owner {owner}:{group}"));
        }
        for wanted in &self.files {
            let path = &wanted.file.path;
            if self.attributes.contains(path.as_str()) {
                continue;
            }
            let verb = if state.found.contains_key(path) { "replace" } else { "write" };
            would(format!("would {verb} {path}"));
            if let (Some(new), Some(_)) = (&wanted.file.content, state.found.get(path)) {
                run.detail(&diff(name, wanted.file, new, texts.get(path)));
            }
        }
        for path in &self.removed {
            would(format!("would remove {path}"));
        }
        for folder in &self.stale {
            would(format!("would remove what an interrupted run left in {folder}"));
        }
    }
}

/// What is shown of a file of `node` that differs: `new` is to replace `old`, which the node
/// gives only of a small file that others may read.
fn diff(node: &str, file: &File, new: &str, old: Option<&String>) -> String {
    let others_may_read = u32::from_str_radix(&file.mode, 8).is_ok_and(|mode| mode & 0o004 != 0);
    match old {
        _ if !others_may_read => "(not shown: others may not read it)".into(),
        Some(old) if new.len() as u64 <= LARGE => pipeline::diff(node, &file.path, old, new),
        _ => "(not shown: not a small text that others may read)".into(),
    }
}

impl WantedRelease<'_> {
    /// Whether a binary that is there was hashed, and is not what it should be.
    fn is_damaged(&self, state: &State) -> bool {
        self.archive.binaries.iter().any(|binary| {
            let found = state.found.get(&format!("{}/{}", self.dir, binary.name));
            found.is_some_and(|found| found.sha256 != binary.sha256)
        })
    }
}

impl Found {
    /// Whether it has this mode, owner and group, each of them a name or a number.
    fn has(&self, mode: &str, owner: &str, group: &str) -> bool {
        let Ok(wanted) = u32::from_str_radix(mode, 8) else { return false };
        // A folder inherits setgid, and chmod leaves setuid and setgid of folders alone.
        let kept = if self.kind == "directory" { 0o6000 & !wanted } else { 0 };
        self.mode & !kept == wanted
            && (self.owner == owner || self.uid == owner)
            && (self.group == group || self.gid == group)
    }
}
