//! Compares open rooms with the store. A view follows what is published. If somebody publishes something by hand, or deletes
//! members by hand, no transition puts the view right. So each room is compared once in a while.

use std::collections::{HashMap, HashSet};

use crate::domain::{RoomId, RoomPosition};
use crate::store::RoomHead;

/// The comparisons that are under way. A room whose view proves to be wrong is to be read anew.
///
/// The store is asked at one moment, and the view is looked at before that. So three things can differ:
/// - The view is *ahead*: it has transitions that the store has never made. This is wrong at once.
/// - The view is *behind*: the missing transitions may be under way. It is wrong if they have not come two beats later.
/// - The *number of members* is another one at the same position. Somebody may have deleted a member by hand whose node writes
///   that again within one round. So it is wrong if the next round finds it, too.
#[derive(Debug, Default)]
pub(super) struct RoomChecks {
    /// What the views knew of the rooms that the store was asked about.
    asked: HashMap<RoomId, RoomHead>,
    awaited: HashMap<RoomId, Awaited>,
    /// The rooms with another number of members in the last round.
    uneven: HashSet<RoomId>,
}

/// The store is ahead of a view.
#[derive(Debug)]
struct Awaited {
    /// Where the view was.
    from: RoomPosition,
    /// Where the store is.
    to: RoomPosition,
    /// So many beats are still to come.
    n_beats: u8,
}

/// After so many beats, what was under way has come: between the two is a whole beat.
const AWAITED_BEATS: u8 = 2;

impl RoomChecks {
    /// The store is about to be asked about a room. `known` is what the view knows now.
    pub(super) fn ask(&mut self, room: &RoomId, known: RoomHead) {
        self.asked.insert(room.clone(), known);
    }

    /// The store has answered. Returns whether the view is wrong. A room that was read meanwhile is not compared.
    pub(super) fn answer(&mut self, room: &RoomId, stored: RoomHead) -> bool {
        let Some(known) = self.asked.remove(room) else { return false };
        let (from, to) = (known.position, stored.position);
        if from.birth == to.birth && from.revision > to.revision {
            return true;
        }
        // Nobody is there, or the head was deleted by hand: then only the members say something.
        if from != to && to.birth > 0 {
            self.awaited.insert(room.clone(), Awaited { from, to, n_beats: AWAITED_BEATS });
            return false;
        }
        if known.n_members == stored.n_members {
            self.uneven.remove(room);
            return false;
        }
        !self.uneven.insert(room.clone())
    }

    /// The node has beaten. Returns the rooms whose view is wrong. `position` is where the view of a room is now.
    pub(super) fn count_beat(&mut self, position: impl Fn(&RoomId) -> RoomPosition) -> Vec<RoomId> {
        let mut wrong = Vec::new();
        self.awaited.retain(|room, awaited| {
            awaited.n_beats -= 1;
            if awaited.n_beats == 0 && !awaited.has_come(position(room)) {
                wrong.push(room.clone());
            }
            awaited.n_beats > 0
        });
        wrong
    }

    /// A room is read anew, or is closed. What was found of it does not count any more.
    pub(super) fn forget(&mut self, room: &RoomId) {
        self.asked.remove(room);
        self.awaited.remove(room);
        self.uneven.remove(room);
    }

    /// All rooms are read anew.
    pub(super) fn start_over(&mut self) {
        *self = Self::default();
    }
}

impl Awaited {
    /// Whether a view at `position` has what it lacked. In a birth that began later it does.
    fn has_come(&self, position: RoomPosition) -> bool {
        if position.birth == self.to.birth {
            position.revision >= self.to.revision
        } else {
            position.birth != self.from.birth
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> RoomId {
        RoomId::parse("r").unwrap()
    }

    fn head(birth: u64, revision: u64, n_members: u64) -> RoomHead {
        RoomHead { position: RoomPosition { birth, revision }, n_members }
    }

    /// Whether a view is found to be wrong. The last is where it is at each beat after that.
    fn is_wrong(known: RoomHead, stored: RoomHead, later: &[RoomHead]) -> bool {
        let mut checks = RoomChecks::default();
        checks.ask(&room(), known);
        let is_wrong = checks.answer(&room(), stored);
        let found = later.iter().map(|later| !checks.count_beat(|_| later.position).is_empty());
        found.fold(is_wrong, |is_wrong, found| is_wrong || found)
    }

    #[test]
    fn a_view_that_is_ahead_is_wrong_at_once() {
        assert!(is_wrong(head(1, 3, 2), head(1, 2, 2), &[]));
        assert!(!is_wrong(head(1, 3, 2), head(1, 3, 2), &[]));
        assert!(!is_wrong(head(0, 0, 0), head(0, 0, 0), &[]));
    }

    #[test]
    fn a_view_that_is_behind_has_two_beats_to_arrive() {
        let (known, stored) = (head(1, 3, 2), head(1, 5, 4));
        assert!(!is_wrong(known, stored, &[known]));
        assert!(is_wrong(known, stored, &[known, head(1, 4, 3)]));
        for arrived in [stored, head(1, 6, 3), head(2, 1, 1)] {
            assert!(!is_wrong(known, stored, &[known, arrived, known]), "{arrived:?}");
        }
        // The room was emptied and filled again.
        let reborn = head(2, 2, 2);
        assert!(is_wrong(known, reborn, &[known, known]));
        assert!(is_wrong(known, reborn, &[known, head(1, 5, 0)]));
        assert!(is_wrong(known, reborn, &[known, head(2, 1, 1)]));
        for arrived in [reborn, head(2, 7, 5), head(3, 1, 1)] {
            assert!(!is_wrong(known, reborn, &[known, arrived]), "{arrived:?}");
        }
    }

    #[test]
    fn another_number_of_members_is_wrong_if_two_rounds_find_it() {
        for stored in [head(1, 3, 1), head(1, 3, 3), head(0, 0, 0), head(0, 0, 1)] {
            let (mut checks, known) = (RoomChecks::default(), head(1, 3, 2));
            let mut compare = |stored| {
                checks.ask(&room(), known);
                checks.answer(&room(), stored)
            };
            assert!(!compare(stored), "its node may write it again: {stored:?}");
            assert!(!compare(known), "it has");
            assert!(!compare(stored));
            assert!(!compare(head(1, 4, 2)), "something else is under way");
            assert!(compare(stored), "{stored:?}");
        }
        assert!(
            !is_wrong(head(1, 3, 2), head(0, 0, 2), &[head(1, 3, 2); 2]),
            "its head was deleted, and nobody has left"
        );
    }

    #[test]
    fn what_was_found_of_a_room_that_is_read_anew_does_not_count() {
        let mut checks = RoomChecks::default();
        let known = head(1, 3, 2);
        checks.ask(&room(), known);
        checks.forget(&room());
        assert!(!checks.answer(&room(), head(1, 2, 2)));
        checks.ask(&room(), known);
        assert!(!checks.answer(&room(), head(1, 9, 2)));
        checks.forget(&room());
        assert_eq!([(); 2].map(|()| checks.count_beat(|_| known.position)), [[], []]);
        checks.ask(&room(), known);
        assert!(!checks.answer(&room(), head(1, 3, 1)));
        checks.start_over();
        checks.ask(&room(), known);
        assert!(!checks.answer(&room(), head(1, 3, 1)));
    }
}
