//! The steps between versions that etcd supports.

use std::fmt;

use crate::{Minor, Version};

/// Why a step between versions is not one that etcd supports, and the way round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRefusal {
    /// The version that stands in the way: one that runs.
    pub from: Version,
    /// The version that was asked for.
    pub to: Version,
    /// The versions to go through, one after the other, from `from` to `to`; empty
    /// where there is no such way.
    pub path: Vec<Version>,
    reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// More than one minor version at once.
    Skips,
    /// Every member must run this release or a newer one of its minor version first.
    Floor(Version),
    /// The lower minor version needs etcd's own downgrade, which is not enabled.
    NotEnabled,
    /// A lower minor version, to which etcd has no downgrade.
    Lower,
    /// A minor version of which these tools know nothing.
    Unknown,
}

/// The oldest minor version that etcd can be brought down from
/// (<https://etcd.io/docs/latest/downgrades/>).
const DOWNGRADES_FROM: Minor = Minor::V3_6;

/// Whether members that run the versions `running` may be brought to `to`, one
/// after the other. Nothing runs: anything goes. `enabled` is the minor version for
/// which all newer members have their data ready, after etcd's own downgrade to it was
/// enabled: each of them names it as its target, and as its storage version.
///
/// Members may run different versions: an upgrade that was interrupted is
/// resumed, or taken back. An upgrade is judged from the lowest, since the version of
/// the cluster is the lowest of its members' (`decideClusterVersion` in etcd's
/// server/etcdserver/version), a downgrade from the highest.
///
/// - One minor version at a time
///   (<https://etcd.io/docs/latest/upgrades/upgrade_3_6/>, "Upgrade requirements").
/// - To 3.6 from 3.5.32 or newer only, to 3.7 from 3.6.11 or newer only; older
///   ones have bugs that a member of the next minor version cannot repair
///   (CHANGELOG-3.6 and CHANGELOG-3.7).
/// - To a lower minor version only by etcd's own downgrade, from 3.6 on, one at a
///   time (<https://etcd.io/docs/latest/downgrades/>). Within a minor version any
///   release may follow any other.
///
/// # Errors
///
/// A [`StepRefusal`], which says what to do instead.
pub fn step(
    running: impl IntoIterator<Item = Version>,
    to: Version,
    enabled: Option<Minor>,
) -> Result<(), StepRefusal> {
    let mut older: Vec<_> = running.into_iter().collect();
    older.sort_unstable();
    let (Some(&lowest), Some(&highest)) = (older.first(), older.last()) else { return Ok(()) };
    older.retain(|version| version.minor() < to.minor());
    let refused = |from, reason, path| Err(StepRefusal { from, to, path, reason });
    if to.minor() < lowest.minor() {
        return match path_down(highest, to) {
            None => refused(highest, Reason::Lower, Vec::new()),
            Some(path) if path.len() > 2 => refused(highest, Reason::Skips, path),
            Some(_) if enabled == Some(to.minor()) => Ok(()),
            Some(path) => refused(highest, Reason::NotEnabled, path),
        };
    }
    // Going on with what runs needs no knowledge of it.
    if older.is_empty() {
        return Ok(());
    }
    if !to.minor().is_known() || !lowest.minor().is_known() {
        return refused(lowest, Reason::Unknown, Vec::new());
    }
    if lowest.minor().next() != to.minor() {
        return refused(lowest, Reason::Skips, path_up(lowest, to));
    }
    match floor(to.minor()) {
        Some(floor) if lowest < floor => refused(lowest, Reason::Floor(floor), path_up(lowest, to)),
        _ => Ok(()),
    }
}

/// The versions that members, which run the versions `running`, have to be brought to, one
/// after the other, `to` at the end; none where all of them run it.
///
/// # Errors
///
/// A [`StepRefusal`] where no way leads there.
pub fn path(
    running: impl IntoIterator<Item = Version>,
    to: Version,
) -> Result<Vec<Version>, StepRefusal> {
    let running: Vec<_> = running.into_iter().collect();
    if !running.is_empty() && running.iter().all(|version| *version == to) {
        return Ok(Vec::new());
    }
    match step(running, to, Some(to.minor())) {
        Ok(()) => Ok(vec![to]),
        Err(refusal) if refusal.path.is_empty() => Err(refusal),
        Err(refusal) => Ok(refusal.path.into_iter().skip(1).collect()),
    }
}

/// The release that every member must run, or a newer one of its minor version,
/// before the first member is brought to `minor`.
fn floor(minor: Minor) -> Option<Version> {
    match minor {
        Minor::V3_6 => Some(Minor::V3_5.patch(32)),
        Minor::V3_7 => Some(Minor::V3_6.patch(11)),
        _ => None,
    }
}

