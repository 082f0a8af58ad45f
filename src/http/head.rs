//! How large the head of a request may be.

use actix_http::RequestHead;

use super::ApiError;
use crate::session::Addresses;

/// Lets a head pass that is not too large. The server reads 131 072 bytes, so that a client with a few cookies too many is
/// told what is wrong.
///
/// # Errors
/// [`ApiError::HeadTooLarge`].
pub(super) fn admit(head: &RequestHead, addresses: &Addresses) -> Result<(), ApiError> {
    addresses.admit_head(size(head)).map_err(|max_bytes| ApiError::HeadTooLarge { max_bytes })
}

/// The bytes of the first line and of the headers, as a client usually writes them.
fn size(head: &RequestHead) -> usize {
    let authority = head.uri.authority().map_or(0, |authority| authority.as_str().len());
    let path = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let first = head.method.as_str().len() + authority + path + "  HTTP/1.1\r\n".len();
    let headers = head.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    first + headers.sum::<usize>() + "\r\n".len()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_head_has_the_size_that_it_has_on_the_wire() {
        let request =
            TestRequest::with_uri("/ws?userId=42").insert_header(("host", "a")).insert_header(("cookie", "b=c"));
        let wire = "GET /ws?userId=42 HTTP/1.1\r\nhost: a\r\ncookie: b=c\r\n\r\n";
        assert_eq!(size(request.to_http_request().head()), wire.len());
    }
}
