//! What a node knows about its link to the store.

use crate::domain::{Position, Timestamp};

/// Whether the store answers, and its position at the last answer. The writer writes the link, and the replica reads
/// it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Link {
    /// The node has not heard from the store since the node started.
    Starting,
    /// The store answers. Before the link came up, the node had asserted every socket that it wanted. Entries in rooms may
    /// follow: until then the view only notes departures.
    Up {
        /// The store's position at the last beat.
        position: Position,
        /// Whether the view must only note departures. Either the store lost its data, or the node was cut off and
        /// waits for its peers.
        holding: bool,
        /// Counts the beats. So two beats with the same position can be told apart.
        n_beats: u64,
    },
    /// The store does not answer.
    Down {
        /// The last time at which the store answered, by the store's clock.
        as_of: Timestamp,
    },
}
