//! The ways to reach a host: users, ports, jump hosts, host keys.

use pipeline::Severity;
use tests::{Lab, Ran, deploy, guide};

/// A file on each of three nodes; `ssh` of each node is to be filled in.
const FILES: &str = r#"{
  "apiVersion": "etcd-tools/v1",
  "nodes": [
    {"name": "etcd-01", "address": "192.168.1.100", SSH_1
      "files": [{"path": "/etc/motd", "mode": "0644", "content": "hello\n"}]},
    {"name": "etcd-02", "address": "192.168.1.101", SSH_2
      "files": [{"path": "/etc/motd", "mode": "0644", "content": "hello\n"}]},
    {"name": "etcd-03", "address": "192.168.1.102", SSH_3
      "files": [{"path": "/etc/motd", "mode": "0644", "content": "hello\n"}]}
  ]
}"#;
const HOSTS: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];

#[test]
fn a_user_with_sudo_whose_shell_prints_noise() {
    let lab = Lab::with_nodes(3);
    lab.on_all(
        &HOSTS,
        "printf 'echo noise; echo noise >&2\\n' | cat - /home/admin/.bashrc > /tmp/rc; \
         cat /tmp/rc > /home/admin/.bashrc",
    );
    // Through the variable for all of a pipeline: one handshake for each host.
    let ran = lab.bash(&format!("export ETCD_TOOLS_SSH_USER=admin; {}", deploy(guide()))).ok();
    assert!(!ran.stderr.contains("noise"), "{}", ran.stderr);
    assert_eq!(logins(&lab, "admin from 192.168.1.1 "), [1, 1, 1]);
    lab.write("document.json", &ran.stdout);
    lab.bash("etcd-unit status -o table --ssh-user admin < document.json").ok();
    assert_eq!(logins(&lab, "admin from 192.168.1.1 "), [1, 1, 1]);
}

#[test]
fn each_node_in_its_own_way() {
    let lab = Lab::with_nodes(3);
    // The user is guest, the port is closed, and yet each node is reached, for its own
    // settings go before the flags.
    write_files(
        &lab,
        [
            r#""ssh": {"user": "admin", "port": 22},"#,
            r#""ssh": {"user": "root", "port": 2222},"#,
            r#""ssh": {"user": "root", "host": "k8s-master-02", "port": 22},"#,
        ],
    );
    let push = "etcd-push --ssh-user guest --ssh-port 2223 < files.json";
    let ran = lab.bash(&format!("{push} --verbose")).ok();
    let ran = ran.says("etcd-push: etcd-01: wrote /etc/motd");
    assert_eq!(lab.on_all(&HOSTS, "cat /etc/motd"), ["hello\n"; 3]);
    // What --verbose says is a command that reaches the host, and how long each took.
    for name in HOSTS {
        let node = format!("etcd-push: {name}: ");
        let lines: Vec<_> = ran.stderr.lines().filter_map(|l| l.strip_prefix(&node)).collect();
        let ssh = lines[0].split_once(": connected: ").unwrap().0;
        for (line, what) in lines.iter().zip(["connected", "Takes the lock", "Does what the plan"])
        {
            let rest = line.strip_prefix(&format!("{ssh}: {what}")).unwrap();
            let seconds = rest.rsplit_once(": ").unwrap().1.strip_suffix(" s").unwrap();
            assert!(seconds.parse::<f64>().is_ok(), "{line}");
        }
        assert_eq!(lab.bash(&format!("{ssh} cat /etc/motd")).ok().stdout, "hello\n");
    }
    assert_eq!(logins(&lab, "admin from 192.168.1.1 "), [1, 0, 0]);

    // Without them, the flags hold: the port is closed.
    write_files(&lab, ["", "", ""]);
    let ran = lab.bash(push).exits(69);
    assert_eq!(
        ran.stderr,
        concat!(
            "etcd-push: etcd-01: cannot connect: connect to host 192.168.1.100 port 2223: ",
            "Connection refused\n",
            "etcd-push: etcd-02: cannot connect: connect to host 192.168.1.101 port 2223: ",
            "Connection refused\n",
            "etcd-push: etcd-03: cannot connect: connect to host 192.168.1.102 port 2223: ",
            "Connection refused\n",
        )
    );
    lab.bash("etcd-push --ssh-port 2222 < files.json")
        .ok()
        .says("etcd-push: etcd-01: 1 file already in place");
}

