//! What goes wrong between a tool and etcd.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};

use crate::wire::Failure;

/// What went wrong between a tool and etcd; one line each, without the endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file of certificates or keys cannot be used.
    #[error("{file}: reading: {why}")]
    File {
        /// Its path.
        file: String,
        /// Why not.
        why: String,
    },
    /// Not the URL of an endpoint.
    #[error("{url:?}: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is expected.
        why: String,
    },
    /// There is nobody there: refused, no route, no such name, cut off.
    #[error("connecting: {0}")]
    Connect(String),
    /// There is no way to the endpoint, e.g. ssh does not reach its host.
    #[error("{why}")]
    Route {
        /// Why not.
        why: String,
        /// Whether that may pass: nobody was there, rather than a refusal.
        retry: bool,
    },
    /// No answer within the limit.
    #[error("no answer within {:.1} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// TLS failed, and why.
    #[error("TLS: {0}")]
    Tls(String),
    /// The member knows no leader: an election, or quorum is lost.
    #[error("no leader")]
    NoLeader,
    /// etcd's own error.
    #[error("{message}")]
    Etcd {
        /// The gRPC status code.
        code: i32,
        /// etcd's own words.
        message: String,
    },
    /// The member answers, but not its gateway.
    #[error("etcd's gateway: {0}")]
    Gateway(String),
    /// The member's gateway cannot tell who asks, and answers nothing.
    #[error(
        "with authentication on, etcd's gateway refuses client certificates with a common name: \
         use one without, and set ETCDCTL_USER and ETCDCTL_PASSWORD"
    )]
    CommonName,
    /// The user or the password is wrong.
    #[error("authentication failed: check ETCDCTL_USER and ETCDCTL_PASSWORD")]
    Login,
    /// An answer that etcd does not give.
    #[error("not an answer of etcd: {0}")]
    Answer(String),
}

/// gRPC status codes.
const PERMISSION_DENIED: i32 = 7;
const UNAVAILABLE: i32 = 14;
const UNAUTHENTICATED: i32 = 16;

impl Error {
    pub(crate) fn file(path: &Path, why: impl ToString) -> Self {
        Self::File { file: path.display().to_string(), why: why.to_string() }
    }

    pub(crate) fn pem(path: &Path, why: rustls::pki_types::pem::Error) -> Self {
        use rustls::pki_types::pem::Error as Pem;
        match why {
            Pem::NoItemsFound => Self::file(path, "no private key in it"),
            // Its other messages may quote the file.
            _ => Self::file(path, "not PEM"),
        }
    }

    /// Whether there was nobody to answer: a retry may help.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::TimedOut(_) | Self::Route { retry: true, .. })
    }

    /// Whether etcd wants to know who asks: no user was named, or its token is
    /// not known (any more). 3.5 gives some of it no code of its own.
    pub(crate) fn asks_for_user(&self) -> bool {
        match self {
            Self::Etcd { code: UNAUTHENTICATED, .. } => true,
            Self::Etcd { message, .. } => {
                message.ends_with("user name is empty")
                    || message.ends_with("revision of auth store is old")
                    // The common name of the client certificate was taken for one.
                    || message.ends_with("user name not found")
            }
            _ => false,
        }
    }

    /// Whether etcd refuses because of who asks. It checks that only after the
    /// work of a linearizable read: like `etcdctl endpoint health`, take the
    /// member for healthy.
    pub(crate) fn is_denied(&self) -> bool {
        let permission_denied = match self {
            Self::Etcd { code, message } => {
                *code == PERMISSION_DENIED || message.ends_with("permission denied")
            }
            _ => false,
        };
        permission_denied || self.asks_for_user()
    }

    /// Whether asking again as the same user is of no use.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::CommonName | Self::Login) || self.is_denied()
    }

    /// What to do about an answer that authentication prevents.
    pub fn advice(&self) -> &'static str {
        if self.asks_for_user() {
            ": authentication is on: set ETCDCTL_USER and ETCDCTL_PASSWORD"
        } else if self.is_denied() {
            ": set ETCDCTL_USER to a user who may do that, e.g. root"
        } else {
            ""
        }
    }

    /// What the answer `text` with the HTTP status `status`, which is not
    /// success, means. The status differs between versions of etcd, so the code
    /// in the answer counts.
    pub(crate) fn of_answer(status: u16, text: &str) -> Self {
        if text.starts_with("CommonName of client") {
            return Self::CommonName;
        }
        let failure: Failure = serde_json::from_str(text).unwrap_or_default();
        let messages = [failure.message, failure.error, failure.reason].map(|m| first_line(&m));
        match messages.into_iter().find(|text| !text.is_empty()) {
            // The gateway is a client of its own server, with the server's certificate.
            Some(why) if failure.code == UNAVAILABLE && why.starts_with("connection ") => {
                Self::Gateway(format!(
                    "it cannot reach its own server: if that stays so, the server's certificate \
                     lacks clientAuth ({why})"
                ))
            }
            Some(why) if why == "RAFT NO LEADER" => Self::NoLeader,
            Some(why) if why.contains("authentication failed, invalid user") => Self::Login,
            Some(message) => Self::Etcd { code: failure.code, message },
            None => {
                let off = if status == 404 { " (is enable-grpc-gateway off there?)" } else { "" };
                let text = format!("HTTP {status} {}{off}", first_line(text));
                Self::Answer(text.trim_end().into())
            }
        }
    }

    /// What a gRPC status that is not success means: etcd's own, or one that
    /// stands for the end of the connection.
    pub(crate) fn of_grpc(status: &tonic::Status) -> Self {
        match std::error::Error::source(status) {
            Some(source) => match cause(source) {
                Cause::Tls(error) => Self::Tls(tls_reason(error)),
                _ => Self::Connect("the member closed the connection".into()),
            },
            None => Self::Etcd { code: status.code() as i32, message: status.message().to_owned() },
        }
    }

    /// What `error` of a request with the limit `limit` means.
    pub(crate) fn of_request(error: &reqwest::Error, limit: Duration) -> Self {
        if error.is_timeout() {
            return Self::TimedOut(limit);
        }
        Self::of_source(error)
    }

    /// What `error` of a connection means: its innermost cause.
    pub(crate) fn of_source(error: &(dyn std::error::Error + 'static)) -> Self {
        match cause(error) {
            Cause::Tls(error) => Self::Tls(tls_reason(error)),
            Cause::Io(error) => Self::Connect(plain(error)),
            Cause::Other(error) => Self::Connect(match error.to_string() {
                // So an etcd without TLS ends the handshake, and a proxy without a member behind it.
                said if said == "tls handshake eof" => {
                    "it ended the TLS handshake without a word: does it speak TLS?".into()
                }
                said => said,
            }),
        }
    }
}

