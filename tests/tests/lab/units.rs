//! Units as they are on a host: whatever lies around etcd, it converges and stays.

use serde_json::{Value, json};
use tests::{Lab, PID, Ran, deploy, guide};

const HOST: &str = "etcd-01";
const HOSTS: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];

fn start(lab: &Lab) -> Ran {
    lab.bash("etcd-unit start --lose-quorum < document.json")
}

/// Promises 14 and 15, with one member: each change needs one restart or none, and
/// none a second time.
#[test]
fn what_lies_around_a_unit_neither_hides_nor_restarts_for_ever() {
    let lab = Lab::with_nodes(1);
    let ran = lab.bash(&deploy(guide())).ok();
    lab.write("document.json", &ran.stdout);
    let as_it_is = "etcd-unit: etcd-01: etcd.service running as configured";
    let dir = "/etc/systemd/system/etcd.service.d";
    let drop_in = |name: &str, line: &str| {
        format!("mkdir -p {dir}; printf '[Service]\\n{line}\\n' > {dir}/{name}.conf")
    };
    for (change, why) in [
        // Not read by systemd yet, and read.
        (drop_in("a", "Environment=ETCD_MAX_TXN_OPS=200"), Some("unit")),
        (
            drop_in("b", "LimitNOFILE=70000") + "; systemctl daemon-reload",
            Some("unit"),
        ),
        (format!("rm {dir}/b.conf; systemctl daemon-reload"), Some("unit")),
        // A file without a newline at its end, as some editors write it.
        ("truncate -s -1 /etc/etcd/etcd.conf".into(), None),
        ("printf '\\nETCD_MAX_REQUEST_BYTES=2000000' >> /etc/etcd/etcd.conf".into(), Some("configuration")),
        // etcd reads it only while it has no data.
        ("sed -i 's/^ETCD_INITIAL_CLUSTER_TOKEN=.*/ETCD_INITIAL_CLUSTER_TOKEN=x/' /etc/etcd/etcd.conf".into(), None),
        // Other times and the same bytes.
        ("touch /etc/etcd/ssl/ca.crt /etc/systemd/system/etcd.service; systemctl daemon-reload".into(), None),
        ("touch -d tomorrow /etc/etcd/ssl/ca.crt".into(), None),
        // Older than the process, and other bytes.
        ("cat /etc/etcd/ssl/ca.crt /etc/etcd/ssl/ca.crt > /tmp/ca; cat /tmp/ca > /etc/etcd/ssl/ca.crt; \
          touch -d yesterday /etc/etcd/ssl/ca.crt".into(), Some("CA certificate")),
        ("systemctl set-environment ETCD_MAX_WALS=6".into(), Some("configuration")),
    ] {
        lab.on(HOST, &change);
        let pid = lab.on(HOST, PID);
        let ran = start(&lab).ok();
        let restarted = lab.on(HOST, PID) != pid;
        match why {
            Some(why) => {
                let line = format!(
                    "etcd-unit: etcd-01: restarted etcd.service: its {why} had changed"
                );
                assert!(ran.stderr.lines().any(|l| l == line), "{change}: {}", ran.stderr);
            }
            None => assert!(ran.stderr.ends_with(&format!("{as_it_is}\n")), "{}", ran.stderr),
        }
        assert_eq!(restarted, why.is_some(), "{change}: {}", ran.stderr);
        assert_eq!(start(&lab).ok().stderr, format!("{as_it_is}\n"), "{change}");
    }

    // What has ended it is told, however much it has said before.
    lab.bash(
        "jq 'del(.results) | .cluster.settings.listenMetricsUrls = \"http://127.0.0.1:22\"' \
         document.json | etcd-render | etcd-push | etcd-unit start --lose-quorum --timeout 10",
    )
    .exits(3)
    .says(
        "etcd-unit: etcd-01: etcd.service did not start: it is activating (auto-restart): \
         discovery failed: listen tcp 127.0.0.1:22: bind: permission denied",
    );
    lab.bash("etcd-push < document.json | etcd-unit start --lose-quorum | etcd-health --wait").ok();

    // So is what systemd runs beside it, and that systemd does not even try.
    lab.on(
        HOST,
        &format!("{}; systemctl daemon-reload", drop_in("post", "ExecStartPost=/bin/false")),
    );
    lab.bash("etcd-unit restart --lose-quorum --timeout 10 < document.json").exits(3).says(
        "etcd-unit: etcd-01: etcd.service did not start: it is activating (auto-restart): \
         ExecStartPost=/bin/false: exited, status 1",
    );
    lab.on(HOST, &format!("rm {dir}/post.conf; systemctl daemon-reload"));
    lab.bash("etcd-unit start --lose-quorum < document.json | etcd-health --wait").ok();
    lab.on(HOST, "systemctl freeze etcd");
    for command in ["stop", "restart"] {
        let ran =
            lab.bash(&format!("etcd-unit {command} --lose-quorum --timeout 10 < document.json"));
        let advice = "Cannot perform operation on frozen unit etcd.service: run systemctl thaw \
                      etcd.service on the node\n";
        let ran = ran.exits(3);
        assert!(ran.stderr.ends_with(advice), "{}", ran.stderr);
    }
    // It stays one that has to be restarted.
    lab.on(HOST, &drop_in("new", "LimitNOFILE=70001"));
    for _ in 0..2 {
        lab.bash("etcd-unit start --lose-quorum --timeout 10 < document.json").exits(3);
    }
    lab.on(HOST, "systemctl thaw etcd");
    lab.bash("etcd-unit start --lose-quorum < document.json | etcd-health --wait").ok();
    // One that hangs while it stops is not blamed for what others do.
    let stop = "ExecStop=/bin/sleep 1000\\nTimeoutStopSec=900";
    lab.on(HOST, &format!("{}; systemctl daemon-reload", drop_in("stop", stop)));
    lab.bash("etcd-unit restart --lose-quorum --timeout 2 < document.json").exits(3).says(
        "etcd-unit: etcd-01: etcd.service is not ready after 2 s: it is deactivating (stop): it has \
         not stopped yet, for which systemd waits as long as TimeoutStopSec= of the unit says: see \
         systemctl status etcd.service on the node",
    );
    lab.on(HOST, &format!("rm {dir}/stop.conf; systemctl daemon-reload; pkill -x sleep"));
    lab.bash("etcd-unit start --lose-quorum < document.json | etcd-health --wait").ok();

    // A process that systemd has started anew is judged by the times of the files.
    lab.on(HOST, "systemctl kill -s KILL etcd");
    lab.bash("etcd-health --wait < document.json").ok();
    let again = format!("{as_it_is} (restarted once by systemd)\n");
    assert_eq!(start(&lab).ok().stderr, again);

    // One that systemd cannot load would not come back after a reboot, though it runs.
    lab.bash("sed 's/ExecStart=/ExecStrat=/' document.json > typo.json").ok();
    let typo = "etcd-unit start --lose-quorum --timeout 5 < typo.json";
    lab.bash(typo).exits(3);
    let restart = typo.replace("start", "restart");
    for command in [typo.to_owned(), typo.replace("start", "start --check"), restart] {
        lab.bash(&command).exits(3).says(
            "etcd-unit: etcd-01: systemd cannot load etcd.service (bad-setting): run `systemctl \
             status etcd.service` on the node, and correct it",
        );
    }
    start(&lab).ok();
    assert_eq!(start(&lab).ok().stderr, format!("{as_it_is}\n"));

    // Data goes only in words, for etcd's own unit, and while nobody has it open.
    lab.bash("etcd-unit uninstall --purge --unit backup.service < document.json").exits(2).says(
        "etcd-unit: --purge deletes the data of etcd, which is not what --unit names: leave one \
         of them out",
    );
    lab.on(HOST, "systemd-run -q --unit reader tail -f /var/lib/etcd/member/snap/db >/dev/null");
    let ran = lab.bash("etcd-unit uninstall --purge --lose-quorum < document.json").exits(3);
    let why = "(tail) has it open: stop it first: nothing is removed";
    assert!(ran.stderr.contains("etcd-unit: etcd-01: /var/lib/etcd: process "), "{}", ran.stderr);
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
    lab.on(HOST, "test -f /var/lib/etcd/member/snap/db; systemctl stop reader");

    // Nor does what is mounted there.
    lab.on(HOST, "mkdir /var/lib/etcd/of-others; mount -t tmpfs tmpfs /var/lib/etcd/of-others");
    for check in ["--check", ""] {
        let purge = format!("etcd-unit uninstall --purge --lose-quorum {check} < document.json");
        lab.bash(&purge).exits(3).says(
            "etcd-unit: etcd-01: /var/lib/etcd: /var/lib/etcd/of-others is mounted in it: unmount \
             that first: nothing is removed",
        );
    }
    let unmount = "umount /var/lib/etcd/of-others; rmdir /var/lib/etcd/of-others";
    lab.on(HOST, &format!("test -f /var/lib/etcd/member/snap/db; {unmount}"));

    // A masked unit is left as it is.
    lab.on(HOST, "systemctl mask etcd");
    start(&lab).exits(3).says(
        "etcd-unit: etcd-01: etcd.service is masked on the node: run systemctl unmask \
         etcd.service there first, with --runtime where the mask is in /run",
    );
    let link = "readlink /etc/systemd/system/etcd.service";
    assert_eq!(lab.on(HOST, link), "/dev/null\n");
    lab.on(HOST, "systemctl unmask etcd");
    start(&lab).ok().says("etcd-unit: etcd-01: installed, enabled and started etcd.service");
}

