//! Packets of Engine.IO 4 and Socket.IO 5, as one text. Sources: <https://socket.io/docs/v4/engine-io-protocol/> and
//! <https://socket.io/docs/v4/socket-io-protocol/>.

use std::fmt;

use serde_json::{Map, Value};

use crate::wire::fields::{self, Fault};
use crate::wire::message::Token;

/// What a client sends in one text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Packet<'a> {
    /// Engine.IO: the client is done.
    Close,
    /// Engine.IO: a question of the client. Only a probe asks.
    Ping(&'a str),
    /// Engine.IO: the answer to our ping.
    Pong,
    /// Engine.IO: the probe goes on as the connection.
    Upgrade,
    /// Engine.IO: nothing.
    Noop,
    /// The client enters a namespace.
    Connect {
        /// The namespace: `/` is the main one.
        namespace: &'a str,
        /// What it shows.
        auth: Shown,
    },
    /// The client leaves a namespace.
    Disconnect {
        /// The namespace.
        namespace: &'a str,
    },
    /// An event in the main namespace.
    Event(Event<'a>),
    /// An acknowledgement. We ask for none.
    Ack {
        /// How many binary messages belong to it, and come after it.
        n_attachments: u8,
    },
    /// An event or an acknowledgement in another namespace.
    Elsewhere,
}

/// What a client shows when it enters a namespace: an object of its own making. `Debug` hides it.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Shown(Option<Map<String, Value>>);

impl Shown {
    /// The token, if there is one.
    ///
    /// # Errors
    /// It is no text.
    pub(crate) fn token(&self) -> Result<Option<Token>, Fault> {
        self.0.as_ref().map_or(Ok(None), fields::token)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(hidden)")
    }
}

/// An event that a client emits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event<'a> {
    /// Its name.
    pub(crate) name: String,
    /// What comes after the name.
    pub(crate) arguments: Vec<Value>,
    /// The digits of the acknowledgement that the client asks for.
    pub(crate) ack: Option<&'a str>,
    /// How many binary messages belong to the event, and come after it.
    pub(crate) n_attachments: u8,
}

/// A text that is no packet, or one that a client may not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadPacket;

/// The namespace that everybody is in.
pub(crate) const MAIN: &str = "/";

/// Longest name of a namespace. There is one, so a longer name is of no use.
const NAMESPACE_BYTES_MAX: usize = 128;

/// Most digits of the number of an acknowledgement. JavaScript counts exactly so far.
const ACK_DIGITS_MAX: usize = 16;

/// Most binary messages of one event. Source: `maxAttachments` of socket.io-parser 4.2
const ATTACHMENTS_MAX: u8 = 10;

/// Names that a client must not give an event, because they mean something else to applications. Source: `RESERVED_EVENTS` of
/// socket.io-parser 4.2
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

impl<'a> Packet<'a> {
    /// Reads a text of a client.
    ///
    /// # Errors
    /// [`BadPacket`].
    pub(crate) fn read(text: &'a str) -> Result<Self, BadPacket> {
        let (kind, rest) = split_first(text)?;
        match (kind, rest) {
            (b'1', "") => Ok(Self::Close),
            (b'2', data) => Ok(Self::Ping(data)),
            (b'3', "") => Ok(Self::Pong),
            (b'4', message) => Self::read_message(message),
            (b'5', "") => Ok(Self::Upgrade),
            (b'6', "") => Ok(Self::Noop),
            _ => Err(BadPacket),
        }
    }

    /// How many binary messages come after a text that is not read any further.
    pub(crate) fn n_attachments(text: &str) -> u8 {
        let binary = text.strip_prefix("45").or_else(|| text.strip_prefix("46"));
        binary.and_then(|rest| attachments(rest).ok()).map_or(0, |(n_attachments, _)| n_attachments)
    }

    fn read_message(text: &'a str) -> Result<Self, BadPacket> {
        let (kind, rest) = split_first(text)?;
        let is_binary = matches!(kind, b'5' | b'6');
        let (n_attachments, rest) = if is_binary { attachments(rest)? } else { (0, rest) };
        let (namespace, rest) = namespace(rest)?;
        let (ack, payload) = ack(rest)?;
        match (kind, ack) {
            (b'0', None) => Ok(Self::Connect { namespace, auth: auth(payload)? }),
            (b'1', None) if payload.is_empty() => Ok(Self::Disconnect { namespace }),
            (b'2' | b'5', ack) => {
                let (name, arguments) = event(payload)?;
                let event = Event { name, arguments, ack, n_attachments };
                Ok(if namespace == MAIN { Self::Event(event) } else { Self::Elsewhere })
            }
            (b'3' | b'6', Some(_)) => {
                array(payload)?;
                Ok(if namespace == MAIN { Self::Ack { n_attachments } } else { Self::Elsewhere })
            }
            _ => Err(BadPacket),
        }
    }
}

fn split_first(text: &str) -> Result<(u8, &str), BadPacket> {
    match text.as_bytes().first() {
        Some(kind) if kind.is_ascii_digit() => Ok((*kind, &text[1..])),
        _ => Err(BadPacket),
    }
}

/// The number of binary messages: `1-`.
fn attachments(text: &str) -> Result<(u8, &str), BadPacket> {
    let (number, rest) = text.split_once('-').ok_or(BadPacket)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|number| is_number && (1..=ATTACHMENTS_MAX).contains(number));
    Ok((number.ok_or(BadPacket)?, rest))
}

