//! `apply.sh` and `state.sh` under each shell that is `/bin/sh` somewhere, killed at every
//! process that they start.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use pipeline::disk::sha256;
use tempfile::TempDir;

const HELPERS: &str = include_str!("../../lib/remote/src/scripts/helpers.sh");
const APPLY: &str = include_str!("../src/apply.sh");
const STATE: &str = include_str!("../src/state.sh");

/// The programs that the scripts start, and that a test can stop at.
const PROGRAMS: [&str; 12] = [
    "head",
    "sha256sum",
    "chown",
    "chmod",
    "sync",
    "mv",
    "ln",
    "rm",
    "mkdir",
    "tar",
    "sed",
    "stat",
];

/// A folder that stands for a host, with a shell of its own.
struct Host {
    folder: TempDir,
}

/// How a script ended: its exit code, -1 after a signal, and its stdout and stderr.
type Ended = (i32, String, String);

impl Host {
    fn new(shell: &str) -> Self {
        let folder = TempDir::new().unwrap();
        for name in ["etc", "bin", "sh"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        symlink(format!("/bin/{shell}"), folder.path().join("sh/sh")).unwrap();
        for name in PROGRAMS {
            let path = folder.path().join("bin").join(name);
            let script = format!(
                "#!/bin/sh\ncd {root} || exit\nexec 9> lock\nflock 9\nread -r count < count\nread -r stop < stop\n\
                 echo $((count + 1)) > count\n\
                 if [ $((count + 1)) = \"$stop\" ]; then read -r signal < signal; kill -s $signal 0; sleep 9; fi\n\
                 cd - > /dev/null || exit\nexec 9>&-\nexec /usr/bin/{name} \"$@\"\n",
                root = folder.path().display()
            );
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let host = Self { folder };
        host.write("signal", "KILL\n");
        host.stop_at(0);
        host
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Has the script killed at the `number`-th process that it starts.
    fn stop_at(&self, number: usize) {
        self.write("count", "0\n");
        self.write("stop", &format!("{number}\n"));
    }

    /// Whether the script came so far.
    fn stopped(&self) -> bool {
        self.number("count") >= self.number("stop")
    }

    fn number(&self, name: &str) -> usize {
        fs::read_to_string(self.path(name)).unwrap().trim().parse().unwrap()
    }

    fn run(&self, script: &str, args: &[&str], input: &[u8]) -> Ended {
        self.run_after("", script, args, input)
    }

    /// Runs the script after `before`, with mount points of its own.
    fn run_after(&self, before: &str, script: &str, args: &[&str], input: &[u8]) -> Ended {
        let script = format!("{before}\numask 077\n{HELPERS}{script}\n");
        let mut command = match before {
            "" => Command::new(self.path("sh/sh")),
            _ => Command::new("unshare"),
        };
        if !before.is_empty() {
            command.args(["-m", &self.path("sh/sh")]);
        }
        command.args(["-c", &script, "etcd-tools"]).args(args).process_group(0);
        let system = "/usr/bin:/bin:/usr/sbin";
        let path = match self.number("stop") {
            0 => system.to_owned(),
            _ => format!("{}:{system}", self.path("bin")),
        };
        command.env("PATH", path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A script that was killed reads no more.
        let _ = stdin.write_all(input);
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    fn apply(&self, plan: &str, contents: &[u8]) -> Ended {
        let input = [plan.as_bytes(), contents].concat();
        self.run(APPLY, &[&plan.len().to_string()], &input)
    }

    /// What is in `etc`: by path, its mode and content; a link's target.
    fn etc(&self) -> BTreeMap<String, (u32, String)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folder.path().join("etc")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.folder.path().join("etc")).unwrap();
                let metadata = fs::symlink_metadata(&path).unwrap();
                let content = if metadata.is_dir() {
                    folders.push(path.clone());
                    String::new()
                } else if metadata.is_symlink() {
                    fs::read_link(&path).unwrap().display().to_string()
                } else {
                    fs::read_to_string(&path).unwrap_or_else(|_| "binary".into())
                };
                let mode = metadata.permissions().mode() & 0o7777;
                found.insert(name.display().to_string(), (mode, content));
            }
        }
        found
    }

    /// The lines that put `files`, each a name and a content, into the folder `etc/FOLDER`,
    /// and the bytes that are sent for them.
    fn files(&self, folder: &str, files: &[(&str, &str)]) -> (String, Vec<u8>) {
        let (mut archive, mut sums) = (tar::Builder::new(Vec::new()), Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, content.as_bytes()).unwrap();
            sums.push(format!("{}  {name}", sha256(content.as_bytes())));
        }
        let archive = archive.into_inner().unwrap();
        let folder = self.path(&format!("etc/{folder}"));
        let folder = folder.trim_end_matches('/');
        let names = files.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("\t");
        let lines = format!(
            "files\t{folder}\t{}\t{names}\nsums\t{folder}\t{}\nown\t{folder}\t0640\t{}\t{names}\n\
             flush\t{folder}\t{names}\nplace\t{folder}\t{names}\n",
            archive.len(),
            sums.join("\t"),
            me()
        );
        (lines, archive)
    }

