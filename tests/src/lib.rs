//! What the end-to-end tests share: a lab of real hosts with a real systemd,
//! sshd and etcd, and pipelines typed into a shell as a user would type them.
//!
//! A test holds one lab (`scripts/lab`) for itself while it lasts. There are
//! `LABS` of them (default 1), with the state of each in `LAB_DIR-1`, `LAB_DIR-2`
//! and so on, so that many tests run at once. `scripts/test` builds the tools,
//! brings the labs up, and runs the tests; without a lab they fail, and say so.

pub mod man;
mod releases;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

use pipeline::{Document, parse};
use tempfile::TempDir;

pub use releases::{guide, not_run, release};

/// Prints on a host the process of its member.
pub const PID: &str = "systemctl show etcd -p MainPID --value";

/// The numbers of the labs that no test holds.
static FREE: LazyLock<Mutex<Vec<usize>>> = LazyLock::new(|| {
    let labs = std::env::var("LABS").ok().and_then(|labs| labs.parse().ok()).unwrap_or(1);
    Mutex::new((1..=labs).rev().collect())
});
static FREED: Condvar = Condvar::new();

/// The repository's folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// The folder of the tools that were built with this test.
pub fn tools() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test.ancestors().nth(2).expect("target/release/deps/test").to_path_buf();
    assert!(folder.join("etcd-push").exists(), "{folder:?} has no etcd-push: run scripts/test");
    folder
}

/// A shell command to run in `folder`, with the tools on its PATH, and in its
/// environment neither settings of the tools nor what cargo has set for the
/// test: a cargo that the command starts would build everything anew for it.
fn shell(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let of_user = name == "CARGO_HOME" || name == "CARGO_TARGET_DIR";
        let of_cargo = name.starts_with("CARGO_") && !of_user;
        if of_cargo || name.starts_with("ETCD_TOOLS_") || name.starts_with("ETCDCTL_") {
            command.env_remove(name);
        }
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", tools().display()))
        .env("ETCD_TOOLS_CACHE", folder.join("cache"))
        .stdin(Stdio::null());
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, when it exited with 0; else the test fails and shows what it said.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// The same, when it exited with `code`; else the test fails and shows what it said.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stderr:\n{}\nstdout:\n{}", self.stderr, self.stdout);
        self
    }

    /// The same, when it wrote exactly the line `line` to stderr; else the test fails.
    #[track_caller]
    pub fn says(self, line: &str) -> Self {
        assert!(self.stderr.lines().any(|l| l == line), "no line {line:?} in:\n{}", self.stderr);
        self
    }

    /// The document on stdout.
    #[track_caller]
    pub fn document(&self) -> Document {
        match parse(self.stdout.as_bytes()) {
            Ok(input) => input.document,
            Err(error) => panic!("{error}\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr),
        }
    }
}

/// Runs `script` with bash (`pipefail` is on) in a folder of its own, outside of the lab.
pub fn bash(folder: &Path, script: &str) -> Ran {
    let mut command = shell("bash", folder);
    Ran::new(command.args(["-o", "pipefail", "-c", script]).output().expect("bash"))
}

/// Runs `program` with `args` in `folder`, with the tools on its PATH, outside of the lab.
pub fn run(folder: &Path, program: &str, args: &[&str]) -> Ran {
    Ran::new(shell(program, folder).args(args).output().expect(program))
}

/// The lab, for one test alone, with fresh hosts and a folder to work in.
pub struct Lab {
    /// The folder in which commands run; it goes with the test.
    pub folder: TempDir,
    /// Where the lab keeps its state, as `LAB_DIR` has it for `scripts/lab`.
    pub dir: PathBuf,
    number: usize,
}

impl Drop for Lab {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(self.number);
        FREED.notify_one();
    }
}

