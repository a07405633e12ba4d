//! Which settings each minor version of etcd knows.
//!
//! etcd 3.6 renamed the `ETCD_EXPERIMENTAL_*` variables and made some of them
//! feature gates; 3.7 knows the new names only. A variable that etcd does not
//! know is ignored, with a warning in its log (`verifyEnv` in etcd's pkg/flags),
//! so a setting in the form of another minor version is silently lost.

use crate::Minor;

/// The beginning of the names that etcd gave up in 3.6.
pub(crate) const EXPERIMENTAL: &str = "ETCD_EXPERIMENTAL_";

/// The variable that holds all feature gates, from 3.6 on.
pub const FEATURE_GATES: &str = "ETCD_FEATURE_GATES";

/// The variables without `ETCD_`, with the first and the last minor version that
/// know them: the flags in server/etcdmain/config.go and server/embed/config.go
/// of v3.5.33, v3.6.16 and v3.7.3, and those that v3.4.23 takes; besides them
/// `UNSUPPORTED_ARCH`, which is no flag.
const NAMES: [(Minor, Minor, &str); 8] = [
    (
        Minor::V3_4,
        Minor::V3_7,
        "ADVERTISE_CLIENT_URLS AUTH_TOKEN AUTH_TOKEN_TTL AUTO_COMPACTION_MODE \
         AUTO_COMPACTION_RETENTION AUTO_TLS BACKEND_BATCH_INTERVAL BACKEND_BATCH_LIMIT \
         BCRYPT_COST CERT_FILE CIPHER_SUITES CLIENT_CERT_ALLOWED_HOSTNAME CLIENT_CERT_AUTH \
         CLIENT_CRL_FILE CONFIG_FILE CORS DATA_DIR DISCOVERY_FALLBACK DISCOVERY_SRV \
         DISCOVERY_SRV_NAME ELECTION_TIMEOUT ENABLE_GRPC_GATEWAY ENABLE_PPROF \
         FORCE_NEW_CLUSTER GRPC_KEEPALIVE_INTERVAL GRPC_KEEPALIVE_MIN_TIME \
         GRPC_KEEPALIVE_TIMEOUT HEARTBEAT_INTERVAL HOST_WHITELIST INITIAL_ADVERTISE_PEER_URLS \
         INITIAL_CLUSTER INITIAL_CLUSTER_STATE INITIAL_CLUSTER_TOKEN \
         INITIAL_ELECTION_TICK_ADVANCE KEY_FILE LISTEN_CLIENT_URLS LISTEN_METRICS_URLS \
         LISTEN_PEER_URLS LOGGER LOG_LEVEL LOG_OUTPUTS MAX_CONCURRENT_STREAMS \
         MAX_REQUEST_BYTES MAX_SNAPSHOTS MAX_TXN_OPS MAX_WALS METRICS NAME PEER_AUTO_TLS \
         PEER_CERT_ALLOWED_CN PEER_CERT_ALLOWED_HOSTNAME PEER_CERT_FILE PEER_CLIENT_CERT_AUTH \
         PEER_CRL_FILE PEER_KEY_FILE PEER_TRUSTED_CA_FILE PRE_VOTE QUOTA_BACKEND_BYTES \
         SNAPSHOT_COUNT STRICT_RECONFIG_CHECK TRUSTED_CA_FILE UNSAFE_NO_FSYNC \
         UNSUPPORTED_ARCH VERSION WAL_DIR",
    ),
    (
        Minor::V3_4,
        Minor::V3_6,
        "DISCOVERY DISCOVERY_PROXY EXPERIMENTAL_COMPACTION_BATCH_LIMIT \
         EXPERIMENTAL_CORRUPT_CHECK_TIME EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT \
         EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT_PERSIST EXPERIMENTAL_INITIAL_CORRUPT_CHECK \
         EXPERIMENTAL_PEER_SKIP_CLIENT_SAN_VERIFICATION EXPERIMENTAL_WARNING_APPLY_DURATION \
         EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL",
    ),
    (
        Minor::V3_4,
        Minor::V3_5,
        "ENABLE_V2 EXPERIMENTAL_ENABLE_V2V3 PROXY PROXY_DIAL_TIMEOUT PROXY_FAILURE_WAIT \
         PROXY_READ_TIMEOUT PROXY_REFRESH_INTERVAL PROXY_WRITE_TIMEOUT",
    ),
    (
        Minor::V3_4,
        Minor::V3_4,
        "DEBUG EXPERIMENTAL_BACKEND_BBOLT_FREELIST_TYPE LOG_OUTPUT LOG_PACKAGE_LEVELS",
    ),
    (
        Minor::V3_5,
        Minor::V3_7,
        "BACKEND_BBOLT_FREELIST_TYPE CLIENT_CERT_FILE CLIENT_KEY_FILE ENABLE_LOG_ROTATION \
         LISTEN_CLIENT_HTTP_URLS LOG_ROTATION_CONFIG_JSON PEER_CLIENT_CERT_FILE \
         PEER_CLIENT_KEY_FILE RAFT_READ_TIMEOUT RAFT_WRITE_TIMEOUT SELF_SIGNED_CERT_VALIDITY \
         SOCKET_REUSE_ADDRESS SOCKET_REUSE_PORT TLS_MAX_VERSION TLS_MIN_VERSION \
         V2_DEPRECATION",
    ),
    (
        Minor::V3_5,
        Minor::V3_6,
        "EXPERIMENTAL_BOOTSTRAP_DEFRAG_THRESHOLD_MEGABYTES \
         EXPERIMENTAL_COMPACTION_SLEEP_INTERVAL EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED \
         EXPERIMENTAL_COMPACT_HASH_CHECK_TIME EXPERIMENTAL_DISTRIBUTED_TRACING_ADDRESS \
         EXPERIMENTAL_DISTRIBUTED_TRACING_INSTANCE_ID \
         EXPERIMENTAL_DISTRIBUTED_TRACING_SAMPLING_RATE \
         EXPERIMENTAL_DISTRIBUTED_TRACING_SERVICE_NAME EXPERIMENTAL_DOWNGRADE_CHECK_TIME \
         EXPERIMENTAL_ENABLE_DISTRIBUTED_TRACING EXPERIMENTAL_MEMORY_MLOCK \
         EXPERIMENTAL_SNAPSHOT_CATCHUP_ENTRIES EXPERIMENTAL_STOP_GRPC_SERVICE_ON_DEFRAG \
         EXPERIMENTAL_TXN_MODE_WRITE_WITH_SHARED_BUFFER",
    ),
    (
        Minor::V3_6,
        Minor::V3_7,
        "BOOTSTRAP_DEFRAG_THRESHOLD_MEGABYTES COMPACTION_BATCH_LIMIT \
         COMPACTION_SLEEP_INTERVAL COMPACT_HASH_CHECK_TIME CORRUPT_CHECK_TIME \
         DISCOVERY_CACERT DISCOVERY_CERT DISCOVERY_DIAL_TIMEOUT DISCOVERY_ENDPOINTS \
         DISCOVERY_INSECURE_SKIP_TLS_VERIFY DISCOVERY_INSECURE_TRANSPORT \
         DISCOVERY_KEEPALIVE_TIME DISCOVERY_KEEPALIVE_TIMEOUT DISCOVERY_KEY \
         DISCOVERY_PASSWORD DISCOVERY_REQUEST_TIMEOUT DISCOVERY_TOKEN DISCOVERY_USER \
         DISTRIBUTED_TRACING_ADDRESS DISTRIBUTED_TRACING_INSTANCE_ID \
         DISTRIBUTED_TRACING_SAMPLING_RATE DISTRIBUTED_TRACING_SERVICE_NAME \
         DOWNGRADE_CHECK_TIME ENABLE_DISTRIBUTED_TRACING FEATURE_GATES LOG_FORMAT \
         MAX_LEARNERS MEMORY_MLOCK PEER_SKIP_CLIENT_SAN_VERIFICATION SNAPSHOT_CATCHUP_ENTRIES \
         WARNING_APPLY_DURATION WARNING_UNARY_REQUEST_DURATION WATCH_PROGRESS_NOTIFY_INTERVAL",
    ),
    (Minor::V3_6, Minor::V3_6, "EXPERIMENTAL_WARNING_UNARY_REQUEST_DURATION"),
];

