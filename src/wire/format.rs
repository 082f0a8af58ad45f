//! The formats that clients speak.

use bytes::Bytes;

use super::message::{BadRequest, ClientMessage, Message, RequestLimits};
use super::{native, plain};

/// How the texts of a client are read, and how the messages to it are written. A socket never changes its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `native.rs`: it has words for everything.
    Native,
    /// `plain.rs`: it tells who comes and who goes, and nothing else.
    Plain,
}

impl Format {
    /// Every format, in the order of `Format::index`.
    pub const ALL: [Self; 2] = [Self::Native, Self::Plain];

    /// The name of the format, as `?format=` gives it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Plain => "plain",
        }
    }

    /// The format of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether a client can join with a message. Otherwise only its URL can name the user.
    pub(crate) fn can_join(self) -> bool {
        match self {
            Self::Native => true,
            Self::Plain => false,
        }
    }

    /// The place of the format in [`Format::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Reads a client's text.
    ///
    /// # Errors
    /// [`BadRequest`] if the text is no request. The client gets it as [`Message::Error`].
    pub fn parse(self, text: &str, limits: RequestLimits) -> Result<ClientMessage, BadRequest> {
        match self {
            Self::Native => native::parse(text, limits),
            Self::Plain => plain::parse(text),
        }
    }

    /// Writes a message as a WebSocket frame. Returns none if the format has no words for the message. An answer
    /// carries the `reference` of its request.
    pub fn encode(self, message: &Message<'_>, reference: Option<&str>) -> Option<Bytes> {
        match self {
            Self::Native => Some(native::encode(message, reference)),
            Self::Plain => plain::encode(message),
        }
    }
}
