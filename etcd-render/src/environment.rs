//! The user's own variables in the environment file of the unit, and what etcd
//! makes of them.

use std::collections::BTreeMap;

use etcd::{Minor, environment, settings};
use pipeline::{Code, ToolResult};

/// The environment file `text` with `variables` set in it: in place of those of
/// the same name, or after all others. One with an empty value is left out: etcd
/// takes it as not set, and warns about it.
pub fn set(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut remaining = variables.clone();
    let mut lines = Vec::new();
    for line in text.lines() {
        let own = variable(line).and_then(|name| variables.get_key_value(name));
        match own {
            Some((name, value)) => {
                remaining.remove(name);
                lines.extend(assignment(name, value));
            }
            None => lines.push(line.to_owned()),
        }
    }
    lines.extend(remaining.iter().filter_map(|(name, value)| assignment(name, value)));
    lines.join("\n") + "\n"
}

fn assignment(name: &str, value: &str) -> Option<String> {
    (!value.is_empty()).then(|| format!("{name}={}", environment::quote(value)))
}

/// The name of the variable that a line of an environment file sets.
fn variable(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('=')?;
    Some(name.trim()).filter(|name| !name.starts_with(['#', ';']))
}

/// What is wrong with `variables` of the user's, set in the environment file
/// `text` of etcd `minor`.
///
/// etcd ignores a variable that it does not know, and the next minor version one
/// that it gives up: warnings. With one setting in both its old and its new form
/// etcd 3.6 does not start (`SetFeatureGatesFromExperimentalFlags` in etcd's
/// server/embed), and none does with a feature gate that it does not know: errors.
pub fn problems(text: &str, variables: &BTreeMap<String, String>, minor: Minor) -> Vec<ToolResult> {
    let set = environment::parse(text);
    let problem = |name: &String| {
        let warning = |code, what: String, advice| {
            let message = format!("settings.env: {name}: {what}: {advice}");
            Some(ToolResult::warning(code, message))
        };
        if let Some(advice) = settings::instead_of_unknown(name, minor) {
            let what = format!("unknown to etcd {minor}, which ignores it");
            return warning(Code::UnknownVariable, what, advice);
        }
        if name == settings::FEATURE_GATES {
            let unknown = settings::unknown_features(&set[name], minor).join(", ");
            let message = format!(
                "settings.env: {name}: etcd {minor} refuses to start with a feature that it does \
                 not know: remove {unknown}"
            );
            let refused = ToolResult::error(Code::UnknownFeature, message);
            return Some(refused).filter(|_| !unknown.is_empty());
        }
        if minor == Minor::V3_6
            && let Some(other) = other_form(name, &set)
        {
            let message = format!(
                "settings.env: {name}: etcd 3.6 refuses to start if {other} is set too: \
                 set only {other}"
            );
            return Some(ToolResult::error(Code::ConflictingVariables, message));
        }
        if let Some(why) = contradiction(name, &set) {
            let message = format!("settings.env: {name}: etcd refuses to start with it: {why}");
            return Some(ToolResult::error(Code::ConflictingVariables, message));
        }
        let advice = settings::instead_of_deprecated(name, minor)?;
        let what = format!("deprecated, and ignored from etcd {} on", minor.next());
        warning(Code::DeprecatedVariable, what, advice)
    };
    variables.keys().filter(|name| set.contains_key(*name)).filter_map(problem).collect()
}

/// The variable of those that are `set` that is the new form of the experimental `name`.
fn other_form(name: &str, set: &BTreeMap<String, String>) -> Option<String> {
    if let Some(renamed) = settings::renamed(name).filter(|renamed| set.contains_key(renamed)) {
        return Some(renamed);
    }
    let (gate, gates) = settings::feature_gate(name).zip(set.get(settings::FEATURE_GATES))?;
    // etcd itself looks no closer: a longer name that holds this one is a conflict too.
    gates.contains(gate).then(|| settings::FEATURE_GATES.to_owned())
}

