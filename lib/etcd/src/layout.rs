//! What belongs to these tools and to etcd on a node.

use std::path::Path;

/// The systemd unit of etcd.
pub const UNIT: &str = "etcd.service";

/// The folder of the unit files that an administrator owns (systemd.unit(5)).
pub const UNIT_DIR: &str = "/etc/systemd/system";

/// Where releases are unpacked, each in a folder `VERSION-HASH` of its own.
pub const RELEASES: &str = "/usr/local/lib/etcd-tools";

/// The folder of a release in [`RELEASES`]: its version, and the beginning of the SHA-256
/// of its archive, in hex.
pub fn release_dir(version: &str, sha256: &str) -> String {
    format!("{RELEASES}/{version}-{}", sha256.get(..8).unwrap_or(sha256))
}

/// The lock of a node: one operator at a time.
pub const LOCK: &str = "/run/etcd-tools.lock";

/// Says which script of these tools is at work on a node.
pub const WORK: &str = "/run/etcd-tools.work";

/// The CA certificate, in the folder of the certificates.
pub const CA_CERT: &str = "ca.crt";
/// The server certificate, in the folder of the certificates.
pub const SERVER_CERT: &str = "server.crt";
/// The key of the server certificate, in the folder of the certificates.
pub const SERVER_KEY: &str = "server.key";
/// The peer certificate, in the folder of the certificates.
pub const PEER_CERT: &str = "peer.crt";
/// The key of the peer certificate, in the folder of the certificates.
pub const PEER_KEY: &str = "peer.key";

/// What etcd keeps in its data directory: snapshots, the database and, without
/// a WAL directory of its own, the write-ahead log (`datadir` in etcd's
/// server/storage). The data directory itself may be a mount point.
pub const MEMBER: &str = "member";

/// Where etcd keeps its write-ahead log: in `wal_dir`, when it has a folder of its
/// own, else in `data_dir`. etcd makes this folder under another name and renames
/// it (`Create` in etcd's server/storage/wal), so it is never one of ours itself.
pub fn wal_folder(data_dir: &str, wal_dir: Option<&str>) -> String {
    match wal_dir {
        Some(wal_dir) => format!("{wal_dir}/wal"),
        None => format!("{data_dir}/{MEMBER}/wal"),
    }
}

/// What the [mark](member_mark) of a member holds that has been ready.
pub const MARK_READY: &str = "ready";

/// What the [mark](member_mark) of a member holds whose data was restored, and that has not
/// been ready since.
pub const MARK_RESTORED: &str = "restored";

/// The environment file of the unit, in the folder of the configuration.
pub fn config_file(config_dir: &str) -> String {
    format!("{config_dir}/etcd.conf")
}

/// The folder of the write-ahead log of a member with the data directory `data_dir`:
/// `wal_dir` where it has one of its own. Without a log etcd begins anew.
pub fn wal(data_dir: &str, wal_dir: Option<&str>) -> String {
    wal_dir.map_or_else(|| format!("{data_dir}/{MEMBER}/wal"), str::to_owned)
}

/// The mark of a member: its first line is [`MARK_READY`] once the member has been ready, or
/// [`MARK_RESTORED`], and etcd may never start on an empty data directory again; before
/// that, while it starts for the first time, another word. The next lines are the data
/// directory that it stands for, and the folder of the write-ahead log. In the folder of the
/// configuration, which outlives a lost data disk.
pub fn member_mark(config_dir: &str) -> String {
    format!("{config_dir}/etcd.member")
}

/// Where systemd looks for units and their drop-ins, in its order (systemd.unit(5)).
const UNIT_ROOTS: [&str; 11] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    UNIT_DIR,
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// Whether `path` is a file of etcd's unit, wherever systemd looks for it, or a link that enables
/// it.
pub fn is_unit(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    let enables = |(root, by): &(&str, &str)| {
        UNIT_ROOTS.contains(root) && (by.ends_with(".wants") || by.ends_with(".requires"))
    };
    name == UNIT
        && (UNIT_ROOTS.contains(&folder) || folder.rsplit_once('/').as_ref().is_some_and(enables))
}

