//! The variables that etcd is started with next: not only what the document says, but
//! what else on the node has a say, as drop-ins and their environment files.

use std::collections::BTreeMap;

use etcd::layout;
use etcd::unit::{self, Obstacle, Setting, Text};
use pipeline::Document;
use pipeline::document::{Node, NodeSettings};

use super::facts::Facts;

/// Where the variables of systemd itself come from.
pub(super) const MANAGER: &str = "systemctl set-environment";

/// Variables by name.
pub(super) type Variables = BTreeMap<String, Setting>;

/// What says how etcd is started.
#[derive(Debug, Clone, Default)]
struct Definition {
    unit: Option<Text>,
    /// In the order in which systemd reads them.
    drop_ins: Vec<Text>,
    /// Environment files, each with the pattern that stands for it.
    files: Vec<(String, Text)>,
    /// The list of `DefaultEnvironment=` in systemd's own configuration.
    defaults: Vec<Text>,
}

/// What the next start on the node would be given by what lies there alone.
pub(super) fn on_node(document: &Document, node: &Node, facts: &Facts) -> Variables {
    Definition::on_node(document, node, facts).variables(document, node, facts)
}

/// What the document alone would give it.
pub(super) fn wanted(document: &Document, node: &Node) -> Variables {
    Definition::wanted(node).variables(document, node, &Facts::default())
}

/// What it would be given once the files and the unit of the document are in place.
pub(super) fn next_start(document: &Document, node: &Node, facts: &Facts) -> Variables {
    Definition::next(document, node, facts).variables(document, node, facts)
}

/// What of a drop-in would keep etcd from its next start, once those are in place.
pub(super) fn obstacle(document: &Document, node: &Node, facts: &Facts) -> Option<Obstacle> {
    let Definition { unit, drop_ins, .. } = Definition::next(document, node, facts);
    let parts: Vec<_> = [unit?].into_iter().chain(drop_ins).collect();
    let Place { data, wal } = Place::wanted(document, node, facts);
    let NodeSettings { config_dir, cert_dir, bin_dir, .. } = document.settings(node);
    unit::obstacle(&parts, &[&data, &wal], &[&config_dir, &cert_dir, &bin_dir])
}

/// What the process of etcd would be older than once the files of the document are in
/// place, in the words of `etcd-unit status`.
pub(super) fn pending(document: &Document, node: &Node, facts: &Facts) -> Vec<&'static str> {
    let Some(process) = facts.process() else { return Vec::new() };
    let next = values(next_start(document, node, facts));
    let mut names = next.keys().chain(process.variables.keys());
    let configuration = names.any(|name| {
        !etcd::settings::is_first_start_only(name) && next.get(name) != process.variables.get(name)
    });
    let release = document.release.as_ref().and_then(|release| {
        let archive = release.archives.iter().find(|archive| archive.arch == node.arch())?;
        Some(layout::release_dir(&release.version, &archive.sha256))
    });
    let binary = release.is_some_and(|folder| !process.exe.starts_with(&folder));
    let ca = format!("{}/{}", document.settings(node).cert_dir, layout::CA_CERT);
    let ca = Definition::wanted(node).files.into_iter().find(|(path, _)| *path == ca);
    let ca = ca.is_some_and(|(_, text)| text.content.trim() != facts.ca.trim());
    let all = [("CA certificate", ca), ("binary", binary), ("configuration", configuration)];
    all.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
}

/// Whether the document brings the configuration of `node`. Where it does not, that on
/// the node stays.
pub(super) fn is_brought(document: &Document, node: &Node) -> bool {
    let config = layout::config_file(&document.settings(node).config_dir);
    node.files.iter().any(|file| file.path == config)
}

/// Where a member has its data and its write-ahead log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) data: String,
    pub(super) wal: String,
}

impl Place {
    /// As `variables` have it; nothing where they name no data directory.
    pub(super) fn of(variables: &BTreeMap<String, String>) -> Option<Self> {
        let data = variables.get("ETCD_DATA_DIR")?.clone();
        let wal = variables.get("ETCD_WAL_DIR").cloned();
        Some(Self { wal: wal.unwrap_or_else(|| layout::wal_folder(&data, None)), data })
    }

    /// Where the member of `node` is to have them: as the document says, or, where that
    /// brings no configuration, as the one on the node does.
    pub(super) fn wanted(document: &Document, node: &Node, facts: &Facts) -> Self {
        let there = || Self::of(&values(on_node(document, node, facts)));
        let NodeSettings { data_dir: data, wal_dir, .. } = document.settings(node);
        let own =
            || Self { wal: layout::wal_folder(&data, wal_dir.as_deref()), data: data.clone() };
        if is_brought(document, node) { own() } else { there().unwrap_or_else(own) }
    }
}

