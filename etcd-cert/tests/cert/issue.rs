use serde_json::{Value, json};

use crate::{Lab, NODES, Ran, UNCHANGED};

/// The line of openssl's text that follows the one with `heading`.
fn extension(lab: &Lab, cert: &str, heading: &str) -> String {
    let text = lab.openssl(&format!("x509 -in {cert} -noout -text"));
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.contains(heading));
    lines.next().unwrap();
    lines.next().unwrap().to_owned()
}

fn names(lab: &Lab, cert: &str) -> String {
    extension(lab, cert, "X509v3 Subject Alternative Name")
}

fn subject(lab: &Lab, cert: &str) -> String {
    lab.openssl(&format!("x509 -in {cert} -noout -subject"))
}

fn messages(ran: &Ran) -> Vec<(Value, Value, Value)> {
    let document = ran.document();
    let results = document["results"].as_array().unwrap().iter();
    results.map(|r| (r["node"].clone(), r["code"].clone(), r["changed"].clone())).collect()
}

#[test]
fn the_first_run_makes_everything() {
    let lab = Lab::new();
    let ran = lab.issue(&[]);
    let ca = format!("etcd-cert: CA made: valid until {}", lab.expiry("pki/ca.crt"));
    let ran = ran.expect(
        0,
        &[
            &ca,
            "etcd-cert: etcd-01: server certificate issued",
            "etcd-cert: etcd-01: peer certificate issued",
            "etcd-cert: etcd-02: server certificate issued",
            "etcd-cert: etcd-02: peer certificate issued",
            "etcd-cert: etcd-03: server certificate issued",
            "etcd-cert: etcd-03: peer certificate issued",
            "etcd-cert: client certificate issued",
            "etcd-cert: apiserver-etcd-client certificate issued",
        ],
    );
    assert_eq!(messages(&ran)[0], (json!("etcd-01"), json!("issued"), json!(true)));
    assert_eq!(messages(&ran)[6], (Value::Null, json!("made"), json!(true)));
    lab.assert_sound();
}

#[test]
fn certificates_say_what_they_are_for() {
    let lab = Lab::issued();
    assert_eq!(subject(&lab, "pki/ca.crt"), "subject=CN = etcd-ca");
    assert_eq!(extension(&lab, "pki/ca.crt", "Key Usage: critical"), "Certificate Sign, CRL Sign");
    assert_eq!(extension(&lab, "pki/ca.crt", "Basic Constraints: critical"), "CA:TRUE, pathlen:0");
    assert_eq!(subject(&lab, "pki/client.crt"), "subject=O = etcd-tools");
    assert_eq!(
        subject(&lab, "pki/apiserver-etcd-client.crt"),
        "subject=CN = kube-apiserver-etcd-client"
    );
    let client = "TLS Web Client Authentication";
    assert_eq!(extension(&lab, "pki/client.crt", "Extended Key Usage"), client);
    for stem in ["server", "peer"] {
        let cert = format!("pki/nodes/etcd-01/{stem}.crt");
        assert_eq!(subject(&lab, &cert), "subject=CN = etcd-01");
        assert_eq!(
            extension(&lab, &cert, "Extended Key Usage"),
            format!("TLS Web Server Authentication, {client}")
        );
        assert_eq!(extension(&lab, &cert, "Key Usage: critical"), "Digital Signature");
        assert_eq!(extension(&lab, &cert, "Basic Constraints: critical"), "CA:FALSE");
        assert_eq!(extension(&lab, &cert, "Public Key Algorithm"), "Public-Key: (256 bit)");
        assert_eq!(
            names(&lab, &cert),
            "IP Address:192.168.1.100, DNS:k8s-master-01, DNS:etcd-01, DNS:localhost, \
             IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1"
        );
    }
    assert_eq!(
        names(&lab, "pki/nodes/etcd-02/server.crt"),
        "IP Address:2001:DB8:0:0:0:0:0:2, DNS:k8s-node-01, DNS:etcd-02, DNS:localhost, \
         IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1"
    );
    assert_eq!(
        names(&lab, "pki/nodes/etcd-03/peer.crt"),
        "DNS:db.example.org, DNS:k8s-master-02, DNS:etcd-03, DNS:localhost, \
         IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1"
    );
}

