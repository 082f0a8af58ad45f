//! The sockets that this node wants to be present, and what the store has confirmed of each.

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

/// The node's own sockets: what is wanted of each, and what the store holds.
///
/// A std mutex, because every critical section is short and none awaits. Sessions insert and remove; the writer takes orders
/// and settles them; the replica tells what it applied.
pub struct Table {
    node: NodeId,
    grace: Duration,
    metrics: TableMetrics,
    inner: Mutex<Inner>,
    /// Counts the calls of [`Table::take_heard`]; written under the lock.
    round: AtomicU64,
    /// Wakes the writer when something is to be done.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    last_number: u64,
    sockets: HashMap<u64, Socket>,
    users: HashMap<UserId, LocalUser>,
    /// Sockets to look at, each at most once (`Socket::queued`), with the turn in which it was queued.
    dirty: VecDeque<(u64, u64)>,
    /// Counts what was ever queued.
    last_turn: u64,
    /// What was queued up to this turn is being asserted ([`Table::begin_assertion`]).
    assertion_turn: u64,
    /// Sockets that are to be gone, while departures are deferred.
    deferred: Option<Vec<u64>>,
    /// Sockets in grace, in the order in which it ends: it is the same for all.
    graces: VecDeque<(Instant, u64)>,
    /// Sockets heard from in this round, each once (`Registration::heard_in`).
    heard: Vec<u64>,
    /// Highest revision seen, by an order's reply or by the replica.
    seen: u64,
}

struct Socket {
    user: UserId,
    entry: Entry,
    /// Whether it is in a queue: `dirty`, or that of deferred departures.
    queued: bool,
    /// When its connection broke.
    lost_at: Option<Instant>,
    /// The session that waits for its join.
    waiter: Option<oneshot::Sender<Position>>,
}

struct LocalUser {
    presence: Presence,
    /// The profile was stated by a client and the store has not dated it yet.
    stated: bool,
    sockets: Vec<u64>,
}

/// Forgotten sockets that may stay in the queue: so many that looking through it is seldom.
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

    /// The node whose sockets these are.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Wants a new socket of `user` to be present. `stated` is the profile that the client gave; `known` is what the replica
    /// has, to be asserted again if the store ever loses it.
    ///
    /// The receiver gets the position of the store's reply, once there is one.
    pub fn insert(
        self: &Arc<Self>,
        user: &UserId,
        stated: Option<Profile>,
        known: Option<Presence>,
    ) -> (Registration, oneshot::Receiver<Position>) {
        self.put(self.lock(), user, stated, known)
    }

    /// The same, unless the user has `max` sockets here already, those in grace among them.
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

    /// Whether a socket of the user is wanted here, and not only in grace.
    pub(crate) fn wants(&self, user: &UserId) -> bool {
        self.lock().wants(user)
    }

    /// The users of whom a socket is wanted here, and their data.
    pub(crate) fn wanted_users(&self) -> Vec<(UserId, Presence)> {
        let inner = self.lock();
        let wanted = inner.users.iter().filter(|(user, _)| inner.wants(user));
        wanted.map(|(user, local)| (user.clone(), local.presence.clone())).collect()
    }

    /// The user's data as this node would assert it.
    pub(crate) fn presence(&self, user: &UserId) -> Option<Presence> {
        self.lock().users.get(user).map(|local| local.presence.clone())
    }

    /// Whether a socket of the user is here that the store must have known when it made transition `revision`: a departure
    /// with that revision is then not the truth. A join that is on its way for the first time proves nothing, for the store
    /// may have decided the departure before it; unless the store was out of reach, when it waited here.
    pub(crate) fn contradicts_departure(&self, user: &UserId, revision: u64) -> bool {
        let inner = self.lock();
        let contradicts = |number: &u64| {
            let entry = inner.sockets.get(number).map(|socket| &socket.entry);
            entry.is_some_and(|entry| entry.was_held_before(revision) || inner.deferred.is_some() && entry.is_wanted())
        };
        inner.users.get(user).is_some_and(|local| local.sockets.iter().any(contradicts))
    }

    /// Takes note of a transition that the replica applied: a newer profile is what this node asserts from now on; a user
    /// who said goodbye elsewhere takes the sockets in grace along here too, and whoever is here all the same is asserted
    /// again.
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

    /// Takes note of a snapshot that the replica applied, as of the transitions that led to it.
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

    /// The sockets heard from since the last call; [`Table::confirmed`] says whose they are.
    pub(crate) fn take_heard(&self) -> Vec<u64> {
        let mut inner = self.lock();
        self.round.fetch_add(1, Ordering::Relaxed);
        let room = Vec::with_capacity(inner.heard.len());
        std::mem::replace(&mut inner.heard, room)
    }

    /// Every socket.
    pub(crate) fn socket_numbers(&self) -> Vec<u64> {
        self.lock().sockets.keys().copied().collect()
    }

    /// Those of `numbers` that the store holds, as far as is known.
    pub(crate) fn confirmed(&self, numbers: &[u64]) -> Vec<(SocketId, UserId)> {
        let inner = self.lock();
        let confirmed = |number: &u64| {
            let is_present = |socket: &&Socket| socket.entry.confirmed() == Confirmed::Present;
            let socket = inner.sockets.get(number).filter(is_present)?;
            Some((SocketId { node: self.node, number: *number }, socket.user.clone()))
        };
        numbers.iter().filter_map(confirmed).collect()
    }

    /// Something of these sockets is missing in the store: they are asserted again.
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
        // No critical section can panic half way, but a poisoned lock must not take presence down with it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of [`Registration`].
