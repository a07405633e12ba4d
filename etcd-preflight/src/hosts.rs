//! What is judged of a host, and of hosts beside each other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pipeline::document::{Arch, NodeSettings};
use pipeline::{Code, Document, rfc3339};
use x509_parser::parse_x509_certificate;
use x509_parser::pem::Pem;

use crate::Seen;
use crate::facts::{Facts, Offset};
use crate::finding::Finding;

/// The oldest systemd: that of CentOS 7.
const SYSTEMD: u32 = 219;
/// The oldest kernel: that of CentOS 7.
const KERNEL: (u32, u32) = (3, 10);
/// Memory in GB: less is an error, or a warning. A tenth less counts as well: the kernel
/// keeps a part of what a machine has.
const MEMORY_GB: (f64, f64) = (2.0, 4.0);
/// Free disk in GB, with what the data takes already: less is a warning.
const DISK_GB: f64 = 20.0;
/// Free disk in GB: less is an error.
const FULL_GB: f64 = 1.0;
/// What the unit asks for.
const OPEN_FILES: u64 = 65536;
/// How far clocks may differ, in seconds: more is a warning, or an error.
const CLOCK: (f64, f64) = (0.5, 5.0);
/// A certificate that expires within this is named.
const EXPIRY: Duration = Duration::from_secs(30 * 24 * 3600);
/// File systems in memory, and over a network, as `stat -f` calls them.
const MEMORY_KINDS: [&str; 2] = ["tmpfs", "ramfs"];
const NETWORK_KINDS: [&str; 9] =
    ["nfs", "cifs", "smb", "smb2", "ceph", "fuseblk", "afs", "gfs/gfs2", "lustre"];

/// Judges a host by itself.
pub(crate) fn judge(document: &Document, seen: &Seen) -> Vec<Finding> {
    let (node, facts) = (seen.node, &seen.facts);
    let settings = document.settings(node);
    let ok = |code, measured: String| Finding::ok(code, &node.name, measured);
    let mut findings = Vec::new();

    let systemd = facts.systemd.map_or("none".to_owned(), |version| version.to_string());
    let found = match facts.systemd {
        Some(version) => format!("systemd {version} is older than {SYSTEMD}"),
        None => "no systemd here".to_owned(),
    };
    findings.push(
        ok(Code::Systemd, systemd).error_if(facts.systemd.is_none_or(|v| v < SYSTEMD), || {
            format!("{found}: upgrade the operating system (CentOS 7, Ubuntu 18.04 or newer)")
        }),
    );
    findings.push(ok(Code::Kernel, facts.kernel.clone()).warning_if(is_old(&facts.kernel), || {
        let (major, minor) = KERNEL;
        format!("kernel {} is older than {major}.{minor}: upgrade it", facts.kernel)
    }));
    findings.push(ok(Code::Arch, facts.machine.clone()).error_if(
        Arch::of_machine(&facts.machine) != Some(node.arch()),
        || match Arch::of_machine(&facts.machine) {
            Some(arch) => format!(
                "the host is {}, the document says {}: set the node's arch to \"{arch}\"",
                facts.machine,
                node.arch()
            ),
            None => format!("{}: etcd is not released for this architecture", facts.machine),
        },
    ));
    findings.extend(memory(facts).map(|(code, measured, error, warning)| {
        ok(code, measured)
            .error_if(error.is_some(), || error.unwrap_or_default())
            .warning_if(warning.is_some(), || warning.unwrap_or_default())
    }));
    findings.push(ok(Code::OpenFiles, facts.open_files.to_string()).warning_if(
        facts.open_files < OPEN_FILES,
        || {
            format!(
                "a process may open {} files, fewer than {OPEN_FILES}: \
                 `sysctl -w fs.nr_open=1048576`",
                facts.open_files
            )
        },
    ));
    findings.extend(disk(seen));
    findings.push(
        ok(Code::TimeSync, if facts.synchronized { "yes" } else { "no" }.into()).warning_if(
            !facts.synchronized,
            || {
                "the clock is not synchronised: enable chrony or systemd-timesyncd \
                 (`timedatectl set-ntp true`)"
                    .into()
            },
        ),
    );
    findings.push(security(seen));
    findings.push(ports(seen, &settings));
    findings.push(certificates(seen));
    findings
}

fn is_old(kernel: &str) -> bool {
    let mut parts = kernel.split(['.', '-']).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < KERNEL,
        _ => false,
    }
}

/// A number of KiB in GB.
#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn gb(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e9
}