#[test]
fn validity_is_as_asked_and_begins_in_the_past() {
    let lab = Lab::new();
    lab.issue(&["--validity", "90d", "--ca-validity", "400d"]);
    let valid = |cert: &str, days: u32| {
        let end = |seconds| format!("x509 -in {cert} -noout -checkend {seconds}");
        lab.openssl(&end(days * 86400 - 60));
        assert!(std::panic::catch_unwind(|| lab.openssl(&end(days * 86400 + 60))).is_err());
    };
    valid("pki/client.crt", 90);
    valid("pki/nodes/etcd-01/server.crt", 90);
    valid("pki/ca.crt", 400);
    // Four minutes ago each was valid already.
    let then = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() - 240;
    lab.openssl(&format!("verify -attime {then} -CAfile pki/ca.crt pki/client.crt"));
}

#[test]
fn a_second_run_changes_nothing() {
    let lab = Lab::issued();
    let before = lab.tree();
    let second = lab.issue(&[]).expect(0, &UNCHANGED);
    assert_eq!(messages(&second)[0], (json!("etcd-01"), json!("unchanged"), json!(false)));
    assert_eq!(lab.tree(), before);
    assert_eq!(lab.issue(&[]).stdout, second.stdout);
    // Other lengths are for what is issued anyway.
    lab.issue(&["--validity", "90d", "--ca-validity", "99d"]).expect(0, &UNCHANGED);
    lab.issue(&["--check"]).expect(0, &UNCHANGED);
}

#[test]
fn the_document_names_the_files_of_each_node() {
    let lab = Lab::new();
    let document = lab.run(&["issue", "--pki", "./here/../pki"], NODES).document();
    let pki = lab.path("here/../pki");
    let pki = pki.to_str().unwrap();
    assert_eq!(
        document["pki"],
        json!({
            "dir": pki,
            "caCert": format!("{pki}/ca.crt"),
            "clientCert": format!("{pki}/client.crt"),
            "clientKey": format!("{pki}/client.key"),
        })
    );
    let node = &document["nodes"][1];
    assert_eq!(node["users"], json!([{"name": "etcd", "home": "/var/lib/etcd"}]));
    assert_eq!(
        node["directories"],
        json!([{"path": "/etc/etcd/ssl", "mode": "0750", "owner": "root", "group": "etcd"}])
    );
    let file = |local: &str, name: &str, mode: &str, owner: &str| {
        let sum = lab.openssl(&format!("sha256 -r {pki}/{local}"));
        json!({
            "path": format!("/etc/etcd/ssl/{name}"), "mode": mode, "owner": owner, "group": owner,
            "local": format!("{pki}/{local}"), "sha256": sum.split(' ').next(),
        })
    };
    assert_eq!(
        node["files"],
        json!([
            file("ca.crt", "ca.crt", "0644", "root"),
            file("nodes/etcd-02/server.crt", "server.crt", "0644", "root"),
            file("nodes/etcd-02/server.key", "server.key", "0600", "etcd"),
            file("nodes/etcd-02/peer.crt", "peer.crt", "0644", "root"),
            file("nodes/etcd-02/peer.key", "peer.key", "0600", "etcd"),
        ])
    );
    assert!(!document.to_string().contains("PRIVATE KEY"));
}

#[test]
fn settings_of_the_document_are_followed() {
    let lab = Lab::new();
    let input = r#"{"apiVersion": "etcd-tools/v1", "nodes": [{"name": "a", "address": "10.0.0.1",
        "settings": {"certDir": "/opt/tls", "user": "db", "dataDir": "/data"}}]}"#;
    let document = lab.run(&["issue"], input).document();
    let node = &document["nodes"][0];
    assert_eq!(node["users"], json!([{"name": "db", "home": "/data"}]));
    assert_eq!(node["directories"][0]["group"], "db");
    assert_eq!(node["files"][2]["path"], "/opt/tls/server.key");
    assert_eq!(node["files"][2]["owner"], "db");
    // A document that went through once comes out the same.
    let again = lab.run(&["issue"], &document.to_string()).document();
    assert_eq!(again["nodes"], document["nodes"]);
}

