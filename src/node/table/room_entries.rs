//! The entries of this node's sockets in rooms.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::time::Instant;

use tokio::sync::oneshot;

use super::EnteredAt;
use super::graces::Graces;
use super::queue::Queue;
use super::room_entry::RoomEntry;
use super::tally::Tally;
use crate::domain::{OfflineReason, Presence, RoomId, RoomPosition, Timestamp, UserId};
use crate::node::entry::{Confirmed, Entry, Next, Wanted};
use crate::store::{Intent, Join, Outcome};

/// What this node wants in rooms, and what is to be done about it. Most sockets are in no room. So all that is kept of
/// rooms is here, and a socket itself has nothing of it.
///
/// Invariant: an entry is wanted only while its socket is wanted (test: `a_store_ends_up_as_clients_said_whatever_is_lost`).
#[derive(Default)]
pub(super) struct RoomEntries {
    /// The entries, by their rooms and by the numbers of their sockets.
    rooms: HashMap<RoomId, HashMap<u64, RoomEntry>>,
    /// The rooms of each socket, in the order in which it entered them.
    of_socket: HashMap<u64, Vec<RoomId>>,
    /// The sockets of each user that are in rooms. The service may have forgotten a socket whose entries are still here.
    of_user: HashMap<UserId, Vec<u64>>,
    /// The entries to look at, and the entries whose departure waits.
    queue: Queue<Queued>,
    /// The sessions that wait for the reply to a join.
    waiting: HashMap<Name, oneshot::Sender<EnteredAt>>,
    /// The sockets whose entries are in grace.
    graces: Graces,
    confirmed: Tally,
    n_entries: usize,
    /// The life of the newest entry.
    last_life: u64,
}

/// The room of an entry, and the number of its socket.
pub(super) type Name = (RoomId, u64);

/// An entry in the queue, and its life.
type Queued = (Name, u64);

/// Who is in the rooms.
impl RoomEntries {
    /// Number of entries. Those that are still to be removed from the store count.
    pub(super) fn n_entries(&self) -> usize {
        self.n_entries
    }

    /// The rooms that a socket is to be in. A socket in grace is to be in none.
    pub(super) fn of_socket(&self, number: u64) -> Vec<RoomId> {
        let rooms = self.of_socket.get(&number).into_iter().flatten();
        rooms.filter(|room| self.get(room, number).is_some_and(|held| held.entry.is_wanted())).cloned().collect()
    }

    /// Whether a socket is to be in a room.
    pub(super) fn is_in(&self, number: u64, room: &RoomId) -> bool {
        self.get(room, number).is_some_and(|held| held.entry.is_wanted())
    }

    /// The sockets of a user that are in a room, or in grace there.
    pub(super) fn open_of(&self, room: &RoomId, user: &UserId) -> Vec<u64> {
        let is_open = |number: &&u64| self.get(room, **number).is_some_and(|held| held.entry.is_open());
        self.of_user.get(user).into_iter().flatten().filter(is_open).copied().collect()
    }

    /// How many rooms other than `room` a socket is to be in.
    pub(super) fn n_others(&self, number: u64, room: &RoomId) -> usize {
        self.of_socket(number).iter().filter(|other| *other != room).count()
    }

    /// The sockets that have entries.
    pub(super) fn sockets(&self) -> Vec<u64> {
        self.of_socket.keys().copied().collect()
    }

    /// The user's sockets that have entries.
    pub(super) fn sockets_of(&self, user: &UserId) -> Vec<u64> {
        self.of_user.get(user).cloned().unwrap_or_default()
    }

    /// The rooms with an entry that is wanted or in grace.
    pub(super) fn open_rooms(&self) -> impl Iterator<Item = &RoomId> {
        self.rooms.keys().filter(|room| self.is_open(room))
    }

    /// Whether a room has an entry that is wanted or in grace.
    pub(super) fn is_open(&self, room: &RoomId) -> bool {
        self.rooms.get(room).is_some_and(|entries| entries.values().any(|held| held.entry.is_open()))
    }

    /// The users with a wanted entry in a room. A user comes once for each entry.
    pub(super) fn wanted_in(&self, room: &RoomId) -> impl Iterator<Item = &UserId> {
        let entries = self.rooms.get(room).into_iter().flat_map(HashMap::values);
        entries.filter(|held| held.entry.is_wanted()).map(|held| &held.user)
    }

    /// Whether an entry of the user in a room is wanted.
    pub(super) fn wants(&self, room: &RoomId, user: &UserId) -> bool {
        self.of(room, user).any(|held| held.entry.is_wanted())
    }

