//! `etcd-snapshot status`: what snapshots hold.

use anyhow::Result;
use indicatif::BinaryBytes;
use pipeline::document::Member;
use pipeline::{Run, terminal};
use serde_json::{Value, json};
use snapshot::Summary;

use crate::verify::Files;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// What to write to stdout [default: table on a terminal, else json]
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

const HEADER: [&str; 8] =
    ["FILE", "HASH", "REVISION", "KEYS", "ENTRIES", "SIZE", "VERSION", "MEMBERS"];

pub(crate) fn status(run: &Run, args: &Args) -> Result<()> {
    let usual = terminal::table_or(Format::Table, Format::Json);
    let intact =
        args.files.intact(run).map(|(path, summary)| (path.display().to_string(), summary));
    let text = match args.output.unwrap_or(usual) {
        Format::Table => table(intact.collect()),
        Format::Json => {
            let all: Vec<_> = intact.map(|(path, summary)| in_json(&path, &summary)).collect();
            serde_json::to_string_pretty(&all)? + "\n"
        }
    };
    Ok(terminal::print(&text)?)
}

fn table(rows: Vec<(String, Summary)>) -> String {
    let rows = rows.into_iter().map(|(path, summary)| {
        let members: Vec<_> = summary.members.iter().map(|member| member.name.as_str()).collect();
        [
            path,
            format!("{:08x}", summary.hash),
            summary.revision.to_string(),
            summary.total_keys.to_string(),
            summary.entries.to_string(),
            BinaryBytes(summary.size_bytes).to_string(),
            summary.version().unwrap_or("-").to_owned(),
            members.join(","),
        ]
    });
    pipeline::table(&HEADER, rows, 2..6)
}

fn in_json(path: &str, summary: &Summary) -> Value {
    json!({
        "path": path,
        "sha256": summary.sha256.map(hex::encode),
        "hasTrailer": summary.has_trailer,
        "sizeBytes": summary.size_bytes,
        "hash": summary.hash,
        "revision": summary.revision,
        "totalKeys": summary.total_keys,
        "entries": summary.entries,
        "storageVersion": summary.storage_version,
        "clusterVersion": summary.cluster_version,
        "members": summary.members.iter().map(member).collect::<Vec<_>>(),
    })
}

/// As the document has it.
fn member(member: &snapshot::Member) -> Member {
    Member {
        id: member.id.clone(),
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}
