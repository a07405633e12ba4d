//! Which snapshots the rules keep. The rules are those of `restic forget`.

use std::str::FromStr;

use time::{Date, Month, OffsetDateTime};

/// How many snapshots to keep, by rule.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Rules {
    /// Keep the last N snapshots
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,
    /// Keep the last snapshot of each of the last N hours that have one
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<u32>,
    /// Keep the last snapshot of each of the last N days that have one
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u32>,
    /// Keep the last snapshot of each of the last N weeks that have one
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<u32>,
    /// Keep the last snapshot of each of the last N months that have one
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<u32>,
    /// Keep the last snapshot of each of the last N years that have one
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<u32>,
    /// Keep all within this time of the newest one: years, months, days and
    /// hours, e.g. 1y6m, 14d or 36h
    #[arg(long, value_name = "DURATION")]
    pub keep_within: Option<Within>,
}

/// A span of calendar time such as `2y5m7d3h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Within {
    months: u32,
    hours: u32,
}

impl FromStr for Within {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "expected years, months, days and hours, e.g. 1y6m, 14d or 36h".to_owned();
        let mut within = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
            let count: u32 = rest[..digits].parse().map_err(|_| expected())?;
            let (sum, factor) = match rest.as_bytes()[digits] {
                b'y' => (&mut within.months, 12),
                b'm' => (&mut within.months, 1),
                b'd' => (&mut within.hours, 24),
                b'h' => (&mut within.hours, 1),
                _ => return Err(expected()),
            };
            *sum =
                count.checked_mul(factor).and_then(|n| sum.checked_add(n)).ok_or_else(expected)?;
            rest = &rest[digits + 1..];
        }
        if within == Self::default() { Err(expected()) } else { Ok(within) }
    }
}

impl Within {
    /// `time` less this; `None` before the year -9999.
    fn before(self, time: OffsetDateTime) -> Option<OffsetDateTime> {
        let months = time.year() * 12 + i32::from(u8::from(time.month())) - 1;
        let months = months.checked_sub_unsigned(self.months)?;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
        // A day that the month does not have is its last one.
        let day = time.day().min(month.length(year));
        let date = Date::from_calendar_date(year, month, day).ok()?;
        time.replace_date(date).checked_sub(time::Duration::hours(self.hours.into()))
    }
}

/// A number that is the same for all snapshots of one period, from the time of
/// a snapshot and its place among all.
type Period = fn(OffsetDateTime, usize) -> i64;

