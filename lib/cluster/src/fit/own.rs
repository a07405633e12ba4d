//! The files that a member of these tools cannot be without, where a document has them among
//! any others.

use std::cell::LazyCell;
use std::net::IpAddr;
use std::path::Path;

use etcd::layout;
use pipeline::document::{Directory, Document, File, Node, NodeSettings};
use pipeline::{disk, has_private_key};
use rustls::InconsistentKeys;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::parse_x509_certificate;

use super::compare::NodeFit;
use super::{CA_BYTES, Purpose};

/// What such a file is.
enum Kind {
    Unit,
    DropIn,
    /// A file of an unpacked release.
    Release,
    Binary,
    Config,
    Ca,
    Certificate,
    Key,
}

impl Kind {
    fn of(path: &str, settings: &NodeSettings) -> Option<Self> {
        let (folder, name) = path.rsplit_once('/')?;
        match name {
            _ if layout::is_drop_in(path) || layout::is_of_systemd(path) => Some(Self::DropIn),
            _ if layout::is_unit(path) => Some(Self::Unit),
            _ if Path::new(path).starts_with(layout::RELEASES) => Some(Self::Release),
            "etcd" if folder == settings.bin_dir => Some(Self::Binary),
            layout::SERVER_CERT | layout::PEER_CERT if folder == settings.cert_dir => {
                Some(Self::Certificate)
            }
            layout::SERVER_KEY | layout::PEER_KEY if folder == settings.cert_dir => Some(Self::Key),
            layout::CA_CERT if folder == settings.cert_dir => Some(Self::Ca),
            _ if path == layout::config_file(&settings.config_dir) => Some(Self::Config),
            _ => None,
        }
    }
}

/// Whether a member with these `settings` needs the file `path`, or passes the folder `path` on
/// its way to one.
pub(super) fn is_own(path: &str, settings: &NodeSettings) -> bool {
    Kind::of(path, settings).is_some() || is_on_the_way(path, settings)
}

/// Whether the folder `path` holds a folder of the member's, or is one.
fn is_on_the_way(path: &str, settings: &NodeSettings) -> bool {
    let NodeSettings { data_dir, wal_dir, config_dir, cert_dir, bin_dir, .. } = settings;
    let own = [data_dir, config_dir, cert_dir, bin_dir].into_iter().chain(wal_dir);
    let mut own = own.map(String::as_str).chain([layout::RELEASES]);
    own.any(|folder| Path::new(folder).starts_with(path))
}

/// Whether `user`, with a group of its name, has the permission `bit` (4 to read, 1 to pass) of
/// what has this `mode`, `owner` and `group`; owners by number are not known here.
fn is_permitted(user: &str, bit: u32, mode: &str, owner: &str, group: &str) -> bool {
    let Ok(mode) = u32::from_str_radix(mode, 8) else { return true };
    let is_number = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
    if user == "root" || is_number(owner) || is_number(group) {
        return true;
    }
    let shift = if owner == user { 6 } else { 3 * u32::from(group == user) };
    mode >> shift & bit != 0
}

/// Whether `user`, with a group of its name, may enter a folder as `folder` has it; owners by
/// number are not known here.
pub fn may_enter(user: &str, folder: &Directory) -> bool {
    is_permitted(user, 1, &folder.mode, &folder.owner, &folder.group)
}

/// What `file` is to hold, as far as it is at hand already.
pub(super) fn content(file: &File) -> Option<Vec<u8>> {
    match (&file.content, &file.local) {
        (Some(content), _) => Some(content.clone().into_bytes()),
        (None, Some(local)) if !file.pending => disk::read(local.as_ref(), CA_BYTES).ok(),
        _ => None,
    }
}

