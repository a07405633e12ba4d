//! JSON as it was written: every key in its order, every value with its own digits
//! and escapes.
//!
//! [`serde_json::Value`] would read `1e2` as `100.0`, 2⁶⁴ as a power of ten, and of
//! two equal keys the last.

use std::collections::HashSet;

use serde::de::IgnoredAny;
use serde::ser::{Serialize, Serializer};
use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::Error;
use crate::place::shown;

/// The deepest that lists and objects may stand in each other, as in serde_json.
const DEEPEST: usize = 127;

/// A value as it was written.
#[derive(Debug, Clone)]
pub(crate) enum Tree {
    /// A string, a number, `true`, `false` or `null`.
    Scalar(Box<RawValue>),
    /// A list.
    List(Vec<Tree>),
    /// An object; no key stands in it twice.
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// Reads the one JSON value that `text` is. An error names line and column.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        // Syntax is serde_json's to judge; what follows relies on it.
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| syntax(text, &error))?;
        let mut reader = Reader { text, at: 0 };
        reader.value(0).map_err(|what| reader.error(&what))
    }

    /// The value of `key`, when this is an object that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(entries) => {
                entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The text, when this is a string.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Scalar(raw) => serde_json::from_str(raw.get()).ok(),
            _ => None,
        }
    }
}

impl TryFrom<Value> for Tree {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, serde_json::Error> {
        Ok(match value {
            Value::Array(items) => {
                Self::List(items.into_iter().map(Self::try_from).collect::<Result<_, _>>()?)
            }
            Value::Object(entries) => {
                let entry = |(key, value)| Ok((key, Self::try_from(value)?));
                Self::Object(entries.into_iter().map(entry).collect::<Result<_, Self::Error>>()?)
            }
            scalar => Self::Scalar(serde_json::value::to_raw_value(&scalar)?),
        })
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Scalar(raw) => raw.serialize(serializer),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(entries) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
            }
        }
    }
}

fn syntax(text: &str, error: &serde_json::Error) -> Error {
    let place = format!("stdin:{}:{}", error.line(), error.column());
    if error.classify() == Category::Eof {
        return Error::bad_input(format!("{place}: the document is cut off"));
    }
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    if stream.next().is_some_and(|first| first.is_ok()) {
        return Error::bad_input(format!("{place}: something follows the document; expected one"));
    }
    Error::bad_input(format!("{place}: not JSON: {}", without_place(error)))
}

/// The message of `error` alone.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.rsplit_once(" at line ").map_or(message.clone(), |(what, _)| what.to_owned())
}

/// Takes well-formed JSON apart.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Tree, String> {
        if depth > DEEPEST {
            return Err(format!("more than {DEEPEST} lists and objects in each other"));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            _ => {
                let start = self.at;
                let token = self.token();
                self.text_of(start, token)?;
                serde_json::from_str(token).map(Tree::Scalar).map_err(|e| without_place(&e))
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Tree, String> {
        let (mut entries, mut keys) = (Vec::new(), HashSet::new());
        self.at += 1;
        while self.peek().is_some_and(|next| next != b'}') {
            let start = self.at;
            let token = self.token();
            let key = self.text_of(start, token)?.unwrap_or_default();
            if !keys.insert(key.clone()) {
                self.at = start;
                return Err(format!("the key {} stands here twice", shown(&key)));
            }
            self.skip(b':');
            entries.push((key, self.value(depth + 1)?));
            self.skip(b',');
        }
        self.at += 1;
        Ok(Tree::Object(entries))
    }

    fn list(&mut self, depth: usize) -> Result<Tree, String> {
        let mut items = Vec::new();
        self.at += 1;
        while self.peek().is_some_and(|next| next != b']') {
            items.push(self.value(depth + 1)?);
            self.skip(b',');
        }
        self.at += 1;
        Ok(Tree::List(items))
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, byte: u8) {
        if self.peek() == Some(byte) {
            self.at += 1;
        }
    }

    /// The scalar that begins here.
    fn token(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let mut escaped = true; // as the opening quote is
        let ends = |byte: u8| match byte {
            _ if escaped => {
                escaped = false;
                false
            }
            b'\\' => {
                escaped = true;
                false
            }
            byte => byte == b'"',
        };
        let length = match rest.starts_with('"') {
            true => rest.bytes().position(ends).map_or(rest.len(), |end| end + 1),
            false => {
                let ends = |c: char| matches!(c, ',' | ']' | '}') || c.is_ascii_whitespace();
                rest.find(ends).unwrap_or(rest.len())
            }
        };
        self.at += length;
        &rest[..length]
    }

    /// The text of the string `token`, which begins at `start`. One that escapes
    /// half of a character has none.
    fn text_of(&mut self, start: usize, token: &str) -> Result<Option<String>, String> {
        if !token.starts_with('"') {
            return Ok(None);
        }
        serde_json::from_str(token).map(Some).map_err(|error| {
            self.at = start;
            format!("not JSON: {}", without_place(&error))
        })
    }

    /// What is wrong where the reader is.
    fn error(&self, what: &str) -> Error {
        let before = &self.text.as_bytes()[..self.at.min(self.text.len())];
        let line = before.split(|byte| *byte == b'\n').count();
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        Error::bad_input(format!("stdin:{line}:{column}: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        for text in [
            r#"{"b": 1e2, "a": [18446744073709551616, -0.0, 1.50, 1E-400, 1e400], "": null}"#,
            r#" [ "\u00e9\"\\" , "\\", true, {} , [ ], [[]], "{[,:]}" ] "#,
            "7",
            r#""x""#,
            "{\"ä\":\t{\"\\n\" : \"\u{202e}\"}}",
        ] {
            let written = serde_json::to_string(&Tree::parse(text).unwrap()).unwrap();
            let outside = |text: &str| {
                let (mut quoted, mut kept) = (false, String::new());
                let mut before = ' ';
                for c in text.chars() {
                    quoted ^= c == '"' && before != '\\';
                    before = if before == '\\' { ' ' } else { c };
                    if quoted || !c.is_whitespace() {
                        kept.push(c);
                    }
                }
                kept
            };
            assert_eq!(written, outside(text));
        }
    }

    #[test]
    fn what_serde_does_not_refuse_is_refused_with_its_place() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for (text, expected) in [
            ("{\"a\": 1,\n \"b\": 2, \"a\": 3}", "stdin:2:10: the key \"a\" stands here twice"),
            (
                "[{\"x\": {\"n\": 1, \"\\u006e\": 1}}]",
                "stdin:1:17: the key \"n\" stands here twice",
            ),
            ("[1, \"\\ud800\"]", "stdin:1:5: not JSON: unexpected end of hex escape"),
            (&deep, "stdin:1:129: more than 127 lists and objects in each other"),
        ] {
            assert_eq!(Tree::parse(text).unwrap_err().to_string(), expected);
        }
    }
}
