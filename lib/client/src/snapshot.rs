//! A member's snapshot, streamed over gRPC.
//!
//! The messages are those of etcd's `rpc.proto`, as far as they are used, written
//! by hand: nothing but cargo is needed to build this.

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use reqwest::Url;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Uri};
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::Error;
use crate::endpoint::{Endpoint, User};

const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// How much a member may send before it was read. etcd sends pieces of 32 KiB.
const WINDOW: u32 = 2 << 20;

/// A connection, with TLS or without.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotResponse {
    #[prost(uint64, tag = "2")]
    remaining_bytes: u64,
    #[prost(bytes = "bytes", tag = "3")]
    blob: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    password: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    token: String,
}

/// A snapshot on its way.
#[derive(Debug)]
pub struct SnapshotStream {
    stream: Streaming<SnapshotResponse>,
    /// The first piece, which was waited for before this was made.
    first: Option<Bytes>,
    database_bytes: u64,
    silence: Duration,
}

impl Endpoint {
    /// Asks the member for a snapshot of its database, quorum or not, and waits
    /// for the first piece of it. When it sends nothing for `silence`, then or
    /// later, that ends with [`Error::TimedOut`].
    ///
    /// With authentication on, only a user with the role root is given one.
    pub async fn snapshot(&self, silence: Duration) -> Result<SnapshotStream, Error> {
        // Without a route, this says why.
        self.client()?;
        let limit = self.connect_timeout.unwrap_or(silence).min(silence);
        let mut grpc = Grpc::new(within(limit, self.channel()).await?);
        match (within(silence, open(&mut grpc, None, silence)).await, &self.user) {
            (Err(error), Some(user)) if error.asks_for_user() => {
                self.can_log_in().await?;
                let token = within(silence, authenticate(&mut grpc, user)).await?;
                within(silence, open(&mut grpc, Some(&token), silence)).await
            }
            (opened, _) => opened,
        }
    }

    /// A connection for gRPC. It is made here and not by tonic, which would hide
    /// why it failed.
    async fn channel(&self) -> Result<Channel, Error> {
        let bad_url = |why: String| Error::Url { url: self.url.clone(), why };
        let url = Url::parse(&self.url).map_err(|why| bad_url(why.to_string()))?;
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let io = self.connection(host.trim_matches(['[', ']']), port).await;
        let mut io = Some(io.map_err(|error| Error::of_source(&error))?);
        let once = service_fn(move |_: Uri| {
            let io = io.take().map(TokioIo::new);
            ready(io.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
        });
        // With `https`, tonic would ask for TLS of its own.
        Channel::from_shared(format!("http://{host}:{port}"))
            .map_err(|why| bad_url(why.to_string()))?
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect_with_connector(once)
            .await
            .map_err(|error| Error::of_source(&error))
    }

    async fn connection(&self, host: &str, port: u16) -> io::Result<Box<dyn Io>> {
        let io: Box<dyn Io> = match &self.socket {
            Some(socket) => Box::new(UnixStream::connect(socket).await?),
            None => {
                let stream = TcpStream::connect((host, port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        let Some(tls) = &self.tls else { return Ok(io) };
        let mut config = tls.config(&self.presented);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, io).await?;
        Ok(Box::new(connected))
    }
}

impl SnapshotStream {
    /// How many bytes the database has: all of the snapshot but the SHA-256 at its end.
    pub fn database_bytes(&self) -> u64 {
        self.database_bytes
    }

    /// The next piece; `None` after the last one. That the stream ends does not
    /// mean that the snapshot is whole: only its SHA-256 does.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let next = timeout(self.silence, self.stream.message()).await;
        match next.map_err(|_| Error::TimedOut(self.silence))? {
            Ok(message) => Ok(message.map(|message| message.blob)),
            Err(status) => Err(Error::of_grpc(&status)),
        }
    }
}

async fn within<T>(
    limit: Duration,
    job: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit, job).await.unwrap_or(Err(Error::TimedOut(limit)))
}

async fn open(
    grpc: &mut Grpc<Channel>,
    token: Option<&str>,
    silence: Duration,
) -> Result<SnapshotStream, Error> {
    let mut request = Request::new(SnapshotRequest {});
    if let Some(token) = token {
        let token = MetadataValue::try_from(token)
            .map_err(|_| Error::Answer("a token that is not text".into()))?;
        request.metadata_mut().insert("token", token);
    }
    is_ready(grpc).await?;
    let codec = ProstCodec::default();
    let answer = grpc.server_streaming(request, PathAndQuery::from_static(SNAPSHOT), codec).await;
    let mut stream: Streaming<SnapshotResponse> =
        answer.map_err(|status| Error::of_grpc(&status))?.into_inner();
    let first = stream.message().await.map_err(|status| Error::of_grpc(&status))?;
    let first = first.ok_or_else(|| Error::Answer("an empty snapshot".into()))?;
    let database_bytes = first.remaining_bytes + first.blob.len() as u64;
    Ok(SnapshotStream { stream, first: Some(first.blob), database_bytes, silence })
}

async fn authenticate(grpc: &mut Grpc<Channel>, user: &User) -> Result<String, Error> {
    let User { name, password } = user.clone();
    is_ready(grpc).await?;
    let request = Request::new(AuthenticateRequest { name, password });
    let path = PathAndQuery::from_static(AUTHENTICATE);
    let answer = grpc.unary(request, path, ProstCodec::default()).await;
    let answer: AuthenticateResponse =
        answer.map_err(|status| Error::of_grpc(&status))?.into_inner();
    Ok(answer.token)
}

async fn is_ready(grpc: &mut Grpc<Channel>) -> Result<(), Error> {
    grpc.ready().await.map_err(|error| Error::of_source(&error))
}
