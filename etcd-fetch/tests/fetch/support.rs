//! Releases on the disk with real hashes, a small HTTP server, and the tool.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pipeline::disk;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

pub const NODES: &str = "m1:192.168.1.100:etcd-01\nn1:192.168.1.101:etcd-02\n\
                         m2:192.168.1.102:etcd-03\n";

/// An entry of an archive that is made for a test.
pub enum Entry {
    File(&'static str, Vec<u8>),
    Link(&'static str, &'static str),
    HardLink(&'static str, &'static str),
    Fifo(&'static str),
}

/// Bytes that do not compress, always the same.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// A `.tar.gz` with these entries, at these paths whatever they are.
pub fn archive(entries: Vec<Entry>) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let mut tar = tar::Builder::new(gzip);
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        let (kind, path, link, content) = match entry {
            Entry::File(path, content) => (tar::EntryType::Regular, path, "", content),
            Entry::Link(path, link) => (tar::EntryType::Symlink, path, link, Vec::new()),
            Entry::HardLink(path, link) => (tar::EntryType::Link, path, link, Vec::new()),
            Entry::Fifo(path) => (tar::EntryType::Fifo, path, "", Vec::new()),
        };
        // The crate itself would refuse bad paths.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// The archive of a release, of about 300 kB.
pub fn release(version: &str, arch: &str) -> Vec<u8> {
    let path =
        |name: &str| -> &'static str { format!("etcd-{version}-linux-{arch}/{name}").leak() };
    archive(vec![
        Entry::File(path("README.md"), b"read me".into()),
        Entry::File(path("etcd"), noise(300_000)),
        Entry::File(path("etcdctl"), format!("etcdctl {version}").into()),
        Entry::File(path("etcdutl"), format!("etcdutl {version}").into()),
    ])
}

/// The size of every release's archive, as the tool says it.
pub fn size() -> String {
    indicatif::DecimalBytes(release("v3.5.16", "amd64").len() as u64).to_string()
}

pub fn file_name(version: &str, arch: &str) -> String {
    format!("etcd-{version}-linux-{arch}.tar.gz")
}

/// A folder for one test: a mirror, a cache, and whatever else.
pub struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    /// With a mirror that has `versions`, for amd64.
    pub fn new(versions: &[&str]) -> Self {
        let sandbox = Self { folder: tempfile::tempdir().unwrap() };
        for version in versions {
            sandbox.publish(version, "amd64", &release(version, "amd64"));
        }
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn mirror(&self) -> String {
        self.path("mirror").to_str().unwrap().into()
    }

    /// The path of the archive in the mirror.
    pub fn published(&self, version: &str, arch: &str) -> PathBuf {
        self.path("mirror").join(version).join(file_name(version, arch))
    }

    /// The path of the archive in the cache.
    pub fn cached(&self, version: &str, arch: &str) -> PathBuf {
        self.path("cache").join(version).join(file_name(version, arch))
    }

    /// Puts an archive and its checksum into the mirror.
    pub fn publish(&self, version: &str, arch: &str, bytes: &[u8]) {
        let path = self.published(version, arch);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let sums = path.with_file_name("SHA256SUMS");
        let mut text = fs::read_to_string(&sums).unwrap_or_default();
        text += &format!("{}  {}\n", disk::sha256(bytes), file_name(version, arch));
        fs::write(&sums, text).unwrap();
    }

    /// The tool with this sandbox's cache, and nothing of the caller's environment.
    pub fn command(&self, mirror: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-fetch"));
        command.env_clear().env("HOME", self.path("home")).current_dir(self.folder.path());
        command.args(["--cache", self.path("cache").to_str().unwrap(), "--mirror", mirror]);
        command.args(args);
        command
    }

    /// Runs the tool on `NODES`.
    pub fn run(&self, mirror: &str, args: &[&str]) -> Ran {
        run(self.command(mirror, args), NODES)
    }

    /// Everything below the folder `name`: path, content, and when it was last changed.
    pub fn snapshot(&self, name: &str) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.path(name)];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let changed = fs::metadata(&path).unwrap().modified().unwrap();
                    found.insert(path.clone(), (fs::read(&path).unwrap(), changed));
                }
            }
        }
        found
    }
}

