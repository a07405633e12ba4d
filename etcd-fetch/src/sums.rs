//! SHA-256 sums: the mirror's `SHA256SUMS`, and those that the user pins.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use anyhow::Result;
use pipeline::Error;
use pipeline::document::Arch;

/// The sum that `listing`, in the form of `sha256sum`, has for `file`, in lower-case hex.
pub(crate) fn listed(listing: &str, file: &str) -> Option<String> {
    let sum_of = |line: &str| {
        let (sum, name) = line.trim().split_once(char::is_whitespace)?;
        let name = name.trim_start().trim_start_matches('*').trim_start_matches("./");
        (name == file).then(|| hex_sum(sum)).flatten()
    };
    listing.lines().find_map(sum_of)
}

fn hex_sum(text: &str) -> Option<String> {
    let good = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    good.then(|| text.to_ascii_lowercase())
}

/// A sum that the user expects: of one architecture, or of the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin {
    arch: Option<Arch>,
    sum: String,
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (arch, sum) = match text.split_once('=') {
            Some((arch, sum)) => (Some(arch.parse()?), sum),
            None => (None, text),
        };
        let sum = hex_sum(sum).ok_or("expected 64 hex digits, or ARCH= and 64 hex digits")?;
        Ok(Self { arch, sum })
    }
}

/// The pinned sum of each architecture. Those of architectures that are not
/// among `archs` are left unused: one list of pins serves every cluster.
///
/// A pin that could be of several architectures, two that differ, and an architecture
/// without one where there are pins, are a usage error.
pub(crate) fn pinned(pins: &[Pin], archs: &BTreeSet<Arch>) -> Result<BTreeMap<Arch, String>> {
    let mut sums = BTreeMap::new();
    for pin in pins {
        let only = archs.first().filter(|_| archs.len() == 1);
        let arch = *pin.arch.as_ref().or(only).ok_or_else(|| {
            let names: Vec<_> = archs.iter().map(|arch| arch.name()).collect();
            Error::usage(format!(
                "--sha256: {}: pass one for each, e.g. {}={}",
                names.join(" and "),
                names.first().unwrap_or(&"amd64"),
                pin.sum
            ))
        })?;
        if sums.insert(arch, pin.sum.clone()).is_some_and(|other| other != pin.sum) {
            return Err(Error::usage(format!("--sha256: two different sums for {arch}")).into());
        }
    }
    let unpinned = archs.iter().find(|arch| !pins.is_empty() && !sums.contains_key(arch));
    if let Some(arch) = unpinned {
        let message = format!("--sha256: none is for {arch}: pass one for each architecture");
        return Err(Error::usage(message).into());
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

    #[test]
    fn a_listing_is_read_as_sha256sum_writes_it() {
        let listing = format!("{A}  x.tar.gz\r\n{B} *y.tar.gz\nshort  z\n\n{A}  ./w\n");
        let sum = |file| listed(&listing, file);
        assert_eq!(sum("x.tar.gz").as_deref(), Some(A));
        assert_eq!(sum("y.tar.gz"), Some(B.to_lowercase()));
        assert_eq!(sum("w").as_deref(), Some(A));
        assert_eq!(sum("z"), None);
        assert_eq!(sum("tar.gz"), None);
    }

    #[test]
    fn pins_are_of_one_architecture() {
        let pins = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<Pin>>();
        let one = BTreeSet::from([Arch::Arm64]);
        let two = BTreeSet::from([Arch::Amd64, Arch::Arm64]);
        assert_eq!(pinned(&pins(&[A]), &one).unwrap()[&Arch::Arm64], A);
        let each = pinned(&pins(&[&format!("amd64={A}"), &format!("arm64={B}")]), &two).unwrap();
        assert_eq!((each[&Arch::Amd64].as_str(), each[&Arch::Arm64].len()), (A, 64));
        assert_eq!(
            pinned(&pins(&[A]), &two).unwrap_err().to_string(),
            format!("--sha256: amd64 and arm64: pass one for each, e.g. amd64={A}")
        );
        assert_eq!(
            pinned(&pins(&[A, &format!("arm64={B}")]), &one).unwrap_err().to_string(),
            "--sha256: two different sums for arm64"
        );
        assert_eq!(
            pinned(&pins(&[&format!("arm64={A}")]), &two).unwrap_err().to_string(),
            "--sha256: none is for amd64: pass one for each architecture"
        );
        assert!(pinned(&[], &two).unwrap().is_empty());
        assert_eq!(
            "amd64=12".parse::<Pin>().unwrap_err(),
            "expected 64 hex digits, or ARCH= and 64 hex digits"
        );
        assert_eq!(
            format!("sparc={A}").parse::<Pin>().unwrap_err(),
            "\"sparc\" is none of amd64, arm64, ppc64le, s390x"
        );
    }
}
