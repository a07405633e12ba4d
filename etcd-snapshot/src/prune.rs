//! `etcd-snapshot prune`: remove the snapshots that no rule keeps.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pipeline::{Code, Error, Run, ToolResult};
use snapshot::{Trailer, check, check_size};
use time::OffsetDateTime;

use crate::name::Name;
use crate::retention::Rules;
use crate::verify::not_intact;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the snapshots
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    rules: Rules,
}

/// A snapshot in the folder.
struct Found {
    path: PathBuf,
    taken_at: OffsetDateTime,
}

pub(crate) fn prune(run: &Run, args: &Args) -> Result<()> {
    if args.rules.is_empty() {
        let message = "no rule, nothing would be kept: pass --keep-last, --keep-hourly, \
                       --keep-daily, --keep-weekly, --keep-monthly, --keep-yearly or --keep-within";
        return Err(Error::usage(message).into());
    }
    let mut found = snapshots(&args.folder)?;
    // One that is cut off must push no good one out.
    found.retain(|one| match check_size(&one.path) {
        Ok(()) => true,
        Err(error) => {
            let message = format!("{}: not counted, and kept: {error}", one.path.display());
            run.report(ToolResult::warning(Code::BrokenSnapshot, message));
            false
        }
    });
    let now = OffsetDateTime::now_utc();
    let (future, past): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.taken_at > now);
    for one in &future {
        let message = format!(
            "{}: kept, its time lies in the future: compare the clocks",
            one.path.display()
        );
        run.report(ToolResult::warning(Code::FutureSnapshot, message));
    }
    let times: Vec<_> = past.iter().map(|one| one.taken_at).collect();
    let reasons = args.rules.reasons(&times);
    let (mut kept, mut removed) = (future.len(), Vec::new());
    for (one, reasons) in past.iter().zip(&reasons) {
        if reasons.is_empty() {
            removed.push(one);
        } else {
            run.detail(&format!("keep {} ({})", one.path.display(), reasons.join(", ")));
            kept += 1;
        }
    }
    if !removed.is_empty() {
        let Some(good) = newest_intact(run, &past) else {
            let message = format!(
                "{}: nothing removed: none of its {} snapshots is intact",
                args.folder.display(),
                past.len()
            );
            run.report(ToolResult::error(Code::BrokenSnapshot, message));
            return Ok(());
        };
        let before = removed.len();
        removed.retain(|one| one.path != good.path);
        if removed.len() < before {
            run.detail(&format!("keep {} (the newest intact one)", good.path.display()));
            kept += 1;
        }
    }
    remove(run, &args.folder, &removed, kept)
}

fn remove(run: &Run, folder: &Path, removed: &[&Found], kept: usize) -> Result<()> {
    for one in removed {
        let path = one.path.display();
        if run.check() {
            run.report(ToolResult::would_change(format!("{path}: would be removed")));
            continue;
        }
        match fs::remove_file(&one.path) {
            // Another run was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            removed => removed.with_context(|| format!("{path}: removing"))?,
        }
        run.report(ToolResult::changed(Code::Pruned, format!("{path}: removed")));
    }
    if !run.check() && !removed.is_empty() {
        let syncing = || format!("{}: syncing", folder.display());
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(syncing)?;
    }
    if removed.is_empty() {
        let message = format!("{}: nothing to remove, {kept} kept", folder.display());
        run.report(ToolResult::unchanged(Code::UpToDate, message));
    }
    Ok(())
}

/// The newest snapshot that verifies; what is newer and does not is warned of.
fn newest_intact<'a>(run: &Run, newest_first: &'a [Found]) -> Option<&'a Found> {
    newest_first.iter().find(|one| match check(&one.path, Trailer::Required) {
        Ok(_) => true,
        Err(error) => {
            let message = not_intact(&one.path, &error).message;
            run.report(ToolResult::warning(Code::BrokenSnapshot, message));
            false
        }
    })
}

/// The files in `folder` that are named as `save` names them, newest first.
fn snapshots(folder: &Path) -> Result<Vec<Found>> {
    let reading = || format!("{}: reading", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(Name::parse) else { continue };
        // A link of such a name is not what save has written.
        if entry.file_type().with_context(reading)?.is_file() {
            found.push((name, Found { path: entry.path(), taken_at: name.taken_at }));
        }
    }
    found.sort_by_key(|(name, _)| std::cmp::Reverse((name.taken_at, name.revision)));
    Ok(found.into_iter().map(|(_, found)| found).collect())
}