#[test]
fn check_says_what_would_be_done_and_does_nothing() {
    let lab = Lab::new();
    let ran = lab
        .issue(&["--check", "--only", "etcd-02"])
        .expect_line(1, "etcd-cert: etcd-02: server certificate would be issued")
        .expect_line(1, "etcd-cert: client certificate would be issued");
    assert_eq!(ran.stderr.len(), 5, "{:#?}", ran.stderr);
    assert!(!lab.path("pki").exists());
    let lab = Lab::issued();
    lab.remove("pki/nodes/etcd-03/peer.crt");
    let before = lab.tree();
    let document = lab
        .run(&["issue", "--check"], &NODES.replace("1.100", "1.103"))
        .expect_line(
            1,
            "etcd-cert: etcd-01: server certificate would be reissued: \
             address 192.168.1.103 is not among its names",
        )
        .expect_line(1, "etcd-cert: etcd-02: certificates unchanged")
        .expect_line(1, "etcd-cert: etcd-03: peer certificate would be issued")
        .document();
    assert_eq!(lab.tree(), before);
    // What is not there yet is announced.
    let pending = |node: usize| {
        let files = document["nodes"][node]["files"].as_array().unwrap();
        assert_eq!(files.len(), 5);
        files.iter().filter(|file| file["pending"] == true && file.get("sha256").is_none()).count()
    };
    assert_eq!([pending(0), pending(1), pending(2)], [4, 0, 2]);
}

#[test]
fn only_the_chosen_node_is_served() {
    let lab = Lab::new();
    let document = lab.issue(&["--only", "etcd-02"]).document();
    assert!(lab.path("pki/nodes/etcd-02/server.crt").exists());
    assert!(!lab.path("pki/nodes/etcd-01").exists());
    assert_eq!(document["nodes"][0].get("files"), None);
}

/// Changes something with `spoil`, and expects the peer certificate of etcd-01,
/// and nothing else, to be reissued for `reason`.
#[track_caller]
fn reissued(spoil: impl FnOnce(&Lab), reason: &str) {
    let lab = Lab::issued();
    let others = |lab: &Lab| {
        let mut tree = lab.tree();
        tree.retain(|name, _| !name.starts_with("pki/nodes/etcd-01/peer"));
        tree
    };
    let before = others(&lab);
    spoil(&lab);
    let [_, etcd_02, etcd_03, clients] = UNCHANGED;
    let line = format!("etcd-cert: etcd-01: peer certificate reissued: {reason}");
    lab.issue(&[]).expect(0, &[&line, etcd_02, etcd_03, clients]);
    assert_eq!(others(&lab), before);
    lab.assert_sound();
    lab.issue(&[]).expect(0, &UNCHANGED);
}

const PEER: &str = "pki/nodes/etcd-01/peer.crt";
const PEER_KEY: &str = "pki/nodes/etcd-01/peer.key";

/// Has openssl sign a certificate in place of the peer's, for the same key,
/// with the extensions `extensions` and for `days`.
fn sign_with_openssl(lab: &Lab, ca: &str, extensions: &str, days: u32) {
    lab.write("extensions", extensions);
    lab.openssl(&format!("req -new -key {PEER_KEY} -subj /CN=etcd-01 -out request"));
    lab.openssl(&format!(
        "x509 -req -in request -CA {ca}.crt -CAkey {ca}.key -days {days} -extfile extensions \
         -out {PEER}"
    ));
}

const GOOD: &str = "extendedKeyUsage=serverAuth,clientAuth\n\
    subjectAltName=IP:192.168.1.100,DNS:k8s-master-01,DNS:etcd-01,DNS:localhost,IP:127.0.0.1,IP:::1";

