//! One client URL of one member, and the single requests to it.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use etcd::Minor;
use pipeline::document::Member;
use pipeline::terminal;
use reqwest::{Client, RequestBuilder, Url, redirect};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::tls::{Presented, Tls};
use crate::wire::{
    DataHash, HashAnswer, MembersAnswer, Nothing, Status, StatusAnswer, Token, VersionAnswer,
};
use crate::{Error, error, members};

/// The most that an answer may hold; a member list of hundreds is far below.
const ANSWER_BYTES: usize = 4 << 20;

/// The limit of [`Endpoint::data_hash`], for which a member reads all of its data:
/// 8 GiB, the most that etcd recommends, at less than a common disk's speed.
const HASH_TIMEOUT: Duration = Duration::from_secs(60);

/// How endpoints are spoken to; the same for all of a cluster.
#[derive(Debug, Clone)]
pub struct Access {
    /// What `https` endpoints need.
    pub tls: Option<Tls>,
    /// The limit of one request, and of one whole probe of an endpoint.
    pub timeout: Duration,
    /// The limit of making a connection, where that is shorter.
    pub connect_timeout: Option<Duration>,
    /// The user, for clusters with authentication.
    pub user: Option<User>,
}

/// A user of etcd's own authentication.
#[derive(Clone)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "User({})", self.name)
    }
}

/// What to do about etcd's own downgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downgrade {
    /// Only ask whether it may be enabled.
    Validate,
    /// Begin: all members bring their data to the lower minor version.
    Enable,
    /// Take it back.
    Cancel,
}

/// One client URL of one member. Keeps its connection between requests, and
/// shares it with its clones.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub(crate) url: String,
    pub(crate) node: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) tls: Option<Tls>,
    pub(crate) presented: Presented,
    pub(crate) socket: Option<PathBuf>,
    pub(crate) user: Option<User>,
    client: Result<Client, Error>,
    token: Arc<Mutex<Option<String>>>,
}

impl Endpoint {
    /// The endpoint `url`, e.g. `https://192.168.1.100:2379`.
    ///
    /// Nothing is sent yet. Fails on what is no such URL, and on `https` without
    /// [`Access::tls`].
    pub fn new(url: &str, access: &Access) -> Result<Self, Error> {
        Self::build(url, None, access)
    }

    /// The endpoint `url`, reached through the unix socket `socket`, a port that
    /// ssh forwards; the server's certificate must still name the host of `url`.
    pub fn over_unix_socket(url: &str, socket: &Path, access: &Access) -> Result<Self, Error> {
        Self::build(url, Some(socket), access)
    }

    /// The endpoint `url`, to which there is no way: every request to it fails with `why`.
    pub fn without_route(url: &str, why: Error) -> Self {
        Self {
            url: url.into(),
            node: None,
            timeout: Duration::ZERO,
            connect_timeout: None,
            tls: None,
            presented: Presented::default(),
            socket: None,
            user: None,
            client: Err(why),
            token: Arc::default(),
        }
    }

    /// The same endpoint, known as that of the node `name`.
    #[must_use]
    pub fn of_node(mut self, name: &str) -> Self {
        self.node = Some(name.into());
        self
    }

