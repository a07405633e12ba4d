//! Where on a host etcd and these tools have what is theirs, whatever the paths that lead there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cluster::fit;
use etcd::layout;
use pipeline::document::{Directory, File};

/// What `state.sh` says of that. Of each path the first is where it is without links.
#[derive(Default)]
pub(crate) struct Places<'a> {
    /// Where the paths of the document lead that have links.
    real: HashMap<&'a str, &'a str>,
    /// What the document says is etcd's, or of these tools: rules by path say what may become of
    /// it.
    own: Vec<Place<'a>>,
    /// What an etcd of the host has besides.
    etcds: Vec<Place<'a>>,
    /// The programs that run as etcd, without links.
    programs: Vec<&'a str>,
    /// The user as whom etcd runs, or is to run; none where there is none.
    user: Option<&'a str>,
    /// What is mounted: the device, which part of it, and where. Empty where each device is
    /// mounted once: then no two paths lead to one place.
    mounts: Vec<(&'a str, PathBuf, PathBuf)>,
}

/// Something of etcd's, or of these tools.
struct Place<'a> {
    path: &'a str,
    /// Where that is without links.
    at: &'a str,
    /// On which device it is, and where on that, if it may have other paths.
    stored: Option<(&'a str, PathBuf)>,
}

impl<'a> Places<'a> {
    pub(crate) fn read(answer: &'a [String]) -> Self {
        let mut places = Self::default();
        for line in answer {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["real", real, path] => drop(places.real.insert(path, real)),
                ["own", at, path] => places.own.push(Place { path, at, stored: None }),
                ["etcds", at, path] => places.etcds.push(Place { path, at, stored: None }),
                ["program", path] => places.programs.push(path),
                ["runs", user] => places.user = Some(user),
                ["at", device, root, point] => {
                    places.mounts.push((device, unescaped(root), unescaped(point)));
                }
                _ => {}
            }
        }
        let mut devices: Vec<_> = places.mounts.iter().map(|(device, ..)| *device).collect();
        devices.sort_unstable();
        if !devices.windows(2).any(|two| two[0] == two[1]) {
            places.mounts.clear();
        }
        let stored = |place: &Place<'a>| places.stored(Path::new(place.at));
        let [own, etcds] =
            [&places.own, &places.etcds].map(|all| all.iter().map(stored).collect::<Vec<_>>());
        places.own.iter_mut().zip(own).for_each(|(place, stored)| place.stored = stored);
        places.etcds.iter_mut().zip(etcds).for_each(|(place, stored)| place.stored = stored);
        places
    }

    /// Why nothing is to be put at `path`, or taken away there: by another path it is one of etcd's
    /// or of these tools'.
    pub(crate) fn taken(&self, path: &str) -> Option<String> {
        let by_name = |own: &&Place| Path::new(path).starts_with(own.path);
        let real = Path::new(self.real(path));
        let stored = self.stored(real);
        let rest = |place: &Place| {
            let by_link = real.strip_prefix(place.at).ok();
            let by_mount = || {
                let ((device, path), (other, at)) = (stored.as_ref()?, place.stored.as_ref()?);
                path.strip_prefix(at).ok().filter(|_| device == other)
            };
            by_link.or_else(by_mount).map(Path::to_owned)
        };
        let mut etcds = self.etcds.iter().filter(|place| rest(place).is_some());
        if let Some(Place { path: known, .. }) =
            etcds.next().filter(|_| !self.own.iter().any(|own| by_name(&own)))
        {
            return Some(format!(
                "{path}: etcd has its own in {known} on this host, which the document does not say: \
                 leave it out, or give the settings that etcd was deployed with"
            ));
        }
        let mut others = self.own.iter().filter(|own| !by_name(own));
        let (known, rest) = others.find_map(|place| Some((place.path, rest(place)?)))?;
        let known = match rest.as_os_str().is_empty() {
            true => known.to_owned(),
            false => Path::new(known).join(rest).display().to_string(),
        };
        Some(format!(
            "{path} is {known} on this host, which is etcd's or of these tools: name it by that path"
        ))
    }

    /// Why `file` cannot take the place of the program that etcd runs.
    pub(crate) fn no_program(&self, file: &File) -> Option<String> {
        let is_run = self.programs.contains(&self.real(&file.path));
        (is_run && (file.absent || !file.is_program())).then(|| {
            format!("{}: etcd runs it: put a program in its place, or leave it out", file.path)
        })
    }

    /// Why `folder` may not have its mode and owner: etcd passes it on its way to its files.
    pub(crate) fn barred(&self, folder: &Directory) -> Option<String> {
        let user = self.user?;
        let real = self.real(&folder.path);
        // systemd, and these tools, are root.
        let fixed = [layout::LOCK, layout::WORK];
        let is_of_root = |path: &str| fixed.contains(&path) || path.contains("/systemd/system/");
        let mut all = self.own.iter().chain(&self.etcds).filter(|place| !is_of_root(place.path));
        let is_on_the_way = all.any(|Place { path, at, .. }| {
            Path::new(path).starts_with(&folder.path) || Path::new(at).starts_with(real)
        });
        (is_on_the_way && !fit::may_enter(user, folder)).then(|| {
            format!(
                "{}: etcd, which runs as {user}, could not enter it with mode {} and owner {}:{}: it \
                 is on the way to its files",
                folder.path, folder.mode, folder.owner, folder.group
            )
        })
    }

    fn real<'s>(&'s self, path: &'s str) -> &'s str {
        self.real.get(path).copied().unwrap_or(path)
    }

    /// On which device `path`, which has no links, is, and where on that.
    fn stored(&self, path: &Path) -> Option<(&'a str, PathBuf)> {
        // What was mounted later at the same point hides what was there before.
        let on = self.mounts.iter().filter_map(|(device, root, point)| {
            Some((point.as_os_str().len(), *device, root.join(path.strip_prefix(point).ok()?)))
        });
        on.max_by_key(|(length, ..)| *length).map(|(_, device, path)| (device, path))
    }
}

