//! What a tool reports: to the person on stderr, to the next stage in the document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Exit;

/// How much a result matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The job was not done; the stages that follow touch nothing.
    Error,
    /// The job was done, and there is something to look at.
    Warning,
    /// What was done, or that nothing had to be.
    Info,
}

/// One thing that a tool did or found, on one node or on the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolResult {
    /// The tool that reports, as `etcd-push`.
    pub tool: String,
    /// The name of the node; absent for the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How much it matters. An `error` stops the pipe.
    pub severity: Severity,
    /// A stable word for scripts, as `unreachable`.
    pub code: String,
    /// One line for people.
    pub message: String,
    /// Whether the tool changed anything here.
    #[serde(default)]
    pub changed: bool,
}

/// Codes of errors that are an answer, not a failure.
const ANSWERS: [&str; 2] = ["due", "unhealthy"];

/// The code of a difference that `--check` found.
pub(crate) const WOULD_CHANGE: &str = "would-change";

impl ToolResult {
    fn new(severity: Severity, code: &str, message: impl Into<String>) -> Self {
        Self {
            tool: String::new(),
            node: None,
            severity,
            code: code.into(),
            message: message.into(),
            changed: false,
        }
    }

    /// The job was not done. `message` says what and why, on one line.
    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// Done, with something to look at.
    pub fn warning(code: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// Something was changed.
    pub fn changed(code: &str, message: impl Into<String>) -> Self {
        Self { changed: true, ..Self::new(Severity::Info, code, message) }
    }

    /// Nothing was changed.
    pub fn unchanged(code: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Info, code, message)
    }

    /// `--check` found something that a run without it would change.
    pub fn would_change(message: impl Into<String>) -> Self {
        Self::new(Severity::Info, WOULD_CHANGE, message)
    }

    /// The same result, of one node.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.node = Some(node.into());
        self
    }

    /// The line for people, without the tool's name.
    pub(crate) fn line(&self) -> String {
        let place = self.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
        let mark = if self.severity == Severity::Warning { "warning: " } else { "" };
        format!("{place}{mark}{}", self.message)
    }
}

/// The exit code of a tool that reported `results` while working on `nodes` nodes.
pub(crate) fn exit_of(results: &[ToolResult], nodes: usize) -> Exit {
    let errors: Vec<_> = results.iter().filter(|r| r.severity == Severity::Error).collect();
    if errors.is_empty() {
        let differs = results.iter().any(|r| r.code == WOULD_CHANGE);
        return if differs { Exit::No } else { Exit::Done };
    }
    if errors.iter().all(|r| ANSWERS.contains(&r.code.as_str())) {
        return Exit::No;
    }
    let unreachable = |node: &&ToolResult| node.code == "unreachable";
    if errors.len() >= nodes && errors.iter().all(unreachable) {
        return Exit::Unreachable;
    }
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str) -> ToolResult {
        ToolResult::error(code, "x")
    }

    #[test]
    fn exit_codes_follow_from_results() {
        let cases = [
            (vec![], Exit::Done),
            (vec![ToolResult::changed("pushed", "x")], Exit::Done),
            (vec![ToolResult::warning("even-members", "x")], Exit::Done),
            (vec![ToolResult::would_change("x")], Exit::No),
            (vec![error("unhealthy")], Exit::No),
            (vec![error("unhealthy"), error("unreachable")], Exit::Failed),
            (vec![error("unreachable")], Exit::Failed),
            (vec![error("unreachable"), error("unreachable")], Exit::Unreachable),
        ];
        for (results, exit) in cases {
            assert_eq!(exit_of(&results, 2), exit, "{results:?}");
        }
        assert_eq!(exit_of(&[error("unreachable")], 0), Exit::Unreachable);
    }
}
