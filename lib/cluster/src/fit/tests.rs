//! The rules, one by one, against a cluster that runs as its document says.

use client::Status;
use pipeline::disk;
use pipeline::document::{ClusterState, Member, Unit};

use super::environment::Place;
use super::facts::{Folder, PREFIX};
use super::identity::Identity;
use super::*;
use etcd::unit::Text;

/// A cluster of three that runs as its document says.
struct World {
    document: Document,
    facts: Vec<(String, Facts)>,
    cluster: Cluster,
    purpose: Purpose,
    /// Whether the CA of the nodes is at hand.
    has_ca: bool,
    /// The nodes on which etcd-push with `--check` would have changed something.
    pushed: Vec<String>,
}

const PUSH: Purpose = Purpose::Push { replace_ca: false };
const START: Purpose = Purpose::Start { member: true };

/// A file of root's with this `content`.
fn text_file(path: &str, content: String) -> pipeline::document::File {
    pipeline::document::File {
        path: path.into(),
        mode: "0644".into(),
        owner: "root".into(),
        group: "root".into(),
        absent: false,
        content: Some(content),
        local: None,
        sha256: None,
        pending: false,
    }
}

fn release(version: &str, by_default: bool) -> pipeline::document::Release {
    let (version, archives) = (version.into(), Vec::new());
    pipeline::document::Release { version, archives, by_default }
}

/// As etcd gives it to the members of a new cluster of the default token.
fn id(at: usize) -> String {
    let url = format!("https://192.168.1.{}:2380", 100 + at);
    etcd::member::id_in_new_cluster(&[url], "k8s-etcd-cluster")
}

impl World {
    fn new() -> Self {
        let nodes = "m1:192.168.1.100:etcd-01\nm2:192.168.1.101:etcd-02\nm3:192.168.1.102:etcd-03";
        let mut document = pipeline::parse(nodes.as_bytes()).unwrap().document;
        let mut world = Self {
            document: document.clone(),
            facts: Vec::new(),
            cluster: Cluster::default(),
            purpose: PUSH,
            has_ca: true,
            pushed: Vec::new(),
        };
        for (at, node) in document.nodes.iter_mut().enumerate() {
            let url = world.document.peer_url(node);
            let lines = [
                "unit\t/etc/systemd/system/etcd.service",
                "process\t7\t/usr/local/lib/etcd-tools/v3.5.33-0a/etcd\tetcd.service\tetcd\tv3.5.33",
                &format!("variable\tETCD_NAME={}", node.name),
                "variable\tETCD_DATA_DIR=/var/lib/etcd",
                &format!("variable\tETCD_INITIAL_ADVERTISE_PEER_URLS={url}"),
                "variable\tETCD_INITIAL_CLUSTER_TOKEN=k8s-etcd-cluster",
                &format!("config\tETCD_NAME={}", node.name),
                "config\tETCD_DATA_DIR=/var/lib/etcd",
                &format!("config\tETCD_INITIAL_ADVERTISE_PEER_URLS={url}"),
                "folder\t/var/lib/etcd\t/var/lib/etcd/member/wal\tdb\t00\t\t",
                &format!("ca\t{}", CA.trim().replace('\n', "\nfit\tca\t")),
                "mark\tready\t/var/lib/etcd\t/var/lib/etcd/member/wal",
                "binary\t/usr/local/bin/etcd\tetcd Version: 3.5.33",
            ];
            let mut answer = lines.join("\nfit\t").lines().map(str::to_owned).collect::<Vec<_>>();
            answer[0].insert_str(0, PREFIX);
            let mut facts = Facts::read(&answer).unwrap();
            facts.folders[0].identity = Some(Identity { member: id(at), cluster: "c".into() });
            world.facts.push((node.name.clone(), facts));
            world.cluster.members.push(Member {
                id: id(at),
                name: node.name.clone(),
                peer_urls: vec![url],
                client_urls: vec!["https://client".into()],
                is_learner: false,
            });
            world.cluster.replies.insert(
                node.name.clone(),
                Status {
                    member_id: id(at),
                    cluster_id: "c".into(),
                    version: "3.5.33".into(),
                    ..Status::default()
                },
            );
            node.set_file(text_file("/etc/etcd/etcd.conf", String::new()));
        }
        world.document = document;
        world
    }

    fn node(&mut self, at: usize) -> &mut Node {
        &mut self.document.nodes[at]
    }

    fn facts(&mut self, at: usize) -> &mut Facts {
        &mut self.facts[at].1
    }

    /// Nobody runs.
    fn down(&mut self) {
        self.cluster = Cluster::default();
        self.facts.iter_mut().for_each(|(_, facts)| facts.processes.clear());
    }

    /// The node has nothing at all, and is about to be started.
    fn wipe(&mut self, at: usize) {
        let name = self.facts[at].0.clone();
        self.cluster.replies.remove(&name);
        self.purpose = START;
        *self.facts(at) = Facts {
            folders: vec![Folder {
                data: "/var/lib/etcd".into(),
                wal: "/var/lib/etcd/member/wal".into(),
                ..Folder::default()
            }],
            ..Facts::default()
        };
    }

    fn with<T>(&self, job: impl FnOnce(Fit) -> T) -> T {
        let mut document = self.document.clone();
        for node in &mut document.nodes {
            let settings = self.document.settings(node);
            let wal = settings.wal_dir.map(|wal| format!("ETCD_WAL_DIR={wal}/wal\n"));
            let config = format!(
                "ETCD_NAME={}\nETCD_DATA_DIR={}\n{}",
                node.name,
                settings.data_dir,
                wal.unwrap_or_default()
            );
            let of_config = |file: &&mut pipeline::document::File| {
                file.path.ends_with("/etcd.conf") && file.content.as_deref() == Some("")
            };
            node.files.iter_mut().filter(of_config).for_each(|file| {
                file.content = Some(config.clone());
            });
        }
        let nodes = &document.nodes;
        let of_node = |name: &str| nodes.iter().find(|node| node.name == name);
        let facts = self.facts.iter();
        let facts = facts.filter_map(|(name, facts)| Some((of_node(name)?, facts)));
        job(Fit {
            document: &document,
            facts: facts.collect(),
            cluster: &self.cluster,
            purpose: self.purpose,
            own_ca: if self.has_ca { CA } else { "" },
            pushed: &self.pushed.iter().map(String::as_str).collect(),
        })
    }

    fn found(&self) -> Vec<String> {
        let line = |result: ToolResult| {
            let node = result.node.map(|node| format!("{node}: ")).unwrap_or_default();
            let mark = if result.severity == Severity::Warning { "warning: " } else { "" };
            format!("{node}{mark}{}", result.message)
        };
        self.with(|fit| fit.compare(|_| true).into_iter().map(line).collect())
    }
}

/// Asserts what is found after `edit`; no line: it fits.
#[track_caller]
fn found(edit: impl FnOnce(&mut World), expected: &[&str]) {
    let mut world = World::new();
    edit(&mut world);
    assert_eq!(world.found(), expected);
}

#[test]
fn what_runs_fits() {
    found(|_| {}, &[]);
    found(|w| w.purpose = START, &[]);
    found(World::down, &[]);
    found(|w| w.node(0).settings.client_port = Some(12379), &[]);
    found(|w| w.document.nodes.reverse(), &[]);
    // Hosts that have nothing yet.
    for purpose in [PUSH, START] {
        found(
            |w| {
                w.down();
                (0..3).for_each(|at| w.wipe(at));
                w.purpose = purpose;
            },
            &[],
        );
    }
    // A node of which the document says nothing.
    found(
        |w| {
            w.node(1).files.clear();
            w.node(1).settings.peer_port = Some(1);
        },
        &[],
    );
}

