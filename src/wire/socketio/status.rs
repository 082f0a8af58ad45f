//! The words of clients that track a status (contract, S1): `user-status-change`, `online-users-list`, and so on.

use bytes::Bytes;

use super::{say, user_typing};
use crate::clock;
use crate::domain::{Departure, Presence, RosterPage, Timestamp, Told, UserId};
use crate::wire::frame;
use crate::wire::json::{Object, list_capacity};
use crate::wire::message::{Event, Message, Standing};
use crate::wire::native::{Envelope, encode_in, push_retry_after};

/// Of what is silent, only the acknowledgement is said. That has no name.
const UNNAMED: &str = "";

/// Whether these clients have no event for a message.
pub(super) fn is_silent(message: &Message<'_>) -> bool {
    match message {
        // The answer is the acknowledgement.
        Message::RoomJoined { .. }
        | Message::RoomLeft { is_removed: false, .. }
        | Message::ActivityAck
        | Message::TypingAck
        // The room's events are not among their words. After a resync, a list of all follows.
        | Message::RoomEvent { .. }
        | Message::Resync => true,
        Message::Event(told) => matches!(told.what, Told::ProfileChanged(_)),
        _ => false,
    }
}

/// A message as an event, or as an acknowledgement. What these clients have no words for, they are told in the native ones.
pub(super) fn encode(message: &Message<'_>, envelope: Envelope<'_>) -> Bytes {
    match *message {
        Message::Welcome { user, socket, n_online, .. } => {
            authenticated(envelope, user, n_online, |out| _ = out.string("socketId", &socket.to_string()))
        }
        Message::Authenticated { user, n_online, ends_at } => authenticated(envelope, user, n_online, |out| {
            if let Some(ends_at) = ends_at {
                out.time("expiresAt", ends_at);
            }
        }),
        Message::NotAuthenticated { code, message, retry_after } => say(envelope, "authentication-error", 128, |out| {
            out.string("message", message).string("code", code.as_str());
            push_retry_after(out, retry_after);
        }),
        Message::List { page, total, standing } => {
            say(envelope, "online-users-list", list_capacity(page.users.len()), |out| {
                push_page(out, Some(page), Some(total), standing);
            })
        }
        Message::RoomJoined { room, page, total, standing } => {
            let n_listed = page.map_or(0, |page| page.users.len());
            say(envelope, UNNAMED, list_capacity(n_listed), |out| {
                out.string("chatSessionId", room.as_str());
                push_page(out, page, total, standing);
            })
        }
        Message::RoomLeft { room, is_removed: false } => {
            say(envelope, UNNAMED, 64, |out| _ = out.string("chatSessionId", room.as_str()))
        }
        Message::Event(told) => changed(envelope, &told),
        // The own status is told as others see it. So it says what the list says.
        Message::OwnEvent(own) if own.what.is_hidden() => is_offline(envelope, own.user, own.at, own.at),
        Message::OwnEvent(own) => is_online(envelope, own.user, own.what, own.at),
        Message::Typing { room: Some(room), user, is_typing } => {
            user_typing(envelope, "chatSessionId", room, user, is_typing)
        }
        Message::ActivityAck => pong(envelope),
        _ => encode_in(message, envelope),
    }
}

/// The callback of `ping` gets no object.
fn pong(envelope: Envelope<'_>) -> Bytes {
    match envelope {
        Envelope::Ack { id } => frame::text(format!("43{id}[\"pong\"]").as_bytes()),
        Envelope::Native { .. } | Envelope::Event | Envelope::Refusal { .. } => {
            encode_in(&Message::ActivityAck, envelope)
        }
    }
}

fn authenticated(
    envelope: Envelope<'_>,
    user: &UserId,
    n_online: Option<usize>,
    more: impl FnOnce(&mut Object),
) -> Bytes {
    say(envelope, "authentication-success", 128, |out| {
        out.string("userId", user.as_str());
        if let Some(n_online) = n_online {
            out.number("onlineCount", n_online as u64);
        }
        more(out);
    })
}

/// The users of the page, if there is one, and how many there are, if the client may know it.
fn push_page(out: &mut Object, page: Option<&RosterPage<'_>>, total: Option<usize>, standing: Standing) {
    if let Some(page) = page {
        out.objects("users", page.users.iter().map(|(user, presence)| listed(user, presence)));
    }
    if let Some(total) = total {
        out.number("count", total as u64);
    }
    if let Some(cursor) = page.and_then(|page| page.next_cursor) {
        out.string("nextCursor", cursor.as_str());
    }
    out.degraded(standing.degraded);
}

/// `user-status-change`. A change of the profile is silent.
fn changed(envelope: Envelope<'_>, told: &Event<'_, Told>) -> Bytes {
    match told.what {
        Told::Online(presence) | Told::StatusChanged(presence) | Told::ProfileChanged(presence) => {
            is_online(envelope, told.user, presence, told.at)
        }
        Told::Offline(Departure { seen_at, .. }) => {
            is_offline(envelope, told.user, seen_at.unwrap_or(told.at), told.at)
        }
    }
}

fn is_online(envelope: Envelope<'_>, user: &UserId, presence: &Presence, at: Timestamp) -> Bytes {
    status_change(envelope, user, Some(presence.effective.as_str()), at, at)
}

fn is_offline(envelope: Envelope<'_>, user: &UserId, last_seen: Timestamp, at: Timestamp) -> Bytes {
    status_change(envelope, user, None, last_seen, at)
}

/// The status is none if the user is offline.
fn status_change(
    envelope: Envelope<'_>,
    user: &UserId,
    status: Option<&str>,
    last_seen: Timestamp,
    at: Timestamp,
) -> Bytes {
    say(envelope, "user-status-change", 192, |out| {
        out.string("userId", user.as_str()).boolean("isOnline", status.is_some());
        out.string("status", status.unwrap_or("offline")).time("lastSeen", last_seen).time("timestamp", at);
    })
}