/// Whether systemd reads the unit file `path` in the place of one in [`UNIT_DIR`].
pub fn goes_before_own(path: &str) -> bool {
    let before = UNIT_ROOTS.iter().take_while(|root| **root != UNIT_DIR);
    path.rsplit_once('/').is_some_and(|(folder, _)| before.into_iter().any(|root| *root == folder))
}

/// Whether `path` is a drop-in of etcd's unit, its own or that of all services, wherever systemd
/// looks for them.
pub fn is_drop_in(path: &str) -> bool {
    let folder = path.rsplit_once('/').filter(|(_, name)| name.ends_with(".conf"));
    let folder = folder.and_then(|(folder, _)| folder.rsplit_once('/'));
    folder.is_some_and(|(root, folder)| {
        UNIT_ROOTS.contains(&root) && ["etcd.service.d", "service.d"].contains(&folder)
    })
}

/// Whether `path` is a file of systemd's own configuration, what it gives to all units among it
/// (systemd-system.conf(5)).
pub fn is_of_systemd(path: &str) -> bool {
    const ROOTS: [&str; 4] = ["/etc", "/run", "/usr/local/lib", "/usr/lib"];
    ROOTS.iter().filter_map(|root| path.strip_prefix(root)).any(|rest| {
        rest == "/systemd/system.conf"
            || rest
                .strip_prefix("/systemd/system.conf.d/")
                .is_some_and(|name| name.ends_with(".conf"))
    })
}

/// Where a file is staged before it is renamed to `path`: hidden, in the same folder.
pub fn staged(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    format!("{folder}/.{name}.etcd-tools")
}

/// The folders of one member, as absolute paths.
#[derive(Debug, Clone, Copy)]
pub struct Folders<'a> {
    /// The data directory; etcd's user owns it.
    pub data: &'a str,
    /// The folder of the write-ahead log, when it has one of its own; etcd's user owns it.
    pub wal: Option<&'a str>,
    /// The folder of the configuration.
    pub config: &'a str,
    /// The folder of the certificates and keys.
    pub certs: &'a str,
    /// The folder in which the binaries are found; shared with others.
    pub bin: &'a str,
}

impl Folders<'_> {
    /// Why these folders cannot be used, each with the key of its setting.
    ///
    /// Owner and mode of all but `bin` are changed, and a purge deletes what is in
    /// them, so none of them may be the system's. And root writes into no folder of
    /// an unprivileged user, who could put a link there that leads elsewhere.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let owned = [("dataDir", Some(self.data)), ("walDir", self.wal)];
        let owned = owned.into_iter().filter_map(|(key, path)| Some((key, path?)));
        let (unfit, owned): (Vec<_>, Vec<_>) = owned.partition(|(_, path)| is_unfit_for_data(path));
        let ours = [("configDir", self.config), ("certDir", self.certs)];
        let system = ours.into_iter().filter(|(_, path)| is_system_folder(path));
        let mut problems = Vec::new();
        for (key, path) in unfit {
            let why = "no place for data: choose a folder for etcd alone, e.g. /var/lib/etcd";
            problems.push((key, format!("{path:?}: {why}")));
        }
        for (key, path) in system {
            let why = "a system folder: choose one for etcd alone, e.g. /etc/etcd";
            problems.push((key, format!("{path:?}: {why}")));
        }
        let shared = [("binDir", self.bin)];
        for (key, path) in owned.iter().copied().chain(ours).chain(shared) {
            let mut others = owned.iter().filter(|(other, _)| *other != key);
            if let Some((other, data)) = others.find(|(_, data)| Path::new(path).starts_with(data))
            {
                problems.push((
                    key,
                    format!(
                        "{path:?}: inside {other} {data:?}, which belongs to etcd's user: \
                             choose another folder"
                    ),
                ));
            }
        }
        problems
    }
}

/// Why etcd cannot run as `user`, with the key of its setting; nothing when it
/// can. systemd takes digits for a user ID, so that 0 is root as well.
pub fn user_problem(user: &str) -> Option<(&'static str, String)> {
    let refused = user == "root" || user.bytes().all(|b| b.is_ascii_digit());
    refused.then(|| ("user", format!("{user:?}: expected the name of a user for etcd alone")))
}

