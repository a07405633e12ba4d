//! What is shown of a file that is to change.

use std::time::Duration;

use similar::TextDiff;

use crate::has_private_key;

/// How long it may take to find the shortest difference between two texts.
const LIMIT: Duration = Duration::from_secs(1);

/// The most that is shown of one difference, in lines.
const LINES: usize = 200;

/// The difference between the texts `old` and `new` of the file `path` of `node`, in lines as
/// `diff -u` has them, the first ones if there are many. What is no text, or holds a private
/// key, is not shown, and the one line says so.
pub fn diff(node: &str, path: &str, old: &str, new: &str) -> String {
    if [old, new].iter().any(|text| text.contains('\0')) {
        return "(not shown: not a text)".into();
    }
    if [old, new].iter().any(|text| has_private_key(text)) {
        return "(not shown: a private key)".into();
    }
    let diff = TextDiff::configure().timeout(LIMIT).diff_lines(old, new);
    let header = format!("{node}: {path}");
    let text = diff.unified_diff().header(&header, &header).to_string();
    match text.lines().count() {
        count if count > LINES => {
            let shown: Vec<_> = text.lines().take(LINES).collect();
            format!("{}\n(and {} lines more)", shown.join("\n"), count - LINES)
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_short_and_tells_no_secret() {
        let text = diff("etcd-01", "/etc/x", "a\nb\n", "a\nc\n");
        assert_eq!(text, "--- etcd-01: /etc/x\n+++ etcd-01: /etc/x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
        let long = "x\n".repeat(1000);
        let text = diff("etcd-01", "/etc/x", "", &long);
        assert_eq!(text.lines().count(), LINES + 1);
        assert_eq!(text.lines().last(), Some("(and 803 lines more)"));
        let key = "-----BEGIN PRIVATE KEY-----\nsecret\n";
        for (old, new, shown) in [
            ("a\0", "b", "(not shown: not a text)"),
            (key, "b", "(not shown: a private key)"),
            ("a", key, "(not shown: a private key)"),
        ] {
            assert_eq!(diff("etcd-01", "/etc/x", old, new), shown);
        }
    }
}
