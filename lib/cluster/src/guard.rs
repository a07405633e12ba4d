//! May these members go down? The one judgement on quorum.
//!
//! The voters are those of etcd's own member list, never the nodes of the document.
//! Only what etcd says of itself, just now, makes a voter count as healthy.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use client::{Access, ClusterProbe, Problem, ProblemKind, Target};
use etcd::Minor;
use etcd::quorum::quorum;
use pipeline::document::{Document, Endpoint, Member, Node};
use pipeline::{Code, ToolResult};
use remote::{Fleet, Host, fan_out};

use crate::route::{Route, Via};
use crate::units::{ETCD, NodeState, UnitState, WantedUnit};

/// How long one probe of a member may take.
pub(crate) const PROBE: Duration = Duration::from_secs(5);

/// What is asked of a host for the sake of its lock alone.
const PROVE: &str = "# Whether this run holds the lock.\n:";

/// Says what systemd has of the unit `$1`, or that an etcd runs all the same, in another unit
/// and under whatever name: it has its database open.
const ACTIVE_STATE: &str = r#"# Says whether a member runs.
state=$(systemctl show "$1" -p ActiveState)
case ${state#ActiveState=} in inactive | failed)
    for open in $(find /proc/[0-9]*/fd -lname '*/member/snap/db' 2>/dev/null); do
        ! [ "${open%/fd/*}/ns/net" -ef /proc/self/ns/net ] || state=running
    done ;;
esac
echo "${state#ActiveState=}""#;

/// A running cluster, seen from the nodes of a document.
pub struct Cluster<'a> {
    document: &'a Document,
    pub(crate) fleet: &'a Fleet,
    access: Access,
    via: Via,
    route: Route<'a>,
    /// The unit that runs etcd, by the name of the node, where it was looked for.
    units: HashMap<String, String>,
    /// The way to members that the document's endpoints do not lead to, and their URLs.
    others: RefCell<Option<(Vec<String>, Route<'a>)>>,
    /// The member list that was found last: when client ports change, one member after
    /// the other, those of the document lead to nobody in the end.
    members: RefCell<Vec<Member>>,
    /// The hosts whose locks this run holds.
    locked: Vec<Host>,
    /// The nodes whose stopped members count as started.
    to_start: Vec<String>,
}

/// What is known of a voter, just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has served a linearizable read: it has a leader, and has caught up.
    Up,
    /// It says itself that it does not serve.
    Sick(String),
    /// Nothing of it runs.
    Down,
    /// Nobody could say; it may well be serving.
    Unknown(String),
}

/// A voting member.
#[derive(Debug, Clone)]
pub struct Voter {
    /// Its ID, in hex; empty when no member list is known.
    pub id: String,
    /// Its name; that of a member that has never started is its peer URL.
    pub name: String,
    /// The node of the document that it is.
    pub node: Option<String>,
    /// What is known of it.
    pub standing: Standing,
    /// Whether it leads.
    pub is_leader: bool,
    /// How many entries it is behind.
    pub lag: Option<u64>,
    /// Whether it has a connection to each of the other members, by ID, as far as it or their
    /// hosts tell; only of who is [`Standing::Up`].
    pub connections: HashMap<String, bool>,
}

/// The cluster at one moment.
#[derive(Debug)]
pub struct View {
    /// The voting members; without a member list, the nodes of the document.
    pub voters: Vec<Voter>,
    /// The member list, learners among them; empty when there is none.
    pub members: Vec<Member>,
    /// Why there is no member list, when there is none, and whether waiting may help.
    pub members_error: Option<(String, bool)>,
    /// The alarms of all members, each with advice.
    pub alarms: Vec<Problem>,
    /// To which version the cluster is being downgraded, and what to do, as the members say in
    /// their status: those of 3.5 do not.
    downgrade: Option<String>,
}

/// The way on where most members are lost for good.
pub const RECOVER: &str = "have what a survivor has put on all nodes: `scripts/recover NODES FILE`";

/// Why a member may not go down, or is not back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too few voters are known to be healthy, and what to do before it is told in words.
    /// Says whether waiting may help.
    #[error("{0} pass --lose-quorum to proceed")]
    Quorum(String, bool),
    /// Nobody tells who the voters are. Says whether waiting may help; where it does not,
    /// it is the question that is wrong, e.g. its user, and nothing else is advised.
    #[error(
        "cannot tell whether the cluster would keep quorum: {why}{advice}",
        why = .0,
        advice = if *.1 { ": or pass --lose-quorum to proceed" } else { "" }
    )]
    Unknown(String, bool),
    /// A member is on no node of the document, so that its operator may hold no lock of ours.
    #[error("{0}")]
    UnknownMember(String),
    /// Quorum is not lost for certain, which was told.
    #[error("it is not certain that quorum is lost: {0}")]
    NotLost(String),
    /// No member may fail after it. Says whether waiting may help.
    #[error("{0}: pass --lose-margin to proceed")]
    Margin(String, bool),
    /// There is no quorum, without which the members cannot be changed. Says whether
    /// waiting may help.
    #[error(
        "{0}: the members can be changed only with quorum: start those that are stopped, or, where most of them are lost for good, {RECOVER}"
    )]
    NoQuorum(String, bool),
    /// No endpoint gives the member list. Says whether waiting may help.
    #[error("{0}")]
    NoMemberList(String, bool),
    /// Another member is not healthy. Says whether waiting may help.
    #[error("the cluster is not healthy: {0}")]
    Unhealthy(String, bool),
    /// What was to be done to the member failed.
    #[error("{0}")]
    Failed(String),
    /// It was done, and the cluster is not healthy after it.
    #[error("{0}")]
    NotBack(String),
}