/// Whether `path` is one of the system's own folders, or holds some: those of the
/// Filesystem Hierarchy Standard 3.0 and what distributions add to them.
fn is_system_folder(path: &str) -> bool {
    const TOP: &str = "bin boot dev etc home lib lib32 lib64 libx32 media mnt opt proc root run \
                       sbin srv sys tmp usr var";
    const IN_ETC: &str = "alternatives apt conf.d cron.d cron.daily cron.hourly cron.monthly \
                          cron.weekly default dpkg init.d kubernetes ld.so.conf.d logrotate.d \
                          modprobe.d modules-load.d network pam.d pki profile.d rc.d security \
                          selinux skel ssh ssl sudoers.d sysconfig sysctl.d systemd tmpfiles.d \
                          udev xdg yum.repos.d";
    const IN_VAR: &str = "account backups cache crash games lib local lock log mail opt run spool \
                          tmp yp";
    const IN_LIB: &str = "apt containerd dbus dnf docker dpkg kubelet pam rpm sudo systemd ucf yum";
    const IN_USR: &str = "bin games include lib lib32 lib64 libexec libx32 local sbin share src";
    const IN_LOCAL: &str = "bin etc games include lib lib64 libexec man sbin share src";
    let one_of = |names: &str, name: &str| names.split(' ').any(|known| known == name);
    match path.trim_matches('/').split('/').collect::<Vec<_>>()[..] {
        [top] => top.is_empty() || one_of(TOP, top),
        ["etc", name] => one_of(IN_ETC, name),
        ["etc", "pki", name, ..] => !name.starts_with("etcd"),
        ["etc", name, ..] if name != "kubernetes" && name != "ssl" => one_of(IN_ETC, name),
        // What all programs trust, and the keys of others.
        ["etc", "ssl", "certs" | "private"] | ["etc", "kubernetes", "pki"] => true,
        ["usr", "share", "ca-certificates"] | ["usr", "local", "share", "ca-certificates"] => true,
        // What etcd's user cannot enter, and what is gone or is another with the next boot.
        ["boot" | "dev" | "proc" | "root" | "run" | "sys" | "tmp", ..] => true,
        ["var", "lib", name, ..] => one_of(IN_LIB, name),
        ["var", name] => one_of(IN_VAR, name),
        ["usr", name] => one_of(IN_USR, name),
        ["usr", "local", name] => one_of(IN_LOCAL, name),
        _ => false,
    }
}

