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

/// What a transition changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The user's first socket came.
    Online(Presence),
    /// A user who is still present has another profile. This can only happen between `Online` and `Offline`.
    Changed(Presence),
    /// The user's last socket went. This can only happen after `Online`.
    Offline(OfflineReason),
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
    /// The node was lost: its lease ran out.
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
