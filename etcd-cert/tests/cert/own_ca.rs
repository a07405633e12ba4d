use std::os::unix::fs::PermissionsExt;

use crate::{Lab, NODES, UNCHANGED};

/// Has openssl make a CA `own.crt` with `own.key`, of the key that `genpkey` makes.
fn make(lab: &Lab, genpkey: &str) {
    lab.openssl(&format!("genpkey {genpkey} -out own.key"));
    self_sign(lab, "own", "/C=DE/O=Größe/CN=own");
}

fn self_sign(lab: &Lab, stem: &str, subject: &str) {
    lab.openssl(&format!(
        "req -x509 -new -utf8 -key {stem}.key -subj {subject} -days 3650 -out {stem}.crt"
    ));
}

const EC: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const OWN: [&str; 4] = ["--ca-cert", "own.crt", "--ca-key", "own.key"];

/// Issues with the own CA, and expects it in its place, byte for byte.
#[track_caller]
fn assert_adopted(lab: &Lab) {
    lab.issue(&OWN).expect_line(0, "etcd-cert: CA adopted: from own.crt");
    assert_eq!(lab.text("pki/ca.crt"), lab.text("own.crt"));
    assert_eq!(lab.text("pki/ca.key"), lab.text("own.key"));
    let mode = std::fs::metadata(lab.path("pki/ca.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    lab.assert_sound();
    lab.issue(&OWN).expect(0, &UNCHANGED);
    lab.issue(&[]).expect(0, &UNCHANGED);
}

#[test]
fn an_own_ca_is_taken_whatever_its_key_is() {
    for genpkey in [
        EC,
        "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
        "-algorithm ED25519",
        "-algorithm RSA -pkeyopt rsa_keygen_bits:4096",
    ] {
        let lab = Lab::new();
        make(&lab, genpkey);
        assert_adopted(&lab);
    }
}

#[test]
fn older_forms_of_keys_are_taken() {
    // kubeadm's CAs have RSA keys in PKCS#1.
    let lab = Lab::new();
    make(&lab, "-algorithm RSA -pkeyopt rsa_keygen_bits:2048");
    lab.openssl("rsa -in own.key -traditional -out own.key");
    assert!(lab.text("own.key").starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    assert_adopted(&lab);
    for curve in ["prime256v1", "secp384r1"] {
        let lab = Lab::new();
        lab.openssl(&format!("ecparam -name {curve} -genkey -out own.key"));
        assert!(lab.text("own.key").starts_with("-----BEGIN EC PARAMETERS-----"));
        self_sign(&lab, "own", "/CN=own");
        assert_adopted(&lab);
    }
}

#[test]
fn an_intermediate_ca_with_its_chain_is_taken() {
    let lab = Lab::new();
    make(&lab, EC);
    std::fs::rename(lab.path("own.key"), lab.path("root.key")).unwrap();
    std::fs::rename(lab.path("own.crt"), lab.path("root.crt")).unwrap();
    lab.openssl(&format!("genpkey {EC} -out own.key"));
    lab.openssl("req -new -key own.key -subj /CN=intermediate -out request");
    lab.write("extensions", "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign");
    lab.openssl(
        "x509 -req -in request -CA root.crt -CAkey root.key -days 365 -extfile extensions \
         -out middle.crt",
    );
    lab.write("own.crt", &(lab.text("root.crt") + &lab.text("middle.crt")));
    assert_adopted(&lab);
}

#[test]
fn an_unfit_ca_is_refused_and_leaves_no_trace() {
    #[track_caller]
    fn refused(spoil: impl FnOnce(&Lab), message: &str) {
        let lab = Lab::new();
        make(&lab, EC);
        spoil(&lab);
        let message = format!("etcd-cert: {message}");
        lab.issue(&OWN).expect(3, &[&message]);
        lab.issue(&[&["--check"], &OWN[..]].concat()).expect(3, &[&message]);
        lab.run(&[&["ca"], &OWN[..]].concat(), "").expect(3, &[&message]);
        assert!(!lab.path("pki").exists());
    }
    refused(
        |lab| lab.remove("own.crt"),
        "own.crt: reading: No such file or directory (os error 2)",
    );
    refused(|lab| lab.write("own.crt", ""), "own.crt: holds no certificate");
    refused(
        |lab| lab.write("own.crt", &(lab.text("own.crt") + &lab.text("own.key"))),
        "own.crt: holds a private key as well: expected certificates only",
    );
    refused(|lab| lab.copy("own.crt", "own.key"), "own.key: holds no private key");
    refused(
        |lab| {
            lab.openssl("pkey -in own.key -aes128 -passout pass:secret -out encrypted.key");
            lab.copy("encrypted.key", "own.key");
        },
        "own.key: is encrypted: decrypt it first, as with openssl pkey",
    );
    refused(
        |lab| {
            lab.openssl(&format!("genpkey {EC} -out own.key"));
        },
        "own.key: is not the key of own.crt",
    );
    refused(
        |lab| make(lab, "-algorithm EC -pkeyopt ec_paramgen_curve:P-521"),
        "own.key: is no key of P-256, P-384, Ed25519 or RSA with 2048 to 4096 bits",
    );
    refused(
        |lab| {
            lab.openssl(
                "req -x509 -new -key own.key -subj /CN=x -addext basicConstraints=CA:FALSE \
                 -out own.crt",
            );
        },
        "own.crt: is not the certificate of a CA",
    );
    refused(
        |lab| {
            lab.openssl(
                "req -x509 -new -key own.key -subj /CN=x -addext keyUsage=digitalSignature \
                 -out own.crt",
            );
        },
        "own.crt: is not the certificate of a CA",
    );
    refused(
        |lab| self_sign(lab, "own", "/DC=org/DC=example/CN=x"),
        "own.crt: cannot be used: its subject, DC=org, DC=example, CN=x, is of an unusual form",
    );
}

#[test]
fn an_expired_ca_is_refused() {
    let lab = Lab::new();
    make(&lab, EC);
    lab.expired_ca("own");
    let expired = lab.expiry("own.crt");
    lab.issue(&OWN).expect(3, &[&format!("etcd-cert: own.crt: expired {expired}")]);
    assert!(!lab.path("pki").exists());
    // One that expired in its place.
    std::fs::create_dir(lab.path("pki")).unwrap();
    lab.copy("own.crt", "pki/ca.crt");
    lab.copy("own.key", "pki/ca.key");
    lab.issue(&[]).expect_line(
        3,
        &format!("etcd-cert: pki/ca.crt: expired {expired}: replace it: see etcd-cert ca --help"),
    );
}

#[test]
fn another_ca_does_not_take_the_place_of_the_one_there_is() {
    let lab = Lab::issued();
    make(&lab, EC);
    let before = lab.tree();
    let message = "etcd-cert: pki/ca.crt: is a different CA from own.crt: nothing changed: \
                   use another --pki, or move this folder away";
    lab.issue(&OWN).expect(3, &[message]);
    lab.run(&[&["ca"], &OWN[..]].concat(), "").expect(3, &[message]);
    assert_eq!(lab.tree(), before);
    // Not that of a lone key either.
    lab.remove("pki/ca.crt");
    lab.issue(&OWN).expect(3, &[message]);
}

#[test]
fn an_adoption_that_was_cut_off_is_finished() {
    for kept in ["ca.crt", "ca.key"] {
        let lab = Lab::new();
        make(&lab, EC);
        std::fs::create_dir(lab.path("pki")).unwrap();
        lab.copy(&kept.replace("ca", "own"), &format!("pki/{kept}"));
        std::fs::set_permissions(lab.path("pki"), std::fs::Permissions::from_mode(0o700)).unwrap();
        lab.issue(&OWN).expect_line(0, "etcd-cert: CA adopted: from own.crt");
        lab.assert_sound();
        assert_eq!(lab.text("pki/ca.crt"), lab.text("own.crt"));
        assert_eq!(lab.text("pki/ca.key"), lab.text("own.key"));
    }
}

#[test]
fn the_ca_key_is_only_missed_when_something_must_be_issued() {
    let lab = Lab::issued();
    lab.remove("pki/ca.key");
    let warning = "etcd-cert: warning: pki/ca.key: missing: restore it, or pass --ca-cert and \
                   --ca-key: without it no certificate can be renewed";
    lab.issue(&[]).expect(0, &[&[warning], &UNCHANGED[..]].concat());
    lab.run(&["check"], NODES).expect_line(0, warning);
    lab.remove("pki/nodes/etcd-02/peer.crt");
    let before = lab.tree();
    let message = "etcd-cert: etcd-02: peer certificate cannot be issued: \
                   pki/ca.key: missing: restore it, or pass --ca-cert and --ca-key";
    lab.issue(&[]).expect(3, &[message]);
    lab.issue(&["--check"]).expect(3, &[message]);
    assert_eq!(lab.tree(), before);
}

#[test]
fn a_wrong_ca_key_is_an_error() {
    let lab = Lab::issued();
    lab.copy("pki/client.key", "pki/ca.key");
    let before = lab.tree();
    lab.issue(&[]).expect(3, &["etcd-cert: pki/ca.key: is not the key of pki/ca.crt"]);
    assert_eq!(lab.tree(), before);
}

/// What a run says that finds `trace` of a CA that is lost.
fn lost(trace: &str) -> String {
    format!(
        "etcd-cert: pki/ca.crt: missing, but {trace} is still there: restore it and its key \
         (each node has a copy of ca.crt beside its certificates), or move pki away to start \
         with a new CA"
    )
}

#[test]
fn a_lost_ca_is_never_replaced_by_a_new_one() {
    let clients = ["client", "apiserver-etcd-client"];
    let nodes = ["etcd-01", "etcd-02", "etcd-03"];
    let mut leaves: Vec<_> = clients.map(|stem| format!("pki/{stem}")).into();
    leaves.extend(
        nodes.iter().flat_map(|n| ["peer", "server"].map(|s| format!("pki/nodes/{n}/{s}"))),
    );
    let lab = Lab::issued();
    let refused = |trace: &str| {
        let before = lab.tree();
        lab.issue(&[]).expect(3, &[&lost(trace)]);
        lab.issue(&["--check"]).expect(3, &[&lost(trace)]);
        lab.run(&["ca"], "").expect(3, &[&lost(trace)]);
        assert_eq!(lab.tree(), before);
    };
    // Its key is as good as no key: another certificate is another CA.
    lab.remove("pki/ca.crt");
    refused("pki/apiserver-etcd-client.crt");
    lab.remove("pki/ca.key");
    refused("pki/apiserver-etcd-client.crt");
    // Any one file is trace enough, whatever else is lost.
    leaves.sort();
    for leaf in &leaves {
        refused(&format!("{leaf}.crt"));
        lab.remove(&format!("{leaf}.crt"));
        refused(&format!("{leaf}.key"));
        lab.remove(&format!("{leaf}.key"));
    }
    for name in ["index.txt", "nodes/serial", "ca.srl", "ca.pem"] {
        lab.write(&format!("pki/{name}"), "");
        refused(&format!("pki/{name}"));
        lab.remove(&format!("pki/{name}"));
    }
    lab.write("pki/README", "");
    lab.issue(&[]).expect_line(0, "etcd-cert: client certificate issued");
}

#[test]
fn a_lost_ca_is_only_replaced_by_itself() {
    let lab = Lab::new();
    make(&lab, EC);
    lab.issue(&OWN);
    lab.remove("pki/ca.crt");
    lab.issue(&[]).expect(3, &[&lost("pki/apiserver-etcd-client.crt")]);
    lab.issue(&OWN).expect_line(0, "etcd-cert: CA adopted: from own.crt");
    lab.assert_sound();
    lab.remove("pki/ca.crt");
    lab.remove("pki/ca.key");
    make(&lab, EC);
    let before = lab.tree();
    let message = "etcd-cert: pki/apiserver-etcd-client.crt: was not issued by the CA to import: \
                   use another --pki, or move pki away to start with this CA";
    lab.issue(&OWN).expect(3, &[message]);
    lab.issue(&[&OWN[..], &["--check"]].concat()).expect(3, &[message]);
    assert_eq!(lab.tree(), before);
}

#[test]
fn one_ca_takes_the_place_of_another_in_steps() {
    let lab = Lab::issued();
    lab.run(&["ca", "--pki", "new"], "");
    // Both are trusted, the old one signs: nothing is reissued.
    let both = lab.text("new/ca.crt") + &lab.text("pki/ca.crt");
    lab.write("pki/ca.crt", &both);
    let document = lab.issue(&[]).expect(0, &UNCHANGED).document();
    let sum = lab.openssl("sha256 -r pki/ca.crt");
    assert_eq!(document["nodes"][0]["files"][0]["sha256"], sum.split(' ').next().unwrap());
    // The new one signs.
    lab.copy("new/ca.key", "pki/ca.key");
    lab.issue(&[]).expect_line(
        0,
        "etcd-cert: etcd-01: server certificate reissued: it is not signed by the CA",
    );
    lab.issue(&[]).expect(0, &UNCHANGED);
    assert_eq!(lab.text("pki/ca.crt"), both);
    // Only the new one is trusted.
    lab.copy("new/ca.crt", "pki/ca.crt");
    lab.issue(&[]).expect(0, &UNCHANGED);
    lab.assert_sound();
}

#[test]
fn ca_makes_nothing_but_the_ca() {
    let lab = Lab::new();
    lab.run(&["ca", "--check"], "");
    assert!(!lab.path("pki").exists());
    let ran = lab.run(&["ca", "--ca-validity", "100d"], NODES);
    let made = format!("etcd-cert: CA made: valid until {}", lab.expiry("pki/ca.crt"));
    let sha256 = lab.openssl("x509 -in pki/ca.crt -noout -fingerprint -sha256");
    let sha256 = sha256.split('=').next_back().unwrap().replace(':', "").to_lowercase();
    let ca = format!(
        "etcd-cert: CA CN=etcd-ca, sha256 {sha256}, valid until {}",
        lab.expiry("pki/ca.crt")
    );
    let ran = ran.expect(0, &[&made, &ca]);
    assert_eq!(ran.document()["pki"]["caCert"], lab.path("pki/ca.crt").to_str().unwrap());
    assert_eq!(ran.document()["nodes"][2]["name"], "etcd-03");
    assert_eq!(lab.tree().keys().collect::<Vec<_>>(), ["pki", "pki/ca.crt", "pki/ca.key"]);
    let before = lab.tree();
    lab.run(&["ca"], "").expect(0, &[&ca]);
    lab.run(&["ca", "--check"], "").expect(0, &[&ca]);
    assert_eq!(lab.tree(), before);
}

#[test]
fn a_ca_that_is_soon_to_expire_is_warned_of() {
    let lab = Lab::new();
    let ran = lab.issue(&["--ca-validity", "20d"]);
    let line = format!(
        "etcd-cert: warning: CA expires {}, 19 days left: replace it: see etcd-cert ca --help",
        lab.expiry("pki/ca.crt")
    );
    ran.expect_line(0, &line);
}
