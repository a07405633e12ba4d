//! Files on hosts as they are: shells, kills, owners, links and labels.

use std::time::Duration;

use pipeline::Code;
use serde_json::{Value, json};
use tests::{Lab, Ran, wait_until};

const HOSTS: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];
const MINUTE: Duration = Duration::from_secs(60);

/// A document with these `files` and `directories` on the first `count` hosts.
fn document(count: usize, files: &Value, directories: &Value) -> String {
    let nodes: Vec<_> = (0..count)
        .map(|at| {
            json!({"name": HOSTS[at], "address": format!("192.168.1.{}", 100 + at),
                   "files": files, "directories": directories})
        })
        .collect();
    json!({"apiVersion": "etcd-tools/v1", "nodes": nodes}).to_string()
}

fn motd(content: &str) -> String {
    let files = json!([{"path": "/etc/motd", "mode": "0644", "content": content}]);
    document(3, &files, &json!([]))
}

fn codes(ran: &Ran) -> Vec<(String, String)> {
    let results = ran.document().results.into_iter();
    results.map(|result| (result.node.unwrap_or_default(), result.code)).collect()
}

#[test]
fn the_second_operator_is_refused_whatever_nodes_and_a_paused_one_does_nothing_more() {
    let lab = Lab::with_nodes(3);
    for name in ["zero", "one", "two"] {
        lab.write(&format!("{name}.json"), &motd(&format!("{name}\n")));
    }
    lab.bash("etcd-push < zero.json").ok();
    let content = || lab.on_all(&HOSTS, "cat /etc/motd").concat();

    // The first is at work on one node only, and waits there.
    lab.hold("etcd-01", "mv");
    let first = lab.start("exec etcd-push --only etcd-01 < one.json");
    lab.wait_held("etcd-01");
    let second = lab.bash("etcd-push --only etcd-02 < two.json").exits(3);
    let refused: Vec<_> = HOSTS.map(|host| (host.to_owned(), "locked".to_owned())).to_vec();
    assert_eq!(codes(&second), refused, "{}", second.stderr);
    for (line, host) in second.stderr.lines().zip(HOSTS) {
        assert!(line.starts_with(&format!("etcd-push: {host}: locked by root@")), "{line}");
    }
    assert_eq!(content(), "zero\nzero\nzero\n");
    lab.let_go("etcd-01");
    first.wait().ok();
    assert_eq!(content(), "one\nzero\nzero\n");

    // The machine of the first is suspended while it reads the state of the hosts.
    lab.hold("etcd-02", "sha256sum");
    let mut first = lab.start("exec etcd-push < two.json");
    lab.wait_held("etcd-02");
    first.signal("STOP");
    lab.let_go("etcd-02");
    wait_until("the hosts free the locks", MINUTE, || {
        lab.on_all(&HOSTS, "flock -n /run/etcd-tools.lock true || echo held").concat().is_empty()
    });
    assert!(first.is_running());
    first.signal("CONT");
    let paused = first.wait().exits(3);
    let lost: Vec<_> = HOSTS.map(|host| (host.to_owned(), "lock-lost".to_owned())).to_vec();
    assert_eq!(codes(&paused), lost, "{}", paused.stderr);
    for host in HOSTS {
        let why = "the host freed it while this run was paused or cut off: run again";
        let line = format!("etcd-push: {host}: lock lost: {why}");
        assert!(paused.stderr.lines().any(|l| l == line), "{}", paused.stderr);
    }
    assert_eq!(content(), "one\nzero\nzero\n");
    lab.bash("etcd-push < two.json").ok();
    assert_eq!(content(), "two\ntwo\ntwo\n");
    assert_eq!(Code::LockLost.to_string(), "lock-lost");
}

