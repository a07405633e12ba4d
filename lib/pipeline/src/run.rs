//! What makes each `main.rs` one call.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard};

use clap::ArgMatches;
use clap::error::ErrorKind;
use clap::parser::ValueSource;

use crate::document::{Document, Node};
use crate::original::Original;
use crate::read::{self, Input};
use crate::{
    Code, Common, Error, Exit, Severity, ToolResult, cli, results, secrets, terminal, validate,
};

/// Command lines, each after what it is for. A line that goes on ends in a backslash.
pub type Examples = &'static [(&'static str, &'static str)];

/// A tool: its command line, and the one job it does on a document.
pub trait Tool: clap::Parser {
    /// The flags that every tool has.
    fn common(&self) -> &Common;

    /// Command lines that a user of the (sub)command `command` would type.
    fn examples(command: &str) -> Examples;

    /// Whether the tool reads stdin at all. Default: yes.
    fn reads_stdin(&self) -> bool {
        true
    }

    /// Whether the tool can do its job when stdin holds no document. Default: no.
    fn works_without_document(&self) -> bool {
        !self.reads_stdin()
    }

    /// Whether the document is what the tool writes to stdout. Default: yes.
    fn writes_document(&self) -> bool {
        true
    }

    /// The flags that have no effect on the (sub)command `command`, by the names of their
    /// fields, and `document` where it never reads one: its help does not show them.
    /// Default: none.
    fn without(command: &str) -> &'static [&'static str] {
        let _ = command;
        &[]
    }

    /// The document to read, where `last` is the one that the last argument names: for a
    /// tool of which another argument may be the document, too. Default: `last`.
    fn document<'a>(&'a self, last: Option<&'a Path>) -> Result<Option<&'a Path>, Error> {
        Ok(last)
    }

    /// Does the job. What it did on each node it gives to [`Run::report`]; an
    /// error that it returns is reported for the whole cluster.
    fn run(&self, run: &mut Run) -> anyhow::Result<()>;
}

/// One run of a tool: the document, and what was found so far.
pub struct Run {
    /// The document; what the tool writes into it is passed on.
    pub document: Document,
    /// The flags that every tool has.
    pub common: Common,
    tool: String,
    found: Mutex<Vec<ToolResult>>,
    original: Original,
    writes_document: bool,
}

impl Run {
    /// Records what was done or found, and says it on stderr.
    pub fn report(&self, mut result: ToolResult) {
        result.tool.clone_from(&self.tool);
        // A message is one line, whatever a library or a host put into it, for
        // those, too, who take it out of the document.
        result.message = terminal::line(&one_line(&result.message)).into_owned();
        if !self.common.quiet || result.severity != Severity::Info {
            terminal::say(&format!("{}: {}", self.tool, result.line()));
        }
        self.found().push(result);
    }

    /// Says more on stderr about what was reported, indented, unless `--quiet`.
    pub fn detail(&self, text: &str) {
        if !self.common.quiet && !text.is_empty() {
            terminal::say_indented(text);
        }
    }

    /// Says what the tool is at, on a line of its own that is no result.
    pub fn note(&self, text: &str) {
        if !self.common.quiet {
            terminal::say(&format!("{}: {text}", self.tool));
        }
    }

    /// Whether the tool is to change nothing (`--check`).
    pub fn check(&self) -> bool {
        self.common.check
    }

    /// The places in `document.nodes` of the nodes to work on: those of `--only`,
    /// and with `--keep-going` only those without errors.
    pub fn selected(&self) -> Vec<usize> {
        let errors = self.document.results.iter().filter(|r| r.severity == Severity::Error);
        let failed: HashSet<_> = errors.filter_map(|r| r.node.as_deref()).collect();
        let only = &self.common.only;
        let wanted = |node: &Node| {
            (only.is_empty() || only.contains(&node.name)) && !failed.contains(node.name.as_str())
        };
        let nodes = self.document.nodes.iter().enumerate();
        nodes.filter(|(_, node)| wanted(node)).map(|(at, _)| at).collect()
    }

