//! The sockets that this node wants to be present. For each socket, the table keeps what the store has confirmed.

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::Registration;
use super::entry::{Confirmed, Entry, Next, Wanted};
use crate::domain::{
    Change, NodeId, OfflineReason, Position, Presence, Profile, Roster, Scope, SocketId, Timestamp, Transition, UserId,
};
use crate::metrics::TableMetrics;
use crate::store::{Intent, Order, Outcome};

/// The node's own sockets. For each socket, the table keeps what the node wants and what the store holds.
///
/// The table uses a std mutex, because every critical section is short and none of them awaits. Sessions insert and
/// remove sockets. The writer takes orders and settles them. The replica tells the table what it applied.
pub struct Table {
    node: NodeId,
    grace: Duration,
    metrics: TableMetrics,
    inner: Mutex<Inner>,
    /// Counts the calls of [`Table::take_heard`]. The count is written under the lock.
    round: AtomicU64,
    /// Wakes the writer when there is something to do.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    last_number: u64,
    sockets: HashMap<u64, Socket>,
    users: HashMap<UserId, LocalUser>,
    /// The sockets to look at. Each is here at most once (`Socket::queued`), with the turn in which it was queued.
    dirty: VecDeque<(u64, u64)>,
    /// Counts how often a socket was queued. The count is the number of the last turn.
    last_turn: u64,
    /// The assertion covers the sockets that were queued up to this turn ([`Table::begin_assertion`]).
    assertion_turn: u64,
    /// While departures are deferred: the sockets that wait to be removed from the store.
    deferred: Option<Vec<u64>>,
    /// The sockets in grace, in the order in which the graces end. All graces have the same length.
    graces: VecDeque<(Instant, u64)>,
    /// The sockets that were heard from in this round, each once (`Registration::heard_in`).
    heard: Vec<u64>,
    /// The highest revision seen. It comes from the reply to an order or from the replica.
    seen: u64,
}

struct Socket {
    user: UserId,
    entry: Entry,
    /// Whether the socket is in a queue: in `dirty`, or in the queue of deferred departures.
    queued: bool,
    /// The time at which the connection of the socket broke.
    lost_at: Option<Instant>,
    /// The session that waits for its join.
    waiter: Option<oneshot::Sender<Position>>,
}

struct LocalUser {
    presence: Presence,
    /// Whether a client stated the profile and the store has not dated it yet.
    stated: bool,
    sockets: Vec<u64>,
}

/// How many forgotten sockets may stay in the queue. The number is large, so that the table seldom looks through the
/// queue.
const QUEUE_SLACK: usize = 1024;

