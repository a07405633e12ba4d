//! The document is compared with what runs and lies on the nodes before anything
//! is touched: promises 7, 8, 9, 10 and 18.

use tests::{Lab, PID, Ran, deploy, release};

use crate::scripts::script;

const HOSTS: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];

/// All that a run could have changed on a host: files with their inodes and times,
/// and who runs. Below the data folder etcd itself writes.
const TRACES: &str = "find /etc /usr/local /var/lib/etcd -path /var/lib/etcd/member -prune -o \
    -printf '%p %T@ %C@ %m %u\\n' | sort; systemctl show etcd -p MainPID -p ActiveState \
    -p ExecMainStartTimestampMonotonic";

/// The stages before a push of what `edit` makes of the document of the cluster.
fn edited(edit: &str, rest: &str) -> String {
    format!("jq '{edit}' base.json | etcd-cert issue -q | etcd-render -q | {rest}")
}

/// Deploys `version`, and leaves the document without what it makes in `base.json`.
fn deployed(lab: &Lab, version: &str) {
    lab.bash(&format!("{} > deployed.json", deploy(version))).ok();
    lab.bash(
        "jq '{apiVersion, cluster, nodes: [.nodes[] | {name, hostname, address}], release}' \
              deployed.json > base.json",
    )
    .ok();
    lab.unpack(version);
}

fn members(lab: &Lab) -> String {
    let endpoints = ["https://192.168.1.100:2379".to_owned()];
    lab.bash(&lab.etcdctl(&endpoints, "member list")).ok().stdout
}

fn id(lab: &Lab, name: &str) -> String {
    let members = members(lab);
    let line = members.lines().find(|line| line.contains(&format!(" {name},"))).expect("a member");
    line.split(',').next().expect("an ID").to_owned()
}

/// That the member on the host with this number is in no line.
fn extra(at: usize) -> String {
    let name = HOSTS[at];
    format!(
        "member {name} of the cluster (https://192.168.1.{}:2380) is not in the document: add it \
         there, or remove it: `etcd-member remove {name}`, or, where a new node takes its place: \
         `scripts/replace-member NODES {name}`",
        100 + at
    )
}

fn errors(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter(|line| !line.contains("warning: ")).collect()
}