/// What a run gave.
#[derive(Debug)]
pub struct Ran {
    pub exit: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the exit code and all that it printed.
    #[track_caller]
    pub fn prints(&self, exit: i32, lines: &[&str]) -> &Self {
        let printed: Vec<_> = self.stderr.lines().collect();
        assert_eq!((self.exit, printed), (exit, lines.to_vec()));
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            exit: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub fn start(mut command: Command, stdin: &str) -> Child {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A tool that does not like its command line ends without reading.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child
}

pub fn run(command: Command, stdin: &str) -> Ran {
    start(command, stdin).wait_with_output().unwrap().into()
}

/// The same command, under what the shell's `limit` sets.
pub fn limited(command: &Command, limit: &str) -> Command {
    let mut limited = Command::new("/bin/bash");
    limited.env_clear().args(["-c", &format!("{limit}; exec \"$@\""), "bash"]);
    limited.arg(command.get_program()).args(command.get_args());
    limited
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A request as the server got it.
#[derive(Debug, Clone)]
pub struct Request {
    pub target: String,
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn is_archive(&self) -> bool {
        self.target.ends_with(".tar.gz")
    }

    pub fn range(&self) -> Option<&str> {
        self.headers.get("range").map(String::as_str)
    }

    /// The sandbox at which the range begins.
    pub fn offset(&self) -> usize {
        let range = self.range().and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.strip_suffix('-')).map_or(0, |from| from.parse().unwrap())
    }
}

pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// An HTTP server on the loopback that notes what it is asked for.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` writes the whole answer to a request.
    pub fn start(answer: impl Fn(&Request, &mut dyn Stream) + Send + Sync + 'static) -> Self {
        Self::start_with(|stream| Box::new(stream), answer)
    }

    /// The same, over what `wrap` makes of each connection.
    pub fn start_with(
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + Sync + 'static,
        answer: impl Fn(&Request, &mut dyn Stream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let noted = requests.clone();
        let both = Arc::new((wrap, answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (noted, both) = (noted.clone(), both.clone());
                thread::spawn(move || {
                    let mut stream = both.0(stream.unwrap());
                    if let Some(request) = read_request(&mut *stream) {
                        noted.lock().unwrap().push(request.clone());
                        both.1(&request, &mut *stream);
                    }
                });
            }
        });
        Self { address, requests }
    }

    /// One that serves the mirror of `sandbox`, as it should.
    pub fn of(sandbox: &Sandbox) -> Self {
        let root = sandbox.path("mirror");
        Self::start(move |request, out| serve(&root, request, out))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The requests for archives.
    pub fn archives(&self) -> Vec<Request> {
        self.requests().into_iter().filter(Request::is_archive).collect()
    }
}

/// A certificate for 127.0.0.1 and localhost that is its own CA, and its key; in PEM.
pub struct Identity {
    pub cert: String,
    pub key: String,
}

impl Identity {
    pub fn new() -> Self {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self { cert: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    /// A server over TLS with this certificate.
    pub fn server(
        &self,
        answer: impl Fn(&Request, &mut dyn Stream) + Send + Sync + 'static,
    ) -> Server {
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        let config = Arc::new(config);
        let wrap = move |stream| -> Box<dyn Stream> {
            let connection = ServerConnection::new(config.clone()).unwrap();
            Box::new(StreamOwned::new(connection, stream))
        };
        Server::start_with(wrap, answer)
    }
}

fn read_request(stream: &mut dyn Stream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    let header = |line: String| {
        line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()))
    };
    let headers = lines.take_while(|line| !line.is_empty()).filter_map(header).collect();
    Some(Request { target, headers })
}

/// Serves a file below `root`, or the part of it that is asked for.
pub fn serve(root: &Path, request: &Request, out: &mut dyn Stream) {
    let Ok(bytes) = fs::read(root.join(request.target.trim_start_matches('/'))) else {
        return answer(out, "404 Not Found", "", b"no such file");
    };
    let from = request.offset();
    match request.range() {
        Some(_) if from >= bytes.len() => answer(out, "416 Range Not Satisfiable", "", b""),
        Some(_) => {
            let range =
                format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
            answer(out, "206 Partial Content", &range, &bytes[from..]);
        }
        None => answer(out, "200 OK", "", &bytes),
    }
}

/// Writes an answer. A client that hangs up is no error.
pub fn answer(out: &mut dyn Stream, status: &str, headers: &str, body: &[u8]) {
    head(out, status, headers, body.len());
    let _ = out.write_all(body);
    let _ = out.flush();
}

/// Writes what comes before the body.
pub fn head(out: &mut dyn Stream, status: &str, headers: &str, length: usize) {
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    let _ = out.write_all(head.as_bytes());
}

/// Sends nothing more until the client hangs up.
pub fn stall(out: &mut dyn Stream) {
    let _ = out.flush();
    let _ = out.read(&mut [0]);
}
