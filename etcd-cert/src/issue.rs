//! `etcd-cert issue`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use pipeline::document::{Directory, Document, File};
use pipeline::{Code, Error, Run, ToolResult, disk};
use time::{Duration, OffsetDateTime};

use crate::authority::Authority;
use crate::check::REPLACE;
use crate::folder::Folder;
use crate::leaf::{self, Demands, Leaf, State};
use crate::{Client, Issue, Term, change, expiry, protect_key};

/// Who certificates are issued to: a node, or the operator and kube-apiserver.
struct Subject {
    /// The node's place in the document, and its name.
    node: Option<(usize, String)>,
    leaves: Vec<Leaf>,
}

/// A run on all subjects.
struct Issuing<'a> {
    run: &'a Run,
    demands: Demands<'a>,
    /// When a new certificate expires.
    not_after: OffsetDateTime,
}

/// Issues what is missing or does not fit, and puts the files of each node
/// into the document.
pub(crate) fn run(run: &mut Run, folder: &Folder, issue: &Issue) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    issue.term.check(now)?;
    let (authority, _lock) = issue.ca.prepare(run, folder, now)?;
    let issuing = issue.term.issuing(run, &authority, now)?;
    let subjects = subjects(run, folder, &issue.san)?;
    issuing.require_key(&subjects)?;
    remove_stale_temps(run, folder)?;
    let ca_changed = authority.save(run)? | protect_key(run, None, &folder.ca())?;
    issuing.warn_of_ca()?;
    authority.warn_of_lost_key(run);
    let served: Vec<_> =
        subjects.iter().map(|subject| issuing.process(subject, ca_changed)).collect();
    for (subject, leaves) in subjects.iter().zip(served) {
        if let (Some((at, _)), Some(leaves)) = (&subject.node, leaves) {
            place(&mut run.document, *at, folder, &leaves, run.common.check)?;
        }
    }
    Ok(())
}

/// Issues the client certificate that `args` name, where it is missing or does not fit.
pub(crate) fn client(run: &Run, folder: &Folder, args: &Client) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    args.term.check(now)?;
    // Whoever asks for a client has a cluster: nothing is made in a wrong folder.
    Authority::load(folder)?.require_usable(now)?;
    let _lock = folder.lock(run.check())?;
    let authority = Authority::load(folder)?;
    let issuing = args.term.issuing(run, &authority, now)?;
    let clients = Subject { node: None, leaves: vec![leaf::client(folder, &args.name)] };
    issuing.require_key(std::slice::from_ref(&clients))?;
    issuing.warn_of_ca()?;
    for leaf in &clients.leaves {
        if issuing.ensure_issued(leaf, None)? == Step::Kept {
            let message = format!("{} unchanged", leaf.label);
            run.report(ToolResult::unchanged(Code::Unchanged, message));
        }
    }
    Ok(())
}

impl Term {
    fn check(&self, now: OffsetDateTime) -> Result<()> {
        expiry("--validity", now, self.validity)?;
        if self.validity <= self.renew_before {
            let message = "--validity: not longer than --renew-before: every run would reissue";
            return Err(Error::usage(message).into());
        }
        Ok(())
    }

    fn issuing<'a>(
        &self,
        run: &'a Run,
        authority: &'a Authority,
        now: OffsetDateTime,
    ) -> Result<Issuing<'a>> {
        let renew_before = Duration::try_from(self.renew_before)?;
        let demands = Demands { authority, now, renew_before, more_names: false };
        Ok(Issuing { run, demands, not_after: expiry("--validity", now, self.validity)? })
    }
}

fn subjects(run: &Run, folder: &Folder, san: &[String]) -> Result<Vec<Subject>> {
    let of_node = |at: usize| {
        let node = &run.document.nodes[at];
        let leaves = leaf::of_node(folder, &node.name, &leaf::names(node, san));
        Subject { node: Some((at, node.name.clone())), leaves }
    };
    let clients = Subject { node: None, leaves: leaf::clients(folder)? };
    Ok(run.selected().into_iter().map(of_node).chain([clients]).collect())
}

/// Removes what interrupted runs left: it may be a key.
fn remove_stale_temps(run: &Run, folder: &Folder) -> Result<()> {
    let stale = folder.stale_temps()?;
    if stale.is_empty() {
        return Ok(());
    }
    let what = match stale.len() {
        1 => "1 temporary file left by an interrupted run".to_owned(),
        count => format!("{count} temporary files left by an interrupted run"),
    };
    if run.check() {
        run.report(ToolResult::would_change(format!("would remove {what}")));
        return Ok(());
    }
    for path in stale {
        fs::remove_file(&path).with_context(|| format!("{}: removing", path.display()))?;
    }
    run.report(ToolResult::changed(Code::Cleaned, format!("removed {what}")));
    Ok(())
}

impl Subject {
    fn name(&self) -> Option<&str> {
        self.node.as_ref().map(|(_, name)| name.as_str())
    }
}

