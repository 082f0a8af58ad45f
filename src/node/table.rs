//! The sockets that this node wants to be present, and their rooms. For each entry, the table keeps what the store has
//! confirmed.

mod accounts;
mod activity;
mod contents;
mod graces;
mod idling;
mod local_user;
mod orders;
mod queue;
mod room_entries;
mod room_entry;
mod rooms;
mod tally;

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

pub(crate) use self::activity::Round;
use self::contents::{Contents, Socket};
use self::local_user::LocalUser;
pub use self::rooms::{EnteredAt, TooManyRooms};
use super::Registration;
use super::entry::{Confirmed, Entry, Wanted};
use crate::domain::{
    Change, Device, NodeId, OfflineReason, Position, Presence, RoomId, Roster, Said, SocketId, Timestamp, Transition,
    UserId,
};
use crate::metrics::TableMetrics;
use crate::settings::PresenceSettings;

/// The node's own sockets. For each socket, the table keeps what the node wants and what the store holds.
///
/// The table uses a std mutex, because every critical section is short and none of them awaits. Sessions insert and
/// remove sockets. The writer takes orders and settles them. The replica tells the table what it applied.
pub struct Table {
    node: NodeId,
    grace: Duration,
    /// After this many rounds without `user_activity`, a socket may be idle. It is never reached if no socket becomes idle
    /// by itself.
    idle_rounds: u64,
    /// How often the store is told that a user is active (`presence.active_every`).
    note_every: Duration,
    metrics: TableMetrics,
    contents: Mutex<Contents>,
    /// Counts the calls of [`Table::end_round`]. The count is written under the lock.
    round: AtomicU64,
    /// Wakes the writer when there is something to do.
    changed: Notify,
}

/// A socket that was heard from within this part of the time after which it is idle is surely not idle.
const IDLE_PART: u64 = 4;

/// How a socket comes.
#[derive(Debug, Clone, Default)]
pub struct Arrival {
    /// What the client said of the user.
    pub said: Said,
    /// What the client runs on.
    pub device: Option<Device>,
    /// The rooms that the socket enters. The caller has counted them (`limits.rooms_per_socket`).
    /// [`Registration::join_room`] says when the store has heard of each.
    pub rooms: Vec<RoomId>,
}

impl Table {
    /// An empty table.
    pub fn new(node: NodeId, presence: &PresenceSettings, metrics: TableMetrics) -> Arc<Self> {
        let idle_rounds = (presence.idle.as_nanos() / presence.round().as_nanos()) as u64 / IDLE_PART;
        Arc::new(Self {
            node,
            grace: presence.grace,
            idle_rounds: if presence.idle.is_zero() { u64::MAX } else { idle_rounds },
            note_every: presence.active_every,
            metrics,
            contents: Mutex::new(Contents::new(presence)),
            round: AtomicU64::new(1),
            changed: Notify::new(),
        })
    }

    /// The node that owns these sockets.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Wants a new socket of `user` to be present. `known` is the data that the replica has. If the store ever loses that
    /// data, this node asserts it again.
    ///
    /// The receiver gets the position of the store's reply, when the reply comes.
    pub fn insert(
        self: &Arc<Self>,
        user: &UserId,
        arrival: Arrival,
        known: Option<Presence>,
    ) -> (Registration, oneshot::Receiver<Position>) {
        self.put(self.lock(), user, arrival, known)
    }

    /// Does the same as [`Table::insert`], unless the user already has `max` sockets here. Sockets in grace count.
    pub(crate) fn insert_within(
        self: &Arc<Self>,
        max: usize,
        user: &UserId,
        arrival: Arrival,
        known: Option<Presence>,
    ) -> Option<(Registration, oneshot::Receiver<Position>)> {
        let contents = self.lock();
        (contents.n_open(user) < max).then(|| self.put(contents, user, arrival, known))
    }

