//! Flags: the common ones, and the environment variable of each.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory};

use crate::{Tool, exit, parse_duration};

/// The help heading of a flag by which a user accepts a risk in so many words. It
/// counts on the command line of that very run only and has no environment
/// variable, which may be left set from another time or for another cluster.
pub const IN_WORDS: &str = "Accepting a risk (on the command line only)";

/// The flags that every tool has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Change nothing; report what would change, and exit 1 if anything would
    #[arg(long, global = true)]
    pub check: bool,
    /// After an earlier stage failed, work on the nodes that it reported no errors for
    #[arg(long, global = true)]
    pub keep_going: bool,
    /// Treat unknown keys in the document as errors
    #[arg(long, global = true)]
    pub strict: bool,
    /// Work on these nodes only: their names, hostnames or addresses (may be repeated,
    /// or separated by commas)
    #[arg(long, global = true, value_name = "NODE", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Work on this many nodes at once
    #[arg(long, global = true, value_name = "N", default_value = "16",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,
    /// Where another run is at work, wait for its end for this long instead of giving up
    #[arg(long, global = true, value_name = "DURATION", default_value = "0s",
          value_parser = parse_duration)]
    pub lock_timeout: Duration,
    /// Print errors and warnings only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say each ssh command and request, and how long it took
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

/// The flags that mean one thing to one tool and another to the next, each with whether the
/// variable without the tool's name is read, too: what it says fits all of them.
const PER_TOOL: [(&str, bool); 3] = [("offline", false), ("output", true), ("timeout", false)];

/// The command line of a tool as it is parsed and documented: every long flag
/// but those [`IN_WORDS`] has an environment variable `ETCD_TOOLS_…`, and the help
/// ends with examples and, for the tool as a whole, the exit codes.
pub fn command<T: Tool>() -> Command {
    let footer = format!(
        "Every flag that accepts no risk has an environment variable: ETCD_TOOLS_ and\n\
         its name in capitals, e.g. ETCD_TOOLS_KEEP_GOING=1 for --keep-going. Of flags\n\
         that differ between the tools it has the tool's name: ETCD_TOOLS_UNIT_TIMEOUT.\n\n\
         Exit codes:\n{}",
        exit::TABLE
    );
    let command = with_examples::<T>(<T as CommandFactory>::command(), &footer);
    let global = command.get_arguments().filter(|arg| arg.is_global_set()).cloned();
    let global: Vec<_> = global.collect();
    let command = with_document::<T>(command, &global)
        .mut_arg("check", |check| check.visible_alias("dry-run").visible_short_alias('n'));
    let tool = command.get_name().trim_start_matches("etcd-").to_owned();
    with_environment(command, &tool).term_width(80)
}

/// The variables that are set and were once those of flags of `command`, and are not read
/// any more; with those to set instead.
pub(crate) fn retired(command: &Command) -> Vec<(String, String)> {
    let tool = command.get_name().trim_start_matches("etcd-");
    let retired = PER_TOOL.iter().filter(|(long, kept)| !kept && has_flag(command, long));
    let names = retired.map(|(long, _)| (variable("", long), variable(tool, long)));
    names.filter(|(old, _)| is_set(old)).collect()
}

/// The variable that `error` is about, where it gave the value of a flag that the command line
/// does not have.
pub(crate) fn variable_of(error: &clap::Error, name: &str) -> Option<String> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let long = flag.split_whitespace().next()?.strip_prefix("--")?;
    let own = |word: &str| word.strip_prefix("--").is_some_and(|word| word.starts_with(long));
    if std::env::args().any(|word| own(&word)) {
        return None;
    }
    let tool = name.trim_start_matches("etcd-");
    [variable(tool, long), variable("", long)].into_iter().find(|variable| is_set(variable))
}

fn has_flag(command: &Command, long: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_long() == Some(long))
        || command.get_subcommands().any(|command| has_flag(command, long))
}