impl Refusal {
    /// The code of the result that reports it.
    pub fn code(&self) -> Code {
        match self {
            Self::Quorum(..) | Self::NoQuorum(..) => Code::Quorum,
            Self::UnknownMember(_) => Code::UnknownMember,
            Self::Margin(..) => Code::NoMargin,
            Self::Unknown(..) | Self::NotLost(_) => Code::QuorumUnknown,
            Self::NoMemberList(..) => Code::NoMemberList,
            Self::Unhealthy(..) => Code::Unhealthy,
            Self::Failed(_) => Code::Failed,
            Self::NotBack(_) => Code::RestartFailed,
        }
    }

    /// Whether the same may be allowed a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Quorum(_, may_pass)
            | Self::NoQuorum(_, may_pass)
            | Self::Margin(_, may_pass)
            | Self::Unknown(_, may_pass)
            | Self::NoMemberList(_, may_pass)
            | Self::Unhealthy(_, may_pass) => *may_pass,
            Self::UnknownMember(_) | Self::NotLost(_) | Self::Failed(_) | Self::NotBack(_) => false,
        }
    }
}

/// Where the nodes of `document` serve clients: at the port that `port` gives, else at that of the
/// document.
fn targets(document: &Document, port: impl Fn(&Node) -> Option<u16>) -> Vec<Target> {
    let target = |node: &Node| {
        let port = port(node).unwrap_or(document.settings(node).client_port);
        Target { url: format!("https://{}:{port}", node.url_host()), node: Some(node.clone()) }
    };
    document.nodes.iter().map(target).collect()
}

impl<'a> Cluster<'a> {
    /// The cluster of the nodes of `document`, reached through the ssh connections
    /// of `fleet`. The client ports are those that the running processes in `states`
    /// have, and of other nodes those of the document. Nothing is asked yet.
    pub fn new(
        document: &'a Document,
        fleet: &'a Fleet,
        access: Access,
        states: &[NodeState<'_>],
    ) -> Self {
        let access = Access { timeout: PROBE, ..access };
        let targets = targets(document, |node| {
            let state = states.iter().find(|state| state.node.name == node.name);
            state.and_then(NodeState::client_port)
        });
        let route = Route::new(targets, access.clone(), Some(fleet));
        let unit =
            |state: &NodeState<'_>| Some((state.node.name.clone(), running(state)?.name.clone()));
        Self {
            units: states.iter().filter_map(unit).collect(),
            document,
            fleet,
            access,
            via: Via::Ssh,
            route,
            others: RefCell::new(None),
            members: RefCell::default(),
            locked: states.iter().map(|state| state.host.clone()).collect(),
            to_start: Vec::new(),
        }
    }

    /// The same as it will be once the members on `nodes`, which are stopped, have been started:
    /// for what is only foreseen.
    pub fn once_started(self, nodes: Vec<String>) -> Self {
        Self { to_start: nodes, ..self }
    }

    /// The same, with the client ports that `port` gives, as far as it does. Nothing may have
    /// been asked yet.
    pub fn listening(self, port: impl Fn(&Node) -> Option<u16>) -> Self {
        let targets = targets(self.document, port);
        let route =
            Route::new(targets, self.access.clone(), Some(self.fleet)).by(self.via, self.fleet);
        Self { route, ..self }
    }

    /// The same for a run that holds the locks of `hosts`.
    pub fn locked(self, hosts: Vec<Host>) -> Self {
        Self { locked: hosts, ..self }
    }

    /// Fails where this run has lost a lock: it was paused, and another may be at work. Asked
    /// before etcd itself is told to change something, as [`Host::change`] asks before a script.
    pub(crate) async fn prove(&self) -> Result<(), Refusal> {
        let hosts = self.locked.iter().collect();
        let proofs = fan_out(self.fleet.jobs(), hosts, async |host: &Host| {
            host.change(PROVE, &[], &[], PROBE).await
        });
        let lost = proofs.await.into_iter().find_map(|proof| match proof {
            Err(lost @ remote::Error::LockLost(_)) => Some(lost.to_string()),
            _ => None,
        });
        lost.map_or(Ok(()), |why| Err(Refusal::Failed(why)))
    }

    /// The same, with its members reached as `via` says: etcd need not listen on the
    /// loopback of its node.
    pub fn via(self, via: Via) -> Self {
        let route = self.route.by(via, self.fleet);
        Self { via, route, ..self }
    }

    /// The nodes of the document.
    pub(crate) fn document(&self) -> &'a Document {
        self.document
    }

    /// Asks all members, those outside of the document among them.
    pub async fn view(&self) -> Result<View, client::Error> {
        let probe = self.probe().await?;
        let mut view = self.view_of(probe).await;
        self.look_at_hosts(&mut view).await;
        let is_started = |voter: &&mut Voter| {
            voter.standing == Standing::Down
                && voter.node.as_ref().is_some_and(|node| self.to_start.contains(node))
        };
        let started: Vec<_> = view.voters.iter_mut().filter(is_started).collect();
        let ids: Vec<_> = started.iter().map(|voter| voter.id.clone()).collect();
        started.into_iter().for_each(|voter| voter.standing = Standing::Up);
        for voter in &mut view.voters {
            voter.connections.retain(|id, _| !ids.contains(id));
        }
        Ok(view)
    }

