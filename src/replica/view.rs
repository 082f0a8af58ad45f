//! Decides what this node says about presence. The view is a pure state machine. Its input is the store's transitions,
//! and what the node knows while the store is out of reach.

use std::collections::{BTreeMap, HashMap, HashSet};

use tokio::sync::oneshot;

use crate::domain::{Change, OfflineReason, Position, Presence, Roster, Timestamp, Transition, UserId};

/// One change of the view. Every listener on this node is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Counts the changes of this node's view, from 1. A list carries the sequence of its view. Changes with a higher
    /// sequence come after the list.
    pub sequence: u64,
    /// The user that the change is about.
    pub user: UserId,
    /// What happened.
    pub change: Change,
    /// The epoch of the view at this change.
    pub epoch: u64,
    /// The store's revision at this change. It is none if the change is provisional: the store has not confirmed it
    /// yet.
    pub revision: Option<u64>,
    /// Whether the change fills a gap. The change then happened at or before `revision`. Other changes may have
    /// happened besides.
    pub catch_up: bool,
    /// The time of the change.
    pub at: Timestamp,
}

/// What [`View::apply`] made of a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The transition is in effect.
    Yes,
    /// The transition was in effect already.
    Before,
    /// Transitions are missing before this one: the view must catch up.
    Gap,
}

/// The users that this node shows, and how sure it is of each.
///
/// A listener that heard every announcement believes exactly `told`. `told` is the store's roster and some more users.
/// As far as this node knows, the store does not have these users. There are two kinds:
/// - *provisional*: a socket of the user is wanted here, and the store has not confirmed it;
/// - *held*: the store lost its data or was out of reach, and perhaps no node has asserted the user again yet.
///
/// The view believes a departure only if no socket here contradicts it. If a socket contradicts it, the user becomes
/// provisional until this node has asserted the user again.
///
/// Invariant: the view announces a user as online only if the user is not in `told`, and as offline only if the user is
/// in `told`. So no listener hears the same user come twice in a row, or go twice in a row (test:
/// `a_listener_never_hears_the_same_twice`).
pub(crate) struct View {
    told: Roster,
    sequence: u64,
    provisional: HashSet<UserId>,
    /// The provisional users that had no wanted socket here at the last beat. The view drops such a user if the next
    /// beat finds no wanted socket either.
    parting: HashSet<UserId>,
    holding: Hold,
    held: HashMap<UserId, OfflineReason>,
    degraded: Option<Timestamp>,
    waiters: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
}

/// Whether the view tells departures or only notes them. It notes them until a beat says that it may tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hold {
    /// The view tells departures.
    No,
    /// The store was out of reach. It may hear of users who left before it hears of users who are here.
    Outage,
    /// The epoch is new to this node: the store lost its data. Some users may not have been asserted again yet.
    LostData,
}

/// Takes each announcement.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(Announcement);

impl Default for View {
    /// A view without users, in no epoch.
    fn default() -> Self {
        Self {
            told: Roster::default(),
            sequence: 0,
            provisional: HashSet::new(),
            parting: HashSet::new(),
            holding: Hold::LostData,
            held: HashMap::new(),
            degraded: None,
            waiters: BTreeMap::new(),
        }
    }
}

impl View {
    /// The users, as listeners were told.
    pub(crate) fn roster(&self) -> &Roster {
        &self.told
    }

    /// The number of the last announcement.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The position of the store that the view reflects.
    pub(crate) fn position(&self) -> Position {
        self.told.position()
    }

    /// The last time at which the view was surely up to date. It is none while the view is not degraded.
    pub(crate) fn degraded(&self) -> Option<Timestamp> {
        self.degraded
    }

    /// Whether the view only notes departures.
    pub(crate) fn is_holding(&self) -> bool {
        self.holding != Hold::No
    }

    /// Applies the next transition of the store. `contradicts` gets the user and the revision of a departure. It says
    /// whether the user's sockets here contradict that departure.
    pub(crate) fn apply(
        &mut self,
        transition: &Transition,
        contradicts: impl Fn(&UserId, u64) -> bool,
        tell: Tell<'_>,
    ) -> Applied {
        let (known, new) = (self.position(), transition.position);
        if new.revision <= known.revision {
            return Applied::Before;
        }
        if new.epoch != known.epoch || new.revision != known.revision + 1 {
            return Applied::Gap;
        }
        self.told.advance_to(new);
        let user = &transition.user;
        match transition.change {
            Change::Offline(_) if contradicts(user, new.revision) => self.doubt(user),
            Change::Offline(reason) if self.is_holding() => self.hold(user, reason),
            _ => self.put(user, &transition.change, Some(new.revision), false, transition.at, tell),
        }
        Applied::Yes
    }

