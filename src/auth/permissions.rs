//! The one table of what a client may do. `docs/security.md` shows it to people, and `tests/it/permissions.rs` tries each row.
//!
//! No answer here depends on how the user is of whom a client asks. So a refusal tells nothing about others.

use super::{Identity, Who};
use crate::domain::{Interest, ProfilePatch, RoomId, Status, UserId};
use crate::wire::message::Request;

/// What a client may be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Right {
    /// To know who is present, and how.
    Read = 1,
    /// To be present.
    Write = 2,
    /// To be present, and hidden.
    Invisible = 4,
    /// To hear of others without being present.
    Observe = 8,
    /// To speak for the application's server. It has all other rights.
    Admin = 16,
    /// To read the metrics.
    Metrics = 32,
}

/// A set of rights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rights(u8);

/// Why a client may not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has not shown who it is.
    Unauthenticated,
    /// It needs this right.
    Forbidden(Right),
    /// It would act as another user.
    OtherUser,
    /// Its token does not name the room.
    NotGranted,
    /// It would change what its token states.
    Stated,
}

/// Where a socket is when its client asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Whether the socket has joined.
    pub is_joined: bool,
    /// Whether the socket is in the room that the request is about.
    pub is_in_room: bool,
}

/// What is asked for over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The list of those who are online.
    OnlineUsers,
    /// How users are.
    UserStatus,
    /// That a user is active.
    LastSeen,
    /// Who is in a room.
    RoomUsers,
    /// What is for the application's server alone.
    ServerApi,
    /// How the nodes are.
    Nodes,
    /// The metrics.
    Metrics,
    /// What everybody may see.
    Open,
}

impl Resource {
    /// Whether it tells everybody who is online. What is for the application's server does, too, but not everywhere.
    pub(crate) fn tells_presence(self) -> bool {
        match self {
            Self::OnlineUsers | Self::UserStatus | Self::RoomUsers => true,
            Self::LastSeen | Self::ServerApi | Self::Nodes | Self::Metrics | Self::Open => false,
        }
    }

    /// Whether an application's server changes something there, or sees what others may not. Then the log says which it was.
    pub(crate) fn is_for_servers(self) -> bool {
        match self {
            Self::ServerApi | Self::LastSeen => true,
            // It shows what others see, and is asked for every second.
            Self::Nodes => false,
            Self::OnlineUsers | Self::UserStatus | Self::RoomUsers | Self::Metrics | Self::Open => false,
        }
    }

    /// Whether a client that shows nothing must be on the node's machine.
    pub(crate) fn is_local(self) -> bool {
        match self {
            Self::ServerApi | Self::Nodes => true,
            Self::OnlineUsers | Self::UserStatus | Self::LastSeen | Self::RoomUsers | Self::Metrics | Self::Open => {
                false
            }
        }
    }
}

impl Right {
    /// Every right.
    pub(crate) const ALL: [Self; 6] =
        [Self::Read, Self::Write, Self::Invisible, Self::Observe, Self::Admin, Self::Metrics];

    /// The right as tokens, keys and settings name it. There it is called a scope.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "presence:read",
            Self::Write => "presence:write",
            Self::Invisible => "presence:invisible",
            Self::Observe => "observe",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }

    /// The right of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.as_str() == name)
    }
}

impl Rights {
    /// These rights.
    pub(crate) fn of(rights: &[Right]) -> Self {
        Self(rights.iter().fold(0, |bits, right| bits | *right as u8))
    }

    /// These rights, and all others but [`Right::Admin`].
    pub(crate) fn and_all_but_admin(self) -> Self {
        Self(self.0 | Self::of(&Right::ALL).0 & !(Right::Admin as u8))
    }

    /// Whether a right is among them.
    pub(crate) fn has(self, right: Right) -> bool {
        self.0 & (right as u8 | Right::Admin as u8) != 0
    }
}

