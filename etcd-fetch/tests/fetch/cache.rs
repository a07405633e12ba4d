//! What is kept, and when it is trusted.

use std::fs;
use std::process::Command;

use pipeline::disk;

use crate::support::{NODES, Place, file_name, limited, noise, release, run, size};

const VERSION: &str = "v3.5.16";

/// What a run says that has nothing to do.
fn cached() -> String {
    format!("etcd-fetch: v3.5.16 for amd64: in the cache, {}", size())
}

fn fetched(place: &Place) -> String {
    format!("etcd-fetch: v3.5.16 for amd64: fetched {} from {}", size(), place.mirror())
}

fn sum() -> String {
    disk::sha256(&release(VERSION, "amd64"))
}

#[test]
fn a_second_run_changes_nothing_and_needs_no_mirror() {
    let place = Place::new(&[VERSION]);
    place.run(&place.mirror(), &[VERSION]).said(0, &[&fetched(&place)]);
    let before = place.snapshot("cache");
    assert_eq!(fs::read(place.cached(VERSION, "amd64")).unwrap(), release(VERSION, "amd64"));
    for args in [&[VERSION][..], &[VERSION, "--offline"], &[VERSION, "--check"]] {
        place.run("/nowhere", args).said(0, &[&cached()]);
        assert_eq!(place.snapshot("cache"), before, "{args:?}");
    }
}

#[test]
fn check_writes_nothing() {
    let place = Place::new(&[VERSION]);
    let ran = place.run(&place.mirror(), &[VERSION, "--check", "--unpack", "bin"]);
    ran.said(
        1,
        &[
            &fetched(&place).replace("fetched", "would fetch"),
            "etcd-fetch: bin: would unpack v3.5.16",
        ],
    );
    assert_eq!(ran.document()["cluster"]["version"], VERSION);
    assert!(ran.document().get("release").is_none());
    assert!(!place.path("cache").exists() && !place.path("bin").exists());
    place.run(&place.mirror(), &["v3.5.99", "--check"]).said(
        3,
        &[&format!(
            "etcd-fetch: {}/v3.5.99/SHA256SUMS: opening: No such file or directory (os error 2): \
             the mirror has no v3.5.99 for amd64",
            place.mirror()
        )],
    );
}

#[test]
fn the_cache_has_its_place_in_the_home() {
    let place = Place::new(&[VERSION]);
    let tool = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-fetch"));
        command.env_clear().args([VERSION, "--mirror", &place.mirror()]);
        command.envs(variables.iter().copied());
        run(command, NODES)
    };
    let home = place.path("home");
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
    tool(&[]).said(
        2,
        &["etcd-fetch: no cache folder: neither HOME nor XDG_CACHE_HOME is set: pass --cache"],
    );
}

#[test]
fn a_damaged_archive_is_fetched_again() {
    let place = Place::new(&[VERSION]);
    place.run(&place.mirror(), &[VERSION]).said(0, &[&fetched(&place)]);
    let path = place.cached(VERSION, "amd64");
    let mut bytes = fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    place.run(&place.mirror(), &[VERSION, "--offline"]).said(
        3,
        &[&format!("etcd-fetch: {}: damaged: run it once without --offline", path.display())],
    );
    let warning = format!("etcd-fetch: warning: {}: damaged, to be fetched again", path.display());
    let would = fetched(&place).replace("fetched", "would fetch");
    place.run(&place.mirror(), &[VERSION, "--check"]).said(1, &[&warning, &would]);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    place.run(&place.mirror(), &[VERSION]).said(0, &[&warning, &fetched(&place)]);
    assert_eq!(fs::read(&path).unwrap(), release(VERSION, "amd64"));
}

#[test]
fn offline_takes_what_is_there_and_asks_nobody() {
    let place = Place::new(&[VERSION]);
    let path = place.cached(VERSION, "amd64");
    let missing =
        format!("etcd-fetch: {}: not in the cache: run it once without --offline", path.display());
    place.run(&place.mirror(), &[VERSION, "--offline"]).said(3, &[&missing]);
    assert!(!place.path("cache").exists());

    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, release(VERSION, "amd64")).unwrap();
    let unlisted = missing.replace("not in", "without a checksum in");
    place.run(&place.mirror(), &[VERSION, "--offline"]).said(3, &[&unlisted]);
    // Whoever knows the sum needs no list, and what is put there by hand is looked into.
    place.run("/nowhere", &[VERSION, "--offline", "--sha256", &sum()]).said(0, &[&cached()]);
    // The mirror's list is as good.
    place.run(&place.mirror(), &[VERSION]).said(0, &[&cached()]);
    place.run("/nowhere", &[VERSION, "--offline"]).said(0, &[&cached()]);
}