    /// The nodes to work on; see [`Run::selected`].
    pub fn nodes(&self) -> Vec<&Node> {
        self.selected().into_iter().map(|at| &self.document.nodes[at]).collect()
    }

    /// Whether an error was reported for `node` in this run.
    pub fn failed(&self, node: &str) -> bool {
        self.found()
            .iter()
            .any(|r| r.severity == Severity::Error && r.node.as_deref() == Some(node))
    }

    /// Checks the document as that of stdin was: for a tool that has put into it what its
    /// own command line says. Its errors are ones of the command line.
    pub fn check_document(&self) -> Result<(), Error> {
        let problems = validate::problems(&self.document);
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Error::usage(problems.join("; "))),
        }
    }

    /// Writes no document at the end: this run has nothing to pass on.
    pub fn no_document(&mut self) {
        self.writes_document = false;
    }

    fn found(&self) -> MutexGuard<'_, Vec<ToolResult>> {
        self.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Makes node names of what `--only` says: a name goes before a hostname or address.
    fn name_only(&mut self) -> Result<(), Error> {
        let nodes = &self.document.nodes;
        let mut names = Vec::new();
        for only in &self.common.only {
            let called = |node: &&Node| node.hostname() == only || node.address == *only;
            let found: Vec<_> = match nodes.iter().find(|node| node.name == *only) {
                Some(node) => vec![node],
                None => nodes.iter().filter(called).collect(),
            };
            if found.is_empty() {
                let what = format!("--only: {only:?} is not a node in the document");
                return Err(Error::usage(what));
            }
            names.extend(found.into_iter().map(|node| node.name.clone()));
        }
        self.common.only = names;
        Ok(())
    }

    /// Adds this run's results to the document, in the order of the nodes.
    fn finish(&mut self) -> Exit {
        let mut found = std::mem::take(&mut *self.found());
        let nodes = self.document.nodes.iter().enumerate();
        let places: HashMap<_, _> = nodes.map(|(at, node)| (node.name.as_str(), at)).collect();
        let place = |name: &String| places.get(name.as_str()).copied();
        found.sort_by_key(|result| result.node.as_ref().and_then(place).unwrap_or(usize::MAX));
        let exit = results::exit_of(&found, self.selected().len());
        let earlier = &self.document.results;
        let failed = earlier.iter().any(|r| r.severity == Severity::Error);
        // Under make and dash only the last stage of a pipe can say it.
        let differs = self.check() && earlier.iter().any(|r| r.code == Code::WouldChange);
        self.document.results.extend(found);
        match exit {
            Exit::Done if failed => Exit::Failed,
            Exit::Done if differs => Exit::No,
            exit => exit,
        }
    }

    fn write(self) -> Result<(), Error> {
        if !self.writes_document {
            return Ok(());
        }
        let bug = |error| Error { exit: Exit::Bug, message: format!("stdout: {error}") };
        let value = self.original.with_changes_of(&self.document).map_err(bug)?;
        if let Some(place) = secrets::find(&value).first() {
            let message = format!("stdout: nothing written: {place}: {}", secrets::REFUSED);
            return Err(Error { exit: Exit::Failed, message });
        }
        let text = serde_json::to_string_pretty(&value).map_err(bug)?;
        terminal::print_json(&(text + "\n"))
    }
}

/// Runs a tool: parses its command line, reads and checks the document, does
/// the job, writes the document, and gives the exit code.
pub fn run<T: Tool>() -> ExitCode {
    let command = cli::command::<T>();
    let name = command.get_name().to_owned();
    let place = std::sync::Arc::new(Mutex::new(String::new()));
    let hook = place.clone();
    panic::set_hook(Box::new(move |info| {
        let at = info.location().map(|l| format!("{}:{}", l.file(), l.line()));
        *hook.lock().unwrap_or_else(|e| e.into_inner()) = at.unwrap_or_default();
    }));
    let exit = panic::catch_unwind(AssertUnwindSafe(|| run_parsed::<T>(&name, command)));
    exit.unwrap_or_else(|panic| {
        let place = place.lock().unwrap_or_else(|e| e.into_inner());
        let message = one_line(panic_message(&*panic));
        terminal::say(&format!("{name}: a bug at {place}: {message}: please report it"));
        Exit::Bug
    })
    .into()
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}

