//! The cluster document, and all that every etcd tool shares without a
//! network: reading and writing the document, results, exit codes, flags,
//! messages, and the one [`run`] wrapper that makes each `main.rs` one call.
//!
//! The wire format is described on the types of [`document`]; the JSON Schema
//! in `docs/schema.json` is generated from them.

mod cli;
#[cfg(test)]
mod damaged;
mod diff;
pub mod disk;
pub mod document;
mod error;
mod exit;
mod nodelist;
mod original;
mod place;
mod read;
mod results;
mod run;
#[cfg(test)]
mod sample;
mod secrets;
mod table;
pub mod terminal;
mod tree;
mod units;
mod validate;

pub use cli::{Common, IN_WORDS, command};
pub use diff::diff;
pub use document::Document;
pub use error::Error;
pub use exit::{Exit, TABLE as EXIT_CODES};
pub use read::{Input, parse};
pub use results::{Code, Severity, ToolResult};
pub use run::{Examples, Run, Tool, run};
pub use secrets::has_private_key;
pub use table::table;
pub use units::{parse_duration, parse_rfc3339, parse_seconds, rfc3339};
pub use validate::{NODE_NAME, is_dns_name, is_node_name, reserved_variable, unit_name};
