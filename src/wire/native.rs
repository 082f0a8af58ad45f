//! The native format: text frames of flat JSON over `/ws`. `docs/protocol.md` describes it.

pub(super) mod request;

use std::time::Duration;

use bytes::Bytes;

pub(super) use self::request::parse;
use super::frame;
use super::json::{Object, list_capacity, push_user, push_users};
use super::message::{Event, Message, MissedChange, Standing, WatchedUser};
use crate::clock;
use crate::domain::{
    Departure, HeldSocket, LastSeen, Presence, RoomId, RoomTold, RosterPage, SocketId, Timestamp, Told, UserId,
};

/// What is around the members of a message.
#[derive(Clone, Copy)]
pub(super) enum Envelope<'a> {
    /// An object with `type`, and in an answer the encoded `ref` of its request.
    Native {
        /// The `ref`.
        reference: Option<&'a str>,
    },
    /// An event of Socket.IO.
    Event,
    /// An acknowledgement of Socket.IO that something was carried out.
    Ack {
        /// Its digits.
        id: &'a str,
    },
    /// An acknowledgement of Socket.IO that something was refused.
    Refusal {
        /// Its digits.
        id: &'a str,
    },
}

impl Envelope<'_> {
    /// Begins the message of that name.
    pub(super) fn begin(self, kind: &str, capacity: usize) -> Object {
        let mut out = match self {
            Self::Native { .. } => return typed(kind, capacity),
            Self::Event => format!("42[\"{kind}\",{{"),
            Self::Ack { id } => format!("43{id}[{{\"success\":true"),
            Self::Refusal { id } => format!("43{id}[{{\"success\":false"),
        };
        out.reserve(capacity);
        Object::begun(out.into_bytes())
    }

    /// Ends the message that [`Envelope::begin`] began.
    pub(super) fn finish(self, mut out: Object) -> Vec<u8> {
        match self {
            Self::Native { reference } => {
                if let Some(reference) = reference {
                    out.member("ref").extend_from_slice(reference.as_bytes());
                }
                out.finish()
            }
            Self::Event | Self::Ack { .. } | Self::Refusal { .. } => {
                let mut out = out.finish();
                out.push(b']');
                out
            }
        }
    }
}

/// A message as a frame. An answer carries the encoded `ref` of its request.
pub(super) fn encode(message: &Message<'_>, reference: Option<&str>) -> Bytes {
    encode_in(message, Envelope::Native { reference })
}

