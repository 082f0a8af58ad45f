//! The native format: text frames of flat JSON over `/ws`. `docs/protocol.md` describes it.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::frame;
use super::json::{Object, list_capacity, push_user, push_users, user_id};
use super::message::{BadRequest, ClientMessage, ErrorCode, Event, Message, Request, RequestLimits, Standing};
use crate::clock;
use crate::domain::user::ProfileFields;
use crate::domain::{Change, Profile, UserId};

/// The longest `ref`, encoded. It has a bound, because the server holds it in memory for a client.
const MAX_REFERENCE_BYTES: usize = 128;

/// An error repeats a text of the client only if the text is not longer than this. So the answer does not grow with the
/// request.
const MAX_REPEATED_BYTES: usize = 64;

/// Reads a client's text.
///
/// # Errors
/// [`BadRequest`] says what is wrong with the text.
pub(super) fn parse(text: &str, limits: RequestLimits) -> Result<ClientMessage, BadRequest> {
    let value: Value = serde_json::from_str(text).map_err(|error| BadRequest {
        code: ErrorCode::InvalidJson,
        message: format!("the frame is not JSON: {error}"),
        reference: None,
    })?;
    let Value::Object(fields) = value else {
        let message = "the frame must be a JSON object".to_owned();
        return Err(BadRequest { code: ErrorCode::NotAnObject, message, reference: None });
    };
    let reference = reference(&fields).map_err(|(code, message)| BadRequest { code, message, reference: None })?;
    match request(&fields, limits) {
        Ok(request) => Ok(ClientMessage { request, reference }),
        Err((code, message)) => Err(BadRequest { code, message, reference }),
    }
}

type Fault = (ErrorCode, String);

fn request(fields: &Map<String, Value>, limits: RequestLimits) -> Result<Request, Fault> {
    let kind = required(fields, "type")?;
    let kind = kind.as_str().ok_or_else(|| invalid("type", "must be a string"))?;
    match kind {
        "join_user" => Ok(Request::Join { user: required_user(fields)?, profile: profile(fields, limits)? }),
        // Older clients of the contract (S2) say `user_online`.
        "user_activity" | "user_online" => Ok(Request::Activity),
        "get_online_users" => Ok(Request::List { limit: limit(fields, limits)?, cursor: cursor(fields)? }),
        "check_user_online" => Ok(Request::Check { user: required_user(fields)? }),
        "leave" => Ok(Request::Leave),
        short if short.len() <= MAX_REPEATED_BYTES => {
            Err((ErrorCode::UnknownType, format!("there is no request of type {short:?}")))
        }
        _ => Err((ErrorCode::UnknownType, "there is no request of so long a type".to_owned())),
    }
}

fn required<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a Value, Fault> {
    present(fields, name).ok_or_else(|| (ErrorCode::MissingField, format!("`{name}` is missing")))
}

/// The value of a field. `null` counts as absent.
fn present<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn invalid(name: &str, what: &str) -> Fault {
    (ErrorCode::InvalidField, format!("`{name}` {what}"))
}

fn required_user(fields: &Map<String, Value>) -> Result<UserId, Fault> {
    user_id(required(fields, "userId")?).map_err(|what| invalid("userId", &what))
}

fn cursor(fields: &Map<String, Value>) -> Result<Option<UserId>, Fault> {
    present(fields, "cursor").map(user_id).transpose().map_err(|what| invalid("cursor", &what))
}

fn limit(fields: &Map<String, Value>, limits: RequestLimits) -> Result<Option<usize>, Fault> {
    let Some(value) = present(fields, "limit") else { return Ok(None) };
    let limit = value.as_u64().and_then(|limit| usize::try_from(limit).ok());
    match limit.filter(|limit| (1..=limits.page_max).contains(limit)) {
        Some(limit) => Ok(Some(limit)),
        None => Err(invalid("limit", &format!("must be a whole number from 1 to {}", limits.page_max))),
    }
}

fn profile(fields: &Map<String, Value>, limits: RequestLimits) -> Result<Option<Profile>, Fault> {
    for name in ["name", "username", "email", "avatar"] {
        if present(fields, name).is_some_and(|value| !value.is_string()) {
            return Err(invalid(name, "must be a string"));
        }
    }
    let fields = ProfileFields::deserialize(fields).map_err(|error| (ErrorCode::InvalidField, error.to_string()))?;
    Profile::from_fields(&fields, limits.profile_bytes).map_err(|error| (ErrorCode::InvalidField, error.to_string()))
}

