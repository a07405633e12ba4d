//! What lies between the nodes: names, ports and the round trip, each way of each pair.

use std::net::IpAddr;

use pipeline::document::{Node, NodeSettings};
use pipeline::{Code, Document, Severity};
use remote::{Error, Query};

use crate::Seen;
use crate::facts::unexpected;
use crate::finding::Finding;

/// Connects to other nodes.
const SCRIPT: &str = include_str!("peers.sh");

/// A round trip of more than this is named, in milliseconds.
const ROUND_TRIP_MS: f64 = 10.0;

/// The election timeout is to be at least so many round trips
/// (<https://etcd.io/docs/latest/tuning/>, as the heartbeat interval of one at least).
const ELECTION_ROUND_TRIPS: f64 = 10.0;

/// What came of one attempt to reach another node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attempt {
    /// The place of the other node in the document.
    pub to: usize,
    pub port: u16,
    pub outcome: Outcome,
    /// The shortest round trip that was measured, in milliseconds.
    pub round_trip_ms: Option<f64>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A connection, or a refusal of the host itself where nothing listens yet.
    Answered,
    /// Nothing at all.
    Silent,
    /// Somebody between the two, or this host, says that there is no way.
    Blocked(String),
    /// The name of the other node means nothing here.
    Unresolved,
    /// This host has no program to ask with.
    NotChecked,
}

/// Has `node` connect to all others; the answer is for [`read`].
pub(crate) fn query(document: &Document, node: &Node) -> Query {
    let settings = document.settings(node);
    let mut input = format!("{} {}\n", settings.client_port, settings.peer_port);
    for other in others(document, node) {
        input += &format!("{}\n", other.address);
    }
    Query { script: SCRIPT, input: input.into_bytes() }
}

fn others<'a>(document: &'a Document, node: &Node) -> impl Iterator<Item = &'a Node> {
    let name = node.name.clone();
    document.nodes.iter().filter(move |other| other.name != name)
}

/// What came of each attempt; `to` counts the other nodes.
pub(crate) fn read(answer: &[String]) -> Result<Vec<Attempt>, Error> {
    let read = |line: &String| attempt(line).ok_or_else(|| unexpected(line));
    let mut attempts: Vec<_> = answer.iter().map(read).collect::<Result<_, _>>()?;
    // They came as they ended.
    attempts.sort_by_key(|attempt| (attempt.to, attempt.port));
    Ok(attempts)
}

fn attempt(line: &str) -> Option<Attempt> {
    let fields: Vec<_> = line.split('\t').collect();
    let [to, port, what, took, why] = fields[..] else { return None };
    let outcome = match what {
        "open" | "refused" => Outcome::Answered,
        "silent" => Outcome::Silent,
        "blocked" => Outcome::Blocked(if why.is_empty() { "no way there" } else { why }.into()),
        "unresolved" => Outcome::Unresolved,
        "" => Outcome::NotChecked,
        _ => return None,
    };
    let answered = outcome == Outcome::Answered;
    Some(Attempt {
        to: to.parse().ok()?,
        port: port.parse().unwrap_or_default(),
        outcome,
        round_trip_ms: took.parse().ok().filter(|_| answered).map(|seconds: f64| seconds * 1000.0),
    })
}

/// The nodes of which `seen` has heard nothing, or that there is no way to them.
pub(crate) fn silent<'a>(
    document: &'a Document,
    seen: &'a Seen<'_>,
) -> impl Iterator<Item = &'a Node> {
    let others: Vec<_> = others(document, seen.node).collect();
    let is_silent =
        |attempt: &&Attempt| matches!(attempt.outcome, Outcome::Silent | Outcome::Blocked(_));
    seen.attempts
        .iter()
        .filter(is_silent)
        .filter_map(move |attempt| others.get(attempt.to).copied())
}

