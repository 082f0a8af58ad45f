//! JSON pieces that more than one format is made of.

use serde_json::Value;

use crate::domain::{IdError, Presence, UserId};

/// Appends `text` as a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to memory cannot fail");
}

/// Appends a number.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number).expect("writing to memory cannot fail");
}

/// Appends a user object: `{"id":"42","name":"John Doe",…,"status":"online"}`.
pub fn push_user(out: &mut Vec<u8>, user: &UserId, presence: &Presence) {
    out.extend_from_slice(br#"{"id":"#);
    push_string(out, user.as_str());
    if let Some(profile) = &presence.profile {
        out.push(b',');
        out.extend_from_slice(profile.members().as_bytes());
    }
    out.extend_from_slice(br#","status":"online"}"#);
}

/// Appends user objects as an array.
pub fn push_users<'a>(out: &mut Vec<u8>, users: impl IntoIterator<Item = (&'a UserId, &'a Presence)>) {
    out.push(b'[');
    for (i, (user, presence)) in users.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_user(out, user, presence);
    }
    out.push(b']');
}

/// Bytes to reserve for a list of `n_users`; a guess that saves most reallocations.
pub fn list_capacity(n_users: usize) -> usize {
    256 + 96 * n_users
}

/// Reads a user id: a string, or a whole number, which becomes its decimal string (contract, S2).
///
/// # Errors
/// What the value has to be, as the end of a sentence that begins with its name.
pub fn user_id(value: &Value) -> Result<UserId, String> {
    let parsed = match value {
        Value::String(text) => UserId::parse(text),
        Value::Number(number) if number.is_i64() || number.is_u64() => UserId::parse(&number.to_string()),
        _ => return Err("must be a string or a whole number".to_owned()),
    };
    parsed.map_err(|error: IdError| error.to_string())
}
