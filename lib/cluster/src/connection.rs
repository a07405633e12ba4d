//! Which members have a connection to which others.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use client::Endpoint;
use pipeline::document::Member;
use remote::{Error, Host, fan_out};
use tokio::time::{sleep, timeout};

use crate::guard::{Cluster, PROBE, Standing, View, Voter};

/// How often, and how far apart, one looks for a connection: etcd dials again every 100 ms.
const LOOKS: usize = 5;
const INTERVAL: Duration = Duration::from_millis(200);

/// Says what systemd has of the unit `$1`, and what there is of the port `$2` (hex) of the host,
/// as the kernel has it.
const LOOK: &str = r#"# Says whether a member is being stopped, which sockets listen at its port, and what was accepted
# there.
systemctl show "$1" -p ActiveState
grep -h ":$2 [0-9A-F]*:[0-9A-F]* 0[1A] " /proc/net/tcp /proc/net/tcp6 2>/dev/null || :"#;

/// How often what was sent may be sent again, within 3 s, before a connection is one in name only.
const RETRANSMITS: u32 = 4;

impl Cluster<'_> {
    /// Sets which connections the healthy voters of `view` have, and that none is healthy whose
    /// unit is being stopped: it may end at any time.
    pub(crate) async fn look_at_hosts(&self, view: &mut View) {
        let members = view.members.clone();
        for look in 1..=LOOKS {
            let seen = self.seen_by_hosts(&members, view).await;
            for (member, seen) in &seen {
                let mut voters = view.voters.iter_mut();
                let stopped = voters.find(|voter| voter.id == member.id && seen.is_stopping);
                if let Some(voter) = stopped {
                    voter.standing = Standing::Sick(format!("{} is stopping", seen.unit));
                }
            }
            let connections = self.connections(view, &seen).await;
            view.voters.iter_mut().zip(connections).for_each(|(voter, of)| voter.connections = of);
            let mut up = view.voters.iter().filter(|voter| voter.standing == Standing::Up);
            if look == LOOKS || up.all(|voter| view.misses(&voter.id).is_none()) {
                break;
            }
            sleep(INTERVAL).await;
        }
    }

    /// What the hosts of those of `members` know that are healthy or learners.
    async fn seen_by_hosts<'m>(
        &self,
        members: &'m [Member],
        view: &View,
    ) -> Vec<(&'m Member, Seen)> {
        let is_up = |voter: &&Voter| voter.standing == Standing::Up;
        let is_asked = |member: &&Member| {
            member.is_learner || view.voters.iter().filter(is_up).any(|v| v.id == member.id)
        };
        let asked = members.iter().filter(is_asked).collect();
        let seen = fan_out(self.fleet.jobs(), asked, async |member: &'m Member| {
            let node = self.node_of(member)?;
            let unit = self.unit_of(node);
            let look = self.fleet.on(node, async |_, host| look(&host, &unit, member).await);
            Some((member, timeout(PROBE, look).await.ok()?.ok()?))
        });
        seen.await.into_iter().flatten().collect()
    }

    /// The connections of each voter of `view`, of which the hosts have `seen` some.
    async fn connections(
        &self,
        view: &View,
        seen: &[(&Member, Seen)],
    ) -> Vec<HashMap<String, bool>> {
        let endpoint = |voter: &Voter| match voter.standing {
            Standing::Up => self.endpoint_to(voter, view),
            _ => None,
        };
        let endpoints = view.voters.iter().map(endpoint).collect();
        let say = async |endpoint: Option<Endpoint>| match endpoint {
            Some(endpoint) => endpoint.connections().await.unwrap_or_default(),
            None => HashMap::new(),
        };
        let mut all = fan_out(self.fleet.jobs(), endpoints, say).await;
        // They say to be connected as well from when they are dialled until they fail to dial
        // themselves: the host of the other knows who got through. An address that is no
        // member's may be of any of them, or of a proxy between.
        let known: BTreeSet<_> = view.members.iter().flat_map(ips).collect();
        for (member, Seen { dialled_by, .. }) in seen {
            let Some(by) = dialled_by.as_ref().filter(|by| by.is_subset(&known)) else { continue };
            for (voter, of) in view.voters.iter().zip(&mut all) {
                let mut own = view.members.iter().filter(|member| member.id == voter.id);
                let is_seen = own.any(|own| ips(own).iter().any(|ip| by.contains(ip)));
                if let Some(connected) = of.get_mut(&member.id) {
                    *connected &= is_seen;
                }
            }
        }
        all
    }
}