#[test]
fn no_other_version_while_an_alarm_is_raised() {
    let raise = |w: &mut World, member: &str| {
        let alarm = client::Alarm { member_id: member.into(), alarm: "CORRUPT".into() };
        w.cluster.replies.values_mut().for_each(|reply| reply.alarms = vec![alarm.clone()]);
    };
    let release = |w: &mut World, version: &str| {
        let release = format!(r#"{{"version": "{version}", "archives": []}}"#);
        w.document.release = serde_json::from_str(&release).unwrap();
        for at in 0..3 {
            let says = version.replace('v', "etcd Version: ");
            w.facts(at).binaries.insert("/usr/local/bin/etcd".into(), says);
        }
    };
    let line = "alarm CORRUPT: its data differs from that of the other members: remove the member \
                and add it again: v3.5.33 → v3.5.32 only after that";
    for purpose in [PUSH, START, Purpose::Preflight] {
        found(
            |w| {
                w.purpose = purpose;
                raise(w, &id(1));
                release(w, "v3.5.32");
            },
            &[&format!("etcd-02: {line}")],
        );
    }
    // Of a member that is no node of the document.
    found(
        |w| {
            raise(w, "ff");
            release(w, "v3.5.32");
        },
        &[&format!("member ff: {line}")],
    );
    // What stays on its version is to be cured.
    found(
        |w| {
            raise(w, &id(1));
            release(w, "v3.5.33");
        },
        &[],
    );
}

#[test]
fn what_would_keep_etcd_from_starting_is_refused() {
    let addresses = |w: &mut World| w.facts(1).addresses = vec!["192.168.1.101".parse().unwrap()];
    let listen = |w: &mut World, url: &str| {
        let config = format!(
            "ETCD_NAME=etcd-02\nETCD_DATA_DIR=/var/lib/etcd\nETCD_LISTEN_METRICS_URLS={url}\n"
        );
        w.node(1).set_file(text_file("/etc/etcd/etcd.conf", config));
    };
    for url in ["http://192.168.1.101:2381", "http://127.0.0.1:2381", "http://[::]:2381"] {
        found(
            |w| {
                addresses(w);
                listen(w, url);
            },
            &[],
        );
    }
    found(
        |w| {
            addresses(w);
            listen(w, "http://10.9.9.9:2381");
        },
        &[
            "etcd-02: /etc/etcd/etcd.conf sets ETCD_LISTEN_METRICS_URLS to http://10.9.9.9:2381, and \
           the host has no address 10.9.9.9: etcd would not start: change it",
        ],
    );
    // Of a host whose addresses are not known nothing can be said.
    found(|w| listen(w, "http://10.9.9.9:2381"), &[]);
    let drop_in = |w: &mut World, line: &str| {
        let text = |path: &str, content: &str| etcd::unit::Text {
            path: path.into(),
            content: content.into(),
        };
        let config = "ETCD_NAME=etcd-02\nETCD_DATA_DIR=/var/lib/etcd\n";
        w.node(1).set_file(text_file("/etc/etcd/etcd.conf", config.into()));
        w.facts(1).definition = vec![
            text(
                "/etc/systemd/system/etcd.service",
                "[Service]\nEnvironmentFile=/etc/etcd/etcd.conf\nExecStart=/usr/local/bin/etcd\n",
            ),
            text("/etc/systemd/system/etcd.service.d/x.conf", &format!("[Service]\n{line}\n")),
        ];
    };
    found(|w| drop_in(w, "MemoryMax=4G"), &[]);
    let command = |flag| format!("ExecStart=\nExecStart=/usr/local/bin/etcd {flag}");
    found(|w| drop_in(w, &command("--snapshot-count 500")), &[]);
    found(
        |w| drop_in(w, &command("--name etcd-02")),
        &["etcd-02: /etc/systemd/system/etcd.service.d/x.conf gives etcd a flag for ETCD_NAME, \
           which /etc/etcd/etcd.conf sets, and with both etcd does not start: remove the flag"],
    );
    found(
        |w| drop_in(w, "ReadOnlyPaths=/var/lib/etcd"),
        &["etcd-02: /etc/systemd/system/etcd.service.d/x.conf sets ReadOnlyPaths=/var/lib/etcd, \
           with which etcd would not start as etcd.service has it: remove it there"],
    );
}

#[test]
fn a_running_member_of_another_ca_is_noticed_before_a_new_one_is_made() {
    let preflight = |w: &mut World| {
        w.purpose = Purpose::Preflight;
        w.has_ca = false;
    };
    let mut world = World::new();
    preflight(&mut world);
    let found_there = world.found();
    assert_eq!(found_there.len(), 3, "{found_there:?}");
    assert!(found_there[1].starts_with("etcd-02: /etc/etcd/ssl/ca.crt holds the CA with sha256 "));
    assert!(found_there[1].ends_with(
        ", which is not here: run this in the folder that holds the pki of this cluster, or pass \
         --pki or --cacert"
    ));
    found(|w| w.purpose = Purpose::Preflight, &[]);
    // Where nothing runs, a new one does no harm.
    found(
        |w| {
            preflight(w);
            w.down();
        },
        &[],
    );
}

#[test]
fn a_member_keeps_its_name_and_its_peer_url() {
    let port = "etcd-02: the cluster knows it as https://192.168.1.101:2380, the document says \
                https://192.168.1.101:1: change it back, or tell the cluster first, for one \
                member at a time: \
                `etcd-member update --only etcd-02`";
    found(|w| w.node(1).settings.peer_port = Some(1), &[port]);
    // The cluster has been told.
    found(
        |w| {
            w.node(1).settings.peer_port = Some(1);
            w.cluster.members[1].peer_urls = vec!["https://192.168.1.101:1".into()];
        },
        &[],
    );
    found(
        |w| {
            w.down();
            w.node(1).settings.peer_port = Some(1);
        },
        &["etcd-02: the cluster knows it as https://192.168.1.101:2380, the document says \
           https://192.168.1.101:1: change it back, or start the cluster as it is and tell it \
           first: `etcd-member update --only etcd-02`"],
    );
    let renamed = |from: &str, to: &str| {
        format!(
            "{to}: its data is of member {from}, the document calls it {to}: a member keeps \
             its name: change the document back"
        )
    };
    let rename = |w: &mut World| {
        w.node(0).name = "db".into();
        w.facts[0].0 = "db".into();
        if let Some(status) = w.cluster.replies.remove("etcd-01") {
            w.cluster.replies.insert("db".into(), status);
        }
    };
    found(rename, &[&renamed("etcd-01", "db")]);
    found(
        |w| {
            w.down();
            rename(w);
        },
        &[&renamed("etcd-01", "db")],
    );
    found(
        |w| {
            let (a, b) = (w.document.nodes[0].address.clone(), w.document.nodes[1].address.clone());
            (w.node(0).address, w.node(1).address) = (b, a);
            w.facts.swap(0, 1);
            w.facts[0].0 = "etcd-01".into();
            w.facts[1].0 = "etcd-02".into();
            let replies = &mut w.cluster.replies;
            let (a, b) = (replies["etcd-01"].clone(), replies["etcd-02"].clone());
            replies.insert("etcd-01".into(), b);
            replies.insert("etcd-02".into(), a);
        },
        &[&renamed("etcd-02", "etcd-01"), &renamed("etcd-01", "etcd-02")],
    );
    // The host at the new address does not even answer.
    found(
        |w| {
            w.node(2).address = "192.168.1.109".into();
            w.facts.pop();
            w.cluster.replies.remove("etcd-03");
        },
        &["etcd-03: the cluster knows etcd-03 as https://192.168.1.102:2380, the document says \
           https://192.168.1.109:2380: change it back, or replace the member: \
           `scripts/replace-member NODES etcd-03`"],
    );
}

#[test]
fn data_stay_where_they_are() {
    let moved = "etcd-01: its data is in /var/lib/etcd, the document says /srv: change it \
                 back, or stop the member, move it there (`mkdir -p /srv && mv \
                 /var/lib/etcd/member /srv/`), and run this again";
    let srv = |w: &mut World| {
        w.node(0).settings.data_dir = Some("/srv".into());
        let folder =
            Folder { data: "/srv".into(), wal: "/srv/member/wal".into(), ..Folder::default() };
        w.facts(0).folders.push(folder);
    };
    found(srv, &[moved]);
    found(
        |w| {
            w.down();
            srv(w);
        },
        &[moved],
    );
    // Both have some.
    found(
        |w| {
            w.down();
            srv(w);
            w.facts(0).folders[1].log = true;
        },
        &["etcd-01: there is data in /var/lib/etcd and in /srv: the member last ran with \
           /var/lib/etcd: move the one that is not to be used away"],
    );
    // With a log of its own both are moved, one after the other if need be.
    let apart = |has_moved: bool| {
        move |w: &mut World| {
            w.down();
            w.node(0).settings.data_dir = Some("/srv".into());
            w.node(0).settings.wal_dir = Some("/wal".into());
            w.facts(0).config =
                "ETCD_NAME=etcd-01\nETCD_DATA_DIR=/var/lib/etcd\nETCD_WAL_DIR=/old/wal\n".into();
            w.facts(0).marked =
                Some(Place { data: "/var/lib/etcd".into(), wal: "/old/wal".into() });
            let old = &mut w.facts(0).folders[0];
            (old.wal, old.database) = ("/old/wal".into(), !has_moved);
            let [data, wal] = ["/srv", "/wal/wal"].map(str::to_owned);
            let new = Folder { data, wal, database: has_moved, ..Folder::default() };
            w.facts(0).folders.push(new);
        }
    };
    found(
        apart(false),
        &[
            "etcd-01: its data is in /var/lib/etcd, the document says /srv: change it back, or stop the \
           member, move it there (`mkdir -p /srv && mv /var/lib/etcd/member /srv/ && mkdir -p /wal && \
           mv /old/wal /wal/`), and run this again",
        ],
    );
    found(
        apart(true),
        &[
            "etcd-01: its write-ahead log is in /old/wal, the document says /wal/wal: change it back, \
           or stop the member, move it there (`mkdir -p /wal && mv /old/wal /wal/`), and run this \
           again",
        ],
    );
    // It was moved.
    found(
        |w| {
            w.down();
            srv(w);
            let old = &mut w.facts(0).folders[0];
            let new = Folder { data: "/srv".into(), wal: "/srv/member/wal".into(), ..old.clone() };
            (old.database, old.log, old.identity) = (false, false, None);
            w.facts(0).folders[1] = new;
        },
        &[],
    );
    // The configuration on the node says nothing of the old folder any more: the mark does.
    let edited = |w: &mut World| {
        w.down();
        srv(w);
        w.purpose = START;
        w.facts(0).config = "ETCD_NAME=etcd-01\nETCD_DATA_DIR=/srv\n".into();
    };
    found(edited, &[moved]);
    // Nor is the data there.
    found(
        |w| {
            edited(w);
            w.facts(0).folders[0] = Folder {
                data: "/var/lib/etcd".into(),
                wal: "/var/lib/etcd/member/wal".into(),
                ..Folder::default()
            };
        },
        &["etcd-01: its data is lost: there is no write-ahead log in /srv/member/wal, nor in \
           /var/lib/etcd/member/wal, and it has run with the latter: mount the disk that holds it, \
           or start the others (--only), then replace the member: `scripts/replace-member NODES \
           etcd-01`"],
    );
    // One that runs knows better than its mark.
    found(
        |w| {
            w.facts(0).folders.push(Folder {
                data: "/old".into(),
                wal: "/old/member/wal".into(),
                log: true,
                ..Folder::default()
            });
            w.facts(0).marked = Some(Place { data: "/old".into(), wal: "/old/member/wal".into() });
        },
        &[],
    );
    found(
        |w| {
            w.node(0).settings.wal_dir = Some("/wal".into());
            let folder = Folder {
                data: "/var/lib/etcd".into(),
                wal: "/wal/wal".into(),
                database: true,
                ..Folder::default()
            };
            w.facts(0).folders.push(folder);
        },
        &["etcd-01: its write-ahead log is in /var/lib/etcd/member/wal, the document says \
           /wal/wal: change it back, or stop the member, move it there (`mkdir -p /wal && mv \
           /var/lib/etcd/member/wal /wal/`), and run this again"],
    );
    // Not the document has another place, but a file on the node.
    found(
        |w| {
            srv(w);
            w.node(0).settings.data_dir = None;
            w.node(0).files.clear();
            w.purpose = START;
            w.facts(0).config = "ETCD_NAME=etcd-01\nETCD_DATA_DIR=/srv\n".into();
        },
        &[&moved.replace("the document says", "/etc/etcd/etcd.conf says")],
    );
    // It was moved as advised; the configuration on the node still has the old place.
    found(
        |w| {
            w.down();
            w.node(0).settings.wal_dir = Some("/wal".into());
            let old = &mut w.facts(0).folders[0];
            let new = Folder { wal: "/wal/wal".into(), ..old.clone() };
            old.log = false;
            w.facts(0).folders.push(new);
        },
        &[],
    );
    found(|w| w.facts(0).processes[0].user = "root".into(), &[]);
    found(
        |w| {
            let path = "/var/lib/etcd/member/snap/db".to_owned();
            w.facts(0).folders[0].stranger = Some((path, "root".into()));
        },
        &["etcd-01: /var/lib/etcd/member/snap/db belongs to root, and etcd runs as etcd: \
           `chown -R etcd:etcd /var/lib/etcd`"],
    );
    // Another user takes the certificates from the member that runs.
    let other_user = |purpose| {
        move |w: &mut World| {
            w.purpose = purpose;
            w.facts(0).processes[0].user = "kv".into();
            let path = "/var/lib/etcd/member/snap/db".to_owned();
            w.facts(0).folders[0].stranger = Some((path, "kv".into()));
        }
    };
    for purpose in [PUSH, Purpose::Preflight] {
        found(
            other_user(purpose),
            &["etcd-01: etcd runs as kv, and the document says etcd, who alone could read its \
               certificates then: change the document back"],
        );
    }
    found(
        other_user(START),
        &[
            "etcd-01: /var/lib/etcd/member/snap/db belongs to kv, and etcd runs as etcd: `etcd-unit \
           stop --only etcd-01`, then `chown -R etcd:etcd /var/lib/etcd`",
        ],
    );
}

#[test]
fn what_a_member_needs_is_not_replaced_by_any_file() {
    let file = |path: &'static str, content: &'static str| {
        move |w: &mut World| {
            let files = vec![text_file(path, content.into())];
            w.document.nodes.iter_mut().for_each(|node| node.files.clear());
            w.node(0).files = files;
        }
    };
    for (path, content, why) in [
        (
            "/etc/systemd/system/etcd.service",
            "junk",
            "etcd's own unit: for another text of it: `etcd-render --templates`",
        ),
        (
            "/usr/local/bin/etcd",
            "junk",
            "the link to the release that etcd runs: for another: `scripts/upgrade NODES VERSION`",
        ),
        (
            "/etc/etcd/ssl/server.crt",
            "junk",
            "no certificate (PEM), and etcd would serve nobody with it: issue a new one: \
             `etcd-cert issue`",
        ),
        (
            "/etc/etcd/ssl/peer.key",
            "junk",
            "no private key (PEM), and etcd needs one: issue a new one: `etcd-cert issue`",
        ),
        (
            "/etc/etcd/ssl/peer.crt",
            OTHER_CA,
            "a damaged certificate, and etcd would serve nobody with it: issue a new one: \
             `etcd-cert issue`",
        ),
    ] {
        found(file(path, content), &[&format!("etcd-01: {path}: {why}")]);
        // Of an etcd that others have put there nothing is known.
        found(
            |w| {
                file(path, content)(w);
                w.facts(0).processes[0].exe = "/usr/bin/etcd".into();
            },
            &[],
        );
    }
    found(file("/etc/motd", "junk"), &[]);
    let absent = |w: &mut World| {
        file("/etc/etcd/ssl/server.key", "")(w);
        w.node(0).files[0].absent = true;
    };
    found(
        absent,
        &["etcd-01: /etc/etcd/ssl/server.key: etcd needs it: to take etcd off the node: \
           `etcd-unit uninstall`"],
    );
}

#[test]
fn what_a_member_reads_or_passes_stays_open_to_it() {
    let folder = |path: &str, mode: &str| {
        let (path, mode, root) = (path.to_owned(), mode.to_owned(), "root".to_owned());
        let group = root.clone();
        move |w: &mut World| {
            w.document.nodes.iter_mut().for_each(|node| node.files.clear());
            w.node(0).set_directory(pipeline::document::Directory {
                path,
                mode,
                owner: root,
                group,
            });
        }
    };
    for path in ["/etc/etcd", "/var/lib", "/usr/local/lib/etcd-tools", "/etc"] {
        found(
            folder(path, "0700"),
            &[&format!(
                "etcd-01: {path}: etcd, which runs as etcd, could not enter it with mode 0700 and \
                 owner root:root: it is on the way to its files"
            )],
        );
        found(folder(path, "0755"), &[]);
    }
    found(folder("/srv", "0700"), &[]);
    let file = |owner: &'static str| {
        move |w: &mut World| {
            w.document.nodes.iter_mut().for_each(|node| node.files.clear());
            let mut file = text_file("/etc/etcd/etcd.conf", "ETCD_NAME=x".into());
            file.mode = "0600".into();
            file.owner = owner.into();
            file.path = "/etc/etcd/ssl/ca.crt".into();
            file.content = Some(CA.into());
            w.node(0).files = vec![file];
        }
    };
    found(
        file("root"),
        &[
            "etcd-01: /etc/etcd/ssl/ca.crt: etcd, which runs as etcd, could not read it with mode 0600 \
           and owner root:root: set them so that it can",
        ],
    );
    for owner in ["etcd", "998"] {
        found(file(owner), &[]);
    }
}

