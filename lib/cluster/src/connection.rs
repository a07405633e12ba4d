//! Who holds a connection to the peer port of a member.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use remote::{Error, Host};

/// Says what there is of the port `$1` (hex) of the host, as the kernel has it.
const SOCKETS: &str = r#"# Says which sockets listen at a port, and what was accepted there.
grep -h ":$1 [0-9A-F]*:[0-9A-F]* 0[1A] " /proc/net/tcp /proc/net/tcp6 2>/dev/null || :"#;

/// The addresses that hold connections to the ports of the peer URLs `urls` on `host`. etcd
/// dials each of its peers (`streamReader` in its server/etcdserver/api/rafthttp/stream.go).
/// `None` where nothing listens there: it runs in a network namespace of its own.
pub(crate) async fn dialled_by(
    host: &Host,
    urls: &[String],
) -> Result<Option<BTreeSet<IpAddr>>, Error> {
    let mut all = None;
    for url in urls {
        let Some((_, _, port)) = etcd::url::parts(url) else { continue };
        let Ok(port) = port.parse::<u16>() else { continue };
        for line in host.run(SOCKETS, &[&format!("{port:04X}")], &[]).await? {
            match socket(&line) {
                Some((_, true)) => drop(all.get_or_insert_with(BTreeSet::new)),
                Some((remote, false)) => drop(all.get_or_insert_default().insert(remote)),
                None => {}
            }
        }
    }
    Ok(all)
}

/// The address at the other end of a line of /proc/net/tcp or tcp6, and whether it is a socket
/// that listens. An address has 32 bits at a time, each with its lowest byte first.
fn socket(line: &str) -> Option<(IpAddr, bool)> {
    let mut fields = line.split_whitespace().skip(2);
    let (remote, state) = (fields.next()?, fields.next()?);
    let mut bytes = hex::decode(remote.split(':').next()?).ok()?;
    bytes.chunks_mut(4).for_each(<[u8]>::reverse);
    let v4 = || Some(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..]).ok()?).into());
    let v6 = || Some(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?).into());
    let remote: IpAddr = v4().or_else(v6)?;
    Some((remote.to_canonical(), state == "0A"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_the_kernel() {
        for (line, expected) in [
            ("6501A8C0:094C 6401A8C0:A1B2 01", Some(("192.168.1.100", false))),
            (
                "0000000000000000FFFF00006501A8C0:094C 0000000000000000FFFF00006401A8C0:A1B2 01",
                Some(("192.168.1.100", false)),
            ),
            (
                "000000FD000000000000000001000000:094C 000000FD000000000000000002000000:A1B2 01",
                Some(("fd00::2", false)),
            ),
            ("6501A8C0:094C 00000000:0000 0A", Some(("0.0.0.0", true))),
            ("6501A8C0:094C", None),
            ("6501A8C0:094C 6501A8:A1B2 01", None),
        ] {
            let expected = expected.map(|(ip, listens)| (ip.parse().unwrap(), listens));
            assert_eq!(socket(&format!("   0: {line} 00000000:00000000")), expected, "{line}");
        }
    }
}
