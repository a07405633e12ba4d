//! One exchange with a script on a host: what it reads, what it writes, and the limits
//! of both.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openssh::{Child, ChildStderr, ChildStdin, ChildStdout, Session};
use pipeline::disk;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::time::{sleep, timeout};

use crate::error::Error;

pub(crate) const BEGIN: &str = "@etcd-tools-begin\n";
const END: &str = "@etcd-tools-end\n";

/// How long neither side of an exchange may send anything.
pub(crate) const MAX_SILENCE: Duration = Duration::from_secs(300);
/// How much a script may answer, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// How much of the end of a script's stderr is kept, in bytes.
const MAX_STDERR: usize = 64 << 10;
/// How long stderr may stay open when stdout has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How much of a file is read at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// A part of what a script reads from stdin.
#[derive(Debug, Clone)]
pub enum Input {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The content of a regular file on this machine. Exactly `size` bytes are sent: of one
    /// that has become larger since, the first; where it has become smaller, the script's
    /// stdin ends there.
    File {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
}

/// An exchange, before and after [`Exchange::run`].
pub(crate) struct Exchange {
    pub child: Child<Arc<Session>>,
    pub stdin: Option<ChildStdin>,
    pub out: String,
    pub err: String,
    /// Whether the script came to its end.
    pub complete: bool,
}

/// A script that came to its end. Its process may go on after that, and read `stdin`.
pub(crate) struct Ended {
    pub child: Child<Arc<Session>>,
    pub stdin: Option<ChildStdin>,
    pub answer: String,
}

impl Exchange {
    pub(crate) fn begin(child: Child<Arc<Session>>) -> Self {
        Self { child, stdin: None, out: String::new(), err: String::new(), complete: false }
    }

    /// Sends `input`, and reads what the script writes until it says that it has ended, or
    /// closes its stdout. Its stdin is closed at the end of the input, unless `keep_stdin`.
    pub(crate) async fn run(
        mut self,
        input: &[Input],
        keep_stdin: bool,
        silence: Duration,
    ) -> Result<Self, Error> {
        let moved = Arc::new(AtomicU64::new(0));
        let stderr = tokio::spawn(drain(self.child.stderr().take(), moved.clone()));
        let (stdin, stdout) = (self.child.stdin().take(), self.child.stdout().take());
        let feeding = async {
            let stdin = feed(stdin, input, &moved).await?;
            Ok(stdin.filter(|_| keep_stdin))
        };
        let work = async { tokio::join!(feeding, read(stdout, &moved)) };
        let (fed, read) = tokio::select! {
            both = work => both,
            () = silent(&moved, silence) => return Err(Error::silent(silence)),
        };
        let out = read?;
        self.complete = out.ends_with(END.as_bytes());
        self.out = String::from_utf8_lossy(&out).into_owned();
        if self.complete {
            self.out.truncate(self.out.len() - END.len());
        } else {
            self.err =
                timeout(LAST_WORDS, stderr).await.ok().and_then(Result::ok).unwrap_or_default();
        }
        // The script has ended by now, and has removed what it had staged.
        self.stdin = fed?;
        Ok(self)
    }

