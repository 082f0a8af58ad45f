//! What a view says of one user, for a person who asks.

use super::View;
use crate::domain::{OfflineReason, Position, Presence, Timestamp, UserId};

/// What this node tells of one user, and how sure it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ViewAccount {
    /// The user's data, also if the user is hidden. It is none if the view does not have the user.
    pub(crate) presence: Option<Presence>,
    /// Whether the view has the user only because a socket is wanted here: the store has not confirmed it.
    pub(crate) is_provisional: bool,
    /// If the view has the user although the store says that the user went: the reason that the store gives.
    pub(crate) held: Option<OfflineReason>,
    /// Whether the view only notes departures.
    pub(crate) is_holding: bool,
    /// The position of the store that the view reflects.
    pub(crate) position: Position,
    /// The last time at which the view was surely right. It is none while it is.
    pub(crate) degraded: Option<Timestamp>,
}

impl View {
    /// What the view says of the user. `degraded` is what the replica says of the view.
    pub(crate) fn account(&self, user: &UserId, degraded: Option<Timestamp>) -> ViewAccount {
        ViewAccount {
            presence: self.told.get_even_hidden(user).cloned(),
            is_provisional: self.provisional.contains(user),
            held: self.held.get(user).map(|departure| departure.reason),
            is_holding: self.is_holding(),
            position: self.position(),
            degraded,
        }
    }
}
