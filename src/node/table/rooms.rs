//! The rooms of this node's sockets. What a session wants is kept here, and the writer and the replica ask about it.

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Table;
use super::contents::Contents;
use crate::domain::{Position, RoomChange, RoomId, RoomPosition, RoomRoster, RoomTransition, SocketId, UserId};

/// The positions of the store and of a room after a socket has entered the room. Whoever has applied both has seen that. The
/// second is none if nobody is there any more.
pub type EnteredAt = (Position, Option<RoomPosition>);

/// A socket is in as many rooms as it may be in (`limits.rooms_per_socket`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the socket is in too many rooms")]
pub struct TooManyRooms;

/// How much longer an entry in a room stays in grace than its socket. A client that comes back at the last moment joins the
/// service first, and then its rooms. It finds them as it left them.
pub(super) const LONGER_GRACE: Duration = Duration::from_secs(2);

/// The side of the replica.
impl Table {
    /// The rooms in which a socket of this node is. Sockets in grace count.
    pub fn rooms(&self) -> Vec<RoomId> {
        self.lock().rooms.open_rooms().cloned().collect()
    }

    /// Whether a socket of this node is in the room. Sockets in grace count.
    pub fn is_local_room(&self, room: &RoomId) -> bool {
        self.lock().rooms.is_open(room)
    }

    /// Whether a socket of the user here is wanted in the room. A socket in grace does not count.
    pub fn wants_in(&self, room: &RoomId, user: &UserId) -> bool {
        self.lock().rooms.wants(room, user)
    }

    /// The users with a socket here that is wanted in the room.
    pub fn wanted_members(&self, room: &RoomId) -> BTreeSet<UserId> {
        self.lock().rooms.wanted_in(room).cloned().collect()
    }

    /// Number of entries in rooms. An entry that is still to be removed from the store counts.
    pub fn n_room_entries(&self) -> usize {
        self.lock().rooms.n_entries()
    }

    /// Whether a socket of the user here contradicts a departure from a room at `position`. The rule is that of a departure from
    /// the service.
    pub fn contradicts_room_departure(&self, room: &RoomId, user: &UserId, position: RoomPosition) -> bool {
        self.lock().rooms.contradicts(room, user, position)
    }

    /// Takes note of a transition of a room that the replica applied. If the user left, the user's entries in grace here go
    /// too. If the user is still here, this node asserts the user again.
    pub fn observe_room(&self, transition: &RoomTransition) {
        let RoomTransition { room, position, user, change, .. } = transition;
        if let RoomChange::Left(_) = change
            && self.lock().rooms.observe_departure(room, user, *position)
        {
            self.changed.notify_one();
        }
    }

    /// Takes note of a snapshot of a room that the replica applied. This has the same effect as the transitions that led to
    /// the snapshot.
    pub fn observe_room_snapshot(&self, room: &RoomId, roster: &RoomRoster) {
        let mut contents = self.lock();
        // If nobody is there, the room has no position. Then the node asserts whoever it wants there.
        let position = match roster.position {
            RoomPosition { birth: 0, .. } => RoomPosition { birth: u64::MAX, revision: 0 },
            position => position,
        };
        let wanted: HashSet<UserId> = contents.rooms.wanted_in(room).cloned().collect();
        for user in wanted.iter().filter(|user| !roster.members.contains(*user)) {
            contents.rooms.observe_departure(room, user, position);
        }
        drop(contents);
        self.changed.notify_one();
    }
}

/// The side of [`Registration`](super::Registration).
impl Table {
    pub(in crate::node) fn join_room(
        &self,
        max: usize,
        socket: SocketId,
        user: &UserId,
        room: &RoomId,
    ) -> Result<oneshot::Receiver<EnteredAt>, TooManyRooms> {
        let mut contents = self.lock();
        if !contents.is_wanted(socket.number) {
            let (_, ended) = oneshot::channel();
            return Ok(ended);
        }
        if contents.rooms.n_others(socket.number, room) >= max {
            return Err(TooManyRooms);
        }
        let now = contents.store_now();
        let receiver = contents.rooms.enter(room, socket.number, user, now);
        drop(contents);
        self.changed.notify_one();
        Ok(receiver)
    }

