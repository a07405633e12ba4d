//! Over HTTP: what goes wrong on the way, and how it is carried on.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use pipeline::disk;

use crate::support::{
    Entry, Identity, NODES, Ran, Sandbox, Server, answer, archive, file_name, head, limited, noise,
    release, run, serve, size, stall, start, wait_until,
};

const VERSION: &str = "v3.5.16";
const PATH: &str = "v3.5.16/etcd-v3.5.16-linux-amd64.tar.gz";

fn fetched(mirror: &str) -> String {
    format!("etcd-fetch: v3.5.16 for amd64: fetched {} from {mirror}", size())
}

fn cached() -> String {
    format!("etcd-fetch: v3.5.16 for amd64: in the cache, {}", size())
}

/// Leaves `bytes` as a killed run would have.
fn leave_partial(sandbox: &Sandbox, bytes: &[u8]) {
    let partial = disk::beside(&sandbox.cached(VERSION, "amd64"));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(partial, bytes).unwrap();
}

fn ranges(server: &Server) -> Vec<Option<String>> {
    server.archives().iter().map(|request| request.range().map(str::to_owned)).collect()
}

/// The archive is in the cache, with what belongs to it and nothing else.
fn assert_kept(sandbox: &Sandbox) {
    assert_eq!(fs::read(sandbox.cached(VERSION, "amd64")).unwrap(), release(VERSION, "amd64"));
    let archive = file_name(VERSION, "amd64");
    let expected = [".lock", "SHA256SUMS", &archive, &format!("{archive}.binaries")];
    let found = sandbox.snapshot("cache").into_keys();
    let found: Vec<_> = found.map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_full_cache_asks_for_nothing() {
    let sandbox = Sandbox::new(&[VERSION]);
    let server = Server::of(&sandbox);
    sandbox.run(&server.url(), &[VERSION]).prints(0, &[&fetched(&server.url())]);
    let asked: Vec<_> = server.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(asked, ["/v3.5.16/SHA256SUMS".to_owned(), format!("/{PATH}")]);
    sandbox.run(&server.url(), &[VERSION]).prints(0, &[&cached()]);
    assert_eq!(server.requests().len(), 2);
    assert_kept(&sandbox);
}

#[test]
fn check_asks_but_does_not_load() {
    let sandbox = Sandbox::new(&[VERSION]);
    let server = Server::of(&sandbox);
    let would = fetched(&server.url()).replace("fetched", "would fetch");
    sandbox.run(&server.url(), &[VERSION, "--check"]).prints(1, &[&would]);
    assert!(!sandbox.path("cache").exists());
}

#[test]
fn a_killed_run_is_carried_on_where_it_was() {
    let sandbox = Sandbox::new(&[VERSION]);
    let total = release(VERSION, "amd64").len();
    let half = total / 2;
    let root = sandbox.path("mirror");
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let server = Server::start(move |request, out| match request.range() {
        None if request.is_archive() => {
            let bytes = fs::read(root.join(PATH)).unwrap();
            head(out, "200 OK", "", bytes.len());
            out.write_all(&bytes[..half]).unwrap();
            stall(out);
        }
        _ => {
            if request.is_archive() {
                counted.fetch_add(total - request.offset(), Ordering::SeqCst);
            }
            serve(&root, request, out);
        }
    });
    let partial = disk::beside(&sandbox.cached(VERSION, "amd64"));
    let mut child = start(sandbox.command(&server.url(), &[VERSION]), NODES);
    wait_until(|| fs::metadata(&partial).is_ok_and(|file| file.len() == half as u64));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!sandbox.cached(VERSION, "amd64").exists());

    sandbox.run(&server.url(), &[VERSION]).prints(0, &[&fetched(&server.url())]);
    assert_eq!(ranges(&server), [None, Some(format!("bytes={half}-"))]);
    assert_eq!(sent.load(Ordering::SeqCst), total - half);
    assert_kept(&sandbox);
}

#[test]
fn a_cut_connection_is_carried_on_in_the_same_run() {
    let sandbox = Sandbox::new(&[VERSION]);
    let root = sandbox.path("mirror");
    let server = Server::start(move |request, out| match request.range() {
        None if request.is_archive() => {
            let bytes = fs::read(root.join(PATH)).unwrap();
            head(out, "200 OK", "", bytes.len());
            out.write_all(&bytes[..100_000]).unwrap();
        }
        _ => serve(&root, request, out),
    });
    sandbox.run(&server.url(), &[VERSION]).prints(0, &[&fetched(&server.url())]);
    assert_eq!(ranges(&server), [None, Some("bytes=100000-".into())]);
    assert_kept(&sandbox);
}

