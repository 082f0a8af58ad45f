//! Who may enter a room, and ask who is in it.

use super::{Rooms, answered};
use crate::domain::{RoomId, UserId};
use crate::settings::RoomRule;
use crate::store::RoomAccess;

/// Why a user may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The room is not registered.
    NoSuchRoom,
    /// The user is no registered member.
    NotMember,
    /// The store does not answer. Nobody is let in by a guess.
    Unavailable,
}

impl Rooms {
    /// Whether everybody may.
    pub(crate) fn are_open(&self) -> bool {
        self.rule == RoomRule::Open
    }

    /// Lets a user into a room.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) async fn admit(&self, room: &RoomId, user: &UserId) -> Result<(), Denied> {
        if self.are_open() {
            return Ok(());
        }
        if self.replica.view().degraded().is_some() {
            // Nobody waits for a store that is known to be away.
            return Err(Denied::Unavailable);
        }
        match answered(self.store.room_access(room, user).await) {
            Ok(RoomAccess::Member) => Ok(()),
            Ok(RoomAccess::NotMember) => Err(Denied::NotMember),
            Ok(RoomAccess::NoSuchRoom) => Err(Denied::NoSuchRoom),
            Err(_) => Err(Denied::Unavailable),
        }
    }
}
