//! Reads the members that several requests have: who a user is, what is stated of a user, and until when.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::json::user_id;
use super::message::{ErrorCode, Token};
use crate::clock;
use crate::domain::{
    Device, Expiry, Profile, ProfileFields, ProfileLimits, ProfilePatch, SaidStatus, Status, StatusText, UserId,
};

/// An error repeats a text of the client only if the text is not longer than this. So the answer does not grow with the
/// request.
pub(super) const MAX_REPEATED_BYTES: usize = 64;

/// What is wrong with a request, for programs and for people.
pub(super) type Fault = (ErrorCode, String);

/// The value of a field that must be there.
pub(super) fn required<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a Value, Fault> {
    present(fields, name).ok_or_else(|| (ErrorCode::MissingField, format!("`{name}` is missing")))
}

/// The value of a field. `null` counts as absent.
pub(super) fn present<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

/// A field has a bad value. `what` is the rest of a sentence that begins with the name.
pub(super) fn invalid(name: &str, what: &str) -> Fault {
    (ErrorCode::InvalidField, format!("`{name}` {what}"))
}

/// The user that `userId` names.
pub(super) fn required_user(fields: &Map<String, Value>) -> Result<UserId, Fault> {
    user_id(required(fields, "userId")?).map_err(|what| invalid("userId", &what))
}

/// The user that `userId` names, if it is there.
pub(super) fn optional_user(fields: &Map<String, Value>) -> Result<Option<UserId>, Fault> {
    present(fields, "userId").map(user_id).transpose().map_err(|what| invalid("userId", &what))
}

/// The text in `token`, if it is there. Whether it is a token is for others to say.
pub(super) fn token(fields: &Map<String, Value>) -> Result<Option<Token>, Fault> {
    match present(fields, "token") {
        None => Ok(None),
        Some(Value::String(token)) => Ok(Some(Token::new(token))),
        Some(_) => Err(invalid("token", "must be a string")),
    }
}

/// The fields of a profile that are texts.
pub(super) const TEXT_FIELDS: [&str; 4] = ["name", "username", "email", "avatar"];

/// The whole profile: none if no field of it is there.
pub(super) fn profile(fields: &Map<String, Value>, limits: ProfileLimits) -> Result<Option<Profile>, Fault> {
    check_profile(fields)?;
    let fields = ProfileFields::deserialize(fields).map_err(|error| (ErrorCode::InvalidField, error.to_string()))?;
    Profile::within(&fields, limits).map_err(|error| (ErrorCode::InvalidField, error.to_string()))
}

fn check_profile(fields: &Map<String, Value>) -> Result<(), Fault> {
    for name in TEXT_FIELDS {
        if present(fields, name).is_some_and(|value| !value.is_string()) {
            return Err(invalid(name, "must be a string"));
        }
    }
    match present(fields, "metadata") {
        Some(metadata) if !metadata.is_object() => Err(invalid("metadata", "must be an object")),
        _ => Ok(()),
    }
}

/// A change of the profile. Here `null` takes a field away. An absent field stays as it is.
pub(super) fn patch(fields: &Map<String, Value>) -> Result<ProfilePatch, Fault> {
    check_profile(fields)?;
    let text = |name| fields.get(name).map(|value| value.as_str().map(str::to_owned));
    Ok(ProfilePatch {
        name: text("name"),
        username: text("username"),
        email: text("email"),
        avatar: text("avatar"),
        metadata: fields.get("metadata").map(|value| value.as_object().cloned()),
    })
}

/// The status in `status`, with the text in `statusText`: none if there is no status. `is_repeated` as in [`SaidStatus`].
pub(super) fn optional_status(fields: &Map<String, Value>, is_repeated: bool) -> Result<Option<SaidStatus>, Fault> {
    if present(fields, "status").is_some() {
        let said = chosen_status(fields, "statusText")?;
        return Ok(Some(SaidStatus { is_repeated, ..said }));
    }
    match ["statusText", "expiresAt", "expiresInMs"].into_iter().find(|name| present(fields, name).is_some()) {
        Some(name) => Err(invalid(name, "needs a `status` beside it")),
        None => Ok(None),
    }
}

/// The status in `status`, with the text in the field `text_name`, as it is chosen just now.
pub(super) fn chosen_status(fields: &Map<String, Value>, text_name: &str) -> Result<SaidStatus, Fault> {
    let status = required(fields, "status")?.as_str().and_then(Status::from_name);
    let names = Status::ALL.map(Status::as_str).join(", ");
    let status = status.ok_or_else(|| invalid("status", &format!("must be one of {names}")))?;
    let text = match present(fields, text_name) {
        None => None,
        Some(Value::String(text)) => StatusText::parse(text).map_err(|what| invalid(text_name, &what.to_string()))?,
        Some(_) => return Err(invalid(text_name, "must be a string")),
    };
    Ok(SaidStatus { status, text, expiry: expiry(fields)?, is_repeated: false })
}

/// Longest time that a status may be chosen for.
const MAX_EXPIRY: Duration = Duration::from_hours(366 * 24);

fn expiry(fields: &Map<String, Value>) -> Result<Option<Expiry>, Fault> {
    match (present(fields, "expiresAt"), present(fields, "expiresInMs")) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(invalid("expiresAt", "and `expiresInMs` exclude each other")),
        (Some(at), None) => match at.as_str().and_then(clock::parse_rfc3339) {
            Some(at) if clock::now().until(at) <= MAX_EXPIRY => Ok(Some(Expiry::At(at))),
            _ => Err(invalid("expiresAt", "must be a time like 2026-01-31T12:00:00Z, at most 366 days ahead")),
        },
        (None, Some(ms)) => match ms.as_u64().map(Duration::from_millis) {
            Some(duration) if !duration.is_zero() && duration <= MAX_EXPIRY => Ok(Some(Expiry::After(duration))),
            _ => {
                let most = MAX_EXPIRY.as_millis();
                Err(invalid("expiresInMs", &format!("must be a whole number from 1 to {most}")))
            }
        },
    }
}

/// What the client runs on.
pub(super) fn device(fields: &Map<String, Value>) -> Result<Option<Device>, Fault> {
    match present(fields, "device") {
        None => Ok(None),
        Some(Value::Object(device)) => match Device::parse(device) {
            Ok(device) => Ok(Some(device)),
            Err(what) => Err(invalid("device", &what.to_string())),
        },
        Some(_) => Err(invalid("device", "must be an object")),
    }
}

/// `true` or `false`. A flag that is absent is false.
pub(super) fn flag(fields: &Map<String, Value>, name: &str) -> Result<bool, Fault> {
    match present(fields, name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(invalid(name, "must be true or false")),
    }
}