    /// Gives each line that the script writes to `line` as it comes, until that gives
    /// `false`, or the script says that it has ended, or closes its stdout. Its stdin stays
    /// open for that long.
    pub(crate) async fn follow(mut self, mut line: impl FnMut(&str) -> bool) -> Self {
        let moved = Arc::new(AtomicU64::new(0));
        let stderr = tokio::spawn(drain(self.child.stderr().take(), moved));
        self.stdin = self.child.stdin().take();
        let Some(stdout) = self.child.stdout().take() else { return self };
        let mut lines = BufReader::new(stdout).split(b'\n');
        while let Ok(Some(bytes)) = lines.next_segment().await {
            let text = String::from_utf8_lossy(&bytes);
            if text == BEGIN.trim_end() {
                self.out = BEGIN.into();
            } else if text == END.trim_end() || (!self.out.is_empty() && !line(&text)) {
                self.complete = true;
                break;
            }
        }
        self.stdin = None;
        if !self.complete {
            self.err =
                timeout(LAST_WORDS, stderr).await.ok().and_then(Result::ok).unwrap_or_default();
        }
        self
    }
}

/// Sends `input`. Gives stdin back, for what may be sent later.
async fn feed(
    stdin: Option<ChildStdin>,
    input: &[Input],
    moved: &AtomicU64,
) -> Result<Option<ChildStdin>, Error> {
    let Some(stdin) = stdin else { return Ok(None) };
    // Small parts go together: each write is a packet of ssh.
    let mut stdin = BufWriter::with_capacity(CHUNK, stdin);
    let mut begun = VecDeque::new();
    for (at, part) in input.iter().enumerate() {
        let sent = match part {
            Input::Bytes(bytes) => send(&mut stdin, bytes, moved).await,
            Input::File { path, size } => {
                if begun.is_empty() {
                    begun = begin_files(&input[at..]).await?;
                }
                let next = begun.pop_front().unwrap_or_else(|| begin_file(path, *size));
                let (file, mut bytes) = next.map_err(|error| unreadable(path, &error))?;
                let mut left = size - bytes.len() as u64;
                let mut sent = send(&mut stdin, &bytes, moved).await;
                let mut file = file.map(tokio::fs::File::from_std);
                while sent.is_ok() && left > 0 {
                    let Some(file) = &mut file else { return Err(cut_off(path)) };
                    bytes.clear();
                    let read = file.take(left.min(CHUNK as u64)).read_buf(&mut bytes).await;
                    let count = read.map_err(|error| unreadable(path, &error))?;
                    if count == 0 {
                        return Err(cut_off(path));
                    }
                    left -= count as u64;
                    sent = send(&mut stdin, &bytes, moved).await;
                }
                sent
            }
        };
        // A script that has failed reads no more; its exit and stderr say why.
        if sent.is_err() {
            return Ok(None);
        }
    }
    Ok(stdin.flush().await.is_ok().then(|| stdin.into_inner()))
}

/// What was read of a file already, and the file where there is more in it.
type Begun = std::io::Result<(Option<File>, Vec<u8>)>;

/// [Begins](begin_file) the first file in `input`, and those after it, as far as all together
/// are sent at a time: a change of threads costs more than a small file.
async fn begin_files(input: &[Input]) -> Result<VecDeque<Begun>, Error> {
    let mut files = Vec::new();
    let mut total = 0;
    for part in input {
        let Input::File { path, size } = part else { continue };
        total += size;
        if !files.is_empty() && total > CHUNK as u64 {
            break;
        }
        files.push((path.clone(), *size));
    }
    let begin = move || files.iter().map(|(path, size)| begin_file(path, *size)).collect();
    let begun = tokio::task::spawn_blocking(begin).await;
    begun.map_err(|error| Error::CommandFailed(error.to_string()))
}

/// Opens a file of `size` bytes, and reads as much of it as is sent at a time.
fn begin_file(path: &Path, size: u64) -> Begun {
    let mut file = disk::open(path)?;
    let wanted = size.min(CHUNK as u64);
    let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or(CHUNK));
    (&mut file).take(wanted).read_to_end(&mut bytes)?;
    let has_more = bytes.len() as u64 == wanted && wanted < size;
    Ok((has_more.then_some(file), bytes))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::CommandFailed(format!("{}: reading: {error}", path.display()))
}

fn cut_off(path: &Path) -> Error {
    let shown = path.display();
    Error::CommandFailed(format!("{shown}: became smaller while it was sent: run again"))
}

async fn send(
    stdin: &mut BufWriter<ChildStdin>,
    bytes: &[u8],
    moved: &AtomicU64,
) -> std::io::Result<()> {
    for chunk in bytes.chunks(CHUNK) {
        stdin.write_all(chunk).await?;
        moved.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads up to the end mark, or the end.
async fn read(stdout: Option<ChildStdout>, moved: &AtomicU64) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let Some(mut stdout) = stdout else { return Ok(out) };
    // What was read before a failure is still worth having.
    while let Ok(1..) = stdout.read_buf(&mut out).await {
        moved.fetch_add(1, Ordering::Relaxed);
        if out.len() > MAX_ANSWER {
            let what = format!("its answer is larger than {} MiB", MAX_ANSWER >> 20);
            return Err(Error::CommandFailed(what));
        }
        if out.ends_with(END.as_bytes()) {
            break;
        }
    }
    Ok(out)
}

/// The end of stderr.
async fn drain(stderr: Option<ChildStderr>, moved: Arc<AtomicU64>) -> String {
    let mut err = Vec::new();
    let Some(mut stderr) = stderr else { return String::new() };
    while let Ok(1..) = stderr.read_buf(&mut err).await {
        moved.fetch_add(1, Ordering::Relaxed);
        if err.len() > 2 * MAX_STDERR {
            err.drain(..err.len() - MAX_STDERR);
            // Without its beginning, the mark that stands there is lost, too.
            err.splice(..0, BEGIN.bytes());
        }
    }
    String::from_utf8_lossy(&err).into_owned()
}

/// Ends when nothing has moved for `limit`.
async fn silent(moved: &AtomicU64, limit: Duration) {
    loop {
        let before = moved.load(Ordering::Relaxed);
        sleep(limit).await;
        if moved.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

pub(crate) fn after_begin(text: &str) -> &str {
    text.split_once(BEGIN).map_or("", |(_, rest)| rest)
}

/// The script did not even begin: sudo, or the shell, refused.
pub(crate) fn not_begun(stderr: &str) -> Error {
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty());
    let last = last.unwrap_or("the login shell ended before the script began").trim();
    if last.contains("sudo") {
        return Error::NoPermission(format!(
            "{last}: log in as root, or let the user run sudo without a password"
        ));
    }
    Error::CommandFailed(last.to_owned())
}
