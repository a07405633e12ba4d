//! One CA in the place of another, as `etcd-cert ca --help` says.

use tests::{Lab, Ran, deploy, guide};

#[test]
fn a_ca_is_replaced_in_time_and_after_it_has_expired() {
    let lab = Lab::with_nodes(3);
    lab.bash(&deploy(guide())).ok();
    lab.unpack(guide());
    let endpoints = [100, 101, 102].map(|at| format!("https://192.168.1.{at}:2379"));
    let etcdctl = |args: &str| lab.bash(&lab.etcdctl(&endpoints, args)).ok();
    etcdctl("put key value");
    let old = lab.read("pki/ca.crt");
    let pipeline = |push: &str, start: &str| {
        lab.bash(&format!(
            "etcd-fetch < nodes.txt | etcd-cert issue | etcd-render | {push} | {start} \
             | etcd-health --wait"
        ))
        .ok()
    };
    let run = |push: &str| pipeline(push, "etcd-unit start");
    let restarted = |ran: Ran| {
        assert_eq!(etcdctl("get key --print-value-only").stdout, "value\n");
        ran.stderr.matches("restarted etcd.service: its CA certificate had changed").count()
    };

    // In time: both are trusted, then the new one signs, then it is alone.
    lab.bash(
        "etcd-cert ca --pki new < nodes.txt && cat new/ca.crt pki/ca.crt > both && \
         cp both pki/ca.crt",
    )
    .ok();
    assert_eq!(restarted(run("etcd-push")), 3);
    lab.bash("cp new/ca.key pki/ca.key").ok();
    let ran = run("etcd-push")
        .says("etcd-cert: etcd-02: server certificate reissued: it is not signed by the CA");
    assert_eq!(restarted(ran), 0);
    lab.bash("cp new/ca.crt pki/ca.crt").ok();
    assert_eq!(restarted(run("etcd-push --replace-ca")), 3);
    assert_ne!(lab.on("etcd-03", "cat /etc/etcd/ssl/ca.crt"), old);

    // Too late: nobody trusts anybody, and the cluster stands still for a moment.
    lab.bash("mv pki expired").ok();
    let all = "etcd-unit stop --lose-quorum | etcd-unit start";
    lab.bash(&format!(
        "etcd-fetch {} < nodes.txt | etcd-cert issue | etcd-render | etcd-push --replace-ca \
         | {all} | etcd-health --wait",
        guide()
    ))
    .ok()
    .says("etcd-unit: etcd-02: started etcd.service");
    assert_eq!(etcdctl("get key --print-value-only").stdout, "value\n");
    pipeline("etcd-push", "etcd-unit start")
        .says("etcd-unit: etcd-02: etcd.service running as configured");
}
