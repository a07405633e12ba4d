//! `etcd-snapshot verify`: are these snapshots intact?

use std::path::{Path, PathBuf};

use anyhow::Result;
use indicatif::BinaryBytes;
use pipeline::{Code, Run, ToolResult};
use snapshot::{Error, Summary, Trailer, check};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub files: Files,
}

/// The snapshots to read.
#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    /// The snapshot files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Accept files without the SHA-256 at their end, such as a copy of
    /// member/snap/db: their pages alone are checked
    #[arg(long)]
    pub no_trailer: bool,
}

impl Files {
    /// Checks each file; reports those that are not intact, gives the others.
    pub(crate) fn intact<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = (&'a Path, Summary)> {
        let trailer = Trailer::required(!self.no_trailer);
        self.files.iter().filter_map(move |path| match check(path, trailer) {
            Ok(summary) => Some((path.as_path(), summary)),
            Err(error) => {
                run.report(not_intact(path, &error));
                None
            }
        })
    }
}

pub(crate) fn verify(run: &Run, args: &Args) -> Result<()> {
    for (path, summary) in args.files.intact(run) {
        let message = format!("{}: intact: {}", path.display(), in_words(&summary));
        run.report(ToolResult::unchanged(Code::Intact, message));
    }
    Ok(())
}

/// What a snapshot holds, in a few words.
pub(crate) fn in_words(summary: &Summary) -> String {
    let keys = if summary.total_keys == 1 { "key" } else { "keys" };
    // What is stored is a minor version: its patch is always 0.
    let minor = |v: &str| v.strip_suffix(".0").unwrap_or(v).to_owned();
    let version = summary.version().map(|v| format!(", etcd {}", minor(v))).unwrap_or_default();
    let size = BinaryBytes(summary.size_bytes);
    format!("revision {}, {} {keys}, {size}{version}", summary.revision, summary.total_keys)
}

/// The error of a file that is not intact, or could not be read.
pub(crate) fn not_intact(path: &Path, error: &Error) -> ToolResult {
    let (code, advice) = match error {
        Error::Io(_) | Error::NotAFile => (Code::Failed, ""),
        Error::NoTrailer => (Code::BrokenSnapshot, ": pass --no-trailer to accept it"),
        _ => (Code::BrokenSnapshot, ""),
    };
    ToolResult::error(code, format!("{}: {error}{advice}", path.display()))
}
