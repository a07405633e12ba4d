//! What the commands that change the members have in common.

use std::collections::HashMap;

use anyhow::Result;
use cluster::Lease;
use cluster::fit::{self, Facts};
use cluster::guard::{Cluster, Refusal, View};
use cluster::members::{Accepted, Policy};
use pipeline::document::Node;
use pipeline::{Run, ToolResult};
use remote::{Error, Fleet};

use crate::{ChangeArgs, Risks};

/// The locks of all nodes, and what was found on them.
pub(crate) struct Change<'a> {
    pub run: &'a Run,
    pub lease: Lease<'a>,
    pub cluster: Cluster<'a>,
    /// What is on each node that answered, by its name.
    pub facts: HashMap<String, Facts>,
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
        tool: &crate::Member,
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
        let cluster = Cluster::new(&run.document, fleet, access, &[]).via(args.via);
        Ok(Some(Self { run, lease, cluster, facts }))
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
