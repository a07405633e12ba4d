//! An environment file, as systemd reads it for `EnvironmentFile=`
//! (systemd.exec(5); `parse_env_file_internal` in systemd's src/basic/env-file.c).

use std::collections::BTreeMap;

/// `value` as it must stand after `NAME=`, so that every systemd and a POSIX
/// shell read it as it is. The value may be any text.
pub fn quote(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:=,@%+-[]".contains(&b);
    if value.bytes().all(plain) {
        return value.to_owned();
    }
    // In double quotes a backslash protects these four, in systemd as in a shell.
    let mut quoted = String::from('"');
    for character in value.chars() {
        if is_escapable(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted + "\""
}

/// The variables that an environment file with the content `text` sets, by name.
///
/// A line that begins with `#` or `;` is a comment, one without `=` is ignored,
/// and whitespace around names and values is too. A value, or a part of it at its
/// beginning, may stand in single or double quotes, which may hold line breaks. A
/// backslash outside of quotes keeps what follows as it is, in double quotes only
/// one of `"`, `\`, `` ` `` and `$`; before a line break both join the lines. The
/// last assignment wins, and the last line needs no line break.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        let Some(&first) = rest.peek() else { return found };
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !is_line_break(*c)) {
            name.push(c);
        }
        let assigned = rest.next_if_eq(&'=').is_some();
        if matches!(first, '#' | ';') {
            while rest.next_if(|c| !is_line_break(*c)).is_some() {}
        } else if assigned {
            found.insert(name.trim_ascii_end().to_owned(), value(&mut rest));
        }
    }
}

/// Takes a value and its line break from `rest`.
fn value(rest: &mut impl Iterator<Item = char>) -> String {
    let mut value = String::new();
    // How much of the value stands whatever follows: trailing whitespace goes,
    // unless it is quoted or escaped.
    let mut solid = 0;
    // Quotes have a meaning only until the first character outside of them.
    let mut begun = false;
    while let Some(c) = rest.next() {
        match c {
            _ if is_line_break(c) => break,
            '\'' if !begun => {
                value.extend(rest.by_ref().take_while(|c| *c != '\''));
                solid = value.len();
            }
            '"' if !begun => {
                double_quoted(rest, &mut value);
                solid = value.len();
            }
            '\\' => {
                begun = true;
                value.extend(rest.next().filter(|c| !is_line_break(*c)));
                solid = value.len();
            }
            _ if c.is_ascii_whitespace() && !begun => {}
            _ => {
                begun = true;
                value.push(c);
                if !c.is_ascii_whitespace() {
                    solid = value.len();
                }
            }
        }
    }
    value.truncate(solid);
    value
}

/// Takes what stands before the closing quote from `rest`, and the quote.
fn double_quoted(rest: &mut impl Iterator<Item = char>, value: &mut String) {
    while let Some(c) = rest.next().filter(|c| *c != '"') {
        match (c, if c == '\\' { rest.next() } else { None }) {
            (_, Some('\n')) => {}
            (_, Some(c)) if is_escapable(c) => value.push(c),
            (c, next) => value.extend([c].into_iter().chain(next)),
        }
    }
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

/// Whether a backslash in double quotes protects `c`.
fn is_escapable(c: char) -> bool {
    matches!(c, '"' | '\\' | '`' | '$')
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_systemd_reads_is_read() {
        for (text, expected) in [
            ("A=1", &[("A", "1")] as &[_]),
            ("\n \n A = 1 \nB=2", &[("A", "1"), ("B", "2")]),
            ("A=1\nA=2\n", &[("A", "2")]),
            ("# A=0\n;B=1\nC\nD=", &[("D", "")]),
            ("A=\nB= \nC=1", &[("A", ""), ("B", ""), ("C", "1")]),
            ("A=\"x y\" \nB=' z '", &[("A", "x y"), ("B", " z ")]),
            ("A='a\\b'\nB=\"a\\\"b\\\\\"", &[("A", "a\\b"), ("B", "a\"b\\")]),
            ("A=one\\\ntwo\nB=\"one\\\ntwo\"", &[("A", "onetwo"), ("B", "onetwo")]),
            ("A=\"one\ntwo\"\nB='one\ntwo'", &[("A", "one\ntwo"), ("B", "one\ntwo")]),
            ("A=a#b\nB=a\"b\"\nC=\"a\"'b' c", &[("A", "a#b"), ("B", "a\"b\""), ("C", "abc")]),
            ("A=\"a\\nb\"\nB=a\\nb\nC=a\\ ", &[("A", "a\\nb"), ("B", "anb"), ("C", "a ")]),
            ("A=a b  c \t\r\nB=1\r\n", &[("A", "a b  c"), ("B", "1")]),
            ("# a comment \\\nA=1", &[("A", "1")]),
            ("A=x=y\n=z", &[("", "z"), ("A", "x=y")]),
            ("A=\"not closed", &[("A", "not closed")]),
        ] {
            let found = parse(text);
            let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    /// Whatever a value is made of, it is read as it was given, and nothing of
    /// it becomes another variable.
    #[test]
    fn what_is_quoted_is_read_again() {
        const PARTS: [&str; 20] = [
            "a", "Z9", " ", "\t", "\n", "\r", "\"", "'", "\\", "$", "`", "#", ";", "=", "%i", "ä",
            "\u{2028}", "*", "~", "B=2",
        ];
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let length = random.usize(0..8);
            let value: String = (0..length).map(|_| PARTS[random.usize(..PARTS.len())]).collect();
            let text = format!("A={}\nC=3\n", quote(&value));
            let expected = [("A".to_owned(), value.clone()), ("C".to_owned(), "3".to_owned())];
            assert_eq!(parse(&text), BTreeMap::from(expected), "{text:?}");
        }
    }
}
