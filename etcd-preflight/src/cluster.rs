//! What is judged of the cluster that runs.

use std::collections::BTreeSet;

use client::{ClusterProbe, CredentialArgs, name};
use cluster::guard::{Cluster, Standing, View};
use etcd::Version;
use etcd::quorum::quorum;
use pipeline::document::Endpoint;
use pipeline::{Code, Document, Run, Severity};
use remote::Fleet;

use crate::Seen;
use crate::finding::Finding;

/// How full the database may be, in percent of its quota.
const FULL_PERCENT: u64 = 80;
/// A file of which at least this much is unused is named, in percent of the file ...
const UNUSED_PERCENT: u64 = 50;
/// ... when that is at least this much of the quota, in percent.
const UNUSED_OF_QUOTA_PERCENT: u64 = 10;

/// Asks the members, where etcd runs on any of the nodes, and judges what they say.
pub(crate) async fn judge(
    run: &Run,
    fleet: &Fleet,
    credentials: &CredentialArgs,
    seen: &[Seen<'_>],
) -> Vec<Finding> {
    if !seen.iter().any(|seen| seen.etcd.is_running()) {
        return Vec::new();
    }
    let document = &run.document;
    let probed = async {
        let access = credentials.access(document, None).map_err(|e| e.to_string())?;
        // All of them, whatever --only says: the margin is that of the whole cluster.
        let cluster = Cluster::new(document, fleet, access, &[]);
        let probe = cluster.probe().await.map_err(|e| e.to_string())?;
        let view = cluster.view_of(probe.clone()).await;
        Ok::<_, String>((probe, margin(&view), cluster.downgrade(&view).await))
    };
    match probed.await {
        Ok((probe, margin, downgrade)) => {
            let mut findings = health(document, &probe, changes_version(document, seen));
            findings.extend(margin);
            findings.extend(
                probe
                    .cannot_tell()
                    .map(|why| Finding::cluster(Code::Unhealthy, "unknown").error_if(true, || why)),
            );
            findings.extend(members(&probe));
            let finding = Finding::cluster(
                Code::DowngradePending,
                if downgrade.is_some() { "enabled" } else { "none" },
            );
            findings
                .push(finding.warning_if(downgrade.is_some(), || downgrade.unwrap_or_default()));
            let full = probe.alarms.iter().any(|alarm| alarm.alarm == "NOSPACE");
            let endpoints = probe.health.endpoints.iter();
            let sizes = || probe.health.endpoints.iter().filter_map(|e| e.db_size_bytes);
            findings.extend(endpoints.flat_map(|e| database(document, e, sizes().min(), full)));
            findings
        }
        // Whoever has no certificates yet can still deploy.
        Err(why) => {
            let finding = Finding::cluster(Code::Unhealthy, "unknown");
            vec![finding.warning_if(true, || format!("the members cannot be asked: {why}"))]
        }
    }
}

/// Whether no member runs the version that is wanted yet.
fn changes_version(document: &Document, seen: &[Seen]) -> bool {
    let wanted = document.release.as_ref().map(|release| release.version.as_str());
    let wanted = wanted.or(document.cluster.as_ref().and_then(|c| c.version.as_deref()));
    let Some(Ok(wanted)) = wanted.map(str::parse::<Version>) else { return false };
    let mut running = seen.iter().filter_map(|seen| seen.etcd.running_version());
    running.all(|version| version != wanted)
}

/// What is not healthy: an error before a step to another version, which begins with a
/// healthy cluster only; else a warning, since the stages that follow may be to cure it.
fn health(document: &Document, probe: &ClusterProbe, changes_version: bool) -> Vec<Finding> {
    let severity = if changes_version { Severity::Error } else { Severity::Warning };
    let advice = match changes_version {
        true => ": a change of version begins with a healthy cluster only",
        false => "",
    };
    let mut findings = Vec::new();
    for problem in &probe.problems {
        let code = match problem.kind {
            client::ProblemKind::Alarm => Code::Alarm,
            _ => Code::Unhealthy,
        };
        // To cure an alarm is no step that could wait for the cure.
        let severity = if code == Code::Alarm { Severity::Warning } else { severity };
        let advice = if code == Code::Alarm { "" } else { advice };
        let message = format!("{}{advice}", problem.message);
        findings.push(Finding {
            code,
            node: problem.node.clone(),
            measured: "no".into(),
            problem: Some((severity, message)),
        });
    }
    for (code, measured) in [(Code::Unhealthy, "healthy"), (Code::Alarm, "none")] {
        for node in &document.nodes {
            let of_node = |f: &Finding| f.code == code && f.node.as_ref() == Some(&node.name);
            let was_probed =
                probe.health.endpoints.iter().any(|e| e.node.as_ref() == Some(&node.name));
            if was_probed && !findings.iter().any(of_node) {
                findings.push(Finding::ok(code, &node.name, measured));
            }
        }
    }
    findings
}

/// How many more members may fail.
fn margin(view: &View) -> Option<Finding> {
    if view.members_error.is_some() {
        return None;
    }
    let (voters, needed) = (view.voters.len(), quorum(view.voters.len()));
    let healthy = view.voters.iter().filter(|voter| voter.standing == Standing::Up).count();
    let spare = healthy.saturating_sub(needed);
    let finding = Finding::cluster(Code::NoMargin, spare.to_string());
    Some(finding.warning_if(spare == 0, || {
        format!(
            "{healthy} of {voters} voting members are known to be healthy, {needed} are needed: no \
             other may fail"
        )
    }))
}

/// Learners, and versions.
fn members(probe: &ClusterProbe) -> Vec<Finding> {
    let health = &probe.health;
    let mut findings = Vec::new();
    for member in health.members.iter().filter(|member| member.is_learner) {
        let name = member.label();
        findings.push(Finding::cluster(Code::Learner, name).warning_if(true, || {
            format!(
                "{name} is a learner, which does not vote: promote it when it has caught up: \
                 `etcd-member promote`"
            )
        }));
    }
    if findings.is_empty() {
        findings.push(Finding::cluster(Code::Learner, "none"));
    }
    let known = health.endpoints.iter().filter_map(|e| e.version.as_ref().map(|v| (e, v)));
    let versions: BTreeSet<_> = known.clone().map(|(_, version)| version.as_str()).collect();
    let list: Vec<_> = versions.iter().copied().collect();
    let finding = Finding::cluster(Code::DifferentVersions, list.join(" "));
    findings.push(finding.warning_if(versions.len() > 1, || {
        let list: Vec<_> = known.map(|(e, v)| format!("{} {v}", name(health, e))).collect();
        format!("different versions: {}: bring all to one", list.join(", "))
    }));
    findings
}

/// The database of one member; of one that does not answer, as if it had the `smallest` of
/// those that do. Where the cluster `is_full` already, the quota is no reason to
/// refuse what may cure it.
#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn database(
    document: &Document,
    endpoint: &Endpoint,
    smallest: Option<u64>,
    is_full: bool,
) -> Vec<Finding> {
    let node = document.nodes.iter().find(|node| endpoint.node.as_ref() == Some(&node.name));
    let (Some(node), Some(size)) = (node, endpoint.db_size_bytes.or(smallest)) else {
        return Vec::new();
    };
    let wanted = document.settings(node).quota_backend_bytes;
    let quota = endpoint.db_quota_bytes.unwrap_or(wanted).max(1);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let percent = |part: u64, of: u64| part.saturating_mul(100) / of.max(1);
    let full = percent(size, quota);
    let finding = Finding::ok(Code::Quota, &node.name, format!("{full} %")).error_if(
        wanted <= size && !is_full,
        || {
            format!(
                "the database has {:.1} MiB, and quotaBackendBytes is {:.1} MiB: it would take no \
                 more writes: set a larger quota, or compact and defragment it first",
                mib(size),
                mib(wanted)
            )
        },
    );
    let mut findings = vec![finding.warning_if(full >= FULL_PERCENT, || {
        format!(
            "the database has {:.1} MiB, {full} % of its quota of {:.1} MiB: at 100 % it \
                     takes no more writes: compact and defragment it, or raise quotaBackendBytes",
            mib(size),
            mib(quota)
        )
    })];
    if let Some(in_use) = endpoint.db_size_in_use_bytes {
        let unused = size.saturating_sub(in_use);
        let part = percent(unused, size);
        let much = part >= UNUSED_PERCENT && percent(unused, quota) >= UNUSED_OF_QUOTA_PERCENT;
        findings.push(
            Finding::ok(Code::Fragmentation, &node.name, format!("{part} %")).warning_if(
                much,
                || {
                    format!(
                        "{:.1} MiB of the database's {:.1} MiB are unused: defragment it: \
                         `etcdctl defrag`, one member at a time",
                        mib(unused),
                        mib(size)
                    )
                },
            ),
        );
    }
    findings
}
