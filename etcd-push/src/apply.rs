//! What has to be done on a node, and the script that does it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use pipeline::document::{Arch, Binary, Directory, File, User};
use pipeline::{Run, ToolResult};
use remote::{Error, Input};
use similar::TextDiff;

use crate::manifest::{Manifest, WantedFile, WantedRelease, counted, names};
use crate::state::{Place, State};

/// Does what the plan on its stdin says.
pub(crate) const SCRIPT: &str = include_str!("apply.sh");

/// The difference between what a node is to have and what it has.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    users: Vec<&'a User>,
    new_directories: Vec<&'a Directory>,
    directories: Vec<&'a Directory>,
    files: Vec<&'a WantedFile<'a>>,
    attributes: Vec<&'a File>,
    release: Option<&'a WantedRelease<'a>>,
    links: Vec<(String, String)>,
    left: Vec<&'a str>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(manifest: &'a Manifest, state: &State) -> Result<Self, Error> {
        check_arch(manifest, state)?;
        let mut plan = Self::default();
        let node = manifest.node;
        plan.users.extend(node.users.iter().filter(|user| !state.users.contains(&user.name)));
        for directory in &node.directories {
            match state.places.get(&directory.path) {
                None => plan.new_directories.push(directory),
                Some(place) => {
                    let right = (&*directory.mode, &*directory.owner, &*directory.group);
                    if !place.is("directory", right) {
                        plan.directories.push(directory);
                    }
                }
            }
        }
        for wanted in &manifest.files {
            let file = wanted.file;
            let right = (&*file.mode, &*file.owner, &*file.group);
            match state.places.get(&file.path) {
                Some(place) if place.sha256 == wanted.sha256 => {
                    if !place.is("regular", right) {
                        plan.attributes.push(file);
                    }
                    if state.left.contains(&file.path) {
                        plan.left.push(&file.path);
                    }
                }
                _ => plan.files.push(wanted),
            }
        }
        if let Some(release) = &manifest.release {
            if !state.release || release.is_damaged(state) {
                plan.release = Some(release);
            }
            for Binary { name, .. } in &release.archive.binaries {
                if !state.links.contains(name) {
                    let path = format!("{}/{name}", release.bin_dir);
                    plan.links.push((path, format!("{}/{name}", release.dir)));
                }
            }
        }
        Ok(plan)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
            && self.new_directories.is_empty()
            && self.directories.is_empty()
            && self.files.is_empty()
            && self.attributes.is_empty()
            && self.release.is_none()
            && self.links.is_empty()
            && self.left.is_empty()
    }

    /// The plan as `apply.sh` reads it.
    pub(crate) fn input(&self) -> Vec<Input> {
        let mut input = Lines::default();
        for user in &self.users {
            input.line(&["user", &user.name, &user.home]);
        }
        let owners: BTreeSet<_> = self.owners().collect();
        for (owner, group) in owners {
            input.line(&["owner", owner, group]);
        }
        for path in &self.left {
            input.line(&["remove", path]);
        }
        for d in &self.new_directories {
            input.line(&["directory", &d.path, &d.mode, &format!("{}:{}", d.owner, d.group)]);
        }
        if let Some(release) = self.release {
            let archive = release.archive;
            let size = archive.size_bytes.to_string();
            let binaries = names(archive);
            input.line(&["release", &release.dir, &size, &archive.sha256, &binaries]);
            input.file(&archive.local, archive.size_bytes);
        }
        for WantedFile { file, sha256, size } in &self.files {
            let owner = format!("{}:{}", file.owner, file.group);
            input.line(&["file", &file.path, &size.to_string(), sha256, &file.mode, &owner]);
            match (&file.content, &file.local) {
                (Some(content), _) => input.bytes(content.as_bytes()),
                (_, Some(local)) => input.file(local, *size),
                _ => {}
            }
        }
        input.line(&["commit"]);
        for d in &self.directories {
            input.line(&["attributes", &d.path, &d.mode, &format!("{}:{}", d.owner, d.group)]);
        }
        for f in &self.attributes {
            input.line(&["attributes", &f.path, &f.mode, &format!("{}:{}", f.owner, f.group)]);
        }
        let mut placed: Vec<&str> = Vec::new();
        if let Some(release) = self.release {
            input.line(&["unpacked", &release.dir]);
            placed.push(&release.dir);
        }
        for (path, target) in &self.links {
            input.line(&["link", path, target]);
            placed.push(path);
        }
        for WantedFile { file, .. } in &self.files {
            input.line(&["place", &file.path]);
            placed.push(&file.path);
        }
        let folder =
            |path: &&str| path.rsplit_once('/').map_or("/", |(folder, _)| folder).to_owned();
        for folder in placed.iter().map(folder).collect::<BTreeSet<_>>() {
            input.line(&["sync", if folder.is_empty() { "/" } else { &folder }]);
        }
        input.line(&["end"]);
        input.done()
    }

    fn owners(&self) -> impl Iterator<Item = (&str, &str)> {
        let directories = self.new_directories.iter().chain(&self.directories);
        let directories = directories.map(|d| (&*d.owner, &*d.group));
        let files = self.files.iter().map(|f| f.file).chain(self.attributes.iter().copied());
        directories.chain(files.map(|f| (&*f.owner, &*f.group))).filter(|o| *o != ("root", "root"))
    }

    /// What is done, on one line.
    pub(crate) fn summary(&self) -> String {
        let mut parts = Vec::new();
        for user in &self.users {
            parts.push(format!("made user {}", user.name));
        }
        if !self.new_directories.is_empty() {
            parts.push(format!("made {}", counted(self.new_directories.len(), "folder")));
        }
        match (self.release, self.links.first()) {
            (Some(release), _) => parts.push(format!("installed release {}", release.version)),
            (None, Some((path, target))) => parts.push(format!("linked {path} to {target}")),
            (None, None) => {}
        }
        let paths: Vec<_> = self.files.iter().map(|wanted| wanted.file.path.as_str()).collect();
        match paths.len() {
            0 => {}
            1..=3 => parts.push(format!("wrote {}", paths.join(", "))),
            count => parts.push(format!("wrote {count} files")),
        }
        let attributes = self.directories.len() + self.attributes.len();
        if attributes > 0 {
            parts.push(format!("set owner and mode of {}", counted(attributes, "path")));
        }
        if !self.left.is_empty() {
            parts.push(format!("removed {} of a killed run", counted(self.left.len(), "file")));
        }
        parts.join(", ")
    }

    /// What would be done, with a diff of the texts.
    pub(crate) fn show(&self, run: &Run, manifest: &Manifest, state: &State) {
        let name = &manifest.node.name;
        let would = |what: String| run.report(ToolResult::would_change(what).on(name));
        for user in &self.users {
            would(format!("would make user {}", user.name));
        }
        for directory in &self.new_directories {
            would(format!("would make {}", directory.path));
        }
        if let Some(release) = self.release {
            would(format!("would install release {} in {}", release.version, release.dir));
        }
        for (path, target) in &self.links {
            would(format!("would link {path} to {target}"));
        }
        let directories = self.directories.iter().map(|d| (&d.path, &d.mode, &d.owner, &d.group));
        let files = self.attributes.iter().map(|f| (&f.path, &f.mode, &f.owner, &f.group));
        for (path, mode, owner, group) in directories.chain(files) {
            would(format!("would set {path} to mode {mode}, owner {owner}:{group}"));
        }
        for wanted in &self.files {
            let path = &wanted.file.path;
            let verb = if state.places.contains_key(path) { "replace" } else { "write" };
            would(format!("would {verb} {path}"));
            if let (Some(new), Some(old)) = (&wanted.file.content, state.texts.get(path)) {
                let diff = TextDiff::from_lines(old, new);
                run.detail(&diff.unified_diff().header(path, path).to_string());
            }
        }
        for path in &self.left {
            would(format!("would remove what a killed run left beside {path}"));
        }
    }
}

