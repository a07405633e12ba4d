//! Private keys, which never stand in the document.

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
    text.split("BEGIN ").skip(1).any(after_begin) || text.contains("PuTTY-User-Key-File-")
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