impl Rules {
    /// Whether there is none: then nothing would be kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.keep_within.is_none() && self.counted().iter().all(|(_, count, _)| *count == 0)
    }

    /// The rules that count periods.
    fn counted(&self) -> [(&'static str, u32, Period); 6] {
        let count = |count: Option<u32>| count.unwrap_or(0);
        [
            ("last", count(self.keep_last), |_, at| at.try_into().unwrap_or_default()),
            ("hourly", count(self.keep_hourly), |time, _| time.unix_timestamp().div_euclid(3600)),
            ("daily", count(self.keep_daily), |time, _| time.to_julian_day().into()),
            ("weekly", count(self.keep_weekly), |time, _| {
                let (year, week, _) = time.to_iso_week_date();
                i64::from(year) * 100 + i64::from(week)
            }),
            ("monthly", count(self.keep_monthly), |time, _| {
                i64::from(time.year()) * 100 + i64::from(u8::from(time.month()))
            }),
            ("yearly", count(self.keep_yearly), |time, _| time.year().into()),
        ]
    }

    /// For each of `times`, newest first, the rules that keep it; none keeps what
    /// is to be removed.
    pub(crate) fn reasons(&self, times: &[OffsetDateTime]) -> Vec<Vec<&'static str>> {
        let mut reasons = vec![Vec::new(); times.len()];
        for (name, count, period) in self.counted() {
            let (mut missing, mut last) = (count, None);
            for (at, time) in times.iter().enumerate() {
                // The oldest is kept while a rule is not used up: the longest history.
                let oldest = at + 1 == times.len();
                let period = Some(period(*time, at));
                if missing > 0 && (last != period || oldest) {
                    reasons[at].push(name);
                    last = period;
                    missing -= 1;
                }
            }
        }
        let limit = self.keep_within.zip(times.first());
        if let Some((within, newest)) = limit {
            let limit = within.before(*newest);
            for (at, time) in times.iter().enumerate() {
                if limit.is_none_or(|limit| *time > limit) {
                    reasons[at].push("within");
                }
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    fn time(stamp: &str) -> OffsetDateTime {
        Name::parse(&format!("etcd-snapshot-{stamp}Z-r1.db")).unwrap().taken_at
    }

    /// The times that `rules` keep, of those in `stamps`.
    fn kept(rules: &Rules, stamps: &[&str]) -> Vec<String> {
        let times: Vec<_> = stamps.iter().map(|stamp| time(stamp)).collect();
        let reasons = rules.reasons(&times);
        let kept = stamps.iter().zip(reasons).filter(|(_, reasons)| !reasons.is_empty());
        kept.map(|(stamp, reasons)| format!("{stamp} {}", reasons.join(" "))).collect()
    }

    const STAMPS: [&str; 12] = [
        "20261128T203000",
        "20261128T200000",
        "20261128T120000",
        "20261127T235959",
        "20261127T000000",
        "20261123T000000",
        "20261122T235959",
        "20261031T120000",
        "20261001T120000",
        "20260101T000000",
        "20251231T235959",
        "20240229T120000",
    ];

    #[test]
    fn each_rule_keeps_the_last_of_each_period() {
        let cases: [(Rules, &[&str]); 9] = [
            (
                Rules { keep_last: Some(2), ..Rules::default() },
                &["20261128T203000 last", "20261128T200000 last"],
            ),
            (
                Rules { keep_hourly: Some(3), ..Rules::default() },
                &["20261128T203000 hourly", "20261128T120000 hourly", "20261127T235959 hourly"],
            ),
            (
                Rules { keep_daily: Some(3), ..Rules::default() },
                &["20261128T203000 daily", "20261127T235959 daily", "20261123T000000 daily"],
            ),
            (
                // A week begins on Monday: 23 November.
                Rules { keep_weekly: Some(2), ..Rules::default() },
                &["20261128T203000 weekly", "20261122T235959 weekly"],
            ),
            (
                Rules { keep_monthly: Some(3), ..Rules::default() },
                &["20261128T203000 monthly", "20261031T120000 monthly", "20260101T000000 monthly"],
            ),
            (
                Rules { keep_yearly: Some(5), ..Rules::default() },
                &["20261128T203000 yearly", "20251231T235959 yearly", "20240229T120000 yearly"],
            ),
            (
                Rules { keep_last: Some(1), keep_daily: Some(2), ..Rules::default() },
                &["20261128T203000 last daily", "20261127T235959 daily"],
            ),
            (
                Rules { keep_within: Some("1d".parse().unwrap()), ..Rules::default() },
                &[
                    "20261128T203000 within",
                    "20261128T200000 within",
                    "20261128T120000 within",
                    "20261127T235959 within",
                ],
            ),
            (Rules::default(), &[]),
        ];
        for (rules, expected) in cases {
            assert_eq!(kept(&rules, &STAMPS), expected, "{rules:?}");
        }
    }

    #[test]
    fn the_oldest_is_kept_while_a_rule_is_not_used_up() {
        let rules = Rules { keep_daily: Some(7), ..Rules::default() };
        let stamps = ["20261128T203000", "20261127T200000", "20261127T120000", "20261127T000000"];
        let expected = ["20261128T203000 daily", "20261127T200000 daily", "20261127T000000 daily"];
        assert_eq!(kept(&rules, &stamps), expected);
        assert!(kept(&rules, &[]).is_empty());
    }

    #[test]
    fn no_rule_and_zeros_are_none() {
        assert!(Rules::default().is_empty());
        assert!(Rules { keep_last: Some(0), keep_daily: Some(0), ..Rules::default() }.is_empty());
        assert!(!Rules { keep_yearly: Some(1), ..Rules::default() }.is_empty());
        assert!(!Rules { keep_within: "1h".parse().ok(), ..Rules::default() }.is_empty());
    }

    #[test]
    fn spans_of_the_calendar() {
        for (text, from, expected) in [
            ("1m", "20260331T100000", "20260228T100000"),
            ("1y", "20240229T100000", "20230228T100000"),
            ("1y2m3d4h", "20260310T100000", "20250107T060000"),
            ("14d", "20260310T100000", "20260224T100000"),
            ("36h", "20260310T100000", "20260308T220000"),
        ] {
            let within: Within = text.parse().unwrap();
            assert_eq!(within.before(time(from)), Some(time(expected)), "{text}");
        }
        for text in ["", "0d", "d", "5", "5x", "-1d", "1d 2h", "99999999999y", "4294967295y", "1dä"]
        {
            assert!(text.parse::<Within>().is_err(), "{text}");
        }
        assert_eq!("300000000y".parse::<Within>().unwrap().before(time("20260310T100000")), None);
    }
}
