//! The releases of etcd on the lab's mirror, and what a machine has not got.

use std::io::Write;
use std::process::Command;
use std::sync::LazyLock;

use crate::{Ran, lab_script};

/// The release that `which` names (`v3.5.16`): `oldest`, `guide`, or the newest of a
/// minor version, as `3.6` (see `scripts/lab release`). A test that gets none is one
/// that did [not run](not_run), and returns.
pub fn release(which: &str) -> Option<String> {
    let mut lab = Command::new(lab_script());
    let ran = Ran::new(lab.args(["release", which]).output().expect("scripts/lab"));
    if ran.code == 1 {
        not_run(ran.stderr.trim());
        return None;
    }
    Some(ran.ok().stdout.trim().to_owned())
}

/// The release that the README names, which every machine with a lab can have.
pub fn guide() -> &'static str {
    static GUIDE: LazyLock<String> =
        LazyLock::new(|| release("guide").expect("the release that the README names"));
    &GUIDE
}

/// Notes that this test cannot run on this machine, and why. `scripts/test` lists
/// these at the end; without it the test fails.
#[track_caller]
pub fn not_run(why: &str) {
    let Some(list) = std::env::var_os("TESTS_NOT_RUN") else {
        panic!("cannot run on this machine: {why}");
    };
    let thread = std::thread::current();
    let line = format!("{}: {why}\n", thread.name().unwrap_or("a test"));
    let mut list = std::fs::OpenOptions::new().append(true).open(list).expect("TESTS_NOT_RUN");
    list.write_all(line.as_bytes()).expect("TESTS_NOT_RUN");
}