    /// A plan that puts `files` into the folder `etc/FOLDER`, and what is sent for it.
    fn plan(&self, folder: &str, files: &[(&str, &str)]) -> (String, Vec<u8>) {
        let (lines, bytes) = self.files(folder, files);
        let folder = self.path(&format!("etc/{folder}"));
        let folder = folder.trim_end_matches('/');
        (format!("staging\t{folder}\n{lines}done\t{folder}\nend"), bytes)
    }
}

/// The owner of what the test makes.
fn me() -> String {
    let metadata = fs::metadata("/proc/self").unwrap();
    format!("{}:{}", metadata.uid(), metadata.gid())
}

/// Stand-ins for an etcd that runs.
const OLD: &str = "#!/bin/sh\necho 'etcd Version: 3.5.16'\n";
const NEW: &str = "#!/bin/sh\necho 'etcd Version: 3.5.33'\n";

/// A release of one binary, packed.
fn archive(folder: &Path, content: &str) -> Vec<u8> {
    let release = folder.join("release");
    fs::create_dir_all(&release).unwrap();
    fs::write(release.join("etcd"), content).unwrap();
    let mut tar = Command::new("tar");
    tar.current_dir(folder).args(["-czf", "archive", "release"]);
    assert!(tar.status().unwrap().success());
    fs::read(folder.join("archive")).unwrap()
}

fn names(found: &BTreeMap<String, (u32, String)>) -> Vec<&str> {
    found.keys().map(String::as_str).collect()
}

/// What asks for the state of a file.
fn files(folder: &str, name: &str) -> String {
    format!("files\t{folder}\t{folder}/{name}\n")
}

#[test]
fn killed_at_every_step_nothing_live_is_lost_and_the_next_run_heals() {
    std::thread::scope(|scope| {
        for shell in ["dash", "bash"] {
            scope.spawn(|| kill_at_every_step(shell, "KILL"));
            scope.spawn(|| kill_at_every_step(shell, "TERM"));
        }
    });
}

fn kill_at_every_step(shell: &str, signal: &str) {
    let host = Host::new(shell);
    host.write("signal", &format!("{signal}\n"));
    let bytes = archive(host.folder.path(), NEW);
    let etc = host.path("etc");
    let (files, sent) = host.files("", &[("one", "new one"), ("a b*", "new two")]);
    let plan = format!(
        "folder\t{etc}/data\t0700\t{me}\nstaging\t{etc}\n\
         release\t{etc}\tv1\t{}\t{}\tetcd\nflush\t{etc}\tv1/etcd\nlinks\t{etc}\t{etc}/v1/etcd\n\
         {files}place\t{etc}\tetcd\ndone\t{etc}\nend",
        bytes.len(),
        sha256(&bytes),
        me = me()
    );
    let contents = [bytes, sent].concat();
    let mut stop = 0;
    loop {
        stop += 1;
        assert!(stop < 200, "it does not end");
        let _ = fs::remove_dir_all(&etc);
        fs::create_dir_all(host.path("etc/v1")).unwrap();
        for (name, text) in [("one", "old one"), ("a b*", "old two"), ("v1/etcd", OLD)] {
            host.write(&format!("etc/{name}"), text);
        }
        host.stop_at(stop);
        let (code, _, stderr) = host.apply(&plan, &contents);
        let at = format!("{shell}, {signal} at process {stop}: {stderr}");
        let stopped = host.stopped();
        let found = host.etc();
        for (name, old, new) in
            [("one", "old one", "new one"), ("a b*", "old two", "new two"), ("v1/etcd", OLD, NEW)]
        {
            let content = &found[name].1;
            assert!([old, new].contains(&content.as_str()), "{at}: {name}: {content}");
        }
        for (name, (mode, _)) in &found {
            let staged = name.contains(".etcd-tools");
            assert!(!staged || signal == "KILL", "{at}: {name} is left");
            assert!(name != ".etcd-tools" || *mode == 0o700, "{at}: {mode:o}");
        }
        host.stop_at(0);
        assert!(stopped || code == 0, "{at}");
        assert_eq!(host.apply(&plan, &contents), (0, String::new(), String::new()), "{at}");
        let healed = host.etc();
        let expected = ["a b*", "data", "etcd", "one", "v1", "v1/etcd"];
        assert_eq!(names(&healed), expected, "{at}");
        assert_eq!(healed["one"], (0o640, "new one".into()), "{at}");
        assert_eq!(healed["data"].0, 0o700);
        assert_eq!(healed["etcd"].1, format!("{etc}/v1/etcd"));
        if !stopped {
            break;
        }
    }
    assert!(stop > 15, "{stop} processes only");
}

