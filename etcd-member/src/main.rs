//! `etcd-member`: see the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    pipeline::run::<etcd_member::Member>()
}