#[test]
fn a_download_that_is_always_cut_is_an_error() {
    let sandbox = Sandbox::new(&[VERSION]);
    let root = sandbox.path("mirror");
    let server = Server::start(move |request, out| {
        if request.is_archive() {
            head(out, "200 OK", "", 300_000);
            out.write_all(&noise(1000)).unwrap();
        } else {
            serve(&root, request, out);
        }
    });
    sandbox.run(&server.url(), &[VERSION]).prints(
        69,
        &[&format!(
            "etcd-fetch: {}/{PATH}: downloading: end of file before message length reached",
            server.url()
        )],
    );
    assert_eq!(server.archives().len(), 4);
    assert!(!sandbox.cached(VERSION, "amd64").exists());
}

#[test]
fn a_server_that_cannot_resume_gives_all_of_it() {
    let bytes = release(VERSION, "amd64");
    for (headers, status) in [
        ("", "200 OK"),
        ("Content-Range: bytes 0-9/10\r\n", "206 Partial Content"),
        ("", "416 Range Not Satisfiable"),
    ] {
        let sandbox = Sandbox::new(&[VERSION]);
        leave_partial(&sandbox, &bytes[..1000]);
        let root = sandbox.path("mirror");
        let server = Server::start(move |request, out| {
            let bytes = fs::read(root.join(request.target.trim_start_matches('/'))).unwrap();
            match request.range() {
                Some(_) => answer(out, status, headers, &bytes),
                None => answer(out, "200 OK", "", &bytes),
            }
        });
        sandbox.run(&server.url(), &[VERSION]).prints(0, &[&fetched(&server.url())]);
        let again = status != "200 OK";
        assert_eq!(server.archives().len(), 1 + usize::from(again), "{status}");
        assert_eq!(server.archives()[0].range(), Some("bytes=1000-"), "{status}");
        assert_kept(&sandbox);
    }
}

#[test]
fn a_partial_download_that_turns_out_wrong_is_discarded() {
    let whole = release(VERSION, "amd64");
    for (left, expected) in [
        (noise(1000), vec![Some("bytes=1000-".into()), None]),
        // Too long: the server cannot serve the rest.
        (vec![0; whole.len() + 5], vec![Some(format!("bytes={}-", whole.len() + 5)), None]),
        // Whole already: nothing is asked for.
        (whole.clone(), vec![]),
    ] {
        let sandbox = Sandbox::new(&[VERSION]);
        leave_partial(&sandbox, &left);
        let server = Server::of(&sandbox);
        sandbox.run(&server.url(), &[VERSION]).prints(0, &[&fetched(&server.url())]);
        assert_eq!(ranges(&server), expected);
        assert_kept(&sandbox);
    }
}

#[test]
fn what_is_wrong_from_the_start_is_loaded_once() {
    let sandbox = Sandbox::new(&[VERSION]);
    fs::write(sandbox.published(VERSION, "amd64"), b"tampered with").unwrap();
    let server = Server::of(&sandbox);
    sandbox.run(&server.url(), &[VERSION]).prints(
        3,
        &[&format!(
            "etcd-fetch: {}/{PATH}: SHA-256 is {}, expected {}: damaged or tampered with: discarded",
            server.url(),
            disk::sha256(b"tampered with"),
            disk::sha256(&release(VERSION, "amd64"))
        )],
    );
    assert_eq!(server.archives().len(), 1);
    let kept: Vec<_> = sandbox.snapshot("cache").into_keys().collect();
    assert_eq!(kept, [sandbox.path("cache/v3.5.16/.lock")]);
}

#[test]
fn a_server_that_stalls_is_given_up() {
    for silent_from_the_start in [true, false] {
        let sandbox = Sandbox::new(&[VERSION]);
        let root = sandbox.path("mirror");
        let server = Server::start(move |request, out| {
            if !request.is_archive() {
                return serve(&root, request, out);
            }
            if !silent_from_the_start {
                head(out, "200 OK", "", 300_000);
                out.write_all(&noise(1000)).unwrap();
            }
            stall(out);
        });
        sandbox.run(&server.url(), &[VERSION, "--timeout", "1"]).prints(
            69,
            &[&format!(
                "etcd-fetch: {}/{PATH}: downloading: no data for 1 s: run again to resume",
                server.url()
            )],
        );
        assert_eq!(server.archives().len(), 1);
    }
}

