//! The table for people: checks down, nodes across.

use pipeline::{Code, Severity};

use crate::finding::Finding;

/// The heading of the column for what concerns the whole cluster.
const CLUSTER: &str = "CLUSTER";

/// One row for each of `checks`, one column for each of `nodes` and one for the cluster. A
/// cell has what was measured, in capitals what is wrong with it, and `-` where
/// nothing was.
pub(crate) fn render(
    nodes: &[&str],
    checks: &[Code],
    skipped: &[Code],
    findings: &[Finding],
) -> String {
    let columns = || nodes.iter().map(|node| Some(*node)).chain([None]);
    let header = columns().map(|node| node.unwrap_or(CLUSTER));
    let header: Vec<_> = std::iter::once("CHECK").chain(header).collect();
    let rows = checks.iter().map(|check| {
        let cells = columns().map(|node| {
            if skipped.contains(check) {
                return "skipped".to_owned();
            }
            let of_cell =
                |finding: &&Finding| finding.code == *check && finding.node.as_deref() == node;
            // The worst of what was found.
            let found = findings.iter().filter(of_cell).max_by_key(|finding| rank(finding));
            found.map_or("-".to_owned(), cell)
        });
        std::iter::once(check.name()).chain(cells).collect::<Vec<_>>()
    });
    pipeline::table(&header, rows, 0..0)
}

fn rank(finding: &Finding) -> u8 {
    match &finding.problem {
        Some((Severity::Error, _)) => 2,
        Some(_) => 1,
        None => 0,
    }
}

fn cell(finding: &Finding) -> String {
    let mark = ["", " WARNING", " ERROR"][usize::from(rank(finding))];
    format!("{}{mark}", finding.measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_down_and_nodes_across() {
        let findings = [
            Finding::ok(Code::Memory, "a", "8.1 GB"),
            Finding::ok(Code::Memory, "b", "1.0 GB").error_if(true, || "less".into()),
            Finding::cluster(Code::NoMargin, "0").warning_if(true, || "none".into()),
        ];
        let checks = [Code::Memory, Code::Clock, Code::NoMargin];
        let expected = "\
CHECK      a        b             CLUSTER
memory     8.1 GB   1.0 GB ERROR  -
clock      skipped  skipped       skipped
no-margin  -        -             0 WARNING
";
        assert_eq!(render(&["a", "b"], &checks, &[Code::Clock], &findings), expected);
    }
}