impl Table {
    /// Notes that a client was active, once in each round. `heard_in` is the last round in which it was.
    pub(super) fn heard(&self, socket: SocketId, heard_in: &Cell<u64>) {
        // Whoever talks all the time takes the lock once a round.
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
            // The join is sent once more: it carries the profile, and its reply the position.
            known.waiter = Some(sender);
            inner.forget_confirmation(socket.number);
        }
        drop(inner);
        self.changed.notify_one();
        receiver
    }

    /// The client said goodbye: the socket is gone at once, and the user's sockets in grace go along.
    pub(super) fn leave(&self, socket: SocketId) {
        let mut inner = self.lock();
        inner.want(socket.number, Wanted::Left);
        // Here it can be known at once which those are.
        let user = inner.sockets.get(&socket.number).map(|socket| socket.user.clone());
        let numbers = user.and_then(|user| inner.users.get(&user)).map(|local| local.sockets.clone());
        inner.end_graces(&numbers.unwrap_or_default(), |_| true);
        drop(inner);
        self.changed.notify_one();
    }

    /// The connection of a socket broke: it stays registered for the grace, if there is one.
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

    /// Up to `limit` orders for sockets of which none is in flight; each must be settled.
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

    /// Takes in what became of an order; `None` if that is unknown.
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

    /// Ends the graces that are over; returns when the next one will be.
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

    /// The store may hold anything or nothing of this node: everything is asserted anew.
    pub(super) fn forget_confirmations(&self) {
        let mut inner = self.lock();
        let numbers: Vec<u64> = inner.sockets.keys().copied().collect();
        for number in numbers {
            inner.forget_confirmation(number);
        }
        inner.assertion_turn = inner.last_turn;
    }

    /// The store's data is of another life, which begins at `position`: everything is asserted anew. A revision of the former
    /// life says nothing of this one. It may even be higher, if a hand had written it.
    pub(super) fn begin_epoch(&self, position: Position) {
        self.lock().seen = position.revision;
        self.forget_confirmations();
    }

    /// What is to be ordered now is what [`Table::has_asserted`] speaks of.
    pub(super) fn begin_assertion(&self) {
        let mut inner = self.lock();
        inner.assertion_turn = inner.last_turn;
    }

    /// Whether everything that was to be ordered when the last assertion began has been, but for departures that are
    /// deferred. To be asked while no order is in flight.
    pub(super) fn has_asserted(&self) -> bool {
        let inner = self.lock();
        inner.dirty.front().is_none_or(|(turn, _)| *turn > inner.assertion_turn)
    }

    /// From now on no socket is removed from the store until [`Table::release_departures`]. Goodbyes that wait so long take
    /// no other sockets along: the user may have come back meanwhile.
    pub(super) fn defer_departures(&self) {
        let mut inner = self.lock();
        inner.deferred.get_or_insert_default();
        for socket in inner.sockets.values_mut() {
            socket.entry.postpone_goodbye();
        }
    }

    /// Sockets are removed from the store again, first those that waited for it.
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

    /// How many sockets the store must hold for this node: at least those confirmed, at most those in grace as well, which a
    /// goodbye elsewhere may have taken along. `None` while an outcome is unknown.
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

    /// Compares with the sockets that the store really holds for this node: what is missing there is asserted again, what is
    /// not held here is removed there. Returns how many differ.
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

    /// Highest revision seen.
    pub(super) fn seen(&self) -> u64 {
        self.lock().seen
    }
}

