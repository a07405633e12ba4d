//! `etcd-render`: configuration and systemd unit of each node, from templates.
//!
#![doc = include_str!("../templates/README.md")]

mod data;
mod environment;
mod templates;

use std::path::PathBuf;

use anyhow::Result;
use etcd::{Minor, Version, layout};
use pipeline::document::{Directory, Document, File, Node, Unit};
use pipeline::{Code, Common, Error, Examples, Run, Severity, Tool, ToolResult};

use data::Data;
use templates::Templates;

/// The command line of `etcd-render`.
#[derive(Debug, clap::Parser)]
#[command(name = "etcd-render", version, about, long_about = LONG_ABOUT)]
pub struct Render {
    /// Render for this release if the document names none, e.g. v3.5.16
    #[arg(long, value_name = "VERSION", value_parser = known_version)]
    etcd_version: Option<Version>,
    /// Use etcd.conf.hbs and etcd.service.hbs from this folder; the built-in
    /// template replaces one that is not there
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// Write the built-in templates into this folder, to start from, and do nothing else
    #[arg(long, value_name = "DIR", conflicts_with_all = ["templates", "etcd_version"])]
    print_templates: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

const LONG_ABOUT: &str =
    concat!(env!("CARGO_PKG_DESCRIPTION"), ".\n\n", include_str!("../templates/README.md"));

impl Tool for Render {
    fn common(&self) -> &Common {
        &self.common
    }

    fn examples(_: &str) -> Examples {
        &[
            (
                "Between the certificates and the nodes:",
                "etcd-cert issue < nodes.txt | etcd-render --etcd-version v3.6.16 | etcd-push",
            ),
            (
                "See the files of one node:",
                "etcd-render cluster.json | jq -r '.nodes[0].files[].content'",
            ),
            ("Start templates of your own:", "etcd-render --print-templates templates"),
        ]
    }

    fn without(_: &str) -> &'static [&'static str] {
        &["jobs", "lock_timeout", "verbose"]
    }

    fn reads_stdin(&self) -> bool {
        self.print_templates.is_none()
    }

    fn writes_document(&self) -> bool {
        self.print_templates.is_none()
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        if let Some(folder) = &self.print_templates {
            return templates::print(run, folder);
        }
        let version = version_of(&run.document, self.etcd_version)?;
        check_addresses(&run.document.nodes)?;
        let templates = Templates::load(self.templates.as_deref())?;
        let data = |node: &&Node| Data::new(&run.document, node, version);
        let data = run.nodes().iter().map(data).collect::<Result<Vec<_>>>()?;
        let rendered: Vec<_> = (run.nodes().into_iter().zip(&data))
            .filter_map(|(node, data)| {
                let (files, problems) =
                    render(&run.document, node, data, &templates, version.minor());
                problems.into_iter().for_each(|problem| run.report(problem));
                files
            })
            .collect();
        if rendered.len() == data.len() {
            if self.etcd_version.is_some() {
                // For the stages after this: another version may run.
                let cluster = run.document.cluster.get_or_insert_default();
                cluster.version.get_or_insert_with(|| version.to_string());
            }
            for (at, files) in run.selected().into_iter().zip(rendered) {
                files.put(&mut run.document, at);
                let message = format!("rendered for etcd {}", version.minor());
                let result = ToolResult::unchanged(Code::Rendered, message);
                run.report(result.on(&run.document.nodes[at].name));
            }
        }
        Ok(())
    }
}

/// Refuses addresses at which several members could not reach each other.
fn check_addresses(nodes: &[Node]) -> Result<()> {
    let is_own = |node: &&Node| node.ip().is_some_and(|ip| ip.is_loopback());
    match nodes.iter().find(is_own).filter(|_| nodes.len() > 1) {
        None => Ok(()),
        Some(node) => Err(Error::bad_input(format!(
            "{}: address {}: a loopback address, where no other member reaches it: give the one \
             that the other hosts reach",
            node.name, node.address
        ))
        .into()),
    }
}