/// Whether a client may make a request over its socket. Each room of a join is asked about with [`may_enter`].
///
/// # Errors
/// Why it may not.
pub(crate) fn check_request(caller: Option<&Identity>, request: &Request, place: Place) -> Result<(), Refusal> {
    if let Request::Authenticate { .. } = request {
        return Ok(());
    }
    let identity = caller.ok_or(Refusal::Unauthenticated)?;
    match identity.who() {
        Who::Anyone => return Ok(()),
        Who::User(_) => {}
        // A server has no presence, and so no socket.
        Who::Server(_) => return Err(Refusal::Forbidden(Right::Write)),
    }
    let require = |right| if identity.has(right) { Ok(()) } else { Err(Refusal::Forbidden(right)) };
    let may_hear = |interest: Interest| if interest == Interest::Nobody { Ok(()) } else { require(Right::Read) };
    match request {
        Request::Authenticate { .. } => Ok(()),
        Request::EnterRoom { user, said: _, room } => {
            require(Right::Write)?;
            user_for(caller, user.clone())?;
            require(Right::Read)?;
            may_enter(caller, room).map(|_| ())
        }
        Request::Join { user, said, device: _, interest, rooms: _ } => {
            require(Right::Write)?;
            user_for(caller, user.clone())?;
            if said.status.as_ref().is_some_and(|said| said.status == Status::Invisible) {
                require(Right::Invisible)?;
            }
            interest.map_or(Ok(()), may_hear)
        }
        Request::JoinRoom { room, interest } => {
            require(Right::Write)?;
            may_hear(*interest)?;
            may_enter(caller, room).map(|_| ())
        }
        Request::SetStatus(said) => {
            require(Right::Write)?;
            if said.status == Status::Invisible { require(Right::Invisible) } else { Ok(()) }
        }
        Request::Update(patch) => {
            require(Right::Write)?;
            if overlap(patch, identity.stated()) { Err(Refusal::Stated) } else { Ok(()) }
        }
        Request::Activity { .. } | Request::Typing { .. } | Request::Devices => require(Right::Write),
        Request::List { .. }
        | Request::Check { .. }
        | Request::Watch { .. }
        | Request::WatchCount
        | Request::Resume => require(Right::Read),
        Request::Subscribe { interest } if place.is_joined => may_hear(*interest),
        Request::Subscribe { .. } => require(Right::Read).and_then(|()| require(Right::Observe)),
        Request::RoomUsers { room, .. } | Request::RoomCount { room } => {
            require(Right::Read)?;
            if !place.is_joined {
                require(Right::Observe)?;
            }
            if place.is_in_room { Ok(()) } else { may_enter(caller, room).map(|_| ()) }
        }
        // Who got in gets out, whatever a newer token says. And to hear less is never forbidden.
        Request::LeaveRoom { .. } | Request::Leave => Ok(()),
        Request::Unwatch { .. } | Request::UnwatchCount | Request::Pause => Ok(()),
    }
}

/// Whether a client may use a resource. What the resource does for whom is asked with [`user_for`] and [`may_enter`].
///
/// # Errors
/// Why it may not.
pub(crate) fn check_resource(caller: Option<&Identity>, resource: Resource) -> Result<(), Refusal> {
    if resource == Resource::Open {
        return Ok(());
    }
    let identity = caller.ok_or(Refusal::Unauthenticated)?;
    let is_server = match identity.who() {
        Who::Anyone => return Ok(()),
        Who::User(_) => false,
        Who::Server(_) => true,
    };
    let require = |right| if identity.has(right) { Ok(()) } else { Err(Refusal::Forbidden(right)) };
    match resource {
        Resource::Open => Ok(()),
        Resource::OnlineUsers | Resource::UserStatus | Resource::RoomUsers => require(Right::Read),
        Resource::LastSeen if is_server => require(Right::Admin),
        Resource::LastSeen => require(Right::Write),
        Resource::ServerApi | Resource::Nodes => require(Right::Admin),
        // A user's token is for a user's device, which has no business with the metrics.
        Resource::Metrics if is_server => require(Right::Metrics),
        Resource::Metrics => Err(Refusal::Forbidden(Right::Metrics)),
    }
}

/// The user that a client acts as if it names `named`, or nobody. The user of a token need not be named. A server without
/// [`Right::Admin`] names nobody.
///
/// # Errors
/// The client may not act as the user that it names.
pub(crate) fn user_for(caller: Option<&Identity>, named: Option<UserId>) -> Result<Option<UserId>, Refusal> {
    let identity = caller.ok_or(Refusal::Unauthenticated)?;
    match (identity.who(), named) {
        (Who::User(own), None) => Ok(Some(own.clone())),
        (Who::User(_), Some(named)) if !identity.acts_as(&named) => Err(Refusal::OtherUser),
        (Who::Server(_), Some(_)) if !identity.has(Right::Admin) => Err(Refusal::Forbidden(Right::Admin)),
        (_, named) => Ok(named),
    }
}

/// Who has let a client into a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The client's token. Nobody else is asked.
    Granted,
    /// Nobody yet: `rooms.access` decides.
    ByRule,
}

/// Whether a client may enter a room. If its token names rooms, the token alone decides.
///
/// # Errors
/// The token names rooms, and not this one. Or the client has no identity.
pub(crate) fn may_enter(caller: Option<&Identity>, room: &RoomId) -> Result<Entry, Refusal> {
    let identity = caller.ok_or(Refusal::Unauthenticated)?;
    match identity.grants(room) {
        None => Ok(Entry::ByRule),
        Some(true) => Ok(Entry::Granted),
        Some(false) => Err(Refusal::NotGranted),
    }
}

/// Whether both say something of one field.
fn overlap(one: &ProfilePatch, other: &ProfilePatch) -> bool {
    one.name.is_some() && other.name.is_some()
        || one.username.is_some() && other.username.is_some()
        || one.email.is_some() && other.email.is_some()
        || one.avatar.is_some() && other.avatar.is_some()
        || one.metadata.is_some() && other.metadata.is_some()
}

#[cfg(test)]
mod tests;