#[test]
fn what_does_not_fit_the_cluster_touches_nothing() {
    let (Some(version), Some(old), Some(newest)) =
        (release("guide"), release("oldest"), release("3.7"))
    else {
        return;
    };
    let lab = Lab::with_nodes(3);
    deployed(&lab, &version);
    let before = (lab.on_all(&HOSTS, TRACES), members(&lab));
    let address = |at: usize| format!("192.168.1.{}", 100 + at);

    // The edit of the document, and what is said of which node.
    let mut cases: Vec<(String, Vec<(&str, String)>)> = Vec::new();
    let port = |at: usize| {
        let (address, name) = (address(at), HOSTS[at]);
        let line = format!(
            "the cluster knows it as https://{address}:2380, the document says \
             https://{address}:12380: change it back, or tell the cluster first, for one member at \
             a time: `etcd-member update --only {name}`"
        );
        (name, line)
    };
    cases.push((".cluster.settings.peerPort = 12380".into(), vec![port(0), port(1), port(2)]));
    cases.push((".nodes[1].settings.peerPort = 12380".into(), vec![port(1)]));
    let ports = ".cluster.settings |= . + {peerPort: 12380, clientPort: 12379}";
    cases.push((ports.into(), vec![port(0), port(1), port(2)]));
    let moved = "its data is in /var/lib/etcd, the document says /srv/etcd: change it back, or stop \
                 the member, move it there (`mkdir -p /srv/etcd && mv /var/lib/etcd/member \
                 /srv/etcd/`), and run this again";
    let all = |line: &str| HOSTS.map(|name| (name, line.to_owned())).to_vec();
    cases.push((".cluster.settings.dataDir = \"/srv/etcd\"".into(), all(moved)));
    let inner = "its data is in /var/lib/etcd, the document says /var/lib/etcd/member: dataDir is the \
                 folder that holds member: set it to /var/lib/etcd";
    cases.push((".cluster.settings.dataDir = \"/var/lib/etcd/member\"".into(), all(inner)));
    let nowhere = "/etc/etcd/etcd.conf sets ETCD_LISTEN_METRICS_URLS to http://10.9.9.9:2381, and \
                   the host has no address 10.9.9.9: etcd would not start: change it";
    let metrics = ".cluster.settings.listenMetricsUrls = \"http://10.9.9.9:2381\"";
    cases.push((metrics.into(), all(nowhere)));
    let loopback = |at: usize| {
        let line = format!(
            "/etc/etcd/etcd.conf sets ETCD_LISTEN_CLIENT_URLS to https://127.0.0.1:2379, where no \
             client reaches it at {}: change it in the document",
            address(at)
        );
        (HOSTS[at], line)
    };
    let listen = ".cluster.settings.env.ETCD_LISTEN_CLIENT_URLS = \"https://127.0.0.1:2379\"";
    cases.push((listen.into(), vec![loopback(0), loopback(1), loopback(2)]));
    let log = "its write-ahead log is in /var/lib/etcd/member/wal, the document says \
               /srv/wal/wal: change it back, or stop the member, move it there (`mkdir -p /srv/wal && mv \
               /var/lib/etcd/member/wal /srv/wal/`), and run this again";
    cases.push((
        ".nodes[2].settings.walDir = \"/srv/wal\"".into(),
        vec![("etcd-03", log.to_owned())],
    ));
    let renamed = |from: &str, to: &'static str| {
        let line = format!(
            "its data is of member {from}, the document calls it {to}: a member keeps its name: \
             change the document back"
        );
        (to, line)
    };
    cases.push((".nodes[0].name = \"db-01\"".into(), vec![renamed("etcd-01", "db-01")]));
    cases.push((
        ".nodes[0].name = \"etcd-02\" | .nodes[1].name = \"etcd-01\"".into(),
        vec![renamed("etcd-01", "etcd-02"), renamed("etcd-02", "etcd-01")],
    ));
    // A new address under an old name, where nobody answers.
    cases.push((
        ".nodes[2].address = \"192.168.1.109\"".into(),
        vec![
            (
                "etcd-03",
                "the cluster knows etcd-03 as https://192.168.1.102:2380, the document says \
                 https://192.168.1.109:2380: change it back, or replace the member: \
                 `scripts/replace-member NODES etcd-03`"
                    .into(),
            ),
            (
                "etcd-03",
                "cannot connect: connect to host 192.168.1.109 port 22: No route to host".into(),
            ),
        ],
    ));
    cases.push((
        format!(".release.version = \"{old}\" | .cluster.version = \"{old}\""),
        vec![(
            "etcd-01",
            format!(
                "{version} → {old}: etcd 3.4 cannot read the data of 3.5: keep 3.5, or restore a \
                 snapshot that etcd 3.4 took"
            ),
        )],
    ));
    cases.push((
        format!(".release.version = \"{newest}\" | .cluster.version = \"{newest}\""),
        vec![(
            "etcd-01",
            format!(
                "{version} → {newest}: etcd upgrades one minor version at a time: upgrade {version} \
                 → v3.5.33 → v3.6.16 → {newest}"
            ),
        )],
    ));
    for (edit, lines) in &cases {
        let line = |tool: &str, (node, line): &(&str, String)| format!("{tool}: {node}: {line}");
        let push: Vec<_> = lines.iter().map(|l| line("etcd-push", l)).collect();
        let start: Vec<_> = lines.iter().map(|l| line("etcd-unit", l)).collect();
        for (tool, expected) in [
            ("etcd-push", &push),
            ("etcd-push --check", &push),
            ("etcd-unit start", &start),
            ("etcd-unit start --check", &start),
        ] {
            // The certificates of a name that is not the cluster's are made elsewhere.
            let ran = lab.bash(&format!(
                "cp -a pki case; {}; code=$?; rm -r case; exit $code",
                edited(edit, tool).replace("etcd-cert issue", "etcd-cert issue --pki case")
            ));
            let ran = ran.exits(3);
            let mut said = errors(&ran);
            said.sort_unstable();
            let mut expected: Vec<_> = expected.iter().map(String::as_str).collect();
            expected.sort_unstable();
            assert_eq!(said, expected, "{edit}: {tool}");
        }
        assert_eq!((lab.on_all(&HOSTS, TRACES), members(&lab)), before, "{edit}");
    }

    // From a folder without the pki of this cluster.
    let sha256 = lab.bash("openssl x509 -in pki/ca.crt -outform DER | sha256sum").ok().stdout;
    let sha256 = sha256.split(' ').next().expect("a hash");
    let other = lab.folder.path().join("other/ca.crt").display().to_string();
    let refused = HOSTS.map(|host| {
        format!(
            "etcd-push: {host}: /etc/etcd/ssl/ca.crt holds the CA with sha256 {sha256}, which \
             {other} does not contain: run this with the pki folder that this cluster was made \
             with, or pass --replace-ca to cut off whoever trusts that CA only, and everybody until the members have been restarted: see etcd-cert ca --help"
        )
    });
    for check in ["", "--check"] {
        let stages = "etcd-cert issue -q --pki other < base.json | etcd-render -q | etcd-push";
        let ran = lab.bash(&format!("export ETCD_TOOLS_REPLACE_CA=1; {stages} {check}")).exits(3);
        let mut said = errors(&ran);
        said.sort_unstable();
        assert_eq!(said, refused);
    }
    // The first that can know says so, and no CA is made.
    let ran = lab.bash(
        "mkdir else; cd else; etcd-preflight -q --skip disk-latency --skip disk-space --skip \
         time-sync --skip clock --skip round-trip < ../base.json | etcd-cert issue -q",
    );
    let ran = ran.exits(66).says(&format!(
        "etcd-preflight: etcd-01: /etc/etcd/ssl/ca.crt holds the CA with sha256 {sha256}, which is \
         not here: run this in the folder that holds the pki of this cluster, or pass --pki or \
         --cacert"
    ));
    assert_eq!(lab.bash("ls -A else").ok().stdout, "", "{}", ran.stderr);
    lab.bash("cd else && etcd-unit restart < ../base.json")
        .exits(3)
        .says(
            "etcd-unit: etcd-01: etcd.service not restarted: \"https://192.168.1.100:2379\": no CA \
             certificate is given: run this in the folder that holds pki, or pass --pki or --cacert",
        );
    let ran = lab.bash(
        "etcd-cert issue -q --pki other < base.json | etcd-render -q \
         | etcd-push --check --replace-ca",
    );
    ran.exits(1).says("etcd-push: etcd-01: would replace /etc/etcd/ssl/ca.crt");
    assert_eq!((lab.on_all(&HOSTS, TRACES), members(&lab)), before);

    overridden_on_the_node(&lab);
    of_a_list_of_nodes(&lab);
    of_what_etcd_runs_with(&lab);

    let refused = lab.bash(&edited("del(.nodes[2])", "etcd-push")).exits(3);
    assert_eq!(errors(&refused), [format!("etcd-push: {}", extra(2))]);

    for tool in ["etcd-push", "etcd-unit start"] {
        let refused = lab.bash(&edited(".cluster.token = \"other\"", tool)).exits(3);
        let line = |n: usize| {
            format!(
                "{}: etcd-0{n}: its cluster was made with the token \"k8s-etcd-cluster\", which \
                 stays, and cluster.token is \"other\": set it to \"k8s-etcd-cluster\", or leave \
                 it out",
                tool.split(' ').next().unwrap()
            )
        };
        assert_eq!(errors(&refused), [line(1), line(2), line(3)]);
    }

    // What is allowed restarts nothing: another order.
    let pids = lab.on_all(&HOSTS, "systemctl show etcd -p MainPID");
    lab.bash(&edited(".nodes |= reverse", "etcd-push | etcd-unit start")).ok();
    assert_eq!(lab.on_all(&HOSTS, "systemctl show etcd -p MainPID"), pids);
    // What is advised for another folder is all there is to do.
    lab.bash(&edited(".", "etcd-unit stop --only etcd-03")).ok();
    lab.on("etcd-03", "mkdir -p /srv/wal && mv /var/lib/etcd/member/wal /srv/wal/");
    let other_wal = ".nodes[2].settings.walDir = \"/srv/wal\"";
    lab.bash(&edited(other_wal, "etcd-push | etcd-unit start | etcd-health --wait")).ok();
    assert_eq!(lab.on("etcd-03", "ls /var/lib/etcd/member; ls /srv/wal"), "snap\nwal\n");
    lab.bash(&edited(other_wal, "etcd-unit stop --only etcd-03")).ok();
    lab.on("etcd-03", "mv /srv/wal/wal /var/lib/etcd/member/");
    lab.bash(&edited(".", "etcd-push | etcd-unit start | etcd-health --wait")).ok();
    // The client port is rolled out, one member at a time.
    let ran = lab.bash(&edited(
        ".cluster.settings.clientPort = 12379",
        "etcd-push | etcd-unit start | etcd-health --wait",
    ));
    let ran = ran.ok();
    for host in HOSTS {
        assert!(
            ran.stderr.contains(&format!("etcd-unit: {host}: restarted etcd.service")),
            "{}",
            ran.stderr
        );
    }
}

