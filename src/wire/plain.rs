//! The plain format: events in upper case, with three members. It is for clients that only show who is there.
//! `docs/plain.md` describes it.
//!
//! Source: the contract's S4. If a user id is the usual decimal form of a whole number, it is written as a JSON number. The
//! clients of S4 compare it with a number.

use bytes::Bytes;
use serde_json::Value;

use super::fields::{MAX_REPEATED_BYTES, optional_user, token};
use super::frame;
use super::json::Object;
use super::message::{BadRequest, ClientMessage, ErrorCode, Message, Request};
use crate::clock;
use crate::domain::{Timestamp, Told, UserId};

/// The largest whole number that JavaScript counts exactly. Source: ECMA-262, `Number.MAX_SAFE_INTEGER`
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Reads a client's text. The format has one request, to say who the client is. The URL of a socket, or that request, makes its
/// user present. The close ends that, and pongs show that the client lives.
///
/// # Errors
/// [`BadRequest`] says why anything else is not carried out.
pub(super) fn parse(text: &str) -> Result<ClientMessage, BadRequest> {
    let value = serde_json::from_str::<Value>(text).ok().filter(|value| value["type"] == "AUTHENTICATE");
    let Some(Value::Object(fields)) = value else { return Err(refuse(text)) };
    let bad = |(code, message)| BadRequest { code, message, reference: None };
    let (user, token) = (optional_user(&fields).map_err(bad)?, token(&fields).map_err(bad)?);
    Ok(ClientMessage { request: Request::Authenticate { user, token }, reference: None })
}

fn refuse(text: &str) -> BadRequest {
    let (code, message) = match serde_json::from_str::<Value>(text) {
        Err(error) => (ErrorCode::InvalidJson, format!("the message is not JSON: {error}")),
        Ok(Value::Object(fields)) => match fields.get("type").and_then(Value::as_str) {
            None => (ErrorCode::MissingField, "`type` is missing, or is not a string".to_owned()),
            Some(kind) if kind.len() <= MAX_REPEATED_BYTES => {
                (ErrorCode::UnknownType, format!("there is no message of type {kind:?}"))
            }
            Some(_) => (ErrorCode::UnknownType, "there is no message of so long a type".to_owned()),
        },
        Ok(_) => (ErrorCode::NotAnObject, "the message must be a JSON object".to_owned()),
    };
    BadRequest { code, message, reference: None }
}

/// A message as a frame. It is none if the format has no words for the message.
pub(super) fn encode(message: &Message<'_>) -> Option<Bytes> {
    match message {
        // A client that missed events begins anew, as after a reconnect. It asks over HTTP who is there.
        Message::Welcome { user, .. } => Some(about("CONNECTION_ESTABLISHED", user, clock::now())),
        Message::Authenticated { user, n_online: _, ends_at: _ } => {
            Some(about("AUTHENTICATION_SUCCESS", user, clock::now()))
        }
        Message::NotAuthenticated { code, message, retry_after: _ } => {
            Some(complaint("AUTHENTICATION_ERROR", *code, message))
        }
        Message::Resync => Some(finish(object("RESYNC"), clock::now())),
        Message::Error { code, message, retry_after: _, room: _ } => Some(complaint("ERROR", *code, message)),
        Message::Event(event) => match event.what {
            Told::Online(_) => Some(about("USER_ONLINE", event.user, event.at)),
            Told::Offline(_) => Some(about("USER_OFFLINE", event.user, event.at)),
            Told::ProfileChanged(_) | Told::StatusChanged(_) => None,
        },
        Message::List { .. }
        | Message::Status { .. }
        | Message::OwnStatus { .. }
        | Message::Updated { .. }
        | Message::OwnEvent(_)
        | Message::Devices { .. }
        | Message::Subscribed { .. }
        | Message::Watching { .. }
        | Message::Unwatched { .. }
        | Message::Count { .. }
        | Message::CountUnwatched
        | Message::Paused
        | Message::Resumed { .. }
        | Message::Left { .. }
        | Message::RoomJoined { .. }
        | Message::RoomUsers { .. }
        | Message::RoomCount { .. }
        | Message::RoomLeft { .. }
        | Message::RoomEvent { .. }
        | Message::Typing { .. }
        | Message::TypingAck
        | Message::ActivityAck => None,
    }
}

