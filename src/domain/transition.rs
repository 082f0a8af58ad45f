//! The events of presence. A store decides, numbers and publishes them.

use super::{Presence, Timestamp, UserId};

/// A point in the history of one scope. Positions are ordered by revision. A revision never falls, not even from one
/// epoch to the next (docs/design.md, decision 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Which life of the store's data this is: the revision at which it began.
    pub epoch: u64,
    /// Number of the last transition. It is below 2^53, so that JavaScript and Lua count it exactly.
    pub revision: u64,
}

/// One numbered event. Redis and every node have the same events, in the same order, each exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The epoch and this transition's own revision.
    pub position: Position,
    /// The user that it is about.
    pub user: UserId,
    /// What happened.
    pub change: Change,
    /// When the store decided it, by the store's clock.
    pub at: Timestamp,
}

/// What a transition changes. It has the state after the transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The user's first socket came. The user may be hidden ([`Presence::is_hidden`]).
    Online(Presence),
    /// A user who was and stays present has another profile, another status or other devices. So the user may have been
    /// hidden or shown. Can only happen between `Online` and `Offline`.
    Changed(Presence),
    /// The user's last socket went. Can only happen after `Online`.
    Offline(Departure),
}

impl Change {
    /// The same change as a set operation: afterwards the user is as the change says, whatever was before.
    #[must_use]
    pub fn as_set_operation(&self) -> Self {
        match self {
            Self::Online(presence) | Self::Changed(presence) => Self::Online(presence.clone()),
            Self::Offline(departure) => Self::Offline(*departure),
        }
    }
}

/// How a user went offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// Why.
    pub reason: OfflineReason,
    /// When the user was last seen, by the store's clock. It is none if the node that tells this does not know it.
    pub seen_at: Option<Timestamp>,
    /// When the user was last active, by the store's clock, if that is known.
    pub active_at: Option<Timestamp>,
}

/// What is remembered of a user who is not visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSeen {
    /// When others last saw the user, or a socket of the user went.
    pub seen_at: Timestamp,
    /// When the user was last active, if that is known.
    pub active_at: Option<Timestamp>,
}

impl From<OfflineReason> for Departure {
    /// A departure of which only the reason is known.
    fn from(reason: OfflineReason) -> Self {
        Self { reason, seen_at: None, active_at: None }
    }
}

/// Why a user is no longer present. It is the reason of the user's last socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OfflineReason {
    /// The client said `leave`, or closed with 1000 or without a code.
    Left,
    /// The connection broke (1001, 1006, an error) and nobody came back within the grace.
    ConnectionLost,
    /// The client was silent for too long, and nobody came back within the grace.
    TimedOut,
    /// The node was lost: its lease ended.
    NodeLost,
    /// The node was drained, and the user did not come back elsewhere.
    NodeDrained,
    /// The node that tells this learned of it from a snapshot, which has no reasons.
    Unknown,
}

impl OfflineReason {
    /// Every reason, for metrics and documentation.
    pub(crate) const ALL: [Self; 6] =
        [Self::Left, Self::ConnectionLost, Self::TimedOut, Self::NodeLost, Self::NodeDrained, Self::Unknown];

    /// The reason's name on the wire, in Redis and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::ConnectionLost => "connection_lost",
            Self::TimedOut => "timed_out",
            Self::NodeLost => "node_lost",
            Self::NodeDrained => "node_drained",
            Self::Unknown => "unknown",
        }
    }

    /// The reason of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}
