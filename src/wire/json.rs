//! Pieces of JSON that several formats use.

use serde_json::Value;

use crate::clock;
use crate::domain::{IdError, Presence, RoomId, Timestamp, UserId};

/// A JSON object that is being written. All names are our own, so they need no escaping.
pub(crate) struct Object(Vec<u8>);

impl Object {
    /// An empty object, with room for `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        out.push(b'{');
        Self(out)
    }

    /// An object that goes on after `begun`: the text of an object without its end, perhaps with something before it.
    pub(super) fn begun(begun: Vec<u8>) -> Self {
        Self(begun)
    }

    /// Begins a member. The caller pushes the value to the returned buffer.
    pub(crate) fn member(&mut self, name: &str) -> &mut Vec<u8> {
        // A whole value never ends like this.
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        &mut self.0
    }

    /// A string member.
    pub(crate) fn string(&mut self, name: &str, value: &str) -> &mut Self {
        push_string(self.member(name), value);
        self
    }

    /// A number member.
    pub(crate) fn number(&mut self, name: &str, value: u64) -> &mut Self {
        push_number(self.member(name), value);
        self
    }

    /// A boolean member.
    pub(crate) fn boolean(&mut self, name: &str, value: bool) -> &mut Self {
        self.member(name).extend_from_slice(if value { b"true" } else { b"false" });
        self
    }

    /// A member with a time, as RFC 3339 in UTC with milliseconds.
    pub(crate) fn time(&mut self, name: &str, value: Timestamp) -> &mut Self {
        let out = self.member(name);
        // Nothing in a time needs escaping.
        out.push(b'"');
        out.extend_from_slice(clock::rfc3339(value).as_bytes());
        out.push(b'"');
        self
    }

    /// A member with an object.
    pub(crate) fn object(&mut self, name: &str, value: Object) -> &mut Self {
        self.member(name).extend(value.finish());
        self
    }

    /// A member with an array of objects.
    pub(crate) fn objects(&mut self, name: &str, values: impl IntoIterator<Item = Object>) -> &mut Self {
        let out = self.member(name);
        out.push(b'[');
        for (i, value) in values.into_iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend(value.finish());
        }
        out.push(b']');
        self
    }

    /// A member with an array of strings.
    pub(crate) fn strings<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a str>) -> &mut Self {
        let out = self.member(name);
        out.push(b'[');
        for (i, value) in values.into_iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            push_string(out, value);
        }
        out.push(b']');
        self
    }

    /// A member with the text of a JSON value. The caller must know that the text is one.
    pub(crate) fn encoded(&mut self, name: &str, json: &str) -> &mut Self {
        self.member(name).extend_from_slice(json.as_bytes());
        self
    }

    /// The members `degraded` and `asOf`, if the answer may be out of date.
    pub(crate) fn degraded(&mut self, as_of: Option<Timestamp>) -> &mut Self {
        match as_of {
            Some(as_of) => self.boolean("degraded", true).time("asOf", as_of),
            None => self,
        }
    }

    /// Members that are encoded already.
    pub(super) fn members(&mut self, encoded: &str) -> &mut Self {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.extend_from_slice(encoded.as_bytes());
        self
    }

    /// Closes the object.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

/// Appends `text` as a JSON string.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to memory cannot fail");
}

/// Appends a number.
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number).expect("writing to memory cannot fail");
}

/// Appends a user object: `{"id":"42","name":"John Doe",…,"status":"busy","statusText":"…"}`.
pub(crate) fn push_user(out: &mut Vec<u8>, user: &UserId, presence: &Presence) {
    out.extend_from_slice(br#"{"id":"#);
    push_string(out, user.as_str());
    push_user_members(out, presence);
}

/// Appends what follows the id in a user object.
pub(super) fn push_user_members(out: &mut Vec<u8>, presence: &Presence) {
    if let Some(profile) = &presence.profile {
        out.push(b',');
        out.extend_from_slice(profile.members().as_bytes());
    }
    out.extend_from_slice(br#","status":""#);
    out.extend_from_slice(presence.effective.as_str().as_bytes());
    out.push(b'"');
    if let Some(text) = presence.status_text() {
        out.extend_from_slice(br#","statusText":"#);
        push_string(out, text.as_str());
    }
    out.push(b'}');
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

/// The bytes to reserve for a list of `n_users`. The number is a guess that saves most reallocations.
pub fn list_capacity(n_users: usize) -> usize {
    256 + 96 * n_users
}

/// Reads a user id. It is a string or a whole number. A number becomes its decimal string (contract, S2).
///
/// # Errors
/// Says what the value must be. The text is the rest of a sentence that begins with the name of the value.
pub(crate) fn user_id(value: &Value) -> Result<UserId, String> {
    id(value, UserId::parse)
}

/// Reads a room id, in the same way.
///
/// # Errors
/// As [`user_id`].
pub(crate) fn room_id(value: &Value) -> Result<RoomId, String> {
    id(value, RoomId::parse)
}

fn id<Id>(value: &Value, parse: impl Fn(&str) -> Result<Id, IdError>) -> Result<Id, String> {
    let parsed = match value {
        Value::String(text) => parse(text),
        Value::Number(number) if number.is_i64() || number.is_u64() => parse(&number.to_string()),
        _ => return Err("must be a string or a whole number".to_owned()),
    };
    parsed.map_err(|error| error.to_string())
}