    /// To which version the cluster of `view` is being downgraded, and what to do; absent when
    /// it is not. Members of 3.5 tell only when they are asked.
    pub async fn downgrade(&self, view: &View) -> Option<String> {
        if view.downgrade.is_some() {
            return view.downgrade.clone();
        }
        let mut serving = view.voters.iter().filter(|voter| voter.standing == Standing::Up);
        let endpoint = serving.find_map(|voter| self.route.endpoint_of(voter.node.as_deref()?))?;
        let is_enabled = endpoint.is_downgraded_to_3_5().await;
        is_enabled.is_ok_and(|enabled| enabled).then(|| client::downgrade(&Minor::V3_5.to_string()))
    }

    /// What all members answer, after those of the document those outside of it.
    pub async fn probe(&self) -> Result<ClusterProbe, client::Error> {
        let mut probe = self.route.probe(PROBE).await?;
        self.probe_others(&mut probe).await?;
        Ok(probe)
    }

    /// What `probe` and the hosts say of the cluster.
    pub async fn view_of(&self, probe: ClusterProbe) -> View {
        let voters = self.voters(&probe).await;
        View {
            alarms: probe
                .problems
                .iter()
                .filter(|p| p.kind == ProblemKind::Alarm)
                .cloned()
                .collect(),
            members_error: probe.why_no_members(),
            downgrade: probe.downgrade(),
            voters,
            members: probe.health.members,
        }
    }

    /// Adds to `probe` the endpoints of members that it does not have: those of no
    /// node, and those whose client port is another than the document has.
    async fn probe_others(&self, probe: &mut ClusterProbe) -> Result<(), client::Error> {
        let answered = |member: &&Member| {
            let mut endpoints = probe.health.endpoints.iter();
            endpoints.any(|endpoint| {
                endpoint.member_id.as_ref() == Some(&member.id)
                    || endpoint.healthy && endpoint.member_id.is_none()
            })
        };
        if !probe.health.members.is_empty() {
            self.members.replace(probe.health.members.clone());
        }
        let known = self.members.borrow().clone();
        let missing: Vec<_> = known.iter().filter(|member| !answered(member)).collect();
        let target = |member: &Member| {
            let url = member.client_urls.first()?.clone();
            Some(Target { url, node: self.node_of(member).cloned() })
        };
        let targets: Vec<_> = missing.into_iter().filter_map(target).collect();
        if targets.is_empty() {
            return Ok(());
        }
        let urls: Vec<_> = targets.iter().map(|target| target.url.clone()).collect();
        let route = match self.others.take() {
            Some((known, route)) if known == urls => route,
            _ => Route::new(targets, self.access.clone(), None).by(self.via, self.fleet),
        };
        let found = route.probe(PROBE).await;
        self.others.replace(Some((urls, route)));
        let found = found?;
        if probe.health.members.is_empty() && !found.health.members.is_empty() {
            self.members.replace(found.health.members.clone());
            probe.health.members = found.health.members;
            probe.unknown = found.unknown;
        }
        for endpoint in found.health.endpoints {
            let endpoints = &mut probe.health.endpoints;
            // An answer is worth more than the failure at the document's port.
            let old = endpoints
                .iter()
                .position(|old| endpoint.node.is_some() && old.node == endpoint.node);
            match old {
                Some(at) if endpoint.member_id.is_some() => endpoints[at] = endpoint,
                Some(_) => {}
                None => endpoints.push(endpoint),
            }
        }
        Ok(())
    }

