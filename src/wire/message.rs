//! What can be said, in the words of the domain: no JSON, no frames. A [`super::Format`] turns a client's text into a
//! [`Request`], and a [`Message`] into a frame.

use std::time::Duration;

use crate::domain::{Change, Position, Presence, Profile, RosterPage, SocketId, Timestamp, UserId};

/// A client's message, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientMessage {
    /// What is wanted.
    pub request: Request,
    /// What the answer is to carry, as its format writes it.
    pub reference: Option<String>,
}

/// What a client can want.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// To be online as somebody.
    Join {
        /// Who they are.
        user: UserId,
        /// What is to be shown of them.
        profile: Option<Profile>,
    },
    /// To be known as active: the heartbeat.
    Activity,
    /// A page of the users online.
    List {
        /// Users a page.
        limit: Option<usize>,
        /// The last id of the page before.
        cursor: Option<UserId>,
    },
    /// Whether somebody is online.
    Check {
        /// Whom.
        user: UserId,
    },
    /// To be offline.
    Leave,
}

/// What bounds a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Encoded profile (`limits.profile_bytes`).
    pub profile_bytes: usize,
    /// Users a page (`limits.page_max`).
    pub page_max: usize,
}

/// A text that is no request. The connection goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRequest {
    /// What is wrong, for programs.
    pub code: ErrorCode,
    /// What is wrong, for people.
    pub message: String,
    /// As [`ClientMessage::reference`].
    pub reference: Option<String>,
}

/// Why a request was not carried out. Clients branch on these, never on the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The text is not JSON.
    InvalidJson,
    /// The JSON is not an object.
    NotAnObject,
    /// Binary frames are not spoken here.
    BinaryNotSupported,
    /// There is no such request.
    UnknownType,
    /// A required field is missing.
    MissingField,
    /// A field has the wrong type or a value out of range.
    InvalidField,
    /// The request needs a join first.
    NotJoined,
    /// The socket has joined as another user.
    AlreadyJoined,
    /// Too many requests on this socket; wait for the time that is told.
    RateLimited,
    /// The user has as many sockets on this node as one may.
    TooManySockets,
}

impl ErrorCode {
    /// The code on the wire, in every format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::NotAnObject => "not_an_object",
            Self::BinaryNotSupported => "binary_not_supported",
            Self::UnknownType => "unknown_type",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::NotJoined => "not_joined",
            Self::AlreadyJoined => "already_joined",
            Self::RateLimited => "rate_limited",
            Self::TooManySockets => "too_many_sockets",
        }
    }
}

/// What a client is told. Not every format has words for everything.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// The socket has joined.
    Welcome {
        /// As whom.
        user: &'a UserId,
        /// The socket's id.
        socket: SocketId,
        /// Users online.
        n_online: usize,
        /// See [`Standing`].
        standing: Standing,
    },
    /// A page of the users online.
    List {
        /// The page.
        page: &'a RosterPage<'a>,
        /// Users online, on all pages.
        total: usize,
        /// See [`Standing`].
        standing: Standing,
    },
    /// Whether somebody is online.
    Status {
        /// Who.
        user: &'a UserId,
        /// Their data, if they are.
        presence: Option<&'a Presence>,
        /// See [`Standing`].
        standing: Standing,
    },
    /// The socket has left.
    Left {
        /// As whom it had joined.
        user: &'a UserId,
    },
    /// A heartbeat that asked for an answer was heard.
    ActivityAck,
    /// Events were missed: the client forgets everything, and a fresh page follows.
    Resync,
    /// A request was not carried out; the connection goes on.
    Error {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        message: &'a str,
        /// After which time it may be tried again, if that helps.
        retry_after: Option<Duration>,
    },
    /// Somebody came, changed or went.
    Event(Event<'a>),
}

/// How far an answer is to be trusted.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// The store's position that it reflects.
    pub position: Position,
    /// If it may be out of date: the last time it was not.
    pub degraded: Option<Timestamp>,
}

/// An event as it is told to every listener but the user's own.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Whom it is about.
    pub user: &'a UserId,
    /// What happened.
    pub change: &'a Change,
    /// The epoch that it is told in.
    pub epoch: u64,
    /// The revision that it is told at; none if it is provisional.
    pub revision: Option<u64>,
    /// Whether it fills a gap.
    pub catch_up: bool,
    /// When.
    pub at: Timestamp,
}