    fn put(
        self: &Arc<Self>,
        mut contents: MutexGuard<'_, Contents>,
        user: &UserId,
        arrival: Arrival,
        known: Option<Presence>,
    ) -> (Registration, oneshot::Receiver<Position>) {
        let (sender, receiver) = oneshot::channel();
        contents.last_number += 1;
        let number = contents.last_number;
        let mut socket = Socket::new(user.clone(), Entry::new());
        let now = contents.store_now();
        (socket.device, socket.since) = (arrival.device, now);
        contents.sockets.insert(number, socket);
        contents.waiting.insert(number, sender);
        // The first join here tells all nodes that the user is active.
        contents.users.entry(user.clone()).or_insert_with(|| LocalUser::new(now)).sockets.push(number);
        if let Some(known) = &known {
            contents.learn(user, known);
        }
        let hides = arrival.said.hides();
        contents.say(user, arrival.said);
        if !hides {
            contents.activate(number);
        }
        contents.enqueue(number);
        for room in &arrival.rooms {
            // Nobody waits yet.
            drop(contents.rooms.enter(room, number, user, now));
        }
        drop(contents);
        self.changed.notify_one();
        let socket = SocketId { node: self.node, number };
        (Registration::new(self.clone(), socket, user.clone()), receiver)
    }

    /// The time by the store's clock, as far as this node knows it.
    pub(crate) fn store_now(&self) -> Timestamp {
        self.lock().store_now()
    }

    /// Whether a socket of the user is wanted here. A socket in grace does not count.
    pub(crate) fn wants(&self, user: &UserId) -> bool {
        self.lock().wants(user)
    }

    /// The users with a wanted socket here, and their data.
    pub(crate) fn wanted_users(&self) -> Vec<(UserId, Presence)> {
        let contents = self.lock();
        let wanted = contents.users.iter().filter(|(user, _)| contents.wants(user));
        wanted.map(|(user, local)| (user.clone(), local.presence.clone())).collect()
    }

    /// The user's data as this node would assert it.
    pub(crate) fn presence(&self, user: &UserId) -> Option<Presence> {
        self.lock().users.get(user).map(|local| local.presence.clone())
    }

    /// Whether a socket of the user here contradicts a departure with this revision. A socket contradicts the departure
    /// if the store must have known the socket when it made transition `revision`. Then the departure is not the truth.
    ///
    /// A join that is on its way for the first time proves nothing: the store may have decided the departure before the
    /// join. A join that waited here while the store was out of reach does contradict the departure.
    pub(crate) fn contradicts_departure(&self, user: &UserId, revision: u64) -> bool {
        let contents = self.lock();
        let contradicts = |number: &u64| {
            let entry = contents.sockets.get(number).map(|socket| &socket.entry);
            entry.is_some_and(|entry| {
                entry.was_held_before(revision) || contents.queue.defers_departures() && entry.is_wanted()
            })
        };
        contents.users.get(user).is_some_and(|local| local.sockets.iter().any(contradicts))
    }

    /// Takes note of a transition that the replica applied. If the transition has a newer statement, this node
    /// asserts that statement from now on. If the user said goodbye elsewhere, the user's sockets in grace here go too. If the
    /// user is still here, this node asserts the user again.
    pub(crate) fn observe(&self, transition: &Transition) {
        let mut contents = self.lock();
        contents.seen = contents.seen.max(transition.position.revision);
        let has_orders = match &transition.change {
            Change::Online(presence) => contents.learn_all(&transition.user, presence),
            Change::Changed(presence) => {
                contents.learn(&transition.user, presence);
                false
            }
            Change::Offline(_) => contents.observe_departure(&transition.user, transition.position.revision),
        };
        drop(contents);
        if has_orders {
            self.changed.notify_one();
        }
    }

