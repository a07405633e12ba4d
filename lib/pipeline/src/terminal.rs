//! What people see: lines on stderr, tables on stdout, and progress where stderr
//! is a terminal.
//!
//! All text leaves a tool through this module, which makes visible what a terminal
//! would act on: much of it comes from documents and from hosts.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{fstat, stat};

use crate::{Error, Exit, secrets};

/// A spinner and a bar for terminals that show ASCII only; the last tick is the finished one.
const ASCII_TICKS: &str = "|/-\\ ";
const ASCII_BAR: &str = "#>-";

/// The tool that says what it does with whom, once `--verbose` is given.
static TRACED: OnceLock<String> = OnceLock::new();

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Whether a terminal shows `c` as nothing or acts on it: C0 and C1 controls, what
/// changes the direction of text, line separators, and characters without width.
/// A tab is none of them.
pub(crate) fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// `text` as one line without [hidden](is_hidden) characters: they are written as
/// `\n`, `\u{1b}`. A private key is not shown.
pub fn line(text: &str) -> Cow<'_, str> {
    if secrets::has_private_key(text) {
        return "(not shown: it contains a private key)".into();
    }
    if !text.contains(is_hidden) {
        return text.into();
    }
    let visible = |c: char| match is_hidden(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(visible).collect::<String>().into()
}

/// The same for each line of `text`, which stay lines of their own.
pub fn lines(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// JSON of the same value as `json`, without hidden characters. JSON itself
/// demands that for C0 controls only.
fn json(json: &str) -> Cow<'_, str> {
    let is_hidden = |c: char| is_hidden(c) && c != '\n';
    if !json.contains(is_hidden) {
        return json.into();
    }
    let mut visible = String::with_capacity(json.len());
    for c in json.chars() {
        match is_hidden(c) {
            true => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    visible += &format!("\\u{unit:04x}");
                }
            }
            false => visible.push(c),
        }
    }
    visible.into()
}

/// Writes a line to stderr, above any progress. A closed stderr is not an error.
pub fn say(text: &str) {
    to_stderr(&line(text));
}

/// From now on [`trace`] writes, in the name of `tool`.
pub(crate) fn trace_as(tool: &str) {
    let _ = TRACED.set(tool.to_owned());
}

/// With `--verbose`, writes to stderr what was just done with whom, and how long it took:
/// `tool: text: 0.052 s`. `text` holds nothing that a file or a request contained.
pub fn trace(text: impl std::fmt::Display, took: Duration) {
    if let Some(tool) = TRACED.get() {
        say(&format!("{tool}: {text}: {:.3} s", took.as_secs_f64()));
    }
}

/// Writes the lines of `text` to stderr, indented, above any progress.
pub(crate) fn say_indented(text: &str) {
    // The lines of a key do not look like one.
    let text = if secrets::has_private_key(text) { line(text) } else { text.into() };
    let indented: Vec<_> = text.lines().map(|text| format!("    {}", line(text))).collect();
    to_stderr(&indented.join("\n"));
}

fn to_stderr(text: &str) {
    BARS.suspend(|| {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    });
}

/// Writes `text`, lines for people, to stdout. A failure is [`Exit::NotDelivered`].
pub fn print(text: &str) -> Result<(), Error> {
    to_stdout(&lines(text))
}

/// Writes a document to stdout. A failure is [`Exit::NotDelivered`].
pub(crate) fn print_json(text: &str) -> Result<(), Error> {
    to_stdout(&json(text))
}

fn to_stdout(text: &str) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Error {
        exit: Exit::NotDelivered,
        message: format!("stdout: writing: {error}"),
    })
}

/// Whether stdout was closed when the tool began: then Rust's runtime has opened `/dev/null`
/// in its place, for reading, too, which no shell does that is told to write there.
pub fn stdout_is_closed() -> bool {
    let stdout = std::io::stdout();
    let null = stat("/dev/null").is_ok_and(|null| {
        fstat(&stdout).is_ok_and(|it| (it.st_mode, it.st_rdev) == (null.st_mode, null.st_rdev))
    });
    let flags = fcntl(&stdout, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate);
    null && flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_RDWR)
}

