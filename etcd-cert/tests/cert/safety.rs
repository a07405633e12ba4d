use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::{BINARY, Lab, NODES, UNCHANGED, command};

fn mode(lab: &Lab, path: &str) -> u32 {
    fs::metadata(lab.path(path)).unwrap().permissions().mode() & 0o7777
}

fn set_mode(lab: &Lab, path: &str, mode: u32) {
    fs::set_permissions(lab.path(path), Permissions::from_mode(mode)).unwrap();
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    for umask in ["000", "077"] {
        let lab = Lab::new();
        let script = format!("umask {umask}; exec {BINARY} issue");
        let ran = lab.run_command(command("sh").args(["-c", &script]), NODES);
        assert_eq!(ran.code, 0);
        lab.assert_sound();
        assert_eq!(mode(&lab, "pki/.lock"), 0o600);
        for (path, (mode, _)) in lab.tree() {
            let expected = match path.rsplit_once('.').map(|(_, kind)| kind) {
                Some("key") => 0o600,
                Some("crt") => 0o644,
                _ => 0o700,
            };
            assert_eq!(mode, expected, "{path} with umask {umask}");
        }
    }
}

#[test]
fn a_key_that_others_can_use_is_taken_from_them() {
    let lab = Lab::issued();
    set_mode(&lab, "pki/ca.key", 0o644);
    set_mode(&lab, "pki/nodes/etcd-02/server.key", 0o640);
    let [etcd_01, etcd_02, etcd_03, clients] = UNCHANGED;
    lab.issue(&["--check"]).expect(
        1,
        &[
            "etcd-cert: pki/ca.key would be protected: mode 0644 let others use it",
            etcd_01,
            "etcd-cert: etcd-02: pki/nodes/etcd-02/server.key would be protected: \
             mode 0640 let others use it",
            etcd_03,
        ],
    );
    assert_eq!(mode(&lab, "pki/ca.key"), 0o644);
    let ran = lab.issue(&[]);
    assert_eq!(ran.code, 0);
    assert_eq!(mode(&lab, "pki/ca.key"), 0o600);
    assert_eq!(mode(&lab, "pki/nodes/etcd-02/server.key"), 0o600);
    assert_eq!(ran.document()["nodes"][1]["files"].as_array().unwrap().len(), 5);
    lab.issue(&[]).expect(0, &[etcd_01, etcd_02, etcd_03, clients]);
}

#[test]
fn a_folder_that_others_can_look_into_is_warned_of() {
    let lab = Lab::issued();
    set_mode(&lab, "pki", 0o755);
    let line = "etcd-cert: warning: pki: mode 0755 lets others look into it: chmod 700 pki";
    for subcommand in ["issue", "check", "ca"] {
        lab.run(&[subcommand], NODES).expect_line(0, line);
    }
    assert_eq!(mode(&lab, "pki"), 0o755);
}

#[test]
fn any_lost_file_heals() {
    let whole = Lab::issued();
    // But that of the CA, which must be the same again.
    let kept = |path: &&String| path.contains('.') && *path != "pki/ca.crt";
    for path in whole.tree().keys().filter(kept) {
        let lab = Lab::issued();
        lab.remove(path);
        assert_eq!(lab.issue(&[]).code, 0, "{path}");
        // The one file that cannot be made again, and needs not be.
        if path == "pki/ca.key" {
            assert_eq!(lab.tree().get(path), None);
            continue;
        }
        lab.assert_trusted();
        lab.issue(&[]).expect(0, &UNCHANGED);
    }
}

#[test]
fn what_a_killed_run_left_is_removed() {
    let lab = Lab::issued();
    let before = lab.tree();
    // It was killed in `issue --san`: the certificate on the disk is still good.
    lab.write("pki/nodes/etcd-02/.server.key.partial", "a key");
    lab.issue(&["--check"])
        .expect_line(1, "etcd-cert: would remove 1 temporary file left by an interrupted run");
    assert_eq!(lab.text("pki/nodes/etcd-02/.server.key.partial"), "a key");
    lab.write("pki/.client.crt.partial", "");
    let mut lines = vec!["etcd-cert: removed 2 temporary files left by an interrupted run"];
    lines.extend(UNCHANGED);
    lab.issue(&[]).expect(0, &lines);
    assert_eq!(lab.tree(), before);
}