fn reference(fields: &Map<String, Value>) -> Result<Option<String>, Fault> {
    let Some(value) = present(fields, "ref") else { return Ok(None) };
    let encoded = value.to_string();
    if !(value.is_string() || value.is_number()) || encoded.len() > MAX_REFERENCE_BYTES {
        return Err(invalid("ref", &format!("must be a string or a number of at most {MAX_REFERENCE_BYTES} bytes")));
    }
    Ok(Some(encoded))
}

/// A message as a frame. An answer carries the encoded `ref` of its request.
pub(super) fn encode(message: &Message<'_>, reference: Option<&str>) -> Bytes {
    let mut out = match *message {
        Message::Welcome { user, socket, n_online, standing } => {
            let mut out = object("welcome", 256);
            out.string("userId", user.as_str()).string("socketId", &socket.to_string());
            out.string("nodeId", socket.node.as_str()).number("onlineCount", n_online as u64);
            push_standing(&mut out, standing);
            out.time("timestamp", clock::now());
            out
        }
        Message::List { page, total, standing } => {
            let mut out = object("online_users_list", list_capacity(page.users.len()));
            push_users(out.member("users"), page.users.iter().copied());
            out.number("total", total as u64);
            if let Some(cursor) = page.next_cursor {
                out.string("nextCursor", cursor.as_str());
            }
            push_standing(&mut out, standing);
            out
        }
        Message::Status { user, presence, standing } => {
            let mut out = object("user_online_status", 256);
            out.string("userId", user.as_str()).boolean("online", presence.is_some());
            if let Some(presence) = presence {
                push_user(out.member("user"), user, presence);
            }
            push_standing(&mut out, standing);
            out
        }
        Message::Left { user } => {
            let mut out = object("left", 64);
            out.string("userId", user.as_str());
            out
        }
        Message::ActivityAck => object("user_activity_ack", 64),
        Message::Resync => object("resync", 64),
        Message::Error { code, message, retry_after } => {
            let mut out = object("error", 128);
            out.string("code", code.as_str()).string("message", message);
            if let Some(delay) = retry_after {
                // The delay is rounded up. So a client that waits for this time is never too early.
                out.number("retryAfterMs", delay.as_micros().div_ceil(1000) as u64);
            }
            out
        }
        Message::Event(event) => event_object(&event),
    };
    if let Some(reference) = reference {
        out.member("ref").extend_from_slice(reference.as_bytes());
    }
    frame::text(&out.finish())
}

/// `user_online`, `user_changed` or `user_offline`.
fn event_object(event: &Event<'_>) -> Object {
    let kind = match event.change {
        Change::Online(_) => "user_online",
        Change::Changed(_) => "user_changed",
        Change::Offline(_) => "user_offline",
    };
    let mut out = object(kind, 256);
    out.string("userId", event.user.as_str());
    match event.change {
        Change::Online(presence) | Change::Changed(presence) => push_user(out.member("user"), event.user, presence),
        Change::Offline(reason) => {
            out.string("reason", reason.as_str());
        }
    }
    match event.revision {
        Some(revision) => out.number("epoch", event.epoch).number("revision", revision),
        None => out.boolean("provisional", true),
    };
    if event.catch_up {
        out.boolean("catchUp", true);
    }
    out.time("timestamp", event.at);
    out
}

/// An object whose first member is `type`.
fn object(kind: &str, capacity: usize) -> Object {
    let mut out = Object::new(capacity);
    out.string("type", kind);
    out
}

