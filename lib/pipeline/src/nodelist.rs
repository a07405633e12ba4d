//! The node list: the smallest form of the document.

use crate::document::{Cluster, Document, Node};
use crate::place::shown;
use crate::{Error, secrets};

/// Reads lines of `hostname:address:name`, as `k8s-master-01:192.168.1.100:etcd-01`.
///
/// An IPv6 address stands in brackets; `#` starts a comment; blank lines are skipped.
pub(crate) fn parse(text: &str) -> Result<Document, Error> {
    if secrets::has_private_key(text) {
        return Err(Error::bad_input("stdin: a private key, not a cluster document"));
    }
    let mut nodes = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        nodes.push(node(line).ok_or_else(|| {
            Error::bad_input(format!(
                "stdin:{}: {}: expected hostname:address:name (IPv6 in brackets), \
                 or a JSON document",
                at + 1,
                shown(line)
            ))
        })?);
    }
    Ok(Document { cluster: Some(Cluster::default()), ..Document::of_nodes(nodes) })
}

fn node(line: &str) -> Option<Node> {
    let (hostname, rest) = line.split_once(':')?;
    let (address, name) = match rest.trim_start().strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(a, n)| (a, n.trim_start()))?,
        None => rest.split_at(rest.find(':')?),
    };
    let name = name.strip_prefix(':')?;
    let [hostname, address, name] = [hostname, address, name].map(str::trim);
    if [hostname, address, name].iter().any(|part| part.is_empty()) || name.contains(':') {
        return None;
    }
    Some(Node {
        name: name.into(),
        hostname: Some(hostname.into()),
        address: address.into(),
        ..Node::default()
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn three_lines_make_three_nodes() {
        let text = "# masters\r\nm1:192.168.1.100:etcd-01\r\n\n m2 : [fd00::1] : etcd-02 # v6\n\
                    n1:node.example.org:etcd-03";
        let nodes = parse(text).unwrap().nodes;
        let got: Vec<_> =
            nodes.iter().map(|n| (n.hostname(), n.address.as_str(), n.name.as_str())).collect();
        assert_eq!(
            got,
            [
                ("m1", "192.168.1.100", "etcd-01"),
                ("m2", "fd00::1", "etcd-02"),
                ("n1", "node.example.org", "etcd-03")
            ]
        );
    }

    #[test]
    fn a_bad_line_is_named() {
        for line in ["nonsense", "a:b", "a::c", "a:fd00::1:c", "a:[fd00::1:c", "a:b:c:d", ":b:c"] {
            let error = parse(&format!("# comment\n{line}\n")).unwrap_err();
            let expected = format!(
                "stdin:2: {line:?}: expected hostname:address:name (IPv6 in brackets), \
                 or a JSON document"
            );
            assert_eq!(error.to_string(), expected);
        }
    }
}
