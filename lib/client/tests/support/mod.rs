//! Real etcd clusters on loopback, with TLS, for tests.
//!
//! Every member has an address of its own in 127.0.0.0/8, so the usual ports
//! are free and a node list of these addresses is all that a tool needs.
#![allow(dead_code, reason = "each test uses some of it")]
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use tempfile::TempDir;

/// The newest release of each minor: their answers differ. Those that this machine
/// has not got are noted as not run.
pub fn versions() -> Vec<String> {
    ["3.4", "3.5", "3.6", "3.7"].into_iter().filter_map(tests::release).collect()
}

/// The one that tests use where the version does not matter.
pub const VERSION: &str = "v3.5.16";

/// The client certificate without a common name.
pub const NAMELESS: &str = "nameless";

/// A cluster; its members die with it.
pub struct Cluster {
    pub members: Vec<Member>,
    pub dir: TempDir,
    bin: PathBuf,
    flags: Vec<String>,
    initial_cluster: String,
}

pub struct Member {
    pub name: String,
    pub address: String,
    process: Option<Child>,
}

impl Cluster {
    /// A healthy cluster of `count` members, `etcd-01` and so on.
    pub fn start(version: &str, count: usize) -> Self {
        Self::start_with(version, count, &[])
    }

    /// The same, with more flags of etcd.
    pub fn start_with(version: &str, count: usize, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        authority(dir.path());
        Self::start_in(dir, version, count, flags)
    }