/// The releases to go through from `from` up to `to`, both among them.
fn path_up(from: Version, to: Version) -> Vec<Version> {
    let mut path = vec![from];
    let mut at = from;
    while at.minor() < to.minor() {
        let next = at.minor().next();
        let newest = |minor: Minor| minor.newest().unwrap_or(to);
        at = match floor(next) {
            Some(floor) if at < floor => newest(at.minor()),
            _ if next == to.minor() => to,
            _ => newest(next),
        };
        path.push(at);
    }
    path
}

/// The releases to go through from `from` down to `to`, of a lower minor version, both
/// among them; `None` where etcd has no such downgrade, or nothing is known of it.
fn path_down(from: Version, to: Version) -> Option<Vec<Version>> {
    let between = |minor: &Minor| *minor > to.minor() && *minor < from.minor();
    let known = from.minor().is_known() && to.minor().is_known();
    if !known || to.minor().next() < DOWNGRADES_FROM {
        return None;
    }
    let mut path = vec![from];
    path.extend(Minor::KNOWN.into_iter().rev().filter(between).filter_map(Minor::newest));
    path.push(to);
    Some(path)
}

impl fmt::Display for StepRefusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { from, to, path, reason } = self;
        let (does, go) = match from < to {
            true => ("upgrades", "upgrade"),
            false => ("downgrades", "downgrade"),
        };
        write!(f, "{from} → {to}: ")?;
        match reason {
            Reason::Skips => write!(f, "etcd {does} one minor version at a time")?,
            Reason::Floor(floor) => write!(f, "every member must run {floor} or later first")?,
            Reason::NotEnabled => {
                return write!(
                    f,
                    "etcd brings its data to {} first, when it is told to: run \
                     `etcd-maintain downgrade enable {to}`, or scripts/upgrade, which does all of it",
                    to.minor()
                );
            }
            Reason::Lower => write!(
                f,
                "etcd {} cannot read the data of {}: keep {}, or restore a snapshot that \
                 etcd {} took",
                to.minor(),
                from.minor(),
                from.minor(),
                to.minor()
            )?,
            Reason::Unknown => {
                let [oldest, .., newest] = Minor::KNOWN;
                write!(f, "only the steps from etcd {oldest} to {newest} are known")?;
            }
        }
        if !path.is_empty() {
            let path: Vec<_> = path.iter().map(Version::to_string).collect();
            write!(f, ": {go} {}", path.join(" → "))?;
        }
        Ok(())
    }
}

