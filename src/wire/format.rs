//! The formats that clients speak.

use bytes::Bytes;

use super::message::{BadRequest, ClientMessage, Message, RequestLimits};
use super::{frame, native, plain, socketio};

/// How the texts of a client are read, and how the messages to it are written. A socket never changes its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `native.rs`: it has words for everything.
    Native,
    /// `plain.rs`: it tells who comes and who goes, and nothing else.
    Plain,
    /// `socketio/`: the words of the native format, as events of Socket.IO. Clients of S2 and S3 speak so.
    Socketio,
    /// `socketio/status.rs`: the words of clients that track a status (S1).
    SocketioStatus,
    /// `socketio/room.rs`: the words of clients that show who is in a room (S0).
    SocketioRoom,
}

/// How a client becomes present by a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joins {
    /// It asks to join.
    ByRequest,
    /// It says who it is. Then it is told that it was believed, and that it has joined. Otherwise its URL names the user.
    AfterAuthenticating,
    /// It says who it is. Then it is told that it has joined.
    ByAuthenticating,
}

impl Format {
    /// Every format, in the order of `Format::index`.
    pub const ALL: [Self; 5] = [Self::Native, Self::Plain, Self::Socketio, Self::SocketioStatus, Self::SocketioRoom];

    /// The name of the format.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Plain => "plain",
            Self::Socketio => "socketio",
            Self::SocketioStatus => "socketio-status",
            Self::SocketioRoom => "socketio-room",
        }
    }

    /// The format that `?format=` names. Socket.IO has paths of its own.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Native, Self::Plain].into_iter().find(|format| format.name() == name)
    }

    /// Whether it is a tongue of Socket.IO.
    pub fn is_socketio(self) -> bool {
        match self {
            Self::Native | Self::Plain => false,
            Self::Socketio | Self::SocketioStatus | Self::SocketioRoom => true,
        }
    }

    /// How a client becomes present by a message.
    pub(crate) fn joins(self) -> Joins {
        match self {
            Self::Native | Self::Socketio | Self::SocketioRoom => Joins::ByRequest,
            Self::Plain => Joins::AfterAuthenticating,
            Self::SocketioStatus => Joins::ByAuthenticating,
        }
    }

    /// What asks a client whether it is there.
    pub(crate) fn ping(self) -> Bytes {
        if self.is_socketio() { socketio::ping() } else { frame::ping() }
    }

    /// What a client hears before it is closed for good, so that it does not come back by itself. A client without such words
    /// knows it by the close code.
    pub(crate) fn farewell(self) -> Option<Bytes> {
        self.is_socketio().then(socketio::disconnect)
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
            Self::Socketio | Self::SocketioStatus | Self::SocketioRoom => socketio::parse(text, limits),
        }
    }

    /// Writes a message as a WebSocket frame. Returns none if the format has no words for the message. An answer
    /// carries the `reference` of its request.
    pub fn encode(self, message: &Message<'_>, reference: Option<&str>) -> Option<Bytes> {
        match self {
            Self::Native => Some(native::encode(message, reference)),
            Self::Plain => plain::encode(message),
            Self::Socketio | Self::SocketioStatus | Self::SocketioRoom => socketio::encode(self, message, reference),
        }
    }
}
