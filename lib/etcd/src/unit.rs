//! What a systemd unit gives to the process that it starts: its variables
//! (systemd.exec(5)), and etcd's flags, which override them.

use std::collections::BTreeMap;

use crate::environment;

/// A file on a node that says how a process is started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// Its path.
    pub path: String,
    /// What it holds.
    pub content: String,
}

/// A variable, and where it is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setting {
    /// Its value.
    pub value: String,
    /// The path of the file that sets it.
    pub source: String,
}

/// The `ETCD_*` variables that the unit of the `parts` gives to etcd: the unit file, and
/// then its drop-ins in the order in which systemd reads them. `files` gives those that a
/// pattern of `EnvironmentFile=` stands for, as far as they exist.
///
/// A later assignment replaces an earlier one of its name, an environment file those of
/// the unit, and an empty list all before it. A flag of `ExecStart=` replaces the variable
/// of its name (`SetFlagsFromEnv` in etcd's pkg/flags). Specifiers are left as they are.
pub fn environment<'a>(
    parts: &[Text],
    files: impl Fn(&str) -> Vec<&'a Text>,
) -> BTreeMap<String, Setting> {
    let mut of_unit = Vec::new();
    let mut patterns = Vec::new();
    let mut unset = Vec::new();
    let mut command = None;
    for part in parts {
        for (key, value) in assignments(&part.content) {
            match (key.as_str(), value.as_str()) {
                ("Environment", "") => of_unit.clear(),
                ("EnvironmentFile", "") => patterns.clear(),
                ("UnsetEnvironment", "") => unset.clear(),
                ("Environment", list) => {
                    of_unit.extend(words(list).into_iter().map(|word| (word, &part.path)));
                }
                ("EnvironmentFile", file) => {
                    patterns.push(file.strip_prefix('-').unwrap_or(file).to_owned());
                }
                ("UnsetEnvironment", list) => unset.extend(words(list)),
                ("ExecStart", line) => command = Some((words(line), &part.path)),
                _ => {}
            }
        }
    }
    let mut found = BTreeMap::new();
    let mut set = |name: &str, value: &str, source: &str| {
        let setting = Setting { value: value.into(), source: source.into() };
        found.insert(name.to_owned(), setting);
    };
    for (word, source) in &of_unit {
        if let Some((name, value)) = word.split_once('=') {
            set(name, &value.replace("%%", "%"), source);
        }
    }
    for file in patterns.iter().flat_map(|pattern| files(pattern)) {
        for (name, value) in environment::parse(&file.content) {
            set(&name, &value, &file.path);
        }
    }
    for gone in &unset {
        let (name, value) = gone.split_once('=').map_or((&**gone, None), |(n, v)| (n, Some(v)));
        if value.is_none_or(|value| found.get(name).is_some_and(|set| set.value == value)) {
            found.remove(name);
        }
    }
    if let Some((words, source)) = command {
        for (name, value) in flags(&words) {
            let named = value.strip_prefix('$').map(|name| name.trim_matches(['{', '}']));
            let of_variable = named.and_then(|name| found.get(name)).map(|set| set.value.clone());
            let value = of_variable.unwrap_or(value);
            found.insert(name, Setting { value, source: source.clone() });
        }
    }
    found.retain(|name, _| name.starts_with("ETCD_"));
    found
}

