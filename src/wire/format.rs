//! The formats that clients speak.

use bytes::Bytes;

use super::message::{BadRequest, ClientMessage, Message, RequestLimits};
use super::{native, plain};

/// How a client's text is read, and how what it is told is written. A socket keeps its format for life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `native.rs`: everything there is to say.
    Native,
    /// `plain.rs`: who comes and who goes, and nothing else.
    Plain,
}

impl Format {
    /// Every format, in the order of `Format::index`.
    pub const ALL: [Self; 2] = [Self::Native, Self::Plain];

    /// Its name, as `?format=` gives it.
    fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Plain => "plain",
        }
    }

    /// The format of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether a client can say who it is in a message. Otherwise only its URL does.
    pub(crate) fn can_join(self) -> bool {
        match self {
            Self::Native => true,
            Self::Plain => false,
        }
    }

    /// Its place among [`Format::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Understands a client's text.
    ///
    /// # Errors
    /// [`BadRequest`], to be answered with [`Message::Error`].
    pub fn parse(self, text: &str, limits: RequestLimits) -> Result<ClientMessage, BadRequest> {
        match self {
            Self::Native => native::parse(text, limits),
            Self::Plain => Err(plain::refuse(text)),
        }
    }

    /// Writes a message as a WebSocket frame; none if the format has no words for it. An answer carries the `reference` of
    /// its request.
    pub fn encode(self, message: &Message<'_>, reference: Option<&str>) -> Option<Bytes> {
        match self {
            Self::Native => Some(native::encode(message, reference)),
            Self::Plain => plain::encode(message),
        }
    }
}
