//! What the table holds: the sockets and the users of this node. The table keeps it behind its one lock.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use tokio::sync::oneshot;

use super::local_user::LocalUser;
use super::queue::Queue;
use crate::domain::{Position, Presence, Timestamp, UserId};
use crate::node::entry::{Entry, Next, Wanted};
use crate::store::{Intent, Order, Outcome};

/// The sockets and the users, and what is to be done about them.
#[derive(Default)]
pub(super) struct Contents {
    /// The number of the newest socket.
    pub(super) last_number: u64,
    /// The sockets, by their numbers.
    pub(super) sockets: HashMap<u64, Socket>,
    /// The users of the sockets.
    pub(super) users: HashMap<UserId, LocalUser>,
    /// The sockets to look at, and the sockets whose departure waits.
    pub(super) queue: Queue,
    /// The sockets in grace, in the order in which the graces end. All graces have the same length.
    pub(super) graces: VecDeque<(Instant, u64)>,
    /// The sockets that were heard from in this round, each once (`Registration::heard_in`).
    pub(super) heard: Vec<u64>,
    /// The highest revision seen. It comes from the reply to an order or from the replica.
    pub(super) seen: u64,
}

/// One socket of this node.
pub(super) struct Socket {
    /// The user of the socket.
    pub(super) user: UserId,
    /// What is wanted of the socket, and what the store holds of it.
    pub(super) entry: Entry,
    /// Whether the socket is in the queue, due or deferred.
    pub(super) queued: bool,
    /// The time at which the connection of the socket broke.
    pub(super) lost_at: Option<Instant>,
    /// The session that waits for its join.
    pub(super) waiter: Option<oneshot::Sender<Position>>,
}

impl Contents {
    /// Whether a socket of the user is wanted. A socket in grace does not count.
    pub(super) fn wants(&self, user: &UserId) -> bool {
        let is_wanted = |number| self.sockets.get(number).is_some_and(|socket| socket.entry.is_wanted());
        self.users.get(user).is_some_and(|local| local.sockets.iter().any(is_wanted))
    }

    /// How many sockets of the user are wanted or in grace. A socket does not count if it only waits for the store to
    /// hear of its end. Otherwise users who come and go while the store is away would be refused.
    pub(super) fn n_open(&self, user: &UserId) -> usize {
        let is_open = |number: &&u64| {
            let entry = self.sockets.get(number).map(|socket| &socket.entry);
            entry.is_some_and(|entry| entry.is_wanted() || entry.grace().is_some())
        };
        self.users.get(user).map_or(0, |local| local.sockets.iter().filter(is_open).count())
    }

    /// Lowers what is wanted of a socket. It never rises again. A socket that the store has never heard of is forgotten
    /// at once. So users who come and go while the store is away leave nothing behind.
    pub(super) fn want(&mut self, number: u64, wanted: Wanted) {
        let Some(socket) = self.sockets.get_mut(&number) else { return };
        socket.entry.want(wanted);
        if self.queue.defers_departures() {
            socket.entry.postpone_goodbye();
        }
        if socket.entry.next() == Next::Forget {
            self.forget(number);
        } else {
            self.enqueue(number);
        }
    }

    /// The writer must look at the socket. If an order is in flight, [`Contents::settle`] does this later.
    pub(super) fn enqueue(&mut self, number: u64) {
        if let Some(socket) = self.sockets.get_mut(&number)
            && !socket.queued
            && !socket.entry.is_in_flight()
        {
            socket.queued = true;
            self.queue.push(number);
        }
    }

    /// The node no longer knows what the store holds of a socket: it asserts the socket again.
    pub(super) fn forget_confirmation(&mut self, number: u64) {
        if let Some(socket) = self.sockets.get_mut(&number) {
            socket.entry.forget_confirmation();
            self.enqueue(number);
        }
    }

    /// If the profile is newer, this node asserts it from now on.
    pub(super) fn learn(&mut self, user: &UserId, presence: &Presence) {
        if let Some(local) = self.users.get_mut(user) {
            local.learn(presence);
        }
    }

