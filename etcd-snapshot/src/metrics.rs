//! Metrics of the last good snapshot, as node_exporter's textfile collector reads them.

use std::fmt::Write;

/// The last good snapshot. What is not known of it has no metric.
pub(crate) struct Metrics {
    /// When it was taken, in seconds since 1970.
    pub taken_at: i64,
    pub size_bytes: u64,
    pub revision: Option<u64>,
    pub total_keys: Option<u64>,
}

impl Metrics {
    /// The text of the file.
    pub(crate) fn render(&self) -> String {
        let taken_at = u64::try_from(self.taken_at).ok();
        let families = [
            ("timestamp_seconds", "When the last good snapshot was taken.", taken_at),
            ("size_bytes", "The size of its file.", Some(self.size_bytes)),
            ("revision", "The newest revision in it.", self.revision),
            ("keys", "How many keys it holds.", self.total_keys),
        ];
        let mut text = String::new();
        for (name, help, value) in families {
            let Some(value) = value else { continue };
            let name = format!("etcd_tools_snapshot_{name}");
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut metrics = Metrics {
            taken_at: 1_795_898_107,
            size_bytes: 20_512,
            revision: Some(7),
            total_keys: Some(3),
        };
        let all = "\
# HELP etcd_tools_snapshot_timestamp_seconds When the last good snapshot was taken.
# TYPE etcd_tools_snapshot_timestamp_seconds gauge
etcd_tools_snapshot_timestamp_seconds 1795898107
# HELP etcd_tools_snapshot_size_bytes The size of its file.
# TYPE etcd_tools_snapshot_size_bytes gauge
etcd_tools_snapshot_size_bytes 20512
# HELP etcd_tools_snapshot_revision The newest revision in it.
# TYPE etcd_tools_snapshot_revision gauge
etcd_tools_snapshot_revision 7
# HELP etcd_tools_snapshot_keys How many keys it holds.
# TYPE etcd_tools_snapshot_keys gauge
etcd_tools_snapshot_keys 3
";
        assert_eq!(metrics.render(), all);
        (metrics.revision, metrics.total_keys) = (None, None);
        assert_eq!(metrics.render().lines().count(), 6);
    }
}
