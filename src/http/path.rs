//! Parts of a path that name something.

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;

use super::ApiError;
use crate::domain::{IdError, RoomId, UserId};

/// The user id in a path such as `/api/users/{userId}/explain`: the part with this number, from 0.
///
/// It is read from the path as the client sent it. actix replaces bytes that are not UTF-8, and then other ids would become
/// the same.
///
/// # Errors
/// The part is no user id, or not percent-encoded as it must be.
pub(crate) fn user(request: &HttpRequest, part: usize) -> Result<UserId, ApiError> {
    id(request, part, "userId", UserId::parse)
}

/// The room id in a path, in the same way.
///
/// # Errors
/// As [`user`].
pub(crate) fn room(request: &HttpRequest, part: usize) -> Result<RoomId, ApiError> {
    id(request, part, "roomId", RoomId::parse)
}

fn id<Id>(
    request: &HttpRequest,
    part: usize,
    name: &str,
    parse_id: impl Fn(&str) -> Result<Id, IdError>,
) -> Result<Id, ApiError> {
    let part = request.uri().path().split('/').skip(1).nth(part).unwrap_or_default();
    parse(part, parse_id).map_err(|what| ApiError::InvalidParameter { name: name.to_owned(), what })
}

fn parse<Id>(part: &str, parse_id: impl Fn(&str) -> Result<Id, IdError>) -> Result<Id, String> {
    if !is_percent_encoded(part) {
        return Err("must have two hexadecimal digits after each `%`".to_owned());
    }
    let text = percent_decode_str(part).decode_utf8().map_err(|_| "must be UTF-8".to_owned())?;
    parse_id(&text).map_err(|error| error.to_string())
}

fn is_percent_encoded(part: &str) -> bool {
    let is_byte = |after: &str| after.len() >= 2 && after.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    part.split('%').skip(1).all(is_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_in_a_path_is_decoded_strictly() {
        let id = |part: &str| parse(part, UserId::parse).map(|user| user.to_string());
        assert_eq!(id("team%2Fzo%C3%AB"), Ok("team/zoë".to_owned()));
        assert_eq!(id("a+b"), Ok("a+b".to_owned()), "a plus is a plus");
        for bad in ["", "%00", "a%0Ab", "%FF", "%C3", "%", "a%4", "%zz", "%+1", &"x".repeat(129)] {
            assert!(id(bad).is_err(), "{bad}");
        }
    }
}