#[test]
fn trouble_that_passes_is_waited_for() {
    let sandbox = Sandbox::new(&[VERSION]);
    let root = sandbox.path("mirror");
    let troubles = Mutex::new(vec!["503 Service Unavailable", "500 Internal Server Error"]);
    let server = Server::start(move |request, out| {
        let trouble = if request.is_archive() { troubles.lock().unwrap().pop() } else { None };
        match trouble {
            Some(status) => answer(out, status, "", b"an apology"),
            None => serve(&root, request, out),
        }
    });
    sandbox.run(&server.url(), &[VERSION]).prints(0, &[&fetched(&server.url())]);
    assert_eq!(server.archives().len(), 3);
    assert_kept(&sandbox);
}

#[test]
fn trouble_that_does_not_pass_is_an_error() {
    let sandbox = Sandbox::new(&[VERSION]);
    let server = Server::start(|_, out| answer(out, "503 Service Unavailable", "", b"an apology"));
    let ran = sandbox.run(&server.url(), &[VERSION]);
    ran.prints(
        69,
        &[&format!(
            "etcd-fetch: {}/v3.5.16/SHA256SUMS: downloading: 503 Service Unavailable",
            server.url()
        )],
    );
    assert_eq!(server.requests().len(), 4);
    assert_eq!(ran.document()["results"][0]["code"], "unreachable");
}

#[test]
fn a_refused_connection_is_an_error() {
    let sandbox = Sandbox::new(&[VERSION]);
    // A port that is free again once the listener is gone.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    sandbox.run(&format!("http://{address}"), &[VERSION]).prints(
        69,
        &[&format!(
            "etcd-fetch: http://{address}/v3.5.16/SHA256SUMS: connecting: \
             Connection refused (os error 111)"
        )],
    );
}

#[test]
fn what_is_not_there_is_named() {
    let sandbox = Sandbox::new(&[VERSION]);
    let server = Server::of(&sandbox);
    let url = server.url();
    sandbox.run(&url, &["v3.5.99"]).prints(
        3,
        &[&format!(
            "etcd-fetch: {url}/v3.5.99/SHA256SUMS: downloading: 404 Not Found: \
             the mirror has no v3.5.99 for amd64"
        )],
    );
    fs::remove_file(sandbox.published(VERSION, "amd64")).unwrap();
    let ran = sandbox.run(&url, &[VERSION]);
    ran.prints(
        3,
        &[&format!(
            "etcd-fetch: {url}/{PATH}: downloading: 404 Not Found: \
             the mirror has no v3.5.16 for amd64"
        )],
    );
    assert_eq!(server.requests().len(), 3, "what is missing is not asked for again");
}