/// Judges what `seen` found of the way to the others; `reached` says whether a node is one
/// that answers at all, `is_down` of one that was left out whether its host does not.
pub(crate) fn judge(
    document: &Document,
    seen: &Seen,
    reached: impl Fn(&Node) -> bool,
    is_down: impl Fn(&Node) -> bool,
) -> Vec<Finding> {
    let others: Vec<_> = others(document, seen.node).collect();
    let settings = document.settings(seen.node);
    let attempts: Vec<(&Node, &Attempt)> = seen
        .attempts
        .iter()
        .filter_map(|attempt| Some((*others.get(attempt.to)?, attempt)))
        .filter(|(other, _)| reached(other))
        .collect();
    if attempts.is_empty() {
        return Vec::new();
    }
    let name = &seen.node.name;
    let mut findings = vec![names(name, &attempts)];
    if attempts.iter().any(|(_, attempt)| attempt.outcome == Outcome::NotChecked) {
        let why = "not checked: the host has neither bash nor curl to connect with";
        let mut finding = Finding::ok(Code::PortBlocked, name, "not checked");
        finding.problem = Some((Severity::Info, why.to_owned()));
        findings.push(finding);
        return findings;
    }
    findings.extend(ports(seen.node, &settings, &attempts, is_down));
    findings.extend(round_trip(name, &settings, &attempts));
    findings
}

/// Names of other nodes that mean nothing on this one.
fn names(name: &str, attempts: &[(&Node, &Attempt)]) -> Finding {
    let unknown = attempts.iter().find(|(_, attempt)| attempt.outcome == Outcome::Unresolved);
    let names = attempts.iter().any(|(other, _)| other.address.parse::<IpAddr>().is_err());
    let finding = Finding::ok(Code::NameResolution, name, if names { "yes" } else { "-" });
    let Some((other, _)) = unknown else { return finding };
    Finding { measured: "no".into(), ..finding }.error_if(true, || {
        format!(
            "the name {} of {} does not resolve here: add it to DNS or /etc/hosts",
            other.address, other.name
        )
    })
}

/// Ports of other nodes that this one does not reach.
fn ports(
    node: &Node,
    settings: &NodeSettings,
    attempts: &[(&Node, &Attempt)],
    is_down: impl Fn(&Node) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (other, attempt) in attempts {
        let Attempt { port, outcome, .. } = attempt;
        let why = match outcome {
            Outcome::Silent => "no answer within 3 s",
            Outcome::Blocked(why) => why,
            _ => continue,
        };
        let finding = Finding::ok(Code::PortBlocked, &node.name, port.to_string());
        let what = format!("port {port} of {} ({}): {why}", other.name, other.address);
        if is_down(other) {
            // What is off says nothing of what lies between.
            let why = "its host does not answer over ssh either: bring it back";
            findings.push(finding.warning_if(true, || format!("{what}: {why}")));
            continue;
        }
        let message = format!("{what}: allow connections from {} in the firewalls", node.address);
        // Members speak to each other over the peer port only.
        findings.push(match *port == settings.peer_port {
            true => finding.error_if(true, || message),
            false => finding.warning_if(true, || message),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok(Code::PortBlocked, &node.name, "open"));
    }
    findings
}

/// The longest round trip, beside what etcd can do with it.
fn round_trip(
    name: &str,
    settings: &NodeSettings,
    attempts: &[(&Node, &Attempt)],
) -> Option<Finding> {
    // A node answers on both ports: what is longer is the work of the hosts.
    let shortest = |other: &Node| {
        let of_node = attempts.iter().filter(|(node, _)| node.name == other.name);
        of_node.filter_map(|(_, attempt)| attempt.round_trip_ms).min_by(f64::total_cmp)
    };
    let trips = attempts.iter().filter_map(|(other, _)| Some((*other, shortest(other)?)));
    let (other, took) = trips.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let says = format!("the round trip to {} takes {took:.0} ms", other.name);
    let (heartbeat, election) = (settings.heartbeat_interval_ms, settings.election_timeout_ms);
    let finding = Finding::ok(Code::RoundTrip, name, format!("{took:.1} ms"));
    Some(
        finding
            .error_if(took * ELECTION_ROUND_TRIPS > f64::from(election), || {
                format!(
                    "{says}, more than a tenth of electionTimeoutMs, {election}: elections will \
                     not end: set heartbeatIntervalMs to {:.0} and electionTimeoutMs to {:.0}, or \
                     move the node nearer",
                    took.ceil(),
                    (took * ELECTION_ROUND_TRIPS).ceil()
                )
            })
            .warning_if(took > f64::from(heartbeat), || {
                format!("{says}, more than heartbeatIntervalMs, {heartbeat}: raise it to that")
            })
            .warning_if(took > ROUND_TRIP_MS, || {
                format!(
                    "{says}, more than {ROUND_TRIP_MS:.0} ms: every write waits for it: put the \
                     nodes nearer to each other"
                )
            }),
    )
}
