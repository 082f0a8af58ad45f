//! The words of clients that show who is in a room (contract, S0): `online-count-updated`.

use bytes::Bytes;

use super::status::active_at;
use super::{say, user_typing};
use crate::domain::{Presence, UserId};
use crate::wire::json::{Object, list_capacity};
use crate::wire::message::{ErrorCode, Message};
use crate::wire::native::{Envelope, encode_in};

/// Whether these clients have no event for a message.
pub(super) fn is_silent(message: &Message<'_>) -> bool {
    match message {
        // The answer is the acknowledgement, or what the room is like.
        Message::Welcome { .. }
        | Message::RoomLeft { is_removed: false, .. }
        | Message::ActivityAck
        | Message::TypingAck
        // These clients hear of rooms alone, and of a room as a whole (`hub/bulletins.rs`). That has the own user, too.
        | Message::Event(_)
        | Message::OwnEvent(_)
        | Message::RoomEvent { .. }
        | Message::Resync => true,
        _ => false,
    }
}

/// A message as an event, or as an acknowledgement. What these clients have no words for, they are told in the native ones.
pub(super) fn encode(message: &Message<'_>, envelope: Envelope<'_>) -> Bytes {
    match *message {
        Message::RoomJoined { room, page, total, standing } => {
            let n_listed = page.map_or(0, |page| page.users.len());
            say(envelope, "online-count-updated", list_capacity(n_listed), |out| {
                out.string("roomId", room.as_str());
                if let Some(total) = total {
                    out.number("onlineCount", total as u64);
                }
                if let Some(page) = page {
                    out.objects("onlineUsers", page.users.iter().map(|(user, presence)| listed(user, presence)));
                }
                out.degraded(standing.degraded);
            })
        }
        Message::RoomLeft { room, is_removed: true } => {
            let message = "the server has taken the user out of the room";
            let code = ErrorCode::NotInRoom;
            encode_in(&Message::Error { code, message, retry_after: None, room: Some(room) }, envelope)
        }
        Message::Typing { room: Some(room), user, is_typing } => user_typing(envelope, "roomId", room, user, is_typing),
        _ => encode_in(message, envelope),
    }
}

/// Clients of S0 show `username`. Somebody without one has the name, or else the id.
fn listed(user: &UserId, presence: &Presence) -> Object {
    let mut out = Object::new(128);
    out.string("userId", user.as_str());
    match presence.profile.as_ref().and_then(|profile| profile.shown_name()) {
        Some(shown) => out.encoded("username", shown),
        None => out.string("username", user.as_str()),
    };
    out.time("lastSeen", active_at(presence));
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::payloads;
    use super::*;
    use crate::domain::{Position, Profile, ProfileFields, RoomId, RosterPage, Timestamp};
    use crate::wire::Format;
    use crate::wire::message::Standing;

    const STANDING: Standing = Standing { position: Position { epoch: 1, revision: 2 }, degraded: None };

    fn said(message: &Message<'_>) -> Option<String> {
        super::super::encode(Format::SocketioRoom, message, None).map(|frame| payloads(&frame).remove(0))
    }

    #[test]
    fn a_room_is_told_as_a_whole_or_as_a_number() {
        let room = RoomId::parse("r").unwrap();
        let users = ["1", "2", "3"].map(|id| UserId::parse(id).unwrap());
        let named = |name: Option<&str>, username: Option<&str>| {
            let (name, username) = (name.map(str::to_owned), username.map(str::to_owned));
            let profile = Profile::from_fields(&ProfileFields { name, username, ..ProfileFields::default() });
            Presence { profile, active_at: Timestamp(1), ..Presence::default() }
        };
        let presences = [named(Some("Ann"), Some("a\"n")), named(Some("Bea"), None), named(None, None)];
        let page = RosterPage { users: users.iter().zip(&presences).collect(), next_cursor: None };
        let joined = |page| Message::RoomJoined { room: &room, page, total: Some(3), standing: STANDING };
        assert_eq!(
            said(&joined(Some(&page))).unwrap(),
            concat!(
                r#"42["online-count-updated",{"roomId":"r","onlineCount":3,"onlineUsers":["#,
                r#"{"userId":"1","username":"a\"n","lastSeen":"1970-01-01T00:00:00.001Z"},"#,
                r#"{"userId":"2","username":"Bea","lastSeen":"1970-01-01T00:00:00.001Z"},"#,
                r#"{"userId":"3","username":"3","lastSeen":"1970-01-01T00:00:00.001Z"}]}]"#
            )
        );
        assert_eq!(said(&joined(None)).unwrap(), r#"42["online-count-updated",{"roomId":"r","onlineCount":3}]"#);
        let typing = Message::Typing { room: Some(&room), user: &users[0], is_typing: false };
        assert_eq!(said(&typing).unwrap(), r#"42["user-typing",{"userId":"1","roomId":"r","isTyping":false}]"#);
        for silent in [Message::Resync, Message::ActivityAck, Message::RoomLeft { room: &room, is_removed: false }] {
            assert_eq!(said(&silent), None);
        }
        let removed = said(&Message::RoomLeft { room: &room, is_removed: true }).unwrap();
        assert!(removed.starts_with(r#"42["error",{"code":"not_in_room","#) && removed.contains(r#""roomId":"r""#));
    }
}
