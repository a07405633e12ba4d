//! The user's document as it was read, which what the tools write goes into.
//!
//! A tool works on the types of [`crate::document`]. They hold neither the keys
//! that they do not know nor the form in which a value was written, so a document
//! that went through them alone would lose both. What leaves a tool is therefore
//! the document that came in, with the differences that the tool made to the types:
//! a merge of three, which needs no list of what is known.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Map, Value};

use crate::document::Document;
use crate::place::Place;
use crate::tree::Tree;

/// What the items of each list of objects are keyed by. Results have no key: they
/// are only ever added to.
const KEYS: [(&str, &str); 9] = [
    ("nodes", "name"),
    ("users", "name"),
    ("directories", "path"),
    ("files", "path"),
    ("units", "name"),
    ("archives", "arch"),
    ("binaries", "name"),
    ("endpoints", "endpoint"),
    ("members", "id"),
];

/// A document as it was read.
#[derive(Debug, Default)]
pub(crate) struct Original {
    /// Every key of it; absent for a list of nodes, which has none.
    read: Option<Tree>,
    /// The types that it was read as, written again before any tool touched them.
    typed: Value,
}

impl Original {
    /// `read` was read as `document`.
    pub(crate) fn new(read: Tree, document: &Document) -> serde_json::Result<Self> {
        Ok(Self { read: Some(read), typed: serde_json::to_value(document)? })
    }

    /// Where a list stands in the place of an object, which serde fills with its items.
    pub(crate) fn list_for_object(&self) -> Option<Place> {
        list_for_object(self.read.as_ref()?, &self.typed, &Place::default())
    }

    /// `document`, which began as this original, with all that the types do not hold.
    pub(crate) fn with_changes_of(self, document: &Document) -> serde_json::Result<Tree> {
        let now = serde_json::to_value(document)?;
        match self.read {
            Some(read) => merge("", read, Some(&self.typed), now),
            None => now.try_into(),
        }
    }
}

fn list_for_object(read: &Tree, typed: &Value, place: &Place) -> Option<Place> {
    match (read, typed) {
        (Tree::List(_), Value::Object(_)) => Some(place.clone()),
        (Tree::List(items), Value::Array(typed)) => {
            let mut items = items.iter().zip(typed).enumerate();
            items.find_map(|(at, (read, typed))| list_for_object(read, typed, &place.item(at)))
        }
        (Tree::Object(entries), Value::Object(typed)) => entries
            .iter()
            .find_map(|(key, read)| list_for_object(read, typed.get(key)?, &place.key(key))),
        _ => None,
    }
}

/// `now`, in the form of `read`. `read` was read as `typed` (absent where nothing of
/// it was kept), which became `now`; all three are the value of `key`.
fn merge(key: &str, read: Tree, typed: Option<&Value>, now: Value) -> serde_json::Result<Tree> {
    if typed == Some(&now) {
        return Ok(read);
    }
    match (read, now) {
        (Tree::Object(read), Value::Object(now)) => {
            merge_objects(read, typed.and_then(Value::as_object), now)
        }
        (Tree::List(read), Value::Array(now)) => {
            merge_lists(key, read, typed.and_then(Value::as_array), now)
        }
        (_, now) => now.try_into(),
    }
}

fn merge_objects(
    read: Vec<(String, Tree)>,
    typed: Option<&Map<String, Value>>,
    mut now: Map<String, Value>,
) -> serde_json::Result<Tree> {
    let given: HashSet<_> = read.iter().map(|(key, _)| key.clone()).collect();
    let mut merged = Vec::new();
    for (key, value) in read {
        let typed = typed.and_then(|typed| typed.get(&key));
        let value = match now.get_mut(&key).map(Value::take) {
            Some(now) => merge(&key, value, typed, now)?,
            None if typed.is_some() => continue,
            // Unknown; or known and without a value, which is not written.
            None => value,
        };
        merged.push((key, value));
    }
    for (key, value) in now.into_iter().filter(|(key, _)| !given.contains(key)) {
        merged.push((key, value.try_into()?));
    }
    Ok(Tree::Object(merged))
}

