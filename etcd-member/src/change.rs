//! What the commands that change the members have in common.

use std::collections::HashMap;

use anyhow::Result;
use client::CredentialArgs;
use cluster::Lease;
use cluster::fit::{self, Facts};
use cluster::guard::{Cluster, Refusal, View};
use cluster::members::{Accepted, Policy};
use pipeline::document::Node;
use pipeline::{Code, Run, Severity, ToolResult};
use remote::{Error, Fleet};

use crate::{ChangeArgs, Risks};

/// The locks of all nodes, and what was found on them.
pub(crate) struct Change<'a> {
    pub run: &'a Run,
    pub lease: Lease<'a>,
    pub cluster: Cluster<'a>,
    /// What is on each node that answered, by its name.
    pub facts: HashMap<String, Facts>,
    credentials: &'a CredentialArgs,
}

/// Where on the nodes data of members is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// In the folders that the document, the node's units and its processes name.
    AtFolders,
    /// Everywhere else, too: a unit of others may name them where nobody reads it.
    Everywhere,
}

impl<'a> Change<'a> {
    /// Locks all nodes, and looks at them. `None` where another operator is at work,
    /// which has been reported.
    pub(crate) async fn begin(
        tool: &'a crate::Member,
        run: &'a Run,
        fleet: &'a Fleet,
        args: ChangeArgs,
        look: Look,
    ) -> Result<Option<Self>> {
        let access = tool.credentials.access(&run.document, None)?;
        let queries = |node: &Node| {
            let everywhere = (look == Look::Everywhere).then(fit::search);
            [fit::query(&run.document, node, &[])].into_iter().chain(everywhere).collect()
        };
        let Some(lease) = Lease::take_any(fleet, run, "etcd-member", queries).await else {
            return Ok(None);
        };
        let mut facts = HashMap::new();
        for held in lease.selected.iter().chain(&lease.others) {
            match Facts::read(&held.answers.concat()) {
                Ok(found) => drop(facts.insert(held.node.name.clone(), found)),
                Err(error) => run.report(error.on(&held.node.name)),
            }
        }
        let hosts = lease.selected.iter().chain(&lease.others).map(|held| held.host.clone());
        let cluster = Cluster::new(&run.document, fleet, access, &[]);
        let port = |node: &Node| facts.get(&node.name)?.client_port();
        let cluster = cluster.listening(port).via(args.via).locked(hosts.collect());
        Ok(Some(Self { run, lease, cluster, facts, credentials: &tool.credentials }))
    }

    /// What etcd-push would refuse of the document on the nodes whose own etcd runs, of those
    /// that `stay` says, once the member of the node `updated` is as it is there; in a pipeline
    /// that has a release to push, on those with an etcd of others, too.
    pub(crate) async fn mismatches(
        &self,
        stay: impl Fn(&Node) -> bool,
        updated: Option<&str>,
    ) -> Vec<ToolResult> {
        let held = self.lease.selected.iter().chain(&self.lease.others);
        let nodes: Vec<_> = held
            .filter(|held| stay(held.node))
            .filter_map(|held| Some((held.node, &held.host, self.facts.get(&held.node.name)?)))
            .filter(|(node, _, facts)| {
                let is_pushed = self.run.document.release.is_some() && facts.runs_etcd();
                let is_updated = updated == Some(node.name.as_str());
                facts.is_own() || is_pushed || is_updated && !facts.is_of_others()
            })
            .map(|(node, host, facts)| (node, host, facts.clone()))
            .collect();
        let document = &self.run.document;
        let elsewhere = nodes.iter().filter_map(|(node, _, facts)| {
            let why = fit::data_elsewhere(document, node, facts)?;
            let why = format!("{why}: set it to that, or have it moved first: etcd-push says how");
            Some(ToolResult::error(Code::Mismatch, why).on(&node.name))
        });
        let mut found: Vec<_> = elsewhere.collect();
        found.extend(fit::mismatches(self.run, &nodes, self.credentials, updated).await);
        let concerns = |result: &ToolResult| match &result.node {
            Some(name) => nodes.iter().any(|(node, ..)| node.name == *name),
            // Who is on no node is told by who changes the members.
            None => result.code != Code::UnknownMember,
        };
        let is_error = |result: &ToolResult| result.severity == Severity::Error;
        found.into_iter().filter(|result| is_error(result) && concerns(result)).collect()
    }

    /// Why the node could not be asked.
    pub(crate) fn unknown(&self, node: &Node) -> Option<&Error> {
        let mut unknown = self.lease.unknown.iter();
        unknown.find(|(other, _)| other.name == node.name).map(|(_, error)| error)
    }

    /// The cluster, as soon as a member tells who the members are.
    pub(crate) async fn view(&self, policy: Policy) -> Result<View, Refusal> {
        let is_known = |view: &View| match &view.members_error {
            Some((why, may_pass)) => Err(Refusal::NoMemberList(why.clone(), *may_pass)),
            None => Ok(()),
        };
        self.cluster.view_when(policy, is_known).await
    }

    /// Reports why nothing was done.
    pub(crate) fn refuse(&self, node: Option<&Node>, what: &str, why: &Refusal) {
        let result = ToolResult::error(why.code(), format!("{what}: {why}"));
        self.run.report(result.of(node.map(|node| &node.name)));
    }
}

impl Risks {
    pub(crate) fn policy(self, change: ChangeArgs) -> Policy {
        let accepted = Accepted { quorum: self.lose_quorum, margin: self.lose_margin };
        Policy::new(accepted, change.timeout)
    }
}