#[test]
fn a_certificate_of_another_ca_is_named() {
    let key = || rcgen::KeyPair::generate().unwrap();
    let ca = |name: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        rcgen::CertifiedIssuer::self_signed(params, key()).unwrap()
    };
    let (own, other) = (ca("ca"), ca("ca"));
    let of_address = |address: &str| {
        let mut params = rcgen::CertificateParams::new(vec![address.to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        params
    };
    let leaf_key = key();
    let leaf =
        |ca, params: rcgen::CertificateParams| params.signed_by(&leaf_key, ca).unwrap().pem();
    let pushed = |certificate: &str, key: Option<&rcgen::KeyPair>| {
        let (own, certificate) = (own.pem(), certificate.to_owned());
        let key = key.map(rcgen::KeyPair::serialize_pem);
        move |w: &mut World| {
            w.document.nodes.iter_mut().for_each(|node| node.files.clear());
            let mut files = vec![text_file("/etc/etcd/ssl/peer.crt", certificate)];
            let private = |key| pipeline::document::File {
                mode: "0600".into(),
                owner: "etcd".into(),
                ..text_file("/etc/etcd/ssl/peer.key", key)
            };
            files.extend(key.map(private));
            w.node(0).files = files;
            w.facts(0).ca = own;
        }
    };
    let good = leaf(&own, of_address("192.168.1.100"));
    found(pushed(&good, Some(&leaf_key)), &[]);
    found(
        pushed(&leaf(&other, of_address("192.168.1.100")), Some(&leaf_key)),
        &["etcd-01: /etc/etcd/ssl/peer.crt: not issued by the CA of the cluster, and etcd would \
           serve nobody with it: issue a new one: `etcd-cert issue`"],
    );
    // Nor may it be half of a pair, or one for somebody else.
    let both = "put both there: `etcd-cert issue | etcd-push`";
    found(
        pushed(&good, None),
        &[&format!(
            "etcd-01: /etc/etcd/ssl/peer.crt: its other half, /etc/etcd/ssl/peer.key, is not in the \
             document: {both}"
        )],
    );
    found(
        pushed(&good, Some(&key())),
        &[&format!(
            "etcd-01: /etc/etcd/ssl/peer.crt: it does not belong to /etc/etcd/ssl/peer.key of the \
             document: {both}"
        )],
    );
    found(
        pushed(&leaf(&own, of_address("192.168.1.101")), Some(&leaf_key)),
        &["etcd-01: /etc/etcd/ssl/peer.crt: it does not name 192.168.1.100, where the member is \
           asked: `etcd-cert issue`"],
    );
    let mut client = of_address("192.168.1.100");
    client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    found(
        pushed(&leaf(&own, client), Some(&leaf_key)),
        &[
            "etcd-01: /etc/etcd/ssl/peer.crt: it is no certificate for a server, and etcd needs one: \
           `etcd-cert issue`",
        ],
    );
}

#[test]
fn a_cluster_whose_peers_have_no_tls_is_left_to_others() {
    found(
        |w| w.cluster.members[1].peer_urls = vec!["http://192.168.1.101:2380".into()],
        &["etcd-02: the cluster knows it as http://192.168.1.101:2380, the document says \
           https://192.168.1.101:2380: its peers speak without TLS, and these tools with TLS only: \
           leave it to what it was deployed with"],
    );
}

#[test]
fn what_harms_the_cluster_is_refused_whoever_sets_it() {
    let why = |source: &str| {
        format!(
            "etcd-01: {source} sets ETCD_FORCE_NEW_CLUSTER to true, which removes all other members \
             at the next start: remove it there"
        )
    };
    let config = |line: &'static str| {
        move |w: &mut World| {
            w.node(0).files = vec![text_file(
                "/etc/etcd/etcd.conf",
                format!("ETCD_NAME=etcd-01\nETCD_DATA_DIR=/var/lib/etcd\n{line}\n"),
            )];
        }
    };
    let unit = |content: &str| {
        let content = content.to_owned();
        move |w: &mut World| {
            w.node(0).set_unit(pipeline::document::Unit {
                name: layout::UNIT.into(),
                content,
                ..Default::default()
            });
        }
    };
    let by_unit = "[Service]\nEnvironmentFile=/etc/etcd/etcd.conf\nEnvironment=OPTS=-force-new-cluster\n\
                   ExecStart=/usr/local/bin/etcd $OPTS\n";
    for purpose in [PUSH, START, Purpose::Preflight] {
        let set = |edit: &dyn Fn(&mut World)| {
            let mut world = World::new();
            edit(&mut world);
            world.purpose = purpose;
            world.found()
        };
        let forced = config("ETCD_FORCE_NEW_CLUSTER=true");
        assert_eq!(set(&|w| forced(w)), [why("/etc/etcd/etcd.conf")]);
        assert_eq!(set(&|w| unit(by_unit)(w)), [why("/etc/systemd/system/etcd.service")]);
        let unsynced = config("ETCD_UNSAFE_NO_FSYNC=true");
        assert_eq!(
            set(&|w| unsynced(w)),
            [
                "etcd-01: /etc/etcd/etcd.conf sets ETCD_UNSAFE_NO_FSYNC to true: ETCD_UNSAFE_NO_FSYNC \
              loses acknowledged writes in a power cut: leave it out"
            ]
        );
        let by_file = |w: &mut World| {
            w.facts(0).manager.insert("ETCD_CONFIG_FILE".into(), "/x.yml".into());
        };
        assert_eq!(
            set(&by_file),
            [
                "etcd-01: systemctl set-environment sets ETCD_CONFIG_FILE to /x.yml: ETCD_CONFIG_FILE \
              makes etcd ignore every other setting"
            ]
        );
    }
    // A drop-in among any files.
    found(
        |w| {
            w.document.nodes.iter_mut().for_each(|node| node.files.clear());
            w.node(0).files = vec![text_file(
                "/etc/systemd/system/etcd.service.d/f.conf",
                "[Service]\nEnvironment=ETCD_FORCE_NEW_CLUSTER=true\n".into(),
            )];
        },
        &[&why("/etc/systemd/system/etcd.service.d/f.conf")],
    );
    // The same for all services, and what systemd gives to all units.
    for (path, content) in [
        (
            "/etc/systemd/system/service.d/f.conf",
            "[Service]\nEnvironment=ETCD_FORCE_NEW_CLUSTER=true\n",
        ),
        (
            "/etc/systemd/system.conf.d/x.conf",
            "[Manager]\nDefaultEnvironment=A=b ETCD_FORCE_NEW_CLUSTER=true\n",
        ),
    ] {
        found(
            |w| {
                w.document.nodes.iter_mut().for_each(|node| node.files.clear());
                w.node(0).files = vec![text_file(path, content.into())];
            },
            &[&why(path)],
        );
    }
    // Read already or not, and no matter who has put it there.
    let default = "default\t/etc/systemd/system.conf\tETCD_FORCE_NEW_CLUSTER=true";
    for is_read in [false, true] {
        found(
            |w| {
                w.facts(0).line(default).unwrap();
                if is_read {
                    w.facts(0).line("manager\tETCD_FORCE_NEW_CLUSTER=true").unwrap();
                }
            },
            &[&why("/etc/systemd/system.conf")],
        );
    }
    // What lets everybody in.
    found(
        |w| {
            w.purpose = START;
            w.node(0).files.clear();
            let told = &mut w.facts(0).processes[0].variables;
            told.insert("ETCD_CLIENT_CERT_AUTH".into(), "true".into());
        },
        &["etcd-01: nothing gives its next start ETCD_CLIENT_CERT_AUTH, and the member runs with \
           true: remove what unsets it (UnsetEnvironment=), or put its own configuration there: \
           `etcd-render | etcd-push`"],
    );
}