fn merge_lists(
    list: &str,
    read: Vec<Tree>,
    typed: Option<&Vec<Value>>,
    now: Vec<Value>,
) -> serde_json::Result<Tree> {
    let identity = |item: &Value| match KEYS.iter().find(|(name, _)| *name == list) {
        Some((_, key)) => item.get(key).map(Value::to_string),
        None => Some(item.to_string()),
    };
    let mut earlier: HashMap<_, VecDeque<_>> = HashMap::new();
    for (read, typed) in read.into_iter().zip(typed.into_iter().flatten()) {
        earlier.entry(identity(typed)).or_default().push_back((read, typed));
    }
    let merged = now.into_iter().map(|now| {
        match earlier.get_mut(&identity(&now)).and_then(VecDeque::pop_front) {
            Some((read, typed)) => merge("", read, Some(typed), now),
            None => now.try_into(),
        }
    });
    Ok(Tree::List(merged.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Serialize;

    use super::*;
    use crate::document::{Arch, Archive, File, Health, Member, Pki, Release};
    use crate::sample::{Random, WHOLE};
    use crate::{Code, ToolResult, parse};

    fn text(value: &impl Serialize) -> String {
        serde_json::to_string_pretty(value).unwrap()
    }

    /// `text` on as few lines as it can have, its numbers as they are.
    fn tidy(json: &str) -> String {
        text(&Tree::parse(json).unwrap())
    }

    /// `json` as a tool passes it on that does `change`.
    fn passed(json: &str, change: impl FnOnce(&mut Document)) -> String {
        let mut input = parse(json.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{json}"));
        change(&mut input.document);
        text(&input.original.with_changes_of(&input.document).unwrap())
    }

    #[test]
    fn an_unchanged_document_comes_out_as_it_was_written() {
        let read = r#"{
            "nodes": [{"units": [], "ssh": {"x": null}, "settings": {"future": 1e2},
                       "hostname": null, "address": "1.1.1.1", "name": "a"}],
            "big": [18446744073709551616, 123456789012345678901234567890, 1.50, -0.0, 1E+2],
            "cluster": {"settings": {}}, "results": [],
            "apiVersion": "etcd-tools/v1"
        }"#;
        assert_eq!(passed(read, |_| {}), tidy(read));
        let added = passed(read, |document| document.nodes[0].hostname = Some("h".into()));
        let expected = read.replace("\"hostname\": null", "\"hostname\": \"h\"");
        assert_eq!(added, tidy(&expected));
    }

    #[test]
    fn awkward_names_hide_nothing_from_a_tool_that_writes_beside_them() {
        let read = r#"{"apiVersion": "etcd-tools/v1", "a.b": 1, "a": {"b": 2}, "nodes": [{
            "name": "a", "address": "1.1.1.1", "path": "of node", "settings": {"future": 1},
            "files": [
                {"name": "n1", "path": "/1", "mode": "0600", "content": "", "id": 1},
                {"name": "n2", "path": "/2", "mode": "0600", "content": "", "arch": 2}]}]}"#;
        let out = passed(read, |document| {
            document.nodes[0].files.remove(0);
            document.nodes[0].settings.client_port = Some(1);
            let mut file = document.nodes[0].files[0].clone();
            file.content = None;
            file.local = Some("x".into());
            document.nodes[0].set_file(file);
        });
        let expected = r#"{"apiVersion": "etcd-tools/v1", "a.b": 1, "a": {"b": 2}, "nodes": [{
            "name": "a", "address": "1.1.1.1", "path": "of node",
            "settings": {"future": 1, "clientPort": 1},
            "files": [{"name": "n2", "path": "/2", "mode": "0600", "arch": 2,
                       "owner": "root", "group": "root", "local": "x"}]}], "results": []}"#;
        assert_eq!(out, tidy(expected));
    }

    #[test]
    fn unknown_keys_anywhere_survive_what_the_tools_do() {
        let mut random = Random::new(16);
        for _ in 0..60 {
            let mut read = serde_json::from_str(WHOLE).unwrap();
            let count = random.add_unknown_keys(&mut read);
            let written = text(&read);
            assert_eq!(passed(&written, |_| {}), written);
            let out = passed(&written, what_tools_do);
            let after = serde_json::from_str(&out).unwrap();
            assert_eq!(marks(&read).len(), count, "{written}");
            assert_eq!(marks(&read), marks(&after), "{written}\n{out}");
            in_order(&read, &after);
            // The next tool reads what this one wrote.
            assert_eq!(passed(&out, |_| {}), out);
        }
    }

    /// Something of what each tool does to a document, where nothing is removed.
    fn what_tools_do(document: &mut Document) {
        document.cluster.get_or_insert_default().version = Some("v3.6.14".into());
        let archive = |arch| Archive {
            arch,
            local: "/new".into(),
            sha256: "1".repeat(64),
            size_bytes: 7,
            binaries: document.release.as_ref().unwrap().archives[0].binaries.clone(),
            pending: false,
        };
        document.release = Some(Release {
            version: "v3.6.14".into(),
            archives: vec![archive(Arch::Arm64), archive(Arch::Amd64)],
            by_default: false,
        });
        document.pki = Some(Pki::in_folder("/elsewhere"));
        let health = document.health.take().unwrap();
        let mut members = health.members;
        members.insert(0, Member { id: "77".into(), ..Member::default() });
        document.health = Some(Health { healthy: false, leader: None, members, ..health });
        for node in &mut document.nodes {
            let mut unit = node.units[0].clone();
            unit.content += "\n# new";
            node.set_unit(unit);
            let file = |path: &str| File {
                path: path.into(),
                mode: "0600".into(),
                owner: "etcd".into(),
                group: "etcd".into(),
                absent: false,
                content: None,
                local: Some("/key".into()),
                sha256: Some("2".repeat(64)),
                pending: false,
            };
            node.set_file(file("/new"));
            node.set_file(file("/etc/etcd/etcd.conf"));
        }
        document.results.push(ToolResult::changed(Code::Pushed, "done"));
    }

    /// The number of each unknown key that [`Random::add_unknown_keys`] has added.
    fn marks(value: &Value) -> BTreeSet<u64> {
        match value {
            Value::Array(items) => items.iter().flat_map(marks).collect(),
            Value::Object(entries) => {
                let own = entries.get("mark").and_then(Value::as_u64);
                own.into_iter().chain(entries.values().flat_map(marks)).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// The keys of `before` stand in the same order in `after`, at the top and on each node.
    fn in_order(before: &Value, after: &Value) {
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let same = |before: &Value, after: &Value| {
            let mut expected = keys(before);
            expected.retain(|key| after.get(key).is_some());
            let mut found = keys(after);
            found.retain(|key| before.get(key).is_some());
            assert_eq!(found, expected);
        };
        same(before, after);
        for (before, after) in
            before["nodes"].as_array().unwrap().iter().zip(after["nodes"].as_array().unwrap())
        {
            same(before, after);
        }
    }

    #[test]
    fn every_list_of_objects_has_its_key() {
        let schema = serde_json::to_value(schemars::schema_for!(Document)).unwrap();
        let mut lists = BTreeSet::new();
        let types = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        for (name, property) in
            types.filter_map(|of| of["properties"].as_object()).flat_map(|all| all.iter())
        {
            if property["items"]["$ref"].is_string() {
                lists.insert(name.as_str());
            }
        }
        let keyed: BTreeSet<_> = KEYS.iter().map(|(list, _)| *list).chain(["results"]).collect();
        assert_eq!(lists, keyed);
    }
}
