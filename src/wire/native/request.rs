//! Reads what a client of the native format says.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::domain::{Interest, ProfilePatch, RoomId, Said, TypingTarget, UserId};
use crate::wire::fields::{
    Fault, MAX_REPEATED_BYTES, TEXT_FIELDS, chosen_status, device, flag, invalid, optional_status, optional_user,
    patch, present, profile, required, required_user, token,
};
use crate::wire::json::{room_id, user_id};
use crate::wire::message::{BadRequest, ClientMessage, ErrorCode, Request, RequestLimits};

/// The longest `ref`, encoded. It has a bound, because the server holds it in memory for a client.
const MAX_REFERENCE_BYTES: usize = 128;

/// Reads a client's text.
///
/// # Errors
/// [`BadRequest`] says what is wrong with the text.
pub(in crate::wire) fn parse(text: &str, limits: RequestLimits) -> Result<ClientMessage, BadRequest> {
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
    let kind =
        required(&fields, "type").and_then(|kind| kind.as_str().ok_or_else(|| invalid("type", "must be a string")));
    match kind.and_then(|kind| request(kind, &fields, limits)) {
        Ok(request) => Ok(ClientMessage { request, reference }),
        Err((code, message)) => Err(BadRequest { code, message, reference }),
    }
}

/// The request of this kind, with these fields.
///
/// # Errors
/// There is none of this kind, or a field is wrong.
pub(in crate::wire) fn request(
    kind: &str,
    fields: &Map<String, Value>,
    limits: RequestLimits,
) -> Result<Request, Fault> {
    match kind {
        "authenticate" => Ok(Request::Authenticate { user: optional_user(fields)?, token: token(fields)? }),
        "join_user" => Ok(Request::Join {
            user: optional_user(fields)?,
            said: Said { profile: profile(fields, limits.profile)?.map(Some), status: optional_status(fields, true)? },
            device: device(fields)?,
            interest: interest(fields)?,
            rooms: rooms(fields, limits.rooms_max)?,
        }),
        "join_room" => Ok(Request::JoinRoom { room: room(fields)?, interest: room_interest(fields)? }),
        "typing_start" => Ok(Request::Typing { target: typing_target(fields)?, is_typing: true }),
        "typing_stop" => Ok(Request::Typing { target: typing_target(fields)?, is_typing: false }),
        "leave_room" => Ok(Request::LeaveRoom { room: room(fields)? }),
        "get_room_users" => {
            let (room, limit, cursor) = (room(fields)?, limit(fields, limits)?, cursor(fields)?);
            Ok(Request::RoomUsers { room, limit, cursor })
        }
        "get_room_count" => Ok(Request::RoomCount { room: room(fields)? }),
        "subscribe" => Ok(Request::Subscribe {
            interest: interest(fields)?.ok_or_else(|| (ErrorCode::MissingField, "`presence` is missing".to_owned()))?,
        }),
        "watch" => Ok(Request::Watch { users: users(fields, limits.watches_max)? }),
        "unwatch" => Ok(Request::Unwatch { users: users(fields, limits.watches_max)? }),
        "watch_count" => Ok(Request::WatchCount),
        "unwatch_count" => Ok(Request::UnwatchCount),
        "pause" => Ok(Request::Pause),
        "resume" => Ok(Request::Resume),
        "set_status" => Ok(Request::SetStatus(chosen_status(fields, "text")?)),
        "update_presence" => Ok(Request::Update(update(fields)?)),
        // Older clients of the contract (S2) say `user_online`.
        "user_activity" | "user_online" => Ok(Request::Activity { idle: flag(fields, "idle")? }),
        "get_online_users" => Ok(Request::List { limit: limit(fields, limits)?, cursor: cursor(fields)? }),
        "check_user_online" => Ok(Request::Check { user: required_user(fields)? }),
        "get_devices" => Ok(Request::Devices),
        "leave" => Ok(Request::Leave),
        short if short.len() <= MAX_REPEATED_BYTES => {
            Err((ErrorCode::UnknownType, format!("there is no request of type {short:?}")))
        }
        _ => Err((ErrorCode::UnknownType, "there is no request of so long a type".to_owned())),
    }
}

fn update(fields: &Map<String, Value>) -> Result<ProfilePatch, Fault> {
    let patch = patch(fields)?;
    if patch.is_empty() {
        let names = TEXT_FIELDS.join("`, `");
        return Err((ErrorCode::MissingField, format!("one of `{names}` and `metadata` is needed")));
    }
    Ok(patch)
}

