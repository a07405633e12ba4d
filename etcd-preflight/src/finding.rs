//! What a check found.

use pipeline::{Code, Severity, ToolResult};

/// What one check found on one node, or on the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub code: Code,
    /// The node; absent for the whole cluster.
    pub node: Option<String>,
    /// What was measured, for the table.
    pub measured: String,
    /// What is wrong with it: measured value, limit, and what to do.
    pub problem: Option<(Severity, String)>,
}

impl Finding {
    /// All is well on `node`.
    pub fn ok(code: Code, node: &str, measured: impl Into<String>) -> Self {
        Self { code, node: Some(node.into()), measured: measured.into(), problem: None }
    }

    /// All is well with the cluster.
    pub fn cluster(code: Code, measured: impl Into<String>) -> Self {
        Self { code, node: None, measured: measured.into(), problem: None }
    }

    /// The same, with an error, where `wrong`.
    #[must_use]
    pub fn error_if(self, wrong: bool, message: impl FnOnce() -> String) -> Self {
        self.problem_if(wrong, Severity::Error, message)
    }

    /// The same, with a warning, where `wrong`.
    #[must_use]
    pub fn warning_if(self, wrong: bool, message: impl FnOnce() -> String) -> Self {
        self.problem_if(wrong, Severity::Warning, message)
    }

    /// What is wrong first stays.
    fn problem_if(mut self, wrong: bool, severity: Severity, say: impl FnOnce() -> String) -> Self {
        if wrong && self.problem.is_none() {
            self.problem = Some((severity, say()));
        }
        self
    }

    /// What the comparison of the document with the cluster reported.
    pub fn of_result(result: ToolResult) -> Self {
        let own = [(Code::Alarm, "no"), (Code::Masked, "masked"), (Code::VersionStep, "no")];
        let own = own.into_iter().find(|(code, _)| result.code == *code);
        let (code, measured) = own.unwrap_or((Code::Mismatch, "no"));
        let ToolResult { node, severity, message, .. } = result;
        Self { code, node, measured: measured.into(), problem: Some((severity, message)) }
    }

    /// The result that reports it; nothing where all is well.
    pub fn result(self) -> Option<ToolResult> {
        let (severity, message) = self.problem?;
        let result = match severity {
            Severity::Error => ToolResult::error(self.code, message),
            Severity::Info => ToolResult::unchanged(self.code, message),
            Severity::Warning => ToolResult::warning(self.code, message),
        };
        Some(match &self.node {
            Some(node) => result.on(node),
            None => result,
        })
    }
}
