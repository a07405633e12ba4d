//! What is kept, and when it is trusted.

use std::fs;
use std::process::Command;

use pipeline::disk;

use crate::support::{NODES, Sandbox, file_name, limited, noise, release, run, size};

const VERSION: &str = "v3.5.16";

/// What a run says that has nothing to do.
fn cached() -> String {
    format!("etcd-fetch: v3.5.16 for amd64: in the cache, {}", size())
}

fn fetched(sandbox: &Sandbox) -> String {
    format!("etcd-fetch: v3.5.16 for amd64: fetched {} from {}", size(), sandbox.mirror())
}

fn sum() -> String {
    disk::sha256(&release(VERSION, "amd64"))
}

#[test]
fn a_second_run_changes_nothing_and_needs_no_mirror() {
    let sandbox = Sandbox::new(&[VERSION]);
    sandbox.run(&sandbox.mirror(), &[VERSION]).prints(0, &[&fetched(&sandbox)]);
    let before = sandbox.snapshot("cache");
    assert_eq!(fs::read(sandbox.cached(VERSION, "amd64")).unwrap(), release(VERSION, "amd64"));
    for args in [&[VERSION][..], &[VERSION, "--offline"], &[VERSION, "--check"]] {
        sandbox.run("/nowhere", args).prints(0, &[&cached()]);
        assert_eq!(sandbox.snapshot("cache"), before, "{args:?}");
    }
}

#[test]
fn check_writes_nothing() {
    let sandbox = Sandbox::new(&[VERSION]);
    let ran = sandbox.run(&sandbox.mirror(), &[VERSION, "--check", "--unpack", "bin"]);
    ran.prints(
        1,
        &[
            &fetched(&sandbox).replace("fetched", "would fetch"),
            "etcd-fetch: bin: would unpack v3.5.16",
        ],
    );
    assert_eq!(ran.document()["cluster"]["version"], VERSION);
    // What it would be is announced.
    let archive = &ran.document()["release"]["archives"][0];
    let sha256 = pipeline::disk::sha256(&release(VERSION, "amd64"));
    assert_eq!((&archive["pending"], &archive["sha256"]), (&true.into(), &sha256.into()));
    assert_eq!(archive["binaries"], serde_json::json!([]));
    assert!(!sandbox.path("cache").exists() && !sandbox.path("bin").exists());
    sandbox.run(&sandbox.mirror(), &["v3.5.99", "--check"]).prints(
        3,
        &[&format!(
            "etcd-fetch: {}/v3.5.99/SHA256SUMS: opening: No such file or directory (os error 2): \
             the mirror has no v3.5.99 for amd64",
            sandbox.mirror()
        )],
    );
}

#[test]
fn the_cache_has_its_place_in_the_home() {
    let sandbox = Sandbox::new(&[VERSION]);
    let tool = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-fetch"));
        command.env_clear().args([VERSION, "--mirror", &sandbox.mirror()]);
        command.envs(variables.iter().copied());
        run(command, NODES)
    };
    let home = sandbox.path("home");
    let home = home.to_str().unwrap();
    let local = |folder: &str| format!("{folder}/v3.5.16/{}", file_name(VERSION, "amd64"));
    for (variables, folder) in [
        (vec![("HOME", home)], format!("{home}/.cache/etcd-tools")),
        (vec![("HOME", home), ("XDG_CACHE_HOME", "x")], format!("{home}/.cache/etcd-tools")),
        (vec![("XDG_CACHE_HOME", &*format!("{home}/xdg"))], format!("{home}/xdg/etcd-tools")),
        (
            vec![("ETCD_TOOLS_CACHE", &*format!("{home}/own")), ("HOME", home)],
            format!("{home}/own"),
        ),
    ] {
        let document = tool(&variables).document();
        assert_eq!(document["release"]["archives"][0]["local"], local(&folder), "{variables:?}");
    }
    tool(&[]).prints(
        2,
        &["etcd-fetch: no cache folder: neither HOME nor XDG_CACHE_HOME is set: pass --cache"],
    );
}

