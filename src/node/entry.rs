//! One socket's entry in a scope: what the node wants of it, what the store has confirmed, and what the node must do
//! next.
//!
//! This file is pure: it has no clock, no store and no queue. [`super::Table`] holds the entries, and the writer drives
//! them.

use crate::domain::OfflineReason;
use crate::store::{Intent, Outcome};

/// The state machine of one entry.
///
/// Invariant: while an order is in flight, the entry gives no other order. So the store hears the wishes in their order
/// (test: `an_entry_ends_up_as_it_is_wanted_whatever_is_lost`).
#[derive(Debug)]
pub(super) struct Entry {
    wanted: Wanted,
    confirmed: Confirmed,
    in_flight: bool,
    /// Whether the outcome of the order in flight cannot be relied on. After the order was sent, the node learned that
    /// the store may hold something else.
    is_doubted: bool,
    /// Revision of the reply to the first join. It is 0 before that reply. A later join only repeats the first one.
    joined_at: u64,
}

/// What is wanted of an entry. A wish only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The entry is to be there.
    Present,
    /// The entry is to be there, with a mark: its connection broke, for this reason.
    Grace(OfflineReason),
    /// The entry is to be gone, because the client said so.
    Left,
    /// The entry is to be gone, for this reason.
    Removed(OfflineReason),
}

/// What the store holds of an entry, as far as this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmed {
    /// Nothing. The store has never heard of the entry, or has removed it.
    Absent,
    /// The entry.
    Present,
    /// The entry, with the mark.
    Grace,
    /// Not known. An outcome was not heard, or the store lost its data.
    Unknown,
}

/// What the node must do about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing. The store holds what is wanted, or an order is in flight.
    Nothing,
    /// The node forgets the entry: neither the node nor the store wants it.
    Forget,
    /// An order that asserts it.
    Join,
    /// An order that marks it.
    Mark,
    /// An order that takes the entry out of the store. It also takes out what [`Intent::Leave`] names.
    Leave,
    /// An order that takes only this entry out of the store.
    Remove(OfflineReason),
}

impl Entry {
    /// An entry that is wanted. The store has never heard of it.
    pub(super) fn new() -> Self {
        Self {
            wanted: Wanted::Present,
            confirmed: Confirmed::Absent,
            in_flight: false,
            is_doubted: false,
            joined_at: 0,
        }
    }

    /// An entry that only the store knows. It is to be removed from the store.
    pub(super) fn foreign() -> Self {
        let wanted = Wanted::Removed(OfflineReason::ConnectionLost);
        Self { wanted, confirmed: Confirmed::Unknown, in_flight: false, is_doubted: false, joined_at: 0 }
    }