    /// The store says that the user went offline with transition `revision`. The user's sockets in grace went too. The
    /// node asserts the other sockets again. Returns whether there are orders.
    pub(super) fn observe_departure(&mut self, user: &UserId, revision: u64) -> bool {
        let Some(local) = self.users.get(user) else { return false };
        let numbers = local.sockets.clone();
        let mut has_orders = self.end_graces(&numbers, |entry| entry.joined_before(revision));
        for number in numbers {
            if self.sockets.get(&number).is_some_and(|socket| socket.entry.was_held_before(revision)) {
                self.forget_confirmation(number);
                has_orders = true;
            }
        }
        has_orders
    }

    /// What the writer asks of the store, so that the store holds what is wanted. Forgets a socket that neither the
    /// node nor the store holds.
    pub(super) fn next_intent(&mut self, number: u64) -> Option<Intent> {
        let socket = self.sockets.get_mut(&number)?;
        let next = socket.entry.next();
        if matches!(next, Next::Leave | Next::Remove(_)) && self.queue.defer(number) {
            // The socket stays `queued`, so that it waits there only once.
            return None;
        }
        socket.queued = false;
        match next {
            Next::Nothing => None,
            Next::Forget => {
                self.forget(number);
                None
            }
            Next::Join => self.users.get(&socket.user).map(|local| Intent::Join(local.to_assert())),
            Next::Mark => Some(Intent::Grace),
            Next::Leave => Some(Intent::Leave),
            Next::Remove(reason) => Some(Intent::Remove(reason)),
        }
    }

    /// Takes in the outcome of an order. A session that waits for the join gets the position.
    pub(super) fn settle(&mut self, order: &Order, outcome: Option<Outcome>) {
        let number = order.socket.number;
        let is_outdated = self.users.get(&order.user).is_some_and(|local| local.stated);
        let Some(socket) = self.sockets.get_mut(&number) else { return };
        let is_joined = socket.entry.settle(&order.intent, outcome, is_outdated);
        if is_joined
            && let Some(Outcome::Done { position, .. }) = outcome
            && let Some(waiter) = socket.waiter.take()
        {
            // The session may have ended meanwhile.
            let _ = waiter.send(position);
        }
        // There may be nothing left to do. The next look at the socket finds that out.
        self.enqueue(number);
    }

    /// The store has dated the profile that a join carried.
    pub(super) fn date_profile(&mut self, user: &UserId, sent: &Presence, updated_at: Timestamp) {
        if let Some(local) = self.users.get_mut(user) {
            local.date_profile(sent, updated_at);
        }
    }

    /// Removes the sockets in `numbers` that are in grace and that `ends` picks. Returns whether there were any.
    pub(super) fn end_graces(&mut self, numbers: &[u64], ends: impl Fn(&Entry) -> bool) -> bool {
        let mut any = false;
        for number in numbers {
            if let Some(socket) = self.sockets.get(number)
                && let Some(reason) = socket.entry.grace()
                && ends(&socket.entry)
            {
                self.want(*number, Wanted::Removed(reason));
                any = true;
            }
        }
        any
    }

    fn forget(&mut self, number: u64) {
        let Some(socket) = self.sockets.remove(&number) else { return };
        if let Some(local) = self.users.get_mut(&socket.user) {
            local.sockets.retain(|other| *other != number);
            if local.sockets.is_empty() {
                self.users.remove(&socket.user);
            }
        }
        self.queue.drop_forgotten(self.sockets.len(), |number| self.sockets.contains_key(&number));
    }

    /// Takes in a socket that only the store knows, to remove it from the store.
    pub(super) fn adopt_for_removal(&mut self, number: u64, user: &UserId) {
        let entry = Entry::foreign();
        let socket = Socket { user: user.clone(), entry, queued: false, lost_at: None, waiter: None };
        self.sockets.insert(number, socket);
        self.enqueue(number);
    }
}