#[test]
fn what_arrives_damaged_or_truncated_changes_nothing() {
    for shell in ["dash", "bash"] {
        let host = Host::new(shell);
        host.write("etc/one", "old one");
        host.write("etc/two", "old two");
        let before = host.etc();
        let two = host.path("etc/two");
        let (plan, sent) = host.plan("", &[("one", "new one"), ("two", "new two")]);
        let refused = |plan: &str, sent: &[u8], why: &str| {
            let ended = host.apply(plan, sent);
            assert_eq!(ended, (1, String::new(), format!("{why}\n")), "{shell}");
            assert_eq!(host.etc(), before, "{shell}: {why}");
        };
        let cut = format!("{}: the files were truncated in transit: run again", host.path("etc"));
        for size in [0, 3, 512, 515, 1536, 1540] {
            refused(&plan, &sent[..size], &cut);
        }
        let mut other = sent.clone();
        let at = other.windows(7).position(|part| part == b"new two").unwrap();
        other[at + 4..at + 7].copy_from_slice(b"TWO");
        let damaged = "it was changed while it was sent, or damaged on the way: run again";
        refused(&plan, &other, &format!("{two}: {damaged}"));
        for size in 0..plan.len() {
            refused(&plan[..size], b"", "the plan was truncated in transit: run again");
        }
        host.apply(&plan, &[sent.as_slice(), b"what nobody reads"].concat());
        assert_eq!(host.etc()["two"].1, "new two");
    }
}

