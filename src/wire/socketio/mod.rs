//! Socket.IO: events in three tongues. One is the native format, with the words of S2 and S3 among it. The others are those of S1
//! (`status.rs`) and of S0 (`room.rs`). `docs/socketio.md` describes them.

pub(crate) mod packet;
mod request;
mod room;
mod status;

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use self::packet::Packet;
use super::format::Format;
use super::frame;
use super::json::Object;
use super::message::{BadRequest, ClientMessage, ErrorCode, Message, RequestLimits};
use super::native::{self, Envelope};
use crate::domain::{RoomId, UserId};

/// Reads a text of a client that has connected to the main namespace.
///
/// # Errors
/// It is no event, or a wrong one.
pub(super) fn parse(text: &str, limits: RequestLimits) -> Result<ClientMessage, BadRequest> {
    match Packet::read(text) {
        Ok(Packet::Event(event)) => event.request(limits),
        _ => Err(BadRequest {
            code: ErrorCode::UnknownType,
            message: "the packet is no event".to_owned(),
            reference: None,
        }),
    }
}

/// A message as an event. An answer to a request with an acknowledgement is also said in that, after the event, with the same
/// members.
pub(super) fn encode(tongue: Format, message: &Message<'_>, reference: Option<&str>) -> Option<Bytes> {
    let event = (!is_silent(tongue, message)).then(|| encode_in(tongue, message, Envelope::Event));
    let ack = reference.map(|id| encode_in(tongue, message, acknowledgement(tongue, message, id)));
    match (event, ack) {
        (Some(event), Some(ack)) => {
            let mut both = BytesMut::with_capacity(event.len() + ack.len());
            both.extend_from_slice(&event);
            both.extend_from_slice(&ack);
            Some(both.freeze())
        }
        (event, ack) => event.or(ack),
    }
}

/// Whether a message is no event in the tongue. A client may still have asked for it.
fn is_silent(tongue: Format, message: &Message<'_>) -> bool {
    match tongue {
        Format::SocketioStatus => status::is_silent(message),
        Format::SocketioRoom => room::is_silent(message),
        // These say only that something was carried out.
        Format::Native | Format::Plain | Format::Socketio => {
            matches!(message, Message::ActivityAck | Message::TypingAck)
        }
    }
}

fn encode_in(tongue: Format, message: &Message<'_>, envelope: Envelope<'_>) -> Bytes {
    match tongue {
        Format::SocketioStatus => status::encode(message, envelope),
        Format::SocketioRoom => room::encode(message, envelope),
        Format::Native | Format::Plain | Format::Socketio => native::encode_in(message, envelope),
    }
}

/// What a request with an acknowledgement is answered through.
fn acknowledgement<'a>(tongue: Format, message: &Message<'_>, id: &'a str) -> Envelope<'a> {
    match (tongue, message) {
        (_, Message::Error { .. } | Message::NotAuthenticated { .. })
        // Clients of S0 are told this as an error.
        | (Format::SocketioRoom, Message::RoomLeft { is_removed: true, .. }) => Envelope::Refusal { id },
        _ => Envelope::Ack { id },
    }
}

/// An event of this name, or an acknowledgement, with one object that `fill` fills.
fn say(envelope: Envelope<'_>, name: &str, capacity: usize, fill: impl FnOnce(&mut Object)) -> Bytes {
    let mut out = envelope.begin(name, capacity);
    fill(&mut out);
    frame::text(&envelope.finish(out))
}

/// Somebody types in a room, which the tongue calls `room_name`.
fn user_typing(envelope: Envelope<'_>, room_name: &str, room: &RoomId, user: &UserId, is_typing: bool) -> Bytes {
    say(envelope, "user-typing", 128, |out| {
        out.string("userId", user.as_str()).string(room_name, room.as_str()).boolean("isTyping", is_typing);
    })
}

/// The first packet of a connection, as text: the numbers that the client keeps to.
pub(crate) fn open(
    sid: &str,
    upgrades: &[&str],
    ping_interval_ms: u64,
    ping_timeout_ms: u64,
    max_payload: usize,
) -> String {
    let mut out = Object::new(160);
    out.string("sid", sid).strings("upgrades", upgrades.iter().copied());
    out.number("pingInterval", ping_interval_ms).number("pingTimeout", ping_timeout_ms);
    out.number("maxPayload", max_payload as u64);
    format!("0{}", String::from_utf8_lossy(&out.finish()))
}

