//! What a systemd unit gives to the process that it starts: its variables
//! (systemd.exec(5)), and etcd's flags, which override them.

use std::collections::BTreeMap;
use std::path::Path;

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
    /// Where it is a flag, the path of the file that sets the variable of its name, too.
    /// With both, etcd does not start (`verifyEnv` in its pkg/flags).
    pub shadowed: Option<String>,
}

/// The `ETCD_*` variables that the unit of the `parts` gives to etcd: the unit file, and
/// then its drop-ins in the order in which systemd reads them. `files` gives those that a
/// pattern of `EnvironmentFile=` stands for, as far as they exist.
///
/// A later assignment replaces an earlier one of its name, an environment file those of
/// the unit, and an empty list all before it. A flag of `ExecStart=` goes before the
/// variable of its name, which it shadows. Specifiers are left as they are.
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
        let setting = Setting { value: value.into(), source: source.into(), shadowed: None };
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
        let value = |name: &str| found.get(name).map_or("", |set| set.value.as_str());
        let words: Vec<_> = words.iter().flat_map(|word| expanded(word, value)).collect();
        for (name, value) in flags(&words) {
            let shadowed = found.get(&name).map(|set| set.source.clone());
            found.insert(name, Setting { value, source: source.clone(), shadowed });
        }
    }
    found.retain(|name, _| name.starts_with("ETCD_"));
    found
}

/// What systemd makes of a word of a command line with variables, each of which has its `value`:
/// `$NAME` alone is replaced by the words in it, `${NAME}` anywhere by all of it.
fn expanded<'a>(word: &str, value: impl Fn(&str) -> &'a str) -> Vec<String> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if let Some(name) = word.strip_prefix('$').filter(|name| is_name(name)) {
        return value(name).split_whitespace().map(str::to_owned).collect();
    }
    let mut whole = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("${") {
        whole += before;
        match after.split_once('}').filter(|(name, _)| is_name(name)) {
            Some((name, after)) => {
                whole += value(name);
                rest = after;
            }
            None => {
                whole += "${";
                rest = after;
            }
        }
    }
    vec![whole + rest]
}

/// What of a drop-in keeps etcd from starting as its unit has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The path of the drop-in.
    pub path: String,
    /// The setting of systemd.
    pub key: String,
    /// What it is set to; empty where what the unit has is taken away.
    pub value: String,
}

/// What decides whether the process can start, and has one value.
const FIXED: [&str; 10] = [
    "Type",
    "User",
    "Group",
    "DynamicUser",
    "WorkingDirectory",
    "RootDirectory",
    "RootImage",
    "PrivateNetwork",
    "PrivateUsers",
    "NetworkNamespacePath",
];

/// What has systemd end a process that runs well, wherever it is set: etcd does not speak to the
/// watchdog.
const DEADLY: [(&str, [&str; 2]); 2] =
    [("WatchdogSec", ["", "0"]), ("RuntimeMaxSec", ["", "infinity"])];

