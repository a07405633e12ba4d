//! The layout of the folder, and what is allowed to be seen of it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pipeline::disk::{self, Lock};

/// The folder of the CA, the certificates and the keys.
///
/// `ca`, `client` (the operator's) and `apiserver-etcd-client` lie in it, each
/// as `.crt` and `.key`; further clients in `clients`; `server` and `peer` of each node
/// in `nodes/NAME`.
pub(crate) struct Folder {
    path: PathBuf,
    absolute: String,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Folder {
    /// The folder `path`, which may not exist yet. An error when its path from
    /// the root is not UTF-8, which the document could not hold.
    pub fn new(path: &Path) -> Result<Self> {
        let absolute = disk::absolute(path)?.components().collect::<PathBuf>();
        let text = absolute.to_str().with_context(|| format!("{}: not UTF-8", path.display()))?;
        Ok(Self { path: path.into(), absolute: text.into() })
    }

    /// The path as the user gave it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `path`, which is in the folder, from the root.
    pub fn absolute(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.path).unwrap_or(path).display().to_string();
        if inside.is_empty() {
            self.absolute.clone()
        } else {
            format!("{}/{inside}", self.absolute)
        }
    }

    pub fn ca(&self) -> Pair {
        self.pair("ca")
    }

    pub fn client(&self) -> Pair {
        self.pair("client")
    }

    pub fn apiserver_client(&self) -> Pair {
        self.pair("apiserver-etcd-client")
    }

    pub fn named_client(&self, name: &str) -> Pair {
        self.pair(&format!("clients/{name}"))
    }

    /// The names of the further clients, in order.
    pub fn named_clients(&self) -> Result<Vec<String>> {
        let names = self.names_in("clients")?;
        let of_certificate = |name: &String| crate::parse_client(name.strip_suffix(".crt")?).ok();
        Ok(names.iter().filter_map(of_certificate).collect())
    }

    pub fn of_node(&self, node: &str, stem: &str) -> Pair {
        self.pair(&format!("nodes/{node}/{stem}"))
    }

    fn pair(&self, stem: &str) -> Pair {
        let file = |kind| self.path.join(format!("{stem}.{kind}"));
        Pair { cert: file("crt"), key: file("key") }
    }

    /// The names of the nodes that have a folder, in order.
    pub fn nodes(&self) -> Result<Vec<String>> {
        self.names_in("nodes")
    }

    fn names_in(&self, folder: &str) -> Result<Vec<String>> {
        let path = self.path.join(folder);
        let reading = || format!("{}: reading", path.display());
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(reading)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.with_context(reading)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// The certificates, keys and lists of an authority in the folder and below
    /// it, in order, whoever put them there.
    pub fn credentials(&self) -> Result<Vec<PathBuf>> {
        const KINDS: [&str; 8] = ["crt", "cer", "pem", "key", "csr", "crl", "srl", "p12"];
        let of_authority = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            let kind = path.extension().unwrap_or_default();
            KINDS.iter().any(|known| kind == *known) || name == "index.txt" || name == "serial"
        };
        Ok(self.files()?.into_iter().filter(|path| of_authority(path)).collect())
    }

    /// The temporary files of interrupted runs.
    pub fn stale_temps(&self) -> Result<Vec<PathBuf>> {
        let is_temp = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let target = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial"));
            target.is_some_and(|name| disk::beside(&path.with_file_name(name)) == path)
        };
        Ok(self.files()?.into_iter().filter(|path| is_temp(path)).collect())
    }

    /// All files in the folder and below it, in order; links are not followed.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            let reading = || format!("{}: reading", folder.display());
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries.with_context(reading)?,
            };
            for entry in entries {
                let entry = entry.with_context(reading)?;
                match entry.file_type().with_context(reading)?.is_dir() {
                    true => folders.push(entry.path()),
                    false => found.push(entry.path()),
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Makes the folder, and takes its lock for as long as the value lives.
    /// Does nothing when `check` is set.
    pub fn lock(&self, check: bool) -> Result<Option<Lock>> {
        if check {
            return Ok(None);
        }
        disk::private_dir(&self.path)?;
        Lock::wait(&self.path.join(".lock")).map(Some)
    }

    /// What is to be said when others than the owner can look into the folder.
    pub fn exposure(&self) -> Option<String> {
        let mode = mode_of(&self.path)?;
        let path = self.path.display();
        (mode & 0o077 != 0)
            .then(|| format!("{path}: mode {mode:04o} lets others look into it: chmod 700 {path}"))
    }
}

impl Pair {
    /// The mode of the key, when others than its owner can use it.
    pub fn exposed_key_mode(&self) -> Option<u32> {
        mode_of(&self.key).filter(|mode| mode & 0o077 != 0)
    }

    /// Makes the key readable for its owner only.
    pub fn protect_key(&self) -> Result<()> {
        fs::set_permissions(&self.key, fs::Permissions::from_mode(0o600))
            .with_context(|| format!("{}: setting the mode", self.key.display()))
    }

    /// Writes both, the key first. A run that is killed in between leaves a key
    /// that is not the certificate's, which the next run sees.
    pub fn write(&self, cert: &str, key: &str) -> Result<()> {
        disk::write(&self.key, key.as_bytes(), 0o600)?;
        disk::write(&self.cert, cert.as_bytes(), 0o644)
    }
}

fn mode_of(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o7777)
}

/// The most that a file with a key or certificates has, in bytes.
const LIMIT: u64 = 1 << 20;

/// The content of the file `path`; nothing when there is no such file.
pub(crate) fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>> {
    match disk::read(path, LIMIT) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some).with_context(|| format!("{}: reading", path.display())),
    }
}

/// The content of the file `path`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    disk::read(path, LIMIT).with_context(|| format!("{}: reading", path.display()))
}