/// The kind of the system's error that is behind `error`, if one is.
pub(crate) fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    match cause(error) {
        Cause::Io(error) => Some(error.kind()),
        _ => None,
    }
}

enum Cause<'a> {
    Tls(&'a rustls::Error),
    Io(&'a io::Error),
    Other(&'a (dyn std::error::Error + 'static)),
}

/// The innermost cause. What an I/O error wraps is not its `source`, and the
/// layers of HTTP and TLS wrap more than once.
fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Cause<'a> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Cause::Tls(error);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return error.get_ref().map_or(Cause::Io(error), |inner| cause(inner));
    }
    error.source().map_or(Cause::Other(error), cause)
}

/// The first line of what a server sent, of a length that a person reads.
fn first_line(text: &str) -> String {
    let line: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
    line.trim().into()
}

/// An error of the system without its number.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

fn tls_reason(error: &rustls::Error) -> String {
    use rustls::Error as Tls;
    match error {
        // A bad signature is what another CA of the same name gives.
        Tls::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "the server's certificate is not signed by the given CA".into(),
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate does not name this address".into(),
        Tls::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the server's certificate has expired".into(),
        Tls::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the server's certificate is not valid yet: compare the clocks".into(),
        Tls::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a client certificate: pass --cert and --key".into()
        }
        // So etcd ends the handshake where it cannot read its own.
        Tls::AlertReceived(AlertDescription::InternalError) => {
            "the server cannot use its own certificate or key: run etcd-push".into()
        }
        Tls::AlertReceived(alert) => {
            format!("the server refuses the client certificate ({alert:?})")
        }
        Tls::General(why) => why.clone(),
        Tls::InvalidMessage(_) => "the server does not speak TLS".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etcd(code: i32, message: &str) -> Error {
        Error::Etcd { code, message: message.into() }
    }

    #[test]
    fn answers_of_every_version() {
        let empty = "etcdserver: user name is empty";
        let cases = [
            (
                400,
                r#"{"error":"etcdserver: user name is empty","message":"etcdserver: user name is empty","code":3}"#,
                etcd(3, empty),
            ),
            (400, r#"{"code":3,"message":"etcdserver: user name is empty"}"#, etcd(3, empty)),
            (400, r#"{"error":"etcdserver: user name is empty","code":3}"#, etcd(3, empty)),
            (503, r#"{"health":"false","reason":"RAFT NO LEADER"}"#, Error::NoLeader),
            (503, r#"{"health":"false"}"#, Error::Answer(r#"HTTP 503 {"health":"false"}"#.into())),
            (
                404,
                "404 page not found\n",
                Error::Answer(
                    "HTTP 404 404 page not found (is enable-grpc-gateway off there?)".into(),
                ),
            ),
            (502, "", Error::Answer("HTTP 502".into())),
            (
                503,
                r#"{"code":14, "message":"connection closed"}"#,
                Error::Gateway(
                    "it cannot reach its own server: if that stays so, the server's certificate \
                     lacks clientAuth (connection closed)"
                        .into(),
                ),
            ),
        ];
        for (status, text, expected) in cases {
            assert_eq!(Error::of_answer(status, text), expected, "{text}");
        }
    }

    #[test]
    fn who_asks_does_not_make_a_member_unhealthy() {
        assert!(etcd(3, "etcdserver: user name is empty").is_denied());
        assert!(etcd(2, "auth: user name is empty").asks_for_user());
        assert!(etcd(3, "etcdserver: revision of auth store is old").asks_for_user());
        assert!(etcd(7, "etcdserver: permission denied").is_denied());
        assert!(etcd(2, "auth: permission denied").is_denied());
        assert!(etcd(16, "etcdserver: invalid auth token").is_denied());
        let wrong = "etcdserver: authentication failed, invalid user ID or password";
        assert!(!etcd(3, wrong).is_denied());
        assert!(!etcd(14, "etcdserver: request timed out").is_denied());
    }
}
