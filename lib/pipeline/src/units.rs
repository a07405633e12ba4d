//! Values with a unit, as people write them.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads a number of seconds, or a duration with its unit.
///
/// Gives an error message that names the forms that are understood.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => parse_duration(text),
    }
}

/// Reads a duration such as `30d`, `12h`, `5m` or `90s`: without a unit, days are meant as
/// often as seconds.
///
/// Gives an error message that names the forms that are understood.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => 0,
    };
    digits
        .parse::<u64>()
        .ok()
        .filter(|_| seconds > 0)
        .and_then(|count| count.checked_mul(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a duration such as 30d, 12h, 5m or 90s".to_string())
}

/// `time` as the document has it: RFC 3339 in UTC, whole seconds.
pub fn rfc3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time).truncate_to_second();
    time.format(&Rfc3339).unwrap_or_default()
}

/// Reads a time as [`rfc3339`] writes it; nothing where it is none.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use super::{parse_duration, parse_seconds};

    #[test]
    fn durations() {
        for (text, seconds) in
            [("90s", Some(90)), ("30d", Some(2_592_000)), ("12h", Some(43_200)), ("5m", Some(300))]
        {
            assert_eq!(parse_duration(text).ok().map(|d| d.as_secs()), seconds, "{text}");
        }
        for text in [
            "",
            "d",
            "30",
            "0",
            "1w",
            "-1s",
            "1.5h",
            "99999999999999999999d",
            "999999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_seconds("90"), parse_duration("90s"));
        assert_eq!(parse_seconds("2m"), parse_duration("2m"));
        assert!(parse_seconds("x").is_err());
    }
}
