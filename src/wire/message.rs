//! What a client and the server can say, in the words of the domain. Here are no JSON and no frames. A
//! [`super::Format`] turns a client's text into a [`Request`], and a [`Message`] into a frame.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::domain::{
    Device, HeldSocket, Interest, LastSeen, Position, Presence, ProfileLimits, ProfilePatch, RoomId, RoomTold,
    RosterPage, Said, SaidStatus, SocketId, Timestamp, Told, TypingTarget, UserId,
};

/// A client's message after it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientMessage {
    /// What the client wants.
    pub request: Request,
    /// The client's mark for this request, encoded as its format writes it. The answer must carry it.
    pub reference: Option<String>,
}

/// What a client can want.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// To say who the client is, or to say so again.
    Authenticate {
        /// The user that the client names.
        user: Option<UserId>,
        /// What shows that the client may speak for the user.
        token: Option<Token>,
    },
    /// To be online as a user.
    Join {
        /// The user. If there is none, it is the one of the client's token.
        user: Option<UserId>,
        /// What they say of themselves.
        said: Said,
        /// What the client runs on.
        device: Option<Device>,
        /// What the client wants to hear of others. It stays as it is if this is none.
        interest: Option<Interest>,
        /// The rooms that the client wants to be in, too, each once.
        rooms: Vec<RoomId>,
    },
    /// To be in a room. Whoever is in it already may want to hear something else of it.
    JoinRoom {
        /// The room.
        room: RoomId,
        /// What the client wants to hear of the room. [`Interest::Watched`] is not for rooms.
        interest: Interest,
    },
    /// To be present and in a room at once: to hear of the room, and of nothing else.
    EnterRoom {
        /// The user.
        user: Option<UserId>,
        /// What the client says of the user.
        said: Said,
        /// The room.
        room: RoomId,
    },
    /// Not to be in a room any more.
    LeaveRoom {
        /// The room.
        room: RoomId,
    },
    /// Others are to be told that the user types, or has stopped.
    Typing {
        /// Who is told.
        target: TypingTarget,
        /// Whether the user types now.
        is_typing: bool,
    },
    /// A page of those in a room.
    RoomUsers {
        /// The room.
        room: RoomId,
        /// The number of users on the page.
        limit: Option<usize>,
        /// The last id of the page before.
        cursor: Option<UserId>,
    },
    /// How many users are in a room.
    RoomCount {
        /// The room.
        room: RoomId,
    },
    /// To hear of others with or without being online, or to hear of others than before.
    Subscribe {
        /// What the client wants to hear.
        interest: Interest,
    },
    /// To hear of these users, and of nobody else.
    Watch {
        /// The users, each once.
        users: Vec<UserId>,
    },
    /// Not to hear of these users any more.
    Unwatch {
        /// The users, each once.
        users: Vec<UserId>,
    },
    /// To hear how many users are online, too.
    WatchCount,
    /// Not to hear that any more.
    UnwatchCount,
    /// To hear nothing for a while.
    Pause,
    /// To hear what was missed, and to go on hearing.
    Resume,
    /// To have another status.
    SetStatus(SaidStatus),
    /// To have another profile.
    Update(ProfilePatch),
    /// To be known as active: the heartbeat. Or to be known as idle.
    Activity {
        /// Whether nobody is there.
        idle: bool,
    },
    /// A page of the users online.
    List {
        /// The number of users on the page.
        limit: Option<usize>,
        /// The last id of the page before.
        cursor: Option<UserId>,
    },
    /// Whether somebody is online.
    Check {
        /// The user.
        user: UserId,
    },
    /// The sockets of the own user, and what they run on.
    Devices,
    /// To be offline.
    Leave,
}

impl Request {
    /// Whether the client says who it is, or wants to be online.
    pub(crate) fn joins(&self) -> bool {
        matches!(self, Self::Authenticate { .. } | Self::Join { .. })
    }
}

/// A token as a client sent it. `Debug` hides it.
#[derive(Clone)]
pub struct Token(SecretString);

