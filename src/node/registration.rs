//! A session's hold on its socket.

use std::cell::Cell;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{EnteredAt, Table, TooManyRooms};
use crate::domain::{OfflineReason, Position, RoomId, Said, SocketId, UserId};

/// A socket's place in the table. Dropping it puts the socket in grace. So a session that panicked or was dropped
/// cannot leak its socket.
pub struct Registration {
    table: Arc<Table>,
    /// The number of the socket on this node.
    number: u64,
    user: UserId,
    /// The last round in which the client was heard from, counted from 1.
    heard_in: Cell<u64>,
    /// Whether the client said that nobody is there, and has not been active since.
    said_idle: Cell<bool>,
    ended: bool,
}

impl Registration {
    pub(super) fn new(table: Arc<Table>, socket: SocketId, user: UserId) -> Self {
        Self { table, number: socket.number, user, heard_in: Cell::new(0), said_idle: Cell::new(false), ended: false }
    }

    /// The socket's id.
    pub(crate) fn socket(&self) -> SocketId {
        SocketId { node: self.table.node(), number: self.number }
    }

    /// The user of the socket.
    pub(crate) fn user(&self) -> &UserId {
        &self.user
    }

    /// Whether the node still wants the socket. It does not after the server has closed the sockets of the user.
    pub(crate) fn is_wanted(&self) -> bool {
        self.table.is_wanted(self.socket())
    }

    /// Notes that the client was active.
    pub(crate) fn heard(&self) {
        self.table.heard(self.socket(), &self.heard_in, self.said_idle.replace(false));
    }

    /// Notes that the client did something else than to say `user_activity`. It is an activity, but a client that never says
    /// `user_activity` does not become idle.
    pub(crate) fn acted(&self) {
        self.said_idle.set(false);
        self.table.acted(self.socket(), &self.heard_in);
    }

    /// The client says that nobody is there.
    pub(crate) fn idle(&self) {
        self.said_idle.set(true);
        self.table.idle(self.socket(), &self.heard_in);
    }

    /// The client says something new of its user. The receiver gets the position of the store's reply.
    pub fn say(&self, said: Said) -> oneshot::Receiver<Position> {
        if !said.hides() {
            self.said_idle.set(false);
        }
        self.table.say(self.socket(), &self.user, said, &self.heard_in)
    }

    /// Wants the socket to be in a room. The receiver gets the positions of the store's reply. If the socket is in the room
    /// already, the store is asked once more. A later call for the same room takes over: the earlier receiver ends. The
    /// receiver also ends if the socket leaves the room before the reply, or is not wanted any more.
    ///
    /// # Errors
    /// [`TooManyRooms`] if the socket is in `max` other rooms (`limits.rooms_per_socket`).
    pub fn join_room(&self, max: usize, room: &RoomId) -> Result<oneshot::Receiver<EnteredAt>, TooManyRooms> {
        self.table.join_room(max, self.socket(), &self.user, room)
    }

    /// The socket leaves a room. The user's other sockets stay there, also those in grace.
    pub fn leave_room(&self, room: &RoomId) {
        self.table.leave_room(self.socket(), room);
    }

    /// The rooms that the socket is in, in the order in which it entered them.
    pub fn rooms(&self) -> Vec<RoomId> {
        self.table.rooms_of(self.socket())
    }

    /// Whether the socket is to be in a room.
    pub(crate) fn is_in_room(&self, room: &RoomId) -> bool {
        self.table.is_in_room(self.socket(), room)
    }

    /// The client said goodbye. The socket goes at once, and the user's sockets in grace go too.
    pub fn leave(mut self) {
        self.ended = true;
        self.table.leave(self.socket());
    }

    /// The connection ended without a goodbye. The socket stays registered for the grace.
    pub(crate) fn lose(mut self, reason: OfflineReason) {
        self.end(reason);
    }

    fn end(&mut self, reason: OfflineReason) {
        if !std::mem::replace(&mut self.ended, true) {
            self.table.lose(self.socket(), reason);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.end(OfflineReason::ConnectionLost);
    }
}
