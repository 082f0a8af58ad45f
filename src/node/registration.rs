//! A session's hold on its socket.

use std::cell::Cell;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Table;
use crate::domain::{OfflineReason, Position, Profile, SocketId, UserId};

/// A socket's place in the table. Dropping it puts the socket in grace. So a session that panicked or was dropped
/// cannot leak its socket.
pub struct Registration {
    table: Arc<Table>,
    /// The number of the socket on this node.
    number: u64,
    user: UserId,
    /// The last round in which the client was heard from, counted from 1.
    heard_in: Cell<u64>,
    ended: bool,
}

impl Registration {
    pub(super) fn new(table: Arc<Table>, socket: SocketId, user: UserId) -> Self {
        Self { table, number: socket.number, user, heard_in: Cell::new(0), ended: false }
    }

    /// The socket's id.
    pub(crate) fn socket(&self) -> SocketId {
        SocketId { node: self.table.node(), number: self.number }
    }

    /// The user of the socket.
    pub(crate) fn user(&self) -> &UserId {
        &self.user
    }

    /// Notes that the client was active.
    pub(crate) fn heard(&self) {
        self.table.heard(self.socket(), &self.heard_in);
    }

    /// States the user's profile anew. The receiver gets the position of the store's reply.
    pub(crate) fn state_profile(&self, stated: Option<Profile>) -> oneshot::Receiver<Position> {
        self.table.state_profile(self.socket(), &self.user, stated)
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
