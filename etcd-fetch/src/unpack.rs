//! The binaries for the operator's own machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use etcd::Version;
use pipeline::document::{Arch, Binary};
use pipeline::{Code, Error, Run, ToolResult, disk};

use crate::archive;
use crate::cache::Cache;
use crate::download::remove;
use crate::fetch::Package;

/// The architecture of this machine. An error when etcd has no release for it.
pub(crate) fn own_arch() -> Result<Arch> {
    let machine = match std::env::consts::ARCH {
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        machine => machine,
    };
    Arch::of_machine(machine).ok_or_else(|| {
        Error::usage(format!("etcd has no release for this machine ({machine})")).into()
    })
}

/// Puts the binaries of `package` into `folder`, those that are not there yet.
/// With `--check` there may be no package yet.
pub(crate) fn unpack(
    run: &Run,
    cache: &Cache,
    version: Version,
    package: Option<&Package>,
    folder: &Path,
) -> Result<()> {
    let shown = folder.display();
    let Some(package) = package else {
        run.report(ToolResult::would_change(format!("{shown}: would unpack {version}")));
        return Ok(());
    };
    let mut missing = find_missing(&package.binaries, folder)?;
    let stale = stale_temps(&package.binaries, folder);
    let _lock = if run.check() || (missing.is_empty() && stale.is_empty()) {
        None
    } else {
        let lock = cache.unpack_lock()?;
        // Another process may have been at work in the meantime.
        missing = find_missing(&package.binaries, folder)?;
        for path in stale_temps(&package.binaries, folder) {
            remove(&path)?;
        }
        Some(lock)
    };
    if missing.is_empty() {
        let message = format!("{shown}: already holds {version}");
        run.report(ToolResult::unchanged(Code::Unpacked, message));
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|binary| binary.name.as_str()).collect();
    let names = names.join(", ");
    if run.check() {
        let message = format!("{shown}: would unpack {names} of {version}");
        run.report(ToolResult::would_change(message));
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("{shown}: making the folder"))?;
    archive::unpack(&package.path, &archive::folder(version, package.arch), &missing, folder)
        .with_context(|| package.path.display().to_string())?;
    run.report(ToolResult::changed(
        Code::Unpacked,
        format!("{shown}: unpacked {names} of {version}"),
    ));
    Ok(())
}

/// The temporary files that an interrupted run left in `folder`.
fn stale_temps(binaries: &[Binary], folder: &Path) -> Vec<PathBuf> {
    let temps = binaries.iter().map(|binary| disk::beside(&folder.join(&binary.name)));
    temps.filter(|path| path.symlink_metadata().is_ok()).collect()
}

/// Those of `binaries` that are not in `folder`, executable by everybody.
fn find_missing(binaries: &[Binary], folder: &Path) -> Result<Vec<Binary>> {
    let mut missing = Vec::new();
    for binary in binaries {
        let path = folder.join(&binary.name);
        let good = fs::metadata(&path)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o7777 == 0o755);
        if !good || disk::sha256_of(&path)? != binary.sha256 {
            missing.push(binary.clone());
        }
    }
    Ok(missing)
}
