//! The events of rooms that one worker took in a moment ago.

use super::mailbox::EncodedRoomEvent;
use crate::domain::RoomId;

/// The events of rooms that were taken in since the hub's own task ran last.
///
/// A session reads the views at one moment, and begins to hear rooms a little later, in the same turn of its thread. Between
/// the two, it may have taken in events of rooms that nobody heard yet. They are here.
#[derive(Default)]
pub(super) struct Recent {
    since: u64,
    events: Vec<EncodedRoomEvent>,
}

/// How many events are kept. A session that begins to hear a room meanwhile, with more of them since it read the views, starts
/// over.
const RECENT_MAX: usize = 1024;

impl Recent {
    /// Takes in the next event.
    pub(super) fn push(&mut self, event: &EncodedRoomEvent) {
        if self.events.len() == RECENT_MAX {
            self.forget_up_to(event.sequence);
        } else {
            self.events.push(event.clone());
        }
    }

    /// No session needs what came up to `sequence`, or some of it is missing.
    pub(super) fn forget_up_to(&mut self, sequence: u64) {
        self.since = sequence;
        self.events.clear();
        self.events.shrink_to(RECENT_MAX / 16);
    }

    /// All events after this one are here.
    pub(super) fn since(&self) -> u64 {
        self.since
    }

    /// The events of one room, in order.
    pub(super) fn of<'a>(&'a self, room: &'a RoomId) -> impl Iterator<Item = &'a EncodedRoomEvent> {
        self.events.iter().filter(move |event| event.room == *room)
    }
}