/// The same in another envelope.
pub(super) fn encode_in(message: &Message<'_>, envelope: Envelope<'_>) -> Bytes {
    let object = |kind: &str, capacity| envelope.begin(kind, capacity);
    let room_object = |kind: &str, room: &RoomId, capacity| room_object(envelope, kind, room, capacity);
    let out = match *message {
        Message::Authenticated { user, n_online, ends_at } => {
            let mut out = object("authentication_success", 128);
            out.string("userId", user.as_str());
            push_count(&mut out, "onlineCount", n_online);
            if let Some(ends_at) = ends_at {
                out.time("expiresAt", ends_at);
            }
            out
        }
        Message::NotAuthenticated { code, message, retry_after } => {
            let mut out = object("authentication_error", 128);
            out.string("code", code.as_str()).string("message", message);
            push_retry_after(&mut out, retry_after);
            out
        }
        Message::Welcome { user, socket, n_online, own, standing } => {
            let mut out = object("welcome", 320);
            out.string("userId", user.as_str()).string("socketId", &socket.to_string());
            out.string("nodeId", socket.node.as_str());
            push_count(&mut out, "onlineCount", n_online);
            push_own_status(&mut out, own);
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
        Message::Status { user, presence, last_seen, standing } => {
            let mut out = object("user_online_status", 256);
            out.string("userId", user.as_str()).boolean("online", presence.is_some());
            if !matches!(envelope, Envelope::Native { .. }) {
                // Clients of S2 read this name.
                out.boolean("isOnline", presence.is_some());
            }
            push_status(&mut out, user, presence, last_seen);
            push_standing(&mut out, standing);
            out
        }
        Message::OwnStatus { own, standing } => {
            let mut out = object("own_status", 192);
            push_own_status(&mut out, own);
            push_standing(&mut out, standing);
            out
        }
        Message::RoomJoined { room, page, total, standing } => {
            let mut out = room_object("room_joined", room, list_capacity(page.map_or(0, |page| page.users.len())));
            push_room_page(&mut out, page, total, standing);
            out
        }
        Message::RoomUsers { room, page, total, standing } => {
            let mut out = room_object("room_users", room, list_capacity(page.users.len()));
            push_room_page(&mut out, Some(page), Some(total), standing);
            out
        }
        Message::RoomCount { room, n_online, standing } => {
            let mut out = room_object("room_count", room, 192);
            out.number("onlineCount", n_online as u64);
            out.degraded(standing.and_then(|standing| standing.degraded));
            out.time("timestamp", clock::now());
            out
        }
        Message::RoomLeft { room, is_removed } => {
            let mut out = room_object("room_left", room, 128);
            if is_removed {
                out.boolean("removed", true);
            }
            out
        }
        Message::RoomEvent { room, user, what, at } => room_event_object(envelope, room, user, what, at),
        Message::Typing { room, user, is_typing } => {
            let mut out = object("typing", 128);
            if let Some(room) = room {
                out.string("roomId", room.as_str());
            }
            out.string("userId", user.as_str()).boolean("isTyping", is_typing);
            out
        }
        Message::TypingAck => object("typing_ack", 64),
        Message::Updated { user, own, standing } => {
            let mut out = object("presence_updated", 256);
            push_user(out.member("user"), user, own);
            push_standing(&mut out, standing);
            out
        }
        Message::Devices { sockets, own, standing } => {
            let mut out = object("devices", 256 * (1 + sockets.len()));
            out.objects("devices", sockets.iter().map(|held| device(held, own)));
            push_standing(&mut out, standing);
            out
        }
        Message::Subscribed { interest, n_online, standing } => {
            let mut out = object("subscribed", 192);
            out.string("presence", interest.as_str());
            push_count(&mut out, "onlineCount", n_online);
            push_standing(&mut out, standing);
            out
        }
        Message::Watching { users, standing } => {
            let mut out = object("watching", list_capacity(users.len()));
            out.objects("users", users.iter().map(watched_user));
            push_standing(&mut out, standing);
            out
        }
        Message::Unwatched { users } => {
            let mut out = object("unwatched", 64);
            out.strings("userIds", users.iter().map(UserId::as_str));
            out
        }
        Message::Count { n_online, standing } => {
            let mut out = object("online_count", 192);
            out.number("onlineCount", n_online as u64);
            if let Some(standing) = standing {
                push_standing(&mut out, standing);
            }
            out.time("timestamp", clock::now());
            out
        }
        Message::CountUnwatched => object("count_unwatched", 64),
        Message::Paused => object("paused", 64),
        Message::Resumed { changes, standing } => {
            let mut out = object("resumed", list_capacity(changes.len()));
            out.objects("changes", changes.iter().map(missed_change));
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
        Message::Error { code, message, retry_after, room } => {
            let mut out = object("error", 128);
            out.string("code", code.as_str()).string("message", message);
            if let Some(room) = room {
                out.string("roomId", room.as_str());
            }
            push_retry_after(&mut out, retry_after);
            out
        }
        Message::Event(event) => event_object(envelope, &event),
        Message::OwnEvent(event) => {
            let mut out = object("own_status", 192);
            push_own_status(&mut out, event.what);
            push_event(&mut out, &event);
            out
        }
    };
    frame::text(&envelope.finish(out))
}

pub(super) fn push_retry_after(out: &mut Object, retry_after: Option<Duration>) {
    if let Some(delay) = retry_after {
        // The delay is rounded up. So a client that waits for this time is never too early.
        out.number("retryAfterMs", delay.as_micros().div_ceil(1000) as u64);
    }
}

/// How a watched user is: as in `user_online_status`.
fn watched_user(watched: &WatchedUser<'_>) -> Object {
    let WatchedUser { user, presence, last_seen } = *watched;
    let mut out = Object::new(192);
    out.string("userId", user.as_str()).boolean("online", presence.is_some());
    push_status(&mut out, user, presence, last_seen);
    out
}

/// What a paused client missed of a user: an event without its number and its time.
fn missed_change(missed: &MissedChange<'_>) -> Object {
    let MissedChange { user, was_online, presence } = *missed;
    let now = match (presence, was_online) {
        (Some(_), false) => "user_online",
        (Some(_), true) => "user_changed",
        (None, _) => "user_offline",
    };
    let mut out = typed(now, 192);
    out.string("userId", user.as_str());
    if let Some(presence) = presence {
        push_user(out.member("user"), user, presence);
    }
    out
}

/// A user who is online, or when the user was last seen.
fn push_status(out: &mut Object, user: &UserId, presence: Option<&Presence>, last_seen: Option<LastSeen>) {
    match presence {
        Some(presence) => {
            push_user(out.member("user"), user, presence);
            push_active_at(out, Some(presence.active_at));
        }
        None => push_last_seen(out, last_seen),
    }
}

/// `user_online`, `user_changed`, `user_status_changed` or `user_offline`.
fn event_object(envelope: Envelope<'_>, event: &Event<'_, Told>) -> Object {
    let kind = match event.what {
        Told::Online(_) => "user_online",
        Told::ProfileChanged(_) => "user_changed",
        Told::StatusChanged(_) => "user_status_changed",
        Told::Offline(_) => "user_offline",
    };
    let mut out = envelope.begin(kind, 256);
    out.string("userId", event.user.as_str());
    match event.what {
        Told::Online(presence) | Told::ProfileChanged(presence) => push_user(out.member("user"), event.user, presence),
        Told::StatusChanged(presence) => {
            out.string("status", presence.effective.as_str());
            if let Some(text) = presence.status_text() {
                out.string("statusText", text.as_str());
            }
            push_user(out.member("user"), event.user, presence);
        }
        Told::Offline(Departure { reason, seen_at, active_at }) => {
            out.string("reason", reason.as_str());
            let last_seen = seen_at.map(|seen_at| LastSeen { seen_at, active_at: *active_at });
            push_last_seen(&mut out, last_seen);
        }
    }
    push_event(&mut out, event);
    out
}

/// `room_user_joined`, `room_user_changed` or `room_user_left`. The order of these frames is the order of the events, so they
/// have no number.
fn room_event_object(envelope: Envelope<'_>, room: &RoomId, user: &UserId, what: &RoomTold, at: Timestamp) -> Object {
    let kind = match what {
        RoomTold::Joined(_) => "room_user_joined",
        RoomTold::Changed(_) => "room_user_changed",
        RoomTold::Left(_) => "room_user_left",
    };
    let mut out = room_object(envelope, kind, room, 256);
    out.string("userId", user.as_str());
    match what {
        RoomTold::Joined(presence) | RoomTold::Changed(presence) => push_user(out.member("user"), user, presence),
        RoomTold::Left(reason) => _ = out.string("reason", reason.as_str()),
    }
    out.time("timestamp", at);
    out
}

/// A number of users, for a client that may know it.
fn push_count(out: &mut Object, name: &str, count: Option<usize>) {
    if let Some(count) = count {
        out.number(name, count as u64);
    }
}

fn push_room_page(out: &mut Object, page: Option<&RosterPage<'_>>, total: Option<usize>, standing: Standing) {
    if let Some(page) = page {
        push_users(out.member("users"), page.users.iter().copied());
    }
    push_count(out, "total", total);
    if let Some(cursor) = page.and_then(|page| page.next_cursor) {
        out.string("nextCursor", cursor.as_str());
    }
    out.degraded(standing.degraded);
}

/// What every event has.
fn push_event<What>(out: &mut Object, event: &Event<'_, What>) {
    match event.revision {
        Some(revision) => out.number("epoch", event.epoch).number("revision", revision),
        None => out.boolean("provisional", true),
    };
    if event.catch_up {
        out.boolean("catchUp", true);
    }
    out.time("timestamp", event.at);
}

fn push_own_status(out: &mut Object, own: &Presence) {
    out.string("chosen", own.chosen_status().as_str()).string("effective", own.effective.as_str());
    if let Some(text) = own.status_text() {
        out.string("statusText", text.as_str());
    }
    if let Some(expires_at) = own.chosen.as_ref().and_then(|chosen| chosen.expires_at) {
        out.time("expiresAt", expires_at);
    }
}

/// One of the user's sockets. `own` is the socket that is told.
fn device(held: &HeldSocket, own: SocketId) -> Object {
    let state = match (held.in_grace, held.is_idle) {
        (true, _) => "grace",
        (false, true) => "idle",
        (false, false) => "active",
    };
    let mut out = Object::new(256);
    out.string("socketId", &held.socket.to_string()).string("state", state).time("since", held.since);
    if let Some(device) = &held.device {
        out.encoded("device", device);
    }
    if held.socket == own {
        out.boolean("own", true);
    }
    out
}

fn push_last_seen(out: &mut Object, last_seen: Option<LastSeen>) {
    if let Some(LastSeen { seen_at, active_at }) = last_seen {
        out.time("lastSeen", seen_at);
        push_active_at(out, active_at);
    }
}

/// Nothing if it is not known.
fn push_active_at(out: &mut Object, active_at: Option<Timestamp>) {
    if let Some(active_at) = active_at.filter(|active_at| *active_at > Timestamp(0)) {
        out.time("lastActive", active_at);
    }
}

/// An object whose first member is `type`.
fn typed(kind: &str, capacity: usize) -> Object {
    let mut out = Object::new(capacity);
    out.string("type", kind);
    out
}

/// An object about a room.
fn room_object(envelope: Envelope<'_>, kind: &str, room: &RoomId, capacity: usize) -> Object {
    let mut out = envelope.begin(kind, capacity);
    out.string("roomId", room.as_str());
    out
}

fn push_standing(out: &mut Object, standing: Standing) {
    out.number("epoch", standing.position.epoch).number("revision", standing.position.revision);
    out.degraded(standing.degraded);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::domain::{ChosenStatus, OfflineReason, Profile, ProfileFields, Status, StatusText, UserId};

    fn json(frame: &[u8]) -> Value {
        let payload_at = if frame[1] < 126 { 2 } else { 4 };
        serde_json::from_slice(&frame[payload_at..]).unwrap()
    }

    fn event<'a, What>(user: &'a UserId, what: &'a What) -> Event<'a, What> {
        Event { user, what, epoch: 1, revision: Some(2), catch_up: true, at: Timestamp(3) }
    }

    #[test]
    fn an_offline_event_says_what_is_known() {
        let user = UserId::parse("a").unwrap();
        let unknown = Told::Offline(OfflineReason::Unknown.into());
        let told = json(&encode(&Message::Event(event(&user, &unknown)), None));
        assert_eq!((told.get("lastSeen"), told.get("lastActive")), (None, None));
        let departure = Departure { reason: OfflineReason::Left, seen_at: Some(Timestamp(0)), active_at: None };
        let told = json(&encode(&Message::Event(event(&user, &Told::Offline(departure))), None));
        assert_eq!((&told["lastSeen"], told.get("lastActive")), (&Value::from("1970-01-01T00:00:00.000Z"), None));
    }

    proptest! {
        #[test]
        fn every_frame_out_is_json(id in "[^\\p{Cc}]{1,30}", name in ".{0,20}", text in "[^\\p{Cc}]{1,20}") {
            let user = UserId::parse(&id).unwrap();
            let fields = ProfileFields { name: Some(name.clone()), ..ProfileFields::default() };
            let chosen = ChosenStatus {
                status: Status::Busy,
                text: StatusText::parse(&text).unwrap(),
                expires_at: Some(Timestamp(5)),
                at: Timestamp(1),
            };
            let presence = Presence {
                profile: Profile::from_fields(&fields),
                chosen: Some(Arc::new(chosen)),
                effective: Status::Busy,
                ..Presence::default()
            };
            let own = json(&encode(&Message::OwnEvent(event(&user, &presence)), None));
            prop_assert_eq!((&own["chosen"], &own["statusText"]), (&Value::from("busy"), &Value::from(text.as_str())));
            let told = json(&encode(&Message::Event(event(&user, &Told::StatusChanged(presence))), None));
            prop_assert_eq!(&told["userId"], &Value::from(id.as_str()));
            prop_assert_eq!(&told["user"]["id"], &Value::from(id.as_str()));
            prop_assert_eq!(&told["user"]["name"], &Value::from(name.as_str()));
            prop_assert_eq!((&told["status"], &told["user"]["status"]), (&Value::from("busy"), &Value::from("busy")));
            prop_assert_eq!(&told["user"]["statusText"], &Value::from(text.as_str()));
        }
    }
}