    /// Another cluster, whose certificates are of the same CA.
    pub fn start_other(&self, version: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ca.crt", "ca.key"] {
            fs::copy(self.path(name), dir.path().join(name)).unwrap();
        }
        Self::start_in(dir, version, 1, &[])
    }

    fn start_in(dir: TempDir, version: &str, count: usize, flags: &[&str]) -> Self {
        let members = (1..=count).map(|number| Member::new(&format!("etcd-{number:02}")));
        let mut cluster = Self {
            members: members.collect(),
            dir,
            bin: binaries(version),
            flags: flags.iter().map(|flag| flag.to_string()).collect(),
            initial_cluster: String::new(),
        };
        let addresses: Vec<_> = cluster.members.iter().map(|m| m.address.clone()).collect();
        leaf(cluster.dir.path(), "server", &addresses);
        leaf(cluster.dir.path(), "client", &[]);
        leaf(cluster.dir.path(), NAMELESS, &[]);
        let peers: Vec<_> = cluster.members.iter().map(Member::as_peer).collect();
        cluster.initial_cluster = peers.join(",");
        for at in 0..count {
            cluster.start_member(at, "new");
        }
        cluster.wait_healthy();
        cluster
    }

    /// Adds a learner with etcdctl and starts it.
    pub fn add_learner(&mut self) {
        let member = Member::new(&format!("etcd-{:02}", self.members.len() + 1));
        let addresses: Vec<_> =
            self.members.iter().chain([&member]).map(|m| m.address.clone()).collect();
        // Members read their certificates anew for each connection.
        leaf(self.dir.path(), "server", &addresses);
        let url = format!("--peer-urls=https://{}:2380", member.address);
        let add = ["member", "add", &member.name, "--learner", &url];
        // A cluster that has just started refuses for a moment.
        self.wait_for(|cluster| cluster.etcdctl(&add).status.success());
        self.initial_cluster += &format!(",{}", member.as_peer());
        self.members.push(member);
        self.start_member(self.members.len() - 1, "existing");
    }

    /// Starts a member, again after [`Cluster::kill`]; does not wait.
    pub fn start_member(&mut self, at: usize, state: &str) {
        let member = &self.members[at];
        let file = |name: &str| self.path(name).display().to_string();
        let client = format!("https://{}:2379", member.address);
        let peer = format!("https://{}:2380", member.address);
        let log = File::create(self.path(&format!("{}.log", member.name))).unwrap();
        // etcd goes when the test goes, however it ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(self.bin.join("etcd"));
        command.args(["--name", &member.name, "--data-dir", &file(&member.name)]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &self.initial_cluster]);
        command.args(["--initial-cluster-state", state, "--unsafe-no-fsync"]);
        command.args(["--client-cert-auth", "--peer-client-cert-auth"]);
        for prefix in ["", "peer-"] {
            command.args([format!("--{prefix}cert-file"), file("server.crt")]);
            command.args([format!("--{prefix}key-file"), file("server.key")]);
            command.args([format!("--{prefix}trusted-ca-file"), file("ca.crt")]);
        }
        command.args(&self.flags).stdout(Stdio::null()).stderr(log);
        self.members[at].process = Some(command.spawn().unwrap());
    }

    /// A power cut: the member is gone when this returns.
    pub fn kill(&mut self, at: usize) {
        let mut process = self.members[at].process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Stops the member's process, which stays and does not answer.
    pub fn freeze(&self, at: usize) {
        self.signal(at, Signal::SIGSTOP);
    }

    /// Lets a frozen member go on.
    pub fn thaw(&self, at: usize) {
        self.signal(at, Signal::SIGCONT);
    }

    fn signal(&self, at: usize, signal: Signal) {
        let id = self.members[at].process.as_ref().unwrap().id();
        kill(Pid::from_raw(id.try_into().unwrap()), signal).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn url(&self, at: usize) -> String {
        format!("https://{}:2379", self.members[at].address)
    }

    pub fn urls(&self) -> String {
        (0..self.members.len()).map(|at| self.url(at)).collect::<Vec<_>>().join(",")
    }

    /// The inventory, as any tool reads it.
    pub fn node_list(&self) -> String {
        let line = |m: &Member| format!("{}:{}:{}\n", m.name, m.address, m.name);
        self.members.iter().map(line).collect()
    }

    /// The independent witness: etcdctl of the same release, on all endpoints.
    pub fn etcdctl(&self, args: &[&str]) -> Output {
        self.etcdctl_on(&self.urls(), args)
    }

    pub fn etcdctl_on(&self, endpoints: &str, args: &[&str]) -> Output {
        let mut command = Command::new(self.bin.join("etcdctl"));
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", endpoints);
        command.env("ETCDCTL_CACERT", self.path("ca.crt"));
        command.env("ETCDCTL_CERT", self.path("client.crt"));
        command.env("ETCDCTL_KEY", self.path("client.key"));
        command.args(args).output().unwrap()
    }

    /// What etcdctl prints; it must succeed.
    pub fn etcdctl_ok(&self, args: &[&str]) -> String {
        let output = self.etcdctl(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until etcdctl finds every endpoint healthy.
    pub fn wait_healthy(&self) {
        self.wait_for(|cluster| cluster.etcdctl(&["endpoint", "health"]).status.success());
    }

    pub fn wait_for(&self, condition: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !condition(self) {
            assert!(Instant::now() < end, "not in time; the members say:\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn logs(&self) -> String {
        let log = |m: &Member| fs::read_to_string(self.path(&format!("{}.log", m.name)));
        self.members.iter().filter_map(|m| log(m).ok()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for mut process in self.members.iter_mut().filter_map(|m| m.process.take()) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Member {
    fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let [high, low] = ((std::process::id() % 62_000) as u16).to_be_bytes();
        let address = format!("127.{}.{low}.{}", high + 1, NEXT.fetch_add(1, Ordering::Relaxed));
        Self { name: name.into(), address, process: None }
    }

    fn as_peer(&self) -> String {
        format!("{}=https://{}:2380", self.name, self.address)
    }
}

/// The folder of the release's binaries, unpacked from the lab's releases once.
pub fn binaries(version: &str) -> PathBuf {
    let cache = std::env::var("LAB_CACHE").unwrap_or("/var/cache/etcd-tools-lab".into());
    let name = format!("etcd-{version}-linux-amd64");
    let archive = Path::new(&cache).join(format!("releases/{version}/{name}.tar.gz"));
    assert!(archive.exists(), "{}: missing: run scripts/lab mirror", archive.display());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
    if !folder.exists() {
        let unpacked = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let tar = Command::new("tar").arg("-xzf").arg(&archive).current_dir(&unpacked).status();
        assert!(tar.unwrap().success(), "{}: unpacking", archive.display());
        // Another test may have been first.
        let _ = fs::rename(unpacked.path().join(&name), &folder);
    }
    assert!(folder.join("etcd").exists(), "{}: no etcd in it", folder.display());
    folder
}

fn authority(dir: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = named("test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write(&dir.join("ca.crt"), &params.self_signed(&key).unwrap().pem());
    write(&dir.join("ca.key"), &key.serialize_pem());
}

/// Signs a certificate with the CA in `dir`; `NAME` is its common name too.
pub fn leaf(dir: &Path, name: &str, addresses: &[String]) {
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let ca_key = KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.crt"), ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    // etcd wants a peer's certificate to name where the peer connects from, too.
    let names = addresses.iter().cloned().chain(["127.0.0.1".into()]);
    let mut params = CertificateParams::new(names.collect::<Vec<_>>()).unwrap();
    params.distinguished_name = named(name).distinguished_name;
    if name == NAMELESS {
        params.distinguished_name = DistinguishedName::new();
    }
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    write(&dir.join(format!("{name}.crt")), &params.signed_by(&key, &issuer).unwrap().pem());
    write(&dir.join(format!("{name}.key")), &key.serialize_pem());
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write(path: &Path, text: &str) {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.persist(path).unwrap();
}