fn complaint(kind: &str, code: ErrorCode, message: &str) -> Bytes {
    let mut out = object(kind);
    out.string("code", code.as_str()).string("message", message);
    finish(out, clock::now())
}

fn about(kind: &str, user: &UserId, at: Timestamp) -> Bytes {
    let mut out = object(kind);
    match whole_number(user.as_str()) {
        Some(number) => out.member("userId").extend_from_slice(number.as_bytes()),
        None => _ = out.string("userId", user.as_str()),
    }
    finish(out, at)
}

/// The id, if it is a whole number in its usual decimal form, and JavaScript counts it exactly. `42` and `-7` are such
/// ids, `042` and `-0` are not.
fn whole_number(id: &str) -> Option<&str> {
    let digits = id.strip_prefix('-').unwrap_or(id);
    let is_usual = digits.bytes().all(|byte| byte.is_ascii_digit()) && (!digits.starts_with('0') || id == "0");
    let number: u64 = digits.parse().ok().filter(|_| is_usual)?;
    (number <= MAX_NUMBER).then_some(id)
}

/// An object whose first member is `type`.
fn object(kind: &str) -> Object {
    let mut out = Object::new(128);
    out.string("type", kind);
    out
}

/// Closes the object and frames it.
fn finish(mut out: Object, at: Timestamp) -> Bytes {
    out.time("timestamp", at);
    frame::text(&out.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Token;

    #[test]
    fn only_the_usual_form_of_a_whole_number_is_a_number() {
        for id in ["0", "7", "42", "-7", "9007199254740991"] {
            assert_eq!(whole_number(id), Some(id));
        }
        for id in
            ["", "-", "-0", "00", "042", "+7", "4.2", "1e3", "x", "4 2", "9007199254740992", "99999999999999999999"]
        {
            assert_eq!(whole_number(id), None, "{id}");
        }
    }

    #[test]
    fn a_client_can_say_who_it_is() {
        let parse = |text| parse(text).map(|message| message.request).map_err(|bad| bad.code);
        let user = UserId::parse("42").unwrap();
        assert_eq!(
            parse(r#"{"type":"AUTHENTICATE","userId":42,"token":"s3cret"}"#),
            Ok(Request::Authenticate { user: Some(user), token: Some(Token::new("s3cret")) })
        );
        let nothing = Ok(Request::Authenticate { user: None, token: None });
        assert_eq!(parse(r#"{"type":"AUTHENTICATE","userId":null,"token":null}"#), nothing);
        assert_eq!(parse(r#"{"type":"AUTHENTICATE","token":7}"#), Err(ErrorCode::InvalidField));
        assert_eq!(parse(r#"{"type":"AUTHENTICATE","userId":{}}"#), Err(ErrorCode::InvalidField));
        assert_eq!(parse(r#"{"type":"authenticate","token":"x"}"#), Err(ErrorCode::UnknownType));
    }

    #[test]
    fn every_other_text_is_refused_with_its_code_and_little_of_it_repeated() {
        let long = format!(r#"{{"type":"{}"}}"#, "X".repeat(10_000));
        let cases = [
            ("", ErrorCode::InvalidJson),
            ("[]", ErrorCode::NotAnObject),
            ("{}", ErrorCode::MissingField),
            (r#"{"type":7}"#, ErrorCode::MissingField),
            (r#"{"type":"NEW_MESSAGE","content":"hi"}"#, ErrorCode::UnknownType),
            (&long, ErrorCode::UnknownType),
        ];
        for (text, code) in cases {
            let bad = refuse(text);
            assert_eq!(bad.code, code, "{text}");
            assert!(bad.message.len() < 200, "{}", bad.message);
        }
    }
}