fn spawn(lab: &Lab) -> Child {
    fs::write(lab.path("nodes.txt"), NODES).unwrap();
    let stdin = fs::File::open(lab.path("nodes.txt")).unwrap();
    let mut command = command(BINARY);
    command.arg("issue").current_dir(lab.path("")).stdin(stdin);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_run_that_is_killed_at_any_file_heals() {
    let whole = Lab::issued();
    for path in whole.tree().keys() {
        let lab = Lab::new();
        let mut child = spawn(&lab);
        // Killed as soon as the file is there, or after it ended: both must heal.
        while !lab.path(path).exists() && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(lab.issue(&[]).code, 0, "{path}");
        lab.issue(&[]).expect(0, &UNCHANGED);
        lab.assert_trusted();
    }
}

#[test]
fn of_two_at_once_the_second_finds_all_done() {
    for _ in 0..3 {
        let lab = Lab::new();
        let children = [spawn(&lab), spawn(&lab)];
        let mut made = 0;
        let mut documents = Vec::new();
        for child in children {
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{stderr}");
            if stderr.contains("CA made") {
                made += 1;
            } else {
                assert_eq!(stderr.lines().collect::<Vec<_>>(), UNCHANGED);
            }
            let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            documents.push(document["nodes"].clone());
        }
        assert_eq!(made, 1);
        assert_eq!(documents[0], documents[1]);
        lab.assert_sound();
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let lab = Lab::new();
    lab.write("pki", "a file");
    lab.issue(&[]).expect(3, &["etcd-cert: pki: making the folder: File exists (os error 17)"]);
    let lab = Lab::new();
    fs::create_dir(lab.path("pki")).unwrap();
    // Root may write anywhere: somebody else tries.
    lab.copy_binary();
    set_mode(&lab, "", 0o755);
    set_mode(&lab, "pki", 0o500);
    let mut command = command(lab.path("etcd-cert").to_str().unwrap());
    command.arg("issue");
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(lab.path("pki"), Some(65534), Some(65534)).unwrap();
        command.uid(65534).gid(65534);
    }
    lab.run_command(&mut command, NODES)
        .expect(3, &["etcd-cert: pki/.lock: opening the lock: Permission denied (os error 13)"]);
    assert_eq!(fs::read_dir(lab.path("pki")).unwrap().count(), 0);
}

impl Lab {
    /// A copy of the binary where every user can run it. Another process makes it: what this
    /// one has open for writing, a child that another test starts meanwhile has open as well,
    /// and until then it is "busy" and cannot be run.
    fn copy_binary(&self) {
        let copied = Command::new("cp").arg(BINARY).arg(self.path("etcd-cert")).status();
        assert!(copied.unwrap().success());
    }
}

#[test]
fn a_node_that_fails_does_not_stop_the_others() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path("pki/nodes")).unwrap();
    set_mode(&lab, "pki", 0o700);
    lab.write("pki/nodes/etcd-02", "in the way");
    let ran = lab
        .issue(&[])
        .expect_line(
            3,
            "etcd-cert: etcd-02: pki/nodes/etcd-02/server.crt: reading: \
             Not a directory (os error 20)",
        )
        .expect_line(3, "etcd-cert: etcd-03: peer certificate issued")
        .expect_line(3, "etcd-cert: client certificate issued");
    let document = ran.document();
    assert_eq!(document["nodes"][1].get("files"), None);
    assert_eq!(document["nodes"][2]["files"].as_array().unwrap().len(), 5);
    assert_eq!(document["results"][2]["code"], "failed");
}

#[test]
fn keys_are_never_said() {
    let lab = Lab::issued();
    lab.write("pki/nodes/etcd-01/peer.crt", &lab.text("pki/nodes/etcd-01/peer.key"));
    let secret = lab.text("pki/nodes/etcd-01/peer.key");
    let secret = secret.lines().nth(1).unwrap();
    let ran = lab.issue(&[]).expect_line(
        0,
        "etcd-cert: etcd-01: peer certificate reissued: \
         pki/nodes/etcd-01/peer.crt holds a private key as well: expected certificates only",
    );
    assert!(!ran.stdout.contains(secret) && !ran.stderr.concat().contains(secret));
}