    /// Takes note of a snapshot that the replica applied. This has the same effect as the transitions that led to the
    /// snapshot.
    pub(crate) fn observe_snapshot(&self, roster: &Roster) {
        let mut contents = self.lock();
        let revision = roster.position().revision;
        contents.seen = contents.seen.max(revision);
        let users: Vec<UserId> = contents.users.keys().cloned().collect();
        for user in users {
            match roster.get_even_hidden(&user) {
                Some(presence) => _ = contents.learn_all(&user, presence),
                None => _ = contents.observe_departure(&user, revision),
            }
        }
        drop(contents);
        self.changed.notify_one();
    }

    /// The number of each socket.
    pub(crate) fn socket_numbers(&self) -> Vec<u64> {
        self.lock().sockets.keys().copied().collect()
    }

    /// Those of `numbers` that the store holds, as far as this node knows.
    pub(crate) fn confirmed(&self, numbers: &[u64]) -> Vec<(SocketId, UserId)> {
        let contents = self.lock();
        let confirmed = |number: &u64| {
            let is_present = |socket: &&Socket| socket.entry.confirmed() == Confirmed::Present;
            let socket = contents.sockets.get(number).filter(is_present)?;
            Some((SocketId { node: self.node, number: *number }, socket.user.clone()))
        };
        numbers.iter().filter_map(confirmed).collect()
    }

    /// The store misses something of these sockets: this node asserts them again.
    pub(crate) fn mark_missing(&self, sockets: &[SocketId]) {
        let mut contents = self.lock();
        for socket in sockets {
            contents.forget_confirmation(socket.number);
        }
        drop(contents);
        self.changed.notify_one();
    }

    /// Number of sockets wanted or in grace.
    pub(crate) fn n_sockets(&self) -> usize {
        self.lock().sockets.len()
    }

    /// Number of users with a socket here.
    pub(crate) fn n_users(&self) -> usize {
        self.lock().users.len()
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        // No critical section can panic half way. But a poisoned lock must not take presence down with it.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of [`Registration`].
impl Table {
    /// The client of a socket says something new of its user. The receiver gets the position of the store's reply.
    pub(super) fn say(
        &self,
        socket: SocketId,
        user: &UserId,
        said: Said,
        heard_in: &Cell<u64>,
    ) -> oneshot::Receiver<Position> {
        let (sender, receiver) = oneshot::channel();
        let mut contents = self.lock();
        let hides = said.hides();
        contents.say(user, said);
        // To hide is no activity. Others see when the user was last active, and a user who goes is not active either.
        if !hides {
            self.act(&mut contents, socket, heard_in);
        }
        // The writer sends the join once more. The join carries the statement, and its reply carries the position.
        contents.waiting.insert(socket.number, sender);
        contents.forget_confirmation(socket.number);
        drop(contents);
        self.changed.notify_one();
        receiver
    }

    /// The client said goodbye. The socket goes at once, and the user's sockets in grace go too.
    pub(super) fn leave(&self, socket: SocketId) {
        let mut contents = self.lock();
        contents.want(socket.number, Wanted::Left);
        // The table knows at once which of its own sockets are in grace.
        if let Some(user) = contents.sockets.get(&socket.number).map(|socket| socket.user.clone()) {
            let numbers = contents.users.get(&user).map(|local| local.sockets.clone());
            contents.end_graces(&numbers.unwrap_or_default(), |_| true);
            contents.end_room_graces(&user);
        }
        drop(contents);
        self.changed.notify_one();
    }

    /// The connection of a socket broke. The socket stays registered for the grace, if there is a grace. If the server has
    /// closed the socket before, it goes at once.
    pub(super) fn lose(&self, socket: SocketId, reason: OfflineReason) {
        let mut contents = self.lock();
        if !contents.is_wanted(socket.number) {
            return;
        }
        if self.grace.is_zero() {
            contents.want(socket.number, Wanted::Removed(reason));
        } else {
            contents.lose(socket.number, reason, Instant::now(), self.grace);
        }
        drop(contents);
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
