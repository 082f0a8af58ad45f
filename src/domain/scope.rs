//! Where somebody can be present.

use super::RoomId;

/// Where somebody is present. A user has sockets in a scope, and is there while one of them is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The whole service.
    Service,
    /// One room. Whoever is in it is its *member*.
    Room(RoomId),
}
