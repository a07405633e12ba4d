//! The one table of exit codes.

use std::process::ExitCode;

/// How a tool ended. Every tool uses the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The job is done.
    Done = 0,
    /// The answer is no: unhealthy, due for renewal, or `--check` found a difference.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The job failed, on at least one node or here.
    Failed = 3,
    /// The input is not a valid document.
    BadInput = 65,
    /// There is no usable input: an earlier stage failed.
    NoInput = 66,
    /// Nothing was reachable; a retry may help.
    Unreachable = 69,
    /// A bug in the tool.
    Bug = 70,
    /// The result could not be delivered.
    NotDelivered = 74,
}

/// The table as `--help` and the man pages print it.
pub const TABLE: &str = "   0  done
   1  the answer is no: unhealthy, due for renewal, or --check found a
      difference
   2  the command line is wrong
   3  failed, on at least one node or here
  65  the input is not a valid document
  66  no usable input: an earlier stage failed
  69  nothing was reachable, a retry may help
  70  a bug in the tool
  74  the result could not be delivered";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