    pub(in crate::node) fn leave_room(&self, socket: SocketId, room: &RoomId) {
        self.lock().rooms.leave(room, socket.number);
        self.changed.notify_one();
    }

    pub(in crate::node) fn is_in_room(&self, socket: SocketId, room: &RoomId) -> bool {
        self.lock().rooms.is_in(socket.number, room)
    }

    pub(in crate::node) fn rooms_of(&self, socket: SocketId) -> Vec<RoomId> {
        self.lock().rooms.of_socket(socket.number)
    }
}

/// The side of the writer and of the refresher.
impl Table {
    /// Whether the writer has taken every order that was due when the last assertion began, those of rooms too. Deferred
    /// departures do not count. Ask only while no order is in flight.
    pub(in crate::node) fn has_asserted_all(&self) -> bool {
        let contents = self.lock();
        contents.queue.has_asserted() && contents.rooms.has_asserted()
    }

    /// The writer removes entries in rooms from the store again.
    pub(in crate::node) fn release_room_departures(&self) {
        self.lock().rooms.release_departures();
        self.changed.notify_one();
    }

    /// How many entries in rooms the store must hold for this node. `None` while an outcome is unknown.
    pub(in crate::node) fn confirmed_room_range(&self) -> Option<RangeInclusive<u64>> {
        self.lock().rooms.confirmed_range()
    }

    /// The same as [`Table::reconcile`], for the entries in rooms. Returns how many differ.
    pub(in crate::node) fn reconcile_rooms(&self, held: &[(RoomId, SocketId, UserId)]) -> usize {
        let mut contents = self.lock();
        let in_store: HashSet<(&RoomId, u64)> = held.iter().map(|(room, socket, _)| (room, socket.number)).collect();
        let mut missing = contents.rooms.confirmed();
        missing.retain(|(room, number)| !in_store.contains(&(room, *number)));
        let is_foreign =
            |(room, socket, _): &&(RoomId, SocketId, UserId)| !contents.rooms.is_known(room, socket.number);
        let foreign: Vec<_> = held.iter().filter(is_foreign).collect();
        let n_different = missing.len() + foreign.len();
        missing.iter().for_each(|name| contents.rooms.lose(name));
        for (room, socket, user) in foreign {
            contents.rooms.adopt_for_removal(&(room.clone(), socket.number), user);
        }
        n_different
    }

    /// The number of each socket with entries in rooms.
    pub(in crate::node) fn sockets_in_rooms(&self) -> Vec<u64> {
        self.lock().rooms.sockets()
    }

    /// The entries in rooms of the sockets `numbers` that the store holds, as far as this node knows.
    pub(in crate::node) fn confirmed_in_rooms(&self, numbers: &[u64]) -> Vec<(RoomId, SocketId, UserId)> {
        let contents = self.lock();
        let entries = |number: &u64| {
            let socket = SocketId { node: self.node, number: *number };
            contents.rooms.confirmed_of(*number).map(move |(room, user)| (room.clone(), socket, user.clone()))
        };
        numbers.iter().flat_map(entries).collect()
    }

    /// The store misses something of these entries: this node asserts them again.
    pub(in crate::node) fn mark_missing_in_rooms(&self, entries: &[(RoomId, SocketId)]) {
        if entries.is_empty() {
            return;
        }
        let mut contents = self.lock();
        for (room, socket) in entries {
            contents.rooms.forget_confirmation(&(room.clone(), socket.number));
        }
        drop(contents);
        self.changed.notify_one();
    }
}

impl Contents {
    /// Ends the graces of all entries of the user in rooms.
    pub(super) fn end_room_graces(&mut self, user: &UserId) {
        let numbers = self.rooms.sockets_of(user);
        self.rooms.end_graces(&numbers);
    }

    /// The user is gone from the service. So the entries of the user's sockets that have ended go at once.
    pub(super) fn follow_departure_into_rooms(&mut self, user: &UserId) {
        let mut numbers = self.rooms.sockets_of(user);
        numbers.retain(|number| !self.is_open(*number));
        self.rooms.end_graces(&numbers);
    }
}

#[cfg(test)]
mod tests;
