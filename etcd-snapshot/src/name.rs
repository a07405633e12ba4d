//! The names that `save` gives to the snapshots in a folder.

use std::fmt;

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// When a snapshot was taken, and the newest revision in it, as its name tells:
/// `etcd-snapshot-20261128T203500Z-r1042.db`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    /// In whole seconds, in UTC.
    pub taken_at: OffsetDateTime,
    pub revision: u64,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (date, time) = (self.taken_at.date(), self.taken_at.time());
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        let (hour, minute, second) = time.as_hms();
        write!(
            f,
            "etcd-snapshot-{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z-r{}.db",
            self.revision
        )
    }
}

impl Name {
    /// What the name `name` tells; `None` when it is not one that `save` gives.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_prefix("etcd-snapshot-")?.strip_suffix(".db")?;
        let (stamp, revision) = stem.split_once("-r")?;
        let number = |from: usize, to: usize| stamp.get(from..to)?.parse::<u16>().ok();
        let small = |from: usize, to: usize| u8::try_from(number(from, to)?).ok();
        let month = Month::try_from(small(4, 6)?).ok()?;
        let date = Date::from_calendar_date(number(0, 4)?.into(), month, small(6, 8)?).ok()?;
        let time = Time::from_hms(small(9, 11)?, small(11, 13)?, small(13, 15)?).ok()?;
        let taken_at = PrimitiveDateTime::new(date, time).assume_utc();
        let parsed = Self { taken_at, revision: revision.parse().ok()? };
        // What else the name may hold: signs, zeros, spaces.
        (parsed.to_string() == name).then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_save_writes_is_a_name() {
        let name = "etcd-snapshot-20261128T203507Z-r1042.db";
        let parsed = Name::parse(name).unwrap();
        assert_eq!(parsed.revision, 1042);
        assert_eq!(parsed.taken_at.unix_timestamp(), 1_795_898_107);
        assert_eq!(parsed.to_string(), name);
        for other in [
            "etcd-snapshot-20261128T203507Z-r1042.db.part",
            "etcd-snapshot-20261128T203507Z-r+1042.db",
            "etcd-snapshot-20261128T203507Z-r01042.db",
            "etcd-snapshot-20261128T203507Z-r.db",
            "etcd-snapshot-20261328T203507Z-r1.db",
            "etcd-snapshot-20260230T203507Z-r1.db",
            "etcd-snapshot-20261128T253507Z-r1.db",
            "etcd-snapshot-20261128 203507Z-r1.db",
            "etcd-snapshot-2026112T203507Z-r1.db",
            "etcd-snapshot-ääää1128T203507Z-r1.db",
            "etcd-snapshot.db",
            "",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