fn run_parsed<T: Tool>(name: &str, mut command: clap::Command) -> Exit {
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let parsed = parsed.and_then(|matches| Ok((T::from_arg_matches(&matches)?, matches)));
    let (tool, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            return match terminal::print(&error.to_string()) {
                Ok(()) => Exit::Done,
                Err(error) => error.exit,
            };
        }
        Err(error) => {
            let from = cli::variable_of(&error, name).map(|v| format!("{v}: "));
            let line = usage_line(&error, name);
            terminal::say(&format!("{name}: {}{line}", from.unwrap_or_default()));
            return Exit::Usage;
        }
    };
    for (old, new) in cli::retired(&command) {
        let why = "it meant another thing to each tool, and is not read any more";
        terminal::say(&format!("{name}: warning: {old}: {why}: set {new}"));
    }
    let document = tool.document(cli::document(&matches));
    let mut run = match document.and_then(|path| start(name, &tool, path, &matches)) {
        Ok(run) => run,
        Err(error) => {
            for line in error.message.lines() {
                terminal::say(&format!("{name}: {line}"));
            }
            return error.exit;
        }
    };
    let stop = earlier_error(&run).filter(|_| !tool.common().keep_going);
    let exit = if let Some(error) = stop {
        terminal::say(&format!("{name}: nothing done: {error}"));
        Exit::NoInput
    } else {
        work(&tool, &mut run)
    };
    match run.write() {
        Ok(()) => exit,
        Err(error) => {
            terminal::say(&format!("{name}: {error}"));
            error.exit
        }
    }
}

/// What makes the tool stop: the first error of an earlier stage, before that what was left
/// alone for it.
fn earlier_error(run: &Run) -> Option<String> {
    let errors = || run.document.results.iter().filter(|r| r.severity == Severity::Error);
    let is_left_alone = |r: &&ToolResult| r.code == Code::NotRestarted;
    let error = errors().find(|error| !is_left_alone(error)).or_else(|| errors().next())?;
    let node = error.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    Some(format!("{} failed{node} ({})", error.tool, error.code))
}

fn work<T: Tool>(tool: &T, run: &mut Run) -> Exit {
    let worked = tool.run(run);
    let mut exit = None;
    if let Err(error) = worked {
        let own = error.downcast_ref::<Error>().map(|error| error.exit);
        let code = match own {
            Some(Exit::Usage) => Code::Usage,
            Some(Exit::BadInput) => Code::BadInput,
            Some(Exit::NoInput) => Code::NoInput,
            Some(Exit::Unreachable) => Code::Unreachable,
            _ => Code::Failed,
        };
        run.report(ToolResult::error(code, format!("{error:#}")));
        // Without input there is nothing to pass on either.
        if own == Some(Exit::NoInput) {
            run.no_document();
        }
        exit = own;
    }
    let computed = run.finish();
    exit.unwrap_or(computed)
}