/// Memory and swap: code, what was measured, an error, a warning.
fn memory(facts: &Facts) -> [(Code, String, Option<String>, Option<String>); 2] {
    let has = gb(facts.memory_kib);
    let (least, good) = MEMORY_GB;
    let less_than = |limit: f64| {
        let message = format!("{has:.1} GB of memory, less than {limit:.0} GB: give the host more");
        (has < limit * 0.9).then_some(message)
    };
    let swap = (facts.swap_kib > 0).then(|| {
        format!(
            "{:.1} GB of swap: a member that is swapped out misses heartbeats: run `swapoff -a`, \
             and remove it from /etc/fstab",
            gb(facts.swap_kib)
        )
    });
    [
        (Code::Memory, format!("{has:.1} GB"), less_than(least), less_than(good)),
        (Code::Swap, format!("{:.1} GB", gb(facts.swap_kib)), None, swap),
    ]
}

fn disk(seen: &Seen) -> [Finding; 2] {
    let facts = &seen.facts;
    let ok = |code, measured: String| Finding::ok(code, &seen.node.name, measured);
    let (free, has) = (gb(facts.free_kib), gb(facts.free_kib + facts.used_kib));
    let folder = &facts.folder;
    let space = ok(Code::DiskSpace, format!("{free:.1} GB"))
        .error_if(free < FULL_GB, || {
            format!("{folder}: {free:.1} GB free, less than {FULL_GB:.0} GB: make room")
        })
        .warning_if(has < DISK_GB, || {
            format!(
                "{folder}: {free:.1} GB free, less than {DISK_GB:.0} GB: use a larger disk for \
                 production"
            )
        });
    let kind = facts.filesystem.as_str();
    let kind = ok(Code::DiskKind, kind.to_owned())
        .error_if(!facts.read_only.is_empty(), || {
            let folders: Vec<_> = facts.read_only.iter().map(String::as_str).collect();
            format!(
                "{} cannot be written to: the disk is mounted read-only: look for its errors with \
                 `dmesg`, repair it, and mount it again",
                folders.join(", ")
            )
        })
        .error_if(MEMORY_KINDS.contains(&kind), || {
            format!(
                "{folder} is in memory ({kind}), and lost with a reboot: choose a folder on a disk"
            )
        })
        .warning_if(NETWORK_KINDS.contains(&kind), || {
            format!("{folder} is on a network file system ({kind}): use a local disk")
        })
        .warning_if(facts.rotates, || format!("{folder} is on a disk that rotates: use an SSD"));
    [space, kind]
}

fn security(seen: &Seen) -> Finding {
    let facts = &seen.facts;
    let mode = match (facts.selinux_enforces, facts.profiles.is_empty()) {
        (true, _) => "selinux",
        (false, false) => "apparmor",
        (false, true) => "off",
    };
    Finding::ok(Code::SecurityModule, &seen.node.name, mode)
        .warning_if(facts.selinux_enforces, || {
            "SELinux is enforcing: should etcd not start, `ausearch -m avc -ts recent` shows what \
             was denied"
                .into()
        })
        .warning_if(!facts.profiles.is_empty(), || {
            let profiles = facts.profiles.join(", ");
            format!(
                "AppArmor enforces a profile on etcd: {profiles}: allow its folders in it, or \
                 switch it to complain mode with aa-complain"
            )
        })
}

/// Somebody else on a port; etcd itself is another check's.
fn ports(seen: &Seen, settings: &NodeSettings) -> Finding {
    let taken = seen.facts.ports.iter().find(|(_, owner)| !owner.ends_with(" (etcd)"));
    let finding = Finding::ok(Code::PortInUse, &seen.node.name, "free");
    let Some((port, owner)) = taken else { return finding };
    let setting = if *port == settings.client_port { "clientPort" } else { "peerPort" };
    Finding { measured: port.to_string(), ..finding }.error_if(true, || {
        format!("{owner} listens on port {port}: stop it, or set {setting} to another port")
    })
}

/// The certificate on the node that expires first.
fn certificates(seen: &Seen) -> Finding {
    let expiries = seen.facts.certificates.iter().flat_map(|(file, pem)| {
        let blocks = Pem::iter_from_buffer(pem.as_bytes()).flatten();
        blocks.filter_map(move |block| {
            let (_, certificate) = parse_x509_certificate(&block.contents).ok()?;
            Some((certificate.validity().not_after.timestamp(), file))
        })
    });
    let name = &seen.node.name;
    let Some((at, file)) = expiries.min() else { return Finding::ok(Code::Due, name, "-") };
    let expiry = UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or_default());
    let now = SystemTime::now();
    let time = rfc3339(expiry);
    let day = time.split('T').next().unwrap_or_default().to_owned();
    // Only a warning: the stages that follow issue another.
    Finding::ok(Code::Due, name, day)
        .warning_if(expiry <= now, || {
            format!("{file} expired at {time}: issue another with etcd-cert issue, and push it")
        })
        .warning_if(expiry <= now + EXPIRY, || {
            format!(
                "{file} expires at {time}, in less than 30 days: issue another with etcd-cert \
                 issue, and push it"
            )
        })
}