#[test]
fn a_port_that_is_not_to_be_had_is_named() {
    let listens = |port: u16, user: Option<&str>| {
        let user = user.map(str::to_owned);
        move |w: &mut World| {
            let urls = format!("https://192.168.1.100:{port}");
            let config = format!(
                "ETCD_NAME=etcd-01\nETCD_DATA_DIR=/var/lib/etcd\nETCD_LISTEN_CLIENT_URLS={urls}\n"
            );
            w.node(0).settings.user = user;
            w.node(0).files = vec![text_file("/etc/etcd/etcd.conf", config)];
            let facts = w.facts(0);
            for line in [
                "listening\t6401A8C0:115C",
                "listening\t0100007F:115D",
                "listening\t00000000000000000000000000000000:115E",
                "unprivileged\t1024",
            ] {
                facts.line(line).unwrap();
            }
            let own = "https://192.168.1.100:2380".to_owned();
            facts.processes[0].variables.insert("ETCD_LISTEN_PEER_URLS".into(), own);
        }
    };
    let line = |port: u16, why: &str| {
        format!(
            "etcd-01: /etc/etcd/etcd.conf has etcd listen at https://192.168.1.100:{port}, where it \
             could not start: {why}"
        )
    };
    let taken = "another program listens there: stop that, or set another port";
    found(listens(4444, None), &[&line(4444, taken)]);
    found(listens(4446, None), &[&line(4446, taken)]);
    // Only on the loopback, where it listens itself, and one that is free.
    for port in [4445, 2380, 4447] {
        found(listens(port, None), &[]);
    }
    let low = "only root may listen at a port below 1024: set another port";
    found(listens(22, None), &[&line(22, low)]);
}

#[test]
fn what_a_check_has_announced_of_members_is_taken_for_done() {
    let world = World::new();
    let mut document = world.document.clone();
    for (node, message) in [
        (0, "would update peer URL https://192.168.1.100:2380 → https://192.168.1.100:1"),
        (1, "would remove member etcd-02 (https://192.168.1.101:2380)"),
        (1, "would add it to the cluster, as a learner"),
    ] {
        let result = ToolResult::would_change(message).on(&document.nodes[node].name);
        document.results.push(ToolResult { tool: "etcd-member".into(), ..result });
    }
    document.nodes[0].settings.peer_port = Some(1);
    let mut members = world.cluster.members.clone();
    Announced::of(&document).apply(&document, &mut members);
    let found: Vec<_> = members.iter().map(|m| format!("{} {}", m.name, m.peer_urls[0])).collect();
    assert_eq!(
        found,
        [
            "etcd-01 https://192.168.1.100:1",
            "etcd-03 https://192.168.1.102:2380",
            " https://192.168.1.101:2380",
        ]
    );
}

#[test]
fn a_log_where_systemd_alone_has_it_is_named() {
    let moved = |w: &mut World| {
        w.purpose = START;
        w.node(0).files.clear();
        w.facts(0).manager.insert("ETCD_WAL_DIR".into(), "/srv/w".into());
    };
    found(
        moved,
        &[
            "etcd-01: its write-ahead log is in /var/lib/etcd/member/wal, systemctl set-environment \
           says /srv/w: remove it there",
        ],
    );
}

#[test]
fn a_file_in_the_place_of_a_folder_is_named() {
    for purpose in [PUSH, Purpose::Preflight, START] {
        found(
            |w| {
                w.purpose = purpose;
                w.facts(0).line("blocked\t/srv/file").unwrap();
            },
            &["etcd-01: /srv/file: a file is in the place of the folder: move it away"],
        );
    }
}

#[test]
fn data_of_others_are_not_used() {
    let identity = |member: &str, cluster: &str| {
        Some(Identity { member: member.into(), cluster: cluster.into() })
    };
    let mixed = |advice: &str| {
        [("etcd-01", "d", "etcd-02", "c"), ("etcd-02", "c", "etcd-01", "d"), ("etcd-03", "c", "etcd-01", "d")]
            .map(|(node, own, other, its)| {
                format!("{node}: its data is of cluster {own}, that of {other} is of cluster {its}: {advice}")
            })
    };
    let advice = "stop the wrong one and move its /var/lib/etcd/member away, or take it out of the \
                  document";
    let stopped = |w: &mut World| drop(w.cluster.replies.remove("etcd-01"));
    found(
        |w| {
            stopped(w);
            w.facts(0).folders[0].identity = identity("f", "d");
        },
        &mixed(advice).each_ref().map(String::as_str),
    );
    found(
        |w| {
            w.down();
            w.facts(0).folders[0].identity = identity(&id(1), "c");
        },
        &[
            &format!(
                "etcd-01: its data is of member {}, and so is that of etcd-02: {advice}",
                id(1)
            ),
            &format!(
                "etcd-02: its data is of member {}, and so is that of etcd-01: {advice}",
                id(1)
            ),
        ],
    );
    // It stands in the document twice.
    let same = |other: &str| {
        format!("it is the same host as {other} in the document: take one of the two out")
    };
    found(
        |w| {
            stopped(w);
            w.facts(0).folders[0].identity = identity(&id(1), "c");
            (0..2).for_each(|at| w.facts(at).boot = "b".into());
        },
        &[&format!("etcd-01: {}", same("etcd-02")), &format!("etcd-02: {}", same("etcd-01"))],
    );
    found(
        |w| {
            stopped(w);
            w.facts(0).folders[0].identity = identity("f", "c");
        },
        &["etcd-01: its data is of member f, which the cluster has removed: move \
           /var/lib/etcd/member away, then add the node: `scripts/grow NODES`, or `etcd-member \
           add` before etcd-render"],
    );
    // Another host has its place: what lies here is of no interest.
    found(
        |w| {
            stopped(w);
            w.facts(0).folders[0].identity = identity("f", "c");
            w.cluster.members[0].peer_urls = vec!["https://192.168.1.104:2380".into()];
        },
        &["etcd-01: the cluster knows etcd-01 as https://192.168.1.104:2380, the document says \
           https://192.168.1.100:2380: change it back, or replace the member: \
           `scripts/replace-member NODES etcd-01`"],
    );
    // Some were restored, and some were not.
    let advice = "a restore was interrupted: finish it, with the same file: `etcd-snapshot restore \
                  FILE`";
    found(
        |w| {
            w.down();
            w.purpose = START;
            w.facts(0).folders[0].identity = identity("f", "d");
            w.facts(0).mark = Some(layout::MARK_RESTORED.into());
        },
        &mixed(advice).each_ref().map(String::as_str),
    );
    // Files may be put there, so that it can be finished.
    found(
        |w| {
            w.down();
            w.facts(0).folders[0].identity = identity("f", "d");
            w.facts(0).mark = Some(layout::MARK_RESTORED.into());
        },
        &[],
    );
}

