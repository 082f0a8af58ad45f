//! Tests of the view. Random faults happen to a store and to a node, and a listener believes what the view tells.

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
        let change = if online { Change::Online(Presence::default()) } else { Change::Offline(OfflineReason::Left) };
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
            let missed: Vec<_> = self.log.iter().filter(|t| t.position.revision > known.revision).cloned().collect();
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
