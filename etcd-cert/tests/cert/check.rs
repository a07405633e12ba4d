use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crate::{Lab, NODES};

/// The lines about the certificates of `NODES`, with `states` for those that
/// are not valid until their time.
fn lines(lab: &Lab, days: u32, states: &[(&str, &str)]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |place: String, cert: &str, days: u32| {
        let found = states.iter().find(|(name, _)| *name == place);
        let state = found.map_or_else(
            || format!("valid until {}, {days} days left", lab.expiry(cert)),
            |(_, state)| state.to_string(),
        );
        lines.push(format!("etcd-cert: {place}: {state}"));
    };
    for node in ["etcd-01", "etcd-02", "etcd-03"] {
        for stem in ["server", "peer"] {
            let cert = format!("pki/nodes/{node}/{stem}.crt");
            add(format!("{node}: {stem} certificate"), &cert, days);
        }
    }
    add("CA".into(), "pki/ca.crt", 3649);
    add("client certificate".into(), "pki/client.crt", days);
    let apiserver = "apiserver-etcd-client";
    add(format!("{apiserver} certificate"), &format!("pki/{apiserver}.crt"), days);
    lines
}

/// `check` with and without the document says `expected`.
#[track_caller]
fn assert_says(lab: &Lab, args: &[&str], code: i32, expected: &[String]) {
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    let before = lab.tree();
    for stdin in [NODES, ""] {
        lab.run(&[&["check"], args].concat(), stdin).expect(code, &expected);
    }
    assert_eq!(lab.tree(), before);
}

#[test]
fn fresh_certificates_are_valid() {
    let lab = Lab::issued();
    assert_says(&lab, &[], 0, &lines(&lab, 364, &[]));
    let ran = lab.run(&["check"], NODES);
    let result = &ran.document()["results"][0];
    assert_eq!((&result["code"], &result["node"]), (&"valid".into(), &"etcd-01".into()));
}

#[test]
fn certificates_are_due_before_they_expire() {
    let lab = Lab::new();
    lab.issue(&["--validity", "40d"]);
    assert_says(&lab, &[], 0, &lines(&lab, 39, &[]));
    let expiry = lab.expiry("pki/client.crt");
    let due = format!("it expires {expiry}, 39 days left: run etcd-cert issue --renew-before 40d");
    let labels: Vec<_> = lines(&lab, 39, &[])
        .iter()
        .map(|line| line.split(": valid").next().unwrap().replace("etcd-cert: ", ""))
        .filter(|label| label != "CA")
        .collect();
    let states: Vec<_> = labels.iter().map(|label| (label.as_str(), due.as_str())).collect();
    assert_says(&lab, &["--within", "40d"], 1, &lines(&lab, 39, &states));
    let ran = lab.run(&["check", "--within", "40d"], NODES);
    assert_eq!(ran.document()["results"][0]["code"], "due");

    // What is advised helps: the new one is not due at once.
    let lab = Lab::issued();
    let within = ["check", "--within", "365d"];
    let advice = "run etcd-cert issue --renew-before 365d --validity 730d";
    let said = lab.run(&within, NODES).document()["results"][0]["message"].to_string();
    assert!(said.contains(advice), "{said}");
    assert_eq!(lab.issue(&advice.split(' ').skip(3).collect::<Vec<_>>()).code, 0);
    assert_eq!(lab.run(&within, NODES).code, 0);
}

#[test]
fn a_ca_is_due_before_it_expires() {
    let lab = Lab::issued();
    let expiry = lab.expiry("pki/ca.crt");
    let line = format!(
        "etcd-cert: CA: expires {expiry}, 3649 days left: replace it: see etcd-cert ca --help"
    );
    lab.run(&["check", "--within", "4000d"], NODES).expect_line(1, &line);
    lab.expired_ca("pki/ca");
    let line = format!(
        "etcd-cert: CA: expired {}: replace it: see etcd-cert ca --help",
        lab.expiry("pki/ca.crt")
    );
    lab.run(&["check"], NODES).expect_line(1, &line);
}