#[test]
fn nobody_starts_empty_beside_a_cluster() {
    let lost = "etcd-01: its data is lost: there is no write-ahead log in \
                /var/lib/etcd/member/wal, and it has run with one: mount the disk that holds it";
    let replace = "replace the member: `scripts/replace-member NODES etcd-01`";
    found(
        |w| {
            w.wipe(0);
            w.facts(0).mark = Some(layout::MARK_READY.into());
        },
        &[&format!("{lost}, or {replace}")],
    );
    // Nothing of it is there, not even the mark.
    found(
        |w| w.wipe(0),
        &[&format!(
            "etcd-01: there is no write-ahead log in /var/lib/etcd/member/wal, and the cluster \
             knows it as a member that has run: etcd was removed from this host, or the host was \
             installed again: {replace}"
        )],
    );
    // It runs, and what it has is out of sight: its mark is the last that keeps it from an empty
    // start.
    for hide in [
        |folder: &mut Folder| (folder.log, folder.database) = (false, false),
        |folder: &mut Folder| folder.log = false,
    ] {
        for purpose in [PUSH, START] {
            found(
                |w| {
                    w.purpose = purpose;
                    hide(&mut w.facts(0).folders[0]);
                    w.facts(0).folders[0].identity = None;
                },
                &["etcd-01: etcd runs, and its data is not in /var/lib/etcd/member/wal any more: \
                   something is mounted over it, or it was moved, and at its next start the \
                   member would be without it: undo that before it is stopped"],
            );
        }
    }
    let mut world = World::new();
    world.purpose = START;
    world.facts(0).folders[0].log = false;
    assert!(!world.with(|fit| fit.facts.iter().any(|(n, facts)| fit.mark_is_void(n, facts))));
    // Of a unit of others that is shown other folders than the host has, nothing is known.
    found(
        |w| {
            w.facts(0).folders[0].database = false;
            let path = "/etc/systemd/system/etcd.service".into();
            let content = "[Service]\nEnvironmentFile=/etc/etcd/etcd.conf\n\
                           BindPaths=/srv/etcd:/var/lib/etcd\n";
            w.facts(0).definition.push(Text { path, content: content.into() });
        },
        &[],
    );
    let gone = |node: &str| {
        format!(
            "{node}: there is no write-ahead log in /var/lib/etcd/member/wal, and the cluster \
             knows it as a member that has run: etcd was removed from this host, or the host was \
             installed again: as most members have lost theirs, have what a survivor has put on \
             all nodes: `scripts/recover NODES FILE`"
        )
    };
    found(
        |w| {
            w.wipe(0);
            w.wipe(1);
        },
        &[&gone("etcd-01"), &gone("etcd-02")],
    );
    found(
        |w| {
            w.wipe(0);
            w.cluster.members.remove(0);
        },
        &["etcd-01: it is not a member of the cluster that runs: add it first: `scripts/grow \
           NODES`, or `etcd-member add` before etcd-render"],
    );
    // It was added, and is to join.
    let added = |w: &mut World| {
        w.wipe(0);
        w.cluster.members[0].name.clear();
        w.cluster.members[0].client_urls.clear();
    };
    found(
        added,
        &["etcd-01: it was added to the cluster that runs, and would start a cluster of its own: \
           set its initialClusterState to \"existing\": `scripts/grow NODES`, or `etcd-member add` \
           before etcd-render"],
    );
    let existing = |w: &mut World| {
        w.node(0).settings.initial_cluster_state = Some(ClusterState::Existing);
    };
    found(
        |w| {
            added(w);
            existing(w);
        },
        &[],
    );
    // The first start of a new cluster was cut off: its members are known.
    found(
        |w| {
            w.wipe(0);
            w.cluster.members[0].client_urls.clear();
        },
        &[],
    );
    // The mark of the member that it replaces.
    let mut world = World::new();
    added(&mut world);
    existing(&mut world);
    world.facts(0).mark = Some(layout::MARK_READY.into());
    assert_eq!(world.found(), [] as [&str; 0]);
    let void = world.with(|fit| {
        fit.facts.iter().map(|(node, facts)| fit.mark_is_void(node, facts)).collect::<Vec<_>>()
    });
    assert_eq!(void, [true, false, false]);
    let world = World::new();
    assert!(!world.with(|fit| fit.facts.iter().any(|(n, facts)| fit.mark_is_void(n, facts))));
}

#[test]
fn a_new_cluster_is_made_only_where_there_has_never_been_one() {
    let wiped = |nodes: &'static [usize]| {
        move |w: &mut World| {
            w.down();
            nodes.iter().for_each(|at| w.wipe(*at));
        }
    };
    let beside = |node: &str, other: &str| {
        format!(
            "{node}: /var/lib/etcd is empty, and {other} has data: a new cluster is made only \
             when no node has any: start the others first (--only), so that the cluster can be \
             asked"
        )
    };
    let recover = |said: String| {
        said + ", or, where most members have lost theirs for good, have what a survivor has put \
                on all nodes: `scripts/recover NODES FILE`"
    };
    found(wiped(&[1]), &[&beside("etcd-02", "etcd-01")]);
    let both = ["etcd-02", "etcd-03"].map(|node| recover(beside(node, "etcd-01")));
    let both = both.each_ref().map(|said| said.as_str());
    found(wiped(&[1, 2]), &both);
    found(
        |w| {
            wiped(&[0, 1])(w);
            w.facts(0).mark = Some(layout::MARK_READY.into());
        },
        &[
            "etcd-01: its data is lost: there is no write-ahead log in /var/lib/etcd/member/wal, \
             and it has run with one: mount the disk that holds it, or as most members have lost \
             theirs, have what a survivor has put on all nodes: `scripts/recover NODES FILE`",
            &recover(beside("etcd-02", "etcd-03")),
        ],
    );
    // That was deployed before there were marks.
    found(
        |w| {
            wiped(&[1, 2])(w);
            w.facts(0).mark = None;
        },
        &both,
    );
    let silent = |node: &str| {
        format!(
            "{node}: /var/lib/etcd is empty, and etcd-03 did not answer: a new cluster is made \
             only when every node has answered, and none has data"
        )
    };
    found(
        |w| {
            wiped(&[0, 1])(w);
            w.facts.pop();
        },
        &[&silent("etcd-01"), &silent("etcd-02")],
    );
    // All data are gone, and a mark says that there were some.
    let lost = "etcd-01: its data is lost: there is no write-ahead log in \
                /var/lib/etcd/member/wal, and it has run with one: mount the disk that holds \
                it, or start the others (--only), then replace the member: \
                `scripts/replace-member NODES etcd-01`";
    found(
        |w| {
            wiped(&[0, 1, 2])(w);
            w.facts(0).mark = Some(layout::MARK_READY.into());
        },
        &[
            lost,
            &beside("etcd-02", "etcd-01").replace("has data", "has had data"),
            &beside("etcd-03", "etcd-01").replace("has data", "has had data"),
        ],
    );
    // A restore was cut off between two of its moves.
    let interrupted = "a restore was interrupted: finish it, with the same file: `etcd-snapshot \
                       restore FILE`";
    found(
        |w| {
            wiped(&[0])(w);
            w.facts(0).mark = Some(layout::MARK_RESTORED.into());
        },
        &[&format!(
            "etcd-01: there is no write-ahead log in /var/lib/etcd/member/wal: {interrupted}"
        )],
    );
    // The first start was cut off.
    found(
        |w| {
            wiped(&[1, 2])(w);
            w.facts(0).mark = Some("starting".into());
        },
        &[],
    );
    // Pushing files starts nothing.
    found(
        |w| {
            wiped(&[1, 2])(w);
            w.purpose = PUSH;
        },
        &[],
    );
}

#[test]
fn an_etcd_of_others_is_left_alone() {
    found(
        |w| w.facts(0).unit = Some("/lib/systemd/system/etcd.service".into()),
        &["etcd-01: /lib/systemd/system/etcd.service belongs to an etcd that these tools did \
           not install: a new unit would override it and hide its data in /var/lib/etcd: \
           remove its package, or leave this node out"],
    );
    found(
        |w| {
            w.facts(0).processes[0].unit = "kv.service".into();
            w.facts(0).processes[0].exe = "/opt/etcd".into();
        },
        &["etcd-01: process 7 (/opt/etcd, in kv.service) is an etcd that these tools did not \
           install: to keep it, use etcd-health, etcd-snapshot and etcd-member alone; to deploy \
           here, stop and remove it first"],
    );
}

