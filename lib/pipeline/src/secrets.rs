//! Private keys, which never stand in the document.

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::place::Place;
use crate::tree::Tree;

/// What is said of a document with a private key in it.
pub(crate) const REFUSED: &str =
    "contains a private key: keep it in a file, and name that in a file's local instead";

/// Whether `text` holds a private key in one of the forms that tools write: PEM
/// (PKCS#1, PKCS#8, SEC 1, OpenSSH), PGP, SSH2 (RFC 4716's cousin of ssh.com) or PuTTY.
pub fn has_private_key(text: &str) -> bool {
    let after_begin = |rest: &str| {
        // The label of `-----BEGIN EC PRIVATE KEY-----`, `---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----`.
        rest.split('-').next().is_some_and(|label| label.contains("PRIVATE KEY"))
    };
    text.split("BEGIN ").skip(1).any(after_begin)
        || text.contains("PuTTY-User-Key-File-")
        || text.match_indices(PEM_IN_BASE64).any(|(at, _)| begins_key(&text[at..]))
}

/// What base64 makes of the beginning of a PEM file, as in a kubeconfig.
const PEM_IN_BASE64: &str = "LS0tLS1CRUdJTi";

/// Whether the first line of the PEM file whose base64 begins `text` is that of a private key.
fn begins_key(text: &str) -> bool {
    // Longer than any label, and a whole number of groups.
    let groups: String = text.chars().take_while(|c| is_base64(*c)).take(96).collect();
    let whole = groups.get(..groups.len() / 4 * 4).unwrap_or_default();
    let decoded = BASE64_STANDARD.decode(whole).unwrap_or_default();
    let text = String::from_utf8_lossy(&decoded);
    text.lines().next().is_some_and(|line| line.contains("PRIVATE KEY"))
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/')
}

/// The places in `document` that hold a private key, in keys as well as in values.
pub(crate) fn find(document: &Tree) -> Vec<Place> {
    let mut found = Vec::new();
    search(document, &Place::default(), &mut found);
    found
}

fn search(value: &Tree, place: &Place, found: &mut Vec<Place>) {
    match value {
        Tree::Scalar(_) => {
            if value.text().is_some_and(|text| has_private_key(&text)) {
                found.push(place.clone());
            }
        }
        Tree::List(items) => {
            for (index, item) in items.iter().enumerate() {
                search(item, &place.item(index), found);
            }
        }
        Tree::Object(entries) => {
            for (key, value) in entries {
                if has_private_key(key) {
                    found.push(place.clone());
                } else {
                    search(value, &place.key(key), found);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_base64_is_one() {
        let in_base64 = |label: &str| {
            let pem = format!("-----BEGIN {label}-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n");
            format!("client-key-data: {}\n", BASE64_STANDARD.encode(pem))
        };
        for label in ["PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"] {
            assert!(has_private_key(&in_base64(label)), "{label}");
        }
        for label in ["CERTIFICATE", "PUBLIC KEY"] {
            assert!(!has_private_key(&in_base64(label)), "{label}");
        }
        assert!(!has_private_key("LS0tLS1CRUdJTi"));
    }
}