#[test]
fn a_user_without_sudo_changes_nothing() {
    let lab = Lab::with_nodes(3);
    write_files(&lab, ["", r#""ssh": {"user": "guest"},"#, ""]);
    let ran = lab.bash("etcd-push < files.json").exits(3).says(
        "etcd-push: etcd-02: no permission: sudo: a password is required: \
         log in as root, or let the user run sudo without a password",
    );
    assert_eq!(errors(&ran), [("etcd-02".into(), "no-permission".into())]);
    assert_eq!(lab.on_all(&HOSTS, "cat /etc/motd 2>&1 || true")[0], "hello\n");
    assert_ne!(lab.on("etcd-02", "cat /etc/motd 2>&1 || true"), "hello\n");

    // The pipe stops by itself, and with --keep-going does the other nodes.
    let next = lab.bash("etcd-push < files.json 2> /dev/null | etcd-push").exits(66);
    assert_eq!(
        next.stderr,
        "etcd-push: nothing done: etcd-push failed on etcd-02 (no-permission)\n"
    );
    let going = lab.bash("etcd-push < files.json 2> /dev/null | etcd-push --keep-going").exits(3);
    assert_eq!(
        sorted(&going.stderr),
        [
            "etcd-push: etcd-01: 1 file already in place",
            "etcd-push: etcd-03: 1 file already in place",
        ]
    );
}

#[test]
fn a_jump_host() {
    let lab = Lab::with_nodes(3);
    let config = |jump: &str| {
        format!(
            "Host 192.168.1.100 192.168.1.101 192.168.1.102\n    ProxyJump {jump}\n\
             Host *\n    Include {}\n",
            ssh_config(&lab)
        )
    };
    lab.write("ssh_config", &config("etcd-05"));
    let ran = lab.bash(&format!("export ETCD_TOOLS_SSH_CONFIG=ssh_config; {}", deploy(guide())));
    ran.ok();
    assert_eq!(logins(&lab, "root from 192.168.1.104 "), [1, 1, 1]);

    // A jump host that is not there.
    lab.write("wrong_config", &config("root@192.168.1.109"));
    write_files(&lab, ["", "", ""]);
    let ran = lab.bash("etcd-push --ssh-config wrong_config < files.json").exits(69);
    let line = |host| {
        format!(
            "etcd-push: {host}: cannot connect: the jump host (ProxyJump or ProxyCommand) \
             closed the connection: log in with ssh to see why"
        )
    };
    assert_eq!(sorted(&ran.stderr), HOSTS.map(line));
}

#[test]
fn host_keys_that_are_wrong_or_unknown() {
    let lab = Lab::with_nodes(3);
    let folder = lab.folder.path().display().to_string();
    let known =
        std::fs::read_to_string(ssh_config(&lab).replace("ssh_config", "known_hosts")).unwrap();
    let key_of = |name: &str| {
        let line = known.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let config = |known_hosts: &str| {
        format!(
            "Host *\n    UserKnownHostsFile {folder}/{known_hosts}\n    Include {}\n",
            ssh_config(&lab)
        )
    };
    write_files(&lab, ["", "", ""]);

    lab.write("wrong", &known.replace(&key_of("etcd-02"), &key_of("etcd-04")));
    lab.write("wrong_config", &config("wrong"));
    let ran = lab.bash("etcd-push --ssh-config wrong_config < files.json").exits(3).says(&format!(
        "etcd-push: etcd-02: host key verification failed: Offending ED25519 key in \
         {folder}/wrong:2: compare it with the host's, then fix known_hosts (ssh-keygen -R, \
         ssh-keyscan)"
    ));
    assert_eq!(errors(&ran), [("etcd-02".into(), "host-key".into())]);
    let motd = "cat /etc/motd 2>&1 || true";
    assert_ne!(lab.on("etcd-02", motd), "hello\n");
    assert_eq!([lab.on("etcd-01", motd), lab.on("etcd-03", motd)], ["hello\n", "hello\n"]);

    let others: Vec<_> = known.lines().filter(|line| !line.starts_with("etcd-02")).collect();
    lab.write("unknown", &(others.join("\n") + "\n"));
    lab.write("unknown_config", &config("unknown"));
    lab.bash("etcd-push --ssh-config unknown_config < files.json").exits(3).says(
        "etcd-push: etcd-02: host key verification failed: No ED25519 host key is known for \
         192.168.1.101 and you have requested strict checking: compare it with the host's, \
         then fix known_hosts (ssh-keygen -R, ssh-keyscan)",
    );
    assert_ne!(lab.on("etcd-02", motd), "hello\n");
}

/// Writes `files.json`, with what `ssh` says of each node.
fn write_files(lab: &Lab, ssh: [&str; 3]) {
    let text = FILES.replace("SSH_1", ssh[0]).replace("SSH_2", ssh[1]).replace("SSH_3", ssh[2]);
    lab.write("files.json", &text);
}

/// The lab's own configuration of ssh.
fn ssh_config(lab: &Lab) -> String {
    format!("{}/keys/ssh_config", lab.dir.display())
}

/// How often `who` logged in on each host since it was made.
fn logins(lab: &Lab, who: &str) -> Vec<usize> {
    let script = "journalctl --sync; journalctl -b -o cat -t sshd-session";
    let journals = lab.on_all(&HOSTS, script);
    let accepted = format!("Accepted publickey for {who}");
    journals.iter().map(|j| j.lines().filter(|l| l.starts_with(&accepted)).count()).collect()
}

/// The nodes with errors, and the codes of these.
fn errors(ran: &Ran) -> Vec<(String, String)> {
    let results = ran.document().results;
    let errors = results.into_iter().filter(|result| result.severity == Severity::Error);
    errors.map(|error| (error.node.unwrap_or_default(), error.code)).collect()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}
