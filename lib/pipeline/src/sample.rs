//! Documents for tests: one that has every key, and random changes to it.

use serde_json::{Map, Value, json};

use crate::document::Document;

/// A document with every key of the types.
pub(crate) const WHOLE: &str = include_str!("sample.json");

/// Names that a careless reader would confuse with others.
const NAMES: [&str; 16] = [
    "name",
    "path",
    "id",
    "arch",
    "endpoint",
    "a.b",
    "nodes.0.name",
    "",
    "?",
    "0",
    "$ref",
    "__proto__",
    "with space",
    "ä\u{202e}",
    "\u{1b}[31m",
    "results",
];

/// A source of changes that are the same in each run.
pub(crate) struct Random {
    rng: fastrand::Rng,
    schema: Value,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let schema = serde_json::to_value(schemars::schema_for!(Document)).unwrap();
        Self { rng: fastrand::Rng::with_seed(seed), schema }
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.rng.usize(..limit)
    }

    /// Any value, of a few levels.
    pub(crate) fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => Value::Bool(self.rng.bool()),
            2 => json!(self.rng.f64()),
            3 => json!(self.rng.i64(..)),
            4 => json!(NAMES[self.below(NAMES.len())]),
            5 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let entry = |random: &mut Self| {
                    (NAMES[random.below(NAMES.len())].to_owned(), random.value(depth - 1))
                };
                Value::Object((0..self.below(4)).map(|_| entry(self)).collect())
            }
        }
    }

    /// Adds keys that the types do not know to objects of `document`, at random
    /// places among the others. Each is an object with a `mark` of its own, counted
    /// from 0. Gives their number.
    pub(crate) fn add_unknown_keys(&mut self, document: &mut Value) -> usize {
        let mut count = 0;
        let schema = self.schema.clone();
        self.grow(document, &schema, &mut count);
        count
    }

    fn grow(&mut self, value: &mut Value, schema: &Value, count: &mut usize) {
        let schema = self.resolved(schema);
        match value {
            Value::Array(items) => {
                for item in items {
                    self.grow(item, &schema["items"], count);
                }
            }
            Value::Object(entries) => {
                let Some(known) = schema["properties"].as_object() else { return };
                let mut grown = Map::new();
                for (key, mut value) in std::mem::take(entries) {
                    if self.below(3) == 0 {
                        let name = NAMES[self.below(NAMES.len())];
                        if !known.contains_key(name) && !grown.contains_key(name) {
                            let unknown = json!({"mark": count, "value": self.value(3)});
                            grown.insert(name.to_owned(), unknown);
                            *count += 1;
                        }
                    }
                    self.grow(&mut value, &known[&key], count);
                    grown.insert(key, value);
                }
                *entries = grown;
            }
            _ => {}
        }
    }

    /// What a `$ref`, or one that may be null, stands for.
    fn resolved(&self, schema: &Value) -> Value {
        let reference = match &schema["anyOf"] {
            Value::Array(any) => &any[0]["$ref"],
            _ => &schema["$ref"],
        };
        match reference.as_str() {
            Some(name) => self.schema.pointer(&name[1..]).unwrap().clone(),
            None => schema.clone(),
        }
    }
}
