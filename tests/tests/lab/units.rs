//! Units as they are on a host: whatever lies around etcd, it converges and stays.

use serde_json::{Value, json};
use tests::{Lab, Ran, deploy, guide};

const PID: &str = "systemctl show etcd -p MainPID --value";
const HOST: &str = "etcd-01";

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

    // A process that systemd has started anew is judged by the times of the files.
    lab.on(HOST, "systemctl kill -s KILL etcd");
    lab.bash("etcd-health --wait < document.json").ok();
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

    // A masked unit is left as it is.
    lab.on(HOST, "systemctl mask etcd");
    start(&lab).exits(3).says(
        "etcd-unit: etcd-01: etcd.service is masked on the node: run systemctl unmask \
         etcd.service there first",
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
        // A job and its timer, one that is done once, a template and an instance of it.
        ("job.service", false, service("Type=oneshot\n", "/bin/sh -c 'echo x >> /root/job'")),
        ("job.timer", true, format!("[Timer]\nOnCalendar=2100-01-01\n{install}")),
        ("once.service", false, service("Type=oneshot\n", "/bin/sh -c 'echo x >> /root/once'")),
        ("nap@.service", false, service("", "/bin/sleep %i")),
        ("nap@1000.service", false, service("", "/bin/sleep 1000")),
        // Without [Install] it cannot be enabled.
        ("static.service", true, service("", "/bin/sleep 1000")),
        ("own.service", true, service("", "/bin/sleep 1000") + install),
    ];
    let units: Vec<_> = units
        .iter()
        .map(|(name, enabled, content)| match enabled {
            true => json!({"name": name, "enabled": true, "content": content}),
            false => json!({"name": name, "content": content}),
        })
        .collect();
    let document = |units: &[Value]| {
        json!({"apiVersion": "etcd-tools/v1", "nodes": [
            {"name": "web", "address": "192.168.1.100", "units": units}]})
        .to_string()
    };
    lab.write("document.json", &document(&units));
    lab.bash("etcd-unit start < document.json").ok();
    let state = "cat /root/once; test ! -e /root/job; systemctl is-active job.timer own static \
                 nap@1000 | tr '\\n' ' '; systemctl show own static nap@1000 -p MainPID";
    let before = lab.on(HOST, state);
    assert!(before.starts_with("x\nactive active active active "), "{before}");
    let ran = lab.bash("etcd-unit start < document.json").ok();
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.ends_with(" running as configured\n"), "{}", ran.stderr);
    assert_eq!(lab.on(HOST, state), before);

    // One that ends at once has not been started.
    let broken = |command: &str| json!({"name": "x.service", "content": service("", command)});
    lab.write("broken.json", &document(&[broken("/bin/false")]));
    lab.bash("etcd-unit start < broken.json").exits(3).says(
        "etcd-unit: web: x.service was started and ended at once: it is failed (failed): \
         Main process exited, code=exited, status=1/FAILURE",
    );
    lab.write("broken.json", &document(&[broken("/nowhere")]));
    let ran = lab.bash("etcd-unit start < broken.json").exits(3);
    assert!(ran.stderr.contains("/nowhere"), "{}", ran.stderr);
    for name in ["x", "../x.service", "-x.service", "x y.service", ".service"] {
        let ran = lab.bash(&format!("etcd-unit status --unit='{name}' < document.json")).exits(2);
        assert!(ran.stderr.contains("expected NAME.service or NAME.timer"), "{}", ran.stderr);
    }
}
