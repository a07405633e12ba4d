//! What a TLS connection to etcd needs, read from files.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use pipeline::disk;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};

use crate::Error;
use crate::error::plain;

/// How large a file of certificates or of a key may be: the CAs of a system fit.
const PEM_BYTES: u64 = 4 << 20;

const NOT_OF_SYSTEM: &str = "the server's certificate is not signed by a CA that this machine \
                             trusts: run this in the folder that has pki/, or pass --cacert";

/// What a server's certificate is judged by.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// The CA certificates in this file (PEM), and no others.
    Ca(&'a Path),
    /// The CAs that this machine trusts.
    System,
    /// Nothing: it is not verified at all.
    Anyone,
}

/// What a TLS connection to etcd needs: whom to trust, and the client's certificate
/// and key.
#[derive(Debug, Clone)]
pub struct Tls {
    config: ClientConfig,
    verifier: Arc<dyn ServerCertVerifier>,
    /// Whether the verifier knows the CAs of this machine.
    is_system: bool,
}

/// When the certificate expires that a server has presented last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Presented(Arc<Mutex<Option<SystemTime>>>);

impl Tls {
    /// Reads PEM files: those of `trust`, and the `client` certificate with its key where
    /// etcd asks for one.
    ///
    /// An error names the file.
    pub fn load(trust: Trust, client: Option<(&Path, &Path)>) -> Result<Self, Error> {
        let verifier = verifier(trust)?;
        let is_system = matches!(trust, Trust::System);
        let builder = builder(verifier.clone())?;
        let Some((cert, key)) = client else {
            return Ok(Self { config: builder.with_no_client_auth(), verifier, is_system });
        };
        let chain = certificates(cert)?;
        let private = PrivateKeyDer::from_pem_slice(&read(key)?);
        let private = private.map_err(|why| Error::pem(key, why))?;
        let config = builder.with_client_auth_cert(chain, private).map_err(|why| match why {
            rustls::Error::InconsistentKeys(_) => {
                Error::file(key, format!("not the key of {}", cert.display()))
            }
            why => Error::file(key, why),
        })?;
        Ok(Self { config, verifier, is_system })
    }

    /// Trusts and presents one certificate, which is signed with its own `key`; both in PEM.
    pub fn of_itself(certificate: &str, key: &str) -> Result<Self, Error> {
        let invalid = |why: &dyn fmt::Display| Error::Tls(why.to_string());
        let chain = CertificateDer::from_pem_slice(certificate.as_bytes());
        let chain = chain.map_err(|why| invalid(&why))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|why| invalid(&why))?;
        let mut roots = RootCertStore::empty();
        roots.add(chain.clone()).map_err(|why| invalid(&why))?;
        let verifier = of_roots(roots)?;
        let config = builder(verifier.clone())?.with_client_auth_cert(vec![chain], key);
        let config = config.map_err(|why| invalid(&why))?;
        Ok(Self { config, verifier, is_system: false })
    }

    /// What one endpoint is spoken to with; when its certificate expires is noted in
    /// `presented`.
    pub(crate) fn config(&self, presented: &Presented) -> ClientConfig {
        let mut config = self.config.clone();
        let recorder = Recorder {
            verifier: self.verifier.clone(),
            is_system: self.is_system,
            presented: presented.clone(),
        };
        config.dangerous().set_certificate_verifier(Arc::new(recorder));
        // A session that another endpoint has begun would go on without a certificate.
        config.resumption = Resumption::default();
        config
    }

    /// For endpoints without TLS.
    pub(crate) fn none() -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls(error.to_string()))?;
        Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    }
}

impl Presented {
    /// When it expires; nothing as long as no server has presented one.
    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn note(&self, certificate: &CertificateDer) {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return };
        let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(time);
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn builder(
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Error::Tls(error.to_string()))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn verifier(trust: Trust) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Anyone => return Ok(Arc::new(Unverified(provider()))),
        Trust::Ca(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|why| Error::file(file, why))?;
            }
        }
        Trust::System => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let why = "no CA certificate is given, and this machine trusts none: run this in \
                           the folder that has pki/, or pass --cacert";
                return Err(Error::Tls(why.into()));
            }
        }
    }
    of_roots(roots)
}

fn of_roots(roots: RootCertStore) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    Ok(built.map_err(|error| Error::Tls(error.to_string()))?)
}

/// Verifies as `verifier` does, and notes when what was presented expires.
#[derive(Debug)]
struct Recorder {
    verifier: Arc<dyn ServerCertVerifier>,
    /// Whether it knows the CAs of this machine.
    is_system: bool,
    presented: Presented,
}

/// Takes every certificate whose key the server has.
struct Unverified(Arc<CryptoProvider>);

impl fmt::Debug for Unverified {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("Unverified")
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::Error::{General, InvalidCertificate};
        self.presented.note(end_entity);
        match self.verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) if self.is_system => Err(General(NOT_OF_SYSTEM.into())),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    disk::read(path, PEM_BYTES).map_err(|why| Error::file(path, plain(&why)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|why| Error::pem(path, why))?;
    if found.is_empty() {
        return Err(Error::file(path, "no certificate in it"));
    }
    Ok(found)
}