#[test]
fn versions_go_in_steps() {
    let wanted = |version: &'static str| {
        move |w: &mut World| {
            w.document.cluster = Some(pipeline::document::Cluster {
                version: Some(version.into()),
                ..Default::default()
            });
        }
    };
    found(
        |w| {
            wanted("v3.6.16")(w);
            w.document.release = Some(release("v3.6.16", false));
        },
        &[],
    );
    // What follows would run with what was rendered for another.
    found(
        wanted("v3.6.16"),
        &["etcd-01: its configuration is rendered for etcd 3.6, and v3.5.33 runs: render it for \
           that, or take the step first: `scripts/upgrade NODES v3.6.16`"],
    );
    let refused = "etcd-01: v3.5.33 → v3.4.23: etcd 3.4 cannot read the data of 3.5: keep 3.5, \
                   or restore a snapshot that etcd 3.4 took";
    found(wanted("v3.4.23"), &[refused]);
    // Nobody runs: what lies there was written by the binary that is installed.
    found(
        |w| {
            w.down();
            wanted("v3.4.23")(w);
        },
        &[refused],
    );
    // What nobody asked for is for a new cluster only.
    let by_default = |wanted: &'static str| {
        move |w: &mut World| {
            w.document.release = Some(release(wanted, true));
        }
    };
    found(by_default("v3.5.33"), &[]);
    let refused = "etcd-01: etcd v3.5.33 is there, and nobody asked for v3.6.16, which is for a new \
                   cluster: pass the version: `etcd-fetch v3.5.33`";
    found(by_default("v3.6.16"), &[refused]);
    found(
        |w| {
            w.down();
            by_default("v3.6.16")(w);
        },
        &[refused],
    );
    let refused = "etcd-01: v3.5.33 → v3.4.23: etcd 3.4 cannot read the data of 3.5: keep 3.5, \
                   or restore a snapshot that etcd 3.4 took";
    // Nor is what the member wrote there any more.
    found(
        |w| {
            w.down();
            w.facts(0).folders[0].log = false;
            w.facts(0).folders[0].database = false;
            w.facts(0).mark = Some(layout::MARK_READY.into());
            w.facts.truncate(1);
            w.document.nodes.truncate(1);
            wanted("v3.4.23")(w);
        },
        &[refused],
    );
    found(
        |w| {
            wanted("v3.6.16")(w);
            w.cluster.replies.get_mut("etcd-02").unwrap().version = "3.5.16".into();
        },
        &["etcd-02: v3.5.16 → v3.6.16: every member must run v3.5.32 or later first: upgrade \
           v3.5.16 → v3.5.33 → v3.6.16"],
    );
    found(
        |w| {
            w.purpose = START;
            let said = "timeout: failed to run command".to_owned();
            w.facts(1).binaries.insert("/usr/local/bin/etcd".into(), said);
        },
        &["etcd-02: /usr/local/bin/etcd does not run on this host (timeout: failed to run \
           command): have it put there again: `etcd-fetch v3.5.33 < NODES | etcd-cert issue | \
           etcd-render | etcd-push`"],
    );
    let release = |w: &mut World| {
        w.purpose = START;
        let binary = "/usr/local/bin/etcd";
        w.facts(1).binaries.insert(binary.into(), "etcd Version: 3.5.16".into());
        w.document.release = Some(release("v3.5.33", false));
        assert!(w.facts(1).is_broken(binary, "v3.5.33"));
        assert!(!w.facts(1).is_broken(binary, "v3.5.16"));
    };
    found(release, &["etcd-02: /usr/local/bin/etcd is v3.5.16, not v3.5.33: run etcd-push again"]);
    // With --check etcd-push has only announced the other one.
    found(
        |w| {
            release(w);
            w.pushed.push("etcd-02".into());
        },
        &[],
    );
    // Nobody goes up while the cluster is being brought down; within a minor version one may.
    let downgrading = |to: &'static str| {
        move |w: &mut World| {
            w.cluster.replies.values_mut().for_each(|reply| reply.version = "3.6.16".into());
            w.cluster.replies.get_mut("etcd-02").unwrap().downgrade_target = Some("3.5.0".into());
            wanted(to)(w);
        }
    };
    found(
        downgrading("v3.7.3"),
        &["etcd-02: v3.6.16 → v3.7.3: a downgrade to 3.5 is enabled: complete it with \
           scripts/upgrade, or take it back: `etcd-maintain downgrade cancel`"],
    );
    found(downgrading("v3.6.12"), &[]);
}

#[test]
fn another_token_is_refused() {
    let token = |node: &str| {
        format!(
            "{node}: its cluster was made with the token \"k8s-etcd-cluster\", which stays, and \
             cluster.token is \"other\": set it to \"k8s-etcd-cluster\", or leave it out"
        )
    };
    found(
        |w| {
            w.document.cluster = Some(pipeline::document::Cluster {
                token: Some("other".into()),
                ..Default::default()
            });
        },
        &[&token("etcd-01"), &token("etcd-02"), &token("etcd-03")],
    );
    found(
        |w| {
            w.document.nodes.pop();
            w.facts.pop();
        },
        &[EXTRA],
    );
    // One that was only rendered, and one of which the IDs tell nothing, for all were
    // added later.
    let no_effect = |node: &str, token: &str| {
        format!(
            "{node}: warning: it was started with the token \"{token}\": \"k8s-etcd-cluster\" has \
             no effect on a cluster that is there"
        )
    };
    let mut world = World::new();
    let variables = &mut world.facts(1).processes[0].variables;
    variables.insert("ETCD_INITIAL_CLUSTER_TOKEN".into(), "other".into());
    // It was changed in its configuration.
    assert_eq!(world.found(), [""; 0]);
    for (at, member) in world.cluster.members.iter_mut().enumerate() {
        member.peer_urls = vec![format!("https://moved-{at}:2380")];
    }
    assert!(world.found().contains(&no_effect("etcd-02", "other")), "{:?}", world.found());
}

const EXTRA: &str = "member etcd-03 of the cluster (https://192.168.1.102:2380) is not in the \
                     document: add it there, or remove it: `etcd-member remove etcd-03`, or, where \
                     a new node takes its place: `scripts/replace-member NODES etcd-03`";

#[test]
fn a_member_that_is_no_node_is_named_by_every_tool() {
    for purpose in [PUSH, START, Purpose::Preflight] {
        found(
            |w| {
                w.purpose = purpose;
                w.document.nodes.pop();
                w.facts.pop();
            },
            &[EXTRA],
        );
    }
}

#[test]
fn what_a_host_has_that_keeps_a_member_out_is_known_before_it_is_added() {
    let mut world = World::new();
    world.down();
    world.wipe(2);
    let obstacles = |world: &World| -> Vec<String> {
        let (node, facts) = (&world.document.nodes[2], &world.facts[2].1);
        obstacles(&world.document, node, facts).into_iter().map(|found| found.message).collect()
    };
    assert_eq!(obstacles(&world), [""; 0]);
    world.facts(2).masked = true;
    world.facts(2).ca = OTHER_CA.into();
    world.node(2).set_file(text_file("/etc/etcd/ssl/ca.crt", CA.into()));
    let masked = "etcd.service is masked on the node: run systemctl unmask etcd.service there first, with \
         --runtime where the mask is in /run";
    let [first, second] = &obstacles(&world)[..] else { panic!("{:?}", obstacles(&world)) };
    assert_eq!(first, masked);
    assert!(
        second.starts_with("/etc/etcd/ssl/ca.crt holds the CA with sha256 ")
            && second.ends_with(
                ", which the document does not contain: run this with the pki folder that this \
                 cluster was made with, or remove it"
            ),
        "{second}"
    );
    world.facts(2).unit = Some("/usr/lib/systemd/system/etcd.service".into());
    assert_eq!(obstacles(&world).len(), 2);
    // What is left of another member there is overwritten.
    *world.facts(2) = Facts {
        config: "ETCD_NAME=etcd-04\nETCD_LISTEN_PEER_URLS=https://10.0.0.1:2380\n".into(),
        addresses: vec!["192.168.1.102".parse().unwrap()],
        ..world.facts(2).clone()
    };
    world.facts(2).masked = false;
    world.facts(2).unit = None;
    world.facts(2).ca = CA.into();
    world.node(2).files.clear();
    assert_eq!(obstacles(&world), [""; 0]);
}

#[test]
fn what_is_left_of_another_member_is_no_data() {
    let left_over = |purpose| {
        move |w: &mut World| {
            w.down();
            (0..3).for_each(|at| w.wipe(at));
            w.node(1).files.clear();
            w.facts(1).config = "ETCD_NAME=etcd-04\n".into();
            w.purpose = purpose;
        }
    };
    found(left_over(Purpose::Preflight), &[]);
    found(
        left_over(START),
        &[
            "etcd-02: /etc/etcd/etcd.conf sets ETCD_NAME to etcd-04, the document calls it etcd-02: \
           put its own configuration there: `etcd-render | etcd-push`",
        ],
    );
}

#[test]
fn a_member_listens_where_its_process_was_told_to() {
    let listens = |told: &str, url: &str| {
        let mut world = World::new();
        world.facts(0).processes[0].variables.insert("ETCD_LISTEN_PEER_URLS".into(), told.into());
        world.facts(0).listens_at(url)
    };
    let own = "https://192.168.1.100:2380";
    assert_eq!(listens(own, own), Some(true));
    assert_eq!(listens(own, "https://192.168.1.100:12380"), Some(false));
    assert_eq!(listens(own, "https://192.168.1.103:2380"), Some(false));
    assert_eq!(listens("https://0.0.0.0:2380", own), Some(true));
    assert_eq!(listens("https://[fd00:0::1]:2380", "https://[fd00::1]:2380"), Some(true));
    assert_eq!(World::new().facts(0).listens_at(own), None);
    // A name may be of any address; of another port it is not.
    assert_eq!(listens(own, "https://one:2380"), None);
    assert_eq!(listens(own, "https://one:12380"), Some(false));
    assert_eq!(listens("https://one:2380", "https://one:2380"), Some(true));
    // Where only its flags say so, the sockets tell.
    let mut world = World::new();
    world.facts(0).listening = vec![("192.168.1.100".parse().unwrap(), 12380)];
    assert_eq!(world.facts(0).listens_at(own), Some(false));
    assert_eq!(world.facts(0).listens_at("https://192.168.1.100:12380"), Some(true));
}

