//! Where one socket is in the streams of its rooms.

use std::time::Instant;

use crate::domain::{Interest, RoomId};
use crate::hub::streams::StreamKey;

/// What a socket with rooms has, and what few sockets have. Any other socket holds no memory for it.
#[derive(Default)]
pub(super) struct Seldom {
    /// Its rooms, in no order. There are 50 at most (`limits.rooms_per_socket`), so a search goes through them.
    pub(super) places: Vec<Place>,
    /// The rooms that the server made the user leave, until the session takes them.
    pub(super) removed: Vec<RoomId>,
    /// When the socket last started over because it read too slowly.
    pub(super) last_resync: Option<Instant>,
}

/// A socket in one of its rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub) struct Place {
    pub(in crate::hub) stream: StreamKey,
    /// The place of the socket among those that read the stream, if it reads the stream.
    pub(in crate::hub) index: u32,
    /// How far it has read the stream.
    pub(in crate::hub) position: u64,
    /// What the socket wants to hear of the room.
    pub(in crate::hub) interest: Interest,
    /// Whether it reads the stream. It does not while it is paused.
    pub(in crate::hub) reads: bool,
}

impl Place {
    /// A place of a socket that hears nothing yet.
    pub(in crate::hub) fn new(stream: StreamKey) -> Self {
        Self { stream, index: 0, position: 0, interest: Interest::Nobody, reads: false }
    }
}

/// A socket has one in each of its rooms.
const _: () = assert!(size_of::<Place>() <= 24);
