//! Without a version, the one that the cluster runs.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Identity, Ran, Sandbox, Server, answer, run, size, stall};

/// A sandbox with certificates in `pki`, and their identity.
fn deployed_from(versions: &[&str]) -> (Sandbox, Identity) {
    let (sandbox, identity) = (Sandbox::new(versions), Identity::new());
    fs::create_dir(sandbox.path("pki")).unwrap();
    for (name, text) in
        [("ca.crt", &identity.cert), ("client.crt", &identity.cert), ("client.key", &identity.key)]
    {
        fs::write(sandbox.path("pki").join(name), text).unwrap();
    }
    (sandbox, identity)
}

/// A member that runs `version`.
fn member(identity: &Identity, version: &'static str) -> Server {
    identity.server(move |request, out| {
        assert_eq!(request.target, "/version");
        let body = json!({"etcdserver": version, "etcdcluster": "3.5.0"}).to_string();
        answer(out, "200 OK", "", body.as_bytes());
    })
}

/// A document whose nodes have their members at these ports.
fn document(ports: [u16; 2]) -> Value {
    let node = |(name, address, port)| json!({"name": name, "address": address, "settings": {"clientPort": port}});
    let nodes = [("a", "127.0.0.1", ports[0]), ("b", "localhost", ports[1])].map(node);
    json!({"apiVersion": "etcd-tools/v1", "nodes": nodes})
}

fn fetch(sandbox: &Sandbox, document: &Value, args: &[&str]) -> Ran {
    run(sandbox.command(&sandbox.mirror(), args), &document.to_string())
}

#[test]
fn the_running_version_is_kept() {
    let (sandbox, identity) = deployed_from(&["v3.5.16", "v3.6.16"]);
    let members = [member(&identity, "3.5.16"), member(&identity, "3.5.16")];
    let ports = members.each_ref().map(|member| member.address.port());
    let ran = fetch(&sandbox, &document(ports), &[]);
    ran.prints(
        0,
        &[&format!(
            "etcd-fetch: v3.5.16 for amd64: fetched {} from {} (the version that is running)",
            size(),
            sandbox.mirror()
        )],
    );
    assert_eq!(ran.document()["cluster"]["version"], "v3.5.16");
    // A version that is given needs no member.
    fetch(&sandbox, &document(ports), &["v3.6.16", "--quiet"]).prints(0, &[]);
    let mut given = document(ports);
    given["cluster"] = json!({"version": "3.6.16"});
    let ran = fetch(&sandbox, &given, &["--quiet"]);
    assert_eq!((ran.exit, &ran.document()["cluster"]["version"]), (0, &json!("v3.6.16")));
    assert!(members.iter().all(|member| member.requests().len() == 1));
    // The mirror is not needed, but the members are.
    let ran = fetch(&sandbox, &document(ports), &["--offline"]);
    let cached = "in the cache";
    ran.prints(
        0,
        &[&format!(
            "etcd-fetch: v3.5.16 for amd64: {cached}, {} (the version that is running)",
            size()
        )],
    );
}

#[test]
fn of_several_versions_the_highest_is_taken() {
    let (sandbox, identity) = deployed_from(&["v3.5.33", "v3.6.16"]);
    let members = [member(&identity, "3.6.16"), member(&identity, "3.5.33")];
    let ports = members.each_ref().map(|member| member.address.port());
    let ran = fetch(&sandbox, &document(ports), &["--quiet"]);
    ran.prints(
        0,
        &["etcd-fetch: warning: members run v3.5.33 to v3.6.16: taking v3.6.16, the highest"],
    );
    assert_eq!(ran.document()["results"][0]["code"], "different-versions");
    // One that does not answer does not hinder those that do.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ran = fetch(&sandbox, &document([closed, ports[1]]), &["--quiet"]);
    assert_eq!(ran.prints(0, &[]).document()["cluster"]["version"], "v3.5.33");
}

#[test]
fn no_answer_is_a_warning_and_means_the_default() {
    let (sandbox, identity) = deployed_from(&["v3.6.16"]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = identity.server(|_, out| stall(out));
    let advice = "taking the default, v3.6.16: if a cluster is running, pass its version";
    let ran = fetch(&sandbox, &document([closed, silent.address.port()]), &["--quiet"]);
    ran.prints(0, &[&format!("etcd-fetch: warning: no member answered: {advice}")]);
    assert_eq!(ran.document()["cluster"]["version"], "v3.6.16");
    assert_eq!(ran.document()["results"][0]["code"], "default-version");

    // A run that was killed while it made the certificates.
    fs::remove_file(sandbox.path("pki/client.key")).unwrap();
    let ran = fetch(&sandbox, &document([closed, closed]), &["--quiet"]);
    ran.prints(
        0,
        &[&format!(
            "etcd-fetch: warning: no member could be asked: pki/client.key: reading: no \
             such file or directory: {advice}"
        )],
    );
}

#[test]
fn a_running_version_that_is_no_release_is_an_error() {
    let (sandbox, identity) = deployed_from(&["v3.6.16"]);
    let odd = member(&identity, "3.6.0-rc.1");
    let port = odd.address.port();
    fetch(&sandbox, &document([port, port]), &[]).prints(
        2,
        &["etcd-fetch: a: runs etcd \"3.6.0-rc.1\": expected a version such as v3.5.16: \
           pass the version to fetch"],
    );
    assert!(!sandbox.path("cache").exists());
}
