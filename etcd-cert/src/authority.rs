//! The CA: found in the folder, made, or brought by the user.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use pipeline::{Code, Run, ToolResult, disk};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use time::OffsetDateTime;

use crate::certificate::{Certificate, rfc3339};
use crate::check::REPLACE;
use crate::folder::{Folder, Pair, read, read_if_present};
use crate::sign::{params, sign};
use crate::{change, key};

const COMMON_NAME: &str = "etcd-ca";

/// The CA as the folder has it, or will have it once it is saved.
pub(crate) struct Authority {
    pair: Pair,
    /// What `ca.crt` holds: the CA of the key first, then others that are
    /// trusted as well, as while one CA takes the place of another.
    certificates: Vec<Certificate>,
    key: Option<KeyPair>,
    unsaved: Option<Unsaved>,
}

/// What is still to be written.
struct Unsaved {
    done: Code,
    why: String,
    /// Path, content and mode, in an order in which a run that is killed
    /// leaves what the next one can go on from.
    files: Vec<(PathBuf, Vec<u8>, u32)>,
}

/// A CA that the user brings, fit to sign.
pub(crate) struct ProvidedCa {
    source: String,
    cert_pem: Vec<u8>,
    key_pem: Vec<u8>,
    certificates: Vec<Certificate>,
    key: KeyPair,
}

impl ProvidedCa {
    /// Reads the files `cert` and `key`, and checks that they are a CA that can
    /// sign at `now`.
    pub fn read(cert: &Path, key: &Path, now: OffsetDateTime) -> Result<Self> {
        let source = cert.display().to_string();
        let cert_pem = read(cert)?;
        let key_pem = read(key)?;
        let pair = Pair { cert: cert.into(), key: key.into() };
        let (certificates, key) = parse(&pair, Some(&cert_pem), Some(&key_pem))?;
        let (Some(ca), Some(key)) = (certificates.first(), key) else {
            bail!("{source}: holds no certificate");
        };
        usable(ca, now).with_context(|| source.clone())?;
        // What else may be wrong with it shows when it signs something.
        sign(&params((DnType::CommonName, "trial"), now, now)?, &KeyPair::generate()?, ca, &key)
            .with_context(|| source.clone())?;
        Ok(Self { source, cert_pem, key_pem, certificates, key })
    }
}

