//! Runs the real binary, and lets openssl judge what it made.
#![allow(clippy::unwrap_used)]

mod check;
mod clients;
mod issue;
mod own_ca;
mod safety;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_etcd-cert");

/// An inventory of an IPv4 node, an IPv6 node and one with a DNS name.
const NODES: &str = "k8s-master-01:192.168.1.100:etcd-01\n\
                     k8s-node-01:[2001:db8::2]:etcd-02\n\
                     k8s-master-02:db.example.org:etcd-03\n";

/// What a run on `NODES` says when it has nothing to do.
const UNCHANGED: [&str; 4] = [
    "etcd-cert: etcd-01: certificates unchanged",
    "etcd-cert: etcd-02: certificates unchanged",
    "etcd-cert: etcd-03: certificates unchanged",
    "etcd-cert: CA and client certificates unchanged",
];

/// A folder to run in.
struct Lab(TempDir);

/// What a run gave.
struct Ran {
    code: i32,
    stdout: String,
    stderr: Vec<String>,
}

impl Ran {
    fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Asserts the exit code and all that was said.
    #[track_caller]
    fn expect(self, code: i32, stderr: &[&str]) -> Self {
        assert_eq!(
            (self.code, &self.stderr),
            (code, &stderr.iter().map(|s| s.to_string()).collect())
        );
        self
    }

    /// Asserts the exit code and one line among others.
    #[track_caller]
    fn expect_line(self, code: i32, line: &str) -> Self {
        assert!(
            self.stderr.iter().any(|said| said == line),
            "{line:?} is not in {:#?}",
            self.stderr
        );
        assert_eq!(self.code, code);
        self
    }
}

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With the certificates of `NODES`.
    fn issued() -> Self {
        let lab = Self::new();
        assert_eq!(lab.issue(&[]).code, 0);
        lab
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    fn issue(&self, args: &[&str]) -> Ran {
        self.run(&[&["issue"], args].concat(), NODES)
    }

    fn run(&self, args: &[&str], stdin: &str) -> Ran {
        self.run_command(command(BINARY).args(args), stdin)
    }

    fn run_command(&self, command: &mut Command, stdin: &str) -> Ran {
        let mut command = std::mem::replace(command, Command::new(""));
        command.current_dir(self.0.path());
        let output = assert_cmd::Command::from_std(command).write_stdin(stdin).output().unwrap();
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap().lines().map(Into::into).collect(),
        }
    }

    /// What openssl says; its success is asserted.
    #[track_caller]
    fn openssl(&self, args: &str) -> String {
        let mut command = Command::new("openssl");
        command.args(args.split_whitespace()).current_dir(self.0.path());
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {args}: {stderr}");
        String::from_utf8(output.stdout).unwrap().trim().into()
    }

    /// Has openssl make a CA that is expired at once: `STEM.crt` of `STEM.key`.
    fn expired_ca(&self, stem: &str) {
        self.write("extensions", "basicConstraints=critical,CA:TRUE");
        self.openssl(&format!("req -new -key {stem}.key -subj /CN=etcd-ca -out request"));
        self.openssl(&format!(
            "x509 -req -in request -signkey {stem}.key -days 0 -extfile extensions -out {stem}.crt"
        ));
    }

    /// When `cert` expires, as the tool says it.
    fn expiry(&self, cert: &str) -> String {
        let text = self.openssl(&format!("x509 -in {cert} -noout -enddate -dateopt iso_8601"));
        text.trim_start_matches("notAfter=").replace(' ', "T")
    }

    /// Every file and folder of `pki` but the lock, with its mode and content.
    fn tree(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut tree = BTreeMap::new();
        visit(&self.path("pki"), &mut |path| {
            let mode = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
            let name = path.strip_prefix(self.0.path()).unwrap().to_str().unwrap();
            if name != "pki/.lock" {
                tree.insert(name.into(), (mode, fs::read(path).unwrap_or_default()));
            }
        });
        tree
    }

    /// Asserts that openssl accepts every certificate for what it is for, that
    /// every key fits, and that nothing else lies about.
    #[track_caller]
    fn assert_sound(&self) {
        self.assert_trusted();
        for cert in self.tree().keys().filter(|name| name.ends_with(".crt")) {
            // Of a bundle openssl shows the first only.
            if self.text(cert).matches("BEGIN").count() == 1 {
                let key = cert.replace(".crt", ".key");
                let public = self.openssl(&format!("x509 -in {cert} -noout -pubkey"));
                assert_eq!(public, self.openssl(&format!("pkey -in {key} -pubout")), "{cert}");
            }
        }
    }

    /// Asserts that openssl accepts every certificate for what it is for, and
    /// that nothing else lies about.
    #[track_caller]
    fn assert_trusted(&self) {
        let folders = ["pki", "pki/nodes"].map(String::from).into_iter();
        let nodes = ["etcd-01", "etcd-02", "etcd-03"].map(|node| format!("pki/nodes/{node}"));
        let of_nodes: Vec<_> = nodes
            .iter()
            .flat_map(|node| ["server", "peer"].map(|s| format!("{node}/{s}")))
            .collect();
        let clients = ["client", "apiserver-etcd-client"].map(|stem| format!("pki/{stem}"));
        let pairs = of_nodes.iter().chain(&clients).map(String::as_str).chain(["pki/ca"]);
        let files = pairs.flat_map(|stem| ["crt", "key"].map(|kind| format!("{stem}.{kind}")));
        let mut expected: Vec<_> = folders.chain(nodes.clone()).chain(files).collect();
        expected.sort();
        assert_eq!(self.tree().keys().cloned().collect::<Vec<_>>(), expected);
        let verify = |purpose: &str, stems: &[String]| {
            let certs: Vec<_> = stems.iter().map(|stem| format!("{stem}.crt")).collect();
            let ca = "-partial_chain -CAfile pki/ca.crt";
            self.openssl(&format!("verify {ca} -purpose {purpose} {}", certs.join(" ")));
        };
        verify("sslserver", &of_nodes);
        verify("sslclient", &[of_nodes, clients.to_vec()].concat());
    }
}

/// A command without the user's settings.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_TOOLS_") {
            command.env_remove(name);
        }
    }
    command
}

fn visit(path: &Path, found: &mut impl FnMut(&Path)) {
    found(path);
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            visit(&entry.unwrap().path(), found);
        }
    }
}
