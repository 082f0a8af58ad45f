//! The entry of one socket in one room.

use crate::domain::{RoomPosition, Timestamp, UserId};
use crate::node::entry::{Confirmed, Entry, Next, Wanted};
use crate::store::{Intent, Outcome};

/// The entry of one socket in one room.
pub(super) struct RoomEntry {
    /// The user of the socket.
    pub(super) user: UserId,
    /// What is wanted of the entry, and what the store holds of it.
    pub(super) entry: Entry,
    /// Since when the socket is in the room, by the store's clock as far as this node knew it.
    pub(super) since: Timestamp,
    /// Where the room was after the first join in this birth of the room.
    pub(super) entered_at: RoomPosition,
    /// A socket may leave a room and enter it again. Then the entry begins another life. What the queue has of a former
    /// life does not count.
    pub(super) life: u64,
    /// Whether this life is in the queue, due or deferred.
    pub(super) queued: bool,
}

impl RoomEntry {
    /// An entry that is not in the queue.
    pub(super) fn new(user: UserId, entry: Entry, since: Timestamp, life: u64) -> Self {
        Self { user, entry, since, entered_at: RoomPosition::default(), life, queued: false }
    }

    /// The entry is wanted, whatever was wanted before. If it was to go, it begins another life.
    pub(super) fn want_again(&mut self, life: u64, now: Timestamp) {
        if !self.entry.is_wanted() {
            (self.life, self.queued) = (life, false);
            (self.since, self.entered_at) = (now, RoomPosition::default());
        }
        self.entry.want_again();
    }

    /// Lowers what is wanted, unless the entry is to go already. A goodbye that is late takes nobody along. Returns what
    /// the node must do then.
    pub(super) fn lower(&mut self, wanted: Wanted, is_late: bool) -> Option<Next> {
        if !self.entry.is_open() {
            return None;
        }
        self.entry.want(wanted);
        if is_late {
            self.entry.postpone_goodbye();
        }
        Some(self.entry.next())
    }

    /// Takes in the outcome of the order in flight. Returns whether the store holds the entry as joined.
    pub(super) fn settle(&mut self, intent: &Intent, outcome: Option<Outcome>) -> bool {
        let is_joined = self.entry.settle(intent, outcome);
        if let (Intent::Join(_), Some(Outcome::Done { room: Some(at), .. })) = (intent, outcome)
            && at.birth != self.entered_at.birth
        {
            self.entered_at = at;
        }
        is_joined
    }

    /// Whether the store joined the entry before the room was at `position`.
    pub(super) fn entered_before(&self, position: RoomPosition) -> bool {
        self.entered_at.birth > 0 && in_order(self.entered_at) < in_order(position)
    }

    /// Whether the entry is wanted and the store held it before the room was at `position`, as far as this node knows.
    pub(super) fn was_held_before(&self, position: RoomPosition) -> bool {
        self.entry.is_wanted()
            && match self.entry.confirmed() {
                Confirmed::Present => in_order(self.entered_at) <= in_order(position),
                Confirmed::Unknown => true,
                Confirmed::Absent | Confirmed::Grace => false,
            }
    }
}

/// A birth is a time, so a later birth has a higher number. If the clock of the store was set back, it has not. Then an
/// entry is asserted once too often, or it is found when its keys are refreshed.
fn in_order(position: RoomPosition) -> (u64, u64) {
    (position.birth, position.revision)
}