    /// The node of the document on whose host `member` is, as far as the cluster knows: that
    /// of its name, if it is at that address, else that of its peer URL.
    pub(crate) fn node_of(&self, member: &Member) -> Option<&'a Node> {
        let nodes = &self.document.nodes;
        let named = nodes.iter().find(|node| node.name == member.name && is_at(member, node));
        named.or_else(|| {
            nodes.iter().find(|node| member.peer_urls.contains(&self.document.peer_url(node)))
        })
    }

    /// The name of the unit that runs the member of `node`.
    pub(crate) fn unit_of(&self, node: &Node) -> String {
        let units = || WantedUnit::of(node, None).into_iter();
        let own = || units().find(WantedUnit::runs_etcd).map(|unit| unit.name);
        self.units.get(&node.name).cloned().or_else(own).unwrap_or_else(|| ETCD.into())
    }

    async fn voters(&self, probe: &ClusterProbe) -> Vec<Voter> {
        let health = &probe.health;
        let of_node = |name: &str| {
            health.endpoints.iter().find(|endpoint| endpoint.node.as_deref() == Some(name))
        };
        let found: Vec<(String, String, Option<&Node>, Option<&Endpoint>)> =
            if health.members.is_empty() {
                let node = |node: &'a Node| {
                    (String::new(), node.name.clone(), Some(node), of_node(&node.name))
                };
                self.document.nodes.iter().map(node).collect()
            } else {
                let member = |member: &Member| {
                    let mut endpoints = health.endpoints.iter();
                    let own = endpoints.find(|e| e.member_id.as_ref() == Some(&member.id));
                    let node = match own.and_then(|endpoint| endpoint.node.as_ref()) {
                        Some(name) => self.document.nodes.iter().find(|node| node.name == *name),
                        None => self.node_of(member),
                    };
                    let by_url = || {
                        health.endpoints.iter().find(|e| member.client_urls.contains(&e.endpoint))
                    };
                    let endpoint =
                        own.or_else(|| node.and_then(|node| of_node(&node.name))).or_else(by_url);
                    let unnamed = || member.peer_urls.join(",");
                    let name = Some(member.name.clone()).filter(|name| !name.is_empty());
                    (member.id.clone(), name.unwrap_or_else(unnamed), node, endpoint)
                };
                health.members.iter().filter(|member| !member.is_learner).map(member).collect()
            };
        fan_out(self.fleet.jobs(), found, async |(id, name, node, endpoint)| Voter {
            standing: self.standing(&id, node, endpoint).await,
            is_leader: endpoint.is_some_and(|endpoint| endpoint.is_leader),
            lag: endpoint.and_then(|endpoint| endpoint.raft_lag),
            connections: HashMap::new(),
            node: node.map(|node| node.name.clone()),
            id,
            name,
        })
        .await
    }

    /// What is known of the member `id`, which may be the node `node`, and `endpoint`
    /// is what was heard of it.
    async fn standing(
        &self,
        id: &str,
        node: Option<&Node>,
        endpoint: Option<&Endpoint>,
    ) -> Standing {
        let Some(endpoint) = endpoint else {
            return Standing::Unknown("it has no client URL".into());
        };
        let told = endpoint.member_id.as_deref();
        if told.is_some_and(|told| !id.is_empty() && told != id) {
            return Standing::Unknown("another member answers in its place".into());
        }
        if endpoint.healthy {
            return Standing::Up;
        }
        let why = endpoint.error.clone().unwrap_or_default();
        if why == client::Error::NoLeader.to_string() {
            return Standing::Sick(why);
        }
        // Only where nothing listens can systemd have the last word.
        let Some(node) = node.filter(|_| told.is_none() && why.starts_with("connecting: ")) else {
            return Standing::Unknown(why);
        };
        let unit = self.unit_of(node);
        let active = self
            .fleet
            .on(node, async |_, host| host.run(ACTIVE_STATE, &[unit.as_str()], &[]).await)
            .await;
        match active.as_ref().map(|lines| lines.first().map_or("", String::as_str)) {
            Ok("inactive" | "failed") => Standing::Down,
            Ok("activating") => Standing::Sick(format!("{unit} is starting")),
            Ok("deactivating") => Standing::Sick(format!("{unit} is stopping")),
            Ok(_) => Standing::Unknown(why),
            Err(error) => Standing::Unknown(format!("ssh: {error}")),
        }
    }

    /// Whether its user may have leadership moved, as far as `leader` tells.
    pub(crate) async fn may_move_leader(&self, leader: &Voter, view: &View) -> Result<(), Refusal> {
        let Some(user) = &self.access.user else { return Ok(()) };
        let Some(endpoint) = self.endpoint_to(leader, view) else { return Ok(()) };
        match endpoint.is_root().await {
            Ok(false) => Err(Refusal::Failed(format!(
                "the user {} lacks the role root, which moving leadership needs: set ETCDCTL_USER to \
                 one that has it",
                user.name
            ))),
            _ => Ok(()),
        }
    }

    /// Hands leadership from the node `name` to the healthy voter that lags least;
    /// without one, nothing is done. Gives the result to report.
    pub(crate) async fn move_leader_from(
        &self,
        leader: &Voter,
        view: &View,
    ) -> Result<Option<ToolResult>, Refusal> {
        let followers = view.voters.iter().filter(|v| !v.is_leader && v.standing == Standing::Up);
        let Some(successor) = followers.min_by_key(|voter| voter.lag) else { return Ok(None) };
        let mut last = None;
        for _ in 0..5 {
            // Right after another change "unhealthy cluster" is a passing answer: ask again.
            let id = successor.id.as_str();
            self.prove().await?;
            if let Some(endpoint) = self.endpoint_to(leader, view) {
                last = endpoint.move_leader(id).await.err();
            }
            let now = self.view().await.map_err(|error| Refusal::Failed(error.to_string()))?;
            if now.voters.iter().any(|voter| voter.is_leader && voter.id != leader.id) {
                let message = format!("leadership moved to {}", successor.name);
                let moved = ToolResult::changed(Code::LeaderMoved, message);
                return Ok(Some(moved.of(leader.node.as_ref())));
            }
        }
        let why = last.map_or_else(|| "it is still the leader".into(), |error| error.to_string());
        Err(Refusal::Failed(format!("moving leadership away: {why}")))
    }

    /// The endpoint of the node `name` that was found last.
    pub(crate) fn endpoint_of(&self, name: &str) -> Option<client::Endpoint> {
        let other = || self.others.borrow().as_ref().and_then(|(_, r)| r.endpoint_of(name));
        self.route.endpoint_of(name).or_else(other)
    }

    /// The endpoint of `voter`: that of its node, else the URL that it tells clients.
    pub(crate) fn endpoint_to(&self, voter: &Voter, view: &View) -> Option<client::Endpoint> {
        let of_node = voter.node.as_deref().and_then(|node| self.endpoint_of(node));
        let told = || {
            let member = view.members.iter().find(|member| member.id == voter.id)?;
            client::Endpoint::new(member.client_urls.first()?, &self.access).ok()
        };
        of_node.or_else(told)
    }
}

/// The unit of a node that runs etcd.
fn running<'a>(state: &'a NodeState<'_>) -> Option<&'a UnitState> {
    let mut units = state.units.iter();
    let runs = |(wanted, unit): &&(_, UnitState)| {
        state.is_member(wanted, unit) && unit.takes_etcd_along().is_none()
    };
    units.find(runs).map(|(_, unit)| unit)
}

impl NodeState<'_> {
    /// The client port that the etcd of its units listens on, where that runs and tells.
    pub fn client_port(&self) -> Option<u16> {
        let urls = running(self)?.running().get("ETCD_LISTEN_CLIENT_URLS")?;
        urls.split(',').find_map(|url| url.rsplit_once(':')?.1.trim_end_matches('/').parse().ok())
    }
}