#[test]
fn what_was_put_into_a_configuration_that_stays_makes_no_other_member() {
    let edited = |line: &'static str| {
        move |w: &mut World| {
            w.purpose = START;
            for node in &mut w.document.nodes {
                node.files.clear();
            }
            let listen = "https://192.168.1.100:2380";
            let variables = &mut w.facts(0).processes[0].variables;
            variables.insert("ETCD_LISTEN_PEER_URLS".into(), listen.into());
            w.facts(0).config += &format!("ETCD_LISTEN_PEER_URLS={listen}\n{line}\n");
        }
    };
    found(edited("ETCD_LOG_LEVEL=warn"), &[]);
    found(edited("ETCD_FORCE_NEW_CLUSTER=false"), &[]);
    found(edited("ETCD_LISTEN_PEER_URLS=https://0.0.0.0:2380"), &[]);
    let config = "etcd-01: /etc/etcd/etcd.conf sets";
    let advice = "put that back there, or its own configuration: `etcd-render | etcd-push`";
    found(
        edited("ETCD_FORCE_NEW_CLUSTER=true"),
        &[&format!(
            "{config} ETCD_FORCE_NEW_CLUSTER to true, which removes all other members at the next \
             start: remove it there"
        )],
    );
    found(
        edited("ETCD_LISTEN_PEER_URLS=https://192.168.1.100:2390"),
        &[&format!(
            "{config} ETCD_LISTEN_PEER_URLS to https://192.168.1.100:2390, and the member runs \
             with https://192.168.1.100:2380: {advice}"
        )],
    );
    found(
        edited("ETCD_NAME=other"),
        &[&format!("{config} ETCD_NAME to other, and the member runs with etcd-01: {advice}")],
    );
    // One that was started so is called by its own name again with a restart.
    found(
        |w| {
            edited("ETCD_LOG_LEVEL=warn")(w);
            w.cluster.members[0].name = "other".into();
            w.facts(0).processes[0].variables.insert("ETCD_NAME".into(), "other".into());
        },
        &[],
    );
}

#[test]
fn links_in_another_folder_are_named() {
    let moved = |unit: &'static str| {
        move |w: &mut World| {
            let archive = r#"{"arch": "amd64", "local": "/a", "sha256": "0a", "sizeBytes": 1,
                "binaries": [{"name": "etcd", "sha256": "0b"}, {"name": "etcdctl", "sha256": "0c"}]}"#;
            let release = format!(r#"{{"version": "v3.5.33", "archives": [{archive}]}}"#);
            w.document.release = Some(serde_json::from_str(&release).unwrap());
            w.node(0).settings.bin_dir = Some("/opt/bin".into());
            let path = "/etc/systemd/system/etcd.service".to_owned();
            w.facts(0).definition.push(etcd::unit::Text { path, content: unit.into() });
        }
    };
    found(
        moved("[Service]\nEnvironmentFile=/etc/etcd/etcd.conf\nExecStart=/usr/local/bin/etcd\n"),
        &[
            "etcd-01: warning: its unit starts etcd from /usr/local/bin, the document says /opt/bin: \
           the links in /usr/local/bin stay, and lead to the old release after the next upgrade: \
           remove them when etcd-unit start has run: `rm /usr/local/bin/etcd \
           /usr/local/bin/etcdctl`",
        ],
    );
    found(moved("[Service]\nEnvironmentFile=/etc/etcd/etcd.conf\nExecStart=/opt/bin/etcd\n"), &[]);
    // Keys, too, wherever the process has read them.
    let keys_in = |folder: &'static str| {
        move |w: &mut World| {
            let variables = &mut w.facts(0).processes[0].variables;
            variables.insert("ETCD_KEY_FILE".into(), format!("{folder}/server.key"));
            variables.insert("ETCD_PEER_KEY_FILE".into(), format!("{folder}/peer.key"));
        }
    };
    found(
        keys_in("/old/ssl"),
        &["etcd-01: warning: its private keys will be read from /etc/etcd/ssl, and stay where \
           they are, too: remove them when etcd-unit start has run: `rm /old/ssl/peer.key \
           /old/ssl/server.key`"],
    );
    found(keys_in("/etc/etcd/ssl"), &[]);
}

const CA: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
const OTHER_CA: &str = "-----BEGIN CERTIFICATE-----\nAAAB\n-----END CERTIFICATE-----";

#[test]
fn a_ca_is_replaced_only_by_one_that_contains_it() {
    let ca = |content: String| {
        move |w: &mut World| {
            w.node(1).set_file(text_file("/etc/etcd/ssl/ca.crt", content));
        }
    };
    found(ca(CA.into()), &[]);
    found(ca(format!("# the new one\n{OTHER_CA}\n\n{CA}\n")), &[]);
    let refused = format!(
        "etcd-02: /etc/etcd/ssl/ca.crt holds the CA with sha256 {}, which the document does \
         not contain: run this with the pki folder that this cluster was made with, or pass \
         --replace-ca to cut off whoever trusts that CA only, and everybody until the members have been restarted: see etcd-cert ca --help",
        disk::sha256(&[0, 0, 0])
    );
    found(ca(OTHER_CA.into()), &[&refused]);
    // Whatever else the document brings, and however the CA would go.
    let alone = |edit: fn(&mut pipeline::document::File)| {
        move |w: &mut World| {
            w.document.release = None;
            w.document.nodes.iter_mut().for_each(|node| {
                node.files.clear();
                node.units.clear();
            });
            let mut file = text_file("/etc/etcd/ssl/ca.crt", OTHER_CA.into());
            edit(&mut file);
            w.node(1).set_file(file);
        }
    };
    found(alone(|_| {}), &[&refused]);
    found(alone(|file| file.content = Some("junk".into())), &[&refused]);
    let absent = |file: &mut pipeline::document::File| {
        file.content = None;
        file.absent = true;
    };
    found(alone(absent), &[&refused]);
    found(alone(|file| file.content = Some(CA.into())), &[]);
    found(
        |w| {
            ca(OTHER_CA.into())(w);
            w.purpose = Purpose::Push { replace_ca: true };
        },
        &[],
    );
    // There is none yet.
    found(
        |w| {
            ca(OTHER_CA.into())(w);
            w.facts(1).ca.clear();
        },
        &[],
    );
}

#[test]
fn the_certificates_of_others_are_not_overwritten() {
    let ca = |w: &mut World| {
        w.node(1).set_file(text_file("/etc/etcd/ssl/ca.crt", CA.into()));
        w.facts(1).ca.clear();
        w.facts(1).credential = Some("/etc/etcd/ssl/server.key".into());
    };
    let refused = "etcd-02: /etc/etcd/ssl/server.key is there, and no ca.crt beside it: whose it \
                   is cannot be known: set another certDir, or pass --replace-ca to overwrite it";
    found(ca, &[refused]);
    // Its own CA was lost, and heals.
    found(
        |w| {
            ca(w);
            w.facts(1).config += "ETCD_CERT_FILE=/etc/etcd/ssl/server.crt\n";
        },
        &[],
    );
}

#[test]
fn nothing_beside_the_configuration_hides_a_member_from_its_clients() {
    let listen = |value: &'static str| {
        move |w: &mut World| {
            w.facts(1).manager.insert("ETCD_LISTEN_CLIENT_URLS".into(), value.into());
        }
    };
    found(
        listen("https://127.0.0.1:2379"),
        &["etcd-02: systemctl set-environment sets ETCD_LISTEN_CLIENT_URLS to \
           https://127.0.0.1:2379, where no client reaches it at 192.168.1.101: remove it there"],
    );
    // A list of nodes brings no configuration that it could be compared with.
    found(
        |w| {
            w.purpose = Purpose::Preflight;
            w.node(1).files.clear();
            let value = "https://127.0.0.1:2380".to_owned();
            w.facts(1).manager.insert("ETCD_LISTEN_PEER_URLS".into(), value);
        },
        &["etcd-02: systemctl set-environment sets ETCD_LISTEN_PEER_URLS to \
           https://127.0.0.1:2380, where no other member reaches it at 192.168.1.101: remove it \
           there"],
    );
    for fine in ["https://127.0.0.1:2379,https://192.168.1.101:2379", "https://0.0.0.0:2379"] {
        found(listen(fine), &[]);
    }
}

/// The first bytes of a log that etcd 3.5.16 began for a new cluster.
#[test]
fn a_log_says_whose_it_is() {
    let head = [
        "04000000000000840804100000000000200000000000000008011087f495ba0a1a1608cdc0aecf95",
        "da88d1820110feba95859fe3ceb3fb010e0000000000008208051087ca97ef061a04080010000000",
        "7700000000000081080210c4d0cdbe061a6d080110011801226508001000188ae2c9bb92be9af344",
        "22557b226964223a",
    ];
    let head = hex::decode(head.concat()).unwrap();
    let identity =
        Identity { member: "82a222d159eba04d".into(), cluster: "fb673b19f0a55d7e".into() };
    assert_eq!(Identity::of_log(&head), Some(identity));
    for cut in 0..72 {
        let _ = Identity::of_log(&head[..cut]);
    }
    assert_eq!(Identity::of_log(&[0xff; 128]), None);
}

#[test]
fn a_configuration_of_another_member_is_not_pushed() {
    let why = |is: &str, name: &str, expected: &str| {
        format!(
            "etcd-02: /etc/etcd/etcd.conf: the document's own has {is} for {name}, and must have \
             {expected}: run etcd-render again, with a template that sets it so"
        )
    };
    let config = |text: &'static str| {
        move |w: &mut World| w.node(1).set_file(text_file("/etc/etcd/etcd.conf", text.into()))
    };
    found(config("ETCD_NAME=etcd-02\nETCD_DATA_DIR=/var/lib/etcd\n"), &[]);
    found(
        config("ETCD_NAME=etcd-01\nETCD_DATA_DIR=/var/lib/etcd\n"),
        &[&why("etcd-01", "ETCD_NAME", "etcd-02")],
    );
    found(
        config("ETCD_NAME=etcd-02\nETCD_DATA_DIR=/srv\nETCD_WAL_DIR=/wal\n"),
        &[&why("/srv", "ETCD_DATA_DIR", "/var/lib/etcd"), &why("/wal", "ETCD_WAL_DIR", "nothing")],
    );
    found(
        |w| {
            w.node(1).settings.wal_dir = Some("/wal".into());
            config("ETCD_NAME=etcd-02\nETCD_DATA_DIR=/var/lib/etcd\nETCD_WAL_DIR=/other\n")(w);
        },
        &[&why("/other", "ETCD_WAL_DIR", "/wal/wal")],
    );
    found(
        config("\n"),
        &[
            &why("nothing", "ETCD_NAME", "etcd-02"),
            &why("nothing", "ETCD_DATA_DIR", "/var/lib/etcd"),
        ],
    );
    // What is read at the first start only matters before it.
    let others = "ETCD_NAME=etcd-02\nETCD_DATA_DIR=/var/lib/etcd\n\
                  ETCD_INITIAL_CLUSTER=etcd-02=https://192.168.1.101:2380\n\
                  ETCD_INITIAL_CLUSTER_TOKEN=k8s-etcd-cluster\n";
    found(config(others), &[]);
    let members = "etcd-01=https://192.168.1.100:2380,etcd-02=https://192.168.1.101:2380,\
                   etcd-03=https://192.168.1.102:2380";
    found(
        |w| {
            w.wipe(1);
            config(others)(w);
        },
        &[&why("etcd-02=https://192.168.1.101:2380", "ETCD_INITIAL_CLUSTER", members)],
    );
}

