//! What the tool has to know of a certificate.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};
use pipeline::disk;
use rcgen::{ExtendedKeyUsagePurpose as Usage, KeyPair, PublicKeyData};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::pem::Pem;

/// A certificate that was read.
pub(crate) struct Certificate {
    /// The whole of it, in DER.
    pub der: Vec<u8>,
    /// For people, as `CN=etcd-ca`.
    pub subject: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// The subject alternative names: DNS names and IP addresses.
    pub names: Vec<String>,
    /// Which of serverAuth and clientAuth it is for.
    pub usages: Vec<Usage>,
    /// Whether its key may sign in a handshake (keyUsage digitalSignature).
    pub signs_handshakes: bool,
    /// Whether its key may sign certificates (a CA, keyUsage keyCertSign).
    pub signs_certificates: bool,
    /// The SubjectPublicKeyInfo, in DER.
    public_key: Vec<u8>,
}

impl Certificate {
    /// The certificates of a PEM file, one at least, in their order.
    ///
    /// A file with a private key in it is an error: certificates are readable
    /// by everybody. The error is without the name of the file.
    pub fn all(pem: &[u8]) -> Result<Vec<Self>> {
        let mut certificates = Vec::new();
        for block in Pem::iter_from_buffer(pem) {
            let Ok(block) = block else { bail!("is not a whole PEM file") };
            if block.label.ends_with("PRIVATE KEY") {
                bail!("holds a private key as well: expected certificates only");
            }
            if block.label == "CERTIFICATE" {
                certificates.push(Self::of_der(block.contents)?);
            }
        }
        if certificates.is_empty() {
            bail!("holds no certificate");
        }
        Ok(certificates)
    }

    /// The first certificate of a PEM file.
    pub fn first(pem: &[u8]) -> Result<Self> {
        Self::all(pem)?.into_iter().next().context("holds no certificate")
    }

    /// A certificate in DER.
    pub fn of_der(der: Vec<u8>) -> Result<Self> {
        let damaged = "holds a damaged certificate";
        let parsed = parse_x509_certificate(&der);
        let Ok((_, x509)) = parsed else { bail!(damaged) };
        let constraints = x509.basic_constraints().context(damaged)?;
        let key_usage = x509.key_usage().context(damaged)?.map(|extension| extension.value);
        let is_ca = constraints.is_some_and(|extension| extension.value.ca);
        Ok(Self {
            subject: x509.subject().to_string(),
            not_before: x509.validity().not_before.to_datetime(),
            not_after: x509.validity().not_after.to_datetime(),
            names: names(&x509).context(damaged)?,
            usages: usages(&x509).context(damaged)?,
            signs_handshakes: key_usage.is_none_or(|usage| usage.digital_signature()),
            signs_certificates: is_ca && key_usage.is_none_or(|usage| usage.key_cert_sign()),
            public_key: x509.public_key().raw.to_vec(),
            der,
        })
    }

    /// Whether `key` is the key of this certificate.
    pub fn is_of(&self, key: &KeyPair) -> bool {
        self.public_key == key.subject_public_key_info()
    }

    /// Whether `ca` issued this certificate and its signature is right.
    pub fn is_signed_by(&self, ca: &Self) -> bool {
        let (Ok((_, leaf)), Ok((_, ca))) =
            (parse_x509_certificate(&self.der), parse_x509_certificate(&ca.der))
        else {
            return false;
        };
        leaf.issuer().as_raw() == ca.subject().as_raw()
            && leaf.verify_signature(Some(ca.public_key())).is_ok()
    }

    /// The SHA-256 of the certificate, in lower-case hex.
    pub fn fingerprint(&self) -> String {
        disk::sha256(&self.der)
    }

    /// When it expires and how long that is from `now`, as
    /// `2027-11-22T12:00:00Z, 364 days left`.
    pub fn expiry(&self, now: OffsetDateTime) -> String {
        let left = match (self.not_after - now).whole_days() {
            1 => "1 day".into(),
            days => format!("{days} days"),
        };
        format!("{}, {left} left", rfc3339(self.not_after))
    }

    /// Why it is not valid at `now`; nothing when it is.
    pub fn invalid(&self, now: OffsetDateTime) -> Option<String> {
        if self.not_after <= now {
            return Some(format!("expired {}", rfc3339(self.not_after)));
        }
        let early = || format!("not valid before {}", rfc3339(self.not_before));
        (self.not_before > now).then(early)
    }
}

/// `time` in UTC, as `2027-11-22T12:00:00Z`.
pub(crate) fn rfc3339(time: OffsetDateTime) -> String {
    pipeline::rfc3339(time.into())
}

fn names(x509: &X509Certificate) -> Result<Vec<String>> {
    let names = x509.subject_alternative_name()?;
    let names = names.map(|extension| extension.value.general_names.as_slice());
    Ok(names.unwrap_or_default().iter().map(name).collect())
}

fn name(name: &GeneralName) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|ip| Ipv4Addr::from(ip).to_string());
            let v6 = <[u8; 16]>::try_from(*bytes).map(|ip| Ipv6Addr::from(ip).to_string());
            v4.or(v6).unwrap_or_else(|_| name.to_string())
        }
        _ => name.to_string(),
    }
}

fn usages(x509: &X509Certificate) -> Result<Vec<Usage>> {
    let Some(extension) = x509.extended_key_usage()? else { return Ok(Vec::new()) };
    let server = extension.value.server_auth.then_some(Usage::ServerAuth);
    let client = extension.value.client_auth.then_some(Usage::ClientAuth);
    Ok(server.into_iter().chain(client).collect())
}