/// Whether the cluster knows `member` at the address of `node`.
fn is_at(member: &Member, node: &Node) -> bool {
    let mut urls = member.peer_urls.iter().chain(&member.client_urls);
    urls.any(|url| {
        etcd::url::parts(url).is_some_and(|(_, host, _)| {
            let ip = etcd::url::ip(url);
            host == node.url_host() || (ip.is_some() && ip == node.ip())
        })
    })
}

impl View {
    /// Whether the nodes `going` may go down all at once. They may while those voters
    /// that remain and are known to be healthy are a quorum; and where none of them
    /// serves, and quorum is lost for certain, so that nothing more can be lost.
    pub fn may_go(&self, going: &[&str]) -> Result<(), Refusal> {
        self.may_leave(|voter| voter.node.as_deref().is_some_and(|node| going.contains(&node)))
    }

    /// The same of the member `id`, wherever it is.
    pub fn member_may_go(&self, id: &str) -> Result<(), Refusal> {
        self.may_leave(|voter| voter.id == id)
    }

    fn may_leave(&self, goes: impl Fn(&Voter) -> bool) -> Result<(), Refusal> {
        let (leaving, staying): (Vec<_>, Vec<_>) = self.voters.iter().partition(|v| goes(v));
        if leaving.iter().all(|voter| voter.standing == Standing::Down) {
            return Ok(());
        }
        let nothing_to_lose =
            !leaving.iter().any(|voter| voter.may_serve()) && self.is_quorum_lost();
        if nothing_to_lose {
            return Ok(());
        }
        if let Some((why, may_pass)) = &self.members_error {
            return Err(Refusal::Unknown(why.clone(), *may_pass));
        }
        let needed = quorum(self.voters.len());
        let healthy = connected(&staying);
        if healthy.len() >= needed {
            return Ok(());
        }
        let who = match &healthy[..] {
            [] => "no healthy voter".to_owned(),
            [one] => format!("only {one}"),
            [some @ .., last] => format!("only {} and {last}", some.join(", ")),
        };
        let voters = match self.voters.len() {
            1 => "1 voter".to_owned(),
            count => format!("{count} voters"),
        };
        let cut_off = self.cut_off(&staying);
        let others = staying.iter().filter_map(|voter| voter.complaint());
        let others: Vec<_> = others.chain(cut_off.iter().map(|(_, why)| why.clone())).collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!(" ({})", others.join("; ")),
        };
        let may_pass = !cut_off.is_empty() || staying.iter().any(|voter| voter.may_recover());
        // One that nobody can tell of may only be slow.
        let sick = |voter: &&&Voter| !voter.may_serve();
        let unknown = |voter: &&&Voter| voter.standing != Standing::Up;
        let first = staying.iter().find(sick).or_else(|| staying.iter().find(unknown));
        let first = first.copied().or_else(|| cut_off.first().map(|(voter, _)| *voter));
        let advice = match first {
            Some(voter) => format!("repair {} first, or", voter.name),
            None => String::new(),
        };
        let message =
            format!("{who} would be left of {voters}, quorum is {needed}{others}: {advice}");
        let message = message.trim_end().to_owned();
        Err(Refusal::Quorum(message, may_pass))
    }

    /// Whether the members can be changed now, which takes a quorum.
    fn has_quorum(&self) -> Result<(), Refusal> {
        if let Some((why, may_pass)) = &self.members_error {
            return Err(Refusal::Unknown(why.clone(), *may_pass));
        }
        if self.up() >= quorum(self.voters.len()) {
            return Ok(());
        }
        let complaints: Vec<_> = self.voters.iter().filter_map(Voter::complaint).collect();
        let may_pass = self.voters.iter().any(Voter::may_recover);
        Err(Refusal::NoQuorum(format!("{}{}", self.lost(), complaints.join("; ")), may_pass))
    }

    /// Whether the member `id` may leave the cluster for good. A voter may while those
    /// that remain are a quorum of their own, and still one when one more of them fails,
    /// where that was so before, or where it is healthy itself and another is not.
    pub fn may_remove(&self, id: &str) -> Result<(), Refusal> {
        self.has_quorum()?;
        let Some(voter) = self.voters.iter().find(|voter| voter.id == id) else { return Ok(()) };
        let (up, count) = (self.up(), self.voters.len() - 1);
        let others: Vec<_> = self.voters.iter().filter(|voter| voter.id != id).collect();
        let remain = connected(&others).len();
        if count == 0 {
            let why =
                "it is the last voter, and a cluster keeps one: `scripts/teardown NODES` ends it";
            return Err(Refusal::Failed(why.into()));
        }
        if remain < quorum(count) {
            let needed = quorum(count);
            let message =
                format!("{remain} of {count} voters would be healthy, quorum is {needed}");
            let may_pass = !self.cut_off(&others).is_empty();
            return Err(Refusal::Quorum(self.with_complaints(message, id) + ":", may_pass));
        }
        let could_bear_one = up > quorum(count + 1) || count == 1;
        let is_other_sick = up <= count;
        if voter.standing == Standing::Up
            && (could_bear_one || is_other_sick)
            && remain == quorum(count)
        {
            let voters = if count == 1 { "1 voter" } else { &format!("{count} voters") };
            let message = format!("{voters} would be left, of which none may fail");
            return Err(Refusal::Margin(self.with_complaints(message, id), false));
        }
        Ok(())
    }

    /// Whether a learner may be added: not while a voter is missing and no other may fail.
    pub fn may_add(&self) -> Result<(), Refusal> {
        self.may_add_without("")
    }

    /// The same once the member `id` is none any more.
    pub fn may_add_without(&self, id: &str) -> Result<(), Refusal> {
        self.has_quorum()?;
        let voters: Vec<_> = self.voters.iter().filter(|voter| voter.id != id).collect();
        let up = voters.iter().filter(|voter| voter.standing == Standing::Up).count();
        let count = voters.len();
        if up < count && up == quorum(count) {
            let are = if count == self.voters.len() { "are" } else { "would be" };
            let message = format!("{up} of {count} voters {are} healthy, no other may fail");
            let may_pass = voters.iter().any(|voter| voter.may_recover());
            return Err(Refusal::Margin(self.with_complaints(message, id), may_pass));
        }
        Ok(())
    }

    /// `message`, and what is wrong with the voters but for that with the ID `except`.
    fn with_complaints(&self, message: String, except: &str) -> String {
        let others: Vec<_> = self.voters.iter().filter(|voter| voter.id != except).collect();
        let cut_off = self.cut_off(&others).into_iter().map(|(_, why)| why);
        let complaints = others.iter().filter_map(|voter| voter.complaint());
        let complaints: Vec<_> = complaints.chain(cut_off).collect();
        match complaints.is_empty() {
            true => message,
            false => format!("{message} ({})", complaints.join("; ")),
        }
    }

    /// What is wrong with the voters, by their names.
    pub fn complaints(&self) -> BTreeMap<&str, String> {
        let all: Vec<_> = self.voters.iter().collect();
        let own = all.iter().filter_map(|voter| Some((voter.name.as_str(), voter.complaint()?)));
        let cut_off = self.cut_off(&all).into_iter().map(|(voter, why)| (voter.name.as_str(), why));
        cut_off.chain(own).collect()
    }

    /// Those of `voters` to whom another healthy one of them has no connection, and the complaint.
    fn cut_off<'a>(&self, voters: &[&'a Voter]) -> Vec<(&'a Voter, String)> {
        let healthy = || voters.iter().filter(|voter| voter.standing == Standing::Up);
        let pairs = healthy().flat_map(|from| healthy().map(move |to| (from, to)));
        let cut = pairs.filter(|(from, to)| from.misses(&to.id));
        cut.map(|(from, to)| {
            let member = self.members.iter().find(|member| member.id == to.id);
            let urls = member.map(|member| member.peer_urls.join(",")).unwrap_or_default();
            let why = format!("{}: {} has no connection to {urls}", to.name, from.name);
            (*to, why)
        })
        .collect()
    }

    /// Who of the healthy voters has no connection to the member `id`.
    pub(crate) fn misses(&self, id: &str) -> Option<&Voter> {
        self.voters.iter().find(|voter| voter.standing == Standing::Up && voter.misses(id))
    }

    /// How many voters are known to be healthy.
    fn up(&self) -> usize {
        self.voters.iter().filter(|voter| voter.standing == Standing::Up).count()
    }

    /// The voter of this view that is no member any more in `later`; absent while either has
    /// no member list.
    pub(crate) fn gone_from(&self, later: &Self) -> Option<&Voter> {
        if self.members_error.is_some() || later.members_error.is_some() {
            return None;
        }
        self.voters.iter().find(|old| later.voters.iter().all(|voter| voter.id != old.id))
    }

    /// Whether even all those of whom nothing is known cannot make a quorum.
    pub fn is_quorum_lost(&self) -> bool {
        self.may_have_quorum(false).is_none()
    }

    /// Those that may serve, where they may be a quorum. With `gone_for_good` voters on no node
    /// of the document, of whom nothing is known, never run again.
    pub fn may_have_quorum(&self, gone_for_good: bool) -> Option<Vec<&Voter>> {
        let is_gone =
            |voter: &Voter| gone_for_good && voter.node.is_none() && voter.standing != Standing::Up;
        let may_serve = self.voters.iter().filter(|voter| voter.may_serve() && !is_gone(voter));
        let may_serve: Vec<_> = may_serve.collect();
        (may_serve.len() >= quorum(self.voters.len())).then_some(may_serve)
    }

    /// Whether the voters on `nodes` alone are a quorum.
    pub fn are_quorum(&self, nodes: &[&str]) -> bool {
        let votes = nodes.iter().filter(|node| self.of_node(node).is_some()).count();
        votes >= quorum(self.voters.len())
    }

    /// The voter that is the node `name`.
    pub fn of_node(&self, name: &str) -> Option<&Voter> {
        self.voters.iter().find(|voter| voter.node.as_deref() == Some(name))
    }

    /// Why the cluster is not healthy, the node `except` aside.
    pub(crate) fn unhealthy(&self, except: &str) -> Result<(), Refusal> {
        let others = self.voters.iter().filter(|voter| voter.node.as_deref() != Some(except));
        let others: Vec<_> = others.collect();
        let sick = others.iter().filter_map(|voter| Some((voter, voter.complaint()?)));
        let sick: Vec<_> = sick.collect();
        let Some((_, why)) = sick.first() else {
            return match self.cut_off(&others).into_iter().next() {
                Some((_, why)) => Err(Refusal::Unhealthy(why, true)),
                None => Ok(()),
            };
        };
        let may_pass = sick.iter().any(|(voter, _)| voter.may_recover());
        Err(Refusal::Unhealthy(format!("{}{why}", self.lost()), may_pass))
    }

    /// Counts the voters where quorum is lost.
    pub(crate) fn lost(&self) -> String {
        let healthy = self.up();
        let (voters, needed) = (self.voters.len(), quorum(self.voters.len()));
        if self.members_error.is_some() || healthy >= needed {
            return String::new();
        }
        // Who has served a linearizable read has done so with a quorum.
        match healthy > 0 && !self.is_quorum_lost() {
            true => format!("{healthy} of {voters} voters known to be healthy: "),
            false => format!("quorum is lost, {healthy} of {voters} voters healthy: "),
        }
    }
}