/// Units of the user's own are just started, each as systemd would.
#[test]
fn any_units_converge() {
    let lab = Lab::with_nodes(1);
    let service = |more: &str, command: &str| format!("[Service]\n{more}ExecStart={command}\n");
    let install = "[Install]\nWantedBy=multi-user.target\n";
    let units = [
        // Jobs and their timers, one that is done once, a template and an instance of it.
        ("job.service", false, service("Type=oneshot\n", "/bin/sh -c 'echo x >> /root/job'")),
        ("job.timer", true, format!("[Timer]\nOnCalendar=2100-01-01\n{install}")),
        ("other.service", false, service("", "/bin/sh -c 'echo x >> /root/job; sleep 1000'")),
        (
            "night.timer",
            true,
            format!("[Timer]\nOnCalendar=2100-01-01\nUnit=other.service\n{install}"),
        ),
        ("once.service", false, service("Type=oneshot\n", "/bin/sh -c 'echo x >> /root/once'")),
        ("nap@.service", false, service("", "/bin/sleep %i")),
        ("nap@1000.service", false, service("", "/bin/sleep 1000")),
        // Without [Install] it cannot be enabled.
        ("static.service", true, service("", "/bin/sleep 1000")),
        ("own.service", true, service("", "/bin/sleep 1000") + install),
    ];
    let mut units: Vec<_> = units
        .iter()
        .map(|(name, enabled, content)| match enabled {
            true => json!({"name": name, "enabled": true, "content": content}),
            false => json!({"name": name, "content": content}),
        })
        .collect();
    // The operator starts it when it is time.
    let by_hand = service("", "/bin/sh -c 'echo x >> /root/job; sleep 1000'") + install;
    units.push(
        json!({"name": "hand.service", "enabled": true, "started": false, "content": by_hand}),
    );
    let with_files = |units: &[Value], files: Value| {
        json!({"apiVersion": "etcd-tools/v1", "nodes": [
            {"name": "web", "address": "192.168.1.100", "units": units, "files": files}]})
        .to_string()
    };
    let document = |units: &[Value]| with_files(units, json!([]));
    lab.write("document.json", &document(&units));
    lab.bash("etcd-unit start < document.json").ok();
    let state = "cat /root/once; ls /root/job 2>/dev/null; systemctl is-active job.timer \
                 night.timer own static nap@1000 | tr '\\n' ' '; systemctl is-enabled hand; \
                 systemctl show own static nap@1000 -p MainPID";
    let before = lab.on(HOST, state);
    let expected = "x\nactive active active active active enabled\nMainPID=";
    assert!(before.starts_with(expected), "{before}");
    let as_it_is = "etcd-unit: web: warning: static.service: enabled has no effect: the unit has no \
                    section [Install]: add one, e.g. with WantedBy=multi-user.target, or leave \
                    enabled out\n\
                    etcd-unit: web: job.service, other.service, once.service, nap@.service, \
                    hand.service installed as configured; job.timer, night.timer, \
                    nap@1000.service, static.service, own.service running as configured\n";
    assert_eq!(lab.bash("etcd-unit start < document.json").ok().stderr, as_it_is);
    lab.bash("etcd-unit restart --unit hand.service < document.json").ok().says(
        "etcd-unit: web: hand.service not restarted: something else starts it, or the operator",
    );
    assert_eq!(lab.on(HOST, state), before);
    // What a socket starts, and runs, is restarted.
    let journald = "systemctl show systemd-journald -p MainPID";
    let pid = lab.on(HOST, journald);
    lab.bash("etcd-unit restart --unit systemd-journald.service < document.json").ok();
    assert_ne!(lab.on(HOST, journald), pid);
    for command in ["start", "start --check", "restart"] {
        lab.bash(&format!("etcd-unit {command} --unit nosuch.service < document.json"))
            .exits(3)
            .says(
                "etcd-unit: web: there is no unit nosuch.service on the node, nor in the document: \
                 put etcd-render before this tool, or give --unit-file",
            );
    }
    lab.bash("etcd-unit status --unit nosuch.service < document.json")
        .exits(1)
        .says("etcd-unit: web: there is no nosuch.service on the node");
    // An empty file masks a unit.
    lab.write("empty.service", "\n");
    lab.bash("etcd-unit start --unit-file empty.service < document.json")
        .exits(65)
        .says("etcd-unit: empty.service: empty, which masks the unit: expected the text of a unit");
    // One of the system is not removed.
    let timer = "[Timer]\\nOnCalendar=2100-01-01\\nUnit=job.service\\n[Install]\\nWantedBy=timers.target\\n";
    let path = "/usr/lib/systemd/system/own.timer";
    lab.on(HOST, &format!("printf '{timer}' > {path}; systemctl enable -q --now own.timer"));
    lab.bash("etcd-unit uninstall --unit own.timer < document.json")
        .ok()
        .says("etcd-unit: web: stopped own.timer, disabled own.timer");
    assert_eq!(lab.on(HOST, "systemctl is-enabled own.timer || true"), "disabled\n");
    lab.on(HOST, &format!("rm {path}; systemctl daemon-reload"));
    // Others may read a unit.
    lab.write("key.service", "[Service]\nExecStart=/bin/true\n# -----BEGIN PRIVATE KEY-----\n");
    let ran = lab.bash("etcd-unit install --unit-file key.service < document.json").exits(65);
    assert!(!ran.stdout.contains("BEGIN"), "{}", ran.stdout);
    ran.says(
        "etcd-unit: key.service: contains a private key, and others may read a unit: keep it in a \
         file of its own, and name that in the unit",
    );
    let ran = lab.bash("etcd-unit status -o table < document.json").ok();
    let ran =
        ran.says("etcd-unit: web: hand.service is inactive (dead): it need not run all the time");
    ran.says("etcd-unit: web: once.service is inactive (dead): it need not run all the time");
    // One that does a job is well if its last run was, whoever started it.
    let seldom = |command: &str| {
        let unit = service("Type=oneshot\n", command);
        let path = "/etc/systemd/system/seldom.service";
        let run = "systemctl daemon-reload; systemctl start seldom 2>/dev/null || true";
        lab.on(HOST, &format!("printf '{}' > {path}; {run}", unit.replace('\n', "\\n")));
        lab.bash("etcd-unit status --unit seldom.service < document.json")
    };
    seldom("/bin/true")
        .ok()
        .says("etcd-unit: web: seldom.service is inactive (dead): it need not run all the time");
    seldom("/bin/false").exits(1).says("etcd-unit: web: seldom.service is failed (failed)");
    lab.on(HOST, "rm /etc/systemd/system/seldom.service; systemctl daemon-reload");
    // What stays active after its job is started again where it was stopped, and a job that has
    // failed since is done again.
    let job = |more: &str| {
        let text = service(more, "/bin/sh -c 'echo x >> /root/jobs; test ! -e /root/broken'");
        lab.write("job.json", &document(&[json!({"name": "x.service", "content": text})]));
        lab.on(HOST, "rm -f /root/jobs");
    };
    let done = |times: usize| assert_eq!(lab.on(HOST, "cat /root/jobs"), "x\n".repeat(times));
    job("Type=oneshot\nRemainAfterExit=yes\n");
    lab.bash("etcd-unit start < job.json && etcd-unit start < job.json").ok();
    done(1);
    lab.bash("etcd-unit stop < job.json && etcd-unit start < job.json").ok();
    done(2);
    job("Type=oneshot\n");
    lab.bash("etcd-unit start < job.json && etcd-unit start < job.json").ok();
    done(1);
    lab.on(HOST, "touch /root/broken; ! systemctl start x");
    lab.bash("etcd-unit start < job.json").exits(3);
    lab.on(HOST, "rm /root/broken");
    lab.bash("etcd-unit start < job.json && etcd-unit start < job.json").ok();
    done(4);
    lab.bash("etcd-unit uninstall < job.json").ok();
    // One that is at work goes on with what it was started with.
    lab.on(HOST, "systemctl start hand");
    let pid = lab.on(HOST, "systemctl show hand -p MainPID");
    let mut changed = units.clone();
    changed[9]["content"] = json!(by_hand.replace("1000", "2000"));
    lab.write("changed.json", &document(&changed));
    lab.bash("etcd-unit start < changed.json").ok().says("etcd-unit: web: installed hand.service");
    assert_eq!(lab.on(HOST, "systemctl show hand -p MainPID"), pid);
    let ran = lab.bash("etcd-unit start < changed.json").ok();
    let as_before = "; hand.service running as before the last change\n";
    assert!(ran.stderr.ends_with(as_before), "{}", ran.stderr);
    lab.bash("etcd-unit start < document.json").ok();
    // One that cannot be enabled leaves nothing behind for which another would be restarted.
    let alias = service("", "/bin/sleep 1000") + install + "Alias=own.service\n";
    let mut more = units.clone();
    more.push(json!({"name": "twin.service", "enabled": true, "content": alias}));
    lab.write("alias.json", &document(&more));
    let pids = lab.on(HOST, "systemctl show own static -p MainPID");
    let ran = lab.bash("etcd-unit start < alias.json").exits(3);
    assert!(ran.stderr.contains("web: systemctl enable twin.service: "), "{}", ran.stderr);
    lab.bash("etcd-unit start < document.json").ok();
    assert_eq!(lab.on(HOST, "systemctl show own static -p MainPID"), pids);
    lab.on(HOST, "rm /etc/systemd/system/twin.service; systemctl daemon-reload");

    // A drop-in that is pushed is a reason to restart a unit, or to do its job again.
    let drop_in = |unit: &str, line: &str| {
        json!({"path": format!("/etc/systemd/system/{unit}.d/more.conf"),
               "content": format!("[Service]\n{line}\n")})
    };
    let files = json!([
        drop_in("own.service", "Environment=A=1"),
        drop_in("once.service", "Environment=A=1"),
        drop_in("hand.service", "Environment=A=1"),
    ]);
    lab.write("files.json", &with_files(&units, files));
    let pids = "systemctl show own static hand nap@1000 -p MainPID; cat /root/once";
    let as_before = lab.on(HOST, pids);
    let ran = lab.bash("etcd-push --check < files.json | etcd-unit start --check").exits(1);
    assert!(
        ran.stderr.ends_with(
            "etcd-unit: web: would start once.service\netcd-unit: web: would restart own.service\n"
        ),
        "{}",
        ran.stderr
    );
    assert_eq!(lab.on(HOST, pids), as_before);
    let ran = lab.bash("etcd-push < files.json | etcd-unit start").ok();
    assert!(ran.stderr.contains(" started once.service"), "{}", ran.stderr);
    assert!(ran.stderr.contains(" restarted own.service"), "{}", ran.stderr);
    let environment = "tr '\\0' '\\n' < /proc/$(systemctl show own -p MainPID --value)/environ | grep ^A=; \
                       cat /root/once; wc -l < /root/job";
    assert_eq!(lab.on(HOST, environment), "A=1\nx\nx\n1\n");
    assert_eq!(lab.bash("etcd-unit start < files.json").ok().stderr.lines().count(), 2);

    // One that ends at once, or a moment after, has not been started.
    let broken = |more: &str, command: &str| {
        let x = json!({"name": "x.service", "content": service(more, command)});
        lab.write("broken.json", &document(&[x]));
        lab.bash("etcd-unit start < broken.json").exits(3)
    };
    broken("", "/bin/false").says(
        "etcd-unit: web: x.service was started and ended at once (code=exited, \
         status=1/FAILURE, NRestarts=0): it is failed (failed)",
    );
    broken("", "/bin/sh -c 'sleep 0.7; echo no such queue >&2; exit 7'").says(
        "etcd-unit: web: x.service was started and ended at once (code=exited, \
         status=7/NOTRUNNING, NRestarts=0): it is failed (failed): no such queue",
    );
    broken("Restart=always\nRestartSec=1h\n", "/bin/sh -c 'sleep 0.7; kill -9 $$$$'").says(
        "etcd-unit: web: x.service was started and ended at once (code=killed, \
         status=9/KILL, NRestarts=0): it is activating (auto-restart)",
    );
    let again = "/bin/sh -c 'echo no such queue; sleep 0.7; test -e /root/x || { touch /root/x; exit 7; }; sleep 1000'";
    broken("Restart=always\n", again).says(
        "etcd-unit: web: x.service was started and ended at once (code=exited, \
         status=7/NOTRUNNING, NRestarts=1): it is active (running): no such queue",
    );
    for (command, is) in
        [("start", "running as configured"), ("status -o json", "is active (running)")]
    {
        lab.bash(&format!("etcd-unit {command} < broken.json"))
            .ok()
            .says(&format!("etcd-unit: web: x.service {is} (restarted once by systemd)"));
    }
    let unmet = "[Unit]\nConditionPathExists=/nosuch\n[Service]\nExecStart=/bin/sleep 1000\n";
    lab.write("unmet.json", &document(&[json!({"name": "y.service", "content": unmet})]));
    let ran = lab.bash("etcd-unit start < unmet.json").exits(3);
    let begin = "etcd-unit: web: y.service was not started: it is inactive (dead): ";
    assert!(ran.stderr.starts_with(begin), "{}", ran.stderr);
    lab.bash("etcd-unit uninstall < unmet.json").ok();
    broken("", "/bin/true").says(
        "etcd-unit: web: x.service was started and ended at once (status=0, NRestarts=0: one \
         that does a job and ends has Type=oneshot): it is inactive (dead)",
    );
    let x = json!({"name": "x.service", "content": service("", "/nowhere")});
    lab.write("broken.json", &document(&[x]));
    let ran = lab.bash("etcd-unit start < broken.json").exits(3);
    assert!(ran.stderr.contains("/nowhere"), "{}", ran.stderr);
    let failed = "systemctl list-units --all --plain --no-legend x.service | cut -d ' ' -f 1,3";
    assert!(lab.on("etcd-01", failed).starts_with("x.service"));
    lab.bash("etcd-unit uninstall < broken.json").ok();
    assert_eq!(lab.on("etcd-01", failed), "");

    // Nor does one run as configured whose environment file is another now.
    let env = service("EnvironmentFile=/etc/own.env\n", "/bin/sleep 1000");
    let x = json!({"name": "x.service", "content": env});
    lab.write("x.json", &document(std::slice::from_ref(&x)));
    lab.on(HOST, "echo A=1 > /etc/own.env");
    lab.bash("etcd-unit start < x.json").ok();
    lab.on(HOST, "echo A=2 > /etc/own.env");
    lab.bash("etcd-unit status -o json < x.json").ok().says(
        "etcd-unit: web: warning: x.service runs with an older configuration than what is on the \
         disk",
    );
    lab.bash("etcd-unit start < x.json").ok().says("etcd-unit: web: restarted x.service");
    lab.bash("etcd-unit start < x.json")
        .ok()
        .says("etcd-unit: web: x.service running as configured");
    // What would be pushed there is foreseen, but for comments.
    for (content, code, said) in [
        ("A=3\n", 1, "would restart x.service"),
        ("# mine\nA=2\n", 1, "x.service running as configured"),
    ] {
        let file = json!([{"path": "/etc/own.env", "content": content}]);
        lab.write("env.json", &with_files(std::slice::from_ref(&x), file));
        lab.bash("etcd-push --check < env.json | etcd-unit start --check")
            .exits(code)
            .says(&format!("etcd-unit: web: {said}"));
    }
    lab.bash("etcd-unit uninstall < x.json").ok();
    // So is a binary.
    lab.on(HOST, "cp /bin/sleep /usr/local/bin/nap");
    let x = json!({"name": "x.service", "content": service("", "/usr/local/bin/nap 1000")});
    let bash = json!([{"path": "/usr/local/bin/nap", "mode": "0755", "local": "/bin/bash"}]);
    lab.write("x.json", &document(std::slice::from_ref(&x)));
    lab.write("nap.json", &with_files(&[x], bash));
    lab.bash("etcd-unit start < x.json").ok();
    lab.bash("etcd-push --check < nap.json | etcd-unit start --check")
        .exits(1)
        .says("etcd-unit: web: would restart x.service");
    lab.bash("etcd-unit uninstall < x.json").ok();

    // And a script.
    lab.on(HOST, "printf '#!/bin/sh\\nexec sleep 1000\\n' > /usr/local/bin/nap.sh; chmod 755 /usr/local/bin/nap.sh");
    let x = |section: &str| {
        let text = service("", "/usr/local/bin/nap.sh");
        let text = text + &install.replace("multi-user.target", section);
        json!({"name": "x.service", "content": text, "enabled": true})
    };
    let nap = json!([{"path": "/usr/local/bin/nap.sh", "mode": "0755", "content": "#!/bin/sh\nexec sleep 2000\n"}]);
    lab.write("x.json", &with_files(&[x("multi-user.target")], nap));
    lab.bash("etcd-unit start < x.json").ok();
    lab.bash("etcd-push --check < x.json | etcd-unit start --check")
        .exits(1)
        .says("etcd-unit: web: would restart x.service");
    lab.bash("etcd-push < x.json | etcd-unit start")
        .ok()
        .says("etcd-unit: web: restarted x.service");
    // Where it is wanted follows its text.
    lab.write("y.json", &document(&[x("timers.target")]));
    lab.bash("etcd-unit start < y.json")
        .ok()
        .says("etcd-unit: web: installed, enabled anew and restarted x.service");
    let links = "cd /etc/systemd/system; ls *.wants/x.service";
    assert_eq!(lab.on(HOST, links), "timers.target.wants/x.service\n");
    // One that cannot be started as it is written now goes on as it is.
    let pid = lab.on(HOST, "systemctl show x -p MainPID");
    let nothing = |content: &str| document(&[json!({"name": "x.service", "content": content})]);
    lab.write("broken.json", &nothing("[Service]\nExecStart=nowhere/at/all\n"));
    lab.bash("etcd-unit start < broken.json").exits(3).says(
        "etcd-unit: web: x.service was not restarted, and runs as before, but would not start again: Failed to restart \
         x.service: Unit x.service has a bad unit file setting.",
    );
    assert_eq!(lab.on(HOST, "systemctl show x -p MainPID"), pid);
    lab.write("empty.json", &nothing("\n"));
    lab.bash("etcd-unit start < empty.json")
        .exits(65)
        .says("etcd-unit: stdin: nodes[0].units[0].content: empty: expected the text of a unit");
    lab.bash("etcd-unit uninstall < x.json").ok();

    // To systemd a comment is nothing, and so no reason for a restart.
    let mut commented = units.clone();
    commented[8]["content"] = json!(service("; mine\n", "/bin/sleep 1000") + "# mine\n" + install);
    lab.write("commented.json", &document(&commented));
    lab.on(HOST, "systemctl stop hand");
    let pid = "systemctl show own -p MainPID";
    let before = lab.on(HOST, pid);
    let start = "etcd-unit start < commented.json";
    lab.bash(start).ok().says("etcd-unit: web: installed own.service");
    assert_eq!(lab.bash(start).ok().stderr, as_it_is);
    assert_eq!(lab.on(HOST, pid), before);

    // What another unit holds up is not stopped.
    let up = "[Unit]\nUpholds=own.service\n[Service]\nExecStart=/bin/sleep 1000\n";
    lab.write("up.service", up);
    lab.bash("etcd-unit start --unit-file up.service < document.json").ok();
    lab.bash("etcd-unit stop --unit own.service < document.json").exits(3).says(
        "etcd-unit: web: own.service did not stop: it is active: systemd has started it again, for \
         a unit in its UpheldBy= or TriggeredBy=: stop that one first, or have this one uninstalled",
    );
    lab.bash("etcd-unit uninstall --unit up.service < document.json").ok();
    // Until it is disabled, where it says so itself.
    let upheld = "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nUpheldBy=multi-user.target\n";
    lab.write("upheld.service", upheld);
    lab.bash("etcd-unit start --unit-file upheld.service < document.json").ok();
    lab.bash("etcd-unit uninstall --unit upheld.service < document.json")
        .ok()
        .says("etcd-unit: web: stopped upheld.service, removed upheld.service");

    // What systemd stops with a unit, and does not start again, runs as well in the end; of two
    // that conflict one runs, and stays.
    let pair = |sleep: &str, relation: &str| {
        let own = format!("[Unit]\n{relation}=two.service\n{}", service("", sleep));
        let one = json!({"name": "one.service", "content": own});
        let two = json!({"name": "two.service", "content": service("", "/bin/sleep 1000")});
        lab.write("pair.json", &document(&[one, two]));
        lab.bash("etcd-unit start < pair.json")
    };
    pair("/bin/sleep 1000", "PropagatesStopTo").ok();
    pair("/bin/sleep 1001", "PropagatesStopTo")
        .ok()
        .says("etcd-unit: web: installed and restarted one.service");
    assert_eq!(lab.on(HOST, "systemctl is-active one two | uniq"), "active\n");
    lab.on(HOST, "systemctl stop one two");
    for _ in 0..2 {
        pair("/bin/sleep 1001", "Conflicts").exits(3).says(
            "etcd-unit: web: two.service not started: it conflicts with one.service, which is to \
             run and which systemd would stop: take that out of Conflicts=",
        );
        assert_eq!(lab.on(HOST, "systemctl is-active one two || :"), "active\ninactive\n");
    }
    lab.bash("etcd-unit uninstall < pair.json").ok();

    // What is stopped is stopped, an instance without a file of its own, too.
    lab.on(HOST, "systemctl start nap@7");
    lab.bash("etcd-unit stop --unit nap@7.service < document.json")
        .ok()
        .says("etcd-unit: web: stopped nap@7.service");
    let ran = lab.bash("etcd-unit stop < document.json").ok();
    let stopped = "stopped nap@1000.service, stopped static.service, stopped own.service";
    assert!(ran.stderr.contains(stopped), "{}", ran.stderr);
    assert_eq!(lab.on(HOST, "systemctl is-active own static nap@1000 | uniq"), "inactive\n");
    for name in ["x", "../x.service", "-x.service", "x y.service", ".service"] {
        let ran = lab.bash(&format!("etcd-unit status --unit='{name}' < document.json")).exits(2);
        assert!(ran.stderr.contains("expected NAME.service or NAME.timer"), "{}", ran.stderr);
    }
}