/// The assignments in the section `[Service]` of the unit file `text`, in their order
/// (systemd.syntax(7)).
fn assignments(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut in_service = false;
    let mut joined = String::new();
    for line in text.lines() {
        let line = line.trim();
        // Comments may stand between the lines that a backslash joins.
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(begun) = line.strip_suffix('\\') {
            joined = joined + begun + " ";
            continue;
        }
        let whole = std::mem::take(&mut joined) + line;
        if whole.starts_with('[') {
            in_service = whole == "[Service]";
        } else if let Some((key, value)) = whole.split_once('=').filter(|_| in_service) {
            found.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

/// The words of a list as systemd writes and reads it: blanks, and words with quotes around
/// them or around a part; a backslash keeps what follows.
pub fn words(list: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', _) => word.get_or_insert_default().extend(chars.next()),
            (c, None) if c.is_ascii_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The flags of etcd in its command line, as the variables of their names.
fn flags(command: &[String]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let is_etcd = |binary: &String| binary.rsplit('/').next() == Some("etcd");
    let mut words = command.iter().skip_while(|word| !is_etcd(word)).skip(1).peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-') else { continue };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                (flag, words.next_if(|next| !next.starts_with('-')).cloned().unwrap_or_default())
            }
        };
        let name = format!("ETCD_{}", name.to_ascii_uppercase().replace('-', "_"));
        found.push((name, value));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, content: &str) -> Text {
        Text { path: path.into(), content: content.into() }
    }

    /// The variables, each as `NAME=VALUE SOURCE`, of a unit with `drop_ins`.
    fn of(drop_ins: &[&str]) -> Vec<String> {
        let mut parts = vec![text(
            "unit",
            "[Unit]\nEnvironment=ETCD_A=no\n[Service]\nEnvironmentFile=/conf\n\
             EnvironmentFile=-/absent\nExecStart=/usr/local/bin/etcd\n",
        )];
        parts.extend(drop_ins.iter().map(|content| text("drop", content)));
        let conf = text("/conf", "ETCD_NAME=a\nETCD_DATA_DIR=/var/lib/etcd\nPATH=/bin");
        let more = text("/more", "ETCD_NAME='b c'");
        let files = |pattern: &str| match pattern {
            "/conf" => vec![&conf],
            "/mo*" => vec![&more],
            _ => Vec::new(),
        };
        let found = environment(&parts, files);
        found.iter().map(|(name, set)| format!("{name}={} {}", set.value, set.source)).collect()
    }

    #[test]
    fn what_comes_later_counts() {
        let (name, data) = ("ETCD_NAME=a /conf", "ETCD_DATA_DIR=/var/lib/etcd /conf");
        let service = |lines: &str| format!("[Service]\n{lines}");
        for (drop_in, expected) in [
            ("", vec![data, name]),
            // What a file sets stands over what the unit says.
            ("Environment=ETCD_NAME=b", vec![data, name]),
            (
                "Environment=\"ETCD_WAL_DIR=/w x\" \\\n# a comment\n ETCD_B='2'",
                vec!["ETCD_B=2 drop", data, name, "ETCD_WAL_DIR=/w x drop"],
            ),
            ("Environment=ETCD_B=1\nEnvironment=", vec![data, name]),
            ("EnvironmentFile=/mo*", vec![data, "ETCD_NAME=b c /more"]),
            ("EnvironmentFile=\nEnvironmentFile=-/mo*", vec!["ETCD_NAME=b c /more"]),
            ("UnsetEnvironment=ETCD_NAME ETCD_DATA_DIR=/x", vec![data]),
            (
                "ExecStart=\nExecStart=+/usr/local/bin/etcd --name=c --wal-dir /w -pre-vote",
                vec![data, "ETCD_NAME=c drop", "ETCD_PRE_VOTE= drop", "ETCD_WAL_DIR=/w drop"],
            ),
            ("ExecStart=/usr/bin/env etcd --wal-dir ${ETCD_DATA_DIR}", {
                vec![data, name, "ETCD_WAL_DIR=/var/lib/etcd drop"]
            }),
            ("Environment=ETCD_B=50%%", vec!["ETCD_B=50% drop", data, name]),
        ] {
            assert_eq!(of(&[&service(drop_in)]), expected, "{drop_in}");
        }
        assert_eq!(of(&["[Unit]\nEnvironment=ETCD_B=1"]), [data, name]);
    }

    #[test]
    fn words_are_parted_as_systemd_does() {
        assert_eq!(
            words(r#"a "b c" d\ e "" f"g h" 'i"j'"#),
            ["a", "b c", "d e", "", "fg h", "i\"j"]
        );
    }
}
