//! Which values each variable of etcd may have.
//!
//! etcd reads its variables as flags (`SetFlagsFromEnv` in etcd's pkg/flags), checks them
//! (`Validate` in server/embed/config.go), and ends with the first that it cannot take: a
//! member that is restarted with one stays down.

use std::collections::BTreeMap;

use crate::settings::{EXPERIMENTAL, is_known};
use crate::{Minor, url};

/// The variables without `ETCD_` and `EXPERIMENTAL_` whose value must be of one kind, with
/// the first and the last minor version for which that is so, among those that know the
/// variable: the flags in server/etcdmain/config.go and server/embed/config.go of v3.4.45 to
/// v3.7.3, and what the releases v3.4.23, v3.5.16, v3.5.33, v3.6.16 and v3.7.3 do with it.
/// etcd takes anything for those that are missing here, or it depends on the host.
const KINDS: [(Minor, Minor, Kind, &str); 29] = [
    (
        Minor::V3_4,
        Minor::V3_7,
        Kind::Unsigned(u64::MAX),
        "AUTH_TOKEN_TTL BCRYPT_COST BOOTSTRAP_DEFRAG_THRESHOLD_MEGABYTES MAX_REQUEST_BYTES \
         MAX_SNAPSHOTS MAX_TXN_OPS MAX_WALS PROXY_DIAL_TIMEOUT PROXY_FAILURE_WAIT \
         PROXY_READ_TIMEOUT PROXY_REFRESH_INTERVAL PROXY_WRITE_TIMEOUT \
         SELF_SIGNED_CERT_VALIDITY SNAPSHOT_CATCHUP_ENTRIES SNAPSHOT_COUNT",
    ),
    (Minor::V3_4, Minor::V3_7, Kind::Unsigned(u32::MAX as u64), "MAX_CONCURRENT_STREAMS"),
    // Fewer learners than none are fewer than there are (`ValidateMaxLearnerConfig` in
    // server/etcdserver/api/membership).
    (Minor::V3_6, Minor::V3_7, Kind::Unsigned(i64::MAX as u64), "MAX_LEARNERS"),
    (
        Minor::V3_4,
        Minor::V3_7,
        Kind::Integer,
        "BACKEND_BATCH_LIMIT COMPACTION_BATCH_LIMIT DISTRIBUTED_TRACING_SAMPLING_RATE \
         QUOTA_BACKEND_BYTES",
    ),
    (
        Minor::V3_4,
        Minor::V3_7,
        Kind::Duration(Sign::Any),
        "BACKEND_BATCH_INTERVAL COMPACTION_SLEEP_INTERVAL DISCOVERY_DIAL_TIMEOUT \
         DISCOVERY_KEEPALIVE_TIME DISCOVERY_KEEPALIVE_TIMEOUT DISCOVERY_REQUEST_TIMEOUT \
         DOWNGRADE_CHECK_TIME GRPC_KEEPALIVE_INTERVAL GRPC_KEEPALIVE_MIN_TIME \
         GRPC_KEEPALIVE_TIMEOUT RAFT_READ_TIMEOUT RAFT_WRITE_TIMEOUT WARNING_APPLY_DURATION \
         WARNING_UNARY_REQUEST_DURATION WATCH_PROGRESS_NOTIFY_INTERVAL",
    ),
    (Minor::V3_5, Minor::V3_7, Kind::Duration(Sign::Positive), "COMPACT_HASH_CHECK_TIME"),
    (Minor::V3_4, Minor::V3_5, Kind::Duration(Sign::Any), "CORRUPT_CHECK_TIME"),
    // `monitorKVHash` in server/etcdserver panics.
    (Minor::V3_6, Minor::V3_7, Kind::Duration(Sign::NotNegative), "CORRUPT_CHECK_TIME"),
    (
        Minor::V3_4,
        Minor::V3_7,
        Kind::Boolean,
        "COMPACT_HASH_CHECK_ENABLED DEBUG DISCOVERY_INSECURE_SKIP_TLS_VERIFY \
         DISCOVERY_INSECURE_TRANSPORT ENABLE_DISTRIBUTED_TRACING ENABLE_GRPC_GATEWAY \
         ENABLE_LEASE_CHECKPOINT ENABLE_LEASE_CHECKPOINT_PERSIST ENABLE_LOG_ROTATION \
         ENABLE_PPROF ENABLE_V2 INITIAL_CORRUPT_CHECK INITIAL_ELECTION_TICK_ADVANCE \
         MEMORY_MLOCK PEER_SKIP_CLIENT_SAN_VERIFICATION PRE_VOTE SOCKET_REUSE_ADDRESS \
         SOCKET_REUSE_PORT STOP_GRPC_SERVICE_ON_DEFRAG STRICT_RECONFIG_CHECK \
         TXN_MODE_WRITE_WITH_SHARED_BUFFER",
    ),
    (Minor::V3_4, Minor::V3_4, Kind::Choice(&["zap", "capnslog"]), "LOGGER"),
    (Minor::V3_5, Minor::V3_7, Kind::Choice(&["zap"]), "LOGGER"),
    // `ConvertToZapLevel` in client/pkg/logutil. zap takes any case from etcd 3.5 on, and its
    // newest versions one name more.
    (Minor::V3_4, Minor::V3_4, Kind::Choice(&LOG_LEVELS), "LOG_LEVEL"),
    (Minor::V3_5, Minor::V3_6, Kind::AnyCase(&LOG_LEVELS), "LOG_LEVEL"),
    (
        Minor::V3_7,
        Minor::V3_7,
        Kind::AnyCase(&["debug", "info", "warn", "error", "panic", "fatal", "dpanic", "warning"]),
        "LOG_LEVEL",
    ),
    (Minor::V3_6, Minor::V3_7, Kind::Choice(&["json", "console"]), "LOG_FORMAT"),
    (Minor::V3_4, Minor::V3_7, Kind::Choice(&["periodic", "revision"]), "AUTO_COMPACTION_MODE"),
    (Minor::V3_4, Minor::V3_7, Kind::Retention, "AUTO_COMPACTION_RETENTION"),
    (
        Minor::V3_5,
        Minor::V3_7,
        Kind::Choice(&["TLS1.2", "TLS1.3"]),
        "TLS_MAX_VERSION TLS_MIN_VERSION",
    ),
    (Minor::V3_4, Minor::V3_7, Kind::CipherSuites, "CIPHER_SUITES"),
    (Minor::V3_4, Minor::V3_5, Kind::Choice(&["off", "readonly", "on"]), "PROXY"),
    (Minor::V3_4, Minor::V3_5, Kind::Choice(&["exit", "proxy"]), "DISCOVERY_FALLBACK"),
    (Minor::V3_6, Minor::V3_7, Kind::Choice(&["exit"]), "DISCOVERY_FALLBACK"),
    (
        Minor::V3_5,
        Minor::V3_5,
        Kind::Choices(&[
            "not-yet",
            "write-only",
            "write-only-skip-check",
            "write-only-drop-data",
            "gone",
        ]),
        "V2_DEPRECATION",
    ),
    (
        Minor::V3_6,
        Minor::V3_7,
        Kind::Choices(&["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]),
        "V2_DEPRECATION",
    ),
    (Minor::V3_4, Minor::V3_7, Kind::AuthToken, "AUTH_TOKEN"),
    (Minor::V3_6, Minor::V3_7, Kind::FeatureGates, "FEATURE_GATES"),
    (
        Minor::V3_4,
        Minor::V3_7,
        Kind::Urls(url::Use::Listen),
        "LISTEN_CLIENT_HTTP_URLS LISTEN_CLIENT_URLS LISTEN_METRICS_URLS",
    ),
    (Minor::V3_4, Minor::V3_7, Kind::Urls(url::Use::Advertise), "ADVERTISE_CLIENT_URLS"),
    (Minor::V3_4, Minor::V3_7, Kind::Urls(url::Use::Origin), "CORS"),
];

/// What zap calls its levels, those for users first.
const LOG_LEVELS: [&str; 7] = ["debug", "info", "warn", "error", "panic", "fatal", "dpanic"];

/// The names of `CipherSuites` and `InsecureCipherSuites` in Go's crypto/tls, and two of etcd's
/// own (`GetCipherSuite` in client/pkg/tlsutil/cipher_suites.go); the same from 3.4 to 3.7.
const CIPHER_SUITES: &str = "\
    TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256 \
    TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256 \
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA \
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305 \
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 TLS_ECDHE_ECDSA_WITH_RC4_128_SHA \
    TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA \
    TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 \
    TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 \
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305 TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 \
    TLS_ECDHE_RSA_WITH_RC4_128_SHA TLS_RSA_WITH_3DES_EDE_CBC_SHA \
    TLS_RSA_WITH_AES_128_CBC_SHA TLS_RSA_WITH_AES_128_CBC_SHA256 \
    TLS_RSA_WITH_AES_128_GCM_SHA256 TLS_RSA_WITH_AES_256_CBC_SHA \
    TLS_RSA_WITH_AES_256_GCM_SHA384 TLS_RSA_WITH_RC4_128_SHA";

/// One of these is needed for HTTP/2, without which etcd ends once it serves
/// (`ConfigureServer` in golang.org/x/net/http2).
const HTTP2_CIPHER_SUITES: [&str; 2] =
    ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"];

/// What a value must be.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Up to this number, as `ParseUint` in Go's strconv takes it with base 0.
    Unsigned(u64),
    /// Of 64 bits, as `ParseInt` in Go's strconv takes it with base 0; what is negative
    /// switches some limits off.
    Integer,
    /// As `ParseDuration` in Go's time takes it.
    Duration(Sign),
    /// As `ParseBool` in Go's strconv takes it.
    Boolean,
    /// One of these.
    Choice(&'static [&'static str]),
    /// One or more of these, with commas between them.
    Choices(&'static [&'static str]),
    /// One of these in capitals or not.
    AnyCase(&'static [&'static str]),
    /// A number without a unit, or a duration (`parseCompactionRetention` in
    /// server/embed/etcd.go).
    Retention,
    /// Names between commas, without blanks.
    CipherSuites,
    /// A kind and its options (`decomposeOpts` in server/auth/store.go).
    AuthToken,
    /// Names and booleans (`Set` in pkg/featuregate). Which names a minor version knows is
    /// [`unknown_features`](crate::settings::unknown_features).
    FeatureGates,
    /// URLs between commas.
    Urls(url::Use),
}

