//! One socket's entry in a scope: what the node wants of it, what the store has confirmed, and what the node must do
//! next.
//!
//! This file is pure: it has no clock, no store and no queue. [`super::Table`] holds the entries, and the writer drives
//! them.

use std::fmt;

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
    /// the store may hold something else, or the client said something new.
    is_doubted: bool,
    /// Whether the socket is idle.
    is_idle: bool,
    /// Whether the store has marked the socket as idle. It is none if this node does not know it, or must state it again.
    marked_idle: Option<bool>,
    /// Revision of the reply to the first join. It is 0 before that reply. A later join only repeats the first one.
    joined_at: u64,
}

/// What is wanted of an entry. A wish only ever moves down this list. There is one exception: a socket may leave a room and
/// enter it again ([`Entry::want_again`]).
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
    /// An order that marks it as idle, or as not idle.
    MarkIdle(bool),
    /// An order that marks it as in grace.
    MarkGrace,
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
            is_idle: false,
            marked_idle: None,
            joined_at: 0,
        }
    }

    /// An entry that only the store knows. It is to be removed from the store.
    pub(super) fn foreign() -> Self {
        let wanted = Wanted::Removed(OfflineReason::ConnectionLost);
        Self { wanted, confirmed: Confirmed::Unknown, ..Self::new() }
    }

    /// Whether the entry is wanted. An entry in grace does not count.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted == Wanted::Present
    }

    /// Whether the entry is wanted or in grace.
    pub(super) fn is_open(&self) -> bool {
        self.is_wanted() || self.grace().is_some()
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

    /// Whether the entry is wanted, and a join is or may be still to be carried out.
    pub(super) fn is_about_to_join(&self) -> bool {
        self.is_wanted() && (self.in_flight || self.confirmed != Confirmed::Present)
    }

    /// Lowers what is wanted.
    pub(super) fn want(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    /// The entry is wanted, whatever was wanted before. A join is or will be under way whose reply says where the scope is.
    pub(super) fn want_again(&mut self) {
        if self.is_about_to_join() {
            return;
        }
        if !self.is_wanted() {
            (self.wanted, self.joined_at) = (Wanted::Present, 0);
        }
        if self.in_flight || self.confirmed != Confirmed::Absent {
            self.forget_confirmation();
        }
    }

    /// Whether the socket is idle.
    pub(super) fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// The socket is idle, or is not idle any more.
    pub(super) fn set_idle(&mut self, is_idle: bool) {
        self.is_idle = is_idle;
    }

    /// The node must state again whether the socket is idle. The store may not have decided by it.
    pub(super) fn forget_idle_mark(&mut self) {
        self.marked_idle = None;
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
            (Wanted::Present, Confirmed::Present) if self.marked_idle != Some(self.is_idle) => {
                Next::MarkIdle(self.is_idle)
            }
            (Wanted::Present, Confirmed::Present) => Next::Nothing,
            (Wanted::Present, Confirmed::Absent | Confirmed::Grace | Confirmed::Unknown) => Next::Join,
            (Wanted::Grace(_), Confirmed::Present | Confirmed::Unknown) => Next::MarkGrace,
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

    /// Takes in the outcome of the order in flight. `None` says that the outcome is unknown. Returns whether the store
    /// holds the entry as joined.
    pub(super) fn settle(&mut self, intent: &Intent, outcome: Option<Outcome>) -> bool {
        self.in_flight = false;
        let is_doubted = std::mem::take(&mut self.is_doubted);
        match outcome {
            Some(Outcome::Done { position, .. }) => {
                self.confirmed = match intent {
                    // The writer sends a join once more. If the client said something meanwhile, the join carries it.
                    Intent::Join(_) | Intent::Idle(_) if is_doubted => Confirmed::Unknown,
                    Intent::Join(_) => Confirmed::Present,
                    Intent::Idle(_) => self.confirmed,
                    Intent::Grace => Confirmed::Grace,
                    Intent::Leave | Intent::Remove(_) => Confirmed::Absent,
                };
                match intent {
                    Intent::Join(join) => self.marked_idle = Some(join.idle),
                    Intent::Idle(is_idle) => self.marked_idle = Some(*is_idle),
                    Intent::Grace | Intent::Leave | Intent::Remove(_) => {}
                }
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

/// In words for a person: `wanted, confirmed`, or `leaving, confirmed; an order is under way`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = match self.wanted {
            Wanted::Present => "wanted",
            Wanted::Grace(_) => "in grace",
            Wanted::Left => "leaving",
            Wanted::Removed(_) => "going",
        };
        let confirmed = match self.confirmed {
            Confirmed::Absent => "not in the store",
            Confirmed::Present => "confirmed",
            Confirmed::Grace => "confirmed as in grace",
            Confirmed::Unknown => "not known whether in the store",
        };
        let order = if self.in_flight { "; an order is under way" } else { "" };
        write!(f, "{wanted}, {confirmed}{order}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Position, Presence, Timestamp};
    use crate::store::{Dates, Join, Refusal};

    /// What can happen to an entry and its order.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        Want(Wanted),
        WantAgain,
        Idle(bool),
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
            1 => Just(Event::WantAgain),
            2 => any::<bool>().prop_map(Event::Idle),
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
        Plain { idle: bool },
        Marked { idle: bool },
    }

    struct World {
        entry: Entry,
        held: Held,
        order: Option<Intent>,
        /// A socket that was lost is never wanted again.
        was_lost: bool,
    }

    impl World {
        fn look(&mut self) {
            let intent = match self.entry.next() {
                Next::Nothing | Next::Forget => return,
                Next::Join => Intent::Join(Join {
                    presence: Presence::default(),
                    idle: self.entry.is_idle,
                    device: None,
                    since: Timestamp(0),
                }),
                Next::MarkIdle(is_idle) => Intent::Idle(is_idle),
                Next::MarkGrace => Intent::Grace,
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
                    (Intent::Join(join), Held::Not | Held::Plain { .. }) => Held::Plain { idle: join.idle },
                    (Intent::Join(join), Held::Marked { .. }) => Held::Marked { idle: join.idle },
                    (Intent::Idle(idle), Held::Plain { .. }) => Held::Plain { idle: *idle },
                    (Intent::Idle(idle), Held::Marked { .. }) => Held::Marked { idle: *idle },
                    (Intent::Idle(_) | Intent::Grace, Held::Not) => Held::Not,
                    (Intent::Grace, Held::Plain { idle } | Held::Marked { idle }) => Held::Marked { idle },
                    (Intent::Leave | Intent::Remove(_), _) => Held::Not,
                };
            }
            let position = Position { epoch: 1, revision: 1 };
            let outcome =
                heard.then_some(Outcome::Done { position, dates: Dates::default(), user_remains: false, room: None });
            self.entry.settle(&intent, outcome);
        }

        fn happen(&mut self, event: Event) {
            match event {
                Event::Want(wanted) if rank(wanted) > rank(self.entry.wanted) => {
                    self.was_lost |= matches!(wanted, Wanted::Grace(_));
                    self.entry.want(wanted);
                }
                Event::Want(_) => {}
                Event::WantAgain if self.was_lost => {}
                Event::WantAgain => self.entry.want_again(),
                Event::Idle(is_idle) => self.entry.set_idle(is_idle),
                Event::Look => self.look(),
                Event::Settle { carried_out, heard } => self.settle(carried_out, heard),
                Event::Refuse => {
                    if let Some(intent) = self.order.take() {
                        self.entry.settle(&intent, Some(Outcome::Refused(Refusal::NoLease)));
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
            let mut world = World { entry: Entry::new(), held: Held::Not, order: None, was_lost: false };
            for event in events {
                world.happen(event);
            }
            for _ in 0..4 {
                world.settle(true, true);
                world.look();
            }
            let is_right = match (world.entry.wanted, world.held) {
                (Wanted::Present, Held::Plain { idle }) => idle == world.entry.is_idle,
                // An entry that the store never had, or lost, is not brought back to be marked.
                (Wanted::Grace(_), Held::Marked { .. } | Held::Not) => true,
                (Wanted::Left | Wanted::Removed(_), Held::Not) => true,
                _ => false,
            };
            prop_assert!(is_right, "{:?} {:?}", world.entry, world.held);
            prop_assert!(matches!(world.entry.next(), Next::Nothing | Next::Forget));
        }
    }

    #[test]
    fn an_entry_says_in_words_how_it_is() {
        let mut entry = Entry::new();
        assert_eq!(entry.to_string(), "wanted, not in the store");
        entry.send();
        assert_eq!(entry.to_string(), "wanted, not in the store; an order is under way");
        entry.settle(&Intent::Grace, None);
        entry.want(Wanted::Left);
        assert_eq!(entry.to_string(), "leaving, not known whether in the store");
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
