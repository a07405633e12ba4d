//! Making certificates.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result, bail};
use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, SerialNumber};
use time::{Duration, OffsetDateTime};

use crate::certificate::Certificate;

/// How long before it is made a certificate begins, for hosts whose clocks are behind.
pub(crate) const EARLIER: Duration = Duration::minutes(5);

/// What every certificate has: the subject, a single entry `(type, value)`, a random
/// serial number, and a time that begins [`EARLIER`] than `now`.
pub(crate) fn params(
    subject: (DnType, &str),
    now: OffsetDateTime,
    not_after: OffsetDateTime,
) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(subject.0, subject.1);
    params.serial_number = Some(serial_number()?);
    params.not_before = now - EARLIER;
    params.not_after = not_after;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 126 random bits: positive, and never with a leading zero byte.
fn serial_number() -> Result<SerialNumber> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("/dev/urandom: reading")?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from(bytes.to_vec()))
}

/// Signs a certificate for `key` with the certificate and the key of a CA, and
/// gives it in PEM.
///
/// One that is not then found to be signed by the CA is an error: rcgen knows
/// fewer forms of a subject than there are.
pub(crate) fn sign(
    params: &CertificateParams,
    key: &KeyPair,
    ca: &Certificate,
    ca_key: &KeyPair,
) -> Result<String> {
    let unusual = || format!("cannot be used: its subject, {}, is of an unusual form", ca.subject);
    let issuer =
        Issuer::from_ca_cert_der(&ca.der.as_slice().into(), ca_key).with_context(unusual)?;
    let made = params.signed_by(key, &issuer).context("signing")?;
    if !Certificate::of_der(made.der().to_vec())?.is_signed_by(ca) {
        bail!(unusual());
    }
    Ok(made.pem())
}
