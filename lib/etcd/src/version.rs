//! Versions of etcd, and what is known of them.

use std::fmt;
use std::str::FromStr;

/// A release of etcd. Reads `v3.5.16` and `3.5.16`, displays `v3.5.16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    minor: Minor,
    patch: u32,
}

/// A minor version of etcd; displays `3.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minor {
    major: u32,
    minor: u32,
}

/// What there is to say about a release before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// It is known to corrupt data.
    Unsafe,
    /// etcd no longer maintains its minor version.
    Unsupported,
    /// Kubernetes needs a newer one.
    OldForKubernetes,
}

/// A minor version of Kubernetes 1; reads `1.33`, `v1.33` and `v1.33.4`,
/// displays `1.33`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kubernetes {
    minor: u32,
}

/// The oldest and the newest version of Kubernetes for which the etcd that goes
/// with it is known: `SupportedEtcdVersion` in kubeadm's constants. Kubernetes
/// 1.22 was the first to go with etcd 3.5.
pub const KUBERNETES: [Kubernetes; 2] = [Kubernetes { minor: 22 }, Kubernetes { minor: 37 }];

/// The minor version of Kubernetes 1 from which on it goes with a minor version
/// of etcd, newest first (kubeadm's constants, kops' etcd version table).
const FOR_KUBERNETES: [(u32, Minor); 3] = [(37, Minor::V3_7), (34, Minor::V3_6), (22, Minor::V3_5)];

impl Minor {
    /// etcd 3.4; not maintained since 3.4.45, but still in distributions.
    pub const V3_4: Self = Self { major: 3, minor: 4 };
    /// etcd 3.5.
    pub const V3_5: Self = Self { major: 3, minor: 5 };
    /// etcd 3.6.
    pub const V3_6: Self = Self { major: 3, minor: 6 };
    /// etcd 3.7.
    pub const V3_7: Self = Self { major: 3, minor: 7 };

    /// The minor versions whose settings are known here, oldest first.
    pub const KNOWN: [Self; 4] = [Self::V3_4, Self::V3_5, Self::V3_6, Self::V3_7];

    /// The minor version of a new cluster for which none is given: the one of
    /// the Kubernetes releases that are maintained today.
    pub const DEFAULT: Self = Self::V3_6;

    /// The newest release known of it, as of 2026-11
    /// (<https://github.com/etcd-io/etcd/releases>); none of an unknown minor version.
    pub const fn newest(self) -> Option<Version> {
        match (self.major, self.minor) {
            (3, 4) => Some(self.patch(45)),
            (3, 5) => Some(self.patch(33)),
            (3, 6) => Some(self.patch(16)),
            (3, 7) => Some(self.patch(3)),
            _ => None,
        }
    }

    /// Whether etcd maintains it (<https://etcd.io/docs/latest/op-guide/versioning/>).
    pub fn is_supported(self) -> bool {
        self >= Self::V3_5
    }

    /// Whether its settings are known here.
    pub fn is_known(self) -> bool {
        Self::KNOWN.contains(&self)
    }

    /// The release `patch` of this minor version.
    pub const fn patch(self, patch: u32) -> Version {
        Version { minor: self, patch }
    }

    /// The number after the dot: 5 of 3.5.
    pub const fn number(self) -> u32 {
        self.minor
    }

    /// The minor version before this one; none before 3.0.
    pub const fn previous(self) -> Option<Self> {
        match self.minor.checked_sub(1) {
            Some(minor) => Some(Self { major: self.major, minor }),
            None => None,
        }
    }

    /// The minor version after this one.
    pub const fn next(self) -> Self {
        Self { major: self.major, minor: self.minor + 1 }
    }
}

impl Version {
    /// The release of a new cluster for which none is given: the newest of
    /// [`Minor::DEFAULT`].
    pub const DEFAULT: Self = match Minor::DEFAULT.newest() {
        Some(version) => version,
        None => panic!("the default minor version is not known"),
    };

    /// Its minor version: 3.5 of v3.5.16.
    pub const fn minor(self) -> Minor {
        self.minor
    }