/// The folders that systemd makes, and gives to the user of the unit with all that is in them
/// (systemd.exec(5)): the setting, and what its values are relative to.
const MANAGED: [(&str, &str); 5] = [
    ("StateDirectory", "/var/lib"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
    ("ConfigurationDirectory", "/etc"),
    ("RuntimeDirectory", "/run"),
];

/// The folders that systemd gives to the user of the unit `name` with this `text`, each with the
/// setting that says so.
pub fn managed_folders(name: &str, text: &str) -> Vec<(&'static str, String)> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let prefix = stem.split('@').next().unwrap_or_default();
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for (key, value) in assignments(text) {
        let Some((key, root)) = MANAGED.iter().find(|(managed, _)| *managed == key) else {
            continue;
        };
        if value.is_empty() {
            found.retain(|(other, _)| other != key);
        }
        found.extend(words(&value).iter().map(|word| {
            let folder = word.split(':').next().unwrap_or_default();
            let folder = folder.replace("%N", stem).replace("%p", prefix).replace("%n", name);
            (*key, format!("{root}/{folder}"))
        }));
    }
    found
}

/// The folders that the process cannot write.
const READ_ONLY: [&str; 2] = ["ReadOnlyPaths", "ReadOnlyDirectories"];

/// The folders that the process does not see, or cannot run anything in.
const HIDDEN: [&str; 4] =
    ["InaccessiblePaths", "InaccessibleDirectories", "TemporaryFileSystem", "NoExecPaths"];

/// What puts other files in the place of folders: `SOURCE:FOLDER`.
const BOUND: [&str; 3] = ["BindPaths", "BindReadOnlyPaths", "MountImages"];

/// What the unit lists, and a drop-in may only add to.
const KEPT: [&str; 2] = ["ReadWritePaths", "ExecStartPre"];

/// The first thing in the drop-ins of a unit, the later of its `parts`, that keeps its
/// process from starting, or ends it in time: another command, user or root, no way to its `folders`, of which
/// it writes those that are `written` (systemd.exec(5), systemd.service(5)). What merely
/// limits the process, or runs beside it, is nobody's business.
pub fn obstacle(parts: &[Text], written: &[&str], folders: &[&str]) -> Option<Obstacle> {
    let (unit, drop_ins) = parts.split_first()?;
    if let Some(deadly) = deadly(parts) {
        return Some(deadly);
    }
    let own = assignments(&unit.content);
    let own = |key: &str| -> Vec<&str> {
        let of_key = own.iter().filter(|(other, _)| other == key);
        of_key.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty()).collect()
    };
    let at = |path: &str, key: &str, value: &str| {
        Some(Obstacle { path: path.into(), key: key.into(), value: value.into() })
    };
    // The values of each key as they are in the end, and where they were set last.
    let mut found: BTreeMap<String, (Vec<String>, &str)> = BTreeMap::new();
    for part in drop_ins {
        for (key, value) in assignments(&part.content) {
            let before = || own(&key).into_iter().map(str::to_owned).collect();
            let (values, path) = found.entry(key.clone()).or_insert_with(|| (before(), ""));
            match value.is_empty() {
                true => values.clear(),
                false => values.push(value),
            }
            *path = &part.path;
        }
    }
    for (key, (values, path)) in &found {
        let (key, last) = (key.as_str(), values.last().map_or("", String::as_str));
        let each = || values.iter().flat_map(|list| words(list));
        let paths = || each().map(|path| bare(&path));
        // A folder that may be written stays so inside one that may not.
        let is_written = |path: &str| written.iter().any(|at| Path::new(path).starts_with(at));
        let overlaps = |path: &str| {
            let mut all = written.iter().chain(folders).map(Path::new);
            all.any(|folder| folder.starts_with(path) || Path::new(path).starts_with(folder))
        };
        let bad = if key == "ExecStart" {
            let binary = |line: &str| words(line).first().map(|word| bare(word));
            values.len() != 1 || binary(last) != own(key).last().and_then(|line| binary(line))
        } else if FIXED.contains(&key) {
            last != own(key).last().copied().unwrap_or_default()
        } else if READ_ONLY.contains(&key) {
            paths().any(|path| is_written(&path))
        } else if HIDDEN.contains(&key) {
            paths().any(|path| overlaps(&path))
        } else if BOUND.contains(&key) {
            each().any(|bound| {
                let mut parts = bound.split(':');
                let source = bare(parts.next().unwrap_or_default());
                let folder = parts.next().unwrap_or(&source);
                match source == folder {
                    true => key == "BindReadOnlyPaths" && is_written(folder),
                    false => overlaps(folder),
                }
            })
        } else {
            KEPT.contains(&key) && !own(key).iter().all(|own| values.iter().any(|v| v == own))
        };
        if bad {
            return at(path, key, last);
        }
    }
    None
}

/// What would have systemd end the process in time.
fn deadly(parts: &[Text]) -> Option<Obstacle> {
    let all = parts.iter().flat_map(|part| {
        assignments(&part.content).into_iter().map(move |(key, value)| (&part.path, key, value))
    });
    let all: Vec<_> = all.collect();
    DEADLY.iter().find_map(|(deadly, harmless)| {
        let (path, key, value) = all.iter().rfind(|(_, key, _)| key == deadly)?;
        let [path, key] = [path, key].map(|text| text.to_string());
        let is_harmless = harmless.contains(&value.as_str());
        (!is_harmless).then(|| Obstacle { path, key, value: value.clone() })
    })
}