/// What files on a node say, beside those of the document, is refused like an edit of it.
fn overridden_on_the_node(lab: &Lab) {
    let folder = "/etc/systemd/system/etcd.service.d";
    lab.on(
        "etcd-02",
        &format!(
            "mkdir -p {folder}; printf '[Service]\nEnvironment=ETCD_WAL_DIR=/srv/wal \
             ETCD_NAME=kv ETCD_LOG_LEVEL=debug\nEnvironmentFile=-%%E/default/etcd*\n\
             EnvironmentFile=-/etc/absent\n' > {folder}/wal.conf; \
             printf 'ETCD_LISTEN_PEER_URLS=https://127.0.0.1:2380\nETCD_NAME=\"kv\"\n\
             ETCD_INITIAL_CLUSTER_STATE=existing' > /etc/default/etcd-02"
        ),
    );
    let before = lab.on_all(&HOSTS, TRACES);
    let lines = [
        "/etc/default/etcd-02 sets ETCD_LISTEN_PEER_URLS to https://127.0.0.1:2380, the document \
         sets it to https://192.168.1.101:2380: remove it there: ETCD_LISTEN_PEER_URLS is made \
         from the node's address and peerPort: set those instead"
            .to_owned(),
        "/etc/default/etcd-02 sets ETCD_NAME to kv, the document sets it to etcd-02: remove it \
         there: ETCD_NAME is the name of the node: set that instead"
            .to_owned(),
        format!(
            "{folder}/wal.conf sets ETCD_WAL_DIR to /srv/wal, the document does not set it: remove \
             it there: ETCD_WAL_DIR is walDir: set that instead"
        ),
    ];
    for tool in ["etcd-push", "etcd-push --check", "etcd-unit start", "etcd-unit restart"] {
        let ran = lab.bash(&edited(".", tool)).exits(3);
        let name = tool.split(' ').next().expect("a tool");
        let expected: Vec<_> =
            lines.iter().map(|line| format!("{name}: etcd-02: {line}")).collect();
        assert_eq!(errors(&ran), expected, "{tool}");
    }
    assert_eq!(lab.on_all(&HOSTS, TRACES), before);
    lab.on("etcd-02", &format!("rm -r {folder} /etc/default/etcd-02"));

    // What would keep etcd from starting; a limit is the operator's business.
    for (lines, refused) in [
        ("ExecStart=\\nExecStart=/bin/false", "ExecStart=/bin/false"),
        ("ReadOnlyPaths=/var/lib/etcd", "ReadOnlyPaths=/var/lib/etcd"),
        ("MemoryMax=8G", ""),
    ] {
        let drop_in = format!(
            "mkdir -p {folder}; printf '[Service]\\n{lines}\\n' > {folder}/more.conf; systemctl \
             daemon-reload"
        );
        lab.on("etcd-02", &drop_in);
        let before = lab.on_all(&HOSTS, TRACES);
        for tool in ["etcd-push", "etcd-unit restart"] {
            if refused.is_empty() {
                continue;
            }
            let name = tool.split(' ').next().expect("a tool");
            let ran = lab.bash(&edited(".", tool)).exits(3);
            let line = format!(
                "{name}: etcd-02: {folder}/more.conf sets {refused}, with which etcd would not \
                 start as etcd.service has it: remove it there"
            );
            assert_eq!(errors(&ran), [line]);
        }
        assert_eq!(lab.on_all(&HOSTS, TRACES), before);
    }
    lab.bash(&edited(".", "etcd-push -q")).ok();
    lab.on("etcd-02", &format!("rm -r {folder}; systemctl daemon-reload"));
}

/// Another user could not read the certificates of who runs; and a unit of a template of the
/// user's may not read the configuration.
fn of_what_etcd_runs_with(lab: &Lab) {
    let before = lab.on_all(&HOSTS, TRACES);
    let user = "etcd-cert issue -q < base.json | jq '.cluster.settings.user = \"games\"' \
                | etcd-render -q | etcd-push";
    let config = "/etc/etcd/etcd.conf";
    let unit = format!(
        "{}; jq '.nodes[].units[].content |= sub(\"EnvironmentFile={config}\"; \"\")' \
         rendered.json",
        edited(".", "cat > rendered.json")
    );
    let unread = format!(
        "etcd.service of the document does not read {config}: run etcd-render again, with a \
         template that has EnvironmentFile={config}"
    );
    for (command, line) in [
        (
            user.to_owned(),
            "etcd runs as etcd, and the document says games, who alone could read its \
             certificates then: change the document back",
        ),
        (format!("{unit} | etcd-push"), unread.as_str()),
        (format!("{unit} | etcd-unit start"), unread.as_str()),
    ] {
        let tool = if command.ends_with("push") { "etcd-push" } else { "etcd-unit" };
        let ran = lab.bash(&command).exits(3);
        assert_eq!(errors(&ran), HOSTS.map(|host| format!("{tool}: {host}: {line}")), "{command}");
    }
    assert_eq!(lab.on_all(&HOSTS, TRACES), before);
}

/// A list of nodes is compared as a document is, with the pki folder of the flag.
fn of_a_list_of_nodes(lab: &Lab) {
    let before = lab.on_all(&HOSTS, TRACES);
    let swapped = "sed 's/etcd-01/tmp/; s/etcd-02/etcd-01/; s/tmp/etcd-02/' nodes.txt";
    for command in ["start", "restart --check", "restart"] {
        let ran = lab.bash(&format!("{swapped} | etcd-unit {command}")).exits(3);
        let mut said = errors(&ran);
        said.sort_unstable();
        let renamed = |from: &str, to: &str| {
            format!(
                "etcd-unit: {to}: its data is of member {from}, the document calls it {to}: a \
                 member keeps its name: change the document back"
            )
        };
        assert_eq!(said, [renamed("etcd-02", "etcd-01"), renamed("etcd-01", "etcd-02")]);
    }
    let ran = lab.bash(
        "mv pki elsewhere; sed 's/192.168.1.102/192.168.1.109/' nodes.txt \
         | etcd-unit start --pki elsewhere; code=$?; mv elsewhere pki; exit $code",
    );
    ran.exits(3).says(
        "etcd-unit: etcd-03: the cluster knows etcd-03 as https://192.168.1.102:2380, the \
         document says https://192.168.1.109:2380: change it back, or replace the member: \
         `scripts/replace-member NODES etcd-03`",
    );
    let ran = lab.bash("etcd-unit start < nodes.txt").ok();
    assert_eq!(errors(&ran).len(), 3, "{}", ran.stderr);
    ran.says("etcd-unit: etcd-01: etcd.service running as configured");
    assert_eq!(lab.on_all(&HOSTS, TRACES), before);
}

