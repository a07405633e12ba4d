//! A release's archive: what may be in it, and what is taken out of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use etcd::Version;
use flate2::read::MultiGzDecoder;
use pipeline::document::{Arch, Binary};
use sha2::{Digest, Sha256};
use tar::EntryType;

use crate::pieces::pieces;

/// The binaries that a release may hold; `etcdutl` came with 3.5.
const BINARIES: [&str; 3] = ["etcd", "etcdctl", "etcdutl"];
/// Those without which it is not a release.
const REQUIRED: [&str; 2] = ["etcd", "etcdctl"];

/// The name of the only folder in the archive, e.g. `etcd-v3.5.16-linux-amd64`.
pub(crate) fn folder(version: Version, arch: Arch) -> String {
    format!("etcd-{version}-linux-{arch}")
}

/// Looks at every entry of the archive `path` and gives the binaries in it.
///
/// An entry that leaves `folder`, or could make a later one leave it, is an
/// error, and so is an archive without `etcd` or `etcdctl`. Errors begin with
/// the entry; whoever calls knows how to call the archive.
pub(crate) fn inspect(path: &Path, folder: &str) -> Result<Vec<Binary>> {
    let mut binaries: Vec<Binary> = Vec::new();
    walk(path, folder, |name, content| {
        let first = binaries.iter().all(|binary| binary.name != name);
        ensure!(first, "{folder}/{name}: it appears twice");
        binaries.push(Binary { name: name.into(), sha256: copy(name, content, &mut io::sink())? });
        Ok(())
    })?;
    for name in REQUIRED {
        let found = binaries.iter().any(|binary| binary.name == name);
        ensure!(found, "{folder}/{name}: missing: not a release of etcd");
    }
    binaries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(binaries)
}

/// Puts those of `binaries` that are not yet in the folder `target` there, each
/// at once and with mode 0755.
pub(crate) fn unpack(path: &Path, folder: &str, binaries: &[Binary], target: &Path) -> Result<()> {
    walk(path, folder, |name, content| {
        let Some(binary) = binaries.iter().find(|binary| binary.name == name) else {
            return Ok(());
        };
        pipeline::disk::write_with(&target.join(name), 0o755, |file| {
            let sha256 = copy(name, content, file)?;
            ensure!(sha256 == binary.sha256, "the archive changed in the meantime: run again");
            Ok(())
        })
    })
}

/// Calls `each` with the name and the content of every binary, in the archive's order.
fn walk(
    path: &Path,
    folder: &str,
    mut each: impl FnMut(&str, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let file = File::open(path).context("opening")?;
    let mut archive = tar::Archive::new(MultiGzDecoder::new(io::BufReader::new(file)));
    for entry in archive.entries().context("reading")? {
        let mut entry = entry.context("reading")?;
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let name = entry.path().context("reading")?.into_owned();
        let link = entry.link_name().context("reading")?;
        check(&name, kind, link.as_deref(), folder)?;
        let inner = plain(&name).strip_prefix(folder).map(Path::to_owned).unwrap_or_default();
        match inner.to_str().filter(|inner| BINARIES.contains(inner)) {
            Some(_) if !kind.is_file() => bail!("{}: not a regular file", name.display()),
            Some(binary) => each(binary, &mut entry)?,
            None => {}
        }
    }
    Ok(())
}

/// Whether an entry stays in `folder`, for whoever unpacks the archive.
fn check(name: &Path, kind: EntryType, link: Option<&Path>, folder: &str) -> Result<()> {
    let shown = name.display();
    ensure!(stays(name), "{shown}: the entry leaves its folder");
    ensure!(plain(name).starts_with(folder), "{shown}: the entry is not in {folder}");
    let target = link.unwrap_or(Path::new("")).display();
    match kind {
        EntryType::Regular | EntryType::Directory => Ok(()),
        // A link that only goes down cannot lead out, not even through other links.
        EntryType::Symlink if link.is_some_and(stays) => Ok(()),
        EntryType::Link if link.is_some_and(|to| stays(to) && plain(to).starts_with(folder)) => {
            Ok(())
        }
        EntryType::Symlink | EntryType::Link => {
            bail!("{shown}: a link out of its folder: {target}")
        }
        _ => bail!("{shown}: neither a file nor a folder nor a link"),
    }
}

/// Whether `path` is relative and never goes up.
fn stays(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// `path` without its `.` parts.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// Copies `content`, called `name` in errors, and gives its SHA-256 in hex.
fn copy(name: &str, content: &mut dyn Read, to: &mut dyn Write) -> Result<String> {
    let mut hash = Sha256::new();
    pieces(content, name, &mut |piece| {
        hash.update(piece);
        Ok(to.write_all(piece)?)
    })?;
    Ok(hex::encode(hash.finalize()))
}
