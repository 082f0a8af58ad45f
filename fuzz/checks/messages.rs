//! The formats: whatever text comes, what is accepted obeys the limits, and what is not gets an error of a bounded size.

use rollcall::domain::{
    Device, Expiry, Interest, Profile, ProfileFields, ProfileLimits, ProfilePatch, RoomId, Said, SaidStatus,
    TypingTarget, UserId,
};
use rollcall::wire::Format;
use rollcall::wire::message::{BadRequest, Message, Request, RequestLimits};
use serde_json::Value;

/// Small, so that they are reached soon.
const LIMITS: RequestLimits = RequestLimits {
    profile: ProfileLimits { fields_bytes: 64, metadata_bytes: 32 },
    page_max: 100,
    watches_max: 4,
    rooms_max: 4,
};

/// Longest text beside a status, in characters. Source: docs/protocol.md
const MAX_STATUS_TEXT: usize = 128;

/// Longest time in ms that a status may be chosen for. Source: docs/protocol.md
const MAX_EXPIRY_MS: u128 = 366 * 24 * 60 * 60 * 1000;

/// Longest device as JSON, and longest kind of device. Source: docs/protocol.md
const MAX_DEVICE_BYTES: usize = 256;
const MAX_KIND_BYTES: usize = 16;

/// Longest `ref` as JSON. Source: docs/protocol.md
const MAX_REFERENCE_BYTES: usize = 128;

/// Far above every message there is: what a client sends must not come back to it in full.
const MAX_ERROR_BYTES: usize = 512;

/// # Panics
/// When something does not hold.
pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for format in Format::ALL {
        match format.parse(&text, LIMITS) {
            Ok(message) => {
                check_request(&message.request);
                check_reference(message.reference.as_deref());
            }
            Err(bad) => check_error(format, &bad),
        }
    }
}

fn check_error(format: Format, bad: &BadRequest) {
    check_reference(bad.reference.as_deref());
    assert!(bad.message.len() <= MAX_ERROR_BYTES, "{} bytes: {}", bad.message.len(), bad.message);
    let message = Message::Error { code: bad.code, message: &bad.message, retry_after: None, room: None };
    let frame = format.encode(&message, bad.reference.as_deref()).expect("every format has errors");
    let payload = first_payload(&frame);
    if format.is_socketio() {
        let event: Value = serde_json::from_slice(payload.strip_prefix(b"42").expect("an event")).expect("JSON");
        assert_eq!(event[0], "error");
        assert_eq!(
            (&event[1]["code"], &event[1]["message"]),
            (&bad.code.as_str().into(), &bad.message.as_str().into())
        );
        return;
    }
    let json: Value = serde_json::from_slice(payload).expect("an error is JSON");
    assert_eq!(json["type"].as_str().map(str::to_lowercase).as_deref(), Some("error"));
    assert_eq!(json["code"], bad.code.as_str());
    assert_eq!(json["message"], bad.message);
    let reference =
        bad.reference.as_ref().map(|encoded| serde_json::from_str::<Value>(encoded).expect("a ref is JSON"));
    assert_eq!(json.get("ref"), reference.as_ref());
}

/// The payload of the first frame. An acknowledgement may follow in another one.
fn first_payload(frames: &[u8]) -> &[u8] {
    match frames[1] {
        short if short < 126 => &frames[2..2 + usize::from(short)],
        _ => &frames[4..4 + usize::from(u16::from_be_bytes([frames[2], frames[3]]))],
    }
}

fn check_request(request: &Request) {
    match request {
        Request::Authenticate { user, token: _ } => user.iter().for_each(check_user),
        Request::Join { user, said: Said { profile, status }, device, interest: _, rooms } => {
            user.iter().for_each(check_user);
            check_rooms(rooms);
            profile.iter().flatten().for_each(check_profile);
            status.iter().for_each(check_status);
            device.iter().for_each(check_device);
        }
        Request::EnterRoom { user, said, room } => {
            user.iter().for_each(check_user);
            check_room(room);
            said.profile.iter().flatten().for_each(check_profile);
        }
        Request::SetStatus(said) => check_status(said),
        Request::Update(patch) => check_patch(patch),
        Request::List { limit, cursor } => check_page(*limit, cursor.as_ref()),
        Request::JoinRoom { room, interest } => {
            check_room(room);
            assert_ne!(*interest, Interest::Watched, "a room is not watched");
        }
        Request::LeaveRoom { room } | Request::RoomCount { room } => check_room(room),
        Request::RoomUsers { room, limit, cursor } => {
            check_room(room);
            check_page(*limit, cursor.as_ref());
        }
        Request::Typing { target: TypingTarget::Room(room), .. } => check_room(room),
        Request::Typing { target: TypingTarget::User(user), .. } => check_user(user),
        Request::Check { user } => check_user(user),
        Request::Watch { users } | Request::Unwatch { users } => {
            assert!(users.len() <= LIMITS.watches_max, "{users:?}");
            assert!(users.is_sorted_by(|a, b| a < b), "each user is there once: {users:?}");
            users.iter().for_each(check_user);
        }
        Request::Activity { .. }
        | Request::Devices
        | Request::Subscribe { .. }
        | Request::WatchCount
        | Request::UnwatchCount
        | Request::Pause
        | Request::Resume
        | Request::Leave => {}
    }
}