/// One line more, less or different in the list, and the same pipeline again.
#[test]
fn an_edit_of_the_node_list_is_right_or_touches_nothing() {
    let Some(version) = release("guide") else { return };
    let lab = Lab::with_nodes(3);
    deployed(&lab, &version);
    // A cluster of others is on the fourth host; the fifth has what is left of another member.
    lab.on("etcd-05", "mkdir /etc/etcd; echo ETCD_NAME=etcd-09 > /etc/etcd/etcd.conf");
    let hosts = ["etcd-01", "etcd-02", "etcd-03", "etcd-04", "etcd-05"];
    let four = "k8s-node-02:192.168.1.103:etcd-04";
    let stages = deploy(&version).replace("nodes.txt", "../four.txt");
    lab.bash(&format!("echo {four} > four.txt; mkdir other; cd other; {stages}")).ok();
    let health = lab.bash("cd other; etcd-health < ../four.txt").ok().document().health.unwrap();
    let other = health.cluster_id.expect("a cluster ID");
    let health = lab.bash("etcd-health < nodes.txt").ok().document().health.unwrap();
    let own = health.cluster_id.expect("a cluster ID");
    let before = (lab.on_all(&hosts, TRACES), members(&lab));

    let nodes = lab.read("nodes.txt");
    let [one, two, three] = nodes.lines().collect::<Vec<_>>()[..] else { panic!("{nodes}") };
    let fifth = |name: &str| format!("k8s-node-05:192.168.1.104:{name}");
    let (new, moved) = (fifth("etcd-05"), fifth("etcd-03"));
    let stranger = |name: &str| {
        format!(
            "{name}: it is not a member of the cluster that runs: add it first: `scripts/grow \
             NODES`, or `etcd-member add` before etcd-render"
        )
    };
    let of_cluster = |node: &str, own: &str, at: &str, other: &str| {
        format!(
            "{node}: its data is of cluster {own}, that of {at} is of cluster {other}: stop the \
             wrong one and move its /var/lib/etcd/member away, or take it out of the document"
        )
    };
    let absent = |at: usize| {
        let address = format!("192.168.1.{}", 100 + at);
        [
            stranger(&format!("etcd-0{}", at + 1)),
            format!(
                "etcd-0{}: cannot connect: connect to host {address} port 22: No route to host",
                at + 1
            ),
        ]
    };
    let seven: Vec<_> =
        (5..8).map(|at| format!("absent-{at}:192.168.1.{}:etcd-0{}", 100 + at, at + 1)).collect();
    let cases: [(&str, Vec<&str>, Vec<String>); 8] = [
        ("3 → 2", vec![one, two], vec![extra(2)]),
        ("3 → 1", vec![one], vec![extra(1), extra(2)]),
        ("3 → 4", vec![one, two, three, &*new], vec![stranger("etcd-05")]),
        (
            "3 → 7",
            vec![one, two, three, &*new, &seven[0], &seven[1], &seven[2]],
            [vec![stranger("etcd-05")], (5..8).flat_map(absent).collect()].concat(),
        ),
        (
            "another cluster's data",
            vec![one, two, three, four],
            [
                HOSTS.map(|host| of_cluster(host, &own, "etcd-04", &other)).to_vec(),
                vec![of_cluster("etcd-04", &other, "etcd-01", &own)],
            ]
            .concat(),
        ),
        (
            "the same name at another address",
            vec![one, two, &*moved],
            vec![
                "etcd-03: the cluster knows etcd-03 as https://192.168.1.102:2380, the document \
                 says https://192.168.1.104:2380: change it back, or replace the member: \
                 `scripts/replace-member NODES etcd-03`"
                    .into(),
            ],
        ),
        ("another name and address", vec![one, two, &*new], vec![stranger("etcd-05"), extra(2)]),
        (
            "another name",
            vec![one, two, "k8s-master-02:192.168.1.102:etcd-09"],
            vec![
                "etcd-09: its data is of member etcd-03, the document calls it etcd-09: a member \
                 keeps its name: change the document back"
                    .into(),
            ],
        ),
    ];
    lab.bash("cp -a pki case").ok();
    let push = format!(
        "etcd-fetch -q {version} < edited.txt | etcd-cert issue -q --pki case | etcd-render -q \
         | etcd-push"
    );
    for (edit, lines, mut expected) in cases {
        lab.write("edited.txt", &(lines.join("\n") + "\n"));
        expected.sort_unstable();
        let preflight = "etcd-preflight -q --skip disk-latency --skip disk-space --skip port-blocked \
                         < edited.txt";
        for (tool, stages) in [
            ("etcd-preflight", preflight),
            ("etcd-push", &*push),
            ("etcd-unit", "etcd-unit start --pki case < edited.txt"),
        ] {
            let ran = lab.bash(stages).exits(3);
            let prefix = format!("{tool}: ");
            let mut said: Vec<_> = errors(&ran)
                .into_iter()
                .map(|line| line.strip_prefix(&prefix).unwrap_or(line))
                // The fourth host has the CA of its own cluster, too.
                .filter(|line| !line.contains("/etc/etcd/ssl/ca.crt holds the CA"))
                .collect();
            said.sort_unstable();
            assert_eq!(said, expected, "{edit}: {tool}");
            // All three are healthy, wherever the list has them.
            assert!(!ran.stderr.contains("known to be healthy"), "{edit}: {}", ran.stderr);
        }
        assert_eq!((lab.on_all(&hosts, TRACES), members(&lab)), before, "{edit}");
    }
    for (line, error) in [
        (moved.clone(), "stdin: nodes[3].name: \"etcd-03\" is also nodes[2].name"),
        (
            "other:192.168.1.102:etcd-04".into(),
            "stdin: nodes[3].address: \"192.168.1.102\" is also nodes[2].address",
        ),
    ] {
        lab.write("edited.txt", &format!("{nodes}{line}\n"));
        let ran = lab.bash("etcd-unit start < edited.txt").exits(65);
        assert_eq!(ran.stderr, format!("etcd-unit: {error}\n"));
    }

    // One wrong line keeps a stopped member from being started with it, and not without it.
    lab.on("etcd-03", "systemctl stop etcd");
    lab.write("edited.txt", &format!("{one}\n{}\n{three}\n", two.replace("etcd-02", "etcd-99")));
    lab.bash("etcd-unit start < edited.txt").exits(3).says(
        "etcd-unit: etcd-99: its data is of member etcd-02, the document calls it etcd-99: a member \
         keeps its name: change the document back",
    );
    assert_eq!(lab.on("etcd-03", "systemctl is-active etcd || true"), "inactive\n");
    let start = "etcd-unit start --only etcd-03 < edited.txt";
    lab.bash(start).ok().says("etcd-unit: etcd-03: started etcd.service");
}