/// The experimental variables that became feature gates in 3.6, without their
/// prefix (`ExperimentalFlagToFeatureMap` in etcd's server/features).
const GATES: [(&str, &str); 6] = [
    ("COMPACT_HASH_CHECK_ENABLED", "CompactHashCheck"),
    ("ENABLE_LEASE_CHECKPOINT", "LeaseCheckpoint"),
    ("ENABLE_LEASE_CHECKPOINT_PERSIST", "LeaseCheckpointPersist"),
    ("INITIAL_CORRUPT_CHECK", "InitialCorruptCheck"),
    ("STOP_GRPC_SERVICE_ON_DEFRAG", "StopGRPCServiceOnDefrag"),
    ("TXN_MODE_WRITE_WITH_SHARED_BUFFER", "TxnModeWriteWithSharedBuffer"),
];

/// The feature gates, with the first minor version that knows them
/// (`DefaultEtcdServerFeatureGates` in etcd's server/features of v3.7.3, and the two
/// that stand for many in pkg/featuregate).
const FEATURES: [(Minor, &str); 11] = [
    (Minor::V3_6, "AllAlpha"),
    (Minor::V3_6, "AllBeta"),
    (Minor::V3_6, "CompactHashCheck"),
    (Minor::V3_6, "InitialCorruptCheck"),
    (Minor::V3_6, "LeaseCheckpoint"),
    (Minor::V3_6, "LeaseCheckpointPersist"),
    (Minor::V3_6, "SetMemberLocalAddr"),
    (Minor::V3_6, "StopGRPCServiceOnDefrag"),
    (Minor::V3_6, "TxnModeWriteWithSharedBuffer"),
    (Minor::V3_7, "FastLeaseKeepAlive"),
    (Minor::V3_7, "PriorityRequest"),
];