fn interest(fields: &Map<String, Value>) -> Result<Option<Interest>, Fault> {
    let Some(value) = present(fields, "presence") else { return Ok(None) };
    match value.as_str().and_then(Interest::from_name) {
        Some(interest) => Ok(Some(interest)),
        None => Err(invalid("presence", &format!("must be one of {}", Interest::ALL.map(Interest::as_str).join(", ")))),
    }
}

/// What the client wants to hear of a room: everything, unless it says something else.
fn room_interest(fields: &Map<String, Value>) -> Result<Interest, Fault> {
    let Some(value) = present(fields, "presence") else { return Ok(Interest::Everyone) };
    let named = value.as_str().and_then(Interest::from_name);
    named.filter(|interest| Interest::OF_ROOMS.contains(interest)).ok_or_else(|| {
        invalid("presence", &format!("must be one of {}", Interest::OF_ROOMS.map(Interest::as_str).join(", ")))
    })
}

/// Who is told that the user types: those in a room, or one user.
fn typing_target(fields: &Map<String, Value>) -> Result<TypingTarget, Fault> {
    match (present(fields, "roomId"), present(fields, "toUserId")) {
        (Some(_), None) => room(fields).map(TypingTarget::Room),
        (None, Some(to)) => user_id(to).map(TypingTarget::User).map_err(|what| invalid("toUserId", &what)),
        (Some(_), Some(_)) => Err(invalid("toUserId", "cannot stand beside `roomId`")),
        (None, None) => Err((ErrorCode::MissingField, "`roomId` or `toUserId` is missing".to_owned())),
    }
}

fn room(fields: &Map<String, Value>) -> Result<RoomId, Fault> {
    room_id(required(fields, "roomId")?).map_err(|what| invalid("roomId", &what))
}

/// The rooms that a join names, each once, in their order.
fn rooms(fields: &Map<String, Value>, max: usize) -> Result<Vec<RoomId>, Fault> {
    let Some(value) = present(fields, "rooms") else { return Ok(Vec::new()) };
    let mut rooms = Vec::new();
    for room in ids(value, "rooms", max, room_id)? {
        if !rooms.contains(&room) {
            rooms.push(room);
        }
    }
    Ok(rooms)
}

/// The users that a request names, each once.
fn users(fields: &Map<String, Value>, max: usize) -> Result<Vec<UserId>, Fault> {
    let users = ids(required(fields, "userIds")?, "userIds", max, user_id)?;
    Ok(BTreeSet::from_iter(users).into_iter().collect())
}

