//! What may go down, and what may not: quorum is judged by what etcd says, just now.

use std::time::Duration;

use tests::{Lab, PID, Ran, guide, release, wait_until};

const HOSTS: [&str; 5] = ["etcd-01", "etcd-02", "etcd-03", "etcd-04", "etcd-05"];
const MINUTE: Duration = Duration::from_secs(60);
/// etcd's main process.
const RENDER: &str = "etcd-cert issue | etcd-render";

/// A running cluster on the first `count` hosts, described by `document.json`, what
/// etcd-fetch made of `settings` by `fetched.json`.
fn cluster(count: usize, version: &str, settings: &str) -> Lab {
    let lab = Lab::with_nodes(count);
    // Members of a new cluster start all at once, whatever --jobs says.
    lab.bash(&format!(
        "etcd-fetch {version} < nodes.txt | jq '.cluster.settings = {settings}' > fetched.json; \
         cat fetched.json | {RENDER} | etcd-push | etcd-unit start --jobs 1 --timeout 60 \
         | etcd-health --wait > document.json"
    ))
    .ok();
    lab
}

fn unit(lab: &Lab, args: &str) -> Ran {
    lab.bash(&format!("etcd-unit {args} < document.json"))
}

/// The lines of the results, without the tool.
fn lines(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter_map(|line| line.strip_prefix("etcd-unit: ")).collect()
}

fn wait_healthy(lab: &Lab) {
    lab.bash("etcd-health --wait < document.json").ok();
}

/// Promises 1 and 2.
#[test]
fn unknown_voters_and_voters_outside_of_the_document_count() {
    let lab = cluster(5, guide(), "{}");
    lab.bash("jq 'del(.nodes[3, 4])' document.json > three.json").ok();
    let pids = || lab.on_all(&HOSTS[..3], PID);
    let before = pids();

    // Members of the cluster that the document does not have are voters.
    lab.on_all(&HOSTS[3..], "systemctl stop etcd");
    let gone = "(etcd-04: connecting: connection refused; etcd-05: connecting: connection refused)";
    let ran = lab.bash("etcd-unit stop --only etcd-01 --timeout 1 < three.json").exits(3);
    let line = format!(
        "etcd-01: not stopped: only etcd-02 and etcd-03 would be left of 5 voters, quorum is 3 \
         {gone}: repair etcd-04 first, or pass --lose-quorum to proceed"
    );
    assert_eq!(lines(&ran), [line]);
    assert_eq!(ran.document().results.last().map(|r| r.code.as_str()), Some("quorum"));
    // Nothing is started again beside members that it does not know.
    let ran = lab.bash("etcd-unit restart --only etcd-01 < three.json").exits(3);
    let extra = [4, 5].map(|number| {
        format!(
            "member etcd-0{number} of the cluster (https://192.168.1.{}:2380) is not in the \
             document: add it there, or remove it: `etcd-member remove etcd-0{number}`, or, where a \
             new node takes its place: `scripts/replace-member NODES etcd-0{number}`",
            99 + number
        )
    });
    assert_eq!(lines(&ran), extra);
    // Nor is any stopped, even if quorum would stay: two with other lists do not add up.
    lab.on_all(&HOSTS[3..], "systemctl start etcd");
    wait_healthy(&lab);
    let ran = lab.bash("etcd-unit stop --only etcd-01 < three.json").exits(3);
    assert_eq!(lines(&ran), [format!("etcd-01: not stopped: {}", extra[0])]);
    lab.on_all(&HOSTS[3..], "systemctl stop etcd");
    // What is known of all is said in the same way with --check.
    unit(&lab, "stop --check --only etcd-01").exits(3).says(
        "etcd-unit: etcd-01: not stopped: only etcd-02 and etcd-03 would be left of 5 voters, \
         quorum is 3 (etcd-04: not running; etcd-05: not running): repair etcd-04 first, or pass \
         --lose-quorum to proceed",
    );
    // What is down can be stopped; what would bring quorum's reserve back, started.
    unit(&lab, "stop --only etcd-04").ok().says("etcd-unit: etcd-04: etcd.service not running");
    unit(&lab, "start").ok().says("etcd-unit: etcd-05: started etcd.service");
    wait_healthy(&lab);
    assert_eq!(pids(), before);

    // A host that hangs and one without a network are not known to be healthy.
    lab.command(&["freeze", "etcd-04"]);
    lab.command(&["cable", "pull", "etcd-05"]);
    let ran = unit(&lab, "stop --only etcd-01").exits(3);
    let [line] = lines(&ran)[..] else { panic!("{}", ran.stderr) };
    let begin = "etcd-01: not stopped: only etcd-02 and etcd-03 would be left of 5 voters, quorum \
                 is 3 (etcd-04: ";
    assert!(line.starts_with(begin), "{line}");
    assert!(line.contains("; etcd-05: "), "{line}");
    assert!(line.ends_with(": repair etcd-04 first, or pass --lose-quorum to proceed"), "{line}");
    assert_eq!(pids(), before);
    lab.command(&["thaw", "etcd-04"]);
    lab.command(&["cable", "plug", "etcd-05"]);
    wait_healthy(&lab);

    // Two of five may go, one by one, the leader last; three may not.
    unit(&lab, "stop --only etcd-01,etcd-02,etcd-03").exits(3);
    assert_eq!(pids(), before);
    let ran = unit(&lab, "stop --only etcd-01,etcd-02").ok();
    let stopped = |line: &&&str| line.ends_with("stopped etcd.service");
    assert_eq!(lines(&ran).iter().filter(stopped).count(), 2, "{}", ran.stderr);
}