/// Why etcd does not start with the variable `name` beside the others that are `set`, and what
/// to do (`Validate` in server/embed/config.go, `setupLogRotation` in config_logging.go).
fn contradiction(name: &str, set: &BTreeMap<String, String>) -> Option<&'static str> {
    let value = |name: &str| set.get(name).map(String::as_str).unwrap_or_default();
    let only_newest = value("ETCD_TLS_MIN_VERSION") == "TLS1.3";
    match name {
        "ETCD_TLS_MIN_VERSION" if only_newest && value("ETCD_TLS_MAX_VERSION") == "TLS1.2" => {
            Some("ETCD_TLS_MAX_VERSION is lower: raise that, or lower this")
        }
        "ETCD_TLS_MIN_VERSION" if only_newest && !value("ETCD_CIPHER_SUITES").is_empty() => {
            Some("TLS1.3 has no choice of ETCD_CIPHER_SUITES: remove one of the two")
        }
        "ETCD_ENABLE_LOG_ROTATION" if etcd::value::boolean(value(name)) == Some(true) => {
            let outputs = value("ETCD_LOG_OUTPUTS");
            let is_file = |at: &&str| !["", "default", "stderr", "stdout"].contains(at);
            let rotates = match outputs.split(',').filter(is_file).count() {
                // etcd asks for a file only where there is one output.
                0 => outputs.contains(','),
                files => files == 1,
            };
            (!rotates).then_some("set ETCD_LOG_OUTPUTS to one file")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// What is reported of `name`, set to 1 in the file `text` of etcd `minor`.
    fn reported(text: &str, name: &str, minor: Minor) -> Vec<String> {
        let own = variables(&[(name, "1")]);
        let found = problems(&set(text, &own), &own, minor);
        found.iter().map(|r| format!("{:?} {} {}", r.severity, r.code, r.message)).collect()
    }

    #[test]
    fn a_variable_replaces_that_of_its_name_and_no_other() {
        let text = "# ETCD_A=0\nETCD_A=1\nETCD_AB=2\nETCD_C=3\n";
        let own = variables(&[("ETCD_A", "x y"), ("ETCD_C", ""), ("ETCD_B", "z")]);
        assert_eq!(set(text, &own), "# ETCD_A=0\nETCD_A=\"x y\"\nETCD_AB=2\nETCD_B=z\n");
    }

    #[test]
    fn a_variable_in_the_form_of_another_minor_is_named() {
        for (minor, name, advice) in [
            (Minor::V3_7, "ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME", "set ETCD_CORRUPT_CHECK_TIME"),
            (Minor::V3_5, "ETCD_CORRUPT_CHECK_TIME", "set ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME"),
            (Minor::V3_5, "ETCD_QUOTA_BACKEND_BYTE", "check the name"),
        ] {
            assert_eq!(
                reported("", name, minor),
                [format!(
                    "Warning unknown-variable settings.env: {name}: \
                     unknown to etcd {minor}, which ignores it: {advice}"
                )]
            );
        }
        assert_eq!(
            reported("", "ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME", Minor::V3_6),
            ["Warning deprecated-variable settings.env: ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME: \
                 deprecated, and ignored from etcd 3.7 on: set ETCD_CORRUPT_CHECK_TIME"]
        );
        for (minor, name) in [
            (Minor::V3_5, "ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME"),
            (Minor::V3_6, "ETCD_CORRUPT_CHECK_TIME"),
            (Minor::V3_7, "ETCD_DISCOVERY_SRV"),
        ] {
            assert_eq!(reported("", name, minor), [] as [&str; 0], "{name} {minor}");
        }
    }

    #[test]
    fn what_is_left_out_is_not_reported() {
        let own = variables(&[("ETCD_ENABLE_V2", "")]);
        assert!(problems(&set("ETCD_ENABLE_V2=true\n", &own), &own, Minor::V3_7).is_empty());
    }

    #[test]
    fn what_contradicts_another_variable_is_an_error() {
        for (text, expected) in [
            ("ETCD_TLS_MIN_VERSION=TLS1.3\nETCD_TLS_MAX_VERSION=TLS1.2", "MIN_VERSION"),
            ("ETCD_TLS_MIN_VERSION=TLS1.3\nETCD_CIPHER_SUITES=TLS_RSA", "MIN_VERSION"),
            ("ETCD_ENABLE_LOG_ROTATION=true", "ROTATION"),
            ("ETCD_ENABLE_LOG_ROTATION=true\nETCD_LOG_OUTPUTS=stderr", "ROTATION"),
            ("ETCD_ENABLE_LOG_ROTATION=true\nETCD_LOG_OUTPUTS=/var/log/a,/var/log/b", "ROTATION"),
            ("ETCD_ENABLE_LOG_ROTATION=true\nETCD_LOG_OUTPUTS=stderr,/var/log/etcd", ""),
            ("ETCD_ENABLE_LOG_ROTATION=true\nETCD_LOG_OUTPUTS=stderr,stdout", ""),
            ("ETCD_ENABLE_LOG_ROTATION=false", ""),
            ("ETCD_TLS_MIN_VERSION=TLS1.3\nETCD_TLS_MAX_VERSION=TLS1.3", ""),
            ("ETCD_TLS_MIN_VERSION=TLS1.2\nETCD_TLS_MAX_VERSION=TLS1.2", ""),
        ] {
            let set = environment::parse(text);
            let found = problems(text, &set, Minor::V3_5);
            let found: Vec<_> = found.iter().map(|problem| &problem.message).collect();
            match expected {
                "" => assert!(found.is_empty(), "{text}: {found:?}"),
                name => assert!(found.len() == 1 && found[0].contains(name), "{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn one_setting_in_two_forms_is_an_error_on_3_6() {
        let text =
            "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL=5s\nETCD_FEATURE_GATES=CompactHashCheck=true\n";
        for (name, other) in [
            (
                "ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL",
                "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL",
            ),
            ("ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED", "ETCD_FEATURE_GATES"),
        ] {
            assert_eq!(
                reported(text, name, Minor::V3_6),
                [format!(
                    "Error conflicting-variables settings.env: {name}: \
                     etcd 3.6 refuses to start if {other} is set too: set only {other}"
                )]
            );
        }
        let other = reported(text, "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK", Minor::V3_6);
        assert!(other[0].starts_with("Warning deprecated-variable "), "{other:?}");
    }
}
