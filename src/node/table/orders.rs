//! The writer's side of the table: the orders for the store, and what makes an order due.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Instant;

use super::Table;
use super::contents::Contents;
use super::tally::Tally;
use crate::domain::{NodeId, Position, Scope, SocketId, Timestamp, UserId};
use crate::node::entry::Confirmed;
use crate::store::{Intent, Order, Outcome};

impl Table {
    /// Waits until there may be orders.
    ///
    /// # Cancel safety
    /// A wake-up that is not consumed stays for the next call.
    pub(in crate::node) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes up to `limit` orders. None of their entries has another order in flight. Orders about rooms come behind all
    /// others. So the store has heard of a socket before it hears of its rooms. The caller must settle each order.
    pub(in crate::node) fn take_orders(&self, limit: usize) -> Vec<Order> {
        let mut contents = self.lock();
        let mut orders = Vec::new();
        while orders.len() < limit
            && let Some(order) = contents.next_order(self.node).or_else(|| contents.next_order_in_rooms(self.node))
        {
            orders.push(order);
        }
        orders
    }

    /// Takes in the outcome of an order. `None` says that the outcome is unknown.
    pub(in crate::node) fn settle(&self, order: &Order, outcome: Option<Outcome>) {
        let mut contents = self.lock();
        if let Some(Outcome::Done { position, .. }) = outcome {
            contents.seen = contents.seen.max(position.revision);
        }
        if let Scope::Room(room) = &order.scope {
            contents.rooms.settle(&(room.clone(), order.socket.number), &order.intent, outcome);
            return;
        }
        if let (Intent::Remove(_), Some(Outcome::Done { user_remains, .. })) = (&order.intent, outcome) {
            self.measure_removal(&contents, order, user_remains);
        }
        contents.settle(order, outcome);
    }

    fn measure_removal(&self, contents: &Contents, order: &Order, user_remains: bool) {
        match contents.lost_at.get(&order.socket.number) {
            Some(_) if user_remains => self.metrics.flap_suppressed(),
            Some(lost_at) => self.metrics.went_offline(lost_at.elapsed()),
            None => {}
        }
    }

    /// Ends the graces that are over. Returns the time at which the next grace ends.
    pub(in crate::node) fn end_due_graces(&self, now: Instant) -> Option<Instant> {
        let mut contents = self.lock();
        let next = contents.end_due_graces(now);
        let next_in_rooms = contents.rooms.end_due_graces(now);
        next.into_iter().chain(next_in_rooms).min()
    }

    /// The store may hold anything or nothing of this node: the node asserts everything anew.
    pub(in crate::node) fn forget_confirmations(&self) {
        let mut contents = self.lock();
        let numbers: Vec<u64> = contents.sockets.keys().copied().collect();
        for number in numbers {
            contents.forget_confirmation(number);
        }
        contents.queue.begin_assertion();
        contents.rooms.forget_confirmations();
    }

    /// The store's data is of another life, which begins at `position`. The node asserts everything anew. A revision of
    /// the former life says nothing about this life. The former revision may even be higher, if somebody wrote it by
    /// hand.
    pub(in crate::node) fn begin_epoch(&self, position: Position) {
        self.lock().seen = position.revision;
        self.forget_confirmations();
    }

    /// Begins an assertion. [`Table::has_asserted`] and [`Table::has_asserted_all`] ask about the orders that are due at this
    /// moment.
    pub(in crate::node) fn begin_assertion(&self) {
        let mut contents = self.lock();
        contents.queue.begin_assertion();
        contents.rooms.begin_assertion();
    }

    /// Whether the writer has taken every order about the service that was due when the last assertion began. Deferred
    /// departures do not count. Ask only while no order is in flight.
    pub(in crate::node) fn has_asserted(&self) -> bool {
        self.lock().queue.has_asserted()
    }

    /// From now on the writer removes no socket from the store, until [`Table::release_departures`], and no entry in a room,
    /// until [`Table::release_room_departures`]. A goodbye that waits takes no other sockets along: the user may have come
    /// back meanwhile.
    pub(in crate::node) fn defer_departures(&self) {
        let mut contents = self.lock();
        contents.queue.defer_departures();
        contents.rooms.defer_departures();
        for socket in contents.sockets.values_mut() {
            socket.entry.postpone_goodbye();
        }
    }