/// The feature gates in `gates`, a value of [`FEATURE_GATES`] such as
/// `CompactHashCheck=true`, that etcd `minor` does not know. With one of them etcd
/// does not start (`SetFromMap` in etcd's pkg/featuregate).
pub fn unknown_features(gates: &str, minor: Minor) -> Vec<&str> {
    let is_known =
        |name: &str| FEATURES.iter().any(|(since, known)| *since <= minor && *known == name);
    let names = gates.split(',').filter(|gate| !gate.is_empty());
    let names = names.map(|gate| gate.split('=').next().unwrap_or(gate).trim());
    names.filter(|name| !is_known(name)).collect()
}

/// Whether etcd `minor` knows the variable `name`, such as `ETCD_DATA_DIR`.
/// `minor` is one of [`Minor::KNOWN`].
pub fn is_known(name: &str, minor: Minor) -> bool {
    is_known_within(name, |first, last| (first..=last).contains(&minor))
}

/// What to do instead of setting `name`, which etcd `minor` does not know, as
/// the end of a message; nothing when it knows it.
pub fn instead_of_unknown(name: &str, minor: Minor) -> Option<String> {
    (!is_known(name, minor)).then(|| instead(name, minor))
}

/// What to do instead of setting `name`, which `minor` is the last to know, as
/// the end of a message; nothing when that is not so.
pub fn instead_of_deprecated(name: &str, minor: Minor) -> Option<String> {
    let ends = is_known_within(name, |_, last| last == minor) && minor.next().is_known();
    ends.then(|| instead(name, minor.next()))
}