/// Promise 13: a script whose run was killed has ended before the next one looks.
#[test]
fn what_an_earlier_run_left_at_work_has_ended_before_its_state_is_read() {
    let lab = Lab::with_nodes(3);
    for name in ["zero", "one", "two"] {
        lab.write(&format!("{name}.json"), &motd(&format!("{name}\n")));
    }
    lab.bash("etcd-push < zero.json").ok();
    lab.hold("etcd-01", "mv");
    let first = lab.start("exec etcd-push --only etcd-01 < one.json");
    lab.wait_held("etcd-01");
    first.kill();
    let at_work = "flock -n /run/etcd-tools.work true || echo busy";
    assert_eq!(lab.on("etcd-01", at_work), "busy\n");
    // The programs that the next run starts are not held; what waits goes on waiting.
    lab.on("etcd-01", "rm /usr/local/bin/mv");
    let next = lab.bash("etcd-push < two.json").ok();
    assert_eq!(next.stderr.matches(": wrote /etc/motd").count(), 3, "{}", next.stderr);
    assert_eq!(lab.on("etcd-01", at_work), "");
    lab.let_go("etcd-01");
    assert_eq!(
        lab.on_all(&HOSTS, "cat /etc/motd; ls -d /etc/.etcd-tools 2>/dev/null; true"),
        ["two\n"; 3]
    );
}

#[test]
fn killed_at_every_process_under_dash_and_bash_and_healed() {
    let lab = Lab::with_nodes(2);
    let hosts = &HOSTS[..2];
    lab.on("etcd-02", "ln -sf bash /bin/sh");
    let files = json!([
        {"path": "/srv/one", "mode": "0640", "content": "new one\n"},
        {"path": "/srv/two", "mode": "0600", "content": "new two\n"},
    ]);
    let directories = json!([{"path": "/srv", "mode": "0750"}]);
    lab.write("push.json", &document(2, &files, &directories));
    lab.bash("etcd-push < push.json").ok();
    let mut number = 0;
    loop {
        number += 1;
        assert!(number < 60, "it does not end");
        let old = "cd /srv; chmod 755 .; echo old one > one; echo old two > two";
        lab.on_all(hosts, old);
        lab.kill_at(hosts, number);
        let killed = lab.bash("etcd-push < push.json");
        let hit = lab.killed(hosts);
        let found = lab.on_all(hosts, "cat /srv/one /srv/two");
        for found in &found {
            let whole = [["old one\n", "new one\n"], ["old two\n", "new two\n"]];
            let mut lines = found.split_inclusive('\n');
            for any in whole {
                assert!(any.contains(&lines.next().unwrap_or_default()), "{number}: {found}");
            }
        }
        let again = lab.bash("etcd-push < push.json");
        assert_eq!(again.code, 0, "killed at {number}: {}\n{}", killed.stderr, again.stderr);
        let left = "cat /srv/one /srv/two; stat -c %a /srv; find / -xdev -name '.*etcd-tools*'; \
                    flock -n /run/etcd-tools.lock true || echo locked";
        assert_eq!(lab.on_all(hosts, left), ["new one\nnew two\n750\n"; 2], "killed at {number}");
        if !hit {
            killed.ok();
            break;
        }
    }
    assert!(number > 10, "{number} processes only");
}

