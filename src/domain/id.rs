//! Identities. They are parsed once, at the edge, and always valid after that.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A user's identity, chosen by the application: 1 to [`UserId::MAX_BYTES`] bytes of UTF-8 without control characters.
///
/// Cloning is cheap (a counted pointer). The order is the order of the bytes. Every list has this order.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Longest id in bytes. It becomes part of a Redis key and of every event about the user, so it is kept short.
    /// Source: docs/design.md, "Numbers".
    pub const MAX_BYTES: usize = 128;

    /// Parses an id.
    ///
    /// # Errors
    /// [`IdError`] if the text is empty, longer than [`UserId::MAX_BYTES`], or has a control character (a key with a line
    /// break in it cannot be read with `redis-cli`).
    pub fn parse(text: &str) -> Result<Self, IdError> {
        chosen_by_the_application(text, Self::MAX_BYTES).map(Self)
    }
}

/// A room's identity, chosen by the application: 1 to [`RoomId::MAX_BYTES`] bytes of UTF-8 without control characters.
///
/// Cloning is cheap (a counted pointer). The order is the order of the bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Arc<str>);

impl RoomId {
    /// Longest id in bytes. It becomes part of Redis keys and channels. Source: docs/design.md, "Numbers".
    pub const MAX_BYTES: usize = 128;

    /// Parses an id.
    ///
    /// # Errors
    /// [`IdError`] if the text is empty, longer than [`RoomId::MAX_BYTES`], or has a control character.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        chosen_by_the_application(text, Self::MAX_BYTES).map(Self)
    }
}

fn chosen_by_the_application(text: &str, max_bytes: usize) -> Result<Arc<str>, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > max_bytes {
        return Err(IdError::TooLong { max_bytes });
    }
    if text.chars().any(char::is_control) {
        return Err(IdError::ControlCharacter);
    }
    Ok(text.into())
}

/// What an id can do that the application chose. In JSON it is a string.
macro_rules! text_id {
    ($id:ident) => {
        impl $id {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $id {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($id), "({:?})"), &*self.0)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

text_id!(UserId);
text_id!(RoomId);

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No characters.
    #[error("must not be empty")]
    Empty,
    /// Over the limit.
    #[error("must be at most {max_bytes} bytes")]
    TooLong {
        /// The limit.
        max_bytes: usize,
    },
    /// A line break, a NUL or the like.
    #[error("must not contain control characters")]
    ControlCharacter,
    /// Not of the form that this service gives out.
    #[error("is not an id of this service")]
    Malformed,
}

/// One process. The id is new at every start. So a restarted node is never mistaken for its former self.
///
/// Twelve characters of `0-9a-v` (60 random bits), short enough to be typed after `redis-cli`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; NodeId::LEN]);

impl NodeId {
    const LEN: usize = 12;
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

    /// The id made of the low 60 bits of `bits`. The caller brings the randomness.
    pub fn from_bits(bits: u64) -> Self {
        Self(std::array::from_fn(|i| Self::ALPHABET[(bits >> (5 * i)) as usize & 31]))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl FromStr for NodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes: [u8; Self::LEN] = text.as_bytes().try_into().map_err(|_| IdError::Malformed)?;
        if bytes.iter().all(|b| Self::ALPHABET.contains(b)) { Ok(Self(bytes)) } else { Err(IdError::Malformed) }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// As a string.
impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.as_str())
    }
}

/// The id of one accepted WebSocket. It is never used again. It has the node that accepted the socket, and a number on
/// that node: `{node}.{number}`.
///
/// The node is part of the id for two reasons. An operator who finds a socket in Redis sees where it lives. And the
/// audit can find the sockets of nodes that no longer exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    /// The node that accepted the socket.
    pub node: NodeId,
    /// Counts up from 1 on that node.
    pub number: u64,
}

impl FromStr for SocketId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (node, number) = text.split_once('.').ok_or(IdError::Malformed)?;
        // An id has one spelling: "+1" and "01" are none.
        if number.starts_with('+') || number.len() > 1 && number.starts_with('0') {
            return Err(IdError::Malformed);
        }
        Ok(Self { node: node.parse()?, number: number.parse().map_err(|_| IdError::Malformed)? })
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_user_id_is_short_printable_and_not_empty() {
        assert_eq!(UserId::parse(""), Err(IdError::Empty));
        assert_eq!(UserId::parse("a\nb"), Err(IdError::ControlCharacter));
        assert_eq!(UserId::parse(&"x".repeat(129)), Err(IdError::TooLong { max_bytes: 128 }));
        assert_eq!(UserId::parse(&"x".repeat(128)).unwrap().as_str().len(), 128);
        assert_eq!(UserId::parse("Zoë {1}:%").unwrap().as_str(), "Zoë {1}:%");
    }

    #[test]
    fn a_room_id_is_short_printable_and_not_empty() {
        assert_eq!(RoomId::parse(""), Err(IdError::Empty));
        assert_eq!(RoomId::parse("a\tb"), Err(IdError::ControlCharacter));
        assert_eq!(RoomId::parse(&"x".repeat(129)), Err(IdError::TooLong { max_bytes: 128 }));
        assert_eq!(RoomId::parse("a:user:socket:x %").unwrap().as_str(), "a:user:socket:x %");
    }

    proptest! {
        #[test]
        fn ids_survive_their_text(bits: u64, number: u64) {
            let socket = SocketId { node: NodeId::from_bits(bits), number };
            prop_assert_eq!(socket.to_string().parse::<SocketId>(), Ok(socket));
        }

        #[test]
        fn a_foreign_text_is_no_socket_id(text in "[a-z0-9.]{0,20}") {
            if let Ok(id) = text.parse::<SocketId>() {
                prop_assert_eq!(id.node.as_str().len(), NodeId::LEN);
            }
        }
    }
}