/// The ids in the field `name`, as they are there.
fn ids<Id>(value: &Value, name: &str, max: usize, id: fn(&Value) -> Result<Id, String>) -> Result<Vec<Id>, Fault> {
    let ids = value.as_array().ok_or_else(|| invalid(name, "must be an array"))?;
    if ids.len() > max {
        return Err(invalid(name, &format!("must have at most {max} ids")));
    }
    ids.iter().map(id).collect::<Result<_, _>>().map_err(|what| invalid(name, &what))
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

fn reference(fields: &Map<String, Value>) -> Result<Option<String>, Fault> {
    let Some(value) = present(fields, "ref") else { return Ok(None) };
    let encoded = value.to_string();
    if !(value.is_string() || value.is_number()) || encoded.len() > MAX_REFERENCE_BYTES {
        return Err(invalid("ref", &format!("must be a string or a number of at most {MAX_REFERENCE_BYTES} bytes")));
    }
    Ok(Some(encoded))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Expiry, ProfileLimits, Status};
    use crate::wire::message::Token;

    const LIMITS: RequestLimits = RequestLimits {
        profile: ProfileLimits { fields_bytes: 100, metadata_bytes: 50 },
        page_max: 1000,
        watches_max: 3,
        rooms_max: 3,
    };

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn room(id: &str) -> RoomId {
        RoomId::parse(id).unwrap()
    }

    #[test]
    fn requests_are_understood() {
        let parse = |text| parse(text, LIMITS).unwrap();
        let join = parse(r#"{"type":"join_user","userId":42,"name":"A","ref":7}"#);
        let Request::Join { user: joined, said, device: None, interest: None, rooms } = join.request else { panic!() };
        assert_eq!(rooms, []);
        assert_eq!((joined.unwrap(), said.profile.unwrap().unwrap().members()), (user("42"), r#""name":"A""#));
        assert_eq!(join.reference.as_deref(), Some("7"));
        assert_eq!(parse(r#"{"type":"user_activity"}"#).request, Request::Activity { idle: false });
        assert_eq!(parse(r#"{"type":"user_activity","idle":true}"#).request, Request::Activity { idle: true });
        assert_eq!(
            parse(r#"{"type":"get_online_users","limit":5,"cursor":"a"}"#).request,
            Request::List { limit: Some(5), cursor: Some(user("a")) }
        );
        assert_eq!(parse(r#"{"type":"check_user_online","userId":"a"}"#).request, Request::Check { user: user("a") });
        let authenticate = parse(r#"{"type":"authenticate","userId":42,"token":"s3cret"}"#).request;
        assert!(!format!("{authenticate:?}").contains("s3cret"));
        let token = Some(Token::new("s3cret"));
        assert_eq!(authenticate, Request::Authenticate { user: Some(user("42")), token });
        let join = parse(r#"{"type":"join_user","userId":null}"#).request;
        assert!(matches!(join, Request::Join { user: None, .. }));
        assert_eq!(parse(r#"{"type":"get_devices"}"#).request, Request::Devices);
        assert_eq!(parse(r#"{"type":"leave","ref":"x"}"#).request, Request::Leave);
        let join = parse(r#"{"type":"join_user","userId":"a","presence":"count"}"#).request;
        assert!(matches!(join, Request::Join { interest: Some(Interest::Count), .. }));
        let subscribe = parse(r#"{"type":"subscribe","presence":"none"}"#).request;
        assert_eq!(subscribe, Request::Subscribe { interest: Interest::Nobody });
        let join = parse(r#"{"type":"join_user","userId":"a","rooms":["b",7,"b"]}"#).request;
        assert!(matches!(join, Request::Join { rooms, .. } if rooms == [room("b"), room("7")]));
        assert_eq!(
            parse(r#"{"type":"join_room","roomId":7}"#).request,
            Request::JoinRoom { room: room("7"), interest: Interest::Everyone }
        );
        assert_eq!(
            parse(r#"{"type":"join_room","roomId":"a b","presence":"count"}"#).request,
            Request::JoinRoom { room: room("a b"), interest: Interest::Count }
        );
        assert_eq!(parse(r#"{"type":"leave_room","roomId":"a"}"#).request, Request::LeaveRoom { room: room("a") });
        assert_eq!(
            parse(r#"{"type":"get_room_users","roomId":"a","limit":2,"cursor":7}"#).request,
            Request::RoomUsers { room: room("a"), limit: Some(2), cursor: Some(user("7")) }
        );
        assert_eq!(
            parse(r#"{"type":"typing_start","roomId":7}"#).request,
            Request::Typing { target: TypingTarget::Room(room("7")), is_typing: true }
        );
        assert_eq!(
            parse(r#"{"type":"typing_stop","toUserId":"b"}"#).request,
            Request::Typing { target: TypingTarget::User(user("b")), is_typing: false }
        );
        assert_eq!(parse(r#"{"type":"get_room_count","roomId":-1}"#).request, Request::RoomCount { room: room("-1") });
        let watch = parse(r#"{"type":"watch","userIds":["b",7,"b"]}"#).request;
        assert_eq!(watch, Request::Watch { users: vec![user("7"), user("b")] });
        assert_eq!(parse(r#"{"type":"unwatch","userIds":[]}"#).request, Request::Unwatch { users: Vec::new() });
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
            (r#"{"type":"authenticate","token":7}"#, ErrorCode::InvalidField),
            (r#"{"type":"authenticate","userId":{},"token":"x"}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":true}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":4.5}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":""}"#, ErrorCode::InvalidField),
            (&long, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":"a","name":1}"#, ErrorCode::InvalidField),
            (r#"{"type":"get_online_users","limit":0}"#, ErrorCode::InvalidField),
            (r#"{"type":"get_online_users","limit":"1"}"#, ErrorCode::InvalidField),
            (r#"{"type":"get_online_users","cursor":[]}"#, ErrorCode::InvalidField),
            (r#"{"type":"leave","ref":{}}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":"a","metadata":[]}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":"a","device":{"name":"x"}}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":"a","statusText":"x"}"#, ErrorCode::InvalidField),
            (r#"{"type":"set_status"}"#, ErrorCode::MissingField),
            (r#"{"type":"set_status","status":"asleep"}"#, ErrorCode::InvalidField),
            (r#"{"type":"set_status","status":"busy","text":"a\nb"}"#, ErrorCode::InvalidField),
            (r#"{"type":"set_status","status":"busy","expiresInMs":0}"#, ErrorCode::InvalidField),
            (r#"{"type":"set_status","status":"busy","expiresAt":"tomorrow"}"#, ErrorCode::InvalidField),
            (r#"{"type":"set_status","status":"busy","expiresAt":"2999-01-01T00:00:00Z"}"#, ErrorCode::InvalidField),
            (r#"{"type":"update_presence"}"#, ErrorCode::MissingField),
            (r#"{"type":"update_presence","name":5}"#, ErrorCode::InvalidField),
            (r#"{"type":"user_activity","idle":1}"#, ErrorCode::InvalidField),
            (r#"{"type":"subscribe"}"#, ErrorCode::MissingField),
            (r#"{"type":"subscribe","presence":"all"}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":"a","presence":1}"#, ErrorCode::InvalidField),
            (r#"{"type":"watch"}"#, ErrorCode::MissingField),
            (r#"{"type":"watch","userIds":"a"}"#, ErrorCode::InvalidField),
            (r#"{"type":"watch","userIds":[true]}"#, ErrorCode::InvalidField),
            (r#"{"type":"watch","userIds":["a","b","c","d"]}"#, ErrorCode::InvalidField),
            (r#"{"type":"unwatch","userIds":[""]}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_room"}"#, ErrorCode::MissingField),
            (r#"{"type":"join_room","roomId":null}"#, ErrorCode::MissingField),
            (r#"{"type":"join_room","roomId":""}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_room","roomId":1.5}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_room","roomId":"a\u0000"}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_room","roomId":"a","presence":"watch"}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_room","roomId":"a","presence":1}"#, ErrorCode::InvalidField),
            (r#"{"type":"leave_room"}"#, ErrorCode::MissingField),
            (r#"{"type":"typing_start"}"#, ErrorCode::MissingField),
            (r#"{"type":"typing_stop","roomId":null}"#, ErrorCode::MissingField),
            (r#"{"type":"typing_start","roomId":true}"#, ErrorCode::InvalidField),
            (r#"{"type":"typing_stop","toUserId":""}"#, ErrorCode::InvalidField),
            (r#"{"type":"typing_start","roomId":"a","toUserId":"b"}"#, ErrorCode::InvalidField),
            (r#"{"type":"get_room_users","roomId":["a"]}"#, ErrorCode::InvalidField),
            (r#"{"type":"get_room_users","roomId":"a","limit":0}"#, ErrorCode::InvalidField),
            (r#"{"type":"get_room_users","roomId":"a","cursor":true}"#, ErrorCode::InvalidField),
            (r#"{"type":"get_room_count"}"#, ErrorCode::MissingField),
            (r#"{"type":"join_user","userId":"a","rooms":"a"}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":"a","rooms":[""]}"#, ErrorCode::InvalidField),
            (r#"{"type":"join_user","userId":"a","rooms":["a","a","a","a"]}"#, ErrorCode::InvalidField),
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

    #[test]
    fn a_status_and_a_patch_are_understood() {
        let parse = |text| parse(text, LIMITS).unwrap().request;
        let json = r#"{"type":"set_status","status":"dnd","text":"in a \"call\"","expiresInMs":60000}"#;
        let Request::SetStatus(said) = parse(json) else { panic!() };
        assert_eq!((said.status, said.text.unwrap().as_str()), (Status::Dnd, "in a \"call\""));
        assert_eq!(said.expiry, Some(Expiry::After(Duration::from_mins(1))));
        let Request::Update(patch) = parse(r#"{"type":"update_presence","name":null,"metadata":{"a":1}}"#) else {
            panic!()
        };
        assert_eq!((patch.name, patch.email), (Some(None), None));
        let join = parse(r#"{"type":"join_user","userId":"a","status":"invisible","device":{"kind":"web"}}"#);
        let Request::Join { said, device, .. } = join else { panic!() };
        assert_eq!((said.profile, said.status.unwrap().status), (None, Status::Invisible));
        assert_eq!(device.unwrap().kind(), "web");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = parse(&text, LIMITS);
        }
    }
}
