//! `list`: who the members are.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use client::{EndpointArgs, is_of};
use cluster::route::{Route, Via};
use etcd::url::parts;
use pipeline::document::{Endpoint, Health, Member};
use pipeline::{
    Code, Document, Error, IN_WORDS, NODE_NAME, Run, ToolResult, is_node_name, terminal,
};
use remote::Fleet;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Use these endpoints instead of the document's nodes, and do not read stdin
    ///
    /// URLs, separated by commas, e.g. https://192.168.1.100:2379.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// What to write to stdout [default: table on a terminal, else json]
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// How to reach the endpoints; ssh goes to their client port on their hosts
    #[arg(long, value_enum, default_value = "direct")]
    via: Via,
    /// Do not verify the servers' certificates: whoever answers is taken for etcd
    #[arg(long, help_heading = IN_WORDS)]
    insecure_skip_tls_verify: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table for people
    Table,
    /// The document, with `health` filled in
    Json,
    /// A node list, as all tools read it: hostname:address:name lines
    Nodes,
    /// The client URLs of the voting members, as kube-apiserver's --etcd-servers has them
    Endpoints,
}

impl Args {
    pub(crate) fn reads_stdin(&self) -> bool {
        self.endpoints.is_empty()
    }

    pub(crate) fn writes_document(&self) -> bool {
        self.format() == Format::Json
    }

    fn format(&self) -> Format {
        let usual = terminal::table_or(Format::Table, Format::Json);
        self.output.unwrap_or(usual)
    }
}

/// The `list` command.
pub(crate) async fn list(tool: &crate::Member, run: &mut Run, args: &Args) -> Result<()> {
    let endpoints = EndpointArgs {
        endpoints: args.endpoints.clone(),
        credentials: tool.credentials.clone(),
        unverified: args.insecure_skip_tls_verify,
    };
    let targets = endpoints.resolve(&run.document, &run.nodes(), None)?;
    let by_ssh = args.via == Via::Ssh;
    let fleet = by_ssh.then(|| Fleet::new(&tool.ssh, run.common.jobs)).transpose()?;
    let route = Route::via(targets, fleet.as_ref())?;
    let invalid = |error: client::Error| Error::usage(error.to_string());
    let probe = route.probe(Duration::MAX).await.map_err(invalid)?;
    for endpoint in &probe.health.endpoints {
        let Some(why) = &endpoint.error else { continue };
        let why = match endpoint.node {
            Some(_) => why.clone(),
            None => format!("{}: {why}", endpoint.endpoint),
        };
        let result = match probe.unreachable {
            true => ToolResult::error(Code::Unreachable, why),
            false => ToolResult::warning(Code::Unhealthy, why),
        };
        run.report(result.of(endpoint.node.as_ref()));
    }
    if let Some((why, _)) = probe.why_no_members() {
        if !probe.unreachable {
            run.report(ToolResult::error(Code::NoMemberList, why));
        }
        return Ok(());
    }
    let health = probe.health;
    match args.format() {
        Format::Json => {}
        Format::Table => terminal::print(&table(&run.document, &health))?,
        Format::Nodes => terminal::print(&nodes(run, &health.members))?,
        Format::Endpoints => terminal::print(&(endpoints_of(&health.members) + "\n"))?,
    }
    let voters = health.members.iter().filter(|member| !member.is_learner).count();
    let learners = match health.members.len() - voters {
        0 => String::new(),
        1 => ", 1 learner".into(),
        count => format!(", {count} learners"),
    };
    run.report(ToolResult::unchanged(Code::Listed, format!("{voters} voting members{learners}")));
    run.document.health = Some(health);
    Ok(())
}

const HEADER: [&str; 7] = ["MEMBER", "ID", "ROLE", "HEALTH", "NODE", "PEER URLS", "CLIENT URLS"];

fn table(document: &Document, health: &Health) -> String {
    let rows = health.members.iter().map(|member| row(document, health, member));
    pipeline::table(&HEADER, rows, 0..0)
}

fn row(document: &Document, health: &Health, member: &Member) -> [String; 7] {
    let urls = |urls: &[String]| if urls.is_empty() { "-".into() } else { urls.join(",") };
    let endpoint = health.endpoints.iter().find(|endpoint| is_of(endpoint, member));
    let role = match endpoint {
        _ if member.is_learner => "learner",
        Some(Endpoint { is_leader: true, .. }) => "leader",
        Some(Endpoint { member_id: Some(_), .. }) => "follower",
        _ => "voter",
    };
    let state = match endpoint {
        Some(Endpoint { healthy: true, .. }) => "healthy",
        Some(_) => "UNHEALTHY",
        None => "-",
    };
    [
        if member.name.is_empty() { "(not started)".into() } else { member.name.clone() },
        member.id.clone(),
        role.into(),
        state.into(),
        document.node_of(member).map_or_else(|| "-".into(), |node| node.name.clone()),
        urls(&member.peer_urls),
        urls(&member.client_urls),
    ]
}

/// The members as a node list. What such a list cannot say is reported.
fn nodes(run: &Run, members: &[Member]) -> String {
    let document = &run.document;
    let mut lines = String::new();
    let mut seen = BTreeSet::new();
    for member in members {
        let warn = |what: String| {
            let message = format!("member {}: {what}", member.label());
            run.report(ToolResult::warning(Code::NotInList, message));
        };
        let node = document.node_of(member);
        // A member keeps its name, whatever the document calls it.
        let name = node.filter(|_| member.name.is_empty()).map_or(&member.name, |node| &node.name);
        if name.is_empty() {
            warn(format!("has not started, and has no name yet ({})", member.peer_urls.join(",")));
            continue;
        }
        if !is_node_name(name) {
            warn(format!("left out, as no node can have its name: {NODE_NAME}"));
            continue;
        }
        if !seen.insert(name) {
            warn(format!(
                "left out, as another member has its name, too ({})",
                member.peer_urls.join(",")
            ));
            continue;
        }
        if let [_, others @ ..] = &member.peer_urls[..]
            && !others.is_empty()
        {
            warn(format!("a list has no place for its other peer URLs: {}", others.join(",")));
        }
        let Some((scheme, host, port)) = member.peer_urls.first().and_then(|url| parts(url)) else {
            warn("has no peer URL with a host and a port".into());
            continue;
        };
        if scheme != "https" {
            warn(cluster::fit::PLAIN_PEERS.into());
        }
        if port != "2380" {
            warn(format!("its peer port is {port}: set settings.peerPort in a JSON document"));
        }
        if let Some((scheme, _, port)) = member.client_urls.first().and_then(|url| parts(url)) {
            if scheme != "https" {
                warn("it serves clients without TLS, and these tools ask with TLS only".into());
            }
            if port != "2379" {
                warn(format!(
                    "its client port is {port}: set settings.clientPort in a JSON document"
                ));
            }
        }
        // etcd does not know what the host is called.
        let hostname = node.map_or(name.as_str(), |node| node.hostname());
        lines += &format!("{hostname}:{host}:{name}\n");
    }
    lines
}

fn endpoints_of(members: &[Member]) -> String {
    let voters = members.iter().filter(|member| !member.is_learner);
    voters
        .filter_map(|voter| Some(voter.client_urls.first()?.as_str()))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learners_serve_nobody_who_writes() {
        let member = |url: &str, is_learner| Member {
            client_urls: vec![url.into()],
            is_learner,
            ..Member::default()
        };
        let members = [member("https://a:2379", false), member("https://b:2379", true)];
        assert_eq!(endpoints_of(&members), "https://a:2379");
    }
}