/// Which durations are allowed.
#[derive(Debug, Clone, Copy)]
enum Sign {
    Any,
    NotNegative,
    Positive,
}

impl Kind {
    fn expected(self) -> String {
        match self {
            Self::Unsigned(u64::MAX) => "a whole number, not negative".into(),
            Self::Unsigned(most) => format!("a whole number from 0 to {most}"),
            Self::Integer => format!("a whole number, at most {}", i64::MAX),
            Self::Duration(Sign::Any) => "a duration, e.g. 10s or 1m30s".into(),
            Self::Duration(Sign::NotNegative) => {
                "a duration, e.g. 10s or 1m30s, not negative".into()
            }
            Self::Duration(Sign::Positive) => "a duration above 0, e.g. 10s or 1m30s".into(),
            Self::Boolean => "true or false".into(),
            Self::Choice(all) | Self::Choices(all) | Self::AnyCase(all) => one_of(all),
            Self::Retention => "a duration of at least 1s, e.g. 8h, or a number".into(),
            Self::CipherSuites => format!(
                "names such as TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 with commas and no blanks \
                 between them, with {} among them",
                one_of(&HTTP2_CIPHER_SUITES)
            ),
            Self::AuthToken => "simple, or jwt with its options, e.g. \
                                jwt,pub-key=FILE,priv-key=FILE,sign-method=RS256"
                .into(),
            Self::FeatureGates => "NAME=true or NAME=false, with commas between them".into(),
            Self::Urls(of) => of.expected().into(),
        }
    }

