//! Versions of etcd, and what is known of them.

use std::fmt;
use std::str::FromStr;

/// A release of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

const fn version(major: u32, minor: u32, patch: u32) -> Version {
    Version { major, minor, patch }
}

// The newest known release of each minor that etcd supports.
const NEWEST_3_5: Version = version(3, 5, 33);
const NEWEST_3_6: Version = version(3, 6, 14);
const NEWEST_3_7: Version = version(3, 7, 1);

/// The release to take when nothing says which.
pub(crate) const DEFAULT: Version = NEWEST_3_6;

/// The minor of Kubernetes 1 from which on a release is the one to take, as in
/// the tables of kops and kubeadm. Newest first.
const FOR_KUBERNETES: [(u32, Version); 3] = [(37, NEWEST_3_7), (34, NEWEST_3_6), (0, NEWEST_3_5)];

/// What there is to say about a release before it is used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    /// It is known to corrupt data.
    Unsafe,
    /// etcd no longer repairs it.
    Unsupported,
    /// Kubernetes wants a newer one.
    OldForKubernetes,
}

impl Version {
    /// The worst that is known of the release.
    pub(crate) fn concern(self) -> Option<Concern> {
        match self {
            // etcd's post-mortem of 2022: the consistent index could run ahead of the data.
            v if v >= version(3, 5, 0) && v <= version(3, 5, 2) => Some(Concern::Unsafe),
            v if v < version(3, 5, 0) => Some(Concern::Unsupported),
            // The first 3.5 that serves /livez and /readyz.
            v if v < version(3, 5, 11) => Some(Concern::OldForKubernetes),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match numbers(text).as_deref() {
            Some([major, minor, patch]) => Ok(version(*major, *minor, *patch)),
            _ => Err("expected a version such as v3.5.16".into()),
        }
    }
}

/// A minor release of Kubernetes 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kubernetes {
    minor: u32,
}

impl Kubernetes {
    /// The newest known etcd that goes with it.
    pub(crate) fn etcd(self) -> Version {
        let fits = |(from, _): &&(u32, Version)| *from <= self.minor;
        FOR_KUBERNETES.iter().find(fits).map_or(DEFAULT, |(_, version)| *version)
    }
}

impl fmt::Display for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}

impl FromStr for Kubernetes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match numbers(text).as_deref() {
            Some([1, minor] | [1, minor, _]) => Ok(Self { minor: *minor }),
            _ => Err("expected a version of Kubernetes such as 1.33".into()),
        }
    }
}

/// The numbers between the dots; none when a part is not a number.
fn numbers(text: &str) -> Option<Vec<u32>> {
    let digits = |part: &&str| part.bytes().all(|b| b.is_ascii_digit());
    let parts = text.strip_prefix('v').unwrap_or(text).split('.');
    parts.map(|part| Some(part).filter(digits).and_then(|part| part.parse().ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_the_v() {
        for text in ["v3.5.16", "3.5.16"] {
            assert_eq!(text.parse(), Ok(version(3, 5, 16)), "{text}");
        }
        assert_eq!(version(3, 5, 16).to_string(), "v3.5.16");
        for text in ["", "v", "3.5", "v3.5.16-rc.1", "vv3.5.1", "3.5.+1", "3..1", "3.5.99999999999"]
        {
            let error = text.parse::<Version>().unwrap_err();
            assert_eq!(error, "expected a version such as v3.5.16", "{text}");
        }
    }

    #[test]
    fn kubernetes_picks_the_newest_that_fits() {
        for (kubernetes, etcd) in [
            ("1.18", "v3.5.33"),
            ("1.33", "v3.5.33"),
            ("v1.33.4", "v3.5.33"),
            ("1.34", "v3.6.14"),
            ("1.36", "v3.6.14"),
            ("1.37", "v3.7.1"),
            ("1.99", "v3.7.1"),
        ] {
            let picked = kubernetes.parse::<Kubernetes>().unwrap().etcd();
            assert_eq!(picked.to_string(), etcd, "{kubernetes}");
        }
        for text in ["1", "2.1", "1.33.1.1", "latest"] {
            let error = text.parse::<Kubernetes>().unwrap_err();
            assert_eq!(error, "expected a version of Kubernetes such as 1.33", "{text}");
        }
    }

    #[test]
    fn concerns_begin_and_end_at_the_right_release() {
        for (text, concern) in [
            ("3.4.45", Some(Concern::Unsupported)),
            ("3.5.0", Some(Concern::Unsafe)),
            ("3.5.2", Some(Concern::Unsafe)),
            ("3.5.3", Some(Concern::OldForKubernetes)),
            ("3.5.10", Some(Concern::OldForKubernetes)),
            ("3.5.11", None),
            ("3.6.0", None),
        ] {
            assert_eq!(text.parse::<Version>().unwrap().concern(), concern, "{text}");
        }
    }
}