/// The most healthy ones of `voters` that one of them is connected to, and itself: so many
/// follow it where it leads. Of several such groups, that of one whom the others reach.
fn connected<'a>(voters: &[&'a Voter]) -> Vec<&'a str> {
    let healthy = || voters.iter().filter(|voter| voter.standing == Standing::Up);
    let around = |leader: &&'a Voter| {
        let follow = healthy().filter(|v| !leader.misses(&v.id) && !v.misses(&leader.id));
        let names: Vec<_> = follow.map(|voter| voter.name.as_str()).collect();
        (names.len(), healthy().all(|voter| !voter.misses(&leader.id)), names)
    };
    let largest = healthy().rev().map(around).max_by_key(|(count, reached, _)| (*count, *reached));
    largest.map(|(.., names)| names).unwrap_or_default()
}

impl Voter {
    /// Whether it serves as far as anybody knows.
    pub fn may_serve(&self) -> bool {
        matches!(self.standing, Standing::Up | Standing::Unknown(_))
    }

    /// Whether it has no connection to the member `id`.
    fn misses(&self, id: &str) -> bool {
        self.connections.get(id) == Some(&false)
    }

    /// Whether it may be healthy a moment later, by itself.
    fn may_recover(&self) -> bool {
        match &self.standing {
            Standing::Up | Standing::Down => false,
            Standing::Sick(_) => true,
            Standing::Unknown(why) => !client::is_tls(why),
        }
    }