#[test]
fn lost_data_are_not_replaced_by_an_empty_member() {
    let Some(version) = release("3.6") else { return };
    let lab = Lab::with_nodes(3);
    deployed(&lab, &version);
    let mark = "cat /etc/etcd/etcd.member; stat -c '%a %U' /etc/etcd/etcd.member";
    let ready = "ready\n/var/lib/etcd\n/var/lib/etcd/member/wal\n644 root\n";
    assert_eq!(lab.on_all(&HOSTS, mark), [ready; 3]);

    // While the member runs, its data goes out of sight: with the next start it would be gone.
    let pids = lab.on_all(&HOSTS, PID);
    let log = "/var/lib/etcd/member/wal";
    let member = "/var/lib/etcd/member";
    // Without these folders etcd ends by itself, within the 30 s after which it looks for old files
    // in them.
    let empty = format!("mkdir -p {member}/wal {member}/snap; chown -R etcd: /var/lib/etcd");
    for (hide, undo, at) in [
        (&*format!("mount -t tmpfs none /var/lib/etcd; {empty}"), "umount /var/lib/etcd", log),
        (
            &format!("mv {member} /var/lib/aside; {empty}"),
            &format!("rm -r {member}; mv /var/lib/aside {member}"),
            log,
        ),
        // A copy is not what the member goes on with.
        (
            &format!(
                "cp -a {member} /var/lib/copy; mv {member} /var/lib/aside; mv /var/lib/copy {member}"
            ),
            &format!("rm -r {member}; mv /var/lib/aside {member}"),
            "/var/lib/etcd",
        ),
    ] {
        lab.on_all(&HOSTS, hide);
        for (run, code, tool) in [
            ("etcd-unit start nodes.txt", 3, "etcd-unit"),
            ("etcd-unit start --check nodes.txt", 3, "etcd-unit"),
            ("etcd-unit restart --only etcd-01 nodes.txt", 3, "etcd-unit"),
            (&edited(".", "etcd-push | etcd-unit start"), 66, "etcd-push"),
            ("etcd-unit stop --only etcd-01 nodes.txt", 3, "etcd-unit"),
            ("etcd-unit uninstall --lose-quorum --check nodes.txt", 3, "etcd-unit"),
        ] {
            let stops = run.contains("stop") || run.contains("uninstall");
            let tool = format!("{tool}: etcd-01{}", if stops { ": not stopped" } else { "" });
            lab.bash(run).exits(code).says(&format!(
                "{tool}: etcd runs, and its data is not in {at} any more: something is mounted over it, or it was moved, and at its next start the \
                 member would be without it: undo that before it is stopped"
            ));
        }
        assert_eq!(lab.on_all(&HOSTS, mark), [ready; 3]);
        lab.on_all(&HOSTS, undo);
    }
    assert_eq!(lab.on_all(&HOSTS, PID), pids);
    lab.bash("etcd-unit start nodes.txt").ok();
    // The unit lets it write only in its data directory.
    let link =
        format!("mkdir /var/lib/big; mv {member} /var/lib/big/m; ln -s /var/lib/big/m {member}");
    lab.on("etcd-01", &link);
    lab.bash("etcd-unit restart --only etcd-01 nodes.txt").exits(3);
    lab.on("etcd-01", "systemctl stop etcd");
    lab.bash("etcd-unit start nodes.txt").exits(3).says(
        "etcd-unit: etcd-01: /var/lib/etcd/member is a link to /var/lib/big/m, where etcd.service may \
         not write: stop the member, move it back, and make /var/lib/etcd itself the link, or the \
         folder that is mounted there",
    );
    lab.on("etcd-01", &format!("rm {member}; mv /var/lib/big/m {member}"));
    lab.bash("etcd-unit start nodes.txt | etcd-health --wait").ok();

    let pids = lab.on_all(&HOSTS, PID);
    // What was deleted cannot be put back; what is advised leads out.
    lab.on("etcd-03", &format!("find {member} -type f -delete"));
    let deleted = "etcd runs, and its data in /var/lib/etcd/member/wal was deleted: it serves from \
                   what it has open, and cannot be started again: where other members serve, stop \
                   it, `etcd-unit stop --only etcd-03`, and run `scripts/replace-member NODES \
                   etcd-03`; else save what it has first: `etcd-snapshot save --from etcd-03`";
    lab.bash("etcd-unit restart nodes.txt")
        .exits(3)
        .says(&format!("etcd-unit: etcd-03: {deleted}"));
    for command in ["stop --lose-quorum", "uninstall --lose-quorum --check"] {
        lab.bash(&format!("etcd-unit {command} nodes.txt")).exits(3).says(&format!(
            "etcd-unit: etcd-03: not stopped: {deleted}, and to give it up, `systemctl stop \
             etcd.service` on the node"
        ));
    }
    assert_eq!(lab.on_all(&HOSTS, PID), pids);
    lab.bash(&format!(
        "etcd-unit stop --only etcd-03 nodes.txt; {} --yes nodes.txt etcd-03",
        script("replace-member")
    ))
    .ok();
    let id_3 = self::id(&lab, "etcd-03");

    // A reboot with a disk that is not mounted: the unit itself refuses.
    let wipe = "systemctl stop etcd; mv /var/lib/etcd/member /var/lib/etcd/aside";
    lab.on("etcd-03", wipe);
    lab.on("etcd-03", "systemctl start etcd || true");
    let line = "/var/lib/etcd/member/wal: no write-ahead log, but this member last ran with the one \
                in /var/lib/etcd/member/wal: is its disk mounted? If the data is lost, remove the \
                member from the cluster, then add it again";
    assert!(lab.on("etcd-03", "journalctl -u etcd -o cat").lines().any(|said| said == line));
    assert_eq!(lab.on("etcd-03", "ls -A /var/lib/etcd"), "aside\n");
    lab.on("etcd-03", "systemctl stop etcd; mv /var/lib/etcd/aside /var/lib/etcd/member");
    // Which it does, too, where etcd may not go to its data.
    lab.on("etcd-03", "chmod 0700 /var/lib");
    let shut = "etcd-unit: etcd-03: etcd.service did not start: it is activating (auto-restart): \
                /var/lib/etcd/member/wal: etcd may not look into it: compare the modes and owners \
                in namei -l /var/lib/etcd/member/wal on the node";
    lab.bash("etcd-unit start --only etcd-03 nodes.txt").exits(3).says(shut);
    lab.on(
        "etcd-03",
        "chmod 0755 /var/lib; systemctl stop etcd; mv /var/lib/etcd/member /var/lib/etcd/aside",
    );

    // So do the tools, which know what the cluster says.
    let all = edited(".", "etcd-push | etcd-unit start");
    let lost = |tool: &str| {
        format!(
            "{tool}: etcd-03: its data is lost: there is no write-ahead log in \
             /var/lib/etcd/member/wal, and it has run with one: mount the disk that holds it, or \
             replace the member: `scripts/replace-member NODES etcd-03`"
        )
    };
    lab.bash(&all).exits(66).says(&lost("etcd-push"));
    lab.bash(&edited(".", "etcd-unit start")).exits(3).says(&lost("etcd-unit"));
    // The data are in another folder, of which only the mark says anything: they are not lost.
    lab.on("etcd-03", "mv /var/lib/etcd/aside /var/lib/etcd/member");
    let old = "sed -i s,/var/lib/etcd,/srv/etcd, /etc/etcd/etcd.conf";
    lab.on("etcd-03", old);
    let elsewhere = ".nodes[2].settings.dataDir = \"/srv/etcd\"";
    let moved = "etcd-03: its data is in /var/lib/etcd, the document says /srv/etcd: change it back, \
                 or stop the member, move it there (`mkdir -p /srv/etcd && mv \
                 /var/lib/etcd/member /srv/etcd/`), and run this again";
    for tool in ["etcd-push", "etcd-unit start"] {
        let name = tool.split(' ').next().expect("a name");
        lab.bash(&edited(elsewhere, tool)).exits(3).says(&format!("{name}: {moved}"));
    }
    lab.on(
        "etcd-03",
        &format!(
            "{}; mv /var/lib/etcd/member /var/lib/etcd/aside",
            old.replace("/var/lib/etcd,/srv/etcd", "/srv/etcd,/var/lib/etcd",)
        ),
    );
    // Nothing of it is left, as on a host that was installed again.
    let mark_3 = lab.on("etcd-03", "cat /etc/etcd/etcd.member; rm /etc/etcd/etcd.member");
    for verb in ["start", "restart --only etcd-03"] {
        lab.bash(&edited(".", &format!("etcd-unit {verb}"))).exits(3).says(
            "etcd-unit: etcd-03: there is no write-ahead log in /var/lib/etcd/member/wal, and the \
             cluster knows it as a member that has run: etcd was removed from this host, or the \
             host was installed again: replace the member: `scripts/replace-member NODES etcd-03`",
        );
    }
    assert_eq!(lab.on("etcd-03", "ls -A /var/lib/etcd"), "aside\n");
    lab.on("etcd-03", &format!("printf '%s' '{mark_3}' > /etc/etcd/etcd.member"));

    // The way out that is named leads out, step by step.
    let member = |args: &str| lab.bash(&edited(".", &format!("etcd-member {args}")));
    member("replace etcd-03")
        .ok()
        .says("etcd-member: etcd-03: removed member etcd-03 (https://192.168.1.102:2380)");
    let add = "`scripts/grow NODES`, or `etcd-member add` before etcd-render";
    lab.bash(&edited(".", "etcd-unit start")).exits(3).says(&format!(
        "etcd-unit: etcd-03: it is not a member of the cluster that runs: add it first: {add}"
    ));
    member("add").ok().says("etcd-member: etcd-03: added to the cluster, as a learner");
    lab.bash(&edited(".", "etcd-unit start")).exits(3).says(&format!(
        "etcd-unit: etcd-03: it was added to the cluster that runs, and would start a cluster of \
         its own: set its initialClusterState to \"existing\": {add}"
    ));
    let existing = ".nodes[2].settings.initialClusterState = \"existing\"";
    let joins = "etcd-push | etcd-unit start | etcd-member promote | etcd-health --wait";
    lab.bash(&edited(existing, joins)).ok();
    assert_eq!(lab.on_all(&HOSTS, mark), [ready; 3]);

    // The data of the member that was removed, beside the cluster that runs.
    lab.on(
        "etcd-03",
        "systemctl stop etcd; mv /var/lib/etcd/member /var/lib/etcd/new; \
         mv /var/lib/etcd/aside /var/lib/etcd/member",
    );
    lab.bash(&edited(existing, "etcd-push")).exits(3).says(&format!(
        "etcd-push: etcd-03: its data is of member {id_3}, which the cluster has removed: move \
         /var/lib/etcd/member away, then add the node: {add}"
    ));
    lab.on("etcd-03", "rm -r /var/lib/etcd/member; mv /var/lib/etcd/new /var/lib/etcd/member");
    // Data that etcd cannot read.
    lab.on("etcd-03", "chown root /var/lib/etcd/member/snap/db");
    lab.bash(&edited(existing, "etcd-push")).exits(3).says(
        "etcd-push: etcd-03: /var/lib/etcd/member/snap/db belongs to root, and etcd runs as etcd: \
         `chown -R etcd:etcd /var/lib/etcd`",
    );
    lab.on("etcd-03", "chown -R etcd:etcd /var/lib/etcd; systemctl start etcd");

    // All are down, two are wiped, marks and all: they do not make a new cluster.
    lab.on_all(&HOSTS, "systemctl stop etcd");
    lab.on_all(&HOSTS[1..], "rm -r /var/lib/etcd/member /etc/etcd/etcd.member");
    let beside = |node: &str| {
        format!(
            "etcd-unit: {node}: /var/lib/etcd is empty, and etcd-01 has data: a new cluster is made \
             only when no node has any: start the others first (--only), so that the cluster can be \
             asked, or, where most members have lost theirs for good, have what a survivor has put \
             on all nodes: `scripts/recover NODES FILE`"
        )
    };
    let ran = lab.bash(&edited(existing, "etcd-unit start")).exits(3);
    assert_eq!(errors(&ran).len(), 2, "{}", ran.stderr);
    ran.says(&beside("etcd-02")).says(&beside("etcd-03"));
    // Nor do they when the one with data cannot be asked.
    lab.command(&["power", "off", "etcd-01"]);
    let silent = |node: &str| {
        format!(
            "etcd-unit: {node}: /var/lib/etcd is empty, and etcd-01 did not answer: a new cluster is \
             made only when every node has answered, and none has data"
        )
    };
    let start = "etcd-unit start --keep-going";
    lab.bash(&edited(existing, start)).exits(3).says(&silent("etcd-02")).says(&silent("etcd-03"));
    assert_eq!(lab.on_all(&HOSTS[1..], "ls -A /var/lib/etcd"), ["", ""]);
    assert_eq!(lab.on_all(&HOSTS[1..], "systemctl is-active etcd || true"), ["inactive\n"; 2]);
}

