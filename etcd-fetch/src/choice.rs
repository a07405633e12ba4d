//! Which release is fetched, and why that one.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use client::{Access, Endpoint};
use etcd::{Concern, KUBERNETES, Kubernetes, Minor, Version};
use futures::future::join_all;
use pipeline::terminal::Progress;
use pipeline::{Code, Error, Run, ToolResult};

use crate::Fetch;

/// How long a member may take to say which version it runs: it is asked for
/// one small answer, and the pipe waits.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(2);

/// A release, and how it was chosen.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) version: Version,
    pub(crate) reason: Reason,
}

/// How a release was chosen; displays the end of a message.
#[derive(Clone, Copy)]
pub(crate) enum Reason {
    /// The command line or the document says it.
    Given,
    /// It goes with this version of Kubernetes.
    Kubernetes(Kubernetes),
    /// The cluster runs it.
    Running,
    /// A new cluster takes it.
    Default,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Given => Ok(()),
            Self::Kubernetes(version) => write!(f, " (for Kubernetes {version})"),
            Self::Running => write!(f, " (the version that is running)"),
            Self::Default => write!(f, " (the default: the newest {})", Minor::DEFAULT),
        }
    }
}

/// The release to fetch: that of the command line, else that of the document,
/// else the one that the cluster runs, else the default. Reports what makes the
/// choice uncertain, and refuses a release that is known to be unsafe.
pub(crate) fn choose(tool: &Fetch, run: &Run) -> Result<Choice> {
    let default = Choice { version: Version::DEFAULT, reason: Reason::Default };
    let choice = match given(tool, run)? {
        Some(choice) => choice,
        None => match running(tool, run)? {
            Some(version) => Choice { version, reason: Reason::Running },
            None if tool.no_default => {
                return Err(Error::usage(format!(
                    "no version is given, and no member says which one runs: pass one, in a \
                     Makefile as ETCD_VERSION, e.g. {}",
                    Version::DEFAULT
                ))
                .into());
            }
            None => default,
        },
    };
    consider(tool, run, choice.version)?;
    Ok(choice)
}

/// What the command line or the document says.
fn given(tool: &Fetch, run: &Run) -> Result<Option<Choice>> {
    let in_document = run.document.cluster.as_ref().and_then(|cluster| cluster.version.as_deref());
    let in_document = in_document.map(|text| {
        let wrong = |why| Error::bad_input(format!("stdin: cluster.version: {text:?}: {why}"));
        text.parse::<Version>().map_err(wrong)
    });
    let in_document = in_document.transpose()?;
    let Some(kubernetes) = tool.for_kubernetes else {
        let before = run.document.release.as_ref().filter(|release| release.by_default);
        let by_default = |version: &Version| {
            tool.release().is_none() && before.is_some_and(|r| r.version == version.to_string())
        };
        let version = tool.release().or(in_document);
        return Ok(version.map(|version| Choice {
            version,
            reason: if by_default(&version) { Reason::Default } else { Reason::Given },
        }));
    };
    let [oldest, newest] = KUBERNETES;
    let version = kubernetes.etcd().ok_or_else(|| {
        Error::usage(format!(
            "--for-kubernetes {kubernetes}: which etcd goes with it is unknown, only for \
             {oldest} to {newest}: pass the etcd version instead"
        ))
    })?;
    let other = match (tool.release(), in_document) {
        (Some(version), _) => Some((version, "the command line")),
        (None, version) => version.map(|version| (version, "cluster.version")),
    };
    match other.filter(|(other, _)| *other != version) {
        Some((other, location)) => Err(Error::usage(format!(
            "--for-kubernetes {kubernetes} takes {version}, but {location} says {other}: \
             pass one of them"
        ))
        .into()),
        None => Ok(Some(Choice { version, reason: Reason::Kubernetes(kubernetes) })),
    }
}

/// The highest version that a member of the cluster runs. None when there is
/// nothing to ask it with, as before the first deployment, or no answer.
fn running(tool: &Fetch, run: &Run) -> Result<Option<Version>> {
    let document = &run.document;
    let unknown = |why: &str| {
        if tool.no_default {
            return;
        }
        let message = format!(
            "{why}: taking the default, {}: if a cluster is running, pass its version",
            Version::DEFAULT
        );
        run.report(ToolResult::warning(Code::DefaultVersion, message));
    };
    let access = match tool.credentials.access(document, Some(MEMBER_TIMEOUT)) {
        // Without a CA the cluster has never been deployed from here.
        Ok(Access { tls: None, .. }) => return Ok(None),
        Ok(access) => access,
        // A run that was killed between the CA and the client's certificate.
        Err(error) => {
            unknown(&format!("no member could be asked: {error}"));
            return Ok(None);
        }
    };
    let mut found: Vec<Version> = Vec::new();
    let answers = ask(run, &access)?;
    for (node, text) in &answers {
        found.push(text.parse().map_err(|why| {
            Error::usage(format!("{node}: runs etcd {text:?}: {why}: pass the version to fetch"))
        })?);
    }
    found.sort_unstable();
    match (found.first(), found.last()) {
        (Some(lowest), Some(highest)) => {
            if lowest != highest {
                let message =
                    format!("members run {lowest} to {highest}: taking {highest}, the highest");
                run.report(ToolResult::warning(Code::DifferentVersions, message));
            }
            Ok(Some(*highest))
        }
        _ => {
            unknown("no member answered");
            Ok(None)
        }
    }
}

/// What the members of the document's nodes say, those that answer in time.
fn ask(run: &Run, access: &Access) -> Result<Vec<(String, String)>> {
    let nodes = &run.document.nodes;
    let endpoint = |node| Endpoint::new(&run.document.client_url(node), access);
    let endpoints = nodes.iter().map(endpoint).collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _progress = Progress::wait("asking the members for their version");
    let answers = runtime.block_on(join_all(endpoints.iter().map(Endpoint::version)));
    // A name server that does not answer must not hold up the end.
    runtime.shutdown_background();
    let names = nodes.iter().map(|node| node.name.clone());
    Ok(names.zip(answers).filter_map(|(name, answer)| Some((name, answer.ok()?))).collect())
}

/// Refuses, or warns of, what is known to be wrong with the release.
fn consider(tool: &Fetch, run: &Run, version: Version) -> Result<()> {
    let (code, message) = match version.concern() {
        None => return Ok(()),
        Some(Concern::Unsafe) if !tool.allow_unsafe_version => {
            return Err(Error::usage(format!(
                "{version}: known to corrupt data: take a newer one, or pass \
                 --allow-unsafe-version"
            ))
            .into());
        }
        Some(Concern::Unsafe) => (Code::UnsafeVersion, "known to corrupt data"),
        Some(Concern::Unsupported) => {
            (Code::UnsupportedVersion, "no longer maintained by the etcd project")
        }
        Some(Concern::OldForKubernetes) => {
            (Code::OldVersion, "too old for Kubernetes, which needs v3.5.11 or later")
        }
    };
    run.report(ToolResult::warning(code, format!("{version}: {message}")));
    Ok(())
}
