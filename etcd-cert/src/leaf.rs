//! The certificates that the CA signs.

use anyhow::Result;
use pipeline::disk;
use pipeline::document::Node;
use rcgen::{DnType, ExtendedKeyUsagePurpose as Usage, IsCa, KeyPair, KeyUsagePurpose, SanType};
use time::{Duration, OffsetDateTime};

use crate::authority::Authority;
use crate::certificate::Certificate;
use crate::folder::{Folder, Pair, read_if_present};
use crate::key;
use crate::sign::{EARLIER, params};

/// A certificate as it is wanted.
pub(crate) struct Leaf {
    /// For people, as `server certificate`.
    pub label: String,
    /// Where it lies.
    pub pair: Pair,
    subject: (DnType, String),
    /// The names that it must have; empty when any will do.
    names: Vec<String>,
    usages: Vec<Usage>,
    /// Whether a new one is valid for as long as the one before it.
    keeps_term: bool,
}

/// What there is of a certificate.
pub(crate) enum State {
    /// It fits.
    Good(Certificate),
    /// It does not, and why.
    Bad(String),
    /// It does, but not for long, and until when.
    Due(String),
    /// There is none.
    Missing,
}

/// What a certificate has to fulfil besides being signed and complete.
pub(crate) struct Demands<'a> {
    pub authority: &'a Authority,
    pub now: OffsetDateTime,
    /// It must be valid for longer than this; one whose term, which it keeps, is no longer,
    /// for a third of that.
    pub renew_before: Duration,
    /// Whether it may have more names than are wanted.
    pub more_names: bool,
}

/// The server and the peer certificate of the node `name`, for `names`.
///
/// Both are for servers and clients: a member is a client of its peers, and
/// etcd's gateway shows the server certificate to its own server.
pub(crate) fn of_node(folder: &Folder, name: &str, names: &[String]) -> Vec<Leaf> {
    let leaf = |stem| Leaf {
        label: format!("{stem} certificate"),
        pair: folder.of_node(name, stem),
        subject: (DnType::CommonName, name.into()),
        names: names.to_vec(),
        usages: vec![Usage::ServerAuth, Usage::ClientAuth],
        keeps_term: false,
    };
    vec![leaf("server"), leaf("peer")]
}

/// The client certificates of the operator, of kube-apiserver, and all that [`client`]
/// made, which are renewed for as long as they were made for.
pub(crate) fn clients(folder: &Folder) -> Result<Vec<Leaf>> {
    // With authentication on, etcd takes a client's common name for that of its user,
    // and its gateway refuses certificates that have one.
    let operator = (DnType::OrganizationName, "etcd-tools".to_owned());
    let apiserver = (DnType::CommonName, "kube-apiserver-etcd-client".to_owned());
    let mut leaves = vec![
        of_client("client", operator, folder.client()),
        of_client("apiserver-etcd-client", apiserver, folder.apiserver_client()),
    ];
    let named = |name: &String| Leaf { keeps_term: true, ..client(folder, name) };
    leaves.extend(folder.named_clients()?.iter().map(named));
    Ok(leaves)
}

/// The client certificate of `name`, which is its common name and so its user where
/// authentication is on.
pub(crate) fn client(folder: &Folder, name: &str) -> Leaf {
    of_client(name, (DnType::CommonName, name.to_owned()), folder.named_client(name))
}

fn of_client(stem: &str, subject: (DnType, String), pair: Pair) -> Leaf {
    Leaf {
        label: format!("{stem} certificate"),
        pair,
        subject,
        names: Vec::new(),
        usages: vec![Usage::ClientAuth],
        keeps_term: false,
    }
}

/// The names and addresses under which `node` is reached, and `more`.
pub(crate) fn names(node: &Node, more: &[String]) -> Vec<String> {
    let address = node.ip().map_or(node.address.clone(), |ip| ip.to_string());
    let own = [address.as_str(), node.hostname(), &node.name, "localhost", "127.0.0.1", "::1"];
    let mut names: Vec<String> = Vec::new();
    for name in own.into_iter().chain(more.iter().map(String::as_str)) {
        if !names.iter().any(|known| known == name) {
            names.push(name.into());
        }
    }
    names
}

impl Leaf {
    /// When the certificate that is there expires, whatever else is wrong with it.
    pub fn not_after(&self) -> Option<OffsetDateTime> {
        let cert = read_if_present(&self.pair.cert).ok()??;
        Certificate::first(&cert).ok().map(|found| found.not_after)
    }

