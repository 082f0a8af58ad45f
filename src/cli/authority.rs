//! The host and the port in a URL.

/// The port of a URL that has none.
pub(super) const PLAIN_PORT: u16 = 80;
pub(super) const TLS_PORT: u16 = 443;

/// The host in a `host:port`, without the brackets of an IPv6 address, and the port, or `default_port` if there is none.
pub(super) fn host_and_port(authority: &str, default_port: u16) -> (&str, u16) {
    let with_port = authority.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = with_port.unwrap_or((authority, default_port));
    (host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_port_and_brackets() {
        for (authority, expected) in [
            ("node1", ("node1", 80)),
            ("node1:8080", ("node1", 8080)),
            ("127.0.0.1:1", ("127.0.0.1", 1)),
            ("[::1]", ("::1", 80)),
            ("[::1]:8080", ("::1", 8080)),
        ] {
            assert_eq!(host_and_port(authority, PLAIN_PORT), expected);
        }
    }
}