/// The version to render for: the document's, else `given`. It is an error when
/// they differ, when the document names two, or when there is none.
fn version_of(document: &Document, given: Option<Version>) -> Result<Version> {
    let cluster = document.cluster.as_ref().and_then(|cluster| cluster.version.as_deref());
    let release = document.release.as_ref().map(|release| release.version.as_str());
    let known = |key: &str, text: Option<&str>| -> Result<Option<Version>, Error> {
        let refused = |why| Error::bad_input(format!("{key}: {}: {why}", text.unwrap_or_default()));
        text.map(known_version).transpose().map_err(refused)
    };
    let cluster = known("cluster.version", cluster)?;
    let release = known("release.version", release)?;
    document.check_release()?;
    match (cluster.or(release), given) {
        (Some(found), Some(given)) if found != given => Err(Error::usage(format!(
            "--etcd-version {given}: the document is for {found}: leave the flag out"
        ))
        .into()),
        (None, None) => Err(Error::usage(
            "cluster.version: not set: put etcd-fetch before this stage, \
             or pass the release, e.g. --etcd-version v3.5.16",
        )
        .into()),
        (Some(version), _) | (None, Some(version)) => Ok(version),
    }
}

/// Reads a version whose settings are known.
fn known_version(text: &str) -> Result<Version, String> {
    let version: Version = text.parse()?;
    if version.minor().is_known() {
        return Ok(version);
    }
    let [others @ .., newest] = Minor::KNOWN.map(|minor| minor.to_string());
    Err(format!(
        "the settings of this release are not known, only those of etcd {} and {newest}",
        others.join(", ")
    ))
}

/// Why this tool would refuse to render `node` of `document` from its own templates, in words:
/// to be known before a cluster is changed for it. A document that names no version yet is not
/// looked at.
pub fn refusal(document: &Document, node: &Node) -> Option<String> {
    let cluster = document.cluster.as_ref().and_then(|cluster| cluster.version.as_ref());
    cluster.or(document.release.as_ref().map(|release| &release.version))?;
    let problems = || -> Result<Vec<ToolResult>> {
        let version = version_of(document, None)?;
        check_addresses(&document.nodes)?;
        let data = Data::new(document, node, version)?;
        let templates = Templates::load(None)?;
        Ok(render(document, node, &data, &templates, version.minor()).1)
    };
    match problems() {
        Ok(problems) => {
            let is_error = |problem: &ToolResult| problem.severity == Severity::Error;
            problems.into_iter().find(is_error).map(|problem| problem.message)
        }
        Err(error) => Some(error.to_string()),
    }
}

/// Renders what belongs on `node`, and says what is wrong with it. Gives no files when that
/// keeps them from being used.
fn render(
    document: &Document,
    node: &Node,
    data: &Data,
    templates: &Templates,
    minor: Minor,
) -> (Option<Rendered>, Vec<ToolResult>) {
    let env = document.settings(node).env;
    let files = templates.render(templates::CONFIG, data).and_then(|config| {
        let unit = templates.render(templates::UNIT, data)?;
        Ok(Rendered { config: environment::set(&config, &env), unit })
    });
    match files {
        Ok(files) => {
            let problems = environment::problems(&files.config, &env, minor).into_iter();
            let problems: Vec<_> = problems.map(|problem| problem.on(&node.name)).collect();
            let is_fine = problems.iter().all(|problem| problem.severity != Severity::Error);
            (is_fine.then_some(files), problems)
        }
        Err(error) => {
            (None, vec![ToolResult::error(Code::Template, error.to_string()).on(&node.name)])
        }
    }
}

/// What was rendered for a node.
struct Rendered {
    config: String,
    unit: String,
}

impl Rendered {
    fn put(self, document: &mut Document, at: usize) {
        let settings = document.settings(&document.nodes[at]);
        let node = &mut document.nodes[at];
        node.set_user(settings.system_user());
        for path in [Some(&settings.data_dir), settings.wal_dir.as_ref()].into_iter().flatten() {
            node.set_directory(directory(path, "0700", &settings.user));
        }
        node.set_directory(directory(&settings.config_dir, "0755", "root"));
        node.set_file(File {
            path: layout::config_file(&settings.config_dir),
            mode: "0644".into(),
            owner: "root".into(),
            group: "root".into(),
            absent: false,
            content: Some(self.config),
            local: None,
            sha256: None,
            pending: false,
        });
        node.set_unit(Unit {
            name: layout::UNIT.into(),
            enabled: Some(true),
            started: None,
            content: self.unit,
            status: None,
        });
    }
}

fn directory(path: &str, mode: &str, owner: &str) -> Directory {
    let owner = owner.to_owned();
    Directory { path: path.into(), mode: mode.into(), group: owner.clone(), owner }
}
