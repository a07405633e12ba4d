//! Where etcd is, and who asks: flags, the document, and the variables of etcdctl.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipeline::document::{Node, Pki};
use pipeline::{Document, Error, Exit};

use crate::{Access, Tls, Trust, User};

/// etcdctl's own variable for not verifying servers' certificates.
const SKIP_VERIFY: &str = "ETCDCTL_INSECURE_SKIP_TLS_VERIFY";

/// The endpoints where there is no document; the second is etcdctl's own.
const ENDPOINTS: [&str; 2] = ["ETCD_TOOLS_ENDPOINTS", "ETCDCTL_ENDPOINTS"];

/// The folder of the certificates, where no other is chosen.
const PKI: &str = "pki";

/// The limit for one endpoint, where none is given; that of etcdctl.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The flags of a tool that takes endpoints, or works on those of the document's nodes.
#[derive(Debug, Clone, clap::Args)]
pub struct EndpointArgs {
    /// Use these endpoints instead of the document's nodes, and do not read stdin
    ///
    /// URLs, separated by commas, e.g. https://192.168.1.100:2379.
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',',
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub endpoints: Vec<String>,
    /// Where the credentials come from.
    #[command(flatten)]
    pub credentials: CredentialArgs,
    /// Whether the servers' certificates are not verified at all; else they are, unless
    /// `ETCDCTL_INSECURE_SKIP_TLS_VERIFY` says so in the place of `ETCDCTL_CACERT`.
    #[arg(skip)]
    pub unverified: bool,
}

/// The flags of every tool that speaks to etcd: the certificates.
///
/// The user of a cluster with authentication has no flag: `ETCDCTL_USER` and
/// `ETCDCTL_PASSWORD` are read, as etcdctl does.
#[derive(Debug, Clone, clap::Args)]
pub struct CredentialArgs {
    /// The CA certificate that signed the endpoints' certificates
    #[arg(long, global = true, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// The client certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// The private key of the client certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The folder of the certificates, unless the document names them
    #[arg(long, global = true, value_name = "DIR", default_value = PKI)]
    pub pki: String,
}

/// Endpoints, and how to speak to them.
#[derive(Debug, Clone)]
pub struct Targets {
    /// The endpoints, in the order of the flags or of the document.
    pub endpoints: Vec<Target>,
    /// How to speak to them.
    pub access: Access,
}

/// One endpoint, and the node it belongs to when that is known.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its URL.
    pub url: String,
    /// Its node in the document.
    pub node: Option<Node>,
}

impl EndpointArgs {
    /// The endpoints to work on: those of `--endpoints`; else those of `nodes`,
    /// which are nodes of `document`; else, where the document has none, those of
    /// `ETCD_TOOLS_ENDPOINTS` or `ETCDCTL_ENDPOINTS`. Each may take `timeout`; `None` is
    /// the limit of `ETCDCTL_COMMAND_TIMEOUT`, else 5 s.
    ///
    /// Where no CA certificate is given, `https` trusts the CA in the folder of `--pki`; where
    /// there is none, the CAs that this machine trusts. An endpoint given twice counts once.
    ///
    /// Fails where there are none, and on files and variables that cannot be used.
    pub fn resolve(
        &self,
        document: &Document,
        nodes: &[&Node],
        timeout: Option<Duration>,
    ) -> Result<Targets, Error> {
        let files = self.credentials.files(document)?;
        let skip = self.unverified || (files.ca.is_none() && flag(SKIP_VERIFY));
        let mut access = self.credentials.access(document, timeout)?;
        if skip {
            access.tls = Some(files.load(Trust::Anyone)?);
        }
        let listed = |urls: &[String]| -> Vec<Target> {
            let mut seen = BTreeSet::new();
            let has_tls = access.tls.is_some() || self.credentials.in_folder().is_some();
            let with_scheme = urls.iter().map(|url| with_scheme(url.trim(), has_tls));
            let new = with_scheme.filter(|url| seen.insert(url.trim_end_matches('/').to_owned()));
            new.map(|url| Target { url, node: None }).collect()
        };
        let endpoints = if !self.endpoints.is_empty() {
            listed(&self.endpoints)
        } else if !document.nodes.is_empty() {
            let target = |node: &&Node| Target {
                url: document.client_url(node),
                node: Some((*node).clone()),
            };
            nodes.iter().map(target).collect()
        } else if let Some(list) = ENDPOINTS.into_iter().find_map(variable) {
            listed(&list.split(',').map(str::to_owned).collect::<Vec<_>>())
        } else {
            return Err(Error::no_input(
                "no endpoints: pipe in a document or a node list, or pass --endpoints",
            ));
        };
        if access.tls.is_none() && endpoints.iter().any(|target| target.url.starts_with("https:")) {
            access.tls = Some(match self.credentials.in_folder() {
                Some(pki) => {
                    let ca = Path::new(&pki.ca_cert);
                    let client = files.client.or_else(|| Some(client_of(&pki)));
                    Files { ca: None, client }.load(Trust::Ca(ca))?
                }
                // One that was chosen is not left for those that everybody trusts.
                None if self.credentials.pki != PKI => {
                    let what = format!("--pki: {}/ca.crt: no such file", self.credentials.pki);
                    return Err(Error::usage(what));
                }
                None => files.load(Trust::System)?,
            });
        }
        Ok(Targets { endpoints, access })
    }
}

