//! Which version runs, which is wanted, and whether etcd supports the step between them.

use std::collections::BTreeSet;

use client::Alarm;
use etcd::{Minor, Version};
use pipeline::document::{Member, Node};
use pipeline::{Code, ToolResult};

use super::compare::{Fit, NodeFit};
use super::facts::{Facts, SAYS_VERSION};
use super::{Purpose, concerns, environment};

impl Fit<'_> {
    /// The version that the document says the cluster is to run.
    pub(super) fn wanted_version(&self) -> Option<Version> {
        let document = self.document;
        let cluster = document.cluster.as_ref().and_then(|cluster| cluster.version.as_deref());
        let wanted = document.release.as_ref().map(|release| release.version.as_str()).or(cluster);
        wanted?.parse().ok()
    }

    /// What keeps the members from the version that is wanted: steps between versions that
    /// etcd does not support, and alarms, which a step would not clear.
    pub(super) fn version(&self) -> Vec<ToolResult> {
        let Some(wanted) = self.wanted_version() else { return Vec::new() };
        let running = self.running();
        let by_default = self.document.release.as_ref().is_some_and(|release| release.by_default);
        let other = running.iter().find(|(_, version)| by_default && *version != wanted);
        if let Some((node, version)) = other {
            let message = format!(
                "etcd {version} is there, and nobody asked for {wanted}, which is for a new \
                 cluster: pass the version: `etcd-fetch {version}`"
            );
            return vec![ToolResult::error(Code::VersionStep, message).on(&node.name)];
        }
        let versions = running.iter().map(|(_, version)| *version);
        let enabled = self.downgrade(&running, wanted);
        if let Err(refusal) = etcd::step(versions, wanted, enabled) {
            let from = running.iter().find(|(_, version)| *version == refusal.from);
            let result = ToolResult::error(Code::VersionStep, refusal.to_string());
            return from.map(|(node, _)| result.on(&node.name)).into_iter().collect();
        }
        let mut versions = running.iter().map(|(_, version)| *version);
        let older = versions.clone().find(|from| from.minor() < wanted.minor());
        let other = versions.find(|from| *from != wanted);
        let refusals = older.and_then(|from| self.downgrading(from, wanted)).into_iter();
        let refusals = refusals.chain(other.iter().flat_map(|from| self.alarms(*from, wanted)));
        let refusals: Vec<_> = refusals.collect();
        if !refusals.is_empty() {
            return refusals;
        }
        // What was rendered for another minor version says things that the one that runs ignores.
        let rendered = running.iter().find(|(node, version)| {
            matches!(self.purpose, Purpose::Push { .. })
                && self.document.release.is_none()
                && environment::is_brought(self.document, node)
                && version.minor() != wanted.minor()
        });
        let other_minor = |(node, version): &(&Node, Version)| {
            let message = format!(
                "its configuration is rendered for etcd {}, and {version} runs: render it for that, \
                 or take the step first: `scripts/upgrade NODES {wanted}`",
                wanted.minor()
            );
            ToolResult::error(Code::VersionStep, message).on(&node.name)
        };
        rendered.map(other_minor).into_iter().collect()
    }

    /// The versions that run, or would run on the data of a node.
    pub(super) fn running(&self) -> Vec<(&Node, Version)> {
        let version = |(node, facts): &(&Node, &Facts)| self.running_version(node, facts);
        let nodes = self.facts.iter();
        nodes.filter_map(|found| Some((found.0, version(found)?))).collect()
    }

    /// That the cluster is being downgraded, a reason not to go up from one minor version to
    /// another.
    fn downgrading(&self, from: Version, to: Version) -> Option<ToolResult> {
        self.cluster.replies.iter().find_map(|(node, reply)| {
            let message = format!("{from} → {to}: {}", reply.downgrade()?);
            Some(ToolResult::error(Code::VersionStep, message).on(node))
        })
    }

    /// The alarms that are raised, each a reason not to go from one version to another.
    fn alarms(&self, from: Version, to: Version) -> Vec<ToolResult> {
        let replies = &self.cluster.replies;
        let raised: BTreeSet<_> = replies.values().flat_map(|reply| &reply.alarms).collect();
        let refusal = |alarm: &Alarm| {
            let message = format!("{alarm}: {from} → {to} only after that");
            let own = replies.iter().find(|(_, reply)| reply.member_id == alarm.member_id);
            match (own, self.cluster.member(&alarm.member_id)) {
                (Some((node, _)), _) => ToolResult::error(Code::Alarm, message).on(node),
                (None, member) => {
                    let name = member.map_or(alarm.member_id.as_str(), Member::label);
                    ToolResult::error(Code::Alarm, format!("member {name}: {message}"))
                }
            }
        };
        raised.into_iter().map(refusal).collect()
    }

    /// The minor version of `wanted`, where etcd's own downgrade has brought the data of
    /// all members that run a newer one to it.
    pub(super) fn downgrade(&self, running: &[(&Node, Version)], wanted: Version) -> Option<Minor> {
        let mut newer = running.iter().filter(|(_, version)| version.minor() > wanted.minor());
        let ready = newer.all(|(node, _)| {
            let Some(status) = self.cluster.replies.get(&node.name) else { return false };
            let (target, storage) = (&status.downgrade_target, &status.storage_version);
            client::ready_for(target.as_deref(), storage.as_deref()) == Some(wanted.minor())
        });
        ready.then_some(wanted.minor())
    }

    /// The version of the member itself; of one that does not run, that of the
    /// binary that would be started on its data. Data that is lost counts, too, where no
    /// member tells which version the others run.
    pub(super) fn running_version(&self, node: &Node, facts: &Facts) -> Option<Version> {
        if let Some(status) = self.cluster.replies.get(&node.name) {
            return status.version.parse().ok();
        }
        if let Some(process) = facts.process() {
            return process.version;
        }
        let settings = self.document.settings(node);
        let said = facts.binaries.get(&format!("{}/etcd", settings.bin_dir))?;
        let version = said.strip_prefix(SAYS_VERSION)?.parse().ok();
        let had_data = self.cluster.members.is_empty() && facts.was_ready();
        version.filter(|_| had_data || facts.has_data(&self.place(node, facts)))
    }

    /// The nodes among those `selected` whose binary is of another release.
    pub(super) fn other_releases(&self, selected: impl Fn(&Node) -> bool) -> Vec<ToolResult> {
        let of_node = |(node, facts): &(&Node, &Facts)| {
            let concerned = selected(node) && concerns(self.document, node, self.purpose);
            let why = NodeFit::new(self, node, facts).other_release().filter(|_| concerned)?;
            Some(ToolResult::error(Code::Mismatch, why).on(&node.name))
        };
        self.facts.iter().filter_map(of_node).collect()
    }
}
