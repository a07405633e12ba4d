//! etcd's own downgrade: what goes before the older binaries
//! (<https://etcd.io/docs/latest/downgrades/>).
//!
//! Once it is enabled, every member writes a raft snapshot and brings its data to the form
//! of the older version; only then an older binary can read it.

use anyhow::{Context, Result, bail};
use client::Downgrade;
use etcd::{Minor, Version};
use pipeline::{Code, Run, ToolResult};
use tokio::time::{Instant, sleep};

use crate::members::{INTERVAL, Look, Members};
use crate::up_to_date;

/// What etcd says to a target while the version of the cluster is still older than all
/// of its members.
const NOT_YET: &str = "invalid downgrade target version";

/// Asks etcd whether it would allow a downgrade to `to`.
pub(crate) async fn validate(members: &Members<'_>, to: Version) -> Result<ToolResult> {
    let look = members.look_at_all().await?;
    if let Some(nothing) = needless(&look, to)? {
        return Ok(nothing);
    }
    ask(members, Downgrade::Validate, to.minor()).await?;
    let message = format!("etcd allows a downgrade to {}", to.minor());
    Ok(ToolResult::unchanged(Code::DowngradeAllowed, message))
}

/// Has all members bring their data to the form of `to`, and waits until they have.
pub(crate) async fn enable(run: &Run, members: &Members<'_>, to: Version) -> Result<ToolResult> {
    let look = members.look_at_all().await?;
    if let Some(nothing) = needless(&look, to)? {
        return Ok(nothing);
    }
    let minor = to.minor();
    if run.check() {
        if look.target() != Some(minor) {
            ask(members, Downgrade::Validate, minor).await?;
        }
        return Ok(ToolResult::would_change(format!("would enable a downgrade to {minor}")));
    }
    prepare(members, &look, minor).await?;
    let message = format!("downgrade to {minor} enabled: the data of all members is ready for it");
    Ok(ToolResult::changed(Code::DowngradeEnabled, message))
}

/// Takes a downgrade back, and waits until the data has its newer form again.
pub(crate) async fn cancel(run: &Run, members: &Members<'_>) -> Result<ToolResult> {
    let look = members.look().await?;
    let target = match look.target() {
        Some(target) => target,
        // etcd does not end it by itself while it knows of a member that does not answer.
        None if look.lowest() == Some(Minor::V3_5)
            && members.endpoint().await?.is_downgraded_to_3_5().await? =>
        {
            Minor::V3_5
        }
        None => return Ok(up_to_date("no downgrade is enabled")),
    };
    if run.check() {
        return Ok(ToolResult::would_change(format!("would cancel the downgrade to {target}")));
    }
    let absent = match look.target() {
        Some(_) => {
            take_back(members).await?;
            // Without one that does not answer, the cluster keeps the older version.
            members.look().await?.missing.into_iter().next()
        }
        None => {
            end_on_3_5(members).await?;
            None
        }
    };
    let absent = absent
        .map(|absent| format!("; the data gets its newer form when all members answer ({absent})"));
    let message = format!(
        "downgrade to {target} cancelled: where etcd-push has put its release already, \
         `scripts/upgrade NODES VERSION` with the version that runs takes it away again{}",
        absent.unwrap_or_default()
    );
    Ok(ToolResult::changed(Code::DowngradeCancelled, message))
}

/// Has every member write a raft snapshot.
pub(crate) async fn raft_snapshot(run: &Run, members: &Members<'_>) -> Result<ToolResult> {
    let look = members.look_at_all().await?;
    let lowest = look.lowest().unwrap_or(Minor::DEFAULT);
    if let Some(other) = look.seen.iter().find(|seen| seen.version.minor() != lowest) {
        bail!("{} runs {}, others run {lowest}: end the upgrade first", other.name, other.version);
    }
    let Some(target) = lowest.previous().filter(|_| lowest >= Minor::V3_6) else {
        bail!("the members run {lowest}: etcd can be told to write one from 3.6 on");
    };
    if run.check() {
        let message = "would have all members write a raft snapshot";
        return Ok(ToolResult::would_change(message));
    }
    if look.target().is_some_and(|enabled| enabled != target) {
        take_back(members).await?;
    }
    prepare(members, &members.look_at_all().await?, target).await?;
    take_back(members).await?;
    let message = "all members have written a raft snapshot";
    Ok(ToolResult::changed(Code::RaftSnapshot, message))
}