#[test]
fn a_fitting_certificate_of_another_tool_is_left_alone() {
    let lab = Lab::issued();
    sign_with_openssl(&lab, "pki/ca", GOOD, 365);
    let before = lab.tree();
    lab.issue(&[]).expect(0, &UNCHANGED);
    assert_eq!(lab.tree(), before);
}

#[test]
fn a_certificate_is_reissued_that() {
    reissued(|lab| lab.write(PEER, "rubbish"), "pki/nodes/etcd-01/peer.crt holds no certificate");
    reissued(
        |lab| {
            let text = lab.text(PEER);
            lab.write(PEER, &text[..text.len() / 2]);
        },
        "pki/nodes/etcd-01/peer.crt is not a whole PEM file",
    );
    reissued(
        |lab| lab.write(PEER, "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n"),
        "pki/nodes/etcd-01/peer.crt holds a damaged certificate",
    );
    reissued(|lab| lab.remove(PEER_KEY), "its key is missing");
    reissued(|lab| lab.write(PEER_KEY, "rubbish"), "its key holds no private key");
    reissued(
        |lab| lab.copy("pki/nodes/etcd-01/server.key", PEER_KEY),
        "its key does not match the certificate",
    );
    reissued(
        |lab| {
            lab.run(&["ca", "--pki", "other"], "");
            sign_with_openssl(lab, "other/ca", GOOD, 365);
        },
        "it is not signed by the CA",
    );
    reissued(
        |lab| sign_with_openssl(lab, "pki/ca", &GOOD.replace("serverAuth,", ""), 365),
        "its extended key usage lacks serverAuth",
    );
    reissued(
        |lab| sign_with_openssl(lab, "pki/ca", &GOOD.replace(",clientAuth", ""), 365),
        "its extended key usage lacks clientAuth",
    );
    reissued(
        |lab| {
            let extensions = format!("{GOOD}\nkeyUsage=cRLSign");
            sign_with_openssl(lab, "pki/ca", &extensions, 365);
        },
        "its key usage lacks digitalSignature",
    );
    reissued(
        |lab| sign_with_openssl(lab, "pki/ca", &GOOD.replace("IP:192.168.1.100,", ""), 365),
        "address 192.168.1.100 is not among its names",
    );
    reissued(
        |lab| sign_with_openssl(lab, "pki/ca", &GOOD.replace(",DNS:localhost", ""), 365),
        "name localhost is not among its names",
    );
    reissued(
        |lab| sign_with_openssl(lab, "pki/ca", &format!("{GOOD},DNS:old.example"), 365),
        "name old.example is among its names, but not wanted",
    );
}

#[test]
fn a_certificate_with_a_broken_signature_is_reissued() {
    reissued(
        |lab| {
            lab.openssl(&format!("x509 -in {PEER} -outform DER -out der"));
            let mut der = std::fs::read(lab.path("der")).unwrap();
            *der.last_mut().unwrap() ^= 1;
            std::fs::write(lab.path("der"), der).unwrap();
            lab.openssl(&format!("x509 -inform DER -in der -out {PEER}"));
        },
        "it is not signed by the CA",
    );
}

#[test]
fn a_certificate_is_reissued_in_time() {
    let lab = Lab::issued();
    // Already over when it is made.
    sign_with_openssl(&lab, "pki/ca", GOOD, 0);
    let line =
        format!("etcd-cert: etcd-01: peer certificate reissued: expired {}", lab.expiry(PEER));
    lab.issue(&[]).expect_line(0, &line);
    sign_with_openssl(&lab, "pki/ca", GOOD, 20);
    let expiry = lab.expiry(PEER);
    lab.issue(&["--renew-before", "10d"]).expect(0, &UNCHANGED);
    let line =
        format!("etcd-cert: etcd-01: peer certificate reissued: it expires {expiry}, 19 days left");
    lab.issue(&[]).expect_line(0, &line);
    lab.issue(&[]).expect(0, &UNCHANGED);
}