/// The client is in the main namespace. `sid` is its id there.
pub(crate) fn connected(sid: &str) -> Bytes {
    let mut out = Object::new(64);
    out.string("sid", sid);
    frame::text(&[b"40", &out.finish()[..]].concat())
}

/// The client is not let into a namespace. The code is for its application, and so is the time after which another try may help.
pub(crate) fn refused(namespace: &str, message: &str, code: Option<(ErrorCode, Option<Duration>)>) -> Bytes {
    let mut out = Object::new(160);
    out.string("message", message);
    if let Some((code, retry_after)) = code {
        let mut data = Object::new(64);
        data.string("code", code.as_str());
        native::push_retry_after(&mut data, retry_after);
        out.object("data", data);
    }
    let namespace = if namespace == packet::MAIN { String::new() } else { format!("{namespace},") };
    frame::text(&[b"44", namespace.as_bytes(), &out.finish()[..]].concat())
}

/// The question whether the client is there.
pub(crate) fn ping() -> Bytes {
    frame::text(b"2")
}

/// The client has to leave the main namespace. It does not come back by itself.
pub(crate) fn disconnect() -> Bytes {
    frame::text(b"41")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::{Told, UserId};
    use crate::wire::message::Event;

    pub(super) fn payloads(bytes: &[u8]) -> Vec<String> {
        let (mut rest, mut payloads) = (bytes, Vec::new());
        while let [_, length, after @ ..] = rest {
            let (length, after) = match length {
                126 => (usize::from(after[0]) << 8 | usize::from(after[1]), &after[2..]),
                short => (usize::from(*short), after),
            };
            payloads.push(String::from_utf8(after[..length].to_vec()).unwrap());
            rest = &after[length..];
        }
        payloads
    }

    #[test]
    fn an_answer_is_an_event_and_an_acknowledgement() {
        let user = UserId::parse("a\"b").unwrap();
        let left = Message::Left { user: &user };
        assert_eq!(payloads(&encode(Format::Socketio, &left, None).unwrap()), [r#"42["left",{"userId":"a\"b"}]"#]);
        assert_eq!(
            payloads(&encode(Format::Socketio, &left, Some("7")).unwrap()),
            [r#"42["left",{"userId":"a\"b"}]"#, r#"437[{"success":true,"userId":"a\"b"}]"#]
        );
        assert_eq!(encode(Format::Socketio, &Message::ActivityAck, None), None);
        assert_eq!(
            payloads(&encode(Format::Socketio, &Message::ActivityAck, Some("0")).unwrap()),
            [r#"430[{"success":true}]"#]
        );
        assert_eq!(payloads(&encode(Format::Socketio, &Message::Resync, None).unwrap()), [r#"42["resync",{}]"#]);
        let error = Message::Error { code: ErrorCode::NotJoined, message: "no", retry_after: None, room: None };
        assert_eq!(
            payloads(&encode(Format::Socketio, &error, Some("7")).unwrap()),
            [
                r#"42["error",{"code":"not_joined","message":"no"}]"#,
                r#"437[{"success":false,"code":"not_joined","message":"no"}]"#
            ]
        );
    }

    #[test]
    fn an_event_contains_what_the_seeds_read() {
        let user = UserId::parse("42").unwrap();
        let told = Told::Online(Default::default());
        let event = Event {
            user: &user,
            what: &told,
            epoch: 1,
            revision: Some(2),
            catch_up: false,
            at: crate::domain::Timestamp(0),
        };
        let payload = payloads(&encode(Format::Socketio, &Message::Event(event), None).unwrap()).remove(0);
        assert!(payload.starts_with(r#"42["user_online",{"userId":"42","user":{"id":"42""#), "{payload}");
    }

    #[test]
    fn the_packets_of_a_handshake() {
        assert_eq!(
            open("n.x", &["websocket"], 25_000, 20_000, 1000),
            r#"0{"sid":"n.x","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000}"#
        );
        assert_eq!(payloads(&connected("x")), [r#"40{"sid":"x"}"#]);
        assert_eq!(payloads(&refused("/a", "Invalid namespace", None)), [r#"44/a,{"message":"Invalid namespace"}"#]);
        let code = (ErrorCode::KeysUnavailable, Some(Duration::from_millis(5)));
        assert_eq!(
            payloads(&refused("/", "no", Some(code))),
            [r#"44{"message":"no","data":{"code":"keys_unavailable","retryAfterMs":5}}"#]
        );
    }
}