    /// Takes over the store's roster at another position, and tells the difference. A user with a wanted socket here
    /// stays, because this node asserts that user.
    pub(crate) fn replace(
        &mut self,
        target: &Roster,
        is_wanted: impl Fn(&UserId) -> bool,
        at: Timestamp,
        tell: Tell<'_>,
    ) {
        let changes = self.told.diff(target);
        self.provisional.retain(|user| !target.contains(user));
        self.held.retain(|user, _| !target.contains(user));
        self.converge(changes, target.position(), is_wanted, at, tell);
    }

    /// Takes over transitions that were missed. For each user it tells only the result of them.
    pub(crate) fn catch_up(
        &mut self,
        missed: &[Transition],
        is_wanted: impl Fn(&UserId) -> bool,
        at: Timestamp,
        tell: Tell<'_>,
    ) {
        let Some(last) = missed.last() else { return };
        let mut outcome = BTreeMap::new();
        for transition in missed {
            let change = match &transition.change {
                // This is a set operation: a user with a profile change is present.
                Change::Online(presence) | Change::Changed(presence) => Change::Online(presence.clone()),
                Change::Offline(reason) => Change::Offline(*reason),
            };
            outcome.insert(transition.user.clone(), change);
        }
        self.converge(outcome, last.position, is_wanted, at, tell);
    }

    /// Ends the time in which the view only notes departures. A user who is still absent is gone. Call this when the
    /// view reflects the beat that ended that time.
    pub(crate) fn end_hold(&mut self, is_wanted: impl Fn(&UserId) -> bool, at: Timestamp, tell: Tell<'_>) {
        self.holding = Hold::No;
        let revision = Some(self.position().revision);
        for (user, reason) in std::mem::take(&mut self.held) {
            if is_wanted(&user) {
                self.provisional.insert(user);
            } else {
                self.put(&user, &Change::Offline(reason), revision, true, at, tell);
            }
        }
    }

    /// The store is out of reach since `as_of`. Each user in `wanted` who is not known yet arrives provisionally.
    pub(crate) fn degrade(&mut self, as_of: Timestamp, wanted: Vec<(UserId, Presence)>, at: Timestamp, tell: Tell<'_>) {
        self.degraded.get_or_insert(as_of);
        self.holding = self.holding.max(Hold::Outage);
        self.parting.clear();
        for (user, presence) in wanted {
            self.arrive(&user, &presence, at, tell);
        }
    }

    /// Marks the view as up to date again. Returns since when it was out of date.
    pub(crate) fn recover(&mut self) -> Option<Timestamp> {
        self.degraded.take()
    }

    /// Whether the caller must call [`View::arrive`] when the user arrives.
    pub(crate) fn awaits_arrival(&self, user: &UserId) -> bool {
        self.degraded.is_some() || self.parting.contains(user)
    }

    /// A socket of the user is wanted here. While the store is out of reach, the node knows nothing else, so the user
    /// arrives provisionally.
    pub(crate) fn arrive(&mut self, user: &UserId, presence: &Presence, at: Timestamp, tell: Tell<'_>) {
        self.parting.remove(user);
        if self.degraded.is_some() {
            self.arrive_unconfirmed(user, presence, at, tell);
        }
    }

    /// A socket of the user is wanted here. The store does not say that it has the socket.
    pub(crate) fn arrive_unconfirmed(&mut self, user: &UserId, presence: &Presence, at: Timestamp, tell: Tell<'_>) {
        if !self.told.contains(user) {
            self.put(user, &Change::Online(presence.clone()), None, false, at, tell);
            self.provisional.insert(user.clone());
        }
    }

    /// Drops each provisional user who had no wanted socket here at this beat and at the beat before. The store does
    /// not have such a user.
    ///
    /// Call this at each beat, when the view reflects the store's position at the beat before. By then the store has
    /// decided every order for a user who was unwanted at the last beat. The view has told each of these decisions.
    pub(crate) fn settle_provisional(&mut self, is_wanted: impl Fn(&UserId) -> bool, at: Timestamp, tell: Tell<'_>) {
        let unwanted: HashSet<UserId> = self.provisional.iter().filter(|user| !is_wanted(user)).cloned().collect();
        let parted: Vec<UserId> = self.parting.intersection(&unwanted).cloned().collect();
        self.parting = unwanted;
        let revision = Some(self.position().revision);
        for user in parted {
            if self.is_holding() {
                // Another node may have a socket of this user, and may not have asserted it yet.
                self.hold(&user, OfflineReason::Unknown);
            } else {
                self.put(&user, &Change::Offline(OfflineReason::Unknown), revision, true, at, tell);
            }
        }
    }