#[test]
fn what_has_converged_stays_and_what_is_not_safe_is_refused() {
    let lab = Lab::with_nodes(1);
    lab.on(
        "etcd-01",
        "mkdir -p /data/etcd /srv/shared; ln -s /data/etcd /var/lib/kv; chmod 2755 /srv/shared; \
         install -d -o daemon -g daemon /srv/etcd; ln -s /etc/sudoers.d /srv/etcd/wal; \
         chown -h daemon /srv/etcd/wal; \
         for tool in selinuxenabled restorecon chcon; do \
             printf '#!/bin/sh\\necho %s \"$@\" >> /run/labels\\n' $tool > /usr/local/bin/$tool; \
             chmod 755 /usr/local/bin/$tool; \
         done; echo 'old secret' > /etc/secret; chmod 640 /etc/secret",
    );
    // One folder by two names takes files by both, but not one file.
    lab.on("etcd-01", "mkdir /srv/real; ln -s real /srv/link; ln -s /srv/real /srv/real/folder");
    let two = |second: &str| {
        let files = json!([
            {"path": "/srv/real/a", "content": "a\n"}, {"path": second, "content": "b\n"},
        ]);
        lab.write("two.json", &document(1, &files, &json!([])));
        lab.bash("etcd-push < two.json")
    };
    two("/srv/link/b").ok();
    assert_eq!(lab.on("etcd-01", "cat /srv/real/a /srv/real/b"), "a\nb\n");
    two("/srv/link/a").exits(3).says(
        "etcd-push: etcd-01: /srv/real/a and /srv/link/a are both /srv/real/a on the node: name it \
         once",
    );
    two("/srv/real/folder").exits(3).says(
        "etcd-push: etcd-01: /srv/real/folder: a link to a folder is in the place of the file: \
         remove it first, or name the folder",
    );
    lab.on("etcd-01", "rm -r /srv/real /srv/link");
    let files = json!([
        {"path": "/srv/shared/a", "mode": "0644", "owner": "1", "group": "0", "content": "text"},
        {"path": "/etc/secret", "mode": "0640", "content": "new secret\n"},
    ]);
    let directories = json!([
        {"path": "/var/lib/kv", "mode": "0700", "owner": "daemon", "group": "daemon"},
        {"path": "/srv/shared", "mode": "0755"},
    ]);
    lab.write("push.json", &document(1, &files, &directories));
    let check = lab.bash("etcd-push --check < push.json").exits(1);
    assert_eq!(
        check.stderr,
        "etcd-push: etcd-01: would set /var/lib/kv to mode 0700, owner daemon:daemon\n\
         etcd-push: etcd-01: would write /srv/shared/a\n\
         etcd-push: etcd-01: would replace /etc/secret\n    \
         (not shown: others may not read it)\n"
    );
    lab.bash("etcd-push < push.json").ok();
    let stat = "stat -c '%a %U %n' /data/etcd /srv/shared /srv/shared/a; readlink /var/lib/kv";
    let expected = "700 daemon /data/etcd\n2755 root /srv/shared\n644 daemon /srv/shared/a\n\
                    /data/etcd\n";
    assert_eq!(lab.on("etcd-01", stat), expected);
    let labels = lab.on("etcd-01", "grep -v selinuxenabled /run/labels");
    for path in ["/srv/shared/.etcd-tools", "/srv/shared/a", "/etc/secret"] {
        let line = format!("restorecon -- {path}");
        assert!(labels.lines().any(|label| label == line), "{labels}");
    }
    lab.bash("etcd-push < push.json")
        .ok()
        .says("etcd-push: etcd-01: 2 files, 2 folders already in place");

    // A link that the owner of the folder may have placed leads nowhere.
    let files = json!([{"path": "/srv/etcd/wal/x", "mode": "0644", "content": "x"}]);
    let directories =
        json!([{"path": "/srv/etcd/wal", "mode": "0700", "owner": "daemon", "group": "daemon"}]);
    let why = "/srv/etcd/wal is a link that another user than root could have placed: \
               name the folder that it leads to instead";
    for (name, document) in [
        ("/srv/etcd/wal", document(1, &files, &json!([]))),
        ("/srv/etcd/wal", document(1, &json!([]), &directories)),
    ] {
        lab.write("wal.json", &document);
        for command in ["etcd-push --check", "etcd-push"] {
            let refused = lab.bash(&format!("{command} < wal.json")).exits(3);
            refused.says(&format!("etcd-push: etcd-01: {name}: {why}"));
        }
    }
    let untouched = lab.on("etcd-01", "stat -c %U /etc/sudoers.d; ls /etc/sudoers.d/x 2>&1; true");
    assert!(untouched.starts_with("root\n") && untouched.contains("No such file"), "{untouched}");

    // An owner that is not there is found before anything is written, with --check, too.
    for (owner, group, why) in [
        (
            "nobody",
            "nobodies",
            "group nobodies: no such group: create it, or set another user or group",
        ),
        ("etcd", "root", "user etcd: no such user: list it in the node's users"),
    ] {
        let files = json!([{"path": "/etc/x", "mode": "0644", "content": "x",
                            "owner": owner, "group": group}]);
        lab.write("owner.json", &document(1, &files, &json!([])));
        for command in ["etcd-push --check", "etcd-push"] {
            let refused = lab.bash(&format!("{command} < owner.json")).exits(3);
            refused.says(&format!("etcd-push: etcd-01: {why}"));
        }
    }
    lab.bash(
        "jq '.nodes[].users = [{name: \"etcd\", home: \"/srv\"}] | .nodes[].files[].group = \"etcd\" \
         | del(.results)' owner.json | etcd-push",
    )
    .ok();

    // A group of the user's name that is there is the user's.
    lab.on("etcd-01", "groupadd --gid 4242 kv");
    lab.bash("jq '.nodes[].users = [{name: \"kv\", home: \"/srv\"}] | del(.results)' owner.json | etcd-push")
        .ok();
    assert_eq!(lab.on("etcd-01", "id -gn kv; id -g kv"), "kv\n4242\n");

    // Nothing is put in the place of what is mounted.
    lab.on("etcd-01", "touch /etc/mounted; mount --bind /etc/hostname /etc/mounted");
    let files = json!([{"path": "/etc/mounted", "mode": "0644", "content": "x"}]);
    lab.write("mounted.json", &document(1, &files, &json!([])));
    for command in ["etcd-push --check", "etcd-push"] {
        lab.bash(&format!("{command} < mounted.json")).exits(3).says(
            "etcd-push: etcd-01: /etc/mounted: a mount point, which no file can be put in place \
             of: unmount it, or leave the file out",
        );
    }
    lab.on("etcd-01", "umount /etc/mounted");

    // What is etcd's, or of these tools, is not touched under another name.
    lab.on(
        "etcd-01",
        "mkdir -p /etc/etcd /disk/etcd; ln -s /etc/etcd /srv/e; ln -s /disk/etcd /var/lib/etcd",
    );
    for (path, known) in [
        ("/srv/e/ssl/ca.crt", "/etc/etcd/ssl/ca.crt"),
        ("/disk/etcd/member/snap/db", "/var/lib/etcd/member/snap/db"),
        ("/var/run/etcd-tools.lock", "/run/etcd-tools.lock"),
    ] {
        let files = json!([{"path": path, "absent": true}]);
        lab.write("hidden.json", &document(1, &files, &json!([])));
        for command in ["etcd-push --check", "etcd-push"] {
            lab.bash(&format!("{command} < hidden.json")).exits(3).says(&format!(
                "etcd-push: etcd-01: {path} is {known} on this host, which is etcd's or of these \
                 tools: name it by that path"
            ));
        }
    }
    lab.on("etcd-01", "rm /srv/e /var/lib/etcd");

    // What is no regular file is not read.
    lab.bash("mkfifo pipe").ok();
    for local in ["pipe", "/dev/zero"] {
        let files = json!([{"path": "/etc/x", "mode": "0644", "local": local,
                            "sha256": "0".repeat(64)}]);
        lab.write("special.json", &document(1, &files, &json!([])));
        lab.bash("etcd-push < special.json")
            .exits(65)
            .says(&format!("etcd-push: etcd-01: /etc/x: {local}: not a regular file"));
    }

    // Without GNU coreutils nothing is tried.
    lab.on(
        "etcd-01",
        "printf '#!/bin/sh\\nexit 1\\n' > /usr/local/bin/stat; chmod 755 /usr/local/bin/stat",
    );
    lab.bash("etcd-push < push.json").exits(3).says(
        "etcd-push: etcd-01: no GNU coreutils here (busybox?): install the coreutils package",
    );
    lab.on("etcd-01", "rm /usr/local/bin/*");
}