    /// Looks at what there is. An error is one of reading a file.
    pub fn state(&self, demands: &Demands) -> Result<State> {
        let Some(cert) = read_if_present(&self.pair.cert)? else { return Ok(State::Missing) };
        let key = read_if_present(&self.pair.key)?;
        Ok(match Certificate::first(&cert) {
            Err(error) => State::Bad(format!("{} {error}", self.pair.cert.display())),
            Ok(found) => match self.fault(&found, key.as_deref(), demands) {
                Some(fault) => fault,
                None => State::Good(found),
            },
        })
    }

    /// For how long a new one is to be valid; nothing where the certificate that is there does
    /// not say so.
    pub fn kept_term(&self, authority: &Authority) -> Option<Duration> {
        let cert = read_if_present(&self.pair.cert).ok()??;
        self.term(&Certificate::first(&cert).ok()?, authority)
    }

    fn term(&self, found: &Certificate, authority: &Authority) -> Option<Duration> {
        // What ends with a CA may have been meant to last longer.
        let is_cut = authority.certificates().iter().any(|ca| ca.not_after == found.not_after);
        let term = found.not_after - found.not_before - EARLIER;
        (self.keeps_term && !is_cut && term.is_positive()).then_some(term)
    }

    /// Why `found` cannot stay, if it cannot.
    fn fault(&self, found: &Certificate, key: Option<&[u8]>, demands: &Demands) -> Option<State> {
        let bad = |why: String| Some(State::Bad(why));
        let Some(key) = key else { return bad("its key is missing".into()) };
        match key::parse(key) {
            Err(error) => return bad(format!("its key {error}")),
            Ok(key) if !found.is_of(&key) => {
                return bad("its key does not match the certificate".into());
            }
            Ok(_) => {}
        }
        if !demands.authority.signers().iter().any(|ca| found.is_signed_by(ca)) {
            return bad("it is not signed by the CA".into());
        }
        if let Some(invalid) = found.invalid(demands.now) {
            return bad(invalid);
        }
        // One that expires with its CA could not be made to last longer.
        let lasts = demands.authority.current().map_or(true, |ca| found.not_after < ca.not_after);
        // One of a shorter term of its own would be due from its first day.
        let short = self.term(found, demands.authority);
        let short = short.filter(|term| *term <= demands.renew_before);
        let renew_before = short.map_or(demands.renew_before, |term| term / 3);
        if lasts && found.not_after - demands.now <= renew_before {
            return Some(State::Due(format!("it expires {}", found.expiry(demands.now))));
        }
        let fault = self.usage_fault(found).or_else(|| self.name_fault(found, demands.more_names));
        fault.map(State::Bad)
    }

    fn usage_fault(&self, found: &Certificate) -> Option<String> {
        if !found.signs_handshakes {
            return Some("its key usage lacks digitalSignature".into());
        }
        let lacking = self.usages.iter().find(|usage| !found.usages.contains(usage))?;
        let name = if *lacking == Usage::ServerAuth { "serverAuth" } else { "clientAuth" };
        Some(format!("its extended key usage lacks {name}"))
    }

    fn name_fault(&self, found: &Certificate, more_names: bool) -> Option<String> {
        if self.names.is_empty() {
            return None;
        }
        if let Some(name) = self.names.iter().find(|name| !found.names.contains(name)) {
            return Some(format!("{} is not among its names", described(name)));
        }
        let extra = found.names.iter().find(|name| !self.names.contains(name))?;
        let fault = || format!("{} is among its names, but not wanted", described(extra));
        (!more_names).then(fault)
    }

    /// Makes a new key and a certificate for it that expires at `not_after`, or with
    /// its CA if that is sooner, and writes both.
    pub fn issue(
        &self,
        authority: &Authority,
        now: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<()> {
        let not_after = not_after.min(authority.current()?.not_after);
        let mut params = params((self.subject.0.clone(), &self.subject.1), now, not_after)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = self.usages.clone();
        for name in &self.names {
            params.subject_alt_names.push(match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        let key = KeyPair::generate()?;
        let cert = authority.sign(&params, &key)?;
        if let Some(folder) = self.pair.cert.parent() {
            disk::private_dir(folder)?;
        }
        self.pair.write(&cert, &key.serialize_pem())
    }
}

fn described(name: &str) -> String {
    let kind = if name.parse::<std::net::IpAddr>().is_ok() { "address" } else { "name" };
    format!("{kind} {name}")
}
