//! Runs the tool.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

/// What a run of the tool gave.
pub struct Ran {
    /// The exit code.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// Runs the tool on `input` in the folder `folder`.
pub fn render(arguments: &[&str], input: &str, folder: &Path) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-render"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCD_TOOLS_")) {
        command.env_remove(name);
    }
    let output = command.args(arguments).current_dir(folder).write_stdin(input).output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The document that comes of `document` in a run without complaints.
#[allow(dead_code, reason = "not every file of tests uses it")]
pub fn rendered(document: &Value) -> Value {
    let run = render(&["--quiet"], &document.to_string(), Path::new("/"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    run.document()
}