/// Whether stdout is a terminal.
pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// What is written to stdout unless the user says so: `table` to people, else `json`.
pub fn table_or<T>(table: T, json: T) -> T {
    if stdout_is_terminal() { table } else { json }
}

/// Whether stdin is a terminal or `/dev/null`, not a pipe or a file. Whoever pipes
/// something in expects it to be read: an empty pipe is an earlier stage that failed.
pub fn nothing_piped_in() -> bool {
    std::fs::metadata("/dev/stdin").is_ok_and(|stdin| stdin.file_type().is_char_device())
}

/// Progress on one job, drawn on stderr while it lasts, and only on a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar over `total` bytes; a spinner with a count when that is not known.
    pub fn bytes(label: impl Into<Cow<'static, str>>, total: Option<u64>) -> Self {
        let template = match total {
            Some(_) => "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{msg} {spinner} {bytes} {bytes_per_sec}",
        };
        Self::start(label, total, template)
    }

    /// A spinner with the time that has passed.
    pub fn wait(label: impl Into<Cow<'static, str>>) -> Self {
        Self::start(label, None, "{spinner} {msg} ({elapsed})")
    }

    fn start(label: impl Into<Cow<'static, str>>, total: Option<u64>, template: &str) -> Self {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        let bar = BARS.add(bar).with_message(line(&label.into()).into_owned());
        if let Ok(style) = ProgressStyle::with_template(template) {
            let variable = |name: &str| std::env::var(name).ok();
            bar.set_style(match is_utf8(variable) {
                true => style,
                false => style.tick_chars(ASCII_TICKS).progress_chars(ASCII_BAR),
            });
        }
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self(bar)
    }

    /// Says that `count` more bytes are done.
    pub fn advance(&self, count: u64) {
        self.0.inc(count);
    }

    /// Changes the label.
    pub fn label(&self, label: impl Into<Cow<'static, str>>) {
        self.0.set_message(line(&label.into()).into_owned());
    }
}

/// Whether the locale of the variables that `variable` gives is one of UTF-8. Of those that
/// are set and not empty the first counts, as in setlocale(3).
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set).unwrap_or_default();
    let locale = locale.to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_says_whether_there_is_more_than_ascii() {
        let cases: [(&[(&str, &str)], bool); 7] = [
            (&[], false),
            (&[("LANG", "en_US.UTF-8")], true),
            (&[("LANG", "C.utf8")], true),
            (&[("LANG", "en_US.UTF-8"), ("LC_ALL", "C")], false),
            (&[("LANG", "en_US.UTF-8"), ("LC_ALL", "")], true),
            (&[("LANG", "POSIX"), ("LC_CTYPE", "de_DE.UTF-8")], true),
            (&[("LC_CTYPE", "de_DE.ISO-8859-1"), ("LANG", "de_DE.UTF-8")], false),
        ];
        for (variables, utf8) in cases {
            let variable = |name: &str| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(is_utf8(variable), utf8, "{variables:?}");
        }
    }

    #[test]
    fn nothing_hidden_reaches_a_terminal() {
        let cases = [
            ("plain, ä 漢 …\ttabs", "plain, ä 漢 …\ttabs"),
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("one\ntwo\r", "one\\ntwo\\r"),
            ("\u{9b}31m C1", "\\u{9b}31m C1"),
            ("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c"),
            ("\u{2028}\u{feff}\u{200d}", "\\u{2028}\\u{feff}\\u{200d}"),
            ("\u{e0041}", "\\u{e0041}"),
            ("-----BEGIN RSA PRIVATE KEY-----", "(not shown: it contains a private key)"),
        ];
        for (text, visible) in cases {
            assert_eq!(line(text), visible);
            assert_eq!(line(&line(text)), visible, "it is the same when it is done twice");
        }
        assert_eq!(lines("a\u{1b}\nb\n"), "a\\u{1b}\nb\n");
    }

    #[test]
    fn a_document_is_the_same_value_without_hidden_characters() {
        let value = serde_json::json!({"a\u{202e}": "\u{1b}\u{9b}\u{7f}\n\u{e0041}\"\\"});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let visible = json(&text);
        assert!(visible.chars().all(|c| c == '\n' || !is_hidden(c)), "{visible}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&visible).unwrap(), value);
    }
}