impl CredentialArgs {
    /// How the endpoints of `document` are spoken to, each within `timeout`;
    /// `None` is the limit of `ETCDCTL_COMMAND_TIMEOUT`, else 5 s.
    ///
    /// The certificates are those of the flags; else, for a document, those that
    /// it names or that are in the folder of `--pki`; else those of a `--pki` that was chosen;
    /// else those of `ETCDCTL_CACERT`, `ETCDCTL_CERT` and `ETCDCTL_KEY`. The user is
    /// `ETCDCTL_USER`. Without a CA certificate there is no TLS.
    pub fn access(&self, document: &Document, timeout: Option<Duration>) -> Result<Access, Error> {
        let timeout = timeout.map_or_else(|| duration("ETCDCTL_COMMAND_TIMEOUT"), |t| Ok(Some(t)));
        Ok(Access {
            tls: self.tls(document)?,
            timeout: timeout?.unwrap_or(TIMEOUT),
            connect_timeout: duration("ETCDCTL_DIAL_TIMEOUT")?,
            user: user()?,
        })
    }

    /// The CA certificate that [`access`](Self::access) trusts.
    pub fn ca(&self, document: &Document) -> Option<PathBuf> {
        let of_pki = || self.pki_of(document).map(|pki| pki.ca_cert.into());
        let of_variable = || variable("ETCDCTL_CACERT").map(PathBuf::from);
        self.cacert.clone().or_else(of_pki).or_else(of_variable)
    }

    fn pki_of(&self, document: &Document) -> Option<Pki> {
        match document.nodes.is_empty() {
            // One that was chosen goes before what etcdctl's variables say.
            true => self.in_folder().filter(|_| self.pki != PKI),
            false => document.pki.clone().or_else(|| self.in_folder()),
        }
    }

    /// The files in the folder of `--pki`, if it holds a CA.
    fn in_folder(&self) -> Option<Pki> {
        Some(Pki::in_folder(&self.pki)).filter(|pki| Path::new(&pki.ca_cert).exists())
    }

    fn tls(&self, document: &Document) -> Result<Option<Tls>, Error> {
        let files = self.files(document)?;
        files.ca.as_deref().map(|ca| files.load(Trust::Ca(ca))).transpose()
    }

    fn files(&self, document: &Document) -> Result<Files, Error> {
        let variable = |name: &str| variable(name).map(PathBuf::from);
        let pki = self.pki_of(document);
        let client = pair(("--cert", self.cert.clone()), ("--key", self.key.clone()))?;
        let client = client.or_else(|| pki.as_ref().map(client_of));
        let client: Option<(PathBuf, PathBuf)> = match client {
            Some(client) => Some(client),
            None => pair(
                ("ETCDCTL_CERT", variable("ETCDCTL_CERT")),
                ("ETCDCTL_KEY", variable("ETCDCTL_KEY")),
            )?,
        };
        Ok(Files { ca: self.ca(document), client })
    }
}

/// The client's certificate and its key.
fn client_of(pki: &Pki) -> (PathBuf, PathBuf) {
    ((&pki.client_cert).into(), (&pki.client_key).into())
}

/// The files of certificates and keys.
struct Files {
    ca: Option<PathBuf>,
    /// The client's certificate and its key.
    client: Option<(PathBuf, PathBuf)>,
}

impl Files {
    fn load(&self, trust: Trust) -> Result<Tls, Error> {
        let client = self.client.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        let failed = |error: crate::Error| Error { exit: Exit::Failed, message: error.to_string() };
        Tls::load(trust, client).map_err(failed)
    }
}

/// A certificate and its key: both, or neither.
fn pair(
    (cert_name, cert): (&str, Option<PathBuf>),
    (key_name, key): (&str, Option<PathBuf>),
) -> Result<Option<(PathBuf, PathBuf)>, Error> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Error::usage(format!("{cert_name}: no key: set {key_name} too"))),
        (None, Some(_)) => {
            Err(Error::usage(format!("{key_name}: no certificate: set {cert_name} too")))
        }
    }
}

/// The user, as etcdctl takes it: `NAME:PASSWORD`, or `NAME` with the password
/// in a variable of its own.
fn user() -> Result<Option<User>, Error> {
    let Some(user) = variable("ETCDCTL_USER") else { return Ok(None) };
    if let Some(password) = variable("ETCDCTL_PASSWORD") {
        return Ok(Some(User { name: user, password }));
    }
    match user.split_once(':') {
        Some((name, password)) => Ok(Some(User { name: name.into(), password: password.into() })),
        None => Err(Error::usage("ETCDCTL_USER: no password: set ETCDCTL_PASSWORD too")),
    }
}

fn duration(name: &str) -> Result<Option<Duration>, Error> {
    let Some(text) = variable(name) else { return Ok(None) };
    match humantime::parse_duration(&text) {
        Ok(duration) if !duration.is_zero() => Ok(Some(duration)),
        _ => Err(Error::usage(format!("{name}: {text:?}: expected a duration, e.g. 5s"))),
    }
}

/// Whether an environment variable says yes, in one of the forms that etcdctl takes.
fn flag(name: &str) -> bool {
    variable(name).is_some_and(|value| ["1", "t", "true"].contains(&&*value.to_lowercase()))
}

/// The value of an environment variable; empty counts as not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// An endpoint may be given as `HOST:PORT`, as to etcdctl.
fn with_scheme(endpoint: &str, tls: bool) -> String {
    match (endpoint.contains("://"), tls) {
        (true, _) => endpoint.into(),
        (false, true) => format!("https://{endpoint}"),
        (false, false) => format!("http://{endpoint}"),
    }
}
