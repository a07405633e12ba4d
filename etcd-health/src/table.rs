//! The tables for people.

use std::time::{Duration, SystemTime};

use pipeline::document::{Endpoint, Health, Member};

const ENDPOINTS: [&str; 12] = [
    "NODE",
    "ENDPOINT",
    "HEALTH",
    "ROLE",
    "VERSION",
    "DB SIZE",
    "IN USE",
    "TERM",
    "INDEX",
    "LAG",
    "CERT DAYS",
    "ALARMS",
];
const MEMBERS: [&str; 5] = ["MEMBER", "ID", "VOTES", "PEER URLS", "CLIENT URLS"];

/// The endpoints, and below them the members.
pub(crate) fn render(health: &Health) -> String {
    let rows = health.endpoints.iter().map(|endpoint| endpoint_row(health, endpoint));
    let mut text = pipeline::table(&ENDPOINTS, rows, 5..11);
    if !health.members.is_empty() {
        text += "\n";
        text += &pipeline::table(&MEMBERS, health.members.iter().map(member_row), 0..0);
    }
    text
}

fn endpoint_row(health: &Health, endpoint: &Endpoint) -> [String; 12] {
    let name = client::name(health, endpoint);
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let number = |value: Option<u64>| known(value.map(|v| v.to_string()));
    let role = match endpoint {
        Endpoint { is_leader: true, .. } => "leader",
        Endpoint { is_learner: true, .. } => "learner",
        Endpoint { member_id: Some(_), .. } => "follower",
        _ => "-",
    };
    [
        if name == endpoint.endpoint { "-".into() } else { name.into() },
        endpoint.endpoint.clone(),
        if endpoint.healthy { "healthy" } else { "UNHEALTHY" }.into(),
        role.into(),
        known(endpoint.version.clone()),
        known(endpoint.db_size_bytes.map(size)),
        known(endpoint.db_size_in_use_bytes.map(size)),
        number(endpoint.raft_term),
        number(endpoint.raft_index),
        number(endpoint.raft_lag),
        known(days_left(endpoint).map(|days| days.to_string())),
        if endpoint.alarms.is_empty() { "-".into() } else { endpoint.alarms.join(",") },
    ]
}

fn member_row(member: &Member) -> [String; 5] {
    let urls = |urls: &[String]| if urls.is_empty() { "-".into() } else { urls.join(",") };
    [
        if member.name.is_empty() { "(not started)".into() } else { member.name.clone() },
        member.id.clone(),
        if member.is_learner { "no, learner" } else { "yes" }.into(),
        urls(&member.peer_urls),
        urls(&member.client_urls),
    ]
}

/// How many whole days the certificate that the endpoint presented is still valid; less
/// than 0 when it has expired.
fn days_left(endpoint: &Endpoint) -> Option<i64> {
    const DAY: u64 = 24 * 60 * 60;
    let expires = pipeline::parse_rfc3339(endpoint.certificate_not_after.as_deref()?)?;
    let days = |time: Duration| i64::try_from(time.as_secs() / DAY).unwrap_or(i64::MAX);
    Some(match expires.duration_since(SystemTime::now()) {
        Ok(left) => days(left),
        Err(expired) => -1 - days(expired.duration()),
    })
}

/// A size with the largest unit of which there is at least one.
#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn size(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (20_480, "20.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (8 << 30, "8.0 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let just_now = pipeline::rfc3339(SystemTime::now() - Duration::from_secs(60));
        let health = Health {
            endpoints: vec![
                Endpoint {
                    endpoint: "https://192.168.1.100:2379".into(),
                    node: Some("etcd-01".into()),
                    healthy: true,
                    member_id: Some("8e9e05c52164694d".into()),
                    version: Some("3.5.16".into()),
                    db_size_bytes: Some(20_480),
                    db_size_in_use_bytes: Some(16_384),
                    is_leader: true,
                    raft_term: Some(2),
                    raft_index: Some(12),
                    raft_lag: Some(0),
                    certificate_not_after: Some(just_now),
                    alarms: vec!["NOSPACE".into()],
                    ..Endpoint::default()
                },
                Endpoint { endpoint: "https://192.168.1.101:2379".into(), ..Endpoint::default() },
            ],
            members: vec![Member {
                id: "8e9e05c52164694d".into(),
                name: "etcd-01".into(),
                peer_urls: vec!["https://192.168.1.100:2380".into()],
                client_urls: vec!["\u{1b}[2J\nhealthy".into()],
                ..Member::default()
            }],
            ..Health::default()
        };
        let expected = "\
NODE     ENDPOINT                    HEALTH     ROLE    VERSION   DB SIZE    IN USE  TERM  INDEX  LAG  CERT DAYS  ALARMS
etcd-01  https://192.168.1.100:2379  healthy    leader  3.5.16   20.0 KiB  16.0 KiB     2     12    0         -1  NOSPACE
-        https://192.168.1.101:2379  UNHEALTHY  -       -               -         -     -      -    -          -  -

MEMBER   ID                VOTES  PEER URLS                   CLIENT URLS
etcd-01  8e9e05c52164694d  yes    https://192.168.1.100:2380  \\u{1b}[2J\\nhealthy
";
        assert_eq!(render(&health), expected);
    }
}