    /// Whether an entry of the user contradicts a departure from a room at `position`.
    pub(super) fn contradicts(&self, room: &RoomId, user: &UserId, position: RoomPosition) -> bool {
        let defers = self.queue.defers_departures();
        self.of(room, user).any(|held| held.was_held_before(position) || defers && held.entry.is_wanted())
    }

    /// The entries of a socket that the store holds, as far as this node knows.
    pub(super) fn confirmed_of(&self, number: u64) -> impl Iterator<Item = (&RoomId, &UserId)> {
        let rooms = self.of_socket.get(&number).into_iter().flatten();
        rooms.filter_map(move |room| {
            let held = self.get(room, number).filter(|held| held.entry.confirmed() == Confirmed::Present)?;
            Some((room, &held.user))
        })
    }

    /// Whether there is an entry.
    pub(super) fn is_known(&self, room: &RoomId, number: u64) -> bool {
        self.get(room, number).is_some()
    }

    /// The entries that the store must hold, as far as this node knows.
    pub(super) fn confirmed(&self) -> Vec<Name> {
        let confirmed = self.all().filter(|(_, _, held)| held.entry.confirmed() == Confirmed::Present);
        confirmed.map(|(room, number, _)| (room.clone(), number)).collect()
    }

    /// How many entries the store must hold for this node ([`Tally::range`]).
    pub(super) fn confirmed_range(&self) -> Option<RangeInclusive<u64>> {
        self.confirmed.range()
    }

    fn all(&self) -> impl Iterator<Item = (&RoomId, u64, &RoomEntry)> {
        self.rooms.iter().flat_map(|(room, entries)| entries.iter().map(move |(number, held)| (room, *number, held)))
    }

    fn of<'a>(&'a self, room: &'a RoomId, user: &UserId) -> impl Iterator<Item = &'a RoomEntry> {
        self.of_user.get(user).into_iter().flatten().filter_map(|number| self.get(room, *number))
    }

    fn get(&self, room: &RoomId, number: u64) -> Option<&RoomEntry> {
        self.rooms.get(room)?.get(&number)
    }
}

/// What is wanted.
impl RoomEntries {
    /// Wants a socket of `user` to be in a room. If it is there already, the writer asks once more where the room is. An
    /// earlier receiver for the same entry ends.
    pub(super) fn enter(
        &mut self,
        room: &RoomId,
        number: u64,
        user: &UserId,
        now: Timestamp,
    ) -> oneshot::Receiver<EnteredAt> {
        let name = (room.clone(), number);
        if !self.is_known(room, number) {
            self.add(&name, user, Entry::new(), now);
        }
        let life = self.next_life();
        self.change(&name, |held| held.want_again(life, now));
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(name.clone(), sender);
        self.enqueue(&name);
        self.drop_forgotten();
        receiver
    }

    /// A socket leaves a room. It takes no other entry along.
    pub(super) fn leave(&mut self, room: &RoomId, number: u64) {
        self.lower(&(room.clone(), number), Wanted::Removed(OfflineReason::Left));
    }

    /// Lowers what is wanted of each entry of a socket.
    pub(super) fn lower_all(&mut self, number: u64, wanted: Wanted) {
        for room in self.of_socket.get(&number).cloned().unwrap_or_default() {
            self.lower(&(room, number), wanted);
        }
    }

    /// The entries of the socket are in grace until then.
    pub(super) fn begin_grace(&mut self, number: u64, until: Instant) {
        if self.of_socket.contains_key(&number) {
            self.graces.push(until, number);
        }
    }

    /// Ends the graces that are over. Returns the time at which the next grace ends.
    pub(super) fn end_due_graces(&mut self, now: Instant) -> Option<Instant> {
        while let Some(number) = self.graces.pop_due(now) {
            self.end_graces(&[number]);
        }
        self.graces.next_end()
    }

    /// Removes the entries of these sockets that are in grace.
    pub(super) fn end_graces(&mut self, numbers: &[u64]) {
        self.end_graces_if(numbers, |_| true);
    }

    /// The user went offline with transition `revision` of the service. What was in grace before has gone with the user.
    /// Returns whether there are orders.
    pub(super) fn observe_service_departure(&mut self, user: &UserId, revision: u64) -> bool {
        self.end_graces_if(&self.sockets_of(user), |held| held.entry.joined_before(revision))
    }

    /// The user left a room at `position`. The user's entries in grace there went too. The node asserts the other entries
    /// again. Returns whether there are orders.
    pub(super) fn observe_departure(&mut self, room: &RoomId, user: &UserId, position: RoomPosition) -> bool {
        let mut has_orders = false;
        for number in self.sockets_of(user) {
            let Some(held) = self.get(room, number) else { continue };
            let name = (room.clone(), number);
            match held.entry.grace() {
                Some(reason) if held.entered_before(position) => self.lower(&name, Wanted::Removed(reason)),
                None if held.was_held_before(position) => self.forget_confirmation(&name),
                _ => continue,
            }
            has_orders = true;
        }
        has_orders
    }

