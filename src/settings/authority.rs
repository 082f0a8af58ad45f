//! The host and the port of a URL, or of a `Host` header.

use std::net::IpAddr;

/// The host of `host:port`, as it stands there. The port may be left out.
pub(super) fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Whether `host:port` names this machine: as `localhost`, or by a loopback address, which may be in brackets.
pub(crate) fn is_this_machine(authority: &str) -> bool {
    let host = host(authority);
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}
