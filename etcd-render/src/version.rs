//! The release that a configuration is rendered for.

use std::str::FromStr;

use anyhow::Result;
use pipeline::{Document, Error};

/// The minors of etcd 3 whose settings are known here.
const MINORS: [u32; 4] = [4, 5, 6, 7];

/// A release of etcd 3 whose form of the settings is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The release, as `v3.5.16`.
    pub name: String,
    /// 5, of `v3.5.16`.
    pub minor: u32,
}

impl Version {
    /// The version that `document` is for, else `given`. Two that differ are an error.
    pub fn of(document: &Document, given: Option<&Version>) -> Result<Self> {
        let cluster = document.cluster.as_ref().and_then(|c| c.version.as_deref());
        let release = document.release.as_ref().map(|r| r.version.as_str());
        match (cluster.or(release), given) {
            (Some(found), Some(given)) if found != given.name => Err(Error::usage(format!(
                "--etcd-version {}: the document is for {found}: leave the flag out",
                given.name
            ))
            .into()),
            (Some(found), _) => {
                let refused = |why| Error::bad_input(format!("cluster.version: {found}: {why}"));
                Ok(found.parse().map_err(refused)?)
            }
            (None, Some(given)) => Ok(given.clone()),
            (None, None) => Err(Error::usage(
                "cluster.version: not set: put etcd-fetch before this stage, \
                 or give the release, as --etcd-version v3.5.16",
            )
            .into()),
        }
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let numbers: Option<Vec<u32>> = name
            .strip_prefix('v')
            .and_then(|v| v.split('.').map(|part| part.parse().ok()).collect());
        match numbers.as_deref() {
            Some(&[3, minor, _]) if MINORS.contains(&minor) => {
                Ok(Self { name: name.to_owned(), minor })
            }
            Some([_, _, _]) => {
                Err("the settings of this release are not known, only those of etcd 3.4, 3.5, \
                     3.6 and 3.7"
                    .into())
            }
            _ => Err("expected a version as v3.5.16".into()),
        }
    }
}
