//! Where releases come from: a folder, or a site.

use std::cell::OnceCell;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use pipeline::disk;
use pipeline::terminal::Progress;
use reqwest::Url;

use crate::pieces::pieces;
use crate::web::{Body, Web};

/// The pauses before each new try of what may pass by itself.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// What the user calls a mirror: a folder, or a URL of http, https or file.
#[derive(Debug, Clone)]
pub(crate) enum Location {
    /// On this machine.
    Folder(PathBuf),
    /// On a site.
    Site(Url),
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            return Ok(Self::Folder(text.into()));
        }
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        match url.scheme() {
            "http" | "https" => Ok(Self::Site(url)),
            "file" => url
                .to_file_path()
                .map(Self::Folder)
                .map_err(|()| "expected file:/// and an absolute path".to_string()),
            _ => Err("expected a folder, or a URL of http, https or file".into()),
        }
    }
}

/// Why a mirror did not give a file. The message begins with the file's place.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct MirrorError {
    /// What kind of reason it is.
    pub(crate) kind: Kind,
    /// One line.
    pub(crate) message: String,
}

/// The kinds of reasons why a mirror did not give a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// There is no such file.
    Missing,
    /// The mirror does not want to, or must not be trusted.
    Refused,
    /// It stopped in the middle, or never began.
    Stalled,
    /// It cannot be reached, or has trouble that may pass.
    Unreachable,
}

/// A mirror of etcd's releases: `BASE/vX.Y.Z/FILE`.
pub(crate) struct Mirror {
    location: Location,
    timeout: Duration,
    // A folder, or a full cache, must not cost the start of TLS.
    web: OnceCell<Web>,
}

/// A file of a mirror, opened.
pub(crate) struct Source<'a> {
    /// The offset in the file at which it begins: the one asked for, or 0.
    pub(crate) start: u64,
    /// The size of the whole file, where the mirror tells it.
    pub(crate) total: Option<u64>,
    content: Content<'a>,
}

enum Content<'a> {
    File(File, String),
    Body(Body<'a>),
}

impl Mirror {
    /// A mirror that is given up when it sends nothing for `timeout`.
    pub(crate) fn new(location: Location, timeout: Duration) -> Self {
        Self { location, timeout, web: OnceCell::new() }
    }

    /// Opens `file` of the release `version`, from `offset` on if the mirror can do that.
    pub(crate) fn open(
        &self,
        version: &str,
        file: &str,
        offset: u64,
    ) -> Result<Source<'_>, MirrorError> {
        match &self.location {
            Location::Folder(folder) => open_file(folder.join(version).join(file), offset),
            Location::Site(base) => {
                let url = below(base, version, file);
                let web = match self.web.get() {
                    Some(web) => web,
                    None => {
                        let web = Web::new(base, self.timeout)?;
                        self.web.get_or_init(|| web)
                    }
                };
                let body = web.get(url, offset)?;
                Ok(Source { start: body.start, total: body.total, content: Content::Body(body) })
            }
        }
    }

    /// The location of `file` of the release `version`, for people: without a password.
    pub(crate) fn location(&self, version: &str, file: &str) -> String {
        match &self.location {
            Location::Folder(folder) => folder.join(version).join(file).display().to_string(),
            Location::Site(base) => shown(&below(base, version, file)),
        }
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.location {
            Location::Folder(folder) => folder.display().fmt(f),
            Location::Site(base) => f.write_str(shown(base).trim_end_matches('/')),
        }
    }
}

/// `url` without what may be secret in it: user, password, query.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Neither fails for http and https.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.into()
}

fn below(base: &Url, version: &str, file: &str) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(version).push(file);
    }
    url
}

fn open_file(path: PathBuf, offset: u64) -> Result<Source<'static>, MirrorError> {
    let location = path.display().to_string();
    let failed = |error: io::Error| MirrorError {
        kind: match error.kind() {
            io::ErrorKind::NotFound => Kind::Missing,
            _ => Kind::Refused,
        },
        message: format!("{location}: opening: {error}"),
    };
    let mut file = disk::open(&path).map_err(failed)?;
    let total = file.metadata().map_err(failed)?.len();
    let start = if offset <= total { offset } else { 0 };
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    Ok(Source { start, total: Some(total), content: Content::File(file, location) })
}

impl Source<'_> {
    /// Gives all of the file to `sink`, piece by piece.
    pub(crate) fn copy(self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self.content {
            Content::Body(body) => body.copy(sink),
            Content::File(mut file, location) => pieces(&mut file, &location, sink),
        }
    }
}

/// What kind of trouble with the mirror `error` is; none when it is another.
pub(crate) fn kind_of(error: &anyhow::Error) -> Option<Kind> {
    error.downcast_ref::<MirrorError>().map(|error| error.kind)
}

/// Tries again, a few times and each time later, what may pass by itself.
pub(crate) fn retrying<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for pause in PAUSES {
        match attempt() {
            Err(error) if kind_of(&error) == Some(Kind::Unreachable) => {
                let _progress = Progress::wait(format!("{error:#}: trying again"));
                thread::sleep(pause);
            }
            done => return done,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_a_folder_or_a_site() {
        let location = |text: &str| {
            let location = text.parse::<Location>()?;
            Ok(Mirror::new(location, Duration::ZERO).location("v3.5.16", "SHA256SUMS"))
        };
        for (text, expected) in [
            ("mirror", Ok("mirror/v3.5.16/SHA256SUMS")),
            ("/a b", Ok("/a b/v3.5.16/SHA256SUMS")),
            ("file:///a%20b/", Ok("/a b/v3.5.16/SHA256SUMS")),
            ("https://h", Ok("https://h/v3.5.16/SHA256SUMS")),
            ("http://u:secret@h:81/x/?sig=1", Ok("http://h:81/x/v3.5.16/SHA256SUMS")),
            ("file://host/x", Err("expected file:/// and an absolute path")),
            ("ftp://h", Err("expected a folder, or a URL of http, https or file")),
            ("http://", Err("empty host")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(location(text), expected, "{text}");
        }
    }
}