/// The namespace: `/admin,`. The main one is left out, or stands there with a comma.
fn namespace(text: &str) -> Result<(&str, &str), BadPacket> {
    if !text.starts_with('/') {
        return Ok((MAIN, text));
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    if namespace.len() > NAMESPACE_BYTES_MAX { Err(BadPacket) } else { Ok((namespace, rest)) }
}

/// The digits of an acknowledgement.
fn ack(text: &str) -> Result<(Option<&str>, &str), BadPacket> {
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(n_digits);
    match n_digits {
        0 => Ok((None, rest)),
        1..=ACK_DIGITS_MAX => Ok((Some(digits), rest)),
        _ => Err(BadPacket),
    }
}

fn auth(payload: &str) -> Result<Shown, BadPacket> {
    if payload.is_empty() {
        return Ok(Shown(None));
    }
    serde_json::from_str(payload).map(|auth| Shown(Some(auth))).map_err(|_| BadPacket)
}

fn array(payload: &str) -> Result<Vec<Value>, BadPacket> {
    serde_json::from_str(payload).map_err(|_| BadPacket)
}

/// The name of an event, and its arguments. A name may be a number, too.
fn event(payload: &str) -> Result<(String, Vec<Value>), BadPacket> {
    let mut arguments = array(payload)?;
    if arguments.is_empty() {
        return Err(BadPacket);
    }
    match arguments.remove(0) {
        Value::String(name) if !RESERVED.contains(&name.as_str()) => Ok((name, arguments)),
        Value::Number(name) => Ok((name.to_string(), arguments)),
        _ => Err(BadPacket),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event<'a>(name: &str, arguments: Value, ack: Option<&'a str>, n_attachments: u8) -> Packet<'a> {
        let arguments = arguments.as_array().unwrap().clone();
        Packet::Event(Event { name: name.to_owned(), arguments, ack, n_attachments })
    }

    #[test]
    fn packets_are_understood() {
        let auth = Shown(json!({"token": "x"}).as_object().cloned());
        for (text, packet) in [
            ("1", Packet::Close),
            ("2probe", Packet::Ping("probe")),
            ("3", Packet::Pong),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
            ("40", Packet::Connect { namespace: "/", auth: Shown(None) }),
            ("40/,", Packet::Connect { namespace: "/", auth: Shown(None) }),
            (r#"40{"token":"x"}"#, Packet::Connect { namespace: "/", auth: auth.clone() }),
            (r#"40/admin,{"token":"x"}"#, Packet::Connect { namespace: "/admin", auth }),
            ("40/admin", Packet::Connect { namespace: "/admin", auth: Shown(None) }),
            ("41", Packet::Disconnect { namespace: "/" }),
            ("41/admin,", Packet::Disconnect { namespace: "/admin" }),
            (r#"42["a"]"#, event("a", json!([]), None, 0)),
            (r#"42["a",{"b":1},null]"#, event("a", json!([{"b": 1}, null]), None, 0)),
            (r#"4217["a","b"]"#, event("a", json!(["b"]), Some("17"), 0)),
            (r#"42/,17["a"]"#, event("a", json!([]), Some("17"), 0)),
            (r#"42[7]"#, event("7", json!([]), None, 0)),
            (
                r#"451-["a",{"_placeholder":true,"num":0}]"#,
                event("a", json!([{"_placeholder": true, "num": 0}]), None, 1),
            ),
            (r#"4510-3["a"]"#, event("a", json!([]), Some("3"), 10)),
            ("437[]", Packet::Ack { n_attachments: 0 }),
            ("462-7[]", Packet::Ack { n_attachments: 2 }),
            (r#"42/admin,["a"]"#, Packet::Elsewhere),
        ] {
            assert_eq!(Packet::read(text), Ok(packet), "{text}");
        }
    }

    #[test]
    fn what_is_no_packet_of_a_client_is_refused() {
        let long = format!("40/{},", "x".repeat(128));
        for text in [
            "",
            "x",
            "0{}",
            "7",
            "9",
            "1x",
            "3x",
            "5x",
            "6x",
            "4",
            "4x",
            "44{}",
            "47",
            "401",
            "40[]",
            "40null",
            "40x",
            "41x",
            "411",
            "42",
            "42{}",
            "42[]",
            r#"42["a""#,
            r#"42["a"]x"#,
            "42[null]",
            r#"42["connect"]"#,
            r#"42["disconnect"]"#,
            r#"4212345678901234567["a"]"#,
            r#"45["a"]"#,
            r#"450-["a"]"#,
            r#"4511-["a"]"#,
            r#"45+1-["a"]"#,
            r#"45-["a"]"#,
            "43[]",
            "437",
            "437{}",
            &long,
        ] {
            assert_eq!(Packet::read(text), Err(BadPacket), "{text}");
        }
    }

    #[test]
    fn the_binaries_of_a_text_are_known_without_the_rest() {
        for (text, n_attachments) in [("453-x", 3), ("461-7[]", 1), ("42[\"a\"]", 0), ("4511-x", 0), ("45", 0), ("", 0)]
        {
            assert_eq!(Packet::n_attachments(text), n_attachments, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[0-7]{0,3}[-/,0-9a-z]{0,4}(\\PC{0,20}|\\[\"a\"[^a]{0,9}\\])") {
            let _ = Packet::read(&text);
        }
    }
}
