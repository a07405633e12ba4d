//! Files over HTTP.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use anyhow::Result;
use pipeline::terminal;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::runtime::Runtime;

use crate::mirror::{Kind, MirrorError, shown};

/// A client for one site, with the proxies of the environment.
pub(crate) struct Web {
    runtime: Runtime,
    client: Client,
    timeout: Duration,
}

/// The answer to a request.
pub(crate) struct Body<'a> {
    /// The offset in the file at which it begins.
    pub(crate) start: u64,
    /// The size of the whole file, where the server tells it.
    pub(crate) total: Option<u64>,
    web: &'a Web,
    response: Response,
    location: String,
}

impl Web {
    /// A client for the site `base`. One of https is never left for http.
    pub(crate) fn new(base: &Url, timeout: Duration) -> Result<Self, MirrorError> {
        let failed = |why: String| MirrorError {
            kind: Kind::Refused,
            message: format!("{}: preparing the connection: {why}", shown(base)),
        };
        // An error only says that there is a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let client = Client::builder()
            .user_agent(concat!("etcd-fetch/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeout)
            .read_timeout(timeout)
            .https_only(base.scheme() == "https")
            .build()
            .map_err(|error| failed(root(&error).to_string()))?;
        Ok(Self { runtime, client, timeout })
    }

    /// Asks for `url` from `offset` on; a server that cannot do that gives all of it.
    pub(crate) fn get(&self, url: Url, offset: u64) -> Result<Body<'_>, MirrorError> {
        let location = shown(&url);
        let mut request = self.client.get(url.clone());
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        // The timers of a request must be made inside of the runtime.
        let start = Instant::now();
        let sent = self.runtime.block_on(async { request.send().await });
        let outcome = sent.as_ref().map_or("no answer".into(), |sent| sent.status().to_string());
        terminal::trace(format_args!("GET {location}: {outcome}"), start.elapsed());
        let response = sent.map_err(|error| self.failed(&location, &error))?;
        let (start, total) = match response.status() {
            StatusCode::OK => (0, response.content_length()),
            StatusCode::PARTIAL_CONTENT if offset > 0 && starts_at(&response, offset) => {
                (offset, response.content_length().map(|rest| offset + rest))
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
                return self.get(url, 0);
            }
            status => return Err(refused(&location, status)),
        };
        Ok(Body { start, total, web: self, response, location })
    }

    fn failed(&self, location: &str, error: &reqwest::Error) -> MirrorError {
        let doing = if error.is_connect() { "connecting" } else { "downloading" };
        let root = root(error);
        if error.is_timeout() {
            let seconds = self.timeout.as_secs();
            return MirrorError {
                kind: Kind::Stalled,
                message: format!(
                    "{location}: {doing}: no data for {seconds} s: run again to resume"
                ),
            };
        }
        let lasting = error.is_redirect() || error.is_builder() || root.is::<rustls::Error>();
        MirrorError {
            kind: if lasting { Kind::Refused } else { Kind::Unreachable },
            message: format!("{location}: {doing}: {root}"),
        }
    }
}

fn refused(location: &str, status: StatusCode) -> MirrorError {
    let kind = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Kind::Missing,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Kind::Unreachable,
        _ if status.is_server_error() => Kind::Unreachable,
        _ => Kind::Refused,
    };
    MirrorError { kind, message: format!("{location}: downloading: {status}") }
}

/// Whether a partial answer says that it begins at `offset`.
fn starts_at(response: &Response, offset: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}

/// The first cause of `error`: what reqwest puts around it says no more.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source()) {
        Some(cause) => root(cause),
        None => error,
    }
}

impl Body<'_> {
    /// Gives all of it to `sink`, piece by piece.
    pub(crate) fn copy(mut self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let next = |response: &mut Response| {
            let chunk = self.web.runtime.block_on(response.chunk());
            chunk.map_err(|error| self.web.failed(&self.location, &error))
        };
        while let Some(bytes) = next(&mut self.response)? {
            sink(&bytes)?;
        }
        Ok(())
    }
}
