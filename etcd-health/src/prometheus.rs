//! Metrics in the text format of Prometheus, as node_exporter's textfile
//! collector reads them.

use std::fmt::Write;
use std::time::SystemTime;

use client::ClusterProbe;
use pipeline::document::Endpoint;
use pipeline::terminal;

/// The metrics of one probe, healthy or not.
pub(crate) fn render(probe: &ClusterProbe) -> String {
    let health = &probe.health;
    let mut text = String::new();
    let mut family = |name: &str, help: &str, samples: Vec<Sample>| {
        if samples.is_empty() {
            return;
        }
        let _ = writeln!(text, "# HELP etcd_tools_{name} {help}\n# TYPE etcd_tools_{name} gauge");
        for (labels, value) in samples {
            let _ = writeln!(text, "etcd_tools_{name}{} {value}", braced(&labels));
        }
    };
    family(
        "cluster_healthy",
        "Whether every endpoint and the cluster as a whole are healthy.",
        vec![(Vec::new(), health.healthy.into())],
    );
    let members = u64::try_from(health.members.len()).ok().filter(|count| *count > 0);
    family(
        "cluster_members",
        "The number of members.",
        members.map(|count| (Vec::new(), count)).into_iter().collect(),
    );
    let alarms = probe.alarms.iter().map(|alarm| {
        let labels = vec![("member_id", alarm.member_id.clone()), ("alarm", alarm.alarm.clone())];
        (labels, 1)
    });
    family("alarm", "An alarm that a member has raised.", alarms.collect());
    let infos = health.endpoints.iter().filter_map(info);
    family("endpoint_info", "What an endpoint reports of itself.", infos.collect());
    for (name, help, value) in ENDPOINT_GAUGES {
        let sample = |endpoint| value(endpoint).map(|value| (labels(endpoint), value));
        family(name, help, health.endpoints.iter().filter_map(sample).collect());
    }
    text
}

type Labels = Vec<(&'static str, String)>;
type Sample = (Labels, u64);
type Gauge = (&'static str, &'static str, fn(&Endpoint) -> Option<u64>);

const ENDPOINT_GAUGES: [Gauge; 12] = [
    ("endpoint_healthy", "Whether the endpoint served a linearizable read.", |e| {
        Some(e.healthy.into())
    }),
    ("endpoint_is_leader", "Whether the endpoint is the leader.", |e| {
        e.member_id.as_ref().map(|_| e.is_leader.into())
    }),
    ("endpoint_is_learner", "Whether the endpoint is a learner.", |e| {
        e.member_id.as_ref().map(|_| e.is_learner.into())
    }),
    ("endpoint_db_size_bytes", "The size of the database on the disk.", |e| e.db_size_bytes),
    ("endpoint_db_size_in_use_bytes", "What of the database is in use.", |e| {
        e.db_size_in_use_bytes
    }),
    ("endpoint_db_quota_bytes", "The size at which the member stops taking writes.", |e| {
        e.db_quota_bytes
    }),
    ("endpoint_revision", "The revision of the member's data.", |e| e.revision),
    ("endpoint_raft_applied_index", "The raft index that is applied to the data.", |e| {
        e.raft_applied_index
    }),
    ("endpoint_raft_term", "The raft term.", |e| e.raft_term),
    ("endpoint_raft_index", "The raft index that is committed.", |e| e.raft_index),
    ("endpoint_raft_lag_entries", "How far behind the highest raft index.", |e| e.raft_lag),
    (
        "endpoint_certificate_not_after_seconds",
        "When the certificate that the endpoint presented expires, in Unix time.",
        |e| {
            let time = pipeline::parse_rfc3339(e.certificate_not_after.as_deref()?)?;
            time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|time| time.as_secs())
        },
    ),
];

/// Only what is known of an endpoint that does not answer, too.
fn labels(endpoint: &Endpoint) -> Labels {
    let node = endpoint.node.iter().map(|node| ("node", node.clone()));
    [("endpoint", endpoint.endpoint.clone())].into_iter().chain(node).collect()
}

fn info(endpoint: &Endpoint) -> Option<Sample> {
    let mut labels = labels(endpoint);
    labels.push(("member_id", endpoint.member_id.clone()?));
    labels.push(("cluster_id", endpoint.cluster_id.clone()?));
    labels.push(("version", endpoint.version.clone()?));
    Some((labels, 1))
}

fn braced(labels: &Labels) -> String {
    let one = |(name, value): &(&str, String)| format!("{name}=\"{}\"", escape(value));
    match labels.iter().map(one).collect::<Vec<_>>().join(",") {
        none if none.is_empty() => none,
        some => format!("{{{some}}}"),
    }
}

fn escape(value: &str) -> String {
    terminal::line(value).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use pipeline::document::Health;

    use super::*;

    #[test]
    fn an_endpoint_that_does_not_answer_is_still_a_sample() {
        let health = Health {
            endpoints: vec![Endpoint {
                endpoint: "https://a:2379".into(),
                node: Some("a\"b\\c\nd".into()),
                ..Endpoint::default()
            }],
            ..Health::default()
        };
        let probe = ClusterProbe { health, unreachable: true, ..ClusterProbe::default() };
        assert_eq!(
            render(&probe),
            "\
# HELP etcd_tools_cluster_healthy Whether every endpoint and the cluster as a whole are healthy.
# TYPE etcd_tools_cluster_healthy gauge
etcd_tools_cluster_healthy 0
# HELP etcd_tools_endpoint_healthy Whether the endpoint served a linearizable read.
# TYPE etcd_tools_endpoint_healthy gauge
etcd_tools_endpoint_healthy{endpoint=\"https://a:2379\",node=\"a\\\"b\\\\c\\\\nd\"} 0
"
        );
    }
}