/// A path as `/proc/self/mountinfo` has it: blanks and backslashes in octal.
fn unescaped(text: &str) -> PathBuf {
    let names = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    names.iter().fold(text.to_owned(), |text, (code, is)| text.replace(code, is)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(|line| line.replace(' ', "\t")).collect()
    }

    #[test]
    fn what_is_etcds_is_so_by_any_path() {
        let answer = lines(
            "runs etcd\nat 8:1 / /\nat 8:2 / /data\nat 8:2 /etcd /var/lib/etcd\nat 8:1 /etc/etcd \
             /srv/e\nat 8:3 / /mnt\nreal /apps /o\nown /var/lib/etcd \
             /var/lib/etcd\nown /etc/etcd /etc/etcd\nown /apps/own /own\netcds /srv/wal /srv/wal\n\
             program /opt/etcd",
        );
        let places = Places::read(&answer);
        for (path, is) in [
            ("/data/etcd/member/snap/db", "/var/lib/etcd/member/snap/db"),
            ("/data/etcd", "/var/lib/etcd"),
            ("/srv/e/etcd.member", "/etc/etcd/etcd.member"),
            ("/apps/own/x", "/own/x"),
        ] {
            let why = places.taken(path).unwrap();
            assert!(why.starts_with(&format!("{path} is {is} on this host")), "{why}");
        }
        for path in ["/data/x", "/mnt/etcd/x", "/var/lib/etcd/x", "/etc/etcd", "/srv/walls"] {
            assert_eq!(places.taken(path), None);
        }
        assert!(places.taken("/srv/wal/0.wal").unwrap().contains("in /srv/wal on this host"));
        let folder = |path: &str, mode: &str| {
            let [path, mode, owner] = [path, mode, "root"].map(str::to_owned);
            places.barred(&Directory { path, mode, group: owner.clone(), owner })
        };
        assert_eq!(folder("/srv", "0755"), None);
        assert!(folder("/srv", "0700").unwrap().starts_with("/srv: etcd, which runs as etcd,"));
        assert!(folder("/o", "0750").is_some());
        assert_eq!(folder("/home", "0700"), None);
    }
}
