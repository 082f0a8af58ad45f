//! Which address a client has, and whether it may come now.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use actix_http::RequestHead;
use actix_web::http::header;
use rand::RngExt;

use super::{ApiError, head};
use crate::session::{AddressPlace, Addresses, Admission};
use crate::settings::TrustedProxies;
use crate::transport::Peer;

/// Headers in which proxies name the client. Only `X-Forwarded-For` is ever believed.
const NAMED_BY_PROXIES: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];

/// How long the refusal of a request is held back, in ms. It is less than the shortest `Retry-After`: who waits for that loses
/// nothing. It is short, because what becomes free meanwhile comes at once. It is random, so that those who were refused together
/// do not come back together.
const HELD_BACK_MS: RangeInclusive<u64> = 25..=75;

/// Lets the handshake of a socket in. The socket keeps its place among those of its address.
///
/// # Errors
/// The head is too large, or the address has too many sockets, or comes too often.
pub(super) fn enter(
    head: &RequestHead,
    peer: Option<&Peer>,
    addresses: &Arc<Addresses>,
    admission: &Admission,
) -> Result<AddressPlace, ApiError> {
    head::admit(head, addresses)?;
    addresses.enter(bounded_address(head, peer, addresses)).map_err(|because| {
        admission.note_refusal(because);
        because.into()
    })
}

/// Lets an HTTP request pass. If its address asks too often, the refusal is held back. The connection is not read meanwhile. So a
/// client that floods meets the flow control of TCP. If refusals came at once, they would be all that a worker does: they cost
/// no less than many answers (`flood` in docs/performance.md).
///
/// # Errors
/// The head is too large, or the address asks too often.
pub(super) async fn pass(head: &RequestHead, peer: Option<&Peer>, addresses: &Addresses) -> Result<(), ApiError> {
    head::admit(head, addresses)?;
    let Err(retry_after) = addresses.ask(bounded_address(head, peer, addresses)) else { return Ok(()) };
    let delay_ms = rand::rng().random_range(HELD_BACK_MS);
    tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    Err(ApiError::RateLimited { retry_after })
}

/// Whether nobody has passed the request on, as far as it shows. What a proxy passes on is not the proxy's own word.
pub(super) fn is_direct(head: &RequestHead, peer: Option<&Peer>) -> bool {
    !peer.is_some_and(|peer| peer.is_proxied) && !NAMED_BY_PROXIES.iter().any(|name| head.headers().contains_key(*name))
}

/// The address whose limits count. It is none if none do: this machine is exempt, and so is a proxy that speaks for itself.
fn bounded_address(head: &RequestHead, peer: Option<&Peer>, addresses: &Addresses) -> Option<IpAddr> {
    let peer = peer.filter(|_| addresses.are_bounded())?;
    let proxies = addresses.proxies();
    if !proxies.contains(peer.addr.ip()) && head.headers().contains_key(header::X_FORWARDED_FOR) {
        addresses.note_unnamed_proxy(peer.addr.ip());
    }
    let ip = client_address(head, *peer, proxies);
    // Who is on this machine shows with the connection. What a proxy says of its own machine is no such word.
    let is_here = !peer.is_proxied && ip == peer.addr.ip() && ip.to_canonical().is_loopback();
    (!is_here && !proxies.contains(ip)).then_some(ip)
}

/// The address of the client. If a trusted proxy has sent the request, it says so in `X-Forwarded-For`. If that names nobody,
/// or is no list of addresses, the proxy itself is the client.
fn client_address(head: &RequestHead, peer: Peer, proxies: &TrustedProxies) -> IpAddr {
    let ip = peer.addr.ip();
    if proxies.contains(ip) { forwarded_for(head, proxies).unwrap_or(ip) } else { ip }
}

/// The last address of all `X-Forwarded-For` that is no trusted proxy. What stands before it may come from the client, which
/// can write what it likes.
fn forwarded_for(head: &RequestHead, proxies: &TrustedProxies) -> Option<IpAddr> {
    let lines: Vec<_> = head.headers().get_all(header::X_FORWARDED_FOR).collect();
    for line in lines.into_iter().rev() {
        // What the client wrote before may be no text.
        for part in String::from_utf8_lossy(line.as_bytes()).rsplit(',') {
            let ip = address_in(part.trim())?;
            if !proxies.contains(ip) {
                return Some(ip);
            }
        }
    }
    None
}

/// An address, perhaps in brackets, or with a port: some proxies write these.
fn address_in(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|addr| addr.ip()))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use actix_web::test::TestRequest;

    use super::*;
    use crate::settings::Settings;

    fn address_of(peer: &str, lines: &[impl AsRef<[u8]>]) -> String {
        let mut settings = Settings::default().server;
        settings.trusted_proxies = vec!["10.0.0.0/8".to_owned(), "2001:db8::/32".to_owned()];
        let peer = Peer { addr: SocketAddr::new(peer.parse().unwrap(), 1), is_proxied: false };
        let value = |line: &[u8]| HeaderValue::from_bytes(line).unwrap();
        let request = lines.iter().fold(TestRequest::default(), |request, line| {
            request.append_header((header::X_FORWARDED_FOR, value(line.as_ref())))
        });
        client_address(request.to_http_request().head(), peer, &TrustedProxies::new(&settings)).to_string()
    }

    #[test]
    fn a_trusted_proxy_says_who_the_client_is_and_nobody_else() {
        for (peer, lines, client) in [
            ("192.0.2.1", &["203.0.113.7"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("::ffff:10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            // What the client wrote stands on the left.
            ("10.0.0.1", &["127.0.0.1, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["127.0.0.1", "203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["\"junk, 203.0.113.7 , 10.0.0.2", "2001:db8::2"], "203.0.113.7"),
            ("10.0.0.1", &["203.0.113.7:5000"], "203.0.113.7"),
            ("10.0.0.1", &["[2001:db9::7]:5000"], "2001:db9::7"),
            ("10.0.0.1", &["[2001:db9::7]"], "2001:db9::7"),
            // Nobody is named.
            ("10.0.0.1", &["203.0.113.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7,"], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.1"),
        ] {
            assert_eq!(address_of(peer, lines), client, "{peer} {lines:?}");
        }
        // What the client wrote is no text.
        assert_eq!(address_of("10.0.0.1", &[&b"\x80, 203.0.113.7"[..]]), "203.0.113.7");
    }
}
