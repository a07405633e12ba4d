//! What the next start would have etcd be, and what must not become of a member by it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use etcd::layout;
use etcd::unit::Setting;
use pipeline::document::Unit;

use super::compare::NodeFit;
use super::facts::{Process, is_heard};
use super::{Purpose, environment, own};
use crate::units;

impl NodeFit<'_> {
    /// What on the node would tell the member at its next start to be something else
    /// than the document says.
    pub(super) fn overridden(&self, next: &environment::Variables) -> Vec<String> {
        let Self { fit, node, .. } = self;
        if !environment::is_brought(fit.document, node) {
            if let Some(why) = self.hidden(next).or_else(|| self.edited(next)) {
                return vec![why];
            }
            let name = next.get("ETCD_NAME").filter(|name| name.value != node.name);
            let name = name.filter(|_| !fit.cluster.replies.contains_key(&node.name));
            let name = name.filter(|_| self.has_log());
            return name.map(|name| self.renamed(&name.value)).into_iter().collect();
        }
        let wanted = environment::wanted(fit.document, node);
        let unfit = self.unfit(&wanted);
        if !unfit.is_empty() {
            return unfit;
        }
        let names: BTreeSet<_> = next.keys().chain(wanted.keys()).collect();
        let differs = names.into_iter().filter(|name| {
            let value = |of: &environment::Variables| of.get(*name).map(|set| set.value.clone());
            let no_effect = etcd::settings::is_bootstrap_only(name) && self.has_log();
            value(next) != value(&wanted) && !no_effect
        });
        let refused = differs.filter_map(|name| {
            let why = pipeline::reserved_variable(name)?;
            let says = match wanted.get(name) {
                Some(set) => format!("the document sets it to {}", set.value),
                None => "the document does not set it".into(),
            };
            Some(match next.get(name) {
                Some(set) => format!(
                    "{} sets {name} to {}, {says}: remove it there: {name} {why}",
                    set.source, set.value
                ),
                None => format!("a drop-in of {} unsets {name}, {says}: remove it", layout::UNIT),
            })
        });
        let refused: Vec<_> = refused.collect();
        if refused.is_empty() { self.hidden(next).into_iter().collect() } else { refused }
    }

    /// What must never be told a member, whoever tells it.
    pub(super) fn harmful(&self, next: &environment::Variables) -> Option<String> {
        if let Some(why) = forces_new_cluster(next) {
            return Some(why);
        }
        // An etcd of others may be told by a file how to run.
        if !self.facts.is_installed() && !environment::is_brought(self.fit.document, self.node) {
            return None;
        }
        let is_harmful = |name: &str, value: &str| match name {
            "ETCD_CONFIG_FILE" => !value.is_empty(),
            "ETCD_UNSAFE_NO_FSYNC" => etcd::value::boolean(value) == Some(true),
            _ => false,
        };
        let (name, set) = next.iter().find(|(name, set)| is_harmful(name, &set.value))?;
        let why = pipeline::reserved_variable(name)?;
        Some(format!("{} sets {name} to {}: {name} {why}", set.source, set.value))
    }

    /// A unit of the document that has something else start etcd: what that tells a member with
    /// data is not to be seen. One that is there already has shown what it does.
    pub(super) fn wrapped(&self) -> Option<String> {
        let unit = self.unit_of_document()?;
        let command = units::values(&unit.content, "ExecStart").next_back()?;
        let program = program(command)?;
        let mut there = self.facts.definition.iter();
        let is_there =
            there.any(|text| units::values(&text.content, "ExecStart").any(|old| old == command));
        let is_etcd = program.rsplit('/').next() == Some("etcd");
        (self.has_log() && !is_etcd && !is_there).then(|| {
            format!(
                "{} of the document starts {program}, and what that has etcd do with the data that \
                 is there cannot be told: have its ExecStart= start etcd itself",
                layout::UNIT
            )
        })
    }

    /// What a drop-in of the document would have the member be at its next start, other than it is.
    pub(super) fn otherwise(&self, next: &environment::Variables) -> Option<String> {
        let process = self.facts.process()?;
        let there = environment::on_node(self.fit.document, self.node, self.facts);
        let value = |of: &environment::Variables, name: &str| of.get(name).map(|s| s.value.clone());
        let names: BTreeSet<_> = next.keys().chain(there.keys()).collect();
        names.into_iter().find_map(|name| {
            let why = pipeline::reserved_variable(name)?;
            let (new, runs) = (value(next, name), process.variables.get(name));
            let is_same = new == value(&there, name) || new.as_ref() == runs;
            if is_same || etcd::settings::is_bootstrap_only(name) && self.has_log() {
                return None;
            }
            let runs = runs.map_or("without it".to_owned(), |runs| format!("with {runs}"));
            let what = match next.get(name) {
                Some(set) => format!("{} sets {name} to {}", set.source, set.value),
                None => format!("a drop-in of the document unsets {name}"),
            };
            Some(format!("{what}, and the member runs {runs}: leave that out: {name} {why}"))
        })
    }

    /// The configuration of another member, with which a node without data is about to be
    /// started.
    pub(super) fn leftover(&self) -> Option<String> {
        let Self { fit, node, facts, .. } = self;
        if !matches!(fit.purpose, Purpose::Start { .. })
            || environment::is_brought(fit.document, node)
            || self.has_log()
        {
            return None;
        }
        let next = environment::next_start(fit.document, node, facts);
        let name = next.get("ETCD_NAME").filter(|name| name.value != node.name)?;
        Some(format!(
            "{} sets ETCD_NAME to {}, the document calls it {}: put its own configuration there: \
             `etcd-render | etcd-push`",
            name.source, name.value, node.name
        ))
    }

    /// What the configuration that the document brings makes of the member, where the
    /// document says otherwise itself: it was edited, or a template of the user's made it.
    fn unfit(&self, wanted: &environment::Variables) -> Vec<String> {
        let settings = &self.settings;
        let wal = settings.wal_dir.as_deref();
        let wal = wal.map(|wal| layout::wal_folder(&settings.data_dir, Some(wal)));
        let own = [
            ("ETCD_NAME", Some(&self.node.name)),
            ("ETCD_DATA_DIR", Some(&settings.data_dir)),
            ("ETCD_WAL_DIR", wal.as_ref()),
        ];
        // Read at the first start only, and then of all members the same. The data of a
        // restored member has its own.
        let members = settings.initial_cluster.clone();
        let members = members.unwrap_or_else(|| self.fit.document.initial_cluster());
        let token = self.fit.document.token().to_owned();
        let first = [("ETCD_INITIAL_CLUSTER", &members), ("ETCD_INITIAL_CLUSTER_TOKEN", &token)];
        let first = first.into_iter().filter(|(name, _)| wanted.contains_key(*name));
        let is_read = !self.has_log() && !self.facts.was_restored();
        let first = first.filter(|_| is_read).map(|(name, value)| (name, Some(value)));
        let config = layout::config_file(&settings.config_dir);
        let mut units = self.node.units.iter().filter(|unit| unit.name == layout::UNIT);
        let reads = |unit: &Unit| {
            let mut files = units::values(&unit.content, "EnvironmentFile");
            files.any(|file| file.trim_start_matches('-') == config)
        };
        if !wanted.contains_key("ETCD_NAME") && units.any(|unit| !reads(unit)) {
            return vec![format!(
                "{} of the document does not read {config}: run etcd-render again, with a template \
                 that has EnvironmentFile={config}",
                layout::UNIT
            )];
        }
        let in_order =
            |value: &String| value.split(',').map(str::to_owned).collect::<BTreeSet<_>>();
        let differs = own.into_iter().chain(first).filter_map(|(name, value)| {
            let set = wanted.get(name).map(|set| &set.value);
            let shown = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
            let (is, expected) = (shown(set), shown(value));
            (set.map(in_order) != value.map(in_order)).then(|| {
                format!(
                    "{config}: the document's own has {is} for {name}, and must have {expected}: \
                     run etcd-render again, with a template that sets it so"
                )
            })
        });
        differs.collect()
    }

    /// What was put into the configuration on the node, which stays, and would have the member
    /// be alone, or another, or where no other reaches it, after its next start.
    fn edited(&self, next: &environment::Variables) -> Option<String> {
        const LISTEN: &str = "ETCD_LISTEN_PEER_URLS";
        const NAME: &str = "ETCD_NAME";
        if !matches!(self.fit.purpose, Purpose::Start { .. }) {
            return None;
        }
        if let Some(why) = self.unsecured(next) {
            return Some(why);
        }
        let runs = |name: &str| self.facts.process()?.variables.get(name);
        let name = next.get(NAME).filter(|set| {
            set.value != self.node.name && runs(NAME).is_some_and(|name| *name != set.value)
        });
        let listen = next.get(LISTEN).filter(|set| {
            runs(LISTEN).is_some_and(|listens| is_heard(listens, &self.url))
                && !is_heard(&set.value, &self.url)
        });
        let (name, set) = name.map(|set| (NAME, set)).or(listen.map(|set| (LISTEN, set)))?;
        Some(format!(
            "{} sets {name} to {}, and the member runs with {}: put that back there, or its own \
             configuration: `etcd-render | etcd-push`",
            set.source,
            set.value,
            runs(name)?
        ))
    }

    /// What beside the configuration would have the member begin anew, or let everybody in: another
    /// data directory, other certificates, or none. How others run theirs is for them to change.
    fn unsecured(&self, next: &environment::Variables) -> Option<String> {
        const NEEDED: [&str; 9] = [
            "ETCD_DATA_DIR",
            "ETCD_CLIENT_CERT_AUTH",
            "ETCD_TRUSTED_CA_FILE",
            "ETCD_CERT_FILE",
            "ETCD_KEY_FILE",
            "ETCD_PEER_CLIENT_CERT_AUTH",
            "ETCD_PEER_TRUSTED_CA_FILE",
            "ETCD_PEER_CERT_FILE",
            "ETCD_PEER_KEY_FILE",
        ];
        let process = self.facts.process().filter(|_| self.facts.is_installed())?;
        NEEDED.into_iter().find_map(|name| {
            let value = process.variables.get(name)?;
            let Some(set) = next.get(name) else {
                return Some(format!(
                    "nothing gives its next start {name}, and the member runs with {value}: remove \
                     what unsets it (UnsetEnvironment=), or put its own configuration there: \
                     `etcd-render | etcd-push`"
                ));
            };
            // Its own configuration may be newer than the member.
            let is_beside = set.source.contains(".d/") || set.source == environment::MANAGER;
            (is_beside && set.value != *value).then(|| {
                format!(
                    "{} sets {name} to {}, and the member runs with {value}: remove it there",
                    set.source, set.value
                )
            })
        })
    }

    /// What would have nobody reach the member at its node's address any more: its clients, or
    /// its peers. A configuration that the document does not bring is for others to change.
    fn hidden(&self, next: &environment::Variables) -> Option<String> {
        const ADVERTISE: &str = "ETCD_ADVERTISE_CLIENT_URLS";
        const LISTEN: [(&str, &str); 2] =
            [("ETCD_LISTEN_CLIENT_URLS", "client"), ("ETCD_LISTEN_PEER_URLS", "other member")];
        let address = self.node.ip()?;
        let own = layout::config_file(&self.settings.config_dir);
        let is_brought = environment::is_brought(self.fit.document, self.node);
        let serves =
            |url: &str| etcd::url::ip(url).is_none_or(|ip| ip == address || ip.is_unspecified());
        let undo = |set: &Setting| match set.source == own {
            true => "change it in the document",
            false => "remove it there",
        };
        let hidden = LISTEN.into_iter().find_map(|(name, who)| {
            let set = next.get(name)?;
            let is_judged = set.source != own || is_brought;
            (is_judged && !set.value.split(',').any(serves)).then(|| {
                format!(
                    "{} sets {name} to {}, where no {who} reaches it at {address}: {}",
                    set.source,
                    set.value,
                    undo(set)
                )
            })
        });
        // Clients learn from the member list where to go.
        let astray = |url: &str| {
            let mut others = self.fit.document.nodes.iter().filter(|o| o.name != self.node.name);
            etcd::url::ip(url)
                .is_some_and(|ip| ip.is_loopback() || others.any(|o| o.ip() == Some(ip)))
        };
        let advertised = next.get(ADVERTISE).filter(|_| is_brought);
        let advertised = advertised.filter(|set| set.value.split(',').any(astray));
        hidden.or_else(|| {
            let set = advertised?;
            Some(format!(
                "{} sets {ADVERTISE} to {}, which leads clients to another member, or to \
                 themselves: {}",
                set.source,
                set.value,
                undo(set)
            ))
        })
    }

    /// A quota that the member does not have yet, and that its database fills already. With the
    /// first member that has it the whole cluster takes no more writes. Where it does not answer,
    /// the smallest database of those that do counts.
    fn quota(&self, next: &environment::Variables) -> Option<String> {
        const QUOTA: &str = "ETCD_QUOTA_BACKEND_BYTES";
        // Of none, or 0 (DefaultQuotaBytes in etcd's server/storage); one below is no limit.
        const DEFAULT: i64 = 2 << 30;
        let bytes = |value: Option<&String>| match value.and_then(|value| value.parse().ok()) {
            Some(0) | None => DEFAULT,
            Some(..0) => i64::MAX,
            Some(bytes) => bytes,
        };
        let replies = &self.fit.cluster.replies;
        let own = replies.get(&self.node.name).map(|status| status.db_size_bytes);
        let size = own.or_else(|| replies.values().map(|status| status.db_size_bytes).min())?;
        let process = self.facts.process();
        let old = process.map(|process| bytes(process.variables.get(QUOTA)));
        let set = next.get(QUOTA)?;
        let new = bytes(Some(&set.value));
        // Where the cluster is full already, it is no reason to refuse what may cure it.
        let mut alarms = replies.values().flat_map(|status| &status.alarms);
        let is_new = match old {
            Some(old) => new < old,
            None => !alarms.any(|alarm| alarm.alarm == "NOSPACE"),
        };
        let is_full = is_new && u64::try_from(new).is_ok_and(|new| new <= size);
        (is_full && self.fit.purpose != Purpose::Preflight).then(|| {
            format!(
                "{} sets {QUOTA} to {new}, and the database has {size} bytes: the cluster would \
                 take no more writes: set a larger quota, or compact and defragment it first",
                set.source
            )
        })
    }

    /// A limit with which the member would refuse what clients usually write.
    fn deaf(next: &environment::Variables) -> Option<String> {
        const LIMIT: &str = "ETCD_MAX_REQUEST_BYTES";
        const LEAST: u64 = 64 << 10;
        let set = next.get(LIMIT)?;
        (set.value.parse::<u64>().ok()? < LEAST).then(|| {
            format!(
                "{} sets {LIMIT} to {}, and etcd would refuse all that is larger: set {LEAST} or \
                 more",
                set.source, set.value
            )
        })
    }

    /// A setting with which the member, where it runs without, would shut out these tools, its
    /// clients, or its peers.
    fn shut(&self, next: &environment::Variables) -> Option<String> {
        const GATEWAY: &str = "ETCD_ENABLE_GRPC_GATEWAY";
        const SHUT: [(&str, &str); 3] = [
            (GATEWAY, "etcd would answer no HTTP, with which these tools ask it: leave it out"),
            (
                "ETCD_LISTEN_CLIENT_HTTP_URLS",
                "etcd would answer HTTP, with which these tools ask it, at no other URL: leave it \
                 out",
            ),
            (
                "ETCD_CLIENT_CERT_ALLOWED_HOSTNAME",
                "etcd would refuse clients whose certificates do not name it, as those of \
                 etcd-cert do not: leave it out",
            ),
        ];
        const PEERS: &str = "ETCD_PEER_CERT_ALLOWED_CN";
        let process = self.facts.process();
        let is_new = |name: &str| {
            let set = next.get(name).filter(|set| !set.value.is_empty())?;
            let runs = process.and_then(|process| process.variables.get(name));
            let is_harmless = name == GATEWAY && etcd::value::boolean(&set.value) != Some(false);
            let is_judged =
                process.is_some() || environment::is_brought(self.fit.document, self.node);
            (is_judged && runs != Some(&set.value) && !is_harmless).then_some(set)
        };
        let sets = |set: &Setting, name: &str, why: &str| {
            format!("{} sets {name} to {}, and {why}", set.source, set.value)
        };
        let shut = SHUT.iter().find_map(|(name, why)| Some(sets(is_new(name)?, name, why)));
        shut.or_else(|| {
            let set = is_new(PEERS)?;
            let mut others = self.fit.document.nodes.iter().filter(|o| o.name != self.node.name);
            let (other, name) = others.find_map(|other| {
                let name = own::peer_name(self.fit.document, other)?;
                (!set.value.split(',').any(|allowed| allowed == name)).then_some((other, name))
            })?;
            let why = format!(
                "it would refuse {}, whose certificate has the name {name}: leave it out",
                other.name
            );
            Some(sets(set, PEERS, &why))
        })
    }

    /// What would keep etcd from starting, whatever its configuration: a drop-in, or an
    /// address that the host does not have.
    pub(super) fn obstacle(&self, next: &environment::Variables) -> Option<String> {
        let Self { fit, node, facts, .. } = self;
        if let Some(found) = environment::obstacle(fit.document, node, facts) {
            let is_deadly = found.is_deadly();
            let etcd::unit::Obstacle { path, key, value } = found;
            if is_deadly {
                return Some(format!(
                    "{path} sets {key}={value}, after which systemd ends an etcd that runs well: \
                     leave it out"
                ));
            }
            return Some(format!(
                "{path} sets {key}={value}, with which etcd would not start as {} has it: remove \
                 it there",
                layout::UNIT
            ));
        }
        if let Some(why) = self.quota(next) {
            return Some(why);
        }
        if let Some(why) = Self::deaf(next).or_else(|| self.shut(next)).or_else(|| self.port(next))
        {
            return Some(why);
        }
        let shadowing =
            next.iter().find_map(|(name, set)| Some((name, set, set.shadowed.as_ref()?)));
        if let Some((name, flag, variable)) = shadowing {
            return Some(format!(
                "{} gives etcd a flag for {name}, which {variable} sets, and with both etcd does \
                 not start: remove the flag",
                flag.source
            ));
        }
        // The configuration that is there is yet to be overwritten.
        let own = layout::config_file(&self.settings.config_dir);
        let passes = matches!(fit.purpose, Purpose::Preflight | Purpose::Join)
            && !environment::is_brought(fit.document, node);
        let listens = next.iter().filter(|(name, set)| {
            name.starts_with("ETCD_LISTEN_")
                && name.ends_with("_URLS")
                && !facts.addresses.is_empty()
                && !(passes && set.source == own)
        });
        let urls =
            listens.flat_map(|(name, set)| set.value.split(',').map(move |url| (name, set, url)));
        urls.into_iter().find_map(|(name, set, url)| {
            let ip = etcd::url::ip(url)?;
            let there = ip.is_unspecified() || ip.is_loopback() || facts.addresses.contains(&ip);
            (!there).then(|| {
                format!(
                    "{} sets {name} to {url}, and the host has no address {ip}: etcd would not \
                     start: change it",
                    set.source
                )
            })
        })
    }

    /// A port at which the member could not listen. What is not rendered yet is taken from the
    /// document; etcd-preflight has a check of its own.
    pub(super) fn port(&self, next: &environment::Variables) -> Option<String> {
        const LISTEN: [&str; 2] = ["ETCD_LISTEN_CLIENT_URLS", "ETCD_LISTEN_PEER_URLS"];
        let Self { fit, node, facts, .. } = self;
        let document = fit.document;
        let is_to_come = fit.purpose == Purpose::Join && !environment::is_brought(document, node);
        let urls: Vec<(String, String)> = match fit.purpose {
            Purpose::Preflight => return None,
            _ if is_to_come => {
                let urls = [document.listen_client_urls(node), document.listen_peer_url(node)];
                urls.map(|urls| ("the document".to_owned(), urls)).into()
            }
            _ => {
                let set = LISTEN.iter().filter_map(|name| next.get(*name));
                set.map(|set| (set.source.clone(), set.value.clone())).collect()
            }
        };
        // Where its own process listens, as far as that tells.
        let own = facts.process().map(Process::urls);
        if own.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let parsed = |url: &str| {
            let (_, _, port) = etcd::url::parts(url)?;
            Some((etcd::url::ip(url)?, port.parse::<u16>().ok()?))
        };
        let own: Vec<_> = own.iter().flatten().filter_map(|url| parsed(url)).collect();
        let all = urls.iter().flat_map(|(by, urls)| urls.split(',').map(move |url| (by, url)));
        let mut new = all.filter_map(|(by, url)| Some((by, url, parsed(url)?)));
        let has_capability = || {
            let of_document = node.units.iter().map(|unit| &unit.content);
            let mut texts = of_document.chain(facts.definition.iter().map(|text| &text.content));
            texts.any(|text| text.contains("AmbientCapabilities"))
        };
        new.find_map(|(by, url, (ip, port))| {
            if own.iter().any(|(_, its)| *its == port) {
                return None;
            }
            let meets = |(other, at): &(IpAddr, u16)| {
                *at == port && (*other == ip || other.is_unspecified() || ip.is_unspecified())
            };
            let why = if facts.listening.iter().any(meets) {
                "another program listens there: stop that, or set another port"
            } else if port < facts.unprivileged && self.settings.user != "root" && !has_capability()
            {
                "only root may listen at a port below 1024: set another port"
            } else {
                return None;
            };
            Some(format!("{by} has etcd listen at {url}, where it could not start: {why}"))
        })
    }
}

/// Why a member with the variables `next` at its next start would be alone after it.
pub(super) fn forces_new_cluster(next: &environment::Variables) -> Option<String> {
    const FORCE: &str = "ETCD_FORCE_NEW_CLUSTER";
    let is_harmless = |value: &str| value.is_empty() || etcd::value::boolean(value) == Some(false);
    let Setting { source, value, .. } = next.get(FORCE).filter(|set| !is_harmless(&set.value))?;
    Some(format!(
        "{source} sets {FORCE} to {value}, which removes all other members at the next start: \
         remove it there"
    ))
}

/// The program of a command line of `ExecStart=`.
pub(super) fn program(command: &str) -> Option<&str> {
    // systemd takes these before it for what is to be done about it.
    let program = command.split_whitespace().next()?;
    Some(program.trim_start_matches(['-', '@', ':', '+', '!', '|']))
}