#[test]
fn a_damaged_archive_is_fetched_again() {
    let sandbox = Sandbox::new(&[VERSION]);
    sandbox.run(&sandbox.mirror(), &[VERSION]).prints(0, &[&fetched(&sandbox)]);
    let path = sandbox.cached(VERSION, "amd64");
    let mut bytes = fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    sandbox.run(&sandbox.mirror(), &[VERSION, "--offline"]).prints(
        3,
        &[&format!("etcd-fetch: {}: damaged: run once without --offline", path.display())],
    );
    let warning = format!("etcd-fetch: warning: {}: damaged: fetching it again", path.display());
    let would = fetched(&sandbox).replace("fetched", "would fetch");
    sandbox.run(&sandbox.mirror(), &[VERSION, "--check"]).prints(1, &[&warning, &would]);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    sandbox.run(&sandbox.mirror(), &[VERSION]).prints(0, &[&warning, &fetched(&sandbox)]);
    assert_eq!(fs::read(&path).unwrap(), release(VERSION, "amd64"));
}

#[test]
fn offline_takes_what_is_there_and_asks_nobody() {
    let sandbox = Sandbox::new(&[VERSION]);
    let path = sandbox.cached(VERSION, "amd64");
    let missing =
        format!("etcd-fetch: {}: not in the cache: run once without --offline", path.display());
    sandbox.run(&sandbox.mirror(), &[VERSION, "--offline"]).prints(3, &[&missing]);
    assert!(!sandbox.path("cache").exists());

    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, release(VERSION, "amd64")).unwrap();
    let unlisted = missing.replace("not in", "without a checksum in");
    sandbox.run(&sandbox.mirror(), &[VERSION, "--offline"]).prints(3, &[&unlisted]);
    // Whoever knows the sum needs no list, and what is put there by hand is looked into.
    sandbox.run("/nowhere", &[VERSION, "--offline", "--sha256", &sum()]).prints(0, &[&cached()]);
    // The mirror's list is as good.
    sandbox.run(&sandbox.mirror(), &[VERSION]).prints(0, &[&cached()]);
    sandbox.run("/nowhere", &[VERSION, "--offline"]).prints(0, &[&cached()]);
}

#[test]
fn the_note_on_the_binaries_is_bound_to_the_archive() {
    let sandbox = Sandbox::new(&[VERSION]);
    sandbox.run(&sandbox.mirror(), &[VERSION]).prints(0, &[&fetched(&sandbox)]);
    let note = sandbox.cached(VERSION, "amd64").with_extension("gz.binaries");
    let good = fs::read_to_string(&note).unwrap();
    assert!(good.starts_with(&sum()), "{good}");
    for bad in ["".into(), "\u{0}".into(), good.replacen(&sum(), &disk::sha256(b"other"), 1)] {
        fs::write(&note, bad).unwrap();
        let ran = sandbox.run("/nowhere", &[VERSION, "--offline"]);
        ran.prints(0, &[&cached()]);
        assert_eq!(fs::read_to_string(&note).unwrap(), good);
    }
    // It spares the run from unpacking the archive again.
    fs::write(&note, good.replace("  etcdutl\n", "  noted\n")).unwrap();
    let document = sandbox.run("/nowhere", &[VERSION, "--offline"]).document();
    assert_eq!(document["release"]["archives"][0]["binaries"][2]["name"], "noted");
}

#[test]
fn a_pin_must_fit_the_list_and_the_archive() {
    let sandbox = Sandbox::new(&[VERSION]);
    let sums = sandbox.path("mirror/v3.5.16/SHA256SUMS");
    let name = file_name(VERSION, "amd64");
    let other = disk::sha256(b"other");
    let against_the_list =
        format!("etcd-fetch: {}: {name} is {}, but --sha256 says {other}", sums.display(), sum());
    let mirror = sandbox.mirror();
    sandbox.run(&mirror, &[VERSION, "--sha256", &other]).prints(3, &[&against_the_list]);

    fs::remove_file(&sums).unwrap();
    sandbox.run(&mirror, &[VERSION, "--sha256", &other]).prints(
        3,
        &[&format!(
            "etcd-fetch: {}: SHA-256 is {}, expected {other}: damaged or tampered with: discarded",
            sandbox.published(VERSION, "amd64").display(),
            sum()
        )],
    );
    let names: Vec<_> = sandbox.snapshot("cache").into_keys().collect();
    assert_eq!(names, [sandbox.path("cache/v3.5.16/.lock")]);

    let pin = format!("s390x={other},amd64={}", sum().to_uppercase());
    sandbox.run(&mirror, &[VERSION, "--sha256", &pin]).prints(0, &[&fetched(&sandbox)]);
    sandbox.run("/nowhere", &[VERSION, "--sha256", &pin]).prints(0, &[&cached()]);
}