/// Whether `path` cannot be a folder of etcd's data, which belongs to an
/// unprivileged user and must outlive a reboot: a [system
/// folder](is_system_folder), or one among programs, configuration, or what the
/// system makes anew.
fn is_unfit_for_data(path: &str) -> bool {
    const TREES: [&str; 17] = [
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/proc",
        "/run",
        "/sbin",
        "/sys",
        "/tmp",
        "/usr",
        "/var/lock",
        "/var/run",
        "/var/tmp",
    ];
    is_system_folder(path) || TREES.iter().any(|tree| Path::new(path).starts_with(tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_are_known_wherever_systemd_looks() {
        for (path, is) in [
            ("/etc/systemd/system/etcd.service", true),
            ("/run/systemd/transient/etcd.service", true),
            ("/etc/systemd/system/multi-user.target.wants/etcd.service", true),
            ("/etc/systemd/system/other.service", false),
            ("/etc/systemd/system/etcd.service.d/etcd.service", false),
        ] {
            assert_eq!(is_unit(path), is, "{path}");
        }
        for (path, is) in [
            ("/etc/systemd/system/etcd.service.d/a.conf", true),
            ("/run/systemd/system.control/etcd.service.d/a.conf", true),
            ("/usr/lib/systemd/system/service.d/a.conf", true),
            ("/etc/systemd/system/etcd.service.d/a", false),
            ("/etc/systemd/system/other.service.d/a.conf", false),
            ("/etc/systemd/user/service.d/a.conf", false),
        ] {
            assert_eq!(is_drop_in(path), is, "{path}");
        }
    }

    #[test]
    fn folders_of_the_system_are_known() {
        for path in [
            "/",
            "/etc",
            "/etc/",
            "/etc/systemd/system",
            "/root/.ssh",
            "/run/etcd",
            "/var",
            "/var/lib",
            "/var/lib/dpkg",
            "/var/lib/kubelet/pki",
            "/etc/pki",
            "/etc/pki/tls/certs",
            "/usr/local",
            "/usr/local/etc",
            "/usr/local/share/ca-certificates",
        ] {
            assert!(is_system_folder(path) && is_unfit_for_data(path), "{path}");
        }
        for path in [
            "/etc/etcd",
            "/etc/ssl/etcd",
            "/etc/pki/etcd",
            "/etc/kubernetes/pki/etcd",
            "/usr/local/lib/etcd-tools",
            "/usr/share/etcd",
        ] {
            assert!(!is_system_folder(path) && is_unfit_for_data(path), "{path}");
        }
        for path in ["/var/lib/etcd", "/data", "/srv/etcd", "/home/etcd", "/var/etcd", "/mnt/a/b"] {
            assert!(!is_system_folder(path) && !is_unfit_for_data(path), "{path}");
        }
    }

    #[test]
    fn no_folder_of_the_system_becomes_etcds() {
        const GOOD: Folders = Folders {
            data: "/var/lib/etcd",
            wal: None,
            config: "/etc/etcd",
            certs: "/etc/etcd/ssl",
            bin: "/usr/local/bin",
        };
        let system = |path: &str| {
            format!("{path:?}: a system folder: choose one for etcd alone, e.g. /etc/etcd")
        };
        let unfit = |path: &str| {
            let why = "no place for data: choose a folder for etcd alone, e.g. /var/lib/etcd";
            format!("{path:?}: {why}")
        };
        let inside = |path: &str, of: &str| {
            format!("{path:?}: inside {of}, which belongs to etcd's user: choose another folder")
        };
        let data = "dataDir \"/var/lib/etcd\"";
        for (folders, expected) in [
            (GOOD, vec![]),
            (Folders { data: "/data", wal: Some("/mnt/wal"), bin: "/usr/bin", ..GOOD }, vec![]),
            (Folders { data: "/srv/a", wal: Some("/srv/ab"), ..GOOD }, vec![]),
            (Folders { data: "/etc", ..GOOD }, vec![("dataDir", unfit("/etc"))]),
            (
                Folders { data: "/usr/local/etcd", ..GOOD },
                vec![("dataDir", unfit("/usr/local/etcd"))],
            ),
            (
                Folders { wal: Some("/etc/sudoers.d"), ..GOOD },
                vec![("walDir", unfit("/etc/sudoers.d"))],
            ),
            (
                Folders { config: "/etc", certs: "/etc/ssl", ..GOOD },
                vec![("configDir", system("/etc")), ("certDir", system("/etc/ssl"))],
            ),
            (
                Folders { wal: Some("/var/lib/etcd/wal"), ..GOOD },
                vec![("walDir", inside("/var/lib/etcd/wal", data))],
            ),
            (
                Folders { certs: "/var/lib/etcd/ssl", bin: "/var/lib/etcd", ..GOOD },
                vec![
                    ("certDir", inside("/var/lib/etcd/ssl", data)),
                    ("binDir", inside("/var/lib/etcd", data)),
                ],
            ),
        ] {
            assert_eq!(folders.problems(), expected, "{folders:?}");
        }
    }

    #[test]
    fn etcd_never_runs_as_root() {
        for user in ["root", "0", "998"] {
            let why = format!("{user:?}: expected the name of a user for etcd alone");
            assert_eq!(user_problem(user), Some(("user", why)));
        }
        assert_eq!(user_problem("etcd"), None);
    }

    #[test]
    fn paths_are_made_of_their_folder() {
        assert_eq!(config_file("/etc/etcd"), "/etc/etcd/etcd.conf");
        assert_eq!(member_mark("/etc/etcd"), "/etc/etcd/etcd.member");
        assert_eq!(wal_folder("/var/lib/etcd", None), "/var/lib/etcd/member/wal");
        assert_eq!(wal_folder("/var/lib/etcd", Some("/mnt/log")), "/mnt/log/wal");
        assert_eq!(staged("/etc/etcd/etcd.conf"), "/etc/etcd/.etcd.conf.etcd-tools");
        assert_eq!(staged("/motd"), "/.motd.etcd-tools");
    }
}