    /// Wakes the receiver when the view reflects `revision`.
    pub(crate) fn wait_for(&mut self, revision: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.waiters.entry(revision).or_default().push(sender);
        receiver
    }

    /// Takes the waiters whose revision the view reflects.
    pub(crate) fn take_due_waiters(&mut self) -> Vec<oneshot::Sender<()>> {
        if self.waiters.first_key_value().is_none_or(|(revision, _)| *revision > self.position().revision) {
            return Vec::new();
        }
        let later = self.waiters.split_off(&(self.position().revision + 1));
        std::mem::replace(&mut self.waiters, later).into_values().flatten().collect()
    }

    fn converge(
        &mut self,
        changes: impl IntoIterator<Item = (UserId, Change)>,
        position: Position,
        is_wanted: impl Fn(&UserId) -> bool,
        at: Timestamp,
        tell: Tell<'_>,
    ) {
        if position.epoch != self.position().epoch {
            self.holding = Hold::LostData;
        }
        self.told.advance_to(position);
        for (user, change) in changes {
            match change {
                Change::Offline(_) if is_wanted(&user) => self.doubt(&user),
                // A user who is held already keeps the reason that is known.
                Change::Offline(_) if self.held.contains_key(&user) => {}
                Change::Offline(reason) if self.holding == Hold::LostData => {
                    self.hold(&user, lost_with_the_data(reason));
                }
                Change::Offline(reason) if self.is_holding() => self.hold(&user, reason),
                change => self.put(&user, &change, Some(position.revision), true, at, tell),
            }
        }
    }

    /// The store says that the user is gone, and a socket here contradicts it.
    fn doubt(&mut self, user: &UserId) {
        if self.told.contains(user) {
            self.held.remove(user);
            self.provisional.insert(user.clone());
        }
    }

    fn hold(&mut self, user: &UserId, reason: OfflineReason) {
        if self.told.contains(user) {
            self.provisional.remove(user);
            self.held.insert(user.clone(), reason);
        }
    }

    /// Puts a change into effect, and tells it if it changes anything. The store has confirmed the change, or the
    /// change is provisional.
    fn put(
        &mut self,
        user: &UserId,
        change: &Change,
        revision: Option<u64>,
        catch_up: bool,
        at: Timestamp,
        tell: Tell<'_>,
    ) {
        self.provisional.remove(user);
        self.held.remove(user);
        if let Some(change) = self.told.apply(user, change) {
            self.sequence += 1;
            let (sequence, epoch) = (self.sequence, self.position().epoch);
            tell(Announcement { sequence, user: user.clone(), change, epoch, revision, catch_up, at });
        }
    }
}