#[test]
fn certificates_that_do_not_fit_are_due() {
    let lab = Lab::issued();
    lab.copy("pki/client.key", "pki/nodes/etcd-02/peer.key");
    let state = "its key does not match the certificate: run etcd-cert issue";
    assert_says(&lab, &[], 1, &lines(&lab, 364, &[("etcd-02: peer certificate", state)]));
    let lab = Lab::issued();
    lab.run(&["check"], &NODES.replace("1.100", "1.103")).expect_line(
        1,
        "etcd-cert: etcd-01: server certificate: address 192.168.1.103 is not among its names: \
         run etcd-cert issue",
    );
    // Without the inventory, the names are not known; nor are those of --san.
    assert_eq!(lab.run(&["check"], "").code, 0);
    lab.issue(&["--san", "more.example.org"]);
    assert_eq!(lab.run(&["check"], NODES).code, 0);
}

#[test]
fn certificates_that_are_missing_are_an_error() {
    let lab = Lab::issued();
    lab.remove("pki/nodes/etcd-03/server.crt");
    let state = "pki/nodes/etcd-03/server.crt is missing: run etcd-cert issue";
    assert_says(&lab, &[], 3, &lines(&lab, 364, &[("etcd-03: server certificate", state)]));
    let ran = lab.run(&["check"], &format!("{NODES}new:10.0.0.4:etcd-04\nn5:10.0.0.5:etcd-05\n"));
    let ran = ran.expect_line(
        3,
        "etcd-cert: etcd-04: peer certificate: pki/nodes/etcd-04/peer.crt is missing: \
         run etcd-cert issue",
    );
    assert_eq!(ran.document()["results"][6]["code"], "missing");
}

#[test]
fn an_empty_folder_has_nothing_to_check() {
    let lab = Lab::new();
    let remedy = "is missing: run etcd-cert issue";
    lab.run(&["check"], "").expect(
        3,
        &[
            &format!("etcd-cert: CA: pki/ca.crt {remedy}"),
            &format!("etcd-cert: client certificate: pki/client.crt {remedy}"),
            &format!(
                "etcd-cert: apiserver-etcd-client certificate: pki/apiserver-etcd-client.crt \
                 {remedy}"
            ),
        ],
    );
    assert!(!lab.path("pki").exists());
}

#[test]
fn a_key_that_others_can_use_is_a_problem() {
    let lab = Lab::issued();
    for key in ["pki/ca.key", "pki/nodes/etcd-02/peer.key"] {
        std::fs::set_permissions(lab.path(key), Permissions::from_mode(0o644)).unwrap();
    }
    let lets = "mode 0644 lets others use it: run etcd-cert issue";
    let ca = format!("pki/ca.key: {lets}");
    let peer = format!("pki/nodes/etcd-02/peer.key: {lets}");
    let states = [("CA", ca.as_str()), ("etcd-02: peer certificate", &peer)];
    assert_says(&lab, &[], 1, &lines(&lab, 364, &states));
    assert_eq!(lab.issue(&[]).code, 0);
    assert_says(&lab, &[], 0, &lines(&lab, 364, &[]));
}

#[test]
fn without_the_ca_nothing_is_advised_that_would_make_another() {
    let lab = Lab::issued();
    std::fs::remove_file(lab.path("pki/ca.crt")).unwrap();
    let ran = lab.run(&["check"], NODES);
    assert_eq!(ran.code, 3);
    for line in [
        "etcd-cert: etcd-01: server certificate: not checked without the CA",
        "etcd-cert: CA: pki/ca.crt: missing, but pki/apiserver-etcd-client.crt is still there: \
         restore it and its key (each node has a copy of ca.crt beside its certificates), or move \
         pki away to start with a new CA",
    ] {
        assert!(ran.stderr.iter().any(|said| said == line), "{:?}", ran.stderr);
    }
    assert!(!ran.stderr.iter().any(|line| line.contains("run etcd-cert")), "{:?}", ran.stderr);
}