impl Issuing<'_> {
    /// Without the CA's key, nothing may have to be issued.
    fn require_key(&self, subjects: &[Subject]) -> Result<()> {
        let Err(error) = self.demands.authority.key() else { return Ok(()) };
        for subject in subjects {
            let lacking = |leaf: &&Leaf| {
                matches!(
                    leaf.state(&self.demands),
                    Ok(State::Bad(_) | State::Due(_) | State::Missing)
                )
            };
            if let Some(leaf) = subject.leaves.iter().find(lacking) {
                let node = subject.name().map(|name| format!("{name}: ")).unwrap_or_default();
                return Err(error.context(format!("{node}{} cannot be issued", leaf.label)));
            }
        }
        Ok(())
    }

    fn warn_of_ca(&self) -> Result<()> {
        let ca = self.demands.authority.current()?;
        if ca.not_after - self.demands.now <= self.demands.renew_before {
            let message = format!("CA expires {}: {REPLACE}", ca.expiry(self.demands.now));
            self.run.report(ToolResult::warning(Code::CaDue, message));
        }
        Ok(())
    }

    /// Issues what `subject` lacks, and reports it. Gives its certificates, each with
    /// whether it is pending, as with `--check`; nothing when that failed.
    fn process<'a>(&self, subject: &'a Subject, ca_changed: bool) -> Option<Vec<Placed<'a>>> {
        let mut in_place = Vec::new();
        let mut changed = ca_changed && subject.node.is_none();
        for leaf in &subject.leaves {
            match self.ensure_issued(leaf, subject.name()) {
                Ok(step) => {
                    changed |= step != Step::Kept;
                    in_place.push((leaf, step == Step::Issued && self.run.check()));
                }
                Err(error) => {
                    let error = ToolResult::error(Code::Failed, format!("{error:#}"));
                    self.run.report(error.of(subject.name()));
                    return None;
                }
            }
        }
        if !changed {
            let whose = if subject.node.is_some() { "" } else { "CA and client " };
            let message = format!("{whose}certificates unchanged");
            self.run.report(ToolResult::unchanged(Code::Unchanged, message).of(subject.name()));
        }
        Some(in_place)
    }

    /// Issues `leaf` where that is needed. With `--check` nothing is written.
    fn ensure_issued(&self, leaf: &Leaf, node: Option<&str>) -> Result<Step> {
        let (done, why) = match leaf.state(&self.demands)? {
            State::Good(_) if protect_key(self.run, node, &leaf.pair)? => {
                return Ok(Step::Protected);
            }
            State::Good(_) => return Ok(Step::Kept),
            State::Bad(why) | State::Due(why) => (Code::Reissued, why),
            State::Missing => (Code::Issued, String::new()),
        };
        if !self.run.check() {
            let Demands { authority, now, .. } = self.demands;
            let not_after = leaf.kept_term(authority).map_or(self.not_after, |term| now + term);
            leaf.issue(authority, now, not_after)?;
        }
        self.run.report(change(self.run, &leaf.label, done, &why).of(node));
        Ok(Step::Issued)
    }
}

/// A certificate, and whether it is pending.
type Placed<'a> = (&'a Leaf, bool);

/// What became of a certificate, or with `--check` would.
#[derive(PartialEq)]
enum Step {
    Kept,
    Protected,
    Issued,
}

/// Puts what belongs on the node at `at` into the document. With `check` a CA that is not
/// there would have been made.
fn place(
    document: &mut Document,
    at: usize,
    folder: &Folder,
    leaves: &[Placed],
    check: bool,
) -> Result<()> {
    let Some(node) = document.nodes.get(at) else { return Ok(()) };
    let settings = document.settings(node);
    let user = settings.user.as_str();
    let file = |local: &Path, mode: &str, owner: &str, pending: bool| -> Result<File> {
        let name = local.file_name().unwrap_or_default().to_string_lossy();
        Ok(File {
            path: format!("{}/{name}", settings.cert_dir),
            mode: mode.into(),
            owner: owner.into(),
            group: owner.into(),
            absent: false,
            content: None,
            sha256: if pending { None } else { Some(disk::sha256_of(local)?) },
            local: Some(folder.absolute(local)),
            pending,
        })
    };
    let mut files = Vec::new();
    let ca = folder.ca().cert;
    files.push(file(&ca, "0644", "root", check && !ca.exists())?);
    for (leaf, pending) in leaves {
        files.push(file(&leaf.pair.cert, "0644", "root", *pending)?);
        files.push(file(&leaf.pair.key, "0600", user, *pending)?);
    }
    let node = &mut document.nodes[at];
    node.set_user(settings.system_user());
    node.set_directory(Directory {
        path: settings.cert_dir.clone(),
        mode: "0750".into(),
        owner: "root".into(),
        group: user.into(),
    });
    files.into_iter().for_each(|file| node.set_file(file));
    Ok(())
}