impl Token {
    /// A token of this text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text without its cover. It is for the check of the token alone.
    pub fn into_secret(self) -> SecretString {
        self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// The tests compare requests. The service compares no tokens.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

/// The limits of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// A profile.
    pub profile: ProfileLimits,
    /// Users a page (`limits.page_max`).
    pub page_max: usize,
    /// Users that one request can watch (`limits.watches_per_socket`).
    pub watches_max: usize,
    /// Rooms that one request can name (`limits.rooms_per_socket`).
    pub rooms_max: usize,
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
    /// The server does not read binary frames.
    BinaryNotSupported,
    /// There is no such request.
    UnknownType,
    /// A required field is missing.
    MissingField,
    /// A field has the wrong type or a value out of range.
    InvalidField,
    /// The request needs a join first, or a subscription.
    NotJoined,
    /// The socket has joined as another user.
    AlreadyJoined,
    /// The request is refused for now. The error says how long to wait.
    RateLimited,
    /// The user may not have another socket on this node (`limits.sockets_per_user`).
    TooManySockets,
    /// The store does not answer, and the request needs it.
    StoreUnavailable,
    /// The socket, or all sockets of this node together, may not watch more users (`limits.watches_per_socket`,
    /// `limits.watches`).
    TooManyWatches,
    /// The socket may not be in more rooms (`limits.rooms_per_socket`).
    TooManyRooms,
    /// The socket is not in the room.
    NotInRoom,
    /// The room is not registered (`rooms.access`).
    RoomNotFound,
    /// The user is no registered member of the room (`rooms.access`).
    NotAMember,
    /// The client has not shown who it is.
    Unauthenticated,
    /// The client's token does not allow this.
    Forbidden,
    /// The client's token is of another user.
    OtherUser,
    /// The token is not one that this service accepts.
    TokenInvalid,
    /// The token has ended.
    TokenExpired,
    /// The keys of the issuer cannot be had, so no token can be checked.
    KeysUnavailable,
    /// The service does not do this. Clients of the systems that it replaces ask for it.
    NotAvailable,
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
            Self::StoreUnavailable => "store_unavailable",
            Self::TooManyWatches => "too_many_watches",
            Self::TooManyRooms => "too_many_rooms",
            Self::NotInRoom => "not_in_room",
            Self::RoomNotFound => "room_not_found",
            Self::NotAMember => "not_a_member",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::OtherUser => "other_user",
            Self::TokenInvalid => "token_invalid",
            Self::TokenExpired => "token_expired",
            Self::KeysUnavailable => "keys_unavailable",
            Self::NotAvailable => "not_available",
        }
    }
}

