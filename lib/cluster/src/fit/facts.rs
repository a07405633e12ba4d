//! What of etcd runs and lies on a node, as the node tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use etcd::unit::Text;
use etcd::{Version, layout};
use pipeline::Document;
use pipeline::document::Node;
use remote::{Error, Query};

use super::environment::{self, Place};
use super::identity::Identity;

/// Says what of etcd runs and lies on a node.
const SCRIPT: &str = include_str!("node.sh");

/// Says where on a node there are logs of members.
const SEARCH: &str = include_str!("search.sh");

/// What begins a line that [`SCRIPT`] writes.
pub(super) const PREFIX: &str = "fit\t";

/// What of etcd runs and lies on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub(super) processes: Vec<Process>,
    /// The lines of the configuration on the disk.
    pub(super) config: String,
    /// The unit file and its drop-ins, in the order in which systemd reads them.
    pub(super) definition: Vec<Text>,
    /// Other environment files of the unit, each with the pattern that stands for it.
    pub(super) environment_files: Vec<(String, Text)>,
    /// What files of systemd's own configuration set for all units, at the latest from the next
    /// boot on: the list of `DefaultEnvironment=`.
    pub(super) defaults: Vec<Text>,
    /// The variables of systemd itself, which all units inherit.
    pub(super) manager: BTreeMap<String, String>,
    pub(super) folders: Vec<Folder>,
    /// Unit files of others that run an etcd, each with the data directory that it names.
    pub(super) others: Vec<(String, String)>,
    /// The unit file that systemd takes for etcd's.
    pub(super) unit: Option<String>,
    /// Why a member with its data there would not come back from a restart, by data directory.
    pub(super) unfit: BTreeMap<String, String>,
    /// The data directories of which etcd's unit has other files open than lie there.
    pub(super) closed: BTreeSet<String>,
    /// Those whose database etcd's unit has open, and which was deleted.
    pub(super) deleted: BTreeSet<String>,
    /// Data directories whose folder of the member is a link, and where that leads.
    pub(super) linked: BTreeMap<String, String>,
    /// Whether the unit is masked, and so kept from starting.
    pub(super) masked: bool,
    /// The CA certificates, in PEM.
    pub(super) ca: String,
    /// Another file with the CA certificates that etcd trusts, and its text.
    pub(super) used_ca: Option<(String, String)>,
    /// Something in the document's folders of the data, where that does not belong to etcd's
    /// user, by the key of the folder in the settings.
    pub(super) guests: BTreeMap<String, String>,
    /// A file where a folder of the document's is to be.
    pub(super) blocked: Option<String>,
    /// Who owns the data there, while etcd's user does not exist.
    pub(super) keeper: Option<String>,
    /// A certificate or key of a member, where there is no CA beside it.
    pub(super) credential: Option<String>,
    /// The word of the [mark](layout::member_mark), if there is one.
    pub(super) mark: Option<String>,
    /// Where the member that the mark is of has its data.
    pub(super) marked: Option<Place>,
    /// The addresses of the host; empty where they are not known, or where a process may
    /// listen at others.
    pub(super) addresses: Vec<IpAddr>,
    /// Where anything on it listens.
    pub(super) listening: Vec<(IpAddr, u16)>,
    /// The first port at which not only root may listen; 0 where it is not known.
    pub(super) unprivileged: u16,
    /// What tells the boot of its system from any other; empty where it does not say.
    pub(super) boot: String,
    /// What a binary says to `--version`, by its path; of those that are there.
    pub(super) binaries: BTreeMap<String, String>,
}

/// A process of etcd in the network of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: String,
    pub(super) exe: String,
    /// The unit that it belongs to; something else outside of systemd.
    pub(super) unit: String,
    /// The user as whom it runs.
    pub(super) user: String,
    pub(super) version: Option<Version>,
    pub(super) variables: BTreeMap<String, String>,
    /// The URLs that a flag has it listen at, where no variable does.
    listens: String,
}