/// The values of `variables`.
pub(super) fn values(variables: Variables) -> BTreeMap<String, String> {
    variables.into_iter().map(|(name, setting)| (name, setting.value)).collect()
}

impl Definition {
    /// What is there once the files and the unit of the document are in place.
    fn next(document: &Document, node: &Node, facts: &Facts) -> Self {
        let wanted = Definition::wanted(node);
        let mut there = Definition::on_node(document, node, facts);
        there.unit = wanted.unit.or(there.unit);
        for drop_in in wanted.drop_ins {
            there.drop_ins.retain(|other| name(&other.path) != name(&drop_in.path));
            there.drop_ins.push(drop_in);
        }
        there.drop_ins.sort_by(|a, b| name(&a.path).cmp(name(&b.path)));
        for (path, text) in wanted.files {
            match there.files.iter_mut().find(|(_, other)| other.path == path) {
                Some((_, other)) => *other = text,
                None => there.files.push((path, text)),
            }
        }
        for text in wanted.defaults {
            there.defaults.retain(|other| other.path != text.path);
            there.defaults.push(text);
        }
        there
    }

    fn on_node(document: &Document, node: &Node, facts: &Facts) -> Self {
        let path = layout::config_file(&document.settings(node).config_dir);
        let config = Text { path: path.clone(), content: facts.config.clone() };
        let mut files = facts.environment_files.clone();
        if !facts.config.is_empty() {
            files.push((path, config));
        }
        let (drop_ins, mut units): (Vec<_>, Vec<_>) =
            facts.definition.iter().cloned().partition(|part| part.path.ends_with(".conf"));
        Self { unit: units.pop(), drop_ins, files, defaults: facts.defaults.clone() }
    }

    fn wanted(node: &Node) -> Self {
        let unit = node.units.iter().find(|unit| unit.name == layout::UNIT);
        let unit = unit.map(|unit| Text {
            path: format!("{}/{}", layout::UNIT_DIR, layout::UNIT),
            content: unit.content.clone(),
        });
        let (mut drop_ins, mut files, mut defaults) = (Vec::new(), Vec::new(), Vec::new());
        for file in &node.files {
            let is_drop_in = layout::is_drop_in(&file.path);
            // What cannot be read as text is no environment file; one that is to go says nothing
            // any more.
            let Some(content) = file.text() else { continue };
            if layout::is_of_systemd(&file.path) {
                let lists =
                    content.lines().filter_map(|line| line.strip_prefix("DefaultEnvironment="));
                defaults.extend(
                    lists.map(|list| Text { path: file.path.clone(), content: list.into() }),
                );
                continue;
            }
            let text = Text { path: file.path.clone(), content };
            match is_drop_in {
                true => drop_ins.push(text),
                false => files.push((file.path.clone(), text)),
            }
        }
        Self { unit, drop_ins, files, defaults }
    }

    fn variables(&self, document: &Document, node: &Node, facts: &Facts) -> Variables {
        let config = layout::config_file(&document.settings(node).config_dir);
        // A unit that is nowhere yet will read the configuration.
        let unit = self.unit.clone().unwrap_or_else(|| Text {
            path: config.clone(),
            content: format!("[Service]\nEnvironmentFile={config}\n"),
        });
        let parts: Vec<_> = [unit].into_iter().chain(self.drop_ins.iter().cloned()).collect();
        let of_pattern = |pattern: &str| {
            self.files.iter().filter(|(of, _)| of == pattern).map(|(_, text)| text).collect()
        };
        let mut variables = unit::environment(&parts, of_pattern);
        // Where systemd has read them already, they are among its own.
        for Text { path, content } in &self.defaults {
            for (name, value) in unit::words(content).iter().filter_map(|word| word.split_once('='))
            {
                let (value, source) = (value.to_owned(), path.clone());
                let is_read = facts.manager.get(name).is_none_or(|now| *now == value);
                if name.starts_with("ETCD_") && is_read {
                    let set = Setting { value, source, shadowed: None };
                    variables.entry(name.to_owned()).or_insert(set);
                }
            }
        }
        for (name, value) in &facts.manager {
            let source = MANAGER.to_owned();
            let set = Setting { value: value.clone(), source, shadowed: None };
            variables.entry(name.clone()).or_insert(set);
        }
        variables
    }
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