    /// What is wrong with it, after its name.
    pub(crate) fn complaint(&self) -> Option<String> {
        match &self.standing {
            Standing::Up => None,
            Standing::Down => Some(format!("{}: not running", self.name)),
            Standing::Sick(why) | Standing::Unknown(why) => Some(format!("{}: {why}", self.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A view of the voters a, b, c …, of which each letter says how it is.
    fn view(standings: &str) -> View {
        let voter = |(at, standing): (usize, char)| Voter {
            id: at.to_string(),
            name: format!("n{at}"),
            node: Some(format!("n{at}")),
            standing: match standing {
                'u' => Standing::Up,
                'd' => Standing::Down,
                's' => Standing::Sick("no leader".into()),
                _ => Standing::Unknown("ssh".into()),
            },
            is_leader: false,
            lag: None,
            connections: HashMap::new(),
        };
        let voters = standings.chars().enumerate().map(voter).collect();
        View {
            voters,
            members: Vec::new(),
            members_error: None,
            alarms: Vec::new(),
            downgrade: None,
        }
    }

    #[test]
    fn only_what_is_known_to_be_healthy_counts_as_quorum() {
        for (standings, going, may) in [
            ("uuu", "0", true),
            ("uuu", "01", false),
            ("uu?", "0", false),
            ("uu?", "2", true),
            ("uud", "0", false),
            ("uud", "2", true),
            ("uu", "0", false),
            ("u", "0", false),
            ("d", "0", true),
            ("uuuuu", "01", true),
            ("uuuu?", "01", false),
            // Quorum is lost for certain: who does not serve may be restarted.
            ("ssd", "0", true),
            ("ssd", "01", true),
            ("sss", "0", true),
            // It may be that the others serve each other.
            ("su?", "0", false),
            ("s??", "0", false),
            ("?dd", "0", false),
            ("udd", "0", false),
        ] {
            let names: Vec<_> = going.chars().map(|at| format!("n{at}")).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            assert_eq!(view(standings).may_go(&names).is_ok(), may, "{standings} {going}");
        }
    }

    #[test]
    fn a_member_is_where_the_cluster_knows_it() {
        let node = |address: &str| {
            let list = format!("host:{address}:name");
            let document = pipeline::parse(list.as_bytes()).unwrap().document;
            document.nodes.into_iter().next().unwrap()
        };
        let member = Member {
            peer_urls: vec!["https://192.168.1.101:2380".into(), "https://[fd00:0::1]:1".into()],
            client_urls: vec!["https://db.example:2379".into()],
            ..Member::default()
        };
        for (address, there) in [
            ("192.168.1.101", true),
            ("[fd00::1]", true),
            ("db.example", true),
            ("192.168.1.10", false),
            ("192.168.1.103", false),
        ] {
            assert_eq!(is_at(&member, &node(address)), there, "{address}");
        }
        // Whoever is on no node of the document is a voter all the same.
        let mut view = view("uud");
        view.voters[1].node = None;
        assert_eq!(view.may_go(&["n1"]), Ok(()));
        assert!(matches!(view.member_may_go("1"), Err(Refusal::Quorum(_, false))));
        view.voters[2].standing = Standing::Unknown("TLS: expired".into());
        assert!(matches!(view.member_may_go("1"), Err(Refusal::Quorum(_, false))));
        view.voters[2].standing = Standing::Unknown("ssh".into());
        assert!(matches!(view.member_may_go("1"), Err(Refusal::Quorum(_, true))));
    }

    #[test]
    fn a_member_leaves_only_where_the_others_could_bear_a_failure_if_all_could() {
        for (standings, refused) in [
            ("uuuuu", ""),
            ("uuuu", ""),
            // The one that is down leaves, or the learner, which has no vote.
            ("duu", ""),
            ("?uu", ""),
            ("duuu", ""),
            (
                "uuud",
                "3 voters would be left, of which none may fail (n3: not running): pass \
                 --lose-margin to proceed",
            ),
            (
                "uuu",
                "2 voters would be left, of which none may fail: pass --lose-margin to proceed",
            ),
            ("uu", "1 voter would be left, of which none may fail: pass --lose-margin to proceed"),
            (
                "uuuud",
                "4 voters would be left, of which none may fail (n4: not running): pass \
                 --lose-margin to proceed",
            ),
            (
                "uud",
                "1 of 2 voters would be healthy, quorum is 2 (n2: not running): pass --lose-quorum \
                 to proceed",
            ),
            (
                "u",
                "it is the last voter, and a cluster keeps one: `scripts/teardown NODES` ends it",
            ),
            (
                "sdu",
                "quorum is lost, 1 of 3 voters healthy: n0: no leader; n1: not running: the members \
                 can be changed only with quorum: start those that are stopped, or, where most of \
                 them are lost for good, have what a survivor has put on all nodes: \
                 `scripts/recover NODES FILE`",
            ),
        ] {
            let why = view(standings).may_remove("0").err().map(|why| why.to_string());
            assert_eq!(why.unwrap_or_default(), refused, "{standings}");
        }
        assert_eq!(view("uuu").may_remove("of a learner"), Ok(()));
    }

    #[test]
    fn a_learner_is_added_only_with_all_voters_or_a_margin() {
        for (standings, may) in [
            ("u", true),
            ("uu", true),
            ("uuu", true),
            ("uud", false),
            ("uuuud", true),
            ("udd", false),
        ] {
            assert_eq!(view(standings).may_add().is_ok(), may, "{standings}");
        }
        assert_eq!(
            view("duuu?").may_add_without("0").unwrap_err().to_string(),
            "3 of 4 voters would be healthy, no other may fail (n4: ssh): pass --lose-margin to \
             proceed"
        );
        assert_eq!(
            view("uu?").may_add().unwrap_err().to_string(),
            "2 of 3 voters are healthy, no other may fail (n2: ssh): pass --lose-margin to proceed"
        );
    }

    #[test]
    fn who_is_not_connected_is_no_quorum_together() {
        let mut three = view("uuu");
        let peer_urls = vec!["https://192.168.1.102:2380".into()];
        three.members.push(Member { id: "2".into(), peer_urls, ..Member::default() });
        three.voters[0].connections.insert("2".into(), false);
        assert_eq!(
            three.may_go(&["n1"]).unwrap_err().to_string(),
            "only n0 would be left of 3 voters, quorum is 2 (n2: n0 has no connection to \
             https://192.168.1.102:2380): repair n2 first, or pass --lose-quorum to proceed"
        );
        assert!(matches!(three.member_may_go("1"), Err(Refusal::Quorum(_, true))));
        assert_eq!(three.may_go(&["n2"]), Ok(()));
        let why = "n2: n0 has no connection to https://192.168.1.102:2380";
        assert_eq!(three.unhealthy("n2"), Ok(()));
        assert_eq!(three.unhealthy("n1"), Err(Refusal::Unhealthy(why.into(), true)));
        assert!(three.misses("2").is_some() && three.misses("0").is_none());
        assert!(matches!(three.may_remove("1"), Err(Refusal::Quorum(_, true))));
        // The others have a leader that reaches enough of them.
        let mut five = view("uuuuu");
        five.voters[0].connections.insert("1".into(), false);
        assert_eq!(five.may_go(&["n4"]), Ok(()));
        five.voters[2].connections.insert("3".into(), false);
        assert_eq!(five.may_go(&["n4"]), Ok(()));
        five.voters[0].connections.insert("2".into(), false);
        five.voters[1].connections.insert("3".into(), false);
        assert!(matches!(five.may_go(&["n4"]), Err(Refusal::Quorum(_, true))));
        // Of who does not serve anyway nothing is said twice.
        let mut sick = view("uus");
        sick.voters[0].connections.insert("2".into(), false);
        assert!(!sick.unhealthy("n0").unwrap_err().to_string().contains("connection"));
    }

    #[test]
    fn only_who_was_known_to_be_a_member_can_be_none_any_more() {
        let gone = |before: &View, now: &View| before.gone_from(now).map(|gone| gone.name.clone());
        assert_eq!(gone(&view("uu"), &view("uu")), None);
        assert_eq!(gone(&view("uu"), &view("u")).as_deref(), Some("n1"));
        let error = Some(("denied".into(), false));
        assert_eq!(gone(&view("uu"), &View { members_error: error.clone(), ..view("") }), None);
        let mut unknown = View { members_error: error, ..view("uu") };
        unknown.voters.iter_mut().for_each(|voter| voter.id.clear());
        assert_eq!(gone(&unknown, &view("uu")), None);
    }

    #[test]
    fn a_refusal_names_who_is_left_and_who_is_not_known() {
        let why = |view: View, going: &str| view.may_go(&[going]).unwrap_err().to_string();
        assert_eq!(
            why(view("uu?"), "n0"),
            "only n1 would be left of 3 voters, quorum is 2 (n2: ssh): repair n2 first, or pass \
             --lose-quorum to proceed"
        );
        assert_eq!(
            why(view("u"), "n0"),
            "no healthy voter would be left of 1 voter, quorum is 1: pass --lose-quorum to proceed"
        );
        let unknown = View { members_error: Some(("denied".into(), false)), ..view("uuu") };
        assert_eq!(why(unknown, "n0"), "cannot tell whether the cluster would keep quorum: denied");
    }
}