/// What is as the members run with it restarts none of them, whatever was in between; and what
/// would hurt a member at its next start is refused before it is put there.
#[test]
fn what_was_put_back_restarts_nobody_and_what_would_hurt_is_not_put_there() {
    let lab = Lab::with_nodes(3);
    let ran = lab.bash(&deploy(guide())).ok();
    lab.write("document.json", &ran.stdout);
    let pids = || lab.on_all(&HOSTS, PID);
    let before = pids();
    let deploy = deploy(guide());
    let other = "mkdir templates; etcd-render --print-templates templates; \
                 echo '# other' >> templates/etcd.service.hbs; \
                 sed -i 's/^LimitNOFILE=.*/LimitNOFILE=65000/' templates/etcd.service.hbs";
    lab.bash(other).ok();
    lab.bash("etcd-render --templates templates < document.json | etcd-unit install > /dev/null")
        .ok();
    lab.bash(&deploy).ok().says("etcd-unit: etcd-02: installed etcd.service");
    let drop_in = "/etc/systemd/system/etcd.service.d";
    lab.on(
        HOST,
        &format!(
            "mkdir -p {drop_in}; printf '[Service]\nNice=1\n' > {drop_in}/nice.conf; \
             systemctl daemon-reload; rm {drop_in}/nice.conf"
        ),
    );
    lab.bash("etcd-unit start < document.json")
        .ok()
        .says("etcd-unit: etcd-01: reloaded etcd.service");
    lab.on(
        HOST,
        "cp /usr/local/bin/etcd /opt/; rm /usr/local/bin/etcd; mv /opt/etcd /usr/local/bin/",
    );
    let as_it_is = "etcd-unit: etcd-01: etcd.service running as configured";
    lab.bash("jq 'del(.release, .nodes[].files)' document.json | etcd-unit start")
        .ok()
        .says(as_it_is);
    lab.on(HOST, "ln -sf $(readlink /proc/$(systemctl show etcd -p MainPID --value)/exe) /usr/local/bin/etcd");
    assert_eq!(pids(), before);

    // Of links that are gone systemd knows nothing yet.
    lab.on(HOST, "rm /etc/systemd/system/multi-user.target.wants/etcd.service");
    lab.bash("etcd-unit start --check < document.json")
        .exits(1)
        .says("etcd-unit: etcd-01: would enable etcd.service");
    lab.bash(&deploy).ok().says("etcd-unit: etcd-01: enabled etcd.service");

    let wants = "/etc/systemd/system/multi-user.target.wants/etcd.service";
    let release = lab.on(HOST, "dirname $(readlink -f /usr/local/bin/etcd)");
    let release = format!("{}/etcdctl", release.trim());
    let needed = "etcd needs it: to take etcd off the node: `etcd-unit uninstall`";
    let file = |path: &str, rest: &str| format!("files: [{{path: \"{path}\", {rest}}}]");
    let drop_in = "/etc/systemd/system/etcd.service.d/data.conf";
    for (tool, edit, why) in [
        ("etcd-push", file(wants, "absent: true"), format!("{wants}: {needed}")),
        ("etcd-push", file(&release, "absent: true"), format!("{release}: {needed}")),
        (
            "etcd-push",
            file(
                "/etc/etcd/ssl/server.crt",
                "mode: \"0644\", local: \"pki/apiserver-etcd-client.crt\"",
            ),
            "/etc/etcd/ssl/server.crt: its other half, /etc/etcd/ssl/server.key, is not in the \
             document: put both there: `etcd-cert issue | etcd-push`"
                .into(),
        ),
        (
            "etcd-push",
            file(
                drop_in,
                "mode: \"0644\", content: \"[Service]\nEnvironmentFile=/opt/e\n\"}, \
                 {path: \"/opt/e\", mode: \"0644\", content: \"ETCD_DATA_DIR=/srv\n\"",
            ),
            "/opt/e sets ETCD_DATA_DIR to /srv, and the member runs with /var/lib/etcd: leave that \
             out: ETCD_DATA_DIR is dataDir: set that instead"
                .into(),
        ),
        (
            "etcd-unit start",
            "units: [{name: \"etcd.service\", enabled: true, content: \"[Service]\nUser=etcd\n\
             EnvironmentFile=/etc/etcd/etcd.conf\n\
             ExecStart=/usr/bin/env ETCD_FORCE_NEW_CLUSTER=true /usr/local/bin/etcd\n\"}]"
                .into(),
            "etcd.service of the document starts /usr/bin/env, and what that has etcd do with the \
             data that is there cannot be told: have its ExecStart= start etcd itself"
                .into(),
        ),
    ] {
        let edit = edit.replace('\n', "\\n");
        let name = tool.split(' ').next().expect("a tool");
        lab.bash(&format!(
            "jq '{{apiVersion, nodes: [.nodes[] | {{name, address, {edit}}}]}}' document.json | {tool}"
        ))
        .exits(3)
        .says(&format!("{name}: etcd-01: {why}"));
    }
    lab.bash(
        "jq 'del(.results) | .cluster.settings.env = {ETCD_PEER_CERT_ALLOWED_CN: \"etcd-peer\"}' \
         document.json | etcd-render | etcd-push",
    )
    .exits(3)
    .says(
        "etcd-push: etcd-02: /etc/etcd/etcd.conf sets ETCD_PEER_CERT_ALLOWED_CN to etcd-peer, and it \
         would refuse etcd-01, whose certificate has the name etcd-01: leave it out",
    );
    let rendered = "its configuration is rendered for etcd 3.6, and v3.5.16 runs";
    let ran =
        lab.bash("etcd-cert issue < nodes.txt | etcd-render --etcd-version v3.6.16 | etcd-push");
    let step = "v3.5.16 → v3.6.16: every member must run v3.5.32 or later first";
    assert!(
        ran.code != 0 && (ran.stderr.contains(step) || ran.stderr.contains(rendered)),
        "{}",
        ran.stderr
    );
    assert_eq!(pids(), before);

    // A member is not taken down where systemd would not start it again.
    let conditions = |text: &str| {
        let folder = "/etc/systemd/system/etcd.service.d";
        format!(
            "jq 'del(.results) | .nodes[].files += [{{path: \"{folder}/when.conf\", mode: \"0644\", \
             content: \"[Unit]\\n{text}\\n\"}}]' document.json > when.json"
        )
    };
    let unmet = |ran: &Ran, what: &str| {
        let why = format!(
            ": etcd.service left as it is: {what} is not met, and systemd would not start it again: \
             take that out, or see to it on the node"
        );
        // The leader is the last.
        assert!(ran.stderr.lines().any(|line| line.ends_with(&why)), "{}", ran.stderr);
    };
    let path = "ConditionPathExists=/opt/ready";
    lab.bash(&conditions(path)).ok();
    let start = "etcd-push < when.json | etcd-unit start";
    unmet(&lab.bash("etcd-push --check < when.json | etcd-unit start --check").exits(3), path);
    for _ in 0..2 {
        unmet(&lab.bash(start).exits(3), path);
    }
    let assert = "AssertPathExists=!/etc";
    lab.bash(&conditions(&format!("{path}\\nConditionHost=\\n{assert}"))).ok();
    unmet(&lab.bash(start).exits(3), assert);
    unmet(&lab.bash("etcd-unit restart < document.json").exits(3), assert);
    let unit = "(.nodes[].units[] | select(.name == \"etcd.service\").content) |= \
                sub(\"Description=\"; \"ConditionPathExists=/opt/unit\\nDescription=\")";
    lab.bash(&format!("jq '{unit}' document.json > unit.json")).ok();
    unmet(&lab.bash("etcd-unit start < unit.json").exits(3), "ConditionPathExists=/opt/unit");
    let written = lab.on_all(&HOSTS, "grep -c /opt/unit /etc/systemd/system/etcd.service || :");
    assert!(written.iter().all(|count| count.trim() == "0"), "{written:?}");
    assert_eq!(pids(), before);
    lab.bash(&conditions("ConditionPathExists=|/opt/ready\\nConditionPathExists=|/etc")).ok();
    lab.bash(start).ok().says("etcd-unit: etcd-01: restarted etcd.service: its unit had changed");
    lab.on_all(&HOSTS, "rm /etc/systemd/system/etcd.service.d/when.conf");
    lab.bash("etcd-unit start < document.json").ok();

    // A binary at a place of one's own is that of a release, too.
    lab.bash(
        "for version in v3.5.16 v3.6.16; do
             archive=$(etcd-fetch $version < nodes.txt | jq -r '.release.archives[0].local')
             tar xzf $archive --wildcards '*/etcd' -O > etcd-$version
         done
         jq 'del(.release, .results) | .nodes[].units[0].content |=
                 sub(\"ExecStart=.*\"; \"ExecStart=/opt/own/etcd\")' document.json > own.json
         etcd-push --file etcd-v3.5.16:/opt/own/etcd:0755 < own.json | etcd-unit start | etcd-health --wait",
    )
    .ok();
    let before = pids();
    let other = "etcd-push --file etcd-v3.6.16:/opt/own/etcd:0755 nodes.txt";
    lab.bash(other).exits(3).says(
        "etcd-push: etcd-02: /opt/own/etcd: it is etcd v3.6.16, and v3.5.16 runs: for another \
         minor version: `scripts/upgrade NODES v3.6.16`",
    );
    let version = lab.on_all(&HOSTS, "/opt/own/etcd --version | head -n 1; ls -A /opt/own");
    assert!(version.iter().all(|said| said == "etcd Version: 3.5.16\netcd\n"), "{version:?}");
    lab.bash("echo '# more' | cat etcd-v3.5.16 - > etcd-more").ok();
    lab.bash("etcd-push --file etcd-more:/opt/own/etcd:0755 nodes.txt").ok();
    lab.bash(other).exits(3);
    lab.bash("etcd-push --file etcd-v3.5.16:/opt/own/etcd:0755 nodes.txt").ok();
    assert_eq!(pids(), before);
    lab.bash("jq 'del(.results)' document.json | etcd-push | etcd-unit start | etcd-health --wait")
        .ok();

    // What would be started counts with --check.
    lab.bash("etcd-unit stop --only etcd-03 < document.json").ok();
    let changed = "jq '.cluster.settings.logLevel = \"warn\" | del(.results)' document.json \
                   | etcd-render | etcd-push | etcd-unit start";
    let ran = lab.bash(&format!("{changed} --check")).exits(1);
    for (host, what) in [("etcd-01", "restart"), ("etcd-02", "restart"), ("etcd-03", "start")] {
        let line = format!("etcd-unit: {host}: would {what} etcd.service");
        assert!(ran.stderr.lines().any(|said| said.starts_with(&line)), "{}", ran.stderr);
    }
    lab.bash(changed).ok().says("etcd-unit: etcd-03: started etcd.service");
}

/// Promises 1 and 6: a unit of one's own takes no folder of etcd's, and no second member down.
#[test]
fn own_units_take_neither_etcds_folders_nor_a_second_member() {
    let lab = Lab::with_nodes(3);
    lab.write("document.json", &lab.bash(&deploy(guide())).ok().stdout);
    let pids = || lab.on_all(&HOSTS, PID);
    let owners = || lab.on_all(&HOSTS, "stat -c '%U %a %N' /var/lib/etcd /var/lib/etcd/member/*");
    let before = (pids(), owners());
    let unit = |name: &str, text: &str| lab.write(name, &format!("[Service]\n{text}\n"));
    let healed = || {
        lab.bash("etcd-unit start document.json > /dev/null; etcd-health --wait < nodes.txt").ok();
    };
    for (text, folder) in [
        (
            "DynamicUser=yes\nStateDirectory=etcd",
            "StateDirectory= has systemd give it /var/lib/etcd",
        ),
        (
            "User=nobody\nStateDirectory=x etcd/member",
            "StateDirectory= has systemd give it /var/lib/etcd/member",
        ),
        (
            "User=nobody\nConfigurationDirectory=%p",
            "ConfigurationDirectory= has systemd give it /etc/etcd",
        ),
    ] {
        unit("etcd@.service", "ExecStart=/bin/sleep 1000");
        let name = if text.contains("%p") { "etcd@a.service" } else { "agent.service" };
        unit(name, &format!("{text}\nExecStart=/bin/sleep 1000"));
        for command in ["start --check", "start", "install"] {
            let ran =
                lab.bash(&format!("etcd-unit {command} --unit-file {name} nodes.txt")).exits(3);
            let why = format!(
                "etcd-unit: etcd-01: {name} left as it is: {folder} with all that is there"
            );
            assert!(ran.stderr.lines().any(|line| line.starts_with(&why)), "{}", ran.stderr);
        }
        // Nor by a restart of one that lies there.
        let text = lab.read(name);
        lab.on_all(
            &HOSTS,
            &format!("printf '{text}' > /etc/systemd/system/{name}; systemctl daemon-reload"),
        );
        lab.bash(&format!("etcd-unit restart --unit {name} nodes.txt")).exits(3);
        lab.on_all(&HOSTS, &format!("rm /etc/systemd/system/{name}; systemctl daemon-reload"));
    }
    assert_eq!((pids(), owners()), before);

    // What systemd would end in time is not rolled out.
    let deadly = "mkdir -p templates; etcd-render --print-templates templates; \
                  sed -i 's/^Type=notify/&\\nWatchdogSec=20/' templates/etcd.service.hbs; \
                  etcd-render --templates templates < document.json";
    let why = "/etc/systemd/system/etcd.service sets WatchdogSec=20, after which systemd ends an \
               etcd that runs well: leave it out";
    for stage in ["etcd-push", "etcd-unit start"] {
        let name = stage.split(' ').next().expect("a tool");
        lab.bash(&format!("({deadly}) | {stage}"))
            .exits(3)
            .says(&format!("{name}: etcd-01: {why}"));
    }

    let drop_in = |path: &str, text: &str| {
        let edit = format!(
            "jq '.nodes[] |= {{name, address, files: [{{path: \"/etc/systemd/system/{path}\", mode: \
             \"0644\", content: \"{text}\"}}]}}' document.json"
        );
        lab.bash(&format!("{edit} | etcd-push"))
    };
    drop_in("etcd.service.d/x.conf", "\u{feff}[Service]\\nRuntimeMaxSec=15\\n").exits(3).says(
        "etcd-push: etcd-01: /etc/systemd/system/etcd.service.d/x.conf sets RuntimeMaxSec=15, after \
         which systemd ends an etcd that runs well: leave it out",
    );
    // By another name of it, too, and with whatever unit systemd would read it.
    lab.on_all(&HOSTS, "ln -s etcd.service /etc/systemd/system/etcd-main.service");
    drop_in("etcd-main.service.d/x.conf", "[Service]\\nRuntimeMaxSec=15\\n").ok();
    unit("agent.service", "ExecStart=/bin/sleep 1000");
    lab.bash("etcd-unit start --unit-file agent.service nodes.txt").exits(3).says(
        "etcd-unit: etcd-01: etcd.service left as it is: \
         /etc/systemd/system/etcd-main.service.d/x.conf sets RuntimeMaxSec=15, after which systemd \
         ends an etcd that runs well: nothing is loaded: take that out",
    );
    lab.on_all(&HOSTS, "rm -r /etc/systemd/system/etcd-main.service*");
    lab.bash("etcd-unit start --unit-file agent.service nodes.txt").ok();
    lab.bash("etcd-unit uninstall --unit agent.service nodes.txt").ok();
    // A folder of etcd's has another path where it is mounted once more.
    lab.on_all(&HOSTS, "mkdir /var/lib/db; mount --bind /var/lib/etcd/member /var/lib/db");
    unit("agent.service", "User=nobody\nStateDirectory=db\nExecStart=/bin/sleep 1000");
    lab.bash("etcd-unit start --unit-file agent.service nodes.txt").exits(3).says(
        "etcd-unit: etcd-01: agent.service left as it is: systemd would give it /var/lib/db with all \
         that is there, which is where etcd has /var/lib/etcd/member: name another folder",
    );
    lab.on_all(&HOSTS, "umount /var/lib/db; rm -f /etc/systemd/system/agent.service");
    assert_eq!((pids(), owners()), before);

    // Those that are started at boot may be in the way then.
    unit("clash.service", "Type=oneshot\nExecStart=/bin/true\n[Unit]\nConflicts=etcd.service");
    let clash = |name: &str| {
        format!(
            "jq --rawfile unit clash.service '.nodes[] |= {{name, address, units: [{{name: \"{name}\", \
             content: $unit, started: false}}, {{name: \"clash.timer\", enabled: true, content: \
             \"[Timer]\\nOnBootSec=1\\nUnit={name}\\n[Install]\\nWantedBy=timers.target\\n\"}}]}}' \
             document.json"
        )
    };
    for (command, check) in [("install", "--check"), ("install", ""), ("start", "")] {
        let ran = lab.bash(&format!("{} | etcd-unit {command} {check}", clash("clash.service")));
        ran.exits(3).says(
            "etcd-unit: etcd-01: clash.timer not started: it starts clash.service, which conflicts \
             with etcd.service, which is to run and which systemd would stop: take that out of \
             Conflicts=",
        );
    }
    let enabled = "systemctl is-enabled clash.timer || true";
    assert!(lab.on_all(&HOSTS, enabled).iter().all(|is| !is.contains("enabled")));
    // Where only the host knows of it, too.
    lab.on_all(&HOSTS, "printf '[Unit]\nWants=there.service\n[Service]\nType=oneshot\nExecStart=/bin/true\n' \
                > /etc/systemd/system/by.service; printf '[Unit]\nConflicts=etcd.service\n[Service]\n\
                ExecStart=/bin/sleep 9\n' > /etc/systemd/system/there.service; systemctl daemon-reload");
    let by = "jq '.nodes[] |= {name, address, units: [{name: \"clash.timer\", enabled: true, content: \
              \"[Timer]\\nOnBootSec=1\\nUnit=by.service\\n[Install]\\nWantedBy=timers.target\\n\"}]}' \
              document.json | etcd-unit install";
    let ran = lab.bash(by).exits(3);
    assert!(ran.stderr.contains("it starts there.service, which conflicts with"), "{}", ran.stderr);
    assert!(lab.on_all(&HOSTS, enabled).iter().all(|is| !is.contains("enabled")));
    assert_eq!(pids(), before.0);

    // A job that is done may have begun something that is not.
    let stop =
        "ExecStart=/usr/bin/systemd-run -q --no-block /bin/sh -c \"sleep 1; systemctl stop etcd\"";
    for more in ["Type=oneshot", "Type=oneshot\nRemainAfterExit=yes"] {
        unit("rogue.service", &format!("{more}\n{stop}"));
        let before = pids();
        let ran = lab.bash("etcd-unit start --unit-file rogue.service nodes.txt").exits(3);
        assert!(ran.stderr.contains("etcd.service went down with what was done"), "{}", ran.stderr);
        healed();
        let same = pids().iter().zip(&before).filter(|(now, then)| now == then).count();
        assert_eq!(same, 2, "{}", ran.stderr);
        lab.bash("etcd-unit uninstall --unit rogue.service nodes.txt").ok();
    }
}

/// Promises 1 and 4: whoever else runs an etcd there, or calls something so.
#[test]
fn another_etcd_beside_the_member_is_neither_judged_by_it_nor_in_its_way() {
    let lab = Lab::with_nodes(3);
    lab.bash(&format!(
        "etcd-fetch -q {} < nodes.txt | jq '.cluster.settings = {{clientPort: 12379, peerPort: 12380}}' \
         | etcd-cert issue -q | etcd-render -q | etcd-push -q | etcd-unit start -q \
         | etcd-health -q --wait -o json > own.json",
        guide()
    ))
    .ok();
    lab.on_all(
        &HOSTS,
        "mkdir /opt/other; cp -L /usr/local/bin/etcd /opt/other/
         printf '{name: other, data-dir: /opt/other/data, \
         listen-client-urls: \"http://127.0.0.1:22379\", \
         advertise-client-urls: \"http://127.0.0.1:22379\", \
         listen-peer-urls: \"http://127.0.0.1:22380\"}' > /opt/other/conf
         printf '[Service]\nType=notify\nExecStart=/opt/other/etcd --config-file /opt/other/conf\n' \
         > /etc/systemd/system/other.service
         systemctl start other
         cp /bin/sleep /opt/etcd; systemd-run -q --unit nap /opt/etcd 100000",
    );
    let pids = || lab.on_all(&HOSTS, "systemctl show -p MainPID etcd other");
    let before = pids();
    for command in ["stop", "stop --only etcd-01 --check", "restart", "uninstall"] {
        lab.bash(&format!("etcd-unit {command} --unit other.service own.json")).exits(3).says(
            "etcd-unit: etcd-01: other.service left as it is: it runs another etcd beside that of \
             etcd.service, of whose cluster nothing is known here: see to its members one by one, \
             with systemctl on the nodes, or pass --lose-quorum to proceed",
        );
    }
    assert_eq!(pids(), before);
    let as_it_is = "etcd-unit: etcd-01: etcd.service running as configured";
    lab.bash("jq 'del(.results)' own.json | etcd-push | etcd-unit start").ok().says(as_it_is);
    // With a list that does not say at which port it serves, too.
    lab.write("agent.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    lab.bash("etcd-unit start --unit-file agent.service nodes.txt").ok();
    lab.bash("etcd-unit restart --unit agent.service nodes.txt").ok();
    assert_eq!(pids(), before);
    // A gateway is a client, whatever it is started from.
    lab.write(
        "front.service",
        "[Unit]\nAfter=etcd.service\n[Service]\nExecStart=/usr/local/bin/etcd gateway start \
         --listen-addr=127.0.0.1:23790 --endpoints=127.0.0.1:12379\n\
         [Install]\nWantedBy=multi-user.target\n",
    );
    lab.bash("etcd-unit start --unit-file front.service own.json").ok();
    lab.bash("etcd-unit start --unit-file front.service own.json")
        .ok()
        .says("etcd-unit: etcd-01: etcd.service, front.service running as configured");
    lab.bash("jq 'del(.results)' own.json | etcd-push | etcd-unit start").ok().says(as_it_is);
    lab.bash("etcd-unit restart --unit front.service own.json").ok();
    lab.bash("etcd-unit uninstall --unit front.service own.json")
        .ok()
        .says("etcd-unit: etcd-03: stopped front.service, removed front.service");
    // One more that fails does so on the first node, and none is missed when it goes.
    lab.write(
        "events.service",
        "[Service]\nRestart=always\nRestartSec=1\n\
         ExecStart=/usr/local/bin/etcd --config-file /none\n\
         [Install]\nWantedBy=multi-user.target\n",
    );
    let leader = || lab.bash("etcd-health -q -o json own.json | jq '.health.endpoints[].isLeader'");
    let led = leader().stdout;
    lab.bash("etcd-unit start --unit-file events.service own.json")
        .exits(3)
        .says("etcd-unit: etcd-02: nothing done: the same has failed on etcd-01");
    assert_eq!(lab.on("etcd-02", "ls /etc/systemd/system | grep -c events; true"), "0\n");
    let ran = lab.bash("etcd-unit uninstall --unit events.service own.json").ok();
    ran.says("etcd-unit: etcd-01: stopped events.service, removed events.service");
    assert_eq!(leader().stdout, led);
    assert_eq!(pids(), before);
    lab.bash("etcd-unit stop --only etcd-01 own.json").ok();
    lab.bash("etcd-unit start nodes.txt").ok().says("etcd-unit: etcd-01: started etcd.service");
    lab.bash("etcd-unit restart nodes.txt").ok();
    // A template cannot be enabled.
    lab.write(
        "agent@.service",
        "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n",
    );
    for check in ["--check", ""] {
        let ran =
            lab.bash(&format!("etcd-unit start {check} --unit-file agent@.service nodes.txt"));
        ran.says(
            "etcd-unit: etcd-01: warning: agent@.service: enabled has no effect: the unit is a \
             template: enable an instance of it, or add DefaultInstance=",
        );
    }
}
