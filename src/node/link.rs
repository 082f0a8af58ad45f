//! What a node knows of its standing with the store.

use crate::domain::{Position, Timestamp};

/// Whether the store answers, and where it was when it last did. Written by the writer, read by the replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Link {
    /// Nothing has been heard from the store since the node started.
    Starting,
    /// The store answers. When it first did so again, everything this node wanted had been asserted.
    Up {
        /// The store's position at the last beat.
        position: Position,
        /// Whether departures are noted only: the store lost its data, or the node was cut off and waits for its peers.
        holding: bool,
        /// Counts up with every beat, so that two beats with the same position are told apart.
        n_beats: u64,
    },
    /// The store does not answer.
    Down {
        /// The last time it did, by its own clock.
        as_of: Timestamp,
    },
}