/// The reason for a user who is missing in a store that lost its data. If no better reason is known, the user was lost
/// with the user's node.
fn lost_with_the_data(reason: OfflineReason) -> OfflineReason {
    match reason {
        OfflineReason::Unknown => OfflineReason::NodeLost,
        known => known,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const AT: Timestamp = Timestamp(1);

    fn user(n: u8) -> UserId {
        UserId::parse(&format!("u{n}")).unwrap()
    }

    /// What can happen to a node, seen from its view.
    #[derive(Debug, Clone)]
    enum Event {
        /// A user comes to or leaves the store.
        Toggle(u8),
        /// A transition is not delivered.
        Lose,
        /// The gap is filled: from the log, or by a snapshot.
        CatchUp { by_log: bool },
        /// A local socket comes or goes.
        ToggleLocal(u8),
        /// A local socket comes, and is welcomed before the store confirms it.
        ArriveUnconfirmed(u8),
        /// The store goes away.
        Down,
        /// The store comes back, with its data or without.
        Up { lost_data: bool },
        /// The hold ends.
        EndHold,
        /// The node beats.
        Beat,
        /// The store loses a local user's sockets: peers took this node for dead.
        Swept(u8),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => (0..6u8).prop_map(Event::Toggle),
            1 => Just(Event::Lose),
            2 => any::<bool>().prop_map(|by_log| Event::CatchUp { by_log }),
            3 => (0..6u8).prop_map(Event::ToggleLocal),
            1 => (0..6u8).prop_map(Event::ArriveUnconfirmed),
            1 => Just(Event::Down),
            2 => any::<bool>().prop_map(|lost_data| Event::Up { lost_data }),
            1 => Just(Event::EndHold),
            2 => Just(Event::Beat),
            1 => (0..6u8).prop_map(Event::Swept),
        ]
    }

    /// A store with a complete log, one node's wishes, and a listener who believes every announcement.
    struct World {
        view: View,
        present: BTreeSet<UserId>,
        position: Position,
        log: Vec<Transition>,
        local: BTreeSet<UserId>,
        believed: BTreeSet<UserId>,
        deaf: bool,
        down: bool,
        last_sequence: u64,
    }

    impl World {
        fn new() -> Self {
            Self {
                view: View::default(),
                present: BTreeSet::new(),
                position: Position { epoch: 1, revision: 1 },
                log: Vec::new(),
                local: BTreeSet::new(),
                believed: BTreeSet::new(),
                deaf: true,
                down: false,
                last_sequence: 0,
            }
        }

        fn with_view(&mut self, act: impl FnOnce(&mut View, &BTreeSet<UserId>, Tell<'_>)) {
            let mut announced = Vec::new();
            act(&mut self.view, &self.local, &mut |a| announced.push(a));
            for announcement in announced {
                self.last_sequence += 1;
                assert_eq!(announcement.sequence, self.last_sequence);
                match announcement.change {
                    Change::Online(_) => assert!(self.believed.insert(announcement.user), "heard to come twice"),
                    Change::Offline(_) => assert!(self.believed.remove(&announcement.user), "heard to go twice"),
                    Change::Changed(_) => assert!(self.believed.contains(&announcement.user)),
                }
            }
            let told: BTreeSet<_> = self.view.roster().iter().map(|(user, _)| user.clone()).collect();
            assert_eq!(told, self.believed, "the view is what was told");
        }

        fn set(&mut self, user: &UserId, online: bool) {
            let changed = if online { self.present.insert(user.clone()) } else { self.present.remove(user) };
            if !changed {
                return;
            }
            self.position.revision += 1;
            let change =
                if online { Change::Online(Presence::default()) } else { Change::Offline(OfflineReason::Left) };
            let transition = Transition { position: self.position, user: user.clone(), change, at: AT };
            self.log.push(transition.clone());
            if !self.deaf && !self.down {
                self.with_view(|view, local, tell| {
                    view.apply(&transition, |user, _| local.contains(user), tell);
                });
            }
        }

        fn catch_up(&mut self, by_log: bool) {
            if self.down {
                return;
            }
            self.deaf = false;
            let known = self.view.position();
            if by_log && known.epoch == self.position.epoch {
                let missed: Vec<_> =
                    self.log.iter().filter(|t| t.position.revision > known.revision).cloned().collect();
                self.with_view(|view, local, tell| {
                    view.catch_up(&missed, |user| local.contains(user), AT, tell);
                });
            } else {
                let mut roster: Roster = self.present.iter().map(|user| (user.clone(), Presence::default())).collect();
                roster.advance_to(self.position);
                self.with_view(|view, local, tell| {
                    view.replace(&roster, |user| local.contains(user), AT, tell);
                });
            }
            self.view.recover();
        }

        fn happen(&mut self, event: Event) {
            match event {
                Event::Toggle(n) => {
                    let user = user(n);
                    let online = !self.present.contains(&user);
                    // While the store can be reached, it holds every user with a socket here.
                    if !self.down && (online || !self.local.contains(&user)) {
                        self.set(&user, online);
                    }
                }
                Event::Lose => self.deaf = true,
                Event::CatchUp { by_log } => self.catch_up(by_log),
                Event::ToggleLocal(n) => {
                    let user = user(n);
                    if !self.local.remove(&user) {
                        self.local.insert(user.clone());
                        self.with_view(|view, _, tell| view.arrive(&user, &Presence::default(), AT, tell));
                    }
                    if !self.down {
                        self.set(&user, self.local.contains(&user));
                    }
                }
                Event::ArriveUnconfirmed(n) => {
                    let user = user(n);
                    self.local.insert(user.clone());
                    self.with_view(|view, _, tell| view.arrive_unconfirmed(&user, &Presence::default(), AT, tell));
                    if !self.down {
                        self.set(&user, true);
                    }
                }
                Event::Down => {
                    self.down = true;
                    let wanted = self.local.iter().map(|user| (user.clone(), Presence::default())).collect();
                    self.with_view(|view, _, tell| view.degrade(AT, wanted, AT, tell));
                }
                Event::Up { lost_data } if self.down => {
                    if lost_data {
                        self.present.clear();
                        self.log.clear();
                        self.position.revision += 1000;
                        self.position.epoch = self.position.revision;
                    }
                    // Own sockets are asserted first; what left meanwhile is taken back.
                    self.deaf = true;
                    self.down = false;
                    self.assert_local();
                    self.catch_up(true);
                }
                Event::Up { .. } => {}
                Event::EndHold => {
                    if self.view.is_holding() && !self.down && !self.deaf {
                        self.with_view(|view, local, tell| view.end_hold(|user| local.contains(user), AT, tell));
                    }
                }
                Event::Beat => {
                    if !self.down && !self.deaf {
                        self.assert_local();
                        self.with_view(|view, local, tell| {
                            view.settle_provisional(|user| local.contains(user), AT, tell);
                        });
                    }
                }
                Event::Swept(n) => {
                    let user = user(n);
                    if !self.down && self.local.contains(&user) {
                        let was_told = self.believed.contains(&user);
                        self.set(&user, false);
                        assert_eq!(self.believed.contains(&user), was_told, "a socket is here all the same");
                    }
                }
            }
        }

        /// The store gets what this node holds.
        fn assert_local(&mut self) {
            for user in self.local.clone() {
                self.set(&user, true);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_listener_never_hears_the_same_twice(events in prop::collection::vec(event(), 0..120)) {
            let mut world = World::new();
            for event in events {
                world.happen(event);
            }
            // When every fault is over, the listener believes the truth.
            world.happen(Event::Up { lost_data: false });
            world.catch_up(true);
            world.happen(Event::EndHold);
            for _ in 0..3 {
                world.happen(Event::Beat);
            }
            prop_assert_eq!(&world.believed, &world.present);
        }
    }

    #[test]
    fn whoever_left_before_the_store_is_heard_to_confirm_them_is_not_told_twice() {
        let mut view = View { holding: Hold::No, ..View::default() };
        let mut told = Vec::new();
        let nobody = |_: &UserId| false;
        view.arrive_unconfirmed(&user(1), &Presence::default(), AT, &mut |a| told.push(a.change));
        // The user leaves. The beat's reply overtakes the transitions that the store published about the user.
        view.settle_provisional(nobody, AT, &mut |a| told.push(a.change));
        let left = Change::Offline(OfflineReason::Left);
        for (revision, change) in [(1, Change::Online(Presence::default())), (2, left.clone())] {
            let position = Position { epoch: 0, revision };
            let transition = Transition { position, user: user(1), change, at: AT };
            view.apply(&transition, |_, _| false, &mut |a| told.push(a.change));
        }
        view.settle_provisional(nobody, AT, &mut |a| told.push(a.change));
        assert_eq!(told, [Change::Online(Presence::default()), left]);
    }

    #[test]
    fn whoever_comes_back_between_two_beats_is_not_dropped_for_having_been_away_at_both() {
        let mut view = View { holding: Hold::No, ..View::default() };
        let mut told = Vec::new();
        let nobody = |_: &UserId| false;
        view.arrive_unconfirmed(&user(1), &Presence::default(), AT, &mut |a| told.push(a.change));
        view.settle_provisional(nobody, AT, &mut |a| told.push(a.change));
        assert!(view.awaits_arrival(&user(1)));
        view.arrive(&user(1), &Presence::default(), AT, &mut |a| told.push(a.change));
        view.settle_provisional(nobody, AT, &mut |a| told.push(a.change));
        assert_eq!(told.len(), 1, "what was ordered of the second visit may be under way");
        view.settle_provisional(nobody, AT, &mut |a| told.push(a.change));
        assert_eq!(told[1], Change::Offline(OfflineReason::Unknown));
    }

    #[test]
    fn a_waiter_wakes_when_its_revision_is_reflected() {
        let mut view = View::default();
        let (mut early, mut late) = (view.wait_for(1), view.wait_for(2));
        let position = Position { epoch: 0, revision: 1 };
        let change = Change::Online(Presence::default());
        view.apply(&Transition { position, user: user(1), change, at: AT }, |_, _| false, &mut |_| {});
        for waiter in view.take_due_waiters() {
            waiter.send(()).unwrap();
        }
        assert!(early.try_recv().is_ok());
        assert!(late.try_recv().is_err());
    }
}