    /// The URL that it was made with, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn has_route(&self) -> bool {
        self.client.is_ok()
    }

    fn build(url: &str, socket: Option<&Path>, access: &Access) -> Result<Self, Error> {
        let url = url.trim_end_matches('/');
        let tls = match (scheme(url)?, &access.tls) {
            ("https", Some(tls)) => Some(tls.clone()),
            ("https", None) => {
                return Err(Error::Url {
                    url: url.into(),
                    why: "no CA certificate is given: run this in the folder that holds pki, or pass \
                          --pki or --cacert"
                        .into(),
                });
            }
            _ => None,
        };
        let presented = Presented::default();
        let backend = match &tls {
            Some(tls) => tls.config(&presented),
            None => Tls::none()?,
        };
        let mut builder = Client::builder()
            .tls_backend_preconfigured(backend)
            .http1_only()
            .no_proxy()
            .redirect(redirect::Policy::none());
        if let Some(limit) = access.connect_timeout {
            builder = builder.connect_timeout(limit);
        }
        if let Some(socket) = socket {
            builder = builder.unix_socket(socket);
        }
        Ok(Self {
            url: url.into(),
            node: None,
            timeout: access.timeout,
            connect_timeout: access.connect_timeout,
            tls,
            presented,
            socket: socket.map(Path::to_owned),
            user: access.user.clone(),
            client: Ok(builder.build().map_err(|error| Error::Tls(error.to_string()))?),
            token: Arc::default(),
        })
    }

    /// A linearizable read, which needs quorum. That the user may not read the
    /// key is as good: etcd asks that only after the read.
    pub async fn health(&self) -> Result<(), Error> {
        self.read(json!({ "key": BASE64_STANDARD.encode("health") })).await
    }

    /// A read of what the member itself has, which is all that a learner serves.
    pub(crate) async fn health_of_learner(&self) -> Result<(), Error> {
        let key = BASE64_STANDARD.encode("health");
        self.read(json!({ "key": key, "serializable": true })).await
    }

    async fn read(&self, range: Value) -> Result<(), Error> {
        match self.call::<Nothing>("/v3/kv/range", range).await {
            Err(error) if error.is_denied() => Ok(()),
            read => read.map(drop),
        }
    }

    /// A linearizable read that the member does by itself on a request
    /// outside of the gateway; all that is left where that refuses.
    pub(crate) async fn plain_health(&self) -> Result<(), Error> {
        let request = self.client()?.get(format!("{}/health", self.url));
        self.send::<Nothing>(request, self.timeout).await.map(drop)
    }

    /// The version of etcd that the member runs, e.g. `3.5.16`; needs neither
    /// quorum nor, with authentication, a user.
    pub async fn version(&self) -> Result<String, Error> {
        let request = self.client()?.get(format!("{}/version", self.url));
        Ok(self.send::<VersionAnswer>(request, self.timeout).await?.etcdserver)
    }

    /// The version of the cluster, e.g. `3.5.0`: some seconds after the last of the members
    /// was upgraded it is that of the lowest.
    pub async fn cluster_version(&self) -> Result<String, Error> {
        let request = self.client()?.get(format!("{}/version", self.url));
        Ok(self.send::<VersionAnswer>(request, self.timeout).await?.etcdcluster)
    }

    /// What the member reports of itself, quorum or not.
    pub async fn status(&self) -> Result<Status, Error> {
        self.call::<StatusAnswer>("/v3/maintenance/status", json!({})).await.map(Status::from)
    }

    /// The members of the cluster as this one knows them, quorum or not, by name.
    ///
    /// A learner refuses to tell.
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        // Without `linearizable`, which 3.5 has brought, the list needs no quorum.
        self.call::<MembersAnswer>("/v3/cluster/member/list", json!({})).await.map(Vec::from)
    }

    /// The hash of the member's keys and values up to `revision`, for which it
    /// reads all of them; within a minute, whatever [`Access::timeout`] is.
    ///
    /// Needs etcd 3.5.10, and with authentication on, the root user.
    pub async fn data_hash(&self, revision: u64) -> Result<DataHash, Error> {
        let body = json!({ "revision": revision.to_string() });
        let answer = self.call_within::<HashAnswer>("/v3/maintenance/hashkv", body, HASH_TIMEOUT);
        answer.await.map(DataHash::from)
    }

    /// Whether the user may do what etcd leaves to the role `root`. Without authentication anybody
    /// may.
    pub async fn is_root(&self) -> Result<bool, Error> {
        match self.call::<Nothing>("/v3/auth/user/list", json!({})).await {
            Ok(_) => Ok(true),
            Err(Error::Etcd { message, .. }) if message.contains("permission denied") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has the member, which must be the leader, transfer leadership to the member
    /// with the ID `target` (hex), and returns when that has happened.
    pub async fn move_leader(&self, target: &str) -> Result<(), Error> {
        let body = json!({ "targetID": members::number(target)? });
        self.call::<Nothing>("/v3/maintenance/transfer-leadership", body).await.map(drop)
    }

    /// Has the cluster do what `action` says of etcd's own downgrade to `minor` (`None` for
    /// [`Downgrade::Cancel`], which needs none). From 3.6 on.
    pub async fn downgrade(&self, action: Downgrade, minor: Option<Minor>) -> Result<(), Error> {
        let action = match action {
            Downgrade::Validate => "VALIDATE",
            Downgrade::Enable => "ENABLE",
            Downgrade::Cancel => "CANCEL",
        };
        let version = minor.map(|minor| minor.to_string()).unwrap_or_default();
        let body = json!({ "action": action, "version": version });
        self.call::<Nothing>("/v3/maintenance/downgrade", body).await.map(drop)
    }

    /// Whether this is a member of 3.5 whose cluster is being downgraded to its version. Its
    /// status does not tell, as that of 3.6 does, but it refuses to think of another downgrade
    /// (`downgradeValidate` in etcd's server/etcdserver/v3_server.go).
    pub async fn is_downgraded_to_3_5(&self) -> Result<bool, Error> {
        match self.downgrade(Downgrade::Validate, Some(Minor::V3_4)).await {
            Err(Error::Etcd { message, .. }) => {
                Ok(message.contains("has a downgrade job in progress"))
            }
            answer => answer.map(|()| false),
        }
    }

    /// Whether the member has a connection to each of its peers, by their IDs (hex), so that
    /// it can send to them: the metric `etcd_network_active_peers`. Empty where it does not tell.
    pub async fn connections(&self) -> Result<HashMap<String, bool>, Error> {
        let request = self.client()?.get(format!("{}/metrics", self.url));
        let text = self.fetch(request, self.timeout).await?;
        let peer = |line: &str| {
            let of_peer = line.strip_prefix("etcd_network_active_peers{")?;
            let (_, remote) = of_peer.split_once("Remote=\"")?;
            Some((remote.split_once('"')?.0.to_owned(), !line.ends_with(" 0")))
        };
        Ok(String::from_utf8_lossy(&text).lines().filter_map(peer).collect())
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Value,
    ) -> Result<T, Error> {
        self.call_within(path, body, self.timeout).await
    }

    /// One request, repeated with a token when etcd asks who it is from.
    async fn call_within<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Value,
        limit: Duration,
    ) -> Result<T, Error> {
        let token = self.token.lock().unwrap_or_else(|e| e.into_inner()).clone();
        match (self.post(path, &body, token.as_deref(), limit).await, &self.user) {
            (Err(error), Some(user)) if error.asks_for_user() => {
                let token = self.authenticate(user).await?;
                let answer = self.post(path, &body, Some(&token), limit).await;
                *self.token.lock().unwrap_or_else(|e| e.into_inner()) = Some(token);
                answer
            }
            (answer, _) => answer,
        }
    }

    /// Fails without a leader: to log in is a proposal, which would only wait for one.
    pub(crate) async fn can_log_in(&self) -> Result<(), Error> {
        match self.plain_health().await {
            Err(error @ Error::NoLeader) => Err(error),
            _ => Ok(()),
        }
    }

    async fn authenticate(&self, user: &User) -> Result<String, Error> {
        self.can_log_in().await?;
        let body = json!({ "name": user.name, "password": user.password });
        let answer: Token = self.post("/v3/auth/authenticate", &body, None, self.timeout).await?;
        Ok(answer.token)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        token: Option<&str>,
        limit: Duration,
    ) -> Result<T, Error> {
        let mut request = self.client()?.post(format!("{}{path}", self.url)).json(body);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        self.send(request, limit).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<T, Error> {
        let bytes = self.fetch(request, limit).await?;
        serde_json::from_slice(&bytes).map_err(|why| Error::Answer(why.to_string()))
    }

    async fn fetch(&self, request: RequestBuilder, limit: Duration) -> Result<Vec<u8>, Error> {
        let failed = |error| match Error::of_request(&error, limit) {
            // How ssh says so depends on how much was sent before.
            Error::Connect(_) if self.socket.is_some() && is_cut_off(&error) => {
                Error::Connect(format!("nothing is listening on port {}", port(&self.url)))
            }
            Error::Connect(why)
                if self.tls.is_none() && why.contains("before message completed") =>
            {
                let why =
                    "it closed the connection: where it serves TLS, its URL begins with https";
                Error::Connect(why.into())
            }
            failed => failed,
        };
        let (client, request) = request.timeout(limit).build_split();
        let request = request.map_err(failed)?;
        let what = format!("{} {}", request.method(), request.url());
        let start = Instant::now();
        let answered = client.execute(request).await;
        let outcome = answered.as_ref().map_or("no answer".into(), |r| r.status().to_string());
        terminal::trace(format_args!("{what}: {outcome}"), start.elapsed());
        let mut response = answered.map_err(failed)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_BYTES {
                return Err(Error::Answer(format!("more than {ANSWER_BYTES} bytes")));
            }
        }
        if response.status().is_success() {
            return Ok(bytes);
        }
        Err(Error::of_answer(response.status().as_u16(), &String::from_utf8_lossy(&bytes)))
    }

    pub(crate) fn client(&self) -> Result<&Client, Error> {
        self.client.as_ref().map_err(Error::clone)
    }
}

/// Whether a connection was made and closed again before a request was sent.
fn is_cut_off(error: &reqwest::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    error.is_connect()
        && error::io_kind(error)
            .is_some_and(|kind| [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&kind))
}

fn port(url: &str) -> &str {
    url.rsplit(':').next().unwrap_or_default()
}

fn scheme(url: &str) -> Result<&'static str, Error> {
    let parsed = Url::parse(url).ok();
    let plain = parsed.filter(|u| u.path() == "/" && u.query().is_none() && u.username() == "");
    match plain.as_ref().map(Url::scheme) {
        Some("https") => Ok("https"),
        Some("http") => Ok("http"),
        _ => Err(Error::Url { url: url.into(), why: "expected https://HOST:PORT".into() }),
    }
}