#[test]
fn an_etcd_of_others_and_a_broken_binary_are_seen_before_anything_is_touched() {
    let Some(version) = release("3.6") else { return };
    let lab = Lab::with_nodes(3);
    // As a distribution's package has it.
    lab.on(
        "etcd-02",
        "printf '[Service]\\nExecStart=/usr/bin/etcd\\n' > /usr/lib/systemd/system/etcd.service; \
         systemctl daemon-reload",
    );
    let stages = deploy(&version);
    lab.bash(&stages).exits(66).says(
        "etcd-push: etcd-02: /usr/lib/systemd/system/etcd.service belongs to an etcd that these tools \
         did not install: a new unit would override it and hide its data: remove its package, or \
         leave this node out",
    );
    assert_eq!(
        lab.on_all(&HOSTS, "ls -d /etc/etcd /usr/local/lib/etcd-tools 2>&1 | grep -c No"),
        ["2\n"; 3]
    );
    lab.on("etcd-02", "rm /usr/lib/systemd/system/etcd.service; systemctl daemon-reload");
    // A binary of the distribution's, in a folder that all share.
    lab.on("etcd-02", "echo own > /usr/bin/etcdctl");
    lab.bash(&format!(
        "etcd-fetch {version} < nodes.txt | jq '.cluster.settings.binDir = \"/usr/bin\"' \
         | etcd-cert issue | etcd-render | etcd-push --only etcd-02"
    ))
    .exits(3)
    .says(
        "etcd-push: etcd-02: /usr/bin/etcdctl: not a link of these tools: move it away, or choose \
         another binDir",
    );
    let kept = "cat /usr/bin/etcdctl; ls -d /etc/etcd /usr/bin/etcd 2>&1 | grep -c No";
    assert_eq!(lab.on("etcd-02", kept), "own\n2\n");
    lab.on("etcd-02", "rm /usr/bin/etcdctl");

    deployed(&lab, &version);
    // One of somebody's own beside it.
    lab.on(
        "etcd-03",
        "systemd-run -q --unit=own /usr/local/bin/etcd --data-dir /tmp/own \
         --listen-client-urls http://127.0.0.1:1 --advertise-client-urls http://127.0.0.1:1 \
         --listen-peer-urls http://127.0.0.1:2",
    );
    let pid = lab.on("etcd-03", "systemctl show own -p MainPID --value");
    let exe = lab.on("etcd-03", "readlink -f /usr/local/bin/etcd");
    lab.bash(&edited(".", "etcd-push --check")).exits(3).says(&format!(
        "etcd-push: etcd-03: process {} ({}, in own.service) is an etcd that these tools did not \
         install: to keep it, leave it to what it was deployed with, as these tools speak TLS only; \
         to deploy here, stop and remove it first",
        pid.trim(),
        exe.trim()
    ));
    lab.on("etcd-03", "systemctl stop own");

    // Without its binary a member would not come back.
    let pids = lab.on_all(&HOSTS, PID);
    lab.on("etcd-03", "rm /usr/local/bin/etcd");
    for (command, advice) in [
        (edited(".", "etcd-unit start"), "run etcd-push again".to_owned()),
        (
            "etcd-unit restart --only etcd-03 --check nodes.txt".into(),
            format!(
                "have it put there again: `etcd-fetch {version} < NODES | etcd-cert issue | \
                 etcd-render | etcd-push`"
            ),
        ),
    ] {
        lab.bash(&command).exits(3).says(&format!(
            "etcd-unit: etcd-03: there is no /usr/local/bin/etcd, which etcd.service starts: etcd \
             would not come back: {advice}"
        ));
    }
    assert_eq!(lab.on_all(&HOSTS, PID), pids);
    // One of the operator's own in its place is moved away as advised.
    lab.on("etcd-03", "cp $(readlink /proc/$(systemctl show etcd -p MainPID --value)/exe) /usr/local/bin/etcd; systemctl restart etcd");
    lab.bash(&edited(".", "etcd-push")).exits(3).says(
        "etcd-push: etcd-03: /usr/local/bin/etcd: not a link of these tools: move it away, or choose \
         another binDir",
    );
    lab.on("etcd-03", "mv /usr/local/bin/etcd /opt/");
    lab.bash(&edited(".", "etcd-push | etcd-unit start | etcd-health --wait")).ok();

    // A release that is damaged: etcd-unit leaves the good member alone, the pipeline mends it.
    lab.on(
        "etcd-03",
        "etcd=$(readlink -f /usr/local/bin/etcd); cp $etcd /tmp/etcd; \
         printf '\\267' | dd of=/tmp/etcd bs=1 seek=18 conv=notrunc 2>/dev/null; mv /tmp/etcd $etcd",
    );
    let pids = lab.on_all(&HOSTS, "systemctl show etcd -p MainPID");
    let ran = lab.bash(&edited(".", "etcd-unit start")).exits(3);
    let [said] = errors(&ran)[..] else { panic!("{}", ran.stderr) };
    assert!(
        said.starts_with("etcd-unit: etcd-03: /usr/local/bin/etcd does not run on this host (")
            && said.ends_with("(not an executable for this machine): run etcd-push again"),
        "{said}"
    );
    assert_eq!(lab.on_all(&HOSTS, "systemctl show etcd -p MainPID"), pids);
    let ran = lab.bash(&edited(".", "etcd-push | etcd-unit start | etcd-health --wait")).ok();
    ran.says(&format!("etcd-push: etcd-03: installed release {version}"));
    // It runs what is there again.
    assert_eq!(lab.on_all(&HOSTS, "systemctl show etcd -p MainPID"), pids);
    // One that is cut off runs into its own end.
    lab.on(
        "etcd-03",
        "etcd=$(readlink -f /usr/local/bin/etcd); head -c 5000000 $etcd > /tmp/etcd; \
         chmod 755 /tmp/etcd; mv /tmp/etcd $etcd",
    );
    let cut = lab.bash(&edited(".", "etcd-unit restart --only etcd-03")).exits(3);
    let [said] = errors(&cut)[..] else { panic!("{}", cut.stderr) };
    assert!(
        said.starts_with("etcd-unit: etcd-03: /usr/local/bin/etcd does not run on this host (")
            && said.ends_with("): run etcd-push again"),
        "{said}"
    );
    lab.bash(&edited(".", "etcd-push | etcd-unit start | etcd-health --wait"))
        .ok()
        .says(&format!("etcd-push: etcd-03: installed release {version}"));

    // Another folder of the binaries: the links in the old one are named.
    let check = edited(".cluster.settings.binDir = \"/opt/bin\"", "etcd-push --check");
    lab.bash(&check).exits(1).says(
        "etcd-push: etcd-02: warning: its unit starts etcd from /usr/local/bin, the document says \
         /opt/bin: the links in /usr/local/bin stay, and lead to the old release after the next \
         upgrade: remove them when etcd-unit start has run: `rm /usr/local/bin/etcd \
         /usr/local/bin/etcdctl /usr/local/bin/etcdutl`",
    );

    // A release for another architecture never gets as far as the links.
    let links = lab.on_all(&HOSTS, "readlink -f /usr/local/bin/etcd");
    lab.bash(
        "mkdir -p wrong/etcd && cp bin/etcd* wrong/etcd && \
         printf '\\267' | dd of=wrong/etcd/etcd bs=1 seek=18 conv=notrunc && \
         tar -czf wrong.tar.gz -C wrong etcd && \
         sum=$(sha256sum < wrong.tar.gz | cut -d ' ' -f 1) && \
         jq --arg sum $sum --arg at $PWD/wrong.tar.gz --argjson size $(stat -c %s wrong.tar.gz) \
         '.release.archives[0] |= (.local = $at | .sha256 = $sum | .sizeBytes = $size)' base.json \
         > wrong.json",
    )
    .ok();
    let ran = lab.bash("etcd-cert issue -q < wrong.json | etcd-render -q | etcd-push").exits(3);
    assert!(
        errors(&ran).iter().all(|line| line
            .ends_with("etcd does not run on this host: fetch the release for its architecture"))
            && errors(&ran).len() == 3,
        "{}",
        ran.stderr
    );
    assert_eq!(lab.on_all(&HOSTS, "readlink -f /usr/local/bin/etcd"), links);
    assert_eq!(lab.on_all(&HOSTS, "ls -A /usr/local/lib/etcd-tools | wc -l"), ["1\n"; 3]);
}