    /// The node no longer knows what the store holds of an entry: it asserts the entry again.
    pub(super) fn forget_confirmation(&mut self, name: &Name) {
        self.change(name, |held| held.entry.forget_confirmation());
        self.enqueue(name);
    }

    /// The node no longer knows what the store holds of any entry.
    pub(super) fn forget_confirmations(&mut self) {
        let names: Vec<Name> = self.all().map(|(room, number, _)| (room.clone(), number)).collect();
        names.iter().for_each(|name| self.forget_confirmation(name));
        self.queue.begin_assertion();
    }

    /// The store does not hold an entry: the node asserts it again.
    pub(super) fn lose(&mut self, name: &Name) {
        self.change(name, |held| held.entry.lose());
        self.enqueue(name);
    }

    /// Takes in an entry that only the store knows, to remove it from the store.
    pub(super) fn adopt_for_removal(&mut self, name: &Name, user: &UserId) {
        self.add(name, user, Entry::foreign(), Timestamp(0));
        self.enqueue(name);
    }

    fn lower(&mut self, name: &Name, wanted: Wanted) {
        let is_late = self.queue.defers_departures();
        let Some(Some(next)) = self.change(name, |held| held.lower(wanted, is_late)) else { return };
        self.waiting.remove(name);
        if next == Next::Forget {
            self.forget(name);
        } else {
            self.enqueue(name);
        }
    }

    fn end_graces_if(&mut self, numbers: &[u64], ends: impl Fn(&RoomEntry) -> bool) -> bool {
        let mut any = false;
        for number in numbers {
            for room in self.of_socket.get(number).cloned().unwrap_or_default() {
                if let Some(held) = self.get(&room, *number)
                    && let Some(reason) = held.entry.grace()
                    && ends(held)
                {
                    self.lower(&(room, *number), Wanted::Removed(reason));
                    any = true;
                }
            }
        }
        any
    }
}

/// The orders.
impl RoomEntries {
    /// Takes the next entry with something to do out of the queue: its name, its user and what is asked of the store. The
    /// order is in flight from now on.
    pub(super) fn next_order(&mut self) -> Option<(Name, UserId, Intent)> {
        while let Some((name, life)) = self.queue.pop() {
            let Some(held) = self.get(&name.0, name.1).filter(|held| held.life == life) else { continue };
            if matches!(held.entry.next(), Next::Leave | Next::Remove(_)) && self.queue.defer((name.clone(), life)) {
                // The entry stays `queued`, so that it waits there only once.
                continue;
            }
            if let Some((user, intent)) = self.send(&name) {
                return Some((name, user, intent));
            }
        }
        None
    }

    /// Takes in the outcome of an order. A session that waits for the join gets the positions.
    pub(super) fn settle(&mut self, name: &Name, intent: &Intent, outcome: Option<Outcome>) {
        let is_joined = self.change(name, |held| held.settle(intent, outcome)).unwrap_or(false);
        if is_joined
            && let Some(Outcome::Done { position, room, .. }) = outcome
            && let Some(waiter) = self.waiting.remove(name)
        {
            // The session may have ended meanwhile.
            let _ = waiter.send((position, room));
        }
        self.enqueue(name);
    }

    /// Begins an assertion: it covers the entries that are due at this moment.
    pub(super) fn begin_assertion(&mut self) {
        self.queue.begin_assertion();
    }

    /// Whether the entries that the assertion covers are all taken out. Deferred departures do not count.
    pub(super) fn has_asserted(&self) -> bool {
        self.queue.has_asserted()
    }

    /// From now on, departures are deferred. A goodbye that waits takes no other entries along.
    pub(super) fn defer_departures(&mut self) {
        self.queue.defer_departures();
        for held in self.rooms.values_mut().flat_map(HashMap::values_mut) {
            held.entry.postpone_goodbye();
        }
    }

    /// Departures are not deferred any more. The entries that waited are due.
    pub(super) fn release_departures(&mut self) {
        for (name, life) in self.queue.release_departures() {
            if self.get(&name.0, name.1).is_some_and(|held| held.life == life) {
                self.change(&name, |held| held.queued = false);
                self.enqueue(&name);
            }
        }
    }

    fn send(&mut self, name: &Name) -> Option<(UserId, Intent)> {
        let (next, user, since) = self.change(name, |held| {
            held.queued = false;
            (held.entry.next(), held.user.clone(), held.since)
        })?;
        let intent = match next {
            // A room knows neither statements nor devices, nor whether a socket is idle.
            Next::Nothing | Next::MarkIdle(_) => return None,
            Next::Forget => {
                self.forget(name);
                return None;
            }
            Next::Join => Intent::Join(Join { presence: Presence::default(), idle: false, device: None, since }),
            Next::MarkGrace => Intent::Grace,
            Next::Leave => Intent::Leave,
            Next::Remove(reason) => Intent::Remove(reason),
        };
        self.change(name, |held| held.entry.send());
        Some((user, intent))
    }