fn instead(name: &str, minor: Minor) -> String {
    let rest = name.strip_prefix("ETCD_").unwrap_or(name);
    let renamed = match name.strip_prefix(EXPERIMENTAL) {
        Some(rest) => match feature_gate(name).filter(|_| is_known(FEATURE_GATES, minor)) {
            Some(gate) => return format!("set {gate} in {FEATURE_GATES}"),
            None => format!("ETCD_{rest}"),
        },
        None => format!("{EXPERIMENTAL}{rest}"),
    };
    if is_known(&renamed, minor) {
        return format!("set {renamed}");
    }
    match name {
        FEATURE_GATES => format!("set the {EXPERIMENTAL}… of each feature"),
        _ if is_known_within(name, |_, _| true) => "remove it".into(),
        _ => "check the name".into(),
    }
}

/// The feature gate that the experimental variable `name` became in 3.6.
pub fn feature_gate(name: &str) -> Option<&'static str> {
    let rest = name.strip_prefix(EXPERIMENTAL)?;
    GATES.iter().find(|(flag, _)| *flag == rest).map(|(_, gate)| *gate)
}

/// The name that the experimental variable `name` has from 3.6 on, unless it
/// became a feature gate.
pub fn renamed(name: &str) -> Option<String> {
    let name = name.strip_prefix(EXPERIMENTAL).map(|rest| format!("ETCD_{rest}"))?;
    is_known(&name, Minor::V3_6).then_some(name)
}

/// Whether a running member has no use for the variable `name`: etcd reads it
/// only while it has no data (`bootstrap` in etcd's server/etcdserver; "flag is
/// ignored on restarts" in its help), or, as `ETCD_FORCE_NEW_CLUSTER`, it is meant
/// for one start by hand. A member need not, and for the latter must not, be
/// restarted because such a variable has changed.
pub fn is_first_start_only(name: &str) -> bool {
    match name.strip_prefix("ETCD_").unwrap_or_default() {
        // Read at every start, in spite of its name.
        "INITIAL_ELECTION_TICK_ADVANCE" => false,
        "FORCE_NEW_CLUSTER" | "DISCOVERY" => true,
        rest => rest.starts_with("INITIAL_") || rest.starts_with("DISCOVERY_"),
    }
}

/// Whether etcd takes no notice of the variable `name` once it has data: it only says
/// how a new cluster is made. What others are told of the member is not among them.
pub fn is_bootstrap_only(name: &str) -> bool {
    is_first_start_only(name)
        && !["ETCD_FORCE_NEW_CLUSTER", "ETCD_INITIAL_ADVERTISE_PEER_URLS"].contains(&name)
}