impl Obstacle {
    /// Whether etcd starts with it, and is ended by systemd in time.
    pub fn is_deadly(&self) -> bool {
        DEADLY.iter().any(|(key, _)| *key == self.key)
    }
}

/// A path without the signs before it and the options after it.
fn bare(path: &str) -> String {
    let path = path.trim_start_matches(['-', '+', '@', ':', '!', '|']);
    path.split(':').next().unwrap_or_default().to_owned()
}

/// The assignments in the section `[Service]` of the unit file `text`, in their order
/// (systemd.syntax(7)).
fn assignments(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut in_service = false;
    let mut joined = String::new();
    // systemd passes over the mark that some editors begin a file with.
    for line in text.trim_start_matches('\u{feff}').lines() {
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
        let (flag, value) = flag.split_once('=').map_or((flag, None), |(f, v)| (f, Some(v)));
        let name = format!("ETCD_{}", flag.to_ascii_uppercase().replace('-', "_"));
        // A boolean takes no word after it (flag in Go's library).
        let value = match value {
            Some(value) => value.to_owned(),
            None if crate::value::is_boolean(&name) => "true".to_owned(),
            None => words.next_if(|next| !next.starts_with('-')).cloned().unwrap_or_default(),
        };
        found.push((name, value));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boolean_flag_alone_is_true() {
        let line = "/opt/etcd -name a --force-new-cluster --pre-vote=false --data-dir /data";
        let found = flags(&words(line));
        let found: Vec<_> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            found,
            [
                "ETCD_NAME=a",
                "ETCD_FORCE_NEW_CLUSTER=true",
                "ETCD_PRE_VOTE=false",
                "ETCD_DATA_DIR=/data"
            ]
        );
    }

    #[test]
    fn variables_of_a_command_line_are_replaced_as_systemd_does() {
        let value = |name: &str| match name {
            "OPTS" => "--a 1 --b",
            "DIR" => "/data",
            _ => "",
        };
        for (word, expected) in [
            ("$OPTS", &["--a", "1", "--b"] as &[&str]),
            ("${OPTS}", &["--a 1 --b"]),
            ("--data-dir=${DIR}/x", &["--data-dir=/data/x"]),
            ("--data-dir=$DIR", &["--data-dir=$DIR"]),
            ("$NONE", &[]),
            ("${", &["${"]),
            ("a$", &["a$"]),
        ] {
            assert_eq!(expanded(word, value), expected, "{word}");
        }
        let unit = "[Service]\nEnvironment=OPTS=--force-new-cluster\nExecStart=/bin/etcd $OPTS\n";
        let found = environment(&[text("unit", unit)], |_| Vec::new());
        assert_eq!(found["ETCD_FORCE_NEW_CLUSTER"].value, "true");
    }

    fn text(path: &str, content: &str) -> Text {
        Text { path: path.into(), content: content.into() }
    }

    /// The variables, each as `NAME=VALUE SOURCE`, of a unit with `drop_ins`; of one that a
    /// flag shadows, the source too.
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
        let shown = |(name, set): (&String, &Setting)| {
            let shadowed = set.shadowed.iter().map(|source| format!(" over {source}"));
            format!("{name}={} {}", set.value, set.source) + &shadowed.collect::<String>()
        };
        found.iter().map(shown).collect()
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
                vec![
                    data,
                    "ETCD_NAME=c drop over /conf",
                    "ETCD_PRE_VOTE=true drop",
                    "ETCD_WAL_DIR=/w drop",
                ],
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
    fn what_keeps_etcd_from_starting_is_found() {
        let unit = "[Service]\nType=notify\nUser=etcd\nExecStartPre=/bin/guard\n\
                    ExecStart=/usr/local/bin/etcd\nReadWritePaths=/data\n";
        for (drop_in, expected) in [
            ("", ""),
            ("MemoryMax=4G\nNice=-5\nEnvironment=A=b\nExecStartPre=/bin/more", ""),
            ("ExecStart=\nExecStart=/usr/local/bin/etcd --log-level warn", ""),
            ("ExecStart=\nExecStart=-/usr/local/bin/etcd", ""),
            ("User=etcd\nReadWritePaths=/var/log/etcd", ""),
            ("ReadOnlyPaths=/ /home\nInaccessiblePaths=-/root", ""),
            ("User=nobody\nUser=etcd\nReadOnlyPaths=/data\nReadOnlyPaths=", ""),
            ("ExecStart=/usr/local/bin/etcd", "ExecStart=/usr/local/bin/etcd"),
            ("ExecStart=", "ExecStart="),
            ("ExecStart=\nExecStart=/bin/false", "ExecStart=/bin/false"),
            ("ExecStartPre=", "ExecStartPre="),
            ("User=nobody", "User=nobody"),
            ("Type=simple", "Type=simple"),
            ("RootDirectory=/srv", "RootDirectory=/srv"),
            ("BindPaths=/srv /home:/root\nBindReadOnlyPaths=-/home", ""),
            ("BindPaths=-/srv:/data:rbind", "BindPaths=-/srv:/data:rbind"),
            ("BindReadOnlyPaths=/data/member", "BindReadOnlyPaths=/data/member"),
            ("BindReadOnlyPaths=/etc/etcd", ""),
            ("ReadOnlyPaths=/data/member", "ReadOnlyPaths=/data/member"),
            ("InaccessiblePaths=-/etc", "InaccessiblePaths=-/etc"),
            ("TemporaryFileSystem=/data:ro", "TemporaryFileSystem=/data:ro"),
            ("ReadWritePaths=", "ReadWritePaths="),
        ] {
            let parts = [text("unit", unit), text("drop", &format!("[Service]\n{drop_in}\n"))];
            let found = obstacle(&parts, &["/data"], &["/etc/etcd"]);
            assert!(found.iter().all(|found| found.path == "drop"));
            let found = found.map(|found| format!("{}={}", found.key, found.value));
            assert_eq!(found.unwrap_or_default(), expected, "{drop_in}");
        }
    }

    #[test]
    fn what_ends_etcd_in_time_is_found_in_the_unit_itself() {
        for (unit, drop_in, expected) in [
            ("WatchdogSec=20", "", "unit: WatchdogSec=20"),
            ("WatchdogSec=20", "WatchdogSec=0", ""),
            ("", "WatchdogSec=5min", "drop: WatchdogSec=5min"),
            ("RuntimeMaxSec=infinity", "", ""),
            ("RuntimeMaxSec=1d", "LimitNOFILE=1", "unit: RuntimeMaxSec=1d"),
        ] {
            let part = |path: &str, content: &str| Text {
                path: path.into(),
                content: format!("[Service]\n{content}\n"),
            };
            let found = obstacle(&[part("unit", unit), part("drop", drop_in)], &[], &[]);
            assert!(found.iter().all(Obstacle::is_deadly));
            let found = found.map(|found| format!("{}: {}={}", found.path, found.key, found.value));
            assert_eq!(found.unwrap_or_default(), expected, "{unit}, {drop_in}");
        }
    }

    #[test]
    fn the_folders_that_systemd_gives_to_a_unit_are_known() {
        let of = |name: &str, text: &str| {
            let found = managed_folders(name, &format!("[Service]\n{text}\n"));
            found.iter().map(|(key, path)| format!("{key} {path}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            of("a.service", "StateDirectory=etcd b/c"),
            "StateDirectory /var/lib/etcd, StateDirectory /var/lib/b/c"
        );
        assert_eq!(
            of("etcd@x.service", "ConfigurationDirectory=%p"),
            "ConfigurationDirectory /etc/etcd"
        );
        assert_eq!(
            of("a.service", "LogsDirectory=x:y\nStateDirectory=x\nLogsDirectory="),
            "StateDirectory /var/lib/x"
        );
        assert_eq!(of("a.service", "RuntimeDirectory=r"), "RuntimeDirectory /run/r");
    }

    #[test]
    fn words_are_parted_as_systemd_does() {
        assert_eq!(
            words(r#"a "b c" d\ e "" f"g h" 'i"j'"#),
            ["a", "b c", "d e", "", "fg h", "i\"j"]
        );
    }
}