impl Table {
    /// An empty table. `grace` is how long a broken socket stays registered (`presence.grace`).
    pub fn new(node: NodeId, grace: Duration, metrics: TableMetrics) -> Arc<Self> {
        Arc::new(Self {
            node,
            grace,
            metrics,
            inner: Mutex::default(),
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
        let inner = self.lock();
        (inner.n_open(user) < max).then(|| self.put(inner, user, stated, known))
    }

    fn put(
        self: &Arc<Self>,
        mut inner: MutexGuard<'_, Inner>,
        user: &UserId,
        stated: Option<Profile>,
        known: Option<Presence>,
    ) -> (Registration, oneshot::Receiver<Position>) {
        let (sender, receiver) = oneshot::channel();
        inner.last_number += 1;
        let number = inner.last_number;
        inner.sockets.insert(
            number,
            Socket { user: user.clone(), entry: Entry::new(), queued: false, lost_at: None, waiter: Some(sender) },
        );
        let local = inner.users.entry(user.clone()).or_insert_with(|| LocalUser {
            presence: known.unwrap_or_default(),
            stated: false,
            sockets: Vec::with_capacity(1),
        });
        local.sockets.push(number);
        local.state(stated);
        inner.enqueue(number);
        drop(inner);
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
        let inner = self.lock();
        let wanted = inner.users.iter().filter(|(user, _)| inner.wants(user));
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
        let inner = self.lock();
        let contradicts = |number: &u64| {
            let entry = inner.sockets.get(number).map(|socket| &socket.entry);
            entry.is_some_and(|entry| entry.was_held_before(revision) || inner.deferred.is_some() && entry.is_wanted())
        };
        inner.users.get(user).is_some_and(|local| local.sockets.iter().any(contradicts))
    }

    /// Takes note of a transition that the replica applied. If the transition has a newer profile, this node asserts
    /// that profile from now on. If the user said goodbye elsewhere, the user's sockets in grace here go too. If the
    /// user is still here, this node asserts the user again.
    pub(crate) fn observe(&self, transition: &Transition) {
        let mut inner = self.lock();
        inner.seen = inner.seen.max(transition.position.revision);
        let has_orders = match &transition.change {
            Change::Online(presence) | Change::Changed(presence) => {
                inner.learn(&transition.user, presence);
                false
            }
            Change::Offline(_) => inner.observe_departure(&transition.user, transition.position.revision),
        };
        drop(inner);
        if has_orders {
            self.changed.notify_one();
        }
    }

    /// Takes note of a snapshot that the replica applied. The effect is that of the transitions that led to the
    /// snapshot.
    pub(crate) fn observe_snapshot(&self, roster: &Roster) {
        let mut inner = self.lock();
        let revision = roster.position().revision;
        inner.seen = inner.seen.max(revision);
        let users: Vec<UserId> = inner.users.keys().cloned().collect();
        for user in users {
            match roster.get(&user) {
                Some(presence) => inner.learn(&user, presence),
                None => _ = inner.observe_departure(&user, revision),
            }
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// The sockets that were heard from since the last call. [`Table::confirmed`] says which user each belongs to.
    pub(crate) fn take_heard(&self) -> Vec<u64> {
        let mut inner = self.lock();
        self.round.fetch_add(1, Ordering::Relaxed);
        let room = Vec::with_capacity(inner.heard.len());
        std::mem::replace(&mut inner.heard, room)
    }

    /// The number of each socket.
    pub(crate) fn socket_numbers(&self) -> Vec<u64> {
        self.lock().sockets.keys().copied().collect()
    }

    /// Those of `numbers` that the store holds, as far as this node knows.
    pub(crate) fn confirmed(&self, numbers: &[u64]) -> Vec<(SocketId, UserId)> {
        let inner = self.lock();
        let confirmed = |number: &u64| {
            let is_present = |socket: &&Socket| socket.entry.confirmed() == Confirmed::Present;
            let socket = inner.sockets.get(number).filter(is_present)?;
            Some((SocketId { node: self.node, number: *number }, socket.user.clone()))
        };
        numbers.iter().filter_map(confirmed).collect()
    }

    /// The store misses something of these sockets: this node asserts them again.
    pub(crate) fn mark_missing(&self, sockets: &[SocketId]) {
        let mut inner = self.lock();
        for socket in sockets {
            inner.forget_confirmation(socket.number);
        }
        drop(inner);
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

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No critical section can panic half way. But a poisoned lock must not take presence down with it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of [`Registration`].
impl Table {
    /// Notes that a client was active, once in each round. `heard_in` is the last round in which the client was active.
    pub(super) fn heard(&self, socket: SocketId, heard_in: &Cell<u64>) {
        // A client that talks all the time takes the lock only once a round.
        if heard_in.get() != self.round.load(Ordering::Relaxed) {
            let mut inner = self.lock();
            heard_in.set(self.round.load(Ordering::Relaxed));
            inner.heard.push(socket.number);
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
        let mut inner = self.lock();
        if let Some(local) = inner.users.get_mut(user) {
            local.state(stated);
        }
        if let Some(known) = inner.sockets.get_mut(&socket.number) {
            // The writer sends the join once more. The join carries the profile, and its reply carries the position.
            known.waiter = Some(sender);
            inner.forget_confirmation(socket.number);
        }
        drop(inner);
        self.changed.notify_one();
        receiver
    }

    /// The client said goodbye. The socket goes at once, and the user's sockets in grace go too.
    pub(super) fn leave(&self, socket: SocketId) {
        let mut inner = self.lock();
        inner.want(socket.number, Wanted::Left);
        // The table knows at once which of its own sockets are in grace.
        let user = inner.sockets.get(&socket.number).map(|socket| socket.user.clone());
        let numbers = user.and_then(|user| inner.users.get(&user)).map(|local| local.sockets.clone());
        inner.end_graces(&numbers.unwrap_or_default(), |_| true);
        drop(inner);
        self.changed.notify_one();
    }

    /// The connection of a socket broke. The socket stays registered for the grace, if there is a grace.
    pub(super) fn lose(&self, socket: SocketId, reason: OfflineReason) {
        let mut inner = self.lock();
        if self.grace.is_zero() {
            inner.want(socket.number, Wanted::Removed(reason));
        } else {
            let now = Instant::now();
            inner.want(socket.number, Wanted::Grace(reason));
            if let Some(socket) = inner.sockets.get_mut(&socket.number) {
                socket.lost_at = Some(now);
            }
            inner.graces.push_back((now + self.grace, socket.number));
        }
        drop(inner);
        self.changed.notify_one();
    }
}

/// The writer's side.
impl Table {
    /// Waits until there may be orders.
    ///
    /// # Cancel safety
    /// A wake-up that is not consumed stays for the next call.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes up to `limit` orders. None of their sockets has another order in flight. The caller must settle each
    /// order.
    pub(super) fn take_orders(&self, limit: usize) -> Vec<Order> {
        let mut inner = self.lock();
        let mut orders = Vec::new();
        while orders.len() < limit
            && let Some((_, number)) = inner.dirty.pop_front()
        {
            if let Some(intent) = inner.next_intent(number)
                && let Some(socket) = inner.sockets.get_mut(&number)
            {
                socket.entry.send();
                let id = SocketId { node: self.node, number };
                orders.push(Order { scope: Scope::Service, socket: id, user: socket.user.clone(), intent });
            }
        }
        orders
    }

    /// Takes in the outcome of an order. `None` says that the outcome is unknown.
    pub(super) fn settle(&self, order: &Order, outcome: Option<Outcome>) {
        let mut inner = self.lock();
        if let Some(Outcome::Done { position, profile_at }) = outcome {
            inner.seen = inner.seen.max(position.revision);
            match &order.intent {
                Intent::Join(sent) => inner.date_profile(&order.user, sent, profile_at.unwrap_or_default()),
                Intent::Remove(_) => self.measure_removal(&inner, order, profile_at.is_some()),
                Intent::Grace | Intent::Leave => {}
            }
        }
        inner.settle(order, outcome);
    }

    fn measure_removal(&self, inner: &Inner, order: &Order, user_remains: bool) {
        let lost_at = inner.sockets.get(&order.socket.number).and_then(|socket| socket.lost_at);
        match lost_at {
            Some(_) if user_remains => self.metrics.flap_suppressed(),
            Some(lost_at) => self.metrics.went_offline(lost_at.elapsed()),
            None => {}
        }
    }

    /// Ends the graces that are over. Returns the time at which the next grace ends.
    pub(super) fn end_due_graces(&self, now: Instant) -> Option<Instant> {
        let mut inner = self.lock();
        while let Some((until, number)) = inner.graces.front().copied() {
            if until > now {
                return Some(until);
            }
            inner.graces.pop_front();
            inner.end_graces(&[number], |_| true);
        }
        None
    }

    /// The store may hold anything or nothing of this node: the node asserts everything anew.
    pub(super) fn forget_confirmations(&self) {
        let mut inner = self.lock();
        let numbers: Vec<u64> = inner.sockets.keys().copied().collect();
        for number in numbers {
            inner.forget_confirmation(number);
        }
        inner.assertion_turn = inner.last_turn;
    }

    /// The store's data is of another life, which begins at `position`. The node asserts everything anew. A revision of
    /// the former life says nothing about this life. The former revision may even be higher, if somebody wrote it by
    /// hand.
    pub(super) fn begin_epoch(&self, position: Position) {
        self.lock().seen = position.revision;
        self.forget_confirmations();
    }

    /// Begins an assertion. [`Table::has_asserted`] asks about the orders that are due at this moment.
    pub(super) fn begin_assertion(&self) {
        let mut inner = self.lock();
        inner.assertion_turn = inner.last_turn;
    }

    /// Whether the writer has taken every order that was due when the last assertion began. Deferred departures do not
    /// count. Ask only while no order is in flight.
    pub(super) fn has_asserted(&self) -> bool {
        let inner = self.lock();
        inner.dirty.front().is_none_or(|(turn, _)| *turn > inner.assertion_turn)
    }

    /// From now on the writer removes no socket from the store, until [`Table::release_departures`]. A goodbye that
    /// waits takes no other sockets along: the user may have come back meanwhile.
    pub(super) fn defer_departures(&self) {
        let mut inner = self.lock();
        inner.deferred.get_or_insert_default();
        for socket in inner.sockets.values_mut() {
            socket.entry.postpone_goodbye();
        }
    }

    /// The writer removes sockets from the store again. The sockets that waited go first.
    pub(super) fn release_departures(&self) {
        let mut inner = self.lock();
        for number in inner.deferred.take().unwrap_or_default() {
            if let Some(socket) = inner.sockets.get_mut(&number) {
                socket.queued = false;
                inner.enqueue(number);
            }
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// How many sockets the store must hold for this node. The lower bound is the number of confirmed sockets. The
    /// upper bound adds the sockets in grace, because a goodbye elsewhere may have removed them. `None` while an
    /// outcome is unknown.
    pub(super) fn confirmed_range(&self) -> Option<std::ops::RangeInclusive<u64>> {
        let inner = self.lock();
        let (mut n_present, mut n_grace) = (0, 0);
        for socket in inner.sockets.values() {
            match socket.entry.confirmed() {
                Confirmed::Present => n_present += 1,
                Confirmed::Grace => n_grace += 1,
                Confirmed::Unknown => return None,
                Confirmed::Absent => {}
            }
        }
        Some(n_present..=n_present + n_grace)
    }

    /// Compares the table with the sockets that the store really holds for this node. If the store misses a socket, the
    /// node asserts it again. If the table does not know a socket, the node removes it from the store. Returns how many
    /// sockets differ.
    pub(super) fn reconcile(&self, held: &[(SocketId, UserId)]) -> usize {
        let mut inner = self.lock();
        let in_store: HashSet<u64> = held.iter().map(|(socket, _)| socket.number).collect();
        let missing: Vec<u64> = inner
            .sockets
            .iter()
            .filter(|(number, socket)| socket.entry.confirmed() == Confirmed::Present && !in_store.contains(number))
            .map(|(number, _)| *number)
            .collect();
        let foreign: Vec<_> = held.iter().filter(|(socket, _)| !inner.sockets.contains_key(&socket.number)).collect();
        let n_different = missing.len() + foreign.len();
        for number in missing {
            if let Some(socket) = inner.sockets.get_mut(&number) {
                socket.entry.lose();
            }
            inner.enqueue(number);
        }
        for (socket, user) in foreign {
            inner.adopt_for_removal(socket.number, user);
        }
        n_different
    }

    /// The highest revision seen.
    pub(super) fn seen(&self) -> u64 {
        self.lock().seen
    }
}

impl Inner {
    fn wants(&self, user: &UserId) -> bool {
        let is_wanted = |number| self.sockets.get(number).is_some_and(|socket| socket.entry.is_wanted());
        self.users.get(user).is_some_and(|local| local.sockets.iter().any(is_wanted))
    }

    /// How many sockets of the user are wanted or in grace. A socket does not count if it only waits for the store to
    /// hear of its end. Otherwise users who come and go while the store is away would be refused.
    fn n_open(&self, user: &UserId) -> usize {
        let is_open = |number: &&u64| {
            let entry = self.sockets.get(number).map(|socket| &socket.entry);
            entry.is_some_and(|entry| entry.is_wanted() || entry.grace().is_some())
        };
        self.users.get(user).map_or(0, |local| local.sockets.iter().filter(is_open).count())
    }

    /// Lowers what is wanted of a socket. It never rises again. A socket that the store has never heard of is forgotten
    /// at once. So users who come and go while the store is away leave nothing behind.
    fn want(&mut self, number: u64, wanted: Wanted) {
        let Some(socket) = self.sockets.get_mut(&number) else { return };
        socket.entry.want(wanted);
        if self.deferred.is_some() {
            socket.entry.postpone_goodbye();
        }
        if socket.entry.next() == Next::Forget {
            self.forget(number);
        } else {
            self.enqueue(number);
        }
    }

    fn enqueue(&mut self, number: u64) {
        if let Some(socket) = self.sockets.get_mut(&number)
            && !socket.queued
            && !socket.entry.is_in_flight()
        {
            socket.queued = true;
            self.last_turn += 1;
            self.dirty.push_back((self.last_turn, number));
        }
    }

    /// The node no longer knows what the store holds of a socket: it asserts the socket again.
    fn forget_confirmation(&mut self, number: u64) {
        if let Some(socket) = self.sockets.get_mut(&number) {
            socket.entry.forget_confirmation();
            self.enqueue(number);
        }
    }

    /// If the profile is newer, this node asserts it from now on.
    fn learn(&mut self, user: &UserId, presence: &Presence) {
        if let Some(local) = self.users.get_mut(user)
            && !local.stated
            && presence.updated_at > local.presence.updated_at
            && presence.profile.is_some()
        {
            local.presence = presence.clone();
        }
    }

    /// The store says that the user went offline with transition `revision`. The user's sockets in grace went too. The
    /// node asserts the other sockets again. Returns whether there are orders.
    fn observe_departure(&mut self, user: &UserId, revision: u64) -> bool {
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
    fn next_intent(&mut self, number: u64) -> Option<Intent> {
        let socket = self.sockets.get_mut(&number)?;
        let next = socket.entry.next();
        if let Some(deferred) = &mut self.deferred
            && matches!(next, Next::Leave | Next::Remove(_))
        {
            // The socket stays `queued`, so that it waits there only once.
            deferred.push(number);
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

    fn settle(&mut self, order: &Order, outcome: Option<Outcome>) {
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
    fn date_profile(&mut self, user: &UserId, sent: &Presence, updated_at: Timestamp) {
        if let Some(local) = self.users.get_mut(user)
            && local.stated
            && sent.profile.is_some()
            && sent.profile == local.presence.profile
        {
            local.presence.updated_at = updated_at;
            local.stated = false;
        }
    }

    /// Removes the sockets in `numbers` that are in grace and that `ends` picks. Returns whether there were any.
    fn end_graces(&mut self, numbers: &[u64], ends: impl Fn(&Entry) -> bool) -> bool {
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
        // The queue may still hold numbers of forgotten sockets. They must not add up.
        if self.dirty.len() > 2 * self.sockets.len() + QUEUE_SLACK {
            self.dirty.retain(|(_, number)| self.sockets.contains_key(number));
        }
    }

    /// Takes in a socket that only the store knows, to remove it from the store.
    fn adopt_for_removal(&mut self, number: u64, user: &UserId) {
        let entry = Entry::foreign();
        let socket = Socket { user: user.clone(), entry, queued: false, lost_at: None, waiter: None };
        self.sockets.insert(number, socket);
        self.enqueue(number);
    }
}

impl LocalUser {
    /// What a join asserts. A profile that the store has not dated is new to the store.
    fn to_assert(&self) -> Presence {
        let mut presence = self.presence.clone();
        if self.stated {
            presence.updated_at = Timestamp(0);
        }
        presence
    }

    /// Takes over the profile that a client stated, if it says something new.
    fn state(&mut self, stated: Option<Profile>) {
        if stated.is_some() && stated != self.presence.profile {
            self.presence.profile = stated;
            self.stated = true;
        }
    }
}

#[cfg(test)]
mod tests;
