//! Certificates for others: clients by name, and formats for those who watch them.

use crate::Lab;

const BACKUP: &str = "pki/clients/backup.crt";

#[test]
fn a_client_gets_a_certificate_of_its_own() {
    let lab = Lab::issued();
    lab.run(&["client", "backup", "--check"], "")
        .expect(1, &["etcd-cert: backup certificate would be issued"]);
    let issued =
        lab.run(&["client", "backup"], "").expect(0, &["etcd-cert: backup certificate issued"]);
    assert_eq!(issued.stdout, "");
    assert_eq!(
        lab.openssl(&format!("x509 -in {BACKUP} -noout -subject -nameopt RFC2253")),
        "subject=CN=backup"
    );
    assert_eq!(
        lab.openssl(&format!("verify -purpose sslclient -CAfile pki/ca.crt {BACKUP}")),
        format!("{BACKUP}: OK")
    );
    let before = lab.tree();
    lab.run(&["client", "backup"], "").expect(0, &["etcd-cert: backup certificate unchanged"]);
    assert_eq!(lab.tree(), before);

    // From now on it is one of those that are renewed and checked.
    let line =
        format!("etcd-cert: backup certificate: valid until {}, 364 days left", lab.expiry(BACKUP));
    lab.run(&["check"], "").expect_line(0, &line);
    lab.remove("pki/clients/backup.key");
    let reason = "its key is missing";
    lab.issue(&[]).expect_line(0, &format!("etcd-cert: backup certificate reissued: {reason}"));
}

#[test]
fn no_client_is_made_without_a_ca_or_outside_the_folder() {
    let lab = Lab::new();
    lab.run(&["client", "backup"], "").expect(3, &["etcd-cert: pki/ca.crt: missing: run etcd-cert issue first, or pass --pki with its folder"]);
    assert!(!lab.path("pki").exists());
    for name in ["../ca", ".x", "a/b", "a b", "", &"a".repeat(65)] {
        let ran = lab.run(&["client", name], "");
        assert_eq!(ran.code, 2, "{name:?}");
        assert!(ran.stderr[0].contains("expected up to 64 letters, digits"), "{:?}", ran.stderr);
    }
    assert!(!lab.path("pki").exists());
}

#[test]
fn no_client_is_made_by_a_ca_that_has_expired_or_under_the_name_of_another() {
    let lab = Lab::issued();
    for name in ["ca", "CA", "client", "apiserver-etcd-client"] {
        let ran = lab.run(&["client", name], "");
        assert_eq!(ran.code, 2, "{name}");
        assert!(ran.stderr[0].contains("it has a certificate of its own"), "{:?}", ran.stderr);
    }
    // What else lies in the folder is none of ours.
    std::fs::create_dir(lab.path("pki/clients")).unwrap();
    lab.write("pki/clients/a b.crt", "no certificate");
    assert_eq!(lab.run(&["check"], "").code, 0);
    lab.expired_ca("pki/ca");
    let ran = lab.run(&["client", "backup"], "");
    let expired = lab.expiry("pki/ca.crt");
    ran.expect(
        3,
        &[&format!(
            "etcd-cert: pki/ca.crt: expired {expired}: replace it: see etcd-cert ca --help"
        )],
    );
    assert!(!lab.path("pki/clients/backup.crt").exists());
}

#[test]
fn no_certificate_outlives_its_ca() {
    let lab = Lab::new();
    lab.issue(&["--ca-validity", "100d"]);
    let ca = lab.expiry("pki/ca.crt");
    for cert in ["pki/client.crt", "pki/nodes/etcd-01/peer.crt"] {
        assert_eq!(lab.expiry(cert), ca, "{cert}");
    }
    // To issue them again would change nothing: it is the CA that is to be replaced.
    let before = lab.tree();
    assert_eq!(lab.issue(&["--renew-before", "200d"]).code, 0);
    assert_eq!(lab.tree(), before);
}

#[test]
fn a_client_keeps_the_term_that_it_was_issued_for() {
    let lab = Lab::issued();
    let days_left = || {
        let table = lab.run(&["check", "-o", "table"], "").stdout;
        let row = table.lines().find(|row| row.contains("  backup  ")).unwrap();
        row.split_whitespace().nth(3).unwrap().to_owned()
    };
    let issue = ["client", "backup", "--validity", "90d"];
    lab.run(&issue, "").expect(0, &["etcd-cert: backup certificate issued"]);
    assert_eq!(days_left(), "89");
    lab.remove("pki/clients/backup.key");
    assert_eq!(lab.issue(&[]).code, 0);
    assert_eq!(days_left(), "89");

    // A shorter one is not due from its first day on.
    lab.remove(BACKUP);
    let issue = ["client", "backup", "--validity", "9d", "--renew-before", "2d"];
    lab.run(&issue, "").expect(0, &["etcd-cert: backup certificate issued"]);
    let before = lab.tree();
    assert_eq!(lab.run(&["check"], "").code, 0);
    assert_eq!(lab.issue(&[]).code, 0);
    assert_eq!(lab.tree(), before);
}

#[test]
fn expiry_is_told_to_people_scripts_and_prometheus() {
    let lab = Lab::issued();
    let expiry = lab.expiry("pki/nodes/etcd-01/server.crt");
    let table = lab.run(&["check", "-o", "table"], "").stdout;
    let rows: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(rows[0], ["NODE", "CERTIFICATE", "EXPIRES", "DAYS LEFT", "STATE"]);
    assert_eq!(rows[1], ["etcd-01", "server", &expiry, "364", "valid"]);
    assert_eq!(rows[7], ["-", "CA", &lab.expiry("pki/ca.crt"), "3649", "valid"]);

    let document = lab.run(&["check", "-o", "json"], crate::NODES).document();
    assert_eq!(document["results"][0]["notAfter"], expiry.as_str());

    let metrics = lab.run(&["check", "-o", "prometheus"], "").stdout;
    let of = |labels: &str| {
        let name = format!("etcd_tools_certificate_not_after_seconds{{{labels}}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name)).expect(labels);
        let time = time::OffsetDateTime::from_unix_timestamp(line.parse().unwrap()).unwrap();
        pipeline::rfc3339(time.into())
    };
    assert_eq!(of("certificate=\"client\""), lab.expiry("pki/client.crt"));
    assert_eq!(of("node=\"etcd-01\",certificate=\"server\""), expiry);

    // One that is due is said in capitals, and is still counted.
    let ran = lab.run(&["check", "-o", "table", "--within", "400d"], "");
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.lines().nth(1).unwrap().ends_with("DUE"), "{}", ran.stdout);
    let ran = lab.run(&["check", "-o", "prometheus", "--within", "400d"], "");
    assert_eq!((ran.code, ran.stdout), (1, metrics));
}