impl Lab {
    /// Fresh hosts, and `count` of them in `nodes.txt`.
    pub fn with_nodes(count: usize) -> Self {
        // A test that failed has left its lab to the next one all the same.
        let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let number = loop {
            match free.pop() {
                Some(number) => break number,
                None => free = FREED.wait(free).unwrap_or_else(|poisoned| poisoned.into_inner()),
            }
        };
        drop(free);
        let base = std::env::var("LAB_DIR").unwrap_or_else(|_| "/run/etcd-tools-test".into());
        let dir = PathBuf::from(format!("{base}-{number}"));
        let lab = Self { folder: TempDir::new().expect("a folder"), dir, number };
        lab.command(&["reset"]);
        let nodes = lab.command(&["nodes", &count.to_string()]);
        lab.write("nodes.txt", &nodes);
        lab
    }

    /// Runs `script` with bash in the lab's network, as the operator would
    /// (`pipefail` is on); `nodes.txt` lists the nodes.
    pub fn bash(&self, script: &str) -> Ran {
        self.exec(&["bash", "-o", "pipefail", "-c", script])
    }

    /// Runs a program with its arguments in the lab's network.
    pub fn exec(&self, command: &[&str]) -> Ran {
        Ran::new(self.command_in_lab(command).output().expect("scripts/lab"))
    }

    fn shell(&self, program: &str) -> Command {
        let mut command = shell(program, self.folder.path());
        command.env("LAB_DIR", &self.dir);
        command
    }

    /// Runs `program` with `args` in the working folder, outside of the lab's network.
    pub fn run(&self, program: &str, args: &[&str]) -> Ran {
        Ran::new(self.shell(program).args(args).output().expect(program))
    }

    /// A program with its arguments in the lab's network, not yet started.
    pub fn command_in_lab(&self, command: &[&str]) -> Command {
        let mut lab = self.shell(&lab_script());
        lab.arg("exec").args(command);
        lab
    }

    /// Runs `scripts/lab` with `args`, which must succeed; gives what it wrote to stdout.
    #[track_caller]
    pub fn command(&self, args: &[&str]) -> String {
        let ran = Ran::new(self.shell(&lab_script()).args(args).output().expect("scripts/lab"));
        assert_eq!(
            ran.code, 0,
            "scripts/lab {args:?}: {} (is it up? run scripts/test)",
            ran.stderr
        );
        ran.stdout
    }

    /// Makes `host` a fresh one of an older Debian (11: systemd 247, coreutils 8.32). A
    /// test that gets none is one that did [not run](not_run), and returns.
    pub fn make_older(&self, host: &str) -> bool {
        let ran = self.run(&lab_script(), &["reset", "--os", "bullseye", host]);
        if ran.code != 0 {
            not_run(ran.stderr.trim());
        }
        ran.code == 0
    }

    /// Runs `script` as root on a host, which must succeed; gives what it wrote to stdout.
    #[track_caller]
    pub fn on(&self, host: &str, script: &str) -> String {
        self.command(&["ssh", host, script])
    }

    /// Runs `script` as root on all `hosts` at once; gives what each wrote to stdout.
    #[track_caller]
    pub fn on_all(&self, hosts: &[&str], script: &str) -> Vec<String> {
        std::thread::scope(|scope| {
            let run = |host: &&str| {
                let host = host.to_string();
                scope.spawn(move || self.on(&host, script))
            };
            let running: Vec<_> = hosts.iter().map(run).collect();
            running.into_iter().map(|run| run.join().expect("a host")).collect()
        })
    }

    /// Has the next process `program` of a host's scripts wait before it does anything,
    /// until [`Lab::let_go`].
    pub fn hold(&self, host: &str, program: &str) {
        self.on(
            host,
            &format!(
                "cat > /usr/local/bin/{program} <<'E'\n#!/bin/sh\ntouch /run/held\n\
                 while [ ! -e /run/let-go ]; do sleep 0.1; done\n\
                 exec /usr/bin/{program} \"$@\"\nE\n\
                 rm -f /run/held /run/let-go; chmod 755 /usr/local/bin/{program}"
            ),
        );
    }

    /// Waits until a process waits on `host`; see [`Lab::hold`].
    pub fn wait_held(&self, host: &str) {
        let held = || !self.on(host, "ls /run/held 2>/dev/null; true").is_empty();
        wait_until("a process is held", Duration::from_secs(60), held);
    }

    /// Lets what waits on `host` go on, and whatever comes.
    pub fn let_go(&self, host: &str) {
        self.on(host, "touch /run/let-go; rm -f /usr/local/bin/*");
    }