impl WantedRelease<'_> {
    /// Whether a binary that is there was hashed, and is not what it should be.
    fn is_damaged(&self, state: &State) -> bool {
        self.archive.binaries.iter().any(|binary| {
            let place = state.places.get(&format!("{}/{}", self.dir, binary.name));
            place.is_some_and(|place| place.sha256 != binary.sha256)
        })
    }
}

impl Place {
    /// Whether it is of this kind, with this mode, owner and group.
    fn is(&self, kind: &str, (mode, owner, group): (&str, &str, &str)) -> bool {
        self.kind.starts_with(kind)
            && u32::from_str_radix(mode, 8) == Ok(self.mode)
            && self.owner == owner
            && self.group == group
    }
}

/// Binaries of another architecture are never sent.
fn check_arch(manifest: &Manifest, state: &State) -> Result<(), Error> {
    let wanted = manifest.node.arch();
    if manifest.release.is_none() || Arch::of_machine(&state.machine) == Some(wanted) {
        return Ok(());
    }
    Err(Error::CommandFailed(format!(
        "its architecture is {}, not {wanted}: set the node's arch in the document",
        state.machine
    )))
}

/// The lines and bytes that the script reads.
#[derive(Default)]
struct Lines {
    done: Vec<Input>,
    bytes: Vec<u8>,
}

impl Lines {
    fn line(&mut self, parts: &[&str]) {
        self.bytes.extend_from_slice(parts.join("\t").as_bytes());
        self.bytes.push(b'\n');
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn file(&mut self, path: &str, size: u64) {
        self.done.push(Input::Bytes(std::mem::take(&mut self.bytes)));
        self.done.push(Input::File { path: PathBuf::from(path), size });
    }

    fn done(mut self) -> Vec<Input> {
        self.done.push(Input::Bytes(self.bytes));
        self.done
    }
}