impl NodeFit<'_> {
    /// A file with which the member could not start again, or would serve nobody.
    pub(super) fn own_files(&self) -> Option<String> {
        let pushes = matches!(self.fit.purpose, Purpose::Push { .. });
        if !pushes || !self.facts.is_installed() {
            return None;
        }
        let user = self.settings.user.as_str();
        let barred =
            self.node.directories.iter().find(|folder| {
                is_on_the_way(&folder.path, &self.settings) && !may_enter(user, folder)
            });
        if let Some(folder) = barred {
            return Some(format!(
                "{}: etcd, which runs as {user}, could not enter it with mode {} and owner {}:{}: it \
                 is on the way to its files",
                folder.path, folder.mode, folder.owner, folder.group
            ));
        }
        let cas = LazyCell::new(|| self.cas());
        self.node.files.iter().find_map(|file| {
            let why = self.own_file(file, &Kind::of(&file.path, &self.settings)?, &cas)?;
            Some(format!("{}: {why}", file.path))
        })
    }

    /// What a drop-in would do to the next start of a member of which the document brings nothing
    /// else: else that is judged with all the rest.
    pub(super) fn own_drop_ins(&self) -> Option<String> {
        let pushes = matches!(self.fit.purpose, Purpose::Push { .. });
        let is_drop_in = |file: &&File| {
            !file.absent && matches!(Kind::of(&file.path, &self.settings), Some(Kind::DropIn))
        };
        let drop_in = self.node.files.iter().find(is_drop_in);
        drop_in.filter(|_| pushes && self.facts.is_installed())?;
        let next = self.next_start();
        self.harmful(&next).or_else(|| self.obstacle(&next)).or_else(|| self.otherwise(&next))
    }

    fn own_file(
        &self,
        file: &File,
        kind: &Kind,
        cas: &[CertificateDer<'static>],
    ) -> Option<String> {
        const REISSUE: &str = "issue a new one: `etcd-cert issue`";
        let user = self.settings.user.as_str();
        let why = match kind {
            Kind::DropIn => return None,
            _ if file.absent => {
                "etcd needs it: to take etcd off the node: `etcd-unit uninstall`".into()
            }
            Kind::Config | Kind::Ca | Kind::Certificate | Kind::Key
                if !is_permitted(user, 4, &file.mode, &file.owner, &file.group) =>
            {
                format!(
                    "etcd, which runs as {user}, could not read it with mode {} and owner {}:{}: set \
                     them so that it can",
                    file.mode, file.owner, file.group
                )
            }
            Kind::Unit => {
                "etcd's own unit: for another text of it: `etcd-render --templates`".into()
            }
            Kind::Release => "a file of a release, which etcd may run: for another: \
                              `scripts/upgrade NODES VERSION`"
                .into(),
            Kind::Binary => "the link to the release that etcd runs: for another: \
                             `scripts/upgrade NODES VERSION`"
                .into(),
            Kind::Config | Kind::Ca => return None,
            Kind::Key => {
                let text = content(file)?;
                let is_key = has_private_key(&String::from_utf8_lossy(&text));
                match is_key {
                    false => format!("no private key (PEM), and etcd needs one: {REISSUE}"),
                    true => self.half(file)?,
                }
            }
            Kind::Certificate => match no_certificate(&content(file)?, cas) {
                Some(what) => format!("{what}, and etcd would serve nobody with it: {REISSUE}"),
                None => self.half(file)?,
            },
        };
        Some(why)
    }

    /// Why `file`, a certificate or a key, and its other half are no pair with which the member
    /// can serve. etcd takes what lies there at its next connection.
    fn half(&self, file: &File) -> Option<String> {
        const REISSUE: &str = "put both there: `etcd-cert issue | etcd-push`";
        let (stem, is_key) = match file.path.strip_suffix(".key") {
            Some(stem) => (stem, true),
            None => (file.path.strip_suffix(".crt")?, false),
        };
        let path = format!("{stem}.{}", if is_key { "crt" } else { "key" });
        let Some(other) = self.node.files.iter().find(|other| other.path == path) else {
            return Some(format!("its other half, {path}, is not in the document: {REISSUE}"));
        };
        // The pair is judged with its certificate.
        if is_key {
            return None;
        }
        let (cert, key) = (content(file)?, content(other)?);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&cert).flatten().collect();
        let key = PrivateKeyDer::from_pem_slice(&key).ok()?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).ok()?;
        let leaf = chain.first()?.clone();
        let is_pair = CertifiedKey::new(chain, key).keys_match();
        if matches!(is_pair, Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch))) {
            return Some(format!("it does not belong to {path} of the document: {REISSUE}"));
        }
        let (_, leaf) = parse_x509_certificate(&leaf).ok()?;
        let usage = leaf.extended_key_usage().ok().flatten();
        if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
            return Some(
                "it is no certificate for a server, and etcd needs one: `etcd-cert issue`".into(),
            );
        }
        let address = self.node.ip().map(|ip| ip.to_string());
        let address = address.unwrap_or_else(|| self.node.address.clone());
        let names = leaf.subject_alternative_name().ok()??;
        let is_named = names.value.general_names.iter().any(|name| match name {
            GeneralName::DNSName(name) => *name == address || name.starts_with("*."),
            GeneralName::IPAddress(bytes) => match self.node.ip() {
                Some(IpAddr::V4(ip)) => ip.octets() == *bytes,
                Some(IpAddr::V6(ip)) => ip.octets() == *bytes,
                None => false,
            },
            _ => false,
        });
        (!is_named).then(|| {
            format!("it does not name {address}, where the member is asked: `etcd-cert issue`")
        })
    }

    /// The CAs of the cluster: those on the node, and those that the document brings.
    fn cas(&self) -> Vec<CertificateDer<'static>> {
        let path = format!("{}/{}", self.settings.cert_dir, layout::CA_CERT);
        let brought = self.node.files.iter().find(|file| file.path == path).and_then(content);
        let there = self.facts.ca.as_bytes();
        let all = [there, brought.as_deref().unwrap_or_default()].concat();
        CertificateDer::pem_slice_iter(&all).flatten().collect()
    }
}

/// The common name of the certificate that `document` brings for `node` as a peer.
pub(super) fn peer_name(document: &Document, node: &Node) -> Option<String> {
    let path = format!("{}/peer.crt", document.settings(node).cert_dir);
    let pem = node.files.iter().find(|file| file.path == path).and_then(content)?;
    let leaf = CertificateDer::pem_slice_iter(&pem).flatten().next()?;
    let (_, leaf) = parse_x509_certificate(&leaf).ok()?;
    leaf.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
}

/// Why `pem` is no certificate that those who trust `cas` would take; its name and its time
/// aside.
fn no_certificate(pem: &[u8], cas: &[CertificateDer]) -> Option<&'static str> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).flatten().collect();
    let Some((leaf, issuers)) = chain.split_first() else {
        return Some("no certificate (PEM)");
    };
    let Ok((_, leaf)) = parse_x509_certificate(leaf) else {
        return Some("a damaged certificate");
    };
    let mut issuers = issuers.iter().chain(cas).filter_map(|issuer| {
        let (_, issuer) = parse_x509_certificate(issuer).ok()?;
        let verified = leaf.verify_signature(Some(issuer.public_key()));
        // Of a kind of signature that is not known here, nothing is said.
        Some(!matches!(verified, Err(X509Error::SignatureVerificationError)))
    });
    let is_known = cas.is_empty() || issuers.any(|is_issuer| is_issuer);
    (!is_known).then_some("not issued by the CA of the cluster")
}