fn check_page(limit: Option<usize>, cursor: Option<&UserId>) {
    assert!(limit.is_none_or(|limit| (1..=LIMITS.page_max).contains(&limit)), "{limit:?}");
    cursor.into_iter().for_each(check_user);
}

fn check_rooms(rooms: &[RoomId]) {
    assert!(rooms.len() <= LIMITS.rooms_max, "{rooms:?}");
    for (place, room) in rooms.iter().enumerate() {
        check_room(room);
        assert!(!rooms[..place].contains(room), "each room is there once: {rooms:?}");
    }
}

fn check_room(room: &RoomId) {
    assert_eq!(RoomId::parse(room.as_str()).as_ref(), Ok(room));
}

fn check_profile(profile: &Profile) {
    let json: Value = serde_json::from_str(&format!("{{{}}}", profile.members())).expect("a profile is JSON");
    let fields = json.as_object().expect("a profile is an object");
    assert!(!fields.is_empty(), "{json}");
    let mut metadata_bytes = 0;
    for (name, value) in fields {
        match name.as_str() {
            "name" | "username" | "email" | "avatar" => assert!(value.is_string(), "{json}"),
            "metadata" => {
                assert!(value.is_object(), "{json}");
                metadata_bytes = value.to_string().len();
            }
            _ => panic!("{json}"),
        }
    }
    let ProfileLimits { fields_bytes, metadata_bytes: max_metadata_bytes } = LIMITS.profile;
    assert!(metadata_bytes <= max_metadata_bytes, "{json}");
    assert!(profile.members().len() <= fields_bytes + metadata_bytes, "{json}");
}

/// A patch changes something. What it makes of a profile is checked where the profile is known, and is never more than
/// the frame had.
fn check_patch(patch: &ProfilePatch) {
    assert!(!patch.is_empty());
    let fields = patch.clone().applied_to(None);
    let profile = Profile::from_fields(&fields);
    assert_eq!(profile.is_none(), fields == ProfileFields::default());
    if let Ok(Some(profile)) = Profile::within(&fields, LIMITS.profile) {
        check_profile(&profile);
        assert_eq!(patch.clone().applied_to(Some(&profile)), fields, "a patch that is applied again changes nothing");
    }
}

fn check_status(said: &SaidStatus) {
    if let Some(text) = &said.text {
        let n_chars = text.as_str().chars().count();
        assert!((1..=MAX_STATUS_TEXT).contains(&n_chars) && !text.as_str().contains(char::is_control), "{text:?}");
    }
    if let Some(Expiry::After(duration)) = said.expiry {
        assert!((1..=MAX_EXPIRY_MS).contains(&duration.as_millis()), "{duration:?}");
    }
}

fn check_device(device: &Device) {
    assert!(device.json().len() <= MAX_DEVICE_BYTES, "{device:?}");
    let json: Value = serde_json::from_str(device.json()).expect("a device is JSON");
    let kind = json["kind"].as_str().expect("a device has a kind");
    let is_word = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    assert!((1..=MAX_KIND_BYTES).contains(&kind.len()) && is_word, "{device:?}");
    assert_eq!(device.kind(), kind);
}

fn check_user(user: &UserId) {
    let id = user.as_str();
    assert!((1..=128).contains(&id.len()) && !id.contains(char::is_control), "{id:?}");
}

fn check_reference(reference: Option<&str>) {
    let Some(encoded) = reference else { return };
    assert!(encoded.len() <= MAX_REFERENCE_BYTES, "{encoded}");
    let json: Value = serde_json::from_str(encoded).expect("a ref is JSON");
    assert!(json.is_string() || json.is_number(), "{json}");
}