#[test]
fn what_would_start_etcd_otherwise_is_refused() {
    let unit = |command: &'static str| {
        move |w: &mut World| {
            let content = format!(
                "[Service]\nUser=etcd\nEnvironmentFile=/etc/etcd/etcd.conf\nExecStart={command}\n"
            );
            w.node(1).units = vec![Unit { name: layout::UNIT.into(), content, ..Unit::default() }];
        }
    };
    for (command, program) in [
        ("/usr/local/bin/etcd --log-level warn", ""),
        ("-/opt/kv/etcd", ""),
        ("/usr/bin/env ETCD_FORCE_NEW_CLUSTER=true /usr/local/bin/etcd", "/usr/bin/env"),
        ("+/bin/sh -c 'exec etcd'", "/bin/sh"),
        ("/usr/local/bin/etcd-wrapper", "/usr/local/bin/etcd-wrapper"),
    ] {
        let refused = format!(
            "etcd-02: etcd.service of the document starts {program}, and what that has etcd do with \
             the data that is there cannot be told: have its ExecStart= start etcd itself"
        );
        let refused = if program.is_empty() { vec![] } else { vec![refused.as_str()] };
        found(unit(command), &refused);
        // What it has been started with so far has shown what it does.
        found(
            |w| {
                unit(command)(w);
                let content = w.node(1).units[0].content.clone();
                w.facts(1).definition = vec![Text { path: "unit".into(), content }];
            },
            &[],
        );
    }
    // Its user is that of the unit, which is root where it says nothing.
    let strange = |text: &'static str| {
        move |w: &mut World| {
            w.facts(1).folders[0].stranger = Some(("/var/lib/etcd/member".into(), "root".into()));
            w.facts(1).definition = vec![Text { path: "unit".into(), content: text.into() }];
        }
    };
    found(
        strange("[Service]\nEnvironmentFile=/etc/etcd/etcd.conf\nExecStart=/usr/local/bin/etcd\n"),
        &[],
    );
    found(
        strange(
            "[Service]\nUser=etcd\nEnvironmentFile=/etc/etcd/etcd.conf\n\
             ExecStart=/usr/local/bin/etcd\n",
        ),
        &[
            "etcd-02: /var/lib/etcd/member belongs to root, and etcd runs as etcd: `chown -R etcd:etcd \
           /var/lib/etcd`",
        ],
    );
    // A unit that systemd reads before that of these tools.
    found(
        |w| {
            w.facts(1).unit = Some("/etc/systemd/system.control/etcd.service".into());
            w.purpose = START;
            unit("/usr/local/bin/etcd")(w);
        },
        &["etcd-02: systemd reads /etc/systemd/system.control/etcd.service in the place of \
           /etc/systemd/system/etcd.service: remove it there"],
    );
}

#[test]
fn a_configuration_that_hides_a_member_or_fills_its_quota_is_refused() {
    let config = |more: &'static str| {
        move |w: &mut World| {
            w.cluster.replies.values_mut().for_each(|status| status.db_size_bytes = 20480);
            let text = format!("ETCD_NAME=etcd-02\nETCD_DATA_DIR=/var/lib/etcd\n{more}\n");
            w.node(1).set_file(text_file("/etc/etcd/etcd.conf", text));
        }
    };
    let conf = "etcd-02: /etc/etcd/etcd.conf sets";
    for (more, why) in [
        ("ETCD_LISTEN_CLIENT_URLS=https://192.168.1.101:2379,https://127.0.0.1:2379", ""),
        ("ETCD_LISTEN_CLIENT_URLS=https://0.0.0.0:2379", ""),
        (
            "ETCD_LISTEN_CLIENT_URLS=https://127.0.0.1:2379",
            "ETCD_LISTEN_CLIENT_URLS to https://127.0.0.1:2379, where no client reaches it at \
             192.168.1.101: change it in the document",
        ),
        ("ETCD_ADVERTISE_CLIENT_URLS=https://etcd.example.com:2379", ""),
        ("ETCD_ADVERTISE_CLIENT_URLS=https://10.0.0.9:2379", ""),
        (
            "ETCD_ADVERTISE_CLIENT_URLS=https://192.168.1.100:2379",
            "ETCD_ADVERTISE_CLIENT_URLS to https://192.168.1.100:2379, which leads clients to \
             another member, or to themselves: change it in the document",
        ),
        ("ETCD_MAX_REQUEST_BYTES=1048576", ""),
        (
            "ETCD_MAX_REQUEST_BYTES=64",
            "ETCD_MAX_REQUEST_BYTES to 64, and etcd would refuse all that is larger: set 65536 or more",
        ),
        ("ETCD_ENABLE_GRPC_GATEWAY=true", ""),
        (
            "ETCD_ENABLE_GRPC_GATEWAY=false",
            "ETCD_ENABLE_GRPC_GATEWAY to false, and etcd would answer no HTTP, with which these \
             tools ask it: leave it out",
        ),
        (
            "ETCD_LISTEN_CLIENT_HTTP_URLS=https://192.168.1.101:2381",
            "ETCD_LISTEN_CLIENT_HTTP_URLS to https://192.168.1.101:2381, and etcd would answer \
             HTTP, with which these tools ask it, at no other URL: leave it out",
        ),
        (
            "ETCD_CLIENT_CERT_ALLOWED_HOSTNAME=apiserver",
            "ETCD_CLIENT_CERT_ALLOWED_HOSTNAME to apiserver, and etcd would refuse clients whose \
             certificates do not name it, as those of etcd-cert do not: leave it out",
        ),
        // Without the certificates of its peers it cannot be told.
        ("ETCD_PEER_CERT_ALLOWED_CN=etcd-peer", ""),
        ("ETCD_QUOTA_BACKEND_BYTES=20481", ""),
        (
            "ETCD_QUOTA_BACKEND_BYTES=16384",
            "ETCD_QUOTA_BACKEND_BYTES to 16384, and the database has 20480 bytes: the cluster would \
             take no more writes: set a larger quota, or compact and defragment it first",
        ),
    ] {
        let expected = format!("{conf} {why}");
        let expected = if why.is_empty() { vec![] } else { vec![expected.as_str()] };
        found(config(more), &expected);
        // Of one that is stopped, what the others have counts.
        found(
            |w| {
                config(more)(w);
                w.facts(1).processes.clear();
                w.cluster.replies.remove("etcd-02");
            },
            &expected,
        );
    }
    // What may cure a cluster that is full is not refused.
    found(
        |w| {
            config("ETCD_QUOTA_BACKEND_BYTES=16384")(w);
            w.facts(1).processes.clear();
            w.cluster.replies.remove("etcd-02");
            let alarm = client::Alarm { member_id: "1".into(), alarm: "NOSPACE".into() };
            w.cluster.replies.values_mut().for_each(|status| status.alarms = vec![alarm.clone()]);
        },
        &[],
    );
}

#[test]
fn what_etcd_would_ignore_of_a_configuration_is_said() {
    let version = |w: &mut World, version: &str| {
        let cluster = pipeline::document::Cluster::default();
        w.document.cluster =
            Some(pipeline::document::Cluster { version: Some(version.into()), ..cluster });
        let text = "ETCD_NAME=etcd-02\nETCD_DATA_DIR=/var/lib/etcd\nETCD_QUOTA_BACKEND_BYTE=1\n\
                    ETCD_ENABLE_V2=true\nHOME=/\n";
        w.node(1).set_file(text_file("/etc/etcd/etcd.conf", text.into()));
    };
    let line = "etcd-02: warning: /etc/etcd/etcd.conf: ETCD_QUOTA_BACKEND_BYTE: unknown to etcd \
                3.5, which ignores it: check the name";
    found(|w| version(w, "v3.5.33"), &[line]);
    // Of those of its settings etcd-render has warned.
    found(
        |w| {
            version(w, "v3.5.33");
            let name = "ETCD_QUOTA_BACKEND_BYTE".to_owned();
            w.node(1).settings.env = [(name, "1".to_owned())].into();
        },
        &[],
    );
}

#[test]
fn all_folders_of_data_that_is_given_up_are_named() {
    let folders = |wal: &str, database, log| {
        let identity = Some(Identity { member: "a".into(), cluster: "c".into() });
        let (data, wal) = ("/d".to_owned(), wal.to_owned());
        let folder = Folder { data, wal, database, log, identity, ..Folder::default() };
        Facts { folders: vec![folder], ..Facts::default() }.data_folders_of("a")
    };
    assert_eq!(folders("/d/member/wal", true, true), ["/d/member"]);
    assert_eq!(folders("/d/member/wal", false, true), ["/d/member"]);
    assert_eq!(folders("/w/wal", true, true), ["/d/member", "/w/wal"]);
    assert_eq!(folders("/w/wal", false, true), ["/w/wal"]);
}