#[test]
fn the_note_on_the_binaries_is_bound_to_the_archive() {
    let place = Place::new(&[VERSION]);
    place.run(&place.mirror(), &[VERSION]).said(0, &[&fetched(&place)]);
    let note = place.cached(VERSION, "amd64").with_extension("gz.binaries");
    let good = fs::read_to_string(&note).unwrap();
    assert!(good.starts_with(&sum()), "{good}");
    for bad in ["".into(), "\u{0}".into(), good.replacen(&sum(), &disk::sha256(b"other"), 1)] {
        fs::write(&note, bad).unwrap();
        let ran = place.run("/nowhere", &[VERSION, "--offline"]);
        ran.said(0, &[&cached()]);
        assert_eq!(fs::read_to_string(&note).unwrap(), good);
    }
    // It spares the run from unpacking the archive again.
    fs::write(&note, good.replace("  etcdutl\n", "  noted\n")).unwrap();
    let document = place.run("/nowhere", &[VERSION, "--offline"]).document();
    assert_eq!(document["release"]["archives"][0]["binaries"][2]["name"], "noted");
}

#[test]
fn a_pin_must_fit_the_list_and_the_archive() {
    let place = Place::new(&[VERSION]);
    let sums = place.path("mirror/v3.5.16/SHA256SUMS");
    let name = file_name(VERSION, "amd64");
    let other = disk::sha256(b"other");
    let against_the_list =
        format!("etcd-fetch: {}: {name} is {}, but --sha256 says {other}", sums.display(), sum());
    let mirror = place.mirror();
    place.run(&mirror, &[VERSION, "--sha256", &other]).said(3, &[&against_the_list]);

    fs::remove_file(&sums).unwrap();
    place.run(&mirror, &[VERSION, "--sha256", &other]).said(
        3,
        &[&format!(
            "etcd-fetch: {}: SHA-256 is {}, expected {other}: damaged or tampered with, not kept",
            place.published(VERSION, "amd64").display(),
            sum()
        )],
    );
    let names: Vec<_> = place.snapshot("cache").into_keys().collect();
    assert_eq!(names, [place.path("cache/v3.5.16/.lock")]);

    let pin = format!("s390x={other},amd64={}", sum().to_uppercase());
    place.run(&mirror, &[VERSION, "--sha256", &pin]).said(0, &[&fetched(&place)]);
    place.run("/nowhere", &[VERSION, "--sha256", &pin]).said(0, &[&cached()]);
}

#[test]
fn a_pin_must_fit_what_is_in_the_cache() {
    let place = Place::new(&[VERSION]);
    place.run(&place.mirror(), &[VERSION]).said(0, &[&fetched(&place)]);
    let before = place.snapshot("cache");
    let other = disk::sha256(b"other");
    let contradiction = |sums: &std::path::Path| {
        format!(
            "etcd-fetch: {}: {} is {}, but --sha256 says {other}",
            sums.display(),
            file_name(VERSION, "amd64"),
            sum()
        )
    };
    place
        .run(&place.mirror(), &[VERSION, "--sha256", &other])
        .said(3, &[&contradiction(&place.path("mirror/v3.5.16/SHA256SUMS"))]);
    place
        .run(&place.mirror(), &[VERSION, "--sha256", &other, "--offline"])
        .said(3, &[&contradiction(&place.path("cache/v3.5.16/SHA256SUMS"))]);
    assert_eq!(place.snapshot("cache"), before);
}

#[test]
fn a_wrong_archive_is_not_kept_and_the_old_one_stays() {
    let place = Place::new(&[VERSION]);
    place.run(&place.mirror(), &[VERSION]).said(0, &[&fetched(&place)]);
    let path = place.cached(VERSION, "amd64");
    let before = place.snapshot("cache");
    // The mirror lists another archive, and has a third one.
    let second = Place::new(&[]);
    second.publish(VERSION, "amd64", b"another");
    fs::write(second.published(VERSION, "amd64"), noise(1000)).unwrap();
    let listed = disk::sha256(b"another");
    let mut command = place.command(&second.mirror(), &[VERSION, "--sha256", &listed]);
    command.env("ETCD_TOOLS_QUIET", "1");
    run(command, NODES).said(
        3,
        &[
            &format!("etcd-fetch: warning: {}: damaged, to be fetched again", path.display()),
            &format!(
                "etcd-fetch: {}: SHA-256 is {}, expected {listed}: damaged or tampered with, \
                 not kept",
                second.published(VERSION, "amd64").display(),
                disk::sha256(&noise(1000))
            ),
        ],
    );
    assert_eq!(place.snapshot("cache"), before);
    place.run("/nowhere", &[VERSION]).said(0, &[&cached()]);
}

#[test]
fn a_write_that_fails_is_one_line_and_leaves_the_cache_whole() {
    let place = Place::new(&[VERSION, "v3.5.30"]);
    place.run(&place.mirror(), &["v3.5.30", "--quiet"]).said(0, &[]);
    let before = place.snapshot("cache");
    // The kernel refuses to write more than 100 kB to a file: as a full disk does.
    let tool = place.command(&place.mirror(), &[VERSION]);
    let limited = limited(&tool, "trap '' XFSZ; ulimit -f 100");
    let partial = disk::beside(&place.cached(VERSION, "amd64"));
    run(limited, NODES).said(
        3,
        &[&format!("etcd-fetch: {}: writing: File too large (os error 27)", partial.display())],
    );
    let after = place.snapshot("cache");
    assert!(before.iter().all(|(path, file)| after.get(path) == Some(file)));
    assert!(!place.cached(VERSION, "amd64").exists());
    place.run(&place.mirror(), &[VERSION]).said(0, &[&fetched(&place)]);
    assert!(!partial.exists());
}
