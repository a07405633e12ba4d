//! Where the endpoints, the certificates and the limits come from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{Access, Tls, User};
use pipeline::document::{Node, Pki};
use pipeline::{Error, Run};

use crate::{Health, Via};

/// The limit of a look at one endpoint, where none is given; that of etcdctl.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Endpoints, and how to speak to them.
pub(crate) struct Source {
    pub targets: Vec<Target>,
    pub access: Access,
}

/// One endpoint, and the node it belongs to when that is known.
pub(crate) struct Target {
    pub url: String,
    pub node: Option<Node>,
}

/// The endpoints of `tool`'s flags, of the document, or of the environment.
pub(crate) fn find(tool: &Health, run: &Run) -> anyhow::Result<Source> {
    let tls = certificates(tool, run)?;
    let from_list = |urls: &[String]| -> Vec<Target> {
        let with_scheme = urls.iter().map(|url| with_scheme(url.trim(), tls.is_some()));
        with_scheme.map(|url| Target { url, node: None }).collect()
    };
    let targets = if !tool.endpoints.is_empty() {
        from_list(&tool.endpoints)
    } else if !run.document.nodes.is_empty() {
        let url = |node: &&Node| run.document.client_url(node);
        let nodes = run.nodes();
        nodes.iter().map(|n| Target { url: url(n), node: Some((*n).clone()) }).collect()
    } else if let Some(list) = variable("ETCDCTL_ENDPOINTS") {
        from_list(&list.split(',').map(str::to_owned).collect::<Vec<_>>())
    } else {
        return Err(Error::no_input(
            "no endpoints: pipe a document or a node list in, or give --endpoints",
        )
        .into());
    };
    if tool.via == Via::Ssh && targets.iter().any(|target| target.node.is_none()) {
        return Err(Error::usage("--via ssh: only for the nodes of a document on stdin").into());
    }
    if tls.is_none()
        && let Some(target) = targets.iter().find(|target| target.url.starts_with("https:"))
    {
        let message =
            format!("{}: no CA certificate: give --cacert, and --cert and --key", target.url);
        return Err(Error::usage(message).into());
    }
    let timeout = tool.timeout.map_or_else(|| duration("ETCDCTL_COMMAND_TIMEOUT"), |t| Ok(Some(t)));
    let access = Access {
        tls,
        timeout: timeout?.unwrap_or(TIMEOUT),
        connect_timeout: duration("ETCDCTL_DIAL_TIMEOUT")?,
        user: user()?,
    };
    Ok(Source { targets, access })
}

/// The certificates: those of the flags; else, for a document, those that it
/// names or that are in the folder of --pki; else those of the environment.
fn certificates(tool: &Health, run: &Run) -> anyhow::Result<Option<Tls>> {
    let path = |name: &str| variable(name).map(PathBuf::from);
    let of_folder = || Some(Pki::in_folder(&tool.pki)).filter(|p| Path::new(&p.ca_cert).exists());
    let pki = match run.document.nodes.is_empty() {
        true => None,
        false => run.document.pki.clone().or_else(of_folder),
    };
    let pki = pki.as_ref();
    let ca = tool.cacert.clone();
    let ca = ca.or_else(|| pki.map(|p| (&p.ca_cert).into())).or_else(|| path("ETCDCTL_CACERT"));
    let client = tool.cert.clone().zip(tool.key.clone());
    let client = client
        .or_else(|| pki.map(|p| ((&p.client_cert).into(), (&p.client_key).into())))
        .or_else(|| path("ETCDCTL_CERT").zip(path("ETCDCTL_KEY")));
    let Some(ca) = ca else { return Ok(None) };
    let client = client.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
    Ok(Some(Tls::load(&ca, client)?))
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
        _ => Err(Error::usage(format!("{name}: {text:?}: expected a duration such as 5s"))),
    }
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
