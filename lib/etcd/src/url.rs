//! The URLs that etcd's variables and members name.

use std::net::{IpAddr, Ipv4Addr};

/// What a URL in a variable is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// etcd listens on it.
    Listen,
    /// Others reach etcd there.
    Advertise,
    /// Web pages come from there.
    Origin,
}

impl Use {
    /// Whether etcd starts with `url`: `NewURLs` in etcd's client/pkg/types/urls.go, and
    /// `checkBindURLs` and `checkHostURLs` in server/embed/config.go.
    pub fn fits(self, url: &str) -> bool {
        let url = url.trim();
        let Some((scheme, rest)) = url.split_once(':') else { return false };
        match scheme.to_ascii_lowercase().as_str() {
            // Which forms are taken differs between minor versions.
            "unix" | "unixs" => return true,
            "http" | "https" => {}
            _ => return false,
        }
        let Some(rest) = rest.strip_prefix("//") else { return false };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at(end);
        let Some((host, port)) = host_and_port(authority) else { return false };
        let bare = bare(host);
        !after.starts_with('/')
            && port.bytes().all(|b| b.is_ascii_digit())
            && match self {
                Self::Listen => {
                    (bare == "localhost" || bare.parse::<IpAddr>().is_ok())
                        && (port.is_empty() || port.parse::<u16>().is_ok())
                }
                Self::Advertise => !bare.is_empty(),
                Self::Origin => true,
            }
    }

    /// What URLs it takes, as the end of a message.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Listen => {
                "URLs of an IP address and a port, e.g. http://127.0.0.1:2381, with commas between \
                 them"
            }
            Self::Advertise => {
                "URLs of a host and a port, e.g. https://192.168.1.100:2379, with commas between \
                 them"
            }
            Self::Origin => {
                "* or URLs of a host and a port, e.g. https://www.example.com:443, with commas \
                 between them"
            }
        }
    }
}

/// Whether one process cannot listen on both URLs: they are of one port, and of one address
/// or of all addresses (Linux gives EADDRINUSE, and `net.Listen` in Go takes `0.0.0.0` for
/// all of IPv6, too). A URL of a socket file, or whose port the system chooses, never is.
pub fn is_same_socket(one: &str, other: &str) -> bool {
    let (Some((ip, port)), Some((other_ip, other_port))) = (socket(one), socket(other)) else {
        return false;
    };
    port == other_port && (ip == other_ip || ip.is_unspecified() || other_ip.is_unspecified())
}

fn socket(url: &str) -> Option<(IpAddr, u16)> {
    let (_, rest) = url.trim().split_once("://")?;
    let (host, port) = host_and_port(rest.split(['/', '?', '#']).next()?)?;
    let ip = match bare(host) {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.parse::<IpAddr>().ok()?.to_canonical(),
    };
    Some((ip, port.parse().ok()?)).filter(|(_, port)| *port != 0)
}

/// The host, in its brackets, and the port of what stands between the slashes of a URL.
fn host_and_port(authority: &str) -> Option<(&str, &str)> {
    let (_, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = place.rsplit_once(':')?;
    (!bare(host).contains(':') || host.starts_with('[')).then_some((host, port))
}

/// The `host` without the brackets of IPv6.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The scheme, the host (IPv6 in brackets) and the port of `url`; none where one of them is
/// missing.
pub fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
    (!host.is_empty() && !port.is_empty()).then_some((scheme, host, port))
}

/// The IP address that is the host of `url`; nothing where that is a name, or `url` has not
/// three [`parts`].
pub fn ip(url: &str) -> Option<IpAddr> {
    bare(parts(url)?.1).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_may_be_an_address() {
        for (url, expected) in [
            ("https://10.0.0.1:2380", Some("10.0.0.1")),
            ("https://[fd00:0::1]:2380", Some("fd00::1")),
            ("https://one:2380", None),
            ("10.0.0.1", None),
        ] {
            assert_eq!(ip(url).map(|ip| ip.to_string()).as_deref(), expected, "{url}");
        }
    }

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
    #[test]
    fn one_port_of_one_host_is_one_socket() {
        for (one, other, same) in [
            ("http://127.0.0.1:2380", "https://127.0.0.1:2380", true),
            ("http://127.0.0.1:2380", "https://192.168.1.100:2380", false),
            ("http://127.0.0.1:2381", "https://127.0.0.1:2380", false),
            ("http://localhost:2379", "https://127.0.0.1:2379", true),
            ("http://0.0.0.0:2379", "https://127.0.0.1:2379", true),
            ("http://[::]:2380", "https://192.168.1.100:2380", true),
            ("http://[::1]:2380", "https://127.0.0.1:2380", false),
            ("http://[::ffff:127.0.0.1]:2380", "https://127.0.0.1:2380", true),
            ("http://127.0.0.1:0", "https://127.0.0.1:0", false),
            ("unix://127.0.0.1", "unix://127.0.0.1", false),
        ] {
            assert_eq!(is_same_socket(one, other), same, "{one} {other}");
            assert_eq!(is_same_socket(other, one), same, "{other} {one}");
        }
    }
}
