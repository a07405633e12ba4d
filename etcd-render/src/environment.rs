//! The environment file of the unit: quoting, the user's own variables, and
//! what etcd makes of them.

use std::collections::BTreeMap;

use pipeline::{Code, ToolResult};

/// The beginning of the settings that etcd renamed in 3.6.
const EXPERIMENTAL: &str = "ETCD_EXPERIMENTAL_";

const FEATURE_GATES: &str = "ETCD_FEATURE_GATES";

/// Experimental flags that became feature gates in 3.6, without their prefix
/// (`ExperimentalFlagToFeatureMap` in etcd's server/features).
const GATES: [(&str, &str); 6] = [
    ("COMPACT_HASH_CHECK_ENABLED", "CompactHashCheck"),
    ("ENABLE_LEASE_CHECKPOINT", "LeaseCheckpoint"),
    ("ENABLE_LEASE_CHECKPOINT_PERSIST", "LeaseCheckpointPersist"),
    ("INITIAL_CORRUPT_CHECK", "InitialCorruptCheck"),
    ("STOP_GRPC_SERVICE_ON_DEFRAG", "StopGRPCServiceOnDefrag"),
    ("TXN_MODE_WRITE_WITH_SHARED_BUFFER", "TxnModeWriteWithSharedBuffer"),
];

/// Settings that only 3.6 and later know by this name, without `ETCD_`; before
/// that they were experimental (`Config.AddFlags` in etcd's server/embed).
const SINCE_3_6: [&str; 18] = [
    "BOOTSTRAP_DEFRAG_THRESHOLD_MEGABYTES",
    "COMPACTION_BATCH_LIMIT",
    "COMPACTION_SLEEP_INTERVAL",
    "COMPACT_HASH_CHECK_TIME",
    "CORRUPT_CHECK_TIME",
    "DISTRIBUTED_TRACING_ADDRESS",
    "DISTRIBUTED_TRACING_INSTANCE_ID",
    "DISTRIBUTED_TRACING_SAMPLING_RATE",
    "DISTRIBUTED_TRACING_SERVICE_NAME",
    "DOWNGRADE_CHECK_TIME",
    "ENABLE_DISTRIBUTED_TRACING",
    "MAX_LEARNERS",
    "MEMORY_MLOCK",
    "PEER_SKIP_CLIENT_SAN_VERIFICATION",
    "SNAPSHOT_CATCHUP_ENTRIES",
    "WARNING_APPLY_DURATION",
    "WARNING_UNARY_REQUEST_DURATION",
    "WATCH_PROGRESS_NOTIFY_INTERVAL",
];