#[test]
fn what_etcd_has_elsewhere_is_its_own_though_the_list_does_not_say_so() {
    let lab = Lab::with_nodes(2);
    let list = lab.read("nodes.txt");
    let [one, other] = list.lines().collect::<Vec<_>>()[..] else { panic!("{list}") };
    lab.write("nodes.txt", one);
    let settings = r#"jq '.cluster.settings = {dataDir: "/srv/etcd", certDir: "/opt/etcd/ssl"}'"#;
    let version = "v3.5.16";
    lab.bash(&format!(
        "etcd-fetch -q {version} < nodes.txt | {settings} | etcd-cert issue -q | etcd-render -q \
         | etcd-push -q | etcd-unit start -q | etcd-health -q --wait -o json > own.json"
    ))
    .ok();
    let there =
        "find /srv/etcd /opt/etcd/ssl /etc/etcd -type f | sort; systemctl show etcd -p MainPID";
    let before = lab.on("etcd-01", there);
    lab.write("junk", "junk");
    for (path, folder) in
        [("/srv/etcd/member/snap/db", "/srv/etcd"), ("/opt/etcd/ssl/ca.crt", "/opt/etcd/ssl")]
    {
        for check in ["", "--check"] {
            lab.bash(&format!("etcd-push {check} --file junk:{path} nodes.txt")).exits(3).says(
                &format!(
                    "etcd-push: etcd-01: {path}: etcd has its own in {folder} on this host, which \
                     the document does not say: leave it out, or give the settings that etcd was \
                     deployed with"
                ),
            );
        }
    }
    // Nor does another CA get under it from another folder, whatever the paths of the files.
    let other_ca = format!(
        "mkdir other; cd other; etcd-fetch -q {version} < ../nodes.txt | {} | etcd-cert issue -q \
         | etcd-render -q | etcd-push",
        settings.replace("/opt/etcd/ssl", "/etc/etcd/tls")
    );
    let ran = lab.bash(&other_ca).exits(3);
    let begin = "etcd-push: etcd-01: /opt/etcd/ssl/ca.crt holds the CA with sha256 ";
    assert!(ran.stderr.lines().any(|line| line.starts_with(begin)), "{}", ran.stderr);
    let purge = |of: &str| lab.bash(&format!("etcd-unit uninstall --purge --lose-quorum {of}"));
    purge("nodes.txt").exits(3).says(
        "etcd-unit: etcd-01: its data is in /srv/etcd, the document says /var/lib/etcd: nothing is \
         purged: give the document it was deployed with",
    );
    assert_eq!(lab.on("etcd-01", there), before);
    // What is not etcd's in its folder stays.
    lab.on("etcd-01", "mkdir /srv/etcd/backup; touch /srv/etcd/backup/snap.db");
    purge("own.json").ok().says(
        "etcd-unit: etcd-01: warning: /srv/etcd/backup is not etcd's: it stays, and with it its folder",
    );
    assert_eq!(
        lab.on("etcd-01", "find /srv/etcd -type f; rm -r /srv/etcd"),
        "/srv/etcd/backup/snap.db\n"
    );
    let left = "ls -d /srv/etcd /opt/etcd/ssl /etc/etcd /usr/local/bin/etcd 2> /dev/null || true";
    assert_eq!(lab.on("etcd-01", left), "");

    // What is somebody else's does not become etcd's.
    lab.write("nodes.txt", other);
    let push = format!(
        "etcd-fetch -q {version} < nodes.txt | etcd-cert issue -q | etcd-render -q | etcd-push"
    );
    let refused = |set_up: &str, why: &str| {
        lab.on("etcd-02", set_up);
        lab.bash(&push).exits(3).says(&format!("etcd-push: etcd-02: {why}"));
        assert_eq!(lab.on("etcd-02", "id -u etcd 2> /dev/null; stat -c %U /etc"), "root\n");
    };
    refused(
        "mkdir -p /var/lib/etcd/member; chown -R nobody /var/lib/etcd",
        "/var/lib/etcd/member belongs to nobody, and there is no user etcd yet: an etcd of others \
         has its data there: set another dataDir, or move that away",
    );
    let guest = "is in the data directory, which is not etcd's: choose a folder for etcd alone \
                 (dataDir), or move that away";
    refused(
        "rm -r /var/lib/etcd/member; touch /var/lib/etcd/app.db",
        &format!("/var/lib/etcd/app.db {guest}"),
    );
    refused(
        "rm -r /var/lib/etcd/app.db; chown nobody /var/lib/etcd",
        "/var/lib/etcd belongs to nobody, and would become etcd's: choose a folder for etcd alone, \
         or give it to root first",
    );
    lab.on("etcd-02", "rm -r /var/lib/etcd; mkdir /srv/shared; touch /srv/shared/app.log");
    lab.bash(
        &push.replace(
            "| etcd-cert",
            "| jq '.cluster.settings.walDir = \"/srv/shared\"' | etcd-cert",
        ),
    )
    .exits(3)
    .says(
        "etcd-push: etcd-02: /srv/shared/app.log is in the folder of the write-ahead log, which \
             is not etcd's: choose a folder for etcd alone (walDir), or move that away",
    );
    lab.on("etcd-02", "mkdir /var/lib/etcd");
    let first = lab.on("etcd-02", "ls -A /etc | grep -v '^\\.' | head -n 1");
    refused(
        "rm -r /var/lib/etcd; ln -s /etc /var/lib/etcd",
        &format!("/var/lib/etcd/{} {guest}", first.trim()),
    );
}
