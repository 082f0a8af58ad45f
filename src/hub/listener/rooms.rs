//! What a socket hears of its rooms.

use super::{Listener, Place};
use crate::domain::{Interest, RoomId};
use crate::hub::streams::StreamKey;

impl Listener {
    /// The rooms of the socket.
    pub(in crate::hub) fn places(&self) -> &[Place] {
        self.seldom.as_ref().map_or(&[], |seldom| &seldom.places)
    }

    /// The place of the socket in a room.
    pub(in crate::hub) fn place_in(&self, stream: StreamKey) -> Option<&Place> {
        self.places().iter().find(|place| place.stream == stream)
    }

    /// The place of the socket in a room, to change it.
    pub(in crate::hub) fn place_in_mut(&mut self, stream: StreamKey) -> Option<&mut Place> {
        self.seldom.as_mut()?.places.iter_mut().find(|place| place.stream == stream)
    }

    /// The socket is in one room more.
    pub(in crate::hub) fn add_place(&mut self, place: Place) {
        let places = &mut self.seldom.get_or_insert_default().places;
        places.reserve_exact(1);
        places.push(place);
    }

    /// The socket is not in that room any more. Returns its place there.
    pub(in crate::hub) fn remove_place(&mut self, stream: StreamKey) -> Option<Place> {
        let places = &mut self.seldom.as_mut()?.places;
        let n = places.iter().position(|place| place.stream == stream)?;
        let place = places.swap_remove(n);
        if places.is_empty() {
            *places = Vec::new();
        }
        self.release_frames_of(stream);
        self.forget_hole_of_nothing();
        Some(place)
    }

    /// The socket does not read the stream any more. Its own frames that belong to the stream do not wait for it.
    pub(in crate::hub) fn release_frames_of(&mut self, stream: StreamKey) {
        if let Some(backlog) = &mut self.backlog {
            backlog.release_from(stream);
        }
    }

    /// Whether the socket hears something of a room. It does not while it is paused.
    pub(in crate::hub) fn hears_rooms(&self) -> bool {
        !self.is_paused && self.places().iter().any(|place| place.interest != Interest::Nobody)
    }

    /// The server made the user leave the room. The session is told.
    pub(in crate::hub) fn was_removed_from(&mut self, room: RoomId) {
        let removed = &mut self.seldom.get_or_insert_default().removed;
        if !removed.contains(&room) {
            removed.push(room);
        }
        self.wake();
    }

    /// The rooms that the server made the user leave since the last call.
    pub(in crate::hub) fn take_removed(&mut self) -> Vec<RoomId> {
        self.seldom.as_mut().map_or(Vec::new(), |seldom| std::mem::take(&mut seldom.removed))
    }

    /// Whether the server made the user leave rooms since they were last taken.
    pub(super) fn was_removed_from_rooms(&self) -> bool {
        self.seldom.as_ref().is_some_and(|seldom| !seldom.removed.is_empty())
    }
}
