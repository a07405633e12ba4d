//! `logs`.

use anyhow::Result;
use pipeline::{Run, terminal};
use remote::Fleet;

use crate::Unit;

const SCRIPT: &str = r#"
lines=$1
shift
for unit; do
    journalctl -u "$unit" -n 1 --no-pager > /dev/null || die "journalctl: reading the journal of $unit failed"
    # Newest first, so that its end is not waited for. That somebody connected, and said
    # nothing, is left out: etcd-preflight does so at each port.
    journalctl -u "$unit" -r --no-pager -o short-iso | grep -v 'rejected connection.*EOF' | head -n "$lines" | tac
done
"#;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many lines of each unit
    #[arg(long, short = 'n', value_name = "N", default_value = "20")]
    lines: u32,
}

/// The `logs` command: the lines go to stdout, each after its node's name,
/// and no document is written.
pub(crate) async fn logs(tool: &Unit, run: &Run, fleet: &Fleet, args: &Args) -> Result<()> {
    let lines = args.lines.to_string();
    let answers = fleet
        .each(run.nodes(), async |node, host| {
            let units = tool.wanted(node);
            let mut words = vec![lines.as_str()];
            words.extend(units.iter().map(|unit| unit.name.as_str()));
            host.run(SCRIPT, &words, &[]).await
        })
        .await;
    for (node, answer) in answers {
        match answer {
            Ok(lines) => {
                let lines = lines.iter().map(|line| format!("{}: {line}\n", node.name));
                terminal::print(&lines.collect::<String>())?;
            }
            Err(error) => run.report(error.on(&node.name)),
        }
    }
    Ok(())
}
