//! The URLs that etcd's variables and members name.

/// The scheme, the host (IPv6 in brackets) and the port of `url`; none where one of them is
/// missing.
pub fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
    (!host.is_empty() && !port.is_empty()).then_some((scheme, host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_three_parts() {
        for (url, expected) in [
            ("https://192.168.1.100:2380", Some(("https", "192.168.1.100", "2380"))),
            ("http://[fd00::1]:2379/", Some(("http", "[fd00::1]", "2379"))),
            ("https://host", None),
            ("unix://:1", None),
        ] {
            assert_eq!(parts(url), expected, "{url}");
        }
    }
}
