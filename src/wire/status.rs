//! What an HTTP answer says of one user: `{"userId":"42","isOnline":true,"status":"busy",…}`.

use super::json::{push_number, push_string, push_user_members};
use crate::clock::{self, TimeWriter};
use crate::domain::{LastSeen, Presence, Timestamp};

/// How a user is, as far as the asker may know.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// The user is online.
    Online(&'a Presence),
    /// The user is not online, and was seen before.
    Before(LastSeen),
    /// The user is not online, as far as this node knows. Nothing else is known.
    Unknown,
}

/// Writes what one answer says of users.
pub struct StatusWriter {
    /// `,"lastSeen":"…"` with the time of the answer.
    seen_now: Vec<u8>,
    times: TimeWriter,
}

impl StatusWriter {
    /// For an answer that is given at `now`.
    pub fn new(now: Timestamp) -> Self {
        let seen_now = format!(r#","lastSeen":"{}""#, clock::rfc3339(now)).into_bytes();
        Self { seen_now, times: TimeWriter::default() }
    }

    /// Appends what everybody may know of a user. `id` is the user's id, or any text of a user who is unknown.
    pub fn push(&mut self, out: &mut Vec<u8>, id: &str, seen: Seen<'_>) {
        let id = push_user_id(out, id);
        match seen {
            Seen::Online(presence) => {
                out.extend_from_slice(br#","isOnline":true,"status":""#);
                out.extend_from_slice(presence.effective.as_str().as_bytes());
                out.push(b'"');
                push_status_text(out, presence);
                self.push_times_and_devices(out, presence);
                push_user_with_id(out, id, presence);
            }
            Seen::Before(last_seen) => {
                out.extend_from_slice(br#","isOnline":false,"status":"offline""#);
                self.push_last_seen(out, last_seen);
            }
            Seen::Unknown => out.extend_from_slice(br#","isOnline":false,"status":"unknown","devices":{}"#),
        }
        out.push(b'}');
    }

    /// Appends what the application's server may know of a user. [`Seen::Online`] may be a user who is hidden.
    pub fn push_even_hidden(&mut self, out: &mut Vec<u8>, id: &str, seen: Seen<'_>) {
        let id = push_user_id(out, id);
        match seen {
            Seen::Online(presence) => {
                let shown: &[u8] = if presence.is_hidden() {
                    br#","isOnline":false,"hidden":true,"chosen":""#
                } else {
                    br#","isOnline":true,"hidden":false,"chosen":""#
                };
                out.extend_from_slice(shown);
                out.extend_from_slice(presence.chosen_status().as_str().as_bytes());
                out.extend_from_slice(br#"","effective":""#);
                out.extend_from_slice(presence.effective.as_str().as_bytes());
                out.push(b'"');
                push_status_text(out, presence);
                if let Some(expires_at) = presence.chosen.as_ref().and_then(|chosen| chosen.expires_at) {
                    self.push_time(out, br#","expiresAt":""#, expires_at);
                }
                self.push_times_and_devices(out, presence);
                push_user_with_id(out, id, presence);
            }
            Seen::Before(last_seen) => {
                out.extend_from_slice(br#","isOnline":false,"hidden":false,"effective":"offline""#);
                self.push_last_seen(out, last_seen);
            }
            Seen::Unknown => {
                out.extend_from_slice(br#","isOnline":false,"hidden":false,"effective":"unknown","devices":{}"#);
            }
        }
        out.push(b'}');
    }

    /// A user who is present is seen at the time of the answer.
    fn push_times_and_devices(&mut self, out: &mut Vec<u8>, presence: &Presence) {
        out.extend_from_slice(&self.seen_now);
        self.push_active_at(out, Some(presence.active_at));
        out.extend_from_slice(br#","devices":{"#);
        for (place, (kind, n_sockets)) in presence.devices.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            // Nothing in the kind of a device needs escaping.
            out.push(b'"');
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(b"\":");
            push_number(out, n_sockets.into());
        }
        out.push(b'}');
    }

    fn push_last_seen(&mut self, out: &mut Vec<u8>, LastSeen { seen_at, active_at }: LastSeen) {
        self.push_time(out, br#","lastSeen":""#, seen_at);
        self.push_active_at(out, active_at);
        out.extend_from_slice(br#","devices":{}"#);
    }

    /// Nothing if it is not known.
    fn push_active_at(&mut self, out: &mut Vec<u8>, active_at: Option<Timestamp>) {
        if let Some(active_at) = active_at.filter(|active_at| *active_at > Timestamp(0)) {
            self.push_time(out, br#","lastActive":""#, active_at);
        }
    }

    /// Nothing in a time needs escaping. `name` ends with the quotation mark before the time.
    fn push_time(&mut self, out: &mut Vec<u8>, name: &[u8], time: Timestamp) {
        out.extend_from_slice(name);
        self.times.push(out, time);
        out.push(b'"');
    }
}

/// Begins the object of a user. Returns where the encoded id stands.
fn push_user_id(out: &mut Vec<u8>, id: &str) -> (usize, usize) {
    out.extend_from_slice(br#"{"userId":"#);
    let begin = out.len();
    push_string(out, id);
    (begin, out.len())
}

fn push_status_text(out: &mut Vec<u8>, presence: &Presence) {
    if let Some(text) = presence.status_text() {
        out.extend_from_slice(br#","statusText":"#);
        push_string(out, text.as_str());
    }
}

/// Appends the user object. The encoded id stands at `id` in `out` already.
fn push_user_with_id(out: &mut Vec<u8>, id: (usize, usize), presence: &Presence) {
    out.extend_from_slice(br#","user":{"id":"#);
    out.extend_from_within(id.0..id.1);
    push_user_members(out, presence);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{ChosenStatus, Profile, ProfileFields, Status, StatusText};

    fn presence(effective: Status) -> Presence {
        let fields = ProfileFields { name: Some("Zoë \"Z\"".to_owned()), ..ProfileFields::default() };
        let chosen = ChosenStatus {
            status: effective,
            text: StatusText::parse("a \"b\"").unwrap(),
            expires_at: Some(Timestamp(60_000)),
            at: Timestamp(1),
        };
        Presence {
            profile: Profile::from_fields(&fields),
            chosen: Some(Arc::new(chosen)),
            effective,
            devices: [("web", 2), ("mobile", 1)].into_iter().collect(),
            active_at: Timestamp(2500),
            ..Presence::default()
        }
    }

    fn written(even_hidden: bool, id: &str, seen: Seen<'_>) -> Value {
        let (mut writer, mut out) = (StatusWriter::new(Timestamp(3000)), Vec::new());
        if even_hidden {
            writer.push_even_hidden(&mut out, id, seen);
        } else {
            writer.push(&mut out, id, seen);
        }
        serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
    }

    #[test]
    fn who_is_online_is_seen_at_the_time_of_the_answer() {
        let expected = json!({
            "userId": "a\"b", "isOnline": true, "status": "busy", "statusText": "a \"b\"",
            "lastSeen": "1970-01-01T00:00:03.000Z", "lastActive": "1970-01-01T00:00:02.500Z",
            "devices": {"mobile": 1, "web": 2},
            "user": {"id": "a\"b", "name": "Zoë \"Z\"", "status": "busy", "statusText": "a \"b\""},
        });
        assert_eq!(written(false, "a\"b", Seen::Online(&presence(Status::Busy))), expected);
        let bare = json!({
            "userId": "7", "isOnline": true, "status": "online", "lastSeen": "1970-01-01T00:00:03.000Z", "devices": {},
            "user": {"id": "7", "status": "online"},
        });
        assert_eq!(written(false, "7", Seen::Online(&Presence::default())), bare);
    }

    #[test]
    fn who_is_not_online_has_no_profile_and_no_devices() {
        let last_seen = LastSeen { seen_at: Timestamp(0), active_at: None };
        let expected = json!({
            "userId": "7", "isOnline": false, "status": "offline", "lastSeen": "1970-01-01T00:00:00.000Z", "devices": {},
        });
        assert_eq!(written(false, "7", Seen::Before(last_seen)), expected);
        let unknown = json!({"userId": "7", "isOnline": false, "status": "unknown", "devices": {}});
        assert_eq!(written(false, "7", Seen::Unknown), unknown);
        let unknown = json!({
            "userId": "7", "isOnline": false, "hidden": false, "effective": "unknown", "devices": {},
        });
        assert_eq!(written(true, "7", Seen::Unknown), unknown);
    }

    #[test]
    fn the_server_sees_what_was_chosen_and_who_is_hidden() {
        let hidden = written(true, "7", Seen::Online(&presence(Status::Invisible)));
        let expected = json!({
            "userId": "7", "isOnline": false, "hidden": true, "chosen": "invisible", "effective": "invisible",
            "statusText": "a \"b\"", "expiresAt": "1970-01-01T00:01:00.000Z",
            "lastSeen": "1970-01-01T00:00:03.000Z", "lastActive": "1970-01-01T00:00:02.500Z",
            "devices": {"mobile": 1, "web": 2},
            "user": {"id": "7", "name": "Zoë \"Z\"", "status": "invisible", "statusText": "a \"b\""},
        });
        assert_eq!(hidden, expected);
    }
}
