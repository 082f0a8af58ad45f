//! What is to be done about the rooms that this node has opened.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::clock;
use crate::domain::{RoomId, Timestamp};

/// Which rooms are to be subscribed to, and which are to be read. A room is read only after it was subscribed to, so that
/// nothing is missed between the two. It is in at most one reading at a time.
#[derive(Debug, Default)]
pub(super) struct RoomAgenda {
    to_subscribe: BTreeSet<RoomId>,
    due: VecDeque<RoomId>,
    /// The rooms in `due`.
    queued: HashSet<RoomId>,
    /// The rooms that are being read, and whether each is to be read once more after that.
    reading: HashMap<RoomId, bool>,
    /// Since when each of all these has not followed the store.
    unsettled: HashMap<RoomId, Timestamp>,
    /// How often rooms were subscribed to.
    n_subscribed: u64,
}

/// How many rooms are read at once. A few hide the time that Redis takes to answer. Each call of a reading takes a
/// connection of the pool, and others need these, too.
pub(super) const READINGS: usize = 8;

/// How many rooms are subscribed to at once. It bounds the time in which nothing else is done.
const SUBSCRIBE: usize = 1000;

impl RoomAgenda {
    /// A room was opened: it is to be subscribed to and read.
    pub(super) fn open(&mut self, room: &RoomId) {
        self.unsettle(room);
        self.to_subscribe.insert(room.clone());
    }

    /// The rooms to subscribe to next.
    pub(super) fn to_subscribe(&self) -> Vec<RoomId> {
        self.to_subscribe.iter().take(SUBSCRIBE).cloned().collect()
    }

    /// The rooms that could not be subscribed to for that long.
    pub(super) fn unsubscribed_for(&self, time: Duration) -> Vec<RoomId> {
        let is_late = |since: Timestamp| since.until(clock::now()) > time;
        self.to_subscribe.iter().filter(|room| self.unsettled_since(room).is_some_and(is_late)).cloned().collect()
    }

    /// Whether the room is still to be subscribed to.
    pub(super) fn is_unsubscribed(&self, room: &RoomId) -> bool {
        self.to_subscribe.contains(room)
    }

    /// How often rooms were subscribed to until now.
    pub(super) fn n_subscribed(&self) -> u64 {
        self.n_subscribed
    }

    /// These rooms are subscribed to now.
    pub(super) fn subscribed(&mut self, rooms: &[RoomId]) {
        self.n_subscribed += 1;
        for room in rooms {
            if self.to_subscribe.remove(room) {
                self.read(room);
            }
        }
    }

    /// A room is to be read. If it is being read, it is read once more after that.
    pub(super) fn read(&mut self, room: &RoomId) {
        self.unsettle(room);
        if let Some(again) = self.reading.get_mut(room) {
            *again = true;
        } else if !self.to_subscribe.contains(room) && self.queued.insert(room.clone()) {
            self.due.push_back(room.clone());
        }
    }

    /// Whether a room is to be subscribed to or to be read.
    pub(super) fn has_work(&self) -> bool {
        !self.to_subscribe.is_empty() || !self.due.is_empty()
    }

    /// Whether the room follows the store: it is subscribed to, and need not be read.
    pub(super) fn is_settled(&self, room: &RoomId) -> bool {
        !self.unsettled.contains_key(room)
    }

    /// Since when the room has not followed the store, if it does not.
    pub(super) fn unsettled_since(&self, room: &RoomId) -> Option<Timestamp> {
        self.unsettled.get(room).copied()
    }

    fn unsettle(&mut self, room: &RoomId) {
        if !self.unsettled.contains_key(room) {
            self.unsettled.insert(room.clone(), clock::now());
        }
    }

    /// The next room to read. It counts as being read from now on.
    pub(super) fn begin_read(&mut self) -> Option<RoomId> {
        if self.reading.len() >= READINGS {
            return None;
        }
        let room = self.due.pop_front()?;
        self.queued.remove(&room);
        self.reading.insert(room.clone(), false);
        Some(room)
    }

    /// The reading of a room has ended. If it failed, the room is to be read again.
    pub(super) fn end_read(&mut self, room: &RoomId, has_failed: bool) {
        match self.reading.remove(room) {
            Some(again) if again || has_failed => self.read(room),
            Some(_) => _ = self.unsettled.remove(room),
            None => {}
        }
    }

    /// A room was closed. Nobody closes a room that is being read.
    pub(super) fn close(&mut self, room: &RoomId) {
        self.unsettled.remove(room);
        self.to_subscribe.remove(room);
        if self.queued.remove(room) {
            self.due.retain(|due| due != room);
        }
    }

    /// There is a new subscription, in which no room is open. Nothing is being read.
    pub(super) fn start_over<'a>(&mut self, rooms: impl Iterator<Item = &'a RoomId>) {
        let (unsettled, n_subscribed) = (std::mem::take(&mut self.unsettled), self.n_subscribed);
        *self = Self { to_subscribe: rooms.cloned().collect(), unsettled, n_subscribed, ..Self::default() };
        for room in self.to_subscribe.clone() {
            self.unsettle(&room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(n: usize) -> RoomId {
        RoomId::parse(&format!("r{n}")).unwrap()
    }

    #[test]
    fn a_room_is_read_after_it_was_subscribed_to_and_once_at_a_time() {
        let mut agenda = RoomAgenda::default();
        agenda.open(&room(1));
        agenda.read(&room(1));
        assert_eq!(agenda.begin_read(), None);
        agenda.subscribed(&agenda.to_subscribe());
        agenda.read(&room(1));
        assert_eq!(agenda.begin_read(), Some(room(1)));
        assert_eq!(agenda.begin_read(), None);
        agenda.read(&room(1));
        agenda.end_read(&room(1), false);
        assert!(!agenda.is_settled(&room(1)));
        assert_eq!(agenda.begin_read(), Some(room(1)));
        agenda.end_read(&room(1), true);
        assert_eq!(agenda.begin_read(), Some(room(1)));
        agenda.end_read(&room(1), false);
        assert_eq!(agenda.begin_read(), None);
        assert!(agenda.is_settled(&room(1)));
    }

    #[test]
    fn few_rooms_are_read_at_once_and_a_new_subscription_begins_with_all_of_them() {
        let mut agenda = RoomAgenda::default();
        let rooms: Vec<_> = (0..3 * READINGS).map(room).collect();
        rooms.iter().for_each(|room| agenda.open(room));
        agenda.subscribed(&rooms);
        assert_eq!(std::iter::from_fn(|| agenda.begin_read()).count(), READINGS);
        agenda.close(&room(READINGS));
        agenda.end_read(&room(0), false);
        assert_eq!(agenda.begin_read(), Some(room(READINGS + 1)));
        let since = agenda.unsettled_since(&room(1));
        agenda.start_over(rooms.iter());
        assert_eq!(agenda.begin_read(), None);
        assert_eq!(agenda.to_subscribe().len(), rooms.len());
        assert!(agenda.unsettled_since(&room(0)).is_some(), "it was settled before");
        assert_eq!(agenda.unsettled_since(&room(1)), since, "it has not followed the store since then");
        assert_eq!((agenda.n_subscribed(), agenda.unsubscribed_for(Duration::from_secs(60))), (1, Vec::new()));
        agenda.subscribed(&rooms[1..]);
        assert_eq!(agenda.n_subscribed(), 2);
        assert!(agenda.is_unsubscribed(&room(0)) && !agenda.is_unsubscribed(&room(1)));
        rooms.iter().for_each(|room| agenda.close(room));
        assert!(agenda.unsettled.is_empty());
    }
}
