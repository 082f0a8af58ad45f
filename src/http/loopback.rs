//! Who may speak for the application's server.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header;

use super::ApiError;

/// Lets only programs on this machine pass. The peer of the connection counts, and no header: anybody can write a header.
/// A browser on this machine speaks for the page that it shows, so pages do not pass.
///
/// # Errors
/// [`ApiError::LoopbackOnly`].
pub(crate) fn require(request: &HttpRequest) -> Result<(), ApiError> {
    let is_local = request.peer_addr().is_some_and(|peer| is_loopback(peer.ip()));
    if is_local && !request.headers().contains_key(header::ORIGIN) { Ok(()) } else { Err(ApiError::LoopbackOnly) }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
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
        let page = from("127.0.0.1:5000").insert_header(("origin", "http://localhost:3000"));
        assert!(matches!(require(&page.to_http_request()), Err(ApiError::LoopbackOnly)));
        assert!(matches!(require(&TestRequest::default().to_http_request()), Err(ApiError::LoopbackOnly)));
    }
}