/// What to say where no downgrade to `to` has to be enabled, or is refused.
fn needless(look: &Look, to: Version) -> Result<Option<ToolResult>> {
    let minor = to.minor();
    etcd::step(look.versions(), to, Some(minor))?;
    let mut newer = look.seen.iter().filter(|seen| seen.version.minor() > minor);
    if look.lowest().is_none_or(|lowest| lowest <= minor) {
        let why = match newer.next() {
            Some(newer) => format!(
                "not all members run {} yet: they can go back to {minor} as they are",
                newer.version.minor()
            ),
            None => format!("no member runs a version newer than {minor}"),
        };
        return Ok(Some(up_to_date(why)));
    }
    let ready = newer.all(|seen| seen.ready_for == Some(minor));
    let message = format!("the data of all members is ready for {minor}");
    Ok(ready.then(|| up_to_date(message)))
}

/// Enables a downgrade to `minor` unless that is done, and waits until all have their
/// data ready for it.
async fn prepare(members: &Members<'_>, look: &Look, minor: Minor) -> Result<()> {
    if look.target() != Some(minor) {
        ask(members, Downgrade::Enable, minor).await?;
    }
    let advice = "run this again to wait longer, or `etcd-maintain downgrade cancel`";
    members
        .wait("waiting for the members' data", |look| {
            let late = look.seen.iter().find(|seen| seen.ready_for != Some(minor));
            let late = late.map(|late| format!("{}: its data is not ready for {minor}", late.name));
            late.or_else(|| look.missing.first().cloned())
        })
        .await
        .map_err(|why| anyhow::anyhow!("{why}: {advice}"))
}

/// Cancels the downgrade, and waits until all have their data in the form of the lowest version
/// that runs. It takes a quorum, as any change of the cluster: where a member is down, it is not
/// waited for, as the cluster keeps the older version until all answer.
async fn take_back(members: &Members<'_>) -> Result<()> {
    let cancelled = members.endpoint().await?.downgrade(Downgrade::Cancel, None).await;
    cancelled.context("cancelling the downgrade")?;
    members
        .wait("waiting for the members' data", |look| {
            let lowest = look.lowest();
            let late = look.seen.iter().find(|seen| {
                let is_back = seen.storage.is_none_or(|storage| Some(storage) == lowest);
                seen.target.is_some() || (look.missing.is_empty() && !is_back)
            })?;
            Some(format!("{}: its data is not back in its form", late.name))
        })
        .await
}

/// Cancels a downgrade that only members of 3.5 know of. They do so, and never answer
/// (`applierV3backend.Apply` in etcd's server/etcdserver/apply.go gives no result).
async fn end_on_3_5(members: &Members<'_>) -> Result<()> {
    let endpoint = members.endpoint().await?;
    let answer = endpoint.downgrade(Downgrade::Cancel, None).await;
    if endpoint.is_downgraded_to_3_5().await? {
        answer.context("cancelling the downgrade")?;
        bail!("the downgrade is still enabled: run this again");
    }
    Ok(())
}

/// Asks one member to do what `action` says, again while the cluster has not yet taken
/// the version of its members.
async fn ask(members: &Members<'_>, action: Downgrade, minor: Minor) -> Result<()> {
    let deadline = Instant::now() + members.limit();
    loop {
        match members.endpoint().await?.downgrade(action, Some(minor)).await {
            Ok(()) => return Ok(()),
            Err(error) if error.to_string().contains(NOT_YET) && Instant::now() < deadline => {}
            Err(error) => bail!("etcd refuses a downgrade to {minor}: {error}"),
        }
        sleep(INTERVAL).await;
    }
}
