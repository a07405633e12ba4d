//! The files that a member of these tools cannot be without, where a document has them among
//! any others.

use etcd::layout;
use pipeline::document::{File, NodeSettings};
use pipeline::{disk, has_private_key};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::error::X509Error;
use x509_parser::prelude::parse_x509_certificate;

use super::compare::NodeFit;
use super::{CA_BYTES, Purpose, environment};

/// What such a file is.
enum Kind {
    Unit,
    DropIn,
    Binary,
    Certificate,
    Key,
}

impl Kind {
    fn of(path: &str, settings: &NodeSettings) -> Option<Self> {
        let (folder, name) = path.rsplit_once('/')?;
        match name {
            _ if layout::is_drop_in(path) => Some(Self::DropIn),
            layout::UNIT if folder == layout::UNIT_DIR => Some(Self::Unit),
            "etcd" if folder == settings.bin_dir => Some(Self::Binary),
            layout::SERVER_CERT | layout::PEER_CERT if folder == settings.cert_dir => {
                Some(Self::Certificate)
            }
            layout::SERVER_KEY | layout::PEER_KEY if folder == settings.cert_dir => Some(Self::Key),
            _ => None,
        }
    }
}

/// Whether a member with these `settings` needs the file `path`.
pub(super) fn is_own(path: &str, settings: &NodeSettings) -> bool {
    Kind::of(path, settings).is_some()
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
        self.node.files.iter().find_map(|file| match Kind::of(&file.path, &self.settings)? {
            Kind::DropIn if file.absent => None,
            Kind::DropIn => {
                let next = environment::next_start(self.fit.document, self.node, self.facts);
                self.harmful(&next).or_else(|| self.obstacle())
            }
            kind => {
                let why = self.own_file(file, &kind)?;
                Some(format!("{}: {why}", file.path))
            }
        })
    }

    fn own_file(&self, file: &File, kind: &Kind) -> Option<String> {
        const REISSUE: &str = "issue a new one: `etcd-cert issue`";
        let why = match kind {
            _ if file.absent => {
                "etcd needs it: to take etcd off the node: `etcd-unit uninstall`".into()
            }
            Kind::Unit => {
                "etcd's own unit: for another text of it: `etcd-render --templates`".into()
            }
            Kind::Binary => "the link to the release that etcd runs: for another: \
                             `scripts/upgrade NODES VERSION`"
                .into(),
            Kind::DropIn => return None,
            Kind::Key => {
                let text = content(file)?;
                let is_key = has_private_key(&String::from_utf8_lossy(&text));
                (!is_key).then(|| format!("no private key (PEM), and etcd needs one: {REISSUE}"))?
            }
            Kind::Certificate => {
                let what = self.no_certificate(&content(file)?)?;
                format!("{what}, and etcd would serve nobody with it: {REISSUE}")
            }
        };
        Some(why)
    }

    /// Why `pem` is no certificate that those who trust the CA of the cluster would take; its
    /// name and its time aside.
    fn no_certificate(&self, pem: &[u8]) -> Option<&'static str> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).flatten().collect();
        let Some((leaf, issuers)) = chain.split_first() else {
            return Some("no certificate (PEM)");
        };
        let Ok((_, leaf)) = parse_x509_certificate(leaf) else {
            return Some("a damaged certificate");
        };
        let path = format!("{}/{}", self.settings.cert_dir, layout::CA_CERT);
        let brought = self.node.files.iter().find(|file| file.path == path).and_then(content);
        let there = self.facts.ca.as_bytes();
        let cas = [there, brought.as_deref().unwrap_or_default()].concat();
        let cas: Vec<_> = CertificateDer::pem_slice_iter(&cas).flatten().collect();
        let mut issuers = issuers.iter().chain(&cas).filter_map(|issuer| {
            let (_, issuer) = parse_x509_certificate(issuer).ok()?;
            let verified = leaf.verify_signature(Some(issuer.public_key()));
            // Of a kind of signature that is not known here, nothing is said.
            Some(!matches!(verified, Err(X509Error::SignatureVerificationError)))
        });
        let is_known = cas.is_empty() || issuers.any(|is_issuer| is_issuer);
        (!is_known).then_some("not issued by the CA of the cluster")
    }
}