#[test]
fn links_of_other_users_are_not_followed_and_those_of_root_are() {
    let root = me().starts_with("0:");
    assert!(root, "run the tests as root: they give folders to another user");
    for shell in ["dash", "bash"] {
        let host = Host::new(shell);
        fs::set_permissions(host.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["etc/data", "secret", "disk"] {
            fs::create_dir(host.path(name)).unwrap();
        }
        std::os::unix::fs::chown(host.path("etc/data"), Some(65534), Some(65534)).unwrap();
        // As the owner of the folder could have placed them.
        symlink(host.path("secret"), host.path("etc/data/wal")).unwrap();
        std::os::unix::fs::lchown(host.path("etc/data/wal"), Some(65534), None).unwrap();
        symlink(host.path("secret"), host.path("etc/data/roots")).unwrap();
        symlink(host.path("disk"), host.path("etc/var")).unwrap();
        let owner = |name: &str| fs::metadata(host.path(name)).unwrap().uid();
        let link = |name: &str| {
            let (data, path) = (host.path("etc/data"), host.path(&format!("etc/data/{name}")));
            let why = "is a link that another user than root could have placed: \
                       name the folder that it leads to instead\n";
            (path, format!("{data}/{name} {why}"))
        };
        for name in ["wal", "roots"] {
            let (path, why) = link(name);
            let refused = (1, String::new(), format!("{path}: {why}"));
            for kind in ["folder", "attributes"] {
                let plan = format!("{kind}\t{path}\t0777\t65534:65534\nend");
                assert_eq!(host.apply(&plan, b""), refused, "{shell}");
            }
            let (plan, sent) = host.plan(&format!("data/{name}"), &[("x", "new")]);
            assert_eq!(host.apply(&plan, &sent), refused, "{shell}");
            let asked = host.run(STATE, &[], format!("folder\t{path}\n").as_bytes());
            assert_eq!((asked.0, asked.2), (1, refused.2.clone()), "{shell}");
            let asked = host.run(STATE, &[], files(&path, "x").as_bytes());
            assert_eq!((asked.0, asked.2), (1, refused.2), "{shell}");
        }
        // As the owner of the folder could have replaced the staging folder.
        fs::set_permissions(host.path("secret"), fs::Permissions::from_mode(0o700)).unwrap();
        let staging = host.path("etc/data/.etcd-tools");
        let (plan, sent) = host.plan("data", &[("file", "new")]);
        let (_, plan) = plan.split_once('\n').unwrap();
        let replaced = (1, String::new(), format!("{staging} was replaced meanwhile\n"));
        symlink(host.path("secret"), &staging).unwrap();
        assert_eq!(host.apply(plan, &sent), replaced, "{shell}");
        fs::remove_file(&staging).unwrap();
        fs::create_dir(&staging).unwrap();
        fs::set_permissions(&staging, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&staging, Some(65534), None).unwrap();
        assert_eq!(host.apply(plan, &sent), replaced, "{shell}");
        fs::remove_dir(&staging).unwrap();
        assert_eq!(owner("secret"), 0);
        assert_eq!(fs::read_dir(host.path("secret")).unwrap().count(), 0);
        let (plan, sent) = host.plan("data", &[("file", "new")]);
        let plan = format!(
            "folder\t{}\t0700\t65534:65534\nfolder\t{}\t0700\t65534:65534\n{plan}",
            host.path("etc/data/inner"),
            host.path("etc/var"),
        );
        assert_eq!(host.apply(&plan, &sent), (0, String::new(), String::new()), "{shell}");
        assert_eq!((owner("etc/data/inner"), owner("disk")), (65534, 65534));
        assert!(
            host.path("etc/var") != host.path("disk")
                && Path::new(&host.path("etc/var")).is_symlink()
        );
        assert_eq!(host.etc()["data/file"], (0o640, "new".into()));
        // It is as it should be now.
        let (_, answer, _) =
            host.run(STATE, &[], format!("folder\t{}\n", host.path("etc/var")).as_bytes());
        assert!(answer.contains("\t700\tnobody\tnogroup\t65534\t65534\tdirectory\t"), "{answer}");
    }
}

#[test]
fn what_is_in_the_place_of_another_kind_is_named() {
    for shell in ["dash", "bash"] {
        let host = Host::new(shell);
        host.write("etc/file", "old");
        fs::create_dir(host.path("etc/folder")).unwrap();
        let (file, folder) = (host.path("etc/file"), host.path("etc/folder"));
        let cases = [
            (
                host.plan("", &[("folder", "new")]),
                files(&host.path("etc"), "folder"),
                format!("{folder}: a folder is in the place of the file: move it away\n"),
            ),
            (
                host.plan("file", &[("x", "new")]),
                files(&file, "x"),
                format!("{file}: {file} is a file in the place of a folder: move it away\n"),
            ),
            (
                (format!("folder\t{file}\t0755\t{}\nend", me()), Vec::new()),
                format!("folder\t{file}\n"),
                format!("{file}: {file} is a file in the place of a folder: move it away\n"),
            ),
        ];
        for ((plan, sent), question, why) in cases {
            let (code, _, stderr) = host.apply(&plan, &sent);
            assert_eq!((code, &stderr), (1, &why), "{shell}");
            let (code, _, stderr) = host.run(STATE, &[], question.as_bytes());
            assert_eq!((code, &stderr), (1, &why), "{shell}");
        }
    }
}

#[test]
fn in_a_sticky_folder_only_links_of_root_are_followed() {
    for shell in ["dash", "bash"] {
        let host = Host::new(shell);
        fs::set_permissions(host.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["etc/tmp", "cron.d"] {
            fs::create_dir(host.path(name)).unwrap();
        }
        host.write("cron.d/x", "old");
        fs::set_permissions(host.path("etc/tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        for name in ["guests", "roots"] {
            symlink(host.path("cron.d"), host.path(&format!("etc/tmp/{name}"))).unwrap();
        }
        std::os::unix::fs::lchown(host.path("etc/tmp/guests"), Some(65534), None).unwrap();
        let path = host.path("etc/tmp/guests");
        let why = format!(
            "{path}: {path} is a link that another user than root could have placed: name the \
             folder that it leads to instead\n"
        );
        let refused = (1, String::new(), why);
        let (plan, sent) = host.plan("tmp/guests", &[("x", "new")]);
        let attributes = format!("attributes\t{path}\t0777\t65534:65534\nend");
        let remove = format!("remove\t{path}\tx\nend");
        for (plan, sent) in [(&plan, sent.as_slice()), (&attributes, b""), (&remove, b"")] {
            assert_eq!(host.apply(plan, sent), refused, "{shell}");
        }
        for question in [format!("folder\t{path}\n"), files(&path, "x")] {
            let (code, _, stderr) = host.run(STATE, &[], question.as_bytes());
            assert_eq!((code, &stderr), (1, &refused.2), "{shell}");
        }
        assert_eq!(fs::metadata(host.path("cron.d")).unwrap().uid(), 0);
        assert_eq!(fs::read_to_string(host.path("cron.d/x")).unwrap(), "old");
        let (plan, sent) = host.plan("tmp/roots", &[("x", "new")]);
        assert_eq!(host.apply(&plan, &sent), (0, String::new(), String::new()), "{shell}");
        assert_eq!(fs::read_to_string(host.path("cron.d/x")).unwrap(), "new");
    }
}

#[test]
fn what_has_the_name_of_the_staging_folder_and_is_not_one_is_kept() {
    for shell in ["dash", "bash"] {
        let host = Host::new(shell);
        let staging = host.path("etc/.etcd-tools");
        let (plan, sent) = host.plan("", &[("x", "new")]);
        let refused = |what: &str| {
            let why = format!("{staging}: not of these tools: move it away\n");
            let etc = host.path("etc");
            let stale = format!("stale\t{etc}\nend");
            for (plan, sent) in [(&plan, sent.as_slice()), (&stale, b"")] {
                let ended = host.apply(plan, sent);
                assert_eq!(ended, (1, String::new(), why.clone()), "{shell}: {what}");
            }
            let (code, _, stderr) = host.run(STATE, &[], files(&etc, "x").as_bytes());
            assert_eq!((code, &stderr), (1, &why), "{shell}: {what}");
            assert!(fs::symlink_metadata(&staging).is_ok(), "{shell}: {what}");
        };
        host.write("etc/.etcd-tools", "a file");
        refused("a file");
        fs::remove_file(&staging).unwrap();
        symlink(host.path("sh"), &staging).unwrap();
        refused("a link");
        fs::remove_file(&staging).unwrap();
        fs::create_dir(&staging).unwrap();
        host.write("etc/.etcd-tools/precious", "kept");
        fs::set_permissions(&staging, fs::Permissions::from_mode(0o755)).unwrap();
        refused("another mode");
        fs::set_permissions(&staging, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&staging, Some(65534), None).unwrap();
        refused("another owner");
        std::os::unix::fs::chown(&staging, Some(0), None).unwrap();
        assert_eq!(fs::read_to_string(host.path("etc/.etcd-tools/precious")).unwrap(), "kept");
        assert_eq!(host.apply(&plan, &sent), (0, String::new(), String::new()), "{shell}");
        assert_eq!(names(&host.etc()), ["x"], "{shell}");
    }
}

#[test]
fn a_mount_point_is_found_and_never_emptied() {
    for shell in ["dash", "bash"] {
        let host = Host::new(shell);
        host.write("disk", "the disk's");
        host.write("etc/a b", "old");
        let (disk, file, etc) = (host.path("disk"), host.path("etc/a b"), host.path("etc"));
        let mount = format!("mount --bind '{disk}' '{file}' || exit");
        let question = files(&etc, "a b");
        let (code, answer, stderr) = host.run_after(&mount, STATE, &[], question.as_bytes());
        assert_eq!((code, stderr.as_str()), (0, ""), "{shell}");
        let mounted = format!("mount\t{file}");
        assert!(answer.lines().any(|line| line == mounted), "{shell}: {answer}");
        let (_, answer, _) = host.run(STATE, &[], question.as_bytes());
        assert!(!answer.contains("mount\t"), "{shell}: {answer}");

        for name in ["etc/.etcd-tools", "data"] {
            fs::create_dir(host.path(name)).unwrap();
            fs::set_permissions(host.path(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
        host.write("data/precious", "kept");
        let mount = format!("mount --bind '{}' '{etc}/.etcd-tools' || exit", host.path("data"));
        let why = format!("{etc}/.etcd-tools: not of these tools: move it away\n");
        let stale = format!("stale\t{etc}\nend");
        let size = stale.len().to_string();
        let ended = host.run_after(&mount, APPLY, &[&size], stale.as_bytes());
        assert_eq!(ended, (1, String::new(), why.clone()), "{shell}");
        let (code, _, stderr) = host.run_after(&mount, STATE, &[], question.as_bytes());
        assert_eq!((code, stderr), (1, why), "{shell}");
        assert_eq!(fs::read_to_string(host.path("data/precious")).unwrap(), "kept");
    }
}