#[test]
fn the_number_of_processes_does_not_depend_on_that_of_the_files() {
    let lab = Lab::with_nodes(1);
    lab.bash("mkdir files; for at in $(seq 1000); do echo $at > files/$at; done").ok();
    let processes = |count: usize| {
        let file = |at| json!({"path": format!("/srv/many/{at}"), "mode": "0644", "local": format!("files/{at}")});
        let files: Value = (1..=count).map(file).collect();
        lab.write("many.json", &document(1, &files, &json!([])));
        lab.kill_at(&HOSTS[..1], usize::MAX);
        let line = format!("etcd-push: etcd-01: wrote {count} files");
        lab.bash("etcd-push < many.json").ok().says(&line);
        let counted = lab.on("etcd-01", "cat /run/kill/count");
        assert!(!lab.killed(&HOSTS[..1]));
        lab.bash("etcd-push < many.json")
            .ok()
            .says(&format!("etcd-push: etcd-01: {count} files already in place"));
        let found = lab.on("etcd-01", "cd /srv; cat many/* | sort -n | cksum; rm -r many");
        assert_eq!(found, lab.bash(&format!("seq {count} | cksum")).ok().stdout);
        counted.trim().parse::<usize>().unwrap()
    };
    let (ten, thousand) = (processes(10), processes(1000));
    assert!(ten > 3 && thousand < 3 * ten, "{ten} and {thousand} processes");

    // Names as files may have them, up to the longest.
    let long = "n".repeat(255);
    let names = [&long, "a\\b", "-rf", "a b*", "x: y", "\u{e9}", "*"];
    let file = |name: &&str| {
        json!({"path": format!("/srv/odd/{name}"), "mode": "4750", "owner": "1", "group": "daemon",
               "content": name})
    };
    let files: Value = names.iter().map(file).collect();
    lab.write("odd.json", &document(1, &files, &json!([])));
    lab.bash("etcd-push < odd.json").ok().says("etcd-push: etcd-01: wrote 7 files");
    let found = lab.on("etcd-01", "cd /srv/odd; for name in *; do cat -- \"$name\"; echo; done");
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(found.lines().collect::<Vec<_>>(), sorted);
    let stat = lab.on("etcd-01", "stat -c '%a %U:%G' -- /srv/odd/* | sort -u");
    assert_eq!(stat, "4750 daemon:daemon\n");
    lab.bash("etcd-push < odd.json").ok().says("etcd-push: etcd-01: 7 files already in place");
}

