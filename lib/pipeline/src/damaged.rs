//! Damaged documents, a great many of them: what no test by hand thinks of.

use serde_json::Value;

use crate::parse;
use crate::sample::{Random, WHOLE};
use crate::terminal;

/// A key in one of its forms, and what nobody may see of it.
const KEYS: [&str; 3] = [
    "-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0IHNlY3JldA",
    "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nc2VjcmV0IHNlY3JldA",
    "PuTTY-User-Key-File-3: ssh-ed25519\nc2VjcmV0IHNlY3JldA",
];
const SECRET: &str = "c2VjcmV0";

/// Replaces, adds or removes a value at a random place.
fn damage_value(random: &mut Random, value: &mut Value) {
    let inside = match value {
        Value::Array(items) if !items.is_empty() => {
            let at = random.below(items.len());
            match random.below(8) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => return damage_value(random, &mut items[at]),
            }
            return;
        }
        Value::Object(entries) if !entries.is_empty() => {
            let at = random.below(entries.len());
            let key = entries.keys().nth(at).cloned().unwrap();
            if random.below(8) == 0 {
                entries.shift_remove(&key);
                return;
            }
            entries.get_mut(&key).unwrap()
        }
        _ => value,
    };
    match random.below(6) {
        0 => *inside = random.value(3),
        1 => *inside = KEYS[random.below(KEYS.len())].into(),
        2 => *inside = "\u{1b}]0;x\u{7}\u{202e}\u{9b}\n/../".repeat(random.below(200)).into(),
        _ if inside.is_object() || inside.is_array() => damage_value(random, inside),
        _ => *inside = random.value(1),
    }
}

/// Changes bytes of `text`: one is flipped, some are cut out, doubled, or cut off.
fn damage_text(random: &mut Random, text: &mut Vec<u8>) {
    let (a, b) = (random.below(text.len()), random.below(text.len()));
    let (from, to) = (a.min(b), a.max(b).min(a.min(b) + 50));
    match random.below(4) {
        0 => text[from] = random.below(256) as u8,
        1 => drop(text.drain(from..to)),
        2 => {
            let twice = text[from..to].to_vec();
            text.splice(from..from, twice);
        }
        _ => text.truncate(to),
    }
}

#[test]
fn two_thousand_damaged_documents() {
    let mut random = Random::new(20);
    let whole: Value = serde_json::from_str(WHOLE).unwrap();
    let (mut fine, mut refused) = (0, 0);
    for _ in 0..2000 {
        let mut value = whole.clone();
        for _ in 0..random.below(3) {
            damage_value(&mut random, &mut value);
        }
        let mut text = serde_json::to_vec_pretty(&value).unwrap();
        if random.below(2) == 0 && !text.is_empty() {
            damage_text(&mut random, &mut text);
        }
        let shown = || String::from_utf8_lossy(&text).into_owned();
        match parse(&text) {
            Ok(input) => {
                fine += 1;
                let out = input.original.with_changes_of(&input.document).unwrap();
                let out = serde_json::to_vec_pretty(&out).unwrap();
                let same = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
                assert_eq!(same(&out), same(&text), "{}", shown());
                assert!(!shown().contains("PRIVATE KEY"), "{}", shown());
            }
            Err(error) => {
                refused += 1;
                let message = error.to_string();
                for line in message.lines() {
                    // `stdin: PATH: …`, `stdin:LINE:COLUMN: …` or `stdin: not …`.
                    assert!(line.starts_with("stdin:"), "{line}\n{}", shown());
                    assert!(line.len() < 1000, "{line}");
                    assert_eq!(terminal::line(line), line);
                    assert!(!line.contains(SECRET), "{line}");
                }
                assert!(!message.is_empty());
            }
        }
    }
    assert!(fine > 200 && refused > 200, "{fine} fine, {refused} refused");
}