    fn fits(self, value: &str) -> bool {
        match self {
            Self::Unsigned(most) => {
                !value.starts_with(['+', '-'])
                    && integer(value).is_some_and(|number| number <= most.into())
            }
            Self::Integer => integer(value).is_some_and(|number| i64::try_from(number).is_ok()),
            Self::Duration(sign) => duration(value).is_some_and(|nanoseconds| match sign {
                Sign::Any => true,
                Sign::NotNegative => nanoseconds >= 0.0,
                Sign::Positive => nanoseconds > 0.0,
            }),
            Self::Boolean => boolean(value).is_some(),
            Self::Choice(all) => all.contains(&value),
            Self::Choices(all) => value.split(',').all(|one| all.contains(&one)),
            Self::AnyCase(all) => all.contains(&value.to_ascii_lowercase().as_str()),
            Self::Retention => {
                // etcd divides it, and ends with a panic where it is negative.
                let fits = |nanoseconds: f64| nanoseconds == 0.0 || nanoseconds >= 1e9;
                value.parse::<i64>().is_ok_and(|n| n >= 0) || duration(value).is_some_and(fits)
            }
            Self::CipherSuites => {
                let known = |name| CIPHER_SUITES.split(' ').any(|known| known == name);
                value.split(',').all(known)
                    && value.split(',').any(|name| HTTP2_CIPHER_SUITES.contains(&name))
            }
            Self::AuthToken => {
                let (kind, options) = value.split_once(',').unwrap_or((value, ""));
                match kind {
                    "simple" if options.is_empty() => kind == value,
                    "simple" => options.split(',').all(|option| option.contains('=')),
                    "jwt" => is_jwt(options),
                    _ => false,
                }
            }
            Self::FeatureGates => {
                let gate = |gate: &str| {
                    gate.split_once('=').is_some_and(|(_, v)| boolean(v.trim()).is_some())
                };
                value.split(',').filter(|part| !part.is_empty()).all(gate)
            }
            Self::Urls(of) => {
                let all = of == url::Use::Origin && value == "*";
                all || value.split(',').all(|url| of.fits(url))
            }
        }
    }
}

