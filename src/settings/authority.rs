//! The part of a URL that says where a server is, which a `Host` header has, too: a host, and perhaps a port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host of `host:port` or `host`. An IPv6 address keeps its brackets.
pub(super) fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Whether `host:port` or `host` names this machine: by its loopback address, or as `localhost`.
pub(crate) fn names_loopback(authority: &str) -> bool {
    let host = host_of(authority);
    let ip = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().map(IpAddr::V4),
    };
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_stands_before_the_port() {
        for (authority, host) in [
            ("issuer.example", "issuer.example"),
            ("issuer.example:8443", "issuer.example"),
            ("issuer.example:", "issuer.example"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
            (":8443", ""),
            ("", ""),
        ] {
            assert_eq!(host_of(authority), host, "{authority}");
        }
    }

    #[test]
    fn only_localhost_and_loopback_addresses_name_this_machine() {
        for authority in ["localhost", "LOCALHOST:8080", "127.8.8.8:1", "[::1]:8080", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(names_loopback(authority), "{authority}");
        }
        for authority in [
            "",
            ":80",
            "::1",
            "[::1",
            "[[::1]]",
            "[127.0.0.1]",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil@localhost",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0",
        ] {
            assert!(!names_loopback(authority), "{authority}");
        }
    }
}
