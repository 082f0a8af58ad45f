//! Who is in a room. A room has entries of sockets, and knows nothing else of its users (docs/design.md, decision 14).

use std::collections::BTreeSet;

use super::{OfflineReason, Presence, RoomId, Timestamp, UserId};

/// A point in the history of one room. The number only says something within one birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RoomPosition {
    /// Which life of the room this is. The first join after the room was empty makes a new one. It is 0 for a room in
    /// which nobody is.
    pub birth: u64,
    /// Number of the last transition in this life. If the room was empty before its first transition, that is 1.
    pub revision: u64,
}

/// One numbered event of a room. Every node that listens has the same events, in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomTransition {
    /// The room.
    pub room: RoomId,
    /// The birth and this transition's own revision.
    pub position: RoomPosition,
    /// The user that it is about.
    pub user: UserId,
    /// What happened.
    pub change: RoomChange,
    /// When the store decided it, by the store's clock.
    pub at: Timestamp,
}

/// What a transition of a room changes. As a set operation it is right in any state: afterwards the user is as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomChange {
    /// The user's first entry came: the user is a member now.
    Entered,
    /// The user's last entry went, for this reason.
    Left(OfflineReason),
}

/// Who is in a room, at one position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomRoster {
    /// Every transition up to here is contained. Later ones may be, too: they are set operations, and may be applied
    /// again.
    pub position: RoomPosition,
    /// The members.
    pub members: BTreeSet<UserId>,
}

/// What those in a room are told about a user. A room shows who is in it and in the service view. So it is true of what they
/// were told before: nobody comes twice in a row, or goes twice in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomTold {
    /// The user is in the room now.
    Joined(Presence),
    /// The user is in the room, and has another profile or status now.
    Changed(Presence),
    /// The user is not in the room any more, for this reason.
    Left(OfflineReason),
}