/// Promise 6, for whoever does not say how etcd was deployed, or names a folder by another path.
#[test]
fn what_is_etcds_is_so_by_any_path_and_whoever_deployed_it() {
    let lab = Lab::with_nodes(2);
    let list = lab.read("nodes.txt");
    lab.write("nodes.txt", list.lines().next().expect("a node"));
    lab.bash(
        "etcd-fetch -q v3.5.16 < nodes.txt | jq '.cluster.settings = {dataDir: \"/srv/etcd/data\", \
         walDir: \"/data/wal\", configDir: \"/opt/conf/etcd\", certDir: \"/opt/certs/e\", \
         binDir: \"/opt/ebin\"}' | etcd-cert issue -q | etcd-render -q | etcd-push -q \
         | etcd-unit start -q | etcd-health -q --wait -o json > own.json",
    )
    .ok();
    let traces = "stat -c '%n %a %U %i' /srv /data /opt /opt/conf /srv/etcd/data /srv/etcd/data/member/* \
                  /data/wal/wal/* /opt/ebin/etcd; cat /opt/conf/etcd/*; systemctl show etcd -p MainPID";
    let pushed = |host: usize, what: &Value| {
        let mut node = json!({"name": HOSTS[host], "address": format!("192.168.1.{}", 100 + host)});
        for (key, value) in what.as_object().expect("an object") {
            node[key] = value.clone();
        }
        lab.write(
            "push.json",
            &json!({"apiVersion": "etcd-tools/v1", "nodes": [node]}).to_string(),
        );
    };
    let refused = |host: usize, what: &Value, why: &str| {
        pushed(host, what);
        for check in ["--check", ""] {
            lab.bash(&format!("etcd-push {check} push.json"))
                .exits(3)
                .says(&format!("etcd-push: {}: {why}", HOSTS[host]));
        }
    };
    let folder = |path: &str, mode: &str| json!({"directories": [{"path": path, "mode": mode, "owner": "root", "group": "root"}]});
    let text =
        |path: &str| json!({"files": [{"path": path, "mode": "0644", "content": "other\n"}]});
    let absent = |path: &str| json!({"files": [{"path": path, "absent": true}]});
    let unsaid = |path: &str, known: &str| {
        format!(
            "{path}: etcd has its own in {known} on this host, which the document does not say: \
             leave it out, or give the settings that etcd was deployed with"
        )
    };
    let before = lab.on(HOSTS[0], traces);
    for (path, mode) in [("/srv", "0700"), ("/data", "0750"), ("/opt", "0750")] {
        refused(
            0,
            &folder(path, mode),
            &format!(
                "{path}: etcd, which runs as etcd, could not enter it with mode {mode} and owner \
                 root:root: it is on the way to its files"
            ),
        );
    }
    for path in ["/opt/conf/etcd/etcd.conf", "/opt/ebin/etcd"] {
        refused(0, &text(path), &unsaid(path, path));
        refused(0, &absent(path), &unsaid(path, path));
    }
    // A folder has another path where it is mounted once more.
    lab.on(
        HOSTS[0],
        "mkdir /mnt/b /mnt/c; mount --bind /srv/etcd /mnt/b; mount --bind /opt/conf/etcd /mnt/c",
    );
    let database = "/mnt/b/data/member/snap/db";
    refused(0, &absent(database), &unsaid(database, "/srv/etcd/data"));
    refused(0, &folder("/mnt/b/data", "0755"), &unsaid("/mnt/b/data", "/srv/etcd/data"));
    let mark = "/mnt/c/etcd.member";
    refused(0, &absent(mark), &unsaid(mark, "/opt/conf/etcd/etcd.member"));
    let with = format!(
        "jq 'del(.results) | .nodes[0].files += [{{path: \"{database}\", absent: true}}]' own.json"
    );
    lab.bash(&format!("{with} | etcd-push")).exits(3).says(&format!(
        "etcd-push: etcd-01: {database} is /srv/etcd/data/member/snap/db on this host, which is \
         etcd's or of these tools: name it by that path"
    ));
    lab.bash(
        "jq 'del(.results) | .nodes[0].settings.certDir = \"/mnt/b/data\"' own.json > cert.json",
    )
    .ok();
    lab.bash("etcd-cert issue < cert.json | etcd-render | etcd-push").exits(3);
    assert_eq!(lab.on(HOSTS[0], traces), before);
    pushed(0, &folder("/srv", "0711"));
    lab.bash("etcd-push push.json").ok();
    // Nor does it become nobody's without its configuration.
    lab.on(HOSTS[0], "systemctl stop etcd; mv /opt/conf/etcd/etcd.conf /tmp/");
    for (path, known) in [
        ("/srv/etcd/data/member/snap/db", "/srv/etcd/data"),
        ("/data/wal/wal/0.wal", "/data/wal/wal"),
    ] {
        refused(0, &absent(path), &unsaid(path, known));
    }
    lab.on(HOSTS[0], "mv /tmp/etcd.conf /opt/conf/etcd/; systemctl start etcd");

    // What others have deployed is theirs, running as it is.
    lab.bash(
        "tar xzf $(jq -r '.release.archives[0].local' own.json) --wildcards '*/etcd' -O > binary",
    )
    .ok();
    lab.write("nodes.txt", list.lines().nth(1).expect("a node"));
    lab.bash("etcd-push --file binary:/opt/other/kv:0755 nodes.txt").ok();
    lab.on(
        HOSTS[1],
        "mkdir /data; printf '{name: other, data-dir: /data/etcd, log-outputs: [stderr]}' > /opt/other/etcd.conf.yml
         printf '[Service]\\nType=notify\\nExecStart=/opt/other/kv --config-file \
         /opt/other/etcd.conf.yml\\n' > /etc/systemd/system/other.service
         systemctl start other && mkdir /mnt/b && mount --bind /data /mnt/b",
    );
    let traces = "stat -c '%n %a %U %i' /data/etcd/member/*/*; cat /opt/other/*.yml; \
                  sha256sum /opt/other/kv; systemctl show other -p MainPID";
    let before = lab.on(HOSTS[1], traces);
    for (path, known) in [
        ("/data/etcd/member/snap/db", "/data/etcd"),
        ("/mnt/b/etcd/member/wal/0.wal", "/data/etcd"),
        ("/opt/other/etcd.conf.yml", "/opt/other/etcd.conf.yml"),
        ("/etc/systemd/system/other.service", "/etc/systemd/system/other.service"),
        ("/etc/systemd/system/other.service.d/x.conf", "/etc/systemd/system/other.service.d"),
    ] {
        refused(1, &text(path), &unsaid(path, known));
        refused(1, &absent(path), &unsaid(path, known));
    }
    let program = "/opt/other/kv: etcd runs it: put a program in its place, or leave it out";
    refused(1, &text("/opt/other/kv"), program);
    refused(1, &absent("/opt/other/kv"), program);
    assert_eq!(lab.on(HOSTS[1], traces), before);
}