/// A user of the list. Clients of S1 read `_id`.
fn listed(user: &UserId, presence: &Presence) -> Object {
    let mut out = Object::new(192);
    out.string("_id", user.as_str()).string("id", user.as_str()).boolean("isOnline", true);
    out.time("lastSeen", active_at(presence));
    if let Some(profile) = &presence.profile {
        out.members(profile.members());
    }
    out.string("status", presence.effective.as_str());
    out
}

/// When a user who is online was last active. If it is not known, this is now: the user is online.
pub(super) fn active_at(presence: &Presence) -> Timestamp {
    if presence.active_at > Timestamp(0) { presence.active_at } else { clock::now() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::payloads;
    use super::*;
    use crate::domain::{
        ChosenStatus, Departure, NodeId, OfflineReason, Position, Profile, ProfileFields, RoomId, RosterPage, SocketId,
        Status,
    };
    use crate::wire::Format;
    use crate::wire::message::ErrorCode;

    const STANDING: Standing = Standing { position: Position { epoch: 1, revision: 2 }, degraded: None };

    fn user() -> UserId {
        UserId::parse("a\"b").unwrap()
    }

    fn busy() -> Presence {
        let fields = ProfileFields { name: Some("Ann".to_owned()), ..ProfileFields::default() };
        let profile = Profile::from_fields(&fields);
        Presence { profile, effective: Status::Busy, active_at: Timestamp(1), ..Presence::default() }
    }

    fn said(message: &Message<'_>) -> Option<String> {
        super::super::encode(Format::SocketioStatus, message, None).map(|frame| payloads(&frame).remove(0))
    }

    fn told<'a, What>(user: &'a UserId, what: &'a What) -> Event<'a, What> {
        Event { user, what, epoch: 1, revision: Some(2), catch_up: false, at: Timestamp(3) }
    }

    #[test]
    fn events_are_changes_of_a_status() {
        let user = user();
        let departure = Departure { reason: OfflineReason::Left, seen_at: Some(Timestamp(2)), active_at: None };
        let change = |is_online: bool, status: &str, last_seen: u8| {
            let members = format!(r#""userId":"a\"b","isOnline":{is_online},"status":"{status}""#);
            let times =
                format!(r#""lastSeen":"1970-01-01T00:00:00.00{last_seen}Z","timestamp":"1970-01-01T00:00:00.003Z""#);
            Some(format!(r#"42["user-status-change",{{{members},{times}}}]"#))
        };
        for (what, expected) in [
            (Told::Online(busy()), change(true, "busy", 3)),
            (Told::StatusChanged(Presence::default()), change(true, "online", 3)),
            (Told::Offline(departure), change(false, "offline", 2)),
            (Told::Offline(OfflineReason::TimedOut.into()), change(false, "offline", 3)),
            (Told::ProfileChanged(busy()), None),
        ] {
            assert_eq!(said(&Message::Event(told(&user, &what))), expected);
        }
        assert_eq!(said(&Message::OwnEvent(told(&user, &busy()))), change(true, "busy", 3));
        let hidden = ChosenStatus { status: Status::Invisible, text: None, expires_at: None, at: Timestamp(1) };
        let hidden = Presence { chosen: Some(Arc::new(hidden)), effective: Status::Invisible, ..Presence::default() };
        assert_eq!(said(&Message::OwnEvent(told(&user, &hidden))), change(false, "offline", 3), "as others see it");
    }

    #[test]
    fn answers_have_the_names_that_the_clients_read() {
        let (user, own) = (user(), busy());
        let page = RosterPage { users: vec![(&user, &own)], next_cursor: None };
        assert_eq!(
            said(&Message::List { page: &page, total: 1, standing: STANDING }).unwrap(),
            concat!(
                r#"42["online-users-list",{"users":[{"_id":"a\"b","id":"a\"b","isOnline":true,"#,
                r#""lastSeen":"1970-01-01T00:00:00.001Z","name":"Ann","status":"busy"}],"count":1}]"#
            )
        );
        let socket = SocketId { node: NodeId::from_bits(7), number: 7 };
        let welcome = Message::Welcome { user: &user, socket, n_online: Some(3), own: &own, standing: STANDING };
        assert!(
            said(&welcome)
                .unwrap()
                .starts_with(r#"42["authentication-success",{"userId":"a\"b","onlineCount":3,"socketId":""#),
            "{:?}",
            said(&welcome)
        );
        let authenticated = Message::Authenticated { user: &user, n_online: None, ends_at: None };
        assert_eq!(said(&authenticated).unwrap(), r#"42["authentication-success",{"userId":"a\"b"}]"#);
        let refused = Message::NotAuthenticated { code: ErrorCode::TokenInvalid, message: "no", retry_after: None };
        assert_eq!(said(&refused).unwrap(), r#"42["authentication-error",{"message":"no","code":"token_invalid"}]"#);
        let room = RoomId::parse("r").unwrap();
        let typing = Message::Typing { room: Some(&room), user: &user, is_typing: true };
        assert_eq!(
            said(&typing).unwrap(),
            r#"42["user-typing",{"userId":"a\"b","chatSessionId":"r","isTyping":true}]"#
        );
        let joined = Message::RoomJoined { room: &room, page: None, total: None, standing: STANDING };
        for silent in [joined, Message::Resync, Message::RoomLeft { room: &room, is_removed: false }] {
            assert_eq!(said(&silent), None);
        }
        let removed = Message::RoomLeft { room: &room, is_removed: true };
        assert_eq!(said(&removed).unwrap(), r#"42["room_left",{"roomId":"r","removed":true}]"#);
    }
}