#[test]
fn what_is_no_list_of_checksums_is_refused() {
    let sandbox = Sandbox::new(&[]);
    for (body, expected) in [
        (
            b"<html>log in".to_vec(),
            "no line for etcd-v3.5.16-linux-amd64.tar.gz: the mirror has no v3.5.16 for amd64",
        ),
        (vec![b'x'; 2 << 20], "too large for a list of checksums"),
        (b"\xff".to_vec(), "not text"),
    ] {
        let server = Server::start(move |_, out| answer(out, "200 OK", "", &body));
        sandbox
            .run(&server.url(), &[VERSION])
            .prints(3, &[&format!("etcd-fetch: {}/v3.5.16/SHA256SUMS: {expected}", server.url())]);
    }
    let server = Server::start(|_, out| answer(out, "403 Forbidden", "", b""));
    sandbox.run(&server.url(), &[VERSION]).prints(
        3,
        &[&format!("etcd-fetch: {}/v3.5.16/SHA256SUMS: downloading: 403 Forbidden", server.url())],
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn two_at_once_load_it_once() {
    let sandbox = Sandbox::new(&[VERSION]);
    let root = sandbox.path("mirror");
    let barrier = Arc::new(Barrier::new(2));
    let both = barrier.clone();
    let server = Server::start(move |request, out| {
        if request.is_archive() {
            both.wait();
        }
        serve(&root, request, out);
    });
    let first = start(sandbox.command(&server.url(), &[VERSION]), NODES);
    wait_until(|| !server.archives().is_empty());
    let second = start(sandbox.command(&server.url(), &[VERSION]), NODES);
    let waits = format!(" {} ", second.id());
    wait_until(|| {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("->") && line.contains(&waits))
    });
    barrier.wait();
    let [first, second] = [first, second].map(|child| Ran::from(child.wait_with_output().unwrap()));
    first.prints(0, &[&fetched(&server.url())]);
    second.prints(0, &[&cached()]);
    assert_eq!(server.archives().len(), 1);
    assert_kept(&sandbox);
}

#[test]
fn the_proxy_of_the_environment_is_used() {
    let sandbox = Sandbox::new(&[VERSION]);
    let root = sandbox.path("mirror");
    let proxy = Server::start(move |request, out| {
        let mut request = request.clone();
        request.target = request.target.replacen("http://mirror.example/etcd", "", 1);
        serve(&root, &request, out);
    });
    let tool = |variables: &[(&str, String)]| {
        let mut command = sandbox.command("http://mirror.example/etcd", &[VERSION]);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        run(command, NODES)
    };
    let ran = tool(&[("http_proxy", proxy.url())]);
    ran.prints(0, &[&fetched("http://mirror.example/etcd")]);
    let asked: Vec<_> = proxy.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(
        asked,
        [
            "http://mirror.example/etcd/v3.5.16/SHA256SUMS".to_owned(),
            format!("http://mirror.example/etcd/{PATH}")
        ]
    );
}

#[test]
fn a_password_is_sent_but_never_shown() {
    let sandbox = Sandbox::new(&[VERSION]);
    let server = Server::of(&sandbox);
    let mirror = format!("http://user:hush@{}", server.address);
    let ran = sandbox.run(&mirror, &[VERSION]);
    ran.prints(0, &[&fetched(&server.url())]);
    assert!(!ran.stdout.contains("hush"));
    // user:hush
    assert_eq!(server.requests()[0].headers["authorization"], "Basic dXNlcjpodXNo");
    let missing = sandbox.run(&mirror, &["v3.5.99"]);
    assert_eq!(missing.exit, 3);
    assert!(!missing.stderr.contains("hush") && !missing.stdout.contains("hush"));
}

/// A server with a certificate that it signed itself, written to `certificate`.
fn tls_server(root: &Path, certificate: &Path) -> Server {
    let root = root.to_owned();
    let identity = Identity::new();
    fs::write(certificate, &identity.cert).unwrap();
    identity.server(move |request, out| match request.target.strip_prefix("/insecure/") {
        Some(_) => answer(out, "302 Found", "Location: http://127.0.0.1:1/\r\n", b""),
        None => serve(&root, request, out),
    })
}

#[test]
fn https_is_verified_and_never_left() {
    let sandbox = Sandbox::new(&[VERSION]);
    let certificate = sandbox.path("mirror.crt");
    let server = tls_server(&sandbox.path("mirror"), &certificate);
    let url = format!("https://{}", server.address);
    let tool = |mirror: &str, certificates: &Path| -> Ran {
        let mut command: Command = sandbox.command(mirror, &[VERSION]);
        command.env("SSL_CERT_FILE", certificates);
        run(command, NODES)
    };
    let other = sandbox.path("other.crt");
    // Another name: with the same one it would be a bad signature.
    let mut stranger = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    stranger.distinguished_name.push(rcgen::DnType::CommonName, "stranger");
    let stranger = stranger.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    fs::write(&other, stranger.pem()).unwrap();
    tool(&url, &other).prints(
        3,
        &[&format!(
            "etcd-fetch: {url}/v3.5.16/SHA256SUMS: connecting: invalid peer certificate: \
             UnknownIssuer"
        )],
    );
    assert_eq!(server.requests().len(), 0);
    tool(&format!("{url}/insecure"), &certificate).prints(
        3,
        &[&format!(
            "etcd-fetch: {url}/insecure/v3.5.16/SHA256SUMS: downloading: \
             URL scheme is not allowed"
        )],
    );
    tool(&url, &certificate).prints(0, &[&fetched(&url)]);
    assert_kept(&sandbox);
    assert_eq!(server.archives()[0].target, format!("/v3.5.16/{}", file_name(VERSION, "amd64")));
}

#[test]
fn a_large_archive_takes_no_more_memory_than_a_small_one() {
    let sandbox = Sandbox::new(&[]);
    let bytes = archive(vec![
        Entry::File("etcd-v3.5.16-linux-amd64/etcd", noise(48 << 20)),
        Entry::File("etcd-v3.5.16-linux-amd64/etcdctl", Vec::new()),
    ]);
    sandbox.publish(VERSION, "amd64", &bytes);
    let server = Server::of(&sandbox);
    let limited = |args: &[&str]| {
        run(limited(&sandbox.command(&server.url(), args), "ulimit -d 24576"), NODES).exit
    };
    assert_eq!(limited(&[VERSION]), 0);
    assert_eq!(limited(&[VERSION, "--offline"]), 0);
    assert_eq!(fs::read(sandbox.cached(VERSION, "amd64")).unwrap(), bytes);
}