/// A data directory, and the folder of its write-ahead log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Folder {
    pub(super) data: String,
    pub(super) wal: String,
    /// Whether there is a database.
    pub(super) database: bool,
    /// Whether there is a write-ahead log.
    pub(super) log: bool,
    /// Whose the log is, where it can be read.
    pub(super) identity: Option<Identity>,
    /// The first path in it that is not the user's, and its owner.
    pub(super) stranger: Option<(String, String)>,
    /// Whether nothing on the node names it.
    pub(super) is_stray: bool,
}

/// Asks what of etcd is on `node`, and whether the `binaries` run there; the answer
/// is for [`Facts::read`].
pub fn query(document: &Document, node: &Node, binaries: &[String]) -> Query {
    let settings = document.settings(node);
    let ca = format!("{}/{}", settings.cert_dir, layout::CA_CERT);
    let mut lines = Vec::new();
    let mut line = |kind: &str, value: &str| lines.extend(format!("{kind}\t{value}\n").bytes());
    line("data", &settings.data_dir);
    line("wal", &layout::wal_folder(&settings.data_dir, settings.wal_dir.as_deref()));
    line("user", &settings.user);
    line("ca", &ca);
    line("config", &layout::config_file(&settings.config_dir));
    line("mark", &layout::member_mark(&settings.config_dir));
    line("ports", &format!("{}\t{}", settings.client_port, settings.peer_port));
    for binary in binaries {
        line("binary", binary);
    }
    line("end", "");
    Query { script: SCRIPT, input: lines }
}

/// Asks where on a node data of members lies, wherever it is; the answer is for
/// [`Facts::read`], after that to a [`query`].
pub fn search() -> Query {
    Query { script: SEARCH, input: Vec::new() }
}

impl Facts {
    /// Reads the lines that answer a [`query`].
    pub fn read(answer: &[String]) -> Result<Self, Error> {
        let mut facts = Self::default();
        for line in answer {
            let fact = line.strip_prefix(PREFIX).and_then(|fact| facts.line(fact));
            fact.ok_or_else(|| {
                Error::CommandFailed(format!("unexpected output of the node: {line:?}"))
            })?;
        }
        Ok(facts)
    }