impl std::error::Error for StepRefusal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(text: &str) -> Vec<Version> {
        text.split_whitespace().map(|version| version.parse().unwrap()).collect()
    }

    /// What is said of a step from `running`, separated by spaces; empty when it is allowed.
    fn refusal(running: &str, to: &str) -> String {
        let refused = step(versions(running), to.parse().unwrap(), None);
        refused.err().map(|refusal| refusal.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_etcd_supports_is_allowed() {
        for (running, to) in [
            ("", "3.7.3"),
            ("3.4.23", "3.5.33"),
            ("3.5.16", "3.5.16"),
            ("3.5.16", "3.5.33"),
            ("3.5.33", "3.5.16"),
            ("3.5.32", "3.6.0"),
            ("3.6.11", "3.7.0"),
            ("3.5.33 3.5.32 3.5.40", "3.6.16"),
            // Of a minor version that is not known the patches are the same.
            ("3.8.0", "3.8.1"),
            // An upgrade that was interrupted: resumed, or taken back.
            ("3.6.16 3.5.33", "3.6.16"),
            ("3.6.16 3.5.33", "3.5.33"),
            ("3.6.16 3.5.16", "3.5.33"),
            ("3.5.16 3.5.33", "3.5.33"),
        ] {
            assert_eq!(refusal(running, to), "", "{running} to {to}");
        }
    }

    #[test]
    fn minors_are_taken_one_at_a_time() {
        for (running, to, expected) in [
            (
                "3.5.16",
                "3.7.3",
                "v3.5.16 → v3.7.3: etcd upgrades one minor version at a time: \
                 upgrade v3.5.16 → v3.5.33 → v3.6.16 → v3.7.3",
            ),
            (
                "3.5.32",
                "3.7.1",
                "v3.5.32 → v3.7.1: etcd upgrades one minor version at a time: \
                 upgrade v3.5.32 → v3.6.16 → v3.7.1",
            ),
            (
                "3.4.23 3.5.33",
                "3.6.0",
                "v3.4.23 → v3.6.0: etcd upgrades one minor version at a time: \
                 upgrade v3.4.23 → v3.5.33 → v3.6.0",
            ),
        ] {
            assert_eq!(refusal(running, to), expected);
        }
    }

    #[test]
    fn the_members_must_be_new_enough_first() {
        for (running, to, expected) in [
            (
                "3.5.33 3.5.31 3.5.32",
                "3.6.16",
                "v3.5.31 → v3.6.16: every member must run v3.5.32 or later first: \
                 upgrade v3.5.31 → v3.5.33 → v3.6.16",
            ),
            (
                "3.6.16 3.5.16",
                "3.6.16",
                "v3.5.16 → v3.6.16: every member must run v3.5.32 or later first: \
                 upgrade v3.5.16 → v3.5.33 → v3.6.16",
            ),
            (
                "3.6.10",
                "3.7.3",
                "v3.6.10 → v3.7.3: every member must run v3.6.11 or later first: \
                 upgrade v3.6.10 → v3.6.16 → v3.7.3",
            ),
        ] {
            assert_eq!(refusal(running, to), expected);
        }
    }

    #[test]
    fn down_only_by_a_downgrade_one_minor_at_a_time() {
        let enable = "etcd brings its data to 3.6 first, when it is told to: run \
                      `etcd-maintain downgrade enable v3.6.16`, or scripts/upgrade, which does \
                      all of it";
        assert_eq!(refusal("3.7.3", "3.6.16"), format!("v3.7.3 → v3.6.16: {enable}"));
        let enabled = |running, to: &str, minor| {
            step(versions(running), to.parse().unwrap(), Some(minor)).is_ok()
        };
        assert!(enabled("3.7.3", "3.6.16", Minor::V3_6));
        assert!(!enabled("3.7.3", "3.6.16", Minor::V3_5));
        assert!(!enabled("3.7.3", "3.5.33", Minor::V3_5));
        // One that was interrupted is resumed, or taken back.
        assert_eq!(refusal("3.7.3 3.6.16", "3.6.16"), "");
        assert_eq!(refusal("3.7.3 3.6.16", "3.7.3"), "");
        for (running, to, expected) in [
            (
                "3.7.3 3.7.1",
                "3.5.33",
                "v3.7.3 → v3.5.33: etcd downgrades one minor version at a time: \
                 downgrade v3.7.3 → v3.6.16 → v3.5.33",
            ),
            (
                "3.5.30",
                "3.4.23",
                "v3.5.30 → v3.4.23: etcd 3.4 cannot read the data of 3.5: keep 3.5, \
                 or restore a snapshot that etcd 3.4 took",
            ),
            (
                "3.6.16",
                "3.4.23",
                "v3.6.16 → v3.4.23: etcd 3.4 cannot read the data of 3.6: keep 3.6, \
                 or restore a snapshot that etcd 3.4 took",
            ),
        ] {
            assert_eq!(refusal(running, to), expected);
        }
    }

    #[test]
    fn no_way_leads_into_the_unknown() {
        for (running, to, expected) in [
            ("3.7.3", "3.8.0", "v3.7.3 → v3.8.0: only the steps from etcd 3.4 to 3.7 are known"),
            (
                "3.3.27",
                "3.4.45",
                "v3.3.27 → v3.4.45: only the steps from etcd 3.4 to 3.7 are known",
            ),
            ("3.5.16", "4.0.0", "v3.5.16 → v4.0.0: only the steps from etcd 3.4 to 3.7 are known"),
        ] {
            assert_eq!(refusal(running, to), expected);
        }
    }

    #[test]
    fn the_path_from_what_runs() {
        for (running, to, expected) in [
            ("", "3.7.3", "v3.7.3"),
            ("3.5.16 3.5.16", "3.5.16", ""),
            ("3.5.16 3.5.33", "3.5.33", "v3.5.33"),
            ("3.4.23", "3.7.3", "v3.5.33 v3.6.16 v3.7.3"),
            ("3.6.16 3.5.33", "3.7.3", "v3.6.16 v3.7.3"),
            ("3.7.3", "3.5.33", "v3.6.16 v3.5.33"),
            ("3.7.3 3.6.16", "3.5.33", "v3.6.16 v3.5.33"),
            ("3.7.3", "3.6.11", "v3.6.11"),
        ] {
            let path = path(versions(running), to.parse().unwrap()).unwrap();
            let path: Vec<_> = path.iter().map(Version::to_string).collect();
            assert_eq!(path.join(" "), expected, "{running} to {to}");
        }
        assert!(path(versions("3.5.33"), "3.4.23".parse().unwrap()).is_err());
    }

    /// Every step of a proposed path is itself allowed.
    #[test]
    fn the_path_can_be_walked() {
        let all = ["3.4.23", "3.5.3", "3.5.33", "3.6.0", "3.6.16", "3.7.0", "3.7.3"];
        for from in all {
            let from: Version = from.parse().unwrap();
            for to in ["3.5.16", "3.6.2", "3.7.0", "3.7.3"] {
                let to = to.parse().unwrap();
                let mut at = from;
                for next in path([from], to).unwrap() {
                    assert_eq!(step([at], next, Some(next.minor())), Ok(()), "{from} to {to}");
                    at = next;
                }
                assert_eq!(at, to);
            }
        }
    }
}