fn is_known_within(name: &str, within: impl Fn(Minor, Minor) -> bool) -> bool {
    let Some(rest) = name.strip_prefix("ETCD_") else { return false };
    let mut spans = NAMES.iter().filter(|(first, last, _)| within(*first, *last));
    spans.any(|(.., names)| names.split(' ').any(|name| name == rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_minor_knows_its_own_names() {
        for (name, known) in [
            ("ETCD_NAME", [true, true, true, true]),
            ("ETCD_DEBUG", [true, false, false, false]),
            ("ETCD_TLS_MIN_VERSION", [false, true, true, true]),
            ("ETCD_ENABLE_V2", [true, true, false, false]),
            ("ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK", [true, true, true, false]),
            ("ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED", [false, true, true, false]),
            ("ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL", [false, false, true, true]),
            (FEATURE_GATES, [false, false, true, true]),
            ("ETCD_UNSUPPORTED_ARCH", [true, true, true, true]),
            ("ETCD_NAMES", [false, false, false, false]),
            ("NAME", [false, false, false, false]),
        ] {
            assert_eq!(Minor::KNOWN.map(|minor| is_known(name, minor)), known, "{name}");
        }
    }

    #[test]
    fn no_name_stands_in_the_table_twice() {
        let mut names: Vec<_> = NAMES.iter().flat_map(|(.., names)| names.split(' ')).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| !name.is_empty()));
    }

    #[test]
    fn the_form_of_another_minor_is_named() {
        for (minor, name, advice) in [
            (Minor::V3_7, "ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME", "set ETCD_CORRUPT_CHECK_TIME"),
            (
                Minor::V3_7,
                "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK",
                "set InitialCorruptCheck in ETCD_FEATURE_GATES",
            ),
            (Minor::V3_5, "ETCD_CORRUPT_CHECK_TIME", "set ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME"),
            (Minor::V3_4, FEATURE_GATES, "set the ETCD_EXPERIMENTAL_… of each feature"),
            (Minor::V3_6, "ETCD_PROXY_DIAL_TIMEOUT", "remove it"),
            (Minor::V3_7, "ETCD_DISCOVERY", "remove it"),
            (Minor::V3_4, "ETCD_EXPERIMENTAL_MEMORY_MLOCK", "remove it"),
            (Minor::V3_5, "ETCD_QUOTA_BACKEND_BYTE", "check the name"),
        ] {
            assert_eq!(instead_of_unknown(name, minor).as_deref(), Some(advice), "{name}");
        }
        assert_eq!(instead_of_unknown("ETCD_ENABLE_V2", Minor::V3_5), None);
    }

    #[test]
    fn what_the_next_minor_gives_up_is_deprecated() {
        let advice = |name, minor| instead_of_deprecated(name, minor);
        let gate = "ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED";
        assert_eq!(
            advice(gate, Minor::V3_6).as_deref(),
            Some("set CompactHashCheck in ETCD_FEATURE_GATES")
        );
        assert_eq!(advice(gate, Minor::V3_5), None);
        assert_eq!(advice("ETCD_ENABLE_V2", Minor::V3_5).as_deref(), Some("remove it"));
        assert_eq!(advice("ETCD_NAME", Minor::V3_7), None);
    }

    #[test]
    fn each_minor_knows_its_features() {
        let gates = "CompactHashCheck=true, FastLeaseKeepAlive=false,,Compact=true,AllAlpha";
        assert_eq!(unknown_features(gates, Minor::V3_6), ["FastLeaseKeepAlive", "Compact"]);
        assert_eq!(unknown_features(gates, Minor::V3_7), ["Compact"]);
        for (_, gate) in GATES {
            assert_eq!(unknown_features(gate, Minor::V3_6), [""; 0]);
        }
    }

    #[test]
    fn experimental_names_have_a_successor() {
        let name = "ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL";
        assert_eq!(renamed(name).as_deref(), Some("ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL"));
        let gate = "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK";
        assert_eq!((renamed(gate), feature_gate(gate)), (None, Some("InitialCorruptCheck")));
        assert_eq!((renamed("ETCD_NAME"), feature_gate("ETCD_NAME")), (None, None));
    }

    #[test]
    fn what_a_running_member_never_reads_again() {
        for (name, only) in [
            ("ETCD_INITIAL_CLUSTER", true),
            ("ETCD_INITIAL_CLUSTER_STATE", true),
            ("ETCD_INITIAL_CLUSTER_TOKEN", true),
            ("ETCD_INITIAL_ADVERTISE_PEER_URLS", true),
            ("ETCD_FORCE_NEW_CLUSTER", true),
            ("ETCD_DISCOVERY", true),
            ("ETCD_DISCOVERY_SRV", true),
            ("ETCD_INITIAL_ELECTION_TICK_ADVANCE", false),
            ("ETCD_ADVERTISE_CLIENT_URLS", false),
            ("INITIAL_CLUSTER", false),
        ] {
            assert_eq!(is_first_start_only(name), only, "{name}");
        }
    }
}