fn start<T: Tool>(
    name: &str,
    tool: &T,
    path: Option<&Path>,
    matches: &ArgMatches,
) -> Result<Run, Error> {
    if tool.common().verbose {
        terminal::trace_as(name);
    }
    let input = match (tool.reads_stdin(), path) {
        (true, Some(path)) => read::file(path)?,
        (true, None) => read::stdin()?,
        (false, Some(path)) => {
            let what = "no document is read here: leave it out";
            return Err(Error::usage(format!("{}: {what}", path.display())));
        }
        (false, None) => None,
    };
    let input = match input {
        Some(input) => input,
        None if tool.works_without_document() => Input {
            document: Document::of_nodes(Vec::new()),
            warnings: Vec::new(),
            original: Original::default(),
        },
        None => {
            return Err(Error::no_input(match path {
                Some(path) => format!("{}: empty: no document", path.display()),
                None => {
                    "stdin: no document: an earlier stage failed, or nothing was piped in".into()
                }
            }));
        }
    };
    if tool.common().strict {
        let source = path.map_or("stdin".into(), |path| path.display().to_string());
        let unknown = input.warnings.iter().filter(|w| w.code == Code::UnknownKey);
        let lines: Vec<_> = unknown
            .map(|w| format!("{source}: {}", w.message.replace(", passed on", " (--strict)")))
            .collect();
        if !lines.is_empty() {
            return Err(Error::bad_input(lines.join("\n")));
        }
    }
    let mut run = Run {
        document: input.document,
        common: tool.common().clone(),
        tool: name.to_owned(),
        found: Mutex::default(),
        original: input.original,
        writes_document: tool.writes_document(),
    };
    // A variable says it for all that read a document.
    let is_variable = matches.value_source("only") == Some(ValueSource::EnvVariable);
    if is_variable && !tool.reads_stdin() {
        run.common.only.clear();
    }
    // An earlier stage that has failed may have left nodes out: that is what counts.
    let fails_anyway = earlier_error(&run).is_some() && !run.common.keep_going;
    match run.name_only() {
        Err(_) if fails_anyway => run.common.only.clear(),
        named => named?,
    }
    for warning in input.warnings {
        run.report(warning);
    }
    Ok(run)
}

/// What clap has to say, on one line.
fn usage_line(error: &clap::Error, name: &str) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let said = lines.collect::<Vec<_>>().join(" ");
    let said = said.trim_start_matches("error: ").replace(" tip: ", ": ");
    format!("{said}: see {name} --help")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use nix::time::{ClockId, clock_gettime};

    use super::*;
    use crate::parse;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        common: Common,
    }

    /// A run of a tool that reads `text`, reports on each node, and writes.
    fn passed(text: &str) -> String {
        let input = parse(text.as_bytes()).unwrap();
        let mut run = Run {
            document: input.document,
            common: Flags::parse_from(["tool", "--quiet"]).common,
            tool: "tool".into(),
            found: Mutex::default(),
            original: input.original,
            writes_document: true,
        };
        run.found().extend(input.warnings);
        for node in run.nodes().iter().rev() {
            run.report(ToolResult::changed(Code::Pushed, "done").on(&node.name));
        }
        run.finish();
        let nodes: Vec<_> = run.document.nodes.iter().map(|node| node.name.clone()).collect();
        let order: Vec<_> = run.document.results.iter().filter_map(|r| r.node.clone()).collect();
        assert!(order.ends_with(&nodes), "results in the order of the nodes");
        let value = run.original.with_changes_of(&run.document).unwrap();
        serde_json::to_string(&value).unwrap()
    }

    /// The processor time of this thread that two passes of `text` take: two tools.
    fn time_of(text: &str) -> Duration {
        let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        let start = now();
        let out = passed(&passed(text));
        assert!(out.len() > text.len());
        now() - start
    }

    fn of_nodes(count: usize) -> String {
        let node = |at: usize| {
            let address = format!("10.0.{}.{}", at / 250, at % 250);
            format!(r#"{{"name": "n{at}", "address": "{address}", "rack": {at}}}"#)
        };
        let nodes: Vec<_> = (0..count).map(node).collect();
        format!(r#"{{"apiVersion": "etcd-tools/v1", "nodes": [{}]}}"#, nodes.join(","))
    }

    fn of_files(count: usize) -> String {
        let file = |at| format!(r#"{{"path": "/{at}", "mode": "0600", "content": "", "x": {at}}}"#);
        let files: Vec<_> = (0..count).map(file).collect();
        format!(
            r#"{{"apiVersion": "etcd-tools/v1", "nodes": [
                {{"name": "a", "address": "10.0.0.1", "files": [{}]}}]}}"#,
            files.join(",")
        )
    }

    #[test]
    fn many_nodes_and_files_take_time_in_proportion() {
        for (what, of) in [("nodes", of_nodes as fn(usize) -> String), ("files", of_files)] {
            let (few, many) = (time_of(&of(200)), time_of(&of(1600)));
            // Eight times as many; what looks at each pair takes 64 times as long.
            assert!(many < few * 20, "{what}: {few:?}, then {many:?}");
        }
    }
}
