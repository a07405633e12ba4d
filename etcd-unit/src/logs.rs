//! `logs`.

use std::cell::RefCell;

use anyhow::Result;
use futures::future::try_join_all;
use pipeline::{Run, terminal};
use remote::Fleet;

use crate::Unit;

/// Its arguments: how many lines (`all`: no limit), since when (empty: ever), what to leave
/// out (empty: nothing), `-q` or nothing for journalctl, whether to follow (empty: no), and
/// the units.
const SCRIPT: &str = r#"
lines=$1 since=$2 noise=$3 quiet=$4 follow=$5
shift 5
# Older ones say first what they have of any unit.
head='^-- (Logs begin|Journal begins) at '
hide() { grep --line-buffered -v -E "$head${noise:+|$noise}"; }
first() { if [ "$lines" = all ]; then cat; else head -n "$lines"; fi; }
journal() { journalctl --no-pager -o short-iso $quiet ${since:+"--since=$since"} "$@"; }
for unit; do
    why=$(journal -n 1 -u "$unit" 2>&1 > /dev/null) || die "journalctl: $(printf '%s\n' "$why" | tail -n 1)"
done
# Newest first, so that its end is not waited for.
newest() { journal -r "$@" | hide | first | tac; }
if [ ! "$follow" ]; then
    for unit; do newest -u "$unit"; done
else
    for unit; do
        shift
        set -- "$@" -u "$unit"
    done
    exec 3<&0
    # The operator's side is gone when stdin ends; without this journalctl would stay until
    # there is something to say.
    { cat <&3 > /dev/null; kill -s TERM 0; } &
    cursor=$(journalctl --no-pager -q -o cat -n 1 --show-cursor "$@" | sed -n 's/^-- cursor: //p')
    if [ "$cursor" ]; then
        newest "--cursor=$cursor" "$@"
        set -- "--after-cursor=$cursor" "$@"
    fi
    journalctl -f -q -n all -o short-iso "$@" | hide
    die "journalctl has ended"
fi
"#;

/// What etcd logs of each look at it, at its ports and through its gateway; none of it is
/// anybody's fault.
const NOISE: &str = "rejected connection.*EOF\
    |ignoring common name in gRPC-gateway proxy request\
    |CommonName of client sending a request against gateway";

/// How many lines are shown unless the command line says so, or since when.
const LINES: &str = "20";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many lines of each unit [default: 20; with --since all]
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<u32>,
    /// Only lines since this time, as journalctl takes it: e.g. -1h, today,
    /// "2026-07-01 12:00"
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Go on with what comes, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Show also what etcd logs of every look at it: connections without a request, and
    /// common names of certificates that its gateway ignores
    #[arg(long)]
    all: bool,
}

/// The `logs` command: the lines go to stdout, each after its node's name,
/// and no document is written.
pub(crate) async fn logs(tool: &Unit, run: &Run, fleet: &Fleet, args: &Args) -> Result<()> {
    let default = if args.since.is_some() { "all" } else { LINES };
    let lines = args.lines.map_or(default.to_owned(), |lines| lines.to_string());
    let noise = if args.all { "" } else { NOISE };
    let quiet = if run.common.quiet { "-q" } else { "" };
    let follow = if args.follow { "follow" } else { "" };
    let since = args.since.as_deref().unwrap_or_default();
    let words = |units: &[String]| -> Vec<String> {
        let options = [&lines, since, noise, quiet, follow].map(str::to_owned);
        options.into_iter().chain(units.iter().cloned()).collect()
    };
    let units = |node| tool.wanted(node).into_iter().map(|unit| unit.name).collect::<Vec<_>>();
    if args.follow {
        let each = run.nodes().into_iter().map(async |node| {
            let words = words(&units(node));
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let printed = RefCell::new(Ok(()));
            let print = |line: &str| {
                let one = terminal::print(&format!("{}: {line}\n", node.name));
                *printed.borrow_mut() = one;
                printed.borrow().is_ok()
            };
            // The others go on.
            if let Err(error) =
                fleet.on(node, async |_, host| host.follow(SCRIPT, &words, &print).await).await
            {
                run.report(error.on(&node.name));
            }
            printed.into_inner()
        });
        try_join_all(each).await?;
        return Ok(());
    }
    let answers = fleet
        .each(run.nodes(), async |node, host| {
            let words = words(&units(node));
            host.run(SCRIPT, &words.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await
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
