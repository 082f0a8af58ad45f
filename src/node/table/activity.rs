//! Who is active, who is idle, and whose chosen status ends.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Table;
use super::contents::Contents;
use crate::domain::{Presence, SocketId, Timestamp, UserId};

/// What is due at the end of a round.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// The sockets that were heard from in the round. [`Table::confirmed`] says which user each belongs to.
    pub(crate) heard: Vec<u64>,
    /// The users of whom the store must hear that they were active, each with the time.
    pub(crate) active: Vec<(UserId, Timestamp)>,
    /// The users whose chosen status has ended, each with the date of the choice. They come again in each round, until
    /// the store has ended the choice.
    pub(crate) expired: Vec<(UserId, Timestamp)>,
    /// Some of the users of whom the store may not have heard the last statement, each with what was stated. They come again
    /// until [`Table::settle_statement`].
    pub(crate) unheard: Vec<(UserId, Presence)>,
}

/// How many statements are made in one round. Each is a round trip.
const STATEMENTS_A_ROUND: usize = 200;

impl Table {
    /// Notes that a client was active, once in each round. `heard_in` is the last round in which it was heard from.
    /// `said_idle` says that the client has said since that nobody is there. A socket that is idle is idle no more.
    pub(in crate::node) fn heard(&self, socket: SocketId, heard_in: &Cell<u64>, said_idle: bool) {
        // A client that talks all the time takes the lock only once a round.
        if heard_in.get() == self.round.load(Ordering::Relaxed) && !said_idle {
            return;
        }
        let mut contents = self.lock();
        let was_silent = self.hear(&mut contents, socket, heard_in) >= self.idle_rounds;
        // Only a socket that was silent for long can have become idle. To look the others up would cost as much as all
        // the rest (docs/performance.md). If rounds took longer than they should, `end_round` finds what is missed here.
        if (said_idle || was_silent) && contents.activate(socket.number) {
            drop(contents);
            self.changed.notify_one();
        }
    }

    /// Notes that a client did something else than to say `user_activity`.
    pub(in crate::node) fn acted(&self, socket: SocketId, heard_in: &Cell<u64>) {
        let mut contents = self.lock();
        if self.act(&mut contents, socket, heard_in) {
            drop(contents);
            self.changed.notify_one();
        }
    }

    /// Does the same as [`Table::acted`]. Returns whether there is an order.
    pub(super) fn act(&self, contents: &mut Contents, socket: SocketId, heard_in: &Cell<u64>) -> bool {
        if contents.becomes_idle(socket.number) {
            self.hear(contents, socket, heard_in);
        }
        contents.activate(socket.number)
    }

    /// The client of a socket says that nobody is there.
    pub(in crate::node) fn idle(&self, socket: SocketId, heard_in: &Cell<u64>) {
        let mut contents = self.lock();
        self.hear(&mut contents, socket, heard_in);
        if let Some(socket) = contents.sockets.get_mut(&socket.number) {
            socket.said_idle = true;
        }
        contents.idle(socket.number);
        drop(contents);
        self.changed.notify_one();
    }

    /// Notes that a client was heard from. Returns how many rounds ago it was heard from before.
    pub(super) fn hear(&self, contents: &mut Contents, socket: SocketId, heard_in: &Cell<u64>) -> u64 {
        let round = self.round.load(Ordering::Relaxed);
        let n_rounds = round - heard_in.replace(round);
        if n_rounds > 0 {
            contents.heard.push(socket.number);
        }
        n_rounds
    }

    /// Other nodes heard that these users were active.
    pub(crate) fn observe_activity(&self, users: &[(UserId, Timestamp)]) {
        let mut contents = self.lock();
        for (user, at) in users {
            if let Some(local) = contents.users.get_mut(user) {
                local.was_noted(*at);
            }
        }
    }

    /// Ends a round of heartbeats: marks the sockets that became idle, and returns what else is due.
    pub(crate) fn end_round(&self, now: Instant) -> Round {
        let mut contents = self.lock();
        self.round.fetch_add(1, Ordering::Relaxed);
        let room = Vec::with_capacity(contents.heard.len());
        let heard = std::mem::replace(&mut contents.heard, room);
        let store_now = contents.store_now();
        let active = contents.note_heard(&heard, now, store_now, self.note_every);
        let expired = contents.expired(store_now);
        let unheard = contents.unheard.iter().take(STATEMENTS_A_ROUND);
        let unheard = unheard.filter_map(|user| Some((user.clone(), contents.users.get(user)?.presence.clone())));
        let unheard = unheard.collect();
        contents.mark_idle(now);
        let has_orders = contents.queue.has_due();
        let n_room_entries = contents.rooms.n_entries();
        drop(contents);
        self.metrics.room_entries(n_room_entries);
        if has_orders {
            self.changed.notify_one();
        }
        Round { heard, active, expired, unheard }
    }

    /// The store has heard what is stated of a user.
    pub(in crate::node) fn settle_statement(&self, user: &UserId, stated: &Presence) {
        self.lock().hear_statement(user, stated);
    }
}

impl Contents {
    /// Notes when sockets were heard from. Returns the users of whom the store was last told `note_every` ago or before.
    fn note_heard(
        &mut self,
        heard: &[u64],
        now: Instant,
        store_now: Timestamp,
        note_every: Duration,
    ) -> Vec<(UserId, Timestamp)> {
        let mut active = Vec::new();
        for number in heard {
            let Some(socket) = self.sockets.get_mut(number) else { continue };
            if socket.said_idle {
                continue;
            }
            socket.active_at = self.idling.active(*number, socket.active_at, now);
            let is_idle = socket.entry.is_idle();
            let Some(local) = self.users.get_mut(&socket.user) else { continue };
            local.was_active(store_now);
            if local.noted_at.until(store_now) >= note_every {
                local.noted_at = store_now;
                active.push((socket.user.clone(), local.presence.active_at));
            }
            if is_idle {
                self.activate(*number);
            }
        }
        active
    }

    /// Marks the sockets that were silent for too long.
    fn mark_idle(&mut self, now: Instant) {
        for number in self.idling.take_due(now) {
            let Some(socket) = self.sockets.get_mut(&number) else { continue };
            if self.idling.is_idle(number, socket.active_at, now) {
                // The next `user_activity` brings it back among those that may become idle.
                socket.active_at = 0;
                self.idle(number);
            }
        }
    }

    /// The users whose chosen status has ended.
    fn expired(&self, store_now: Timestamp) -> Vec<(UserId, Timestamp)> {
        let due = self.expiring.iter().take_while(|(end, _)| *end <= store_now);
        let choice = |(_, user): &(Timestamp, UserId)| Some((user.clone(), self.users.get(user)?.presence.chosen_at()));
        due.filter_map(choice).collect()
    }
}

#[cfg(test)]
mod tests;