    /// The writer removes sockets from the store again. The sockets that waited go first.
    pub(in crate::node) fn release_departures(&self) {
        let mut contents = self.lock();
        for number in contents.queue.release_departures() {
            if let Some(socket) = contents.sockets.get_mut(&number) {
                socket.queued = false;
                contents.enqueue(number);
            }
        }
        drop(contents);
        self.changed.notify_one();
    }

    /// How many sockets the store must hold for this node ([`Tally::range`]).
    pub(in crate::node) fn confirmed_range(&self) -> Option<RangeInclusive<u64>> {
        let mut tally = Tally::default();
        self.lock().sockets.values().for_each(|socket| tally.add(socket.entry.confirmed()));
        tally.range()
    }

    /// Compares the table with the sockets that the store really holds for this node. If the store misses a socket, the
    /// node asserts it again. If the table does not know a socket, the node removes it from the store. Returns how many
    /// sockets differ.
    pub(in crate::node) fn reconcile(&self, held: &[(SocketId, UserId)]) -> usize {
        let mut contents = self.lock();
        let in_store: HashSet<u64> = held.iter().map(|(socket, _)| socket.number).collect();
        let missing: Vec<u64> = contents
            .sockets
            .iter()
            .filter(|(number, socket)| socket.entry.confirmed() == Confirmed::Present && !in_store.contains(number))
            .map(|(number, _)| *number)
            .collect();
        let foreign: Vec<_> =
            held.iter().filter(|(socket, _)| !contents.sockets.contains_key(&socket.number)).collect();
        let n_different = missing.len() + foreign.len();
        for number in missing {
            if let Some(socket) = contents.sockets.get_mut(&number) {
                socket.entry.lose();
            }
            contents.enqueue(number);
        }
        for (socket, user) in foreign {
            contents.adopt_for_removal(socket.number, user);
        }
        n_different
    }

    /// The store told its time.
    pub(in crate::node) fn set_store_time(&self, told: Timestamp) {
        self.lock().store_time = Some((told, Instant::now()));
    }

    /// A hold has ended: every node has asserted its sockets. So the store can decide by the idle marks, and the node
    /// states them again.
    pub(in crate::node) fn restate_idle_marks(&self) {
        let mut contents = self.lock();
        let idle = contents.sockets.iter_mut().filter(|(_, socket)| socket.entry.is_idle());
        let numbers: Vec<u64> = idle
            .map(|(number, socket)| {
                socket.entry.forget_idle_mark();
                *number
            })
            .collect();
        numbers.into_iter().for_each(|number| contents.enqueue(number));
        drop(contents);
        self.changed.notify_one();
    }

    /// The highest revision seen.
    pub(in crate::node) fn seen(&self) -> u64 {
        self.lock().seen
    }
}

impl Contents {
    /// Takes the next order about a socket in the service.
    fn next_order(&mut self, node: NodeId) -> Option<Order> {
        while let Some(number) = self.queue.pop() {
            if let Some(intent) = self.next_intent(number)
                && let Some(socket) = self.sockets.get_mut(&number)
            {
                socket.entry.send();
                let (user, id) = (socket.user.clone(), SocketId { node, number });
                let active_at = self.users.get(&user).map(|local| local.presence.active_at).unwrap_or_default();
                return Some(Order { scope: Scope::Service, socket: id, user, intent, active_at });
            }
        }
        None
    }

    /// Takes the next order about an entry in a room.
    fn next_order_in_rooms(&mut self, node: NodeId) -> Option<Order> {
        let ((room, number), user, intent) = self.rooms.next_order()?;
        let (scope, socket) = (Scope::Room(room), SocketId { node, number });
        // A room does not know who is active.
        Some(Order { scope, socket, user, intent, active_at: Timestamp::default() })
    }

    fn end_due_graces(&mut self, now: Instant) -> Option<Instant> {
        while let Some(number) = self.graces.pop_due(now) {
            self.end_graces(&[number], |_| true);
        }
        self.graces.next_end()
    }
}