impl Authority {
    /// Finds the CA of `folder`; if it has none, that is `own`, or else a new
    /// one that expires at `not_after`. Writes nothing.
    ///
    /// A folder with another CA than `own` is an error, and so is a CA that is
    /// not fit to sign at `now`.
    pub fn find(
        folder: &Folder,
        own: Option<ProvidedCa>,
        now: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<Self> {
        let mut authority = Self::load(folder)?;
        let lost = authority.certificates.is_empty();
        if let Some(own) = own {
            authority.adopt(own)?;
            if lost {
                authority.refuse_strangers(folder)?;
            }
        } else if lost {
            authority.refuse_to_replace(folder)?;
            authority.make(now, not_after)?;
        }
        authority.require_usable(now)?;
        Ok(authority)
    }

    /// An error when there is no CA that can sign at `now`.
    pub fn require_usable(&self, now: OffsetDateTime) -> Result<()> {
        usable(self.current()?, now)
            .map_err(|why| anyhow!("{}: {why}: {REPLACE}", self.pair.cert.display()))
    }

    /// Reads the CA of `folder`, which may have none, or the certificate
    /// without the key. Whether it can be used is not asked.
    pub fn load(folder: &Folder) -> Result<Self> {
        let pair = folder.ca();
        let cert = read_if_present(&pair.cert)?;
        let key = read_if_present(&pair.key)?;
        let (certificates, key) = parse(&pair, cert.as_deref(), key.as_deref())?;
        Ok(Self { pair, certificates, key, unsaved: None })
    }

    fn adopt(&mut self, own: ProvidedCa) -> Result<()> {
        let wanted = own.certificates.first().map(|ca| &ca.der);
        let same_cert = self.certificates.iter().any(|ca| Some(&ca.der) == wanted);
        let same_key =
            self.key.as_ref().is_none_or(|key| key.public_key_pem() == own.key.public_key_pem());
        if !same_key || !(same_cert || self.certificates.is_empty()) {
            bail!(
                "{}: is a different CA from {}: nothing changed: use another --pki, \
                 or move this folder away",
                self.pair.cert.display(),
                own.source
            );
        }
        let mut files = Vec::new();
        // The certificate first: a key alone would be given a new certificate.
        if self.certificates.is_empty() {
            files.push((self.pair.cert.clone(), own.cert_pem, 0o644));
            self.certificates = own.certificates;
        }
        if self.key.is_none() {
            files.push((self.pair.key.clone(), own.key_pem, 0o600));
            put_first(&mut self.certificates, &own.key);
            self.key = Some(own.key);
        }
        if !files.is_empty() {
            self.unsaved =
                Some(Unsaved { done: Code::Adopted, why: format!("from {}", own.source), files });
        }
        Ok(())
    }

    /// Makes the certificate, and the key if that is missing too.
    fn make(&mut self, now: OffsetDateTime, not_after: OffsetDateTime) -> Result<()> {
        let mut files = Vec::new();
        let key = match self.key.take() {
            Some(key) => key,
            None => {
                let key = KeyPair::generate().context("making a key")?;
                files.push((self.pair.key.clone(), key.serialize_pem().into_bytes(), 0o600));
                key
            }
        };
        let mut params = params((DnType::CommonName, COMMON_NAME), now, not_after)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = params.self_signed(&key).context("making the CA")?;
        files.push((self.pair.cert.clone(), made.pem().into_bytes(), 0o644));
        self.certificates = vec![Certificate::of_der(made.der().to_vec())?];
        self.key = Some(key);
        let why = format!("valid until {}", rfc3339(not_after));
        self.unsaved = Some(Unsaved { done: Code::Made, why, files });
        Ok(())
    }

    /// A new CA must not take the place of one that is lost: members that trust
    /// the lost one would no longer trust each other. A lone key of a CA is no
    /// trace of one: a run that makes a CA begins with it.
    fn refuse_to_replace(&self, folder: &Folder) -> Result<()> {
        match self.lost(folder)? {
            Some(why) => bail!(why),
            None => Ok(()),
        }
    }

    /// That the CA of the certificates in the folder is missing, and what to do.
    pub fn lost(&self, folder: &Folder) -> Result<Option<String>> {
        let traces = folder.credentials()?;
        let trace = traces.iter().find(|path| **path != self.pair.key);
        let Some(trace) = trace.filter(|_| self.certificates.is_empty()) else { return Ok(None) };
        let (cert, dir) = (self.pair.cert.display(), folder.path().display());
        Ok(Some(format!(
            "{cert}: missing, but {} is still there: restore it and its key (each node has \
             a copy of ca.crt beside its certificates), or move {dir} away to start with a new CA",
            trace.display()
        )))
    }

    /// A CA that is imported where one is lost must be the lost one.
    fn refuse_strangers(&self, folder: &Folder) -> Result<()> {
        for path in folder.credentials()? {
            let Some(pem) = read_if_present(&path)? else { continue };
            let Ok(found) = Certificate::first(&pem) else { continue };
            if !self.certificates.iter().any(|ca| found.is_signed_by(ca)) {
                bail!(
                    "{}: was not issued by the CA to import: use another --pki, or move {} away \
                     to start with this CA",
                    path.display(),
                    folder.path().display()
                );
            }
        }
        Ok(())
    }

    /// Writes what was made or adopted, and says so; with `--check` only what
    /// would be. Gives whether there was anything.
    pub fn save(&self, run: &Run) -> Result<bool> {
        let Some(unsaved) = &self.unsaved else { return Ok(false) };
        if !run.check() {
            for (path, content, mode) in &unsaved.files {
                disk::write(path, content, *mode)?;
            }
        }
        run.report(change(run, "CA", unsaved.done, &unsaved.why));
        Ok(true)
    }

    /// Reports who the CA is and when it expires, once it is in its place.
    pub fn describe(&self, run: &Run) -> Result<()> {
        if run.check() && self.unsaved.is_some() {
            return Ok(());
        }
        let ca = self.current()?;
        let (subject, sha256) = (&ca.subject, ca.fingerprint());
        let until = rfc3339(ca.not_after);
        let message = format!("CA {subject}, sha256 {sha256}, valid until {until}");
        run.report(ToolResult::unchanged(Code::Ca, message));
        Ok(())
    }

    /// The CA: of those in `ca.crt` the one that the key belongs to, or the first.
    pub fn current(&self) -> Result<&Certificate> {
        let missing = || {
            let path = self.pair.cert.display();
            format!("{path}: missing: run etcd-cert issue first, or pass --pki with its folder")
        };
        self.certificates.first().with_context(missing)
    }

    /// All CAs in `ca.crt`, the current one first.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The CAs by one of which a certificate must be signed to be left alone:
    /// the current one. Where there is no key to sign anew, any that is trusted.
    pub fn signers(&self) -> &[Certificate] {
        match (&self.key, self.certificates.as_slice()) {
            (Some(_), [current, ..]) => std::slice::from_ref(current),
            (_, all) => all,
        }
    }

    /// The key, or an error when the folder has none.
    pub fn key(&self) -> Result<&KeyPair> {
        self.key.as_ref().with_context(|| {
            let path = self.pair.key.display();
            format!("{path}: missing: restore it, or pass --ca-cert and --ca-key")
        })
    }

    /// Warns where there is a CA without its key: nothing is wrong yet.
    pub fn warn_of_lost_key(&self, run: &Run) {
        if let (Err(error), false) = (self.key(), self.certificates.is_empty()) {
            let message = format!("{error:#}: without it no certificate can be renewed");
            run.report(ToolResult::warning(Code::Missing, message));
        }
    }

    /// Signs a certificate for `key`, and gives it in PEM.
    pub fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Result<String> {
        sign(params, key, self.current()?, self.key()?)
            .with_context(|| self.pair.cert.display().to_string())
    }
}

/// Reads the certificates, with that of the key first, and the key. A key that
/// belongs to none of the certificates is an error.
fn parse(
    pair: &Pair,
    cert: Option<&[u8]>,
    key: Option<&[u8]>,
) -> Result<(Vec<Certificate>, Option<KeyPair>)> {
    let (cert_name, key_name) = (pair.cert.display().to_string(), pair.key.display().to_string());
    let certificates = cert.map(Certificate::all).transpose().with_context(|| cert_name.clone())?;
    let key = key.map(key::parse).transpose().with_context(|| key_name.clone())?;
    let mut certificates = certificates.unwrap_or_default();
    if let Some(key) = &key
        && !certificates.is_empty()
        && !put_first(&mut certificates, key)
    {
        bail!("{key_name}: is not the key of {cert_name}");
    }
    Ok((certificates, key))
}

/// Puts the certificate of `key` first; gives whether there is one.
fn put_first(certificates: &mut [Certificate], key: &KeyPair) -> bool {
    let at = certificates.iter().position(|certificate| certificate.is_of(key));
    if let Some(at) = at {
        certificates[..=at].rotate_right(1);
    }
    at.is_some()
}

fn usable(ca: &Certificate, now: OffsetDateTime) -> Result<()> {
    if !ca.signs_certificates {
        bail!("is not the certificate of a CA");
    }
    match ca.invalid(now) {
        Some(why) => bail!(why),
        None => Ok(()),
    }
}