impl Inner {
    fn wants(&self, user: &UserId) -> bool {
        let is_wanted = |number| self.sockets.get(number).is_some_and(|socket| socket.entry.is_wanted());
        self.users.get(user).is_some_and(|local| local.sockets.iter().any(is_wanted))
    }

    /// The user's sockets that are wanted or in grace. Those that only wait for the store to hear of their end do not count:
    /// while it is away, who comes and goes would be refused.
    fn n_open(&self, user: &UserId) -> usize {
        let is_open = |number: &&u64| {
            let entry = self.sockets.get(number).map(|socket| &socket.entry);
            entry.is_some_and(|entry| entry.is_wanted() || entry.grace().is_some())
        };
        self.users.get(user).map_or(0, |local| local.sockets.iter().filter(is_open).count())
    }

    /// Lowers what is wanted of a socket; it never rises again. One that the store has never heard of is forgotten at once, so
    /// that who comes and goes while the store is away leaves nothing behind.
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

    /// What the store holds of a socket is not known any more: it is asserted again.
    fn forget_confirmation(&mut self, number: u64) {
        if let Some(socket) = self.sockets.get_mut(&number) {
            socket.entry.forget_confirmation();
            self.enqueue(number);
        }
    }

    /// A newer profile is what this node asserts from now on.
    fn learn(&mut self, user: &UserId, presence: &Presence) {
        if let Some(local) = self.users.get_mut(user)
            && !local.stated
            && presence.updated_at > local.presence.updated_at
            && presence.profile.is_some()
        {
            local.presence = presence.clone();
        }
    }

    /// The store says that the user went with transition `revision`. Sockets in grace went along; those that are here all the
    /// same are asserted again. Whether that gives orders.
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

    /// What to ask of the store so that it holds what is wanted; forgets a socket that is nowhere any more.
    fn next_intent(&mut self, number: u64) -> Option<Intent> {
        let socket = self.sockets.get_mut(&number)?;
        let next = socket.entry.next();
        if let Some(deferred) = &mut self.deferred
            && matches!(next, Next::Leave | Next::Remove(_))
        {
            // It stays `queued`, so that it waits there once.
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
        // Nothing may be left to do; the next look at it finds out.
        self.enqueue(number);
    }

    /// The store has dated the profile that was sent with a join.
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

    /// Removes those of `numbers` that are in grace, and that `ends` picks. Whether there were any.
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
        // Numbers of the forgotten may still be queued; that must not add up.
        if self.dirty.len() > 2 * self.sockets.len() + QUEUE_SLACK {
            self.dirty.retain(|(_, number)| self.sockets.contains_key(number));
        }
    }

    /// Takes up a socket that only the store knows, to remove it there.
    fn adopt_for_removal(&mut self, number: u64, user: &UserId) {
        let entry = Entry::foreign();
        let socket = Socket { user: user.clone(), entry, queued: false, lost_at: None, waiter: None };
        self.sockets.insert(number, socket);
        self.enqueue(number);
    }
}

impl LocalUser {
    /// What a join asserts: a profile that the store has not dated is new to it.
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