    /// Has the script that starts the `number`-th process of those that put files in place
    /// killed with -9 on each of `hosts`, before the process does anything: with numbers
    /// from 1 on every window of a script is hit, until [`Lab::killed`] says no.
    pub fn kill_at(&self, hosts: &[&str], number: usize) {
        let script = format!(
            "mkdir -p /run/kill; cd /run/kill; echo 0 > count; rm -f hit\n\
             for program in head sha256sum chown chmod sync mv mkdir rm; do\n\
             cat > /usr/local/bin/$program <<E\n#!/bin/sh\nread -r count < /run/kill/count\n\
             count=\\$((count + 1))\necho \\$count > /run/kill/count\n\
             if [ \\$count = {number} ]; then echo > /run/kill/hit; kill -s KILL 0; fi\n\
             exec /usr/bin/$program \"\\$@\"\nE\n\
             /usr/bin/chmod 755 /usr/local/bin/$program\ndone"
        );
        self.on_all(hosts, &script);
    }

    /// Whether a script was killed on any of `hosts`, where none is any more from now on.
    pub fn killed(&self, hosts: &[&str]) -> bool {
        let hit = "/usr/bin/rm -f /usr/local/bin/*; ls /run/kill/hit 2>/dev/null; true";
        self.on_all(hosts, hit).iter().any(|hit| !hit.is_empty())
    }

    /// The file `path` of a host as it is on its disk, read without asking the host.
    pub fn disk(&self, host: &str, path: &str) -> PathBuf {
        PathBuf::from(format!("{}/hosts/{host}/root{path}", self.dir.display()))
    }

    /// Starts `script` as [`Lab::bash`] runs it, and does not wait for its end.
    pub fn start(&self, script: &str) -> Running {
        let mut command = self.command_in_lab(&["bash", "-o", "pipefail", "-c", script]);
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(command.spawn().expect("scripts/lab"))
    }

    /// Writes a file in the working folder.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("writing a file");
    }

    /// Puts the binaries of `version` into the folder `bin` here, for [`Lab::etcdctl`].
    pub fn unpack(&self, version: &str) {
        self.exec(&["etcd-fetch", version, "--unpack", "bin"]).ok();
    }

    /// The line with which the operator, who has unpacked a release (see
    /// [`Lab::unpack`]), asks `endpoints` with etcdctl and `args`.
    pub fn etcdctl(&self, endpoints: &[String], args: &str) -> String {
        format!(
            "bin/etcdctl --endpoints {} --cacert pki/ca.crt --cert pki/client.crt \
             --key pki/client.key {args}",
            endpoints.join(",")
        )
    }

    /// Reads a file in the working folder.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).expect("reading a file")
    }
}

/// A script that was started with [`Lab::start`].
pub struct Running(Child);

impl Running {
    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("waiting for a script").is_none()
    }

    /// The ID of the process that was started.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Kills the process that was started, with -9 and without its children. A
    /// script of the form `exec TOOL …` is that tool.
    pub fn kill(mut self) -> Ran {
        self.0.kill().expect("killing a tool");
        self.wait()
    }

    /// Kills all processes of the script with -9 at once.
    pub fn kill_all(self) -> Ran {
        let group = format!("-{}", self.0.id());
        // It fails where all have ended.
        let _ = Command::new("kill").args(["-9", "--", &group]).stderr(Stdio::null()).status();
        self.wait()
    }

    /// Sends the signal `name`, e.g. `STOP`, to the process that was started.
    pub fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill");
        assert!(sent.success(), "kill -s {name} {id}");
    }

    /// Waits for its end.
    pub fn wait(self) -> Ran {
        Ran::new(self.0.wait_with_output().expect("waiting for a script"))
    }
}

/// Waits until `condition` holds; the test fails when it does not within `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lab_script() -> String {
    repository().join("scripts/lab").display().to_string()
}

/// The whole pipeline for `version`.
pub fn deploy(version: &str) -> String {
    format!(
        "etcd-fetch {version} < nodes.txt | etcd-cert issue | etcd-render | etcd-push \
         | etcd-unit start | etcd-health --wait"
    )
}