    pub(super) fn line(&mut self, line: &str) -> Option<()> {
        let (kind, value) = line.split_once('\t')?;
        match kind {
            "process" => {
                let [pid, exe, unit, user, version] = fields(value)?;
                let version = version.parse().ok();
                let process = Process { pid, exe, unit, user, version, ..Process::default() };
                self.processes.push(process);
            }
            "variable" => {
                if let Some((name, value)) = value.split_once('=') {
                    let process = self.processes.last_mut()?;
                    process.variables.insert(name.into(), value.into());
                }
            }
            "listens" => self.processes.last_mut()?.listens = value.into(),
            "boot" => self.boot = value.into(),
            "closed" => drop(self.closed.insert(value.into())),
            "deleted" => drop(self.deleted.insert(value.into())),
            "linked" => {
                let (data, target) = value.split_once('\t')?;
                self.linked.insert(data.into(), target.into());
            }
            "config" => self.config += &format!("{value}\n"),
            "part" => self.definition.push(Text { path: value.into(), ..Text::default() }),
            "line" => self.definition.last_mut()?.content += &format!("{value}\n"),
            "file" => {
                let (pattern, path) = value.split_once('\t')?;
                let text = Text { path: path.into(), ..Text::default() };
                self.environment_files.push((pattern.into(), text));
            }
            "setting" => self.environment_files.last_mut()?.1.content += &format!("{value}\n"),
            "default" => {
                let (path, content) = value.split_once('\t')?;
                self.defaults.push(Text { path: path.into(), content: content.into() });
            }
            "manager" => {
                if let Some((name, value)) = value.split_once('=') {
                    self.manager.insert(name.into(), value.into());
                }
            }
            "folder" => {
                let [data, wal, database, head, stranger, owner] = fields(value)?;
                self.folders.push(Folder {
                    data,
                    wal,
                    database: !database.is_empty(),
                    log: !head.is_empty(),
                    identity: hex::decode(head).ok().and_then(|head| Identity::of_log(&head)),
                    stranger: Some((stranger, owner)).filter(|(path, _)| !path.is_empty()),
                    is_stray: false,
                });
            }
            "stray" => {
                let [data, wal, head] = fields(value)?;
                let identity = hex::decode(head).ok().and_then(|head| Identity::of_log(&head));
                let is_known = self.folders.iter().any(|folder| folder.wal == wal);
                let folder =
                    Folder { data, wal, log: true, identity, is_stray: true, ..Folder::default() };
                if !is_known {
                    self.folders.push(folder);
                }
            }
            "other" => {
                let [unit, data] = fields(value)?;
                self.others.push((unit, data));
            }
            "unfit" => {
                let [data, what, free] = fields(value)?;
                let why = match what.as_str() {
                    "full" => format!(
                        "{data} has {free} MiB free, and etcd takes 64 MiB whenever it starts: it \
                         would not come back: make room first"
                    ),
                    _ => format!(
                        "{data} is mounted read-only: it would not come back: repair the disk first"
                    ),
                };
                self.unfit.insert(data, why);
            }
            "masked" => self.masked = true,
            "unit" => self.unit = Some(value.into()),
            "used-ca" => self.used_ca = Some((value.into(), String::new())),
            "used" => self.used_ca.as_mut()?.1 += &format!("{value}\n"),
            "blocked" => drop(self.blocked.get_or_insert_with(|| value.into())),
            "guest" => {
                let (key, path) = value.split_once('\t')?;
                self.guests.insert(key.into(), path.into());
            }
            "keeper" => self.keeper = Some(value.into()),
            "ca" => self.ca += &format!("{value}\n"),
            "credential" => drop(self.credential.get_or_insert_with(|| value.into())),
            "listening" => self.listening.push(socket(value)?),
            "unprivileged" => self.unprivileged = value.parse().ok()?,
            "address" => self.addresses.push(value.parse().ok()?),
            "mark" => {
                let [word, data, wal] = fields(value)?;
                self.mark = Some(word);
                self.marked = Some(Place { data, wal }).filter(|place| !place.data.is_empty());
            }
            "binary" => {
                let (path, version) = value.split_once('\t')?;
                self.binaries.insert(path.into(), version.into());
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether the binary `path` is there and does not run as etcd of `version`, e.g.
    /// `v3.6.16`: it is damaged, of another architecture, or that of another release.
    pub fn is_broken(&self, path: &str, version: &str) -> bool {
        let is = |said: &String| said.strip_prefix(SAYS_VERSION) == version.strip_prefix('v');
        self.binaries.get(path).is_some_and(|said| !is(said))
    }

    /// The version that etcd's unit runs, where it runs and its version is known.
    pub fn running_version(&self) -> Option<Version> {
        self.process()?.version
    }

    /// The ID, in hex, of the member whose data lies where `document` wants that of
    /// `node`; none where there is no write-ahead log, or it cannot be read.
    pub fn member(&self, document: &Document, node: &Node) -> Option<&str> {
        let folder = self.folder(&Place::wanted(document, node, self))?;
        Some(&folder.identity.as_ref()?.member)
    }

    /// Whether the data of the member `id`, in hex, lies anywhere on the node that is known.
    pub fn has_data_of(&self, id: &str) -> bool {
        let mut found = self.folders.iter().filter_map(|folder| folder.identity.as_ref());
        found.any(|identity| identity.member == id)
    }

    /// The folder with the write-ahead log of the member `id`, in hex, where only a [`search`]
    /// found it.
    pub fn stray_log_of(&self, id: &str) -> Option<&str> {
        let is_its = |folder: &&Folder| folder.identity.as_ref().is_some_and(|i| i.member == id);
        let folder = self.folders.iter().find(is_its)?;
        folder.is_stray.then_some(&folder.wal)
    }

    /// Why the member that runs here would not come back from a restart, as far as its disk tells.
    pub fn cannot_come_back(&self) -> Option<&str> {
        let data = self.process()?.variables.get("ETCD_DATA_DIR")?;
        self.unfit.get(data).map(String::as_str)
    }

    /// The data directory with which etcd would be started on `node`.
    pub fn data_dir(&self, document: &Document, node: &Node) -> String {
        Place::wanted(document, node, self).data
    }

    /// The folders that hold the data with which etcd would be started on `node`: that of the
    /// member, and that of its write-ahead log where it is elsewhere; those that are there.
    pub fn data_folders(&self, document: &Document, node: &Node) -> Vec<String> {
        self.folders_at(&Place::wanted(document, node, self))
    }

    /// The same of `place`.
    pub(super) fn folders_at(&self, place: &Place) -> Vec<String> {
        let member = || vec![format!("{}/{}", place.data, layout::MEMBER)];
        self.folder(place).filter(|folder| folder.has_data()).map_or_else(member, Folder::parts)
    }

    /// The same of the member `id`, in hex, wherever its data lies.
    pub fn data_folders_of(&self, id: &str) -> Vec<String> {
        let is_its = |folder: &&Folder| folder.identity.as_ref().is_some_and(|i| i.member == id);
        self.folders.iter().find(is_its).map(Folder::parts).unwrap_or_default()
    }

    /// The folders of the etcd that is on `node`; none where there is none.
    pub(super) fn own_folders(&self, document: &Document, node: &Node) -> Vec<String> {
        if !self.is_installed() && !self.is_strange() && !self.runs_etcd() {
            return Vec::new();
        }
        let settings = document.settings(node);
        let of_data = self.folders.iter().flat_map(|f| [f.data.clone(), f.wal.clone()]);
        of_data.chain([settings.config_dir, settings.cert_dir]).collect()
    }

    /// Whether nothing keeps a new member from being started on `node`: there are no data,
    /// and no etcd runs.
    pub fn is_vacant(&self, document: &Document, node: &Node) -> bool {
        self.processes.is_empty() && !self.has_data(&Place::wanted(document, node, self))
    }

    /// Whether the member listens for its peers at `url`; none where it does not run, or that
    /// cannot be told, as of a name that may be of any address.
    pub fn listens_at(&self, url: &str) -> Option<bool> {
        let (_, host, port) = etcd::url::parts(url)?;
        let ip = etcd::url::ip(url);
        let Some(listens) = self.to_ask()?.variables.get("ETCD_LISTEN_PEER_URLS") else {
            // Its flags are not known here, but whether anybody listens there.
            let mut heard = self.listening.iter().filter(|(_, at)| at.to_string() == port);
            let is_there = heard.any(|(at, _)| at.is_unspecified() || ip == Some(*at));
            return (ip.is_some() && !self.listening.is_empty()).then_some(is_there);
        };
        let mut hosts = listens.split(',').filter_map(etcd::url::parts);
        let is_known = ip.is_some() || hosts.any(|(_, at, _)| at == host);
        let is_heard = is_heard(listens, url);
        (is_known || !is_heard).then_some(is_heard)
    }

    /// Whether `ip` is an address of the host; none where it does not tell its own.
    pub fn has_address(&self, ip: IpAddr) -> Option<bool> {
        (!self.addresses.is_empty()).then(|| self.addresses.contains(&ip))
    }

    /// The port at which the member serves clients; none where it does not run, or does not tell.
    pub fn client_port(&self) -> Option<u16> {
        let urls = self.process()?.client_urls();
        etcd::url::parts(urls.first()?)?.2.parse().ok()
    }

    /// Whether `unit` runs an etcd beside that of etcd's own unit.
    pub fn is_beside_etcd(&self, unit: &str) -> bool {
        let runs = |unit: &str| self.processes.iter().any(|process| process.unit == unit);
        unit != layout::UNIT && runs(unit) && runs(layout::UNIT)
    }

    /// The unit of others that runs an etcd on the node, or did.
    pub fn unit_of_others(&self) -> Option<&str> {
        let running = self.processes.iter().map(|process| process.unit.as_str());
        let mut running = running.filter(|unit| unit.ends_with(".service"));
        let there = self.others.iter().map(|(file, _)| file.rsplit('/').next().unwrap_or(file));
        running.find(|unit| *unit != layout::UNIT).or_else(|| there.into_iter().next())
    }

    /// Whether an etcd runs in `unit`.
    pub fn runs_in(&self, unit: &str) -> bool {
        self.processes.iter().any(|process| process.unit == unit)
    }

    /// Whether any etcd runs on the node.
    pub fn runs_etcd(&self) -> bool {
        !self.processes.is_empty()
    }

    /// Whether etcd's unit runs.
    pub fn is_running(&self) -> bool {
        self.process().is_some()
    }

    /// Whether the member has been ready at some time, or was restored.
    pub fn was_ready(&self) -> bool {
        self.mark.as_deref() == Some(layout::MARK_READY) || self.was_restored()
    }

    /// Whether the member was restored, and has not been ready since.
    pub(super) fn was_restored(&self) -> bool {
        self.mark.as_deref() == Some(layout::MARK_RESTORED)
    }

    /// Whether the member would start with data at `place`. A database without a log
    /// counts for nothing: etcd would begin anew.
    pub(super) fn has_log(&self, place: &Place) -> bool {
        self.folder(place).is_some_and(|folder| folder.log)
    }

    /// Whether anything of a member lies at `place`.
    pub(super) fn has_data(&self, place: &Place) -> bool {
        self.folder(place).is_some_and(Folder::has_data)
    }

    /// What lies at `place`.
    pub(super) fn folder(&self, place: &Place) -> Option<&Folder> {
        self.folders.iter().find(|f| f.data == place.data && f.wal == place.wal)
    }

    /// The folder of the binary that etcd's unit on the node starts.
    pub(super) fn bin_dir(&self) -> Option<&str> {
        let lines = self.definition.iter().rev().flat_map(|part| part.content.lines().rev());
        let command = lines.map(str::trim).find_map(|line| line.strip_prefix("ExecStart="))?;
        command.split_whitespace().next()?.strip_suffix("/etcd")
    }

    /// The process of etcd's unit.
    pub(super) fn process(&self) -> Option<&Process> {
        self.processes.iter().find(|process| process.unit == layout::UNIT)
    }

    /// Whether etcd's unit runs a binary of these tools, or whatever binary it has been given
    /// where they wrote the unit.
    pub fn is_own(&self) -> bool {
        let of_release = |process: &Process| process.exe.starts_with(layout::RELEASES);
        self.process().is_some_and(|process| of_release(process) || self.is_rendered())
    }

    /// Whether these tools wrote the unit.
    fn is_rendered(&self) -> bool {
        self.definition.iter().any(|text| text.content.contains("etcd-render"))
    }

    /// Whether these tools have put an etcd there, running or not.
    pub fn is_installed(&self) -> bool {
        self.is_own() || self.is_rendered()
    }

    /// Whether the etcd that is there, running or not, was put there by others.
    pub fn is_strange(&self) -> bool {
        !self.is_installed() && (self.is_of_others() || self.has_unit())
    }

    /// The unit file of etcd that systemd reads, where it is not where these tools put theirs.
    pub(super) fn strange_unit(&self) -> Option<&str> {
        let own = format!("{}/{}", layout::UNIT_DIR, layout::UNIT);
        self.unit.as_deref().filter(|at| *at != own)
    }

    /// Whether there is a unit file of etcd.
    pub fn has_unit(&self) -> bool {
        self.unit.is_some()
    }

    /// Whether an etcd of others is there, running or not.
    pub fn is_of_others(&self) -> bool {
        self.strange_unit().is_some()
            || self.unit_of_others().is_some()
            || self.runs_etcd() && !self.is_own()
    }

    /// The process to be asked who the members are: that of etcd's unit, else of another.
    pub(super) fn to_ask(&self) -> Option<&Process> {
        self.process().or(self.processes.first())
    }

    /// What the member of `node` was last told to be: by what lies on its disk, which
    /// may be newer than the process, else by that.
    pub(super) fn configured(&self, document: &Document, node: &Node) -> BTreeMap<String, String> {
        let config = environment::values(environment::on_node(document, node, self));
        match self.process() {
            Some(process) if config.is_empty() => process.variables.clone(),
            _ => config,
        }
    }
}

/// Whether who listens at `listens`, URLs with commas between them, is reached at `url`.
pub(super) fn is_heard(listens: &str, url: &str) -> bool {
    let ip = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let Some((_, host, port)) = etcd::url::parts(url) else { return false };
    listens.split(',').filter_map(etcd::url::parts).any(|(_, at, its_port)| {
        // A name is an address of the host, or etcd would not start.
        let same = at == host || ip(host).is_none_or(|host| ip(at) == Some(host));
        its_port == port && (same || ip(at).is_some_and(|ip| ip.is_unspecified()))
    })
}

/// What the first line of `etcd --version` begins with.
pub(super) const SAYS_VERSION: &str = "etcd Version: ";

fn fields<const N: usize>(value: &str) -> Option<[String; N]> {
    let parts: Vec<_> = value.split('\t').map(str::to_owned).collect();
    parts.try_into().ok()
}

impl Folder {
    pub(super) fn has_data(&self) -> bool {
        self.database || self.log
    }

    /// The folders of what is there of the two.
    fn parts(&self) -> Vec<String> {
        let member = format!("{}/{}", self.data, layout::MEMBER);
        if self.wal.starts_with(&format!("{member}/")) {
            return vec![member];
        }
        let database = self.database.then_some(member);
        database.into_iter().chain(self.log.then(|| self.wal.clone())).collect()
    }
}

/// `url`, which is listened at, as one on that host can reach it, and whether it is on the
/// loopback.
fn on_host(url: &str) -> Option<(bool, String)> {
    let (scheme, host, port) = etcd::url::parts(url.trim())?;
    Some(match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => (true, format!("{scheme}://127.0.0.1:{port}")),
        Ok(ip) => (ip.is_loopback(), format!("{scheme}://{host}:{port}")),
        Err(_) => (host == "localhost", format!("{scheme}://{host}:{port}")),
    })
}

impl Process {
    /// The URLs at which it listens; empty where only its flags say so.
    pub(super) fn urls(&self) -> Vec<&str> {
        let Some(peers) = self.variables.get("ETCD_LISTEN_PEER_URLS") else { return Vec::new() };
        let more = ["ETCD_LISTEN_CLIENT_URLS", "ETCD_LISTEN_METRICS_URLS"];
        let more = more.iter().filter_map(|name| self.variables.get(*name));
        more.chain([peers]).flat_map(|urls| urls.split(',')).collect()
    }

    /// The URLs at which it serves clients on its host, those of the loopback first; none
    /// where it was not told.
    pub(super) fn client_urls(&self) -> Vec<String> {
        let told = self.variables.get("ETCD_LISTEN_CLIENT_URLS").unwrap_or(&self.listens);
        let mut urls: Vec<_> = told.split(',').filter_map(on_host).collect();
        urls.sort_by_key(|(is_loopback, _)| !is_loopback);
        urls.into_iter().map(|(_, url)| url).collect()
    }
}

/// A socket as `/proc/net/tcp` has it: the bytes of each 32 bits of the address in the order of
/// the host, and the port, all in hex.
fn socket(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = hex::decode(address).ok()?;
    bytes.chunks_mut(4).for_each(<[u8]>::reverse);
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::from(bytes),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).to_canonical(),
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_is_asked_where_it_listens_on_its_host() {
        let urls = |variable: Option<&str>, flag: &str| {
            let variables = variable.map(|urls| ("ETCD_LISTEN_CLIENT_URLS".into(), urls.into()));
            let variables = variables.into_iter().collect();
            Process { variables, listens: flag.into(), ..Process::default() }.client_urls()
        };
        let given = "https://10.0.0.1:2379, https://127.0.0.1:2379";
        let found = ["https://127.0.0.1:2379", "https://10.0.0.1:2379"];
        assert_eq!(urls(Some(given), "http://0.0.0.0:1"), found);
        assert_eq!(urls(None, "http://0.0.0.0:12379"), ["http://127.0.0.1:12379"]);
        assert_eq!(urls(None, "https://[fd00::1]:2379"), ["https://[fd00::1]:2379"]);
        assert!(urls(None, "").is_empty());
    }
}