fn push_standing(out: &mut Object, standing: Standing) {
    out.number("epoch", standing.position.epoch).number("revision", standing.position.revision);
    out.degraded(standing.degraded);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Presence, Timestamp};

    const LIMITS: RequestLimits = RequestLimits { profile_bytes: 100, page_max: 1000 };

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    #[test]
    fn requests_are_understood() {
        let parse = |text| parse(text, LIMITS).unwrap();
        let join = parse(r#"{"type":"join_user","userId":42,"name":"A","ref":7}"#);
        let Request::Join { user: joined, profile } = join.request else { panic!() };
        assert_eq!((joined, profile.unwrap().members()), (user("42"), r#""name":"A""#));
        assert_eq!(join.reference.as_deref(), Some("7"));
        assert_eq!(parse(r#"{"type":"user_activity"}"#).request, Request::Activity);
        assert_eq!(
            parse(r#"{"type":"get_online_users","limit":5,"cursor":"a"}"#).request,
            Request::List { limit: Some(5), cursor: Some(user("a")) }
        );
        assert_eq!(parse(r#"{"type":"check_user_online","userId":"a"}"#).request, Request::Check { user: user("a") });
        assert_eq!(parse(r#"{"type":"leave","ref":"x"}"#).request, Request::Leave);
    }

    #[test]
    fn every_bad_frame_has_its_code() {
        let long = format!(r#"{{"type":"join_user","userId":"{}"}}"#, "x".repeat(129));
        let cases = [
            ("", ErrorCode::InvalidJson),
            ("{", ErrorCode::InvalidJson),
            ("[]", ErrorCode::NotAnObject),
            ("{}", ErrorCode::MissingField),
            (r#"{"type":1}"#, ErrorCode::InvalidField),
            (r#"{"type":"dance"}"#, ErrorCode::UnknownType),
            (r#"{"type":"join_user"}"#, ErrorCode::MissingField),
            (r#"{"type":"join_user","userId":null}"#, ErrorCode::MissingField),
            (r#"{"type":"join_user","userId":true}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":4.5}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":""}"#, ErrorCode::InvalidField),
            (&long, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":"a","name":1}"#, ErrorCode::InvalidField),
            (r#"{"type":"get_online_users","limit":0}"#, ErrorCode::InvalidField),
            (r#"{"type":"get_online_users","limit":"1"}"#, ErrorCode::InvalidField),
            (r#"{"type":"get_online_users","cursor":[]}"#, ErrorCode::InvalidField),
            (r#"{"type":"leave","ref":{}}"#, ErrorCode::InvalidField),
        ];
        for (text, code) in cases {
            assert_eq!(parse(text, LIMITS).unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn an_error_is_short_however_long_the_frame_is() {
        let frame = format!(r#"{{"type":"{}"}}"#, "\u{80}".repeat(5_000));
        let bad = parse(&frame, LIMITS).unwrap_err();
        assert_eq!(bad.code, ErrorCode::UnknownType);
        assert!(bad.message.len() < 512, "{} bytes", bad.message.len());
    }

    #[test]
    fn a_text_within_the_json_is_not_read_as_json() {
        let frame = r#"{"$serde_json::private::RawValue":"{\"type\":\"leave\"}"}"#;
        assert_eq!(parse(frame, LIMITS).unwrap_err().code, ErrorCode::MissingField);
    }

    #[test]
    fn an_error_echoes_the_reference_of_a_frame_that_had_one() {
        let bad = parse(r#"{"type":"dance","ref":"r1"}"#, LIMITS).unwrap_err();
        assert_eq!(bad.reference.as_deref(), Some("\"r1\""));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = parse(&text, LIMITS);
        }

        #[test]
        fn every_frame_out_is_json(id in "[^\\p{Cc}]{1,30}", name in ".{0,20}") {
            let user = UserId::parse(&id).unwrap();
            let fields = ProfileFields { name: Some(name.clone()), ..ProfileFields::default() };
            let presence = Presence { profile: Profile::from_fields(&fields, 4096).unwrap(), updated_at: Timestamp(1) };
            let change = Change::Online(presence);
            let event = Event { user: &user, change: &change, epoch: 1, revision: Some(2), catch_up: true, at: Timestamp(3) };
            let frame = encode(&Message::Event(event), None);
            let payload_at = if frame[1] < 126 { 2 } else { 4 };
            let json: Value = serde_json::from_slice(&frame[payload_at..]).unwrap();
            prop_assert_eq!(&json["userId"], &Value::String(id.clone()));
            prop_assert_eq!(&json["user"]["id"], &Value::String(id));
            prop_assert_eq!(&json["user"]["name"], &Value::String(name));
        }
    }
}