/// What a client is told. Not every format has words for everything.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// The client has shown who it is.
    Authenticated {
        /// The user.
        user: &'a UserId,
        /// The number of users online. It is none if the client may not know it.
        n_online: Option<usize>,
        /// When the client has to show it again, if ever.
        ends_at: Option<Timestamp>,
    },
    /// The client has not shown who it is.
    NotAuthenticated {
        /// The reason, for programs.
        code: ErrorCode,
        /// The reason, for people.
        message: &'a str,
        /// The time after which the client may try again, if that helps.
        retry_after: Option<Duration>,
    },
    /// The socket has joined.
    Welcome {
        /// The user who joined.
        user: &'a UserId,
        /// The socket's id.
        socket: SocketId,
        /// The number of users online. It is none if the client may not know it.
        n_online: Option<usize>,
        /// The user's own data.
        own: &'a Presence,
        /// See [`Standing`].
        standing: Standing,
    },
    /// A page of the users online.
    List {
        /// The page.
        page: &'a RosterPage<'a>,
        /// The number of users online, on all pages.
        total: usize,
        /// See [`Standing`].
        standing: Standing,
    },
    /// Whether somebody is online.
    Status {
        /// The user.
        user: &'a UserId,
        /// The user's data, if the user is online.
        presence: Option<&'a Presence>,
        /// When they were last seen, if they are not online and it is known.
        last_seen: Option<LastSeen>,
        /// See [`Standing`].
        standing: Standing,
    },
    /// The status of the socket's own user, as an answer.
    OwnStatus {
        /// The user's data.
        own: &'a Presence,
        /// See [`Standing`].
        standing: Standing,
    },
    /// The socket is in a room from now on, or has missed events of a room in which it is: this is how the room is now.
    RoomJoined {
        /// The room.
        room: &'a RoomId,
        /// The first page of those in the room. It is none if the client does not want to hear who they are.
        page: Option<&'a RosterPage<'a>>,
        /// How many users the room shows, on all pages. It is none if the client may not know it.
        total: Option<usize>,
        /// See [`Standing`].
        standing: Standing,
    },
    /// A page of those in a room.
    RoomUsers {
        /// The room.
        room: &'a RoomId,
        /// The page.
        page: &'a RosterPage<'a>,
        /// How many users the room shows, on all pages.
        total: usize,
        /// See [`Standing`].
        standing: Standing,
    },
    /// How many users a room shows.
    RoomCount {
        /// The room.
        room: &'a RoomId,
        /// The number.
        n_online: usize,
        /// See [`Standing`]. It is none if this is an event.
        standing: Option<Standing>,
    },
    /// The socket is not in a room any more.
    RoomLeft {
        /// The room.
        room: &'a RoomId,
        /// Whether the server has made it leave.
        is_removed: bool,
    },
    /// Somebody came into a room, changed there, or went.
    RoomEvent {
        /// The room.
        room: &'a RoomId,
        /// Whom it is about.
        user: &'a UserId,
        /// What is told.
        what: &'a RoomTold,
        /// The time of the event.
        at: Timestamp,
    },
    /// Somebody types, or has stopped.
    Typing {
        /// The room. It is none if this user alone is told.
        room: Option<&'a RoomId>,
        /// Who types.
        user: &'a UserId,
        /// Whether the user types now.
        is_typing: bool,
    },
    /// The answer to a request about typing that asked for one.
    TypingAck,
    /// The socket's own user has another profile.
    Updated {
        /// The user.
        user: &'a UserId,
        /// The user's data.
        own: &'a Presence,
        /// See [`Standing`].
        standing: Standing,
    },
    /// The sockets of the socket's own user.
    Devices {
        /// The sockets.
        sockets: &'a [HeldSocket],
        /// The one that is told.
        own: SocketId,
        /// See [`Standing`].
        standing: Standing,
    },
    /// What the client hears of others from now on.
    Subscribed {
        /// What it hears.
        interest: Interest,
        /// The number of users online. It is none if the client may not know it.
        n_online: Option<usize>,
        /// See [`Standing`].
        standing: Standing,
    },
    /// How the users are that the client watches from now on.
    Watching {
        /// The users.
        users: &'a [WatchedUser<'a>],
        /// See [`Standing`].
        standing: Standing,
    },
    /// The client does not watch these users any more.
    Unwatched {
        /// The users.
        users: &'a [UserId],
    },
    /// How many users are online.
    Count {
        /// The number.
        n_online: usize,
        /// See [`Standing`]. It is none if this is an event.
        standing: Option<Standing>,
    },
    /// The client does not hear any more how many users are online.
    CountUnwatched,
    /// The client hears nothing for a while.
    Paused,
    /// The client goes on.
    Resumed {
        /// The users who changed meanwhile.
        changes: &'a [MissedChange<'a>],
        /// See [`Standing`].
        standing: Standing,
    },
    /// The socket has left.
    Left {
        /// The user who had joined.
        user: &'a UserId,
    },
    /// The answer to a heartbeat that asked for one.
    ActivityAck,
    /// The client missed events. It must forget everything. A fresh page follows.
    Resync,
    /// A request was not carried out. The connection goes on.
    Error {
        /// The reason, for programs.
        code: ErrorCode,
        /// The reason, for people.
        message: &'a str,
        /// The time after which the client may try again, if that helps.
        retry_after: Option<Duration>,
        /// The room, if the request was about one.
        room: Option<&'a RoomId>,
    },
    /// Somebody else came, changed or went.
    Event(Event<'a, Told>),
    /// The status of the socket's own user has changed.
    OwnEvent(Event<'a, Presence>),
}

/// How a watched user is.
#[derive(Debug, Clone, Copy)]
pub struct WatchedUser<'a> {
    /// The user.
    pub user: &'a UserId,
    /// The user's data, if the user is online.
    pub presence: Option<&'a Presence>,
    /// When they were last seen, if they are not online and it is known.
    pub last_seen: Option<LastSeen>,
}

/// What a paused client missed of one user.
#[derive(Debug, Clone, Copy)]
pub struct MissedChange<'a> {
    /// The user.
    pub user: &'a UserId,
    /// Whether the client knows the user as online.
    pub was_online: bool,
    /// The user's data, if the user is online now.
    pub presence: Option<&'a Presence>,
}

/// How far a client can trust an answer.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// The store's position that the answer reflects.
    pub position: Position,
    /// If the answer may be out of date, this is the last time at which it was not.
    pub degraded: Option<Timestamp>,
}

/// An event as it is told to listeners.
#[derive(Debug)]
pub struct Event<'a, What> {
    /// Whom it is about.
    pub user: &'a UserId,
    /// What is told.
    pub what: &'a What,
    /// The epoch that it is told in.
    pub epoch: u64,
    /// The store's revision at this event. It is none if the event is provisional.
    pub revision: Option<u64>,
    /// Whether the event fills a gap.
    pub catch_up: bool,
    /// The time of the event.
    pub at: Timestamp,
}

// Derived, it would ask that `What` can be copied as well.
impl<What> Clone for Event<'_, What> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<What> Copy for Event<'_, What> {}
