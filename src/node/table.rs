//! The sockets that this node wants to be present. For each socket, the table keeps what the store has confirmed.

mod contents;
mod local_user;
mod orders;
mod queue;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use self::contents::{Contents, Socket};
use self::local_user::LocalUser;
use super::Registration;
use super::entry::{Confirmed, Entry, Wanted};
use crate::domain::{Change, NodeId, OfflineReason, Position, Presence, Profile, Roster, SocketId, Transition, UserId};
use crate::metrics::TableMetrics;

/// The node's own sockets. For each socket, the table keeps what the node wants and what the store holds.
///
/// The table uses a std mutex, because every critical section is short and none of them awaits. Sessions insert and
/// remove sockets. The writer takes orders and settles them. The replica tells the table what it applied.
pub struct Table {
    node: NodeId,
    grace: Duration,
    metrics: TableMetrics,
    contents: Mutex<Contents>,
    /// Counts the calls of [`Table::take_heard`]. The count is written under the lock.
    round: AtomicU64,
    /// Wakes the writer when there is something to do.
    changed: Notify,
}

impl Table {
    /// An empty table. `grace` is how long a broken socket stays registered (`presence.grace`).
    pub fn new(node: NodeId, grace: Duration, metrics: TableMetrics) -> Arc<Self> {
        Arc::new(Self {
            node,
            grace,
            metrics,
            contents: Mutex::default(),
            round: AtomicU64::new(1),
            changed: Notify::new(),
        })
    }

    /// The node that owns these sockets.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Wants a new socket of `user` to be present. `stated` is the profile that the client gave. `known` is the data
    /// that the replica has. If the store ever loses that data, this node asserts it again.
    ///
    /// The receiver gets the position of the store's reply, when the reply comes.
    pub fn insert(
        self: &Arc<Self>,
        user: &UserId,
        stated: Option<Profile>,
        known: Option<Presence>,
    ) -> (Registration, oneshot::Receiver<Position>) {
        self.put(self.lock(), user, stated, known)
    }

    /// Does the same as [`Table::insert`], unless the user already has `max` sockets here. Sockets in grace count.
    pub(crate) fn insert_within(
        self: &Arc<Self>,
        max: usize,
        user: &UserId,
        stated: Option<Profile>,
        known: Option<Presence>,
    ) -> Option<(Registration, oneshot::Receiver<Position>)> {
        let contents = self.lock();
        (contents.n_open(user) < max).then(|| self.put(contents, user, stated, known))
    }

    fn put(
        self: &Arc<Self>,
        mut contents: MutexGuard<'_, Contents>,
        user: &UserId,
        stated: Option<Profile>,
        known: Option<Presence>,
    ) -> (Registration, oneshot::Receiver<Position>) {
        let (sender, receiver) = oneshot::channel();
        contents.last_number += 1;
        let number = contents.last_number;
        contents.sockets.insert(
            number,
            Socket { user: user.clone(), entry: Entry::new(), queued: false, lost_at: None, waiter: Some(sender) },
        );
        let local = contents.users.entry(user.clone()).or_insert_with(|| LocalUser::new(known));
        local.sockets.push(number);
        local.state(stated);
        contents.enqueue(number);
        drop(contents);
        self.changed.notify_one();
        let socket = SocketId { node: self.node, number };
        (Registration::new(self.clone(), socket, user.clone()), receiver)
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

    /// Takes note of a transition that the replica applied. If the transition has a newer profile, this node asserts
    /// that profile from now on. If the user said goodbye elsewhere, the user's sockets in grace here go too. If the
    /// user is still here, this node asserts the user again.
    pub(crate) fn observe(&self, transition: &Transition) {
        let mut contents = self.lock();
        contents.seen = contents.seen.max(transition.position.revision);
        let has_orders = match &transition.change {
            Change::Online(presence) | Change::Changed(presence) => {
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
            match roster.get(&user) {
                Some(presence) => contents.learn(&user, presence),
                None => _ = contents.observe_departure(&user, revision),
            }
        }
        drop(contents);
        self.changed.notify_one();
    }

    /// The sockets that were heard from since the last call. [`Table::confirmed`] says which user each belongs to.
    pub(crate) fn take_heard(&self) -> Vec<u64> {
        let mut contents = self.lock();
        self.round.fetch_add(1, Ordering::Relaxed);
        let room = Vec::with_capacity(contents.heard.len());
        std::mem::replace(&mut contents.heard, room)
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
    /// Notes that a client was active, once in each round. `heard_in` is the last round in which the client was active.
    pub(super) fn heard(&self, socket: SocketId, heard_in: &Cell<u64>) {
        // A client that talks all the time takes the lock only once a round.
        if heard_in.get() != self.round.load(Ordering::Relaxed) {
            let mut contents = self.lock();
            heard_in.set(self.round.load(Ordering::Relaxed));
            contents.heard.push(socket.number);
        }
    }

    /// States the profile of a socket's user anew. The receiver gets the position of the store's reply.
    pub(super) fn state_profile(
        &self,
        socket: SocketId,
        user: &UserId,
        stated: Option<Profile>,
    ) -> oneshot::Receiver<Position> {
        let (sender, receiver) = oneshot::channel();
        let mut contents = self.lock();
        if let Some(local) = contents.users.get_mut(user) {
            local.state(stated);
        }
        if let Some(known) = contents.sockets.get_mut(&socket.number) {
            // The writer sends the join once more. The join carries the profile, and its reply carries the position.
            known.waiter = Some(sender);
            contents.forget_confirmation(socket.number);
        }
        drop(contents);
        self.changed.notify_one();
        receiver
    }

    /// The client said goodbye. The socket goes at once, and the user's sockets in grace go too.
    pub(super) fn leave(&self, socket: SocketId) {
        let mut contents = self.lock();
        contents.want(socket.number, Wanted::Left);
        // The table knows at once which of its own sockets are in grace.
        let user = contents.sockets.get(&socket.number).map(|socket| socket.user.clone());
        let numbers = user.and_then(|user| contents.users.get(&user)).map(|local| local.sockets.clone());
        contents.end_graces(&numbers.unwrap_or_default(), |_| true);
        drop(contents);
        self.changed.notify_one();
    }

    /// The connection of a socket broke. The socket stays registered for the grace, if there is a grace.
    pub(super) fn lose(&self, socket: SocketId, reason: OfflineReason) {
        let mut contents = self.lock();
        if self.grace.is_zero() {
            contents.want(socket.number, Wanted::Removed(reason));
        } else {
            let now = Instant::now();
            contents.want(socket.number, Wanted::Grace(reason));
            if let Some(socket) = contents.sockets.get_mut(&socket.number) {
                socket.lost_at = Some(now);
            }
            contents.graces.push_back((now + self.grace, socket.number));
        }
        drop(contents);
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