#[test]
fn a_pin_must_fit_what_is_in_the_cache() {
    let sandbox = Sandbox::new(&[VERSION]);
    sandbox.run(&sandbox.mirror(), &[VERSION]).prints(0, &[&fetched(&sandbox)]);
    let before = sandbox.snapshot("cache");
    let other = disk::sha256(b"other");
    let contradiction = |sums: &std::path::Path| {
        format!(
            "etcd-fetch: {}: {} is {}, but --sha256 says {other}",
            sums.display(),
            file_name(VERSION, "amd64"),
            sum()
        )
    };
    sandbox
        .run(&sandbox.mirror(), &[VERSION, "--sha256", &other])
        .prints(3, &[&contradiction(&sandbox.path("mirror/v3.5.16/SHA256SUMS"))]);
    sandbox
        .run(&sandbox.mirror(), &[VERSION, "--sha256", &other, "--offline"])
        .prints(3, &[&contradiction(&sandbox.path("cache/v3.5.16/SHA256SUMS"))]);
    assert_eq!(sandbox.snapshot("cache"), before);
}

#[test]
fn a_wrong_archive_is_not_kept_and_the_old_one_stays() {
    let sandbox = Sandbox::new(&[VERSION]);
    sandbox.run(&sandbox.mirror(), &[VERSION]).prints(0, &[&fetched(&sandbox)]);
    let path = sandbox.cached(VERSION, "amd64");
    let before = sandbox.snapshot("cache");
    // The mirror lists another archive, and has a third one.
    let second = Sandbox::new(&[]);
    second.publish(VERSION, "amd64", b"another");
    fs::write(second.published(VERSION, "amd64"), noise(1000)).unwrap();
    let listed = disk::sha256(b"another");
    let mut command = sandbox.command(&second.mirror(), &[VERSION, "--sha256", &listed]);
    command.env("ETCD_TOOLS_QUIET", "1");
    run(command, NODES).prints(
        3,
        &[
            &format!("etcd-fetch: warning: {}: damaged: fetching it again", path.display()),
            &format!(
                "etcd-fetch: {}: SHA-256 is {}, expected {listed}: damaged or tampered with: \
                 discarded",
                second.published(VERSION, "amd64").display(),
                disk::sha256(&noise(1000))
            ),
        ],
    );
    assert_eq!(sandbox.snapshot("cache"), before);
    sandbox.run("/nowhere", &[VERSION]).prints(0, &[&cached()]);
}

#[test]
fn a_write_that_fails_is_one_line_and_leaves_the_cache_whole() {
    let sandbox = Sandbox::new(&[VERSION, "v3.5.30"]);
    sandbox.run(&sandbox.mirror(), &["v3.5.30", "--quiet"]).prints(0, &[]);
    let before = sandbox.snapshot("cache");
    // The kernel refuses to write more than 100 kB to a file: as a full disk does.
    let tool = sandbox.command(&sandbox.mirror(), &[VERSION]);
    let limited = limited(&tool, "trap '' XFSZ; ulimit -f 100");
    let partial = disk::beside(&sandbox.cached(VERSION, "amd64"));
    run(limited, NODES).prints(
        3,
        &[&format!("etcd-fetch: {}: writing: File too large (os error 27)", partial.display())],
    );
    let after = sandbox.snapshot("cache");
    assert!(before.iter().all(|(path, file)| after.get(path) == Some(file)));
    assert!(!sandbox.cached(VERSION, "amd64").exists());
    sandbox.run(&sandbox.mirror(), &[VERSION]).prints(0, &[&fetched(&sandbox)]);
    assert!(!partial.exists());
}