/// What `value` would have to be for etcd to start with it in the variable `name`, as the
/// end of a message; nothing where it fits one of the `minors`, or nothing is known of it.
/// An empty value counts as not set, and a minor version that does not know the variable
/// takes no notice of it.
pub fn expected(name: &str, value: &str, minors: &[Minor]) -> Option<String> {
    let rest = name.strip_prefix(EXPERIMENTAL).or_else(|| name.strip_prefix("ETCD_"))?;
    let kind = |minor: &Minor| {
        let of = |(first, last, _, names): &&(Minor, Minor, Kind, &str)| {
            (first..=last).contains(&minor) && names.split(' ').any(|name| name == rest)
        };
        KINDS.iter().find(of).map(|(_, _, kind, _)| *kind)
    };
    let minors = minors.iter().filter(|minor| is_known(name, **minor));
    let kinds = minors.map(kind).collect::<Option<Vec<_>>>()?;
    let unfit = !value.is_empty() && kinds.iter().all(|kind| !kind.fits(value));
    kinds.last().filter(|_| unfit).map(|kind| kind.expected())
}

/// Whether the variable `name` is a boolean to any etcd.
pub fn is_boolean(name: &str) -> bool {
    // Documents cannot set it, so that it has no kind.
    if name == "ETCD_FORCE_NEW_CLUSTER" {
        return true;
    }
    let rest = name.strip_prefix(EXPERIMENTAL).or_else(|| name.strip_prefix("ETCD_"));
    let mut booleans = KINDS.iter().filter(|(_, _, kind, _)| matches!(kind, Kind::Boolean));
    rest.is_some_and(|rest| booleans.any(|(.., names)| names.split(' ').any(|name| name == rest)))
}

/// Whether etcd takes the `options` of `jwt` (`ParseWithDefaults` in server/auth/options.go),
/// the contents of the files aside.
fn is_jwt(options: &str) -> bool {
    let options: Option<BTreeMap<_, _>> = options.split(',').map(|o| o.split_once('=')).collect();
    let Some(options) = options else { return false };
    let method = options.get("sign-method").copied().unwrap_or_default();
    let is_method = method == "EdDSA"
        || method.split_at_checked(2).is_some_and(|(family, bits)| {
            ["HS", "RS", "ES", "PS"].contains(&family) && ["256", "384", "512"].contains(&bits)
        });
    let has_key = options.contains_key("pub-key") || options.contains_key("priv-key");
    is_method && has_key && options.get("ttl").is_none_or(|ttl| duration(ttl).is_some())
}

fn one_of(all: &[&str]) -> String {
    match all {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => all.concat(),
    }
}

/// The boolean in `text`, as `ParseBool` in Go's strconv reads it; nothing where it is none.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// The number in `text`: decimal, or with the prefix `0x`, `0o`, `0` or `0b`, and with an
/// underscore between any two digits, and between the prefix and a digit.
fn integer(text: &str) -> Option<i128> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let rest = rest.to_ascii_lowercase();
    let separates = !rest.starts_with('_') && !rest.ends_with('_') && !rest.contains("__");
    let (radix, digits) = match rest.as_bytes() {
        [b'0', b'x', ..] => (16, &rest[2..]),
        [b'0', b'o', ..] => (8, &rest[2..]),
        [b'0', b'b', ..] => (2, &rest[2..]),
        [b'0', _, ..] => (8, &rest[1..]),
        _ => (10, &rest[..]),
    };
    let digits = digits.replace('_', "");
    let plain = separates && digits.bytes().all(|b| b.is_ascii_alphanumeric());
    let number = i128::from_str_radix(&digits, radix).ok().filter(|_| plain)?;
    Some(sign * number)
}