/// Promise 4: an alarm, members that are down and a wrong setting do not block what
/// mends them, and nothing else is touched.
#[test]
fn what_is_sick_can_be_cured() {
    let lab = cluster(3, guide(), "{quotaBackendBytes: 2097152}");
    let roll_out = |change: &str| {
        lab.bash(&format!(
            "jq '{change}' fetched.json | {RENDER} | etcd-push | tee document.json | etcd-unit \
             start --timeout 30"
        ))
    };
    let restarted = |ran: &Ran| {
        let restarted = "restarted etcd.service: its configuration had changed";
        lines(ran).iter().filter(|line| line.ends_with(restarted)).count()
    };

    // The alarm goes once the quota is higher and it is disarmed.
    lab.unpack(guide());
    let endpoints: Vec<_> = (0..3).map(|at| format!("https://192.168.1.10{at}:2379")).collect();
    let put = lab.etcdctl(&endpoints[..1], "put big");
    let put = format!("head -c 900000 /dev/zero | tr '\\0' x | {put}");
    wait_until("the quota is reached", MINUTE, || lab.bash(&put).code != 0);
    let ran = roll_out(".cluster.settings = {quotaBackendBytes: 8388608}").ok();
    assert_eq!(restarted(&ran), 3, "{}", ran.stderr);
    let alarm = "warning: alarm NOSPACE: the database has reached its quota";
    assert!(lines(&ran).iter().any(|line| line.contains(alarm)), "{}", ran.stderr);
    lab.bash(&lab.etcdctl(&endpoints, "alarm disarm")).ok();
    wait_healthy(&lab);

    // What was put into a configuration by hand is not carried out with a list that brings none.
    let config = "/etc/etcd/etcd.conf";
    let pids = lab.on_all(&HOSTS[..3], PID);
    lab.on(
        "etcd-03",
        &format!(
            "cp -p {config} /root/conf; echo ETCD_LOG_LEVEL=warn >> {config}; \
                                echo ETCD_FORCE_NEW_CLUSTER=true >> {config}"
        ),
    );
    for command in ["start", "restart"] {
        lab.bash(&format!("etcd-unit {command} nodes.txt")).exits(3).says(
            "etcd-unit: etcd-03: /etc/etcd/etcd.conf sets ETCD_FORCE_NEW_CLUSTER to true, which \
             removes all other members at the next start: remove it there",
        );
    }
    lab.on("etcd-03", &format!("mv /root/conf {config}"));
    assert_eq!(lab.on_all(&HOSTS[..3], PID), pids);

    // A quota that the database fills already would end all writes with the first member.
    let pids = lab.on_all(&HOSTS[..3], PID);
    let ran = roll_out(".cluster.settings = {quotaBackendBytes: 8}");
    let begin = "etcd-push: etcd-01: /etc/etcd/etcd.conf sets ETCD_QUOTA_BACKEND_BYTES to 8, and the \
                 database has ";
    let end = "the cluster would take no more writes: set a larger quota, or compact and defragment \
               it first";
    let said = |line: &str| line.starts_with(begin) && line.ends_with(end);
    assert!(ran.code != 0 && ran.stderr.lines().any(said), "{}", ran.stderr);

    // Nor is one put where nobody could dial it.
    let ran = lab.bash(&format!(
        "jq '.cluster.settings = {{quotaBackendBytes: 8388608}}' fetched.json | {RENDER} \
         | jq '(.nodes[1].files[] | select(.path == \"/etc/etcd/etcd.conf\").content) \
         |= sub(\"ETCD_LISTEN_PEER_URLS=.*?:2380\"; \
         \"ETCD_LISTEN_PEER_URLS=https://127.0.0.1:2380\")' \
         | etcd-push | etcd-unit start --timeout 30"
    ));
    ran.exits(66).says(
        "etcd-push: etcd-02: /etc/etcd/etcd.conf sets ETCD_LISTEN_PEER_URLS to \
         https://127.0.0.1:2380, where no other member reaches it at 192.168.1.101: change it in the \
         document",
    );
    assert_eq!(lab.on_all(&HOSTS[..3], PID), pids);

    let ran = roll_out(".cluster.settings = {quotaBackendBytes: 8388608}").ok();
    assert_eq!(restarted(&ran), 0, "{}", ran.stderr);

    // A member whose answers get lost is not back, though it dials the others and serves: these say
    // that they are connected until etcd has waited for long enough.
    let lost = "etcd-02: etcd.service was restarted and is not back: ";
    let why = "has no connection to etcd-02 (https://192.168.1.101:2380)";
    let lose = "ip rule add pref 2 ipproto 6 sport 2380 blackhole";
    lab.on("etcd-02", lose);
    let ran = unit(&lab, "restart --only etcd-02 --timeout 10").exits(3);
    let line = lines(&ran).into_iter().find(|line| line.starts_with(lost));
    let line = line.unwrap_or_else(|| panic!("{}", ran.stderr));
    assert!(line.ends_with(why), "{line}");
    lab.on("etcd-02", &lose.replace("add", "del"));
    wait_healthy(&lab);

    // Two that are healthy by the third alone are no quorum without it.
    let health = lab.bash("etcd-health --wait < document.json").ok().document().health.unwrap();
    let leader = health.endpoints.iter().find(|endpoint| endpoint.is_leader).unwrap();
    let second = health.endpoints.iter().find(|e| e.node.as_deref() == Some("etcd-02")).unwrap();
    if leader.node != second.node {
        let id = second.member_id.as_ref().unwrap();
        let at = [leader.endpoint.clone()];
        lab.bash(&lab.etcdctl(&at, &format!("move-leader {id}"))).ok();
    }
    let cut = "ip rule add pref 2 to ADDRESS ipproto 6 unreachable";
    let between = [("etcd-01", "192.168.1.102"), ("etcd-03", "192.168.1.100")];
    for (host, address) in between {
        lab.on(host, &cut.replace("ADDRESS", address));
    }
    wait_until("they miss each other", MINUTE, || {
        unit(&lab, "restart --only etcd-02 --check --timeout 1").code == 3
    });
    wait_healthy(&lab);
    let pids = lab.on_all(&HOSTS[..3], PID);
    for command in ["restart", "stop"] {
        let ran = unit(&lab, &format!("{command} --only etcd-02 --timeout 2")).exits(3);
        let line = lines(&ran).into_iter().find(|line| line.starts_with("etcd-02: ")).unwrap();
        let why = ": only etcd-01 would be left of 3 voters, quorum is 2 (etcd-03: etcd-01 has no \
                   connection to https://192.168.1.102:2380; etcd-01: etcd-03 has no connection to \
                   https://192.168.1.100:2380): repair etcd-03 first, or pass --lose-quorum to \
                   proceed";
        assert!(line.ends_with(why), "{line}");
    }
    assert_eq!(lab.on_all(&HOSTS[..3], PID), pids);
    for (host, address) in between {
        lab.on(host, &cut.replace("add", "del").replace("ADDRESS", address));
    }
    wait_healthy(&lab);

    // Nor is one that is being stopped counted on, though it serves to the end.
    let dir = "/etc/systemd/system/etcd.service.d";
    let slow =
        format!("mkdir {dir}; printf '[Service]\\nExecStop=/bin/sleep 1000\\n' > {dir}/x.conf");
    lab.on("etcd-02", &format!("{slow}; systemctl daemon-reload; systemctl stop --no-block etcd"));
    let would_be = "only etcd-01 would be left of 3 voters, quorum is 2 (etcd-02: etcd.service is \
                    stopping): repair etcd-02 first, or pass --lose-quorum to proceed";
    unit(&lab, "stop --only etcd-03")
        .exits(3)
        .says(&format!("etcd-unit: etcd-03: not stopped: {would_be}"));
    unit(&lab, "restart --only etcd-03 --timeout 2")
        .exits(3)
        .says(&format!("etcd-unit: etcd-03: etcd.service not restarted: {would_be}"));
    let end = format!("rm -r {dir}; systemctl daemon-reload; pkill -x sleep");
    lab.on("etcd-02", &format!("{end}; systemctl stop etcd; systemctl start etcd"));
    wait_healthy(&lab);

    // Nor does one serve nobody for which systemd still waits: no two are restarted at once.
    let slow = format!(
        "mkdir {dir}; printf '[Service]\\nExecStartPost=/bin/sleep 1000\\n' > {dir}/x.conf; \
         systemctl daemon-reload; systemctl restart --no-block etcd"
    );
    for host in &HOSTS[..2] {
        let before = lab.on(host, PID);
        lab.on(host, &slow);
        wait_until("it has another process", MINUTE, || {
            let now = lab.on(host, PID);
            now != before && now.trim() != "0"
        });
        wait_healthy(&lab);
    }
    let pids = lab.on_all(&HOSTS[..3], PID);
    let ran = lab.bash(&format!(
        "jq '.cluster.settings = {{quotaBackendBytes: 8388608, heartbeatIntervalMs: 105}}' \
         fetched.json | {RENDER} | etcd-push | etcd-unit start --timeout 5"
    ));
    ran.exits(3);
    let now = lab.on_all(&HOSTS[..3], PID);
    assert_eq!(now.iter().zip(&pids).filter(|(now, before)| now != before).count(), 1);
    for host in &HOSTS[..2] {
        lab.on(host, &format!("rm -r {dir}; systemctl daemon-reload; systemctl restart etcd"));
        wait_healthy(&lab);
    }
    roll_out(".cluster.settings = {quotaBackendBytes: 8388608}").ok();
    wait_healthy(&lab);

    // Those that are started are a quorum: who is outdated is restarted in its turn.
    lab.on_all(&HOSTS[1..3], "systemctl stop etcd");
    let ran =
        roll_out(".cluster.settings = {quotaBackendBytes: 8388608, heartbeatIntervalMs: 110}");
    let ran = ran.ok();
    let at = |line: &str| lines(&ran).iter().position(|l| l.starts_with(line));
    let [started, last] = [
        at("etcd-03: started etcd.service"),
        at("etcd-01: restarted etcd.service: its configuration had changed"),
    ];
    assert!(started.is_some() && started < last, "{}", ran.stderr);
    wait_healthy(&lab);

    // Without quorum nothing is lost by restarting who does not serve, and one that is started
    // may wait for it.
    lab.on_all(&HOSTS[1..3], "systemctl stop etcd");
    wait_until("etcd-01 knows that quorum is lost", MINUTE, || {
        unit(&lab, "stop --quorum-is-lost --check").code == 1
    });
    let ran = lab.bash(&format!(
        "jq '.cluster.settings = {{quotaBackendBytes: 8388608, heartbeatIntervalMs: 120}}' \
         fetched.json | {RENDER} | etcd-push | etcd-unit start --only etcd-01,etcd-02 --timeout 30"
    ));
    ran.ok()
        .says("etcd-unit: etcd-01: restarted etcd.service")
        .says("etcd-unit: etcd-02: started etcd.service");
    let ran =
        roll_out(".cluster.settings = {quotaBackendBytes: 8388608, heartbeatIntervalMs: 120}");
    ran.ok().says("etcd-unit: etcd-03: started etcd.service");
    wait_healthy(&lab);

    // The client port changes member by member, until none has the old one.
    let ran = roll_out(
        ".cluster.settings = {quotaBackendBytes: 8388608, heartbeatIntervalMs: 120, \
         clientPort: 2389}",
    );
    assert_eq!(restarted(&ran.ok()), 3);
    wait_healthy(&lab);

    // A unit that etcd is bound to takes it down, and is judged like it.
    lab.on_all(
        &HOSTS[..3],
        "printf '[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/true\\n' \
         > /etc/systemd/system/vpn.service; systemctl daemon-reload; systemctl start vpn; mkdir /etc/systemd/system/etcd.service.d; \
         printf '[Unit]\\nBindsTo=vpn.service\\nAfter=vpn.service\\n' \
         > /etc/systemd/system/etcd.service.d/vpn.conf",
    );
    // The drop-in is new to the running process: one more roll, then never again.
    let drop_in = "restarted etcd.service: its unit had changed";
    let ran = unit(&lab, "start").ok();
    assert_eq!(lines(&ran).iter().filter(|l| l.ends_with(drop_in)).count(), 3, "{}", ran.stderr);
    let pids = lab.on_all(&HOSTS[..3], PID);
    unit(&lab, "start").ok().says("etcd-unit: etcd-01: etcd.service running as configured");
    unit(&lab, "stop --unit vpn.service --only etcd-01,etcd-02").exits(3).says(
        "etcd-unit: etcd-01: not stopped: only etcd-03 would be left of 3 voters, quorum is 2: \
         pass --lose-quorum to proceed",
    );
    assert_eq!(lab.on_all(&HOSTS[..3], PID), pids);
    // So is one that tells etcd to stop with it; one that would stop it is not started.
    let own = |name: &str, more: &str| {
        let text = format!("[Unit]\n{more}\n[Service]\nExecStart=/bin/sleep 1000\n");
        lab.write(&format!("{name}.service"), &text);
        unit(&lab, &format!("start --unit-file {name}.service"))
    };
    own("prop", "PropagatesStopTo=etcd.service").ok();
    unit(&lab, "stop --unit prop.service --only etcd-01,etcd-02").exits(3).says(
        "etcd-unit: etcd-01: not stopped: only etcd-03 would be left of 3 voters, quorum is 2: \
         pass --lose-quorum to proceed",
    );
    let conflicts = "conflicts with etcd.service, which is to run and which systemd would stop: take \
                     that out of Conflicts=";
    let refused = |name: &str, who: &str| {
        format!("etcd-unit: etcd-01: {name}.service not started: {who} {conflicts}")
    };
    own("conf", "Conflicts=etcd.service").exits(3).says(&refused("conf", "it"));
    let at_boot = "Conflicts=etcd.service\n[Install]\nWantedBy=multi-user.target";
    own("boot", at_boot).exits(3).says(&refused("boot", "it"));
    let installed = unit(&lab, "install --unit-file boot.service");
    installed.exits(3).says(&refused("boot", "it"));
    let alias = "[Install]\nAlias=etcd.service";
    own("alias", alias).exits(3).says(
        "etcd-unit: etcd-01: alias.service not installed: it would be etcd.service, where etcd \
         runs: take that out of Alias=",
    );
    let there = "cd /etc/systemd/system; ls conf.service boot.service alias.service 2>/dev/null";
    assert_eq!(lab.on_all(&HOSTS[..3], &format!("{there} || true")), ["", "", ""]);
    let conf = "printf '[Unit]\\nConflicts=etcd.service\\n[Service]\\nExecStart=/bin/sleep 1000\\n' \
                > /etc/systemd/system/conf.service; systemctl daemon-reload";
    lab.on_all(&HOSTS[..3], conf);
    // So is one that needs such a one; --check says so of what systemd has read.
    let wants = own("wants", "Wants=conf.service");
    wants.exits(3).says(&refused("wants", "it starts conf.service, which"));
    own("fails", "OnFailure=conf.service")
        .exits(3)
        .says(&refused("fails", "it starts conf.service, which"));
    // What only systemd knows of is not left enabled, to do the same at the next boot.
    let later = own("later", "Wants=conf.service\n[Install]\nWantedBy=multi-user.target");
    later.exits(3).says(&refused("later", "it starts conf.service, which"));
    assert_eq!(lab.on("etcd-01", "systemctl is-enabled later.service || true"), "disabled\n");
    let there = "ls /etc/systemd/system/later.service 2>/dev/null || true";
    assert_eq!(lab.on_all(&HOSTS[1..3], there), ["", ""]);
    // One that fails is tried on one node; that etcd requires it is said.
    lab.write(
        "req.service",
        "[Unit]\nBefore=etcd.service\n[Service]\nType=oneshot\nExecStart=/bin/false\n\
         [Install]\nRequiredBy=etcd.service\n",
    );
    let ran = unit(&lab, "start --unit-file req.service").exits(3);
    let first = lines(&ran)[0].to_owned();
    let needed = "; etcd.service requires it, and would not start again: correct it, or take it \
                  away: `etcd-unit uninstall --unit req.service --only etcd-01`";
    assert!(first.starts_with("etcd-01: req.service did not start: "), "{first}");
    assert!(first.ends_with(needed), "{first}");
    ran.says("etcd-unit: etcd-02: nothing done: the same has failed on etcd-01");
    let there = "ls /etc/systemd/system/req.service 2>/dev/null || true";
    unit(&lab, "start --unit-file req.service").exits(3);
    assert_eq!(lab.on_all(&HOSTS[1..3], there), ["", ""]);
    unit(&lab, "uninstall --unit req.service --only etcd-01").ok();
    // What etcd goes down with is not stopped before etcd is.
    lab.write(
        "kept.service",
        "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nRequiredBy=etcd.service\n",
    );
    unit(&lab, "start --unit-file kept.service --only etcd-02").ok();
    unit(&lab, "stop --unit kept.service --only etcd-02")
        .ok()
        .says("etcd-unit: etcd-02: stopped kept.service, and with it etcd.service");
    assert_eq!(lab.on("etcd-02", "systemctl is-active etcd || true"), "inactive\n");
    lab.on("etcd-02", "systemctl start etcd");
    unit(&lab, "uninstall --lose-quorum --unit kept.service --only etcd-02").ok();
    lab.on("etcd-02", "systemctl start etcd");
    wait_healthy(&lab);
    let pids = lab.on_all(&HOSTS[..3], PID);
    // Where nobody tells of the cluster, nothing is done that might take down an etcd.
    lab.write("late.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    lab.bash("mkdir none; cd none; etcd-unit start --unit-file ../late.service ../nodes.txt")
        .exits(3)
        .says(
            "etcd-unit: etcd-02: nothing done: if its etcd went down with that: \
         \"https://192.168.1.100:2389\": no CA certificate is given: run this in the folder that \
         holds pki, or pass --pki or --cacert, or pass --lose-quorum to proceed",
        );
    unit(&lab, "start --check --unit wants.service")
        .exits(3)
        .says(&refused("wants", "it starts conf.service, which"));
    assert_eq!(lab.on_all(&HOSTS[..3], PID), pids);
    let ran = unit(&lab, "restart --unit vpn.service").ok();
    let asked = "restarted vpn.service, and with it etcd.service: as asked";
    assert_eq!(lines(&ran).iter().filter(|line| line.ends_with(asked)).count(), 3);
    assert!(lines(&ran).iter().any(|line| line.contains("leadership moved to")), "{}", ran.stderr);
    wait_healthy(&lab);
}

/// What a unit takes down is judged by what systemd has read of it, which may have come with the
/// same document.
#[test]
fn what_comes_with_a_document_takes_no_two_members_down() {
    let Some(version) = release("3.5") else { return };
    let lab = cluster(3, &version, "{}");
    let text = |unit: &str, seconds: &str| {
        format!("[Unit]\n{unit}\n[Service]\nExecStart=/bin/sleep {seconds}\n")
    };
    // Documents whose nodes have `agent.service` and what else `more` adds.
    let start = |agent: &str, more: &str| {
        lab.write("agent", agent);
        let add = format!(
            "jq --rawfile agent agent '.nodes[] |= (.units += [{{name: \"agent.service\", \
             content: $agent}}] | {more})' document.json"
        );
        lab.bash(&format!("{add} | etcd-push | etcd-unit start"))
    };
    let drop_in = |unit: &str, line: &str| {
        format!(
            ".files += [{{path: \"/etc/systemd/system/{unit}.service.d/more.conf\", content: \
             \"[Unit]\\n{line}\\n\"}}]"
        )
    };
    // When the member of each host was last down: from when, until when. They have one clock.
    let down = || -> Vec<Vec<u64>> {
        let times = "systemctl show etcd -p InactiveEnterTimestampMonotonic,\
                     ActiveEnterTimestampMonotonic --value | sort -n";
        let of = |said: &String| said.split_whitespace().map(|t| t.parse().unwrap()).collect();
        let mut down: Vec<_> = lab.on_all(&HOSTS[..3], times).iter().map(of).collect();
        down.sort();
        down
    };
    let one_by_one = |ran: &Ran| {
        let is_agent = |line: &&&str| {
            line.contains(" restarted agent.service") && line.ends_with(": its unit had changed")
        };
        let count = lines(ran).iter().filter(is_agent).count();
        assert_eq!(count, 3, "{}", ran.stderr);
        let down = down();
        let is_disjoint = |two: &[Vec<u64>]| two[0][1] < two[1][0];
        assert!(down.windows(2).all(is_disjoint), "{down:?}\n{}", ran.stderr);
        wait_healthy(&lab);
    };
    start(&text("", "1000"), ".").ok();
    one_by_one(&start(&text("PropagatesStopTo=etcd.service", "1001"), ".").ok());
    one_by_one(&start(&text("", "1002"), &drop_in("agent", "PropagatesStopTo=etcd.service")).ok());
    lab.on_all(&HOSTS[..3], "rm -r /etc/systemd/system/agent.service.d; systemctl daemon-reload");
    let part = "(.units[] | select(.name == \"etcd.service\").content) |= \
                sub(\"\\\\[Unit\\\\]\"; \"[Unit]\\nPartOf=agent.service\")";
    one_by_one(&start(&text("", "1003"), part).ok());

    // systemd would stop one that is bound to what does not run as soon as it reads that.
    let pids = lab.on_all(&HOSTS[..3], PID);
    let bonds = drop_in("etcd", "BindsTo=late.service");
    let add = format!("jq '.nodes[] |= (.units = [] | {bonds})' document.json > bound.json");
    lab.bash(&add).ok();
    let why = "etcd-unit: etcd-01: etcd.service would be bound to late.service (BindsTo=), which \
               does not run, and systemd would stop it as soon as it reads that: nothing is \
               loaded: have late.service started first, without that line, or leave it out";
    lab.bash("etcd-unit start --check < bound.json").exits(3).says(why);
    lab.bash("etcd-push < bound.json | etcd-unit start").exits(3).says(why);
    // Nor is it loaded with another unit.
    lab.write("other.service", &text("", "1000"));
    lab.bash("etcd-unit start --unit-file other.service < nodes.txt").exits(3).says(why);
    assert_eq!(lab.on_all(&HOSTS[..3], PID), pids);
    lab.on_all(&HOSTS[..3], "rm /etc/systemd/system/etcd.service.d/more.conf");
    lab.bash("etcd-unit start --unit-file other.service < nodes.txt").ok();

    // Through a target, too, a unit takes it down.
    lab.write("base.service", &text("", "1000"));
    lab.bash("etcd-unit start --unit-file base.service < nodes.txt").ok();
    let folder = "/etc/systemd/system";
    lab.on_all(
        &HOSTS[..3],
        &format!(
            "printf '[Unit]\\nBindsTo=base.service\\nAfter=base.service\\n' > {folder}/site.target; \
             mkdir {folder}/etcd.service.requires; \
             ln -s ../site.target {folder}/etcd.service.requires/; \
             systemctl daemon-reload; systemctl start site.target"
        ),
    );
    lab.bash("etcd-unit stop --unit base.service < nodes.txt").exits(3).says(
        "etcd-unit: etcd-01: not stopped: no healthy voter would be left of 3 voters, quorum is 2: \
         pass --lose-quorum to proceed",
    );
    assert_eq!(lab.on_all(&HOSTS[..3], PID), pids);
    lab.on_all(
        &HOSTS[..3],
        &format!("rm -r {folder}/etcd.service.requires; systemctl daemon-reload"),
    );

    // Neither of two that conflict is stopped for the other.
    let pids = lab.on_all(&HOSTS[..3], PID);
    let ran = start(
        &text("", "1003"),
        &format!("{part} | {}", drop_in("etcd", "Conflicts=agent.service")),
    );
    let ran = ran.exits(3);
    let why = ": etcd.service not restarted: it conflicts with agent.service, which is to run and \
               which systemd would stop: take that out of Conflicts=";
    assert!(lines(&ran).iter().any(|line| line.ends_with(why)), "{}", ran.stderr);
    assert_eq!(lab.on_all(&HOSTS[..3], PID), pids);
    lab.on_all(
        &HOSTS[..3],
        "rm /etc/systemd/system/etcd.service.d/more.conf; systemctl stop agent",
    );
    lab.on_all(&HOSTS[..3], "systemctl daemon-reload; systemctl start etcd");
    wait_healthy(&lab);
    let pids = lab.on_all(&HOSTS[..3], PID);
    let conflicts = |unit: &str, it: &str| {
        format!(
            "etcd-unit: etcd-01: {unit} not started: {it} conflicts with etcd.service, which is to \
             run and which systemd would stop: take that out of Conflicts="
        )
    };
    let ran = start(&text("", "1004"), &drop_in("agent", "Conflicts=etcd.service")).exits(3);
    ran.says(&conflicts("agent.service", "it"));
    assert_eq!(lab.on_all(&HOSTS[..3], PID), pids);
    lab.on_all(&HOSTS[..3], "rm -r /etc/systemd/system/agent.service.d; systemctl daemon-reload");
    // Nor for what a target of one of them would start, or a timer.
    for (name, text) in [
        ("all.target", "[Unit]\nConflicts=etcd.service\n"),
        ("job.service", "[Unit]\nConflicts=etcd.service\n[Service]\nExecStart=/bin/true\n"),
        ("job.timer", "[Timer]\nOnActiveSec=1\n"),
    ] {
        lab.write(name, text);
    }
    lab.bash("etcd-push --file all.target:/etc/systemd/system/all.target nodes.txt").ok();
    start(&text("Wants=all.target", "1005"), part)
        .exits(3)
        .says(&conflicts("agent.service", "it starts all.target, which"));
    assert_eq!(lab.on_all(&HOSTS[..3], PID), pids);
    lab.on_all(&HOSTS[..3], "rm /etc/systemd/system/agent.service; systemctl daemon-reload");
    lab.bash("etcd-push --file job.service:/etc/systemd/system/job.service nodes.txt").ok();
    lab.bash("etcd-unit start --unit-file job.timer nodes.txt")
        .exits(3)
        .says(&conflicts("job.timer", "it starts job.service, which"));
    assert_eq!(lab.on_all(&HOSTS[..3], PID), pids);

    // What nobody can foresee takes one down, and none besides.
    lab.on_all(&HOSTS[..3], "rm /etc/systemd/system/job.*; systemctl daemon-reload");
    let left = "nothing done: the same has taken down the etcd of etcd-01";
    let hit = |ran: Ran, kept: &[String]| {
        let mut ran = ran.says(
            "etcd-unit: etcd-01: etcd.service went down with what was done, and is up again: see \
             journalctl -u etcd.service on the node",
        );
        for node in ["etcd-02", "etcd-03"] {
            ran = ran.says(&format!("etcd-unit: {node}: {left}"));
        }
        assert_eq!(lab.on_all(&HOSTS[1..3], PID), kept[1..]);
        assert_ne!(lab.on(HOSTS[0], PID), kept[0]);
        wait_healthy(&lab);
    };
    let kills = "[Service]\nExecStartPre=/bin/systemctl stop etcd\nExecStart=/bin/sleep 1000\n";
    lab.write("rogue.service", kills);
    let run = |args: &str| lab.bash(&format!("etcd-unit {args} rogue.service nodes.txt"));
    hit(run("start --unit-file").exits(3), &pids);
    run("install --unit-file").ok();
    let kept = lab.on_all(&HOSTS[..3], PID);
    hit(run("restart --unit-file").exits(3), &kept);
    let stops = "[Service]\nExecStart=/bin/sleep 1000\nExecStop=/usr/bin/pkill -9 -x etcd\n";
    lab.write("rogue.service", stops);
    run("restart --check --unit-file").exits(3).says(
        "etcd-unit: etcd-01: rogue.service is not the one of --unit-file on the node: to install \
         it, and restart what runs, run `etcd-unit start --unit-file rogue.service`",
    );
    lab.on_all(&HOSTS[..3], "systemctl stop rogue; rm -f /etc/systemd/system/rogue.service");
    lab.on_all(&HOSTS[..3], "systemctl daemon-reload");
    let kept = lab.on_all(&HOSTS[..3], PID);
    run("start --unit-file").ok();
    assert_eq!(lab.on_all(&HOSTS[..3], PID), kept);
    hit(run("stop --unit").exits(3), &kept);
    lab.on_all(&HOSTS[..3], "rm /etc/systemd/system/rogue.service; systemctl daemon-reload");

    // Not on each node does it what it does: the second is hit, and the third is left.
    lab.write(
        "rogue.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c '[ $$(hostname) = k8s-master-01 ] || \
         systemctl stop etcd'\n",
    );
    let kept = lab.on_all(&HOSTS[..3], PID);
    run("start --unit-file")
        .exits(3)
        .says("etcd-unit: etcd-03: nothing done: the same has taken down the etcd of etcd-02");
    wait_healthy(&lab);
    let pids = lab.on_all(&HOSTS[..3], PID);
    assert_eq!((&pids[0], &pids[2]), (&kept[0], &kept[2]));
    // While a member is down none may be hit.
    lab.bash("etcd-unit stop --only etcd-03 nodes.txt").ok();
    lab.write("rogue.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n");
    let kept = lab.on_all(&HOSTS[..2], PID);
    let why = |node: &str, other: &str| {
        format!(
            "etcd-unit: {node}: nothing done: if its etcd went down with that: only {other} would \
             be left of 3 voters, quorum is 2 (etcd-03: not running): repair etcd-03 first, or pass \
             --lose-quorum to proceed"
        )
    };
    for start in ["start --check --unit-file", "start --unit-file"] {
        let ran = run(start).exits(3);
        ran.says(&why("etcd-01", "etcd-02")).says(&why("etcd-02", "etcd-01"));
    }
    assert_eq!(lab.on_all(&HOSTS[..2], PID), kept);
    lab.bash("etcd-unit start nodes.txt").ok();
    wait_healthy(&lab);

    // Nor does one that runs and serves nobody pass for one that is up.
    lab.write("rogue.service", "[Service]\nType=oneshot\nExecStart=/usr/bin/pkill -STOP -x etcd\n");
    let ran = run("start --unit-file").exits(3);
    let begin = "etcd-unit: etcd-01: the cluster is not as healthy as before this: etcd-01: ";
    assert!(ran.stderr.contains(begin), "{}", ran.stderr);
    ran.says(&format!("etcd-unit: etcd-02: {left}")).says(&format!("etcd-unit: etcd-03: {left}"));
    lab.on(HOSTS[0], "pkill -CONT -x etcd");
    wait_healthy(&lab);
    // A member that the run itself has started is to stay, too.
    lab.bash("etcd-unit stop --only etcd-03 nodes.txt").ok();
    lab.write("more.service", "[Service]\nType=oneshot\nExecStart=/bin/systemctl stop etcd\n");
    let more = "jq --rawfile unit more.service '.nodes[2].units += [{name: \"more.service\", \
                content: $unit}] | .nodes[2].files = []' document.json";
    let ran = lab.bash(&format!("{more} | etcd-unit start --only etcd-03")).exits(3);
    ran.says(
        "etcd-unit: etcd-03: etcd.service went down with what was done, and is up again: see \
         journalctl -u etcd.service on the node",
    );
    wait_healthy(&lab);
    // A unit to which etcd is about to be bound is not removed.
    let folder = "/etc/systemd/system";
    lab.write("base.service", &text("", "1000"));
    lab.bash("etcd-unit start --unit-file base.service nodes.txt").ok();
    let bind = "printf '[Unit]\\nBindsTo=base.service\\n' > ";
    lab.on_all(
        &HOSTS[..3],
        &format!("mkdir -p {folder}/etcd.service.d; {bind} {folder}/etcd.service.d/base.conf"),
    );
    let kept = lab.on_all(&HOSTS[..3], PID);
    for _ in 0..2 {
        lab.bash("etcd-unit uninstall --unit base.service nodes.txt").exits(3).says(
            "etcd-unit: etcd-01: etcd.service would be bound to base.service (BindsTo=), which does \
             not run, and systemd would stop it as soon as it reads that: nothing is loaded: have \
             base.service started first, without that line, or leave it out",
        );
    }
    lab.on_all(&HOSTS[..3], &format!("rm {folder}/etcd.service.d/base.conf"));
    lab.bash("etcd-unit uninstall --unit base.service nodes.txt").ok();
    assert_eq!(lab.on_all(&HOSTS[..3], PID), kept);

    // What is stopped with a unit is said.
    lab.write(
        "base.service",
        "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nRequiredBy=etcd.service\n",
    );
    lab.bash("etcd-unit start --unit-file base.service nodes.txt").ok();
    let stop = "etcd-unit stop --only etcd-03 --unit base.service nodes.txt";
    lab.bash(&format!("{stop} --check"))
        .exits(1)
        .says("etcd-unit: etcd-03: would stop base.service, and with it etcd.service");
    lab.bash(stop).ok().says("etcd-unit: etcd-03: stopped base.service, and with it etcd.service");
    // An alias is not removed in the place of the unit.
    let folder = "/etc/systemd/system";
    lab.on("etcd-02", &format!("ln -s {folder}/etcd.service {folder}/db.service"));
    lab.on("etcd-02", "systemctl daemon-reload");
    lab.bash("etcd-unit uninstall --only etcd-02 --unit db.service nodes.txt").exits(3).says(
        "etcd-unit: etcd-02: db.service is another name of etcd.service: nothing is removed: pass \
         --unit etcd.service",
    );
}

#[test]
fn without_a_user_the_voters_are_unknown() {
    let Some(version) = release("3.5") else { return };
    let lab = cluster(3, &version, "{}");
    lab.unpack(&version);
    let endpoints: Vec<_> = (0..3).map(|at| format!("https://192.168.1.10{at}:2379")).collect();
    for args in ["user add root:secret", "user grant-role root root", "auth enable"] {
        lab.bash(&lab.etcdctl(&endpoints[..1], args)).ok();
    }
    let pids = lab.on_all(&HOSTS[..3], PID);
    for command in ["restart", "stop --only etcd-02"] {
        let ran = unit(&lab, command).exits(3);
        assert_eq!(
            ran.document().results.last().map(|result| result.code.as_str()),
            Some("quorum-unknown"),
            "{}",
            ran.stderr
        );
        let advice = "authentication is on: set ETCDCTL_USER and ETCDCTL_PASSWORD";
        assert!(ran.stderr.contains(advice), "{}", ran.stderr);
    }
    // Nor is anything put on a node with a list that nobody can compare.
    lab.write("two.txt", &lab.read("nodes.txt").lines().take(2).collect::<Vec<_>>().join("\n"));
    let files = lab.on_all(&HOSTS[..3], "cat /etc/etcd/etcd.conf");
    lab.bash("etcd-fetch -q < two.txt | etcd-cert issue -q | etcd-render -q | etcd-push")
        .exits(3)
        .says(
            "etcd-push: cannot tell who the members are: etcdserver: user name is empty: \
         authentication is on: set ETCDCTL_USER and ETCDCTL_PASSWORD",
        );
    assert_eq!(lab.on_all(&HOSTS[..3], "cat /etc/etcd/etcd.conf"), files);
    let ran = lab.bash("etcd-preflight -q < nodes.txt").exits(1);
    assert!(ran.stderr.contains(": authentication is on: set ETCDCTL_USER"), "{}", ran.stderr);
    lab.bash("etcd-member remove --lose-margin etcd-02 nodes.txt").exits(3).says(
        "etcd-member: etcd-02: not removed: cannot tell who the members are: etcdserver: user name \
         is empty: authentication is on: set ETCDCTL_USER and ETCDCTL_PASSWORD",
    );
    // What is wrong with the question is said at once, and no risk is advised.
    lab.bash(
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=other -days 9 -keyout key -out ca",
    )
    .ok();
    for (with, why) in [
        (
            "ETCDCTL_USER=root:wrong etcd-unit restart",
            "cannot tell who the members are: authentication failed: check ETCDCTL_USER and \
             ETCDCTL_PASSWORD",
        ),
        (
            "etcd-unit restart --cacert ca",
            "etcd-01: TLS: the server's certificate is not signed by the given CA: check --pki, \
             --cacert, --cert and --key",
        ),
    ] {
        let ran = lab.bash(&format!("{with} --timeout 3600 < document.json")).exits(3);
        ran.says(&format!(
            "etcd-unit: etcd-01: etcd.service not restarted: cannot tell whether the cluster would keep quorum: \
             {why}"
        ));
    }
    // Nor does anybody begin who could not end.
    for args in ["user add app:secret", "role add app", "user grant-role app app"] {
        lab.bash(&lab.etcdctl(&endpoints[..1], &format!("--user root:secret {args}"))).ok();
    }
    let ran = lab.bash("ETCDCTL_USER=app:secret etcd-unit restart < document.json").exits(3);
    let why = ": etcd.service not restarted: the user app lacks the role root, which moving \
               leadership needs: set ETCDCTL_USER to one that has it";
    assert!(ran.stderr.lines().any(|line| line.ends_with(why)), "{}", ran.stderr);
    assert_eq!(lab.on_all(&HOSTS[..3], PID), pids);
    let ran = lab.bash("export ETCDCTL_USER=root:secret; etcd-unit restart < document.json").ok();
    let restarted = "restarted etcd.service: as asked";
    assert_eq!(lines(&ran).iter().filter(|line| line.ends_with(restarted)).count(), 3);
    // Nobody can log in without quorum.
    lab.on_all(&HOSTS[1..3], "systemctl stop etcd");
    let save = "ETCDCTL_USER=root:secret etcd-snapshot save --from etcd-01 --to x.db nodes.txt";
    let why = "etcd-snapshot: etcd-01: snapshot: no leader, without which nobody can log in: stop \
               etcd (etcd-unit stop), then pass --offline";
    wait_until("etcd-01 knows no leader", MINUTE, || {
        lab.bash(save).exits(3).stderr.lines().any(|line| line == why)
    });
    lab.on(HOSTS[0], "systemctl stop etcd");
    let offline = "etcd-snapshot save --offline --from etcd-01 --to y.db nodes.txt";
    lab.bash(offline).exits(3).says(
        "etcd-snapshot: etcd-01: the copy of its data: etcdserver: user name is empty: \
         authentication is on: set ETCDCTL_USER and ETCDCTL_PASSWORD",
    );
    lab.bash(&format!("ETCDCTL_USER=root:secret {offline}")).ok();
}