    /// The writer must look at the entry. If an order is in flight, [`RoomEntries::settle`] does this later.
    fn enqueue(&mut self, name: &Name) {
        let due = self.change(name, |held| {
            let is_due = !held.queued && !held.entry.is_in_flight();
            held.queued |= is_due;
            is_due.then_some(held.life)
        });
        if let Some(Some(life)) = due {
            self.queue.push((name.clone(), life));
        }
    }
}

/// What is kept in several places.
impl RoomEntries {
    /// Changes an entry. Whatever changes one does it here, because the tally must follow.
    fn change<T>(&mut self, (room, number): &Name, change: impl FnOnce(&mut RoomEntry) -> T) -> Option<T> {
        let held = self.rooms.get_mut(room)?.get_mut(number)?;
        let before = held.entry.confirmed();
        let result = change(held);
        self.confirmed.remove(before);
        self.confirmed.add(held.entry.confirmed());
        Some(result)
    }

    fn add(&mut self, name: &Name, user: &UserId, entry: Entry, since: Timestamp) {
        let (room, number) = name;
        let life = self.next_life();
        self.n_entries += 1;
        self.confirmed.add(entry.confirmed());
        let held = RoomEntry::new(user.clone(), entry, since, life);
        self.rooms.entry(room.clone()).or_default().insert(*number, held);
        self.of_socket.entry(*number).or_default().push(room.clone());
        let sockets = self.of_user.entry(user.clone()).or_default();
        if !sockets.contains(number) {
            sockets.push(*number);
        }
    }

    fn forget(&mut self, name: &Name) {
        let (room, number) = name;
        let Some(entries) = self.rooms.get_mut(room) else { return };
        let Some(held) = entries.remove(number) else { return };
        if entries.is_empty() {
            self.rooms.remove(room);
        }
        self.n_entries -= 1;
        self.confirmed.remove(held.entry.confirmed());
        self.waiting.remove(name);
        remove_from(&mut self.of_socket, number, room);
        // A hand may have written that a socket belongs to two users.
        let mut others = self.of_socket.get(number).into_iter().flatten().filter_map(|other| self.get(other, *number));
        if !others.any(|other| other.user == held.user) {
            remove_from(&mut self.of_user, &held.user, number);
        }
        self.drop_forgotten();
    }

    fn drop_forgotten(&mut self) {
        let rooms = &self.rooms;
        self.queue.drop_forgotten(self.n_entries, |((room, number), life)| {
            let held = rooms.get(room).and_then(|entries| entries.get(number));
            held.is_some_and(|held| held.life == *life)
        });
    }

    fn next_life(&mut self) -> u64 {
        self.last_life += 1;
        self.last_life
    }
}

/// Takes a value out of the list under a key.
fn remove_from<K: Hash + Eq, V: PartialEq>(lists: &mut HashMap<K, Vec<V>>, key: &K, value: &V) {
    let Some(list) = lists.get_mut(key) else { return };
    list.retain(|other| other != value);
    if list.is_empty() {
        lists.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of an entry in several places must agree.
    impl RoomEntries {
        pub(in crate::node::table) fn check(&self, is_socket_wanted: impl Fn(u64) -> bool) {
            let mut counted = Tally::default();
            for (room, entries) in &self.rooms {
                assert!(!entries.is_empty(), "an empty room stays");
                for (number, held) in entries {
                    counted.add(held.entry.confirmed());
                    assert!(self.of_socket[number].contains(room) && self.of_user[&held.user].contains(number));
                    assert!(!held.entry.is_wanted() || is_socket_wanted(*number), "{number} in {room} is not wanted");
                }
            }
            assert_eq!(self.confirmed, counted);
            assert_eq!(self.rooms.values().map(HashMap::len).sum::<usize>(), self.n_entries);
            assert_eq!(self.of_socket.values().map(Vec::len).sum::<usize>(), self.n_entries);
            let of_users = self.of_user.values().flatten();
            assert!(
                of_users.clone().all(|number| self.of_socket.contains_key(number)),
                "a user has a forgotten socket"
            );
            assert_eq!(of_users.count(), self.of_socket.len());
            assert!(self.waiting.keys().all(|(room, number)| self.is_known(room, *number)), "a session waits in vain");
        }

        /// Number of entries that are due, with those that are forgotten.
        pub(in crate::node::table) fn n_due(&self) -> usize {
            self.queue.n_due()
        }
    }
}
