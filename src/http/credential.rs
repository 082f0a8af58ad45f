//! Where a request has its token or its API key.

use actix_http::RequestHead;
use actix_http::header::HeaderMap;
use actix_web::http::header;

use super::ApiError;
use super::query::Parameters;
use crate::auth::{Credential, is_key};

/// The subprotocol of a WebSocket whose client sends its token as the subprotocol after this one.
pub(super) const SUBPROTOCOL: &str = "rollcall";

/// What a request shows in all its places.
pub(super) struct Shown(Vec<String>);

impl Shown {
    /// The one token or API key.
    ///
    /// # Errors
    /// There are several, or it is too long.
    pub(super) fn one(self) -> Result<Option<Credential>, ApiError> {
        match &self.0[..] {
            [] => Ok(None),
            [one] => Credential::new(one.as_str().into()).map(Some).map_err(|_| ApiError::TokenInvalid),
            [_, _, ..] => Err(ApiError::SeveralTokens),
        }
    }

    /// The one API key. Tokens do not count, as if they were not there.
    ///
    /// # Errors
    /// There are several, or it is too long.
    pub(super) fn key(self) -> Result<Option<Credential>, ApiError> {
        Self(self.0.into_iter().filter(|text| is_key(text)).collect()).one()
    }
}

/// What an HTTP request shows. It is in `Authorization`, and nowhere else: logs and caches keep URLs.
pub(super) fn of_request(headers: &HeaderMap) -> Shown {
    Shown(bearers(headers).collect())
}

/// What the handshake of a socket shows. A browser cannot set `Authorization` there. So it may be in the URL, or a subprotocol.
pub(super) fn of_upgrade(head: &RequestHead, parameters: &Parameters<'_>) -> Shown {
    let mut shown: Vec<_> = bearers(head.headers()).collect();
    shown.extend(parameters.texts("token").map(|text| text.unwrap_or_default().to_owned()));
    if offers_ours(head.headers()) {
        shown.extend(subprotocols(head.headers()).filter(|name| name != SUBPROTOCOL));
    }
    Shown(shown)
}

/// Whether a client offers our subprotocol. It then expects to be told that we take it.
pub(super) fn offers_ours(headers: &HeaderMap) -> bool {
    subprotocols(headers).any(|name| name == SUBPROTOCOL)
}

/// The tokens in `Authorization`. Other schemes are not ours. Bytes that are no text make a text that is no token.
fn bearers(headers: &HeaderMap) -> impl Iterator<Item = String> {
    headers.get_all(header::AUTHORIZATION).filter_map(|value| {
        let value = String::from_utf8_lossy(value.as_bytes());
        let (scheme, token) = value.split_once(' ').unwrap_or((&value, ""));
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    })
}

/// The subprotocols that a client offers, on all lines together.
fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = String> {
    headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).flat_map(|value| {
        let value = String::from_utf8_lossy(value.as_bytes());
        let names: Vec<_> = value.split(',').map(|name| name.trim().to_owned()).collect();
        names.into_iter().filter(|name| !name.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn shown(lines: &[(&str, &str)], query: &str) -> Result<bool, &'static str> {
        let mut head = RequestHead::default();
        for (name, value) in lines {
            let (name, value) = (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
            head.headers_mut().append(name, value);
        }
        let shown = of_upgrade(&head, &Parameters::parse(query)).one();
        shown.map(|credential| credential.is_some_and(|it| it.is_key())).map_err(|error| error.code())
    }

    #[test]
    fn a_handshake_has_its_token_in_one_of_three_places() {
        assert_eq!(shown(&[("authorization", "Bearer rck_a")], ""), Ok(true));
        assert_eq!(shown(&[("authorization", "bearer   rck_a ")], ""), Ok(true));
        assert_eq!(shown(&[], "userId=7&token=rck_a"), Ok(true));
        assert_eq!(shown(&[("sec-websocket-protocol", "rollcall, rck_a")], ""), Ok(true));
        let lines = [("sec-websocket-protocol", "rck_a"), ("sec-websocket-protocol", "rollcall")];
        assert_eq!(shown(&lines, ""), Ok(true), "the lines of a list are one list");
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        assert_eq!(shown(&[("authorization", "Basic rck_a"), ("authorization", "rck_a")], "tokens=rck_a"), Ok(false));
        assert_eq!(shown(&[("sec-websocket-protocol", "graphql-ws, rck_a")], ""), Ok(false));
        assert_eq!(shown(&[("sec-websocket-protocol", "rollcall")], ""), Ok(false));
    }

    #[test]
    fn two_tokens_are_refused() {
        for (lines, query) in [
            (vec![("authorization", "Bearer a"), ("authorization", "Bearer a")], ""),
            (vec![("authorization", "Bearer a")], "token=a"),
            (vec![], "token=a&token=a"),
            (vec![("sec-websocket-protocol", "rollcall, a")], "token=a"),
            (vec![("sec-websocket-protocol", "rollcall, a, b")], ""),
        ] {
            assert_eq!(shown(&lines, query), Err("several_tokens"), "{lines:?} {query}");
        }
        let long = "x".repeat(8193);
        assert_eq!(shown(&[], &format!("token={long}")), Err("token_invalid"));
    }
}
