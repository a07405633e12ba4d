//! An error that ends a tool with an exit code of its own.

use crate::Exit;

/// An error that says which exit code it ends the tool with.
///
/// Its message is one line of the form `node or file: what: why`; the tool's
/// name is put before it when it is printed. Return it through
/// [`anyhow::Error`]; any other error ends the tool with [`Exit::Failed`].
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the tool ends with.
    pub exit: Exit,
    /// The line that is printed.
    pub message: String,
}

impl Error {
    /// The command line is wrong in a way that only the document shows.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    /// The input is not a valid document.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self { exit: Exit::BadInput, message: message.into() }
    }

    /// There is no usable input.
    pub fn no_input(message: impl Into<String>) -> Self {
        Self { exit: Exit::NoInput, message: message.into() }
    }
}