    /// The worst that is known of the release.
    pub fn concern(self) -> Option<Concern> {
        let v3_5 = |patch| Minor::V3_5.patch(patch);
        match self {
            // The consistent index could be persisted ahead of the data:
            // https://github.com/etcd-io/etcd/blob/main/Documentation/postmortems/v3.5-data-inconsistency.md
            v if v >= v3_5(0) && v <= v3_5(2) => Some(Concern::Unsafe),
            v if !v.minor.is_supported() => Some(Concern::Unsupported),
            // The first 3.5 that serves /livez and /readyz (CHANGELOG-3.5).
            v if v < v3_5(11) => Some(Concern::OldForKubernetes),
            _ => None,
        }
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "v{}.{}", self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match numbers(text).as_deref() {
            Some([major, minor, patch]) => Ok(Minor { major: *major, minor: *minor }.patch(*patch)),
            _ => Err("expected a version such as v3.5.16".into()),
        }
    }
}

impl Kubernetes {
    /// The newest known release of etcd that goes with it; none when it is not
    /// among the [known](KUBERNETES).
    pub fn etcd(self) -> Option<Version> {
        let [_, newest] = KUBERNETES;
        let mut fits = FOR_KUBERNETES.iter().filter(|(from, _)| *from <= self.minor);
        let (_, minor) = fits.next().filter(|_| self <= newest)?;
        minor.newest()
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

/// The numbers between the dots; none when a part is not a number without
/// leading zeros.
fn numbers(text: &str) -> Option<Vec<u32>> {
    let number = |part: &str| {
        let digits = part.bytes().all(|b| b.is_ascii_digit());
        let plain = digits && (part == "0" || !part.starts_with('0'));
        plain.then(|| part.parse().ok()).flatten()
    };
    text.strip_prefix('v').unwrap_or(text).split('.').map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_read_with_and_without_the_v() {
        for text in ["v3.5.16", "3.5.16"] {
            assert_eq!(text.parse(), Ok(Minor::V3_5.patch(16)), "{text}");
        }
        assert_eq!(version("3.5.16").to_string(), "v3.5.16");
        assert_eq!(version("v3.6.0").minor().to_string(), "3.6");
        for text in [
            "",
            "v",
            "3.5",
            "v3.5.16-rc.1",
            "vv3.5.1",
            "3.5.+1",
            "3..1",
            "3.5.99999999999",
            "3.05.1",
            "v3.5.16\n",
            "../v3.5.16",
        ] {
            let error = text.parse::<Version>().unwrap_err();
            assert_eq!(error, "expected a version such as v3.5.16", "{text}");
        }
    }

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        assert!(version("3.5.9") < version("3.5.16"));
        assert!(version("3.5.33") < version("3.6.0"));
        assert!(version("3.10.0") > version("3.9.9"));
    }

    #[test]
    fn the_newest_of_each_minor_is_known() {
        let newest = Minor::KNOWN.map(|minor| minor.newest().unwrap().to_string());
        assert_eq!(newest, ["v3.4.45", "v3.5.33", "v3.6.16", "v3.7.3"]);
        assert_eq!(version("3.8.0").minor().newest(), None);
        assert!(!version("3.8.0").minor().is_known());
        assert_eq!(Version::DEFAULT, version("3.6.16"));
    }

    #[test]
    fn kubernetes_picks_the_newest_that_fits() {
        for (kubernetes, etcd) in [
            ("1.21", None),
            ("1.22", Some("v3.5.33")),
            ("1.33", Some("v3.5.33")),
            ("v1.33.4", Some("v3.5.33")),
            ("1.34", Some("v3.6.16")),
            ("1.36", Some("v3.6.16")),
            ("1.37", Some("v3.7.3")),
            ("1.38", None),
        ] {
            let picked = kubernetes.parse::<Kubernetes>().unwrap().etcd();
            assert_eq!(picked, etcd.map(version), "{kubernetes}");
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
            assert_eq!(version(text).concern(), concern, "{text}");
        }
    }
}
