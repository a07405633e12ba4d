//! Keys that the types do not know: found while reading, put back when writing.

use std::collections::HashSet;

use serde_json::Value;

/// The document as it was read, and the paths in it that the types do not know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unknown {
    read: Value,
    paths: HashSet<String>,
}

impl Unknown {
    /// `paths` are as `serde_ignored` gives them: `nodes.0.rack`.
    pub(crate) fn new(read: Value, paths: impl IntoIterator<Item = String>) -> Self {
        Self { read, paths: paths.into_iter().collect() }
    }

    /// Puts the unknown keys back into what the types were written as.
    pub(crate) fn put_back(&self, written: &mut Value) {
        if !self.paths.is_empty() {
            self.graft(&self.read, written, "");
        }
    }

    fn graft(&self, read: &Value, written: &mut Value, path: &str) {
        match (read, written) {
            (Value::Object(read), Value::Object(written)) => {
                for (key, value) in read {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    if self.paths.contains(&path) {
                        written.insert(key.clone(), value.clone());
                    } else if let Some(written) = written.get_mut(key) {
                        self.graft(value, written, &path);
                    }
                }
            }
            (Value::Array(read), Value::Array(written)) => {
                for (at, value) in read.iter().enumerate() {
                    if let Some(same) = find(written, value, at) {
                        self.graft(value, same, &format!("{path}.{at}"));
                    }
                }
            }
            _ => {}
        }
    }
}

/// The item of a list that has the same identity: the key that lists are keyed
/// by, else the place.
fn find<'a>(items: &'a mut [Value], wanted: &Value, at: usize) -> Option<&'a mut Value> {
    match ["name", "path", "arch", "endpoint", "id"].iter().find(|key| wanted.get(**key).is_some())
    {
        Some(key) => items.iter_mut().find(|item| item.get(key) == wanted.get(key)),
        None => items.get_mut(at),
    }
}