/// What the host of a member knows of it.
struct Seen {
    /// Its unit.
    unit: String,
    /// Whether systemd is stopping it.
    is_stopping: bool,
    /// The addresses that hold connections to the ports of its peer URLs, and get through.
    /// `None` where nothing listens there: it runs in a network namespace of its own.
    dialled_by: Option<BTreeSet<IpAddr>>,
}

/// The addresses of a member's peer URLs.
fn ips(member: &Member) -> Vec<IpAddr> {
    member.peer_urls.iter().filter_map(|url| etcd::url::ip(url)).collect()
}

/// Asks `host` for `member`, which `unit` runs. etcd dials each of its peers (`streamReader` in
/// its server/etcdserver/api/rafthttp/stream.go), and holds on to what it has dialled for as long
/// as the kernel does.
async fn look(host: &Host, unit: &str, member: &Member) -> Result<Seen, Error> {
    let mut is_stopping = false;
    let mut all: Option<BTreeSet<IpAddr>> = None;
    let mut stuck = BTreeSet::new();
    for url in &member.peer_urls {
        let Some((_, _, port)) = etcd::url::parts(url) else { continue };
        let Ok(port) = port.parse::<u16>() else { continue };
        for line in host.run(LOOK, &[unit, &format!("{port:04X}")], &[]).await? {
            is_stopping |= line == "ActiveState=deactivating";
            let Some((remote, socket)) = socket(&line) else { continue };
            let all = all.get_or_insert_default();
            match socket {
                Socket::Listens => {}
                Socket::Open => drop(all.insert(remote)),
                Socket::Stuck => drop(stuck.insert(remote)),
            }
        }
    }
    let dialled_by = all.map(|all| all.difference(&stuck).copied().collect());
    Ok(Seen { unit: unit.to_owned(), is_stopping, dialled_by })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Socket {
    Listens,
    Open,
    /// Nothing that was sent arrives.
    Stuck,
}

/// The address at the other end of a line of /proc/net/tcp or tcp6, and what the socket does.
/// An address has 32 bits at a time, each with its lowest byte first.
fn socket(line: &str) -> Option<(IpAddr, Socket)> {
    let mut fields = line.split_whitespace().skip(2);
    let (remote, state) = (fields.next()?, fields.next()?);
    // After the queues and the timer; where its own host sends nothing it is the probes that count.
    let retransmits = u32::from_str_radix(fields.nth(2)?, 16).ok()?;
    let probes: u32 = fields.nth(1)?.parse().ok()?;
    let mut bytes = hex::decode(remote.split(':').next()?).ok()?;
    bytes.chunks_mut(4).for_each(<[u8]>::reverse);
    let v4 = || Some(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..]).ok()?).into());
    let v6 = || Some(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?).into());
    let remote: IpAddr = v4().or_else(v6)?;
    let socket = match state {
        "0A" => Socket::Listens,
        _ if retransmits + probes >= RETRANSMITS => Socket::Stuck,
        _ => Socket::Open,
    };
    Some((remote.to_canonical(), socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_the_kernel() {
        let rest = "00000000:00000000 00:00000000 00000000   997        0 1";
        let sent_again = "000003DE:00000000 01:00000A2C 00000004   997        0 1";
        let probed = "000003DE:00000000 04:000000E5 00000000   995        6 48950458 3";
        for (line, rest, expected) in [
            ("6501A8C0:094C 6401A8C0:A1B2 01", rest, Some(("192.168.1.100", Socket::Open))),
            ("6501A8C0:094C 6401A8C0:A1B2 01", sent_again, Some(("192.168.1.100", Socket::Stuck))),
            ("6501A8C0:094C 6401A8C0:A1B2 01", probed, Some(("192.168.1.100", Socket::Stuck))),
            (
                "0000000000000000FFFF00006501A8C0:094C 0000000000000000FFFF00006401A8C0:A1B2 01",
                rest,
                Some(("192.168.1.100", Socket::Open)),
            ),
            (
                "000000FD000000000000000001000000:094C 000000FD000000000000000002000000:A1B2 01",
                rest,
                Some(("fd00::2", Socket::Open)),
            ),
            ("6501A8C0:094C 00000000:0000 0A", rest, Some(("0.0.0.0", Socket::Listens))),
            ("6501A8C0:094C", "", None),
            ("6501A8C0:094C 6501A8:A1B2 01", rest, None),
        ] {
            let expected = expected.map(|(ip, socket)| (ip.parse().unwrap(), socket));
            assert_eq!(socket(&format!("   0: {line} {rest}")), expected, "{line}");
        }
    }
}