/// What no two hosts may have in common, and what to do where they have.
struct Trait {
    what: &'static str,
    of: fn(&Facts) -> &str,
    advice: &'static str,
}

/// Host names and machine ids that two hosts have.
pub(crate) fn duplicates(seen: &[Seen]) -> Vec<Finding> {
    let traits = [
        Trait {
            what: "host name",
            of: |facts| &facts.hostname,
            advice: "set another with `hostnamectl set-hostname`",
        },
        Trait {
            what: "machine id",
            of: |facts| &facts.machine_id,
            advice: "on a cloned machine, remove /etc/machine-id and run `systemd-machine-id-setup`",
        },
    ];
    let mut findings = Vec::new();
    for (at, one) in seen.iter().enumerate() {
        for Trait { what, of, advice } in &traits {
            let value = of(&one.facts);
            let mut earlier = seen[..at].iter();
            let other = earlier.find(|other| !value.is_empty() && of(&other.facts) == value);
            let finding = Finding::ok(Code::DuplicateHost, &one.node.name, &*one.facts.hostname);
            findings.push(match other {
                Some(other) => finding.warning_if(true, || {
                    format!("has the same {what} as {}, {value}: {advice}", other.node.name)
                }),
                None => finding,
            });
        }
    }
    findings
}

/// Clocks against this machine's, and against each other.
pub(crate) fn clocks(offsets: &[(&str, Offset)]) -> Vec<Finding> {
    let finding = |(at, (name, offset)): (usize, &(&str, Offset))| {
        let here = ("this machine", Offset { seconds: 0.0, uncertainty: 0.0 });
        let others = std::iter::once(&here).chain(&offsets[..at]);
        let differences = others.map(|(other, its)| {
            let difference = offset.seconds - its.seconds;
            (*other, difference, offset.uncertainty + its.uncertainty)
        });
        let (other, difference, uncertainty) = differences
            .max_by(|a, b| (a.1.abs() - a.2).total_cmp(&(b.1.abs() - b.2)))
            .unwrap_or(("", 0.0, 0.0));
        // What is certain of it.
        let least = difference.abs() - uncertainty;
        let say = |limit: f64| {
            let side = if difference > 0.0 { "ahead of" } else { "behind" };
            format!(
                "the clock is {:.1} s {side} that of {other}, more than {limit:.1} s: \
                 synchronise it",
                difference.abs()
            )
        };
        let (warning, error) = CLOCK;
        Finding::ok(Code::Clock, name, format!("{:+.1} s", offset.seconds))
            .error_if(least > error, || say(error))
            .warning_if(least > warning, || say(warning))
    };
    offsets.iter().enumerate().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use pipeline::Severity;

    use super::*;

    fn offset(seconds: f64, uncertainty: f64) -> Offset {
        Offset { seconds, uncertainty }
    }

    #[test]
    fn clocks_are_compared_with_this_machine_and_with_each_other() {
        let found = |offsets: &[(&str, Offset)]| -> Vec<_> {
            clocks(offsets).into_iter().map(|finding| finding.problem).collect()
        };
        assert_eq!(found(&[("a", offset(0.4, 0.0)), ("b", offset(-0.05, 0.0))]), [None, None]);
        // A slow answer is no difference.
        assert_eq!(found(&[("a", offset(0.9, 0.5))]), [None]);
        let warning = "the clock is 0.8 s behind that of a, more than 0.5 s: synchronise it";
        let found_pair = found(&[("a", offset(0.4, 0.0)), ("b", offset(-0.4, 0.0))]);
        assert_eq!(found_pair, [None, Some((Severity::Warning, warning.to_owned()))]);
        let error = "the clock is 6.0 s ahead of that of this machine, more than 5.0 s: \
                     synchronise it";
        assert_eq!(found(&[("a", offset(6.0, 0.1))]), [Some((Severity::Error, error.to_owned()))]);
    }

    #[test]
    fn kernels_and_memory() {
        assert!(is_old("3.9.11") && is_old("2.6.32-754.el6.x86_64"));
        assert!(!is_old("3.10.0-1160.el7.x86_64") && !is_old("6.1") && !is_old("odd"));
        let memory = |memory_kib| {
            let [(_, _, error, warning), _] = memory(&Facts { memory_kib, ..Facts::default() });
            (error, warning.is_some())
        };
        // A machine with 2 GiB, and what its kernel leaves of them.
        assert_eq!(memory(1_990_000), (None, true));
        assert_eq!(memory(3_900_000), (None, false));
        let error = "1.0 GB of memory, less than 2 GB: give the host more";
        assert_eq!(memory(1_000_000).0.as_deref(), Some(error));
    }
}