#[test]
fn a_change_of_the_inventory_reissues() {
    let lab = Lab::issued();
    let moved = NODES.replace("192.168.1.100", "192.168.1.103");
    let reason = "address 192.168.1.103 is not among its names";
    let [_, etcd_02, etcd_03, clients] = UNCHANGED;
    let server = format!("etcd-cert: etcd-01: server certificate reissued: {reason}");
    let peer = format!("etcd-cert: etcd-01: peer certificate reissued: {reason}");
    lab.run(&["issue"], &moved).expect(0, &[&server, &peer, etcd_02, etcd_03, clients]);
    assert!(!names(&lab, PEER).contains("192.168.1.100"));
    lab.run(&["issue"], &moved).expect(0, &UNCHANGED);
    // The order of the nodes is of no account.
    let mut lines: Vec<_> = moved.lines().collect();
    lines.reverse();
    assert_eq!(lab.run(&["issue", "-q"], &lines.join("\n")).stderr, [""; 0]);
}

#[test]
fn further_names_are_for_all_nodes() {
    let lab = Lab::issued();
    let san = ["--san", "etcd.example.org,10.0.0.9", "--san", "*.etcd.svc", "--san", "localhost"];
    lab.issue(&san).expect_line(
        0,
        "etcd-cert: etcd-02: peer certificate reissued: \
         name etcd.example.org is not among its names",
    );
    let more = ", DNS:etcd.example.org, IP Address:10.0.0.9, DNS:*.etcd.svc";
    for node in ["etcd-01", "etcd-02", "etcd-03"] {
        assert!(names(&lab, &format!("pki/nodes/{node}/server.crt")).ends_with(more));
    }
    lab.issue(&san).expect(0, &UNCHANGED);
    lab.issue(&[]).expect_line(
        0,
        "etcd-cert: etcd-01: server certificate reissued: \
         name etcd.example.org is among its names, but not wanted",
    );
}

#[test]
fn wrong_flags_are_refused_before_anything_is_done() {
    let lab = Lab::new();
    let cases: [(&[&str], &str); 7] = [
        (
            &["--san", "a b"],
            "invalid value 'a b' for '--san <NAME-OR-IP>': neither an IP address nor a DNS name: \
             see etcd-cert --help",
        ),
        (
            &["--san", "1.2.3"],
            "invalid value '1.2.3' for '--san <NAME-OR-IP>': neither an IP address nor a DNS \
             name: see etcd-cert --help",
        ),
        (
            &["--validity", "1y"],
            "invalid value '1y' for '--validity <DURATION>': expected a duration such as 30d, \
             12h, 5m or 90s: see etcd-cert --help",
        ),
        (
            &["--validity", "30d"],
            "--validity: not longer than --renew-before: every run would reissue",
        ),
        (
            &["--validity", "9999999d"],
            "--validity: the validity is zero or beyond what a certificate can express",
        ),
        (
            &["--ca-validity", "0d"],
            "--ca-validity: the validity is zero or beyond what a certificate can express",
        ),
        (
            &["--ca-cert", "x"],
            "the following required arguments were not provided: --ca-key <FILE>: \
             see etcd-cert --help",
        ),
    ];
    for (args, message) in cases {
        lab.issue(args).expect(2, &[&format!("etcd-cert: {message}")]);
        assert!(!lab.path("pki").exists(), "{args:?}");
    }
}

#[test]
fn without_a_document_nothing_is_issued() {
    let lab = Lab::new();
    lab.run(&["issue"], "").expect(
        66,
        &["etcd-cert: stdin: no document: an earlier stage failed, or nothing was piped in"],
    );
    assert!(!lab.path("pki").exists());
}

#[test]
fn a_flag_may_come_from_the_environment() {
    let lab = Lab::new();
    let mut command = crate::command(crate::BINARY);
    command.arg("issue").env("ETCD_TOOLS_PKI", "elsewhere").env("ETCD_TOOLS_SAN", "x.org,y.org");
    assert_eq!(lab.run_command(&mut command, NODES).code, 0);
    assert!(names(&lab, "elsewhere/nodes/etcd-01/peer.crt").ends_with("DNS:x.org, DNS:y.org"));
}
