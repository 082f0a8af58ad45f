//! The formats: whatever text comes, what is accepted obeys the limits, and what is not gets an error of a bounded size.

use rollcall::domain::UserId;
use rollcall::wire::Format;
use rollcall::wire::message::{BadRequest, Message, Request, RequestLimits};
use serde_json::Value;

/// Small, so that they are reached soon.
const LIMITS: RequestLimits = RequestLimits { profile_bytes: 64, page_max: 100 };

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
    let message = Message::Error { code: bad.code, message: &bad.message, retry_after: None };
    let frame = format.encode(&message, bad.reference.as_deref()).expect("every format has errors");
    let header = if frame[1] < 126 { 2 } else { 4 };
    let json: Value = serde_json::from_slice(&frame[header..]).expect("an error is JSON");
    assert_eq!(json["type"].as_str().map(str::to_lowercase).as_deref(), Some("error"));
    assert_eq!(json["code"], bad.code.as_str());
    assert_eq!(json["message"], bad.message);
    let reference =
        bad.reference.as_ref().map(|encoded| serde_json::from_str::<Value>(encoded).expect("a ref is JSON"));
    assert_eq!(json.get("ref"), reference.as_ref());
}

fn check_request(request: &Request) {
    match request {
        Request::Join { user, profile } => {
            check_user(user);
            let Some(profile) = profile else { return };
            assert!(!profile.members().is_empty() && profile.members().len() <= LIMITS.profile_bytes, "{profile:?}");
            let json: Value = serde_json::from_str(&format!("{{{}}}", profile.members())).expect("a profile is JSON");
            for (name, value) in json.as_object().expect("a profile is an object") {
                assert!(
                    ["name", "username", "email", "avatar"].contains(&name.as_str()) && value.is_string(),
                    "{json}"
                );
            }
        }
        Request::List { limit, cursor } => {
            assert!(limit.is_none_or(|limit| (1..=LIMITS.page_max).contains(&limit)), "{limit:?}");
            cursor.iter().for_each(check_user);
        }
        Request::Check { user } => check_user(user),
        Request::Activity | Request::Leave => {}
    }
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
