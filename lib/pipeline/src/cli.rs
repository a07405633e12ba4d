//! Flags: the common ones, and the environment variable of each.

use std::ffi::OsString;

use clap::builder::FalseyValueParser;
use clap::{Arg, ArgAction, Args, Command, CommandFactory};

use crate::{Tool, exit};

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
    /// Work on these nodes only (may be repeated, or separated by commas)
    #[arg(long, global = true, value_name = "NODE", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Work on this many nodes at once
    #[arg(long, global = true, value_name = "N", default_value = "16",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,
    /// Print errors and warnings only
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The command line of a tool as it is parsed and documented: every long flag
/// but those [`IN_WORDS`] has an environment variable `ETCD_TOOLS_…`, and the help
/// ends with the exit codes.
pub fn command<T: Tool>() -> Command {
    let footer = format!(
        "Every flag that accepts no risk has an environment variable: ETCD_TOOLS_ and\n\
         its name in capitals, e.g. ETCD_TOOLS_KEEP_GOING=1 for --keep-going.\n\n{}",
        exit::TABLE
    );
    with_environment(<T as CommandFactory>::command()).after_help(footer).term_width(80)
}

fn with_environment(command: Command) -> Command {
    command.mut_args(environment_variable).mut_subcommands(with_environment)
}

fn environment_variable(arg: Arg) -> Arg {
    let Some(long) = arg.get_long() else { return arg };
    let asks = matches!(arg.get_action(), ArgAction::Help | ArgAction::Version);
    if asks || arg.get_help_heading() == Some(IN_WORDS) {
        return arg;
    }
    let name = OsString::from(format!("ETCD_TOOLS_{}", long.replace('-', "_").to_uppercase()));
    // A Makefile exports variables that it leaves empty: the same as not set.
    let arg = match std::env::var_os(&name) {
        Some(value) if value.is_empty() => arg,
        _ => arg.env(name).hide_env(true),
    };
    match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(FalseyValueParser::new()),
        _ => arg,
    }
}