/// The nanoseconds of a duration such as `1m30s`.
fn duration(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1.0),
        ("us", 1e3),
        // The micro sign, and the Greek letter.
        ("\u{b5}s", 1e3),
        ("\u{3bc}s", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 6e10),
        ("h", 3.6e12),
    ];
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Some(0.0);
    }
    let mut sum = None;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = Some(sum.unwrap_or(0.0) + digits.parse::<f64>().ok()? * size);
        rest = after;
    }
    // Go counts them in 64 bits.
    sum.filter(|sum| *sum <= i64::MAX as f64).map(|sum| sign * sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether 3.4, 3.5, 3.6 and 3.7 start with `value`.
    fn starts(name: &str, value: &str) -> String {
        let mark = |minor| if expected(name, value, &[minor]).is_none() { '+' } else { 'x' };
        Minor::KNOWN.map(mark).iter().collect()
    }

    /// What the releases v3.4.23, v3.5.33, v3.6.16 and v3.7.3 do, each started with the
    /// variable set.
    #[test]
    fn a_value_that_etcd_does_not_start_with_is_unfit() {
        let cases = include_str!("value/seen.txt");
        let cases = cases.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for case in cases {
            let (seen, assignment) = case.split_once(' ').unwrap();
            let (name, value) = assignment.split_once('=').unwrap();
            assert_eq!(starts(&format!("ETCD_{name}"), value), seen, "{assignment}");
        }
    }

    #[test]
    fn each_cipher_suite_is_known_and_one_serves_http2() {
        for name in CIPHER_SUITES.split(' ') {
            let with = format!("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,{name}");
            assert_eq!(starts("ETCD_CIPHER_SUITES", &with), "++++", "{name}");
            let alone = if HTTP2_CIPHER_SUITES.contains(&name) { "++++" } else { "xxxx" };
            assert_eq!(starts("ETCD_CIPHER_SUITES", name), alone, "{name}");
        }
    }

    #[test]
    fn what_one_of_the_minors_takes_is_fit() {
        assert_eq!(expected("ETCD_LOGGER", "capnslog", &Minor::KNOWN), None);
        let newer = [Minor::V3_5, Minor::V3_6];
        assert_eq!(expected("ETCD_LOGGER", "capnslog", &newer).as_deref(), Some("zap"));
        assert_eq!(expected("ETCD_LOGGER", "foo", &[]), None);
    }

    const RETENTION: &str = "a duration of at least 1s, e.g. 8h, or a number";

    #[test]
    fn what_is_expected_is_told() {
        for (name, value, what) in [
            ("LOG_LEVEL", "inf", "debug, info, warn, error, panic, fatal or dpanic"),
            ("SNAPSHOT_COUNT", "-5", "a whole number, not negative"),
            ("MAX_CONCURRENT_STREAMS", "-5", "a whole number from 0 to 4294967295"),
            ("QUOTA_BACKEND_BYTES", "8GB", "a whole number, at most 9223372036854775807"),
            ("AUTO_COMPACTION_RETENTION", "8hours", RETENTION),
            ("AUTO_COMPACTION_RETENTION", "-5h", RETENTION),
            ("AUTO_COMPACTION_RETENTION", "1ns", RETENTION),
            ("TLS_MIN_VERSION", "TLS1.9", "TLS1.2 or TLS1.3"),
        ] {
            let name = format!("ETCD_{name}");
            assert_eq!(expected(&name, value, &[Minor::V3_5]).as_deref(), Some(what), "{name}");
        }
    }

    #[test]
    fn each_kind_is_that_of_known_variables_and_the_only_one() {
        for (at, (first, last, _, names)) in KINDS.iter().enumerate() {
            for name in names.split(' ') {
                let plain = format!("ETCD_{name}");
                let known = |minor| {
                    is_known(&plain, minor) || is_known(&format!("{EXPERIMENTAL}{name}"), minor)
                };
                let mut span = Minor::KNOWN.into_iter().filter(|m| (first..=last).contains(&m));
                assert!(span.any(known), "{name}");
                let mut others = KINDS[at + 1..].iter();
                let again = others.any(|(from, to, _, names)| {
                    from <= last && first <= to && names.split(' ').any(|other| other == name)
                });
                assert!(!again, "{name}");
            }
        }
    }
}
