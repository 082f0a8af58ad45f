//! Who may speak for the application's server.

use actix_web::HttpRequest;
use actix_web::http::header;

use super::{ApiError, client_address};
use crate::settings;
use crate::transport::Peer;

/// Lets only programs on this machine pass. The peer of the connection counts, and no header: anybody can write a header. A
/// request that a proxy has passed on is somebody else's. So a header of a proxy shuts the door, and opens none.
///
/// A browser on this machine speaks for the page that it shows, so pages do not pass. A page may have given its own name
/// the address of this machine (DNS rebinding), and then its browser sends no `Origin`. But it sends that name as `Host`.
///
/// # Errors
/// [`ApiError::LoopbackOnly`].
pub(crate) fn require(request: &HttpRequest) -> Result<(), ApiError> {
    let is_local = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    let is_page = request.headers().contains_key(header::ORIGIN) || !names_loopback(request);
    let is_direct = client_address::is_direct(request.head(), request.conn_data::<Peer>());
    if is_local && is_direct && !is_page { Ok(()) } else { Err(ApiError::LoopbackOnly) }
}

/// Whether `Host` names this machine by its loopback address, or as `localhost`. HTTP/1.0 has no `Host`.
fn names_loopback(request: &HttpRequest) -> bool {
    let Some(host) = request.headers().get(header::HOST) else { return true };
    host.to_str().is_ok_and(settings::names_loopback)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_the_address_of_the_connection_counts() {
        let from = |peer: &str| TestRequest::default().peer_addr(peer.parse().unwrap());
        for peer in ["127.0.0.1:5000", "127.8.8.8:5000", "[::1]:5000", "[::ffff:127.0.0.1]:5000"] {
            assert!(require(&from(peer).to_http_request()).is_ok(), "{peer}");
        }
        let claims = [("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1"), ("x-real-ip", "::1")];
        for peer in ["10.0.0.5:5000", "[::ffff:10.0.0.5]:5000", "[fe80::1]:5000"] {
            let request = claims.iter().fold(from(peer), |request, claim| request.insert_header(*claim));
            assert!(matches!(require(&request.to_http_request()), Err(ApiError::LoopbackOnly)), "{peer}");
        }
        for claim in claims {
            let passed_on = from("127.0.0.1:5000").insert_header(claim);
            assert!(matches!(require(&passed_on.to_http_request()), Err(ApiError::LoopbackOnly)), "{claim:?}");
        }
        let page = from("127.0.0.1:5000").insert_header(("origin", "http://localhost:3000"));
        assert!(matches!(require(&page.to_http_request()), Err(ApiError::LoopbackOnly)));
        for (host, passes) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("10.0.0.5:8080", false),
            ("", false),
        ] {
            let request = from("127.0.0.1:5000").insert_header(("host", host)).to_http_request();
            assert_eq!(require(&request).is_ok(), passes, "{host}");
        }
        assert!(matches!(require(&TestRequest::default().to_http_request()), Err(ApiError::LoopbackOnly)));
    }
}