/// The variable of the flag `long`, where it differs between the tools that of `tool`.
fn variable(tool: &str, long: &str) -> String {
    let words = ["ETCD_TOOLS", tool, long];
    let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
    words.join("_").replace('-', "_").to_uppercase()
}

/// Whether the variable `name` is set. A Makefile exports variables that it leaves empty:
/// the same as not set.
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Ends the help of each command with its examples, and that of the tool with `footer` too.
fn with_examples<T: Tool>(command: Command, footer: &str) -> Command {
    let mut end = String::new();
    for (what, line) in T::examples(command.get_name()) {
        let start = if end.is_empty() { "Examples:\n" } else { "" };
        end += &format!("{start}  {what}\n    {}\n", line.replace('\n', "\n    "));
    }
    if !footer.is_empty() {
        end = format!("{end}\n{footer}");
    }
    command.mut_subcommands(|command| with_examples::<T>(command, "")).after_help(end)
}

/// What [`Tool::without`] calls the argument that names the document.
const DOCUMENT: &str = "document";

/// Each command that reads a document takes its path as the last argument, and does not
/// show those of the tool's `global` flags that have no effect on it.
fn with_document<T: Tool>(command: Command, global: &[Arg]) -> Command {
    if command.has_subcommands() {
        return command.mut_subcommands(|command| with_document::<T>(command, global));
    }
    let without = T::without(command.get_name());
    let many = command.get_positionals().any(|arg| arg.get_action().takes_values() && is_many(arg));
    let command = match many || without.contains(&DOCUMENT) {
        true => command,
        false => command.arg(
            Arg::new(DOCUMENT)
                .value_name("DOCUMENT")
                .value_parser(clap::value_parser!(PathBuf))
                .help("The document or node list; without it, or with -, it is read from stdin"),
        ),
    };
    without.iter().filter(|id| **id != DOCUMENT).fold(command, |command, id| {
        let is = |command: &Command| command.get_arguments().any(|arg| arg.get_id() == id);
        match global.iter().find(|arg| arg.get_id() == id) {
            _ if is(&command) => command.mut_arg(id, |arg| arg.hide(true)),
            // One of the subcommand's own goes before that of all.
            Some(arg) => command.arg(arg.clone().global(false).hide(true)),
            None => command,
        }
    })
}

fn is_many(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|range| range.max_values() > 1)
        || matches!(arg.get_action(), ArgAction::Append)
}

/// The path of the document, where the command line has one that is not `-`.
pub(crate) fn document(mut matches: &ArgMatches) -> Option<&Path> {
    while let Some((_, command)) = matches.subcommand() {
        matches = command;
    }
    let path = matches.try_get_one::<PathBuf>(DOCUMENT).ok().flatten()?;
    Some(path.as_path()).filter(|path| *path != Path::new("-"))
}

fn with_environment(command: Command, tool: &str) -> Command {
    command
        .mut_args(|arg| environment_variable(arg, tool))
        .mut_subcommands(|command| with_environment(command, tool))
}

fn environment_variable(arg: Arg, tool: &str) -> Arg {
    let Some(long) = arg.get_long() else { return arg };
    let asks = matches!(arg.get_action(), ArgAction::Help | ArgAction::Version);
    // A document goes before the endpoints of a variable: whoever asks them reads it.
    if asks || long == "endpoints" || arg.get_help_heading() == Some(IN_WORDS) {
        return arg;
    }
    let plain = variable("", long);
    let name = match PER_TOOL.iter().find(|(flag, _)| *flag == long) {
        None => plain,
        Some((_, kept)) => {
            let own = variable(tool, long);
            if *kept && is_set(&plain) && !is_set(&own) { plain } else { own }
        }
    };
    let arg = match std::env::var_os(&name) {
        Some(value) if value.is_empty() => arg,
        _ => arg.env(OsString::from(name)).hide_env(true),
    };
    match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(FalseyValueParser::new()),
        _ => arg,
    }
}