    /// Whether the entry is wanted. An entry in grace does not count.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted == Wanted::Present
    }

    /// What the store holds of the entry, as far as this node knows.
    pub(super) fn confirmed(&self) -> Confirmed {
        self.confirmed
    }

    /// Whether an order is in flight.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// Why the connection broke, if the entry is in grace.
    pub(super) fn grace(&self) -> Option<OfflineReason> {
        match self.wanted {
            Wanted::Grace(reason) => Some(reason),
            Wanted::Present | Wanted::Left | Wanted::Removed(_) => None,
        }
    }

    /// Whether the store joined the entry before transition `revision`.
    pub(super) fn joined_before(&self, revision: u64) -> bool {
        self.joined_at > 0 && self.joined_at < revision
    }

    /// Whether the entry is wanted and the store held it before transition `revision`, as far as this node knows.
    pub(super) fn was_held_before(&self, revision: u64) -> bool {
        self.is_wanted()
            && match self.confirmed {
                Confirmed::Present => self.joined_at <= revision,
                Confirmed::Unknown => true,
                Confirmed::Absent | Confirmed::Grace => false,
            }
    }

    /// Lowers what is wanted.
    pub(super) fn want(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    /// A goodbye that is driven late takes no other sockets along, because the user may have come back since.
    pub(super) fn postpone_goodbye(&mut self) {
        if self.wanted == Wanted::Left {
            self.wanted = Wanted::Removed(OfflineReason::Left);
        }
    }

    /// The node no longer knows what the store holds.
    pub(super) fn forget_confirmation(&mut self) {
        self.confirmed = Confirmed::Unknown;
        self.is_doubted = self.in_flight;
    }

    /// The store does not hold the entry.
    pub(super) fn lose(&mut self) {
        self.confirmed = Confirmed::Absent;
    }

    /// What the node must do so that the store holds what is wanted.
    pub(super) fn next(&self) -> Next {
        if self.in_flight {
            return Next::Nothing;
        }
        match (self.wanted, self.confirmed) {
            (Wanted::Present, Confirmed::Present) => Next::Nothing,
            (Wanted::Present, Confirmed::Absent | Confirmed::Grace | Confirmed::Unknown) => Next::Join,
            (Wanted::Grace(_), Confirmed::Present | Confirmed::Unknown) => Next::Mark,
            (Wanted::Grace(_), Confirmed::Absent | Confirmed::Grace) => Next::Nothing,
            (Wanted::Left | Wanted::Removed(_), Confirmed::Absent) => Next::Forget,
            (Wanted::Left, _) => Next::Leave,
            (Wanted::Removed(reason), _) => Next::Remove(reason),
        }
    }

    /// The order for the entry is sent.
    pub(super) fn send(&mut self) {
        self.in_flight = true;
    }

    /// Takes in the outcome of the order in flight. `None` says that the outcome is unknown. `is_outdated` says that
    /// the user has a newer profile than the join carried. Returns whether the store holds the entry as joined.
    pub(super) fn settle(&mut self, intent: &Intent, outcome: Option<Outcome>, is_outdated: bool) -> bool {
        self.in_flight = false;
        let is_doubted = std::mem::take(&mut self.is_doubted);
        match outcome {
            Some(Outcome::Done { position, .. }) => {
                self.confirmed = match intent {
                    // The writer sends the join once more, with the newer profile.
                    Intent::Join(_) if is_outdated || is_doubted => Confirmed::Unknown,
                    Intent::Join(_) => Confirmed::Present,
                    Intent::Grace => Confirmed::Grace,
                    Intent::Leave | Intent::Remove(_) => Confirmed::Absent,
                };
                if matches!(intent, Intent::Join(_)) && self.joined_at == 0 {
                    self.joined_at = position.revision;
                }
            }
            // A refusal changed nothing, so the confirmed state stays. The beat that follows says whether that state
            // still holds.
            Some(Outcome::Refused(_)) => {}
            None => self.confirmed = Confirmed::Unknown,
        }
        self.confirmed == Confirmed::Present
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Position, Presence, Timestamp};
    use crate::store::Refusal;

    /// What can happen to an entry and its order.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        Want(Wanted),
        Look,
        /// The store carries out the order in flight or not. The node hears the outcome or not.
        Settle {
            carried_out: bool,
            heard: bool,
        },
        Refuse,
        /// The store loses its data, and the node notices.
        LoseData,
    }

    fn event() -> impl Strategy<Value = Event> {
        let reason = OfflineReason::ConnectionLost;
        prop_oneof![
            1 => prop::sample::select(vec![Wanted::Grace(reason), Wanted::Left, Wanted::Removed(reason)]).prop_map(Event::Want),
            4 => Just(Event::Look),
            4 => any::<(bool, bool)>().prop_map(|(carried_out, heard)| Event::Settle { carried_out, heard }),
            1 => Just(Event::Refuse),
            1 => Just(Event::LoseData),
        ]
    }

    fn rank(wanted: Wanted) -> u8 {
        match wanted {
            Wanted::Present => 0,
            Wanted::Grace(_) => 1,
            Wanted::Left | Wanted::Removed(_) => 2,
        }
    }

    /// What the store holds of this entry.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Held {
        Not,
        Plain,
        Marked,
    }

    struct World {
        entry: Entry,
        held: Held,
        order: Option<Intent>,
    }

    impl World {
        fn look(&mut self) {
            let intent = match self.entry.next() {
                Next::Nothing | Next::Forget => return,
                Next::Join => Intent::Join(Presence::default()),
                Next::Mark => Intent::Grace,
                Next::Leave => Intent::Leave,
                Next::Remove(reason) => Intent::Remove(reason),
            };
            assert!(self.order.is_none(), "one order at a time");
            self.entry.send();
            self.order = Some(intent);
        }

        fn settle(&mut self, carried_out: bool, heard: bool) {
            let Some(intent) = self.order.take() else { return };
            // The node can only hear the outcome of an order that was carried out.
            if carried_out || heard {
                self.held = match (&intent, self.held) {
                    (Intent::Join(_), Held::Not) => Held::Plain,
                    (Intent::Join(_), held) => held,
                    (Intent::Grace, Held::Not) => Held::Not,
                    (Intent::Grace, _) => Held::Marked,
                    (Intent::Leave | Intent::Remove(_), _) => Held::Not,
                };
            }
            let position = Position { epoch: 1, revision: 1 };
            let outcome = heard.then_some(Outcome::Done { position, profile_at: Some(Timestamp(1)) });
            self.entry.settle(&intent, outcome, false);
        }

        fn happen(&mut self, event: Event) {
            match event {
                Event::Want(wanted) if rank(wanted) > rank(self.entry.wanted) => self.entry.want(wanted),
                Event::Want(_) => {}
                Event::Look => self.look(),
                Event::Settle { carried_out, heard } => self.settle(carried_out, heard),
                Event::Refuse => {
                    if let Some(intent) = self.order.take() {
                        self.entry.settle(&intent, Some(Outcome::Refused(Refusal::NoLease)), false);
                    }
                }
                Event::LoseData if self.order.is_none() => {
                    self.held = Held::Not;
                    self.entry.forget_confirmation();
                }
                Event::LoseData => {}
            }
        }
    }

    proptest! {
        #[test]
        fn an_entry_ends_up_as_it_is_wanted_whatever_is_lost(events in prop::collection::vec(event(), 0..40)) {
            let mut world = World { entry: Entry::new(), held: Held::Not, order: None };
            for event in events {
                world.happen(event);
            }
            for _ in 0..3 {
                world.settle(true, true);
                world.look();
            }
            let expected: &[Held] = match world.entry.wanted {
                Wanted::Present => &[Held::Plain],
                // An entry that the store never had, or lost, is not brought back to be marked.
                Wanted::Grace(_) => &[Held::Marked, Held::Not],
                Wanted::Left | Wanted::Removed(_) => &[Held::Not],
            };
            prop_assert!(expected.contains(&world.held), "{:?} {:?}", world.entry, world.held);
            prop_assert!(matches!(world.entry.next(), Next::Nothing | Next::Forget));
        }
    }

    #[test]
    fn a_goodbye_that_is_postponed_takes_nobody_along() {
        let mut entry = Entry::new();
        entry.forget_confirmation();
        entry.want(Wanted::Left);
        assert_eq!(entry.next(), Next::Leave);
        entry.postpone_goodbye();
        assert_eq!(entry.next(), Next::Remove(OfflineReason::Left));
    }
}