/// `value` as it must stand after `NAME=`, so that every systemd and a POSIX
/// shell read it as it is. `value` is one line.
pub fn quote(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:=,@%+-[]".contains(&b);
    if value.bytes().all(plain) {
        return value.to_owned();
    }
    // In double quotes a backslash protects these four, in systemd as in a shell.
    let mut quoted = String::from('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\' | '$' | '`') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted + "\""
}

/// The environment file `text` with `variables` set in it: in place of those of
/// the same name, or after all others. One with an empty value is left out: etcd
/// takes it for not set, and warns of it.
pub fn set(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut left = variables.clone();
    let mut lines = Vec::new();
    for line in text.lines() {
        let own = variable(line).and_then(|(name, _)| variables.get_key_value(name));
        match own {
            Some((name, value)) => {
                left.remove(name);
                lines.extend(assignment(name, value));
            }
            None => lines.push(line.to_owned()),
        }
    }
    lines.extend(left.iter().filter_map(|(name, value)| assignment(name, value)));
    lines.join("\n") + "\n"
}

fn assignment(name: &str, value: &str) -> Option<String> {
    (!value.is_empty()).then(|| format!("{name}={}", quote(value)))
}

/// The name and the value, as it stands there, that a line of an environment file sets.
fn variable(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    Some((name.trim(), value)).filter(|(name, _)| !name.starts_with(['#', ';']))
}

/// What is wrong with `variables` of the user's, set in the environment file
/// `text` of etcd 3.`minor`.
///
/// etcd ignores a variable that it does not know: a warning. With one setting in
/// both its old and its new form etcd 3.6 does not start: an error.
pub fn problems(text: &str, variables: &BTreeMap<String, String>, minor: u32) -> Vec<ToolResult> {
    let set: BTreeMap<_, _> = text.lines().filter_map(variable).collect();
    let problem = |name: &String| match (unknown(name, minor), conflict(name, &set)) {
        (Some(advice), _) => Some(ToolResult::warning(
            Code::UnknownVariable,
            format!(
                "settings.env: {name}: etcd 3.{minor} does not know it and ignores it: {advice}"
            ),
        )),
        (None, Some(other)) if minor == 6 => Some(ToolResult::error(
            Code::ConflictingVariables,
            format!(
                "settings.env: {name}: etcd 3.6 does not start with it beside {other}: \
                     set only {other}"
            ),
        )),
        _ => None,
    };
    variables.keys().filter_map(problem).collect()
}

/// What to do instead of setting a variable that etcd 3.`minor` does not know.
fn unknown(name: &str, minor: u32) -> Option<String> {
    if let Some(rest) = name.strip_prefix(EXPERIMENTAL).filter(|_| minor >= 7) {
        return Some(match gate(rest) {
            Some(gate) => format!("set {gate} in {FEATURE_GATES}"),
            None => format!("set ETCD_{rest}"),
        });
    }
    let rest = name.strip_prefix("ETCD_")?;
    match rest {
        "FEATURE_GATES" if minor < 6 => Some(format!("set the {EXPERIMENTAL}… of each feature")),
        _ if minor < 6 && SINCE_3_6.contains(&rest) => Some(format!("set {EXPERIMENTAL}{rest}")),
        "LOG_FORMAT" if minor < 6 => Some("leave it out".into()),
        "DISCOVERY" | "DISCOVERY_PROXY" if minor >= 7 => Some("leave it out".into()),
        "ENABLE_V2" | "PROXY" if minor >= 6 => Some("leave it out".into()),
        _ if minor >= 6 && rest.starts_with("PROXY_") => Some("leave it out".into()),
        _ => None,
    }
}

/// The variable of those that are `set` that has the meaning of the experimental `name`.
fn conflict(name: &str, set: &BTreeMap<&str, &str>) -> Option<String> {
    let rest = name.strip_prefix(EXPERIMENTAL)?;
    let renamed = format!("ETCD_{rest}");
    if set.contains_key(renamed.as_str()) {
        return Some(renamed);
    }
    let gates = set.get(FEATURE_GATES)?;
    gate(rest).filter(|gate| gates.contains(gate)).map(|_| FEATURE_GATES.to_owned())
}

fn gate(rest: &str) -> Option<&'static str> {
    GATES.iter().find(|(flag, _)| *flag == rest).map(|(_, gate)| *gate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn said(text: &str, name: &str, minor: u32) -> Vec<String> {
        let found = problems(text, &variables(&[(name, "1")]), minor);
        found.iter().map(|r| format!("{:?} {} {}", r.severity, r.code, r.message)).collect()
    }

    #[test]
    fn only_what_needs_it_is_quoted() {
        for (value, quoted) in [
            ("", ""),
            (
                "https://[fd00::1]:2379,https://127.0.0.1:2379",
                "https://[fd00::1]:2379,https://127.0.0.1:2379",
            ),
            ("a b", r#""a b""#),
            ("#a", r##""#a""##),
            (r#"a"b\c$d`e'f"#, r#""a\"b\\c\$d\`e'f""#),
            ("ä;", "\"ä;\""),
        ] {
            assert_eq!(quote(value), quoted);
        }
    }

    #[test]
    fn a_variable_replaces_that_of_its_name_and_no_other() {
        let text = "# ETCD_A=0\nETCD_A=1\nETCD_AB=2\nETCD_C=3\n";
        let own = variables(&[("ETCD_A", "x y"), ("ETCD_C", ""), ("ETCD_B", "z")]);
        assert_eq!(set(text, &own), "# ETCD_A=0\nETCD_A=\"x y\"\nETCD_AB=2\nETCD_B=z\n");
    }

    #[test]
    fn a_variable_in_the_form_of_another_minor_is_named() {
        let ignored = |minor: u32, name: &str, advice: &str| {
            assert_eq!(
                said("", name, minor),
                [format!(
                    "Warning unknown-variable settings.env: {name}: \
                     etcd 3.{minor} does not know it and ignores it: {advice}"
                )]
            );
        };
        ignored(7, "ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME", "set ETCD_CORRUPT_CHECK_TIME");
        ignored(
            7,
            "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK",
            "set InitialCorruptCheck in ETCD_FEATURE_GATES",
        );
        ignored(5, "ETCD_CORRUPT_CHECK_TIME", "set ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME");
        ignored(4, "ETCD_FEATURE_GATES", "set the ETCD_EXPERIMENTAL_… of each feature");
        ignored(6, "ETCD_PROXY_DIAL_TIMEOUT", "leave it out");
        ignored(7, "ETCD_DISCOVERY", "leave it out");
        for (minor, name) in [
            (5, "ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME"),
            (6, "ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME"),
            (6, "ETCD_CORRUPT_CHECK_TIME"),
            (7, "ETCD_FEATURE_GATES"),
            (5, "ETCD_ENABLE_V2"),
            (7, "ETCD_DISCOVERY_SRV"),
        ] {
            assert_eq!(said("", name, minor), [] as [&str; 0], "{name} {minor}");
        }
    }

    #[test]
    fn one_setting_in_two_forms_is_an_error_on_3_6() {
        let text =
            "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL=5s\nETCD_FEATURE_GATES=CompactHashCheck=true\n";
        let refused = |name: &str, other: &str| {
            assert_eq!(
                said(text, name, 6),
                [format!(
                    "Error conflicting-variables settings.env: {name}: \
                     etcd 3.6 does not start with it beside {other}: set only {other}"
                )]
            );
        };
        refused(
            "ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL",
            "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL",
        );
        refused("ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED", "ETCD_FEATURE_GATES");
        assert_eq!(said(text, "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK", 6), [] as [&str; 0]);
    }
}
