//! What people see: lines on stderr, and progress where stderr is a terminal.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{Error, Exit};

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Writes a line to stderr, above any progress. A closed stderr is not an error.
pub fn say(line: &str) {
    BARS.suspend(|| {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    });
}

/// Writes `text` to stdout. A failure is [`Exit::NotDelivered`].
pub fn print(text: &str) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Error {
        exit: Exit::NotDelivered,
        message: format!("stdout: writing: {error}"),
    })
}

/// Whether stdout is a terminal.
pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
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
        let bar = BARS.add(bar).with_message(label);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
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
        self.0.set_message(label);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
