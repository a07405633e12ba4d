//! What a TLS connection to etcd needs, read from files.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::Error;

/// What a TLS connection to etcd needs: the CA, and the client's certificate
/// and key. Servers are trusted that the given CA has signed, and no others.
#[derive(Debug, Clone)]
pub struct Tls(pub(crate) ClientConfig);

impl Tls {
    /// Reads PEM files: `ca_cert`, which may hold more than one CA, and the
    /// `client` certificate with its key where etcd asks for one.
    ///
    /// An error names the file.
    pub fn load(ca_cert: &Path, client: Option<(&Path, &Path)>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_cert)? {
            roots.add(certificate).map_err(|why| Error::file(ca_cert, why))?;
        }
        Self::new(roots, client)
    }

    /// Trusts nobody: for endpoints without TLS.
    pub(crate) fn none() -> Result<Self, Error> {
        Self::new(RootCertStore::empty(), None)
    }

    fn new(roots: RootCertStore, client: Option<(&Path, &Path)>) -> Result<Self, Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls(error.to_string()))?
            .with_root_certificates(roots);
        let Some((cert, key)) = client else {
            return Ok(Self(builder.with_no_client_auth()));
        };
        let chain = certificates(cert)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|why| Error::pem(key, why))?;
        builder.with_client_auth_cert(chain, private).map(Self).map_err(|why| match why {
            rustls::Error::InconsistentKeys(_) => {
                Error::file(key, format!("not the key of {}", cert.display()))
            }
            why => Error::file(key, why),
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|why| Error::pem(path, why))?;
    if found.is_empty() {
        return Err(Error::file(path, "no certificate in it"));
    }
    Ok(found)
}
